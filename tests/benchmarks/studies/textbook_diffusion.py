"""The textbook's simple diffusion trained for long, beside chapter 7's model after equally many updates.

    make study STUDY=textbook_diffusion     writes chapters/figures/textbook_diffusion.json and .jpg; half an hour
    make study STUDY=textbook_diffusion ARGS="--table"     prints its table again

Both have the two layers of chapter 7 and are trained and drawn from by its cells, on batches of 512 grey images. The
textbook's 146,000 updates would take one core more than an hour: the first seed gets 30,000, the others 3,000. Two
readers judge: the book's, trained on clean digits, and one trained here on digits with 0 to 25 steps of noise. Real
images with known noise show what either can read. A study that was stopped goes on, from its file and from runs/.
"""

import json
from collections.abc import Callable
from typing import Any

import genmed_core  # noqa: F401  (first: it sets how threads wait)  # isort: skip
import numpy as np
import torch
from chapter_cells import FIGURES, definitions, markdown, mean_sd, parser_of, progress, said
from torch import Tensor, nn

from genmed_core import kernels, metrics, nets, plots, runtime, train

FILE = FIGURES / "textbook_diffusion.json"
LONG, SHORT = (600, 3000, 10_000, 30_000), (600, 3000)  # updates of the textbook's recipe, first seed and others
OURS = (600, 3000)  # of chapter 7's
NOISE = (0, 1, 2, 4, 9, 25)  # steps of noise on the real images that both readers are tried on
NAMES = ("F", "train_set", "SIGMA", "Denoiser", "fit_textbook", "fit_denoiser", "posterior_step", "class_start",
         "draw_textbook", "labels", "textbook_loss")
MEASURES = {"loss": 4, "fd_ratio": 1, "read": 1, "read under noise": 1, "corners": 2}
Judge = Callable[[Tensor, Tensor], dict[str, float]]


def reader_under_noise(c: dict[str, Any]) -> nn.Module:
    """A small reader of x_t (B, 1, 28, 28), trained on images with 0 to T steps of noise, each image another number."""
    torch.manual_seed(0)
    net = nets.DigitClassifier(width=16)

    def loss_fn(batch):
        steps = torch.randint(0, c["T"] + 1, (len(batch.x), 1, 1, 1))
        x_t = batch.x + steps.sqrt() * c["SIGMA"] * torch.randn_like(batch.x)
        with runtime.autocast(x_t.device):
            said_class = net(x_t)
        return nn.functional.cross_entropy(said_class.float(), batch.y), {}

    step = kernels.TrainStep(loss_fn, torch.optim.AdamW(net.parameters(), lr=2e-3), model=net, seed=0,
                             batches=kernels.Batches(c["train_set"], batch_size=64, seed=0),
                             schedule=kernels.linear_decay(0.1))
    train.fit(step, runtime.budget(1000), title="reader under noise")
    return net.eval()


def judge_of(c: dict[str, Any], reader: nn.Module) -> Judge:
    """-> judged(x, labels): distance in floors, both readers in percent, noise in the corners in sigma."""
    reference = metrics.real_reference(c["test_set"], held_out=c["val_set"])

    @torch.no_grad()
    def judged(x: Tensor, labels: Tensor) -> dict[str, float]:
        seen = torch.cat([reader(part) for part in x.split(500)]).argmax(1)
        shown = x.clamp(0, 1)
        corners = x.unflatten(2, (7, 4)).unflatten(4, (7, 4))[:, :, ::6, :, ::6]  # 4 by 4 pixels, black in a digit
        return {"fd_ratio": metrics.sample_report(shown, reference)["fd_ratio"],
                "read": 100 * (metrics.read_digits(shown).argmax(1) == labels).double().mean().item(),
                "read under noise": 100 * (seen == labels).double().mean().item(),
                "corners": corners.square().mean().sqrt().item() / c["SIGMA"]}

    return judged


def real_with_noise(c: dict[str, Any], judged: Judge) -> list[dict]:
    """What the judges say of 2,000 validation images with k steps of noise."""
    torch.manual_seed(0)
    rows = torch.randperm(len(c["val_set"]))[:2000]
    x0, y, found = c["val_set"].images[rows] / 255, c["val_set"].labels[rows], []
    for k in NOISE:
        found.append({"steps of noise": k, **_six(judged(x0 + k**0.5 * c["SIGMA"] * torch.randn_like(x0), y))})
        progress(str(found[-1]))
    return found


