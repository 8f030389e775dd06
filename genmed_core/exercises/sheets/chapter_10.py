"""Chapter 10's exercises: each oracle is written without the chapter's code."""

import math

import numpy as np
import torch
from torch.nn import functional as F

from genmed_core.exercises.answers import BadAnswer, Case, call
from genmed_core.exercises.sheet import Sheet

sheet = Sheet("10_translation")


def normal(g: torch.Generator, *size: int) -> torch.Tensor:
    """Standard Gaussian numbers from a generator."""
    return torch.randn(*size, generator=g)


def between(g: torch.Generator, low: float, high: float) -> float:
    """A number, evenly from low to high."""
    return low + (high - low) * float(torch.rand((), generator=g))


# --- 10.1 and 10.2, in the middle of the chapter ---------------------------------------------


sheet.choice("10.1", "predict", 1, "What is painted where a nodule may be", answer="c", why=(
    "Least squares paints the mean, 0.3 x 40 = 12 grey levels: a ghost that no patient has. Absolute errors paint the "
    "median, and with 30 % the median is 'no nodule': it is erased in all ten patients, sick or not."), wrongs={
    "a": "That is true of least squares. But the absolute error of a guess is smallest at the *median* of what may be "
         "there: with seven zeros among ten values, which is that?",
    "b": "40 is right for three patients in ten and wrong for seven. Compute both losses for the guesses 0, 12 and 40.",
    "d": "Each loss has one best guess. Differentiate the mean squared error, then the mean absolute error, with "
         "respect to it.",
})


sheet.number("10.2", "derive", 1, "The price of a draw", truth=10 * math.log10(2), within=0.02, why=(
    "Truth and draw are two independent draws from the same posterior: their squared distance is twice the variance, "
    "and that of the mean is the variance once. Twice the error is 3 dB."), mistakes=[
    (20 * math.log10(2), "That is the dB of twice the *amplitude*. PSNR takes ten times the logarithm of a square."),
    (2.0, "The factor is 2, but decibels are asked for."),
    (math.log(2), "That is the natural logarithm of the factor. Decibels are ten times the decimal one."),
    (0.0, "Then a draw would be as near to the truth as the mean. It has a spread of its own, which the mean has not."),
    (10 * math.log10(4), "A factor of four would be that of standard deviations that add up. Of independent draws the "
                         "variances add up."),
])


# --- 10.3 ------------------------------------------------------------------------------------


def restored(g: torch.Generator) -> Case:
    """Restored films whose errors differ from film to film, and the truth."""
    x = torch.rand(5, 1, 8, 8, generator=g)
    return {"x_hat": x + torch.rand(5, 1, 1, 1, generator=g) * 0.3 * normal(g, 5, 1, 8, 8), "x": x}


@sheet.function("10.3", "code", 1, "Decibels", cases=restored)
def psnr(x_hat, x):
    """Film by film, by numpy."""
    a, b = x_hat.numpy(), x.numpy()
    each = [10 * math.log10(1 / float(np.mean((p - q) ** 2))) for p, q in zip(a, b, strict=True)]
    return torch.tensor(each).mean()


@psnr.mistake("All films are thrown together before the logarithm. One bad film then outweighs the others: the mean is "
              "over films, of each one's decibels.")
def _(x_hat, x):
    return -10 * (x_hat - x).square().mean().log10()


@psnr.mistake("The logarithm is the natural one; decibels are decimal.")
def _(x_hat, x):
    return (-10 * (x_hat - x).square().flatten(1).mean(1).log()).mean()


@psnr.mistake("The sign is turned: a smaller error is more decibels.")
def _(x_hat, x):
    return (10 * (x_hat - x).square().flatten(1).mean(1).log10()).mean()


@psnr.mistake("That takes 20 times the logarithm of a mean *square*. 20 belongs to its root.")
def _(x_hat, x):
    return (-20 * (x_hat - x).square().flatten(1).mean(1).log10()).mean()


@psnr.mistake("The squares of a film are added up. Decibels are of their *mean*, or larger films would be worse ones.")
def _(x_hat, x):
    return (-10 * (x_hat - x).square().flatten(1).sum(1).log10()).mean()


# --- 10.4 ------------------------------------------------------------------------------------


