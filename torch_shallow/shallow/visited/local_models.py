"""Third layer of a network of visited regions: their affine maps."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

ENTRIES_AT_ONCE = 1 << 24  # of gathered weights: 128 MB


class LocalModels(nn.Module):
    """The affine maps of the regions, one after the other.

    Args:
        num_outputs: entries of one output of the trunk.
        num_inputs: entries of one input.
    """

    weights: Tensor
    biases: Tensor

    def __init__(self, num_outputs: int, num_inputs: int) -> None:
        super().__init__()
        self.register_buffer("weights", torch.zeros(0, num_outputs, num_inputs, dtype=torch.float64))
        self.register_buffer("biases", torch.zeros(0, num_outputs, dtype=torch.float64))

    def __len__(self) -> int:
        return len(self.biases)

    def forward(
        self, region: Int64[Tensor, "points"], x: Float[Tensor, "points inputs"]
    ) -> Float[Tensor, "points outputs"]:
        """The output of each region's map, of a few points at a time, since their weights are gathered."""
        size = max(1, ENTRIES_AT_ONCE // max(1, self.weights[:1].numel()))
        parts = [
            torch.einsum("poi,pi->po", self.weights[some], rows) + self.biases[some]
            for some, rows in zip(region.split(size), x.split(size), strict=True)
        ]
        return torch.cat(parts)

    def forget(self) -> None:
        """Drop all maps."""
        self.weights, self.biases = self.weights[:0].clone(), self.biases[:0].clone()

    def extra_repr(self) -> str:
        """Number of maps and their size."""
        regions, outputs, inputs = self.weights.shape
        return f"{regions} local models, {inputs} inputs to {outputs} outputs"
