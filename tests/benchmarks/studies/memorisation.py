"""When does a diffusion model learn its patients by heart? Chapter 9's latent diffusion on 20 to 2,400 of them.

    make study STUDY=memorisation                                 about half an hour of one core
    python tests/benchmarks/studies/memorisation.py --table       prints the table of the stored figures
    python tests/benchmarks/studies/memorisation.py --page        draws the figure, puts the table into its page

The chapter's own cells, at equal steps for all numbers of phantoms. Its autoencoder learns the 800 test phantoms alone,
which play no other part, so all that is remembered of a training patient the denoiser remembers. With augmentation
each phantom is seen in eight poses: as it is, and turned up to 5 degrees, zoomed up to 5 %, shifted up to two pixels.
500 samples, drawn without guidance, are audited with half the usual effort against the training phantoms and the 800
of the validation set. A seed chooses the phantoms, the weights and the draws; two numbers of phantoms have three seeds.
All settings were chosen before any figure was seen.
"""

import argparse
import json
import os
import time
from pathlib import Path

import _charts
import _films
import numpy as np
import torch
from audit_truth import PRIVACY

from genmed_core import audit, plots
from genmed_core.audit.views import placed, random_pose

JSON, PAGE = _films.CHAPTERS / "figures" / "memorisation.json", _films.CHAPTERS / "audit_truth.md"
COUNTS, STEPS, STRIDES, SAMPLES, POSES = (20, 60, 200, 600, 2400), 800, 25, 500, 8
EFFORT = 200  # steps of the embedding's training
SEEDS = {200: (0, 1, 2), 600: (0, 1, 2)}  # of the others 0 alone
NEEDED = ("import genmed_core", "data.cxr(split)", "def to_signed", "class Residual(", "class RadiographVAE",
          "def vae_loss", "def train_vae", "def in_parts", "def to_latents", "def latent_loss", "def sampler(")
MEASURES = ("membership", "hits_1", "hits_01", "embedded_close", "embedded_close_held_out", "close", "authenticity")


def chapter():
    """The chapter's names, its autoencoder trained on the test phantoms; and the training and validation films."""
    os.environ.update(GENMED_SEED="0", GENMED_DATA_SOURCE="embedded")
    from genmed_core import chapters

    cells, names = chapters.cells(_films.CHAPTER), {"__name__": "chapter"}
    first, second, *others = [cell for cell in cells if any(words in cell.source for words in NEEDED)]
    chapters.run([first, second], names, _films.CHAPTER.name)
    train, held = names["train_set"], names["val_set"].images
    names["train_set"] = names["test_set"]
    chapters.run(others, names, _films.CHAPTER.name)
    return names, train, held


def in_poses(films, labels, poses, seed):
    """Films and their labels, `poses` times: first as they are, then placed anew."""
    generator, found = torch.Generator().manual_seed(seed), [films]
    for _ in range(poses - 1):
        pose = random_pose(len(films), generator, turn=5, zoom=1.05, shift=2 / 64, mirror=0)
        found.append((255 * placed(films.float() / 255, pose)).round().to(torch.uint8))
    return torch.cat(found), labels.repeat(poses)


def drawn(names, films, labels, poses, seed):
    """500 samples of a denoiser trained on these films, and the seconds of training."""
    some, classes = in_poses(films, labels, poses, seed)
    latents = (names["to_latents"](some, seed=seed) - names["m"]) / names["s"]
    net, history = names["train_denoiser"](latents, classes, STEPS, f"{len(films)} films, {poses} poses", seed=seed)
    asked = labels.sort().values[torch.linspace(0, len(labels) - 1, SAMPLES).long()]
    return names["draw"](net, asked, seed=seed, steps=STRIDES), history.seconds


class Judge:
    """The audit's questions of privacy, with what was learned of one choice of training films."""

    def __init__(self, films, held, seed):
        self.known = audit.Known(films, held, np.random.default_rng(seed), steps=EFFORT)
        self.counts = dict(zip(audit.SETS, (len(films), len(held), SAMPLES)))
        self.canaries = None

    def __call__(self, samples, seed):
        neighbours = audit.Neighbours(self.known, samples, np.random.default_rng(seed))
        found = audit.privacy(neighbours)
        self.canaries = self.canaries or audit.canaries(neighbours, found["copy_bars"])
        originals = len({pair["train"] for pair in found["copies"]})
        for pair in found["copies"]:
            pair["synthetic"], pair["train"] = str(pair["synthetic"]), str(pair["train"])
        report = {"privacy": found, "counts": self.counts, "canaries": self.canaries}
        verdicts = {v["question"]: v["verdict"] for v in audit.judge(report, PRIVACY)}
        figures = {key: {k: found[key][k] for k in ("value", "low", "high")} for key in MEASURES}
        return {"copies": len(found["copies"]), "copied": found["copied"], "originals": originals, **figures,
                "beyond": found["risk"]["beyond"], "verdicts": verdicts}


def fidelity(names, held, pool):
    """samples -> Fréchet distance from held-out films, over that of as many training films."""
    features = [audit.random_features(x) for x in (pool, held)]
    project = audit.leading_directions(features[1])
    real, strangers = (project(x) for x in features)

    def over_floor(samples):
        fake = project(audit.random_features(samples))
        found = audit.quality(real, strangers, fake, (pool, held, samples), np.random.default_rng(0))
        return found["synthetic"]["fd"] / found["floor"]["fd"], found["synthetic"]["detail"]

    return over_floor


