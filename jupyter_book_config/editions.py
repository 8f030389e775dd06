"""The book for a class: notebooks without the solutions for students, with them for those who teach.

    python jupyter_book_config/editions.py student           _build/student/ and _build/student.zip
    python jupyter_book_config/editions.py instructor 4 5    with the solutions, of these chapters alone
    python jupyter_book_config/editions.py student --package "genmed @ git+https://..."
    python jupyter_book_config/editions.py student --course mine.yml    your own title, order and chapters

Answer and check cells carry nbgrader's marks. The instructor's edition holds nbgrader/, a course folder that is ready
to use. In any text, what stands between <!-- solutions --> and <!-- /solutions --> is left out for students.
"""

import argparse
import html
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

import course
import first_import  # noqa: F401
import nbformat
from course import EDITIONS
from notebooks import CHAPTERS, ChapterError, pick, problems, read_notebook, read_text

HERE = Path(__file__).resolve().parent
BUILD = HERE.parent / "_build"
FOR_SOLUTIONS = re.compile(r"<!-- solutions -->.*?<!-- /solutions -->", re.S)
FOLD = '<details class="solution">'
LEFT = re.compile(r"""<details\b[^>]*\bclass\s*=\s*["']?[^"'>]*\bsolution\b|<!-- /?solutions -->""", re.I)
CHECK = re.compile(r'^sheet\.check\("(\d+\.\d+)", (\w+)(?:, measured=(.+))?\)$', re.M)
HEADING = re.compile(r"^\*\*Exercise (\d+\.\d+) \(\w+ (★+)\)", re.M)
LINK = re.compile(r"""(?:\]\(|src=["'])(?!\w+:)(?:<([^>\n]+)>|([^)#"'\s]+))""")
MADE_HERE = ".edition"  # stands in a folder that may be written anew
EARLIEST = (1980, 1, 1, 0, 0, 0)  # for every file of a zip: the same content is the same file


class EditionError(RuntimeError):
    """The edition cannot be made; the message says what to do."""


@dataclass(frozen=True)
class Asked:
    """An exercise as its cells have it: places in the notebook, the answer's name, what the check holds it against."""

    number: str
    stars: int
    name: str
    measured: str | None
    heading: int
    answer: int
    check: int


def tags(cell: nbformat.NotebookNode) -> list[str]:
    return cell.metadata.get("tags", [])


def asked(notebook: nbformat.NotebookNode) -> list[Asked]:
    """The exercises of one of the book's own notebooks; EditionError where a check has no answer cell above it."""
    found, heading, cells = [], (0, "", ""), notebook.cells
    for k, cell in enumerate(cells):
        if cell.cell_type == "markdown" and (begins := HEADING.search(cell.source)):
            heading = k, *begins.groups()
        elif "check" in tags(cell):
            check = CHECK.search(cell.source)
            if not check or heading[1] != check[1] or "answer" not in tags(cells[k - 1]):
                raise EditionError(f"the check cell {cell.source[:40]!r} does not stand below its exercise's text and "
                                   "a cell tagged answer")
            found.append(Asked(check[1], len(heading[2]), check[2], check[3], heading[0], k - 1, k))
    return found


# --- what differs between editions ----------------------------------------------------------------------------------


def of_text(text: str, edition: str, name: str) -> str:
    """A Markdown text as an edition has it; EditionError, with the file's name, where a solution would be left."""
    if edition == "student":
        text = FOR_SOLUTIONS.sub("", text)
        if LEFT.search(text):
            raise EditionError(f"{name} holds a solution outside <!-- solutions --> ... <!-- /solutions -->: put it "
                               "between those marks")
        return text
    return text.replace(FOLD, FOLD.replace(">", " open>")) if edition == "instructor" else text


