"""Anatomy in chest films: lungs, their sides and the heart, as a small segmenter outlines them.

The segmenter has seen nothing but phantoms, whose outlines are known (`phantom.organs`);
data/weights/train_segmenter.py made it, and chapters/figures/anatomy.json says how far it errs and
what it finds in real films. The audit asks about anatomy where it finds two lungs and a heart
between them in nearly all real images, training and held-out, and is silent elsewhere: no other
pictures have any.
"""

import functools

import numpy as np
import torch
from torch import nn

from genmed_core.audit.intervals import Interval, bootstrap
from genmed_core.audit.questions import BARS, Finding, beyond, question, shown, worst
from genmed_core.metrics import load_weights, wasserstein_1d

ORGANS = ("lung, left in the picture", "lung, right in the picture", "heart")
MEASURED = {"ctr": "cardiothoracic ratio", "lungs": "lung area, share of the film",
            "asymmetry": "lung asymmetry, left less right"}
CHEST = 0.9  # share of the real images in which lungs and heart must be found
LEAST_LUNG, LEAST_HEART, MOST = 0.03, 0.01, 0.45  # shares of the film
SURE = 0.78  # mean chance in the outlined pixels; chest films have more, noise and digits less
HALVES = 200
WIDTHS = (16, 24, 32)  # channels of the network, fine to coarse

Measures = dict[str, torch.Tensor]  # of each film of a set


