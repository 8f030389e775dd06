"""How good are the X-ray phantoms? Their speed, their likeness to real films, how far their classes differ.

    GENMED_DATA=... python tests/benchmarks/phantom.py [--sheet FILE]    measure, then write the page
    python tests/benchmarks/phantom.py --page                            write the page from the figures kept

Measures the seconds for 4,000 phantoms at 64x64; against the COVID-19 Radiography Database under GENMED_DATA, the
classes mixed as they are there, what LIKENESS lists, each beside what real films score against other real films;
how often a small network tells phantoms from films; how often another reads the class of phantoms that it did not
see; and how often the class can be read from the rim of the picture alone. Keeps all that in phantom.json and writes
the tables (between `<!-- bench: NAME -->` and `<!-- end -->`) and figures of chapters/xrays.md. --sheet puts 40
phantoms beside 40 real films; that picture must stay out of the repository. About five minutes on one core.
"""

import argparse
import json
import math
import os
import re
import time
from pathlib import Path

from genmed_core import runtime  # isort: skip  (before torch: it sets how threads wait)

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

from genmed_core import audit, metrics, plots
from genmed_core.kernels import Batches, TrainStep, linear_decay
from genmed_core.radiographs import find_database, read_database
from genmed_core.synthetic.phantom import CLASSES, COVID, FACTORS, NORMAL, OPACITY, cxr_phantom, draw
from genmed_core.train import fit

SIZE, TRAIN, TEST = 64, 3_000, 1_000
BANDS = (2, 8), (8, 28)  # cycles per side: coarse and fine
RIM = 5  # pixels
KEPT = Path(__file__).with_suffix(".json")
PAGE = runtime.root() / "chapters" / "xrays.md"
FIGURES = PAGE.with_name("figures")

# --- measures -------------------------------------------------------------------------------------------


def real_films(size):
    """Real films (N, 1, size, size) uint8 and labels (N,) as CLASSES has them; None where GENMED_DATA has none."""
    place = os.environ.get("GENMED_DATA") and find_database(Path(os.environ["GENMED_DATA"]))
    if not place:
        return None
    films = read_database(place, size)
    ours = torch.tensor([COVID, OPACITY, NORMAL, 3])  # the database's numbers are alphabetical
    return films.images, ours[films.labels]


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


def blurred(images):
    """The same softened by a Gaussian of one pixel."""
    kernel = torch.exp(-(torch.arange(-3.0, 4) ** 2) / 2)
    kernel = kernel / kernel.sum()
    x = F.pad(images.float(), (3, 3, 3, 3), mode="reflect")
    x = F.conv2d(F.conv2d(x, kernel.view(1, 1, 1, 7)), kernel.view(1, 1, 7, 1))
    return x.round().to(torch.uint8)


def likeness(films, fakes):
    """How far films, films softened, and phantoms are from other films -> {name: measures}.

    films (2N, ...) in random order: the first half is what all are compared with.
    """
    half = len(films) // 2
    reference, others = films[:half], films[half : 2 * half]
    sets = {"other real films": others, "other real films, softened": blurred(others), "phantoms": fakes[:half]}
    project = audit.leading_directions(audit.random_features(reference))
    seen = {name: project(audit.random_features(x)) for name, x in ({"reference": reference} | sets).items()}
    out = {}
    for name, x in sets.items():
        found = audit.quality(seen["other real films"], seen["reference"], seen[name], (others, reference, x),
                              np.random.default_rng(0))["synthetic"]
        greys = 0.5 * (histogram(reference) - histogram(x)).abs().sum().item()
        coarse, fine = slopes(x)
        out[name] = {"fd": found["fd"], "coverage": found["coverage"], "greys": greys, "coarse": coarse,
                     "fine": fine, "detail": found["detail"], "mean": x.float().mean().item()}
    return {"n": half} | out


