"""Bound of a question on a cell, by its multipliers and the slopes of its relaxation.

The rows of a question are affine functions of the network's outputs: goals minus a reference value, and constraints.
Where all rows are positive, so is every mixture of them. A mixture of rows, relaxed and pulled back to the input, takes
its greatest value at a vertex; if that is negative, no point of the cell exceeds the reference. The weights of the
mixture and the slopes of the ReLUs' lower lines (Xu et al. 2021) are improved together, by subgradients with Polyak's
step towards a negative value; every value on the way is a valid bound.
"""

from __future__ import annotations

import numpy as np

from torch_shallow.bounds.difference_lines import put_differences, take_differences
from torch_shallow.bounds.linear_rows import add_inputs, add_sizes, greatest, lost, outward, pull_back, push
from torch_shallow.compiled.bundle import Bundle
from torch_shallow.compiled.decorator import compiled


class BoundRoom(Bundle):
    """Work space for the bounds of one cell."""

    points: np.ndarray  # float64 (dimension, capacity): vertices, homogeneous with last coordinate 1
    values: np.ndarray  # float64 (capacity,)
    row: np.ndarray  # float64 (neurons and outputs,): coefficients
    before: np.ndarray  # float64 (neurons and outputs,): coefficients on activations, before they are relaxed
    state: np.ndarray  # float64 (neurons and outputs,): values on the forward pass
    gradient: np.ndarray  # float64 (neurons and outputs,)
    linear: np.ndarray  # float64 (dimension,)
    point: np.ndarray  # float64 (dimension,): the vertex of the last bound
    active: np.ndarray  # int64 (neurons and outputs,)
    centre: np.ndarray  # float64 (dimension,): the mean of the vertices
    mixture: np.ndarray  # float64 (dimension,): the mean of the vertices of all bounds of the last ascent
    candidate: np.ndarray  # float64 (dimension,): the best point tried in the cell
    default: np.ndarray  # float64 (neurons,): slopes of the lower lines while neurons are bounded
    size: np.ndarray  # float64 (1,): size of all terms of a row


@compiled("contract", "nsz")
def mixture_bound(layers, level, count, low, high, slopes, weights, room):
    """Return the greatest value of a relaxed mixture of outputs on a cell, and the rounding allowance.

    `room.before` keeps the coefficients on activations, and `room.point` the vertex.
    """
    row, linear, network = room.row, room.linear, layers.network
    last = network.sizes.shape[0] - 1
    outputs = network.offsets[last]
    for j in range(network.offsets[level], outputs):
        row[j] = 0.0
    for r in range(weights.shape[0]):
        row[outputs + r] = weights[r]
    for k in range(linear.shape[0]):
        linear[k] = 0.0
    add_inputs(layers, level, row, linear, last)
    room.size[0] = 0.0
    if layers.pairs.first.shape[0] > 0:
        add_sizes(layers, row, outputs, row.shape[0], room)
    if level < last:
        push(layers, row, room.active, last, level)
        pull_back(layers, level, last - 1, low, high, slopes, room)
    bound, at = greatest(room.points, count, linear, room.values)
    for k in range(linear.shape[0]):
        room.point[k] = room.points[k, at]
    return bound, outward(linear) + lost(layers, room)


@compiled("contract", "nsz")
def follow_pieces(layers, level, low, high, slopes, room):
    """Evaluate the network at `room.point`, replacing each ReLU by the line that the last bound used.

    `room.state` receives activations and, at its end, the values of the outputs: the subgradient for the weights.
    `room.gradient` receives that for the slopes. Returns the sum of its squares.
    """
    state, point, before, gradient = room.state, room.point, room.before, room.gradient
    network, rest = layers.network, layers.rest[level]
    last, dimension = network.sizes.shape[0] - 1, point.shape[0]
    square = 0.0
    for t in range(level, last + 1):
        n, first = network.sizes[t], network.offsets[t]
        rows = rest[first * dimension : (first + n) * dimension].reshape(dimension, n)
        own = state[first : first + n]
        for i in range(n):
            own[i] = 0.0
        for k in range(dimension):
            factor, coordinate = point[k], rows[k]
            for i in range(n):
                own[i] += factor * coordinate[i]
        for block in range(network.block_starts[t], network.block_starts[t + 1]):
            source = network.block_sources[block]
            if source >= level:
                add_activations(network, block, state[network.offsets[source] : network.offsets[source + 1]], own)
        if t == last:
            break
        take_differences(layers.pairs, state, t)
        for i in range(n):
            j = first + i
            gradient[j] = 0.0
            if high[j] <= 0.0:
                state[j] = 0.0
            elif low[j] < 0.0:
                if before[j] > 0.0:
                    state[j] = (state[j] - low[j]) * (high[j] / (high[j] - low[j]))
                else:
                    gradient[j] = before[j] * state[j]
                    square += gradient[j] ** 2
                    state[j] *= slopes[j]
        put_differences(layers.pairs, state, t)
    return square


