"""Chapter 2's exercises: each oracle is written without the chapter's code."""

import math

import numpy as np
import torch
from torch import Tensor, distributions

from genmed_core.exercises.answers import BadAnswer, Case, call, tensor
from genmed_core.exercises.sheet import Sheet

sheet = Sheet("02_vae")


def between(low: float, high: float, g: torch.Generator) -> float:
    """A number from low to high."""
    return low + (high - low) * float(torch.rand((), generator=g))


# --- 2.1 -------------------------------------------------------------------------------------

sheet.choice(
    "2.1", "predict", 2, "The right mean, and its logarithm", answer="c",
    why="The logarithm is concave, so a run that finds too little pulls it down by more than a lucky run lifts it: by "
        "Jensen's inequality the mean of the logarithms is below the logarithm of the mean, for every S, and the gap "
        "closes as S grows. The next section makes a virtue of this.",
    wrongs={
        "a": "The mean of a logarithm is not the logarithm of the mean. Only the estimate itself has the right mean.",
        "b": "A lucky run can be far too high, but the logarithm flattens it, and deepens the many that are too low.",
        "d": "The sign does not depend on the dimension: Jensen's inequality holds for every random number that "
             "varies. The dimension decides how far below.",
        "e": "The estimate has no bias at all, for any S: it is a mean of S terms of the right mean each."})

# --- 2.2 -------------------------------------------------------------------------------------

sheet.number(
    "2.2", "predict", 1, "A decoder that knows nothing", truth=784 * math.log(2), within=0.01,
    why="Each pixel costs ln 2 whether it is on or off, and there are 784. It is where every training curve of this "
        "chapter begins that does not start at the data.",
    mistakes=[(784.0, "That is in bits: a pixel at one half costs one bit. (2.9) has natural logarithms."),
              (math.log(2), "That is the price of one pixel. (2.9) adds up all 784."),
              (392.0, "A pixel at one half costs minus its logarithm, not one half."),
              (784 * math.log(2) / 2, "All pixels cost something, those that are off as well: (2.9) has a term for "
                                      "each."),
              (-784 * math.log(2), "The sign: a probability below 1 has a negative logarithm, and (2.9) is minus it.")])

# --- 2.3 -------------------------------------------------------------------------------------

sheet.choice(
    "2.3", "predict", 1, "Which price gives the best bound", answer="b",
    why="The bound on log p(x) is (2.11) at a price of 1. A model trained for it is the one that has been trained for "
        "what is measured; a cheaper code is paid for in the second term, a dearer one in the first.",
    wrongs={
        "a": "It reconstructs best, and its code says far more than the reconstruction gains: the bound charges the "
             "full price, whatever was charged in training.",
        "c": "It has the shortest code, and hardly reconstructs. A KL of 0 is no aim in itself: a decoder that ignores "
             "its code has it.",
        "d": "The two terms are added in one measure, so an optimum has to lie somewhere, and both ends are poor.",
        "e": "With this beta the loss is no longer a bound that is as tight as can be: it was trained to save more on "
             "codes than a nat is worth."})

# --- 2.4 -------------------------------------------------------------------------------------

sheet.choice(
    "2.4", "predict", 1, "Autoencoder and variational autoencoder", answer="d",
    why="A point against a distribution, an error against a bound on the likelihood, and a distribution of codes that "
        "is fitted afterwards against one that is named before.",
    wrongs={
        "a": "The KL is not there to sharpen pictures: it is paid for in blur. And an autoencoder can be sampled from, "
             "once a distribution has been fitted to its codes.",
        "b": "A VAE's encoder gives a mean and a variance for each image. It is the aggregate over all images that "
             "should look like the prior.",
        "c": "Noise on the input makes a denoising autoencoder. A VAE's noise is on the code, its size is learned, and "
             "its loss has a price for the code.",
        "e": "The reconstruction term alone is no likelihood, and it falls for every model with a longer code. Only "
             "with the KL is it a bound."})

# --- 2.5 -------------------------------------------------------------------------------------


def many_posteriors(g: torch.Generator) -> Case:
    """Means and log-variances of three coordinates for some thousands of images."""
    scale = torch.tensor([0.9, 0.5, 0.1])
    return {"mu": torch.randn(3000, 3, generator=g) * scale + torch.tensor([0.0, 0.3, -0.1]),
            "logvar": 0.8 * torch.randn(3000, 3, generator=g) - torch.tensor([1.5, 0.5, 0.1])}


@sheet.function("2.5", "code", 2, "All codes together", cases=many_posteriors, returns=("mean", "variance"))
def aggregate(mu, logvar):
    """By a mixture distribution, which knows its own moments."""
    count = mu.shape[0]
    mixture = distributions.MixtureSameFamily(distributions.Categorical(torch.ones(mu.shape[1], count).to(mu)),
                                              distributions.Normal(mu.T, (0.5 * logvar.T).exp()))
    return mixture.mean, mixture.variance