def scored(g: torch.Generator) -> Case:
    """Scores of true and of restored pairs, restored films and the truth."""
    return {"on_true": 2 * normal(g, 6), "on_restored": 2 * normal(g, 6), "x_hat": normal(g, 6, 1, 4, 4),
            "x": normal(g, 6, 1, 4, 4), "weight": between(g, 0.1, 0.9)}


def surprise(score, real):
    """Mean cross-entropy in nats of calling scores real, or not."""
    return F.binary_cross_entropy_with_logits(score, torch.full_like(score, float(real)))


@sheet.function("10.4", "code", 2, "The two losses of pix2pix", cases=scored, returns=("D's loss", "G's loss"))
def pix2pix(on_true, on_restored, x_hat, x, weight):
    """Two cross-entropies; absolute error and the critic's weight."""
    on_D = surprise(on_true, 1) + surprise(on_restored, 0)
    return on_D, (x_hat - x).abs().mean() + weight * surprise(on_restored, 1)


@pix2pix.mistake("G's critic term has the sign of the minimax game: it starves where D is sure. Let G raise the "
                 "log-odds of 'true' for its own pairs.")
def _(on_true, on_restored, x_hat, x, weight):
    on_D, _ = pix2pix.oracle(on_true, on_restored, x_hat, x, weight)
    return on_D, (x_hat - x).abs().mean() - weight * surprise(on_restored, 0)


@pix2pix.mistake("`weight` stands at the absolute error. Here it is the weight of the *critic*.")
def _(on_true, on_restored, x_hat, x, weight):
    on_D, _ = pix2pix.oracle(on_true, on_restored, x_hat, x, weight)
    return on_D, weight * (x_hat - x).abs().mean() + surprise(on_restored, 1)


@pix2pix.mistake("The error is squared. Pix2pix takes the absolute one, which blurs less.")
def _(on_true, on_restored, x_hat, x, weight):
    on_D, _ = pix2pix.oracle(on_true, on_restored, x_hat, x, weight)
    return on_D, (x_hat - x).square().mean() + weight * surprise(on_restored, 1)


@pix2pix.mistake("D's labels are exchanged: it calls restored pairs true.")
def _(on_true, on_restored, x_hat, x, weight):
    _, on_G = pix2pix.oracle(on_true, on_restored, x_hat, x, weight)
    return surprise(on_true, 0) + surprise(on_restored, 1), on_G


@pix2pix.mistake("G is rewarded for what D says of the *true* pairs, which G cannot change.")
def _(on_true, on_restored, x_hat, x, weight):
    on_D, _ = pix2pix.oracle(on_true, on_restored, x_hat, x, weight)
    return on_D, (x_hat - x).abs().mean() + weight * surprise(on_true, 1)


# --- 10.5 ------------------------------------------------------------------------------------


@sheet.function("10.5", "derive", 2, "On the way from the mean to a draw",
                cases=lambda g: {"variance": between(g, 0.2, 3.0), "w": between(g, 0.1, 0.9)},
                returns=("error", "variance of x_w"))
def on_the_way(variance, w):
    """From 2,001 equally likely values of a normal law, all pairs of truth and draw."""
    grid = torch.distributions.Normal(0.0, 1.0).icdf((torch.arange(2001).double() + 0.5) / 2001)
    values = grid / grid.std(correction=0) * math.sqrt(variance)
    error = (values[:, None] - w * values[None, :]).square().mean()
    return error, (w * values).square().mean()


@on_the_way.mistake("Your error is a straight line between that of the mean and that of a draw. Squares do not mix in "
                    "straight lines: write x - x_w with two independent parts.")
def _(variance, w):
    return variance * (1 + w), w**2 * variance


@on_the_way.mistake("Your variance of x_w is w times the posterior's. A factor comes out of a variance squared.")
def _(variance, w):
    return variance * (1 + w**2), w * variance


@on_the_way.mistake("In your error truth and draw are the same: (1 - w) squared. The draw does not know which truth "
                    "it is to meet.")
def _(variance, w):
    return variance * (1 - w) ** 2, w**2 * variance


@on_the_way.mistake("Your error is that of the draw's own part alone. Even at w = 0 the truth scatters about the mean.")
def _(variance, w):
    return variance * w**2, w**2 * variance


# --- 10.6 ------------------------------------------------------------------------------------


def many_draws(g: torch.Generator) -> Case:
    """Nineteen draws of four films, and the truth, which scatters a little more than they do."""
    return {"draws": normal(g, 19, 4, 1, 5, 5), "x": 1.3 * normal(g, 4, 1, 5, 5)}


