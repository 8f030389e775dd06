"""Every kind of step, compiled as eager, and in bfloat16 near float32: stand-ins always, the chapters' own on request.

`make parity` runs the chapters' own steps, taken from their cells; a compiler needs up to a minute for each.
"""

import math

import pytest
import torch
from chapter_steps import CHAPTERS, apart, course, nudged, questions, study
from training_steps import SHAPES, cvae, distance, unet, weights

from genmed_core import diffusion, kernels, train
from genmed_core.kernels import cuda_graphs


def ends(make, data, steps=100, **options):
    _, step = make(*data, **options)
    history = train.fit(step, steps, reports=20)
    return step, history.logs, weights(step.model)


# The first step of a compiled loss differs by rounding alone; Adam, RMSprop and Muon enlarge that while their moments
# are young, and players answer each other's errors. (autoencoder and gan: test_kernels.py)
@pytest.mark.parametrize("make", [cvae, pytest.param(unet, marks=pytest.mark.parity)], ids=["cvae", "unet"])
def test_compiled_and_eager_agree_over_100_steps(digits_like, make):
    eager, compiled = (ends(make, digits_like, mode=mode, bf16=False) for mode in ("eager", "compile"))
    assert compiled[0].mode == "compile"
    assert apart(eager[1], compiled[1]) < 1e-2 and distance(compiled[2], eager[2]) < 1e-2


def test_compiled_convolutions_see_the_noise_that_eager_ones_see(digits_like):
    """A compiler that lays the maps of a convolution out anew would deal randn_like's numbers to other places."""
    first = []
    for mode in ("eager", "compile"):
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Conv2d(1, 8, 4, stride=2, padding=1), torch.nn.SiLU(),
                                    torch.nn.Conv2d(8, 8, 1))

        def noisy(batch, model=model):
            mu, logvar = model(batch.x).chunk(2, dim=1)
            z = mu + torch.randn_like(mu) * (0.5 * logvar).exp()
            return (z * torch.linspace(-1, 1, z[0].numel()).view(z[0].shape)).square().mean(), {}

        step = kernels.TrainStep(noisy, torch.optim.SGD(model.parameters(), lr=0.0), model=model, mode=mode, seed=0,
                                 batches=kernels.Batches(*digits_like, batch_size=32, seed=0))
        first.append(train.fit(step, 1, reports=1).logs["loss"][0])
        assert step.mode == mode
    assert first[1] == pytest.approx(first[0], rel=1e-5)


@pytest.mark.parametrize("make", [cvae, unet], ids=lambda f: f.__name__)
def test_bfloat16_stays_near_float32_and_finite(digits_like, make):
    single, half = (ends(make, digits_like, bf16=bf16) for bf16 in (False, True))
    assert apart(single[1], half[1]) < 0.1
    assert all(math.isfinite(v) for values in half[1].values() for v in values)


@pytest.mark.parametrize("make", SHAPES.values(), ids=SHAPES)
def test_no_kind_of_step_asks_the_device_for_a_value(digits_like, make):
    assert questions(make(*digits_like)[1]) == []


def test_a_loss_that_asks_is_caught(digits_like):
    _, step = cvae(*digits_like)
    loss = step.updates[0].loss_fn

    def asks(batch):
        value, logs = loss(batch)
        return (value if value.item() > 0 and (batch.x[batch.x > 0.5]).numel() else -value), logs

    step.updates[0].loss_fn = asks
    assert questions(step) == ["_local_scalar_dense", "index by truth values"]


def test_every_kind_of_step_has_a_stand_in():
    assert {"autoencoder", "cvae", "gan", "five_critics", "wgan_gp", "unet"} == set(SHAPES)


