"""Questions asked one after another, and what they take together."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import TypeAlias

from torch_shallow.search.question import Answer, Posed

Search: TypeAlias = Callable[..., Answer]


@dataclass(eq=False)
class Asking:
    """Who answers questions, the arguments handed on, and what it has taken so far.

    Attributes:
        answer: the search.
        workers: a number of threads, or any executor.
        time_limit: seconds for all questions together; no limit if None.
        progress: whether to show a bar.
        method: how to search.
        solver: what solves programs, or None.
        begun: when.
        cells: how many cells were opened.
        reason: why the search was stopped; empty if it was not.
    """

    answer: Search
    workers: int | Executor
    time_limit: float | None
    progress: bool
    method: str
    solver: str | None
    begun: float = field(default_factory=time.monotonic)
    cells: int = 0
    reason: str = ""

    def ask(self, posed: Posed) -> Answer | None:
        """The answer, which is an interval where it was stopped; None if there is no time left."""
        left = None if self.time_limit is None else self.time_limit - (time.monotonic() - self.begun)
        if left is not None and left <= 0.0:
            self.reason = self.reason or f"time_limit={self.time_limit}"
        if self.reason:
            return None
        found = self.answer(
            posed,
            workers=self.workers,
            time_limit=left,
            progress=self.progress,
            method=self.method,
            solver=self.solver,
        )
        self.cells += found.cells
        if found.reason:
            limited = found.reason.startswith("time_limit")
            self.reason = f"time_limit={self.time_limit}" if limited else found.reason
        return found
