"""Chapter 8's exercises: each oracle is written without the chapter's code."""

import math

import torch
from torch.distributions import Normal, kl_divergence

from genmed_core.exercises.answers import Case
from genmed_core.exercises.sheet import Sheet

sheet = Sheet("08_ddpm")


def between(g: torch.Generator, low: float, high: float, *shape: int):
    """One number at random, or a tensor of them."""
    drawn = low + (high - low) * torch.rand(shape, generator=g)
    return drawn if shape else float(drawn)


def some_betas(g: torch.Generator) -> torch.Tensor:
    """Ten betas, rising, of large steps: every mistake shows."""
    return torch.linspace(0.05, 0.3, 10) * between(g, 0.8, 1.2, 10)


def walked(beta):
    """The chain (8.1) unrolled: row t has the coefficients of x_t, t = 0 ... T, on x_0, e_1, ..., e_T."""
    T = len(beta)
    unit = torch.eye(T + 1, dtype=torch.float64)
    rows = [unit[0]]
    for t in range(T):
        rows.append((1 - beta[t]).sqrt() * rows[-1] + beta[t].sqrt() * unit[t + 1])
    return torch.stack(rows)


def column(values, x):
    """Values for each image, shaped to multiply x."""
    return values.view(-1, *[1] * (x.dim() - 1))


# --- 8.1 -------------------------------------------------------------------------------------


def jumps(g: torch.Generator) -> Case:
    """Images, steps in code's counting, noise, and the betas of the chain."""
    return {"x0": torch.randn(5, 1, 3, 3, generator=g), "t": torch.randperm(10, generator=g)[:5],
            "eps": torch.randn(5, 1, 3, 3, generator=g), "beta": some_betas(g)}


def image_left(beta, t):
    """What is left of the variance of the image in x_t: the square of its coefficient in the walk."""
    return walked(beta)[t + 1, 0].square()


def mixed(x0, eps, image, noise):
    """image x_0 + noise eps, with a factor for each image."""
    return column(image, x0) * x0 + column(noise, x0) * eps


@sheet.function("8.1", "code", 1, "Any step in one jump", cases=jumps)
def jump(x0, t, eps, beta):
    """The coefficients of the chain, walked; the noises' are added by Pythagoras."""
    rows = walked(beta)[t + 1]
    return mixed(x0, eps, rows[:, 0], rows[:, 1:].norm(dim=1))


@jump.mistake("Your image is multiplied by ᾱ. It is its *variance* that ᾱ tells of; the image itself is multiplied by "
              "the root.")
def _(x0, t, eps, beta):
    a = image_left(beta, t)
    return mixed(x0, eps, a, (1 - a).sqrt())


@jump.mistake("Your noise is multiplied by 1 - ᾱ. That is its variance; a draw wants the standard deviation.")
def _(x0, t, eps, beta):
    a = image_left(beta, t)
    return mixed(x0, eps, a.sqrt(), 1 - a)


@jump.mistake("You are one step early: in code `t = 0` is the papers' first step, so that ᾱ of `t` is a product of "
              "t + 1 factors.")
def _(x0, t, eps, beta):
    a = image_left(beta, t - 1)
    return mixed(x0, eps, a.sqrt(), (1 - a).sqrt())


@jump.mistake("That is the single step (8.1) from x_0, with β of step t. All steps before it count too: multiply their "
              "1 - β.")
def _(x0, t, eps, beta):
    return mixed(x0, eps, (1 - beta[t]).sqrt(), beta[t].sqrt())


@jump.mistake("You add up the betas. What is left of the image is a *product* of the 1 - β; the sum is near it only as "
              "long as all are small.")
def _(x0, t, eps, beta):
    lost = beta.cumsum(0)[t].clamp(max=1)
    return mixed(x0, eps, (1 - lost).sqrt(), lost.sqrt())


# --- 8.2, 8.3 --------------------------------------------------------------------------------


def lengths(g: torch.Generator) -> Case:
    """The number of steps, and the offset."""
    return {"T": int(torch.randint(10, 30, (), generator=g)), "s": between(g, 0.008, 0.03)}


def share(t, T, s):
    """f(t) of (8.3), by the half-angle formula."""
    return (1 + math.cos((t / T + s) / (1 + s) * math.pi)) / 2


@sheet.function("8.2", "code", 2, "The cosine schedule", cases=lengths, rtol=2e-4)
def cosine_beta(T, s):
    """Step by step, in numbers."""
    return torch.tensor([min(1 - share(t, T, s) / share(t - 1, T, s), 0.999) for t in range(1, T + 1)],
                        dtype=torch.float64)


@cosine_beta.mistake("Your last β is not held at 0.999. There (8.3) makes ᾱ zero, and whoever divides by its root "
                     "later divides by zero.")
def _(T, s):
    return torch.tensor([1 - share(t, T, s) / share(t - 1, T, s) for t in range(1, T + 1)], dtype=torch.float64)


@cosine_beta.mistake("You return ᾱ. The betas come from the ratio of one ᾱ to the one before.")
def _(T, s):
    return torch.tensor([share(t, T, s) / share(0, T, s) for t in range(1, T + 1)], dtype=torch.float64)


@cosine_beta.mistake("The cosine is to be squared: f is a share of a variance.")
def _(T, s):
    return torch.tensor([min(1 - math.sqrt(share(t, T, s) / share(t - 1, T, s)), 0.999) for t in range(1, T + 1)],
                        dtype=torch.float64)


@cosine_beta.mistake("You are one step early: your first β compares f(0) with itself, or with f(-1). The first is "
                     "1 - f(1)/f(0).")
def _(T, s):
    return torch.tensor([min(1 - share(t, T, s) / share(max(t - 1, 0), T, s), 0.999) for t in range(T)],
                        dtype=torch.float64)


@cosine_beta.mistake("You divide by f(0) and not by the f before: that is 1 - ᾱ, all the noise so far, not what this "
                     "step adds.")
