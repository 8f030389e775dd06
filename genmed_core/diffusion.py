"""Gaussian diffusion: noise schedules, forward process, posterior, samplers and the variational bound.

One family holds all schedules:

    q(x_t | x_{t-1}) = N(sqrt(alpha_t) x_{t-1}, beta_t I)     one step
    q(x_t | x_0)     = N(sqrt(alpha_bar_t) x_0, v_t I)        all steps at once; v_t is `noise_var`

with alpha_bar_t the product of the alphas and v_t = alpha_t v_{t-1} + beta_t. The schedules of DDPM have
alpha = 1 - beta, hence v = 1 - alpha_bar; the book's simple diffusion has alpha = 1, and v adds up the betas.

Steps count from 0: t = 0..T-1 here is t = 1..T in the papers, and t = -1 is the clean image. t is int64
(B,), one step per image; a plain int stands for the same step in the whole batch. Images are float
(B, C, H, W), and any other (B, ...) will do. A network is called as `model(x_t, t, y)`.

A step never waits for the device, so a CUDA graph can hold it; values of t are checked on the CPU only.
"""

import copy
import math
from contextlib import contextmanager
from numbers import Integral

import torch
from torch import Tensor, nn

from genmed_core.kernels import cuda_graphs, shares

PREDICTS = ("eps", "x0", "v")
VARIANCES = ("posterior", "beta")


# --- schedules --------------------------------------------------------------------------------------------


class Schedule:
    """How much noise each of T steps adds: `linear`, `cosine`, `simple`, or made from betas of your own.

    beta, alpha, alpha_bar, noise_var: float32 tensors (T,). beta is the variance of the noise that a step
    adds, alpha the square of the factor by which it shrinks the image (1 - beta when not given), alpha_bar
    the product of the alphas so far, noise_var the variance of all the noise in x_t. prior_std is the
    standard deviation of the pure noise that sampling starts from. All is derived in float64; steps use that.
    """

    def __init__(self, beta, alpha=None, *, prior_std=1.0):
        beta = torch.as_tensor(beta, dtype=torch.float64)
        alpha = 1 - beta if alpha is None else torch.as_tensor(alpha, dtype=torch.float64)
        if beta.ndim != 1 or len(beta) == 0 or alpha.shape != beta.shape:
            raise ValueError(f"beta {tuple(beta.shape)} and alpha {tuple(alpha.shape)} must both be (T,)")
        if not bool((beta > 0).all() and (alpha > 0).all() and (alpha <= 1).all()):
            raise ValueError("betas must be above 0, alphas above 0 and at most 1 (for DDPM: 0 < beta < 1)")
        alpha_bar = alpha.cumprod(0)
        v = [0.0]
        for a, b in zip(alpha.tolist(), beta.tolist()):
            v.append(a * v[-1] + b)
        exact = torch.stack([beta, alpha, alpha_bar, beta.new_tensor(v[1:])], dim=1)  # (T, 4)
        clean = exact.new_tensor([[0.0, 1.0, 1.0, 0.0]])
        self._exact = torch.cat([clean, exact])  # (T + 1, 4): row t + 1 holds step t, row 0 the clean image
        self.beta, self.alpha, self.alpha_bar, self.noise_var = exact.float().unbind(1)
        self.T, self.prior_std = len(beta), float(prior_std)

    @classmethod
    def linear(cls, T=1000, beta_start=1e-4, beta_end=0.02):
        """Betas that rise in a straight line.  Ho et al. 2020, sec. 4."""
        _check_T(T)
        return cls(torch.linspace(beta_start, beta_end, T, dtype=torch.float64))

    @classmethod
    def cosine(cls, T=1000, s=0.008):
        """alpha_bar falls as a squared cosine; betas clipped at 0.999.  Nichol and Dhariwal 2021, eq. 17."""
        _check_T(T)
        time = torch.arange(T + 1, dtype=torch.float64) / T
        alpha_bar = torch.cos((time + s) / (1 + s) * math.pi / 2) ** 2
        return cls((1 - alpha_bar[1:] / alpha_bar[:-1]).clamp(max=0.999))

    @classmethod
    def simple(cls, T=25, sigma=0.3):
        """The book's simple diffusion: every step adds noise of standard deviation sigma and shrinks nothing.

        With the papers' t = 1..T, x_t = x_0 + N(0, t sigma^2). So beta = sigma^2 at every step, and alpha =
        alpha_bar = 1, since the image keeps its full size: 1 - alpha_bar, the variance of the noise in DDPM,
        is 0 here, and noise_var = t sigma^2 takes its place. Sampling starts from N(0, T sigma^2).
        """
        _check_T(T)
        if not sigma > 0:
            raise ValueError(f"sigma={sigma}: the standard deviation of the noise must be above 0")
        beta = torch.full((T,), float(sigma) ** 2, dtype=torch.float64)
        return cls(beta, torch.ones_like(beta), prior_std=math.sqrt(T) * sigma)

    @property
    def device(self):
        return self._exact.device

    def to(self, device):
        """The same schedule with its tensors on `device`."""
        moved = copy.copy(self)
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                setattr(moved, name, value.to(device))
        return moved

    def at(self, t):
        """beta, alpha, alpha_bar and noise_var at steps t (B,) int64 in -1..T-1, each float64 (B,)."""
        return self._exact.index_select(0, t + 1).unbind(1)

    def __repr__(self):
        ends = ", ".join(f"{name} {float(getattr(self, name)[0]):.3g}..{float(getattr(self, name)[-1]):.3g}"
                         for name in ("beta", "alpha_bar", "noise_var"))
        return f"Schedule(T={self.T}, {ends})"


