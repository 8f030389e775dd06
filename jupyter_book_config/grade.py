"""Grade a class's notebooks on this machine: no server, no container, nothing trained.

    python jupyter_book_config/grade.py DIR                    DIR/NAME/04_gan.ipynb or DIR/NAME.ipynb
    python jupyter_book_config/grade.py DIR --chapters 4,5     only these; who lacks one gets a row of zeros
    python jupyter_book_config/grade.py DIR --course mine.yml  the chapters of a course, your own too

Writes _build/grades/: grades.csv, a page for each student, index.html. Of a submission only the answer cells are run,
each notebook's in a process of its own with limits, and judged in this one: what a student does to the checks there
changes nothing here.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

import course  # noqa: E402
import editions  # noqa: E402
import notebooks  # noqa: E402
from grading import report  # noqa: E402
from grading.sandbox import Limits, SandboxError  # noqa: E402
from grading.submissions import Submission, collect  # noqa: E402
from grading.verdicts import Chapter, chapter, marks, sheet_path  # noqa: E402

ALWAYS = ("Answers ran in processes of their own, with Python's own refusals of files, sockets and programs. That is "
          "no wall against an expert: grade on a machine or an account that holds nothing else of worth.")
DEFAULT_LIMITS = Limits()
MISSING = {
    "network": "This system gives a process no network of its own (Linux's unshare): only Python refuses sockets here, "
               "and a program that an answer left behind could outlive it.",
    "limits": "This system sets no limit on the memory of a process: an answer may fill it until its time is over.",
    "files": "This system's kernel hides no files from a process (Linux's Landlock): only Python refuses them here.",
    "processes": "The number of processes is not limited for root: grade as another user.",
}


class GradeError(RuntimeError):
    """Nothing can be graded; the message says what to do."""


def known_chapters(source: Path, picked: Sequence[str], course_file: Path | None = None) -> dict[str, Path]:
    """The folders of the chapters that have exercises, or of those that are asked for: a course's, or a folder's."""
    try:
        files = (course.read(course_file, source).notebooks().values() if course_file else
                 sorted(source.glob("[0-9][0-9]_*.ipynb")))
        folders = {path.stem: path.parent for path in files if sheet_path(path.stem, path.parent)}
        if not folders:
            raise GradeError(f"no chapter {'of' if course_file else 'in'} {course_file or source} has exercises")
        return {name: folders[name] for name in notebooks.pick(list(folders), picked)}
    except (course.CourseError, notebooks.ChapterError) as problem:
        raise GradeError(str(problem)) from None


def grade(folder: Path, picked: Sequence[str] = (), source: Path = notebooks.CHAPTERS,
          out: Path = ROOT / "_build" / "grades", workers: int = 2,
          limits: Limits = DEFAULT_LIMITS, course_file: Path | None = None) -> list[report.Graded]:
    """Grade all that lies in a folder and write the result to `out`; returns the rows. GradeError where it cannot."""
    if not folder.is_dir():
        raise GradeError(f"{folder} is no folder: SUBMISSIONS=DIR names the one that holds the students' notebooks")
    if out.resolve() == folder.resolve() or folder.resolve() in out.resolve().parents:
        raise GradeError(f"{out} lies among the submissions: name another folder with --out")
    folders = known_chapters(source, picked, course_file)
    found, said = collect(folder, list(folders))
    if not found:
        raise GradeError("\n".join([f"there is no notebook in {folder}", *said]))
    readable = [submission for submission in found if not submission.trouble]
    try:
        chapters = {name: chapter(name, folders[name]) for name in sorted({s.chapter for s in readable})}
    except (editions.EditionError, notebooks.ChapterError) as problem:
        raise GradeError(str(problem)) from None
    graded, walls = run(readable, chapters, workers, limits)
    rows = complete(graded, found, list(picked and folders) or list(chapters), said)
    sentences = missing(walls)
    try:
        report.write(out, rows, said, sentences)
    except OSError as problem:
        raise GradeError(f"{out} cannot hold the grades ({problem.strerror}): name another folder with --out") from None
    print("\n".join([*(f"note: {sentence}" for sentence in [*said, *sentences]),
                     f"{len(graded)} notebooks graded: {out / 'grades.csv'}, {out / 'index.html'}"]))
    return rows


def run(submissions: Sequence[Submission], chapters: dict[str, Chapter], workers: int,
        limits: Limits) -> tuple[list[report.Graded], list[dict[str, bool]]]:
    """Grade the notebooks, some at a time, saying how far it is; with the walls that each ran between."""
    rows, walls = [], []
    with ThreadPoolExecutor(workers) as pool:
        jobs = [(s, pool.submit(marks, chapters[s.chapter], s, limits)) for s in submissions]
        for number, (submission, job) in enumerate(jobs, 1):
            found, note = [], ""
            try:
                found, between = job.result()
                walls.append(between)
            except SandboxError as problem:  # no fault of hers: the others are graded nevertheless
                note = f"Not graded. {problem}"
            rows.append(report.Graded(submission.student, submission.chapter, found, note))
            print(f"{number} of {len(jobs)}: {submission.student}, {submission.chapter}: {rows[-1].total} of "
                  f"{rows[-1].most}{': ' * bool(note)}{note}", flush=True)
    return rows, walls


def complete(graded: Sequence[report.Graded], found: Sequence[Submission], wanted: Sequence[str],
             said: list[str]) -> list[report.Graded]:
    """All rows in order, with those of notebooks that could not be read and of chapters not handed in."""
    rows = [*graded, *(report.Graded(s.student, "", note=f"{s.path.name} {s.trouble}") for s in found if s.trouble)]
    for student in sorted({submission.student for submission in found}):
        have = {row.chapter for row in graded if row.student == student}
        for name in [name for name in wanted if name not in have]:
            rows.append(report.Graded(student, name, note="Nothing that can be graded was handed in."))
            said.append(f"{student} has handed in no {name} that can be graded")
    return sorted(rows, key=lambda row: (row.student.lower(), row.student, row.chapter))


def missing(walls: Sequence[dict[str, bool]]) -> list[str]:
    """Sentences on what could not be kept apart on this system."""
    lacking = [what for what in ("network", "limits", "files") if not all(between.get(what, True) for between in walls)]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        lacking.append("processes")
    return [ALWAYS, *(MISSING[what] for what in lacking)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("submissions", type=Path, help="the folder that holds the students' notebooks")
    parser.add_argument("--chapters", default="", help="by number or name: 4,05_cgan; default all that were handed in")
    parser.add_argument("--source", type=Path, default=notebooks.CHAPTERS,
                        help="the folder of the book's own notebooks, and of sheets/ for chapters of one's own")
    parser.add_argument("--course", type=Path, metavar="FILE", help="your course file")
    parser.add_argument("--out", type=Path, default=ROOT / "_build" / "grades", help="default _build/grades/")
    parser.add_argument("--workers", type=int, default=2, help="notebooks at a time")
    options = parser.parse_args()
    if options.workers < 1:
        parser.error(f"--workers {options.workers}: at least one notebook has to be graded at a time")
    try:
        picked = options.chapters.replace(",", " ").split()
        grade(options.submissions, picked, options.source.resolve(), options.out, options.workers,
              course_file=options.course)
    except GradeError as problem:
        sys.exit(f"error: {problem}")


if __name__ == "__main__":
    main()
