"""`make assets`: every figure with its caption, every slider as a page that moves from the disk, a deck of them."""

import re
import sys
from pathlib import Path

import nbformat
import pytest

sync_api = pytest.importorskip("playwright.sync_api")
widget_page = pytest.importorskip("widget_page")
ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "jupyter_book_config"))
import assets  # noqa: E402

CHAPTER = ROOT / "chapters" / "02_vae.ipynb"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return assets.make(CHAPTER, tmp_path_factory.mktemp("assets"))


def test_the_deck_has_every_section_figure_and_slider_and_no_solution(place):
    deck, source = (place / "slides.md").read_text(encoding="utf-8"), CHAPTER.with_suffix(".py").read_text("utf-8")
    figures = set(re.findall(r"^# \*\*Figure (2\.\d+)\.\*\*", source, re.M))
    assert set(re.findall(r"^Figure (2\.\d+)\. ", deck, re.M)) == figures
    assert {path.stem.removeprefix("figure_") for path in place.glob("figure_*.txt")} == figures
    for heading in set(re.findall(r"^# ## (.+)$", source, re.M)) - assets.WITHOUT:
        assert f"\n## {heading.strip()}\n" in deck
    files = re.findall(r"\]\(((?:figure|picture|slider)_[\w.]+)\)", deck)
    assert len([file for file in files if file.endswith(".html")]) == len(list(place.glob("slider_*.html"))) >= 2
    assert {path.name for path in place.iterdir()} == {*files, "slides.md", *(p.name for p in place.glob("*.txt"))}
    assert "\\tag{2.1}" in deck and "<details" not in deck and "olution 2." not in deck
    slides = deck.removeprefix(assets.HEAD).split("\n\n---\n\n")
    assert all(slide.startswith("## ") for slide in slides) and slides[0].startswith("## 2. The variational")


def test_a_caption_says_what_the_figure_shows_in_words(place):
    notebook = nbformat.read(CHAPTER, as_version=4)
    alts = {cell.metadata["mystnb"]["image"]["alt"] for cell in notebook.cells if "mystnb" in cell.metadata}
    for path in place.glob("figure_*.txt"):
        caption, _, words = path.read_text(encoding="utf-8").partition("\n\nIn words: ")
        assert caption.startswith(f"Figure {path.stem.removeprefix('figure_')}. ") and words.strip() in alts


def test_every_slider_moves_from_the_disk_without_a_network(place):
    with sync_api.sync_playwright() as driver:
        browser, moved = widget_page.launch(driver), 0
        for file in place.glob("slider_*.html"):
            page, trouble = browser.new_context(offline=True).new_page(), []
            page.on("pageerror", lambda error, to=trouble: to.append(str(error)))
            page.goto(file.as_uri())
            page.locator("main *").first.wait_for(state="attached", timeout=60_000)
            slider = page.get_by_role("slider").first
            if slider.count():  # a pad has none
                before = slider.get_attribute("aria-valuetext")
                slider.press("ArrowRight")
                page.wait_for_timeout(100)
                moved += slider.get_attribute("aria-valuetext") != before
            assert not trouble and page.locator("main").inner_text(), file.name
            page.context.close()
        browser.close()
    assert moved >= 3


def test_a_course_names_the_notebooks_whose_assets_are_made(tmp_path, monkeypatch):
    own, made = tmp_path / "flow.ipynb", []
    own.write_bytes(CHAPTER.read_bytes())
    (tmp_path / "mine.yml").write_text("contents: [{part: A, pages: [08_ddpm, flow.ipynb, measuring, 02_vae]}]")
    monkeypatch.setattr(assets, "make", lambda path: made.append(path) or assets.OUT / path.stem)
    for more in ([], ["2", "flow"]):
        monkeypatch.setattr(sys, "argv", ["assets.py", *more, "--course", str(tmp_path / "mine.yml")])
        assets.main()
    assert made == [CHAPTER.with_name("08_ddpm.ipynb"), own, CHAPTER, own, CHAPTER]
    monkeypatch.setattr(sys, "argv", ["assets.py", "--course", str(tmp_path / "none.yml")])
    with pytest.raises(SystemExit, match="none.yml is not there"):
        assets.main()
