"""The whole book's pages in a real browser, from stored outputs and kept sliders.

The chapters are left out when these tests begin after GENMED_SITE_UNTIL, in seconds since 1970: on a slow machine CI
would run out of time.
"""

import base64
import os
import re
import time

import numpy as np
import pytest
import site_pages
import torch
from site_pages import PATIENCE, ROOT, build, canvas, check_content, check_phone, serve, skip_loudly

from genmed_core.widgets import Program

CHAPTERS = sorted(path.stem for path in (ROOT / "chapters").glob("[0-9][0-9]_*.ipynb"))
PAGES = ["capstone", "genindex", "search", *sorted(path.stem for path in (ROOT / "chapters").glob("*.md"))]
axe, chromium = site_pages.axe, site_pages.chromium
pytestmark = pytest.mark.skipif(not CHAPTERS, reason="no chapter is built yet: run `make notebooks`")

# A page has ten thousand coloured words of code in a few dozen colours, whose contrast was most of axe's work:
# of words alike in tag and class, their own and those of all around them, the contrast of the first is read.
ALIKE = """() => {
    const seen = new Set();
    for (const word of document.querySelectorAll(".highlight span, .sig span")) {
        let kind = "";
        for (let e = word; e; e = e.parentElement) kind += `${e.tagName}.${e.className} `;
        word.toggleAttribute("data-alike", seen.has(kind));
        seen.add(kind);
    }
    axe.configure({ rules: [{ id: "color-contrast", selector: "*:not([data-alike])" }] });
}"""


@pytest.fixture(scope="module")
def book_pages():
    if time.time() > float(os.environ.get("GENMED_SITE_UNTIL", "inf")):
        skip_loudly("real chapters are left out: on this machine the tests before took too long (GENMED_SITE_UNTIL)")
    return build(ROOT / "_build" / "test")


@pytest.fixture(scope="module")
def book(book_pages, chromium):
    yield from serve(book_pages, chromium)


@pytest.fixture(scope="module")
def opened(book, request):
    """A chapter's name, its page, and what went wrong on opening it: once for all tests that use it in turn."""
    book.trouble.clear()
    page = book.open(f"{request.param}.html")
    yield request.param, page, list(book.trouble)
    page.context.close()


@pytest.fixture
def chapter(book, opened):
    """A chapter's name and its page, calm in the end; another test's trouble on the same page does not count here."""
    name, page, trouble = opened
    book.trouble[:] = trouble
    yield name, page
    page.evaluate("0")  # lets in what the browser has said by now
    assert not book.trouble, "\n".join(book.trouble)


# Those that take `chapter` find the page as those above left it: the pictures are compared before a slider is moved.
each_chapter = pytest.mark.parametrize("opened", CHAPTERS, indirect=True)


@pytest.mark.parametrize("opened", [*CHAPTERS, "intro"], indirect=True)
def test_page(chapter):
    check_content(chapter[1], formulas=True)


@pytest.mark.parametrize("name", ["intro", *CHAPTERS])
def test_page_on_a_phone(book, name):
    check_phone(book, f"{name}.html")


@pytest.mark.parametrize("name", ["intro", *CHAPTERS])
def test_a_page_is_light(book_pages, name):
    """Sliders, their networks and their pictures included."""
    assert (book_pages / f"{name}.html").stat().st_size < 3_000_000


@pytest.mark.parametrize("name", ["intro", *CHAPTERS])
def test_the_first_slider_comes_before_most_of_its_page(book, name):
    """What has come by then takes less than four seconds at 9 Mbit/s.

    It is counted at a third of that, so that even a busy machine waits for the network and not the other way round.
    """
    _, _, size = book.first_slider(f"{name}.html", megabits=3)
    assert 8 * size / 9e6 < 4


def program_of(model):
    """The decoder that a page carries, back from its bytes."""
    state = model["state"]
    data = next(buffer["data"] for buffer in model["buffers"] if buffer["path"] == ["weights"])
    return Program(state["graph"], base64.b64decode(data)), state


