"""Narrow a box by rows about single entries of the input."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from jaxtyping import Float

from torch_shallow.properties.formula import Row


def narrow(
    lower: Float[np.ndarray, "inputs"], upper: Float[np.ndarray, "inputs"], rows: Iterable[Row]
) -> tuple[Float[np.ndarray, "inputs"], Float[np.ndarray, "inputs"], list[Row]]:
    """Return the bounds of the part of a box where rows about the input hold, and the rows beyond these bounds.

    A bound that is a quotient is rounded outwards, and its row is kept; so are strict rows. If a lower bound exceeds
    its upper bound, no such part exists.

    Args:
        lower: lower bounds of the box.
        upper: upper bounds of the box.
        rows: rows about the input alone.
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
