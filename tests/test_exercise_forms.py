"""What is said of answers of every kind, right, wrong and broken; in Python, and the same in the browser."""

import math
import sys
import time

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from widget_page import show

from genmed_core import exercises
from genmed_core.exercises import answers
from genmed_core.widgets import Question


@pytest.fixture
def sheet():
    return exercises.Sheet("99_own")


@pytest.fixture
def kl(sheet):
    """KL of N(mu, exp(logvar)) to N(0, 1) by torch.distributions, and two mistakes."""
    def cases(g):
        return {"mu": torch.randn(5, 3, generator=g), "logvar": torch.randn(5, 3, generator=g)}

    @sheet.function("99.1", "code", 2, "The KL", cases=cases)
    def kl(mu, logvar):
        q = torch.distributions.Normal(mu, (logvar / 2).exp())
        return torch.distributions.kl_divergence(q, torch.distributions.Normal(0.0, 1.0)).sum(1)

    @kl.mistake("You forgot the one half.")
    def _(mu, logvar):
        return 2 * kl.oracle(mu, logvar)

    @kl.mistake("You took the mean over the coordinates, where their terms add up.")
    def _(mu, logvar):
        return kl.oracle(mu, logvar) / 3

    return kl


def half(mu, logvar):
    return 0.5 * (mu**2 + logvar.exp() - 1 - logvar).sum(1)


RIGHT = {
    "torch": half,
    "double": lambda mu, logvar: half(mu.double(), logvar.double()),
    "numpy": lambda mu, logvar: 0.5 * np.sum(mu.numpy() ** 2 + np.exp(logvar.numpy()) - 1 - logvar.numpy(), 1),
    "a list": lambda mu, logvar: half(mu, logvar).tolist(),
    "a loop": lambda mu, logvar: torch.stack([half(m[None], v[None])[0] for m, v in zip(mu, logvar)]),
    "a column": lambda mu, logvar: half(mu, logvar)[:, None],
    "with gradients": lambda mu, logvar: half(mu.requires_grad_(), logvar),
    "other names": lambda a, b: half(a, b),
    "a callable object": type("Own", (), {"__call__": staticmethod(half)})(),
}


@pytest.mark.parametrize("name", RIGHT)
def test_right_in_any_form(kl, name):
    assert kl.judge(RIGHT[name]).state == "right", kl.judge(RIGHT[name])


def endless(mu, logvar):
    while True:
        pass


def in_place(mu, logvar):
    mu += 1
    return half(mu, logvar)


def elsewhere(mu, logvar):
    raise RuntimeError("Expected all tensors to be on the same device, but found at least two devices")


def leaves(mu, logvar):
    raise SystemExit


