"""Fidelity and variety of samples, beside what training images score in their place.

Precision and recall are those of Kynkäänniemi et al. 2019, density and coverage those of Naeem et
al. 2020; authenticity, the third of Alaa et al. 2022, is asked among the attacks.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch

from genmed_core import metrics
from genmed_core.audit.features import fine_detail, log_detail
from genmed_core.audit.intervals import Interval, bootstrap
from genmed_core.audit.questions import BARS, Finding, beyond, question, short_of, shown, worst

MOST, HALVES = 2000, 40  # images of a set that are counted; halves of it that an interval takes
Tensors = Sequence[torch.Tensor]


def quality(real: torch.Tensor, held: torch.Tensor, fake: torch.Tensor, images: Tensors,
            rng: np.random.Generator, draws: int = 5) -> dict:
    """Fidelity and variety of fakes, and of training images in their place (the floor).

    real, held, fake: features (N, d); images: the three uint8 sets -> {"synthetic": measures,
    "floor": measures}. Both sides count as many images, drawn anew `draws` times: every distance
    depends on the numbers.
    """
    n, m = min(len(real), len(fake), MOST), min(len(held), MOST)
    held = held[rng.permutation(len(held))[:m]]
    detail = max(fine_detail(images[1]), 1e-9)
    result: dict = {"n": n, "reference_n": m}
    for name, features, pictures in (("synthetic", fake, images[2]), ("floor", real, images[0])):
        times = draws if len(features) > n else 1  # all of them are the same every time
        drawn = [features[rng.permutation(len(features))[:n]] for _ in range(times)]
        found = [metrics.measured(metrics.Comparison(some, held)) for some in drawn]
        result[name] = {key: float(np.mean([one[key] for one in found])) for key in found[0]}
        result[name]["detail"] = fine_detail(pictures) / detail
    return result


def quality_intervals(real: torch.Tensor, held: torch.Tensor, fake: torch.Tensor,
                      images: Tensors, rng: np.random.Generator) -> dict[str, Interval]:
    """Intervals of the Frechet distance and the coverage, over the floor's, and of fine detail.

    features and images as for `quality`. Distances of sets drawn with replacement are biased, for
    repeated images make a set narrower. So halves are drawn without, and the deviation of their
    ratios is that of the whole (the jackknife that deletes one half: Shao and Wu 1989), on a
    logarithmic scale. Fine detail, a geometric mean, has a bootstrap.
    """
    n, m = min(len(real), len(fake), MOST), min(len(held), MOST)
    real, fake = real[rng.permutation(len(real))[:n]], fake[rng.permutation(len(fake))[:n]]
    held = held[rng.permutation(len(held))[:m]]
    whole = _ratios(real, held, fake)
    drawn = [_ratios(*(x[rng.permutation(len(x))[:len(x) // 2]] for x in (real, held, fake)))
             for _ in range(HALVES)]
    found = {}
    for name, value in whole.items():
        wide = 1.96 * float(np.std(np.log([one[name] for one in drawn])))
        low, high = value * math.exp(-wide), value * math.exp(wide)
        found[name] = {"value": value, "low": low, "high": high}
    parts = tuple(log_detail(x).numpy() for x in (images[2], images[1]))
    ratio = bootstrap(lambda a, b: np.exp(a.mean(-1) - b.mean(-1)), parts, rng)
    return found | {"detail": ratio}


def _ratios(real: torch.Tensor, held: torch.Tensor, fake: torch.Tensor) -> dict[str, float]:
    """Frechet distance and coverage of fakes, each over that of training images."""
    two = [metrics.Comparison(x, held) for x in (fake, real)]
    fd, floor = (metrics.frechet_distance(held, x) for x in (fake, real))
    cover, usual = (max(one.balls[1], 1e-3) for one in two)
    return {"fd_ratio": max(fd, 1e-9) / max(floor, 1e-9), "coverage_ratio": cover / usual}


@question("Do the samples look real?")
def _looks_real(report: dict) -> Finding:
    found = report["quality"]["intervals"]
    low, high = BARS["detail"]
    because = (f"Frechet distance {shown(found['fd_ratio'])} times the floor, fine detail "
               f"{shown(found['detail'])} of real")
    bad = worst(beyond(found["fd_ratio"], BARS["fd"]), short_of(found["detail"], low),
                beyond(found["detail"], high))
    return Finding(bad, because, f"up to {BARS['fd']:g}; {low} to {high}")


@question("Are they as varied as real ones?")
def _varied(report: dict) -> Finding:
    found, bar = report["quality"]["intervals"]["coverage_ratio"], BARS["coverage"]
    return Finding(short_of(found, bar), f"coverage {shown(found)} of the floor's",
                   f"{bar} or more")
