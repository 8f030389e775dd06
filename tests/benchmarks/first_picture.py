"""How soon a reader is answered: from a slider's move to its picture, and from opening a page to its first slider.

    taskset -c 0 python tests/benchmarks/first_picture.py [--site _build/html]

Every decoder that a chapter keeps is moved MOVES times in headless Chromium, from file:// under a policy with no eval:
milliseconds from the slider's event to the frame with the new picture.  Then all sliders of a chapter on one page, from
its opening until the first of them can be moved; with --site the same of a built book's pages, formulas and all: by the
clock, and by the processor, which other work on the machine changes less; and by a network of 9 Mbit/s.  The aims are
50 ms, 2 s and 4 s.  What it found stands at the heads of explorer.js and lighten.py.
"""

import argparse
import base64
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from playwright.sync_api import Browser, sync_playwright

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "jupyter_book_config")]

import site_pages  # noqa: E402
import stored_widgets  # noqa: E402
import widget_page  # noqa: E402

from genmed_core import runtime  # noqa: E402

MOVES = 40
ANSWER = """async (moves) => {
    const slider = document.querySelector(".genmed-panel input");
    const frame = () => new Promise((resume) => { requestAnimationFrame(resume); });
    const times = [];
    for (let i = 0; i < moves + 5; i++) {
        await frame();
        const began = performance.now();
        slider.valueAsNumber = i % 2 ? Number(slider.min) : Number(slider.max);
        slider.dispatchEvent(new Event("input", { bubbles: true }));
        await frame(); // it draws before it comes here
        times.push(performance.now() - began);
    }
    return times.slice(5).sort((a, b) => a - b);
}"""
FIRST = "() => document.querySelector('.genmed-panel input, .genmed-lab input')"


def kept(place: Path) -> list[SimpleNamespace]:
    """The panels that a chapter keeps, as widget_page opens them."""
    found = []
    for model in stored_widgets.kept(place).values():
        state = model["state"]
        if not state.get("_anywidget_id", "").startswith("genmed_core"):
            continue
        for buffer in model.get("buffers", []):
            _set(state, buffer["path"], base64.b64decode(buffer["data"]))
        found.append(SimpleNamespace(get_state=lambda state=state: state, _css=state["_css"], view=state.get("view")))
    return found


def _set(state: Any, path: list, value: bytes) -> None:
    *way, last = path
    for key in way:
        state = state[key]
    state[last] = value


def answers(browser: Browser, folder: Path, name: str, panel: SimpleNamespace) -> None:
    page = widget_page.show(browser, folder / "one.html", panel)
    times = page.evaluate(ANSWER, MOVES)
    print(f"{name}: a decoder answers in {times[len(times) // 2]:.1f} ms in the middle, {times[-1]:.1f} at worst",
          flush=True)
    page.context.close()


def processor_seconds(browser: Browser) -> float:
    """Processor time of the whole browser so far: what one core that did nothing else would need."""
    processes = browser.new_browser_cdp_session().send("SystemInfo.getProcessInfo")["processInfo"]
    return sum(process["cpuTime"] for process in processes)


def opens(browser: Browser, name: str, address: str) -> None:
    page = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
    before = processor_seconds(browser)
    page.goto(address, wait_until="commit")
    page.wait_for_function(FIRST, timeout=120_000)
    clock = page.evaluate("() => performance.now()")
    print(f"{name}: the first slider is there after {clock / 1000:.2f} s by the clock, "
          f"{processor_seconds(browser) - before:.2f} s of the processor", flush=True)
    page.context.close()


def over_a_network(browser: Browser, folder: Path) -> None:
    site = site_pages.Site(folder, browser)
    for place in (folder / "intro.html", *sorted(folder.glob("[01]*.html"))):
        text, slider, size = site.first_slider(place.name)
        print(f"at 9 Mbit/s {place.stem}: text after {text:.1f} s, the first slider after {slider:.1f} s and "
              f"{size / 1e6:.1f} MB of a page of {place.stat().st_size / 1e6:.1f} MB", flush=True)
    site.close()


def pages(folder: Path, site: Path | None) -> Iterator[tuple[str, str]]:
    """The name and the address of every page that is opened."""
    for place in sorted((ROOT / "chapters" / "figures" / "widgets").glob("*.xz")):
        name, panels = place.name.split(".")[0], kept(place)
        if panels:
            yield name, widget_page.write(folder / f"{name}.html", *panels)
    for place in sorted(site.glob("[01]*.html")) if site else []:
        yield f"built {place.stem}", place.as_uri()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--site", type=Path, help="the folder of a built book")
    options = parser.parse_args()
    with sync_playwright() as driver, tempfile.TemporaryDirectory() as folder:
        browser = widget_page.launch(driver)
        print(f"{runtime.machine()}; load {os.getloadavg()[0]:.1f}; Chromium {browser.version}")
        for place in sorted((ROOT / "chapters" / "figures" / "widgets").glob("*.xz")):
            for panel in kept(place):
                if panel.view == "decoder":
                    answers(browser, Path(folder), place.name.split(".")[0], panel)
        site = options.site and options.site.resolve()
        for name, address in pages(Path(folder), site):
            opens(browser, name, address)
        if site:
            over_a_network(browser, site)


if __name__ == "__main__":
    main()
