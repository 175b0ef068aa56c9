"""Tasks, and who does them: this thread, some threads, or the workers of any executor."""

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
    """Some cells, by the paths to them, and how much is to be found there.

    A cell is nothing but the cuts above it, so a task is small to send. A worker makes these cuts again, with the same
    rounding, and so finds what any other worker would find.

    Attributes:
        starts: codes of the cells in the whole tree.
        paths: the cuts above each cell, from the root down, each as `2 * neuron + side`.
        quota: when to stop; the cells that are then left are open.
    """

    starts: tuple[int, ...]
    paths: tuple[Int32[np.ndarray, "_"], ...]
    quota: Quota


Found = TypeVar("Found")


@dataclass(frozen=True)
class Result(Generic[Found]):
    """What a task has found, and how many seconds it took."""

    piece: Found
    seconds: float


@runtime_checkable
class Job(Protocol):
    """What all tasks are parts of; it travels to the workers of an executor as a pickle."""

    def do(self, task: Any, interrupted: Callable[[], bool]) -> Any:
        """Do a task, or what can be done of it until `interrupted()`."""


def explore(job: bytes, task: Any) -> Any:
    """Do a task of a packed job, in any process; Ctrl-C ends it early."""
    with interruptible() as interrupted:
        return _unpacked(job).do(task, interrupted)


def packed(job: Job) -> bytes:
    """A job as it is sent with each task: small, as weights have many zeros, those of stages that are not read."""
    return zlib.compress(pickle.dumps(job), level=1)


@lru_cache(maxsize=4)
def _unpacked(job: bytes) -> Job:
    """The job, unpacked once by each worker."""
    return cast("Job", pickle.loads(zlib.decompress(job)))


@dataclass(frozen=True)
class Enumeration:
    """The job of finding all regions of a problem."""

    problem: Problem

    def do(self, task: Task, interrupted: Callable[[], bool]) -> Result[Piece]:
        """See `explore_until`."""
        return explore_until(interrupted, self.problem, task)


@dataclass(frozen=True)
class Counting:
    """The job of counting the regions of a problem."""

    problem: Problem

    def do(self, task: Task, interrupted: Callable[[], bool]) -> Result[PieceCount]:
        """As `Enumeration`, but only numbers and the ways to open cells are given back."""
        found = explore_until(interrupted, self.problem, task)
        return Result(PieceCount.of(found.piece), found.seconds)


def explore_until(interrupted: Callable[[], bool], problem: Problem, task: Task) -> Result[Piece]:
    """Do a task, or what can be done of it until `interrupted()`.

    Raises:
        TransformError: a path is not one of the problem's, or no solver can settle a linear program.
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


SHORTEST = 0.01  # seconds of a task before it yields
LEAST = 4  # tasks to have at work elsewhere


class Workers(ABC):
    """Takes tasks, and gives futures of their results.

    Attributes:
        most: how many tasks to have at work at the same time.
        shortest: seconds that a task should take at least, so that handing it out is worth while.
        may_die: whether a task may fail for no reason of its own, so that it is to be done again.
        yielding: whether tasks at work should end soon, since others have nothing to do, or all should stop.
    """

    most: int
    shortest: float = 0.02
    may_die: bool = False
    yielding: bool = False

    @abstractmethod
    def submit(self, job: Job, task: Any) -> Future[Any]:
        """Begin a task."""

    def learn(self, turnaround: float, seconds: float) -> None:
        """Take note that a task took so long from its beginning here to its end, and so many seconds of work."""
        return

    def close(self) -> None:
        """Let go of what is this object's own."""
        return


class ThisThread(Workers):
    """Does each task at once."""

    most = 1

    def __init__(self, interrupted: Callable[[], bool]) -> None:
        self.interrupted = interrupted

    def submit(self, job: Job, task: Any) -> Future[Any]:
        """Do a task."""
        future: Future[Any] = Future()
        try:
            future.set_result(job.do(task, self.interrupted))
        except Exception as error:  # whoever asks for the result gets it
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
    """The workers of an executor, however many they are.

    An executor does not say how many workers it has. As many tasks are given to it as begin at once, and some more.
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
        """Give one task more where none had to wait, and one less where they wait for long."""
        if seconds >= self.shortest:  # of others, most of the time is that on the way
            self.most += (turnaround < 1.5 * seconds) - (turnaround > 3.0 * seconds and self.most > LEAST)


def make_workers(workers: int | Executor, interrupted: Callable[[], bool]) -> Workers:
    """Threads or an executor.

    Raises:
        TransformError: it is neither a positive number nor an executor.
    """
    if isinstance(workers, Executor):
        return Elsewhere(workers)
    if isinstance(workers, bool) or not isinstance(workers, Integral) or workers < 1:
        raise argument_error(workers, Integral)(
            f"workers: expected a positive number of threads, or a concurrent.futures.Executor, found {workers!r}; of "
            "Dask it is client.get_executor()."
        )
    return ThisThread(interrupted) if workers == 1 else Threads(int(workers), interrupted)
