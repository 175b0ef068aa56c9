"""Backward bounds of pairs of neurons with nearly the same input, with a separate unit for their difference.

Each pair of neurons z and z' gets a unit that reads d = z' - z and stands for e = relu(z') - relu(z). A demand on the
pair, a relu(z) + b relu(z'), is passed on to the three units in one of three ways,

    a relu(z) + b relu(z')      or      (a + b) relu(z) + b e      or      (a + b) relu(z') - a e,

whichever loses least by the lines that bound them; `difference_lines` does the same for the rays. Bounds of d arise
like those of any other unit.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from torch_shallow.program.relu_program import ReLUProgram, Stage


@dataclass(frozen=True, eq=False)
class Coupling:
    """Units of a network that stand for differences of others, numbered through all stages.

    Attributes:
        first: The neuron z of each pair.
        second: The neuron z' of each pair.
        distance: The unit of the difference of each pair.
        starts: First pair of each stage, then the number of pairs.
    """

    first: Int[Tensor, "pairs"]
    second: Int[Tensor, "pairs"]
    distance: Int[Tensor, "pairs"]
    starts: tuple[int, ...]

    def of_stage(self, number: int) -> slice:
        """Return the pairs of a stage, as a slice; stages are numbered from 1."""
        return slice(self.starts[number - 1], self.starts[number])


def with_distances(program: ReLUProgram, device: torch.device | str = "cpu") -> tuple[ReLUProgram, Coupling | None]:
    """Append a unit for each pair to the end of its stage; nothing reads these units.

    Args:
        program: The program.
        device: Device of the tensors.

    Returns:
        The program, with its neurons renumbered, and its pairs; None for the pairs if there are none.
    """
    if program.pairs is None or len(program.pairs) == 0:
        return program, None
    d = program.num_inputs
    columns, starts = list(range(d)), [0]
    count, width, stages, found = 0, d, [], []
    for number, stage in enumerate(program.stages):
        begin = program.offsets[number]
        pairs = program.pairs_of(begin, program.offsets[number + 1]) - begin
        first, second = pairs.T
        weight = np.concatenate([stage.weight, stage.weight[second] - stage.weight[first]])
        bias = np.concatenate([stage.bias, stage.bias[second] - stage.bias[first]])
        stages.append(Stage(stage.name, _at(weight, columns, width), bias))
        n = stage.num_neurons
        found.append(np.stack([count + first, count + second, count + n + np.arange(len(pairs))]))
        columns += range(width, width + n)
        count, width = count + len(bias), width + len(bias)
        starts.append(starts[-1] + len(pairs))
    numbers = torch.tensor(np.concatenate(found, axis=1), device=device)
    out_weight = _at(program.out_weight, columns, width)
    wider = replace(program, stages=tuple(stages), out_weight=out_weight, whole=None, pairs=None)
    return wider, Coupling(numbers[0], numbers[1], numbers[2], tuple(starts))


def _at(weight: Float[np.ndarray, "rows some"], columns: list[int], width: int) -> Float[np.ndarray, "rows width"]:
    """Spread the columns of rows over more sources."""
    wide = np.zeros((len(weight), width))
    wide[:, columns] = weight
    return wide


def tied(
    coupling: Coupling, lower: Float[Tensor, "cells units"], upper: Float[Tensor, "cells units"]
) -> tuple[Float[Tensor, "cells units"], Float[Tensor, "cells units"]]:
    """Tighten the bounds of each neuron of a pair by those of the other and of their distance."""
    first, second = coupling.first, coupling.second
    low, high, other_low, other_high = lower[:, first], upper[:, first], lower[:, second], upper[:, second]
    least, most = lower[:, coupling.distance], upper[:, coupling.distance]
    size = torch.stack([part.abs() for part in (low, high, other_low, other_high, least, most)]).amax(dim=0)
    room = 8.0 * torch.finfo(lower.dtype).eps * size
    other_low = torch.maximum(other_low, low + least - room)
    other_high = torch.minimum(other_high, high + most + room)
    low, high = torch.maximum(low, other_low - most - room), torch.minimum(high, other_high - least + room)
    lower, upper = lower.clone(), upper.clone()
    lower[:, first], upper[:, first], lower[:, second], upper[:, second] = low, high, other_low, other_high
    return lower, upper


class DifferenceLines(NamedTuple):
    """Lines in d above and below the difference of each pair in each cell, with the greatest errors of these lines."""

    above: Float[Tensor, "cells pairs"]
    offset: Float[Tensor, "cells pairs"]
    below: Float[Tensor, "cells pairs"]
    other_offset: Float[Tensor, "cells pairs"]
    gap_above: Float[Tensor, "cells pairs"]
    gap_below: Float[Tensor, "cells pairs"]

    @classmethod
    def of(
        cls, coupling: Coupling, lower: Float[Tensor, "cells units"], upper: Float[Tensor, "cells units"]
    ) -> DifferenceLines:
        """Return the lines allowed by the bounds of the neurons and of their distance."""
        low, high = lower[:, coupling.first], upper[:, coupling.first]
        other_low, other_high = lower[:, coupling.second], upper[:, coupling.second]
        least, most = lower[:, coupling.distance], upper[:, coupling.distance]
        above, offset, gap_above = _line_above(least, most, low, high, other_low, other_high)
        below, other_offset, gap_below = _line_above(-most, -least, other_low, other_high, low, high)
        return cls(above, offset, below, -other_offset, gap_above, gap_below)


def _line_above(
    least: Tensor, most: Tensor, low: Tensor, high: Tensor, other_low: Tensor, other_high: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return slope and offset of a line above relu(z') - relu(z), and its gap, like `difference_lines.line_above`."""
    steep = (other_low >= 0.0) | ((other_high > 0.0) & (least >= 0.0))
    flat = ~steep & ((other_high <= 0.0) | (most <= 0.0))
    width = (most - least).clamp(min=torch.finfo(most.dtype).tiny)
    slope = torch.where(steep | flat, steep.to(most.dtype), most / width)
    offset = torch.where(steep | flat, 0.0, -least * slope)
    under, over = least.clamp(max=0.0), most.clamp(max=0.0)
    under = torch.where(low >= 0.0, least, torch.where(high <= 0.0, 0.0, under))
    over = torch.where(low >= 0.0, most, torch.where(high <= 0.0, 0.0, over))
    gap = torch.maximum(slope * least + offset - under, slope * most + offset - over)
    return slope, offset, torch.maximum(gap, offset)


