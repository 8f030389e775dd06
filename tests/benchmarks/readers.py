"""How far a generator is from real digits, as other readers than ours see it: a table of chapters/measuring.md.

    GENMED_DATA=... python tests/benchmarks/scoreboard.py run 04 05 06 08 --seeds 0 1 2 3 4    draws the samples
    GENMED_DATA=... python tests/benchmarks/readers.py                            minutes on one core; needs real MNIST

Writes chapters/figures/readers.json too.

The samples are those that the scoreboard's seeds have kept, or else the notebooks' own. Every figure
is the Frechet distance of 2,000 of them from all test images, in multiples of a floor, as a mean over seeds. The floor
is what 2,000 validation images score, a mean over ten random draws, as everywhere in this book, or what the first
2,000 training images do, which are no random sample of the training set.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from genmed_core import data, kernels, metrics, runtime, train

MODELS = {"GAN": "04_gan/GAN", "CGAN": "05_cgan/CGAN", "WGAN-GP": "06_wgan/WGAN-GP", "DDPM": "08_ddpm/DDPM",
          "DDPM, shipped": "08_ddpm/DDPM, shipped weights"}
N = 2000
STORED = Path(__file__).resolve().parents[2] / "chapters" / "figures" / "readers.json"

train_set, val, test = (data.digits(split, source="mnist") for split in ("train", "val", "test"))


def convolutional(width=32):
    """The network of many a first lesson: two convolutions and a hidden layer."""
    layers = [[nn.Conv2d(i, o, 3, padding=1), nn.BatchNorm2d(o), nn.ReLU(), nn.MaxPool2d(2)]
              for i, o in ((1, width), (width, 2 * width))]
    return nn.Sequential(*layers[0], *layers[1], nn.Flatten(), nn.Linear(98 * width, 128), nn.ReLU(),
                         nn.Linear(128, 10))


def dense():
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU(),
                         nn.Linear(128, 10))


def trained(make, epochs=3, rate=2e-3, seed=0):
    """-> features(images (N, 1, 28, 28) float in [0, 1]) (N, 128), accuracy on the test set."""
    torch.manual_seed(seed)
    net = make()

    def reading_loss(batch):
        cut = torch.rand(len(batch.x), 1, 1, 1) < 0.5  # half of the images in black and white: binarised ones, too
        return F.cross_entropy(net(torch.where(cut, (batch.x > 0.5).float(), batch.x)), batch.y), {}

    step = kernels.TrainStep(reading_loss, torch.optim.AdamW(net.parameters(), lr=rate), model=net, seed=seed,
                             batches=kernels.Batches(train_set, batch_size=128, seed=seed),
                             schedule=kernels.linear_decay(0.1))
    train.fit(step, round(epochs * len(train_set) / 128), title=make.__name__)
    net.eval()

    @torch.no_grad()
    def features(x):
        return torch.cat([net[:-1](part) for part in x.split(500)])

    with torch.no_grad():
        right = net[-1](features(test.images / 255)).argmax(1) == test.labels
    return features, right.float().mean().item()


def drawn():
    """{model: [samples (2000, 1, 28, 28) in [0, 1], one for each seed]}"""
    found, runs = {}, runtime.runs_dir()
    for name, where in MODELS.items():
        paths = sorted(runs.glob(f"scoreboard/*-auto-*/results/{where}.npy")) or [*runs.glob(f"results/{where}.npy")]
        if not paths:
            sys.exit(f"error: no samples of {name} under {runs}: run its chapter first (see the top of this file)")
        images = [torch.from_numpy(np.load(path))[:, None] / 255 for path in paths]
        found[name] = [x[torch.randperm(len(x), generator=torch.Generator().manual_seed(0))[:N]] for x in images]
    return found


def at_random(features, real, generator, draws=3):
    """Mean Frechet distance of N training images that are drawn at random."""
    some = [train_set.images[torch.randperm(len(train_set), generator=generator)[:N]] / 255 for _ in range(draws)]
    return sum(metrics.frechet_distance(real, features(x)) for x in some) / draws


def main():
    samples = drawn()
    ours = metrics.digit_features, (metrics.read_digits(test.images / 255).argmax(1) == test.labels).float().mean()
    readers = {"ours": ours, "two convolutions": trained(convolutional), "dense layers": trained(dense, epochs=10)}
    print("seeds: " + ", ".join(f"{k} {len(v)}" for k, v in samples.items()))
    print("| reader | reads, % | floor from | floor | " + " | ".join(samples) + " |")
    print("| --- | ---: | --- | ---: |" + " ---: |" * len(samples))
    stored = {"seeds": {k: len(v) for k, v in samples.items()}, "readers": {}}
    for name, (features, accuracy) in readers.items():
        real = features(test.images / 255)
        away = {k: [metrics.frechet_distance(real, features(x)) for x in seeds] for k, seeds in samples.items()}
        seen, generator = features(val.images / 255), torch.Generator().manual_seed(0)
        draws = [seen[torch.randperm(len(seen), generator=generator)[:N]] for _ in range(10)]
        floors = {"validation": sum(metrics.frechet_distance(real, draw) for draw in draws) / len(draws),
                  "first of training": metrics.frechet_distance(real, features(train_set.images[:N] / 255))}
        stored["readers"][name] = {"read rightly": float(accuracy), "floors": floors, "distances": away,
                                   "of as many training images drawn at random": at_random(features, real, generator)}
        means = {k: sum(found) / len(found) for k, found in away.items()}
        multiples = {source: {k: mean / floor for k, mean in means.items()} for source, floor in floors.items()}
        stored["readers"][name]["mean distance in floors"] = multiples
        for source, floor in floors.items():
            cells = [f"{multiple:.1f}" for multiple in multiples[source].values()]
            print(f"| {name} | {100 * accuracy:.2f} | {source} | {floor:.3g} | " + " | ".join(cells) + " |", flush=True)
    STORED.write_text(json.dumps(stored, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
