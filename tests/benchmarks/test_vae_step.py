"""The VAE step of chapter 2 against the book's own loop, side by side, on the book's model and optimiser.

    make bench

The book's loop is rebuilt from the facts in its text: a DataLoader over a Python list of [array, label] pairs,
sigmoid and binary cross-entropy, sums read with .item() at every step. It runs three times: here, with as many threads
as there are cores and with one, and in a process of its own without this project's thread settings, where idle threads
spin (fast on an idle machine, many times slower when another process wants a core). Rounds are interleaved, so that
another process slows all of them alike; the figures are medians, and the gate is on their ratios to the better of the
two that run here.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from genmed_core import data, kernels, metrics, runtime

ROUNDS, STEPS = 7, 120
THE_CHAPTERS_BATCH = 512
RATIO_AT_THE_BOOKS_BATCH, RATIO_AT_THE_CHAPTERS_BATCH = 1.7, 2.3


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


def endless(loader):
    while True:
        yield from loader


def on_threads(count, run):
    """`run` on `count` threads."""

    def threaded(steps):
        before = torch.get_num_threads()
        torch.set_num_threads(count)
        run(steps)
        torch.set_num_threads(before)

    return threaded


class OwnProcess:
    """The book's loop in a fresh Python without this project's thread settings."""

    def __init__(self):
        env = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_", "GENMED_THREADS"))}
        code = f"""import sys, torch  # torch first: it reads how threads wait before genmed_core can set it
sys.path.insert(0, {str(Path(__file__).parent)!r})
import test_vae_step as t
run = t.the_books_loop(t.data.digits("train"), torch.device("cpu"))
print("ready", flush=True)
for line in sys.stdin:
    run(int(line))
    print("done", flush=True)"""
        self.process = subprocess.Popen([sys.executable, "-c", code], env=env, text=True, stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self._wait_for("ready")

    def _wait_for(self, word):
        for line in self.process.stdout:
            if line.strip() == word:
                return
        raise RuntimeError("the process of the book's loop has ended")

    def __call__(self, steps):
        self.process.stdin.write(f"{steps}\n")
        self.process.stdin.flush()
        self._wait_for("done")


def our_step(images, device, batch_size, bf16=True, **options):
    """-> run(steps), chapter 2's step: same model and loss, AdamW in its fused form, bfloat16 where it is faster."""
    model, _ = fresh_model(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, fused=True)

    def loss_fn(batch):
        x = batch.x.flatten(1)
        with runtime.autocast(device, bf16):
            logits, mu, logvar = model(x)
        nll = kernels.bernoulli_nll(logits, x).sum()
        kl = metrics.gaussian_kl(mu.float(), logvar.float()).sum()
        return nll + kl, {"nll": nll.detach(), "kl": kl.detach()}

    binary = (images.images > 128).float()
    batches = kernels.Batches(binary, images.labels, batch_size=batch_size, device=device)
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
    cores, batch = torch.get_num_threads(), THE_CHAPTERS_BATCH
    book = the_books_loop(images, device)
    runs = {f"the book's loop, {cores} threads": (on_threads(cores, book), 256),
            "the book's loop, 1 thread": (on_threads(1, book), 256)}
    if device.type == "cpu":
        runs["the book's loop, own process"] = (OwnProcess(), 256)
    runs |= {"genmed, batch 256": (our_step(images, device, 256), 256),
             "genmed, batch 256, fp32": (our_step(images, device, 256, bf16=False), 256),
             f"genmed, batch {batch}": (our_step(images, device, batch), batch),
             f"genmed, batch {batch}, fp32": (our_step(images, device, batch, bf16=False), batch)}
    rates = interleaved(runs)
    best = max(list(rates.values())[:2])
    ratios = {name: rate / best for name, rate in rates.items()}
    for name, rate in rates.items():
        print(f"{name:30s} {rate:10,.0f} images/s   {ratios[name]:5.2f} x")
    table = {"machine": runtime.machine(), "n": ROUNDS, "steps per round": STEPS, "images per second": rates,
             "ratio at the book's batch": ratios["genmed, batch 256"],
             "ratio at the chapter's batch": ratios[f"genmed, batch {batch}"]}
    target = Path(__file__).with_name(f"vae_step_{device.type}.json")
    target.write_text(json.dumps(table, indent=1) + "\n")
    assert ratios["genmed, batch 256"] >= RATIO_AT_THE_BOOKS_BATCH, table
    assert ratios[f"genmed, batch {batch}"] >= RATIO_AT_THE_CHAPTERS_BATCH, table