def textbook_rows(c: dict[str, Any], judged: Judge, seed: int, milestones: tuple[int, ...]):
    """Train by the textbook's recipe; yield a row at each milestone."""
    step = c["textbook_step"](0.1)
    for updates in milestones:
        history = train.fit(step, updates, title=f"textbook, seed {seed}", reports=max(1, updates // 500),
                            checkpoint=f"textbook_diffusion/{seed}.pt")
        samples = c["draw_textbook"](step.model, c["labels"])
        if seed == 0:
            _keep("textbook", updates, c["draw_textbook"](step.model, torch.arange(10)))
        yield row("the textbook's", updates, seed, history.seconds, c["textbook_loss"](step.model),
                  judged(samples, c["labels"]))


def our_rows(c: dict[str, Any], judged: Judge, seed: int, milestones: tuple[int, ...]):
    """Chapter 7's model, trained anew for each number of updates, since its rate falls to zero at the end."""
    for updates in milestones:
        net, history = c["fit_denoiser"](torch.sigmoid, "image", updates, f"ours, seed {seed}")

        def last_step(x_t, t, y, net=net):
            return (x_t - net(x_t, t, y)) / c["level"](t)  # (7.4)

        if seed == 0:
            _keep("ours", updates, c["draw"](net, torch.arange(10), c["class_start"]))
        yield row("ours", updates, seed, history.seconds, c["textbook_loss"](last_step),
                  judged(c["draw"](net, c["labels"], c["class_start"]), c["labels"]))


def row(model: str, updates: int, seed: int, seconds: float, losses: Tensor, found: dict[str, float]) -> dict:
    told = _six({"loss": losses.mean().item(), **found})
    return {"model": model, "updates": updates, "seed": seed, "seconds": round(seconds, 1), **told}


def _six(found: dict[str, float]) -> dict[str, float]:
    return {key: float(f"{value:.6g}") for key, value in found.items()}


def _strip(model: str, updates: int):
    folder = runtime.runs_dir() / "textbook_diffusion"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{model}-{updates}.npy"


def _keep(model: str, updates: int, ten: Tensor) -> None:
    np.save(_strip(model, updates), ten.clamp(0, 1).numpy())


def draw_figure() -> None:
    """figures/textbook_diffusion.jpg: the ten digits, first draws of the first seed, by number of updates."""
    strips = [(f"{name}, {n:,}", _strip(key, n)) for name, key, updates in
              (("textbook", "textbook", LONG), ("ours", "ours", OURS)) for n in updates]
    rows = {label: torch.from_numpy(np.load(path)) for label, path in strips if path.exists()}
    if rows:
        plots.show_rows(rows, width=6).savefig(FILE.with_suffix(".jpg"), dpi=110, pil_kwargs={"quality": 80})


def table(kept: dict) -> str:
    def cells(rows: list[dict]) -> list[str]:
        told = [said(mean_sd([r[key] for r in rows]), digits) for key, digits in MEASURES.items() if key in rows[0]]
        return [text.split(" ±")[0] for text in told] if len(rows) == 1 else told

    lines = []
    for model, updates in sorted({(r["model"], r["updates"]) for r in kept["rows"]}, reverse=True):
        rows = [r for r in kept["rows"] if (r["model"], r["updates"]) == (model, updates)]
        lines.append([model, f"{updates:,}", str(len(rows)), *cells(rows)])
    lines.sort(key=lambda line: (line[0] == "ours", int(line[1].replace(",", ""))))
    lines += [[f"real, steps of noise: {r['steps of noise']}", "", "", "", *cells([r])] for r in kept["real"]]
    heading = ["", "updates", "seeds", "loss", "FD / floor", "read as asked, %", "by the reader under noise, %"]
    return markdown([*heading, "noise in the corners, σ"], lines)


def run(kept: dict, c: dict[str, Any], judged: Judge, seed: int, book: tuple[int, ...]) -> None:
    """All rows of a seed that are not there yet."""
    there = {(r["model"], r["updates"]) for r in kept["rows"] if r["seed"] == seed}
    kept |= {"source": c["test_set"].source, "machine": runtime.machine()}
    for model, rows, milestones in (("the textbook's", textbook_rows, book), ("ours", our_rows, OURS)):
        for found in rows(c, judged, seed, tuple(n for n in milestones if (model, n) not in there)):
            kept["rows"].append(found)
            progress(str(found))
            FILE.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
            draw_figure()


def main() -> None:
    options = parser_of(__doc__, FILE).parse_args()
    kept = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {"rows": []}
    reader = None
    for seed in [] if options.table else options.seeds:
        c = definitions("07_simple_diffusion", NAMES, seed=seed)
        reader = reader or reader_under_noise(c)
        judged = judge_of(c, reader)
        if "real" not in kept:
            kept["real"] = real_with_noise(c, judged)
        run(kept, c, judged, seed, LONG if seed == options.seeds[0] else SHORT)
    print(table(kept))


if __name__ == "__main__":
    main()
