"""Are synthetic images faithful, varied, useful, private? An audit of three folders of images."""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from genmed_core import runtime
from genmed_core.audit.folders import SETS, AuditError, Folder, generator, read_folder
from genmed_core.audit.page import TITLE, page
from genmed_core.audit.report import audit, check_effort, table

NUMBERS = {2: "two", 3: "three"}


def main(arguments: list[str] | None = None) -> int:
    """The command line -> exit status: 0 after an audit, 1 without its files, 2 for bad input."""
    options = _parser().parse_args(arguments)
    return reported(options, lambda: _run(options), table,
                    lambda folders, report: page(report, folders[0], folders[2]))


def reported(options: argparse.Namespace, run: Callable[[], tuple[Any, dict]],
             table: Callable[[dict], str], page: Callable[[Any, dict], str]) -> int:
    """Measure, print the table, write the files asked for -> exit status, as `main` has it.

    run() -> what was read, and the report on it; options.json and options.html: where to.
    """
    if hasattr(sys.stdout, "reconfigure"):  # a terminal may lack the letters of a file's name
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        read, report = run()
    except (AuditError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(table(report), flush=True)
    texts: list[tuple[Path | None, Callable[[], str]]] = [
        (options.json, lambda: json.dumps(report, indent=1, allow_nan=False)),
        (options.html, lambda: page(read, report))]
    done = [written(path, text) for path, text in texts if path]
    return 0 if all(done) else 1


def written(path: Path, text: Callable[[], str]) -> bool:
    """Write a report; where that fails say so, and return False."""
    try:
        _write(path, text())
    except (OSError, ValueError) as error:
        print(f"error: {path}: not written ({error}); the table above is complete. Make "
              "room or name another file, and run again with the same --seed", file=sys.stderr)
        return False
    return True


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="genmed-audit", description=__doc__)
    whats = ("what the generator was fitted to", "real images that it never saw", "its samples")
    for name, what in zip(SETS, whats):
        parser.add_argument(f"--{name}", required=True, type=Path, metavar="DIR", help=what)
    add_targets(parser, "pictures of the real images, so keep it where they are kept")
    parser.add_argument("--limit", type=int, default=5000,
                        help="most held-out and synthetic images (default 5000)")
    parser.add_argument("--seed", type=int, default=0, help="of all random draws (default 0)")
    parser.add_argument("--effort", type=float, default=1.0, metavar="SHARE",
                        help="of the training inside the audit; less sees less (default 1)")
    return parser


def add_targets(parser: argparse.ArgumentParser, shown: str) -> None:
    """The options that `reported` reads; shown: what the page holds."""
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the whole report there")
    parser.add_argument("--html", type=Path, metavar="FILE",
                        help=f"write a page to look at there; it shows {shown}")


def _run(options: argparse.Namespace) -> tuple[list[Folder], dict]:
    places = [options.train, options.held_out, options.synthetic]
    check_places(places, "training, held-out and synthetic images")
    generator(options.seed, options.limit)
    check_effort(options.effort)
    check_targets(options, {"verdicts", "counts", "bars"}, TITLE, "an audit")
    limits = (None, options.limit, options.limit)
    folders = [read_folder(place, limit=limit, seed=options.seed)
               for place, limit in zip(places, limits)]
    bar = Progress(sys.stderr)
    report = audit(*folders, seed=options.seed, effort=options.effort, tell=bar.tell)
    bar.end()
    return folders, report


class Progress:
    """A bar of one line in a terminal; elsewhere a line for each part of the work."""

    def __init__(self, stream: TextIO):
        self.stream, self.words = stream, ""
        self.lively = stream.isatty()

    def tell(self, words: str, share: float) -> None:
        """What is being done, and the share of all that is."""
        if self.lively:
            filled = round(24 * share)
            bar = "#" * filled + "." * (24 - filled)
            print(f"\r[{bar}] {share:4.0%} {words:34}", end="", file=self.stream, flush=True)
        elif words != self.words:
            print(f"{share:4.0%} {words}", file=self.stream, flush=True)
        self.words = words

    def end(self) -> None:
        """Leave the line to others."""
        if self.lively:
            print("\r" + " " * 66, end="\r", file=self.stream, flush=True)


def check_places(places: list[Path], what: str) -> None:
    """Raises AuditError where one folder is another, or lies in it."""
    for a in places:
        for b in places:
            here, there = (place.expanduser().resolve() for place in (a, b))
            if a is not b and here.is_relative_to(there):
                found = "given twice" if here == there else f"lies inside {b}"
                raise AuditError(f"{a}: {found}; {what} must be {NUMBERS[len(places)]} folders "
                                 "apart")


def check_targets(options: argparse.Namespace, keys: set[str], title: str, maker: str) -> None:
    """Raises AuditError where no report can be written: better now than after an hour's work.

    keys: of such a report; title: of its page. No other file is replaced.
    """
    for path, ours in ((options.json, lambda text: keys <= set(json.loads(text))),
                       (options.html, lambda text: f"<title>{title}</title>" in text[:400])):
        if path:
            _check_target(path, ours, maker)


def _check_target(path: Path, ours: Callable[[str], bool], maker: str) -> None:
    folder = path.resolve().parent
    if path.is_dir():
        raise AuditError(f"{path}: is a folder; name a file, such as {path / 'report.json'}")
    if not folder.is_dir():
        raise AuditError(f"{path}: its folder does not exist; make it first")
    if path.is_file() and not _replaceable(path, ours):
        raise AuditError(f"{path}: exists and is no report of {maker}; choose another "
                         "name")
    if path.is_file() or not path.exists():
        with tempfile.TemporaryFile(dir=folder):  # OSError where it cannot be written
            pass


def _replaceable(path: Path, ours: Callable[[str], bool]) -> bool:
    text = path.read_text(encoding="utf-8", errors="replace")
    try:
        return not text or ours(text)
    except (ValueError, TypeError):
        return False


def _write(path: Path, text: str) -> None:
    if path.exists() and not path.is_file():  # /dev/stdout
        path.write_text(text, encoding="utf-8")
        return
    with runtime.whole_file(path) as part:
        part.write_text(text, encoding="utf-8")
