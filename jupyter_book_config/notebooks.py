"""Build chapters/*.ipynb from chapters/*.py: the only writer of the notebooks.

    python jupyter_book_config/notebooks.py            execute every chapter and store its outputs
    python jupyter_book_config/notebooks.py 2 03_cvae  only these, by number or name
    python jupyter_book_config/notebooks.py --check    say which notebooks are missing, stale or differ; exit 1

The .py (py:percent) is the source. A notebook stores the outputs and the sha256 of the .py that it came from; what
its sliders hold lies in figures/widgets, for the pages. Timings and progress are left out, so that a rebuild changes
what changed. A notebook whose cells were edited by hand is not overwritten without --overwrite.
"""

import argparse
import base64
import hashlib
import io
import json
import os
import re
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import first_import  # noqa: F401
import jupytext
import nbformat
import psutil
import stored_widgets
import teaching
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from PIL import Image

CHAPTERS = Path(__file__).resolve().parent.parent / "chapters"
SIZE_LIMIT = 600_000
LARGE, WIDTH = 45_000, 720  # a picture of more characters is a JPEG, so wide at most, where that takes half as many
FILMS = "X-rays of the COVID-19 Radiography Database from"  # what data.cxr prints when it reads them
CONFLICT = r"^(<{7}|>{7})( |$)"
LANGUAGE = {  # as a kernel gives it, but for the version: the same on every machine
    "name": "python", "file_extension": ".py", "mimetype": "text/x-python", "pygments_lexer": "ipython3",
    "nbconvert_exporter": "python", "codemirror_mode": {"name": "ipython", "version": 3}}
KEPT_FOR_THEMSELVES = {"lines_to_next_cell", "lines_to_end_of_cell_marker", "jupyter", "trusted", "collapsed",
                       "scrolled", "execution", "ExecuteTime", "editable", "slideshow", "vscode"}
OPEN = "○"  # a question that waits says so itself


class ChapterError(ValueError):
    """No such chapter, or a file that cannot be read; the message says what to do."""


def pick(names: Sequence[str], picked: Sequence[str] = ()) -> list[str]:
    """The names (01_autoencoder) that `picked` asks for by number (1 or 01) or by the whole name; all if it is empty.

    ChapterError where one of them is not there.
    """
    wanted = [Path(word.strip()).stem if "." in word or "/" in word else word.strip() for word in picked]
    unknown = [word for word in wanted if not any(_means(word, name) for name in names)]
    if unknown:
        raise ChapterError(f"there is no chapter {', '.join(map(repr, unknown))}; "
                           f"those that exist: {', '.join(names) or 'none'}")
    return [name for name in names if not wanted or any(_means(word, name) for word in wanted)]


def _means(word: str, name: str) -> bool:
    """Whether a reader who says `word` means the chapter `name`: its number as a number, never its first digits."""
    number = name.partition("_")[0]
    return word == name or (word.isdecimal() and number.isdecimal() and int(word) == int(number))


def sources(picked: Sequence[str] = (), folder: Path = CHAPTERS) -> list[Path]:
    """The chapters' .py files and the capstone's, all or those that `picked` asks for.

    In another folder than the book's own, a file of any name may be asked for.
    """
    names = {path.stem for form in ("[0-9][0-9]_*.py", "capstone.py") for path in folder.glob(form)}
    if folder != CHAPTERS:
        names |= {Path(word.strip()).stem for word in picked} & {path.stem for path in folder.glob("*.py")}
    return [folder / f"{name}.py" for name in pick(sorted(names), picked)]


def sha256(text: str) -> str:
    """Of a source's text, read with line ends as on Linux, so that a Windows checkout is not stale."""
    return hashlib.sha256(text.encode()).hexdigest()


def read_text(path: Path) -> str:
    """The text of a file; ChapterError, with its name, where it is not in UTF-8 or cannot be read."""
    try:
        return path.read_text(encoding="utf-8-sig")  # with or without the mark that Windows puts first
    except UnicodeDecodeError:
        raise ChapterError(f"{path.name} is not in UTF-8: save it in UTF-8") from None
    except OSError as problem:
        raise ChapterError(f"{path.name} cannot be read ({problem.strerror}): make it readable") from None


