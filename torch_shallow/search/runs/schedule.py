"""Loop that hands out open cells until none is left or a budget is used up."""

from __future__ import annotations

import logging
import time
from bisect import insort
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, CancelledError, Future, wait
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

import numpy as np
from jaxtyping import Int32

from torch_shallow.errors import TransformError
from torch_shallow.search.runs.budget import Budget
from torch_shallow.search.runs.workers import Job, Result, Task, ThisThread, Workers
from torch_shallow.search.task_output import Quota

MOST_CELLS = 64  # per task
MANY = 4096  # open cells: from here on, deep ones first


class Frontier:
    """Open cells, shallow ones first: these have much below them, so there are few tasks.

    Args:
        cells: Number of cuts above each cell, by its code.
    """

    def __init__(self, cells: dict[int, int]) -> None:
        self._cells = sorted((depth, code) for code, depth in cells.items())
        self._weight = sum(0.5**depth for depth, _ in self._cells)

    def __len__(self) -> int:
        return len(self._cells)

    def put(self, cells: dict[int, int]) -> None:
        """Add cells."""
        for code, depth in cells.items():
            insort(self._cells, (depth, code))
            self._weight += 0.5**depth

    def take_deepest(self, count: int) -> list[int]:
        """Remove the cells with the most cuts above them; return their codes."""
        taken, self._cells = self._cells[-count:], self._cells[:-count]
        self._weight -= sum(0.5**depth for depth, _ in taken)
        return [code for _, code in taken]

    def take(self, parts: int, wanted: int) -> list[int]:
        """Remove the first of `parts` parts of about equal weight; return the codes of its cells.

        Args:
            parts: Number of parts.
            wanted: Least number of cells of the part, but never more than half of all cells, so that others get work
                too.
        """
        fair = min(MOST_CELLS, -(-len(self._cells) // min(parts, 2)))
        if len(self._cells) > MANY:  # deep cells are soon done, so the list gets shorter
            return self.take_deepest(fair)
        weight, end = 0.0, 0
        while end < fair and (end < max(1, wanted) or weight * 2 * parts < self._weight):
            weight += 0.5 ** self._cells[end][0]
            end += 1
        taken, self._cells = self._cells[:end], self._cells[end:]
        self._weight -= sum(0.5**depth for depth, _ in taken)
        return [code for _, code in taken]


logger = logging.getLogger(__name__)

FIRST_TASKS, FIRST_SECONDS = 4, 0.01  # done here, so that there is something to hand out
FIRST_SHARE = 50  # the time limit over this is the most for a task about which nothing is known
ATTEMPTS = 3  # for a task whose workers die
FEW_REGIONS = 1024
INTERRUPTED = "Ctrl-C"


Found = TypeVar("Found")
Added = TypeVar("Added", contravariant=True)


@runtime_checkable
class WalkedTree(Protocol[Added]):
    """Known and open parts of a tree: a `Growth` or `CountedTree`."""

    open: dict[int, int]
    num_regions: int

    @property
    def explored(self) -> float:
        """Share of the tree that is done."""

    def add(self, piece: Added, /) -> dict[int, int]:
        """Add the results of a task, and return what they add to `open`."""

    def path(self, code: int) -> Int32[np.ndarray, "depth"]:
        """Return the cuts above an open cell."""


class Schedule(Generic[Found]):
    """Hands out the open cells of a growing tree.

    Args:
        job: The job to do with the cells.
        growth: What is known, and where to append.
        workers: The workers that do the tasks.
        budget: When to stop.
        task_seconds: Greatest duration of a task, in seconds.
        interrupted: Returns whether to stop; asked from time to time.
        task_regions: Greatest number of regions of a task, to limit memory; None for no limit.
    """

    def __init__(
        self,
        job: Job,
        growth: WalkedTree[Found],
        workers: Workers,
        budget: Budget,
        *,
        task_seconds: float,
        interrupted: Callable[[], bool],
        task_regions: int | None = None,
    ) -> None:
        self.job, self.growth, self.workers, self.budget = job, growth, workers, budget
        self.task_seconds, self.interrupted, self.task_regions = task_seconds, interrupted, task_regions
        self.frontier = Frontier(growth.open)
        self.at_work: dict[Future[Result[Found]], tuple[Task, float]] = {}
        self.failures: dict[int, int] = {}  # by cell
        self.num_tasks = 0  # handed to the workers
        self.seconds = 0.0  # of finished work
        self.seconds_per_cell = 1.0  # recent average
        self.reason = ""

    def run(self, observers: Sequence[Callable[[Any, Found], None]] = ()) -> str:
        """Explore until everything is known or a budget is used up.

        Args:
            observers: Called with the growing tree and with what was added, after each addition.

        Returns:
            The reason for stopping early; an empty text if everything is known.

        Raises:
            TransformError: A task raised it, or failed several times.
        """
        for _, piece in self.results():
            for observe in observers:
                observe(self.growth, piece)
        return self.reason

    def results(self) -> Iterator[tuple[Task, Found]]:
        """Explore like `run`, yielding one task after the other; `reason` then says why it stopped.

        Yields:
            A task and its results, which have been added.
        """
        try:
            yield from self._begin()
            yield from self._go_on()
        finally:
            for future in self.at_work:
                future.cancel()

    def _begin(self) -> Iterator[tuple[Task, Found]]:
        """Find some cells to hand out; this is faster here than elsewhere."""
        here = ThisThread(self.interrupted)
        for _ in range(FIRST_TASKS):
            if 0 < len(self.frontier) < 2 * self.workers.most and self.workers.most > 1 and not self._reason():
                self._hand_out(here, FIRST_SECONDS)
                yield from self._take_in(next(iter(self.at_work)))

    def _go_on(self) -> Iterator[tuple[Task, Found]]:
        while True:
            reason = self._reason()
            while not reason and self.frontier and len(self.at_work) < self._most:
                if not self._hand_out(self.workers, self._task_seconds()):
                    break
                reason = self._reason()
            self.workers.yielding = bool(reason) or len(self.at_work) < self._most
            if reason:
                for future in list(self.at_work):
                    if future.cancel():
                        self._put_back(self.at_work.pop(future)[0])
            if not self.at_work:
                self.reason = reason if self.growth.open else ""
                return
            if not any(future.done() for future in self.at_work):
                wait(self.at_work, timeout=1.0, return_when=FIRST_COMPLETED)
            for future in [each for each in self.at_work if each.done()]:  # `wait` does not report cancelled ones
                yield from self._take_in(future)

    @property
    def _most(self) -> int:
        """Return the number of tasks to keep running: one until there is a region."""
        return self.workers.most if self.growth.num_regions else 1

    def _reason(self) -> str:
        """Return the reason to stop now, if any; a partition has at least one region."""
        if self.interrupted():
            return INTERRUPTED
        return self.budget.exceeded(self.growth.num_regions) if self.growth.num_regions else ""

    def _hand_out(self, workers: Workers, seconds: float) -> bool:
        """Start a task, if the running ones leave any regions for it to find."""
        most = self.workers.most
        promised = sum(task.quota.regions or 0 for task, _ in self.at_work.values())
        regions = self.budget.regions_left(self.growth.num_regions + promised)
        if regions == 0:
            return False
        if regions is not None and most > 1:
            regions = -(-regions // (2 * most))
        if self.task_regions is not None:
            regions = self.task_regions if regions is None else min(self.task_regions, regions)
        if self.budget.time_limit is not None:  # the time for their network is measured again before there are many
            known = max(FEW_REGIONS, 2 * self.growth.num_regions)
            regions = known if regions is None else min(known, regions)
        if self.seconds and not self.growth.num_regions:  # to the first region, however long it takes
            starts, seconds, regions = self.frontier.take_deepest(1), float("inf"), 1
        else:
            starts = self.frontier.take(most, int(self.workers.shortest / max(self.seconds_per_cell, 1e-9)))
            seconds = max(0.0, min(seconds, self._seconds_left()))
        paths = tuple(self.growth.path(code) for code in starts)
        task = Task(tuple(starts), paths, Quota(seconds, regions=regions))
        try:
            future = workers.submit(self.job, task)
        except BrokenExecutor as error:
            self._put_back(task)
            self._go_on_alone(error)
            return True
        except RuntimeError as error:  # the executor is shut down
            if not self.num_tasks:
                raise TransformError(
                    f"workers: expected an executor that takes tasks, found one that says {str(error)!r}; make "
                    "a new one."
                ) from error
            self._put_back(task)
            self._go_on_alone(error)
            return True
        self.num_tasks += workers is self.workers
        self.at_work[future] = task, time.monotonic()
        return True

    def _seconds_left(self) -> float:
        """Return the seconds for one task, which must leave time to make a network of its results."""
        left = self.budget.seconds_left(self.growth.num_regions)
        if not self.seconds:  # nothing is known: a small part of the time
            return left / FIRST_SHARE
        return left / (1.0 + self.budget.finishing * self.workers.most * self.growth.num_regions / self.seconds)

    def _task_seconds(self) -> float:
        """Lengthen tasks as the run proceeds, so that the final wait for stragglers stays a small share."""
        most = self.workers.most
        if most == 1:
            return self.task_seconds
        return min(self.task_seconds, max(self.workers.shortest, self.seconds / (2 * most)))

    def _take_in(self, future: Future[Result[Found]]) -> Iterator[tuple[Task, Found]]:
        task, begun = self.at_work.pop(future)
        try:
            result = future.result()
        except CancelledError:
            self._put_back(task)
        except BrokenExecutor as error:
            self._put_back(task)
            self._go_on_alone(error)
        except BaseException as error:  # a worker may also be told to exit
            if isinstance(error, TransformError) or not self.workers.may_die:
                raise
            self._put_back(task)
            if self.interrupted():  # so were the workers
                return
            worst = max(self.failures.get(code, 0) for code in task.starts) + 1
            self.failures |= dict.fromkeys(task.starts, worst)
            if worst >= ATTEMPTS:
                raise TransformError(
                    f"workers: a task has failed {worst} times, last with {type(error).__name__}: {error}; check the "
                    "workers and run again."
                ) from error
            logger.warning("a task has failed and is repeated: %s: %s", type(error).__name__, error)
        else:
            self.frontier.put(self.growth.add(result.piece))
            self.seconds += result.seconds
            self.seconds_per_cell += 0.3 * (result.seconds / len(task.starts) - self.seconds_per_cell)
            self.workers.learn(time.monotonic() - begun, result.seconds)
            yield task, result.piece

    def _put_back(self, task: Task) -> None:
        self.frontier.put({code: self.growth.open[code] for code in task.starts})

    def _go_on_alone(self, error: BaseException) -> None:
        """Continue in this thread if an executor takes no more tasks."""
        if isinstance(self.workers, ThisThread):
            return
        logger.warning(
            "the executor has broken down and takes no more tasks (%s); continuing in this thread", error or "no reason"
        )
        self.workers = ThisThread(self.interrupted)
