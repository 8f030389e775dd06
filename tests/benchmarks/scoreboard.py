"""The scoreboard: what the chapters record of their main models, over several seeds, as tables and figures.

    python tests/benchmarks/scoreboard.py run                    every chapter with seeds 0, 1, 2: hours on a laptop
    python tests/benchmarks/scoreboard.py run 06 --seeds 1       one of them
    python tests/benchmarks/scoreboard.py page                   chapters/scoreboard.md and figures/scoreboard*

`run` executes the code of a chapter up to the cell that calls `expect.model`, in a process of its own, and leaves what
is there already: it may be stopped and started again. `page` puts what these runs and the notebooks recorded with the
full budget into scoreboard.json, where it stays, and draws the page from that file alone; with --from-json it looks
for nothing new. The prose of the page is written by hand; what stands between its comments is not.
"""

import argparse
import hashlib
import json
import os
import re
import statistics
import subprocess
import sys
from pathlib import Path

import matplotlib as mpl
import matplotlib.ticker
import numpy as np
import yaml
from PIL import Image

from genmed_core import chapters, metrics, plots, runtime

ROOT = Path(__file__).resolve().parent.parent.parent
CHAPTERS, CONFIG = ROOT / "chapters", ROOT / "jupyter_book_config"
FIGURES, PAGE = CHAPTERS / "figures", CHAPTERS / "scoreboard.md"
JSON = FIGURES / "scoreboard.json"
SOURCES = {"mnist": "Digits: MNIST", "strokes": "Digits: stroke drawings", "phantom": "X-rays: the phantom",
           "database": "X-rays: the COVID-19 Radiography Database"}
FAMILIES = {"diffusion": "diffusion|DDPM|LDM", "adversaries": "GAN", "autoencoders": "autoencoder|VAE"}  # by name
MARKERS = "o^sDvP*X"  # autoencoders, adversaries, diffusion and what the table of contents adds


# --- run --------------------------------------------------------------------------------------------------------


def to_recording(source: Path) -> list:
    """A chapter's code cells up to the last one that records a model; none where none does."""
    cells = chapters.cells(source)
    recording = chapters.calling(cells, "expect.model")
    return cells[: recording[-1] + 1] if recording else []


def run(source: Path, seed: int) -> bool:
    """Run one chapter with one seed, unless that has been done with the same code; True when it recorded something."""
    cells = to_recording(source)
    if not cells:
        print(f"{source.stem} records no model")
        return True
    folder = runtime.runs_dir() / "scoreboard" / f"{source.stem}-{os.environ.get('GENMED_DATA_SOURCE', 'auto')}-{seed}"
    done, result = folder / "code.sha256", folder / "results" / f"{source.stem}.json"
    stamp = hashlib.sha256("\n\n\n".join(cell.source for cell in cells).encode()).hexdigest()
    if result.exists() and done.exists() and done.read_text() == stamp:
        print(f"{source.stem}, seed {seed}: is there")
        return True
    folder.mkdir(parents=True, exist_ok=True)
    share_cache(folder)
    if not in_a_process_of_its_own(source, seed, folder) or not result.exists():
        print(f"{source.stem}, seed {seed} failed: see {folder / 'log.txt'}", file=sys.stderr)
        return False
    done.write_text(stamp)
    print(f"{source.stem}, seed {seed}: recorded")
    return True


def share_cache(folder: Path) -> None:
    """Let a run read the cache of decoded X-rays and phantoms, which is the same for all seeds."""
    cache = runtime.runs_dir() / "cache"
    cache.mkdir(exist_ok=True)
    if not (folder / "cache").exists():
        (folder / "cache").symlink_to(cache.resolve())


def in_a_process_of_its_own(source: Path, seed: int, folder: Path) -> bool:
    """Start `record` on a chapter; True when it ends well."""
    environment = {**os.environ, "GENMED_SEED": str(seed), "GENMED_RUNS": str(folder.resolve())}
    environment.setdefault("GENMED_THREADS", "1")
    command = [sys.executable, str(Path(__file__).resolve()), "record", str(source.resolve())]
    with open(folder / "log.txt", "w", encoding="utf-8") as log:
        done = subprocess.run(command, cwd=CHAPTERS, env=environment, stdout=log, stderr=subprocess.STDOUT)
    return done.returncode == 0


# --- gather -----------------------------------------------------------------------------------------------------


