"""A clock that goes on when it is looked at: what a time limit leaves undone is then the same on any machine."""

from __future__ import annotations

import importlib
import sys
import time

import pytest


class Clock:
    """Stands for the module `time`.

    Attributes:
        tick: seconds from one look to the next. A walk looks after each row if that is long, and seldom if not.
        now: what the last look has shown.
    """

    def __init__(self, tick: float = 1.0) -> None:
        self.tick, self.now = tick, 0.0

    def monotonic(self) -> float:
        self.now += self.tick
        return self.now


def replaced_clock(patch: pytest.MonkeyPatch) -> Clock:
    """The clock of every module of the package that looks at one, from now on."""
    importlib.import_module("torch_shallow.search.enumerate")  # and all that it imports
    clock = Clock()
    modules = [module for name, module in sys.modules.items() if name.startswith("torch_shallow.")]
    for module in modules:
        if getattr(module, "time", None) is time:
            patch.setattr(module, "time", clock)
    return clock
