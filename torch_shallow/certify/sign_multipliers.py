"""Multipliers of a cell's half-spaces that prove the sign of an affine function on it, by a dual simplex method."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from torch_shallow.compiled.bundle import Bundle
from torch_shallow.compiled.decorator import compiled

SATISFIED = 1e-13  # a half-space in unit length that is violated by less than this counts as satisfied
SMALLEST_PIVOT = 1e-11


class Basis(Bundle):
    """Work space of the method, for a number of coordinates.

    A vertex is defined by as many tight half-spaces g_i v + h_i >= 0 as there are coordinates; half-space
    ~(2 k + side) is the lower or the upper bound of coordinate k.
    """

    tight: np.ndarray  # int64 (coordinates,): the tight half-spaces
    inverse: np.ndarray  # float64 (coordinates, coordinates): inverse of the matrix of their normals
    multipliers: np.ndarray  # float64 (coordinates,): the objective's gradient is the sum of these times normals
    vertex: np.ndarray  # float64 (coordinates,)
    shares: np.ndarray  # float64 (coordinates,): the same for the entering normal
    refined: np.ndarray  # float64 (2, coordinates): the caller's multipliers, in its own units, as pairs
    lower: np.ndarray  # float64 (coordinates,): bounds of the coordinates
    upper: np.ndarray  # float64 (coordinates,)


def room(lower: Float[np.ndarray, "coordinates"], upper: Float[np.ndarray, "coordinates"]) -> Basis:
    """Allocate work space for a box."""
    n = len(lower)
    return Basis(
        np.zeros(n, dtype=np.int64),
        np.zeros((n, n)),
        np.zeros(n),
        np.zeros(n),
        np.zeros(n),
        np.zeros((2, n)),
        lower.copy(),
        upper.copy(),
    )


@compiled()
def find_multipliers(
    basis: Basis,
    rows: Float[np.ndarray, "most homogeneous"],
    count: int,
    target: Float[np.ndarray, "homogeneous"],
    goal: float,
) -> int:
    """Find multipliers that prove `target` greater than `goal` on the half-spaces and the box.

    Each step is one of the dual simplex method: it starts at the vertex of the box where the target is least, and adds
    the most violated half-space. The multipliers are non-negative, up to rounding, and prove more with each step. The
    caller has to compute what they prove.

    Args:
        basis: Work space, which receives the result: `tight` and `multipliers`. If the cell is empty, the half-space
            entered last has a multiplier too.
        rows: Half-spaces in unit length, `rows @ (v, 1) >= 0`.
        count: Number of half-spaces.
        target: An affine function of v.
        goal: Value that suffices.

    Returns:
        A half-space whose multiplier is `basis.shares[0]` if the cell was found to be empty; -1 if not.
    """
    n = basis.vertex.shape[0]
    value = target[n]
    for k in range(n):
        side = 0 if target[k] >= 0.0 else 1
        basis.tight[k] = ~(2 * k + side)
        basis.multipliers[k] = abs(target[k])
        basis.vertex[k] = basis.lower[k] if side == 0 else basis.upper[k]
        value += target[k] * basis.vertex[k]
        for i in range(n):
            basis.inverse[i, k] = 0.0
        basis.inverse[k, k] = 1.0 if side == 0 else -1.0
    for _ in range(20 * (n + 2)):
        entering, worst = most_violated(basis, rows, count)
        if worst >= -SATISFIED or value > goal:
            return -1
        leaving, step = leave(basis, rows, entering)
        if leaving < 0:  # the sum of some half-spaces is never positive: take as much of it as needed
            step = (1.0 + abs(goal) + abs(value)) / -worst
            for i in range(n):
                basis.multipliers[i] -= step * basis.shares[i]
            basis.shares[0] = step
            return entering
        value -= step * worst
        exchange(basis, leaving, entering, step, worst)
    return -1


@compiled()
def most_violated(basis: Basis, rows: Float[np.ndarray, "most homogeneous"], count: int) -> tuple[int, float]:
    """Return the half-space or bound that the vertex violates most, and its value there."""
    n, entering, worst = basis.vertex.shape[0], -1, 0.0
    for j in range(count):
        value = rows[j, n]
        for k in range(n):
            value += rows[j, k] * basis.vertex[k]
        if value < worst:
            entering, worst = j, value
    for k in range(n):
        low, high = basis.vertex[k] - basis.lower[k], basis.upper[k] - basis.vertex[k]
        if min(low, high) < worst:
            entering, worst = ~(2 * k + (0 if low < high else 1)), min(low, high)
    return entering, worst


@compiled()
def leave(basis: Basis, rows: Float[np.ndarray, "most homogeneous"], entering: int) -> tuple[int, float]:
    """Write the entering normal's shares; return the place that it takes and its multiplier, or -1 if there is none."""
    n, leaving, step = basis.vertex.shape[0], -1, np.inf
    for i in range(n):
        if entering >= 0:
            share = 0.0
            for k in range(n):
                share += rows[entering, k] * basis.inverse[k, i]
        else:
            bound = ~entering
            share = basis.inverse[bound // 2, i] * (1.0 if bound % 2 == 0 else -1.0)
        basis.shares[i] = share
        if share > SMALLEST_PIVOT:
            ratio = max(basis.multipliers[i], 0.0) / share
            if ratio < step or (ratio == step and share > basis.shares[leaving]):
                leaving, step = i, ratio
    return leaving, step


@compiled()
def exchange(basis: Basis, leaving: int, entering: int, step: float, violation: float) -> None:
    """Put a half-space into a place of the basis, and move to the vertex."""
    n, pivot = basis.vertex.shape[0], basis.shares[leaving]
    for i in range(n):
        basis.multipliers[i] -= step * basis.shares[i]
    basis.multipliers[leaving] = step
    basis.tight[leaving] = entering
    for k in range(n):
        along = basis.inverse[k, leaving] / pivot
        for i in range(n):
            basis.inverse[k, i] -= basis.shares[i] * along
        basis.inverse[k, leaving] = along
        basis.vertex[k] -= violation * along


@compiled()
def find_each(
    basis: Basis,
    rows: Float[np.ndarray, "most homogeneous"],
    count: int,
    targets: Float[np.ndarray, "targets homogeneous"],
    tight: Int[np.ndarray, "targets coordinates"],
    multipliers: Float[np.ndarray, "targets coordinates"],
) -> bool:
    """Write where each target is least on a cell, and the multipliers; return False if the cell is found empty."""
    for i in range(targets.shape[0]):
        last = find_multipliers(basis, rows, count, targets[i], np.inf)
        if last != -1:
            return False
        for k in range(tight.shape[1]):
            if not np.isfinite(basis.multipliers[k]):  # a bound of a coordinate was entered last
                return False
            tight[i, k] = basis.tight[k]
            multipliers[i, k] = basis.multipliers[k]
    return True
