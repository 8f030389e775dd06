"""Numbers in the prose of the book, and where each of them stands.

    python tests/prose_numbers.py 2 measuring    what is unfounded in a chapter, or in a page of chapters/; all without

A number in prose is founded where its paragraph can have it from:

- an output stored in the notebook, at most as precise as it is printed there, in the paragraph's own part (from one
  `##` heading to the next) on a line that shares a word with the paragraph ("recall ... 0.85" and "recall of our
  samples: 0.853"); with three digits or more also in another part, on a line that shares two words; with four anywhere;
- a stored result chapters/figures/NAME.json, or a page NAME.md, that the same part names (`STUDY=NAME`, `NAME.json`,
  a link to `NAME.md`), where the line, or the keys that lead to the number, share two words with the paragraph;
- a constant in the code of its part, or on a line of code that shares a word with it.

Percent stand for shares and the other way round. Needing no source: formulas and code, whole numbers to twelve, powers
of two, years, the numbers of equations, figures, chapters, sections and exercises, sizes such as 28 x 28, references,
and paragraphs that say `<!-- from the textbook -->` or `<!-- from Author YEAR -->`, where that source is listed.
A table in prose beside the command of a study (`make study STUDY=NAME`) is held against what the study prints, row by
row: `test_prose_numbers.py`.
"""

import ast
import functools
import json
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from html import unescape
from pathlib import Path
from statistics import mean, stdev

import jupytext
import nbformat

ROOT = Path(__file__).resolve().parent.parent
CHAPTERS, FIGURES = ROOT / "chapters", ROOT / "chapters" / "figures"
SMALL = 12  # whole numbers up to here are words of the language
SIZES = {2**k for k in range(4, 14)} | {255, 784}  # of layers, batches, bytes and digits
SAME = {"fd": "fréchet distance", "kid": "kernel distance", "sd": "deviation"}
GENERATED = re.compile(r"<!-- (\w+): generated from .*?<!-- end of \1 -->", re.S)  # held by the test of what makes it
EXEMPTION = re.compile(r"<!--\s*from (the textbook|[^<>]*?\b(?:19|20)\d\d[a-z]?)\s*-->")
NUMBER = re.compile(
    r"(?<![\w.,/^_])(?P<digits>\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?)(?P<power>e[-+]?\d+)?"
    r"(?P<scale>\s+(?:million|billion)\b)?(?P<percent>(?:\s|\u00a0)?%|\s+per\s?cent\b|"
    r"(?=\s*(?:to|–|-|±|and|or)\s*\d+(?:\.\d+)?\s?%))?(?![\w]|\.\d)")
NAMED = re.compile(  # what is called by its number: figure 4.2, exercises 4.1 and 4.3, chapters 4 to 6, section 8.4.7
    r"\b(?:figures?|fig\.|tables?|chapters?|sections?|exercises?|solutions?|equations?|eqs?\.|parts?|seeds?|python|torch|"
    r"page|pages|version|no\.|issues?|algorithms?|class|classes|digits?)"
    r"(?:\s|\*|\()*\d+[a-z]?(?:\.\d+)*(?:(?:,|\s|and|to|or|–|-)+\d+[a-z]?(?:\.\d+)*)*", re.I)
FORMULA = re.compile(r"\$\$.*?\$\$", re.S)
UNNUMBERED = [
    re.compile(r"<!--.*?-->", re.S), re.compile(r"```.*?```", re.S), re.compile(r"``.*?``|`[^`]*`", re.S),
    re.compile(r"\$[^$]*\$", re.S), re.compile(r"!\[[^\]]*\]\([^)]*\)"),
    re.compile(r"(?<=\])\([^)]*\)"), re.compile(r"<[^>]+>"), re.compile(r"^#+ .*$", re.M),
    re.compile(r"^\*\*(?:Exercise )?\d+(?:\.\d+)?[.* (]", re.M), re.compile(r"^\s*\d+\.\s", re.M),
    re.compile(r"\((?:[A-Z]\.)?\d+\.\d+[a-z]?(?:(?:,|\s|and|to|–|-)+\d+\.\d+[a-z]?)*\)"),
    re.compile(r"\b\d+(?:\.\d+){2,}\b"), NAMED,
    re.compile(r"\b[A-Z_]+=\S+|\b\d+(?:-|\s)bits?\b|\b\d+-year"),
    re.compile(r"\b\d+(?:\s*[x×]\s*\d+)+\b"), re.compile(r"\b\d+(?:st|nd|rd|th)\b")]
