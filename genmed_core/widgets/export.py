"""A widget as one file, with no kernel, no network, no eval: for slides, a frame, or MyST.

The file holds the widget's script and state, and a model of a few lines in place of Jupyter's.  As
HTML it is a page; as a module (.mjs) it is what MyST's directive shows:

    :::{anywidget} name.mjs
    {}
    :::

Traits that are named between the lines take the place of those that were stored, as in
{"values": [3]}.  See https://mystmd.org, "anywidget".
"""

from __future__ import annotations

import base64
import html
import json
from pathlib import Path
from typing import Any

POLICY = ("default-src 'none'; script-src 'unsafe-inline' blob:; style-src 'unsafe-inline'; "
          "img-src blob: data:; worker-src blob:")
MODEL = (Path(__file__).parent / "stored_model.js").read_text(encoding="utf-8")
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>{title}</title>
<style>:root {{ color-scheme: light dark; }}
body {{ margin: 12px; font-family: system-ui, sans-serif; background: Canvas; color: CanvasText; }}
{css}</style></head>
<body><main></main><script>{model}
const model = storedModel({state});
const url = URL.createObjectURL(new Blob([model.get("_esm")], {{ type: "text/javascript" }}));
const el = document.querySelector("main");
import(url).then(({{ default: widget }}) => widget.render({{ model, el }}));
</script></body></html>
"""
DEFAULT = "export default { render };"  # every widget's script says so, once
MODULE = """
{model}
const STORED = {state};

/** As stored, but for what the page's own model names; the styles go where the widget is. */
function renderStored({{ model: named, el }}) {{
  const given = Object.keys(STORED).map((key) => [key, named.get(key) ?? STORED[key]]);
  const model = storedModel(Object.fromEntries(given));
  el.append(Object.assign(document.createElement("style"), {{ textContent: {css} }}));
  return render({{ model, el }});
}}

export default {{ render: renderStored }};
"""


def write_page(widget: Any, path: str | Path, title: str = "") -> Path:
    """Write an anywidget, in its present state, as one file; returns the file's path.

    A path in .html becomes a page, one in .mjs a module for MyST.  ValueError for any other.
    """
    path = Path(path)
    if path.suffix not in (".html", ".mjs"):
        raise ValueError(f"{path} does not end in .html, for a page, or in .mjs, for MyST: "
                         "browsers open the file by its name")
    state = {key: _packed(value) for key, value in widget.get_state().items()
             if key not in ("layout", "tooltip")}
    if path.suffix == ".html":
        text = PAGE.format(policy=POLICY, title=html.escape(title or type(widget).__name__),
                           css=widget._css, model=MODEL, state=_script(state))
    else:
        esm, css = state.pop("_esm"), state.pop("_css", widget._css)
        text = esm.replace(DEFAULT, "") + MODULE.format(model=MODEL, state=_script(state),
                                                        css=_script(css))
    path.write_text(text, encoding="utf-8")
    return path


def _script(value: Any) -> str:
    """A value as JavaScript; nothing in it closes a page's script."""
    return json.dumps(value).replace("<", "\\u003c")


def _packed(value: Any) -> Any:
    """A value as JSON can hold it, bytes in base64."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return {"bytes": base64.b64encode(value).decode()}
    if isinstance(value, (list, tuple)):
        return [_packed(v) for v in value]
    return {key: _packed(v) for key, v in value.items()} if isinstance(value, dict) else value
