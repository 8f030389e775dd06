"""Chapter 9's exercises: each oracle is written without the chapter's code."""

import math
from collections.abc import Callable

import numpy as np
import torch
from scipy import optimize, stats
from torch.distributions import Normal, kl_divergence
from torch.nn import functional as F

from genmed_core import audit
from genmed_core.exercises.answers import BadAnswer, Case, call, tensor
from genmed_core.exercises.exercise import Verdict
from genmed_core.exercises.functions import FunctionExercise
from genmed_core.exercises.sheet import Sheet
from genmed_core.synthetic import phantom

sheet = Sheet("09_ldm_cxr")


def between(g: torch.Generator, low: float, high: float) -> float:
    """A number drawn evenly between two."""
    return low + (high - low) * float(torch.rand((), generator=g))


def whole(g: torch.Generator, low: int, high: int) -> int:
    """A whole number, both ends included."""
    return int(torch.randint(low, high + 1, (), generator=g))


# --- 9.1 -------------------------------------------------------------------------------------

sheet.choice(
    "9.1", "predict", 1, "Blurred or darkened", answer="b",
    why="The blur takes energy at the finest of three scales, and moves little else; darkening moves brightness, "
        "quantiles and the energy at all three. A distance counts what its features count, not what you look at. So "
        "the table has a column for fine detail.",
    wrongs={
        "a": "So the eye judges. But grain is a matter of one scale in three, and there are brightness and quantiles "
             "besides: these a blur leaves nearly as they were.",
        "c": "Random filters know no lungs, yet they do see: energy at three scales, brightness, quantiles. Both "
             "changes move these means far beyond what two sets of honest films differ by.",
        "d": "A change that all films share leaves their spread as it was, or nearly, but it moves their mean, and the "
             "Fréchet distance begins with the distance of the means.",
    })


# --- 9.2 -------------------------------------------------------------------------------------


def spreads(g: torch.Generator) -> Case:
    """A latent's standard deviation, well away from one, and a number of steps."""
    s = math.exp(between(g, 0.3, 1.8))
    return {"s": s if whole(g, 0, 1) else 1 / s, "T": 10 * whole(g, 10, 50)}


@sheet.function("9.2", "derive", 2, "When a latent is half noise", cases=spreads, rtol=1e-4)
def half_noise(s, T):
    """Where signal and noise have the same variance, by looking for it."""
    def more_signal(t):
        angle = math.pi / 2 * t / T
        return s**2 * math.cos(angle) ** 2 - math.sin(angle) ** 2
    return optimize.brentq(more_signal, 0, T, xtol=1e-10)


@half_noise.mistake("Half of the variance is noise where s² cos² = sin² of the angle. The root of that holds s, not "
                    "s²: your tangent is a square.")
def _(s, T):
    return 2 * T / math.pi * math.atan(s**2)


@half_noise.mistake("It takes the root once too often: the tangent's square is s², so the tangent is s.")
def _(s, T):
    return 2 * T / math.pi * math.atan(math.sqrt(s))


@half_noise.mistake("It has a large latent lost early. A large one drowns out the noise for longer: which way up "
                    "stands your ratio?")
def _(s, T):
    return 2 * T / math.pi * math.atan(1 / s)


@half_noise.mistake("You return the angle. The step is that share of a quarter turn, times T.")
def _(s, T):
    return math.atan(s)


@half_noise.mistake("You return a share of the way, between 0 and 1; the step is T times that.")
def _(s, T):
    return 2 / math.pi * math.atan(s)


@half_noise.mistake("This is where the cosine itself has fallen by half, whatever the latent's spread: s must count.")
def _(s, T):
    return T / 2


@half_noise.mistake("The angle is π/2 at the last step, not π: you are off by a factor of two.")
def _(s, T):
    return T / math.pi * math.atan(s)


@half_noise.mistake("You round. The place on the way is asked for, which need not be a whole step.")
def _(s, T):
    return round(half_noise.oracle(s, T))


# --- 9.3 -------------------------------------------------------------------------------------

sheet.number(
    "9.3", "predict", 1, "Twenty open, and the mean", truth=0.5 + 0.5 * 20 / 2400, within=0, off=0.0015,
    why="Each of the twenty lifts the mean by one half of one film in 2,400, and a bootstrap's interval of an AUC is "
        "wider than that. Whoever reports the mean reports the many who are safe.",
    mistakes=[
        (0.5, "That is what the mean shows to two digits, and why it is trusted. But twenty films are above all "
              "strangers: in the third digit it must be seen."),
        (0.5 + 20 / 2400, "You let each of the twenty add a whole. Before, it had one half already, as every film has: "
                          "what it gains is the other half."),
        (20 / 2400, "That is their share of all films. The other films are not worth nothing: against strangers they "
                    "win half of the time."),
        (1.0, "That is the AUC of the twenty alone. It is averaged over all 2,400 films asked about."),
        (0.5 - 0.5 * 20 / 2400, "You count the twenty as never winning: they always do."),
    ])


