"""Enumeration by linear programs in compiled code."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from jaxtyping import Float, Int

from torch_shallow.geometry.dual_simplex import Simplex, room
from torch_shallow.geometry.rays.storage import grown
from torch_shallow.search.engines.exact_walk import ExactWalk
from torch_shallow.search.engines.simplex_walk import (
    ASKED,
    CURSOR,
    DEPTH,
    DOUBT,
    FIRST,
    MAY_FALL,
    MAY_RISE,
    NEED_POINTS,
    NEED_ROWS,
    NEURON,
    NUM_COLUMNS,
    PARENT,
    POINTS,
    PROOFS,
    ROWS,
    SPENT,
    STAGE,
    CellStack,
    walk_by_simplex,
)
from torch_shallow.search.engines.solvers import ByCvxpy, CellProgram, Solver, by_highs, centre, check_installed
from torch_shallow.search.problem import Cell, PackedProgram, Problem, compose, whole_domain, write_doubts
from torch_shallow.search.task_output import CUTS, NEED_FRAMES, TOP, UNDECIDED, CompiledWalk, Found, Harvest

DEEP = 1e-6  # a point this far inside a cell is not near its surface


class SimplexWalk(CompiledWalk):
    """Walks the domain, or what is below a cell or a path, and gives the cuts and regions to a harvest.

    Complete, and sound up to the tolerance: a neuron cuts a cell if its pre-activation, relative to the size of its
    row, exceeds the tolerance on both sides at points of the cell in the unit box. Compiled code settles the linear
    programs, and HiGHS those that it cannot settle; if a solver of cvxpy is named, that solver settles all of them.

    Args:
        problem: The enumeration problem.
        harvest: Where to append the results.

    Raises:
        TransformError: The named solver does not exist.
    """

    parent_and_spent = (PARENT, SPENT)

    def __init__(self, problem: Problem, harvest: Harvest) -> None:
        super().__init__(problem, harvest)
        self.engine = "simplex" if problem.search.solver is None else "lp"
        chart, self.network = problem.chart, problem.network
        self.chart, self.dimension = chart, chart.num_coordinates + 1
        self.domain_rows = np.zeros((0, self.dimension)) if chart.is_box else chart.inequalities
        self.simplex = _room(self.domain_rows, chart.is_box)
        self.asks = problem.search.solver is not None
        self.max_points = min(32 + 2 * self.dimension, 128)
        self.stack = _stack(self.network, self.dimension, len(self.simplex.rows), self.max_points)

    def run(self, start: Cell | None = None) -> None:
        """Walk everything that is below both a cell (by default the whole domain) and the path of the harvest."""
        self._push(whole_domain(self.chart, int(self.network.offsets[-1])) if start is None else start)
        self._walk_all()

    @cached_property
    def solver(self) -> Solver:
        """Solver for the linear programs that the compiled walk does not settle."""
        name, tolerance = self.problem.search.solver, self.problem.search.tolerance
        if name is None:
            return Solver("HiGHS", by_highs, tolerance)
        name = check_installed(name)
        return Solver(name, ByCvxpy(name, self.simplex.lower, self.simplex.upper), tolerance)

    def _walk(self, found: Found, counts: Int[np.ndarray, "counts"]) -> int:
        return int(
            walk_by_simplex(
                self.network,
                self.simplex,
                self.stack,
                found,
                counts,
                self.problem.search.tolerance,
                self.max_points,
                self.harvest.given,
                self.asks,
            )
        )

    def _serve(self, status: int, counts: Int[np.ndarray, "counts"]) -> None:
        cells = self.stack
        if status in (MAY_RISE, MAY_FALL):
            self._settle(int(counts[TOP]), 1.0 if status == MAY_RISE else -1.0)
        elif status == DOUBT:
            self._decide(int(counts[TOP]), counts)
        elif status == NEED_FRAMES:
            self.stack = cells.replaced(frames=grown(cells.frames), status=grown(cells.status))
        elif status == NEED_ROWS:
            self._grow_rows()
        elif status == NEED_POINTS:
            self.stack = cells.replaced(points=grown(cells.points))

    @cached_property
    def exact(self) -> ExactWalk:
        """The exact walk, which decides where float64 cannot."""
        return ExactWalk(self.problem, self.harvest)

    def _decide(self, top: int, counts: Int[np.ndarray, "counts"]) -> None:
        """Settle the neuron that the walk asks for; if it cuts the top cell, walk everything below the cell exactly."""
        frame, cell = self.stack.frames[top], self._top_cell(top)
        side = self.exact.side_of(cell, int(frame[STAGE]), int(frame[ASKED]))
        if side is None:
            counts[TOP] -= 1
            self.exact.run(cell)
            counts[CUTS] = self.harvest.num_cuts
        else:
            self.stack.status[top, frame[ASKED]] = side

    def _top_cell(self, top: int) -> Cell:
        """Return the cell on top of the stack."""
        offsets, cells, frame = self.network.offsets, self.stack, self.stack.frames[top]
        stage, status = frame[STAGE], np.full(int(self.network.offsets[-1]), -1, dtype=np.int8)
        status[: offsets[stage]] = cells.pattern[: offsets[stage]]
        current = cells.status[top, : self.network.sizes[stage]]
        status[offsets[stage] : offsets[stage + 1]] = np.where(current == UNDECIDED, -1, current)
        rows = self.simplex.rows[len(self.domain_rows) : frame[ROWS]]
        return Cell(int(frame[PARENT]), int(frame[DEPTH]), status, rows, cells.points[frame[FIRST]])

    def _settle(self, top: int, sign: float) -> None:
        """Ask a solver whether the neuron that the walk asks for takes a sign anywhere in the top cell.

        If so, a point that shows it becomes a point of the cell; if not, the neuron is settled with the other sign.
        """
        cells, frame, tolerance = self.stack, self.stack.frames[top], self.problem.search.tolerance
        rows = self.simplex.rows[: frame[ROWS]]
        program = CellProgram(
            rows / np.linalg.norm(rows, axis=1, keepdims=True), self.simplex.lower, self.simplex.upper
        )
        points = cells.points[frame[FIRST] : frame[FIRST] + frame[POINTS]]
        points[0] = self._deeper(program, points[0])
        best = self.solver.maximise(program, sign * cells.row, tolerance, points[0])
        if best.value <= tolerance:
            cells.status[top, frame[ASKED]] = 0 if sign > 0.0 else 1
        elif frame[POINTS] < self.max_points:
            cells.points[frame[FIRST] + frame[POINTS]] = best.point
            frame[POINTS] += 1
        else:  # replace the point that tells least about the signs
            points[1 + np.abs(points[1:] @ cells.row).argmin()] = best.point

    def _deeper(self, program: CellProgram, point: np.ndarray) -> np.ndarray:
        """Return a point deeper inside a cell, if `point` is near its surface."""
        walls = self.chart.inequalities if self.chart.is_box else np.eye(self.dimension)[-1:]

        def depth(point: np.ndarray) -> float:
            return min(program.depth(point), float((walls @ point).min(initial=1.0)))

        if depth(point) >= max(DEEP, 100.0 * self.problem.search.tolerance):
            return point
        found = centre(CellProgram(np.concatenate([program.rows, walls]), program.lower, program.upper))
        return point if found is None or depth(found) <= depth(point) else found

    def _push(self, start: Cell) -> None:
        """Push the first cell onto the empty stack, composing all stages that its status has settled."""
        depth = len(self.domain_rows) + len(start.rows)
        while depth > len(self.simplex.rows):
            self._grow_rows()
        norms = np.linalg.norm(start.rows, axis=1, keepdims=True)
        self.simplex.rows[len(self.domain_rows) : depth] = start.rows / np.where(norms > 0.0, norms, 1.0)
        cells, network, offsets = self.stack, self.network, self.network.offsets
        cells.num_proofs[:] = 0
        cells.bases[:] = -1 - np.arange(self.dimension)
        given = np.arange(depth)  # on the path of every cell of this walk
        cells.codes[:depth] = 2 * int(offsets[-1]) + given
        cells.places[cells.codes[:depth]] = given
        stage, entered = 0, False
        while stage < len(network.sizes):
            status = start.status[offsets[stage] : offsets[stage + 1]]
            if (status < 0).all() and len(status):
                break
            compose(network, cells.maps, cells.norms, cells.pattern, cells.active, stage)
            tolerance = self.problem.search.tolerance
            write_doubts(network, cells.norms, cells.pattern, stage, tolerance, cells.doubts)
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

    def _grow_rows(self) -> None:
        before = self.simplex
        self.simplex = room(before.lower, before.upper, 2 * len(before.rows))
        self.simplex.rows[: len(before.rows)] = before.rows
        more = np.zeros(len(self.simplex.rows) - len(before.rows), dtype=np.int64)
        codes, places = (np.append(array, more) for array in (self.stack.codes, self.stack.places))
        self.stack = self.stack.replaced(codes=codes, places=places)


def _room(domain_rows: Float[np.ndarray, "rows dimension"], fixed_t: bool) -> Simplex:
    """Allocate linear programs with the half-spaces of the domain; a box is given by the variables' bounds at t = 1."""
    dimension = domain_rows.shape[1]
    simplex = room(-np.ones(dimension), np.ones(dimension), 64 + 2 * len(domain_rows))
    simplex.lower[-1] = 1.0 if fixed_t else 0.0
    simplex.rows[: len(domain_rows)] = domain_rows
    return simplex


def _stack(network: PackedProgram, dimension: int, rows: int, max_points: int) -> CellStack:
    neurons, widest = int(network.offsets[-1]), max(1, int(network.sizes.max(initial=1)))
    return CellStack(
        np.zeros((256, NUM_COLUMNS), dtype=np.int64),
        np.zeros((256, widest), dtype=np.uint8),
        np.zeros((4096, dimension)),
        np.zeros(max(1, neurons) * dimension),
        np.zeros(neurons),
        np.zeros(neurons),
        np.zeros(neurons, dtype=np.uint8),
        np.zeros(dimension),
        np.zeros(dimension),
        np.zeros((2, max_points)),
        np.zeros(rows, dtype=np.int64),
        np.zeros(2 * neurons + rows, dtype=np.int64),
        np.zeros((2 * neurons, PROOFS, dimension + 1), dtype=np.int64),
        np.zeros((2 * neurons, PROOFS, dimension)),
        np.zeros((2 * neurons, dimension), dtype=np.int64),
        np.zeros(2 * neurons, dtype=np.int64),
        np.zeros(neurons, dtype=np.int64),
    )
