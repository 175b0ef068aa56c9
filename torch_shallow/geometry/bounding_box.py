"""The least box around a domain, for what works on boxes."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from torch_shallow.domain import Box, Domain
from torch_shallow.errors import TransformError
from torch_shallow.geometry.highs import minimiser

OUTWARDS = 1e-9  # a bound that a linear program gives is moved by this share of the size of the box

Bounded = tuple[Float[np.ndarray, "inputs"], Float[np.ndarray, "inputs"], Float[np.ndarray, "rows homogeneous"]]


def bounding_box(domain: Domain, in_shape: tuple[int, ...]) -> Bounded:
    """Bounds of each entry of an input, and the rest of the domain as rows: `rows @ [x; 1] >= 0`.

    Args:
        domain: a box, or a polytope, whose box is found by linear programs.
        in_shape: shape of one input.

    Raises:
        TransformError: the domain is not bounded.
    """
    if isinstance(domain, Box):
        lower, upper = domain.bounds(in_shape)
        rows = np.zeros((0, len(lower) + 1))
    else:
        normals, sides = domain.inequalities(in_shape)
        rows = np.column_stack([-normals, sides])
        lower, upper = _extent(rows, normals.shape[1])
    unbounded = np.flatnonzero(~(np.isfinite(lower) & np.isfinite(upper)))
    if len(unbounded):
        raise TransformError(
            f"domain: expected a bounded one, found one that has no end along {len(unbounded)} of {len(lower)} inputs, "
            f"first along input {unbounded[0]}; give a Box or a Polytope with finite bounds for all of them."
        )
    return lower, upper, rows


def _extent(rows: Float[np.ndarray, "rows homogeneous"], inputs: int) -> tuple[np.ndarray, np.ndarray]:
    """Least and greatest value of each coordinate, moved outwards; infinite where there is none."""
    lower, upper, cost = np.full(inputs, -np.inf), np.full(inputs, np.inf), np.zeros(inputs)
    if len(rows) == 0:
        return lower, upper
    minimise = minimiser(rows)
    for i in range(inputs):
        for sign, bounds in ((1.0, lower), (-1.0, upper)):
            cost[i] = sign
            point, _ = minimise(cost)
            if point is not None:
                bounds[i] = point[i]
        cost[i] = 0.0
    size = np.where(
        np.isfinite(lower) & np.isfinite(upper), np.maximum(upper - lower, np.abs(lower) + np.abs(upper)), 0.0
    )
    return lower - OUTWARDS * size, upper + OUTWARDS * size