@aggregate.mistake("The mean is right. The variance is that of the means alone: each code is a cloud of its own, "
                   "whose width comes on top.")
def _(mu, logvar):
    return mu.mean(0), mu.var(0)


@aggregate.mistake("The mean is right. The variance is the mean width of a single cloud; that the clouds lie in "
                   "different places comes on top.")
def _(mu, logvar):
    return mu.mean(0), logvar.exp().mean(0)


@aggregate.mistake("The mean is right. The log-variances are averaged before the exponential: that is a geometric "
                   "mean of the variances, and too small.")
def _(mu, logvar):
    return mu.mean(0), logvar.mean(0).exp() + mu.var(0)


@aggregate.mistake("The mean is right. The standard deviations are averaged and squared; it is the variances that "
                   "have to be averaged.")
def _(mu, logvar):
    return mu.mean(0), (0.5 * logvar).exp().mean(0) ** 2 + mu.var(0)


@aggregate.mistake("The mean is right. `logvar` is taken for the logarithm of a standard deviation.")
def _(mu, logvar):
    return mu.mean(0), (2 * logvar).exp().mean(0) + mu.var(0)


@aggregate.mistake("The mean is right. You give the standard deviation, the root of what is asked for.")
def _(mu, logvar):
    return mu.mean(0), (logvar.exp().mean(0) + mu.var(0)).sqrt()


# --- 2.6 -------------------------------------------------------------------------------------


def some_posteriors(g: torch.Generator) -> Case:
    """Means and log-variances of five images."""
    return {"mu": 1.5 * torch.randn(5, 3, generator=g), "logvar": torch.randn(5, 3, generator=g) - 0.5}


@sheet.function("2.6", "code", 1, "The price of a code", cases=some_posteriors)
def code_price(mu, logvar):
    """As torch.distributions has it."""
    q = distributions.Independent(distributions.Normal(mu, (0.5 * logvar).exp()), 1)
    zero = torch.zeros_like(mu)
    p = distributions.Independent(distributions.Normal(zero, zero + 1), 1)
    return distributions.kl_divergence(q, p)


@code_price.mistake("The factor one half is forgotten: both logarithms under the expectation carry it.")
def _(mu, logvar):
    return 2 * code_price.oracle(mu, logvar)


@code_price.mistake("It is averaged over the coordinates. (2.6) is a sum: a code of d numbers costs d times what one "
                    "costs, and a mean would charge d times too little.")
def _(mu, logvar):
    return code_price.oracle(mu, logvar) / mu.shape[1]


@code_price.mistake("`logvar` is taken for the logarithm of sigma. It is that of sigma squared.")
def _(mu, logvar):
    return code_price.oracle(mu, 2 * logvar)


@code_price.mistake("The logarithm's sign is turned: then a narrow code would be cheap, and a code without any noise "
                    "the cheapest.")
def _(mu, logvar):
    return 0.5 * (mu**2 + logvar.exp() - 1 + logvar).sum(1)


@code_price.mistake("The 1 is missing: a code that equals the prior, with mean 0 and variance 1, has to cost nothing.")
def _(mu, logvar):
    return 0.5 * (mu**2 + logvar.exp() - logvar).sum(1)


@code_price.mistake("This is the divergence the other way, from the prior to q. The expectation in (2.4) is under q.")
def _(mu, logvar):
    return 0.5 * ((1 + mu**2) / logvar.exp() - 1 + logvar).sum(1)


@code_price.mistake("The variance is squared, as in the textbook's equation 8.27. What belongs there is the trace.")
def _(mu, logvar):
    return 0.5 * (mu**2 + (2 * logvar).exp() - 1 - logvar).sum(1)


@code_price.mistake("It is minus the KL: a divergence is never below zero.")
def _(mu, logvar):
    return -code_price.oracle(mu, logvar)


# --- 2.7 -------------------------------------------------------------------------------------


def two_gaussians(g: torch.Generator) -> Case:
    """Means and standard deviations of pairs."""
    return {"m1": torch.randn(4, generator=g), "s1": 0.3 + torch.rand(4, generator=g),
            "m2": torch.randn(4, generator=g), "s2": 0.5 + 1.2 * torch.rand(4, generator=g)}


@sheet.function("2.7", "derive", 2, "Between any two Gaussians", cases=two_gaussians)
def gaussian_divergence(m1, s1, m2, s2):
    """The integral of p1 (log p1 - log p2) on a grid, for each pair."""
    found = []
    for one in zip(m1, s1, m2, s2):
        a, b, c, d = (float(v) for v in one)
        z = torch.linspace(a - 12 * b, a + 12 * b, 4001, dtype=torch.float64)
        p, q = distributions.Normal(a, b).log_prob(z), distributions.Normal(c, d).log_prob(z)
        found.append(torch.trapezoid(p.exp() * (p - q), z))
    return torch.stack(found)