ROUGHLY = re.compile(r"\b(?:about|some|nearly|almost|roughly|around|over|than|under|least|most|like|above|below)\s+$")
STOP = frozenset(re.findall(r"\w+", """
    about above after again all also and another are because been before below best better between both but can could
    does each even every first for from half has have here how into its itself just last less like little many mean
    more most much must nearly never not number numbers once one only other our out over own same see should small
    some still such take than that the their them then there these they this those three through time times under
    until upon use used very was well were what when where which while whose will with without would you your test
    image images digit digits model models chapter real"""))


@dataclass(frozen=True)
class Number:
    """A number as it is printed: its value, the size of half its last place, and whether it counts percent."""

    text: str
    value: float
    half: float  # half of the last place
    percent: bool = False

    @property
    def digits(self) -> int:
        """Significant ones, trailing zeros of whole numbers left out."""
        return len(re.sub(r"\D", "", self.text.split("e")[0]).lstrip("0"))


@dataclass(frozen=True)
class Source:
    """A number that prose may repeat: where it stands, and the words around it."""

    number: Number
    words: frozenset[str] = frozenset()
    part: int = -1  # of the notebook; -1 belongs to no part
    code: bool = False
    shares: bool = False  # its heading says %
    need: int = 1  # how many words a paragraph has to share with it


@dataclass
class Page:
    """A chapter or a page: its paragraphs with the part each stands in, and all sources."""

    name: str
    paragraphs: list[tuple[int, str]] = field(default_factory=list)
    sources: list[Source] = field(default_factory=list)
    references: str = ""


def numbers(text: str) -> Iterator[tuple[Number, re.Match]]:
    """All numbers printed in a text that is plain already."""
    for match in NUMBER.finditer(text):
        digits = match["digits"].replace(",", "")
        value, places = float(digits), len(digits.partition(".")[2])
        factor = 10.0 ** int((match["power"] or "e0")[1:])
        if match["scale"]:
            factor *= 1e6 if "million" in match["scale"] else 1e9
        half = 0.5 * 10.0**-places * factor
        yield Number(match[0].strip(), value * factor, half, match["percent"] is not None), match


def words(text: str) -> frozenset[str]:
    """The beginnings of a text's telling words."""
    found = re.findall(r"[^\W\d_]{2,}", unescape(text).lower())
    found = [word for each in found for word in SAME.get(each, each).split() if len(word) > 2]
    return frozenset(word[:5] for word in found if word not in STOP)


def blank(pattern: re.Pattern, text: str) -> str:
    """A text of equal length with what a pattern finds blanked out."""
    return pattern.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), text)


def measured(paragraph: str) -> Iterator[tuple[Number, bool]]:
    """The numbers of a paragraph that need a source, and whether each is given roughly ("about 4,600")."""
    text = blank(FORMULA, paragraph)
    for pattern in UNNUMBERED:
        text = blank(pattern, text)
    for number, match in numbers(text):
        year = number.text.isdigit() and 1900 <= number.value <= 2099
        small = number.text.isdigit() and number.value <= SMALL
        if year or small or number.value in SIZES or number.text.rstrip("0.") == "":
            continue
        yield number, bool(ROUGHLY.search(text[:match.start()].lower()))


def agree(said: Number, source: Number, roughly: bool = False, shares: bool = False) -> bool:
    """Whether a number in prose is a source's, rounded to the places that prose gives."""
    half = said.half
    if roughly and half >= 0.5:  # the zeros at the end of "about 4,600" are no digits
        whole = re.match(r"[\d,]+", said.text)[0]
        half *= 10.0 ** (len(whole) - len(whole.rstrip("0")))
    values = [said.value] if said.percent == source.percent or shares else []
    if said.percent and not source.percent and abs(source.value) <= 2:
        values, half = [said.value / 100], half / 100
    elif source.percent and not said.percent and said.value <= 2:
        values, half = [said.value * 100], half * 100
    for value in values:
        apart = abs(value - source.value)
        if apart <= half * (1 + 1e-6) and source.half <= half * (1 + 1e-6):
            return True
    return False


def unfounded(page: Page) -> list[tuple[str, str]]:
    """The numbers of a page that stand nowhere, each with its paragraph."""
    found = []
    for part, paragraph in page.paragraphs:
        around = words(paragraph)
        for number, roughly in measured(paragraph):
            if not any(_holds(source, number, part, around, roughly) for source in page.sources):
                found.append((number.text, paragraph))
    return found


