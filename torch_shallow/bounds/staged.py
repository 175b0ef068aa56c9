"""A program as tensors, stage by stage, in the form that all bounds read."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from torch_shallow.program.relu_program import ReLUProgram

Blocks = tuple[tuple[int, Float[Tensor, "_ _"]], ...]
ROUNDING = 2.0**-52  # twice the unit roundoff of float64


@dataclass(frozen=True, eq=False)
class Layer:
    """One affine map of a program: the pre-activations of a stage, or the outputs.

    Attributes:
        blocks: Non-zero parts of its weight, each with its source: 0 for the inputs, s for stage s.
        bias: Bias of the map.
        start: Number of its first neuron; for the outputs, the number of neurons.
    """

    blocks: Blocks
    bias: Float[Tensor, "rows"]
    start: int

    @property
    def neurons(self) -> slice:
        """Slice of its neurons among those of all stages."""
        return slice(self.start, self.start + len(self.bias))

    def __call__(self, sources: list[Float[Tensor, "*batch _"]]) -> Float[Tensor, "*batch rows"]:
        """Return the values, given the inputs and the activations of each earlier stage."""
        total = self.bias.expand(*sources[0].shape[:-1], -1)
        for source, block in self.blocks:
            total = total + sources[source] @ block.T
        return total

    def sizes(self, sources: list[Float[Tensor, "*batch _"]]) -> Float[Tensor, "*batch rows"]:
        """Return the sum of the sizes of all terms, given the sizes of the sources."""
        total = self.bias.abs()
        for source, block in self.blocks:
            total = total + sources[source] @ block.abs().T
        return total


@dataclass(frozen=True, eq=False)
class StagedNetwork:
    """The layers of a program as float64 tensors on one device, and the box in which it is examined.

    Attributes:
        layers: The stages, then the outputs.
        lower: Least value of each input; finite.
        upper: Greatest value of each input; finite.
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
        """Return the network of a program in a bounded box."""
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
        """All layers except the outputs."""
        return self.layers[:-1]

    @property
    def outputs(self) -> Layer:
        """The last layer."""
        return self.layers[-1]

    @property
    def num_neurons(self) -> int:
        """Total number of ReLUs."""
        return self.outputs.start

    @property
    def rounding(self) -> float:
        """Greatest rounding error of a bound, relative to the sum of the sizes of all terms.

        A bound is a chain of sums, each no longer than the number of sources of the network. A sum of n terms loses at
        most about n units of roundoff; a chain loses no more than the sum of all lengths.
        """
        return ROUNDING * 2.0 * (len(self.lower) + self.num_neurons + len(self.outputs.bias) + 8 * len(self.layers))

    @property
    def middle(self) -> Float[Tensor, "inputs"]:
        """The centre of the box."""
        return self.lower + self.radius

    @property
    def radius(self) -> Float[Tensor, "inputs"]:
        """Half the width of the box in each input."""
        return (self.upper - self.lower) / 2

    def greatest(self, a: Float[Tensor, "*batch inputs"]) -> tuple[Float[Tensor, "*batch"], Tensor]:
        """Return the greatest value of linear functions of the inputs in the box, and where it is attained."""
        at = torch.where(a > 0.0, self.upper, torch.where(a < 0.0, self.lower, self.middle))
        return a @ self.middle + a.abs() @ self.radius, at

    def extremes(self, rows: Float[Tensor, "rows inputs"]) -> tuple[Float[Tensor, "rows"], Float[Tensor, "rows"]]:
        """Return the least and the greatest value of linear functions of the inputs, ignoring rounding."""
        up, down = rows.clamp(min=0.0), rows.clamp(max=0.0)
        return up @ self.lower + down @ self.upper, up @ self.upper + down @ self.lower

    def __call__(self, x: Float[Tensor, "*batch inputs"]) -> tuple[Float[Tensor, "*batch neurons"], Tensor]:
        """Return the pre-activations at some inputs, and the outputs."""
        sources, values = [x], [x[..., :0]]
        for stage in self.stages:
            z = stage(sources)
            values.append(z)
            sources.append(z.clamp(min=0.0))
        return torch.cat(values, dim=-1), self.outputs(sources)
