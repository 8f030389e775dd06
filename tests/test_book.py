"""A tiny book in a real browser: the sliders move the pictures, with no kernel and no other host.

It needs no training and holds every kind of slider. The chapters' own pages are in test_whole_book.py, but for what
is asked of each by itself, at the end here: that file takes one of two workers longer.
"""

import base64
import os
import re
import shutil
import subprocess
import sys
from textwrap import dedent

import jupytext
import nbformat
import numpy as np
import pytest
import site_pages
import tiny_book
import torch
from site_pages import (
    PATIENCE,
    ROOT,
    build,
    canvas,
    check_page,
    check_phone,
    each_page,
    needs_chapters,
    serve,
    skip_loudly,
)

import genmed_core  # noqa: F401  (before torch)
from genmed_core.widgets import LatentExplorer

sys.path.insert(0, str(ROOT / "jupyter_book_config"))
import build as builder  # noqa: E402
import course  # noqa: E402
import lighten  # noqa: E402
import notebooks  # noqa: E402
import pages as finished  # noqa: E402

book, book_pages, chromium = site_pages.book, site_pages.book_pages, site_pages.chromium


@pytest.fixture(scope="module")
def tiny_pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    return build(folder, "--source", str(tiny_book.write(folder / "chapters")), "--execute", "cache", "--zip")


@pytest.fixture(scope="module")
def tiny(tiny_pages, chromium):
    yield from serve(tiny_pages, chromium)


@pytest.fixture(scope="module")
def stored(tmp_path_factory, chromium):
    """The tiny book from stored outputs, with a widget of its chapter on the first page."""
    folder = tmp_path_factory.mktemp("stored")
    chapter = tiny_book.write(folder / "chapters") / "01_sliders.ipynb"
    jupytext.write(jupytext.read(chapter), chapter.with_suffix(".py"), fmt="py:percent")
    chapter.unlink()
    notebooks.build(chapter.with_suffix(".py"))
    live = "<!-- live 01_sliders DiffusionExplorer -->\n"
    intro = tiny_book.INTRO.replace("It has", f"{2 * live}\nIt has")
    (folder / "chapters" / "intro.md").write_text(intro, encoding="utf-8")
    yield from serve(builder.build(source=folder / "chapters", out=folder, execute="off"), chromium)


# --- what the browser shows ----------------------------------------------------------------------------------------


def handle(page, panel, slider):
    return page.locator(".genmed-panel").nth(panel).locator("input[type=range]").nth(slider)


def readout(page, panel, slider):
    return page.locator(".genmed-panel").nth(panel).locator(".genmed-readout").nth(slider).inner_text()


def changed_canvas(page, before, k=0):
    """Wait until the k-th picture differs from what it was; returns it, at rest."""
    page.wait_for_function("""([k, before]) => { const c = document.querySelectorAll("canvas")[k];
        const now = c.getContext("2d").getImageData(0, 0, c.width, c.height).data;
        return before.some((value, i) => value !== now[4 * i]); }""", arg=[k, before.flatten().tolist()])
    page.wait_for_timeout(150)
    return canvas(page, k)


def same_picture(shown, wanted):
    """The canvas has 256 greys; the float16 weights and the browser's arithmetic may cost one more."""
    difference = np.abs(shown - 255 * np.asarray(wanted)).max()
    assert difference <= 1.6, f"the picture in the browser is {difference:.1f} grey levels off"


# --- the tiny book -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def decoders():
    """The tiny book's decoders, made here by its own code."""
    names = {}
    exec(dedent(tiny_book.CELLS[1][1]), names)
    return names


@pytest.mark.parametrize("name", ["intro.html", "01_sliders.html"])
def test_tiny_pages(tiny, name):
    check_page(tiny, name, formulas=True)
    check_phone(tiny, name)


def test_the_zip_for_a_learning_platform_opens_from_the_disk(tiny_pages, chromium, tmp_path):
    shutil.unpack_archive(tiny_pages.with_suffix(".zip"), tmp_path)
    page = chromium.new_context(offline=True).new_page()
    page.set_default_timeout(PATIENCE)
    page.goto((tmp_path / "html" / "index.html").as_uri())
    page.get_by_role("link", name="Sliders").first.click()
    slider = page.locator(".genmed-panel input[type=range]").first
    slider.wait_for()
    slider.focus()
    before = canvas(page)
    page.keyboard.press("End")
    changed_canvas(page, before)
    page.context.close()