@pytest.mark.parametrize("name", [*CHAPTERS, *PAGES])
def test_pages_have_no_serious_fault(book, axe, name):
    """Whole pages by axe-core; of a chapter in the dark the panels, whose colours alone are the chapter's own."""
    page = book.open(f"{name}.html", color_scheme="light", reduced_motion="reduce")
    page.add_script_tag(content=axe)
    page.evaluate(ALIKE)
    page.add_style_tag(content="*, ::before, ::after { transition: none !important }")  # else colours take a moment
    serious = []
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        page.wait_for_function("scheme => document.documentElement.dataset.theme === scheme", arg=scheme)
        where = {"include": [".genmed-panel"]} if scheme == "dark" and name in CHAPTERS else {"include": ["html"]}
        found = page.evaluate("where => axe.run(where, { resultTypes: ['violations'] })", where)
        serious += [f"{scheme}, {fault['id']}: {node['html'][:200]}" for fault in found["violations"]
                    for node in fault["nodes"] if fault["impact"] in ("serious", "critical")]
    page.context.close()
    assert not serious, "\n".join(serious)


@each_chapter
def test_decoded_pictures_equal_the_trained_decoder(book, chapter):
    name, page = chapter
    models = book.widget_state(f"{name}.html").values()
    decoders = [program_of(model) for model in models if model["state"].get("view") == "decoder"]
    if not decoders:
        pytest.skip("no decoder runs on this page")
    shown = [canvas(page, k) for k in range(page.locator("canvas[data-ms]").count())]
    wanted = []
    for program, state in decoders:
        z = torch.tensor(state["base"])
        z[state["dims"]] = torch.tensor(state["values"][-len(state["dims"]):])
        if state["embedding"]:
            e = torch.tensor(state["embedding"])[state["values"][0]]
            z = z + e if state["how"] == "add" else torch.cat([z, e])
        wanted.append(255 * program.run(z=z[None])[0][0].numpy())
    for k, picture in enumerate(shown):
        off = min(np.abs(picture - w).max() for w in wanted if w.shape == picture.shape)
        assert off <= 1.6, f"picture {k} is {off:.1f} grey levels from what the decoder makes"


@each_chapter
def test_every_question_answers_on_the_page(chapter):
    """Predictions and choices, with no kernel: a number typed, a letter pressed."""
    questions = chapter[1].locator(".genmed-question")
    assert questions.count() >= 2
    for k in range(questions.count()):
        question = questions.nth(k)
        if question.get_by_role("textbox").count():
            question.get_by_role("textbox").fill("-123456")
        question.get_by_role("button").last.click()
        assert re.match(r"[✓✗] \d+\.\d+ is ", question.get_by_role("status").inner_text())


@each_chapter
def test_every_slider_moves_its_picture(book, chapter):
    """Each panel's last slider, by keyboard; a diffusion model's seed."""
    name, page = chapter
    models = book.widget_state(f"{name}.html").values()
    pictures = [model for model in models if model["state"].get("view")]
    panels = page.locator(".genmed-panel:has(input[type=range])")
    assert panels.count() >= 1, "a chapter without a slider"
    assert panels.count() <= len(pictures)
    for k in range(panels.count()):
        seed = panels.nth(k).get_by_role("slider", name="seed", exact=True)
        (seed if seed.count() else panels.nth(k).locator("input[type=range]").last).focus()
        shown = """(p) => [...p.querySelectorAll("canvas, img, svg")].map(
            (e) => e.toDataURL?.() ?? e.src ?? e.outerHTML).join()"""
        seen = {panels.nth(k).evaluate(shown)}
        for key in ("Home", "ArrowRight", "ArrowRight", "End"):
            page.keyboard.press(key)
            page.wait_for_timeout(250)
            seen.add(panels.nth(k).evaluate(shown))
        for _ in range(PATIENCE // 500):  # a network may have to arrive and run before there is a picture
            if len(seen) >= 2:
                break
            page.wait_for_timeout(500)
            seen.add(panels.nth(k).evaluate(shown))
        assert len(seen) >= 2, f"panel {k} of {name} does not move"


NOTHING_DRAWN = "The page is empty: draw a digit, or take a ready one."  # of pad.js


@each_chapter
def test_every_pad_answers_to_a_digit(chapter):
    """All networks of a pad run on the built page: what they say changes from one ready digit to another."""
    page = chapter[1]
    pads = page.locator(".genmed-panel:has(.genmed-desk)")
    if not pads.count():
        pytest.skip("no pad on this page")
    for k in range(pads.count()):
        pad, said = pads.nth(k), [NOTHING_DRAWN]
        pad.scroll_into_view_if_needed()
        for digit in (1, 7):
            pad.locator(".genmed-desk select").select_option(index=1 + digit)
            for _ in range(PATIENCE // 200):
                words = pad.locator(".genmed-note[role=status]").inner_text()
                if words and words not in said:
                    break
                page.wait_for_timeout(200)
            said.append(words)
        assert len(set(said)) == 3, said
        assert not [words for words in said if "do not run" in words], said
