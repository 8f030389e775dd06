"""What a chapter promises to reach: judged before the reader, recorded for the scoreboard."""

import math

import torch
from torch import nn

from genmed_core import runtime
from genmed_core.data import OF_PATIENTS, OWN_FILMS
from genmed_core.metrics.images import Images, as_images, pixels
from genmed_core.metrics.readers import DIGITS, Reader
from genmed_core.metrics.registry import Comparison, measured, numbers
from genmed_core.metrics.results import Results
from genmed_core.metrics.scorecard import Scorecard

Bar = float | dict[str, float | None] | None


class Expectations:
    """What a chapter promises to reach, judged for the reader and recorded for the scoreboard.

    >>> expect = Expectations("02_vae", source=train.source)
    >>> expect("test -ELBO, nats per image", 101.2, below={"mnist": 102, "strokes": 90})

    `below` and `above` are a number, or one for each data source; None for a source promises
    nothing there. The printed line says the value, the bars of all sources, how far the value is
    from the nearest bar of its own (negative beyond it), and whether the promise was kept; nbval
    compares it without value and margin (tests/nbval.cfg), so that it is the same in every run that
    passes. In a notebook broken promises raise when the cell ends and all of it have been judged.
    With GENMED_BUDGET below 1 nothing is promised: values are printed and recorded, and not judged.
    A value that only one source allows to be measured is None for the others, whose bar must be
    None too, and is not recorded there. A promise made again replaces itself.
    """

    def __init__(self, chapter: str, *, source: str):
        self.chapter, self.source = chapter, source
        self.records: dict[str, dict] = {}
        self.models: dict[str, dict] = {}
        self._results, self._scorecard = Results(chapter), Scorecard()

    def __call__(
        self, name: str, value: float | torch.Tensor | None, *, below: Bar = None, above: Bar = None
    ) -> None:
        """Judge a value. Raises ExpectationFailed, and ValueError for bars that make no sense."""
        low, high = self._bar(name, above), self._bar(name, below)
        if below is None and above is None:
            raise ValueError(f"{name}: give a bar with below= or above=")
        if low is not None and high is not None and low >= high:
            raise ValueError(f"{name}: nothing lies above {low:g} and below {high:g}")
        value = _number(name, value)
        if value is None and not (low is None and high is None):
            raise ValueError(f"{name}: a value is needed on {self.source}, which has a bar")
        met = value is None or low is high is None or _within(value, low, high)
        if value is not None:
            record = {"name": name, "value": value, "below": high, "above": low, "met": met}
            self.records[name] = record
            self._write()
        words = _in_words(below, above)
        line = f"{name}: {_found(value)}, promised {words}"
        if why_not := self._why_not_judged():
            print(f"{line}: not judged, for {why_not}")
            return
        kept = "kept where promised" if "nothing promised" in words else "yes"
        print(f"{line}: margin {_margin(value, low, high)}: {kept if met else 'no'}")
        if not met:
            self._scorecard.add(f"{name} is {value:.4g} on {self.source}; promised: {words}")

    def _why_not_judged(self) -> str:
        """Empty where values are judged."""
        if self.source == OWN_FILMS:
            return "these are films of your own"
        return "GENMED_BUDGET is below 1" if runtime.budget_factor() < 1 else ""

    def _bar(self, name: str, bar: Bar) -> float | None:
        """The one of this data source."""
        if isinstance(bar, dict):
            if self.source not in bar and self.source != OWN_FILMS:
                known = sorted(bar)
                raise ValueError(f"no bar for the data source {self.source!r} among {known}")
            bar = bar.get(self.source)
        if bar is not None and not math.isfinite(bar):
            raise ValueError(f"{name}: a bar of {bar} promises nothing: give a finite number")
        return bar

    def _write(self) -> bool:
        records, models = list(self.records.values()), list(self.models.values())
        return self._results.write(self.source, records, models)

    def model(
        self, name: str, *, report: dict, samples: torch.Tensor, real: Images,
        train_seconds: float, sample_seconds: float, parameters: nn.Module | float,
        labels: torch.Tensor | None = None, note: str = "", reader: Reader = DIGITS,
    ) -> None:
        """Record a model for the scoreboard: quality, variety and cost.

        report: what `sample_report` or `audit.quality` said of the samples, or a dict with "fd",
        "fd_floor", "kid", "kid_floor", "recall", "coverage" and more of the registry's measures;
        samples (N, C, H, W) in [0, 1] and real: images or ImageSet, whose similarity is the floor;
        labels (N,): the classes asked for (images of the reader's shape without are taken as it
        reads them); train_seconds: all training that the samples need; sample_seconds per image;
        parameters: the network that draws, or how many numbers it has learned; what only training
        needs, such as an encoder or a critic, is not counted. The printed line holds no value, and
        a model recorded again replaces itself. Raises ValueError for a report without floors.
        """
        if isinstance(parameters, nn.Module):
            parameters = sum(p.numel() for p in parameters.parameters())  # frozen ones too
        costs = {
            "train_seconds": train_seconds, "sample_seconds": sample_seconds,
            "parameters": parameters,
        }
        if bad := [key for key, v in costs.items() if not (math.isfinite(v) and v > 0)]:
            raise ValueError(f"{name}: {', '.join(bad)} must be positive numbers")
        figures = _figures(report)
        binarised = bool(report.get("binarised"))
        x, x_real = as_images(samples), pixels(real)
        if binarised:
            x_real = (as_images(x_real) > 0.5).float()
        labels = _labels(x, labels, reader)
        real_labels = _labels(x_real, getattr(real, "labels", None), reader)
        if labels is None or real_labels is None:
            labels = real_labels = None
        figures |= measured(Comparison(images=x, image_labels=labels))
        figures["floor"] |= measured(Comparison(images=x_real, image_labels=real_labels))
        self.models[name] = {
            "name": name, "n": len(x), "note": note, "binarised": binarised, **figures,
            **{key: float(v) for key, v in costs.items()},
        }
        self._keep(name, x, x_real)

    def _keep(self, name: str, x: torch.Tensor, x_real: torch.Tensor) -> None:
        """Write a model's figures, samples and pictures, and say what was written."""
        recorded = self._write()
        kept = self._results.strip(name, x) and self._results.samples(name, x)
        if self.source not in OF_PATIENTS:  # films of patients stay where they are
            kept = self._results.strip("real", x_real) and kept
        if recorded:
            without = "" if kept else ", without its samples"
            print(f"{name}: recorded for the scoreboard{without}")


