"""Chapter 7's exercises: each oracle is written without the chapter's code."""

import math

import torch
from torch.distributions import Normal, kl_divergence

from genmed_core.exercises.answers import Case
from genmed_core.exercises.sheet import Sheet

sheet = Sheet("07_simple_diffusion")


def between(g: torch.Generator, low: float, high: float) -> float:
    """One number at random."""
    return low + (high - low) * float(torch.rand((), generator=g))


# --- 7.1 -------------------------------------------------------------------------------------


def two_levels(g: torch.Generator) -> Case:
    """Pictures with s steps of noise, another number of them for each, that are to have t."""
    s = torch.randint(1, 9, (5,), generator=g)
    t = s + torch.randint(3, 12, (5,), generator=g)
    return {"x_s": torch.randn(5, 1, 4, 4, generator=g), "s": s, "t": t,
            "eps": torch.randn(5, 1, 4, 4, generator=g), "sigma": between(g, 0.2, 0.5)}


def step_by_step(s, t, variance):
    """Variances of the steps after s, up to t, added one by one."""
    steps = torch.arange(1, 40)
    taken = (steps > s[:, None]) & (steps <= t[:, None])
    return (taken * variance).sum(1).view(-1, 1, 1, 1)


@sheet.function("7.1", "code", 1, "From one level of noise to another", cases=two_levels)
def onward(x_s, s, t, eps, sigma):
    """The variances of all steps on the way, added."""
    return x_s + step_by_step(s, t, sigma**2).sqrt() * eps


@onward.mistake("You subtract standard deviations, √t σ less √s σ. It is variances that add up along the chain, and so "
                "it is variances that may be subtracted.")
def _(x_s, s, t, eps, sigma):
    return x_s + sigma * (t.sqrt() - s.sqrt()).view(-1, 1, 1, 1) * eps


@onward.mistake("Your noise grows in proportion to the number of steps, as if all of them pulled the same way. "
                "Independent draws partly cancel: their variances add up, not their standard deviations.")
def _(x_s, s, t, eps, sigma):
    return x_s + sigma * (t - s).view(-1, 1, 1, 1) * eps


@onward.mistake("That is the noise of all t steps, put on top of a picture that has s of them already: x_s is not x_0.")
def _(x_s, s, t, eps, sigma):
    return x_s + sigma * t.sqrt().view(-1, 1, 1, 1) * eps


@onward.mistake("That is a single step, (7.1), however far apart s and t are.")
def _(x_s, s, t, eps, sigma):
    return x_s + sigma * eps


@onward.mistake("You take sigma for a variance. Here it is the standard deviation of one step; the textbook's own text "
                "has the same slip.")
def _(x_s, s, t, eps, sigma):
    return x_s + step_by_step(s, t, sigma).sqrt() * eps


# --- 7.2 -------------------------------------------------------------------------------------


def raw_outputs(g: torch.Generator) -> Case:
    """Outputs of a last layer: every picture with a mean and a spread of its own."""
    spread, shift = 0.5 + 2 * torch.rand(6, 1, generator=g), torch.randn(6, 1, generator=g)
    return {"out": shift + spread * torch.randn(6, 784, generator=g), "sigma": between(g, 0.2, 0.5)}


def each_row(out, change):
    """A function of one picture's numbers, applied to each picture."""
    return torch.stack([change(row) for row in out])


@sheet.function("7.2", "code", 1, "The textbook's head", cases=raw_outputs, rtol=3e-3)
def head(out, sigma):
    """Row by row, the spread from its definition."""
    return each_row(out, lambda r: sigma * (r - r.mean()) / (r - r.mean()).square().mean().sqrt())


@head.mistake("You standardise each pixel over the batch. Then a picture's output depends on which other pictures "
              "happen to be there; the textbook does it image by image.")
def _(out, sigma):
    return each_row(out.T, lambda r: sigma * (r - r.mean()) / (r - r.mean()).square().mean().sqrt()).T


@head.mistake("You take one mean and one spread of the whole batch. Each image needs its own.")
def _(out, sigma):
    return sigma * (out - out.mean()) / (out - out.mean()).square().mean().sqrt()


