"""A cell in exact arithmetic: half-spaces with integer coefficients, and points inside."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import lcm

import numpy as np
from jaxtyping import Float

from torch_shallow.geometry.dyadic import Dyadic, Vector, dot, point_where_positive, shortened

MOST_COORDINATES = 32  # in which signs are decided exactly
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
