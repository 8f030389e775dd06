"""Training steps a second of the laboratory in two dimensions, at batch 128 in headless Chromium on one core.

    taskset -c 0 python tests/benchmarks/laboratory_speed.py

For each model: steps a second of the bare training loop, by the clock and by the processor time of the page's
process (the same on an idle machine), and of the page as readers have it, with all its pictures.  The page lies in
file:// under a policy with no eval and no network.  Written to laboratory_speed.json beside this file.
"""

import json
import os
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import widget_page  # noqa: E402

from genmed_core import runtime  # noqa: E402
from genmed_core.widgets import Laboratory  # noqa: E402
from genmed_core.widgets.laboratory import MODELS  # noqa: E402

SECONDS = 6
LOOP = """async (seconds) => {
    const url = URL.createObjectURL(new Blob([models[0].get("_esm")], { type: "text/javascript" }));
    const { Trial } = await import(url), trial = new Trial(models[0].get("settings"));
    for (let k = 0; k < 50; k++) trial.step(models[0].get("settings"), "both");
    const began = performance.now(), before = trial.steps;
    while (performance.now() - began < 1000 * seconds) trial.step(models[0].get("settings"), "both");
    return [trial.steps - before, (performance.now() - began) / 1000];
}"""


def processor_seconds(browser: Browser) -> float:
    """Processor time of the page's process so far."""
    processes = browser.new_browser_cdp_session().send("SystemInfo.getProcessInfo")["processInfo"]
    return sum(process["cpuTime"] for process in processes if process["type"] == "renderer")


def page_steps(page: Page) -> float:
    """Steps a second while it plays with all pictures."""
    page.get_by_role("button", name="Play").click()
    page.wait_for_timeout(1000 * SECONDS)
    page.get_by_role("button", name="Pause").click()
    return page.evaluate("() => models[0].get('progress').step") / SECONDS


def measure(browser: Browser, folder: Path, model: str) -> dict[str, float]:
    page = widget_page.show(browser, folder / f"{model}.html", Laboratory("ring", model))
    before = processor_seconds(browser)
    steps, clock = page.evaluate(LOOP, SECONDS)
    spent = processor_seconds(browser) - before
    with_pictures = page_steps(page)
    assert page.trouble == []
    page.context.close()
    return {"loop_by_clock": round(steps / clock), "loop_by_processor": round(steps / spent),
            "page_by_clock": round(with_pictures)}


def main() -> None:
    with sync_playwright() as driver, tempfile.TemporaryDirectory() as folder:
        browser = widget_page.launch(driver)
        result = {"machine": runtime.machine(), "cores": len(os.sched_getaffinity(0)), "load": os.getloadavg()[0],
                  "chromium": browser.version, "batch": 128,
                  "steps_a_second": {model: measure(browser, Path(folder), model) for model in MODELS}}
    Path(__file__).with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
