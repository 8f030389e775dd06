"""The learning rate over a training: schedules, and the rates that follow one."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

Schedule = Callable[[float], float]


def linear_decay(warmup: float = 0.05, flat: float = 0.0) -> Schedule:
    """Rise over the first `warmup` share of training, hold until `flat`, then fall linearly to 0.

    Returns a function of progress in [0, 1] that gives the factor on the learning rate. With
    flat=1 nothing falls. Raises ValueError for shares outside [0, 1].
    """
    _check_share("warmup", warmup)
    _check_share("flat", flat)
    start = max(warmup, flat)

    def factor(progress: float) -> float:
        if progress < warmup:
            return progress / warmup
        return 1.0 if progress <= start else (1 - progress) / (1 - start)

    return factor


def cosine_decay(warmup: float = 0.05) -> Schedule:
    """Rise over the first `warmup` share of training, then fall to 0 along half a cosine.

    With warmup=1 nothing falls. Raises ValueError for a share outside [0, 1].
    """
    _check_share("warmup", warmup)

    def factor(progress: float) -> float:
        if progress < warmup:
            return progress / warmup
        fallen = (progress - warmup) / (1 - warmup) if warmup < 1 else 0.0
        return 0.5 * (1 + math.cos(math.pi * fallen))

    return factor


def _check_share(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f"{name}={value}: give a share of the training, from 0 to 1")


class LearningRates:
    """The rates of a step's optimisers: base rates times the schedule's factor.

    A rate that the reader sets by hand, `optimizer.param_groups[0]["lr"] = 1e-4`, is the new base
    rate from the next run on.
    """

    def __init__(self, optimizers: Sequence[torch.optim.Optimizer], schedule: Schedule | None):
        self.optimizers, self.schedule = optimizers, schedule
        self.base = [float(group["lr"]) for group in self.groups]
        self._last = list(self.base)  # what stands in the groups, unless somebody has set another
        self.reset()

    @property
    def groups(self) -> list[dict[str, Any]]:
        """The optimisers' groups of parameters; loading a state replaces them."""
        return [group for o in self.optimizers for group in o.param_groups]

    def notice_changes(self) -> bool:
        """Take over what has been set by hand since the last step -> whether something was."""
        changed = False
        for number, group in enumerate(self.groups):
            if isinstance(group["lr"], torch.Tensor):  # a captured step's own
                continue
            if group["lr"] != self._last[number]:
                self.base[number] = self._last[number] = float(group["lr"])
                changed = True
        return changed

    def factor(self, step: int, total: int) -> float:
        """The schedule's factor for the step of this number, from 0, of `total`."""
        if self.schedule is None:
            return 1.0
        return max(0.0, self.schedule(min(1.0, step / max(1, total))))

    def apply(self, step: int, total: int) -> None:
        """Set the rates of the step of this number."""
        if self.schedule is None:
            return
        factor = self.factor(step, total)
        for number, (group, base) in enumerate(zip(self.groups, self.base)):
            group["lr"] = self._last[number] = base * factor

    def reset(self) -> None:
        """Put the base rates into the groups."""
        for group, base in zip(self.groups, self.base):
            group["lr"] = base
        self._last = list(self.base)