def _divergence(m1, s1, m2, s2):
    return torch.log(s2 / s1) + (s1**2 + (m1 - m2) ** 2) / (2 * s2**2) - 0.5


@gaussian_divergence.mistake("That is the divergence from the second to the first. It is not symmetric: the average is "
                             "under the first.")
def _(m1, s1, m2, s2):
    return _divergence(m2, s2, m1, s1)


@gaussian_divergence.mistake("You take s for variances. They are standard deviations.")
def _(m1, s1, m2, s2):
    return _divergence(m1, s1**0.5, m2, s2**0.5)


@gaussian_divergence.mistake("The logarithm stands upside down: log of s2 over s1, for a wide second Gaussian is a "
                             "poor description of a narrow first one.")
def _(m1, s1, m2, s2):
    return _divergence(m1, s1, m2, s2) - 2 * torch.log(s2 / s1)


@gaussian_divergence.mistake("The distance of the means is not measured in widths of the second: it too is divided by "
                             "2 s2 squared.")
def _(m1, s1, m2, s2):
    return torch.log(s2 / s1) + s1**2 / (2 * s2**2) + (m1 - m2) ** 2 / 2 - 0.5


@gaussian_divergence.mistake("The one half at the end is missing, which is the average of (z - m1) squared over "
                             "2 s1 squared. Equal Gaussians have to give 0.")
def _(m1, s1, m2, s2):
    return _divergence(m1, s1, m2, s2) + 0.5


@gaussian_divergence.mistake("The logarithm has a one half too many, or the rest one too few: log of s2 over s1 is one "
                             "half of the logarithm of the variances' ratio already.")
def _(m1, s1, m2, s2):
    return _divergence(m1, s1, m2, s2) - 0.5 * torch.log(s2 / s1)


# --- 2.8 -------------------------------------------------------------------------------------


def to_be_drawn(g: torch.Generator) -> Case:
    """Means, log-variances and noise."""
    return {"mu": torch.randn(4, 3, generator=g), "logvar": torch.randn(4, 3, generator=g) - 0.7,
            "eps": torch.randn(4, 3, generator=g)}


def draw_and_gradients(function, case):
    """The draw, and the gradients of a weighted sum of it by mean and log-variance; zero where none arrives."""
    mu, logvar = (case[name].clone().requires_grad_() for name in ("mu", "logvar"))
    with torch.enable_grad():
        z = call(function, {"mu": mu, "logvar": logvar, "eps": case["eps"]})
        if tuple(getattr(z, "shape", ())) != tuple(mu.shape):
            raise BadAnswer(f"A draw of the shape {tuple(mu.shape)} is asked for, like mu.")
        of_mu = of_logvar = None
        if torch.is_tensor(z) and z.requires_grad:
            weights = torch.linspace(0.5, 1.5, z.numel()).view(z.shape).to(z)
            of_mu, of_logvar = torch.autograd.grad((z * weights).sum(), (mu, logvar), allow_unused=True)
    zero = torch.zeros_like(mu)
    return {"draw": z, "gradient by mu": zero if of_mu is None else of_mu,
            "gradient by logvar": zero if of_logvar is None else of_logvar}


@sheet.function("2.8", "code", 1, "A draw that lets gradients through", cases=to_be_drawn, observe=draw_and_gradients)
def draw_code(mu, logvar, eps):
    """By the affine transform of torch.distributions."""
    move = distributions.AffineTransform(mu, torch.exp(logvar).sqrt())
    return move(eps)


@draw_code.mistake("The noise is scaled by the variance. It takes the standard deviation, the root of it.")
def _(mu, logvar, eps):
    return mu + logvar.exp() * eps


@draw_code.mistake("`logvar` itself scales the noise. It is a logarithm, and may be negative: exponentiate half of it.")
def _(mu, logvar, eps):
    return mu + logvar * eps


@draw_code.mistake("The draws are right, and no gradient gets through: is there a `detach`, a `no_grad` or a "
                   "`sample()`? Then the encoder is never told how to do better.")
def _(mu, logvar, eps):
    return (mu + (0.5 * logvar).exp() * eps).detach()


@draw_code.mistake("The draws are right, but the gradient by the variance is cut off: the path leads through sigma "
                   "too.")
def _(mu, logvar, eps):
    return mu + (0.5 * logvar).exp().detach() * eps


@draw_code.mistake("The draws are right, but the gradient by the mean is cut off.")
def _(mu, logvar, eps):
    return mu.detach() + (0.5 * logvar).exp() * eps


@draw_code.mistake("The mean is left out: every image gets a code from around the origin.")
def _(mu, logvar, eps):
    return (0.5 * logvar).exp() * eps


