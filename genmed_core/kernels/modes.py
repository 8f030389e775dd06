"""How training steps are run: eagerly, compiled, or replayed from a captured CUDA graph.

A mode is a subclass of `Mode` with a name; `TrainStep(mode=name)` finds it by that. All run the
same step, `TrainStep.take_step`, on the same state, which has `snapshot` and `restore`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import torch
from torch import nn

from genmed_core import runtime
from genmed_core.errors import first_line
from genmed_core.kernels import cuda_graphs, shares
from genmed_core.kernels.losses import LossError
from genmed_core.kernels.muon import quick_products

if TYPE_CHECKING:
    from genmed_core.kernels.step import TrainStep, Update

MODES: dict[str, type[Mode]] = {}


class Mode:
    """Takes a training's steps. A subclass with a `name` is a mode."""

    name: ClassVar[str] = ""

    def __init_subclass__(cls) -> None:
        if cls.name:
            MODES[cls.name] = cls

    def __init__(self, step: TrainStep):
        self.step = step

    @classmethod
    def obstacle(cls, step: TrainStep) -> str | None:
        """Why this mode cannot run here, in a clause; None where it can."""
        return None

    def advance(self, most: int) -> int:
        """Take one step, or up to `most` where they go together -> how many."""
        raise NotImplementedError

    def loss(self, update: Update) -> Callable[..., Any]:
        """The function that computes an update's loss."""
        return update.loss_fn

    def move(self, optimizer: torch.optim.Optimizer) -> None:
        """One step of an optimiser."""
        with quick_products(optimizer):
            optimizer.step()

    def number(self) -> int | torch.Tensor:
        """The number of the step that is being taken, from 1."""
        return self.step.count + 1

    def rebuild(self) -> None:
        """Forget what was prepared for the former state or learning rates."""

    def release(self) -> None:
        """Leave the step as an eager one needs it."""


class Eager(Mode):
    """One operation after the other: always works."""

    name = "eager"

    def advance(self, most: int) -> int:
        __tracebackhide__ = True
        step = self.step
        step.threads_used.apply()
        begin = time.perf_counter()
        step.rates.apply(step.count, step.total)
        step.take_step(step.batches.take(step.batches_per_step))
        step.threads_used.tell(time.perf_counter() - begin)
        step.state.count += 1
        return 1


class Compiled(Eager):
    """Losses compiled by torch.compile; where one cannot be, those networks that can.

    The first step finds out what can be compiled. Every attempt begins from the same state and the
    same noise; the last one is the step that counts.
    """

    name = "compile"

    def __init__(self, step: TrainStep):
        super().__init__(step)
        runtime.has_fast_bf16()  # before a compiler follows a loss into it
        self.losses = {id(u): _compile(u.loss_fn) for u in step.updates}
        self.forwards: dict[str, Callable[..., Any]] = {}  # network -> its compiled forward
        self._tried = False

    @classmethod
    def obstacle(cls, step: TrainStep) -> str | None:
        if shares.processes() > 1:
            return "several processes average their gradients between the operations of a step"
        return None

    def loss(self, update: Update) -> Callable[..., Any]:
        return self.losses.get(id(update), update.loss_fn)

    def advance(self, most: int) -> int:
        __tracebackhide__ = True
        if self._tried:
            with _replaced_forwards(self._networks(), self.forwards):
                return super().advance(most)
        self._tried = True
        index = self.step.batches.take(self.step.batches_per_step)
        self.step.rates.apply(self.step.count, self.step.total)
        self._first(index)
        self.step.state.count += 1
        return 1

    def _networks(self) -> dict[str, nn.Module]:
        model = self.step.model
        if isinstance(model, nn.ModuleDict):
            return dict(model.named_children())
        return {"model": model}

    def _first(self, index: torch.Tensor) -> None:
        """The first step: by whole losses; else by those networks that compile; else eagerly."""
        before = self.step.state.snapshot()
        why = self._attempt(index)
        if why is None:
            return
        self.losses = {}
        able = {}
        for name, network in self._networks().items():
            forward = _compile(network.forward)
            self.step.restore(before)
            self.forwards = {name: forward}
            if self._attempt(index) is None:
                able[name] = forward
        self.step.restore(before)
        self.forwards = able
        if able and self._attempt(index) is None:
            self._say_which(why)
            return
        self.step.restore(before)
        self.forwards = {}
        self.step.take_step(index)  # what is wrong with the loss itself is raised here
        self.step.fall_back(f"torch.compile cannot handle this loss ({why})")

    def _attempt(self, index: torch.Tensor) -> str | None:
        """Take a step -> why a compiler could not, or None."""
        try:
            with _replaced_forwards(self._networks(), self.forwards):
                self.step.take_step(index)
        except (torch.OutOfMemoryError, LossError):
            raise
        except Exception as err:  # a compiler, its cache and its tools fail in many ways
            return first_line(err)
        return None

    def _say_which(self, why: str) -> None:
        rest = [name for name in self._networks() if name not in self.forwards]
        left = f"; left as they are: {', '.join(rest)}" if rest else ""
        print(f"note: torch.compile cannot handle this loss as a whole ({why}); "
              f"compiled instead: {', '.join(self.forwards)}{left}.")


