"""Represent a deep network of any size as a graph that runs in batches, and compute its affine maps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from itertools import accumulate, count
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Size, Tensor, nn

from torch_shallow.functions.links import Links
from torch_shallow.geometry.sharing import blocks
from torch_shallow.program.affine_forms import INPUT, Sources, push
from torch_shallow.program.relu_program import neuron_name
from torch_shallow.program.traced import TracedModel

VALUES_AT_ONCE = 1 << 22  # inputs, neurons and outputs in a batch: 32 MB; convolutions take several times as much
ROUNDING = 1e-10  # a neuron is undecided up to this share of the terms of its sum
PROBES = 2

Rule = Callable[[int, Float[Tensor, "points neurons"]], Float[Tensor, "points neurons"]]


class Rounded(NamedTuple):
    """Hold neurons and outputs at some points, as far as rounding determines them.

    Attributes:
        positive: whether each neuron is positive.
        undecided: whether each neuron is zero up to rounding, so that it might be on either side.
        terms: size of the terms that sum up to each output.
    """

    positive: Bool[Tensor, "points neurons"]
    undecided: Bool[Tensor, "points neurons"]
    terms: Float[Tensor, "points outputs"]


class DeepFunction(nn.Module):
    """The neurons of a deep network; inputs, neurons and outputs of the trunk are rows of float64.

    Args:
        traced: the network. Constants of its code become buffers, so that they move with the module.

    Attributes:
        traced: the network.
        root: its modules.
    """

    def __init__(self, traced: TracedModel) -> None:
        super().__init__()
        for module in traced.root.modules():
            for name in [name for name, value in vars(module).items() if isinstance(value, Tensor)]:
                value = module.__dict__.pop(name)
                module.register_buffer(name, value, persistent=False)
        self.traced, self.root = traced, traced.root
        self.offsets = tuple(accumulate((layout.num_neurons for layout in traced.layouts), initial=0))

    def __repr__(self) -> str:
        """Write one line, as the deep network prints itself."""
        return f"DeepFunction({self.num_neurons} neurons of the deep network)"

    @property
    def in_shape(self) -> tuple[int, ...]:
        """Shape of one input."""
        return self.traced.in_shape

    @property
    def out_shape(self) -> tuple[int, ...]:
        """Shape of one output of the trunk."""
        return self.traced.out_shape

    @property
    def device(self) -> torch.device:
        """Device of its constants."""
        return self.traced.device

    @property
    def num_inputs(self) -> int:
        """Number of entries of one input."""
        return Size(self.in_shape).numel()

    @property
    def num_outputs(self) -> int:
        """Number of entries of one output of the trunk."""
        return Size(self.out_shape).numel()

    @property
    def num_neurons(self) -> int:
        """Number of ReLUs."""
        return self.offsets[-1]

    def blocks(self, rows: int) -> Iterator[slice]:
        """Divide rows into blocks that run together."""
        return blocks(rows, self.num_inputs + self.num_neurons + self.num_outputs, VALUES_AT_ONCE)

    def name(self, neuron: int) -> str:
        """Return the stage (counted from 1) and the index in the stage (from 0) of a neuron."""
        return neuron_name([layout.num_neurons for layout in self.traced.layouts], neuron)

    def run(self, x: Float[Tensor, "points inputs"], rule: Rule) -> Float[Tensor, "points outputs"]:
        """Compute the outputs with `rule` in place of the ReLUs, called with a stage's index and pre-activations."""
        stages = count()

        def at_relu(_: object, z: Tensor) -> Tensor:
            stage = next(stages)
            layout = self.traced.layouts[stage]
            return layout.tensor(rule(stage, layout.rows(z)))

        # Clone x, since the model may work in place.
        return self.traced.run(x.clone().reshape(-1, *self.traced.in_shape), at_relu).reshape(len(x), -1)

    @torch.no_grad()
    def signs(self, x: Float[Tensor, "points inputs"]) -> Bool[Tensor, "points neurons"]:
        """Tell which neurons are positive."""
        stages = [x.new_zeros(len(x), 0, dtype=torch.bool)]

        def rule(_: int, z: Tensor) -> Tensor:
            stages.append(z > 0.0)
            return z.relu()

        self.run(x, rule)
        return torch.cat(stages, 1)

    @torch.no_grad()
    def rounded(self, x: Float[Tensor, "points inputs"]) -> Rounded:
        """Return what rounding leaves certain of the neurons and outputs.

        Rounding is relative to the terms of a sum. Their size is estimated by the same sum with each term multiplied by
        a random number, so that it does not cancel. Neither the scale of a neuron nor that of its neighbours matters
        then.
        """
        generator = torch.Generator().manual_seed(0)

        def shaken(size: Tensor) -> Tensor:
            factors = torch.rand(2, PROBES, size.shape[1], dtype=torch.float64, generator=generator).to(size.device)
            return (torch.sign(factors[0] - 0.5) * (0.5 + factors[1]))[:, None] * size

        positive, either = [x.new_zeros(len(x), 0, dtype=torch.bool)], [x.new_zeros(len(x), 0, dtype=torch.bool)]

        def rule(_: int, rows: Tensor) -> Tensor:
            rows = rows.unflatten(0, (1 + PROBES, len(x)))
            z, size = rows[0], rows.abs().amax(0)
            positive.append(z > 0.0)
            either.append(z.abs() <= ROUNDING * size)
            # The result of a cancellation has the rounding of its terms.
            return torch.cat([z.relu()[None], shaken(torch.where(positive[-1] | either[-1], size, 0.0))]).flatten(0, 1)

        y = self.run(torch.cat([x[None], shaken(x)]).flatten(0, 1), rule)
        terms = y.unflatten(0, (1 + PROBES, len(x))).abs().amax(0)
        return Rounded(torch.cat(positive, 1), torch.cat(either, 1), terms)

    def frozen(
        self, x: Float[Tensor, "points inputs"], active: Bool[Tensor, "points neurons"]
    ) -> tuple[Float[Tensor, "points neurons"], Float[Tensor, "points outputs"]]:
        """Return the pre-activations and the outputs, with fixed patterns of the neurons that pass values on.

        Both are affine in `x`, for each row with its own pattern.
        """
        stages = [x.new_zeros(len(x), 0)]

        def rule(stage: int, z: Tensor) -> Tensor:
            stages.append(z.clone())  # the model may work in place
            return torch.where(active[:, self.offsets[stage] : self.offsets[stage + 1]], z, 0.0)

        y = self.run(x, rule)
        return torch.cat(stages, 1), y

    def gradients(
        self, active: Bool[Tensor, "points neurons"]
    ) -> tuple[Float[Tensor, "points outputs inputs"], Float[Tensor, "points outputs"]]:
        """Return weight and bias of the outputs under some patterns, by one backward pass per output at the input 0."""
        shape, device = (len(active), self.num_outputs, self.num_inputs), self.traced.device
        with torch.inference_mode(False), torch.enable_grad():
            weight = torch.zeros(shape, dtype=torch.float64, device=device)
            x = torch.zeros(shape[0], shape[2], dtype=torch.float64, device=device, requires_grad=True)
            _, y = self.frozen(x, active.clone())  # active may be an inference tensor
            for output in range(shape[1] if y.requires_grad else 0):
                more = output + 1 < shape[1]
                (gradient,) = torch.autograd.grad(y[:, output].sum(), x, retain_graph=more, allow_unused=True)
                if gradient is not None:
                    weight[:, output] = gradient
        return weight, y.detach()

    @cached_property
    def links(self) -> Links | None:
        """The dependencies among its neurons; None if they cannot be determined, or are too many."""
        return Links.of(self.traced)

    @cached_property
    def differentiates(self) -> bool:
        """Whether gradients give the affine maps; code can hide values from them, for example by `detach()`.

        The slope of outputs with random weights from 0 along a random direction, with all neurons active, is compared
        with the one given by gradients.
        """
        tolerance, scale = 1e-9, 2.0**100  # so large that biases vanish beside slopes
        generator = torch.Generator().manual_seed(0)
        direction, weights = (
            torch.rand(size, dtype=torch.float64, generator=generator).to(self.traced.device)
            for size in (self.num_inputs, self.num_outputs)
        )
        active = torch.ones(2, self.num_neurons, dtype=torch.bool, device=direction.device)
        with torch.inference_mode(False), torch.enable_grad():
            x = torch.stack([0.0 * direction, scale * direction]).requires_grad_()
            _, y = self.frozen(x, active)
            bias, ahead = (y @ weights).unbind()
            found = torch.autograd.grad(bias, x, allow_unused=True)[0] if y.requires_grad else None
        gradient = torch.zeros_like(direction) if found is None else found[0]
        slope = (ahead - bias).detach() / scale
        size = gradient.abs() @ direction + bias.detach().abs() / scale
        return bool((slope - gradient @ direction).abs() <= tolerance * size)