@head.mistake("The mean is still there: you divide by the spread, and subtract nothing first.")
def _(out, sigma):
    return each_row(out, lambda r: sigma * r / (r - r.mean()).square().mean().sqrt())


@head.mistake("You divide by the variance. To bring a spread to 1, divide by the standard deviation.")
def _(out, sigma):
    return each_row(out, lambda r: sigma * (r - r.mean()) / (r - r.mean()).square().mean())


@head.mistake("Mean 0 and standard deviation 1: right so far. The noise of a step has standard deviation sigma.")
def _(out, sigma):
    return head.oracle(out, sigma) / sigma


@head.mistake("Your output's variance is sigma; its standard deviation should be.")
def _(out, sigma):
    return head.oracle(out, sigma) / math.sqrt(sigma)


# --- 7.3 to 7.5 ------------------------------------------------------------------------------

sheet.choice(
    "7.3", "predict", 1, "Who scores best", answer="b",
    why="To say nothing costs the target's variance, σ². A vector of the target's length pays that twice, less what "
        "its direction is worth; and the best direction hardly matches one step out of many. The next cells have the "
        "numbers.",
    wrongs={
        "a": "It has the right direction, and still the wrong length. It has to be as long as the whole target, while "
             "only a part of the target can be known: at late steps it pays more than a guess of nothing.",
        "c": "This one comes close to the perfect guess, but only to that: both have to be as long as the target, of "
             "which they know little.",
        "d": "Its output is standardised too, so it can only come near the perfect standardised guess, from above. "
             "Ask what that one costs at late steps."})

sheet.number(
    "7.4", "predict", 2, "How long the printed rule has work", truth=5, within=0, off=0.4,
    why="The noise is 5σ long, each subtraction is σ long and points along it: five, and twenty steps are left with "
        "nothing to do.",
    mistakes=[
        (25, "That would hold if each step took away a 25th of the *variance*. But the subtracted vector points along "
             "the noise that is left, and has length σ in every step: lengths are subtracted here."),
        (20, "That is the step t at which the noise is gone, or how many steps remain. How many were needed?"),
        (1, "The direction is that of the whole noise, but the head's output is only σ long. How long is the noise?"),
        (24, "It is gone long before the end: compare the noise's length with that of what is subtracted.")])

sheet.choice(
    "7.5", "predict", 1, "Forward and reverse", answer="c",
    why="The true way back is a mixture over all candidates for x₀. In a small step their means lie close together "
        "beside the noise, and one Gaussian does; in a leap it does not. The next exercise computes how wrong it is.",
    wrongs={
        "a": "Nothing in the forward process is learned: it is a recipe, fixed before training, and has no parameters.",
        "b": "The eye plays no part. Small steps are needed for the *reverse* chain: its steps are modelled as "
             "Gaussians. Ask for which steps that is true.",
        "d": "Bayes' rule gives the reverse step only if x₀ is known. In sampling it is not, and that is what the "
             "network is for. And (7.2) holds for steps of any size."})


# --- 7.6 -------------------------------------------------------------------------------------


def leaps(g: torch.Generator) -> Case:
    """A state, the variance of its noise, and the variance that is left after the leap."""
    v = between(g, 0.8, 1.6)
    x_t = between(g, 0.5, 0.9) * (1 if torch.rand((), generator=g) < 0.5 else -1)
    return {"x_t": x_t, "v": v, "s": v * between(g, 0.14, 0.3)}


LINE = torch.linspace(-8, 8, 16_001, dtype=torch.float64)
FINE = float(LINE[1] - LINE[0])


def half_of_the_gap(true, other, factor=0.5):
    """Half the area between two densities on the line."""
    return factor * (true - other).abs().sum() * FINE


def gaussian_like(true, more=0.0):
    """The Gaussian of the same mean and variance as a density on the line, its variance a little less."""
    mean = (true * LINE).sum() * FINE
    variance = (true * (LINE - mean) ** 2).sum() * FINE
    return Normal(mean, (variance - more).sqrt()).log_prob(LINE).exp()