@draw_code.mistake("The exponent's sign is turned: a large variance makes little noise here.")
def _(mu, logvar, eps):
    return mu + (-0.5 * logvar).exp() * eps


# --- 2.9 -------------------------------------------------------------------------------------


def a_mean(g: torch.Generator) -> Case:
    """Where the Gaussian lies."""
    return {"mu": between(0.3, 2.5, g)}


@sheet.function("2.9", "derive", 3, "Two estimators of one gradient", cases=a_mean, returns=("score", "pathwise"))
def estimator_variances(mu):
    """By Gauss-Hermite quadrature, exact for polynomials of this degree."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(12)
    weights = weights / weights.sum()
    score, path = (mu + nodes) ** 2 * nodes, 2 * (mu + nodes)
    return tuple(float(weights @ g**2 - (weights @ g) ** 2) for g in (score, path))


@estimator_variances.mistake("The first is a mean square: the square of the mean, (2 mu) squared, is still to be "
                             "taken off.")
def _(mu):
    return mu**4 + 18 * mu**2 + 15, 4.0


@estimator_variances.mistake("Both are mean squares: from each the square of the mean, (2 mu) squared, is still to be "
                             "taken off.")
def _(mu):
    return mu**4 + 18 * mu**2 + 15, 4 + 4 * mu**2


@estimator_variances.mistake("The sixth moment of a normal number is 15, which is 5 times 3 times 1. Yours is another.")
def _(mu):
    return mu**4 + 14 * mu**2 + 6, 4.0


@estimator_variances.mistake("The product of the first and the third term is missing: (mu^2 eps)(eps^3) has a fourth "
                             "moment in it, twice.")
def _(mu):
    return mu**4 + 8 * mu**2 + 15, 4.0


@estimator_variances.mistake("The order is the score function first, then the pathwise estimator.")
def _(mu):
    return 4.0, mu**4 + 14 * mu**2 + 15


@estimator_variances.mistake("The first is right. The pathwise estimator is 2 z, and the variance of twice a number is "
                             "four times its own.")
def _(mu):
    return mu**4 + 14 * mu**2 + 15, 2.0


@estimator_variances.mistake("These are standard deviations: square them.")
def _(mu):
    return (mu**4 + 14 * mu**2 + 15) ** 0.5, 2.0


# --- 2.10 ------------------------------------------------------------------------------------


def sure_logits(g: torch.Generator) -> Case:
    """Black and white images that are not square, and logits of which some are very sure, rightly and wrongly."""
    logits, x = 3 * torch.randn(4, 1, 5, 3, generator=g), (torch.rand(4, 1, 5, 3, generator=g) < 0.4).float()
    logits[:, 0, 0, 0], x[:, 0, 0, 0] = 60.0, 1.0
    logits[:, 0, 0, 1], x[:, 0, 0, 1] = 60.0, 0.0
    logits[:, 0, 0, 2], x[:, 0, 0, 2] = -60.0, 0.0
    return {"logits": logits, "x": x}


@sheet.function("2.10", "code", 2, "The likelihood of black and white", cases=sure_logits)
def pixel_nll(logits, x):
    """As torch.distributions has it."""
    pixels = distributions.Independent(distributions.Bernoulli(logits=logits), 3)
    return -pixels.log_prob(x)


@pixel_nll.mistake("It is averaged over the pixels. (2.9) is a sum: with a mean the KL beside it would weigh as many "
                   "times too much as there are pixels.")
def _(logits, x):
    return pixel_nll.oracle(logits, x) / x[0].numel()


@pixel_nll.mistake("This is the log-likelihood. (2.9) is minus it, which is made small.")
def _(logits, x):
    return -pixel_nll.oracle(logits, x)


@pixel_nll.mistake("One number for the whole batch: it is asked for image by image, which a mean over the batch can "
                   "follow.")
def _(logits, x):
    return pixel_nll.oracle(logits, x).sum()


@pixel_nll.mistake("This is averaged over the batch already: it is asked for image by image.")
def _(logits, x):
    return pixel_nll.oracle(logits, x).mean()


@pixel_nll.mistake("Only pixels that are on are paid for: (2.9) has a term for those that are off, too.")
def _(logits, x):
    return -(x * torch.nn.functional.logsigmoid(logits)).flatten(1).sum(1)


@pixel_nll.mistake("It works until a pixel is very sure: a sigmoid of 60 is 1 in the machine's arithmetic, and 1 - 1 "
                   "has no logarithm (PyTorch writes -100 there). Do not leave the logits; the right-hand side of "
                   "(2.9) has no probability in it.")
def _(logits, x):
    return torch.nn.functional.binary_cross_entropy(torch.sigmoid(logits), x, reduction="none").flatten(1).sum(1)


@pixel_nll.mistake("On and off have changed places: a large logit means that the pixel is on.")
def _(logits, x):
    return pixel_nll.oracle(-logits, x)


# --- 2.11 ------------------------------------------------------------------------------------


def a_batch(g: torch.Generator) -> Case:
    """What a model makes of a batch, the images, and a price."""
    x = (torch.rand(5, 1, 4, 3, generator=g) < 0.4).float()
    return {"logits": 2 * torch.randn(x.shape, generator=g), "x": x, "mu": torch.randn(5, 2, generator=g),
            "logvar": torch.randn(5, 2, generator=g), "beta": between(2, 6, g)}


def _terms(logits, x, mu, logvar):
    return pixel_nll.oracle(logits, x).mean(), code_price.oracle(mu, logvar).mean()


@sheet.function("2.11", "code", 2, "The loss", cases=a_batch)
def bound_loss_of(logits, x, mu, logvar, beta):
    """From the two oracles above."""
    nll, kl = _terms(logits, x, mu, logvar)
    return nll + beta * kl


@bound_loss_of.mistake("The KL has the wrong sign: the bound subtracts it, so the loss, minus the bound, adds it. "
                       "Here long codes are rewarded instead of charged.")
def _(logits, x, mu, logvar, beta):
    nll, kl = _terms(logits, x, mu, logvar)
    return nll - beta * kl


@bound_loss_of.mistake("This is (2.11) itself, which is to be made large. A loss is what is made small.")
def _(logits, x, mu, logvar, beta):
    return -bound_loss_of.oracle(logits, x, mu, logvar, beta)


@bound_loss_of.mistake("The reconstruction term is averaged over pixels. Then the KL weighs as many times too much as "
                       "there are pixels, and the code dies.")
def _(logits, x, mu, logvar, beta):
    nll, kl = _terms(logits, x, mu, logvar)
    return nll / x[0].numel() + beta * kl


@bound_loss_of.mistake("The KL is averaged over the coordinates of the code. (2.6) is a sum over them.")
def _(logits, x, mu, logvar, beta):
    nll, kl = _terms(logits, x, mu, logvar)
    return nll + beta * kl / mu.shape[1]


@bound_loss_of.mistake("The price stands before the wrong term: (2.11) charges it for the code.")
def _(logits, x, mu, logvar, beta):
    nll, kl = _terms(logits, x, mu, logvar)
    return beta * nll + kl


@bound_loss_of.mistake("The price is not charged: this is the loss at a beta of 1.")
def _(logits, x, mu, logvar, beta):
    return sum(_terms(logits, x, mu, logvar))


@bound_loss_of.mistake("The KL lacks its one half.")
def _(logits, x, mu, logvar, beta):
    nll, kl = _terms(logits, x, mu, logvar)
    return nll + 2 * beta * kl


@bound_loss_of.mistake("It is a sum over the batch. The loss is a mean over images.")
def _(logits, x, mu, logvar, beta):
    return len(x) * bound_loss_of.oracle(logits, x, mu, logvar, beta)


# --- 2.12 ------------------------------------------------------------------------------------

sheet.choice(
    "2.12", "predict", 2, "The bound, derived without Jensen", answer="a",
    why="Bayes' rule holds for every z, so it may be averaged over any q; what has been added and subtracted sorts "
        "into the bound and a divergence, which is never negative and is zero for equal distributions alone.",
    wrongs={
        "b": "A divergence is not symmetric, and the average is over q here: it is q that stands first. The other one "
             "would need draws from the posterior, which nobody has.",
        "c": "The prior's divergence is a term of the bound, the price in (2.4). The gap is between q and the "
             "posterior: a q equal to the prior makes the price zero and the gap large.",
        "d": "The gap is a divergence, not a variance, and one draw is no weaker than many: the mean over draws is the "
             "bound, whatever their number.",
        "e": "The decoder may be as good as you like: while q is not the posterior, something is given away. And with "
             "a poor decoder the bound may still be tight."})

# --- 2.13 ------------------------------------------------------------------------------------


def linear_model(g: torch.Generator) -> Case:
    """A linear decoder, an image, and the noise's standard deviation."""
    return {"W": torch.randn(5, 2, generator=g), "x": 1.5 * torch.randn(5, generator=g), "sigma": between(0.4, 0.8, g)}


