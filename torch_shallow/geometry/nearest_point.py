"""Point of a polyhedron nearest to 0, in the norms L2, L1 and L-infinity, each with a proven lower bound."""

from __future__ import annotations

import numpy as np

from torch_shallow.compiled.bundle import Bundle
from torch_shallow.compiled.decorator import compiled
from torch_shallow.geometry.dual_simplex import BELOW, FAILED, Simplex, maximise, proven_bound, room

BEYOND = 0  # the distance is at least the cutoff: proven by multipliers
NEAREST = 1  # `point` is the nearest point
UNSETTLED = 2  # neither could be shown

FEASIBILITY = 1e-12
DEPENDENT = 1e-10
ROUNDING = 2.3e-16


class Quadratic(Bundle):
    """Half-spaces `rows @ d <= rhs` with unit rows, and work space."""

    rows: np.ndarray  # float64 (capacity, dimension)
    rhs: np.ndarray  # float64 (capacity,)
    bound: np.ndarray  # float64 (1,): the proven lower bound
    point: np.ndarray  # float64 (dimension,): the answer
    basis: np.ndarray  # float64 (dimension, dimension): orthonormal rows that span the active normals
    triangle: np.ndarray  # float64 (dimension, dimension): active normal j is sum_i triangle[i, j] basis[i]
    active: np.ndarray  # int64 (dimension + 1,)
    multipliers: np.ndarray  # float64 (dimension + 1,)
    normal: np.ndarray  # float64 (dimension,)
    step: np.ndarray  # float64 (dimension,)
    shares: np.ndarray  # float64 (dimension + 1,)
    price: np.ndarray  # float64 (dimension,)


def quadratic(dimension: int, capacity: int) -> Quadratic:
    """Allocate a program with `capacity` half-spaces."""
    point, normal, step, price = np.zeros((4, dimension))
    basis, triangle = np.zeros((2, dimension, dimension))
    active, (multipliers, shares) = np.zeros(dimension + 1, dtype=np.int64), np.zeros((2, dimension + 1))
    rows, rhs, bound = np.zeros((capacity, dimension)), np.zeros(capacity), np.zeros(1)
    return Quadratic(rows, rhs, bound, point, basis, triangle, active, multipliers, normal, step, shares, price)


@compiled()
def project(work: Quadratic, count: int, lower: np.ndarray, upper: np.ndarray, cutoff: float) -> int:
    """Find the point nearest to 0 in the first `count` half-spaces and a box; return BEYOND, NEAREST or UNSETTLED."""
    point, basis, triangle, active, u = work.point, work.basis, work.triangle, work.active, work.multipliers
    n = point.shape[0]
    work.bound[0] = 0.0
    for i in range(n):
        point[i] = 0.0
        if lower[i] > upper[i]:
            work.bound[0] = np.inf
            return BEYOND
    q = 0
    for _ in range(100 + 10 * (count + n)):
        p, violation = most_violated(work, count, lower, upper)
        if p < 0:
            work.bound[0] = proven(work, count, q, lower, upper)
            return NEAREST if work.bound[0] < cutoff else BEYOND
        for i in range(n):
            work.normal[i] = component(work, count, p, i)
        active[q], u[q] = p, 0.0
        while True:
            # The part of the normal that is orthogonal to the active ones, orthogonalised twice.
            for i in range(n):
                work.step[i] = work.normal[i]
            for k in range(q):
                work.shares[k] = 0.0
            for _ in range(2):
                for k in range(q):
                    share = 0.0
                    for i in range(n):
                        share += basis[k, i] * work.step[i]
                    work.shares[k] += share
                    for i in range(n):
                        work.step[i] -= share * basis[k, i]
            square = 0.0
            for i in range(n):
                square += work.step[i] ** 2
            # Coefficients of the active normals in the rest.
            shares = work.shares
            for k in range(q):
                work.price[k] = shares[k]
            for k in range(q - 1, -1, -1):
                for j in range(k + 1, q):
                    shares[k] -= triangle[k, j] * shares[j]
                shares[k] /= triangle[k, k]
            blocking, allowed = -1, np.inf
            for k in range(q):
                if shares[k] > 0.0 and u[k] < allowed * shares[k]:
                    blocking, allowed = k, u[k] / shares[k]
            dependent = q == n or square <= DEPENDENT**2
            if dependent and blocking < 0:
                for k in range(q):
                    u[k] = max(0.0, -shares[k])
                u[q] = 1.0
                work.bound[0] = farkas(work, count, q + 1, lower, upper, cutoff)
                return BEYOND if work.bound[0] >= cutoff else UNSETTLED
            full = np.inf if dependent else violation / square
            length = min(allowed, full)
            for k in range(q):
                u[k] = max(0.0, u[k] - length * shares[k])
            u[q] += length
            if not dependent:
                for i in range(n):
                    point[i] -= length * work.step[i]
            if full <= allowed:
                norm = np.sqrt(square)
                for i in range(n):
                    basis[q, i] = work.step[i] / norm
                for k in range(q):
                    triangle[k, q] = work.price[k]
                triangle[q, q] = norm
                q += 1
                break
            last = u[q]
            drop(work, blocking, q)
            q -= 1
            active[q], u[q] = p, last
            violation = -offset(work, count, lower, upper, p)
            for i in range(n):
                violation += work.normal[i] * point[i]
            if violation <= 0.0:
                violation = 0.0
        square = 0.0
        for i in range(n):
            square += point[i] ** 2
        if square >= cutoff * cutoff:
            work.bound[0] = proven(work, count, q, lower, upper)
            if work.bound[0] >= cutoff:
                return BEYOND
    work.bound[0] = proven(work, count, q, lower, upper)
    return BEYOND if work.bound[0] >= cutoff else UNSETTLED