def _(T, s):
    return torch.tensor([min(1 - share(t, T, s) / share(0, T, s), 0.999) for t in range(1, T + 1)],
                        dtype=torch.float64)


@cosine_beta.mistake("The offset is missing: with s = 0 the first steps are smaller than (8.3) wants them.")
def _(T, s):
    return cosine_beta.oracle(T, 0.0)


sheet.number(
    "8.3", "predict", 1, "Half of the image", truth=259, within=0.08,
    why="The losses multiply: ᾱ is about exp(-Σβ), and the sum of the rising betas reaches ln 2 after a quarter of the "
        "steps. That is what Nichol and Dhariwal found too early.",
    mistakes=[
        (lambda truth: 500 / 259 * truth, "Half of the image after half of the steps: so does the *cosine* schedule, "
                                          "and it was made to. The linear one loses its image sooner."),
        (lambda truth: 69 / 259 * truth, "You let all steps have the mean β, about 0.01. Early ones are far smaller."),
        (lambda truth: 35 / 259 * truth, "You let all steps have the largest β. It is reached at the end only."),
        (lambda truth: 707 / 259 * truth, "You let half of the *sum* of all betas pass. But their sum is about ten, "
                                          "and half of the image is lost when it has reached ln 2.")])


# --- 8.4, 8.5 --------------------------------------------------------------------------------


def one_step_back(g: torch.Generator) -> Case:
    """Single numbers at several steps, the first among them."""
    return {"x0": torch.randn(6, generator=g), "x_t": 1.5 * torch.randn(6, generator=g),
            "t": torch.cat([torch.tensor([0]), torch.randperm(9, generator=g)[:5] + 1]), "beta": some_betas(g)}


def conditioned(x0, x_t, t, beta):
    """Mean and variance of x_{t-1} given x_t and x_0, from the covariances of the walk."""
    rows = walked(beta.double())
    now, before = rows[t + 1], rows[t]
    ours, both, theirs = ((a[:, 1:] * b[:, 1:]).sum(1) for a, b in ((before, before), (before, now), (now, now)))
    return before[:, 0] * x0 + both / theirs * (x_t - now[:, 0] * x0), ours - both**2 / theirs


def bars(beta, t):
    """ᾱ at t and at the step before, 1 before the first."""
    whole = torch.cat([torch.ones(1, dtype=beta.dtype), walked(beta)[1:, 0].square()])
    return whole[t + 1], whole[t]


def weighted(x0, x_t, alpha, beta, bar, before):
    """(8.6) with whatever is put in."""
    return (before.sqrt() * beta * x0 + alpha.sqrt() * (1 - before) * x_t) / (1 - bar)


@sheet.function("8.4", "code", 2, "One step back, if the image is known", cases=one_step_back,
                returns=("mean", "variance"))
def step_back(x0, x_t, t, beta):
    """Regression of x_{t-1} on x_t in the unrolled chain."""
    return conditioned(x0, x_t, t, beta)


@step_back.mistake("The mean is right, the variance is that of the step forwards, β. Looking back, x_0 tells something "
                   "as well: the posterior's variance is smaller, and zero at the first step.")
def _(x0, x_t, t, beta):
    return conditioned(x0, x_t, t, beta)[0], beta[t]


@step_back.mistake("At `t = 0` something goes wrong: `alpha_bar[t - 1]` is then the *last* entry, as Python counts -1 "
                   "from the end. Before the first step nothing is lost yet: there ᾱ is 1.")
def _(x0, x_t, t, beta):
    bar, before = bars(beta, t)
    before = torch.where(t == 0, bars(beta, torch.tensor([len(beta) - 1]))[0], before)
    return weighted(x0, x_t, 1 - beta[t], beta[t], bar, before), (1 - before) / (1 - bar) * beta[t]


@step_back.mistake("You use ᾱ of step t in both places. The factor that says what is left in x_{t-1} is that of t - 1.")
def _(x0, x_t, t, beta):
    bar, _ = bars(beta, t)
    return weighted(x0, x_t, 1 - beta[t], beta[t], bar, bar), beta[t]


@step_back.mistake("The two weights are exchanged: early on, where little noise is left, x_{t-1} is nearly x_0, so x_0 "
                   "has to have the larger one.")
def _(x0, x_t, t, beta):
    return weighted(x_t, x0, 1 - beta[t], beta[t], *bars(beta, t)), conditioned(x0, x_t, t, beta)[1]


@step_back.mistake("Your second output is the standard deviation; the variance is asked for.")
def _(x0, x_t, t, beta):
    mean, variance = conditioned(x0, x_t, t, beta)
    return mean, variance.clamp(min=0).sqrt()


@step_back.mistake("The roots are missing in the mean: images are multiplied by roots, only variances by α and ᾱ.")
def _(x0, x_t, t, beta):
    bar, before = bars(beta, t)
    return (before * beta[t] * x0 + (1 - beta[t]) * (1 - before) * x_t) / (1 - bar), conditioned(x0, x_t, t, beta)[1]


def noise_known(g: torch.Generator) -> Case:
    """As for the step back, with the noise known in the image's place."""
    case = one_step_back(g)
    return {"x_t": case["x_t"], "eps": case["x0"], "t": case["t"], "beta": case["beta"]}


@sheet.function("8.5", "derive", 2, "The same mean, from the noise", cases=noise_known)
def mean_from_noise(x_t, eps, t, beta):
    """Solve the walk for x_0, then condition."""
    now = walked(beta)[t + 1]
    x0 = (x_t - now[:, 1:].norm(dim=1) * eps) / now[:, 0]
    return conditioned(x0, x_t, t, beta)[0]


@mean_from_noise.mistake("You take out *all* of the noise: that is the guess of x_0. One step back takes out only a "
                         "part.")
def _(x_t, eps, t, beta):
    bar, _ = bars(beta, t)
    return (x_t - (1 - bar).sqrt() * eps) / bar.sqrt()


