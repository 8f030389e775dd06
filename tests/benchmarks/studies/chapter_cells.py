"""What the studies share: a chapter's definitions, options, seeds one after another, means with deviations."""

import argparse
import ast
import json
import os
import statistics
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from genmed_core import chapters, runtime

CHAPTERS = Path(__file__).resolve().parents[3] / "chapters"
FIGURES = CHAPTERS / "figures"


def definitions(chapter: str, names: Sequence[str], *, seed: int) -> dict[str, Any]:
    """Run the cells of a chapter that define `names`, with GENMED_SEED set -> its namespace.

    Each name is taken from the first cell that defines it, in the chapter's order. KeyError for one that no cell does.
    """
    cells = chapters.cells(CHAPTERS / f"{chapter}.py")
    defined = [_defined(ast.parse(cell.source).body) for cell in cells]
    wanted = set()
    for name in names:
        places = [i for i, here in enumerate(defined) if name in here]
        if not places:
            raise KeyError(f"no cell of {chapter} defines {name}: the study has to follow the chapter")
        wanted.add(places[0])
    os.environ["GENMED_SEED"] = str(seed)
    namespace: dict[str, Any] = {"__name__": "study"}
    chapters.run([cells[i] for i in sorted(wanted)], namespace, chapter)
    return namespace


def _defined(body: Iterable[ast.stmt]) -> set[str]:
    names = set()
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.Assign):
            targets = [t for target in node.targets for t in ast.walk(target)]
            names |= {t.id for t in targets if isinstance(t, ast.Name)}
    return names


def parser_of(doc: str | None, output: Path, seeds: Sequence[int] = (0, 1, 2)) -> argparse.ArgumentParser:
    """The options of a study: --seeds, --output, --table."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(seeds))
    parser.add_argument("--output", type=Path, default=output)
    parser.add_argument("--table", action="store_true", help="print the table of what is there, train nothing")
    return parser


def run_seeds(doc: str | None, name: str, one_seed: Callable[[int], dict], together: Callable[[list[dict]], dict],
              table: Callable[[dict], str], **settings: Any) -> None:
    """A study of its own seeds: after each, figures/NAME.json holds what is done; at the end the table is printed."""
    options = parser_of(doc, FIGURES / f"{name}.json").parse_args()
    runs: list[dict] = []
    for seed in [] if options.table else options.seeds:
        runs.append(one_seed(seed))
        about = {"command": f"make study STUDY={name}", "seeds": options.seeds[: len(runs)], **settings,
                 "source": runs[0]["source"], "machine": runtime.machine()}
        result = json.dumps({"settings": about, **together(runs)}, indent=1)
        options.output.write_text(result + "\n", encoding="utf-8")
    if not options.output.exists():
        sys.exit(f"{options.output}: not there yet; run without --table first")
    print(table(json.loads(options.output.read_text(encoding="utf-8"))))


def mean_sd(values: Sequence[float]) -> dict[str, float]:
    """Mean and standard deviation over seeds, to six figures; the deviation of one value is 0."""
    sd = statistics.stdev(values) if len(values) > 1 else 0.0
    return {"mean": _rounded(statistics.fmean(values)), "sd": _rounded(sd)}


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")


def said(value: dict[str, float] | None, digits: int) -> str:
    """A mean with its deviation in words, such as 9.1 ± 0.3; empty for None."""
    if value is None:
        return ""
    return f"{value['mean']:,.{digits}f} ± {value['sd']:,.{digits}f}"


def markdown(heading: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A Markdown table whose first column is left-aligned."""
    rule = ["---"] + ["---:"] * (len(heading) - 1)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [heading, rule, *lines])


def progress(words: str) -> None:
    print(words, file=sys.stderr, flush=True)
