"""Compiled passes over a tree of cuts: its depth, the half-spaces above a leaf, and the paths of points and faces."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int, Int64

from torch_shallow.compiled.decorator import compiled


@compiled()
def greatest_depth(children: Int[np.ndarray, "cuts 2"], above: Int64[np.ndarray, "cuts"]) -> int:
    """Return the number of cuts on the longest path; `above`, filled with 0, becomes the number of cuts above each."""
    deepest = 0
    for cut in range(children.shape[0]):
        deepest = max(deepest, above[cut] + 1)
        for side in range(2):
            if children[cut, side] >= 0:
                above[children[cut, side]] = above[cut] + 1
    return deepest


@compiled()
def write_path(
    rows: Float[np.ndarray, "most homogeneous"],
    start: int,
    code: int,
    cut_parents: Int[np.ndarray, "cuts"],
    cut_rows: Float[np.ndarray, "cuts homogeneous"],
) -> int:
    """Write the half-spaces above a parent's code after `start` rows, root first; return the number of all rows."""
    depth, at = 0, code
    while at >= 0:
        depth += 1
        at = cut_parents[at // 2]
    at = code
    for row in range(start + depth - 1, start - 1, -1):
        sign = 1.0 if at % 2 == 1 else -1.0
        for k in range(rows.shape[1]):
            rows[row, k] = sign * cut_rows[at // 2, k]
        at = cut_parents[at // 2]
    return start + depth


@compiled()
def margins(
    points: Float[np.ndarray, "regions coordinates"],
    region_parents: Int[np.ndarray, "regions"],
    cut_parents: Int[np.ndarray, "cuts"],
    cut_rows: Float[np.ndarray, "cuts homogeneous"],
    least: Float[np.ndarray, "regions"],
    cuts: Int64[np.ndarray, "regions"],
) -> None:
    """Write, for each point, the least value of the unit half-spaces on its path, and the cut that attains it.

    Values are relative to the length of the point's homogeneous coordinates.
    """
    dimension = points.shape[1]
    for region in range(points.shape[0]):
        square = 1.0
        for k in range(dimension):
            square += points[region, k] ** 2
        length = np.sqrt(square)
        least[region], cuts[region] = np.inf, -1
        code = region_parents[region]
        while code >= 0:
            cut = code // 2
            value = cut_rows[cut, dimension]
            for k in range(dimension):
                value += cut_rows[cut, k] * points[region, k]
            value = (value if code % 2 == 1 else -value) / length
            if not value >= least[region]:
                least[region], cuts[region] = value, cut
            code = cut_parents[cut]


@compiled()
def walk(
    generators: Float[np.ndarray, "generators homogeneous"],
    across: Float[np.ndarray, "coordinates"],
    cuts: Float[np.ndarray, "cuts homogeneous"],
    children: Int[np.ndarray, "cuts 2"],
    node: int,
    tolerance: float,
) -> int:
    """Descend from a node as long as a face lies on one side of each cut.

    Args:
        generators: Vertices, rays, and lines in both directions, of unit length.
        across: Direction from the face into the subtree, which decides where the face lies on a cut.
        cuts: Unit rows of the cuts.
        children: Children of each cut.
        node: Starting node.
        tolerance: Size up to which a value counts as zero.

    Returns:
        The first cut that has the face on both sides; or the leaf reached, with region k as ~k.
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
