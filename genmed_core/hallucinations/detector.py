"""Finds nodules in chest films: a small fully convolutional network that has seen phantoms alone.

data/weights/train_nodules.py made it; chapters/figures/hallucinations.json says how many nodules it
finds at how many false marks, on phantoms that it never saw and in real films.
"""

import functools
from typing import NamedTuple, cast

import torch
from torch import nn
from torch.nn import functional as F

from genmed_core.audit.anatomy import WIDTHS, Segmenter
from genmed_core.metrics import load_weights

SURE = 0.65  # score from which a mark counts
DOUBT = 0.4  # score below which nothing is seen any more
APART = 9  # side of the window, pixels, in which only the highest score is a mark
WIDE = 13  # pixels of the side on which contrast is local
NEAR = 2.5  # pixels that a mark may lie outside a lesion's disc


class Detector(Segmenter):
    """Films (B, 1, 64, 64) in [0, 1] -> logits (B, 1, 64, 64), high at the centre of a nodule.

    A nodule is a few grey levels on a film that spans all of them, so that the network sees local
    contrast beside the film: what lies above the mean around, over its spread there.
    """

    def __init__(self) -> None:
        super().__init__()
        cast(nn.Sequential, self.first[1])[0] = nn.Conv2d(8, WIDTHS[0], 3, padding=1)
        self.last[-2] = nn.Conv2d(WIDTHS[0], 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        spread = x.std((1, 2, 3), keepdim=True).clamp(min=0.02)
        flat = (x - x.mean((1, 2, 3), keepdim=True)) / spread
        return self.heads(torch.cat([flat, local_contrast(x)], 1))

    def heads(self, x: torch.Tensor) -> torch.Tensor:
        """The U-Net itself, on both pictures of each film."""
        fine = self.first(x)
        coarse = self.second(fine)
        coarse = self.fourth(torch.cat([coarse, self.third(coarse)], 1))
        return self.last(torch.cat([fine, coarse], 1))


def local_contrast(x: torch.Tensor) -> torch.Tensor:
    """Films (B, 1, H, W) -> how far a pixel lies from the mean of WIDE x WIDE, in their spread."""
    def around(y: torch.Tensor) -> torch.Tensor:
        return F.avg_pool2d(F.pad(y, (WIDE // 2,) * 4, mode="replicate"), WIDE, 1)

    off = x - around(x)
    return off / (around(off.square()).sqrt() + 0.01)


class Marks(NamedTuple):
    """What a detector marks in n films."""

    film: torch.Tensor   # (M,) int64: the film of each mark
    place: torch.Tensor  # (M, 2) row and column, pixels
    score: torch.Tensor  # (M,) in 0..1, SURE or more


@functools.cache
def nodule_detector() -> Detector:
    """The shipped one. Raises WeightsError where its file is missing."""
    return load_weights(Detector(), "nodule_detector").requires_grad_(False)


@torch.no_grad()
def scores(images: torch.Tensor, net: nn.Module | None = None) -> torch.Tensor:
    """Films (N, 1, 64, 64) uint8 -> the score of a nodule's centre in each pixel, (N, 64, 64)."""
    net = net or nodule_detector()
    return torch.cat([net(x.float() / 255).sigmoid()[:, 0] for x in images.split(200)])


def marks(score: torch.Tensor, least: float = SURE) -> Marks:
    """Scores (N, H, W) -> the places where they are highest around and `least` or more."""
    highest = F.max_pool2d(score[:, None], APART, 1, APART // 2)[:, 0]
    film, row, column = ((score == highest) & (score >= least)).nonzero().unbind(1)
    return Marks(film, torch.stack([row, column], 1).float(), score[film, row, column])


def seen_near(score: torch.Tensor, film: torch.Tensor, place: torch.Tensor,
              reach: torch.Tensor) -> torch.Tensor:
    """The highest score within `reach` pixels of places: film (M,), place (M, 2), reach (M,)."""
    side = torch.arange(score.shape[1])
    squared = (side - place[:, :1]).square()[:, :, None] + (side - place[:, 1:]).square()[:, None]
    inside = squared <= reach.view(-1, 1, 1) ** 2
    return torch.where(inside, score[film], torch.tensor(0.0)).amax((1, 2))
