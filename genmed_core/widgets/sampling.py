"""The sampler of the browser in torch, and its noise: twin of sampler.js.

The noise is made by counting, so that a seed means the same picture on every page and in every
language: number i of draw k of a seed is a hash of the three.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from genmed_core import diffusion
from genmed_core.widgets.compile import Program


def _mixed(x: np.ndarray) -> np.ndarray:
    """A hash of 32 bits, x uint32 -> uint32.  Wellons 2018, "lowbias32"."""
    x = x.copy()
    for shift, factor in ((16, 0x21F0AAAD), (15, 0xD35A2D97)):
        x ^= x >> np.uint32(shift)
        x *= np.uint32(factor)
    return x ^ (x >> np.uint32(15))


def noise(seed: int, draw: int, shape: Sequence[int]) -> Tensor:
    """Standard normal numbers: draw `draw` of a seed, float32 of the given shape.

    Uniform u = (hash + 1/2) / 2^32 at the counters 2i and 2i + 1, and Box and Muller's cosine.
    seed, draw: whole numbers from 0 to 2^32 - 1.  Twin of `noise` in sampler.js.
    """
    count = math.prod(shape)
    key = _mixed(_mixed(np.array([seed], np.uint32)) ^ np.uint32(draw))
    hashed = _mixed(_mixed(np.arange(2 * count, dtype=np.uint32)) ^ key)
    u = (hashed.astype(np.float64) + 0.5) / 2**32
    normal = np.sqrt(-2 * np.log(u[0::2])) * np.cos(2 * math.pi * u[1::2])
    return torch.from_numpy(normal.astype(np.float32)).view(*shape)


class Model(NamedTuple):
    """A denoiser that has been compiled, and what a sampler has to know of its training."""

    program: Program  # x, t, and y where it has labels -> what it predicts
    prior: Program | None  # standard normal x, and y -> x_T; None: prior_std times x
    schedule: diffusion.Schedule
    predicts: str = "eps"
    clip: tuple[float, float] | None = None
    null: int | None = None  # the label that stands for "no label"

    def __call__(self, x: Tensor, t: Tensor, y: Tensor | None) -> Tensor:
        return _called(self.program, x, t, y)

    def x_T(self, seed: int, y: int | None, pure: bool = False) -> Tensor:
        """What a seed begins with, (1, C, H, W); pure: noise, even where there is a prior."""
        eps = noise(seed, 0, self.program.shape(next(iter(self.program.graph["inputs"]))))
        if self.prior is None or pure:
            return self.schedule.prior_std * eps
        return _called(self.prior, eps, None if y is None else torch.tensor([y]))


def _called(program: Program, *inputs: Tensor | None) -> Tensor:
    """The first output for inputs in their order, without those that are None."""
    given = [x for x in inputs if x is not None]
    return program.run(**dict(zip(program.graph["inputs"], given, strict=True)))[0]


class Known(NamedTuple):
    """A picture that is given, (1, C, H, W) in the range of the data.

    start: the step to which it is noised, and from which it is drawn anew, or None for pure noise.
    keep (1, 1, H, W): 1 where it is put back at each step, noised as x_t is, 0 where it is filled
    in; None where nothing is.  Song et al. 2021 (score-based), sec. 4 (imputation).
    """

    x0: Tensor
    start: int | None = None
    keep: Tensor | None = None


@torch.no_grad()
def sample(model: Model, y: int | None = None, *, seed: int = 0, steps: int = 25, eta: float = 0.0,
           guidance: float = 1.0, window: tuple[int, int] | None = None, order: int = 1,
           known: Known | None = None, pure: bool = False, subtract: bool = False,
           callback: Callable[[int, Tensor, Tensor], object] | None = None) -> Tensor:
    """One picture (1, C, H, W), drawn as the browser draws it, from the seed's noise.

    steps, eta: as in diffusion.sample.  guidance: as in diffusion.guided, at steps t from window[0]
    to below window[1]; 1 elsewhere.  order 2: each stride takes the guess to its middle, from the
    guess before (DPM-Solver++, Lu et al. 2022), for eta = 0.  pure: begin with noise, even
    where the model has a prior.  subtract: see `_subtracted`.  callback(t, x_t, x0_hat) before
    every step.  The seed's draw 0 is the noise to begin with; draw k + 1 is added by step k, and
    draw k + 1001 noises what is kept.  Twin of `sample` in sampler.js.
    """
    x_t = x0_hat = torch.empty(0)
    for t, x_t, x0_hat in steps_down(model, y, seed=seed, steps=steps, eta=eta, guidance=guidance,
                                     window=window, order=order, known=known, pure=pure,
                                     subtract=subtract):
        if callback is not None:
            callback(t, x_t, x0_hat)
    x0 = _subtracted(x0_hat, x_t, 0, -1, model.schedule) if subtract else x0_hat
    return x0 if known is None or known.keep is None else _kept(known, x0)


def steps_down(model: Model, y: int | None, *, seed: int, steps: int, eta: float, guidance: float,
               window: tuple[int, int] | None, order: int, known: Known | None, pure: bool,
               subtract: bool) -> Iterator[tuple[int, Tensor, Tensor]]:
    """t, x_t and x0_hat at each step, from noise down to the picture."""
    schedule, x = model.schedule, model.x_T(seed, y, pure)
    start = known.start if known is not None else None
    last = schedule.T - 1 if start is None else start
    times = diffusion.spaced_timesteps(last + 1, min(steps, last + 1)).tolist()
    if known is not None and start is not None:
        x = diffusion.q_sample(known.x0, start, noise(seed, 0, x.shape), schedule)
    before = None
    for k, (t, t_prev) in enumerate(zip(times, [*times[1:], -1])):
        x = _with_known(x, t, k, known, seed, schedule)
        low, high = window or (0, schedule.T)
        strength = guidance if low <= t < high else 1.0
        at = torch.tensor([t])
        label = None if y is None else torch.tensor([y])
        output = diffusion.guided(model, x, at, label, None if strength == 1 else strength,
                                  model.null)
        x0_hat, _ = diffusion.predict(output, x, at, schedule, predicts=model.predicts,
                                      clip=model.clip)
        yield t, x, x0_hat
        guess = _extrapolated(x0_hat, before, t, t_prev, schedule) if order == 2 else x0_hat
        before = t, x0_hat
        x = (_subtracted(x0_hat, x, t, t_prev, schedule) if subtract else
             _stride(guess, x, at, t_prev, schedule, eta, noise(seed, k + 1, x.shape)))


def _stride(x0_hat: Tensor, x: Tensor, t: Tensor, t_prev: int, schedule: diffusion.Schedule,
            eta: float, fresh: Tensor) -> Tensor:
    """DDIM's step.  Song et al. 2021, eqs 12 and 16."""
    _, _, bar, v = (value.item() for value in schedule.at(t))
    _, _, bar_prev, v_prev = (value.item() for value in schedule.at(torch.tensor([t_prev])))
    eps_hat = (x - math.sqrt(bar) * x0_hat) / math.sqrt(v)
    var = eta**2 * v_prev * (v - bar / bar_prev * v_prev) / v
    return (math.sqrt(bar_prev) * x0_hat + math.sqrt(max(0.0, v_prev - var)) * eps_hat
            + math.sqrt(var) * fresh)