def small_network(classes, width=24):
    """Four convolutions and a mean over the picture: what a student would write first."""
    layers, channels = [], 1
    for k in range(4):
        layers += [nn.Conv2d(channels, width * 2 ** min(k, 2), 3, padding=1, stride=2 if k == 0 else 1),
                   nn.BatchNorm2d(width * 2 ** min(k, 2)), nn.ReLU()]
        layers += [nn.MaxPool2d(2)] if k < 3 else []
        channels = width * 2 ** min(k, 2)
    return nn.Sequential(*layers, nn.Flatten(), nn.Dropout(0.3), nn.Linear(channels * 16, classes))


def read_classes(images, labels, *, train, steps, classes, seed=0):
    """Train on the first `train` images, read the others -> the confusion matrix in shares of each row."""
    runtime.seed_everything(seed)
    device = runtime.device()
    net = small_network(classes).to(device)

    def loss_fn(batch):
        with runtime.autocast(device):
            logits = net(batch.x - 0.5)
        loss = F.cross_entropy(logits.float(), batch.y, label_smoothing=0.05)
        return loss, {"loss": loss.detach()}

    step = TrainStep(
        loss_fn, torch.optim.AdamW(net.parameters(), lr=2e-3, weight_decay=0.05),
        batches=Batches(images[:train], labels[:train], batch_size=64, seed=seed),
        model=net, schedule=linear_decay(warmup=0.1),
    )
    fit(step, steps, title="reader")
    net.eval()
    with torch.no_grad():
        logits = torch.cat([net(x.to(device) / 255 - 0.5).cpu() for x in images[train:].split(250)])
    return confusion(labels[train:], logits.argmax(1), classes)


def confusion(labels, read, classes):
    matrix = (labels * classes + read).bincount(minlength=classes**2).view(classes, classes).double()
    return matrix / matrix.sum(1, keepdim=True)


def from_the_rim(images, labels):
    """Balanced accuracy of a linear reader that sees RIM pixels at the edge alone, where hardly any lung is."""
    rim = torch.ones(SIZE, SIZE, dtype=torch.bool)
    rim[RIM:-RIM, RIM:-RIM] = False
    x, names = images[:, 0][:, rim].float() / 255, labels.unique()
    y, half = torch.searchsorted(names, labels), len(x) // 2
    read = metrics.linear_predictions(x[:half], y[:half], x[half:], classes=len(names), l2=1e-2)
    own = confusion(y[half:], read, len(names)).diagonal()
    return {"share": own.mean().item(), "chance": 1 / len(names), "n": len(x) - half,
            "each": {CLASSES[c]: share for c, share in zip(names.tolist(), own.tolist(), strict=True)}}


