"""Affine upper bounds, over the inputs, of affine functions of a network's neurons, computed as by the checker.

The rule is that of `torch_shallow/check_bounds.py`, in float64: the results here predict those of the checker.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from torch_shallow import check_bounds
from torch_shallow.program.relu_program import ReLUProgram

MORE = 1.0 + 1.0 / check_bounds.CLEARLY
Matrix = Float[np.ndarray, "rows columns"]
Units = Float[np.ndarray, "units"]


class UnitLines(NamedTuple):
    """Lines above and below what leaves each unit, as functions of what enters it."""

    above: Units
    offset: Units
    below: Units
    offset_below: Units
    gap: Units  # greatest error of the line below a neuron
    lower: Units  # bounds of what enters it
    upper: Units


class RelaxedRows:
    """A program, with the differences of its pairs as further units, numbered after its neurons.

    Args:
        program: The program.
        lower: Least value of each input.
        upper: Greatest value of each input.

    Attributes:
        pairs: The neurons of each pair.
        middle: Centre of the box.
        radius: Half the widths of the box; a row over the inputs becomes one over numbers from -1 to 1.
    """

    def __init__(
        self, program: ReLUProgram, lower: Float[np.ndarray, "inputs"], upper: Float[np.ndarray, "inputs"]
    ) -> None:
        self.program, self.inputs, self.neurons = program, program.num_inputs, program.num_neurons
        self.pairs: Int[np.ndarray, "pairs 2"] = program.pairs_of(0, program.num_neurons)
        self.middle, self.radius = lower + (upper - lower) / 2, (upper - lower) / 2
        self.offsets = program.offsets
        self._spans = list(zip(self.offsets[:-1], self.offsets[1:], strict=True))
        self._of_stage = [np.flatnonzero((a <= self.pairs[:, 0]) & (self.pairs[:, 0] < b)) for a, b in self._spans]

    def stage_of(self, neurons: Int[np.ndarray, "some"]) -> Int[np.ndarray, "some"]:
        """Return the stage of each neuron."""
        return np.searchsorted(self.offsets, neurons, side="right") - 1

    def units_of(self, stage: int) -> Int[np.ndarray, "some"]:
        """Return the neurons and differences of a stage."""
        start, stop = self._spans[stage]
        return np.concatenate([np.arange(start, stop), self.neurons + self._of_stage[stage]])

    def intervals(self) -> tuple[Units, Units]:
        """Return the least and the greatest value of each unit by interval arithmetic."""
        lows, highs = [self.middle - self.radius], [self.middle + self.radius]
        found = [(np.zeros(0), np.zeros(0))]
        for stage in self.program.stages:
            up, down = np.maximum(stage.weight, 0.0), np.minimum(stage.weight, 0.0)
            low, high = np.concatenate(lows), np.concatenate(highs)
            found.append((up @ low + down @ high + stage.bias, up @ high + down @ low + stage.bias))
            lows.append(np.maximum(found[-1][0], 0.0))
            highs.append(np.maximum(found[-1][1], 0.0))
        lower, upper = (np.concatenate(parts) for parts in zip(*found, strict=True))
        first, second = self.pairs.T
        return np.append(lower, lower[second] - upper[first]), np.append(upper, upper[second] - lower[first])

    def lines(self, lower: Units, upper: Units) -> UnitLines:
        """Return the lines that the bounds of all units allow."""
        unstable, active = (lower < 0.0) & (upper > 0.0), (lower >= 0.0) & (upper > 0.0)
        width = np.where(unstable, upper - lower, 1.0)
        above = np.where(unstable, upper / width, active)
        offset = np.where(unstable, -lower * above, 0.0)
        below, offset_below = np.where(unstable, upper > -MORE * lower, active).astype(np.float64), np.zeros_like(lower)
        gap = np.where(unstable, np.minimum(upper, -lower), 0.0)
        at = slice(self.neurons, None)  # relu(-e) by a line above it
        below[at] = np.where(unstable[at], -lower[at] / width[at], upper[at] <= 0.0)
        offset_below[at] = np.where(unstable[at], -upper[at] * below[at], 0.0)
        return UnitLines(above, offset, below, offset_below, gap, lower, upper)

    def entering(self, units: Int[np.ndarray, "some"]) -> tuple[Matrix, Float[np.ndarray, "some"]]:
        """Return what enters units of one stage, as rows over the inputs and all neurons of earlier stages."""
        first = self.pairs[units[0] - self.neurons, 0] if units[0] >= self.neurons else units[0]
        number = int(self.stage_of(first))
        stage, start = self.program.stages[number], self.offsets[number]
        own = units[units < self.neurons] - start
        of_pairs = self.pairs[units[units >= self.neurons] - self.neurons] - start
        i, j = of_pairs.T
        return (
            np.concatenate([stage.weight[own], stage.weight[j] - stage.weight[i]]),
            np.concatenate([stage.bias[own], stage.bias[j] - stage.bias[i]]),
        )

    def pulled(
        self,
        weight: Matrix,
        bias: Float[np.ndarray, "rows"],
        lines: UnitLines,
        splits: Matrix | None = None,
        leaving: Matrix | None = None,
    ) -> Matrix:
        """Return affine functions over the box, constants last, that are nowhere less than the given rows.

        Args:
            weight: Weights of the rows, over the inputs and the neurons of some stages.
            bias: Biases of the rows.
            lines: Lines of all units.
            splits: Multiples of each neuron's pre-activation to add to each row.
            leaving: Where to write the coefficients of what leaves each neuron.
        """
        weight, constant, d = weight.copy(), bias.copy(), self.inputs
        for number in range(int(np.searchsorted(self.offsets, weight.shape[1] - d)) - 1, -1, -1):
            start, stop = self._spans[number]
            stage, own = self.program.stages[number], slice(start, stop)
            a = weight[:, d + start : d + stop]
            pairs = self._of_stage[number]
            (i, j), e = (self.pairs[pairs] - start).T, self.neurons + pairs
            if len(pairs):
                a, of_pairs = self._coupled(a, i, j, e, start, lines)
            if leaving is not None:
                leaving[:, own] = a
            up, down = np.maximum(a, 0.0), np.minimum(a, 0.0)
            into = up * lines.above[own] + down * lines.below[own]
            constant += up @ lines.offset[own]
            if len(pairs):
                up, down = np.maximum(of_pairs, 0.0), np.minimum(of_pairs, 0.0)
                more = up * lines.above[e] + down * lines.below[e]
                constant += up @ lines.offset[e] + down @ lines.offset_below[e]
                into[:, j] += more
                into[:, i] -= more
            if splits is not None:
                into += splits[:, own]
            constant += into @ stage.bias
            weight[:, : d + start] += into @ stage.weight
        row = weight[:, :d]
        return np.column_stack([row * self.radius, constant + row @ self.middle])

    @staticmethod
    def _coupled(
        a: Matrix,
        i: Int[np.ndarray, "pairs"],
        j: Int[np.ndarray, "pairs"],
        e: Int[np.ndarray, "pairs"],
        start: int,
        lines: UnitLines,
    ) -> tuple[Matrix, Matrix]:
        """Return coefficients of a stage's neurons and of its pairs' differences that lose as little as possible."""

        def loss(coefficient: Matrix, at: Int[np.ndarray, "pairs"]) -> Matrix:
            return np.maximum(coefficient, 0.0) * lines.offset[at] - np.minimum(coefficient, 0.0) * lines.gap[at]

        def loss_of_pair(coefficient: Matrix) -> Matrix:
            return np.maximum(np.maximum(coefficient * lines.lower[e], coefficient * lines.upper[e]), 0.0)

        of_i, of_j = a[:, i], a[:, j]
        both = of_i + of_j
        apart = loss(of_i, start + i) + loss(of_j, start + j)
        first = MORE * (loss(both, start + i) + loss_of_pair(of_j))
        second = (2.0 * MORE - 1.0) * (loss(both, start + j) + loss_of_pair(-of_i))
        may = of_i * of_j < 0.0
        on_first = may & (first < apart) & (first <= second)
        on_second = may & (second < apart) & ~on_first
        a = a.copy()
        a[:, i] = np.where(on_first, both, np.where(on_second, 0.0, of_i))
        a[:, j] = np.where(on_second, both, np.where(on_first, 0.0, of_j))
        return a, np.where(on_first, of_j, np.where(on_second, -of_i, 0.0))
