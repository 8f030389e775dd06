"""The numbers of chapters/measuring.md: damaged real digits, and what each measure says of them.

    GENMED_DATA=... python tests/benchmarks/measuring.py        about a minute on one core; needs real MNIST

Writes chapters/figures/measuring.json too.
"""

import json
from pathlib import Path

import torch
from torch.nn import functional as F

from genmed_core import data, metrics

test, train, val = (data.digits(split, source="mnist") for split in ("test", "train", "val"))
reference = metrics.real_reference(test)
n, floor = reference.n, reference.floor
generator = torch.Generator().manual_seed(0)
stored = {"images in a sample": n, "images in the reference": len(reference.features), "samples": {}}
x_train, y_train = train.images / 255, train.labels
x_test = test.images / 255


def blur(x, sd):
    """Gaussian blur of x (N, 1, 28, 28), sd in pixels."""
    k = torch.exp(-torch.arange(-4, 5.0) ** 2 / (2 * sd**2))
    k = k / k.sum()
    return F.conv2d(F.conv2d(x, k.view(1, 1, 1, -1), padding=(0, 4)), k.view(1, 1, -1, 1), padding=(4, 0)).clamp(0, 1)


def repeated(kinds):
    """The first `kinds` training images of each class, repeated to n."""
    return torch.cat([x_train[y_train == c][:kinds].repeat(n // 10 // kinds, 1, 1, 1) for c in range(10)])


def averaged():
    """Means of two random training images of one class."""
    return torch.cat([x_train[y_train == c][torch.randint(0, int((y_train == c).sum()), (2, n // 10),
                                                          generator=generator)].mean(0) for c in range(10)])


def damaged():
    """{name: (images (n, 1, 28, 28), labels (n,))}"""
    some = torch.randperm(len(x_train), generator=generator)[:n]
    low = (y_train < 5).nonzero()[:, 0]
    low = low[torch.randperm(len(low), generator=generator)[:n]]
    thrice = torch.multinomial(torch.where(y_train < 5, 3.0, 1.0), n, generator=generator)
    noisy = (x_train[some] + 0.2 * torch.randn(n, 1, 28, 28, generator=generator)).clamp(0, 1)
    classes = torch.arange(10).repeat_interleave(n // 10)
    return {"validation images": (val.images[:n] / 255, val.labels[:n]),
            "training images, copied": (x_train[some], y_train[some]),
            "one image of each class": (repeated(1), classes),
            "ten images of each class": (repeated(10), classes), "0 to 4 only": (x_train[low], y_train[low]),
            "0 to 4 thrice as frequent": (x_train[thrice], y_train[thrice]),
            "blurred, 1 pixel": (blur(x_train[some], 1.0), y_train[some]),
            "pixel noise, sd 0.2": (noisy, y_train[some]), "two of a class, averaged": (averaged(), classes),
            "cut at 0.5 to black and white": ((x_train[some] > 0.5).float(), y_train[some])}


def row(name, s):
    keep = ("fd", "kid", "kid_sd", "precision", "recall", "coverage", "diversity", "read_accuracy")
    stored["samples"][name] = {"FD over the floor": s["fd"] / floor["fd"], **{key: s[key] for key in keep}}
    print(f"| {name} | {s['fd'] / floor['fd']:.1f} | {s['precision']:.2f} | {s['recall']:.2f} | {s['coverage']:.2f} | "
          f"{s['diversity']:.2f} | {100 * s['read_accuracy']:.1f} |   KID {s['kid']:.0f} ± {s['kid_sd']:.0f}")


features, read = metrics.digit_features(test), metrics.read_digits(x_test).argmax(1)
within = sum(features[read == c].var(0).sum() * (read == c).float().mean() for c in range(10))
stored["share of the features' variance that lies within classes"] = (within / features.var(0).sum()).item()
others = {"binarised": (test, {"binarised": True}),
          "held out from validation, ten random draws": (test, {"held_out": val}),
          "strokes": (data.digits("test", source="embedded"), {})}
strokes = metrics.real_reference(others["strokes"][0])
stored["images in the reference of stroke drawings"] = len(strokes.features)
stored["floor of FD"] = {"test": floor["fd"], "test, sd over splits": floor["fd_sd"]} | {
    name: metrics.real_reference(real, **options).floor["fd"] for name, (real, options) in others.items()}
first = features, metrics.digit_features(val.images[:n] / 255)
stored["floor of FD"]["held out from validation, the first images"] = metrics.frechet_distance(*first)
print(stored)
row("real, held out", floor)
for name, (images, labels) in damaged().items():
    row(name, metrics.sample_report(images, reference, labels))
for size in (250, 500, 1000, 2000):
    splits = [torch.randperm(len(features), generator=generator).split([size, len(features) - size]) for _ in range(8)]
    fd = [metrics.frechet_distance(features[rest], features[few]) for few, rest in splits]
    by_size = stored.setdefault("FD between real digits by the number of samples", {})
    by_size[size] = sum(fd) / len(fd)
    print(f"floor at n = {size}: {sum(fd) / len(fd):.1f}")

flat, mean = x_test.flatten(1), x_train.flatten(1).mean(0)
components = torch.linalg.svd(x_train[:8000].flatten(1) - mean, full_matrices=False)[2][:16].T  # (784, 16)
few, rest = torch.randperm(len(flat), generator=generator).split([n, len(flat) - n])
smear = ((flat[few] - mean) @ components @ components.T + mean).clamp(0, 1)
soft = blur(x_test[few], 0.7).flatten(1)
for name, x in (("real", flat[few]), ("16 components", smear), ("softened by 0.7 pixel", soft)):
    pca = metrics.frechet_distance((flat[rest] - mean) @ components, (x - mean) @ components)
    reader = metrics.frechet_distance(features[rest], metrics.digit_features(x.view(-1, 1, 28, 28)))
    print(f"{name}: FD {pca:.2f} on principal components, {reader:.0f} on the reader's features")
    stored.setdefault("FD of a smear from principal components", {})[name] = {"components": pca, "reader": reader}

target = Path(__file__).resolve().parents[2] / "chapters" / "figures" / "measuring.json"
target.write_text(json.dumps(stored, indent=1) + "\n", encoding="utf-8")
