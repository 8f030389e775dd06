"""Chapter 4's exercises: each oracle is written without the chapter's code."""

import math

import torch
from torch import nn
from torch.distributions import Bernoulli, Categorical, Normal, kl_divergence
from torch.nn import functional as F

from genmed_core.exercises.answers import BadAnswer, Case, call
from genmed_core.exercises.sheet import Sheet

sheet = Sheet("04_gan")


def uniform(g: torch.Generator, low: float, high: float) -> float:
    """A random number between two."""
    return low + (high - low) * torch.rand(1, generator=g).item()


def table(g: torch.Generator, size: int = 6) -> torch.Tensor:
    """Random probabilities of `size` outcomes, none near zero."""
    weights = 0.1 + torch.rand(size, generator=g)
    return weights / weights.sum()


def kl(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    """KL(p || q) of two tables, as distributions have it."""
    return kl_divergence(Categorical(probs=p), Categorical(probs=q))


# --- 4.1 and 4.2: predictions in the middle of the chapter ----------------------------------------------------------

sheet.number("4.1", "predict", 1, "What a perfect opponent still tells", truth=8.0, within=0.03, mistakes=[
    (0.0, "That is the saturating loss, which whispers. Here the slope of the loss is close to -1 for a sure fake."),
    (1.0, "So much is the slope in the score. The chain rule goes on: the score itself has the slope -θ in x."),
    (lambda t: -t, "Descent has to lower θ towards 0, so the gradient in θ is positive: two minus signs meet."),
    (lambda t: t**2, "One θ too many: θ stands in the slope of the score only once."),
    (lambda t: t**2 / 2, "That is KL of the two Gaussians, a value. Its gradient is asked for."),
    (lambda t: t / 2, "Every fake is told nearly the whole slope -1 here; one half is for a discriminator that cannot "
                      "tell at all.")],
    why="Every fake is surely false, so the loss has slope -1 in the score, and the score has slope -θ in x: "
        "their product is the distance itself.")

sheet.number("4.2", "predict", 2, "What a circle scores", truth=18.0, within=0.08, mistakes=[
    (100.0, "All of it lies at the right radius, but between the centres there is more circle than near them."),
    (2.4, "So much lies near one centre; there are eight."),
    (9.0, "The arc reaches three standard deviations to either side of a centre, so it is twice as long as that."),
    (38.0, "A circle of radius 2 is 4π long, not 2π."),
    (3.5, "That is within one standard deviation of a centre; the bar is drawn at three."),
    (50.0, "Half a fair share is what a mode has to hold; what a circle gives it is the length of an arc.")],
    why="Eight arcs of length 0.3 on a circle of length 4π are 19 %, and the spread costs one more. That is less "
        "than a fifth of what is fair, far below one half, so no mode counts.")


# --- 4.3 -------------------------------------------------------------------------------------------------------------


def scores(g: torch.Generator) -> Case:
    """Scores of some real and some fake pictures, of either sign."""
    return {"on_real": 2 * torch.randn(6, 1, generator=g), "on_fake": 2 * torch.randn(6, 1, generator=g)}


@sheet.function("4.3", "code", 1, "The discriminator's loss", cases=scores)
def discriminator_loss(on_real, on_fake):
    """Half the mean negative log-likelihood of the two labels, as distributions have it."""
    real, fake = Bernoulli(logits=on_real), Bernoulli(logits=on_fake)
    zero, one = torch.zeros_like(on_real), torch.ones_like(on_real)
    return -(real.log_prob(one).mean() + fake.log_prob(zero).mean()) / 2


@discriminator_loss.mistake("The two terms are added; the textbook's loss is their mean, (real + fake)/2.")
def _(on_real, on_fake):
    return 2 * discriminator_loss.oracle(on_real, on_fake)


@discriminator_loss.mistake("The sign is turned: this is V/2, which D wants large; a loss is what is made small.")
def _(on_real, on_fake):
    return -discriminator_loss.oracle(on_real, on_fake)


@discriminator_loss.mistake("The labels are swapped: reals are to be called 1, fakes 0.")
def _(on_real, on_fake):
    return discriminator_loss.oracle(on_fake, on_real)


@discriminator_loss.mistake("The fakes carry the label 1 here. That is the generator's trick, not D's loss.")
def _(on_real, on_fake):
    return discriminator_loss.oracle(on_real, -on_fake)


@discriminator_loss.mistake("It treats the scores as if they were probabilities: put them through a sigmoid first, "
                            "or use `softplus`.")
def _(on_real, on_fake):
    return discriminator_loss.oracle(torch.logit(on_real.clamp(1e-7, 1 - 1e-7)),
                                     torch.logit(on_fake.clamp(1e-7, 1 - 1e-7)))


# --- 4.4 -------------------------------------------------------------------------------------------------------------


def sure_scores(g: torch.Generator) -> Case:
    """Scores of fakes; one is surely false and one surely right, too sure for a float32 sigmoid."""
    on_fake = 2 * torch.randn(7, 1, generator=g)
    on_fake[2], on_fake[5] = uniform(g, -130, -110), uniform(g, 110, 130)
    return {"on_fake": on_fake.requires_grad_()}


def two_losses(function, case):
    """Both losses, and what each tells a fake's score."""
    on_fake = case["on_fake"].detach().requires_grad_()
    found = call(function, {"on_fake": on_fake})
    if not isinstance(found, (tuple, list)) or len(found) != 2 or not all(map(torch.is_tensor, found)):
        raise BadAnswer("Two losses are asked for, as tensors in this order: saturating, non-saturating.")
    seen = {}
    for name, loss in zip(("saturating loss", "non-saturating loss"), found, strict=True):
        if loss.isinf().any() or loss.isnan().any():
            raise BadAnswer(f"Its {name} is infinite for a score beyond ±100: the sigmoid was rounded "
                            "to 0 or 1 before the logarithm was taken. Keep the two in one function.")
        seen[name] = loss
        if not loss.requires_grad:
            raise BadAnswer(f"Its {name} carries no gradient to the scores: nothing would reach G.")
        seen[f"slope of the {name}"] = torch.autograd.grad(loss.sum(), on_fake, retain_graph=True)[0]
    return seen


@sheet.function("4.4", "code", 2, "Two losses for one wish", cases=sure_scores, observe=two_losses)
def generator_losses(on_fake):
    """As log-likelihoods of the two labels."""
    fake = Bernoulli(logits=on_fake)
    return fake.log_prob(torch.zeros_like(on_fake)).mean(), -fake.log_prob(torch.ones_like(on_fake)).mean()


@generator_losses.mistake("Each is right, but they come in the wrong order: the saturating one first.")
def _(on_fake):
    return generator_losses.oracle(on_fake)[::-1]


@generator_losses.mistake("The saturating loss has its sign turned: made small, yours would make fakes *easier* to "
                          "tell. It is the term of V, as it stands.")
def _(on_fake):
    saturating, other = generator_losses.oracle(on_fake)
    return -saturating, other


@generator_losses.mistake("The second is the discriminator's loss on fakes, with the label 0. G claims the label 1.")
def _(on_fake):
    return generator_losses.oracle(on_fake)[0], F.softplus(on_fake).mean()


@generator_losses.mistake("The non-saturating loss has its sign turned: making log D small makes D surer of the fakes.")
def _(on_fake):
    saturating, other = generator_losses.oracle(on_fake)
    return saturating, -other


@generator_losses.mistake("These are sums over the batch. A loss is a mean, or the rate would have to follow the "
                          "batch's size.")
def _(on_fake):
    saturating, other = generator_losses.oracle(on_fake)
    return len(on_fake) * saturating, len(on_fake) * other


# --- 4.5 -------------------------------------------------------------------------------------------------------------


def small_game(g: torch.Generator) -> Case:
    """Weights of a generator 3 -> 4 and a critic 4 -> 1, real data and noise."""
    return {"weight_G": torch.randn(4, 3, generator=g), "weight_D": torch.randn(1, 4, generator=g),
            "x": torch.randn(5, 4, generator=g), "z": torch.randn(5, 3, generator=g)}


def owners(function, case):
    """Both losses, and the gradient that each sends to either network."""
    def net(weight, *after):
        layer = nn.Linear(weight.shape[1], len(weight), bias=False, dtype=weight.dtype)
        layer.weight.data.copy_(weight)
        return nn.Sequential(layer, *after)

    def slope(loss, of):
        if not (torch.is_tensor(loss) and loss.requires_grad):
            return torch.zeros_like(of)
        found = torch.autograd.grad(loss.sum(), of, retain_graph=True, allow_unused=True)[0]
        return torch.zeros_like(of) if found is None else found

    G, D = net(case["weight_G"], nn.Tanh()), net(case["weight_D"])
    found = call(function, {"G": G, "D": D, "x": case["x"], "z": case["z"]})
    if not isinstance(found, (tuple, list)) or len(found) != 2:
        raise BadAnswer("Two losses are asked for, in this order: D's, G's.")
    loss_D, loss_G = found
    return {"loss of D": loss_D, "gradient of D's loss in D": slope(loss_D, D[0].weight),
            "gradient of D's loss in G": slope(loss_D, G[0].weight), "loss of G": loss_G,
            "gradient of G's loss in G": slope(loss_G, G[0].weight)}


@sheet.function("4.5", "code", 2, "Two losses, two owners", cases=small_game, observe=owners)
def losses(G, D, x, z):
    """From log-likelihoods; the fakes for D are made without a graph."""
    with torch.no_grad():
        frozen = G(z)
    log_D, log_not_D = (lambda s: Bernoulli(logits=s).log_prob(torch.ones_like(s)),
                        lambda s: Bernoulli(logits=s).log_prob(torch.zeros_like(s)))
    return -(log_D(D(x)).mean() + log_not_D(D(frozen)).mean()) / 2, -log_D(D(G(z))).mean()


@losses.mistake("D's loss sends a gradient into G: one backward pass, and G would learn to be caught. D is to look "
                "at fakes that remember nothing of their maker.")
def _(G, D, x, z):
    return (F.softplus(-D(x)) + F.softplus(D(G(z)))).mean() / 2, losses.oracle(G, D, x, z)[1]


@losses.mistake("No gradient reaches G from its own loss: the fakes were cut off for D, and G needs them uncut.")
def _(G, D, x, z):
    return losses.oracle(G, D, x, z)[0], F.softplus(-D(G(z).detach())).mean()


@losses.mistake("G's loss is the saturating one, log(1 - D). Against a sure D its gradient is next to nothing; use "
                "the cross-entropy with the label real.")
def _(G, D, x, z):
    return losses.oracle(G, D, x, z)[0], -F.softplus(D(G(z))).mean()


@losses.mistake("G's loss gives the fakes the label 0: that teaches G to be recognised.")
def _(G, D, x, z):
    return losses.oracle(G, D, x, z)[0], F.softplus(D(G(z))).mean()


@losses.mistake("D's loss adds its two halves; the textbook's is their mean. (It would double D's rate under plain "
                "gradient descent.)")
def _(G, D, x, z):
    loss_D, loss_G = losses.oracle(G, D, x, z)
    return 2 * loss_D, loss_G


@losses.mistake("The labels in D's loss are swapped: reals are to be called 1, fakes 0.")
def _(G, D, x, z):
    return (F.softplus(D(x)) + F.softplus(-D(G(z).detach()))).mean() / 2, losses.oracle(G, D, x, z)[1]


# --- 4.6 -------------------------------------------------------------------------------------------------------------

sheet.choice("4.6", "predict", 1, "Review: who sees what, and who wants what", answer="c", wrongs={
    "a": "G never sees a real picture. All that it knows of them comes through D's gradient at its own fakes.",
    "b": "With the label fake G would learn to be recognised. Its label is false on purpose.",
    "d": "The two cannot share a loss: what is good for one is bad for the other. Nor is D trained to its end first; "
         "the steps alternate."},
    why="D's cross-entropy is -V/2. G's, with the label real, is not V but the non-saturating substitute.")


# --- 4.7 -------------------------------------------------------------------------------------------------------------


def two_tables(g: torch.Generator) -> Case:
    """Two tables; one outcome is never drawn by the one, one never by the other."""
    r, f = table(g), table(g)
    r[1], f[4] = 0.0, 0.0
    return {"p_r": r / r.sum(), "p_g": f / f.sum()}


@sheet.function("4.7", "code", 1, "The best discriminator and its value", cases=two_tables, returns=("D", "V"))
def best_game(p_r, p_g):
    """D from the log-odds, V from two divergences."""
    m = (p_r + p_g) / 2
    return torch.sigmoid(p_r.log() - p_g.log()), kl(p_r, m) + kl(p_g, m) - 2 * math.log(2)


@best_game.mistake("Your D is p_r/p_g, the odds; a probability is the share of the reals among all, real and fake.")
def _(p_r, p_g):
    return p_r / p_g, best_game.oracle(p_r, p_g)[1]


@best_game.mistake("D and V are those of a D that states the probability of a *fake*.")
def _(p_r, p_g):
    D = p_g / (p_r + p_g)
    return D, (torch.xlogy(p_r, D) + torch.xlogy(p_g, 1 - D)).sum()


@best_game.mistake("Your D states the probability of a fake; the value is right.")
def _(p_r, p_g):
    return p_g / (p_r + p_g), best_game.oracle(p_r, p_g)[1]


@best_game.mistake("V counts the divergence once: (4.3) has *two* Jensen-Shannon divergences above -2 log 2.")
def _(p_r, p_g):
    D, V = best_game.oracle(p_r, p_g)
    return D, V / 2 - math.log(2)


@best_game.mistake("That is V/2: D's loss is the mean of two cross-entropies, V is their sum.")
def _(p_r, p_g):
    D, V = best_game.oracle(p_r, p_g)
    return D, V / 2


@best_game.mistake("That is 2 JS alone. A D that tosses coins has V = -2 log 2, not 0.")
def _(p_r, p_g):
    D, V = best_game.oracle(p_r, p_g)
    return D, V + 2 * math.log(2)


@best_game.mistake("V is positive: it is a mean of logarithms of probabilities, so it cannot be.")
def _(p_r, p_g):
    D, V = best_game.oracle(p_r, p_g)
    return D, -V


# --- 4.8 -------------------------------------------------------------------------------------------------------------


def gaussian(g: torch.Generator) -> Case:
    """Mean and standard deviation of the fakes."""
    return {"theta": uniform(g, 0.5, 3), "tau": uniform(g, 1.3, 2.5)}


@sheet.function("4.8", "derive", 2, "A discriminator of three numbers", cases=gaussian, returns=("a", "w", "b"))
def coefficients(theta, tau):
    """The parabola through the log-ratio of the two densities at three places."""
    x = torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64)
    s = Normal(0.0, 1.0).log_prob(x) - Normal(theta, tau).log_prob(x)
    return tuple(torch.linalg.solve(torch.stack([x**2, x, torch.ones_like(x)], 1), s))


