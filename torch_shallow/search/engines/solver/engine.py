"""Enumeration by linear programs: cells as half-spaces, in any dimension, with any solver."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Float, Int8

from torch_shallow.search.engines.solver.charted import ChartedProgram, Composed
from torch_shallow.search.engines.solver.programs.choice import cell_program
from torch_shallow.search.engines.solver.witnesses import Witnesses, recentred
from torch_shallow.search.problem import Cell, Problem, whole_domain
from torch_shallow.search.task_output import OFF_PATH, Harvest, guided_side, off_path


def walk_by_solver(problem: Problem, harvest: Harvest, start: Cell | None = None) -> None:
    """Walk the domain, or what is below a cell, as far as it is below the path of the harvest.

    Complete, and sound up to the tolerance: a neuron cuts a cell if its pre-activation, measured against the size of
    its row, is beyond the tolerance on both sides at points of the cell in the unit box. Known points of the cell and
    bounds over the box come before linear programs; every answer of a solver is checked by weak duality.

    Args:
        problem: what is enumerated.
        harvest: where to append.
        start: where to start, if not with the whole domain.

    Raises:
        TransformError: no such solver, or its accuracy does not do.
    """
    walk = _Walk(problem, harvest)
    walk.run(walk.first(start or whole_domain(problem.chart, problem.program.num_neurons)))


@dataclass(frozen=True)
class _Open:
    """A cell still to be walked: the first `depth` half-spaces of the path to the cell before it, and one more."""

    parent: int
    cuts_above: int
    depth: int
    row: Float[np.ndarray, "dimension"] | None
    stage: int
    composed: Composed
    status: Int8[np.ndarray, "neurons"]  # of the neurons of the stage
    witnesses: Witnesses


@dataclass
class _Block:
    """Cuts and regions found since the last time they were appended to the harvest."""

    cut_parents: list[int] = field(default_factory=list)
    cut_neurons: list[int] = field(default_factory=list)
    region_parents: list[int] = field(default_factory=list)
    patterns: list[np.ndarray] = field(default_factory=list)
    points: list[np.ndarray] = field(default_factory=list)


class _Walk:
    """The depth-first walk. The solver's rows are always the half-spaces of the cell at hand, the domain's first."""

    def __init__(self, problem: Problem, harvest: Harvest) -> None:
        self.charted = ChartedProgram.of(problem.program.balanced, problem.chart)
        self.chart, self.harvest, self.tolerance = problem.chart, harvest, problem.search.tolerance
        chart = problem.chart
        lower, upper = -np.ones(chart.num_coordinates + 1), np.ones(chart.num_coordinates + 1)
        lower[-1] = 1.0 if chart.is_box else 0.0  # a box is the bounds |v| <= 1 at t = 1; else the cell is a cone
        self.cells = cell_program(problem.search.solver, lower, upper, self.tolerance)
        for row in () if chart.is_box else chart.inequalities:
            self.cells.push(row)
        self.inner = np.append(chart.inner, 1.0) / max(1.0, float(np.abs(chart.inner).max(initial=0.0)))
        self.block = _Block()

    def first(self, start: Cell) -> _Open:
        """The cell to start with, its half-spaces pushed and its settled stages composed."""
        for row in start.rows:
            self.cells.push(row / np.linalg.norm(row))
        point = start.point / (start.point[-1] if self.chart.is_box else np.abs(start.point).max())
        stage, composed, offsets = 0, self.charted.begin(), self.charted.offsets
        while stage < len(self.charted.stages):
            status = start.status[offsets[stage] : offsets[stage + 1]]
            if (status < 0).any():
                break
            composed = self.charted.advance(composed, stage, status)
            stage += 1
        # No margin is claimed for the given point: it is measured when the cell is walked.
        witnesses = Witnesses(point[None], 0.0)
        status = self._by_bounds(composed, witnesses)
        if stage < len(self.charted.stages):
            given = start.status[offsets[stage] : offsets[stage + 1]]
            status = np.where(given < 0, status, given)
        return _Open(start.parent, start.depth, self.cells.num_rows, None, stage, composed, status, witnesses)

    def run(self, first: _Open, block_size: int = 4096) -> None:
        """Walk everything below a cell."""
        stack = [first]
        while stack:
            stack.extend(self._children(stack.pop()))
            spent = self.harvest.spent_with(len(self.block.cut_neurons), len(self.block.points))
            if spent or len(self.block.points) >= block_size:
                self._flush()
            if spent:
                self.harvest.leave(np.array([cell.parent for cell in stack], dtype=np.int64))
                return
        self._flush()

    def _children(self, cell: _Open) -> Iterator[_Open]:
        """Walk one cell, stage by stage, up to its first cut or to a region."""
        self.cells.truncate(cell.depth)
        self.cells.forget()  # what is found in a cell must not depend on what was solved before it
        if cell.row is not None:
            self.cells.push(cell.row)
        enough = max(1e-6, 100.0 * self.tolerance)
        if cell.witnesses.margin < enough:
            cell = replace(cell, witnesses=recentred(cell.witnesses, self.cells, self.inner, enough))
        while True:
            cell, neuron = self._settled(cell)
            if neuron is not None:
                yield from self._cut(cell, neuron)
                return
            if cell.stage == len(self.charted.stages):
                self._write_region(cell)
                return
            composed = self.charted.advance(cell.composed, cell.stage, cell.status)
            status = self._by_bounds(composed, cell.witnesses)
            cell = replace(cell, stage=cell.stage + 1, composed=composed, status=status)

    def _by_bounds(self, composed: Composed, witnesses: Witnesses) -> Int8[np.ndarray, "neurons"]:
        """Settle the neurons of a stage whose sign is known from the bounds on all cells."""
        low, high = self.cells.bounds(composed.scaled)
        inner = composed.scaled @ witnesses.points[0]
        status = np.full(len(inner), -1, dtype=np.int8)
        status[(low >= -self.tolerance) & (inner > self.tolerance)] = 1
        status[high <= self.tolerance] = 0
        return status

    def _settled(self, cell: _Open) -> tuple[_Open, int | None]:
        """Settle all neurons of the stage that have one sign on the cell; the first that has two, if any, cuts it.

        To look at all of them, not only up to the first, saves programs: what is settled here is so in all children.
        """
        undecided = np.flatnonzero(cell.status < 0)
        if len(undecided) == 0:
            return cell, None
        scaled, found = cell.composed.scaled[undecided], cell.witnesses.points
        values = found @ scaled.T
        low, high = values.min(axis=0), values.max(axis=0)
        status, new, cut = cell.status.copy(), [], None
        for k, neuron in enumerate(undecided):
            for sign in (1, -1):
                if (high[k] if sign > 0 else -low[k]) > self.tolerance:
                    continue
                best = self.cells.maximise(sign * scaled[k], self.tolerance, found[0])
                if best.value <= self.tolerance:
                    status[neuron] = 0 if sign > 0 else 1
                    break
                new.append(best.point)
                at_best = scaled @ best.point
                low, high = np.minimum(low, at_best), np.maximum(high, at_best)
            else:
                cut = int(neuron) if cut is None else cut
        witnesses = Witnesses(np.concatenate([found, new]), cell.witnesses.margin) if new else cell.witnesses
        return replace(cell, status=status, witnesses=witnesses), cut

    def _cut(self, cell: _Open, neuron: int, max_witnesses: int = 64) -> Iterator[_Open]:
        """The two children of a cell; the last, which is walked first, is the inactive one."""
        row = cell.composed.rows[neuron] / np.linalg.norm(cell.composed.rows[neuron])
        inactive, active = cell.witnesses.split(row, max_witnesses)
        only_side = guided_side(self.harvest.given, cell.cuts_above, self.charted.offsets[cell.stage] + neuron)
        if only_side == OFF_PATH:
            raise off_path()
        codes = (cell.parent - 1, cell.parent - 1)
        if only_side < 0:
            number = self.harvest.num_cuts + len(self.block.cut_neurons)
            codes = (2 * number, 2 * number + 1)
            self.block.cut_parents.append(cell.parent)
            self.block.cut_neurons.append(self.charted.offsets[cell.stage] + neuron)
        for side, own, witnesses in ((1, row, active), (0, -row, inactive)):
            if only_side == 1 - side:
                continue
            status = cell.status.copy()
            status[neuron] = side
            rows = self.cells.num_rows
            yield _Open(codes[side], cell.cuts_above + 1, rows, own, cell.stage, cell.composed, status, witnesses)

    def _write_region(self, cell: _Open) -> None:
        point = cell.witnesses.points[0]
        self.block.region_parents.append(cell.parent)
        self.block.patterns.append(np.packbits(cell.composed.pattern == 1))
        self.block.points.append(point[:-1] / point[-1])

    def _flush(self) -> None:
        """Append what was found to the harvest."""
        block, self.block = self.block, _Block()
        self.harvest.add(
            "lp",
            np.array(block.cut_parents, dtype=np.int64),
            np.array(block.cut_neurons, dtype=np.int64),
            np.array(block.region_parents, dtype=np.int64),
            np.array(block.patterns, dtype=np.uint8).reshape(len(block.points), (self.charted.offsets[-1] + 7) // 8),
            np.array(block.points, dtype=np.float64).reshape(len(block.points), self.chart.num_coordinates),
        )
