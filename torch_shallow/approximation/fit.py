"""Affine maps near a network on a cell: found at points, improved where they are found to be wrong, then proven."""

from __future__ import annotations

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

ROUNDS = 20  # of fitting a map, and of looking where it is wrong
ROUGHLY = 0.25  # an error this near to the least one, as a share, tells which cell is worst
TINY = 1e-9  # an error of this share of the values is as good as none


@dataclass(frozen=True, eq=False)
class Fit:
    """An affine map on a cell.

    Attributes:
        cell: the cell, whose points include those where the map was found to be wrong.
        maps: coefficients and constant of each output.
        found: the largest error found of each output.
        at: where it is.
        bound: the largest error that there can be of each output; infinite as long as nothing is proven.
        least: what the nearest map at the points has as its largest error, relative to the weight of its output. No
            affine map on the cell has less, if no limit is set to the number of its coefficients.
        lead: where the class matters, the greatest lead found of the network's class where the map has another one.
        lead_at: where that is.
        lead_bound: the greatest lead that there can be.
        lead: where the class matters, the greatest lead found of the network's class where the map has another one.
        lead_at: where that is.
        lead_bound: the greatest lead that there can be.
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
    """Fits affine maps to a program.

    Attributes:
        program: the program.
        weight: of the outputs: errors are divided by it, and then compared.
        features: maps have few digits in their units.
        max_terms: how many coefficients a map may have for each output; None: all.
        precision: how far an error may be from the least one, and a bound from an error, as a share; numbers are
            rounded by a part of this.
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
        """The largest of the errors of all outputs, relative to their weights."""
        return float((errors / self.weight).max(initial=0.0))

    def found(self, fit: Fit) -> float:
        """What was found of a map, to be compared with the goal."""
        return self.worst(fit.found + fit.cell.slack(fit.maps))

    def proven_of(self, fit: Fit) -> float:
        """What is proven of a map, to be compared with the goal."""
        return self.worst(fit.bound)

    def near(self, found: Float[np.ndarray, "cells"]) -> Float[np.ndarray, "cells"]:
        """Where something was found of cells, bounds up to which are near enough to it."""
        return np.full(len(found), (1.0 + self.precision) * found.max())

    def fit(self, cell: SampledCell, goal: float) -> Fit:
        """A map with an error below the goal, as it seems, or one with nearly the least error; nothing is proven.

        Where it becomes known that no map reaches the goal, a map is enough whose error is roughly the least one.

        Args:
            cell: the cell.
            goal: the error that is small enough; infinite for the least error.
        """
        d, best = self.program.num_inputs, None
        least, y = 0.0, self.program(cell.x)
        every = np.flatnonzero(cell.upper > cell.lower)
        nearest = [NearestMap(cell.lower, cell.upper, every, v) for v in y.T]
        for _ in range(ROUNDS):
            fitted = [one.fitted(cell.x, v) for one, v in zip(nearest, y.T, strict=True)]
            if self.max_terms is not None:
                for output, (affine, _) in enumerate(fitted):
                    if np.count_nonzero(affine[:d]) > self.max_terms:
                        sizes = np.abs(affine[:d]) * (cell.upper - cell.lower)
                        terms = np.sort(np.argsort(-sizes, kind="stable")[: self.max_terms])
                        nearest[output] = NearestMap(cell.lower, cell.upper, terms, y[:, output])
                        fitted[output] = nearest[output].fitted(cell.x, y[:, output])
            least = max(least, self.worst(np.array([deviation for _, deviation in fitted])))
            limits = np.full(len(fitted), 0.0) if np.isinf(goal) else goal * self.weight
            maps = np.array(
                [self._rounded(cell, *one, limit) for one, limit in zip(fitted, limits.tolist(), strict=True)]
            ).reshape(-1, d + 1)
            more = cell.x[:0] if cell.is_known else worst_points(self._network, cell, maps, y)
            cell, y = cell.with_points(more), np.concatenate([y, self.program(more)])
            errors = np.abs(y - cell.x @ maps[:, :d].T - maps[:, d])
            found, at = errors.max(axis=0), cell.x[errors.argmax(axis=0)]
            if best is None or self.worst(found) < self.worst(best.found):
                best = Fit(cell, maps, found, at, np.full(len(maps), np.inf), least)
            near = (1.0 + (self.precision if np.isinf(goal) else ROUGHLY)) * least
            enough = near if np.isinf(goal) or least > goal else goal
            if cell.is_known or self.worst(best.found) <= enough:
                break
        assert best is not None
        return replace(best, cell=cell, least=least)

    def _rounded(
        self, cell: SampledCell, affine: Float[np.ndarray, "homogeneous"], deviation: float, limit: float
    ) -> Float[np.ndarray, "homogeneous"]:
        """With as few digits as a share of the error that is left allows, in the units of the features."""
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
        """The same map, with a proven bound of its error.

        Args:
            fit: the map.
            goal: an error that is small enough: a bound up to it is enough, and a larger error that is found ends it
                without a bound. If it is infinite, the bound is near the largest error.
            asking: searches. Where it has no time left, the bound is what is known at once.
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
        """The same map on a cell that is known, with the bound that the vertices there prove."""
        return replace(fit, bound=fit.found + fit.cell.slack(fit.maps))

    def _apart(self, fit: Fit, output: int, sign: float) -> ReLUProgram:
        """The program of an output's distance from the map, with a sign."""
        d, program = self.program.num_inputs, self.program
        weight = sign * program.out_weight[output, None]
        weight[0, :d] -= sign * fit.maps[output, :d]
        bias = sign * (program.out_bias[output, None] - fit.maps[output, d])
        return replace(program, out_shape=(1,), out_weight=weight, out_bias=bias)


def _rounded_to(values: Float[np.ndarray, "some"], steps: Float[np.ndarray, "some"]) -> Float[np.ndarray, "some"]:
    """Values rounded to powers of ten that are at most twice some steps; as they are where a step is 0."""
    with np.errstate(divide="ignore"):
        digits = np.where(steps > 0.0, -np.floor(np.log10(2.0 * steps)), np.inf)
    return np.array(
        [round(float(v), int(n)) + 0.0 if n < 300 else v for v, n in zip(values, digits, strict=True)], dtype=np.float64
    )
