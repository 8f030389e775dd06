"""Exercises that ask for a function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from genmed_core.exercises.answers import (
    SECONDS,
    BadAnswer,
    Case,
    Outputs,
    Unanswered,
    call,
    is_stub,
    shown,
    tensor,
    time_limit,
)
from genmed_core.exercises.exercise import Exercise, Verdict

CASES = 4  # fresh ones for each check
Observe = Callable[[Callable, Case], Any]


class FunctionExercise(Exercise):
    """A function asked for, held against an oracle on fresh random cases.

    cases: from a torch.Generator to the arguments of one case by name, float32 as a reader has
    them; the oracle gets the same in float64.  returns: the names of what comes back, where it is
    more than one thing.  observe(function, case): what is looked at instead of what comes back, a
    dict of tensors by name: gradients, say.  rtol, atol: how far an answer may be off; float32
    needs the default.  What has sizes of 1 more or less is the same shape.
    """

    def __init__(self, number: str, kind: str, stars: int, title: str, *,
                 oracle: Callable, cases: Callable[[torch.Generator], Case],
                 returns: tuple[str, ...] = (), observe: Observe | None = None,
                 rtol: float = 1e-3, atol: float = 1e-5) -> None:
        super().__init__(number, kind, stars, title)
        self.oracle, self.cases, self.returns = oracle, cases, returns
        self.observe, self.rtol, self.atol = observe or call, rtol, atol
        self.mistakes: list[tuple[str, Callable]] = []

    def mistake(self, message: str) -> Callable[[Callable], Callable]:
        """A decorator: a function that a reader may well write, and what to tell her then."""
        def enter(function: Callable) -> Callable:
            self.mistakes.append((message, function))
            return function
        return enter

    def judge(self, answer: Any, measured: float | None = None) -> Verdict:
        """Right where the function agrees with the oracle on fresh cases; else why it does not."""
        generator = torch.Generator()
        generator.seed()
        cases = self.draw(generator)
        found = self.tried(answer, cases)
        return found if isinstance(found, Verdict) else self.verdict(cases, found)

    def draw(self, generator: torch.Generator) -> list[Case]:
        """The cases of one check; the same seed draws the same."""
        return [self.cases(generator) for _ in range(CASES)]

    def tried(self, answer: Any, cases: list[Case],
              seconds: float = SECONDS) -> list[Outputs] | Verdict:
        """A function's outputs for the cases; where it gives none, the verdict on that.

        It needs no oracle: a grader calls it where only the reader's code runs.
        """
        if answer is None or answer is ... or is_stub(answer):
            return self.open()
        if not callable(answer):
            return self.wrong(f"A function is asked for, not a {type(answer).__name__}.")
        try:
            with time_limit(seconds), torch.random.fork_rng(devices=[]):
                return [self.outputs(answer, case) for case in cases]
        except Unanswered:
            return self.open()
        except BadAnswer as problem:
            return self.wrong(str(problem))

    def verdict(self, cases: list[Case], found: list[Outputs]) -> Verdict:
        """What is to be said of a function's outputs for the cases."""
        asked = [self.outputs(self.oracle, in_double(case)) for case in cases]
        if shape := self._other_shape(found, asked):
            return self._named(cases, found) or self.wrong(shape)
        off = [k for k in range(len(cases)) if self._apart(found[k], asked[k])]
        if not off:
            return self.right(
                f"it agrees with another way of finding it on {len(cases)} fresh cases.")
        return self._named(cases, found) or self.wrong(self._unnamed(cases, found, asked, off[0]))

    def outputs(self, function: Callable, case: Case) -> Outputs:
        """What comes back, or what `observe` sees, as float64 tensors by name."""
        value = self.observe(function, case)
        if not isinstance(value, dict):
            value = self._by_name(value)
        return {name: tensor(part, f"Its {name}" if name else "It") for name, part in value.items()}

    def _by_name(self, value: Any) -> dict[str, Any]:
        if len(self.returns) < 2:
            return {"": value}
        parts = ", ".join(self.returns)
        if not isinstance(value, (tuple, list)) or len(value) != len(self.returns):
            raise BadAnswer(f"{len(self.returns)} things are asked for, in this order: {parts}.")
        return dict(zip(self.returns, value, strict=True))

    def _named(self, cases: list[Case], found: list[Outputs]) -> Verdict | None:
        """The verdict on a known mistake that the answer agrees with on every case."""
        for message, function in self.mistakes:
            try:
                theirs = [self.outputs(function, in_double(case)) for case in cases]
            except (BadAnswer, Unanswered):
                continue
            if all(not self._apart(mine, its) for mine, its in zip(found, theirs, strict=True)):
                return self.wrong(message)
        return None

    def _apart(self, found: Outputs, asked: Outputs) -> list[str]:
        """The names of those outputs that are not the same."""
        return [name for name, its in asked.items()
                if name not in found or not self._close(found[name], its)]

    def _close(self, found: torch.Tensor, asked: torch.Tensor) -> bool:
        if _plain(found) != _plain(asked):
            return False
        return torch.allclose(found.reshape(asked.shape), asked, rtol=self.rtol, atol=self.atol)

    def _other_shape(self, found: list[Outputs], asked: list[Outputs]) -> str:
        for mine, its in zip(found, asked, strict=True):
            for name in its:
                if name not in mine:
                    return f"Its {name} is missing."
                if _plain(mine[name]) != _plain(its[name]):
                    what = f"Its {name}" if name else "It"
                    return (f"{what} has the shape {tuple(mine[name].shape)}, where "
                            f"{tuple(its[name].shape)} is asked for.")
        return ""

    def _unnamed(self, cases: list[Case], found: list[Outputs], asked: list[Outputs],
                 k: int) -> str:
        """An answer of no known kind: the case, the reader's value, and what can be seen of it."""
        bad = self._apart(found[k], asked[k])
        name = bad[0]
        given = ", ".join(f"{arg} = {shown(value)}" for arg, value in cases[k].items())
        said = f"For {given}, your {name or 'value'} is {shown(found[k][name])}, which is not it."
        good = [other for other in asked[k] if other not in bad]
        if good:
            said += f" Right is: {', '.join(good)}."
        ratios = torch.cat([(mine[name].reshape(its[name].shape) / its[name]).flatten()
                            for mine, its in zip(found, asked, strict=True)])
        return said + _pattern(ratios[ratios.isfinite()])


def _pattern(ratios: torch.Tensor) -> str:
    """What a constant ratio of an answer to the right one tells."""
    if len(ratios) < 2 or not torch.allclose(ratios, ratios.mean(), rtol=1e-3, atol=1e-6):
        return ""
    ratio = float(ratios.mean())
    if abs(ratio + 1) < 1e-3:
        return " Only its sign is turned."
    if abs(ratio) < 1e-6:
        return ""
    return f" It is {ratio:.3g} times what is asked for, in every case: which factor is that?"


def in_double(case: Case) -> Case:
    """A case with its floating-point tensors in float64, as oracles compute."""
    return {name: value.double() if torch.is_tensor(value) and value.is_floating_point() else value
            for name, value in case.items()}


def _plain(value: torch.Tensor) -> list[int]:
    """A shape without its sizes of 1."""
    return [size for size in value.shape if size != 1]
