"""Chapter 1's exercises: each oracle is written without the chapter's code."""

import math

import torch
from torch import Tensor

from genmed_core.exercises.answers import BadAnswer, Case, call
from genmed_core.exercises.sheet import Sheet

sheet = Sheet("01_autoencoder")


def whole(low: int, high: int, g: torch.Generator) -> int:
    """A whole number from low to high, both among them."""
    return int(torch.randint(low, high + 1, (), generator=g))


def between(low: float, high: float, g: torch.Generator) -> float:
    """A number from low to high."""
    return low + (high - low) * float(torch.rand((), generator=g))


# --- 1.1 -------------------------------------------------------------------------------------


def widths(g: torch.Generator) -> Case:
    """Layers small enough for biases to count."""
    return {"n": whole(20, 60, g), "h": whole(6, 15, g), "d": whole(2, 5, g)}


@sheet.function("1.1", "derive", 1, "Count the parameters", cases=widths)
def parameters(n, h, d):
    """The entries of the arrays that the four layers hold, made and counted."""
    layers = ((n, h), (h, d), (d, h), (h, n))
    return sum(torch.empty(out, into).numel() + torch.empty(out).numel() for into, out in layers)


@parameters.mistake("The biases are missing: a layer from m to n units has n of them besides its m times n weights.")
def _(n, h, d):
    return 2 * n * h + 2 * h * d


@parameters.mistake("This counts the encoder alone. The decoder is a network of its own, with as many weights again.")
def _(n, h, d):
    return n * h + h + h * d + d


@parameters.mistake("The last layer draws n pixels, and each of them has a bias: n parameters are missing.")
def _(n, h, d):
    return 2 * n * h + 2 * h * d + 2 * h + d


@parameters.mistake("The decoder is given the encoder's weights here, transposed (tied weights). In this chapter the "
                    "two halves share nothing.")
def _(n, h, d):
    return n * h + h * d + 2 * h + d + n


@parameters.mistake("This counts units. What training adjusts are the connections between neighbouring layers, and a "
                    "bias for each unit that has an input.")
def _(n, h, d):
    return 2 * n + 2 * h + d


@parameters.mistake("The input has no bias, for nothing computes it: n parameters too many.")
def _(n, h, d):
    return 2 * n * h + 2 * h * d + 2 * h + d + 2 * n


# --- 1.2 -------------------------------------------------------------------------------------

sheet.number(
    "1.2", "predict", 2, "The error of doing nothing", truth=0.15, within=0.06,
    why="A pixel that is 0 or 1 and is replaced by 0 or 1 with equal chances comes out wrong half of the time, by 1: "
        "p/2. Grey pixels are missed by less, so the measured number stays a little below. Gaussian noise would cost "
        "its variance.",
    mistakes=[(0.3, "That is the share of pixels that are touched. A black pixel set to black is touched too, and "
                    "costs nothing."),
              (0.09, "This squares the share of pixels. What is squared is the miss of one pixel, 0 or 1; the share "
                     "only counts how many miss."),
              (0.075, "Half too little: of the touched pixels every second one lands on the wrong side, whether the "
                      "picture is black there or white."),
              (0.7, "That is the share left alone. Those pixels cost nothing.")])

# --- 1.3 -------------------------------------------------------------------------------------

sheet.number(
    "1.3", "predict", 1, "A generator that knows four digits", truth=math.log(4), within=0.02,
    why="Each image is read with certainty, so the mean entropy is 0, and the mean of all readings is a quarter on "
        "each of four digits, of entropy ln 4 = 1.386. A generator that drew all ten would get ln 10.",
    mistakes=[(2.0, "That is in bits. The logarithm in (1.6) is the natural one."),
              (math.log(10), "That is the score of one that draws all ten digits equally often. This one knows four."),
              (0.0, "0 is the mean entropy of single readings, which is the second term. The first asks how varied "
                    "they are together."),
              (4.0, "That is the number of digits it knows: the exponential of (1.6), and the inception score's unit."),
              (math.log(10) - math.log(4), "This is what it lacks to the best score, not what it has.")])

