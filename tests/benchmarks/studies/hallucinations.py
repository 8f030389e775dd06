"""Does the hallucination meter say what was planted, how good is its detector, and what does it see in real films?

    GENMED_DATA=... make study STUDY=hallucinations         about five minutes on one core; real films if they are there
    python tests/benchmarks/studies/hallucinations.py --table      only print the tables

A thousand phantoms that the detector never saw, half of them with a nodule, are the truth. Outputs with a known share
of lesions removed or added are drawn by the same phantom with the same exposure, so that nothing else differs; others
are the truth itself, behind blurs, and at a quarter of the dose (what a model that does nothing would give).
In real films nobody knows the nodules, so that some are painted into them; what is marked without is said as it is.
Nothing is chosen here; no film is stored.
"""

import argparse
import hashlib
import json
import os
import time
from pathlib import Path

from genmed_core import runtime  # isort: skip  (before torch: it sets how threads wait)

import torch
from torch.nn import functional as F

from genmed_core import hallucinations
from genmed_core.audit import anatomy, views
from genmed_core.audit.intervals import share
from genmed_core.audit.questions import shown
from genmed_core.cache import cached
from genmed_core.hallucinations import detector
from genmed_core.synthetic import pairs, phantom

JSON = Path(__file__).resolve().parents[3] / "chapters" / "figures" / "hallucinations.json"
REMOVED, ADDED = 0.3, 0.1  # of the films with a nodule; of all films
LOW = 200  # films of few photons
LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


class World:
    """n phantoms, every other one with a nodule, and outputs with a known share of changes.

    Nodules are gone from the first REMOVED of the films that have one, and stand in the first ADDED of all films among
    those that have none; these films are drawn anew in the truth's exposure. Drawn once, then kept in runs/cache.
    """

    def __init__(self, n, seed):
        self.labels, plain = phantom.cxr_patients(n, classes="Normal", seed=seed)
        self.everybody = phantom.with_nodules(plain)
        self.sick = torch.arange(n) % 2 == 0
        self.factors = self.everybody | {"nodule": torch.where(self.sick, self.everybody["nodule"], 0.0)}
        code = Path(phantom.__file__).read_bytes()
        films, _ = cached("planted", [n, seed, hashlib.sha256(code).hexdigest()], self.draw)
        self.truth, self.removed, self.added = (films[name] for name in ("truth", "removed", "added"))
        self.lesions = hallucinations.components(phantom.nodules(self.factors)[0])

    def draw(self):
        n, some = len(self.labels), self.sick.nonzero()[:, 0]
        truth = phantom.draw(self.labels, self.factors)
        removed = self.redrawn(truth, some[: round(REMOVED * len(some))], nodule=0.0)
        rows = (~self.sick).nonzero()[:, 0][: round(ADDED * n)]
        added = self.redrawn(truth, rows, nodule=self.everybody["nodule"][rows])
        return {"truth": truth, "removed": removed, "added": added}, {}

    def redrawn(self, truth, rows, **changes):
        """The truth with some films drawn anew from edited factors, in the truth's exposure."""
        output, factors = truth.clone(), {name: column[rows] for name, column in self.factors.items()}
        like = self.labels[rows], factors
        output[rows] = phantom.draw(self.labels[rows], pairs.edited(factors, **changes), like=like)
        return output

    def blurred(self, sigma):
        """The truth behind a Gaussian, pixels."""
        return as_bytes(views.softened(self.truth.float() / 255, sigma))


def as_bytes(x):
    return (255 * x.clamp(0, 1)).round().to(torch.uint8)


def judged(truth, output, lesions):
    """The figures of the meter that the table shows."""
    report = hallucinations.hallucinations(hallucinations.from_tensors(truth, output, lesions=lesions))
    found = report["output"]
    counts = {key: {name: value for name, value in found[key].items() if name != "places"}
              | {"films": len(found[key]["films"])} for key in ("erased", "invented")}
    return {**counts, "altered": found["altered"]["ratio"], "detector": found["detector"],
            "organs": found["organs"], "psnr": found["quality"]["psnr"], "ssim": found["quality"]["ssim"],
            "verdicts": {v["question"]: v["verdict"] for v in report["verdicts"]}}


def planted(world):
    """{output: figures with masks, and for what was planted also figures without}."""
    outputs = {"the truth itself": world.truth, f"{REMOVED:.0%} of lesions removed": world.removed,
               f"lesions added in {ADDED:.0%} of films": world.added}
    found = {name: {"masks": judged(world.truth, output, world.lesions),
                    "detector": judged(world.truth, output, None)} for name, output in outputs.items()}
    for sigma in (0.7, 1.5, 3.0):
        found[f"blurred by {sigma} pixels"] = {"masks": judged(world.truth, world.blurred(sigma), world.lesions)}
    rows = torch.arange(LOW)
    low = world.redrawn(world.truth, rows, dose=pairs.FULL_DOSE - 0.602)[:LOW]
    lesions = world.lesions.film < LOW
    few = hallucinations.Lesions(*(column[lesions] for column in world.lesions))
    dim = {"masks": judged(world.truth[:LOW], low, few)}
    return found | {f"the input, a quarter of the dose ({LOW} films)": dim}