@mean_from_noise.mistake("The division by √α is missing: the step forwards has shrunk the image, so the step back "
                         "enlarges it.")
def _(x_t, eps, t, beta):
    return x_t - beta[t] / (1 - bars(beta, t)[0]).sqrt() * eps


@mean_from_noise.mistake("The noise is weighted with √β, as if the last step's noise were ε. But ε is that of all "
                         "steps together, and the last one is only a share of it.")
def _(x_t, eps, t, beta):
    return (x_t - beta[t].sqrt() * eps) / (1 - beta[t]).sqrt()


@mean_from_noise.mistake("Under the noise stands √(1 - ᾱ), not 1 - ᾱ: one factor cancels against that of (8.2).")
def _(x_t, eps, t, beta):
    return (x_t - beta[t] / (1 - bars(beta, t)[0]) * eps) / (1 - beta[t]).sqrt()


@mean_from_noise.mistake("The noise is added; it is to be taken out.")
def _(x_t, eps, t, beta):
    return (x_t + beta[t] / (1 - bars(beta, t)[0]).sqrt() * eps) / (1 - beta[t]).sqrt()


@mean_from_noise.mistake("You divide by √ᾱ, which undoes all steps. One step back undoes √α alone.")
def _(x_t, eps, t, beta):
    bar, _ = bars(beta, t)
    return (x_t - beta[t] / (1 - bar).sqrt() * eps) / bar.sqrt()


# --- 8.6, 8.7 --------------------------------------------------------------------------------

sheet.choice(
    "8.6", "predict", 1, "Noise on the way, or none", answer="c",
    why="A long stride adds much noise, and few strides are left to take it out. With many steps the noise helps: it "
        "buries errors made so far.",
    wrongs={
        "a": "With many steps noise has a merit: what was drawn wrongly so far is partly buried, and looked at anew. A "
             "path without noise carries its errors to the end.",
        "b": "Think of five steps: the noise that such a long stride adds has to be taken out by one or two more.",
        "d": "They have the same marginals for a *perfect* denoiser and infinitely small steps. This one is neither "
             "perfect, nor are the steps small."})

sheet.choice(
    "8.7", "predict", 1, "Two ways to a noisy sample", answer="b",
    why="Equal in each marginal, not as paths: the next exercise computes by how much the noise of two steps agrees in "
        "the chain.",
    wrongs={
        "a": "Each of its x_t has the right distribution, but the *pair* has not: in (8.1) every step brings fresh "
             "noise, so the noise of two steps agrees in part only.",
        "c": "The other way round: (8.10) looks at single steps, and jumps there. Sampling has no x_0 to jump from.",
        "d": "(8.2) is exact for betas of any size: two Gaussian steps have the form of one, by the induction in the "
             "text."})


# --- 8.8 -------------------------------------------------------------------------------------


def two_times(g: torch.Generator) -> Case:
    """Four pairs of steps, the earlier one first, and the betas."""
    first = torch.randint(0, 5, (4,), generator=g)
    return {"s": first, "t": first + torch.randint(2, 5, (4,), generator=g), "beta": some_betas(g)}


@sheet.function("8.8", "derive", 2, "How much the noise of two steps agrees", cases=two_times)
def noise_correlation(s, t, beta):
    """The cosine of the angle between the noise coefficients of the two rows of the walk."""
    rows = walked(beta)[:, 1:]
    return torch.cosine_similarity(rows[s + 1], rows[t + 1], dim=1)


@noise_correlation.mistake("That is the path with one ε for all steps. In the chain each step brings noise of its own.")
def _(s, t, beta):
    return torch.ones(len(s), dtype=torch.float64)


@noise_correlation.mistake("That is the ratio of the signal-to-noise ratios: the square of the correlation.")
def _(s, t, beta):
    return noise_correlation.oracle(s, t, beta) ** 2


@noise_correlation.mistake("That is by how much the noise of s is shrunk on the way to t. Divide the covariance by "
                           "*both* standard deviations.")
def _(s, t, beta):
    rows = walked(beta)
    return rows[t + 1, 0] / rows[s + 1, 0]


@noise_correlation.mistake("That is the covariance. A correlation is this over both standard deviations.")
def _(s, t, beta):
    rows = walked(beta)[:, 1:]
    return (rows[s + 1] * rows[t + 1]).sum(1)


@noise_correlation.mistake("Yours is larger than 1, which no correlation is: the ratio is upside down.")
def _(s, t, beta):
    return 1 / noise_correlation.oracle(s, t, beta)


@noise_correlation.mistake("You compare only the noises' sizes. From s to t the noise of s is shrunk as well, like the "
                           "image.")
def _(s, t, beta):
    rows = walked(beta)[:, 1:].norm(dim=1)
    return rows[s + 1] / rows[t + 1]


# --- 8.9, 8.10 -------------------------------------------------------------------------------


def training_batch(g: torch.Generator) -> Case:
    """A network in miniature that looks at both of its inputs, and all that a loss needs."""
    weight = between(g, 0.3, 0.8)

    def denoise(x_t, t):
        return torch.tanh(weight * x_t) + 0.1 * column(t, x_t)

    return {"denoise": denoise, "x0": torch.randn(5, 1, 3, 4, generator=g), "t": torch.randperm(10, generator=g)[:5],
            "eps": torch.randn(5, 1, 3, 4, generator=g), "alpha_bar": (1 - some_betas(g)).cumprod(0)}


def noisy(x0, t, eps, alpha_bar):
    """x_t as the root of a share of each."""
    return torch.stack([math.sqrt(a) * x + math.sqrt(1 - a) * e for x, e, a in zip(x0, eps, alpha_bar[t].tolist())])


@sheet.function("8.9", "code", 2, "The loss of Algorithm 1", cases=training_batch)
def simple_loss(denoise, x0, t, eps, alpha_bar):
    """The mean of the squares of what is left of the noise, pixel by pixel."""
    left = (eps - denoise(noisy(x0, t, eps, alpha_bar), t)).flatten()
    return left @ left / len(left)


