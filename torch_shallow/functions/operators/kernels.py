"""Define compiled loops over points, each over a range of rows, so that threads can share them."""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from torch_shallow.compiled.decorator import compiled
from torch_shallow.compiled.team import share
from torch_shallow.compiled.view import take_apart


@intrinsic
def prefetch(typing_context, view, row):
    """Prefetch the start of a row of an array; the row may lie outside it."""

    def emit(context, builder, signature, arguments):
        start, shape = take_apart(context, builder, view, arguments[0])
        offset = arguments[1]
        for extent in shape[1:]:
            offset = builder.mul(offset, extent)
        byte, word = ir.IntType(8).as_pointer(), ir.IntType(32)
        address = builder.bitcast(builder.gep(start, [offset]), byte)
        function = builder.module.declare_intrinsic(
            "llvm.prefetch", [byte], ir.FunctionType(ir.VoidType(), [byte, word, word, word])
        )
        read, keep, data = word(0), word(3), word(1)
        builder.call(function, [address, read, keep, data])
        return context.get_dummy_value()

    return types.void(view, types.int64), emit


TOGETHER = 64  # points that descend the tree together: while one waits for memory, the others continue
FAR = 1 << 15  # a tree with more cuts than this exceeds the core's own cache, so it is prefetched
AHEAD = 8  # number of points whose local models are prefetched


@compiled("contract", "nsz")
def locate_rows(
    team,
    threads,
    size,
    start,
    stop,
    u,
    x,
    half_spaces,
    tree,
    first_limit,
    second_limit,
    in_box,
    slack,
    rounding,
    regions,
    region,
    places,
):
    """Write the region of each point; -1 in an open cell and outside the domain.

    Args:
        team: with the four that follow, as `share` takes them.
        threads: most threads.
        size: number of points to be taken at once.
        start: first point.
        stop: end of the points.
        u: the coordinates that the cuts read.
        x: the points.
        half_spaces: rows of half-spaces.
        tree: the cuts, as in `locate`.
        first_limit: lower bounds of a box, as one row; or coefficients of inequalities, perhaps none.
        second_limit: upper bounds, or right-hand sides.
        in_box: whether the limits are those of a box.
        slack: how far a point may lie outside, as in `inside`.
        rounding: the unit of rounding of the points, as in `inside`.
        regions: number of regions.
        region: is filled with regions.
        places: room for `TOGETHER` points in progress and for their nodes, for each thread.
    """
    arguments = (
        u,
        x,
        half_spaces,
        tree,
        first_limit,
        second_limit,
        in_box,
        slack,
        rounding,
        regions,
        region,
        places,
    )
    share(team, threads, size, start, stop, locate_range, arguments)


@compiled("contract", "nsz")
def locate_range(
    thread,
    start,
    stop,
    u,
    x,
    half_spaces,
    tree,
    first_limit,
    second_limit,
    in_box,
    slack,
    rounding,
    regions,
    region,
    places,
):
    """Locate a range of points in the room of a thread. The other arguments are those of `locate_rows`."""
    descend_rows(u, half_spaces, tree, regions, region, start, stop, places[thread, 0], places[thread, 1])
    if in_box:
        keep_inside_box(x, first_limit[0], second_limit, slack, rounding, region, start, stop)
    else:
        keep_inside_polytope(x, first_limit, second_limit, slack, region, start, stop)


@compiled("contract", "nsz")
def descend_rows(u, half_spaces, tree, regions, region, start, stop, points, nodes):
    """Write the region of each point: descend to the active child where a cut is positive, else to the inactive one.

    In an open cell, which is `regions` in the tree, the region is -1.

    A row of `half_spaces` is a normal and an offset; further columns of `u` are not read. `points` and `nodes` have
    room for the `TOGETHER` points in progress and their present nodes.
    """
    for first in range(start, stop, TOGETHER):
        moving = min(TOGETHER, stop - first)
        for i in range(moving):
            points[i], nodes[i] = first + i, 0
            region[first + i] = 0
        if tree.shape[0] == 0:
            moving = 0
        while moving > 0:
            moving = descend_once(u, half_spaces, tree, region, points, nodes, moving)
        for point in range(first, min(first + TOGETHER, stop)):
            if region[point] == regions:
                region[point] = -1


