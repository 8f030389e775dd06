"""Chapter 4's changes to the textbook's GAN one at a time: taken away from ours, and added to the textbook's.

    make study STUDY=gan_ablation        writes chapters/figures/gan_ablation.json; twelve minutes, three seeds
    make study STUDY=gan_ablation ARGS="--table"   prints its table again

Equal steps for every row. Networks and losses are the chapter's own; what the textbook has instead is named beside each
change. Rows that pair convolutions with batches of 256 cost eight times as much and are run with --costly alone. What
is in the file is kept: a study that was stopped goes on, and --seeds adds to it.
"""

import json
from typing import Any

import genmed_core  # noqa: F401  (first: it sets how threads wait)  # isort: skip
import torch
from chapter_cells import FIGURES, definitions, markdown, mean_sd, parser_of, progress, said
from torch import nn

from genmed_core import data, kernels, metrics, nets, runtime, train

FILE = FIGURES / "gan_ablation.json"
STEPS = 600
CHANGES = {  # name: what the textbook has instead
    "convolutions, 64 numbers of noise": "perceptrons, 8 numbers", "penalty on steepness": "none",
    "no momentum": "`β₁ = 0.9`", "rate 2e-3, then falling": "`2e-4` throughout", "averaged weights": "the last weights",
    "batch of 32": "256", "one batch of fakes for both": "fresh fakes for G",
}
CONVOLUTIONS, PENALTY, NO_MOMENTUM, RATE, AVERAGE, BATCH, SHARED = CHANGES
EVERY = frozenset(CHANGES)


def games() -> dict[str, frozenset[str]]:
    """{row: the changes it has}: both ends, then each change taken away from all and added to none."""
    rows = {"ours": EVERY} | {f"ours − {name}": EVERY - {name} for name in CHANGES}
    return rows | {"the book's": frozenset()} | {f"the book's + {name}": frozenset({name}) for name in CHANGES}


def networks(c: dict[str, Any], changes: frozenset[str]) -> tuple[nn.Module, nn.Module, int]:
    """Generator and critic, for pixels in [-1, 1], and how many numbers of noise the generator takes."""
    if CONVOLUTIONS in changes:
        pair = nets.DigitGenerator(c["LATENT"]), nets.DigitCritic()
        return *(net.to(memory_format=torch.channels_last) for net in pair), c["LATENT"]
    G, D = c["book_networks"]()
    return nn.Sequential(*G, ToTanhRange()), nn.Sequential(FromTanhRange(), *list(D)[:-1], Float()), 8


