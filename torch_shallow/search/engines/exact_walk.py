"""Enumeration in exact arithmetic below cells that float64 cannot cut."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from torch_shallow.geometry.exact_cell import ExactCell
from torch_shallow.search.engines.exact_rows import ExactRows, Stages
from torch_shallow.search.problem import Cell, Problem
from torch_shallow.search.task_output import OFF_PATH, Harvest, guided_side, off_path


@dataclass(frozen=True)
class _Open:
    """A cell still to be walked; `status` holds the signs of its stage's neurons, -1 for those not settled."""

    parent: int
    depth: int
    cell: ExactCell
    stages: Stages
    status: tuple[int, ...]


class ExactWalk:
    """Walks everything below a cell in integer arithmetic, and gives its cuts and regions to a harvest.

    A neuron cuts a cell if and only if its pre-activation takes both signs in it, shown by a point of each sign;
    otherwise multipliers prove that one sign does not occur (`point_where_positive`). A cell takes milliseconds, where
    compiled walks take microseconds.

    Args:
        problem: The enumeration problem.
        harvest: Where to append the results.
    """

    engine = "exact"

    def __init__(self, problem: Problem, harvest: Harvest) -> None:
        self.problem, self.harvest = problem, harvest
        self.rows = ExactRows(problem)
        self._sizes = [stage.num_neurons for stage in problem.program.stages]

    def side_of(self, cell: Cell, stage: int, number: int) -> int | None:
        """Return the sign of a neuron on a cell with all earlier stages settled: 0, 1, or None if it takes both.

        If the cell itself has no interior, this is the sign at its point.
        """
        exact, stages = self.rows.cell(cell, self.harvest.path(cell.parent, cell.depth))
        row = self.rows.row(stages, stage, number)
        if exact is None:
            return int(np.dot(np.array(row, dtype=np.float64), cell.point) > 0.0)
        below, above = exact.points_on_both_sides(row)
        if below is not None and above is not None:
            return None
        return int(above is not None)

    def run(self, start: Cell) -> None:
        """Walk everything that is below both a cell and the path of the harvest."""
        exact, stages = self.rows.cell(start, self.harvest.path(start.parent, start.depth))
        assert exact is not None  # `side_of` found points of both signs in it
        offset = self.problem.program.offsets[len(stages.active)]
        status = start.status[offset : offset + self._sizes[len(stages.active)]]
        stack = [_Open(start.parent, start.depth, exact, stages, tuple(status.tolist()))]
        while stack:
            stack += self._opened(stack.pop())
            if stack and self.harvest.spent:
                self.harvest.leave(np.array([cell.parent for cell in stack], dtype=np.int64))
                return

    def _opened(self, node: _Open) -> list[_Open]:
        """Return the two parts of a cell, the one to walk first last; an empty list if the cell is a region."""
        stages, status = node.stages, list(node.status)
        while True:
            stage = len(stages.maps) - 1
            for number, known in enumerate(status):
                if known >= 0:
                    continue
                row = self.rows.row(stages, stage, number)
                below, above = node.cell.points_on_both_sides(row)
                if below is not None and above is not None:
                    return self._cut(replace(node, stages=stages, status=tuple(status)), number, row, below, above)
                status[number] = int(above is not None)
            stages = replace(stages, active=(*stages.active, np.array(status, dtype=np.int64) == 1))
            if len(stages.active) == len(self._sizes):
                self._write_region(node, stages)
                return []
            stages = self.rows.composed(stages)
            status = [-1] * self._sizes[len(stages.active)]

    def _cut(self, node: _Open, number: int, row: list[int], below: list[int], above: list[int]) -> list[_Open]:
        stage, path = len(node.stages.maps) - 1, self.harvest.given
        neuron = self.problem.program.offsets[stage] + number
        only_side = int(guided_side(path, node.depth, neuron))
        if only_side == OFF_PATH:
            raise off_path()
        cut = self.harvest.num_cuts
        if only_side < 0:
            none = np.zeros(0, dtype=np.int64)
            patterns = np.zeros((0, (self.problem.program.num_neurons + 7) // 8), dtype=np.uint8)
            points = np.zeros((0, self.problem.chart.num_coordinates))
            self.harvest.add(self.engine, np.array([node.parent]), np.array([neuron]), none, patterns, points)
        parts = []
        for side, point in ((1, above), (0, below)):
            if only_side == 1 - side:
                continue
            status = (*node.status[:number], side, *node.status[number + 1 :])
            cell = node.cell.cut(row if side else [-entry for entry in row], point)
            parent = 2 * cut + side if only_side < 0 else node.parent - 1
            parts.append(_Open(parent, node.depth + 1, cell, node.stages, status))
        return parts

    def _write_region(self, node: _Open, stages: Stages) -> None:
        none, pattern = np.zeros(0, dtype=np.int64), np.concatenate(stages.active)
        point = self.rows.point_in(node.cell)
        self.harvest.add(self.engine, none, none, np.array([node.parent]), np.packbits(pattern)[None], point[None])
