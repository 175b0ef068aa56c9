"""Bounds of all pre-activations on a bounded domain, by affine forms and by linear programs that prove them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from torch_shallow.bounds.bounding_box import bounding_box
from torch_shallow.domain import Box, Domain
from torch_shallow.geometry.highs import linear_program, solve
from torch_shallow.geometry.units import exponents_of, row_exponents
from torch_shallow.program.relu_program import ReLUProgram

MOST_PROGRAMS = 2000  # for one network; the neurons beyond are bounded by affine forms alone
MARGIN = 1e-9  # share of the summed sizes of all terms by which affine forms are widened for rounding


@dataclass(frozen=True, eq=False)
class RelaxedBounds:
    """Bounds of a program's values on a domain; they hold at all of its points.

    Attributes:
        lower: Lower bounds of the pre-activations, through all stages.
        upper: Upper bounds of the pre-activations.
        out_lower: Lower bounds of the outputs.
        out_upper: Upper bounds of the outputs.
        in_lower: Lower bounds of the inputs.
        in_upper: Upper bounds of the inputs.
    """

    lower: Float[np.ndarray, "neurons"]
    upper: Float[np.ndarray, "neurons"]
    out_lower: Float[np.ndarray, "outputs"]
    out_upper: Float[np.ndarray, "outputs"]
    in_lower: Float[np.ndarray, "inputs"]
    in_upper: Float[np.ndarray, "inputs"]

    @property
    def active(self) -> Bool[np.ndarray, "neurons"]:
        """Mask of the neurons that are active at all points of the domain."""
        return self.lower >= 0.0

    @property
    def unstable(self) -> Bool[np.ndarray, "neurons"]:
        """Mask of the neurons that may be active at some points and inactive at others."""
        return (self.lower < 0.0) & (self.upper > 0.0)


def relaxed_bounds(program: ReLUProgram, domain: Domain, *, most_programs: int = MOST_PROGRAMS) -> RelaxedBounds:
    """Bound the pre-activations and outputs of a program on a bounded domain.

    Each value is enclosed by an affine form (see `_AffineForms`). If this leaves the sign of a neuron open, the linear
    program over the triangle relaxations of all earlier neurons (Ehlers, "Formal verification of piece-wise linear
    feed-forward neural networks", 2017) may do better. HiGHS solves it, but only the bound that its multipliers prove
    counts (see `_Relaxation`).

    Args:
        program: The network.
        domain: The domain; bounded.
        most_programs: Greatest number of linear programs solved for neurons; those of the first stages come first.

    Raises:
        TransformError: The domain is not bounded.
    """
    low, high = bounding_box(domain, program.in_shape)
    forms, relaxation = _AffineForms(low, high), _Relaxation(domain, program.in_shape, low, high)
    exact_in_box, left = isinstance(domain, Box), most_programs
    lowers, uppers = [np.zeros(0)], [np.zeros(0)]
    for number, stage in enumerate(program.stages):
        lower, upper = forms.range(stage.weight, stage.bias)
        some = np.flatnonzero((lower < 0.0) & (upper > 0.0))
        if 2 * len(some) <= left and not (number == 0 and exact_in_box):
            left -= 2 * len(some)
            relaxation.tighten(stage.weight, stage.bias, lower, upper, some)
        forms.add(stage.weight, stage.bias, lower, upper)
        relaxation.add(stage.weight, stage.bias, lower, upper)
        lowers.append(lower)
        uppers.append(upper)
    out_lower, out_upper = forms.range(program.out_weight, program.out_bias)
    if 2 * program.num_outputs <= left:
        relaxation.tighten(program.out_weight, program.out_bias, out_lower, out_upper, np.arange(program.num_outputs))
    return RelaxedBounds(np.concatenate(lowers), np.concatenate(uppers), out_lower, out_upper, low, high)


class _AffineForms:
    """Affine forms of all sources: a centre, and coefficients of variables between -1 and 1 (zonotopes).

    An unstable neuron with bounds l < 0 < u is u / (u - l) z plus an error between 0 and -l u / (u - l), which gets its
    own variable (Singh, Gehr, Mirman, Püschel, Vechev, "Fast and effective robustness certification", 2018). Ranges are
    also clipped to those of interval arithmetic.
    """

    def __init__(self, low: Float[np.ndarray, "inputs"], high: Float[np.ndarray, "inputs"]) -> None:
        moving = np.flatnonzero(low < high)
        self.low, self.high = low, high  # of each source
        self.centre = low + (high - low) / 2
        self.coefficients = np.diag((high - low) / 2)[:, moving]
        self.terms = np.maximum(np.abs(low), np.abs(high))  # size of the terms that a source is the sum of

    def range(
        self, weight: Float[np.ndarray, "rows sources"], bias: Float[np.ndarray, "rows"]
    ) -> tuple[Float[np.ndarray, "rows"], Float[np.ndarray, "rows"]]:
        """Bound affine functions of the sources."""
        centre, radius = weight @ self.centre + bias, np.abs(weight @ self.coefficients).sum(axis=1)
        up, down = np.maximum(weight, 0.0), np.minimum(weight, 0.0)
        margin = MARGIN * (np.abs(weight) @ self.terms + np.abs(bias))
        lower = np.maximum(centre - radius, up @ self.low + down @ self.high + bias) - margin
        upper = np.minimum(centre + radius, up @ self.high + down @ self.low + bias) + margin
        return lower, upper

    def add(
        self,
        weight: Float[np.ndarray, "rows sources"],
        bias: Float[np.ndarray, "rows"],
        lower: Float[np.ndarray, "rows"],
        upper: Float[np.ndarray, "rows"],
    ) -> None:
        """Add the ReLUs of rows with these bounds to the sources."""
        unstable = np.flatnonzero((lower < 0.0) & (upper > 0.0))
        slope = (lower >= 0.0).astype(np.float64)
        slope[unstable] = upper[unstable] / (upper[unstable] - lower[unstable])
        half = np.zeros(len(bias))
        half[unstable] = -slope[unstable] * lower[unstable] / 2
        own = np.diag(half)[:, unstable]
        before = np.concatenate([self.coefficients, np.zeros((len(self.coefficients), len(unstable)))], axis=1)
        self.coefficients = np.concatenate(
            [before, np.concatenate([slope[:, None] * (weight @ self.coefficients), own], axis=1)]
        )
        self.terms = np.concatenate([self.terms, slope * (np.abs(weight) @ self.terms + np.abs(bias)) + half])
        self.centre = np.concatenate([self.centre, slope * (weight @ self.centre + bias) + half])
        self.low = np.concatenate([self.low, np.maximum(lower, 0.0)])
        self.high = np.concatenate([self.high, np.maximum(upper, 0.0)])


class _Relaxation:
    """Linear relaxation of the sources: variables between bounds, and rows `least <= rows @ v <= most`.

    Each variable is a source in its own unit, a power of two in which it is at most about 1; rows and bounded functions
    are scaled likewise. Bounds are those that multipliers of the rows prove (weak duality), computed from the rows
    themselves and widened for the rounding of that sum. They are right whatever HiGHS says; their tightness depends on
    HiGHS.
    """

    def __init__(
        self,
        domain: Domain,
        in_shape: tuple[int, ...],
        low: Float[np.ndarray, "inputs"],
        high: Float[np.ndarray, "inputs"],
    ) -> None:
        self.units = exponents_of(np.maximum(np.abs(low), np.abs(high)))
        self.low, self.high = np.ldexp(low, -self.units), np.ldexp(high, -self.units)
        self.rows, self.most = (np.zeros((0, len(low))), np.zeros(0))
        if not isinstance(domain, Box):
            normals, offsets = domain.inequalities(in_shape)
            normals = np.ldexp(normals, self.units)
            sizes = row_exponents(normals)
            self.rows, self.most = np.ldexp(normals, -sizes[:, None]), np.ldexp(offsets, -sizes)
        self.least = np.full(len(self.most), -np.inf)

    def tighten(
        self,
        weight: Float[np.ndarray, "functions sources"],
        bias: Float[np.ndarray, "functions"],
        lower: Float[np.ndarray, "functions"],
        upper: Float[np.ndarray, "functions"],
        some: Int[np.ndarray, "some"],
    ) -> None:
        """Tighten bounds of some affine functions of the sources, in place."""
        options = {"primal_feasibility_tolerance": 1e-9, "dual_feasibility_tolerance": 1e-9}
        highs = linear_program(self.rows, (self.least, self.most), (self.low, self.high), options)
        units = exponents_of(np.maximum(np.abs(lower), np.abs(upper)))
        costs, constants = np.ldexp(weight, self.units - units[:, None]), np.ldexp(bias, -units)
        for k in some.tolist():
            for sign, bounds, better in ((1.0, upper, min), (-1.0, lower, max)):
                solve(highs, -sign * costs[k])
                dual = np.array(highs.getSolution().row_dual)
                proven = sign * self._proven(sign * costs[k], float(sign * constants[k]), -dual)
                bounds[k] = better(bounds[k], np.ldexp(proven, units[k]))

    def _proven(
        self, weight: Float[np.ndarray, "sources"], bias: float, multipliers: Float[np.ndarray, "some"]
    ) -> float:
        """Return an upper bound of an affine function of the variables; positive multipliers belong to upper sides."""
        if len(multipliers) != len(self.rows) or not np.isfinite(multipliers).all():
            multipliers = np.zeros(len(self.rows))
        multipliers = np.clip(
            multipliers, np.where(np.isfinite(self.least), -np.inf, 0.0), np.where(np.isfinite(self.most), np.inf, 0.0)
        )
        sides = np.where(multipliers > 0.0, self.most, np.where(multipliers < 0.0, self.least, 0.0))
        rest = weight - multipliers @ self.rows
        sizes = np.abs(weight) + np.abs(multipliers) @ np.abs(self.rows)
        terms = abs(bias) + np.abs(multipliers * sides).sum() + sizes @ np.maximum(np.abs(self.low), np.abs(self.high))
        rounding = 2.0 * (len(multipliers) + len(rest) + 8) * np.finfo(np.float64).eps * terms
        paid = np.maximum(rest * self.low, rest * self.high).sum()
        return float(bias + multipliers @ sides + paid + rounding)

    def add(
        self,
        weight: Float[np.ndarray, "neurons sources"],
        bias: Float[np.ndarray, "neurons"],
        lower: Float[np.ndarray, "neurons"],
        upper: Float[np.ndarray, "neurons"],
    ) -> None:
        """Add the ReLUs of rows with these bounds to the sources, each with the triangle that contains it."""
        units = exponents_of(np.maximum(np.abs(lower), np.abs(upper)))
        weight, bias = np.ldexp(weight, self.units - units[:, None]), np.ldexp(bias, -units)
        lower, upper = np.ldexp(lower, -units), np.ldexp(upper, -units)
        active, unstable = np.flatnonzero(lower >= 0.0), np.flatnonzero((lower < 0.0) & (upper > 0.0))
        own, eye = np.concatenate([active, unstable]), np.eye(len(bias))
        # h - W v = b where active, >= b otherwise; and h - s W v <= s b + t with the least t that rounding allows.
        below = np.concatenate([-weight[own], eye[own]], axis=1)
        low, high = lower[unstable], upper[unstable]
        slope = high / (high - low)
        room = np.maximum(-slope * low, high - slope * high)
        room += 8.0 * np.finfo(np.float64).eps * (np.abs(low) + np.abs(high) + slope * np.abs(bias[unstable]))
        above = np.concatenate([-slope[:, None] * weight[unstable], eye[unstable]], axis=1)
        earlier = np.concatenate([self.rows, np.zeros((len(self.rows), len(bias)))], axis=1)
        self.rows = np.concatenate([earlier, below, above])
        endless = np.full(len(unstable), np.inf)
        self.least = np.concatenate([self.least, bias[own], -endless])
        self.most = np.concatenate([self.most, bias[active], endless, slope * bias[unstable] + room])
        self.low = np.concatenate([self.low, np.maximum(lower, 0.0)])
        self.high = np.concatenate([self.high, np.maximum(upper, 0.0)])
        self.units = np.concatenate([self.units, units])
