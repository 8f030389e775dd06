"""Reports: all measures of a set of samples, each beside what real images score in their place."""

import functools
from typing import NamedTuple

import torch

from genmed_core import arguments
from genmed_core.metrics import checks
from genmed_core.metrics.distances import frechet_distance
from genmed_core.metrics.images import Images, as_images, pixels
from genmed_core.metrics.readers import DIGITS, Reader
from genmed_core.metrics.registry import MEASURES, Comparison, measured

SPLITS = 10  # draws that the Frechet floor is averaged over: one is off by a third, for its classes
LEAST = 6  # samples that every measure can work with


class RealReference(NamedTuple):
    """What `sample_report` holds samples against, made by `real_reference`."""

    features: torch.Tensor  # (M, d) of the real images that are compared with
    labels: torch.Tensor    # (M,) as the reader reads them
    n: int                  # samples in a report, and in the floor
    binarised: bool
    floor: dict             # the report of n real images that are not among the M
    reader: Reader


def look(x: torch.Tensor, reader: Reader) -> tuple[torch.Tensor, torch.Tensor]:
    """Images -> features (N, d) and read labels (N,) on the CPU, in one pass."""
    features = reader.features(x)
    return features.cpu(), reader.read(features).argmax(1).cpu()


def _look_at_real(
    images: Images, binarised: bool, reader: Reader
) -> tuple[torch.Tensor, torch.Tensor]:
    x = as_images(images, reader.shape)
    return look((x > 0.5).float() if binarised else x, reader)


# references for several n look at the same ImageSets, which are known by identity
_look_once = functools.lru_cache(maxsize=4)(_look_at_real)


def real_reference(
    real: Images, *, held_out: Images | None = None, n: int = 2000, binarised: bool = False,
    reader: Reader = DIGITS,
) -> RealReference:
    """What samples are compared with, and the floor: what n real images score in their place.

    real: ImageSet (best the test set: 10,000 or 5,000 images) or images (N, *reader.shape) in
    [0, 1]. The floor's images are n of them, set aside, or n of `held_out`: with validation images,
    which are of the training set's writers, it is what a perfect model of the training data would
    score. reader: what looks at images, ours of digits unless given.
    """
    arguments.whole("n", n, LEAST)
    parts = [real] if held_out is None else [real, held_out]
    sizes = [len(pixels(part)) for part in parts]
    needed = 2 * n if held_out is None else n
    if min(sizes) < needed:
        raise ValueError(
            f"{min(sizes)} real images are too few: a report on {n} samples needs {needed}"
        )
    looked = []
    for part in parts:
        cached = _look_once if hasattr(part, "images") else _look_at_real
        looked.append(cached(part, binarised, reader))
    features, labels = (torch.cat(both) for both in zip(*looked))
    splits = _splits(sizes, n, torch.Generator().manual_seed(0))
    aside, kept = splits[0]
    floor = _scores(features[aside], labels[aside], features[kept], labels[kept], None, reader)
    fd = torch.tensor([frechet_distance(features[b], features[a]) for a, b in splits])
    floor |= {"fd": fd.mean().item(), "fd_sd": fd.std().item(), "fd_ratio": 1.0}
    if hasattr(real, "labels"):
        right = labels[: sizes[0]] == real.labels.cpu()
        floor["read_accuracy"] = right.float().mean().item()
    return RealReference(features[kept], labels[kept], n, binarised, floor, reader)


_reference_of = functools.lru_cache(maxsize=4)(real_reference)


def _splits(sizes: list[int], n: int, generator: torch.Generator) -> list:
    """SPLITS draws of (n images set aside, those compared with), as indices."""
    splits = []
    for _ in range(SPLITS):
        if len(sizes) == 1:
            order = torch.randperm(sizes[0], generator=generator)
            splits.append((order[:n], order[n:]))
        else:
            aside = sizes[0] + torch.randperm(sizes[1], generator=generator)[:n]
            splits.append((aside, torch.arange(sizes[0])))
    return splits


def _scores(
    features: torch.Tensor, labels: torch.Tensor, real: torch.Tensor, real_labels: torch.Tensor,
    asked: torch.Tensor | None, reader: Reader,
) -> dict:
    """Every measure of one set of samples against real ones, and the shares of their classes."""
    comparison = Comparison(
        fake=features, real=real, fake_labels=labels, real_labels=real_labels, asked=asked,
        known_classes=reader.classes,
    )
    return measured(comparison) | {"shares": comparison.spread["shares"]}


