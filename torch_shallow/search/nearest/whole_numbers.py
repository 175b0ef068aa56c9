"""Entries that have to be whole numbers: where cells are cut between two of them, as by neurons that nothing reads."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int

from torch_shallow.errors import TransformError
from torch_shallow.program.relu_program import ReLUProgram, Stage

WHOLE = 1e-9  # relative: a value this near to a whole number is one
MOST_CUTS = 2000  # of all entries together


@dataclass(frozen=True, eq=False)
class WholeNumbers:
    """The entries i of u for which `slopes u_i + values` has to be whole.

    Attributes:
        entries: their numbers.
        slopes: of each; not 0.
        values: of each at u = 0.
    """

    entries: Int[np.ndarray, "whole"]
    slopes: Float[np.ndarray, "whole"]
    values: Float[np.ndarray, "whole"]

    def at(self, u: Float[np.ndarray, "*points inputs"]) -> Float[np.ndarray, "*points whole"]:
        """The numbers at some points."""
        found: np.ndarray = u[..., self.entries] * self.slopes + self.values
        return found

    def entries_at(self, numbers: Float[np.ndarray, "*points whole"]) -> Float[np.ndarray, "*points whole"]:
        """The entries with such numbers."""
        return (numbers - self.values) / self.slopes

    def off(self, u: Float[np.ndarray, "*points inputs"]) -> Float[np.ndarray, "*points whole"]:
        """How far each is from a whole number; 0 if that is rounding."""
        numbers = self.at(u)
        off = np.abs(numbers - np.rint(numbers))
        return np.where(off <= WHOLE * (1.0 + np.abs(numbers)), 0.0, off)

    def contains(self, u: Float[np.ndarray, "points inputs"]) -> np.ndarray:
        """Of which rows all are whole."""
        whole: np.ndarray = (self.off(u) == 0.0).all(axis=1)
        return whole

    def fixed(
        self, u: Float[np.ndarray, "inputs"], lower: Float[np.ndarray, "inputs"], upper: Float[np.ndarray, "inputs"]
    ) -> tuple[Float[np.ndarray, "inputs"], Float[np.ndarray, "inputs"]]:
        """The box in which the whole numbers are those next to a point's."""
        ends = self.entries_at(np.rint(self.at(u)))
        low, high = lower.copy(), upper.copy()
        low[self.entries] = high[self.entries] = np.clip(ends, lower[self.entries], upper[self.entries])
        return low, high


@dataclass(frozen=True, eq=False)
class NumberCuts:
    """Between n and n + 1, for each entry: at least n + 1 is the one neuron active, at most n the next one inactive.

    Attributes:
        whole: the entries.
        first: number of the first of these neurons.
        owner: for each cut, which of the entries it is of.
        below: for each cut, n.
    """

    whole: WholeNumbers
    first: int
    owner: Int[np.ndarray, "cuts"]
    below: Float[np.ndarray, "cuts"]

    @classmethod
    def of(
        cls,
        whole: WholeNumbers,
        lower: Float[np.ndarray, "inputs"],
        upper: Float[np.ndarray, "inputs"],
        first: int,
    ) -> NumberCuts:
        """All cuts that a box may need.

        Raises:
            TransformError: there are too many.
        """
        ends = [end[whole.entries] * whole.slopes + whole.values for end in (lower, upper)]
        low, high = np.floor(np.minimum(*ends)), np.ceil(np.maximum(*ends))
        counts = np.maximum(high - low, 0.0)
        if counts.sum() > MOST_CUTS:
            raise TransformError(
                f"integer: expected at most {MOST_CUTS} whole numbers to choose from, found {counts.sum():.0f} in the "
                "ball that has to be searched; give these features a range with lower and upper."
            )
        owner = np.repeat(np.arange(len(counts)), counts.astype(np.int64))
        below = np.concatenate([np.zeros(0), *(np.arange(a, b) for a, b in zip(low, high, strict=True))])
        return cls(whole, first, owner, below)

    def behind(self, program: ReLUProgram) -> ReLUProgram:
        """The program with the neurons of the cuts, which nothing reads."""
        count, own = len(self.owner), self.whole
        if not count:
            return program
        weight = np.zeros((2 * count, program.num_inputs + program.num_neurons))
        weight[np.arange(2 * count), np.repeat(own.entries[self.owner], 2)] = np.repeat(own.slopes[self.owner], 2)
        numbers = np.stack([self.below + 1.0, self.below], axis=1).reshape(-1)
        stage = Stage("whole numbers", weight, np.repeat(own.values[self.owner], 2) - numbers)
        out_weight = np.pad(program.out_weight, ((0, 0), (0, 2 * count)))
        return replace(program, stages=(*program.stages, stage), out_weight=out_weight, whole=None)

    def between(self, u: Float[np.ndarray, "inputs"]) -> tuple[int, int]:
        """The neurons of the cut at the entry that is furthest from whole: to be active, and to be inactive."""
        entry = int(self.whole.off(u).argmax())
        below = np.floor(self.whole.at(u)[entry])
        cut = int(np.flatnonzero((self.owner == entry) & (self.below == below))[0])
        return self.first + 2 * cut, self.first + 2 * cut + 1
