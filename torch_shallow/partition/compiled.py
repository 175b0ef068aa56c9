"""How the inner loops are compiled."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from numba import njit
from numba.core import event

logger = logging.getLogger(__name__)


def compiled(*fastmath: str) -> Callable[[Callable[..., Any]], Any]:
    """Compile a function that allocates nothing.

    Without reference counting, which took half of the time of the walk, a compiled function must not make arrays: it
    works in those that it is given. It releases the GIL, and a division by zero gives infinity.

    Args:
        fastmath: LLVM's fast-math flags; `"contract"` and `"nsz"` leave the handling of NaN and infinities alone.
    """
    decorate: Callable[[Callable[..., Any]], Any] = njit(
        cache=True, nogil=True, error_model="numpy", fastmath=set(fastmath), _nrt=False
    )
    return decorate


class _Announcer(event.Listener):  # type: ignore[misc]
    """Logs the first compilation it hears of."""

    def __init__(self) -> None:
        self.heard = False

    def on_start(self, event: event.Event) -> None:
        """Compilation starts."""
        if not self.heard:
            logger.warning("torch_shallow compiles its inner loops: about ten seconds, once on this machine")
            self.heard = True

    def on_end(self, event: event.Event) -> None:
        """Compilation has ended."""


@contextmanager
def announced() -> Iterator[None]:
    """Log one line if anything is compiled here, and not read from numba's cache on disk."""
    with event.install_listener("numba:compile", _Announcer()):
        yield
