"""Gaussian diffusion: schedules, forward process, posterior, samplers and the variational bound.

One family holds all schedules:

    q(x_t | x_{t-1}) = N(sqrt(alpha_t) x_{t-1}, beta_t I)     one step
    q(x_t | x_0)     = N(sqrt(alpha_bar_t) x_0, v_t I)        all steps at once; v_t is `noise_var`

with alpha_bar_t the product of the alphas and v_t = alpha_t v_{t-1} + beta_t. DDPM's schedules
have alpha = 1 - beta, so v = 1 - alpha_bar; the book's simple diffusion has alpha = 1.

Steps count from 0: t = 0..T-1 here is t = 1..T in the papers, and t = -1 is the clean image. t is
int64 (B,), one step per image; a plain int stands for the same step in the whole batch. Images are
float (B, C, H, W), and any other (B, ...) will do. A network is called as `model(x_t, t, y)`.

A step never waits for the device, so a CUDA graph can hold it: on a GPU, t is not checked.
"""

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from numbers import Integral
from typing import Any

import torch
from torch import Tensor, nn

from genmed_core import arguments, runtime
from genmed_core.arguments import Range
from genmed_core.kernels import cuda_graphs

PREDICTS = ("eps", "x0", "v")
VARIANCES = ("posterior", "beta")
Model = Callable[[Tensor, Tensor, Tensor | None], Tensor]
Steps = Tensor | int  # int64 (B,), or one step for the whole batch
Device = torch.device | str


# --- schedules ------------------------------------------------------------------------------------


class Schedule:
    """How much noise each of T steps adds: `linear`, `cosine`, `simple`, or from betas of your own.

    beta, alpha, alpha_bar, noise_var: float32 tensors (T,). beta is the variance of the noise that
    a step adds, alpha the square of the factor by which it shrinks the image (1 - beta when not
    given), alpha_bar the product of the alphas so far, noise_var the variance of all noise in x_t.
    prior_std is the standard deviation of the noise that sampling starts from. Steps use float64.
    """

    def __init__(self, beta: Tensor | Sequence[float],
                 alpha: Tensor | Sequence[float] | None = None, *, prior_std: float = 1.0):
        shrinks_by_beta = alpha is None
        beta = torch.as_tensor(beta, dtype=torch.float64)
        alpha = 1 - beta if alpha is None else torch.as_tensor(alpha, dtype=torch.float64)
        _check_betas(beta, alpha)
        arguments.number("prior_std", prior_std, positive=True)
        alpha_bar = alpha.cumprod(0)
        noise = [0.0]
        for a, b in zip(alpha.tolist(), beta.tolist()):
            noise.append(a * noise[-1] + b)
        noise_var = beta.new_tensor(noise[1:])
        steps = torch.stack([beta, alpha, alpha_bar, noise_var], dim=1)  # (T, 4)
        clean = steps.new_tensor([[0.0, 1.0, 1.0, 0.0]])
        self._exact = torch.cat([clean, steps])  # (T + 1, 4): row t + 1 is step t, row 0 the image
        self.beta, self.alpha, self.alpha_bar, self.noise_var = steps.float().unbind(1)
        self.T = len(beta)
        self.prior_std = float(prior_std)
        if shrinks_by_beta:
            _note_what_is_left(beta, float(alpha_bar[-1]))

    @classmethod
    def linear(cls, T: int = 1000, beta_start: float = 1e-4, beta_end: float = 0.02) -> "Schedule":
        """Betas that rise in a straight line, meant for T = 1000.  Ho et al. 2020, sec. 4."""
        arguments.whole("T", T)
        return cls(torch.linspace(beta_start, beta_end, T, dtype=torch.float64))

    @classmethod
    def cosine(cls, T: int = 1000, s: float = 0.008) -> "Schedule":
        """alpha_bar falls as a squared cosine.  Nichol and Dhariwal 2021, eq. 17."""
        arguments.whole("T", T)
        arguments.number("s", s, 0, 1)
        time = torch.arange(T + 1, dtype=torch.float64) / T
        alpha_bar = torch.cos((time + s) / (1 + s) * math.pi / 2) ** 2
        return cls((1 - alpha_bar[1:] / alpha_bar[:-1]).clamp(max=0.999))

    @classmethod
    def simple(cls, T: int = 25, sigma: float = 0.3) -> "Schedule":
        """The book's simple diffusion: a step adds noise of deviation sigma and shrinks nothing.

        With the papers' t = 1..T, x_t = x_0 + N(0, t sigma^2). So beta = sigma^2 at every step, and
        alpha = alpha_bar = 1, since the image keeps its full size: 1 - alpha_bar, DDPM's variance
        of the noise, is 0, and noise_var = t sigma^2 replaces it. x_T is from N(0, T sigma^2).
        """
        arguments.whole("T", T)
        arguments.number("sigma", sigma, positive=True)
        beta = torch.full((T,), float(sigma) ** 2, dtype=torch.float64)
        return cls(beta, torch.ones_like(beta), prior_std=math.sqrt(T) * sigma)

    @property
    def device(self) -> torch.device:
        return self._exact.device

    def to(self, device: Device) -> "Schedule":
        """The same schedule with its tensors on `device`."""
        moved = copy.copy(self)
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                setattr(moved, name, value.to(device))
        return moved

    def at(self, t: Steps) -> tuple[Tensor, ...]:
        """beta, alpha, alpha_bar and noise_var at steps t (B,) in -1..T-1, each float64 (B,)."""
        return self._at(_steps(t, self, lowest=-1))

    def _at(self, t: Tensor) -> tuple[Tensor, ...]:
        return self._exact.index_select(0, t + 1).unbind(1)

    def __repr__(self) -> str:
        first, last = self.alpha_bar[0], self.alpha_bar[-1]
        return f"Schedule(T={self.T}, alpha_bar {first:.3g}..{last:.3g}, std {self.prior_std:.3g})"


