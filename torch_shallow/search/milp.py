"""A question as one mixed-integer linear program, for any mixed-integer solver of cvxpy."""

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

FEASIBILITY = 1e-9  # accuracy asked of solvers


def answer_by_milp(posed: Posed, *, solver: str | None = None, time_limit: float | None = None) -> Answer:
    """Find the greatest value of a question by a mixed-integer program.

    The bounds of the neurons are proven, and with them the program itself (see `relaxed_bounds`), and so is the value
    of the answer, since the point is evaluated by the network. The bound is what the solver reports (`mip_dual_bound`
    of HiGHS), or what the relaxation proves if that is less; so it is as reliable as the solver with its tolerances,
    which are set as small as possible. If a solver other than HiGHS stops early, only the relaxation's bound is left.

    `posed.floor` becomes a constraint. Only HiGHS stops at once at a point above `posed.enough`; other solvers run to
    the end.

    Args:
        posed: The question.
        solver: A mixed-integer solver, by its name in `cvxpy.installed_solvers()`; HiGHS by default.
        time_limit: Time limit of the solver, in seconds; the answer is then what is known by that time.

    Raises:
        TransformError: The solver is not installed, fails, or does not take a time limit.
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
        problem: The problem; its objective is the value divided by `unit`.
        unit: Unit of the objective.
        x: Variable for the input divided by `size`.
        size: Unit of each input.
    """

    problem: Any
    unit: float
    x: Any
    size: Float[np.ndarray, "inputs"]

    def best_point(self, posed: Posed) -> tuple[Float[np.ndarray, "inputs"] | None, float]:
        """Return the point found by the solver, or a better one nearby, and its value; None and -inf without one."""
        found, value = None, -np.inf
        if self.x.value is not None and np.isfinite(self.x.value).all():
            for point in points_of_region(posed, self.size * np.asarray(self.x.value)):
                if (there := float(posed.value(point[None])[0])) > value:
                    found, value = point, there
        return found, value


def _written(posed: Posed, bounds: RelaxedBounds, proven: float) -> _Written:
    """Write a question for a solver; `proven` is a proven upper bound of its value."""
    cvxpy: Any = import_module("cvxpy")  # cvxpy is only partly typed
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
    """Return a power of two for each output, near its size; the goals share one."""
    sizes = np.maximum(np.abs(bounds.out_lower), np.abs(bounds.out_upper))
    sizes[: posed.num_goals] = sizes[: posed.num_goals].max()
    return np.ldexp(1.0, exponents_of(sizes))


@dataclass(frozen=True)
class _Said:
    """Answer of a solver: an upper bound of the optimum, the number of nodes opened, and why it stopped early."""

    bound: float
    cells: int
    reason: str


def check_takes_integers(solver: str) -> str:
    """Return the name of a mixed-integer solver as cvxpy writes it.

    Raises:
        TransformError: The solver is not installed, or does not take integers.
    """
    cvxpy: Any = import_module("cvxpy")
    solvers: Any = import_module("cvxpy.reductions.solvers.defines")
    suitable = [name for name in cvxpy.installed_solvers() if name in solvers.INSTALLED_MI_SOLVERS]
    if not isinstance(solver, str) or solver.upper() not in suitable:
        raise TransformError(
            "solver: expected None (HiGHS) or one of the mixed-integer solvers that cvxpy finds installed, which are "
            f"{', '.join(suitable)}; found {solver!r}."
        )
    return solver.upper()


def _solve(problem: Any, name: str, time_limit: float | None, enough: float) -> _Said:
    """Run a solver on a problem; the problem's variables then hold what it has found.

    Raises:
        TransformError: The solver fails without a time limit, or does not take one.
    """
    cvxpy: Any = import_module("cvxpy")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "may be inaccurate": the point is checked
        try:
            problem.solve(solver=name, **_settings(name, time_limit, enough))
        except cvxpy.error.SolverError as error:
            if time_limit is not None:  # some solvers end like this if they have found nothing in time
                return _Said(np.inf, 0, f"{name} stopped: {error}")
            raise TransformError(
                f"solver: {name} failed on the mixed-integer program ({error}); name another solver."
            ) from error
    status, statistics = str(problem.status), problem.solver_stats
    info: Any = statistics.extra_stats if statistics is not None else None
    nodes = max(0, int(getattr(info, "mip_node_count", 0)))
    if status == cvxpy.INFEASIBLE:
        return _Said(-np.inf, nodes, "")
    bound = np.inf
    if hasattr(info, "mip_dual_bound") and problem.is_mixed_integer():  # of the minimum of the negated value
        bound = -float(info.mip_dual_bound)
    if status == cvxpy.OPTIMAL:
        value = float(problem.value)
        return _Said(value if bound == np.inf else max(bound, value), nodes, "")
    return _Said(bound, nodes, f"{name} stopped: {status}")


def _settings(name: str, time_limit: float | None, enough: float) -> dict[str, Any]:
    """Return the options that ask a solver for an exact optimum, and tell it when to stop.

    Raises:
        TransformError: The solver's option for a time limit is not known.
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
            f"time_limit: expected one of {', '.join(limits)}, the solvers whose time can be limited, found {name}; "
            "leave the limit out, or name another solver."
        )
    group, option = limits[name]
    (settings.setdefault(group, {}) if group else settings)[option] = float(time_limit)
    return settings
