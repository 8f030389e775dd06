"""The sliders of a chapter that has been run, kept beside its notebook, so that a page has them without running it.

What a notebook's widgets hold (weights, frames, where the sliders stand) lies in figures/widgets/NAME.json.xz: a line
of JSON, then their bytes. Their scripts are left out, and the network of our reader of digits: both are taken from
genmed_core when a page is made. The file knows the code that it was made by.
"""

import base64
import copy
import hashlib
import importlib
import json
import lzma
import re
from collections.abc import Iterator
from pathlib import Path

import nbformat

VIEW = "application/vnd.jupyter.widget-view+json"
STATE = "application/vnd.jupyter.widget-state+json"
VERSION = {"version_major": 2, "version_minor": 0}
SCRIPTS = ("_esm", "_css")
READER = ["weights", 0]  # where a pad has the network of our reader of digits
FILTER = {"id": lzma.FILTER_LZMA2, "preset": 9}
FOR_BYTES = ({"lc": 0}, {"lc": 0, "lp": 1, "pb": 1})  # of any kind; float16, whose every second byte is alike


def path_for(notebook: Path) -> Path:
    """Where the sliders of chapters/NAME.ipynb are kept."""
    return notebook.parent / "figures" / "widgets" / f"{notebook.stem}.json.xz"


def code_sha256(notebook: nbformat.NotebookNode) -> str:
    """Of the code cells: a changed sentence leaves the sliders as they are."""
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    return hashlib.sha256(json.dumps(code).encode()).hexdigest()


def shown(notebook: nbformat.NotebookNode) -> Iterator[nbformat.NotebookNode]:
    """The outputs that show a widget, or its still picture."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if VIEW in output.get("data", {}) or "widget" in output.get("metadata", {}).get("genmed", {}):
                yield output


def store(notebook: nbformat.NotebookNode, place: Path) -> None:
    """Move the widgets out of a notebook that has just been run; its outputs keep their names.

    Names are counted, not drawn, so that the same widgets make the same file.
    """
    models = notebook.metadata.pop("widgets", {}).get(STATE, {}).get("state", {})
    text = json.dumps(models, sort_keys=False)
    new = {name: f"{number:032x}" for number, name in enumerate(models)}
    for name, number in new.items():
        text = text.replace(name, number)
    for output in shown(notebook):
        model = output["data"][VIEW]["model_id"]
        output["metadata"].setdefault("genmed", {})["widget"] = new[model]
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(compressed(code_sha256(notebook), json.loads(text)))


def compressed(code: str, models: dict[str, dict]) -> bytes:
    """A file of kept sliders: bytes as they are, for a text of them hides from LZMA how often each comes."""
    models, parts = copy.deepcopy(models), []
    for model in models.values():
        _leave_out(model)
        for buffer in model.get("buffers", []):
            parts.append(base64.b64decode(buffer.pop("data")))
            buffer["size"] = len(parts[-1])
            del buffer["encoding"]
    line = json.dumps({"code_sha256": code, "models": models}).encode()
    whole = b"\n".join([line + b" " * (len(line) % 2 == 0), b"".join(parts)])  # float16 begins at even places
    return min((lzma.compress(whole, filters=[FILTER | settings]) for settings in FOR_BYTES), key=len)


def _leave_out(model: dict) -> None:
    """Take out what genmed_core has: scripts, and our reader, which is the first of every pad's readings."""
    state = model["state"]
    if not _is_ours(state):
        return
    for key in SCRIPTS:
        state.pop(key, None)
    if _has_reader(state):
        state["readings"][0]["programs"] = []
        model["buffers"] = [b for b in model["buffers"] if b["path"] != READER]


def _bring_back(model: dict) -> None:
    """What `_leave_out` took, as genmed_core has it today."""
    state = model["state"]
    if not _is_ours(state):
        return
    state |= _scripts(state["_anywidget_id"])
    if _has_reader(state):
        from genmed_core.widgets import Reader

        (name, program), = Reader().programs.items()
        state["readings"][0]["programs"] = [[name, program.graph]]
        network = {"path": READER, "encoding": "base64", "data": base64.b64encode(program.weights).decode()}
        model["buffers"].insert(0, network)


def _has_reader(state: dict) -> bool:
    return any(reading["kind"] == "reader" for reading in state.get("readings", [])[:1])


