"""The chapters' training steps on the textbook's networks, told once for all loops that run them.

Needs torch alone, and of this project only `nets.py`, read by its path: importing genmed_core would also change how
threads wait and how memory is kept, which is one of the things that `make bench` measures. A `Lesson` is a model and
its players; `Ways` says how a loop computes them: the textbook's way, plain PyTorch, or ours. The arithmetic is the
same in each, to rounding (test_speed.py holds them to it).
"""

import ast
import contextlib
import functools
import importlib.util
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

CHAPTERS = {"ae": "1 Autoencoder", "vae": "2 VAE", "cvae": "3 CVAE", "gan": "4 GAN", "cgan": "5 CGAN",
            "wgan": "6 WGAN, 5 critic steps", "diffusion": "7 Simple diffusion", "ddpm": "8 DDPM",
            "films": "9 VAE of X-rays", "latents": "9 Latent denoiser"}
# The textbook has no U-Net, and its X-ray networks have codes of another shape than chapter 9's, so that these are held
# against the plain loop, and chapter 8 against diffusers.
IN_THE_BOOK = [name for name in CHAPTERS if name not in ("ddpm", "films", "latents")]
SHAPES = {"digits": (1, 28, 28), "films": (1, 64, 64), "latents": (4, 16, 16)}
SIGMA, T_SIMPLE, T_DDPM, FAKE = 0.3, 25, 1000, 10


class Player(NamedTuple):
    """One optimiser's part of a step: loss(x, y) with x (B, 1, 28, 28) in [0, 1] -> the parts whose sum is the loss."""

    loss: Callable
    optimizer: torch.optim.Optimizer
    repeats: int = 1
    after: Callable | None = None


class Lesson(NamedTuple):
    """A chapter's training step. binary: pixels cut at 128. walk: optimiser steps that one batch serves.

    data: what it is trained on, a name in SHAPES.
    """

    model: nn.Module
    players: list[Player]
    batch: int
    binary: bool = False
    walk: int = 1
    ema: float | None = None
    data: str = "digits"


def book_nll(logits, x):
    """The sum of cross-entropies as the textbook takes it: a sigmoid, then its logarithm."""
    return F.binary_cross_entropy(torch.sigmoid(logits), x, reduction="sum")


def plain_nll(logits, x):
    return F.binary_cross_entropy_with_logits(logits, x, reduction="sum")


def book_verdict(logits, truth):
    p = torch.sigmoid(logits)
    return F.binary_cross_entropy(p, torch.full_like(p, truth))


def plain_verdict(logits, truth):
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, truth))


def plain_standardise(out):
    return SIGMA * (out - out.mean(1, keepdim=True)) / out.std(1, keepdim=True)


@dataclass
class Ways:
    """How a loop computes: its cross-entropies, precision and optimisers.

    together: a discriminator sees real and fake in one pass, as in our chapters, and one loss is taken of both; the
    fakes of all critic steps, during which the generator stands still, are drawn in one pass as well.
    attached: the discriminator's step of the CGAN also differentiates the generator and steps the label's embedding,
    as in the textbook's companion code.
    standardise: out (B, 784) -> mean 0 and standard deviation SIGMA for each image.
    jumps: simple diffusion takes a fresh batch, step and noise each time, by the closed form, and does not walk; the
    targets are distributed alike, and a captured graph, which cannot count calls, can hold it.
    """

    nll: Callable = plain_nll
    verdict: Callable = plain_verdict
    amp: Callable = contextlib.nullcontext
    standardise: Callable = plain_standardise
    fused: bool = False
    together: bool = False
    attached: bool = False
    jumps: bool = False
    batch: int | None = None


BOOK, PLAIN = Ways(nll=book_nll, verdict=book_verdict, attached=True), Ways()


def real_and_fake(D, real, fake):
    """Scores (2B, outputs) of B real images, then of as many fake ones, from one pass."""
    return D(torch.cat([real.flatten(1), fake])).float()


@functools.cache
def sides(n, device, real, fake):
    """(2n, 1): a number for each of n real images, then one for each of n fake ones."""
    return torch.tensor([real, fake], device=device).repeat_interleave(n)[:, None]


def mlp(*sizes, activation, end=None):
    layers = []
    for a, b in zip(sizes, sizes[1:]):
        layers += [nn.Linear(a, b), activation()]
    return nn.Sequential(*layers[:-1], *([end] if end else []))


