"""Define the compiled loops by which points descend a tree by eight half-spaces at once.

They go from group to group, as `grouping` defines them. A point that passes fourteen cuts of a balanced tree reads two
or three groups, and nothing on its way depends on a branch that no processor could predict.
"""

from __future__ import annotations

import numpy as np

from torch_shallow.compiled.decorator import compiled
from torch_shallow.compiled.team import share
from torch_shallow.compiled.vectors import LANES, positive_sums, write_sums
from torch_shallow.functions.operators.kernels import (
    descend_rows,
    keep_inside_box,
    keep_inside_polytope,
    prefetch,
)


@compiled("contract", "nsz")
def descend_groups(u, blocks, groups, table, region, start, stop, points, nodes):
    """Write the region of each of a range of points, as `descend_rows` does, but from group to group.

    There is room for all points of the range in `points` and `nodes`. In an open cell, the region is their number.
    """
    moving = stop - start
    for i in range(moving):
        points[i], nodes[i] = start + i, 0
    while moving > 0:
        moving = pass_groups(u, blocks, groups, table, region, points, nodes, moving)


@compiled("contract", "nsz")
def pass_groups(u, blocks, groups, table, region, points, nodes, moving):
    """Advance points by one group each, and return how many have not arrived, as `descend_once` does.

    Four points at once take less time than one after another. If no group has a second block, the number of a group is
    that of its block.
    """
    left, fours, double = 0, moving - moving % 4, blocks.shape[0] > groups.shape[0]
    for i in range(0, fours, 4):
        a, b, c, d = points[i], points[i + 1], points[i + 2], points[i + 3]
        at_a, at_b, at_c, at_d = nodes[i], nodes[i + 1], nodes[i + 2], nodes[i + 3]
        first = at_a, at_b, at_c, at_d
        if double:
            first = groups[at_a, 0], groups[at_b, 0], groups[at_c, 0], groups[at_d, 0]
        of_a, of_b, of_c, of_d = positive_sums(blocks, first, u, (a, b, c, d))
        left = pass_group(u, blocks, groups, table, region, points, nodes, a, at_a, of_a, double, left)
        left = pass_group(u, blocks, groups, table, region, points, nodes, b, at_b, of_b, double, left)
        left = pass_group(u, blocks, groups, table, region, points, nodes, c, at_c, of_c, double, left)
        left = pass_group(u, blocks, groups, table, region, points, nodes, d, at_d, of_d, double, left)
    for i in range(fours, moving):
        point, node = points[i], nodes[i]
        signs = positive_sums(blocks, groups[node, 0], u, point)
        left = pass_group(u, blocks, groups, table, region, points, nodes, point, node, signs, double, left)
    return left


@compiled("contract", "nsz")
def pass_group(u, blocks, groups, table, region, points, nodes, point, node, signs, double, left):
    """Advance a point, given its signs in the group's first block, and return how many have not arrived so far."""
    if double and groups[node, 2] > LANES:
        signs |= positive_sums(blocks, groups[node, 0] + 1, u, point) << LANES
    below = np.int64(table[groups[node, 1] + signs])
    region[point] = ~below
    points[left], nodes[left] = point, below
    return left + (below >= 0)


@compiled()
def project_rows(team, threads, size, start, stop, x, projection, u):
    """Write the coordinates of points, by blocks of the projection."""
    share(team, threads, size, start, stop, project_range, (x, projection, u, 0))


@compiled()
def project_range(thread, start, stop, x, projection, u, shift):
    """Write the coordinates of a range of points; `u` has the first `shift` points left out."""
    for p in range(start, stop):
        for block in range(projection.shape[0]):
            write_sums(projection, block, x, p, u, p - shift)


@compiled("contract", "nsz")
def write_values(u, row, weights, biases, region, y, first, last):
    """Write the value of each point's affine map, NaN where there is no region, and tell whether others are finite."""
    unusual = False
    for p in range(first, last):
        k = region[p]
        for o in range(weights.shape[1]):
            total = np.nan
            if k >= 0:
                total = biases[k, o]
                for c in range(weights.shape[2]):
                    total += weights[k, o, c] * u[row + p - first, c]
                unusual |= not abs(total) < np.inf
            y[p, o] = total
    return not unusual