def of_notebook(notebook: nbformat.NotebookNode, edition: str, name: str) -> nbformat.NotebookNode:
    """A notebook as an edition has it, changed in place; EditionError, with the file's name, as of_text says."""
    if edition == "student":
        notebook.cells = [cell for cell in notebook.cells if "solution" not in tags(cell)]
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            try:
                cell.source = of_text(cell.source, edition, name)
            except EditionError as problem:
                raise EditionError(f"{problem}, or tag its cell `solution`; it begins {cell.source[:60]!r}") from None
        elif edition == "self-study" and "solution" in tags(cell):  # the capstone's worked run
            cell.metadata["tags"] = [*tags(cell), "hide-cell"]
            cell.metadata.setdefault("mystnb", {}).update(
                code_prompt_show="Our run: show the code", code_prompt_hide="Our run: hide the code")
    return notebook


def drop_links(text: str, names: Sequence[str], left_out: Sequence[str] = ()) -> str:
    """Turn links to chapters outside `names`, and to pages that are `left_out`, into plain words."""
    text = re.sub(r"\[([^\]]+)\]\((\d\d_\w+|capstone)\.ipynb(?:#[^)]*)?\)",
                  lambda link: link[0] if link[2] in names else link[1], text)
    return re.sub(r"(?<!!)\[([^\]]+)\]\(([\w-]+)\.md(?:#[^)]*)?\)",
                  lambda link: link[1] if link[2] in left_out else link[0], text)