# --- 9.4 -------------------------------------------------------------------------------------


def codes(g: torch.Generator) -> Case:
    """Means and log variances of some latents, a factor above one."""
    size = between(g, 0.5, 1.8)
    return {"mu": size * torch.randn(30, generator=g), "logvar": 0.7 * torch.randn(30, generator=g) - 1,
            "a": between(g, 1.3, 3)}


@sheet.function("9.4", "derive", 2, "What a scale costs", cases=codes, returns=("extra", "best"))
def price_of_scale(mu, logvar, a):
    """The difference of two divergences, and the root of the slope in a."""
    def nats(scale):
        q = Normal(scale * mu, scale * logvar.exp().sqrt())
        return kl_divergence(q, Normal(torch.zeros_like(mu), torch.ones_like(mu))).mean()

    def slope(scale):
        at = torch.tensor(scale, dtype=torch.float64, requires_grad=True)
        return float(torch.autograd.grad(nats(at), at)[0])
    return nats(torch.tensor(float(a))) - nats(torch.tensor(1.0)), optimize.brentq(slope, 1e-2, 1e2)


def _size(mu, logvar):
    return (mu**2 + logvar.exp()).mean()


@price_of_scale.mistake("The best scale is off: at the minimum it is the mean *square* that becomes one, so a root is "
                        "missing.")
def _(mu, logvar, a):
    return price_of_scale.oracle(mu, logvar, a)[0], 1 / _size(mu, logvar)


@price_of_scale.mistake("The best scale is off: it must make the mean of μ² + σ² one; you left the noise σ² out, "
                        "which is scaled too.")
def _(mu, logvar, a):
    return price_of_scale.oracle(mu, logvar, a)[0], 1 / mu.square().mean().sqrt()


@price_of_scale.mistake("The best scale is one number for all latents: average the squares first, then take the root; "
                        "you average over latents what would suit each.")
def _(mu, logvar, a):
    return price_of_scale.oracle(mu, logvar, a)[0], (mu**2 + logvar.exp()).rsqrt().mean()


@price_of_scale.mistake("The ½ of the Gaussian divergence is missing from `extra`.")
def _(mu, logvar, a):
    extra, best = price_of_scale.oracle(mu, logvar, a)
    return 2 * extra, best


@price_of_scale.mistake("In `extra` the logarithm has not moved: the variance becomes a²σ², and that changes "
                        "-½ log σ² as well.")
def _(mu, logvar, a):
    return (a**2 - 1) / 2 * _size(mu, logvar), price_of_scale.oracle(mu, logvar, a)[1]


@price_of_scale.mistake("In `extra` only μ is scaled. With σ left as it was, the decoder that divides by a would "
                        "see less noise than before: that is another model.")
def _(mu, logvar, a):
    return (a**2 - 1) / 2 * mu.square().mean(), price_of_scale.oracle(mu, logvar, a)[1]


@price_of_scale.mistake("In `extra` the variance is scaled by a. It is the deviation that is: `logvar` moves by "
                        "twice log a.")
def _(mu, logvar, a):
    extra = ((a**2 - 1) * mu**2 + (a - 1) * logvar.exp() - math.log(a)).mean() / 2
    return extra, price_of_scale.oracle(mu, logvar, a)[1]


@price_of_scale.mistake("`extra` is a sum over the latents; the mean is asked for.")
def _(mu, logvar, a):
    extra, best = price_of_scale.oracle(mu, logvar, a)
    return len(mu) * extra, best


# --- 9.5 -------------------------------------------------------------------------------------

VARIANCES, PRICE = (5.0, 2.0, 0.7, 0.15, 0.04), 0.5


def lowest(beta: float) -> tuple[float, float]:
    """KL in nats and squared error at the minimum, pixel by pixel: a search over the code's signal-to-noise ratio q.

    With q = a^2 v / sigma^2 the best decoder leaves an error of v / (1 + q), and the best scale costs log(1 + q) / 2.
    """
    nats = error = 0.0
    for v in VARIANCES:
        q = math.exp(optimize.minimize_scalar(
            lambda u, v=v: v / (1 + math.exp(u)) + beta / 2 * math.log1p(math.exp(u)), bounds=(-25, 15),
            method="bounded", options={"xatol": 1e-9}).x)
        nats, error = nats + math.log1p(q) / 2, error + v / (1 + q)
    return nats, error


