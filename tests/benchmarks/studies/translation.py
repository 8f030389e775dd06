"""Chapter 10 over several seeds: distortion, likeness, nodules, and the spread of nineteen draws.

    make study STUDY=translation                               three seeds, a quarter of an hour on one core
    python tests/benchmarks/studies/translation.py --table     only print the table that chapter 10 shows

The chapter's own cells run once for each seed, down to its promises. A seed is that of initialisations, of the order of
training films and of all noise that is drawn; the films are the same. Counts of nodules are added up over the seeds,
with the interval of one seed's number of nodules, since the same nodules are seen again. Nothing is chosen here.
"""

import os
from statistics import fmean

from chapter_cells import CHAPTERS, markdown, mean_sd, run_seeds, said

from genmed_core import chapters
from genmed_core.audit.intervals import share

NAME = "10_translation"
MEASURES = {"psnr": 2, "ssim": 3, "fd": 2}


def one_seed(seed: int) -> dict:
    """Run the chapter's cells down to the promises -> what it measured."""
    os.environ["GENMED_SEED"] = str(seed)
    cells = [cell for cell in chapters.cells(CHAPTERS / f"{NAME}.py")
             if not {"answer", "check"} & set(cell.metadata.get("tags", []))]
    last = next(i for i, cell in enumerate(cells) if "def decibels(" in cell.source)
    names: dict = {"__name__": "study"}
    chapters.run(cells[:last], names, NAME)
    return {"seed": seed, "source": "phantom", "scores": names["scores"], "harms": names["harms"],
            "by_weight": {f"{w:g}": {"psnr": names["psnr"](x, names["truth"]), "fd": names["frechet"](x)}
                          for w, x in names["by_weight"].items()},
            "covered": names["covered"], "factor": names["factor"], "repaired": names["repaired"],
            "nodules": int(names["nodule"].sum()), "healthy": int((~names["nodule"]).sum())}


def together(runs: list[dict]) -> dict:
    """Means with deviations of each output's measures, and shares with the interval of one set of nodules."""
    rows = {}
    for name in runs[0]["scores"]:
        rows[name] = {key: mean_sd([run["scores"][name][key] for run in runs]) for key in MEASURES}
        for harm, of in (("erased", "nodules"), ("invented", "healthy")):
            value = fmean(run["harms"][name][harm]["value"] for run in runs)
            rows[name][harm] = share(round(value * runs[0][of]), runs[0][of]) | {"value": value}
    draws = {key: mean_sd([run[key] for run in runs]) for key in ("covered", "factor", "repaired")}
    return {"rows": rows, "draws": draws, "runs": runs}


def in_words(found: dict) -> str:
    """A share with its interval, in percent."""
    return f"{100 * found['value']:.1f} % ({100 * found['low']:.1f} to {100 * found['high']:.1f})"


def table(stored: dict) -> str:
    """A row for each output, then what became of the draws."""
    lines = [[name, *(said(row[key], digits) for key, digits in MEASURES.items()), in_words(row["erased"]),
              in_words(row["invented"])] for name, row in stored["rows"].items()]
    heading = ["", "PSNR, dB", "SSIM", "Fréchet distance", "nodules erased", "nodules invented"]
    draws = {key: {k: 100 * v for k, v in one.items()} for key, one in stored["draws"].items()}
    return (f"{markdown(heading, lines)}\n\nSeeds: {len(stored['runs'])}. True pixels between nineteen draws: "
            f"{said(draws['covered'], 1)} %, stretched {said(draws['repaired'], 1)} %.")


if __name__ == "__main__":
    run_seeds(__doc__, "translation", one_seed, together, table)
