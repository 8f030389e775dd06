"""The sliders of a chapter that has been run, kept beside its notebook, so that a page has them without running it.

What a notebook's widgets hold (weights, frames, where the sliders stand) lies in figures/widgets/NAME.json.xz. Their
scripts are left out: they are taken from genmed_core when a page is made. The file knows the code that it was made by.
"""

import base64
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
    text = json.dumps({name: _without_scripts(model) for name, model in models.items()}, sort_keys=False)
    new = {name: f"{number:032x}" for number, name in enumerate(models)}
    for name, number in new.items():
        text = text.replace(name, number)
    for output in shown(notebook):
        model = output["data"][VIEW]["model_id"]
        output["metadata"].setdefault("genmed", {})["widget"] = new[model]
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(compressed({"code_sha256": code_sha256(notebook), "models": json.loads(text)}))


def compressed(file: dict) -> bytes:
    """A file of kept sliders, in the shorter of two forms.

    In hexadecimal, weights that two sliders share look alike wherever they begin; base64 hides that, and suits PNGs.
    """
    forms = []
    for encoding in ("base64", "hex"):
        for model in file["models"].values():
            _recode(model, encoding)
        forms.append(lzma.compress(f"{json.dumps(file)}\n".encode(), preset=9))
    return min(forms, key=len)


def _recode(model: dict, encoding: str) -> None:
    """Bring a model's bytes to "base64" or "hex"."""
    for buffer in model.get("buffers", []):
        read = {"base64": base64.b64decode, "hex": bytes.fromhex}[buffer["encoding"]](buffer["data"])
        buffer |= {"encoding": encoding, "data": read.hex() if encoding == "hex" else base64.b64encode(read).decode()}


def _without_scripts(model: dict) -> dict:
    state = {key: value for key, value in model["state"].items()
             if key not in SCRIPTS or not _is_ours(model["state"])}
    return dict(model) | {"state": state}


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
    models = json.loads(lzma.decompress(place.read_bytes()))["models"]
    for model in models.values():
        _recode(model, "base64")
        if _is_ours(model["state"]):
            model["state"] |= _scripts(model["state"]["_anywidget_id"])
    return models


def page_with(text: str, folder: Path) -> nbformat.NotebookNode | None:
    """A page in Markdown as a notebook that shows a chapter's widget where `<!-- live CHAPTER CLASS -->` stands.

    None where nothing stands there, or where the chapter beside the page keeps no such widget.
    """
    asked = re.search(r"<!-- live (\w+) (\w+) -->\n", text)
    place = path_for(folder / f"{asked[1]}.ipynb") if asked else None
    if place is None or not place.exists():
        return None
    models = kept(place)
    found = [name for name, model in models.items() if model["state"].get("_anywidget_id", "").endswith(f".{asked[2]}")]
    if not found:
        return None
    wanted = [found[0], models[found[0]]["state"]["layout"].removeprefix("IPY_MODEL_")]
    output = nbformat.v4.new_output("display_data", {VIEW: VERSION | {"model_id": found[0]}})
    cells = [nbformat.v4.new_markdown_cell(text[:asked.start()]),
             nbformat.v4.new_code_cell("...", outputs=[output], metadata={"tags": ["remove-input"]}),
             nbformat.v4.new_markdown_cell(text[asked.end():])]
    state = {STATE: VERSION | {"state": {name: models[name] for name in wanted}}}
    return nbformat.v4.new_notebook(cells=cells, metadata={
        "widgets": state, "mystnb": {"execution_mode": "off"}, "kernelspec": {"name": "python3", "display_name": ""},
        "language_info": {"name": "python"}})


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
    if json.loads(lzma.decompress(place.read_bytes()))["code_sha256"] != code_sha256(notebook):
        return f"has other code than its kept sliders ({place.parent.name}/{place.name})"
    return None
