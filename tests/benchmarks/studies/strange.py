"""Judging: which score tells strange images from digits? Chapter 2's convolutional VAE and simpler judges.

    make study STUDY=strange                  writes chapters/figures/strange.json; about 3 minutes of one core
    make study STUDY=strange ARGS="--table"   prints its table again

The network is trained on digits as in chapter 2. Ordinary images are test digits; strange ones are made of others or
drawn. Each score is larger for what it finds stranger; the area under its curve (AUC) is the probability that it puts a
random strange image above a random digit. No score has a setting that was chosen on these images:

bound           minus log p(x), importance-weighted, and typicality: its distance from the mean over training digits
ratio           the bound less the likelihood of independent pixels (Ren 2019) or the length by zlib (Serra 2020)
reconstruction  minus log p(x|z) at the code's mean
reader, doubt   distance to the nearest of 5,000 training digits in the reader's features; 1 - its highest probability
neighbour, ink  the same distance in pixels; difference of the share of ink from the mean: what might fool or suffice
"""

import math
import zlib

from genmed_core import metrics  # first: it sets how threads wait

import torch  # isort: skip
import matplotlib
import numpy as np
import prior
from chapter_cells import definitions, markdown, mean_sd, progress, run_seeds
from PIL import Image, ImageDraw, ImageFont
from scipy import stats

N = 500  # images of each kind
DRAWS = 20  # of the importance-weighted bound
SHOWN = ("bound", "typicality", "ratio, zlib", "reconstruction", "reader", "ink")  # in the table; all are stored
LETTERS = "ACEFHKMNPRTUVWXY"  # capitals that are no digit
FONTS = ("Sans", "Sans-Bold", "Sans-Oblique", "Serif", "Serif-Italic", "SansMono")


def letters(n, generator):
    """Capital letters in six type faces, turned, scaled and centred by their ink -> (n, 1, 28, 28) of 0 and 1."""
    numbers = np.random.default_rng(generator.initial_seed())
    folder = matplotlib.get_data_path() + "/fonts/ttf/DejaVu"
    pages = []
    for _ in range(n):
        face, letter = numbers.choice(FONTS), numbers.choice(list(LETTERS))
        page = Image.new("L", (84, 84))
        font = ImageFont.truetype(f"{folder}{face}.ttf", int(numbers.integers(50, 66)))
        ImageDraw.Draw(page).text((42, 42), letter, fill=255, font=font, anchor="mm")
        page = np.asarray(page.rotate(numbers.uniform(-15, 15)).resize((28, 28), Image.Resampling.BOX)) > 128
        rows, columns = page.nonzero()
        pages.append(np.roll(page, (round(14 - rows.mean()), round(14 - columns.mean())), (0, 1)))
    return torch.from_numpy(np.stack(pages)[:, None]).float()


def strange(x, y, generator):
    """{kind: images of 0 and 1} made of N digits x, none of which are among the ordinary ones."""
    lying = torch.rot90(x[(y != 0) & (y != 1) & (y != 8)], 1, (2, 3))  # these look much the same, turned
    half = x.clone()
    half[:, :, 14:] = 0
    place = torch.rand(len(x), 784, generator=generator).argsort(1)
    dots = torch.zeros_like(x)
    for page, (i, j) in zip(dots, torch.randint(6, 20, (len(x), 2), generator=generator).tolist()):
        page[0, i : i + 3, j : j + 3] = 1
    return {"blank page": torch.zeros_like(x[:1]), "one dot": dots, "upper half alone": half, "digits lying": lying,
            "two digits in one": torch.maximum(x, x.roll(1, 0)), "capital letters": letters(len(x), generator),
            "black for white": 1 - x, "pixels shuffled": x.flatten(1).gather(1, place).view_as(x),
            "snow": (torch.rand(x.shape, generator=generator) < 0.5).float()}


