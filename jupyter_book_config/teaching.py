"""The tables of the page for instructors, chapters/teaching.md, made from the chapters, so that they cannot go stale.

    python jupyter_book_config/teaching.py            take measured seconds from runs/minutes/, rewrite the tables
    python jupyter_book_config/teaching.py --check    say what is stale, or names what is not there; exit 1

Rewritten is what stands between <!-- NAME: generated from ... --> and <!-- end of NAME -->. On the page an exercise is
named as exercise 4.3 (*its title*): the title says which it is, and its number is brought up to date. teaching.toml
holds what a lesson of 60, 90 or 180 minutes keeps, and where the textbook's review questions stand.
"""

import argparse
import json
import os
import re
import sys
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import first_import  # noqa: F401
import jupytext
import nbformat

ROOT = Path(__file__).resolve().parent.parent
CHAPTERS, PLANS = ROOT / "chapters", Path(__file__).resolve().parent / "teaching.toml"
MEASURED, STORED = ROOT / "runs" / "minutes", "figures/minutes.json"
WORDS, FORMULA, FIGURE, LINE = 120, 45, 30, 2  # words a minute; seconds for a formula, a figure, a line of code
STARS = {1: 2, 2: 10, 3: 30}  # minutes
KINDS = ("predict", "code", "derive", "investigate")
OPENING, LISTS = "(opening)", {"Exercises", "References"}  # sections without a text of their own
HEADING = re.compile(r"^\*\*Exercise (\d+\.\d+) \((\w+) (★+)\)\. ([^*]+?)\.?\*\*", re.M)
NAMED = re.compile(r"\b([Ee]xercise) (\d+)\.\d+ \(\*([^*]+)\*\)")
FIGURES = re.compile(r"\b[Ff]igures? (\d+\.\d+(?:(?:, | and | or | to |, and )\d+\.\d+)*)")
SECTION = re.compile(r"\b[Ss]ection \*([^*]+)\*")
BLOCK = re.compile(r"(<!-- (\w+): generated from [^>]*-->\n).*?(<!-- end of \2 -->)", re.S)


@dataclass
class Exercise:
    """A heading: its number, kind, stars and title."""

    number: str
    kind: str
    stars: int
    title: str

    @property
    def minutes(self) -> int:
        return STARS[self.stars]


@dataclass
class Section:
    """What stands under a `## ` heading, without the text of its exercises."""

    name: str
    reading: float = 0.0  # seconds
    exercises: list[Exercise] = field(default_factory=list)

    @property
    def minutes(self) -> int:
        """Of reading, to a whole minute; none for a list."""
        return 0 if self.name in LISTS else max(1, round(self.reading / 60))


@dataclass
class Chapter:
    """A chapter's source as the page needs it."""

    stem: str
    title: str
    words: int
    sections: list[Section]
    figures: set[str]

    @property
    def number(self) -> int:
        return int(self.stem[:2])

    @property
    def exercises(self) -> list[Exercise]:
        return [exercise for section in self.sections for exercise in section.exercises]

    def called(self, title: str) -> Exercise:
        """The exercise of that title; KeyError with a sentence where there is none."""
        for exercise in self.exercises:
            if exercise.title == title:
                return exercise
        raise KeyError(f"chapter {self.number} has no exercise {title!r}")

    def section(self, name: str) -> Section:
        """The section of that name; KeyError with a sentence where there is none."""
        for section in self.sections:
            if section.name == name:
                return section
        raise KeyError(f"chapter {self.number} has no section {name!r}")


# --- the seconds of a run ---------------------------------------------------------------------------------------------


