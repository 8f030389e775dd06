"""Build chapters/*.ipynb from chapters/*.py: the only writer of the notebooks.

    python jupyter_book_config/notebooks.py            execute every chapter and store its outputs
    python jupyter_book_config/notebooks.py 02 03      only these
    python jupyter_book_config/notebooks.py --check    say which notebooks are missing, stale or differ; exit 1

The .py (py:percent) is the source. A notebook stores the outputs and the sha256 of the .py that it came from;
widget state, timings and progress are left out, so that a rebuild changes what changed.
"""

import argparse
import base64
import hashlib
import io
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from PIL import Image

CHAPTERS = Path(__file__).resolve().parent.parent / "chapters"
SIZE_LIMIT = 600_000
LARGE, WIDTH = 90_000, 720  # a picture of more characters is stored as JPEG, at most so many pixels wide
FILMS = "X-rays of the COVID-19 Radiography Database from"  # what data.cxr prints when it reads them
WIDGET = "application/vnd.jupyter.widget-view+json"


def sources(picked=()):
    """The chapters' .py files, all or those whose names start with one of `picked`."""
    found = sorted(CHAPTERS.glob("[0-9][0-9]_*.py"))
    return [p for p in found if not picked or p.name.startswith(tuple(picked))]


def sha256(text):
    """Of a source's text, read with line ends as on Linux, so that a Windows checkout is not stale."""
    return hashlib.sha256(text.encode()).hexdigest()


def problems(source):
    """What is wrong with the notebook of `source`, as sentences; empty when all is well."""
    target, text = source.with_suffix(".ipynb"), source.read_text(encoding="utf-8")
    if not target.exists():
        return [f"{target.name} is missing: run `make notebooks`"]
    notebook = nbformat.read(target, as_version=4)
    found = []
    if notebook.metadata.get("genmed", {}).get("source_sha256") != sha256(text):
        found.append(f"{target.name} was not built from the present {source.name}: run `make notebooks`")
    notebook.metadata.pop("genmed", None)
    if jupytext.writes(notebook, fmt="py:percent") != text:
        found.append(f"{target.name} and {source.name} differ in their cells: edit the .py, then run `make notebooks`")
    if target.stat().st_size > SIZE_LIMIT:
        found.append(f"{target.name} has {target.stat().st_size:,} bytes, over {SIZE_LIMIT:,}: store smaller figures")
    if FILMS in str(notebook.cells):
        found.append(f"{target.name} was made from films of patients, which must not be stored: run `make notebooks`")
    if "widgets" in notebook.metadata:
        found.append(f"{target.name} stores widget state: run `make notebooks`")
    for cell in notebook.cells:
        if any(output.output_type == "error" for output in cell.get("outputs", [])):
            found.append(f"{target.name} stores an error in the cell that begins {cell.source[:40]!r}")
    return found


def build(source):
    """Execute one chapter and write its notebook. Returns the notebook's size in bytes."""
    text = source.read_text(encoding="utf-8")  # once: the file may be edited while it runs
    notebook = jupytext.reads(text, fmt="py:percent")
    client = NotebookClient(notebook, timeout=3600, startup_timeout=300, kernel_name="python3", record_timing=False,
                            store_widget_state=False, resources={"metadata": {"path": str(CHAPTERS)}})
    client.execute()
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number:03d}"
        for output in cell.get("outputs", []):
            _tidy(output)
    notebook.metadata.pop("widgets", None)
    notebook.metadata.pop("language_info", None)
    notebook.metadata["genmed"] = {"source_sha256": sha256(text)}
    target = source.with_suffix(".ipynb")
    jupytext.write(notebook, target, fmt="ipynb")
    return target.stat().st_size


def _tidy(output):
    """Without a kernel a stored slider is dead: leave its still picture, if it has one, or say what to do."""
    if WIDGET in output.get("data", {}):
        del output["data"][WIDGET]
        if "image/png" not in output["data"]:
            output["data"] = {"text/plain": "Run this cell to move the sliders."}
    if len(output.get("data", {}).get("image/png", "")) > LARGE:
        output["data"]["image/jpeg"] = _as_jpeg(output["data"].pop("image/png"))
    output.get("metadata", {}).pop("transient", None)


def _as_jpeg(png):
    """A large picture, photographs as a rule, in base64: smaller, for a notebook that is read without being run."""
    picture = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")
    if picture.width > WIDTH:
        picture = picture.resize((WIDTH, round(picture.height * WIDTH / picture.width)), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=75, optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("chapters", nargs="*", help="numbers or beginnings of names, such as 02")
    parser.add_argument("--check", action="store_true", help="only report what is missing, stale or different")
    parser.add_argument("--workers", type=int, default=2, help="notebooks at a time, one thread each")
    options = parser.parse_args()
    picked = sources(options.chapters)
    if not picked:
        sys.exit(f"no chapter matches {options.chapters}")
    if options.check:
        found = [line for source in picked for line in problems(source)]
        print("\n".join(found) or f"{len(picked)} notebooks match their sources")
        sys.exit(bool(found))
    os.environ.setdefault("GENMED_THREADS", "1")
    os.environ["GENMED_PUBLIC"] = "1"  # no film of a patient may be stored
    failed = []
    with ThreadPoolExecutor(min(options.workers, len(picked))) as pool:
        for source, job in [(s, pool.submit(build, s)) for s in picked]:
            try:
                print(f"{source.with_suffix('.ipynb').name}: {job.result() / 1000:.0f} KB", flush=True)
            except CellExecutionError as err:
                failed.append(source.name)
                print(f"{source.name} failed, its notebook is left as it was:\n{err}", file=sys.stderr, flush=True)
    sys.exit(f"failed: {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()
