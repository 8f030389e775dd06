"""The course file: what an instructor edits to own the site.  course.yml beside this file explains each line."""

import difflib
import html
import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import babel
import notebooks
import sphinx.locale
import yaml
from PIL import Image

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
DEFAULT = HERE / "course.yml"
EDITIONS = ["student", "instructor", "self-study"]
TAKEN = ("intro", "index", "search", "genindex", "py-modindex")  # pages that every site has
PICTURES = (".svg", ".png", ".jpg", ".jpeg")
LAUNCH = ("colab", "codespaces")
PART = r"(?!\.\.?(?:/|$))[A-Za-z0-9_.~+-]+"  # of an address's path; . and .. are none
# the theme's option and what its value looks like
ANALYTICS = {"plausible": ("plausible_analytics_domain", r"[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+"),
             "google": ("google_analytics_id", r"G-[A-Z0-9]+|UA-\d+-\d+")}


class CourseError(RuntimeError):
    """The course file cannot be used; the message names the line to change."""


@dataclass(frozen=True)
class Part:
    """A part of the book: its heading and the files of its pages, each a .ipynb or a .md."""

    heading: str
    pages: list[Path]


@dataclass(frozen=True)
class Course:
    """A course file that was read and found good."""

    title: str
    author: str
    institution: str | None
    logo: Path | None
    repository: str | None
    edition: str
    language: str
    launch: list[str]
    analytics: dict[str, str]
    contents: list[Part]

    def pages(self) -> list[Path]:
        """All pages in reading order."""
        return [page for part in self.contents for page in part.pages]

    def notebooks(self) -> dict[str, Path]:
        """The chapters by name, in reading order."""
        return {page.stem: page for page in self.pages() if page.suffix == ".ipynb"}


KEYS = [field.name for field in fields(Course)]


class EntriesOnce(yaml.SafeLoader):
    """YAML whose entries have different names; yaml itself lets the last one win, and says nothing."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue  # yaml says what is wrong
            if key.value in seen:
                raise yaml.constructor.ConstructorError(problem=f"{key.value!r} is there twice",
                                                        problem_mark=key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def read(path: Path = DEFAULT, book: Path = ROOT / "chapters") -> Course:
    """Read a course file; what it leaves out is taken from course.yml here.

    path: the file; book: the folder of the book's own chapters and pages.
    Raises CourseError, which names the file and the entry, where something cannot be used.
    """
    try:
        path = path.expanduser()
    except RuntimeError as problem:  # ~name, and nobody here is called so
        raise CourseError(f"{path}: {problem}") from None
    given = _mapping(path)
    for key in given:
        if key not in KEYS:
            raise CourseError(f"{path}: {key!r} is not known{_like(key, KEYS)} ({', '.join(KEYS)})")
    values = _mapping(DEFAULT) | given
    for check in (_words, _edition, _language, _repository, _launch, _analytics):
        check(path, values)
    values["logo"] = _logo(path, values["logo"])
    values["contents"] = _contents(path, values["contents"], book)
    return Course(**values)


def our_title() -> str:
    """The title of this book, which heads its introduction."""
    return _mapping(DEFAULT)["title"]


def under_title(text: str, title: str) -> str:
    """The introduction's text under a course's title."""
    return re.sub(f"^# {re.escape(our_title())}$", lambda _: f"# {html.escape(title)}", text, count=1, flags=re.M)


def _mapping(path: Path) -> dict[str, Any]:
    """The file's entries; CourseError where it is none or no list of entries."""
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), EntriesOnce)
    except FileNotFoundError:
        raise CourseError(f"{path} is not there: copy {DEFAULT.relative_to(ROOT)} and change it") from None
    except UnicodeDecodeError:
        raise CourseError(f"{path} is not in UTF-8: save it so") from None
    except OSError as problem:
        raise CourseError(f"{path} cannot be read: {problem}") from None
    except RecursionError:
        raise CourseError(f"{path} holds lists within lists, too deep to be read: write them flat") from None
    except yaml.constructor.ConstructorError as problem:
        raise CourseError(f"{path}, line {problem.problem_mark.line + 1}: {problem.problem}") from None
    except yaml.YAMLError as problem:
        where = getattr(problem, "problem_mark", None)
        line = f", line {where.line + 1}" if where else ""
        raise CourseError(f"{path}{line}: not YAML ({getattr(problem, 'problem', problem)}); text with a colon "
                          "needs quotes") from None
    if not isinstance(content, dict):
        raise CourseError(f"{path} holds no entries such as `title: ...`")
    return content


