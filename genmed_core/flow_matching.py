"""Flow matching: straight paths from noise to data, their velocity, and the ODE that follows it.

    x_t = t x + (1 - t) eps        t from 0, noise N(0, I), to 1, data
    u   = x - eps                  the velocity dx_t/dt: what the network learns to predict

Lipman et al. 2023 (flow matching), Liu et al. 2023 (rectified flow). Chapter 8's path, which keeps
the variance, holds the same pair divided by sqrt(t^2 + (1 - t)^2): a network trained on one path
can be asked on the other. Its steps k = 0..T-1 are those of `diffusion`, noisiest last.

Data x are float (B, ...); t is float (B,), or one number for the whole batch. A velocity is called
as `velocity(x_t, t)`, with labels as `velocity(x_t, t, y)`; its network should be in eval mode.
"""

import math
from collections.abc import Callable

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from genmed_core import arguments, diffusion, runtime

PREDICTS = ("eps", "x0", "v", "velocity")
PATHS = ("straight", "preserving")
METHODS = ("euler", "heun")
Time = Tensor | float  # (B,), or one number for the whole batch
Velocity = Callable[..., Tensor]  # velocity(x_t, t) or velocity(x_t, t, y) -> like x_t


# --- the path -------------------------------------------------------------------------------------


def interpolate(x: Tensor, eps: Tensor, t: Time) -> Tensor:
    """The straight path: x, eps (B, ...), t (B,) in [0, 1] -> x_t (B, ...).

    Lipman et al. 2023, eq. 22 with sigma_min = 0. Raises ValueError for what does not fit.
    """
    a, s = _weights(t, x, "straight", eps=eps)
    return a * x + s * eps


def velocity_target(x: Tensor, eps: Tensor) -> Tensor:
    """What the network has to output, at any t: x - eps, (B, ...).  Lipman et al. 2023, eq. 23."""
    return target(x, eps, 0.0)


def optimal_coupling(x: Tensor, eps: Tensor, *, labels: Tensor | None = None) -> Tensor:
    """The batch's noises in the order that makes the sum of |x_i - eps_i|^2 smallest -> (B, ...).

    x, eps (B, ...); labels (B,): exchange noise only within a label, so that each label's noise is
    that of the batch by chance alone. On the CPU, in about B^3.  Tong et al. 2024.
    """
    _weights(0.0, x, "straight", eps=eps)
    cost = -(x.flatten(1).double() @ eps.flatten(1).double().T)  # |x|^2 and |eps|^2 add a constant
    if labels is not None:
        if labels.shape != (len(x),):
            raise ValueError(f"labels are {tuple(labels.shape)}: give one a datum, ({len(x)},)")
        foreign = labels[:, None] != labels[None, :]
        cost = cost + foreign * (1 + 2 * len(x) * cost.abs().max())  # dearer than any exchange
    _, order = linear_sum_assignment(cost.cpu().numpy())
    return eps[torch.as_tensor(order, device=eps.device)]


# --- eps, x0, v, velocity: one table for both paths -----------------------------------------------


def target(x: Tensor, eps: Tensor, t: Time, *, predicts: str = "velocity") -> Tensor:
    """What a network that predicts eps, x0, v or the velocity has to output at t -> (B, ...).

    On either path: v is Salimans and Ho's (2022) at the same signal-to-noise ratio.
    """
    arguments.choice("predicts", predicts, PREDICTS)
    a, s = _weights(t, x, "preserving", eps=eps)
    return {"eps": eps, "x0": x, "v": a * eps - s * x, "velocity": x - eps}[predicts]


