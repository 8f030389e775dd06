"""The result of grading on file: grades.csv, a page for each student, and an index."""

import csv
import html
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from genmed_core.exercises.exercise import MARKS
from grading.verdicts import Mark

PAGE = """<!DOCTYPE html>
<html lang="en-GB">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{title}</title>
<style>
body {{ font: 1rem/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }}
table {{ border-collapse: collapse; width: 100%; }}
th, td {{ border-bottom: 1px solid #ccd; padding: 0.4rem 0.6rem; text-align: left; vertical-align: top; }}
td {{ overflow-wrap: anywhere; }}
</style>
</head>
<body>
<h1>{title}</h1>
{body}
</body>
</html>
"""


@dataclass(frozen=True)
class Graded:
    """One row: a student and a chapter with the marks, or why there are none."""

    student: str
    chapter: str
    marks: Sequence[Mark] = ()
    note: str = ""

    @property
    def total(self) -> int:
        return sum(mark.points or 0 for mark in self.marks)

    @property
    def most(self) -> int:
        return sum(mark.exercise.stars for mark in self.marks)


def write(folder: Path, rows: Sequence[Graded], said: Sequence[str], walls: Sequence[str]) -> None:
    """Write all files into a folder that none but its owner may read."""
    (folder / "students").mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    for old in (folder / "students").glob("*.html"):
        old.unlink()
    table(folder / "grades.csv", rows)
    pages: dict[str, str] = {}
    for student in dict.fromkeys(row.student for row in rows):
        pages[student] = page_name(student, list(pages.values()))
        own = [row for row in rows if row.student == student]
        (folder / "students" / pages[student]).write_text(of_student(student, own), encoding="utf-8")
    (folder / "index.html").write_text(index(rows, pages, said, walls), encoding="utf-8")


def table(path: Path, rows: Sequence[Graded]) -> None:
    """grades.csv: a line for each student and chapter; a byte-order mark tells Excel that it is UTF-8."""
    numbers = list(dict.fromkeys(mark.exercise.number for row in rows for mark in row.marks))
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["student", "chapter", *numbers, "total", "of", *(f"{n} state" for n in numbers), "note"])
        for row in rows:
            by = {mark.exercise.number: mark for mark in row.marks}
            points = ["" if n not in by or by[n].points is None else by[n].points for n in numbers]
            states = [by[n].state if n in by else "" for n in numbers]
            writer.writerow([as_text(row.student), row.chapter, *points, row.total, row.most, *states,
                             as_text(row.note)])


def as_text(word: str) -> str:
    """A word that a spreadsheet does not take for a formula."""
    return f"'{word}" if word.startswith(("=", "+", "-", "@", "\t", "\r")) else word


def page_name(student: str, taken: Sequence[str]) -> str:
    """A file's name for a student's page, whatever the student is called, that no other has."""
    stem = re.sub(r"[^A-Za-z0-9]+", "-", student).strip("-")[:60] or "student"
    lower = {name.lower() for name in taken}
    number, name = 1, f"{stem}.html"
    while name.lower() in lower:
        number += 1
        name = f"{stem}-{number}.html"
    return name


def of_student(student: str, rows: Sequence[Graded]) -> str:
    """What was said of each answer of one student; nothing of the others."""
    parts = []
    for row in rows:
        parts.append(f"<h2>{html.escape(row.chapter or 'A notebook')}: {row.total} of {row.most} points</h2>")
        if row.note:
            parts.append(f"<p>{html.escape(row.note)}</p>")
        if row.marks:
            lines = "\n".join(
                f"<tr><td>{html.escape(mark.exercise.heading)}</td>"
                f"<td>{'' if mark.points is None else mark.points} of {mark.exercise.stars}</td>"
                f"<td>{MARKS.get(mark.state, '?')} {html.escape(mark.message)}</td></tr>" for mark in row.marks)
            parts.append(f"<table>\n<tr><th>exercise</th><th>points</th><th></th></tr>\n{lines}\n</table>")
    return PAGE.format(title=html.escape(student), body="\n".join(parts))


def index(rows: Sequence[Graded], pages: dict[str, str], said: Sequence[str], walls: Sequence[str]) -> str:
    """All students, what was not graded, and between which walls the answers ran."""
    lines = "\n".join(
        f'<tr><td><a href="students/{pages[row.student]}">{html.escape(row.student)}</a></td>'
        f"<td>{html.escape(row.chapter)}</td><td>{row.total} of {row.most}</td><td>{html.escape(row.note)}</td></tr>"
        for row in rows)
    body = [f"<table>\n<tr><th>student</th><th>chapter</th><th>points</th><th></th></tr>\n{lines}\n</table>"]
    for heading, sentences in (("Not graded, or to be looked at", said), ("How the answers were run", walls)):
        if sentences:
            items = "\n".join(f"<li>{html.escape(sentence)}</li>" for sentence in sentences)
            body.append(f"<h2>{heading}</h2>\n<ul>\n{items}\n</ul>")
    return PAGE.format(title="Grades", body="\n".join(body))
