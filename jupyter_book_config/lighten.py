"""What a reader's browser need not fetch, or not first, taken out of finished pages.

Sphinx puts what a page's sliders hold, up to 2 MB, above the page's text, each with its scripts. Here it comes below
the text, slider by slider and light ones first, so that sliders.js draws some while others are on their way, and each
script once. The theme ships two thousand icons, of which a site shows two dozen. Jupyter's widget manager is for pages
with other widgets than ours. And the search's index would hold up every page.

At 9 Mbit/s the text is there after 1.4 to 1.7 s and the first slider after 1.7 to 3.4 s; untouched and on a busier
machine, after 8 to 10 and 10 to 15 (tests/benchmarks/first_picture.py).
"""

import base64
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

ICONS = Path("_static", "scripts", "fontawesome.js")
ICON = re.compile(r'"?([\w-]+)"?:(\[\d+,\d+,\[[^\]]*\],"[0-9a-f]+","[^"]*"\]),?')
STATE = r'<script type="application/vnd\.jupyter\.widget-state\+json">(.*?)</script>'
VIEW = re.compile(r'<script type="application/vnd\.jupyter\.widget-view\+json">(.*?)</script>', re.S)
SLIDERS = re.compile(rf'\s*{STATE}(?:\s*<script [^>]*src="[^"]*(?:stored_model|sliders)\.js[^>]*></script>)+', re.S)
SEARCH = re.compile(r'<script (src="(?:_static/searchtools|_static/language_data|searchindex)\.js")')
SHARED = 1000  # bytes that a buffer has at least for others to name it
MANAGER = ("html-manager.js", "html-manager-LICENSES.txt", "require.js", "anywidget.js", "@jupyter-widgets")


def lighten(folder: Path) -> None:
    """Change the pages of a site, and the scripts that they share, where they lie."""
    pages = {path: path.read_text(encoding="utf-8") for path in folder.glob("*.html")}
    cut_icons(folder)
    held = [state[1] for page in pages.values() if (state := re.search(STATE, page, re.S))]
    if not any(map(others, held)):
        for name in MANAGER:
            _remove(folder / "_static" / "vendor" / name)
    for path in folder.glob("_static/**/*.map"):
        path.unlink()
    for path, page in pages.items():
        path.write_text(text_first(page, searches=path.stem == "search"), encoding="utf-8")


def text_first(page: str, searches: bool = False) -> str:
    """A page whose text comes before what its sliders hold, and before the search's index."""
    if sliders := SLIDERS.search(page):
        page = page.replace(sliders[0], "", 1)
        held = re.search(STATE, sliders[0], re.S)
        scripts, state = sliders[0].replace(held[0], "").strip(), held[0]
        if not others(held[1]):
            state = "\n".join(one_by_one(json.loads(held[1])["state"], VIEW.findall(page)))
        at = page.rindex("</body>")
        page = f"{page[:at]}{scripts}\n{state}\n{page[at:]}"
    return page if searches else SEARCH.sub(r"<script defer \1", page)


def others(state: str) -> bool:
    """Whether a page's state holds a widget that is not ours; sliders.js leaves them all to Jupyter's manager then."""
    return any(model["model_name"] != "LayoutModel"
               and not model["state"].get("_anywidget_id", "").startswith("genmed_core.")
               for model in json.loads(state)["state"].values())


def one_by_one(models: dict[str, dict], views: list[str]) -> Iterator[str]:
    """The models that a page shows, light ones first, each with what was not there before: scripts, networks."""
    texts: dict[str, int] = {}
    carried: list[bytes] = []
    shown = {json.loads(view)["model_id"] for view in views}
    for name in sorted(shown, key=lambda name: (len(json.dumps(models[name])), name)):
        state, new = dict(models[name]["state"]), {}
        for key in ("_esm", "_css"):
            text = state[key]
            if text not in texts:
                new[len(texts)] = text
            state[key] = texts.setdefault(text, len(texts))
        content = {"name": name, "texts": new, **models[name], "state": state}
        if buffers := models[name].get("buffers"):
            content["buffers"] = [once(buffer, carried) for buffer in buffers]
        content = json.dumps(content).replace("<", "\\u003c")
        yield f'<script type="application/json" class="genmed-model">{content}</script><script>genmedShow()</script>'


def once(buffer: dict, carried: list[bytes]) -> dict:
    """A buffer as a page carries it: what one before it holds as well, as its end, is named and not written again.

    So a pad and a slider share one decoder.  carried: the buffers before, to which this one is added.
    """
    data = base64.b64decode(buffer["data"])
    for place, before in enumerate(carried):
        if len(before) >= SHARED and data.endswith(before):
            head = base64.b64encode(data[:len(data) - len(before)]).decode()
            return buffer | {"data": head, "then": place}
    carried.append(data)
    return buffer


def cut_icons(folder: Path) -> None:
    """Leave the icons that some page or script names."""
    place = folder / ICONS
    if not place.exists():
        return
    wanted = set(_named(folder))

    def kept(icon: re.Match) -> str:
        aliases = re.findall(r'"([\w-]+)"', icon[2].partition("]")[0])
        return icon[0] if wanted & {icon[1], *aliases} else ""

    place.write_text(ICON.sub(kept, place.read_text(encoding="utf-8")), encoding="utf-8")


def _named(folder: Path) -> Iterator[str]:
    """What follows fa- in pages and scripts, the icons' own file aside."""
    scripts = [path for path in folder.glob("_static/**/*.js") if path != folder / ICONS and "vendor" not in path.parts]
    for path in (*folder.glob("*.html"), *scripts):
        yield from re.findall(r"\bfa-([a-z0-9-]+)", path.read_text(encoding="utf-8"))


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