def test_our_panels_come_without_jupyters_and_before_the_formulas(tiny):
    page = tiny.browser.new_page()
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.add_init_script("""new MutationObserver(() => {
        const panel = document.querySelector(".genmed-panel input"), formula = document.querySelector("mjx-container");
        window.there ??= panel && Boolean(formula);
    }).observe(document, { childList: true, subtree: true });""")
    page.goto(tiny.address + "01_sliders.html")
    page.wait_for_selector("mjx-container")
    assert page.evaluate("() => window.there") is False, "the formulas came first"
    assert asked and not [url for url in asked if "html-manager" in url or "require.js" in url]
    page.context.close()


def test_what_two_panels_hold_is_carried_once():
    """A pad's decoder begins with a table of labels, and goes on as the slider's."""
    carried = []
    decoder, pads = os.urandom(2000), [os.urandom(160), b""]
    held = [{"path": ["weights"], "data": base64.b64encode(head + decoder).decode()} for head in (b"", *pads)]
    light = [lighten.once(buffer, carried) for buffer in held]
    assert light[0] == held[0] and carried == [decoder]
    for buffer, head in zip(light[1:], pads):
        assert buffer["then"] == 0 and base64.b64decode(buffer["data"]) == head


def test_every_icon_of_a_page_is_drawn_and_few_others_are_shipped(tiny):
    page = tiny.open("01_sliders.html")
    page.wait_for_selector("svg[data-icon=magnifying-glass]", state="attached")
    drawn = page.evaluate("""() => [...document.querySelectorAll("svg[data-icon]")].map(
        (icon) => [icon.dataset.icon, icon.querySelector("path")?.getAttribute("d")?.length ?? 0])""")
    assert len(dict(drawn)) >= 8 and all(length > 20 for _, length in drawn), drawn
    page.context.close()
    assert (tiny.folder / "_static" / "scripts" / "fontawesome.js").stat().st_size < 150_000
    assert not (tiny.folder / "_static" / "vendor" / "html-manager.js").exists()


FOREIGN = """\
import genmed_core
import ipywidgets
import torch
from IPython.display import display

from genmed_core.widgets import FrameSlider

slider, mirror = ipywidgets.IntSlider(3, description="theirs"), ipywidgets.IntText()
link = ipywidgets.jslink((slider, "value"), (mirror, "value"))
display(slider, mirror, FrameSlider(torch.rand(3, 8, 8)))
"""


def test_any_other_widget_of_an_own_chapter_is_drawn_by_jupyters_manager(tmp_path, chromium):
    """Linked to each other, and ours beside them."""
    folder = tiny_book.write(tmp_path / "chapters")
    notebook = nbformat.read(folder / "01_sliders.ipynb", as_version=4)
    notebook.cells = [nbformat.v4.new_markdown_cell("# Sliders\n\nWith $x$."), nbformat.v4.new_code_cell(FOREIGN)]
    nbformat.write(notebook, folder / "01_sliders.ipynb")
    for site in serve(builder.build(source=folder, out=tmp_path, execute="cache"), chromium):
        page = site.open("01_sliders.html")
        page.locator(".widget-subarea .noUi-handle").wait_for()
        page.locator(".genmed-panel input[type=range]").wait_for()
        page.locator(".noUi-handle").press("ArrowRight")
        page.wait_for_function("() => document.querySelector('.widget-text input').value === '4'")
        page.context.close()
        assert not site.trouble, "\n".join(site.trouble)


def test_a_laptops_screen_holds_long_lines_and_the_contents_fold_away(tiny):
    page = tiny.open("01_sliders.html", viewport={"width": 1440, "height": 900})
    room = page.evaluate("""() => {
        const pre = document.querySelector("div.cell_input pre"), style = getComputedStyle(pre);
        const ruler = pre.appendChild(Object.assign(document.createElement("span"), {textContent: "x".repeat(100)}));
        const room = pre.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
        return 100 * room / ruler.getBoundingClientRect().width;
    }""")
    assert room > 112, f"only {room:.0f} characters of code in a line"
    page.click("button.primary-toggle")
    page.wait_for_function("() => getComputedStyle(document.querySelector('.bd-sidebar-primary')).opacity == 0")
    page.wait_for_function("""() => {
        const [text, whole] = [".bd-main", ".bd-container__inner"].map((q) => document.querySelector(q));
        return Math.abs(text.getBoundingClientRect().left - whole.getBoundingClientRect().left) < 1;
    }""")
    page.context.close()


