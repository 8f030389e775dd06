"""Editing: one attribute of a film changed, the patient kept. Two editors and their difference maps against the truth.

    make study STUDY=editing                                 some four minutes of one core a seed; can be resumed
    python tests/benchmarks/studies/editing.py --table       only print the tables of chapters/editing.md

Every patient has three attributes, thrown like coins: an opacity in one lung, a dark exposure, a large heart. Training
films show a patient once, with one throw; test patients are drawn in all eight ways, so that the true edit is known.

StarGAN (Choi and others 2018): one generator x + u(x, c) for all eight target vectors c; a critic, a classifier of
attributes, a cycle loss. DDIM (Song and others 2021; as a way to edit: Su and others 2023, Sanchez and others 2022):
one diffusion of films given c; a film is followed up under its own c to a step, and down again under another. Both
have the same U-Net. Whether an edit takes is read by a third network, taught by other patients' films.

Maps: |film - edited to healthy|, where the editor is told that every film is ill, and takes the other attributes as
read. A seed is that of weights and of all that is drawn in training; settings were chosen with seed 0 on 40 other
patients. An interval adds the doubt about patients (bootstrap) to that about trainings (Student's t).
"""

import hashlib
import json
import math
from pathlib import Path

from genmed_core import runtime  # isort: skip  (before torch: it sets how threads wait)

import numpy as np
import torch
from chapter_cells import FIGURES, markdown, parser_of, progress
from scipy.stats import rankdata
from torch import nn
from torch.nn import functional as F
from unpaired_shares import away, stepped

from genmed_core import diffusion, nets, plots
from genmed_core.audit.usefulness import classifier, over_runs
from genmed_core.audit.views import placed, random_pose
from genmed_core.cache import cached
from genmed_core.synthetic import phantom
from genmed_core.synthetic.pairs import edited

JSON = FIGURES / "editing.json"
SIDE, TRAIN, READER, TEST = 32, 1200, 800, 80
OPACITY = 0  # of the attributes: opacity, dark exposure, large heart
GAMMA, HEART = (0.5, 0.9), (-1.0, 2.5)  # of pale and dark films; of ordinary and large hearts, in deviations
WIDTHS = (32, 64)
GAN_STEPS, GAN_BATCH, RATES = 700, 16, (1e-3, 1e-3)  # of critic and generator
READER_STEPS, NOISE = 500, 0.15  # the noise that the generator's classifier has to read through
READ, CYCLE, SLOPE = 1.0, 10.0, 0.0015  # weights of the attributes, of the cycle, of the critic's slope
STEPS, BATCH, RATE = 1000, 32, 3e-3  # of the diffusion
UP_TO, PASSES, GUIDANCE = 800, 24, 1.0  # how far a film is noised, of T; in how many passes; how hard the label pulls
SCHEDULE = diffusion.Schedule.cosine(1000)
DDIM, TWO = "diffusion, there and back", "diffusion, both ways back"
EDITS = {"opacity removed": (OPACITY, 0), "opacity added": (OPACITY, 1), "exposure": (1, None), "heart": (2, None)}


# --- films ---------------------------------------------------------------------------------------


def number(c):
    """Attributes (n, 3) of 0 and 1 -> 0 to 7, as the networks are told them."""
    return (c * torch.tensor([1, 2, 4])).sum(1)


def filmed(plain, c, masks):
    """Films of patients with attributes c (n, 3), in [-1, 1]; levels of grey are those of the healthy, ordinary heart.

    -> films (n, 1, 32, 32); with masks, lungs and opaque pixels as bool too.
    """
    size, gamma = torch.tensor(HEART)[c[:, 2]], torch.tensor(GAMMA)[c[:, 1]]
    factors = edited(plain, leads=0.0, tube=0.0, severity=0.53 + 0.47 * plain["severity"], gamma=gamma, heart=size)
    labels, healthy = phantom.OPACITY * c[:, OPACITY], torch.zeros(len(c), dtype=torch.int64)
    grey = phantom.draw(labels, factors, size=SIDE, like=(healthy, edited(factors, heart=HEART[0])))
    if not masks:
        return (grey.float() / 127.5 - 1,)
    lungs = phantom.organs(factors, size=SIDE)[:, :2].sum(1, keepdim=True) > 0.5
    lost = 1 - phantom.air_share(labels, factors, size=SIDE)[:, None]
    return grey.float() / 127.5 - 1, lungs, lungs & (lost > 0.3)