def _holds(source: Source, number: Number, part: int, around: frozenset[str], roughly: bool = False) -> bool:
    shared = len(source.words & around)
    here = source.part == part
    if source.code:
        exact = source.number.value == (number.value / 100 if number.percent else number.value)
        exact = exact and ("." in source.number.text or "." not in number.text)
        return exact and (here or shared > (0 if number.value.is_integer() else 1))
    near = here and (shared >= min(max(source.need, 1 + (len(source.words) > 4)), len(source.words)))
    far = number.digits >= 4 or number.digits == 3 and shared >= max(2, len(source.words) / 2)
    return (near or far) and agree(number, source.number, roughly, source.shares)


def exempt(block: str, references: str) -> bool:
    """Whether a block of prose names a source that is listed (the textbook always is)."""
    for match in EXEMPTION.finditer(block):
        if match[1] == "the textbook":
            return True
        author, year = re.match(r"[^\W\d_]+", match[1]), re.search(r"\d{4}", match[1])
        if author and author[0] in references and year[0] in references:
            return True
    return False


def blocks(text: str) -> list[str]:
    """Prose at its empty lines; a comment that stands alone belongs to the block before it."""
    found: list[str] = []
    for block in re.split(r"\n\s*\n", text):
        if found and re.fullmatch(r"(\s*<!--.*?-->\s*)+", block, re.S):
            found[-1] += "\n" + block
        elif block.strip():
            found.append(block)
    return found


def pieces(block: str) -> list[str]:
    """A list's items and a table's rows, each row beneath its table's head; else the block."""
    lines = block.splitlines()
    if len(lines) > 2 and re.match(r"\s*\|?[\s|:-]+$", lines[1]) and "|" in lines[0]:
        return [f"{lines[0]}\n{line}" for line in lines[2:]]
    return re.split(r"\n(?=\s*(?:[-*]|\d+\.)\s)", block)


# --- where numbers stand ---------------------------------------------------------------------------------------------


def printed(text: str, part: int) -> Iterator[Source]:
    """The numbers of an output, each with the words of its line and of its table's head."""
    text = unescape(re.sub(r"<(?:style|script).*?</(?:style|script)>", " ", text, flags=re.S))
    text = re.sub(r"</t[dh]>", " | ", re.sub(r"</tr>", "\n", text))
    text = re.sub(r"<[^>]+>", " ", text).replace("\u202f", " ")
    head = ""
    for line in text.splitlines():
        if "|" in line:
            head = line if not head or not re.search(r"\d", line) and "---" not in line else head
            columns, cells = head.split("|"), line.split("|")
            label = words(" ".join(cells[:2]))
            for i, cell in enumerate(cells):
                column = columns[i] if i < len(columns) else ""
                shares = "%" in column + cells[min(1, len(cells) - 1)]
                for number, _ in numbers(cell):
                    yield Source(number, label | words(column), part, shares=shares)
            continue
        head = line if not re.search(r"\d\.\d", line) else head
        for number, _ in numbers(line):
            yield Source(number, words(line) | words(head), part, shares="%" in head)


def stored(name: str, part: int) -> Iterator[Source]:
    """The numbers of chapters/figures/NAME.json, with the keys and names that lead to them."""
    def walk(value: object, path: str) -> Iterator[Source]:
        if isinstance(value, dict):
            beside = " ".join(v for v in value.values() if isinstance(v, str))
            for key, inner in value.items():
                yield from walk(inner, f"{path} {key} {beside}")
                if re.fullmatch(r"[\d.]+", key):
                    yield Source(next(numbers(key))[0], words(path), part)
        elif isinstance(value, list):
            plain = [v for v in value if isinstance(v, (int, float)) and not isinstance(v, bool)]
            if 2 <= len(plain) == len(value):  # over seeds or patients: prose gives their mean and their spread
                yield from walk({"mean": mean(plain), "sd": stdev(plain)}, path)
            for inner in value if len(plain) <= 12 else ():  # among those of each patient any number would stand
                yield from walk(inner, path)
        elif isinstance(value, (int, float)) and not isinstance(value, bool) and value == value:
            half = 0.5 if isinstance(value, int) else 0.0
            yield Source(Number(repr(value), abs(float(value)), half if value < 1e15 else 0.0), words(path), part)
        elif isinstance(value, str):
            for number, _ in numbers(value):
                yield Source(number, words(path + " " + value), part)

    if (FIGURES / f"{name}.json").exists() and name != "scoreboard":  # whose page prints means over seeds
        yield from walk(json.loads((FIGURES / f"{name}.json").read_text(encoding="utf-8")), name)
    elif (CHAPTERS / f"{name}.md").exists():
        yield from printed((CHAPTERS / f"{name}.md").read_text(encoding="utf-8"), part)


