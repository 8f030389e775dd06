"""The chapters' own training steps, taken from their cells as they run, and the courses they take in each mode."""

import contextlib
import copy
from pathlib import Path
from unittest import mock

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from training_steps import weights

from genmed_core import chapters, kernels, runtime, train

ROOT = Path(__file__).resolve().parent.parent

# the titles of the trainings that are compared; of a chapter that is not named here, the first that trains
TRAININGS = {
    "01_autoencoder": ["as in the book"], "02_vae": ["the same network, our way"], "03_cvae": ["label: both"],
    "04_gan": ["our GAN"], "05_cgan": ["the book's CGAN"], "06_wgan": ["clipped WGAN", "WGAN-GP on digits"],
    "07_simple_diffusion": ["guess the image"], "08_ddpm": ["U-Net"], "09_ldm_cxr": ["VAE", "latent denoiser", "GAN"],
}
CHAPTERS = sorted(path.stem for path in (ROOT / "chapters").glob("[0-9][0-9]_*.py"))


class _Enough(Exception):
    pass


def study(chapter, look, monkeypatch, folder=ROOT / "chapters"):
    """Run a chapter's cells with few training steps; call look(title, step) for its trainings, before they train.

    Returns {title: what look returned}. Stops at the last training that is wanted: the first, unless TRAININGS names
    others.
    """
    for name, value in (("GENMED_BUDGET", "0.004"), ("MPLBACKEND", "Agg")):
        monkeypatch.setenv(name, value)
    wanted, found, fit = list(TRAININGS.get(chapter, [])), {}, train.fit

    def looked_at(step, steps, *, title="training", **options):
        if not wanted:
            wanted.append(title)
        if title in wanted and title not in found:
            with monkeypatch.context() as patch:
                patch.setattr(train, "fit", fit)  # what look itself trains is not a training of the chapter
                found[title] = look(title, step)
        if len(found) == len(wanted):
            raise _Enough
        return fit(step, steps, title=title, **options)

    cells = chapters.cells(folder / f"{chapter}.py")
    last = chapters.last_training(cells)
    with monkeypatch.context() as patch, contextlib.suppress(_Enough):
        patch.setattr(train, "fit", looked_at)
        chapters.run(cells[: last + 1], {"__name__": "chapter"}, chapter)
    assert len(found) == len(wanted), f"{chapter} has no trainings {wanted}, only {found}"
    return found


def course(step, start, *, mode, bf16, steps=100, launch=8, monkeypatch):
    """`steps` of a chapter's step from the state `start` -> (the mode it ran in, losses by name, weights, average).

    Where not the losses but networks were compiled, the mode names them: "compile: G, D".
    """
    step.load_state_dict(start)  # also the learning rates, which a TrainStep takes over from its optimisers
    options = {"batches": step.batches, "model": step.model, "schedule": step.rates.schedule,
               "ema": step.average and step.average.decay}
    twin = kernels.TrainStep(step.updates, mode=mode, steps_per_launch=launch, threads=step.threads, **options)
    twin.load_state_dict(start)
    with monkeypatch.context() as patch:
        patch.setattr(runtime, "has_fast_bf16", lambda device=None: bf16)
        history = train.fit(twin, steps, reports=20)
    compiled = list(getattr(twin.running, "forwards", ()))
    ran = f"{twin.mode}: {', '.join(compiled)}" if compiled else twin.mode
    ends = ran, history.logs, weights(twin.model), weights(twin.ema_model)
    step.load_state_dict(start)
    return ends


WAITING = {"_local_scalar_dense", "nonzero", "masked_select", "equal", "_unique2", "bincount"}


class _Listener(TorchDispatchMode):
    """Notes the operations for whose result the processor would have to wait, if the tensors were on a GPU."""

    def __init__(self):
        super().__init__()
        self.heard = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        if name in WAITING:
            self.heard.append(name)
        if name == "index" and any(i is not None and i.dtype in (torch.bool, torch.uint8) for i in args[1]):
            self.heard.append("index by truth values")
        return function(*args, **(kwargs or {}))


def questions(step):
    """What the losses of a step, and their gradients, ask the device for; a CUDA graph can hold none of it.

    Checks that are made on a processor only (by the core's `readable`, of classes by torch's one_hot) are left out.
    """
    state, listener = step.state_dict(), _Listener()
    with (mock.patch.object(runtime, "readable", lambda x: False), step.state.noise.flow(), listener,
          mock.patch.object(torch.nn.functional, "one_hot", lambda y, n: torch.eye(n, dtype=torch.int64)[y])):
        for update in step.updates:
            loss, _ = update.loss_fn(step.batches.next())
            loss.backward(inputs=update.parameters)
    step.load_state_dict(state)
    return listener.heard


def nudged(start, scale):
    """The state `start` with every weight off by a random share of its size, as rounding would leave it."""
    state, generator = copy.deepcopy(start), torch.Generator().manual_seed(0)
    for v in state["model"].values():
        if v.is_floating_point():
            v *= 1 + scale * torch.randn(v.shape, generator=generator).to(v.device)
    return state


def apart(logs, others):
    """The largest difference of two training curves, relative to the curve's size."""
    worst = 0.0
    for name, values in logs.items():
        a, b = torch.tensor(values, dtype=torch.float64), torch.tensor(others[name], dtype=torch.float64)
        worst = max(worst, ((a - b).abs().max() / a.abs().mean().clamp(min=1e-3)).item())
    return worst