def _check_betas(beta: Tensor, alpha: Tensor) -> None:
    if beta.ndim != 1 or len(beta) == 0 or alpha.shape != beta.shape:
        raise ValueError(f"beta {tuple(beta.shape)}, alpha {tuple(alpha.shape)}: give both as (T,)")
    possible = (beta > 0) & beta.isfinite() & (alpha > 0) & (alpha <= 1)
    if not possible.all():
        t = int(possible.logical_not().nonzero()[0])
        raise ValueError(f"beta={beta[t]:.4g} and alpha={alpha[t]:.4g} at step {t}: give betas "
                         "above 0, alphas above 0 and at most 1; without alphas, betas below 1")


def _note_what_is_left(beta: Tensor, left: float) -> None:
    """Say so where x_T still shows the image: sampling would start from what training never saw."""
    if left > 0.01:
        factor = math.ceil(-10 / math.log(left))  # takes alpha_bar below exp(-10), as in DDPM
        larger = f", or betas {factor} times as large" if factor * beta.max() < 1 else ""
        print(f"note: these {len(beta)} betas leave {100 * left:.0f} % of the image's variance in "
              f"x_T, but sampling starts from noise; use Schedule.cosine({len(beta)}){larger}.")


# --- forward process and posterior ----------------------------------------------------------------


def q_sample(x0: Tensor, t: Steps, eps: Tensor, schedule: Schedule) -> Tensor:
    """Noise x0 to step t in closed form.

    x0, eps (B, C, H, W); t (B,) int64 -> x_t (B, C, H, W).  Ho et al. 2020, eq. 4.
    """
    t = _checked(t, x0, schedule, eps=eps)
    _, _, alpha_bar, v = schedule._at(t)
    return _over(alpha_bar.sqrt(), x0) * x0 + _over(v.sqrt(), x0) * eps


