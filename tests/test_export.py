"""A widget as one file: a page that draws and moves from disk with no network, a module that MyST's directive shows."""

import pytest
import torch
from torch import nn

import genmed_core  # noqa: F401  (before torch)
from genmed_core.widgets import Earth, FrameSlider, GridSlider, Laboratory, LatentExplorer, Pad, Posterior

sync_api = pytest.importorskip("playwright.sync_api")
widget_page = pytest.importorskip("widget_page")
KINDS = {
    "decoder": (lambda: LatentExplorer([nn.Linear(3, 16)], caption="</script> & co."), "canvas"),
    "frames": (lambda: FrameSlider(torch.rand(3, 8, 8)), "img"),
    "grid": (lambda: GridSlider(torch.rand(2, 2, 8, 8)), "img"),
    "posterior": (Posterior, ".genmed-posterior"),
    "earth": (Earth, ".genmed-heaps"),
    "pad": (Pad, ".genmed-reads b"),
    "laboratory": (lambda: Laboratory("ring", "diffusion", shown="exact"), ".genmed-lab-words"),
}
# What MyST's theme does with :::{anywidget} widget.mjs: a model of the JSON between the lines, a shadow root, render.
MYST = """<!doctype html><title>MyST</title><div id="root"></div><script type="module">
    import widget from "/widget.mjs";
    const named = NAMED, root = document.querySelector("#root").attachShadow({ mode: "open" });
    const el = document.createElement("div"), nothing = () => {};
    const model = { get: (key) => named[key], set: nothing, on: nothing, off: nothing, save_changes: nothing };
    await widget.initialize?.({ model });
    root.replaceChildren(el);
    window.remove = await widget.render({ model, el });
</script>"""


def in_myst(browser, module, named):
    """The page of a book that shows a module; page.trouble collects what went wrong."""
    page = browser.new_page()
    page.set_default_timeout(60_000)
    page.trouble = []
    page.on("console", lambda m: page.trouble.append(m.text) if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: page.trouble.append(str(error)))
    files = {"/widget.mjs": ("text/javascript", module.read_text(encoding="utf-8")),
             "/": ("text/html", MYST.replace("NAMED", named)), "/favicon.ico": ("image/png", "")}

    def answer(route):
        kind, body = files[route.request.url.removeprefix("http://book.test")]
        route.fulfill(content_type=f"{kind}; charset=utf-8", body=body)

    page.route("**/*", answer)
    page.goto("http://book.test/")
    return page


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
            if kind not in ("earth", "pad", "laboratory"):
                slider = page.get_by_role("slider").first
                before = slider.get_attribute("aria-valuetext")
                slider.press("ArrowRight")
                page.wait_for_timeout(60)
                assert slider.get_attribute("aria-valuetext") != before, kind
            assert trouble == [], kind
            page.context.close()
        browser.close()


@pytest.mark.parametrize("kind", KINDS)
def test_myst_shows_the_module(browser, tmp_path, kind):
    make, drawn = KINDS[kind]
    page = in_myst(browser, make().export(tmp_path / "widget.mjs"), "{}")
    page.locator(drawn).first.wait_for(state="attached")
    root = page.locator(".genmed-panel, .genmed-lab")
    assert root.evaluate("(e) => getComputedStyle(e).display") == "flex", "the styles are not there"
    page.evaluate("() => remove()")
    assert page.trouble == []
    page.close()


def test_in_myst_a_slider_moves_and_the_text_says_where_it_begins(browser, tmp_path):
    module = Posterior().export(tmp_path / "widget.mjs")
    page = in_myst(browser, module, '{"values": [1, 0, 0.5, 0.4]}')
    slider = page.get_by_role("slider", name="x₁")
    assert slider.get_attribute("aria-valuetext") == "1.00"
    slider.press("ArrowRight")
    page.wait_for_function("""() => document.querySelector("#root").shadowRoot.querySelector("input")
        .getAttribute("aria-valuetext") !== "1.00" """)
    assert page.trouble == []
    page.close()


def test_in_myst_the_laboratory_knows_who_is_at_its_plane(browser, tmp_path):
    """Inside a shadow root document.activeElement is the root's host."""
    page = in_myst(browser, Laboratory("drawn", "gan").export(tmp_path / "widget.mjs"), "{}")
    plane = page.get_by_role("application")
    plane.focus()
    assert plane.evaluate("(c) => c.getContext('2d').getImageData(c.width / 2 + 5, c.height / 2 - 1, 1, 3).data[7] > 0")
    page.close()


def test_a_file_of_another_kind_is_refused(tmp_path):
    with pytest.raises(ValueError, match="does not end in .html, for a page, or in .mjs, for MyST"):
        Posterior().export(tmp_path / "page.txt")
