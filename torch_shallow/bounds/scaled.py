"""A program on a box in scaled variables, with proven bounds of its neurons; neurons of one sign are folded away."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from torch_shallow.geometry.units import exponents_of
from torch_shallow.program.relu_program import ReLUProgram

ROUNDING = 1e-14  # rounding error of an interval, as a share of the sizes of its terms


@dataclass(frozen=True, eq=False)
class ScaledProgram:
    """A program of inputs v between -1 and 1: z = weights [v; h] + biases, h = relu(z), y = outputs [v; h; 1].

    Neurons are scaled by powers of two, so that none exceeds 1 in size.

    Attributes:
        lower: Least value of each input of the program, including fixed ones.
        upper: Greatest value of each input of the program.
        free: Mask of the inputs that v stands for.
        weights: Weights of the neurons; each neuron's own column and those of later neurons are zero.
        biases: Biases of the neurons.
        outputs: Rows of the outputs, as in the program, with the constants in the last column.
        low: Proven least pre-activation of each neuron.
        high: Proven greatest pre-activation of each neuron.
        neurons: Number in the program of each neuron.
        exponents: Power of two in the program of a neuron of value 1.
    """

    lower: Float[np.ndarray, "inputs"]
    upper: Float[np.ndarray, "inputs"]
    free: Int[np.ndarray, "free"]
    weights: Float[np.ndarray, "neurons sources"]
    biases: Float[np.ndarray, "neurons"]
    outputs: Float[np.ndarray, "outputs sources1"]
    low: Float[np.ndarray, "neurons"]
    high: Float[np.ndarray, "neurons"]
    neurons: Int[np.ndarray, "neurons"]
    exponents: Int[np.ndarray, "neurons"]

    @classmethod
    def of(
        cls, program: ReLUProgram, lower: Float[np.ndarray, "inputs"], upper: Float[np.ndarray, "inputs"]
    ) -> ScaledProgram:
        """Scale the inputs of a program on a box with finite bounds, and bound its neurons by intervals."""
        d, count = program.num_inputs, program.num_neurons
        middle, half = _middle_and_half(lower, upper)
        free = np.flatnonzero(half > 0.0)

        def scaled(weight: np.ndarray, bias: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            inputs = weight[:, :d]
            return np.concatenate([inputs[:, free] * half[free], weight[:, d:]], axis=1), bias + inputs @ middle

        weights, biases = np.zeros((count, len(free) + count)), np.zeros(count)
        for stage, start, stop in zip(program.stages, program.offsets, program.offsets[1:], strict=False):
            rows, biases[start:stop] = scaled(stage.weight, stage.bias)
            weights[start:stop, : rows.shape[1]] = rows
        outputs = np.column_stack(scaled(program.out_weight, program.out_bias))
        low, high = _intervals(weights, biases)
        whole = cls(
            lower, upper, free, weights, biases, outputs, low, high, np.arange(count), np.zeros(count, dtype=np.int64)
        )
        return whole.folded(low, high)

    @property
    def middle(self) -> Float[np.ndarray, "inputs"]:
        """Input of the program at v = 0."""
        return _middle_and_half(self.lower, self.upper)[0]

    @property
    def half(self) -> Float[np.ndarray, "inputs"]:
        """Greatest distance of each input of the program from the middle."""
        return _middle_and_half(self.lower, self.upper)[1]

    @property
    def num_free(self) -> int:
        """Number of free inputs."""
        return len(self.free)

    def unscaled(self, v: Float[np.ndarray, "free"]) -> Float[np.ndarray, "inputs"]:
        """Return the input of the program, clipped to its box."""
        x = self.middle.copy()
        x[self.free] += self.half[self.free] * v
        return np.clip(x, self.lower, self.upper)

    def output_bounds(self) -> tuple[Float[np.ndarray, "outputs"], Float[np.ndarray, "outputs"]]:
        """Return the least and greatest value of each output, by intervals."""
        least = np.concatenate([-np.ones(self.num_free), np.maximum(self.low, 0.0), [1.0]])
        most = np.concatenate([np.ones(self.num_free), np.maximum(self.high, 0.0), [1.0]])
        one, other = self.outputs * least, self.outputs * most
        room = ROUNDING * np.maximum(np.abs(one), np.abs(other)).sum(axis=1) * len(most)
        return np.minimum(one, other).sum(axis=1) - room, np.maximum(one, other).sum(axis=1) + room

    def folded(self, low: Float[np.ndarray, "neurons"], high: Float[np.ndarray, "neurons"]) -> ScaledProgram:
        """Return the program with tighter bounds, without the neurons that have one sign by them.

        An active neuron is an affine function of earlier values and is substituted where it is read.
        """
        d = self.num_free
        weights, biases, outputs = self.weights.copy(), self.biases.copy(), self.outputs.copy()
        for j in np.flatnonzero((low >= 0.0) | (high <= 0.0)):
            for rows, constants in ((weights, biases), (outputs, outputs[:, -1])):
                slopes = rows[:, d + j].copy()
                rows[:, d + j] = 0.0
                if low[j] >= 0.0:
                    rows[:, : d + j] += slopes[:, None] * weights[j, : d + j]
                    constants += slopes * biases[j]
        kept = np.flatnonzero((low < 0.0) & (high > 0.0))
        columns = np.concatenate([np.arange(d), d + kept])
        low, high = low[kept], high[kept]
        exponents = exponents_of(np.maximum(-low, high))
        weights = weights[np.ix_(kept, columns)]
        weights[:, d:] = np.ldexp(weights[:, d:], exponents)
        outputs = np.ascontiguousarray(outputs[:, np.append(columns, -1)])  # as compiled code requires
        outputs[:, d:-1] = np.ldexp(outputs[:, d:-1], exponents)
        return ScaledProgram(
            self.lower,
            self.upper,
            self.free,
            np.ldexp(weights, -exponents[:, None]),
            np.ldexp(biases[kept], -exponents),
            outputs,
            np.ldexp(low, -exponents),
            np.ldexp(high, -exponents),
            self.neurons[kept],
            self.exponents[kept] + exponents,
        )


def _middle_and_half(
    lower: Float[np.ndarray, "inputs"], upper: Float[np.ndarray, "inputs"]
) -> tuple[Float[np.ndarray, "inputs"], Float[np.ndarray, "inputs"]]:
    return 0.5 * lower + 0.5 * upper, 0.5 * upper - 0.5 * lower


def _intervals(
    weights: Float[np.ndarray, "neurons sources"], biases: Float[np.ndarray, "neurons"]
) -> tuple[Float[np.ndarray, "neurons"], Float[np.ndarray, "neurons"]]:
    """Bound the pre-activations by interval arithmetic; neurons must come after those that they read."""
    count = len(biases)
    d = weights.shape[1] - count
    low, high = np.zeros(count), np.zeros(count)
    least, most = (np.concatenate([sign * np.ones(d), np.zeros(count)]) for sign in (-1.0, 1.0))
    rising, falling = np.maximum(weights, 0.0), np.minimum(weights, 0.0)
    start = 0
    while start < count:  # all neurons that read none of each other, at once
        reads = (weights[start:, d + start :] != 0.0).any(axis=1)
        stop = start + (int(reads.argmax()) if reads.any() else count - start)
        rows = slice(start, stop)
        low[rows] = rising[rows] @ least + falling[rows] @ most + biases[rows]
        high[rows] = rising[rows] @ most + falling[rows] @ least + biases[rows]
        size = np.abs(weights[rows]) @ np.maximum(np.abs(least), np.abs(most)) + np.abs(biases[rows])
        low[rows] -= ROUNDING * size * (d + count)
        high[rows] += ROUNDING * size * (d + count)
        least[d + start : d + stop] = np.maximum(low[rows], 0.0)
        most[d + start : d + stop] = np.maximum(high[rows], 0.0)
        start = stop
    return low, high
