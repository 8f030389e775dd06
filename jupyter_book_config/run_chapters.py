"""Run the stored notebooks as tests (nbval), and end with a table: time, memory, promises and their margins.

    python jupyter_book_config/run_chapters.py                          every chapter, two at a time
    python jupyter_book_config/run_chapters.py 4 capstone               these
    python jupyter_book_config/run_chapters.py --changed origin/main    those that differ from there; all of them where
                                                                        what every chapter stands on does

In GitHub's CI the table is on the run's page as well. A notebook whose turn comes after GENMED_CHAPTERS_UNTIL, in
seconds since 1970, is left out and counted as skipped: on a slow machine CI would run out of time.
"""

import argparse
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import notebooks
import pytest

ROOT = Path(__file__).resolve().parent.parent
OPTIONS = ["--durations", "3", "--nbval-lax", "--nbval-sanitize-with", "tests/nbval.cfg", "--nbval-current-env",
           "--nbval-cell-timeout", "1800", "-n", "2", "--dist", "loadscope"]
SHARED = re.compile(r"genmed_core/|data/|constraints\.txt|pyproject\.toml|tests/nbval\.cfg|.*run_chapters\.py")
PROMISE = re.compile(r"^(.*): (\S+|not measured here), promised .*: margin (\S+): (yes|no|kept where promised)$", re.M)


@dataclass
class Run:
    """What is known of one notebook's run."""

    cells: int = 0
    failed: int = 0
    skipped: int = 0
    seconds: float = 0.0
    megabytes: float = 0.0
    promises: list[tuple[str, str, str, str]] = field(default_factory=list)  # name, value, margin, kept


RUNS: dict[str, Run] = {}
BEGUN: set[str] = set()  # of this process


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """In the process that runs a cell: leave out a notebook whose turn comes too late, all its cells or none."""
    name = item.nodeid.partition("::")[0]
    if name not in BEGUN and time.time() > float(os.environ.get("GENMED_CHAPTERS_UNTIL") or "inf"):
        pytest.skip(f"{name} is left out: the tests before took too long on this machine (GENMED_CHAPTERS_UNTIL)")
    BEGUN.add(name)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo) -> Iterator:
    """In the process that runs a cell: note its kernel's memory and the promises that it printed."""
    report = yield
    if call.when == "call" and hasattr(item.parent, "kernel"):
        text = "\n".join(output.get("text", "") for output in item.test_outputs or [])
        report.user_properties += [("megabytes", peak(item.parent.kernel)), ("promises", PROMISE.findall(text))]
    return report


def peak(kernel: object) -> float:
    """The most memory that a kernel has held, in MB, as Linux has it; 0 elsewhere."""
    try:
        status = Path(f"/proc/{kernel.km.provisioner.pid}/status").read_text()
    except (OSError, AttributeError):
        return 0.0
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1000


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """In the process that the workers report to: add up."""
    run = RUNS.setdefault(Path(report.nodeid.partition("::")[0]).stem, Run())
    run.seconds += report.duration
    run.failed += report.failed
    run.skipped += report.skipped
    if report.when == "call":
        known = dict(report.user_properties)
        run.cells += 1
        run.megabytes = max(run.megabytes, known.get("megabytes", 0.0))
        run.promises += [tuple(promise) for promise in known.get("promises", [])]


def table() -> list[str]:
    """The summary, as lines of a Markdown table."""
    lines = ["| notebook | cells | failed | minutes | memory, MB | promises kept | nearest to its bar |",
             "|---|---:|---:|---:|---:|---:|---|"]
    for name, run in sorted(RUNS.items()):
        kept = sum(promise[3] != "no" for promise in run.promises)
        cells = "left out" if run.skipped else run.cells
        lines.append(f"| {name} | {cells} | {run.failed} | {run.seconds / 60:.1f} | {run.megabytes:.0f} "
                     f"| {kept} of {len(run.promises)} | {nearest(run.promises)} |")
    return lines


def nearest(promises: Sequence[tuple[str, str, str, str]]) -> str:
    """The promise whose margin is the smallest part of its value, with both; one that was broken before all."""
    def share(promise: tuple[str, str, str, str]) -> float:
        value, margin = float(promise[1]), float(promise[2])
        return margin / abs(value) if value else float("inf")

    judged = [promise for promise in promises if promise[1] != "not measured here" and promise[2] != "none"]
    if not judged:
        return ""
    name, value, margin, _ = min(judged, key=share)
    return f"{name}: {value}, margin {margin}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if RUNS:
        terminalreporter.section("chapters")
        terminalreporter.write_line("\n".join(table()))
    if page := os.environ.get("GITHUB_STEP_SUMMARY"):
        with open(page, "a", encoding="utf-8") as summary:
            summary.write("\n".join(table()) + "\n")


def changed(reference: str, names: Sequence[str]) -> list[str]:
    """The notebooks that differ from a git reference, committed or not; all where something they share differs."""
    done = subprocess.run(["git", "diff", "--name-only", "--merge-base", reference], cwd=ROOT, capture_output=True,
                          text=True)
    if done.returncode:
        sys.exit(f"error: git cannot compare with {reference!r}: {done.stderr.strip()}")
    files = done.stdout.splitlines()
    if any(SHARED.match(file) for file in files):
        return list(names)
    return [name for name in names if {f"chapters/{name}.py", f"chapters/{name}.ipynb"} & set(files)]


def picked(words: Sequence[str], reference: str | None) -> list[Path]:
    """The notebooks to run.

    The later chapters take longest: begun first, they leave two workers evenly busy.
    """
    names = notebooks.pick(sorted(path.stem for path in notebooks.CHAPTERS.glob("*.ipynb")), words)
    names = changed(reference, names) if reference else names
    return [notebooks.CHAPTERS / f"{name}.ipynb" for name in sorted(names, reverse=True)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("chapters", nargs="*", help="numbers or names, such as 4 or 04_gan; default all")
    parser.add_argument("--changed", metavar="REF", help="only those that differ from this git reference")
    options = parser.parse_args()
    try:
        files = picked(options.chapters, options.changed)
    except notebooks.ChapterError as problem:
        parser.error(str(problem))
    if not files:
        sys.exit(print("no notebook differs") if options.changed else "error: there is no notebook in chapters/")
    print("running", ", ".join(path.stem for path in files), flush=True)
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    os.environ["GENMED_THREADS"] = os.environ.get("GENMED_THREADS", "").strip() or "1"
    os.chdir(ROOT)
    sys.exit(pytest.main(["-q", *map(str, files), "-p", "run_chapters", *OPTIONS]))


if __name__ == "__main__":
    main()
