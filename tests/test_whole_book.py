"""The whole book's pages in a real browser, from stored outputs and kept sliders.

What is asked of each page by itself, on a phone and on a slow line, is at the end of test_book.py, for two workers.
"""

import base64
import re

import numpy as np
import pytest
import site_pages
import torch
from site_pages import CHAPTERS, PATIENCE, ROOT, canvas, check_content, needs_chapters

from genmed_core.widgets import Program

PAGES = ["capstone", "genindex", "search", *sorted(path.stem for path in (ROOT / "chapters").glob("*.md"))]
axe, book, book_pages, chromium = site_pages.axe, site_pages.book, site_pages.book_pages, site_pages.chromium
pytestmark = needs_chapters

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


def faults(page, axe, dark):
    """What axe-core finds serious on an open page in both colour schemes, of `dark` in the dark; put back as it was."""
    page.emulate_media(color_scheme="light", reduced_motion="reduce")
    page.add_script_tag(content=axe)
    page.evaluate(ALIKE)
    at_once = page.add_style_tag(content="*, ::before, ::after { transition: none !important }")  # not after a moment
    serious = []
    for scheme, where in (("light", "html"), ("dark", dark)):
        page.emulate_media(color_scheme=scheme)
        page.wait_for_function("scheme => document.documentElement.dataset.theme === scheme", arg=scheme)
        found = page.evaluate("where => axe.run(where, { resultTypes: ['violations'] })", {"include": [where]})
        serious += [f"{scheme}, {fault['id']}: {node['html'][:200]}" for fault in found["violations"]
                    for node in fault["nodes"] if fault["impact"] in ("serious", "critical")]
    at_once.evaluate("(style) => style.remove()")
    page.emulate_media(color_scheme="null", reduced_motion="null")
    return serious


@each_chapter
def test_chapters_have_no_serious_fault(book, axe, chapter):
    """Whole pages by axe-core; in the dark the panels, whose colours alone are the chapter's own."""
    serious = faults(chapter[1], axe, dark=".genmed-panel")
    book.trouble.clear()  # axe asks for style sheets where there are none
    assert not serious, "\n".join(serious)


def program_of(model):
    """The decoder that a page carries, back from its bytes."""
    state = model["state"]
    data = next(buffer["data"] for buffer in model["buffers"] if buffer["path"] == ["weights"])
    return Program(state["graph"], base64.b64decode(data)), state


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


@pytest.mark.parametrize("name", PAGES)
def test_pages_have_no_serious_fault(book, axe, name):
    page = book.open(f"{name}.html", color_scheme="light", reduced_motion="reduce")
    serious = faults(page, axe, dark="html")
    page.context.close()
    assert not serious, "\n".join(serious)
