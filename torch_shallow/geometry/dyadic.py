"""Exact arithmetic with float64 values: they are integers times powers of two, as are their sums and products."""

from __future__ import annotations

from collections.abc import Sequence
from operator import mul
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

Vector = list[int]


class Dyadic(NamedTuple):
    """Numbers of the form `numbers * 2**exponent`.

    Attributes:
        numbers: Python integers, in an array of objects.
        exponent: Exponent shared by all of them.
    """

    numbers: np.ndarray
    exponent: int

    @classmethod
    def of(cls, values: Float[np.ndarray, "..."]) -> Dyadic:
        """Convert float64 values exactly."""
        mantissas, exponents = np.frexp(values)
        mantissas = np.ldexp(mantissas, 53).astype(np.int64)
        least = int(exponents[mantissas != 0].min(initial=0))
        shifts = np.where(mantissas != 0, exponents - least, 0)
        return cls(mantissas.astype(object) << shifts.astype(object), least - 53)

    def product(self, other: Dyadic) -> Dyadic:
        """Return the matrix product."""
        if 0 in self.numbers.shape or 0 in other.numbers.shape:
            shape = (self.numbers.shape[0], other.numbers.shape[1])
            return Dyadic(np.full(shape, 0, dtype=object), min(self.exponent, other.exponent))
        return Dyadic(self.numbers.dot(other.numbers), self.exponent + other.exponent)

    def plus(self, other: Dyadic) -> Dyadic:
        """Return the sum."""
        least = min(self.exponent, other.exponent)
        return Dyadic(
            (self.numbers << (self.exponent - least)) + (other.numbers << (other.exponent - least)),
            least,
        )


def dot(a: Vector, b: Vector) -> int:
    """Return the inner product."""
    return sum(x * y for x, y in zip(a, b, strict=True))


def shortened(vector: Sequence[int], bits: int = 0) -> Vector:
    """Divide a vector by the power of two common to all entries; round it to `bits` bits, if that is given."""
    size = max((abs(entry).bit_length() for entry in vector), default=0)
    if bits and size > bits:
        shift = size - bits
        vector = [(entry + (1 << (shift - 1))) >> shift for entry in vector]
    together = 0
    for entry in vector:
        together |= entry
    zeros = (together & -together).bit_length() - 1
    return [entry >> zeros for entry in vector] if zeros > 0 else list(vector)


def point_where_positive(rows: Sequence[Vector], target: Vector) -> Vector | None:
    """Find a point of the cone `rows @ w >= 0` where `target @ w > 0`; None if there is none.

    By Farkas' lemma there is none if and only if `-target` is a combination `y @ rows` with `y >= 0`. The first phase
    of the simplex method seeks such a `y`, in integers that share the determinant of the basis as their denominator
    (Edmonds 1967, Bareiss 1968), by Bland's rule, which cannot cycle. If it finds none, its prices are the point.
    """
    dimension, count = len(target), len(rows)
    flips = [-1 if entry > 0 else 1 for entry in target]
    table = [
        [flips[k] * row[k] for row in rows] + [int(k == j) for j in range(dimension)] + [-flips[k] * target[k]]
        for k in range(dimension)
    ]
    # What the sum of all artificial variables still has to remove from each column; its own value is the last entry.
    cost = [-sum(line[j] for line in table) for j in range(count)]
    cost += [0] * dimension + [-sum(line[-1] for line in table)]
    basic = list(range(count, count + dimension))
    determinant = _minimise(table, cost, basic, count)
    if cost[-1] == 0:
        return None
    # The prices of the equations are 1 minus the reduced costs of the artificial variables.
    return shortened([flips[k] * (cost[count + k] - determinant) for k in range(dimension)])


def smallest_residual(rows: Sequence[Vector], target: Vector, weights: Vector) -> tuple[Vector, int]:
    """Find multipliers `y >= 0` that minimise the sum of the sizes of `target - y @ rows` times positive weights.

    The method is the simplex method of `point_where_positive`; the residual may have either sign.

    Returns:
        Integers, and the positive integer by which to divide them.
    """
    dimension, count = len(target), len(rows)
    flips = [-1 if entry < 0 else 1 for entry in target]
    table = []
    for k, flip in enumerate(flips):
        over, under = ([sign * flip * int(k == j) for j in range(dimension)] for sign in (1, -1))
        table.append([*(flip * row[k] for row in rows), *over, *under, flip * target[k]])
    basic = [count + k + dimension * (flip < 0) for k, flip in enumerate(flips)]
    columns = zip(*table, strict=True)
    cost = [-sum(map(mul, weights, column)) for column in columns]
    for j, weight in enumerate([*weights, *weights], start=count):
        cost[j] += weight
    determinant = _minimise(table, cost, basic, count + 2 * dimension)
    multipliers = [0] * count
    for k, column in enumerate(basic):
        if column < count:
            multipliers[column] = table[k][-1]
    return multipliers, determinant


def _minimise(table: list[Vector], cost: Vector, basic: list[int], columns: int) -> int:
    """Exchange basic variables until the cost, which is never negative, is zero or minimal; return the common divisor.

    Args:
        table: The equations with their right-hand sides last, which are not negative.
        cost: Reduced costs; the last entry is minus the cost.
        basic: The variable of each equation.
        columns: Number of variables that may enter.
    """
    determinant = 1
    while cost[-1] < 0:
        column = next((j for j in range(columns) if cost[j] < 0), None)
        if column is None:
            break
        leaving = None
        for k, line in enumerate(table):
            if line[column] <= 0:
                continue
            if leaving is not None:
                here, there = line[-1] * table[leaving][column], table[leaving][-1] * line[column]
                if here > there or (here == there and basic[k] > basic[leaving]):
                    continue
            leaving = k
        assert leaving is not None  # the cost is never below zero
        pivot_row = table[leaving]
        pivot = pivot_row[column]
        for line in (*table, cost):
            if line is not pivot_row:
                share = line[column]
                for j, entry in enumerate(pivot_row):
                    line[j] = (line[j] * pivot - share * entry) // determinant
        determinant, basic[leaving] = pivot, column
    return determinant