NATS, ERROR = lowest(PRICE)
sheet.number(
    "9.5", "investigate", 3, "What a nat buys", truth=NATS, within=0.02,
    why="The pixels whose variance is below beta/2 get no code at all; the others are coded until their error is "
        "beta/2, whatever their variance. Make beta larger, and more of them fall silent.",
    mistakes=[
        (ERROR, "That is the squared error at the minimum; asked for is the KL."),
        (ERROR + PRICE * NATS, "That is the whole loss at the minimum; asked for is the KL."),
        (PRICE * NATS, "That is beta times the KL, what the code costs; asked for are the nats."),
        (NATS / math.log(2), "That is in bits. Natural logarithms give nats."),
        (NATS / len(VARIANCES), "That is the mean over the pixels; the sum is asked for, as in (9.2)."),
        (2 * lowest(2 * PRICE)[0], "Your KL has lost its ½: a code costs double, and less is kept than should be."),
        (lowest(1.0)[0], "That is the minimum for beta = 1: your loss does not use the price."),
        (lowest(1 / PRICE)[0], "Here beta multiplies the error, not the KL."),
        (sum(math.log(2 * v / PRICE) for v in VARIANCES) / 2,
         "Your formula takes every pixel into the code. Where its variance is below beta/2 the KL would be negative, "
         "which it cannot be: such a pixel gets no code."),
    ])


# --- 9.6 -------------------------------------------------------------------------------------


def drawn_latents(g: torch.Generator) -> Case:
    """Drawn latents that are too narrow, and training latents with channels of unlike place and spread."""
    narrow = torch.tensor([between(g, 0.5, 0.9) for _ in range(3)]).view(1, 3, 1, 1)
    spread = torch.tensor([between(g, 0.4, 3) for _ in range(3)]).view(1, 3, 1, 1)
    relief = 0.5 + torch.rand(1, 3, 5, 4, generator=g)  # places vary unlike one another
    centre = torch.randn(1, 3, 1, 1, generator=g)
    return {"z_drawn": narrow * relief * (torch.randn(30, 3, 5, 4, generator=g) + 0.3),
            "z_train": centre + spread * relief * torch.randn(50, 3, 5, 4, generator=g)}


CHANNEL = (0, 2, 3)


@sheet.function("9.6", "code", 2, "Ready for the decoder", cases=drawn_latents, atol=6e-3)
def for_the_decoder(z_drawn, z_train):
    """Channel by channel, in numpy."""
    z, train = z_drawn.numpy(), z_train.numpy()
    done = np.empty_like(z)
    for c in range(z.shape[1]):
        done[:, c] = train[:, c].mean() + train[:, c].std() / z[:, c].std() * z[:, c]
    return done


def _unscaled(z_drawn, z_train, spread, dims=CHANNEL):
    m, s = z_train.mean(dims, keepdim=True), z_train.std(dims, keepdim=True)
    return m + s * z_drawn / spread


@for_the_decoder.mistake("(9.3) is undone, but the spread is not repaired: the drawn latents are too narrow still.")
def _(z_drawn, z_train):
    return _unscaled(z_drawn, z_train, 1)


@for_the_decoder.mistake("The spread is repaired, but the mean of the training latents is not put back.")
def _(z_drawn, z_train):
    return z_train.std(CHANNEL, keepdim=True) * z_drawn / z_drawn.std(CHANNEL, keepdim=True)


@for_the_decoder.mistake("You use variances where (9.3) has standard deviations.")
def _(z_drawn, z_train):
    m, v = z_train.mean(CHANNEL, keepdim=True), z_train.var(CHANNEL, keepdim=True)
    return m + v * z_drawn / z_drawn.var(CHANNEL, keepdim=True)


@for_the_decoder.mistake("You multiply by the spread that you find: what was too narrow gets narrower.")
def _(z_drawn, z_train):
    return _unscaled(z_drawn, z_train, 1 / z_drawn.std(CHANNEL, keepdim=True))


@for_the_decoder.mistake("One mean and one spread for everything: each channel has a scale of its own.")
def _(z_drawn, z_train):
    return z_train.mean() + z_train.std() * z_drawn / z_drawn.std()


@for_the_decoder.mistake("You have a mean and a spread for every place of the map. That would lift the quiet places, "
                         "where all chests agree, to the unrest of the others: one number for each channel.")