@sheet.function("10.6", "code", 2, "Between the lowest and the highest draw", cases=many_draws)
def covered(draws, x):
    """By ranks: the truth is neither below all draws nor above all of them."""
    rank = (draws.numpy() < x.numpy()[None]).sum(0)
    return torch.tensor(((rank > 0) & (rank < len(draws))).mean())


@covered.mistake("The lowest and the highest are taken over all films and pixels at once. Each pixel has draws of its "
                 "own: reduce over the first dimension only.")
def _(draws, x):
    return ((x >= draws.min()) & (x <= draws.max())).double().mean()


@covered.mistake("That is the share of truths that lie *outside*.")
def _(draws, x):
    return 1 - covered.oracle(draws, x)


@covered.mistake("Only whole films count with you. The share is one of pixels.")
def _(draws, x):
    inside = (x >= draws.amin(0)) & (x <= draws.amax(0))
    return inside.flatten(1).all(1).double().mean()


@covered.mistake("That is an interval of the mean plus or minus one deviation, which holds about two thirds.")
def _(draws, x):
    return ((x - draws.mean(0)).abs() <= draws.std(0)).double().mean()


@covered.mistake("You look whether the *mean* of the draws lies between them. It always does; the truth need not.")
def _(draws, x):
    return torch.ones((), dtype=torch.float64)


sheet.number("10.7", "derive", 2, "Nineteen draws and the truth", truth=18 / 20, within=0.002, why=(
    "If truth and draws come from the same law, every one of the 20 is the lowest with the chance 1/20, and the "
    "highest with the same. So the truth lies outside with 2/20."), mistakes=[
    (1.0, "The truth is one more draw: it may well be the lowest of all twenty."),
    (19 / 20, "That leaves out one side. The truth may be the lowest *or* the highest."),
    (18 / 19, "There are 20 values in all, nineteen draws and the truth."),
    (17 / 19, "There are 20 values in all, nineteen draws and the truth, and two of the twenty places are outside."),
    (0.8, "Two of twenty places are outside, not four."),
])


# --- 10.8 ------------------------------------------------------------------------------------


@sheet.function("10.8", "derive", 2, "Trained on the wrong noise", returns=("error", "excess"), cases=lambda g: {
    "s": between(g, 0.6, 2.0), "sigma": between(g, 0.6, 1.6), "tau": between(g, 0.2, 2.5)})
def wrong_noise(s, sigma, tau):
    """The error of every factor is a parabola; its value at the factor that was learned, and at the best one."""
    factors = torch.linspace(0, 1, 100_001, dtype=torch.float64)
    errors = (1 - factors) ** 2 * s**2 + factors**2 * sigma**2
    learned = s**2 / (s**2 + tau**2)
    at_learned = s**2 - 2 * learned * s**2 + learned**2 * (s**2 + sigma**2)
    return at_learned, at_learned - errors.min()


@wrong_noise.mistake("You compute the error that the *simulation* promises. The noise of the true films is sigma.")
def _(s, sigma, tau):
    a = s**2 / (s**2 + tau**2)
    error = (1 - a) ** 2 * s**2 + a**2 * tau**2
    return error, error - s**2 * sigma**2 / (s**2 + sigma**2)


@wrong_noise.mistake("You compute the best factor for sigma. The network has learned the one for tau.")
def _(s, sigma, tau):
    error = s**2 * sigma**2 / (s**2 + sigma**2)
    return error, 0 * error


@wrong_noise.mistake("The noise that gets through is missing: it is multiplied by the factor, too.")
def _(s, sigma, tau):
    a = s**2 / (s**2 + tau**2)
    error = (1 - a) ** 2 * s**2
    return error, error - s**2 * sigma**2 / (s**2 + sigma**2)


@wrong_noise.mistake("The error is right. The excess is over the *best* factor's error, not over that of doing "
                     "nothing.")
def _(s, sigma, tau):
    a = s**2 / (s**2 + tau**2)
    error = (1 - a) ** 2 * s**2 + a**2 * sigma**2
    return error, error - sigma**2


# --- 10.9 ------------------------------------------------------------------------------------


