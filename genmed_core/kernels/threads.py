"""How many processor threads a training step uses: found out by timing the steps themselves.

A second thread nearly doubles the speed of a large step on an idle machine, and makes the same step several times
slower when another process wants that core. No rule made in advance knows which of the two it will meet.
"""

BLOCK = 0.02  # s: steps shorter than this are judged several together
FIRST_LOOK, LONGEST = 2.0, 8.0  # s of training between two looks: after a change, and when all stays as it was
ALARM = 1.4  # so many times slower than usual: look at once
WORTH = 0.97  # another number of threads must take less than this share of the time


def candidates(most):
    """One thread, all `most`, and powers of four between: 16 -> [1, 4, 16]."""
    counts = [1]
    while counts[-1] * 4 < most:
        counts.append(counts[-1] * 4)
    return counts + [most] if most > 1 else counts


class Governor:
    """The number of threads for the next step of a training, learnt from how long its steps take.

    Run a step on `threads` threads and `tell(seconds)` how long it took. Every step is one of the training's own, so
    what a comparison costs is the slower half of it: a few hundredths of a second every `LONGEST` seconds, and at
    once when steps become `ALARM` times slower than they were. Only told times count, no clock is read here.
    """

    def __init__(self, most):
        self.counts = candidates(most)
        self._plan = self._govern()
        self.threads = next(self._plan)
        self._steps, self._seconds = 0, 0.0

    def tell(self, seconds):
        """The last step took so many seconds on `threads` threads."""
        self._steps, self._seconds = self._steps + 1, self._seconds + seconds
        if self._seconds >= BLOCK:
            passed, per_step = self._seconds, self._seconds / self._steps
            self._steps, self._seconds = 0, 0.0
            self.threads = self._plan.send((passed, per_step))

    # The plan is a generator: it yields the threads for the next block of steps, and is sent how long the block and
    # one step of it took.

    def _govern(self):
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

    def _look(self, now):
        """-> the fastest number of threads, and the seconds of a step on it."""
        took = None
        for other in self.counts:
            if other != now:
                now, took = yield from self._compare(now, other)
        return now, took

    def _compare(self, now, other):
        """Blocks on either number in turn, until one is clearly faster -> that one, and the seconds of a step on it."""
        mine = theirs = 0.0
        for rounds in range(1, 5):
            theirs += (yield other)[1]
            mine += (yield now)[1]
            clear = 2.0 if rounds == 1 else 1.2
            if max(mine, theirs) > clear * min(mine, theirs):
                break
        return (other, theirs / rounds) if theirs < WORTH * mine else (now, mine / rounds)