class ToTanhRange(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * x - 1


class FromTanhRange(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x + 1) / 2


class Float(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.float()


def losses(c: dict[str, Any], G: nn.Module, D: nn.Module, changes: frozenset[str], latent: int) -> tuple:
    """The chapter's two losses at this noise and weight of the penalty; with fresh fakes for G if not shared."""
    c["LATENT"], c["GAMMA"] = latent, c["GAMMA"] if PENALTY in changes else 0.0
    discriminator_loss, generator_loss = c["make_losses"](G, D)
    if SHARED in changes:
        return discriminator_loss, generator_loss

    def on_fresh_fakes(batch):
        with runtime.autocast(c["device"]):
            fake = G(torch.randn(len(batch.x), latent, device=c["device"]))
            score = D(fake)[:, 0].float()
        loss = nn.functional.softplus(-score).mean()
        return loss, {"G": loss.detach()}

    return discriminator_loss, on_fresh_fakes


def optimizer(net: nn.Module, changes: frozenset[str]) -> torch.optim.Optimizer:
    betas = (0.0, 0.99) if NO_MOMENTUM in changes else (0.9, 0.999)
    return torch.optim.Adam(net.parameters(), lr=2e-3 if RATE in changes else 2e-4, betas=betas, fused=True)


def play(changes: frozenset[str], seed: int, title: str) -> tuple[dict[str, torch.Tensor], float]:
    """Train one game -> {"last", "average": 2,000 drawings in [0, 1]}, seconds."""
    c = definitions("04_gan", ("F", "train_set", "book_networks", "make_losses"), seed=seed)
    torch.manual_seed(seed)
    G, D, latent = networks(c, changes)
    pair = losses(c, G, D, changes, latent)
    batch = 32 if BATCH in changes else 256
    step = kernels.TrainStep(
        [kernels.Update(loss, optimizer(net, changes)) for loss, net in zip(pair, (D, G))],
        batches=kernels.Batches(c["train_set"], batch_size=batch, device=c["device"], seed=seed),
        model={"G": G, "D": D}, ema=0.998, seed=seed,
        schedule=kernels.linear_decay(warmup=0.0, flat=0.5) if RATE in changes else None)
    history = train.fit(step, runtime.budget(STEPS), reports=10, title=title)
    torch.manual_seed(seed + 1)
    z = torch.randn(2000, latent)
    with torch.no_grad():
        pictures = {name: net.eval()(z).float() / 2 + 0.5 for name, net in
                    (("last", G), ("average", step.ema_model["G"]))}
    return pictures, history.seconds


def rows_of(name: str, changes: frozenset[str], seed: int, reference: metrics.RealReference) -> list[dict]:
    """A game's row; with the averaged weights or the last, whichever it has, and the other as a row of its own."""
    pictures, seconds = play(changes, seed, f"{name}, seed {seed}")
    kinds = {name: "average" if AVERAGE in changes else "last"}
    if changes == EVERY:
        kinds[f"ours − {AVERAGE}"] = "last"
    if not changes:
        kinds[f"the book's + {AVERAGE}"] = "average"
    found = []
    for row, kind in kinds.items():
        report = metrics.sample_report(pictures[kind].clamp(0, 1), reference)
        figures = {key: float(f"{report[key]:.6g}") for key in ("fd", "fd_ratio", "recall", "coverage", "classes")}
        found.append({"name": row, "seed": seed, "seconds": round(seconds, 1), **figures})
    return found


def costly(changes: frozenset[str]) -> bool:
    return CONVOLUTIONS in changes and BATCH not in changes


def table(rows: list[dict]) -> str:
    def cells(name):
        of_row = [r for r in rows if r["name"] == name]
        if not of_row:
            return ["not run", ""]
        found = [said(mean_sd([r[key] for r in of_row]), digits) for key, digits in (("fd_ratio", 0), ("coverage", 2))]
        return [text.split(" ±")[0] for text in found] if len(of_row) == 1 else found

    lines = [["all: ours", "", *cells("ours"), "", ""], ["none: the book's", "", "", "", *cells("the book's")]]
    for name, instead in CHANGES.items():
        lines.append([name, instead, *cells(f"ours − {name}"), *cells(f"the book's + {name}")])
    heading = ["change", "the book has", "FD / floor, ours without it", "coverage", "FD / floor, the book's with it"]
    return markdown([*heading, "coverage"], lines)


def main():
    parser = parser_of(__doc__, FILE)
    parser.add_argument("--costly", action="store_true", help="also convolutions with batches of 256")
    options = parser.parse_args()
    kept = json.loads(options.output.read_text(encoding="utf-8")) if options.output.exists() else {"rows": []}
    if not options.table:
        test, val = data.digits("test"), data.digits("val")
        reference = metrics.real_reference(test, held_out=val)
        kept |= {"source": test.source, "machine": runtime.machine(), "samples": reference.n, "steps": STEPS,
                 "floor": {"fd": reference.floor["fd"]}}
        for seed in options.seeds:
            for name, changes in games().items():
                there = {(r["name"], r["seed"]) for r in kept["rows"]}
                if (name, seed) not in there and (options.costly or not costly(changes)):
                    kept["rows"] += rows_of(name, changes, seed, reference)
                    progress(str(kept["rows"][-1]))
                    options.output.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(table(kept["rows"]))


if __name__ == "__main__":
    main()
