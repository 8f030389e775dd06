"""How few numbers hold a digit? Chapter 1's autoencoder and principal components at seven widths of the code.

    make study STUDY=width                  writes chapters/figures/width.json; about 2 minutes of one core
    make study STUDY=width ARGS="--table"   prints its table again

The network of chapter 1, without the rectifier on the code, is trained by that chapter's cells, for 500 steps. Two
measures of the copies of test images: squared error per pixel, and the share that our reader of digits reads as their
label.
"""

from genmed_core import metrics  # first: it sets how threads wait

import torch  # isort: skip
from chapter_cells import definitions, markdown, mean_sd, progress, run_seeds, said

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
        pca, read = found["PCA"][d], ae["read"]
        lines.append([d, f"{pca['error']['mean']:.4f}", said(ae["error"], 4), f"{100 * pca['read']['mean']:.1f} %",
                      f"{100 * read['mean']:.1f} % ± {100 * read['sd']:.1f} %"])
    heading = ["numbers", "error, PCA", "error, autoencoder", "read rightly, PCA", "read rightly, autoencoder"]
    return markdown(heading, lines)


if __name__ == "__main__":
    run_seeds(__doc__, "width", one_seed, together, table, **{"images read": READ, "steps": STEPS})
