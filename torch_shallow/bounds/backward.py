"""Backward linear bounds: bound rows of a network by affine functions of the inputs, for many cells at once.

Going back from the last stage, each h = relu(z) in a sum a h is replaced by a bound that is affine in z. With
l <= z <= u in the cell, an unstable neuron (l < 0 < u) satisfies

    h <= u (z - l) / (u - l)  for a > 0,      h >= slope z  with any slope in [0, 1]  for a < 0,

and a decided neuron satisfies side z >= 0 in the cell, so a multiple `split` >= 0 of side z may be added to an upper
bound. The result is an affine function of the inputs, whose maximum over the box is known. Every choice of slopes and
splits gives a bound of the cell (weak duality); the best one is that of the linear program of triangle relaxations.

Zhang, Weng, Chen, Hsieh, Daniel, "Efficient neural network robustness certification with general activation functions",
2018; Xu et al., "Fast and complete", 2021; Wang et al., "Beta-CROWN", 2021.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from torch_shallow.bounds.coupling import Coupled, CoupledLines, Coupling, tied
from torch_shallow.bounds.staged import StagedNetwork

NARROW = 0.1  # the second neuron of a pair is bounded by the first if their distance varies less, relative to the first
Coefficients = list[Float[Tensor, "_ _ _"] | None]  # of the inputs, and of the activations of each stage


class Rows(NamedTuple):
    """Affine functions of the inputs and of the stages' activations whose upper bounds are sought.

    Attributes:
        coefficients: Coefficients of the inputs and of each stage, None where it is not read; the first dimension is
            that of the cells, or 1.
        constant: Constants of the functions.
        sizes: Sizes of the terms that the functions are sums of, for rounding.
    """

    coefficients: Coefficients
    constant: Float[Tensor, "cells rows"]
    sizes: Float[Tensor, "cells rows"]


@dataclass(frozen=True, eq=False)
class CellBounds:
    """Bounds of the neurons in each cell of a batch.

    Attributes:
        lower: Lower bound of each pre-activation in the cell; at least 0 where the neuron is decided to be active.
        upper: Upper bound of each pre-activation in the cell; at most 0 where the neuron is decided to be inactive.
        side: 1 where a neuron is decided to be active, -1 where inactive, 0 where it is undecided.
        coupling: Which units are differences of which others, if any.
    """

    lower: Float[Tensor, "cells neurons"]
    upper: Float[Tensor, "cells neurons"]
    side: Float[Tensor, "cells neurons"]
    coupling: Coupling | None = None

    @property
    def unstable(self) -> Bool[Tensor, "cells neurons"]:
        """Mask of the neurons that may have either sign; differences are excluded."""
        unstable = (self.lower < 0.0) & (self.upper > 0.0)
        if self.coupling is not None:
            unstable[:, self.coupling.distance] = False
        return unstable

    @property
    def relaxed(self) -> Bool[Tensor, "cells neurons"]:
        """Mask of the units whose bounds matter: unstable neurons, and differences of pairs with one."""
        relaxed = self.unstable
        if self.coupling is not None:
            of_pairs = relaxed[:, self.coupling.first] | relaxed[:, self.coupling.second]
            relaxed[:, self.coupling.distance] = of_pairs
        return relaxed

    @property
    def narrow(self) -> Bool[Tensor, "cells neurons"]:
        """Mask of the second neurons of pairs whose distance is nearly constant: `tied` bounds them."""
        narrow, width = torch.zeros_like(self.lower, dtype=torch.bool), self.upper - self.lower
        if self.coupling is not None:
            near = width[:, self.coupling.distance] <= NARROW * width[:, self.coupling.first]
            narrow[:, self.coupling.second] = near
        return narrow

    def tied(self) -> CellBounds:
        """Return the cells with the bounds of paired neurons tightened by each other."""
        if self.coupling is None:
            return self
        return CellBounds(*tied(self.coupling, self.lower, self.upper), self.side, self.coupling)

    @property
    def empty(self) -> Tensor:
        """Mask of the cells that are certainly empty, because bounds contradict each other."""
        return (self.lower > self.upper).any(dim=1)

    def __getitem__(self, cells: Tensor | slice) -> CellBounds:
        """Select cells."""
        return CellBounds(self.lower[cells], self.upper[cells], self.side[cells], self.coupling)

    def decided(self, neurons: Tensor, side: float) -> CellBounds:
        """Return the cells with one more neuron decided in each: `neurons` has one for each cell."""
        at = torch.arange(len(neurons), device=neurons.device), neurons
        lower, upper, sides = self.lower.clone(), self.upper.clone(), self.side.clone()
        sides[at] = side
        bound = lower if side > 0.0 else upper
        bound[at] = bound[at].clamp(min=0.0) if side > 0.0 else bound[at].clamp(max=0.0)
        return CellBounds(lower, upper, sides, self.coupling)


class Lines(NamedTuple):
    """Affine bounds of each ReLU in each cell; the upper one is `steepness * z + offset`."""

    steepness: Float[Tensor, "cells 1 neurons"]
    offset: Float[Tensor, "cells 1 neurons"]
    flattest: Float[Tensor, "cells 1 neurons"]
    steepest: Float[Tensor, "cells 1 neurons"]
    side: Float[Tensor, "cells 1 neurons"]
    coupled: CoupledLines | None = None

    @classmethod
    def of(cls, cells: CellBounds) -> Lines:
        """Return the tightest lines for the cells' pre-activation bounds; for a neuron of one sign, the ReLU itself."""
        unstable, lower, upper = cells.unstable, cells.lower, cells.upper
        active = (lower >= 0.0).double()
        steepness = torch.where(unstable, upper / (upper - lower).clamp(min=torch.finfo(upper.dtype).tiny), active)
        offset = torch.where(unstable, -lower * steepness, 0.0)
        steepest = torch.where(unstable, 1.0, active)
        flattest = torch.where(unstable, 0.0, active)
        parts, coupled = (steepness, offset, flattest, steepest), None
        if cells.coupling is not None:
            coupled = CoupledLines.of(cells.coupling, lower, upper, offset)
            at, found = cells.coupling.distance, coupled.differences
            for part, new in zip(parts, (found.above, found.offset, found.below, found.below), strict=True):
                part[:, at] = new
        steepness, offset, flattest, steepest, side = (part[:, None] for part in (*parts, cells.side))
        return cls(steepness, offset, flattest, steepest, side, coupled)


