"""Drawings that a calibrated critic keeps, of the GANs of chapters 4 and 5, over three seeds.

    make study STUDY=rejection        writes chapters/figures/rejection.json; ten minutes of one core
    make study STUDY=rejection ARGS="--table"   prints its table again

Each generator is trained by its chapter's own cells. Scores are calibrated on validation images; the distances to
these, by which a share would be chosen, are stored beside those to test images. What is in the file is kept: a study
that was stopped goes on, and --seeds adds to it.
"""

import json
from typing import Any

import genmed_core  # noqa: F401  (first: it sets how threads wait)  # isort: skip
import torch
from chapter_cells import FIGURES, definitions, markdown, mean_sd, parser_of, progress, said

from genmed_core import data, metrics, runtime

FILE = FIGURES / "rejection.json"
SHARES = (1.0, 0.5, 0.35, 0.25, 0.15)
POOL = 16_000
GAN_CELLS = ("F", "train_set", "make_losses", "train_gan")
CGAN_CELLS = ("F", "train_set", "Discriminator", "make_losses", "draw", "train_cgan")
MODELS = {  # name: chapter, its cells, form
    "GAN": ("04_gan", GAN_CELLS, None),
    "one output per class": ("05_cgan", CGAN_CELLS, "one output per class"),
    "label as input": ("05_cgan", CGAN_CELLS, "label as input"),
}
MEASURES = ("fd", "fd_ratio", "precision", "recall", "coverage")


def trained(c: dict[str, Any], form: str | None) -> tuple:
    """Train by the chapter's cells -> draw(z, y), score(x, y) of pictures in [0, 1], steps, seconds."""
    if form is None:
        G, D, history = c["train_gan"](c["STEPS"])
        return lambda z, y: c["draw"](G, z), lambda x, y: D(2 * x - 1)[:, 0], c["STEPS"], history.seconds
    G, D, history = c["train_cgan"](form, c["LONG"])
    return lambda z, y: c["draw"](G, z, y), lambda x, y: D(2 * x - 1, y)[0], c["LONG"], history.seconds


@torch.no_grad()
def scores(score, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return torch.cat([score(*part) for part in zip(images.split(500), labels.split(500), strict=True)])


def probabilities(log_ratio: torch.Tensor, labels: torch.Tensor | None, share: float) -> torch.Tensor:
    """Acceptance probabilities (N,), with the same share kept of every label where there are labels."""
    if labels is None:
        return metrics.acceptance(log_ratio, share)
    found = torch.zeros(len(log_ratio))
    for label in labels.unique():
        found[labels == label] = metrics.acceptance(log_ratio[labels == label], share)
    return found


def row(name: str, seed: int, sets: dict[str, data.ImageSet], reference: metrics.RealReference) -> dict:
    """Train one model with one seed; what is kept of its drawings at each share, measured."""
    chapter, cells, form = MODELS[name]
    draw, score, steps, seconds = trained(definitions(chapter, cells, seed=seed), form)
    torch.manual_seed(seed + 1)
    asked = sets["test"].labels[:2000].repeat(POOL // 2000)
    pool = draw(torch.randn(POOL, 64), asked).clamp(0, 1)
    on_pool = scores(score, pool, asked)
    val = scores(score, sets["val"].images.float() / 255, sets["val"].labels)
    slope, offset = metrics.calibrate(val, on_pool[: len(val)])
    features, val_features = metrics.digit_features(pool), metrics.digit_features(sets["val"])
    chance, kept = torch.rand(POOL), []
    for share in SHARES:
        chosen = chance < probabilities(slope * on_pool + offset, None if form is None else asked, share)
        rows = chosen.nonzero()[: reference.n, 0]
        report = metrics.sample_report(pool[rows], reference, None if form is None else asked[rows])
        to_val = metrics.frechet_distance(val_features, features[rows])
        kept.append({"share": share, "drawings": len(rows), "fd_validation": float(f"{to_val:.6g}"),
                     **{key: float(f"{report[key]:.6g}") for key in MEASURES}})
    return {"name": name, "seed": seed, "steps": runtime.budget(steps), "seconds": round(seconds, 1),
            "slope": float(f"{slope:.4g}"), "kept": kept}


def table(rows: list[dict]) -> str:
    lines = []
    for name in MODELS:
        of_model = [r for r in rows if r["name"] == name]
        for i, share in enumerate(SHARES if of_model else ()):
            def over_seeds(key, digits, i=i, of_model=of_model):
                text = said(mean_sd([r["kept"][i][key] for r in of_model]), digits)
                return text if len(of_model) > 1 else text.split(" ±")[0]  # one seed has no deviation

            lines.append([name, str(len(of_model)), f"{share:.0%}",
                          over_seeds("fd_validation", 0), over_seeds("fd_ratio", 1),
                          *(over_seeds(key, 2) for key in ("precision", "recall", "coverage"))])
    return markdown(["model", "seeds", "kept", "FD, validation", "FD / floor, test", "precision", "recall", "coverage"],
                    lines)


def main():
    options = parser_of(__doc__, FILE).parse_args()
    kept = json.loads(options.output.read_text(encoding="utf-8")) if options.output.exists() else {"rows": []}
    if not options.table:
        sets = {split: data.digits(split) for split in ("val", "test")}
        reference = metrics.real_reference(sets["test"], held_out=sets["val"])
        floor = {key: float(f"{reference.floor[key]:.6g}") for key in ("fd", "precision", "recall", "coverage")}
        kept |= {"source": sets["test"].source, "machine": runtime.machine(), "samples": reference.n, "floor": floor}
        there = {(r["name"], r["seed"]) for r in kept["rows"]}
        for seed in options.seeds:
            for name in [name for name in MODELS if (name, seed) not in there]:
                kept["rows"].append(row(name, seed, sets, reference))
                progress(str(kept["rows"][-1]))
                options.output.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    print(table(kept["rows"]))


if __name__ == "__main__":
    main()
