"""Compiled loops over points, each over some of the rows, so that threads can share them."""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from torch_shallow.compiled.decorator import compiled
from torch_shallow.compiled.view import take_apart


@intrinsic
def prefetch(typing_context, view, row):
    """Ask for the start of a row of an array, which may lie outside of it."""

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


TOGETHER = 64  # points that go down the tree together: while one waits for memory, the others go on
FAR = 1 << 15  # a tree of more cuts than this is not in the core's own memory, so it is asked for in advance
AHEAD = 8  # points whose local models are asked for before they are needed


@compiled("contract", "nsz")
def descend_rows(u, half_spaces, tree, regions, region, start, stop, points, nodes):
    """Write the region of some points: to the active child where a cut is positive, else to the inactive one.

    In an open cell, which is `regions` in the tree, the region is -1.

    A row of `half_spaces` is a normal and an offset. `points` and `nodes` have room for the `TOGETHER` points that are
    on their way, and where they are.
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
    """Take points over one cut each, and return how many have not arrived.

    One that has makes room without a branch, which no processor could predict. There are two loops, since with both
    cases in one the compiler runs out of registers, which made it a sixth slower. Of a tree that is far away, a cut is
    asked for while other points take theirs, and half-spaces, whose numbers the cuts tell, when all these have come.
    """
    left, last = 0, u.shape[1]
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
    """Write -1 for points outside a box: `inside` says what is outside."""
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
    """Write -1 for points that violate `a x <= b` (there may be no rows), or are not finite: see `inside`."""
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
def select_rows(weights, biases, region, u, y, start, stop):
    """Write the affine map of each point's region at the point; outside NaN, or 0 if there are no biases."""
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


@compiled()
def evaluate_in_box(
    u,
    x,
    half_spaces,
    tree,
    weights,
    biases,
    region,
    y,
    lower,
    upper,
    slack,
    rounding,
    regions,
    start,
    stop,
    points,
    nodes,
):
    """Write the region of some points, and the affine map of that region at the point."""
    descend_rows(u, half_spaces, tree, regions, region, start, stop, points, nodes)
    keep_inside_box(x, lower, upper, slack, rounding, region, start, stop)
    select_rows(weights, biases, region, u, y, start, stop)


@compiled()
def evaluate_in_polytope(
    u, x, half_spaces, tree, weights, biases, region, y, a, b, slack, rounding, regions, start, stop, points, nodes
):
    """The same, where the domain is `a x <= b`."""
    descend_rows(u, half_spaces, tree, regions, region, start, stop, points, nodes)
    keep_inside_polytope(x, a, b, slack, region, start, stop)
    select_rows(weights, biases, region, u, y, start, stop)


@compiled("contract", "nsz")
def select_rows_transposed(weights, region, g, u, start, stop):
    """Write the transposed linear map of each point's region at `g`; 0 outside. `u` has float64 entries."""
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