@simple_loss.mistake("You compare with the image. This network is to say the noise, (8.10).")
def _(denoise, x0, t, eps, alpha_bar):
    return (x0 - denoise(noisy(x0, t, eps, alpha_bar), t)).square().mean()


@simple_loss.mistake("You show the network the clean image. Then nothing of the noise can be known: show it x_t.")
def _(denoise, x0, t, eps, alpha_bar):
    return (eps - denoise(x0, t)).square().mean()


@simple_loss.mistake("Your x_t has ᾱ and 1 - ᾱ as factors: those are of variances, and want their roots.")
def _(denoise, x0, t, eps, alpha_bar):
    a = column(alpha_bar[t], x0)
    return (eps - denoise(a * x0 + (1 - a) * eps, t)).square().mean()


@simple_loss.mistake("You sum over the pixels. The loss here is a mean over them, and over the batch: it does not "
                     "change with the size of either.")
def _(denoise, x0, t, eps, alpha_bar):
    return simple_loss.oracle(denoise, x0, t, eps, alpha_bar) * x0[0].numel()


@simple_loss.mistake("The target is the noise as it was drawn, of variance 1, not what was added, √(1 - ᾱ) ε.")
def _(denoise, x0, t, eps, alpha_bar):
    part = column((1 - alpha_bar[t]).sqrt(), x0)
    return (part * eps - denoise(noisy(x0, t, eps, alpha_bar), t)).square().mean()


@simple_loss.mistake("That is the mean absolute error. Its best answer is a median, not the mean that (8.9) needs.")
def _(denoise, x0, t, eps, alpha_bar):
    return (eps - denoise(noisy(x0, t, eps, alpha_bar), t)).abs().mean()


def some_labels(g: torch.Generator) -> Case:
    """Labels, a uniform number for each, the share to be dropped, and the null label."""
    u = torch.rand(60, generator=g)
    u[0] = 0.9  # whoever lets the first decide for all drops nothing
    return {"y": torch.randint(0, 10, (60,), generator=g), "u": u, "drop": between(g, 0.1, 0.3), "null": 10}


@sheet.function("8.10", "code", 1, "Labels left out", cases=some_labels)
def drop_labels(y, u, drop, null):
    """Label by label."""
    return torch.tensor([null if each < drop else int(label) for each, label in zip(u.tolist(), y)])


@drop_labels.mistake("You keep the share that should be dropped: with `drop = 0.1` nine of ten labels are gone.")
def _(y, u, drop, null):
    return torch.where(u < drop, y, null)


@drop_labels.mistake("No label is left out. Does the first number decide for the whole batch? Each image has its own.")
def _(y, u, drop, null):
    return torch.where(u[0] < drop, torch.full_like(y, null), y)


@drop_labels.mistake("You put 0 for a label that is left out. That is a digit: the network would take it for zeros.")
def _(y, u, drop, null):
    return torch.where(u < drop, 0, y)


@drop_labels.mistake("You drop the first of the batch, whichever they are. It would do on shuffled data, but `u` is to "
                     "decide.")
def _(y, u, drop, null):
    return torch.where(torch.arange(len(y)) < int(drop * len(y)), null, y)


@drop_labels.mistake("All labels are gone: then nothing learns what a label means.")
def _(y, u, drop, null):
    return torch.full_like(y, null)


# --- 8.11, 8.12 ------------------------------------------------------------------------------


def a_score(g: torch.Generator) -> Case:
    """States, scores, and what is left of the image."""
    return {"x_t": torch.randn(5, 3, generator=g), "score": torch.randn(5, 3, generator=g),
            "alpha_bar": between(g, 0.2, 0.8, 5)}


def slope_at(x_t, x0, alpha_bar):
    """The gradient of log q(x_t | x_0) by x_t, by automatic differentiation."""
    x = x_t.clone().requires_grad_()
    bar = alpha_bar[:, None]
    return torch.autograd.grad(Normal(bar.sqrt() * x0, (1 - bar).sqrt()).log_prob(x).sum(), x)[0]


@sheet.function("8.11", "derive", 2, "Image and noise, read from a score", cases=a_score, returns=("x0", "eps"))
def read_score(x_t, score, alpha_bar):
    """The x_0 whose q(x_t | x_0) has this gradient, which is linear in x_0; the noise is what is left."""
    none, one = (slope_at(x_t, torch.full_like(x_t, value), alpha_bar) for value in (0.0, 1.0))
    x0 = (score - none) / (one - none)
    return x0, (x_t - alpha_bar.sqrt()[:, None] * x0) / (1 - alpha_bar).sqrt()[:, None]


def from_eps(x_t, eps, alpha_bar):
    """The image that goes with a noise, and the noise."""
    bar = alpha_bar[:, None]
    return (x_t - (1 - bar).sqrt() * eps) / bar.sqrt(), eps


@read_score.mistake("The sign is turned: uphill is *against* the noise.")
def _(x_t, score, alpha_bar):
    return from_eps(x_t, (1 - alpha_bar).sqrt()[:, None] * score, alpha_bar)


@read_score.mistake("You take the score for -ε itself. The gradient of -(x - m)²/(2v) has the variance below, and ε is "
                    "counted in standard deviations: a factor of √(1 - ᾱ) remains.")
def _(x_t, score, alpha_bar):
    return from_eps(x_t, -score, alpha_bar)


@read_score.mistake("You multiply by 1 - ᾱ: that gives the noise *as it was added*, √(1 - ᾱ) ε.")
def _(x_t, score, alpha_bar):
    return from_eps(x_t, -(1 - alpha_bar)[:, None] * score, alpha_bar)


@read_score.mistake("You divide by √(1 - ᾱ) where you should multiply.")
def _(x_t, score, alpha_bar):
    return from_eps(x_t, -score / (1 - alpha_bar).sqrt()[:, None], alpha_bar)