def patients(n, seed, *, every=False):
    """n patients with attributes c as thrown: films, or with every=True all eight films of each, (8, n, 1, 32, 32)."""
    def draw():
        _, plain = phantom.cxr_patients(n, classes=phantom.NORMAL, seed=seed)
        c = torch.randint(0, 2, (n, 3), generator=torch.Generator().manual_seed(seed))
        ways = [torch.tensor([k & 1, k >> 1 & 1, k >> 2 & 1]).expand(n, 3) for k in range(8)] if every else [c]
        parts = zip(*(filmed(plain, way, every) for way in ways))
        return {"c": c} | {name: torch.stack(part) for name, part in zip(("x", "lungs", "opaque"), parts)}, {}

    code = hashlib.sha256(Path(phantom.__file__).read_bytes()).hexdigest()
    found, _ = cached("editing", [n, seed, every, SIDE, GAMMA, HEART, code], draw)
    return found if every else {name: x if name == "c" else x[0] for name, x in found.items()}


def version(test, c):
    """The test patients' true films with attributes c (n, 3)."""
    return test["x"][number(c), torch.arange(len(c))]


# --- networks ------------------------------------------------------------------------------------


class Generator(nn.Module):
    """x (B, 1, 32, 32) in [-1, 1] and target attributes 0 to 7 -> the film with them; begins as the film itself."""

    def __init__(self):
        super().__init__()
        self.net = nets.UNet(1, widths=WIDTHS, patch=2, classes=8)

    def forward(self, x, k):
        return x + self.net(x, torch.zeros_like(k), k)


class Critic(nn.Module):
    """x (B, 1, 32, 32) -> log-odds (B,) of being a true film."""

    def __init__(self, width=32):
        super().__init__()
        self.net = nn.Sequential(
            nn.PixelUnshuffle(2), nn.Conv2d(4, width, 3, padding=1), nn.LeakyReLU(0.2),               # (B, w, 16, 16)
            nn.Conv2d(width, 2 * width, 4, stride=2, padding=1), nn.LeakyReLU(0.2),                    # (B, 2w, 8, 8)
            nn.Conv2d(2 * width, 2 * width, 4, stride=2, padding=1), nn.LeakyReLU(0.2), nn.Flatten(),  # (B, 32w)
            nn.Linear(32 * width, 1))

    def forward(self, x):
        return self.net(x)[:, 0]


# --- training ------------------------------------------------------------------------------------


def batch_of(films, size, g):
    rows = torch.randint(len(films["c"]), (size,), generator=g)
    return films["x"][rows], films["c"][rows]


def critic_loss(D, x, fake, sigma=0.04):
    """Cross-entropy of true and drawn, and a penalty on the slope, by nudging the first half of both batches."""
    half = len(x) // 2
    seen = torch.cat([x[:half], fake[:half]])
    odds, nudged = D(torch.cat([x, fake])), D(noisy(seen, sigma))
    true, drawn = odds.chunk(2)
    slope = (nudged - torch.cat([true[:half], drawn[:half]])) / sigma
    return F.softplus(-true).mean() + F.softplus(drawn).mean() + SLOPE * slope.square().mean()


