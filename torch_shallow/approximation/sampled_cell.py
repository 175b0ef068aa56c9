"""Represent a cell of a domain, cut out by half-spaces, with points of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float

from torch_shallow.bounds.bounding_box import bounding_box
from torch_shallow.domain import Box, Domain, Polytope

POINTS = 1500  # number of points of each cell
AT_BOUNDS = 2 / 3  # share of the entries of new points that lie at a bound where there are many; none of two or fewer
WALKS, FIRST_WALKS = 8, 64  # steps along random lines from a known point to a new one, and from the first point


@dataclass(frozen=True, eq=False)
class SampledCell:
    """Hold a part of a bounded domain.

    Attributes:
        lower: lower bounds of a box, including cuts at single inputs.
        upper: upper bounds of the same box.
        rows: all other half-spaces: `rows @ (x, 1) >= 0`.
        x: points of the cell.
    """

    lower: Float[np.ndarray, "inputs"]
    upper: Float[np.ndarray, "inputs"]
    rows: Float[np.ndarray, "rows homogeneous"]
    x: Float[np.ndarray, "points inputs"]

    @classmethod
    def of(
        cls, domain: Domain, in_shape: tuple[int, ...], inner: Float[np.ndarray, "inputs"], rng: np.random.Generator
    ) -> SampledCell:
        """Return the whole of a domain as a cell.

        Args:
            domain: the domain.
            in_shape: shape of one input.
            inner: a point in its interior.
            rng: random generator for the points.

        Raises:
            TransformError: the domain is not bounded, or empty.
        """
        lower, upper = bounding_box(domain, in_shape)
        rows = np.zeros((0, len(lower) + 1))
        if not isinstance(domain, Box):
            a, b = domain.inequalities(in_shape)
            rows = np.column_stack([-a, b])
        return cls(lower, upper, rows, inner[None]).filled(rng, FIRST_WALKS)

    @cached_property
    def domain(self) -> Domain:
        """The closed cell as a domain; always the same object, by which a search recognises earlier results."""
        if not len(self.rows):
            return Box(self.lower, self.upper)
        eye = np.eye(len(self.lower))
        a = np.concatenate([-self.rows[:, :-1], eye, -eye])
        return Polytope(a, np.concatenate([self.rows[:, -1], self.upper, -self.lower]))

    @property
    def is_known(self) -> bool:
        """Whether any affine map is farthest from the network at one of the points."""
        return False

    def slack(self, maps: Float[np.ndarray, "outputs homogeneous"]) -> Float[np.ndarray, "outputs"]:
        """Return how far rounding may change the distance from affine maps at the points, if only these matter."""
        return np.zeros(len(maps))

    @property
    def inner(self) -> Float[np.ndarray, "inputs"]:
        """A point in the interior."""
        return self.x.mean(axis=0) if len(self.rows) else self.lower + (self.upper - self.lower) / 2

    def active(self, cuts: Float[np.ndarray, "cuts homogeneous"]) -> Bool[np.ndarray, "points cuts"]:
        """Tell which points are on the active sides of the given cuts."""
        return self.x @ cuts[:, :-1].T + cuts[:, -1] > 0.0

    def side(self, cut: Float[np.ndarray, "homogeneous"], active: bool, rng: np.random.Generator) -> SampledCell:
        """Return the part on one side of a cut, with new points besides the known ones.

        Args:
            cut: the cut, positive on the active side.
            active: whether to return the active side.
            rng: random generator for the points.
        """
        kept = self.x[self.active(cut[None])[:, 0] == active]
        return SampledCell(*self.bounds_of(cut, active), kept).filled(rng)

    def bounds_of(
        self, cut: Float[np.ndarray, "homogeneous"], active: bool
    ) -> tuple[Float[np.ndarray, "inputs"], Float[np.ndarray, "inputs"], Float[np.ndarray, "rows homogeneous"]]:
        """Return the box and the other half-spaces of the part on one side of a cut."""
        lower, upper, rows = self.lower.copy(), self.upper.copy(), self.rows
        inputs = np.flatnonzero(cut[:-1])
        if len(inputs) == 1:
            k = int(inputs[0])
            at = -cut[-1] / cut[k]
            if (cut[k] > 0.0) == active:
                lower[k] = max(lower[k], at)
            else:
                upper[k] = min(upper[k], at)
        else:
            rows = np.concatenate([rows, (cut if active else -cut)[None]])
        return lower, upper, rows

    def filled(self, rng: np.random.Generator, walks: int = WALKS) -> SampledCell:
        """Add points until there are enough: in a box and on its faces, or by steps on random lines."""
        missing = POINTS - len(self.x)
        if missing <= 0:
            return self
        width = self.upper - self.lower
        if not len(self.rows):
            share, bound = rng.random((missing, len(width))), rng.random((missing, len(width)))
            # Uniform points of many inputs are far from corners, where an affine map is worst.
            at_bounds = AT_BOUNDS * max(0.0, 1.0 - 2.0 / max(1, int(np.count_nonzero(width))))
            share[bound < at_bounds] = 0.0
            share[bound < at_bounds / 2] = 1.0
            new = self.lower + share * width
        else:
            new = self.x[rng.integers(len(self.x), size=missing)]
            a, b = self.domain.inequalities((len(width),))
            for _ in range(walks):
                direction = rng.standard_normal(new.shape) * width
                speed, room = direction @ a.T, np.maximum(b - new @ a.T, 0.0)
                times = np.divide(room, speed, out=np.full_like(speed, np.inf), where=speed != 0.0)
                ahead = np.where(speed > 0.0, times, np.inf).min(axis=1)
                behind = np.where(speed < 0.0, times, -np.inf).max(axis=1)
                new = new + (behind + rng.random(missing) * (ahead - behind))[:, None] * direction
        return self.with_points(np.clip(new, self.lower, self.upper))

    def for_cuts(self, rng: np.random.Generator) -> SampledCell:
        """Return the cell with points for choosing a cut."""
        return self.filled(rng)

    def with_points(self, x: Float[np.ndarray, "some inputs"]) -> SampledCell:
        """Append points, keeping the same domain."""
        more = replace(self, x=np.concatenate([self.x, x]))
        more.__dict__["domain"] = self.domain
        return more