# --- autoencoders ---------------------------------------------------------------------------------------------------


def autoencoder(device, ways, pixels=784):
    """784-128-32-128-784 with ReLU, on the code as well; mean squared error."""
    net = mlp(pixels, 128, 32, 128, pixels, activation=nn.ReLU, end=nn.Sigmoid()).to(device)

    def loss(x, y):
        with ways.amp():
            x_hat = net(x.flatten(1))
        return [F.mse_loss(x_hat.float(), x.flatten(1))]

    return Lesson(net, [Player(loss, torch.optim.AdamW(net.parameters(), lr=2e-3, fused=ways.fused))],
                  ways.batch or 256)


class VAE(nn.Module):
    """784-128-8 and back, tanh; with `labels`, an embedding of the class is added to the code. Logits out."""

    def __init__(self, labels=False, pixels=784):
        super().__init__()
        self.hidden, self.mu, self.logvar = nn.Linear(pixels, 128), nn.Linear(128, 8), nn.Linear(128, 8)
        self.decoder = mlp(8, 128, pixels, activation=nn.Tanh)
        self.label = nn.Embedding(10, 8) if labels else None

    def forward(self, x, y):
        h = torch.tanh(self.hidden(x))
        mu, logvar = self.mu(h), self.logvar(h)
        z = mu + torch.randn_like(mu) * torch.exp(0.5 * logvar)
        return self.decoder(z if self.label is None else z + self.label(y)), mu, logvar


def vae(device, ways, labels=False, pixels=784):
    """The bound, summed over a batch of binarised digits."""
    net = VAE(labels, pixels).to(device)

    def loss(x, y):
        x = x.flatten(1)
        with ways.amp():
            logits, mu, logvar = net(x, y)
        mu, logvar = mu.float(), logvar.float()
        return [ways.nll(logits, x), -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())]

    return Lesson(net, [Player(loss, torch.optim.AdamW(net.parameters(), lr=2e-3, fused=ways.fused))],
                  ways.batch or 256, binary=True)


def cvae(device, ways):
    return vae(device, ways, labels=True)


# --- adversaries ----------------------------------------------------------------------------------------------------


def generator():
    return mlp(8, 128, 256, 784, activation=nn.LeakyReLU, end=nn.Sigmoid())


def adversaries(device, outputs):
    return nn.ModuleDict({"G": generator(), "D": mlp(784, 256, 128, outputs, activation=nn.LeakyReLU),
                          "label": nn.Embedding(10, 8)}).to(device)


def gan(device, ways):
    """D on (real + fake) / 2, then G on fresh fakes called real; scores, whose sigmoid is in the loss."""
    nets = adversaries(device, 1)
    G, D = nets["G"], nets["D"]

    def d_loss(x, y):
        with ways.amp():
            with torch.no_grad():
                fake = G(torch.randn(len(x), 8, device=device))
            if ways.together:
                scores = real_and_fake(D, x, fake)
                return [F.binary_cross_entropy_with_logits(scores, sides(len(x), device, 1.0, 0.0))]
            real, fake = D(x.flatten(1)).float(), D(fake).float()
        return [(ways.verdict(real, 1.0) + ways.verdict(fake, 0.0)) / 2]

    def g_loss(x, y):
        with ways.amp():
            fake = D(G(torch.randn(len(x), 8, device=device))).float()
        return [ways.verdict(fake, 1.0)]

    opt = [torch.optim.AdamW(net.parameters(), lr=2e-4, fused=ways.fused) for net in (D, G)]
    return Lesson(nets, [Player(d_loss, opt[0]), Player(g_loss, opt[1])], ways.batch or 256)


def cgan(device, ways):
    """Eleven classes, of which the last is "fake"; the label's embedding is added to the noise."""
    nets = adversaries(device, 11)
    G, D, label = nets["G"], nets["D"], nets["label"]

    def fakes(y):
        return G(torch.randn(len(y), 8, device=device) + label(y))

    def d_loss(x, y):
        with ways.amp():
            with contextlib.nullcontext() if ways.attached else torch.no_grad():
                fake = fakes(y)
            if ways.together:
                return [F.cross_entropy(real_and_fake(D, x, fake), torch.cat([y, torch.full_like(y, FAKE)]))]
            real, fake = D(x.flatten(1)).float(), D(fake).float()
        return [(F.cross_entropy(real, y) + F.cross_entropy(fake, torch.full_like(y, FAKE))) / 2]

    def g_loss(x, y):
        with ways.amp():
            fake = D(fakes(y)).float()
        return [F.cross_entropy(fake, y)]

    own = [*D.parameters(), *label.parameters()] if ways.attached else D.parameters()
    opt = [torch.optim.AdamW(own, lr=2e-4, fused=ways.fused),
           torch.optim.AdamW([*G.parameters(), *label.parameters()], lr=2e-4, fused=ways.fused)]
    return Lesson(nets, [Player(d_loss, opt[0]), Player(g_loss, opt[1])], ways.batch or 256)


