"""Tasks, and the workers that do them: this thread, several threads, or any executor."""

from __future__ import annotations

import pickle
import time
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from numbers import Integral
from typing import Any, Generic, Protocol, TypeVar, cast, runtime_checkable

import numpy as np
from jaxtyping import Int32

from torch_shallow.errors import argument_error
from torch_shallow.search.counted_tree import PieceCount
from torch_shallow.search.engines import engines
from torch_shallow.search.growing_tree import Piece
from torch_shallow.search.problem import Problem
from torch_shallow.search.runs.budget import interruptible
from torch_shallow.search.task_output import Harvest, Quota


@dataclass(frozen=True)
class Task:
    """Cells to explore, given by their paths, and limits on what to find there.

    A cell is determined by the cuts above it, so a task is small to send. A worker repeats these cuts with the same
    rounding and so finds what any other worker would find.

    Attributes:
        starts: Codes of the cells in the whole tree.
        paths: The cuts above each cell, from the root down, each as `2 * neuron + side`.
        quota: When to stop; cells left by then stay open.
    """

    starts: tuple[int, ...]
    paths: tuple[Int32[np.ndarray, "_"], ...]
    quota: Quota


Found = TypeVar("Found")


@dataclass(frozen=True)
class Result(Generic[Found]):
    """Results of a task, and the seconds it took."""

    piece: Found
    seconds: float


@runtime_checkable
class Job(Protocol):
    """The job that all tasks belong to; it is sent to the workers of an executor as a pickle."""

    def do(self, task: Any, interrupted: Callable[[], bool]) -> Any:
        """Do a task, as far as possible until `interrupted()`."""


def explore(job: bytes, task: Any) -> Any:
    """Do a task of a packed job, in any process; Ctrl-C ends it early."""
    with interruptible() as interrupted:
        return _unpacked(job).do(task, interrupted)


def packed(job: Job) -> bytes:
    """Return a job as it is sent with each task, compressed: the weights of stages that are not read are zeros."""
    return zlib.compress(pickle.dumps(job), level=1)


@lru_cache(maxsize=4)
def _unpacked(job: bytes) -> Job:
    """Return the job, unpacked once per worker."""
    return cast("Job", pickle.loads(zlib.decompress(job)))


@dataclass(frozen=True)
class Enumeration:
    """The job of finding all regions of a problem."""

    problem: Problem

    def do(self, task: Task, interrupted: Callable[[], bool]) -> Result[Piece]:
        """Do a task by `explore_until`."""
        return explore_until(interrupted, self.problem, task)


@dataclass(frozen=True)
class Counting:
    """The job of counting the regions of a problem."""

    problem: Problem

    def do(self, task: Task, interrupted: Callable[[], bool]) -> Result[PieceCount]:
        """Do a task like `Enumeration`, but return only counts and the paths to open cells."""
        found = explore_until(interrupted, self.problem, task)
        return Result(PieceCount.of(found.piece), found.seconds)


def explore_until(interrupted: Callable[[], bool], problem: Problem, task: Task) -> Result[Piece]:
    """Do a task, as far as possible until `interrupted()`.

    Raises:
        TransformError: A path does not belong to the problem, or no solver can settle a linear program.
    """
    begun = time.monotonic()
    harvest = Harvest(task.quota, interrupted)
    run = engines(problem, harvest)
    for number, path in enumerate(task.paths):
        harvest.begin(number, path)
        if harvest.spent:
            harvest.leave(np.array([-1 - len(path)]))
        else:
            run()
    piece = harvest.piece(np.array(task.starts, dtype=np.int64))
    return Result(piece, time.monotonic() - begun)


SHORTEST = 0.01  # least seconds of a task before it yields
LEAST = 4  # least number of tasks to keep running elsewhere


class Workers(ABC):
    """Take tasks, and return futures of their results.

    Attributes:
        most: Number of tasks to keep running at the same time.
        shortest: Least duration of a task, in seconds, that makes handing it out worthwhile.
        may_die: Whether a task may fail through no fault of its own and should be repeated.
        yielding: Whether running tasks should end soon, because others are idle or all should stop.
    """

    most: int
    shortest: float = 0.02
    may_die: bool = False
    yielding: bool = False

    @abstractmethod
    def submit(self, job: Job, task: Any) -> Future[Any]:
        """Start a task."""

    def learn(self, turnaround: float, seconds: float) -> None:
        """Record the seconds from a task's start here to its end, and its seconds of work."""
        return

    def close(self) -> None:
        """Release resources that this object owns."""
        return


class ThisThread(Workers):
    """Does each task immediately."""

    most = 1

    def __init__(self, interrupted: Callable[[], bool]) -> None:
        self.interrupted = interrupted

    def submit(self, job: Job, task: Any) -> Future[Any]:
        """Do a task."""
        future: Future[Any] = Future()
        try:
            future.set_result(job.do(task, self.interrupted))
        except Exception as error:  # raised to the caller who asks for the result
            future.set_exception(error)
        return future


class Threads(Workers):
    """Threads of this process; the compiled code releases the GIL."""

    def __init__(self, count: int, interrupted: Callable[[], bool]) -> None:
        self.most, self.interrupted = count, interrupted
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="torch_shallow")

    def submit(self, job: Job, task: Any) -> Future[Any]:
        """Give a task to a thread."""
        return self._pool.submit(self._do, job, task)

    def _do(self, job: Job, task: Any) -> Any:
        soonest = time.monotonic() + SHORTEST

        def interrupted() -> bool:
            return self.interrupted() or (self.yielding and time.monotonic() >= soonest)

        return job.do(task, interrupted)

    def close(self) -> None:
        """End the threads."""
        self.yielding = True
        self._pool.shutdown()


class Elsewhere(Workers):
    """The workers of an executor, of unknown number.

    An executor does not tell how many workers it has. It is given as many tasks as start at once, and a few more.
    """

    shortest = 0.1  # Dask takes ten milliseconds to hand out a task
    may_die = True

    def __init__(self, executor: Executor) -> None:
        self.most, self._executor = LEAST, executor
        self._packed: tuple[Job, bytes] | None = None

    def submit(self, job: Job, task: Any) -> Future[Any]:
        """Give a task to the executor."""
        if self._packed is None or self._packed[0] is not job:
            self._packed = job, packed(job)
        return self._executor.submit(explore, self._packed[1], task)

    def learn(self, turnaround: float, seconds: float) -> None:
        """Allow one more task if none had to wait, and one fewer if tasks wait for long."""
        if seconds >= self.shortest:  # shorter tasks spend most of the time on the way
            self.most += (turnaround < 1.5 * seconds) - (turnaround > 3.0 * seconds and self.most > LEAST)


def make_workers(workers: int | Executor, interrupted: Callable[[], bool]) -> Workers:
    """Return the workers for a number of threads or an executor.

    Raises:
        TransformError: The argument is neither a positive number nor an executor.
    """
    if isinstance(workers, Executor):
        return Elsewhere(workers)
    if isinstance(workers, bool) or not isinstance(workers, Integral) or workers < 1:
        raise argument_error(workers, Integral)(
            f"workers: expected a positive number of threads, or a concurrent.futures.Executor, found {workers!r}; "
            "with Dask, use client.get_executor()."
        )
    return ThisThread(interrupted) if workers == 1 else Threads(int(workers), interrupted)
