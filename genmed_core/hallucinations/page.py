"""The report on paired folders as one page of HTML; it needs nothing else and shows the films."""

from collections.abc import Iterator
from html import escape

import torch

from genmed_core.audit.page import clean, document, html_table, intervals, picture, section
from genmed_core.hallucinations.paired import Paired
from genmed_core.hallucinations.report import rows

TITLE = "What was erased, what was invented"
WARNING = ("This page shows the films that were measured. Keep it where they may be kept, and pass "
           "it on to nobody who may not see them.")
SHOWN = 12  # films of each kind
RING = 6.0  # radius, pixels
OWN_STYLE = """
.pairs{grid-template-columns:repeat(auto-fill,minmax(min(22rem,100%),1fr))}
"""


def page(report: dict, pairs: Paired) -> str:
    """A report of `hallucinations` and the films that it measured -> HTML."""
    counts = report["counts"]
    by = "masks" if report["lesions_by"] == "masks" else "the detector's own marks"
    intro = (f"{counts['pairs']:,} pairs with {counts['lesions']:,} lesions in the truth, by {by}. "
             "Lesions are round nodules that a small network finds. Outputs are synthetic, not for "
             "diagnosis.")
    return document(
        TITLE, WARNING, intro, report, section("Measures", _measures(report)),
        section("Shares with their intervals", f"<div class=plots>{''.join(_plots(report))}</div>"),
        section("Lesions erased", _films(report, pairs, "erased")),
        section("Lesions invented", _films(report, pairs, "invented")), style=OWN_STYLE)


def _measures(report: dict) -> str:
    intro = ("<p>Shares are corrected for what the detector misses; counts are not. The floor of "
             "what was altered is the truth behind a blur of half a pixel; lungs and heart are off "
             "by so much more than they are there.</p>")
    with_input = report["input"] is not None
    cells = [row if with_input else row[:2] for row in rows(report)]
    return intro + html_table(("measure", "output", "input")[:2 + with_input], cells)


def _plots(report: dict) -> Iterator[str]:
    for key, title in (("erased", "Lesions erased, share of those found"),
                       ("invented", "Films with invented lesions, share")):
        sides = {name: report[name][key] for name in ("output", "input") if report[name]}
        known = {name: one for name, one in sides.items() if one["value"] is not None}
        if known:
            yield intervals(title, known)


def _films(report: dict, pairs: Paired, key: str) -> str:
    """The first films whose lesions were erased, or in which some were invented, ringed."""
    names, places = report["output"][key]["films"], report["output"][key]["places"]
    if not names:
        return "<p>None was counted.</p>"
    rest = f" The first {SHOWN} are shown; the JSON names all." * (len(names) > SHOWN)
    sides = [("truth", pairs.truth), ("output", pairs.output)]
    sides += [("input", pairs.input)] if pairs.input is not None else []
    order = ", ".join(name for name, _ in sides)
    intro = f"<p>{len(names)} films.{rest} From left to right: {order}.</p>"
    figures = []
    for name in names[:SHOWN]:
        at = [(row, column) for film, row, column in places if film == name]
        shown = [(side, ringed(images[pairs.names.index(name)], at)) for side, images in sides]
        pictures = "".join(picture(image, f"{side} {name}") for side, image in shown)
        figures.append(f"<figure><div class=two>{pictures}</div><figcaption>{escape(clean(name))}"
                       "</figcaption></figure>")
    return f"{intro}<div class=pairs>{''.join(figures)}</div>"


def ringed(image: torch.Tensor, places: list[tuple[float, float]]) -> torch.Tensor:
    """A film (1, H, W) uint8 with a white ring around each place (row, column)."""
    out, side = image.clone(), torch.arange(image.shape[-1])
    for row, column in places:
        off = ((side[:, None] - row).square() + (side - column).square()).sqrt() - RING
        out[0][off.abs() < 0.5] = 255
    return out
