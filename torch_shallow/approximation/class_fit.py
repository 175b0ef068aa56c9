"""Fit affine maps with the class of a network on a cell: found at points, then proven."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from torch_shallow.approximation.class_maps import ClassMaps
from torch_shallow.approximation.classes import Classes
from torch_shallow.approximation.fit import Fit, Fitter
from torch_shallow.approximation.sampled_cell import SampledCell
from torch_shallow.approximation.worst_points import worst_points
from torch_shallow.explain.asking import Asking

ROUNDS = 6  # rounds of fitting maps, and of searching where they are wrong
FINER = 6  # number of times that another digit is added if rounded numbers give other classes
OWN_MAPS = 24  # number of the network's own maps near the boundary that are tried


@dataclass(frozen=True, eq=False)
class ClassFitter(Fitter):
    """Fit affine maps that have the network's class wherever that leads by more than a margin.

    The quantity compared with the goal, which is the margin, is the greatest lead of the network where a map has
    another class. If the distance of values is limited, too, its excess counts in the same way.

    Attributes, beside those of `Fitter`:
        classes: the classes of the program. margin: the goal. max_error: the largest distance allowed; infinite if any
        is allowed.
    """

    classes: Classes
    margin: float
    max_error: float

    def found(self, fit: Fit) -> float:
        """Return the greatest lead found, or the excess of the distance."""
        return max(fit.lead, super().found(fit) - self.max_error + self.margin)

    def proven_of(self, fit: Fit) -> float:
        """Return the proven bound of the greatest lead, or of the excess of the distance."""
        return max(fit.lead_bound, super().proven_of(fit) - self.max_error + self.margin)

    def near(self, found: Float[np.ndarray, "cells"]) -> Float[np.ndarray, "cells"]:
        """Return the goal where it seems to be reached, and elsewhere a bound near the worst of all."""
        return np.where(found <= self.margin, self.margin, super().near(found))

    def fit(self, cell: SampledCell, goal: float, until: float = np.inf) -> Fit:
        """Find maps with the class of the network at all points, as near to it as possible; nothing is proven."""
        del goal  # there is only one goal
        y = self.program(cell.x)
        cell = cell.with_points(self.classes.boundary(cell.x, y, self.margin))
        y = np.concatenate([y, self.program(cell.x[len(y) :])])
        room = self.max_error * float(self.weight.min())
        fitted = ClassMaps(self.classes, self.weight, self.margin, room)
        for _ in range(ROUNDS):
            fit = self._best(cell, y, *fitted.fitted(cell, y, self._terms(cell, y, fitted)))
            if np.isinf(self.max_error) or self.found(fit) > self.margin or time.monotonic() >= until:
                break
            more = worst_points(self._network, cell, fit.maps, y)
            cell, y = cell.with_points(more), np.concatenate([y, self.program(more)])
            fit = self._judged(cell, y, fit.maps)
            if self.found(fit) <= self.margin:
                break
        return fit

    def _terms(self, cell: SampledCell, y: np.ndarray, fitted: ClassMaps) -> list[np.ndarray]:
        """Return the inputs that may have a coefficient, for each output."""
        every = np.flatnonzero(cell.upper > cell.lower)
        terms = [every] * self.program.num_outputs
        if self.max_terms is None or len(every) <= self.max_terms:
            return terms
        maps, _ = fitted.fitted(cell, y, terms)
        sizes = np.abs(maps[:, :-1]) * (cell.upper - cell.lower)
        return [np.sort(np.argsort(-size, kind="stable")[: self.max_terms]) for size in sizes]

    def _judged(self, cell: SampledCell, y: np.ndarray, maps: Float[np.ndarray, "outputs homogeneous"]) -> Fit:
        """Evaluate maps at the points of a cell."""
        errors = np.abs(y - cell.x @ maps[:, :-1].T - maps[:, -1])
        leads = self.classes.apart(cell.x, y, maps)
        worst, unknown = int(leads.argmax()), np.full(len(maps), np.inf)
        at, lead = cell.x[errors.argmax(axis=0)], float(leads[worst])
        return Fit(cell, maps, errors.max(axis=0), at, unknown, 0.0, lead, cell.x[worst], np.inf)

    def _best(self, cell: SampledCell, y: np.ndarray, maps: np.ndarray, is_met: bool) -> Fit:
        """Return the fitted maps, with few digits if these suffice, or maps of the network itself."""
        exact = self._judged(cell, y, maps)
        is_boundary_met = self.margin <= self.classes.none and self._is_divided(y)  # so all digits are needed
        if is_boundary_met or not is_met:
            own = [] if self.max_terms is not None or self.margin > self.classes.none else self._own_maps(cell, y)
            return min([*own, exact], key=lambda fit: max(self.margin, self.found(fit)))
        for share in 0.1 ** np.arange(FINER):
            limits = np.minimum(exact.found * (1.0 + share), np.maximum(self.max_error * self.weight, exact.found))
            rounded = [self._rounded(cell, *one) for one in zip(maps, exact.found, limits, strict=True)]
            fit = self._judged(cell, y, np.array(rounded))
            if self.found(fit) <= self.margin:
                return fit
        return exact

    def _is_divided(self, y: np.ndarray) -> bool:
        """Tell whether there are several classes."""
        return len(np.unique(self.classes.leads(y)[0])) > 1

    def _own_maps(self, cell: SampledCell, y: np.ndarray) -> list[Fit]:
        """Return the network's own maps near the boundary of two classes, which meet it exactly, nearest first."""
        _, leads = self.classes.leads(y)
        nearest = cell.x[np.argsort(leads, kind="stable")[: 8 * OWN_MAPS]]
        patterns = np.unique(self.program.pattern(nearest), axis=0)
        found = []
        for pattern in patterns[:OWN_MAPS]:
            *_, weight, bias = self.program.affine_maps(pattern)
            found.append(self._judged(cell, y, np.column_stack([weight, bias])))
        return sorted(found, key=lambda fit: self.worst(fit.found))

    def proven(self, fit: Fit, goal: float, asking: Asking) -> Fit:
        """Return the same maps, with proven bounds on the lead where classes differ, and on the distance of values."""
        lead, at, bound = fit.lead, fit.lead_at, 0.0
        limit = goal if np.isfinite(goal) else max((1.0 + self.precision / 2) * lead, self.classes.none)
        floor = max(limit - self.classes.none / 2, lead)
        for posed in self.classes.questions(fit.cell.domain, fit.maps, floor, max(goal, floor)):
            answer = asking.ask(posed, number=-1) or asking.glance(posed)
            if answer.x is not None and answer.value > lead:
                lead, at = answer.value, answer.x
            bound = max(bound, lead, answer.bound)
            if lead > goal:
                cell = fit.cell.with_points(np.array(at)[None])
                return replace(fit, cell=cell, lead=lead, lead_at=at)
        limit = np.inf if np.isinf(self.max_error) else goal + self.max_error - self.margin
        return replace(super().proven(fit, limit, asking), lead=lead, lead_at=at, lead_bound=bound)