# --- 1.4 -------------------------------------------------------------------------------------


def copies(g: torch.Generator) -> Case:
    """Some images that are not square, and copies of them."""
    x = torch.rand(5, 1, 6, 4, generator=g)
    return {"x_hat": x + 0.4 * torch.randn(x.shape, generator=g), "x": x}


@sheet.function("1.4", "code", 1, "The error of (1.1)", cases=copies)
def reconstruction_error(x_hat, x):
    """Squared distances one image at a time."""
    return sum(torch.dist(copy, image, p=2) ** 2 for copy, image in zip(x_hat, x)) / len(x)


@reconstruction_error.mistake("This is the error per pixel, as `F.mse_loss` has it. The norm in (1.1) adds up the "
                              "pixels of an image; the mean is over images alone.")
def _(x_hat, x):
    return (x_hat - x).square().mean()


@reconstruction_error.mistake("The images are added up too: twice the batch, and the loss doubles. (1.1) divides by N.")
def _(x_hat, x):
    return (x_hat - x).square().sum()


@reconstruction_error.mistake("You took a root: (1.1) has the norm squared, and a mean of roots is another thing.")
def _(x_hat, x):
    return (x_hat - x).flatten(1).norm(dim=1).mean()


@reconstruction_error.mistake("That is absolute error, whose best answer is the median. (1.1) squares.")
def _(x_hat, x):
    return (x_hat - x).abs().flatten(1).sum(1).mean()


@reconstruction_error.mistake("Mean and sum have changed places: it adds up the images and averages the pixels. (1.1) "
                              "adds up pixels and averages images.")
def _(x_hat, x):
    return (x_hat - x).square().flatten(1).mean(1).sum()


# --- 1.5 -------------------------------------------------------------------------------------

sheet.choice(
    "1.5", "predict", 1, "An autoencoder for X-rays without labels", answer="b",
    why="Strided convolutions use that neighbouring pixels obey the same rules everywhere, the narrow code is what "
        "makes copying worth learning from, and other patients' images say how narrow it may be.",
    wrongs={
        "a": "With a code as wide as the image the identity solves (1.1): no error, and nothing learned. A small "
             "training error is no aim in itself.",
        "c": "That needs labels, and the archive has hardly any. The image itself is what the decoder has to return.",
        "d": "The error on the training images falls with every unit that is added, and two scans of one patient are "
             "nearly copies. Only images of other patients show when more width no longer helps.",
        "e": "One pixel after another cannot be told from its neighbours: a decoder that sees no code has nothing to "
             "copy from. The code has to hold the whole image."})

# --- 1.6 -------------------------------------------------------------------------------------


def leaning_cloud(g: torch.Generator, count: int, n: int, d: int) -> tuple[Tensor, Tensor]:
    """Points with d strong directions, off the origin: the cloud's axes (n, n), scaled, and the points (count, n)."""
    axes = torch.linalg.qr(torch.randn(n, n, generator=g))[0]
    scale = torch.tensor([4.0 - k if k < d else 0.5 / (1 + k) for k in range(n)])
    points = (torch.randn(count, n, generator=g) * scale) @ axes.T
    return axes, points + 3 * torch.rand(n, generator=g) + 1


def for_pca(g: torch.Generator) -> Case:
    """Images to learn from, others to copy."""
    d = whole(2, 3, g)
    _, points = leaning_cloud(g, 46, 7, d)
    return {"train": points[:40], "x": points[40:], "d": d}


@sheet.function("1.6", "code", 2, "Principal components, end to end", cases=for_pca, rtol=2e-3, atol=1e-3)
def pca_copy(train, x, d):
    """By the singular vectors of the centred images, not by a covariance."""
    mean = train.mean(0)
    rows = torch.linalg.svd(train - mean, full_matrices=False).Vh[:d]
    return mean + sum(torch.outer((x - mean) @ row, row) for row in rows)