def note(name: str, notebook: nbformat.NotebookNode, seconds: dict[int, float], folder: Path = MEASURED) -> None:
    """Sum the seconds of a notebook's cells, by their index, under its `## ` headings into folder/NAME.json."""
    sums, section = {}, OPENING
    for index, cell in enumerate(notebook.cells):
        if cell.cell_type == "markdown":
            section = (re.findall(r"^## (.+)$", cell.source, re.M) or [section])[-1].strip()
        sums[section] = round(sums.get(section, 0.0) + seconds.get(index, 0.0), 1)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(sums, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def collect(folder: Path = CHAPTERS, measured: Path = MEASURED) -> None:
    """Copy what runs have noted to figures/minutes.json, with the machine in words."""
    noted = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in measured.glob("[0-9][0-9]_*.json")}
    if not noted:
        return
    os.environ["GENMED_THREADS"] = os.environ.get("GENMED_THREADS", "").strip() or "1"  # as notebooks.py has it
    sys.path.insert(0, str(ROOT))
    from genmed_core import runtime

    before = stored(folder)
    if before["chapters"] | noted != before["chapters"]:
        text = {"machine": runtime.machine(), "chapters": dict(sorted((before["chapters"] | noted).items()))}
        (folder / STORED).write_text(json.dumps(text, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def stored(folder: Path = CHAPTERS) -> dict:
    """{"machine": in words or "", "chapters": {name: {section: seconds}}}."""
    path = folder / STORED
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"machine": "", "chapters": {}}


# --- the chapters -----------------------------------------------------------------------------------------------------


def read(folder: Path = CHAPTERS) -> list[Chapter]:
    """All chapters, in their order."""
    return [read_chapter(path) for path in sorted(folder.glob("[0-9][0-9]_*.py"))]


def read_chapter(source: Path) -> Chapter:
    """One chapter, from its .py."""
    made = Chapter(source.stem, source.stem, 0, [Section(OPENING)], set())
    for cell in jupytext.read(source, fmt="py:percent").cells:
        marks = set(cell.metadata.get("tags", []))
        if cell.cell_type == "code":
            lines = 0 if marks & {"answer", "check", "solution"} else len(re.findall(r"^\s*[^\s#]", cell.source, re.M))
            made.sections[-1].reading += lines * LINE
        elif "solution" not in marks:
            for part in re.split(r"^(?=## )", cell.source, flags=re.M):
                _take(made, part)
    return made


def _take(made: Chapter, text: str) -> None:
    """Add a piece of prose that lies within one section."""
    if heading := re.match(r"## (.+)", text):
        made.sections.append(Section(heading[1].strip()))
    if title := re.match(r"# (?:\d+\. )?(.+)", text):
        made.title = title[1]
    made.figures |= set(re.findall(r"^\*\*Figure (\d+\.\d+)\.\*\*", text, re.M))
    section = made.sections[-1]
    if asked := HEADING.search(text):
        section.exercises.append(Exercise(asked[1], asked[2], len(asked[3]), " ".join(asked[4].split())))
        text = text[:asked.start()]  # its time is that of its stars
    text = re.sub(r"<details.*?</details>|```.*?```", "", text, flags=re.S)
    formulas, text = len(re.findall(r"\$\$.+?\$\$", text, re.S)), re.sub(r"\$\$.+?\$\$", "", text, flags=re.S)
    pictures, words = len(re.findall(r"^\*\*Figure \d", text, re.M)), len(text.split())
    if section.name not in LISTS:
        made.words += words
        section.reading += words * 60 / WORDS + formulas * FORMULA + pictures * FIGURE


# --- the tables -------------------------------------------------------------------------------------------------------


def table(head: Sequence[str], rows: Sequence[Sequence[object]], left: int = 1) -> str:
    """A table in Markdown whose first `left` columns hold words."""
    rule = ["---"] * left + ["---:"] * (len(head) - left)
    return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in [head, rule, *rows]) + "\n"


def numbers(exercises: Sequence[Exercise]) -> str:
    return ", ".join(exercise.number for exercise in exercises)