def test_keyboard_moves_the_decoded_picture(tiny, decoders):
    page = tiny.open("01_sliders.html")
    z = torch.tensor([0, 0.1, 0.25, 0.35, 0.5, 0.6, 0.75, 0.85])  # 0.123 times 0..7, to the nearest step of 0.05
    explorer = LatentExplorer(decoders["mlp"], z0=z)
    before = canvas(page)
    with torch.no_grad():
        same_picture(before, decoders["mlp"](z).sigmoid().reshape(28, 28))
    handle(page, 0, 0).focus()
    for _ in range(10):
        page.keyboard.press("ArrowRight")
    after = changed_canvas(page, before)
    assert readout(page, 0, 0) == "0.50"
    z[0] = 0.5
    same_picture(after, explorer.decode(z))
    with torch.no_grad():
        same_picture(after, decoders["mlp"](z).sigmoid().reshape(28, 28))
    page.context.close()


def test_mouse_moves_the_decoded_picture(tiny, decoders):
    page = tiny.open("01_sliders.html")
    before, knob = canvas(page), handle(page, 0, 1)
    knob.scroll_into_view_if_needed()
    box = knob.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.8 * box["width"], box["y"] + 5, steps=8)
    page.mouse.up()
    after = changed_canvas(page, before)
    z = torch.tensor([0, 0.1, 0.25, 0.35, 0.5, 0.6, 0.75, 0.85])
    z[1] = float(readout(page, 0, 1))
    assert z[1] > 0.3
    same_picture(after, LatentExplorer(decoders["mlp"], z0=z).decode())
    page.context.close()


def test_randomise_and_reset(tiny):
    page = tiny.open("01_sliders.html")
    before, at = canvas(page), [readout(page, 0, k) for k in range(8)]
    page.get_by_role("button", name="Randomise").first.click()
    after = changed_canvas(page, before)
    assert at[7] == "0.85" and at != [readout(page, 0, k) for k in range(8)]  # one alone may come back by chance
    page.get_by_role("button", name="Reset").first.click()
    assert np.array_equal(changed_canvas(page, after), before)
    assert readout(page, 0, 7) == "0.85"
    page.context.close()


def test_class_slider_and_convolutions(tiny, decoders):
    page = tiny.open("01_sliders.html")
    wanted = LatentExplorer(decoders["conv"], n_classes=10)
    before = canvas(page, 1)
    handle(page, 1, 0).focus()
    for label in range(1, 10):
        page.keyboard.press("ArrowRight")
        after = changed_canvas(page, before, 1)
        assert readout(page, 1, 0) == str(label)
        same_picture(after, wanted.decode(torch.zeros(2), label))
        before = after
    assert "class 9" in page.locator("canvas").nth(1).get_attribute("aria-label")
    milliseconds = float(page.locator("canvas").nth(1).get_attribute("data-ms"))
    assert milliseconds < 200, "a small convolutional decoder takes a few ms where nothing else runs"
    page.context.close()


def test_frame_slider_and_play(tiny):
    page = tiny.open("01_sliders.html")
    pictures = page.locator(".genmed-frames").first.locator("img")
    alts = lambda: [pictures.nth(k).get_attribute("alt") for k in range(2)]  # noqa: E731
    assert alts() == ["picture, noise t = 0", "its negative, noise t = 0"]
    handle(page, 2, 0).focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    page.wait_for_function("() => document.querySelector('.genmed-frames').dataset.place === '3'")
    assert alts()[0] == "picture, noise t = 150" and readout(page, 2, 0) == "t = 150"
    grey = pictures.first.evaluate("""async (image) => { await image.decode();
        const c = document.createElement("canvas"); c.width = image.naturalWidth; c.height = image.naturalHeight;
        const x = c.getContext("2d"); x.drawImage(image, 0, 0);
        return [...x.getImageData(0, 0, c.width, c.height).data.filter((_, i) => i % 4 === 0)]; }""")
    ramp = torch.linspace(0, 1, 28)
    same_picture(np.array(grey).reshape(28, 28), ramp[:, None] * 3 / 20 + ramp[None] * 17 / 20)
    page.get_by_role("button", name="Play", exact=True).first.click()
    page.wait_for_function("() => Number(document.querySelector('.genmed-frames').dataset.place) >= 8")
    assert "Infinity" not in readout(page, 2, 0)
    page.context.close()


