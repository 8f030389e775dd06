"""Shares, areas and ratios with their 95 % intervals, by the bootstrap or exactly."""

from collections.abc import Callable

import numpy as np
from scipy.stats import binomtest, mannwhitneyu

RESAMPLES = 1000  # of every bootstrap

Interval = dict[str, float]


def interval(values: np.ndarray) -> Interval:
    """A statistic and its bootstrap, in one array -> value and 95 % interval."""
    low, high = np.nanquantile(values[1:], [0.025, 0.975])
    return {"value": float(values[0]), "low": float(low), "high": float(high)}


def resampled(n: int, rng: np.random.Generator) -> np.ndarray:
    """How often each of n is drawn, one bootstrap a row: (1 + RESAMPLES, n), the first all 1."""
    return np.vstack([np.ones(n), rng.multinomial(n, [1 / n] * n, RESAMPLES)])


def bootstrap(statistic: Callable, samples: tuple, rng: np.random.Generator) -> Interval:
    """A statistic of several samples, over their last axis, each drawn anew -> interval."""
    drawn = [x[rng.integers(0, len(x), (RESAMPLES, len(x)))] for x in samples]
    return interval(np.append(statistic(*samples), statistic(*drawn)))


def auc(members: np.ndarray, others: np.ndarray, rng: np.random.Generator) -> Interval:
    """Probability that a member scores above a non-member; and the hits at 1 % false alarms."""
    def area(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        test = mannwhitneyu(x, y, axis=-1, method="asymptotic")
        return test.statistic / (x.shape[-1] * y.shape[-1])

    found = bootstrap(area, (members, others), rng)
    alarm = np.quantile(others, 0.99)
    return found | {"hits_at_1_percent": float((members > alarm).mean())}


def median_ratio(above: np.ndarray, below: np.ndarray, rng: np.random.Generator) -> Interval:
    """Ratio of two medians."""
    def ratio(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.median(x, axis=-1) / np.median(y, axis=-1).clip(1e-6)

    return bootstrap(ratio, (above, below), rng)


def equal_share(hits: np.ndarray, clusters: np.ndarray, odds: float,
                rng: np.random.Generator) -> Interval:
    """Share of hits as it would be with equal set sizes.

    hits (N,) bool; clusters (N,): the real image each sample is nearest to, resampled as a whole,
    since many samples near one image tell little; odds of a hit for an honest sample, by the sizes.
    """
    _, group = np.unique(clusters, return_inverse=True)
    total, hit = np.bincount(group), np.bincount(group, weights=hits)
    weights = resampled(len(total), rng)
    share = (weights @ hit) / (weights @ total)
    found = interval(_at_equal_sizes(share, odds))
    if share[0] in (0, 1):  # no bootstrap has both: what so many independent neighbours can say
        exact = binomtest(int(share[0]) * len(total), len(total)).proportion_ci()
        low, high = _at_equal_sizes(np.array(exact), odds).tolist()
        found |= {"low": low, "high": high}
    return found | {"neighbours": len(total)}


def _at_equal_sizes(share: np.ndarray, odds: float) -> np.ndarray:
    return share / (share + odds * (1 - share))


def close_share(distances: np.ndarray, clusters: np.ndarray, strangers: np.ndarray,
                rng: np.random.Generator, level: float = 0.05) -> Interval:
    """Share of samples as close to a reference as only `level` of the strangers are.

    distances, clusters (N,): of the samples to their nearest references; strangers (M,): distances
    of real images that the references do not include. Both are resampled, the samples by neighbour.
    """
    _, group = np.unique(clusters, return_inverse=True)
    weights = resampled(group.max() + 1, rng)[:, group]  # (1 + RESAMPLES, N)
    drawn = strangers[rng.integers(0, len(strangers), (RESAMPLES, len(strangers)))]
    bars = np.append(np.quantile(strangers, level), np.quantile(drawn, level, axis=1))
    close = distances[None] <= bars[:, None]
    return interval((weights * close).sum(1) / weights.sum(1))