# --- forward process and posterior ------------------------------------------------------------------------


def q_step(x_prev, t, eps, schedule):
    """One step of noise, from x_{t-1} to x_t.

    x_prev, eps (B, C, H, W); t (B,) int64 -> x_t (B, C, H, W).  Ho et al. 2020, eq. 2.
    """
    t = _checked(t, x_prev, schedule, eps=eps)
    beta, alpha, _, _ = schedule.at(t)
    return _over(alpha.sqrt(), x_prev) * x_prev + _over(beta.sqrt(), x_prev) * eps


def q_sample(x0, t, eps, schedule):
    """Noise x0 to step t in closed form.

    x0, eps (B, C, H, W); t (B,) int64 -> x_t (B, C, H, W).  Ho et al. 2020, eq. 4.
    """
    t = _checked(t, x0, schedule, eps=eps)
    _, _, alpha_bar, noise_var = schedule.at(t)
    return _over(alpha_bar.sqrt(), x0) * x0 + _over(noise_var.sqrt(), x0) * eps


def q_posterior(x0, x_t, t, schedule):
    """Mean and variance of q(x_{t-1} | x_t, x_0), by Bayes' rule; the variance is 0 at t = 0.

    x0, x_t (B, C, H, W); t (B,) int64 -> mean (B, C, H, W), var (B, 1, 1, 1).  Ho et al. 2020, eqs 6-7.
    """
    t = _checked(t, x_t, schedule, x0=x0)
    beta, alpha, _, v = schedule.at(t)
    _, _, alpha_bar_prev, v_prev = schedule.at(t - 1)
    from_x0 = _over(alpha_bar_prev.sqrt() * beta / v, x0)
    from_x_t = _over(alpha.sqrt() * v_prev / v, x_t)
    return from_x0 * x0 + from_x_t * x_t, _over(v_prev * beta / v, x_t)


# --- what the network predicts ----------------------------------------------------------------------------


def target(x0, eps, t, schedule, *, predicts="eps"):
    """What the network has to output for x_t = q_sample(x0, t, eps): eps, x0, or v.

    x0, eps (B, C, H, W); t (B,) int64 -> (B, C, H, W).
    v = sqrt(alpha_bar) eps - sqrt(1 - alpha_bar) x0.  Salimans and Ho 2022, sec. 4.
    """
    t = _checked(t, x0, schedule, eps=eps)
    _check_choice("predicts", predicts, PREDICTS)
    if predicts == "eps":
        return eps
    if predicts == "x0":
        return x0
    _, _, alpha_bar, v = schedule.at(t)
    return _over(alpha_bar.sqrt(), x0) * eps - _over(v.sqrt(), x0) * x0