def recorded(path):
    """The rows of one file of results; none where the budget was cut, for those are no models to compare."""
    entry = json.loads(path.read_text(encoding="utf-8"))
    if entry["budget"] != 1:
        return []
    head = {"chapter": entry["chapter"], "source": entry["source"], "seed": int(entry["seed"] or 0),
            "machine": entry["machine"]}
    return [head | _rounded(model) for model in entry.get("models", [])]


def _rounded(value):
    if isinstance(value, dict):
        return {k: _rounded(v) for k, v in value.items()}
    if not isinstance(value, float):
        return value
    return int(value) if value.is_integer() else float(f"{value:.5g}")


def gather(rows, folder):
    """Old rows with those that runs/ holds put in their place, sorted. A notebook's own figures come last and win."""
    runs, notebooks = (sorted(folder.glob(where)) for where in ("scoreboard/*/results/*.json", "results/*.json"))
    for path in [*runs, *notebooks]:
        new = recorded(path)
        fresh = {(r["chapter"], r["source"], r["seed"]) for r in new}
        rows = [r for r in rows if (r["chapter"], r["source"], r["seed"]) not in fresh] + new
    order = {}  # of the models within a chapter: as recorded
    for r in rows:
        order.setdefault((r["chapter"], r["name"]), len(order))
    return sorted(rows, key=lambda r: (list(SOURCES).index(r["source"]), r["chapter"], order[r["chapter"], r["name"]],
                                       r["seed"]))


# --- tables -----------------------------------------------------------------------------------------------------


def models_of(rows, source):
    """{(chapter, name): its rows} for one data source."""
    models = {}
    for r in rows:
        if r["source"] == source:
            models.setdefault((r["chapter"], r["name"]), []).append(r)
    return models


def measures(models):
    """The registry's measures that the rows hold: {heading: function of a row, or of its floor, to the number}."""
    every = [r for rows in models.values() for r in rows]
    within = all("similarity_in_class" in r for r in every)
    left_out = "similarity" if within else "similarity_in_class"
    shown = {heading(m): m.name for m in metrics.MEASURES.values() if m.short is not None and m.name != left_out}
    return {title: (lambda r, key=key: r.get(key)) for title, key in shown.items() if any(key in r for r in every)}


def heading(measure):
    return measure.short or measure.heading


def arrow(title):
    """What is better of a column: less (down), more (up), or neither, where as real images do is best."""
    better = {heading(m): m.better for m in metrics.MEASURES.values()}
    return {"lower": " ↓", "higher": " ↑"}.get(better.get(title), "")


COSTS = {"training, s": lambda r: r["train_seconds"], "ms an image": lambda r: 1000 * r["sample_seconds"],
         "parameters": lambda r: r["parameters"]}


def cost(column, rows):
    """The least over seeds: the work is the same for all, and what a busy machine adds is none of the model's."""
    return min(column(r) for r in rows), None


def spread(values):
    """Mean and standard deviation (None for a single value) of the numbers that are there; None for none."""
    values = [v for v in values if v is not None]
    if not values:
        return None
    return statistics.mean(values), statistics.stdev(values) if len(values) > 1 else None


def in_words(found):
    """A mean and its deviation, such as "52 ± 4"; the more digits the smaller they are."""
    if found is None:
        return ""
    mean, sd = found
    digits = 0 if abs(mean) >= 20 else 1 if abs(mean) >= 2 else 2 if abs(mean) >= 0.02 else 3
    if not sd:
        return f"{mean:,.{0 if float(mean).is_integer() and abs(mean) >= 20 else digits}f}"
    while sd and not round(sd, digits) and digits < 5:
        digits += 1
    return f"{mean:,.{digits}f} ± {sd:,.{digits}f}"  # in one line, whatever the table's width


def table(models, columns, costs=()):
    """A markdown table of one data source: real images first, then a row for each model."""
    every = [r for rows in models.values() for r in rows]
    titles = [title + arrow(title) for title in columns]
    lines = [["model", *titles, *costs], ["---", *["---:"] * (len(columns) + len(costs))]]
    for binarised in sorted({r["binarised"] for r in every}):
        floors = [r["floor"] | {"fd_ratio": 1.0} for r in every if r["binarised"] == binarised]
        name = "*real images*" if len({r["binarised"] for r in every}) == 1 else \
            f"*real, {'black and white' if binarised else 'grey'}*"
        means = (spread([column(f) for f in floors]) for column in columns.values())
        lines.append([name, *(in_words(m and (m[0], None)) for m in means), *[""] * len(costs)])
    for (chapter, name), rows in models.items():
        cells = [in_words(spread([column(r) for r in rows])) for column in columns.values()]
        cells += [in_words(cost(column, rows)) for column in dict(costs).values()]
        lines.append([f"[{name}]({chapter}.ipynb)", *cells])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def tables(models):
    """Two tables, as a page is only so wide: distances and what is reached; then likeness and costs."""
    columns = list(measures(models).items())
    first = next(i for i, (title, _) in enumerate(columns) if title.startswith("MS-SSIM"))
    return f"{table(models, dict(columns[:first]))}\n\n{table(models, dict(columns[first:]), COSTS)}"


