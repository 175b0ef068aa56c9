"""What is said, once, of searches that go on for long and have no limit of time."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from torch_shallow.search.runs.best_first import Standing

logger = logging.getLogger(__name__)


@dataclass(eq=False)
class Patience:
    """Logs once, while the searches of one question go on, that they are long, and how to have an answer sooner.

    How long they will take cannot be foretold: a good point that is found late may close all cells that are open.

    Attributes:
        seconds: after which a question is a long one.
        begun: when it was asked.
        standing: how far its present search is; None before the first one.
        is_told: whether it has been said.
    """

    seconds: float = 5.0
    begun: float = field(default_factory=lambda: time.monotonic())  # looked up late: tests have a clock of their own
    standing: Standing | None = None
    is_told: bool = False
    _clock: threading.Timer | None = None

    @contextmanager
    def watching(self, standing: Standing | None = None) -> Iterator[None]:
        """Speak up, by a clock of its own, if it is time before a search ends: its first cells alone may take long.

        Searches within one that is watched share its clock.

        Args:
            standing: how far the search is; None for the work before it.
        """
        before, self.standing = self.standing, standing
        if self._clock is not None or self.is_told:
            try:
                yield
            finally:
                self.standing = before
            return
        self._clock = threading.Timer(max(0.0, self.seconds - (time.monotonic() - self.begun)), self._tell)
        self._clock.daemon = True
        self._clock.start()
        try:
            yield
        finally:
            self._clock.cancel()
            self._clock, self.standing = None, before

    def _tell(self) -> None:
        self.is_told, standing = True, self.standing
        logger.warning(
            "the search goes on after %.0f s (%s), and nobody can tell whether it takes seconds or years more. %s in "
            "the next call ends it with what is proven by then; in a smaller domain, such as a Box around one input, "
            "there are fewer cells.",
            time.monotonic() - self.begun,
            f"{standing.cells:,} cells opened" if standing and standing.cells else "its first cells are not done",
            "Ctrl-C now or time_limit=" if standing else "time_limit=",
        )
