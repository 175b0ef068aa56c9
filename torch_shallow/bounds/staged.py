"""A program as tensors, stage by stage, as all bounds read it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from torch_shallow.program.relu_program import ReLUProgram

Blocks = tuple[tuple[int, Float[Tensor, "_ _"]], ...]
ROUNDING = 2.0**-52  # twice the unit of rounding of float64


@dataclass(frozen=True, eq=False)
class Layer:
    """One affine map of a program: what enters the ReLUs of a stage, or the outputs.

    Attributes:
        blocks: the parts of its weight that are not zero, each with its source: 0 for the inputs, s for stage s.
        bias: its bias.
        start: number of its first neuron; the number of neurons for the outputs.
    """

    blocks: Blocks
    bias: Float[Tensor, "rows"]
    start: int

    @property
    def neurons(self) -> slice:
        """Where its neurons are among those of all stages."""
        return slice(self.start, self.start + len(self.bias))

    def __call__(self, sources: list[Float[Tensor, "*batch _"]]) -> Float[Tensor, "*batch rows"]:
        """The values, given the inputs and what has left the ReLUs of each stage before."""
        total = self.bias.expand(*sources[0].shape[:-1], -1)
        for source, block in self.blocks:
            total = total + sources[source] @ block.T
        return total

    def sizes(self, sources: list[Float[Tensor, "*batch _"]]) -> Float[Tensor, "*batch rows"]:
        """The sum of the sizes of all terms, given the sizes of the sources."""
        total = self.bias.abs()
        for source, block in self.blocks:
            total = total + sources[source] @ block.abs().T
        return total


@dataclass(frozen=True, eq=False)
class StagedNetwork:
    """The layers of a program as float64 tensors on one device, and the box that it is looked at in.

    Attributes:
        layers: the stages, and then the outputs.
        lower: least value of each input; finite.
        upper: greatest value likewise.
    """

    layers: tuple[Layer, ...]
    lower: Float[Tensor, "inputs"]
    upper: Float[Tensor, "inputs"]

    @classmethod
    def of(
        cls,
        program: ReLUProgram,
        lower: Float[np.ndarray, "inputs"],
        upper: Float[np.ndarray, "inputs"],
        device: torch.device | str = "cpu",
    ) -> StagedNetwork:
        """The network of a program in a bounded box."""
        cuts = [0, *(program.num_inputs + offset for offset in program.offsets)]
        affine = [(stage.weight, stage.bias) for stage in program.stages] + [(program.out_weight, program.out_bias)]
        layers = []
        for stage, (weight, bias) in enumerate(affine):
            parts = [(source, weight[:, cuts[source] : cuts[source + 1]]) for source in range(stage + 1)]
            blocks = tuple((source, torch.tensor(part, device=device)) for source, part in parts if part.any())
            layers.append(Layer(blocks, torch.tensor(bias, device=device), program.offsets[stage]))
        return cls(tuple(layers), torch.tensor(lower, device=device), torch.tensor(upper, device=device))

    @property
    def stages(self) -> tuple[Layer, ...]:
        """All layers but the outputs."""
        return self.layers[:-1]

    @property
    def outputs(self) -> Layer:
        """The last layer."""
        return self.layers[-1]

    @property
    def num_neurons(self) -> int:
        """Number of ReLUs in all stages together."""
        return self.outputs.start

    @property
    def rounding(self) -> float:
        """How much is lost at most, relative to the sum of the sizes of all terms, when a bound is added up.

        A bound is a chain of sums, none of them longer than the network has sources. What is lost by a sum of n terms
        is at most about n units of rounding; a chain loses no more than the sum of all lengths.
        """
        return ROUNDING * 2.0 * (len(self.lower) + self.num_neurons + len(self.outputs.bias) + 8 * len(self.layers))

    @property
    def middle(self) -> Float[Tensor, "inputs"]:
        """The centre of the box."""
        return self.lower + self.radius

    @property
    def radius(self) -> Float[Tensor, "inputs"]:
        """Half the widths of the box."""
        return (self.upper - self.lower) / 2

    def greatest(self, a: Float[Tensor, "*batch inputs"]) -> tuple[Float[Tensor, "*batch"], Tensor]:
        """The greatest value of linear functions of the inputs in the box, and where it is reached."""
        at = torch.where(a > 0.0, self.upper, torch.where(a < 0.0, self.lower, self.middle))
        return a @ self.middle + a.abs() @ self.radius, at

    def extremes(self, rows: Float[Tensor, "rows inputs"]) -> tuple[Float[Tensor, "rows"], Float[Tensor, "rows"]]:
        """The least and the greatest value of linear functions of the inputs, but for rounding."""
        up, down = rows.clamp(min=0.0), rows.clamp(max=0.0)
        return up @ self.lower + down @ self.upper, up @ self.upper + down @ self.lower

    def __call__(self, x: Float[Tensor, "*batch inputs"]) -> tuple[Float[Tensor, "*batch neurons"], Tensor]:
        """What enters each ReLU at some inputs, and the outputs."""
        sources, values = [x], [x[..., :0]]
        for stage in self.stages:
            z = stage(sources)
            values.append(z)
            sources.append(z.clamp(min=0.0))
        return torch.cat(values, dim=-1), self.outputs(sources)
