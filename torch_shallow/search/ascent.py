"""Climbing to points of high value, which prove only their own value."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from torch_shallow.bounds.staged import StagedNetwork


def climb(
    network: StagedNetwork, num_goals: int, x: Float[Tensor, "points inputs"], steps: int
) -> Float[Tensor, "points inputs"]:
    """Return, for each point, the best point met in `steps` steps of projected gradient ascent.

    Where a constraint is violated, the ascent raises the most violated one, elsewhere the least goal. All inputs move
    by the same share of the width of the box, which falls from the whole width to a hundredth of it.

    Args:
        network: The network in its box; its outputs are the goals, then the constraints.
        num_goals: Number of goals.
        x: Points of the box.
        steps: Number of steps.
    """
    best, most = x, torch.full_like(x[:, 0], -torch.inf)
    for step in range(steps + 1):
        entering, outputs = network(x)
        constraints = outputs[:, num_goals:]
        kept = (constraints >= 0.0).all(dim=1)
        value = torch.where(kept, outputs[:, :num_goals].amin(dim=1), -torch.inf)
        better = value > most
        best, most = torch.where(better[:, None], x, best), torch.where(better, value, most)
        if step == steps:
            break
        row = outputs[:, :num_goals].argmin(dim=1)
        if constraints.shape[1]:
            row = torch.where(kept, row, num_goals + constraints.argmin(dim=1))
        share = 2.0 * 0.01 ** (step / max(steps - 1, 1))
        x = x + share * network.radius * torch.sign(slopes_of(network, entering, row))
        x = torch.minimum(torch.maximum(x, network.lower), network.upper)
    return best


def slopes_of(
    network: StagedNetwork, entering: Float[Tensor, "points neurons"], row: Tensor
) -> Float[Tensor, "points inputs"]:
    """Return the gradient of one output at each point."""
    slopes: list[Tensor | None] = [None] * len(network.layers)
    for source, block in network.outputs.blocks:
        slopes[source] = block[row]
    for number in range(len(network.stages), 0, -1):
        stage, a = network.stages[number - 1], slopes[number]
        if a is None:
            continue
        into = a * (entering[:, stage.neurons] > 0.0)
        for source, block in stage.blocks:
            before = slopes[source]
            slopes[source] = into @ block if before is None else before + into @ block
    a = slopes[0]
    return entering.new_zeros(len(row), len(network.lower)) if a is None else a
