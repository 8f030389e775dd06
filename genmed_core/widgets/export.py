"""A widget as one HTML file: no kernel, no network, no eval; for slides, a course's pages, a frame.

The file holds the widget's script and state, and a model of a few lines in place of Jupyter's.
"""

from __future__ import annotations

import base64
import html
import json
from pathlib import Path
from typing import Any

POLICY = ("default-src 'none'; script-src 'unsafe-inline' blob:; style-src 'unsafe-inline'; "
          "img-src blob: data:; worker-src blob:")
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>{title}</title>
<style>:root {{ color-scheme: light dark; }}
body {{ margin: 12px; font-family: system-ui, sans-serif; background: Canvas; color: CanvasText; }}
{css}</style></head>
<body><main></main><script>
const unpack = (value) => {{
  if (Array.isArray(value)) return value.map(unpack);
  if (!value || value.bytes === undefined) return value;
  return new DataView(Uint8Array.from(atob(value.bytes), (c) => c.charCodeAt(0)).buffer);
}};
const given = {state};
const values = {{}};
for (const [key, value] of Object.entries(given)) values[key] = unpack(value);
const watchers = new Set();
const model = {{
  get: (key) => values[key],
  set(key, value) {{
    values[key] = value;
    for (const [name, call] of [...watchers]) if (name === `change:${{key}}`) call();
  }},
  on: (name, call) => watchers.add([name, call]),
  off: (name, call) => watchers.forEach((each) => {{
    if (each[0] === name && each[1] === call) watchers.delete(each);
  }}),
  save_changes() {{}},
}};
const url = URL.createObjectURL(new Blob([values._esm], {{ type: "text/javascript" }}));
const el = document.querySelector("main");
import(url).then(({{ default: widget }}) => widget.render({{ model, el }}));
</script></body></html>
"""


def write_page(widget: Any, path: str | Path, title: str = "") -> Path:
    """Write an anywidget, in its present state, as one HTML file; returns the file's path.

    ValueError where path does not end in .html.
    """
    path = Path(path)
    if path.suffix != ".html":
        raise ValueError(f"{path} does not end in .html: browsers open the file by its name")
    state = {key: _packed(value) for key, value in widget.get_state().items()
             if key not in ("layout", "tooltip")}
    text = json.dumps(state).replace("<", "\\u003c")  # nothing in it closes the script
    page = PAGE.format(policy=POLICY, title=html.escape(title or type(widget).__name__),
                       css=widget._css, state=text)
    path.write_text(page, encoding="utf-8")
    return path


def _packed(value):
    """A value as JSON can hold it, bytes in base64."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return {"bytes": base64.b64encode(value).decode()}
    if isinstance(value, (list, tuple)):
        return [_packed(v) for v in value]
    return {key: _packed(v) for key, v in value.items()} if isinstance(value, dict) else value