def sections_table(chapter: Chapter, seconds: dict[str, float]) -> str:
    """The sections with minutes; the measured column stays empty where nothing is stored."""
    def row(section: Section) -> list[object]:
        return [section.name, f"{seconds[section.name]:.0f}" if section.name in seconds else "", section.minutes or "",
                numbers(section.exercises), sum(e.minutes for e in section.exercises) or ""]

    shown = [section for section in chapter.sections if section.name != "References"]
    known = [seconds[section.name] for section in shown if section.name in seconds]
    last = ["**all**", f"{sum(known):.0f}" if known else "", sum(s.minutes for s in shown),
            len(chapter.exercises), sum(e.minutes for e in chapter.exercises)]
    lines = [row(section) for section in shown] + [last]
    head = ["section", "runs, s", "read, min", "exercises", "work, min"]
    return table(head, lines).replace("---: | ---: | ---: | ---: |", "---: | ---: | --- | ---: |", 1)


def plan_table(chapter: Chapter, plans: dict[str, dict]) -> str:
    """What a lesson of so many minutes leaves out, which exercises it does, and what it adds up to."""
    rows = []
    for slot in sorted(plans, key=int):
        kept = [chapter.section(name) for name in plans[slot]["sections"]]
        done = sorted((chapter.called(title) for title in plans[slot]["exercises"]), key=chapter.exercises.index)
        left = [section.name for section in chapter.sections
                if section not in kept and section.name not in {*LISTS, OPENING}]
        rows.append([slot, "; ".join(left) or "nothing", numbers(done), planned(chapter, plans[slot])])
    return table(["minutes", "leave out the sections", "do only the exercises", "adds up to"], rows, left=3)


def reviews_table(reviews: Sequence[dict], chapters: Sequence[Chapter]) -> str:
    """Where each of the textbook's review questions stands."""
    rows = []
    for review in reviews:
        places = [f"exercise {e.number} (*{e.title}*)" for e in _places(review, chapters)]
        if review.get("capstone"):
            places.append("[the capstone](capstone.ipynb)")
        rows.append([review["topic"], "; ".join(places)])
    return table(["the textbook asks for", "it stands in"], rows, left=2)


def _places(review: dict, chapters: Sequence[Chapter]) -> Iterator[Exercise]:
    """The exercises of a review question, each written as "4: its title"."""
    by_number = {chapter.number: chapter for chapter in chapters}
    for place in review.get("exercises", []):
        number, _, title = place.partition(": ")
        yield by_number[int(number)].called(title)


def counts_table(chapters: Sequence[Chapter]) -> str:
    """Exercises of all chapters by kind and by stars."""
    def row(name: str, chapters: Sequence[Chapter]) -> list[object]:
        asked = [exercise for chapter in chapters for exercise in chapter.exercises]
        return [name, len(asked), *(sum(e.kind == kind for e in asked) for kind in KINDS),
                *(sum(e.stars == stars for e in asked) for stars in STARS), sum(e.minutes for e in asked)]

    head = ["chapter", "exercises", *KINDS, *("★" * stars for stars in STARS), "work, min"]
    rows = [row(f"{c.number} [{c.title}]({c.stem}.ipynb)", [c]) for c in chapters]
    return table(head, [*rows, row("**all**", chapters)])


def estimate(chapters: Sequence[Chapter], machine: str) -> str:
    """What the minutes are."""
    ran = (f"Seconds of the processor, on one thread, counted by `make notebooks` on: {machine}." if machine else
           "Nothing has been measured yet: `make notebooks` notes the seconds of every section.")
    stars = ", ".join(f"{'★' * stars} {minutes}" for stars, minutes in STARS.items())
    return (f"Reading: {WORDS} words a minute, {FORMULA} seconds for each formula on a line of its own, {FIGURE} for "
            f"each figure, {LINE} for each line of code. Exercises, in minutes: {stars}. {ran}\n")


def blocks(chapters: Sequence[Chapter], plans: dict, times: dict) -> dict[str, str]:
    """What stands between the marks, by the marks' names."""
    made = {"estimate": estimate(chapters, times["machine"]), "counts": counts_table(chapters),
            "reviews": reviews_table(plans["review"], chapters)}
    for chapter in chapters:
        made[f"sections_{chapter.number}"] = sections_table(chapter, times["chapters"].get(chapter.stem, {}))
        made[f"plan_{chapter.number}"] = plan_table(chapter, plans["plan"][chapter.stem])
    return made


