"""The page on what chapter 9 makes of real films: chapters/real_films.md and its figures.

    GENMED_DATA=... python tests/benchmarks/real_films.py            trains the chapter's models on the database
    python tests/benchmarks/real_films.py --audit                    trains latent diffusion alone, to audit it anew
    python tests/benchmarks/real_films.py --from-json                only writes the page's tables anew

The chapter's own cells are run on the COVID-19 Radiography Database down to its audit of the honest model. Numbers are
written, whatever they say, and no film of a patient. Samples of the model are drawn on the page only if every question
of the audit about privacy is answered by "pass", the control included; otherwise the page says why it shows none. The
page's prose is written by hand; what stands between its comments is not.
"""

import argparse
import json
import os
import re
import sys
from pathlib import Path

from genmed_core import audit, chapters

CHAPTERS = Path(__file__).resolve().parent.parent.parent / "chapters"
CHAPTER, PAGE = CHAPTERS / "09_ldm_cxr.py", CHAPTERS / "real_films.md"
JSON, PICTURE = CHAPTERS / "figures" / "real_films.json", CHAPTERS / "figures" / "real_films.png"
PRIVACY = ("Is the held-out set a fair control?", "Are they closer to training images?",
           "Are there copies of training images?", "Can membership be inferred?",
           "Do samples resemble training images?")
PRIVACY_FIGURES = ("closer", "control", "ratio_train", "membership", "hits_1", "hits_01", "close", "close_held_out",
                   "embedded_close", "embedded_close_held_out", "authenticity", "authenticity_held_out")
MEASURES = {"fd": "Fréchet", "kid": "kernel", "recall": "recall", "coverage": "coverage",
            "detail": "detail"}  # few and short: the table has to fit a page
COLUMNS = 5


def chapter_to_audit(rivals):
    """The chapter's names after its cells have run on the database, down to the films of latent diffusion.

    With rivals, the cells that train and measure those too. The audit is not the chapter's, which is a short one to
    save its readers' time, but one of full effort.
    """
    cells = chapters.cells(CHAPTER)
    audits = chapters.calling(cells, "audit.audit")[0]
    draws = next(i for i, cell in enumerate(cells) if "films_as_drawn = " in cell.source)
    names = {"__name__": "chapter"}
    chapters.run(cells[: audits if rivals else draws + 1], names, CHAPTER.name)
    sets = [folder(names, *pair) for pair in ((names["train_set"].images, names["train_set"].labels),
                                              (names["held_out"], names["held_labels"]),
                                              (names["films"], names["asked"]))]
    names["honest"] = audit.audit(*sets, seed=names["SEED"])
    return names


def folder(names, images, labels):
    """Films and their classes as a folder, whose files have numbers for names."""
    return audit.Folder(images, [f"{i:04}" for i in range(len(images))], list(names["classes"]), labels, [])


def refusals(verdicts):
    """Sentences that say why samples are not shown; empty when the audit passes on all of privacy."""
    found = {v["question"]: v for v in verdicts}
    if missing := [question for question in PRIVACY if question not in found]:
        return [f"the audit did not ask: {question}" for question in missing]
    return [f"{question} {found[question]['answer'].capitalize()}: {found[question]['because']}."
            for question in PRIVACY if found[question]["verdict"] != "pass"]


def compared(names):
    """How the generators compare, by the chapter's ruler."""
    rows = {name: q["synthetic"] | {"train_seconds": names["entries"][name][2]} for name, q in names["scores"].items()}
    return {"machine": names["runtime"].machine(), "floor": names["scores"]["latent diffusion"]["floor"],
            "compared": rows, "compared_with": len(names["held_out"])}