def remarks(models):
    """What must be known of the rows: seeds, machines, and what a model's chapter noted."""
    seeds = {key: sorted({r["seed"] for r in rows}) for key, rows in models.items()}
    most = max(seeds.values(), key=len)

    def listed(s):
        return f"seed{'s' * (len(s) > 1)} {', '.join(map(str, s))}"

    text = [(f"Mean ± standard deviation (seconds: the least) over {listed(most)}" if len(most) > 1 else
             f"{listed(most).capitalize()} only")
            + "".join(f"; {name}: {listed(s)}" for (_, name), s in seeds.items() if s != most)
            + f". {max(r['n'] for rows in models.values() for r in rows):,} samples each."]
    notes = {name: rows[-1]["note"] for (_, name), rows in models.items() if rows[-1]["note"]}
    text += [f"{name}: {note}." for name, note in notes.items()]
    machines = sorted({r["machine"] for rows in models.values() for r in rows})
    return " ".join(text) + f"\n\nMachine: {'; '.join(machines)}."


# --- figures ----------------------------------------------------------------------------------------------------


def parts() -> dict[str, list[str]]:
    """The parts of the table of contents in small letters, with the names of their pages."""
    book = yaml.safe_load((CONFIG / "course.yml").read_text(encoding="utf-8"))
    return {part["part"].lower(): part["pages"] for part in book["contents"]}


def family(chapter: str, name: str) -> str:
    """The family of a model: what its name says, else the part of the book that its chapter stands in, else "other"."""
    for known, words in FAMILIES.items():
        if re.search(words, name):
            return known
    return next((part for part, pages in parts().items() if chapter in pages), "other")


def looks(models) -> dict[str, tuple[str, str]]:
    """{family: (marker, colour)} of the models, in the order of the book; the same in every figure."""
    order = [*parts(), "other"]
    there = {family(*key) for key in models}
    return {kind: (MARKERS[i], plots.COLOURS[i]) for i, kind in enumerate(order) if kind in there}


def legend(fig, models):
    """The families that occur, and what the dashed line is, above the panels."""
    handles = [mpl.lines.Line2D([], [], marker=marker, color=colour, linestyle="", markersize=7, label=kind)
               for kind, (marker, colour) in looks(models).items()]
    handles.append(mpl.lines.Line2D([], [], color="#777777", linestyle="--", linewidth=1.2, label="real images"))
    fig.legend(handles=handles, loc="outside upper center", ncols=len(handles), frameon=False, fontsize=9)


def cost_figure(models):
    """Frechet distance, in floors, against seconds of training and milliseconds an image, all axes logarithmic."""
    fig, axes = plots.figure(9.2, 4.1, 1, 2, sharey=True)
    named = []
    for ax, title in zip(axes, ("training, s", "ms an image")):
        ax.set(xscale="log", yscale="log", xlabel=title)
        points = []
        for (chapter, name), rows in models.items():
            marker, colour = looks(models)[family(chapter, name)]
            (x, _), (y, sd) = cost(COSTS[title], rows), spread([r["fd_ratio"] for r in rows])
            ax.errorbar(x, y, yerr=sd and min(sd, 0.9 * y), capsize=2, elinewidth=1, markersize=7,
                        fmt=marker, color=colour)
            points.append((x, y, name))
        ax.axhline(1, color="#777777", linestyle="--", linewidth=1.2)
        ax.margins(0.22, 0.12)
        ax.xaxis.set_major_formatter(mpl.ticker.FormatStrFormatter("%g"))
        ax.yaxis.set_major_formatter(mpl.ticker.FormatStrFormatter("%g"))
        for axis in (ax.xaxis, ax.yaxis):  # between the powers of ten, where there are but few
            axis.set_minor_formatter(mpl.ticker.LogFormatter(minor_thresholds=(1, 0.4)))
        named.append(points)
    axes[0].set(ylabel="Fréchet distance, × floor")
    legend(fig, models)
    for ax, points in zip(axes, named):  # when all else is in its place
        write_names(fig, ax, points)
    return fig


