"""Question of a search for the nearest point."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from jaxtyping import Float

from torch_shallow.program.relu_program import ReLUProgram
from torch_shallow.search.nearest.whole_numbers import NumberCuts, WholeNumbers

Vector = Float[np.ndarray, "inputs"]


@dataclass(frozen=True, eq=False)
class Sought:
    """The point nearest to 0 in a box where all outputs of one of several alternatives, and all constraints, are >= 0.

    The program's outputs are those of the first alternative, of the second one, and so on, then the constraints. The
    value of a point is its negated distance, so the nearest point is the best.

    Attributes:
        program: The network, as a function of the step u from the point in question.
        lower: Lower bounds of u; may be -inf.
        upper: Upper bounds of u; may be inf.
        alternatives: Number of outputs of each alternative.
        norm: Norm of the distance: 1, 2 or infinity.
        reach: Distance from which on points are of no interest; finite.
        near: A point nearer than this ends the search.
        slack: Slack of each output: it counts as met down to minus this, where rounding decides the side of a point.
        whole: The entries that must be whole numbers, if any.
    """

    program: ReLUProgram
    lower: Vector
    upper: Vector
    alternatives: tuple[int, ...]
    norm: float
    reach: float
    near: float
    slack: Float[np.ndarray, "outputs"]
    whole: WholeNumbers | None = None

    @cached_property
    def cuts(self) -> NumberCuts | None:
        """Cuts of cells between whole numbers, as neurons after those of the program."""
        if self.whole is None:
            return None
        low, high = np.maximum(self.lower, -self.reach), np.minimum(self.upper, self.reach)
        return NumberCuts.of(self.whole, low, high, self.program.num_neurons)

    @property
    def floor(self) -> float:
        """Values up to this are of no interest."""
        return -self.reach

    @property
    def enough(self) -> float:
        """A point of a higher value ends the search."""
        return -self.near

    @property
    def num_goals(self) -> int:
        """Number of outputs of the first alternative."""
        return self.alternatives[0]

    @cached_property
    def single(self) -> tuple[Sought, ...]:
        """The questions of each single alternative."""
        constraints = np.arange(sum(self.alternatives), self.program.num_outputs)
        starts = np.concatenate([[0], np.cumsum(self.alternatives)]).astype(np.int64)
        found = []
        for start, count in zip(starts.tolist(), self.alternatives, strict=False):
            rows = np.concatenate([np.arange(start, start + count), constraints])
            weight, bias = self.program.out_weight[rows], self.program.out_bias[rows]
            program = replace(self.program, out_shape=(len(rows),), out_weight=weight, out_bias=bias)
            found.append(replace(self, program=program, alternatives=(count,), slack=self.slack[rows]))
        return tuple(found)

    def value(self, u: Float[np.ndarray, "points inputs"]) -> Float[np.ndarray, "points"]:
        """Return the negated distance of each row; -inf where no alternative is reached or a constraint is violated."""
        kept = self.program(u) >= -self.slack
        goals = sum(self.alternatives)
        cuts = np.cumsum(self.alternatives)[:-1]
        reached = np.any([part.all(axis=1) for part in np.split(kept[:, :goals], cuts, axis=1)], axis=0)
        inside = ((u >= self.lower) & (u <= self.upper)).all(axis=1)
        distance = np.linalg.norm(u, self.norm, axis=1)
        if self.whole is not None:
            inside &= self.whole.contains(u)
        value: np.ndarray = np.where(reached & inside & kept[:, goals:].all(axis=1), -distance, -np.inf)
        return value
