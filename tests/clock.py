"""Clock that advances only when it is read, so that what a time limit leaves undone is the same on any machine."""

from __future__ import annotations

import importlib
import sys
import time

import pytest


class Clock:
    """Stands in for the module `time`.

    Attributes:
        tick: Seconds by which each reading advances. If that is long, a walk reads after each row; otherwise rarely.
        now: The last reading.
    """

    def __init__(self, tick: float = 1.0) -> None:
        self.tick, self.now = tick, 0.0

    def monotonic(self) -> float:
        self.now += self.tick
        return self.now


def replaced_clock(patch: pytest.MonkeyPatch) -> Clock:
    """Replace the clock of every module of the package that reads one, from now on."""
    importlib.import_module("torch_shallow.search.enumerate")  # with everything it imports
    clock = Clock()
    modules = [module for name, module in sys.modules.items() if name.startswith("torch_shallow.")]
    for module in modules:
        if getattr(module, "time", None) is time:
            patch.setattr(module, "time", clock)
    return clock
