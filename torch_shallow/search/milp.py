"""A question as one mixed-integer linear program, for any solver of cvxpy that takes integers."""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
from jaxtyping import Float

from torch_shallow.bounds.relaxation import relaxed_bounds
from torch_shallow.domain import Box
from torch_shallow.errors import TransformError
from torch_shallow.geometry.highs import linear_program, solve
from torch_shallow.search.mixed_integer import encode
from torch_shallow.search.question import Answer, Posed

FEASIBILITY = 1e-9  # asked of solvers; it is also how far inside of the constraints a point is looked for
NUDGES = (0.0, FEASIBILITY, 100.0 * FEASIBILITY)


def answer_by_milp(posed: Posed, *, solver: str | None = None, time_limit: float | None = None) -> Answer:
    """Find the greatest value of a question by a mixed-integer program.

    The bounds of the neurons, and with them the program itself, are proven: see `relaxed_bounds`. So is the value of the
    answer: the point is put into the network. The bound is what the solver says (`mip_dual_bound` of HiGHS), or, where
    that is less, what the relaxation proves: so it is right as far as the solver is to be believed, with its tolerances,
    which are asked for as small as they can be. Where a solver other than HiGHS stops early, only the relaxation's bound
    is left.

    `posed.floor` becomes a constraint. Of the solvers, HiGHS alone ends at once at a point above `posed.enough`; others
    go on to the end.

    Args:
        posed: the question.
        solver: a name in `cvxpy.installed_solvers()` of a solver that takes integers; HiGHS if None.
        time_limit: of the solver, in seconds: what is then known is the answer.

    Raises:
        TransformError: the solver is not installed, or fails, or does not take a time limit.
    """
    begun = time.monotonic()
    name = "HIGHS" if solver is None else check_takes_integers(solver)
    bounds = relaxed_bounds(posed.program, posed.domain)
    proven = float(bounds.out_upper[: posed.num_goals].min())
    impossible = (bounds.out_upper[posed.num_goals :] < 0.0).any()
    if impossible or proven <= posed.floor:
        return Answer(None, -np.inf, -np.inf if impossible else proven, 0, time.monotonic() - begun)
    cvxpy: Any = import_module("cvxpy")  # typed only in part
    x, least = cvxpy.Variable(posed.program.num_inputs), cvxpy.Variable()
    output, constraints = encode(posed.program, posed.domain, bounds, x)
    constraints += [least <= output[: posed.num_goals], least <= proven]
    if posed.num_goals < posed.program.num_outputs:
        constraints.append(output[posed.num_goals :] >= 0.0)
    if np.isfinite(posed.floor):
        constraints.append(least >= posed.floor)
    problem = cvxpy.Problem(cvxpy.Maximize(least), constraints)
    said = _solve(problem, name, time_limit, posed.enough)
    found, value = None, -np.inf
    if x.value is not None and np.isfinite(x.value).all():
        for point in _points(posed, np.asarray(x.value)):
            if (there := float(posed.value(point[None])[0])) > value:
                found, value = point, there
    reason = "" if value > posed.enough else said.reason
    return Answer(found, value, min(proven, max(said.bound, posed.floor)), said.cells, time.monotonic() - begun, reason)


@dataclass(frozen=True)
class _Said:
    """What a solver says: an upper bound of the optimum, nodes that it opened, and why it stopped early."""

    bound: float
    cells: int
    reason: str


def check_takes_integers(solver: str) -> str:
    """The name of a solver as cvxpy writes it.

    Raises:
        TransformError: it is not installed, or does not take integers.
    """
    cvxpy: Any = import_module("cvxpy")
    solvers: Any = import_module("cvxpy.reductions.solvers.defines")
    suitable = [name for name in cvxpy.installed_solvers() if name in solvers.INSTALLED_MI_SOLVERS]
    if not isinstance(solver, str) or solver.upper() not in suitable:
        raise TransformError(
            "solver: expected None (HiGHS) or a solver of mixed-integer programs that cvxpy finds installed, which are "
            f"{', '.join(suitable)}; found {solver!r}."
        )
    return solver.upper()