def q_posterior(x0: Tensor, x_t: Tensor, t: Steps, schedule: Schedule) -> tuple[Tensor, Tensor]:
    """Mean and variance of q(x_{t-1} | x_t, x_0), by Bayes' rule; the variance is 0 at t = 0.

    x0, x_t (B, C, H, W); t (B,) -> mean (B, C, H, W), var (B, 1, 1, 1).  Ho et al. 2020, eqs 6-7.
    """
    t = _checked(t, x_t, schedule, x0=x0)
    beta, alpha, _, v = schedule._at(t)
    _, _, alpha_bar_prev, v_prev = schedule._at(t - 1)
    from_x0 = _over(alpha_bar_prev.sqrt() * beta / v, x0)
    from_x_t = _over(alpha.sqrt() * v_prev / v, x_t)
    mean = from_x0 * x0 + from_x_t * x_t
    return mean, _over(v_prev * beta / v, x_t)


# --- what the network predicts --------------------------------------------------------------------


def target(x0: Tensor, eps: Tensor, t: Steps, schedule: Schedule, *,
           predicts: str = "eps") -> Tensor:
    """What the network has to output for x_t = q_sample(x0, t, eps): eps, x0, or v.

    x0, eps (B, C, H, W); t (B,) int64 -> (B, C, H, W).
    v = sqrt(alpha_bar) eps - sqrt(1 - alpha_bar) x0.  Salimans and Ho 2022, sec. 4.
    """
    t = _checked(t, x0, schedule, eps=eps)
    arguments.choice("predicts", predicts, PREDICTS)
    if predicts == "eps":
        return eps
    if predicts == "x0":
        return x0
    _, _, alpha_bar, v = schedule._at(t)
    return _over(alpha_bar.sqrt(), x0) * eps - _over(v.sqrt(), x0) * x0


def predict(output: Tensor, x_t: Tensor, t: Steps, schedule: Schedule, *, predicts: str = "eps",
            clip: Range | None = None) -> tuple[Tensor, Tensor]:
    """Read the network's output as (x0_hat, eps_hat): the pair that makes up x_t.

    output, x_t (B, C, H, W); t (B,) int64. clip=(low, high) limits x0_hat to the range of the data,
    and eps_hat becomes the noise that goes with it. `target` of the pair gives back eps, x0 or v.
    Ho et al. 2020, eq. 15 (eps); Salimans and Ho 2022, sec. 4 and app. D (v).
    """
    t = _checked(t, x_t, schedule, output=output)
    arguments.choice("predicts", predicts, PREDICTS)
    _, _, alpha_bar, v = schedule._at(t)
    a, s = _over(alpha_bar.sqrt(), x_t), _over(v.sqrt(), x_t)  # x_t = a x0 + s eps
    if predicts == "eps":
        x0_hat, eps_hat = (x_t - s * output) / a, output
    elif predicts == "x0":
        x0_hat, eps_hat = output, (x_t - a * output) / s
    else:
        total = _over(alpha_bar + v, x_t)  # 1 for DDPM; makes v right for `simple` too
        x0_hat = (a * x_t - s * output) / total
        eps_hat = (s * x_t + a * output) / total
    if clip is not None:
        low, high = arguments.ordered("clip", clip)
        x0_hat = x0_hat.clamp(low, high)
        eps_hat = (x_t - a * x0_hat) / s
    return x0_hat, eps_hat


# --- reverse steps --------------------------------------------------------------------------------


def reverse_variance(t: Steps, schedule: Schedule, variance: str = "posterior") -> Tensor:
    """The fixed variance of p(x_{t-1} | x_t): the posterior's, or beta -> float64 (B,).

    The first is right for data that is a single point, the second for data that is white noise of
    unit variance.  Ho et al. 2020, sec. 3.2. At t = 0, where the posterior has none, it is the
    posterior's at t = 1, for the decoder of the bound, as in the code of Nichol and Dhariwal 2021.
    """
    t = _steps(t, schedule)
    arguments.choice("variance", variance, VARIANCES)
    t_var = t.clamp(min=min(1, schedule.T - 1))
    beta, _, _, v = schedule._at(t_var)
    _, _, _, v_prev = schedule._at(t_var - 1)
    posterior = v_prev * beta / v if schedule.T > 1 else beta
    return torch.where(t > 0, beta, posterior) if variance == "beta" else posterior


