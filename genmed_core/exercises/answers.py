"""A reader's function: called safely, and what it returns made into tensors to compare."""

from __future__ import annotations

import contextlib
import dis
import os
import signal
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from types import CodeType, FrameType
from typing import Any

import numpy as np
import torch

# for all cases of one check; nbgrader's machine may be busy
SECONDS = 20.0 if os.environ.get("NBGRADER_EXECUTION") else 2.0
Case = dict[str, Any]
Outputs = dict[str, torch.Tensor]


class Unanswered(Exception):
    """The stub was left as it is, or a `...` still stands in it."""


class BadAnswer(Exception):
    """The reader's code cannot be judged; the message says why, to the reader."""


class _TooLong(BaseException):
    """Not an Exception, which a reader's `except Exception` inside an endless loop would eat."""


def is_stub(function: Callable) -> bool:
    """Whether a function's body is nothing but a docstring and `...`, `pass` or `return None`."""
    code = getattr(function, "__code__", None)
    if not isinstance(code, CodeType):
        return False
    does = [(step.opname, step.argval) for step in dis.get_instructions(code)
            if step.opname not in ("RESUME", "NOP")]
    return does in ([("LOAD_CONST", None), ("RETURN_VALUE", None)], [("RETURN_CONST", None)])


@contextlib.contextmanager
def time_limit(seconds: float = SECONDS) -> Iterator[None]:
    """Stop what takes more of the processor, or ten times as long by the clock, with BadAnswer.

    Only where the system has alarms (not on Windows), and only in a program's main thread.
    """
    alarm = hasattr(signal, "SIGALRM") and threading.current_thread() is threading.main_thread()
    if not alarm:
        yield
        return

    def ring(number: int, frame: FrameType | None) -> None:
        if _importing(frame):  # half a module would break all that follows: a little later
            signal.setitimer(clocks[signal.Signals(number)][0], 0.2)
        else:
            raise _TooLong

    clocks = {signal.SIGPROF: (signal.ITIMER_PROF, seconds),
              signal.SIGALRM: (signal.ITIMER_REAL, 10 * seconds)}
    before = {number: signal.signal(number, ring) for number in clocks}
    for timer, limit in clocks.values():
        signal.setitimer(timer, limit)
    try:
        yield
    except _TooLong:
        raise BadAnswer(f"It was stopped after {seconds:g} seconds: is there a loop that does not "
                        "end? A check needs far less.") from None
    finally:
        for number, (timer, _) in clocks.items():
            signal.setitimer(timer, 0)
            signal.signal(number, before[number])


def _importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def call(function: Callable, case: Case) -> Any:
    """What the reader's function returns for one case, its arguments given by place.

    Unanswered where a `...` comes back; BadAnswer for whatever else goes wrong in it.
    """
    given = {name: _copy(value) for name, value in case.items()}
    try:
        found = function(*given.values())
    except (_TooLong, Unanswered, BadAnswer, KeyboardInterrupt):
        raise
    except BaseException as error:  # SystemExit too: a reader's exit() must not end the kernel
        if isinstance(error, TypeError) and "ellipsis" in str(error):
            raise Unanswered from None
        raise BadAnswer(_in_words(error, function, case)) from None
    changed = [name for name, value in given.items() if not _same(value, case[name])]
    if changed:
        raise BadAnswer(f"It changes its argument `{changed[0]}` in place: whoever called it still "
                        "needs that. Work on a copy.")
    if _holds_ellipsis(found):
        raise Unanswered
    if found is None:
        raise BadAnswer("It returns nothing (None): is there a `return`?")
    return found


def tensor(value: Any, what: str = "It") -> torch.Tensor:
    """A returned number, array or tensor as float64 on the processor; BadAnswer for others."""
    if value is ... or value is None:
        raise Unanswered if value is ... else BadAnswer(f"{what} is None: is there a `return`?")
    if isinstance(value, tuple) and any(torch.is_tensor(part) and part.dim() for part in value):
        raise BadAnswer(f"{what} gives {len(value)} things, where one is asked for.")
    try:
        found = value if torch.is_tensor(value) else torch.as_tensor(np.asarray(value))
        found = found.detach().cpu().to(torch.float64)
    except (TypeError, ValueError, RuntimeError):
        kind = type(value).__name__
        raise BadAnswer(
            f"{what} gives a {kind}, where a number or a tensor is asked for.") from None
    if found.isnan().any():
        raise BadAnswer(f"{what} gives NaN: is there a logarithm or a root of something below "
                        "zero, or zero divided by zero?")
    return found


def _in_words(error: BaseException, function: Callable, case: Case) -> str:
    """An exception of the reader's code: its kind, its words, its line, and what usually helps."""
    name, text = type(error).__name__, str(error).strip().split("\n")[0]
    frames = traceback.extract_tb(error.__traceback__)
    inside = [f for f in frames if f.filename == getattr(function, "__code__", None)
              and function.__code__.co_filename] or frames[1:]
    line = f" in the line `{inside[-1].line}`" if inside and inside[-1].line else ""
    hint = ""
    if isinstance(error, TypeError) and "argument" in text and "positional" in text:
        hint = f" It is called as {_call(function, case)}."
    elif "same device" in text or "Expected all tensors" in text:
        hint = " Make new tensors where the arguments are: `torch.zeros(..., device=x.device)`."
    elif "size of tensor" in text or "shapes cannot be multiplied" in text or "broadcast" in text:
        hint = f" The arguments' shapes are {_shapes(case)}."
    elif type(error) is NameError:
        hint = " Use only its arguments, and what the chapter's first cell imports."
    return f"It stopped with {name}{f': {text}' if text else ''}{line}.{hint}"


def _call(function: Callable, case: Case) -> str:
    return f"`{getattr(function, '__name__', 'answer')}({', '.join(case)})`"


def _shapes(case: Case) -> str:
    shaped = {name: tuple(value.shape) for name, value in case.items() if torch.is_tensor(value)}
    return ", ".join(f"{name} {shape}" for name, shape in shaped.items()) or "none: all are numbers"


def _holds_ellipsis(value: Any) -> bool:
    if isinstance(value, Mapping):
        value = tuple(value.values())
    return value is ... or isinstance(value, (tuple, list)) and any(v is ... for v in value)


def _copy(value: Any) -> Any:
    return value.clone() if torch.is_tensor(value) else value


def _same(value: Any, original: Any) -> bool:
    if not torch.is_tensor(original):
        return True
    return value.shape == original.shape and torch.equal(value.detach(), original.detach())


def shown(value: Any) -> str:
    """A case's argument or an answer in a few characters."""
    if not torch.is_tensor(value):
        if isinstance(value, float):
            return f"{value:.4g}"
        if callable(value):
            return f"`{getattr(value, '__name__', type(value).__name__)}`"
        return repr(value)[:60]
    flat = value.detach().flatten()
    numbers = ", ".join(f"{float(v):.4g}" for v in flat[:4])
    if value.dim() == 0:
        return numbers
    more = ", ..." if len(flat) > 4 else ""
    shape = f" of shape {tuple(value.shape)}" if more or value.dim() > 1 else ""
    return f"[{numbers}{more}]{shape}"
