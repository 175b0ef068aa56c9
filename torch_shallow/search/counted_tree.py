"""A partition that is walked but not kept: its open cells, and the numbers of regions found."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

import numpy as np
from jaxtyping import Int, Int32

from torch_shallow.domain import Domain
from torch_shallow.search.growing_tree import ROOT, Growth, Piece
from torch_shallow.search.partition import Partition
from torch_shallow.search.problem import Problem


@dataclass(frozen=True)
class PieceCount:
    """Summary of a `Piece` when its regions are only counted.

    Attributes:
        starts: Codes, in the whole tree, of the cells that the task started from.
        regions: Number of regions found by each method, in alphabetical order of the methods' names.
        methods: Names of the methods.
        open_starts: For each open cell, the index in `starts` of the cell above it.
        open_depths: For each open cell, the number of cuts from its start down to it.
        open_steps: These cuts, cell after cell, each as `2 * neuron + side`.
    """

    starts: Int[np.ndarray, "starts"]
    regions: Int[np.ndarray, "methods"]
    methods: tuple[str, ...]
    open_starts: Int[np.ndarray, "open"]
    open_depths: Int[np.ndarray, "open"]
    open_steps: Int32[np.ndarray, "steps"]

    @classmethod
    def of(cls, piece: Piece) -> PieceCount:
        """Count a piece, keeping the paths to its open cells."""
        below = [piece.path(int(code)) for code in piece.open_parents]
        methods = tuple(sorted(piece.method))
        return cls(
            piece.starts,
            np.array([piece.method[name] for name in methods], dtype=np.int64),
            methods,
            np.array([start for start, _ in below], dtype=np.int64),
            np.array([len(steps) for _, steps in below], dtype=np.int64),
            np.array([step for _, steps in below for step in steps], dtype=np.int32),
        )

    def encode(self) -> dict[str, np.ndarray]:
        """Return named arrays for a checkpoint."""
        arrays = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "methods"}
        return arrays | {"methods": np.frombuffer("\n".join(self.methods).encode(), dtype=np.uint8)}

    @classmethod
    def decode(cls, arrays: dict[str, np.ndarray]) -> PieceCount:
        """Rebuild the counts from arrays of `encode`."""
        names = arrays["methods"].tobytes().decode()
        others = {name: array for name, array in arrays.items() if name != "methods"}
        return cls(methods=tuple(names.split("\n")) if names else (), **others)


@dataclass
class CountedTree:
    """Cells still to be walked, each with the cuts above it; like `Growth`, but without keeping regions.

    Attributes:
        open: Number of cuts above each open cell, by its code.
        num_regions: Number of regions found.
        method: Number of regions found by each engine, by engine name.
    """

    open: dict[int, int] = field(default_factory=lambda: {ROOT: 0})
    num_regions: int = 0
    method: dict[str, int] = field(default_factory=dict)
    _paths: dict[int, Int32[np.ndarray, "_"]] = field(default_factory=lambda: {ROOT: np.zeros(0, dtype=np.int32)})
    _next: int = 0

    @property
    def explored(self) -> float:
        """Share of the tree that is done, where each cut gives half of its cell's weight to either side."""
        return 1.0 - sum(0.5**depth for depth in self.open.values())

    def path(self, code: int) -> Int32[np.ndarray, "depth"]:
        """Return the cuts above an open cell, from the root down, each as `2 * neuron + side`."""
        return self._paths[code]

    def add(self, found: Piece | PieceCount) -> dict[int, int]:
        """Add the results of a task, and return what they add to `open`."""
        tally = PieceCount.of(found) if isinstance(found, Piece) else found
        above = [self._paths.pop(int(start)) for start in tally.starts]
        for start in tally.starts:
            del self.open[int(start)]
        steps = np.split(tally.open_steps, np.cumsum(tally.open_depths)[:-1])
        added = {}
        for start, below in zip(tally.open_starts, steps, strict=False):  # one empty part if nothing is open
            path = np.concatenate([above[start], below])
            self._paths[self._next], added[self._next] = path, len(path)
            self._next += 1
        self.open |= added
        for name, regions in zip(tally.methods, tally.regions.tolist(), strict=True):
            self.method[name] = self.method.get(name, 0) + regions
        self.num_regions += int(tally.regions.sum())
        return added


def part_of(piece: Piece, paths: tuple[Int32[np.ndarray, "_"], ...], problem: Problem, domain: Domain) -> Partition:
    """Return the part of a domain that a task has found, as a partition in which all other cells are open.

    Args:
        piece: The results of the task.
        paths: The cuts above each of the cells that it started from.
        problem: The enumeration problem.
        domain: The domain.
    """
    cuts: dict[tuple[int, int], int] = {}  # by the place of a cut and its neuron
    ends = []
    for path in paths:
        place = ROOT
        for step in path.tolist():
            place = 2 * cuts.setdefault((place, step // 2), len(cuts)) + step % 2
        ends.append(place)
    places = np.array(ends, dtype=np.int64)

    def placed(codes: Int[np.ndarray, "some"]) -> Int[np.ndarray, "some"]:
        below = codes.astype(np.int64)
        return np.where(below >= 0, below + 2 * len(cuts), places[np.clip(-1 - below, 0, len(places) - 1)])

    above = np.array([place for place, _ in cuts], dtype=np.int64)
    neurons = np.array([neuron for _, neuron in cuts], dtype=np.int64)
    beside = np.setdiff1d(np.arange(2 * len(cuts)), np.concatenate([above, places]))
    growth = Growth()
    growth.add(
        Piece(
            np.array([ROOT]),
            np.concatenate([above, placed(piece.cut_parents)]),
            np.concatenate([neurons, piece.cut_neurons]),
            placed(piece.region_parents),
            piece.packed_patterns,
            piece.points,
            np.concatenate([beside, placed(piece.open_parents)]),
            piece.method,
        )
    )
    return growth.finish(problem, domain)
