"""What holds of the difference of two ReLUs in all of a box, as rows of a linear program: see `difference_lines`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from torch_shallow.bounds.scaled import ROUNDING, ScaledProgram
from torch_shallow.program.relu_program import ReLUProgram


@dataclass(frozen=True, eq=False)
class PairedRows:
    """Pairs of neurons of a scaled program, both of which may have either sign, and how far apart they are.

    Distances d = z' - z are measured in the larger unit of the two neurons of a pair.

    Attributes:
        first: the neuron z of each pair, as it is numbered in the scaled program.
        second: the neuron z'.
        units: what 1 of z, and of z', is in the unit of the pair.
        least: the least distance: proven.
        most: the greatest distance: proven.
    """

    first: Int[np.ndarray, "pairs"]
    second: Int[np.ndarray, "pairs"]
    units: Float[np.ndarray, "pairs 2"]
    least: Float[np.ndarray, "pairs"]
    most: Float[np.ndarray, "pairs"]

    @classmethod
    def of(cls, program: ReLUProgram, scaled: ScaledProgram) -> PairedRows:
        """The pairs of a program, of whose distances no more is known than what bounds of the neurons tell."""
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
        """No pairs at all."""
        nobody, nothing = np.zeros(0, dtype=np.int64), np.zeros(0)
        return cls(nobody, nobody, np.zeros((0, 2)), nothing, nothing)

    def __len__(self) -> int:
        return len(self.first)

    def within(self, program: ReLUProgram, scaled: ScaledProgram, smaller: ScaledProgram) -> PairedRows:
        """What is known of the same pairs, where neurons have been folded away and others have been scaled anew."""
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
        """The distances as affine functions of the sources, constants last, and the rounding of each."""
        rows = np.column_stack([scaled.weights, scaled.biases])
        one, other = rows[self.first] * self.units[:, :1], rows[self.second] * self.units[:, 1:]
        return other - one, ROUNDING * rows.shape[1] * (np.abs(one) + np.abs(other)).sum(axis=1)

    def rows(self, scaled: ScaledProgram) -> Float[np.ndarray, "twice_pairs sources1"]:
        """Affine functions that are not negative: the line above each difference less it, and it less the line below.

        With least <= d <= most they are the chords of max(0, d) and of min(0, d).
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
