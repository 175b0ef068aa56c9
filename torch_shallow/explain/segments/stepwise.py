"""Deep networks whose code does not let a batch grow: the same breakpoints and gradients, by a run for each stage."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from torch_shallow.explain.segments.grid import Grid, TooLong, refine
from torch_shallow.shallow.visited.local_maps import local_maps
from torch_shallow.shallow.visited.neurons import Neurons


class _Arrived(BaseException):
    """Ends a run at the stage that is asked for."""


@dataclass(frozen=True, eq=False)
class Stepwise:
    """As `Sweep`, for any network: each stage is reached from the inputs again.

    Attributes:
        neurons: the network.
    """

    neurons: Neurons

    @torch.no_grad()
    def breakpoints(
        self, start: Float[Tensor, "segments inputs"], end: Float[Tensor, "segments inputs"], most: int
    ) -> Grid:
        """Where segments cross from one activation region to another; as `Sweep.breakpoints`.

        Raises:
            TooLong: there are more breakpoints than `most`.
        """
        grid = Grid.of_ends(len(start), start.device)
        for stage in range(len(self.neurons.traced.layouts)):
            z = self._entering(stage, grid.points(start, end))
            grid = refine(grid, z).grid
            if len(grid) > most:
                raise TooLong(grid)
        return grid

    def gradients(
        self,
        start: Float[Tensor, "segments inputs"],
        end: Float[Tensor, "segments inputs"],
        outputs: Float[Tensor, "segments outputs"],
        most: int,
    ) -> tuple[Float[Tensor, "segments inputs"], Grid]:
        """Gradients of weighted outputs, averaged along segments; as `Sweep.gradients`.

        Raises:
            TooLong: there are more breakpoints than `most`.
        """
        grid = self.breakpoints(start, end, most)
        segment = grid.segment[grid.starts_piece]
        active = self.neurons.signs(grid.midpoints(start, end))
        weights = outputs[segment] * grid.lengths[grid.starts_piece, None]
        if self.neurons.differentiates:
            with torch.inference_mode(False), torch.enable_grad():
                x = torch.zeros(len(segment), start.shape[1], dtype=start.dtype, device=start.device)
                _, y = self.neurons.frozen(x.requires_grad_(), active.clone())
                found = torch.autograd.grad(y, x, weights.clone(), allow_unused=True)[0] if y.requires_grad else None
            gradient = torch.zeros_like(x) if found is None else found
        else:
            gradient = torch.einsum("po,poi->pi", weights, local_maps(self.neurons, active)[0])
        return torch.zeros_like(start).index_add_(0, segment, gradient.detach()), grid

    def _entering(self, stage: int, x: Float[Tensor, "points inputs"]) -> Float[Tensor, "points neurons"]:
        """What enters the neurons of a stage."""
        found: list[Tensor] = []

        def rule(number: int, z: Tensor) -> Tensor:
            if number == stage:
                found.append(z.clone())
                raise _Arrived
            return z.relu()

        with suppress(_Arrived):
            self.neurons.run(x, rule)
        return found[0]
