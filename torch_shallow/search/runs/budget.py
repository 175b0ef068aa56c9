"""Limits of a run: budgets, and Ctrl-C."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from numbers import Integral, Real
from types import FrameType

from torch_shallow.errors import argument_error


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Record Ctrl-C instead of raising KeyboardInterrupt; a second Ctrl-C raises it as usual.

    Yields:
        A function that returns whether Ctrl-C was pressed; always False outside the main thread, where Python cannot
        set signal handlers, and where the signal is ignored.
    """
    pressed = threading.Event()
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or before in (None, signal.SIG_IGN):
        yield pressed.is_set
        return

    def press(_number: int, _frame: FrameType | None) -> None:
        if pressed.is_set():
            raise KeyboardInterrupt
        pressed.set()

    signal.signal(signal.SIGINT, press)
    try:
        yield pressed.is_set
    finally:
        signal.signal(signal.SIGINT, before)


MOST_REGIONS = 1 << 48  # more would not fit into memory
FOREVER = 1e15  # seconds
TASK_SECONDS = 0.5  # per task, before it returns the cells it has left


def check_seconds(name: str, value: float, or_what: str = "") -> None:
    """Raise unless an argument is a positive number of seconds.

    Raises:
        TransformError: The argument is not a positive number of seconds.
    """
    if isinstance(value, bool) or not isinstance(value, Real) or not value > 0.0:
        raise argument_error(value, Real)(f"{name}: expected a positive number of seconds{or_what}, found {value!r}.")


@dataclass
class Budget:
    """Limits on the number of regions and the time; None is no limit.

    Attributes:
        max_regions: Greatest number of regions, including those known before.
        time_limit: Seconds from `begun` on, including the time to make a network of the regions found.
        begun: Start of the time; now by default.
        finishing: Seconds per region to make a network; 0 if unknown.

    Raises:
        TransformError: A limit is not positive.
    """

    max_regions: int | None = None
    time_limit: float | None = None
    begun: float = field(default_factory=lambda: time.monotonic())  # looked up late, as tests have a clock of their own
    finishing: float = 0.0

    def __post_init__(self) -> None:
        most, seconds = self.max_regions, self.time_limit
        if most is not None and (isinstance(most, bool) or not isinstance(most, Integral) or most < 1):
            raise argument_error(most, Integral)(f"max_regions: expected a positive integer or None, found {most!r}.")
        if seconds is not None:
            check_seconds("time_limit", seconds, " or None")

    def regions_left(self, known: int) -> int | None:
        """Return how many more regions there may be; None for any number."""
        return None if self.max_regions is None else max(0, min(int(self.max_regions), MOST_REGIONS) - known)

    def seconds_left(self, known: int) -> float:
        """Return the seconds left for finding regions when `known` regions are known."""
        if self.time_limit is None or self.time_limit > FOREVER:
            return float("inf")
        return float(self.time_limit) - (time.monotonic() - self.begun) - self.finishing * known

    def exceeded(self, known: int) -> str:
        """Return the limit that is reached, as the user gave it; an empty text if none is."""
        if self.regions_left(known) == 0:
            return f"max_regions={self.max_regions}"
        return f"time_limit={self.time_limit}" if self.seconds_left(known) <= 0.0 else ""
