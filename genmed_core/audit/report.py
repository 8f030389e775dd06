"""The audit of three folders: its report, which JSON can hold, and its table."""

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from genmed_core.audit import attacks
from genmed_core.audit.anatomy import anatomy, described
from genmed_core.audit.attacks import ATTACKS, Known, Neighbours, privacy
from genmed_core.audit.canaries import PLANTED, canaries
from genmed_core.audit.embedding import STEPS
from genmed_core.audit.features import leading_directions, random_features
from genmed_core.audit.folders import SETS, AuditError, Folder, generator, usable
from genmed_core.audit.quality import quality, quality_intervals
from genmed_core.audit.questions import BARS, conclusion, judge, shown
from genmed_core.audit.usefulness import TRAINED_ON, usefulness
from genmed_core.metrics import MEASURES

for module in pkgutil.iter_modules(attacks.__path__):  # every file there is an attack
    importlib.import_module(f"{attacks.__name__}.{module.name}")

NOT_TESTED = (
    "whether a patient was trained on who is shown in another position, at another visit or in "
    "another exposure: the canaries are copies of the same film",
    "attacks that use the generator itself, its weights, its losses or prompts, or many more "
    "samples than these",
    "what can be inferred of a patient, such as age or disease, from samples that are no copies",
    "anything smaller than a 64th of the width, or that grey levels do not show",
    "whether the anatomy is right beyond the sizes of lungs and heart, where those are asked "
    "about, and whether a radiologist would be misled",
    "groups of patients that are rare in these folders",
    "disguises of a copy beyond the planted kinds, and those kinds of which few were seen")
Tell = Callable[[str, float], object]


class Prepared(NamedTuple):
    """What an audit needs of the real images alone, made by `prepare`."""

    train: Folder
    held_out: Folder
    known: Known
    effort: float


def prepare(train: Folder, held_out: Folder, *, seed: int = 0, effort: float = 1.0,
            tell: Tell = lambda words, share: None) -> Prepared:
    """Learn the real images once, to audit several sets of samples by them. Raises AuditError.

    effort: 1 takes about two minutes on two cores; less is quicker and sees fewer copies.
    tell(words, share): called as the work goes on.
    """
    check_effort(effort)
    rng = generator(seed)
    # real images are checked without samples, so the held-out ones stand in for them
    used, _ = usable(train, held_out, held_out, samples=False)
    steps = max(20, round(effort * STEPS))
    known = Known(used[0].images, used[1].images, rng, steps=steps,
                  tell=lambda share: tell("learning to know images again", 0.6 * share))
    return Prepared(train, held_out, known, effort)


def check_effort(effort: float) -> None:
    """Raises AuditError where no training could follow."""
    if not 0 < effort <= 100:
        raise AuditError(f"effort {effort}: give a number above 0, such as 1, and up to 100")


def audit(train: Folder, held_out: Folder, synthetic: Folder, *, seed: int = 0,
          known: Prepared | None = None, effort: float = 1.0,
          tell: Tell = lambda words, share: None) -> dict:
    """Every measure and verdict for three Folders -> a report. Raises AuditError.

    known: what `prepare` made of the same real images; without it, it is made here.
    """
    rng = generator(seed)
    sets, notes = usable(train, held_out, synthetic)
    if known is None:
        known = prepare(train, held_out, seed=seed, effort=effort, tell=tell)
    elif known.train is not train or known.held_out is not held_out:
        raise AuditError("known: made of other real images; give `audit` the folders that "
                         "`prepare` was given")
    neighbours = Neighbours(known.known, sets[2].images, rng)
    report: dict = {"counts": {name: len(x.images) for name, x in zip(SETS, sets)},
                    "notes": notes, "bars": BARS, "seed": seed, "effort": known.effort,
                    "embedding": known.known.embedding.validation}
    tell("looking for copies", 0.6)
    report["privacy"] = privacy(neighbours)
    tell("planting copies", 0.75)
    each = min(PLANTED, max(10, round(4 * known.effort * PLANTED)))
    report["canaries"] = canaries(neighbours, report["privacy"]["copy_bars"], each)
    tell("fidelity and variety", 0.8)
    report["quality"] = _quality(sets, rng)
    tell("usefulness", 0.9)
    report["utility"] = usefulness(sets, notes, seed=seed, effort=known.effort)
    real, held, fake = (folder.images for folder in sets)
    report["anatomy"] = anatomy(real, held, fake, generator(seed))
    _name(report["privacy"], sets)
    tell("done", 1.0)
    return report | {"verdicts": judge(report), "not_tested": list(NOT_TESTED)}


