"""What certificates, explanations and pictures are of: piecewise-affine functions, regions of which are known."""

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
    """A function on a domain, with regions on each of which it is one affine map; NaN where no region is known.

    It is the trunk of a network: what a head makes of it is no part of it.
    """

    @property
    def in_shape(self) -> tuple[int, ...]:
        """Shape of one input."""

    @property
    def out_shape(self) -> tuple[int, ...]:
        """Shape of one output."""

    @property
    def domain(self) -> Domain:
        """Where it is defined."""

    @property
    def device(self) -> torch.device:
        """Where its tensors are, all of them float64."""

    @property
    def head(self) -> nn.Module | None:
        """What makes the network's outputs of those of the function, which is then the trunk."""

    @property
    def may_be_discontinuous(self) -> bool:
        """Whether its affine maps may have been trained, so that it may jump between regions."""

    @property
    def complete(self) -> bool:
        """Whether every region of the domain is known."""

    @property
    def missing(self) -> str:
        """What is unknown of the domain, and what to do about it, in words; nothing if all regions are known."""

    @property
    def num_regions(self) -> int:
        """Number of known regions."""

    def __call__(self, x: Float[Tensor, "*batch_and_in_shape"]) -> Float[Tensor, "*batch_and_out_shape"]:
        """The output at each input, in the dtype of `x`; NaN where no region is known."""

    def locate(self, x: Float[Tensor, "*batch_and_in_shape"]) -> Int64[Tensor, "*batch"]:
        """Number of the region of each input; -1 where none is known."""

    def affine_maps(
        self, regions: Int64[Tensor, "some"]
    ) -> tuple[Float[Tensor, "some outputs inputs"], Float[Tensor, "some outputs"]]:
        """Weight and bias of some regions, float64, over flattened inputs and outputs."""

    def describe(self) -> str:
        """Inputs, outputs, regions and domain in one line."""


@runtime_checkable
class Layers(Protocol):
    """What every function looks at; a network has it."""

    head: nn.Module | None
    may_be_discontinuous: bool

    @property
    def limits(self) -> tuple[Tensor, ...]:
        """The domain, as `inside` takes it: bounds, or inequalities and right-hand sides; nothing for all of R^n."""


@dataclass(frozen=True, repr=False)
class LayeredFunction:
    """What the functions here have in common: they have no tensors of their own, but look at those of a network.

    So they follow it to another device, through training, and as it grows.

    Attributes:
        layers: the network.
    """

    layers: Layers

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.describe()})"

    def describe(self) -> str:
        """Inputs, outputs, regions and domain in one line."""
        raise NotImplementedError

    @property
    def head(self) -> nn.Module | None:
        """What makes the network's outputs of those of the function."""
        return self.layers.head

    @property
    def may_be_discontinuous(self) -> bool:
        """Whether its affine maps may have been trained, so that it may jump between regions."""
        return self.layers.may_be_discontinuous

    @property
    def limits(self) -> tuple[Tensor, ...]:
        """The domain, as `inside` takes it."""
        return self.layers.limits


def require_all_regions(function: PiecewiseAffine, name: str, reason: str) -> None:
    """Make sure that all regions of a function's domain are known, which what has this name needs for this reason.

    Raises:
        TransformError: not all regions are known.
    """
    if not function.complete:
        raise TransformError(f"{name}: {reason}, but {function.missing}.")


def behind_head(function: PiecewiseAffine, x: Float[Tensor, "points *in_shape"]) -> Shaped[Tensor, "points ..."]:
    """What the network makes of some inputs at which the function is known, its head included."""
    y = function(x)
    return y if function.head is None else function.head(y)