def stargan(films, seed, steps=GAN_STEPS):
    """The averaged generator.

    Choi's critic shares its layers between both tasks, but reads attributes of true films alone; so a network of its
    own can do that, and learn it before the generator begins. It reads through noise: patterns too faint to see, which
    fool a classifier, are lost in it.
    """
    D_c = reader(films, seed, noise=NOISE, steps=min(READER_STEPS, steps))
    torch.manual_seed(seed)
    g = torch.Generator().manual_seed(seed)
    G, D = Generator(), Critic()
    of_D, of_G = (torch.optim.Adam(net.parameters(), betas=(0.5, 0.99)) for net in (D, G))
    slow = averaged(G)
    for k in range(steps):
        left = max(0.05, 1 - k / steps)
        x, c = batch_of(films, GAN_BATCH, g)
        wanted = torch.randint(0, 2, c.shape, generator=g)
        with runtime.autocast(torch.device("cpu")):
            fake = G(x, number(wanted))
        stepped(of_D, critic_loss(D, x, fake.detach()), left * RATES[0])
        with runtime.autocast(torch.device("cpu")):
            back = G(fake, number(c))
        loss = F.softplus(-D(fake)).mean() + CYCLE * away(back, x)
        loss = loss + READ * F.binary_cross_entropy_with_logits(D_c(noisy(fake, NOISE)), wanted.float())
        stepped(of_G, loss, left * RATES[1])
        slow.update_parameters(G)
    return slow.module.eval().requires_grad_(False)


def averaged(net, decay=0.99):
    return torch.optim.swa_utils.AveragedModel(net, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(decay))


def denoiser(films, seed, steps=STEPS):
    """The averaged network that guesses v of a noisy film, given the attributes; one label in ten is dropped."""
    torch.manual_seed(seed)
    g = torch.Generator().manual_seed(seed)
    net = nets.UNet(1, widths=WIDTHS, patch=2, classes=8)
    optimizer = torch.optim.AdamW(net.parameters(), betas=(0.9, 0.99), weight_decay=0.0)
    slow = averaged(net)
    for k in range(steps):
        x, c = batch_of(films, BATCH, g)
        t = diffusion.stratified_timesteps(BATCH, SCHEDULE.T, spread=1.0, generator=g)
        eps = torch.randn(x.shape, generator=g)
        y = torch.where(torch.rand(BATCH, generator=g) < 0.1, net.null, number(c))
        with runtime.autocast(torch.device("cpu")):
            v_hat = net(diffusion.q_sample(x, t, eps, SCHEDULE), t, y)
        loss = (v_hat - diffusion.target(x, eps, t, SCHEDULE, predicts="v")).square().mean()
        stepped(optimizer, loss, RATE * max(0.02, min(1.0, k / 50, 1 - k / steps)))
        slow.update_parameters(net)
    return slow.module.eval().requires_grad_(False)


def noisy(x, sd):
    return x + sd * torch.randn_like(x)


def reader(films, seed=0, steps=READER_STEPS, noise=0.0):
    """x -> log-odds (n, 3) of the attributes."""
    torch.manual_seed(seed)
    g, net = torch.Generator().manual_seed(seed), classifier(3)[1:]
    optimizer = torch.optim.AdamW(net.parameters(), weight_decay=1e-2)
    for k in range(steps):
        x, c = batch_of(films, 64, g)
        x = placed(x, random_pose(64, g, turn=6, zoom=1.05, shift=0.05, mirror=0))
        loss = F.binary_cross_entropy_with_logits(net(noisy(x, noise)), c.float())
        stepped(optimizer, loss, 3e-3 * (1 - k / steps))
    return net.eval().requires_grad_(False)


# --- editing -------------------------------------------------------------------------------------


def walk(net, x, y, steps, guidance=1.0):
    """Follow DDIM's path of label y from the first of the steps t to the last, up or down.  Song et al. 2021, eq. 13.

    x (B, 1, 32, 32) at noise level steps[0] -> at steps[-1]; each pass asks the network once (twice if guided).
    """
    for t, after in zip(steps, steps[1:]):
        told = torch.full((len(x),), t)
        v_hat = diffusion.guided(net, x, told, y, guidance, net.null)
        x0_hat, eps_hat = diffusion.predict(v_hat, x, told, SCHEDULE, predicts="v")
        _, _, alpha_bar, noise_var = SCHEDULE.at(after)
        x = alpha_bar.sqrt().float() * x0_hat + noise_var.sqrt().float() * eps_hat
    return x