def test_grid_slider(tiny):
    page = tiny.open("01_sliders.html")
    for slider, moves in ((0, 2), (1, 3)):
        handle(page, 3, slider).focus()
        for _ in range(moves):
            page.keyboard.press("ArrowRight")
    page.wait_for_function("() => document.querySelectorAll('.genmed-frames')[1].dataset.place === '11'")
    assert page.locator(".genmed-frames").nth(1).locator("img").get_attribute("alt") == "style thick, class 3"
    page.context.close()


def test_markdown_that_a_cell_prints_is_rendered(tiny):
    page = tiny.open("01_sliders.html")
    output = page.locator(".cell_output", has=page.locator("table"))
    assert output.locator("tbody tr").count() == 2 and output.locator("td mjx-container").count() == 1
    assert output.locator("td strong").inner_text() == "12.5" and output.locator("td em").inner_text() == "two"
    assert output.locator("ul > li").count() == 2 and output.locator("li mjx-container").count() == 1
    assert output.locator("a").get_attribute("href") == "intro.html", "a name such as torch.nn.Linear is no link"
    assert not re.search(r"[|$*]|---", output.inner_text())
    page.context.close()


def test_links_to_absent_chapters_become_words(tiny_pages):
    html = (tiny_pages / "intro.html").read_text(encoding="utf-8")
    assert 'href="01_sliders.html"' in html and "second one" in html and "02_absent" not in html


def test_solutions_are_folded_open_or_left_out(tiny_pages, tmp_path):
    def pages(folder):
        return [(folder / f"{name}.html").read_text(encoding="utf-8") for name in ("intro", "01_sliders")]

    intro, chapter = pages(tiny_pages)
    assert '<details class="solution">' in chapter and "a solution behind a fold" in intro
    source = tiny_book.write(tmp_path / "chapters")
    for edition in ("student", "instructor"):
        built = builder.build(source=source, out=tmp_path, edition=edition, execute="off")
        intro, chapter = pages(built)
        assert ("solution behind a fold" in intro, "Jensen" in chapter) == (edition == "instructor",) * 2
        assert ('<details class="solution" open>' in chapter) == (edition == "instructor") and "The bound" in chapter
        assert "Each exercise has a check" in intro


def one_chapter(folder, *cells):
    """A book of one chapter with these cells."""
    source = tiny_book.write(folder / "chapters")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# Title"), *cells])
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3"}
    nbformat.write(notebook, source / "01_sliders.ipynb")
    return source


def test_crashed_notebook_and_warnings_are_errors(tmp_path):
    source = one_chapter(tmp_path, nbformat.v4.new_code_cell("1 / 0"))
    with pytest.raises(AssertionError, match="01_sliders.ipynb raised"):
        build(tmp_path, "--source", str(source), "--execute", "cache")
    source = one_chapter(tmp_path, nbformat.v4.new_markdown_cell("[nowhere](nowhere.md)"))
    with pytest.raises(builder.BookError, match="met a warning"):
        builder.build(source=source, out=tmp_path, execute="cache")


def test_stored_outputs_have_every_slider_and_the_first_page_draws(stored, tiny):
    pages = [site.open("01_sliders.html") for site in (stored, tiny)]
    counts = [[page.locator(kind).count() for kind in (".genmed-panel", "canvas", "input")] for page in pages]
    assert counts[0] == counts[1] and min(counts[0]) >= 5
    before = canvas(pages[0])
    handle(pages[0], 0, 0).focus()
    pages[0].keyboard.press("ArrowRight")
    pages[0].wait_for_timeout(500)
    assert (canvas(pages[0]) != before).any()
    first = stored.open("intro.html")
    panels = first.locator(".genmed-panel")
    assert panels.count() == 2
    for k in range(2):
        panel = panels.nth(k)
        panel.locator("canvas[data-seconds]").wait_for()  # drawn by itself, to the end
        assert panel.get_by_role("slider").count() == 2
        panel.get_by_text("More sliders").click()
        assert panel.get_by_role("slider").count() > 4
    boxes = [panels.nth(k).bounding_box() for k in range(2)]
    assert boxes[0]["y"] == boxes[1]["y"] and boxes[1]["x"] > boxes[0]["x"] + boxes[0]["width"]
    assert stored.trouble == []
    calm = stored.open("intro.html", reduced_motion="reduce")
    calm.wait_for_timeout(1500)
    assert calm.locator("canvas[data-seconds]").count() == 0
    calm.get_by_role("button", name="Play").first.click()
    calm.locator("canvas[data-seconds]").wait_for()
    assert calm.locator("canvas[data-seconds]").count() == 1


