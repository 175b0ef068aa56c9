"""Define the base of all networks: a trunk that is known on a domain, and optionally a head after it."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Callable, Iterable
from itertools import chain
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn
from torch.fx import GraphModule, Tracer, symbolic_trace

from torch_shallow.display import TextTable, as_html
from torch_shallow.domain import Domain, WholeSpace
from torch_shallow.errors import TransformError
from torch_shallow.functions.points import mask_head, unflatten
from torch_shallow.program.precision import InFloat64, write_in_float64


def in_float64(head: nn.Module, trunk_shape: tuple[int, ...]) -> nn.Module:
    """Copy a head so that it computes in float64, whatever precisions its code names.

    Args:
        head: the head.
        trunk_shape: shape of one output of the trunk.

    Raises:
        TransformError: torch.fx cannot trace its code.
    """
    if Tracer().is_leaf_module(head, ""):  # a module of torch itself names no precision
        return copy.deepcopy(head).double()
    try:
        with InFloat64():
            graph = copy.deepcopy(head) if isinstance(head, GraphModule) else symbolic_trace(copy.deepcopy(head))
    except Exception as error:
        raise TransformError(
            f"head: expected code that torch.fx can trace, found an error ({type(error).__name__}: {error}); write it "
            "without control flow that depends on values."
        ) from error
    tensor = next(chain(graph.parameters(), graph.buffers()), torch.empty(0))
    write_in_float64(graph, torch.zeros(2, *trunk_shape, dtype=torch.float64, device=tensor.device))
    return graph


def output_shape(head: nn.Module | None, trunk_shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of one output of a head.

    Args:
        head: the head, or None.
        trunk_shape: shape of one output of the trunk.

    Raises:
        TransformError: the head's output is not a tensor whose first dimension is the batch.
    """
    if head is None:
        return trunk_shape
    tensor = next(head.parameters(), next(head.buffers(), torch.empty(0)))
    with torch.no_grad():
        y = head(torch.zeros(2, *trunk_shape, dtype=torch.float64, device=tensor.device))
    if not isinstance(y, Tensor) or y.dim() == 0 or len(y) != 2:
        found = f"shape {tuple(y.shape)}" if isinstance(y, Tensor) else type(y).__name__
        raise TransformError(
            "model: expected one tensor with the batch as its first dimension from the operations after the last "
            f"piecewise-linear one, found {found} for 2 inputs; change these operations, or pass the model without "
            "them."
        )
    if y.is_complex():
        raise TransformError(f"model: expected real outputs, found {y.dtype}; return their parts as real tensors.")
    return tuple(y.shape[1:])


for leaf in ("mask_head", "unflatten"):
    torch.fx.wrap(leaf)  # functions of the traced graph that are called from this module

Self = TypeVar("Self", bound="Network")


