"""Chapter 6's question, loss or limit: cross-entropy and Wasserstein loss, each without a penalty and with one.

    make study STUDY=two_by_two        writes chapters/figures/two_by_two.json; a quarter of an hour of one core
    make study STUDY=two_by_two ARGS="--table"   prints its table again

Networks, losses and the penalty (6.8) are the chapter's own cells; steps, batch, rates and schedule are equal in all
rows, and those of the chapter's WGAN-GP. One more penalty beside (6.8): chapter 4's (4.6), a finite difference that
asks for slope 0 at real and drawn points. On the ring five games with beginnings of their own are played at once, from
the first seed. What is in the file is kept: a study that was stopped goes on, and --seeds adds to it.
"""

import itertools
import json
from typing import Any

import genmed_core  # noqa: F401  (first: it sets how threads wait)  # isort: skip
import torch
from chapter_cells import FIGURES, definitions, markdown, mean_sd, parser_of, progress, said

from genmed_core import data, kernels, metrics, runtime

FILE = FIGURES / "two_by_two.json"
GAMES, RING_STEPS = 5, 1500
LOSSES = {"cross-entropy": False, "Wasserstein": True}
PENALTIES = ("none", "slope 1 between, (6.8)", "slope 0 at the points, (4.6)")
WEIGHTS = {"ring": {PENALTIES[1]: 1.0, PENALTIES[2]: 0.1}, "digits": {PENALTIES[1]: 10.0, PENALTIES[2]: 0.1}}
CELLS = ("F", "train_set", "Stack", "gradient_penalty", "critic_terms", "points_of", "held", "play")
DIGIT_CELLS = ("F", "train_set", "gradient_penalty", "critic_terms", "digit_game", "draw")
SIGMA = 0.05


def steepness(critic, real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
    """Chapter 4's (4.6) at real and drawn points (n, B, d) -> (n,), in the place of the chapter's gradient_penalty."""
    x = torch.cat([real, fake], 1)[:, ::2]
    change = critic(x + SIGMA * torch.randn_like(x)) - critic(x)  # (n, B, 1)
    return (change / SIGMA).square().mean((1, 2))


def rule_of(c: dict[str, Any], loss: str, penalty: str, where: str) -> Any:
    """The chapter's Rule of a row; (4.6) takes the place of (6.8) in its cells where the row asks for it."""
    if penalty == PENALTIES[2]:
        c["gradient_penalty"] = steepness
    weight = WEIGHTS[where].get(penalty, 0.0)
    rule = c["Rule"](wasserstein=LOSSES[loss], sigmoid=False, penalty=weight, momentum=0.0)
    return rule._replace(critic_steps=2, rates=(2e-3, 4e-3)) if where == "ring" else rule


def on_ring(loss: str, penalty: str, seed: int) -> dict:
    """Five games at once -> modes held of 8, by game, and the sliced distance."""
    c = definitions("06_wgan", CELLS, seed=seed)
    c["histories"] = {}
    title = f"ring, {loss}, {penalty}"
    G, _, _ = c["play"](rule_of(c, loss, penalty, "ring"), title, networks=GAMES, steps=RING_STEPS, reports=2,
                        schedule=kernels.linear_decay(0, flat=0.5))
    points = c["points_of"](G)
    _, near, sliced = c["judge"](points)
    return {"held": c["held"](points).tolist(), "near": [float(f"{v:.3f}") for v in near],
            "sliced": [float(f"{v:.4g}") for v in sliced],
            "seconds": round(c["histories"][title].seconds, 1)}


def on_digits(loss: str, penalty: str, seed: int, reference: metrics.RealReference) -> dict:
    """One game -> the report on 2,000 drawings."""
    c = definitions("06_wgan", DIGIT_CELLS, seed=seed)
    G, history = c["digit_game"](rule_of(c, loss, penalty, "digits"), f"digits, {loss}, {penalty}", c["DIGIT_STEPS"])
    report = metrics.sample_report(c["draw"](G, 2000, seed=seed), reference)
    return {"seconds": round(history.seconds, 1),
            **{key: float(f"{report[key]:.6g}") for key in ("fd", "fd_ratio", "precision", "recall", "coverage")}}


def table(rows: list[dict]) -> str:
    lines = []
    for penalty in PENALTIES:
        for loss in LOSSES:
            ring, digits = ([r for r in rows if (r["where"], r["loss"], r["penalty"]) == (where, loss, penalty)]
                            for where in WEIGHTS)
            games = [modes for r in ring for modes in r["held"]]
            if not games:
                continue
            cells = [said(mean_sd([r[key] for r in digits]), places) if digits else "not run"
                     for key, places in (("fd_ratio", 1), ("precision", 2), ("recall", 2), ("seconds", 0))]
            lines.append([loss, penalty, said(mean_sd(games), 1), f"{games.count(8)} of {len(games)}", *cells])
    return markdown(["loss", "penalty", "ring: modes held, of 8", "all 8", "digits: FD / floor", "precision", "recall",
                     "seconds"], lines)


def main():
    options = parser_of(__doc__, FILE).parse_args()
    kept = json.loads(options.output.read_text(encoding="utf-8")) if options.output.exists() else {"rows": []}
    if not options.table:
        test, val = data.digits("test"), data.digits("val")
        reference = metrics.real_reference(test, held_out=val)
        kept |= {"source": test.source, "machine": runtime.machine(), "samples": reference.n,
                 "floor": {"fd": float(f"{reference.floor['fd']:.6g}")}, "ring_steps": runtime.budget(RING_STEPS)}
        there = {(r["where"], r["seed"], r["penalty"], r["loss"]) for r in kept["rows"]}
        rows = [*itertools.product(["ring"], options.seeds[:1], PENALTIES, LOSSES),
                *itertools.product(["digits"], options.seeds, PENALTIES[:2], LOSSES),
                *itertools.product(["digits"], options.seeds, PENALTIES[2:], LOSSES)]
        for where, seed, penalty, loss in [row for row in rows if row not in there]:
            found = on_ring(loss, penalty, seed) if where == "ring" else on_digits(loss, penalty, seed, reference)
            kept["rows"].append({"where": where, "loss": loss, "penalty": penalty, "seed": seed, **found})
            progress(str(kept["rows"][-1]))
            options.output.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    print(table(kept["rows"]))


if __name__ == "__main__":
    main()
