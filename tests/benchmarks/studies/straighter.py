"""One to four steps: the straight-path network of chapter 11, trained on with its own pairs (reflow) and without.

    make study STUDY=straighter     writes chapters/figures/straighter.json; a quarter of an hour of one core a seed
    make study STUDY=straighter ARGS="--table"     prints its table again

Liu et al. 2023: noises and the images at the end of their own ODE are pairs whose lines cross less than those of pairs
at random, so a network trained on them walks straighter. The base is `flow_matching.py`'s, trained with logit-normal
times: chapter 8's cells with three lines replaced. It draws `PAIRS` pairs, labels as frequent as in the data, guided
as it always is, by Heun's method in `STEPS_OF_PAIRS` steps. Then it is trained on, from its averaged weights, with
chapter 8's batch and rate, for `STEPS` steps at even times, on these pairs or on pairs at random: nothing else differs.
Where pairs are its own, guidance is in them already, so the network is then asked with the label alone, which halves
its work; the others are guided. Everything else, from the stops to the judge, is `flow_matching.py`'s. No setting was
chosen by a result. Trainings and pairs are kept in `runs/`: a study that was stopped goes on.
"""

import json
from collections.abc import Callable
from typing import Any

import flow_matching as paths
import torch
from chapter_cells import FIGURES, markdown, parser_of, progress
from torch import Tensor

from genmed_core import cache, diffusion, kernels, metrics, nets, runtime, train
from genmed_core import flow_matching as flow

FILE = FIGURES / "straighter.json"
PAIRS, STEPS_OF_PAIRS, STEPS, PASSES = 10_000, 4, 1200, (1, 2, 4, 10)
KINDS = {"base": "straight path, logit-normal t", "on": "trained on, pairs at random",
         "reflow": "trained on, its own pairs"}


def own_pairs(c: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """Noises and where their paths end, in [-1, 1]: (PAIRS, 2, 28, 28) float32, and labels (PAIRS,)."""
    y = c["labels_like_the_data"](PAIRS)
    y = y[torch.randperm(PAIRS, generator=torch.Generator().manual_seed(c["seed"]))]

    def make() -> tuple[dict[str, Tensor], dict[str, str]]:
        generator, tell, parts = torch.Generator().manual_seed(10_000 + c["seed"]), cache.progress("pairs", PAIRS), []
        velocity = flow.from_network(c["denoiser"](c["net"]))
        for part in y.split(100):
            u = flow.guided(velocity, part, null=c["unet"].null, guidance=paths.GUIDANCE,
                            between=paths.SETTLED["straight"])
            start = torch.randn(len(part), 1, 28, 28, generator=generator)
            end = flow.ode_sample(flow.clipped(u), start, flow.times(STEPS_OF_PAIRS, paths.SHIFT), "heun")
            parts.append(torch.cat([start, end], 1))
            tell(100 * len(parts))
        return {"pairs": torch.cat(parts)}, {}

    made_from = [c["kind"], c["seed"], c["step"].count, PAIRS, STEPS_OF_PAIRS, paths.SHIFT, paths.GUIDANCE]
    return cache.cached("straighter", made_from, make)[0]["pairs"], y


def loss_of(model: nets.UNet, paired: bool, T: int = 1000) -> Callable:
    """-> loss_fn(batch): chapter 11's, on pairs (B, 2, 28, 28) of noise and image, or on images (B, 1, 28, 28)."""

    def loss_fn(batch: kernels.Batch) -> tuple[Tensor, dict]:
        x = batch.x[:, 1:] if paired else 2 * batch.x - 1
        eps = batch.x[:, :1] if paired else torch.randn_like(x)
        k = diffusion.stratified_timesteps(len(x), T, device=x.device)
        y = torch.where(torch.rand(len(x), device=x.device) < 0.1, model.null, batch.y)
        with runtime.autocast(x.device):
            u_hat = model(flow.interpolate(x, eps, 1 - (k + 1) / T), k, y)
        return (flow.velocity_target(x, eps) - u_hat).square().mean(), {}

    return loss_fn


def trained_on(c: dict[str, Any], kind: str) -> dict[str, Any]:
    """The base's names, its network trained on on its own pairs ("reflow") or on pairs at random ("on")."""
    if kind == "base":
        return c
    paired = kind == "reflow"
    torch.manual_seed(c["seed"])
    net = c["nets"].UNet()
    net.load_state_dict(c["net"].state_dict())
    data = own_pairs(c) if paired else (c["train_set"],)
    step = kernels.TrainStep(
        loss_of(net, paired), torch.optim.AdamW(net.parameters(), lr=c["RATE"], betas=(0.9, 0.99), fused=True),
        batches=kernels.Batches(*data, batch_size=c["BATCH"], seed=c["seed"]), model=net, ema=0.997, seed=c["seed"],
        schedule=kernels.linear_decay(0.05))
    history = train.fit(step, runtime.budget(STEPS), title=f"{kind}, seed {c['seed']}",
                        checkpoint=f"straighter_{kind}_{c['seed']}.pt")
    return c | {"net": step.ema_model.eval(), "history": history}


def measured(c: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    """A row for each number of passes."""
    asked = c["labels_like_the_data"](paths.SAMPLES)
    reference, rows = metrics.real_reference(c["test_set"], held_out=c["val_set"], n=paths.SAMPLES), []
    for passes in PASSES:
        x = paths.draw_straight(c, asked, flow.times(passes, paths.SHIFT), "euler",
                                guidance=None if kind == "reflow" else paths.GUIDANCE)
        report = metrics.sample_report(x, reference, asked)
        row = {"kind": kind, "seed": c["seed"], "passes": passes, "seconds": round(c["history"].seconds, 1)}
        rows.append(row | {name: float(f"{report[name]:.6g}")
                           for name in ("fd", "fd_ratio", "precision", "recall", "read_accuracy")})
        progress(str(rows[-1]))
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """Fréchet distances over their floor by passes, means over seeds."""
    lines = []
    for kind, name in KINDS.items():
        same = [r for r in rows if r["kind"] == kind]
        cells = [paths.told([r["fd_ratio"] for r in same if r["passes"] == n]) for n in PASSES]
        lines.append([name, str(len({r["seed"] for r in same})), *cells])
    return markdown(["Fréchet distance / floor, by passes", "seeds", *map(str, PASSES)], lines)


def main() -> None:
    parser = parser_of(__doc__, FILE)
    options = parser.parse_args()
    file = options.output
    rows = json.loads(file.read_text(encoding="utf-8"))["rows"] if file.exists() else []
    for seed in [] if options.table else options.seeds:
        todo = [kind for kind in ("base", "reflow", "on") if (kind, seed) not in {(r["kind"], r["seed"]) for r in rows}]
        c = paths.trained("logit", seed) if todo else {}
        for kind in todo:
            rows += measured(trained_on(c, kind), kind)
            about = {"machine": runtime.machine(), "samples": paths.SAMPLES, "pairs": PAIRS,
                     "steps_of_pairs": STEPS_OF_PAIRS, "steps": STEPS, "guidance": paths.GUIDANCE, "shift": paths.SHIFT}
            file.write_text(json.dumps(about | {"rows": rows}, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(table(rows))


if __name__ == "__main__":
    main()
