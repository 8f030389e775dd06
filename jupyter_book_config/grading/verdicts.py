"""What is said of each answer: made in a process that runs no student's code, from what came out of the worker."""

import random
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import editions
import torch
from notebooks import read_notebook

from genmed_core.exercises import Exercise, FunctionExercise, NumberExercise, Sheet
from genmed_core.exercises import sheets as book_sheets
from genmed_core.exercises.answers import BadAnswer, Outputs, tensor
from grading.sandbox import Job, Limits, Reply, replies
from grading.submissions import Submission
from grading.worker import NUMBERS, load_sheet

LONGEST = 2000  # characters of what is said


@dataclass(frozen=True)
class Chapter:
    """A chapter as graded: its sheet, what its first cell imports, the names that checks ask for, what was measured."""

    name: str
    path: Path
    sheet: Sheet
    imports: str
    names: dict[str, str]
    measured: dict[str, float]


@dataclass(frozen=True)
class Mark:
    """What is said of one answer; points is None where a person has to decide."""

    exercise: Exercise
    state: str
    message: str

    @property
    def points(self) -> int | None:
        if self.state == "by hand":
            return None
        return self.exercise.stars if self.state == "right" else 0


def sheet_path(name: str, source: Path) -> Path | None:
    """The file of a chapter's sheet: beside the chapters, in sheets/, or the book's own for a chapter of the book."""
    file = f"chapter_{name[:2]}.py"
    if (path := source / "sheets" / file).is_file():
        return path
    own = [path for folder in book_sheets.__path__ if (path := Path(folder) / file).is_file()]
    return next((path for path in own if f'Sheet("{name}")' in path.read_text(encoding="utf-8")), None)


def chapter(name: str, source: Path) -> Chapter:
    """A chapter from its notebook and its sheet; editions.EditionError or ChapterError where they are not as they
    should be."""
    path = sheet_path(name, source)
    module: ModuleType = load_sheet(f"sheet_{name}", str(path))
    notebook = read_notebook(source / f"{name}.ipynb")
    asked = {exercise.number: exercise for exercise in editions.asked(notebook)}
    if missing := set(module.sheet.exercises) - set(asked):
        raise editions.EditionError(f"{name}.ipynb has no cells for {', '.join(sorted(missing))}: run `make notebooks`")
    imports = next(cell.source for cell in notebook.cells if cell.cell_type == "code")
    return Chapter(name, path, module.sheet, imports, {number: each.name for number, each in asked.items()},
                   editions.measured(notebook))


def marks(of: Chapter, submission: Submission, limits: Limits) -> tuple[list[Mark], dict[str, bool]]:
    """What is said of every exercise of the chapter, and which walls the student's code ran between."""
    chance = random.SystemRandom()
    jobs = [Job(number, of.names[number], submission.answers[number], chance.randrange(2**62))
            for number in of.sheet.exercises if submission.answers.get(number, "").strip()]
    came, walls = replies(jobs, of.path, of.imports, limits)
    seeds = {job.number: job.seed for job in jobs}
    found = []
    for number, exercise in of.sheet.exercises.items():
        state, message = judged(exercise, came.get(number), seeds.get(number, 0), of.measured.get(number))
        found.append(Mark(exercise, state, message[:LONGEST]))
    return found, walls


def judged(exercise: Exercise, reply: Reply | None, seed: int, measured: float | None) -> tuple[str, str]:
    """The state of an answer and the sentence about it."""
    if reply is None:
        return "open", exercise.open().message
    if "state" in reply:
        message = str(reply.get("message", ""))
        return ("open", message) if reply["state"] == "open" else ("wrong", exercise.wrong(message).message)
    if isinstance(exercise, FunctionExercise):
        cases = exercise.draw(torch.Generator().manual_seed(seed))
        try:
            verdict = exercise.verdict(cases, outputs(reply["outputs"], len(cases)))
        except BadAnswer as problem:
            verdict = exercise.wrong(str(problem))
        except (ValueError, TypeError, KeyError, AttributeError, RuntimeError, OverflowError):
            verdict = exercise.wrong("What it returned cannot be read.")
        return verdict.state, verdict.message
    value = reply.get("value")
    if isinstance(exercise, NumberExercise) and exercise.truth is None and measured is None and value is not None:
        return "by hand", f"{exercise.number}: {value!r:.60} is predicted; the book stores no measured value."
    verdict = exercise.judge(value, measured)
    return verdict.state, verdict.message


def outputs(told: Any, cases: int) -> list[Outputs]:
    """A worker's outputs as tensors; they may be anything."""
    if len(told) != cases:
        raise ValueError("another number of cases")
    found = []
    for case in told:
        parts = {}
        for name, part in case.items():
            if len(part["values"]) > NUMBERS:
                raise ValueError("too many numbers")
            value = torch.tensor(part["values"], dtype=torch.float64).reshape(part["shape"])
            parts[name] = tensor(value, f"Its {name}" if name else "It")
        found.append(parts)
    return found
