"""What both embedded data sets are made with: hashes as random numbers, and tables of factors.

A table of factors maps each name to its law and the law's two parameters: "uniform" from a to b;
"normal" of mean a and standard deviation b, cut at 2.5 of them; "lognormal", the exponential of
that; "some", 0 but for a share a of the images, where it is uniform between a fifth of b and b.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

Table = Mapping[str, tuple[str, float, float]]


def int64(x: int) -> int:
    """The int64 with the last 64 bits of x, since torch has no unsigned arithmetic."""
    return (x + 2**63) % 2**64 - 2**63


_STEP = int64(0x9E3779B97F4A7C15)
_MIX1, _MIX2 = int64(0xBF58476D1CE4E5B9), int64(0x94D049BB133111EB)


def scramble(x: Tensor) -> Tensor:
    """Hash int64 counters.  SplitMix64 (Steele, Lea and Flood 2014), modulo 2^64."""
    x = x * _STEP
    x = (x ^ (x >> 30 & 2**34 - 1)) * _MIX1  # the mask makes the signed shift unsigned
    x = (x ^ (x >> 27 & 2**37 - 1)) * _MIX2
    return x ^ (x >> 31 & 2**33 - 1)


def uniform(keys: Tensor, count: int, first: int = 0) -> Tensor:
    """Columns first..first+count-1 of uniform numbers in (0, 1) for keys (n,) -> (n, count)."""
    bits = scramble(keys[:, None] + torch.arange(first + 1, first + count + 1)) >> 40 & 2**24 - 1
    return (bits + 0.5) / 2**24


def normal(u: Tensor) -> Tensor:
    """Standard normal numbers from uniform ones, by the inverse of the distribution function."""
    return math.sqrt(2) * torch.erfinv(2 * u - 1)


def sample_factors(table: Table, keys: Tensor) -> dict[str, Tensor]:
    """The factors of a table for keys (n,) -> {name: (n,) float32}."""
    factors = {}
    for u, (name, (law, a, b)) in zip(uniform(keys, len(table)).T, table.items(), strict=True):
        if law == "uniform":
            x = a + (b - a) * u
        elif law == "some":
            x = torch.where(u < a, b * (0.2 + 0.8 * u / a), 0)
        else:
            x = a + b * normal(u).clamp(-2.5, 2.5)
        factors[name] = (x.exp() if law == "lognormal" else x).float().contiguous()
    return factors


def check_factors(table: Table, factors: Mapping[str, Tensor], n: int, *, key: str) -> None:
    """Raise ValueError unless factors are the table's and int64 `key`, finite, possible, (n,)."""
    names = {*table, key}
    if names != set(factors):
        wrong = sorted(names ^ set(factors))
        raise ValueError(f"factors must be {sorted(names)}; wrong or missing: {wrong}")
    if wrong := {k: tuple(v.shape) for k, v in factors.items() if v.shape != (n,)}:
        raise ValueError(f"each factor must have shape ({n},), one value per image; got {wrong}")
    if factors[key].dtype != torch.int64:
        raise ValueError(f"factor {key!r} must be int64, a key, not {factors[key].dtype}")
    for name, column in factors.items():
        if not column.isfinite().all():
            raise ValueError(f"factor {name!r} has values that are not finite")
        if name != key and table[name][0] == "lognormal" and not (column > 0).all():
            raise ValueError(f"factor {name!r} must be positive")
