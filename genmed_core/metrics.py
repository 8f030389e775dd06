"""What a model is worth, as numbers: likelihood bounds, probes, sample quality, and chapters' expectations.

Functions return plain floats or tensors and never plot. Likelihoods are in nats per image unless a name says
bits.
"""

import contextlib
import functools
import json
import math
import os
import warnings
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

from genmed_core import runtime
from genmed_core.kernels import bernoulli_nll  # the training loss and the metric are one function


class WeightsError(RuntimeError):
    """Shipped weights are missing, damaged, or not fit to be stored."""


# --- likelihood bounds --------------------------------------------------------------------------------------


def gaussian_kl(mu, logvar):
    """KL(N(mu, diag exp logvar) || N(0, I)), nats, per latent dimension.

    mu, logvar (B, d) -> (B, d); sum over d for the KL of the code.  Kingma & Welling 2014, appendix B.
    """
    return 0.5 * (mu**2 + logvar.exp() - 1 - logvar)


def log_normal(z, mu, logvar):
    """log N(z; mu, diag exp logvar), nats, summed over the last dimension. Broadcasts."""
    return -0.5 * (math.log(2 * math.pi) + logvar + (z - mu) ** 2 / logvar.exp()).sum(-1)


@torch.no_grad()
def iwae_bound(x, encode, decode, *, samples, chunk=50):
    """The importance-weighted bound on log p(x), nats per image.

    x (B, ...); encode(x) -> mu, logvar (B, d); decode(z (B, d)) -> logits shaped like x -> bound (B,).
    samples=1 is the ELBO with a sampled KL.  Burda et al. 2016, eq. 8.
    """
    mu, logvar = encode(x)
    weights = []
    for start in range(0, samples, chunk):
        k = min(chunk, samples - start)
        z = mu + torch.randn(k, *mu.shape, device=mu.device) * (0.5 * logvar).exp()  # (k, B, d)
        logits = decode(z.flatten(0, 1))
        nll = bernoulli_nll(logits, x.repeat(k, *[1] * (x.ndim - 1))).view(k, -1)
        weights.append(log_normal(z, torch.zeros_like(z), torch.zeros_like(z)) - nll - log_normal(z, mu, logvar))
    return torch.logsumexp(torch.cat(weights), 0) - math.log(samples)


def mean_over(images, fn, *, batch_size=1000, device=None):
    """Mean of fn(x) -> (B,) or (B, k) over every image, the short last batch weighted as it should be.

    images: ImageSet or uint8 (N, 1, H, W); x is float in [0, 1] on `device` -> float, or tensor (k,).
    """
    images = getattr(images, "images", images)
    device = torch.device(device) if device is not None else runtime.device()
    total = 0.0
    with torch.no_grad():
        for part in images.split(batch_size):
            x = part.to(device)
            total = total + fn(x.float() / 255 if x.dtype == torch.uint8 else x).sum(0).double()
    mean = total / len(images)
    return mean.item() if mean.ndim == 0 else mean.cpu()


# --- reading and probing ------------------------------------------------------------------------------------


def weights_dir():
    """Folder of the weights that come with the project."""
    return runtime.root() / "data" / "weights"


def save_weights(model, name, **facts):
    """Store `model` as `data/weights/<name>.safetensors`, its floating-point tensors as float16 -> the path.

    facts: how it was made, such as steps=24_000; kept in the file, and read by `weights_facts`. Raises WeightsError
    for a number that float16 cannot hold.
    """
    from safetensors.torch import save_file

    path = weights_dir() / f"{name}.safetensors"
    state = {k: (v.half() if v.is_floating_point() else v).contiguous() for k, v in model.state_dict().items()}
    if bad := [k for k, v in state.items() if not torch.isfinite(v).all()]:
        raise WeightsError(f"{path.name} is not written: {', '.join(bad)} hold NaN, infinity or more than float16 can.")
    with runtime.whole_file(path) as part:
        save_file(state, part, metadata={k: str(v) for k, v in facts.items()})
    return path


def load_weights(model, name):
    """Load `data/weights/<name>.safetensors` (stored as float16) into `model`, and return it in eval mode.

    Raises WeightsError naming the file and the remedy.
    """
    with _stored(name) as file:
        names = file.keys()
        state = {name: file.get_tensor(name) for name in names}
        model.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in state.items()})
    return model.eval()


def weights_facts(name):
    """What `data/weights/<name>.safetensors` says of how it was made: {name: text}. Raises WeightsError."""
    with _stored(name) as file:
        return file.metadata() or {}


