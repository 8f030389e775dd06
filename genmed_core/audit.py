"""Are synthetic images faithful, varied, useful and private? An audit of three folders of images.

    python -m genmed_core.audit --train DIR --held-out DIR --synthetic DIR [--json FILE]

A folder holds PNG or JPEG images, or a folder of them for each class (<class>/*.png or <class>/images/*.png). All
are made grey and 64x64. `train` is what the generator was fitted to, `held-out` real images of the same kind, of
other patients, that it never saw: they show what honest samples would score, and every figure stands beside theirs.

What the features see. Fidelity, variety and usefulness: fixed random filters on three scales, their energy on a 4x4
grid, 8x8 mean brightness and quantiles, in the held-out set's leading directions. They see texture, contrast, blur,
layout and exposure, in X-rays of any source. They know no anatomy: a heart on the wrong side in right texture, or a
missing rib, hardly moves them, and nothing below 1/64 of the width is seen. Leading directions favour what varies
much, hence blur: the energy in fine detail is reported beside them. Privacy: maps of local contrast (32x32), compared
by correlation over flips and shifts of up to 9 %, blind to brightness and contrast. They see copies, also mirrored,
shifted, brightened or noisy ones. They do not see a patient in another position or a copy rotated by more than a few
degrees. A pass is no proof of privacy: it says that these attacks fail.

Exit status: 0 after an audit, whatever it found; 2 when the input cannot be used.
"""

import argparse
import hashlib
import json
import math
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

from genmed_core import metrics
from genmed_core.imagefiles import is_image, read_image
from genmed_core.radiographs import BAD_SHARE

SIZE = 64
LEAST = 30            # images in a set
SETS = ("train", "held-out", "synthetic")
BARS = {"fd": 2.0, "detail": (0.8, 1.25), "coverage": 0.8, "gap": 0.05, "control": 0.6,
        "closer": 0.55, "copies": 0.10, "membership": 0.55}
RESAMPLES = 1000      # of every bootstrap
CLOSEST = (0.02, 0.05, 0.1)  # shares of the samples among which a few copies are looked for
ALPHA = 0.01          # accepted chance of a false alarm
MARGIN, CANDIDATES = 3, 8  # of the copy detector: shifts tried, in 1/32 of the width; neighbours looked at closely


class AuditError(RuntimeError):
    """Input that cannot be audited; the message names the file or folder and the remedy."""


class Folder(NamedTuple):
    """What `read_folder` found."""

    images: torch.Tensor  # (N, 1, SIZE, SIZE) uint8
    names: list           # of the files, relative to the folder
    classes: list         # class names; empty where there are no class folders
    labels: torch.Tensor  # (N,) int64, or (0,)
    left_out: list        # files that could not be read, with the reason


# --- folders --------------------------------------------------------------------------------------------


def read_folder(folder, *, limit=None, seed=0):
    """The images of a folder, or `limit` of them drawn at random -> Folder. Raises AuditError."""
    folder = Path(folder)
    if not folder.is_dir():
        raise AuditError(f"{folder}: {'is a file' if folder.exists() else 'does not exist'}; name a folder of images")
    files, classes = _list(folder)
    if limit and len(files) > limit:
        files = [files[i] for i in sorted(np.random.default_rng(seed).choice(len(files), limit, replace=False))]
    with ThreadPoolExecutor() as pool:
        read = list(pool.map(lambda item: _read(item[0]), files))
    names = [path.relative_to(folder).as_posix() for path, _ in files]
    good = [i for i, image in enumerate(read) if not isinstance(image, str)]
    left_out = [f"{names[i]}: {image}" for i, image in enumerate(read) if isinstance(image, str)]
    if len(left_out) > BAD_SHARE * len(files):
        raise AuditError(f"{folder}/{left_out[0]}. {len(left_out)} of {len(files)} files cannot be read, too many to "
                         "leave out: save them as PNG or JPEG again")
    if len(good) < LEAST:
        raise AuditError(f"{folder}: {len(good)} images are too few; at least {LEAST} are needed, and some hundreds "
                         "for intervals that tell anything")
    labels = torch.tensor([files[i][1] for i in good if classes], dtype=torch.int64)
    return Folder(torch.from_numpy(np.stack([read[i] for i in good]))[:, None], [names[i] for i in good], classes,
                  labels, left_out)