class Captured(Eager):
    """Whole steps recorded as a CUDA graph, several in one, and replayed.

    The first step is taken eagerly: it makes the optimisers' moments, whose memory the graph uses.
    Inside a graph the step's number and the schedule's factor are tensors on the device.
    """

    name = "graph"

    def __init__(self, step: TrainStep):
        super().__init__(step)
        self.graphs: dict[int, _Graph] = {}
        self.counter = torch.zeros((), dtype=torch.int64, device=step.device)
        self.factor: torch.Tensor | None = None  # the schedule's, while a step is recorded
        self._table: torch.Tensor | None = None  # of the schedule's factors
        self._total, self._begun = 0, False

    @classmethod
    def obstacle(cls, step: TrainStep) -> str | None:
        if step.device.type != "cuda":
            return "a CUDA graph needs a CUDA GPU"
        return Compiled.obstacle(step)

    def advance(self, most: int) -> int:
        step = self.step
        if not self._begun:
            self._begun = True
            return super().advance(1)
        if self._table is None or self._total != step.total:
            self._prepare()
        steps = step.steps_per_launch if most >= step.steps_per_launch else 1
        if steps not in self.graphs:
            try:
                self.graphs[steps] = self._capture(steps)
            except torch.OutOfMemoryError:
                raise
            except Exception as err:  # whatever a reader's loss does that a graph cannot hold
                step.fall_back(f"this step cannot be captured ({first_line(err)})")
                return step.running.advance(1)
        self.graphs[steps].replay(self, steps)
        return steps

    def number(self) -> int | torch.Tensor:
        return super().number() if self.factor is None else self.counter + 1

    def move(self, optimizer: torch.optim.Optimizer) -> None:
        """One step of an optimiser, also of one whose rate is a number that follows no schedule.

        Such a one (Muon, SGD) steps at its full rate and is drawn back to the schedule's share of
        the way: its steps are proportional to the rate.
        """
        free = self.factor is None or self.step.rates.schedule is None
        if free or "capturable" in optimizer.defaults:
            optimizer.step()
            return
        with torch.no_grad():
            moving = [p for group in optimizer.param_groups for p in group["params"]]
            before = [p.clone() for p in moving]
            optimizer.step()
            way = torch._foreach_sub(moving, before)
            torch._foreach_mul_(way, self.factor)  # type: ignore[arg-type]
            torch._foreach_copy_(moving, torch._foreach_add(before, way))

    def record(self, index: torch.Tensor, steps: int) -> None:
        """What a graph holds: the first `steps` steps on the batches of `index`."""
        assert self._table is not None
        for part in index.split(self.step.batches_per_step)[:steps]:
            self.factor = self._table.index_select(0, self.counter.view(1))[0]
            for group, base in zip(self.step.rates.groups, self.step.rates.base):
                if isinstance(group["lr"], torch.Tensor):
                    group["lr"].copy_(base * self.factor)
            self.step.take_step(part)
            self.counter.add_(1)

    def _capture(self, steps: int) -> _Graph:
        """Record `steps` steps in one graph; weights, moments and noise end as they began."""
        step = self.step
        shape = steps * step.batches_per_step, step.batches.batch_size
        index = torch.zeros(shape, dtype=torch.int64, device=step.device)

        def work() -> dict[str, float]:
            before = dict(step.logs.counts)
            self.record(index, steps)
            return {k: n - before.get(k, 0.0) for k, n in step.logs.counts.items()}

        state = step.state.snapshot()
        moved = False
        try:
            graph, counted = cuda_graphs.capture(work, step.device,
                                                 rehearse=lambda: self.record(index, 1))
        finally:
            moved = step.state.restore(state)
            self.factor = None
        if moved:
            raise RuntimeError("an optimiser takes new memory as it goes")
        return _Graph(graph, index, counted)

    def _prepare(self) -> None:
        """Rates as tensors where an optimiser takes them; a table of the schedule's factors."""
        step, rates = self.step, self.step.rates
        self.graphs, self._total = {}, step.total
        last = step.total + step.steps_per_launch
        factors = [rates.factor(i, step.total) for i in range(last + 1)]
        self._table = torch.tensor(factors, device=step.device)
        rates.reset()
        for optimizer in step.optimizers:
            if "capturable" not in optimizer.defaults:
                continue
            for group in optimizer.param_groups:
                group["capturable"] = True
                group["lr"] = torch.tensor(float(group["lr"]), device=step.device)
            for moments in optimizer.state.values():
                if isinstance(moments.get("step"), torch.Tensor):
                    moments["step"] = moments["step"].to(step.device)

    def rebuild(self) -> None:
        self.graphs, self._table, self._begun = {}, None, False
        self.step.rates.reset()

    release = rebuild


class _Graph(NamedTuple):
    graph: torch.cuda.CUDAGraph
    images: torch.Tensor  # which its batches hold
    counted: dict[str, float]  # how often it logs each name

    def replay(self, mode: Captured, steps: int) -> None:
        step = mode.step
        self.images.copy_(step.batches.take(len(self.images)))
        mode.counter.fill_(step.count)
        self.graph.replay()
        for name, times in self.counted.items():
            step.logs.counts[name] = step.logs.counts.get(name, 0.0) + times
        step.state.count += steps


# --- helpers ----------------------------------------------------------------------------------


def _compile(function: Callable[..., Any]) -> Callable[..., Any]:
    """torch.compile with the random numbers of eager steps, dealt out in the order of eager memory.

    In another layout randn_like would put them at other places.
    """
    options: dict[str, Any] = {"fallback_random": True, "layout_optimization": False}
    return torch.compile(function, dynamic=False, options=options)


@contextmanager
def _replaced_forwards(networks: dict[str, nn.Module],
                       forwards: dict[str, Callable[..., Any]]) -> Iterator[None]:
    """Inside, the networks of these names compute their forward passes by these functions."""
    for name, forward in forwards.items():
        networks[name].forward = forward  # type: ignore[method-assign]
    try:
        yield
    finally:
        for name in forwards:
            del networks[name].forward