@coefficients.mistake("All signs are turned: these are the log-odds of *fake*.")
def _(theta, tau):
    return tuple(-c for c in coefficients.oracle(theta, tau))


@coefficients.mistake("b lacks a term. The two normalising constants differ as soon as the widths do.")
def _(theta, tau):
    a, w, b = coefficients.oracle(theta, tau)
    return a, w, b - math.log(tau)


@coefficients.mistake("You divide by the standard deviation where the density has the variance.")
def _(theta, tau):
    return (1 / tau - 1) / 2, -theta / tau, theta**2 / (2 * tau) + math.log(tau)


@coefficients.mistake("That is for equal widths, where the squares cancel. Here they leave something.")
def _(theta, tau):
    return 0.0, -theta, theta**2 / 2


@coefficients.mistake("The half of the exponent is lost in a and in b.")
def _(theta, tau):
    return 1 / tau**2 - 1, -theta / tau**2, theta**2 / tau**2 + math.log(tau)


@coefficients.mistake("The logarithm has the wrong sign: a wide density is low, and a low p_g makes real likelier.")
def _(theta, tau):
    a, w, b = coefficients.oracle(theta, tau)
    return a, w, b - 2 * math.log(tau)


# --- 4.9 -------------------------------------------------------------------------------------------------------------


