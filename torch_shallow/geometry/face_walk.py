"""The way of a face down a tree, compiled."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from torch_shallow.compiled.decorator import compiled


@compiled()
def walk(
    generators: Float[np.ndarray, "generators homogeneous"],
    across: Float[np.ndarray, "coordinates"],
    cuts: Float[np.ndarray, "cuts homogeneous"],
    children: Int[np.ndarray, "cuts 2"],
    node: int,
    tolerance: float,
) -> int:
    """Go down from a node as long as a face lies on one side of the cuts.

    Args:
        generators: vertices, rays, and lines in both directions, of unit length.
        across: what to follow into a subtree where the face lies on a cut: the direction from which it is looked at.
        cuts: unit rows.
        children: of each cut.
        node: where to start.
        tolerance: a value up to this size counts as zero.

    Returns:
        The first cut that has the face on both sides; or the way's end, region k as ~k.
    """
    while node >= 0:
        positive, negative = False, False
        for g in range(generators.shape[0]):
            value = 0.0
            for i in range(generators.shape[1]):
                value += cuts[node, i] * generators[g, i]
            positive |= value > tolerance
            negative |= value < -tolerance
        if positive and negative:
            break
        if not positive and not negative:
            value = 0.0
            for i in range(across.shape[0]):
                value += cuts[node, i] * across[i]
            positive = value > 0.0
        node = children[node, 1 if positive else 0]
    return node