@sheet.function("2.13", "derive", 2, "The true posterior of the linear model", cases=linear_model,
                returns=("mean", "covariance"))
def linear_posterior(W, x, sigma):
    """By conditioning the joint Gaussian of z and x."""
    gain = W.T @ torch.linalg.inv(W @ W.T + sigma**2 * torch.eye(len(x)).to(W))
    return gain @ x, torch.eye(W.shape[1]).to(W) - gain @ W


def _posterior(W, x, variance, prior=1.0):
    precision = prior * torch.eye(W.shape[1]).to(W) + W.T @ W / variance
    return torch.linalg.solve(precision, W.T @ x / variance), torch.linalg.inv(precision)


@linear_posterior.mistake("You took sigma for the variance: it is to be squared.")
def _(W, x, sigma):
    return _posterior(W, x, sigma)


@linear_posterior.mistake("The prior is forgotten: this is least squares, which trusts the image alone. The prior adds "
                          "a unit matrix to the precision.")
def _(W, x, sigma):
    return _posterior(W, x, sigma**2, 0.0)


@linear_posterior.mistake("The mean is right. You return the precision; the covariance is its inverse.")
def _(W, x, sigma):
    mean, covariance = _posterior(W, x, sigma**2)
    return mean, torch.linalg.inv(covariance)


