"""Open JupyterLab on the reader's own copies of the chapters, in my_chapters/, which git does not see.

    python jupyter_book_config/lab.py                 copy what is new, then open the start page
    python jupyter_book_config/lab.py --no-browser    further words go to JupyterLab

What the reader changed there is never overwritten: where the book has a newer version, it is put beside the reader's
as NAME-book.ipynb, and a line says so. `.book.json` in the folder remembers what was copied.
"""

import hashlib
import json
import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import first_import  # noqa: F401
import jupytext
import nbformat
from notebooks import CHAPTERS, ChapterError, read_notebook

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
MINE = ROOT / "my_chapters"
START = "00_start.ipynb"
LISTED = {"README.md", "data", "my_chapters", "runs"}  # what JupyterLab's file browser shows of the repository
PAGES = (".md", ".svg", ".png", ".jpg")


def book(chapters: Path) -> Iterator[tuple[str, str, bytes]]:
    """What a reader gets: each file's place, the version that the book has of it, and what is written."""
    titles = {}
    for path in sorted(chapters.rglob("*")):
        place = path.relative_to(chapters)
        if any(part.startswith((".", "_")) for part in place.parts):  # checkpoints, a build
            continue
        if path.suffix == ".ipynb":
            try:
                notebook = read_notebook(path)
            except ChapterError as problem:
                print(f"note: {problem}: it is left out", file=sys.stderr)
                continue
            titles[place.as_posix()] = title(notebook, path.stem)
            yield place.as_posix(), sha256(path.read_bytes()), as_opened(notebook)
        elif path.suffix in PAGES:
            yield place.as_posix(), sha256(path.read_bytes()), path.read_bytes()
    guide = (HERE / "my_chapters.md").read_bytes()
    yield "README.md", sha256(guide), guide
    start = start_page(titles)
    yield START, sha256(start), start


def title(notebook: nbformat.NotebookNode, name: str) -> str:
    """A notebook's first heading; its name where there is none."""
    heading = re.search(r"^# (.+)$", notebook.cells[0].source if notebook.cells else "", re.M)
    return heading[1] if heading else name


def start_page(titles: dict[str, str]) -> bytes:
    """The notebook that is opened first: something that moves, and the way to the chapters."""
    links = "\n".join(f"- [{heading}]({place})" for place, heading in titles.items() if "/" not in place)
    notebook = jupytext.reads((HERE / "lab" / "start.py").read_text(encoding="utf-8"), fmt="py:percent")
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"start-{number}"
        cell.source = cell.source.replace("CHAPTERS", links)
    return as_opened(notebook)


def as_opened(notebook: nbformat.NotebookNode) -> bytes:
    """A notebook as JupyterLab would save it after opening it here, so that opening it changes nothing."""
    from ipykernel.ipkernel import IPythonKernel

    notebook.metadata["language_info"] = IPythonKernel.language_info
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
    return (nbformat.writes(notebook) + "\n").encode()


def refresh(chapters: Path = CHAPTERS, mine: Path = MINE) -> list[str]:
    """Copy what is new in the book to the reader's folder; returns sentences about what was put beside her own."""
    mine.mkdir(parents=True, exist_ok=True)
    known, said = remembered(mine), []
    for name, version, content in book(chapters):
        place = free_place(mine, name, version, content, known)
        if place is None:
            continue
        (mine / place).parent.mkdir(parents=True, exist_ok=True)
        (mine / place).write_bytes(content)
        known[place] = [version, sha256(content)]
        if place != name:
            said.append(f"{name} has changed in the book: yours, edited, is untouched; the new one is {place}")
    (mine / ".book.json").write_text(json.dumps(known, indent=1), encoding="utf-8")
    return said


def free_place(mine: Path, name: str, version: str, content: bytes, known: dict[str, list[str]]) -> str | None:
    """Where this version of a file goes without loss to the reader; None where it has been given before."""
    stem, dot, suffix = name.rpartition(".")
    number, place = 1, name
    while (mine / place).exists():
        given, written = known.get(place, ["", ""])
        if given == version:
            return None
        if sha256((mine / place).read_bytes()) in (written, sha256(content)):  # not edited
            return place
        place = f"{stem}-book{'' if number == 1 else f'-{number}'}{dot}{suffix}"
        number += 1
    return place


def remembered(mine: Path) -> dict[str, list[str]]:
    """For each place, the version of the book that was put there; empty where that is not known."""
    try:
        known = json.loads((mine / ".book.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {place: pair for place, pair in known.items() if isinstance(pair, list) and len(pair) == 2 and all(
        isinstance(word, str) for word in pair)} if isinstance(known, dict) else {}


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def settings(root: Path = ROOT, mine: Path = MINE) -> list[str]:
    """JupyterLab's options: the repository is its root, and what is not the reader's is not listed."""
    hidden = [path.name for path in root.iterdir() if path.name not in LISTED]
    hidden += [path.name for path in mine.rglob("*") if path.suffix in PAGES and path.suffix != ".md"]
    hidden += ["__pycache__", "*.pyc", "*~", "weights", "figures"]
    return [f"--ServerApp.root_dir={root}", f"--ContentsManager.hide_globs={sorted(set(hidden))!r}",
            f"--LabApp.app_settings_dir={HERE / 'lab' / 'settings'}",
            f"--LabApp.workspaces_dir={workspaces(mine)}",
            *(["--allow-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else [])]


def workspaces(mine: Path) -> Path:
    """Where JupyterLab remembers what is open, for this folder alone: nothing of another project's turns up here.

    The first time, the page's headings stand open on the right.
    """
    folder = mine / ".lab"
    if not folder.exists():
        folder.mkdir(parents=True)
        shutil.copy(HERE / "lab" / "workspace.json", folder / "default-37a8.jupyterlab-workspace")
    return folder


def main(options: list[str]) -> None:
    try:
        said = refresh()
    except OSError as problem:
        sys.exit(f"error: {MINE} cannot hold your copies of the chapters ({problem.strerror}): it has to be a folder "
                 "that you may write to")
    print("\n".join([f"Your own copies of the chapters are in {MINE.name}/, out of git's sight.", *said]), flush=True)
    from jupyterlab.labapp import LabApp

    sys.argv = ["jupyter-lab"]
    sys.exit(LabApp.launch_instance([*settings(), *options, str(MINE / START)]))


if __name__ == "__main__":
    main(sys.argv[1:])
