"""Built pages in a real browser, for test_book.py and test_whole_book.py: served from this machine, or not at all.

The whole book is built once for both, and left out when its tests begin after GENMED_SITE_UNTIL, in seconds since
1970: on a slow machine CI would run out of time.

The pages are served under CONTENT_POLICY; whatever asks for another host is blocked and counted as a failure. Without
Chromium the tests are skipped, and say so; without npm and a network the scripts cannot be bundled, which is said as
well.
"""

import base64
import functools
import hashlib
import http.server
import json
import math
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import test_accessibility
from filelock import FileLock

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "jupyter_book_config"))
import build as builder  # noqa: E402

CHAPTERS = sorted(path.stem for path in (ROOT / "chapters").glob("[0-9][0-9]_*.ipynb"))
each_page = pytest.mark.parametrize("name", ["intro", *CHAPTERS])
needs_chapters = pytest.mark.skipif(not CHAPTERS, reason="no chapter is built yet: run `make notebooks`")
PATIENCE = 180_000  # ms: a busy machine may be slow, a broken page never gets there

# No eval, no other host. Inline scripts and styles are the theme's; blob: is how anywidget loads a widget's module
# and how the frames become pictures; MathJax and the widgets' style sheets hold data: images and fonts.
CONTENT_POLICY = (
    "default-src 'none'; script-src 'self' 'unsafe-inline' blob:; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; base-uri 'self'; form-action 'self'")
CHROMIUM_FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
                  "--disable-background-networking", "--disable-component-update"]


def skip_loudly(reason):
    print(f"\n{'!' * 80}\nBROWSER TESTS SKIPPED: {reason}\n{'!' * 80}", file=sys.__stderr__, flush=True)
    pytest.skip(reason)


def build(out, *options):
    """Build a book into out; returns the folder of its pages."""
    command = [sys.executable, str(ROOT / "jupyter_book_config" / "build.py"), "--out", str(out), *options]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stdout[-6000:]}\n{done.stderr[-6000:]}"
    return out / "_build" / "html"


class Handler(http.server.SimpleHTTPRequestHandler):
    def do_GET(self):
        time.sleep(self.server.line.latency)
        super().do_GET()

    def copyfile(self, source, outputfile):
        try:
            while part := source.read(8192):
                self.server.line.carry(len(part))
                outputfile.write(part)
        except ConnectionError:
            pass  # the page was closed before all of it had come

    def end_headers(self):
        self.send_header("Content-Security-Policy", CONTENT_POLICY)
        super().end_headers()

    def log_message(self, *arguments):
        pass


class Line:
    """What all connections of a server share: bytes come one after another, so many bits a second."""

    def __init__(self, megabits=math.inf, latency=0.0):
        self.bytes_per_second, self.latency, self.carried = megabits * 1e6 / 8, latency, 0
        self.free, self.lock = 0.0, threading.Lock()

    def carry(self, size):
        with self.lock:
            until = self.free = max(self.free, time.monotonic()) + size / self.bytes_per_second
            self.carried += size
        time.sleep(max(0.0, until - time.monotonic()))


class Site:
    """A folder of pages, served on this machine and opened in Chromium; `trouble` collects what went wrong."""

    def __init__(self, folder, browser):
        self.folder, self.browser, self.trouble = folder, browser, []
        handler = functools.partial(Handler, directory=str(folder))
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.line = Line()
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.address = f"http://127.0.0.1:{self.server.server_port}/"

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def open(self, name, **settings):
        """Open a page and wait until its formulas and sliders are there."""
        page = self.browser.new_context(**{"viewport": {"width": 1280, "height": 900}} | settings).new_page()
        page.set_default_timeout(PATIENCE)
        page.on("console", lambda m: self.trouble.append(f"console: {m.text}") if m.type == "error" else None)
        page.on("pageerror", lambda error: self.trouble.append(f"exception: {error}"))
        page.on("response", lambda r: self.trouble.append(f"{r.status} {r.url}") if r.status >= 400 else None)
        page.context.route("**/*", self.guard)
        page.goto(self.address + name)
        page.wait_for_function("() => window.MathJax?.startup?.promise?.then(() => true) ?? true")
        page.wait_for_function("""() => [...document.querySelectorAll('script[type$="widget-view+json"]')].every(
            (tag) => tag.previousElementSibling?.querySelector("[class^=genmed-], .jupyter-widgets"))""")
        page.wait_for_function("""() => [...document.querySelectorAll(".genmed-panel")].every(
            (panel) => panel.querySelector("canvas, img, svg") && panel.querySelector("input, button"))""")
        return page

    def first_slider(self, name, megabits=9):
        """Seconds until the text and until the first slider of a page, at so many Mbit/s, and bytes that had come.

        The server is slow, not Chromium's network: slowed by emulateNetworkConditions, pages now and then stand still.
        """
        self.server.line = Line(megabits, latency=0.04)
        page = self.browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
        page.goto(self.address + name, wait_until="commit")
        page.wait_for_function("() => document.querySelector('.genmed-panel input, .genmed-lab input')",
                               timeout=PATIENCE)
        text, slider = page.evaluate("""() => [
            performance.getEntriesByName("first-contentful-paint")[0]?.startTime ?? 0, performance.now()]""")
        came, self.server.line = self.server.line.carried, Line()
        page.context.close()
        return text / 1000, slider / 1000, came

    def guard(self, route):
        if route.request.url.startswith(self.address):
            route.continue_()
        else:
            self.trouble.append(f"asks another host: {route.request.url}")
            route.abort()

    def widget_state(self, name):
        """The widgets that a page carries, by id, each buffer whole."""
        html = (self.folder / name).read_text(encoding="utf-8")
        found = re.findall(r'<script type="application/json" class="genmed-model">(.*?)</script>', html, re.S)
        models, carried = [json.loads(text) for text in found], []
        for buffer in (buffer for model in models for buffer in model.get("buffers", [])):
            if "then" in buffer:
                data = base64.b64decode(buffer["data"]) + base64.b64decode(carried[buffer.pop("then")])
                buffer["data"] = base64.b64encode(data).decode()
            else:
                carried.append(buffer["data"])
        return {model["name"]: model for model in models}