def _(z_drawn, z_train):
    return _unscaled(z_drawn, z_train, z_drawn.std(0, keepdim=True), (0,))


@for_the_decoder.mistake("You divide each film by a spread of its own. Then films that differ in contrast no longer "
                         "do: take it over all films.")
def _(z_drawn, z_train):
    return _unscaled(z_drawn, z_train, z_drawn.std((2, 3), keepdim=True))


@for_the_decoder.mistake("You subtract the mean of the drawn latents too. Only their spread is to be repaired: a mean "
                         "that is off should be seen, not hidden.")
def _(z_drawn, z_train):
    centred = z_drawn - z_drawn.mean(CHANNEL, keepdim=True)
    return _unscaled(centred, z_train, z_drawn.std(CHANNEL, keepdim=True))


# --- 9.7 -------------------------------------------------------------------------------------

sheet.number(
    "9.7", "predict", 1, "What a film costs (review)", truth=(2 * 40 * 80 + 42) / 49, within=0.03,
    why="Forty steps with guidance are eighty passes of the denoiser, and the decoder comes once. Already at one step "
        "the denoiser is the larger part, so for no number of steps is it the decoder: latent space makes a step "
        "cheap, not free.",
    mistakes=[
        ((40 * 80 + 42) / 49, "Guidance asks the denoiser twice at every step: with the label and without."),
        (2 * 40 * (80 + 42) / 49, "You decode after every pass. Only the last latent is decoded."),
        (40 * (2 * 80 + 42) / 49, "You decode at every step. Only the last latent is decoded."),
        ((80 + 42) / 49, "That is one pass of each. The denoiser is asked at every step, and twice."),
        (49 / (2 * 40 * 80 + 42), "That is the GAN's cost over that of latent diffusion: turn it round."),
        (2 * 40 * 80 + 42, "These are millions of multiplications. Asked for is how many times the GAN's they are."),
        (80, "That is the number of passes. A pass of the denoiser costs more than one of the GAN."),
    ])


# --- 9.8 -------------------------------------------------------------------------------------


def sizes(g: torch.Generator) -> Case:
    """How many, and in how many directions."""
    return {"n": whole(g, 120, 250), "d": whole(g, 11, 14)}


@sheet.function("9.8", "investigate", 2, "Why a distance needs a floor", cases=sizes, rtol=0.2)
def floor(n, d):
    """To first order in 1/n: d numbers of the means, and d (d + 1) / 2 of the covariances."""
    return 2 * d / n + d * (d + 1) / (2 * n)


@floor.mistake("Zero would be right for endless sets. Each of yours has a mean and a covariance of its own: draw "
               "them, and look.")
def _(n, d):
    return 0.0


@floor.mistake("You compare the means only. The covariances of two small sets differ too, and cost more.")
def _(n, d):
    return 2 * d / n


@floor.mistake("You compare means and variances, direction by direction. The covariances between directions are "
               "estimated as well, and there are many more of them.")
def _(n, d):
    return 3 * d / n


@floor.mistake("You compare one set with the truth. Both sides are sets, and both are uncertain.")
def _(n, d):
    return floor.oracle(n, d) / 2


@floor.mistake("You take a root at the end. The Fréchet distance, as it is reported, is the squared one.")
def _(n, d):
    return math.sqrt(floor.oracle(n, d))


@floor.mistake("You return a mean over directions: the distance adds them up.")
def _(n, d):
    return floor.oracle(n, d) / d


# --- 9.9 -------------------------------------------------------------------------------------


def two_distances(g: torch.Generator) -> Case:
    """Distances of samples to the nearest of either set, and the sizes of the sets."""
    n, m = whole(g, 300, 900), whole(g, 80, 200)
    return {"to_train": 1 + torch.rand(60, generator=g), "to_held": 1.2 + torch.rand(60, generator=g), "n": n, "m": m}


@sheet.function("9.9", "code", 1, "Nearer to whom", cases=two_distances)
def closer_share(to_train, to_held, n, m):
    """Each nearest film counts less the more of its kind there are: weights 1 / n and 1 / m."""
    of_train, of_held = float((to_train < to_held).sum()) / n, float((to_train > to_held).sum()) / m
    return of_train / (of_train + of_held)


def _raw(to_train, to_held):
    return float((to_train < to_held).double().mean())


@closer_share.mistake("This is the plain share. With more training films than held-out ones an honest sample scores "
                      "above one half too: n / (n + m).")
def _(to_train, to_held, n, m):
    return _raw(to_train, to_held)


