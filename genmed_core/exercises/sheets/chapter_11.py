"""Chapter 11's exercises: each oracle is written without the chapter's code."""

import itertools
import math

import numpy as np
import torch
from torch.distributions import Bernoulli, Categorical, Normal

from genmed_core.exercises.answers import Case, call
from genmed_core.exercises.sheet import Sheet

sheet = Sheet("11_likelihoods")


def normal(g: torch.Generator, *size: int) -> torch.Tensor:
    """Standard Gaussian numbers from a generator."""
    return torch.randn(*size, generator=g)


def between(g: torch.Generator, low: float, high: float, *shape: int):
    """One number at random, or a tensor of them."""
    drawn = low + (high - low) * torch.rand(shape, generator=g)
    return drawn if shape else float(drawn)


# --- 11.1 ------------------------------------------------------------------------------------

sheet.number(
    "11.1", "predict", 1, "What the last pixel needs", truth=256, within=0.0, off=0.4, why=(
        "Eight pixels come before it, which can look in 2^8 ways, and for each of them there is one chance of its "
        "being white. All nine conditionals have 1 + 2 + 4 + ... + 256 = 511 numbers, as many as the whole table."),
    mistakes=[
        (511, "That is the whole table: 512 chances that sum to 1. How many of them belong to the last factor?"),
        (512, "You count white and black. The two chances of a pixel sum to 1, so that one of them is free."),
        (255, "You let the chances of all contexts sum to 1. Each context has a chance of its own, and no sum binds "
              "them."),
        (8, "Eight are the pixels before it. A *table* has an entry for each of their patterns."),
        (9, "Eight weights and a bias: that is a logistic regression, which leaves most of the table out."),
        (128, "Eight pixels come before the ninth, not seven.")])


# --- 11.2 ------------------------------------------------------------------------------------


def both_masks(function, case):
    """The mask of a first layer and that of a later one."""
    return {"mask of a first layer": call(function, case | {"first": True}),
            "mask of a later layer": call(function, case | {"first": False})}


@sheet.function("11.2", "code", 2, "What a causal convolution may see", observe=both_masks,
                cases=lambda g: {"k": 3 + 2 * int(torch.randint(0, 3, (), generator=g))})
