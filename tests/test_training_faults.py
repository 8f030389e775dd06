"""What goes wrong in a training: state that is not finite, checkpoints of another, settings and losses that are slips.

Every case was a silent fault, or a message that did not help, before it became a test.
"""

import os
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from training_steps import autoencoder, gan, weights

from genmed_core import kernels, runtime, train


def step_for(loss_fn=None, *, optimizer=torch.optim.SGD, images=None, batch_size=16, seed=0, lr=0.1, width=32,
             initial=0, **options):
    """A small training step with what the test varies."""
    torch.manual_seed(initial)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.Linear(width, 64))
    images = torch.rand(64, 1, 8, 8, generator=torch.Generator().manual_seed(1)) if images is None else images
    batches = kernels.Batches(images, batch_size=batch_size, device="cpu", seed=seed)

    def mse(batch):
        loss = F.mse_loss(model(batch.x), batch.x.flatten(1))
        return loss, {"mse": loss.detach()}

    given = mse if loss_fn is None else lambda batch: loss_fn(model, batch)
    made = optimizer(model.parameters(), lr=lr) if callable(optimizer) else optimizer
    return kernels.TrainStep(given, made, batches=batches, model=model, seed=seed, **options)


# --- what is kept is finite ---------------------------------------------------------------------------------


def bad_gradient_at(number):
    """A loss that is finite in every step, and whose gradient is NaN in one of them."""
    calls = []

    def loss_fn(model, batch):
        calls.append(1)
        loss = F.mse_loss(model(batch.x), batch.x.flatten(1))
        if len(calls) == number:
            loss = loss + (0 * model[1].weight.square().sum()).sqrt()
        return loss, {}

    return loss_fn


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam])
def test_weights_that_are_nan_behind_a_finite_loss_are_not_called_good(optimizer):
    step = step_for(bad_gradient_at(30), optimizer=optimizer, ema=0.9)
    with pytest.raises(train.TrainingDiverged, match=r"model 1.weight.* by step 30. The weights are back at step 20"):
        train.fit(step, 100, reports=10, checkpoint="run.pt")
    assert step.count == 20 and weights(step.model).isfinite().all() and weights(step.ema_model).isfinite().all()
    assert not step.state.not_finite()
    again = step_for(optimizer=optimizer, ema=0.9)
    train.load_checkpoint(again, runtime.runs_dir() / "run.pt")
    assert again.count == 20 and weights(again.model).isfinite().all()
    assert train.fit(step, 100, reports=10, checkpoint="run.pt").steps[-1] == 100, "the advice to fit again works"


@pytest.mark.parametrize("spoil, name", [
    (lambda s: s.ema_model[1].weight.fill_(float("inf")), "average 1.weight"),
    (lambda s: next(iter(s.optimizers[0].state.values()))["exp_avg_sq"].fill_(float("nan")), "Adam's exp_avg_sq"),
])
def test_an_average_and_moments_are_looked_at_too(spoil, name):
    step = step_for(optimizer=torch.optim.Adam, ema=0.999999)
    train.fit(step, 10, checkpoint="run.pt")
    kept = (runtime.runs_dir() / "run.pt").read_bytes()
    with torch.no_grad():
        spoil(step)
    with pytest.raises(train.CheckpointError, match=f"not written: .*{name}"):
        train.save_checkpoint(step, runtime.runs_dir() / "run.pt")
    assert (runtime.runs_dir() / "run.pt").read_bytes() == kept


def test_the_advice_of_a_smaller_rate_works_under_a_schedule():
    step = step_for(lr=0.4, schedule=lambda progress: 1.0)
    train.fit(step, 5)
    step.optimizers[0].param_groups[0]["lr"] = 0.0
    before = weights(step.model)
    train.fit(step, 10)
    assert torch.equal(weights(step.model), before)
    step.optimizers[0].param_groups[0]["lr"] = 0.1
    step.rates.schedule = kernels.linear_decay(0.0)
    train.fit(step, 20)
    assert step.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.1 * (1 - 19 / 20)), "the new base rate"


