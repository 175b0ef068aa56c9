"""Program and domain to partition: which engine begins, who does the work, and when it stops."""

from __future__ import annotations

import os
import sys
import time
import warnings
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import NamedTuple

from torch_shallow.domain import Domain
from torch_shallow.errors import FileError, IncompleteWarning, TransformError
from torch_shallow.geometry.chart import make_chart
from torch_shallow.geometry.sharing import threads_of
from torch_shallow.program.relu_program import ReLUProgram
from torch_shallow.search.balance import balanced
from torch_shallow.search.engines.solvers import check_installed
from torch_shallow.search.growing_tree import Growth, Piece
from torch_shallow.search.partition import Partition, Search
from torch_shallow.search.problem import Problem
from torch_shallow.search.runs.budget import TASK_SECONDS, Budget, check_seconds, interruptible
from torch_shallow.search.runs.checkpoint import PIECES, Checkpoint
from torch_shallow.search.runs.fingerprint import fingerprint_of
from torch_shallow.search.runs.schedule import INTERRUPTED, Schedule
from torch_shallow.search.runs.watch import FinishingTime, Forecast, MemoryWatch, shown
from torch_shallow.search.runs.workers import Enumeration, make_workers

METHODS = ("auto", "double-description", "lp")
MOST_CORNERS = 64  # "auto" begins a box of more corners with half-spaces


class Explored(NamedTuple):
    """What is found of a domain.

    Attributes:
        partition: its regions.
        reason: why there may be more of them; empty if there are not.
        percent: how much of the tree is explored.
    """

    partition: Partition
    reason: str
    percent: float


def enumerate_regions(
    program: ReLUProgram,
    domain: Domain,
    *,
    method: str = "auto",
    solver: str | None = None,
    tolerance: float = 1e-10,
    max_rays: int = 1024,
    max_error: float | None = None,
    max_regions: int | None = None,
    time_limit: float | None = None,
    workers: int | Executor = 1,
    task_seconds: float = TASK_SECONDS,
    checkpoint: str | os.PathLike[str] | None = None,
    store_maps: bool = True,
    progress: bool = False,
    keep_part: bool = True,
    begun: float | None = None,
) -> Partition:
    """Partition a domain into the activation regions of a program.

    Complete, and sound up to `tolerance` and, below it, up to rounding and `harmless_values`. Which regions there are
    also says how they are numbered (see `balanced`), and what is known of a region depends on the cuts above it alone:
    so the result is the same, bit for bit, whoever does the work.

    Args:
        program: the network.
        domain: where to look.
        method: `"double-description"` (cells as rays), `"lp"` (cells as half-spaces), or `"auto"`: rays, and
            half-spaces where there are too many rays, as in a box of many corners.
        solver: what solves the linear programs: a name in `cvxpy.installed_solvers()`; if None, compiled code that
            proves each answer, and HiGHS for a program that it cannot settle.
        tolerance: a pre-activation cuts a cell if, relative to the size of its row, it is beyond this on both sides; if
            it is less far beyond rounding, exact arithmetic decides (`ExactWalk`), unless outputs hardly change.
        max_rays: `"auto"` changes to half-spaces in a cell of more rays.
        max_error: how much of an output may be lost in a box by such decisions; None: a small share of its size.
        max_regions: find no more regions than this; no limit if None.
        time_limit: stop so early that a network is made of what is found after so many seconds; no limit if None.
        workers: a number of threads, or any `concurrent.futures.Executor`.
        task_seconds: how long one task may take, before it gives back what is left of its cells.
        checkpoint: a file to keep what is found in, and to go on from if it is there.
        store_maps: whether local models are to be stored, which the forecast of memory has to know.
        progress: show regions, their rate, the explored share and the time to go.
        keep_part: whether Ctrl-C gives what has been found so far; if False, it is KeyboardInterrupt at any time.
        begun: when the time of the limit begins, by `time.monotonic()`; now if None.

    Returns:
        The partition; if it has stopped early, one that is not `complete`, with a warning.

    Raises:
        TransformError: an argument is none of these, a domain does not fit, the checkpoint is of another network, or
            memory would not suffice.
        KeyboardInterrupt: Ctrl-C, before there is any region, after all have been found, or a second time; or any
            time, if no part is to be kept.
    """
    budget = Budget(max_regions, time_limit, time.monotonic() if begun is None else begun)
    problem = pose(program, domain, method, solver, tolerance, max_rays, max_error)
    how = _How(budget, workers, task_seconds, checkpoint, store_maps, progress, keep_part)
    return _whole_or_warn(_explore(problem, domain, Growth(), how))


def explore_regions(
    program: ReLUProgram,
    domain: Domain,
    *,
    time_limit: float | None,
    workers: int | Executor,
    checkpoint: str | os.PathLike[str] | None,
    progress: bool,
    makes_network: bool = False,
    begun: float | None = None,
) -> Explored:
    """As `enumerate_regions`, for a caller who says himself why there are no more regions.

    The time limit leaves time to make a network of what is found if the caller `makes_network`.
    """
    budget = Budget(None, time_limit, time.monotonic() if begun is None else begun)
    how = _How(budget, workers, TASK_SECONDS, checkpoint, makes_network, progress, makes_network=makes_network)
    return _explore(pose(program, domain), domain, Growth(), how)