def causal_mask(k, first):
    """Place by place: pairs of row and column are ordered as pixels are."""
    c = (k // 2, k // 2)
    seen = [[(i, j) < c or (i, j) == c and not first for j in range(k)] for i in range(k)]
    return torch.tensor(seen).double()


def at_centre(mask, value):
    """The same mask with another value in the middle."""
    mask = mask.clone()
    mask[len(mask) // 2, len(mask) // 2] = value
    return mask


@causal_mask.mistake("Your first layer sees the centre, the pixel that is to be guessed: it would copy it, and the "
                     "loss would fall to nothing.")
def _(k, first):
    return causal_mask.oracle(k, False)


@causal_mask.mistake("Your later layers leave the centre out as well. There it no longer holds the pixel itself, only "
                     "what the first layer made of the ones before: it may be used.")
def _(k, first):
    return causal_mask.oracle(k, True)


@causal_mask.mistake("`first` is turned: it is the first layer that must not see the centre.")
def _(k, first):
    return causal_mask.oracle(k, not first)


@causal_mask.mistake("The whole row of the centre is seen with you. To its right are pixels that come later.")
def _(k, first):
    rows = torch.arange(k)[:, None] <= k // 2
    mask = rows.double().expand(k, k)
    return at_centre(mask, 0.0) if first else mask


@causal_mask.mistake("You stop at the centre's column in every row. Above, all pixels have been drawn already, those "
                     "to the right too.")
def _(k, first):
    low = (torch.arange(k) <= k // 2).double()
    return at_centre(low[:, None] * low, 0.0 if first else 1.0)


@causal_mask.mistake("Yours goes column by column. Raster order goes along the rows: take the transpose.")
def _(k, first):
    return causal_mask.oracle(k, first).T


@causal_mask.mistake("Yours sees what comes *after* the centre.")
def _(k, first):
    return causal_mask.oracle(k, first).flip(0, 1)


# --- 11.3, 11.4 ------------------------------------------------------------------------------


def binary_pictures(g: torch.Generator) -> Case:
    """Log-odds of white, and black and white pictures."""
    return {"logits": 2 * normal(g, 5, 1, 4, 4), "x": (torch.rand(5, 1, 4, 4, generator=g) < 0.4).float()}


@sheet.function("11.3", "code", 1, "Exact nats", cases=binary_pictures)
def exact_nats(logits, x):
    """By torch.distributions."""
    return -Bernoulli(logits=logits).log_prob(x).flatten(1).sum(1)


@exact_nats.mistake("You take the mean over the pixels. By the chain rule (11.1) their logarithms add up.")
def _(logits, x):
    return exact_nats.oracle(logits, x) / x[0].numel()


@exact_nats.mistake("The mean over the batch is taken as well. Keep a number for each picture.")
def _(logits, x):
    return exact_nats.oracle(logits, x).mean()


@exact_nats.mistake("That is the log-likelihood. Its *negative* is asked for: no picture can have fewer than zero "
                    "nats.")
def _(logits, x):
    return -exact_nats.oracle(logits, x)


@exact_nats.mistake("Those are bits. A nat is the natural logarithm's unit.")
def _(logits, x):
    return exact_nats.oracle(logits, x) / math.log(2)


@exact_nats.mistake("The sigmoid is taken twice: your loss takes log-odds, and you give it probabilities.")
def _(logits, x):
    return exact_nats.oracle(logits.sigmoid(), x)


@exact_nats.mistake("Only white pixels count with you. A black one has a chance, too: 1 less that of white.")
def _(logits, x):
    return -(x * logits.sigmoid().log()).flatten(1).sum(1)


sheet.choice(
    "11.4", "predict", 1, "Another order of the pixels", answer="b", why=(
        "The true p(x) is the same product in every order. A network has to guess the factors, and some are harder to "
        "guess from what has been seen: so its nats may differ, and each of them is exact for its own model."),
    wrongs={
        "a": "That would hold for the true factors. A network of limited size, trained for a limited time, learns "
             "those of one order better than those of another.",
        "c": "(11.1) holds for the pixels in any order: nowhere does it say which comes first. No bound is needed.",
        "d": "An order has to be the same in training and in drawing. Networks trained in two orders are two models, "
             "and nothing forces them to agree on any picture."})


# --- 11.5 ------------------------------------------------------------------------------------


def small_model(g: torch.Generator) -> Case:
    """A model whose i-th log-odds depends on the values before i, strongly; and uniform numbers."""
    weight, bias = 3 * normal(g, 8, 8).tril(-1), normal(g, 8)

    def conditional(x):
        return x.float() @ weight.T + bias

    return {"conditional": conditional, "u": torch.rand(16, 8, generator=g)}


def drawn(conditional, u, chance=torch.sigmoid, fed=None, above=False):
    """Value by value; `fed`: what goes back in of a chance, its draw if None; `above`: white above the chance."""
    x = torch.zeros_like(u)
    draws = []
    for i in range(u.shape[1]):
        p = chance(conditional(x)[:, i])
        draws.append(((u[:, i] < p) != above).to(u))
        x[:, i] = draws[-1] if fed is None else fed(p)
    return torch.stack(draws, 1)


@sheet.function("11.5", "code", 2, "One pixel after another", cases=small_model)
def draw(conditional, u):
    """Picture by picture, with a list that grows."""
    pictures = []
    for row in u.tolist():
        x: list[float] = []
        for i, mark in enumerate(row):
            so_far = torch.tensor([x + [0.0] * (len(row) - i)])
            x.append(float(mark < float(conditional(so_far)[0, i].sigmoid())))
        pictures.append(x)
    return torch.tensor(pictures)


@draw.mistake("All your pixels are drawn as if those before them were black: the model is asked about an empty "
              "picture. Ask it again after each pixel.")
def _(conditional, u):
    return (u < conditional(torch.zeros_like(u)).sigmoid()).to(u)


@draw.mistake("You feed probabilities back. The next pixel depends on what was *drawn*, zero or one.")
def _(conditional, u):
    return drawn(conditional, u, fed=lambda p: p)


@draw.mistake("Your pixel is white where u is *above* its probability. That happens with the chance of black.")
def _(conditional, u):
    return drawn(conditional, u, above=True)


@draw.mistake("You take the likelier value each time, whatever u is. That is one picture, the same for all, and no "
              "draw.")
def _(conditional, u):
    return drawn(conditional, torch.full_like(u, 0.5))


@draw.mistake("You compare u with the log-odds themselves. The sigmoid makes a probability of them.")
def _(conditional, u):
    return drawn(conditional, u, chance=lambda logit: logit)


# --- 11.6, 11.7 ------------------------------------------------------------------------------


def encoded(g: torch.Generator) -> Case:
    """Outputs of an encoder, and a codebook."""
    return {"z": normal(g, 12, 3), "codebook": normal(g, 6, 3)}


def with_gradients(function, case):
    """Codes, and what a loss of them sends back to the encoder's output and to the codebook."""
    given = {name: value.clone().requires_grad_() for name, value in case.items()}
    z_q = call(function, given)
    if not torch.is_tensor(z_q) or z_q.shape != case["z"].shape:
        return {"codes": z_q}
    found = {f"gradient for {name}": torch.zeros_like(value) for name, value in given.items()}
    if z_q.requires_grad:
        weights = torch.linspace(-1, 2, z_q.numel()).view_as(z_q).to(z_q)
        slopes = torch.autograd.grad((weights * z_q).sum(), list(given.values()), allow_unused=True)
        found |= {name: slope for name, slope in zip(found, slopes, strict=True) if slope is not None}
    return {"codes": z_q} | found


def nearest(z, codebook):
    """Numbers of the nearest codes, by all differences."""
    return (z[:, None] - codebook[None]).square().sum(2).argmin(1)


class Through(torch.autograd.Function):
    """The nearest code forwards, the identity backwards."""

    @staticmethod
    def forward(ctx, z, codebook):
        """Codes (B, D)."""
        return codebook[nearest(z, codebook)]

    @staticmethod
    def backward(ctx, slope):
        """The gradient as it comes, and none for the codebook."""
        return slope, None


@sheet.function("11.6", "code", 2, "Straight through", cases=encoded, observe=with_gradients)
def quantise(z, codebook):
    """With a backward pass of its own."""
    return Through.apply(z, codebook)


@quantise.mistake("Your values are right, but no gradient reaches z: the decoder's loss could never train the encoder. "
                  "It goes to the codebook instead.")
def _(z, codebook):
    return codebook[nearest(z, codebook)]


@quantise.mistake("Your values are right, but nothing at all gets a gradient: you detach too much.")
def _(z, codebook):
    return codebook[nearest(z, codebook)].detach()


@quantise.mistake("The codebook gets the gradient as well. In (11.3) a term of its own moves it: detach the code too.")
def _(z, codebook):
    return codebook[nearest(z, codebook)] + z - z.detach()


@quantise.mistake("The gradient is right, but the values are those of z: nothing was quantised.")
def _(z, codebook):
    return z * 1.0


@quantise.mistake("You take the codes with the largest inner product. Long codes win there; (11.2) asks for the least "
                  "distance.")
def _(z, codebook):
    return z + (codebook[(z @ codebook.T).argmax(1)] - z).detach()


@quantise.mistake("You take the codes that are farthest away.")
def _(z, codebook):
    return z + (codebook[torch.cdist(z, codebook).argmax(1)] - z).detach()


@quantise.mistake("Your values are z + (z - e), on the other side of z: the difference is to be code less z.")
def _(z, codebook):
    return z + (z - codebook[nearest(z, codebook)]).detach()


def codes_drawn(g: torch.Generator) -> Case:
    """Numbers of codes, low ones more often, and the last ones never."""
    return {"k": (10 * torch.rand(60, generator=g) ** 2).long(), "K": 13}


@sheet.function("11.7", "code", 1, "Codes in use", cases=codes_drawn)
def perplexity(k, K):
    """The entropy by torch.distributions."""
    return Categorical(probs=torch.bincount(k, minlength=K).double()).entropy().exp()


@perplexity.mistake("That is the entropy. Its exponential is a number of codes.")
def _(k, K):
    return perplexity.oracle(k, K).log()


@perplexity.mistake("Your sign is turned: a share has a negative logarithm, and the entropy is positive.")
def _(k, K):
    return 1 / perplexity.oracle(k, K)


@perplexity.mistake("That is how many codes occur at all. A code used once in sixty counts as much there as the one "
                    "that is used all the time.")
def _(k, K):
    return torch.tensor(float(len(k.unique())))


@perplexity.mistake("Two units are mixed: 2 to the power of an entropy in nats.")
def _(k, K):
    return 2 ** perplexity.oracle(k, K).log()


@perplexity.mistake("Two units are mixed: e to the power of an entropy in bits.")
def _(k, K):
    return perplexity.oracle(k, K) ** (1 / math.log(2))


@perplexity.mistake("You divide by K: that is the share of the codebook. The number of codes is asked for.")
def _(k, K):
    return perplexity.oracle(k, K) / K


# --- 11.8 to 11.10 ---------------------------------------------------------------------------


@sheet.function("11.8", "code", 1, "A stretched line",
                cases=lambda g: {"x": normal(g, 6), "slope": between(g, 0.2, 4.0, 6)})
def log_density(x, slope):
    """What is between two near points, over the length on which it lies afterwards."""
    h = 1e-4
    bell = Normal(torch.zeros_like(x), 1.0)
    return ((bell.cdf(x + h) - bell.cdf(x - h)) / (2 * h * slope)).log()


@log_density.mistake("Your sign of the logarithm is turned: where f stretches, the same chance lies on a longer piece, "
                     "and the density falls.")
def _(x, slope):
    return log_density.oracle(x, slope) + 2 * slope.log()


@log_density.mistake("That is the density at x. At y it is another, as f stretches the line there.")
def _(x, slope):
    return log_density.oracle(x, slope) + slope.log()


@log_density.mistake("You subtract the slope itself. A factor of a density is a term of its *logarithm*.")
def _(x, slope):
    return log_density.oracle(x, slope) + slope.log() - slope


@log_density.mistake("That is the density. Its logarithm is asked for.")
def _(x, slope):
    return log_density.oracle(x, slope).exp()


@log_density.mistake("The Gaussian's constant is missing: half the logarithm of 2π.")
def _(x, slope):
    return log_density.oracle(x, slope) + 0.5 * math.log(2 * math.pi)


def small_net(g: torch.Generator):
    """A function from the first half to log-factors s and shifts b for the second."""
    of_s, of_b = 0.6 * normal(g, 3, 3), normal(g, 3, 3)

    def net(x1):
        return (x1 @ of_s.to(x1)).tanh(), x1 @ of_b.to(x1) + 1

    return net


def to_couple(g: torch.Generator) -> Case:
    """Points of six coordinates, and a net."""
    return {"x": normal(g, 4, 6), "net": small_net(g)}


def moved(x, net):
    """(11.5), by itself."""
    s, b = net(x[:, :3])
    return torch.cat([x[:, :3], x[:, 3:] * s.exp() + b], 1)


@sheet.function("11.9", "code", 2, "One half bends the other", cases=to_couple, returns=("y", "log_det"))
def couple(x, net):
    """The determinant of the whole matrix of derivatives."""
    slopes = [torch.autograd.functional.jacobian(lambda one: moved(one[None], net)[0], row) for row in x]
    return moved(x, net), torch.stack([torch.linalg.slogdet(slope).logabsdet for slope in slopes])


@couple.mistake("y is right, log_det has its sign turned: that is the way back.")
def _(x, net):
    return moved(x, net), -net(x[:, :3])[0].sum(1)


@couple.mistake("y is right. The factors are exp(s), and the logarithm of their product is the sum of the s, with no "
                "exponential left.")
def _(x, net):
    return moved(x, net), net(x[:, :3])[0].exp().sum(1)


@couple.mistake("y is right, but log_det is a mean over the coordinates. The logarithms of factors add up.")
def _(x, net):
    return moved(x, net), net(x[:, :3])[0].mean(1)


@couple.mistake("y is right, but log_det is one number for all points. Each has its own.")
def _(x, net):
    return moved(x, net), net(x[:, :3])[0].sum()


@couple.mistake("You multiply by s. (11.5) multiplies by exp(s), which is never zero or negative: so it can be undone.")
def _(x, net):
    s, b = net(x[:, :3])
    return torch.cat([x[:, :3], x[:, 3:] * s + b], 1), s.sum(1)


@couple.mistake("The shift comes first with you, and is multiplied as well. In (11.5) it is added at the end.")
def _(x, net):
    s, b = net(x[:, :3])
    return torch.cat([x[:, :3], (x[:, 3:] + b) * s.exp()], 1), s.sum(1)


@couple.mistake("Your net reads the half that is changed. Then nobody can undo it: let it read the half that stays.")
def _(x, net):
    s, b = net(x[:, 3:])
    return torch.cat([x[:, :3], x[:, 3:] * s.exp() + b], 1), s.sum(1)


@couple.mistake("The halves are exchanged in your y: first the one that stays.")
def _(x, net):
    return moved(x, net).roll(3, 1), net(x[:, :3])[0].sum(1)


@sheet.function("11.10", "code", 1, "And back", cases=lambda g: {"y": normal(g, 4, 6), "net": small_net(g)})
def uncouple(y, net):
    """The second half lies on a line through where the values 0 and 1 come to lie."""
    at_0, at_1 = (moved(torch.cat([y[:, :3], torch.full_like(y[:, 3:], value)], 1), net)[:, 3:]
                  for value in (0.0, 1.0))
    return torch.cat([y[:, :3], (y[:, 3:] - at_0) / (at_1 - at_0)], 1)


def back(y, net, undo):
    """The first half as it is; the second by `undo(y2, s, b)`."""
    return torch.cat([y[:, :3], undo(y[:, 3:], *net(y[:, :3]))], 1)


@uncouple.mistake("Shift and factor are undone in the wrong order: what came last goes first.")
def _(y, net):
    return back(y, net, lambda y2, s, b: y2 * (-s).exp() - b)


@uncouple.mistake("You multiply by exp(s) once more. Divide by it.")
def _(y, net):
    return back(y, net, lambda y2, s, b: (y2 - b) * s.exp())


@uncouple.mistake("That is the way forwards.")
def _(y, net):
    return moved(y, net)


@uncouple.mistake("You divide by s. The factor was exp(s).")
def _(y, net):
    return back(y, net, lambda y2, s, b: (y2 - b) / s)


@uncouple.mistake("Your net reads the second half, which has been changed. The first half is what it was, and the net "
                  "read that.")
def _(y, net):
    s, b = net(y[:, 3:])
    return torch.cat([y[:, :3], (y[:, 3:] - b) * (-s).exp()], 1)


@uncouple.mistake("The shift is added again. Take it off.")
def _(y, net):
    return back(y, net, lambda y2, s, b: (y2 + b) * (-s).exp())


# --- 11.11, 11.12 ----------------------------------------------------------------------------


def densities(g: torch.Generator) -> Case:
    """Negative log-densities of some pictures, most of them negative, and the number of pixels."""
    D = int(torch.randint(400, 1000, (), generator=g))
    return {"nats": D * between(g, -4.0, 1.0, 5), "D": D}


@sheet.function("11.11", "derive", 2, "From a density to bits", cases=densities)
def bits_per_dimension(nats, D):
    """The chance of a cell whose side is a level, from the density's mean height in a pixel."""
    height = (-nats / D).exp()
    return -(height / 256).log2()


@bits_per_dimension.mistake("The eight bits are missing: a density on [0, 1] has to be multiplied by the size of a "
                            "cell, 1/256 for each pixel, to be a chance.")
def _(nats, D):
    return nats / (D * math.log(2))


@bits_per_dimension.mistake("The eight bits have the wrong sign: a small cell has a small chance, and that costs bits.")
def _(nats, D):
    return nats / (D * math.log(2)) - 8


@bits_per_dimension.mistake("Those are nats per dimension. Divide by the logarithm of 2.")
def _(nats, D):
    return nats / D + math.log(256)


@bits_per_dimension.mistake("You multiply by the logarithm of 2. A bit is 0.69 nats, so there are *more* bits than "
                            "nats.")
def _(nats, D):
    return nats / D * math.log(2) + 8


@bits_per_dimension.mistake("You spend eight bits once for the whole picture. Every pixel has 256 levels of its own.")
def _(nats, D):
    return nats / (D * math.log(2)) + 8 / D


@bits_per_dimension.mistake("That is for the whole picture: divide by the number of pixels.")
def _(nats, D):
    return nats / math.log(2) + 8 * D


@bits_per_dimension.mistake("The sign of the nats is turned: they are negative log-densities already.")
def _(nats, D):
    return -nats / (D * math.log(2)) + 8


sheet.number(
    "11.12", "derive", 2, "One sample in a hundred", truth=math.log2(100) / 784, within=0.03, why=(
        "The mixture is at least 0.01 p, everywhere, so that no picture loses more than log 100 nats. Spread over 784 "
        "pixels nobody sees it, though 99 samples of 100 are noise."),
    mistakes=[
        (math.log(100), "Those are nats, of the whole picture. Bits per dimension are asked for."),
        (math.log2(100), "Those are bits of the whole picture. Divide by its pixels."),
        (math.log(100) / 784, "Those are nats per dimension. Divide by the logarithm of 2."),
        (-math.log2(0.99) / 784, "You let the *noise* be the one in a hundred. Here it is the good model."),
        (math.log10(100) / 784, "That logarithm is the decimal one."),
        (0.0, "A little is lost: the good model's chance is multiplied by 0.01."),
        (0.99, "99 samples in 100 are lost. A likelihood hardly sees that: take the logarithm of 0.01.")])


# --- 11.13, 11.14 ----------------------------------------------------------------------------


def pairs(g: torch.Generator) -> Case:
    """Pictures, noise, and a time for each."""
    return {"x": normal(g, 5, 1, 3, 3), "eps": normal(g, 5, 1, 3, 3), "t": between(g, 0.1, 0.9, 5)}


def column(values):
    """Values for each picture, shaped to multiply it."""
    return values.view(-1, 1, 1, 1)


@sheet.function("11.13", "code", 1, "A point and its velocity", cases=pairs, returns=("x_t", "target"))
def point_and_target(x, eps, t):
    """The velocity by a small step along the path."""
    x_t, later = (torch.lerp(eps, x, column(time).expand_as(x)) for time in (t, t + 1e-3))
    return x_t, (later - x_t) / 1e-3


@point_and_target.mistake("Your path runs from data to noise, as some papers have it. Here t = 0 is the noise.")
def _(x, eps, t):
    return point_and_target.oracle(eps, x, t)


@point_and_target.mistake("The point is right; your velocity points back to the noise. Which way does x_t go as t "
                          "grows?")
def _(x, eps, t):
    x_t, target = point_and_target.oracle(x, eps, t)
    return x_t, -target


@point_and_target.mistake("The target is right, but your point starts at the data and ends at the noise: at t = 0 it "
                          "is to be the noise.")
def _(x, eps, t):
    return point_and_target.oracle(eps, x, t)[0], x - eps


@point_and_target.mistake("The point is right. Your target is what is left of the way from x_t; the velocity is the "
                          "same all along it.")
def _(x, eps, t):
    x_t, target = point_and_target.oracle(x, eps, t)
    return x_t, (1 - column(t)) * target


@point_and_target.mistake("The point is right, but your target is the picture. (11.8) asks for the velocity.")
def _(x, eps, t):
    return point_and_target.oracle(x, eps, t)[0], x


@point_and_target.mistake("You take roots, as chapter 8 does. Then the path is an arc, and its velocity is not "
                          "x - eps.")
def _(x, eps, t):
    return column(t).sqrt() * x + (1 - column(t)).sqrt() * eps, x - eps


def of_chapter_8(g: torch.Generator) -> Case:
    """Noisy values, a network's answers v, and what is left of the picture's variance."""
    return {"x_s": normal(g, 6), "v": normal(g, 6), "bar": between(g, 0.05, 0.95, 6)}


def picture_and_noise(x_s, v, bar):
    """Both from the two equations that define x_s and v."""
    a, b = bar.sqrt(), (1 - bar).sqrt()
    left = torch.stack([torch.stack([a, b], -1), torch.stack([-b, a], -1)], -2)
    return torch.linalg.solve(left, torch.stack([x_s, v], -1)[..., None])[..., 0].unbind(-1)


def by_table(x_s, v, bar, scaled=None):
    """x_t, t and u; with another factor than the right one, if given."""
    x, eps = picture_and_noise(x_s, v, bar)
    noise_to_picture = ((1 - bar) / bar).sqrt()
    t = 1 / (1 + noise_to_picture)
    return x_s * (t / bar.sqrt() if scaled is None else scaled), t, x - eps


@sheet.function("11.14", "code", 2, "Chapter 8's network, on the straight path", cases=of_chapter_8,
                returns=("x_t", "t", "u"))
def straightened(x_s, v, bar):
    """Two linear systems: one for the picture and the noise, one for the time and the factor."""
    return by_table(x_s, v, bar)


@straightened.mistake("Your u is v. v is the velocity along chapter 8's arc; the straight path has another: picture "
                      "less noise.")
def _(x_s, v, bar):
    x_t, t, _ = by_table(x_s, v, bar)
    return x_t, t, v


@straightened.mistake("x_t and t are right; your u is noise less picture.")
def _(x_s, v, bar):
    x_t, t, u = by_table(x_s, v, bar)
    return x_t, t, -u


@straightened.mistake("Your point is not scaled: the two factors of chapter 8 sum to more than 1, those of the "
                      "straight path to 1.")
def _(x_s, v, bar):
    return by_table(x_s, v, bar, scaled=1.0)


@straightened.mistake("Your t is ᾱ. The ratio of picture to noise has to be the same on both paths: t / (1 - t).")
def _(x_s, v, bar):
    x_t, _, u = by_table(x_s, v, bar)
    return x_t, bar, u


@straightened.mistake("Your t is the factor of the picture in x_s. After scaling it is smaller.")
def _(x_s, v, bar):
    x_t, _, u = by_table(x_s, v, bar)
    return x_t, bar.sqrt(), u


@straightened.mistake("Your t counts from the data. Here t = 0 is noise.")
def _(x_s, v, bar):
    x_t, t, u = by_table(x_s, v, bar)
    return x_t, 1 - t, u


@straightened.mistake("x_t and t are right. You scale u as well, but picture and noise are guessed at their own size: "
                      "their difference stays as it is.")
def _(x_s, v, bar):
    x_t, t, u = by_table(x_s, v, bar)
    return x_t, t, u / (bar.sqrt() + (1 - bar).sqrt())


@straightened.mistake("x_t and t are right. In your u the sign of v is turned: v = √ᾱ ε - √(1 - ᾱ) x_0, so the picture "
                      "is √ᾱ x_s *less* √(1 - ᾱ) v.")
def _(x_s, v, bar):
    return by_table(x_s, v, bar)[:2] + by_table(x_s, -v, bar)[2:]


# --- 11.15, 11.16 ----------------------------------------------------------------------------


def on_the_line(g: torch.Generator) -> Case:
    """Places on the way, times, and the data's mean and standard deviation."""
    t, m, s = between(g, 0.1, 0.9, 6), between(g, 0.5, 2.0), between(g, 0.3, 1.6)
    return {"x": t * (m + s * normal(g, 6)) + (1 - t) * normal(g, 6), "t": t, "m": m, "s": s}


def guessed(x, t, m, s):
    """The mean of the data that may have led to x_t = x, on a grid."""
    data = m + s * torch.linspace(-8, 8, 4001, dtype=torch.float64)
    noise = (x[:, None] - t[:, None] * data) / (1 - t[:, None])
    weight = (-0.5 * ((data - m) / s) ** 2 - 0.5 * noise**2).softmax(1)
    return weight @ data


def regressed(x, t, m, s, slope=None, centre=None):
    """A straight line about the mean, with a slope or a centre of one's own."""
    if slope is None:
        slope = (t * s**2 - (1 - t)) / (t**2 * s**2 + (1 - t) ** 2)
    return m + slope * (x - (t * m if centre is None else centre))


@sheet.function("11.15", "derive", 2, "The velocity of a Gaussian", cases=on_the_line)
def marginal_velocity(x, t, m, s):
    """All pairs that pass through x, weighted, on a grid; from x to the guess in what time is left."""
    return (guessed(x, t, m, s) - x) / (1 - t)


@marginal_velocity.mistake("That is the mean velocity of *all* pairs. (11.9) takes only those that pass through x.")
def _(x, t, m, s):
    return 0 * x + m


@marginal_velocity.mistake("That is the mean of the data given x_t. The velocity is what leads there in the time that "
                           "is left.")
def _(x, t, m, s):
    return guessed(x, t, m, s)


@marginal_velocity.mistake("That is the way that is left, from x to the guess. Divide by the time that is left, 1 - t.")
def _(x, t, m, s):
    return guessed(x, t, m, s) - x


@marginal_velocity.mistake("The mean of x_t is missing: at time t it is t m, and only the distance from it says "
                           "something.")
def _(x, t, m, s):
    return regressed(x, t, m, s, centre=0.0)


@marginal_velocity.mistake("The mean of x_t is t m, not m: on the way only a share t of the data is in it.")
def _(x, t, m, s):
    return regressed(x, t, m, s, centre=m)


@marginal_velocity.mistake("The noise has the wrong sign in your covariance: it stands in x_t with plus, in the "
                           "velocity with minus.")
def _(x, t, m, s):
    return regressed(x, t, m, s, slope=(t * s**2 + 1 - t) / (t**2 * s**2 + (1 - t) ** 2))


@marginal_velocity.mistake("The factors t and 1 - t enter the variance of x_t squared.")
def _(x, t, m, s):
    return regressed(x, t, m, s, slope=(t * s**2 - (1 - t)) / (t * s**2 + 1 - t))


@marginal_velocity.mistake("You take s for the variance. It is the standard deviation.")
def _(x, t, m, s):
    return regressed(x, t, m, math.sqrt(s))


@marginal_velocity.mistake("You divide by the standard deviation of x_t. A regression's slope has the *variance* "
                           "below.")
def _(x, t, m, s):
    return regressed(x, t, m, s, slope=(t * s**2 - (1 - t)) / (t**2 * s**2 + (1 - t) ** 2).sqrt())


def one_step(g: torch.Generator) -> Case:
    """A velocity that bends in place and in time, a place, a time and a step."""
    a, b = between(g, 1.0, 2.0), between(g, 1.0, 3.0)

    def u(x, t):
        return torch.sin(a * x) + b * t * x

    return {"u": u, "x": normal(g, 5), "t": between(g, 0.1, 0.5), "h": between(g, 0.3, 0.5)}


def runge_kutta(u, x, t, h, places, matrix, weights):
    """One explicit step by its table (Butcher's)."""
    slopes: list = []
    for place, row in zip(places, matrix, strict=True):
        slopes.append(u(x + h * sum(a * k for a, k in zip(row, slopes)), t + place * h))
    return x + h * sum(w * k for w, k in zip(weights, slopes, strict=True))


@sheet.function("11.16", "code", 1, "Heun's step", cases=one_step)
def heun(u, x, t, h):
    """By its table."""
    return runge_kutta(u, x, t, h, (0, 1), ((), (1,)), (0.5, 0.5))


@heun.mistake("That is Euler's step: it trusts the slope at the start all the way.")
def _(u, x, t, h):
    return runge_kutta(u, x, t, h, (0,), ((),), (1,))


@heun.mistake("That is the midpoint method, of second order too. Heun's looks at the slope at the *end*, and takes the "
              "mean.")
def _(u, x, t, h):
    return runge_kutta(u, x, t, h, (0, 0.5), ((), (0.5,)), (0, 1))


@heun.mistake("Your second slope is taken at the old time. Where Euler's step has led, it is t + h.")
def _(u, x, t, h):
    return runge_kutta(u, x, t, h, (0, 0), ((), (1,)), (0.5, 0.5))


@heun.mistake("Your second slope is taken at the old place. Take it where Euler's step leads.")
def _(u, x, t, h):
    return runge_kutta(u, x, t, h, (0, 1), ((), (0,)), (0.5, 0.5))


@heun.mistake("You add both slopes and go twice as far: take their mean.")
def _(u, x, t, h):
    return runge_kutta(u, x, t, h, (0, 1), ((), (1,)), (1, 1))


@heun.mistake("Only the slope at the end counts with you. Take the mean of both.")
def _(u, x, t, h):
    return runge_kutta(u, x, t, h, (0, 1), ((), (1,)), (0, 1))


@heun.mistake("To look ahead you go a whole unit of time along the slope. Go h.")
def _(u, x, t, h):
    return runge_kutta(u, x, t, h, (0, 1), ((), (1 / h,)), (0.5, 0.5))


# --- 11.17, 11.18 ----------------------------------------------------------------------------

sheet.choice(
    "11.17", "predict", 1, "When one step is enough", answer="c", why=(
        "On a straight path with constant speed the slope at the start is the slope all the way. The lines between the "
        "pairs of a batch cross; paths of an equation cannot, and where lines cross (11.9) is their mean: it bends."),
    wrongs={
        "a": "The lines of the *pairs* are straight. The network learns their mean at each point and time, (11.9), and "
             "whoever follows that walks on a curve.",
        "b": "Euler's error comes from the slope's change along the path. Where it does not change, there is none, "
             "however long the stride.",
        "d": "A method of second order helps where paths bend, and needs two slopes for each step. Along a straight "
             "path the first slope has said all."})


# Two pictures and their noise at one end: the least total of squares pairs 1-1 and 2-2, that of distances 1-2 and 2-1.
ENDS_X = torch.tensor([[20.0, 0, 0, 0], [21.0, 0.5, 0, 0]])
ENDS_EPS = torch.tensor([[21.0, 0.5, 0, 0], [22.0, 0, 0, 0]])


def batch(g: torch.Generator) -> Case:
    """Seven pictures and seven draws of noise, in a random order; two of each far from the others."""
    def cloud(ends):
        values = torch.cat([ends + 0.05 * normal(g, 2, 4), normal(g, 5, 4)])
        return values[torch.randperm(7, generator=g)].view(7, 1, 2, 2)

    return {"x": cloud(ENDS_X), "eps": cloud(ENDS_EPS)}


ORDERS = torch.tensor(list(itertools.permutations(range(7))))


def squares(x, eps):
    """Squared distances (B, B) from each picture to each noise."""
    return (x.flatten(1)[:, None] - eps.flatten(1)[None]).square().sum(2)


def best_order(cost):
    """The order of least total cost, by trying all."""
    return ORDERS[cost[torch.arange(len(cost)), ORDERS].sum(1).argmin()]


@sheet.function("11.18", "code", 2, "Pairs that are near", cases=batch)
def coupled_noise(x, eps):
    """All 5,040 orders."""
    return eps[best_order(squares(x, eps))]


@coupled_noise.mistake("The noise comes back in its old order.")
def _(x, eps):
    return eps


@coupled_noise.mistake("Each picture takes its nearest noise, and some noise is taken twice. Then it is no longer "
                       "Gaussian: every one has to be used once.")
def _(x, eps):
    return eps[squares(x, eps).argmin(1)]


@coupled_noise.mistake("Your order is the inverse: it says which picture each noise gets. Index the noise with what "
                       "each *picture* gets.")
def _(x, eps):
    return eps[best_order(squares(x, eps)).argsort()]


@coupled_noise.mistake("You make the total distance as large as possible.")
def _(x, eps):
    return eps[best_order(-squares(x, eps))]


@coupled_noise.mistake("Yours are the pictures, reordered. They stay where they are; the noise is to be reordered.")
def _(x, eps):
    return x[best_order(squares(x, eps)).argsort()]


@coupled_noise.mistake("Your cost is the distance. The total of *squared* distances is to be least, and that is "
                       "another order.")
def _(x, eps):
    return eps[best_order(squares(x, eps).sqrt())]


@coupled_noise.mistake("First come, first served: the first picture takes its nearest noise, the next one the nearest "
                       "of the rest. The last ones go far. All pairs have to be weighed at once.")
def _(x, eps):
    cost = squares(x, eps)
    taken: list[int] = []
    for row in cost.tolist():
        taken.append(min((j for j in range(len(row)) if j not in taken), key=row.__getitem__))
    return eps[taken]


# --- 11.19 -----------------------------------------------------------------------------------


def strides(g: torch.Generator) -> Case:
    """The data's standard deviation, how much noise and data of a pair agree, and the number of steps."""
    return {"s": between(g, 0.4, 0.8), "rho": between(g, 0.2, 0.8), "K": int(torch.randint(2, 7, (), generator=g))}


def walk(s, rho, K, *, late=0.0, steps=None):
    """What Euler's steps make of the standard deviation 1, with a mistake where asked for."""
    noise = np.array([1.0, 0.0])
    data = s * np.array([rho, math.sqrt(1 - rho**2)])
    size = 1.0
    for k in range(K if steps is None else steps):
        t = (k + late) / K
        x_t = (1 - t) * noise + t * data
        slope = np.linalg.lstsq(x_t[:, None], data - noise, rcond=None)[0][0]
        size *= 1 + slope / K
    return torch.tensor(abs(size))


@sheet.function("11.19", "investigate", 3, "What bends the paths", cases=strides)
def euler_sd(s, rho, K):
    """The velocity at each stop by least squares on coefficients."""
    return walk(s, rho, K)


@euler_sd.mistake("You leave `rho` out: that is the answer for pairs that have nothing to do with each other.")
def _(s, rho, K):
    return walk(s, 0.0, K)


@euler_sd.mistake("That is s, where infinitely many steps end. With K of them something is missing yet.")
def _(s, rho, K):
    return torch.tensor(s)


@euler_sd.mistake("That is the variance. Return its root.")
def _(s, rho, K):
    return walk(s, rho, K) ** 2


@euler_sd.mistake("You take the slope at the end of each step. Euler's method knows only the one at its start.")
def _(s, rho, K):
    return walk(s, rho, K, late=1.0)


@euler_sd.mistake("You take one step too few: K steps of 1/K lead from 0 to 1, and the last begins at 1 - 1/K.")
def _(s, rho, K):
    return walk(s, rho, K, steps=K - 1)


def by_formula(s, rho, K, times, together):
    """The same from (11.9) for Gaussians; `together`: whether the variance of x_t has a mixed term."""
    size = 1.0
    for t in times:
        whole = t**2 * s**2 + (1 - t) ** 2 + (2 * t * (1 - t) * rho * s if together else 0)
        size *= 1 + (t * s**2 - (1 - t) + (1 - 2 * t) * rho * s) / whole / K
    return torch.tensor(abs(size))


@euler_sd.mistake("Your times are K points from 0 to 1, with both ends. The K steps of 1/K begin at 0, 1/K, ..., "
                  "1 - 1/K.")
def _(s, rho, K):
    return by_formula(s, rho, K, np.linspace(0, 1, K), True)


@euler_sd.mistake("Noise and data of a pair covary by rho s, in the variance of x_t too: 2 t (1 - t) rho s is missing "
                  "there.")
def _(s, rho, K):
    return by_formula(s, rho, K, np.arange(K) / K, False)
