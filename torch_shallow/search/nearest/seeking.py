"""Job of seeking the nearest point, as sent to workers."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from torch_shallow.search.nearest.near_engine import EFFORT, NearestEngine
from torch_shallow.search.nearest.sought import Sought
from torch_shallow.search.question import CellOutcome, CellTask

NEURONS = 0.5  # share of the remaining time in which neurons may be bounded before cells are opened


@dataclass(frozen=True, eq=False)
class Seeking:
    """The job of one question.

    Attributes:
        sought: The question.
        until: Time on the monotonic clock by which it should be answered.
    """

    sought: Sought
    until: float = np.inf

    @cached_property
    def engine(self) -> NearestEngine:
        """The engine that opens cells; each process makes its own."""
        now = time.monotonic()
        return NearestEngine(self.sought, EFFORT.until(now + NEURONS * max(0.0, self.until - now), self.until))

    @property
    def proven(self) -> float:
        """Proven distance of everything sought, from the bound of the whole ball."""
        return -self.engine.root().bound

    @property
    def undecided(self) -> int:
        """Number of neurons that may have either sign in the ball."""
        return int(self.engine.prepared[0].whole.undecided[0])

    def do(self, task: CellTask, interrupted: Callable[[], bool]) -> CellOutcome:
        """Open the cells of a task."""
        del interrupted  # tasks are short
        return self.engine.explore(task)

    def __getstate__(self) -> dict[str, Any]:
        """Return what another process needs."""
        return {"sought": self.sought}
