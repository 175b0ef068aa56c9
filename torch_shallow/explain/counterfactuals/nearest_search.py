"""Search for the nearest counterfactual over all regions of a shallow network."""

from __future__ import annotations

from contextlib import suppress
from importlib import import_module
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from torch_shallow.errors import TransformError
from torch_shallow.explain.asking import Asking
from torch_shallow.explain.counterfactuals import near_to_far as walk
from torch_shallow.explain.counterfactuals.branch_and_bound import (
    FoundPoint,
    Nearest,
    Projection,
    Solve,
    Vector,
    nearest_whole,
)
from torch_shallow.explain.counterfactuals.constraints import Changes
from torch_shallow.functions import TreeFunction
from torch_shallow.geometry.dual_simplex import Simplex
from torch_shallow.geometry.nearest_point import BEYOND, NEAREST, UNSETTLED, linear_program, nearest, quadratic

ROUNDING = 2.3e-16
DUAL = {1.0: np.inf, 2.0: 2.0, np.inf: 1.0}
MAP_VALUES = 1 << 22  # entries of local models that are processed in one block: 32 MB
MOST_LEAVES = 256  # regions whose programs are solved in one block
FAR = 1e9  # multiple of the input's length that stands for infinity where there is no limit
ROUNDS = ("left out by target", "left out by cell", "cells opened", "nearest point known")


