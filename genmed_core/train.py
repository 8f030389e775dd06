"""The training loop: progress, history, interruption, saving and resuming.

`fit(step, steps)` drives a `kernels.TrainStep`. It counts steps, not seconds, so a slow machine takes longer
and learns the same.
"""

import contextlib
import gc
import math
import signal
import threading
import time
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

import torch

from genmed_core import runtime
from genmed_core.kernels import shares


class TrainingDiverged(RuntimeError):
    """The loss became NaN or infinite; weights are back at the last good report."""


class CheckpointError(RuntimeError):
    """A checkpoint cannot be read or does not belong to this model."""


@dataclass
class History:
    """What training logged: means over each report interval, at the step where the interval ended.

    steps: list of int. logs: name -> list of float, as long as steps. seconds: spent in `fit`, by `runtime.clock`.
    images: images that passed through the loss.
    """

    steps: list = field(default_factory=list)
    logs: dict = field(default_factory=dict)
    seconds: float = 0.0
    images: int = 0

    @property
    def images_per_second(self):
        return self.images / self.seconds if self.seconds else 0.0

    def __getitem__(self, name):
        return self.logs[name]

    def append(self, step, means):
        self.steps.append(step)
        for name, value in means.items():
            self.logs.setdefault(name, [math.nan] * (len(self.steps) - 1)).append(value)

    def state_dict(self):
        return {"steps": list(self.steps), "logs": {k: list(v) for k, v in self.logs.items()},
                "seconds": self.seconds, "images": self.images}


def fit(step, steps, *, title="training", reports=50, checkpoint=None, callback=None):
    """Train until `step.count == steps`, and return the `History`.

    Called again on the same step it goes on where it stopped, also after an interruption from the notebook's
    stop button, which ends training between two steps and keeps everything. reports: how often in a full
    training the logs are read. checkpoint: a file (relative to `runtime.runs_dir()`) that training is saved to
    at every report and resumed from. callback(step, means): called after every report
    with the step itself, so that `step.count` and the models can be read.

    A batch too large for memory is taken in parts from then on (`TrainStep.halve`). After any error, and after the
    stop button pressed twice, the state is that of the last report, and the error says so. Of several processes
    that train together, the first saves and all stop together, at a report.

    Raises TrainingDiverged for a loss that is NaN or infinite, CheckpointError for an unusable file.
    """
    history = getattr(step, "history", None) or History()
    step.history, step.total = history, steps
    path = _checkpoint_path(checkpoint)
    if path is not None and shares.from_first(path.exists()) and step.count == 0:
        load_checkpoint(step, path)
        history = step.history
        print(f"resumed from {path.name} at step {step.count}")
    if step.count >= steps:
        print(f"already trained for {step.count} steps; make the step anew to start over.")
        return history
    with _Interrupt() as interrupt, ProgressBar(steps, title, start=step.count) as bar, step.noise_stream():
        good = step.state_dict()
        every = max(1, math.ceil(steps / reports))
        stopped = False
        while step.count < steps:
            if stopped := shares.anywhere(interrupt.asked, step.device):
                break
            begin = runtime.clock()
            done = _run(step, min(every - step.count % every, steps - step.count), interrupt, good)
            if done is None:
                continue
            means = step.read_logs()
            history.seconds += runtime.clock() - begin
            history.images += done * step.images_per_step
            _check_finite(step, means, good)
            history.append(step.count, means)
            bar.update(step.count, _note(means))
            good = step.state_dict()
            if path is not None and shares.rank() == 0:
                _save_or_say(step, path)
            if callback is not None:
                callback(step, means)
    if stopped:
        print(f"interrupted after step {step.count} of {steps}; nothing is lost. Run fit again to go on.")
    return history


def _run(step, n, interrupt, good):
    """Up to n steps -> how many; None, with the last good state, when memory ran out and the batch was halved."""
    together = shares.processes() > 1  # then nobody stops alone: the others would wait for its gradients
    try:
        return step.run(n, should_stop=lambda: interrupt.asked and not together)
    except torch.OutOfMemoryError:
        pass  # handled below, where no traceback holds the batch's activations any more
    except BaseException as err:
        step.load_state_dict(good)
        err.add_note(f"The training state is back at step {step.count}, the last good one; run fit again to go on.")
        raise
    gc.collect()
    step.load_state_dict(good)
    step.halve()
    return None


def _check_finite(step, means, good):
    bad = [name for name, value in means.items() if not math.isfinite(value)]
    if bad:
        at = step.count
        step.load_state_dict(good)
        raise TrainingDiverged(
            f"{', '.join(bad)} became NaN or infinite by step {at}. The weights are back at step {step.count}. "
            "Try a smaller learning rate, clip_norm=1.0, or look for a log or a division of zero in the loss."
        )