def predict(output: Tensor, x_t: Tensor, t: Time, *, predicts: str = "velocity",
            path: str = "straight") -> tuple[Tensor, Tensor]:
    """Read a network's output as (x0_hat, eps_hat): the pair that makes up x_t, each (B, ...).

    output, x_t (B, ...), t (B,); path: "straight", or "preserving" for x_t on chapter 8's path with
    the same signal-to-noise ratio (`time_of_step`). Raises ValueError where the pair cannot be
    read: from eps at t = 0, from x0 at t = 1.
    """
    arguments.choice("predicts", predicts, PREDICTS)
    a, s = _weights(t, x_t, path, output=output)  # x_t = a x0 + s eps
    if predicts in ("eps", "x0"):
        divisor, end = (a, "t = 0: begin later") if predicts == "eps" else (s, "t = 1: end sooner")
        if runtime.readable(divisor) and not (divisor > 0).all():
            raise ValueError(f"a network that predicts {predicts} does not tell the velocity at "
                             f"{end}, or let it predict v or the velocity")
    if predicts == "eps":
        return (x_t - s * output) / a, output
    if predicts == "x0":
        return output, (x_t - a * output) / s
    if predicts == "v":
        length = (a**2 + s**2).sqrt()  # 1 on the preserving path
        a, s, x_t = a / length, s / length, x_t / length
        return a * x_t - s * output, s * x_t + a * output
    return (x_t + s * output) / (a + s), (x_t - a * output) / (a + s)


def to_velocity(output: Tensor, x_t: Tensor, t: Time, *, predicts: str = "velocity",
                path: str = "straight") -> Tensor:
    """The straight path's velocity, x0_hat - eps_hat, from any output: see `predict`."""
    x0_hat, eps_hat = predict(output, x_t, t, predicts=predicts, path=path)
    return x0_hat - eps_hat


def time_of_step(k: Time, schedule: diffusion.Schedule) -> Tensor:
    """t of the same signal-to-noise ratio as step k (B,) in -1..T-1, any real number -> float64."""
    k = torch.as_tensor(k, dtype=torch.float64, device=schedule.device)
    if not ((k >= -1) & (k < schedule.T)).all():
        raise ValueError(f"k holds {k.min():g}..{k.max():g}: steps go from -1, the image, "
                         f"to {schedule.T - 1}")
    angle, low = _angles(schedule), (k + 1).floor().clamp(max=schedule.T - 1).long()
    phi = torch.lerp(angle[low], angle[low + 1], k + 1 - low)
    return phi.cos() / (phi.cos() + phi.sin())


def step_of_time(t: Time, schedule: diffusion.Schedule) -> Tensor:
    """The inverse of `time_of_step`: t (B,) in [0, 1] -> k, float64 (B,), held to -1..T-1."""
    t = torch.as_tensor(t, dtype=torch.float64, device=schedule.device)
    angle, phi = _angles(schedule), torch.atan2(1 - t, t)
    above = torch.searchsorted(angle, phi.contiguous()).clamp(1, schedule.T)
    part = (phi - angle[above - 1]) / (angle[above] - angle[above - 1])
    return (above - 2 + part).clamp(-1, schedule.T - 1)


def _angles(schedule: diffusion.Schedule) -> Tensor:
    """atan(noise / signal) of steps -1..T-1, (T + 1,): for a cosine schedule almost a line."""
    _, _, alpha_bar, v = schedule._exact.unbind(1)
    if not torch.allclose(alpha_bar + v, torch.ones_like(v)):
        raise ValueError(f"{schedule} does not keep the variance: give Schedule.linear or .cosine")
    return torch.atan2(v.sqrt(), alpha_bar.sqrt())


# --- velocities from networks ---------------------------------------------------------------------


def from_diffusion(model: diffusion.Model, schedule: diffusion.Schedule, *,
                   predicts: str = "v") -> Velocity:
    """A network of chapter 8's path as a velocity(x_t, t, y=None) on the straight one.

    x_t is scaled, and the network told the real-valued step of the same signal-to-noise ratio.
    Beyond steps 0 and T - 1, where it was not trained, the velocity is read as at the nearer one.
    Euler's steps then are DDIM's.
    """
    arguments.choice("predicts", predicts, diffusion.PREDICTS)
    last, first = time_of_step(torch.tensor([schedule.T - 1.0, 0.0]), schedule).tolist()

    def velocity(x_t: Tensor, t: Time, y: Tensor | None = None) -> Tensor:
        t = _times(t, x_t).clamp(last, first)
        z = x_t / _over((t**2 + (1 - t) ** 2).sqrt(), x_t)
        output = _output(model, z, step_of_time(t, schedule), y)
        return to_velocity(output, z, t, predicts=predicts, path="preserving")

    return velocity


