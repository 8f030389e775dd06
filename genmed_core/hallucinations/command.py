"""What did a model erase and invent, judged against the truth? Folders of films in pairs."""

import argparse
import sys
from pathlib import Path

from genmed_core.audit.command import Progress, add_targets, check_places, check_targets, reported
from genmed_core.audit.folders import generator
from genmed_core.hallucinations.page import TITLE, page
from genmed_core.hallucinations.paired import Paired, read_pairs
from genmed_core.hallucinations.report import hallucinations, table


def main(arguments: list[str] | None = None) -> int:
    """The command line -> exit status: 0 after a measurement, 1 without its files, 2: bad input."""
    options = _parser().parse_args(arguments)
    return reported(options, lambda: _run(options), table,
                    lambda pairs, report: page(report, pairs))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="genmed-hallucinations", description=__doc__)
    parser.add_argument("truth", type=Path, metavar="TRUTH", help="folder of what should come out")
    parser.add_argument("output", type=Path, metavar="OUTPUT", help="folder of what came out")
    parser.add_argument("--input", type=Path, metavar="DIR", help="folder of what went in: shows "
                        "what doing nothing would have scored")
    parser.add_argument("--lesions", type=Path, metavar="PLACE", help="folder of masks named as "
                        "the truth's films, or a CSV file: name, x, y, radius in pixels; without "
                        "it a detector's marks in the truth stand for lesions")
    add_targets(parser, "the films, so keep it where they are kept")
    parser.add_argument("--seed", type=int, default=0, help="of the intervals (default 0)")
    return parser


def _run(options: argparse.Namespace) -> tuple[Paired, dict]:
    places = [place for place in (options.truth, options.output, options.input) if place]
    check_places(places, "truth, output and input" if options.input else "truth and output")
    generator(options.seed)
    check_targets(options, {"verdicts", "lesions_by", "output"}, TITLE, "this measurement")
    pairs = read_pairs(options.truth, options.output, input=options.input, lesions=options.lesions)
    bar = Progress(sys.stderr)
    report = hallucinations(pairs, seed=options.seed, tell=bar.tell)
    bar.end()
    return pairs, report
