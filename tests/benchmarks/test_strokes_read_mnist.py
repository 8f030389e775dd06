"""Do the stroke digits teach what real digits look like? A reader trained on strokes alone reads MNIST.

    GENMED_DATA=... python -m pytest -s tests/benchmarks/test_strokes_read_mnist.py

trains on the 20,000 embedded drawings and prints the share of MNIST's 10,000 test digits that it reads, in
all and for each digit; it fails below 97 %. One to two minutes on two free CPU cores.
"""

import os
from pathlib import Path

from genmed_core import data, nets, runtime  # isort: skip  (before torch: it sets how threads wait)

import pytest
import torch
from torch.nn import functional as F

from genmed_core.kernels import Batches, TrainStep, linear_decay
from genmed_core.train import fit

BAR = 0.97


def train_reader(images, *, steps, width, batch_size=128, seed=0):
    """A digit classifier trained on an ImageSet for so many steps, in evaluation mode."""
    runtime.seed_everything(seed)
    device = runtime.device()
    net = nets.DigitClassifier(width).to(device)

    def loss_fn(batch):
        with runtime.autocast(device):
            logits = net(batch.x)
        loss = F.cross_entropy(logits.float(), batch.y, label_smoothing=0.05)
        return loss, {"loss": loss.detach()}

    def shift(x):
        return nets.shift_augment(x, 1)

    step = TrainStep(
        loss_fn,
        torch.optim.AdamW(net.parameters(), lr=4e-3, weight_decay=0.01),
        batches=Batches(images, batch_size=batch_size, seed=seed, transform=shift),
        model=net,
        schedule=linear_decay(warmup=0.2),
    )
    fit(step, steps, title="reader")
    return net.eval()


@torch.no_grad()
def read_shares(net, images):
    """The share of an ImageSet's digits that the reader gets right: in all, and (10,) for each digit."""
    device = next(net.parameters()).device
    logits = torch.cat([net(x.to(device) / 255).cpu() for x in images.images.split(1000)])
    right = (logits.argmax(1) == images.labels).double()
    counts = images.labels.bincount(minlength=10)
    return right.mean().item(), torch.zeros(10).double().index_add(0, images.labels, right) / counts


def need_mnist():
    """Skip the test that asks, loudly, where GENMED_DATA names no MNIST."""
    folder = os.environ.get("GENMED_DATA")
    if not folder or not (Path(folder) / "MNIST" / "raw").is_dir():
        pytest.skip("GENMED_DATA names no folder with MNIST/raw: strokes are not held against real digits")


def test_strokes_alone_read_mnist():
    need_mnist()
    test = data.digits("test", "mnist")
    net = train_reader(data.digits("train", "embedded"), steps=1000, width=16)
    share, each = read_shares(net, test)
    print(runtime.machine())
    print(f"strokes alone read {share:.2%} of {len(test):,} MNIST test digits (bar {BAR:.0%})")
    print("  ".join(f"{digit}: {s:.1%}" for digit, s in enumerate(each)))
    assert share >= BAR