def _like(word: str, known: list[str]) -> str:
    """", did you mean ...?" where something is near."""
    near = difflib.get_close_matches(str(word), known, 1, 0.5)
    return f", did you mean {near[0]!r}?" if near else ""


def _words(path: Path, values: dict) -> None:
    for key in ("title", "author", "institution", "repository", "edition", "language", "logo"):
        value, may_be_empty = values[key], key in ("institution", "repository", "logo")
        if value is None and may_be_empty:
            continue
        if not isinstance(value, str) or not value.strip():
            raise CourseError(f"{path}: {key} must be text, not {value!r:.60}; {_meant(key, value)}")
        values[key] = value.strip()
        if len(values[key].splitlines()) > 1:
            raise CourseError(f"{path}: {key} {value!r:.60} has several lines: write it on one")


def _meant(key: str, value: Any) -> str:
    """What to write where no text stands."""
    if value is None or value == [] or isinstance(value, str):
        return "leave the line out, or write one"
    if isinstance(value, list):
        return f"write {', '.join(map(str, value))!r:.60}"
    return "for Norwegian write nb_NO" if key == "language" and value is False else "numbers and yes or no need quotes"


def _edition(path: Path, values: dict) -> None:
    values["edition"] = values["edition"].lower()
    if values["edition"] not in EDITIONS:
        raise CourseError(f"{path}: edition {values['edition']!r} is not known; these are: {', '.join(EDITIONS)}")


def _language(path: Path, values: dict) -> None:
    folder = Path(sphinx.locale.__file__).parent
    known = sorted({"en"} | {place.name for place in folder.iterdir() if (place / "LC_MESSAGES").is_dir()})
    if values["language"] not in known:
        near = _near_language(values["language"].lower().replace("-", "_"), known)
        raise CourseError(f"{path}: language {values['language']!r} is none that Sphinx has"
                          f"{f', did you mean {near!r}?' if near else ''} ({', '.join(known)})")


def _near_language(word: str, known: list[str]) -> str | None:
    """The code of a language from its name, in English or its own, or from part of a code."""
    names = {"no": "nb_NO"}
    for code in reversed(known):  # of two with one name the shorter
        names[code.lower()] = code
        try:
            locale = babel.Locale.parse(code)
        except (ValueError, babel.UnknownLocaleError):
            continue
        names |= {name.lower(): code for name in (locale.english_name, locale.display_name) if name}
    begun = [code for code in known if code.lower().startswith(f"{word}_")]
    near = difflib.get_close_matches(word, names, 1, 0.75)
    return names.get(word) or next(iter(begun), None) or (names[near[0]] if near else None)


def on_github(repository: str | None) -> str | None:
    """OWNER/NAME of a repository's address on GitHub, else None."""
    found = re.fullmatch(rf"https://github\.com/([A-Za-z0-9-]+/{PART})/?", repository or "")
    return found[1].removesuffix(".git") if found else None


def _repository(path: Path, values: dict) -> None:
    address = values["repository"]
    elsewhere = rf"https://(?!(?i:www\.)?(?i:github\.com)[:/])[A-Za-z0-9.-]+(:\d+)?(/{PART})+/?"
    if address and not on_github(address) and not re.fullmatch(elsewhere, address):
        raise CourseError(f"{path}: repository {address!r}: give the repository's own address, "
                          "https://github.com/you/course")


def _launch(path: Path, values: dict) -> None:
    found = values["launch"]
    wanted = [] if found in (None, False, "off") else [found] if isinstance(found, str) else found
    known = isinstance(wanted, list) and all(str(word).strip().lower() in LAUNCH for word in wanted)
    if not known:
        raise CourseError(f"{path}: launch must be empty, or a list of {' and '.join(LAUNCH)}, not {found!r}")
    if wanted and not on_github(values["repository"]):
        raise CourseError(f"{path}: launch: {', '.join(wanted)} needs a repository on https://github.com to open")
    values["launch"] = [word.strip().lower() for word in wanted]


