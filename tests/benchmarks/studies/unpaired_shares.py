"""Chapter 10: two heaps without pairs, a share of one of them ill. How many healthy patients does G make ill?

    make study STUDY=unpaired_shares                                21 trainings of a minute; can be resumed
    python tests/benchmarks/studies/unpaired_shares.py --table      only print the table that chapter 10 shows

After Cohen, Luck and Honari 2018. All of heap A are healthy. Heap B holds other patients, filmed darker by another
scanner, and none to half of them have a dense opacity in one lung. Two translators, two critics, the losses (10.10).
A translator reads films averaged to 16 x 16 pixels and adds a parabola of the greys and a smooth map to the film; it
begins as the straight line that gives one heap the mean and spread of the other. A critic scores a film beside mean
and deviation of the features of the eight that it came with, so that it sees shares (PacGAN: Lin and others 2018).

Test patients have been filmed healthy and ill by both scanners; no network has seen them. Made ill: a classifier,
trained on labelled films of B, finds an opacity in a healthy patient's film after G; what it says of true films of B
is the floor and the most that can be found. Painted: a patch of 3 x 3 pixels in the lungs, less their median, lies
above that patient's true film of B by more than half of what an opacity adds as a rule, a stricter ruler. Erased: of an
opacity in a film of B less than half is left in its place after H.

In trials whose films were turned but not shifted, critics learned 400 films by heart, and G painted blotches at a
share of 0 too: the row at 0 is the control of all others. A seed is that of initialisations and of all that is drawn
in training. Settings were chosen with seed 0 on 100 other patients; an interval adds the doubt about test patients
(bootstrap) to that about three trainings (Student's t).

unpaired_shares.png is for the chapter's slider: the first six test patients before G, as B's scanner truly films them,
and after the G of each share's first training; what was counted stands in the file too, so that it can travel alone.
"""

import hashlib
import json
from pathlib import Path

from genmed_core import runtime  # isort: skip  (before torch: it sets how threads wait)

import numpy as np
import torch
from chapter_cells import FIGURES, markdown, parser_of, progress
from PIL import Image, PngImagePlugin
from torch import nn
from torch.nn import functional as F

from genmed_core.audit.intervals import share
from genmed_core.audit.usefulness import classifier, over_runs
from genmed_core.audit.views import placed, random_pose
from genmed_core.cache import cached
from genmed_core.synthetic import phantom
from genmed_core.synthetic.pairs import edited

JSON = FIGURES / "unpaired_shares.json"
SIDE, HEAP, TEST = 32, 400, 200
SHOWN, SHOWN_SEED = 6, 1  # the first test patients are shown, after the first training of each share
STEPS, BATCH, PACK = 800, 32, 8
RATES, SLOPE = (2e-3, 3e-3), 0.0015  # of critics and translators; the weight of the critics' slope
CYCLE, IDENTITY = 2.0, 0.5
SHARES = {f"{r:.0%} of B ill": (r, CYCLE, IDENTITY) for r in (0.0, 0.1, 0.25, 0.4, 0.5)}
LOSSES = {"50% of B ill, no cycle loss": (0.5, 0.0, IDENTITY), "50% of B ill, no identity loss": (0.5, CYCLE, 0.0)}
SETTINGS = SHARES | LOSSES  # share of B, weights of the cycle and of the identity loss
BESIDE = ("film of A", "true film of B")  # beside which films after G are shown


# --- films ---------------------------------------------------------------------------------------


def scanner(x):
    """Films of A, [0, 1] -> the same films by the scanner of B: darker, and flatter where they are dark."""
    return 0.02 + 0.85 * x**1.4


def drawn(n, seed, ill):
    """n patients: healthy films, the first with a dense opacity too, the lungs, where opacities are; (n, 1, 32, 32)."""
    def draw():
        _, plain = phantom.cxr_patients(n, classes=phantom.NORMAL, seed=seed)
        factors = edited(plain, leads=0.0, tube=0.0, severity=0.53 + 0.47 * plain["severity"])
        first = {name: column[:ill] for name, column in factors.items()}
        nobody = torch.zeros(n, dtype=torch.int64)
        found = {"well": phantom.draw(nobody, factors, size=SIDE, like=(nobody, factors)),
                 "lungs": phantom.organs(factors, size=SIDE)[:, :2].sum(1, keepdim=True) > 0.5}
        if ill:
            sick = nobody[:ill] + phantom.OPACITY
            lost = 1 - phantom.air_share(sick, first, size=SIDE)[:, None]
            found["ill"] = phantom.draw(sick, first, size=SIDE, like=(nobody[:ill], first))
            found["opaque"] = found["lungs"][:ill] & (lost > 0.3)
        return found, {}

    code = hashlib.sha256(Path(phantom.__file__).read_bytes()).hexdigest()
    found, _ = cached("unpaired", [n, seed, ill, SIDE, code], draw)
    return {name: x.float() / 255 if x.dtype == torch.uint8 else x for name, x in found.items()}


