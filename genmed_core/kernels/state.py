"""What a training step changes: weights, their average, optimiser moments, logs, noise."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from genmed_core.kernels import shares
from genmed_core.kernels.batches import Batches
from genmed_core.kernels.losses import Logs

Tensors = dict[str, torch.Tensor]


class Meter:
    """Means of logged values; they add up on the device and are read once per report."""

    def __init__(self, device: torch.device):
        self.device = device
        self.sums: Tensors = {}
        self.counts: dict[str, float] = {}
        self._owners: dict[str, int] = {}

    def add(self, logs: Logs, owner: int = 0, weight: float = 1.0) -> None:
        """Count each value with this weight. Raises ValueError for a name of another owner's."""
        for name, value in logs.items():
            if self._owners.setdefault(name, owner) != owner:
                raise ValueError(f"two updates log {name!r}: give their values names of their own")
            if name not in self.sums:
                self.sums[name] = torch.zeros((), device=self.device)
            if isinstance(value, torch.Tensor):
                value = value.detach()
            self.sums[name] += value if weight == 1 else value * weight
            self.counts[name] = self.counts.get(name, 0.0) + weight

    def read(self) -> dict[str, float]:
        """The means since the last reading; the one place that waits for the device."""
        names = [name for name, count in self.counts.items() if count]
        if not names:
            return {}
        means = torch.stack([self.sums[name] / self.counts[name] for name in names])
        values = shares.average(means).tolist()
        for name in self.sums:
            self.sums[name].zero_()
        self.counts = dict.fromkeys(self.counts, 0.0)
        return dict(zip(names, values))

    def state_dict(self) -> dict[str, Any]:
        return {"sums": copy.deepcopy(self.sums), "counts": dict(self.counts)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        kept = {k: v.to(self.device) for k, v in state["sums"].items()}
        for name in self.sums.keys() | kept.keys():
            total = self.sums.setdefault(name, torch.zeros((), device=self.device))
            total.copy_(kept.get(name, torch.zeros(())))
        self.counts = dict(state["counts"])


class MovingAverage:
    """An exponential moving average of a model's weights, in `module`; buffers are the model's.

    The decay of step i is min(decay, (1 + i) / (10 + i)), so that early weights count little.
    torch's AveragedModel asks the device at every update whether it is the first one, for which a
    captured graph cannot wait.
    """

    def __init__(self, model: nn.Module, decay: float):
        self.decay = decay
        self.module = copy.deepcopy(model).requires_grad_(False)

    @torch.no_grad()
    def update(self, model: nn.Module, step: int | torch.Tensor) -> None:
        """Take in the weights after step number `step`, counted from 1; a tensor inside a graph."""
        averaged: list[torch.Tensor] = list(self.module.parameters())
        current: list[torch.Tensor] = list(model.parameters())
        warm = (1 + step) / (10 + step)
        if isinstance(warm, torch.Tensor):  # a weight on the device, which lerp would read back
            change = list(torch._foreach_sub(current, averaged))
            torch._foreach_mul_(change, 1 - warm.clamp(max=self.decay))
            torch._foreach_add_(averaged, change)
        else:
            torch._foreach_lerp_(averaged, current, 1 - min(self.decay, warm))
        for kept, new in zip(self.module.buffers(), model.buffers()):
            kept.copy_(new)


# --- noise ------------------------------------------------------------------------------------


class NoiseStream:
    """The random numbers of a training: a stream of its own, carried by torch's generators.

    Each of several processes has another stream.
    """

    def __init__(self, seed: int, device: torch.device):
        self.device = device
        self.seed = seed
        self.flowing = False
        self._devices = [device] if device.type == "cuda" else []
        self.restart()

    def restart(self, step: int = 0) -> None:
        """Begin a fresh stream, of the seed, this process and a step."""
        with torch.random.fork_rng(devices=self._devices):
            place = step * shares.processes() + shares.rank()
            torch.manual_seed((self.seed + place * 0x9E3779B97F4A7C15) % 2**64)
            self._kept = get_noise(self.device)

    @contextmanager
    def flow(self) -> Iterator[None]:
        """Inside, torch's global generators carry on this stream; outside they are untouched."""
        if self.flowing:
            yield
            return
        with torch.random.fork_rng(devices=self._devices):
            set_noise(self._kept, self.device)
            self.flowing = True
            try:
                yield
            finally:
                self._kept = get_noise(self.device)
                self.flowing = False

    def state(self) -> Tensors:
        """Where the stream is."""
        return get_noise(self.device) if self.flowing else dict(self._kept)

    def go_to(self, state: Tensors) -> None:
        """Go on from there."""
        self._kept = dict(state)
        if self.flowing:
            set_noise(state, self.device)


def get_noise(device: torch.device) -> Tensors:
    """The states of torch's global generators of the processor and of this device."""
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def set_noise(state: Tensors, device: torch.device) -> None:
    """Put them back."""
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)


