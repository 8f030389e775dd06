"""Sliders on paper: strips of pictures in place of stills, from what a notebook keeps of them."""

import base64
import io
import re
import sys
from pathlib import Path

import nbformat.v4 as nb
import numpy as np
import pytest
import torch
from bs4 import BeautifulSoup
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "jupyter_book_config"))
import stored_widgets  # noqa: E402
import strips  # noqa: E402

from genmed_core.widgets import FrameSlider, GridSlider, LatentExplorer, Posterior  # noqa: E402


def kept(widget):
    """A widget as a file of kept sliders has it."""
    state, buffers = widget.get_state(), []
    if "weights" in state:
        buffers.append((["weights"], state.pop("weights")))
    if "frames" in state:
        buffers += [(["frames", k], png) for k, png in enumerate(state.pop("frames"))]
    return {"state": state, "buffers": [{"path": path, "encoding": "base64", "data": base64.b64encode(data).decode()}
                                        for path, data in buffers]}


def stops_of(widget):
    """What a strip says at each of its stops, and the pictures there, as arrays."""
    page = BeautifulSoup(strips.of_model(kept(widget)), "html.parser")
    said, shown = [], []
    for figure in page.select("figure"):
        said.append(figure.figcaption.text)
        shown.append([np.array(Image.open(io.BytesIO(base64.b64decode(image["src"].split(",")[1]))))
                      for image in figure.select("img")])
    return said, shown, page.select_one(".strip > p")


def test_a_slider_over_pictures_shows_its_ends_and_what_lies_between():
    frames = [[np.full((120, 120), k, np.uint8), np.full((120, 120), 200 + k, np.uint8)] for k in range(21)]
    slider = FrameSlider(frames, labels=range(0, 2100, 100), description="t", captions=["walked", "jumped"],
                         caption="synthetic <twice>")
    said, shown, words = stops_of(slider)
    assert said == ["t = 0", "t = 700", "t = 1300", "t = 2000"]
    assert [[picture[0, 0] for picture in pair] for pair in shown] == [[0, 200], [7, 207], [13, 213], [20, 220]]
    assert words.text == "side by side: walked, jumped; synthetic <twice>"


def test_of_two_sliders_the_longer_moves_and_the_other_is_said():
    table = [[np.full((120, 120), 10 * row + column, np.uint8) for column in range(3)] for row in range(2)]
    said, shown, words = stops_of(GridSlider(table, rows=["plain", "bold"], columns="abc", start=(1, 0),
                                             descriptions=("style", "letter")))
    assert said == ["letter = a", "letter = b", "letter = c"] and words.text == "style = bold"
    assert [picture[0][0, 0] for picture in shown] == [10, 11, 12]


@pytest.mark.parametrize("join", [None, "add", "concat"])
def test_a_decoder_is_run_as_its_explorer_runs_it(join):
    generator = torch.Generator().manual_seed(0)
    labels = None if join is None else torch.randn(3, 2, generator=generator)
    decoder = torch.nn.Sequential(torch.nn.Linear(4 if join == "concat" else 2, 784), torch.nn.Sigmoid())
    explorer = LatentExplorer(decoder, z0=[0.5, -1.0], embedding=labels, join=join, label=1 if join else 0)
    said, shown, _ = stops_of(explorer)
    if join is None:
        assert said == [f"z[0] = {z:.2f}" for z in (-3, -1.5, 0, 1.5, 3)]
        wanted = [explorer.decode([z, -1.0]) for z in (-3, -1.5, 0, 1.5, 3)]
    else:
        assert said == ["class = 0", "class = 1", "class = 2"]
        wanted = [explorer.decode(y=y) for y in range(3)]
    for (picture,), right in zip(shown, wanted, strict=True):
        assert picture.shape == (112, 112), "small pictures are enlarged, or paper blurs them"
        assert np.array_equal(picture[::4, ::4], (255 * right).round().byte().numpy())


def test_stills_of_other_kinds_stay_and_so_does_what_was_never_kept(tmp_path):
    assert strips.of_model(kept(Posterior())) is None
    data = {"image/png": "still", "text/plain": "A slider."}
    still = nb.new_output("display_data", data, metadata={"genmed": {"still": True, "widget": "0" * 32}})
    notebook = nb.new_notebook(cells=[nb.new_code_cell("slider", outputs=[still])])
    strips.on_paper(notebook, tmp_path / "not_there.json.xz")
    assert notebook.cells[0].outputs[0].data == data


def test_a_strip_takes_the_stills_place(tmp_path):
    widget = FrameSlider([np.full((120, 120), k, np.uint8) for k in range(3)], description="step")
    model = kept(widget)
    model["model_name"], model["state"]["layout"] = "AnyModel", ""
    output = nb.new_output("display_data", {stored_widgets.VIEW: {"model_id": "a" * 32}, "image/png": "still"},
                           metadata={"genmed": {"still": True}})
    notebook = nb.new_notebook(cells=[nb.new_code_cell("widget", outputs=[output])])
    notebook.metadata["widgets"] = {stored_widgets.STATE: {"state": {"a" * 32: model}}}
    stored_widgets.store(notebook, tmp_path / "w.json.xz")
    strips.on_paper(notebook, tmp_path / "w.json.xz")
    (data,) = (cell.outputs[0].data for cell in notebook.cells)
    assert list(data) == ["text/html"] and re.findall(r"<figcaption>(.+?)<", data["text/html"]) == [
        "step = 0", "step = 1", "step = 2"]
