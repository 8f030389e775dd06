"""Training steps a second of the laboratory in two dimensions, at batch 128 in headless Chromium on one core.

    taskset -c 0 python tests/benchmarks/laboratory_speed.py [model ...]

For each model: steps a second of the bare training loop, and of the page as readers have it, with all its pictures.
Each by the processor time of the page's thread, which other work on the machine hardly changes, and by the clock,
which is the same on an idle machine.  The page lies in file:// under a policy with no eval and no network.  What it
found stands at the head of nets.js.
"""

import json
import os
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Browser, CDPSession, Page, sync_playwright

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import widget_page  # noqa: E402

from genmed_core import runtime  # noqa: E402
from genmed_core.widgets import Laboratory  # noqa: E402
from genmed_core.widgets.laboratory import MODELS  # noqa: E402

WARM, STEPS, SECONDS = 300, 300, 6  # steps until the browser has compiled the loop; steps and seconds that count
LOOP = """async (steps) => {
    const url = URL.createObjectURL(new Blob([models[0].get("_esm")], { type: "text/javascript" }));
    const { Trial } = window.laboratory ??= await import(url), settings = models[0].get("settings");
    const trial = window.trial ??= new Trial(settings), began = performance.now();
    for (let k = 0; k < steps; k++) trial.step(settings, "both");
    return (performance.now() - began) / 1000;
}"""


def processor_seconds(session: CDPSession) -> float:
    """Processor time of the page's thread so far."""
    metrics = {metric["name"]: metric["value"] for metric in session.send("Performance.getMetrics")["metrics"]}
    return metrics["TaskDuration"]


def loop(page: Page, session: CDPSession) -> tuple[float, float]:
    """Steps a second by the processor and by the clock."""
    page.evaluate(LOOP, WARM)
    before = processor_seconds(session)
    clock = page.evaluate(LOOP, STEPS)
    return STEPS / (processor_seconds(session) - before), STEPS / clock


def playing(page: Page, session: CDPSession) -> tuple[float, float]:
    """The same of the page while it plays with all its pictures."""
    at = "() => models[0].get('progress').step"
    page.get_by_role("button", name="Play").click()
    page.wait_for_timeout(1000 * SECONDS)
    page.get_by_role("button", name="Pause").click()
    warm, before = page.evaluate(at), processor_seconds(session)
    page.get_by_role("button", name="Play").click()
    page.wait_for_timeout(1000 * SECONDS)
    page.get_by_role("button", name="Pause").click()
    steps = page.evaluate(at) - warm
    return steps / (processor_seconds(session) - before), steps / SECONDS


def measure(browser: Browser, folder: Path, model: str) -> dict[str, int]:
    page = widget_page.show(browser, folder / f"{model}.html", Laboratory("ring", model))
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})
    found = dict(zip(("loop_by_processor", "loop_by_clock"), loop(page, session)))
    found |= dict(zip(("page_by_processor", "page_by_clock"), playing(page, session)))
    assert page.trouble == []
    page.context.close()
    return {name: round(value) for name, value in found.items()}


def main() -> None:
    models = sys.argv[1:] or list(MODELS)
    with sync_playwright() as driver, tempfile.TemporaryDirectory() as folder:
        browser = widget_page.launch(driver)
        print(f"{runtime.machine()}; {len(os.sched_getaffinity(0))} core, load {os.getloadavg()[0]:.1f}; "
              f"Chromium {browser.version}; steps a second at batch 128")
        for model in models:
            print(model, json.dumps(measure(browser, Path(folder), model)), flush=True)


if __name__ == "__main__":
    main()
