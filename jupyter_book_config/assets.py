"""For slides and handouts: a chapter's figures with their captions, each slider as a page, and a deck to begin from.

    python jupyter_book_config/assets.py              all chapters, in _build/assets/NAME/
    python jupyter_book_config/assets.py 4 08_ddpm    these
    python jupyter_book_config/assets.py --course mine.yml    those of a course, your own chapters too
    python jupyter_book_config/assets.py --source mine    those of another folder

Nothing is run: pictures and sliders are those that the notebooks store. slides.md is plain Markdown whose slides are
parted by `---`, as Marp, pandoc and reveal.js take it. Solutions are left out.
"""

import argparse
import base64
import copy
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import course
import first_import  # noqa: F401
import nbformat
import notebooks
import stored_widgets

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "_build" / "assets"
PICTURES = {"image/svg+xml": "svg", "image/png": "png", "image/jpeg": "jpg"}
CAPTION = re.compile(r"^\*\*Figure (\d+\.\d+)\.\*\* (.+?)(?=\n\n|\Z)", re.M | re.S)
FORMULA = re.compile(r"^\$\$.+?\$\$", re.M | re.S)
HIDDEN = re.compile(r"<details.*?</details>|<!--.*?-->", re.S)  # hints and solutions, marks
WITHOUT = {"Exercises", "References"}  # sections that make no slides
HEAD = "---\nmarp: true\nmath: mathjax\npaginate: true\n---\n\n"
LICENCE = "Text and figures: CC BY 4.0, from *{title}*. Generated images are synthetic, not for diagnosis."


@dataclass
class Slide:
    """A heading and what stands below it; notes are for the speaker."""

    heading: str
    body: str
    notes: str = ""

    def __str__(self) -> str:
        notes = f"<!-- {self.notes.replace('--', '- -')} -->" if self.notes else ""
        return "\n\n".join(filter(None, [f"## {self.heading}", self.body, notes]))


def make(path: Path, out: Path = OUT) -> Path:
    """Write the assets of one notebook into out/NAME, which is emptied first; returns that folder."""
    place = out / path.stem
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    cells = [cell for cell in notebooks.read_notebook(path).cells if "solution" not in cell.metadata.get("tags", [])]
    title = re.search(r"^# (.+)$", cells[0].source, re.M)
    opening = re.sub(r"^# .+\n+", "", cells[0].source).split("\n\n")[0]
    slides = [Slide(title[1] if title else path.stem, opening)]
    slides += body(cells, stored_widgets.path_for(path), place)
    slides.append(Slide("Source", LICENCE.format(title=slides[0].heading)))
    (place / "slides.md").write_text(HEAD + "\n\n---\n\n".join(map(str, slides)) + "\n", encoding="utf-8")
    return place


def body(cells: Sequence[nbformat.NotebookNode], kept: Path, place: Path) -> Iterator[Slide]:
    """A slide for each section with its first formulas, each figure, each slider and each question to predict."""
    heading = ""
    models = stored_widgets.kept(kept) if kept.exists() else {}
    for number, cell in enumerate(cells):
        if cell.cell_type == "markdown":
            for part in re.split(r"^(?=## )", HIDDEN.sub("", cell.source), flags=re.M):
                if found := re.match(r"## (.+)\n*", part):
                    heading = found[1].strip()
                    if heading not in WITHOUT:
                        text = part[found.end():]
                        yield Slide(heading, "\n\n".join(FORMULA.findall(text)[:2]), text.split("\n\n")[0].strip())
                if asked := re.search(r"^\*\*Exercise [\d.]+ \(predict ★+\)\. (.+?)\*\*(.+)", part, re.M | re.S):
                    yield Slide(asked[1].rstrip("."), asked[2].strip())
        for output in cell.get("outputs", []):
            yield from shown(output, cell, cells[number + 1:], heading, models, place)


def shown(output: nbformat.NotebookNode, cell: nbformat.NotebookNode, after: Sequence[nbformat.NotebookNode],
          heading: str, models: dict, place: Path) -> Iterator[Slide]:
    """The slide of an output that is a figure or a slider, whose file is written; nothing for another."""
    data = output.get("data", {})
    kind = next((kind for kind in PICTURES if kind in data), None)
    model = models.get(output.get("metadata", {}).get("genmed", {}).get("widget"))
    if model and not model["state"]["_anywidget_id"].endswith(".Question"):
        name = numbered("slider", place)
        export(model, place / f"{name}.html", heading)
        picture = f"![]({name}.{PICTURES[kind]})\n\n" if kind else ""
        yield Slide(heading, f"{picture}[Move it: {name}.html]({name}.html)", model["state"].get("caption") or "")
    elif kind and not notebooks.is_still(output):
        alt = cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "")
        caption = next((CAPTION.match(c.source) for c in after[:1] if c.cell_type == "markdown"), None)
        name = f"figure_{caption[1]}" if caption else numbered("picture", place)
        words = f"Figure {caption[1]}. {' '.join(caption[2].split())}" if caption else alt
        (place / f"{name}.txt").write_text(f"{words}\n\nIn words: {alt}\n", encoding="utf-8")
        yield Slide(heading, f"![{alt}]({name}.{PICTURES[kind]})\n\n{words}")
    else:
        return
    if kind:
        picture = data[kind]
        content = picture.encode() if kind == "image/svg+xml" else base64.b64decode(picture)
        (place / f"{name}.{PICTURES[kind]}").write_bytes(content)


def numbered(kind: str, place: Path) -> str:
    """The next name of its kind: slider_1, slider_2, ..."""
    return f"{kind}_{len({path.stem for path in place.glob(f'{kind}_*')}) + 1}"


def export(model: dict, path: Path, title: str) -> None:
    """A kept slider as one HTML file, as `widget.export` writes it of a living one."""
    from genmed_core.widgets.export import write_page

    state = copy.deepcopy(model["state"])
    for buffer in model.get("buffers", []):
        target = state
        for key in buffer["path"][:-1]:
            target = target[key]
        target[buffer["path"][-1]] = base64.b64decode(buffer["data"])
    write_page(SimpleNamespace(get_state=lambda: state, _css=state["_css"]), path, title)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("chapters", nargs="*", help="numbers or names, such as 2 or 02_vae; default all")
    parser.add_argument("--source", type=Path, default=notebooks.CHAPTERS, help="the folder of the notebooks")
    parser.add_argument("--course", type=Path, metavar="FILE", help="your course file")
    options = parser.parse_args()
    try:
        files = (course.read(options.course, options.source).notebooks() if options.course else
                 {path.stem: path for path in sorted(options.source.glob("*.ipynb"))})
        for name in notebooks.pick(list(files), options.chapters):
            place = make(files[name])
            print(f"{place.relative_to(ROOT)}: slides.md, {len(list(place.glob('figure_*.txt')))} figures, "
                  f"{len(list(place.glob('*.html')))} sliders", flush=True)
    except (course.CourseError, notebooks.ChapterError) as problem:
        sys.exit(f"error: {problem}")


if __name__ == "__main__":
    main()
