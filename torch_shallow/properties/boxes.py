"""What rows say of single entries of the input: a box."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from jaxtyping import Float

from torch_shallow.properties.formula import Row


def narrow(
    lower: Float[np.ndarray, "inputs"], upper: Float[np.ndarray, "inputs"], rows: Iterable[Row]
) -> tuple[Float[np.ndarray, "inputs"], Float[np.ndarray, "inputs"], list[Row]]:
    """The bounds of the part of a box where rows about the input hold, and the rows that these do not say.

    Where a bound is a quotient, it is rounded outwards, and the row stays; so does one that is strict. A lower bound
    beyond an upper one says that there is no such part.

    Args:
        lower: bounds of the box.
        upper: likewise.
        rows: about the input alone.
    """
    lower, upper, left = lower.copy(), upper.copy(), []
    for row in rows:
        if len(row.inputs) > 1:
            left.append(row)
            continue
        ((i, coefficient),) = row.inputs.items()
        exact = abs(coefficient) == 1.0
        bound = -row.constant / coefficient
        if not exact:
            bound = float(np.nextafter(bound, -np.copysign(np.inf, coefficient)))
        if coefficient > 0.0:
            lower[i] = max(lower[i], bound)
        else:
            upper[i] = min(upper[i], bound)
        if row.strict or not exact:
            left.append(row)
    return lower, upper, left
