"""One task: what is below some cells, up to a quota. What is found depends on the paths to the cells alone."""

from __future__ import annotations

import pickle
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import cast

import numpy as np
from jaxtyping import Int32

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


@dataclass(frozen=True)
class Result:
    """What a task has found, and how many seconds it took."""

    piece: Piece
    seconds: float


def explore(problem: bytes, task: Task) -> Result:
    """Do a task of a packed problem, in any process; Ctrl-C ends it early."""
    with interruptible() as interrupted:
        return explore_until(interrupted, _unpacked(problem), task)


def packed(problem: Problem) -> bytes:
    """A problem as it is sent with each task: small, as weights have many zeros, those of stages that are not read."""
    return zlib.compress(pickle.dumps(problem), level=1)


@lru_cache(maxsize=4)
def _unpacked(problem: bytes) -> Problem:
    """The problem, unpacked once by each worker."""
    return cast("Problem", pickle.loads(zlib.decompress(problem)))


def explore_until(interrupted: Callable[[], bool], problem: Problem, task: Task) -> Result:
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