def _is_ours(state: dict) -> bool:
    return state.get("_anywidget_id", "").startswith("genmed_core.")


def restore(notebook: nbformat.NotebookNode, place: Path) -> None:
    """Give a stored notebook its widgets back, as if it had just been run; nothing where none were kept."""
    if not place.exists():
        return
    for output in shown(notebook):
        output["data"][VIEW] = VERSION | {"model_id": output["metadata"]["genmed"]["widget"]}
        output["metadata"]["genmed"].pop("still", None)
    notebook.metadata["widgets"] = {STATE: VERSION | {"state": kept(place)}}


def kept(place: Path) -> dict[str, dict]:
    """The models of a file of kept sliders, by their names, with their scripts."""
    models = _read(place)["models"]
    for model in models.values():
        _bring_back(model)
    return models


def _read(place: Path) -> dict:
    """A file of kept sliders, its bytes in base64, as Jupyter has them."""
    line, _, parts = lzma.decompress(place.read_bytes()).partition(b"\n")
    file, at = json.loads(line), 0
    for model in file["models"].values():
        for buffer in model.get("buffers", []):
            size = buffer.pop("size")
            buffer |= {"encoding": "base64", "data": base64.b64encode(parts[at:at + size]).decode()}
            at += size
    return file


def page_with(text: str, folder: Path) -> nbformat.NotebookNode | None:
    """A page in Markdown as a notebook that shows chapters' widgets where `<!-- live CHAPTER CLASS -->` lines stand.

    None where none stand there, or where no chapter beside the page keeps such a widget.
    """
    asked = re.search(r"(<!-- live \w+ \w+ -->\n)+", text)
    wanted = re.findall(r"live (\w+) (\w+)", asked[0]) if asked else []
    found = [_first(path_for(folder / f"{chapter}.ipynb"), kind, place) for place, (chapter, kind) in enumerate(wanted)]
    found = [(name, models) for name, models in found if models]
    if not found:
        return None
    outputs = [nbformat.v4.new_output("display_data", {VIEW: VERSION | {"model_id": name}}) for name, _ in found]
    tags = {"tags": ["remove-input", "opening"]}
    cells = [nbformat.v4.new_markdown_cell(text[:asked.start()]),
             nbformat.v4.new_code_cell("...", outputs=outputs, metadata=tags),
             nbformat.v4.new_markdown_cell(text[asked.end():])]
    state = {STATE: VERSION | {"state": {name: model for _, models in found for name, model in models.items()}}}
    return nbformat.v4.new_notebook(cells=cells, metadata={
        "widgets": state, "mystnb": {"execution_mode": "off"}, "kernelspec": {"name": "python3", "display_name": ""},
        "language_info": {"name": "python"}})


def _first(place: Path, kind: str, number: int) -> tuple[str, dict[str, dict]]:
    """A chapter's first widget of a class, under a name of its own -> that name, and it and its layout, or nothing.

    It opens with two sliders, the others behind a fold, and with no picture to begin from.
    """
    models = kept(place) if place.exists() else {}
    name = next((n for n, m in models.items() if m["state"].get("_anywidget_id", "").endswith(f".{kind}")), None)
    if name is None:
        return "", {}
    model, layout = models[name], models[models[name]["state"]["layout"].removeprefix("IPY_MODEL_")]
    new, new_layout = f"{number:016x}{1:016x}", f"{number:016x}{0:016x}"
    model["state"] |= {"layout": f"IPY_MODEL_{new_layout}", "unfolded": 2}
    for buffer in model.get("buffers", []):
        if buffer["path"] == ["image"]:
            buffer["data"] = ""
    return new, {new_layout: layout, new: model}


def _scripts(name: str) -> dict[str, str]:
    """What draws a widget in the browser, by the name of its class."""
    module, _, kind = name.rpartition(".")
    widget = getattr(importlib.import_module(module), kind)
    return {key: str(getattr(widget, key)) for key in SCRIPTS if hasattr(widget, key)}


def problem(notebook: nbformat.NotebookNode, place: Path) -> str | None:
    """What is wrong with the kept sliders of a notebook, or None."""
    if not any(True for _ in shown(notebook)):
        return None
    if not place.exists():
        return f"has no kept sliders ({place.parent.name}/{place.name})"
    if _read(place)["code_sha256"] != code_sha256(notebook):
        return f"has other code than its kept sliders ({place.parent.name}/{place.name})"
    return None
