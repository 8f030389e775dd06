"""One training step: each player's loss, gradient and optimiser in turn, then the moving average.

`TrainStep.take_step` is the step, in plain lines. `modes` decides whether it runs operation by
operation, compiled, or replayed from a CUDA graph.
"""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from genmed_core.kernels import shares
from genmed_core.kernels.batches import Batch, Batches
from genmed_core.kernels.losses import Logs, check_result
from genmed_core.kernels.modes import MODES, Mode
from genmed_core.kernels.schedules import LearningRates, Schedule
from genmed_core.kernels.state import TrainingState
from genmed_core.kernels.threads import StepThreads

LossFunction = Callable[[Batch], tuple[torch.Tensor, Logs]]
Optimizers = torch.optim.Optimizer | Sequence[torch.optim.Optimizer]


@dataclass
class Update:
    """One player's part of a training step: a loss, its optimiser, and what follows.

    repeats: optimiser steps in each training step, every one on a fresh batch (a WGAN critic takes
    five). clip_norm: largest norm of the gradient. after: called after each optimiser step (to
    clip weights, say). Only the optimiser's own parameters receive gradients, so players need not
    be frozen by hand. Raises TypeError and ValueError for what cannot be meant.
    """

    loss_fn: LossFunction
    optimizer: Optimizers
    repeats: int = 1
    clip_norm: float | None = None
    after: Callable[[], None] | None = None

    def __post_init__(self) -> None:
        if not callable(self.loss_fn):
            raise TypeError(f"loss_fn={self.loss_fn!r}: give a function of a batch")
        if not self.optimizers or not all(
                isinstance(o, torch.optim.Optimizer) for o in self.optimizers):
            raise TypeError(f"optimizer={self.optimizer!r}: give an optimizer of torch, or several")
        if any(isinstance(o, torch.optim.LBFGS) for o in self.optimizers):
            raise ValueError("LBFGS computes the loss several times in a step, which a training "
                             "step here does not: choose another optimizer")
        if type(self.repeats) is not int or self.repeats < 1:
            raise ValueError(f"repeats={self.repeats!r}: give a whole number, 1 or more")
        if self.clip_norm is not None and not self.clip_norm > 0:
            raise ValueError(f"clip_norm={self.clip_norm}: give a positive norm, or None to clip "
                             "nothing")

    @property
    def optimizers(self) -> list[torch.optim.Optimizer]:
        one = isinstance(self.optimizer, torch.optim.Optimizer)
        return [self.optimizer] if one else list(self.optimizer)  # type: ignore[list-item,arg-type]

    @property
    def parameters(self) -> list[nn.Parameter]:
        groups = [group for o in self.optimizers for group in o.param_groups]
        return [p for group in groups for p in group["params"]]

    @property
    def plain_loss(self) -> LossFunction:
        """The loss function, also where several processes share it."""
        return getattr(getattr(self.loss_fn, "module", None), "loss_fn", self.loss_fn)