class Segmenter(nn.Module):
    """Films (B, 1, 64, 64) in [0, 1] -> logits (B, 4, 64, 64) of ORGANS and, first, of neither.

    A U-Net that works on folded pixels.  Ronneberger et al. 2015.
    """

    def __init__(self) -> None:
        super().__init__()
        a, b, c = WIDTHS
        self.first = nn.Sequential(nn.PixelUnshuffle(2), _block(4, a))  # (B, a, 32, 32)
        self.second = nn.Sequential(nn.MaxPool2d(2), _block(a, b), _block(b, b))  # (B, b, 16, 16)
        self.third = nn.Sequential(nn.MaxPool2d(2), _block(b, c), _block(c, c), _up())
        self.fourth = nn.Sequential(_block(b + c, b), _up())  # (B, b, 32, 32)
        self.last = nn.Sequential(_block(a + b, a), nn.Conv2d(a, 16, 1), nn.PixelShuffle(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean, spread = x.mean((1, 2, 3), keepdim=True), x.std((1, 2, 3), keepdim=True)
        fine = self.first((x - mean) / spread.clamp(min=0.02))
        coarse = self.second(fine)
        coarse = self.fourth(torch.cat([coarse, self.third(coarse)], 1))
        return self.last(torch.cat([fine, coarse], 1))


def _block(channels_in: int, channels_out: int) -> nn.Sequential:
    conv = nn.Conv2d(channels_in, channels_out, 3, padding=1)
    return nn.Sequential(conv, nn.GroupNorm(4, channels_out), nn.SiLU())


def _up() -> nn.Module:
    return nn.Upsample(scale_factor=2, mode="bilinear")


@functools.cache
def segmenter() -> Segmenter:
    """The shipped one. Raises WeightsError where its file is missing."""
    return load_weights(Segmenter(), "chest_segmenter").requires_grad_(False)


@torch.no_grad()
def outlines(images: torch.Tensor) -> torch.Tensor:
    """Films (N, 1, 64, 64) uint8 -> the chance of each of ORGANS in each pixel (N, 3, 64, 64)."""
    net = segmenter()
    return torch.cat([net(x.float() / 255).softmax(1)[:, 1:] for x in images.split(200)])


def measures(shares: torch.Tensor) -> Measures:
    """Shares of each pixel that show ORGANS (N, 3, 64, 64) -> measures of each film, (N,).

    Areas are shares of the film. "ctr": the heart's largest width over the chest's, from lung to
    lung (Danzer 1919); "asymmetry": difference of the lungs' areas over their sum; "found": whether
    there are, with some certainty, two lungs and a heart between them.
    """
    left, right, heart = shares.mean((2, 3)).unbind(1)
    columns = torch.arange(shares.shape[3], dtype=shares.dtype)
    place = (shares.sum(2) * columns).sum(2) / shares.sum((2, 3)).clamp(min=1e-6)
    between = (place[:, 0] < place[:, 2]) & (place[:, 2] < place[:, 1])
    sizes = (torch.minimum(left, right) > LEAST_LUNG) & (torch.maximum(left, right) < MOST)
    lungs = left + right
    sure = shares.square().sum((1, 2, 3)) / shares.sum((1, 2, 3)).clamp(min=1e-6)
    return {"ctr": _width(shares[:, 2]) / _width(shares.sum(1)).clamp(min=1.0),
            "lungs": lungs, "left": left, "right": right,
            "asymmetry": (left - right) / lungs.clamp(min=1e-6),
            "found": between & sizes & (heart > LEAST_HEART) & (sure > SURE)}


def _width(share: torch.Tensor) -> torch.Tensor:
    """Columns that an organ reaches, pixels: shares (N, S, S) -> (N,)."""
    return share.amax(1).sum(1)


def anatomy(train: torch.Tensor, held: torch.Tensor, fake: torch.Tensor,
            rng: np.random.Generator) -> dict | None:
    """`compared` for three sets of images, uint8 (N, 1, 64, 64); None where they are no chests."""
    real, strangers = (measures(outlines(x)) for x in (train, held))
    if not chests(real, strangers):
        return None
    return compared(real, strangers, measures(outlines(fake)), rng)


def chests(*sets: Measures) -> bool:
    """Whether lungs and heart were found in nearly all images of each set."""
    return all(one["found"].float().mean().item() >= CHEST for one in sets)


def compared(real: Measures, strangers: Measures, samples: Measures,
             rng: np.random.Generator) -> dict:
    """Distances of three sets' measures.

    -> {measure: {"excess": interval, "synthetic", "floor": distances, "quantiles": of each set},
    "lost": interval of the share of samples without two lungs and a heart, less that of held-out
    images, "found": shares}. Distances are Wasserstein's, in standard deviations of the held-out
    set; the floor is that of as many training images, and the excess what is above it.
    """
    three = {"train": real, "held_out": strangers, "synthetic": samples}
    shares = {name: one["found"].float().mean().item() for name, one in three.items()}
    lost = bootstrap(lambda a, b: b.mean(-1) - a.mean(-1),
                     (samples["found"].numpy().astype(float),
                      strangers["found"].numpy().astype(float)), rng)
    found: dict = {"found": shares, "lost": lost}
    for name in MEASURED:
        x, y, z = (one[name][one["found"]] for one in (real, strangers, samples))
        found[name] = _distances(x, y, z, rng) if len(z) > 1 else None
    return found


def _distances(real: torch.Tensor, held: torch.Tensor, fake: torch.Tensor,
               rng: np.random.Generator) -> dict:
    """One measure of three sets (N,), (M,), (K,): its distances and their interval.

    The deviation is that of halves drawn without replacement (Shao and Wu 1989), as for `quality`:
    a bootstrap would repeat values, and repeated values lie apart from others.
    """
    n = min(len(real), len(fake))
    spread = held.std().clamp(min=1e-6).item()

    def both(size: int, reference: torch.Tensor) -> tuple[float, float]:
        drawn = (x[rng.permutation(len(x))[:size]] for x in (fake, real))
        synthetic, floor = (wasserstein_1d(x, reference).item() / spread for x in drawn)
        return synthetic, floor

    synthetic, floor = np.mean([both(n, held) for _ in range(HALVES)], 0)
    parts = np.array([both(n // 2, held[rng.permutation(len(held))[:len(held) // 2]])
                      for _ in range(HALVES)])
    wide = 1.96 * float((parts[:, 0] - parts[:, 1]).std())
    excess = synthetic - floor
    at = torch.tensor([0.05, 0.25, 0.5, 0.75, 0.95])
    quantiles = {name: x.quantile(at).tolist()
                 for name, x in (("train", real), ("held_out", held), ("synthetic", fake))}
    return {"synthetic": float(synthetic), "floor": float(floor), "quantiles": quantiles,
            "excess": {"value": excess, "low": excess - wide, "high": excess + wide}}


def described(found: dict) -> list[tuple[str, float, float, Interval]]:
    """[(heading, distance, floor, excess)] of the measures that samples had."""
    return [(heading, found[name]["synthetic"], found[name]["floor"], found[name]["excess"])
            for name, heading in MEASURED.items() if found[name]]


@question("Is the anatomy that of real films?")
def _anatomy(report: dict) -> Finding | None:
    if not (found := report.get("anatomy")):
        return None
    bar, lost = BARS["anatomy"], beyond(found["lost"], BARS["lost"])
    short = {"ctr": "heart", "lungs": "lung area", "asymmetry": "asymmetry"}
    compared = {words: found[name]["excess"] for name, words in short.items() if found[name]}
    bad = worst(lost, *(beyond(excess, bar) for excess in compared.values()))
    because = ", ".join(f"{words} {shown(excess)}" for words, excess in compared.items())
    if len(compared) < len(short) and not bad:
        bad = None
    return Finding(bad, f"apart by sd above the floor: {because}; without lungs or heart, more "
                        f"than real: {shown(found['lost'])}", f"up to {bar} sd; {BARS['lost']}")
