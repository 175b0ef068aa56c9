"""The least of some outputs where others are not negative, as one row, by weak duality: a combination of them all."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from torch_shallow.bounds.backward import Relaxed, Rows
from torch_shallow.bounds.staged import StagedNetwork

UNUSED = -80.0  # the logarithm of a share that is none


@dataclass(frozen=True, eq=False)
class Goals:
    """Bounds of min_i g_i where all c_j >= 0: of sum_i share_i g_i + sum_j multiplier_j c_j.

    The shares are not negative and their sum is 1, the multipliers are not negative: what they give is nowhere less
    than the least goal, where the constraints are kept. Weights are the logarithms of the shares, up to a common
    summand, and the multipliers, measured in the sizes of goals and constraints.

    Attributes:
        network: the network, whose outputs are the goals and then the constraints.
        num_goals: how many are goals.
        sizes: the sizes of the terms of each output.
    """

    network: StagedNetwork
    num_goals: int
    sizes: Float[Tensor, "outputs"]

    @property
    def scale(self) -> Float[Tensor, "constraints"]:
        """What a multiplier of 1 stands for."""
        tiny = torch.finfo(self.sizes.dtype).tiny
        return self.sizes[: self.num_goals].max().clamp(min=tiny) / self.sizes[self.num_goals :].clamp(min=tiny)

    def first_weights(self, cells: int) -> Float[Tensor, "cells 1 weights"]:
        """All goals alike, and no constraint."""
        return torch.zeros(cells, 1, len(self.sizes), dtype=self.sizes.dtype, device=self.sizes.device)

    def weights_of(
        self, shares: Float[Tensor, "*batch goals"], multipliers: Float[Tensor, "*batch constraints"]
    ) -> Float[Tensor, "*batch weights"]:
        """The weights of given shares and multipliers."""
        return torch.cat([shares.log().clamp(min=UNUSED), multipliers / self.scale], dim=-1)

    def factors(self, weights: Float[Tensor, "*batch weights"]) -> Float[Tensor, "*batch outputs"]:
        """Shares and multipliers."""
        shares = torch.softmax(weights[..., : self.num_goals], dim=-1)
        return torch.cat([shares, weights[..., self.num_goals :].clamp(min=0.0) * self.scale], dim=-1)

    def rows(self, weights: Float[Tensor, "cells rows weights"]) -> Rows:
        """The combination of the outputs."""
        factors, outputs = self.factors(weights), self.network.outputs
        coefficients: list[Tensor | None] = [None] * len(self.network.layers)
        for source, block in outputs.blocks:
            coefficients[source] = factors @ block
        return Rows(coefficients, factors @ outputs.bias, factors @ self.sizes)

    def derivative(
        self, weights: Float[Tensor, "cells rows weights"], point: Relaxed
    ) -> Float[Tensor, "cells rows weights"]:
        """By the values of the outputs at the point of the relaxation; 0 where a multiplier cannot fall further."""
        values = self.network.outputs(point.sources)
        goals, kept = values[..., : self.num_goals], values[..., self.num_goals :] * self.scale
        shares = torch.softmax(weights[..., : self.num_goals], dim=-1)
        above = goals - (shares * goals).sum(dim=-1, keepdim=True)
        at_zero = (weights[..., self.num_goals :] <= 0.0) & (kept > 0.0)
        return torch.cat([shares * above, torch.where(at_zero, 0.0, kept)], dim=-1)
