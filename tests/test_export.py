"""A widget as one HTML file: opened from disk with no network it draws, and it moves."""

import pytest
import torch
from torch import nn

import genmed_core  # noqa: F401  (before torch)
from genmed_core.widgets import Earth, FrameSlider, GridSlider, LatentExplorer, Pad, Posterior

sync_api = pytest.importorskip("playwright.sync_api")
widget_page = pytest.importorskip("widget_page")
KINDS = {
    "decoder": (lambda: LatentExplorer([nn.Linear(3, 16)], caption="</script> & co."), "canvas"),
    "frames": (lambda: FrameSlider(torch.rand(3, 8, 8)), "img"),
    "grid": (lambda: GridSlider(torch.rand(2, 2, 8, 8)), "img"),
    "posterior": (Posterior, ".genmed-posterior"),
    "earth": (Earth, ".genmed-heaps"),
    "pad": (Pad, ".genmed-reads b"),
}


def test_one_file_needs_no_network(tmp_path):
    with sync_api.sync_playwright() as driver:
        browser = widget_page.launch(driver)
        for kind, (make, drawn) in KINDS.items():
            page = browser.new_context(offline=True).new_page()
            page.set_default_timeout(60_000)
            trouble = []
            page.on("console", lambda m, to=trouble: to.append(m.text) if m.type in ("error", "warning") else None)
            page.on("pageerror", lambda error, to=trouble: to.append(str(error)))
            page.on("request", lambda r, to=trouble: to.append(r.url) if r.url.startswith("http") else None)
            page.goto(make().export(tmp_path / f"{kind}.html").as_uri())
            page.locator(drawn).first.wait_for(state="attached")
            if kind not in ("earth", "pad"):
                slider = page.get_by_role("slider").first
                before = slider.get_attribute("aria-valuetext")
                slider.press("ArrowRight")
                page.wait_for_timeout(60)
                assert slider.get_attribute("aria-valuetext") != before, kind
            assert trouble == [], kind
            page.context.close()
        browser.close()


def test_a_file_of_another_kind_is_refused(tmp_path):
    with pytest.raises(ValueError, match="does not end in .html"):
        Posterior().export(tmp_path / "page.txt")
