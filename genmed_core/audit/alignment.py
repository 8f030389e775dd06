"""The second look: a sample is turned, zoomed and shifted over its candidates, and compared.

The embedding and the fingerprints name candidates; whether one is the same picture is decided here,
by the correlation of local contrast at the best pose. That gives few false alarms, for two patients
do not fit onto each other however they are turned.
"""

import itertools
import math
from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional as F

from genmed_core.audit.neighbours import MARGIN, box_blurred, local_contrast, small
from genmed_core.audit.views import TURN, ZOOM, Pose, placed

TURNS = torch.linspace(-TURN, TURN, 9)
ZOOMS = torch.linspace(-math.log(ZOOM), math.log(ZOOM), 7).exp()
SIDE = 32
WIDTH, STRIDE = SIDE - 2 * MARGIN, 1  # of the windows that are compared, and between them
SHIFTS = 2 * MARGIN // STRIDE + 1
REFINED, STEPS = 2, 20  # candidates that are followed from the grid's best pose, steps of each
UNITS = torch.tensor([6.0, 0.06, 0.03, 0.03])  # of degrees, logarithm of the zoom, shares of a side


class Match(NamedTuple):
    """The best fit of each sample, numpy arrays (N,)."""

    likeness: np.ndarray   # correlation with the best candidate, at the best pose
    which: np.ndarray      # the number of that reference
    others: np.ndarray     # correlation with a typical candidate, at its best pose of the grid
    turn: np.ndarray       # degrees that the sample is turned by, from the reference
    zoom: np.ndarray       # its enlargement
    shift: np.ndarray      # (N, 2), shares of the side, to the right and down
    mirrored: np.ndarray


@torch.no_grad()
def coarse_codes(images: torch.Tensor, right: int = 0, down: int = 0) -> torch.Tensor:
    """A window of local contrast on a 16x16 grid: floats (N, 1, 32, 32) -> unit rows (N, 144).

    The window is the middle, or right and down of it by whole cells, up to two.
    """
    prints = F.avg_pool2d(_contrast(images), 2)[:, 0, 2 + down:14 + down, 2 + right:14 + right]
    prints = prints.flatten(1)
    return F.normalize(prints - prints.mean(1, keepdim=True), dim=1)


@torch.no_grad()
def posed_codes(images: torch.Tensor) -> torch.Tensor:
    """Coarse codes of references in many poses: uint8 (M, 1, 64, 64) -> (poses, M, 144)."""
    x, n, codes = small(images), len(images), []
    for turn in (-10.0, 0.0, 10.0):
        for zoom in (0.88, 1.0, 1.14):
            pose = Pose(torch.full((n,), turn), torch.full((n,), zoom), torch.zeros(n, 2),
                        torch.zeros(n, dtype=torch.bool))
            codes += [coarse_codes(placed(y, pose)) for y in (x, x.flip(-1))]
    return torch.stack(codes)


@torch.no_grad()
def likely(images: torch.Tensor, codes: torch.Tensor, most: int) -> torch.Tensor:
    """The references whose codes in any pose are most like images', uint8: (N, most).

    Images are looked at through nine windows, for they may be shifted.
    """
    found = []
    for part in small(images).split(250):
        best = torch.full((len(part), codes.shape[1]), -1.0)
        for right, down in itertools.product((-1, 0, 1), repeat=2):
            window = coarse_codes(part, right, down)
            for code in codes:
                best = torch.maximum(best, window @ code.T)
        found.append(best.topk(min(most, codes.shape[1]), 1).indices)
    return torch.cat(found)


def fit(images: torch.Tensor, references: torch.Tensor, candidates: torch.Tensor,
        batch: int = 250) -> Match:
    """Each image at the best pose over its candidates, and over their mirror images.

    images uint8 (N, 1, 64, 64), references (M, 1, 64, 64); candidates (N, K): numbers of
    references. "others" is the median likeness of all candidates.
    """
    parts = []
    for rows in torch.arange(len(images)).split(batch):
        chosen, sample = candidates[rows], small(images[rows])
        known = small(references[chosen.flatten()]).unflatten(0, chosen.shape)
        found = [_best_of_grid(*pair) for pair in zip(sample, known)]
        which, theta, typical = (torch.stack(column) for column in zip(*found))
        row = torch.arange(len(rows))[:, None]
        best, mirrored = which % chosen.shape[1], which >= chosen.shape[1]  # (b, REFINED)
        likeness, theta = _refined(sample, known[row, best], theta, mirrored)
        first, row = likeness.argmax(1), row[:, 0]
        turn, log_zoom, *shift = (theta[row, first] * UNITS).unbind(1)
        parts.append((likeness[row, first], chosen[row, best[row, first]], typical, turn,
                      log_zoom.exp(), torch.stack(shift, 1), mirrored[row, first]))
    return Match(*(torch.cat(column).numpy() for column in zip(*parts)))