class Backward(NamedTuple):
    """Results of a backward pass.

    Attributes:
        bound: Upper bound of each row in each cell, ignoring rounding.
        at: Input of the box where the resulting affine function is greatest.
        through: Coefficient of each ReLU's activation when its stage was reached; stages in order.
        size: Sizes of all terms, for rounding; zero if they were not asked for.
        slope: Slope of the resulting affine function of the inputs.
        coupled: How the pairs of each stage are bounded, stages in order; empty where there are none.
    """

    bound: Float[Tensor, "cells rows"]
    at: Float[Tensor, "cells rows inputs"]
    through: list[Float[Tensor, "_ _ _"]]
    size: Float[Tensor, "cells rows"]
    slope: Float[Tensor, "cells rows inputs"]
    coupled: list[Coupled]


def backward(
    network: StagedNetwork,
    lines: Lines,
    rows: Rows,
    slopes: Float[Tensor, "cells rows neurons"],
    splits: Float[Tensor, "cells rows neurons"],
    sizes: list[Float[Tensor, "_"]] | None = None,
) -> Backward:
    """Bound rows from above in all cells.

    Args:
        network: The network in its box.
        lines: Bounds of its ReLUs in each cell.
        rows: The rows to bound.
        slopes: Slopes of the lower bounds of unstable neurons, clipped to [0, 1].
        splits: Multipliers of decisions; negative ones count as 0.
        sizes: Sizes of the terms of the values of each layer, if rounding is to be reported.
    """
    coefficients, constant, size = list(rows.coefficients), rows.constant, rows.sizes
    through: list[Tensor] = []
    coupled: list[Coupled] = []
    for number in range(len(coefficients) - 1, 0, -1):
        stage, a = network.stages[number - 1], coefficients[number]
        part = (..., stage.neurons)
        if a is None:
            a = torch.zeros_like(constant[..., None])
        lower = torch.minimum(torch.maximum(slopes[part], lines.flattest[part]), lines.steepest[part])
        if lines.coupled is not None:
            a, chosen = lines.coupled.couple(number, stage.neurons, a, lower)
            coupled.append(chosen)
            constant = constant + (a.clamp(max=0.0) * lines.coupled.below[part]).sum(dim=-1)
        into = a * torch.where(a > 0.0, lines.steepness[part], lower)
        into = into + splits[part].clamp(min=0.0) * lines.side[part]
        constant = constant + (a.clamp(min=0.0) * lines.offset[part]).sum(dim=-1) + into @ stage.bias
        for source, block in stage.blocks:
            before = coefficients[source]
            coefficients[source] = into @ block if before is None else before + into @ block
        if sizes is not None:
            size = size + (a.abs() + into.abs()) @ sizes[number - 1]
        through.append(a.expand(*into.shape))
    a = coefficients[0]
    if a is None:
        a = network.middle.expand(*constant.shape, -1) * 0.0
    most, at = network.greatest(a)
    bound = constant + most
    if sizes is not None:
        size = size + a.abs() @ torch.maximum(network.lower.abs(), network.upper.abs())
    return Backward(bound, at.expand(*bound.shape, -1), through[::-1], size, a.expand(*bound.shape, -1), coupled[::-1])