def _subtracted(x0_hat: Tensor, x: Tensor, t: int, t_prev: int,
                schedule: diffusion.Schedule) -> Tensor:
    """The textbook's step: take the noise's direction away, at one step's length for each step.

    Chapter 7, figure 7.4, "printed".
    """
    bar = schedule.at(torch.tensor([t]))[2].item()
    direction = (x - math.sqrt(bar) * x0_hat).flatten()
    u = torch.nn.functional.layer_norm(direction, direction.shape).view_as(x)
    return x - (t - t_prev) * schedule.prior_std / math.sqrt(schedule.T) * u


def _extrapolated(x0_hat: Tensor, before: tuple[int, Tensor] | None, t: int, t_prev: int,
                  schedule: diffusion.Schedule) -> Tensor:
    """The guess in the middle of the coming stride.  Chapter 9, (9.4)."""
    if before is None or t_prev <= 0:
        return x0_hat
    r, x0_before = before
    snr = [0.5 * math.log(schedule.at(torch.tensor([s]))[2] / schedule.at(torch.tensor([s]))[3])
           for s in (t_prev, t, r)]
    return x0_hat + (snr[0] - snr[1]) / (2 * (snr[1] - snr[2])) * (x0_hat - x0_before)


def _with_known(x: Tensor, t: int, k: int, known: Known | None, seed: int,
                schedule: diffusion.Schedule) -> Tensor:
    """x_t with what is kept put back, noised to the same step."""
    if known is None or known.keep is None:
        return x
    noised = diffusion.q_sample(known.x0, t, noise(seed, k + 1001, x.shape), schedule)
    return known.keep * noised + (1 - known.keep) * x


def _kept(known: Known, x0_hat: Tensor) -> Tensor:
    assert known.keep is not None
    return known.keep * known.x0 + (1 - known.keep) * x0_hat
