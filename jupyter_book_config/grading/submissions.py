"""What students handed in: which files, of whom, which chapter, and the code that answers each exercise.

    DIR/NAME/04_gan.ipynb    a folder for each student, or
    DIR/NAME.ipynb           one notebook for each
"""

import re
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
from editions import HEADING
from notebooks import ChapterError, read_notebook

LARGEST = 30_000_000  # bytes of a notebook
CHECK = re.compile(r"""sheet\.check\(\s*["'](\d+\.\d+)["']""")
CHECK_LINES = re.compile(r"^sheet\.check\(.*$", re.M)
SHEET = re.compile(r"""exercises\.sheet\(\s*["'](\w+)["']\s*\)""")
UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")  # would rewrite a terminal's line


@dataclass
class Submission:
    """A notebook of a student: the chapter that it is of, and the code of its answers by number; or what is amiss."""

    student: str
    path: Path
    chapter: str = ""
    answers: dict[str, str] = field(default_factory=dict)
    trouble: str = ""


def printable(text: str) -> str:
    """A name as it may be printed."""
    return UNSEEN.sub("?", text)


def collect(folder: Path, chapters: list[str]) -> tuple[list[Submission], list[str]]:
    """All that was handed in, and sentences about what is not graded. One notebook for each student and chapter."""
    found: dict[tuple[str, str], Submission] = {}
    said = []
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        if path.is_dir() or any(part.startswith((".", "__MACOSX")) for part in parts):
            continue
        shown = printable("/".join(parts))
        if path.is_symlink() or not path.is_file() or not path.resolve().is_relative_to(folder.resolve()):
            said.append(f"{shown} is a link or no plain file: it is left alone")
        elif path.suffix != ".ipynb":
            said.append(f"{shown} is no notebook: it is left alone")
        else:
            student = printable(parts[0] if len(parts) > 1 else path.stem)
            submission = read(student, path, chapters)
            if submission.trouble:
                said.append(f"{shown} {submission.trouble}")
            key = student, submission.chapter or shown
            if key in found:
                submission, older = sorted([submission, found[key]], key=lambda s: s.path.stat().st_mtime, reverse=True)
                said.append(f"{student} has handed in two notebooks of {key[1]}: the newer one is graded, "
                            f"{printable(submission.path.name)}, and {printable(older.path.name)} is not")
            found[key] = submission
    students = {submission.student for submission in found.values()}
    said += [f"{printable(path.name)} has handed in no notebook" for path in sorted(folder.iterdir())
             if path.is_dir() and not path.name.startswith((".", "__MACOSX")) and printable(path.name) not in students]
    return list(found.values()), said


def read(student: str, path: Path, chapters: list[str]) -> Submission:
    """A submission from its file; where it cannot be graded, `trouble` says why."""
    if path.stat().st_size > LARGEST:
        return Submission(student, path, trouble=f"has more than {LARGEST / 1e6:g} MB: it is not read")
    try:
        notebook = read_notebook(path)
        chapter = chapter_of(notebook, path, chapters)
        return Submission(student, path, chapter, answers(notebook))
    except ChapterError as problem:
        return Submission(student, path, trouble=str(problem).removeprefix(f"{path.name} "))
    except (OSError, ValueError, RecursionError):
        return Submission(student, path, trouble="cannot be read as a notebook")


def chapter_of(notebook: nbformat.NotebookNode, path: Path, chapters: list[str]) -> str:
    """Which chapter a notebook is of: by its metadata, its sheet, its exercises' numbers, or its name."""
    code = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    numbers = {int(number.partition(".")[0]) for number in CHECK.findall(code)}
    told = notebook.metadata.get("genmed", {})
    guesses = [told.get("chapter") if isinstance(told, dict) else None, *SHEET.findall(code),
               *(name for name in chapters if numbers == {int(name[:2])}), path.stem]
    for guess in guesses:
        if guess in chapters:
            return guess
    raise ChapterError(f"{path.name} is of no chapter that has exercises ({', '.join(chapters)})")


def answers(notebook: nbformat.NotebookNode) -> dict[str, str]:
    """The code that answers each exercise: what stands between its text and its check.

    So helpers in cells of the student's own count too. Where the check or the text was taken out, the marked cell.
    """
    number, pieces = "", []
    marked: dict[str, str] = {}
    checked: dict[str, str] = {}
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and (heading := HEADING.search(cell.source)):
            number, pieces = heading[1], []
        elif cell.cell_type == "code":
            code, check = CHECK_LINES.sub("", cell.source), CHECK.search(cell.source)
            if own := _marked(cell, number):
                marked[own] = code
            pieces += [code] if code.strip() else []
            if check and check[1] == number:
                checked[number] = "\n\n".join(pieces)
    return marked | checked


def _marked(cell: nbformat.NotebookNode, number: str) -> str:
    """The number of the exercise that a cell is marked to answer."""
    known = cell.metadata.get("nbgrader")
    mark = re.fullmatch(r"answer-(\d+)-(\d+)", str(known.get("grade_id"))) if isinstance(known, dict) else None
    if mark:
        return f"{mark[1]}.{mark[2]}"
    return number if "answer" in cell.metadata.get("tags", []) else ""
