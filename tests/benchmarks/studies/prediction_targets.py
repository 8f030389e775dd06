"""What chapter 8's U-Net should say: the noise, the image or v, at equal steps.

    make study STUDY=prediction_targets     writes chapters/figures/prediction_targets.json; half an hour of one core
    make study STUDY=prediction_targets ARGS="--table"     prints its table again

The chapter's cells train and draw: network, schedule, steps, batch, rate, moving average and labels left out are its
own; PREDICTS alone changes, and with it what the squared error is of. With "eps" it is L_simple. Every network is drawn
from without guidance and with the chapter's, in 20 steps with noise, 1,000 digits each. Bits per dimension come from
two test images at each of the 1,000 steps. What is in the file is kept: a study that was stopped goes on.
"""

import json
from typing import Any

import genmed_core  # noqa: F401  (first: it sets how threads wait)  # isort: skip
from chapter_cells import FIGURES, definitions, markdown, mean_sd, parser_of, progress, said

from genmed_core import metrics, runtime, train

FILE = FIGURES / "prediction_targets.json"
TARGETS = {"eps": "noise, L_simple", "x0": "image", "v": "v, the chapter's"}
NAMES = ("functools", "train_set", "T", "BF16", "ddpm_loss", "STEPS", "denoiser", "draw", "bound_terms")
DRAWN = {"plain": (1.0, 1.0), "guided": (2.0, 0.8)}  # guidance, and the share of the steps, from t = 0 on, that has it
SAMPLES, STRIDES, PER_STEP = 1000, 20, 2


def one(seed: int, target: str) -> dict[str, Any]:
    """A row: train by the chapter's cells with PREDICTS = target, draw, and measure on the test set."""
    c = definitions("08_ddpm", NAMES, seed=seed)
    c |= {"PREDICTS": target, "BF16": runtime.has_fast_bf16()}
    history = train.fit(c["step"], runtime.budget(c["STEPS"]), title=f"{target}, seed {seed}")
    model = c["step"].ema_model.eval()
    found = {"target": target, "seed": seed, "steps": c["step"].count, "seconds": round(history.seconds, 1),
             "source": c["test_set"].source}
    reference = metrics.real_reference(c["test_set"], held_out=c["val_set"], n=SAMPLES)
    asked = c["labels_like_the_data"](SAMPLES)
    for name, (guidance, share) in DRAWN.items():
        x = c["draw"](model, asked, steps=STRIDES, guidance=guidance, between=(0, share * c["T"]), eta=1.0)
        report = metrics.sample_report(x, reference, asked)
        found[name] = {key: float(f"{report[key]:.6g}") for key in ("fd", "fd_ratio", "recall", "read_accuracy")}
    terms, L_T = c["bound_terms"](model, PER_STEP)
    return found | {"bits": float(f"{terms.sum().item() + L_T:.6g}")}


def table(rows: list[dict]) -> str:
    """A row for each target, means over seeds."""
    def told(values: list[float], digits: int) -> str:
        text = said(mean_sd(values), digits)
        return text.split(" ±")[0] if len(values) == 1 else text

    lines = []
    for target, name in TARGETS.items():
        same = [r for r in rows if r["target"] == target]
        if not same:
            continue
        cells = [told([r[how]["fd_ratio"] for r in same], 1) for how in DRAWN]
        cells.append(told([r["guided"]["recall"] for r in same], 2))
        cells.append(told([100 * r["guided"]["read_accuracy"] for r in same], 1))
        lines.append([name, str(len(same)), *cells, told([r["bits"] for r in same], 2)])
    heading = ["predicts", "seeds", "FD / floor, no guidance", "FD / floor, guided", "recall", "read as asked, %"]
    return markdown([*heading, "bits per dimension"], lines)


def main() -> None:
    options = parser_of(__doc__, FILE).parse_args()
    kept = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {"rows": []}
    for seed, target in [] if options.table else [(s, t) for s in options.seeds for t in TARGETS]:
        if (seed, target) not in {(r["seed"], r["target"]) for r in kept["rows"]}:
            kept["rows"].append(one(seed, target))
            progress(str(kept["rows"][-1]))
            kept |= {"machine": runtime.machine(), "samples": SAMPLES, "drawn in": STRIDES}
            FILE.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(table(kept["rows"]))


if __name__ == "__main__":
    main()
