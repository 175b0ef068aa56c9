"""A program as a module again: what stands for a shallow network that is a part of a model."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from torch_shallow.trace.program import ReLUProgram


class ProgramNetwork(nn.Module):
    """The deep network of a program: float64 inside, the caller's dtype outside.

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
        """The output at a batch of inputs."""
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
