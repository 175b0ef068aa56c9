"""Counting regions, or visiting them part by part, without keeping them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import ExitStack
from dataclasses import asdict

from torch_shallow.domain import Domain
from torch_shallow.search.counted_tree import CountedTree, PieceCount, part_of
from torch_shallow.search.growing_tree import Piece
from torch_shallow.search.partition import Partition
from torch_shallow.search.problem import Problem
from torch_shallow.search.runs.budget import TASK_SECONDS, Budget, check_seconds, interruptible
from torch_shallow.search.runs.checkpoint import Checkpoint, Codec
from torch_shallow.search.runs.fingerprint import fingerprint_of
from torch_shallow.search.runs.schedule import Schedule
from torch_shallow.search.runs.watch import Forecast, shown
from torch_shallow.search.runs.workers import Counting, Enumeration, Workers, make_workers

TASK_BYTES = 1 << 25  # for the regions that a task holds at a time
TALLIES = Codec(PieceCount.encode, PieceCount.decode)


def count_regions(
    problem: Problem,
    domain: Domain,
    *,
    time_limit: float | None = None,
    workers: int | Executor = 1,
    task_seconds: float = TASK_SECONDS,
    checkpoint: str | os.PathLike[str] | None = None,
    progress: bool = False,
    begun: float | None = None,
) -> tuple[CountedTree, str]:
    """Count the activation regions of a problem; arguments and errors are those of `enumerate_regions`.

    A checkpoint keeps counts and open cells; `enumerate_regions` cannot use it.

    Returns:
        The counts, and why there may be more regions; an empty text if there are not.
    """
    check_seconds("task_seconds", task_seconds)
    cells = CountedTree()
    observers: list[Callable[[CountedTree, PieceCount], None]] = [Forecast(problem, cells)]
    with ExitStack() as stack:
        interrupted = stack.enter_context(interruptible())
        at_work = make_workers(workers, interrupted)
        stack.callback(at_work.close)
        if checkpoint is not None:
            settings = asdict(problem.search) | {"regions": "counted"}
            fingerprint = fingerprint_of(problem.program, problem.chart, domain, settings)
            file = stack.enter_context(Checkpoint.open(checkpoint, fingerprint, TALLIES))
            for tally in file.pieces:
                cells.add(tally)
            observers.append(lambda _, tally: file.append(tally))
        if progress:
            observers.append(stack.enter_context(shown(cells)))
        schedule: Schedule[PieceCount] = Schedule(
            Counting(problem),
            cells,
            at_work,
            Budget(None, time_limit, time.monotonic() if begun is None else begun),
            task_seconds=task_seconds,
            interrupted=interrupted,
            task_regions=_task_regions(problem),
        )
        return cells, schedule.run(observers)


def partitions(
    problem: Problem, domain: Domain, *, workers: int | Executor = 1, task_seconds: float = TASK_SECONDS
) -> Iterator[Partition]:
    """Yield partitions that each know some regions of a problem; together they know each region once.

    Returns:
        Incomplete partitions, unless there is only one.

    Raises:
        TransformError: An argument does not fit.
    """
    check_seconds("task_seconds", task_seconds)
    return _parts(problem, domain, make_workers(workers, lambda: False), task_seconds)


def _parts(problem: Problem, domain: Domain, workers: Workers, task_seconds: float) -> Iterator[Partition]:
    try:
        schedule: Schedule[Piece] = Schedule(
            Enumeration(problem),
            CountedTree(),
            workers,
            Budget(),
            task_seconds=task_seconds,
            interrupted=lambda: False,
            task_regions=_task_regions(problem),
        )
        for task, piece in schedule.results():
            if len(piece.points):
                yield part_of(piece, task.paths, problem, domain)
    finally:
        workers.close()


def _task_regions(problem: Problem) -> int:
    """Return how many regions a task may find, so that it takes little memory."""
    region = 64 + problem.program.num_neurons // 8 + 8 * problem.chart.num_coordinates
    return max(1, TASK_BYTES // region)