@pytest.fixture(scope="module")
def chromium():
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        skip_loudly("no Chromium on this machine; on Debian: apt-get install chromium")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=CHROMIUM_FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def book_pages(tmp_path_factory):
    """The whole book, built by the worker that comes first; another waits for it."""
    if time.time() > float(os.environ.get("GENMED_SITE_UNTIL", "inf")):
        skip_loudly("real chapters are left out: on this machine the tests before took too long (GENMED_SITE_UNTIL)")
    run = tmp_path_factory.getbasetemp()
    run = run.parent if "PYTEST_XDIST_WORKER" in os.environ else run  # which all workers of one run share
    with FileLock(run / "book.lock"):
        if not (run / "book_is_built").exists():
            build(ROOT / "_build" / "test")
            (run / "book_is_built").touch()
    return ROOT / "_build" / "test" / "_build" / "html"


@pytest.fixture(scope="module")
def book(book_pages, chromium):
    yield from serve(book_pages, chromium)


AXE = "4.10.3"  # of axe-core, from npm, which reads pages as a screen reader's user meets them; and its sum
AXE_SHA512 = "Xm7bpRXnDSX2YE2YFfBk2FnF0ep6tmG7xPh8iHee8MIcrgq762Nkce856dYtJYLkuIoYZvGfTs/PbZhideTcEg=="


@pytest.fixture(scope="module")
def axe(tmp_path_factory):
    """The text of axe-core, checked against its pinned sum."""
    folder = tmp_path_factory.mktemp("axe")
    try:
        builder.npm(["pack", "--loglevel=error", "--ignore-scripts", f"--pack-destination={folder}", f"axe-core@{AXE}"])
    except (OSError, subprocess.TimeoutExpired) as problem:
        skip_loudly(f"axe-core could not be fetched: {problem}")
    tarball = (folder / f"axe-core-{AXE}.tgz").read_bytes()
    assert base64.b64encode(hashlib.sha512(tarball).digest()).decode() == AXE_SHA512
    builder.unpack(tarball, {"axe.min.js": ["axe.js"]}, folder)
    return (folder / "axe.js").read_text(encoding="utf-8")


def serve(pages, chromium):
    if not (pages / "_static" / "vendor" / "mathjax").exists():
        skip_loudly("the site's JavaScript could not be bundled (npm or its registry is out of reach)")
    site = Site(pages, chromium)
    yield site
    site.close()


def canvas(page, k=0):
    """The grey values of the k-th decoded picture on the page."""
    values = page.locator("canvas[data-ms]").nth(k).evaluate("""(c) => [c.height, c.width,
        ...c.getContext("2d").getImageData(0, 0, c.width, c.height).data.filter((_, i) => i % 4 === 0)]""")
    return np.array(values[2:]).reshape(values[0], values[1])


def check_page(site, name, *, formulas):
    """Open a page and check what holds for every page."""
    site.trouble.clear()
    page = site.open(name)
    check_content(page, formulas=formulas)
    page.context.close()
    assert not site.trouble, "\n".join(site.trouble)


def check_content(page, *, formulas):
    """What holds for every page, once it is open."""
    text = page.locator("main").inner_text()
    assert "Traceback (most recent call last)" not in text
    assert page.locator("mjx-merror").count() == 0, "a formula has an error"
    if formulas:
        assert page.locator("mjx-container").count() > 0, "no formula was rendered"
    bare = page.evaluate("""() => [...document.querySelectorAll("main img, main canvas")]
        .filter((e) => !e.closest("[aria-hidden=true]"))
        .filter((e) => { const text = (e.getAttribute("alt") || e.getAttribute("aria-label") || "").trim();
            return !text || /\\.(png|jpe?g|svg)$/.test(text); }).map((e) => e.outerHTML)""")
    assert not bare, f"pictures without a text for those who cannot see them: {[b[:200] for b in bare]}"
    if page.locator(".genmed-panel").count():
        test_accessibility.check_named(page)


def check_phone(site, name, **settings):
    """At 390 px nothing pushes the page sideways; code and tables scroll by themselves."""
    page = site.open(name, viewport={"width": 390, "height": 844}, **settings)
    wide = page.evaluate("""() => ["html", ".bd-article-container", ".bd-article"].map((s) => document.querySelector(s))
        .filter((e) => e.scrollWidth > e.clientWidth + 1).map((e) => `${e.className || e.tagName} ${e.scrollWidth}`)""")
    page.context.close()
    assert not wide, f"wider than the screen: {wide}"
