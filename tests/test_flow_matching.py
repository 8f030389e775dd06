"""Straight paths against closed forms, chapter 8's engine, brute force, and `diffusers`.

The marginal velocity of Gaussian data and of a mixture is derived here anew, in numpy and float64, from
E[x - eps | x_t] of jointly Gaussian x, eps and x_t; the engine's formulas are not used for it.
"""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn

from genmed_core import diffusion, nets
from genmed_core import flow_matching as flow
from genmed_core.diffusion import Schedule


def images(B=3, shape=(1, 4, 4), seed=0, dtype=torch.float64, n=2):
    g = torch.Generator().manual_seed(seed)
    return [torch.randn(B, *shape, generator=g, dtype=dtype) for _ in range(n)]


def gaussian_velocity(mean, spread):
    """E[x - eps | x_t] for x ~ N(mean, spread^2) in every dimension."""

    def velocity(x_t, t, y=None):
        var = t**2 * spread**2 + (1 - t) ** 2            # Var x_t
        cov = t * spread**2 - (1 - t)                    # Cov(x - eps, x_t)
        return mean + cov / var * (x_t - t * mean)

    return velocity


def mixture_velocity(means, spreads, weights):
    """The same for a mixture of Gaussians in d dimensions: means (K, d); spreads, weights (K,)."""
    m, s, w = (torch.as_tensor(v, dtype=torch.float64) for v in (means, spreads, weights))

    def velocity(x_t, t, y=None):
        var = t**2 * s**2 + (1 - t) ** 2                                             # (K,)
        off = x_t.double()[:, None, :] - t * m                                       # (B, K, d)
        log_r = w.log() - 0.5 * off.square().sum(-1) / var - 0.5 * m.shape[1] * var.log()
        each = m + ((t * s**2 - (1 - t)) / var)[:, None] * off
        return (log_r.softmax(1)[..., None] * each).sum(1).to(x_t.dtype)

    return velocity


def log_mixture(x, means, spreads, weights):
    x, m, s = np.asarray(x)[:, None, :], np.asarray(means), np.asarray(spreads)
    d = m.shape[1]
    log_p = np.log(weights) - 0.5 * ((x - m) ** 2).sum(-1) / s**2 - d * np.log(s) - d / 2 * math.log(2 * math.pi)
    return np.log(np.exp(log_p).sum(1))


TWO = ([[-1.0], [0.8]], [0.3, 0.2], [0.35, 0.65])
PLANE = ([[-1.0, 0.5], [0.8, -0.3]], [0.4, 0.3], [0.4, 0.6])


# --- the path ---------------------------------------------------------------------------------------------


def test_the_path_goes_straight_from_noise_to_data():
    x, eps = images()
    for t in (0.0, 0.3, 1.0, torch.tensor([0.0, 0.25, 1.0])):
        expected = torch.stack([s * x[i] + (1 - s) * eps[i] for i, s in enumerate(torch.as_tensor(t).expand(3))])
        torch.testing.assert_close(flow.interpolate(x, eps, t), expected.double())
    assert torch.equal(flow.interpolate(x, eps, 1.0), x) and torch.equal(flow.interpolate(x, eps, 0.0), eps)
    step = (flow.interpolate(x, eps, 0.6) - flow.interpolate(x, eps, 0.5)) / 0.1
    torch.testing.assert_close(step, flow.velocity_target(x, eps))
    assert flow.interpolate(x.bfloat16(), eps.bfloat16(), 0.5).dtype == torch.float32


def test_regression_on_the_target_finds_the_marginal_velocity():
    """At one t, the least-squares line of x - eps on x_t is the closed form used in the tests below."""
    g = torch.Generator().manual_seed(0)
    x, eps = 0.5 + 0.6 * torch.randn(400_000, 1, generator=g, dtype=torch.float64), torch.randn(
        400_000, 1, generator=g, dtype=torch.float64)
    for t in (0.0, 0.3, 0.8):
        x_t, u = flow.interpolate(x, eps, t), flow.velocity_target(x, eps)
        slope = ((x_t - x_t.mean()) * u).mean() / x_t.var()
        for at in (-1.0, 0.7):
            line = u.mean() + slope * (at - x_t.mean())
            assert float(line) == pytest.approx(float(gaussian_velocity(0.5, 0.6)(at, t)), abs=0.02)


