"""The probe: each pixel of its maps tells its numbers, under the pointer, by its sliders, and in Python."""

import numpy as np
import pytest
import torch

from genmed_core.widgets import Probe

pytest.importorskip("playwright.sync_api")
widget_page = pytest.importorskip("widget_page")


def probe():
    chance = torch.arange(12.0).view(3, 4) / 12
    return Probe({"chance": chance, "nats": -chance.clamp(min=0.1).log()}, start=(1, 2), width=80)


def test_a_pixel_tells_what_each_map_says_there():
    panel = probe()
    assert panel.at() == {"chance": 0.5, "nats": 0.693}
    assert panel.describe() == "Row 1, column 2: chance 0.5, nats 0.693"
    assert panel.show(-1, 0) == {"chance": 0.667, "nats": 0.405} and panel.values == [2, 0]
    with pytest.raises(IndexError, match="row has 3 places"):
        panel.show(3, 0)


def test_a_still_has_the_maps_in_grey_and_the_pixel_marked():
    chance, nats = probe().pictures()
    assert chance.shape == nats.shape == (3, 4, 3) and tuple(chance[1, 2]) == (255, 140, 26)
    assert (chance[2, 3] == round(255 * 0.917)).all(), "numbers up to 1 are drawn on the scale 0 to 1"
    assert (nats[0, 0] == 255).all(), "larger ones up to the largest"


@pytest.mark.parametrize("maps, message", [
    ({}, "one map or more"), ({"a": np.zeros((2, 2)), "b": np.zeros((2, 3))}, "all of one size"),
    ({"a": np.zeros((1, 2, 2))}, "take one image of a batch"), ({"a": np.full((2, 2), -1.0)}, "numbers below 0"),
    ({"a": np.full((2, 2), np.nan)}, "NaN")])
def test_what_cannot_be_probed_is_refused_with_a_remedy(maps, message):
    with pytest.raises(ValueError, match=message):
        Probe(maps)


GREY = "() => [...document.querySelector('canvas').getContext('2d').getImageData(50, 50, 1, 1).data]"


def test_pointer_and_arrow_keys_ask_in_the_browser_what_python_says(browser, tmp_path):
    panel = probe()
    page = widget_page.show(browser, tmp_path / "page.html", panel)

    def says(words):
        page.wait_for_function("(words) => document.querySelector('.genmed-says').textContent === words", arg=words)

    says(panel.describe())
    box = page.locator("canvas").nth(1).bounding_box()
    page.mouse.move(box["x"] + box["width"] * 3.5 / 4, box["y"] + box["height"] * 0.5 / 3)
    panel.show(0, 3)
    says(panel.describe())
    page.get_by_role("slider", name="row").press("ArrowRight")
    panel.show(1, 3)
    says(panel.describe())
    assert page.evaluate(GREY)[:3] == probe().pictures()[0][2, 2].tolist(), "the same greys as in Python"
    assert not page.trouble
