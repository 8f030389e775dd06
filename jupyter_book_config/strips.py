"""A slider on paper: a strip of the pictures that it goes through, from what stored_widgets.py keeps of it.

Where the pictures are stored they are taken as they are; a decoder's network is run here, as the browser runs it.
Sliders of another kind (pads, laboratories, samplers) keep the one still picture that their notebook has.
"""

import base64
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import notebooks
import numpy as np
import stored_widgets
from PIL import Image

PAPER = 900  # px of pictures, as wide as on the screen, that go into one row
FEW = 4      # pictures where a row holds two
SHARP = 100  # px: a narrower picture is enlarged, or a reader of PDFs blurs its pixels


@dataclass(frozen=True)
class Stop:
    """A place of the slider: what it says there, and the pictures side by side, PNG."""

    text: str
    pictures: list[bytes]


def on_paper(notebook: nbformat.NotebookNode, place: Path) -> None:
    """Put a strip where a notebook has the still picture of a slider; nothing where none was kept.

    place: of the kept sliders, as stored_widgets.path_for has it.
    """
    models = stored_widgets.kept(place) if place.exists() else {}
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            model = models.get(output.get("metadata", {}).get("genmed", {}).get("widget"))
            if model and notebooks.is_still(output) and (strip := of_model(model)):
                output["data"] = {"text/html": strip}


def of_model(model: dict[str, Any]) -> str | None:
    """The strip of a kept slider as HTML, or None for a kind that has none."""
    state = model["state"]
    kind = {"frames": frame_stops, "decoder": decoder_stops}.get(state.get("view", ""))
    if kind is None:
        return None
    moved = longest(state["sliders"]) if kind is frame_stops else 0
    row = max(2, min(5, PAPER // (state["width"] * state.get("columns", 1))))
    values = stops(state["sliders"][moved], row if row > 2 else FEW)
    buffers = {tuple(buffer["path"]): base64.b64decode(buffer["data"]) for buffer in model["buffers"]}
    return as_html(kind(state, buffers, moved, values), row, below(state, moved))


def longest(sliders: Sequence[dict]) -> int:
    """The slider with the most places."""
    return max(range(len(sliders)), key=lambda k: sliders[k]["high"] - sliders[k]["low"])


def stops(slider: dict, most: int) -> list[float]:
    """Places from one end to the other, evenly spaced, on the slider's own steps."""
    steps = round((slider["high"] - slider["low"]) / slider["step"])
    places = np.linspace(0, steps, min(most, steps + 1)).round()
    return [slider["low"] + slider["step"] * place for place in places]


def says(slider: dict, value: float) -> str:
    """What a slider says at a value."""
    said = slider["labels"][round(value)] if slider["labels"] else f"{value:.{slider['digits']}f}"
    return f"{slider['name']} = {said}"


def below(state: dict, moved: int) -> str:
    """The words under a strip: where the other sliders stand, what stands side by side, the caption."""
    others = [says(slider, value) for k, (slider, value) in enumerate(zip(state["sliders"], state["values"]))
              if k != moved]
    sides = f"side by side: {', '.join(state['captions'])}" if state.get("captions") else ""
    return "; ".join(filter(None, [", ".join(others), sides, state["caption"]]))


def frame_stops(state: dict, buffers: dict, moved: int, values: Sequence[float]) -> list[Stop]:
    """Stops of a slider over stored pictures; the other sliders stand where they stood."""
    found = []
    for value in values:
        index = 0
        for k, (slider, other) in enumerate(zip(state["sliders"], state["values"])):
            index = index * len(slider["labels"]) + round(value if k == moved else other)
        shown = state["order"][index * state["columns"]:(index + 1) * state["columns"]]
        found.append(Stop(says(state["sliders"][moved], value), [sharp(buffers["frames", k]) for k in shown]))
    return found


def decoder_stops(state: dict, buffers: dict, moved: int, values: Sequence[float]) -> list[Stop]:
    """Stops of a slider of a decoder: its network is run on the codes."""
    from genmed_core.widgets.compile import Program  # before torch: it sets how threads wait

    import torch  # isort: skip

    program, slider = Program(state["graph"], buffers["weights",]), state["sliders"][moved]
    settings = [[value if k == moved else other for k, other in enumerate(state["values"])] for value in values]
    codes = torch.tensor([code(state, setting) for setting in settings])
    pictures = (255 * program.run(z=codes)[0].clamp(0, 1)).round().byte().numpy()
    return [Stop(says(slider, value), [sharp(as_png(picture))]) for value, picture in zip(values, pictures)]


def code(state: dict, setting: Sequence[float]) -> list[float]:
    """What the decoder takes where its sliders stand so: the code, and what the label adds to it."""
    z = list(state["base"])
    for dim, value in zip(state["dims"], setting[len(setting) - len(state["dims"]):]):
        z[dim] = value
    if not state["embedding"]:
        return z
    label = state["embedding"][round(setting[0])]
    return [a + b for a, b in zip(z, label)] if state["how"] == "add" else z + label


def as_png(picture: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    return file.getvalue()


def sharp(png: bytes) -> bytes:
    """A picture whose pixels stay squares on paper."""
    picture = Image.open(io.BytesIO(png))
    if picture.width >= SHARP:
        return png
    return as_png(np.asarray(picture.convert("RGB" if picture.mode == "P" else picture.mode)).repeat(4, 0).repeat(4, 1))


def as_html(found: Sequence[Stop], row: int, words: str) -> str:
    """A strip: `row` stops beside each other, each with what the slider says there, and the words below."""
    figures = []
    for stop in found:
        alt = html.escape(f"The slider's picture at {stop.text}")
        pictures = "".join(f'<img alt="{alt}" src="data:image/png;base64,{base64.b64encode(png).decode()}">'
                           for png in stop.pictures)
        figures.append(f"<figure><div>{pictures}</div><figcaption>{html.escape(stop.text)}</figcaption></figure>")
    last = f"<p>{html.escape(words)}</p>" if words else ""
    return f'<div class="strip" style="--row: {row}"><div>{"".join(figures)}</div>{last}</div>'
