"""Shares of a batch average to the whole batch's step; two processes under torchrun train as one process does."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from training_steps import distance

from genmed_core import chapters, distributed, kernels
from genmed_core.kernels import shares

ROOT = Path(__file__).resolve().parent.parent

# --- shares -------------------------------------------------------------------------------------------------


def test_parts_cover_all_images_and_are_nearly_equal():
    parts = shares.split(4, 14, 4)
    assert [i for start, stop in parts for i in range(start, stop)] == list(range(4, 14))
    assert {stop - start for start, stop in parts} == {2, 3}


def trained_on(loss_fn, digits_like, batch_size=10):
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 64))
    batches = kernels.Batches(*digits_like, batch_size=batch_size, device="cpu")
    return kernels.TrainStep(lambda b: (loss_fn(model(b.x), b.x.flatten(1)), {}), torch.optim.SGD(model.parameters()),
                             batches=batches, model=model)


@pytest.mark.parametrize("batch_size, parts", [(10, 2), (10, 4), (9, 2), (7, 4)])
def test_parts_of_unequal_size_count_by_their_images(digits_like, batch_size, parts):
    """Three and two images of five: the gradient of the whole, to rounding, only if they are weighted so."""
    ends = []
    for number in (1, parts):
        torch.manual_seed(0)
        step = trained_on(lambda out, x: (out - x).square().mean(), digits_like, batch_size)
        step.parts = number
        step.run(1)
        ends.append([p.grad.clone() for p in step.model.parameters()] + [torch.tensor(step.read_logs()["loss"])])
    for whole, shared in zip(*ends):
        assert torch.allclose(whole, shared, rtol=1e-5, atol=1e-8)


def noisy(reduce):
    return lambda out, x: reduce((out + torch.randn_like(out) - x).square())


@pytest.mark.parametrize("loss_fn", [
    lambda out, x: (out - x).square().sum(), noisy(torch.sum),
    lambda out, x: (out - x).square().flatten(1).mean(1).sum(),
    lambda out, x: (out - x).square().mean() + 1e-3 * out.square().sum(),  # one term is a sum
    lambda out, x: torch.logsumexp(out @ out.T, 1).mean(),  # over pairs: a batch half as large is another loss
], ids=["sum", "noisy sum", "sum over images", "one term a sum", "pairs"])
def test_a_loss_that_is_no_mean_is_refused_where_batches_are_shared(digits_like, loss_fn):
    step = trained_on(loss_fn, digits_like)
    step.run(2)
    before = {k: v.clone() for k, v in step.model.state_dict().items()}
    step.halve()
    with pytest.raises(ValueError, match="the loss is no mean over the batch: on 5 images"):
        step.run(1)
    assert all(torch.equal(v, before[k]) for k, v in step.model.state_dict().items())


@pytest.mark.parametrize("loss_fn", [
    lambda out, x: (out - x).square().mean(), noisy(torch.mean),
    lambda out, x: (out - x).square().flatten(1).sum(1).mean(),
    lambda out, x: (torch.randn(len(x)) * 3).mean() + out.mean(),  # hardly more than noise
], ids=["mean", "noisy mean", "mean over images", "noise"])
def test_a_mean_may_be_shared_and_the_look_at_it_changes_nothing(digits_like, loss_fn):
    step = trained_on(loss_fn, digits_like)
    step.halve()
    noise = step.state.noise.state()["cpu"].clone()
    with step.state.noise.flow():
        shares.check_mean(step, step.updates[0], torch.arange(10))
    assert torch.equal(step.state.noise.state()["cpu"], noise) and step.count == 0
    step.run(3)
    assert step.count == 3


def test_every_process_draws_noise_of_its_own(monkeypatch):
    monkeypatch.setattr(shares, "processes", lambda: 2)
    drawn = []
    for rank in (0, 1):
        monkeypatch.setattr(shares, "rank", lambda rank=rank: rank)
        for seed in (0, 1):
            stream = kernels.state.NoiseStream(seed, torch.device("cpu"))
            with stream.flow():
                drawn.append(torch.randn(8))
            stream.restart(step=10)  # as after a resumed training
            with stream.flow():
                drawn.append(torch.randn(8))
    assert len({tuple(d.tolist()) for d in drawn}) == len(drawn)


def test_outside_a_group_there_is_one_process():
    assert shares.processes() == 1 and shares.rank() == 0
    assert shares.anywhere(True) and not shares.anywhere(False)
    assert shares.from_first("x") == "x" and shares.average(torch.ones(2)).tolist() == [1, 1]


def test_sharded_batches_keep_disjoint_equal_shares(digits_like, monkeypatch):
    images, labels = digits_like[0][:101], torch.arange(101)
    monkeypatch.setattr(shares, "processes", lambda: 2)
    seen = []
    for rank in (0, 1):
        monkeypatch.setattr(shares, "rank", lambda rank=rank: rank)
        batches = kernels.Batches(images, labels, batch_size=20, device="cpu", sharded=True)
        assert len(batches) == 5 and len(batches.images) == 50
        seen.append(batches)
    epoch = [torch.cat([b.gather(rows).y for rows in b.take(5)]) for b in seen]
    assert torch.equal(*(b.take(7) for b in seen)), "one permutation serves all, so that one checkpoint does"
    assert torch.cat(epoch).unique().numel() == 100
    with pytest.raises(ValueError, match="batch_size=25 cannot be shared by 2 processes"):
        kernels.Batches(images, batch_size=25)


# --- two processes ------------------------------------------------------------------------------------------


def test_without_torchrun_the_command_is_named(monkeypatch):
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    with pytest.raises(RuntimeError, match="torch.distributed.run --nproc-per-node 2"), distributed.process_group():
        pass


CHAPTER = '''
# %%
import genmed_core
import contextlib, json, os, signal
import torch
from training_steps import autoencoder, cvae, unet, weights, wgan_gp
from genmed_core import train
from genmed_core.kernels import shares

g = torch.Generator().manual_seed(7)
images = torch.randint(0, 256, (512, 1, 8, 8), generator=g, dtype=torch.uint8)
labels = torch.randint(0, 10, (512,), generator=g)
logs, ends = {}, {}

# %%
def record(make, **options):
    _, step = make(images, labels, **options)
    logs[make.__name__] = train.fit(step, 50, reports=50).logs
    ends[make.__name__] = [weights(step.model).tolist(), weights(step.ema_model).tolist()]


record(autoencoder, noise=0.0)
record(cvae, bf16=False)
record(unet, bf16=False)
record(wgan_gp)

# %%
def press(step, means):
    if step.count == 4 and shares.rank() == shares.processes() - 1:
        os.kill(os.getpid(), signal.SIGINT)  # in the last process alone


_, step = autoencoder(images, labels)
with contextlib.suppress(train.TrainingStopped):
    train.fit(step, 8, reports=8, checkpoint="run.pt", callback=press)
stopped = step.count
_, step = autoencoder(images, labels)
logs["resumed"] = train.fit(step, 8, reports=8, checkpoint="run.pt").logs

# %%
facts = {"logs": logs, "ends": ends, "stopped": stopped, "alone": shares.processes() == 1}
with open(os.environ["FACTS"], "w") as file:
    json.dump(facts, file)
'''


def test_two_processes_train_as_one_does(tmp_path, monkeypatch):
    source = tmp_path / "09_small.py"
    source.write_text(CHAPTER)
    monkeypatch.setenv("FACTS", str(tmp_path / "two.json"))
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m",
         "genmed_core.distributed", str(source), "--rest"], capture_output=True, text=True, timeout=1500,
        env={**os.environ, "PYTHONPATH": paths, "GENMED_DEVICE": "cpu", "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr[-3000:]
    two = json.loads((tmp_path / "two.json").read_text())
    assert done.stdout.count("2 processes") == 1 and done.stdout.count("resumed from run.pt") == 1
    assert two["stopped"] == 4 and two["alone"], "a stop in one process stops all of them, at the same step"
    assert [p.name for p in (tmp_path / "runs").iterdir()] == ["run.pt"]

    monkeypatch.setenv("FACTS", str(tmp_path / "one.json"))
    monkeypatch.setenv("GENMED_RUNS", str(tmp_path / "others"))
    chapters.run(chapters.cells(source), {}, source.name)
    one = json.loads((tmp_path / "one.json").read_text())
    for name, values in one["logs"]["autoencoder"].items():  # no noise: the same numbers
        assert two["logs"]["autoencoder"][name] == pytest.approx(values, abs=1e-4, rel=1e-4), name
    for a, b in zip(two["ends"]["autoencoder"], one["ends"]["autoencoder"]):
        assert distance(torch.tensor(a), torch.tensor(b)) < 2e-3
    for make in ("cvae", "unet", "wgan_gp"):  # noise of their own: the same distribution
        for name, values in one["logs"][make].items():
            ours, theirs = torch.tensor(two["logs"][make][name]), torch.tensor(values)
            assert not torch.equal(ours, theirs), f"{make}: both processes drew what one draws"
            late = (ours[-25:].mean() - theirs[-25:].mean()).abs()
            error = (ours[-25:].diff().std() + theirs[-25:].diff().std()) / 5
            assert late < 4 * error + 0.05 * theirs[-25:].mean().abs(), (make, name, late, error)