def ddpm_step(x_t: Tensor, t: Steps, eps_hat: Tensor, schedule: Schedule,
              noise: Tensor | None = None, *, variance: str = "posterior",
              clip: Range | None = None) -> Tensor:
    """One step of Algorithm 2, from x_t to x_{t-1}, given the network's guess of the noise in x_t.

    x_t, eps_hat, noise (B, C, H, W); t (B,) int64 -> (B, C, H, W). noise is standard normal, drawn
    here when None, and has no effect at t = 0. variance: see `reverse_variance`. clip=(low, high)
    limits the guess of x_0.  Ho et al. 2020, eqs 7, 11 and 15.
    """
    t = _checked(t, x_t, schedule, eps_hat=eps_hat, noise=noise)
    noise = torch.randn_like(x_t) if noise is None else noise
    x0_hat, _ = predict(eps_hat, x_t, t, schedule, clip=clip)
    mean, _ = q_posterior(x0_hat, x_t, t, schedule)
    var = reverse_variance(t, schedule, variance) * (t > 0)
    return mean + _over(var.sqrt(), x_t) * noise


def ddim_step(x_t: Tensor, t: Steps, t_prev: Tensor | int, eps_hat: Tensor, schedule: Schedule, *,
              eta: float = 0.0, noise: Tensor | None = None, clip: Range | None = None) -> Tensor:
    """Jump from x_t to x_{t_prev}, given the guess of the noise in x_t; t_prev = -1 is the image.

    x_t, eps_hat, noise (B, C, H, W); t, t_prev (B,) int64, t_prev < t -> (B, C, H, W). eta = 0 adds
    no noise; eta = 1 adds as much as DDPM's posterior, and with t_prev = t - 1 is the same step.
    noise is standard normal, drawn here when needed and None, and has no effect at t_prev = -1.
    clip=(low, high) limits the guess of x_0.  Song et al. 2021 (DDIM), eqs 12 and 16.
    """
    t = _checked(t, x_t, schedule, eps_hat=eps_hat, noise=noise)
    t_prev = _checked(t_prev, x_t, schedule, name="t_prev", lowest=-1)
    arguments.number("eta", eta, 0, 1)
    if runtime.readable(t) and bool((t_prev >= t).any()):
        raise ValueError("t_prev must be below t for every image")
    x0_hat, eps_hat = predict(eps_hat, x_t, t, schedule, clip=clip)
    return _ddim(x0_hat, eps_hat, t, t_prev, schedule, eta, noise)


def _ddim(x0_hat: Tensor, eps_hat: Tensor, t: Tensor, t_prev: Tensor, schedule: Schedule,
          eta: float, noise: Tensor | None) -> Tensor:
    """`ddim_step` from both guesses: eps alone loses digits of x0_hat where alpha_bar is tiny."""
    _, _, alpha_bar, v = schedule._at(t)
    _, _, alpha_bar_prev, v_prev = schedule._at(t_prev)
    jump = v - alpha_bar / alpha_bar_prev * v_prev  # the beta of a single step from t_prev to t
    var = eta**2 * v_prev * jump / v
    direction = (v_prev - var).clamp(min=0).sqrt()
    x = _over(alpha_bar_prev.sqrt(), x0_hat) * x0_hat + _over(direction, x0_hat) * eps_hat
    if eta == 0:
        return x
    noise = torch.randn_like(x) if noise is None else noise
    return x + _over(var.sqrt(), x) * noise


# --- sampling -------------------------------------------------------------------------------------


def spaced_timesteps(T: int, steps: int) -> Tensor:
    """`steps` of the T time steps, evenly spaced, from T-1 down to 0 -> int64 (steps,), on the CPU.

    A single step is T-1.  Song et al. 2021 (DDIM), sec. 4.2.
    """
    arguments.whole("T", T)
    arguments.whole("steps", steps, 1, T)
    if steps == 1:
        return torch.tensor([T - 1])
    gaps = steps - 1
    ends = torch.arange(gaps, -1, -1) * (T - 1)
    return (2 * ends + gaps) // (2 * gaps)  # rounded in whole numbers, so that none comes twice


