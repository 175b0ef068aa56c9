"""Prune the tree of a known network to the nodes below which one affine map suffices."""

from __future__ import annotations

import numpy as np

from torch_shallow.approximation.fit import Fitter
from torch_shallow.approximation.growing import Node
from torch_shallow.approximation.known_cell import KnownCell


def pruned(whole: KnownCell, fitter: Fitter, goal: float, most: int) -> Node | None:
    """Return the tree of a network with as few leaves as its cuts and the goal allow.

    This is exact: the nearest map of a node is never nearer than those of the nodes below it, so a node becomes a leaf
    if, and only if, its own map is near enough.

    Args:
        whole: the domain of the network.
        fitter: the object that fits maps to cells.
        goal: the largest error allowed.
        most: the largest number of leaves of interest.

    Returns:
        The root; None if there would be more leaves.
    """
    function = whole.function
    rows, rng = function.half_spaces.rows[function.half_space_of()].detach().cpu().numpy(), np.random.default_rng(0)
    root = Node(fitter.fit(whole, goal))
    stack, leaves = [(root, 0 if function.tree.num_cuts else -1)], 0
    while stack:
        node, cut = stack.pop()
        if cut < 0 or fitter.found(node.fit) <= goal:
            node.best = node.fit = fitter.at_vertices(node.fit)
            leaves += 1
        else:
            node.cut = rows[cut]
            parts = [node.fit.cell.side(node.cut, active, rng) for active in (False, True)]
            below = [Node(fitter.fit(part, goal)) for part in parts]
            node.below = below[0], below[1]
            stack += zip(below, function.tree.children[cut].tolist(), strict=True)
        if leaves + len(stack) > most:
            return None
    return root