@linear_posterior.mistake("The covariance is right. In the mean the noise's variance is missing: W' x is divided by it "
                          "too.")
def _(W, x, sigma):
    mean, covariance = _posterior(W, x, sigma**2)
    return mean * sigma**2, covariance


@linear_posterior.mistake("The mean is right. The covariance lacks the prior's unit matrix.")
def _(W, x, sigma):
    return _posterior(W, x, sigma**2)[0], _posterior(W, x, sigma**2, 0.0)[1]


# --- 2.14 ------------------------------------------------------------------------------------


def proposals(g: torch.Generator) -> Case:
    """The linear model, a Gaussian q that is a little off its posterior, and draws.

    By torch's distribution: its first use imports for seconds, which must not count as the answer's time.
    """
    model = linear_model(g)
    mean, cov = _posterior(model["W"], model["x"], model["sigma"] ** 2)
    root = torch.tensor([[1.3, 0.0], [0.6, 0.9]])
    cov = root @ cov @ root.T
    q = distributions.MultivariateNormal(mean + 0.2, 0.5 * (cov + cov.T))
    z = q.loc + torch.randn(4, 2, generator=g) @ q.scale_tril.T
    return {"z": z, **model, "mean": q.loc, "cov": q.covariance_matrix}


@sheet.function("2.14", "investigate", 2, "Where the bound is tight", cases=proposals)
def log_weight(z, W, x, sigma, mean, cov):
    """Through Bayes' rule: log p(x) + log p(z | x) - log q(z)."""
    marginal = distributions.MultivariateNormal(torch.zeros(len(x)).to(x),
                                                W @ W.T + sigma**2 * torch.eye(len(x)).to(x))
    posterior = distributions.MultivariateNormal(*linear_posterior.oracle(W, x, sigma))
    return marginal.log_prob(x) + posterior.log_prob(z) - distributions.MultivariateNormal(mean, cov).log_prob(z)


def _log_prior(z: Tensor) -> Tensor:
    return distributions.Normal(0.0, 1.0).log_prob(z).sum(-1)


@log_weight.mistake("The prior is missing: the joint is p(x | z) times p(z).")
def _(z, W, x, sigma, mean, cov):
    return log_weight.oracle(z, W, x, sigma, mean, cov) - _log_prior(z)


@log_weight.mistake("log q has the wrong sign: q is divided by, so its logarithm is subtracted.")
def _(z, W, x, sigma, mean, cov):
    q = distributions.MultivariateNormal(mean, cov)
    return log_weight.oracle(z, W, x, sigma, mean, cov) + 2 * q.log_prob(z)


@log_weight.mistake("log q is missing: this is the joint, and its average has no bound to be.")
def _(z, W, x, sigma, mean, cov):
    q = distributions.MultivariateNormal(mean, cov)
    return log_weight.oracle(z, W, x, sigma, mean, cov) + q.log_prob(z)


@log_weight.mistake("p(x | z) lacks its constant, the logarithm of 2 pi sigma squared: a squared error alone is no "
                   "likelihood.")
def _(z, W, x, sigma, mean, cov):
    return log_weight.oracle(z, W, x, sigma, mean, cov) + 0.5 * len(x) * math.log(2 * math.pi * sigma**2)


@log_weight.mistake("sigma is taken for the variance of a pixel.")
def _(z, W, x, sigma, mean, cov):
    right = distributions.Normal(z @ W.T, sigma).log_prob(x).sum(-1)
    taken = distributions.Normal(z @ W.T, sigma**0.5).log_prob(x).sum(-1)
    return log_weight.oracle(z, W, x, sigma, mean, cov) - right + taken


@log_weight.mistake("The mean over the draws is taken already. Look at the single draws: how much do they differ?")
def _(z, W, x, sigma, mean, cov):
    return log_weight.oracle(z, W, x, sigma, mean, cov).mean()


@log_weight.mistake("q has lost what hangs together: only the diagonal of its covariance is used.")
def _(z, W, x, sigma, mean, cov):
    q = distributions.MultivariateNormal(mean, cov)
    narrow = distributions.Normal(mean, cov.diagonal().sqrt())
    return log_weight.oracle(z, W, x, sigma, mean, cov) + q.log_prob(z) - narrow.log_prob(z).sum(-1)