def _axes(points: Tensor) -> Tensor:
    return torch.linalg.eigh(points.T @ points)[1].flip(1)


@pca_copy.mistake("These are the directions of least variance: `torch.linalg.eigh` sorts its eigenvalues upwards, so "
                  "the ones you want stand last.")
def _(train, x, d):
    mean, V = train.mean(0), _axes(train - train.mean(0)).flip(1)[:, :d]
    return mean + (x - mean) @ V @ V.T


@pca_copy.mistake("Nothing is centred. The first direction is then spent on the mean image, and (1.2) wants "
                  "directions in which the images differ.")
def _(train, x, d):
    V = _axes(train)[:, :d]
    return x @ V @ V.T


@pca_copy.mistake("The mean is taken off and never put back: what is copied is the difference from the mean image.")
def _(train, x, d):
    mean, V = train.mean(0), _axes(train - train.mean(0))[:, :d]
    return (x - mean) @ V @ V.T


@pca_copy.mistake("You centre the new images by their own mean. The encoder was learned from the training images, and "
                  "their mean belongs to it; else the same image has another code in other company.")
def _(train, x, d):
    V = _axes(train - train.mean(0))[:, :d]
    return x.mean(0) + (x - x.mean(0)) @ V @ V.T


@pca_copy.mistake("The mean is added back to a code from which it was never taken off: centre before you project.")
def _(train, x, d):
    V = _axes(train - train.mean(0))[:, :d]
    return train.mean(0) + x @ V @ V.T


@pca_copy.mistake("The directions come from the images to be copied. They have to be learned from `train`: PCA is "
                  "fitted, and judged on others.")
def _(train, x, d):
    V = _axes(x - x.mean(0))[:, :d]
    return x.mean(0) + (x - x.mean(0)) @ V @ V.T


# --- 1.7 -------------------------------------------------------------------------------------

sheet.choice(
    "1.7", "predict", 2, "What a linear autoencoder finds", answer="c",
    why="AW and V times the inverse of A make the same copies for every invertible A, so the loss can tell spaces "
        "apart and nothing more; the best space is the one of the leading eigenvectors, and what is left is (1.2).",
    wrongs={
        "a": "Put AW in place of W, and V times A's inverse in place of V: no copy changes. The loss cannot tell "
             "eigenvectors from any other basis of the same space.",
        "b": "The bound is the theorem of Eckart and Young: no linear pair of this width does better, however it is "
             "trained. What clipping or a sigmoid gains is not linear.",
        "d": "The valley has no wrong bottoms: Baldi and Hornik show that every minimum is the global one, all other "
             "flat places are saddles.",
        "e": "Orthogonal columns are one choice among all those that span the space; nothing in the loss asks for it."})

# --- 1.8 -------------------------------------------------------------------------------------


def for_training(g: torch.Generator) -> Case:
    """Centred data, a small start, and a rate at which the descent is calm."""
    x = torch.randn(6, 5, generator=g) * torch.tensor([1.3, 1.0, 0.7, 0.4, 0.3])
    return {"x": x - x.mean(0), "W": 0.4 * torch.randn(2, 5, generator=g), "V": 0.4 * torch.randn(5, 2, generator=g),
            "rate": between(0.01, 0.02, g), "steps": whole(5, 8, g)}


def _descend(x, W, V, rate, steps, factor=1.0):
    """Gradient descent written with the covariance: L = tr C - 2 tr(V W C) + tr(V W C W' V')."""
    C, unit = x.T @ x / len(x), torch.eye(len(V), dtype=V.dtype)
    for _ in range(steps):
        left = (unit - V @ W) @ C
        W, V = W + 2 * factor * rate * V.T @ left, V + 2 * factor * rate * left @ W.T
    return W, V


@sheet.function("1.8", "investigate", 3, "Train one", cases=for_training, returns=("W", "V"))
def train_linear(x, W, V, rate, steps):
    """As `_descend` has it."""
    return _descend(x, W, V, rate, steps)


