"""Search for the nearest counterfactual along a single feature, exactly, from piece to piece of a line."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float

from torch_shallow.explain.counterfactuals.branch_and_bound import FoundPoint, Nearest
from torch_shallow.explain.counterfactuals.constraints import Changes
from torch_shallow.explain.counterfactuals.deep_search import DeepSearch
from torch_shallow.explain.function import outputs_at
from torch_shallow.explain.segments.deep_segments import deep_breakpoints
from torch_shallow.functions.deep_function import DeepFunction

ROUNDING = 1e-12  # rounding error of a distance, relative to it


def is_a_line(problem: Changes) -> bool:
    """Whether a problem has a single entry, which may take any value between two finite ends."""
    return len(problem.free) == 1 and not problem.whole.any() and bool(np.isfinite([*_ends(problem)]).all())


class LineSearch(DeepSearch):
    """A search along one entry, in both directions, for the first point that reaches the target.

    Outputs are linear between neighbouring breakpoints. Complete up to the rounding of breakpoints.
    """

    def run(self) -> Nearest:
        """Find the nearest counterfactual, and a lower bound on the distance of all others."""
        low, high = _ends(self.problem)
        sides = [(max(low, 0.0), high), (min(high, 0.0), low)]
        reached = [self._first(begin, end) for begin, end in sides if low <= begin <= high and low <= end <= high]
        change = min((d for d in reached if d is not None), key=abs, default=None)
        if change is None:
            return Nearest(None, -1, np.inf, "")
        found = FoundPoint(abs(change), np.array([change]), self.problem.lower, self.problem.upper)
        return Nearest(found, -1, abs(change) * (1.0 - ROUNDING), "")

    def _first(self, begin: float, end: float) -> float | None:
        """The first change between two ends at which the target is reached; None if there is none."""
        function, target = self.balls.vantage.searched.function, self.problem.target
        assert isinstance(function, DeepFunction)  # a shallow network has a search of its own
        ends = np.stack([self._input(begin), self._input(end)])
        first, last = torch.from_numpy(ends).to(function.device).split(1)
        t, _ = deep_breakpoints(function, first, last).t.sort()
        outputs: np.ndarray = outputs_at(function, torch.lerp(first, last, t[:, None])).cpu().numpy()
        excess, share = outputs @ target.rows.T + target.offsets, t.cpu().numpy()
        before, after = excess[:-1], excess[1:]
        crossing = before / np.where(before == after, 1.0, before - after)
        least = np.where(before <= 0.0, 0.0, np.where(after <= 0.0, crossing, np.inf)).max(axis=1)
        most = np.where(after <= 0.0, 1.0, np.where(before <= 0.0, crossing, -np.inf)).min(axis=1)
        pieces = np.flatnonzero(least <= most)
        if not len(pieces):
            return begin if (excess[0] <= 0.0).all() else None  # the line may be a single point
        at = pieces[0]
        reached = share[at] + least[at] * (share[at + 1] - share[at])
        return float(begin + reached * (end - begin))

    def _input(self, change: float) -> Float[np.ndarray, "inputs"]:
        x = self.problem.x.copy()
        x[self.problem.free] += change / self.problem.weights
        return x


def _ends(problem: Changes) -> tuple[float, float]:
    """Ends between which the single entry may lie: its range, intersected with the linear constraints."""
    slopes = problem.rows[:, 0]
    with np.errstate(divide="ignore", invalid="ignore"):
        limits = problem.limits / slopes
    high = min([float(problem.upper[0]), *limits[slopes > 0.0].tolist()])
    low = max([float(problem.lower[0]), *limits[slopes < 0.0].tolist()])
    return low, high