WRONG = {
    "doubled": (lambda mu, logvar: 2 * half(mu, logvar), ["forgot the one half"]),
    "mean": (lambda mu, logvar: half(mu, logvar) / 3, ["mean over the coordinates"]),
    "factor": (lambda mu, logvar: 5 * half(mu, logvar), ["5 times", "For mu = ", "of shape (5, 3)"]),
    "sign": (lambda mu, logvar: -half(mu, logvar), ["sign is turned"]),
    "other": (lambda mu, logvar: half(mu, logvar) + mu[:, 0], ["which is not it", "logvar = "]),
    "summed": (lambda mu, logvar: half(mu, logvar).sum(), ["has the shape ()", "(5,) is asked for"]),
    "kept apart": (lambda mu, logvar: mu**2, ["has the shape (5, 3)"]),
    "transposed": (lambda mu, logvar: half(mu.T, logvar.T), ["has the shape (3,)"]),
    "no return": (lambda mu, logvar: print(end=""), ["returns nothing", "`return`"]),
    "too few arguments": (lambda mu: mu, ["It is called as `<lambda>(mu, logvar)`"]),
    "NaN": (lambda mu, logvar: (logvar.exp() * 0 - 1).log().sum(1), ["gives NaN", "logarithm"]),
    "infinite": (lambda mu, logvar: half(mu, logvar) / 0, ["inf"]),
    "a text": (lambda mu, logvar: "two", ["gives a str", "a number or a tensor"]),
    "two things": (lambda mu, logvar: (mu, logvar), ["gives 2 things"]),
    "shapes": (lambda mu, logvar: mu @ logvar, ["RuntimeError", "mu (5, 3), logvar (5, 3)"]),
    "a name": (lambda mu, logvar: half(mu, log_var), ["NameError", "log_var", "first cell imports"]),  # noqa: F821
    "device": (elsewhere, ["RuntimeError", "device=x.device"]),
    "endless": (endless, ["stopped after", "loop"]),
    "in place": (in_place, ["changes its argument `mu` in place", "copy"]),
    "leaves": (leaves, ["SystemExit"]),
    "no function": (3, ["A function is asked for, not a int"]),
    "a tensor": (torch.ones(3), ["A function is asked for, not a Tensor"]),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_named(kl, name):
    answer, words = WRONG[name]
    before = torch.get_rng_state()
    verdict = kl.judge(answer)
    assert verdict.state == "wrong" and all(word in verdict.message for word in words), verdict
    assert torch.equal(torch.get_rng_state(), before), "a check must not move the chapter's random numbers"


def test_a_line_of_the_readers_own_is_quoted(kl, tmp_path):
    path = tmp_path / "answer.py"
    path.write_text("def kl(mu, logvar):\n    a = mu.exp()\n    return a.no_such_thing()\n")
    names = {}
    exec(compile(path.read_text(), str(path), "exec"), names)
    assert "in the line `return a.no_such_thing()`" in kl.judge(names["kl"]).message


def stub(mu, logvar):
    """What is asked."""
    ...  # noqa: PIE790


def half_done(mu, logvar):
    """What is asked."""
    inside = mu**2  # noqa: F841
    return ...


def placeholder(mu, logvar):
    inside = ...
    return inside.sum(1) if inside is not ... else ...


def arithmetic(mu, logvar):
    kl = ...
    return 0.5 * kl


@pytest.mark.parametrize("answer", [stub, half_done, placeholder, arithmetic, None, ..., lambda mu, logvar: ...])
def test_what_waits_is_no_mistake(kl, answer):
    assert kl.judge(answer).state == "open", kl.judge(answer)


def test_cases_are_fresh_and_a_remembered_answer_fails(kl):
    seen = {}

    def remembers(mu, logvar):
        return seen.setdefault("it", half(mu, logvar))

    assert kl.judge(remembers).state == "wrong"


def test_several_things_are_told_apart(sheet):
    @sheet.function("99.2", "derive", 2, "A posterior", cases=lambda g: {"x": torch.rand(4, generator=g)},
                    returns=("mean", "variance"))
    def posterior(x):
        return x / 2, torch.full_like(x, 0.5)

    assert posterior.judge(lambda x: (x / 2, torch.full((4,), 0.5))).state == "right"
    assert "in this order: mean, variance" in posterior.judge(lambda x: x).message
    said = posterior.judge(lambda x: (x / 2, torch.full((4,), 0.7))).message
    assert "your variance is" in said and "Right is: mean" in said
    assert "Its variance has the shape" in posterior.judge(lambda x: (x / 2, torch.full((3,), 0.5))).message


def test_gradients_can_be_looked_at(sheet):
    """Fakes that are not detached give the right loss and a wrong gradient."""
    def observe(function, case):
        weight = case["weight"].clone().requires_grad_()
        loss = answers.call(lambda w, x: function(weight, x), {"w": case["weight"], "x": case["x"]})
        slope, = torch.autograd.grad(loss, weight, allow_unused=True) if loss.requires_grad else (None,)
        return {"loss": loss, "gradient": torch.zeros_like(weight) if slope is None else slope}

    @sheet.function("99.3", "code", 3, "Detached", observe=observe,
                    cases=lambda g: {"weight": torch.randn(3, generator=g), "x": torch.randn(3, generator=g)})
    def detached(weight, x):
        return (weight.detach() * x).sum() + (weight**2).sum()

    assert detached.judge(lambda w, x: (w.detach() * x).sum() + (w * w).sum()).state == "right"
    said = detached.judge(lambda w, x: (w * x).sum() + (w * w).sum()).message
    assert "your gradient is" in said and "Right is: loss" in said


def test_a_number_is_near_enough_or_a_known_mistake(sheet):
    sheet.number("99.4", "predict", 1, "A width", truth=0.5, within=0.1, why="It is a half.",
                 mistakes=[(0.25, "That is the variance."), (lambda t: 2 * t, "Twice too wide.")])
    exercise = sheet["99.4"]
    for answer in (0.5, 0.46, torch.tensor(0.52), np.float32(0.5), [0.5]):
        assert exercise.judge(answer).state == "right", answer
    for answer, words in ((0.25, "the variance"), (1.0, "Twice"), (0.8, "too high"), (-1, "too low"), (0, "too low"),
                          ("0.5", "One number is asked for"), (math.nan, "One number"), (math.inf, "One number"),
                          (True, "One number"), ([1, 2], "One number"), ({}, "One number")):
        verdict = exercise.judge(answer)
        assert verdict.state == "wrong" and words in verdict.message, (answer, verdict)
    assert exercise.judge(None).state == exercise.judge(...).state == "open"


def test_a_number_that_the_chapter_measures(sheet):
    sheet.number("99.5", "predict", 1, "A distance", truth=None, within=0.2, why="So it came out.")
    assert sheet["99.5"].judge(9.0, measured=10.0).state == "right"
    assert sheet["99.5"].judge(7.0, measured=torch.tensor(10.0)).state == "wrong"
    with pytest.raises(ValueError, match="pass measured="):
        sheet["99.5"].judge(7.0)


@pytest.fixture
def choice(sheet):
    sheet.choice("99.6", "predict", 1, "Which", answer="b", why="Because.",
                 wrongs={"a": "No, for one reason.", "c": "No, for another."})
    return sheet["99.6"]


def test_a_choice_by_its_letter(choice):
    for answer in ("b", "B", "(b)", " b "):
        assert choice.judge(answer).state == "right"
    for answer, words in (("a", "one reason"), ("c", "another"), ("d", 'One of "a", "b", "c"'), (2, "not 2"),
                          ([], "[]")):
        verdict = choice.judge(answer)
        assert verdict.state == "wrong" and words in verdict.message, verdict
    assert choice.judge(None).state == choice.judge("").state == "open"


def test_the_summary_counts_what_was_answered(sheet, kl, choice, capsys, monkeypatch):
    shown = []
    monkeypatch.setattr(sys.modules["genmed_core.exercises.sheet"], "display", lambda thing, **_: shown.append(thing))
    sheet.check("99.1", half)
    sheet.check("99.6", "a")
    sheet.summary()
    assert "✓ 99.1 is right" in capsys.readouterr().out
    text = shown[-1].data
    assert "| code | 1 | 1 | 1 |" in text and "| predict | 1 | 1 | 0 |" in text and "| **all** | 2 | 2 | 1 |" in text
    assert "Not right yet: 99.6." in text
    sheet.check("99.6", None)  # waits: a question to click on
    question = shown[-1]
    question.answer = "b"
    sheet.summary()
    assert "All are right." in shown[-1].data


def test_a_machine_that_grades_gets_an_exception(sheet, kl, choice, monkeypatch):
    monkeypatch.setenv("NBGRADER_EXECUTION", "autograde")
    sheet.check("99.1", half)
    for number, answer in (("99.1", stub), ("99.1", in_place), ("99.6", None), ("99.6", "a")):
        with pytest.raises(exercises.NotRight, match=number):
            sheet.check(number, answer)


def test_sheets_name_what_is_wrong_with_them(sheet, kl):
    with pytest.raises(ValueError, match="no exercise '99.7'; it has 99.1"):
        sheet.check("99.7", None)
    with pytest.raises(ValueError, match="an exercise 99.1 already"):
        sheet.choice("99.1", "predict", 1, "Which", answer="a", why="", wrongs={})
    with pytest.raises(ValueError, match="kind must be one of"):
        sheet.choice("99.8", "guess", 1, "Which", answer="a", why="", wrongs={})
    with pytest.raises(ValueError, match="one to three stars"):
        sheet.choice("99.8", "predict", 0, "Which", answer="a", why="", wrongs={})
    with pytest.raises(ValueError, match="listed as wrong"):
        sheet.choice("99.8", "predict", 1, "Which", answer="a", why="", wrongs={"a": "no"})
    with pytest.raises(ValueError, match="no exercises of a chapter '77_none'"):
        exercises.sheet("77_none")


def test_a_check_is_quick(kl):
    started = time.perf_counter()
    for _ in range(20):
        kl.judge(half)
    assert time.perf_counter() - started < 20 * 0.5


# --- in the browser ------------------------------------------------------------------------------------------


def test_questions_are_judged_in_the_browser_as_in_python(browser, tmp_path, sheet, choice):
    sheet.number("99.4", "predict", 1, "A width", truth=-0.5, within=0.1, why="It is minus a half.",
                 mistakes=[(0.25, "That is the variance."), (lambda t: 2 * t, "Twice too wide.")])
    number = sheet["99.4"]
    widgets = [Question(number=e.number, key=e.key()) for e in (choice, number)]
    page = show(browser, tmp_path / "questions.html", *widgets, viewport={"width": 390, "height": 800})
    letters = page.locator(".genmed-question").nth(0)
    said = letters.get_by_role("status")
    for letter in ("a", "b", "c"):
        letters.get_by_role("button", name=f"99.6: sentence {letter}").press("Enter")
        assert said.inner_text() == str(choice.judge(letter))
        assert page.evaluate("() => window.models[0].get('answer')") == letter
    assert letters.get_by_role("button", pressed=True).inner_text() == "c"
    typed = page.locator(".genmed-question").nth(1)
    field = typed.get_by_role("textbox", name="99.4: your number")
    for text in ("-0.5", "\u22120,46", "0.25", "-1", "3", "-7e1"):
        field.fill(text)
        field.press("Enter")
        verdict = number.judge(float(text.replace("\u2212", "-").replace(",", ".")))
        found = typed.get_by_role("status")
        assert found.get_attribute("data-state") == verdict.state, text
        assert found.inner_text().split(". ")[-1] == verdict.message.split(". ")[-1].split(": ")[-1].capitalize() \
            or verdict.message.split(". ", 2)[-1] in found.inner_text(), (text, found.inner_text(), str(verdict))
    field.fill("a half")
    typed.get_by_role("button", name="99.4: check").click()
    assert "One number is asked for" in typed.get_by_role("status").inner_text()
    field.fill("")
    typed.get_by_role("button", name="99.4: check").click()
    assert typed.get_by_role("status").inner_text() == ""
    assert page.trouble == []
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 390
    assert page.evaluate("() => [localStorage.length, sessionStorage.length, document.cookie]") == [0, 0, ""]


def test_the_stored_notebook_says_that_a_question_waits(choice):
    data = Question(number="99.6", key=choice.key())._repr_mimebundle_()[0]
    assert data["text/plain"].startswith("○ 99.6 waits for your answer.")


def test_functions_of_torch_are_no_stubs():
    assert answers.is_stub(stub) and not answers.is_stub(half) and not answers.is_stub(F.softplus)


def test_an_output_that_is_missing_is_named(sheet):
    @sheet.function("99.2", "code", 1, "Two things", cases=lambda g: {"x": torch.rand(3, generator=g)},
                    observe=lambda function, case: answers.call(function, case))
    def both(x):
        return {"sum": x.sum(), "mean": x.mean()}

    assert both.judge(lambda x: {"sum": x.sum(), "mean": x.mean()}).state == "right"
    assert "Its mean is missing" in both.judge(lambda x: {"sum": x.sum()}).message


def test_an_import_is_not_stopped_half_way(kl, tmp_path, monkeypatch):
    """It may be torch, loading a part of itself for the first time; half of it would break all that follows."""
    slow = "import time\nend = time.process_time() + 2.5\nwhile time.process_time() < end:\n    pass\n"
    (tmp_path / "slow_part.py").write_text(slow)
    monkeypatch.syspath_prepend(tmp_path)

    def answer(mu, logvar):
        import slow_part  # noqa: F401
        return half(mu, logvar)

    kl.judge(answer)
    assert "slow_part" in sys.modules and kl.judge(answer).state == "right"
