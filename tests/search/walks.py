"""Single engines, and comparisons of partitions."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any

import numpy as np

from torch_shallow.domain import Domain
from torch_shallow.geometry.chart import make_chart
from torch_shallow.program.relu_program import ReLUProgram
from torch_shallow.search.engines.simplex_engine import SimplexWalk
from torch_shallow.search.growing_tree import ROOT, Growth
from torch_shallow.search.partition import Partition, Search
from torch_shallow.search.problem import Problem
from torch_shallow.search.task_output import Harvest, Quota


def problem_of(program: ReLUProgram, domain: Domain, **search: object) -> Problem:
    return Problem.of(program, make_chart(program, domain), Search(**search))


def walked(problem: Problem, domain: Domain, walk: Callable[[Harvest], None]) -> Partition:
    """Return what a walk of the whole domain gives to a harvest."""
    harvest, growth = Harvest(Quota()), Growth()
    walk(harvest)
    growth.add(harvest.piece(np.array([ROOT])))
    return growth.finish(problem, domain)


def asking(problem: Problem, harvest: Harvest) -> SimplexWalk:
    """Return the walk over half-spaces, with a solver for every linear program: HiGHS if the problem names none."""
    walk = SimplexWalk(problem, harvest)
    walk.asks = True
    return walk


def assert_same(found: Partition, expected: Partition) -> None:
    """Assert that two complete partitions are equal to the last bit."""
    for name in ("children", "cut_neurons", "packed_patterns", "points"):
        assert np.array_equal(getattr(found, name), getattr(expected, name)), name
    assert found.method == expected.method
    assert list(found.method) == list(expected.method)
    assert found.complete


def known_of(partition: Partition) -> list[tuple[bytes, bytes]]:
    """Return pattern and point of each region, to the last bit."""
    return list(zip(map(bytes, partition.packed_patterns), map(bytes, partition.points), strict=True))


class Counting(Executor):
    """Passes tasks on to another executor, and acts just before one of them: in mid-run, on any machine.

    Args:
        executor: The executor that does the tasks.
        place: Number of the task before which to act, from 1.
        act: What to do.
    """

    def __init__(self, executor: Executor, place: int = 0, act: Callable[[], object] = lambda: None) -> None:
        self.executor, self.place, self.act, self.count = executor, place, act, 0

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **options: Any) -> Future[Any]:
        self.count += 1
        if self.count == self.place:
            self.act()
        return self.executor.submit(function, *arguments, **options)