@pytest.mark.parametrize("make", [
    lambda p, lr: torch.optim.Rprop(p, lr=lr), lambda p, lr: torch.optim.NAdam(p, lr=lr),
    lambda p, lr: torch.optim.ASGD(p, lr=lr), lambda p, lr: torch.optim.SGD(p, lr=lr, momentum=0.9, dampening=0.5),
    lambda p, lr: torch.optim.Adagrad(p, lr=lr), lambda p, lr: torch.optim.RAdam(p, lr=lr),
], ids=["Rprop", "NAdam", "ASGD", "SGD with dampening", "Adagrad", "RAdam"])
def test_going_back_before_the_first_step_leaves_the_optimiser_as_new(make):
    """Its moments do not all begin at zero."""
    ends = []
    for detour in (False, True):
        step = step_for(optimizer=make)
        if detour:
            kept = step.state.snapshot()
            step.run(3)
            step.restore(kept)
        step.run(5)
        ends.append(weights(step.model))
    assert torch.equal(*ends)


def test_going_back_in_the_middle_goes_on_as_before():
    step = step_for(optimizer=torch.optim.NAdam, ema=0.9)
    step.run(3)
    kept = step.state.snapshot()
    ends = []
    for _ in range(2):
        step.run(4)
        ends.append(torch.cat([weights(step.model), weights(step.ema_model)]))
        logs = step.read_logs()
        step.restore(kept)
        ends.append(torch.tensor(list(logs.values())))
    assert torch.equal(ends[0], ends[2]) and torch.equal(ends[1], ends[3])


# --- checkpoints --------------------------------------------------------------------------------------------


def test_a_checkpoint_is_not_replaced_by_a_training_that_does_not_continue_it():
    train.fit(step_for(), 40, checkpoint="run.pt")
    kept = (runtime.runs_dir() / "run.pt").read_bytes()
    other = step_for()
    train.fit(other, 5)
    with pytest.raises(train.CheckpointError, match="holds step 40 of another training; this one is at step 5"):
        train.fit(other, 20, checkpoint="run.pt")
    assert (runtime.runs_dir() / "run.pt").read_bytes() == kept and other.count == 5
    train.fit(other, 20, checkpoint="another.pt")  # the two remedies
    anew = step_for()
    assert train.fit(anew, 60, checkpoint="run.pt").steps[-1] == 60


def test_an_older_state_does_not_replace_a_later_one_of_the_same_training():
    step = step_for()
    kept = step.state.snapshot()
    train.fit(step, 40, checkpoint="run.pt")
    step.restore(kept)
    step.run(5)
    with pytest.raises(train.CheckpointError, match="a later step of this training"):
        train.fit(step, 20, checkpoint="run.pt")


def test_a_file_that_another_training_writes_meanwhile_is_not_replaced():
    first, second = step_for(), step_for(seed=1)

    def intrude(step, means):
        if step.count == 10:
            train.save_checkpoint(second, runtime.runs_dir() / "run.pt")

    train.fit(second, 30)
    with pytest.raises(train.CheckpointError, match="holds step 30 of another training"):
        train.fit(first, 40, reports=8, checkpoint="run.pt", callback=intrude)


@pytest.mark.parametrize("change, said", [
    ({"images": torch.rand(64, 1, 8, 8)}, "other images or labels"),
    ({"images": torch.rand(60, 1, 8, 8)}, "number of images 64 in the file, 60 here"),
    ({"seed": 1}, "seed of the batches 0 in the file, 1 here"),
    ({"batch_size": 8}, "batch_size 16 in the file, 8 here"),
    ({"batch_size": 32}, "batch_size 16 in the file, 32 here"),
    ({"width": 48}, r"model: 1.bias \[32\] in the file, \[48\] here"),
    ({"optimizer": torch.optim.AdamW}, r"optimizers \['Adam'\] in the file, \['AdamW'\] here"),
    ({"ema": 0.9}, "moving average False in the file, True here"),
])
def test_a_checkpoint_says_what_differs_and_leaves_the_step_alone(change, said):
    common = {"optimizer": torch.optim.Adam}
    train.fit(step_for(**common), 7, checkpoint="run.pt")
    other = step_for(**(common | change))
    before = weights(other.model)
    for _ in range(2):
        with pytest.raises(train.CheckpointError, match=said):
            train.fit(other, 20, checkpoint="run.pt")
    assert other.count == 0 and torch.equal(weights(other.model), before)
    train.fit(other, 20, checkpoint="another.pt")  # the remedy