def measure(steps):
    """All figures of the page."""
    started = time.perf_counter()
    images, labels, _ = cxr_phantom(TRAIN + TEST, size=SIZE, seed=0)
    found = {"machine": runtime.machine(), "seconds": time.perf_counter() - started, "drawn": fingerprint()}
    print(f"{len(images):,} phantoms at {SIZE}x{SIZE}: {found['seconds']:.0f} s", flush=True)
    found["classes"] = read_classes(images, labels, train=TRAIN, steps=steps, classes=len(CLASSES)).tolist()
    found["rim"] = {"phantoms": from_the_rim(images, labels)}
    real = real_films(SIZE)
    if real is None:
        raise SystemExit("GENMED_DATA names no COVID-19_Radiography_Dataset: nothing to compare the phantoms with")
    order = torch.randperm(len(real[0]), generator=torch.Generator().manual_seed(0))
    films, kinds = real[0][order], real[1][order]
    found["rim"]["real films"] = from_the_rim(films, kinds)
    shares = kinds.bincount(minlength=4) / len(kinds)
    rows = torch.cat([torch.nonzero(labels == c)[: int(len(films) * share), 0] for c, share in enumerate(shares)])
    fakes = images[rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(1))]]
    found["films"] = {CLASSES[c]: int((kinds == c).sum()) for c in range(4)}
    found["likeness"] = likeness(films, fakes)
    both = torch.stack([films[: len(fakes)], fakes], 1).flatten(0, 1)  # real and simulated in turn
    apart = read_classes(both, torch.arange(len(both)) % 2, train=len(both) // 2, steps=steps // 2, classes=2)
    found["apart"] = {"share": apart.diagonal().mean().item(), "n": len(both) - len(both) // 2}
    return found


def fingerprint():
    """Mean greys of a few phantoms: what is kept and shown belongs to the phantoms as they are drawn now."""
    return cxr_phantom(8, size=SIZE, seed=0)[0].float().mean((1, 2, 3)).tolist()


def sheet(path):
    """40 phantoms, four rows of ten, above 40 real films."""
    films = real_films(128)[0]
    fake = cxr_phantom(40, size=128, seed=5)[0][:, 0]
    real = films[torch.randperm(len(films), generator=torch.Generator().manual_seed(1))[:40], 0]
    both = torch.cat([x.view(4, 10, 128, 128).permute(0, 2, 1, 3).reshape(512, 1280) for x in (fake, real)])
    Image.fromarray(both.numpy()).save(path)


# --- the page -------------------------------------------------------------------------------------------


def rows(head, lines):
    """A Markdown table, its first column to the left."""
    rule = "| --- |" + " ---: |" * (len(head) - 1)
    return "\n".join(["| " + " | ".join(head) + " |", rule, *("| " + " | ".join(line) + " |" for line in lines)])


def block_speed(found):
    per = 1000 * found["seconds"] / (TRAIN + TEST)
    return f"{TRAIN + TEST:,} phantoms at 64×64 took {found['seconds']:.0f} s, {per:.0f} ms each ({found['machine']})."


def block_likeness(found):
    names = ["other real films", "other real films, softened", "phantoms"]
    lines = [[name, f"{m['fd']:.1f}", f"{m['coverage']:.2f}", f"{m['greys']:.2f}", f"{m['mean']:.0f}",
              f"{m['coarse']:.1f}", f"{m['fine']:.1f}", f"{m['detail']:.2f}"]
             for name, m in ((name, found["likeness"][name]) for name in names)]
    head = ["", "Fréchet", "coverage", "greys", "mean grey", "slope, coarse", "slope, fine", "fine detail"]
    return rows(head, lines).replace("| -", "| −").replace("| −--", "| ---")


def block_classes(found):
    lines = [[name, *(f"{100 * share:.0f}" for share in row)]
             for name, row in zip(CLASSES, found["classes"], strict=True)]
    own = [row[k] for k, row in enumerate(found["classes"])]
    return (rows(["in %, read as", *CLASSES], lines)
            + f"\n\nOn average {100 * sum(own) / 4:.0f} % are read as what they are, in the worst class "
              f"{100 * min(own):.0f} %; guessing gives 25 %.")


def block_apart(found):
    a = found["apart"]
    return (f"A small network of four convolutions, trained to tell phantoms from real films, is right for "
            f"**{100 * a['share']:.1f} %** of {a['n']:,} pictures that it has not seen; guessing gives 50 %.")


def block_rim(found):
    real, fake = found["rim"]["real films"], found["rim"]["phantoms"]
    each = ", ".join(f"{name} {100 * share:.0f} %" for name, share in real["each"].items())
    return (f"Of the real films a linear reader that sees only this rim names {100 * real['share']:.0f} % rightly, "
            f"averaged over {round(1 / real['chance'])} classes ({each}), where guessing gives "
            f"{100 * real['chance']:.0f} %. Of the phantoms it names {100 * fake['share']:.0f} %, where guessing gives "
            f"{100 * fake['chance']:.0f} %.")


BLOCKS = {name.removeprefix("block_"): make for name, make in list(globals().items()) if name.startswith("block_")}


def filled(text, found):
    """The page's text with every block written anew."""
    def write(match):
        return f"<!-- bench: {match[1]} -->\n{BLOCKS[match[1]](found)}\n<!-- end -->"

    return re.sub(r"<!-- bench: (\w+) -->\n.*?<!-- end -->", write, text, flags=re.S)


# --- the figures ----------------------------------------------------------------------------------------

MARK = "simulated, not for diagnosis"
STEPS = 4  # pictures of each factor
CRISP = {"scatter": 0.5, "detail": 1.0, "gamma": 0.7}
DISEASE = {"severity": COVID, "extent": COVID, "side": OPACITY, "level": OPACITY, "depth": OPACITY,
           "effusion": OPACITY}


def typical(n):
    """The factors of one patient n times: each at the middle of its law, but a crisp film with nothing extra on it."""
    factors = cxr_phantom(1, size=16, seed=1)[2]
    middle = {"uniform": lambda a, b: (a + b) / 2, "normal": lambda a, b: a, "some": lambda a, b: 0.0,
              "lognormal": lambda a, b: math.exp(a)}
    factors |= {name: torch.tensor([CRISP.get(name, middle[law](a, b))]) for name, (law, a, b) in FACTORS.items()}
    return {name: column.expand(n).clone() for name, column in factors.items()}


def span(name):
    """STEPS values of a factor from the low end of its law to the high one."""
    law, a, b = FACTORS[name]
    ends = {"uniform": (a, b), "some": (0.0, b)}.get(law, (a - 2.5 * b, a + 2.5 * b))
    x = torch.linspace(*ends, STEPS)
    return x.exp() if law == "lognormal" else x


def show_factors(names, path, columns=2, size=88):
    """A row for each factor, from low to high, everything else equal; in `columns` blocks side by side."""
    per = -(-len(names) // columns)
    fig, axes = plots.figure(7.0, 5.9 * per / (columns * STEPS) + 0.3, 1, columns)
    for ax, some in zip(axes, (names[k : k + per] for k in range(0, len(names), per)), strict=True):
        factors = typical(STEPS * len(some))
        factors["severity"][:] = 0.8
        for k, name in enumerate(some):
            factors[name][k * STEPS : (k + 1) * STEPS] = span(name)
        labels = [DISEASE.get(name, NORMAL) for name in some for _ in range(STEPS)]
        page = plots.tile(draw(labels, factors, size=size), per, STEPS, gap=3)
        ax.imshow(page, cmap="gray", vmin=0, vmax=1, interpolation="antialiased")
        ax.set_yticks([(k + 0.5) * (size + 3) for k in range(len(some))], labels=some)
        ax.set_xticks([(0.5 + k) * (size + 3) for k in (0, STEPS - 1)], labels=["low", "high"])
        ax.tick_params(length=0, pad=2, labeltop=True, labelbottom=False)
        ax.grid(False)
        ax.set_frame_on(False)
    fig.supxlabel(MARK, fontsize=8.5, color="#555555")
    save(fig, path)


def show_classes(path, patients=6, size=128):
    """The same patients, healthy and with each disease."""
    pictures = [cxr_phantom(patients, size=size, seed=4, classes=name)[0] for name in CLASSES]
    fig = plots.show_rows(dict(zip(CLASSES, pictures, strict=True)), columns=patients, note=MARK)
    save(fig, path)


def save(fig, path):
    fig.savefig(path, dpi=120, bbox_inches="tight", pad_inches=0.05, pil_kwargs={"quality": 78, "optimize": True})


def write_page(found):
    names = list(FACTORS)
    cut = names.index("dose")
    show_factors(names[:cut], FIGURES / "xrays_patient.jpg")
    show_factors(names[cut:], FIGURES / "xrays_film.jpg")
    show_classes(FIGURES / "xrays_classes.jpg")
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8"), found), encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--page", action="store_true", help="write the page from phantom.json, measuring nothing")
    parser.add_argument("--sheet", type=Path)
    parser.add_argument("--steps", type=int, default=700)
    arguments = parser.parse_args()
    if arguments.sheet:
        sheet(arguments.sheet)
    if not arguments.page:
        print(runtime.machine(), flush=True)
        KEPT.write_text(json.dumps(rounded(measure(arguments.steps)), indent=1) + "\n", encoding="utf-8")
    write_page(json.loads(KEPT.read_text(encoding="utf-8")))


def rounded(found):
    """Numbers of four significant digits, however deep."""
    if isinstance(found, dict):
        return {name: rounded(value) for name, value in found.items()}
    if isinstance(found, list):
        return [rounded(value) for value in found]
    return float(f"{found:.4g}") if isinstance(found, float) else found


if __name__ == "__main__":
    main()