class Coupled(NamedTuple):
    """How the pairs of a stage are bounded in each row and cell; neither mask is set where both neurons stand alone."""

    on_first: Bool[Tensor, "cells rows pairs"]
    on_second: Bool[Tensor, "cells rows pairs"]


class CoupledLines(NamedTuple):
    """Data for bounds of pairs beyond the lines of each unit.

    Attributes:
        coupling: The pairs.
        differences: Lines of their differences.
        below: Constant of the line below each unit.
        loose_above: Greatest error of the line above each unit.
        unstable_low: How far each unstable neuron reaches below 0.
        unstable_high: How far each unstable neuron reaches above 0.
        loose_below: Greatest error of the line below a difference; 0 for neurons.
    """

    coupling: Coupling
    differences: DifferenceLines
    below: Float[Tensor, "cells 1 units"]
    loose_above: Float[Tensor, "cells 1 units"]
    unstable_low: Float[Tensor, "cells 1 units"]
    unstable_high: Float[Tensor, "cells 1 units"]
    loose_below: Float[Tensor, "cells 1 units"]

    @classmethod
    def of(
        cls,
        coupling: Coupling,
        lower: Float[Tensor, "cells units"],
        upper: Float[Tensor, "cells units"],
        offset: Float[Tensor, "cells units"],
    ) -> CoupledLines:
        """Make the data from bounds of all units and the constants (and so the errors) of the lines above neurons."""
        found, at = DifferenceLines.of(coupling, lower, upper), coupling.distance
        unstable = (lower < 0.0) & (upper > 0.0)
        unstable[:, at] = False
        below, loose_above, loose_below = torch.zeros_like(lower), offset.clone(), torch.zeros_like(lower)
        below[:, at], loose_above[:, at], loose_below[:, at] = found.other_offset, found.gap_above, found.gap_below
        low, high = torch.where(unstable, -lower, 0.0), torch.where(unstable, upper, 0.0)
        return cls(coupling, found, *(part[:, None] for part in (below, loose_above, low, high, loose_below)))

    def _units(self, number: int, units: slice) -> tuple[Int[Tensor, "some"], ...]:
        """Return the neurons and differences of the pairs of a stage, numbered within the stage."""
        pairs, coupling = self.coupling.of_stage(number), self.coupling
        first, second, distance = (
            each[pairs] - units.start for each in (coupling.first, coupling.second, coupling.distance)
        )
        return first, second, distance

    def couple(
        self, number: int, units: slice, a: Float[Tensor, "cells rows units"], slopes: Float[Tensor, "cells rows units"]
    ) -> tuple[Float[Tensor, "cells rows units"], Coupled]:
        """Distribute the coefficients of a stage's neurons over its units so that as little as possible is lost.

        Args:
            number: Number of the stage, from 1.
            units: Units of the stage.
            a: Coefficients of their activations.
            slopes: Slopes of the lines below them.
        """
        i, j, e = self._units(number, units)
        above = self.loose_above[..., units]
        low, high = self.unstable_low[..., units], self.unstable_high[..., units]
        below = torch.maximum(slopes * low, (1.0 - slopes) * high) + self.loose_below[..., units]

        def loss(coefficient: Tensor, unit: Tensor) -> Tensor:
            return coefficient.clamp(min=0.0) * above[..., unit] - coefficient.clamp(max=0.0) * below[..., unit]

        of_i, of_j = a[..., i], a[..., j]
        both = of_i + of_j
        apart = loss(of_i, i) + loss(of_j, j)
        first, second = loss(both, i) + loss(of_j, e), loss(both, j) + loss(-of_i, e)
        may = of_i * of_j < 0.0
        on_first = may & (first < apart) & (first <= second)
        on_second = may & (second < apart) & ~on_first
        a = a.expand(*on_first.shape[:-1], -1).clone()
        a[..., i] = torch.where(on_first, both, torch.where(on_second, 0.0, of_i))
        a[..., j] = torch.where(on_second, both, torch.where(on_first, 0.0, of_j))
        a[..., e] = torch.where(on_first, of_j, torch.where(on_second, -of_i, 0.0))
        return a, Coupled(on_first, on_second)

    def leaving(
        self, number: int, units: slice, h: Float[Tensor, "cells rows units"], coupled: Coupled
    ) -> Float[Tensor, "cells rows units"]:
        """Return what leaves the neurons of a stage at a point of the relaxation, given the values of its units."""
        i, j, e = self._units(number, units)
        leaving = h.clone()
        leaving[..., j] = torch.where(coupled.on_first, h[..., i] + h[..., e], h[..., j])
        leaving[..., i] = torch.where(coupled.on_second, h[..., j] - h[..., e], h[..., i])
        return leaving
