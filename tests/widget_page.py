"""Widgets on a page of their own in Chromium: the real widgets.js over the model of exported files, no Jupyter at all.

The page is opened from file:// under a content policy that allows no eval and no other host.
"""

import base64
import json
import shutil

import pytest

from genmed_core.widgets.export import MODEL

POLICY = ("default-src 'none'; script-src 'unsafe-inline' blob:; style-src 'unsafe-inline'; img-src blob: data:")
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
         "--disable-background-networking", "--disable-component-update"]
PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Widgets</title>
<meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="POLICY"><style>CSS</style></head><body><main></main><script>
MODEL
window.models = WIDGETS.map((state) => Object.assign(storedModel(state), {
  save_changes: () => { window.saved = (window.saved ?? 0) + 1; },
}));
window.display = async (k) => {
  const { default: widget } = await import(URL.createObjectURL(new Blob([models[k].get("_esm")],
                                                                        { type: "text/javascript" })));
  const el = document.querySelector("main").appendChild(document.createElement("div"));
  return widget.render({ model: models[k], el });
};
window.ready = (async () => { for (const k of models.keys()) await display(k); })();
</script></body></html>"""


def pack(value):
    if isinstance(value, (bytes, memoryview)):
        return {"bytes": base64.b64encode(value).decode()}
    return [pack(v) for v in value] if isinstance(value, (list, tuple)) else value


def write(path, *widgets):
    """Write a page that shows the widgets; returns its file:// address. Names are sorted, as in a saved notebook."""
    states = [{key: pack(value) for key, value in widget.get_state().items() if key != "layout"} for widget in widgets]
    data = json.dumps(states, default=str, sort_keys=True).replace("</", "<\\/")
    html = PAGE.replace("MODEL", MODEL).replace("POLICY", POLICY).replace("CSS", widgets[0]._css)
    html = html.replace("WIDGETS", data)
    path.write_text(html, encoding="utf-8")
    return path.as_uri()


def launch(driver):
    """Chromium, or a skip where there is none."""
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        pytest.skip("no Chromium on this machine; on Debian: apt-get install chromium")
    return driver.chromium.launch(executable_path=path, args=FLAGS)


def show(browser, path, *widgets, **settings):
    """Open the widgets in Chromium; page.trouble collects what went wrong."""
    page = browser.new_context(**{"viewport": {"width": 1280, "height": 900}} | settings).new_page()
    page.set_default_timeout(60_000)
    page.trouble = []
    page.on("console", lambda m: page.trouble.append(m.text) if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: page.trouble.append(str(error)))
    page.goto(write(path, *widgets))
    page.evaluate("() => window.ready")
    return page
