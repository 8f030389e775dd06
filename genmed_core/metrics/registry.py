"""The measures of a set of samples: one entry each, read by every report, table, audit and page.

A new measure is one entry: `register(Measure("name", "heading", "lower", function))`. Reports then
hold it, tables and the scoreboard show it, and what is recorded of a model keeps it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import torch

from genmed_core.metrics import distances, images, variety


@dataclass(frozen=True, eq=False)
class Comparison:
    """What a measure may look at. What is not at hand is None, and no measure needs it then.

    Reports give features and labels; where a model is recorded, its images are looked at too.
    """

    fake: torch.Tensor | None = None  # (n, d) features of the samples
    real: torch.Tensor | None = None  # (m, d) features of the real images
    fake_labels: torch.Tensor | None = None  # (n,) classes as they are read
    real_labels: torch.Tensor | None = None  # (m,)
    asked: torch.Tensor | None = None  # (n,) classes that were asked for
    images: torch.Tensor | None = None  # (n, C, H, W) the samples, uint8 or in [0, 1]
    image_labels: torch.Tensor | None = None  # (n,)
    known_classes: int = 10  # that the reader tells apart

    def parts(self, *names: str) -> list[torch.Tensor]:
        """The parts of these names, for a measure that needs them."""
        return [getattr(self, name) for name in names]

    @functools.cached_property
    def manifold(self) -> tuple[float, float]:
        """Precision and recall, of as many reals as samples."""
        real, fake = self.parts("real", "fake")
        n = min(len(real), len(fake))
        return variety.precision_recall(real[:n], fake[:n])

    @functools.cached_property
    def balls(self) -> tuple[float, float]:
        """Density and coverage, of as many reals as samples."""
        real, fake = self.parts("real", "fake")
        n = min(len(real), len(fake))
        return variety.density_coverage(real[:n], fake[:n])

    @functools.cached_property
    def spread(self) -> dict:
        """Shares of the classes, how many there are, and their entropy."""
        return variety.class_shares(*self.parts("fake_labels"), classes=self.known_classes)


@dataclass(frozen=True)
class Measure:
    """One measure, as all that show it know it.

    better: "lower", "higher", or "floor" where the real images' own value is best. function(c)
    gives the number for a Comparison, or the number and its deviation; it is called where all that
    `needs` names is there, and is None where the maker of a report has the number already. format:
    as for `format`; spread: the key of its deviation; short: heading on the scoreboard, None to
    leave it out.
    """

    name: str
    heading: str
    better: str
    function: Callable[[Comparison], float | tuple[float, float]] | None = None
    needs: tuple[str, ...] = ("fake", "real")
    format: str = ".2f"
    spread: str = ""
    short: str | None = ""  # the heading

    def __post_init__(self) -> None:
        if self.better not in ("lower", "higher", "floor"):
            raise ValueError(f"better={self.better!r}: give 'lower', 'higher' or 'floor'")

    def text(self, scores: dict) -> str:
        """Its value among `scores` in words, with the deviation where there is one."""
        if self.name not in scores:
            return ""
        value = format(scores[self.name], self.format).replace("%", " %")
        if self.spread in scores:
            value += f" ± {format(scores[self.spread], self.format)}"
        return value


MEASURES: dict[str, Measure] = {}


def register(measure: Measure) -> Measure:
    """Add a measure to all reports, tables and records. ValueError for a name that is taken."""
    if measure.name in MEASURES:
        raise ValueError(f"there is a measure {measure.name!r} already: give it another name")
    MEASURES[measure.name] = measure
    return measure


def measured(comparison: Comparison) -> dict[str, float]:
    """Every measure for which all that it needs is there, by name."""
    scores = {}
    for name, measure in MEASURES.items():
        there = all(getattr(comparison, part) is not None for part in measure.needs)
        if measure.function is None or not there:
            continue
        value = measure.function(comparison)
        if isinstance(value, tuple):
            value, scores[measure.spread] = value
        scores[name] = value
    return scores


def numbers(scores: dict) -> dict[str, float]:
    """What `scores` holds of the measures and their deviations, as plain floats."""
    keys = [key for m in MEASURES.values() for key in (m.name, m.spread) if key]
    return {key: float(scores[key]) for key in keys if key in scores}


def _read_as_asked(c: Comparison) -> float:
    read, asked = c.parts("fake_labels", "asked")
    return (read.cpu() == asked.cpu()).double().mean().item()


LABELS = ("fake", "fake_labels", "real", "real_labels")

for _measure in (
    Measure("fd", "Fréchet distance", "lower",
            lambda c: distances.frechet_distance(*c.parts("real", "fake")),
            format=".1f", spread="fd_sd", short="FD"),
    Measure("fd_ratio", "times the floor", "lower", format=".1f", short="× floor"),
    Measure("kid", "kernel distance", "lower",
            lambda c: distances.kernel_distance(*c.parts("real", "fake")),
            format=".1f", spread="kid_sd", short="KID"),
    Measure("precision", "precision", "higher", lambda c: c.manifold[0], short=None),
    Measure("recall", "recall", "higher", lambda c: c.manifold[1]),
    Measure("density", "density", "floor", lambda c: c.balls[0], short=None),
    Measure("coverage", "coverage", "higher", lambda c: c.balls[1]),
    Measure("classes", "classes", "higher", lambda c: c.spread["classes"], LABELS,
            format=".0f", short=None),
    Measure("entropy", "entropy, bits", "floor", lambda c: c.spread["entropy"], LABELS,
            short=None),
    Measure("diversity", "diversity in class", "higher",
            lambda c: variety.within_class_diversity(*c.parts(*LABELS)), LABELS, short=None),
    Measure("read_accuracy", "read as asked", "higher", _read_as_asked, ("fake_labels", "asked"),
            format=".1%"),
    Measure("similarity_in_class", "MS-SSIM in class", "floor",
            lambda c: images.similarity(*c.parts("images", "image_labels")),
            ("images", "image_labels")),
    Measure("similarity", "MS-SSIM of any two", "floor",
            lambda c: images.similarity(*c.parts("images")), ("images",)),
    Measure("detail", "fine detail", "floor"),  # the audit measures it, on films
    Measure("neighbour", "neighbour", "floor"),  # chapter 9 does
):
    register(_measure)
