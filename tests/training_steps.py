"""Small training steps that the kernel tests and the GPU tests share, one for each shape a chapter has."""

import torch
from torch import nn
from torch.nn import functional as F

from genmed_core import diffusion, kernels, metrics, nets


def autoencoder(images, labels, *, device="cpu", mode="eager", seed=0, lr=3e-3, noise=0.1, **options):
    """One player, noise in the loss, AdamW with a schedule: -> model, step."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 64)).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)

    def loss_fn(batch):
        noisy = batch.x + noise * torch.randn_like(batch.x)
        loss = F.mse_loss(model(noisy), batch.x.flatten(1))
        return loss, {"mse": loss.detach()}

    batches = kernels.Batches(images, labels, batch_size=32, device=device, seed=seed)
    step = kernels.TrainStep(loss_fn, optimizer, batches=batches, model=model, mode=mode, seed=seed,
                             schedule=kernels.linear_decay(0.1), **options)
    return model, step


def gan(images, labels, *, device="cpu", mode="eager", seed=0, critic_steps=2, clip=0.05, shared=False, **options):
    """Two players: a clipped critic that steps `critic_steps` times, then a generator: -> models, step.

    shared: the generator is judged by the fakes that the critic has just seen.
    """
    torch.manual_seed(seed)
    models = {
        "G": nn.Sequential(nn.Linear(4, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 64), nn.Sigmoid()).to(device),
        "D": nn.Sequential(nn.Linear(64, 32), nn.LeakyReLU(0.2), nn.Linear(32, 1)).to(device),
    }
    G, D = models["G"], models["D"]
    made = {}

    def fakes(batch):
        return G(torch.randn(len(batch.x), 4, device=batch.x.device))

    def critic_loss(batch):
        made["fake"] = fakes(batch)
        loss = D(made["fake"].detach()).mean() - D(batch.x.flatten(1)).mean()
        return loss, {"critic": loss.detach()}

    def generator_loss(batch):
        loss = -D(made["fake"] if shared else fakes(batch)).mean()
        return loss, {"generator": loss.detach()}

    def clip_weights():
        for p in D.parameters():
            p.clamp_(-clip, clip)

    updates = [
        kernels.Update(critic_loss, torch.optim.RMSprop(D.parameters(), lr=1e-3), repeats=critic_steps,
                       after=clip_weights),
        kernels.Update(generator_loss, torch.optim.Adam(G.parameters(), lr=1e-3, betas=(0.0, 0.99))),
    ]
    batches = kernels.Batches(images, labels, batch_size=32, device=device, seed=seed)
    return models, kernels.TrainStep(updates, batches=batches, model=models, mode=mode, seed=seed, **options)


def wgan_gp(images, labels, *, device="cpu", mode="eager", seed=0, **options):
    """Two players, a gradient inside the critic's loss: -> models, step."""
    torch.manual_seed(seed)
    models = {"G": nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 64), nn.Sigmoid()).to(device),
              "D": nn.Sequential(nn.Linear(64, 32), nn.LeakyReLU(0.2), nn.Linear(32, 1)).to(device)}
    G, D = models["G"], models["D"]

    def critic_loss(batch):
        real = batch.x.flatten(1)
        with torch.no_grad():
            fake = G(torch.randn(len(real), 4, device=real.device))
        between = torch.lerp(fake, real, torch.rand(len(real), 1, device=real.device)).requires_grad_()
        slope = torch.autograd.grad(D(between).sum(), between, create_graph=True)[0].norm(dim=1)
        loss = D(fake).mean() - D(real).mean() + (slope - 1).square().mean()
        return loss, {"critic": loss.detach()}

    def generator_loss(batch):
        loss = -D(G(torch.randn(len(batch.x), 4, device=batch.x.device))).mean()
        return loss, {"generator": loss.detach()}

    updates = [kernels.Update(critic_loss, torch.optim.Adam(D.parameters(), lr=1e-3, betas=(0.0, 0.9)), repeats=2),
               kernels.Update(generator_loss, torch.optim.Adam(G.parameters(), lr=1e-3, betas=(0.0, 0.9)))]
    batches = kernels.Batches(images, labels, batch_size=32, device=device, seed=seed)
    return models, kernels.TrainStep(updates, batches=batches, model=models, mode=mode, seed=seed, **options)


