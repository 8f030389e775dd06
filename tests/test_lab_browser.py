"""`make lab` in a browser: it opens the start page by itself, one key runs its cell, and the first slider moves.

The tests share one JupyterLab and come in their order.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("playwright.sync_api")
site_pages = pytest.importorskip("site_pages")
axe = site_pages.axe
pytestmark = pytest.mark.skipif(os.name == "nt", reason="the browser that JupyterLab starts is a shell script here")
ROOT = Path(__file__).resolve().parent.parent
PATIENCE = 300  # seconds for the server, and for JupyterLab with a kernel that imports torch
LAB = """
import sys
from pathlib import Path
sys.path.insert(0, {config!r})
import lab
home = Path({home!r})
lab.MINE = home / "my_chapters"
lab.refresh.__defaults__ = (lab.CHAPTERS, lab.MINE)
lab.settings.__defaults__ = (home, lab.MINE)
lab.main(["--ServerApp.port=0"])
"""


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """The page that `make lab` gives a browser, with the reader's copies in a folder of their own."""
    home = tmp_path_factory.mktemp("home")
    given, script = home / "given", home / "browser"
    script.write_text(f'#!/bin/sh\nprintf %s "$1" > "{given}.part" && mv "{given}.part" "{given}"\n')
    script.chmod(0o755)
    code = LAB.format(config=str(ROOT / "jupyter_book_config"), home=str(home))
    with (home / "log").open("w") as log:
        server = subprocess.Popen([sys.executable, "-c", code], env=os.environ | {"BROWSER": f"{script} %s"},
                                  stdout=log, stderr=log)
        try:
            deadline = time.monotonic() + PATIENCE
            while not given.exists():
                assert server.poll() is None and time.monotonic() < deadline, (home / "log").read_text()[-2000:]
                time.sleep(0.5)
            yield given.read_text()
        finally:
            server.terminate()
            server.wait(30)


@pytest.fixture(scope="module")
def page(opened, browser):
    page = browser.new_page(viewport={"width": 1300, "height": 900})
    page.set_default_timeout(PATIENCE * 1000)
    page.goto(opened)
    yield page
    page.close()


def first_slider(page):
    return page.locator(".jp-OutputArea").get_by_role("slider").first


def shot(page, name):
    if folder := os.environ.get("GENMED_SHOTS"):
        page.screenshot(path=f"{folder}/{name}.png")


def test_the_start_page_opens_and_its_first_slider_moves(page):
    page.get_by_role("heading", name="Start here").first.wait_for()
    assert "00_start.ipynb" in page.title() + page.url
    assert page.get_by_role("dialog").count() == 0
    page.locator(".jp-CodeCell .cm-content").first.click()
    page.keyboard.press("Shift+Enter")
    slider = first_slider(page)
    slider.wait_for()
    before = slider.get_attribute("aria-valuetext")
    slider.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function("([e, before]) => e.getAttribute('aria-valuetext') !== before",
                           arg=[slider.element_handle(), before])
    shot(page, "lab")


def test_colours_are_legible_in_light_and_dark(page, axe):
    """What a live panel and a chapter's stored outputs show, by axe-core, the theme chosen as a reader does."""
    if first_slider(page).count() == 0:
        pytest.skip("the start page's cell has not run")
    page.add_script_tag(content=axe)
    chapter = next((ROOT / "chapters").glob("08_*.ipynb")).name
    for theme, name in (("JupyterLab Dark", chapter), ("JupyterLab Light", "00_start.ipynb")):
        page.locator(".lm-MenuBar-item", has_text="Settings").click()
        for entry in ("Theme", theme):
            page.locator(".lm-Menu-item", has=page.get_by_text(entry, exact=True)).click()
        page.wait_for_function("name => document.body.dataset.jpThemeName === name", arg=theme)
        page.wait_for_timeout(500)  # its colours come by a style sheet
        assert not illegible(page), theme
        shot(page, theme)
        page.get_by_role("listitem").filter(has_text=name).dblclick()
        page.locator(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-MarkdownOutput").first.wait_for()
        assert not illegible(page), (theme, name)
        shot(page, f"{theme} {name}")


def illegible(page):
    """Each text of the book, in the notebook in front, that contrasts too little with what is behind it.

    The colours of code are JupyterLab's own. Its body has no height, and axe-core takes what lies in such a one for
    hidden: it is given one, and the texts that were read are counted.
    """
    page.evaluate("document.body.style.height = '100vh'")
    front = ".jp-NotebookPanel:not(.lm-mod-hidden)"
    parts = [f"{front} {part}" for part in (".jp-MarkdownOutput", ".jp-OutputArea-output")]
    found = page.evaluate("parts => axe.run({ include: parts }, { runOnly: ['color-contrast'] })", parts)
    nodes = {kind: [node for rule in found[kind] for node in rule["nodes"]] for kind in ("passes", "violations")}
    assert len(nodes["passes"]) > 5, "axe-core read next to nothing"
    return [f"{node['html'][:200]}: {node['failureSummary']}" for node in nodes["violations"]]