Maps = tuple[Float[Tensor, "regions outputs inputs"], Float[Tensor, "regions outputs"]]


def local_maps(neurons: DeepFunction, active: Bool[Tensor, "regions neurons"]) -> Maps:
    """Return weight and bias of the trunk under some patterns.

    A row for each region runs through the network with frozen neurons, at the input 0, which gives the bias; one
    backward pass for each output gives the weights. If there are more outputs than inputs, or the model's code does not
    let gradients through, inputs are pushed forward instead, one region after another.
    """
    if neurons.num_outputs > neurons.num_inputs or not neurons.differentiates:
        maps = [neuron_maps(neurons, pattern.double())[1] for pattern in active]
        return torch.stack([weight for weight, _ in maps]), torch.stack([bias for _, bias in maps])
    return neurons.gradients(active)


def neuron_maps(
    neurons: DeepFunction, slopes: Float[Tensor, "neurons"]
) -> tuple[
    tuple[Float[Tensor, "neurons inputs"], Float[Tensor, "neurons"]],
    tuple[Float[Tensor, "outputs inputs"], Float[Tensor, "outputs"]],
]:
    """Return weight and bias of every neuron, and of the trunk, exactly as the layers store them.

    Args:
        neurons: the network.
        slopes: the factor by which each neuron multiplies its pre-activation: 1 if it is active, otherwise 0.
    """
    traced, n = neurons.traced, neurons.num_neurons
    ends = [*neurons.offsets, n + neurons.num_outputs]
    weight = torch.zeros(ends[-1], neurons.num_inputs, dtype=torch.float64, device=traced.device)
    bias = torch.zeros_like(weight[:, 0])

    def receive(stage: int, sources: np.ndarray, constant: Tensor, coefficients: Tensor) -> None:
        weight[ends[stage] : ends[stage + 1], torch.from_numpy(sources)] = coefficients.T
        bias[ends[stage] : ends[stage + 1]] = constant

    of_stages = slopes.split([layout.num_neurons for layout in traced.layouts])
    inputs = Sources.of(INPUT, np.arange(neurons.num_inputs))
    push(traced, of_stages, inputs, np.zeros(neurons.num_inputs), receive)
    return (weight[:n], bias[:n]), (weight[n:], bias[n:])


def clean_neuron_maps(
    neurons: DeepFunction, active: Bool[Tensor, "neurons"]
) -> tuple[Float[Tensor, "neurons inputs"], Float[Tensor, "neurons"]]:
    """Return weight and bias of every neuron under one pattern, with weights that are only rounding set to zero.

    The size of the terms of a weight is estimated by the same sum with each active neuron multiplied by a random
    number, so that it does not cancel.
    """
    slopes = active.double()
    (weight, bias), _ = neuron_maps(neurons, slopes)
    factors = 0.5 + torch.rand(len(slopes), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    (terms, _), _ = neuron_maps(neurons, slopes * factors.to(slopes.device))
    if len(weight):
        units = terms.abs().amax(dim=0).clamp(min=torch.finfo(terms.dtype).tiny)  # independent of the inputs' units
        weight[(weight / units).norm(dim=1) <= ROUNDING * (terms / units).norm(dim=1)] = 0.0
    return weight, bias