def some_ill(films, r):
    """Films of scanner B, the first share r of the patients with an opacity."""
    k = round(r * len(films["well"]))
    return scanner(torch.cat([films["ill"][:k], films["well"][k:]]))


def batch_of(films, g, size=BATCH):
    """Some of the films, each turned, zoomed and shifted a little, and which they are."""
    rows = torch.randint(len(films), (size,), generator=g)
    return placed(films[rows], random_pose(size, g, turn=6, zoom=1.08, shift=0.05, mirror=0)), rows


# --- networks ------------------------------------------------------------------------------------


class Translator(nn.Module):
    """x (B, 1, 32, 32) -> x, plus a parabola of its greys and a smooth map; begins as the line that matches heaps."""

    def __init__(self, given, wanted, width=128):
        super().__init__()
        slope = wanted.std() / given.std()
        self.greys = nn.Parameter(torch.stack([wanted.mean() - slope * given.mean(), slope - 1, torch.zeros(())]))
        self.net = nn.Sequential(nn.Linear(256, width), nn.LeakyReLU(0.2), nn.Linear(width, width), nn.LeakyReLU(0.2),
                                 nn.Linear(width, 256))
        nn.init.zeros_(self.net[-1].weight)
        nn.init.zeros_(self.net[-1].bias)

    def forward(self, x):
        seen = F.avg_pool2d(4 * x - 2, 2).flatten(1)
        added = F.interpolate(self.net(seen).view(-1, 1, 16, 16), scale_factor=2.0, mode="bilinear")
        return x + 0.3 * added + self.greys[0] + self.greys[1] * x + self.greys[2] * x * x


class Critic(nn.Module):
    """x (B, 1, 32, 32), B a multiple of PACK -> log-odds (B,) of being of the heap, each beside its pack's features."""

    def __init__(self, heap, width=24):
        super().__init__()
        self.mean, self.sd = (s(F.avg_pool2d(heap, 2), 0, keepdim=True) for s in (torch.mean, torch.std))
        self.features = nn.Sequential(
            nn.PixelUnshuffle(2), nn.Conv2d(8, width, 3, padding=1), nn.LeakyReLU(0.2),             # (B, w, 8, 8)
            nn.Conv2d(width, 2 * width, 4, stride=2, padding=1), nn.LeakyReLU(0.2), nn.Flatten(),
            nn.Linear(32 * width, 64), nn.LeakyReLU(0.2))
        self.head = nn.Sequential(nn.Linear(192, 64), nn.LeakyReLU(0.2), nn.Linear(64, 1))

    def forward(self, x):
        x = F.avg_pool2d(x, 2)
        h = self.features(torch.cat([x - self.mean, x - x.flip(3)], 1) / self.sd).view(-1, PACK, 64)
        mean, sd = h.mean(1, keepdim=True), (h.var(1, keepdim=True, unbiased=False) + 1e-4).sqrt()
        return self.head(torch.cat([h, mean.expand_as(h), sd.expand_as(h)], 2)).flatten()


# --- training ------------------------------------------------------------------------------------


def away(x, y):
    return (x - y).abs().mean()


