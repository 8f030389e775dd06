"""Fidelity, variety and usefulness of samples, beside what training images score in their place."""

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional as F

from genmed_core import metrics
from genmed_core.audit.features import fine_detail
from genmed_core.audit.folders import Folder
from genmed_core.audit.intervals import interval, resampled
from genmed_core.audit.questions import BARS, Finding, question, shown

Tensors = Sequence[torch.Tensor]
LEAST_OF_CLASS = 5  # images in every set


def quality(real: torch.Tensor, held: torch.Tensor, fake: torch.Tensor, images: Tensors,
            rng: np.random.Generator, draws: int = 5, most: int = 2000) -> dict:
    """Fidelity and variety of fakes, and of training images in their place (the floor).

    real, held, fake: features (N, d); images: the three uint8 sets -> {"synthetic": measures,
    "floor": measures}. Both sides count as many images, drawn anew `draws` times: every distance
    depends on the numbers.
    """
    n, m = min(len(real), len(fake), most), min(len(held), most)
    held = held[rng.permutation(len(held))[:m]]
    detail = max(fine_detail(images[1]), 1e-9)
    result: dict = {"n": n, "reference_n": m}
    for name, features, pictures in (("synthetic", fake, images[2]), ("floor", real, images[0])):
        drawn = [features[rng.permutation(len(features))[:n]] for _ in range(draws)]
        found = [metrics.measured(metrics.Comparison(some, held)) for some in drawn]
        result[name] = {key: float(np.mean([one[key] for one in found])) for key in found[0]}
        result[name]["detail"] = fine_detail(pictures) / detail
    return result


def utility(features: Tensors, labels: Tensors, classes: int, rng: np.random.Generator,
            most: int = 2000) -> dict:
    """What a linear classifier learns from each set, tested on held-out images.

    features, labels: of train, held-out, synthetic. Real and synthetic training sets are equally
    large. -> balanced accuracies with 95 % intervals over held-out images.
    """
    (real, held, fake), (y, y_held, y_fake) = features, labels
    n = min(len(real), len(fake), most)
    a, b = rng.permutation(len(real))[:n], rng.permutation(len(fake))[:n]
    sets = {"real": (real[a], y[a]), "synthetic": (fake[b], y_fake[b])}
    both, y_both = map(torch.cat, zip(*sets.values()))
    sets["both"] = both, y_both
    of_class = F.one_hot(y_held, classes).numpy().astype(float)
    weights, accuracy = resampled(len(held), rng), {}
    for name, (x, target) in sets.items():
        read = metrics.linear_predictions(x.float(), target, held.float(), classes=classes, l2=1e-2)
        right = (read == y_held).numpy()[:, None] * of_class
        with np.errstate(invalid="ignore"):  # a class that was not drawn
            accuracy[name] = np.nanmean((weights @ right) / (weights @ of_class), 1)
    accuracy["gap"] = accuracy["real"] - accuracy["synthetic"]
    accuracy["gain"] = accuracy["both"] - accuracy["real"]
    intervals = {name: interval(values) for name, values in accuracy.items()}
    return {"n": n, "classes": classes, "chance": 1 / classes} | intervals


def usefulness(sets: list[Folder], features: Tensors, notes: list[str],
               rng: np.random.Generator) -> dict | None:
    """`utility` on the classes that all sets have, or None and a note."""
    if not all(folder.classes for folder in sets):
        notes.append("usefulness is not measured: it needs class folders in all three folders")
        return None
    found = [_classes(folder) for folder in sets]
    classes = sorted(set.intersection(*found))
    named = set().union(*(folder.classes for folder in sets))
    if dropped := ", ".join(sorted(named - set(classes))):
        notes.append(f"usefulness is measured without {dropped}: not {LEAST_OF_CLASS} images "
                     "in every folder")
    if len(classes) < 2:
        notes.append("usefulness is not measured: fewer than two classes are in all three folders")
        return None
    chosen, labels = [], []
    for folder, x in zip(sets, features):
        index = [classes.index(c) if c in classes else -1 for c in folder.classes]
        label = torch.tensor(index)[folder.labels]
        chosen.append(x[label >= 0])
        labels.append(label[label >= 0])
    return utility(chosen, labels, len(classes), rng) | {"class_names": classes}


def _classes(folder: Folder) -> set[str]:
    counts = folder.labels.bincount(minlength=len(folder.classes))
    return {name for name, n in zip(folder.classes, counts) if n >= LEAST_OF_CLASS}


@question("Do the samples look real?")
def _looks_real(report: dict) -> Finding:
    synthetic, floor = report["quality"]["synthetic"], report["quality"]["floor"]
    ratio, detail = synthetic["fd"] / floor["fd"], synthetic["detail"]
    low, high = BARS["detail"]
    good = ratio <= BARS["fd"] and low <= detail <= high  # NaN is not good
    because = f"Frechet distance {ratio:.2f} times the floor, fine detail {detail:.2f} of real"
    return Finding(not good, because, f"up to {BARS['fd']:g}; {low} to {high}")


@question("Are they as varied as real ones?")
def _varied(report: dict) -> Finding:
    synthetic, floor = report["quality"]["synthetic"], report["quality"]["floor"]
    cover = synthetic["coverage"] / max(floor["coverage"], 1e-9)
    bar = BARS["coverage"]
    return Finding(not cover >= bar, f"coverage {cover:.2f} of the floor's", f"{bar} or more")


@question("Can they train a classifier?")
def _trains(report: dict) -> Finding | None:
    if not (found := report["utility"]):
        return None
    because = (f"balanced accuracy {found['synthetic']['value']:.2f}, from real images "
               f"{found['real']['value']:.2f}; lost: {shown(found['gap'])}")
    return Finding(not found["gap"]["value"] <= BARS["gap"], because, f"up to {BARS['gap']}")


@question("Do they help beside real ones?", bad="harm")
def _helps(report: dict) -> Finding | None:
    if not (found := report["utility"]):
        return None
    gain = found["gain"]
    good = "yes" if gain["low"] > 0 else "no gain"
    bar = "interval above 0 is yes, below 0 harm"
    return Finding(gain["high"] < 0, f"gained: {shown(gain)}", bar, good)