def way_back(x_t, v, s):
    """p(x_s | x_t) on the line: the density of x_s times that of what was added, by Bayes."""
    x_s = sum(Normal(m, math.sqrt(s)).log_prob(LINE).exp() for m in (-1.0, 1.0))
    p = x_s * Normal(LINE, math.sqrt(v - s)).log_prob(torch.tensor(x_t, dtype=torch.float64)).exp()
    return p / (p.sum() * FINE)


def humps(x_t, v, s, odds, variance):
    """Two Gaussians around what a leap makes of the candidates +1 and -1."""
    means = [m + s / v * (x_t - m) for m in (1.0, -1.0)]
    return sum(w * Normal(m, math.sqrt(variance)).log_prob(LINE).exp() for w, m in zip((odds, 1 - odds), means))


@sheet.function("7.6", "investigate", 3, "How Gaussian a leap is", cases=leaps, rtol=4e-3, atol=2e-4)
def leap_gap(x_t, v, s):
    """Everything on one grid, from Bayes' rule alone."""
    true = way_back(x_t, v, s)
    return half_of_the_gap(true, gaussian_like(true))


@leap_gap.mistake("You integrate the whole difference of the densities: the total variation distance is half of that, "
                  "and at most 1.")
def _(x_t, v, s):
    return 2 * leap_gap.oracle(x_t, v, s)


@leap_gap.mistake("You give both candidates equal odds. They had them before x_t was seen; a positive x_t makes +1 the "
                  "likelier one.")
def _(x_t, v, s):
    true = humps(x_t, v, s, 0.5, s * (v - s) / v)
    return half_of_the_gap(true, gaussian_like(true))


@leap_gap.mistake("Your humps have variance s. That is the noise in x_s without x_t being known; to know x_t makes it "
                  "narrower, as in (7.9).")
def _(x_t, v, s):
    true = humps(x_t, v, s, 1 / (1 + math.exp(-2 * x_t / v)), s)
    return half_of_the_gap(true, gaussian_like(true))


@leap_gap.mistake("Your Gaussian is as narrow as one hump. That of the same variance also pays for not knowing which "
                  "hump: the distance between them counts.")
def _(x_t, v, s):
    true = way_back(x_t, v, s)
    mean = (true * LINE).sum() * FINE
    return half_of_the_gap(true, Normal(mean, math.sqrt(s * (v - s) / v)).log_prob(LINE).exp())


@leap_gap.mistake("The odds are too sure by far, or not sure enough: they compare exp(-(x_t - x_0)²/(2v)) for the two "
                  "candidates, with v, all the noise in x_t, and the 2.")
def _(x_t, v, s):
    true = humps(x_t, v, s, 1 / (1 + math.exp(-4 * x_t / v)), s * (v - s) / v)
    return half_of_the_gap(true, gaussian_like(true))


# --- 7.7 -------------------------------------------------------------------------------------

sheet.choice(
    "7.7", "predict", 1, "The same in two senses", answer="d",
    why="The marginals agree, step by step. What two jumps with fresh noise lack is what the chain has between x₄ and "
        "x₅: all of the noise of x₄ in common. Training looks at one step at a time, so it does not miss it.",
    wrongs={
        "a": "Fresh noise gives another picture, of the same distribution. The same picture needs the same noise, "
             "summed and divided by √t.",
        "b": "(7.2) is exact for every σ: a sum of independent Gaussians is Gaussian, and its variance is the sum.",
        "c": "Each x_t alone has the right distribution, but not the sequence: in the chain x₅ is x₄ and a little "
             "more. After two jumps with fresh noise it is not, and their difference is far larger than one step."})


# --- 7.8 -------------------------------------------------------------------------------------


def betas(g: torch.Generator) -> Case:
    """Twelve betas, rising a little, as large as after some hundred of DDPM's steps."""
    return {"beta": torch.linspace(0.02, 0.2, 12) * (0.7 + 0.6 * torch.rand(12, generator=g))}


