"""The exercises of one chapter, and how far the reader has come."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from IPython.display import Markdown, display

from genmed_core.exercises.answers import Case
from genmed_core.exercises.exercise import KINDS, Exercise, Verdict
from genmed_core.exercises.functions import FunctionExercise, Observe
from genmed_core.exercises.questions import ChoiceExercise, Near, NumberExercise
from genmed_core.widgets import Question


class NotRight(AssertionError):
    """Raised by `check` where a machine grades: the answer is missing or wrong."""


def sheet(chapter: str) -> Sheet:
    """The sheet of a chapter such as "04_gan", with no answer yet; ValueError where it has none."""
    number = chapter.partition("_")[0]
    try:
        module = importlib.import_module(f"genmed_core.exercises.sheets.chapter_{number}")
    except ModuleNotFoundError:
        raise ValueError(f"there are no exercises of a chapter {chapter!r}; a sheet of one's own "
                         f"is Sheet({chapter!r})") from None
    module.sheet.verdicts.clear()
    return module.sheet


class Sheet:
    """Exercises by number, and the verdict on each answer so far."""

    def __init__(self, chapter: str) -> None:
        self.chapter = chapter
        self.exercises: dict[str, Exercise] = {}
        self.verdicts: dict[str, Verdict] = {}

    def enter(self, exercise: Exercise) -> Exercise:
        """Add an exercise; ValueError for a number that is taken."""
        if exercise.number in self.exercises:
            raise ValueError(f"there is an exercise {exercise.number} already")
        self.exercises[exercise.number] = exercise
        return exercise

    def function(self, number: str, kind: str, stars: int, title: str, *,
                 cases: Callable[[torch.Generator], Case], returns: tuple[str, ...] = (),
                 observe: Observe | None = None, rtol: float = 1e-3,
                 atol: float = 1e-5) -> Callable[[Callable], FunctionExercise]:
        """A decorator that turns an oracle into an exercise; see FunctionExercise."""
        def make(oracle: Callable) -> FunctionExercise:
            exercise = FunctionExercise(number, kind, stars, title, oracle=oracle, cases=cases,
                                        returns=returns, observe=observe, rtol=rtol, atol=atol)
            self.enter(exercise)
            return exercise
        return make

    def number(self, number: str, kind: str, stars: int, title: str, *, truth: float | None,
               why: str, within: float = 0.05, off: float = 0.0,
               mistakes: Sequence[Near] = ()) -> None:
        """Enter a question for a number; see NumberExercise."""
        self.enter(NumberExercise(number, kind, stars, title, truth=truth, within=within, off=off,
                                  mistakes=mistakes, why=why))

    def choice(self, number: str, kind: str, stars: int, title: str, *, answer: str, why: str,
               wrongs: Mapping[str, str]) -> None:
        """Enter a question with sentences to choose from; see ChoiceExercise."""
        self.enter(ChoiceExercise(number, kind, stars, title, answer=answer, why=why,
                                  wrongs=wrongs))

    def __getitem__(self, number: str) -> Exercise:
        if number not in self.exercises:
            known = ", ".join(self.exercises) or "none"
            raise ValueError(f"chapter {self.chapter} has no exercise {number!r}; it has {known}")
        return self.exercises[number]

    def check(self, number: str, answer: Any, measured: float | None = None) -> None:
        """Say what is to be said of an answer, and remember it for the summary.

        measured: what the chapter has found, for a question that asks to predict it.  A question
        that waits can also be answered by a click.  Where a machine grades (nbgrader says so in
        NBGRADER_EXECUTION) an answer that is missing or wrong raises NotRight.
        """
        exercise = self[number]
        graded = os.environ.get("NBGRADER_EXECUTION")
        warnings = io.StringIO() if graded else sys.stderr  # nbgrader takes one for a failure
        with contextlib.redirect_stderr(warnings):
            verdict = self.verdicts[number] = exercise.judge(answer, measured)
        if verdict.state != "right" and graded:
            raise NotRight(str(verdict))
        if verdict.state == "open" and isinstance(exercise, NumberExercise | ChoiceExercise):
            found = {} if measured is None else {"genmed": {"measured": float(measured)}}
            display(self._question(exercise, measured), metadata=found)  # a grader reads it there
        else:
            print(verdict)

    def _question(self, exercise: NumberExercise | ChoiceExercise,
                  measured: float | None) -> Question:
        """The same question to be answered by a click, which counts in the summary."""
        question = Question(number=exercise.number, key=exercise.key(measured))

        def answered(change: Any) -> None:
            self.verdicts[exercise.number] = exercise.judge(change.new, measured)

        question.observe(answered, "answer")
        return question

    def summary(self) -> None:
        """Show how many exercises there are, are answered and are right, kind by kind."""
        rows = [self._row(kind, [e for e in self.exercises.values() if e.kind == kind])
                for kind in KINDS]
        rows.append(self._row("**all**", list(self.exercises.values())))
        display(Markdown("| exercises | all | answered | right |\n|---|---|---|---|\n"
                         + "\n".join(rows) + f"\n\n{self._left()}"))

    def _left(self) -> str:
        left = [n for n in self.exercises if self._state(n) != "right"]
        if len(left) == len(self.exercises):
            return "None is right yet."
        return f"Not right yet: {', '.join(left)}." if left else "All are right."

    def _row(self, name: str, of_kind: list[Exercise]) -> str:
        states = [self._state(e.number) for e in of_kind]
        answered = sum(state != "open" for state in states)
        return f"| {name} | {len(states)} | {answered} | {states.count('right')} |"

    def _state(self, number: str) -> str:
        return self.verdicts[number].state if number in self.verdicts else "open"
