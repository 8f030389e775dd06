"""What networks make of a drawing: for each kind its programs, and the pad's numbers in Python.

A reading is given a drawing in MNIST's form, x (1, 28, 28) in [0, 1], and returns its numbers by
name.  They come from the programs that the browser runs; pad.js has the same kinds in READINGS.
"""

from __future__ import annotations

import copy
import functools
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genmed_core.metrics.readers import digit_classifier
from genmed_core.widgets.compile import Program, compile_network

CLASSES = 10
SHOWN = 250  # test digits on the map
DRAWS = 16  # codes over which a reconstruction term is averaged
EXAMPLE = torch.linspace(0, 1, 784).view(1, 1, 28, 28)


class Reading:
    """One kind of answer: `programs` by name, `settings` for the page, numbers when called."""

    kind = ""

    def __init__(self, heading: str, programs: dict[str, Program], **settings: Any) -> None:
        self.heading, self.programs, self.settings = heading, programs, settings

    def __call__(self, x: Tensor) -> dict[str, Any]:
        """What the page shows for a drawing x (1, 28, 28)."""
        raise NotImplementedError


class Reader(Reading):
    """What our reader of digits says: `probabilities` (10,), and the likeliest `digit`."""

    kind = "reader"

    def __init__(self, heading: str = "Our reader") -> None:
        super().__init__(heading, {"reader": _reader()})

    def __call__(self, x: Tensor) -> dict[str, Any]:
        p = self.programs["reader"].run(x=x[None])[0][0]
        return {"digit": int(p.argmax()), "probabilities": p}


@functools.cache
def _reader():
    network = digit_classifier()
    return compile_network(lambda x: network(x).softmax(1), x=EXAMPLE, int8=True)


class Copy(Reading):
    """An autoencoder's copy: `x_hat` (1, 28, 28), and its squared `error` per pixel.

    network: x (B, 1, 28, 28) in [0, 1] -> a copy, the same shape.  real (N, 1, 28, 28): digits,
    whose errors, from the lower to the upper quartile, stand beside the drawing's.
    """

    kind = "copy"

    def __init__(self, network: nn.Module, real: Tensor, heading: str = "The autoencoder") -> None:
        network = _ready(network)
        with torch.no_grad():
            errors = (network(real[:1000].cpu()) - real[:1000].cpu()).square().mean((1, 2, 3))
        super().__init__(heading, {"copy": compile_network(network, x=EXAMPLE)},
                         usual=_quantiles(errors, 0.25, 0.75))

    def __call__(self, x: Tensor) -> dict[str, Any]:
        x_hat = self.programs["copy"].run(x=x[None])[0][0]
        return {"x_hat": x_hat, "error": F.mse_loss(x_hat, x).item()}


class Bound(Reading):
    """A variational autoencoder's bound for the drawing, made black and white.

    model: encode(x) -> mu, logvar (B, d), decode(z) -> logits.  images, labels: test digits for the
    map, the plane of the code in which the classes lie furthest apart (Fisher 1936), its axes at
    right angles and of the code's own scale.  Numbers, in nats: `nll` over DRAWS codes, `kl` (d,)
    and `bound`; `mu`, `sigma` (d,), `at` (2,) on the map, `x_hat` (1, 28, 28) decoded at mu.
    """

    kind = "bound"

    def __init__(self, model: nn.Module, images: Tensor, labels: Tensor,
                 heading: str = "The variational autoencoder") -> None:
        model, labels = _ready(model), labels[:2000].cpu()
        with torch.no_grad():
            codes = model.encode(_binarised(images[:2000].cpu().float()))[0]
        d = codes.shape[1]
        programs = {"encode": compile_network(model.encode, x=EXAMPLE),
                    "decode": compile_network(model.decode, z=torch.linspace(-1, 1, d)[None])}
        self.plane = fisher_plane(codes, labels)  # (2, d)
        self.eps = torch.randn(DRAWS, d, generator=torch.Generator().manual_seed(0))
        points = torch.cat([codes[:SHOWN] @ self.plane.T, labels[:SHOWN, None]], 1)
        super().__init__(heading, programs, plane=self.plane.tolist(), eps=self.eps.tolist(),
                         points=[[round(v, 2) for v in point] for point in points.tolist()])

    def __call__(self, x: Tensor) -> dict[str, Any]:
        x = _binarised(x)[None]
        mu, logvar = (v[0] for v in self.programs["encode"].run(x=x))
        sigma = (0.5 * logvar).exp()
        codes = torch.cat([mu[None], mu + sigma * self.eps])
        logits = self.programs["decode"].run(z=codes)[0].view(-1, 1, 28, 28)
        nll = (F.softplus(logits) - x * logits).sum((1, 2, 3))[1:].mean()      # (2.9)
        kl = 0.5 * (mu**2 + logvar.exp() - 1 - logvar)                           # (2.6)
        return {"nll": nll.item(), "kl": kl, "bound": -(nll + kl.sum()).item(), "mu": mu,
                "sigma": sigma, "at": self.plane @ mu, "x_hat": logits[0].sigmoid()}


