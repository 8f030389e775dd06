"""Networks that run in the browser equal torch's: each operation, each kind of network, and whole films of diffusion.

Numbers are compared in node, which runs the same engine.js; the widget in Chromium, from file://, under a content
policy that allows no eval and no other host.
"""

import json
import re

import engine_node
import numpy as np
import pytest
import torch
import widget_page
from engine_node import chapter_class
from torch import nn
from torch.nn import functional as F

import genmed_core  # noqa: F401  (before torch)
from genmed_core import diffusion, metrics, nets, widgets
from genmed_core.widgets import compile_network, denoising, sampling
from genmed_core.widgets.compile import InFull

GREY = 2 / 255  # two levels of 255, on the scale 0..1


def settled(network, seed=0):
    """Weights and statistics that all matter, in float16's precision, so that only the computation can differ."""
    generator = torch.Generator().manual_seed(seed)
    if isinstance(network, nn.Module):
        for name, value in network.state_dict().items():
            if value.is_floating_point():
                noise = torch.randn(value.shape, generator=generator)
                fan_in = value[0].numel() if value.ndim > 1 else 1
                value.copy_(noise.abs() + 0.5 if "running_var" in name else noise / fan_in**0.5 if value.ndim > 1
                            else 1 + 0.2 * noise if "norm" in name and "weight" in name else 0.2 * noise)
                value.copy_(value.half())
        network.eval().requires_grad_(False)
    return network


# --- each operation, on odd shapes ---------------------------------------------------------------------------------


def picture(*shape, seed=1):
    return torch.randn(2, *shape, generator=torch.Generator().manual_seed(seed))


