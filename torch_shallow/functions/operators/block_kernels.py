"""Define the compiled loops by which points descend a tree by eight half-spaces at once.

A part of the tree around one of its cuts, with few half-spaces, is a group. Its half-spaces are the rows of one block
of eight, or in large trees of two, as `compiled.vectors` has them. Their signs at a point are the bits of an index into
the group's table, which has the leaf or the group below. So a point that passes fourteen cuts of a balanced tree reads
two or three groups, and nothing on its way depends on a branch that no processor could predict.
"""

from __future__ import annotations

import numpy as np

from torch_shallow.compiled.decorator import compiled
from torch_shallow.compiled.team import share
from torch_shallow.compiled.vectors import LANES, positive_sums, write_sums
from torch_shallow.functions.operators.kernels import (
    FAR,
    descend_rows,
    keep_inside_box,
    keep_inside_polytope,
    prefetch,
)

SHARE = 8  # a half-space of the first block divides at least an eighth of the leaves below the group's root,
SECOND_SHARE = 4  # one of the second block half of them, since all points of the group pay for that block
ENTRIES = 32  # most entries of a table for each cut of its group


@compiled()
def form_groups(tree, leaves, roots, group_of, groups, slots, lane, gain, head, following, names):
    """Divide a tree into groups, from the root down, and return the numbers of groups, blocks and table entries.

    A group takes the half-space that divides most leaves below its root, again and again. The cuts below it that use
    others are the roots of further groups. Second blocks make groups fewer and larger, which pays where they are read
    from memory; elsewhere it does not, since a processor cannot predict who has one.

    Args:
        tree: children and half-space of each cut, as in `locate`; there is at least one cut.
        leaves: is filled with the number of leaves below each cut.
        roots: is filled with the first cut of each group.
        group_of: is filled with the group of each cut in `roots`.
        groups: is filled with the first block of each group, its first table entry, and its number of half-spaces.
        slots: is filled with the half-space of each row of each block; unchanged where there is none.
        lane: -1 for each half-space, here and afterwards.
        gain: 0 for each half-space, here and afterwards.
        head: room for the first cut of each half-space.
        following: room for the cut after each cut.
        names: room for half-spaces.
    """
    for cut in range(tree.shape[0] - 1, -1, -1):
        leaves[cut] = 0
        for side in range(2):
            child = tree[cut, side]
            leaves[cut] += leaves[child] if child >= 0 else 1
    most = 2 * LANES if tree.shape[0] > FAR else LANES
    roots[0], group_of[0] = 0, 0
    found, done, blocks, entries = 1, 0, 0, 0
    while done < found:
        root, first, size, inside = roots[done], LANES * blocks, 0, 0
        waiting = add_cut(tree, leaves, root, gain, head, following, names, 0)
        while size < most and waiting > 0 and 2 << size <= ENTRIES * (inside + 1):
            best = 0
            for i in range(1, waiting):
                if gain[names[i]] > gain[names[best]]:
                    best = i
            half_space = names[best]
            if (SHARE if size < LANES else SECOND_SHARE) * gain[half_space] < leaves[root]:
                break
            waiting -= 1
            names[best] = names[waiting]
            gain[half_space], lane[half_space], slots[first + size] = 0, size, half_space
            size += 1
            cut = head[half_space]
            while cut >= 0:
                inside, rest = inside + 1, following[cut]
                for side in range(2):
                    child = tree[cut, side]
                    if child >= 0 and lane[tree[child, 2]] >= 0:
                        following[child] = rest
                        rest = child
                    elif child >= 0:
                        waiting = add_cut(tree, leaves, child, gain, head, following, names, waiting)
                cut = rest
        for i in range(waiting):
            cut = head[names[i]]
            gain[names[i]] = 0
            while cut >= 0:
                roots[found], group_of[cut] = cut, found
                found += 1
                cut = following[cut]
        for i in range(size):
            lane[slots[first + i]] = -1
        groups[done, 0], groups[done, 1], groups[done, 2] = blocks, entries, size
        blocks += (size + LANES - 1) // LANES
        entries += 1 << size
        done += 1
    return found, blocks, entries


@compiled()
def add_cut(tree, leaves, cut, gain, head, following, names, waiting):
    """Add a cut to those that wait for their half-space, and return the number of half-spaces waited for."""
    half_space = tree[cut, 2]
    if gain[half_space] == 0:
        names[waiting], head[half_space] = half_space, -1
        waiting += 1
    gain[half_space] += leaves[cut]
    following[cut], head[half_space] = head[half_space], cut
    return waiting


@compiled()
def fill_tables(tree, roots, group_of, groups, slots, lane, table):
    """Write what each combination of signs leads to: group `c >= 0`, or leaf `c < 0` as in `locate`."""
    for number in range(groups.shape[0]):
        first, entry, size = LANES * groups[number, 0], groups[number, 1], groups[number, 2]
        for i in range(size):
            lane[slots[first + i]] = i
        for signs in range(1 << size):
            node = roots[number]
            while node >= 0 and lane[tree[node, 2]] >= 0:
                node = tree[node, (signs >> lane[tree[node, 2]]) & 1]
            table[entry + signs] = group_of[node] if node >= 0 else node
        for i in range(size):
            lane[slots[first + i]] = -1


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
