"""How far a point is from 0, as goals of a question: minus the distance in a norm, or a proven bound of that."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from torch_shallow.program.relu_program import ReLUProgram, Stage

ROUNDING = 1e-15  # of a sum of tangents, for each of them


@dataclass(frozen=True, eq=False)
class DistanceGoals:
    """Affine functions of an input u and of ReLUs of it, whose least is at least minus the size of u.

    The ReLUs are convex and pull the least down, so that their relaxation is tight: a search never branches on them.

    Attributes:
        relus: weights of the inputs in each ReLU.
        relu_biases: of each ReLU.
        of_inputs: weights of the inputs in each goal.
        of_relus: weights of the ReLUs in each goal.
        biases: of each goal.
    """

    relus: Float[np.ndarray, "relus inputs"]
    relu_biases: Float[np.ndarray, "relus"]
    of_inputs: Float[np.ndarray, "goals inputs"]
    of_relus: Float[np.ndarray, "goals relus"]
    biases: Float[np.ndarray, "goals"]

    def __len__(self) -> int:
        return len(self.biases)

    def ahead_of(self, program: ReLUProgram) -> ReLUProgram:
        """A program with the goals ahead of its own outputs, and their ReLUs behind its own."""
        d, m, n = program.num_inputs, len(self.relu_biases), program.num_neurons
        stages = program.stages
        if m:
            stages = (*stages, Stage("distance", np.pad(self.relus, ((0, 0), (0, n))), self.relu_biases))
        goals = np.concatenate([self.of_inputs, np.zeros((len(self), n)), self.of_relus], axis=1)
        outputs = np.pad(program.out_weight, ((0, 0), (0, m)))
        return replace(
            program,
            in_shape=(d,),
            out_shape=(len(self) + program.num_outputs,),
            stages=stages,
            out_weight=np.concatenate([goals, outputs]),
            out_bias=np.concatenate([self.biases, program.out_bias]),
            whole=None,
        )


def greatest_entry(dimension: int) -> DistanceGoals:
    """Minus the maximum norm, exactly: the least of -u_i and u_i."""
    eye = np.eye(dimension)
    of_inputs = np.concatenate([-eye, eye])
    return DistanceGoals(
        np.zeros((0, dimension)), np.zeros(0), of_inputs, np.zeros((2 * dimension, 0)), np.zeros(2 * dimension)
    )


def sum_of_entries(dimension: int) -> DistanceGoals:
    """Minus the L1 norm, exactly: |u_i| = 2 relu(u_i) - u_i."""
    ones = np.ones((1, dimension))
    return DistanceGoals(np.eye(dimension), np.zeros(dimension), ones, -2.0 * ones, np.zeros(1))


@dataclass(eq=False)
class EuclideanBound:
    """A bound -b of minus the square of the L2 norm over a length R: with |u| >= t, it is |u|^2 / R >= 2 t - R.

    Two kinds of tangents give it: of the square of each entry, added up over all entries, each u_i^2 being at least
    2 t u_i - t^2 for any t; and of the norm itself, |u| being at least n u for any unit vector n. Both are exact where
    they touch.

    Attributes:
        radius: the length R: at distance R, both are R where they touch.
        directions: unit vectors n.
        touching: for each entry, values t at which the square has a tangent; none if entries are not added up.
    """

    radius: float
    directions: list[Float[np.ndarray, "inputs"]]
    touching: list[list[float]]

    def goals(self) -> DistanceGoals:
        """Minus the bound."""
        normals, d = np.stack(self.directions), len(self.directions[0])
        of_inputs, biases = -2.0 * normals, np.full(len(normals), self.radius)
        if not self.touching:
            return DistanceGoals(np.zeros((0, d)), np.zeros(0), of_inputs, np.zeros((len(normals), 0)), biases)
        relus, relu_biases, slopes = list[np.ndarray](), list[float](), list[float]()
        linear, constant = np.zeros(d), 0.0
        for i, entry in enumerate(self.touching):
            t = np.unique(entry)
            linear[i], constant = -2.0 * t[0], constant + t[0] ** 2
            for one, next_one in itertools.pairwise(t):
                relus.append(np.eye(d)[i])
                relu_biases.append(-(one + next_one) / 2)
                slopes.append(-2.0 * (next_one - one))
        of_relus = np.zeros((1 + len(normals), len(slopes)))
        of_relus[0] = np.array(slopes) / self.radius
        return DistanceGoals(
            np.array(relus).reshape(-1, d),
            np.array(relu_biases),
            np.concatenate([linear[None] / self.radius, of_inputs]),
            of_relus,
            np.append(constant / self.radius, biases),
        )

    def distance(self, bound: float) -> float:
        """How far all points are of which minus the bound is at most so much, less rounding of the tangents."""
        count = sum(map(len, self.touching)) + len(self.directions[0])
        return float(np.sqrt(max(0.0, -bound - ROUNDING * count * self.radius) * self.radius))
