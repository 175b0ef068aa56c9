"""Divide a tree into groups of cuts with few half-spaces, by whose signs `block_kernels` descends.

A part of the tree around one of its cuts, with few half-spaces, is a group. Its half-spaces are the rows of one block
of eight, or in large trees of two, as `compiled.vectors` has them. Their signs at a point are the bits of an index into
the group's table, which has the leaf or the group below.
"""

from __future__ import annotations

from torch_shallow.compiled.decorator import compiled
from torch_shallow.compiled.vectors import LANES
from torch_shallow.functions.operators.kernels import FAR

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
