"""A code of one number and data of two: posterior, q, the bound and its gap, all of them exact."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import traitlets

from genmed_core.widgets.panel import HERE, Panel, Slider

RADIUS, SIGMA = 2.0, 0.5  # the decoder's circle, and the noise about it
GRID = np.linspace(-8, 8, 3201)  # codes z; the prior has 1e-15 of its mass beyond
SLIDERS = (Slider("x₁", -3, 3, 0.05), Slider("x₂", -3, 3, 0.05),
           Slider("m, mean of q", -4, 4, 0.02), Slider("s, sd of q", 0.05, 2, 0.01))


class Terms(NamedTuple):
    """What chapter 2 calls them, in nats."""

    reconstruction: float  # E_q log p(x|z)
    price: float           # KL(q || p(z))
    elbo: float            # their difference, (2.4)
    gap: float             # KL(q || p(z|x)), (2.5), computed on its own
    log_p: float           # log p(x), (2.1)


def decode(z: np.ndarray) -> np.ndarray:
    """f(z) = 2 (sin z, cos z), the mean of p(x|z): codes (...) -> points (..., 2)."""
    return RADIUS * np.stack([np.sin(z), np.cos(z)], -1)


def log_normal(z: np.ndarray, mean: float = 0.0, sd: float = 1.0) -> np.ndarray:
    """log N(z; mean, sd^2)."""
    return -0.5 * ((z - mean) / sd) ** 2 - np.log(sd * np.sqrt(2 * np.pi))


def log_joint(x: tuple[float, float], z: np.ndarray = GRID) -> np.ndarray:
    """log p(x|z) + log p(z) at codes z, for a point x (2,)."""
    distance2 = ((np.asarray(x) - decode(z)) ** 2).sum(-1)
    return -0.5 * distance2 / SIGMA**2 - np.log(2 * np.pi * SIGMA**2) + log_normal(z)


def evidence(x: tuple[float, float]) -> float:
    """log p(x): the integral (2.1) as a sum over the grid, exact to ten digits."""
    log_p = log_joint(x)
    return float(log_p.max() + np.log(_integral(np.exp(log_p - log_p.max()))))


def posterior(x: tuple[float, float]) -> np.ndarray:
    """p(z|x) on GRID."""
    return np.exp(log_joint(x) - evidence(x))


def terms(x: tuple[float, float], m: float, s: float) -> Terms:
    """All terms of the bound for a point x and q(z) = N(m, s^2)."""
    mean_f = np.exp(-s**2 / 2) * decode(np.array(m))  # E_q f(z), for a sine and a cosine
    distance2 = np.dot(x, x) - 2 * np.dot(x, mean_f) + RADIUS**2
    reconstruction = -0.5 * distance2 / SIGMA**2 - np.log(2 * np.pi * SIGMA**2)
    price = 0.5 * (m**2 + s**2 - 1 - np.log(s**2))  # (2.6)
    z = m + s * np.linspace(-8, 8, 3201)
    log_q, log_p = log_normal(z, m, s), evidence(x)
    gap = np.trapezoid(np.exp(log_q) * (log_q - log_joint(x, z) + log_p), z)
    return Terms(*map(float, (reconstruction, price, reconstruction - price, gap, log_p)))


def best(x: tuple[float, float]) -> tuple[float, float]:
    """The q of the greatest bound among the sliders' places -> (m, s)."""
    m, s = (_places(slider) for slider in SLIDERS[2:])
    mean_f = np.exp(-s**2 / 2)[None, :, None] * decode(m)[:, None]  # (M, S, 2)
    elbo = mean_f @ np.asarray(x) / SIGMA**2 - 0.5 * (m[:, None] ** 2 + s**2 - np.log(s**2))
    i, j = np.unravel_index(elbo.argmax(), elbo.shape)
    return float(m[i]), float(s[j])


def _places(slider):
    """All numbers at which a slider can stand."""
    count = round((slider.high - slider.low) / slider.step) + 1
    return np.round(slider.low + slider.step * np.arange(count), 10)


def _integral(values):
    return np.trapezoid(values, GRID)


class Posterior(Panel):
    """A model small enough that nothing is hidden: p(z) = N(0, 1), p(x|z) = N(f(z), 0.5^2 I).

    f(z) = 2 (sin z, cos z).  x (2,): the point that is seen; m, s: q(z) = N(m, s^2).  The reader
    moves all four; `terms()` gives the numbers on the page.  ValueError beyond the sliders.
    """

    _esm = Panel._esm + "".join((HERE / name).read_text(encoding="utf-8")
                                for name in ("charts.js", "posterior.js"))
    _css = Panel._css + (HERE / "explorables.css").read_text(encoding="utf-8")
    view = traitlets.Unicode("posterior").tag(sync=True)

    def __init__(self, x: tuple[float, float] = (0.6, -1.6), m: float = 1.5, s: float = 0.7,
                 caption: str = "") -> None:
        values = _nearest(*x, m, s)
        super().__init__(sliders=list(SLIDERS), values=values, caption=caption)

    @property
    def x(self) -> tuple[float, float]:
        """The point that is seen."""
        return self.values[0], self.values[1]

    @property
    def q(self) -> tuple[float, float]:
        """Mean and standard deviation of q."""
        return self.values[2], self.values[3]

    def terms(self) -> Terms:
        """The numbers on the page, in nats."""
        return terms(self.x, *self.q)

    def show(self, x: tuple[float, float] | None = None, m: float | None = None,
             s: float | None = None) -> Terms:
        """Move the sliders, to the nearest step; returns the terms there."""
        asked = [*(self.x if x is None else x), m, s]
        self.values = _nearest(*[old if new is None else new
                                 for new, old in zip(asked, self.values, strict=True)])
        return self.terms()

    def describe(self) -> str:
        """The numbers in words."""
        t = self.terms()
        x1, x2, m, s = self.values
        return (f"x = ({x1:.2f}, {x2:.2f}), q = N({m:.2f}, {s:.2f}²): "
                f"log p(x) = {t.log_p:.2f}, ELBO {t.elbo:.2f}, gap {t.gap:.2f} nats")

    def pictures(self) -> list[np.ndarray]:
        """Posterior (grey) and q (black) over z from -4 to 4, for a notebook without a kernel."""
        height, width = 120, 320
        z = np.linspace(-4, 4, width)
        p = np.exp(log_joint(self.x, z) - evidence(self.x))
        q = np.exp(log_normal(z, *self.q))
        page = np.full((height, width), 255, np.uint8)
        tops = [((height - 6) * curve / max(p.max(), q.max())).astype(int) for curve in (p, q)]
        level = height - np.arange(height)[:, None]
        page[level <= tops[0]] = 190
        page[(level - tops[1] >= 0) & (level - tops[1] < 3)] = 0
        return [page]


def _nearest(*values):
    if len(values) != len(SLIDERS):
        raise ValueError(f"x must be two numbers, not {len(values) - 2}")
    for slider, value in zip(SLIDERS, values, strict=True):
        if not slider.low <= value <= slider.high:  # NaN is beyond, too
            raise ValueError(f"{slider.name} = {value} is beyond its slider: choose a number from "
                             f"{slider.low:g} to {slider.high:g}")
    return [slider.nearest(float(value)) for slider, value in zip(SLIDERS, values, strict=True)]