def test_other_settings_are_those_of_the_code_and_said(capsys):
    train.fit(step_for(optimizer=torch.optim.AdamW, lr=0.1), 5, checkpoint="run.pt")
    step = step_for(optimizer=lambda p, lr: torch.optim.AdamW(p, lr=0.0, weight_decay=0.0), clip_norm=0.5)
    train.load_checkpoint(step, runtime.runs_dir() / "run.pt")
    said = capsys.readouterr().out
    assert "AdamW lr 0.1 in the file, 0.0 here" in said and "AdamW weight_decay 0.01 in the file, 0.0 here" in said
    assert "clip_norm [None] in the file, [0.5] here" in said and "those of the code" in said
    before = weights(step.model)
    train.fit(step, 10)
    assert torch.equal(weights(step.model), before), "the rate of the code, 0, is used"


def test_names_and_contents_of_checkpoints(tmp_path):
    for name in ("", ".", "folder"):
        (runtime.runs_dir() / "folder").mkdir(parents=True, exist_ok=True)
        with pytest.raises(train.CheckpointError, match="names a folder: give a file's name"):
            train.fit(step_for(), 5, checkpoint=name)
    train.fit(step_for(), 5, checkpoint="run.pt")
    path = runtime.runs_dir() / "run.pt"
    saved = torch.load(path, weights_only=True)
    for change, said in (({"format": 99}, "a newer version"), ({"format": 1}, "an earlier version"),
                         ({"history": saved["history"] | {"epochs": [1]}}, "its history holds epochs")):
        torch.save(saved | change, path)
        with pytest.raises(train.CheckpointError, match=said):
            train.fit(step_for(), 20, checkpoint="run.pt")


def test_a_finished_training_says_how_to_go_on_and_both_ways_work(capsys):
    train.fit(step_for(), 5, checkpoint="run.pt")
    train.fit(step_for(), 5, checkpoint="run.pt")
    assert "give more steps to go on, or make the step anew and name another checkpoint" in capsys.readouterr().out
    assert train.fit(step_for(), 8, checkpoint="run.pt").steps[-1] == 8
    assert train.fit(step_for(), 5, checkpoint="another.pt").steps[-1] == 5


# --- settings -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options, said", [
    ({"clip_norm": 0}, "clip_norm=0: give a positive norm, or None"), ({"clip_norm": -1.0}, "clip_norm=-1.0"),
    ({"clip_norm": float("nan")}, "clip_norm=nan"),
    ({"ema": -1}, "ema=-1: give a decay between 0 and 1"), ({"ema": 1.5}, "ema=1.5"), ({"ema": 1}, "ema=1:"),
    ({"ema": 0}, "ema=0:"), ({"threads": 0}, "threads=0: give a whole number"), ({"threads": 1.5}, "threads=1.5"),
    ({"steps_per_launch": 0}, "steps_per_launch=0"), ({"mode": "fast"}, "mode='fast': choose one of auto, eager"),
    ({"schedule": 0.5}, "schedule=0.5: give a function of progress"),
])
def test_settings_that_cannot_be_meant_are_named(options, said):
    with pytest.raises((ValueError, TypeError), match=said):
        step_for(**options)


