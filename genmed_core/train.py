"""The training loop: progress, history, interruption, saving and resuming.

`fit(step, steps)` drives a `kernels.TrainStep`. It counts steps, not seconds, so a slow machine
takes longer and learns the same.
"""

import gc
import math
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from genmed_core import arguments, runtime
from genmed_core.checkpoints import Checkpoint, CheckpointError, load_checkpoint, save_checkpoint
from genmed_core.history import History
from genmed_core.kernels import TrainStep, shares
from genmed_core.progress import ProgressBar

__all__ = ["CheckpointError", "History", "ProgressBar", "TrainingDiverged", "TrainingStopped",
           "fit", "load_checkpoint", "save_checkpoint"]


class TrainingDiverged(RuntimeError):
    """A loss, a weight or a moment became NaN or infinite; all is back at the last good report."""


class TrainingStopped(KeyboardInterrupt):
    """Training was stopped between two steps. It ends the cell, so that no waiting cell is run."""

    def _render_traceback_(self) -> list[str]:
        """One line in a notebook: nothing went wrong."""
        return [str(self)]


def fit(step: TrainStep, steps: int, *, title: str = "training", reports: int = 50,
        checkpoint: str | Path | None = None,
        callback: Callable[[TrainStep, dict[str, float]], Any] | None = None) -> History:
    """Train until `step.count == steps`, and return the `History`.

    Called again on the same step it goes on where it stopped. reports: how often in a full
    training the logs are read. checkpoint: a file (relative to `runtime.runs_dir()`) that training
    is saved to at every report and resumed from. callback(step, means): called after every report.
    A batch too large for memory is taken in parts from then on (`TrainStep.halve`). After any
    error the state is that of the last report, and the error says so.
    Raises TrainingStopped after the notebook's stop button, TrainingDiverged for NaN and infinity
    in losses, weights or moments, CheckpointError for a file that cannot be used or replaced.
    """
    __tracebackhide__ = True
    arguments.whole("steps", steps)
    arguments.whole("reports", reports)
    step.history, step.total = step.history or History(), steps
    file = None if checkpoint is None else Checkpoint(checkpoint)
    if file is not None:
        file.begin(step)
    if step.count >= steps:
        print(_finished(step, file))
        return step.history
    every = max(1, math.ceil(steps / reports))
    with _Interrupt() as interrupt, ProgressBar(steps, title, start=step.count) as bar:
        good = step.state.snapshot()
        while step.count < steps:
            if shares.anywhere(interrupt.asked, step.device):
                _stop(step, steps, file, good)
            n = min(every - step.count % every, steps - step.count)
            means = _interval(step, n, interrupt, good)
            if means is None:
                continue
            bar.update(step.count, _note(means))
            good = step.state.snapshot()
            if file is not None:
                file.save(step)
            if callback is not None:
                callback(step, means)
    return step.history


def _interval(step: TrainStep, n: int, interrupt: "_Interrupt",
              good: dict[str, Any]) -> dict[str, float] | None:
    """Up to n steps and their report, in the history -> the means; None where it must be repeated.

    That is where memory ran out and the batch was halved, or nothing was done before a stop.
    """
    __tracebackhide__ = True
    begin = runtime.clock()
    done = _run(step, n, interrupt, good)
    if not done:
        return None
    means = step.read_logs()
    step.history.seconds += runtime.clock() - begin
    step.history.images += done * step.images_per_step
    _check_finite(step, means, good)
    step.history.append(step.count, means)
    return means


def _run(step: TrainStep, n: int, interrupt: "_Interrupt", good: dict[str, Any]) -> int:
    """Up to n steps -> how many; 0, with the last good state, where the batch was halved."""
    __tracebackhide__ = True
    together = shares.processes() > 1  # nobody stops alone: the others would wait for its gradients
    try:
        return step.run(n, should_stop=lambda: interrupt.asked and not together)
    except torch.OutOfMemoryError:
        pass  # handled below, where no traceback holds the batch's activations any more
    except BaseException as err:
        step.restore(good)
        err.add_note(f"The training state is back at step {step.count}, the last good one; "
                     "train.fit with the same step goes on from there.")
        raise
    gc.collect()
    step.restore(good)
    step.halve()
    return 0


def _check_finite(step: TrainStep, means: dict[str, float], good: dict[str, Any]) -> None:
    bad = [name for name, value in means.items() if not math.isfinite(value)]
    bad += step.state.not_finite()
    if not bad:
        return
    at = step.count
    step.restore(good)
    more = f" and {len(bad) - 3} more" if len(bad) > 3 else ""
    raise TrainingDiverged(
        f"{', '.join(bad[:3])}{more} became NaN or infinite by step {at}. The weights are back at "
        f"step {step.count}. Try a smaller learning rate (optimizer.param_groups[0]['lr'] = ..., "
        "then train.fit again), clip_norm=1.0 in a step made anew, or look for a root, a log or a "
        "division of zero in the loss.")


def _stop(step: TrainStep, steps: int, file: Checkpoint | None, good: dict[str, Any]) -> None:
    """End the training between two steps, with all that it has reached."""
    __tracebackhide__ = True
    if step.state.not_finite():
        step.restore(good)
    kept = "The step keeps its weights: train.fit with the same step goes on from here; " \
           "a cell that makes the step anew starts over."
    if file is not None:
        file.save(step)
        kept = f"{file.path.name} holds this state: run the cell again to go on."
    raise TrainingStopped(f"stopped after step {step.count} of {steps}. {kept}")


def _finished(step: TrainStep, file: Checkpoint | None) -> str:
    anew = "make the step anew" + ("" if file is None else " and name another checkpoint")
    return (f"already trained for {step.count} steps; give more steps to go on, "
            f"or {anew} to start over.")


def _note(means: dict[str, float]) -> str:
    return "  ".join(f"{name} {value:.4g}" for name, value in list(means.items())[:3])


class _Interrupt:
    """Turns Ctrl-C or the notebook's stop button into a flag that is read between two steps."""

    asked = False

    def __enter__(self) -> "_Interrupt":
        self._old: Any = None
        if threading.current_thread() is threading.main_thread():
            self._old = signal.signal(signal.SIGINT, self._ask)
        return self

    def _ask(self, *_: Any) -> None:
        if self.asked and callable(self._old):  # asked twice: the step hangs, give way
            self._old(signal.SIGINT, None)
        self.asked = True

    def __exit__(self, *_: Any) -> None:
        if self._old is not None:
            signal.signal(signal.SIGINT, self._old)