def _note(means):
    return "  ".join(f"{name} {value:.4g}" for name, value in list(means.items())[:3])


# --- checkpoints ------------------------------------------------------------------------------------------


def _checkpoint_path(name):
    if name is None:
        return None
    return runtime.runs_dir() / name


def save_checkpoint(step, path):
    """Write the training state; the old file stays whole until the new one is complete. Raises OSError."""
    path = Path(path)
    try:
        with runtime.whole_file(path) as part, open(part, "wb") as file:
            torch.save({"step": step.state_dict(), "history": step.history.state_dict()}, file)
    except RuntimeError as err:  # torch reports a failed write as a RuntimeError
        raise OSError(f"could not write {path.name}: {err}") from err


def load_checkpoint(step, path):
    """Restore `step` and its history from `path`. Raises CheckpointError naming the file and the remedy."""
    path = Path(path)
    remedy = f"Delete {path} to start over, or name another checkpoint."
    try:
        first = shares.rank() == 0  # of several processes the first one reads
        state = shares.from_first(torch.load(path, map_location="cpu", weights_only=True) if first else None)
        saved, history = state["step"], state["history"]
    except FileNotFoundError as err:
        raise CheckpointError(f"there is no checkpoint {path}.") from err
    except Exception as err:  # truncated, foreign, unreadable: torch raises many kinds
        raise CheckpointError(f"{path} is not a whole genmed checkpoint. {remedy}") from err
    before = step.state_dict()
    try:
        step.load_state_dict(saved)
    except Exception as err:
        step.load_state_dict(before)
        why = str(err).splitlines()[0]
        raise CheckpointError(f"{path} belongs to another model or data set ({why}). {remedy}") from err
    step.history = History(**history)


def _save_or_say(step, path):
    """A disk that is full must not end an hour of training: say so and go on."""
    try:
        save_checkpoint(step, path)
    except OSError as err:
        print(f"note: checkpoint {path.name} not saved at step {step.count} ({err.strerror or err}); training goes on, "
              "the last whole checkpoint is kept. Free some space or set GENMED_RUNS to another folder.")


# --- interruption and progress ------------------------------------------------------------------------------


class _Interrupt:
    """Turns Ctrl-C or the notebook's stop button into a flag that is read between two steps."""

    asked = False

    def __enter__(self):
        self._old = None
        if threading.current_thread() is threading.main_thread():
            self._old = signal.signal(signal.SIGINT, self._ask)
        return self

    def _ask(self, *_):
        if self.asked and callable(self._old):  # asked twice: the step hangs, give way
            self._old(signal.SIGINT, None)
        self.asked = True

    def __exit__(self, *_):
        if self._old is not None:
            signal.signal(signal.SIGINT, self._old)


class ProgressBar:
    """A bar whose last state is plain HTML, so it looks the same in JupyterLab, in the book and under nbval.

    Outside a notebook it prints one line at the end.
    """

    def __init__(self, total, title, *, start=0):
        self.total, self.title, self.at, self.note = total, title, start, ""
        self._handle, self._shown, self._begin, self._start = None, 0.0, 0.0, start

    def __enter__(self):
        self._begin = time.monotonic()
        with contextlib.suppress(ImportError):
            from IPython import display, get_ipython

            if getattr(get_ipython(), "kernel", None) is not None:
                self._handle = display.display(self._bundle(), raw=True, display_id=True)
        return self

    def update(self, at, note=""):
        self.at, self.note = at, note
        now = time.monotonic()
        if self._handle is not None and (now - self._shown > 0.2 or at >= self.total):
            self._handle.update(self._bundle(), raw=True)
            self._shown = now

    def __exit__(self, *_):
        if self._handle is not None:
            self._handle.update(self._bundle(), raw=True)
        else:
            print(self._text())

    def _text(self):
        seconds = time.monotonic() - self._begin
        left = ""
        if self._start < self.at < self.total:
            left = f", {seconds / (self.at - self._start) * (self.total - self.at):.0f} s left"
        return f"{self.title}: step {self.at:,} of {self.total:,}, {seconds:.0f} s{left}  {self.note}".rstrip()

    def _bundle(self):
        bar = (f'<div class="genmed-progress" style="display:flex;gap:.7em;align-items:center;flex-wrap:wrap">'
               f'<progress max="{self.total}" value="{self.at}" aria-label="{escape(self.title)}" '
               f'style="width:14em;accent-color:#2b6cb0"></progress><span>{escape(self._text())}</span></div>')
        return {"text/html": bar, "text/plain": self._text()}