@sheet.function("4.9", "derive", 3, "What the remedy minimises",
                cases=lambda g: {"p_r": table(g), "p_g": table(g)})
def remedy(p_r, p_g):
    """KL(p_g || p_r) - 2 JS(p_r, p_g)."""
    m = (p_r + p_g) / 2
    return kl(p_g, p_r) - kl(p_r, m) - kl(p_g, m)


@remedy.mistake("That is KL(p_g || p_r), the first part of it. Something is still to be subtracted: the denominator "
                "of D* depends on p_g too.")
def _(p_r, p_g):
    return kl(p_g, p_r)


@remedy.mistake("JS is subtracted once; by (4.3) the game holds it twice.")
def _(p_r, p_g):
    m = (p_r + p_g) / 2
    return kl(p_g, p_r) - kl(p_r, m) / 2 - kl(p_g, m) / 2


@remedy.mistake("A factor is missing: this is half of it. Compare its slope with that of the loss.")
def _(p_r, p_g):
    return remedy.oracle(p_r, p_g) / 2


@remedy.mistake("The two arguments are turned. Yours stays below 2 log 2 whatever is drawn; the true one grows without "
                "bound as p_g draws what p_r never has.")
def _(p_r, p_g):
    return 2 * kl(p_r, (p_r + p_g) / 2)