@read_score.mistake("The noise is right. What is left when it is taken out is √ᾱ x_0, not yet x_0.")
def _(x_t, score, alpha_bar):
    x0, eps = read_score.oracle(x_t, score, alpha_bar)
    return alpha_bar.sqrt()[:, None] * x0, eps


def v_known(g: torch.Generator) -> Case:
    """As for the mean from the noise, with v in its place."""
    case = one_step_back(g)
    return {"x_t": case["x_t"], "v": case["x0"], "t": case["t"], "beta": case["beta"]}


@sheet.function("8.12", "derive", 2, "The same mean, from v", cases=v_known)
def mean_from_v(x_t, v, t, beta):
    """The rotation (8.11) back to x_0, then condition."""
    now = walked(beta)[t + 1]
    return conditioned(now[:, 0] * x_t - now[:, 1:].norm(dim=1) * v, x_t, t, beta)[0]


@mean_from_v.mistake("You put v where (8.12) has the noise. First turn v into ε, or into x_0, by (8.11).")
def _(x_t, v, t, beta):
    return mean_from_noise.oracle(x_t, v, t, beta)


@mean_from_v.mistake("You have ᾱ of step t before v. One √α has cancelled: ᾱ of the step before is left.")
def _(x_t, v, t, beta):
    bar, _ = bars(beta, t)
    return (1 - beta[t]).sqrt() * x_t - beta[t] * (bar / (1 - bar)).sqrt() * v


@mean_from_v.mistake("The sign of v is turned: v grows with the noise, and noise is taken out.")
def _(x_t, v, t, beta):
    return mean_from_v.oracle(x_t, -v, t, beta)


@mean_from_v.mistake("x_t is divided by √α, as in (8.12). But ε holds a share of x_t too, by (8.11); with it the "
                     "factor becomes (1 - β)/√α.")
def _(x_t, v, t, beta):
    alpha = 1 - beta[t]
    return mean_from_v.oracle(x_t, v, t, beta) + (1 / alpha.sqrt() - alpha.sqrt()) * x_t


@mean_from_v.mistake("That is the guess of x_0 itself, (8.11). It has still to go into (8.6).")
def _(x_t, v, t, beta):
    bar, _ = bars(beta, t)
    return bar.sqrt() * x_t - (1 - bar).sqrt() * v


# --- 8.13, 8.14 ------------------------------------------------------------------------------


def a_leap(g: torch.Generator) -> Case:
    """A state, a guess of its noise, the image's share here and there, and how much fresh noise."""
    here = between(g, 0.1, 0.4)
    return {"x_t": torch.randn(4, 1, 3, 3, generator=g), "eps_hat": torch.randn(4, 1, 3, 3, generator=g),
            "bar_t": here, "bar_s": here + between(g, 0.2, 0.5), "eta": between(g, 0.3, 0.8),
            "z": torch.randn(4, 1, 3, 3, generator=g)}


def fresh(bar_t, bar_s, eta):
    """eta² times the variance of x_s given x_t and x_0, from their covariances."""
    both = math.sqrt(bar_t / bar_s) * (1 - bar_s)
    return eta**2 * ((1 - bar_s) - both**2 / (1 - bar_t))


def landed(x_t, eps_hat, bar_t, bar_s, direction, sd, z):
    """(8.13) with a factor of the guessed noise, and a standard deviation of the fresh one."""
    x0_hat = (x_t - math.sqrt(1 - bar_t) * eps_hat) / math.sqrt(bar_t)
    return math.sqrt(bar_s) * x0_hat + direction * eps_hat + sd * z


@sheet.function("8.13", "code", 2, "A jump of DDIM", cases=a_leap)
def ddim_jump(x_t, eps_hat, bar_t, bar_s, eta, z):
    """The fresh noise's variance by conditioning; the old noise pays for it."""
    var = fresh(bar_t, bar_s, eta)
    return landed(x_t, eps_hat, bar_t, bar_s, math.sqrt(1 - bar_s - var), math.sqrt(var), z)


@ddim_jump.mistake("The fresh noise comes on top: the old one still has all of 1 - ᾱ_s. Together they are to have that "
                   "variance, so what is added fresh is taken off the old.")
def _(x_t, eps_hat, bar_t, bar_s, eta, z):
    return landed(x_t, eps_hat, bar_t, bar_s, math.sqrt(1 - bar_s), math.sqrt(fresh(bar_t, bar_s, eta)), z)


@ddim_jump.mistake("You have η where (8.13) has its square: η scales σ, a standard deviation.")
def _(x_t, eps_hat, bar_t, bar_s, eta, z):
    return ddim_jump.oracle(x_t, eps_hat, bar_t, bar_s, math.sqrt(eta), z)


@ddim_jump.mistake("The fresh noise z is multiplied by its variance σ². Take the root.")
def _(x_t, eps_hat, bar_t, bar_s, eta, z):
    var = fresh(bar_t, bar_s, eta)
    return landed(x_t, eps_hat, bar_t, bar_s, math.sqrt(1 - bar_s - var), var, z)


@ddim_jump.mistake("No fresh noise is added: that is η = 0, whatever η was given.")
def _(x_t, eps_hat, bar_t, bar_s, eta, z):
    return ddim_jump.oracle(x_t, eps_hat, bar_t, bar_s, 0.0, z)


@ddim_jump.mistake("The old noise has made room for fresh noise, and none is added: z is missing.")
def _(x_t, eps_hat, bar_t, bar_s, eta, z):
    return landed(x_t, eps_hat, bar_t, bar_s, math.sqrt(1 - bar_s - fresh(bar_t, bar_s, eta)), 0.0, z)


@ddim_jump.mistake("Your guess of the image lacks the division by √ᾱ_t: what is left of x_t without its noise is the "
                   "image, shrunk.")
