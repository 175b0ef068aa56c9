"""Partition a domain into regions: choose the engine and the workers, and decide when to stop."""

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
MOST_CORNERS = 64  # with "auto", a box of more corners starts with half-spaces


class Explored(NamedTuple):
    """Result of exploring a domain.

    Attributes:
        partition: The regions found.
        reason: Why there may be more regions; an empty text if there are not.
        percent: Explored share of the tree.
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
    max_rays: int = 4096,
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

    Complete, and sound up to `tolerance` and, below it, up to rounding and `harmless_values`. The set of regions fixes
    their numbering (see `balanced`), and the data of a region depend only on the cuts above it, so the result is the
    same, bit for bit, whoever does the work.

    Args:
        program: The network.
        domain: The domain to partition.
        method: `"double-description"` (cells as rays), `"lp"` (cells as half-spaces), or `"auto"`: rays, but
            half-spaces where there are too many rays, as in a box of many corners.
        solver: Solver of the linear programs: a name in `cvxpy.installed_solvers()`; by default, compiled code that
            proves each answer, and HiGHS for programs that it cannot settle.
        tolerance: A pre-activation cuts a cell if it exceeds this share of the size of its row on both sides; between
            this and rounding, exact arithmetic decides (`ExactWalk`), unless outputs hardly change.
        max_rays: With `"auto"`, cells with more rays than this change to half-spaces, as do cells with fewer where that
            takes less time.
        max_error: How much of an output such decisions may lose in a box; by default, a small share of its size.
        max_regions: Greatest number of regions to find; no limit by default.
        time_limit: Seconds in which the regions are found and the network is made from them; no limit by default.
        workers: A number of threads, or any `concurrent.futures.Executor`.
        task_seconds: Seconds after which a task returns the cells it has left.
        checkpoint: File in which to keep the results; if it exists, the search continues from it.
        store_maps: Whether local models will be stored, which affects the memory forecast.
        progress: Whether to show the regions, their rate, the explored share and the remaining time.
        keep_part: Whether Ctrl-C returns what has been found so far; if False, it always raises KeyboardInterrupt.
        begun: Start of the time limit, by `time.monotonic()`; now by default.

    Returns:
        The partition; if the search stopped early, it is not `complete`, and a warning says so.

    Raises:
        TransformError: An argument is not one of these, the domain does not fit, the checkpoint belongs to another
            network, or memory would not suffice.
        KeyboardInterrupt: Ctrl-C was pressed before any region was found, after all were found, or a second time; or at
            any time if `keep_part` is False.
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
    """Enumerate regions like `enumerate_regions`, for a caller that reports a stop itself.

    If the caller `makes_network`, the time limit leaves time to make a network of the regions found.
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
    max_rays: int = 4096,
    max_error: float | None = None,
) -> Problem:
    """Set up the problem to enumerate, from the arguments of `enumerate_regions`.

    Raises:
        TransformError: The method or solver does not exist, or the domain does not fit.
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
    """Continue an incomplete partition; the result is the same as without the stop.

    Arguments and errors are those of `enumerate_regions`. Known regions count towards `max_regions`. If the checkpoint
    exists, its contents take precedence over those of the partition.
    """
    budget = Budget(max_regions, time_limit)
    how = _How(budget, workers, task_seconds, checkpoint, store_maps, progress)
    problem = Problem.of(partition.program, partition.chart, partition.search)
    return _whole_or_warn(_explore(problem, partition.domain, Growth.of(partition), how))


@dataclass(frozen=True)
class _How:
    """Workers, limits and observers of an exploration."""

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
    """Return what a checkpoint holds, or what is known if it is new, and the function to call with each new piece."""
    fingerprint = fingerprint_of(problem.program, problem.chart, domain, asdict(problem.search))
    file = stack.enter_context(Checkpoint.open(path, fingerprint, PIECES))
    if file.num_pieces:
        known, growth = growth.num_regions, Growth()
        for piece in file.pieces:
            growth.add(piece)
        if growth.num_regions < known:
            raise FileError(
                f"checkpoint: expected a new file, or one with at least the {known:,} known regions, found one with "
                f"{growth.num_regions:,} in {os.fspath(path)!r}; choose another file, or delete this one."
            )
    elif growth.pieces:
        file.append(growth.pieces[0])
    return growth, lambda _, piece: file.append(piece)


def _level_of_caller() -> int:
    """Return how far up the stack from the asking function the first code outside this package is."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("torch_shallow"):
        frame, level = frame.f_back, level + 1
    return level


def _whole_or_warn(found: Explored) -> Partition:
    """Return the partition, with a warning if it has open cells."""
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
    """Explore the open cells, and put the tree in order."""
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
