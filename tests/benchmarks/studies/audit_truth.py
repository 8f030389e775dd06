"""The audit, audited against truth: on phantoms, of which patient, pose, exposure and disease are known.

    make study STUDY=audit_truth                                  about three hours of one core
    make study STUDY=audit_truth ARGS="--real-sets 1 --honest 20 --leaks 1 --planted 40 --steps 100"   a quarter of one
    python tests/benchmarks/studies/audit_truth.py --table        prints the tables of the stored figures
    python tests/benchmarks/studies/audit_truth.py --figure       draws the chart of the page from them

Every seed divides the 4,000 embedded phantoms anew into training, held-out and other patients; the audit learns the
real ones once. An honest set is drawn from the other patients, so every "fail" on privacy is a false alarm. A leak is
an honest set in which some samples are replaced by disguised training patients. One in 500: each planted copy is
judged by the bars for 500 samples, by itself. Intervals are Clopper and Pearson's. Divisions begin at 1: a bar was set
after a look at division 0.
"""

import argparse
import json
import time
from pathlib import Path

import _charts
import numpy as np
import torch

from genmed_core import audit, data, plots, runtime
from genmed_core.audit.attacks import copies
from genmed_core.audit.intervals import share
from genmed_core.audit.questions import QUESTIONS
from genmed_core.audit.views import softened
from genmed_core.synthetic import phantom

OUTPUT = Path(__file__).resolve().parents[3] / "chapters" / "figures" / "audit_truth.json"
TRAIN, HELD, SAMPLES = 600, 300, 200
POSE = ("yaw", "roll", "shift_x", "shift_y", "shrug", "arms", "field", "stretch", "volume")
EXPOSURE = ("dose", "scatter", "spot", "detail", "gamma", "toe", "black", "white", "collimator", "marker")
AGAIN = {"the same patient, other exposure": EXPOSURE, "the same patient, other pose": POSE,
         "the same patient, other pose and exposure": POSE + EXPOSURE}
MORE = {"softened twice as much": lambda x, _: softened(x, 2.0)}
SHARES = (1 / 50, 1 / 5)
PRIVACY = [q for q in QUESTIONS if ".attacks." in q.find.__module__ or "control" in q.text]


def phantoms():
    """All 4,000: images, labels, factors."""
    sets = [data.cxr(split, "embedded") for split in ("train", "val", "test")]
    factors = {k: torch.cat([s.factors[k] for s in sets]) for k in sets[0].factors}
    return torch.cat([s.images for s in sets]), torch.cat([s.labels for s in sets]), factors


def again(kind, rows, labels, factors, generator):
    """The patients of these rows, X-rayed anew: the named factors are those of other patients."""
    mine = {k: v[rows].clone() for k, v in factors.items()}
    other = torch.randint(0, len(labels), (len(rows),), generator=generator)
    for name in AGAIN[kind]:
        mine[name] = factors[name][other].clone()
    return phantom.draw(labels[rows], mine)


def leaked(kind, rows, everything, seed):
    """Training patients of these rows in the disguise of a kind -> uint8 (n, 1, 64, 64)."""
    images, labels, factors = everything
    generator = torch.Generator().manual_seed(seed)
    if kind in AGAIN:
        return again(kind, rows, labels, factors, generator)
    if kind in MORE:
        return (255 * MORE[kind](images[rows].float() / 255, generator)).round().to(torch.uint8)
    return audit.planted(kind, images[rows], seed=seed)


def judged(known, fake, canaries, seed):
    """What the privacy questions say of a set -> {question: verdict}."""
    neighbours = audit.Neighbours(known, fake, np.random.default_rng(seed))
    found = audit.privacy(neighbours)
    if canaries is None:
        canaries = audit.canaries(neighbours, found["copy_bars"])
    for pair in found["copies"]:
        pair["synthetic"], pair["train"] = str(pair["synthetic"]), str(pair["train"])
    counts = dict(zip(audit.SETS, (TRAIN, HELD, len(fake))))
    verdicts = audit.judge({"privacy": found, "counts": counts, "canaries": canaries}, PRIVACY)
    return {v["question"]: v["verdict"] for v in verdicts}, canaries


