"""What travels from the user's model on: a module, checked and traced once, and its program."""

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
from torch_shallow.program.verification import verify, verify_in_own_precision


def weights_hash(model: nn.Module | ExportedProgram) -> str:
    """SHA-256 over the names, dtypes, shapes and bytes of a model's weights.

    Weights are what `state_dict` gives, each under each of its names, and of an exported program its constants too. The
    device does not matter; the dtype does. A wrapper such as `torch.compile` is looked through.

    Args:
        model: a module, or a program of `torch.export`.

    Returns:
        64 hexadecimal digits.

    Raises:
        WrongTypeError: it is neither.

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
    """SHA-256 over the names, dtypes, shapes and bytes of tensors, whatever their order and device.

    Args:
        tensors: by name; of a value that is none, such as the extra state of a module, only the type counts.
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
    return flat.as_strided(flat.shape, (1,)).view(torch.uint8).numpy()  # one number may have any stride


def given_shape(example_input: object, in_shape: Sequence[int] | None) -> tuple[int, ...] | None:
    """Shape of one input, without the batch, if the user gives it.

    Args:
        example_input: a batch of inputs (its first dimension is the batch), or one input if it has one dimension.
        in_shape: the shape itself, or None.

    Raises:
        TransformError: the shape has no entries, or is given twice and differs.
    """
    shape = None if in_shape is None else tuple(int(size) for size in in_shape)
    if shape is not None and min(shape, default=0) < 1:
        raise TransformError(f"in_shape: expected one or more positive sizes, found {shape}; leave out the batch.")
    if example_input is None:
        return shape
    shown = _shape_of_example(example_input)
    if shape is not None and shape != shown:
        raise TransformError(
            f"in_shape: {shape} differs from the shape {shown} of one input of example_input, whose first "
            "dimension is the batch; give one of them."
        )
    return shown


def _shape_of_example(example_input: object) -> tuple[int, ...]:
    if not isinstance(example_input, Tensor) or not example_input.is_floating_point():
        kind = example_input.dtype if isinstance(example_input, Tensor) else type(example_input).__name__
        remedy = "convert it first"
        if isinstance(example_input, Mapping | list | tuple):
            remedy = "pass a model whose forward(x) takes one tensor and makes its arguments of it"
        raise WrongTypeError(f"example_input: expected a floating-point tensor, found {kind}; {remedy}.")
    shape = tuple(example_input.shape[1:] if example_input.ndim > 1 else example_input.shape)
    if min(shape, default=0) < 1:
        raise TransformError(
            f"example_input: expected a batch of inputs or one input of one dimension, found shape "
            f"{tuple(example_input.shape)}, which has no entries."
        )
    return shape


@dataclass(frozen=True, eq=False)
class Model:
    """A model of the user's, checked, copied and traced once: nothing that is made of it does so again.

    Attributes:
        given: what the user passed; it is never changed.
        module: the module itself, without what it is wrapped in.
        traced: a copy of it in float64, as a graph of affine nodes and ReLUs.
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
        """Check and trace a model, given as for `read_model`; what is read is not compared with it yet.

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
        """A copy without hooks, in the precision that the model has."""
        return copy_model(self.module, nullcontext())

    @property
    def hash(self) -> str:
        """`weights_hash` of what the user passed."""
        return weights_hash(self.given)

    def program(self, domain: Domain | None = None) -> ReLUProgram:
        """The program of the trunk, verified against the forward pass of the model.

        Raises:
            TransformError: the program would be too large, or differs from the model.
        """
        program = read_within(self.traced, domain)
        verify(program, self.traced.root, domain, self.traced.head)
        verify_in_own_precision(program, self.in_own_precision, self.example_input, domain, self.traced.head)
        return program


def read_model(
    model: nn.Module | ExportedProgram,
    example_input: Tensor | None = None,
    in_shape: Sequence[int] | None = None,
    domain: Domain | None = None,
) -> ReLUProgram:
    """The program that a model computes, in float64 and verified against the model's forward pass.

    The model itself is not changed; all work is done on a copy.

    Args:
        model: a module, or a program of `torch.export`, of one tensor argument (others must have defaults, which are
            used) and one tensor result.
        example_input: a batch of inputs (the first dimension is the batch), or one input if it has one dimension. Only
            its shape and dtype are used. Not needed for a model that begins with an `nn.Linear`.
        in_shape: shape of one input, without batch, in place of an example.
        domain: where the program has to hold; everywhere if None. Of a large network in a bounded `Box`, only the
            neurons that may change sign there become neurons of the program (see `ReLUProgram.whole`).

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
    """The model as a graph of affine operations and ReLUs.

    Every piecewise-linear operation is written with affine operations and calls of `torch.relu`. The graph computes the
    same function, up to rounding, in the same dtype; if the model ends with something that is not piecewise linear
    (a softmax), it stops before that. The model itself is not changed.

    Args:
        model: a module, or a program of `torch.export`, of one tensor argument (others must have defaults, which are
            used) and one tensor result.
        example_input: if given, a batch of inputs (or one input of one dimension) on which the graph is compared with
            the model; needed if the model's control flow looks at the shape of its input.

    Raises:
        TransformError: the model cannot be traced.
        UnsupportedOperation: it contains operations that are not piecewise linear, and not only at its end.

    Example:
        >>> graph_module = trace(nn.Sequential(nn.Linear(2, 3), nn.ReLU()))
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
    """The module to be traced, and the shape of one input if it is known."""
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
            f"example_input: the model fails on it (shape {tuple(example_input.shape)}, {example_input.dtype}): {error}"
        ) from error
    found, expected = (torch.nan_to_num(y.double()) for y in (found, expected))
    rounding = torch.finfo(example_input.dtype).eps ** 0.5 * (1.0 + expected.abs().max())
    if found.shape != expected.shape or not bool(((found - expected).abs() <= rounding).all()):
        raise TransformError(
            "model: its traced graph does not give the same values on example_input; its forward() does something that "
            "torch.fx does not see (random numbers, global state, a choice made by Python)."
        )
