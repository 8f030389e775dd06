"""Distances between two sets of samples: of their features, of points, of numbers.

chapters/measuring.md explains what each of these sees and what it does not.
"""

import warnings
from collections.abc import Sequence

import torch
from torch import nn

from genmed_core import arguments
from genmed_core.metrics import checks


class _Given(nn.Module):
    """Stands where torchmetrics expects a feature network: the features are there already."""

    def __init__(self, num_features: int):
        super().__init__()
        self.num_features = num_features

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def frechet_distance(real: torch.Tensor, fake: torch.Tensor) -> float:
    """Squared Frechet distance between Gaussians with the two sets' means and covariances.

    real (N, d), fake (M, d) features -> float. Falls with N and M even between sets of one source:
    compare only values of equal N and M, and look at the floor, above all where N or M is below d
    and the covariance is singular. Fakes that are copies of one have no covariance: the distance is
    then that of the means, squared, plus the real variance.  Heusel et al. 2017, eq. 6;
    torchmetrics' FID in float64. ValueError for real samples that are copies of one.
    """
    from torchmetrics.image.fid import FrechetInceptionDistance  # seconds to import

    real, fake = checks.feature_pair(real, fake, least=2)
    metric = FrechetInceptionDistance(_Given(real.shape[1]))
    metric.update(real, real=True)
    metric.update(fake, real=False)
    return max(0.0, metric.compute().item())  # rounding can leave -1e-9 where the sets are the same


def kernel_distance(
    real: torch.Tensor, fake: torch.Tensor, *, subsets: int = 20, subset_size: int = 500
) -> tuple[float, float]:
    """Squared maximum mean discrepancy with the kernel (a.b / d + 1)^3, over random subsets.

    real (N, d), fake (M, d) features; subset_size: at most, as many as there are where there are
    fewer -> (mean, sd). Unbiased: around 0, and below it half of the time, for sets of one source.
    The sd is that of one subset, not the mean's error.  Binkowski et al. 2018, eq. 4; torchmetrics.
    """
    from torchmetrics.image.kid import KernelInceptionDistance

    arguments.whole("subsets", subsets)
    arguments.whole("subset_size", subset_size, 2)
    real, fake = checks.feature_pair(real, fake, least=4)
    subset_size = min(subset_size, len(real), len(fake))
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):  # the chapter's draws stay
        warnings.simplefilter("ignore", UserWarning)  # that it keeps the features in memory
        torch.manual_seed(0)
        given = _Given(real.shape[1])
        metric = KernelInceptionDistance(given, subsets=subsets, subset_size=subset_size)
        metric.update(real, real=True)
        metric.update(fake, real=False)
        mean, sd = metric.compute()
    return mean.item(), sd.item()


def mmd2(x: torch.Tensor, y: torch.Tensor, bandwidths: Sequence[float]) -> torch.Tensor:
    """Unbiased squared maximum mean discrepancy, a mean of Gaussian kernels; differentiable.

    x (N, ...), y (M, ...); kernel: the mean over s in `bandwidths` of exp(-|a - b|^2 / (2 s^2))
    -> scalar.  Gretton et al. 2012, eq. 3. Reads nothing back from the device, so a captured step
    may hold it.
    """
    x, y = x.flatten(1), y.flatten(1)
    n, m = len(x), len(y)
    if x.shape[1] != y.shape[1] or min(n, m) < 2:
        shapes = f"{tuple(x.shape)} and {tuple(y.shape)}"
        raise ValueError(f"two or more samples of one size on each side, not {shapes}")
    if not len(bandwidths) or not all(s > 0 for s in bandwidths):
        raise ValueError(f"bandwidths={bandwidths!r}: give one or more positive numbers")

    def kernel(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        lengths = a.square().sum(1)[:, None] + b.square().sum(1)[None, :]
        squared = (lengths - 2 * a @ b.T).clamp(min=0)
        kernels = [torch.exp(-squared / (2 * s**2)) for s in bandwidths]
        return sum(kernels[1:], kernels[0]) / len(kernels)

    def mean_of_others(k: torch.Tensor) -> torch.Tensor:
        return (k.sum() - k.diagonal().sum()) / (len(k) * (len(k) - 1))

    within = mean_of_others(kernel(x, x)) + mean_of_others(kernel(y, y))
    return within - 2 * kernel(x, y).mean()


def wasserstein_1d(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Exact earth mover's distance of two samples of numbers: the area between their distributions.

    x (N,), y (M,) -> scalar, differentiable. For N = M it is the mean gap of the sorted samples.
    """
    if x.ndim != 1 or y.ndim != 1 or not len(x) or not len(y):
        shapes = f"{tuple(x.shape)} and {tuple(y.shape)}"
        raise ValueError(f"two samples of numbers (N,) and (M,), not {shapes}")
    x, y = x.sort().values, y.sort().values
    merged = torch.cat([x, y]).sort().values
    left = merged[:-1].detach().contiguous()
    below_x = torch.searchsorted(x.detach(), left, right=True).to(x.dtype) / len(x)  # (N + M - 1,)
    below_y = torch.searchsorted(y.detach(), left, right=True).to(x.dtype) / len(y)
    return ((below_x - below_y).abs() * merged.diff()).sum()
