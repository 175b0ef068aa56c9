"""A plane in the space of inputs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from torch_shallow.errors import TransformError


@dataclass(frozen=True, eq=False)
class Plane:
    """The plane `origin + s u + t v` of flattened inputs.

    Attributes:
        origin: the input at `(0, 0)`.
        directions: u and v.
    """

    origin: Float[np.ndarray, "inputs"]
    directions: Float[np.ndarray, "2 inputs"]

    @staticmethod
    def all_of_it() -> Plane:
        """The space of two inputs itself."""
        return Plane(np.zeros(2), np.eye(2))

    @staticmethod
    def along(origin: Float[np.ndarray, "inputs"], directions: Float[np.ndarray, "2 inputs"]) -> Plane:
        """The plane through a point along two directions, with coordinates that keep distances.

        `s` goes along the first direction, and `t` at a right angle to it, towards the second.

        Raises:
            TransformError: the directions span no plane.
        """
        size = np.linalg.norm(directions, axis=1, keepdims=True)
        unit = directions / np.where(size > 0.0, size, 1.0)
        rest = unit[1] - (unit[1] @ unit[0]) * unit[0]
        rest = rest - (rest @ unit[0]) * unit[0]  # twice is enough for any angle
        length = float(np.linalg.norm(rest))
        if not (size > 0.0).all() or length <= 1e-9:
            raise TransformError(
                "plane: expected two directions, or three points, that span a plane, found them in one line; take "
                "others, or draw the line with plot.segment."
            )
        return Plane(origin, np.stack([unit[0], rest / length]))

    @staticmethod
    def through(points: Float[np.ndarray, "3 inputs"]) -> Plane:
        """The plane through three points: `(0, 0)` is the first, and the second lies on the axis of s.

        Raises:
            TransformError: they are in one line.
        """
        return Plane.along(points[0], points[1:] - points[0])

    def lift(self, coordinates: Float[np.ndarray, "points 2"]) -> Float[np.ndarray, "points inputs"]:
        """The inputs at some places of the plane."""
        return self.origin + coordinates @ self.directions

    def project(self, x: Float[np.ndarray, "points inputs"]) -> Float[np.ndarray, "points 2"]:
        """The place of the plane that is nearest to each input; of coordinates that keep distances."""
        return (x - self.origin) @ self.directions.T

    def pull_back(
        self, weight: Float[np.ndarray, "*some inputs"], bias: Float[np.ndarray, "*some"]
    ) -> Float[np.ndarray, "*some 3"]:
        """The affine functions `weight x + bias` as `(a, b, c)`: a s + b t + c."""
        return np.concatenate([weight @ self.directions.T, (weight @ self.origin + bias)[..., None]], axis=-1)
