"""A domain as seen from one of its points, which is 0."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from torch_shallow.domain import Box, Domain, Polytope

Vector = Float[np.ndarray, "inputs"]


@dataclass(frozen=True, eq=False)
class Surroundings:
    """The points u with `lower <= u <= upper` and `normals @ u <= offsets`: x + u are those of the domain.

    Attributes:
        x: where it is seen from, flattened.
        lower: least value of each entry, at most 0; may be -inf.
        upper: greatest value likewise, at least 0.
        normals: of the half-spaces of a polytope; none of a box.
        offsets: of these half-spaces, at least 0.
    """

    x: Vector
    lower: Vector
    upper: Vector
    normals: Float[np.ndarray, "rows inputs"]
    offsets: Float[np.ndarray, "rows"]

    @classmethod
    def of(cls, domain: Domain, x: Vector, in_shape: tuple[int, ...]) -> Surroundings:
        """A domain as seen from a point, which lies in it up to rounding."""
        lower, upper = np.full(len(x), -np.inf), np.full(len(x), np.inf)
        normals, offsets = np.zeros((0, len(x))), np.zeros(0)
        if isinstance(domain, Box):
            low, high = domain.bounds(in_shape)
            lower, upper = np.minimum(low - x, 0.0), np.maximum(high - x, 0.0)
        else:
            normals, sides = domain.inequalities(in_shape)
            offsets = np.maximum(sides - normals @ x, 0.0)
        return cls(x, lower, upper, normals, offsets)

    @property
    def reach(self) -> float:
        """How far the box goes in the maximum norm; inf of a polytope with half-spaces."""
        return float(np.inf if len(self.offsets) else np.maximum(-self.lower, self.upper).max(initial=0.0))

    def contains(self, u: Float[np.ndarray, "points inputs"]) -> np.ndarray:
        """Which rows lie inside, to the last bit."""
        in_box = ((u >= self.lower) & (u <= self.upper)).all(axis=1)
        inside: np.ndarray = in_box & (u @ self.normals.T <= self.offsets).all(axis=1)
        return inside

    def clipped(self, u: Float[np.ndarray, "*points inputs"]) -> Float[np.ndarray, "*points inputs"]:
        """Put into the box."""
        return np.clip(u, self.lower, self.upper)

    def within(self, radius: float) -> Surroundings:
        """What is at most so far away in the maximum norm, without half-spaces that do not matter there."""
        lower, upper = np.maximum(self.lower, -radius), np.minimum(self.upper, radius)
        farthest = np.maximum(self.normals * lower, self.normals * upper).sum(axis=1)
        size = np.abs(self.normals) @ np.maximum(-lower, upper) + self.offsets
        kept = farthest > self.offsets - 1e-12 * size
        return Surroundings(self.x, lower, upper, self.normals[kept], self.offsets[kept])

    def domain(self) -> Domain:
        """The points u."""
        if not len(self.offsets):
            return Box(self.lower, self.upper)
        a, b = Box(self.lower, self.upper).inequalities(self.x.shape)
        return Polytope(np.concatenate([self.normals, a]), np.concatenate([self.offsets, b]))

    def box_of_inputs(self, in_shape: tuple[int, ...]) -> Box:
        """The points x + u, and perhaps more of the box: outwards by rounding."""
        lower, upper = self.x + self.lower, self.x + self.upper
        lower, upper = np.nextafter(lower, -np.inf), np.nextafter(upper, np.inf)
        return Box(lower.reshape(in_shape), upper.reshape(in_shape))
