"""Inner loops of linear bounds of a network on a cell, pulled back through its layers.

A cell is the convex hull of its vertices. Up to its *level*, a stage, the network is one affine map on the cell; later
stages are relaxed: a ReLU that takes both signs lies between a line through 0 and the chord of its ends (Zhang et al.
2018: CROWN; Singh et al. 2019: DeepPoly). A row of coefficients on values of the network, pulled back to the level, is
a linear function of the input, with its greatest value at a vertex. So the bound is exact where a method for boxes
loses.
"""

from __future__ import annotations

from torch_shallow.bounds.difference_lines import add_differences, couple, is_narrow
from torch_shallow.compiled.decorator import compiled

ALLOWANCE = 1e-9  # how far a bound is moved outward, relative to the size of its linear function


@compiled("contract", "reassoc", "nsz", "nnan")
def greatest(points, count, linear, values):
    """Return the greatest value of a linear function at the first columns of `points`, and the column attaining it."""
    for p in range(count):
        values[p] = 0.0
    for k in range(points.shape[0]):
        factor, coordinates = linear[k], points[k]
        for p in range(count):
            values[p] += factor * coordinates[p]
    best, at = values[0], 0
    for p in range(count):
        best = max(best, values[p])
    while values[at] < best:
        at += 1
    return best, at


@compiled("contract", "reassoc", "nsz")
def outward(linear):
    """Return by how much the greatest value of a linear function on a cell is moved outward.

    Vertices are known up to 1e-10 of their size, which is about 1; the rounding of the rows is far below.
    """
    size = 0.0
    for k in range(linear.shape[0]):
        size += abs(linear[k])
    return ALLOWANCE * size


@compiled("contract", "nsz")
def push(layers, row, active, stage, level):
    """Pull the coefficients on the values of a stage back to the activations from the level on, adding to theirs.

    Args:
        layers: The network.
        row: Coefficients of all neurons: on values for this stage, on activations for earlier ones.
        active: Work space.
        stage: The stage.
        level: Earliest stage to reach.
    """
    network = layers.network
    n, first = network.sizes[stage], network.offsets[stage]
    count = 0
    for i in range(n):
        if row[first + i] != 0.0:
            active[count] = i
            count += 1
    fours = count // 4 * 4
    for block in range(network.block_starts[stage], network.block_starts[stage + 1]):
        source, at = network.block_sources[block], network.block_offsets[block]
        if source < level:
            continue
        n_source = network.sizes[source]
        weights = layers.backward[at : at + n * n_source].reshape(n, n_source)
        target = row[network.offsets[source] : network.offsets[source + 1]]
        begins = layers.begins[layers.row_starts[block] : layers.row_starts[block] + n]
        ends = layers.ends[layers.row_starts[block] : layers.row_starts[block] + n]
        for j in range(0, fours, 4):
            a, b, c, d = active[j], active[j + 1], active[j + 2], active[j + 3]
            by_a, by_b, by_c, by_d = row[first + a], row[first + b], row[first + c], row[first + d]
            of_a, of_b, of_c, of_d = weights[a], weights[b], weights[c], weights[d]
            first_column = min(min(begins[a], begins[b]), min(begins[c], begins[d]))
            last_column = max(max(ends[a], ends[b]), max(ends[c], ends[d]))
            for i in range(first_column, last_column):
                target[i] = target[i] + by_a * of_a[i] + by_b * of_b[i] + by_c * of_c[i] + by_d * of_d[i]
        for j in range(fours, count):
            by_j, of_j = row[first + active[j]], weights[active[j]]
            for i in range(begins[active[j]], ends[active[j]]):
                target[i] += by_j * of_j[i]


@compiled("contract", "reassoc", "nsz")
def add_inputs(layers, level, row, linear, stage):
    """Add the contribution of a stage's coefficients on values, through its rows over the input."""
    n, first = layers.network.sizes[stage], layers.network.offsets[stage]
    dimension = linear.shape[0]
    rows = layers.rest[level][first * dimension : (first + n) * dimension].reshape(dimension, n)
    own = row[first : first + n]
    for k in range(dimension):
        total, coordinate = 0.0, rows[k]
        for i in range(n):
            total += own[i] * coordinate[i]
        linear[k] += total


@compiled("contract", "nsz")
def relax(row, before, low, high, slopes, first, last):
    """Turn coefficients on activations into coefficients on values that give an upper bound; return the added constant.

    A positive coefficient takes the chord of a ReLU of both signs, a negative one the line through 0 with its slope.
    `before` keeps the coefficients on activations.
    """
    added = 0.0
    for i in range(first, last):
        before[i] = row[i]
        if high[i] <= 0.0:
            row[i] = 0.0
        elif low[i] < 0.0:
            if row[i] > 0.0:
                slope = high[i] / (high[i] - low[i])
                added -= row[i] * slope * low[i]
                row[i] *= slope
            else:
                row[i] *= slopes[i]
    return added


@compiled("contract", "nsz")
def pull_back(layers, level, stage, low, high, slopes, room):
    """Pull coefficients on activations in `room.row` back from a stage to the input, and add them to `room.linear`."""
    row, linear, network, pairs = room.row, room.linear, layers.network, layers.pairs
    for t in range(stage, level - 1, -1):
        first, last = network.offsets[t], network.offsets[t + 1]
        is_coupled = pairs.starts[t] < pairs.starts[t + 1]
        if is_coupled:
            add_sizes(layers, row, first, last, room)
            couple(pairs, row, low, high, slopes, t)
        added = relax(row, room.before, low, high, slopes, first, last)
        linear[linear.shape[0] - 1] += added
        if is_coupled:
            linear[linear.shape[0] - 1] += add_differences(pairs, row, t)
            add_sizes(layers, row, first, last, room)
        add_inputs(layers, level, row, linear, t)
        if t > level:
            push(layers, row, room.active, t, level)