def wgan(device, ways):
    """Scores without a sigmoid, weights clipped at 0.01, five critic steps, RMSProp at 5e-5, batches of 64."""
    nets, repeats, kept = adversaries(device, 1), 5, []
    G, D = nets["G"], nets["D"]

    @torch.no_grad()
    def fakes(B):
        """B fakes, or those of all critic steps of a training step, of which these are the next."""
        if not ways.together:
            return G(torch.randn(B, 8, device=device))
        if not kept:
            kept.extend(G(torch.randn(repeats * B, 8, device=device)).split(B))
        return kept.pop(0)

    def d_loss(x, y):
        with ways.amp():
            fake = fakes(len(x))
            if ways.together:
                scores = real_and_fake(D, x, fake)
                return [torch.sum(scores * sides(len(x), device, -1 / len(x), 1 / len(x)))]
            real, fake = D(x.flatten(1)).float(), D(fake).float()
        return [fake.mean() - real.mean()]

    def g_loss(x, y):
        with ways.amp():
            return [-D(G(torch.randn(len(x), 8, device=device))).float().mean()]

    def clip():
        with torch.no_grad():
            for p in D.parameters():
                p.clamp_(-0.01, 0.01)

    # has no fused form; over all tensors at once it is not one kernel, but saves calls
    opt = [torch.optim.RMSprop(net.parameters(), lr=5e-5, foreach=ways.fused) for net in (D, G)]
    return Lesson(nets, [Player(d_loss, opt[0], repeats, clip), Player(g_loss, opt[1])], ways.batch or 64)


# --- diffusion ------------------------------------------------------------------------------------------------------


class SimpleDenoiser(nn.Module):
    """784 + 25 + 10 -> 784 -> 784, one-hot step and label; each image's output scaled to mean 0, spread sigma."""

    def __init__(self, standardise):
        super().__init__()
        self.net, self.standardise = mlp(784 + T_SIMPLE + 10, 784, 784, activation=nn.ReLU), standardise

    def forward(self, x, t, y):
        out = self.net(torch.cat([x, F.one_hot(t, T_SIMPLE), F.one_hot(y, 10)], 1)).float()
        return self.standardise(out)


def simple_diffusion(device, ways):
    """A walk of 25 noisy steps from every batch, learnt from in random order: 25 optimiser steps."""
    net, kept = SimpleDenoiser(ways.standardise).to(device), {"calls": 0}

    def jump(x, y):
        t, x = torch.randint(0, T_SIMPLE, (1,), device=device).expand(len(x)), x.flatten(1)
        noise = SIGMA * torch.randn_like(x)
        with ways.amp():
            guess = net(x + SIGMA * t[:, None].sqrt() * torch.randn_like(x) + noise, t, y)
        return [F.mse_loss(guess, noise)]

    def loss(x, y):
        if kept["calls"] % T_SIMPLE == 0:
            kept["path"], kept["y"], kept["order"] = walk(x.flatten(1)), y, torch.randperm(T_SIMPLE).tolist()
        t = kept["order"][kept["calls"] % T_SIMPLE]
        kept["calls"] += 1
        x_t, noise = kept["path"][t]
        with ways.amp():
            guess = net(x_t, torch.full((len(x_t),), t, device=device), kept["y"])
        return [F.mse_loss(guess, noise)]

    optimizer = torch.optim.Adam(net.parameters(), lr=0.1, fused=ways.fused)
    return Lesson(net, [Player(jump if ways.jumps else loss, optimizer)], ways.batch or 512,
                  walk=1 if ways.jumps else T_SIMPLE)