def stratified_timesteps(B: int, T: int, *, spread: float | None = None,
                         device: Device | None = None,
                         generator: torch.Generator | None = None) -> Tensor:
    """Training steps for a batch, spread evenly over 0..T-1 -> int64 (B,).

    Each entry alone is uniform, as in Algorithm 1; together they cover the range, and the loss
    varies less between batches. A share of a batch has its own strata.  Kingma et al. 2021
    (variational diffusion models): the low-discrepancy sampler.
    spread: draw logit-normal steps instead, log(t / (T - t)) ~ N(0, spread^2), more of them in the
    middle the smaller it is.  Esser et al. 2024 (scaling rectified flow transformers), sec. 3.1.
    """
    arguments.whole("B", B)
    arguments.whole("T", T)
    if spread is not None:
        arguments.number("spread", spread, positive=True)
    offset = _draw((), device, generator, torch.rand, torch.float64)
    stratum = torch.arange(B, device=offset.device, dtype=torch.float64) / B
    position = (offset + stratum) % 1
    if spread is not None:
        normal = torch.special.ndtri(position)
        position = torch.sigmoid(spread * normal)  # 0 and 1 are limits: sigmoid(-inf) = 0
    return (position * T).long().clamp(max=T - 1)  # float64: a uniform position stays below T


def guided(model: Model, x_t: Tensor, t: Tensor, y: Tensor | None, guidance: float | None = None,
           null: int | None = None) -> Tensor:
    """Classifier-free guidance: output(null) + guidance * (output(y) - output(null)).

    guidance None or 1 is the plain conditional model, called once. null is the label that stands
    for "no label"; both outputs then come from one call on a doubled batch. When null is None, the
    model is called again with y = None. At a given x_t, eps, x0 and v are linear in one another:
    any can be mixed.  Ho and Salimans 2022, eq. 6, with guidance = 1 + w.
    """
    if null is not None and null != (known := getattr(model, "null", null)):
        raise ValueError(f"null={null}: this network's label for 'no label' is {known}")
    if guidance is None:
        return _output(model, x_t, t, y)
    arguments.number("guidance", guidance)
    if y is None:
        raise ValueError("guidance needs labels: pass y")
    if guidance == 1:
        return _output(model, x_t, t, y)
    if null is None:
        conditional = _output(model, x_t, t, y)
        unconditional = _output(model, x_t, t, None)
    else:
        y_both = torch.cat([y, torch.full_like(y, null)])
        both = _output(model, torch.cat([x_t, x_t]), torch.cat([t, t]), y_both)
        conditional, unconditional = both.chunk(2)
    return unconditional + guidance * (conditional - unconditional)