@compiled()
def component(work: Quadratic, count: int, p: int, i: int) -> float:
    """Return entry i of the normal of a constraint: half-spaces come first, then upper bounds, then lower bounds."""
    n = work.point.shape[0]
    if p < count:
        return work.rows[p, i]
    if p < count + n:
        return 1.0 if i == p - count else 0.0
    return -1.0 if i == p - count - n else 0.0


@compiled()
def offset(work: Quadratic, count: int, lower: np.ndarray, upper: np.ndarray, p: int) -> float:
    """Return the right-hand side of a constraint."""
    n = work.point.shape[0]
    if p < count:
        return work.rhs[p]
    return upper[p - count] if p < count + n else -lower[p - count - n]


@compiled()
def most_violated(work: Quadratic, count: int, lower: np.ndarray, upper: np.ndarray) -> tuple[int, float]:
    """Return the most violated constraint, and its violation; -1 if none is violated, up to rounding."""
    point, n = work.point, work.point.shape[0]
    worst, index = 0.0, -1
    for p in range(count):
        value, size = -work.rhs[p], abs(work.rhs[p])
        for i in range(n):
            term = work.rows[p, i] * point[i]
            value += term
            size += abs(term)
        if value > worst and value > FEASIBILITY * size:
            worst, index = value, p
    for i in range(n):
        value, size = point[i] - upper[i], FEASIBILITY * abs(point[i])
        if value > worst and value > size:
            worst, index = value, count + i
        value = lower[i] - point[i]
        if value > worst and value > size:
            worst, index = value, count + n + i
    return index, worst


@compiled()
def drop(work: Quadratic, k: int, q: int) -> None:
    """Remove an active constraint."""
    triangle, basis, n = work.triangle, work.basis, work.point.shape[0]
    for j in range(k, q - 1):
        work.active[j], work.multipliers[j] = work.active[j + 1], work.multipliers[j + 1]
        for i in range(j + 2):
            triangle[i, j] = triangle[i, j + 1]
    for j in range(k, q - 1):
        a, b = triangle[j, j], triangle[j + 1, j]
        length = np.sqrt(a * a + b * b)
        c, s = a / length, b / length
        for i in range(j, q - 1):
            a, b = triangle[j, i], triangle[j + 1, i]
            triangle[j, i], triangle[j + 1, i] = c * a + s * b, c * b - s * a
        for i in range(n):
            a, b = basis[j, i], basis[j + 1, i]
            basis[j, i], basis[j + 1, i] = c * a + s * b, c * b - s * a


@compiled()
def surrogate(work: Quadratic, count: int, q: int) -> tuple[float, float, float]:
    """Add up the active half-spaces by their multipliers into `price`; return the offset, its size, and their sum."""
    n = work.point.shape[0]
    total, size, weight = 0.0, 0.0, 0.0
    for i in range(n):
        work.price[i] = 0.0
    for k in range(q):
        p, multiplier = work.active[k], work.multipliers[k]
        if p < count:
            weight += multiplier
            total += multiplier * work.rhs[p]
            size += multiplier * abs(work.rhs[p])
            for i in range(n):
                work.price[i] += multiplier * work.rows[p, i]
    return total, size, weight


@compiled()
def proven(work: Quadratic, count: int, q: int, lower: np.ndarray, upper: np.ndarray) -> float:
    """Return a lower bound of the distance by weak duality: the least of |d|^2 / 2 + price @ d - total in the box."""
    total, size, weight = surrogate(work, count, q)
    value, n = -total, work.point.shape[0]
    length = 0.0
    for i in range(n):
        d = min(max(-work.price[i], lower[i]), upper[i])
        value += (0.5 * d + work.price[i]) * d
        size += (0.5 * abs(d) + abs(work.price[i])) * abs(d)
        length = max(length, abs(d))
    value -= 4.0 * (n + q) * ROUNDING * (size + weight * length)
    return np.sqrt(2.0 * value) if value > 0.0 else 0.0


