"""Cell in exact arithmetic: half-spaces with integer coefficients, and points inside."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import lcm

import numpy as np
from jaxtyping import Float

from torch_shallow.geometry.dyadic import Dyadic, Vector, dot, point_where_positive, shortened

MOST_COORDINATES = 32  # greatest dimension in which signs are decided exactly
BITS = 128  # an interior point is rounded to this many bits if it stays inside


@dataclass(frozen=True)
class ExactCell:
    """A cone of homogeneous chart coordinates, cut by pre-activations.

    Attributes:
        rows: Half-spaces `rows @ w >= 0`, those of the domain first.
        inner: Point in the interior.
        points: Other points of the cone.
    """

    rows: tuple[Vector, ...]
    inner: Vector
    points: tuple[Vector, ...] = ()

    def points_on_both_sides(self, row: Vector) -> tuple[Vector | None, Vector | None]:
        """Return points where a linear function is negative and positive; None for a sign that it does not take."""
        found: list[Vector | None] = []
        for sign in (-1, 1):
            known = (point for point in (self.inner, *self.points) if sign * dot(row, point) > 0)
            point = next(known, None)
            found.append(
                point if point is not None else point_where_positive(self.rows, [sign * entry for entry in row])
            )
        return found[0], found[1]

    def cut(self, row: Vector, point: Vector) -> ExactCell:
        """Return the part where `row` is non-negative; `point` is a point of this cell where it is positive."""
        value, there = dot(row, self.inner), dot(row, point)
        inner = self.inner
        if value <= 0:  # move from the interior point towards `point`, until the row has half its value there
            inner = [there * a + (there - 2 * value) * b for a, b in zip(self.inner, point, strict=True)]
        rows = (*self.rows, row)
        points = tuple(known for known in (*self.points, self.inner, point) if dot(row, known) >= 0)
        return ExactCell(rows, _kept_inside(rows, inner), points)

    def middle(self) -> Vector:
        """Return an interior point that is no nearer to any half-space than necessary."""
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
    """Return an interior point with fewer bits, if it stays in the interior."""
    short = shortened(point, BITS)
    return short if all(dot(row, short) > 0 for row in rows) else shortened(point)


def cell_with_interior(rows: tuple[Vector, ...], guess: Float[np.ndarray, "homogeneous"]) -> ExactCell | None:
    """Return the cell of some half-spaces, with an interior point, preferably the guess; None if it has no interior."""
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