def sample_report(
    fake: Images, real: Images | RealReference, labels: torch.Tensor | None = None, *,
    held_out: Images | None = None, n: int | None = None, binarised: bool | None = None,
    reader: Reader | None = None,
) -> dict:
    """All measures of sample quality, each with its floor: what n real images score in their place.

    fake: images (N, *reader.shape) in [0, 1], N >= n (of more, n are drawn); real: the test
    ImageSet (looked at once), images, or a RealReference, which brings the other settings with it;
    labels (N,): the classes asked for, if any; held_out, reader: see real_reference; n: 2000 unless
    given. With binarised=True the real images are cut at 0.5 and the fakes must hold 0 and 1 only:
    cut or sample them first, and say which.
    Returns {"n", "reference_n", "dimensions", "binarised", "shares", "fd", "fd_ratio" (to the
    floor) and every other measure of the registry that features allow, "read_accuracy" (with
    labels), "floor": {the same measures, and "fd_sd"}}.
    """
    settings = {"held_out": held_out, "n": n, "binarised": binarised, "reader": reader}
    real = _reference(real, {key: value for key, value in settings.items() if value is not None})
    x, labels = _samples(as_images(fake, real.reader.shape), labels, real)
    features, read = look(x, real.reader)
    scores = _scores(features, read, real.features, real.labels, labels, real.reader)
    report = {
        "n": real.n, "reference_n": len(real.features), "dimensions": features.shape[1],
        "binarised": real.binarised, "floor": real.floor,
    }
    return report | scores | {"fd_ratio": scores["fd"] / real.floor["fd"]}


def _reference(real: Images | RealReference, settings: dict) -> RealReference:
    if isinstance(real, RealReference):
        if settings:
            raise ValueError(
                f"{', '.join(settings)} given beside a RealReference, which has its own: "
                "give them to real_reference"
            )
        return real
    build = _reference_of if hasattr(real, "images") else real_reference
    return build(real, **settings)


def _samples(
    x: torch.Tensor, labels: torch.Tensor | None, real: RealReference
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The n samples of a report and the classes asked for, or a ValueError."""
    n = real.n
    if len(x) < n:
        raise ValueError(
            f"{len(x)} samples are too few: draw {n}, for the distances depend on their number"
        )
    if labels is not None:
        checks.one_each("labels", labels, len(x), "sample")
        labels = labels.cpu()
    if real.binarised and not ((x == 0) | (x == 1)).all():
        raise ValueError(
            "binarised=True needs samples of 0 and 1: x > 0.5, or torch.bernoulli(x), as float"
        )
    if len(x) > n:  # at random: samples often come sorted by class
        some = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))[:n]
        x = x[some.to(x.device)]
        labels = None if labels is None else labels[some]
    return x, labels


def report_table(reports: dict[str, dict]) -> str:
    """{name: report} -> a markdown table, best shown by IPython's Markdown.

    A row for each measure; one column for each floor among them (grey and binarised data have their
    own) and one for each report.
    """
    floors = {}
    for report in reports.values():
        floors[id(report["floor"])] = (
            "real, " + ("binarised" if report["binarised"] else "grey"), report["floor"]
        )
    columns = [*floors.values(), *reports.items()]
    rows = [["measure", *(name for name, _ in columns)], ["---"] + ["---:"] * len(columns)]
    for measure in MEASURES.values():
        cells = [measure.text(scores) for _, scores in columns]
        if any(cells):
            rows.append([measure.heading, *cells])
    table = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    return f"{table}\n\n{_sizes(reports)}"


def _sizes(reports: dict[str, dict]) -> str:
    """How many samples a table's figures rest on, and where they are too few."""
    sizes = sorted({(r["n"], r["reference_n"]) for r in reports.values()})
    notes = [f'{n:,} samples against {m:,} real images; "real" is the floor.' for n, m in sizes]
    dimensions = max(r.get("dimensions", 0) for r in reports.values())
    if sizes[0][0] <= dimensions:
        notes.append(
            f"So few samples in {dimensions} dimensions have a singular covariance: "
            "their Fréchet distance is mostly a matter of their number."
        )
    return " ".join(notes)
