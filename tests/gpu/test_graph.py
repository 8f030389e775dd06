"""On a CUDA GPU: the captured step does what the eager step does. Skipped, and said to be, elsewhere."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from training_steps import autoencoder, distance, gan, weights, wgan_gp

from genmed_core import train

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU here")]


@pytest.mark.parametrize("make", [autoencoder, gan, wgan_gp])
@pytest.mark.parametrize("launch", [1, 8])
def test_graph_and_eager_agree_over_100_steps(digits_like, make, launch):
    ends = {}
    for mode in ("eager", "graph"):
        _, step = make(*digits_like, device="cuda", mode=mode, ema=0.95, steps_per_launch=launch)
        history = train.fit(step, 100, reports=7)
        assert step.mode == mode
        ends[mode] = weights(step.model), weights(step.ema_model), history.logs
    assert distance(ends["graph"][0], ends["eager"][0]) < 1e-5
    assert distance(ends["graph"][1], ends["eager"][1]) < 1e-5
    for name, values in ends["eager"][2].items():
        assert ends["graph"][2][name] == pytest.approx(values, rel=1e-4, abs=1e-6)


def test_a_resumed_graph_equals_an_uninterrupted_one(digits_like):
    _, whole = autoencoder(*digits_like, device="cuda", mode="graph")
    train.fit(whole, 60, reports=6)
    _, stopped = autoencoder(*digits_like, device="cuda", mode="graph")
    with pytest.raises(ZeroDivisionError):
        train.fit(stopped, 60, reports=6, checkpoint="run.pt", callback=lambda s, _: s.count == 30 and 1 / 0)
    _, resumed = autoencoder(*digits_like, device="cuda", mode="graph", seed=5)
    train.fit(resumed, 60, reports=6, checkpoint="run.pt")
    assert torch.equal(weights(resumed.model), weights(whole.model))


def test_a_loss_that_cannot_be_captured_runs_eagerly_and_says_so(digits_like, capsys):
    model, step = autoencoder(*digits_like, device="cuda", mode="graph")
    reference, plain = autoencoder(*digits_like, device="cuda", mode="eager")
    loss = step._losses[0]

    def peeks(batch):
        value, logs = loss(batch)
        assert value.item() < 1e9  # waits for the device: not allowed in a graph
        return value, logs

    step._losses[0] = peeks
    train.fit(step, 40)
    train.fit(plain, 40)
    assert "cannot be captured" in capsys.readouterr().out and step.mode == "eager"
    assert distance(weights(model), weights(reference)) < 1e-5