@compiled("contract", "nsz")
def evaluate_together(
    u,
    row,
    x,
    half_spaces,
    tree,
    blocks,
    groups,
    table,
    weights,
    biases,
    first_limit,
    second_limit,
    in_box,
    slack,
    rounding,
    regions,
    region,
    y,
    first,
    last,
    points,
    nodes,
):
    """Evaluate the points from `first` to before `last`, whose coordinates are the rows of `u` from `row` on.

    The other arguments are those of `evaluate_rows`.
    """
    known, end = region[first - row :], row + last - first
    if groups.shape[0] > 0:
        descend_groups(u, blocks, groups, table, known, row, end, points, nodes)
    else:
        descend_rows(u, half_spaces, tree, regions, known, row, end, points, nodes)
    for i in range(row, end):
        known[i] = known[i] if known[i] < regions else -1
        prefetch(weights, known[i])
        prefetch(biases, known[i])
    if in_box:
        keep_inside_box(x, first_limit[0], second_limit, slack, rounding, region, first, last)
    elif first_limit.shape[0] > 0 or weights.shape[1] * weights.shape[2] == 0:
        keep_inside_polytope(x, first_limit, second_limit, slack, region, first, last)
    finite = write_values(u, row, weights, biases, region, y, first, last)
    if not (finite or in_box):  # a coordinate that is not finite makes each value infinite or NaN
        keep_inside_polytope(x, first_limit, second_limit, slack, region, first, last)
        write_values(u, row, weights, biases, region, y, first, last)


@compiled("contract", "nsz")
def evaluate_rows(
    team,
    threads,
    size,
    start,
    stop,
    x,
    projection,
    half_spaces,
    tree,
    blocks,
    groups,
    table,
    weights,
    biases,
    first_limit,
    second_limit,
    in_box,
    slack,
    rounding,
    regions,
    region,
    y,
    u,
    places,
):
    """Write the region of each of a range of points, and the value of its affine map; NaN where there is none.

    Args:
        team: with the four that follow, as `share` takes them.
        threads: most threads.
        size: number of points to be taken at once.
        start: first point.
        stop: end of the range.
        x: the points.
        projection: blocks of the matrix of the coordinates; none if the points themselves are read, or nothing of them.
        half_spaces: rows of half-spaces, as in `locate`.
        tree: the cuts, as in `locate`.
        blocks: blocks of half-spaces.
        groups: groups of cuts, as `form_groups` makes them; none if points shall pass cut by cut.
        table: the tables of the groups.
        weights: weights of the affine maps.
        biases: biases of the affine maps.
        first_limit: lower bounds of a box, as one row; or coefficients of inequalities, perhaps none.
        second_limit: upper bounds, or right-hand sides.
        in_box: whether the limits are those of a box.
        slack: how far a point may lie outside, as in `inside`.
        rounding: the unit of rounding of the points, as in `inside`.
        regions: number of regions.
        region: is filled with regions.
        y: is filled with values.
        u: room for the coordinates of the points that run together, for each thread; its width is a multiple of eight.
            Only its height matters if there is no projection.
        places: room for the points in progress and for their places in the tree, for each thread.
    """
    arguments = (
        x,
        projection,
        half_spaces,
        tree,
        blocks,
        groups,
        table,
        weights,
        biases,
        first_limit,
        second_limit,
        in_box,
        slack,
        rounding,
        regions,
        region,
        y,
        u,
        places,
    )
    share(team, threads, size, start, stop, evaluate_range, arguments)


@compiled("contract", "nsz")
def evaluate_range(
    thread,
    start,
    stop,
    x,
    projection,
    half_spaces,
    tree,
    blocks,
    groups,
    table,
    weights,
    biases,
    first_limit,
    second_limit,
    in_box,
    slack,
    rounding,
    regions,
    region,
    y,
    rooms,
    places,
):
    """Evaluate a range of points in the room of a thread. The other arguments are those of `evaluate_rows`."""
    u, points, nodes = rooms[thread], places[thread, 0], places[thread, 1]
    for first in range(start, stop, u.shape[0]):
        last = min(first + u.shape[0], stop)
        if projection.shape[0] > 0:
            project_range(thread, first, last, x, projection, u, first)
            evaluate_together(
                u,
                0,
                x,
                half_spaces,
                tree,
                blocks,
                groups,
                table,
                weights,
                biases,
                first_limit,
                second_limit,
                in_box,
                slack,
                rounding,
                regions,
                region,
                y,
                first,
                last,
                points,
                nodes,
            )
        else:
            evaluate_together(
                x,
                first,
                x,
                half_spaces,
                tree,
                blocks,
                groups,
                table,
                weights,
                biases,
                first_limit,
                second_limit,
                in_box,
                slack,
                rounding,
                regions,
                region,
                y,
                first,
                last,
                points,
                nodes,
            )