@pytest.mark.parametrize("options, said", [
    ({"reports": 0}, "reports=0: give a whole number, 1 or more"), ({"reports": -3}, "reports=-3"),
    ({"steps": 0}, "steps=0: give a whole number"), ({"steps": 2.5}, "steps=2.5"), ({"steps": "10"}, "steps='10'"),
])
def test_fit_names_numbers_that_cannot_be_meant(options, said):
    with pytest.raises(ValueError, match=said):
        train.fit(step_for(), **{"steps": 5, **options})


def test_settings_beside_a_list_of_updates_are_not_ignored(digits_like):
    _, step = gan(*digits_like)
    for name, value in (("clip_norm", 1.0), ("optimizer", step.updates[0].optimizer)):
        with pytest.raises(ValueError, match=f"{name}= goes with a single loss function: give it to each Update"):
            kernels.TrainStep(step.updates, batches=step.batches, model=step.model, **{name: value})


def test_a_bare_update_is_taken(digits_like):
    _, step = autoencoder(*digits_like)
    bare = kernels.TrainStep(step.updates[0], batches=step.batches, model=step.model)
    assert bare.run(2) == 2 and bare.updates == step.updates


@pytest.mark.parametrize("options, said", [({"repeats": 0}, "repeats=0"), ({"repeats": 1.5}, "repeats=1.5"),
                                           ({"clip_norm": 0}, "clip_norm=0"), ({"loss_fn": 3}, "loss_fn=3")])
def test_an_update_names_what_cannot_be_meant(options, said):
    model = nn.Linear(1, 1)
    given = {"loss_fn": lambda b: b, "optimizer": torch.optim.SGD(model.parameters()), **options}
    with pytest.raises((ValueError, TypeError), match=said):
        kernels.Update(**given)


def test_optimisers_that_cannot_train_this_model_are_refused():
    stranger = nn.Linear(3, 3)
    with pytest.raises(ValueError, match="an optimizer holds weights that are not the model's"):
        step_for(optimizer=torch.optim.Adam(stranger.parameters()))
    with pytest.raises(ValueError, match="LBFGS"):
        step_for(optimizer=torch.optim.LBFGS)
    with pytest.raises(TypeError, match="give an optimizer of torch"):
        step_for(optimizer="adam")


def test_the_seed_of_the_noise_reaches_a_step_that_is_run_directly():
    def noisy(model, batch):
        return (model(batch.x) - torch.randn(len(batch.x), 64)).square().mean(), {}

    def ran(seed, before):
        torch.manual_seed(before)  # what the notebook did
        step = step_for(noisy)
        step.state.noise.seed = seed
        step.state.noise.restart()
        torch.manual_seed(before)
        step.run(3)
        return weights(step.model)

    assert torch.equal(ran(0, 1), ran(0, 2)) and not torch.equal(ran(0, 1), ran(5, 1))


def test_what_a_callback_draws_does_not_reach_the_training(digits_like):
    ends = []
    for draws in (0, 10):
        model, step = autoencoder(*digits_like)
        train.fit(step, 20, reports=4, callback=lambda s, _, draws=draws: torch.randn(draws))
        ends.append(weights(model))
    assert torch.equal(*ends)


@pytest.mark.parametrize("make, at, factor", [
    (lambda: kernels.linear_decay(flat=1.0), 0.5, 1.0), (lambda: kernels.linear_decay(flat=1.0), 1.0, 1.0),
    (lambda: kernels.linear_decay(warmup=1.0), 0.5, 0.5), (lambda: kernels.linear_decay(warmup=0.0), 0.0, 1.0),
    (lambda: kernels.cosine_decay(1.0), 1.0, 1.0), (lambda: kernels.cosine_decay(1.0), 0.25, 0.25),
    (lambda: kernels.cosine_decay(0.0), 0.0, 1.0),
])
def test_schedules_at_their_limits(make, at, factor):
    assert make()(at) == pytest.approx(factor)


@pytest.mark.parametrize("make", [lambda: kernels.linear_decay(-0.1), lambda: kernels.linear_decay(0.1, flat=1.5),
                                  lambda: kernels.cosine_decay(2), lambda: kernels.cosine_decay(float("nan"))])
