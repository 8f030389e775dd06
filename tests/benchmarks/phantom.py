"""How good are the X-ray phantoms? Their speed, their likeness to real films, how far their classes differ.

    GENMED_DATA=... python tests/benchmarks/phantom.py [--sheet FILE]

prints the seconds for 4,000 phantoms at 64x64; against the COVID-19 Radiography Database under GENMED_DATA,
with the classes mixed as they are there, the distance of the histograms of greys (total variation) and the
slopes of the radial power spectra; and the share of 1,000 phantoms whose class a small network trained on
3,000 others reads. --sheet puts 40 phantoms beside 40 real films; that picture must stay out of the repository.
About four minutes on one core.
"""

import argparse
import os
import time
from pathlib import Path

from genmed_core import runtime  # isort: skip  (before torch: it sets how threads wait)

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

from genmed_core.kernels import Batches, TrainStep, linear_decay
from genmed_core.synthetic.phantom import CLASSES, cxr_phantom
from genmed_core.train import fit

SIZE, TRAIN, TEST = 64, 3_000, 1_000
BANDS = (2, 8), (8, 28)  # cycles per side: coarse and fine


def real_films(size):
    """Real films (N, 1, size, size) uint8 and labels (N,); None where GENMED_DATA names none."""
    folder = Path(os.environ.get("GENMED_DATA", "")) / "COVID-19_Radiography_Dataset"
    images, labels = [], []
    for label, name in enumerate(CLASSES):
        for path in sorted((folder / name.replace("Lung Opacity", "Lung_Opacity") / "images").glob("*.png")):
            with Image.open(path) as film:
                images.append(np.asarray(film.convert("L").resize((size, size), Image.Resampling.BOX)))
            labels.append(label)
    if not images:
        return None
    return torch.from_numpy(np.stack(images))[:, None], torch.tensor(labels)


def histogram(images):
    """Shares (64,) of greys in bins of four."""
    counts = (images.flatten().long() // 4).bincount(minlength=64)
    return counts / counts.sum()


def slopes(images):
    """Slopes of log power against log frequency in BANDS, of the mean radial spectrum."""
    n = images.shape[-1]
    window = torch.hann_window(n, periodic=False)
    x = images[:, 0].float()
    x = (x - x.mean((1, 2), keepdim=True)) * window * window[:, None]
    power = torch.fft.fft2(x).abs().square().mean(0)
    frequency = torch.fft.fftfreq(n) * n
    radius = (frequency[:, None] ** 2 + frequency**2).sqrt().round().long().flatten()
    radial = torch.zeros(n).index_add(0, radius, power.flatten()) / radius.bincount(minlength=n)
    out = []
    for low, high in BANDS:
        f = torch.arange(low, high + 1)
        u, v = f.float().log(), radial[f].log()
        out.append((((u - u.mean()) * (v - v.mean())).sum() / ((u - u.mean()) ** 2).sum()).item())
    return out


def small_network(classes, width=24):
    """Four convolutions and a mean over the picture: what a student would write first."""
    layers, channels = [], 1
    for k in range(4):
        layers += [nn.Conv2d(channels, width * 2 ** min(k, 2), 3, padding=1, stride=2 if k == 0 else 1),
                   nn.BatchNorm2d(width * 2 ** min(k, 2)), nn.ReLU()]
        layers += [nn.MaxPool2d(2)] if k < 3 else []
        channels = width * 2 ** min(k, 2)
    return nn.Sequential(*layers, nn.Flatten(), nn.Dropout(0.3), nn.Linear(channels * 16, classes))


def read_classes(images, labels, *, steps, seed=0):
    """Train on the first TRAIN phantoms, read the others -> the confusion matrix (4, 4) in shares of each row."""
    runtime.seed_everything(seed)
    device = runtime.device()
    net = small_network(len(CLASSES)).to(device)

    def loss_fn(batch):
        with runtime.autocast(device):
            logits = net(batch.x - 0.5)
        loss = F.cross_entropy(logits.float(), batch.y, label_smoothing=0.05)
        return loss, {"loss": loss.detach()}

    step = TrainStep(
        loss_fn, torch.optim.AdamW(net.parameters(), lr=2e-3, weight_decay=0.05),
        batches=Batches(images[:TRAIN], labels[:TRAIN], batch_size=64, seed=seed),
        model=net, schedule=linear_decay(warmup=0.1),
    )
    fit(step, steps, title="reader of classes")
    net.eval()
    with torch.no_grad():
        logits = torch.cat([net(x.to(device) / 255 - 0.5).cpu() for x in images[TRAIN:].split(250)])
    pairs = labels[TRAIN:] * 4 + logits.argmax(1)
    matrix = pairs.bincount(minlength=16).view(4, 4).double()
    return matrix / matrix.sum(1, keepdim=True)


def sheet(films, path):
    """40 phantoms, four rows of ten, above 40 real films."""
    fake = cxr_phantom(40, size=128, seed=5)[0][:, 0]
    real = films[torch.randperm(len(films), generator=torch.Generator().manual_seed(1))[:40], 0]
    both = torch.cat([x.view(4, 10, 128, 128).permute(0, 2, 1, 3).reshape(512, 1280) for x in (fake, real)])
    Image.fromarray(both.numpy()).save(path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sheet", type=Path)
    parser.add_argument("--steps", type=int, default=700)
    arguments = parser.parse_args()
    print(runtime.machine(), flush=True)
    started = time.perf_counter()
    images, labels, _ = cxr_phantom(TRAIN + TEST, size=SIZE, seed=0)
    print(f"{len(images):,} phantoms at {SIZE}x{SIZE}: {time.perf_counter() - started:.0f} s", flush=True)
    films = real_films(SIZE)
    if films is None:
        print("GENMED_DATA names no COVID-19_Radiography_Dataset: no comparison with real films")
    else:
        real, kinds = films
        shares = kinds.bincount(minlength=4) / len(kinds)
        rows = [torch.nonzero(labels == c)[: int(1000 * share), 0] for c, share in enumerate(shares)]
        fake = images[torch.cat(rows)]
        distance = 0.5 * (histogram(real) - histogram(fake)).abs().sum()
        print(f"histogram of greys, {len(real)} real films: total variation {distance:.3f}; "
              f"mean {real.float().mean():.0f} real, {fake.float().mean():.0f} phantom")
        for name, x in (("real", real), ("phantom", fake)):
            print(f"power spectrum, {name}: " + ", ".join(
                f"slope {s:.2f} over {a}..{b} cycles" for s, (a, b) in zip(slopes(x), BANDS, strict=True)), flush=True)
        if arguments.sheet:
            sheet(real_films(128)[0], arguments.sheet)
    matrix = read_classes(images, labels, steps=arguments.steps)
    print(f"classes read: {matrix.diagonal().mean():.1%}")
    for name, row, own in zip(CLASSES, matrix, matrix.diagonal(), strict=True):
        read = ", ".join(f"{c} {share:.0%}" for c, share in zip(CLASSES, row, strict=True))
        print(f"  {name:16} {own:.1%}   read as {read}")


if __name__ == "__main__":
    main()