# --- what is not published -----------------------------------------------------------------------------------------


def test_a_page_that_shows_raw_tex_is_no_success(tmp_path):
    formula = nbformat.v4.new_markdown_cell(r"An unknown macro: $\frec{1}{2}$. An open one: $\frac{1}{2}.")
    with pytest.raises(builder.BookError, match="not fit to be read") as failure:
        builder.build(source=one_chapter(tmp_path, formula), out=tmp_path, execute="off")
    assert r"\frec" in str(failure.value) and "a formula stands there as raw text" in str(failure.value)


UNFIT = {
    "<p>| a | b |\n|---|---|</p>": "a table stands",
    "<div>| a | b |</div>": "a table stands",
    "<p>from $x_1 = 2$ on</p>": "a formula stands",
    "<p>$x<em>1 + y</em>2 = z$</p>": "a formula stands",
    r"<li>\begin{align} x</li>": "a formula stands",
    r"<em>\mathcal{L}</em>": "a formula stands",
    "<p>so it is **not</p>": "Markdown stands",
    "<summary>[here](x.md)</summary>": "Markdown stands",
    '<img src="a.png">': "no alt text",
    '<img src="a.png" alt=" ">': "no alt text",
    '<pre>in code, <img src="a.png"></pre>': "no alt text",
    '<img src="a.png" alt="_images/5f3a.png">': "describes nothing",
    '<img src="gone.png" alt="a picture that is not there">': "does not exist",
}


@pytest.mark.parametrize("html", UNFIT)
def test_what_is_left_raw_is_found_on_the_page(tmp_path, html):
    (tmp_path / "a.png").touch()
    (tmp_path / "a.html").write_text(f"<article>{html}</article>", encoding="utf-8")
    found = finished.problems(tmp_path, None)
    assert len(found) == 1 and found[0].startswith("a.html: ") and UNFIT[html] in found[0], found


def test_what_is_meant_as_it_stands_is_left_alone(tmp_path):
    (tmp_path / "my a.png").touch()
    (tmp_path / "a.html").write_text(r"""<p>| outside | the article |</p><article><pre>| a | b | $x^2$ **</pre>
        <p>From $5 to $6, 2 * 3 * 4, a | b, <code>\alpha</code>, <span class="math">\(\alpha\)</span>.</p>
        <img src="my%20a.png" alt="Ten real digits"><script>x = "$a_1$"</script></article>""", encoding="utf-8")
    assert finished.problems(tmp_path, None) == []


def test_mathjax_itself_reads_every_formula():
    bundle = builder.vendor()
    if bundle is None:
        skip_loudly("MathJax could not be fetched (npm or its registry is out of reach)")
    good = [r"\frac{1}{2}", r"\boldsymbol{\mu} \tag{1.1}", r"\begin{cases} 0 & x < 0 \\ x \end{cases}", r"\cancel{x}"]
    assert finished.broken({"a.html": good, "b.html": [r"x \tag{1.1}"]}, bundle / "node") == []
    bad = [r"\frac{1}{2", r"\undefinedmacro", r"\left( x", "x^1^2", r"\begin{cases} 1"]
    found = finished.broken({"a.html": [*good, *bad]}, bundle / "node")
    assert len(found) == len(bad) and all("a.html" in problem for problem in found), found


@pytest.fixture
def own_chapter(tmp_path, monkeypatch):
    """A chapter with its .py and a notebook that was built from it; vendor() must not be reached."""
    monkeypatch.setattr(builder, "vendor", lambda: pytest.fail("the build went on"))
    source = tiny_book.write(tmp_path / "chapters") / "01_sliders.py"
    source.write_text("# %% [markdown]\n# # Title\n\n# %%\nprint(1)\n", encoding="utf-8")
    notebook = jupytext.read(source)
    notebook.metadata["genmed"] = {"source_sha256": notebooks.sha256(source.read_text(encoding="utf-8"))}
    jupytext.write(notebook, source.with_suffix(".ipynb"))
    assert notebooks.problems(source) == []
    return source


