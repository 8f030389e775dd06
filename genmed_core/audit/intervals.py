"""Shares, areas and ratios with their 95 % intervals, by the bootstrap or exactly."""

from collections.abc import Callable

import numpy as np
from scipy.stats import binomtest, logistic, mannwhitneyu, norm

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


def auc(members: np.ndarray, others: np.ndarray, rng: np.random.Generator) -> dict:
    """Probability that a member scores above a non-member, and the hits at few false alarms.

    -> an interval, with "hits_at_1_percent" and "hits_at_0.1_percent", which are intervals too: the
    share of members above all but that share of the others.  Carlini et al. 2022.
    """
    def area(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        test = mannwhitneyu(x, y, axis=-1, method="asymptotic")
        return test.statistic / (x.shape[-1] * y.shape[-1])

    return bootstrap(area, (members, others), rng) | {
        "hits_at_1_percent": hits(members, others, 0.01, rng),
        "hits_at_0.1_percent": hits(members, others, 0.001, rng)}


def hits(members: np.ndarray, others: np.ndarray, alarms: float,
         rng: np.random.Generator) -> dict:
    """Share of members that score above all but a share `alarms` of the others.

    "alarms": the share that so many others can show, at best one in m + 1. The interval holds the
    chance in both sets: members are drawn anew, and the bar's level is that of a random order
    statistic.  David and Nagaraja 2003, sec. 2.3.
    """
    m = len(others)
    above = max(1, int(alarms * (m + 1)))  # the bar is the `above`-th highest of the others
    value = (members > np.sort(others)[m - above]).mean()
    level = rng.beta(above, m + 1 - above, RESAMPLES)
    bars = np.quantile(others, 1 - level, method="median_unbiased")
    drawn = members[rng.integers(0, len(members), (RESAMPLES, len(members)))]
    found = interval(np.append(value, (drawn > bars[:, None]).mean(1)))
    exact = share(round(value * len(members)), len(members))
    return {"value": found["value"], "low": min(found["low"], exact["low"]),
            "high": max(found["high"], exact["high"]), "alarms": above / (m + 1)}


def share(hit: int, n: int) -> Interval:
    """A share with its exact interval.  Clopper and Pearson 1934."""
    exact = binomtest(hit, n).proportion_ci()
    return {"value": hit / n, "low": float(exact.low), "high": float(exact.high)}


def tail_bar(honest: np.ndarray, draws: int, alpha: float, *, heavy: bool = False) -> float:
    """The bar that the highest of so many honest draws passes with probability alpha.

    honest (m,): scores whose upper half is taken for that of a normal law, or of the logistic one
    where tails are heavy. Its deviation is that
    between median and upper quartile, and two standard errors more, 1.8 / sqrt(m) of it each:
    where one in four honest images has its own patient among the others, that does not lift the bar
    over all copies.
    """
    median, upper = np.quantile(honest, [0.5, 0.75])
    law = logistic if heavy else norm
    scale = max(float(upper - median), 1e-9) / law.ppf(0.75) * (1 + 3.6 / len(honest) ** 0.5)
    return float(median + scale * law.isf(alpha / draws))


def binned(bins: int = 24, **scores: np.ndarray) -> dict[str, list]:
    """Histograms of several scores over the same edges, as lists."""
    edges = np.histogram_bin_edges(np.concatenate(list(scores.values())), bins)
    counts = {name: np.histogram(x, edges)[0].tolist() for name, x in scores.items()}
    return {"edges": edges.tolist()} | counts


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


def excess_share(first: tuple[np.ndarray, np.ndarray], second: np.ndarray,
                 strangers: tuple[np.ndarray, np.ndarray],
                 rng: np.random.Generator) -> dict[str, Interval]:
    """Shares of samples as close to each of two sets as only one in twenty strangers is.

    first: distances (N,) to the nearest of one set, and which that is, resampled by it as a whole;
    second: distances (N,) to the other; strangers: distances of real images to the set that they do
    not belong to, resampled too. -> "first", "second" and their difference, "excess".
    """
    distance, cluster = first
    _, group = np.unique(cluster, return_inverse=True)
    weights = resampled(group.max() + 1, rng)[:, group]  # (1 + RESAMPLES, N)
    total = weights.sum(1)
    shares = []
    for near, others in zip((distance, second), strangers):
        drawn = others[rng.integers(0, len(others), (RESAMPLES, len(others)))]
        bars = np.append(np.quantile(others, 0.05), np.quantile(drawn, 0.05, axis=1))
        close = near[None] <= bars[:, None]
        shares.append((weights * close).sum(1) / total)
    return {"first": interval(shares[0]), "second": interval(shares[1]),
            "excess": interval(shares[0] - shares[1])}