@train_linear.mistake("The second matrix moves by a gradient taken after the first has moved. Gradient descent takes "
                      "both at the same place, then moves both.")
def _(x, W, V, rate, steps):
    C, unit = x.T @ x / len(x), torch.eye(len(V), dtype=V.dtype)
    for _ in range(steps):
        V = V + 2 * rate * (unit - V @ W) @ C @ W.T
        W = W + 2 * rate * V.T @ (unit - V @ W) @ C
    return W, V


@train_linear.mistake("The second matrix, V, moves by a gradient taken after W has moved. Take both gradients at the "
                      "same place, then move both.")
def _(x, W, V, rate, steps):
    C, unit = x.T @ x / len(x), torch.eye(len(V), dtype=V.dtype)
    for _ in range(steps):
        W = W + 2 * rate * V.T @ (unit - V @ W) @ C
        V = V + 2 * rate * (unit - V @ W) @ C @ W.T
    return W, V


@train_linear.mistake("The gradients pile up from step to step: autograd adds to `.grad`. Set it to zero before each "
                      "backward, or use `torch.autograd.grad`.")
def _(x, W, V, rate, steps):
    C, unit = x.T @ x / len(x), torch.eye(len(V), dtype=V.dtype)
    of_W, of_V = torch.zeros_like(W), torch.zeros_like(V)
    for _ in range(steps):
        left = (unit - V @ W) @ C
        of_W, of_V = of_W + 2 * V.T @ left, of_V + 2 * left @ W.T
        W, V = W + rate * of_W, V + rate * of_V
    return W, V


@train_linear.mistake("You descend the error per pixel (`F.mse_loss`), so each step is n times too short. The loss "
                      "here is (1.1): a sum over pixels, a mean over images.")
def _(x, W, V, rate, steps):
    return _descend(x, W, V, rate, steps, 1 / x.shape[1])


@train_linear.mistake("The loss is summed over images, so each step is N times too long. (1.1) is a mean over them.")
def _(x, W, V, rate, steps):
    return _descend(x, W, V, rate, steps, len(x))


@train_linear.mistake("Each step is half as long as it should be: the derivative of a square is twice the miss.")
def _(x, W, V, rate, steps):
    return _descend(x, W, V, rate, steps, 0.5)


@train_linear.mistake("It climbs: the gradient points to where the error grows, so it is to be subtracted.")
def _(x, W, V, rate, steps):
    return _descend(x, W, V, rate, steps, -1.0)


@train_linear.mistake("Only one step is taken. Is the `return` inside the loop?")
def _(x, W, V, rate, steps):
    return _descend(x, W, V, rate, 1)


# --- 1.9 -------------------------------------------------------------------------------------


def spectrum(g: torch.Generator) -> Case:
    """Variances from large to small, and the noise's standard deviation, which is not 1."""
    return {"eigenvalues": (2 * torch.rand(6, generator=g) + 0.05).sort(descending=True).values,
            "sigma": between(0.3, 0.8, g)}


@sheet.function("1.9", "derive", 2, "The best linear denoiser", cases=spectrum, returns=("gains", "error"))
def linear_denoiser(eigenvalues, sigma):
    """The normal equations, solved as matrices, and the error as a trace."""
    C, noise = torch.diag(eigenvalues), sigma**2 * torch.eye(len(eigenvalues)).to(eigenvalues)
    A = torch.linalg.solve(C + noise, C).T
    missing = torch.eye(len(A)).to(A) - A
    return torch.diagonal(A), torch.trace(missing @ C @ missing.T + A @ noise @ A.T)


@linear_denoiser.mistake("You took sigma for the noise's variance. The variance is its square.")
def _(eigenvalues, sigma):
    return linear_denoiser.oracle(eigenvalues, sigma**0.5)


@linear_denoiser.mistake("The gains are turned round: a direction with much signal and little noise is to be kept, so "
                         "its gain is near 1.")
def _(eigenvalues, sigma):
    gains = 1 - linear_denoiser.oracle(eigenvalues, sigma)[0]
    return gains, linear_denoiser.oracle(eigenvalues, sigma)[1]


