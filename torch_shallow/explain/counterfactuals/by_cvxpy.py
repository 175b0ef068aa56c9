"""The nearest point of a polyhedron by cvxpy, with any of its solvers, and a bound from its multipliers."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
from jaxtyping import Float

from torch_shallow.errors import TransformError

ROUNDING = 2.3e-16
DUAL = {1.0: np.inf, 2.0: 2.0, np.inf: 1.0}


def nearest_by_cvxpy(
    rows: Float[np.ndarray, "rows dimension"],
    limits: Float[np.ndarray, "rows"],
    lower: Float[np.ndarray, "dimension"],
    upper: Float[np.ndarray, "dimension"],
    norm: float,
    solver: str,
) -> tuple[float, Float[np.ndarray, "dimension"] | None]:
    """A lower bound of the distance from 0, whatever the solver says, and the nearest point; None if there is none.

    Raises:
        TransformError: the solver fails.
    """
    cvxpy: Any = import_module("cvxpy")  # typed only in part
    low, high, eye = np.isfinite(lower), np.isfinite(upper), np.eye(len(lower))
    a = np.concatenate([rows, eye[high], -eye[low]])
    b = np.concatenate([limits, upper[high], -lower[low]])
    keep = a.any(axis=1)
    if (b[~keep] < 0.0).any():
        return np.inf, None
    a, b = a[keep], b[keep]
    if len(a) == 0 or (b >= 0.0).all():
        return 0.0, np.zeros(len(lower))
    d = cvxpy.Variable(len(lower))
    cost = cvxpy.sum_squares(d) if norm == 2.0 else cvxpy.norm(d, 1 if norm == 1.0 else "inf")
    meets = a @ d <= b
    problem = cvxpy.Problem(cvxpy.Minimize(cost), [meets])
    _solve(problem, solver)
    if problem.status in ("optimal", "optimal_inaccurate"):
        return bound_of(np.asarray(meets.dual_value), a, b, norm), np.array(d.value)
    excess = cvxpy.Variable()
    meets = a @ d <= b + excess
    problem = cvxpy.Problem(cvxpy.Minimize(excess), [meets, excess >= -1.0])
    _solve(problem, solver)
    if problem.status not in ("optimal", "optimal_inaccurate") or excess.value <= 0.0:
        raise TransformError(f"solver: {solver} could not settle a program ({problem.status}); choose another.")
    return bound_of(np.asarray(meets.dual_value), a, b, norm), None


def bound_of(
    multipliers: Float[np.ndarray, "rows"],
    a: Float[np.ndarray, "rows dimension"],
    b: Float[np.ndarray, "rows"],
    norm: float,
) -> float:
    """How far from 0 all points with `a @ d <= b` are, by any multipliers: as far as the half-space of their sum."""
    u = np.maximum(0.0, multipliers)
    rounding = 4.0 * len(u) * ROUNDING
    missing = -float(u @ b) - rounding * float(u @ np.abs(b))
    size = float(np.linalg.norm(np.abs(u @ a) + rounding * (u @ np.abs(a)), DUAL[norm]))
    return missing / size if missing > 0.0 else 0.0


def _solve(problem: Any, solver: str) -> None:
    cvxpy: Any = import_module("cvxpy")
    try:
        problem.solve(solver=solver)
    except (cvxpy.error.SolverError, ValueError) as error:
        raise TransformError(
            f"solver: {solver} failed: {error}; choose another of cvxpy.installed_solvers()."
        ) from error