@contextlib.contextmanager
def _stored(name):
    """The open file of stored weights; what goes wrong with it becomes a WeightsError."""
    from safetensors import SafetensorError, safe_open

    path = weights_dir() / f"{name}.safetensors"
    try:
        with safe_open(path, "pt") as file:
            yield file
    except FileNotFoundError as err:
        raise WeightsError(f"{path} is missing: restore it with `git checkout data/weights`.") from err
    except (SafetensorError, RuntimeError, OSError) as err:
        raise WeightsError(
            f"{path} is damaged or made for another model ({str(err).splitlines()[0]}): restore it with "
            "`git checkout data/weights`."
        ) from err


@functools.cache
def digit_classifier(device="cpu"):
    """Our own reader of digits (data/weights/README.md says how it was trained and how well it reads)."""
    from genmed_core.nets import DigitClassifier

    return load_weights(DigitClassifier(), "digit_classifier").to(device)


@torch.no_grad()
def _reader_features(x, batch_size=100):
    """The reader's features of images x (N, 1, 28, 28) float -> (N, 128) float32; small batches stay in the cache."""
    reader = digit_classifier(str(x.device)).to(memory_format=torch.channels_last)  # twice as fast on a CPU
    with runtime.autocast(x.device):
        parts = [reader.features(part.contiguous(memory_format=torch.channels_last)) for part in x.split(batch_size)]
    return torch.cat([torch.empty(0, 128, device=x.device), *parts]).float()


@torch.no_grad()
def read_digits(x):
    """Class probabilities that our classifier gives to images: x (N, 1, 28, 28) in [0, 1] -> (N, 10)."""
    if x.ndim != 4 or x.shape[1:] != (1, 28, 28):
        raise ValueError(f"expected images (N, 1, 28, 28), got {tuple(x.shape)}")
    return digit_classifier(str(x.device)).head(_reader_features(x.float())).softmax(1)


def linear_probe(train_features, train_labels, test_features, test_labels, *, classes=10, l2=1e-3,
                 per_feature=True):
    """Accuracy of a multinomial logistic regression: what can be read off features by a linear map.

    features (N, d) float, labels (N,) int64 -> accuracy in [0, 1]. Features are centred and scaled with the training
    set's moments: each by its own deviation, or with per_feature=False all by one, which is fairer to pixels when
    labels are few (one that hardly varies in 20 images would be blown up). The fit is full-batch L-BFGS on a convex
    loss, so it has no seed and no learning rate.
    """
    read = linear_predictions(train_features, train_labels, test_features, classes=classes, l2=l2,
                              per_feature=per_feature)
    return (read == test_labels).float().mean().item()


