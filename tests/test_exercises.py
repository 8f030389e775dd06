"""Every exercise of every chapter: its worked solution passes, planted mistakes are named, an empty stub stops nothing.

Nothing is trained: an answer cell needs what the chapter's first cell imports, and nothing else.
"""

import ast
import functools
import importlib
import re
import sys
import time
from pathlib import Path

import jupytext
import pytest

from genmed_core import exercises

ROOT = Path(__file__).resolve().parent.parent
SHEETS = ROOT / "genmed_core" / "exercises" / "sheets"
CHAPTERS = [p for p in sorted((ROOT / "chapters").glob("[0-9][0-9]_*.py"))
            if (SHEETS / f"chapter_{p.stem[:2]}.py").exists()]
HEADING = re.compile(r"^\*\*(Exercise (\d+\.\d+) \(\w+ ★+\)\. [^*]+)\*\*", re.M)
FENCE = re.compile(r"^```python\n(.*?)^```", re.M | re.S)
CHECK = re.compile(r'^sheet\.check\("(\d+\.\d+)", (\w+)(, measured=.+)?\)$')


class Told:
    """An exercise as the chapter has it: its text, stub, check and solution."""

    def __init__(self, text, stub, check, solution):
        self.heading, self.number = HEADING.search(text).groups()
        self.text, self.stub, self.check, self.solution = text, stub, check, solution
        self.name = CHECK.match(check.strip())[2]

    @property
    def worked(self):
        """The solution's code, which takes the stub's place."""
        return "\n".join(FENCE.findall(self.solution))


def tags(cell):
    return cell.metadata.get("tags", [])


@functools.cache
def told(path):
    """The exercises of a chapter in their order; their cells stand in a row: text, answer, check, solution."""
    cells = jupytext.read(path).cells
    found = []
    for k, cell in enumerate(cells):
        if cell.cell_type == "markdown" and HEADING.search(cell.source) and "solution" not in tags(cell):
            row = cells[k + 1 : k + 4]
            assert [tags(c) for c in row] == [["answer"], ["check"], ["solution"]], cell.source[:60]
            found.append(Told(cell.source, *(c.source for c in row)))
    return found


def answers(path):
    """The module of planted answers: WRONG and OTHER by the exercise's number."""
    return importlib.import_module(f"exercise_answers.chapter_{path.stem[:2]}")


@functools.cache
def imports(path):
    """What the chapter's first cell imports."""
    names = {}
    first = next(c.source for c in jupytext.read(path).cells if c.cell_type == "code")
    lines = [node for node in ast.parse(first).body if isinstance(node, ast.Import | ast.ImportFrom)]
    exec(compile(ast.Module(lines, []), path.name, "exec"), names)
    return names


def namespace(path):
    """What an answer cell can use."""
    return imports(path) | {"sheet": exercises.sheet(path.stem)}


def judged(path, number, code):
    """The verdict on an answer given as code that takes the stub's place."""
    exercise = next(e for e in told(path) if e.number == number)
    names = namespace(path)
    exec(compile(code, f"answer {number}", "exec"), names)
    of_sheet = exercises.sheet(path.stem)[number]
    measured = MEASURED if isinstance(of_sheet, exercises.NumberExercise) and of_sheet.truth is None else None
    return of_sheet.judge(names[exercise.name], measured)


MEASURED = 34.5  # in place of what a chapter would have measured


def every(what):
    return [pytest.param(path, exercise, id=f"{exercise.number}") for path in what for exercise in told(path)]


EXERCISES = every(CHAPTERS)


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda p: p.stem)
def test_a_chapter_asks_enough_of_its_reader(path):
    found, sheet = told(path), exercises.sheet(path.stem)
    assert [e.number for e in found] == list(sheet.exercises), "the text and the sheet list other exercises"
    assert [int(e.number.split(".")[1]) for e in found] == list(range(1, len(found) + 1))
    assert len(found) >= 8
    kinds = [e.kind for e in sheet.exercises.values()]
    assert kinds.count("code") >= 4 and "investigate" in kinds and "predict" in kinds
    assert {e.stars for e in sheet.exercises.values()} >= {1, 2}
    source = path.read_text(encoding="utf-8")
    assert source.count("sheet.summary()") == 1 and f'exercises.sheet("{path.stem}")' in source


@pytest.mark.parametrize("page", ["README.md", "chapters/intro.md"])
def test_pages_say_how_many_there_are(page):
    assert re.search(rf"\b[Tt]here are {len(EXERCISES)}\b", (ROOT / page).read_text(encoding="utf-8"))


@pytest.mark.parametrize("path, exercise", EXERCISES)
def test_the_text_says_what_the_sheet_says_and_hints_twice(path, exercise):
    of_sheet = exercises.sheet(path.stem)[exercise.number]
    assert exercise.heading == of_sheet.heading
    folds = re.findall(r'<details class="hint"><summary>(Hint \d)</summary>', exercise.text)
    assert folds == ["Hint 1", "Hint 2"] and exercise.text.count("</details>") == 2
    assert exercise.solution.startswith(f'<details class="solution"><summary>Solution {exercise.number}</summary>\n\n')
    assert exercise.solution.endswith("\n\n</details>"), "blank lines around: else the fold shows raw Markdown"
    if isinstance(of_sheet, exercises.ChoiceExercise):
        for letter in of_sheet.letters:
            assert f"\n- ({letter}) " in exercise.text
    if isinstance(of_sheet, exercises.FunctionExercise):
        assert '"""' in exercise.stub and len(of_sheet.mistakes) >= 3


@pytest.mark.parametrize("path, exercise", EXERCISES)
def test_an_empty_stub_stops_nothing(path, exercise, capsys):
    names = namespace(path)
    exec(exercise.stub, names)
    assert judged(path, exercise.number, exercise.stub).state == "open"
    if CHECK.match(exercise.check)[3] is None:
        exec(exercise.check, names)


@pytest.mark.parametrize("path, exercise", EXERCISES)
def test_the_worked_solution_passes_quickly(path, exercise):
    started = time.process_time()
    for _ in range(3):
        verdict = judged(path, exercise.number, exercise.worked)
        assert verdict.state == "right", verdict
    assert time.process_time() - started < 3 * 2


@pytest.mark.parametrize("path, exercise", EXERCISES)
def test_planted_mistakes_are_told_apart(path, exercise):
    planted = answers(path).WRONG[exercise.number]
    assert len(planted) >= 4
    said = []
    for code, words in planted:
        verdict = judged(path, exercise.number, code)
        assert verdict.state == "wrong" and words in verdict.message, f"{code}\n{verdict}"
        said.append(verdict.message)
    assert len(set(said)) == len(said), "two mistakes get the same message"


@pytest.mark.parametrize("path, exercise", EXERCISES)
def test_another_correct_form_passes(path, exercise):
    others = answers(path).OTHER[exercise.number]
    assert others
    for code in others:
        verdict = judged(path, exercise.number, code)
        assert verdict.state == "right", f"{code}\n{verdict}"


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda p: p.stem)
def test_with_all_answers_the_summary_says_that_all_are_right(path, monkeypatch):
    shown = []
    monkeypatch.setattr(sys.modules["genmed_core.exercises.sheet"], "display", lambda thing, **_: shown.append(thing))
    names, count = namespace(path), len(told(path))
    for exercise in told(path):
        exec(compile(exercise.worked, f"answer {exercise.number}", "exec"), names)
        names["sheet"].check(exercise.number, names[exercise.name])
    names["sheet"].summary()
    assert f"| **all** | {count} | {count} | {count} |" in shown[-1].data and "All are right." in shown[-1].data
