"""Define the canonical form of a ReLU network, and convert it back to a module."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from torch_shallow.geometry.units import LEAST, exponents_of, typical_lengths


@dataclass(frozen=True)
class Stage:
    """Hold one layer of ReLUs: `h = relu(weight @ [x; earlier h] + bias)`.

    Attributes:
        name: qualified name of the ReLU in the model, such as `"encoder.1"`.
        weight: weights, float64; the columns are the inputs followed by the neurons of all earlier stages.
        bias: biases, float64.
    """

    name: str
    weight: Float[np.ndarray, "neurons sources"]
    bias: Float[np.ndarray, "neurons"]

    @property
    def num_neurons(self) -> int:
        """Number of ReLUs in the stage."""
        return self.bias.shape[0]


@dataclass(frozen=True)
class WholeNetwork:
    """Describe the network of which a program is a part: what remains in a box where other neurons keep their sign.

    Attributes:
        sizes: number of neurons of each stage of the network.
        active: for each neuron of the network, through all stages in order, whether it is active on the whole box.
        neurons: indices of those neurons that are the neurons of the program, in order.
    """

    sizes: tuple[int, ...]
    active: Bool[np.ndarray, "all"]
    neurons: Int[np.ndarray, "neurons"]


@dataclass(frozen=True)
class ReLUProgram:
    """Hold a continuous piecewise-linear function in the only form that the enumeration uses.

    With `z_s = W_s [x; h_1; ...; h_{s-1}] + b_s` and `h_s = relu(z_s)`, the output is `y = W_out [x; h_1; ...; h_S] +
    b_out`, all in float64. Inputs and outputs are flattened; neurons are numbered through all stages in order.

    Attributes:
        in_shape: shape of one input.
        out_shape: shape of one output.
        stages: the stages.
        out_weight: W_out, with columns as in the weight of a stage.
        out_bias: b_out.
        whole: the whole network, if the program is valid only in a box and has only the neurons that can change sign
            there.
        pairs: disjoint pairs of neurons of the same stage, one in each row, that are expected to have nearly the same
            pre-activation, like those of two nearly equal networks; None if there are none. Only bounds depend on them
            (`bounds/difference_lines.py`).
    """

    in_shape: tuple[int, ...]
    out_shape: tuple[int, ...]
    stages: tuple[Stage, ...]
    out_weight: Float[np.ndarray, "outputs sources"]
    out_bias: Float[np.ndarray, "outputs"]
    whole: WholeNetwork | None = None
    pairs: Int[np.ndarray, "pairs 2"] | None = None

    @property
    def num_inputs(self) -> int:
        """Number of entries of one input."""
        return math.prod(self.in_shape)

    @cached_property
    def reads(self) -> Float[np.ndarray, "neurons inputs"]:
        """The weights of the input itself in each neuron."""
        d = self.num_inputs
        return np.concatenate([np.zeros((0, d)), *(stage.weight[:, :d] for stage in self.stages)])

    def pairs_of(self, start: int, stop: int) -> Int[np.ndarray, "some 2"]:
        """Return the pairs of neurons numbered from `start` to below `stop`."""
        pairs = np.zeros((0, 2), dtype=np.int64) if self.pairs is None else self.pairs
        return pairs[(start <= pairs[:, 0]) & (pairs[:, 0] < stop)]

    @property
    def biases(self) -> Float[np.ndarray, "neurons"]:
        """The bias of each neuron."""
        return np.concatenate([np.zeros(0), *(stage.bias for stage in self.stages)])

    @cached_property
    def units(self) -> Float[np.ndarray, "inputs"]:
        """A length for each input, a power of two, in which the network's own numbers have ordinary sizes."""
        return typical_lengths(self.reads, self.biases)

    @cached_property
    def balanced(self) -> ReLUProgram:
        """The same function with neurons whose largest terms are about 1: each is multiplied by a power of two.

        The neurons keep their signs, and only exponents change. The two neurons of a pair have the same factor.
        """
        d, exponents, stages = self.num_inputs, exponents_of(self.units), []
        for stage, start in zip(self.stages, self.offsets, strict=False):
            terms = np.where(stage.weight != 0.0, exponents_of(stage.weight) + exponents, LEAST)
            terms = np.column_stack([terms, np.where(stage.bias != 0.0, exponents_of(stage.bias), LEAST)]).max(axis=1)
            own = np.where(terms == LEAST, 0, terms)
            for pair in self.pairs_of(start, start + stage.num_neurons) - start:
                own[pair] = own[pair].max()
            weight = np.ldexp(stage.weight, np.append(np.zeros(d, dtype=np.int64), exponents[d:]) - own[:, None])
            stages.append(replace(stage, weight=weight, bias=np.ldexp(stage.bias, -own)))
            exponents = np.append(exponents, own)
        exponents[:d] = 0
        return replace(self, stages=tuple(stages), out_weight=np.ldexp(self.out_weight, exponents))

    @cached_property
    def slope_terms(self) -> Float[np.ndarray, "outputs inputs"]:
        """The size of the terms that sum up to the slopes of the outputs, to which their rounding is relative.

        Weights are multiplied as independent errors are, with all neurons active.
        """
        d = self.num_inputs
        sizes = np.eye(d)
        for weight in (*(stage.weight for stage in self.stages), self.out_weight):
            hidden = np.sqrt((weight[:, d:] ** 2) @ (sizes[d:] ** 2))
            sizes = np.concatenate([sizes, hidden + np.abs(weight[:, :d])])
        return sizes[len(sizes) - self.num_outputs :]

    @property
    def num_outputs(self) -> int:
        """Number of entries of one output."""
        return self.out_bias.shape[0]

    @property
    def num_neurons(self) -> int:
        """Number of ReLUs in all stages together."""
        return sum(stage.num_neurons for stage in self.stages)

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """Index of the first neuron of each stage, and finally the number of neurons."""
        return (0, *(int(n) for n in np.cumsum([stage.num_neurons for stage in self.stages])))

    @cached_property
    def network(self) -> WholeNetwork:
        """The network to which these neurons belong: `whole`, or the program itself."""
        if self.whole is not None:
            return self.whole
        count = self.num_neurons
        sizes = tuple(stage.num_neurons for stage in self.stages)
        return WholeNetwork(sizes, np.zeros(count, dtype=bool), np.arange(count))

    def whole_pattern(self, patterns: Bool[np.ndarray, "*some neurons"]) -> Bool[np.ndarray, "*some all"]:
        """Return the pattern of the whole network, given patterns of the program's neurons."""
        network = self.network
        whole = np.broadcast_to(network.active, (*patterns.shape[:-1], len(network.active))).copy()
        whole[..., network.neurons] = patterns
        return whole

    def neuron_name(self, neuron: int) -> str:
        """Return the stage (counted from 1) and the index in the stage (from 0) of a neuron of the whole network."""
        return neuron_name(self.network.sizes, neuron)

    def preactivations(self, x: Float[np.ndarray, "points inputs"]) -> Float[np.ndarray, "points neurons"]:
        """Return the value that enters each ReLU, for each row of `x`."""
        sources, values = x, []
        for stage in self.stages:
            z = sources @ stage.weight.T + stage.bias
            values.append(z)
            sources = np.concatenate([sources, np.maximum(z, 0.0)], axis=1)
        return np.concatenate(values, axis=1) if values else np.zeros((x.shape[0], 0))

    def pattern(self, x: Float[np.ndarray, "points inputs"]) -> Bool[np.ndarray, "points neurons"]:
        """Tell which ReLUs are active (pre-activation > 0), for each row of `x`."""
        return self.preactivations(x) > 0.0

    def __call__(self, x: Float[np.ndarray, "points inputs"]) -> Float[np.ndarray, "points outputs"]:
        """Compute the output for each row of `x`."""
        hidden = np.maximum(self.preactivations(x), 0.0)
        return np.concatenate([x, hidden], axis=1) @ self.out_weight.T + self.out_bias

    def affine_maps(
        self, pattern: Bool[np.ndarray, "neurons"]
    ) -> tuple[
        Float[np.ndarray, "neurons inputs"],
        Float[np.ndarray, "neurons"],
        Float[np.ndarray, "outputs inputs"],
        Float[np.ndarray, "outputs"],
    ]:
        """Return the affine functions of the input that the network computes where `pattern` holds.

        Returns:
            Weight and bias of every pre-activation, then weight and bias of the output.
        """
        d = self.num_inputs
        weights, biases = np.zeros((self.num_neurons, d)), np.zeros(self.num_neurons)

        def compose(weight: np.ndarray, bias: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            active = np.flatnonzero(pattern[: weight.shape[1] - d])
            hidden = weight[:, d + active]
            return weight[:, :d] + hidden @ weights[active], bias + hidden @ biases[active]

        for stage, start, stop in zip(self.stages, self.offsets, self.offsets[1:], strict=False):
            weights[start:stop], biases[start:stop] = compose(stage.weight, stage.bias)
        return (weights, biases, *compose(self.out_weight, self.out_bias))

    def __str__(self) -> str:
        """Write a line for each stage: name, neurons, and the earlier stages that it reads."""
        of_all = f" of {len(self.network.active)} that can change sign" if self.whole else ""
        rows = [f"ReLUProgram: input {self.in_shape}, output {self.out_shape}, {self.num_neurons} ReLUs{of_all}"]
        for number, stage in enumerate(self.stages, start=1):
            rows.append(
                f"  stage {number}: {stage.name or '(root)'}: {stage.num_neurons} ReLUs of {self._reads(stage.weight)}"
            )
        rows.append(f"  output: {self.num_outputs} values of {self._reads(self.out_weight)}")
        return "\n".join(rows)

    def _reads(self, weight: Float[np.ndarray, "rows sources"]) -> str:
        d = self.num_inputs
        sources = [("input", weight[:, :d])]
        for number, (start, stop) in enumerate(zip(self.offsets, self.offsets[1:], strict=False), start=1):
            sources.append((f"stage {number}", weight[:, d + start : d + stop]))
        return ", ".join(name for name, block in sources if block.any()) or "nothing (constant)"


def neuron_name(sizes: Sequence[int], neuron: int) -> str:
    """Return the stage (counted from 1) and the index in the stage (from 0) of a neuron, given the sizes of stages."""
    starts = np.cumsum([0, *sizes])
    stage = int(np.searchsorted(starts, neuron, side="right"))
    return f"stage {stage} neuron {neuron - starts[stage - 1]}"


class ProgramNetwork(nn.Module):
    """The deep network of a program, which computes in float64 whatever the dtype outside.

    Args:
        program: the program.
        head: what follows it, or None.
    """

    def __init__(self, program: ReLUProgram, head: nn.Module | None = None) -> None:
        super().__init__()
        self.num_inputs, self.out_shape = program.num_inputs, program.out_shape
        self.stages = nn.ModuleList(_linear(stage.weight, stage.bias) for stage in program.stages)
        self.relus = nn.ModuleList(nn.ReLU() for _ in program.stages)
        self.out = _linear(program.out_weight, program.out_bias)
        self.head = head

    def forward(self, x: Tensor) -> Tensor:
        """Compute the output for a batch of inputs."""
        known = x.reshape(-1, self.num_inputs).double()
        for stage, relu in zip(self.stages, self.relus, strict=True):
            known = torch.cat([known, relu(stage(known))], 1)
        y = self.out(known).reshape(-1, *self.out_shape)
        return y.type_as(x) if self.head is None else self.head(y)


def _linear(weight: object, bias: object) -> nn.Linear:
    weights, biases = torch.as_tensor(weight, dtype=torch.float64), torch.as_tensor(bias, dtype=torch.float64)
    layer = nn.utils.skip_init(nn.Linear, weights.shape[1], weights.shape[0], dtype=torch.float64)
    layer.weight.data.copy_(weights)
    layer.bias.data.copy_(biases)
    return layer