def _list(folder):
    """[(path, class number)] and the class names of a folder."""
    def images(place):
        return sorted(p for p in place.iterdir() if is_image(p.name) and p.is_file())

    flat = images(folder)
    inside = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    if not flat and (folder / "images").is_dir():  # one class of the database: its masks are no samples
        return [(p, 0) for p in images(folder / "images")], []
    found = {p.name: images(p / "images" if (p / "images").is_dir() else p) for p in inside}
    if flat and any(found.values()):
        raise AuditError(f"{folder}: holds images ({flat[0].name}) beside folders of images "
                         f"({next(n for n, f in found.items() if f)}): put all into class folders, or none")
    if empty := [name for name, of_class in found.items() if not of_class and any(found.values())]:
        raise AuditError(f"{folder / empty[0]}: holds no PNG or JPEG image; fill it or remove it")
    classes = [name for name, of_class in found.items() if of_class]
    files = [(p, 0) for p in flat] + [(p, i) for i, name in enumerate(classes) for p in found[name]]
    if not files:
        raise AuditError(f"{folder}: holds no PNG or JPEG image, nor class folders that do")
    return files, [name.replace("_", " ") for name in classes]


def _read(path):
    """One image -> uint8 (SIZE, SIZE), or why it cannot be read."""
    outcome = read_image(path, SIZE, _as_grey)
    return outcome if isinstance(outcome, str) else outcome[0]


def _as_grey(image):
    """An image of any mode -> 8-bit grey and decoded: samples and other collections need not be as the database is."""
    image.load()
    if image.mode.startswith("I"):  # 16-bit
        image = Image.fromarray((np.asarray(image).astype(np.int64).clip(0, 65535) >> 8).astype(np.uint8))
    return image.convert("RGBA").convert("L") if image.mode == "P" else image.convert("L")


# --- fidelity, variety, usefulness ----------------------------------------------------------------------


