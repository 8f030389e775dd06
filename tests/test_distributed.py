"""Shares of a batch see the whole batch's noise; two processes under torchrun train as one process does."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from training_steps import distance

from genmed_core import chapters, diffusion, distributed, kernels, nets
from genmed_core.kernels import shares

ROOT = Path(__file__).resolve().parent.parent

# --- noise of a share ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("draw", [
    lambda x: torch.randn(len(x), 3), lambda x: torch.randn((len(x), 5), dtype=torch.float64),
    lambda x: torch.rand(size=(len(x),)), lambda x: torch.randint(9, (len(x),)) + torch.randint(high=9, size=(len(x),)),
    lambda x: torch.randint(0, 5, (2, len(x), 1)).sum(0), torch.randn_like, torch.bernoulli,
    lambda x: torch.normal(x, x), lambda x: torch.empty_like(x).uniform_(), lambda x: x.clone().normal_(),
    lambda x: F.dropout(x, 0.5), lambda x: nn.Dropout(0.3)(x), lambda x: torch.distributions.Normal(x, 1.0).rsample(),
    lambda x: torch.randn(4, len(x), 2)[1], lambda x: x + torch.rand(3)[0], lambda x: x + torch.randn(()),
    lambda x: diffusion.stratified_timesteps(len(x), 1000), nets.shift_augment,
], ids=range(18))
def test_shares_together_draw_what_the_whole_batch_draws(draw):
    x = torch.rand(12, 1, 5, 5, generator=torch.Generator().manual_seed(1))
    torch.manual_seed(0)
    whole, after = draw(x), torch.rand(3)
    shares = []
    for start, stop in ((0, 7), (7, 12)):
        torch.manual_seed(0)
        with shares.rows(start, stop, 12):
            shares.append(draw(x[start:stop]))
        assert torch.equal(torch.rand(3), after), "the stream goes on alike after every share"
    assert torch.equal(torch.cat(shares), whole)


def test_gradients_pass_through_the_dropout_of_a_share():
    x = torch.ones(3, 4, requires_grad=True)
    with shares.rows(3, 6, 12):
        y = F.dropout(x, 0.5)
    y.sum().backward()
    assert torch.equal(x.grad, y.detach())


def test_parts_cover_all_rows_and_are_nearly_equal():
    parts = shares.parts(4, 14, 4)
    assert [i for start, stop in parts for i in range(start, stop)] == list(range(4, 14))
    assert {stop - start for start, stop in parts} == {2, 3}


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
import json, os, signal
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


record(cvae, bf16=False)
record(unet, bf16=False)
record(wgan_gp)

# %%
def press(step, means):
    if step.count == 4 and shares.rank() == shares.processes() - 1:
        os.kill(os.getpid(), signal.SIGINT)  # in the last process alone


_, step = autoencoder(images, labels)
train.fit(step, 8, reports=8, checkpoint="run.pt", callback=press)
stopped = step.count
_, step = autoencoder(images, labels, seed=1)
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
    for make, logs in one["logs"].items():
        for name, values in logs.items():
            assert two["logs"][make][name] == pytest.approx(values, abs=1e-4, rel=1e-4), (make, name)
    for make, ends in one["ends"].items():
        for a, b in zip(two["ends"][make], ends):
            off = distance(torch.tensor(a), torch.tensor(b))
            print(f"{make}: weights {off:.1e} apart")
            assert off < 1e-2, make  # Muon, which turns rounding in bfloat16, is the farthest; the others 2e-3