@linear_denoiser.mistake("The gains are right. The error counts only what is cut off the signal; the noise that is let "
                         "through, a squared times sigma squared, comes on top.")
def _(eigenvalues, sigma):
    gains = linear_denoiser.oracle(eigenvalues, sigma)[0]
    return gains, ((1 - gains) ** 2 * eigenvalues).sum()


@linear_denoiser.mistake("The gains are right. The error counts only the noise that is let through; what is cut off "
                         "the signal, (1 - a) squared times lambda, comes on top.")
def _(eigenvalues, sigma):
    gains = linear_denoiser.oracle(eigenvalues, sigma)[0]
    return gains, (gains**2 * sigma**2).sum()


@linear_denoiser.mistake("The gains are right. The error is averaged over the directions; the squared norm is a sum.")
def _(eigenvalues, sigma):
    gains, error = linear_denoiser.oracle(eigenvalues, sigma)
    return gains, error / len(gains)


@linear_denoiser.mistake("A gain that divides by the standard deviations treats signal and noise as if they added up "
                         "in size. They add up in variance.")
def _(eigenvalues, sigma):
    gains = eigenvalues.sqrt() / (eigenvalues.sqrt() + sigma)
    return gains, ((1 - gains) ** 2 * eigenvalues + gains**2 * sigma**2).sum()


# --- 1.10 ------------------------------------------------------------------------------------

sheet.choice(
    "1.10", "predict", 1, "Overfitting, noticed and treated", answer="d",
    why="The gap between the error on the training images and on other patients' is what overfitting is, and noise "
        "makes few images into ever new ones: the target stays clean, the input never comes twice.",
    wrongs={
        "a": "An autoencoder with enough weights learns its images by heart like any other network: the bottleneck "
             "limits the code, not what encoder and decoder may remember.",
        "b": "Two scans of one patient are nearly copies. If one is trained on and the other tested, the fault stays "
             "hidden: hold out patients.",
        "c": "A falling training error is what overfitting looks like from inside. It says nothing of other images.",
        "e": "That is the opposite: a wider code and more layers leave more room to learn images by heart. Narrow it, "
             "spoil the input, ask for sparse codes, decay the weights, or stop in time."})

# --- 1.11 ------------------------------------------------------------------------------------


def hidden(g: torch.Generator) -> Case:
    """Values of both signs; k is at times more than there are positive ones in a row."""
    return {"h": torch.randn(6, 7, generator=g) - 0.4 * torch.arange(6)[:, None] / 5, "k": whole(2, 5, g)}


@sheet.function("1.11", "code", 2, "Keep the k largest", cases=hidden)
def keep_largest(h, k):
    """One image at a time, by counting how many units are larger."""
    larger = (h[:, None, :] > h[:, :, None]).sum(2)
    return h * (larger < k)


@keep_largest.mistake("You keep those of largest absolute value. (1.5) keeps the largest: a strongly negative unit "
                      "loses.")
def _(h, k):
    return h * ((h.abs()[:, None, :] > h.abs()[:, :, None]).sum(2) < k)


@keep_largest.mistake("The winners are chosen over the whole batch. Each image has k of its own, else a loud image "
                      "silences a quiet one.")
def _(h, k):
    return h * (h >= h.flatten().sort(descending=True).values[k * len(h) - 1])


@keep_largest.mistake("The competition runs down the batch, between images: the wrong axis. It is the units of one "
                      "image that compete.")
def _(h, k):
    return h * ((h[None, :, :] > h[:, None, :]).sum(1) < k)


@keep_largest.mistake("That is a mask of zeros and ones: who speaks, and not what is said. Keep the values.")
def _(h, k):
    return ((h[:, None, :] > h[:, :, None]).sum(2) < k).to(h)


@keep_largest.mistake("Winners below zero are silenced too. (1.5) has no rectifier: k units speak, of whatever sign.")
def _(h, k):
    return keep_largest.oracle(h, k).clamp(min=0)


