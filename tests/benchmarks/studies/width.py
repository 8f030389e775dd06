"""How few numbers hold a digit? Chapter 1's autoencoder and principal components at seven widths of the code.

    make study STUDY=width                  writes chapters/figures/width.json; about 3 minutes of one core
    make study STUDY=width ARGS="--table"   prints its table again

The time is an estimate: its parts have been tried, and no stored result exists yet.

The network of chapter 1, without the rectifier on the code, is trained by that chapter's cells, for 500 steps. Two
measures of the copies of test images: squared error per pixel, and the share that our reader of digits reads as their
label.
"""

import argparse
import json

from genmed_core import metrics, runtime  # first: it sets how threads wait

import torch  # isort: skip
from chapter_cells import FIGURES, definitions, markdown, mean_sd, progress, said

WIDTHS = (1, 2, 4, 8, 16, 32, 64)
READ, STEPS = 2000, 500  # test images whose copies are read; training steps


def one_seed(seed):
    """{name of the method: {width: {"error", "read"}}}, and what is read of the images themselves."""
    names = ("F", "x_train", "pca_encode", "AutoEncoder", "train_model")
    c = definitions("01_autoencoder", names, seed=seed)
    x, y = c["x_test"], c["y_test"]

    def judged(copy):
        read = (metrics.read_digits(copy[:READ]).argmax(1) == y[:READ]).double().mean().item()
        return {"error": c["mse"](copy, x), "read": read}

    found = {"autoencoder": {}, "PCA": {}, "originals": {"784": judged(x)}}
    for d in WIDTHS:
        torch.manual_seed(seed)
        model = c["AutoEncoder"](code=d, code_relu=False, mean=c["mean"])
        c["train_model"](model, c["squared_error"], f"{d} numbers", steps=STEPS, seed=seed)
        found["autoencoder"][str(d)] = judged(model(x))
        found["PCA"][str(d)] = judged(c["pca_decode"](c["pca_encode"](x, d)))
        progress(f"seed {seed}: {d} numbers {found['autoencoder'][str(d)]}")
    return found | {"source": c["train_set"].source}


def together(runs):
    """Means and deviations over seeds."""
    methods = {}
    for method in ("autoencoder", "PCA", "originals"):
        widths = runs[0][method]
        methods[method] = {d: {m: mean_sd([run[method][d][m] for run in runs]) for m in widths[d]} for d in widths}
    return methods


def table(found):
    """A row for each width."""
    lines = []
    for d, ae in found["autoencoder"].items():
        pca = found["PCA"][d]
        read = f"{100 * ae['read']['mean']:.1f} ± {100 * ae['read']['sd']:.1f}"
        lines.append([d, f"{pca['error']['mean']:.4f}", said(ae["error"], 4), f"{100 * pca['read']['mean']:.1f}", read])
    heading = ["numbers", "error, PCA", "error, autoencoder", "read rightly, PCA, %", "read rightly, autoencoder, %"]
    return markdown(heading, lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--output", default=str(FIGURES / "width.json"))
    parser.add_argument("--table", action="store_true", help="print the table of what is there")
    arguments = parser.parse_args()
    runs = []
    for seed in [] if arguments.table else arguments.seeds:  # the file holds the seeds that are done
        runs.append(one_seed(seed))
        settings = {"command": "make study STUDY=width", "seeds": arguments.seeds[: len(runs)],
                    "source": runs[0]["source"], "images read": READ, "steps": STEPS, "machine": runtime.machine()}
        with open(arguments.output, "w", encoding="utf-8") as file:
            json.dump({"settings": settings, **together(runs)}, file, indent=1)
            file.write("\n")
    with open(arguments.output, encoding="utf-8") as file:
        print(table(json.load(file)))


if __name__ == "__main__":
    main()
