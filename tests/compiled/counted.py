"""Numbers of functions that are compiled, here and in other processes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numba.core import config, event


class Count(event.Listener):
    """Counts the functions that numba compiles."""

    def __init__(self) -> None:
        self.functions = 0

    def on_start(self, event: Any) -> None:
        self.functions += 1

    def on_end(self, event: Any) -> None:
        """Ignore the end, so that nothing is counted twice."""


@contextmanager
def compilations() -> Iterator[Count]:
    """Count the functions compiled in a block."""
    count = Count()
    with event.install_listener("numba:compile", count):
        yield count


def forget_what_is_on_disk(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Let functions decorated from here on be kept in an empty folder."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(folder))
    config.reload_config()


def first_use() -> int:
    """Return how many functions the first call of a small entry point compiles in this process."""
    from torch_shallow.search.compose_maps import first_regions

    with compilations() as count:
        first_regions(np.array([[-1, -2]]), np.zeros(1, dtype=np.int64))
    return count.functions
