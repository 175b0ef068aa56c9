"""Subdivision of a rectangle into polygons: the memory and the steps of `mesh`."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from torch_shallow.plot import mesh as compiled
from torch_shallow.plot.mesh import EDGES, FINISHED, FULL, LOOPS, NEXT, ROOM, VERTICES, WAITING, WRITTEN, Mesh

START = 64  # number of edges for which memory is allocated at first


class Subdivision:
    """The square |x|, |y| <= 1 divided into polygons that share vertices and edges.

    Attributes:
        mesh: vertices and edges.
        loops: edges of the polygons, one loop after the other.
        starts: offset of each loop in `loops`, and the end of the last.
        labels: two numbers of each polygon.
    """

    def __init__(self) -> None:
        self.mesh = _memory(START)
        self.mesh.vertices[:4] = [[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]]
        self.mesh.ends[:4] = [[0, 1], [1, 2], [2, 3], [3, 0]]
        self.mesh.parts[:4] = -1
        self.mesh.counts[[VERTICES, EDGES]] = 4
        self.loops, self.starts = np.array([0, 2, 4, 6]), np.array([0, 4])
        self.labels = np.zeros((1, 2), dtype=np.int64)

    def descend(
        self,
        rows: Float[np.ndarray, "cuts 3"],
        tolerances: Float[np.ndarray, "cuts"],
        children: Int[np.ndarray, "cuts 2"],
        root: int,
        outside: int,
    ) -> None:
        """Cut the square by a tree, with `mesh.descend`. The first label of a polygon becomes its leaf's number."""
        self.mesh.waiting[0] = 0, root, 0, 0
        self.mesh.loops[:4] = self.loops
        self.mesh.counts[[WAITING, LOOPS]] = 1, 4
        while compiled.descend(self.mesh, rows, tolerances, children, outside) == FULL:
            self.mesh = _memory(2 * len(self.mesh.ends), self.mesh)
        self._take()

    def contest(
        self, maps: Float[np.ndarray, "polygons outputs 3"], rounding: Float[np.ndarray, "polygons outputs"], tol: float
    ) -> None:
        """Cut each polygon by its largest map, with `mesh.contest`. The second label becomes the output."""
        first = self.labels[:, 0]
        self.mesh.counts[[WRITTEN, FINISHED, NEXT]] = 0
        while compiled.contest(self.mesh, self.loops, self.starts, maps, rounding, tol) == FULL:
            self.mesh = _memory(2 * len(self.mesh.ends), self.mesh)
        self._take()
        self._join()
        self.labels = np.column_stack([first[self.labels[:, 0]], self.labels[:, 1]])

    def _take(self) -> None:
        """Take over the finished polygons, with cut edges replaced by their parts."""
        mesh, counts = self.mesh, self.mesh.counts
        starts = np.append(mesh.finished[: counts[FINISHED], 0], counts[WRITTEN])
        self.loops, self.starts = np.empty(2 * counts[EDGES], dtype=np.int64), np.empty_like(starts)
        compiled.expand_all(mesh, mesh.written, starts, self.loops, self.starts)
        self.loops = self.loops[: self.starts[-1]].copy()
        self.labels = mesh.finished[: counts[FINISHED], 1:].copy()

    def _join(self) -> None:
        """Join the pieces of a polygon in which the same output wins, which together are convex."""
        _, number, count = np.unique(self.labels, axis=0, return_inverse=True, return_counts=True)
        number = number.reshape(-1)
        if (count == 1).all():
            return
        pieces = np.split(self.loops, self.starts[1:-1])
        groups = np.split(np.argsort(number, kind="stable"), np.cumsum(count)[:-1])
        kept: list[tuple[np.ndarray, np.ndarray]] = []
        for group in groups:
            joined = self._outline(np.concatenate([pieces[p] for p in group])) if len(group) > 1 else None
            loops = [pieces[p] for p in group] if joined is None else [joined]
            kept.extend((self.labels[p], loop) for p, loop in zip(group, loops, strict=False))
        self.labels = np.array([label for label, _ in kept])
        self.loops = np.concatenate([loop for _, loop in kept])
        self.starts = np.cumsum([0, *(len(loop) for _, loop in kept)])

    def _outline(self, codes: Int[np.ndarray, "codes"]) -> Int[np.ndarray, "edges"] | None:
        """The loop around some polygons, without the edges between them; None if it is not a single loop."""
        edges, count = np.unique(codes >> 1, return_counts=True)
        outer = codes[np.isin(codes >> 1, edges[count == 1])]
        after = {int(self.mesh.ends[code >> 1, code & 1]): int(code) for code in outer}
        loop = [int(outer[0])]
        while len(loop) < len(outer):
            code = after.get(int(self.mesh.ends[loop[-1] >> 1, 1 - (loop[-1] & 1)]), loop[0])
            if code == loop[0]:
                return None
            loop.append(code)
        return np.array(loop)

    @property
    def num_vertices(self) -> int:
        """Number of vertices."""
        return int(self.mesh.counts[VERTICES])

    @property
    def corners(self) -> Int[np.ndarray, "corners"]:
        """The vertex at which each edge of `loops` starts."""
        return self.mesh.ends[self.loops >> 1, self.loops & 1]

    def edges(self) -> tuple[Int[np.ndarray, "edges 2"], Int[np.ndarray, "edges 2"]]:
        """Ends of the edges of all polygons, and the polygons on their left and right; -1 for none."""
        sides = np.full((self.mesh.counts[EDGES], 2), -1)
        sides[self.loops >> 1, self.loops & 1] = np.repeat(np.arange(len(self.labels)), np.diff(self.starts))
        used = np.flatnonzero((sides >= 0).any(axis=1))
        return self.mesh.ends[: len(sides)][used], sides[used]


def _memory(edges: int, old: Mesh | None = None) -> Mesh:
    """Allocate memory for a number of edges and what belongs to them, and copy the old contents."""
    sizes = {
        "vertices": (edges, 2),
        "ends": (edges, 2),
        "parts": (edges,),
        "waiting": (edges, 4),
        "loops": (4 * edges,),
    }
    sizes |= {"written": (4 * edges,), "finished": (edges, 3), "scratch": (2, edges + ROOM), "values": (edges + ROOM,)}
    floats = ("vertices", "values")
    new = {name: np.zeros(size, np.float64 if name in floats else np.int64) for name, size in sizes.items()}
    if old is not None:
        for name in set(sizes) - {"scratch", "values"}:
            new[name][: len(getattr(old, name))] = getattr(old, name)
    return Mesh(**new, counts=np.zeros(7, dtype=np.int64) if old is None else old.counts)
