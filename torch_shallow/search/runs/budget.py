"""When to stop: budgets, and Ctrl-C."""

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
    """Turn Ctrl-C into an answer; the second time it is KeyboardInterrupt as always.

    Yields:
        A function that says whether Ctrl-C was pressed. Outside of the main thread, where Python has no say in signals,
        and where they are ignored, it says no.
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


MOST_REGIONS = 1 << 48  # there is no memory for more
FOREVER = 1e15  # seconds
TASK_SECONDS = 0.5  # of one task, before it gives back what is left of its cells


def check_seconds(name: str, value: float, or_what: str = "") -> None:
    """Make sure that an argument is a positive number of seconds.

    Raises:
        TransformError: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, Real) or not value > 0.0:
        raise argument_error(value, Real)(f"{name}: expected a positive number of seconds{or_what}, found {value!r}.")


@dataclass
class Budget:
    """How much may be found, and in what time; None is no limit.

    Attributes:
        max_regions: how many regions there may be, those known before included.
        time_limit: seconds from now on, with those that it takes to make a network of what is found.
        begun: when the seconds begin; now, if it is not given.
        finishing: seconds that it takes, for each region, to make a network of it; 0 if that is not known.

    Raises:
        TransformError: a limit is not positive.
    """

    max_regions: int | None = None
    time_limit: float | None = None
    begun: float = field(default_factory=lambda: time.monotonic())  # looked up late: tests have a clock of their own
    finishing: float = 0.0

    def __post_init__(self) -> None:
        most, seconds = self.max_regions, self.time_limit
        if most is not None and (isinstance(most, bool) or not isinstance(most, Integral) or most < 1):
            raise argument_error(most, Integral)(f"max_regions: expected a positive integer or None, found {most!r}.")
        if seconds is not None:
            check_seconds("time_limit", seconds, " or None")

    def regions_left(self, known: int) -> int | None:
        """How many more regions there may be; None if any number."""
        return None if self.max_regions is None else max(0, min(int(self.max_regions), MOST_REGIONS) - known)

    def seconds_left(self, known: int) -> float:
        """How much time is left for finding regions, when so many are known."""
        if self.time_limit is None or self.time_limit > FOREVER:
            return float("inf")
        return float(self.time_limit) - (time.monotonic() - self.begun) - self.finishing * known

    def exceeded(self, known: int) -> str:
        """Which limit is reached, as the user gave it; empty if none is."""
        if self.regions_left(known) == 0:
            return f"max_regions={self.max_regions}"
        return f"time_limit={self.time_limit}" if self.seconds_left(known) <= 0.0 else ""