def test_schedules_beyond_their_limits_are_named(make):
    with pytest.raises(ValueError, match="give a share of the training, from 0 to 1"):
        make()


# --- logs ---------------------------------------------------------------------------------------------------


def test_two_updates_that_log_one_name_are_refused(digits_like):
    _, step = gan(*digits_like)
    for update in step.updates:
        loss_fn = update.loss_fn
        update.loss_fn = lambda batch, loss_fn=loss_fn: (loss_fn(batch)[0], {"loss": torch.tensor(1.0)})
    with pytest.raises(ValueError, match="two updates log 'loss': give their values names of their own"):
        train.fit(step, 5)


def test_a_value_that_is_logged_now_and_then_is_a_mean_over_those_times():
    calls = []

    def loss_fn(model, batch):
        calls.append(1)
        logs = {"rare": torch.tensor(6.0)} if len(calls) % 4 == 0 else {}
        return F.mse_loss(model(batch.x), batch.x.flatten(1)), logs

    history = train.fit(step_for(loss_fn), 16, reports=2)
    assert history["rare"] == [6.0, 6.0]
    calls.clear()
    history = train.fit(step_for(loss_fn), 8, reports=8)
    assert [v for v in history["rare"] if v == v] == [6.0, 6.0] and len(history["rare"]) == len(history.steps)


def test_a_value_that_was_not_detached_is_logged_all_the_same():
    def loss_fn(model, batch):
        mse = F.mse_loss(model(batch.x), batch.x.flatten(1))
        return mse, {"mse": mse, "number": 3}

    history = train.fit(step_for(loss_fn), 20, checkpoint="run.pt")
    assert history["mse"] == pytest.approx(history["loss"]) and set(history["number"]) == {3.0}


# --- slips in a loss ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("spoil, said", [
    (lambda loss: loss, "yours returned the loss alone: write `return loss, {}`"),
    (lambda loss: None, "yours returned nothing"), (lambda loss: (loss, {}, 1), "yours returned 3 things"),
    (lambda loss: (loss.item(), {}), "its loss is a float, through which no gradient"),
    (lambda loss: (loss.detach(), {}), "does not depend on the weights"),
    (lambda loss: (loss.expand(16), {}), r"its loss has the shape \(16,\): take the mean"),
    (lambda loss: (loss, loss.detach()), "its second part is a tensor of shape"),
    (lambda loss: (loss, {"mse": loss.expand(16)}), r"logs\['mse'\] is a tensor of shape \(16,\)"),
    (lambda loss: (loss, {"mse": "low"}), r"logs\['mse'\] is a str"),
])
def test_slips_in_a_loss_are_named_in_the_reader_s_words(spoil, said):
    step = step_for(lambda model, batch: spoil(F.mse_loss(model(batch.x), batch.x.flatten(1))))
    with pytest.raises(kernels.LossError, match=said):
        train.fit(step, 5)


def test_a_notebook_shows_the_cell_and_the_loss_and_none_of_the_core(tmp_path):
    """Run as a kernel would: the traceback names the reader's lines, and a stop is one line and drops waiting cells."""
    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError

    setup = ("import genmed_core, torch, os, signal\nfrom torch import nn\nfrom genmed_core import kernels, train\n"
             "def loss_fn(batch):\n    return model(batch.x).flatten(1) @ torch.ones(3), {}\n"
             "model = nn.Linear(8, 8)\n"
             "def step_with(f):\n    sgd = torch.optim.SGD(model.parameters(), lr=0.1)\n"
             "    return kernels.TrainStep(f, sgd, model=model,\n"
             "        batches=kernels.Batches(torch.rand(16, 1, 8, 8), batch_size=4, device='cpu'))\n")
    stop = ("train.fit(step_with(lambda b: (model(b.x).mean(), {})), 50, reports=50,\n"
            "          callback=lambda s, _: s.count == 7 and os.kill(os.getpid(), signal.SIGINT))")
    for source, shown, hidden in (("train.fit(step_with(loss_fn), 5)", ["train.fit", "in loss_fn"], "take_step"),
                                  (stop, ["stopped after step 7 of 50"], "Traceback")):
        cells = [nbformat.v4.new_code_cell(c) for c in (setup, source, "print('on')")]
        notebook = nbformat.v4.new_notebook(cells=cells)
        with pytest.raises(CellExecutionError):
            NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
        error = next(o for o in notebook.cells[1].outputs if o.output_type == "error")
        text = re.sub("\x1b\\[[0-9;]*m", "", "\n".join(error.traceback))
        assert all(s in text for s in shown) and hidden not in text, text
        assert not notebook.cells[2].outputs, "the waiting cell was dropped"


