"""nn.Module to ReLUProgram."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext

from torch import Tensor, nn
from torch.export import ExportedProgram

from torch_shallow.domain import Domain
from torch_shallow.program.exported import shown_shape
from torch_shallow.program.extraction import read_within
from torch_shallow.program.input_shape import given_shape, shape_of_first_linear
from torch_shallow.program.model import check_model, copy_model, warn_of_hooks
from torch_shallow.program.precision import InFloat64
from torch_shallow.program.relu_program import ReLUProgram
from torch_shallow.program.traced import TracedModel
from torch_shallow.program.tracer import trace_copy
from torch_shallow.program.verification import verify, verify_in_own_precision


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
    traced = trace_model(model, example_input, in_shape, stacklevel=3)
    return read_traced(traced, model, example_input, domain)


def read_traced(
    traced: TracedModel,
    model: nn.Module | ExportedProgram,
    example_input: Tensor | None = None,
    domain: Domain | None = None,
) -> ReLUProgram:
    """The program of a model that is traced already, verified against the model's forward pass.

    Args:
        traced: what `trace_model` makes of `model`.
        model: as for `read_model`.
        example_input: as for `read_model`.
        domain: as for `read_model`.

    Raises:
        TransformError: the program would be too large, or differs from the model.
    """
    model = check_model(model)
    program = read_within(traced, domain)
    verify(program, traced.root, domain, traced.head)
    verify_in_own_precision(program, copy_model(model, nullcontext()), example_input, domain, traced.head)
    return program


def trace_model(
    model: nn.Module | ExportedProgram,
    example_input: Tensor | None = None,
    in_shape: Sequence[int] | None = None,
    stacklevel: int = 2,
) -> TracedModel:
    """A copy of a model as a graph of affine nodes and ReLUs that can be run; not verified.

    Args:
        model: as for `read_model`.
        example_input: as for `read_model`.
        in_shape: as for `read_model`.
        stacklevel: of warnings.

    Raises:
        TransformError: the model cannot be traced.
        UnsupportedOperation: the model contains operations that are neither affine nor ReLU; all are listed.
    """
    model = check_model(model)
    warn_of_hooks(model, stacklevel=stacklevel)
    shape = given_shape(example_input, in_shape) or shown_shape(model)
    root, graph, head = trace_copy(model, InFloat64, shape)
    return TracedModel(root, graph, shape or shape_of_first_linear(root, graph), head)