@compiled("contract", "nsz")
def add_activations(network, block, activations, values):
    """Add the products of a block with activations to the values."""
    n, at = values.shape[0], network.block_offsets[block]
    for j in range(activations.shape[0]):
        if activations[j] != 0.0:
            factor, weights = activations[j], network.hidden[at + j * n : at + (j + 1) * n]
            for i in range(n):
                values[i] += factor * weights[i]


@compiled()
def project(weights, sorted_weights):
    """Move weights to the nearest non-negative weights with sum 1."""
    n = weights.shape[0]
    for r in range(n):
        value, at = weights[r], r
        while at > 0 and sorted_weights[at - 1] < value:
            sorted_weights[at] = sorted_weights[at - 1]
            at -= 1
        sorted_weights[at] = value
    total, shift = 0.0, 0.0
    for r in range(n):
        total += sorted_weights[r]
        if sorted_weights[r] > (total - 1.0) / (r + 1):
            shift = (total - 1.0) / (r + 1)
    for r in range(n):
        weights[r] = max(0.0, weights[r] - shift)


@compiled("contract", "nsz")
def dual_ascent(layers, level, count, low, high, slopes, weights, num_goals, reference, most, bound, room):
    """Compute an upper bound of the least goal on a cell, subject to the constraints.

    Args:
        layers: The network.
        level: The first stage that is relaxed.
        count: Number of vertices in `room.points`.
        low: Lower bounds of the neurons.
        high: Upper bounds of the neurons.
        slopes: Slopes of the lower lines: the starting point, replaced by the final ones.
        weights: Weights of the rows: the starting point, replaced by the final ones.
        num_goals: Number of rows that are goals.
        reference: Value with which goals are compared; the ascent ends when the bound reaches it.
        most: Greatest number of steps.
        bound: A known upper bound.
        room: Work space.

    Returns:
        The bound; -inf if no point of the cell satisfies all constraints.
    """
    network, rows = layers.network, weights.shape[0]
    outputs = network.offsets[network.sizes.shape[0] - 1]
    for k in range(room.mixture.shape[0]):
        room.mixture[k] = 0.0
    for step in range(most):
        value, allowance = mixture_bound(layers, level, count, low, high, slopes, weights, room)
        of_goals = 0.0
        for r in range(num_goals):
            of_goals += weights[r]
        for k in range(room.mixture.shape[0]):
            room.mixture[k] += (room.point[k] - room.mixture[k]) / (step + 1)
        value -= reference * of_goals
        sure = value + allowance
        if of_goals > 0.0:
            bound = min(bound, reference + sure / of_goals)
        elif sure < 0.0:
            return -np.inf
        if sure <= 0.0 or step == most - 1:
            return bound
        square = follow_pieces(layers, level, low, high, slopes, room)
        if rows > 1:
            mean = 0.0
            for r in range(rows):
                if r < num_goals:
                    room.state[outputs + r] -= reference
                mean += room.state[outputs + r] / rows
            for r in range(rows):
                square += (room.state[outputs + r] - mean) ** 2
        if square == 0.0:
            return bound
        pace = 1.1 * sure / square
        for j in range(network.offsets[level], outputs):
            slopes[j] = min(max(slopes[j] - pace * room.gradient[j], 0.0), 1.0)
        if rows > 1:
            for r in range(rows):
                weights[r] -= pace * room.state[outputs + r]
            project(weights, room.values)
    return bound
