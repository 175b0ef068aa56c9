"""Rows of a linear program for the difference of two ReLUs in a whole box, based on `difference_lines`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from torch_shallow.bounds.scaled import ROUNDING, ScaledProgram
from torch_shallow.program.relu_program import ReLUProgram


@dataclass(frozen=True, eq=False)
class PairedRows:
    """Pairs of neurons of a scaled program that may both have either sign, with bounds of their distances.

    Distances d = z' - z are measured in the larger unit of the two neurons of a pair.

    Attributes:
        first: The neuron z of each pair, as numbered in the scaled program.
        second: The neuron z' of each pair.
        units: The units of z and of z' in the unit of the pair.
        least: Proven lower bound of each distance.
        most: Proven upper bound of each distance.
    """

    first: Int[np.ndarray, "pairs"]
    second: Int[np.ndarray, "pairs"]
    units: Float[np.ndarray, "pairs 2"]
    least: Float[np.ndarray, "pairs"]
    most: Float[np.ndarray, "pairs"]

    @classmethod
    def of(cls, program: ReLUProgram, scaled: ScaledProgram) -> PairedRows:
        """Return the pairs of a program, with the bounds of distances that follow from those of the neurons."""
        local = np.full(program.num_neurons, -1)
        local[scaled.neurons] = np.arange(len(scaled.neurons))
        pairs = local[program.pairs_of(0, program.num_neurons)]
        first, second = pairs[(pairs >= 0).all(axis=1)].T
        exponents = np.column_stack([scaled.exponents[first], scaled.exponents[second]])
        units = np.ldexp(1.0, exponents - exponents.max(axis=1, keepdims=True, initial=-(10**6)))
        low, high = (np.column_stack([bound[first], bound[second]]) * units for bound in (scaled.low, scaled.high))
        return cls(first, second, units, low[:, 1] - high[:, 0], high[:, 1] - low[:, 0])

    @classmethod
    def none(cls) -> PairedRows:
        """Return no pairs at all."""
        nobody, nothing = np.zeros(0, dtype=np.int64), np.zeros(0)
        return cls(nobody, nobody, np.zeros((0, 2)), nothing, nothing)

    def __len__(self) -> int:
        return len(self.first)

    def within(self, program: ReLUProgram, scaled: ScaledProgram, smaller: ScaledProgram) -> PairedRows:
        """Carry the pairs over to a program in which neurons have been folded away and others rescaled."""
        found = PairedRows.of(program, smaller)
        place = {int(scaled.neurons[j]): k for k, j in enumerate(self.first)}
        known = np.array([place[int(smaller.neurons[j])] for j in found.first], dtype=np.int64)
        before = scaled.exponents[self.first[known]] - np.log2(self.units[known, 0]).astype(np.int64)
        after = smaller.exponents[found.first] - np.log2(found.units[:, 0]).astype(np.int64)
        least, most = (np.ldexp(bound[known], before - after) for bound in (self.least, self.most))
        return PairedRows(
            found.first, found.second, found.units, np.maximum(found.least, least), np.minimum(found.most, most)
        )

    def distances(
        self, scaled: ScaledProgram
    ) -> tuple[Float[np.ndarray, "pairs sources1"], Float[np.ndarray, "pairs"]]:
        """Return the distances as affine functions of the sources, constants last, and the rounding error of each."""
        rows = np.column_stack([scaled.weights, scaled.biases])
        one, other = rows[self.first] * self.units[:, :1], rows[self.second] * self.units[:, 1:]
        return other - one, ROUNDING * rows.shape[1] * (np.abs(one) + np.abs(other)).sum(axis=1)

    def rows(self, scaled: ScaledProgram) -> Float[np.ndarray, "twice_pairs sources1"]:
        """Return non-negative affine functions: the line above each difference minus it, and it minus the line below.

        With least <= d <= most, these lines are the chords of max(0, d) and of min(0, d).
        """
        distances, _ = self.distances(scaled)
        differences, each = np.zeros_like(distances), np.arange(len(self))
        differences[each, scaled.num_free + self.second] = self.units[:, 1]
        differences[each, scaled.num_free + self.first] = -self.units[:, 0]
        parts = []
        for sign, least, most in ((1.0, self.least, self.most), (-1.0, -self.most, -self.least)):
            low, high = np.minimum(least, 0.0), np.maximum(most, 0.0)
            width = np.where(high > low, high - low, 1.0)
            line = (high / width)[:, None] * sign * distances
            line[:, -1] -= low * high / width
            parts.append(line - sign * differences)
        return np.concatenate(parts)
