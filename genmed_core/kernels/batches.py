"""Batches from a data set that lives on the device, shuffled and gathered there."""

import zlib
from collections.abc import Callable
from numbers import Integral
from typing import Any, NamedTuple

import torch

from genmed_core import runtime
from genmed_core.kernels import shares

FINGERPRINTED = 256 << 20  # bytes: of a larger data set evenly spaced images stand for all


class Batch(NamedTuple):
    """What a loss function receives: images x (B, C, H, W) float in [0, 1], labels y (B,) int64."""

    x: torch.Tensor
    y: torch.Tensor


class Batches:
    """An endless stream of shuffled batches from a data set that lives on the device.

    images: an ImageSet, or images (N, C, H, W) or (N, H, W) as a tensor or array: bytes (scaled to
    [0, 1] as they are gathered) or float (used as they are, for latents). labels (N,): whole
    numbers. `transform` maps x (B, C, H, W) to x on the device, for binarising or augmenting.
    Every epoch is a fresh permutation from its own generator, so the order of the data does not
    depend on the model; the incomplete last batch of an epoch is left out.
    sharded: each of several processes keeps only its own share of the images and shuffles within
    it, for a data set that does not fit on one device; `batch_size` is that of the whole batch.
    Raises TypeError and ValueError for what does not fit.
    """

    def __init__(self, images: Any, labels: Any = None, *, batch_size: int,
                 device: torch.device | str | None = None, seed: int = 0,
                 transform: Callable[[torch.Tensor], torch.Tensor] | None = None,
                 sharded: bool = False):
        if hasattr(images, "images"):
            images, labels = images.images, images.labels if labels is None else labels
        images = _as_images(images)
        labels = _as_labels(labels, len(images))
        world = shares.processes()
        _check_batch_size(batch_size, len(images), world)
        self.device = _indexed(torch.device(device) if device else runtime.device())
        self.sharded = sharded and world > 1
        if self.sharded:  # equal shares, so that one permutation serves every process
            own = slice(shares.rank(), len(images) // world * world, world)
            images, labels = images[own], labels[own]
        self.images, self.labels = images.to(self.device), labels.to(self.device)
        self.batch_size, self.transform, self.seed = batch_size, transform, seed
        self._size = batch_size // world if self.sharded else batch_size  # on this device
        self._generator = torch.Generator(self.device).manual_seed(seed)
        self._order: torch.Tensor | None = None
        self._position = 0
        self._fingerprint: str | None = None

    def __len__(self) -> int:
        """Batches in one epoch."""
        return len(self.images) // self._size

    def take(self, count: int) -> torch.Tensor:
        """Which images the next `count` batches hold, (count, B) int64 on the device.

        B is the batch size, or this process's share of it if sharded.
        """
        taken = []
        while count:
            if self._order is None or self._position == len(self):
                self._order = torch.randperm(len(self.images), generator=self._generator,
                                             device=self.device)
                self._position = 0
            n = min(count, len(self) - self._position)
            start = self._position * self._size
            taken.append(self._order[start : start + n * self._size].view(n, self._size))
            self._position += n
            count -= n
        return taken[0] if len(taken) == 1 else torch.cat(taken)

    def gather(self, index: torch.Tensor) -> Batch:
        """The batch of the images that `index` (B,) int64 names."""
        x = self.images.index_select(0, index)
        if x.dtype == torch.uint8:
            # one pass on a GPU; a processor is quicker in two, to the same bits
            x = x.float().div_(255) if x.device.type == "cpu" else x / 255
        if self.transform is not None:
            x = self.transform(x)
        return Batch(x, self.labels.index_select(0, index))

    def next(self) -> Batch:
        """The next batch: what a hand-written training loop would ask for."""
        return self.gather(self.take(1)[0])

    def identity(self) -> dict[str, Any]:
        """What a checkpoint must agree with, to go on with the same stream of batches."""
        if self._fingerprint is None:
            self._fingerprint = _fingerprint(self.images, self.labels)
        return {"number of images": len(self.images), "image shape": list(self.images.shape[1:]),
                "images": self._fingerprint, "batch_size": self.batch_size,
                "seed of the batches": self.seed, "sharded": self.sharded}

    def state_dict(self) -> dict[str, Any]:
        """Where the stream is."""
        order = None if self._order is None else self._order.cpu()
        return {"order": order, "position": self._position,
                "generator": self._generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there. Raises ValueError for the state of another data set."""
        order = state["order"]
        if order is not None and len(order) != len(self.images):
            raise ValueError(f"this state was saved with {len(order)} images, "
                             f"the data set has {len(self.images)}")
        self._order = None if order is None else order.to(self.device)
        self._position = state["position"]
        self._generator.set_state(state["generator"])


def _as_images(images: Any) -> torch.Tensor:
    """Images of any kind -> (N, C, H, W), bytes or float. Raises TypeError and ValueError."""
    images = torch.as_tensor(images)
    if images.ndim == 3:
        images = images[:, None]
    if images.ndim != 4:
        raise ValueError(f"images {tuple(images.shape)}: expected (N, C, H, W) or (N, H, W)")
    if not len(images):
        raise ValueError("there are no images: the data set is empty")
    if images.is_floating_point():
        if not images.isfinite().all():
            raise ValueError("the images hold NaN or infinity: the model that made them diverged")
        return images
    if images.dtype == torch.bool or images.is_complex():
        raise TypeError(f"images are {images.dtype}: give bytes (0 to 255) or float in [0, 1]")
    if images.dtype != torch.uint8:  # bytes in a wider type, as numpy's arithmetic leaves them
        low, high = (int(v) for v in images.long().aminmax())
        if low < 0 or high > 255:
            raise TypeError(f"images are {images.dtype} from {low} to {high}: give bytes "
                            "(0 to 255) or float in [0, 1], for instance images / images.max()")
        images = images.to(torch.uint8)
    return images


def _as_labels(labels: Any, count: int) -> torch.Tensor:
    if labels is None:
        return torch.zeros(count, dtype=torch.int64)
    labels = torch.as_tensor(labels)
    if labels.shape != (count,):
        raise ValueError(f"labels {tuple(labels.shape)}: expected ({count},), one for each image")
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise TypeError(f"labels are {labels.dtype}: give whole numbers, labels.long()")
    return labels.long()


def _check_batch_size(batch_size: Any, count: int, world: int) -> None:
    if not isinstance(batch_size, Integral) or isinstance(batch_size, bool):
        raise TypeError(f"batch_size={batch_size!r}: give a whole number of images")
    if not 1 <= int(batch_size) <= count:
        raise ValueError(f"batch_size={batch_size} does not fit {count} images: "
                         f"choose 1 to {count}")
    if int(batch_size) % world:
        raise ValueError(f"batch_size={batch_size} cannot be shared by {world} processes: "
                         "choose a multiple")


def _fingerprint(images: torch.Tensor, labels: torch.Tensor) -> str:
    """A checksum by which a checkpoint knows its data set."""
    size = images.element_size() * images[0].numel()
    step = max(1, len(images) * size // FINGERPRINTED)
    some = images[::step].cpu().contiguous().flatten()
    pixels = zlib.crc32(some.view(torch.uint8).numpy().data)
    return f"{zlib.crc32(labels.cpu().numpy().data, pixels):08x}"


def _indexed(device: torch.device) -> torch.device:
    """The device with its number, so that devices compare equal."""
    if device.type == "cuda" and device.index is None:
        return torch.device("cuda", torch.cuda.current_device())
    return device