def from_network(model: diffusion.Model, T: int = 1000) -> Velocity:
    """A network that learned velocities at t = 1 - (k + 1) / T, told k: velocity(x_t, t, y=None).

    So a network made for steps k = 0..T-1 keeps its sense of time: k is large where noise is.
    Between the steps it is told a real number.
    """
    arguments.whole("T", T)

    def velocity(x_t: Tensor, t: Time, y: Tensor | None = None) -> Tensor:
        return _output(model, x_t, (T * (1 - _times(t, x_t)) - 1).clamp(min=0), y)

    return velocity


def guided(velocity: Velocity, y: Tensor, *, null: int, guidance: float | None = None,
           between: arguments.Range = (0.0, 1.0)) -> Velocity:
    """Classifier-free guidance to labels y (B,) at between[0] <= t < between[1]: velocity(x_t, t).

    u(null) + guidance * (u(y) - u(null)); elsewhere, and for guidance None or 1, u(y). t must be
    one number for the whole batch.  Ho and Salimans 2022 (guidance = 1 + w); Zheng et al. 2023.
    """
    low, high = arguments.ordered("between", between)

    def of_labels(x_t: Tensor, t: Time) -> Tensor:
        t = _times(t, x_t)
        weight = guidance if low <= float(t[0]) < high else None
        return diffusion.guided(velocity, x_t, t, y, weight, null)

    return of_labels


def clipped(velocity: Velocity, low: float = -1.0, high: float = 1.0) -> Velocity:
    """The velocity(x_t, t) towards x_t + (1 - t) u held to [low, high]; at t = 1 it is u itself."""
    low, high = arguments.ordered("(low, high)", (low, high))

    def towards_range(x_t: Tensor, t: Time) -> Tensor:
        u, left = velocity(x_t, t), _over(1 - _times(t, x_t), x_t)
        return torch.where(left > 0, ((x_t + left * u).clamp(low, high) - x_t) / left, u)

    return towards_range


# --- the ODE --------------------------------------------------------------------------------------


def times(steps: int, shift: float = 1.0) -> Tensor:
    """`steps` steps from noise to data: steps + 1 times from 0 to 1, float64.

    shift > 1 makes them denser at the noisy end: the noise level s = 1 - t becomes
    shift s / (1 + (shift - 1) s).  Esser et al. 2024 (scaling rectified flow), eq. 23.
    """
    arguments.whole("steps", steps)
    arguments.number("shift", shift, positive=True)
    s = 1 - torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    return 1 - shift * s / (1 + (shift - 1) * s)


@torch.no_grad()
def ode_sample(velocity: Velocity, start: Tensor, times: Tensor, method: str = "euler",
               callback: Callable[[float, Tensor], object] | None = None) -> Tensor:
    """Follow dx/dt = velocity(x, t) from `start` at times[0] to times[-1] -> x there, (B, ...).

    times (K + 1,), rising from noise to data or falling back: see `times`. "euler" asks for K
    velocities and errs by O(1 / K); "heun" asks for 2 K, but never ahead at t = 1, and errs by
    O(1 / K^2) (Karras et al. 2022, alg. 1). callback(t, x) sees every x, the first and the last.
    """
    arguments.choice("method", method, METHODS)
    x, stops = start, _stops(times)
    for t, after in zip(stops, stops[1:]):
        if callback is not None:
            callback(t, x)
        u = velocity(x, t)
        if method == "heun" and after < 1:
            u = (u + velocity(x + (after - t) * u, after)) / 2
        x = x + (after - t) * u
    if callback is not None:
        callback(stops[-1], x)
    return x


