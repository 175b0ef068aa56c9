"""Represent the user's model as a module, checked and traced once, and its program."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.fx import GraphModule
from torch.nn.parameter import is_lazy

from torch_shallow.domain import Domain
from torch_shallow.errors import TransformError, WrongTypeError
from torch_shallow.program.exported import shown_shape
from torch_shallow.program.extraction import read_within
from torch_shallow.program.graph.symbolic import shape_of_first_linear
from torch_shallow.program.hooks import hooked_parts, refuse_hooks_that_change
from torch_shallow.program.model_copy import check_model, copy_model, unwrapped
from torch_shallow.program.precision import InFloat64
from torch_shallow.program.relu_program import ReLUProgram
from torch_shallow.program.traced import TracedModel
from torch_shallow.program.tracer import TakenApart, trace_copy
from torch_shallow.program.verification import own_dtype, verify, verify_in_own_precision


def weights_hash(model: nn.Module | ExportedProgram) -> str:
    """Compute the SHA-256 hash of the names, dtypes, shapes and bytes of a model's weights.

    Weights are the entries of `state_dict`, under each of their names, and for an exported program also its constants.
    The device does not matter; the dtype does. For a wrapper such as `torch.compile`, the wrapped module counts.

    Args:
        model: a module, or a program of `torch.export`.

    Returns:
        64 hexadecimal digits.

    Raises:
        WrongTypeError: `model` is neither a module nor an exported program.

    Example:
        >>> model = nn.Linear(2, 1)
        >>> before = weights_hash(model)
        >>> with torch.no_grad():
        ...     model.bias += 1.0
        >>> weights_hash(model) == before
        False
    """
    if isinstance(model, ExportedProgram):
        return hash_tensors({**model.constants, **model.state_dict})
    if not isinstance(model, nn.Module):
        raise WrongTypeError(
            f"model: expected an nn.Module or a torch.export.ExportedProgram, found {type(model).__name__}; pass the "
            "model that the network was made from."
        )
    return hash_tensors(unwrapped(model).state_dict())


def hash_tensors(tensors: Mapping[str, Any]) -> str:
    """Compute the SHA-256 hash of the names, dtypes, shapes and bytes of tensors, whatever their order and device.

    Args:
        tensors: tensors by name; for other values, such as the extra state of a module, only the type counts.
    """
    digest = sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        told = [str(tensor.dtype), list(tensor.shape)] if _has_values(tensor) else [type(tensor).__name__]
        digest.update(json.dumps([name, *told]).encode() + b"\n")
        if _has_values(tensor):
            digest.update(_bytes(tensor).data)
    return digest.hexdigest()


def _has_values(tensor: object) -> bool:
    return isinstance(tensor, Tensor) and not is_lazy(tensor) and not tensor.is_meta


def _bytes(tensor: Tensor) -> UInt8[np.ndarray, "bytes"]:
    tensor = tensor.detach().cpu()
    tensor = tensor.int_repr() if tensor.is_quantized else tensor.to_dense()
    flat = tensor.resolve_conj().resolve_neg().contiguous().reshape(-1)
    return flat.as_strided(flat.shape, (1,)).view(torch.uint8).numpy()  # a single number may have any stride


def given_shape(example_input: object, in_shape: Sequence[int] | None) -> tuple[int, ...] | None:
    """Return the shape of one input, without the batch, if the user gives it.

    Args:
        example_input: a batch of inputs (its first dimension is the batch), or one input if it has one dimension.
        in_shape: the shape itself, or None.

    Raises:
        TransformError: the shape has no entries, or two different shapes are given.
    """
    shape = None if in_shape is None else tuple(int(size) for size in in_shape)
    if shape is not None and min(shape, default=0) < 1:
        raise TransformError(f"in_shape: expected at least one size, all positive, found {shape}; leave out the batch.")
    if example_input is None:
        return shape
    shown = _shape_of_example(example_input)
    if shape is not None and shape != shown:
        raise TransformError(
            f"in_shape: expected {shown}, the shape of one input of example_input, whose first dimension is the batch, "
            f"found {shape}; give only one of the two."
        )
    return shown


def _shape_of_example(example_input: object) -> tuple[int, ...]:
    if not isinstance(example_input, Tensor) or not example_input.is_floating_point():
        kind = example_input.dtype if isinstance(example_input, Tensor) else type(example_input).__name__
        remedy = "convert it first"
        if isinstance(example_input, Mapping | list | tuple):
            remedy = "pass a model whose forward(x) takes one tensor and builds its arguments from it"
        raise WrongTypeError(f"example_input: expected a floating-point tensor, found {kind}; {remedy}.")
    shape = tuple(example_input.shape[1:] if example_input.ndim > 1 else example_input.shape)
    if min(shape, default=0) < 1:
        raise TransformError(
            "example_input: expected a batch of inputs or a single one-dimensional input, found shape "
            f"{tuple(example_input.shape)}, which has no entries; pass at least one input."
        )
    return shape


@dataclass(frozen=True, eq=False)
class Model:
    """Hold a model of the user, checked, copied and traced once, so that nothing built from it does so again.

    Attributes:
        given: the object that the user passed; it is never changed.
        module: the module itself, without its wrappers.
        traced: a copy of the module in float64, as a graph of affine nodes and ReLUs.
        example_input: the example that the user gave, if any.
    """

    given: nn.Module | ExportedProgram
    module: nn.Module
    traced: TracedModel
    example_input: Tensor | None = None

    @classmethod
    def of(
        cls,
        model: nn.Module | ExportedProgram,
        example_input: Tensor | None = None,
        in_shape: Sequence[int] | None = None,
    ) -> Model:
        """Check and trace a model, with the arguments of `read_model`; the result is not yet compared with the model.

        Raises:
            TransformError: the model cannot be traced.
            UnsupportedOperation: the model contains operations that are neither affine nor ReLU; all are listed.
        """
        module, shape = _checked(model, example_input, in_shape)
        root, graph, head = trace_copy(module, InFloat64, shape)
        traced = TracedModel(root, graph, shape or shape_of_first_linear(root, graph), head)
        refuse_hooks_that_change(module, traced.in_shape)
        return cls(model, module, traced, example_input)

    @cached_property
    def in_own_precision(self) -> nn.Module:
        """A copy of the model without hooks, in its own precision."""
        return copy_model(self.module, nullcontext())

    @property
    def hash(self) -> str:
        """The `weights_hash` of the model that the user passed."""
        return weights_hash(self.given)

    def program(self, domain: Domain | None = None) -> ReLUProgram:
        """Read the program of the trunk, and verify it against the forward pass of the model.

        Raises:
            TransformError: the program would be too large, or differs from the model.
        """
        program = read_within(self.traced, domain)
        computes_the_same = verify(program, self.traced.root, domain, self.traced.head)
        if not (computes_the_same and self._is_float64):
            verify_in_own_precision(program, self.in_own_precision, self.example_input, domain, self.traced.head)
        return program

    @property
    def _is_float64(self) -> bool:
        """Whether all numbers of the model, and its inputs, are float64."""
        tensors = (*self.module.parameters(), *self.module.buffers())
        own = {tensor.dtype for tensor in tensors if tensor.is_floating_point()}
        return own | {own_dtype(self.module, self.example_input)} == {torch.float64}


def read_model(
    model: nn.Module | ExportedProgram,
    example_input: Tensor | None = None,
    in_shape: Sequence[int] | None = None,
    domain: Domain | None = None,
) -> ReLUProgram:
    """Read the program that a model computes, in float64, and verify it against the model's forward pass.

    The model itself is not changed; all work is done on a copy.

    Args:
        model: a module, or a program of `torch.export`, with one tensor argument (others must have defaults, which are
            used) and one tensor result.
        example_input: a batch of inputs (the first dimension is the batch), or one input if it has one dimension. Only
            its shape and dtype are used. Not needed for a model that begins with an `nn.Linear`.
        in_shape: shape of one input, without batch, in place of an example.
        domain: the domain in which the program must be valid; everywhere if None. For large networks in a bounded
            `Box`, only the neurons that may change sign there become neurons of the program (see `ReLUProgram.whole`).

    Raises:
        TransformError: the model cannot be read, the program would be too large, or it differs from the model.
        UnsupportedOperation: the model contains operations that are neither affine nor ReLU; all are listed.

    Example:
        >>> print(read_model(nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))))
        ReLUProgram: input (2,), output (1,), 3 ReLUs
          stage 1: 1: 3 ReLUs of input
          output: 1 values of stage 1
    """
    return Model.of(model, example_input, in_shape).program(domain)


def trace(model: nn.Module | ExportedProgram, example_input: Tensor | None = None) -> GraphModule:
    """Trace a model as a graph of affine operations and ReLUs.

    Every piecewise-linear operation is expressed by affine operations and calls of `torch.relu`. The graph computes the
    same function, up to rounding, in the same dtype. If the model ends with operations that are not piecewise linear,
    such as a softmax, the graph stops before them. The model itself is not changed.

    Args:
        model: a module, or a program of `torch.export`, with one tensor argument (others must have defaults, which are
            used) and one tensor result.
        example_input: a batch of inputs (or a single one-dimensional input) on which the graph is compared with the
            model; needed if the model's control flow depends on the shape of its input.

    Returns:
        The graph with its parameters, as a `torch.fx.GraphModule`.

    Raises:
        WrongTypeError: an argument has the wrong type.
        TransformError: the model cannot be traced.
        UnsupportedOperation: the model contains operations, other than at its end, that are not piecewise linear.

    Example:
        >>> import torch, torch_shallow
        >>> graph_module = torch_shallow.trace(torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU()))
        >>> [node.op for node in graph_module.graph.nodes]
        ['placeholder', 'call_module', 'call_function', 'output']
    """
    module, shape = _checked(model, example_input, None)
    parts = trace_copy(module, nullcontext, shape)
    if hooked_parts(module):
        refuse_hooks_that_change(module, shape or shape_of_first_linear(parts.root, parts.graph))
    graph_module = GraphModule(parts.root, parts.graph, type(model).__name__)
    if example_input is not None:
        _compare(graph_module, parts, example_input)
    return graph_module


def _checked(
    model: nn.Module | ExportedProgram, example_input: Tensor | None, in_shape: Sequence[int] | None
) -> tuple[nn.Module, tuple[int, ...] | None]:
    """Return the module to be traced, and the shape of one input if it is known."""
    module = check_model(model)
    return module, given_shape(example_input, in_shape) or shown_shape(module)


def _compare(graph_module: GraphModule, parts: TakenApart, example_input: Tensor) -> None:
    try:
        with torch.no_grad():
            expected = parts.root(example_input.clone())
            found = graph_module(example_input.clone())
            found = found if parts.head is None else parts.head(found)
    except Exception as error:
        raise TransformError(
            "example_input: expected an input that the model accepts, found that it fails on shape "
            f"{tuple(example_input.shape)}, {example_input.dtype}: {error}"
        ) from error
    found, expected = (torch.nan_to_num(y.double()) for y in (found, expected))
    rounding = torch.finfo(example_input.dtype).eps ** 0.5 * (1.0 + expected.abs().max())
    if found.shape != expected.shape or not bool(((found - expected).abs() <= rounding).all()):
        raise TransformError(
            "model: expected its traced graph to give the same values on example_input, found others; its forward() "
            "does something that torch.fx does not see (random numbers, global state, a choice made by Python)."
        )