@torch.no_grad()
def sample(model: Model, shape: Sequence[int], schedule: Schedule, *, steps: int, eta: float = 0.0,
           y: Tensor | None = None, guidance: float | None = None, null: int | None = None,
           predicts: str = "eps", clip: Range | None = None, x_T: Tensor | None = None,
           generator: torch.Generator | None = None, device: Device | None = None,
           graph: bool = False,
           callback: Callable[[int, Tensor, Tensor], object] | None = None) -> Tensor:
    """Draw images from a model: from pure noise down `steps` of the schedule's T steps.

    shape (B, C, H, W); y (B,) labels or None -> float32 (B, C, H, W). steps = T with eta = 1 is
    Algorithm 2 of DDPM; fewer with eta = 0 is DDIM. predicts, clip: see `predict`; guidance, null:
    see `guided`. x_T is the noise to start from, else prior_std times standard normal noise from
    `generator`. Before every step callback(t, x_t, x0_hat) gets the step as an int, the noisy
    images and the guess of the clean ones; the last guess is the result. An nn.Module is in eval
    mode meanwhile. Runs on the model's device, else the schedule's. graph: on a GPU, replay a step
    as a CUDA graph; where that cannot be, say so and run eagerly.  Song et al. 2021, sec. 4.2.
    """
    times = spaced_timesteps(schedule.T, steps).tolist()
    arguments.number("eta", eta, 0, 1)
    device = _device(model, schedule, device)
    schedule = schedule.to(device)
    x = _start(shape, x_T, schedule, device, generator)
    y = _labels(y, len(x), model, device)

    def step_down(x: Tensor, t: Tensor, t_prev: Tensor, noise: Tensor) -> tuple[Tensor, ...]:
        output = guided(model, x, t, y, guidance, null)
        x0_hat, eps_hat = predict(output, x, t, schedule, predicts=predicts, clip=clip)
        return _ddim(x0_hat, eps_hat, t, t_prev, schedule, eta, noise), x0_hat

    with _evaluating(model):
        keep = callback is not None
        take_step = cuda_graphs.replayed(step_down, device, keep=keep) if graph else step_down
        for t, t_prev in zip(times, times[1:] + [-1]):
            noisy = eta > 0 and t_prev >= 0  # none on the way to the clean image
            noise = _draw(shape, device, generator) if noisy else torch.zeros_like(x)
            t_all = torch.full((len(x),), t, device=device)
            x_prev, x0_hat = take_step(x, t_all, torch.full_like(t_all, t_prev), noise)
            if callback is not None:
                callback(t, x, x0_hat)
            x = x_prev
    return x.clone() if graph else x


# --- variational bound ----------------------------------------------------------------------------


def vlb_terms(model: Model, x0: Tensor, t: Steps, schedule: Schedule, *, y: Tensor | None = None,
              eps: Tensor | None = None, generator: torch.Generator | None = None,
              predicts: str = "eps", clip: Range | None = None,
              variance: str = "posterior") -> Tensor:
    """The variational bound's term of step t, per image, in bits per dimension -> (B,) float64.

    x0 (B, C, H, W), 256 equally spaced values from -1 to 1; t (B,) int64; eps: the noise in x_t,
    drawn when None; variance: see `reverse_variance`. It is KL(q(x_{t-1} | x_t, x_0) ||
    p(x_{t-1} | x_t)) for t > 0, and -log p(x_0 | x_1) under the discretised Gaussian for t = 0. T
    times the mean over uniform t, plus `prior_bits`, estimates the whole bound.
    Ho et al. 2020, eqs 5 and 13.
    """
    t = _checked(t, x0, schedule, eps=eps)
    eps = _draw(x0.shape, x0.device, generator) if eps is None else eps
    x_t = q_sample(x0, t, eps, schedule)
    output = _output(model, x_t, t, y)
    x0_hat, _ = predict(output, x_t, t, schedule, predicts=predicts, clip=clip)
    x0, x0_hat, x_t = x0.double(), x0_hat.double(), x_t.double()
    mean, _ = q_posterior(x0, x_t, t, schedule)
    mean_hat, _ = q_posterior(x0_hat, x_t, t, schedule)
    var = _over(reverse_variance(t, schedule), x0)
    var_hat = _over(reverse_variance(t, schedule, variance), x0)
    kl = _gaussian_kl(mean, var, mean_hat, var_hat)
    std_hat = var_hat.sqrt()
    log_p = discretised_gaussian(x0, mean_hat, std_hat)
    return torch.where(t > 0, _mean_bits(kl), _mean_bits(-log_p))


def prior_bits(x0: Tensor, schedule: Schedule) -> Tensor:
    """KL(q(x_T | x_0) || N(0, prior_std^2)) for each image, in bits per dimension -> (B,).

    The term of the bound that no training changes.  Ho et al. 2020, eq. 5 (L_T).
    """
    t = _checked(schedule.T - 1, x0, schedule)
    _, _, alpha_bar, v = schedule._at(t)
    x0 = x0.double()
    mean, var = _over(alpha_bar.sqrt(), x0) * x0, _over(v, x0)
    return _mean_bits(_gaussian_kl(mean, var, 0.0, schedule.prior_std**2))