def constants(code: str, part: int) -> Iterator[Source]:
    """The numbers that a chapter's code sets, each with the names of its line."""
    lines = code.splitlines()
    for node in ast.walk(ast.parse(code)):
        value = node.value if isinstance(node, ast.Constant) else None
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            yield Source(Number(repr(value), abs(float(value)), 0.0), words(lines[node.lineno - 1]), part, code=True)


def named_results(text: str) -> list[str]:
    """The stored results that a text names, by their file or by the command that makes them."""
    named = re.findall(r"STUDY=(\w+)|(\w+)\.json|\((\w+)\.md\)", text)
    return sorted({next(filter(None, match)) for match in named})


def chapter(source: Path) -> Page:
    """A chapter with its stored notebook."""
    notebook = nbformat.read(source.with_suffix(".ipynb"), as_version=4)
    cells, page, part = jupytext.read(source).cells, Page(source.stem), 0
    outputs = [cell.get("outputs", []) for cell in notebook.cells]
    prose = "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    page.references = _references(prose)
    for i, cell in enumerate(cells):
        if cell.cell_type == "markdown":
            part = _read_prose(page, cell.source, part)
            continue
        page.sources += constants(re.sub(r"^(\s*)[%!].*$", r"\1pass", cell.source, flags=re.M), part)
        for output in outputs[i] if i < len(outputs) else []:
            data = output.get("data", {})
            texts = [output.get("text", "")] + [v for k, v in data.items() if k.startswith("text/")]
            for text in texts:
                page.sources += printed(text if isinstance(text, str) else "".join(text), part)
    return page


def markdown_page(path: Path) -> Page:
    """A page of chapters/*.md, whose tables and results stand in stored results that it names."""
    text = GENERATED.sub("", path.read_text(encoding="utf-8"))
    page = Page(path.stem, references=_references(text))
    _read_prose(page, text, 0)
    page.paragraphs = [(0, paragraph) for _, paragraph in page.paragraphs]  # a page is short: one part
    page.sources = [replace(source, part=0) for source in page.sources]
    return page


def _references(prose: str) -> str:
    return prose.rpartition("\n## References")[2] if "\n## References" in prose else ""


def _read_prose(page: Page, text: str, part: int) -> int:
    """Take a cell's paragraphs into the page; the part in which the next cell stands."""
    listed, text = False, blank(FORMULA, text)
    for block in blocks(text):
        if re.match(r"## ", block):
            part += 1
        for name in named_results(block):
            page.sources += [replace(source, need=2) for source in stored(name, part)]
        listed = listed and not re.match(r"## ", block) or bool(re.match(r"## References", block))
        of_study = "STUDY=" in text and block.lstrip().startswith("|")  # held against what the study prints
        if not (listed or of_study or exempt(block, page.references)):
            page.paragraphs += [(part, piece) for piece in pieces(block)]
    return part


def pages() -> list[Path]:
    """The chapters' sources, and the pages that state results."""
    pages = "measuring", "scoreboard", "teaching"
    return sorted(CHAPTERS.glob("[0-9][0-9]_*.py")) + [CHAPTERS / f"{name}.md" for name in pages]


@functools.cache
def read(path: Path) -> Page:
    """A chapter or a page of Markdown, read once."""
    return chapter(path) if path.suffix == ".py" else markdown_page(path)


def main(picked: Iterable[str]) -> int:
    """Print what is unfounded; the exit status says whether anything is."""
    picked, bad = list(picked), 0
    for path in pages():
        if picked and path.stem not in picked and path.stem[:2] not in [word.zfill(2) for word in picked]:
            continue
        page = read(path)
        found = unfounded(page)
        bad += len(found)
        total = sum(len(list(measured(paragraph))) for _, paragraph in page.paragraphs)
        print(f"\n{page.name}: {len(found)} of {total} numbers stand nowhere")
        for text, paragraph in found:
            at = max(0, paragraph.find(text) - 60)
            print(f"  {text:>10}   ...{' '.join(paragraph[at:at + 130].split())}")
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