def for_class(path: Path, edition: str, names: Sequence[str]) -> nbformat.NotebookNode:
    """A chapter's notebook for an edition, with nbgrader's marks; it knows its chapter, under any name of the file."""
    notebook = of_notebook(read_notebook(path), edition, path.name)
    mark(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = drop_links(cell.source, names)
        for output in cell.get("outputs", []):
            if edition == "student":
                output.get("metadata", {}).get("genmed", {}).pop("measured", None)
    notebook.metadata["genmed"] = {"chapter": path.stem, "edition": edition}
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
    return notebook


# --- nbgrader -------------------------------------------------------------------------------------------------------


def marks(grade_id: str, cell_type: str, *, points: int | None, solution: bool) -> dict:
    """A cell's metadata for nbgrader, which allows no dot in grade_id; without points it is not graded."""
    known = {"schema_version": 3, "grade_id": grade_id.replace(".", "-"), "grade": points is not None,
             "solution": solution, "locked": not solution, "task": False, "cell_type": cell_type}
    return known if points is None else known | {"points": points}


def mark(notebook: nbformat.NotebookNode) -> None:
    """Give answer, check and free-text cells nbgrader's metadata, in place."""
    for exercise in asked(notebook):
        answer, check = notebook.cells[exercise.answer], notebook.cells[exercise.check]
        answer.metadata["nbgrader"] = marks(f"answer-{exercise.number}", "code", points=None, solution=True)
        check.metadata["nbgrader"] = marks(f"check-{exercise.number}", "code", points=exercise.stars, solution=False)
    begun, stars = "0", 1
    for k, cell in enumerate(notebook.cells):
        if cell.cell_type == "markdown" and (heading := HEADING.search(cell.source)):
            begun, stars = heading[1], len(heading[2])
        elif cell.cell_type == "markdown" and "explain" in tags(cell):
            cell.metadata["nbgrader"] = marks(f"explain-{begun}-{k}", "markdown", points=stars, solution=True)


def measured(notebook: nbformat.NotebookNode) -> dict[str, float]:
    """For each exercise that asks to predict: the number that the book's own run found, from its check's output."""
    found = {}
    for exercise in asked(notebook):
        for output in notebook.cells[exercise.check].outputs:
            if (value := output.get("metadata", {}).get("genmed", {}).get("measured")) is not None:
                found[exercise.number] = float(value)
    return found


def for_nbgrader(path: Path) -> nbformat.NotebookNode:
    """A chapter as nbgrader's source: of its own cells only imports, answers and checks are run when it grades.

    A prediction is held against the book's run, in lines that nbgrader hides from students.
    """
    notebook, known = for_class(path, "student", [path.stem]), measured(read_notebook(path))
    first = next(k for k, cell in enumerate(notebook.cells) if cell.cell_type == "code")
    for k, cell in enumerate(notebook.cells):
        makes_sheet = "exercises.sheet(" in cell.source or "Sheet(" in cell.source
        if cell.cell_type == "code" and k != first and "nbgrader" not in cell.metadata and not makes_sheet:
            cell.metadata["tags"] = [*tags(cell), "skip-execution"]
    for exercise in asked(notebook):
        cell = notebook.cells[exercise.check]
        if exercise.measured and exercise.measured.isidentifier() and exercise.number in known:
            hidden = f"{exercise.measured} = {known[exercise.number]!r}"
            cell.source = f"### BEGIN HIDDEN TESTS\n{hidden}\n### END HIDDEN TESTS\n{cell.source}"
        elif exercise.measured:  # nothing to hold it against: a person decides
            notebook.cells[exercise.answer].metadata["nbgrader"] |= {"grade": True, "points": exercise.stars}
            cell.metadata["tags"] = [*tags(cell), "skip-execution"]
            del cell.metadata["nbgrader"]
    return notebook


# --- folders and zips -----------------------------------------------------------------------------------------------


def linked(source: Path, texts: Sequence[str]) -> set[Path]:
    """Pages and pictures in `source` that Markdown texts lead to, directly or through other pages."""
    found: set[Path] = set()
    waiting = list(texts)
    while waiting:
        for marked, plain in LINK.findall(waiting.pop()):
            path = (source / unquote(marked or plain)).resolve()
            if path.suffix == ".ipynb" or path in found or source not in path.parents or not path.is_file():
                continue
            found.add(path)
            if path.suffix == ".md":
                waiting.append(read_text(path))
    return found


def fresh(folder: Path) -> Path:
    """An empty folder; EditionError where one of that name holds what was not made here."""
    if folder.exists() and not (folder / MADE_HERE).exists():
        raise EditionError(f"{folder} is there already and was not made by this command: move it away")
    try:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        (folder / MADE_HERE).touch()
    except OSError as problem:
        raise EditionError(f"{folder} cannot be written ({problem.strerror}): name another folder with --out") from None
    return folder


def start_page(folder: Path, edition: str, title: str, titles: dict[str, str], package: str) -> None:
    """index.html: how to begin, in plain words, and the chapters with their titles."""
    page = (HERE / "start.html").read_text(encoding="utf-8")
    listed = "\n".join(f'<li><a href="{name}.ipynb">{name}.ipynb</a>: {html.escape(title)}</li>'
                       for name, title in titles.items())
    if edition == "student":
        page = re.sub(r"<!-- instructor -->.*?<!-- /instructor -->\n", "", page, flags=re.S)
    for mark_, text in {"TITLE": html.escape(title), "CHAPTERS": listed, "FIRST": next(iter(titles)),
                        "PACKAGE": html.escape(package)}.items():
        page = page.replace(f"{{{mark_}}}", text)
    (folder / "index.html").write_text(page, encoding="utf-8")


def zipped(folder: Path) -> Path:
    """A zip of a folder, beside it, that unpacks into one folder of the same name."""
    path = folder.with_suffix(".zip")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(p for p in folder.rglob("*") if p.is_file() and p.name != MADE_HERE):
            entry = zipfile.ZipInfo(f"{folder.name}/{file.relative_to(folder).as_posix()}", EARLIEST)
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            archive.writestr(entry, file.read_bytes())
    return path


def make(edition: str, picked: Sequence[str] = (), source: Path = CHAPTERS, out: Path = BUILD,
         package: str | None = None, course_file: Path | None = None) -> Path:
    """Write one edition and its zip; returns the zip. EditionError where that is not possible.

    The chapters are those of the course file, in its order; without one, those of the folder `source`.
    """
    source, out = Path(source).resolve(), Path(out).resolve()
    try:
        given = course.read(course_file, source) if course_file else None
        files = given.notebooks() if given else {path.stem: path for path in sorted(source.glob("[0-9][0-9]_*.ipynb"))}
        if not files:
            raise EditionError(f"{course_file} names no notebook" if given else
                               f"there is no NN_name.ipynb in {source}: run `make notebooks` first")
        files = {name: files[name] for name in pick(list(files), picked)}
        found = [line for path in files.values() for line in problems(path.with_suffix(".py"))]
        if found:
            raise EditionError("nothing was written:\n" + "\n".join(found))
        books = {path: for_class(path, edition, list(files)) for path in files.values()}
    except (ChapterError, course.CourseError) as problem:
        raise EditionError(str(problem)) from None
    title = given.title if given else course.our_title()
    folder = fresh(out / edition)
    pages = [page for page in given.pages() if page.suffix == ".md" and page.parent != source] if given else []
    write_notebooks(folder, books, edition, source, title, pages)
    if edition == "instructor":
        nbgrader_course(folder / "nbgrader", list(books), source, title)
    heads = {path: re.search(r"^# (.+)$", book.cells[0].source, re.M) for path, book in books.items()}
    start_page(folder, edition, title, {path.stem: head[1] if head else path.stem for path, head in heads.items()},
               package or own_address(given.repository if given else None))
    return zipped(folder)


def write_notebooks(folder: Path, books: dict[Path, nbformat.NotebookNode], edition: str, source: Path,
                    title: str, pages: Sequence[Path] = ()) -> None:
    """The notebooks, `pages`, the introduction under the course's title, and pages and pictures that these lead to."""
    names, leads = [path.stem for path in books], {source: ["[](intro.md)"]}
    for path in pages:
        leads.setdefault(path.parent, []).append(f"[](<{path.name}>)")
    for path, book in books.items():
        nbformat.write(book, folder / path.name)
        leads.setdefault(path.parent, []).extend(cell.source for cell in book.cells if cell.cell_type == "markdown")
    for place, texts in leads.items():
        for path in linked(place, texts):
            target = folder / path.relative_to(place)
            target.parent.mkdir(parents=True, exist_ok=True)
            content = path.read_bytes()
            if path.suffix == ".md":
                text = drop_links(of_text(read_text(path), edition, path.name), names)
                if path == source / "intro.md":
                    text = course.under_title(text, title)
                content = text.encode()
            if target.exists() and target.read_bytes() != content:
                raise EditionError(f"there are two different files {target.relative_to(folder).as_posix()}, the book's "
                                   f"and one in {place}: rename yours")
            target.write_bytes(content)


def nbgrader_course(folder: Path, paths: Sequence[Path], source: Path, title: str) -> None:
    """A course folder for nbgrader, each chapter an assignment."""
    for path in paths:
        place = folder / "source" / path.stem
        place.mkdir(parents=True)
        write_notebooks(place, {path: for_nbgrader(path)}, "student", source, title)
    shutil.copy(HERE / "nbgrader_config.py", folder)


def own_address(repository: str | None = None) -> str:
    """What pip installs this package from: the course's repository, else the https address it was cloned from."""
    if repository:
        return f"genmed @ git+{repository}"
    command = ["git", "-C", str(HERE), "remote", "get-url", "origin"]
    try:
        address = subprocess.run(command, capture_output=True, text=True).stdout.strip()
    except OSError:
        address = ""
    if re.fullmatch(r"https://[^@\s]+", address):  # no user name, no password
        return f"genmed @ git+{address}"
    print('note: the start page says "the address of the package genmed, which your instructor gives you"; '
          'PACKAGE="genmed @ git+https://..." names it', file=sys.stderr)
    return "the address of the package genmed, which your instructor gives you"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("edition", choices=EDITIONS[:2])
    parser.add_argument("chapters", nargs="*", help="numbers or names, such as 2 or 02_vae; default all")
    parser.add_argument("--package", default="", help="what students give pip to install genmed")
    parser.add_argument("--source", type=Path, default=CHAPTERS, help="the folder of the notebooks, default chapters/")
    parser.add_argument("--out", type=Path, default=BUILD, help="default _build/")
    parser.add_argument("--course", type=Path, metavar="FILE", help="your course file")
    options = parser.parse_args()
    try:
        picked = [word for words in options.chapters for word in words.replace(",", " ").split()]
        made = make(options.edition, picked, options.source, options.out, options.package, options.course)
    except EditionError as problem:
        sys.exit(f"error: {problem}")
    print(f"The {options.edition} edition is in {made.with_suffix('')}, and packed as {made}")


if __name__ == "__main__":
    main()
