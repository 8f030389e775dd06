"""The diffusion engine against closed forms, brute force, a model that is known exactly, and `diffusers`.

References here are derived in float64 with numpy from the papers' definitions, without the engine's code.
"""

import math

import numpy as np
import pytest
import torch
from torch import nn

from genmed_core import diffusion
from genmed_core.diffusion import Schedule

SCHEDULES = {
    "linear": Schedule.linear, "cosine": Schedule.cosine, "simple": Schedule.simple,
    "cosine50": lambda: Schedule.cosine(T=50), "simple400": lambda: Schedule.simple(T=400, sigma=0.075),
}
VP = ("linear", "cosine", "cosine50")


@pytest.fixture(params=SCHEDULES)
def name(request):
    return request.param


def reference(name):
    """beta, scale (of x0) and noise variance of every step by definition, one step after the other."""
    if name.startswith("simple"):
        T, sigma = (25, 0.3) if name == "simple" else (400, 0.075)
        beta, shrink = np.full(T, sigma**2), np.ones(T)
    elif name == "linear":
        beta = np.array([1e-4 + (0.02 - 1e-4) * i / 999 for i in range(1000)])
        shrink = np.sqrt(1 - beta)
    else:
        T = 50 if name == "cosine50" else 1000

        def f(t):
            return math.cos((t / T + 0.008) / 1.008 * math.pi / 2) ** 2

        beta = np.array([min(1 - f(t) / f(t - 1), 0.999) for t in range(1, T + 1)])
        shrink = np.sqrt(1 - beta)
    scale, var = [], []
    a, v = 1.0, 0.0
    for b, r in zip(beta, shrink):
        a, v = a * r, r * r * v + b
        scale.append(a)
        var.append(v)
    return beta, np.array(scale), np.array(var)