def predict(output, x_t, t, schedule, *, predicts="eps", clip=None):
    """Read the network's output, whatever it predicts, as (x0_hat, eps_hat): the pair that makes up x_t.

    output, x_t (B, C, H, W); t (B,) int64. clip=(low, high) limits x0_hat to the range of the data, and
    eps_hat becomes the noise that goes with it. `target` of the pair leads back to eps, x0 or v.
    Ho et al. 2020, eq. 15 (eps); Salimans and Ho 2022, sec. 4 and app. D (v).
    """
    t = _checked(t, x_t, schedule, output=output)
    _check_choice("predicts", predicts, PREDICTS)
    _, _, alpha_bar, v = schedule.at(t)
    a, s = _over(alpha_bar.sqrt(), x_t), _over(v.sqrt(), x_t)
    if predicts == "eps":
        x0_hat, eps_hat = (x_t - s * output) / a, output
    elif predicts == "x0":
        x0_hat, eps_hat = output, (x_t - a * output) / s
    else:
        total = _over(alpha_bar + v, x_t)  # 1 for DDPM's schedules; makes v right for `simple` too
        x0_hat, eps_hat = (a * x_t - s * output) / total, (s * x_t + a * output) / total
    if clip is not None:
        x0_hat = x0_hat.clamp(*_range(clip))
        eps_hat = (x_t - a * x0_hat) / s
    return x0_hat, eps_hat


# --- reverse steps ----------------------------------------------------------------------------------------


def reverse_variance(t, schedule, variance="posterior"):
    """The variance of p(x_{t-1} | x_t) that is fixed, not learned: the posterior's, or beta -> float64 (B,).

    The first is right for data that is a single point, the second for data that is white noise of unit
    variance.  Ho et al. 2020, sec. 3.2. At t = 0, where the posterior has none, it is the posterior's at
    t = 1, for the decoder of the bound, as in the code of Nichol and Dhariwal 2021.
    """
    _check_choice("variance", variance, VARIANCES)
    later = t.clamp(min=min(1, schedule.T - 1))
    beta, _, _, v = schedule.at(later)
    _, _, _, v_prev = schedule.at(later - 1)
    posterior = v_prev * beta / v if schedule.T > 1 else beta
    return torch.where(t > 0, beta, posterior) if variance == "beta" else posterior


def ddpm_step(x_t, t, eps_hat, schedule, noise=None, *, variance="posterior", clip=None):
    """One step of Algorithm 2, from x_t to x_{t-1}, given the network's guess of the noise in x_t.

    x_t, eps_hat, noise (B, C, H, W); t (B,) int64 -> (B, C, H, W). noise is standard normal, drawn here when
    None, and has no effect at t = 0. variance: see `reverse_variance`. clip=(low, high) limits the guess of
    x_0.  Ho et al. 2020, eqs 7, 11 and 15.
    """
    t = _checked(t, x_t, schedule, eps_hat=eps_hat, noise=noise)
    noise = torch.randn_like(x_t) if noise is None else noise
    x0_hat, _ = predict(eps_hat, x_t, t, schedule, clip=clip)
    mean, _ = q_posterior(x0_hat, x_t, t, schedule)
    var = reverse_variance(t, schedule, variance) * (t > 0)
    return mean + _over(var.sqrt(), x_t) * noise


def ddim_step(x_t, t, t_prev, eps_hat, schedule, *, eta=0.0, noise=None, clip=None):
    """Jump from x_t to x_{t_prev}, given the network's guess of the noise in x_t; t_prev = -1 is the image.

    x_t, eps_hat, noise (B, C, H, W); t, t_prev (B,) int64, t_prev < t -> (B, C, H, W). eta = 0 adds no noise;
    eta = 1 adds as much as DDPM's posterior, and with t_prev = t - 1 is the same step. noise is standard
    normal, drawn here when needed and None, and has no effect at t_prev = -1. clip=(low, high) limits the
    guess of x_0.  Song et al. 2021 (DDIM), eqs 12 and 16.
    """
    t = _checked(t, x_t, schedule, eps_hat=eps_hat, noise=noise)
    t_prev = _checked(t_prev, x_t, schedule, lowest=-1)
    if _readable(t) and bool((t_prev >= t).any()):
        raise ValueError("t_prev must be below t for every image")
    x0_hat, eps_hat = predict(eps_hat, x_t, t, schedule, clip=clip)
    return _ddim(x0_hat, eps_hat, t, t_prev, schedule, eta, noise)


