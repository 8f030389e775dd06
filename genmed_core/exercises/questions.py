"""Exercises that ask for a number or one of several sentences; they work with no kernel too."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from genmed_core.exercises.answers import BadAnswer, Unanswered, tensor
from genmed_core.exercises.exercise import Exercise, Verdict

Near = tuple[float, str] | tuple[Callable[[float], float], str]


class NumberExercise(Exercise):
    """A number asked for: a prediction, a result derived or measured.

    truth: the number, or None where the chapter measures it and passes it to `judge` as `measured`.
    within: how far an answer may be off, as a share of the truth; `off` as a number.  mistakes:
    values, or functions of the truth, that a known mistake gives, each with its sentence; an answer
    as near to one as is allowed of the truth (`within`), and not right, is told it.
    """

    def __init__(self, number: str, kind: str, stars: int, title: str, *, truth: float | None,
                 within: float = 0.05, off: float = 0.0, mistakes: Sequence[Near] = (),
                 why: str) -> None:
        super().__init__(number, kind, stars, title)
        self.truth, self.within, self.off = truth, within, off
        self.mistakes, self.why = list(mistakes), why

    def key(self, measured: float | None = None) -> dict[str, Any]:
        """All that judging needs, as plain values: what the page in the browser gets too."""
        truth = self.truth if measured is None else float(measured)
        if truth is None:
            raise ValueError(f"exercise {self.number}: pass measured=, the number that was found")
        near = [(value(truth) if callable(value) else value, message)
                for value, message in self.mistakes]
        return {"form": "number", "truth": truth, "slack": self.within * abs(truth) + self.off,
                "near": [[value, self.within * abs(value) + self.off, message]
                         for value, message in near], "why": self.why}

    def judge(self, answer: Any, measured: float | None = None) -> Verdict:
        """Right where the number is near enough; else too high, too low, or a known mistake."""
        if answer is None or answer is ...:
            return self.open()
        try:
            found = tensor(answer) if not isinstance(answer, (str, bool)) else None
        except (Unanswered, BadAnswer):
            found = None
        if found is None or found.numel() != 1 or not math.isfinite(float(found)):
            return self.wrong(f"One number is asked for, not {answer!r:.60}.")
        return self._of(float(found), self.key(measured))

    def _of(self, value: float, key: dict[str, Any]) -> Verdict:
        if abs(value - key["truth"]) <= key["slack"]:
            return self.right(f"{value:.4g} is near enough. {self.why}")
        for near, slack, message in key["near"]:
            if abs(value - near) <= slack:
                return self.wrong(f"You say {value:.4g}. {message}")
        side = "high" if value > key["truth"] else "low"
        return self.wrong(f"You say {value:.4g}: too {side}.")


class ChoiceExercise(Exercise):
    """One of several sentences, chosen by its letter; `wrongs` says why each other is none."""

    def __init__(self, number: str, kind: str, stars: int, title: str, *, answer: str, why: str,
                 wrongs: Mapping[str, str]) -> None:
        super().__init__(number, kind, stars, title)
        if answer in wrongs:
            raise ValueError(f"exercise {number}: {answer!r} is the answer, and listed as wrong")
        self.answer, self.why, self.wrongs = answer, why, dict(wrongs)

    @property
    def letters(self) -> list[str]:
        """Of all sentences, in their order."""
        return sorted([self.answer, *self.wrongs])

    def key(self, measured: float | None = None) -> dict[str, Any]:
        """All that judging needs, as plain values: what the page in the browser gets too."""
        return {"form": "choice", "letters": self.letters, "answer": self.answer, "why": self.why,
                "wrongs": self.wrongs}

    def judge(self, answer: Any, measured: float | None = None) -> Verdict:
        """Right for the one sentence that holds; of every other it is said why it does not."""
        if answer is None or answer is ... or answer == "":
            return self.open()
        letter = answer.strip().strip("()").lower() if isinstance(answer, str) else None
        if letter == self.answer:
            return self.right(self.why)
        if letter in self.wrongs:
            return self.wrong(f"({letter}): {self.wrongs[letter]}")
        known = ", ".join(f'"{each}"' for each in self.letters)
        return self.wrong(f"One of {known} is asked for, not {answer!r:.60}.")
