"""Saying that something is compiled: one line in the log, and a bar while it takes place."""

from __future__ import annotations

import logging
import sys
from typing import Any

from numba.core import event

logger = logging.getLogger("torch_shallow")
SECONDS = 25  # of one core, for everything, as `python -m torch_shallow compile --processes 1` measures it


class Announcement(event.Listener):  # type: ignore[misc]
    """Says the first time in a process that there is something to compile, and shows how far it is.

    The bar is written to a terminal or into a notebook; elsewhere there is the line in the log.
    """

    def __init__(self) -> None:
        self._said = False
        self._bar: Any = None

    def begin(self, name: str, functions: int) -> None:
        """An entry point of so many functions is going to be compiled."""
        if not self._said:
            logger.warning(
                "torch_shallow compiles its inner loops, once on this machine: about %d seconds for all of them, each "
                "when it is first needed; `python -m torch_shallow compile` compiles all of them now.",
                SECONDS,
            )
            self._said = True
        from tqdm import tqdm

        hidden = not (sys.stderr.isatty() or "ipykernel" in sys.modules)
        self._bar = tqdm(total=functions, desc=f"compiling {name}", unit=" functions", leave=False, disable=hidden)
        event.register("numba:compile", self)

    def end(self) -> None:
        """It has been compiled, or not; nothing happens if nothing had begun."""
        if self._bar is not None:
            event.unregister("numba:compile", self)
            self._bar.close()
            self._bar = None

    def on_start(self, event: event.Event) -> None:
        """A function of it is compiled."""

    def on_end(self, event: event.Event) -> None:
        """A function of it has been compiled."""
        self._bar.update()