@compiled("contract", "nsz")
def descend_once(u, half_spaces, tree, region, points, nodes, moving):
    """Advance points by one cut each, and return how many have not arrived.

    A point that has arrived makes room without a branch, which no processor could predict. There are two loops because
    with both cases in one, the compiler runs out of registers, which made it a sixth slower. In a large tree, a cut is
    prefetched while other points advance, and half-spaces, whose indices are stored in the cuts, once all cuts have
    arrived.
    """
    left, last = 0, half_spaces.shape[1] - 1
    if tree.shape[0] > FAR:
        for i in range(moving):
            prefetch(half_spaces, tree[nodes[i], 2])
        for i in range(moving):
            point, step = points[i], tree[nodes[i]]
            row, x = half_spaces[step[2]], u[point]
            z = row[last]
            for c in range(last):
                z += row[c] * x[c]
            below = step[np.uint64(z > 0.0)]
            prefetch(tree, below)
            region[point] = ~below
            points[left], nodes[left] = point, below
            left += below >= 0
    else:
        for i in range(moving):
            point, step = points[i], tree[nodes[i]]
            row, x = half_spaces[step[2]], u[point]
            z = row[last]
            for c in range(last):
                z += row[c] * x[c]
            below = step[np.uint64(z > 0.0)]
            region[point] = ~below
            points[left], nodes[left] = point, below
            left += below >= 0
    return left


@compiled()
def keep_inside_box(x, lower, upper, slack, rounding, region, start, stop):
    """Write -1 for points outside a box, as defined by `inside`."""
    for p in range(start, stop):
        for c in range(x.shape[1]):
            value = np.float64(x[p, c])
            width = upper[c] - lower[c]
            allowed = slack * (width if np.isfinite(width) else 0.0) + rounding * abs(value)
            if not (np.isfinite(value) and lower[c] - allowed <= value <= upper[c] + allowed):
                region[p] = -1
                break


@compiled()
def keep_inside_polytope(x, a, b, slack, region, start, stop):
    """Write -1 for points that violate `a x <= b` (perhaps without rows) or are not finite, as defined by `inside`."""
    for p in range(start, stop):
        outside = False
        for c in range(x.shape[1]):
            outside |= not np.isfinite(x[p, c])
        for row in range(a.shape[0]):
            value, size = 0.0, abs(b[row])
            for c in range(x.shape[1]):
                term = a[row, c] * x[p, c]
                value += term
                size += abs(term)
            outside |= not value <= b[row] + slack * size
        if outside:
            region[p] = -1


@compiled("contract", "nsz")
def select_rows(team, threads, size, start, stop, weights, biases, region, u, y):
    """Write the values of a range of points, as `select_range` does, by a team as `share` takes it."""
    share(team, threads, size, start, stop, select_range, (weights, biases, region, u, y))


@compiled("contract", "nsz")
def select_range(thread, start, stop, weights, biases, region, u, y):
    """Write the value of the affine map of each point's region; outside NaN, or 0 if there are no biases."""
    outputs, coordinates, constant = weights.shape[1], weights.shape[2], biases.shape[0] > 0
    for p in range(start, stop):
        k, ahead = region[p], region[min(p + AHEAD, stop - 1)]
        prefetch(weights, ahead)
        prefetch(biases, ahead)
        for o in range(outputs):
            if k < 0:
                y[p, o] = np.nan if constant else 0.0
            else:
                total = biases[k, o] if constant else 0.0
                for c in range(coordinates):
                    total += weights[k, o, c] * u[p, c]
                y[p, o] = total


@compiled("contract", "nsz")
def select_rows_transposed(team, threads, size, start, stop, weights, region, g, u):
    """Write the values of a range of points, as `select_range_transposed` does, by a team as `share` takes it."""
    share(team, threads, size, start, stop, select_range_transposed, (weights, region, g, u))


@compiled("contract", "nsz")
def select_range_transposed(thread, start, stop, weights, region, g, u):
    """Write the value at `g` of the transposed linear map of each point's region; 0 outside. `u` is float64."""
    outputs, coordinates = weights.shape[1], weights.shape[2]
    for p in range(start, stop):
        k = region[p]
        prefetch(weights, region[min(p + AHEAD, stop - 1)])
        for c in range(coordinates):
            u[p, c] = 0.0
        if k >= 0:
            for o in range(outputs):
                factor = np.float64(g[p, o])
                for c in range(coordinates):
                    u[p, c] += factor * weights[k, o, c]


@compiled("contract", "nsz")
def collect_rows(region, g, u, sums):
    """Add `g [u, 1]` of each point to its region's sum."""
    last = u.shape[1]
    for p in range(region.shape[0]):
        k = region[p]
        if k >= 0:
            for o in range(g.shape[1]):
                factor = np.float64(g[p, o])
                for c in range(last):
                    sums[k, o, c] += factor * u[p, c]
                sums[k, o, last] += factor