def linear_predictions(train_features, train_labels, test_features, *, classes=10, l2=1e-3, per_feature=True):
    """The labels (M,) int64 that `linear_probe`'s regression, fitted to the training set, gives to a test set."""
    mean, std = train_features.mean(0), train_features.std(0) + 1e-6
    if not per_feature:
        std = std.square().mean().sqrt()
    x, x_test = (train_features - mean) / std, (test_features - mean) / std
    weight = torch.zeros(x.shape[1], classes, device=x.device, requires_grad=True)
    bias = torch.zeros(classes, device=x.device, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=200, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = F.cross_entropy(x @ weight + bias, train_labels) + l2 * weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    with torch.no_grad():
        return (x_test @ weight + bias).argmax(1)


def parameter_count(model: nn.Module):
    """Number of trainable parameters."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


# --- sample quality -----------------------------------------------------------------------------------------
#
# chapters/measuring.md explains what each of these sees and what it does not.


def _as_images(images, *, size=(1, 28, 28)):
    """ImageSet, uint8 or float images -> float (N, 1, 28, 28) in [0, 1]; ValueError for anything else."""
    x = getattr(images, "images", images)
    if x.ndim != 4 or x.shape[1:] != size:
        raise ValueError(f"expected images (N, {', '.join(map(str, size))}), got {tuple(x.shape)}")
    if x.dtype == torch.uint8:
        return x.float() / 255
    if not torch.isfinite(x).all():
        raise ValueError("the images hold NaN or infinity: the model that drew them has diverged")
    if len(x) and not -1e-4 <= x.min() <= x.max() <= 1 + 1e-4:
        raise ValueError(
            f"images must lie in [0, 1], these span {x.min():.2f} to {x.max():.2f}: map tanh outputs by "
            "(x + 1) / 2, logits by a sigmoid, and clamp what a sampler overshoots"
        )
    return x.float().clamp(0, 1)


def digit_features(x, batch_size=100):
    """What our reader of digits sees just before it decides: the feature space of all distances below.

    x: ImageSet, or images (N, 1, 28, 28), uint8 or float in [0, 1] -> (N, 128) float32, on x's device.
    """
    return _reader_features(_as_images(x), batch_size)


def _paired(real, fake, *, least):
    """Both feature sets as (N, d) float64 on the CPU, after a look for what would give a silent wrong number."""
    for name, f in (("real", real), ("fake", fake)):
        if f.ndim != 2:
            raise ValueError(f"{name} features must be (N, d), not {tuple(f.shape)}; see digit_features")
        if len(f) < least:
            raise ValueError(f"{len(f)} {name} samples are too few: at least {least} are needed here")
        if not torch.isfinite(f).all():
            raise ValueError(f"{name} features hold NaN or infinity: the model that drew them has diverged")
    if real.shape[1] != fake.shape[1]:
        raise ValueError(f"real features have {real.shape[1]} dimensions and fake ones {fake.shape[1]}")
    return real.detach().double().cpu(), fake.detach().double().cpu()


class _Given(nn.Module):
    """Stands where torchmetrics expects a feature network: the features are there already."""

    def __init__(self, num_features):
        super().__init__()
        self.num_features = num_features

    def forward(self, x):
        return x


def frechet_distance(real, fake):
    """Squared Frechet distance between Gaussians with the two sets' means and covariances.

    real (N, d), fake (M, d) features -> float. Falls with N and M even between sets of one source: compare only
    values of equal N and M, and look at the floor.  Heusel et al. 2017, eq. 6; torchmetrics' FID in float64.
    """
    from torchmetrics.image.fid import FrechetInceptionDistance  # seconds to import

    real, fake = _paired(real, fake, least=2)
    metric = FrechetInceptionDistance(_Given(real.shape[1]))
    metric.update(real, real=True)
    metric.update(fake, real=False)
    return max(0.0, metric.compute().item())  # rounding can leave -1e-9 where the sets are the same


def kernel_distance(real, fake, *, subsets=20, subset_size=500, seed=0):
    """Squared maximum mean discrepancy with the kernel (a.b / d + 1)^3: mean and sd over random subsets.

    real (N, d), fake (M, d) features -> (mean, sd). Unbiased: around 0, and below it half of the time, for sets
    of one source. The sd is that of one subset, not the mean's error.  Binkowski et al. 2018, eq. 4; torchmetrics.
    """
    from torchmetrics.image.kid import KernelInceptionDistance

    real, fake = _paired(real, fake, least=4)
    subset_size = min(subset_size, len(real), len(fake))
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):  # the chapter's own draws stay as they are
        warnings.simplefilter("ignore", UserWarning)  # that it keeps the features in memory
        torch.manual_seed(seed)
        metric = KernelInceptionDistance(_Given(real.shape[1]), subsets=subsets, subset_size=subset_size)
        metric.update(real, real=True)
        metric.update(fake, real=False)
        mean, sd = metric.compute()
    return mean.item(), sd.item()


def _radii(x, k):
    """Distance from each point to its k-th nearest other: x (N, d) -> (N,)."""
    return torch.cdist(x, x).topk(k + 1, largest=False).values[:, -1]


def precision_recall(real, fake, k=3):
    """Share of fakes inside the real manifold, and share of reals inside the fakes' manifold.

    real (N, d), fake (M, d) features, N near M -> (precision, recall). A set's manifold: balls around its points
    that reach to the k-th nearest neighbour.  Kynkaanniemi et al. 2019, eqs. 1 and 2.
    """
    real, fake = _paired(real, fake, least=k + 1)
    apart = torch.cdist(real, fake)  # (N, M)
    precision = (apart <= _radii(real, k)[:, None]).any(0)
    recall = (apart <= _radii(fake, k)[None, :]).any(1)
    return precision.double().mean().item(), recall.double().mean().item()


def density_coverage(real, fake, k=5):
    """Real balls that a fake lies in, on average and divided by k; and the share of real balls that hold a fake.

    real (N, d), fake (M, d) features -> (density, coverage). Both use the real balls alone, so that a stray fake
    cannot enlarge anything. For sets of one source density is 1 and coverage 1 - 2^-k on average (N = M).
    Naeem et al. 2020, eqs. 6 and 7.
    """
    real, fake = _paired(real, fake, least=k + 1)
    inside = torch.cdist(real, fake) <= _radii(real, k)[:, None]  # (N, M)
    return inside.sum().item() / (k * len(fake)), inside.any(1).double().mean().item()


def class_coverage(x, *, classes=10, share=0.03):
    """How samples spread over the classes that our reader sees.

    x: images (N, 1, 28, 28) in [0, 1], or class numbers (N,) int64 -> {"shares": list of floats, "classes": how
    many have at least `share` of the samples, "entropy": bits, at most log2(classes)}.
    """
    labels = read_digits(_as_images(x)).argmax(1) if x.ndim == 4 else x
    if not len(labels):
        raise ValueError("no samples to spread over the classes")
    shares = torch.bincount(labels, minlength=classes).double() / len(labels)
    entropy = -torch.xlogy(shares, shares).sum().item() / math.log(2)
    return {"shares": shares.tolist(), "classes": int((shares >= share).sum()), "entropy": max(0.0, entropy)}


def within_class_diversity(fake, fake_labels, real, real_labels):
    """Variety inside the classes: 1 as much as the real set, 0 one prototype for each class.

    fake (M, d), real (N, d) features with labels (M,), (N,) int64 -> mean over the real classes of
    (mean distance over all pairs of fakes in the class) / (the same of reals). A class with fewer than two
    fakes has no variety and counts 0.
    """
    real, fake = _paired(real, fake, least=2)
    ratios = []
    for label in real_labels.unique().tolist():
        ours, theirs = fake[fake_labels.cpu() == label], real[real_labels.cpu() == label]
        if len(theirs) > 1 and (spread := torch.pdist(theirs).mean().item()) > 0:
            ratios.append(torch.pdist(ours).mean().item() / spread if len(ours) > 1 else 0.0)
    if not ratios:
        raise ValueError("no class has two different real samples: nothing to compare variety with")
    return sum(ratios) / len(ratios)


def similarity(x, labels=None, *, pairs=2000, seed=0):
    """How alike two samples are: mean multi-scale structural similarity of random pairs. High means little variety.

    x: ImageSet or images (N, C, H, W), uint8 or float in [0, 1], 14 pixels or more; labels (N,) int64: pairs of one
    class only, and the mean over the classes with two or more samples -> float. Says nothing about quality: noise
    is dissimilar too, so look at the real images' value. As many of the five scales as leave 7 pixels; a negative
    contrast counts 0.  Wang et al. 2003, eq. 7; as a measure of variety Odena et al. 2017, section 4.2; torchmetrics.
    """
    x = getattr(x, "images", x)
    x, labels = _as_images(x, size=tuple(x.shape[1:])).cpu(), None if labels is None else labels.cpu()
    if labels is not None and labels.shape != (len(x),):
        raise ValueError(f"labels must be ({len(x)},), one for each image, not {tuple(labels.shape)}")
    generator = torch.Generator().manual_seed(seed)
    groups = [torch.arange(len(x))] if labels is None else [(labels == c).nonzero()[:, 0] for c in labels.unique()]
    groups = [group for group in groups if len(group) > 1]
    if not groups:
        raise ValueError("no two samples to compare" + ("" if labels is None else " within a class"))
    each, means = math.ceil(pairs / len(groups)), []
    for group in groups:
        first = torch.randint(0, len(group), (each,), generator=generator)
        second = (first + torch.randint(1, len(group), (each,), generator=generator)) % len(group)  # never itself
        means.append(_ms_ssim(x[group[first]], x[group[second]]).mean().item())
    return sum(means) / len(means)


@torch.no_grad()
def _ms_ssim(a, b, batch_size=250):
    """Of each pair: a, b (N, C, H, W) in [0, 1] -> (N,)."""
    from torchmetrics.functional.image import multiscale_structural_similarity_index_measure as ms_ssim

    side = min(a.shape[-2:])
    if side < 14:
        raise ValueError(f"images of {side} pixels leave no two scales: 14 or more are needed")
    weights = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)[:min(5, int(math.log2(side / 7)) + 1)]  # the paper's
    betas = tuple(w / sum(weights) for w in weights)
    return torch.cat([ms_ssim(p, q, reduction="none", data_range=1.0, kernel_size=5, betas=betas)
                      for p, q in zip(a.split(batch_size), b.split(batch_size))])


def mmd2(x, y, bandwidths):
    """Unbiased squared maximum mean discrepancy with a mean of Gaussian kernels; differentiable in x and y.

    x (N, ...), y (M, ...); kernel: the mean over s in `bandwidths` of exp(-|a - b|^2 / (2 s^2)) -> scalar.
    Gretton et al. 2012, eq. 3. Reads nothing back from the device, so a captured step may hold it.
    """
    x, y = x.flatten(1), y.flatten(1)
    n, m = len(x), len(y)
    if x.shape[1] != y.shape[1] or min(n, m) < 2:
        raise ValueError(f"two or more samples of one size on each side, not {tuple(x.shape)} and {tuple(y.shape)}")

    def kernel(a, b):
        squared = (a.square().sum(1)[:, None] + b.square().sum(1)[None, :] - 2 * a @ b.T).clamp(min=0)
        return sum(torch.exp(-squared / (2 * s**2)) for s in bandwidths) / len(bandwidths)

    xx, yy = kernel(x, x), kernel(y, y)
    within = (xx.sum() - xx.diagonal().sum()) / (n * (n - 1)) + (yy.sum() - yy.diagonal().sum()) / (m * (m - 1))
    return within - 2 * kernel(x, y).mean()


def wasserstein_1d(x, y):
    """Exact earth mover's distance between two samples of numbers: the area between their distribution functions.

    x (N,), y (M,) -> scalar tensor, differentiable. For N = M it is the mean gap between the sorted samples.
    """
    if x.ndim != 1 or y.ndim != 1 or not len(x) or not len(y):
        raise ValueError(f"two samples of numbers (N,) and (M,), not {tuple(x.shape)} and {tuple(y.shape)}")
    x, y = x.sort().values, y.sort().values
    merged = torch.cat([x, y]).sort().values
    left = merged[:-1].detach().contiguous()
    below_x = torch.searchsorted(x.detach(), left, right=True).to(x.dtype) / len(x)  # (N + M - 1,)
    below_y = torch.searchsorted(y.detach(), left, right=True).to(x.dtype) / len(y)
    return ((below_x - below_y).abs() * merged.diff()).sum()


class RealReference(NamedTuple):
    """What `sample_report` holds samples against, made by `real_reference`."""

    features: torch.Tensor  # (M, d) of the real images that are compared with
    labels: torch.Tensor    # (M,) as our reader reads them
    n: int                  # samples in a report, and in the floor
    binarised: bool
    floor: dict             # the report of n real images that are not among the M


SPLITS = 10  # draws that the Frechet floor is averaged over: one alone is off by a third, for its class mix


def real_reference(real, *, held_out=None, n=2000, binarised=False, seed=0):
    """What samples are compared with, and the floor: what n real images score in their place -> RealReference.

    real: ImageSet (best the test set: 10,000 or 5,000 images) or images (N, 1, 28, 28) in [0, 1]. The floor's
    images are n of them, set aside, or n of `held_out`: with validation images, which are of the training set's
    writers, it is what a perfect model of the training data would score.
    """
    parts = [part for part in (real, held_out) if part is not None]
    needed, sizes = 2 * n if held_out is None else n, [len(getattr(part, "images", part)) for part in parts]
    if min(sizes) < needed:
        raise ValueError(f"{min(sizes)} real images are too few: a report on {n} samples needs {needed}")
    seen = [(_seen_once if hasattr(part, "images") else _see_real)(part, binarised) for part in parts]
    features, labels = (torch.cat(both) for both in zip(*seen))
    m, generator = sizes[0], torch.Generator().manual_seed(seed)

    def split():
        if held_out is None:
            return torch.randperm(m, generator=generator).split([n, m - n])
        return m + torch.randperm(len(features) - m, generator=generator)[:n], torch.arange(m)

    splits = [split() for _ in range(SPLITS)]
    aside, kept = splits[0]
    floor = _scores(features[aside], labels[aside], features[kept], labels[kept])
    fd = torch.tensor([frechet_distance(features[rest], features[some]) for some, rest in splits])
    floor |= {"fd": fd.mean().item(), "fd_sd": fd.std().item()}
    if hasattr(real, "labels"):
        floor["read_accuracy"] = (labels[:m] == real.labels.cpu()).float().mean().item()
    return RealReference(features[kept], labels[kept], n, binarised, floor)


_reference_of = functools.lru_cache(maxsize=4)(real_reference)  # an ImageSet is known by identity, not by content


def _see(x):
    """Images -> features (N, d) and read labels (N,) on the CPU, in one pass."""
    features = digit_features(x)
    with torch.no_grad():
        labels = digit_classifier(str(x.device)).head(features).argmax(1)
    return features.cpu(), labels.cpu()


def _see_real(part, binarised):
    x = _as_images(part)
    return _see((x > 0.5).float() if binarised else x)


_seen_once = functools.lru_cache(maxsize=4)(_see_real)  # references for several n look at the same ImageSets


def _scores(features, labels, real_features, real_labels):
    """Every measure of one set of samples against real ones; the neighbour counts use as many reals as samples."""
    n = len(features)
    kid, kid_sd = kernel_distance(real_features, features)
    precision, recall = precision_recall(real_features[:n], features)
    density, coverage = density_coverage(real_features[:n], features)
    return {
        "fd": frechet_distance(real_features, features), "kid": kid, "kid_sd": kid_sd,
        "precision": precision, "recall": recall, "density": density, "coverage": coverage,
        **class_coverage(labels),
        "diversity": within_class_diversity(features, labels, real_features, real_labels),
    }


def sample_report(fake, real, labels=None, *, held_out=None, n=2000, binarised=False):
    """All measures of sample quality, each with its floor: what n real images score against the same reals.

    fake: images (N, 1, 28, 28) in [0, 1], N >= n (of more, n are drawn); real: the test ImageSet (looked at once),
    images, or a RealReference, which brings the other settings with it; labels (N,): the classes asked for, if
    any; held_out: see real_reference. With binarised=True the real images are cut at 0.5 and the fakes must hold
    0 and 1 only: cut or sample them first, and say which.
    Returns {"n", "reference_n", "binarised", "fd", "fd_ratio" (to the floor), "kid", "kid_sd", "precision",
    "recall", "density", "coverage", "shares", "classes", "entropy", "diversity", "read_accuracy" (with labels),
    "floor": {the same measures, and "fd_sd"}}.
    """
    if not isinstance(real, RealReference):
        build = _reference_of if hasattr(real, "images") else real_reference
        real = build(real, held_out=held_out, n=n, binarised=binarised)
    n, x = real.n, _as_images(fake)
    if len(x) < n:
        raise ValueError(f"{len(x)} samples are too few: draw {n}, for the distances depend on their number")
    if labels is not None and labels.shape != (len(x),):
        raise ValueError(f"labels must be ({len(x)},), one for each sample, not {tuple(labels.shape)}")
    if real.binarised and not ((x == 0) | (x == 1)).all():
        raise ValueError("binarised=True needs samples of 0 and 1: x > 0.5, or torch.bernoulli(x), as float")
    if len(x) > n:  # at random: samples often come sorted by class
        some = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))[:n]
        x, labels = x[some.to(x.device)], None if labels is None else labels.cpu()[some]
    features, seen = _see(x)
    report = {"n": n, "reference_n": len(real.features), "binarised": real.binarised, "floor": real.floor,
              **_scores(features, seen, real.features, real.labels)}
    report["fd_ratio"] = report["fd"] / real.floor["fd"]
    if labels is not None:
        report["read_accuracy"] = (seen == labels.cpu()).float().mean().item()
    return report


def report_table(reports):
    """{name: report} -> a markdown table, best shown by IPython's Markdown: a row for each measure, floors first.

    One column for each report and one for each floor among them (grey and binarised data have their own).
    """
    floors = {id(r["floor"]): ("real, " + ("binarised" if r["binarised"] else "grey"), r["floor"] | {"fd_ratio": 1.0})
              for r in reports.values()}
    columns = [*floors.values(), *reports.items()]
    measures = [_cells(scores) for _, scores in columns]
    rows = [["measure", *(name for name, _ in columns)], ["---"] + ["---:"] * len(columns)]
    rows += [[measure, *(cells.get(measure, "") for cells in measures)] for measure in measures[0]]
    sizes = sorted({(r["n"], r["reference_n"]) for r in reports.values()})
    note = " ".join(f"{n:,} samples against {m:,} real images; \"real\" is the floor." for n, m in sizes)
    return "\n".join("| " + " | ".join(row) + " |" for row in rows) + f"\n\n{note}"


def _cells(scores):
    """{measure: its value in words} of one column of the table."""
    fd_sd = f" ± {scores['fd_sd']:.1f}" if "fd_sd" in scores else ""
    cells = {"Fréchet distance": f"{scores['fd']:.1f}{fd_sd}", "times the floor": f"{scores['fd_ratio']:.1f}",
             "kernel distance": f"{scores['kid']:.1f} ± {scores['kid_sd']:.1f}"}
    cells |= {key: f"{scores[key]:.2f}" for key in ("precision", "recall", "density", "coverage")}
    cells |= {"classes": str(scores["classes"]), "entropy, bits": f"{scores['entropy']:.2f}",
              "diversity in class": f"{scores['diversity']:.2f}"}
    read = f"{100 * scores['read_accuracy']:.1f} %" if "read_accuracy" in scores else ""
    return cells | {"read as asked": read}


# --- expectations, and what is recorded of a model -----------------------------------------------------------


def timed_samples(draw):
    """Call draw() -> images (N, ...), and say how long one took: (images, seconds per image), the device waited for."""
    begin = runtime.clock()
    x = draw()
    if x.device.type == "cuda":
        torch.cuda.synchronize(x.device)
    return x, (runtime.clock() - begin) / len(x)


MEASURES = ("fd", "kid", "kid_sd", "precision", "recall", "density", "coverage", "diversity", "detail", "classes",
            "read_accuracy", "neighbour")
STRIP = 12  # samples of a model that are kept as a picture


def _figures(report):
    """{"fd", "kid", ...: numbers, "floor": {the same}} of a sample_report, of audit.quality's, or of a plain dict.

    A plain dict names its floors "fd_floor", "kid_floor", ...
    """
    short = {"frechet": "fd", "kernel": "kid"}
    if "synthetic" in report:  # audit.quality
        ours, floor = ({short.get(k, k): v for k, v in report[part].items()} for part in ("synthetic", "floor"))
    else:
        ours, floor = report, report.get("floor") or {k.removesuffix("_floor"): v for k, v in report.items()
                                                      if k.endswith("_floor")}
    if missing := [k for k in ("fd", "kid", "recall", "coverage") if k not in ours]:
        raise ValueError(f"the report lacks {', '.join(missing)}: it holds {', '.join(ours)}")
    if missing := [k for k in ("fd", "kid") if k not in floor]:
        raise ValueError(f"the report lacks the floor of {', '.join(missing)}: a distance means nothing without it")
    kept = {k: float(ours[k]) for k in MEASURES if k in ours}
    return kept | {"fd_ratio": kept["fd"] / float(floor["fd"]),
                   "floor": {k: float(floor[k]) for k in (*MEASURES, "fd_sd") if k in floor}}


class ExpectationFailed(AssertionError):
    """A chapter did not reach a figure that it promises."""


class Expectations:
    """What a chapter promises to reach, checked where the reader sees it and recorded for the scoreboard.

    >>> expect = Expectations("02_vae", source=train.source)
    >>> expect("test -ELBO, nats per image", 101.2, below={"mnist": 102, "strokes": 90})

    `below` and `above` are a number, or one for each data source; None for a source promises nothing there. The
    printed line names all bars and not the value, so it is the same in every run that passes. With
    GENMED_BUDGET below 1 nothing is promised: values are recorded and not judged. A value that only one source
    allows to be measured is None for the others, whose bar must be None too, and is not recorded there.
    """

    def __init__(self, chapter, *, source):
        self.chapter, self.source, self.records, self.models = chapter, source, [], {}

    def __call__(self, name, value, *, below=None, above=None):
        if below is None and above is None:
            raise ValueError(f"{name}: give a bar with below= or above=")
        bars = [(word, self._bar(bar)) for word, bar in (("below", below), ("above", above))]
        judged = runtime.budget_factor() >= 1
        met = self._judge(name, value, bars)
        given = [(word, bar) for word, bar in (("below", below), ("above", above)) if bar is not None]
        promise = " and ".join(_promise(word, bar) for word, bar in given)
        if judged and not met:
            raise ExpectationFailed(f"{name} is {float(value):.4g} on {self.source}; promised: {promise}")
        print(f"{name}: {promise}: {'yes' if judged else 'not judged, GENMED_BUDGET is below 1'}")

    def _judge(self, name, value, bars):
        """Record the value; True where it meets this source's bars, or was not to be measured here."""
        if value is None:
            if any(bar is not None for _, bar in bars):
                raise ValueError(f"{name}: a value is needed on {self.source}, which has a bar")
            return True
        value = float(value)
        met = all(bar is None or (value < bar if word == "below" else value > bar) for word, bar in bars)
        met = met and math.isfinite(value)
        self.records.append({"name": name, "value": value, "below": bars[0][1], "above": bars[1][1], "met": met})
        self._write()
        return met

    def _bar(self, bar):
        if not isinstance(bar, dict):
            return bar
        if self.source not in bar:
            raise ValueError(f"no bar for the data source {self.source!r} among {sorted(bar)}")
        return bar[self.source]

    def model(self, name, *, report, samples, real, train_seconds, sample_seconds, parameters, labels=None, note=""):
        """Record a model for the scoreboard: quality, variety and cost.

        report: what `sample_report` or `audit.quality` said of the samples, or a dict with "fd", "fd_floor", "kid",
        "kid_floor", "recall", "coverage" and more of MEASURES; samples (N, C, H, W) in [0, 1] and real: images or
        ImageSet, whose similarity is the floor; labels (N,): the classes asked for (digits without
        are taken as our reader reads them); train_seconds: all training that the samples need; sample_seconds per
        image; parameters: the network (nn.Module) that draws, or how many numbers it has learned; what only training
        needs, such as an encoder or a critic, is not counted. The printed line holds no value, and a model recorded
        again replaces itself. Raises ValueError for a report without floors.
        """
        figures = _figures(report)
        digits, x = samples.shape[1:] == (1, 28, 28), getattr(real, "images", real)
        real_labels = getattr(real, "labels", None)
        if report.get("binarised"):
            x = (_as_images(x) > 0.5).float()
        if digits:
            labels = read_digits(_as_images(samples)).argmax(1) if labels is None else labels
            real_labels = read_digits(_as_images(x)).argmax(1) if real_labels is None else real_labels
        figures |= {"similarity": similarity(samples)}
        figures["floor"] |= {"similarity": similarity(x)}
        if labels is not None and real_labels is not None:
            figures |= {"similarity_in_class": similarity(samples, labels)}
            figures["floor"] |= {"similarity_in_class": similarity(x, real_labels)}
        if isinstance(parameters, nn.Module):
            parameters = sum(p.numel() for p in parameters.parameters())  # frozen ones too
        costs = {"train_seconds": train_seconds, "sample_seconds": sample_seconds, "parameters": parameters}
        if bad := [k for k, v in costs.items() if not (math.isfinite(v) and v > 0)]:
            raise ValueError(f"{name}: {', '.join(bad)} must be positive numbers")
        self.models[name] = {"name": name, "n": len(samples), "note": note, "binarised": bool(report.get("binarised")),
                             **figures, **{k: float(v) for k, v in costs.items()}}
        self._write()
        self._write_samples(name, samples)
        if self.source != "database":  # films of patients stay where they are
            self._write_strip("real", x)
        print(f"{name}: recorded for the scoreboard")

    def _write(self):
        path = runtime.runs_dir() / "results" / f"{self.chapter}.json"
        entry = {"chapter": self.chapter, "source": self.source, "budget": runtime.budget_factor(),
                 "machine": runtime.machine(), "seed": os.environ.get("GENMED_SEED"), "records": self.records,
                 "models": list(self.models.values())}
        try:
            with runtime.whole_file(path) as part:
                part.write_text(json.dumps(entry, indent=1))
        except OSError as err:
            print(f"note: {path.name} not recorded ({err.strerror}); set GENMED_RUNS to a folder that can be written.")

    def _write_samples(self, title, images):
        """All samples, runs/results/<chapter>/<title>.npy (N, H, W) uint8: for instruments other than ours."""
        folder = self._write_strip(title, images)
        with contextlib.suppress(OSError), runtime.whole_file(folder / f"{title}.npy") as part:
            np.save(part, _grey_levels(images[:, 0]).numpy())

    def _write_strip(self, title, images):
        """Images side by side, runs/results/<chapter>/<title>.png: what the scoreboard shows of a model.

        Evenly spaced through all of them, which may stand in the order of their classes.
        """
        folder, images = runtime.runs_dir() / "results" / self.chapter, getattr(images, "images", images)
        grey = _grey_levels(images[torch.linspace(0, len(images) - 1, min(STRIP, len(images))).long(), 0])
        with contextlib.suppress(OSError), runtime.whole_file(folder / f"{title}.png") as part:
            Image.fromarray(torch.cat(list(grey), 1).numpy()).save(part)  # _write has said where nothing can be written
        return folder


def _grey_levels(x):
    """x uint8, or float in [0, 1] -> the same as uint8 on the CPU."""
    return x.cpu() if x.dtype == torch.uint8 else (255 * x.cpu().clamp(0, 1)).round().to(torch.uint8)


def _promise(word, bar):
    if isinstance(bar, dict):
        return ", ".join(f"{word} {b:g} ({source})" for source, b in bar.items() if b is not None)
    return f"{word} {bar:g}"
