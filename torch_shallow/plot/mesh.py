"""Compiled subdivision of polygons by lines, with shared vertices."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from torch_shallow.compiled.bundle import Bundle
from torch_shallow.compiled.decorator import compiled

DONE, FULL = 0, 1
BOTH = 2
VERTICES, EDGES, WAITING, LOOPS, WRITTEN, FINISHED, NEXT = range(7)
ROOM = 8  # upper bound on the vertices, edges or corners that a cut adds


class Mesh(Bundle):
    """A subdivision of a rectangle in progress.

    An edge that is cut keeps its number and refers to its two parts, so that the polygon on its other side gets the new
    vertex too when it is next processed. A loop is a list of edges, anticlockwise: edge e is coded as 2 e, or as
    2 e + 1 against its own direction.
    """

    vertices: np.ndarray  # float64 (vertices, 2)
    ends: np.ndarray  # int64 (edges, 2): first and last vertex
    parts: (
        np.ndarray
    )  # int64 (edges,): the first of the two consecutively numbered parts of an edge that was cut; or -1
    waiting: np.ndarray  # int64 (waiting, 4): polygons to be cut: start of the loop, and three numbers of the caller
    loops: np.ndarray  # int64: loops of the waiting polygons, one after the other
    written: np.ndarray  # int64: loops of the finished polygons
    finished: np.ndarray  # int64 (finished, 3): start of the loop, and two numbers of the caller
    scratch: np.ndarray  # int64 (2, edges)
    values: np.ndarray  # float64 (edges,)
    counts: np.ndarray  # int64 (7,): used length of each array; indices are VERTICES and the constants after it


@compiled()
def has_room(mesh: Mesh) -> bool:
    """Whether the next waiting polygon can be cut without more memory."""
    counts, edges = mesh.counts, mesh.counts[EDGES] + ROOM
    return (
        counts[VERTICES] + ROOM <= mesh.vertices.shape[0]
        and edges <= mesh.ends.shape[0]
        and counts[WAITING] + ROOM <= mesh.waiting.shape[0]
        and counts[LOOPS] + edges <= mesh.loops.shape[0]
        and counts[WRITTEN] + edges <= mesh.written.shape[0]
        and counts[FINISHED] + ROOM <= mesh.finished.shape[0]
    )


@compiled()
def expand(
    mesh: Mesh, source: Int[np.ndarray, "codes"], start: int, stop: int, out: Int[np.ndarray, "edges"], at: int
) -> int:
    """Write a loop with all cut edges replaced by their parts, starting at `at`; return where it ends."""
    stack = mesh.scratch[1]
    for i in range(start, stop):
        stack[0], depth = source[i], 1
        while depth > 0:
            depth -= 1
            code = stack[depth]
            part = mesh.parts[code >> 1]
            if part < 0:
                out[at] = code
                at += 1
            elif code & 1 == 0:
                stack[depth], stack[depth + 1] = 2 * (part + 1), 2 * part
                depth += 2
            else:
                stack[depth], stack[depth + 1] = 2 * part + 1, 2 * (part + 1) + 1
                depth += 2
    return at


@compiled()
def halve(mesh: Mesh, code: int, first: float, last: float) -> int:
    """Cut an edge at the zero of an affine function with given values at its ends, in the direction of `code`.

    Returns:
        The code of its first part in that direction; `code_after` gives that of the other.
    """
    edge = code >> 1
    start, stop = mesh.ends[edge, 0], mesh.ends[edge, 1]
    share = first / (first - last) if code & 1 == 0 else last / (last - first)
    vertex, part = mesh.counts[VERTICES], mesh.counts[EDGES]
    for k in range(2):
        mesh.vertices[vertex, k] = mesh.vertices[start, k] + share * (mesh.vertices[stop, k] - mesh.vertices[start, k])
    mesh.ends[part, 0], mesh.ends[part, 1] = start, vertex
    mesh.ends[part + 1, 0], mesh.ends[part + 1, 1] = vertex, stop
    mesh.parts[part], mesh.parts[part + 1], mesh.parts[edge] = -1, -1, part
    mesh.counts[VERTICES] += 1
    mesh.counts[EDGES] += 2
    return 2 * part if code & 1 == 0 else 2 * (part + 1) + 1


@compiled()
def code_after(code: int) -> int:
    """Code of the second part of an edge, given that of its first part in the same direction."""
    return code + 2 if code & 1 == 0 else code - 2


@compiled()
def origin(mesh: Mesh, code: int) -> int:
    """The vertex at which an edge starts, in the direction of its code."""
    return int(mesh.ends[code >> 1, code & 1])


@compiled()
def cut(mesh: Mesh, start: int, a: float, b: float, c: float, tolerance: float) -> int:
    """Cut the last waiting loop, which begins at `start`, by the line a x + b y + c = 0.

    A vertex at which the absolute value of the function is at most `tolerance` lies on the line. Each side is one arc
    of the loop, so it remains a polygon whatever rounding does to the vertices between.

    Returns:
        0 if the polygon is on the side where the function is negative or zero, 1 if it is on the positive side. Or
        BOTH: the loop is replaced by that of the negative side, and that of the positive side is in `scratch[0]`,
        after its length.
    """
    loop, values, scratch = mesh.loops, mesh.values, mesh.scratch[0]
    n = expand(mesh, loop, start, mesh.counts[LOOPS], scratch, 0)
    low, high = 0, 0
    for i in range(n):
        loop[start + i] = scratch[i]
        v = origin(mesh, scratch[i])
        values[i] = a * mesh.vertices[v, 0] + b * mesh.vertices[v, 1] + c
        if values[i] < values[low]:
            low = i
        if values[i] > values[high]:
            high = i
    mesh.counts[LOOPS] = start + n
    if not values[high] > tolerance:
        return 0
    if not values[low] < -tolerance:
        return 1
    size = 1  # size of the positive side; scratch[0] becomes its length
    last = high  # the vertex before which the positive side ends
    while values[(last + 1) % n] > tolerance:
        last = (last + 1) % n
    first = high
    while values[(first - 1) % n] > tolerance:
        first = (first - 1) % n
    # The loop is stored in `loop`, so scratch may be overwritten.
    before = (first - 1) % n
    begins, ends = loop[start + before], loop[start + last]  # the edges that lead to the line
    after = (last + 1) % n
    head, tail = -1, -1  # negative parts of these two edges
    if values[before] < -tolerance:
        head = halve(mesh, begins, values[before], values[first])
        begins = code_after(head)
    scratch[size] = begins
    size += 1
    i = first
    while i != last:
        scratch[size] = loop[start + i]
        size += 1
        i = (i + 1) % n
    if values[after] < -tolerance:
        ends = halve(mesh, ends, values[last], values[after])
        tail = code_after(ends)
    scratch[size] = ends
    size += 1
    line = mesh.counts[EDGES]
    mesh.ends[line, 0] = mesh.ends[ends >> 1, 1 - (ends & 1)]
    mesh.ends[line, 1] = origin(mesh, begins)
    mesh.parts[line] = -1
    mesh.counts[EDGES] += 1
    scratch[size] = 2 * line
    scratch[0] = size
    # The negative side, from the end of the line on, is written to scratch and moved, because the two may overlap.
    out = mesh.scratch[1]
    count = 0
    if tail >= 0:
        out[count] = tail
        count += 1
    i = after
    while i != before:
        out[count] = loop[start + i]
        count += 1
        i = (i + 1) % n
    if head >= 0:
        out[count] = head
        count += 1
    out[count] = 2 * line + 1
    count += 1
    for i in range(count):
        loop[start + i] = out[i]
    mesh.counts[LOOPS] = start + count
    return BOTH


@compiled()
def push_positive(mesh: Mesh, first: int, second: int, third: int) -> None:
    """Push the positive side that `cut` left in `scratch` onto the waiting polygons."""
    counts = mesh.counts
    at, start = counts[WAITING], counts[LOOPS]
    mesh.waiting[at, 0], mesh.waiting[at, 1], mesh.waiting[at, 2], mesh.waiting[at, 3] = start, first, second, third
    for i in range(mesh.scratch[0, 0]):
        mesh.loops[start + i] = mesh.scratch[0, 1 + i]
    counts[LOOPS] += mesh.scratch[0, 0]
    counts[WAITING] += 1


@compiled()
def finish(mesh: Mesh, first: int, second: int) -> None:
    """Pop the last waiting polygon and store it as finished."""
    counts = mesh.counts
    at, start, behind = counts[WAITING] - 1, mesh.waiting[counts[WAITING] - 1, 0], counts[WRITTEN]
    for i in range(start, counts[LOOPS]):
        mesh.written[behind + i - start] = mesh.loops[i]
    row = counts[FINISHED]
    mesh.finished[row, 0], mesh.finished[row, 1], mesh.finished[row, 2] = behind, first, second
    counts[WRITTEN] += counts[LOOPS] - start
    counts[FINISHED] += 1
    counts[WAITING] = at
    counts[LOOPS] = start


@compiled()
def descend(
    mesh: Mesh,
    rows: Float[np.ndarray, "cuts 3"],
    tolerances: Float[np.ndarray, "cuts"],
    children: Int[np.ndarray, "cuts 2"],
    outside: int,
) -> int:
    """Send the waiting polygons down a tree of cuts, each from the cut given by the first of its numbers.

    A leaf c < 0 finishes a polygon with the number ~c; the leaf `outside` discards it.

    Returns:
        DONE, or FULL if more room has to be made before the next call.
    """
    counts = mesh.counts
    while counts[WAITING] > 0:
        if not has_room(mesh):
            return FULL
        top = counts[WAITING] - 1
        start, node = mesh.waiting[top, 0], mesh.waiting[top, 1]
        if node == outside:
            counts[WAITING], counts[LOOPS] = top, start
            continue
        if node < 0:
            finish(mesh, ~node, 0)
            continue
        side = cut(mesh, start, rows[node, 0], rows[node, 1], rows[node, 2], tolerances[node])
        if side == BOTH:
            mesh.waiting[top, 1] = children[node, 0]
            push_positive(mesh, children[node, 1], 0, 0)
        else:
            mesh.waiting[top, 1] = children[node, side]
    return DONE


@compiled()
def contest(
    mesh: Mesh,
    loops: Int[np.ndarray, "codes"],
    starts: Int[np.ndarray, "polygons_and_end"],
    maps: Float[np.ndarray, "polygons outputs 3"],
    rounding: Float[np.ndarray, "polygons outputs"],
    tolerance: float,
) -> int:
    """Cut each of some polygons by which of its affine maps is the largest, the first one at ties.

    Finished polygons have the number of the polygon and of the output. One output may win in several pieces. Where the
    maps are NaN, nothing is cut.

    Returns:
        DONE, or FULL if more room has to be made before the next call.
    """
    counts, outputs = mesh.counts, maps.shape[1]
    while True:
        if not has_room(mesh):
            return FULL
        if counts[WAITING] == 0:
            p = counts[NEXT]
            if p == maps.shape[0]:
                return DONE
            mesh.waiting[0, 0], mesh.waiting[0, 1], mesh.waiting[0, 2], mesh.waiting[0, 3] = 0, p, 0, 1
            for i in range(starts[p], starts[p + 1]):
                mesh.loops[i - starts[p]] = loops[i]
            counts[LOOPS], counts[WAITING], counts[NEXT] = starts[p + 1] - starts[p], 1, p + 1
            continue
        top = counts[WAITING] - 1
        start, p, best, other = mesh.waiting[top, 0], mesh.waiting[top, 1], mesh.waiting[top, 2], mesh.waiting[top, 3]
        if other == outputs or np.isnan(maps[p, 0, 2]):
            finish(mesh, p, best)
            continue
        a, b, c = (
            maps[p, other, 0] - maps[p, best, 0],
            maps[p, other, 1] - maps[p, best, 1],
            maps[p, other, 2] - maps[p, best, 2],
        )
        zero = tolerance * (abs(a) + abs(b)) + rounding[p, other] + rounding[p, best]
        side = cut(mesh, start, a, b, c, zero)
        mesh.waiting[top, 3] = other + 1
        if side == BOTH:
            push_positive(mesh, p, other, other + 1)
        elif side == 1:
            mesh.waiting[top, 2] = other


@compiled()
def expand_all(
    mesh: Mesh,
    loops: Int[np.ndarray, "codes"],
    starts: Int[np.ndarray, "polygons_and_end"],
    out: Int[np.ndarray, "room"],
    out_starts: Int[np.ndarray, "polygons_and_end"],
) -> None:
    """Write the loops of some polygons with all cut edges replaced by their parts."""
    at = 0
    for p in range(starts.shape[0] - 1):
        out_starts[p] = at
        at = expand(mesh, loops, starts[p], starts[p + 1], out, at)
    out_starts[starts.shape[0] - 1] = at