class Relaxed(NamedTuple):
    """Point of the relaxation that attains a bound; not a point of the network unless the bound is exact.

    Attributes:
        entering: Value entering each ReLU.
        leaving: Value leaving it, between its lines.
        sources: The inputs, and `leaving` stage by stage.
    """

    entering: Float[Tensor, "cells rows neurons"]
    leaving: Float[Tensor, "cells rows neurons"]
    sources: list[Float[Tensor, "_ _ _"]]


def relaxed_point(
    network: StagedNetwork, lines: Lines, found: Backward, slopes: Float[Tensor, "cells rows neurons"]
) -> Relaxed:
    """Return the point that attains a bound.

    By the envelope theorem it gives the derivatives of the bound: for a slope, `min(through, 0) * entering`; for
    a split, `side * entering`; for a coefficient of a row, the value of its source.
    """
    sources, entering, leaving = [found.at], [found.at[..., :0]], [found.at[..., :0]]
    for number, (stage, a) in enumerate(zip(network.stages, found.through, strict=False), 1):
        part = (..., stage.neurons)
        z = stage(sources)
        lower = torch.minimum(torch.maximum(slopes[part], lines.flattest[part]), lines.steepest[part])
        up = a > 0.0
        h = torch.where(up, lines.steepness[part], lower) * z + torch.where(up, lines.offset[part], 0.0)
        if lines.coupled is not None:
            h = h + torch.where(up, 0.0, lines.coupled.below[part])
        entering.append(z)
        leaving.append(h)
        if lines.coupled is not None:
            h = lines.coupled.leaving(number, stage.neurons, h, found.coupled[number - 1])
        sources.append(h)
    return Relaxed(torch.cat(entering, dim=-1), torch.cat(leaving, dim=-1), sources)


def proven(network: StagedNetwork, found: Backward) -> Float[Tensor, "cells rows"]:
    """Return the bounds of a pass that was given the sizes of terms, widened by all that rounding may have lost."""
    return found.bound + network.rounding * (found.size + found.bound.abs()) + torch.finfo(found.bound.dtype).tiny