@torch.no_grad()
def random_features(images, batch=200):
    """What fixed random filters see: uint8 (N, 1, 64, 64) -> (N, 1223) float. See the head of this file."""
    generator = torch.Generator().manual_seed(0)
    filters = torch.randn(24, 1, 5, 5, generator=generator)
    filters -= filters.mean((2, 3), keepdim=True)
    filters /= filters.flatten(1).norm(dim=1)[:, None, None, None]
    levels = torch.tensor([0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98])
    parts = []
    for x in images.split(batch):
        x = x.float() / 255
        seen = [F.avg_pool2d(x, SIZE // 8).flatten(1), torch.quantile(x.flatten(1), levels, dim=1).T]
        for _ in range(3):  # octaves
            energy = F.conv2d(F.pad(x, (2, 2, 2, 2), mode="reflect"), filters).abs()
            seen.append((F.adaptive_avg_pool2d(energy, 4) + 0.01).log().flatten(1))
            x = F.avg_pool2d(x, 2)
        parts.append(torch.cat(seen, 1))
    return torch.cat(parts)


def leading_directions(reference, most=48):
    """A map onto the leading principal directions of reference features (N, d), scaled to unit mean variance.

    Fitted to the held-out set alone: training and synthetic images are then both strangers to it, and the floor is
    what samples as good as training images would score.
    """
    mean, std = reference.mean(0), reference.std(0) + 1e-4
    standard = ((reference - mean) / std).double()
    _, scale, directions = torch.linalg.svd(standard, full_matrices=False)
    k = max(4, min(most, len(reference) // 4))
    matrix = directions[:k].T / (scale[:k].square().sum() / (k * (len(reference) - 1))).sqrt()
    return lambda features: ((features - mean) / std).double() @ matrix


def fine_detail(images):
    """Geometric mean over images of the share of energy above half the highest frequency."""
    x = images[:, 0].float() / 255
    power = torch.fft.rfft2(x - x.mean((1, 2), keepdim=True)).abs().square()
    radius = torch.hypot(torch.fft.fftfreq(SIZE)[:, None], torch.fft.rfftfreq(SIZE)[None, :])
    share = power[:, radius > 0.25].sum(1) / power.sum((1, 2)).clamp(min=1e-9)
    return (share + 1e-9).log().mean().exp().item()


def quality(real, held, fake, images, rng, draws=5, most=2000):
    """Fidelity and variety of fakes, and of training images in their place (the floor).

    real, held, fake: features (N, d); images: the three uint8 sets -> {"synthetic": measures, "floor": measures}.
    Both sides count as many images, drawn anew `draws` times: every distance depends on the numbers.
    """
    n, m = min(len(real), len(fake), most), min(len(held), most)
    held = held[rng.permutation(len(held))[:m]]
    k = min(n, m)
    result = {"n": n, "reference_n": m}
    for name, features, pictures in (("synthetic", fake, images[2]), ("floor", real, images[0])):
        rows = []
        for _ in range(draws):
            some = features[rng.permutation(len(features))[:n]]
            precision, recall = metrics.precision_recall(held[:k], some[:k])
            density, coverage = metrics.density_coverage(held[:k], some[:k])
            rows.append([metrics.frechet_distance(held, some), metrics.kernel_distance(held, some, subsets=10)[0],
                         precision, recall, density, coverage])
        names = ("fd", "kid", "precision", "recall", "density", "coverage")
        result[name] = dict(zip(names, np.mean(rows, 0).tolist()))
        result[name]["detail"] = fine_detail(pictures) / max(fine_detail(images[1]), 1e-9)
    return result


def utility(features, labels, classes, rng, most=2000):
    """What a linear classifier learns from each set, tested on held-out images: balanced accuracies.

    features, labels: for train, held-out, synthetic. Real and synthetic training sets are equally large.
    -> measures with 95 % intervals over held-out images.
    """
    (real, held, fake), (y, y_held, y_fake) = features, labels
    n = min(len(real), len(fake), most)
    a, b = (torch.from_numpy(rng.permutation(len(f))[:n]) for f in (real, fake))
    sets = {"real": (real[a], y[a]), "synthetic": (fake[b], y_fake[b]),
            "both": (torch.cat([real[a], fake[b]]), torch.cat([y[a], y_fake[b]]))}
    onehot = F.one_hot(y_held, classes).numpy().astype(float)
    weights = np.vstack([np.ones(len(held)), rng.multinomial(len(held), [1 / len(held)] * len(held), RESAMPLES)])
    accuracy = {}
    for name, (x, target) in sets.items():
        right = metrics.linear_predictions(x.float(), target, held.float(), classes=classes, l2=1e-2) == y_held
        with np.errstate(invalid="ignore"):
            accuracy[name] = np.nanmean((weights @ (right.numpy()[:, None] * onehot)) / (weights @ onehot), 1)
    gap, gain = accuracy["real"] - accuracy["synthetic"], accuracy["both"] - accuracy["real"]
    return {"n": n, "classes": classes, "chance": 1 / classes,
            **{name: _interval(values) for name, values in {**accuracy, "gap": gap, "gain": gain}.items()}}


def _interval(values):
    """A statistic and its bootstrap, in one array -> value and 95 % interval."""
    low, high = np.nanquantile(values[1:], [0.025, 0.975])
    return {"value": float(values[0]), "low": float(low), "high": float(high)}


# --- privacy --------------------------------------------------------------------------------------------


@torch.no_grad()
def fingerprints(images):
    """Maps of local contrast, which brightness and contrast leave as they are: uint8 (N, 1, 64, 64) -> (N, 32, 32)."""
    x = F.avg_pool2d(images.float() / 255, 2)
    mean = F.avg_pool2d(F.pad(x, (4, 4, 4, 4), mode="reflect"), 9, 1)
    spread = F.avg_pool2d(F.pad((x - mean).square(), (4, 4, 4, 4), mode="reflect"), 9, 1).sqrt()
    typical = spread.mean((1, 2, 3), keepdim=True)
    return ((x - mean) / (spread + 0.5 * typical + 1e-3))[:, 0]


@torch.no_grad()
def nearest(queries, references, *, own=None):
    """The nearest reference to every query: distance 1 - correlation, the best over flips and shifts, and its index.

    fingerprints (N, 32, 32), (M, 32, 32) -> (N,), (N,). own (N,): where each query stands among the references, for
    nobody is his own neighbour.
    """
    both, m = torch.cat([references, references.flip(-1)]), len(references)
    known, distances, indices = _coarse(both).T, [], []
    for start in range(0, len(queries), 256):
        query = queries[start:start + 256]
        moved = F.pad(query, (2, 2, 2, 2), mode="replicate")
        alike = _coarse(query) @ known
        for y, x in ((y, x) for y in (0, 2, 4) for x in (0, 2, 4)):  # a shifted copy must be among the candidates
            alike = torch.maximum(alike, _coarse(moved[:, y:y + 32, x:x + 32]) @ known)
        if own is not None:
            row, mine = torch.arange(len(query)), own[start:start + 256]
            alike[row, mine] = alike[row, mine + m] = -2
        candidates = alike.topk(min(CANDIDATES, alike.shape[1]), dim=1).indices  # (b, K)
        best, which = _aligned(query, both[candidates]).max(1)
        distances.append(1 - best)
        indices.append(candidates.gather(1, which[:, None])[:, 0] % m)
    return torch.cat(distances).clamp(min=0), torch.cat(indices)


def _coarse(prints):
    """Fingerprints on an 8x8 grid, as unit vectors whose products are correlations: (N, 32, 32) -> (N, 64)."""
    small = F.avg_pool2d(prints[:, None], 4).flatten(1)
    return F.normalize(small - small.mean(1, keepdim=True), dim=1)


def _aligned(queries, candidates):
    """Best correlation of each query's middle (b, 32, 32) with windows of its candidates (b, K, 32, 32) -> (b, K)."""
    side = queries.shape[-1]
    width = side - 2 * MARGIN
    middle = queries[:, MARGIN:side - MARGIN, MARGIN:side - MARGIN]
    middle = middle - middle.mean((1, 2), keepdim=True)
    spectrum = torch.fft.rfft2(F.pad(middle, (0, 2 * MARGIN, 0, 2 * MARGIN)))[:, None]
    products = torch.fft.irfft2(spectrum.conj() * torch.fft.rfft2(candidates), s=(side, side))
    products = products[..., :2 * MARGIN + 1, :2 * MARGIN + 1]
    mean, square = (F.avg_pool2d(F.avg_pool2d(z, (1, width), 1), (width, 1), 1)  # one axis at a time: five times faster
                    for z in (candidates, candidates.square()))
    norm = (square - mean.square()).clamp(min=1e-8).sqrt() * width * middle.flatten(1).norm(dim=1)[:, None, None, None]
    return (products / norm.clamp(min=1e-8)).flatten(2).amax(2)


def equal_share(hits, clusters, odds, rng):
    """Share of hits as it would be with equal set sizes, with a 95 % interval.

    hits (N,) bool; clusters (N,): the real image each sample is nearest to, resampled as a whole, since many samples
    near one image tell little; odds: of a hit for an honest sample, by the sizes alone.
    """
    _, group = np.unique(clusters, return_inverse=True)
    total, hit = np.bincount(group), np.bincount(group, weights=hits)
    j = len(total)
    weights = np.vstack([np.ones(j), rng.multinomial(j, [1 / j] * j, RESAMPLES)])
    share = (weights @ hit) / (weights @ total)
    equal = share / (share + odds * (1 - share))
    found = _interval(equal) | {"raw": float(share[0]), "expected_raw": odds / (1 + odds), "neighbours": j}
    least = 0.025 ** (1 / j)  # nothing but hits, or none: what j independent neighbours can say of that
    if share[0] in (0, 1):
        edge = least / (least + odds * (1 - least)) if share[0] else 1 - least / (least + (1 - least) / odds)
        found["low" if share[0] else "high"] = float(edge)
    return found


def close_share(distances, clusters, strangers, rng, level=0.05):
    """Share of samples as close to a reference as only `level` of the strangers are, with a 95 % interval.

    distances, clusters (N,): of the samples to their nearest references; strangers (M,): distances of real images
    that the references do not include. Both are resampled, the samples by their neighbour as in `equal_share`.
    """
    d, s = distances.numpy(), strangers.numpy()
    _, group = np.unique(clusters.numpy(), return_inverse=True)
    j, shares = int(group.max()) + 1, [np.mean(d <= np.quantile(s, level))]
    for _ in range(RESAMPLES):
        weight = rng.multinomial(j, [1 / j] * j)[group]
        shares.append((weight * (d <= np.quantile(rng.choice(s, len(s)), level))).sum() / weight.sum())
    return _interval(np.array(shares)) | {"expected": level, "neighbours": j}


def among_closest(closeness, neighbours, n, m):
    """Have the closest samples training images for neighbours more often than by chance? -> measures for each share.

    closeness, neighbours (N,): small is close; the nearest of n training and then m held-out images. A few copies
    among honest samples hardly move a share of all, but they are the closest ones. "chance" of so many is exact: which
    real images were trained on is of no consequence to an honest generator, however blurred, nor to what it is close
    to. Every neighbour counts once, however many samples it has.  Fisher 1935, the exact test.
    """
    order, found = closeness.argsort(), []
    for share in CLOSEST:
        near = neighbours[order[:math.ceil(share * len(order))]].unique()
        k, hits = len(near), int((near < n).sum())
        ways = sum(math.comb(n, h) * math.comb(m, k - h) for h in range(hits, k + 1))
        found.append({"share": share, "neighbours": k, "train": hits, "expected": k * n / (n + m),
                      "chance": ways / math.comb(n + m, k)})
    return found


def auc(members, others, rng):
    """Probability that a member scores above a non-member, with a 95 % interval, and the hits at 1 % false alarms."""
    above = (members[:, None] > others[None, :]) + 0.5 * (members[:, None] == others[None, :])
    w, v = (np.vstack([np.ones(k), rng.multinomial(k, [1 / k] * k, RESAMPLES)]) / k for k in above.shape)
    found = _interval(((w @ above) * v).sum(1))
    return found | {"hits_at_1_percent": float((members > np.quantile(others, 0.99)).mean())}


def privacy(train, held, fake, rng, most=3000):
    """Distances to training neighbours, copies, and membership inference, from fingerprints -> measures."""
    n, m = len(train), len(held)
    to_train, which_train = nearest(fake, train)
    to_held, which_held = nearest(fake, held)
    held_train, _ = nearest(held, train)
    some = torch.from_numpy(rng.permutation(n)[:most])
    train_held, _ = nearest(train[some], held)
    # who is nearer is asked in one search of all real images: two would look less closely at the larger set
    pool = torch.cat([train, held])
    distance, around = nearest(fake, pool)
    met = around.unique()
    usual = torch.zeros(n + m).index_copy(0, met, nearest(pool[met], pool, own=met)[0])  # some are close to many
    among = among_closest(distance / usual[around].clamp(min=1e-4), around, n, m)
    around = around.numpy()
    around_held = nearest(held, pool, own=n + torch.arange(m))[1].numpy()
    near = 0.5 * held_train.quantile(0.01).item()
    result = {
        "closer": equal_share(around < n, around, n / m, rng),
        "control": equal_share(around_held >= n, around_held, (m - 1) / n, rng),
        "copies": close_share(to_train, which_train, held_train, rng),
        "close_to_held_out": close_share(to_held, which_held, train_held, rng), "among_closest": among,
        "near": near, "near_synthetic": (to_train < near).nonzero()[:, 0].tolist(),
        "near_held_out": int((held_train < near).sum()),
        "distance": to_train, "neighbour": which_train,
        "ratio_train": _ratio(to_train, held_train, rng), "ratio_held_out": _ratio(to_held, train_held, rng),
    }
    reals = torch.cat([train[some], held])
    to_fake, reference = nearest(reals, fake)[0], nearest(reals, reals, own=torch.arange(len(reals)))[0]
    plain, calibrated = -(to_fake + 1e-4).log(), ((reference + 1e-4) / (to_fake + 1e-4)).log()
    k = len(some)
    result["membership"] = auc(calibrated[:k].numpy(), calibrated[k:].numpy(), rng)
    result["membership_plain"] = auc(plain[:k].numpy(), plain[k:].numpy(), rng)
    return result


def _ratio(above, below, rng):
    """Ratio of two medians with its interval."""
    a, b = above.numpy(), below.numpy()
    drawn = [np.median(a[rng.integers(0, len(a), len(a))]) / max(np.median(b[rng.integers(0, len(b), len(b))]), 1e-6)
             for _ in range(RESAMPLES // 4)]
    return _interval(np.array([np.median(a) / max(np.median(b), 1e-6), *drawn]))


# --- verdicts -------------------------------------------------------------------------------------------


def judge(report):
    """The questions with their answers -> [{"question", "answer", "verdict", "because", "bar"}].

    verdict: "pass", "flag" or "unclear", where the interval reaches too far to say either.
    """
    q, p = report["quality"], report["privacy"]
    fd, detail = q["synthetic"]["fd"] / q["floor"]["fd"], q["synthetic"]["detail"]
    low, high = BARS["detail"]
    cover = q["synthetic"]["coverage"] / max(q["floor"]["coverage"], 1e-9)
    judged = [
        _verdict("Is the held-out set a fair control?", _above(p["control"], BARS["control"], 0.75), "yes", "no",
                 f"held-out images nearest to their own: {_text(p['control'])}", f"above {BARS['control']} is not"),
        _verdict("Do the samples look real?", fd > BARS["fd"] or not low <= detail <= high, "yes", "no",
                 f"Frechet distance {fd:.2f} times the floor, fine detail {detail:.2f} of real",
                 f"up to {BARS['fd']:g}; {low} to {high}"),
        _verdict("Are they as varied as real ones?", cover < BARS["coverage"], "yes", "no",
                 f"coverage {cover:.2f} of the floor's", f"{BARS['coverage']} or more"),
    ]
    if u := report["utility"]:
        judged.append(_verdict(
            "Can they train a classifier?", u["gap"]["value"] > BARS["gap"], "yes", "no",
            f"balanced accuracy {u['synthetic']['value']:.2f}, from real images {u['real']['value']:.2f}; "
            f"lost: {_text(u['gap'])}", f"up to {BARS['gap']}"))
        judged.append(_verdict(
            "Do they help beside real ones?", u["gain"]["high"] < 0, "yes" if u["gain"]["low"] > 0 else "no gain",
            "harm", f"gained: {_text(u['gain'])}", "interval above 0 is yes, below 0 harm"))
    count, m = len(p["near_synthetic"]), report["counts"]["synthetic"]
    chance = (p["near_held_out"] + 1) / (report["counts"]["held-out"] + 1)
    many = count > 0 and _tail(count, m, chance) < ALPHA
    both = max(BARS["copies"], p["close_to_held_out"]["high"])  # what is blurred is close to everything alike
    least = min(p["among_closest"], key=lambda found: found["chance"])
    some = least["chance"] < ALPHA / len(CLOSEST)
    close = True if many or some else _above(p["copies"], both, 0.25)
    judged += [
        _verdict("Are they closer to training images?", _above(p["closer"], BARS["closer"], 0.65), "no", "yes",
                 f"share {_text(p['closer'])}, honest 0.5; distance ratio {_text(p['ratio_train'])}",
                 f"above {BARS['closer']} is"),
        _verdict("Are there copies of training images?", close, "no", "yes",
                 f"{count} of {m} nearly the same; closest {least['share']:.0%}: {least['train']} of "
                 f"{least['neighbours']} beside training images, by chance {least['expected']:.0f}; very close "
                 f"{_text(p['copies'])}",
                 f"above {both:.2f} are"),
        _verdict("Can membership be inferred?", _above(p["membership"], BARS["membership"], 0.65), "no", "yes",
                 f"AUC {_text(p['membership'])}, honest 0.5", f"above {BARS['membership']} it can"),
    ]
    return judged


def _above(found, bar, unclear):
    """True where the whole interval lies above the bar, None where it reaches too far up to tell, else False."""
    return True if found["low"] > bar else None if found["high"] > unclear else False


def _verdict(question, bad, good_answer, bad_answer, because, bar):
    verdict = "unclear" if bad is None else "flag" if bad else "pass"
    answer = {"unclear": "unclear", "flag": bad_answer, "pass": good_answer}[verdict]
    return {"question": question, "answer": answer, "verdict": verdict, "because": because, "bar": bar}


def _text(found):
    return f"{found['value']:.2f} ({found['low']:.2f} to {found['high']:.2f})"


def _tail(count, n, p):
    """Probability of `count` or more among n where each has probability p."""
    logs = [math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) + k * math.log(p)
            + (n - k) * math.log1p(-p) if p < 1 else 0.0 for k in range(count, n + 1)]
    return min(1.0, sum(map(math.exp, logs)))


# --- the audit ------------------------------------------------------------------------------------------


def audit(train, held_out, synthetic, *, seed=0):
    """Every measure and verdict for three Folders -> a report that JSON can hold. Raises AuditError."""
    rng = np.random.default_rng(seed)
    notes = [f"{name}: {len(f.left_out)} files left out, such as {f.left_out[0]}"
             for name, f in zip(SETS, (train, held_out, synthetic)) if f.left_out]
    held_out, shared = _without_copies(held_out, train)
    if shared:
        notes.append(f"held-out images that are also training images, and were dropped: {shared}")
    if len(held_out.images) < LEAST:
        raise AuditError(f"the held-out set has {len(held_out.images)} images that are not training images; at least "
                         f"{LEAST} are needed: give real images that the generator never saw")
    sets = (train, held_out, synthetic)
    if min(len(f.images) for f in sets) < 200:
        notes.append("fewer than 200 images in a set: the intervals are wide, and a pass says little")
    images = [f.images for f in sets]
    features = [random_features(x) for x in images]
    project = leading_directions(features[1])
    features = [project(f) for f in features]
    report = {"counts": {name: len(x) for name, x in zip(SETS, images)}, "notes": notes, "bars": BARS, "seed": seed,
              "quality": quality(*features, images, rng), "utility": _utility(sets, features, notes, rng),
              "privacy": privacy(*map(fingerprints, images), rng)}
    p = report["privacy"]
    distance, neighbour = p.pop("distance"), p.pop("neighbour")
    p["closest"] = [{"synthetic": synthetic.names[i], "train": train.names[neighbour[i]],
                     "distance": distance[i].item(), "nearly_the_same": bool(distance[i] < p["near"])}
                    for i in distance.argsort()[:max(10, len(p["near_synthetic"]))].tolist()]
    report["verdicts"] = judge(report)
    p["near_synthetic"] = len(p["near_synthetic"])
    return report


def _without_copies(held_out, train):
    """The held-out Folder without images that are, pixel for pixel, in the training set; and how many those were."""
    known = {_digest(x) for x in train.images}
    keep = torch.tensor([_digest(x) not in known for x in held_out.images])
    labels = held_out.labels[keep] if held_out.classes else held_out.labels
    names = [name for name, k in zip(held_out.names, keep) if k]
    return held_out._replace(images=held_out.images[keep], names=names, labels=labels), int((~keep).sum())


def _digest(image):
    return hashlib.blake2b(image.numpy().tobytes(), digest_size=16).digest()


def _utility(sets, features, notes, rng):
    """`utility` on the classes that all sets have, or None and a note."""
    if not all(f.classes for f in sets):
        notes.append("usefulness is not measured: it needs class folders in all three folders")
        return None
    enough = [{name for i, name in enumerate(f.classes) if (f.labels == i).sum() >= 5} for f in sets]
    classes = sorted(set.intersection(*enough))
    if dropped := sorted(set.union(*map(set, (f.classes for f in sets))) - set(classes)):
        notes.append(f"usefulness is measured without {', '.join(dropped)}: not 5 images in every folder")
    if len(classes) < 2:
        notes.append("usefulness is not measured: fewer than two classes are in all three folders")
        return None
    chosen, labels = [], []
    for folder, x in zip(sets, features):
        number = torch.tensor([classes.index(name) if name in classes else -1 for name in folder.classes])
        number = number[folder.labels]
        chosen.append(x[number >= 0])
        labels.append(number[number >= 0])
    return utility(chosen, labels, len(classes), rng) | {"class_names": classes}


def table(report):
    """The report as text: measures, notes, verdicts."""
    q, p = report["quality"], report["privacy"]
    lines = ["  ".join(f"{name}: {n:,} images" for name, n in report["counts"].items()), "",
             f"{'':34}{'synthetic':>12}{'real (floor)':>14}"]
    for name, words in (("fd", "Frechet distance"), ("kid", "kernel distance"), ("precision", "precision"),
                        ("recall", "recall"), ("density", "density"), ("coverage", "coverage"),
                        ("detail", "fine detail, of held-out")):
        digits = 4 if name == "kid" else 2
        lines.append(f"{words:34}{q['synthetic'][name]:12.{digits}f}{q['floor'][name]:14.{digits}f}")
    if u := report["utility"]:
        for words, scores in (("balanced accuracy, trained on it", (u["synthetic"], u["real"])),
                              ("... on real and synthetic", (u["both"],))):
            lines.append(f"{words:34}" + "".join(f"{s['value']:{12 + 2 * i}.2f}" for i, s in enumerate(scores)))
    lines += [f"{words:34}{_text(p[name]):>26}" for name, words in (
        ("ratio_train", "distance to train / held-out's"), ("ratio_held_out", "distance to held-out / train's"),
        ("closer", "closer to train (honest 0.5)"), ("membership", "membership AUC, calibrated"),
        ("membership_plain", "membership AUC, plain"))]
    for pair in p["closest"][:3]:
        lines.append(f"closest: {pair['synthetic']} to {pair['train']}, {pair['distance']:.3f}"
                     f"{', nearly the same' if pair['nearly_the_same'] else ''}")
    lines += ["", *(f"note: {note}" for note in report["notes"]), *([""] if report["notes"] else [])]
    marks = {"pass": "ok  ", "flag": "FLAG", "unclear": "?   "}
    lines += [f"{marks[v['verdict']]} {v['question']:37}{v['answer']:8} {v['because']} [bar: {v['bar']}]"
              for v in report["verdicts"]]
    return "\n".join(lines)


def main(arguments=None):
    """The command line -> exit status."""
    parser = argparse.ArgumentParser(prog="python -m genmed_core.audit", description=__doc__.split("\n")[0])
    for name, what in zip(SETS, ("what the generator was fitted to", "real images that it never saw", "its samples")):
        parser.add_argument(f"--{name}", required=True, metavar="DIR", help=what)
    parser.add_argument("--json", metavar="FILE", help="write the whole report there")
    parser.add_argument("--limit", type=int, default=5000, help="most held-out and synthetic images (default 5000)")
    parser.add_argument("--seed", type=int, default=0, help="of all random draws (default 0)")
    options = parser.parse_args(arguments)
    try:
        places = [getattr(options, name.replace("-", "_")) for name in SETS]
        real = [os.path.realpath(place) for place in places]
        if len(set(real)) < 3:
            twice = next(place for place in places if real.count(os.path.realpath(place)) > 1)
            raise AuditError(f"{twice}: given twice; training, held-out and synthetic images must be three folders")
        if options.json and not Path(options.json).resolve().parent.is_dir():
            raise AuditError(f"{options.json}: its folder does not exist")
        folders = [read_folder(place, limit=None if name == "train" else options.limit, seed=options.seed)
                   for name, place in zip(SETS, places)]
        report = audit(*folders, seed=options.seed)
        if options.json:
            Path(options.json).write_text(json.dumps(report, indent=1, allow_nan=False))
    except (AuditError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(table(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
