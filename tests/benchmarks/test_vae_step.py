"""The VAE step of chapter 2 against the book's own loop, side by side, on the book's model and optimiser.

    make bench

The book's loop is rebuilt from the facts in its text: a DataLoader over a Python list of [array, label] pairs,
sigmoid and binary cross-entropy, sums read with .item() at every step. Rounds are interleaved, so that another
process slows all of them alike; the figures are medians, and the gate is on their ratios.
"""

import json
import statistics
import time
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from genmed_core import data, kernels, metrics, runtime

ROUNDS, STEPS = 7, 120
RATIO_AT_THE_BOOKS_BATCH, RATIO_AT_THE_CHAPTERS_BATCH = 1.7, 2.4


class BookVAE(nn.Module):
    """784-128-8 and back, tanh, as the book has it; logits out."""

    def __init__(self):
        super().__init__()
        self.hidden, self.mu, self.logvar = nn.Linear(784, 128), nn.Linear(128, 8), nn.Linear(128, 8)
        self.up, self.out = nn.Linear(8, 128), nn.Linear(128, 784)

    def forward(self, x):
        h = torch.tanh(self.hidden(x))
        mu, logvar = self.mu(h), self.logvar(h)
        z = mu + torch.randn_like(mu) * torch.exp(0.5 * logvar)
        return self.out(torch.tanh(self.up(z))), mu, logvar


def fresh_model(device):
    torch.manual_seed(0)
    model = BookVAE().to(device)
    return model, torch.optim.AdamW(model.parameters(), lr=2e-3)


def the_books_loop(images, device):
    """-> run(steps), the loop as the book writes it, at its batch of 256."""
    model, optimizer = fresh_model(device)
    binary = (images.images > 128).float().flatten(1).numpy()
    pairs = [[row, label] for row, label in zip(binary, images.labels.tolist())]
    loader = iter(endless(DataLoader(pairs, batch_size=256, shuffle=True, drop_last=True)))

    def run(steps):
        reconstruction = divergence = 0.0
        for _ in range(steps):
            x, _ = next(loader)
            x = x.to(device)
            logits, mu, logvar = model(x)
            nll = F.binary_cross_entropy(torch.sigmoid(logits), x, reduction="sum")
            kl = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
            optimizer.zero_grad()
            (nll + kl).backward()
            optimizer.step()
            reconstruction += nll.item()
            divergence += kl.item()

    return run


def binarise(x):
    return (x > 128.5 / 255).float()


def endless(loader):
    while True:
        yield from loader


def our_step(images, device, batch_size, **options):
    """-> run(steps), chapter 2's step: same model, same loss, AdamW in its fused form."""
    model, _ = fresh_model(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, fused=True)

    def loss_fn(batch):
        x = batch.x.flatten(1)
        logits, mu, logvar = model(x)
        nll = kernels.bernoulli_nll(logits, x).sum()
        kl = metrics.gaussian_kl(mu, logvar).sum()
        return nll + kl, {"nll": nll.detach(), "kl": kl.detach()}

    batches = kernels.Batches(images, batch_size=batch_size, device=device, transform=binarise)
    step = kernels.TrainStep(loss_fn, optimizer, batches=batches, model=model, **options)
    return lambda steps: (step.run(steps), step.read_logs())


def interleaved(runs, rounds=ROUNDS, steps=STEPS):
    """{name: (run, images per step)} -> {name: median images per second}, one round of each in turn."""
    rates = {name: [] for name in runs}
    for run, _ in runs.values():
        run(20)
    for _ in range(rounds):
        for name, (run, images) in runs.items():
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            begin = time.perf_counter()
            run(steps)
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            rates[name].append(steps * images / (time.perf_counter() - begin))
    return {name: statistics.median(r) for name, r in rates.items()}


def test_the_training_kernel_against_the_books_loop():
    device = runtime.device()
    images = data.digits("train")
    batch = 1024
    runs = {
        "the book's loop, batch 256": (the_books_loop(images, device), 256),
        "genmed, batch 256": (our_step(images, device, 256), 256),
        f"genmed, batch {batch}": (our_step(images, device, batch), batch),
    }
    rates = interleaved(runs)
    book, same, ours = rates.values()
    table = {"machine": runtime.machine(), "n": ROUNDS, "steps per round": STEPS, "images per second": rates,
             "ratio at the book's batch": same / book, "ratio at the chapter's batch": ours / book}
    for name, rate in rates.items():
        print(f"{name:30s} {rate:10,.0f} images/s   {rate / book:5.2f} x")
    target = Path(__file__).with_name(f"vae_step_{device.type}.json")
    target.write_text(json.dumps(table, indent=1) + "\n")
    assert same / book >= RATIO_AT_THE_BOOKS_BATCH, table
    assert ours / book >= RATIO_AT_THE_CHAPTERS_BATCH, table
