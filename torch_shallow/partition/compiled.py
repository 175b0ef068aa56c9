"""How the inner loops are compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit


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
