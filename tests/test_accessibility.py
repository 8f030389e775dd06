"""Every button and slider has a name, and a slider says its value in words: as Chromium tells a screen reader.

The panels stand alone here (widget_page.py); test_whole_book.py asks the same of the built pages.
"""

import io

import numpy as np
import pytest
import torch
import widget_page
from PIL import Image
from torch import nn

import genmed_core  # noqa: F401  (before torch)
from genmed_core.widgets import FrameSlider, GridSlider, LatentExplorer

DISEASES = ["COVID", "Lung Opacity", "Normal", "Viral Pneumonia"]
ROLES = ("button", "slider", "checkbox", "textbox", "combobox", "spinbutton", "menuitem", "switch")

ELEMENTS = "button, input, select, textarea, summary, [role], [contenteditable]"  # no other can have such a role


def decoder(inputs=4):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(inputs, 20), nn.Tanh(), nn.Linear(20, 64))


def controls(page):
    """(role, name, value in words) of every control on the page, in its order.

    Names are those that Chromium computes. Its tree gives a native slider's number, while a screen reader is told
    aria-valuetext, which is read from the element. It is asked for the controls alone: a chapter's whole tree, with
    every coloured word of its code, takes seconds to come.
    """
    session = page.context.new_cdp_session(page)
    listed = session.send("Runtime.evaluate", {"expression": f"[...document.querySelectorAll('{ELEMENTS}')]"})
    held = session.send("Runtime.getProperties", {"objectId": listed["result"]["objectId"], "ownProperties": True})
    elements = [one["value"]["objectId"] for one in held["result"] if one["name"].isdigit()]
    words = page.evaluate("(all) => [...document.querySelectorAll(all)].map((e) => e.getAttribute('aria-valuetext'))",
                          ELEMENTS)
    found = []
    for element, said in zip(elements, words, strict=True):
        tree = session.send("Accessibility.getPartialAXTree", {"objectId": element, "fetchRelatives": False})
        node = tree["nodes"][0]
        role = node.get("role", {}).get("value")
        if not node.get("ignored") and role in ROLES:
            found.append((role, node.get("name", {}).get("value", ""), said))
    return found


def check_named(page):
    """No control without a name, no slider without words; returns the controls."""
    found = controls(page)
    assert found, "no control on the page"
    for role, name, value in found:
        assert name.strip(), f"a {role} has no name"
        assert role != "slider" or (value or "").strip(), f"the slider {name} does not say where it stands"
    return found


@pytest.fixture
def page(browser, tmp_path):
    """One panel of each kind."""
    page = widget_page.show(
        browser, tmp_path / "page.html",
        LatentExplorer(decoder(4 + len(DISEASES)), class_names=DISEASES, caption="A decoder"),
        FrameSlider(torch.rand(4, 8, 8), labels=DISEASES, description="class", captions=["film"], interval=120),
        GridSlider(torch.rand(2, 3, 8, 8), descriptions=("style", "digit")))
    yield page
    assert not page.trouble, "\n".join(page.trouble)
    page.context.close()


def test_every_control_has_a_name_and_says_its_value(page):
    found = check_named(page)
    names = [name for _, name, _ in found]
    assert names == ["class", "z[0]", "z[1]", "z[2]", "z[3]", "Randomise", "Reset", "Copy link",
                     "class", "Play", "Reset", "Copy link", "style", "digit", "Reset", "Copy link"]
    assert [value for role, _, value in found if role == "slider"][:2] == ["COVID", "0.00"]


def test_a_frame_slider_announces_the_label_not_its_index(page):
    slider = page.get_by_role("slider", name="class").nth(1)
    slider.focus()
    for disease in DISEASES[1:]:
        page.keyboard.press("ArrowRight")
        page.wait_for_function("(k) => models[1].get('values')[0] === k", arg=DISEASES.index(disease))
        page.wait_for_timeout(60)
        assert controls(page)[8] == ("slider", "class", disease)
        assert page.get_by_role("img", name=f"film, class {disease}").count() == 1


def test_play_moves_to_the_end_and_says_what_it_will_do(page):
    page.get_by_role("button", name="Play").click()
    assert page.get_by_role("button", name="Pause").count() == 1
    page.wait_for_function("() => models[1].get('values')[0] === 3")
    page.wait_for_function("() => [...document.querySelectorAll('button')].some((b) => b.textContent === 'Play')")
    page.get_by_role("button", name="Play").click()  # at the end: once more from the beginning
    page.wait_for_function("() => models[1].get('values')[0] === 1")
    page.get_by_role("button", name="Pause").click()
    stood = page.evaluate("() => models[1].get('values')[0]")
    page.wait_for_timeout(150)
    assert page.evaluate("() => models[1].get('values')[0]") == stood


def test_every_slider_is_reached_by_tab(page):
    page.evaluate("() => document.activeElement.blur()")
    reached = set()
    for _ in range(16):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("() => document.activeElement.tagName + document.activeElement.id"))
    assert len([name for name in reached if name.startswith("INPUT")]) == 8


@pytest.mark.parametrize("width", [390, 1280])
def test_tracks_are_wide_and_nothing_is_pushed_sideways(browser, tmp_path, width):
    wide = FrameSlider(torch.rand(4, 40, 90), labels=DISEASES, description="guidance w", width=460)
    page = widget_page.show(browser, tmp_path / "page.html", wide, LatentExplorer(decoder(10)),
                            viewport={"width": width, "height": 800})
    tracks = page.locator("input").evaluate_all("(all) => all.map((e) => e.getBoundingClientRect().width)")
    assert min(tracks) >= 90, f"a track of {min(tracks)} px"
    scrolls = page.locator(".genmed-panel *").evaluate_all(
        """(all) => all.filter((e) => e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).overflowX !== "visible")
                       .map((e) => e.className)""")
    assert not scrolls, f"scrollbars in {scrolls}"
    assert page.evaluate("() => document.documentElement.scrollWidth") <= width
    page.context.close()


def test_forced_colours_keep_the_tracks(browser, tmp_path):
    """Native sliders are drawn in the reader's own colours: dark track and light ground differ."""
    page = widget_page.show(browser, tmp_path / "page.html", LatentExplorer(decoder()), forced_colors="active")
    style = page.locator("input").first.evaluate("(e) => [getComputedStyle(e).appearance, e.offsetHeight]")
    assert style[0] != "none" and style[1] >= 16
    greys = np.array(Image.open(io.BytesIO(page.locator("input").first.screenshot())).convert("L"), int)
    left_of_knob = greys[:, 10:40]
    assert np.ptp(left_of_knob) > 60, "the track does not differ from its ground"
    page.context.close()


def test_a_second_view_resets_to_the_start(browser, tmp_path):
    explorer = LatentExplorer(decoder(), z0=[0.5, 1.0, -0.5, 2.0])
    page = widget_page.show(browser, tmp_path / "page.html", explorer)
    page.get_by_role("button", name="Randomise").click()
    assert page.evaluate("() => models[0].get('values')") != [0.5, 1.0, -0.5, 2.0]
    page.evaluate("() => window.display(0)")
    page.get_by_role("button", name="Reset").nth(1).click()
    assert page.evaluate("() => models[0].get('values')") == [0.5, 1.0, -0.5, 2.0]
    page.wait_for_timeout(60)
    assert page.locator(".genmed-readout").all_inner_texts() == ["0.50", "1.00", "-0.50", "2.00"] * 2
    page.context.close()