@keep_largest.mistake("You silence the k largest and keep the others.")
def _(h, k):
    return h - keep_largest.oracle(h, k)


# --- 1.12 ------------------------------------------------------------------------------------


def one_layer(g: torch.Generator) -> Case:
    """A code of four units, of which the second is dead."""
    b = 0.5 * torch.randn(4, generator=g)
    b[1] = -50.0
    return {"x": torch.rand(5, 6, generator=g), "W": torch.randn(4, 6, generator=g), "b": b,
            "V": torch.randn(6, 4, generator=g)}


@sheet.function("1.12", "code", 3, "The gradient that a dead unit does not get", cases=one_layer)
def encoder_gradient(x, W, b, V):
    """By autograd, one image at a time."""
    W = W.clone().requires_grad_()
    losses = [((V @ torch.relu(W @ image + b) - image) ** 2).sum() for image in x]
    return torch.autograd.grad(sum(losses) / len(losses), W)[0]


def _backward(x, W, b, V, mask):
    miss = torch.relu(x @ W.T + b) @ V.T - x
    return 2 * (miss @ V * mask(x @ W.T + b)).T @ x / len(x)


@encoder_gradient.mistake("The rectifier is missing on the way back: where a unit is silent, nothing of the error gets "
                          "through to its weights. Here even the dead unit would learn.")
def _(x, W, b, V):
    return _backward(x, W, b, V, torch.ones_like)


@encoder_gradient.mistake("It multiplies by the code itself where the rectifier's derivative belongs, which is 1 for a "
                          "unit that speaks, however loudly.")
def _(x, W, b, V):
    return _backward(x, W, b, V, torch.relu)


@encoder_gradient.mistake("The factor 2 is lost: the derivative of a square is twice the miss.")
def _(x, W, b, V):
    return 0.5 * encoder_gradient.oracle(x, W, b, V)


@encoder_gradient.mistake("It is a sum over the images, where the loss is their mean.")
def _(x, W, b, V):
    return len(x) * encoder_gradient.oracle(x, W, b, V)


@encoder_gradient.mistake("It is averaged over the pixels too. The loss adds them up.")
def _(x, W, b, V):
    return encoder_gradient.oracle(x, W, b, V) / x.shape[1]


@encoder_gradient.mistake("Its sign is turned: the miss is copy minus image, for it is the copy that W moves.")
def _(x, W, b, V):
    return -encoder_gradient.oracle(x, W, b, V)


@encoder_gradient.mistake("The mask asks whether x W' is positive and forgets the bias, which decides as well who is "
                          "silent.")
def _(x, W, b, V):
    return _backward(x, W, b, V, lambda _: (x @ W.T > 0).to(x))


# --- 1.13 ------------------------------------------------------------------------------------


def around_a_code(g: torch.Generator) -> Case:
    """The last layer before a code, the first one after it, and by how much codes shall grow."""
    return {"W": torch.randn(3, 5, generator=g), "b": torch.randn(3, generator=g), "V": torch.randn(4, 3, generator=g),
            "a": between(2, 9, g)}


def codes_and_hidden(function, case):
    """What the two layers make of some inputs: the codes, and what the decoder's first layer gets to hear."""
    W, b, V = (torch.as_tensor(part) for part in _three(call(function, case)))
    inputs = torch.linspace(-1, 1, 20).view(4, 5).to(W)
    codes = torch.relu(inputs @ W.T + b)
    return {"codes": codes, "decoder's first layer": codes @ V.to(codes).T}


def _three(parts):
    if not isinstance(parts, (tuple, list)) or len(parts) != 3:
        raise BadAnswer("Three things are asked for, in this order: W, b, V.")
    return parts


@sheet.function("1.13", "derive", 1, "The loss does not fix the scale", cases=around_a_code,
                observe=codes_and_hidden)
def louder(W, b, V, a):
    """By a diagonal matrix and its inverse."""
    grow = a * torch.eye(len(W), dtype=W.dtype)
    return grow @ W, grow @ b, V @ torch.linalg.inv(grow)