def _ddim(x0_hat, eps_hat, t, t_prev, schedule, eta, noise):
    """`ddim_step` from both guesses: eps alone loses digits of x0_hat where alpha_bar is tiny."""
    if not 0 <= eta <= 1:
        raise ValueError(f"eta={eta}: give a number from 0 (no noise) to 1 (as much as DDPM)")
    _, _, alpha_bar, v = schedule.at(t)
    _, _, alpha_bar_prev, v_prev = schedule.at(t_prev)
    jump = v - alpha_bar / alpha_bar_prev * v_prev  # the beta of a single step from t_prev to t
    var = eta**2 * v_prev * jump / v
    direction = (v_prev - var).clamp(min=0).sqrt()
    x = _over(alpha_bar_prev.sqrt(), x0_hat) * x0_hat + _over(direction, x0_hat) * eps_hat
    if eta == 0:
        return x
    noise = torch.randn_like(x) if noise is None else noise
    return x + _over(var.sqrt(), x) * noise


# --- sampling ---------------------------------------------------------------------------------------------


def spaced_timesteps(T, steps):
    """`steps` of the T time steps, evenly spaced, from T-1 down to 0 -> int64 (steps,), on the CPU.

    A single step is T-1.  Song et al. 2021 (DDIM), sec. 4.2.
    """
    _check_T(T)
    if not isinstance(steps, Integral) or not 1 <= steps <= T:
        raise ValueError(f"steps={steps!r}: give a whole number from 1 to T={T}")
    if steps == 1:
        return torch.tensor([T - 1])
    gaps = steps - 1
    # rounded in whole numbers, so that none comes twice
    return (2 * torch.arange(gaps, -1, -1) * (T - 1) + gaps) // (2 * gaps)


def stratified_timesteps(B, T, *, spread=None, device=None, generator=None):
    """Training steps for a batch, spread evenly over 0..T-1 -> int64 (B,).

    Each entry alone is uniform, as in Algorithm 1; together they cover the range, and the loss varies less
    between batches.  Kingma et al. 2021 (variational diffusion models): the low-discrepancy sampler.

    spread: draw logit-normal steps instead, log(t / (T - t)) ~ N(0, spread^2), more of them in the middle the smaller
    it is, likewise in strata.  Esser et al. 2024 (scaling rectified flow transformers), sec. 3.1.
    """
    if spread is not None and not spread > 0:
        raise ValueError(f"spread must be positive, or None for uniform steps; got {spread}")
    offset = _draw((), device, generator, torch.rand, torch.float64)
    first, total = shares.place(B)  # a share of a batch takes its own strata
    position = (offset + (first + torch.arange(B, device=offset.device, dtype=torch.float64)) / total) % 1
    if spread is not None:
        position = torch.sigmoid(spread * torch.special.ndtri(position))  # 0 and 1 are limits: sigmoid(-inf) = 0
    return (position * T).long().clamp(max=T - 1)  # in float64 a uniform position below 1 stays below T


def guided(model, x_t, t, y, guidance=None, null=None):
    """The network's output under classifier-free guidance: out(null) + guidance * (out(y) - out(null)).

    guidance None or 1 is the plain conditional model, called once. null is the label that stands for "no
    label"; both outputs then come from one call on a doubled batch. When null is None, the model is called a
    second time with y = None. At a given x_t, eps, x0 and v are linear in one another: any can be mixed.
    Ho and Salimans 2022, eq. 6, with guidance = 1 + w.
    """
    if guidance is None or guidance == 1:
        return model(x_t, t, y).to(x_t.dtype)
    if y is None:
        raise ValueError("guidance needs labels: pass y")
    if null is None:
        conditional, unconditional = model(x_t, t, y), model(x_t, t, None)
    else:
        y_both = torch.cat([y, torch.full_like(y, null)])
        conditional, unconditional = model(torch.cat([x_t, x_t]), torch.cat([t, t]), y_both).chunk(2)
    conditional, unconditional = conditional.to(x_t.dtype), unconditional.to(x_t.dtype)
    return unconditional + guidance * (conditional - unconditional)