def by_diffusion(net, x, own, *wanted, up_to=UP_TO, guidance=GUIDANCE):
    """Films encoded under their own attributes 0 to 7 and decoded under each of the wanted ones -> a list of films."""
    steps = torch.linspace(0, up_to, PASSES + 1).round().int().tolist()
    up = walk(net, x, own, steps)
    return [walk(net, up, y, steps[::-1], guidance).clamp(-1, 1) for y in wanted]


class Editors:
    """Ways of editing: edit(x, c, wanted) -> {way: films}, attributes as (n, 3)."""

    def __init__(self, films, seed, steps=(GAN_STEPS, STEPS)):
        self.of = {k: films["x"][number(films["c"]) == k].mean(0) for k in range(8)}
        self.G, self.net = stargan(films, seed, steps[0]), denoiser(films, seed, steps[1])

    def means(self, c):
        return torch.stack([self.of[k] for k in number(c).tolist()])

    @torch.no_grad()
    def __call__(self, x, c, wanted):
        own, k = number(c), number(wanted)
        with runtime.autocast(torch.device("cpu")):
            back, there = by_diffusion(self.net, x, own, own, k)
            return {"nothing": x, "mean difference": (x + self.means(wanted) - self.means(c)).clamp(-1, 1),
                    "StarGAN": self.G(x, k).clamp(-1, 1), DDIM: there, TWO: (x + there - back).clamp(-1, 1)}


# --- measuring -----------------------------------------------------------------------------------


def grey(x):
    """[-1, 1] -> grey levels 0 to 255."""
    return 127.5 * (x + 1)


def judged(made, truth, before, wanted, at, read):
    """Of each film: does the edit take, error, decibels, grey levels moved where nothing changes, others misread."""
    off, still = grey(made) - grey(truth), (grey(truth) - grey(before)).abs() < 1
    seen, known, others = read(made) > 0, read(truth) > 0, [i for i in range(3) if i != at]
    moved = (off.abs() * still).sum((1, 2, 3)) / still.sum((1, 2, 3)).clamp_min(1)
    return {"takes": (seen[:, at] == wanted[:, at]).float(), "error": off.abs().mean((1, 2, 3)),
            "psnr": 10 * (255**2 / off.square().mean((1, 2, 3)).clamp_min(1e-3)).log10(),
            "moved": torch.where(still.sum((1, 2, 3)) > SIDE**2 / 2, moved, torch.nan),
            "misread": (seen != known)[:, others].any(1).float()}


def asked(c, edit):
    """Attributes before and after an edit."""
    at, goal = EDITS[edit]
    before, wanted = c.clone(), c.clone()
    if goal is not None:
        before[:, at], wanted[:, at] = 1 - goal, goal
    else:
        wanted[:, at] = 1 - c[:, at]
    return before, wanted, at


def edits_of(edit, read, test):
    """{edit: {editor: {measure: a number for each patient}}}."""
    found = {}
    for name in EDITS:
        c, wanted, at = asked(test["c"], name)
        x, truth = version(test, c), version(test, wanted)
        made = edit(x, c, wanted) | {"truth": truth}
        found[name] = {way: judged(films, truth, x, wanted, at, read) for way, films in made.items()}
    return found


def smooth(difference):
    """Size of a difference (n, 1, 32, 32), the mean of 3 x 3 pixels."""
    return F.avg_pool2d(difference.abs(), 3, 1, 1, count_include_pad=False)


def maps_of(edit, read, x):
    """Maps of where films (n, 1, 32, 32) may be ill, by what nobody told the editor: all are taken for ill."""
    c = (read(x) > 0).long()
    c[:, OPACITY] = 1
    healthy = c.clone()
    healthy[:, OPACITY] = 0
    made = edit(x, c, healthy)
    return {"the same map for all": smooth(edit.means(healthy) - edit.means(c)),
            "film less mean healthy film": smooth(x - edit.means(healthy)),
            "classifier's gradient": smooth(slope(read, x))} | {
        way: smooth(x - made[way]) for way in ("StarGAN", DDIM, TWO)}


def slope(read, x):
    """How the log-odds of an opacity change with each pixel."""
    x = x.clone().requires_grad_(True)
    return torch.autograd.grad(read(x)[:, OPACITY].sum(), x)[0]