def one_real_set(seed, everything, options, trials):
    """All trials with one division of the phantoms, as they come: one more entry of `trials`."""
    began, images = time.monotonic(), everything[0]
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    train, held, rest = order[:TRAIN], order[TRAIN:TRAIN + HELD], order[TRAIN + HELD:]
    known = audit.Known(images[train], images[held], np.random.default_rng(seed), steps=options.steps)
    found = one_in_500(known, train, everything, seed, options.planted)
    result = {"validation": known.embedding.validation, "honest": [], "sets": [], "copies": found}
    trials.append(result)
    canaries = None
    for run in range(options.honest):
        some = rest[torch.randperm(len(rest), generator=torch.Generator().manual_seed(run))[:SAMPLES]]
        verdicts, canaries = judged(known, images[some], canaries, run)
        result["honest"].append(verdicts)
        print(f"seed {seed}: honest {run + 1}, {time.monotonic() - began:.0f} s", flush=True)
        yield
    for part in SHARES if seed <= options.leaks else ():
        for kind in (*audit.KINDS, *MORE, *AGAIN):
            count = max(1, round(part * SAMPLES))
            rng = torch.Generator().manual_seed(seed)
            rows = train[torch.randperm(TRAIN, generator=rng)[:count]]
            honest = images[rest[torch.randperm(len(rest), generator=rng)[:SAMPLES - count]]]
            fake = torch.cat([honest, leaked(kind, rows, everything, seed)])
            verdicts, _ = judged(known, fake, canaries, seed)
            result["sets"].append({"kind": kind, "share": part, "verdicts": verdicts})
            print(f"seed {seed}: {part:.0%} {kind}, {time.monotonic() - began:.0f} s", flush=True)
            yield


def one_in_500(known, train, everything, seed, planted):
    """{kind: [planted, found, found with its own original]}, each by the bars for 500 samples."""
    neighbours = audit.Neighbours(known, everything[0][train[:2]], np.random.default_rng(seed))
    bar, found = copies.bars(neighbours, 500), {}
    rows = torch.randperm(TRAIN, generator=torch.Generator().manual_seed(seed))[:planted]
    for number, kind in enumerate((*audit.KINDS, *MORE, *AGAIN)):
        match = neighbours.match(leaked(kind, train[rows], everything, 100 * seed + number), "train")
        flagged = copies.is_copy(match, bar)
        right = flagged & (match.which == rows.numpy())
        found[kind] = [planted, int(flagged.sum()), int(right.sum())]
    return found


def summary(trials):
    """Rates with their exact intervals, from the trials of all seeds."""
    honest = [v for one in trials for v in one["honest"]]
    questions = [q.text for q in PRIVACY]
    alarms = {q: share(sum(v[q] == "fail" for v in honest), len(honest)) for q in questions}
    anything = sum("fail" in v.values() for v in honest)
    passed = {q: share(sum(v[q] == "pass" for v in honest), len(honest)) for q in questions}
    kinds, detected = list(trials[0]["copies"]), {}
    for kind in kinds:
        planted, flagged, right = np.sum([one["copies"][kind] for one in trials], 0).tolist()
        detected[kind] = share(right, planted) | {"planted": planted, "flagged": flagged}
    sets = {}
    for kind in kinds:
        for part in SHARES:
            runs = [s["verdicts"] for one in trials for s in one["sets"] if (s["kind"], s["share"]) == (kind, part)]
            if runs:
                failed = {q: sum(v[q] == "fail" for v in runs) for q in questions}
                by_any = share(sum("fail" in v.values() for v in runs), len(runs))
                sets.setdefault(kind, {})[f"{part:.0%}"] = by_any | {"runs": len(runs), "failed": failed}
    return {"honest_runs": len(honest), "false_alarms": share(anything, len(honest)) | {"count": anything},
            "false_alarms_by_question": alarms, "honest_passes": passed, "one_in_500": detected, "sets": sets,
            "embedding": [one["validation"] for one in trials]}


