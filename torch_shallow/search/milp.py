"""A question as one mixed-integer linear program, for any solver of cvxpy that takes integers."""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any

import numpy as np
from jaxtyping import Float

from torch_shallow.bounds.relaxation import RelaxedBounds, relaxed_bounds
from torch_shallow.errors import TransformError
from torch_shallow.geometry.units import exponents_of
from torch_shallow.search.best_of_region import points_of_region
from torch_shallow.search.mixed_integer import encode, input_units
from torch_shallow.search.question import Answer, Posed

FEASIBILITY = 1e-9  # asked of solvers


def answer_by_milp(posed: Posed, *, solver: str | None = None, time_limit: float | None = None) -> Answer:
    """Find the greatest value of a question by a mixed-integer program.

    The bounds of the neurons, and with them the program itself, are proven: see `relaxed_bounds`. So is the value of
    the answer: the point is put into the network. The bound is what the solver says (`mip_dual_bound` of HiGHS), or,
    where that is less, what the relaxation proves: so it is right as far as the solver is to be believed, with its
    tolerances, which are asked for as small as they can be. Where a solver other than HiGHS stops early, only the
    relaxation's bound is left.

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
    written = _written(posed, bounds, proven)
    said = _solve(written.problem, name, time_limit, posed.enough / written.unit)
    x, value = written.best_point(posed)
    bound = min(proven, max(said.bound * written.unit, posed.floor))
    reason = "" if value > posed.enough else said.reason
    return Answer(x, value, bound, said.cells, time.monotonic() - begun, reason)


@dataclass(frozen=True)
class _Written:
    """A question as a problem of cvxpy.

    Attributes:
        problem: its objective is the value in a unit.
        unit: see above.
        x: the variable that is the input.
        size: its unit.
    """

    problem: Any
    unit: float
    x: Any
    size: Float[np.ndarray, "inputs"]

    def best_point(self, posed: Posed) -> tuple[Float[np.ndarray, "inputs"] | None, float]:
        """The point that a solver has found, or a better one near it, and its value; None and -inf if there is none."""
        found, value = None, -np.inf
        if self.x.value is not None and np.isfinite(self.x.value).all():
            for point in points_of_region(posed, self.size * np.asarray(self.x.value)):
                if (there := float(posed.value(point[None])[0])) > value:
                    found, value = point, there
        return found, value


def _written(posed: Posed, bounds: RelaxedBounds, proven: float) -> _Written:
    """A question for a solver, of which it is proven that no value is greater than a bound."""
    cvxpy: Any = import_module("cvxpy")  # typed only in part
    program, goals, units, size = posed.program, posed.num_goals, _output_units(posed, bounds), input_units(bounds)
    scaled = replace(program, out_weight=program.out_weight / units[:, None], out_bias=program.out_bias / units)
    x, least = cvxpy.Variable(len(size), bounds=[bounds.in_lower / size, bounds.in_upper / size]), cvxpy.Variable()
    output, constraints = encode(scaled, posed.domain, bounds, cvxpy.multiply(size, x))
    constraints += [least <= output[:goals], least <= proven / units[0]]
    if goals < program.num_outputs:
        constraints.append(output[goals:] >= 0.0)
    if np.isfinite(posed.floor):
        constraints.append(least >= posed.floor / units[0])
    return _Written(cvxpy.Problem(cvxpy.Maximize(least), constraints), float(units[0]), x, size)


def _output_units(posed: Posed, bounds: RelaxedBounds) -> Float[np.ndarray, "outputs"]:
    """A power of two for each output, of its own size; one for all goals."""
    sizes = np.maximum(np.abs(bounds.out_lower), np.abs(bounds.out_upper))
    sizes[: posed.num_goals] = sizes[: posed.num_goals].max()
    return np.ldexp(1.0, exponents_of(sizes))


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
    info: Any = statistics.extra_stats if statistics is not None else None
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