@louder.mistake("The bias stays as it was, so the codes are not a times the old ones: a rectifier lets a factor "
                "through only if it is before all it hears.")
def _(W, b, V, a):
    return a * W, b, V / a


@louder.mistake("The codes are right, and the decoder multiplies again: it has to undo the factor.")
def _(W, b, V, a):
    return a * W, a * b, a * V


@louder.mistake("The codes are right, but the decoder has not been told: its first weights still expect the old scale.")
def _(W, b, V, a):
    return a * W, a * b, V


@louder.mistake("The factor is on the wrong side: your codes are a times smaller, and the copies the same.")
def _(W, b, V, a):
    return W / a, b / a, a * V


@louder.mistake("The codes are right, and the decoder undoes the factor twice over: weights and bias of one layer make "
                "one factor a, not a squared.")
def _(W, b, V, a):
    return a * W, a * b, V / a**2


# --- 1.14 ------------------------------------------------------------------------------------


def at_a_quantile(g: torch.Generator) -> Case:
    """Images, copies, and a quantile away from one half."""
    x = torch.rand(4, 1, 3, 5, generator=g)
    q = between(0.05, 0.35, g) if torch.rand((), generator=g) < 0.5 else between(0.65, 0.95, g)
    return {"x_hat": torch.rand(x.shape, generator=g), "x": x, "q": q}


@sheet.function("1.14", "code", 2, "A loss for other quantiles", cases=at_a_quantile)
def quantile_loss(x_hat, x, q):
    """Pixel by pixel: what is drawn too faint costs q, what is drawn too bright 1 - q."""
    faint, bright = (x - x_hat).clamp(min=0), (x_hat - x).clamp(min=0)
    return (q * faint + (1 - q) * bright).sum() / x.numel()


@quantile_loss.mistake("Faint and bright have changed places: u is x minus the copy, and what is drawn too faint shall "
                       "cost q. Yours draws the quantile 1 - q.")
def _(x_hat, x, q):
    return quantile_loss.oracle(x, x_hat, q)


@quantile_loss.mistake("Both sides cost the same, so this is absolute error times a factor, and it draws the median.")
def _(x_hat, x, q):
    return q * (x - x_hat).abs().mean()


@quantile_loss.mistake("You take the smaller of the two: it is never positive, and has no least value.")
def _(x_hat, x, q):
    u = x - x_hat
    return torch.minimum(q * u, (q - 1) * u).mean()


@quantile_loss.mistake("It adds up the pixels, where a mean over all of them is asked for.")
def _(x_hat, x, q):
    return x.numel() * quantile_loss.oracle(x_hat, x, q)


@quantile_loss.mistake("The misses are squared. That gives an expectile, which moves with every value; a quantile only "
                       "counts on which side values lie.")
def _(x_hat, x, q):
    u = x - x_hat
    return (torch.where(u > 0, q, 1 - q) * u**2).mean()


@quantile_loss.mistake("What is drawn too bright costs nothing here: then the brightest drawing is always the best.")
def _(x_hat, x, q):
    return (q * (x - x_hat).clamp(min=0)).mean()


# --- 1.15 ------------------------------------------------------------------------------------

sheet.number(
    "1.15", "predict", 2, "How sensitive a picture", truth=2 / 3, within=0.02,
    why="Six of the nine values are 0, so P(x < c) reaches 6/9 as soon as c rises above 0; the loss goes on falling "
        "to c = 1 if q is larger than that. The rarer the finding, the nearer to 1 must q be.",
    mistakes=[(1 / 3, "That is the share of images with the spot. The quantile counts from below: how many are "
                       "without?"),
              (0.5, "At one half it is absolute error, and the median of the nine values is 0."),
              (0.9, "Enough, but far from the least: 0.9 would still show a spot that two of nine have."),
              (1.0, "At q = 1 every spot is drawn that any image has. Much less will do for three of nine.")])

# --- 1.16 ------------------------------------------------------------------------------------


