"""A tree, level by level: what is on the way to every leaf, added up."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


class Levels(nn.Module):
    """Sums along all paths of a tree, each level from the one above it.

    Args:
        children: of each cut, as in `Tree`.

    Attributes:
        above: for each node of a level, the place of its parent in the level above; all levels below the root, joined.
        steps: for each node likewise, the step to it: `2 * cut + side` (side 1: active).
        leaves: the place of each leaf among all nodes, the root being the first.
    """

    above: Tensor
    steps: Tensor
    leaves: Tensor

    def __init__(self, children: Int[np.ndarray, "cuts 2"]) -> None:
        super().__init__()
        nodes = np.array([0 if len(children) else ~0])
        above, steps, joined = [nodes[:0]], [nodes[:0]], [nodes]
        while (nodes >= 0).any():
            inner = np.flatnonzero(nodes >= 0)
            above.append(inner.repeat(2))
            steps.append((2 * nodes[inner, None] + np.arange(2)).reshape(-1))
            nodes = children[nodes[inner]].reshape(-1)
            joined.append(nodes)
        every = np.concatenate(joined)
        leaves = np.zeros(len(children) + 1, dtype=np.int64)
        leaves[~every[every < 0]] = np.flatnonzero(every < 0)
        self.sizes = [len(level) for level in steps[1:]]
        for name, array in (("above", np.concatenate(above)), ("steps", np.concatenate(steps)), ("leaves", leaves)):
            self.register_buffer(name, torch.from_numpy(array), persistent=False)

    def forward(self, steps: Float[Tensor, "points steps"]) -> Float[Tensor, "points leaves"]:
        """The sum of the steps to each leaf.

        Args:
            steps: for each point, the steps to the inactive and the active child of the first cut, of the second, ...
        """
        levels = [steps.new_zeros(steps.shape[0], 1)]
        for above, step in zip(self.above.split(self.sizes), self.steps.split(self.sizes), strict=True):
            levels.append(levels[-1].index_select(1, above) + steps.index_select(1, step))
        return torch.cat(levels, 1).index_select(1, self.leaves)
