"""An upper bound of the number of activation regions, from the sizes and ranks of the stages."""

from __future__ import annotations

from math import comb

import numpy as np
from jaxtyping import Bool, Float

from torch_shallow.geometry.chart import Chart
from torch_shallow.program.relu_program import ReLUProgram
from torch_shallow.search.problem import Problem


def upper_bound(problem: Problem) -> int:
    """A number that the activation regions of a program cannot exceed.

    T. Serra, C. Tjandraatmadja, S. Ramalingam, "Bounding and counting linear regions of deep neural networks" (2018),
    Theorem 1, for a program whose stages may read any before them; in exact integers.

    Proof. In a cell of constant pattern of all earlier stages, let everything that this stage and later ones read be
    affine functions of the point, of rank at most `d`. The `n` neurons of the stage that change sign somewhere are cut
    by hyperplanes, of rank `r`, at most `d` and the rank of their weights: at most sum of C(n, j) over j <= r cells
    (Zaslavsky), of which at most C(n, j) have exactly j of the neurons inactive. If later stages read nothing before
    this one, what they read has rank at most that of the stage and at most the number of its active neurons; else still
    `d`. So a bound F(j) of what is below a cell can only fall with j, and the sum over cells is largest if those of few
    inactive neurons are as many as can be: it is at most the sum of C(n, j) F(j) over j <= r.

    Args:
        problem: the network, and where. In a bounded box, neurons that keep their sign by interval arithmetic do not
            count.
    """
    program, chart, closed = problem.program, problem.chart, problem.network.closed
    ranks: list[tuple[int, int, int, int]] = []  # of each stage: neurons that cut, active ones, both ranks
    for weight, signs in zip(_weights(program, chart), _known_signs(program, chart), strict=True):
        cutting = ~(signs[0] | signs[1])
        ranks.append((int(cutting.sum()), int(signs[0].sum()), _rank(weight[cutting]), _rank(weight[~signs[1]])))

    dimensions = range(chart.num_coordinates + 1)
    below = [1 for _ in dimensions]  # how many regions the stages behind make of a cell that has so many dimensions
    for stage in range(len(ranks) - 1, -1, -1):
        (count, active, rank_of_cutting, rank_of_all), is_closed = ranks[stage], closed[stage]
        before = []
        for rank in dimensions:
            passed = min(rank, rank_of_all)
            before.append(
                sum(
                    comb(count, j) * below[min(passed, active + count - j) if is_closed else rank]
                    for j in range(min(rank, rank_of_cutting) + 1)
                )
            )
        below = before
    return below[-1]


def _weights(program: ReLUProgram, chart: Chart) -> list[Float[np.ndarray, "neurons sources"]]:
    """The weights of each stage, with chart coordinates in place of inputs."""
    d = program.num_inputs
    return [np.hstack([stage.weight[:, :d] @ chart.directions.T, stage.weight[:, d:]]) for stage in program.stages]


def _rank(weight: Float[np.ndarray, "rows columns"], most_entries: int = 1 << 22) -> int:
    """The rank of a matrix, whatever the units of its rows and columns, or more if it is large."""
    weight = weight[weight.any(axis=1)][:, weight.any(axis=0)]
    if weight.size == 0 or weight.size > most_entries:
        return min(weight.shape)
    weight = weight / np.abs(weight).max(axis=1, keepdims=True)
    return int(np.linalg.matrix_rank(weight / np.abs(weight).max(axis=0)))


def _known_signs(
    program: ReLUProgram, chart: Chart
) -> list[tuple[Bool[np.ndarray, "neurons"], Bool[np.ndarray, "neurons"]]]:
    """The neurons of each stage that are active, and inactive, in the whole domain; none unless that is a box."""
    if not chart.is_box:
        return [(np.zeros(stage.num_neurons, dtype=bool),) * 2 for stage in program.stages]
    d, signs = program.num_inputs, []
    middle, radius = np.zeros(chart.num_coordinates), np.ones(chart.num_coordinates)
    for stage, weight in zip(program.stages, _weights(program, chart), strict=True):
        centre = weight @ middle + stage.weight[:, :d] @ chart.origin + stage.bias
        half = np.abs(weight) @ radius
        low, high = centre - half, centre + half
        signs.append((low >= 0.0, (high <= 0.0) & (low < 0.0)))
        low, high = np.maximum(low, 0.0), np.maximum(high, 0.0)
        middle, radius = np.append(middle, (low + high) / 2), np.append(radius, (high - low) / 2)
    return signs