@remedy.mistake("That is the loss itself. At p_g = p_r it is log 2 and not 0, and its slope, were D* not held fixed, "
                "would be another one.")
def _(p_r, p_g):
    return -(p_g * (p_r / (p_r + p_g)).log()).sum()


@remedy.mistake("That is 2 JS, which the *saturating* loss minimises. The remedy trades it for something else.")
def _(p_r, p_g):
    m = (p_r + p_g) / 2
    return kl(p_r, m) + kl(p_g, m)


# --- 4.10 ------------------------------------------------------------------------------------------------------------


@sheet.function("4.10", "derive", 2, "The price of leaving out", cases=lambda g: {"w": uniform(g, 0.1, 0.9)})
def price(w):
    """With two outcomes: what is left out, and all the rest."""
    real, fake = torch.tensor([[w, 1 - w], [0.0, 1.0]], dtype=torch.float64)
    return 2 * kl((real + fake) / 2, real)


@price.mistake("Half of it: the remedy minimises *twice* KL(m || p_r).")
def _(w):
    return price.oracle(w) / 2


@price.mistake("Your generator draws with probability 1 - w in all: when it leaves a share out, the rest must grow to "
               "sum to 1.")
def _(w):
    return -w * math.log(2)


@price.mistake("That is KL(p_g || p_r), as if the generator's pictures alone were averaged over. The mean is over m.")
def _(w):
    return -math.log(1 - w)


@price.mistake("The omitted cases are not counted: m is half of p_r there, and that enters with a negative sign.")
def _(w):
    return price.oracle(w) + w * math.log(2)


