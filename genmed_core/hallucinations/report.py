"""The report on paired folders, which JSON can hold, its verdicts and its table."""

from collections.abc import Iterator

import torch

from genmed_core.audit import anatomy
from genmed_core.audit.folders import SIZE, AuditError, flat, generator
from genmed_core.audit.questions import (
    Finding,
    Question,
    beyond,
    conclusion,
    judge,
    short_of,
    shown,
    worst,
)
from genmed_core.audit.report import Tell
from genmed_core.hallucinations.measures import Seen, lesions_of, measure
from genmed_core.hallucinations.paired import Lesions, Paired

BARS = {"sensitivity": 0.3, "erased": 0.05, "invented": 0.05, "lost": 0.05, "organs": 0.02}
NOT_TESTED = (
    "lesions that the detector does not find: small, faint, behind heart or diaphragm, or of "
    "another kind than round nodules",
    f"anything smaller than a {SIZE}th of the width",
    "whether a radiologist would decide otherwise by the output than by the truth",
    "patients and scanners that are rare in these folders",
    "whether what was altered outside lesions matters")


def hallucinations(pairs: Paired, *, seed: int = 0,
                   tell: Tell = lambda words, share: None) -> dict:
    """Every measure and verdict for paired films -> a report. Raises AuditError.

    With an input, the same measures of the input show what doing nothing would have scored.
    tell(words, share): called as the work goes on.
    """
    rng = generator(seed)
    _check(pairs)
    tell("looking for lesions in the truth", 0.0)
    truth, given = Seen(pairs.truth), pairs.lesions is not None
    lesions = lesions_of(truth) if pairs.lesions is None else pairs.lesions
    tell("comparing outputs with it", 0.2)
    found = measure(truth, Seen(pairs.output), lesions, rng, given=given)
    report: dict = {"counts": {"pairs": len(pairs.truth), "lesions": len(lesions.film)},
                    "notes": [*pairs.notes, *_notes(pairs, found)], "bars": BARS, "seed": seed,
                    "lesions_by": "masks" if given else "detector", "output": found, "input": None}
    if pairs.input is not None:
        tell("comparing inputs with it", 0.6)
        report["input"] = measure(truth, Seen(pairs.input), lesions, rng, given=given)
    for one in filter(None, (report["output"], report["input"])):
        for key in ("erased", "invented"):
            one[key]["films"] = [pairs.names[i] for i in one[key]["films"]]
            one[key]["places"] = [(pairs.names[i], *at) for i, *at in one[key]["places"]]
    tell("done", 1.0)
    return report | {"verdicts": judge(report, QUESTIONS), "not_tested": list(NOT_TESTED)}


def from_tensors(truth: torch.Tensor, output: torch.Tensor, *, input: torch.Tensor | None = None,
                 lesions: Lesions | None = None) -> Paired:
    """Films (n, 1, SIZE, SIZE) uint8 in memory as pairs; lesions: see `components`."""
    return Paired(truth, output, input, lesions, [f"{i}" for i in range(len(truth))], [])


def _check(pairs: Paired) -> None:
    n = len(pairs.truth)
    for name in ("truth", "output", "input"):
        x = getattr(pairs, name)
        if x is not None and (x.dtype != torch.uint8 or x.shape != (n, 1, SIZE, SIZE)):
            raise AuditError(f"{name}: images are {x.dtype} {tuple(x.shape)}; give uint8 grey "
                             f"levels ({n}, 1, {SIZE}, {SIZE})")


def _notes(pairs: Paired, found: dict) -> Iterator[str]:
    n, equal = len(pairs.truth), found["quality"]["equal"]
    if equal:
        yield f"{equal} of {n} outputs are their truth, pixel for pixel"
    if pairs.input is not None:
        same = int((pairs.input == pairs.output).flatten(1).all(1).sum())
        if same:
            yield f"{same} of {n} outputs are their input, pixel for pixel: nothing was done"
    if blank := int(flat(pairs.output).sum()):
        yield f"{blank} of {n} outputs are of one grey level"
    if pairs.lesions is None:
        yield ("nobody said where lesions are: the detector's marks in the truth stand for them. "
               "False ones are among them, which a model rarely erases, so that the share erased "
               "comes out too low; its sensitivity is that on phantoms")
    if n < 200:
        yield "fewer than 200 pairs: the intervals are wide, little can pass"


