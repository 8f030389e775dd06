"""How well samples keep to the real ones, and how much of their variety they have."""

import math

import torch

from genmed_core import arguments
from genmed_core.metrics import checks


def _radii(x: torch.Tensor, k: int) -> torch.Tensor:
    """Distance from each point to its k-th nearest other: x (N, d) -> (N,)."""
    return torch.cdist(x, x).topk(k + 1, largest=False).values[:, -1]  # the nearest is itself


def precision_recall(real: torch.Tensor, fake: torch.Tensor, k: int = 3) -> tuple[float, float]:
    """Share of fakes inside the real manifold, and share of reals inside the fakes' manifold.

    real (N, d), fake (M, d) features, N near M -> (precision, recall). A set's manifold: balls
    around its points that reach to the k-th nearest neighbour.  Kynkaanniemi et al. 2019, eqs. 1
    and 2.
    """
    arguments.whole("k", k)
    real, fake = checks.feature_pair(real, fake, least=k + 1)
    apart = torch.cdist(real, fake)  # (N, M)
    precision = (apart <= _radii(real, k)[:, None]).any(0)
    recall = (apart <= _radii(fake, k)[None, :]).any(1)
    return precision.double().mean().item(), recall.double().mean().item()


def density_coverage(real: torch.Tensor, fake: torch.Tensor, k: int = 5) -> tuple[float, float]:
    """Real balls that a fake lies in, divided by k, on average; share of real balls with a fake.

    real (N, d), fake (M, d) features -> (density, coverage). Both use the real balls alone, so that
    a stray fake cannot enlarge anything. For sets of one source density is 1 and coverage 1 - 2^-k
    on average (N = M).  Naeem et al. 2020, eqs. 6 and 7.
    """
    arguments.whole("k", k)
    real, fake = checks.feature_pair(real, fake, least=k + 1)
    inside = torch.cdist(real, fake) <= _radii(real, k)[:, None]  # (N, M)
    density = inside.sum().item() / (k * len(fake))
    return density, inside.any(1).double().mean().item()


def class_shares(labels: torch.Tensor, *, classes: int = 10, share: float = 0.03) -> dict:
    """How samples spread over their classes.

    labels (N,) int64 -> {"shares": list of floats, "classes": how many have at least `share` of the
    samples, "entropy": bits, at most log2(classes)}.
    """
    if labels.ndim != 1 or not len(labels):
        raise ValueError(f"no samples to spread over the classes: labels {tuple(labels.shape)}")
    if not 0 <= labels.min() <= labels.max() < classes:
        raise ValueError(f"labels must lie in 0..{classes - 1}, or classes= must be larger")
    if not 0 < share <= 1:
        raise ValueError(f"share={share}: give a share of the samples, above 0 and at most 1")
    shares = torch.bincount(labels, minlength=classes).double() / len(labels)
    entropy = -torch.xlogy(shares, shares).sum().item() / math.log(2)
    reached = int((shares >= share).sum())
    return {"shares": shares.tolist(), "classes": reached, "entropy": max(0.0, entropy)}


def within_class_diversity(
    fake: torch.Tensor, fake_labels: torch.Tensor, real: torch.Tensor, real_labels: torch.Tensor
) -> float:
    """Variety inside the classes: 1 as much as the real set, 0 one prototype for each class.

    fake (M, d), real (N, d) features with labels (M,), (N,) int64 -> mean over the real classes of
    (mean distance over all pairs of fakes in the class) / (the same of reals). A class with fewer
    than two fakes has no variety and counts 0.
    """
    real, fake = checks.feature_pair(real, fake, least=2)
    checks.one_each("fake_labels", fake_labels, len(fake), "sample")
    checks.one_each("real_labels", real_labels, len(real), "sample")
    ratios = []
    for label in real_labels.unique().tolist():
        spread = _mean_distance(real[real_labels.cpu() == label])
        if spread > 0:
            ratios.append(_mean_distance(fake[fake_labels.cpu() == label]) / spread)
    if not ratios:
        raise ValueError("no class has two different real samples: no variety to compare with")
    return sum(ratios) / len(ratios)


def _mean_distance(x: torch.Tensor) -> float:
    """Over all pairs of x (N, d); 0 where there is none."""
    return torch.pdist(x).mean().item() if len(x) > 1 else 0.0
