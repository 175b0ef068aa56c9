"""A growing partition: pieces, each found below some cells, joined in any order."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Float, Int, Int32, UInt8

from torch_shallow.domain import Domain
from torch_shallow.search.balance import collapse_open
from torch_shallow.search.partition import Partition
from torch_shallow.search.problem import Problem

ROOT = -1  # code of the whole domain


@dataclass(frozen=True)
class Piece:
    """Results of one task: cuts and regions below some cells, and the cells still to be walked.

    A place in the whole tree has the code `2 * cut + side` (side 1: active), or -1 for the root. Within the piece, cuts
    are numbered from 0, parents before children, and `-1 - j` is the cell `starts[j]` itself.

    Attributes:
        starts: Codes, in the whole tree, of the cells that the task started from.
        cut_parents: Place of each cut, as a code within the piece.
        cut_neurons: Neuron of the program that makes each cut.
        region_parents: Place of each region, as a code within the piece.
        packed_patterns: Activation pattern of each region, packed as by `np.packbits`.
        points: Interior point of each region, in chart coordinates.
        open_parents: Place of each open cell, as a code within the piece.
        method: Number of regions found by each engine, by engine name.
    """

    starts: Int[np.ndarray, "starts"]
    cut_parents: Int[np.ndarray, "cuts"]
    cut_neurons: Int[np.ndarray, "cuts"]
    region_parents: Int[np.ndarray, "regions"]
    packed_patterns: UInt8[np.ndarray, "regions bytes"]
    points: Float[np.ndarray, "regions coordinates"]
    open_parents: Int[np.ndarray, "open"]
    method: dict[str, int] = field(default_factory=dict)

    def path(self, code: int) -> tuple[int, list[int]]:
        """Return the start above a place in the piece, and the cuts from it down, each as `2 * neuron + side`."""
        steps = []
        while code >= 0:
            steps.append(2 * int(self.cut_neurons[code // 2]) + code % 2)
            code = int(self.cut_parents[code // 2])
        return -1 - code, steps[::-1]


@dataclass
class Growth:
    """All pieces so far, as one tree whose leaves are regions and open cells.

    Attributes:
        pieces: The pieces, with codes of the whole tree throughout.
        open: Number of cuts above each open cell, by its code.
        num_cuts: Number of cuts in all pieces.
        num_regions: Number of regions in all pieces.
    """

    pieces: list[Piece] = field(default_factory=list)
    open: dict[int, int] = field(default_factory=lambda: {ROOT: 0})
    num_cuts: int = 0
    num_regions: int = 0
    _first_cuts: list[int] = field(default_factory=list)  # first cut of each piece

    @classmethod
    def of(cls, partition: Partition) -> Growth:
        """Turn a partition, which may have open cells, into a tree that can go on growing."""
        cut_parents, region_parents = partition.parents
        cuts, regions = (
            (cut_parents, partition.cut_neurons),
            (region_parents, partition.packed_patterns, partition.points),
        )
        growth = cls()
        growth.add(Piece(np.array([ROOT]), *cuts, *regions, partition.open_cells, partition.method))
        return growth

    @property
    def explored(self) -> float:
        """Share of the tree that is done, where each cut gives half of its cell's weight to either side."""
        return 1.0 - sum(0.5**depth for depth in self.open.values())

    def add(self, piece: Piece) -> dict[int, int]:
        """Insert a piece, and return what it adds to `open`."""

        def placed(codes: Int[np.ndarray, "some"]) -> Int[np.ndarray, "some"]:
            whole, at_start = codes.astype(np.int64), codes < 0
            whole += 2 * self.num_cuts
            whole[at_start] = piece.starts[-1 - codes[at_start]]
            return whole

        depths = [self.open[int(start)] for start in piece.starts]
        below = [piece.path(int(code)) for code in piece.open_parents]
        for start in piece.starts:
            del self.open[int(start)]
        left = {
            code: depths[start] + len(steps)
            for code, (start, steps) in zip(placed(piece.open_parents).tolist(), below, strict=True)
        }
        self.open |= left
        whole = replace(
            piece,
            cut_parents=placed(piece.cut_parents),
            region_parents=placed(piece.region_parents),
            open_parents=placed(piece.open_parents),
        )
        self.pieces.append(whole)
        self._first_cuts.append(self.num_cuts)
        self.num_cuts += len(whole.cut_neurons)
        self.num_regions += len(whole.points)
        return left

    def path(self, code: int) -> Int32[np.ndarray, "depth"]:
        """Return the cuts above a place, from the root down, each as `2 * neuron + side`."""
        steps = []
        while code >= 0:
            at = bisect_right(self._first_cuts, code // 2) - 1
            row = code // 2 - self._first_cuts[at]
            steps.append(2 * int(self.pieces[at].cut_neurons[row]) + code % 2)
            code = int(self.pieces[at].cut_parents[row])
        return np.array(steps[::-1], dtype=np.int32)

    def finish(self, problem: Problem, domain: Domain) -> Partition:
        """Return the grown partition, with the tree of the walk; the pieces are discarded to save memory."""
        method: dict[str, int] = {}
        for piece in self.pieces:
            for engine, regions in piece.method.items():
                method[engine] = method.get(engine, 0) + regions
        children = np.full((self.num_cuts, 2), ~self.num_regions, dtype=np.int64)  # open, unless set below
        first_cut = first_region = 0
        for piece in self.pieces:
            for parents, numbers in (
                (piece.cut_parents, np.arange(first_cut, first_cut + len(piece.cut_parents))),
                (piece.region_parents, ~np.arange(first_region, first_region + len(piece.region_parents))),
            ):
                below = parents >= 0
                children.reshape(-1)[parents[below]] = numbers[below]
            first_cut += len(piece.cut_parents)
            first_region += len(piece.region_parents)
        columns = [
            [getattr(piece, name) for piece in self.pieces] for name in ("cut_neurons", "packed_patterns", "points")
        ]
        self.pieces.clear()
        cut_neurons, patterns, points = (_join(blocks) for blocks in columns)
        cut_neurons = cut_neurons.astype(np.int64)
        if self.open:
            children, kept = collapse_open(children, len(points))
            cut_neurons = cut_neurons[kept]
        return Partition(
            problem.program,
            domain,
            problem.chart,
            cut_neurons,
            children,
            patterns,
            points,
            {engine: method[engine] for engine in sorted(method)},
            search=problem.search,
        )


def _join(blocks: list[np.ndarray]) -> np.ndarray:
    joined = np.concatenate(blocks)
    blocks.clear()
    return joined
