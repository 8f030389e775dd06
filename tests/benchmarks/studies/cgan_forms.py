"""Chapter 5's forms of a conditional GAN at equal steps: the same networks, batch, penalty and schedule for each.

    make study STUDY=cgan_forms        writes chapters/figures/cgan_forms.json; a quarter of an hour of one core
    make study STUDY=cgan_forms ARGS="--table"   prints its table again

Every form is trained by the chapter's own cells, with the rate constant for half of the steps and then falling, and is
asked for 200 drawings of each digit. One form is trained once more, for as many steps as chapter 4's GAN. What is in
the file is kept: a study that was stopped goes on, and --seeds adds to it.
"""

import json

import genmed_core  # noqa: F401  (first: it sets how threads wait)  # isort: skip
import torch
from chapter_cells import FIGURES, definitions, markdown, mean_sd, parser_of, progress, said

from genmed_core import data, metrics, runtime

FILE = FIGURES / "cgan_forms.json"
STEPS = 1000
FORMS = {  # name: (form, weight of the class term, steps)
    "eleven classes, weight 1": ("eleven classes", 1.0, STEPS),
    "eleven classes, weight 0.1": ("eleven classes", 0.1, STEPS),
    "auxiliary classifier": ("auxiliary", 1.0, STEPS), "label as input": ("label as input", 0.0, STEPS),
    "one output per class": ("one output per class", 0.0, STEPS),
    "one output per class, 3,000 steps": ("one output per class", 0.0, 3000),
}
CELLS = ("F", "train_set", "Discriminator", "make_losses", "draw", "train_cgan")
MEASURES = ("fd", "fd_ratio", "read_accuracy", "diversity", "recall", "coverage")


def row(name: str, seed: int, reference: metrics.RealReference) -> dict:
    """Train one form with one seed and measure its drawings; its own classifier reads them too, where it has one."""
    c = definitions("05_cgan", CELLS, seed=seed)
    form, weight, steps = FORMS[name]
    c["LONG"] = steps
    G, D, history = c["train_cgan"](form, steps, weight=weight, title=f"{name}, seed {seed}")
    torch.manual_seed(seed + 1)
    z, asked = torch.randn(2000, c["LATENT"]), torch.arange(2000) % 10
    x = c["draw"](G, z, asked)
    report = metrics.sample_report(x.clamp(0, 1), reference, asked)
    found = {"name": name, "seed": seed, "steps": runtime.budget(steps), "batch": c["BATCH"],
             "seconds": round(history.seconds, 1)}
    found |= {key: float(f"{report[key]:.6g}") for key in MEASURES}
    with torch.no_grad():
        classes = D(2 * x - 1, asked)[1]
    if classes is not None:
        found["own_classifier"] = (classes.argmax(1) == asked).double().mean().item()
    return found


def table(rows: list[dict], floor: dict) -> str:
    lines = [["*real digits, the floor*", f"{floor['fd']:.1f}", "1.0", f"{100 * floor['read_accuracy']:.1f} %", "",
              f"{floor['diversity']:.2f}", f"{floor['recall']:.2f}"]]
    for name in FORMS:
        of_form = [r for r in rows if r["name"] == name]

        def over_seeds(key, digits, factor=1, of_form=of_form):
            values = [factor * r[key] for r in of_form if key in r]
            text = said(mean_sd(values), digits) if values else ""
            return text.split(" ±")[0] if len(values) == 1 else text

        percent = [over_seeds(key, 1, 100) for key in ("read_accuracy", "own_classifier")]
        lines.append([name, over_seeds("fd", 0), over_seeds("fd_ratio", 1), *(p and p + " %" for p in percent),
                      over_seeds("diversity", 2), over_seeds("recall", 2)])
    return markdown(["discriminator", "FD", "FD / floor", "read as asked, by our reader", "by its own classifier",
                     "diversity", "recall"], lines)


def main():
    parser = parser_of(__doc__, FILE)
    options = parser.parse_args()
    kept = json.loads(options.output.read_text(encoding="utf-8")) if options.output.exists() else {"rows": []}
    if not options.table:
        test, val = data.digits("test"), data.digits("val")
        reference = metrics.real_reference(test, held_out=val)
        floor = {key: float(f"{reference.floor[key]:.6g}") for key in (*MEASURES, "fd_sd")}
        kept |= {"source": test.source, "machine": runtime.machine(), "samples": reference.n, "floor": floor}
        there = {(r["name"], r["seed"]) for r in kept["rows"]}
        for seed in options.seeds:
            for name in FORMS:
                if (name, seed) not in there:
                    kept["rows"].append(row(name, seed, reference))
                    progress(str(kept["rows"][-1]))
                    options.output.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    print(table(kept["rows"], kept["floor"]))


if __name__ == "__main__":
    main()