def write_names(fig, ax, points):
    """Write each name beside its point, on the first side where it meets no point and no other name."""
    fig.draw_without_rendering()
    sides = [(9, 0, "left", "center"), (-9, 0, "right", "center"), (0, 9, "center", "bottom"), (0, -9, "center", "top"),
             (7, 9, "left", "bottom"), (7, -9, "left", "top"), (-7, 9, "right", "bottom"), (-7, -9, "right", "top")]
    places = [ax.transData.transform((x, y)) for x, y, _ in points]
    taken = [mpl.transforms.Bbox.from_bounds(a - 9, b - 9, 18, 18) for a, b in places]
    for (x, y, name), own in zip(points, list(taken)):
        tried = []
        for dx, dy, ha, va in sides:
            label = ax.annotate(name, (x, y), (dx, dy), textcoords="offset points", ha=ha, va=va, fontsize=9)
            box = label.get_window_extent()
            outside = box.x0 < ax.bbox.x0 - 5 or box.x1 > ax.bbox.x1 + 15
            tried.append((sum(box.overlaps(other) for other in taken if other is not own) + outside, label, box))
            if not tried[-1][0]:
                break
        best = min(tried, key=lambda t: t[0])
        for _, label, _ in tried:
            if label is not best[1]:
                label.remove()
        taken.append(best[2])


def variety_figure(models):
    """Recall, coverage and similarity of each model, with the real images' values as dashed lines."""
    wanted = [t for t in measures(models) if t in ("recall", "coverage") or t.startswith("MS-SSIM")]
    fig, axes = plots.figure(9.2, 1.1 + 0.3 * len(models), 1, len(wanted), sharey=True)
    for ax, title in zip(axes, wanted):
        column = measures(models)[title]
        for place, (key, rows) in enumerate(models.items()):
            marker, colour = looks(models)[family(*key)]
            mean, sd = spread([column(r) for r in rows])
            ax.errorbar(mean, place, xerr=sd, fmt=marker, color=colour, markersize=7, capsize=2)
            floor, _ = spread([column(r["floor"]) for r in rows])
            ax.plot([floor] * 2, [place - 0.4, place + 0.4], color="#777777", linestyle="--", linewidth=1.2)
        ax.set(title=title, xlim=None if title.startswith("MS") else (0, 1))
    axes[0].set_yticks(range(len(models)), [name for _, name in models])
    axes[0].invert_yaxis()
    legend(fig, models)
    return fig


def strips(folder):
    """{(source, chapter, name): PNG of a model's first samples} that runs/ holds; name "real" for real images."""
    found = {}
    for path in [*sorted(folder.glob("results/*.json")), *sorted(folder.glob("scoreboard/*/results/*.json"))]:
        entry = json.loads(path.read_text(encoding="utf-8"))
        if entry["budget"] == 1:
            for picture in sorted((path.parent / entry["chapter"]).glob("*.png")):
                found.setdefault((entry["source"], entry["chapter"], picture.stem), picture)
    return found