class TrainStep:
    """A chapter's training step, run in one of several modes.

    loss_fn: a loss function, whose optimiser is `optimizer`, or one or several `Update`s, taken in
    turn. model: the module, or a dict of modules, that training changes: saved, restored and
    averaged as a whole. schedule: factor on every learning rate as a function of progress in
    [0, 1] (`linear_decay()`, ...). ema: decay of an exponential moving average of the weights,
    kept in `ema_model`. clip_norm: largest norm of the gradient, of a single loss.
    mode: "eager" always works; "compile" is torch.compile; "graph" replays a captured CUDA graph
    of `steps_per_launch` steps; "auto" is graph on a GPU, else eager. What cannot be compiled or
    captured is run eagerly, and a sentence says so. Under torchrun each process takes its share of
    every batch, eagerly, and gradients are averaged (`genmed_core.distributed`).
    seed: of the noise drawn inside the loss function, a stream of its own. threads: processor
    threads of a step; None chooses by timing, where GENMED_THREADS is not set, and then the last
    digits of sums may differ from run to run.
    Raises TypeError and ValueError for settings that do not fit each other.
    """

    def __init__(self, loss_fn: LossFunction | Update | Sequence[Update],
                 optimizer: Optimizers | None = None, *, batches: Batches,
                 model: nn.Module | dict[str, nn.Module], schedule: Schedule | None = None,
                 ema: float | None = None, clip_norm: float | None = None, mode: str = "auto",
                 steps_per_launch: int = 8, seed: int = 0, threads: int | None = None):
        _check_settings(mode, ema, schedule, steps_per_launch, threads)
        self.updates = _as_updates(loss_fn, optimizer, clip_norm)
        self.batches, self.device = batches, batches.device
        self.model = nn.ModuleDict(model) if isinstance(model, dict) else model
        _check_model(self.model, self.updates, self.device)
        self.optimizers = [o for u in self.updates for o in u.optimizers]
        self.rates = LearningRates(self.optimizers, schedule)
        self.state = TrainingState(self.model, self.optimizers, batches, ema=ema, seed=seed)
        self.logs, self.average = self.state.logs, self.state.average
        self.total, self.steps_per_launch = 1, steps_per_launch  # fit sets the total
        self.parts = 1  # that a batch is taken in
        self.found_mean: set[int] = set()  # updates whose losses are known to be means
        self.history: Any = None  # of `train.fit`
        if shares.processes() > 1:
            self.updates = _shared(self.updates, self.model)
        self.running = self._choose(mode)
        alone = self.device.type == "cpu" and self.mode == "eager" and shares.processes() == 1
        self.threads_used = StepThreads(self.model, threads, governed=alone)

    @property
    def ema_model(self) -> nn.Module:
        """The moving average of the model, for sampling; the model itself without `ema`."""
        return self.model if self.average is None else self.average.module

    @property
    def mode(self) -> str:
        """The name of the mode that steps run in now."""
        return self.running.name

    @property
    def threads(self) -> int:
        """Processor threads of the next step."""
        return self.threads_used.number

    @property
    def batches_per_step(self) -> int:
        return sum(u.repeats for u in self.updates)

    @property
    def images_per_step(self) -> int:
        return self.batches.batch_size * self.batches_per_step

    # --- taking steps -------------------------------------------------------------------------

    def run(self, steps: int, should_stop: Callable[[], bool] = lambda: False) -> int:
        """Take `steps` training steps -> how many: fewer where `should_stop()` turns true."""
        __tracebackhide__ = True
        done = 0
        if self.rates.notice_changes():
            self.running.rebuild()
        with self.state.noise.flow(), self.threads_used:
            while done < steps and not should_stop():
                done += self.running.advance(steps - done)
        return done

    def take_step(self, index: torch.Tensor) -> None:
        """One training step: every update in turn on batches of its own, then the average.

        index (batches per step, B) int64: which images each batch holds.
        """
        __tracebackhide__ = True
        next_batch = iter(index)
        for number, update in enumerate(self.updates):
            loss_fn = self.running.loss(update)
            # with two players, the gradients of the other one's weights are not computed
            trained = update.parameters if len(self.updates) > 1 else None
            for _ in range(update.repeats):
                for optimizer in update.optimizers:
                    optimizer.zero_grad(set_to_none=True)
                for images, weight in shares.of_batch(self, update, next(next_batch)):
                    loss, logs = check_result(loss_fn(self.batches.gather(images)))
                    weighted = loss if weight == 1 else loss * weight
                    weighted.backward(inputs=trained)
                    if len(self.updates) == 1:
                        logs = {"loss": loss, **logs}
                    self.logs.add(logs, number, weight)
                if update.clip_norm is not None:
                    nn.utils.clip_grad_norm_(update.parameters, update.clip_norm)
                for optimizer in update.optimizers:
                    self.running.move(optimizer)
                if update.after is not None:
                    with torch.no_grad():
                        update.after()
        if self.average is not None:
            self.average.update(self.model, self.running.number())

    def read_logs(self) -> dict[str, float]:
        """Means of the logged values since the last reading; waits for the device."""
        return self.logs.read()

    def halve(self) -> None:
        """Take each batch in twice as many parts and average their gradients.

        Raises RuntimeError, naming the setting to change, where that would be another step.
        """
        where = f"out of memory on {self.device} at batch_size={self.batches.batch_size}"
        if why := shares.why_whole(self):
            raise RuntimeError(f"{where}: give Batches a smaller batch_size and run the cell "
                               f"again. The batch cannot be taken in parts, since {why}.")
        self.parts *= 2
        self._become("eager")
        print(f"note: {where}; each batch now passes in {self.parts} parts, eagerly. Their "
              "gradients are averaged, and each part draws its own noise.")

    # --- modes --------------------------------------------------------------------------------

    def _choose(self, mode: str) -> Mode:
        auto = mode == "auto"
        if auto:
            mode = "graph" if self.device.type == "cuda" else "eager"
        if why := MODES[mode].obstacle(self):
            if not auto:
                print(f"note: {why}; running eagerly, which gives the same result.")
            mode = "eager"
        return MODES[mode](self)

    def _become(self, mode: str) -> None:
        self.running.release()
        self.running = MODES[mode](self)

    def fall_back(self, why: str) -> None:
        """Run eagerly from now on, and say why."""
        self._become("eager")
        print(f"note: {why}; running eagerly, which gives the same result.")

    # --- saving -------------------------------------------------------------------------------

    @property
    def count(self) -> int:
        """Steps taken."""
        return self.state.count

    @torch.no_grad()
    def restore(self, kept: dict[str, Any]) -> None:
        """Go back to what `state.snapshot()` kept."""
        if self.state.restore(kept):
            self.running.rebuild()

    def identity(self) -> dict[str, Any]:
        """What a checkpoint must agree with, so that going on from it continues this training."""
        return self.state.identity() | {"repeats": [u.repeats for u in self.updates]}

    def state_dict(self) -> dict[str, Any]:
        """All that decides how training goes on: a resumed run equals an uninterrupted one."""
        return self.state.state_dict()

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Go on from a saved state, with this step's own learning rates and other settings."""
        self.rates.reset()
        self.state.load_state_dict(saved)
        self.running.rebuild()


