"""The audit of three folders: its report, which JSON can hold, and its table."""

import importlib
import pkgutil
from collections.abc import Iterator

from genmed_core.audit import attacks
from genmed_core.audit.attacks import ATTACKS, privacy
from genmed_core.audit.features import leading_directions, random_features
from genmed_core.audit.folders import SETS, Folder, generator, usable
from genmed_core.audit.neighbours import fingerprints
from genmed_core.audit.quality import quality, usefulness
from genmed_core.audit.questions import BARS, judge, shown
from genmed_core.metrics import MEASURES

for module in pkgutil.iter_modules(attacks.__path__):  # every file there is an attack
    importlib.import_module(f"{attacks.__name__}.{module.name}")

MARKS = {"pass": "ok  ", "flag": "FLAG", "unclear": "?   "}


def audit(train: Folder, held_out: Folder, synthetic: Folder, *, seed: int = 0) -> dict:
    """Every measure and verdict for three Folders -> a report. Raises AuditError."""
    rng = generator(seed)
    notes = [f"{name}: {len(folder.left_out)} of the files left out, such as {folder.left_out[0]}"
             for name, folder in zip(SETS, (train, held_out, synthetic)) if folder.left_out]
    sets, dropped = usable(train, held_out, synthetic)
    notes += dropped
    images = [folder.images for folder in sets]
    features = [random_features(x) for x in images]
    project = leading_directions(features[1])
    features = [project(x) for x in features]
    real, held, fake = features
    report: dict = {"counts": {name: len(x) for name, x in zip(SETS, images)}, "notes": notes,
                    "bars": BARS, "seed": seed}
    report["quality"] = quality(real, held, fake, images, rng)
    report["utility"] = usefulness(sets, features, notes, rng)
    known, strangers, samples = map(fingerprints, images)
    report["privacy"] = privacy(known, strangers, samples, rng)
    for pair in report["privacy"]["closest"]:
        pair["synthetic"] = sets[2].names[pair["synthetic"]]
        pair["train"] = sets[0].names[pair["train"]]
    return report | {"verdicts": judge(report)}


def table(report: dict) -> str:
    """The report as text: measures, notes, verdicts."""
    counts = [f"{name}: {n:,} images" for name, n in report["counts"].items()]
    notes = [f"note: {note}" for note in report["notes"]]
    verdicts = [f"{MARKS[v['verdict']]} {v['question']:37}{v['answer']:8} {v['because']} "
                f"[bar: {v['bar']}]" for v in report["verdicts"]]
    lines = ["  ".join(counts), "", *_measures(report), *_privacy(report["privacy"]), ""]
    return "\n".join(lines + notes + [""] * bool(notes) + verdicts)


def _measures(report: dict) -> Iterator[str]:
    synthetic, floor = report["quality"]["synthetic"], report["quality"]["floor"]
    yield f"{'':34}{'synthetic':>12}{'real (floor)':>14}"
    for key, measure in MEASURES.items():
        if key in synthetic:
            heading = f"{measure.heading} ({measure.better})"
            yield f"{heading:34}{_number(synthetic[key]):>12}{_number(floor[key]):>14}"
    if useful := report["utility"]:
        pair = useful["synthetic"]["value"], useful["real"]["value"]
        yield f"{'balanced accuracy, trained on it':34}{pair[0]:12.2f}{pair[1]:14.2f}"
        yield f"{'... on real and synthetic':34}{useful['both']['value']:12.2f}"


def _number(value: float) -> str:
    return f"{value:.2f}" if abs(value) >= 0.1 else f"{value:.4f}"


def _privacy(found: dict) -> Iterator[str]:
    for attack in ATTACKS:
        for key, heading in attack.headings.items():
            yield f"{heading:34}{shown(found[key]):>26}"
    for pair in found["closest"][:3]:
        same = ", nearly the same" if pair["nearly_the_same"] else ""
        yield f"closest: {pair['synthetic']} to {pair['train']}, {pair['distance']:.3f}{same}"