def unrolled(beta):
    """What every x_t is made of: its coefficients on x_0, e_1, ..., e_T."""
    T = len(beta)
    made_of, rows = torch.eye(T + 1, dtype=beta.dtype)[0], []
    for t in range(T):
        made_of = (1 - beta[t]).sqrt() * made_of
        made_of = made_of + beta[t].sqrt() * torch.eye(T + 1, dtype=beta.dtype)[t + 1]
        rows.append(made_of)
    return torch.stack(rows)


@sheet.function("7.8", "code", 2, "DDPM's chain in one go", cases=betas, returns=("scale", "variance"))
def chain_moments(beta):
    """Walk the chain with the coefficients of all that goes into it."""
    rows = unrolled(beta)
    return rows[:, 0], rows[:, 1:].square().sum(1)


@chain_moments.mistake("The image is multiplied by the *root* of 1 - β in every step, and so by the root of their "
                       "product. The variance is right.")
def _(beta):
    scale, variance = chain_moments.oracle(beta)
    return scale**2, variance


@chain_moments.mistake("You add up the betas, as in a chain that shrinks nothing. Here every step also shrinks the "
                       "noise that is there already, its variance by 1 - β.")
def _(beta):
    return chain_moments.oracle(beta)[0], beta.cumsum(0)


@chain_moments.mistake("Your second output is the noise's standard deviation. Its variance is asked for.")
def _(beta):
    scale, variance = chain_moments.oracle(beta)
    return scale, variance.sqrt()


@chain_moments.mistake("You are one step late: your first entries are those of x_0. Entry 0 belongs to x_1, after one "
                       "step.")
def _(beta):
    scale, variance = chain_moments.oracle(beta)
    one, zero = torch.ones(1, dtype=beta.dtype), torch.zeros(1, dtype=beta.dtype)
    return torch.cat([one, scale[:-1]]), torch.cat([zero, variance[:-1]])


@chain_moments.mistake("Your variance is 1 less the image's factor. It is 1 less the *square* of it: variances are "
                       "what adds up to 1.")
def _(beta):
    scale, _ = chain_moments.oracle(beta)
    return scale, 1 - scale


# --- 7.9, 7.10 -------------------------------------------------------------------------------

sheet.choice(
    "7.9", "predict", 1, "What may be dropped", answer="a",
    why="The first is the Markov property; the second holds for every density that is known up to a factor. What is "
        "left is a product of two Gaussians in the one unknown.",
    wrongs={
        "b": "q(x_{t-1} | x_0) needs its x_0: without it this would be the density of all noisy pictures, and that is "
             "no Gaussian.",
        "c": "It is a density, and need not be near 1. Something else about it matters: which of the three variables "
             "does it not contain?",
        "d": "x_{t-1} is the very thing that is unknown. Seeing x_t tells something of it, and x_0 tells more: both "
             "factors stay, and their precisions add up."})


def any_chain(g: torch.Generator) -> Case:
    """A chain that shrinks by any factor and adds any noise, a different one for each of six numbers."""
    def uniform(low, high):
        return low + (high - low) * torch.rand(6, generator=g)

    return {"x_t": 2 * torch.randn(6, generator=g), "x_0": 1.5 * torch.randn(6, generator=g) + 0.5,
            "alpha": uniform(0.5, 0.9), "beta": uniform(0.1, 0.6), "a_before": uniform(0.2, 0.8),
            "v_before": uniform(0.2, 1.5)}


@sheet.function("7.10", "derive", 2, "The reverse step of any chain", cases=any_chain, returns=("mean", "variance"))
def posterior(x_t, x_0, alpha, beta, a_before, v_before):
    """Given x_0 the pair (x_{t-1}, x_t) is Gaussian: condition on x_t by its covariances."""
    mean, mean_t = a_before.sqrt() * x_0, (alpha * a_before).sqrt() * x_0
    both, whole = alpha.sqrt() * v_before, alpha * v_before + beta
    return mean + both / whole * (x_t - mean_t), v_before - both**2 / whole


@posterior.mistake("The mean is right. The variance is not β: to know x_0 as well tells more about x_{t-1}, and makes "
                   "it smaller.")
def _(x_t, x_0, alpha, beta, a_before, v_before):
    return posterior.oracle(x_t, x_0, alpha, beta, a_before, v_before)[0], beta


