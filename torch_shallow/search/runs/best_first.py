"""Loop that opens the most promising cells of a search until none is left or a budget is used up."""

from __future__ import annotations

import heapq
import logging
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor, CancelledError, Future, wait
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from jaxtyping import Float

from torch_shallow.errors import TransformError
from torch_shallow.search.question import CellOutcome, CellTask, OpenCell
from torch_shallow.search.runs.budget import Budget
from torch_shallow.search.runs.schedule import ATTEMPTS, INTERRUPTED
from torch_shallow.search.runs.workers import Job, ThisThread, Workers

logger = logging.getLogger(__name__)

Entry: TypeAlias = tuple[float, int, OpenCell]  # the negated bound, the number, and the cell

TOGETHER = 16  # most cells of one task, in a long search
AT_WORK = 8  # tasks handed out before the first of them is collected
PATIENT = 1 << 12  # cells from which on a search is long; then the proven interval counts
PROMISING = 64  # number of most promising cells that set the bound below which a task opens no more
MANY = 1 << 18  # open cells: from here on, tasks exhaust their cells, so that there are fewer
FIRST_CELLS = 128  # per task, as long as few cells have been opened


@dataclass(eq=False)
class Standing:
    """State of a search: all that is proven, and all that is left to do.

    Attributes:
        value: Value of the best point, or the floor of the question.
        x: The best point; None if there is none yet.
        left_out: Highest bound of all cells that were left out.
        cells: Number of cells opened.
        open: The open cells by bound, highest first, and by number: `(-bound, number, cell)`.
        numbered: Number of cells that have been numbered.
    """

    value: float
    x: Float[np.ndarray, "inputs"] | None = None
    left_out: float = -np.inf
    cells: int = 0
    open: list[Entry] = field(default_factory=list)
    numbered: int = 0

    def put(self, cells: Sequence[OpenCell]) -> None:
        """Add open cells."""
        for cell in cells:
            heapq.heappush(self.open, (-cell.bound, self.numbered, cell))
            self.numbered += 1

    def take(self) -> Entry:
        """Remove and return the cell of the highest bound."""
        return heapq.heappop(self.open)

    def next_bound(self) -> float:
        """Return the bound below which a task should stop, because other open cells are more promising."""
        if self.cells < PATIENT or not PROMISING <= len(self.open) < MANY:
            return -np.inf
        return -max(entry[0] for entry in self.open[:PROMISING])

    def add(self, outcome: CellOutcome) -> None:
        """Record the results for cells that were taken."""
        if outcome.x is not None and outcome.value > self.value:
            self.x, self.value = outcome.x, outcome.value
        self.left_out = max(self.left_out, outcome.left_out)
        self.cells += outcome.cells
        self.put(outcome.open)


