"""What an audit asks. A question is one entry: what it reads of a report, bar, answers.

Verdicts fail closed. "pass": the whole interval lies on the good side of the bar. "fail": the whole
interval lies on the bad side, or a copy was found. "unclear": all else, with too few images or with
a number that is none. Nothing passes unless the held-out set is shown to be a fair control.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from genmed_core.audit.intervals import Interval

BARS: dict[str, Any] = {
    "fd": 2.0, "detail": (0.8, 1.25), "coverage": 0.8, "gap": 0.05, "control": 0.6,
    "closer": 0.6, "close": 0.10, "membership": 0.6, "hits": 0.05, "seen": 0.8,
    "anatomy": 0.2, "lost": 0.05,
}
ALPHA = 0.001  # accepted chance of a false alarm, of each test
MARKS = {"pass": "ok  ", "fail": "FAIL", "unclear": "?   "}
VERDICTS = {None: "unclear", True: "fail", False: "pass"}


class Finding(NamedTuple):
    """What a question finds in a report."""

    bad: bool | None  # None where the interval straddles the bar
    because: str
    bar: str


Find = Callable[[dict], Finding | None]


class Question(NamedTuple):
    """A question, its answers, and how it is answered: report -> Finding, None if not asked."""

    text: str
    good: str
    bad: str
    find: Find


QUESTIONS: list[Question] = []


def question(text: str, good: str = "yes", bad: str = "no") -> Callable[[Find], Find]:
    """Adds the function below it to what every audit asks."""
    def add(find: Find) -> Find:
        QUESTIONS.append(Question(text, good, bad, find))
        return find

    return add


def beyond(found: Interval, bar: float) -> bool | None:
    """True where the whole interval lies above the bar, False where none of it does, else None."""
    if found["low"] > bar:
        return True
    return False if found["high"] <= bar else None  # NaN is neither


def short_of(found: Interval, bar: float) -> bool | None:
    """True where the whole interval lies below the bar, False where none of it does, else None."""
    return beyond({"low": -found["high"], "high": -found["low"]}, -bar)


def worst(*findings: bool | None) -> bool | None:
    """Bad if any is; else unclear if any is; else good."""
    if any(findings):
        return True
    return None if None in findings else False


def shown(found: Interval, digits: int = 2) -> str:
    """A value with its interval, as text."""
    value, low, high = (f"{found[key]:.{digits}f}" for key in ("value", "low", "high"))
    return f"{value} ({low} to {high})" if math.isfinite(found["low"]) else value


@question("Is the held-out set a fair control?")
def _control(report: dict) -> Finding:
    found = report["privacy"]["control"]
    because = f"held-out images nearest to their own: {shown(found)}"
    return Finding(beyond(found, BARS["control"]), because, f"up to {BARS['control']} is")


def judge(report: dict, questions: list[Question] = QUESTIONS) -> list[dict]:
    """The questions with their answers -> [{"question", "answer", "verdict", "because", "bar"}].

    verdict: "pass", "fail" or "unclear". Nothing passes unless the first question, whether the
    held-out set is a fair control, does.
    """
    judged: list[dict] = []
    for asked in questions:
        if (finding := asked.find(report)) is None:
            continue
        verdict = VERDICTS[finding.bad]
        if verdict == "pass" and judged and judged[0]["verdict"] != "pass":
            verdict = "unclear"
        answers = {"pass": asked.good, "fail": asked.bad, "unclear": "unclear"}
        judged.append({"question": asked.text, "answer": answers[verdict], "verdict": verdict,
                       "because": finding.because, "bar": finding.bar})
    return judged


def conclusion(report: dict, width: int) -> list[str]:
    """How a table ends: notes, verdicts with questions `width` wide, and what was not tested."""
    notes = [f"note: {note}" for note in report["notes"]]
    verdicts = [f"{MARKS[v['verdict']]} {v['question']:{width}}{v['answer']:8} {v['because']} "
                f"[bar: {v['bar']}]" for v in report["verdicts"]]
    untested = [f"- {words}" for words in report["not_tested"]]
    return [*notes, *[""] * bool(notes), *verdicts, "", "not tested:", *untested]