def edit(path, old, new):
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def with_picture(path, alt):
    """Give the notebook's code cell a stored figure."""
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[1].outputs = [nbformat.v4.new_output("display_data", data={"image/png": "iVBORw0KGgo="})]
    notebook.cells[1].metadata["mystnb"] = {"image": {"alt": alt}}
    nbformat.write(notebook, path)


SPOILED = {
    "is missing": lambda py, nb: nb.unlink(),
    "was not built from the present 01_sliders.py": lambda py, nb: edit(py, "print(1)", "1 / 0"),
    "differ in their cells": lambda py, nb: edit(nb, "print(1)", "print(2)"),
    "marks of a conflict (line 1)": lambda py, nb: edit(nb, '{\n "cells"', '<<<<<<< HEAD\n{\n "cells"'),
    "01_sliders.py holds git's marks of a conflict (line 5)":
        lambda py, nb: edit(py, "print(1)", ">>>>>>> a\nprint(1)"),
    "cannot be read as a notebook": lambda py, nb: nb.write_text(nb.read_text(encoding="utf-8")[:99], encoding="utf-8"),
    "01_sliders.py, which is not there": lambda py, nb: py.unlink(),
    "a figure with no alt text": lambda py, nb: with_picture(nb, " "),
    "which describes nothing": lambda py, nb: with_picture(nb, "figure.png"),
}


@pytest.mark.parametrize("message", SPOILED)
@pytest.mark.parametrize("execute", ["cache", "off"])
def test_a_spoiled_notebook_is_refused_before_anything_runs(own_chapter, message, execute):
    SPOILED[message](own_chapter, own_chapter.with_suffix(".ipynb"))
    folder = own_chapter.parent
    with pytest.raises(builder.BookError, match=re.escape(message)) as refusal:
        builder.build(source=folder, out=folder.parent, execute=execute)
    assert "01_sliders" in str(refusal.value) and not (folder.parent / "_build" / "sources").exists()


