"""Models run over images: means, seconds, sizes."""

from collections.abc import Callable

import torch
from torch import nn

from genmed_core import arguments, runtime
from genmed_core.metrics.images import Images, pixels


def mean_over(
    images: Images, fn: Callable[[torch.Tensor], torch.Tensor], *, batch_size: int = 1000,
    device: torch.device | str | None = None,
) -> float | torch.Tensor:
    """Mean of fn(x) -> (B,) or (B, k) over every image, the short last batch weighted rightly.

    images: ImageSet or uint8 (N, 1, H, W); x is float in [0, 1] on `device` -> float, or (k,).
    """
    arguments.whole("batch_size", batch_size)
    data = pixels(images)
    if not len(data):
        raise ValueError("no images to take a mean over")
    device = runtime.device() if device is None else torch.device(device)
    total = torch.tensor(0.0, dtype=torch.float64)
    with torch.no_grad():
        for part in data.split(batch_size):
            x = part.to(device)
            x = x.float() / 255 if x.dtype == torch.uint8 else x
            total = total + fn(x).sum(0).double()
    mean = total / len(data)
    return mean.item() if mean.ndim == 0 else mean.cpu()


def timed_samples(draw: Callable[[], torch.Tensor]) -> tuple[torch.Tensor, float]:
    """Call draw() -> images (N, ...), and say how long one took, the device waited for.

    -> (images, seconds per image).
    """
    begin = runtime.clock()
    x = draw()
    if not len(x):
        raise ValueError("draw() gave no image: nothing to time")
    if x.device.type == "cuda":
        torch.cuda.synchronize(x.device)
    return x, (runtime.clock() - begin) / len(x)


def parameter_count(model: nn.Module) -> int:
    """Number of trainable parameters."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