def log_likelihood(velocity: Velocity, x: Tensor, times: Tensor, *, probes: int | None = None,
                   generator: torch.Generator | None = None) -> Tensor:
    """log p(x) in nats, where the ODE carries N(0, I) from times[0] to p at times[-1] -> (B,).

    x (B, ...), result float64. d log p(x_t) / dt = -div u (Chen et al. 2018, theorem 1), followed
    back by Heun's steps. probes None takes the exact divergence, one backward pass a dimension;
    a number, Hutchinson's estimate by that many random signs an image, the same at every step and
    right on average (Grathwohl et al. 2019).
    """
    signs = None
    if probes is not None:
        arguments.whole("probes", probes)
        draw = diffusion._draw((probes, *x.shape), x.device, generator, torch.rand)
        signs = torch.where(draw < 0.5, -1.0, 1.0).to(x.dtype)
    stops = _stops(times.flip(0))
    gained = torch.zeros(len(x), dtype=torch.float64, device=x.device)
    for t, before in zip(stops, stops[1:]):
        u, div = _divergence(velocity, x, t, signs)
        u_before, div_before = _divergence(velocity, x + (before - t) * u, before, signs)
        x = x + (before - t) * (u + u_before) / 2
        gained += (before - t) * (div + div_before) / 2
    return gained - 0.5 * (x.double() ** 2 + math.log(2 * math.pi)).flatten(1).sum(1)


def _divergence(velocity: Velocity, x: Tensor, t: float,
                signs: Tensor | None) -> tuple[Tensor, Tensor]:
    """The velocity (B, ...) at x, and the trace of its Jacobian there, float64 (B,)."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        u = velocity(x, t)
        if signs is None:
            rows = enumerate(u.flatten(1).sum(0))
            parts = [torch.autograd.grad(row, x, retain_graph=True)[0].flatten(1)[:, i]
                     for i, row in rows]
            return u.detach(), torch.stack(parts).double().sum(0)
        parts = [torch.autograd.grad(u, x, e, retain_graph=True)[0] * e for e in signs]
    return u.detach(), torch.stack(parts).double().flatten(2).sum(2).mean(0)


# --- helpers --------------------------------------------------------------------------------------


_over = diffusion._over


def _output(model: diffusion.Model, x_t: Tensor, k: Tensor, y: Tensor | None) -> Tensor:
    """What a network says at real-valued steps; without labels, with its own "no label"."""
    null = getattr(model, "null", None)
    if y is None and null is not None:
        y = torch.full((len(x_t),), null, device=x_t.device)
    return diffusion._output(model, x_t, k, y)


def _times(t: Time, x: Tensor) -> Tensor:
    """t as float64 (B,).  Raises ValueError for times outside [0, 1] or of another shape."""
    t = torch.as_tensor(t, dtype=torch.float64, device=x.device)
    t = t.expand(len(x)) if t.ndim == 0 else t
    if t.shape != x.shape[:1]:
        raise ValueError(f"t is {tuple(t.shape)}: give one number, or one a datum, ({len(x)},)")
    if runtime.readable(t) and not ((t >= 0) & (t <= 1)).all():
        raise ValueError(f"t holds {t.min():g}..{t.max():g}: it goes from 0, noise, to 1, data; "
                         "time_of_step(k, schedule) turns a step into a time")
    return t


def _weights(t: Time, x: Tensor, path: str, **like_x: Tensor) -> tuple[Tensor, Tensor]:
    """The weights (B, 1, ...) of data and of noise in x_t, after a look at shapes and types."""
    arguments.choice("path", path, PATHS)
    if not x.is_floating_point():
        raise TypeError(f"data must be float, got {x.dtype}: convert uint8 with x.float() / 255")
    for name, tensor in like_x.items():
        if tensor.shape != x.shape:
            raise ValueError(f"{name} is {tuple(tensor.shape)}, the data are {tuple(x.shape)}")
    t = _times(t, x)
    length = (t**2 + (1 - t) ** 2).sqrt() if path == "preserving" else torch.ones_like(t)
    return _over(t / length, x), _over((1 - t) / length, x)


def _stops(times: Tensor) -> list[float]:
    """times as a list.  Raises ValueError for fewer than two, or an order that turns back."""
    gaps = times.diff() if times.ndim == 1 else times.new_zeros(0)
    if len(gaps) == 0 or not ((gaps > 0).all() or (gaps < 0).all()):
        raise ValueError(f"times {tuple(times.shape)} must be two or more numbers that only rise, "
                         "or only fall, as flow_matching.times(20) do")
    return times.tolist()