def measured(names, train, held, runs, store):
    """All runs that are not among `runs` yet, the first seed's before the others'; store(runs) after each."""
    over_floor = fidelity(names, held, train.images)
    done = {(run["films"], run["seed"]) for run in runs if run["poses"] == POSES}  # the second of its pair
    runs[:] = [run for run in runs if (run["films"], run["seed"]) in done]
    todo = [(n, seed) for seed in range(3) for n in COUNTS if seed in SEEDS.get(n, (0,)) and (n, seed) not in done]
    for n, seed in todo:
        rows = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))[:n]
        films, labels = train.images[rows], train.labels[rows]
        judge = Judge(films, held, seed)
        for poses in (1, POSES):
            began = time.process_time()
            samples, seconds = drawn(names, films, labels, poses, seed)
            fd, detail = over_floor(samples)
            runs.append({"films": n, "poses": poses, "seed": seed, "train_seconds": seconds, "fd": fd,
                         "detail": detail, **judge(samples, seed)})
            print(f"{n} films, {poses} poses, seed {seed}: {runs[-1]['copies']} copies, "
                  f"{time.process_time() - began:.0f} s", flush=True)
            store(runs)


def percent(found):
    return f"{100 * found['value']:.1f} ({100 * found['low']:.1f} to {100 * found['high']:.1f})"


def table(stored):
    """The runs as Markdown, one a row; hits with their intervals."""
    lines = ["| films | augmented | seed | copies in 500 | of films | hits at 1 %, % | at 0.1 %, % | embedding, % | "
             "of held-out, % | Fréchet, floors | questions failed |",
             "|--:|:--|--:|--:|--:|--:|--:|--:|--:|--:|--:|"]
    for run in sorted(stored["runs"], key=lambda r: (r["films"], r["poses"], r["seed"])):
        failed = sum(v == "fail" for v in run["verdicts"].values())
        cells = [f"{run['films']:,}", "yes" if run["poses"] > 1 else "no", run["seed"], run["copies"],
                 run["originals"], percent(run["hits_1"]), percent(run["hits_01"]),
                 f"{100 * run['embedded_close']['value']:.0f}", f"{100 * run['embedded_close_held_out']['value']:.0f}",
                 f"{run['fd']:.1f}", f"{failed} of {len(run['verdicts'])}"]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


PANELS = {"copied": "copies, % of samples", "hits_1": "known at 1 % false alarms, %",
          "embedded_close": "close by embedding, %"}


def figure(stored):
    """Three measures over the number of films, without and with augmentation, each run with its interval."""
    fig, axes = plots.figure(8.4, 3.1, 1, len(PANELS))
    for ax, (key, title) in zip(axes, PANELS.items()):
        for poses, colour, marker in ((1, _charts.ORANGE, "o"), (POSES, _charts.BLUE, "s")):
            runs = [run for run in stored["runs"] if run["poses"] == poses]
            for run in runs:
                moved = 0.93 if poses == 1 else 1.07  # or one would hide the other
                _charts.upright(ax, moved * run["films"] * (1 + 0.05 * run["seed"]), run[key], colour, marker=marker,
                                scale=100)
            first = sorted((run["films"], 100 * run[key]["value"]) for run in runs if run["seed"] == 0)
            ax.plot(*zip(*first), color=colour, linewidth=0.9, label="no augmentation" if poses == 1 else "eight poses")
        ax.set(xscale="log", title=title, xlabel="training films", ylim=(-3, 103))
        ax.set_xticks(COUNTS, [str(n) for n in COUNTS])
        ax.minorticks_off()
    axes[1].axhline(1, color=_charts.GREY, linestyle="--", linewidth=1)
    axes[2].axhline(5, color=_charts.GREY, linestyle="--", linewidth=1)
    axes[0].legend(frameon=False)
    return fig


def fill(page, rows):
    """Put the table between its comments in the page."""
    begin, end = (f"<!-- {words}memorisation table -->\n" for words in ("", "end "))
    before, _, rest = page.read_text(encoding="utf-8").partition(begin)
    _, _, after = rest.partition(end)
    page.write_text(f"{before}{begin}\n{rows}\n\n{end}{after}", encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--output", type=Path, default=JSON)
    parser.add_argument("--table", action="store_true", help="only print the stored table")
    parser.add_argument("--page", action="store_true", help="draw the stored figure and fill the table of the page")
    options = parser.parse_args()
    if not options.table and not options.page:
        names, train, held = chapter()
        settings = {"steps": STEPS, "strides": STRIDES, "samples": SAMPLES, "poses": POSES, "held_out": len(held),
                    "embedding_steps": EFFORT}
        measured(names, train, held, _films.stored_runs(options.output),
                 lambda runs: _films.write(options.output, names, settings=settings, runs=runs))
    stored = json.loads(options.output.read_text(encoding="utf-8"))
    if not options.table:
        _charts.svg(figure(stored), options.output.with_suffix(".svg"))
        fill(PAGE, table(stored))
    print(table(stored))


if __name__ == "__main__":
    main()