class BestFirst:
    """Hands out the open cells of a search.

    Tasks are handed out and collected in an order that depends only on their results, so the search is the same for any
    number of workers.

    Args:
        job: The job of opening cells.
        standing: The state of the search, which is updated.
        workers: The workers that do the tasks.
        budget: When to stop.
        enough: A value above this ends the search.
        task_cells: Greatest number of cells that a task opens.
        interrupted: Returns whether to stop; asked from time to time.
        observers: Called with the state, the numbers of a task's cells, and the results.
        at_once: Number of cells given to a task, once there are enough for all tasks.
    """

    def __init__(
        self,
        job: Job,
        standing: Standing,
        workers: Workers,
        budget: Budget,
        *,
        enough: float,
        task_cells: int,
        interrupted: Callable[[], bool],
        observers: Sequence[Callable[[Standing, list[int], CellOutcome], None]] = (),
        at_once: int = 1,
    ) -> None:
        self.job, self.standing, self.workers, self.budget = job, standing, workers, budget
        self.enough, self.task_cells, self.interrupted, self.observers = enough, task_cells, interrupted, observers
        self.at_once = at_once
        self.at_work: deque[tuple[Future[CellOutcome], CellTask, list[Entry]]] = deque()

    def run(self) -> str:
        """Open cells until none is left, a value is high enough, or a budget is used up.

        Returns:
            The reason for stopping early; an empty text if the search completed.

        Raises:
            TransformError: A task has failed several times.
        """
        try:
            while not self._is_enough():
                reason = self._reason()
                if reason:
                    self._take_in_done()
                    return reason
                if self.standing.open and len(self.at_work) < AT_WORK:
                    self._hand_out()
                elif self.at_work:
                    self._take_in()
                else:
                    return ""
            return ""
        finally:
            for future, _, taken in self.at_work:
                future.cancel()
                for entry in taken:
                    heapq.heappush(self.standing.open, entry)
            self.at_work.clear()

    def _take_in_done(self) -> None:
        """Collect what has been found when it is time to stop."""
        while self.at_work and _has_result(self.at_work[0][0]):
            self._take_in()

    def _is_enough(self) -> bool:
        return self.standing.x is not None and self.standing.value > self.enough

    def _reason(self) -> str:
        """Return the reason to stop now, if any; some cells are always opened first."""
        if not self.standing.cells:
            return ""
        return INTERRUPTED if self.interrupted() else self.budget.exceeded(0)

    def _hand_out(self) -> None:
        standing = self.standing
        count = max(1, min(self.at_once, len(standing.open) // AT_WORK))
        if standing.cells >= PATIENT:  # cells take little time, and handing them out takes time too
            count = max(count, min(TOGETHER, len(standing.open) // (2 * AT_WORK)))
        taken = [standing.take() for _ in range(count)]
        if -taken[0][0] <= standing.value:
            standing.left_out = max(standing.left_out, -taken[0][0])
            return
        budget = int(np.clip(standing.cells // AT_WORK, FIRST_CELLS, self.task_cells))
        cells, seconds = tuple(entry[2] for entry in taken), self.budget.seconds_left(0)
        task = CellTask(cells, standing.value, budget, standing.next_bound(), seconds)
        self.at_work.append((self._submit(task), task, taken))

    def _submit(self, task: CellTask) -> Future[CellOutcome]:
        try:
            return self.workers.submit(self.job, task)
        except RuntimeError as error:  # the executor is broken or shut down
            return self._submit_here(task, error)

    def _submit_here(self, task: CellTask, error: BaseException) -> Future[CellOutcome]:
        """Continue in this thread if an executor takes no more tasks."""
        logger.warning(
            "the executor has broken down and takes no more tasks (%s); continuing in this thread", error or "no reason"
        )
        self.workers = ThisThread(self.interrupted)
        return self.workers.submit(self.job, task)

    def _take_in(self) -> None:
        """Collect the first of the running tasks, if it ends before there is a reason to stop."""
        future, task, taken = self.at_work[0]
        for attempt in range(1, ATTEMPTS + 1):
            while not wait([future], timeout=0.1).done:
                if self._reason():
                    return
            try:
                outcome = future.result()
                break
            except (BrokenExecutor, CancelledError) as error:
                future = self._submit_here(task, error)
            except BaseException as error:
                if isinstance(error, TransformError) or not self.workers.may_die:
                    raise
                if attempt == ATTEMPTS:
                    raise TransformError(
                        f"workers: a task has failed {attempt} times, last with {type(error).__name__}: {error}; check "
                        "the workers and run again."
                    ) from error
                logger.warning("a task has failed and is repeated: %s: %s", type(error).__name__, error)
                future = self._submit(task)
            self.at_work[0] = future, task, taken
        self.at_work.popleft()
        self.standing.add(outcome)
        for observe in self.observers:
            observe(self.standing, [number for _, number, _ in taken], outcome)


def _has_result(future: Future[CellOutcome]) -> bool:
    return future.done() and not future.cancelled() and future.exception() is None