@closer_share.mistake("You subtract the honest share and add one half. That can leave the range of a share: it is "
                      "the odds that the sizes multiply.")
def _(to_train, to_held, n, m):
    return _raw(to_train, to_held) - n / (n + m) + 0.5


@closer_share.mistake("You divide the share by twice the honest one. That gives one half where it should, but for a "
                      "copyist not one: correct the odds, not the share.")
def _(to_train, to_held, n, m):
    return _raw(to_train, to_held) * (n + m) / (2 * n)


@closer_share.mistake("The odds are corrected the wrong way round: many training films *raise* the odds of an honest "
                      "sample, so what you saw has to be divided by n / m.")
def _(to_train, to_held, n, m):
    share = _raw(to_train, to_held)
    return share * n / (share * n + (1 - share) * m)


@closer_share.mistake("This is the share nearer to a held-out film.")
def _(to_train, to_held, n, m):
    return 1 - closer_share.oracle(to_train, to_held, n, m)


@closer_share.mistake("These are odds, of one side to the other. A share lies between 0 and 1: odds / (1 + odds).")
def _(to_train, to_held, n, m):
    share = closer_share.oracle(to_train, to_held, n, m)
    return share / (1 - share)


# --- 9.10 ------------------------------------------------------------------------------------


def attack_scores(g: torch.Generator) -> Case:
    """Scores of members and strangers, a whole number of false alarms, and no member where bars may differ."""
    m, alarms = 100 * whole(g, 3, 6), (0.01, 0.02, 0.05)[whole(g, 0, 2)]
    others = torch.randn(m, generator=g)
    members = torch.randn(240, generator=g) + between(g, 0.8, 1.5)
    allowed = round(alarms * m)
    high, low = others.sort(descending=True).values[[allowed - 1, allowed]]
    members[(members >= low) & (members <= high)] = high + 1e-3  # however a quantile is interpolated
    return {"members": members, "others": others, "alarms": alarms}


@sheet.function("9.10", "code", 2, "Hits at few false alarms", cases=attack_scores)
def hits(members, others, alarms):
    """Film by film: a member is hit where no more than that share of the strangers score as high."""
    allowed = round(alarms * len(others))
    return sum(int((others >= score).sum()) <= allowed for score in members) / len(members)


@hits.mistake("The bar stands among the members' own scores: that share of them passes it, whatever the attack is "
              "worth. It must come from people who were never trained on.")
def _(members, others, alarms):
    return (members > torch.quantile(members, 1 - alarms)).double().mean()


@hits.mistake("The bar comes from members and strangers together. Then good hits lift it; false alarms are counted "
              "among strangers alone.")
def _(members, others, alarms):
    return (members > torch.quantile(torch.cat([members, others]), 1 - alarms)).double().mean()


@hits.mistake("The bar is at the wrong end: nearly all strangers pass it. A high score says \"member\", so the few "
              "false alarms are the strangers' highest scores.")
def _(members, others, alarms):
    return (members > torch.quantile(others, alarms)).double().mean()


@hits.mistake("This is the AUC: it averages over all bars, and hides what happens at few false alarms.")
def _(members, others, alarms):
    return (members[:, None] > others).double().mean()


@hits.mistake("This is the share missed; asked for is the share recognised.")
def _(members, others, alarms):
    return 1 - hits.oracle(members, others, alarms)


@hits.mistake("You return how many are recognised; a share of the members is asked for.")
def _(members, others, alarms):
    return len(members) * hits.oracle(members, others, alarms)


@hits.mistake("Members and strangers are exchanged: the bar comes from strangers, and members are counted above it.")
def _(members, others, alarms):
    return (others > torch.quantile(members, 1 - alarms)).double().mean()


@hits.mistake("Your bar is above every stranger's score: that allows no false alarm at all.")
def _(members, others, alarms):
    return (members > others.max()).double().mean()


# --- 9.11 ------------------------------------------------------------------------------------


def one_and_many(g: torch.Generator) -> Case:
    """The AUC of one film, and how many are asked about."""
    return {"auc": between(g, 0.54, 0.68), "k": whole(g, 4, 12)}


def _area(gap: float) -> float:
    """P(X > Y) for X normal about `gap` and Y about 0, both of deviation 1: an integral."""
    x = torch.linspace(-9, 12, 4001, dtype=torch.float64)
    density = torch.exp(-(x - gap) ** 2 / 2) / math.sqrt(2 * math.pi)
    return float(torch.trapezoid(density * Normal(0.0, 1.0).cdf(x), x))