# --- the whole state --------------------------------------------------------------------------


class TrainingState:
    """All that a training step changes, with `snapshot` and `restore`.

    A snapshot is for going back in this process; a state_dict is for a file.
    """

    def __init__(self, model: nn.Module, optimizers: list[torch.optim.Optimizer], batches: Batches,
                 *, ema: float | None, seed: int):
        self.model, self.optimizers, self.batches = model, optimizers, batches
        self.average = MovingAverage(model, ema) if ema is not None else None
        self.logs = Meter(batches.device)
        self.noise = NoiseStream(seed, batches.device)
        self.count = 0

    def modules(self) -> dict[str, nn.Module]:
        """The model, and its moving average where there is one."""
        found = {"model": self.model}
        return found if self.average is None else found | {"average": self.average.module}

    def snapshot(self) -> dict[str, Any]:
        """Copies of all of it."""
        return {
            "count": self.count, "batches": self.batches.state_dict(),
            "logs": self.logs.state_dict(), "noise": self.noise.state(),
            "moments": [{p: copy.deepcopy(moments) for p, moments in o.state.items()}
                        for o in self.optimizers],
            **{name: {key: tensor.detach().clone() for key, tensor in module.state_dict().items()}
               for name, module in self.modules().items()},
        }

    def restore(self, kept: dict[str, Any]) -> bool:
        """Go back, in the same memory -> whether optimisers lost or gained memory by it."""
        for name, module in self.modules().items():
            for key, tensor in module.state_dict().items():
                tensor.copy_(kept[name][key])
        moved = [_put_back(o, old) for o, old in zip(self.optimizers, kept["moments"])]
        self.logs.load_state_dict(kept["logs"])
        self.batches.load_state_dict(kept["batches"])
        self.noise.go_to(kept["noise"])
        self.count = kept["count"]
        return any(moved)

    def not_finite(self) -> list[str]:
        """The names of weights, averages and moments that hold NaN or infinity."""
        named = [(f"{name} {key}", t) for name, module in self.modules().items()
                 for key, t in module.state_dict().items()]
        for o in self.optimizers:
            named += [(f"{type(o).__name__}'s {key}", t) for moments in o.state.values()
                      for key, t in moments.items() if isinstance(t, torch.Tensor)]
        named = [(name, t) for name, t in named if t.is_floating_point()]
        fine = [t.isfinite().all().to(self.batches.device) for _, t in named]
        if not fine or bool(torch.stack(fine).all()):  # one wait for the device
            return []
        return list(dict.fromkeys(name for (name, _), well in zip(named, fine) if not well))

    def identity(self) -> dict[str, Any]:
        """What another training must have alike, to go on from this one's state."""
        shapes = {name: list(t.shape) for name, t in self.model.state_dict().items()}
        trained = [[list(p.shape) for g in o.param_groups for p in g["params"]]
                   for o in self.optimizers]
        return self.batches.identity() | {
            "model": shapes, "optimizers": [type(o).__name__ for o in self.optimizers],
            "trained weights": trained, "moving average": self.average is not None,
            "seed of the noise": self.noise.seed,
        }

    def state_dict(self) -> dict[str, Any]:
        """All of it, as a file keeps it."""
        return copy.deepcopy({
            "count": self.count, "batches": self.batches.state_dict(),
            "logs": self.logs.state_dict(), "noise": self.noise.state(),
            "optimizers": [o.state_dict() for o in self.optimizers],
            **{name: module.state_dict() for name, module in self.modules().items()},
        })

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Take over a saved state, but none of its settings, such as learning rates."""
        for name, module in self.modules().items():
            module.load_state_dict(saved[name])
        for optimizer, old in zip(self.optimizers, saved["optimizers"], strict=True):
            groups = optimizer.state_dict()["param_groups"]
            optimizer.load_state_dict({"state": old["state"], "param_groups": groups})
        self.batches.load_state_dict(saved["batches"])
        self.logs.load_state_dict(saved["logs"])
        self.noise.go_to(saved["noise"])
        self.count = saved["count"]


def _put_back(optimizer: torch.optim.Optimizer,
              kept: dict[torch.Tensor, dict[str, Any]]) -> bool:
    """Make an optimiser's moments what they were -> whether their memory is other memory now.

    Moments that did not exist yet are taken away: optimisers differ in what they begin with.
    """
    same = optimizer.state.keys() == kept.keys()
    for p in [p for p in optimizer.state if p not in kept]:
        del optimizer.state[p]
    for p, moments in kept.items():
        now = optimizer.state[p]
        same = same and now.keys() == moments.keys()
        optimizer.state[p] = {key: _into(now.get(key), value) for key, value in moments.items()}
    return not same


def _into(now: Any, value: Any) -> Any:
    if isinstance(now, torch.Tensor) and isinstance(value, torch.Tensor):
        return now.copy_(value)
    return copy.deepcopy(value)
