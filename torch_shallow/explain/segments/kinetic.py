"""Gradients averaged along segments by events, exactly, at a cost per event of what depends on it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from torch_shallow.functions.deep_function import DeepFunction
from torch_shallow.functions.links import Links

if TYPE_CHECKING:
    from torch_shallow.explain.segments.rank_one import Wiring

MOST_DENSE = 1 << 18  # links of a network of several fully connected layers up to which events are used
ROUNDING = 1e-9  # accepted error of the neurons at the end of a segment, relative to the size of their stage


@dataclass(frozen=True, eq=False)
class Kinetic:
    """Simulation of a network along segments, from event to event.

    It is a kinetic data structure (Basch, Guibas and Hershberger, "Data structures for mobile data", SODA 1997): each
    neuron knows when it will change sign if nothing else happens, and is updated when something does.

    Attributes:
        neurons: the network.
        links: dependencies between its neurons.
    """

    neurons: DeepFunction
    links: Links

    @staticmethod
    def of(neurons: DeepFunction) -> Kinetic | None:
        """Make the simulation for a network whose links are known and that autograd differentiates; else return None.

        None also for several large fully connected layers, where an event changes everything behind it, and matrix
        products over many pieces at once are faster.
        """
        links = neurons.links if neurons.differentiates else None
        if links is None:
            return None
        sizes, count = np.diff(links.blocks), links.weights.nnz
        deep, dense = len(sizes) > 2, 2 * count > int((sizes[1:] * sizes[:-1]).sum())
        return None if deep and dense and count > MOST_DENSE else Kinetic(neurons, links)

    def gradients(
        self,
        start: Float[Tensor, "segments inputs"],
        end: Float[Tensor, "segments inputs"],
        outputs: Float[Tensor, "segments outputs"],
    ) -> Float[Tensor, "segments inputs"]:
        """Gradients of weighted outputs, averaged along segments; NaN where rounding makes them unreliable."""
        from torch_shallow.explain.segments.rank_one import follow, room

        with torch.inference_mode(False), torch.enable_grad():
            begun = _at_start(self.neurons, start.clone(), end.clone(), outputs.clone())
        units, gates = self.links.weights.shape[0], self.links.neurons
        wiring, course = self._wiring(), room(units, len(self.links.blocks) - 1)
        totals, closed = np.zeros((len(start), len(gates))), np.zeros(len(start), dtype=np.bool_)
        stages = np.split(np.arange(len(gates)), self.neurons.offsets[1:-1])
        rows = [part.cpu().numpy() for part in begun]
        for row, (value, slope, last, active, sensitivity) in enumerate(zip(*rows, strict=True)):
            course.sensitivity[:] = 0.0
            course.active[:] = True
            course.event[:] = np.inf
            course.value[gates], course.slope[gates] = value, slope
            course.active[gates], course.sensitivity[gates] = active, sensitivity
            follow(wiring, course)
            totals[row] = course.total[gates]
            missed = np.abs(course.value[gates] - last)
            size = np.maximum(np.abs(value), np.abs(last))
            closed[row] = all(
                missed[stage].max(initial=0.0) <= ROUNDING * size[stage].max(initial=0.0) for stage in stages
            )
        totals[~closed] = np.nan
        with torch.inference_mode(False), torch.enable_grad():
            return self._to_inputs(torch.from_numpy(totals).to(start.device), start, outputs.clone())

    def _wiring(self) -> Wiring:
        from torch_shallow.explain.segments.rank_one import Wiring

        up, down, blocks = self.links.weights, self.links.by_column, self.links.blocks
        return Wiring(
            *(down.indptr.astype(np.int64), down.indices.astype(np.int32, copy=False), down.data),
            *(up.indptr.astype(np.int64), up.indices.astype(np.int32, copy=False), up.data),
            np.repeat(np.arange(len(blocks) - 1), np.diff(blocks)),
            blocks,
            self.links.are_neurons,
        )

    def _to_inputs(
        self,
        totals: Float[Tensor, "segments neurons"],
        like: Float[Tensor, "segments inputs"],
        outputs: Float[Tensor, "segments outputs"],
    ) -> Float[Tensor, "segments inputs"]:
        """Gradients by the inputs, given those by all neurons and the weights of outputs, along direct links."""
        entered: list[Tensor] = []

        def rule(_: int, z: Tensor) -> Tensor:
            entered.append(z)
            return torch.zeros_like(z)

        x = torch.zeros_like(like).requires_grad_()
        y = self.neurons.run(x, rule)
        offsets = self.neurons.offsets
        parts = [totals[:, a:b] for a, b in pairwise(offsets)]
        pairs = [(z, part) for z, part in zip([*entered, y], [*parts, outputs], strict=True) if z.requires_grad]
        if not pairs:
            return torch.zeros_like(like)
        (gradient,) = torch.autograd.grad([z for z, _ in pairs], x, [part for _, part in pairs])
        return gradient


def _at_start(
    neurons: DeepFunction,
    start: Float[Tensor, "segments inputs"],
    end: Float[Tensor, "segments inputs"],
    outputs: Float[Tensor, "segments outputs"],
) -> tuple[Tensor, ...]:
    """State of the neurons at the start of each segment, as tensors of shape `(segments, neurons)`.

    Returns:
        The pre-activations at the start, their growth along the segment, the pre-activations at the end, which neurons
        are active, and the derivatives of the weighted outputs by the activations.
    """
    count = len(start)
    none = start.new_zeros(count, 0)
    values, slopes, ends, leaves = [none], [none], [none], [none]
    active = [none.bool()]

    def rule(_: int, z: Tensor) -> Tensor:
        value, further, last = z.detach().split(count)
        grows = (value > 0.0) | ((value == 0.0) & (further > value))
        values.append(value)
        slopes.append(further - value)
        ends.append(last)
        active.append(grows)
        leaves.append(torch.zeros_like(value).requires_grad_())
        left, ahead, _ = z.split(count)
        return torch.cat([torch.where(grows, left, 0.0) + leaves[-1], torch.where(grows, ahead, 0.0), last.relu()])

    y = neurons.run(torch.cat([start, end, end]), rule)[:count]
    found = [none] + [torch.zeros_like(leaf) for leaf in leaves[1:]]
    if y.requires_grad and len(leaves) > 1:
        given = torch.autograd.grad(y, leaves[1:], outputs, allow_unused=True)
        found = [zero if one is None else one for zero, one in zip(found, (none, *given), strict=True)]
    return tuple(torch.cat(parts, 1) for parts in (values, slopes, ends, active, found))