def some_steps(T):
    return sorted({0, 1, 2, T // 3, T // 2, T - 2, T - 1})


def images(B=3, shape=(1, 4, 4), seed=0, dtype=torch.float64, n=2):
    g = torch.Generator().manual_seed(seed)
    return [torch.randn(B, *shape, generator=g, dtype=dtype) for _ in range(n)]


def full(t, x):
    return torch.full((len(x),), t)


# --- schedules --------------------------------------------------------------------------------------------


def test_schedules_match_their_definitions(name):
    s = SCHEDULES[name]()
    beta, scale, var = reference(name)
    for tensor, expected in [(s.beta, beta), (s.alpha_bar, scale**2), (s.noise_var, var),
                             (s.alpha, 1 - beta if name in VP else np.ones_like(beta))]:
        assert tensor.shape == (s.T,) and tensor.dtype == torch.float32
        np.testing.assert_allclose(tensor.double().numpy(), expected, rtol=1e-6, atol=0)


def test_variance_is_preserved_in_ddpm_and_explodes_in_simple_diffusion():
    for make in (Schedule.linear, Schedule.cosine):
        _, _, alpha_bar, v = make().at(torch.arange(1000))
        torch.testing.assert_close(alpha_bar + v, torch.ones(1000, dtype=torch.float64), rtol=0, atol=1e-13)
    s = Schedule.simple(T=25, sigma=0.3)
    torch.testing.assert_close(s.noise_var, 0.09 * torch.arange(1, 26), rtol=1e-6, atol=0)
    assert (s.alpha_bar == 1).all() and s.prior_std == pytest.approx(0.3 * 5)


def test_known_values():
    assert float(Schedule.linear().alpha_bar[-1]) == pytest.approx(4.0358e-5, rel=1e-4)
    assert float(Schedule.cosine().beta[-1]) == pytest.approx(0.999)
    assert "T=1000" in repr(Schedule.linear())


def test_to_moves_every_tensor_and_leaves_the_original():
    s = Schedule.linear(T=10)
    moved = s.to("meta")
    assert {moved.beta.device.type, moved.noise_var.device.type, moved.device.type} == {"meta"}
    assert s.device.type == "cpu" and moved.T == 10


@pytest.mark.parametrize("make", [
    lambda: Schedule.linear(T=0), lambda: Schedule.cosine(T=2.5), lambda: Schedule.simple(sigma=0.0),
    lambda: Schedule.linear(beta_end=1.0), lambda: Schedule.linear(beta_start=0.0), lambda: Schedule([]),
    lambda: Schedule([[0.1]]), lambda: Schedule([0.1], [0.9, 0.9]), lambda: Schedule([0.1], [1.1]),
])
def test_impossible_schedules_are_refused(make):
    with pytest.raises(ValueError):
        make()


# --- forward process and posterior ------------------------------------------------------------------------


def test_q_sample_is_the_closed_form(name):
    s, (_, scale, var) = SCHEDULES[name](), reference(name)
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-6)):
        x0, eps = images(B=len(some_steps(s.T)), dtype=dtype)
        t = torch.tensor(some_steps(s.T))
        x_t = diffusion.q_sample(x0, t, eps, s)
        assert x_t.dtype == dtype
        for i, k in enumerate(some_steps(s.T)):
            expected = scale[k] * x0[i].double() + math.sqrt(var[k]) * eps[i].double()
            torch.testing.assert_close(x_t[i].double(), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", ["simple", "cosine50"])
def test_walking_step_by_step_has_the_distribution_of_the_closed_form(name):
    """Coefficients exactly; then both ways drawn, compared at several steps by their quantiles."""
    s, (_, scale, var) = SCHEDULES[name](), reference(name)
    g = torch.Generator().manual_seed(1)
    n = 20_000
    x0 = 0.7 * torch.ones(n, 1, dtype=torch.float64)
    walked, clean, variance = x0, 1.0, 0.0
    for t in range(s.T):
        noise = torch.randn(n, 1, generator=g, dtype=torch.float64)
        beta, alpha, _, _ = map(float, s.at(t))
        shrink, added = math.sqrt(alpha), math.sqrt(beta)
        clean, variance = shrink * clean, shrink**2 * variance + added**2
        assert clean == pytest.approx(scale[t], rel=1e-12) and variance == pytest.approx(var[t], rel=1e-12)
        walked = shrink * walked + added * noise
        if t in (0, s.T // 2, s.T - 1):
            fresh = torch.randn(n, 1, generator=g, dtype=torch.float64)
            jumped = diffusion.q_sample(x0, full(t, x0), fresh, s)
            both = torch.stack([walked.flatten().sort().values, jumped.flatten().sort().values])
            cdf = [torch.searchsorted(row, both.flatten(), right=True) / n for row in both]
            # Kolmogorov and Smirnov's test, at p = 0.001
            assert float((cdf[0] - cdf[1]).abs().max()) < 1.95 * math.sqrt(2 / n)


def test_q_posterior_is_bayes_rule_on_a_grid(name):
    """Multiply q(x_t | x_{t-1}) by q(x_{t-1} | x_0) on a fine grid and read off mean and variance."""
    s, (beta, scale, var) = SCHEDULES[name](), reference(name)
    x0, x_t = 0.8, -0.4
    for t in some_steps(s.T)[1:]:
        shrink = scale[t] / scale[t - 1]
        precision = 1 / var[t - 1] + shrink**2 / beta[t]
        middle = (scale[t - 1] * x0 / var[t - 1] + shrink * x_t / beta[t]) / precision
        grid = middle + np.linspace(-10, 10, 20_001) / math.sqrt(precision)
        log_p = -((x_t - shrink * grid) ** 2) / (2 * beta[t])
        log_p -= (grid - scale[t - 1] * x0) ** 2 / (2 * var[t - 1])
        p = np.exp(log_p - log_p.max())
        p /= p.sum()
        mean = (p * grid).sum()
        a, b = (torch.full((1, 1), value, dtype=torch.float64) for value in (x0, x_t))
        got_mean, got_var = diffusion.q_posterior(a, b, full(t, a), s)
        assert float(got_mean) == pytest.approx(mean, rel=1e-9, abs=1e-9)
        assert float(got_var) == pytest.approx((p * (grid - mean) ** 2).sum(), rel=1e-9)


def test_q_posterior_of_ddpm_is_equation_7():
    beta, scale, _ = reference("linear")
    alpha_bar, (x0, x_t) = scale**2, images()
    for t in some_steps(1000)[1:]:
        mean, var = diffusion.q_posterior(x0, x_t, full(t, x0), Schedule.linear())
        ratio = (1 - alpha_bar[t - 1]) / (1 - alpha_bar[t])
        from_x0 = math.sqrt(alpha_bar[t - 1]) * beta[t] / (1 - alpha_bar[t])
        expected = from_x0 * x0 + math.sqrt(1 - beta[t]) * ratio * x_t
        torch.testing.assert_close(mean, expected, rtol=1e-10, atol=1e-10)
        assert var.shape == (3, 1, 1, 1) and float(var[0]) == pytest.approx(ratio * beta[t], rel=1e-10)


def test_posterior_at_the_first_step_is_the_clean_image(name):
    x0, x_t = images(dtype=torch.float32)
    mean, var = diffusion.q_posterior(x0, x_t, full(0, x0), SCHEDULES[name]())
    torch.testing.assert_close(mean, x0, rtol=1e-7, atol=0)
    assert (var == 0).all()


# --- eps, x0, v -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("predicts", diffusion.PREDICTS)
def test_predict_undoes_target(name, predicts):
    s = SCHEDULES[name]()
    x0, eps = images(B=len(some_steps(s.T)))
    t = torch.tensor(some_steps(s.T))
    x_t = diffusion.q_sample(x0, t, eps, s)
    output = diffusion.target(x0, eps, t, s, predicts=predicts)
    x0_hat, eps_hat = diffusion.predict(output, x_t, t, s, predicts=predicts)
    torch.testing.assert_close(x0_hat, x0, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(eps_hat, eps, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(diffusion.q_sample(x0_hat, t, eps_hat, s), x_t)


def test_v_is_that_of_salimans_and_ho():
    _, scale, var = reference("cosine")
    x0, eps = images()
    for t in some_steps(1000):
        v = diffusion.target(x0, eps, full(t, x0), Schedule.cosine(), predicts="v")
        torch.testing.assert_close(v, scale[t] * eps - math.sqrt(var[t]) * x0)


@pytest.mark.parametrize("predicts", diffusion.PREDICTS)
def test_clip_limits_x0_and_keeps_the_pair_consistent(predicts):
    (x0, eps), s = images(), Schedule.cosine()
    t = torch.tensor([0, 400, 998])
    x_t = diffusion.q_sample(x0, t, eps, s)
    output = diffusion.target(x0, eps, t, s, predicts=predicts)
    x0_hat, eps_hat = diffusion.predict(output, x_t, t, s, predicts=predicts, clip=(-0.5, 0.5))
    torch.testing.assert_close(x0_hat, x0.clamp(-0.5, 0.5), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(diffusion.q_sample(x0_hat, t, eps_hat, s), x_t)


def test_a_bf16_network_output_is_read_in_float32():
    s, (x_t, output) = Schedule.cosine(), images(dtype=torch.float32)
    for predicts in diffusion.PREDICTS[::2]:
        x0_hat, _ = diffusion.predict(output.bfloat16(), x_t, 500, s, predicts=predicts)
        assert x0_hat.dtype == torch.float32
    assert diffusion.q_sample(x_t.bfloat16(), 3, output.bfloat16(), s).dtype == torch.float32


# --- reverse steps ----------------------------------------------------------------------------------------


def test_ddpm_step_is_algorithm_2():
    """x_{t-1} = (x_t - beta / sqrt(1 - alpha_bar) eps) / sqrt(alpha) + sigma z, written with eps directly."""
    beta, scale, var = reference("linear")
    x_t, eps, z = images(n=3)
    for t in some_steps(1000):
        mean = (x_t - beta[t] / math.sqrt(var[t]) * eps) / math.sqrt(1 - beta[t])
        previous = var[t - 1] if t else 0.0
        for variance, sigma2 in (("posterior", previous / var[t] * beta[t]), ("beta", beta[t] * (t > 0))):
            got = diffusion.ddpm_step(x_t, full(t, x_t), eps, Schedule.linear(), z, variance=variance)
            torch.testing.assert_close(got, mean + math.sqrt(sigma2) * z, rtol=1e-9, atol=1e-9)


def test_no_noise_at_the_last_step(name):
    s, (x_t, eps, z) = SCHEDULES[name](), images(n=3)
    x0_hat, _ = diffusion.predict(eps, x_t, 0, s)
    for variance in diffusion.VARIANCES:
        torch.testing.assert_close(diffusion.ddpm_step(x_t, 0, eps, s, z, variance=variance), x0_hat)
    for eta in (0.0, 1.0):
        for t in (0, s.T - 1):
            x0_hat, _ = diffusion.predict(eps, x_t, t, s)
            torch.testing.assert_close(diffusion.ddim_step(x_t, t, -1, eps, s, eta=eta, noise=z), x0_hat)


def test_ddim_with_eta_1_is_the_ddpm_step(name):
    s, (x_t, eps, z) = SCHEDULES[name](), images(n=3)
    for t in some_steps(s.T):
        one = diffusion.ddim_step(x_t, full(t, x_t), full(t - 1, x_t), eps, s, eta=1.0, noise=z)
        other = diffusion.ddpm_step(x_t, full(t, x_t), eps, s, z)
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-8)
        spread = one - diffusion.ddim_step(x_t, t, t - 1, eps, s, eta=1.0, noise=torch.zeros_like(z))
        _, var = diffusion.q_posterior(x_t, x_t, t, s)
        torch.testing.assert_close(spread, var.sqrt() * z, rtol=1e-7, atol=1e-9)


def test_ddim_jump_is_equation_12_and_keeps_the_marginal(name):
    """With the true x0 and eps, the jump lands on q(x_{t_prev} | x_0) whatever eta is."""
    s, (_, scale, var) = SCHEDULES[name](), reference(name)
    x0, eps, z = images(n=3)
    for t, u in [(s.T - 1, s.T // 2), (s.T // 2, 0), (s.T - 1, 0)]:
        x_t = diffusion.q_sample(x0, full(t, x0), eps, s)
        for eta in (0.0, 0.4, 1.0):
            sigma2 = eta**2 * var[u] / var[t] * (var[t] - (scale[t] / scale[u]) ** 2 * var[u])
            got = diffusion.ddim_step(x_t, full(t, x0), full(u, x0), eps, s, eta=eta, noise=z)
            direction, sigma = math.sqrt(var[u] - sigma2), math.sqrt(sigma2)
            expected = scale[u] * x0 + direction * eps + sigma * z
            torch.testing.assert_close(got, expected, rtol=1e-8, atol=1e-8)


def test_each_image_of_a_batch_has_its_own_step():
    s, (x_t, eps, z) = Schedule.cosine(), images(n=3)
    t, t_prev = torch.tensor([0, 500, 999]), torch.tensor([-1, 20, 998])
    together = diffusion.ddim_step(x_t, t, t_prev, eps, s, eta=0.5, noise=z)
    for i in range(3):
        one = slice(i, i + 1)
        alone = diffusion.ddim_step(x_t[one], t[one], t_prev[one], eps[one], s, eta=0.5, noise=z[one])
        torch.testing.assert_close(together[one], alone)


def test_clip_in_both_steps():
    s, (x_t, _, z) = Schedule.cosine(), images(n=3)
    mean, _ = diffusion.q_posterior(torch.ones_like(x_t), x_t, 999, s)
    big = -torch.ones_like(x_t) * 10  # so that x0_hat is far above 1
    got = diffusion.ddpm_step(x_t, 999, big, s, torch.zeros_like(z), clip=(-1, 1))
    torch.testing.assert_close(got, mean)
    torch.testing.assert_close(diffusion.ddim_step(x_t, 999, -1, big, s, clip=(-1, 1)), torch.ones_like(x_t))


# --- time steps -------------------------------------------------------------------------------------------


def test_spaced_timesteps_hold_both_ends_and_never_repeat():
    for T in (1, 2, 7, 25, 1000):
        for steps in {k for k in (1, 2, 3, 7, 20, 50, T - 1, T) if 1 <= k <= T}:
            times = diffusion.spaced_timesteps(T, steps)
            assert times.shape == (steps,) and times.dtype == torch.int64 and times[0] == T - 1
            assert steps == 1 or times[-1] == 0
            gaps = -times.diff()
            assert steps == 1 or (gaps.min() >= 1 and gaps.max() - gaps.min() <= 1)
    assert diffusion.spaced_timesteps(1000, 1000).tolist() == list(range(999, -1, -1))


@pytest.mark.parametrize("steps", [0, 26, -1, 2.0, None])
def test_more_steps_than_the_schedule_has_are_refused(steps):
    with pytest.raises(ValueError, match="steps"):
        diffusion.sample(lambda x, t, y: x, (1, 1), Schedule.simple(), steps=steps)


def test_stratified_timesteps_are_even_in_a_batch_and_uniform_alone():
    g = torch.Generator().manual_seed(0)
    draws = torch.stack([diffusion.stratified_timesteps(8, 40, generator=g) for _ in range(4000)])  # (n, 8)
    assert draws.dtype == torch.int64 and draws.min() == 0 and draws.max() == 39
    assert (draws.sort(1).values // 5 == torch.arange(8)).all()  # one in each eighth, every time
    for entry in (0, 5):
        counts = draws[:, entry].bincount(minlength=40).double()
        assert float(((counts - 100) ** 2 / 100).sum()) < 39 + 5 * math.sqrt(2 * 39)  # chi squared
    assert torch.equal(diffusion.stratified_timesteps(8, 40, generator=torch.Generator().manual_seed(3)),
                       diffusion.stratified_timesteps(8, 40, generator=torch.Generator().manual_seed(3)))
    assert diffusion.stratified_timesteps(5000, 10).bincount().tolist() == [500] * 10


def test_a_share_of_a_batch_has_strata_of_its_own(monkeypatch):
    monkeypatch.setattr("genmed_core.kernels.shares.place", lambda B: (B, 4 * B), raising=False)
    t = diffusion.stratified_timesteps(10, 100)
    assert (t.sort().values // 10).tolist() == list(range(10))


def test_logit_normal_timesteps_are_strata_of_that_distribution():
    g = torch.Generator().manual_seed(0)
    draws = torch.stack([diffusion.stratified_timesteps(8, 1000, spread=1.0, generator=g) for _ in range(4000)])
    assert draws.dtype == torch.int64 and draws.min() >= 0 and draws.max() <= 999
    normal = torch.special.ndtri(torch.arange(1, 8, dtype=torch.float64) / 8)
    edges = (1000 * torch.sigmoid(normal)).tolist()
    strata = torch.bucketize(draws.sort(1).values.double() + 0.5, torch.tensor(edges).double())
    assert (strata == torch.arange(8)).double().mean() > 0.99  # one in each eighth; an edge may fall within a step
    odds = ((draws[:, 0] + 0.5) / (999.5 - draws[:, 0])).double().log()
    assert abs(odds.mean().item()) < 0.08 and abs(odds.std().item() - 1) < 0.05, "log-odds are standard normal"
    wide = diffusion.stratified_timesteps(100_000, 10, spread=50.0)
    assert wide.min() == 0 and wide.max() == 9, "its ends stay within range"
    with pytest.raises(ValueError, match="spread=0.0: give a finite number above 0"):
        diffusion.stratified_timesteps(4, 10, spread=0.0)


# --- sampling: Gaussian data, for which the best denoiser is known ----------------------------------------

MEAN, SPREAD = 0.5, 0.6


def best_denoiser(name, predicts="eps", mean=MEAN, spread=SPREAD):
    """E[x_0 | x_t] for x_0 ~ N(mean, spread^2), by conditioning of Gaussians, as eps, x0 or v."""
    _, scale, var = (torch.as_tensor(values) for values in reference(name))

    def model(x_t, t, y):
        a, v = scale[t].view(-1, 1), var[t].view(-1, 1)
        x = x_t.double()
        x0 = mean + a * spread**2 / (a**2 * spread**2 + v) * (x - a * mean)
        eps = (x - a * x0) / v.sqrt()
        return {"x0": x0, "eps": eps, "v": a * eps - v.sqrt() * x0}[predicts].to(x_t.dtype)

    return model


@pytest.mark.parametrize("predicts", diffusion.PREDICTS)
@pytest.mark.parametrize("name, error", [("linear", 0.005), ("cosine", 0.005), ("simple400", 0.01)])
def test_ddim_carries_noise_to_the_data(name, error, predicts):
    """The path is affine in x_T, so two starts, at the mean of q(x_T) and one standard deviation away,
    give the mean and spread of all samples without chance. The error is that of finitely many steps.
    """
    s, (_, scale, var) = SCHEDULES[name](), reference(name)
    width = math.sqrt(scale[-1] ** 2 * SPREAD**2 + var[-1])
    x_T = scale[-1] * MEAN + width * torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    options = {"steps": s.T, "x_T": x_T, "predicts": predicts}
    at_0, at_1 = diffusion.sample(best_denoiser(name, predicts), (2, 1), s, **options).flatten().tolist()
    assert at_0 == pytest.approx(MEAN, abs=error) and at_1 - at_0 == pytest.approx(SPREAD, abs=error)


def test_more_ddim_steps_come_closer():
    x_T = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    errors = []
    for steps in (5, 20, 100, 1000):
        out = diffusion.sample(best_denoiser("cosine"), (2, 1), Schedule.cosine(), steps=steps, x_T=x_T)
        errors.append(abs(float(out[1] - out[0]) - SPREAD))
    assert errors == sorted(errors, reverse=True) and errors[-1] < 0.003


@pytest.mark.parametrize("name, steps, eta", [
    ("linear", 1000, 1.0), ("cosine", 1000, 1.0), ("cosine", 250, 0.5), ("cosine50", 50, 1.0),
    ("simple", 25, 1.0),
])
def test_ddpm_samples_have_the_mean_and_variance_of_the_data(name, steps, eta):
    """Few steps cannot reach the data exactly; since a step is affine here, what they must give is known."""
    g = torch.Generator().manual_seed(0)
    s = SCHEDULES[name]()
    x = diffusion.sample(best_denoiser(name), (20_000, 1), s, steps=steps, eta=eta, generator=g)
    mean, spread = float(x.mean()), float(x.std())
    assert x.dtype == torch.float32
    if eta == 1.0:
        expected_mean, expected_var = algorithm_2_moments(name)
        assert mean == pytest.approx(expected_mean, abs=0.02)
        assert spread == pytest.approx(math.sqrt(expected_var), abs=0.015)
    if steps > 50:
        assert mean == pytest.approx(MEAN, abs=0.02) and spread == pytest.approx(SPREAD, abs=0.02)


def algorithm_2_moments(name):
    """Mean and variance of x_0 that ancestral sampling with the best denoiser must have, step by step."""
    beta, scale, var = reference(name)
    mean, variance = 0.0, var[-1] if name == "simple" else 1.0
    for t in reversed(range(len(beta))):
        a, v = scale[t], var[t]
        gain = a * SPREAD**2 / (a**2 * SPREAD**2 + v)
        a_prev, v_prev = (scale[t - 1], var[t - 1]) if t else (1.0, 0.0)
        c0, ct = a_prev * beta[t] / v, a / a_prev * v_prev / v
        mean = c0 * (MEAN + gain * (mean - a * MEAN)) + ct * mean
        variance = (c0 * gain + ct) ** 2 * variance + v_prev * beta[t] / v
    return mean, variance


def test_sampling_equals_a_loop_over_ddpm_steps():
    s, shape = Schedule.cosine(T=50), (4, 1)
    model = best_denoiser("cosine50")
    g = torch.Generator().manual_seed(5)
    x = torch.randn(shape, generator=g)
    for t in reversed(range(50)):
        z = torch.randn(shape, generator=g) if t > 0 else torch.zeros(shape)
        x = diffusion.ddpm_step(x, full(t, x), model(x, full(t, x), None), s, z)
    again = diffusion.sample(model, shape, s, steps=50, eta=1.0, generator=torch.Generator().manual_seed(5))
    torch.testing.assert_close(again, x, rtol=1e-4, atol=1e-5)


def test_seeds_reproduce_and_differ():
    def draw(seed, eta):
        g = torch.Generator().manual_seed(seed)
        model = best_denoiser("cosine50")
        return diffusion.sample(model, (5, 1), Schedule.cosine(T=50), steps=10, eta=eta, generator=g)

    for eta in (0.0, 1.0):
        assert torch.equal(draw(0, eta), draw(0, eta)) and not torch.equal(draw(0, eta), draw(1, eta))
    assert not torch.equal(draw(0, 0.0), draw(0, 1.0))


def test_callback_sees_every_step_and_its_last_guess_is_the_result():
    seen = []

    def callback(t, x_t, x0_hat):
        seen.append((t, x_t, x0_hat))

    s = Schedule.cosine(T=50)
    x = diffusion.sample(best_denoiser("cosine50"), (3, 1), s, steps=8, eta=1.0, callback=callback,
                         generator=torch.Generator().manual_seed(0))
    assert [t for t, _, _ in seen] == diffusion.spaced_timesteps(50, 8).tolist()
    assert all(isinstance(t, int) and a.shape == b.shape == (3, 1) for t, a, b in seen)
    assert torch.equal(seen[0][1], torch.randn(3, 1, generator=torch.Generator().manual_seed(0)))
    torch.testing.assert_close(seen[-1][2], x)


def test_sampling_starts_from_noise_of_the_schedules_own_size():
    starts, noise = [], torch.randn(3, 1, generator=torch.Generator().manual_seed(0))
    diffusion.sample(best_denoiser("simple"), (3, 1), Schedule.simple(), steps=2,
                     callback=lambda t, x_t, x0_hat: starts.append(x_t), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(starts[0], 1.5 * noise)


def test_one_step_from_pure_noise_keeps_the_digits_of_x0():
    """At the end of the cosine schedule sqrt(alpha_bar) is 5e-5: eps alone would give x0 off by 1e-3."""
    def model(x_t, t, y):
        return torch.full_like(x_t, 0.25)

    x = diffusion.sample(model, (100, 1), Schedule.cosine(), steps=1, predicts="x0")
    torch.testing.assert_close(x, torch.full((100, 1), 0.25), rtol=0, atol=1e-7)


class LabelledGaussians(nn.Module):
    """The best denoiser of N(y, SPREAD^2) for labels 0 and 1, of N(9, SPREAD^2) without one (2 or None)."""

    def __init__(self):
        super().__init__()
        self.means = nn.Parameter(torch.tensor([0.0, 1.0, 9.0]))
        self.dropout, self.calls = nn.Dropout(0.5), []

    def forward(self, x_t, t, y):
        self.calls.append((len(x_t), self.training, None if y is None else y.tolist()))
        y = torch.full((len(x_t),), 2) if y is None else y
        return best_denoiser("cosine50", mean=self.means[y].double()[:, None])(self.dropout(x_t), t, None)


def test_labels_reach_the_model_and_guidance_extrapolates_from_the_null_label():
    model, s, y = LabelledGaussians(), Schedule.cosine(T=50), torch.tensor([0, 1])
    x_T = torch.zeros(2, 1)
    plain = diffusion.sample(model, (2, 1), s, steps=50, y=y, x_T=x_T)
    torch.testing.assert_close(plain.flatten(), torch.tensor([0.0, 1.0]), rtol=0, atol=0.02)
    assert model.calls[0] == (2, False, [0, 1]) and model.training and model.dropout.training
    model.calls.clear()
    doubled = diffusion.sample(model, (2, 1), s, steps=50, y=y, x_T=x_T, guidance=2.0, null=2)
    assert model.calls[0] == (4, False, [0, 1, 2, 2]) and len(model.calls) == 50
    model.calls.clear()
    twice = diffusion.sample(model, (2, 1), s, steps=50, y=y, x_T=x_T, guidance=2.0)
    assert model.calls[:2] == [(2, False, [0, 1]), (2, False, None)]
    torch.testing.assert_close(doubled, twice)
    # here the guess is affine in the mean, so guidance w acts like the mean null + w (y - null)
    torch.testing.assert_close(doubled.flatten(), 9 + 2.0 * (plain.flatten() - 9), rtol=0, atol=0.3)
    assert not doubled.requires_grad


def test_guidance_is_the_same_whatever_is_predicted():
    s, g = Schedule.cosine(T=50), torch.Generator().manual_seed(0)
    x_t, y = torch.randn(4, 1, generator=g, dtype=torch.float64), torch.tensor([0, 0, 1, 1])
    guesses = []
    for predicts in diffusion.PREDICTS:
        def model(x, t, y, predicts=predicts):
            return best_denoiser("cosine50", predicts, mean=y.double()[:, None])(x, t, None)

        output = diffusion.guided(model, x_t, full(30, x_t), y, 3.0, 2)
        guesses.append(diffusion.predict(output, x_t, 30, s, predicts=predicts)[0])
    torch.testing.assert_close(guesses[0], guesses[1])
    torch.testing.assert_close(guesses[0], guesses[2])


# --- variational bound ------------------------------------------------------------------------------------


def test_discretised_gaussian_is_a_distribution_and_matches_the_normal_cdf():
    x = torch.linspace(-1, 1, 256, dtype=torch.float64)
    for mean, std in ((0.0, 0.5), (0.9, 0.01), (-3.0, 0.2), (1.5, 1e-3)):
        log_p = diffusion.discretised_gaussian(x, torch.tensor(mean), torch.tensor(std))
        assert float(log_p.exp().sum()) == pytest.approx(1, abs=1e-9) and torch.isfinite(log_p).all()
    mean, std = torch.tensor(0.4, dtype=torch.float64), torch.tensor(0.3, dtype=torch.float64)
    value = diffusion.discretised_gaussian(x[200], mean, std)
    cdf = [0.5 * (1 + math.erf((float(x[200]) + side / 255 - 0.4) / 0.3 / math.sqrt(2))) for side in (-1, 1)]
    assert float(value) == pytest.approx(math.log(cdf[1] - cdf[0]), rel=1e-9)


@pytest.mark.parametrize("variance", diffusion.VARIANCES)
@pytest.mark.parametrize("name", ["linear", "cosine", "simple"])
def test_bound_terms_are_the_kl_of_two_gaussians(name, variance):
    s, (beta, scale, var) = SCHEDULES[name](), reference(name)
    x0, eps, wrong = images(B=2, n=3, shape=(1, 2, 2))
    for t in some_steps(s.T)[1:]:
        got = diffusion.vlb_terms(lambda x, t, y: wrong, x0, full(t, x0), s, eps=eps, variance=variance)
        true_var = var[t - 1] / var[t] * beta[t]
        model_var = true_var if variance == "posterior" else beta[t]
        # both means share x_t, so they differ by the coefficient of x0 times the error of x0_hat
        x0_error = math.sqrt(var[t]) / scale[t] * (eps - wrong)
        distance = (scale[t - 1] * beta[t] / var[t] * x0_error) ** 2
        kl = 0.5 * (math.log(model_var / true_var) + (true_var + distance) / model_var - 1)
        torch.testing.assert_close(got, kl.flatten(1).mean(1) / math.log(2), rtol=1e-6, atol=1e-12)


def test_simplified_loss_is_the_bound_with_other_weights():
    """Ho et al. 2020, eq. 12: with variance beta, beta / (2 alpha (1 - alpha_bar)) |eps - eps_hat|^2 + c."""
    beta, _, var = reference("linear")
    x0, eps, wrong = images(B=1, n=3)
    s = Schedule.linear()
    for t in (1, 10, 500, 999):
        options = {"eps": eps, "variance": "beta"}
        right = float(diffusion.vlb_terms(lambda x, t, y: eps, x0, full(t, x0), s, **options))
        off = float(diffusion.vlb_terms(lambda x, t, y: wrong, x0, full(t, x0), s, **options))
        weight = beta[t] / (2 * (1 - beta[t]) * var[t])
        distance = float(((eps - wrong) ** 2).mean())
        assert off - right == pytest.approx(weight * distance / math.log(2), rel=1e-6)


def test_first_term_is_the_decoder():
    beta, _, var = reference("linear")
    x0 = torch.linspace(-1, 1, 256, dtype=torch.float64)[[3, 128, 255, 0]].view(1, 1, 2, 2)
    eps, guess = images(B=1, n=2, shape=(1, 2, 2))
    std = math.sqrt(var[0] / var[1] * beta[1])
    expected = -diffusion.discretised_gaussian(x0, x0 + 0.01 * guess, torch.tensor(std)).mean() / math.log(2)
    for variance in diffusion.VARIANCES:
        got = diffusion.vlb_terms(lambda x, t, y: x0 + 0.01 * guess, x0, full(0, x0), Schedule.linear(),
                                  eps=eps, predicts="x0", variance=variance)
        assert float(got) == pytest.approx(float(expected), rel=1e-5)


def test_prior_bits_are_the_kl_to_the_starting_noise():
    for name in ("linear", "cosine", "simple"):
        s, (_, scale, var) = SCHEDULES[name](), reference(name)
        (x0,) = images(n=1)
        mean2, prior = scale[-1] ** 2 * x0**2, s.prior_std**2
        kl = 0.5 * (math.log(prior / var[-1]) + (var[-1] + mean2) / prior - 1)
        expected = kl.flatten(1).mean(1) / math.log(2)
        torch.testing.assert_close(diffusion.prior_bits(x0, s), expected, rtol=1e-6, atol=1e-12)


def test_bound_of_gaussian_data_is_the_one_computed_by_hand_and_above_the_entropy():
    """256 grey levels from N(0, 0.25^2) and the best denoiser, whose error has a known variance."""
    spread, (beta, scale, var) = 0.25, reference("linear")
    x = torch.linspace(-1, 1, 256, dtype=torch.float64)
    p = diffusion.discretised_gaussian(x, torch.tensor(0.0), torch.tensor(spread)).exp()
    entropy = -float((p * p.log()).sum()) / math.log(2)
    before_scale, before = np.append(1, scale[:-1]), np.append(0, var[:-1])
    missed = (before_scale * beta / var) ** 2 * spread**2 * var / (scale**2 * spread**2 + var)
    bounds = {}
    for variance in diffusion.VARIANCES:
        g = torch.Generator().manual_seed(0)
        x0 = x[torch.multinomial(p, 1000, replacement=True, generator=g)].view(-1, 1)
        total, terms = diffusion.bits_per_dim(
            best_denoiser("linear", mean=0.0, spread=spread), x0, Schedule.linear(),
            generator=g, variance=variance)
        assert terms.shape == (1000, 1000) and total.shape == (1000,)
        true_var = (before * beta / var)[1:]
        model_var = true_var if variance == "posterior" else beta[1:]
        kl = 0.5 * (np.log(model_var / true_var) + (true_var + missed[1:]) / model_var - 1) / math.log(2)
        assert float(terms[1:].sum(0).mean()) == pytest.approx(kl.sum(), rel=0.02)
        bounds[variance] = float(total.mean())
    assert entropy < bounds["beta"] < bounds["posterior"] < 1.15 * entropy


# --- bad input --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("t, error", [
    (torch.tensor([0, 1, 25]), ValueError), (torch.tensor([-1, 0, 1]), ValueError),
    (25, ValueError), (-1, ValueError), (torch.tensor([0, 1, 2]) == 0, TypeError),
    (torch.tensor([0, 1, 2], dtype=torch.int32), TypeError), (torch.tensor([0.0, 1.0, 2.0]), TypeError),
    ([0, 1, 2], TypeError), (torch.tensor([0, 1]), ValueError), (torch.tensor(3), ValueError),
    (torch.zeros(3, 1, dtype=torch.int64), ValueError),
])
def test_bad_t_is_refused(t, error):
    s, (x, eps) = Schedule.simple(), images()
    for call in (lambda: diffusion.q_sample(x, t, eps, s), lambda: diffusion.q_posterior(x, eps, t, s),
                 lambda: diffusion.ddpm_step(x, t, eps, s, eps), lambda: diffusion.predict(eps, x, t, s),
                 lambda: diffusion.vlb_terms(lambda x, t, y: x, x, t, s)):
        with pytest.raises(error):
            call()


@pytest.mark.parametrize("t, t_prev", [(3, 3), (3, 4), (3, -2), (3, 25)])
def test_bad_t_prev_is_refused(t, t_prev):
    x, eps = images()
    with pytest.raises(ValueError):
        diffusion.ddim_step(x, full(t, x), full(t_prev, x), eps, Schedule.simple())


def test_bad_images_and_options_are_refused():
    s, (x, eps) = Schedule.simple(), images()
    t, model = full(3, x), best_denoiser("simple")
    for wrong in (eps[:, :, :1], eps[:1], eps[0]):
        for call in (lambda w=wrong: diffusion.q_sample(x, t, w, s),
                     lambda w=wrong: diffusion.q_posterior(w, x, t, s),
                     lambda w=wrong: diffusion.ddpm_step(x, t, w, s, eps),
                     lambda w=wrong: diffusion.ddim_step(x, t, t - 1, eps, s, eta=1.0, noise=w)):
            with pytest.raises(ValueError, match="the images are"):
                call()
    with pytest.raises(TypeError, match="uint8"):
        diffusion.q_sample(torch.zeros(3, 1, 4, 4, dtype=torch.uint8), t, eps, s)
    with pytest.raises(ValueError, match="schedule.to"):
        diffusion.q_sample(x, t, eps, s.to("meta"))
    for option in ({"predicts": "noise"}, {"clip": (1, -1)}):
        with pytest.raises(ValueError):
            diffusion.predict(eps, x, t, s, **option)
    with pytest.raises(ValueError, match="variance"):
        diffusion.ddpm_step(x, t, eps, s, eps, variance="large")
    for eta in (-0.1, 1.5):
        with pytest.raises(ValueError, match="eta"):
            diffusion.ddim_step(x, t, t - 1, eps, s, eta=eta)
    for option in ({"guidance": 2.0}, {"y": torch.zeros(2, dtype=torch.int64)}, {"y": [0, 1, 2]},
                   {"x_T": torch.zeros(2, 1)}):
        with pytest.raises(ValueError):
            diffusion.sample(model, (3, 1), s, steps=5, **option)


def reader(x, t, y):
    return x


SMALL = {"model": reader, "shape": (2, 1, 4, 4), "schedule": Schedule.cosine(20), "steps": 3}


@pytest.mark.parametrize("option, said", [
    ({"clip": True}, r"clip=True: give \(low, high\)"), ({"clip": False}, "clip=False"),
    ({"clip": 1.0}, "clip=1.0"), ({"clip": (1, 1)}, r"clip=\(1, 1\)"), ({"clip": (0, math.nan)}, "clip"),
    ({"clip": (-1, 0, 1)}, "clip"), ({"steps": 21}, "steps=21: give a whole number, from 1 to 20"),
    ({"steps": 3.0}, "steps=3.0"), ({"steps": True}, "steps=True"), ({"eta": math.nan}, "eta=nan"),
    ({"eta": -0.1}, "eta=-0.1: give a finite number from 0 to 1"), ({"eta": 1.1}, "eta=1.1"), ({"eta": "1"}, "eta='1'"),
    ({"shape": 28}, "shape=28"), ({"shape": ()}, "shape"), ({"shape": (0, 1, 4, 4)}, "each size in shape=0"),
    ({"shape": (2, 1.0, 4, 4)}, "each size in shape=1.0"), ({"predicts": "noise"}, "predicts='noise'"),
    ({"generator": 0}, "generator=0: give torch.Generator"), ({"x_T": np.zeros((2, 1, 4, 4), "float32")}, "x_T"),
    ({"x_T": torch.zeros(2, 1, 4, 4).long()}, "x_T"), ({"x_T": torch.zeros(1, 1, 4, 4)}, "x_T"),
    ({"x_T": torch.full((2, 1, 4, 4), math.nan)}, "x_T .* give finite floats"),
    ({"y": torch.zeros(2)}, "y is torch.float32"), ({"y": torch.zeros(2).bool()}, "y is torch.bool"),
    ({"y": torch.zeros(3).long()}, r"y is torch.int64 \(3,\): give one label an image, int64 \(2,\)"),
    ({"y": torch.zeros(2, 1).long()}, r"\(2, 1\)"), ({"y": torch.tensor([0, -1])}, "y holds -1..0"),
    ({"y": np.zeros(2, int)}, "y is"), ({"y": torch.zeros(2).long(), "guidance": math.nan}, "guidance=nan"),
    ({"y": torch.zeros(2).long(), "guidance": "2"}, "guidance='2'"), ({"guidance": 1}, "guidance needs labels"),
    ({"model": lambda x, t, y: None}, "the model returned NoneType"),
    ({"model": lambda x, t, y: (x, x)}, "the model returned tuple"),
    ({"model": lambda x, t, y: x[:1]}, "the model returned torch.Size"),
])
def test_a_sampler_says_what_is_wrong_with_an_argument(option, said):
    with pytest.raises((ValueError, TypeError), match=said):
        diffusion.sample(**{**SMALL, **option})


def test_labels_of_any_whole_type_will_do_and_guidance_may_be_negative():
    seen = []

    def model(x, t, y):
        seen.append(None if y is None else y.dtype)
        return x if y is None else 0.5 * x

    for dtype in (torch.uint8, torch.int32, torch.int64):
        y = torch.tensor([0, 9], dtype=dtype)
        assert diffusion.sample(**{**SMALL, "model": model}, y=y, guidance=-1).isfinite().all()
    assert set(seen) == {torch.int64, None}


class Numbered(nn.Module):
    """Ten classes; label 10 is "no label"."""

    null = 10

    def forward(self, x, t, y):
        return x


def test_the_null_label_is_no_class_and_another_number_does_not_stand_for_it():
    options = {**SMALL, "model": Numbered()}
    assert diffusion.sample(**options, y=torch.tensor([0, 9]), guidance=2.0, null=10).shape == (2, 1, 4, 4)
    with pytest.raises(ValueError, match=r"y holds 1..10: labels go from 0 to 9; leave y out"):
        diffusion.sample(**options, y=torch.tensor([1, 10]))
    for null in (99, 9, -1):
        with pytest.raises(ValueError, match=f"null={null}: this network's label for 'no label' is 10"):
            diffusion.sample(**options, y=torch.tensor([0, 9]), guidance=2.0, null=null)


@pytest.mark.parametrize("make, said", [
    (lambda: Schedule.linear(T=True), "T=True"), (lambda: Schedule.cosine(20, s=math.nan), "s=nan"),
    (lambda: Schedule.cosine(20, s=-0.1), "s=-0.1"), (lambda: Schedule.simple(sigma=math.inf), "sigma=inf"),
    (lambda: Schedule.simple(sigma="0.3"), "sigma='0.3'"), (lambda: Schedule([0.1], prior_std=0), "prior_std=0"),
    (lambda: Schedule([0.1, math.nan]), "beta=nan .* at step 1"), (lambda: Schedule([0.1, 1.0]), "beta=1 and alpha=0"),
    (lambda: Schedule.cosine(20).at(20), "t=20: steps go from -1 to 19"),
    (lambda: Schedule.cosine(20).at(torch.tensor([3, -2])), "t holds -2..3"),
    (lambda: diffusion.reverse_variance(20, Schedule.cosine(20)), "t=20"),
    (lambda: diffusion.stratified_timesteps(0, 20), "B=0"), (lambda: diffusion.stratified_timesteps(2.5, 20), "B=2.5"),
    (lambda: diffusion.stratified_timesteps(2, 0), "T=0"), (lambda: diffusion.spaced_timesteps(0, 1), "T=0"),
    (lambda: diffusion.stratified_timesteps(2, 20, spread=math.inf), "spread=inf"),
    (lambda: diffusion.stratified_timesteps(2, 20, generator=3), "generator=3"),
])
def test_schedules_and_steps_name_the_argument_and_its_value(make, said):
    with pytest.raises((ValueError, TypeError), match=said):
        make()


@pytest.mark.parametrize("T, larger", [(100, True), (25, True), (10, False)])
def test_a_schedule_that_leaves_the_image_in_x_T_says_so_and_its_advice_works(T, larger, capsys):
    schedule = Schedule.linear(T)
    said = capsys.readouterr().out
    assert f"{100 * schedule.alpha_bar[-1]:.0f} % of the image's variance" in said
    assert f"Schedule.cosine({T})" in said and ("times as large" in said) == larger
    factor = int(said.split("betas ")[-1].split()[0]) if larger else 1
    assert Schedule.cosine(T).alpha_bar[-1] < 1e-3
    assert not larger or Schedule.linear(T, 1e-4 * factor, 0.02 * factor).alpha_bar[-1] < 1e-3
    Schedule.linear(1000), Schedule.simple(25), Schedule([0.5] * 10)
    assert capsys.readouterr().out == "", "and nothing else does"


def test_a_short_schedule_with_larger_betas_samples_the_data():
    """Data: +1 in 90 %, -1 in 10 %; the exact denoiser of it. The plain betas give 80 % and less."""
    def exact(x, t, y):
        _, _, a, v = (z.view(-1, 1).float() for z in s.at(t))
        x0 = torch.tanh(a.sqrt() * x / v + 0.5 * math.log(9))
        return (x - a.sqrt() * x0) / v.sqrt()

    for s in (Schedule.cosine(100), Schedule.linear(100, 1e-3, 0.2)):
        x = diffusion.sample(exact, (4000, 1), s, steps=100, eta=1.0, generator=torch.Generator().manual_seed(0))
        assert 0.88 < (x > 0).float().mean() < 0.92


# --- devices ----------------------------------------------------------------------------------------------


def test_no_step_waits_for_the_device():
    """Shapes are traced with tensors that pretend to be on a GPU: reading one value of theirs raises."""
    fake = pytest.importorskip("torch._subclasses.fake_tensor")
    s = Schedule.cosine(T=50)
    with fake.FakeTensorMode(allow_non_fake_inputs=True):
        for name in ("_exact", "beta", "alpha", "alpha_bar", "noise_var"):
            setattr(s, name, torch.empty(getattr(s, name).shape, dtype=getattr(s, name).dtype, device="cuda"))
        x, eps, z = (torch.empty(3, 1, 4, 4, device="cuda") for _ in range(3))
        t = torch.empty(3, dtype=torch.int64, device="cuda")
        with pytest.raises(fake.DataDependentOutputException):
            t.max().item()
        for out in (
            diffusion.q_sample(x, t, eps, s), diffusion.q_posterior(x, eps, t, s)[0],
            diffusion.target(x, eps, t, s, predicts="v"), diffusion.predict(eps, x, t, s, predicts="v")[0],
            diffusion.ddpm_step(x, t, eps, s, z, clip=(-1, 1)),
            diffusion.ddpm_step(x, t, eps, s, variance="beta"),
            diffusion.ddim_step(x, t, t - 1, eps, s, eta=1.0, noise=z), diffusion.ddim_step(x, t, -1, eps, s),
        ):
            assert out.device.type == "cuda" and out.shape == x.shape and out.dtype == torch.float32
        assert diffusion.vlb_terms(lambda x, t, y: x, x, t, s).shape == (3,)
        assert diffusion.stratified_timesteps(3, 50, device="cuda").device.type == "cuda"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_a_cuda_graph_captures_a_step_with_t_on_the_device():
    s = Schedule.cosine().to("cuda")
    x, eps, z = (v.float().cuda() for v in images(n=3))
    t = torch.tensor([1, 500, 999], device="cuda")
    diffusion.ddpm_step(x, t, eps, s, z)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        ddpm = diffusion.ddpm_step(x, t, eps, s, z)
        ddim = diffusion.ddim_step(x, t, t - 1, eps, s, eta=0.5, noise=z)
    for steps in ([1, 500, 999], [0, 7, 42]):
        t.copy_(torch.tensor(steps))
        graph.replay()
        torch.testing.assert_close(ddpm, diffusion.ddpm_step(x, t, eps, s, z))
        torch.testing.assert_close(ddim, diffusion.ddim_step(x, t, t - 1, eps, s, eta=0.5, noise=z))


# --- against diffusers (not a requirement: skipped where it is not installed) -----------------------------

THEIRS = {"linear": "linear", "cosine": "squaredcos_cap_v2"}
THEIR_WORDS = {"eps": "epsilon", "x0": "sample", "v": "v_prediction"}


def their_scheduler(kind, name, predicts="eps"):
    """A `diffusers` scheduler whose alpha_bar is the float64 product of its own float32 betas.

    As shipped the product is float32, and they read beta back as 1 - alpha_bar_t / alpha_bar_{t-1}, which
    keeps three or four digits where beta is small: their posterior mean is then off by up to 2.5e-4.
    """
    schedulers = pytest.importorskip("diffusers").schedulers
    options = {"prediction_type": THEIR_WORDS[predicts], "clip_sample": False}
    theirs = getattr(schedulers, kind)(1000, 1e-4, 0.02, THEIRS[name], **options)
    theirs.alphas_cumprod = (1 - theirs.betas.double()).cumprod(0)
    return theirs


@pytest.mark.parametrize("name", THEIRS)
def test_diffusers_tables(name):
    schedulers = pytest.importorskip("diffusers").schedulers
    theirs = schedulers.DDPMScheduler(1000, 1e-4, 0.02, THEIRS[name])  # as shipped, in float32
    s = SCHEDULES[name]()
    pairs = (s.beta, theirs.betas), (s.alpha, theirs.alphas), (s.alpha_bar, theirs.alphas_cumprod)
    for ours, other in pairs:
        torch.testing.assert_close(ours, other, rtol=0, atol=1e-6)


@pytest.mark.parametrize("predicts", diffusion.PREDICTS)
@pytest.mark.parametrize("name", THEIRS)
def test_diffusers_posterior_mean_and_variance(name, predicts):
    theirs, s = their_scheduler("DDPMScheduler", name, predicts), SCHEDULES[name]()
    x0, eps = images(B=2)
    for t in sorted({*range(0, 1000, 37), 1, 2, 997, 998, 999}):
        x_t = diffusion.q_sample(x0, t, eps, s)
        torch.testing.assert_close(theirs.add_noise(x0, eps, full(t, x0)), x_t, rtol=0, atol=1e-5)
        output = diffusion.target(x0, eps, t, s, predicts=predicts)
        guess, eps_hat = diffusion.predict(output, x_t, t, s, predicts=predicts)
        mean, var = diffusion.q_posterior(guess, x_t, t, s)
        step = theirs.step(output, t, x_t, generator=torch.Generator().manual_seed(t)).prev_sample
        z = torch.randn(x_t.shape, generator=torch.Generator().manual_seed(t), dtype=x_t.dtype)
        assert float(var[0]) == pytest.approx(float(theirs._get_variance(t)), rel=1e-5, abs=1e-12)
        torch.testing.assert_close(mean + var.sqrt() * z, step, rtol=0, atol=1e-5)
        torch.testing.assert_close(diffusion.ddpm_step(x_t, t, eps_hat, s, z), step, rtol=0, atol=1e-5)


@pytest.mark.parametrize("eta", [0.0, 1.0])
@pytest.mark.parametrize("steps", [1000, 50, 20])
@pytest.mark.parametrize("name", THEIRS)
def test_diffusers_ddim_steps(name, steps, eta):
    """Theirs steps by T // steps, so t and t_prev are given and not taken from either side's spacing."""
    theirs, s = their_scheduler("DDIMScheduler", name), SCHEDULES[name]()
    theirs.set_timesteps(steps)
    x0, eps, z = images(B=2, n=3)
    for t in [*range(0, 1000, 41), 999]:
        t_prev = max(t - 1000 // steps, -1)
        x_t = diffusion.q_sample(x0, t, eps, s)
        ours = diffusion.ddim_step(x_t, t, t_prev, eps, s, eta=eta, noise=z)
        other = theirs.step(eps, t, x_t, eta=eta, variance_noise=z if eta else None).prev_sample
        torch.testing.assert_close(ours, other, rtol=0, atol=1e-5)