def _(x_t, eps_hat, bar_t, bar_s, eta, z):
    var, shrunk = fresh(bar_t, bar_s, eta), x_t - math.sqrt(1 - bar_t) * eps_hat
    return math.sqrt(bar_s) * shrunk + math.sqrt(1 - bar_s - var) * eps_hat + math.sqrt(var) * z


@ddim_jump.mistake("You put the guessed image itself there. At s a share of ᾱ_s of it is to be left, in variance.")
def _(x_t, eps_hat, bar_t, bar_s, eta, z):
    x0_hat = (x_t - math.sqrt(1 - bar_t) * eps_hat) / math.sqrt(bar_t)
    return ddim_jump.oracle(x_t, eps_hat, bar_t, bar_s, eta, z) + (1 - math.sqrt(bar_s)) * x0_hat


def two_answers(g: torch.Generator) -> Case:
    """What the network says with and without the label, and the paper's strength."""
    return {"with_label": torch.randn(4, 1, 3, 3, generator=g), "without": torch.randn(4, 1, 3, 3, generator=g),
            "w": between(g, 0.6, 4.0)}


@sheet.function("8.14", "code", 1, "Guidance on the paper's own scale", cases=two_answers)
def guided_paper(with_label, without, w):
    """On the line through both answers, w beyond the one with the label."""
    return torch.lerp(without, with_label, 1 + w)


@guided_paper.mistake("That is the scale of (8.14), where 1 is the plain conditional model. In the paper that is 0.")
def _(with_label, without, w):
    return torch.lerp(without, with_label, w)


@guided_paper.mistake("Label and no label are exchanged: yours walks away from what was asked for.")
def _(with_label, without, w):
    return torch.lerp(with_label, without, 1 + w)


@guided_paper.mistake("The signs are such that the label is taken back: at `w = 0` right, and then towards the "
                      "unconditional answer.")
def _(with_label, without, w):
    return (1 - w) * with_label + w * without


@guided_paper.mistake("The two weights have to sum to 1; else the whole answer grows, noise and all. Yours add.")
def _(with_label, without, w):
    return (1 + w) * with_label + w * without


@guided_paper.mistake("You have left out the 1 of the paper's 1 + w: the weights do not sum to 1.")
def _(with_label, without, w):
    return w * (with_label - without)


# --- 8.15 to 8.17 ----------------------------------------------------------------------------


def gaussian_data(g: torch.Generator) -> Case:
    """What is left of the image, and the data's standard deviation."""
    return {"alpha_bar": between(g, 0.1, 0.9, 5), "s": between(g, 0.4, 0.8)}


def regression(alpha_bar, s):
    """Slopes of the noise and of the image on x_t, and the noise's error, from two-vectors of coefficients."""
    noise = torch.tensor([0.0, 1.0], dtype=torch.float64)
    image = torch.tensor([s, 0.0], dtype=torch.float64)
    x_t = torch.stack([s * alpha_bar.sqrt(), (1 - alpha_bar).sqrt()], 1).double()
    size = x_t.square().sum(1)
    slope = x_t @ noise / size
    return slope, x_t @ image / size, (noise - slope[:, None] * x_t).square().sum(1)


@sheet.function("8.15", "derive", 2, "The floor of the loss", cases=gaussian_data, returns=("slope", "floor"))
def noise_guess(alpha_bar, s):
    """Least squares of one vector on another."""
    slope, _, floor = regression(alpha_bar, s)
    return slope, floor


@noise_guess.mistake("Your slope is that of the *image* on x_t. For the noise take its own covariance with x_t.")
def _(alpha_bar, s):
    _, image, floor = regression(alpha_bar, s)
    return image, floor


@noise_guess.mistake("Your slope is 1/√(1 - ᾱ), as if x_t were noise and nothing else. Part of it is data, and the "
                     "slope is smaller.")
def _(alpha_bar, s):
    return 1 / (1 - alpha_bar).sqrt(), regression(alpha_bar, s)[2]


@noise_guess.mistake("Your floor is the share that *can* be explained. The loss is what is left of 1.")
def _(alpha_bar, s):
    slope, _, floor = regression(alpha_bar, s)
    return slope, 1 - floor


@noise_guess.mistake("You take the data for having variance 1: s² is missing.")
def _(alpha_bar, s):
    return (1 - alpha_bar).sqrt(), alpha_bar.clone()


@noise_guess.mistake("The floor has lost s², or the numerator: it is the *share* of x_t's variance that is data, ᾱ s² "
                     "over the whole.")
def _(alpha_bar, s):
    return regression(alpha_bar, s)[0], alpha_bar * s**2


@noise_guess.mistake("The slope is the covariance over the *variance* of x_t, not over its standard deviation.")
def _(alpha_bar, s):
    slope, _, floor = regression(alpha_bar, s)
    return slope * (alpha_bar * s**2 + 1 - alpha_bar).sqrt(), floor


def stops(g: torch.Generator) -> Case:
    """What is left of the image at the sampler's stops, noisiest first; the data's spread; fresh noise."""
    bar = torch.linspace(0.1, 0.9, 6) + between(g, -0.06, 0.06, 6)
    return {"alpha_bar": bar, "s": between(g, 0.4, 0.7), "eta": between(g, 0.3, 0.9)}


def whole_way(alpha_bar, s, eta, *, slope=None, start=1.0, room=True, noise=True, square=True, last=True):
    """The sampler on coefficients of x_T, z_1, ..., z_K, with a mistake where asked for; the standard deviation."""
    K = len(alpha_bar)
    unit = torch.eye(K + 1, dtype=torch.float64)
    x = math.sqrt(start) * unit[0]
    bars = [*alpha_bar.tolist(), 1.0]
    for k in range(K if last else K - 1):
        here, there = bars[k], bars[k + 1]
        guess = regression(torch.tensor([here], dtype=torch.float64), s)[0] if slope is None else slope(here)
        var = fresh(here, there, eta if square else math.sqrt(eta))
        direction = math.sqrt(1 - there - (var if room else 0))
        x = landed(x, guess * x, here, there, direction, math.sqrt(var) if noise else 0.0, unit[k + 1])
    return x.norm()


