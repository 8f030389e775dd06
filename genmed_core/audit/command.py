"""Are synthetic images faithful, varied, useful, private? An audit of three folders of images."""

import argparse
import json
import sys
import tempfile
from pathlib import Path

from genmed_core import runtime
from genmed_core.audit.folders import SETS, AuditError, generator, read_folder
from genmed_core.audit.report import audit, table


def main(arguments: list[str] | None = None) -> int:
    """The command line -> exit status: 0 after an audit, 1 without its JSON, 2 for bad input."""
    options = _parser().parse_args(arguments)
    if hasattr(sys.stdout, "reconfigure"):  # a terminal may lack the letters of a file's name
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        report = _run(options)
    except (AuditError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(table(report), flush=True)
    try:
        if options.json:
            _write(options.json, json.dumps(report, indent=1, allow_nan=False))
    except (OSError, ValueError) as error:
        print(f"error: {options.json}: not written ({error}); the table above is complete. Make "
              "room or name another file, and run again with the same --seed", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="genmed-audit", description=__doc__)
    whats = ("what the generator was fitted to", "real images that it never saw", "its samples")
    for name, what in zip(SETS, whats):
        parser.add_argument(f"--{name}", required=True, type=Path, metavar="DIR", help=what)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the whole report there")
    parser.add_argument("--limit", type=int, default=5000,
                        help="most held-out and synthetic images (default 5000)")
    parser.add_argument("--seed", type=int, default=0, help="of all random draws (default 0)")
    return parser


def _run(options: argparse.Namespace) -> dict:
    places = [options.train, options.held_out, options.synthetic]
    _check_places(places)
    generator(options.seed, options.limit)
    if options.json:
        _check_target(options.json)
    limits = (None, options.limit, options.limit)
    folders = [read_folder(place, limit=limit, seed=options.seed)
               for place, limit in zip(places, limits)]
    return audit(*folders, seed=options.seed)


def _check_places(places: list[Path]) -> None:
    """Raises AuditError where one folder is another, or lies in it."""
    for a in places:
        for b in places:
            here, there = (place.expanduser().resolve() for place in (a, b))
            if a is not b and here.is_relative_to(there):
                found = "given twice" if here == there else f"lies inside {b}"
                raise AuditError(f"{a}: {found}; training, held-out and synthetic images must be "
                                 "three folders apart")


def _check_target(path: Path) -> None:
    """Raises AuditError where no report can be written: better now than after an hour's work."""
    folder = path.resolve().parent
    if path.is_dir():
        raise AuditError(f"{path}: is a folder; name a file, such as {path / 'report.json'}")
    if not folder.is_dir():
        raise AuditError(f"{path}: its folder does not exist; make it first")
    if path.is_file() and not _is_report(path):
        raise AuditError(f"{path}: exists and is no report of an audit; choose another name")
    if path.is_file() or not path.exists():
        with tempfile.TemporaryFile(dir=folder):  # OSError where it cannot be written
            pass


def _is_report(path: Path) -> bool:
    try:
        text = path.read_text(encoding="utf-8")
        return not text or {"verdicts", "counts", "bars"} <= set(json.loads(text))
    except (ValueError, TypeError):
        return False


def _write(path: Path, text: str) -> None:
    if path.exists() and not path.is_file():  # /dev/stdout
        path.write_text(text, encoding="utf-8")
        return
    with runtime.whole_file(path) as part:
        part.write_text(text, encoding="utf-8")

