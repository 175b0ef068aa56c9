"""Define piecewise-affine functions with known regions, to which certificates, explanations and pictures apply."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int64, Shaped
from torch import Tensor, nn

from torch_shallow.domain import Domain
from torch_shallow.errors import TransformError


@runtime_checkable
class PiecewiseAffine(Protocol):
    """A function on a domain with regions, on each of which it is one affine map; NaN where no region is known.

    It is the trunk of a network, without its head.
    """

    @property
    def in_shape(self) -> tuple[int, ...]:
        """Shape of one input."""

    @property
    def out_shape(self) -> tuple[int, ...]:
        """Shape of one output."""

    @property
    def domain(self) -> Domain:
        """Domain of the function."""

    @property
    def device(self) -> torch.device:
        """Device of its tensors, all of which are float64."""

    @property
    def head(self) -> nn.Module | None:
        """The module that computes the network's outputs from those of the function, or None."""

    @property
    def may_be_discontinuous(self) -> bool:
        """Whether its affine maps may have been trained, so that it may jump between regions."""

    @property
    def complete(self) -> bool:
        """Whether every region of the domain is known."""

    @property
    def missing(self) -> str:
        """Which part of the domain is unknown, and what to do about it, in words; empty if all regions are known."""

    @property
    def num_regions(self) -> int:
        """Number of known regions."""

    def __call__(self, x: Float[Tensor, "*batch_and_in_shape"]) -> Float[Tensor, "*batch_and_out_shape"]:
        """Compute the output for each input, in the dtype of `x`; NaN where no region is known."""

    def locate(self, x: Float[Tensor, "*batch_and_in_shape"]) -> Int64[Tensor, "*batch"]:
        """Return the index of the region of each input; -1 where none is known."""

    def affine_maps(
        self, regions: Int64[Tensor, "some"]
    ) -> tuple[Float[Tensor, "some outputs inputs"], Float[Tensor, "some outputs"]]:
        """Return weight and bias of the given regions, float64, over flattened inputs and outputs."""

    def describe(self) -> str:
        """Describe inputs, outputs, regions and domain in one line."""


@runtime_checkable
class Layers(Protocol):
    """Define what every function reads of a network."""

    head: nn.Module | None
    may_be_discontinuous: bool

    @property
    def limits(self) -> tuple[Tensor, ...]:
        """The domain in the form that `inside` takes: bounds, or inequalities and right-hand sides; empty for R^n."""


@dataclass(frozen=True, repr=False)
class LayeredFunction:
    """Base of functions that have no tensors of their own, but share those of a network.

    They therefore follow the network to another device, through training, and as it grows.

    Attributes:
        layers: the network.
    """

    layers: Layers

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.describe()})"

    def describe(self) -> str:
        """Describe inputs, outputs, regions and domain in one line."""
        raise NotImplementedError

    @property
    def head(self) -> nn.Module | None:
        """The module that computes the network's outputs from those of the function, or None."""
        return self.layers.head

    @property
    def may_be_discontinuous(self) -> bool:
        """Whether its affine maps may have been trained, so that it may jump between regions."""
        return self.layers.may_be_discontinuous

    @property
    def limits(self) -> tuple[Tensor, ...]:
        """The domain in the form that `inside` takes."""
        return self.layers.limits


def require_all_regions(function: PiecewiseAffine, name: str, reason: str) -> None:
    """Check that all regions of a function's domain are known, as `name` needs for the given reason.

    Raises:
        TransformError: not all regions are known.
    """
    if not function.complete:
        raise TransformError(f"{name}: {reason}, but {function.missing}.")


def behind_head(function: PiecewiseAffine, x: Float[Tensor, "points *in_shape"]) -> Shaped[Tensor, "points ..."]:
    """Compute the network's output, including its head, for inputs at which the function is known."""
    y = function(x)
    return y if function.head is None else function.head(y)