def critic_loss(D, real, fake, sigma=0.02):
    """Cross-entropy and a penalty on the slope, by nudging the first half of both batches."""
    films, half = torch.cat([real, fake.detach()]), torch.arange(BATCH // 2)
    rows = torch.cat([half, BATCH + half])
    odds = D(films)
    slope = (D(films[rows] + sigma * torch.randn_like(films[rows])) - odds[rows]) / sigma
    return F.softplus(-odds[:BATCH]).mean() + F.softplus(odds[BATCH:]).mean() + SLOPE * slope.square().mean()


def stepped(optimizer, loss, rate):
    optimizer.param_groups[0]["lr"] = rate
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def trained(heap_a, heap_b, cycle, identity, seed):
    """Averaged translators G from A to B and H from B to A, by (10.10)."""
    torch.manual_seed(seed)
    g = torch.Generator().manual_seed(seed)
    G, H, D_a, D_b = Translator(heap_a, heap_b), Translator(heap_b, heap_a), Critic(heap_a), Critic(heap_b)
    of_D = torch.optim.Adam([*D_a.parameters(), *D_b.parameters()], betas=(0.0, 0.99))
    of_G = torch.optim.Adam([*G.parameters(), *H.parameters()], betas=(0.5, 0.99))
    slow = [torch.optim.swa_utils.AveragedModel(net, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.98))
            for net in (G, H)]
    for k in range(STEPS):
        left = max(0.05, 1 - k / STEPS)
        a, b = batch_of(heap_a, g)[0], batch_of(heap_b, g)[0]
        ab, ba = G(a), H(b)
        stepped(of_D, critic_loss(D_a, a, ba) + critic_loss(D_b, b, ab), left * RATES[0])
        loss = F.softplus(-D_b(ab)).mean() + F.softplus(-D_a(ba)).mean()
        if cycle:
            loss = loss + cycle * (away(H(ab), a) + away(G(ba), b))
        if identity:
            loss = loss + identity * (away(G(b), b) + away(H(a), a))
        stepped(of_G, loss, left * RATES[1])
        for average, net in zip(slow, (G, H)):
            average.update_parameters(net)
    return [average.module.eval().requires_grad_(False) for average in slow]


def reader(films, steps=200):
    """A classifier of B's films, [0, 1] -> log-odds of an opacity, trained on patients who have both films."""
    torch.manual_seed(0)
    g, net = torch.Generator().manual_seed(0), classifier(2)[1:]
    n = len(films["ill"])
    x, ill = scanner(torch.cat([films["well"][:n], films["ill"]])), torch.arange(2).repeat_interleave(n)
    optimizer = torch.optim.AdamW(net.parameters(), weight_decay=1e-2)
    for k in range(steps):
        batch, rows = batch_of(x, g, 64)
        stepped(optimizer, F.cross_entropy(net(2 * batch - 1), ill[rows]), 3e-3 * (1 - k / steps))
    net.eval().requires_grad_(False)
    return lambda x: net(2 * x - 1).diff(dim=1)[:, 0]


# --- counting ------------------------------------------------------------------------------------


def rise(x, true, lungs):
    """Largest rise over the true film in the lungs, mean of 3 x 3 pixels less the lungs' median, (n,)."""
    patches = F.avg_pool2d(x - true, 3, 1, 1, count_include_pad=False)
    middle = torch.where(lungs, patches, torch.nan).flatten(1).nanmedian(1).values
    return torch.where(lungs, patches, -1.0).flatten(1).amax(1) - middle


def counted(G, H, read, test):
    """What G did to healthy patients, what H erased in ill ones; booleans as 0 and 1."""
    well, ill, lungs, opaque = (test[name] for name in ("well", "ill", "lungs", "opaque"))
    made, cleared = G(well).clamp(0, 1), H(scanner(ill)).clamp(0, 1)
    usual = rise(scanner(ill), scanner(well), lungs).median()
    kept = ((cleared - well) * opaque).sum((1, 2, 3)) / ((ill - well) * opaque).sum((1, 2, 3))
    seen = opaque.flatten(1).sum(1) > 5                                     # whose opacity is not behind the heart
    found = {"made ill": read(made) > 0, "painted": rise(made, scanner(well), lungs) > usual / 2,
             "erased": (kept < 0.5)[seen]}
    return {name: x.int().tolist() for name, x in found.items()}


def rulers(read, test):
    """What the two rulers say of true films of B, ill and healthy."""
    well, ill, lungs = (test[name] for name in ("well", "ill", "lungs"))
    usual = rise(scanner(ill), scanner(well), lungs).median()
    seen = {"opacities that the ruler finds": rise(scanner(ill), scanner(well), lungs) > usual / 2,
            "opacities that the classifier finds": read(scanner(ill)) > 0,
            "healthy that the classifier calls ill": read(scanner(well)) > 0}
    return {name: share(int(x.sum()), len(x)) for name, x in seen.items()}


def measured(runs):
    """{setting: shares with intervals over patients and trainings}."""
    rows = {}
    for name in SETTINGS:
        of = [run for run in runs if run["setting"] == name]
        if len(of) > 1:  # one training tells nothing of the others
            rows[name] = {}
            for what in ("made ill", "painted", "erased"):
                hits = np.array([run[what] for run in of], float)
                rows[name][what] = over_runs(hits, np.ones((hits.shape[1], 1)), np.random.default_rng(0))
    return rows