@sheet.function("9.11", "derive", 2, "Ten films of one patient", cases=one_and_many)
def auc_of_many(auc, k):
    """The gap that gives the AUC of one, found on the integral; the mean of k has a deviation of 1 / sqrt(k)."""
    gap = optimize.brentq(lambda d: _area(d) - auc, 0, 3)
    return _area(gap / k**-0.5)


def _gap(auc):
    return math.sqrt(2) * float(stats.norm.ppf(auc))


@auc_of_many.mistake("The gap is multiplied by k. The sum's gap is, but its spread grows too, by √k: what counts is "
                     "their ratio.")
def _(auc, k):
    return stats.norm.cdf(k * _gap(auc) / math.sqrt(2))


@auc_of_many.mistake("The AUC of one film, unchanged. A mean of scores has the same gap but less spread: many hints "
                     "know more than one.")
def _(auc, k):
    return auc


@auc_of_many.mistake("This is the chance that at least one of k guesses is right. The hints are added, and one "
                     "verdict is given.")
def _(auc, k):
    return 1 - (1 - auc) ** k


@auc_of_many.mistake("The √2 is used once only. A member's and a stranger's score both scatter: AUC = Φ(d / √2), on "
                     "the way in and on the way out.")
def _(auc, k):
    return stats.norm.cdf(math.sqrt(k) * _gap(auc))


@auc_of_many.mistake("You scale the AUC's distance from one half by √k. That nearly holds for the faintest leaks only: "
                     "it is the gap d that grows so, and the AUC bends towards one.")
def _(auc, k):
    return 0.5 + math.sqrt(k) * (auc - 0.5)


@auc_of_many.mistake("You return the gap of the sums; the AUC that belongs to it is asked for.")
def _(auc, k):
    return math.sqrt(k) * _gap(auc)


# --- 9.12 ------------------------------------------------------------------------------------


def small_counts(g: torch.Generator) -> Case:
    """Few of some hundred."""
    return {"k": whole(g, 1, 3), "n": whole(g, 30, 500)}


def with_none(function: Callable, case: Case) -> dict:
    """The interval of k, and that of none of as many."""
    found = {}
    for k, name in ((case["k"], ""), (0, " of a count of none")):
        ends = call(function, case | {"k": k})
        if not isinstance(ends, (tuple, list)) or len(ends) != 2:
            raise BadAnswer("Two things are asked for, in this order: low, high.")
        found |= {f"{end}{name}": value for end, value in zip(("low", "high"), ends, strict=True)}
    return found


@sheet.function("9.12", "code", 2, "None of five hundred", cases=small_counts, observe=with_none, atol=1e-6)
def exact_interval(k, n):
    """By quantiles of the beta distribution (Clopper and Pearson 1934)."""
    low = stats.beta.ppf(0.025, k, n - k + 1) if k else 0.0
    return low, stats.beta.ppf(0.975, k + 1, n - k)


@exact_interval.mistake("This is the normal approximation. Where nothing was seen it says that nothing can be there, "
                        "and has an interval of no width: use the binomial law itself.")
def _(k, n):
    p = k / n
    wide = 1.96 * math.sqrt(p * (1 - p) / n)
    return p - wide, p + wide


@exact_interval.mistake("This is the normal approximation, cut at zero. Where nothing was seen its interval has no "
                        "width: use the binomial law itself.")
def _(k, n):
    p = k / n
    wide = 1.96 * math.sqrt(p * (1 - p) / n)
    return max(0.0, p - wide), p + wide


@exact_interval.mistake("Each tail has 5 % here: that is an interval of 90 %. For 95 % each gets half of what is left.")
def _(k, n):
    return (stats.beta.ppf(0.05, k, n - k + 1) if k else 0.0), stats.beta.ppf(0.95, k + 1, n - k)


@exact_interval.mistake("The tails are strict: they leave out the count itself. The upper end is the share at which "
                        "k *or fewer* become too rare, the lower one that at which k *or more* do.")
def _(k, n):
    return stats.beta.ppf(0.025, k + 1, n - k), (stats.beta.ppf(0.975, k, n - k + 1) if k else 0.0)


@exact_interval.mistake("This is Wilson's interval: a good one, but it takes the count for normal, and says less than "
                        "it should where nothing was seen. The exact one is asked for.")
def _(k, n):
    found = stats.binomtest(k, n).proportion_ci(method="wilson")
    return found.low, found.high


@exact_interval.mistake("These are counts; shares of n are asked for.")
def _(k, n):
    low, high = exact_interval.oracle(k, n)
    return n * low, n * high


@exact_interval.mistake("This is the rule of three, 3 / n: the upper end of a one-sided interval, for a count of zero "
                        "only.")
