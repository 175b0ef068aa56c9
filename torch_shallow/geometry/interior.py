"""Points in the interior of a polyhedron: the centre of a largest ball, and points next to a boundary point."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from torch_shallow.errors import TransformError
from torch_shallow.geometry.highs import linear_program, solve


def largest_ball(
    a: Float[np.ndarray, "rows inputs"],
    b: Float[np.ndarray, "rows"],
    point: Float[np.ndarray, "inputs"],
    solver: str | None,
) -> tuple[Float[np.ndarray, "inputs"], float]:
    """Return centre and radius of a largest ball in `a x <= b`.

    Args:
        a: Rows.
        b: Right-hand sides.
        point: Point in the polyhedron.
        solver: A name in `cvxpy.installed_solvers()`; HiGHS by default.

    Returns:
        The centre, and the radius that fits there, computed from the rows; any point and inf if balls of every size
        fit.

    Raises:
        TransformError: The solver fails.
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
    # Measured from the point in units of its ball's radius, all numbers are of ordinary size.
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
        raise TransformError(
            f"solver: {solver or 'HIGHS'} failed to find the largest ball ({error}); try another of "
            f"{', '.join(cvxpy.installed_solvers())}."
        ) from error
    if centre.value is None or radius.value is None or problem.status not in ("optimal", "optimal_inaccurate"):
        raise TransformError(
            f"solver: {solver or 'HIGHS'} ended with status {problem.status!r} for the largest ball; try another of "
            f"{', '.join(cvxpy.installed_solvers())}."
        )
    return centre.value, float(radius.value)


def step_inside(
    a: Float[np.ndarray, "rows inputs"], slack: Float[np.ndarray, "rows"], touching: Bool[np.ndarray, "rows"]
) -> tuple[Float[np.ndarray, "inputs"], float]:
    """Return a step from a point of `a x <= b` into the interior: half of the longest one in its direction.

    The interior, if there is one, can be reached from each boundary point, so only the rows that touch the point decide
    whether there is one: a linear program with few rows finds the direction that leaves them fastest.

    Args:
        a: Rows, none of them zero.
        slack: Slack of each row at the point, `b - a x`.
        touching: Mask of the rows on which the point lies, up to rounding; at least one.

    Returns:
        The step, and the least distance that it moves away from the hyperplanes of the touching rows. If that is not
        positive, there is no interior next to the point.

    Raises:
        TransformError: HiGHS does not solve the program.
    """
    norms = np.linalg.norm(a, axis=1)
    normals, distances = a / norms[:, None], slack / norms
    columns = a.shape[1]
    rows = np.column_stack([normals[touching], np.ones(np.count_nonzero(touching))])
    bounds = np.append(np.full(columns, -1.0), 0.0), np.ones(columns + 1)
    highs = linear_program(rows, (-np.inf, 0.0), bounds, {"primal_feasibility_tolerance": 1e-10}, maximise=True)
    status = solve(highs, np.append(np.zeros(columns), 1.0))
    if status:
        raise TransformError(
            f"solver: HiGHS ended with status {status!r} on a linear program for a point of a region; scale the inputs "
            "to ordinary sizes."
        )
    direction = np.array(highs.getSolution().col_value)[:columns]
    speed = normals @ direction
    ahead = ~touching & (speed > 0.0)
    length = 0.5 * float((distances[ahead] / speed[ahead]).min(initial=2.0))
    return length * direction, length * float(-speed[touching].max())