label, rows = torch.tensor([2, 0]), settled(nn.Embedding(4, 3))
OPERATIONS = {
    "linear": (nn.Linear(7, 5), picture(7)),
    "linear, no bias, on rows": (nn.Linear(7, 9, bias=False), picture(3, 7)),
    "matmul": (lambda x: x @ x.transpose(1, 2), picture(5, 7)),
    "matmul, by a constant": (lambda x: torch.ones(3, 5) @ x, picture(5, 6)),
    "conv": (nn.Conv2d(3, 5, 3, padding=1), picture(3, 7, 9)),
    "conv, unlike sides": (nn.Conv2d(2, 6, (3, 2), stride=(1, 2), padding=(2, 1)), picture(2, 5, 4)),
    "conv, same, even": (nn.Conv2d(2, 3, 2, padding="same"), picture(2, 5, 4)),
    "conv, stride leaves a rest": (nn.Conv2d(1, 1, 3, stride=3), picture(1, 6, 7)),
    "conv, dilated groups": (nn.Conv2d(4, 6, 3, dilation=(1, 2), groups=2, bias=False), picture(4, 6, 7)),
    "conv_transpose": (nn.ConvTranspose2d(3, 2, 4, stride=2, padding=1), picture(3, 3, 5)),
    "conv_transpose, unlike sides": (nn.ConvTranspose2d(2, 1, (3, 4), stride=(2, 3), padding=(1, 2),
                                                        output_padding=(1, 2)), picture(2, 3, 4)),
    "max pool": (nn.MaxPool2d(3, stride=2, padding=1), picture(2, 7, 6)),
    "mean pool": (nn.AvgPool2d((2, 3)), picture(2, 5, 7)),
    "adaptive pool": (nn.AdaptiveAvgPool2d((2, 3)), picture(2, 6, 9)),
    "group norm": (nn.GroupNorm(3, 6, eps=0.1), picture(6, 3, 5)),
    "group norm, plain": (nn.GroupNorm(2, 6, affine=False), picture(6, 3, 5)),
    "instance norm": (nn.InstanceNorm2d(3), picture(3, 4, 5)),
    "layer norm": (nn.LayerNorm((3, 5)), picture(2, 3, 5)),
    "batch norm": (nn.BatchNorm2d(3, eps=0.5), picture(3, 2, 5)),
    "batch norm, plain": (nn.BatchNorm1d(5, affine=False), picture(5)),
    "pixel shuffle": (nn.PixelShuffle(3), picture(18, 2, 3)),
    "pixel unshuffle": (nn.PixelUnshuffle(2), picture(3, 4, 6)),
    "upsample": (nn.Upsample(scale_factor=(2, 3)), picture(2, 3, 2)),
    "upsample, not whole": (nn.Upsample(size=(5, 3)), picture(2, 3, 2)),
    "bilinear": (nn.Upsample(scale_factor=2, mode="bilinear"), picture(2, 3, 5)),
    "bicubic": (lambda x: F.interpolate(x, scale_factor=2, mode="bicubic"), picture(2, 3, 5)),
    "reflected edge": (nn.Conv2d(2, 3, 3, padding=1, padding_mode="reflect"), picture(2, 4, 5)),
    "repeated edge": (nn.ReplicationPad2d((1, 0, 2, 1)), picture(2, 3, 4)),
    "views": (lambda x: x[:, 1:, ::2].transpose(1, 2).flatten(1).unsqueeze(1).expand(-1, 3, -1), picture(4, 5)),
    "cat": (lambda x: torch.cat([x, 2 * x, x[..., :1]], -1), picture(3, 4)),
    "cat of channels": (lambda x: torch.cat([x[:, :1], x], 1), picture(3, 2, 4)),
    "pad": (nn.ConstantPad2d((1, -1, 2, 0), 0.5), picture(2, 3, 4)),
    "stack": (lambda x: torch.stack([x, -x], -1), picture(3, 4)),
    "softmax of channels": (nn.Softmax(1), picture(3, 2, 5)),
    "torch's attention": (nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), picture(5, 8)),
    "length": (lambda x: F.normalize(x, dim=1) + x.norm(dim=(1, 2), keepdim=True), picture(3, 4)),
    "elu": (nn.ELU(0.7), picture(9)),
    "softmax": (lambda x: x.softmax(-1), picture(3, 5)),
    "attention": (nets.SelfAttention(16, heads=2), picture(16, 3, 5)),
    "sums": (lambda x: (x.mean((1, 2)) + x.sum((1, 2)) + x.amax((1, 2)) - x.amin((1, 2))), picture(3, 4, 5)),
    "spread": (lambda x: x.var((2, 3)) + x.std((2, 3), correction=0) + x.logsumexp((2, 3)), picture(3, 4, 5)),
    "arithmetic": (lambda x: (x + x[:, :1] - x[..., :1]) * x / (1 + x.abs()) + 0.5 * -x - 1, picture(3, 4, 5)),
    "from the right": (lambda x: (3 - x) + torch.rsub(x, x[:, :1]), picture(3, 4)),
    "waves": (lambda x: x.sin() * x.cos() + x.abs().sqrt() + (x.abs() + 1).rsqrt(), picture(7)),
    "powers": (lambda x: x**2 + (x.abs() + 1).log() + (x / 4).exp() + (x.abs() + 1).reciprocal(), picture(7)),
    "bounds": (lambda x: x.clamp(-0.5, 1) + x.clamp(min=0.2) + F.hardtanh(x), picture(9)),
    "sigmoid": (nn.Sigmoid(), picture(9)), "tanh": (nn.Tanh(), picture(9)), "relu": (nn.ReLU(), picture(9)),
    "relu, in place": (nn.Sequential(nn.Linear(4, 9), nn.ReLU(inplace=True)), picture(4)),
    "leaky relu": (nn.LeakyReLU(0.3), picture(9)), "silu": (nn.SiLU(), picture(9)),
    "gelu": (nn.GELU(), picture(9)), "gelu, tanh": (nn.GELU("tanh"), picture(9)),
    "embedding": (lambda x, y: x + rows(y), picture(3), label),
    "gather": (lambda x, y: x.gather(1, y[:, None])[:, 0], picture(5), label),
    "whole steps": (lambda x, y: x + y[:, None] * 1000 // 7, picture(3), label),
    "one hot": (lambda x, y: torch.cat([x, F.one_hot(y, 4)], 1), picture(3), label),
}