def froc(world):
    """Share of nodules found and marks in a film without one, at several bars."""
    score, lesions = detector.scores(world.truth), world.lesions
    best = detector.seen_near(score, lesions.film, lesions.place, lesions.radius + detector.NEAR)
    clean, n = score[~world.sick], int((~world.sick).sum())
    small = lesions.radius < lesions.radius.median()
    return [{"bar": bar, "found": share(int((best >= bar).sum()), len(best)),
             "small": (best >= bar)[small].float().mean().item(),
             "large": (best >= bar)[~small].float().mean().item(),
             "false": len(detector.marks(clean, bar).film) / n} for bar in LEVELS]


def painted(films, generator):
    """Films (n, 1, 64, 64) with a round shadow in a lung each, and where: discs (n, 3).

    As bright and as large as phantoms' nodules: 12 levels of 255, radius 1.5 to 3.2 pixels.
    """
    lung = anatomy.outlines(films)[:, :2].sum(1, keepdim=True) > 0.8
    inner = (F.avg_pool2d(lung.float(), 5, 1, 2) > 0.99).flatten(1)
    use = inner.any(1)
    pick = torch.multinomial(inner[use].float(), 1, generator=generator)[:, 0]
    radius = 1.5 + 1.7 * torch.rand(len(pick), generator=generator)
    discs = torch.stack([(pick // 64).float(), (pick % 64).float(), radius], 1)
    side = torch.arange(64.0)
    squared = ((side - discs[:, :1]).square()[:, :, None] + (side - discs[:, 1:2]).square()[:, None])
    ball = (1 - squared / radius.view(-1, 1, 1) ** 2).clamp_min(0).sqrt() * 18  # 12 on average
    return use, (films[use].float() + ball[:, None]).clamp(0, 255).round().to(torch.uint8), discs


def real():
    """Marks in real films as they are, and how many painted nodules are found; None without films."""
    from genmed_core.radiographs import CXR_CLASSES, find_database, read_database

    place = os.environ.get("GENMED_DATA") and find_database(Path(os.environ["GENMED_DATA"]))
    if not place:
        return None
    films = read_database(place, 64)
    score = detector.scores(films.images)
    marked = torch.bincount(detector.marks(score).film, minlength=len(score))
    classes = {name: {"films": int((films.labels == i).sum()),
                      "marks": marked[films.labels == i].float().mean().item()}
               for i, name in enumerate(CXR_CLASSES) if (films.labels == i).any()}
    normal = films.images[films.labels == CXR_CLASSES.index("Normal")]
    use, images, discs = painted(normal, torch.Generator().manual_seed(0))
    rows = torch.arange(len(images))
    reach = discs[:, 2] + detector.NEAR
    before, after = (detector.seen_near(detector.scores(x), rows, discs[:, :2], reach)
                     for x in (normal[use], images))
    quiet = before < detector.DOUBT
    return {"classes": classes, "painted": len(images),
            "found": share(int((after[quiet] >= detector.SURE).sum()), int(quiet.sum()))}


def measured(n, seed):
    world = World(n, seed)
    began = time.perf_counter()
    judged(world.truth, world.blurred(0.7), world.lesions)
    seconds = time.perf_counter() - began
    return {"machine": runtime.machine(), "films": n, "seed": seed, "seconds": round(seconds, 1),
            "bars": {"sure": detector.SURE, "doubt": detector.DOUBT}, "planted": planted(world),
            "froc": froc(world), "real": real()}


def table(found):
    """Tables of what was planted, of the detector, and of real films, as Markdown."""
    lines = ["| output | erased | invented, films | altered, over floor | PSNR, dB | SSIM |",
             "|:--|--:|--:|--:|--:|--:|"]
    for name, both in found["planted"].items():
        for by, one in both.items():
            erased = "none found" if one["erased"]["value"] is None else shown(one["erased"])
            lines.append(f"| {name} (lesions by the {by}) | {erased} | {shown(one['invented'])} "
                         f"| {shown(one['altered'])} | {shown(one['psnr'], 1)} | {shown(one['ssim'], 3)} |")
    lines += ["", "| bar | nodules found | smaller half | larger half | marks in a film without |",
              "|--:|--:|--:|--:|--:|"]
    lines += [f"| {x['bar']} | {shown(x['found'])} | {x['small']:.2f} | {x['large']:.2f} | {x['false']:.2f} |"
              for x in found["froc"]]
    if found["real"]:
        lines += ["", "| real films | number | marks in a film |", "|:--|--:|--:|"]
        lines += [f"| {name} | {x['films']} | {x['marks']:.2f} |" for name, x in found["real"]["classes"].items()]
        lines += ["", f"Painted into normal films: {found['real']['painted']} nodules, found "
                      f"{shown(found['real']['found'])}."]
    return "\n".join(lines + ["", f"One measurement of {found['films']:,} pairs: {found['seconds']} s."])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--films", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=4242)
    parser.add_argument("--output", type=Path, default=JSON)
    parser.add_argument("--table", action="store_true", help="measure nothing, print the stored tables")
    options = parser.parse_args()
    if not options.table:
        found = measured(options.films, options.seed)
        options.output.write_text(json.dumps(found, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    print(table(json.loads(options.output.read_text(encoding="utf-8"))))