@posterior.mistake("Your second output is the standard deviation; the variance is asked for.")
def _(x_t, x_0, alpha, beta, a_before, v_before):
    mean, variance = posterior.oracle(x_t, x_0, alpha, beta, a_before, v_before)
    return mean, variance.sqrt()


@posterior.mistake("The precision that x_t contributes is α/β, not 1/β: in (x_t - √α x_{t-1})² the unknown is "
                   "multiplied by √α, and its square by α. The rest hangs on this.")
def _(x_t, x_0, alpha, beta, a_before, v_before):
    variance = 1 / (1 / beta + 1 / v_before)
    return variance * (alpha.sqrt() * x_t / beta + a_before.sqrt() * x_0 / v_before), variance


@posterior.mistake("You weigh x_0 itself. By then the image has been multiplied by √a: x_{t-1} scatters around "
                   "√a x_0.")
def _(x_t, x_0, alpha, beta, a_before, v_before):
    _, variance = posterior.oracle(x_t, x_0, alpha, beta, a_before, v_before)
    return variance * (alpha.sqrt() * x_t / beta + x_0 / v_before), variance


@posterior.mistake("The two weights are exchanged: each guess counts by its own precision, one over its own variance, "
                   "so the *less* noisy one counts more.")
def _(x_t, x_0, alpha, beta, a_before, v_before):
    _, variance = posterior.oracle(x_t, x_0, alpha, beta, a_before, v_before)
    return variance * (alpha.sqrt() * x_t / v_before + a_before.sqrt() * x_0 / beta), variance


@posterior.mistake("The factor of x_t lacks its root: the cross term of (x_t - √α x_{t-1})²/β is √α x_t/β. The "
                   "variance is right.")
def _(x_t, x_0, alpha, beta, a_before, v_before):
    _, variance = posterior.oracle(x_t, x_0, alpha, beta, a_before, v_before)
    return variance * (x_t / beta + a_before.sqrt() * x_0 / v_before), variance


# --- 7.11 ------------------------------------------------------------------------------------


def gaussian_data(g: torch.Generator) -> Case:
    """Steps taken, the data's standard deviation, and that of one step's noise."""
    return {"t": torch.randint(2, 26, (5,), generator=g), "s": between(g, 0.4, 1.2), "sigma": between(g, 0.2, 0.5)}


def made_of(t, s, sigma):
    """x_t, x_0 and the last step's noise as vectors of coefficients on independent standard normals."""
    x_0, noise = torch.zeros(41, dtype=torch.float64), torch.zeros(41, dtype=torch.float64)
    x_0[0], noise[1 : t + 1] = s, sigma
    last = torch.zeros(41, dtype=torch.float64)
    last[t] = sigma
    return x_0 + noise, x_0, last


@sheet.function("7.11", "derive", 2, "When the data are Gaussian", cases=gaussian_data,
                returns=("slope", "error", "r2"))
def gaussian_guess(t, s, sigma):
    """Regression from covariances, which are products of coefficient vectors."""
    rows = []
    for each in t.tolist():
        x_t, x_0, last = made_of(each, s, sigma)
        slope = x_t @ x_0 / (x_t @ x_t)
        rows.append([slope, (x_0 - slope * x_t) @ (x_0 - slope * x_t),
                     (x_t @ last) ** 2 / (x_t @ x_t) / (last @ last)])
    return tuple(torch.tensor(rows, dtype=torch.float64).T)


@gaussian_guess.mistake("Your R² is 1/t, the bound for someone who knows x_0. Here x_0 is only guessed, with the error "
                        "that you found, and (7.5) takes it off.")
def _(t, s, sigma):
    slope, error, _ = gaussian_guess.oracle(t, s, sigma)
    return slope, error, 1 / t.double()


@gaussian_guess.mistake("Your R² is that of the *total* noise. One step is a t-th part of it, and the t parts cannot "
                        "be told apart.")
def _(t, s, sigma):
    slope, error, r2 = gaussian_guess.oracle(t, s, sigma)
    return slope, error, t * r2