class Hand(Reading):
    """A conditional autoencoder's ten digits, all in the hand of the drawing.

    model: encode(x, y) -> mu, logvar and decode(z, y) -> logits, for x in black and white.  y is
    what our reader reads, or the reader's choice.  `digits` (10, 28, 28); `y`.
    """

    kind = "hand"

    def __init__(self, model: nn.Module, heading: str = "The same hand, writing all ten") -> None:
        model = _ready(model)
        y = torch.tensor([3])
        with torch.no_grad():
            mu = model.encode(EXAMPLE, y)[0]
        programs = {"encode": compile_network(lambda x, y: model.encode(x, y)[0], x=EXAMPLE, y=y),
                    "decode": compile_network(lambda z, y: model.decode(z, y).sigmoid(), z=mu, y=y)}
        super().__init__(heading, programs)

    def __call__(self, x: Tensor, y: int | None = None) -> dict[str, Any]:
        if y is None:
            y = Reader()(x)["digit"]
        mu = self.programs["encode"].run(x=_binarised(x)[None], y=torch.tensor([y]))[0]
        digits = self.programs["decode"].run(z=mu.repeat(CLASSES, 1), y=torch.arange(CLASSES))[0]
        return {"y": y, "digits": digits.view(CLASSES, 28, 28)}


class Score(Reading):
    """A discriminator's or critic's `score` of the drawing, on a scale with those of others.

    network: images (B, 1, 28, 28) from `low` to 1 -> scores (B, 1) or (B,).  real, fake
    (N, 1, 28, 28) in [0, 1]: digits and samples whose quantiles are shown; `above`: the shares of
    either that score less than the drawing.
    """

    kind = "score"

    def __init__(self, network: nn.Module, real: Tensor, fake: Tensor, *, low: float = -1.0,
                 heading: str = "The critic") -> None:
        network = _ready(network)

        def score(x: Tensor) -> Tensor:
            return network((1 - low) * x + low).flatten(1)

        with torch.no_grad():
            groups = {name: torch.cat([score(part.cpu().float()) for part in x[:1000].split(250)])
                      for name, x in (("real digits", real), ("samples", fake))}
        self.scores = {name: values.flatten().sort().values for name, values in groups.items()}
        super().__init__(heading, {"score": compile_network(score, x=EXAMPLE)},
                         groups={name: _quantiles(values, *[k / 100 for k in range(101)])
                                 for name, values in self.scores.items()})

    def __call__(self, x: Tensor) -> dict[str, Any]:
        score = self.programs["score"].run(x=x[None])[0].item()
        return {"score": score, "above": {name: (values < score).float().mean().item()
                                          for name, values in self.scores.items()}}


def fisher_plane(codes: Tensor, labels: Tensor) -> Tensor:
    """Two orthonormal directions (2, d) of codes (N, d) that tell the labels (N,) apart best."""
    if codes.shape[1] == 2:
        return torch.eye(2)
    classes = [codes[labels == k] for k in labels.unique()]
    means = torch.stack([part.mean(0) for part in classes])
    within = sum((part - part.mean(0)).T @ (part - part.mean(0)) for part in classes) / len(codes)
    root = torch.linalg.cholesky(within + 1e-4 * torch.eye(len(within)))
    between = torch.linalg.solve_triangular(root, (means - means.mean(0)).T, upper=False)
    axes = torch.linalg.svd(between)[0][:, :2]
    directions = torch.linalg.solve_triangular(root.T, axes, upper=True)
    return torch.linalg.qr(directions)[0].T


def _ready(network):
    """A copy on the CPU, in evaluation."""
    return copy.deepcopy(network).cpu().float().eval().requires_grad_(False)


def _binarised(x):
    return (x > 128.5 / 255).float()  # as chapters 2 and 3 do


def _quantiles(values, *shares):
    return [round(q, 5) for q in values.float().quantile(torch.tensor(shares)).tolist()]