def readings(g: torch.Generator) -> Case:
    """Whether a detector found something in true and in restored films."""
    before = torch.rand(60, generator=g) < 0.35
    flipped = torch.rand(60, generator=g) < 0.3
    before[:3], flipped[:3] = torch.tensor([True, True, False]), torch.tensor([True, False, True])
    return {"in_truth": before, "in_restored": before ^ flipped}


@sheet.function("10.9", "code", 1, "Erased and invented", cases=readings, returns=("erased", "invented"))
def erased_and_invented(in_truth, in_restored):
    """By counting, film by film."""
    both = list(zip(in_truth.tolist(), in_restored.tolist(), strict=True))
    lost = sum(a and not b for a, b in both) / sum(a for a, _ in both)
    new = sum(b and not a for a, b in both) / sum(not a for a, _ in both)
    return torch.tensor(lost), torch.tensor(new)


@erased_and_invented.mistake("Both are divided by the number of all films. What can be erased is only where something "
                             "is, and what can be invented only where nothing is.")
def _(in_truth, in_restored):
    return (in_truth & ~in_restored).double().mean(), (in_restored & ~in_truth).double().mean()


@erased_and_invented.mistake("The two are exchanged: erased is what the truth shows and the restored film does not.")
def _(in_truth, in_restored):
    return tuple(reversed(erased_and_invented.oracle(in_truth, in_restored)))


@erased_and_invented.mistake("Invented is divided by what was found in the restored films: that is the share of false "
                             "findings among findings, another question.")
def _(in_truth, in_restored):
    lost, _ = erased_and_invented.oracle(in_truth, in_restored)
    return lost, (in_restored & ~in_truth).double().sum() / in_restored.double().sum()


@erased_and_invented.mistake("Those are differences of shares. One nodule erased and another invented then cancel, and "
                             "two harms look like none.")
def _(in_truth, in_restored):
    off = in_truth.double().mean() - in_restored.double().mean()
    return off, -off


# --- 10.10 -----------------------------------------------------------------------------------

DISC = (torch.hypot(torch.arange(64.0)[:, None] - 30, torch.arange(64.0)[None] - 20) < 2.2)[None, None]
RING = (F.max_pool2d(DISC.float(), 5, 1, 2) > 0) & ~DISC


def with_a_nodule(g: torch.Generator) -> Case:
    """Smooth films with a nodule, the same with a little noise, and where the nodule is."""
    ground = F.interpolate(0.3 + 0.4 * torch.rand(4, 1, 4, 4, generator=g), size=(64, 64), mode="bicubic")
    x = (ground + 0.12 * DISC).clamp(0, 1)
    return {"x_hat": x + 0.02 * normal(g, 4, 1, 64, 64), "x": x, "nodule": DISC.expand(4, 1, 64, 64).clone()}


def contrast(x):
    """The nodule's mean over that of the ring around it."""
    ring, disc = RING.to(x), DISC.to(x)
    return (x * disc).sum((1, 2, 3)) / disc.sum() - (x * ring).sum((1, 2, 3)) / ring.sum()


def what_it_did(function, case):
    """Whether more decibels came out, and whether the nodule is gone: less than a quarter of its contrast."""
    made = call(function, case)
    x, x_hat = case["x"], case["x_hat"]
    if not torch.is_tensor(made) or made.shape != x.shape:
        raise BadAnswer(f"Films of the shape {tuple(x.shape)} are asked for.")
    decibels = [-10 * (y - x).square().flatten(1).mean(1).log10() for y in (made.to(x), x_hat)]
    return {"more decibels": torch.tensor(float((decibels[0] > decibels[1] + 1).all())),
            "nodule gone": torch.tensor(float((contrast(made.to(x)).abs() < 0.25 * contrast(x)).all()))}


@sheet.function("10.10", "investigate", 2, "More decibels, no nodule", cases=with_a_nodule, observe=what_it_did)
def no_nodule(x_hat, x, nodule):
    """The truth, with the nodule painted in the grey around it."""
    ring = RING.to(x)
    level = (x * ring).sum((1, 2, 3), keepdim=True) / ring.sum()
    return torch.where(nodule, level, x)


@no_nodule.mistake("There are more decibels, but the nodule is still there: paint over it.")
def _(x_hat, x, nodule):
    return 0.9 * x + 0.1 * x_hat


@no_nodule.mistake("The nodule is gone, but there is not a decibel more than in `x_hat`. Everything but the nodule "
                   "may be as good as you like: the truth is at hand.")
