"""Are there copies of training images among the samples, be they few?"""

import math

import numpy as np
import torch
from scipy.stats import binomtest, fisher_exact

from genmed_core.audit.attacks import Neighbours, attack, search
from genmed_core.audit.intervals import close_share
from genmed_core.audit.questions import ALPHA, BARS, Finding, above, question, shown

CLOSEST = (0.02, 0.05, 0.1)  # shares of the samples among which a few copies are looked for


@attack()
def copies(neighbours: Neighbours) -> dict:
    """Samples nearly the same as a training image, very close ones, and the closest of all."""
    n, m = len(neighbours.sets["train"]), len(neighbours.sets["held-out"])
    distance, train = neighbours.nearest("synthetic", "train")
    to_held = neighbours.nearest("synthetic", "held-out")
    strangers, _ = neighbours.nearest("held-out", "train")
    train_to_held, _ = neighbours.nearest("some", "held-out")
    _, index = neighbours.nearest("synthetic", "real")
    near = 0.5 * float(np.quantile(strangers, 0.01))
    first = distance.argsort(kind="stable")[:max(10, (distance < near).sum())].tolist()
    closest = [{"synthetic": i, "train": int(train[i]), "distance": float(distance[i]),
                "nearly_the_same": bool(distance[i] < near)} for i in first]
    return {
        "copies": close_share(distance, train, strangers, neighbours.rng),
        "close_to_held_out": close_share(*to_held, train_to_held, neighbours.rng),
        "among_closest": among_closest(_strangeness(neighbours), index, n, m),
        "near": near, "near_synthetic": int((distance < near).sum()),
        "near_held_out": int((strangers < near).sum()), "closest": closest}


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


@question("Are there copies of training images?", good="no", bad="yes")
def _copies(report: dict) -> Finding:
    found, counts = report["privacy"], report["counts"]
    near, m = found["near_synthetic"], counts["synthetic"]
    by_chance = (found["near_held_out"] + 1) / (counts["held-out"] + 1)
    many = binomtest(near, m, by_chance, alternative="greater").pvalue < ALPHA
    least = min(found["among_closest"], key=lambda one: one["chance"])
    few = least["chance"] < ALPHA / len(CLOSEST)
    # what is blurred is close to everything alike
    bar = max(BARS["copies"], found["close_to_held_out"]["high"])
    bad = True if many or few else above(found["copies"], bar, 0.25)
    because = (f"{near} of {m} nearly the same; closest {least['share']:.0%}: {least['train']} of "
               f"{least['neighbours']} beside training images, by chance {least['expected']:.0f}; "
               f"very close {shown(found['copies'])}")
    return Finding(bad, because, f"above {bar:.2f} are")
