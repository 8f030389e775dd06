"""Views of one image: turned, zoomed, shifted, mirrored, of another exposure, noisy, softened."""

import math
from typing import NamedTuple

import torch
from torch.nn import functional as F

TURN, ZOOM, SHIFT = 15.0, 1.2, 4 / 64  # the largest that are searched: degrees, factor, of a side


class Pose(NamedTuple):
    """How images were placed anew, each (N,)."""

    turn: torch.Tensor     # degrees, against the clock
    zoom: torch.Tensor     # above 1 enlarges
    shift: torch.Tensor    # (N, 2), to the right and down, as a share of the side
    mirrored: torch.Tensor  # bool


def no_pose(n: int) -> Pose:
    """n images as they are."""
    return Pose(torch.zeros(n), torch.ones(n), torch.zeros(n, 2), torch.zeros(n, dtype=torch.bool))


def placed(images: torch.Tensor, pose: Pose) -> torch.Tensor:
    """Images (N, C, H, W), floats, mirrored, turned, enlarged and shifted, in this order."""
    angle = torch.deg2rad(pose.turn)
    cos, sin = angle.cos() / pose.zoom, angle.sin() / pose.zoom
    left = torch.where(pose.mirrored, -1.0, 1.0)
    x, y = (2 * pose.shift).unbind(1)
    rows = torch.stack([left * cos, -left * sin, left * (sin * y - cos * x),
                        sin, cos, -sin * x - cos * y], 1)
    grid = F.affine_grid(rows.view(-1, 2, 3), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def random_pose(n: int, generator: torch.Generator, *, turn: float = TURN, zoom: float = ZOOM,
                shift: float = SHIFT, mirror: float = 0.5) -> Pose:
    """Poses drawn evenly up to these bounds, the zoom on a logarithmic scale."""
    u = 2 * torch.rand(n, 4, generator=generator) - 1
    mirrored = torch.rand(n, generator=generator) < mirror
    return Pose(turn * u[:, 0], (math.log(zoom) * u[:, 1]).exp(), shift * u[:, 2:], mirrored)


def exposed(images: torch.Tensor, generator: torch.Generator, *, strength: float = 1.0,
            noise: float = 0.04) -> torch.Tensor:
    """Images (N, 1, H, W) in [0, 1] of another gamma, contrast and brightness, and noisy."""
    n = len(images)
    u = strength * (2 * torch.rand(3, n, 1, 1, 1, generator=generator) - 1)
    gamma, gain, offset = (0.4 * u[0]).exp(), 1 + 0.3 * u[1], 0.1 * u[2]
    level = noise * torch.rand(n, 1, 1, 1, generator=generator)
    grain = torch.randn(images.shape, generator=generator)
    x = gain * (images.clamp(0, 1) ** gamma - 0.5) + 0.5 + offset + level * grain
    return x.clamp(0, 1)


def softened(images: torch.Tensor, sigma: float) -> torch.Tensor:
    """Images (N, 1, H, W) behind a Gaussian of sigma pixels."""
    reach = max(1, math.ceil(3 * sigma))
    steps = torch.arange(-reach, reach + 1)
    kernel = (-0.5 * (steps / sigma) ** 2).exp()
    kernel = kernel / kernel.sum()
    x = F.pad(images, (reach,) * 4, mode="replicate")
    return F.conv2d(F.conv2d(x, kernel.view(1, 1, 1, -1)), kernel.view(1, 1, -1, 1))
