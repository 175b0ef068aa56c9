"""Cones of output directions: the greatest singular value of J is the greatest length of u J with |u| = 1.

A cone is spanned by its corners, as many unit vectors as there are outputs. Since u = sum t_k u_k with t >= 0, u J is
no longer than sum t_k times the greatest |u_k J|; and sum t_k <= c u <= |c| for any c with c u_k >= 1 for all k. So
bounds of one output each, in the directions of the corners, bound the whole cone.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from torch_shallow.compiled.decorator import compiled

MOST_OUTPUTS = 2  # a sphere of more dimensions needs too many cones
FEWEST_NEURONS = 24  # with fewer, a bound of all outputs at once closes sooner
NARROW = 1e-9  # a cone whose reach exceeds 1 by no more than this is not split


def orthant(number: int, outputs: int) -> Float[np.ndarray, "outputs outputs"]:
    """Return the corners of one of the initial cones; as u and -u are equivalent, the first sign is fixed."""
    signs = [1.0] + [-1.0 if number >> k & 1 else 1.0 for k in range(outputs - 1)]
    return np.diag(signs)


@compiled()
def choose_corner(ways, corner):
    """Restrict the ways to the output in the direction of one corner."""
    ways.corner[0] = corner
    for o in range(ways.sides.shape[0]):
        ways.sides[o] = ways.corners[corner, o]


@compiled()
def reach_of(ways):
    """Return the greatest sum of the t_k: 1 / min c u_k for the unit vector c in the middle."""
    outputs = ways.corners.shape[0]
    square, least = 0.0, np.inf
    for o in range(outputs):
        total = 0.0
        for k in range(outputs):
            total += ways.corners[k, o]
        square += total * total
    for k in range(outputs):
        along = 0.0
        for o in range(outputs):
            total = 0.0
            for other in range(outputs):
                total += ways.corners[other, o]
            along += total * ways.corners[k, o]
        least = min(least, along)
    if least <= 0.0:
        return np.inf
    return np.sqrt(square) / least * (1.0 + 1e-14 * outputs)


@compiled()
def longest_edge(ways):
    """Return the two corners that are furthest apart, as `first * outputs + second`."""
    outputs = ways.corners.shape[0]
    least, chosen = np.inf, 0
    for a in range(outputs):
        for b in range(a + 1, outputs):
            along = 0.0
            for o in range(outputs):
                along += ways.corners[a, o] * ways.corners[b, o]
            if along < least:
                least, chosen = along, a * outputs + b
    return chosen


@compiled()
def split_cone(ways, side):
    """Keep one half of the cone, on one side of the middle of its longest edge."""
    outputs = ways.corners.shape[0]
    edge = longest_edge(ways)
    kept, moved = edge // outputs, edge % outputs
    if side == 1:
        kept, moved = moved, kept
    square = 0.0
    for o in range(outputs):
        ways.corners[moved, o] += ways.corners[kept, o]
        square += ways.corners[moved, o] * ways.corners[moved, o]
    for o in range(outputs):
        ways.corners[moved, o] /= np.sqrt(square)