@compiled()
def farkas(work: Quadratic, count: int, q: int, lower: np.ndarray, upper: np.ndarray, cutoff: float) -> float:
    """Return a lower bound of the distance of the half-space `price @ d <= total` in the box; inf if that is empty.

    Where an end of the box is infinite, or a slope is only rounding, the box is cut at the cutoff.
    """
    total, size, weight = surrogate(work, count, q)
    n = work.point.shape[0]
    total_slope, in_box, terms, in_reach, terms_in_reach = 0.0, 0.0, 0.0, 0.0, 0.0
    for i in range(n):
        rounding = 4.0 * q * ROUNDING * weight
        total_slope += abs(work.price[i]) + rounding
        # Use the box's worse end for the rounding of the slope.
        side = -lower[i] if work.price[i] > 0.0 else upper[i]
        largest = max(abs(lower[i]), abs(upper[i]))
        in_box += (abs(work.price[i]) * side if work.price[i] != 0.0 else 0.0) + rounding * largest
        terms += abs(work.price[i]) * abs(side) if work.price[i] != 0.0 else 0.0
        in_reach += abs(work.price[i]) * min(side, cutoff) + rounding * min(largest, cutoff)
        terms_in_reach += abs(work.price[i]) * min(abs(side), cutoff)
    allowance = 4.0 * (n + q) * ROUNDING
    if in_box < -total - allowance * (size + terms):
        return np.inf
    missing = -total - allowance * size
    bound = missing / total_slope if missing > 0.0 else 0.0
    return max(bound, cutoff) if in_reach < missing - allowance * terms_in_reach else bound


TOLERANCE = 1e-11


def linear_program(dimension: int, capacity: int, norm: float) -> Simplex:
    """Allocate a norm's linear program; variables are positive and negative parts, or point and length, then 1."""
    columns = 2 * dimension + 1 if norm == 1.0 else dimension + 2
    rows = capacity + (0 if norm == 1.0 else 2 * dimension)
    return room(np.zeros(columns), np.ones(columns), rows)


@compiled()
def nearest(
    work: Quadratic, simplex: Simplex, norm: float, count: int, lower: np.ndarray, upper: np.ndarray, cutoff: float
) -> int:
    """Find the point nearest to 0 in the first `count` half-spaces of `work` and a box; results are those of `project`.

    Args:
        work: Half-spaces; receives the bound and the point.
        simplex: Result of `linear_program`, for norms 1 and infinity.
        norm: 1, 2 or infinity.
        count: Number of half-spaces.
        lower: Lower bounds of the box.
        upper: Upper bounds of the box.
        cutoff: Distance from which on points do not count; finite for norms 1 and infinity.
    """
    n = work.point.shape[0]
    if norm == 2.0:
        return project(work, count, lower, upper, cutoff)
    for i in range(n):
        if lower[i] > upper[i]:
            work.bound[0] = np.inf
            return BEYOND
        if max(lower[i], -upper[i]) >= cutoff:
            work.bound[0] = cutoff
            return BEYOND
    length, rows = (2 * n if norm == 1.0 else n), count
    one = simplex.lower.shape[0] - 1
    simplex.lower[one], simplex.upper[one], simplex.objective[one] = 1.0, 1.0, 0.0
    for i in range(n):
        low, high = max(-1.0, lower[i] / cutoff), min(1.0, upper[i] / cutoff)
        if norm == 1.0:
            simplex.lower[i], simplex.upper[i] = max(0.0, low), max(0.0, high)
            simplex.lower[n + i], simplex.upper[n + i] = max(0.0, -high), max(0.0, -low)
            simplex.objective[i], simplex.objective[n + i] = -1.0, -1.0
        else:
            simplex.lower[i], simplex.upper[i], simplex.objective[i] = low, high, 0.0
            for side in range(2):
                for k in range(one + 1):
                    simplex.rows[rows, k] = 0.0
                simplex.rows[rows, i] = np.sqrt(0.5) * (1.0 - 2.0 * side)
                simplex.rows[rows, length] = np.sqrt(0.5)
                rows += 1
    if norm != 1.0:
        simplex.lower[length], simplex.upper[length], simplex.objective[length] = 0.0, 1.0, -1.0
    for j in range(count):
        last = work.rhs[j] / cutoff
        size = 1.0 / np.sqrt(1.0 + last * last)
        for i in range(n):
            simplex.rows[j, i] = -work.rows[j, i] * size
            if norm == 1.0:
                simplex.rows[j, n + i] = work.rows[j, i] * size
        if norm != 1.0:
            simplex.rows[j, length] = 0.0
        simplex.rows[j, one] = last * size
    status = maximise(simplex, rows, simplex.objective, -1.0, TOLERANCE)
    if status == FAILED:
        # Usually there is no point: the Euclidean method proves this, in the box outside which points do not count.
        for i in range(n):
            simplex.lower[i], simplex.upper[i] = max(lower[i], -cutoff), min(upper[i], cutoff)
        status = project(work, count, simplex.lower[:n], simplex.upper[:n], np.inf)
        if work.bound[0] >= (cutoff if norm == 1.0 else cutoff * np.sqrt(n)):
            work.bound[0] = cutoff
            return BEYOND
        work.bound[0] /= 1.0 if norm == 1.0 else np.sqrt(n)
        return UNSETTLED
    work.bound[0] = min(cutoff, -cutoff * (proven_bound(simplex, simplex.objective) + 1e-14))
    if status == BELOW:
        return BEYOND
    for i in range(n):
        work.point[i] = cutoff * (simplex.point[i] - (simplex.point[n + i] if norm == 1.0 else 0.0))
    return NEAREST