@price.mistake("The omitted cases enter with the wrong sign: m/p_r is one half there, and its logarithm is negative.")
def _(w):
    return price.oracle(w) + 2 * w * math.log(2)


@price.mistake("That is 2 JS, the price in the original game. For a small share it is more than twice as high.")
def _(w):
    real, fake = torch.tensor([[w, 1 - w], [0.0, 1.0]], dtype=torch.float64)
    middle = (real + fake) / 2
    return kl(real, middle) + kl(fake, middle)


# --- 4.11 ------------------------------------------------------------------------------------------------------------


def regressions(g: torch.Generator) -> Case:
    """Two tables and three targets, all different."""
    return {"p_r": table(g), "p_g": table(g), "a": uniform(g, -1.5, -0.5), "b": uniform(g, 0.8, 1.8),
            "c": uniform(g, 0.1, 0.6)}


def regress(p_r, p_g, a, b):
    """The least of a parabola at each outcome, by one Newton step from zero, which is exact."""
    D = torch.zeros_like(p_r, requires_grad=True)
    cost = 0.5 * (p_r * (D - b) ** 2 + p_g * (D - a) ** 2).sum()
    slope = torch.autograd.grad(cost, D)[0]
    return -slope / (p_r + p_g)


def squares_loss(p_r, p_g, D, c):
    """The generator's loss, the real term included."""
    return 0.5 * sum(float(p) * (float(d) - c) ** 2 for q in (p_r, p_g) for p, d in zip(q, D, strict=True))


@sheet.function("4.11", "derive", 2, "Least squares", cases=regressions, returns=("D", "loss"))
def least_squares(p_r, p_g, a, b, c):
    """D by Newton's method, the loss outcome by outcome."""
    D = regress(p_r, p_g, a, b)
    return D, squares_loss(p_r, p_g, D, c)


@least_squares.mistake("The targets are swapped: b is for the reals, a for the fakes.")
def _(p_r, p_g, a, b, c):
    D = regress(p_r, p_g, b, a)
    return D, squares_loss(p_r, p_g, D, c)


@least_squares.mistake("D is right, but the loss lacks the real term, which is asked for here. Without it there is no "
                       "Pearson divergence.")
def _(p_r, p_g, a, b, c):
    D = regress(p_r, p_g, a, b)
    return D, squares_loss(0 * p_r, p_g, D, c)


@least_squares.mistake("The half is forgotten in the loss; D is right.")
def _(p_r, p_g, a, b, c):
    D = regress(p_r, p_g, a, b)
    return D, 2 * squares_loss(p_r, p_g, D, c)


@least_squares.mistake("That D is (4.2), which is best under a cross-entropy. A regression's best answer is the mean "
                       "of its targets at each place.")
def _(p_r, p_g, a, b, c):
    D = p_r / (p_r + p_g)
    return D, squares_loss(p_r, p_g, D, c)


@least_squares.mistake("Your D forgets that both kinds together need not have weight 1: divide by p_r + p_g.")
def _(p_r, p_g, a, b, c):
    D = b * p_r + a * p_g
    return D, squares_loss(p_r, p_g, D, c)


@least_squares.mistake("D is right; in the loss the generator's target is c, not b.")
def _(p_r, p_g, a, b, c):
    D = regress(p_r, p_g, a, b)
    return D, squares_loss(p_r, p_g, D, b)


# --- 4.12 ------------------------------------------------------------------------------------------------------------

sheet.choice("4.12", "predict", 1, "Review: VAE against GAN", answer="b", wrongs={
    "a": "It is the other way round: the VAE's loss bounds log p(x), a GAN has no likelihood at all.",
    "c": "A VAE pays dearly for an image that it cannot explain, so it covers all and blurs; it is the GAN that may "
         "leave modes out.",
    "d": "A GAN has no encoder. From a picture to a code one has to search, or to train one more network.",
    "e": "A VAE's loss falls while it improves. A GAN's is a score in a match, and says little about the pictures."},
    why="One bound and an encoder, blurred where it must cover; or a game without a likelihood, sharp where it draws.")


# --- 4.13 ------------------------------------------------------------------------------------------------------------


def tiny_game(g: torch.Generator) -> Case:
    """Rate, penalty and length of a game."""
    return {"eta": uniform(g, 0.15, 0.5), "gamma": uniform(g, 0.2, 0.9),
            "steps": int(torch.randint(8, 25, (1,), generator=g))}


def powers(matrix, steps):
    """Distance from (0, 0) after 0, 1, ... steps from (1, 0), by powers of a matrix on (theta, psi)."""
    matrix = torch.tensor(matrix, dtype=torch.float64)
    start = torch.tensor([1.0, 0.0], dtype=torch.float64)
    return torch.stack([(torch.linalg.matrix_power(matrix, k) @ start).norm() for k in range(steps + 1)])