def read_source(source: Path) -> str:
    """The text of a chapter's .py; ChapterError where git left marks of a conflict in it."""
    text = read_text(source)
    if mark := re.search(CONFLICT, text, re.M):
        line = text[:mark.start()].count("\n") + 1
        raise ChapterError(f"{source.name} holds git's marks of a conflict (line {line}): settle it there first")
    return text


def read_notebook(path: Path) -> nbformat.NotebookNode:
    """A notebook; ChapterError where it is broken, with the line."""
    text = read_text(path)
    if mark := re.search(CONFLICT, text, re.M):
        line = text[:mark.start()].count("\n") + 1
        raise ChapterError(f"{path.name} holds git's marks of a conflict (line {line})")
    try:
        notebook = nbformat.reads(text, as_version=4)
        nbformat.validate(notebook)
    except Exception as error:  # JSON, nbformat and jsonschema have a dozen kinds
        raise ChapterError(f"{path.name} cannot be read as a notebook ({str(error).splitlines()[0][:80]})") from None
    return notebook


def remedy(source: Path, *options: str) -> str:
    """The command that builds a chapter's notebook anew."""
    words = [source.stem, *options]
    if source.parent == CHAPTERS:
        return f"run `make notebooks CHAPTERS={shlex.quote(' '.join(words))}`"
    return f"run `python {shlex.join([__file__, '--source', str(source.parent), *words])}`"


def content(notebook: nbformat.NotebookNode) -> list[tuple]:
    """What a reader sees of the cells and an author writes: their kind, text and metadata, without outputs."""
    return [(cell.cell_type, cell.source, _plain(cell.metadata)) for cell in notebook.cells]


def _plain(metadata: dict) -> dict:
    """A cell's metadata without what jupytext and JupyterLab keep there for themselves."""
    return {key: value for key, value in metadata.items()
            if key not in KEPT_FOR_THEMSELVES}


def problems(source: Path) -> list[str]:
    """What is wrong with the notebook of `source`, as sentences; empty when all is well.

    A notebook that was never built from a .py may stand alone.
    """
    target = source.with_suffix(".ipynb")
    if not target.exists():
        return [f"{target.name} is missing: {remedy(source)}"]
    try:
        text = read_source(source) if source.exists() else None
    except ChapterError as error:
        return [str(error)]
    try:
        notebook = read_notebook(target)
    except ChapterError as error:
        told = "" if "UTF-8:" in str(error) else f": {remedy(source) if text else 'mend it, or take it from git again'}"
        return [f"{error}{told}"]
    found = list(_in_the_cells(notebook))
    if "widgets" in notebook.metadata:
        found.append("stores widget state")
    if notebook.metadata.get("genmed", {}).get("closed") and public():
        found.append("shows images that not everybody may see: set GENMED_PUBLIC=0, and keep what is built where the "
                     "images are kept")
    if trouble := stored_widgets.problem(notebook, stored_widgets.path_for(target)):
        found.append(trouble)
    if target.stat().st_size > SIZE_LIMIT:
        found.append(f"has {target.stat().st_size:,} bytes, over {SIZE_LIMIT:,}: store smaller figures")
    if text is not None:
        found += _apart(notebook, text, source)
    elif "genmed" in notebook.metadata:
        found.append(f"was built from {source.name}, which is not there: bring it back with git")
    return [f"{target.name} {problem}" + ("" if ": " in problem else f": {remedy(source)}") for problem in found]


def _apart(notebook: nbformat.NotebookNode, text: str, source: Path) -> Iterator[str]:
    """How a notebook and the text that it should have been built from differ."""
    if notebook.metadata.get("genmed", {}).get("source_sha256") != sha256(text):
        yield f"was not built from the present {source.name}"
    if content(jupytext.reads(text, fmt="py:percent")) != content(notebook):
        yield f"and {source.name} differ in their cells: edit the .py, then {remedy(source)}"


def _in_the_cells(notebook: nbformat.NotebookNode) -> Iterator[str]:
    """Stored outputs that must not be published."""
    if FILMS in str(notebook.cells):
        yield "was made from films of patients, which must not be stored"
    for cell in notebook.cells:
        outputs = cell.get("outputs", [])
        if any(output.output_type == "error" for output in outputs):
            yield f"stores an error in the cell that begins {cell.source[:40]!r}"
        shown = [output.get("data", {}) for output in outputs if not is_still(output)]
        pictures = [data for data in shown if any(kind.startswith("image/") for kind in data)]
        alt = cell.metadata.get("mystnb", {}).get("image", {}).get("alt")
        if pictures and (trouble := undescribed(alt)):
            yield (f"has a figure with {trouble} in the cell that begins {cell.source[:40]!r}: "
                   'write # %% mystnb={"image": {"alt": "..."}} above the cell')


