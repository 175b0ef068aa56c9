"""How the inner loops are compiled."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from numba import njit
from numba.core import event

logger = logging.getLogger(__name__)
LAST_FOLDERS = ("explain", "plot")  # nothing outside of them imports them


def compiled(*fastmath: str) -> Callable[[Callable[..., Any]], Any]:
    """Compile a function that allocates nothing.

    Without reference counting, which took half of the time of the walk, a compiled function must not make arrays: it
    works in those that it is given. It releases the GIL, and a division by zero gives infinity.

    Args:
        fastmath: LLVM's fast-math flags; `"contract"` and `"nsz"` leave the handling of NaN and infinities alone.
    """
    decorate = njit(cache=True, nogil=True, error_model="numpy", fastmath=set(fastmath), _nrt=False)

    def compile_later(function: Callable[..., Any]) -> Any:
        dispatcher = decorate(function)
        # numba looks for changes in the file of the function only, but what it calls is compiled into it.
        cache_file: Any = getattr(dispatcher._cache, "_cache_file", None)
        if hasattr(cache_file, "_source_stamp"):
            cache_file._source_stamp = _stamp_of_package(Path(function.__code__.co_filename))
        return dispatcher

    return compile_later


def _stamp_of_package(file: Path) -> tuple[tuple[str, float, int], ...]:
    """Name, time of change and size of every source file of the package on which code in a file may depend."""
    root = Path(__file__).parents[1]
    last = not any(root / folder in file.parents for folder in LAST_FOLDERS)
    return tuple(entry for entry in _stamps(root) if not (last and entry[0].startswith(LAST_FOLDERS)))


@lru_cache
def _stamps(root: Path) -> tuple[tuple[str, float, int], ...]:
    files = sorted(root.rglob("*.py"))
    return tuple((path.relative_to(root).as_posix(), path.stat().st_mtime, path.stat().st_size) for path in files)


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
