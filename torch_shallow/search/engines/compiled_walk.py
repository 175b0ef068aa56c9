"""What the two compiled walks have in common: called again and again, each time with room for more."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np
from jaxtyping import Int

from torch_shallow.search.problem import Problem
from torch_shallow.search.task_output import (
    DONE,
    FULL,
    OFF_PATH,
    TOP,
    Found,
    Harvest,
    empty_block,
    new_counts,
    off_path,
)


class CompiledWalk(ABC):
    """Gives cuts and regions to a harvest, and what is left at last back.

    Args:
        problem: what is enumerated.
        harvest: where to append.
    """

    engine: str
    parent_and_spent: ClassVar[tuple[int, int]]  # columns of the stack

    def __init__(self, problem: Problem, harvest: Harvest) -> None:
        self.problem, self.harvest = problem, harvest
        self.found = empty_block(problem.program, problem.chart.num_coordinates + 1)

    @property
    @abstractmethod
    def frames(self) -> Int[np.ndarray, "cells columns"]:
        """The stack."""

    @abstractmethod
    def _walk(self, found: Found, counts: Int[np.ndarray, "counts"]) -> int:
        """Go on with the compiled walk, and return its status."""

    @abstractmethod
    def _serve(self, status: int, counts: Int[np.ndarray, "counts"]) -> None:
        """Do what the walk has asked for, which is most often room."""

    def _walk_all(self) -> None:
        """Walk everything below the one cell on the stack, as far as it is below the path of the harvest."""
        harvest, counts = self.harvest, new_counts(self.harvest.num_cuts)
        while True:
            status = self._walk(harvest.room(self.found), counts)
            harvest.take(self.engine, self.found, counts)
            if status == DONE:
                return
            if status == OFF_PATH:
                raise off_path()
            if status != FULL:
                self._serve(status, counts)
            if harvest.spent:
                parent, spent = self.parent_and_spent
                frames = self.frames[: counts[TOP] + 1]
                harvest.leave(frames[frames[:, spent] == 0, parent])
                return
