"""Checkpoints of a training: files that know whose they are, and are replaced only by what follows.

A file holds the training state, the history, the settings, and what another training must have
alike to go on from it: the data set, the order of its batches, the seeds, the model.
"""

from pathlib import Path
from typing import Any

import torch

from genmed_core import runtime
from genmed_core.errors import first_line
from genmed_core.history import History
from genmed_core.kernels import TrainStep, shares

FORMAT = 2
TECHNICAL = {"params", "foreach", "fused", "capturable", "differentiable"}


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be used, or must not be replaced; the message says why."""


class Checkpoint:
    """The file that a training is saved to at every report, and resumed from.

    name: relative to `runtime.runs_dir()`. Raises CheckpointError for a name that cannot be a file.
    """

    def __init__(self, name: str | Path):
        self.path = runtime.runs_dir() / name
        if not str(name) or self.path.is_dir():
            raise CheckpointError(f"checkpoint={str(name)!r} names a folder: "
                                  "give a file's name, such as checkpoint='vae.pt'")
        self._stamp: tuple[int, int] | None = None  # of the file as this training last knew it

    def begin(self, step: TrainStep) -> bool:
        """Resume from the file, if it is there and the step is new -> whether it was.

        Raises CheckpointError where the file belongs to another training.
        """
        there = shares.from_first(self.path.exists())
        if there and step.count == 0:
            load_checkpoint(step, self.path)
            print(f"resumed from {self.path.name} at step {step.count}")
        elif there and shares.rank() == 0:
            self._check_replaceable(step)
        self._stamp = self._now()
        return there and step.count > 0

    def save(self, step: TrainStep) -> None:
        """Write the state. A full disk must not end an hour of training: say so and go on."""
        if shares.rank() > 0:
            return
        if self._now() != self._stamp and self.path.exists():  # somebody else has written it
            self._check_replaceable(step)
        try:
            save_checkpoint(step, self.path)
            self._stamp = self._now()
        except OSError as err:
            print(f"note: checkpoint {self.path.name} not saved at step {step.count} "
                  f"({err.strerror or err}); training goes on, the last whole checkpoint is kept. "
                  "Free some space or set GENMED_RUNS to another folder.")

    def _now(self) -> tuple[int, int] | None:
        if not self.path.exists():
            return None
        found = self.path.stat()
        return found.st_mtime_ns, found.st_size

    def _check_replaceable(self, step: TrainStep) -> None:
        """Refuse to replace a file that this training does not continue."""
        saved = _read(self.path)
        theirs, at = saved["history"]["run"], saved["step"]["count"]
        if theirs == step.history.run and at <= step.count:
            return
        whose = "a later step of this training" if theirs == step.history.run else \
            "another training"
        raise CheckpointError(
            f"{self.path} holds step {at} of {whose}; this one is at step {step.count}, and would "
            f"replace it. Name another checkpoint, or make the step anew to go on from the file.")


def save_checkpoint(step: TrainStep, path: Path | str) -> None:
    """Write the training state; the old file stays whole until the new one is complete.

    Raises OSError where it cannot be written, CheckpointError for a state that is not finite.
    """
    path = Path(path)
    if bad := step.state.not_finite():
        raise CheckpointError(f"{path.name} is not written: {', '.join(bad[:3])} hold NaN or "
                              "infinity. The file on disk is left as it was.")
    step.history = step.history or History()
    content = {"format": FORMAT, "step": step.state_dict(), "history": step.history.state_dict(),
               "identity": step.identity(), "settings": settings(step)}
    try:
        with runtime.whole_file(path) as part, open(part, "wb") as file:
            torch.save(content, file)
    except RuntimeError as err:  # torch reports a failed write as a RuntimeError
        raise OSError(f"could not write {path.name}: {err}") from err


def load_checkpoint(step: TrainStep, path: Path | str) -> None:
    """Restore `step` and its history, of several processes in all.

    Learning rates and other settings stay those of the step; a note says which differ. Raises
    CheckpointError that names the file and what differs; the step is then as it was.
    """
    path = Path(path)
    saved = shares.from_first(_read(path) if shares.rank() == 0 else {})
    other = differences(saved["identity"], step.identity())
    if other:
        raise CheckpointError(f"{path} belongs to another training: {'; '.join(other)}. "
                              "Make the step as it was, or name another checkpoint.")
    before = step.state.snapshot()
    try:
        step.load_state_dict(saved["step"])
        step.history = History.from_state(saved["history"])
    except Exception as err:
        step.restore(before)
        raise CheckpointError(f"{path} cannot be taken up ({first_line(err)}): "
                              "name another checkpoint.") from err
    if shares.rank() > 0:
        step.state.noise.restart(step.count)  # the file holds the first process's
    changed = differences(saved["settings"], settings(step))
    if changed:
        print(f"note: {path.name} was trained with other settings: {'; '.join(changed)}. "
              "Training goes on with those of the code.")


def _read(path: Path) -> dict[str, Any]:
    """A whole checkpoint. Raises CheckpointError."""
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
        version = saved.get("format", 1)
        whole = {"step", "history"} <= saved.keys()
    except FileNotFoundError as err:
        raise CheckpointError(f"there is no checkpoint {path}.") from err
    except Exception as err:  # truncated, foreign, unreadable: torch raises many kinds
        raise CheckpointError(f"{path} is not a whole genmed checkpoint: "
                              "name another checkpoint, or move this file away.") from err
    if not whole or version != FORMAT:
        kind = "an earlier" if whole and version < FORMAT else "a newer"
        raise CheckpointError(f"{path} was written by {kind} version of genmed, which this one "
                              "cannot continue: name another checkpoint.")
    return saved


def settings(step: TrainStep) -> dict[str, Any]:
    """What may change between two parts of a training: rates, decays, clipping."""
    found: dict[str, Any] = {"clip_norm": [u.clip_norm for u in step.updates]}
    if step.average is not None:
        found["ema"] = step.average.decay
    groups = [(type(o).__name__, g) for o in step.optimizers for g in o.param_groups]
    for number, ((kind, group), rate) in enumerate(zip(groups, step.rates.base)):
        where = kind if len(groups) == 1 else f"{kind} {number + 1}"
        plain = {k: v for k, v in group.items() if k not in TECHNICAL | {"lr", "initial_lr"}}
        found[f"{where} lr"] = rate
        found |= {f"{where} {key}": _plain(value) for key, value in plain.items()}
    return found


def _plain(value: Any) -> Any:
    """A setting as a file keeps it: tensors as numbers, tuples as lists."""
    if isinstance(value, torch.Tensor):
        return value.tolist()
    return list(value) if isinstance(value, tuple) else value


def differences(saved: dict[str, Any], here: dict[str, Any]) -> list[str]:
    """What differs, as clauses: "batch_size 8 in the file, 16 here"."""
    found = []
    for name in saved.keys() | here.keys():
        old, new = saved.get(name), here.get(name)
        if old == new:
            continue
        if isinstance(old, dict) and isinstance(new, dict):
            inside = differences(old, new)
            more = f", and {len(inside) - 2} more" if len(inside) > 2 else ""
            found.append(f"{name}: {', '.join(sorted(inside)[:2])}{more}")
        elif name == "images":
            found.append("other images or labels")
        elif name == "trained weights":
            found.append("the optimizers hold other weights")
        else:
            found.append(f"{name} {_short(old)} in the file, {_short(new)} here")
    return sorted(found)


def _short(value: Any) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= 40 else text[:37] + "..."
