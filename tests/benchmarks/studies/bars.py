"""Where the bars of the chapters' promises stand: their values over several seeds, and what a bar catches.

    make study STUDY=bars ARGS="01 03"               these chapters with seeds 0 to 4: five times as long as one takes
    make study STUDY=bars ARGS="01 --seeds 0 1 2"    other seeds
    make study STUDY=bars ARGS=--table               only the table

A chapter's cells are run in a process of their own for each seed; the scoreboard and its readers take the models and
samples that this leaves in runs/. What stands in chapters/figures/bars.json is kept and not run again, so a study that
was stopped goes on; a chapter whose code has changed since begins anew, unless it is its bars that have: those are
taken from its stored outputs, and the values of the seeds judged by them.

The chance of a false alarm is that of a new run's value lying beyond the bar, by Student's t for a new value beside n
that were seen, t = (bar - mean) / (sd sqrt(1 + 1/n)); the smallest loss caught is how far the mean must move towards
the nearest bar until nine runs in ten break it. Both take values for normal, which shares near 1 are not.
"""

import argparse
import hashlib
import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path
from statistics import mean, stdev

import nbformat
from scipy import stats

from genmed_core import chapters, runtime

ROOT = Path(__file__).resolve().parents[3]
STORED = ROOT / "chapters" / "figures" / "bars.json"
FEWEST = 3  # seeds of which a spread is taken
BARS = re.compile(r",\s*(?:above|below)=(?:\{[^}]*\}|[^,)]+)")  # in code
PROMISED = re.compile(r"^(.*): (?:\S+|not measured here), promised (.*): margin ", re.M)  # in outputs
BAR = re.compile(r"(above|below) ([-+.\de]+)(?: \((\w+)\))?")


def run_chapter(path: Path) -> None:
    """Run a chapter's cells down to its last promises, solutions left out; a broken promise is recorded, not raised."""
    import matplotlib

    matplotlib.use("Agg")
    from genmed_core.metrics.scorecard import Scorecard

    Scorecard.add = lambda self, broken: print("broken:", broken)
    cells = [cell for cell in chapters.cells(path) if "solution" not in cell.metadata.get("tags", [])]
    chapters.run(cells[:chapters.calling(cells, "expect")[-1] + 1], {"__name__": "__main__"}, path.stem)


def code_of(path: Path) -> str:
    """A short digest of a chapter's code, whatever its bars."""
    code = "\n".join(cell.source for cell in chapters.cells(path))
    return hashlib.sha256(BARS.sub("", code).encode()).hexdigest()[:12]


def bars_of(path: Path, source: str) -> dict[str, dict]:
    """The bars of a chapter's promises, below and above, on one source of data, as its stored outputs print them."""
    bars: dict[str, dict] = {}
    for cell in nbformat.read(path.with_suffix(".ipynb"), as_version=4).cells:
        text = "".join(output.get("text", "") for output in cell.get("outputs", []))
        for name, promised in PROMISED.findall(text):
            bars[name] = {"below": None, "above": None}
            bars[name] |= {word: float(value) for word, value, of in BAR.findall(promised) if of in ("", source)}
    return bars


def run_seed(path: Path, seed: int) -> tuple[str, list[dict]]:
    """A chapter's data and what its promises record, run with a seed.  Raises where the chapter fails."""
    source = os.environ.get("GENMED_DATA_SOURCE", "auto")
    folder = runtime.runs_dir() / "scoreboard" / f"{path.stem}-{source}-{seed}"  # its models and samples serve there
    environment = os.environ | {"GENMED_SEED": str(seed), "GENMED_RUNS": str(folder)}
    subprocess.run([sys.executable, __file__, "--one", str(path)], env=environment, check=True)
    content = json.loads((folder / "results" / f"{path.stem}.json").read_text(encoding="utf-8"))
    return content["source"], content["records"]