@sheet.function("8.16", "investigate", 3, "The whole way back, with a perfect denoiser", cases=stops)
def reverse_sd(alpha_bar, s, eta):
    """Follow what every random number contributes to the sample."""
    return whole_way(alpha_bar, s, eta)


@reverse_sd.mistake("The fresh noise is never added: give its variance σ² to that of x in every jump. (With η = 0 "
                    "yours would be right.)")
def _(alpha_bar, s, eta):
    return whole_way(alpha_bar, s, eta, noise=False)


@reverse_sd.mistake("The old noise makes no room for the fresh one: 1 - ᾱ_s - σ² is what is left for it.")
def _(alpha_bar, s, eta):
    return whole_way(alpha_bar, s, eta, room=False)


@reverse_sd.mistake("You stop one jump short: from the last stop it goes to ᾱ = 1, where the picture is the guess.")
def _(alpha_bar, s, eta):
    return whole_way(alpha_bar, s, eta, last=False)


@reverse_sd.mistake("You start with the variance that the *chain* has at the first stop. The sampler does not know the "
                    "data: it starts at variance 1.")
def _(alpha_bar, s, eta):
    bar = float(alpha_bar[0])
    return whole_way(alpha_bar, s, eta, start=bar * s**2 + 1 - bar)


@reverse_sd.mistake("Your denoiser takes all of x_t for noise. The perfect one knows the data's: exercise 8.15.")
def _(alpha_bar, s, eta):
    return whole_way(alpha_bar, s, eta, slope=lambda bar: 1 / math.sqrt(1 - bar))


@reverse_sd.mistake("Your denoiser takes the data for having variance 1. It should know their s.")
def _(alpha_bar, s, eta):
    return whole_way(alpha_bar, s, eta, slope=lambda bar: math.sqrt(1 - bar))


@reverse_sd.mistake("σ² has η², not η.")
def _(alpha_bar, s, eta):
    return whole_way(alpha_bar, s, eta, square=False)


@reverse_sd.mistake("That is the variance of the samples. Return its root.")
def _(alpha_bar, s, eta):
    return whole_way(alpha_bar, s, eta) ** 2


sheet.number(
    "8.17", "predict", 1, "Twice the steps", truth=2, within=0.1,
    why="The error falls like 1/K, as Euler's method has it for a differential equation: the price of following a bent "
        "path in straight strides.",
    mistakes=[
        (4, "That would be a method of second order. DDIM takes the denoiser's answer at the start of each stride for "
            "the whole of it, as Euler's method does."),
        (math.sqrt(2), "The root belongs to averages over random draws. Here nothing is drawn after x_T: the error is "
                       "that of long strides."),
        (1, "It does fall: the denoiser is perfect here, so that nothing else is left than what the strides cost."),
        (16, "That would be a method of fourth order, such as Runge and Kutta's.")])


# --- 8.18, 8.19 ------------------------------------------------------------------------------


def two_gaussians(g: torch.Generator) -> Case:
    """A class inside all of the data, and a strength."""
    return {"m": between(g, 0.4, 1.0, 4), "s": between(g, 0.4, 0.7, 4), "S": between(g, 0.9, 1.3, 4),
            "w": between(g, 1.5, 5.0, 4)}


GRID = torch.linspace(-9, 9, 9001, dtype=torch.float64)


@sheet.function("8.18", "derive", 2, "What guidance does to a Gaussian", cases=two_gaussians,
                returns=("mean", "variance"))
def guided_gaussian(m, s, S, w):
    """The product of powers on a grid."""
    found = []
    for mean, sd, wide, strength in zip(m, s, S, w):
        log_p = (1 - strength) * Normal(0.0 * mean, wide).log_prob(GRID) + strength * Normal(mean, sd).log_prob(GRID)
        p = log_p.softmax(0)
        centre = (p * GRID).sum()
        found.append(torch.stack([centre, (p * (GRID - centre) ** 2).sum()]))
    return tuple(torch.stack(found).T)


def product(m, s, S, w, u):
    """Mean and variance of the product of the w-th power of the class and the u-th power of all."""
    variance = 1 / (w / s**2 + u / S**2)
    return variance * w * m / s**2, variance


@guided_gaussian.mistake("The variance is right, but you mix the *means* with the weights. A mean counts by its "
                         "precision: here the class's, over that of the whole.")
def _(m, s, S, w):
    return w * m, product(m, s, S, w, 1 - w)[1]


@guided_gaussian.mistake("The mean stays at that of the class in yours. But the unconditional density is divided out, "
                         "and its centre, 0, pushes away.")
def _(m, s, S, w):
    return m, product(m, s, S, w, 1 - w)[1]


@guided_gaussian.mistake("You mix variances. A power of a Gaussian multiplies its *precision*, and precisions add.")
def _(m, s, S, w):
    variance = w * s**2 + (1 - w) * S**2
    return variance * w * m / s**2, variance


@guided_gaussian.mistake("Your w is the paper's: its 0 is no guidance. Here it is 1.")
def _(m, s, S, w):
    return product(m, s, S, 1 + w, -w)


@guided_gaussian.mistake("You sharpen the class alone, p(x | y)^w. The unconditional density has the power 1 - w, "
                         "which is negative.")
def _(m, s, S, w):
    return product(m, s, S, w, 0.0)


@guided_gaussian.mistake("The unconditional density enters with the wrong sign: its power is 1 - w, below zero, so it "
                         "pushes away.")
def _(m, s, S, w):
    return product(m, s, S, w, w - 1)


@guided_gaussian.mistake("Your second output is the standard deviation.")
def _(m, s, S, w):
    mean, variance = product(m, s, S, w, 1 - w)
    return mean, variance.sqrt()