def _number(name: str, value: float | torch.Tensor | None) -> float | None:
    if isinstance(value, torch.Tensor) and value.numel() != 1:
        raise ValueError(f"{name}: one number is judged, not {tuple(value.shape)}")
    if isinstance(value, torch.Tensor):
        return value.item()  # it may carry gradients
    return None if value is None else float(value)


def _within(value: float, low: float | None, high: float | None) -> bool:
    """True for a finite value strictly between the bars that there are."""
    above = low is None or value > low
    return math.isfinite(value) and above and (high is None or value < high)


def _margin(value: float | None, low: float | None, high: float | None) -> str:
    """How far a value lies on the good side of the nearest bar."""
    if value is None or low is high is None:
        return "none"
    gaps = [value - low] if low is not None else []
    gaps += [high - value] if high is not None else []
    return f"{min(gaps):.3g}"


def _in_words(below: Bar, above: Bar) -> str:
    """The bars of all data sources, such as "below 3 (mnist), nothing promised (strokes)"."""
    bars = []
    for word, bar in (("below", below), ("above", above)):
        if isinstance(bar, dict):
            each = [
                f"nothing promised ({source})" if b is None else f"{word} {b:g} ({source})"
                for source, b in bar.items()
            ]
            bars.append(", ".join(each))
        elif bar is not None:
            bars.append(f"{word} {bar:g}")
    return " and ".join(bars)


def _found(value: float | None) -> str:
    return "not measured here" if value is None else f"{value:.4g}"


def _labels(
    x: torch.Tensor, labels: torch.Tensor | None, reader: Reader
) -> torch.Tensor | None:
    """The classes given, else what the reader reads, else None where it reads no such images."""
    if labels is None and x.shape[1:] == reader.shape:
        return reader.read(as_images(x)).argmax(1)
    return labels


def _figures(report: dict) -> dict:
    """{"fd", "kid", ...: numbers, "floor": {the same}} of any kind of report.

    That is of a sample_report, of audit.quality's, or of a plain dict, whose floors are named
    "fd_floor", "kid_floor", ...
    """
    ours = report.get("synthetic", report)
    named = {k.removesuffix("_floor"): v for k, v in ours.items() if k.endswith("_floor")}
    floor = report.get("floor") or named
    if missing := [key for key in ("fd", "kid", "recall", "coverage") if key not in ours]:
        held = ", ".join(ours)
        raise ValueError(f"the report lacks {', '.join(missing)}: it holds {held}")
    if missing := [key for key in ("fd", "kid") if key not in floor]:
        raise ValueError(
            f"the report lacks the floor of {', '.join(missing)}: a distance means nothing without "
            "it"
        )
    figures = numbers(ours)
    figures["fd_ratio"] = figures["fd"] / float(floor["fd"])
    return figures | {"floor": numbers(floor)}