def at_once(eta, gamma):
    """Both players move from where they stood."""
    return [[1.0, eta], [-eta, 1 - eta * gamma]]


def in_turn(eta, gamma):
    """D moves, and G answers the new D: G's move times D's."""
    move_D = torch.tensor([[1.0, 0.0], [-eta, 1 - eta * gamma]], dtype=torch.float64)
    move_G = torch.tensor([[1.0, eta], [0.0, 1.0]], dtype=torch.float64)
    return (move_G @ move_D).tolist()


@sheet.function("4.13", "investigate", 3, "The smallest GAN", cases=tiny_game,
                returns=("simultaneous", "alternating"))
def smallest_gan(eta, gamma, steps):
    """By powers of the two matrices."""
    return powers(at_once(eta, gamma), steps), powers(in_turn(eta, gamma), steps)


@smallest_gan.mistake("Both of your games are played in turn: in the simultaneous one G must use the ψ from before "
                      "the step.")
def _(eta, gamma, steps):
    return (powers(in_turn(eta, gamma), steps),) * 2


@smallest_gan.mistake("Both of your games are played at once: in the alternating one G must see the ψ that D has just "
                      "moved to.")
def _(eta, gamma, steps):
    return (powers(at_once(eta, gamma), steps),) * 2


@smallest_gan.mistake("In your alternating game G moves first. Here, as in the chapter, D does, and G answers.")
def _(eta, gamma, steps):
    other = torch.tensor([[1.0, 0.0], [-eta, 1 - eta * gamma]], dtype=torch.float64) @ torch.tensor(
        [[1.0, eta], [0.0, 1.0]], dtype=torch.float64)
    return powers(at_once(eta, gamma), steps), powers(other.tolist(), steps)


@smallest_gan.mistake("The penalty is missing from D's moves.")
def _(eta, gamma, steps):
    return powers(at_once(eta, 0.0), steps), powers(in_turn(eta, 0.0), steps)


@smallest_gan.mistake("The penalty's gradient is doubled: (γ/2) ψ² has the slope γψ.")
def _(eta, gamma, steps):
    return powers(at_once(eta, 2 * gamma), steps), powers(in_turn(eta, 2 * gamma), steps)


@smallest_gan.mistake("The penalty has the wrong sign: it is part of a loss, so D moves against its slope.")
def _(eta, gamma, steps):
    return powers(at_once(eta, -gamma), steps), powers(in_turn(eta, -gamma), steps)


@smallest_gan.mistake("D and G want the same in your game: one of them must go up V where the other goes down.")
def _(eta, gamma, steps):
    turned = torch.tensor([[1.0, eta], [0.0, 1.0]], dtype=torch.float64) @ torch.tensor(
        [[1.0, 0.0], [eta, 1 - eta * gamma]], dtype=torch.float64)
    return powers([[1.0, eta], [eta, 1 - eta * gamma]], steps), powers(turned.tolist(), steps)


@smallest_gan.mistake("These are squared distances: take the root.")
def _(eta, gamma, steps):
    return tuple(d**2 for d in smallest_gan.oracle(eta, gamma, steps))


# --- 4.14 ------------------------------------------------------------------------------------------------------------


def edge(eta, converges, diverges):
    """Between a penalty that converges and one that does not, the one where that changes, by bisection."""
    for _ in range(60):
        middle = (converges + diverges) / 2
        step = torch.tensor(at_once(eta, middle), dtype=torch.float64)
        inside = torch.linalg.eigvals(step).abs().max().item() < 1
        converges, diverges = (middle, diverges) if inside else (converges, middle)
    return converges


@sheet.function("4.14", "derive", 3, "How strong a penalty may be", cases=lambda g: {"eta": uniform(g, 0.1, 0.8)},
                returns=("lowest", "highest"))
def penalties(eta):
    """By bisection on the largest eigenvalue; a penalty of 1 converges for all these rates."""
    return edge(eta, 1.0, 0.0), edge(eta, 1.0, 3 / eta + eta)


@penalties.mistake("Any penalty above 0 would do in continuous time, or in turns. Steps at once multiply the distance "
                   "by √(1 + η²), and the penalty has to make up for that.")
def _(eta):
    return 0.0, 2 / eta + eta / 2


@penalties.mistake("Up to 2 the eigenvalues are a complex pair. Beyond that they are real, which is no harm as long as "
                   "they lie between -1 and 1.")
def _(eta):
    return eta, 2.0


@penalties.mistake("2/η is the limit for the penalty alone. The game's own turn lets it go a little further.")
def _(eta):
    return eta, 2 / eta


@penalties.mistake("That is the range of the *alternating* game. Here both move at once.")
def _(eta):
    return 0.0, 2 / eta - eta / 2


