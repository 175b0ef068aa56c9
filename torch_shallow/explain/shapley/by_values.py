"""Shapley values of a function of which only values are known: all coalitions, one by one."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from torch_shallow.explain.function import Function
from torch_shallow.explain.shapley.weights import write_weights

POINTS_AT_ONCE = 1 << 14


def play_by_values(
    function: Function, x: Float[Tensor, "inputs"], reference: Float[Tensor, "inputs"]
) -> Float[np.ndarray, "inputs outputs"]:
    """Shapley values of the game between two points.

    Args:
        function: anything that has values at all coalitions.
        x: the point at which all have joined.
        reference: that at which nobody has.

    Raises:
        TransformError: the function is not known at some coalition.
    """
    values = np.zeros((function.num_inputs, function.num_outputs))
    players = np.flatnonzero((x != reference).cpu().numpy())
    k = len(players)
    on, off = np.zeros(k + 1), np.zeros(k + 1)
    write_weights(0, 0, k, on, off)
    at_empty = function(reference[None]).cpu().numpy()
    for start in range(0, 1 << k, POINTS_AT_ONCE):
        numbers = np.arange(start, min(start + POINTS_AT_ONCE, 1 << k))
        joined = (numbers[:, None] >> np.arange(k)) & 1 == 1
        points = reference.repeat(len(numbers), 1)
        points[:, players] = torch.where(torch.from_numpy(joined).to(x.device), x[players], points[:, players])
        y = function(points).cpu().numpy() - at_empty
        sizes = joined.sum(axis=1)
        values[players] += np.where(joined, on[sizes, None], -off[sizes, None]).T @ y
    return values
