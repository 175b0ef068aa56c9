"""Represent the head of a network as steps that every target can write."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from torch_shallow.errors import TransformError
from torch_shallow.modules.files.description import WrittenGraph
from torch_shallow.modules.files.graph_code import NotWritable, encode, operation


@dataclass(frozen=True)
class Step:
    """Describe one operation on the values so far.

    Attributes:
        name: "sigmoid", "tanh", "exp", "softmax", "log_softmax" or "argmax" (all values); "affine" or "choose".
        scale: for "affine", the factor of each value.
        shift: for "affine", the number added to each value.
        chosen: for "choose", the indices of the values that are kept, in order.
    """

    name: str
    scale: Float[np.ndarray, "values"] | None = None
    shift: Float[np.ndarray, "values"] | None = None
    chosen: Int[np.ndarray, "values"] | None = None


_ENTRYWISE = {"aten.sigmoid.default": "sigmoid", "aten.tanh.default": "tanh", "aten.exp.default": "exp"}
_OVER_ALL = {"aten._softmax.default": "softmax", "aten._log_softmax.default": "log_softmax"}
_ARGMAX = "aten.argmax.default"
_SUMS = ("aten.add.Tensor", "aten.add.Scalar", "aten.sub.Tensor", "aten.sub.Scalar")
_PRODUCTS = ("aten.mul.Tensor", "aten.mul.Scalar", "aten.div.Tensor", "aten.div.Scalar", "aten.neg.default")
_REARRANGED = frozenset(
    f"aten.{name}"
    for name in (
        *("view.default", "squeeze.dim", "squeeze.dims", "unsqueeze.default", "permute.default", "clone.default"),
        *("alias.default", "slice.Tensor", "select.int", "_to_copy.default", "expand.default", "flip.default"),
        *("reshape.default", "_unsafe_view.default", "index_select.default"),
    )
)
_KNOWN = "sigmoid, tanh, exp, softmax, log_softmax, argmax, and sums and products with constants"


def head_steps(head: nn.Module | None, trunk_shape: tuple[int, ...]) -> tuple[Step, ...]:
    """Return the steps of a head, in order.

    Args:
        head: the head, or None.
        trunk_shape: shape of one output of the trunk.

    Raises:
        TransformError: the head contains operations other than those of `Step`, or one that reads more than the
            preceding values.
    """
    if head is None:
        return ()
    try:
        written, tensors = encode(head, trunk_shape, "head")
    except NotWritable as error:
        raise TransformError(_refusal(str(error))) from error
    return _Reader(written, tensors, trunk_shape).steps


def _refusal(found: str) -> str:
    return (
        f"shallow: expected a head of {_KNOWN}, found one that cannot be exported: {found}; export the trunk (a copy "
        "of the network with head = None), and write the head in the target's language."
    )


class _Reader:
    """Run a graph on an example of two inputs, to see what each operation does with the values."""

    def __init__(self, written: WrittenGraph, tensors: dict[str, Tensor], trunk_shape: tuple[int, ...]) -> None:
        self.steps: tuple[Step, ...] = ()
        self.numbers = torch.arange(2.0 * torch.Size(trunk_shape).numel(), dtype=torch.float64).reshape(2, *trunk_shape)
        self.latest = -1
        self.constants: dict[int, Tensor] = {}
        for number, node in enumerate(written.nodes):
            if node == ["input"]:
                self.latest = number
            elif node[0] == "tensor":
                self.constants[number] = tensors[written.stored_name(node[1])].detach().cpu().to(torch.float64)
            else:
                self._take(number, *node)
        if written.output != self.latest:
            raise TransformError(_refusal("an output that is not the last value"))

    def _take(self, number: int, name: str, args: list[Any], kwargs: dict[str, Any]) -> None:
        read = [value["node"] for value in (*args, *kwargs.values()) if isinstance(value, dict) and "node" in value]
        if all(node in self.constants for node in read):
            self.constants[number] = self._run(name, args, kwargs, self.numbers)
            return
        if [node for node in read if node not in self.constants] != [self.latest]:
            raise TransformError(_refusal(f"{name} of several values"))
        count, values = self.numbers[0].numel(), self.numbers
        if name in _ENTRYWISE:
            self.steps += (Step(_ENTRYWISE[name]),)
        elif name in _OVER_ALL or name == _ARGMAX:
            dim = args[1] if len(args) > 1 else kwargs.get("dim")
            if not isinstance(dim, int) or dim % values.dim() == 0 or values.shape[dim] != count:
                raise TransformError(
                    _refusal(f"{name} over dimension {dim} of values of shape {tuple(values.shape[1:])}")
                )
            self.steps += (Step(_OVER_ALL.get(name, "argmax")),)
            if name == _ARGMAX:
                self.numbers = self._run(name, args, kwargs, values).to(torch.float64)
        elif name in (*_SUMS, *_PRODUCTS):
            found = self._run(name, args, kwargs, values)
            if found.shape != values.shape:
                raise TransformError(_refusal(f"{name}, which turns {count} values into {found[0].numel()}"))
            shift = self._run(name, args, kwargs, torch.zeros_like(values))
            scale = self._run(name, args, kwargs, torch.ones_like(values), without_constants=name in _SUMS)
            self.steps += (Step("affine", _row(scale), _row(shift)),)
        elif name in _REARRANGED:
            numbers = torch.arange(2.0 * count, dtype=torch.float64).reshape(values.shape)
            found = self._run(name, args, kwargs, numbers)
            chosen = found.reshape(2, -1).long() if len(found) == 2 else found.reshape(1, -1).long()
            if len(chosen) != 2 or not torch.equal(chosen[0] + count, chosen[1]) or bool((chosen[0] >= count).any()):
                raise TransformError(_refusal(f"{name}, which mixes inputs"))
            if not torch.equal(chosen[0], torch.arange(count)):
                self.steps += (Step("choose", chosen=chosen[0].numpy()),)
            self.numbers = found
        else:
            raise TransformError(_refusal(name))
        if any(step.name == "argmax" for step in self.steps[:-1]):
            raise TransformError(_refusal(f"{name} of a class index"))
        self.latest = number

    def _run(
        self, name: str, args: list[Any], kwargs: dict[str, Any], values: Tensor, without_constants: bool = False
    ) -> Tensor:
        def made(value: Any) -> Any:
            if isinstance(value, list):
                return [made(one) for one in value]
            if isinstance(value, dict) and "node" in value:
                constant = self.constants.get(value["node"])
                return values if constant is None else constant * (not without_constants)
            if isinstance(value, dict):
                kind, told = next(iter(value.items()))
                return torch.device("cpu") if kind == "device" else getattr(torch, told, None) or float(told)
            return value

        call: Callable[..., Tensor] | None = operation(name)
        if call is None:
            raise TransformError(_refusal(name))
        given = [made(value) for value in args]
        if without_constants:
            given = [0 * value if isinstance(value, int | float) else value for value in given]
        return call(*given, **{key: made(value) for key, value in kwargs.items()})


def _row(values: Tensor) -> Float[np.ndarray, "values"]:
    if not torch.equal(values[0], values[1]):
        raise TransformError(_refusal("a constant that differs between inputs"))
    return values[0].reshape(-1).numpy()
