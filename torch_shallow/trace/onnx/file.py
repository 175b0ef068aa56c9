"""ONNX files as modules."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from os import PathLike
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch.fx import GraphModule

from torch_shallow.errors import TransformError, UnsupportedOperation
from torch_shallow.trace.exported import check_any_batch, shown_value
from torch_shallow.trace.onnx.graph import Reader
from torch_shallow.trace.onnx.operators import OPERATORS
from torch_shallow.trace.onnx.sizes import SIZE_OPERATORS

_log = logging.getLogger(__name__)
_OPSET = 18  # from here on the operators have the inputs and attributes that are read
_DOMAINS = ("", "ai.onnx")


def from_onnx(path: str | PathLike[str], *, verify: bool = True) -> GraphModule:
    """The network of an ONNX file, as a module that can be transformed, run, trained and saved as any other.

    Operators are those of piecewise-linear networks and of what usually comes before and after them; files of old
    opsets are upgraded. Weights are parameters, in the precision of the file. A file for a fixed number of inputs
    becomes a module of any number: reshapes to a batch of that size are read as reshapes to the size of the batch.

    Args:
        path: of the file; a graph of one floating-point input, whose first dimension is the batch, and one output.
        verify: compare the module with ONNX's own reference implementation at a random input.

    Raises:
        TransformError: there is no such file, it cannot be read, or its graph has not one input and one output; or
            `onnx` is not installed.
        UnsupportedOperation: it has operators that are not known; all are named.

    Example:
        >>> model = from_onnx("network.onnx")  # doctest: +SKIP
        >>> shallow = torch_shallow.transform(model)  # doctest: +SKIP
    """
    model = _load(Path(path))
    graph = model.graph
    constants = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in constants]
    if len(inputs) != 1 or len(graph.output) != 1:
        raise TransformError(
            f"path: expected a graph of one input and one output, found inputs {_names(inputs)} and outputs "
            f"{_names(graph.output)} in {path}; cut the part that you want out with onnx.utils.extract_model."
        )
    _refuse_unknown(graph.node)
    module = Reader(model, inputs[0]).module()
    example = shown_value(module)
    if example is not None:
        check_any_batch(module, example, "path", "torch.onnx.export(model, (x,), path, dynamic_shapes=({0: 'batch'},))")
    if verify:
        _verify(model, module, inputs[0])
    return module


def _load(path: Path) -> Any:
    """The model of a file, at opset 18 or above, without functions of its own.

    Raises:
        TransformError: there is no such model.
    """
    try:
        import onnx
        from onnx import inliner, shape_inference, version_converter
    except ImportError as error:
        raise TransformError("path: onnx is needed to read ONNX files: pip install 'torch_shallow[onnx]'.") from error
    if not path.is_file():
        raise TransformError(f"path: expected an ONNX file, found no file at {path}.")
    try:
        model = onnx.load(path)
    except Exception as error:
        raise TransformError(f"path: {path} is not an ONNX file, or not all of one: {error}") from error
    versions = [opset.version for opset in model.opset_import if opset.domain in _DOMAINS]
    if not versions or not model.graph.output:
        raise TransformError(f"path: {path} is not an ONNX file: it has no operators or no output.")
    try:
        if model.functions:
            model = inliner.inline_local_functions(model)
        if versions[0] < _OPSET:
            model = version_converter.convert_version(model, _OPSET)
        return shape_inference.infer_shapes(model, data_prop=True)
    except Exception as error:
        raise TransformError(
            f"path: {path} cannot be brought from opset {versions[0]} to {_OPSET}: {error}. Write it again with a "
            f"newer exporter, opset_version={_OPSET} or above."
        ) from error


def _refuse_unknown(nodes: Iterable[Any]) -> None:
    unknown: dict[str, str] = {}
    for node in nodes:
        if node.domain not in _DOMAINS or node.op_type not in OPERATORS.keys() | SIZE_OPERATORS.keys() | _FOLDED:
            unknown.setdefault(f"{node.domain}.{node.op_type}".lstrip("."), node.name or node.output[0])
    if unknown:
        places = ", ".join(f"{operator} (at {place})" for operator, place in unknown.items())
        raise UnsupportedOperation(
            f"path: found operators that are not read: {places}. If they end the network, cut them off with "
            "onnx.utils.extract_model; else load the file with another converter and transform its nn.Module."
        )


_FOLDED = frozenset({"Constant", "Range", "Equal", "Not", "And", "Or", "Less", "Greater", "Floor", "Ceil", "Size"})
"""Operators that are read where their inputs are constant."""


def _names(values: Iterable[Any]) -> str:
    return ", ".join(value.name for value in values) or "none"


def _verify(model: Any, module: GraphModule, placeholder: Any, tolerance: float = 1e-3) -> None:
    """Compare a module with the reference implementation at one batch of the size that the file says.

    Raises:
        TransformError: they differ by more than the tolerance, relative to the largest output.
    """
    from onnx.reference import ReferenceEvaluator

    example = shown_value(module)
    if example is None:
        _log.info("ONNX model not compared with the reference: the shape of its input is not known")
        return
    x = torch.randn(tuple(example.shape), generator=torch.Generator().manual_seed(0)).to(example.dtype)
    try:
        expected = np.asarray(cast(list[Any], ReferenceEvaluator(model).run(None, {placeholder.name: x.numpy()}))[0])
    except Exception as error:
        _log.info("ONNX model not compared with the reference, which fails: %s", error)
        return
    with torch.no_grad():
        found = module(x).numpy()
    allowed = tolerance * np.abs(expected).max()
    if found.shape != expected.shape or not np.allclose(found, expected, rtol=0.0, atol=allowed):
        raise TransformError(
            "path: the module read from the file differs from ONNX's reference implementation; please report this. "
            "verify=False leaves the comparison out."
        )
