"""Enumeration by linear programs in compiled code."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int

from torch_shallow.geometry.dual_simplex import Simplex
from torch_shallow.geometry.rays.storage import grown
from torch_shallow.search.engines.compiled_walk import CompiledWalk
from torch_shallow.search.engines.simplex_walk import (
    CURSOR,
    DEPTH,
    FIRST,
    NEED_POINTS,
    NEED_ROWS,
    NEURON,
    NUM_COLUMNS,
    PARENT,
    POINTS,
    ROWS,
    SPENT,
    STAGE,
    UNSETTLED,
    Cells,
    walk_by_simplex,
)
from torch_shallow.search.packed_program import Network, compose
from torch_shallow.search.problem import Cell, Problem, whole_domain
from torch_shallow.search.task_output import NEED_FRAMES, UNDECIDED, Found, Harvest


class SimplexWalk(CompiledWalk):
    """Walks the domain, or what is below a cell or a path, and gives its cuts and regions to a harvest.

    Complete, and sound up to the tolerance: a neuron cuts a cell if its pre-activation, measured against the size of
    its row, is beyond the tolerance on both sides at points of the cell in the unit box.

    Args:
        problem: what is enumerated.
        harvest: where to append.
        hand_over: called with each cell of which a linear program could not be settled; it has to append what is below
            the cell to the harvest.
    """

    engine = "simplex"
    hands_over = UNSETTLED
    parent_and_spent = (PARENT, SPENT)

    def __init__(self, problem: Problem, harvest: Harvest, hand_over: Callable[[Cell], None]) -> None:
        super().__init__(problem, harvest, hand_over)
        chart, self.network = problem.chart, problem.network
        self.chart, self.dimension = chart, chart.num_coordinates + 1
        self.domain_rows = np.zeros((0, self.dimension)) if chart.is_box else chart.inequalities
        self.simplex = _room(self.domain_rows, chart.is_box)
        self.cells = _stack(self.network, self.dimension)

    def run(self, start: Cell | None = None) -> None:
        """Walk everything below a cell, or the whole domain, as far as it is below the path of the harvest."""
        self._push(whole_domain(self.chart, int(self.network.offsets[-1])) if start is None else start)
        self._walk_all()

    @property
    def frames(self) -> Int[np.ndarray, "cells columns"]:
        """The stack."""
        return self.cells.frames

    def _walk(self, found: Found, counts: Int[np.ndarray, "counts"]) -> int:
        tolerance, max_points = self.problem.search.tolerance, min(32 + 2 * self.dimension, 128)
        path = self.harvest.given
        return int(walk_by_simplex(self.network, self.simplex, self.cells, found, counts, tolerance, max_points, path))

    def _grow(self, status: int) -> None:
        cells = self.cells
        if status == NEED_FRAMES:
            self.cells = cells.replaced(frames=grown(cells.frames), status=grown(cells.status))
        elif status == NEED_ROWS:
            self._grow_rows()
        elif status == NEED_POINTS:
            self.cells = cells.replaced(points=grown(cells.points))

    def _push(self, start: Cell) -> None:
        """Put the first cell on the empty stack, composing all stages that its status has settled."""
        depth = len(self.domain_rows) + len(start.rows)
        while depth > len(self.simplex.rows):
            self._grow_rows()
        norms = np.linalg.norm(start.rows, axis=1, keepdims=True)
        self.simplex.rows[len(self.domain_rows) : depth] = start.rows / np.where(norms > 0.0, norms, 1.0)
        cells, network, offsets = self.cells, self.network, self.network.offsets
        stage, entered = 0, False
        while stage < len(network.sizes):
            status = start.status[offsets[stage] : offsets[stage + 1]]
            if (status < 0).all() and len(status):
                break
            compose(network, cells.maps, cells.norms, cells.pattern, cells.active, stage)
            if (status < 0).any():
                cells.status[0, : len(status)] = np.where(status < 0, UNDECIDED, status)
                entered = True
                break
            cells.pattern[offsets[stage] : offsets[stage + 1]] = status
            stage += 1
        frame = {PARENT: start.parent, DEPTH: start.depth, STAGE: stage, CURSOR: 0 if entered else -1}
        frame |= {ROWS: depth, NEURON: -1, POINTS: 1}
        cells.frames[0] = 0
        cells.frames[0, list(frame)] = list(frame.values())
        cells.points[0] = start.point / (start.point[-1] if self.chart.is_box else np.abs(start.point).max())

    def _top_cell(self, top: int) -> Cell:
        """The cell on top of the stack, for another engine."""
        frame, offsets = self.cells.frames[top], self.network.offsets
        stage = int(frame[STAGE])
        status = np.full(int(offsets[-1]), -1, dtype=np.int8)
        status[: offsets[stage]] = self.cells.pattern[: offsets[stage]]
        current = self.cells.status[top, : self.network.sizes[stage]]
        status[offsets[stage] : offsets[stage + 1]] = np.where(current == UNDECIDED, -1, current)
        rows = self.simplex.rows[len(self.domain_rows) : frame[ROWS]].copy()
        return Cell(int(frame[PARENT]), int(frame[DEPTH]), status, rows, self.cells.points[frame[FIRST]].copy())

    def _grow_rows(self) -> None:
        simplex = self.simplex
        tableau = np.zeros((2 * len(simplex.tableau), self.dimension))
        self.simplex = simplex.replaced(rows=grown(simplex.rows), tableau=tableau, basic=grown(simplex.basic))


def _room(domain_rows: Float[np.ndarray, "rows dimension"], fixed_t: bool) -> Simplex:
    """Room for linear programs that holds the half-spaces of the domain; a box is the variables' bounds at t = 1."""
    dimension = domain_rows.shape[1]
    capacity = 64 + 2 * len(domain_rows)
    lower, upper, rows = -np.ones(dimension), np.ones(dimension), np.zeros((capacity, dimension))
    lower[-1] = 1.0 if fixed_t else 0.0
    rows[: len(domain_rows)] = domain_rows
    return Simplex(
        lower,
        upper,
        rows,
        np.zeros((capacity + 1, dimension)),
        np.zeros(capacity, dtype=np.int64),
        np.zeros(dimension, dtype=np.int64),
        np.zeros(dimension),
        np.zeros(dimension, dtype=np.uint8),
        np.zeros(dimension),
        np.zeros(dimension),
        np.zeros(dimension),
        np.zeros(dimension),
        np.zeros(dimension, dtype=np.int64),
    )


def _stack(network: Network, dimension: int) -> Cells:
    neurons, widest = int(network.offsets[-1]), max(1, int(network.sizes.max(initial=1)))
    return Cells(
        np.zeros((256, NUM_COLUMNS), dtype=np.int64),
        np.zeros((256, widest), dtype=np.uint8),
        np.zeros((4096, dimension)),
        np.zeros(max(1, neurons) * dimension),
        np.zeros(neurons),
        np.zeros(neurons, dtype=np.uint8),
        np.zeros(dimension),
        np.zeros(neurons, dtype=np.int64),
    )