def undescribed(alt: str | None) -> str | None:
    """What is wrong with a picture's alt text, or None. A file's name, which docutils puts there, is none."""
    if not alt or not alt.strip():
        return "no alt text"
    if len(alt.split()) < 3:
        return f"the alt text {alt!r}, which describes nothing"
    return None


def edited(notebook: nbformat.NotebookNode) -> bool:
    """Whether somebody changed the cells of a notebook after it was built. Running them changes outputs only."""
    return notebook.metadata.get("genmed", {}).get("cells_sha256") != cells_sha256(notebook)


def cells_sha256(notebook: nbformat.NotebookNode) -> str:
    """Of the cells as their author wrote them."""
    return sha256(json.dumps(content(notebook), sort_keys=True))


def refuse_edited(source: Path) -> None:
    """ChapterError where building the notebook anew would lose what somebody wrote into it."""
    target = source.with_suffix(".ipynb")
    try:
        lost = target.exists() and edited(read_notebook(target))
    except ChapterError:  # nobody can open it: there is nothing to keep that git has not
        return
    if lost:
        raise ChapterError(
            f"{target.name} was edited by hand since it was built, and building it would lose that: move the changes "
            f"to {source.name}, or keep a copy under another name; then {remedy(source, '--overwrite')}")


def build(source: Path, overwrite: bool = False) -> int:
    """Execute one chapter and write its notebook; returns the notebook's size in bytes.

    ChapterError where the notebook was edited by hand, unless it may be overwritten.
    """
    text = read_source(source)  # once: the file may be edited while it runs
    notebook = jupytext.reads(text, fmt="py:percent")
    began, ended, say = {}, {}, _progress(source.stem, len(notebook.cells))
    client = NotebookClient(notebook, timeout=3600, startup_timeout=300, kernel_name="python3", record_timing=False,
                            extra_arguments=["--log-level=ERROR"],  # a kernel's warnings alarm, and are not ours
                            store_widget_state=True, resources={"metadata": {"path": str(source.parent)}},
                            on_cell_start=lambda **at: (say(**at), began.update({at["cell_index"]: seconds(client)})),
                            on_cell_executed=lambda **at: ended.update({at["cell_index"]: seconds(client)}))
    client.execute()
    if not overwrite:
        refuse_edited(source)  # again: a chapter takes minutes
    target = source.with_suffix(".ipynb")
    stored_widgets.store(notebook, stored_widgets.path_for(target))
    finish(notebook, text)
    jupytext.write(notebook, target, fmt="ipynb")
    if source.parent == CHAPTERS and not os.environ.get("GENMED_BUDGET"):
        teaching.note(source.stem, notebook, {i: ended[i] - began[i] for i in ended})
    return target.stat().st_size


def seconds(client: NotebookClient) -> float:
    """What the kernel has used of a processor; on one thread, as long as it takes where nothing else runs."""
    used = psutil.Process(client.km.provisioner.pid).cpu_times()
    return used.user + used.system


def _progress(name: str, cells: int) -> Callable[..., None]:
    """Says at each quarter of a chapter how far it is."""
    def say(cell: nbformat.NotebookNode, cell_index: int) -> None:
        if cell_index * 4 // cells > said[-1]:
            said.append(cell_index * 4 // cells)
            print(f"{name}: cell {cell_index + 1} of {cells}", flush=True)
    said = [0]
    return say


def public() -> bool | None:
    """Whether what is made is to be published, as GENMED_PUBLIC says; None where it says nothing."""
    from genmed_core import runtime  # brings torch, whose seconds `make lab` need not wait

    return runtime.setting("GENMED_PUBLIC")


def finish(notebook: nbformat.NotebookNode, text: str) -> None:
    """Turn a notebook that has just been run into the one that is stored, in place; `text` is its source's."""
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number:03d}"
        if "outputs" in cell:
            for output in cell["outputs"]:
                _tidy(output)
    notebook.metadata.pop("widgets", None)
    if "-jupyter" in notebook.metadata.get("jupytext", {}).get("cell_metadata_filter", ""):
        # as the source has it: in reading, jupytext adds the kinds of metadata that it met, in any order
        notebook.metadata["jupytext"] = {"cell_metadata_filter": "-jupyter"}
    notebook.metadata["language_info"] = dict(LANGUAGE)
    notebook.metadata["genmed"] = {"source_sha256": sha256(text), "cells_sha256": cells_sha256(notebook)}
    if public() is False:
        notebook.metadata["genmed"]["closed"] = True  # build.py and publish.py keep it from the public


