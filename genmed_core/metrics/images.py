"""Images as measures take them, and how alike two of them are."""

import math

import torch

from genmed_core import arguments
from genmed_core.data import ImageSet
from genmed_core.metrics import checks

SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # Wang et al. 2003, section 3.2
Images = ImageSet | torch.Tensor


def pixels(images: Images) -> torch.Tensor:
    """The images themselves, out of an ImageSet where they are in one."""
    return images if isinstance(images, torch.Tensor) else images.images


def as_images(images: Images, shape: tuple[int, ...] | None = None) -> torch.Tensor:
    """ImageSet, uint8 or float images -> float (N, C, H, W) in [0, 1].

    shape: the (C, H, W) that is wanted, None for any. ValueError for anything else.
    """
    x = pixels(images)
    if x.ndim != 4 or (shape is not None and x.shape[1:] != shape):
        wanted = "C, H, W" if shape is None else ", ".join(map(str, shape))
        raise ValueError(f"expected images (N, {wanted}), got {tuple(x.shape)}")
    if x.dtype == torch.uint8:
        return x.float() / 255
    if not torch.isfinite(x).all():
        raise ValueError("the images hold NaN or infinity: the model that drew them has diverged")
    if len(x) and not -1e-4 <= x.min() <= x.max() <= 1 + 1e-4:
        raise ValueError(
            f"images must lie in [0, 1], these span {x.min():.2f} to {x.max():.2f}: map tanh "
            "outputs by (x + 1) / 2, logits by a sigmoid, and clamp what a sampler overshoots"
        )
    return x.float().clamp(0, 1)


def grey_levels(x: torch.Tensor) -> torch.Tensor:
    """x uint8, or float in [0, 1] -> the same as uint8 on the CPU."""
    if x.dtype == torch.uint8:
        return x.cpu()
    return (255 * x.cpu().clamp(0, 1)).round().to(torch.uint8)


def similarity(
    images: Images, labels: torch.Tensor | None = None, *, pairs: int = 2000
) -> float:
    """How alike two samples are: mean multi-scale structural similarity of random pairs.

    images: an ImageSet or (N, C, H, W), uint8 or float in [0, 1], 14 pixels or more; labels (N,)
    int64: pairs of one class only, and the mean over the classes with two or more samples -> float.
    High means little variety, 1 copies. It says nothing about quality: noise is dissimilar too, so
    look at the real images' value. As many of the five scales as leave 7 pixels; a negative
    contrast counts 0.  Wang et al. 2003, eq. 7; as a measure of variety Odena et al. 2017, section
    4.2; torchmetrics.
    """
    arguments.whole("pairs", pairs)
    x = as_images(images).cpu()
    if labels is None:
        groups = [torch.arange(len(x))]
    else:
        checks.one_each("labels", labels, len(x), "image")
        groups = [(labels.cpu() == c).nonzero()[:, 0] for c in labels.unique().tolist()]
    groups = [group for group in groups if len(group) > 1]
    if not groups:
        within = "" if labels is None else " within a class"
        raise ValueError(f"no two samples to compare{within}")
    generator = torch.Generator().manual_seed(0)
    each = math.ceil(pairs / len(groups))
    means = []
    for group in groups:
        first, second = random_pairs(len(group), each, generator)
        means.append(ms_ssim(x[group[first]], x[group[second]]).mean().item())
    return sum(means) / len(means)


def random_pairs(
    n: int, pairs: int, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Indices (pairs,) of two of n samples each, never one with itself."""
    first = torch.randint(0, n, (pairs,), generator=generator)
    step = torch.randint(1, n, (pairs,), generator=generator)
    return first, (first + step) % n


@torch.no_grad()
def ms_ssim(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Multi-scale structural similarity of each pair: a, b (N, C, H, W) in [0, 1] -> (N,)."""
    from torchmetrics.functional import image  # seconds to import

    side = min(a.shape[-2:])
    if side < 14:
        raise ValueError(f"images of {side} pixels leave no two scales: 14 or more are needed")
    weights = SCALE_WEIGHTS[: int(math.log2(side / 7)) + 1]
    betas = tuple(w / sum(weights) for w in weights)
    values = [
        image.multiscale_structural_similarity_index_measure(
            p, q, reduction="none", data_range=1.0, kernel_size=5, betas=betas
        )
        for p, q in zip(a.split(250), b.split(250))
    ]
    return torch.cat(values)
