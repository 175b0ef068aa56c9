"""Questions in an unbounded domain, answered region by region, since relaxations are unbounded there."""

from __future__ import annotations

import os
import time
from concurrent.futures import Executor

import numpy as np
from jaxtyping import Bool, Float

from torch_shallow.errors import TransformError
from torch_shallow.geometry.highs import linear_program, solve
from torch_shallow.geometry.units import row_exponents, typical_lengths
from torch_shallow.search.enumerate import explore_regions
from torch_shallow.search.question import Answer, Posed
from torch_shallow.search.runs.budget import Budget, interruptible
from torch_shallow.search.runs.schedule import INTERRUPTED

TOLERANCE = 1e-7  # how far a linear program may be from its proof, relative to its terms
FAR = 1.0  # how far above the known value a point is sought if the value is unbounded


def answer_by_regions(
    posed: Posed,
    *,
    workers: int | Executor = 1,
    time_limit: float | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    progress: bool = False,
) -> Answer:
    """Find the greatest value of a question, by a linear program in each region; the domain may be unbounded.

    If the value is unbounded, the bound is infinite, and the point is one above `enough` or above all others found. If
    the search stops before all regions have been examined, the bound is infinite too, since nothing is known of the
    rest. The arguments are those of `answer`.

    Raises:
        TransformError: There are too many regions for the memory, or a linear program cannot be settled.
        KeyboardInterrupt: Ctrl-C was pressed before any region was found, or a second time.
    """
    budget = Budget(None, time_limit)
    with interruptible() as interrupted:
        partition, reason, _ = explore_regions(
            posed.program,
            posed.domain,
            time_limit=time_limit,
            workers=workers,
            checkpoint=checkpoint,
            progress=progress,
        )
        best, bound, x = posed.floor, -np.inf, None
        if reason:
            bound, points = np.inf, partition.chart.lift(partition.points)
            values = posed.value(points)
            if values.max(initial=-np.inf) > best:
                best, x = float(values.max()), points[values.argmax()]
        for pattern in partition.patterns() if not reason else ():
            reason = INTERRUPTED if interrupted() else budget.exceeded(0)
            if reason:
                bound = np.inf
                break
            in_region = _greatest(posed, pattern, max(best, posed.enough) if np.isfinite(posed.enough) else best)
            if in_region is None:
                continue
            point, most = in_region
            bound, value = max(bound, most), float(posed.value(point[None])[0])
            if value > best:
                best, x = value, point
            if x is not None and best > posed.enough:
                bound = np.inf  # nothing is known of the regions not examined
                break
    value = -np.inf if x is None else best
    cells, seconds = partition.num_regions, time.monotonic() - budget.begun
    return Answer(x, value, max(value, bound), cells, seconds, reason)


def _greatest(
    posed: Posed, pattern: Bool[np.ndarray, "neurons"], known: float
) -> tuple[Float[np.ndarray, "inputs"], float] | None:
    """Return a point of a region with the greatest value, and that value; None if none satisfies the constraints."""
    program, goals = posed.program, posed.num_goals
    weights, biases, out_weight, out_bias = program.affine_maps(pattern)
    normals, sides = posed.domain.inequalities(program.in_shape)
    signs = np.where(pattern, 1.0, -1.0)
    # rows @ (x, t) + constants >= 0, with t below all goals
    rows = np.concatenate([signs[:, None] * weights, -normals, out_weight[goals:], out_weight[:goals]])
    constants = np.concatenate([signs * biases, sides, out_bias[goals:] + posed.slack, out_bias[:goals]])
    below = np.append(np.zeros(len(rows) - goals), np.full(goals, -1.0))
    # Typical lengths of the inputs and of t are the units, as solvers drop coefficients far below 1.
    lengths = typical_lengths(np.column_stack([rows, below]), constants)
    rows = np.column_stack([rows, below]) * lengths
    kept = rows.any(axis=1)
    if (constants[~kept] < 0.0).any():
        return None
    rows, constants = rows[kept], constants[kept]
    sizes = row_exponents(rows)
    rows, constants = np.ldexp(rows, -sizes[:, None]), np.ldexp(constants, -sizes)
    cost = np.append(np.zeros(program.num_inputs), 1.0)
    free = np.full(len(cost), np.inf)
    tolerances = {"primal_feasibility_tolerance": 1e-9, "dual_feasibility_tolerance": 1e-9}
    for presolve in ("off", "on"):  # where one setting fails, the other may succeed
        highs = linear_program(
            rows, (-constants, np.inf), (-free, free), tolerances | {"presolve": presolve}, maximise=True
        )
        status = solve(highs, cost)
        if status in ("", "Infeasible", "Unbounded"):
            break
    if status == "Infeasible":
        return None
    if status:  # unbounded or unknown: go as far as asked for
        top = free.copy()
        top[-1] = ((known if np.isfinite(known) else 0.0) + FAR) / lengths[-1]
        options = tolerances | {"presolve": "off"}
        highs = linear_program(rows, (-constants, np.inf), (-free, top), options, maximise=True)
        if solve(highs, cost):
            raise TransformError(_unsettled(status))
        solution = np.array(highs.getSolution().col_value)
        return (solution * lengths)[:-1], np.inf
    solution = np.array(highs.getSolution().col_value)
    dual = np.abs(np.array(highs.getSolution().row_dual))
    missing, terms = np.abs(cost + dual @ rows), cost + dual @ np.abs(rows)
    size = 1.0 + np.abs(solution).max() + dual @ np.abs(constants)
    most = float(dual @ constants + missing @ np.abs(solution))
    is_met = (rows @ solution + constants).min() >= -TOLERANCE * size
    if not is_met or abs(most - solution[-1]) > TOLERANCE * size or (missing > TOLERANCE * terms).any():
        raise TransformError(_unsettled("not proven"))
    solution, most = solution * lengths, most * float(lengths[-1])
    return solution[:-1], most


def _unsettled(status: str) -> str:
    return (
        f"domain: a linear program over a region could not be settled ({status}); give a bounded Box, or scale the "
        "inputs to ordinary sizes."
    )
