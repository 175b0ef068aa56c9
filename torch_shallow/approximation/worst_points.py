"""Find by an ascent where affine maps are farthest from a network; the distances found are lower bounds."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float

from torch_shallow.approximation.sampled_cell import SampledCell
from torch_shallow.bounds.staged import StagedNetwork
from torch_shallow.search.ascent import slopes_of

STARTS, STEPS = 24, 12  # number of worst points so far, for each output and sign, and of steps from each


def worst_points(
    network: StagedNetwork,
    cell: SampledCell,
    maps: Float[np.ndarray, "outputs homogeneous"],
    y: Float[np.ndarray, "points outputs"],
) -> Float[np.ndarray, "some inputs"]:
    """Return points of a cell where the network is above, or below, each affine map by more than nearby.

    Args:
        network: the network, in any box.
        cell: the cell, from whose worst points the ascent begins.
        maps: coefficients and constant for each output.
        y: outputs of the network at the points of the cell.
    """
    signed = np.concatenate([y - _values(maps, cell.x), _values(maps, cell.x) - y], axis=1).T
    starts = np.argsort(-signed, axis=1)[:, :STARTS]
    count = starts.shape[1]
    output = torch.arange(len(maps)).repeat(2).repeat_interleave(count)
    sign = torch.tensor([1.0, -1.0], dtype=torch.float64).repeat_interleave(len(maps) * count)
    slopes = torch.from_numpy(maps)[output]
    lower, upper = torch.from_numpy(cell.lower), torch.from_numpy(cell.upper)
    rows = torch.from_numpy(cell.rows)
    x = torch.from_numpy(cell.x[starts.reshape(-1)])
    best, most = x, torch.full_like(sign, -torch.inf)
    for step in range(STEPS + 1):
        entering, outputs = network(x)
        at = outputs.gather(1, output[:, None])[:, 0]
        value = sign * (at - (x * slopes[:, :-1]).sum(1) - slopes[:, -1])
        best, most = torch.where((value > most)[:, None], x, best), torch.maximum(value, most)
        if step == STEPS:
            break
        gradient = sign[:, None] * (slopes_of(network, entering, output) - slopes[:, :-1])
        share = 0.01 ** (step / (STEPS - 1))
        there = torch.minimum(torch.maximum(x + share * (upper - lower) * torch.sign(gradient), lower), upper)
        if len(rows):
            speed, room = (there - x) @ rows[:, :-1].T, (x @ rows[:, :-1].T + rows[:, -1]).clamp(min=0.0)
            times = torch.where(speed < 0.0, room / -speed, torch.inf)
            there = x + times.amin(1, keepdim=True).clamp(max=1.0) * (there - x)
        x = there
    return best.numpy()


def _values(
    maps: Float[np.ndarray, "outputs homogeneous"], x: Float[np.ndarray, "points inputs"]
) -> Float[np.ndarray, "points outputs"]:
    return x @ maps[:, :-1].T + maps[:, -1]