def pose(
    program: ReLUProgram,
    domain: Domain,
    method: str = "auto",
    solver: str | None = None,
    tolerance: float = 1e-10,
    max_rays: int = 1024,
    max_error: float | None = None,
) -> Problem:
    """What is to be enumerated, and how, from the arguments of `enumerate_regions`.

    Raises:
        TransformError: there is no such method or solver, or the domain does not fit.
    """
    if method not in METHODS:
        raise TransformError(f"method: expected one of {', '.join(map(repr, METHODS))}, found {method!r}.")
    if solver is not None:
        solver = check_installed(solver)
    chart = make_chart(program, domain)
    by_rays = method == "double-description" or (method == "auto" and chart.num_corners <= MOST_CORNERS)
    search = Search(by_rays, solver, tolerance, max_rays if method == "auto" else None, max_error)
    return Problem.of(program, chart, search)


def resume(
    partition: Partition,
    *,
    max_regions: int | None = None,
    time_limit: float | None = None,
    workers: int | Executor = 1,
    task_seconds: float = TASK_SECONDS,
    checkpoint: str | os.PathLike[str] | None = None,
    store_maps: bool = True,
    progress: bool = False,
) -> Partition:
    """Go on with a partition that is not complete: the result is as if there had been no stop.

    Arguments and errors are those of `enumerate_regions`. The regions known count for `max_regions`; what a checkpoint
    that is there holds comes before what the partition holds.
    """
    budget = Budget(max_regions, time_limit)
    how = _How(budget, workers, task_seconds, checkpoint, store_maps, progress)
    problem = Problem.of(partition.program, partition.chart, partition.search)
    return _whole_or_warn(_explore(problem, partition.domain, Growth.of(partition), how))


@dataclass(frozen=True)
class _How:
    """Who does the work, until when, and who watches."""

    budget: Budget
    workers: int | Executor
    task_seconds: float
    checkpoint: str | os.PathLike[str] | None
    store_maps: bool
    progress: bool
    keep_part: bool = True
    makes_network: bool = True

    def __post_init__(self) -> None:
        check_seconds("task_seconds", self.task_seconds)


def _kept(
    stack: ExitStack, path: str | os.PathLike[str], problem: Problem, domain: Domain, growth: Growth
) -> tuple[Growth, Callable[[Growth, Piece], None]]:
    """What a checkpoint holds, or what is known if it is new; and what to call with each new piece."""
    fingerprint = fingerprint_of(problem.program, problem.chart, domain, asdict(problem.search))
    file = stack.enter_context(Checkpoint.open(path, fingerprint, PIECES))
    if file.num_pieces:
        known, growth = growth.num_regions, Growth()
        for piece in file.pieces:
            growth.add(piece)
        if growth.num_regions < known:
            raise FileError(
                f"checkpoint: expected a new file, or one with the {known:,} regions that are known, found one with "
                f"{growth.num_regions:,} in {os.fspath(path)!r}; choose another file, or delete this one."
            )
    elif growth.pieces:
        file.append(growth.pieces[0])
    return growth, lambda _, piece: file.append(piece)


def _level_of_caller() -> int:
    """How far up the stack, from the function that asks, the first code is that is not of this package."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("torch_shallow"):
        frame, level = frame.f_back, level + 1
    return level


def _whole_or_warn(found: Explored) -> Partition:
    """Warn if something is left open."""
    partition, reason, percent = found
    if reason:
        warnings.warn(
            f"transform: stopped by {reason} with {partition.num_regions:,} regions, {percent:.3g} % of the tree "
            "explored (each cut counts half of its cell to either side); the network is not complete: its output is "
            f"NaN in the {len(partition.open_cells):,} cells that are not explored, and shallow.resume(model) goes on.",
            IncompleteWarning,
            stacklevel=_level_of_caller(),
        )
    return partition


def _explore(problem: Problem, domain: Domain, growth: Growth, how: _How) -> Explored:
    """Explore what is open, and put the tree in order."""
    with ExitStack() as stack:
        interrupted = stack.enter_context(interruptible())
        workers = make_workers(how.workers, interrupted)
        stack.callback(workers.close)
        observers: list[Callable[[Growth, Piece], None]] = []
        if how.checkpoint is not None:
            growth, keep = _kept(stack, how.checkpoint, problem, domain, growth)
            observers.append(keep)
        observers += [MemoryWatch(problem, how.store_maps), Forecast(problem, growth)]
        if how.budget.time_limit is not None and how.makes_network:
            observers.append(FinishingTime(problem, domain, how.store_maps, threads_of(how.workers), how.budget))
        if how.progress:
            observers.append(stack.enter_context(shown(growth)))
        schedule = Schedule(
            Enumeration(problem), growth, workers, how.budget, task_seconds=how.task_seconds, interrupted=interrupted
        )
        reason = schedule.run(observers)
        if reason == INTERRUPTED and not growth.num_regions:
            raise KeyboardInterrupt
        if interrupted() and not how.keep_part:
            raise KeyboardInterrupt
    percent = min(99.9, 100.0 * growth.explored) if reason else 100.0
    partition = growth.finish(problem, domain)
    return Explored(partition if reason else balanced(partition, threads_of(how.workers)), reason, percent)
