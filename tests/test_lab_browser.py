"""`make lab` in a browser: it opens the start page by itself, one key runs its cell, and the first slider moves."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

sync_api = pytest.importorskip("playwright.sync_api")
widget_page = pytest.importorskip("widget_page")
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


@pytest.fixture
def opened(tmp_path):
    """The page that `make lab` gives a browser, with the reader's copies in a folder of their own."""
    given, script = tmp_path / "given", tmp_path / "browser"
    script.write_text(f'#!/bin/sh\nprintf %s "$1" > "{given}.part" && mv "{given}.part" "{given}"\n')
    script.chmod(0o755)
    code = LAB.format(config=str(ROOT / "jupyter_book_config"), home=str(tmp_path))
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen([sys.executable, "-c", code], env=os.environ | {"BROWSER": f"{script} %s"},
                                  stdout=log, stderr=log)
        try:
            deadline = time.monotonic() + PATIENCE
            while not given.exists():
                assert server.poll() is None and time.monotonic() < deadline, (tmp_path / "log").read_text()[-2000:]
                time.sleep(0.5)
            yield given.read_text()
        finally:
            server.terminate()
            server.wait(30)


def test_the_start_page_opens_and_its_first_slider_moves(opened):
    with sync_api.sync_playwright() as driver:
        browser = widget_page.launch(driver)
        page = browser.new_page(viewport={"width": 1300, "height": 900})
        page.set_default_timeout(PATIENCE * 1000)
        page.goto(opened)
        page.get_by_role("heading", name="Start here").first.wait_for()
        assert "00_start.ipynb" in page.title() + page.url
        assert page.get_by_role("dialog").count() == 0
        page.locator(".jp-CodeCell .cm-content").first.click()
        page.keyboard.press("Shift+Enter")
        slider = page.locator(".jp-OutputArea").get_by_role("slider").first
        slider.wait_for()
        before = slider.get_attribute("aria-valuetext")
        slider.focus()
        page.keyboard.press("ArrowRight")
        page.wait_for_function("([e, before]) => e.getAttribute('aria-valuetext') !== before",
                               arg=[slider.element_handle(), before])
        if folder := os.environ.get("GENMED_SHOTS"):
            page.screenshot(path=f"{folder}/lab.png")
        browser.close()
