"""Cells and pre-activations in exact arithmetic, for walks that need a sign that float64 cannot tell."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from fractions import Fraction

import numpy as np
from jaxtyping import Float

from torch_shallow.geometry.dyadic import Dyadic, Vector, dot, shortened
from torch_shallow.geometry.exact_cell import ExactCell, cell_with_interior
from torch_shallow.search.problem import Cell, Problem


@dataclass(frozen=True)
class Stages:
    """Pre-activations of the first stages under the pattern of a cell, in homogeneous coordinates."""

    maps: tuple[Dyadic, ...] = ()
    active: tuple[np.ndarray, ...] = ()


@dataclass
class ExactRows:
    """Composes a program in exact arithmetic, in the coordinates of a chart.

    Attributes:
        problem: The program and the chart.
    """

    problem: Problem
    _inputs: list[Dyadic] = field(init=False)
    _hidden: list[list[Dyadic]] = field(init=False)
    _domain: tuple[Vector, ...] = field(init=False)

    def __post_init__(self) -> None:
        program, chart = self.problem.program, self.problem.chart
        d, offsets = program.num_inputs, program.offsets
        directions, origin = Dyadic.of(chart.directions.T), Dyadic.of(chart.origin[:, None])
        self._inputs, self._hidden = [], []
        for number, stage in enumerate(program.stages):
            weight = Dyadic.of(stage.weight[:, :d])
            constant = weight.product(origin).plus(Dyadic.of(stage.bias[:, None]))
            slopes = weight.product(directions)
            least = min(constant.exponent, slopes.exponent)
            columns = [part.numbers << (part.exponent - least) for part in (slopes, constant)]
            self._inputs.append(Dyadic(np.concatenate(columns, axis=1), least))
            self._hidden.append(
                [Dyadic.of(stage.weight[:, d + offsets[s] : d + offsets[s + 1]]) for s in range(number)]
            )
        far = [0] * chart.num_coordinates + [1]
        walls = Dyadic.of(chart.inequalities).numbers.tolist()
        self._domain = (*(shortened(row) for row in walls), far)

    def composed(self, stages: Stages) -> Stages:
        """Return the stages with the rows of one more stage."""
        number = len(stages.maps)
        rows = self._inputs[number]
        for source, active in enumerate(stages.active):
            weight = self._hidden[number][source]
            if active.any() and weight.numbers.any():
                above = stages.maps[source]
                part = Dyadic(weight.numbers[:, active], weight.exponent)
                rows = rows.plus(part.product(Dyadic(above.numbers[active], above.exponent)))
        return replace(stages, maps=(*stages.maps, rows))

    def cell(self, start: Cell, path: list[tuple[int, int]]) -> tuple[ExactCell | None, Stages]:
        """Return a cell of a walk, with all stages it has settled and the one it is in, composed.

        Args:
            start: The cell; the neurons that its `status` gives are taken as settled.
            path: The neurons whose cuts bound it, with the sides taken.

        Returns:
            The cell, or None if it has no interior, and the stages.
        """
        offsets, stages = self.problem.program.offsets, Stages()
        for number in range(len(offsets) - 1):
            status = start.status[offsets[number] : offsets[number + 1]]
            stages = self.composed(stages)
            if (status < 0).any():
                break
            stages = replace(stages, active=(*stages.active, status == 1))
        rows = list(self._domain)
        for neuron, side in path:
            stage = int(np.searchsorted(offsets, neuron, side="right")) - 1
            rows.append(self.row(stages, stage, neuron - offsets[stage], 1 if side else -1))
        return cell_with_interior(tuple(rows), start.point), stages

    def row(self, stages: Stages, stage: int, number: int, sign: int = 1) -> Vector:
        """Return the pre-activation of a neuron, up to a power of two."""
        return shortened([sign * entry for entry in stages.maps[stage].numbers[number]])

    def point_in(self, cell: ExactCell) -> Float[np.ndarray, "coordinates"]:
        """Return an interior point in float64 if one is found; otherwise an interior point rounded to float64."""
        middle, inner = cell.middle(), cell.inner
        between = [a * inner[-1] + b * middle[-1] for a, b in zip(middle, inner, strict=True)]
        points = [_rounded(point) for point in (middle, between, inner)]
        for point in points:
            at = Dyadic.of(np.append(point, 1.0)).numbers.tolist()
            if all(dot(row, at) > 0 for row in cell.rows):
                return point
        return points[0]


def _rounded(point: Vector) -> Float[np.ndarray, "coordinates"]:
    return np.array([float(Fraction(entry, point[-1])) for entry in point[:-1]])
