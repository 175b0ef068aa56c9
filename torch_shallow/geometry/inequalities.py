"""Which half-spaces of a polyhedron are facets: most are seen at once, few need a linear program; in any dimension."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from torch_shallow.errors import TransformError
from torch_shallow.geometry.chart import row_space
from torch_shallow.geometry.highs import linear_program, of_one_variable, solve, tightest
from torch_shallow.geometry.units import lengths_around


def largest_ball(
    a: Float[np.ndarray, "rows inputs"],
    b: Float[np.ndarray, "rows"],
    point: Float[np.ndarray, "inputs"],
    solver: str | None,
) -> tuple[Float[np.ndarray, "inputs"], float]:
    """Centre and radius of a largest ball in `a x <= b`.

    Args:
        a: rows.
        b: right-hand sides.
        point: a point in the polyhedron.
        solver: a name in `cvxpy.installed_solvers()`; HiGHS if None.

    Returns:
        The centre, and the radius that fits there, computed from the rows. Where balls of every size fit: a point, inf.

    Raises:
        TransformError: the solver fails.
    """
    norms = np.linalg.norm(a, axis=1)
    a, b, norms = a[norms > 0.0], b[norms > 0.0], norms[norms > 0.0]
    if len(b) == 0:
        return point, np.inf
    normals = a / norms[:, None]
    slack = (b - a @ point) / norms
    unit = slack.min() if slack.min() > 0.0 else np.abs(slack).max() or 1.0
    # Balls of every size fit if and only if one fits in the cone of directions that never leave the polyhedron.
    step, radius = _solve(normals, np.zeros(len(b)), solver, limit=1.0)
    if radius > 0.5:
        return (point if slack.min() > 0.0 else point + unit * step), np.inf
    # Measured from the point in units of the ball that it has, all numbers are of ordinary size.
    step, _ = _solve(normals, slack / unit, solver)
    centre = point + unit * step
    return centre, max(0.0, float(((b - a @ centre) / norms).min()))


def _solve(
    normals: Float[np.ndarray, "rows inputs"],
    slack: Float[np.ndarray, "rows"],
    solver: str | None,
    limit: float | None = None,
) -> tuple[Float[np.ndarray, "inputs"], float]:
    import cvxpy

    centre, radius = cvxpy.Variable(normals.shape[1]), cvxpy.Variable()
    constraints: list[Any] = [normals @ centre + radius <= slack]
    if limit is not None:
        constraints.append(radius <= limit)
    problem = cvxpy.Problem(cvxpy.Maximize(radius), constraints)
    try:
        problem.solve(solver=solver or "HIGHS")
    except cvxpy.error.SolverError as error:
        raise TransformError(f"solver: {solver or 'HIGHS'} failed to find the largest ball: {error}") from error
    if centre.value is None or radius.value is None or problem.status not in ("optimal", "optimal_inaccurate"):
        raise TransformError(
            f"solver: {solver or 'HIGHS'} ended with status {problem.status!r} for the largest ball; try another of "
            f"{', '.join(cvxpy.installed_solvers())}."
        )
    return centre.value, float(radius.value)


def irredundant(
    a: Float[np.ndarray, "rows inputs"],
    b: Float[np.ndarray, "rows"],
    point: Float[np.ndarray, "inputs"],
    tolerance: float = 1e-9,
) -> Bool[np.ndarray, "rows"]:
    """Which rows of `a x <= b` cannot be left out; of several with one hyperplane, only the first.

    A row is needed for sure if there is a step from the point that only it forbids. From the last row to the first,
    each other row is left out if the others keep its value below its bound.

    Args:
        a: rows, none of them zero.
        b: right-hand sides.
        point: a point in the interior.
        tolerance: how far a half-space must reach beyond the others to be needed, relative to their median distance.

    Raises:
        TransformError: HiGHS does not solve a linear program.
    """
    if not len(b):
        return np.zeros(0, dtype=bool)
    slack = b - a @ point
    a = _in_coordinates(a, lengths_around(a, slack))
    norms = np.linalg.norm(a, axis=1)
    normals, slack = a / norms[:, None], slack / norms
    slack /= np.median(slack)
    sure = seen_first(normals, slack, tolerance)
    needed = ~of_one_variable(normals)
    bounding = np.concatenate(tightest(normals, slack))
    needed[bounding[bounding >= 0]] = True
    rest = np.flatnonzero(needed & ~sure)[::-1]
    if not len(rest):
        return needed
    program = _Program(normals, slack, needed)
    for row in map(int, rest):
        needed[row] = program.reach(row) > slack[row] + tolerance
        if not needed[row]:
            program.move(row, np.inf)
    return needed


def _in_coordinates(
    a: Float[np.ndarray, "rows inputs"], units: Float[np.ndarray, "inputs"]
) -> Float[np.ndarray, "rows coordinates"]:
    """The rows with each input in its unit, and without the directions along which none of them changes.

    Along these, rounding would let a linear program go on for ever.
    """
    used, alone = a.any(axis=0), a[np.count_nonzero(a, axis=1) == 1].any(axis=0)
    if not alone[used].all():  # else there are none
        basis = row_space(a, units)
        if len(basis) < used.sum():
            return (a * units) @ basis.T
    return a * units


def seen_first(
    normals: Float[np.ndarray, "rows inputs"], slack: Float[np.ndarray, "rows"], tolerance: float
) -> Bool[np.ndarray, "rows"]:
    """Rows of `normals step <= slack` for which there is a step that only they forbid: these are needed for sure.

    Looked for along one direction a row, the one that is straight in the metric of Dikin's ellipsoid around the point,
    in which all hyperplanes are about equally far away (Dikin 1967). Any direction would be right, whatever its
    rounding, for what meets it first is what counts; these find nearly all.

    Args:
        normals: unit rows.
        slack: positive; about one.
        tolerance: by how much the step must go beyond the row.
    """
    scaled = normals / slack[:, None]
    values, vectors = np.linalg.eigh(scaled.T @ scaled)
    large = values > values[-1] * 1e-13
    directions = ((scaled @ vectors[:, large]) / values[large]) @ vectors[:, large].T
    speed = normals @ directions.T
    with np.errstate(divide="ignore", over="ignore"):
        times = np.where(speed > 0.0, slack[:, None] / speed, np.inf)
    every = np.arange(len(slack))
    first = times.argmin(axis=0)
    here = times[first, every]
    times[first, every] = np.inf
    # As far as the second one, but no further than the first twice.
    beyond = speed[first, every] * np.minimum(times.min(axis=0), 2.0 * here) - slack[first]
    sure = np.zeros(len(slack), dtype=bool)
    sure[first[np.isfinite(here) & (beyond > tolerance)]] = True
    return sure


class _Program:
    """The linear program over `normals x <= slack`, each time started where the last one ended.

    Of the rows of one input alone, those that are needed are bounds of this input: a box costs nothing.
    """

    def __init__(
        self,
        normals: Float[np.ndarray, "rows inputs"],
        slack: Float[np.ndarray, "rows"],
        needed: Bool[np.ndarray, "rows"],
    ) -> None:
        single, columns = of_one_variable(normals), normals.shape[1]
        oblique = np.flatnonzero(~single)
        self._normals, self._slack = normals, slack
        self._row_of = {int(row): k for k, row in enumerate(oblique)}
        self._lower, self._upper = np.full(columns, -np.inf), np.full(columns, np.inf)
        for row in map(int, np.flatnonzero(single & needed)):
            self._bound(row, float(slack[row]))
        sides, bounds = (-np.inf, slack[oblique]), (self._lower, self._upper)
        options = {"presolve": "off", "primal_feasibility_tolerance": 1e-10}
        self._highs = linear_program(normals[oblique], sides, bounds, options, maximise=True)

    def reach(self, row: int) -> float:
        """The largest value of a row where the others hold, and it itself does up to one more than it should.

        Raises:
            TransformError: HiGHS does not find it.
        """
        self.move(row, self._slack[row] + 1.0)
        status = solve(self._highs, self._normals[row])
        if status:
            raise TransformError(f"solver: HiGHS ended with {status} in a linear program for a facet.")
        x = np.array(self._highs.getSolution().col_value)
        self.move(row, self._slack[row])
        return float(self._normals[row] @ x)

    def move(self, row: int, limit: float) -> None:
        """Let a row reach as far as a limit."""
        if row in self._row_of:
            self._highs.changeRowBounds(self._row_of[row], -np.inf, limit)
            return
        column = self._bound(row, limit)
        self._highs.changeColBounds(column, self._lower[column], self._upper[column])

    def _bound(self, row: int, limit: float) -> int:
        """Note the bound that a row of one input is; returns the input."""
        column = int(self._normals[row].nonzero()[0][0])
        if self._normals[row, column] > 0.0:
            self._upper[column] = limit
        else:
            self._lower[column] = -limit
        return column
