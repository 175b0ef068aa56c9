"""A network in coordinates in which a given input is 0."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int

from torch_shallow.domain import Box
from torch_shallow.explain.nearby.target_rows import TargetRows
from torch_shallow.explain.searched import Searched, Vector
from torch_shallow.program.relu_program import ReLUProgram
from torch_shallow.search.nearest.whole_numbers import WholeNumbers


@dataclass(frozen=True, eq=False)
class Vantage:
    """A network as a function of the steps u from an input, with `lower <= u <= upper` and `normals @ u <= offsets`.

    Attributes:
        searched: the network.
        x: the input, flattened.
        free: numbers of the inputs that may change, one for each entry of u.
        weights: cost of a change by 1 of each of these inputs: u is the change of the inputs times these weights.
        lower: least value of each entry of u; may be -inf.
        upper: greatest value of each entry of u; may be inf.
        normals: normals of half-spaces that contain u.
        offsets: right-hand sides of these half-spaces.
        whole: entries that have to be integers in some unit; None if there are none.
    """

    searched: Searched
    x: Float[np.ndarray, "inputs"]
    free: Int[np.ndarray, "dimension"]
    weights: Float[np.ndarray, "dimension"]
    lower: Float[np.ndarray, "dimension"]
    upper: Float[np.ndarray, "dimension"]
    normals: Float[np.ndarray, "rows dimension"]
    offsets: Float[np.ndarray, "rows"]
    whole: WholeNumbers | None = None

    @classmethod
    def of_domain(cls, searched: Searched, x: Vector) -> Vantage:
        """The whole domain of a network, seen from a point that lies in it up to rounding."""
        lower, upper = np.full(len(x), -np.inf), np.full(len(x), np.inf)
        normals, offsets = np.zeros((0, len(x))), np.zeros(0)
        domain, in_shape = searched.domain, searched.function.in_shape
        if isinstance(domain, Box):
            low, high = domain.bounds(in_shape)
            lower, upper = np.minimum(low - x, 0.0), np.maximum(high - x, 0.0)
        else:
            normals, sides = domain.inequalities(in_shape)
            offsets = np.maximum(sides - normals @ x, 0.0)
        return cls(searched, x, np.arange(len(x)), np.ones(len(x)), lower, upper, normals, offsets)

    @property
    def length(self) -> float:
        """A length that is typical of the input."""
        return max(1.0, float(np.abs(self.x[self.free] * self.weights).max(initial=0.0)))

    def farthest(self, norm: float) -> float:
        """Upper bound on the distance of all points; may be inf."""
        return float(np.linalg.norm(np.maximum(np.abs(self.lower), np.abs(self.upper)), norm))

    def contains(self, u: Float[np.ndarray, "points dimension"]) -> np.ndarray:
        """Which rows lie inside, to the last bit."""
        in_box = ((u >= self.lower) & (u <= self.upper)).all(axis=1)
        inside: np.ndarray = in_box & (u @ self.normals.T <= self.offsets).all(axis=1)
        return inside if self.whole is None else inside & self.whole.contains(u)

    def clipped(self, u: Float[np.ndarray, "*points dimension"]) -> Float[np.ndarray, "*points dimension"]:
        """Steps clipped to the box."""
        return np.clip(u, self.lower, self.upper)

    def lifted(self, u: Float[np.ndarray, "*points dimension"]) -> Float[np.ndarray, "*points inputs"]:
        """Inputs at some steps."""
        x = np.broadcast_to(self.x, (*u.shape[:-1], len(self.x))).copy()
        x[..., self.free] += u / self.weights
        return x

    def outputs(self, u: Float[np.ndarray, "points dimension"]) -> Float[np.ndarray, "points outputs"]:
        """Outputs at some steps, in float64, computed by the program if it is known, because that is faster."""
        whole = self.searched.whole
        return self.searched.outputs(self.lifted(u)) if whole is None else whole(self.lifted(u))

    def local_map(self, u: Vector) -> tuple[Float[np.ndarray, "outputs dimension"], Float[np.ndarray, "outputs"]]:
        """Weight and bias of the affine function of steps that the network is around a given step."""
        whole, x = self.searched.whole, self.lifted(u)
        weight, bias = self.searched.local_map(x) if whole is None else whole.affine_maps(whole.pattern(x[None])[0])[2:]
        return weight[:, self.free] / self.weights, bias + weight @ self.x

    def program(self, radius: float) -> ReLUProgram:
        """The program as a function of steps, valid for all steps up to a given length."""
        lower, upper = (self.lifted(np.clip(end, -radius, radius)) for end in (self.lower, self.upper))
        in_shape = self.searched.function.in_shape
        box = Box(np.nextafter(lower, -np.inf).reshape(in_shape), np.nextafter(upper, np.inf).reshape(in_shape))
        program = self.searched.program(box)
        count = len(self.x)

        def seen(weight: np.ndarray, bias: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            of_inputs = weight[:, :count]
            moved = of_inputs[:, self.free] / self.weights
            return np.concatenate([moved, weight[:, count:]], axis=1), bias + of_inputs @ self.x

        stages = []
        for stage in program.stages:
            weight, bias = seen(stage.weight, stage.bias)
            stages.append(replace(stage, weight=weight, bias=bias))
        out_weight, out_bias = seen(program.out_weight, program.out_bias)
        return replace(
            program,
            in_shape=(len(self.free),),
            stages=tuple(stages),
            out_weight=out_weight,
            out_bias=out_bias,
            whole=None,
        )

    def asked(self, radius: float, targets: Sequence[TargetRows]) -> ReLUProgram:
        """The program whose outputs are nonnegative where targets are reached, and inside the half-spaces."""
        program = self.program(radius)
        rows = np.concatenate([-target.rows for target in targets])
        offsets = np.concatenate([-target.offsets for target in targets])
        walls = np.pad(-self.normals, ((0, 0), (0, program.num_neurons)))
        return replace(
            program,
            out_shape=(len(rows) + len(walls),),
            out_weight=np.concatenate([rows @ program.out_weight, walls]),
            out_bias=np.concatenate([rows @ program.out_bias + offsets, self.offsets]),
        )