def some_codes(g: torch.Generator) -> Case:
    """Codes that hang together, off the origin."""
    mix = torch.tensor([[1.5, 0.0, 0.0], [1.0, 0.8, 0.0], [-0.8, 0.5, 0.6]])
    codes = torch.randn(400, 3, generator=g) @ mix.T + torch.tensor([1.0, 2.0, 3.0])
    return {"codes": codes * (0.7 + 0.6 * torch.rand((), generator=g)), "eps": torch.randn(5, 3, generator=g)}


def mean_and_covariance(function, case):
    """Of the distribution from which it draws: read off what it makes of no noise, and of each unit of noise."""
    d = case["codes"].shape[1]
    noise = torch.cat([torch.zeros(1, d), torch.eye(d)]).to(case["codes"])
    drawn = torch.as_tensor(call(function, {"codes": case["codes"], "eps": noise}))
    if drawn.shape != noise.shape:
        raise BadAnswer(f"It has the shape {tuple(drawn.shape)} for an eps of shape {tuple(noise.shape)}: one draw "
                        "for each row of eps is asked for.")
    root = drawn[1:] - drawn[0]
    return {"mean": drawn[0], "covariance": root.T @ root}


@sheet.function("1.16", "code", 2, "Draw from the fitted Gaussian", cases=some_codes, observe=mean_and_covariance,
                rtol=0.01, atol=0.005)
def draw_codes(codes, eps):
    """By the symmetric root of the covariance: any root has the same distribution."""
    centred = codes - codes.mean(0)
    values, axes = torch.linalg.eigh(centred.T @ centred / (len(codes) - 1))
    return codes.mean(0) + eps @ (axes * values.sqrt()) @ axes.T


@draw_codes.mistake("The noise is multiplied by the covariance itself. Then the draws have the covariance C times C: "
                    "what you need is a root of C, as a standard deviation is a root of a variance.")
def _(codes, eps):
    return codes.mean(0) + eps @ torch.cov(codes.T)


@draw_codes.mistake("Each number of the code is drawn on its own: the standard deviations are right, and what hangs "
                    "together in real codes does not here.")
def _(codes, eps):
    return codes.mean(0) + eps * codes.std(0)


@draw_codes.mistake("The spread is right, but the draws lie around the origin, where no code of an image is.")
def _(codes, eps):
    return draw_codes.oracle(codes, eps) - codes.mean(0)


@draw_codes.mistake("The Cholesky factor stands the wrong way round. With draws in rows, z = mean + eps L', for "
                    "then z's covariance is L L'; yours is L' L.")
def _(codes, eps):
    return codes.mean(0) + eps @ torch.linalg.cholesky(torch.cov(codes.T))


@draw_codes.mistake("The noise is scaled by the variances. Scale by standard deviations, and let the numbers of a code "
                    "hang together as they do: a root of the whole covariance does both.")
def _(codes, eps):
    return codes.mean(0) + eps * codes.var(0)


@draw_codes.mistake("The root is taken of the codes' second moment. That counts the mean as spread: centre first.")
def _(codes, eps):
    return codes.mean(0) + eps @ torch.linalg.cholesky(codes.T @ codes / len(codes)).T


# --- 1.17 ------------------------------------------------------------------------------------

sheet.choice(
    "1.17", "predict", 1, "The three families", answer="c",
    why="Each makes a generator of a decoder in its own way: a prior that is named and trained for, a judge in the "
        "encoder's place, or a denoiser applied many times.",
    wrongs={
        "a": "The years are turned round, and so is the idea: it is the variational autoencoder that has an encoder "
             "and names its prior; a GAN has no encoder at all.",
        "b": "A discriminator belongs to the GAN. A variational autoencoder has an encoder that answers with a "
             "distribution, and pays for its distance from a prior.",
        "d": "A diffusion model has no bottleneck, its noisy images are as large as the clean ones, and what spoils "
             "them is fixed, not learned. And 2020 is the year of the DDPM; the idea is of 2015."})