def placements(scores):
    """2 V - AUC of each score, ill ones first: both halves have the AUC as mean, the bootstrap DeLong's variance."""
    ill, well = scores.chunk(2)
    above = (ill[:, None] > well).float() + 0.5 * (ill[:, None] == well)
    return 2 * torch.cat([above.mean(1), above.mean(0)]) - above.mean()


def precision(scores, hit):
    """Average precision of a film's pixels (m,), hit as bool."""
    right = hit[scores.argsort(descending=True)].float()
    return ((right.cumsum(0) / torch.arange(1, len(right) + 1)) * right).sum() / right.sum()


def located(found, true, lungs, opaque):
    """Of each ill film, inside the lungs: average precision for opaque pixels, AUC, correlation with the truth."""
    rows = []
    for map_, goal, inside, hit in zip(found, true, lungs, opaque):
        scores, hit = map_[inside], hit[inside]
        n = int(hit.sum())
        area = (rankdata(scores)[hit.numpy()].sum() - n * (n + 1) / 2) / (n * (len(hit) - n))
        rows.append([precision(scores, hit).item(), area, torch.corrcoef(torch.stack([scores, goal[inside]]))[0, 1]])
    return dict(zip(("precision", "area", "correlation"), torch.tensor(rows).nan_to_num(0.0).T))


