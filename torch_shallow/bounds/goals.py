"""The least of some outputs, where others are non-negative, as a single row: a combination of all by weak duality."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from torch_shallow.bounds.backward import Relaxed, Rows
from torch_shallow.bounds.staged import StagedNetwork

UNUSED = -80.0  # the logarithm of a negligible share


@dataclass(frozen=True, eq=False)
class Goals:
    """Combination sum_i share_i g_i + sum_j multiplier_j c_j, which bounds min_i g_i where all c_j >= 0.

    The shares are non-negative with sum 1, and the multipliers are non-negative, so where the constraints hold, the
    combination is at least the least goal. Weights are the logarithms of the shares, up to a common summand, and the
    multipliers, in units of the sizes of goals and constraints.

    Attributes:
        network: The network; its outputs are the goals, then the constraints.
        num_goals: Number of outputs that are goals.
        sizes: Sizes of the terms of each output.
    """

    network: StagedNetwork
    num_goals: int
    sizes: Float[Tensor, "outputs"]

    @property
    def scale(self) -> Float[Tensor, "constraints"]:
        """Multiplier for which a weight of 1 stands."""
        tiny = torch.finfo(self.sizes.dtype).tiny
        return self.sizes[: self.num_goals].max().clamp(min=tiny) / self.sizes[self.num_goals :].clamp(min=tiny)

    def first_weights(self, cells: int) -> Float[Tensor, "cells 1 weights"]:
        """Return the weights of equal shares and no constraint."""
        return torch.zeros(cells, 1, len(self.sizes), dtype=self.sizes.dtype, device=self.sizes.device)

    def weights_of(
        self, shares: Float[Tensor, "*batch goals"], multipliers: Float[Tensor, "*batch constraints"]
    ) -> Float[Tensor, "*batch weights"]:
        """Return the weights of given shares and multipliers."""
        return torch.cat([shares.log().clamp(min=UNUSED), multipliers / self.scale], dim=-1)

    def weights_of_one(self, goal: int) -> Float[Tensor, "1 1 weights"]:
        """Return the weights of one goal alone, without constraints."""
        shares, multipliers = torch.zeros_like(self.sizes[: self.num_goals]), torch.zeros_like(self.scale)
        shares[goal] = 1.0
        return self.weights_of(shares, multipliers)[None, None]

    def values(self, x: Float[Tensor, "*batch inputs"]) -> Float[Tensor, "*batch goals"]:
        """Return the goals at some inputs."""
        return self.network(x)[1][..., : self.num_goals]

    def factors(self, weights: Float[Tensor, "*batch weights"]) -> Float[Tensor, "*batch outputs"]:
        """Return shares and multipliers."""
        shares = torch.softmax(weights[..., : self.num_goals], dim=-1)
        return torch.cat([shares, weights[..., self.num_goals :].clamp(min=0.0) * self.scale], dim=-1)

    def rows(self, weights: Float[Tensor, "cells rows weights"]) -> Rows:
        """Return the combination of the outputs."""
        factors, outputs = self.factors(weights), self.network.outputs
        coefficients: list[Tensor | None] = [None] * len(self.network.layers)
        for source, block in outputs.blocks:
            coefficients[source] = factors @ block
        return Rows(coefficients, factors @ outputs.bias, factors @ self.sizes)

    def derivative(
        self, weights: Float[Tensor, "cells rows weights"], point: Relaxed
    ) -> Float[Tensor, "cells rows weights"]:
        """Return the derivative, from outputs at the relaxation's point; 0 for a multiplier that cannot decrease."""
        values = self.network.outputs(point.sources)
        goals, kept = values[..., : self.num_goals], values[..., self.num_goals :] * self.scale
        shares = torch.softmax(weights[..., : self.num_goals], dim=-1)
        above = goals - (shares * goals).sum(dim=-1, keepdim=True)
        at_zero = (weights[..., self.num_goals :] <= 0.0) & (kept > 0.0)
        return torch.cat([shares * above, torch.where(at_zero, 0.0, kept)], dim=-1)
