"""What the studies of chapter 9 share: the chapter's own cells, run on phantoms for one seed, and the command line."""

import json
import os
from pathlib import Path

from chapter_cells import CHAPTERS

CHAPTER = CHAPTERS / "09_ldm_cxr.py"
LEFT_OUT = "blurred ="  # the cell that no study needs and that takes time


def chapter(seed):
    """The chapter's names, with its autoencoder, its denoiser and its reader of films trained with this seed.

    Names such as `draw`, `score` and `read` are the chapter's own. Always on phantoms: their factors are known.
    """
    os.environ.update(GENMED_SEED=str(seed), GENMED_DATA_SOURCE="embedded")
    from genmed_core import chapters

    cells = chapters.cells(CHAPTER)
    last = next(i for i, cell in enumerate(cells) if "def sampler(" in cell.source)
    wanted = [cell for cell in cells[: last + 1] if LEFT_OUT not in cell.source]
    wanted += [cell for cell in cells[last + 1:] if "class FilmReader" in cell.source or "reader =" in cell.source]
    names = {"__name__": "chapter"}
    chapters.run(wanted, names, CHAPTER.name)
    return names


def write(path, names, **found):
    """Store what a study found, and on what machine."""
    stored = {"machine": names["runtime"].machine(), **found}
    with open(path, "w", encoding="utf-8") as file:
        file.write(json.dumps(stored, indent=1, allow_nan=False) + "\n")


def stored_runs(path):
    """The runs of a study that was begun before; none where its file is not there (delete it to begin anew)."""
    return json.loads(Path(path).read_text(encoding="utf-8"))["runs"] if Path(path).exists() else []


def mean_sd(values):
    """Mean and standard deviation of a list of numbers, as text."""
    import torch

    x = torch.tensor(values, dtype=torch.float64)
    return f"{x.mean():.2f}" if len(x) < 2 else f"{x.mean():.2f} ± {x.std():.2f}"


def run(options, measure, table, samples):
    """Measure the chapter for each seed that is not stored yet; store after each, print the table."""
    runs = stored_runs(options.output)
    done = {run["seed"] for run in runs}
    for seed in [] if options.table else [seed for seed in options.seeds if seed not in done]:
        names = chapter(seed)
        runs.append(measure(names, seed))
        write(options.output, names, samples=samples, runs=runs)
    with open(options.output, encoding="utf-8") as file:
        print(table(json.load(file)))
