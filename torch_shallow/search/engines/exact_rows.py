"""Cells and pre-activations in exact arithmetic: what the walks ask where float64 cannot tell a sign."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from fractions import Fraction
from math import lcm

import numpy as np
from jaxtyping import Float

from torch_shallow.geometry.dyadic import Dyadic, Vector, dot, point_where_positive, shortened
from torch_shallow.search.problem import Cell, Problem

BITS = 128  # a point in the interior is kept in so many bits, if it is still inside


@dataclass(frozen=True)
class ExactCell:
    """A cone of homogeneous chart coordinates, cut by pre-activations.

    Attributes:
        rows: half-spaces `rows @ w >= 0`, those of the domain first.
        inner: a point in the interior.
        points: other points of the cone.
    """

    rows: tuple[Vector, ...]
    inner: Vector
    points: tuple[Vector, ...] = ()

    def points_on_both_sides(self, row: Vector) -> tuple[Vector | None, Vector | None]:
        """A point where a linear function is negative, and one where it is positive; None where it nowhere is."""
        found: list[Vector | None] = []
        for sign in (-1, 1):
            known = (point for point in (self.inner, *self.points) if sign * dot(row, point) > 0)
            point = next(known, None)
            found.append(
                point if point is not None else point_where_positive(self.rows, [sign * entry for entry in row])
            )
        return found[0], found[1]

    def cut(self, row: Vector, point: Vector) -> ExactCell:
        """The part where `row` is not negative, as it is not at a point of this cell."""
        value, there = dot(row, self.inner), dot(row, point)
        inner = self.inner
        if value <= 0:  # go from the interior towards the point, until the row has half its value there
            inner = [there * a + (there - 2 * value) * b for a, b in zip(self.inner, point, strict=True)]
        rows = (*self.rows, row)
        points = tuple(known for known in (*self.points, self.inner, point) if dot(row, known) >= 0)
        return ExactCell(rows, _kept_inside(rows, inner), points)

    def middle(self) -> Vector:
        """A point in the interior that is no nearer to any half-space than need be."""
        parts = [self.inner]
        for row in self.rows:
            at = next((point for point in self.points if dot(row, point) > 0), None)
            at = point_where_positive(self.rows, row) if at is None else at
            parts += [self.inner if at is None else at]
        scaled = [[Fraction(entry, max(map(abs, part))) for entry in part] for part in parts]
        total = [sum(column, Fraction(0)) for column in zip(*scaled, strict=True)]
        common = lcm(*(entry.denominator for entry in total))
        return shortened([int(entry * common) for entry in total])


def _kept_inside(rows: tuple[Vector, ...], point: Vector) -> Vector:
    """A point of the interior in fewer bits, if that is in the interior too."""
    short = shortened(point, BITS)
    return short if all(dot(row, short) > 0 for row in rows) else shortened(point)


@dataclass(frozen=True)
class Stages:
    """Pre-activations of the first stages under the pattern of a cell, over homogeneous coordinates."""

    maps: tuple[Dyadic, ...] = ()
    active: tuple[np.ndarray, ...] = ()


@dataclass
class ExactRows:
    """Composes a program in exact arithmetic, in the coordinates of a chart.

    Attributes:
        problem: the program and the chart.
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
        walls = Dyadic.of(chart.inequalities).numbers
        self._domain = (*(shortened(row) for row in walls), far)

    def composed(self, stages: Stages) -> Stages:
        """With the rows of one more stage."""
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
        """A cell of a walk, with all stages that it has settled, and the one in which it is, composed.

        Args:
            start: the cell; what its `status` says is taken as settled.
            path: the neurons that cut it out, with the side taken.

        Returns:
            The cell, None if it has no interior, and the stages.
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
        """The pre-activation of a neuron, up to a power of two."""
        return shortened([sign * entry for entry in stages.maps[stage].numbers[number]])

    def point_in(self, cell: ExactCell) -> Float[np.ndarray, "coordinates"]:
        """A point of the interior as float64s, if there is one; else one that is as near as they are."""
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


def cell_with_interior(rows: tuple[Vector, ...], guess: Float[np.ndarray, "homogeneous"]) -> ExactCell | None:
    """The cell of some half-spaces, with an interior point: a guess, if that is one; None if it has no interior."""
    inner: Vector = Dyadic.of(guess).numbers.tolist()
    if all(dot(row, inner) > 0 for row in rows):
        return ExactCell(rows, shortened(inner))
    total, points = [0] * len(inner), list[Vector]()
    for row in rows:
        point = next((known for known in points if dot(row, known) > 0), None)
        if point is None:
            point = point_where_positive(rows, row)
            if point is None:
                return None
            points.append(point)
            total = [a + b for a, b in zip(total, point, strict=True)]
    return ExactCell(rows, shortened(total), tuple(points))