@compiled("contract", "reassoc", "nsz")
def add_sizes(layers, row, first, last, room):
    """Add the sizes of the terms of part of a row to the total, the scale of its rounding."""
    total = 0.0
    for i in range(first, last):
        total += abs(row[i]) * layers.sizes[i]
    room.size[0] += total


@compiled()
def lost(layers, room):
    """Return what a row may have lost by rounding where nearly equal terms cancelled; 0 if no neurons are paired.

    A row is a chain of sums, each no longer than the number of sources, as in `StagedNetwork.rounding`.
    """
    if layers.pairs.first.shape[0] == 0:
        return 0.0
    length = layers.sizes.shape[0] + room.linear.shape[0] + 8 * layers.network.sizes.shape[0]
    return 4.5e-16 * length * room.size[0]


@compiled()
def least_area(low, high, slopes, first, last):
    """Write the slope of the lower line that leaves the least area, for each ReLU of both signs."""
    for i in range(first, last):
        slopes[i] = 1.0 if high[i] > -low[i] else 0.0


@compiled("contract", "nsz")
def bound_stage(layers, level, stage, count, low, high, slopes, room):
    """Tighten the bounds of the neurons of a stage that may take both signs, with one backward pass per bound.

    Args:
        layers: The network.
        level: The first stage that is relaxed; its own rows are exact.
        stage: The stage, later than the level.
        count: Number of vertices in `room.points`.
        low: Lower bounds of all neurons, which are updated.
        high: Upper bounds of all neurons, which are updated.
        slopes: Storage for the slopes of the lower lines; those of the stage before are written.
        room: Work space.
    """
    row, linear, network = room.row, room.linear, layers.network
    n, first, dimension = network.sizes[stage], network.offsets[stage], linear.shape[0]
    rows = layers.rest[level][first * dimension : (first + n) * dimension].reshape(dimension, n)
    least_area(low, high, slopes, network.offsets[stage - 1], first)
    for i in range(n):
        if low[first + i] >= 0.0 or high[first + i] <= 0.0 or is_narrow(layers.pairs, low, high, first + i):
            continue
        for side in range(2):
            sign = 1.0 if side == 1 else -1.0
            room.size[0] = layers.sizes[first + i]
            for j in range(network.offsets[level], first):
                row[j] = 0.0
            for k in range(dimension):
                linear[k] = sign * rows[k, i]
            for block in range(network.block_starts[stage], network.block_starts[stage + 1]):
                source, at = network.block_sources[block], network.block_offsets[block]
                if source >= level:
                    n_source, begin = network.sizes[source], network.offsets[source]
                    weights = layers.backward[at + i * n_source : at + (i + 1) * n_source]
                    for j in range(n_source):
                        row[begin + j] = sign * weights[j]
            pull_back(layers, level, stage - 1, low, high, slopes, room)
            bound, _ = greatest(room.points, count, linear, room.values)
            bound += outward(linear) + lost(layers, room)
            if side == 1:
                high[first + i] = min(high[first + i], bound)
            else:
                low[first + i] = max(low[first + i], -bound)
            if low[first + i] >= 0.0 or high[first + i] <= 0.0:
                break


@compiled("contract", "nsz")
def bound_distances(layers, level, stage, count, low, high, slopes, room):
    """Tighten the bounds of the distance of each pair of neurons of a stage; arguments are those of `bound_stage`."""
    row, linear, network, pairs = room.row, room.linear, layers.network, layers.pairs
    n, first, dimension = network.sizes[stage], network.offsets[stage], linear.shape[0]
    rows = layers.rest[level][first * dimension : (first + n) * dimension].reshape(dimension, n)
    if stage > level:
        least_area(low, high, slopes, network.offsets[stage - 1], first)
    for q in range(pairs.starts[stage], pairs.starts[stage + 1]):
        i, j = pairs.first[q], pairs.second[q]
        if (low[i] >= 0.0 or high[i] <= 0.0) and (low[j] >= 0.0 or high[j] <= 0.0):
            continue
        for side in range(2):
            sign = 1.0 if side == 1 else -1.0
            room.size[0] = layers.sizes[i] + layers.sizes[j]
            for k in range(network.offsets[level], first):
                row[k] = 0.0
            for k in range(dimension):
                linear[k] = sign * (rows[k, j - first] - rows[k, i - first])
            for block in range(network.block_starts[stage], network.block_starts[stage + 1]):
                source, at = network.block_sources[block], network.block_offsets[block]
                if source >= level:
                    n_source, begin = network.sizes[source], network.offsets[source]
                    of_i = layers.backward[at + (i - first) * n_source : at + (i - first + 1) * n_source]
                    of_j = layers.backward[at + (j - first) * n_source : at + (j - first + 1) * n_source]
                    for k in range(n_source):
                        row[begin + k] = sign * (of_j[k] - of_i[k])
            pull_back(layers, level, stage - 1, low, high, slopes, room)
            bound, _ = greatest(room.points, count, linear, room.values)
            bound += outward(linear) + lost(layers, room)
            if side == 1:
                pairs.most[q] = min(pairs.most[q], bound)
            else:
                pairs.least[q] = max(pairs.least[q], -bound)