def add_seed(promises: dict[str, dict], seed: int, records: list[dict]) -> None:
    """Puts the values of a seed where each promise keeps its own, and judges those that have enough of them."""
    for record in records:
        if record["below"] is None and record["above"] is None:
            continue
        entry = promises.setdefault(record["name"], {"values": {}})
        entry["values"][str(seed)] = record["value"]
        judge(entry, record)


def judge(entry: dict, bars: dict) -> None:
    """Hold a promise's values, where there are enough of them, against bars."""
    entry |= {word: bars[word] for word in ("below", "above")}
    if len(entry["values"]) >= FEWEST:
        entry |= judged(list(entry["values"].values()), entry["below"], entry["above"])


def judged(values: list[float], below: float | None, above: float | None) -> dict:
    """Mean, sd, chance of a false alarm and the smallest loss caught in nine of ten runs, of a promise's values."""
    n, centre, sd = len(values), mean(values), stdev(values)
    gaps = [below - centre] if below is not None else []
    gaps += [centre - above] if above is not None else []
    spread = sd * math.sqrt(1 + 1 / n)
    if spread == 0:
        return {"mean": centre, "sd": 0.0, "false_alarm": float(min(gaps) <= 0), "caught": max(min(gaps), 0.0)}
    alarm = sum(stats.t.sf(gap / spread, n - 1) for gap in gaps)
    caught = min(gaps) + stats.t.ppf(0.9, n - 1) * spread
    return {"mean": centre, "sd": sd, "false_alarm": float(alarm), "caught": float(caught)}


def table(results: dict) -> str:
    """All promises as a Markdown table."""
    lines = ["| chapter | promise | seeds | mean ± sd | bar | false alarm | caught in 9 of 10 |",
             "| ---: | --- | ---: | ---: | --- | ---: | ---: |"]
    for chapter, found in results.items():
        for name, p in found["promises"].items():
            if "mean" not in p:
                continue
            bars = [f"{word} {p[word]:g}" for word in ("above", "below") if p[word] is not None]
            alarm = f"{p['false_alarm']:.1g}" if p["false_alarm"] >= 1e-6 else "< 1e-6"
            lines.append(f"| {int(chapter[:2])} | {name} | {len(p['values'])} | {p['mean']:.4g} ± {p['sd']:.2g} | "
                         f"{' and '.join(bars)} | {alarm} | {p['caught']:.2g} |")
    return "\n".join(lines)


def complete(path: Path, seeds: list[int], output: Path) -> None:
    """Runs a chapter with the seeds that the file has not, and stores each as it comes."""
    results = json.loads(output.read_text(encoding="utf-8")) if output.exists() else {}
    if results.get(path.stem, {}).get("code") != code_of(path):
        results[path.stem] = {"code": code_of(path), "seeds": [], "promises": {}}
    found = results[path.stem]
    today = bars_of(path, found.get("source", ""))
    for name, entry in found["promises"].items():
        judge(entry, today[name])
    for seed in [seed for seed in seeds if seed not in found["seeds"]]:
        found["source"], records = run_seed(path, seed)
        add_seed(found["promises"], seed, records)
        found["seeds"].append(seed)
        write(results, output)
    write(results, output)


def write(results: dict, output: Path) -> None:
    text = json.dumps(dict(sorted(results.items())), indent=1, ensure_ascii=False)
    output.write_text(text + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("picked", nargs="*", help="chapters, such as 01; default all")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--table", action="store_true", help="print the stored table")
    parser.add_argument("--output", type=Path, default=STORED)
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        return run_chapter(options.one)
    if not options.table:
        names = [word.zfill(2) for word in options.picked]
        for path in sorted((ROOT / "chapters").glob("[0-9][0-9]_*.py")):
            if not names or path.name[:2] in names:
                complete(path, options.seeds, options.output)
    print(table(json.loads(options.output.read_text(encoding="utf-8"))))


if __name__ == "__main__":
    main()