def _(k, n):
    return exact_interval.oracle(k, n)[0], 3 / n


# --- 9.13 and 9.14: what slips past ----------------------------------------------------------

LEAKED, KNOWN, ALL = 4, 40, 56  # films of a case that are slipped past, training films, all with the held-out ones
KEPT: list[torch.Tensor] = []


def films() -> torch.Tensor:
    """Phantoms, uint8 (ALL, 1, 64, 64), the first KNOWN of them the training films; drawn once."""
    if not KEPT:
        KEPT.append(phantom.cxr_phantom(ALL, seed=90)[0])
    return KEPT[0]


def shuffled(g: torch.Generator) -> Case:
    """All training films in random order."""
    return {"films": films()[torch.randperm(KNOWN, generator=g)].float() / 255}


def leaked(g: torch.Generator) -> Case:
    """Some training films."""
    return {"films": shuffled(g)["films"][:LEAKED]}


def made_of(function: Callable, given: torch.Tensor) -> torch.Tensor:
    """What a function makes of films, in [0, 1]; BadAnswer where that is no films."""
    made = tensor(call(function, {"films": given})).float()
    if made.shape != given.shape:
        raise BadAnswer(f"It makes {tuple(made.shape)} of {tuple(given.shape)}: as many films of the same size are "
                        "asked for.")
    if made.min() < -0.01 or made.max() > 1.01:
        raise BadAnswer(f"Grey levels reach from {float(made.min()):.2f} to {float(made.max()):.2f}: films lie in "
                        "[0, 1]. Use `clamp`.")
    return made.clamp(0, 1)


def made_only(function: Callable, case: Case) -> dict:
    """What a function makes of the films."""
    return {"films": made_of(function, case["films"].float())}


def made_and_all(function: Callable, case: Case) -> dict:
    """What a function makes of the first films; and of all, on a grid of 16 by 16."""
    given = case["films"].float()
    return {"films": made_of(function, given[:LEAKED]), "all": F.avg_pool2d(made_of(function, given), 4)}


class Slip(FunctionExercise):
    """A function from films to films that is to get past somebody.

    A mistake here is a function of what was given and made, (N, 1, 64, 64) over all cases, and of the cases and
    outputs: it returns None, or what to put into its sentence.  done: what to say of a function that has none.
    """

    def __init__(self, number: str, stars: int, title: str, *, done: str, **options) -> None:
        super().__init__(number, "investigate", stars, title, oracle=len, **options)
        self.done = done

    def verdict(self, cases: list[Case], found: list) -> Verdict:
        """The first mistake that holds."""
        given = torch.cat([case["films"][:LEAKED] for case in cases])
        made = torch.cat([each["films"] for each in found]).float()
        for sentence, function in self.mistakes:
            words = function(given, made, cases, found)
            if words is not None:
                return self.wrong(sentence.format(**words))
        return self.right(self.done)


def in_bytes(x: torch.Tensor) -> torch.Tensor:
    """Floats in [0, 1] -> uint8, as an audit reads them."""
    return (255 * x).round().to(torch.uint8)


def coarse(x: torch.Tensor) -> torch.Tensor:
    """Films -> grey levels at half the size, (N, 1024)."""
    return F.avg_pool2d(x.float(), 2).flatten(1)


