"""On a CUDA GPU: the captured step does what the eager step does. Skipped, and said to be, elsewhere.

Random streams: a graph draws from the same stream as an eager step, and as many numbers, whether it holds one step or
several. After five steps the two differ by rounding alone (a captured optimiser counts its steps on the device, in
float32, and Muon's rate reaches it another way); a hundred steps enlarge that.
"""

import pytest
import torch
from chapter_steps import CHAPTERS, apart, course, study
from training_steps import SHAPES, autoencoder, cvae, distance, unet, weights

from genmed_core import diffusion, train

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU here")]


def ends(make, data, steps, **options):
    _, step = make(*data, device="cuda", **options)
    history = train.fit(step, steps, reports=20)
    return step.mode, history.logs, weights(step.model), weights(step.ema_model)


@pytest.mark.parametrize("launch", [1, 8])
@pytest.mark.parametrize("make", SHAPES.values(), ids=SHAPES)
def test_graph_and_eager_agree_over_100_steps(digits_like, make, launch):
    for steps, tolerance in ((5, 1e-4), (100, 5e-3)):
        eager, graph = (ends(make, digits_like, steps, mode=mode, ema=0.95, steps_per_launch=launch)
                        for mode in ("eager", "graph"))
        assert graph[0] == "graph"
        assert apart(eager[1], graph[1]) < tolerance
        assert distance(graph[2], eager[2]) < tolerance and distance(graph[3], eager[3]) < tolerance


@pytest.mark.parametrize("make", SHAPES.values(), ids=SHAPES)
def test_one_step_or_several_to_a_launch_are_the_same(digits_like, make):
    one, several = (ends(make, digits_like, 100, mode="graph", steps_per_launch=launch) for launch in (1, 8))
    assert torch.allclose(one[2], several[2], rtol=1e-4, atol=1e-6)


@pytest.mark.parity
@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_chapters_own_steps_agree_with_their_graphs(chapter, monkeypatch):
    def look(title, step):
        start = step.state_dict()
        eager = course(step, start, mode="eager", bf16=False, monkeypatch=monkeypatch)
        for launch in (1, 8):
            graph = course(step, start, mode="graph", bf16=False, launch=launch, monkeypatch=monkeypatch)
            off = apart(eager[1], graph[1]), distance(graph[2], eager[2])
            print(f"PARITY | {chapter} | {title} | {graph[0]}, {launch} to a launch | {off[0]:.1e} | {off[1]:.1e}")
            assert graph[0] == "graph" and max(off) < 2e-2, title

    study(chapter, look, monkeypatch)


def test_a_resumed_graph_equals_an_uninterrupted_one(digits_like):
    _, whole = autoencoder(*digits_like, device="cuda", mode="graph")
    train.fit(whole, 60, reports=6)
    _, stopped = autoencoder(*digits_like, device="cuda", mode="graph")
    with pytest.raises(ZeroDivisionError):
        train.fit(stopped, 60, reports=6, checkpoint="run.pt", callback=lambda s, _: s.count == 30 and 1 / 0)
    _, resumed = autoencoder(*digits_like, device="cuda", mode="graph", seed=5)
    train.fit(resumed, 60, reports=6, checkpoint="run.pt")
    assert torch.equal(weights(resumed.model), weights(whole.model))


@pytest.mark.parametrize("wait", [lambda v: v.item(), lambda v: torch.cuda.synchronize()], ids=["item", "synchronize"])
def test_a_loss_that_cannot_be_captured_runs_eagerly_and_says_so(digits_like, capsys, wait):
    """item() is refused in the rehearsal; synchronize() breaks the recording itself, noise and all."""
    model, step = autoencoder(*digits_like, device="cuda", mode="graph")
    reference, plain = autoencoder(*digits_like, device="cuda", mode="eager")
    loss = step.updates[0].loss_fn

    def peeks(batch):
        value, logs = loss(batch)
        wait(value)
        return value, logs

    step.updates[0].loss_fn = peeks
    train.fit(step, 40)
    train.fit(plain, 40)
    assert "cannot be captured" in capsys.readouterr().out and step.mode == "eager"
    assert distance(weights(model), weights(reference)) < 1e-5


def test_out_of_memory_while_capturing_halves_the_batch(digits_like, capsys):
    model, step = cvae(*digits_like, device="cuda", mode="graph", bf16=False)
    reference, plain = cvae(*digits_like, device="cuda", mode="eager", bf16=False)
    loss, limit = step.updates[0].loss_fn, torch.cuda.get_device_properties(0).total_memory

    def hungry(batch):
        torch.empty(limit * len(batch.x) // 20, dtype=torch.uint8, device="cuda")  # 32 rows want 1.6 times the memory
        return loss(batch)

    step.updates[0].loss_fn = hungry
    train.fit(step, 40)
    train.fit(plain, 40)
    assert "each batch now passes in 2 parts" in capsys.readouterr().out and step.mode == "eager"
    assert distance(weights(model), weights(reference)) < 5e-3


# --- samplers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{"steps": 50}, {"steps": 1000, "eta": 1.0}], ids=["DDIM", "DDPM"])
@pytest.mark.parametrize("kind", ["cpu", "cuda", None])
@pytest.mark.parametrize("callback", [None, lambda *state: None])
def test_a_captured_sampler_draws_the_same_images(digits_like, options, kind, callback, capsys):
    _, step = unet(*digits_like, device="cuda", bf16=False)
    train.fit(step, 50)
    schedule, y = diffusion.Schedule.cosine(1000).to("cuda"), torch.arange(8, device="cuda")
    images = []
    for graph in (False, True):
        torch.manual_seed(5)
        generator = torch.Generator(kind).manual_seed(3) if kind else None
        images.append(diffusion.sample(
            step.model, (8, 1, 8, 8), schedule, y=y, guidance=2.0, null=10, predicts="v", clip=(-1, 1),
            generator=generator, graph=graph, callback=callback, **options))
    assert "cannot be captured" not in capsys.readouterr().out
    assert torch.allclose(*images, atol=1e-4)
