"""Usefulness of samples: what a small convolutional network learns from them for real images.

Networks are trained on n synthetic and n real images, on all real ones, on up to ten n synthetic
ones, and on n of each, and read the held-out images. Each takes as many steps, whatever its set.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from scipy.stats import t
from torch import nn
from torch.nn import functional as F

from genmed_core.audit.folders import Folder
from genmed_core.audit.intervals import Interval, resampled
from genmed_core.audit.questions import BARS, Finding, beyond, question, short_of, shown
from genmed_core.audit.views import exposed, placed, random_pose

LEAST_OF_CLASS = 5  # images in every set
RUNS, STEPS, BATCH = 4, 250, 64
MOST = 2000  # images of the equally large sets
TRAINED_ON = {"real": "trained on {n} real", "synthetic": "... on {n} synthetic",
              "all_real": "... on all real", "ten_synthetic": "... on {ten} synthetic",
              "both": "... on {n} of each"}
Labelled = tuple[torch.Tensor, torch.Tensor]


def classifier(classes: int, width: int = 16) -> nn.Sequential:
    """Images (B, 1, 64, 64) -> logits (B, classes), four convolutions."""
    layers: list[nn.Module] = [nn.AvgPool2d(2)]
    channels = 1
    for out in (width, 2 * width, 4 * width, 4 * width):
        conv = nn.Conv2d(channels, out, 3, padding=1, stride=1 if channels == 1 else 2, bias=False)
        layers += [conv, nn.BatchNorm2d(out), nn.ReLU()]
        channels = out
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(),
                         nn.Linear(4 * channels, classes))


def learned(images: torch.Tensor, labels: torch.Tensor, test: torch.Tensor, classes: int, *,
            seed: int, steps: int = STEPS) -> torch.Tensor:
    """The classes (M,) that a network trained on images (N, 1, 64, 64) uint8 reads in `test`.

    Classes are drawn evenly; images are turned, zoomed and exposed a little, never mirrored.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = classifier(classes)
    optimizer = torch.optim.AdamW(net.parameters(), 3e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    weight = 1 / labels.bincount(minlength=classes).clamp(min=1).float()
    for _ in range(steps):
        rows = torch.multinomial(weight[labels], BATCH, replacement=True, generator=generator)
        pose = random_pose(BATCH, generator, turn=5, zoom=1.1, mirror=0)
        x = exposed(placed(images[rows].float() / 255, pose), generator, strength=0.3, noise=0.02)
        loss = F.cross_entropy(net(2 * x - 1), labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    net.eval()
    with torch.no_grad():
        return torch.cat([net(2 * (x.float() / 255) - 1).argmax(1) for x in test.split(500)])


def utility(real: Labelled, held: Labelled, fake: Labelled, classes: int, *, seed: int = 0,
            runs: int = RUNS, steps: int = STEPS) -> dict:
    """Balanced accuracy on held-out images of networks trained on each set, with intervals.

    Every run draws the sets anew and begins from other weights.
    """
    n = min(len(real[0]), len(fake[0]), MOST)
    ten = min(10 * n, len(fake[0]))
    right: dict[str, list[np.ndarray]] = {}
    for run in range(runs):
        rng = np.random.default_rng([seed, run])
        for name, (x, y) in _sets(real, fake, n, ten, rng).items():
            read = learned(x, y, held[0], classes, seed=seed + 1000 * run, steps=steps)
            right.setdefault(name, []).append((read == held[1]).numpy())
    rows = {name: np.array(runs, float) for name, runs in right.items()}
    rows["gap"] = rows["real"] - rows["synthetic"]
    rows["gain"] = rows["both"] - rows["real"]
    of_class = F.one_hot(held[1], classes).numpy().astype(float)
    rng = np.random.default_rng(seed)
    intervals = {name: over_runs(each, of_class, rng) for name, each in rows.items()}
    return {"n": n, "ten": ten, "classes": classes, "chance": 1 / classes,
            "runs": runs} | intervals


def _sets(real: Labelled, fake: Labelled, n: int, ten: int,
          rng: np.random.Generator) -> dict[str, Labelled]:
    """What is trained on; a set that would hardly differ from a smaller one is left out."""
    some, most = _drawn(real, n, rng), _drawn(fake, ten, rng)
    few = most[0][:n], most[1][:n]
    both = torch.cat([some[0], few[0]]), torch.cat([some[1], few[1]])
    sets = {"real": some, "synthetic": few, "both": both}
    if len(real[0]) > 1.2 * n:
        sets["all_real"] = real
    if ten > 1.2 * n:
        sets["ten_synthetic"] = most
    return sets


def _drawn(given: Labelled, n: int, rng: np.random.Generator) -> Labelled:
    rows = torch.from_numpy(rng.permutation(len(given[0]))[:n])
    return given[0][rows], given[1][rows]


def over_runs(values: np.ndarray, of_class: np.ndarray, rng: np.random.Generator) -> Interval:
    """Mean over classes of values (runs, M) of held-out images, with its 95 % interval.

    of_class (M, classes). The interval adds two doubts as independent ones: about the held-out
    images, by the bootstrap, and about weights and draws, by Student's t over the runs.
    """
    mean = _balanced(np.ones((1, len(of_class))), values.mean(0), of_class)[0]
    drawn = _balanced(resampled(len(of_class), rng), values.mean(0), of_class)
    runs = [_balanced(np.ones((1, len(of_class))), row, of_class)[0] for row in values]
    images = 1.96 * float(np.nanstd(drawn))
    seeds = math.inf
    if len(runs) > 1:
        seeds = float(t.ppf(0.975, len(runs) - 1) * np.std(runs, ddof=1) / len(runs) ** 0.5)
    wide = math.hypot(images, seeds)
    return {"value": float(mean), "low": float(mean - wide), "high": float(mean + wide)}


def _balanced(weights: np.ndarray, values: np.ndarray, of_class: np.ndarray) -> np.ndarray:
    """Mean over classes of the weighted means of values (M,): weights (R, M) -> (R,)."""
    with np.errstate(invalid="ignore"):  # a class that was not drawn
        return np.nanmean((weights @ (values[:, None] * of_class)) / (weights @ of_class), 1)


def usefulness(sets: Sequence[Folder], notes: list[str], *, seed: int = 0,
               effort: float = 1.0) -> dict | None:
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
    real, held, fake = (_of_classes(folder, classes) for folder in sets)
    steps = max(20, round(effort * STEPS))
    result = utility(real, held, fake, len(classes), seed=seed, steps=steps)
    return result | {"class_names": classes}


def _of_classes(folder: Folder, classes: list[str]) -> Labelled:
    index = [classes.index(c) if c in classes else -1 for c in folder.classes]
    label = torch.tensor(index)[folder.labels]
    return folder.images[label >= 0], label[label >= 0]


def _classes(folder: Folder) -> set[str]:
    counts = folder.labels.bincount(minlength=len(folder.classes))
    return {name for name, n in zip(folder.classes, counts) if n >= LEAST_OF_CLASS}


@question("Can they train a classifier?")
def _trains(report: dict) -> Finding | None:
    if not (found := report["utility"]):
        return None
    because = (f"balanced accuracy {found['synthetic']['value']:.2f}, from real images "
               f"{found['real']['value']:.2f}; lost: {shown(found['gap'])}")
    bad = beyond(found["gap"], BARS["gap"])
    return _if_real_ones_teach(found, Finding(bad, because, f"up to {BARS['gap']}"))


def _if_real_ones_teach(found: dict, finding: Finding) -> Finding:
    """The finding, or none where not even real images beat chance: then nothing could be lost."""
    if beyond(found["real"], found["chance"]):
        return finding
    because = f"{finding.because}; not even real images beat chance, {found['chance']:.2f}"
    return finding._replace(bad=None, because=because)


@question("Do they help beside real ones?", bad="harm")
def _helps(report: dict) -> Finding | None:
    if not (found := report["utility"]):
        return None
    finding = Finding(short_of(found["gain"], 0), f"gained: {shown(found['gain'])}", "above 0")
    return _if_real_ones_teach(found, finding)