@pytest.fixture(scope="module")
def operations(tmp_path_factory):
    """Every operation's program, with what torch makes and what the browser's engine makes of its input."""
    jobs, wanted = [], []
    for network, *inputs in OPERATIONS.values():
        named = dict(zip("xy", inputs))
        jobs.append((compile_network(settled(network), **named), named))
        wanted.append(network(*inputs))
    drawn = engine_node.run(tmp_path_factory.mktemp("operations"), jobs)
    return {name: (job, want, one[0]) for name, job, want, one in zip(OPERATIONS, jobs, wanted, drawn)}


@pytest.mark.parametrize("name", OPERATIONS)
def test_each_operation_in_three_places(operations, name):
    (program, inputs), want, drawn = operations[name]
    torch.testing.assert_close(program.run(**inputs)[0], want, atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(drawn, want, atol=2e-5, rtol=1e-4)


def test_every_operation_is_tried(operations):
    tried = {op["op"] for (program, _), _, _ in operations.values() for op in program.graph["ops"]}
    assert tried == set(widgets.TWINS)


# --- the chapters' networks ----------------------------------------------------------------------------------------


def textbook_denoiser():
    denoiser = chapter_class("07_simple_diffusion", "standardised", "Denoiser", T=25, SIGMA=0.3)
    return denoiser(chapter_class("07_simple_diffusion", "standardised", SIGMA=0.3))


def film_vae(half):
    vae = settled(chapter_class("09_ldm_cxr", "Residual", "RadiographVAE", LATENT=4)(8))
    return vae.encode if half == "encode" else lambda z: vae.decode(0.1 + 0.9 * z)


class Projection(nn.Module):
    """A discriminator told the label by a projection.  Miyato and Koyama 2018."""

    def __init__(self):
        super().__init__()
        self.body, self.score, self.label = nets.DigitCritic(8, outputs=16), nn.Linear(16, 1), nn.Embedding(10, 16)

    def forward(self, x, y):
        h = F.leaky_relu(self.body(x), 0.2)
        return self.score(h)[:, 0] + (h * self.label(y)).sum(1)


def discriminator(form):
    return chapter_class("05_cgan", "Discriminator")(form)


DIGIT, FILM, LATENTS = picture(1, 28, 28), picture(1, 64, 64), picture(4, 16, 16)
steps = torch.tensor([24, 3])
NETWORKS = {
    "digit reader": lambda: (metrics.load_weights(nets.DigitClassifier(), "digit_classifier"), DIGIT.abs().clamp(0, 1)),
    "encoder": lambda: (settled(nets.ConvVAE(width=8, hidden=32)).encode, DIGIT),
    "decoder": lambda: (nets.ConvVAE(width=8, hidden=32).decoder, picture(16)),
    "labelled generator": lambda: (nets.DigitGenerator(width=8, classes=10), picture(64), label),
    "critic": lambda: (nets.DigitCritic(8), DIGIT),
    "critic, projection": lambda: (Projection(), DIGIT, label),
    **{f"critic, {form}": lambda form=form: (discriminator(form), DIGIT, label)
       for form in ("eleven classes", "auxiliary", "label as input", "one output per class")},
    "book's denoiser": lambda: (textbook_denoiser(), DIGIT, steps, label),
    "U-Net": lambda: (nets.UNet(widths=(8, 16)), DIGIT, 30 * steps, label),
    "U-Net of latents": lambda: (nets.UNet(4, widths=(8, 16), patch=1, classes=4), LATENTS, 30 * steps, label),
    "encoder of films": lambda: (film_vae("encode"), FILM),
    "decoder of latents": lambda: (film_vae("decode"), LATENTS),
    "generator of films": lambda: (chapter_class("09_ldm_cxr", "Generator", NOISE=64)(8), picture(64), label),
    "critic of films": lambda: (chapter_class("09_ldm_cxr", "Critic")(8), FILM, label),
    "reader of films": lambda: (chapter_class("09_ldm_cxr", "FilmReader")(8), FILM),
    "denoiser of codes": lambda: (chapter_class("capstone", "CodeDenoiser", LATENT=64)(), picture(64), steps, label),
}


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    jobs, wanted = [], []
    for name, make in NETWORKS.items():
        network, *inputs = make()
        named = dict(zip("xty" if len(inputs) == 3 else "xy", inputs))
        network = network if name == "digit reader" else settled(network)
        jobs.append((compile_network(network, max_bytes=8_000_000, **named), named))
        with InFull():  # without the bfloat16 that some chapters ask for
            results = network(*inputs)
        wanted.append([x for x in (results if isinstance(results, tuple) else [results]) if x is not None])
    drawn = engine_node.run(tmp_path_factory.mktemp("networks"), jobs)
    return {name: (job, want, one) for name, job, want, one in zip(NETWORKS, jobs, wanted, drawn)}


@pytest.mark.parametrize("name", NETWORKS)
def test_each_network_in_three_places(networks, name):
    """To a hundredth of a grey level for every output of the network."""
    (program, inputs), wanted, drawn = networks[name]
    for want, twin, one in zip(wanted, program.run(**inputs), drawn, strict=True):
        size = max(1.0, want.abs().max().item())
        torch.testing.assert_close(twin, want.detach(), atol=GREY / 100 * size, rtol=0)
        torch.testing.assert_close(one, want.detach(), atol=GREY / 100 * size, rtol=0)


def test_a_rounded_network_is_what_the_page_has_of_it():
    """Rounding takes place once: the copy loses nothing more, whatever the shapes of its weights; vectors stay."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 20, 5), nn.ReLU(), nn.Flatten(), nn.Linear(20 * 24 * 24, 33))
    copy_, x = widgets.rounded(net), torch.randn(3, 1, 28, 28)
    assert not torch.equal(copy_[3].weight, net[3].weight) and torch.equal(copy_[3].bias, net[3].bias)
    assert torch.equal(copy_[0].weight, net[0].weight), "500 numbers are not worth their scales"
    program, rough = (compile_network(one, int8=True, x=x) for one in (copy_, net))
    assert program.weights == rough.weights
    off = [(one.run(x=x)[0] - whole(x)).abs().max().item() for one, whole in ((program, copy_), (rough, net))]
    assert off[0] < off[1] / 5, "what is left is the first layer, in float16"
    table = torch.randn(3, 1000)
    assert 0 < (widgets.rounded(table) - table).abs().max() <= table.abs().max() / 127 / 2 + 1e-6
    assert len(widgets.rounded(table[:, :128].repeat(3, 1), step=8)[0].unique()) <= 33, "31 levels, and the two ends"
    torch.testing.assert_close(widgets.rounded(widgets.rounded(table, 8)), widgets.rounded(table, 8), atol=1e-6, rtol=0)
    torch.testing.assert_close(widgets.rounded(widgets.rounded(table)), widgets.rounded(table), atol=1e-6, rtol=0)


def test_a_byte_for_a_weight_costs_little():
    unet = metrics.load_weights(nets.UNet(), "ddpm_digits")
    inputs = {"x": DIGIT, "t": 30 * steps, "y": label}
    halves, byte = compile_network(unet, **inputs), compile_network(unet, int8=True, **inputs)
    assert len(byte.weights) < 0.55 * len(halves.weights)
    off = (byte.run(**inputs)[0] - halves.run(**inputs)[0]).square().mean().sqrt()
    assert 0 < off < 0.02, "root mean square of what is rounded off, where the output has 1"


# --- what cannot run is refused in one sentence --------------------------------------------------------------------


class Chooses(nn.Module):
    def forward(self, x):
        return x * 2 if x[0, 0] > 0 else x * 3


@pytest.mark.parametrize("network, message", [
    (nn.Sequential(nn.Linear(7, 5), nn.CELU(0.5)), r"CELU\(alpha=0.5\) does not run in the browser: it calls celu"),
    (nn.Sequential(nn.Linear(7, 5), nn.Softplus()), "add_operation"),
    (lambda x: x.cumsum(1), "calls cumsum"),
    (lambda x: F.avg_pool2d(x[:, None, None], (1, 3), padding=(0, 1)), "avg_pool2d in a form that is not there"),
    (lambda x: x + torch.rand_like(x), "calls rand_like"),
    (lambda x: x - x.mean(0), "mix the images of a batch"),
    (lambda x: torch.zeros(1, 3), "does not depend on its inputs"),
    (Chooses(), "choose its path"),
    (nn.BatchNorm1d(7, track_running_stats=False), "keeps no running statistics"),
    (nn.Linear(6, 2), r"does not run on x \(1, 7\): Linear\(in_features=6, out_features=2, bias=True\) says"),
    (nn.Linear(7, 200_000), "too many for one page"),
])
def test_what_cannot_run_is_refused(network, message):
    x = picture(7)
    x[:, 0] = torch.tensor([1.0, -1.0])
    with pytest.raises(ValueError, match=message):
        compile_network(network, x=x)


def test_a_program_says_which_inputs_it_has():
    program = compile_network(nn.Linear(7, 2), x=picture(7))
    with pytest.raises(ValueError, match="inputs are x, not z"):
        program.run(z=picture(7))
    with pytest.raises(ValueError, match=r"x is \(2, 6\): the program takes \(B, 7\)"):
        program.run(x=picture(6))


def test_autocast_and_half_precision_change_nothing():
    line = settled(nn.Linear(7, 2))

    def cast(x):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return line(x).float()

    want = compile_network(line, x=picture(7)).run(x=picture(7))[0]
    assert torch.equal(compile_network(cast, x=picture(7)).run(x=picture(7))[0], want)
    assert torch.equal(compile_network(line.half(), x=picture(7)).run(x=picture(7))[0], want)


# --- noise and samplers --------------------------------------------------------------------------------------------


def test_noise_is_normal_and_its_draws_are_independent():
    draws = torch.stack([sampling.noise(seed, draw, (200_000,)) for seed, draw in ((0, 0), (0, 1), (1, 0), (7, 1001))])
    assert draws.mean(1).abs().max() < 0.01 and (draws.std(1) - 1).abs().max() < 0.01
    assert ((draws**4).mean(1) - 3).abs().max() < 0.1
    assert (torch.corrcoef(draws) - torch.eye(4)).abs().max() < 0.01
    assert torch.corrcoef(torch.stack([draws[0, :-1], draws[0, 1:]]))[0, 1].abs() < 0.01


@pytest.fixture(scope="module")
def tiny():
    """A U-Net of random weights, its model as the samplers take it, for each schedule and parameterisation."""
    unet = settled(nets.UNet(widths=(8, 8), embedding=16))
    program = compile_network(unet, x=torch.zeros(1, 1, 8, 8), t=torch.tensor([1]), y=torch.tensor([0]))

    turned = compile_network(lambda x, y: 0.5 * x.transpose(2, 3) + y.view(-1, 1, 1, 1) / 10, x=torch.zeros(1, 1, 8, 8),
                             y=torch.tensor([0]))

    def model(predicts="v", schedule=None, clip=(-1.0, 1.0), prior=False):
        return sampling.Model(program, turned if prior else None, schedule or diffusion.Schedule.cosine(100), predicts,
                              clip, unet.null)

    return unet, model


FILMS = {
    "DDIM": {}, "eps": {"predicts": "eps"}, "x0, unclipped": {"predicts": "x0", "clip": None},
    "DDPM": {"steps": 40, "eta": 1.0}, "guided": {"guidance": 2.5, "window": (20, 70)}, "one step": {"steps": 1},
    "second order": {"order": 2, "clip": None}, "simple": {"schedule": "simple", "steps": 25, "clip": None},
    "from a picture": {"start": 60, "eta": 0.5}, "filled in": {"keep": True, "guidance": 3.0},
    "another start": {"prior": True, "eta": 0.3}, "pure noise all the same": {"prior": True, "pure": True},
    "the textbook's rule": {"schedule": "simple", "predicts": "x0", "clip": None, "steps": 25, "subtract": True},
    "the textbook's rule in leaps": {"steps": 6, "subtract": True},
}


def film(tiny, predicts="v", schedule=None, clip=(-1.0, 1.0), start=None, keep=None, prior=False, **settings):
    """A film's model, what is known, and its settings."""
    _, make = tiny
    model = make(predicts, diffusion.Schedule.simple() if schedule == "simple" else None, clip, prior)
    x0 = torch.linspace(-1, 1, 64).view(1, 1, 8, 8)
    known = None if start is None and not keep else sampling.Known(
        x0, start, denoising.region("left half", 8, 8)[None, None] if keep else None)
    defaults = {"seed": 3, "steps": 10, "eta": 0.0, "guidance": 1.0, "window": (0, 100), "order": 1}
    return model, known, defaults | settings


SAMPLER = """
import { readFileSync } from "fs";
import { makeEngine } from "./engine.mjs";
import { noise, sample } from "./sampler.mjs";
const films = JSON.parse(readFileSync("films.json")), bytes = readFileSync("weights.bin");
const results = [[...noise(5, 7, 1000)]];
for (const { graph, prior: begins, model, settings } of films) {
  const net = makeEngine().load(graph, new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength));
  const prior = begins && makeEngine().load(begins[0], new DataView(Uint8Array.from(begins[1]).buffer));
  const known = settings.known && Object.fromEntries(Object.entries(settings.known).map(
    ([k, v]) => [k, Array.isArray(v) ? Float32Array.from(v) : v]));
  let last;
  for await (const step of sample({ ...model, net, prior }, { ...settings, known: known ?? {} })) last = step;
  results.push([...last.x0]);
}
console.log(JSON.stringify(results));
"""


@pytest.fixture(scope="module")
def films(tiny, tmp_path_factory):
    """The last picture of every film as node draws it, after 1,000 numbers of noise."""
    folder, listed = tmp_path_factory.mktemp("films"), []
    (folder / "sampler.mjs").write_text((widgets.HERE / "sampler.js").read_text(encoding="utf-8"))
    for settings in FILMS.values():
        model, known, rest = film(tiny, **settings)
        every = model.schedule.at(torch.arange(-1, model.schedule.T))
        facts = {"T": model.schedule.T, "priorStd": model.schedule.prior_std, "predicts": model.predicts,
                 "clip": model.clip, "null": model.null, "inputs": ["x", "t", "y"], "count": 64,
                 "alphaBar": every[2].tolist(), "noiseVar": every[3].tolist()}
        given = None if known is None else {"x0": known.x0.flatten().tolist(), "start": known.start, "keep": None if (
            known.keep is None) else known.keep.flatten().tolist()}
        begins = model.prior and [model.prior.graph, list(model.prior.weights)]
        listed.append({"graph": model.program.graph, "prior": begins, "model": facts,
                       "settings": rest | {"y": 4, "known": given}})
    (folder / "films.json").write_text(json.dumps(listed))
    (folder / "weights.bin").write_bytes(tiny[1]().program.weights)
    numbers, *pictures = json.loads(engine_node.node(folder, SAMPLER))
    return torch.tensor(numbers), dict(zip(FILMS, map(torch.tensor, pictures)))


def test_noise_is_the_same_in_both_languages(films):
    torch.testing.assert_close(films[0], sampling.noise(5, 7, (1000,)), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("name", FILMS)
def test_the_films_of_both_languages_are_one(films, tiny, name):
    model, known, settings = film(tiny, **FILMS[name])
    want = sampling.sample(model, 4, known=known, **settings).flatten()
    off = (films[1][name] - want).abs().max()
    assert off < 2 * GREY * max(1, want.abs().max()), f"{off:.4f} on a scale of -1 to 1"


@pytest.mark.parametrize("name", ["DDIM", "eps", "x0, unclipped", "simple"])
def test_without_noise_the_twin_is_the_books_sampler(tiny, name):
    model, _, settings = film(tiny, **FILMS[name])
    x_T = model.schedule.prior_std * sampling.noise(3, 0, (1, 1, 8, 8))
    want = diffusion.sample(tiny[0], (1, 1, 8, 8), model.schedule, steps=settings["steps"], y=torch.tensor([4]),
                            predicts=model.predicts, clip=model.clip, x_T=x_T)
    torch.testing.assert_close(sampling.sample(model, 4, **settings), want, atol=2e-3, rtol=1e-3)


def test_what_is_kept_stays_and_a_picture_is_noised_to_its_step(tiny):
    model, known, settings = film(tiny, keep=True)
    x = sampling.sample(model, 4, known=known, **settings)
    assert torch.equal(x[..., :4], known.x0[..., :4]) and not torch.allclose(x[..., 4:], known.x0[..., 4:], atol=0.1)
    model, known, settings = film(tiny, start=0)
    x_t = diffusion.q_sample(known.x0, 0, sampling.noise(3, 0, known.x0.shape), model.schedule)
    v_hat = tiny[0](x_t, torch.tensor([0]), torch.tensor([4]))
    want, _ = diffusion.predict(v_hat, x_t, 0, model.schedule, predicts="v", clip=(-1, 1))
    torch.testing.assert_close(sampling.sample(model, 4, known=known, **settings), want, atol=1e-4, rtol=0)


# --- the widget in Chromium ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def digits():
    unet = metrics.load_weights(nets.UNet(), "ddpm_digits")
    ring = (torch.cdist(torch.cartesian_prod(*[torch.arange(28.0)] * 2), torch.tensor([[14.0, 14.0]])) - 7).abs() < 1.5
    return lambda **settings: widgets.DiffusionExplorer(
        unet, diffusion.Schedule.cosine(), **{"class_names": range(10), "predicts": "v", "guidance": 2.0, "label": 3,
                                              "image": ring.view(28, 28).float(), "seed": 1} | settings)


def drawn(page, k=1):
    """The grey levels of a canvas, once its film is through."""
    page.wait_for_function("(k) => { const [now, all] = (document.querySelectorAll('canvas')[k].dataset.step ?? '')"
                           ".split(' of '); return now && now === all; }", arg=k)
    return np.array(page.evaluate("""(k) => {
        const c = document.querySelectorAll("canvas")[k];
        return [...c.getContext("2d").getImageData(0, 0, c.width, c.height).data].filter(
            (_, i) => i % 4 === 0); }""", k))


def differ(levels, want):
    return np.abs(levels - 255 * want.numpy().ravel()).max()


def move(page, name, key):
    page.get_by_role("slider", name=name, exact=True).press(key)


def test_the_shipped_network_draws_on_the_page_as_in_torch(browser, digits, tmp_path):
    """Guided in 25 steps, in a worker, from file://; then another class, kept settings, a picture and a mask."""
    explorer = digits()
    page = widget_page.show(browser, tmp_path / "digits.html", explorer)
    page.context.set_offline(True)
    assert differ(drawn(page), explorer.sample()) <= 2
    assert page.locator("canvas").nth(1).get_attribute("data-where") == "worker"
    page.get_by_role("status").get_by_text("Drawn in 25 steps").wait_for()
    page.get_by_role("img", name=re.compile("class 3, seed 1, steps 25, η 0.00, guidance w 2.00")).wait_for()

    page.get_by_role("button", name="Compare").click()
    move(page, "class", "ArrowRight")
    move(page, "steps", "Home")
    page.wait_for_function("() => document.querySelectorAll('canvas')[1].dataset.step === '1 of 1'")
    assert differ(drawn(page), explorer.sample(4, steps=1)) <= 2
    page.wait_for_function("() => document.querySelectorAll('canvas')[3].dataset.step === '25 of 25'")
    assert differ(drawn(page, 3), explorer.sample()) <= 2
    page.get_by_text("Now: class 4, steps 1").wait_for()
    page.get_by_text("Kept: class 3, steps 25").wait_for()
    page.get_by_role("button", name="Reset").click()

    for _ in range(8):
        move(page, "begin at t", "ArrowLeft")
    for _ in range(3):
        move(page, "fill in", "ArrowRight")
    page.wait_for_timeout(400)
    start = int(explorer.sliders[explorer.names["start"]].labels[-9]) - 1
    assert differ(drawn(page), explorer.sample(start=start, fill="top half")) <= 2
    assert not page.trouble
    page.context.close()


def test_play_stop_and_step_by_keyboard(browser, digits, tmp_path):
    explorer = digits(image=None, steps=100)
    page = widget_page.show(browser, tmp_path / "stop.html", explorer, reduced_motion="reduce")
    page.wait_for_timeout(300)
    guess = page.locator("canvas").nth(1)
    assert guess.get_attribute("data-step") == "0", "a reader who wants less motion is not shown any unasked"
    page.get_by_role("button", name="Play").press("Enter")
    page.wait_for_function("() => parseInt(document.querySelectorAll('canvas')[1].dataset.step) > 2")
    page.get_by_role("button", name="Stop").press("Enter")
    page.wait_for_timeout(300)
    stopped = guess.get_attribute("data-step")
    page.wait_for_timeout(500)
    assert guess.get_attribute("data-step") == stopped and int(stopped.split()[0]) < 100
    page.get_by_role("button", name="Step").press("Enter")
    page.wait_for_function("(was) => document.querySelectorAll('canvas')[1].dataset.step !== was", arg=stopped)
    assert guess.get_attribute("data-step") == f"{int(stopped.split()[0]) + 1} of 100"
    page.get_by_role("status").get_by_text("Stopped.").wait_for()
    assert not page.trouble
    page.context.close()


def tiny_latent(tiny, **settings):
    unet = settled(nets.UNet(4, widths=(8, 8), patch=1, classes=4, embedding=16))
    vae = settled(chapter_class("09_ldm_cxr", "Residual", "RadiographVAE", LATENT=4)(8))
    defaults = {"shape": (4, 4, 4), "class_names": ["normal", "COVID", "opacity", "viral"], "predicts": "v",
                "clip": None, "guidance": 2.0, "order": 2, "steps": 8, "decoder": vae.decode,
                "caption": "synthetic, not for diagnosis"}
    return widgets.DiffusionExplorer(unet, diffusion.Schedule.cosine(), **defaults | settings)


def test_latents_are_decoded_on_the_page_where_no_worker_may_run(browser, tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(widget_page, "POLICY", widget_page.POLICY + "; worker-src 'none'")
    explorer = tiny_latent(tiny)
    page = widget_page.show(browser, tmp_path / "latent.html", explorer)
    assert differ(drawn(page), explorer.sample()) <= 2
    page.wait_for_selector("canvas[data-where=page]")
    page.get_by_text("synthetic, not for diagnosis").wait_for()
    assert all("worker-src" in line or "Worker" in line for line in page.trouble), page.trouble
    page.context.close()


def test_a_decoder_follows_its_sliders_within_50_ms(browser, tmp_path):
    decoder = settled(nets.ConvVAE(width=16, hidden=64).decoder)
    explorer = widgets.LatentExplorer(decoder, sliders=range(3))
    page = widget_page.show(browser, tmp_path / "decoder.html", explorer)
    for key in ("End", "ArrowLeft", "Home", "ArrowRight"):
        move(page, "z[1]", key)
        page.wait_for_timeout(60)
    z = torch.zeros(16)
    z[1] = -2.95
    levels = np.array(page.evaluate("""() => [...document.querySelector("canvas").getContext("2d")
        .getImageData(0, 0, 28, 28).data].filter((_, i) => i % 4 === 0)"""))
    assert differ(levels, explorer.decode(z)) <= 1
    assert float(page.locator("canvas").get_attribute("data-ms")) < 50
    assert not page.trouble
    page.context.close()


def test_plain_functions_of_the_explorer(digits, tiny):
    explorer = digits(steps=3)
    frames = []
    picture = explorer.sample(7, seed=2, callback=lambda t, x_t, x0_hat: frames.append((t, x_t, x0_hat)))
    assert picture.shape == (28, 28) and torch.equal(frames[-1][2], picture)
    assert [t for t, _, _ in frames] == [999, 500, 0]
    assert torch.equal(explorer.show(7, seed=2), picture) and explorer.settings[:3] == (7, 2, 3)
    assert explorer.describe().startswith("Picture drawn from noise, class 7, seed 2, steps 3")
    assert np.array_equal(explorer.pictures()[0], (255 * picture).round().byte().numpy())
    assert len(explorer.weights) < 0.55 * len(digits(int8=False).weights) < 400_000
    with pytest.raises(ValueError, match="needs its encoder"):
        tiny_latent(tiny, redraw=True)
    with pytest.raises(ValueError, match=r"image is \(2, 2\): give one grey picture \(28, 28\)"):
        digits(image=torch.zeros(2, 2))
    with pytest.raises(ValueError, match="numbers from 0 to 1"):
        digits(image=torch.full((28, 28), 255.0))
    with pytest.raises(ValueError, match="choose from eps, x0, v"):
        digits(predicts="noise")
    with pytest.raises(ValueError, match="fill='left'"):
        digits().sample(fill="left")