def _tidy(output: nbformat.NotebookNode) -> None:
    """Without a kernel a stored slider is dead: leave its still picture, if it has one, and what to do."""
    if stored_widgets.VIEW in output.get("data", {}):
        del output["data"][stored_widgets.VIEW]
        output["metadata"].setdefault("genmed", {})["still"] = True
        if "image/png" not in output["data"] and not output["data"].get("text/plain", "").startswith(OPEN):
            output["data"] = {"text/plain": "To move the sliders, run the chapter down to here."}
    png = output.get("data", {}).get("image/png", "")
    if len(png) > LARGE and len(jpeg := _as_jpeg(png)) < len(png) / (1 if len(png) > 2 * LARGE else 2):
        del output["data"]["image/png"]
        output["data"]["image/jpeg"] = jpeg
    output.get("metadata", {}).pop("transient", None)


def is_still(output: nbformat.NotebookNode) -> bool:
    """Whether an output is the picture that a slider left; the slider itself says what it shows."""
    return output.get("metadata", {}).get("genmed", {}).get("still", False)


def _as_jpeg(png: str) -> str:
    """A large picture, photographs as a rule, in base64: smaller, for a notebook that is read without being run."""
    picture = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")
    if picture.width > WIDTH:
        picture = picture.resize((WIDTH, round(picture.height * WIDTH / picture.width)), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=75, optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()


def build_all(picked: list[Path], workers: int, overwrite: bool) -> list[str]:
    """Build the notebooks, `workers` at a time; returns the names of those that failed."""
    failed = []
    print(f"running {', '.join(source.stem for source in picked)}", flush=True)
    with ThreadPoolExecutor(min(workers, len(picked))) as pool:
        for source, job in [(s, pool.submit(build, s, overwrite)) for s in picked]:
            try:
                print(f"{source.with_suffix('.ipynb').name}: {job.result() / 1000:.0f} KB", flush=True)
            except (CellExecutionError, ChapterError, OSError) as error:
                failed.append(source.name)
                print(f"{source.name} failed, its notebook is left as it was:\n{error}", file=sys.stderr, flush=True)
    return failed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("chapters", nargs="*", help="numbers or names, such as 2 or 02_vae; default all")
    parser.add_argument("--check", action="store_true", help="only report what is missing, stale or different")
    parser.add_argument("--workers", type=int, default=2, help="notebooks at a time, one thread each")
    parser.add_argument("--source", type=Path, default=CHAPTERS, help="the folder of the .py files, default chapters/")
    parser.add_argument("--overwrite", action="store_true", help="also notebooks whose cells were edited by hand")
    options = parser.parse_args()
    if options.workers < 1:
        parser.error(f"--workers {options.workers}: at least one notebook has to be built at a time")
    try:
        picked = sources(options.chapters, options.source.resolve())
    except ChapterError as error:
        parser.error(str(error))
    if not picked:
        parser.error(f"no NN_name.py in {options.source}; a file of another name has to be named as well")
    if options.check:
        found = [line for source in picked for line in problems(source)]
        print("\n".join(found) or f"{len(picked)} notebooks match their sources")
        sys.exit(bool(found))
    try:
        for source in picked:  # all of them before the first is run
            read_source(source)
            if not options.overwrite:
                refuse_edited(source)
    except ChapterError as error:
        sys.exit(f"error: {error}")
    os.environ["GENMED_THREADS"] = os.environ.get("GENMED_THREADS", "").strip() or "1"
    os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")  # a kernel's warning about a debugger nobody uses
    own = options.source.resolve() != CHAPTERS
    if not own or public() is None:  # no film of a patient may be stored among the chapters
        os.environ["GENMED_PUBLIC"] = "1"
    failed = build_all(picked, options.workers, options.overwrite)
    sys.exit(f"failed: {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()