@gaussian_guess.mistake("Your slope is the share of x_t's variance that is noise: that is how the noise is guessed. "
                        "For x_0 take the other share.")
def _(t, s, sigma):
    slope, error, r2 = gaussian_guess.oracle(t, s, sigma)
    return 1 - slope, error, r2


@gaussian_guess.mistake("Your error is the data's variance, the error of someone who has not seen x_t.")
def _(t, s, sigma):
    slope, error, r2 = gaussian_guess.oracle(t, s, sigma)
    return slope, torch.full_like(error, s**2), r2


@gaussian_guess.mistake("Your R² is a correlation: take its square.")
def _(t, s, sigma):
    slope, error, r2 = gaussian_guess.oracle(t, s, sigma)
    return slope, error, r2.sqrt()


@gaussian_guess.mistake("Standard deviations are added where variances should be: x_t has the variance s² + tσ².")
def _(t, s, sigma):
    whole = s + t * sigma
    return s / whole, s * t * sigma / whole, sigma / whole


# --- 7.12 ------------------------------------------------------------------------------------


def lengths(g: torch.Generator) -> Case:
    """Steps taken, sigma, and by how much the standardised guess is multiplied."""
    return {"t": torch.randint(2, 26, (6,), generator=g), "sigma": between(g, 0.2, 0.5),
            "c": 0.1 + 0.8 * torch.rand(6, generator=g)}


@sheet.function("7.12", "derive", 2, "A guess of another length", cases=lengths)
def loss_of_length(t, sigma, c):
    """Guess less target as coefficients on e_1, ..., e_t: the sum of their squares."""
    rows = []
    for steps, factor in zip(t.tolist(), c.tolist()):
        guess = torch.full((steps,), factor * sigma / math.sqrt(steps), dtype=torch.float64)
        guess[-1] -= sigma
        rows.append(guess.square().sum())
    return torch.stack(rows)


@loss_of_length.mistake("That is (7.7), for a guess as long as the target. The factor c makes its own square c² times "
                        "as large, and the cross term c times.")
def _(t, sigma, c):
    return 2 * sigma**2 * (1 - 1 / t.sqrt()) + 0 * c


@loss_of_length.mistake("You take 1/t for the correlation of the total noise with one of its t parts. It is the "
                        "*square* of the correlation that is 1/t.")
def _(t, sigma, c):
    return sigma**2 * (1 + c**2 - 2 * c / t)


@loss_of_length.mistake("The guess's own square is multiplied by c²: you have c.")
def _(t, sigma, c):
    return sigma**2 * (1 + c - 2 * c / t.sqrt())


@loss_of_length.mistake("The cross term is there twice: (a - b)² = a² + b² - 2ab.")
def _(t, sigma, c):
    return sigma**2 * (1 + c**2 - c / t.sqrt())


@loss_of_length.mistake("The noise's variance is σ², you have σ.")
def _(t, sigma, c):
    return sigma * (1 + c**2 - 2 * c / t.sqrt())


@loss_of_length.mistake("You leave out the part of the target that no guess can reach: this is the error to the best "
                        "guess, not to the noise itself.")
def _(t, sigma, c):
    return sigma**2 * (c - 1 / t.sqrt()) ** 2


# --- 7.13 ------------------------------------------------------------------------------------


def few_points(g: torch.Generator) -> Case:
    """Noisy points, the candidates that they may come from, and the noise's variance in each."""
    return {"x": torch.randn(4, 3, generator=g), "points": torch.randn(6, 3, generator=g),
            "v": 0.4 + 1.2 * torch.rand(4, generator=g)}


def log_density(x, points, v):
    """log p(x) of equally likely points with Gaussian noise, for each row of x."""
    part = Normal(points[None], v.sqrt()[:, None, None]).log_prob(x[:, None]).sum(2)
    return part.logsumexp(1) - math.log(len(points))


def guesses(x, points, weigh):
    """Weighted means of the points, with weights (B, N) made of squared distances."""
    return weigh((x[:, None] - points).square().sum(2)) @ points


@sheet.function("7.13", "code", 2, "The score of a set of images", cases=few_points)
def score(x, points, v):
    """The gradient of the log-density, by automatic differentiation."""
    x = x.clone().requires_grad_()
    return torch.autograd.grad(log_density(x, points, v).sum(), x)[0]


