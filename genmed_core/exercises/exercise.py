"""What every exercise has, and what is said of an answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

KINDS = ("predict", "code", "derive", "investigate")
MARKS = {"open": "○", "right": "✓", "wrong": "✗"}


@dataclass(frozen=True)
class Verdict:
    """What is said of an answer: open (there is none yet), right or wrong, and the sentence."""

    state: Literal["open", "right", "wrong"]
    message: str

    def __str__(self) -> str:
        return f"{MARKS[self.state]} {self.message}"


class Exercise:
    """A question with a number such as "4.1", one of KINDS, one to three stars, and a title.

    A form of exercise is a subclass with `judge(answer)`.
    """

    def __init__(self, number: str, kind: str, stars: int, title: str) -> None:
        if kind not in KINDS:
            raise ValueError(f"exercise {number}: kind must be one of {KINDS}, not {kind!r}")
        if stars not in (1, 2, 3):
            raise ValueError(f"exercise {number}: one to three stars, not {stars!r}")
        self.number, self.kind, self.stars, self.title = number, kind, stars, title

    @property
    def heading(self) -> str:
        """How the chapter's text names it: 4.1 (code ★★). The title."""
        end = "" if self.title.endswith("?") else "."
        return f"Exercise {self.number} ({self.kind} {'★' * self.stars}). {self.title}{end}"

    def judge(self, answer: Any, measured: float | None = None) -> Verdict:
        """What is to be said of an answer; `measured` is what the chapter itself has found."""
        raise NotImplementedError

    def open(self) -> Verdict:
        """For an answer cell that was left as it was."""
        return Verdict("open", f"{self.number} waits for your answer.")

    def right(self, detail: str) -> Verdict:
        """An answer that holds; `detail` says on what grounds."""
        return Verdict("right", f"{self.number} is right: {detail}")

    def wrong(self, detail: str) -> Verdict:
        """An answer that does not; `detail` says what is wrong with it."""
        return Verdict("wrong", f"{self.number} is not right yet. {detail}")