# --- 2.15 ------------------------------------------------------------------------------------


def log_weights(g: torch.Generator) -> Case:
    """As images of many pixels have them: far below what an exponential can hold."""
    return {"log_w": 4 * torch.randn(6, 4, generator=g) - 900 - 50 * torch.rand(4, generator=g)}


@sheet.function("2.15", "code", 2, "The importance-weighted bound", cases=log_weights, rtol=1e-5, atol=1e-3)
def weighted_bound(log_w):
    """The mean of the ratios to the largest, for each image, in plain numbers."""
    found = []
    for column in log_w.T.tolist():
        top = max(column)
        found.append(top + math.log(sum(math.exp(w - top) for w in column) / len(column)))
    return torch.tensor(found, dtype=torch.float64)


@weighted_bound.mistake("This is the mean of the logarithms, the ELBO. (2.10) averages the ratios first, and takes the "
                        "logarithm of the average.")
def _(log_w):
    return log_w.mean(0)


@weighted_bound.mistake("The sum is not divided by k: as it stands the bound would grow with every draw.")
def _(log_w):
    return torch.logsumexp(log_w, 0)


@weighted_bound.mistake("The average runs over the images: the wrong axis. Each image has k draws of its own.")
def _(log_w):
    return torch.logsumexp(log_w, 1) - math.log(log_w.shape[1])


@weighted_bound.mistake("The exponentials vanish: no machine number holds exp(-900), so their mean is 0 and its "
                        "logarithm minus infinity. Take the largest out first, or use `logsumexp`.")
def _(log_w):
    return log_w.exp().mean(0).log()


@weighted_bound.mistake("The sum is divided by the number of images. It is the k draws that are averaged.")
def _(log_w):
    return torch.logsumexp(log_w, 0) - math.log(log_w.shape[1])


@weighted_bound.mistake("That is the best draw of each image, alone: an average holds the others as well.")
def _(log_w):
    return log_w.max(0).values


# --- 2.16 ------------------------------------------------------------------------------------


def black_and_white(g: torch.Generator) -> Case:
    """Rows of pixels, of which one is never on, one always."""
    x = (torch.rand(40, 6, generator=g) < torch.tensor([0.1, 0.3, 0.5, 0.7, 0.0, 1.0])).float()
    return {"x": x}


@sheet.function("2.16", "code", 2, "The score of a model without a code", cases=black_and_white)
def no_code_nll(x):
    """For each pixel the least mean loss over a fine grid of probabilities, by counting."""
    p = torch.linspace(0, 1, 2001, dtype=torch.float64)
    least = 0.0
    for pixel in x.T.double():
        on = float(pixel.sum()) / len(pixel)
        least = least - (torch.special.xlogy(on, p) + torch.special.xlogy(1 - on, 1 - p)).max()
    return least


def _entropy(m: Tensor) -> Tensor:
    return -(torch.special.xlogy(m, m) + torch.special.xlogy(1 - m, 1 - m))


@no_code_nll.mistake("It is averaged over the pixels. (2.9) adds them up, so that it can stand beside the other rows "
                     "of the table.")
def _(x):
    return _entropy(x.mean(0)).mean()


@no_code_nll.mistake("It is in bits. This chapter counts in nats.")
def _(x):
    return _entropy(x.mean(0)).sum() / math.log(2)


@no_code_nll.mistake("All pixels share one probability here. Without a code the decoder cannot tell images apart, but "
                     "it has an output for each pixel.")
def _(x):
    return x.shape[1] * _entropy(x.mean())


@no_code_nll.mistake("Every pixel is put at one half. The decoder's biases can do better: they can learn how often "
                     "each pixel is on.")
def _(x):
    return torch.tensor(x.shape[1] * math.log(2))


@no_code_nll.mistake("Only the times when a pixel is on are paid for: the other half of (2.9) is missing.")
def _(x):
    return -torch.special.xlogy(x.mean(0), x.mean(0)).sum()


@no_code_nll.mistake("The images are added up. It is the mean over them that is asked for.")
def _(x):
    return len(x) * _entropy(x.mean(0)).sum()


# --- 2.17 ------------------------------------------------------------------------------------


def coordinates(g: torch.Generator) -> Case:
    """Three directions, strong to weak, of which the weakest is not worth its price."""
    beta = between(0.25, 0.4, g) if torch.rand((), generator=g) < 0.5 else between(2.5, 3.5, g)
    sigma2 = between(0.08, 0.12, g)  # away from where two of the mistakes below come to the same
    share = torch.tensor([between(4, 6, g), between(1.8, 2.6, g), between(0.3, 0.6, g)])
    return {"lam": beta * sigma2 * share, "sigma2": sigma2, "beta": beta}