@score.mistake("The sign is turned: the score points uphill, from x towards the points.")
def _(x, points, v):
    return -score.oracle(x, points, v)


@score.mistake("You divide by the standard deviation, the root of v. The gradient of -(x - m)²/(2v) has v below.")
def _(x, points, v):
    return score.oracle(x, points, v) * v.sqrt()[:, None]


@score.mistake("That is how far it is to the best guess of x_0. The score is this over the variance of the noise: "
               "little noise makes a steep hill.")
def _(x, points, v):
    return score.oracle(x, points, v) * v[:, None]


@score.mistake("That is the best guess of x_0 itself. The score is a direction: what is between x and that guess?")
def _(x, points, v):
    return guesses(x, points, lambda d: (-d / (2 * v[:, None])).softmax(1))


@score.mistake("The exponent of your weights lacks the 2: a Gaussian's is -|x - m|²/(2v). Your weights are too sure of "
               "the nearest point.")
def _(x, points, v):
    return (guesses(x, points, lambda d: (-d / v[:, None]).softmax(1)) - x) / v[:, None]


@score.mistake("You follow the nearest point alone. With this much noise others may have led to x as well, and count "
               "by how well they explain it.")
def _(x, points, v):
    return (points[(x[:, None] - points).square().sum(2).argmin(1)] - x) / v[:, None]


@score.mistake("All points count the same for you. Bayes' rule weighs each by how well it explains x, (7.6).")
def _(x, points, v):
    return (points.mean(0) - x) / v[:, None]


@score.mistake("Your softmax runs over the batch. The weights of the points should sum to 1 for each x.")
def _(x, points, v):
    return (guesses(x, points, lambda d: (-d / (2 * v[:, None])).softmax(0)) - x) / v[:, None]


# --- 7.14 to 7.16 ----------------------------------------------------------------------------

sheet.choice(
    "7.14", "predict", 1, "What the perfect denoiser draws", answer="b",
    why="Run it: nearly all of a hundred draws are exact copies of one of the 1,000 images. The lowest training loss "
        "belongs to a model that knows its training images by heart; new digits are owed to what a network cannot do.",
    wrongs={
        "a": "It is perfect for the world of (7.6), in which nothing exists but the 1,000 images. What would a new "
             "digit be in that world?",
        "c": "Its first guess is near the mean. But the noise falls, fewer candidates fit, and the posterior mean is "
             "over fewer images each time. Over how many at the end?",
        "d": "(7.6) was not trained at all: it is Bayes' rule, and as right at high noise as at low."})


def small_pictures(g: torch.Generator) -> Case:
    """A few pictures, the number of steps, and sigma."""
    return {"x0": torch.rand(3, 1, 4, 5, generator=g), "T": int(torch.randint(5, 30, (), generator=g)),
            "sigma": between(g, 0.2, 0.5)}


@sheet.function("7.15", "code", 1, "The price of a wrong start", cases=small_pictures)
def start_nats(x0, T, sigma):
    """The divergence of each pixel's two Gaussians as torch.distributions has it, summed."""
    sd = torch.tensor(math.sqrt(T) * sigma, dtype=x0.dtype)
    return kl_divergence(Normal(x0, sd), Normal(torch.zeros_like(x0), sd)).flatten(1).sum(1)


@start_nats.mistake("The half is missing: a Gaussian's exponent is -|x|²/(2v).")
def _(x0, T, sigma):
    return 2 * start_nats.oracle(x0, T, sigma)


@start_nats.mistake("You divide by the standard deviation of the noise, √T σ. Its variance belongs there.")
def _(x0, T, sigma):
    return start_nats.oracle(x0, T, sigma) * sigma * math.sqrt(T)


@start_nats.mistake("You take Tσ for the noise's standard deviation. Variances add up: it is √T σ.")
def _(x0, T, sigma):
    return start_nats.oracle(x0, T, sigma) / T


