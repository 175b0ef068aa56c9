"""Choose among the half-spaces by which a cell may be cut the one that leaves the least deviation."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from torch_shallow.approximation.classes import Classes
from torch_shallow.approximation.minimax import NearestMap
from torch_shallow.approximation.sampled_cell import SampledCell
from torch_shallow.explain.features import Features
from torch_shallow.program.relu_program import ReLUProgram

THRESHOLDS = 15  # number of thresholds tried on each feature of a cell
MOST_POINTS = 3000  # largest number of points of a cell that are used
DIGITS = 0.05  # thresholds are rounded by no more than this share of the width of a cell
FEWEST = 0.02  # smallest share of the points of a cell on either side of a cut
LOOKED_AT = 12  # number of best cuts by least squares for which the nearest affine maps of both sides are computed
NEAR = 0.02  # share of the greatest lead of a class; leads that differ by less than this count alike
AT_BOUNDARY = 12  # number of points where classes meet whose neurons are tried
POWER = 8.0  # a side whose deviation is k times the goal costs k to this power


@dataclass(frozen=True, eq=False)
class CandidateCuts:
    """Provide the half-spaces that may be used as cuts.

    Attributes:
        program: the network.
        kind: `"features"` for thresholds on single inputs, `"neurons"` for half-spaces in which a neuron is active, or
            `"both"`.
        features: the features, in whose units thresholds have few digits.
        weight: unit of each output, by which deviations are divided.
        classes: the classes, if the class matters: deviations then count more where the class leads by less.
    """

    program: ReLUProgram
    kind: str
    features: Features
    weight: Float[np.ndarray, "outputs"]
    classes: Classes | None = None

    def best(
        self,
        cell: SampledCell,
        y: Float[np.ndarray, "points outputs"],
        at: Float[np.ndarray, "some inputs"],
        goal: float,
        until: float = np.inf,
    ) -> Float[np.ndarray, "homogeneous"] | None:
        """Return the cut on whose sides affine maps leave the least deviation; None if none has points on both.

        Args:
            cell: the cell.
            y: outputs of the network at its points.
            at: points around which neurons of later stages are tried.
            goal: the error that is allowed; 0 if none is.
            until: time on the monotonic clock from which on the best cut so far will do; least squares give the first.
        """
        if len(y) > MOST_POINTS:
            some = np.random.default_rng(0).choice(len(y), MOST_POINTS, replace=False)
            cell, y = replace(cell, x=cell.x[some]), y[some]
        allowed, fewest = np.ones(len(y)), FEWEST
        if self.classes is not None:
            (_, leads), fewest = self.classes.leads(y), FEWEST / 5  # the boundary may bend in a corner
            allowed, goal = leads + max(goal, NEAR * float(leads.max())), 0.5
            at = np.concatenate([at, cell.x[np.argsort(leads, kind="stable")[: 8 * AT_BOUNDARY : 8]]])
        found = [np.zeros((0, len(cell.lower) + 1))]
        if self.kind != "neurons":
            found.append(self._of_features(cell))
        if self.kind != "features":
            found.append(self._of_neurons(np.concatenate([cell.x.mean(axis=0)[None], at])))
        rows = np.concatenate(found)
        sides = cell.active(rows)
        shares = sides.mean(axis=0)
        usable = (shares >= fewest) & (shares <= 1.0 - fewest)
        rows, sides = rows[usable], sides[:, usable]
        if not len(rows):
            return None
        values = y / self.weight
        costs = self._squares(cell, values, allowed, sides, goal)
        few = np.argsort(costs, kind="stable")[:LOOKED_AT]
        best, least = int(few[0]), np.inf
        for cut in few.tolist():
            cost = self._deviations(cell, values, allowed, sides[:, cut], goal, least, until)
            if cost < least:
                best, least = cut, cost
        return rows[best]

    def _of_features(self, cell: SampledCell) -> Float[np.ndarray, "cuts homogeneous"]:
        d, features, rows = len(cell.lower), self.features, []
        layers = [*(stage.weight for stage in self.program.stages), self.program.out_weight]
        read = np.any([layer[:, :d].any(axis=0) for layer in layers], axis=0)
        for k in np.flatnonzero(read & (cell.upper > cell.lower)).tolist():
            low, high = cell.lower[k], cell.upper[k]
            scale, mean = features.scale[k], features.mean[k]
            digits = int(np.ceil(-np.log10(DIGITS * abs(scale) * (high - low))))
            tried = low + (high - low) * np.arange(1, THRESHOLDS + 1) / (THRESHOLDS + 1)
            values = {round(float(value), digits) for value in tried * scale + mean}
            for threshold in sorted((value - mean) / scale for value in values):
                if low < threshold < high:
                    row = np.zeros(d + 1)
                    row[k], row[-1] = 1.0, -threshold
                    rows.append(row)
        return np.array(rows).reshape(-1, d + 1)

    def _of_neurons(self, points: Float[np.ndarray, "points inputs"]) -> Float[np.ndarray, "cuts homogeneous"]:
        found = []
        for pattern in self.program.pattern(points):
            weights, biases, *_ = self.program.affine_maps(pattern)
            found.append(np.column_stack([weights, biases]))
        rows = np.concatenate(found)
        rows = rows[rows[:, :-1].any(axis=1)]
        if not len(rows):
            return rows
        scaled = rows / np.abs(rows[:, :-1]).max(axis=1, keepdims=True)
        return scaled[np.sort(np.unique(np.round(scaled, 10), axis=0, return_index=True)[1])]

    @staticmethod
    def _squares(
        cell: SampledCell,
        values: Float[np.ndarray, "points outputs"],
        allowed: Float[np.ndarray, "points"],
        sides: np.ndarray,
        goal: float,
    ) -> Float[np.ndarray, "cuts"]:
        """Return the cost that least squares leave on the two sides of each cut, which share their moments."""
        count, width = len(values), np.where(cell.upper > cell.lower, cell.upper - cell.lower, 1.0)
        terms = np.column_stack([2.0 * (cell.x - cell.lower) / width - 1.0, np.ones(count)]) / allowed[:, None]
        values = values / allowed[:, None]
        unknowns = terms.shape[1]
        products = np.einsum("pi,pj->pij", terms, terms).reshape(count, -1)
        moments = np.einsum("pi,po->pio", terms, values).reshape(count, -1)
        of_active = sides.T.astype(np.float64)
        ridge = 1e-9 * count * np.eye(unknowns)
        costs = np.zeros(len(of_active))
        for share, mine in ((of_active, sides), (1.0 - of_active, ~sides)):
            squares = (share @ products).reshape(-1, unknowns, unknowns) + ridge
            maps = np.linalg.solve(squares, (share @ moments).reshape(len(share), unknowns, -1))
            for cut, fitted in enumerate(maps):
                some = mine[:, cut]
                costs[cut] += _cost(float(np.abs(values[some] - terms[some] @ fitted).max()), goal)
        return costs

    @staticmethod
    def _deviations(
        cell: SampledCell,
        values: Float[np.ndarray, "points outputs"],
        allowed: Float[np.ndarray, "points"],
        active: np.ndarray,
        goal: float,
        most: float,
        until: float,
    ) -> float:
        """Return the cost that the nearest affine maps leave on both sides of a cut.

        It is inf if it is at least `most`, or unknown by the end of the time.
        """
        cost, every = 0.0, np.flatnonzero(cell.upper > cell.lower)
        for some in (active, ~active):
            x, y, units = cell.x[some], values[some], allowed[some]
            worst = 0.0
            for v in y.T:
                if time.monotonic() >= until:
                    return np.inf
                nearest = NearestMap(cell.lower, cell.upper, every, v)
                worst = max(worst, nearest.fitted(x, v, units)[1])
                if cost + _cost(worst, goal) >= most:
                    return np.inf
            cost += _cost(worst, goal)
        return cost


def _cost(deviation: float, goal: float) -> float:
    """Estimate the number of regions that a side needs, up to a common factor."""
    return max(deviation, goal) ** POWER
