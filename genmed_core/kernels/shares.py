"""Shares of a batch: the images that one of several processes takes, or parts of a batch too large.

Each share draws its own noise from its own stream, as data-parallel training does everywhere. The
gradients of shares are averaged, which is the whole batch's gradient where the loss is a mean over
the batch; `check_mean` refuses another.
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import distributed, nn

if TYPE_CHECKING:
    from genmed_core.kernels.step import TrainStep, Update

T = TypeVar("T")
DRAWS = 16  # of the noise in a loss, before it is judged; 7 standard errors are a chance of 1e-5


def split(start: int, stop: int, count: int) -> list[tuple[int, int]]:
    """The range start..stop in `count` parts, as equal as can be."""
    edges = [start + (stop - start) * i // count for i in range(count + 1)]
    return list(zip(edges, edges[1:]))


def of_batch(step: TrainStep, update: Update,
             index: torch.Tensor) -> list[tuple[torch.Tensor, float]]:
    """The images of a batch that this process takes, part by part, each with its weight.

    Raises ValueError where there are several shares and the loss is no mean over the batch.
    """
    if step.parts == 1 and processes() == 1:
        return [(index, 1.0)]
    if not step.batches.sharded:
        first, last = split(0, len(index), processes())[rank()]
        index = index[first:last]
    parts = [(index[i:j], (j - i) / len(index)) for i, j in split(0, len(index), step.parts)]
    if id(update) not in step.found_mean:
        check_mean(step, update, parts[0][0])
        step.found_mean.add(id(update))
    return parts


def why_whole(step: TrainStep) -> str | None:
    """Why a batch cannot be taken in twice as many parts, in a clause; None where it can."""
    if step.batches_per_step > 1:
        return "several updates take turns in a step"
    if normalises_batches(step.model):
        return "batch normalisation needs the whole batch at once"
    if processes() > 1:
        return "several processes share it already"
    if 2 * step.parts > step.batches.batch_size:
        return "even single images are too large"
    return None


def check_mean(step: TrainStep, update: Update, index: torch.Tensor) -> None:
    """Refuse a loss that is no mean over the batch, where gradients of shares are averaged.

    The loss of the images `index` (B,) is held against the mean over its two halves, with several
    draws of noise for each. Training goes on as if nothing had been computed. Raises ValueError.
    """
    if len(index) < 2:
        return
    before = step.state.snapshot()
    halves = [index[start:stop] for start, stop in split(0, len(index), 2)]
    differences, wholes = [], []
    try:
        for _ in range(DRAWS):
            whole = _value(step, update, index)
            parts = [_value(step, update, half) * len(half) / len(index) for half in halves]
            wholes.append(whole)
            differences.append(whole - sum(parts))
    finally:
        step.state.restore(before)
    off, size = abs(fmean(differences)), abs(fmean(wholes))
    error = stdev(differences) / DRAWS**0.5
    if off > 7 * error + 1e-3 * size:
        raise ValueError(
            f"the loss is no mean over the batch: on {len(index)} images it is "
            f"{fmean(wholes):.4g}, the mean of its two halves "
            f"{fmean(wholes) - fmean(differences):.4g}. A batch can be shared or taken in parts "
            "only with a mean: write .mean() for .sum(), or choose a batch_size that fits.")


def _value(step: TrainStep, update: Update, index: torch.Tensor) -> float:
    loss, _ = update.plain_loss(step.batches.gather(index))
    return float(loss.detach())


def normalises_batches(model: nn.Module) -> bool:
    """Whether the model holds batch normalisation, whose statistics are those of a share."""
    return any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in model.modules())


# --- several processes ------------------------------------------------------------------------


def processes() -> int:
    """How many processes train together (torchrun starts them); 1 outside a process group."""
    together = distributed.is_available() and distributed.is_initialized()
    return distributed.get_world_size() if together else 1


def rank() -> int:
    """The number of this process, from 0."""
    return distributed.get_rank() if processes() > 1 else 0


def average(values: torch.Tensor) -> torch.Tensor:
    """The mean of a tensor over all processes."""
    if processes() == 1:
        return values
    values = values.clone()
    distributed.all_reduce(values)
    return values / processes()


def anywhere(flag: bool, device: torch.device | str = "cpu") -> bool:
    """Whether the flag is set in any process: all of them must ask."""
    if processes() == 1:
        return flag
    return bool(average(torch.tensor(float(flag), device=device)) > 0)


def from_first(value: T) -> T:
    """The first process's value, in every process; what the others pass is not looked at."""
    box = [value]
    if processes() > 1:
        distributed.broadcast_object_list(box)
    return box[0]


class SharedLoss(nn.Module):
    """A loss and the parameters it trains, as the module that DistributedDataParallel wants.

    Its hooks average the gradients of these parameters over all processes while the backward pass
    still runs, and its making gives every process the weights of the first.
    """

    def __init__(self, loss_fn: Callable[..., Any], parameters: list[nn.Parameter]):
        super().__init__()
        self.loss_fn = loss_fn
        self.learned = nn.ParameterList(parameters)

    def forward(self, batch: Any) -> Any:
        return self.loss_fn(batch)