def _(x_hat, x, nodule):
    return no_nodule.oracle(x, x, nodule) + 0.05


@no_nodule.mistake("The nodule is there, and the films are no better than before.")
def _(x_hat, x, nodule):
    return x_hat


# --- 10.11 to 10.13: without pairs -----------------------------------------------------------


def translator(g: torch.Generator):
    """A map of films to films that is not its own inverse."""
    mix, shift = 0.5 * normal(g, 16, 16), 0.3 * normal(g, 16)

    def translate(x):
        return x + (x.flatten(1) @ mix.to(x) + shift.to(x)).tanh().view_as(x)

    return translate


def two_heaps(g: torch.Generator) -> Case:
    """Two translators and films of two heaps, as many of one as of the other."""
    return {"G": translator(g), "H": translator(g), "a": normal(g, 5, 1, 4, 4), "b": normal(g, 5, 1, 4, 4)}


@sheet.function("10.11", "code", 2, "There and back, and what should stay", cases=two_heaps,
                returns=("cycle", "identity"))
def cycle_and_identity(G, H, a, b):
    """Film by film."""
    def off(x, y):
        return sum(float((p - q).abs().mean()) for p, q in zip(x, y, strict=True)) / len(x)

    return torch.tensor(off(H(G(a)), a) + off(G(H(b)), b)), torch.tensor(off(G(b), b) + off(H(a), a))


def off(x, y):
    """Mean absolute difference."""
    return (x - y).abs().mean()


@cycle_and_identity.mistake("Only the way from A to B and back is in your cycle loss. The other way round belongs to "
                            "it, too.")
def _(G, H, a, b):
    return off(H(G(a)), a), off(G(b), b) + off(H(a), a)


@cycle_and_identity.mistake("Your identity loss compares G(a) with a: that forbids translating. It is films that are "
                            "*already* of B that G should leave alone.")
def _(G, H, a, b):
    return off(H(G(a)), a) + off(G(H(b)), b), off(G(a), a) + off(H(b), b)


@cycle_and_identity.mistake("Your way back begins with the wrong network: on a, G goes first and H brings it back.")
def _(G, H, a, b):
    return off(G(H(a)), a) + off(H(G(b)), b), off(G(b), b) + off(H(a), a)


@cycle_and_identity.mistake("You go there and back with the same network.")
def _(G, H, a, b):
    return off(G(G(a)), a) + off(H(H(b)), b), off(G(b), b) + off(H(a), a)


@cycle_and_identity.mistake("The differences are squared. CycleGAN takes absolute ones.")
def _(G, H, a, b):
    return (H(G(a)) - a).square().mean() + (G(H(b)) - b).square().mean(), off(G(b), b) + off(H(a), a)


@cycle_and_identity.mistake("That is the mean of the two ways. Their sum is asked for.")
def _(G, H, a, b):
    return (off(H(G(a)), a) + off(G(H(b)), b)) / 2, (off(G(b), b) + off(H(a), a)) / 2


def two_shares(g: torch.Generator) -> Case:
    """A share of ill patients in A, and a larger one in B."""
    p = between(g, 0.05, 0.4)
    return {"p": p, "r": between(g, p + 0.1, 0.9)}


@sheet.function("10.12", "derive", 2, "How many must be made ill", cases=two_shares,
                returns=("of all patients", "of the healthy ones"))
def must_be_made_ill(p, r):
    """Over a grid of how many of the ill are erased: the least that must be invented."""
    erased = torch.linspace(0, 1, 2001, dtype=torch.float64)
    made = r - p + p * erased
    return made.min(), (made / (1 - p)).min()


@must_be_made_ill.mistake("You divide by p, the ill ones. Lesions can be invented in the healthy, who are 1 - p.")
def _(p, r):
    return r - p, (r - p) / p


@must_be_made_ill.mistake("All of B's share is invented with you. The p who are ill may stay ill.")
def _(p, r):
    return r, r / (1 - p)


@must_be_made_ill.mistake("That is where translator and patient know nothing of each other: then p (1 - r) are erased "
                          "besides. The least is asked for.")
def _(p, r):
    return (1 - p) * r, r


@must_be_made_ill.mistake("The first is right. The second is a share of the healthy patients: divide by how many they "
                          "are.")
def _(p, r):
    return r - p, r - p