def _analytics(path: Path, values: dict) -> None:
    found = values["analytics"]
    if found in (None, False, "off"):  # YAML reads a plain off as False
        values["analytics"] = {}
    elif not isinstance(found, dict) or len(found) != 1 or not all(
            re.fullmatch(ANALYTICS[name][1], str(value)) if name in ANALYTICS else False
            for name, value in found.items()):
        raise CourseError(f"{path}: analytics must be empty, or one of `plausible: your.domain` and "
                          f"`google: G-XXXXXXX` on a line of its own, not {found!r:.60}")


def _logo(path: Path, name: str | None) -> Path | None:
    if name is None:
        return None
    logo = _located(path, "logo", name)
    if logo.suffix.lower() not in PICTURES or not logo.is_file():
        raise CourseError(f"{path}: logo {name!r} is no picture ({', '.join(PICTURES)}) at {logo}")
    try:
        if logo.suffix.lower() == ".svg":
            good = "<svg" in logo.read_text(encoding="utf-8-sig")
        else:
            with Image.open(logo) as picture:
                picture.verify()
                good = True
    except (OSError, ValueError, SyntaxError):
        good = False
    if not good:
        raise CourseError(f"{path}: logo {name!r} cannot be read as a picture: open {logo} and save it anew")
    return logo


def _located(path: Path, entry: str, name: str) -> Path:
    """Where a name leads from the course file; CourseError where that can be no file."""
    try:
        found = (path.parent / name).resolve()
        found.is_file()  # asked here, since it raises for a name too long
    except (OSError, RuntimeError, ValueError) as problem:
        why = getattr(problem, "strerror", None) or str(problem).partition(":")[0].lower()
        raise CourseError(f"{path}: {entry} {name[:40]!r} leads to no file ({why}): give another name") from None
    return found


def _contents(path: Path, parts: Any, book: Path) -> list[Part]:
    if not isinstance(parts, list) or not parts:
        raise CourseError(f"{path}: contents must be a list of parts, each with `part:` and `pages:`")
    found: list[Part] = []
    for part in parts:
        if not isinstance(part, dict) or set(part) != {"part", "pages"} or not isinstance(part["pages"], list):
            raise CourseError(f"{path}: in contents, {part!r} is no part with a heading `part:` and a list `pages:`")
        for word in (part["part"], *part["pages"]):
            if not isinstance(word, str | int | float):
                raise CourseError(f"{path}: in contents, {word!r} is neither a heading nor the name of a page")
        found.append(Part(str(part["part"]), [_page(path, str(name), book) for name in part["pages"]]))
    stems = [page.stem for part in found for page in part.pages]
    names = [str(name) for part in parts for name in part["pages"]]
    if twice := [name for name, stem in zip(names, stems) if stems.count(stem) > 1]:
        raise CourseError(f"{path}: contents names one page more than once ({', '.join(twice)}): a page has one place, "
                          "and two files of one name need other names")
    if not stems:
        raise CourseError(f"{path}: contents names no page")
    return found


def _page(path: Path, name: str, book: Path) -> Path:
    """The file of a page: the book's own by its name, another by its path from the course file."""
    if name == "intro":
        raise CourseError(f"{path}: the introduction comes first by itself: leave 'intro' out of contents")
    own = _located(path, "in contents,", name)
    for form in (".ipynb", ".py", ".md"):
        if "/" not in name and (book / f"{name}{form}").is_file():  # a notebook that was not built yet is said later
            return book / f"{name}{'.ipynb' if form == '.py' else form}"
    if own.suffix in (".ipynb", ".md") and own.is_file():
        if own.stem.lower() in TAKEN:
            raise CourseError(f"{path}: {name} would take the place of the site's own page {own.stem.lower()!r}: give "
                              "it another name")
        return own
    if own.suffix == ".py" and own.is_file():
        raise CourseError(f"{path}: {name} is a notebook's source: {notebooks.remedy(own)}, and name "
                          f"{Path(name).with_suffix('.ipynb').as_posix()} here")
    known = sorted(page.stem for page in [*book.glob("*.ipynb"), *book.glob("*.md")])
    number = next((stem for stem in known if name.isdigit() and stem.startswith(f"{int(name):02d}_")), None)
    raise CourseError(f"{path}: {name!r} is neither a page of this book nor a notebook (.ipynb) or a page (.md) at "
                      f"{own}{_like(number or Path(name).stem, known)}")