def test_a_build_starts_without_torch_and_jsonschemas_grammar():
    """They would cost seconds, at each start, for nothing."""
    code = "import build; build.cache_key(); import sys; print({'torch', 'lark', 'jsonschema'} & set(sys.modules))"
    settings = {name: value for name, value in os.environ.items() if name != "GENMED_THREADS"}  # which is told to torch
    settings["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(ROOT / "jupyter_book_config")])
    done = subprocess.run([sys.executable, "-c", code], env=settings, capture_output=True, text=True)
    assert done.stdout == "{'jsonschema'}\n", done


def test_outputs_are_cached_by_the_core_its_weights_and_the_settings(tmp_path, monkeypatch):
    monkeypatch.setattr(builder, "ROOT", tmp_path)
    keys = [builder.cache_key()]
    for name in ("genmed_core/train.py", "genmed_core/kernels/step.py", "genmed_core/weights/reader.safetensors"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        for content in (b"1", b"2"):
            (tmp_path / name).write_bytes(content)
            keys.append(builder.cache_key())
    for name in builder.SETTINGS:
        monkeypatch.setenv(name, "7")
        keys.append(builder.cache_key())
    assert len(set(keys)) == len(keys)
    (tmp_path / "genmed_core" / "__pycache__").mkdir()
    (tmp_path / "genmed_core" / "__pycache__" / "train.pyc").touch()
    assert builder.cache_key() == keys[-1]


def test_pages_of_an_earlier_build_of_more_chapters_are_taken_away(tmp_path, monkeypatch):
    source = one_chapter(tmp_path)
    html = tmp_path / "_build" / "html"
    html.mkdir(parents=True)
    for name in ("01_sliders.html", "02_gone.html", "measuring.html", "search.html"):
        (html / name).write_text("<article></article>", encoding="utf-8")
    monkeypatch.setattr(builder, "vendor", lambda: None)
    monkeypatch.setattr(builder.subprocess, "run", lambda *arguments, **settings: subprocess.CompletedProcess([], 0))
    builder.build(source=source, out=tmp_path, execute="off")
    assert {path.name for path in html.glob("*.html")} == {"01_sliders.html", "search.html"}


@pytest.mark.parametrize("given, taken", [(None, "1"), ("", "1"), ("  ", "1"), ("1", "1"), ("0", "0")])
def test_films_of_patients_are_left_out_unless_the_setting_says_otherwise(tmp_path, monkeypatch, given, taken):
    source = one_chapter(tmp_path)
    monkeypatch.setenv("GENMED_PUBLIC", given or "")
    if given is None:
        monkeypatch.delenv("GENMED_PUBLIC")
    seen = []
    monkeypatch.setattr(builder, "vendor", lambda: None)
    monkeypatch.setattr(builder.subprocess, "run", lambda *arguments, **settings: (
        seen.append(os.environ["GENMED_PUBLIC"]) or subprocess.CompletedProcess([], 0)))
    builder.build(source=source, out=tmp_path, execute="off")
    assert seen == [taken]


def test_a_setting_that_cannot_be_read_ends_the_build(tmp_path, monkeypatch):
    monkeypatch.setenv("GENMED_PUBLIC", "perhaps")
    with pytest.raises(builder.BookError, match="GENMED_PUBLIC='perhaps': give 1 or 0"):
        builder.build(source=one_chapter(tmp_path), out=tmp_path, execute="off")


@pytest.mark.parametrize("picked", [["99"], ["1", "99"], ["1x"], ["01_sli"], ["0"], ["-1"]])
def test_chapters_that_do_not_exist_are_refused(own_chapter, picked):
    with pytest.raises(builder.BookError, match="there is no chapter .*those that exist: 01_sliders"):
        builder.build(source=own_chapter.parent, out=own_chapter.parent.parent, chapters=picked)


@pytest.mark.parametrize("place", ["file", "chapters", "chapters/deeper", "file/deeper"])
def test_odd_output_places_are_refused(own_chapter, place):
    folder = own_chapter.parent.parent
    (folder / "file").touch()
    with pytest.raises(builder.BookError, match="--out .*name another folder"):
        builder.build(source=own_chapter.parent, out=folder / place)
    with pytest.raises(builder.BookError, match="--source .*is not a folder"):
        builder.build(source=folder / "file", out=folder)


def test_without_npm_the_network_is_named(monkeypatch, tmp_path, capsys):
    """No scripts to bundle: the pages fall back to a content network, and the build says so."""
    def unreachable(arguments):
        raise OSError("registry out of reach")

    monkeypatch.setattr(builder, "BUILD", tmp_path)
    monkeypatch.setattr(builder, "npm", unreachable)
    sphinx = builder.configuration("off", builder.vendor(), course.read())["sphinx"]["config"]
    assert "will not work offline" in capsys.readouterr().err
    assert "mathjax_path" not in sphinx and any(name.startswith("https://") for name in sphinx["nb_ipywidgets_js"])


def test_how_long_a_run_will_take_is_said_before_it(tmp_path):
    times = tmp_path / "minutes.json"
    times.write_text('{"machine": "one core", "chapters": {"01_a": {"x": 60, "y": 60}, "02_b": {"x": 240}}}')
    assert builder.how_long(["01_a", "02_b", "mine"], times) == (
        "running 3 notebooks, two at a time: 6 minutes of one core in all, the longest 02_b with 4, on one core; "
        "and 1 not measured")
    assert builder.how_long(["mine"], times).endswith("nobody has measured how long it takes")
    assert "no notebook has to be run" in builder.how_long([], times)
    assert "the longest 09_ldm_cxr with" in builder.how_long(["08_ddpm", "09_ldm_cxr"])


@pytest.mark.parametrize("word, runs", [("", False), ("0", False), ("no", False), ("false", False), ("1", True)])
def test_make_book_runs_notebooks_where_it_is_asked_to(word, runs):
    if shutil.which("make") is None:
        pytest.skip("no make here")
    done = subprocess.run(["make", "-n", "book", f"EXECUTE={word}"], cwd=ROOT, capture_output=True, text=True)
    assert ("--execute cache" in done.stdout) == runs and "build.py" in done.stdout


# --- the whole book's pages, each opened anew: the other worker has enough with the rest --------------------------


@needs_chapters
@each_page
def test_page_on_a_phone(book, name):
    check_phone(book, f"{name}.html")


@needs_chapters
@each_page
def test_a_page_is_light(book_pages, name):
    """Sliders, their networks and their pictures included."""
    assert (book_pages / f"{name}.html").stat().st_size < 3_000_000


@needs_chapters
@each_page
def test_the_first_slider_comes_before_most_of_its_page(book, name):
    """What has come by then takes less than four seconds at 9 Mbit/s.

    It is counted at a third of that, so that even a busy machine waits for the network and not the other way round.
    """
    _, _, size = book.first_slider(f"{name}.html", megabits=3)
    assert 8 * size / 9e6 < 4
