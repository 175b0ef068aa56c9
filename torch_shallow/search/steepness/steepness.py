"""Question about slopes: the greatest norm of all local models, or their greatest slope in one direction."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float

from torch_shallow.bounds.bounding_box import bounding_box
from torch_shallow.domain import Domain
from torch_shallow.program.relu_program import ReLUProgram


@dataclass(frozen=True, eq=False)
class Steepness:
    """The greatest slope of a program over all regions of a domain that have an interior.

    Without a direction, it is the operator norm of the local models, with the same norm on inputs and outputs and
    without inputs that the domain fixes. With a direction, it is the sum of the changes of outputs along it, which may
    be negative, or of their sizes.

    Attributes:
        program: The network.
        domain: The domain; bounded.
        norm: Norm of inputs and outputs: 1, 2 or inf.
        direction: Direction of the change of the input, or None.
        is_signed: Whether a change in a direction counts with its sign.
        floor: Values up to this are of no interest.
        enough: A region of a higher value ends the search.
    """

    program: ReLUProgram
    domain: Domain
    norm: float = 2.0
    direction: Float[np.ndarray, "inputs"] | None = None
    is_signed: bool = True
    floor: float = -np.inf
    enough: float = np.inf

    @cached_property
    def moving(self) -> Bool[np.ndarray, "inputs"]:
        """Mask of the inputs that are not fixed."""
        lower, upper = bounding_box(self.domain, self.program.in_shape)
        moving: np.ndarray = upper > lower
        return moving

    def slopes_at(self, x: Float[np.ndarray, "inputs"]) -> Float[np.ndarray, "outputs moving"]:
        """Return the local model around a point, in the inputs that are not fixed."""
        return self.program.affine_maps(self.program.pattern(x[None])[0])[2][:, self.moving]

    def at(self, x: Float[np.ndarray, "inputs"]) -> float:
        """Return the value at an interior point of a region."""
        return self.of(self.slopes_at(x))

    def of(self, slopes: Float[np.ndarray, "outputs moving"]) -> float:
        """Return the value of a local model."""
        if self.direction is None:
            return operator_norm(slopes, self.norm)
        changes = slopes @ self.direction[self.moving]
        return float(changes.sum() if self.is_signed else np.abs(changes).sum())


def operator_norm(slopes: Float[np.ndarray, "outputs inputs"], norm: float) -> float:
    """Return the operator norm of a matrix, with the same norm on inputs and outputs."""
    if slopes.size == 0:
        return 0.0
    if norm == 2:
        return float(np.linalg.norm(slopes, ord=2))
    return float(np.abs(slopes).sum(axis=0 if norm == 1 else 1).max())


def steepest_direction(slopes: Float[np.ndarray, "outputs inputs"], norm: float) -> Float[np.ndarray, "inputs"]:
    """Return a direction of norm 1 that the matrix stretches most."""
    direction = np.zeros(slopes.shape[1])
    if slopes.size == 0:
        return direction
    if norm == 1:
        direction[np.abs(slopes).sum(axis=0).argmax()] = 1.0
        return direction
    if norm == 2:
        return np.linalg.svd(slopes, full_matrices=False)[2][0]
    row = slopes[np.abs(slopes).sum(axis=1).argmax()]
    return np.where(row < 0.0, -1.0, 1.0)
