"""How many processor threads a training step uses: found out by timing the steps themselves.

A second thread nearly doubles the speed of a large step on an idle machine, and makes the same step
several times slower when another process wants that core. No rule made in advance knows which of
the two it will meet.
"""

from __future__ import annotations

import os
from collections.abc import Generator

import torch
from torch import nn

from genmed_core import runtime
from genmed_core.kernels import shares

BLOCK = 0.02  # s: steps shorter than this are judged several together
FIRST_LOOK, LONGEST = 2.0, 8.0  # s of training between two looks: after a change, at most
ALARM = 1.4  # so many times slower than usual: look at once
WORTH = 0.97  # another number of threads must take less than this share of the time


def candidates(most: int) -> list[int]:
    """One thread, all `most`, and powers of four between: 16 -> [1, 4, 16]."""
    counts = [1]
    while counts[-1] * 4 < most:
        counts.append(counts[-1] * 4)
    return counts + [most] if most > 1 else counts


class Governor:
    """The number of threads for the next step of a training, learnt from how long its steps take.

    Run a step on `threads` threads and `tell(seconds)` how long it took. Every step is one of the
    training's own, so what a comparison costs is the slower half of it: a few hundredths of a
    second every `LONGEST` seconds, and at once when steps become `ALARM` times slower than they
    were. Only told times count, no clock is read here.
    """

    def __init__(self, most: int):
        self.counts = candidates(most)
        self._plan = self._govern()
        self.threads = next(self._plan)
        self._steps, self._seconds = 0, 0.0

    def tell(self, seconds: float) -> None:
        """The last step took so many seconds on `threads` threads."""
        self._steps, self._seconds = self._steps + 1, self._seconds + seconds
        if self._seconds >= BLOCK:
            passed, per_step = self._seconds, self._seconds / self._steps
            self._steps, self._seconds = 0, 0.0
            self.threads = self._plan.send((passed, per_step))

    # The plan is a generator: it yields the threads for the next block of steps, and is sent how
    # long the block and one step of it took.

    def _govern(self) -> Generator[int, tuple[float, float], None]:
        for count in reversed(self.counts):
            _setting_up = yield count  # memory and kernels: the time of these steps says nothing
        now, patience = self.counts[0], FIRST_LOOK
        while True:
            before = now
            now, usual = yield from self._look(before)
            patience = min(2 * patience, LONGEST) if now == before else FIRST_LOOK
            since = 0.0
            while since < patience:
                passed, took = yield now
                since += passed
                if took > ALARM * usual:
                    patience = FIRST_LOOK
                    break
                usual += 0.1 * (took - usual)

    def _look(self, now: int) -> Generator[int, tuple[float, float], tuple[int, float]]:
        """-> the fastest number of threads, and the seconds of a step on it."""
        took = 0.0
        for other in self.counts:
            if other != now:
                now, took = yield from self._compare(now, other)
        return now, took

    def _compare(self, now: int,
                 other: int) -> Generator[int, tuple[float, float], tuple[int, float]]:
        """Blocks on either number in turn, until one is clearly faster -> that one, its seconds."""
        mine = theirs = 0.0
        for rounds in range(1, 5):
            theirs += (yield other)[1]
            mine += (yield now)[1]
            clear = 2.0 if rounds == 1 else 1.2
            if max(mine, theirs) > clear * min(mine, theirs):
                break
        return (other, theirs / rounds) if theirs < WORTH * mine else (now, mine / rounds)


class StepThreads:
    """The threads of a training's steps: chosen by a Governor, or one number. A context of a run.

    Inside, torch computes on that number of threads; afterwards on as many as before.
    """

    def __init__(self, model: nn.Module, threads: int | None, *, governed: bool):
        most = runtime.threads_at_most()
        free = threads is None and runtime.threads_asked() is None and governed
        self.governor = Governor(most) if free and most > 1 else None
        self.fixed = threads or usual_threads(model)

    @property
    def number(self) -> int:
        """Threads of the next step."""
        return self.governor.threads if self.governor else self.fixed

    def __enter__(self) -> None:
        self._before = torch.get_num_threads()
        self.apply()

    def __exit__(self, *error: object) -> None:
        torch.set_num_threads(self._before)

    def apply(self) -> None:
        """Let torch compute on the number that is wanted now."""
        if self.number != torch.get_num_threads():
            torch.set_num_threads(self.number)

    def tell(self, seconds: float) -> None:
        """The last step took so long."""
        if self.governor:
            self.governor.tell(seconds)


def usual_threads(model: nn.Module) -> int:
    """What GENMED_THREADS asks for, else one for short operations, else a share of all."""
    if asked := runtime.threads_asked():
        return asked
    if not any(isinstance(m, nn.modules.conv._ConvNd) for m in model.modules()):
        return 1
    mine = "OMP_NUM_THREADS" in os.environ  # set for each process, by torchrun or by hand
    return max(1, torch.get_num_threads() // (1 if mine else shares.processes()))
