"""Heaps of earth on a line: the cheapest plan, its cost, and the bound that f certifies."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import traitlets

from genmed_core.widgets.panel import HERE, Panel

PLACES, MOST = 8, 6  # places 0 to 7 on the line; barrows in the largest heap


def shares(barrows: Sequence[int]) -> np.ndarray:
    """Heaps in barrows (8,) -> how much of all the earth lies in each, (8,)."""
    return np.asarray(barrows) / sum(barrows)


def plan(heaps: Sequence[int], holes: Sequence[int]) -> list[tuple[int, int, float]]:
    """The cheapest plan on a line, smallest to smallest: (from, to, share of the earth) a load.

    heaps, holes (8,) in barrows, of whatever volume: both count as 1.  Equation (6.4).
    """
    supply, demand = ([n * sum(other) for n in one]  # in whole numbers of one size
                      for one, other in ((heaps, holes), (holes, heaps)))
    loads, i, j, volume = [], 0, 0, sum(supply)
    while i < PLACES and j < PLACES:
        load = min(supply[i], demand[j])
        if load:
            loads.append((i, j, load / volume))
        supply[i] -= load
        demand[j] -= load
        i, j = (i + 1, j) if supply[i] == 0 else (i, j + 1)
    return loads


def cost(loads: Sequence[tuple[int, int, float]]) -> float:
    """The work of a plan: share of the earth times the way, summed."""
    return sum(load * abs(i - j) for i, j, load in loads)


def passing(heaps: Sequence[int], holes: Sequence[int]) -> np.ndarray:
    """F_q - F_p between one place and the next, (7,): what passes there, to the right if < 0."""
    return (np.cumsum(shares(holes)) - np.cumsum(shares(heaps)))[:-1]


def best_slopes(heaps: Sequence[int], holes: Sequence[int]) -> list[float]:
    """The slopes of the best f between the places, (7,): equation (6.7)."""
    over = passing(heaps, holes)
    return np.where(abs(over) < 1e-9, 0.0, np.sign(over)).tolist()


def gain(heaps: Sequence[int], holes: Sequence[int], slopes: Sequence[float]) -> float:
    """E_p f - E_q f for an f of these slopes: at most W where none exceeds 1, (6.5)."""
    f = np.concatenate([[0.0], np.cumsum(slopes)])
    return float((shares(heaps) - shares(holes)) @ f)


class Earth(Panel):
    """Heaps and holes on a line that the reader drags, and an f of slope 1 at most, tilted by hand.

    heaps, holes (8,): whole barrows, 0 to 6, in each place; each side counts as one volume.
    slopes (7,): of f between the places, -1 to 1.  ValueError on anything else.
    """

    _esm = Panel._esm + "".join((HERE / name).read_text(encoding="utf-8")
                                for name in ("charts.js", "earth.js"))
    _css = Panel._css + (HERE / "explorables.css").read_text(encoding="utf-8")
    PLACE = ("heaps", "holes", "slopes")
    view = traitlets.Unicode("earth").tag(sync=True)
    heaps = traitlets.List().tag(sync=True)
    holes = traitlets.List().tag(sync=True)
    slopes = traitlets.List().tag(sync=True)

    def __init__(self, heaps: Sequence[int] = (3, 5, 2, 0, 0, 1, 0, 0),
                 holes: Sequence[int] = (0, 1, 0, 2, 0, 3, 4, 0),
                 slopes: Sequence[float] = (0.0,) * (PLACES - 1), caption: str = "") -> None:
        state = {"heaps": _barrows("heaps", heaps), "holes": _barrows("holes", holes),
                 "slopes": _slopes(slopes)}
        super().__init__(**state, caption=caption)

    def plan(self) -> list[tuple[int, int, float]]:
        """The cheapest plan: (from, to, share of the earth) a load."""
        return plan(self.heaps, self.holes)

    def cost(self) -> float:
        """W(p, q), the work of the cheapest plan."""
        return cost(self.plan())

    def bound(self) -> float:
        """E_p f - E_q f: what the slopes shown certify, W is at least so large."""
        return gain(self.heaps, self.holes, self.slopes)

    def best(self) -> list[float]:
        """Take the best f; returns its slopes."""
        self.slopes = best_slopes(self.heaps, self.holes)
        return self.slopes

    def describe(self) -> str:
        """Heaps, holes and both numbers in words."""
        return (f"heaps {self.heaps}, holes {self.holes}: the cheapest plan costs "
                f"{self.cost():.3f}, f certifies {self.bound():.3f}")

    def pictures(self) -> list[np.ndarray]:
        """Heaps rising, holes below them, for a notebook without a kernel."""
        unit, width = 14, 34
        page = np.full((2 * MOST * unit + 6, PLACES * width), 255, np.uint8)
        middle = MOST * unit
        for k, (heap, hole) in enumerate(zip(self.heaps, self.holes, strict=True)):
            column = page[:, k * width + 3:(k + 1) * width - 3]
            column[middle - heap * unit:middle] = 110
            column[middle + 6:middle + 6 + hole * unit] = 190
        page[middle:middle + 6] = 0
        return [page]


def _barrows(name, values):
    values = list(values)
    whole = all(isinstance(v, (int, np.integer)) and 0 <= v <= MOST for v in values)
    if len(values) != PLACES or not whole or sum(values) == 0:
        raise ValueError(f"{name} must be {PLACES} whole numbers from 0 to {MOST}, not all of them "
                         f"0, not {values}")
    return [int(v) for v in values]


def _slopes(values):
    values = [float(v) for v in values]
    if len(values) != PLACES - 1 or not all(abs(v) <= 1 for v in values):
        raise ValueError(f"slopes must be {PLACES - 1} numbers from -1 to 1, not {values}: divide "
                         "them by the steepest, and f certifies its gain divided by it")
    return values