@torch.no_grad()
def sample(
    model, shape, schedule, *, steps, eta=0.0, y=None, guidance=None, generator=None, callback=None,
    predicts="eps", clip=None, null=None, x_T=None, device=None, graph=False,
):
    """Draw images from a model: from pure noise down `steps` of the schedule's T steps.

    shape (B, C, H, W); y (B,) labels or None -> float32 (B, C, H, W). steps = T with eta = 1 is Algorithm 2
    of DDPM; fewer steps with eta = 0 is DDIM. predicts, clip: see `predict`; guidance, null: see `guided`.
    x_T (B, C, H, W) is the noise to start from, else prior_std times standard normal noise from `generator`.
    Before every step callback(t, x_t, x0_hat) gets the step as an int, the noisy images and the guess of the
    clean ones; the last of these guesses is the result. An nn.Module is in eval mode meanwhile. Runs on the
    model's device, else the schedule's. graph: on a GPU, capture a step as a CUDA graph and replay it; elsewhere,
    and for a model that cannot be captured, say so and run eagerly.  Song et al. 2021 (DDIM), sec. 4.2.
    """
    shape, times = tuple(shape), spaced_timesteps(schedule.T, steps).tolist()
    _check_labels(y, shape[0], guidance)
    device = _device(model, schedule, device)
    schedule, y = schedule.to(device), None if y is None else y.to(device)
    if x_T is not None and tuple(x_T.shape) != shape:
        raise ValueError(f"x_T is {tuple(x_T.shape)}, the wanted shape {shape}")
    x = schedule.prior_std * _draw(shape, device, generator) if x_T is None else x_T.to(device)

    def step_down(x, t, t_prev, noise):
        output = guided(model, x, t, y, guidance, null)
        x0_hat, eps_hat = predict(output, x, t, schedule, predicts=predicts, clip=clip)
        return _ddim(x0_hat, eps_hat, t, t_prev, schedule, eta, noise), x0_hat

    with _evaluating(model):
        take = _captured(step_down, device, keep=callback is not None) if graph else step_down
        for t, t_prev in zip(times, times[1:] + [-1]):
            # no noise is added on the way to the clean image: its weight there is 0, and none is drawn
            noise = _draw(shape, device, generator) if eta > 0 and t_prev >= 0 else torch.zeros_like(x)
            t_all, t_prev_all = (torch.full((shape[0],), at, device=device) for at in (t, t_prev))
            x_prev, x0_hat = take(x, t_all, t_prev_all, noise)
            if callback is not None:
                callback(t, x, x0_hat)
            x = x_prev
    return x.clone() if graph else x


def _captured(step_down, device, *, keep):
    """`step_down` as a CUDA graph, captured at its first call; itself, after a sentence, where that cannot be.

    A replay writes its results where the last one did; keep=True copies them, for a callback that stores them.
    """
    if not _has_graphs(device):
        print("note: a CUDA graph needs a CUDA GPU; sampling eagerly, which gives the same result.")
        return step_down
    replay = None

    def take(*tensors):
        nonlocal replay
        if replay is None:
            try:
                replay = _capture(step_down, tensors)
            except Exception as err:  # whatever a student's model does that a graph cannot hold
                why = (str(err).strip().splitlines() or [type(err).__name__])[0][:160]
                print(f"note: this model cannot be captured ({why}); sampling eagerly, which gives the same result.")
                replay = step_down
        results = replay(*tensors)
        return tuple(r.clone() for r in results) if keep else results

    return take


def _has_graphs(device):
    return torch.device(device).type == "cuda"


def _capture(function, tensors):
    """A function of tensors as a CUDA graph -> a callable that copies its arguments in, replays, returns the results.

    Random numbers that the model itself draws are those that it would have drawn uncaptured.
    """
    inputs = [t.clone() for t in tensors]
    graph, outputs = cuda_graphs.capture(lambda: function(*inputs), inputs[0].device)

    def replay(*tensors):
        for kept, new in zip(inputs, tensors):
            kept.copy_(new)
        graph.replay()
        return outputs

    return replay


