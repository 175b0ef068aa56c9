"""Search for the nearest counterfactual of a deep network, without its regions, in balls around the input."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from torch_shallow.explain.asking import Asking
from torch_shallow.explain.counterfactuals.branch_and_bound import FoundPoint, Nearest, Vector
from torch_shallow.explain.counterfactuals.constraints import Changes
from torch_shallow.explain.nearby.growing_balls import GrowingBalls
from torch_shallow.explain.nearby.vantage import Vantage
from torch_shallow.explain.searched import Searched
from torch_shallow.search.nearest.descent import descended
from torch_shallow.search.nearest.region_point import RegionPoints
from torch_shallow.search.nearest.whole_numbers import WholeNumbers


class DeepSearch:
    """A search in growing balls, by `GrowingBalls`.

    Args:
        searched: the network.
        problem: the constraints and the target.
        asking: the options and the time limit of the search.
    """

    def __init__(self, searched: Searched, problem: Changes, asking: Asking) -> None:
        self.problem, self.asking = problem, asking
        limits = (problem.lower, problem.upper, problem.rows, problem.limits)
        vantage = Vantage(searched, problem.x, problem.free, problem.weights, *limits, whole_numbers(problem))
        self.balls = GrowingBalls(vantage, [problem.target], problem.norm, asking)

    @property
    def tally(self) -> dict[str, int]:
        """Effort of the search."""
        return {"cells opened": self.asking.cells}

    @property
    def radius(self) -> float:
        """Radius of the largest ball that was searched."""
        return self.balls.radius

    def run(self) -> Nearest:
        """Find the nearest counterfactual, and a lower bound on the distance of all others."""
        balls = self.balls
        if len(self.problem.free):
            balls.run()
        else:
            balls.lower = np.inf
        found = None
        if balls.best is not None:
            u, numbers = balls.best.u, balls.vantage.whole
            box = self.problem.lower, self.problem.upper
            found = FoundPoint(balls.best.distance, u, *(box if numbers is None else numbers.fixed(u, *box)))
        return Nearest(found, -1, balls.lower, balls.reason)

    def inner(self, near: Nearest, share: float, sizes: Vector, cells: bool) -> Vector | None:
        """The nearest point that stays inside the target by a share of the terms of each half-space.

        The search goes from region to region, starting from the point found.
        """
        if near.found is None or cells:
            return None
        found = near.found
        reach = 2.0 * found.distance + float(sizes.max(initial=1.0))
        sought = self.balls.sought(reach)
        program, point = sought.program, found.point
        hidden = np.maximum(program.preactivations(point[None])[0], 0.0)
        terms = np.abs(program.out_weight) @ np.concatenate([np.abs(point) + sizes, hidden]) + np.abs(program.out_bias)
        # Constraints on integers stay and hold up to rounding.
        margin = np.where(np.arange(len(terms)) < sought.num_goals, share * terms, -0.5 * sought.slack)
        program = replace(program, out_bias=program.out_bias - margin)
        slack = np.where(margin > 0.0, 0.5 * margin, sought.slack)
        sought = replace(sought, program=program, slack=slack, lower=found.lower, upper=found.upper, whole=None)
        return descended(RegionPoints(sought), point, reach, self.asking.until)[1]


def whole_numbers(problem: Changes) -> WholeNumbers | None:
    """The changes that have to be integers in units of the features."""
    entries = np.flatnonzero(problem.whole)
    if not len(entries):
        return None
    features, inputs = problem.features, problem.free[entries]
    slopes = features.scale[inputs] / problem.weights[entries]
    return WholeNumbers(entries, slopes, features.scale[inputs] * problem.x[inputs] + features.mean[inputs])