def sizes(function, case):
    """What a mirrored code leaves as it is: the size of w, the product of w and a, and the variance."""
    found = call(function, case)
    if not isinstance(found, (tuple, list)) or len(found) != 3:
        raise BadAnswer("Three things are asked for, in this order: w, a, s2.")
    w, a, s2 = (tensor(part, f"Its {name}") for part, name in zip(found, ("w", "a", "s2")))
    if not w.shape == a.shape == s2.shape == case["lam"].shape:
        raise BadAnswer("w, a and s2 are to have one number for each entry of lam.")
    return {"w, its sign left out,": w.abs(), "product w a": w * a, "s2": s2}


@sheet.function("2.17", "investigate", 3, "Watch a coordinate die", cases=coordinates, observe=sizes, rtol=0.03,
                atol=0.02)
def fit_coordinates(lam, sigma2, beta):
    """By brute force: the loss on a grid of w and a, and of w and s2."""
    unit = math.sqrt(beta * sigma2)  # of w, and of 1 / a
    w = unit * torch.linspace(0, 3, 601, dtype=torch.float64)[:, None]
    a, s2 = torch.linspace(0, 0.6, 601, dtype=torch.float64) / unit, torch.linspace(0.05, 1.2, 461, dtype=torch.float64)
    of_noise, best_s2 = (w**2 * s2 / (2 * sigma2) + beta / 2 * (s2 - 1 - s2.log())).min(1)
    found = []
    for variance in lam.tolist():
        of_mean, best_a = (((1 - w * a) ** 2 / sigma2 + beta * a**2) * variance / 2).min(1)
        k = int((of_noise + of_mean).argmin())
        found.append((w[k, 0], a[best_a[k]], s2[best_s2[k]]))
    return tuple(torch.stack(part) for part in zip(*found))


def _closed(lam, sigma2, beta):
    w = (lam - beta * sigma2).clamp(min=0).sqrt()
    return w, w / (w**2 + beta * sigma2), beta * sigma2 / (w**2 + beta * sigma2)


@fit_coordinates.mistake("All coordinates are dead, whatever they explain: did the search start at w = 0 and a = 0? "
                         "The loss is flat there, and descent never leaves. Start elsewhere.")
def _(lam, sigma2, beta):
    return torch.zeros_like(lam), torch.zeros_like(lam), torch.ones_like(lam)


@fit_coordinates.mistake("The price is not charged: these are the best values at a beta of 1.")
def _(lam, sigma2, beta):
    return _closed(lam, sigma2, 1.0)


@fit_coordinates.mistake("The KL lacks its one half, so the price is doubled.")
def _(lam, sigma2, beta):
    return _closed(lam, sigma2, 2 * beta)


@fit_coordinates.mistake("The first term lacks its one half, so the price is halved: a Gaussian's exponent is divided "
                         "by twice the variance.")
def _(lam, sigma2, beta):
    return _closed(lam, sigma2, beta / 2)


@fit_coordinates.mistake("`sigma2` is a variance already; you square it once more.")
def _(lam, sigma2, beta):
    return _closed(lam, sigma2**2, beta)


@fit_coordinates.mistake("w and a are right. The third is a standard deviation; s2 is its square.")
def _(lam, sigma2, beta):
    w, a, s2 = _closed(lam, sigma2, beta)
    return w, a, s2.sqrt()


# --- 2.18 ------------------------------------------------------------------------------------


@sheet.function("2.18", "derive", 3, "The price at which it dies", cases=coordinates, rtol=0.02, atol=0.01)
def best_weight(lam, sigma2, beta):
    """By the brute force of 2.17."""
    return fit_coordinates.oracle(lam, sigma2, beta)[0]


@best_weight.mistake("This is w squared: take the root.")
def _(lam, sigma2, beta):
    return (lam - beta * sigma2).clamp(min=0)


@best_weight.mistake("Where the price exceeds the variance, w squared would be negative here. There the best w is 0: "
                     "the coordinate is dead.")
def _(lam, sigma2, beta):
    return (lam - beta * sigma2).abs().sqrt()


@best_weight.mistake("The price does not enter: this is principal component analysis with noise, the case of beta 1.")
def _(lam, sigma2, beta):
    return (lam - sigma2).clamp(min=0).sqrt()


@best_weight.mistake("Neither price nor noise enters: this is the weight that reproduces all the variance.")
def _(lam, sigma2, beta):
    return lam.sqrt()


@best_weight.mistake("`sigma2` is a variance already; you square it once more.")
def _(lam, sigma2, beta):
    return (lam - beta * sigma2**2).clamp(min=0).sqrt()


@best_weight.mistake("The price divides where it should multiply: a dearer code is a thinner one.")
def _(lam, sigma2, beta):
    return (lam - sigma2 / beta).clamp(min=0).sqrt()