@penalties.mistake("Both are half of what is asked for: (γ/2) ψ² has the slope γψ, not 2γψ.")
def _(eta):
    return eta / 2, 1 / eta + eta / 4


@penalties.mistake("The lower end is the determinant set to 1, with one η too many: divide the whole by η.")
def _(eta):
    return eta**2, 2 / eta + eta / 2


# --- 4.15 ------------------------------------------------------------------------------------------------------------


def noisy_pictures(g: torch.Generator) -> Case:
    """The weights of a critic, small pictures, noise and its size."""
    return {"weight": torch.randn(12, generator=g), "x": torch.randn(5, 1, 3, 4, generator=g),
            "n": torch.randn(5, 1, 3, 4, generator=g), "sigma": uniform(g, 0.05, 0.4)}


def steepness_seen(function, case):
    """The penalty, and its gradient in the weights of a critic D(x) = sin(w x) of scores (B, 1)."""
    weight = case["weight"].detach().requires_grad_()

    def D(x):
        return torch.sin(x.flatten(1) @ weight.to(x.dtype))[:, None]

    found = call(function, {"D": D, "x": case["x"], "n": case["n"], "sigma": case["sigma"]})
    if not (torch.is_tensor(found) and found.requires_grad):
        return {"penalty": found, "gradient in D": torch.zeros_like(weight)}
    slope = torch.autograd.grad(found.sum(), weight, allow_unused=True)[0]
    return {"penalty": found, "gradient in D": torch.zeros_like(weight) if slope is None else slope}


@sheet.function("4.15", "code", 2, "A gradient without a gradient", cases=noisy_pictures, observe=steepness_seen)
def steepness(D, x, n, sigma):
    """One picture at a time."""
    changes = [(D(x[k:k + 1] + sigma * n[k:k + 1]) - D(x[k:k + 1])).squeeze() for k in range(len(x))]
    return sum(change**2 for change in changes) / len(x) / sigma**2


@steepness.mistake("The noise enters D at full size: only ς times it.")
def _(D, x, n, sigma):
    return ((D(x + n) - D(x)) / sigma).square().mean()


@steepness.mistake("The change is not divided by ς. A difference is no slope yet.")
def _(D, x, n, sigma):
    return (D(x + sigma * n) - D(x)).square().mean()


@steepness.mistake("It is divided by ς once; the quotient is squared as a whole, ς included.")
def _(D, x, n, sigma):
    return (D(x + sigma * n) - D(x)).square().mean() / sigma


@steepness.mistake("You square the mean over the batch: steep pictures of opposite sign cancel. Square each, then take "
                   "the mean.")
def _(D, x, n, sigma):
    return ((D(x + sigma * n) - D(x)) / sigma).mean().square()


@steepness.mistake("That is the mean of absolute slopes; (4.6) has their squares.")
def _(D, x, n, sigma):
    return ((D(x + sigma * n) - D(x)) / sigma).abs().mean()


@steepness.mistake("The penalty is right and teaches nobody: no gradient reaches D's weights through it.")
def _(D, x, n, sigma):
    return steepness.oracle(D, x, n, sigma).detach()


@steepness.mistake("Half of the gradient is cut off: D's score at x itself must learn too, not only the moved one.")
def _(D, x, n, sigma):
    return ((D(x + sigma * n) - D(x).detach()) / sigma).square().mean()


# --- 4.16 ------------------------------------------------------------------------------------------------------------


def drawings(g: torch.Generator) -> Case:
    """Calibrated log-odds of forty drawings, and the share to keep."""
    offset = uniform(g, -3, 1)
    return {"log_odds": 2 * torch.randn(40, generator=g) + offset, "share": uniform(g, 0.25, 0.5)}


def capped(odds, share):
    """The probabilities min(1, odds/M) with the given mean, M found exactly: the k surest ones are capped."""
    order = odds.sort(descending=True).values
    wanted = share * len(odds)
    for k in range(len(odds)):
        M = order[k:].sum() / (wanted - k)
        if order[k] <= M:
            return (odds / M).clamp(max=1)
    raise AssertionError("no M keeps so many")


@sheet.function("4.16", "code", 3, "Keep the better drawings", cases=drawings)
def keep(log_odds, share):
    """M by sorting, without a search."""
    return capped(log_odds.exp(), share)


@keep.mistake("You accept in proportion to D, the probability. (4.7) has the density ratio: the odds, D/(1 - D).")
def _(log_odds, share):
    return capped(torch.sigmoid(log_odds), share)


@keep.mistake("The best ones are kept surely and all others never. That sharpens the distribution to its likeliest "
              "pictures; rejection keeps some of the rest, in proportion.")
def _(log_odds, share):
    rank = log_odds.argsort(descending=True).argsort()
    return (rank < round(share * len(rank))).double()


@keep.mistake("Some of your probabilities exceed 1: the minimum in (4.7) is missing, and M has to be found with it in "
              "place.")
