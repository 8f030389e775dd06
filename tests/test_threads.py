"""The governor of threads, driven by machines whose speed is written down: no clock, no seconds of this machine."""

import pytest

from genmed_core.kernels.threads import ALARM, BLOCK, LONGEST, Governor, candidates


def train(governor, seconds, duration):
    """Steps of a training until `duration` has passed; seconds(threads, time) -> of one step. -> [(time, threads)]"""
    time, taken = 0.0, []
    while time < duration:
        took = seconds(governor.threads, time)
        taken.append((time, governor.threads))
        governor.tell(took)
        time += took
    return taken


def share(taken, threads, since=0.0):
    """The share of the steps after `since` that ran on so many threads."""
    late = [n == threads for time, n in taken if time >= since]
    return sum(late) / len(late)


@pytest.mark.parametrize("most, counts", [(1, [1]), (2, [1, 2]), (4, [1, 4]), (16, [1, 4, 16]), (24, [1, 4, 16, 24])])
def test_candidates(most, counts):
    assert candidates(most) == counts


@pytest.mark.parametrize("ms", [0.5, 5, 40])
@pytest.mark.parametrize("gain, best", [(1.6, 2), (1.1, 2), (0.8, 1), (0.1, 1)])
def test_the_faster_number_is_kept(ms, gain, best):
    taken = train(Governor(2), lambda n, t: ms / 1000 / (gain if n == 2 else 1), 30)
    assert share(taken, best, since=3) > 0.95


def test_of_many_cores_the_best_number_is_kept():
    speed = {1: 1, 4: 2.5, 16: 2}
    assert share(train(Governor(16), lambda n, t: 0.004 / speed[n], 30), 4, since=3) > 0.95


def test_the_first_steps_say_nothing():
    """Memory and kernels are set up in them, on whatever number they run."""
    seen = set()

    def seconds(n, t):
        first = n not in seen
        seen.add(n)
        return 2.0 if first else 0.01 / n

    assert share(train(Governor(2), seconds, 10), 2, since=5) > 0.95


def test_a_competitor_is_noticed_at_once_and_its_going_within_seconds():
    """From 10 s to 20 s another process wants a core: two threads become seven times slower."""
    def seconds(n, t):
        return 0.03 / (1.7 if n == 2 else 1) * (7 if n == 2 and 10 <= t < 20 else 1)

    taken = train(Governor(2), seconds, 40)
    during = [(t, n) for t, n in taken if 10 <= t < 20]
    assert share(during, 1, since=10.5) > 0.95
    assert share(taken, 2, since=20 + LONGEST + 1) > 0.95


def test_what_a_look_costs():
    """Beside a process that takes one core for good, all looks together cost less than a tenth of the time."""
    busy = train(Governor(2), lambda n, t: 0.004 * (8 if n == 2 else 1), 60)
    assert sum(n == 2 for _, n in busy) * 0.032 < 0.1 * 60
    idle = train(Governor(2), lambda n, t: 0.004 / (1.5 if n == 2 else 1), 60)
    assert sum(n == 1 for _, n in idle) * 0.004 < 0.02 * 60


def test_a_machine_that_slows_down_for_all_is_not_looked_at_without_end():
    def seconds(n, t):
        return 0.03 / n * (2 * ALARM if t > 10 else 1)

    taken = train(Governor(2), seconds, 40)
    assert share(taken, 2, since=3) > 0.9


def test_single_slow_steps_do_not_change_the_choice():
    steps = iter(range(1_000_000))
    taken = train(Governor(2), lambda n, t: 0.005 / n + (0.05 if next(steps) % 97 == 0 else 0), 40)
    assert share(taken, 2, since=3) > 0.9


def test_short_steps_are_judged_several_together():
    governor = Governor(2)
    for _ in range(3):
        assert governor.threads == 2
        governor.tell(BLOCK / 3)
    governor.tell(BLOCK / 3)
    assert governor.threads == 1