@pytest.mark.parity
@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_chapters_own_steps_agree(chapter, monkeypatch):
    """Over 100 steps at the chapter's own rates and batches: compiled against eager, and bfloat16 against float32.

    A clipped critic under RMSProp, or two players at a high rate, turn the last digit of a weight into another course.
    So a mode may be as far from eager as ten times an eager run whose weights were nudged by its rounding.
    """

    def look(title, step):
        start, runs = step.state_dict(), {}
        assert not (asked := questions(step)), f"{title}: {', '.join(asked)} would make the processor wait for a GPU"
        for name, mode, bf16, nudge in (("eager", "eager", False, 0), ("compile", "compile", False, 0),
                                        ("bf16", "eager", True, 0), ("eager, nudged", "eager", False, 1e-7),
                                        ("bf16, nudged", "eager", False, 2e-3)):
            runs[name] = course(step, nudged(start, nudge), mode=mode, bf16=bf16, monkeypatch=monkeypatch)
        step.load_state_dict(start)
        _, logs, end, _ = runs.pop("eager")
        off = {name: (apart(logs, r[1]), distance(r[2], end)) for name, r in runs.items()}
        told = " | ".join(f"{name} {loss:.1e}, {weight:.1e}" for name, (loss, weight) in off.items())
        print(f"PARITY | {chapter} | {title} | {runs['compile'][0]} | {told}")
        assert all(math.isfinite(v) for values in runs["bf16"][1].values() for v in values)
        return off

    for title, off in study(chapter, look, monkeypatch).items():
        for mode, control, bar in (("compile", "eager, nudged", 2e-2), ("bf16", "bf16, nudged", 0.2)):
            for what, value, limit in zip(("losses", "weights"), off[mode], off[control]):
                assert value < max(bar, 10 * limit), f"{title}: {what} in {mode} are {value:.1e} off"


# --- samplers as graphs: here without a GPU, in tests/gpu with one --------------------------------------------


@pytest.fixture
def denoiser(digits_like):
    """A U-Net that has learned a little, and its schedule."""
    _, step = unet(*digits_like, bf16=False)
    train.fit(step, 20)
    return step.model, diffusion.Schedule.cosine(1000)


def draw(denoiser, **options):
    y, generator = torch.arange(4), torch.Generator().manual_seed(3)
    settings = {"y": y, "guidance": 2.0, "null": 10, "predicts": "v", "clip": (-1, 1), "generator": generator}
    return diffusion.sample(*denoiser[:1], (4, 1, 8, 8), denoiser[1], **settings, **options)


def static_buffers(function, tensors):
    """What a captured graph does to memory, without a GPU: it reads and writes the same places at every replay."""
    inputs = [t.clone() for t in tensors]
    outputs = function(*inputs)

    def replay(*tensors):
        for kept, new in zip(inputs, tensors):
            kept.copy_(new)
        for kept, new in zip(outputs, function(*inputs)):
            kept.copy_(new)
        return outputs

    return replay


@pytest.mark.parametrize("options", [{"steps": 50}, {"steps": 20, "eta": 1.0}, {"steps": 1}])
def test_a_sampler_that_replays_one_step_gives_the_same_images(denoiser, monkeypatch, options):
    seen, eager_seen = [], []
    eager = draw(denoiser, callback=lambda *state: eager_seen.append(state), **options)
    monkeypatch.setattr(cuda_graphs, "_has_graphs", lambda device: True)
    monkeypatch.setattr(cuda_graphs, "_replay_of", static_buffers)
    assert torch.equal(draw(denoiser, graph=True, **options), eager)
    assert torch.equal(draw(denoiser, graph=True, callback=lambda *state: seen.append(state), **options), eager)
    for (t, x, x0_hat), (t_eager, x_eager, x0_eager) in zip(seen, eager_seen, strict=True):
        assert t == t_eager and torch.equal(x, x_eager) and torch.equal(x0_hat, x0_eager), "a callback may keep them"


def test_a_sampler_without_a_gpu_says_so_and_gives_the_same_images(denoiser, capsys):
    assert torch.equal(draw(denoiser, steps=10, graph=True), draw(denoiser, steps=10))
    assert capsys.readouterr().out.count("a CUDA graph needs a CUDA GPU; sampling eagerly") == 1


def test_a_model_that_cannot_be_captured_is_sampled_eagerly(denoiser, monkeypatch, capsys):
    def refuse(function, tensors):
        raise RuntimeError("operation not permitted when stream is capturing\nlong trace")

    monkeypatch.setattr(cuda_graphs, "_has_graphs", lambda device: True)
    monkeypatch.setattr(cuda_graphs, "_replay_of", refuse)
    assert torch.equal(draw(denoiser, steps=10, graph=True), draw(denoiser, steps=10))
    assert "cannot be captured (operation not permitted when stream is capturing)" in capsys.readouterr().out
