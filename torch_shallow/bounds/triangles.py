"""Linear program of a cell, where each unstable ReLU lies in a triangle; it gives the multipliers of the best bound."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from torch_shallow.bounds.backward import CellBounds, Lines
from torch_shallow.bounds.goals import Goals
from torch_shallow.bounds.multipliers import Multipliers, flat_or_steep
from torch_shallow.bounds.staged import StagedNetwork
from torch_shallow.geometry.highs import linear_program, solve

TOLERANCE = 1e-10
ROOM = 3e-10  # relative: margin in constraints, so that they still hold after rounding


@dataclass(frozen=True, eq=False)
class TriangleSolution:
    """Answer of HiGHS to the linear program of a cell.

    Attributes:
        multipliers: Multipliers from its dual solution; a backward pass proves the bound that they give.
        x: Inputs of its solution, in the box.
        missed: How far they miss the cell.
    """

    multipliers: Multipliers
    x: Float[Tensor, "inputs"]
    missed: float


@dataclass(frozen=True, eq=False)
class _Affine:
    """Affine functions of the inputs and of the activations of the unstable neurons.

    Attributes:
        entering: Weights of the pre-activations; the columns are the inputs, then the unstable neurons.
        entering_bias: Constants of the pre-activations.
        outputs: Weights of the outputs.
        outputs_bias: Constants of the outputs.
        unstable: Numbers of the unstable neurons.
    """

    entering: Float[np.ndarray, "neurons columns"]
    entering_bias: Float[np.ndarray, "neurons"]
    outputs: Float[np.ndarray, "outputs columns"]
    outputs_bias: Float[np.ndarray, "outputs"]
    unstable: Int[np.ndarray, "unstable"]

    @classmethod
    def of(cls, network: StagedNetwork, cell: CellBounds) -> _Affine:
        """Replace the ReLUs of all stable neurons, stage by stage."""
        unstable = torch.nonzero(cell.unstable[0])[:, 0]
        active = cell.lower[0] >= 0.0
        inputs, columns = len(network.lower), len(network.lower) + len(unstable)
        own = torch.zeros(network.num_neurons, columns, dtype=torch.float64, device=unstable.device)
        own[unstable, inputs + torch.arange(len(unstable), device=unstable.device)] = 1.0
        eye = torch.eye(inputs, columns, dtype=torch.float64, device=unstable.device)
        sources, weights, biases = [(eye, eye[:, 0] * 0.0)], [], []
        for layer in network.layers:
            weight, bias = eye.new_zeros(len(layer.bias), columns), layer.bias
            for source, block in layer.blocks:
                weight, bias = weight + block @ sources[source][0], bias + block @ sources[source][1]
            weights.append(weight.cpu().numpy())
            biases.append(bias.cpu().numpy())
            if layer is not network.outputs:
                kept = active[layer.neurons].double()
                sources.append((weight * kept[:, None] + own[layer.neurons], bias * kept))
        entering = np.concatenate([np.zeros((0, columns)), *weights[:-1]])
        return cls(
            entering, np.concatenate([np.zeros(0), *biases[:-1]]), weights[-1], biases[-1], unstable.cpu().numpy()
        )


def solve_triangles(
    network: StagedNetwork, cell: CellBounds, goals: Goals, price: float = 100.0
) -> TriangleSolution | None:
    """Solve the linear program of one cell by HiGHS.

    A cell may be empty. To ensure a solution, all decisions and constraints may be missed by the same amount, relative
    to their sizes, at a price relative to the size of the goals.

    Args:
        network: The network in its box.
        cell: A batch of one cell.
        goals: The goals to bound.
        price: Price of an amount of 1. The bound of an empty cell falls with it, without limit.

    Returns:
        The solution; None if HiGHS finds none.
    """
    affine = _Affine.of(network, cell)
    lines = Lines.of(replace(cell, coupling=None))
    inputs, unstable, m = len(network.lower), affine.unstable, goals.num_goals
    side = cell.side[0].cpu().numpy()
    decided = np.flatnonzero(side)
    steep, offset = (part[0, 0].cpu().numpy()[unstable] for part in (lines.steepness, lines.offset))
    sizes = np.maximum(goals.sizes.cpu().numpy(), np.finfo(np.float64).tiny)
    unit, count = sizes[:m].max(), len(unstable)
    z, z_bias = affine.entering[unstable], affine.entering_bias[unstable]
    eye = np.eye(inputs + count)[inputs:]

    def rows(weight: np.ndarray, best: float, missed: float) -> np.ndarray:
        return np.column_stack([weight, np.full(len(weight), best), np.full(len(weight), missed)])

    # Constraints of the form `row >= limit`.
    blocks = [
        (rows(affine.outputs[:m] / unit, -1.0, 0.0), -affine.outputs_bias[:m] / unit),
        (rows(affine.outputs[m:] / sizes[m:, None], 0.0, 1.0), ROOM - affine.outputs_bias[m:] / sizes[m:]),
        (
            rows(side[decided, None] * affine.entering[decided], 0.0, 1.0),
            -side[decided] * affine.entering_bias[decided],
        ),
        (rows(eye - z, 0.0, 0.0), z_bias),
        (rows(steep[:, None] * z - eye, 0.0, 0.0), -offset - steep * z_bias),
    ]
    lower = np.concatenate([network.lower.cpu().numpy(), np.zeros(count), [-np.inf, 0.0]])
    upper = np.concatenate([network.upper.cpu().numpy(), np.full(count, np.inf), [np.inf, np.inf]])
    options = {"primal_feasibility_tolerance": TOLERANCE, "dual_feasibility_tolerance": TOLERANCE, "threads": 1}
    weight, least = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
    highs = linear_program(weight, (least, np.inf), (lower, upper), options, maximise=True)
    cost = np.zeros(len(lower))
    cost[-2:] = 1.0, -price
    if solve(highs, cost):
        return None
    solution = highs.getSolution()
    values, duals = np.array(solution.col_value), np.abs(np.array(solution.row_dual))
    parts = np.split(duals, np.cumsum([len(block[1]) for block in blocks])[:-1])
    shares, constraints, splits, above_line, _ = parts
    above_zero = np.abs(np.array(solution.col_dual))[inputs : inputs + count]
    slopes = flat_or_steep(lines).clone()
    paid = above_line + above_zero
    at = unstable[paid > 0.0]
    slopes[0, 0, at] = slopes.new_tensor(above_line[paid > 0.0] / paid[paid > 0.0])
    all_splits = torch.zeros_like(slopes)
    all_splits[0, 0, decided] = slopes.new_tensor(splits * unit)
    weights = goals.weights_of(slopes.new_tensor(shares), slopes.new_tensor(constraints * unit / sizes[m:]))
    x = torch.minimum(torch.maximum(slopes.new_tensor(values[:inputs]), network.lower), network.upper)
    return TriangleSolution(Multipliers(slopes, all_splits, weights[None, None]), x, missed=float(values[-1]))
