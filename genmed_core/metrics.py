"""What a model is worth, as numbers: likelihood bounds, probes, digit reading, and chapters' expectations.

Functions return plain floats or tensors and never plot. Likelihoods are in nats per image unless a name says
bits.
"""

import functools
import json
import math
import os

import torch
from torch import nn
from torch.nn import functional as F

from genmed_core import runtime
from genmed_core.kernels import bernoulli_nll  # the training loss and the metric are one function


class WeightsError(RuntimeError):
    """Shipped weights are missing or damaged."""


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


def load_weights(model, name):
    """Load `data/weights/<name>.safetensors` (stored as float16) into `model`, and return it in eval mode.

    Raises WeightsError naming the file and the remedy.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = weights_dir() / f"{name}.safetensors"
    try:
        state = load_file(path)
        model.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in state.items()})
    except FileNotFoundError as err:
        raise WeightsError(f"{path} is missing: restore it with `git checkout data/weights`.") from err
    except (SafetensorError, RuntimeError) as err:
        raise WeightsError(
            f"{path} is damaged or made for another model ({str(err).splitlines()[0]}): restore it with "
            "`git checkout data/weights`."
        ) from err
    return model.eval()


@functools.cache
def digit_classifier(device="cpu"):
    """Our own reader of digits (data/weights/README.md says how it was trained and how well it reads)."""
    from genmed_core.nets import DigitClassifier

    return load_weights(DigitClassifier(), "digit_classifier").to(device)


@torch.no_grad()
def read_digits(x, batch_size=1000):
    """Class probabilities that our classifier gives to images: x (N, 1, 28, 28) in [0, 1] -> (N, 10)."""
    if x.ndim != 4 or x.shape[1:] != (1, 28, 28):
        raise ValueError(f"expected images (N, 1, 28, 28), got {tuple(x.shape)}")
    reader = digit_classifier(str(x.device))
    return torch.cat([reader(part.float()).softmax(1) for part in x.split(batch_size)])


def linear_probe(train_features, train_labels, test_features, test_labels, *, classes=10, l2=1e-3,
                 per_feature=True):
    """Accuracy of a multinomial logistic regression: what can be read off features by a linear map.

    features (N, d) float, labels (N,) int64 -> accuracy in [0, 1]. Features are centred and scaled with the training
    set's moments: each by its own deviation, or with per_feature=False all by one, which is fairer to pixels when
    labels are few (one that hardly varies in 20 images would be blown up). The fit is full-batch L-BFGS on a convex
    loss, so it has no seed and no learning rate.
    """
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
        return ((x_test @ weight + bias).argmax(1) == test_labels).float().mean().item()


def parameter_count(model: nn.Module):
    """Number of trainable parameters."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


# --- expectations -------------------------------------------------------------------------------------------


class ExpectationFailed(AssertionError):
    """A chapter did not reach a figure that it promises."""


class Expectations:
    """What a chapter promises to reach, checked where the reader sees it and recorded for the scoreboard.

    >>> expect = Expectations("02_vae", source=train.source)
    >>> expect("test -ELBO, nats per image", 101.2, below={"mnist": 102, "strokes": 90})

    `below` and `above` are a number, or one for each data source; None for a source promises nothing there. The
    printed line names all bars and not the value, so it is the same in every run that passes. With
    GENMED_BUDGET below 1 nothing is promised: values are recorded and not judged.
    """

    def __init__(self, chapter, *, source):
        self.chapter, self.source, self.records = chapter, source, []

    def __call__(self, name, value, *, below=None, above=None):
        if below is None and above is None:
            raise ValueError(f"{name}: give a bar with below= or above=")
        value = float(value)
        bars = [(word, self._bar(bar)) for word, bar in (("below", below), ("above", above))]
        judged = runtime.budget_factor() >= 1
        met = all(bar is None or (value < bar if word == "below" else value > bar) for word, bar in bars)
        met = met and math.isfinite(value)
        self._record({"name": name, "value": value, "below": bars[0][1], "above": bars[1][1], "met": met})
        given = [(word, bar) for word, bar in (("below", below), ("above", above)) if bar is not None]
        promise = " and ".join(_promise(word, bar) for word, bar in given)
        if judged and not met:
            raise ExpectationFailed(f"{name} is {value:.4g} on {self.source}; promised: {promise}")
        print(f"{name}: {promise}: {'yes' if judged else 'not judged, GENMED_BUDGET is below 1'}")

    def _bar(self, bar):
        if not isinstance(bar, dict):
            return bar
        if self.source not in bar:
            raise ValueError(f"no bar for the data source {self.source!r} among {sorted(bar)}")
        return bar[self.source]

    def _record(self, record):
        self.records.append(record)
        path = runtime.runs_dir() / "results" / f"{self.chapter}.json"
        entry = {"chapter": self.chapter, "source": self.source, "budget": runtime.budget_factor(),
                 "machine": runtime.machine(), "seed": os.environ.get("GENMED_SEED"), "records": self.records}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(entry, indent=1))
        except OSError as err:
            print(f"note: {path.name} not recorded ({err.strerror}); set GENMED_RUNS to a folder that can be written.")


def _promise(word, bar):
    if isinstance(bar, dict):
        return ", ".join(f"{word} {b:g} ({source})" for source, b in bar.items() if b is not None)
    return f"{word} {bar:g}"
