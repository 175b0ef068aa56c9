"""From the domain's cone down the tree of cuts to the cone of every region, compiled."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from torch_shallow.compiled.bundle import Bundle
from torch_shallow.compiled.functions import compiled
from torch_shallow.partition.double_description.cone import NEED_PAIRS, OK, Cones, Scratch, evaluate, split

NODE, START, LINES, RAYS, TOP = range(5)  # columns of a frame
DONE, FLUSH = -1, -2  # beside the statuses of a cut; a new frame always has room: there are as many as cuts on a path


class Stack(Bundle):
    """Cells that wait, the next one last."""

    frames: np.ndarray  # int64 (capacity, 5): node, start, lines and rays in the arena, first free row of the pool
    used: np.ndarray  # uint64 (capacity, words): half-spaces of each


class Harvest(Bundle):
    """Cells of regions, and what has none."""

    regions: np.ndarray  # int64 (capacity,)
    ends: np.ndarray  # int64 (capacity + 1,): generators of cell k are ends[k] to ends[k + 1], lines first
    num_lines: np.ndarray  # int64 (capacity,)
    generators: np.ndarray  # float64 (room, dimension): unit vectors
    sets: np.ndarray  # uint64 (room, words): half-spaces each lies on
    thin: np.ndarray  # int64 (nodes,): nodes whose cells have no interior
    large: np.ndarray  # int64 (nodes,): nodes whose cells have too many rays


@compiled()
def walk(
    cones: Cones,
    scratch: Scratch,
    stack: Stack,
    harvest: Harvest,
    counts: Int[np.ndarray, "4"],
    children: Int[np.ndarray, "cuts 2"],
    cuts: Float[np.ndarray, "cuts homogeneous"],
    tolerance: float,
    max_rays: int,
) -> int:
    """Go on with the cells on the stack.

    `counts` are cells on the stack, regions in the harvest, thin nodes, large nodes. A cell that a cut does not divide
    goes on to the cut's side on which it lies; the other side is thin.

    Returns:
        DONE; FLUSH: take the regions out of the harvest and call again; or a status of `split`: make room and call
        again.
    """
    frames, values = stack.frames, scratch.values
    while counts[0] > 0:
        frame = frames[counts[0] - 1]
        node, start, lines, rays = frame[NODE], frame[START], frame[LINES], frame[RAYS]
        if lines + rays > max_rays:
            harvest.large[counts[3]] = node
            counts[3] += 1
            counts[0] -= 1
            continue
        if node < 0:
            at = harvest.ends[counts[1]]
            if counts[1] == harvest.regions.shape[0] or at + lines + rays > harvest.generators.shape[0]:
                return FLUSH
            for r in range(lines + rays):
                for k in range(cuts.shape[1]):
                    harvest.generators[at + r, k] = cones.pool[cones.ids[start + r], k]
                for w in range(cones.sets.shape[1]):
                    harvest.sets[at + r, w] = cones.sets[start + r, w]
            harvest.regions[counts[1]], harvest.num_lines[counts[1]] = ~node, lines
            counts[1] += 1
            harvest.ends[counts[1]] = at + lines + rays
            counts[0] -= 1
            continue
        if lines + rays > values.shape[0]:
            return NEED_PAIRS
        low, high = evaluate(cones.pool, cones.ids, start, lines + rays, cuts[node], values)
        for r in range(lines):
            low, high = min(low, -abs(values[r])), max(high, abs(values[r]))
        if high <= tolerance or low >= -tolerance:
            side = 0 if high <= tolerance else 1
            harvest.thin[counts[2]] = children[node, 1 - side]
            counts[2] += 1
            frame[NODE] = children[node, side]
            continue
        used = stack.used[counts[0] - 1]
        code, top = split(cones, scratch, frame[START:TOP], used, tolerance, frame[TOP])
        if code != OK:
            return code
        for side in (1, 0):
            at = counts[0] - side
            frames[at, NODE], frames[at, TOP] = children[node, side], top
            for k in range(3):
                frames[at, START + k] = scratch.children[side, k]
            for w in range(used.shape[0]):
                stack.used[at, w] = scratch.child_used[side, w]
        counts[0] += 1
    return DONE


@compiled()
def below(
    nodes: Int[np.ndarray, "nodes"],
    children: Int[np.ndarray, "cuts 2"],
    stack: Int[np.ndarray, "room"],
    regions: Int[np.ndarray, "regions"],
) -> int:
    """Write the regions below some nodes; returns how many there are."""
    count = 0
    for root in range(nodes.shape[0]):
        stack[0], top = nodes[root], 1
        while top > 0:
            top -= 1
            at = stack[top]
            if at < 0:
                regions[count] = ~at
                count += 1
                continue
            stack[top], stack[top + 1] = children[at, 1], children[at, 0]
            top += 2
    return count
