"""Entries that must be whole numbers, and cuts of cells between two of them, as by neurons that nothing reads."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int

from torch_shallow.errors import TransformError
from torch_shallow.program.relu_program import ReLUProgram, Stage

WHOLE = 1e-9  # relative: a value this close to a whole number counts as one
MOST_CUTS = 2000  # for all entries together


@dataclass(frozen=True, eq=False)
class WholeNumbers:
    """The entries i of u for which `slopes u_i + values` must be whole.

    Attributes:
        entries: Numbers of the entries.
        slopes: Slope of each; not 0.
        values: Value of each at u = 0.
    """

    entries: Int[np.ndarray, "whole"]
    slopes: Float[np.ndarray, "whole"]
    values: Float[np.ndarray, "whole"]

    def at(self, u: Float[np.ndarray, "*points inputs"]) -> Float[np.ndarray, "*points whole"]:
        """Return the numbers at some points."""
        found: np.ndarray = u[..., self.entries] * self.slopes + self.values
        return found

    def entries_at(self, numbers: Float[np.ndarray, "*points whole"]) -> Float[np.ndarray, "*points whole"]:
        """Return the entries that give these numbers."""
        return (numbers - self.values) / self.slopes

    def off(self, u: Float[np.ndarray, "*points inputs"]) -> Float[np.ndarray, "*points whole"]:
        """Return how far each number is from a whole one; 0 if only by rounding."""
        numbers = self.at(u)
        off = np.abs(numbers - np.rint(numbers))
        return np.where(off <= WHOLE * (1.0 + np.abs(numbers)), 0.0, off)

    def contains(self, u: Float[np.ndarray, "points inputs"]) -> np.ndarray:
        """Return which rows have only whole numbers."""
        whole: np.ndarray = (self.off(u) == 0.0).all(axis=1)
        return whole

    def fixed(
        self, u: Float[np.ndarray, "inputs"], lower: Float[np.ndarray, "inputs"], upper: Float[np.ndarray, "inputs"]
    ) -> tuple[Float[np.ndarray, "inputs"], Float[np.ndarray, "inputs"]]:
        """Return the box in which the whole numbers are those next to a point's."""
        ends = self.entries_at(np.rint(self.at(u)))
        low, high = lower.copy(), upper.copy()
        low[self.entries] = high[self.entries] = np.clip(ends, lower[self.entries], upper[self.entries])
        return low, high


@dataclass(frozen=True, eq=False)
class NumberCuts:
    """Cuts between n and n + 1 for each entry: one neuron is active from n + 1 on, the next inactive up to n.

    Attributes:
        whole: The entries.
        first: Number of the first of these neurons.
        owner: For each cut, the entry that it cuts.
        below: For each cut, n.
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
        """Return all cuts that a box may need.

        Raises:
            TransformError: There are too many.
        """
        ends = [end[whole.entries] * whole.slopes + whole.values for end in (lower, upper)]
        low, high = np.floor(np.minimum(*ends)), np.ceil(np.maximum(*ends))
        counts = np.maximum(high - low, 0.0)
        if counts.sum() > MOST_CUTS:
            raise TransformError(
                f"integer: expected at most {MOST_CUTS} whole numbers to choose from, found {counts.sum():.0f} in the "
                "ball to be searched; limit the range of these features with lower and upper."
            )
        owner = np.repeat(np.arange(len(counts)), counts.astype(np.int64))
        below = np.concatenate([np.zeros(0), *(np.arange(a, b) for a, b in zip(low, high, strict=True))])
        return cls(whole, first, owner, below)

    def behind(self, program: ReLUProgram) -> ReLUProgram:
        """Append the neurons of the cuts, which nothing reads, to a program."""
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
        """Return the neurons of the cut at the entry furthest from whole: one to be active, one to be inactive."""
        entry = int(self.whole.off(u).argmax())
        below = np.floor(self.whole.at(u)[entry])
        cut = int(np.flatnonzero((self.owner == entry) & (self.below == below))[0])
        return self.first + 2 * cut, self.first + 2 * cut + 1
