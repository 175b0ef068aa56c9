"""A compiled loop whose rows a team of threads shares."""

from __future__ import annotations

import numpy as np
import pytest

from torch_shallow.compiled.decorator import compiled
from torch_shallow.compiled.team import share
from torch_shallow.functions.operators.threads import TEAM


@compiled()
def add_range(thread, start, stop, x, factor, negative, y, thread_of):
    for row in range(start, stop):
        y[row] += factor * (-x[row] if negative else x[row])
        thread_of[row] = thread


@compiled()
def add(team, threads, size, start, stop, x, factor, negative, y, thread_of):
    share(team, threads, size, start, stop, add_range, (x, factor, negative, y, thread_of))


@compiled()
def meet_range(thread, start, stop, arrived, most):
    """Wait until another thread has come, for a limited number of rounds.

    The compiler must read `arrived[0]` in each round, since it cannot know that the entry written is another one.
    """
    arrived[0] += 1
    rounds = 0
    while arrived[0] < 2 and rounds < most:
        arrived[1 + thread] += 1
        rounds += 1


@compiled()
def meet(team, threads, size, start, stop, arrived, most):
    share(team, threads, size, start, stop, meet_range, (arrived, most))


@pytest.mark.parametrize("team", [0, TEAM], ids=["alone", "team"])  # an address is another one in each process
@pytest.mark.parametrize(("start", "stop"), [(0, 0), (0, 1), (0, 1000), (3, 998), (5, 5), (9, 4)])
@pytest.mark.parametrize("size", [1, 7, 5000])
def test_each_row_of_the_range_is_worked_on_once(team: int, start: int, stop: int, size: int) -> None:
    rng = np.random.default_rng(0)
    for negative, dtype in ((True, np.float32), (False, np.float64)):
        x, y, thread_of = rng.standard_normal(1000).astype(dtype), np.zeros(1000), np.full(1000, -1)
        add(team, 3, size, start, stop, x, 2.5, negative, y, thread_of)
        expected = np.zeros(1000)
        expected[start:stop] = (-2.5 if negative else 2.5) * x[start:stop].astype(np.float64)
        np.testing.assert_array_equal(y, expected)
        inside = np.zeros(1000, dtype=bool)
        inside[start:stop] = True
        assert (thread_of[~inside] == -1).all()
        assert np.isin(thread_of[inside], range(3 if team else 1)).all()


@pytest.mark.skipif(not TEAM, reason="torch's threads cannot be called on this system")
def test_threads_work_at_the_same_time() -> None:
    arrived = np.zeros(4, dtype=np.int64)
    meet(TEAM, 3, 1, 0, 2, arrived, 10**10)
    assert arrived[0] == 2


def test_one_thread_alone_meets_nobody() -> None:
    arrived = np.zeros(4, dtype=np.int64)
    meet(0, 3, 1, 0, 1, arrived, 1000)
    assert arrived.tolist() == [1, 1000, 0, 0]
