"""Interval bounds of all pre-activations of a network, and the sizes of terms for rounding."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from torch_shallow.bounds.staged import StagedNetwork


def interval_bounds(
    network: StagedNetwork,
) -> tuple[Float[Tensor, "neurons"], Float[Tensor, "neurons"], Float[Tensor, "outputs"], Float[Tensor, "outputs"]]:
    """Return the least and the greatest value of each pre-activation and output by interval arithmetic.

    Sound, rounding included: each sum is widened by what it may have lost. (Moore, "Interval Analysis", 1966.)

    Args:
        network: The network in its box.

    Returns:
        Lower and upper bounds of all pre-activations, then those of the outputs.
    """
    lows, highs, bounds = [network.lower], [network.upper], []
    for layer in network.layers:
        least = most = layer.bias
        for source, block in layer.blocks:
            if source == 0:
                of_inputs = network.extremes(block)
                least, most = least + of_inputs[0], most + of_inputs[1]
                continue
            up, down = block.clamp(min=0.0), block.clamp(max=0.0)
            least = least + up @ lows[source] + down @ highs[source]
            most = most + up @ highs[source] + down @ lows[source]
        widest = [torch.maximum(low.abs(), high.abs()) for low, high in zip(lows, highs, strict=True)]
        slack = network.rounding * layer.sizes(widest)
        bounds.append((least - slack, most + slack))
        lows.append((least - slack).clamp(min=0.0))
        highs.append((most + slack).clamp(min=0.0))
    lower, upper = (torch.cat([network.lower[:0], *parts[:-1]]) for parts in zip(*bounds, strict=True))
    return lower, upper, *bounds[-1]


def term_sizes(network: StagedNetwork, upper: Float[Tensor, "neurons"]) -> list[Float[Tensor, "_"]]:
    """Return, for each layer, upper bounds in the box of the sizes of the terms that its values are sums of.

    Args:
        network: The network in its box.
        upper: Upper bounds of its pre-activations.
    """
    sources = [torch.maximum(network.lower.abs(), network.upper.abs())]
    sources += [upper[stage.neurons].clamp(min=0.0) for stage in network.stages]
    return [layer.sizes(sources[: number + 1]) for number, layer in enumerate(network.layers)]