def _quality(sets: list[Folder], rng: np.random.Generator) -> dict:
    images = [folder.images for folder in sets]
    seen = [random_features(x) for x in images]
    project = leading_directions(seen[1])
    real, held, fake = (project(x) for x in seen)
    found = quality(real, held, fake, images, rng)
    return found | {"intervals": quality_intervals(real, held, fake, images, rng)}


def _name(found: dict, sets: list[Folder]) -> None:
    """Numbers of images become the names of their files."""
    pairs = {id(pair): pair for pair in found["copies"] + found["closest"]}
    for pair in pairs.values():
        pair["synthetic"] = sets[2].names[pair["synthetic"]]
    for pair in [*pairs.values(), *found["risk"]["highest"]]:
        pair["train"] = sets[0].names[pair["train"]]


def table(report: dict) -> str:
    """The report as text: measures, copies, canaries, verdicts, and what was not tested."""
    counts = [f"{name}: {n:,} images" for name, n in report["counts"].items()]
    lines = ["  ".join(counts), "", *_measures(report), *_privacy(report["privacy"]), "",
             *_canaries(report), "", *conclusion(report, 38)]
    return "\n".join(lines)


def _measures(report: dict) -> Iterator[str]:
    synthetic, floor = report["quality"]["synthetic"], report["quality"]["floor"]
    yield f"{'':38}{'synthetic':>22}{'real (floor)':>14}"
    for key, measure in MEASURES.items():
        if key in synthetic:
            heading = f"{measure.heading} ({measure.better})"
            yield f"{heading:38}{_number(synthetic[key]):>22}{_number(floor[key]):>14}"
    if useful := report["utility"]:
        for key, heading in TRAINED_ON.items():
            if key in useful:
                heading = f"accuracy, {heading.format(n=useful['n'], ten=useful['ten'])}"
                yield f"{heading:38}{shown(useful[key]):>22}"
    if found := report.get("anatomy"):
        for heading, distance, floor, _ in described(found):
            yield f"{heading + ', sd apart':38}{distance:>22.2f}{floor:>14.2f}"


def _number(value: float) -> str:
    return f"{value:.2f}" if abs(value) >= 0.1 else f"{value:.4f}"


def _privacy(found: dict) -> Iterator[str]:
    for attack in ATTACKS:
        for key, heading in attack.headings.items():
            digits = 3 if found[key]["value"] < 0.1 else 2
            yield f"{heading:38}{shown(found[key], digits):>22}"
    risk = found["risk"]
    most = risk["highest"][0]
    yield (f"risk of a training patient: median {risk['quantiles']['median']:.2f}, 99 % "
           f"{risk['quantiles']['99 %']:.2f}, highest {risk['quantiles']['highest']:.2f} "
           f"({most['train']}; as high among strangers: {most['false_alarms']:.1%}); strangers' "
           f"highest {risk['held_out_quantiles']['highest']:.2f}")
    for pair in found["copies"]:
        yield f"copy: {_pair(pair)}"
    for pair in found["closest"][len(found["copies"]):][:3]:
        yield f"closest: {_pair(pair)}"


def _pair(pair: dict) -> str:
    mirrored = ", mirrored" * pair["mirrored"]
    return (f"{pair['synthetic']} of {pair['train']}, {pair['distance']:.3f}, turned "
            f"{round(pair['turned']):+d} degrees, zoomed {pair['zoomed']:.2f}{mirrored}")


def _canaries(report: dict) -> Iterator[str]:
    known = report["embedding"]
    yield (f"embedding: knows {known['nearest']:.0%} of {known['copies']} turned and zoomed images "
           f"again among {known['distractors']:,} others")
    yield "planted copies of training images, and how many were seen:"
    for kind, found in report["canaries"].items():
        count = f"{found['found']} of {found['planted']}"
        yield f"  {kind:36}{count:>10}  {shown(found)}"