sheet.choice("10.13", "predict", 1, "A secret mark", answer="b", why=(
    "H reads the mark and undoes exactly what G did. There and back nothing is missing; only the truth about the "
    "patients can tell, and that the cycle loss never sees."), wrongs={
    "a": "Large where? Compare H(G(a)) with a for a patient whom G has changed: H knows it, and where.",
    "c": "Every film comes back as it was, those of the changed half too: H finds the mark on them.",
    "d": "It is determined: follow one film with the mark and one without, there and back.",
})


# --- 10.14 and 10.15: one prior -----------------------------------------------------------------------------------


def masked(g: torch.Generator) -> Case:
    """Films, a measurement that is zero outside the mask, and two deviations."""
    keep = (torch.rand(1, 1, 6, 6, generator=g) < 0.6).float()
    keep[..., 0, :2] = torch.tensor([0.0, 1.0])
    return {"x": normal(g, 3, 1, 6, 6), "y": keep * normal(g, 3, 1, 6, 6), "keep": keep,
            "noise": normal(g, 3, 1, 6, 6), "r": between(g, 0.3, 1.0), "sigma": between(g, 0.3, 1.0)}


@sheet.function("10.14", "code", 2, "What the guess lacks", cases=masked)
def corrected(x, y, keep, noise, r, sigma):
    """Pixel by pixel: the mean of two guesses weighted by their precisions, or the old value."""
    known = (x / r**2 + (y - sigma * noise) / sigma**2) / (1 / r**2 + 1 / sigma**2)
    return torch.where(keep > 0, known, x)


@corrected.mistake("Pixels that were never measured have changed. There y is zero because nothing is known: the "
                   "correction must be multiplied by `keep`.")
def _(x, y, keep, noise, r, sigma):
    return x + r**2 / (r**2 + sigma**2) * (y - keep * x - sigma * noise)


@corrected.mistake("The weights are exchanged: a small sigma means that y is to be believed.")
def _(x, y, keep, noise, r, sigma):
    return x + sigma**2 / (r**2 + sigma**2) * keep * (y - x - sigma * noise)


@corrected.mistake("The noise of (10.8) is missing. Without it the draws are too narrow where the film was measured.")
def _(x, y, keep, noise, r, sigma):
    return x + r**2 / (r**2 + sigma**2) * keep * (y - x)


@corrected.mistake("The measurement is pasted in. It has noise of its own, and the network's guess "
                   "knows something too.")
def _(x, y, keep, noise, r, sigma):
    return keep * y + (1 - keep) * x


# --- 10.15 -----------------------------------------------------------------------------------


@sheet.function("10.15", "derive", 2, "One pixel's posterior", returns=("mean", "variance"), cases=lambda g: {
    "y": between(g, -2.0, 2.0), "m": between(g, 0.5, 1.5), "s": between(g, 0.5, 1.5), "a": between(g, 0.3, 0.8),
    "sigma": between(g, 0.3, 1.2)})
def pixel_posterior(y, m, s, a, sigma):
    """By counting on a fine grid of x."""
    x = torch.linspace(-14, 16, 200_001, dtype=torch.float64)
    weight = (-((x - m) / s) ** 2 / 2 - ((y - a * x) / sigma) ** 2 / 2).exp()
    weight = weight / weight.sum()
    mean = (weight * x).sum()
    return mean, (weight * (x - mean) ** 2).sum()


@pixel_posterior.mistake("The factor a is forgotten: that is the posterior of a pixel measured as y = x + noise.")
def _(y, m, s, a, sigma):
    gain = s**2 / (s**2 + sigma**2)
    return torch.tensor(m + gain * (y - m)), torch.tensor(s**2 * (1 - gain))


@pixel_posterior.mistake("The mean is right. The variance that you give is that of the prior: a measurement takes "
                         "some of it away.")
def _(y, m, s, a, sigma):
    return pixel_posterior.oracle(y, m, s, a, sigma)[0], torch.tensor(s**2)


@pixel_posterior.mistake("The mean is right; instead of the variance you give its root.")
def _(y, m, s, a, sigma):
    mean, variance = pixel_posterior.oracle(y, m, s, a, sigma)
    return mean, variance.sqrt()


@pixel_posterior.mistake("The prior's mean is missing: that holds for m = 0 alone.")
def _(y, m, s, a, sigma):
    gain = a * s**2 / (a**2 * s**2 + sigma**2)
    return torch.tensor(gain * y), torch.tensor(s**2 * (1 - gain * a))
