"""Are samples nearer to training images than to held-out ones, more often than chance has it?"""

import math

import numpy as np
import torch
from scipy.stats import fisher_exact

from genmed_core.audit.attacks import Neighbours, attack, search
from genmed_core.audit.intervals import equal_share, median_ratio
from genmed_core.audit.questions import ALPHA, BARS, Finding, beyond, question, shown, worst

CLOSEST = (0.02, 0.05, 0.1)  # shares of the samples among which a few copies are looked for


@attack(ratio_train="distance to train / held-out's", closer="closer to train (honest 0.5)",
        ratio_held_out="distance to held-out / train's")
def closer(neighbours: Neighbours) -> dict:
    """Shares nearest to each real set, as with equal set sizes, and ratios of distances."""
    sets, rng = neighbours.sets, neighbours.rng
    n, m = len(sets["train"]), len(sets["held-out"])
    _, nearest = neighbours.nearest("synthetic", "real")
    _, of_held = neighbours.nearest_other("held-out")
    to_train, _ = neighbours.nearest("synthetic", "train")
    to_held, _ = neighbours.nearest("synthetic", "held-out")
    held_to_train, _ = neighbours.nearest("held-out", "train")
    train_to_held, _ = neighbours.nearest("some", "held-out")
    return {
        "closer": equal_share(nearest < n, nearest, n / m, rng),
        "control": equal_share(of_held >= n, of_held, (m - 1) / n, rng),
        "ratio_train": median_ratio(to_train, held_to_train, rng),
        "ratio_held_out": median_ratio(to_held, train_to_held, rng),
        "among_closest": among_closest(_strangeness(neighbours), nearest, n, m)}


def _strangeness(neighbours: Neighbours) -> np.ndarray:
    """Distance to the nearest real image, over that image's own, for some are close to many."""
    distance, index = neighbours.nearest("synthetic", "real")
    numbers, where = np.unique(index, return_inverse=True)
    met = torch.from_numpy(numbers)
    real = neighbours.sets["real"]
    usual, _ = search(real[met], real, own=met)
    return distance / usual[where].clip(1e-4)


def among_closest(closeness: np.ndarray, neighbours: np.ndarray, n: int, m: int) -> list[dict]:
    """Have the closest samples training images for neighbours more often than by chance?

    closeness, neighbours (N,): small is close; the nearest of n training and then m held-out
    images. A few copies hardly move a share of all, but they are the closest ones. "chance" of so
    many is exact: which real images were trained on is of no consequence to an honest generator,
    however blurred. Every neighbour counts once, however many samples it has.  Fisher 1935.
    """
    order, found = closeness.argsort(), []
    for share in CLOSEST:
        near = np.unique(neighbours[order[:math.ceil(share * len(order))]])
        k, hits = len(near), int((near < n).sum())
        held = k - hits
        counts = np.array([[hits, n - hits], [held, m - held]])
        test = fisher_exact(counts, alternative="greater")
        found.append({"share": share, "neighbours": k, "train": hits, "expected": k * n / (n + m),
                      "chance": float(test.pvalue)})
    return found


@question("Are they closer to training images?", good="no", bad="yes")
def _closer(report: dict) -> Finding:
    found, ratio = report["privacy"]["closer"], report["privacy"]["ratio_train"]
    least = min(report["privacy"]["among_closest"], key=lambda one: one["chance"])
    because = (f"share {shown(found)}, honest 0.5; distance ratio {shown(ratio)}; closest "
               f"{least['share']:.0%}: {least['train']} of {least['neighbours']} beside training "
               f"images, by chance {least['expected']:.0f}")
    bad = worst(beyond(found, BARS["closer"]), least["chance"] < ALPHA / len(CLOSEST))
    return Finding(bad, because, f"above {BARS['closer']} is")