@pytest.mark.parametrize("labels", [None, [0, 1, 0, 1, 1, 0]])
def test_coupling_is_the_best_of_all_permutations(labels):
    y = None if labels is None else torch.tensor(labels)
    for seed in range(5):
        x, eps = images(B=6, shape=(2,), seed=seed, dtype=torch.float32)
        costs = {}
        for order in itertools.permutations(range(6)):
            if labels is None or all(labels[i] == labels[j] for i, j in enumerate(order)):
                costs[order] = float((x - eps[list(order)]).square().sum())
        best = min(costs, key=costs.get)
        assert torch.equal(flow.optimal_coupling(x, eps, labels=y), eps[list(best)])


# --- one table for eps, x0, v and velocity ----------------------------------------------------------------


@pytest.mark.parametrize("predicts", flow.PREDICTS)
@pytest.mark.parametrize("path", flow.PATHS)
def test_every_output_tells_the_same_pair(path, predicts):
    t = torch.tensor([0.01, 0.4, 0.99], dtype=torch.float64)
    x, eps = images()
    x_t = flow.interpolate(x, eps, t)
    if path == "preserving":
        x_t = x_t / (t**2 + (1 - t) ** 2).sqrt().view(-1, 1, 1, 1)
    output = flow.target(x, eps, t, predicts=predicts)
    x0_hat, eps_hat = flow.predict(output, x_t, t, predicts=predicts, path=path)
    torch.testing.assert_close(x0_hat, x, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(eps_hat, eps, rtol=1e-9, atol=1e-9)
    u = flow.to_velocity(output, x_t, t, predicts=predicts, path=path)
    torch.testing.assert_close(u, x - eps, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("schedule", [Schedule.linear(), Schedule.cosine(), Schedule.cosine(50)], ids=repr)
@pytest.mark.parametrize("predicts", diffusion.PREDICTS)
def test_the_table_is_that_of_the_diffusion_engine(schedule, predicts):
    """In float32, with outputs that are no true eps, x0 or v, to 1e-5 of the larger number."""
    T = schedule.T
    k = torch.tensor([0, 1, T // 3, T // 2, T - 3])
    x0, eps, output = images(B=5, n=3, dtype=torch.float32)
    t, z = flow.time_of_step(k, schedule), diffusion.q_sample(x0, k, eps, schedule)
    torch.testing.assert_close(flow.target(x0, eps, t, predicts=predicts),
                               diffusion.target(x0, eps, k, schedule, predicts=predicts), rtol=1e-5, atol=1e-5)
    pair = diffusion.predict(output, z, k, schedule, predicts=predicts)
    for ours, theirs in zip(flow.predict(output, z, t, predicts=predicts, path="preserving"), pair):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    length = (t**2 + (1 - t) ** 2).sqrt().view(-1, 1, 1, 1)
    straight = flow.to_velocity(output, (z * length).float(), t, predicts=predicts)
    torch.testing.assert_close(straight, pair[0] - pair[1], rtol=2e-5, atol=1e-5)


def test_v_is_the_velocity_of_the_preserving_path_by_its_angle():
    """With angle phi = atan(noise / signal), z = cos(phi) x + sin(phi) eps, and v = dz / dphi."""
    x, eps = images()
    for phi in (0.2, 0.9, 1.4):
        t, d = math.cos(phi) / (math.cos(phi) + math.sin(phi)), 1e-6
        z = [math.cos(p) * x + math.sin(p) * eps for p in (phi - d, phi + d)]
        torch.testing.assert_close(flow.target(x, eps, t, predicts="v"), (z[1] - z[0]) / (2 * d), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("schedule", [Schedule.linear(), Schedule.cosine(), Schedule.cosine(50)], ids=repr)
def test_times_and_steps_are_inverse_and_keep_the_ratio(schedule):
    k = torch.arange(schedule.T)
    t = flow.time_of_step(k, schedule)
    _, _, alpha_bar, v = schedule.at(k)
    torch.testing.assert_close((t / (1 - t)) ** 2, alpha_bar / v, rtol=1e-9, atol=0)
    real = torch.linspace(-1, schedule.T - 1, 997, dtype=torch.float64)
    torch.testing.assert_close(flow.step_of_time(flow.time_of_step(real, schedule), schedule), real, rtol=0, atol=1e-6)
    assert (flow.time_of_step(real, schedule).diff() < 0).all() and flow.time_of_step(-1, schedule) == 1
    assert flow.step_of_time(0.0, schedule) == schedule.T - 1 and flow.step_of_time(1.0, schedule) == -1


def best_v(schedule, mean, spread):
    """The best v of N(mean, spread^2) at real-valued steps of a cosine schedule, by its definition in cosines."""

    def model(z, k, y):
        f = torch.cos(((k + 1) / schedule.T + 0.008) / 1.008 * math.pi / 2) / math.cos(0.008 / 1.008 * math.pi / 2)
        a, s = f.view(-1, 1), (1 - f**2).sqrt().view(-1, 1)
        x0 = mean + a * spread**2 / (a**2 * spread**2 + s**2) * (z - a * mean)
        return a * (z - a * x0) / s - s * x0

    return model


def test_a_diffusion_network_gives_the_closed_velocity_between_its_steps():
    schedule, x = Schedule.cosine(), torch.linspace(-2, 2, 9, dtype=torch.float64)[:, None]
    velocity = flow.from_diffusion(best_v(schedule, 0.5, 0.6), schedule)
    for t, error in ((0.003, 1e-5), (0.1234, 1e-5), (0.5, 1e-5), (0.77, 1e-5), (0.99, 5e-4)):  # steps there are coarse
        torch.testing.assert_close(velocity(x, t), gaussian_velocity(0.5, 0.6)(x, t), rtol=0, atol=error)
    assert velocity(x, 0.0).isfinite().all() and velocity(x, 1.0).isfinite().all()


@pytest.mark.parametrize("predicts", diffusion.PREDICTS)
@pytest.mark.parametrize("clip", [None, (-1.0, 1.0)])
def test_eulers_steps_are_ddims(predicts, clip):
    """The same network, the same stops: `diffusion.sample` and Euler on the straight path give the same images."""
    schedule, (z,) = Schedule.cosine(), images(n=1)

    def model(z, k, y):
        return torch.tanh(z * (1 + k.view(-1, 1, 1, 1) / 500)) - 0.3

    stops = torch.tensor([900, 700, 400, 150, 20, 0])
    x, ks = z, [*stops.tolist(), -1]
    for k, k_prev in itertools.pairwise(ks):
        at = torch.full((len(x),), k)
        x0_hat, eps_hat = diffusion.predict(model(x, at, None), x, at, schedule, predicts=predicts, clip=clip)
        x = diffusion._ddim(x0_hat, eps_hat, at, torch.full_like(at, k_prev), schedule, 0.0, None)
    velocity = flow.from_diffusion(model, schedule, predicts=predicts)
    velocity = velocity if clip is None else flow.clipped(velocity, *clip)
    t = flow.time_of_step(torch.tensor(ks), schedule)
    start = z * (t[0] ** 2 + (1 - t[0]) ** 2).sqrt()
    torch.testing.assert_close(flow.ode_sample(velocity, start, t), x, rtol=1e-5, atol=1e-5)


def test_a_network_is_told_where_noise_is_and_labels_default_to_its_own_null():
    torch.manual_seed(0)
    unet = nets.UNet(widths=(8, 16), embedding=16, heads=2).eval()
    nn.init.normal_(unet.leave[2].weight)
    x, y = images(shape=(1, 28, 28), n=1, dtype=torch.float32)[0], torch.tensor([1, 2, 3])
    velocity = flow.from_network(unet)
    for k in (0, 412, 999):
        torch.testing.assert_close(velocity(x, 1 - (k + 1) / 1000, y), unet(x, torch.full((3,), k), y))
    torch.testing.assert_close(velocity(x, 0.5), velocity(x, 0.5, torch.full((3,), 10)))
    torch.testing.assert_close(velocity(x, 1.0, y), velocity(x, 0.999, y))
    u = flow.guided(velocity, y, null=10, guidance=2.5, between=(0.25, 1.0))
    plain, without = velocity(x, 0.5, y), velocity(x, 0.5)
    torch.testing.assert_close(u(x, 0.5), without + 2.5 * (plain - without), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(u(x, 0.2), velocity(x, 0.2, y))
    converted = flow.from_diffusion(unet, Schedule.cosine())
    assert converted(x, 0.3).shape == converted(x, 0.3, y).shape == x.shape


# --- the ODE ----------------------------------------------------------------------------------------------


def test_times_rise_from_noise_to_data_and_a_shift_moves_them_to_the_noise():
    torch.testing.assert_close(flow.times(4), torch.tensor([0, 0.25, 0.5, 0.75, 1], dtype=torch.float64))
    for shift in (0.5, 3.0):
        t = flow.times(10, shift)
        assert t[0] == 0 and t[-1] == 1 and (t.diff() > 0).all() and ((t < flow.times(10))[1:-1] == (shift > 1)).all()


def exact_gaussian_map(start, mean, spread, t=1.0):
    """The ODE keeps each point's distance from the mean in standard deviations, since the field is affine."""
    return t * mean + math.sqrt(t**2 * spread**2 + (1 - t) ** 2) * start


@pytest.mark.parametrize("method, order, least", [("euler", 1, 0.85), ("heun", 2, 1.8)])
def test_solvers_have_their_order(method, order, least):
    start = torch.linspace(-2, 2, 5, dtype=torch.float64)[:, None]
    exact = exact_gaussian_map(start, 0.5, 0.6)
    errors = [float((flow.ode_sample(gaussian_velocity(0.5, 0.6), start, flow.times(n), method) - exact).abs().max())
              for n in (20, 40, 80, 160)]
    orders = [math.log2(a / b) for a, b in itertools.pairwise(errors)]
    assert all(least < p < order + 0.4 for p in orders), orders


def test_there_and_back_and_every_point_on_the_way():
    start, seen = torch.linspace(-2, 2, 5, dtype=torch.float64)[:, None], []
    velocity = gaussian_velocity(0.5, 0.6)
    x = flow.ode_sample(velocity, start, flow.times(400), "heun", callback=lambda t, x: seen.append((t, x)))
    assert len(seen) == 401 and seen[0][0] == 0 and seen[-1][0] == 1 and torch.equal(seen[-1][1], x)
    for t, on_the_way in seen[::100]:
        torch.testing.assert_close(on_the_way, exact_gaussian_map(start, 0.5, 0.6, t), rtol=0, atol=1e-4)
    back = flow.ode_sample(velocity, x, flow.times(400).flip(0), "heun")
    torch.testing.assert_close(back, start, rtol=0, atol=1e-4)


def test_heun_never_asks_at_the_end_and_calls_once_less():
    asked = []

    def velocity(x, t):
        asked.append(float(t))
        return x

    flow.ode_sample(velocity, torch.ones(2, 3), flow.times(4), "heun")
    assert len(asked) == 7 and max(asked) == 0.75
    flow.ode_sample(velocity, torch.ones(2, 3), flow.times(4))
    assert asked[7:] == [0, 0.25, 0.5, 0.75]


def test_a_mixture_is_sampled_with_its_quantiles():
    """In one dimension the flow keeps the order, so quantile goes to quantile: no chance is involved."""
    level = torch.linspace(0.02, 0.98, 49, dtype=torch.float64)
    x = flow.ode_sample(mixture_velocity(*TWO), torch.special.ndtri(level)[:, None], flow.times(500), "heun")
    cdf = sum(w * torch.special.ndtr((x[:, 0] - m[0]) / s) for m, s, w in zip(*TWO))
    torch.testing.assert_close(cdf, level, rtol=0, atol=1e-3)


# --- likelihood -------------------------------------------------------------------------------------------


def test_likelihood_of_a_gaussian_and_of_mixtures_in_closed_form():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(40, 3, generator=g, dtype=torch.float64)
    expected = -0.5 * (((x - 0.5) / 0.6) ** 2 + math.log(2 * math.pi * 0.36)).sum(1)
    got = flow.log_likelihood(gaussian_velocity(0.5, 0.6), x, flow.times(300))
    assert got.dtype == torch.float64
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-3)
    for mixture in (TWO, PLANE):
        d = len(mixture[0][0])
        x = 1.2 * torch.randn(40, d, generator=g, dtype=torch.float64).clamp(-1.2, 1.2)
        got = flow.log_likelihood(mixture_velocity(*mixture), x, flow.times(500))
        np.testing.assert_allclose(got.numpy(), log_mixture(x, *mixture), atol=1e-2)


def test_the_density_of_any_velocity_integrates_to_one():
    def velocity(x, t):
        return torch.sin(2 * x + t) * (1 + x.flip(1)) / 3

    axis = torch.linspace(-6, 6, 121, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    p = flow.log_likelihood(velocity, grid, flow.times(40)).exp()
    assert float(p.sum()) * float(axis[1] - axis[0]) ** 2 == pytest.approx(1, abs=2e-3)


def test_hutchinsons_estimate_is_right_on_average_and_exact_for_diagonal_jacobians():
    x = torch.randn(30, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    options = {"x": x, "times": flow.times(20)}
    exact = flow.log_likelihood(gaussian_velocity(0.1, 0.5), **options)
    torch.testing.assert_close(flow.log_likelihood(gaussian_velocity(0.1, 0.5), **options, probes=1), exact)
    velocity = mixture_velocity(*PLANE)
    exact = flow.log_likelihood(velocity, **options)

    def estimate(probes, seed):
        return flow.log_likelihood(velocity, **options, probes=probes, generator=torch.Generator().manual_seed(seed))

    one, many = estimate(1, 0), estimate(200, 0)
    assert (one - exact).abs().max() > 0.01 and (many - exact).abs().mean() < 0.1 * (one - exact).abs().mean()
    assert torch.equal(one, estimate(1, 0)) and not torch.equal(one, estimate(1, 1))


def test_a_likelihood_leaves_no_gradients_behind():
    layer = nn.Linear(2, 2)
    x = torch.randn(4, 2)
    got = flow.log_likelihood(lambda x, t: layer(x), x, flow.times(3), probes=2)
    assert not got.requires_grad and not x.requires_grad and layer.weight.grad is None
    assert not flow.ode_sample(lambda x, t: layer(x), x, flow.times(3)).requires_grad
    flow.velocity_target(x, layer(x)).square().mean().backward()
    assert layer.weight.grad is not None


# --- bad input --------------------------------------------------------------------------------------------

X, E = images(dtype=torch.float32)


def still(x, t, y=None):
    return torch.zeros_like(x)


@pytest.mark.parametrize("call, said", [
    (lambda: flow.interpolate(X, E[:2], 0.5), r"eps is \(2, 1, 4, 4\), the data are \(3, 1, 4, 4\)"),
    (lambda: flow.interpolate(X, E, 1.1), "t holds 1.1..1.1: it goes from 0, noise, to 1, data; time_of_step"),
    (lambda: flow.interpolate(X, E, -0.1), "t holds -0.1"), (lambda: flow.interpolate(X, E, math.nan), "t holds nan"),
    (lambda: flow.interpolate(X, E, torch.rand(2)), r"t is \(2,\): give one number, or one a datum, \(3,\)"),
    (lambda: flow.interpolate(X.byte(), E, 0.5), "data must be float, got torch.uint8"),
    (lambda: flow.velocity_target(X, E[0]), "eps is"), (lambda: flow.optimal_coupling(X, E[:1]), "eps is"),
    (lambda: flow.optimal_coupling(X, E, labels=torch.zeros(2)), r"labels are \(2,\): give one a datum, \(3,\)"),
    (lambda: flow.target(X, E, 0.5, predicts="u"), "predicts='u': choose from eps, x0, v, velocity"),
    (lambda: flow.predict(X, E, 0.5, path="vp"), "path='vp': choose from straight, preserving"),
    (lambda: flow.predict(X, E, 0.0, predicts="eps"), "predicts eps does not tell the velocity at t = 0: begin later"),
    (lambda: flow.predict(X, E, 1.0, predicts="x0"), "predicts x0 does not tell the velocity at t = 1: end sooner"),
    (lambda: flow.time_of_step(1000, Schedule.cosine()), "k holds 1000..1000: steps go from -1, the image, to 999"),
    (lambda: flow.time_of_step(3, Schedule.simple()), "does not keep the variance: give Schedule.linear"),
    (lambda: flow.from_diffusion(still, Schedule.cosine(), predicts="velocity"), "choose from eps, x0, v"),
    (lambda: flow.from_diffusion(still, Schedule.simple()), "does not keep the variance"),
    (lambda: flow.from_network(lambda x, k, y: x[:1])(X, 0.5), "the model returned torch.Size"),
    (lambda: flow.from_network(still, T=0), "T=0: give a whole number, 1 or more"),
    (lambda: flow.guided(still, torch.zeros(3).long(), null=10, between=(1, 0)), "between="),
    (lambda: flow.clipped(still, 1, -1), "low < high"),
    (lambda: flow.times(0), "steps=0: give a whole number, 1 or more"), (lambda: flow.times(4, 0.0), "shift=0.0"),
    (lambda: flow.ode_sample(still, X, flow.times(4), "rk4"), "method='rk4': choose from euler, heun"),
    (lambda: flow.ode_sample(still, X, torch.tensor([0.0])), "two or more numbers that only rise"),
    (lambda: flow.ode_sample(still, X, torch.tensor([0.0, 0.5, 0.4])), "only rise"),
    (lambda: flow.log_likelihood(still, X, flow.times(4), probes=0), "probes=0"),
    (lambda: flow.log_likelihood(still, X, flow.times(4), probes=1, generator=3), "generator=3: give torch.Generator"),
])
def test_what_is_wrong_is_named_with_a_remedy(call, said):
    with pytest.raises((ValueError, TypeError), match=said):
        call()


# --- against diffusers (not a requirement: skipped where it is not installed) -----------------------------


@pytest.mark.parametrize("shift", [1.0, 3.0])
@pytest.mark.parametrize("steps", [1, 4, 20])
def test_diffusers_euler_steps(steps, shift):
    """Their noise level is 1 - t and their model predicts eps - x; theirs shifts the levels that it is given."""
    schedulers = pytest.importorskip("diffusers").schedulers
    theirs = schedulers.FlowMatchEulerDiscreteScheduler(shift=shift)
    theirs.set_timesteps(sigmas=(1 - flow.times(steps)[:-1]).tolist())
    start = images(B=4, dtype=torch.float32, n=1)[0]
    ours_at = flow.times(steps, shift)
    torch.testing.assert_close(1 - ours_at, theirs.sigmas.double(), rtol=0, atol=1e-6)

    def velocity(x, t):
        return torch.sin(2 * x + 3 * float(t)) - 0.5 * x

    x = start
    for k in theirs.timesteps:
        x = theirs.step(-velocity(x, 1 - float(k) / 1000), k, x).prev_sample
    torch.testing.assert_close(flow.ode_sample(velocity, start, ours_at), x, rtol=0, atol=1e-5)


def test_diffusers_noising():
    schedulers = pytest.importorskip("diffusers").schedulers
    theirs, (x, eps) = schedulers.FlowMatchEulerDiscreteScheduler(), images(B=4, dtype=torch.float32)
    k = theirs.timesteps[torch.tensor([0, 100, 500, 998])]
    torch.testing.assert_close(flow.interpolate(x, eps, 1 - k / 1000), theirs.scale_noise(x, k, eps), rtol=0, atol=1e-5)