def off_means(g: torch.Generator) -> Case:
    """The mean squared error of a mean, and the posterior's variance."""
    return {"error2": between(g, 0.1, 1.5, 5), "beta_tilde": between(g, 0.2, 0.8, 5)}


@sheet.function("8.19", "derive", 2, "The best variance of a step", cases=off_means, returns=("sigma2", "nats"))
def best_variance(error2, beta_tilde):
    """A search over six thousand variances, with the divergence of torch.distributions."""
    factor = torch.logspace(-0.3, 1.0, 6_001, dtype=torch.float64)[:, None]
    sigma2 = factor * beta_tilde
    nats = kl_divergence(Normal(error2.sqrt(), beta_tilde.sqrt()), Normal(torch.zeros_like(sigma2), sigma2.sqrt()))
    least = nats.min(0)
    return sigma2.gather(0, least.indices[None])[0], least.values


@best_variance.mistake("That is the fixed choice of the chapter, β̃, and its K. A step whose mean is off does better "
                       "with more.")
def _(error2, beta_tilde):
    return beta_tilde.clone(), error2 / (2 * beta_tilde)


@best_variance.mistake("Your variance pays for the error of the mean alone. The step would be random even if the mean "
                       "were right: β̃ comes on top.")
def _(error2, beta_tilde):
    return error2.clone(), best_variance.oracle(error2, beta_tilde)[1]


@best_variance.mistake("The variance is right; your nats lack the half in front of the logarithm.")
def _(error2, beta_tilde):
    sigma2, nats = best_variance.oracle(error2, beta_tilde)
    return sigma2, 2 * nats


@best_variance.mistake("The variance is right, but your nats are those of σ² = β̃. Put the best one in.")
def _(error2, beta_tilde):
    return best_variance.oracle(error2, beta_tilde)[0], error2 / (2 * beta_tilde)


@best_variance.mistake("The variance is right; your second output is in bits.")
def _(error2, beta_tilde):
    sigma2, nats = best_variance.oracle(error2, beta_tilde)
    return sigma2, nats / math.log(2)


@best_variance.mistake("You add standard deviations. Independent errors add their squares.")
def _(error2, beta_tilde):
    return (error2.sqrt() + beta_tilde.sqrt()) ** 2, best_variance.oracle(error2, beta_tilde)[1]


# --- 8.20, 8.21 ------------------------------------------------------------------------------


def guessed_images(g: torch.Generator) -> Case:
    """Images, guesses of them, steps from the second on, and the betas."""
    x0 = torch.randn(4, 1, 3, 2, generator=g)
    return {"x0": x0, "x0_hat": x0 + 0.5 * torch.randn(4, 1, 3, 2, generator=g),
            "t": torch.randperm(9, generator=g)[:4] + 1, "beta": some_betas(g)}


def snr(beta, t):
    """Signal-to-noise ratios at t and at the step before."""
    bar, before = bars(beta, t)
    return bar / (1 - bar), before / (1 - before)


def squares(x0, x0_hat):
    """Squared errors, summed over the pixels."""
    return (x0 - x0_hat).flatten(1).square().sum(1)


@sheet.function("8.20", "code", 2, "A term of the bound, from a guess of the image", cases=guessed_images)
def kl_term(x0, x0_hat, t, beta):
    """The divergence of the two posteriors, pixel by pixel."""
    nats = []
    for image, guess, step in zip(x0, x0_hat, t):
        at = step.expand(image.numel())
        (ours, var), (theirs, _) = (conditioned(x.flatten(), 0 * x.flatten(), at, beta) for x in (image, guess))
        nats.append(kl_divergence(Normal(ours, var.sqrt()), Normal(theirs, var.sqrt())).sum())
    return torch.stack(nats)


@kl_term.mistake("The half is missing.")
def _(x0, x0_hat, t, beta):
    return 2 * kl_term.oracle(x0, x0_hat, t, beta)


@kl_term.mistake("You weigh by the signal-to-noise ratio itself. What counts is by how much it *grows* in this step "
                 "back: SNR of t - 1 less SNR of t.")
def _(x0, x0_hat, t, beta):
    return 0.5 * snr(beta, t)[0] * squares(x0, x0_hat)


@kl_term.mistake("A divergence cannot be negative: the ratio is larger *before* the step. Exchange the two.")
def _(x0, x0_hat, t, beta):
    return -kl_term.oracle(x0, x0_hat, t, beta)


@kl_term.mistake("You take the mean over the pixels. The nats of independent pixels add up.")
def _(x0, x0_hat, t, beta):
    return kl_term.oracle(x0, x0_hat, t, beta) / x0[0].numel()


@kl_term.mistake("That is the weight of an error of the *noise*, the last form of (8.9). Here it is the image's.")
def _(x0, x0_hat, t, beta):
    return beta[t] / (2 * (1 - beta[t]) * (1 - bars(beta, t)[1])) * squares(x0, x0_hat)


@kl_term.mistake("You are one step late: your ratios are those of t and t + 1. In code `t` is the step that is undone, "
                 "and `t - 1` the entry before.")
def _(x0, x0_hat, t, beta):
    longer = torch.cat([beta, beta[-1:]])
    after, here = snr(longer, t + 1)
    return 0.5 * (here - after) * squares(x0, x0_hat)


sheet.choice(
    "8.21", "predict", 1, "A likelihood in disguise?", answer="d",
    why="Same errors, other weights. Whoever can be perfect everywhere need not choose; a network of limited size, "
        "which serves all steps, does.",
    wrongs={
        "a": "One constant in front of the whole loss would not matter. These are a thousand, one for each step, and "
             "they say which step's error may be bought with another's.",
        "b": "Noise or image, one follows from the other by (8.2): (8.9) has the same term in both forms.",
        "c": "L_T and L_0 are not the trouble: L_T has nothing to learn. Compare the weights of the sum in between."})