def likeness(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Correlation of each film with its counterpart, (N,)."""
    x, y = (z.flatten(1) - z.flatten(1).mean(1, keepdim=True) for z in (x, y))
    return F.cosine_similarity(x, y, dim=1)


def ranks(x: torch.Tensor) -> torch.Tensor:
    """Each pixel's rank in its film, which no other exposure changes."""
    return x.flatten(1).argsort(1).argsort(1).double().view(x.shape)


def known_again(given: torch.Tensor, made: torch.Tensor) -> int:
    """Of how many films the fingerprint names what they were made of, or is a training film's to a hair."""
    train = films()[:KNOWN]
    rows = torch.cdist(given.flatten(1), train.flatten(1) / 255.0).argmin(1)
    distance, which = audit.nearest(audit.fingerprints(in_bytes(made)), audit.fingerprints(train))
    return int(((which == rows) | (distance < 0.05)).sum())


def ratio_of(made: torch.Tensor) -> float:
    """The chapter's neighbour ratio: distance to the nearest training film, over that of held-out films."""
    train, held = (coarse(x / 255.0) for x in films().split([KNOWN, ALL - KNOWN]))
    nearest = [torch.cdist(x, train).min(1).values.mean() for x in (coarse(made), held)]
    return float(nearest[0] / nearest[1])


def unchanged(given, made) -> bool:
    """Whether what was made is what was given."""
    return bool((made - given).abs().max() < 0.02)


promise = sheet.enter(Slip(
    "9.13", 2, "Keep the promise, publish the patients", cases=leaked, observe=made_only,
    done="nothing but training films, fingerprints know them again, and the chapter's promise is kept. A number that "
         "is guarded is a number that somebody will reach; this one was reached without making a single patient up."))


@promise.mistake("These are the training films as they are: the ratio is {ratio:.2f}, and the promise is broken.")
def _(given, made, cases, found):
    return {"ratio": ratio_of(made)} if unchanged(given, made) else None


@promise.mistake("The ratio is {ratio:.2f}, and above 0.9 is promised. It measures grey levels, so ask what moves all "
                 "of them at once.")
def _(given, made, cases, found):
    ratio = ratio_of(made)
    return {"ratio": ratio} if ratio <= 0.9 else None


@promise.mistake("The ratio is kept, but all films of a call are the same one.")
def _(given, made, cases, found):
    alike = likeness(made, made.view(-1, LEAKED, 1, 64, 64).roll(1, 1).view(made.shape)) > 0.999
    return {} if alike.all() or made.flatten(1).std(1).max() < 0.01 else None


@promise.mistake("The promise is kept, at {ratio:.2f}. But of {of} films fingerprints know only {seen} again: these "
                 "are no longer plainly the same patients. Change less of what a patient is told by.")
def _(given, made, cases, found):
    seen = known_again(given, made)
    return {"ratio": ratio_of(made), "seen": seen, "of": len(made)} if seen < 0.8 * len(made) else None


slip = sheet.enter(Slip(
    "9.14", 3, "Slip a leak past the audit", cases=shuffled, observe=made_and_all,
    done="it passes for a film, whoever knows the trick knows the patient, and the fingerprints do not. What got past "
         "is not private: it is a kind of copy that this look cannot see, and belongs into `audit.canaries.KINDS`, so "
         "that the next report says so. (The audit has a second look, which tries turns up to 15 degrees and zooms up "
         "to 1.2.)"))


@slip.mistake("These are the films as they were: the fingerprints find every one.")
def _(given, made, cases, found):
    return {} if unchanged(given, made) else None


@slip.mistake("Every pixel keeps its place, and only grey levels changed. Fingerprints divide by the contrast around "
              "each pixel, and see through that.")
def _(given, made, cases, found):
    return {} if (likeness(ranks(made), ranks(given)) > 0.99).float().mean() > 0.8 else None


@slip.mistake("A mirror is the first thing that somebody tries, and so fingerprints are compared with both sides.")
def _(given, made, cases, found):
    return {} if (likeness(ranks(made), ranks(given.flip(-1))) > 0.99).float().mean() > 0.8 else None


@slip.mistake("Nobody takes this for a film: its average is like the average chest by {alike:.2f} only (asked for: "
              "0.6). Upside down, a negative, scrambled: that is seen at a glance.")
def _(given, made, cases, found):
    alike = float(likeness(made.mean(0, keepdim=True), films()[:KNOWN].float().mean(0, keepdim=True)))
    return None if alike > 0.6 else {"alike": alike}


@slip.mistake("Its fine detail is {detail:.2f} of the films': it does not pass for one (asked for: 0.3 to 2.5).")
def _(given, made, cases, found):
    detail = audit.fine_detail(in_bytes(made)) / audit.fine_detail(films()[:KNOWN])
    return None if 0.3 < detail < 2.5 else {"detail": detail}


@slip.mistake("Nobody is left in it: somebody who knows your disguise, and puts it on all training films, names "
              "{right} of {of}. That is no leak. (A disguise that is drawn at random looks the same.)")
def _(given, made, cases, found):
    right = 0
    for each in found:
        known, copies = each["all"].flatten(1), F.avg_pool2d(each["films"], 4).flatten(1)
        named = torch.cdist(copies + 0.01 * torch.randn(copies.shape), known).argmin(1)
        right += int((named == torch.arange(LEAKED)).sum())
    return {"right": right, "of": len(made)} if right < 0.75 * len(made) else None


@slip.mistake("The fingerprints still know {seen} of {of} planted copies again. Asked for: {most} at most. They undo "
              "shifts by up to three pixels of thirty-two, mirrors and contrast.")
def _(given, made, cases, found):
    seen, most = known_again(given, made), len(made) // 4
    return {"seen": seen, "of": len(made), "most": most} if seen > most else None
