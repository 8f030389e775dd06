"""The copy detector: maps of local contrast, and the nearest one over flips and shifts."""

import functools

import torch
from torch.nn import functional as F

MARGIN = 3      # shifts tried, in 1/32 of the width
CANDIDATES = 8  # neighbours looked at closely


@torch.no_grad()
def fingerprints(images: torch.Tensor) -> torch.Tensor:
    """Local contrast, blind to brightness and contrast: uint8 (N, 1, 64, 64) -> (N, 32, 32)."""
    return local_contrast(small(images))[:, 0]


def small(images: torch.Tensor) -> torch.Tensor:
    """uint8 (N, 1, 64, 64) -> floats (N, 1, 32, 32) in [0, 1]."""
    return F.avg_pool2d(images.float() / 255, 2)


def local_contrast(x: torch.Tensor, width: int = 9, floor: float = 1e-3) -> torch.Tensor:
    """Deviation from the mean around each pixel, over the deviation around: (N, 1, H, W)."""
    detail = x - box_blurred(x, width)
    spread = (box_blurred(detail.square(), width) + 1e-8).sqrt()
    typical = spread.mean((1, 2, 3), keepdim=True)
    return detail / (spread + 0.5 * typical + floor)


def box_blurred(x: torch.Tensor, width: int) -> torch.Tensor:
    """Mean over a square around each pixel, reflected at the edges: products with two bands."""
    down, across = (_band(side, width) for side in x.shape[-2:])
    return down @ x @ across.T


@functools.cache
def _band(side: int, width: int) -> torch.Tensor:
    """The moving average of `width` along an axis of `side` pixels, as a matrix (side, side)."""
    reach = width // 2
    padded = F.pad(torch.eye(side)[None], (reach, reach), mode="reflect")[0]  # (side, side + 2r)
    return F.avg_pool1d(padded[None], width, 1)[0].T.contiguous()


@torch.no_grad()
def nearest(
    queries: torch.Tensor, references: torch.Tensor, *, own: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """The nearest reference to every query, the best over flips and shifts, and its index.

    fingerprints (N, 32, 32), (M, 32, 32) -> distance 1 - correlation (N,), index (N,). own (N,):
    where each query stands among the references, for nobody is his own neighbour.
    """
    both = torch.cat([references, references.flip(-1)])
    known, m = _coarse(both).T, len(references)
    distances, indices = [], []
    for chunk in torch.arange(len(queries)).split(256):
        query = queries[chunk]
        alike = _coarse_likeness(query, known)
        if own is not None:
            alike[torch.arange(len(query)), own[chunk]] = -2
            alike[torch.arange(len(query)), own[chunk] + m] = -2
        candidates = alike.topk(min(CANDIDATES, 2 * m), dim=1).indices  # (b, K)
        best, which = _aligned(query, both[candidates]).max(1)
        distances.append(1 - best)
        indices.append(candidates.gather(1, which[:, None])[:, 0] % m)
    return torch.cat(distances).clamp(min=0), torch.cat(indices)


def _coarse(prints: torch.Tensor) -> torch.Tensor:
    """Fingerprints on an 8x8 grid, unit vectors whose products are correlations -> (N, 64)."""
    small = F.avg_pool2d(prints[:, None], 4).flatten(1)
    return F.normalize(small - small.mean(1, keepdim=True), dim=1)


def _coarse_likeness(query: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """Correlations at the best of nine shifts: a shifted copy must be among the candidates."""
    alike = _coarse(query) @ known
    moved = F.pad(query, (2, 2, 2, 2), mode="replicate")
    for y in (0, 2, 4):
        for x in (0, 2, 4):
            shifted = _coarse(moved[:, y:y + 32, x:x + 32])
            alike = torch.maximum(alike, shifted @ known)
    return alike


def _aligned(queries: torch.Tensor, candidates: torch.Tensor) -> torch.Tensor:
    """Best correlation of each query's middle with windows of its candidates.

    (b, 32, 32), (b, K, 32, 32) -> (b, K).
    """
    side = queries.shape[-1]
    width, shifts = side - 2 * MARGIN, 2 * MARGIN + 1
    middle = queries[:, MARGIN:side - MARGIN, MARGIN:side - MARGIN]
    middle = middle - middle.mean((1, 2), keepdim=True)
    spectrum = torch.fft.rfft2(middle, s=(side, side))[:, None]
    products = torch.fft.irfft2(spectrum.conj() * torch.fft.rfft2(candidates), s=(side, side))
    variance = _window_mean(candidates.square(), width) - _window_mean(candidates, width).square()
    spread = variance.clamp(min=1e-8).sqrt() * width
    norm = spread * middle.flatten(1).norm(dim=1)[:, None, None, None]
    correlation = products[..., :shifts, :shifts] / norm.clamp(min=1e-8)
    return correlation.flatten(2).amax(2)


def _window_mean(x: torch.Tensor, width: int) -> torch.Tensor:
    """One axis at a time, which is five times faster."""
    return F.avg_pool2d(F.avg_pool2d(x, (1, width), 1), (width, 1), 1)
