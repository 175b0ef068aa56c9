"""The affine maps of a network on regions of given patterns."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from torch_shallow.functions.deep_function import ROUNDING, Neurons
from torch_shallow.program.affine_forms import INPUT, Sources, push

Maps = tuple[Float[Tensor, "regions outputs inputs"], Float[Tensor, "regions outputs"]]


def local_maps(neurons: Neurons, active: Bool[Tensor, "regions neurons"]) -> Maps:
    """Weight and bias of the trunk under some patterns.

    A row for each region runs through the network with its neurons frozen, at the input 0, which gives the bias; one
    backward pass for each output gives the weights. Where there are more outputs than inputs, or the model's code does
    not let gradients through, the inputs are pushed through forwards, one region after the other.

    Args:
        neurons: the network.
        active: the patterns; as many as are run at once.
    """
    if neurons.num_outputs > neurons.num_inputs or not neurons.differentiates:
        maps = [neuron_maps(neurons, pattern.double())[1] for pattern in active]
        return torch.stack([weight for weight, _ in maps]), torch.stack([bias for _, bias in maps])
    return neurons.gradients(active)


def neuron_maps(
    neurons: Neurons, slopes: Float[Tensor, "neurons"]
) -> tuple[
    tuple[Float[Tensor, "neurons inputs"], Float[Tensor, "neurons"]],
    tuple[Float[Tensor, "outputs inputs"], Float[Tensor, "outputs"]],
]:
    """Weight and bias of every neuron, and of the trunk, read as exactly as the layers store them.

    Args:
        neurons: the network.
        slopes: what each neuron makes of what enters it: 1 times it where it is active, 0 times it elsewhere.
    """
    traced, n = neurons.traced, neurons.num_neurons
    ends = [*neurons.offsets, n + neurons.num_outputs]
    weight = torch.zeros(ends[-1], neurons.num_inputs, dtype=torch.float64, device=traced.device)
    bias = torch.zeros_like(weight[:, 0])

    def receive(stage: int, chunk: slice, constant: Tensor, coefficients: Tensor) -> None:
        weight[ends[stage] : ends[stage + 1], chunk] = coefficients.T
        bias[ends[stage] : ends[stage + 1]] = constant

    of_stages = slopes.split([layout.num_neurons for layout in traced.layouts])
    inputs = Sources.of(INPUT, np.arange(neurons.num_inputs))
    push(traced, of_stages, inputs, np.zeros(neurons.num_inputs), receive)
    return (weight[:n], bias[:n]), (weight[n:], bias[n:])


def clean_neuron_maps(
    neurons: Neurons, active: Bool[Tensor, "neurons"]
) -> tuple[Float[Tensor, "neurons inputs"], Float[Tensor, "neurons"]]:
    """Weight and bias of every neuron under one pattern; weights that are only rounding are zero.

    What a weight is added up from is told by the same sum with each active neuron times a random number, which does not
    cancel.
    """
    slopes = active.double()
    (weight, bias), _ = neuron_maps(neurons, slopes)
    factors = 0.5 + torch.rand(len(slopes), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    (terms, _), _ = neuron_maps(neurons, slopes * factors.to(slopes.device))
    if len(weight):
        units = terms.abs().amax(dim=0).clamp(min=torch.finfo(terms.dtype).tiny)  # whatever the units of the inputs
        weight[(weight / units).norm(dim=1) <= ROUNDING * (terms / units).norm(dim=1)] = 0.0
    return weight, bias