def audited(names):
    """What is kept of the audit: numbers only, no name of a file."""
    report = names["honest"]
    privacy = {k: report["privacy"][k] for k in PRIVACY_FIGURES}
    privacy["copies"] = len(report["privacy"]["copies"])
    privacy["beyond"] = report["privacy"]["risk"]["beyond"]
    return {"seed": names["SEED"], "decibels": names["decibels"],
            "classes": names["data"].class_counts(names["train_set"]), "privacy": privacy,
            **{k: report[k] for k in ("counts", "quality", "utility", "embedding", "canaries", "not_tested",
                                      "verdicts", "effort")}}


def picture(names):
    """The first samples of each class, as PNG, with the words that every such picture carries."""
    films, asked, classes, plots = (names[k] for k in ("films", "asked", "classes", "plots"))
    rows = {classes[i]: films[asked == i][:COLUMNS] for i in names["present"]}
    return plots.show_rows(rows, columns=COLUMNS, width=8, note=plots.SYNTHETIC)._repr_png_()


def tables(found):
    """{name of a place in the page: markdown}."""
    floor = found["floor"]
    lines = ["| | " + " | ".join([*MEASURES.values(), "near", "time"]) + " |",
             "|:--|" + "--:|" * (len(MEASURES) + 2),
             "| *training films (floor)* | " + " | ".join(f"{floor[k]:.2f}" for k in MEASURES) + " | | |"]
    for name, q in found["compared"].items():
        cells = [f"{q[k]:.2f}" for k in (*MEASURES, "neighbour")] + [f"{q['train_seconds']:.0f} s"]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    n = found["counts"]
    classes = ", ".join(f"{count} {name}" for name, count in found["classes"].items() if count)
    lines += ["", f"{n['synthetic']} samples against {found['compared_with']} held-out films; {n['train']} films to "
                  f"learn from ({classes}). Seed {found['seed']}. "
                  f"Reconstructions by the map of latents: {found['decibels']:.1f} dB. Machine: {found['machine']}."]
    audited = ["| question | answer | because |", "|:--|:--|:--|"]
    audited += [f"| {v['question']} | {v['answer']}{'' if v['verdict'] == 'pass' else ' ⚑'} | {v['because']} |"
                for v in found["verdicts"]]
    return {"compared": "\n".join(lines), "pictures": pictures(found), "audit": "\n".join(audited)}


def pictures(found):
    """The place of the pictures in the page: samples, or why there are none."""
    if refused := refusals(found["verdicts"]):
        return "\n".join(["No sample is shown, for the audit does not pass:", "", *(f"- {why}" for why in refused)])
    return ("![Synthetic chest X-rays in one row for each class, drawn by latent diffusion](figures/real_films.png)\n\n"
            "*The first samples of each class, not picked. Synthetic, not for diagnosis.*")


def filled(page, parts):
    """The page with each part between its comments. ValueError for a place that is not there."""
    for name, text in parts.items():
        pattern = rf"(<!-- {name} -->\n).*?(<!-- end {name} -->)"
        page, count = re.subn(pattern, lambda m, text=text: f"{m[1]}\n{text}\n\n{m[2]}", page, flags=re.S)
        if count != 1:
            raise ValueError(f"{PAGE.name} has {count} places for {name!r}")
    return page


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--from-json", action="store_true", help="train nothing, only write the tables anew")
    parser.add_argument("--audit", action="store_true", help="keep the rivals' stored figures, audit a new model")
    options = parser.parse_args()
    if not options.from_json:
        os.environ["GENMED_PUBLIC"] = "0"
        names = chapter_to_audit(rivals=not options.audit)
        if names["source"] != "database":
            sys.exit("error: the COVID-19 Radiography Database is not there: see data/README.md")
        found = json.loads(JSON.read_text(encoding="utf-8")) if options.audit else compared(names)
        JSON.write_text(json.dumps(found | audited(names), indent=1, allow_nan=False) + "\n", encoding="utf-8")
        PICTURE.unlink(missing_ok=True)
        if not refusals(names["honest"]["verdicts"]):
            PICTURE.write_bytes(picture(names))
    found = json.loads(JSON.read_text(encoding="utf-8"))
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8"), tables(found)), encoding="utf-8")


if __name__ == "__main__":
    main()