def scores_of(conv, x_train):
    """-> function of images (n, 1, 28, 28) that gives every score (n,) by name."""
    some = x_train[:5000]
    features, frequency = metrics.digit_features(some), x_train.mean(0).clamp(1e-3, 1 - 1e-3)
    page = torch.logit(frequency)[None]

    def bound(x):
        return torch.cat([metrics.iwae_bound(part, conv.encode, conv.decode, samples=DRAWS, chunk=DRAWS)
                          for part in x.split(100)])

    usual = bound(some[:500]).mean()
    ink = some.mean((1, 2, 3)).mean()

    @torch.no_grad()
    def scores(x):
        log_p = bound(x)
        alone = -metrics.bernoulli_nll(page.expand_as(x), x)  # each pixel by its own frequency
        packed = np.packbits(x.flatten(1).byte().numpy(), axis=1)
        length = torch.tensor([8 * math.log(2) * len(zlib.compress(row.tobytes(), 9)) for row in packed])  # nats
        code = conv.encode(x)[0]
        seen = metrics.digit_features(x)
        nearest = torch.cdist(x.flatten(1), some.flatten(1)).amin(1)
        return {"bound": -log_p, "typicality": (log_p - usual).abs(), "ratio, pixels": alone - log_p,
                "ratio, zlib": -log_p - length, "reconstruction": metrics.bernoulli_nll(conv.decode(code), x),
                "reader": torch.cdist(seen, features).amin(1), "doubt": 1 - metrics.DigitReader().read(seen).amax(1),
                "neighbour": nearest, "ink": (x.mean((1, 2, 3)) - ink).abs()}

    return scores


def auc(strange_scores, ordinary):
    """P(strange > ordinary) + P(equal) / 2, from the ranks."""
    u = stats.mannwhitneyu(strange_scores.double().numpy(), ordinary.double().numpy()).statistic
    return float(u / (len(strange_scores) * len(ordinary)))


def one_seed(seed):
    """{score: {kind: AUC}}, and the bound's mean for each kind."""
    c = definitions("02_vae", prior.CHAPTER_2, seed=seed)
    conv = prior.conv_model(c, seed)
    x, y = c["test_x"], c["test_set"].labels
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    ordinary, others = order[:N], order[N : 2 * N]
    torch.manual_seed(seed)
    scores = scores_of(conv, c["train_x"])
    usual = scores(x[ordinary])
    found = {name: {} for name in usual}
    bounds = {"digits": -usual["bound"].mean().item()}
    for kind, images in strange(x[others], y[others], torch.Generator().manual_seed(seed)).items():
        theirs = scores(images)
        bounds[kind] = -theirs["bound"].mean().item()
        for name in found:
            found[name][kind] = auc(theirs[name], usual[name])
        progress(f"seed {seed}: {kind}")
    return {"auc": found, "log p": bounds, "source": c["test_set"].source}


def together(runs):
    """Means and deviations over seeds."""
    auc_of = {name: {kind: mean_sd([run["auc"][name][kind] for run in runs]) for kind in kinds}
              for name, kinds in runs[0]["auc"].items()}
    bounds = {kind: mean_sd([run["log p"][kind] for run in runs]) for kind in runs[0]["log p"]}
    return {"auc": auc_of, "log p": bounds}


def table(found):
    """A row for each kind of strange image, a column for each score in SHOWN: AUC; log p(x) in nats comes first."""
    scores = {name: found["auc"][name] for name in SHOWN}
    lines = []
    for kind, bound in found["log p"].items():
        cells = [f"{scores[name][kind]['mean']:.2f}" if kind in scores[name] else "" for name in scores]
        lines.append([kind, f"{bound['mean']:.0f}", *cells])
    worst = max(v["sd"] for kinds in found["auc"].values() for v in kinds.values())
    return markdown(["images", "nats", *scores], lines) + f"\n\nLargest sd over seeds: {worst:.3f}"


if __name__ == "__main__":
    run_seeds(__doc__, "strange", one_seed, together, table, images=N, draws=DRAWS)