# --- variational bound ------------------------------------------------------------------------------------


def vlb_terms(
    model, x0, t, schedule, *, y=None, eps=None, generator=None, predicts="eps", clip=None,
    variance="posterior", data_range=(-1.0, 1.0), levels=256,
):
    """The variational bound's term of step t, for each image, in bits per dimension -> (B,) float64.

    x0 (B, C, H, W), `levels` equally spaced values over data_range; t (B,) int64; eps: the noise in x_t,
    drawn when None; variance: see `reverse_variance`. It is KL(q(x_{t-1} | x_t, x_0) || p(x_{t-1} | x_t)) for
    t > 0, and -log p(x_0 | x_1) under the discretised Gaussian for t = 0. T times the mean over uniform t,
    plus `prior_bits`, estimates the whole bound.  Ho et al. 2020, eqs 5 and 13.
    """
    t = _checked(t, x0, schedule, eps=eps)
    eps = _draw(x0.shape, x0.device, generator) if eps is None else eps
    x_t = q_sample(x0, t, eps, schedule)
    x0_hat, _ = predict(model(x_t, t, y).to(x_t.dtype), x_t, t, schedule, predicts=predicts, clip=clip)
    x0, x0_hat, x_t = x0.double(), x0_hat.double(), x_t.double()
    mean, _ = q_posterior(x0, x_t, t, schedule)
    mean_hat, _ = q_posterior(x0_hat, x_t, t, schedule)
    var, var_hat = (_over(reverse_variance(t, schedule, which), x0) for which in ("posterior", variance))
    kl = _gaussian_kl(mean, var, mean_hat, var_hat)
    log_p = discretised_gaussian(x0, mean_hat, var_hat.sqrt(), data_range=data_range, levels=levels)
    return torch.where(t > 0, _mean_bits(kl), _mean_bits(-log_p))


def prior_bits(x0, schedule):
    """KL(q(x_T | x_0) || N(0, prior_std^2)) for each image, in bits per dimension -> (B,).

    The term of the bound that no training changes.  Ho et al. 2020, eq. 5 (L_T).
    """
    t = _checked(schedule.T - 1, x0, schedule)
    _, _, alpha_bar, v = schedule.at(t)
    x0 = x0.double()
    mean, var = _over(alpha_bar.sqrt(), x0) * x0, _over(v, x0)
    return _mean_bits(_gaussian_kl(mean, var, 0.0, schedule.prior_std**2))


@torch.no_grad()
def bits_per_dim(model, x0, schedule, **options):
    """The whole bound on -log2 p(x0), summed over all T steps with one draw of noise each.

    x0 (B, C, H, W) -> (total (B,), terms (T, B)), total = terms.sum(0) + prior_bits. Calls the model T times;
    options go to `vlb_terms`.  Ho et al. 2020, eq. 5.
    """
    with _evaluating(model):
        steps = (torch.full((len(x0),), t, device=x0.device) for t in range(schedule.T))
        terms = torch.stack([vlb_terms(model, x0, t, schedule, **options) for t in steps])  # (T, B)
    return terms.sum(0) + prior_bits(x0, schedule), terms


def discretised_gaussian(x, mean, std, *, data_range=(-1.0, 1.0), levels=256):
    """log of the mass that N(mean, std^2) puts on the bin around x, in nats, elementwise, float64.

    x holds `levels` equally spaced values over data_range; the two outer bins reach to infinity, so that the
    masses sum to 1. Exact far into the tails, where a difference of two CDFs would be 0.
    Ho et al. 2020, eq. 13.
    """
    low, high = _range(data_range)
    half = (high - low) / (levels - 1) / 2
    x, mean, std = x.double(), mean.double(), std.double()
    lower = torch.where(x <= low + half, -math.inf, (x - half - mean) / std)
    upper = torch.where(x >= high - half, math.inf, (x + half - mean) / std)
    flip = lower + upper > 0  # measure in the lower tail, where log Phi keeps its digits
    lower, upper = torch.where(flip, -upper, lower), torch.where(flip, -lower, upper)
    log_upper = torch.special.log_ndtr(upper)
    return log_upper + torch.log(-torch.expm1(torch.special.log_ndtr(lower) - log_upper))