def percent(found):
    return f"{100 * found['value']:.0f} ({100 * found['low']:.0f} to {100 * found['high']:.0f})"


def table(found):
    """The figures as Markdown."""
    alarms = found["false_alarms"]
    lines = [f"Honest sets: {found['honest_runs']}; failed on any question of privacy: {alarms['count']}, "
             f"{100 * alarms['value']:.1f} % (95 %: {100 * alarms['low']:.1f} to {100 * alarms['high']:.1f}).", "",
             "| leak | one copy in 500 seen, % | " + " | ".join(f"sets with {p:.0%} failed" for p in SHARES) + " |",
             "|:--|--:|" + "--:|" * len(SHARES)]
    for kind, seen in found["one_in_500"].items():
        sets = found["sets"].get(kind, {})
        cells = [f"{one['runs'] * one['value']:.0f} of {one['runs']}" if (one := sets.get(f"{p:.0%}")) else ""
                 for p in SHARES]
        lines.append(f"| {kind} | {percent(seen)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


ASKED = {_charts.BLUE: ("verbatim", "mirrored", "shifted", "contrast"),
         _charts.ORANGE: ("turned by 12 degrees", "enlarged by 15 %", "made smaller by 13 %")}


def figure(found):
    """What is seen of each kind: a single copy among 500, and sets with a part of copies."""
    kinds = list(found["one_in_500"])
    fig, (single, sets) = plots.figure(8.4, 5.2, 1, 2, sharey=True)
    for place, kind in enumerate(kinds):
        colour = next((c for c, asked in ASKED.items() if kind in asked), _charts.GREY)
        _charts.across(single, place, found["one_in_500"][kind], colour)
        for part, moved, filled in (("2%", -0.14, True), ("20%", 0.14, False)):
            if one := found["sets"].get(kind, {}).get(part):
                label = f"{part[:-1]} % of samples" if place == 0 else None
                _charts.across(sets, place + moved, one, colour, filled=filled, label=label)
    single.set(title="one copy among 500: seen, %", xlim=(-3, 103))
    sets.set(title="sets that fail, %", xlim=(-3, 103))
    single.set_yticks(range(len(kinds)), kinds)
    single.invert_yaxis()
    fig.legend(*sets.get_legend_handles_labels(), loc="outside upper right", ncols=2, frameon=False)
    return fig


def store(trials, options, minutes):
    settings = {"train": TRAIN, "held_out": HELD, "samples": SAMPLES, "real_sets": len(trials),
                "honest": options.honest, "leaks": options.leaks, "planted": options.planted,
                "steps": options.steps, "alpha": audit.ALPHA, "bars": audit.BARS}
    found = {"settings": settings, "machine": runtime.machine(), "processor_minutes": round(minutes, 1)}
    options.output.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(found | summary(trials), indent=1, allow_nan=False)
    options.output.write_text(text + "\n", encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--real-sets", type=int, default=8, help="divisions of the phantoms (default 8)")
    parser.add_argument("--honest", type=int, default=25, help="honest sets for each (default 25: 200 in all)")
    parser.add_argument("--leaks", type=int, default=8, help="sets of each kind and share, one a division (default 8)")
    parser.add_argument("--planted", type=int, default=60, help="single copies of each kind for each (default 60)")
    parser.add_argument("--steps", type=int, default=400, help="of the embedding's training (default 400)")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    parser.add_argument("--table", action="store_true", help="only print the stored tables")
    parser.add_argument("--figure", action="store_true", help="only draw the stored figures")
    options = parser.parse_args()
    if not options.table and not options.figure:
        everything, trials, began = phantoms(), [], time.process_time()
        for seed in range(1, options.real_sets + 1):
            for _ in one_real_set(seed, everything, options, trials):  # kept as far as it has come
                store(trials, options, (time.process_time() - began) / 60)
    found = json.loads(options.output.read_text(encoding="utf-8"))
    if not options.table:
        _charts.svg(figure(found), options.output.with_suffix(".svg"))
    print(table(found))


if __name__ == "__main__":
    main()
