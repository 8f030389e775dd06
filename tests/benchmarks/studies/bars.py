"""Where the bars of the chapters' promises stand: their values over several seeds, and what a bar catches.

    make study STUDY=bars ARGS="01 03"               these chapters with seeds 0 to 4: five times as long as one takes
    make study STUDY=bars ARGS="01 --seeds 0 1 2"    other seeds
    make study STUDY=bars ARGS=--table               only the table

A chapter's cells are run in a process of their own for each seed; what was run before is not run again (runs/bars/),
and the table holds all that is there. The chance of a false alarm is that of a new run's value lying beyond the bar,
by Student's t for a new value beside n that were seen, t = (bar - mean) / (sd sqrt(1 + 1/n)); the smallest loss caught
is how far the mean must move towards the nearest bar until nine runs in ten break it. Both take values for normal,
which shares near 1 are not. Writes chapters/figures/bars.json.
"""

import argparse
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from statistics import mean, stdev

from scipy import stats

from genmed_core import chapters, runtime

ROOT = Path(__file__).resolve().parents[3]
STORED = ROOT / "chapters" / "figures" / "bars.json"
FEWEST = 3  # seeds of which a spread is taken


def run_chapter(path: Path) -> None:
    """Run a chapter's cells down to its last promises, solutions left out; a broken promise is recorded, not raised."""
    import matplotlib

    matplotlib.use("Agg")
    from genmed_core.metrics.scorecard import Scorecard

    Scorecard.add = lambda self, broken: print("broken:", broken)
    cells = [cell for cell in chapters.cells(path) if "solution" not in cell.metadata.get("tags", [])]
    chapters.run(cells[:chapters.calling(cells, "expect")[-1] + 1], {"__name__": "__main__"}, path.stem)


def record_seed(path: Path, seed: int) -> Path:
    """The folder with a chapter's records under a seed, run if they are not there.  Raises where the chapter fails."""
    folder = runtime.runs_dir() / "bars" / f"{path.stem}-{seed}"
    done = folder / "done"
    if not done.exists():
        environment = os.environ | {"GENMED_SEED": str(seed), "GENMED_RUNS": str(folder)}
        subprocess.run([sys.executable, __file__, "--one", str(path)], env=environment, check=True)
        done.touch()
    return folder


def values_of(path: Path) -> dict[str, dict]:
    """{promise: {"values": one for each seed, "below", "above", "source"}} of all seeds that were run."""
    found: dict[str, dict] = {}
    for done in sorted((runtime.runs_dir() / "bars").glob(f"{path.stem}-*/done")):
        content = json.loads((done.parent / "results" / f"{path.stem}.json").read_text(encoding="utf-8"))
        for record in content["records"]:
            entry = found.setdefault(record["name"], {"values": [], "source": content["source"]})
            entry["values"].append(record["value"])
            entry |= {"below": record["below"], "above": record["above"]}
    return {name: entry for name, entry in found.items() if entry["below"] is not None or entry["above"] is not None}


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
    for chapter, promises in results.items():
        for name, p in promises.items():
            bars = [f"{word} {p[word]:g}" for word in ("above", "below") if p[word] is not None]
            alarm = f"{p['false_alarm']:.1g}" if p["false_alarm"] >= 1e-6 else "< 1e-6"
            lines.append(f"| {int(chapter[:2])} | {name} | {len(p['values'])} | {p['mean']:.4g} ± {p['sd']:.2g} | "
                         f"{' and '.join(bars)} | {alarm} | {p['caught']:.2g} |")
    return "\n".join(lines)


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
        results = json.loads(options.output.read_text(encoding="utf-8")) if options.output.exists() else {}
        names = [word.zfill(2) for word in options.picked]
        for path in sorted((ROOT / "chapters").glob("[0-9][0-9]_*.py")):
            if names and path.name[:2] not in names:
                continue
            for seed in options.seeds:
                record_seed(path, seed)
            results[path.stem] = {name: entry | judged(entry["values"], entry["below"], entry["above"])
                                  for name, entry in values_of(path).items() if len(entry["values"]) >= FEWEST}
            text = json.dumps(dict(sorted(results.items())), indent=1, ensure_ascii=False)
            options.output.write_text(text + "\n", encoding="utf-8")
    print(table(json.loads(options.output.read_text(encoding="utf-8"))))


if __name__ == "__main__":
    main()
