"""Fit affine maps to a network on a cell: found at points, improved where they are wrong, then proven."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from jaxtyping import Float

from torch_shallow.approximation.minimax import NearestMap
from torch_shallow.approximation.sampled_cell import SampledCell
from torch_shallow.approximation.worst_points import worst_points
from torch_shallow.bounds.staged import StagedNetwork
from torch_shallow.explain.asking import Asking
from torch_shallow.explain.features import Features
from torch_shallow.program.relu_program import ReLUProgram
from torch_shallow.search.question import Posed

ROUNDS = 20  # rounds of fitting a map, and of searching where it is wrong
ROUGHLY = 0.25  # an error within this share of the least one is enough to tell which cell is worst
TINY = 1e-9  # an error below this share of the values is negligible


@dataclass(frozen=True, eq=False)
class Fit:
    """Hold an affine map on a cell.

    Attributes:
        cell: the cell, whose points include those where the map was found to be wrong.
        maps: coefficients and constant of each output.
        found: the largest error found of each output.
        at: the point with this error.
        bound: a bound on the error of each output; infinite as long as nothing is proven.
        least: the largest error at the points of the map that is nearest there, relative to the weight of its output.
            No affine map on the cell has a smaller error, unless the number of its coefficients is limited.
        lead: where the class matters, the greatest lead found of the network's class where the map has another one.
        lead_at: the point with this lead.
        lead_bound: a bound on this lead.
    """

    cell: SampledCell
    maps: Float[np.ndarray, "outputs homogeneous"]
    found: Float[np.ndarray, "outputs"]
    at: Float[np.ndarray, "outputs inputs"]
    bound: Float[np.ndarray, "outputs"]
    least: float
    lead: float = 0.0
    lead_at: Float[np.ndarray, "inputs"] | None = None
    lead_bound: float = 0.0

    @property
    def is_proven(self) -> bool:
        """Whether its error has a bound."""
        return bool(np.isfinite(self.bound).all()) and self.lead_bound < np.inf


@dataclass(frozen=True, eq=False)
class Fitter:
    """Fit affine maps to a program.

    Attributes:
        program: the program.
        weight: unit of each output, by which errors are divided before they are compared.
        features: the features, in whose units maps have few digits.
        max_terms: largest number of coefficients of a map for each output; all if None.
        precision: allowed distance of an error from the least one, and of a bound from an error, as a share; numbers
            are rounded by a part of this.
    """

    program: ReLUProgram
    weight: Float[np.ndarray, "outputs"]
    features: Features
    max_terms: int | None
    precision: float

    @cached_property
    def _network(self) -> StagedNetwork:
        nothing = np.zeros(self.program.num_inputs)
        return StagedNetwork.of(self.program, nothing, nothing)

    def worst(self, errors: Float[np.ndarray, "outputs"]) -> float:
        """Return the largest error of all outputs, relative to their weights."""
        return float((errors / self.weight).max(initial=0.0))

    def found(self, fit: Fit) -> float:
        """Return the error found of a map, for comparison with the goal."""
        return self.worst(fit.found + fit.cell.slack(fit.maps))

    def proven_of(self, fit: Fit) -> float:
        """Return the proven error of a map, for comparison with the goal."""
        return self.worst(fit.bound)

    def near(self, found: Float[np.ndarray, "cells"]) -> Float[np.ndarray, "cells"]:
        """Return bounds that are near enough to what was found of the cells."""
        return np.full(len(found), (1.0 + self.precision) * found.max())

    def fit(self, cell: SampledCell, goal: float, until: float = np.inf) -> Fit:
        """Find a map with an error below the goal at all points, or one with nearly the least error; nothing is proven.

        Where no map can reach the goal, any map whose error is roughly the least one is enough.

        Args:
            cell: the cell.
            goal: an error that is small enough; infinite for the least error.
            until: time on the monotonic clock from which on the first maps that are found will do.
        """
        d, best = self.program.num_inputs, None
        least, y = 0.0, self.program(cell.x)
        every = np.flatnonzero(cell.upper > cell.lower)
        nearest = [NearestMap(cell.lower, cell.upper, every, v) for v in y.T]
        for _ in range(ROUNDS):
            fitted = [one.fitted(cell.x, v, until=until) for one, v in zip(nearest, y.T, strict=True)]
            if self.max_terms is not None:
                for output, (affine, _) in enumerate(fitted):
                    if np.count_nonzero(affine[:d]) > self.max_terms:
                        sizes = np.abs(affine[:d]) * (cell.upper - cell.lower)
                        terms = np.sort(np.argsort(-sizes, kind="stable")[: self.max_terms])
                        nearest[output] = NearestMap(cell.lower, cell.upper, terms, y[:, output])
                        fitted[output] = nearest[output].fitted(cell.x, y[:, output], until=until)
            least = max(least, self.worst(np.array([deviation for _, deviation in fitted])))
            limits = np.full(len(fitted), 0.0) if np.isinf(goal) else goal * self.weight
            maps = np.array(
                [self._rounded(cell, *one, limit) for one, limit in zip(fitted, limits.tolist(), strict=True)]
            ).reshape(-1, d + 1)
            is_late = time.monotonic() >= until
            more = cell.x[:0] if cell.is_known or is_late else worst_points(self._network, cell, maps, y)
            cell, y = cell.with_points(more), np.concatenate([y, self.program(more)])
            errors = np.abs(y - cell.x @ maps[:, :d].T - maps[:, d])
            found, at = errors.max(axis=0), cell.x[errors.argmax(axis=0)]
            if best is None or self.worst(found) < self.worst(best.found):
                best = Fit(cell, maps, found, at, np.full(len(maps), np.inf), least)
            near = (1.0 + (self.precision if np.isinf(goal) else ROUGHLY)) * least
            enough = near if np.isinf(goal) or least > goal else goal
            if cell.is_known or self.worst(best.found) <= enough or is_late:
                break
        assert best is not None
        return replace(best, cell=cell, least=least)

    def _rounded(
        self, cell: SampledCell, affine: Float[np.ndarray, "homogeneous"], deviation: float, limit: float
    ) -> Float[np.ndarray, "homogeneous"]:
        """Round a map to as few digits as a share of the remaining error allows, in the units of the features."""
        room = 0.25 * (limit - deviation) if limit > deviation else 0.4 * self.precision * deviation
        if not room > 0.0:
            return affine
        scale, mean = self.features.scale, self.features.mean
        half, middle = (cell.upper - cell.lower) / 2, (cell.upper + cell.lower) / 2
        share = room / (2 * (np.count_nonzero(affine[:-1]) + 1))
        steps = np.divide(share, half * np.abs(scale), out=np.zeros_like(half), where=half > 0.0)
        weights = _rounded_to(affine[:-1] / scale, steps)
        constant = affine[-1] + affine[:-1] @ middle - weights @ (middle * scale + mean)
        constant = _rounded_to(np.array([constant]), np.array([share]))[0]
        return np.append(weights * scale, constant + weights @ mean)

    def proven(self, fit: Fit, goal: float, asking: Asking) -> Fit:
        """Return the same map, with a proven bound on its error.

        Args:
            fit: the map.
            goal: an error that is small enough: a bound up to it suffices, and a larger error ends the proof without a
                bound. If it is infinite, the bound is near the largest error.
            asking: the object that searches. If it has no time left, the bound is what is known at once.
        """
        if fit.cell.is_known:
            return self.at_vertices(fit)
        found, at, bound, new = fit.found.copy(), fit.at.copy(), np.zeros(len(fit.found)), []
        sizes = np.abs(self.program(fit.cell.x)).max(axis=0)
        for output in np.argsort(-found / self.weight, kind="stable").tolist():
            for sign in (1.0, -1.0):
                limit = goal * self.weight[output]
                near = max((1.0 + self.precision / 2) * found[output], TINY * sizes[output])
                floor = float(near if np.isinf(limit) else max(limit, found[output]))
                posed = Posed(
                    self._apart(fit, output, sign), fit.cell.domain, floor=floor, enough=max(float(limit), floor)
                )
                answer = asking.ask(posed, number=-1) or asking.glance(posed)
                if answer.x is not None and answer.value > found[output]:
                    found[output], at[output] = answer.value, answer.x
                    new.append(answer.x)
                bound[output] = max(bound[output], found[output], answer.bound)
                if found[output] > limit:
                    bound[:] = np.inf
                    break
            else:
                continue
            break
        cell = fit.cell.with_points(np.array(new).reshape(-1, self.program.num_inputs))
        return replace(fit, cell=cell, found=found, at=at, bound=bound)

    @staticmethod
    def at_vertices(fit: Fit) -> Fit:
        """Return the same map on a known cell, with the bound that its vertices prove."""
        return replace(fit, bound=fit.found + fit.cell.slack(fit.maps))

    def _apart(self, fit: Fit, output: int, sign: float) -> ReLUProgram:
        """Return the program of an output's distance from the map, with a sign."""
        d, program = self.program.num_inputs, self.program
        weight = sign * program.out_weight[output, None]
        weight[0, :d] -= sign * fit.maps[output, :d]
        bias = sign * (program.out_bias[output, None] - fit.maps[output, d])
        return replace(program, out_shape=(1,), out_weight=weight, out_bias=bias)


def _rounded_to(values: Float[np.ndarray, "some"], steps: Float[np.ndarray, "some"]) -> Float[np.ndarray, "some"]:
    """Round values to powers of ten that are at most twice the given steps; unchanged where a step is 0."""
    with np.errstate(divide="ignore"):
        digits = np.where(steps > 0.0, -np.floor(np.log10(2.0 * steps)), np.inf)
    return np.array(
        [round(float(v), int(n)) + 0.0 if n < 300 else v for v, n in zip(values, digits, strict=True)], dtype=np.float64
    )