def walk(x):
    """[(x_t, the noise of its last step)] for t = 1..25."""
    path = []
    for _ in range(T_SIMPLE):
        noise = SIGMA * torch.randn_like(x)
        x = x + noise
        path.append((x, noise))
    return path


def unet(**sizes):
    """The U-Net of chapter 8, from the core's file alone."""
    path = Path(__file__).resolve().parents[2] / "genmed_core" / "nets.py"
    spec = importlib.util.spec_from_file_location("nets_by_path", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.UNet(**sizes)


class Theirs(nn.Module):
    """diffusers' UNet2DModel with as many weights as ours, called as ours is; ImportError without diffusers."""

    def __init__(self):
        super().__init__()
        import diffusers

        self.unet, self.null = diffusers.UNet2DModel(
            sample_size=28, in_channels=1, out_channels=1, layers_per_block=1, block_out_channels=(24, 40),
            down_block_types=("DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D"),
            norm_num_groups=8, num_class_embeds=11), 10

    def forward(self, x, t, y):
        return self.unet(x, t, class_labels=y).sample.float()


def ddpm(device, ways, net=None, data="digits", batch=32, ema=0.997):
    """Algorithm 1 with v as its target and a cosine schedule, labels dropped one time in ten, averaged weights."""
    net = (net or unet()).to(device)
    time = torch.arange(T_DDPM + 1, dtype=torch.float64) / T_DDPM
    alpha_bar = torch.cos((time + 0.008) / 1.008 * math.pi / 2) ** 2
    alpha_bar = (alpha_bar[1:] / alpha_bar[0]).float().to(device)

    def loss(x, y):
        x0 = x if data == "latents" else 2 * x - 1
        t = torch.randint(0, T_DDPM, (len(x0),), device=device)
        eps, a = torch.randn_like(x0), alpha_bar[t].view(-1, 1, 1, 1)
        signal, noise = a.sqrt(), (1 - a).sqrt()
        y = torch.where(torch.rand(len(x0), device=device) < 0.1, net.null, y)
        with ways.amp():
            v_hat = net(signal * x0 + noise * eps, t, y)
        return [F.mse_loss(v_hat.float(), signal * eps - noise * x0)]

    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3, betas=(0.9, 0.99), fused=ways.fused)
    return Lesson(net, [Player(loss, optimizer)], ways.batch or batch, ema=ema, data=data)


def latents(device, ways):
    """The same on maps of 4 x 16 x 16 latents, with the wider U-Net of chapter 9 and its four classes."""
    return ddpm(device, ways, unet(channels=4, widths=(64, 96), patch=1, classes=4), "latents", batch=16)


def films(device, ways):
    """Chapter 9's convolutional VAE, its network taken from the chapter: absolute errors and 0.01 of the divergence."""
    net = from_chapter("09_ldm_cxr", "Residual", "LATENT", "RadiographVAE")["RadiographVAE"]().to(device)

    def loss(x, y):
        x = 2 * x - 1
        with ways.amp():
            x_hat, mu, logvar = net(x)
        off = (x - x_hat).abs().flatten(1).sum(1).mean()
        kl = 0.5 * (mu.square() + logvar.exp() - 1 - logvar).flatten(1).sum(1).mean()
        return [off / x[0].numel(), 0.01 * kl / x[0].numel()]

    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3, betas=(0.9, 0.99), fused=ways.fused)
    return Lesson(net, [Player(loss, optimizer)], ways.batch or 24, ema=0.995, data="films")


def from_chapter(chapter, *names):
    """Classes and constants of a chapter's source, by name, without running the chapter."""
    path = Path(__file__).resolve().parents[2] / "chapters" / f"{chapter}.py"
    found = []
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        constant = ast.unparse(node.targets[0]) if isinstance(node, ast.Assign) else None
        if constant in names or (isinstance(node, ast.ClassDef) and node.name in names):
            found.append(node)
    namespace = {"torch": torch, "nn": nn, "F": F}
    exec(compile(ast.Module(found, []), str(path), "exec"), namespace)
    return namespace


LESSONS = {"ae": autoencoder, "vae": vae, "cvae": cvae, "gan": gan, "cgan": cgan, "wgan": wgan,
           "diffusion": simple_diffusion, "ddpm": ddpm, "films": films, "latents": latents}


def lesson(name, device, ways):
    """The lesson of a chapter with its weights from one seed."""
    torch.manual_seed(0)
    return LESSONS[name](torch.device(device), ways)