def _solve(problem: Any, name: str, time_limit: float | None, enough: float) -> _Said:
    """Let a solver at a problem; what it has found is then in the variables.

    Raises:
        TransformError: it fails, without a time limit, or does not take one.
    """
    cvxpy: Any = import_module("cvxpy")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "may be inaccurate": the point is checked
        try:
            problem.solve(solver=name, **_settings(name, time_limit, enough))
        except cvxpy.error.SolverError as error:
            if time_limit is not None:  # that is how some end that have found nothing by then
                return _Said(np.inf, 0, f"{name} stopped: {error}")
            raise TransformError(f"solver: {name} failed on the mixed-integer program: {error}") from error
    status, statistics = str(problem.status), problem.solver_stats
    info = statistics.extra_stats if statistics is not None else None
    nodes = max(0, int(getattr(info, "mip_node_count", 0)))
    if status == cvxpy.INFEASIBLE:
        return _Said(-np.inf, nodes, "")
    bound = np.inf
    if hasattr(info, "mip_dual_bound") and problem.is_mixed_integer():  # of the minimum of minus the value
        bound = -float(info.mip_dual_bound)
    if status == cvxpy.OPTIMAL:
        value = float(problem.value)
        return _Said(value if bound == np.inf else max(bound, value), nodes, "")
    return _Said(bound, nodes, f"{name} stopped: {status}")


def _settings(name: str, time_limit: float | None, enough: float) -> dict[str, Any]:
    """How a solver is asked for an exact optimum, and to stop.

    Raises:
        TransformError: it is not known how to tell the solver a time limit.
    """
    exact: dict[str, dict[str, Any]] = {
        "HIGHS": {
            "mip_rel_gap": 0.0,
            "mip_abs_gap": FEASIBILITY,
            "mip_feasibility_tolerance": FEASIBILITY,
            "primal_feasibility_tolerance": FEASIBILITY,
            "dual_feasibility_tolerance": FEASIBILITY,
        },
        "SCIPY": {"scipy_options": {"mip_rel_gap": 0.0}},
        "SCIP": {"scip_params": {"numerics/feastol": FEASIBILITY, "limits/gap": 0.0}},
        "GUROBI": {"MIPGap": 0.0, "FeasibilityTol": FEASIBILITY, "IntFeasTol": FEASIBILITY},
    }
    settings = exact.get(name, {})
    if name == "HIGHS" and np.isfinite(enough):
        settings["objective_target"] = -float(np.nextafter(enough, np.inf))
    if time_limit is None:
        return settings
    limits: dict[str, tuple[str, str]] = {
        "HIGHS": ("", "time_limit"),
        "SCIPY": ("scipy_options", "time_limit"),
        "SCIP": ("scip_params", "limits/time"),
        "GUROBI": ("", "TimeLimit"),
        "CBC": ("", "maximumSeconds"),
        "XPRESS": ("", "maxtime"),
    }
    if name not in limits:
        raise TransformError(
            f"time_limit: expected a solver of {', '.join(limits)}, of which it is known how to limit the time, found "
            f"{name}; leave the limit out, or name another solver."
        )
    group, option = limits[name]
    (settings.setdefault(group, {}) if group else settings)[option] = float(time_limit)
    return settings


def _points(posed: Posed, x: Float[np.ndarray, "inputs"]) -> list[Float[np.ndarray, "inputs"]]:
    """A solver's point, put into a box, and the best of its region, also a little inside of the constraints.

    The solver's point may lie outside by its tolerances. In the activation region of a point all is affine, so that a
    linear program finds the best point there.
    """
    program, domain = posed.program, posed.domain
    if isinstance(domain, Box):
        low, high = domain.bounds(program.in_shape)
        rows, sides = np.zeros((0, len(x))), np.zeros(0)
        x = np.clip(x, low, high)
    else:
        low, high = np.full((2, len(x)), -np.inf) * [[1.0], [-1.0]]
        rows, sides = domain.inequalities(program.in_shape)
    pattern = program.pattern(x[None])[0]
    weights, biases, out_weight, out_bias = program.affine_maps(pattern)
    signs = np.where(pattern, 1.0, -1.0)
    goals, kept = out_weight[: posed.num_goals], out_weight[posed.num_goals :]
    points = [x]
    for nudge in NUDGES:  # variables are the input and the least goal
        inside = nudge * np.maximum(np.abs(kept).sum(axis=1), np.abs(out_bias[posed.num_goals :]))
        normals = np.block(
            [
                [signs[:, None] * weights, np.zeros((len(signs), 1))],
                [-rows, np.zeros((len(rows), 1))],
                [kept, np.zeros((len(kept), 1))],
                [goals, -np.ones((len(goals), 1))],
            ]
        )
        least = np.concatenate(
            [-signs * biases, -sides, inside - out_bias[posed.num_goals :], -out_bias[: posed.num_goals]]
        )
        options = {"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10, "threads": 1}
        bounds = np.append(low, -np.inf), np.append(high, np.inf)
        highs = linear_program(normals, (least, np.inf), bounds, options)
        if solve(highs, np.append(np.zeros(len(x)), -1.0)) == "":
            point = np.array(highs.getSolution().col_value)[:-1]
            points.append(np.clip(point, low, high))
        if len(kept) == 0:
            break
    return points