@torch.no_grad()
def _best_of_grid(sample: torch.Tensor, known: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """A sample (1, 32, 32) over references (K, 1, 32, 32) and their mirror images, 2K in all.

    -> the best of them (REFINED,), the sample's pose in UNITS (REFINED, 4), typical likeness ().
    """
    turn, zoom = (x.flatten() for x in torch.meshgrid(TURNS, ZOOMS, indexing="ij"))
    middles = _middles(sample, turn, zoom)
    windows = _windows(torch.cat([known, known.flip(-1)]))  # (2K, S, W)
    best, where = (windows @ middles.T).flatten(1).max(1)  # over (S, G)
    which = best.topk(min(REFINED, len(best))).indices
    shift, pose = where[which] // len(turn), where[which] % len(turn)
    angle, scale = torch.deg2rad(turn[pose]), zoom[pose] / SIDE
    across, down = shift % SHIFTS, shift // SHIFTS
    x, y = (scale * (MARGIN - STRIDE * to) for to in (across, down))  # in the reference's frame
    cos, sin = angle.cos(), angle.sin()
    theta = torch.stack([turn[pose], zoom[pose].log(), cos * x + sin * y, cos * y - sin * x], 1)
    return which, theta / UNITS, torch.maximum(*best.chunk(2)).median()


def _middles(sample: torch.Tensor, turn: torch.Tensor, zoom: torch.Tensor) -> torch.Tensor:
    """One image (1, 32, 32) with every pose of the grid undone -> unit rows (G, WIDTH^2)."""
    n = len(turn)
    undone = Pose(-turn, 1 / zoom, torch.zeros(n, 2), torch.zeros(n, dtype=torch.bool))
    return _unit(_contrast(placed(sample.expand(n, 1, -1, -1), undone)))


def _contrast(x: torch.Tensor) -> torch.Tensor:
    """Local contrast that noise and softness disturb less."""
    return local_contrast(box_blurred(x, 3), floor=0.03)


def _unit(prints: torch.Tensor) -> torch.Tensor:
    """The middles of (B, 1, 32, 32) as unit rows (B, WIDTH^2), whose products are correlations."""
    middle = prints[:, 0, MARGIN:-MARGIN, MARGIN:-MARGIN].flatten(1)
    return F.normalize(middle - middle.mean(1, keepdim=True), dim=1)


def _windows(known: torch.Tensor) -> torch.Tensor:
    """Images (K, 1, 32, 32) -> unit rows of all their windows (K, SHIFTS^2, WIDTH^2)."""
    windows = F.unfold(_contrast(known), WIDTH, stride=STRIDE).transpose(1, 2)
    return F.normalize(windows - windows.mean(2, keepdim=True), dim=2)


def _refined(sample: torch.Tensor, known: torch.Tensor, theta: torch.Tensor,
             mirrored: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """References (B, R, 1, 32, 32) laid over samples (B, ...), from poses (B, R, 4), by gradient.

    -> the best correlations (B, R) and their poses, in UNITS.
    """
    shape = theta.shape[:2]
    middle = _unit(_contrast(sample)).repeat_interleave(shape[1], 0)
    theta = theta.flatten(0, 1).clone().requires_grad_()
    optimizer = torch.optim.Adam([theta], 0.2, betas=(0.7, 0.9))
    best, at = torch.full((len(theta),), -1.0), theta.detach().clone()
    for step in range(STEPS):
        optimizer.param_groups[0]["lr"] = 0.2 * (1 - step / STEPS)
        turn, log_zoom, *shift = (theta * UNITS).unbind(1)
        pose = Pose(turn, log_zoom.exp(), torch.stack(shift, 1), mirrored.flatten())
        laid = _unit(_contrast(placed(known.flatten(0, 1), pose)))
        likeness = (laid * middle).sum(1)
        better = likeness.detach() > best
        best = torch.where(better, likeness.detach(), best)
        at = torch.where(better[:, None], theta.detach(), at)
        optimizer.zero_grad()
        (-likeness.sum()).backward()
        optimizer.step()
    return best.view(shape), at.view(*shape, 4)