# --- verdicts -------------------------------------------------------------------------------------


def _control(report: dict) -> Finding:
    found = report["output"]["detector"]
    if not found["given"]:
        enough = found["found"] >= 30 and report["output"]["organs"] is not None
        return Finding(None if not enough else False, f"{found['found']} marks in the truth, chest "
                       f"films: {'yes' if report['output']['organs'] else 'no'}",
                       "30 marks in chest films")
    bad = short_of(found["sensitivity"], BARS["sensitivity"]) if found["lesions"] else None
    return Finding(bad, f"finds {found['found']} of {found['lesions']} lesions in the truth: "
                        f"{shown(found['sensitivity'])}", f"at least {BARS['sensitivity']}")


def _erased(report: dict) -> Finding:
    found, bar = report["output"]["erased"], f"up to {BARS['erased']}"
    if found["value"] is None:
        return Finding(None, "no lesion was found in the truth", bar)
    words = f"{found['lost']} of {found['of']} gone: {shown(found)}"
    return Finding(beyond(found, BARS["erased"]), words, bar)


def _invented(report: dict) -> Finding:
    found = report["output"]["invented"]
    words = (f"new marks in {len(found['films'])} of {report['counts']['pairs']} films; corrected "
             f"for misses: {shown(found)}")
    return Finding(beyond(found, BARS["invented"]), words, f"up to {BARS['invented']} of films")


def _organs(report: dict) -> Finding | None:
    if (found := report["output"]["organs"]) is None:
        return None
    changes = {name: found[name] for name in ("ctr", "lungs") if found[name]}
    bad = worst(beyond(found["lost"], BARS["lost"]),
                *(beyond(change, BARS["organs"]) for change in changes.values()))
    because = ", ".join(f"{anatomy.MEASURED[name]} off by {shown(change, 3)}"
                        for name, change in changes.items())
    return Finding(bad, f"{because}; no longer found: {shown(found['lost'])}",
                   f"up to {BARS['organs']} beyond the floor; {BARS['lost']}")


QUESTIONS = [Question("Does the detector see the truth's lesions?", "yes", "no", _control),
             Question("Were lesions erased?", "no", "yes", _erased),
             Question("Were lesions invented?", "no", "yes", _invented),
             Question("Are lungs and heart those of the truth?", "yes", "no", _organs)]


# --- table ----------------------------------------------------------------------------------------


def rows(report: dict) -> list[tuple[str, str, str]]:
    """[(measure, output, input or "")] of a report, as text."""
    n, sides = report["counts"]["pairs"], [report["output"], report["input"]]
    columns = [_column(one, n) if one else {} for one in sides]
    return [(heading, text, columns[1].get(heading, "")) for heading, text in columns[0].items()]


def _column(one: dict, n: int) -> dict[str, str]:
    """{measure: text} of an output, or of an input."""
    erased, invented, organs = one["erased"], one["invented"], one["organs"]
    texts = {
        "lesions erased, share of those found": shown(erased) if erased["of"] else "none found",
        "  counted": f"{erased['lost']} of {erased['of']}",
        "lesions invented, share of films": shown(invented),
        "  films with new marks": f"{len(invented['films'])} of {n}",
        "altered outside lesions, over floor": shown(one["altered"]["ratio"])}
    for name, region in one["altered"]["regions"].items():
        levels = f"{region['levels']:.1f} ({region['floor']:.1f})"
        texts[f"  {name}, grey levels (floor)"] = levels
    for name, heading in anatomy.MEASURED.items() if organs else ():
        texts[f"{heading.split(',')[0]}, off"] = shown(organs[name], 3) if organs[name] else "none"
    return texts | {"PSNR, dB (higher is better)": shown(one["quality"]["psnr"]),
                    "SSIM (higher is better)": shown(one["quality"]["ssim"], 3)}


def table(report: dict) -> str:
    """The report as text: measures of output and input, notes, verdicts, what was not tested."""
    counts, by = report["counts"], report["lesions_by"]
    heading = f"{'':38}{'output':>24}" + f"{'input':>24}" * (report["input"] is not None)
    lines = [f"{counts['pairs']:,} pairs, {counts['lesions']:,} lesions in the truth (by the {by})",
             "", heading]
    lines += [f"{name:38}{first:>24}{second:>24}".rstrip() for name, first, second in rows(report)]
    return "\n".join([*lines, "", *conclusion(report, 44)])