def _(log_odds, share):
    odds = log_odds.exp()
    return share * odds / odds.mean()


@keep.mistake("M is chosen before the minimum is taken, so fewer than the share are kept: what is cut off above 1 has "
              "to be made up for by a smaller M.")
def _(log_odds, share):
    odds = log_odds.exp()
    return (share * odds / odds.mean()).clamp(max=1)


@keep.mistake("M is the largest ratio, whatever the share: exact, and dear. Look for the M that keeps the share.")
def _(log_odds, share):
    return (log_odds - log_odds.max()).exp()


@keep.mistake("The ratio is turned over: these favour what looks false.")
def _(log_odds, share):
    return capped((-log_odds).exp(), share)


# --- 4.17 ------------------------------------------------------------------------------------------------------------


def ring_of_five(g: torch.Generator) -> Case:
    """Five centres: one rich, one at three quarters of its share, one poor, one held from afar, one mostly missed."""
    angle = uniform(g, 0, 1) + torch.arange(5) * 2 * math.pi / 5
    centres = 2 * torch.stack([angle.cos(), angle.sin()], 1)
    sd = uniform(g, 0.04, 0.08)
    counts = torch.tensor([80, 24, 12, 20, 16, 4]) + torch.randint(-1, 2, (6,), generator=g)
    near, far = sd * torch.tensor([[0.0, 0.0, 0.0, 2.2, 3.3, 0.0], [2.9, 0.9, 0.9, 2.9, 5.0, 0.9]])
    group = torch.arange(6).repeat_interleave(counts)
    which = group.clamp(max=4)                                        # the last two groups share a centre
    radius = near[group] + (far - near)[group] * torch.rand(len(group), generator=g)
    turn = 2 * math.pi * torch.rand(len(group), generator=g)
    points = centres[which] + radius[:, None] * torch.stack([turn.cos(), turn.sin()], 1)
    return {"points": points[torch.randperm(len(points), generator=g)], "centres": centres, "sd": sd}


def counted(points, centres, sd, reach=3.0, bar=0.5):
    """Shares within `reach` standard deviations of each centre, point by point, and how many are `bar` fair ones."""
    distances = [[math.dist(p, c) for c in centres.tolist()] for p in points.tolist()]
    shares = torch.tensor([sum(d[k] < reach * sd for d in distances) for k in range(len(centres))]) / len(points)
    return shares.double(), int((shares >= bar / len(centres)).sum())


@sheet.function("4.17", "code", 2, "How many modes", cases=ring_of_five, returns=("shares", "modes"))
def modes(points, centres, sd):
    """Point by point."""
    return counted(points, centres, sd)


@modes.mistake("A mode counts as soon as one point is near. So would a circle without any modes pass.")
def _(points, centres, sd):
    shares, _ = counted(points, centres, sd)
    return shares, int((shares > 0).sum())


@modes.mistake("You ask for a whole fair share. Even a true sample has modes a little below that: half is the bar.")
def _(points, centres, sd):
    return counted(points, centres, sd, bar=1.0)


@modes.mistake("You look within one standard deviation; in two dimensions most points of a true mode lie beyond it.")
def _(points, centres, sd):
    return counted(points, centres, sd, reach=1.0)


@modes.mistake("Every point is counted for its nearest centre, however far it is from it: what lies between the modes "
               "counts as well.")
def _(points, centres, sd):
    shares = torch.cdist(points, centres).argmin(1).bincount(minlength=len(centres)) / len(points)
    return shares, int((shares >= 0.5 / len(centres)).sum())


@modes.mistake("The shares are of the points that lie on a mode. Take them of all points, or a generator may scatter "
               "most of its drawings and still pass.")
def _(points, centres, sd):
    shares, _ = counted(points, centres, sd)
    shares = shares / shares.sum()
    return shares, int((shares >= 0.5 / len(centres)).sum())


@modes.mistake("One in sixteen is half a fair share of *eight* modes; here there are as many as centres.")
def _(points, centres, sd):
    shares, _ = counted(points, centres, sd)
    return shares, int((shares >= 1 / 16).sum())


# --- 4.18 ------------------------------------------------------------------------------------------------------------

sheet.choice("4.18", "predict", 2, "Review: troubles and remedies", answer="d", wrongs={
    "a": "A certain D is just what starves a generator with the saturating loss: its gradient vanishes. The remedies "
         "are another loss and a D that may not be steep.",
    "b": "The same generator's loss kept all eight modes of the ring with a penalty and lost some without. Room in G "
         "was not what was missing.",
    "c": "Both curves of a game at log 2 say that *this* D cannot tell the two apart; another may. Measure pictures: "
         "Fréchet distance, recall, class shares, each with its floor."},
    why="The players circle, and the penalty damps them: exercises 4.13 and 4.14 say from which strength on, and up to "
        "which.")