class Network(nn.Module):
    """A trunk on a domain, and a head, which compute in float64 whatever the dtype outside, and never train mode.

    Attributes:
        first_limit: lower bounds of a box, or coefficients of inequalities, as `inside` takes them; None for all of
            R^n.
        second_limit: upper bounds, or right-hand sides; None for all of R^n.
        head: what follows the trunk, or None.
    """

    first_limit: Tensor | None
    second_limit: Tensor | None
    head: nn.Module | None

    def _describe(
        self,
        in_shape: tuple[int, ...],
        trunk_shape: tuple[int, ...],
        domain: Domain,
        head: nn.Module | None,
        lengths: Float[np.ndarray, "inputs"] | float = 0.0,
        known_everywhere: bool = True,
    ) -> None:
        """Store what every network has, after its own parts exist; `lengths` are those of `Domain.limits`."""
        self._in_shape, self._trunk_shape, self._domain = in_shape, trunk_shape, domain
        self._known_everywhere = known_everywhere and isinstance(domain, WholeSpace)
        self.head = None if head is None else in_float64(head, trunk_shape)
        self._out_shape = output_shape(self.head, trunk_shape)
        limits = domain.limits(in_shape, lengths)
        self.register_buffer("first_limit", torch.tensor(limits[0]) if limits else None)
        self.register_buffer("second_limit", torch.tensor(limits[1]) if limits else None)
        self.eval()

    def train(self: Self, mode: bool = True) -> Self:
        """Set `training`, which changes nothing: all parts stay in eval mode, in which the model was transformed."""
        super().train(False)
        self.training = mode
        return self

    @property
    def in_shape(self) -> tuple[int, ...]:
        """Shape of one input."""
        return self._in_shape

    @property
    def trunk_shape(self) -> tuple[int, ...]:
        """Shape of one output of the trunk; without a head, `out_shape`."""
        return self._trunk_shape

    @property
    def out_shape(self) -> tuple[int, ...]:
        """Shape of one output."""
        return self._out_shape

    @property
    def domain(self) -> Domain:
        """Domain of the network; outside it, `forward` gives NaN."""
        return self._domain

    def forward(self, x: Float[Tensor, "*batch_and_in_shape"]) -> Shaped[Tensor, "*batch_and_out_shape"]:
        """Compute the output for each input.

        Args:
            x: floating point, of shape `(*batch, *in_shape)` with any number of batch dimensions, including none.

        Returns:
            A tensor of shape `(*batch, *out_shape)` on the device of `x`, in its dtype unless a head returns integers;
            NaN where `x` is outside the domain or in no known region.

        Raises:
            TransformError: `x` has another shape, or is not floating point; or some outputs should be NaN, but the head
                returns integers.
        """
        head = self.head
        if head is None:
            return self.trunk(x)
        y, known = self._evaluate(x)
        y = head(y if len(self.trunk_shape) == 1 else y.reshape(-1, *self.trunk_shape))
        y = mask_head(y, known=known, everywhere=self._known_everywhere)
        return unflatten(y, x, in_shape=self.in_shape, out_shape=self.out_shape)

    def trunk(self, x: Float[Tensor, "*batch_and_in_shape"]) -> Float[Tensor, "*batch_and_trunk_shape"]:
        """Compute the piecewise-linear part of the output, without the head; for a classifier, usually the logits.

        Args:
            x: floating point, of shape `(*batch, *in_shape)` with any number of batch dimensions, including none.

        Returns:
            A tensor of shape `(*batch, *trunk_shape)` in the dtype and on the device of `x`; NaN where `x` is outside
            the domain or in no known region.

        Raises:
            TransformError: `x` has another shape, or is not floating point.
        """
        return unflatten(self._values(x), x, in_shape=self.in_shape, out_shape=self.trunk_shape)

    def _values(self, x: Float[Tensor, "*batch_and_in_shape"]) -> Float[Tensor, "points outputs"]:
        """Return the first part of `_evaluate`."""
        return self._evaluate(x)[0]

    @abstractmethod
    def _evaluate(
        self, x: Float[Tensor, "*batch_and_in_shape"]
    ) -> tuple[Float[Tensor, "points outputs"], Bool[Tensor, "points"]]:
        """Return values of the trunk, NaN where unknown and float64 if there is a head, and where they are known."""

    @property
    def limits(self) -> tuple[Tensor, ...]:
        """The domain as `inside` takes it: bounds, or inequalities and right-hand sides; empty for all of R^n."""
        return tuple(limit for limit in (self.first_limit, self.second_limit) if limit is not None)

    def _repr_html_(self) -> str:
        return as_html(self._parts())

    def _parts(self) -> Iterable[str | TextTable]:
        """Return what a notebook shows."""
        return [f"{type(self).__name__}: {self.extra_repr()}"]

    def _apply(self: Self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move to another device but keep the dtypes: outputs follow the dtype of the input."""

        def keep_dtype(tensor: Tensor) -> Tensor:
            moved = fn(tensor)
            return moved if moved.dtype == tensor.dtype else tensor.to(moved.device)

        return super()._apply(keep_dtype, recurse)
