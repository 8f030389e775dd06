"""What fixed random filters see of an image, the directions a set varies in, and fine detail."""

from collections.abc import Callable

import torch
from torch.nn import functional as F

from genmed_core.audit.folders import SIZE


def _filters() -> torch.Tensor:
    """24 random filters of 5x5, without mean and of unit length: (24, 1, 5, 5)."""
    filters = torch.randn(24, 1, 5, 5, generator=torch.Generator().manual_seed(0))
    filters -= filters.mean((2, 3), keepdim=True)
    return filters / filters.flatten(1).norm(dim=1)[:, None, None, None]


@torch.no_grad()
def random_features(images: torch.Tensor, batch: int = 200) -> torch.Tensor:
    """Brightness, quantiles, energy behind random filters: uint8 (N, 1, 64, 64) -> (N, 1223)."""
    filters = _filters()
    levels = torch.tensor([0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98])
    features = []
    for x in images.split(batch):
        x = x.float() / 255
        brightness = F.avg_pool2d(x, SIZE // 8).flatten(1)
        parts = [brightness, torch.quantile(x.flatten(1), levels, dim=1).T]
        for _ in range(3):  # octaves
            padded = F.pad(x, (2, 2, 2, 2), mode="reflect")
            energy = F.adaptive_avg_pool2d(F.conv2d(padded, filters).abs(), 4)
            parts.append((energy + 0.01).log().flatten(1))
            x = F.avg_pool2d(x, 2)
        features.append(torch.cat(parts, 1))
    return torch.cat(features)


def leading_directions(
    reference: torch.Tensor, most: int = 48
) -> Callable[[torch.Tensor], torch.Tensor]:
    """A map onto the leading principal directions of features (N, d), to unit mean variance.

    Fitted to the held-out set alone: training and synthetic images are then both strangers to it,
    and the floor is what samples as good as training images would score.
    """
    mean, std = reference.mean(0), reference.std(0) + 1e-4
    standard = ((reference - mean) / std).double()
    _, scale, directions = torch.linalg.svd(standard, full_matrices=False)
    k = max(4, min(most, len(reference) // 4))
    variance = scale[:k].square().mean() / (len(reference) - 1)
    matrix = directions[:k].T / variance.sqrt()
    return lambda features: ((features - mean) / std).double() @ matrix


def log_detail(images: torch.Tensor) -> torch.Tensor:
    """Logarithm of each image's share of energy above half the highest frequency: (N,)."""
    x = images[:, 0].float() / 255
    power = torch.fft.rfft2(x - x.mean((1, 2), keepdim=True)).abs().square()
    down, across = torch.fft.fftfreq(SIZE), torch.fft.rfftfreq(SIZE)
    high = torch.hypot(down[:, None], across[None, :]) > 0.25
    share = power[:, high].sum(1) / power.sum((1, 2)).clamp(min=1e-9)
    return (share + 1e-9).log()


def fine_detail(images: torch.Tensor) -> float:
    """Geometric mean over images of the share of energy above half the highest frequency."""
    return log_detail(images).mean().exp().item()