def cvae(images, labels, *, device="cpu", mode="eager", seed=0, bf16=True, **options):
    """One player with labels, convolutions in bfloat16, binarised pixels, Muon beside AdamW: -> model, step."""
    torch.manual_seed(seed)
    model = nn.ModuleDict({
        "encoder": nn.Sequential(nn.Conv2d(1, 8, 4, 2, 1), nn.SiLU(), nn.Flatten(), nn.Linear(128, 16)),
        "label": nn.Embedding(10, 16),
        "decoder": nn.Sequential(nn.Linear(24, 128), nn.SiLU(), nn.Unflatten(1, (8, 4, 4)),
                                 nn.ConvTranspose2d(8, 1, 4, 2, 1)),
    }).to(device)
    large = [model["encoder"][3].weight, model["decoder"][0].weight]
    rest = [p for p in model.parameters() if all(p is not m for m in large)]

    def loss_fn(batch):
        with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=bf16):
            mu, logvar = (model["encoder"](batch.x) + model["label"](batch.y)).float().chunk(2, dim=1)
            z = mu + torch.randn_like(mu) * (0.5 * logvar).exp()
            logits = model["decoder"](torch.cat([z, model["label"](batch.y)], dim=1))
        nll, kl = kernels.bernoulli_nll(logits, batch.x).mean(), metrics.gaussian_kl(mu, logvar).sum(1).mean()
        return nll + kl, {"nll": nll.detach(), "KL": kl.detach()}

    batches = kernels.Batches(images, labels, batch_size=32, device=device, seed=seed, transform=torch.bernoulli)
    optimizer = [torch.optim.Muon(large, lr=0.01), torch.optim.AdamW(rest, lr=2e-3)]
    step = kernels.TrainStep(loss_fn, optimizer, batches=batches, model=model, mode=mode, seed=seed,
                             schedule=kernels.linear_decay(0.1), **options)
    return model, step


def unet(images, labels, *, device="cpu", mode="eager", seed=0, bf16=True, ema=0.95, **options):
    """A denoiser as in the chapters: spread time steps, dropped labels, bfloat16, a moving average: -> model, step."""
    torch.manual_seed(seed)
    model = nets.UNet(widths=(8, 16), embedding=16, heads=2).to(device)
    schedule = diffusion.Schedule.cosine(1000).to(device)

    def loss_fn(batch):
        x0, B = 2 * batch.x - 1, len(batch.x)
        t = diffusion.stratified_timesteps(B, 1000, device=x0.device)
        eps = torch.randn_like(x0)
        x_t = diffusion.q_sample(x0, t, eps, schedule)
        y = torch.where(torch.rand(B, device=x0.device) < 0.1, model.null, batch.y)
        with torch.autocast(x0.device.type, torch.bfloat16, enabled=bf16):
            v_hat = model(x_t, t, y)
        return (diffusion.target(x0, eps, t, schedule, predicts="v") - v_hat).square().mean(), {}

    batches = kernels.Batches(images, labels, batch_size=32, device=device, seed=seed, transform=nets.shift_augment)
    optimizer = torch.optim.AdamW(model.parameters(), lr=6e-3, betas=(0.9, 0.99), fused=True)
    step = kernels.TrainStep(loss_fn, optimizer, batches=batches, model=model, mode=mode, seed=seed, ema=ema,
                             schedule=kernels.linear_decay(0.05), **options)
    return model, step


def five_critics(images, labels, **options):
    """The clipped critic of the WGAN, five times for each step of the generator: -> models, step."""
    return gan(images, labels, critic_steps=5, **options)


SHAPES = {f.__name__: f for f in (autoencoder, cvae, gan, five_critics, wgan_gp, unet)}


def weights(model):
    """All floating-point state of a model as one float64 vector on the CPU."""
    state = [v for v in model.state_dict().values() if v.is_floating_point()]
    return torch.cat([v.detach().double().flatten().cpu() for v in state])


def distance(a, b):
    """Relative distance of two vectors."""
    return ((a - b).norm() / b.norm()).item()
