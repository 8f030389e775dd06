"""What reads: networks of our own that judge images, and the features of all distances."""

import functools
from collections.abc import Hashable
from typing import Protocol

import torch

from genmed_core import arguments, runtime
from genmed_core.metrics.images import Images, as_images
from genmed_core.metrics.variety import class_shares
from genmed_core.metrics.weights import load_weights
from genmed_core.nets import DigitClassifier


class Reader(Hashable, Protocol):
    """What a report needs of the network that looks at images. Digits have ours, `DigitReader`."""

    shape: tuple[int, int, int]  # (C, H, W) of the images that it reads
    classes: int

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """Images (N, *shape) in [0, 1] -> (N, d) float32, on x's device."""

    def read(self, x: torch.Tensor) -> torch.Tensor:
        """Images (N, *shape) in [0, 1], or their features (N, d) -> probabilities (N, classes)."""


class DigitReader:
    """Our reader of digits; data/weights/README.md says how it was trained and how it reads."""

    shape = (1, 28, 28)
    classes = 10

    @torch.no_grad()
    def features(self, x: torch.Tensor, batch_size: int = 100) -> torch.Tensor:
        """What it sees just before it decides: x (N, 1, 28, 28) -> (N, 128) float32."""
        arguments.whole("batch_size", batch_size)
        layout = torch.channels_last  # twice as fast on a CPU; small batches stay in its cache
        network = digit_classifier(str(x.device)).to(memory_format=layout)
        parts = [torch.empty(0, 128, device=x.device)]
        with runtime.autocast(x.device):
            for part in x.split(batch_size):
                parts.append(network.features(part.contiguous(memory_format=layout)).float())
        return torch.cat(parts)

    @torch.no_grad()
    def read(self, x: torch.Tensor) -> torch.Tensor:
        """x (N, 1, 28, 28) in [0, 1], or its features (N, 128) -> probabilities (N, 10)."""
        seen = x if x.ndim == 2 else self.features(x)
        return digit_classifier(str(x.device)).head(seen).softmax(1)


DIGITS = DigitReader()


@functools.cache
def digit_classifier(device: str = "cpu") -> DigitClassifier:
    """The network of our reader of digits, loaded once for each device."""
    return load_weights(DigitClassifier(), "digit_classifier").to(device)


def read_digits(x: torch.Tensor) -> torch.Tensor:
    """Class probabilities that our classifier gives to images.

    x (N, 1, 28, 28) in [0, 1] -> (N, 10).
    """
    if x.ndim != 4 or x.shape[1:] != DIGITS.shape:
        raise ValueError(f"expected images (N, 1, 28, 28), got {tuple(x.shape)}")
    return DIGITS.read(x.float())


def digit_features(x: Images, batch_size: int = 100) -> torch.Tensor:
    """What our reader of digits sees just before it decides: the space of all distances.

    x: ImageSet, or images (N, 1, 28, 28), uint8 or float in [0, 1] -> (N, 128) float32, on x's
    device.
    """
    return DIGITS.features(as_images(x, DIGITS.shape), batch_size)


def class_coverage(
    x: Images, *, classes: int = 10, share: float = 0.03, reader: Reader = DIGITS
) -> dict:
    """How samples spread over the classes that a reader sees, as `class_shares` says it.

    x: images in [0, 1], or class numbers (N,) int64.
    """
    if isinstance(x, torch.Tensor) and x.ndim == 1:
        return class_shares(x, classes=classes, share=share)
    labels = reader.read(as_images(x, reader.shape)).argmax(1)
    return class_shares(labels, classes=classes, share=share)