# --- data ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("images, labels, said", [
    (np.zeros((8, 28)), None, "expected .N, C, H, W. or .N, H, W."),
    (torch.zeros(0, 1, 8, 8), None, "there are no images"),
    (torch.full((8, 1, 8, 8), float("nan")), None, "NaN or infinity"),
    (torch.full((8, 1, 8, 8), 300), None, "images are torch.int64 from 300 to 300: give bytes"),
    (torch.full((8, 1, 8, 8), -1), None, "give bytes"), (torch.ones(8, 1, 8, 8, dtype=torch.bool), None, "torch.bool"),
    (torch.zeros(8, 1, 8, 8), torch.zeros(7), r"labels \(7,\): expected \(8,\)"),
    (torch.zeros(8, 1, 8, 8), torch.zeros(8), "labels are torch.float32: give whole numbers"),
])
def test_images_and_labels_that_do_not_fit_are_named(images, labels, said):
    with pytest.raises((ValueError, TypeError), match=said):
        kernels.Batches(images, labels, batch_size=4, device="cpu")


@pytest.mark.parametrize("size, said", [(25.5, "batch_size=25.5: give a whole number"), (True, "batch_size=True"),
                                        ("8", "batch_size='8'"), (0, "choose 1 to 8"), (9, "choose 1 to 8")])
def test_batch_sizes_that_do_not_fit_are_named(size, said):
    with pytest.raises((ValueError, TypeError), match=said):
        kernels.Batches(torch.zeros(8, 1, 4, 4), batch_size=size, device="cpu")


@pytest.mark.parametrize("kind", [np.int64, np.int32, np.uint16, np.uint8])
def test_bytes_in_a_wider_type_are_scaled_like_bytes(kind):
    images = np.arange(256).reshape(4, 1, 8, 8)
    batches = kernels.Batches(images.astype(kind), labels=[0, 1, 2, 3], batch_size=4, device="cpu")
    x, y = batches.gather(torch.arange(4))
    assert torch.allclose(x.flatten(), torch.arange(256) / 255) and y.tolist() == [0, 1, 2, 3]


# --- a compiler that fails ----------------------------------------------------------------------------------


@pytest.mark.parametrize("variable, value, said, mode", [
    ("CXX", "nowhere/g++", "torch.compile cannot handle this loss (", "eager"),
    ("TORCHINDUCTOR_CACHE_DIR", "/proc/nothing", "DIR='/proc/nothing' cannot be written", "compile"),
])
def test_a_compiler_that_cannot_work_is_said_and_the_training_goes_on(tmp_path, variable, value, said, mode):
    script = ("import genmed_core, torch\nfrom torch import nn\nfrom genmed_core import kernels, train\n"
              "m = nn.Sequential(nn.Flatten(), nn.Linear(16, 16))\n"
              "b = kernels.Batches(torch.rand(8, 1, 4, 4), batch_size=4, device='cpu')\n"
              "s = kernels.TrainStep(lambda b: (m(b.x).square().mean(), {}), torch.optim.Adam(m.parameters()),\n"
              "                      batches=b, model=m, mode='compile')\n"
              "train.fit(s, 4)\nprint('mode', s.mode)\n")
    environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache"), variable: value}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=600, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    assert said in done.stdout and f"mode {mode}" in done.stdout, done.stdout
