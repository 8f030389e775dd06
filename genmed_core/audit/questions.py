"""What an audit asks. A question is one entry: what it reads of a report, bar, answers."""

from collections.abc import Callable
from typing import Any, NamedTuple

from genmed_core.audit.intervals import Interval

BARS: dict[str, Any] = {
    "fd": 2.0, "detail": (0.8, 1.25), "coverage": 0.8, "gap": 0.05, "control": 0.6,
    "closer": 0.55, "copies": 0.10, "membership": 0.55,
}
ALPHA = 0.01  # accepted chance of a false alarm


class Finding(NamedTuple):
    """What a question finds in a report."""

    bad: bool | None  # None where the interval reaches too far to tell
    because: str
    bar: str
    good: str | None = None  # another word for the good answer


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


def above(found: Interval, bar: float, unclear: float) -> bool | None:
    """Whether the whole interval lies above the bar; None where its top is too high to tell."""
    if found["low"] > bar:
        return True
    return None if found["high"] > unclear else False


def shown(found: Interval) -> str:
    """A value with its interval, as text."""
    return f"{found['value']:.2f} ({found['low']:.2f} to {found['high']:.2f})"


@question("Is the held-out set a fair control?")
def _control(report: dict) -> Finding:
    found = report["privacy"]["control"]
    because = f"held-out images nearest to their own: {shown(found)}"
    return Finding(above(found, BARS["control"], 0.75), because, f"above {BARS['control']} is not")


def judge(report: dict) -> list[dict]:
    """The questions with their answers -> [{"question", "answer", "verdict", "because", "bar"}].

    verdict: "pass", "flag" or "unclear". Nothing passes against a held-out set that is no fair
    control, which is asked first.
    """
    judged: list[dict] = []
    for asked in QUESTIONS:
        if (finding := asked.find(report)) is None:
            continue
        verdict = {None: "unclear", True: "flag", False: "pass"}[finding.bad]
        if verdict == "pass" and judged and judged[0]["verdict"] == "flag":
            verdict = "unclear"
        answers = {"pass": finding.good or asked.good, "flag": asked.bad, "unclear": "unclear"}
        judged.append({"question": asked.text, "answer": answers[verdict], "verdict": verdict,
                       "because": finding.because, "bar": finding.bar})
    return judged
