"""The loop that hands out open cells until there are none, or a budget is used up."""

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

MOST_CELLS = 64  # of one task
MANY = 4096  # open cells: from here on, deep ones first


class Frontier:
    """Open cells, shallow ones first: what is below them is large, so tasks are few.

    Args:
        cells: how many cuts are above each cell, by its code.
    """

    def __init__(self, cells: dict[int, int]) -> None:
        self._cells = sorted((depth, code) for code, depth in cells.items())
        self._weight = sum(0.5**depth for depth, _ in self._cells)

    def __len__(self) -> int:
        return len(self._cells)

    def put(self, cells: dict[int, int]) -> None:
        """Add some cells."""
        for code, depth in cells.items():
            insort(self._cells, (depth, code))
            self._weight += 0.5**depth

    def take_deepest(self, count: int) -> list[int]:
        """Remove the cells with most cuts above them; return their codes."""
        taken, self._cells = self._cells[-count:], self._cells[:-count]
        self._weight -= sum(0.5**depth for depth, _ in taken)
        return [code for _, code in taken]

    def take(self, parts: int, wanted: int) -> list[int]:
        """Remove the first of so many parts of about equal weight; return the codes of its cells.

        Args:
            parts: how many parts there should be.
            wanted: how many cells the part should have at least, but not more than half of them, so that there is
                something for others.
        """
        fair = min(MOST_CELLS, -(-len(self._cells) // min(parts, 2)))
        if len(self._cells) > MANY:  # those deep down are soon done, so that the list gets shorter
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
FIRST_SHARE = 50  # of the time limit: a task of which nothing is known takes no longer than one part of so many
ATTEMPTS = 3  # of a task whose workers die
FEW_REGIONS = 1024
INTERRUPTED = "Ctrl-C"


Found = TypeVar("Found")
Added = TypeVar("Added", contravariant=True)


@runtime_checkable
class WalkedTree(Protocol[Added]):
    """What is known, and what is open: a `Growth`, or `CountedTree`."""

    open: dict[int, int]
    num_regions: int

    @property
    def explored(self) -> float:
        """The share of the tree that is done."""

    def add(self, piece: Added, /) -> dict[int, int]:
        """Take in what a task has found, and return what it adds to `open`."""

    def path(self, code: int) -> Int32[np.ndarray, "depth"]:
        """The cuts above an open cell."""


class Schedule(Generic[Found]):
    """Hands out open cells of what grows.

    Args:
        job: what is done with them.
        growth: what is known, and where to append.
        workers: who does the tasks.
        budget: when to stop.
        task_seconds: how long a task may take.
        interrupted: asked now and then whether to stop.
        task_regions: how many regions a task may find, for the sake of memory; None is no limit.
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
        self.num_tasks = 0  # that the workers have taken
        self.seconds = 0.0  # of work that is done
        self.seconds_per_cell = 1.0  # of late
        self.reason = ""

    def run(self, observers: Sequence[Callable[[Any, Found], None]] = ()) -> str:
        """Explore until all is known or a budget is used up.

        Args:
            observers: called with what grows, and with what was added, whenever something was.

        Returns:
            Why it has stopped before all is known; empty if it has not.

        Raises:
            TransformError: from a task; or a task has failed several times.
        """
        for _, piece in self.results():
            for observe in observers:
                observe(self.growth, piece)
        return self.reason

    def results(self) -> Iterator[tuple[Task, Found]]:
        """Explore, as `run` does, one task after the other; `reason` then says why it has stopped.

        Yields:
            A task, and what it has found, which has been added.
        """
        try:
            yield from self._begin()
            yield from self._go_on()
        finally:
            for future in self.at_work:
                future.cancel()

    def _begin(self) -> Iterator[tuple[Task, Found]]:
        """Find some cells to hand out: sooner done here than elsewhere."""
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
            wait(self.at_work, timeout=1.0, return_when=FIRST_COMPLETED)
            for future in [each for each in self.at_work if each.done()]:  # `wait` says nothing of cancelled ones
                yield from self._take_in(future)

    @property
    def _most(self) -> int:
        """How many tasks to have at work: one, until there is a region."""
        return self.workers.most if self.growth.num_regions else 1

    def _reason(self) -> str:
        """Why to stop now; a partition has at least one region."""
        if self.interrupted():
            return INTERRUPTED
        return self.budget.exceeded(self.growth.num_regions) if self.growth.num_regions else ""

    def _hand_out(self, workers: Workers, seconds: float) -> bool:
        """Begin a task, if it may find any regions beyond those that others may find."""
        most = self.workers.most
        promised = sum(task.quota.regions or 0 for task, _ in self.at_work.values())
        regions = self.budget.regions_left(self.growth.num_regions + promised)
        if regions == 0:
            return False
        if regions is not None and most > 1:
            regions = -(-regions // (2 * most))
        if self.task_regions is not None:
            regions = self.task_regions if regions is None else min(self.task_regions, regions)
        if self.budget.time_limit is not None:  # what a network of them takes is measured anew before there are many
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
        except RuntimeError as error:  # it is shut down
            if not self.num_tasks:
                raise TransformError(
                    f"workers: expected an executor that takes tasks, found one that says: {error}."
                ) from error
            self._put_back(task)
            self._go_on_alone(error)
            return True
        self.num_tasks += workers is self.workers
        self.at_work[future] = task, time.monotonic()
        return True

    def _seconds_left(self) -> float:
        """For one task, which also has to leave time to make a network of what it finds."""
        left = self.budget.seconds_left(self.growth.num_regions)
        if not self.seconds:  # nothing is known: a small part of the time
            return left / FIRST_SHARE
        return left / (1.0 + self.budget.finishing * self.workers.most * self.growth.num_regions / self.seconds)

    def _task_seconds(self) -> float:
        """Tasks get longer as the run does, of whose end, where some workers wait for others, they are a small part."""
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
            if self.interrupted():  # as were the workers
                return
            worst = max(self.failures.get(code, 0) for code in task.starts) + 1
            self.failures |= dict.fromkeys(task.starts, worst)
            if worst >= ATTEMPTS:
                raise TransformError(
                    f"workers: a task has failed {worst} times, the last time with {type(error).__name__}: {error}"
                ) from error
            logger.warning("a task has failed and is done again: %s: %s", type(error).__name__, error)
        else:
            self.frontier.put(self.growth.add(result.piece))
            self.seconds += result.seconds
            self.seconds_per_cell += 0.3 * (result.seconds / len(task.starts) - self.seconds_per_cell)
            self.workers.learn(time.monotonic() - begun, result.seconds)
            yield task, result.piece

    def _put_back(self, task: Task) -> None:
        self.frontier.put({code: self.growth.open[code] for code in task.starts})

    def _go_on_alone(self, error: BaseException) -> None:
        """Go on in this thread, where an executor can take no more tasks."""
        if isinstance(self.workers, ThisThread):
            return
        logger.warning(
            "the executor has broken down and takes no more tasks (%s); this thread goes on alone", error or "no reason"
        )
        self.workers = ThisThread(self.interrupted)