# --- films for the slider ------------------------------------------------------------------------


def side_by_side(x):
    """The films of the first SHOWN patients (n, 1, 32, 32), [0, 1] -> bytes (32, 192)."""
    return np.concatenate(list((255 * x[:SHOWN, 0]).round().byte().numpy()), axis=1)


def kept(place):
    """{name: bytes (32, 192)} of the picture that `keep` wrote; nothing where there is none."""
    if not place.exists():
        return {}
    with Image.open(place) as picture:
        names = json.loads(picture.text["found"])["films"]
        return dict(zip(names, np.array(picture).reshape(len(names), SIDE, -1)))


def keep(place, films, found):
    """Write the films, a row for each name, with counts of all test patients and who of these is made ill."""
    names = [name for name in (*BESIDE, *SHARES) if name in films]
    ill = {run["setting"]: run["made ill"][:SHOWN] for run in found["runs"] if run["seed"] == SHOWN_SEED}
    counts = {"films": names, "rulers": found["rulers"], "made ill": {name: ill[name] for name in names[len(BESIDE):]},
              "rows": {name: row for name, row in found["rows"].items() if name in SHARES}}
    text = PngImagePlugin.PngInfo()
    text.add_text("found", json.dumps(counts))
    Image.fromarray(np.concatenate([films[name] for name in names])).save(place, optimize=True, pnginfo=text)


# --- tables --------------------------------------------------------------------------------------


def in_words(found):
    low, high = max(0.0, found["low"]), min(1.0, found["high"])
    return f"{100 * found['value']:.0f} % ({100 * low:.0f} to {100 * high:.0f})"


def table(stored):
    """A row for each setting, and what the rulers say of true films."""
    lines = [[name.replace("%", " %"), in_words(row["made ill"]), in_words(row["painted"]),
              in_words(row["erased"])] for name, row in stored["rows"].items()]
    rows = markdown(["", "made ill by G", "painted by G", "erased by H"], lines)
    return "\n".join([rows, "", *(f"{name}: {in_words(found)}" for name, found in stored["rulers"].items())])


def train_all(left, runs, films, place):
    """Train what is left, (setting, seed) each, and store runs and films after each training."""
    heap_a, of_b, test = (drawn(*wanted) for wanted in ((HEAP, 11, 0), (HEAP, 12, HEAP // 2), (TEST, 29, TEST)))
    read = reader(of_b)
    films |= dict(zip(BESIDE, map(side_by_side, (test["well"], scanner(test["well"])))))
    about = {"command": "make study STUDY=unpaired_shares", "machine": runtime.machine(), "source": "phantom"}
    for name, seed in left:
        r, cycle, identity = SETTINGS[name]
        G, H = trained(heap_a["well"], some_ill(of_b, r), cycle, identity, seed)
        new = {"setting": name, "seed": seed} | counted(G, H, read, test)
        runs = [run for run in runs if (run["setting"], run["seed"]) != (name, seed)] + [new]
        runs.sort(key=lambda run: (list(SETTINGS).index(run["setting"]), run["seed"]))
        progress(f"{name}, seed {seed}: made ill {np.mean(new['made ill']):.2f}")
        found = {"settings": about, "rulers": rulers(read, test), "rows": measured(runs), "runs": runs}
        place.write_text(json.dumps(found) + "\n", encoding="utf-8")
        if name in SHARES and seed == SHOWN_SEED:
            films[name] = side_by_side(G(test["well"]).clamp(0, 1))
        keep(place.with_suffix(".png"), films, found)


def main():
    options = parser_of(__doc__, JSON, seeds=(1, 2, 3)).parse_args()
    place = options.output
    runs = json.loads(place.read_text(encoding="utf-8"))["runs"] if place.exists() else []
    films = kept(place.with_suffix(".png"))
    unseen = {(name, SHOWN_SEED) for name in SHARES if name not in films}
    done = {(run["setting"], run["seed"]) for run in runs} - unseen
    wanted = [(name, seed) for part in (SHARES, LOSSES) for seed in options.seeds for name in part]
    left = [each for each in wanted if each not in done]
    if left and not options.table:
        train_all(left, runs, films, place)
    print(table(json.loads(place.read_text(encoding="utf-8"))))


if __name__ == "__main__":
    main()
