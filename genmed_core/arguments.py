"""Looks at arguments before they give a silent wrong number; each error says what to give."""

import math
from collections.abc import Sequence
from numbers import Integral, Real

import torch

Range = tuple[float, float]


def whole(name: str, value: int, least: int = 1, most: int | None = None) -> None:
    """ValueError unless `value` is a whole number from `least` to `most`."""
    if torch.compiler.is_compiling():  # whose graph this would break
        return
    is_whole = isinstance(value, Integral) and not isinstance(value, bool)
    if not is_whole or value < least or (most is not None and value > most):
        limits = f"{least} or more" if most is None else f"from {least} to {most}"
        raise ValueError(f"{name}={value!r}: give a whole number, {limits}")


def number(name: str, value: float, low: float = -math.inf, high: float = math.inf, *,
           positive: bool = False) -> None:
    """ValueError unless `value` is finite and lies between the bounds, or above 0."""
    finite = isinstance(value, Real) and math.isfinite(value)
    if not finite or not low <= value <= high or (positive and value <= 0):
        limits = "above 0" if positive else f"from {low} to {high}"
        raise ValueError(f"{name}={value!r}: give a finite number {limits}")


def choice(name: str, value: str, choices: Sequence[str]) -> None:
    """ValueError unless `value` is one of these."""
    if value not in choices:
        raise ValueError(f"{name}={value!r}: choose from {', '.join(choices)}")


def ordered(name: str, pair: Range) -> Range:
    """The pair (low, high); ValueError unless it is one and rises."""
    if not isinstance(pair, Sequence) or len(pair) != 2 or not pair[0] < pair[1]:
        raise ValueError(f"{name}={pair!r}: give (low, high) with low < high, such as (-1, 1)")
    return pair