# --- helpers ----------------------------------------------------------------------------------


def _as_updates(loss_fn: Any, optimizer: Optimizers | None,
                clip_norm: float | None) -> list[Update]:
    """One loss with its optimiser, an update, or several -> updates."""
    if isinstance(loss_fn, Update):
        loss_fn = [loss_fn]
    if callable(loss_fn):
        if optimizer is None:
            raise ValueError("give the optimizer that goes with the loss function")
        return [Update(loss_fn, optimizer, clip_norm=clip_norm)]
    for name, value in (("optimizer", optimizer), ("clip_norm", clip_norm)):
        if value is not None:
            raise ValueError(f"{name}= goes with a single loss function: give it to each Update")
    updates = list(loss_fn)
    if not updates or not all(isinstance(u, Update) for u in updates):
        raise TypeError("give a loss function, an Update, or a list of Updates")
    return updates


def _check_settings(mode: str, ema: float | None, schedule: Any, steps_per_launch: int,
                    threads: int | None) -> None:
    if mode != "auto" and mode not in MODES:
        raise ValueError(f"mode={mode!r}: choose one of auto, {', '.join(MODES)}")
    if ema is not None and not 0 < ema < 1:
        raise ValueError(f"ema={ema}: give a decay between 0 and 1, such as 0.999, or None")
    if schedule is not None and not callable(schedule):
        raise TypeError(f"schedule={schedule!r}: give a function of progress, as linear_decay()")
    for name, value in (("steps_per_launch", steps_per_launch), ("threads", threads)):
        if value is not None and (type(value) is not int or value < 1):
            raise ValueError(f"{name}={value!r}: give a whole number, 1 or more")


def _check_model(model: Any, updates: list[Update], device: torch.device) -> None:
    """Refuse what would train nothing, or elsewhere than where the data is."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"model is a {type(model).__name__}: give the nn.Module that is trained, "
                        "or a dict of them")
    for name, p in model.named_parameters():
        if p.device.type != device.type:
            raise ValueError(f"parameter {name} is on {p.device}, the data on {device}: move the "
                             f"model with model.to({str(device)!r}) before making its optimizer")
    known = {id(p) for p in model.parameters()}
    if any(id(p) not in known for update in updates for p in update.parameters):
        raise ValueError("an optimizer holds weights that are not the model's: make it anew from "
                         "the model's parameters, or name its network too, as in "
                         "model={'G': G, 'D': D}")


def _shared(updates: list[Update], model: nn.Module) -> list[Update]:
    """The updates with losses whose gradients several processes average."""
    if shares.normalises_batches(model):
        print("note: batch normalisation here takes its mean and variance over each process's "
              "share of a batch.")
    wrap = nn.parallel.DistributedDataParallel
    return [dataclasses.replace(u, loss_fn=wrap(shares.SharedLoss(u.loss_fn, u.parameters)))
            for u in updates]