def nearest_by_cvxpy(
    rows: Float[np.ndarray, "rows dimension"],
    limits: Float[np.ndarray, "rows"],
    lower: Float[np.ndarray, "dimension"],
    upper: Float[np.ndarray, "dimension"],
    norm: float,
    solver: str,
) -> tuple[float, Float[np.ndarray, "dimension"] | None]:
    """Find the nearest point to 0 by CVXPY, with a lower bound on its distance that does not rely on the solver.

    The point is None if there is none.

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
        raise TransformError(
            f"solver: expected one that can solve the programs of regions, found that {solver} ends as "
            f"{problem.status}; choose another of cvxpy.installed_solvers()."
        )
    return bound_of(np.asarray(meets.dual_value), a, b, norm), None


def bound_of(
    multipliers: Float[np.ndarray, "rows"],
    a: Float[np.ndarray, "rows dimension"],
    b: Float[np.ndarray, "rows"],
    norm: float,
) -> float:
    """Lower bound on the distance from 0 of all points with `a @ d <= b`, by any multipliers: that of their sum."""
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
            f"solver: expected one that can solve the programs of regions, found that {solver} fails: {error}; choose "
            "another of cvxpy.installed_solvers()."
        ) from error


class NearestSearch:
    """Best-first search: cells by a proven bound on their distance, and a program for each region that remains.

    Args:
        shallow: a complete network.
        problem: the constraints and the target.
        tolerance: relative improvement of the distance below which cells are discarded.
        solver: CVXPY solver for the programs of regions; compiled code if None.
        asking: the run that knows how much time is left.
    """

    def __init__(
        self, shallow: TreeFunction, problem: Changes, tolerance: float, solver: str | None, asking: Asking
    ) -> None:
        self.asking, self.reason = asking, ""
        self.function, self.problem, self.tolerance, self.solver = shallow, problem, tolerance, solver
        partition, layer = shallow.tree, shallow.half_spaces
        normals = layer.normals if layer.projection is None else layer.normals @ layer.projection
        rows, offsets = problem.pull_back(normals.detach().cpu().numpy(), layer.offsets.detach().cpu().numpy())
        used = shallow.half_space_of().cpu().numpy()
        self.cuts = walk.Cuts(
            np.ascontiguousarray(partition.children),
            np.ascontiguousarray(partition.parents[0]),
            np.ascontiguousarray(rows[used]),
            np.ascontiguousarray(offsets[used]),
            np.zeros(len(used)),
            self._target_bounds(),
        )
        walk.spread(self.cuts)
        self.extra, dimension = len(problem.rows), len(problem.free)
        self.capacity = self.extra + shallow.indicator.depth + len(problem.target.rows)
        self.work = quadratic(dimension, self.capacity)
        self.work.rows[: self.extra], self.work.rhs[: self.extra] = problem.rows, problem.limits
        self.tallies, self.programs = np.zeros(walk.NUM_TALLIES, dtype=np.int64), 0

    @property
    def tally(self) -> dict[str, int]:
        """Effort of the search."""
        cells = dict(zip(ROUNDS, self.tallies.tolist(), strict=True))
        return {"regions": self.function.num_regions, **cells, "programs of regions": self.programs}

    def run(self) -> Nearest:
        """Find the nearest counterfactual, and a lower bound on the distance of all others."""
        problem = self.problem
        if self.solver is not None:
            return self._by_solver()
        size = np.abs(problem.x[problem.free] * problem.weights)
        ends = np.concatenate([problem.lower, problem.upper])
        length = max(1.0, size.max(initial=0.0), np.abs(ends[np.isfinite(ends)]).max(initial=0.0))
        nearest = self._walk(2.0, FAR * length, None, -1)
        if problem.norm == 2.0:
            return nearest
        if nearest.found is None:
            return Nearest(None, -1, nearest.bound / self._shrink(problem.norm), nearest.reason)
        found = nearest.found._replace(distance=float(np.linalg.norm(nearest.found.point, problem.norm)))
        if found.distance == 0.0:
            return Nearest(found, nearest.region, 0.0)
        if nearest.reason:
            return Nearest(found, nearest.region, nearest.bound / self._shrink(problem.norm), nearest.reason)
        return self._walk(problem.norm, found.distance, found, nearest.region)

    def goals(
        self, regions: Int[np.ndarray, "some"]
    ) -> tuple[Float[np.ndarray, "some goals dimension"], Float[np.ndarray, "some goals"]]:
        """The target in some regions, as `rows @ d <= limits`."""
        weight, bias = self.function.map_arrays(np.asarray(regions, dtype=np.int64))
        target = self.problem.target
        rows, offsets = self.problem.pull_back(target.rows @ weight, bias @ target.rows.T + target.offsets)
        return rows, -offsets

    def rows_of(self, region: int) -> tuple[np.ndarray, np.ndarray]:
        """All half-spaces of a region, followed by those of the target."""
        goals, limits = self.goals(np.array([region]))
        count = walk.write_path(self.work, self.extra, self.function.tree.parents[1][region], self.cuts)
        return np.concatenate([self.work.rows[:count], goals[0]]), np.concatenate([self.work.rhs[:count], limits[0]])

    def inner(self, near: Nearest, share: float, sizes: Vector, cells: bool) -> Vector | None:
        """The nearest point that stays inside the target, in the box of the point found.

        It stays inside by a share of the terms of each half-space, to which each entry adds those in `sizes`; with
        `cells`, it stays inside the region by the same share.
        """
        if near.found is None:
            return None
        rows, limits = self.rows_of(near.region)
        margin = share * (np.abs(limits) + np.abs(rows) @ (sizes + np.abs(near.found.point)))
        margin[: self.extra if cells else len(rows) - len(self.problem.target.rows)] = 0.0
        simplex = linear_program(len(self.problem.free), self.capacity, self.problem.norm)
        self.work.rows[: len(rows)], self.work.rhs[: len(rows)] = rows, limits - margin
        box, cutoff = (near.found.lower, near.found.upper), 2.0 * near.found.distance + float(sizes.max(initial=1.0))
        status = nearest(self.work, simplex, self.problem.norm, len(rows), *box, cutoff)
        return self.work.point.copy() if status == NEAREST else None

    def _cutoff(self, best: float) -> float:
        return best * (1.0 - self.tolerance)

    def _target_bounds(self) -> Float[np.ndarray, "regions"]:
        """Euclidean distance of the target's half-space in each region.

        It serves for all norms: L1 distances are larger, and the searches in other norms start with the Euclidean one.
        """
        problem, bounds = self.problem, np.zeros(self.function.num_regions)
        step = max(1, MAP_VALUES // (len(problem.x) * max(1, self.function.num_outputs)))
        for start in range(0, len(bounds), step):
            rows, limits = self.goals(np.arange(start, min(start + step, len(bounds))))
            # An input that may not move in the direction of the target does not count.
            helps = np.where(rows > 0.0, problem.lower < 0.0, problem.upper > 0.0) * rows
            size = np.linalg.norm(helps, axis=-1)
            with np.errstate(divide="ignore", invalid="ignore"):
                least = np.where(rows > 0.0, rows * problem.lower, np.where(rows < 0.0, rows * problem.upper, 0.0)).sum(
                    -1
                )
                apart = (1.0 - 1e-12) * -limits / size
            terms = np.abs(rows) @ (np.abs(problem.x[problem.free] * problem.weights)) + np.abs(limits)
            bound = np.where(limits < 0.0, np.where(size > 0.0, apart, np.inf), 0.0)
            none = least > limits + 1e-12 * (terms + np.abs(np.where(np.isfinite(least), least, 0.0)))
            bounds[start : start + len(rows)] = np.where(none, np.inf, np.maximum(bound, 0.0)).max(axis=1)
        return bounds

    def _walk(self, norm: float, best: float, found: FoundPoint | None, region: int) -> Nearest:
        problem, work = self.problem, self.work
        simplex = linear_program(len(problem.free), self.capacity, norm)
        self.cuts.of_regions[:] /= self._shrink(norm)
        self.cuts.by_target[:] /= self._shrink(norm)
        cells = walk.frontier(len(problem.free), 1024, 0 if self.function.tree.num_cuts else -1, 0.0)
        floor, room, bound = np.array([np.inf]), 1, np.inf
        while True:
            leaves = np.zeros(room, dtype=np.int64)
            box = (problem.lower, problem.upper)
            status, number = walk.advance(
                cells, self.cuts, work, simplex, norm, self.extra, *box, self._cutoff(best), leaves, self.tallies, floor
            )
            leaves = leaves[:number]
            if number:
                self.programs += number
                regions = ~cells.children[leaves]
                goals, limits = self.goals(regions)
                results = np.zeros((number, 2 + len(problem.free)))
                walk.solve_leaves(
                    cells,
                    self.cuts,
                    work,
                    simplex,
                    norm,
                    self.extra,
                    *box,
                    self._cutoff(best),
                    leaves,
                    np.ascontiguousarray(goals),
                    limits,
                    results,
                )
                for result, one in zip(results, regions.tolist(), strict=True):
                    if result[0] == BEYOND or result[1] >= self._cutoff(best):
                        bound = min(bound, float(result[1]))
                        continue
                    solve = self._solver_of(one, norm, simplex)
                    answer = Projection(float(result[1]), result[2:].copy())
                    if result[0] != NEAREST:
                        answer = solve(problem.lower, problem.upper, self._cutoff(best))
                        answer = answer._replace(bound=max(answer.bound, float(result[1])))
                    left, more = nearest_whole(problem, solve, answer, norm, self._cutoff, best)
                    bound = min(bound, left)
                    if more is not None:
                        best, found, region = more.distance, more, one
            elif status == walk.DONE:
                break
            if status == walk.NEED_ROOM:
                cells = walk.with_more_room(cells)
            room = min(2 * room, MOST_LEAVES)
            self.reason = self.asking.no_time_left()
            if self.reason and cells.counts[0]:
                bound = min(bound, float(cells.bounds[cells.heap[0]]))
                break
        bound = min(bound, float(floor[0]))
        return Nearest(found, region, bound if found is None else min(bound, best), self.reason)

    def _shrink(self, norm: float) -> float:
        """Divisor that turns a Euclidean bound into a bound in another norm."""
        return float(np.sqrt(max(1, len(self.problem.free)))) if norm == np.inf else 1.0

    def _solver_of(self, region: int, norm: float, simplex: Simplex | None) -> Solve:
        rows, limits = self.rows_of(region)

        def solve(lower: Vector, upper: Vector, cutoff: float) -> Projection:
            self.programs += 1
            if self.solver is None:
                self.work.rows[: len(rows)], self.work.rhs[: len(rows)] = rows, limits
                status = nearest(self.work, simplex, norm, len(rows), lower, upper, cutoff)
                bound = float(self.work.bound[0])
                if status != UNSETTLED:
                    return Projection(bound, self.work.point.copy() if status == NEAREST else None)
                for name in ("CLARABEL", "HIGHS"):
                    with suppress(TransformError):
                        return Projection(*nearest_by_cvxpy(rows, limits, lower, upper, norm, name))
                return Projection(bound, None)  # undecided, which the bound of the result states
            return Projection(*nearest_by_cvxpy(rows, limits, lower, upper, norm, self.solver))

        return solve

    def _by_solver(self) -> Nearest:
        """The same search with bounds from single half-spaces, and a CVXPY solver for the regions that remain."""
        problem, cuts = self.problem, self.cuts
        shrink = self._shrink(problem.norm)
        bounds = cuts.of_regions / shrink
        above = np.zeros(len(cuts.offsets))
        for cut in range(len(above)):
            for side, child in enumerate(cuts.children[cut].tolist()):
                sign = -1.0 if side else 1.0
                apart = max(0.0, sign * cuts.offsets[cut]) / shrink if cuts.rows[cut].any() else 0.0
                apart = max(above[cut], (1.0 - 1e-12) * apart)
                if child >= 0:
                    above[child] = apart
                else:
                    bounds[~child] = max(bounds[~child], apart)
        best, found, region, bound = np.inf, None, -1, np.inf
        for one in np.argsort(bounds, kind="stable").tolist():
            if bounds[one] >= self._cutoff(best):
                bound = min(bound, float(bounds[one]))
                break
            solve = self._solver_of(one, problem.norm, None)
            answer = solve(problem.lower, problem.upper, self._cutoff(best))
            left, more = nearest_whole(problem, solve, answer, problem.norm, self._cutoff, best)
            bound = min(bound, left)
            if more is not None:
                best, found, region = more.distance, more, one
        return Nearest(found, region, bound if found is None else min(bound, best))