# --- the page ---------------------------------------------------------------------------------------------------------


def renewed(text: str, made: dict[str, str], chapters: Sequence[Chapter]) -> str:
    """The page with present tables, and with the present number of each exercise that is named by its title."""
    def block(match: re.Match) -> str:
        return f"{match[1]}\n{made[match[2]]}\n{match[3]}" if match[2] in made else match[0]

    def number(match: re.Match) -> str:
        for chapter in chapters:
            if chapter.number == int(match[2]) and any(e.title == match[3] for e in chapter.exercises):
                return f"{match[1]} {chapter.called(match[3]).number} (*{match[3]}*)"
        return match[0]

    return NAMED.sub(number, BLOCK.sub(block, text))


def problems(text: str, plans: dict, chapters: Sequence[Chapter], times: dict) -> list[str]:
    """Sentences on what the page names and is not there, or is not current; empty when all is well."""
    try:
        made = blocks(chapters, plans, times)
    except KeyError as error:
        return [f"teaching.toml: {error.args[0]}"]
    found = [f"the page lacks the marks of {name}" for name in made if f"<!-- end of {name} -->" not in text]
    found += [f"a lesson of {slot} minutes of {chapter.stem} takes longer" for chapter in chapters
              for slot, kept in plans["plan"][chapter.stem].items() if planned(chapter, kept) > int(slot)]
    found += [f"no place for the review question on {review['topic']}" for review in plans["review"]
              if not review.get("exercises") and not review.get("capstone")]
    hand = BLOCK.sub("", text)
    titles = {(chapter.number, exercise.title) for chapter in chapters for exercise in chapter.exercises}
    found += [f"chapter {n} has no exercise {title!r}" for _, n, title in NAMED.findall(hand)
              if (int(n), title) not in titles]
    bare = re.findall(r"\b[Ee]xercises? (\d+\.\d+)\b(?! \(\*)", hand)
    found += [f"exercise {n} is named without its title" for n in bare]
    figures = set().union(*(chapter.figures for chapter in chapters))
    found += [f"there is no figure {n}" for list_ in FIGURES.findall(hand) for n in re.findall(r"\d+\.\d+", list_)
              if n not in figures]
    found += list(_unknown_sections(hand, chapters))
    if not found and renewed(text, made, chapters) != text:
        found.append("its tables or numbers are not current: run `python jupyter_book_config/teaching.py`")
    return found


def planned(chapter: Chapter, kept: dict) -> int:
    """The minutes that a lesson adds up to."""
    return (sum(chapter.section(name).minutes for name in kept["sections"])
            + sum(chapter.called(title).minutes for title in kept["exercises"]))


def parts(text: str) -> dict[int, str]:
    """The page's part on each chapter, which begins `## Chapter 4`."""
    pieces = re.split(r"^## ", text, flags=re.M)[1:]
    return {int(number[1]): piece for piece in pieces if (number := re.match(r"Chapter (\d+)", piece))}


def _unknown_sections(text: str, chapters: Sequence[Chapter]) -> Iterator[str]:
    for number, part in parts(text).items():
        names = {section.name for chapter in chapters if chapter.number == number for section in chapter.sections}
        for name in SECTION.findall(part):
            if name not in names:
                yield f"chapter {number} has no section {name!r}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--check", action="store_true", help="only say what is stale, or is named and not there")
    parser.add_argument("--source", type=Path, default=CHAPTERS, help="the folder of the .py files, default chapters/")
    options = parser.parse_args()
    page, plans = CHAPTERS / "teaching.md", tomllib.loads(PLANS.read_text(encoding="utf-8"))
    if not options.check:
        collect()
    chapters, times, text = read(options.source), stored(), page.read_text(encoding="utf-8")
    if not options.check:
        try:
            text = renewed(text, blocks(chapters, plans, times), chapters)
        except KeyError as error:
            sys.exit(f"teaching.toml: {error.args[0]}")
        page.write_text(text, encoding="utf-8")
    found = problems(text, plans, chapters, times)
    print("\n".join(found) or "the page for instructors is current")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
