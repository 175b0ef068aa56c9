"""Networks to be fine-tuned, with all kinds of inputs and layers."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from tests.zoo import ARCHITECTURES, PIECEWISE, WITH_HEAD, Specimen, chain, transformed
from torch_shallow import ShallowReLU


class Shortcut(nn.Module):
    """Neurons that read two of four directions, and an output that reads all."""

    def __init__(self) -> None:
        super().__init__()
        self.narrow, self.wide = chain(2, 5, 4, 2), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.narrow(x[..., :2]) + self.wide(x)


NAMES = ("2-5-4-1", "3-8-8-3", "image", "30-5-4-2", "densely connected", "branches", "PReLU", "classifier in a box")
TUNED = (
    *(s for s in (*ARCHITECTURES, *PIECEWISE, *WITH_HEAD) if s.name in NAMES or s.name.startswith(("4-7", "3-6"))),
    Specimen("shortcut", Shortcut, (4,)),
)


def shallow_of(specimen: Specimen | str) -> ShallowReLU:
    """Return a new shallow network of a model of the zoo."""
    if isinstance(specimen, str):
        specimen = next(s for s in TUNED if s.name == specimen)
    return copy.deepcopy(transformed(specimen))


def shaken(network: nn.Module, size: float, seed: int = 0) -> None:
    """Change every parameter at random by some share of its typical size."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in network.parameters():
            change = torch.randn(p.shape, dtype=p.dtype, generator=generator)
            p.add_(size * float(p.square().mean().sqrt()) * change if p.numel() else change)