def _gaussian_kl(mean, var, mean_hat, var_hat):
    """KL(N(mean, var) || N(mean_hat, var_hat)), elementwise, in nats."""
    return 0.5 * (torch.log(var_hat / var) + (var + (mean - mean_hat) ** 2) / var_hat - 1)


def _mean_bits(nats):
    return nats.flatten(1).mean(1) / math.log(2)


# --- helpers ----------------------------------------------------------------------------------------------


def _over(values, x):
    """values (B,) float64 -> (B, 1, ..., 1) in the precision of x, but never below float32."""
    dtype = torch.promote_types(x.dtype, torch.float32)
    return values.to(dtype).view(-1, *(1,) * (x.ndim - 1))


def _draw(shape, device, generator, how=torch.randn, dtype=torch.float32):
    """Random numbers on `device`, drawn where the generator lives: its seed means the same anywhere."""
    at = device if generator is None else generator.device
    numbers = how(shape, generator=generator, device=at, dtype=dtype)
    return numbers if device is None else numbers.to(device)


def _readable(t):
    """Whether the values of t can be looked at without waiting for a device or breaking a compiled graph."""
    return t.is_cpu and t.numel() > 0 and not torch.compiler.is_compiling()


def _checked(t, x, schedule, lowest=0, **same_shape):
    """Check x, t and tensors that must have the shape of x; return t as int64 (B,)."""
    if not x.is_floating_point():
        raise TypeError(f"images must be float, got {x.dtype}: convert uint8 with x.float() / 255")
    for name, tensor in same_shape.items():
        if tensor is not None and tensor.shape != x.shape:
            raise ValueError(f"{name} is {tuple(tensor.shape)} but the images are {tuple(x.shape)}")
    if isinstance(t, Integral):
        if not lowest <= t < schedule.T:
            raise ValueError(f"t={t}: steps go from {lowest} to {schedule.T - 1}")
        t = torch.full((len(x),), t, device=schedule.device)
    if not isinstance(t, Tensor) or t.dtype != torch.int64:
        raise TypeError(f"t must be an int64 tensor (B,), got {getattr(t, 'dtype', type(t).__name__)}")
    if t.shape != x.shape[:1]:
        raise ValueError(f"t is {tuple(t.shape)}, but there are {len(x)} images: t must be ({len(x)},)")
    if not t.device == x.device == schedule.device:
        raise ValueError(f"t is on {t.device}, x on {x.device}, the schedule on {schedule.device}: "
                         "bring them together, the schedule with schedule.to(device)")
    if _readable(t):
        first, last = t.aminmax()
        if first < lowest or last >= schedule.T:
            raise ValueError(f"t holds {int(first)}..{int(last)}: steps go from {lowest} to {schedule.T - 1}")
    return t


def _check_T(T):
    if not isinstance(T, Integral) or T < 1:
        raise ValueError(f"T={T!r}: give a whole number of steps, 1 or more")


def _check_choice(name, value, choices):
    if value not in choices:
        raise ValueError(f"{name}={value!r}: choose from {', '.join(choices)}")


def _check_labels(y, B, guidance):
    if guidance is not None and y is None:
        raise ValueError("guidance needs labels: pass y")
    if y is not None and (not isinstance(y, Tensor) or y.shape[:1] != (B,)):
        raise ValueError(f"y must be a tensor with one label for each of the {B} images")


def _range(pair):
    low, high = pair
    if not low < high:
        raise ValueError(f"({low}, {high}): the range must be (low, high) with low < high")
    return low, high


def _device(model, schedule, device):
    if device is not None:
        return torch.device(device)
    parameter = next(model.parameters(), None) if isinstance(model, nn.Module) else None
    return schedule.device if parameter is None else parameter.device


@contextmanager
def _evaluating(model):
    """Dropout off and batch statistics frozen inside; every submodule's mode as it was afterwards."""
    training = [m for m in model.modules() if m.training] if isinstance(model, nn.Module) else []
    for m in training:
        m.training = False
    try:
        yield
    finally:
        for m in training:
            m.training = True