@torch.no_grad()
def bits_per_dim(model: Model, x0: Tensor, schedule: Schedule,
                 **options: Any) -> tuple[Tensor, Tensor]:
    """The whole bound on -log2 p(x0), summed over all T steps with one draw of noise each.

    x0 (B, C, H, W) -> (total (B,), terms (T, B)), total = terms.sum(0) + prior_bits. Calls the
    model T times; options go to `vlb_terms`.  Ho et al. 2020, eq. 5.
    """
    each = []
    with _evaluating(model):
        for t in range(schedule.T):
            each.append(vlb_terms(model, x0, t, schedule, **options))
    terms = torch.stack(each)  # (T, B)
    return terms.sum(0) + prior_bits(x0, schedule), terms


def discretised_gaussian(x: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """log of the mass that N(mean, std^2) puts on the bin around x, in nats, elementwise, float64.

    x holds 256 equally spaced values from -1 to 1; the two outer bins reach to infinity, so that
    the masses sum to 1. Exact far into the tails, where a difference of two CDFs would be 0.
    Ho et al. 2020, eq. 13.
    """
    half = 1 / 255
    x, mean, std = x.double(), mean.double(), std.double()
    lower = torch.where(x <= half - 1, -math.inf, (x - half - mean) / std)
    upper = torch.where(x >= 1 - half, math.inf, (x + half - mean) / std)
    flip = lower + upper > 0  # measure in the lower tail, where log Phi keeps its digits
    lower, upper = torch.where(flip, -upper, lower), torch.where(flip, -lower, upper)
    log_upper = torch.special.log_ndtr(upper)
    log_ratio = torch.special.log_ndtr(lower) - log_upper
    return log_upper + torch.log(-torch.expm1(log_ratio))


def _gaussian_kl(mean: Tensor, var: Tensor, mean_hat: Tensor | float,
                 var_hat: Tensor | float) -> Tensor:
    """KL(N(mean, var) || N(mean_hat, var_hat)), elementwise, in nats."""
    return 0.5 * (torch.log(var_hat / var) + (var + (mean - mean_hat) ** 2) / var_hat - 1)


def _mean_bits(nats: Tensor) -> Tensor:
    return nats.flatten(1).mean(1) / math.log(2)


# --- helpers --------------------------------------------------------------------------------------


def _over(values: Tensor, x: Tensor) -> Tensor:
    """values (B,) float64 -> (B, 1, ..., 1) in the precision of x, but never below float32."""
    dtype = torch.promote_types(x.dtype, torch.float32)
    return values.to(dtype).view(-1, *(1,) * (x.ndim - 1))


def _draw(shape: Sequence[int], device: Device | None, generator: torch.Generator | None,
          how: Callable[..., Tensor] = torch.randn, dtype: torch.dtype = torch.float32) -> Tensor:
    """Random numbers drawn where the generator lives, so that its seed means the same anywhere."""
    if generator is not None and not isinstance(generator, torch.Generator):
        raise TypeError(f"generator={generator!r}: give torch.Generator().manual_seed(0), or None")
    at = device if generator is None else generator.device
    numbers = how(shape, generator=generator, device=at, dtype=dtype)
    return numbers if device is None else numbers.to(device)


def _output(model: Model, x_t: Tensor, t: Tensor, y: Tensor | None) -> Tensor:
    """What the model returns, in the precision of x_t."""
    output = model(x_t, t, y)
    shape = getattr(output, "shape", type(output).__name__)
    if shape != x_t.shape:
        raise ValueError(f"the model returned {shape}: it must return a tensor {x_t.shape}")
    return output.to(x_t.dtype)


def _device(model: Model, schedule: Schedule, device: Device | None) -> torch.device:
    if device is not None:
        return torch.device(device)
    parameter = next(model.parameters(), None) if isinstance(model, nn.Module) else None
    return schedule.device if parameter is None else parameter.device


@contextmanager
def _evaluating(model: Model) -> Iterator[None]:
    """Dropout off and batch statistics frozen inside; afterwards every submodule as it was."""
    modules = model.modules() if isinstance(model, nn.Module) else []
    training = [m for m in modules if m.training]
    for m in training:
        m.training = False
    try:
        yield
    finally:
        for m in training:
            m.training = True


# --- checks ---------------------------------------------------------------------------------------


def _steps(t: Steps, schedule: Schedule, B: int = 1, *, name: str = "t",
           lowest: int = 0) -> Tensor:
    """Steps as an int64 tensor, all from `lowest` to T - 1; a plain int becomes (B,)."""
    first, last = lowest, schedule.T - 1
    if isinstance(t, int | Integral) and not isinstance(t, bool):
        if not first <= t <= last:
            raise ValueError(f"{name}={t}: steps go from {first} to {last}")
        return torch.full((B,), t, device=schedule.device)
    kind = getattr(t, "dtype", type(t).__name__)
    if not isinstance(t, Tensor) or kind != torch.int64:
        raise TypeError(f"{name} must be a tensor (B,) of int64, or an int; got {kind}")
    if runtime.readable(t) and not (t.min() >= first and t.max() <= last):
        raise ValueError(f"{name} holds {t.min()}..{t.max()}: steps go from {first} to {last}")
    return t


def _checked(t: Steps, x: Tensor, schedule: Schedule, *, name: str = "t", lowest: int = 0,
             **like_x: Tensor | None) -> Tensor:
    """Check x, t and tensors that must have the shape of x; return t as int64 (B,)."""
    if not x.is_floating_point():
        raise TypeError(f"images must be float, got {x.dtype}: convert uint8 with x.float() / 255")
    for other, tensor in like_x.items():
        if tensor is not None and tensor.shape != x.shape:
            raise ValueError(f"{other} is {tuple(tensor.shape)}, the images are {tuple(x.shape)}")
    t = _steps(t, schedule, len(x), name=name, lowest=lowest)
    if t.shape != x.shape[:1]:
        raise ValueError(f"{name} is {tuple(t.shape)}: for {len(x)} images it must be ({len(x)},)")
    if not t.device == x.device == schedule.device:
        raise ValueError(f"{name} is on {t.device}, x on {x.device}, the schedule on "
                         f"{schedule.device}: bring them together, by schedule.to(device)")
    return t


def _start(shape: Sequence[int], x_T: Tensor | None, schedule: Schedule, device: Device,
           generator: torch.Generator | None) -> Tensor:
    """The noise that sampling starts from: x_T, or a draw of it."""
    if not isinstance(shape, Sequence) or len(shape) == 0:
        raise ValueError(f"shape={shape!r}: give the sizes of the images, (B, C, H, W)")
    for size in shape:
        arguments.whole("each size in shape", size)
    if x_T is None:
        return schedule.prior_std * _draw(shape, device, generator)
    is_float = isinstance(x_T, Tensor) and x_T.is_floating_point()
    if not is_float or x_T.shape != tuple(shape) or not x_T.isfinite().all():
        got = getattr(x_T, "dtype", type(x_T).__name__), tuple(getattr(x_T, "shape", ()))
        raise ValueError(f"x_T is {got}: give finite floats, as torch.randn{tuple(shape)} does")
    return x_T.to(device)


def _labels(y: Tensor | None, B: int, model: Model, device: Device) -> Tensor | None:
    """Labels (B,) on the device, None for none; any type of whole numbers will do."""
    if y is None:
        return None
    kind: Any = getattr(y, "dtype", type(y).__name__)
    shape = tuple(getattr(y, "shape", ()))
    if not isinstance(y, Tensor) or kind.is_floating_point or kind == torch.bool or shape != (B,):
        raise ValueError(f"y is {kind} {shape}: give one label an image, int64 ({B},)")
    null = getattr(model, "null", math.inf)
    if y.min() < 0 or y.max() >= null:
        raise ValueError(f"y holds {y.min()}..{y.max()}: labels go from 0 to {null - 1}; "
                         "leave y out to draw without a label")
    return y.to(device, torch.int64)