@start_nats.mistake("That is the mean over the pixels. Independent pixels add up their nats.")
def _(x0, T, sigma):
    return start_nats.oracle(x0, T, sigma) / x0[0].numel()


@start_nats.mistake("That is in bits. Leave the logarithm natural.")
def _(x0, T, sigma):
    return start_nats.oracle(x0, T, sigma) / math.log(2)


@start_nats.mistake("That is one number for the whole batch: one for each picture is asked for.")
def _(x0, T, sigma):
    return start_nats.oracle(x0, T, sigma).mean()


sheet.number(
    "7.16", "predict", 2, "Steps enough for pure noise", truth=447, within=0.06,
    why="Eighteen times as many steps, to make up for an image that is never shrunk. DDPM shrinks it on the way, and "
        "chapter 8 gets to pure noise with a variance of 1.",
    mistakes=[
        (lambda truth: 2 * truth, "Twice too many: the half of (7.11) was forgotten."),
        (lambda truth: 0.3 * truth, "You put σ where σ² belongs."),
        (lambda truth: 5 * truth**0.5, "You let the nats fall like 1/T². They fall like 1/T, for it is the *variance* "
                                       "of the noise that grows like T."),
        (lambda truth: 784 * truth, "You count |x_0|² for every pixel. It is the sum over all pixels already.")])


# --- 7.17 ------------------------------------------------------------------------------------


def leaping(g: torch.Generator) -> Case:
    """A perfect denoiser of two Gaussian humps, a start, and the stops on the way down."""
    far, s, sigma = between(g, 0.8, 1.2), between(g, 0.4, 0.6), between(g, 0.25, 0.4)

    def denoise(x_t, steps):
        noise = steps * sigma**2
        hump = far * torch.tanh(far * x_t / (s**2 + noise))  # the mean of the likelier one, less that of the other
        return (hump * noise + s**2 * x_t) / (s**2 + noise)

    middle = sorted((torch.randperm(22, generator=g)[:3] + 2).tolist(), reverse=True)
    return {"denoise": denoise, "x_T": 1.5 * torch.randn(4, 1, 3, 3, generator=g), "stops": [25, *middle, 0]}


def leaping_by(rule):
    """A sampler that goes from stop to stop by a rule for the factor of what is noise in x."""
    def sampler(denoise, x_T, stops):
        x = x_T
        for step, following in zip(stops, stops[1:]):
            x0_hat = denoise(x, step)
            x = x0_hat + rule(step, following) * (x - x0_hat)
        return x
    return sampler


@sheet.function("7.17", "code", 2, "Fewer, longer steps", cases=leaping)
def in_leaps(denoise, x_T, stops):
    """The guessed noise in units of its own spread, put back at the spread of the next stop."""
    x = x_T
    for k in range(len(stops) - 1):
        x0_hat = denoise(x, stops[k])
        unit = (x - x0_hat) / math.sqrt(stops[k])
        x = Normal(x0_hat, 1.0).mean + math.sqrt(stops[k + 1]) * unit
    return x


in_leaps.mistake("You shrink the noise by the ratio of the steps. Its *variance* is to shrink like that; the noise "
                 "itself by the root. (Yours is the curve of the mean alone in figure 7.4.)")(
    leaping_by(lambda step, following: following / step))

in_leaps.mistake("You shrink the noise as if the next stop were one step away. After a leap it is to be that of the "
                 "stop where you land.")(leaping_by(lambda step, following: math.sqrt((step - 1) / step)))


@in_leaps.mistake("Your network is told of the stop where you land. It is shown x_t, so it has to be told of t.")
def _(denoise, x_T, stops):
    x = x_T
    for step, following in zip(stops, stops[1:]):
        x0_hat = denoise(x, following)
        x = x0_hat + math.sqrt(following / step) * (x - x0_hat)
    return x


@in_leaps.mistake("You stop one leap short: the last stop is 0, and there the picture is the guess itself.")
def _(denoise, x_T, stops):
    return in_leaps.oracle(denoise, x_T, stops[:-1])


@in_leaps.mistake("That is the guess made from x_T, in one go. Let it be made anew at every stop.")
def _(denoise, x_T, stops):
    return denoise(x_T, stops[0])