def samples_figure(source, models, found, across=12):
    """A row of samples for each model, real images first; None where a model's are not there."""
    chapters = [chapter for chapter, _ in models]
    wanted = {"real": (source, chapters[-1], "real")} | {name: (source, chapter, name) for chapter, name in models}
    if any(key not in found for key in wanted.values()):
        return None
    rows = {name: np.asarray(Image.open(found[key])) for name, key in wanted.items()}
    height = 7.4 / across
    fig, axes = plots.figure(9.2, height * len(rows) + 0.3, len(rows), 1)
    for ax, (name, row) in zip(axes, rows.items()):
        ax.imshow(row[:, :across * len(row)], cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        ax.set_axis_off()
        own = {"phantom": "phantoms"}.get(source, "real images")
        ax.text(-0.01, 0.5, own if name == "real" else name, transform=ax.transAxes, ha="right", va="center",
                fontsize=9)
    if source == "phantom":
        fig.supxlabel(plots.SYNTHETIC, fontsize=9)
    return fig


def svg(fig, path, stamp):
    """Write a figure the same way every time; the stamp says which rows it shows."""
    with mpl.rc_context({"svg.hashsalt": "genmed", "svg.fonttype": "path"}):
        fig.savefig(path, format="svg", bbox_inches="tight", pad_inches=0.08,
                    metadata={"Date": None, "Description": stamp, "Creator": None})


# --- page -------------------------------------------------------------------------------------------------------


def stamp_of(models):
    """Names the rows that a figure shows."""
    return "rows " + hashlib.sha256(json.dumps(list(models.values()), sort_keys=True).encode()).hexdigest()[:16]


def section(source, models):
    """The generated part of the page for one data source; empty where nothing is recorded."""
    if not models:
        return ""
    figure = f"figures/scoreboard-{source}"
    return f"""## {SOURCES[source]}
{shown(source)}
{tables(models)}

{remarks(models)}

![Distance from real images against seconds of training and milliseconds of drawing]({figure}-cost.svg)

![Recall, coverage and similarity of the models, beside those of real images]({figure}-variety.svg)
"""


def shown(source):
    """The picture of a data source's samples and what is to be said of it, where there is one."""
    name = f"scoreboard-{source}-samples.png"
    alt = "Twelve images of the data in the first row, and below them twelve samples of each model"
    said = "Twelve samples of each model, not picked."
    return f"\n![{alt}](figures/{name})\n\n{said}\n" if (FIGURES / name).exists() else ""


def fill(text, rows):
    """The page's text with every generated part made anew."""
    for source in SOURCES:
        begin, end = f"<!-- {source}: generated from scoreboard.json -->", f"<!-- end of {source} -->"
        assert text.count(begin) == text.count(end) == 1, f"{PAGE.name} must hold {begin} and {end} once"
        part = section(source, models_of(rows, source))
        text = re.sub(re.escape(begin) + ".*?" + re.escape(end),
                      lambda _, new=f"{begin}\n\n{part}\n{end}": new.replace("\n\n\n", "\n\n"), text, flags=re.S)
    return text


def page(rows):
    """Write the page and its figures from the rows alone."""
    for source in SOURCES:
        models = models_of(rows, source)
        for kind, draw in (("cost", cost_figure), ("variety", variety_figure)):
            path = FIGURES / f"scoreboard-{source}-{kind}.svg"
            if models:
                svg(draw(models), path, stamp_of(models))
            else:
                path.unlink(missing_ok=True)
    PAGE.write_text(fill(PAGE.read_text(encoding="utf-8"), rows), encoding="utf-8")


def picture(rows, found):
    """Draw the samples of each data source for which runs/ holds those of all models; leave the other pictures be."""
    for source in SOURCES:
        models = models_of(rows, source)
        if source != "database" and models and (fig := samples_figure(source, models, found)):
            fig.savefig(FIGURES / f"scoreboard-{source}-samples.png", dpi=120, bbox_inches="tight", pad_inches=0.08,
                        metadata={"Software": None})


def run_all(picked: list[str], seeds: list[int]) -> bool:
    """Run the picked chapters with every seed, also after one has failed; True when all went well."""
    sys.path.insert(0, str(CONFIG))
    from notebooks import sources

    found = sources(picked)
    if not found:
        sys.exit(f"no chapter matches {picked}")
    went_well = [run(source, seed) for seed in seeds for source in found]
    return all(went_well)


def record(source: Path) -> None:
    """Run a chapter's cells here, down to the last that records."""
    chapters.run(to_recording(source), {"__name__": "chapter"}, source.name)


def draw_page(from_json: bool) -> None:
    """Put what was recorded into scoreboard.json, unless it is to stay as it is, and draw the page from it."""
    rows = json.loads(JSON.read_text(encoding="utf-8"))["rows"] if JSON.exists() else []
    if not from_json:
        rows = gather(rows, runtime.runs_dir())
        picture(rows, strips(runtime.runs_dir()))
        lines = ",\n".join(json.dumps(r, ensure_ascii=False) for r in rows)
        JSON.write_text(f'{{"rows": [\n{lines}\n]}}\n', encoding="utf-8")
    page(rows)
    print(f"{len(rows)} rows in {JSON.name}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    running = commands.add_parser("run", help="run chapters up to the cell that records")
    running.add_argument("chapters", nargs="*", help="numbers or names, such as 06; default all")
    running.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    recording = commands.add_parser("record", help="run one chapter's source so in this process; `run` starts it")
    recording.add_argument("source", type=Path)
    paging = commands.add_parser("page", help="gather what was recorded and draw the page")
    paging.add_argument("--from-json", action="store_true", help="draw from scoreboard.json, gather nothing")
    options = parser.parse_args()
    if options.command == "run":
        sys.exit(not run_all(options.chapters, options.seeds))
    if options.command == "record":
        record(options.source)
    else:
        draw_page(options.from_json)


if __name__ == "__main__":
    main()