def summary(found):
    """A film's map as one number: the mean of its highest twentieth."""
    return found.flatten(1).topk(SIDE**2 // 20).values.mean(1)


def finding(edit, read, test):
    """{map: {measure: numbers}}: where lesions are, and by the map's summary who is ill."""
    ill, well = (test["c"].clone() for _ in range(2))
    ill[:, OPACITY], well[:, OPACITY] = 1, 0
    rows = number(ill), torch.arange(len(ill))
    x, healthy, lungs, opaque = version(test, ill), version(test, well), test["lungs"][rows], test["opaque"][rows]
    seen = opaque.flatten(1).sum(1) > 5  # whose opacity is not behind the heart
    true = smooth(x - healthy)
    maps = maps_of(edit, read, torch.cat([x, healthy])) | {"truth": torch.cat([true, torch.zeros_like(true)])}
    found = {name: located(one[:len(x)][seen], true[seen], lungs[seen], opaque[seen])
             | {"image": placements(summary(one))} for name, one in maps.items()}
    scores = read(torch.cat([x, healthy]))[:, OPACITY]
    share = (opaque & lungs).flatten(1).sum(1)[seen] / lungs.flatten(1).sum(1)[seen]
    return found | {"no map": {"precision": share}, "classifier": {"image": placements(scores)}}


# --- tables --------------------------------------------------------------------------------------


def as_lists(found):
    """The same, tensors as lists of numbers to four figures."""
    if isinstance(found, dict):
        return {name: as_lists(one) for name, one in found.items()}
    return [None if v != v else float(f"{v:.4g}") for v in found.tolist()]


NEVER_BROKEN = "\u00a0to\u00a0"  # an interval stays on one line


def interval(runs, path):
    """Mean over patients and trainings of the numbers at a path of each run, with its interval; None without any."""
    values = np.array([walked(run, path) for run in runs], float)
    kept = values[:, ~np.isnan(values).any(0)]
    if not kept.size:
        return None
    found = over_runs(kept, np.ones((kept.shape[1], 1)), np.random.default_rng(0))
    return found if len(runs) > 1 else {"value": found["value"]}  # one training tells nothing of the others


def walked(run, path):
    for name in path:
        run = run[name]
    return run


def said(found, scale=1.0, digits=1, most=math.inf):
    """A value with its interval, which ends where the measure does: at 0, and at `most`."""
    if found is None:
        return ""
    ends = [found[key] for key in ("value", "low", "high") if key in found]
    value, *limits = (f"{scale * min(max(end, 0.0), most):.{digits}f}" for end in ends)
    return f"{value} ({NEVER_BROKEN.join(limits)})" if limits else value


MEASURES = {"takes": ("takes, %", 100, 0), "error": ("off the truth", 1, 1), "psnr": ("PSNR, dB", 1, 1),
            "moved": ("moved where still", 1, 1), "misread": ("others misread, %", 100, 0)}
FOUND = {"precision": "precision", "area": "pixels' AUC", "correlation": "correlation", "image": "films' AUC"}


def table(stored):
    """A table for the edits, another for the maps."""
    lines = []
    for edit, row in stored["edits"].items():
        for i, (way, cells) in enumerate(row.items()):
            left_out = ("error", "psnr", "moved", "misread") if way == "truth" else ()
            lines.append([f"**{edit}**" if i == 0 else "", "true edit" if way == "truth" else way, *(
                "" if key in left_out else said(cells[key], scale, digits, 1 if scale == 100 else math.inf)
                for key, (_, scale, digits) in MEASURES.items())])
    first = markdown(["", "edited by", *(words for words, *_ in MEASURES.values())], lines)
    rows = [[name, *(said(cells.get(key), 1, 2, 1) for key in FOUND)] for name, cells in stored["maps"].items()]
    return first + "\n\n" + markdown(["map", *FOUND.values()], rows)


def together(runs):
    edits = {edit: {way: {key: interval(runs, ("edits", edit, way, key)) for key in MEASURES}
                    for way in runs[0]["edits"][edit]} for edit in EDITS}
    maps = {name: {key: interval(runs, ("maps", name, key)) for key in runs[0]["maps"][name]}
            for name in runs[0]["maps"]}
    return {"edits": edits, "maps": maps}


# --- the page's figure ---------------------------------------------------------------------------


def picture(edit, test, shown=5):
    """The first ill test patients whose opacity shows: film, edits, truth, and what each took away, tripled."""
    ill = test["c"].clone()
    ill[:, OPACITY] = 1
    healthy = ill.clone()
    healthy[:, OPACITY] = 0
    seen = test["opaque"][number(ill), torch.arange(len(ill))].flatten(1).sum(1) > 5
    rows = seen.nonzero()[:shown, 0]
    x, truth = version(test, ill)[rows], version(test, healthy)[rows]
    made = edit(x, ill[rows], healthy[rows])
    films = {"ill": x, "StarGAN": made["StarGAN"], "there and back": made[DDIM], "both ways back": made[TWO],
             "truth": truth}
    grids = {"film": torch.cat([(1 + one) / 2 for one in films.values()]),
             "what was taken away, x 3": torch.cat([(0.5 + 1.5 * (x - one)).clamp(0, 1) for one in films.values()])}
    fig = plots.show_grids(grids, columns=shown, width=7.6, row_labels=list(films), note=plots.SYNTHETIC)
    fig.set_figheight(3.2)  # the names of the rows leave the grids less width than is reckoned with
    return fig


def prepared():
    """Training films, test patients and the reader."""
    return patients(TRAIN, 41), patients(TEST, 44, every=True), reader(patients(READER, 42))


def main():
    options = parser_of(__doc__, JSON, seeds=(0, 1, 2)).parse_args()
    runs = json.loads(options.output.read_text(encoding="utf-8"))["runs"] if options.output.exists() else []
    left = [seed for seed in options.seeds if seed not in {run["seed"] for run in runs}]
    if left and not options.table:
        films, test, read = prepared()
        about = {"command": "make study STUDY=editing", "machine": runtime.machine(), "source": "phantom"}
        for seed in left:
            edit = Editors(films, seed)
            if seed == options.seeds[0]:
                picture(edit, test).savefig(options.output.with_suffix(".png"), bbox_inches="tight")
            runs.append({"seed": seed, "edits": as_lists(edits_of(edit, read, test)),
                         "maps": as_lists(finding(edit, read, test))})
            progress(f"seed {seed}: done")
            found = json.dumps({"settings": about, **together(runs), "runs": runs})
            options.output.write_text(found + "\n", encoding="utf-8")
    print(table(json.loads(options.output.read_text(encoding="utf-8"))))


if __name__ == "__main__":
    main()
