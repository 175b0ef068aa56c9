"""Read ONNX files as modules."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from importlib import import_module
from os import PathLike
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.fx import GraphModule, Interpreter, Node

from torch_shallow.errors import FileError, TransformError, WrongTypeError
from torch_shallow.optional import require
from torch_shallow.program.onnx.graph_reader import Reader, needed, used_names

_log = logging.getLogger(__name__)
_HOW_TO_EXPORT = "torch.onnx.export(model, (x,), path, dynamic_shapes=({0: 'batch'},))"


def examples(module: GraphModule, rows: int) -> list[Tensor] | None:
    """Create values for the inputs of a module, the same each time; None if the shapes of the inputs are not known.

    Args:
        module: the module; `meta["val"]` of each placeholder describes its input.
        rows: the number of batches, each of the size for which the file is made, one after another.
    """
    generator = torch.Generator().manual_seed(0)
    found = []
    for node in module.graph.find_nodes(op="placeholder"):
        shown = node.meta.get("val")
        if shown is None:
            return None
        size = (rows * shown.shape[0], *shown.shape[1:]) if shown.ndim > 1 else tuple(shown.shape)
        x = torch.randn(size, generator=generator) if shown.is_floating_point() else torch.zeros(size)
        found.append(x.to(shown.dtype))
    return found


def check_any_batch(module: GraphModule) -> None:
    """Run a module of one input on two batches of the size for which the file is made, separately and together.

    Raises:
        TransformError: the module cannot run on one batch, or not on both together, or then gives other values.
    """
    first = examples(module, 1)
    if first is None:
        return
    with torch.no_grad():
        runner = _Named(module)
        runner.extra_traceback = False
        runner.run(*first)
    found = examples(module, 2)
    if found is None or len(found) > 1 or found[0].ndim < 2:
        return
    together: Any
    apart: Any
    half, reason = len(found[0]) // 2, "it gives other values, or another number of rows"
    with torch.no_grad():
        try:
            together, apart = module(*found), torch.cat([module(found[0][:half]), module(found[0][half:])])
        except Exception as error:
            together, apart, reason = None, None, _short(error)
    if together is None or together.shape != apart.shape or together.ndim == 0 or not _close(together, apart, 1e-3):
        raise TransformError(
            f"model: expected a file for any batch size, found one that was exported for a batch of {half} and cannot "
            f"run on another ({reason}). Export it with a dynamic batch dimension: {_HOW_TO_EXPORT}."
        )


class _Named(Interpreter):
    """Run a module, and name the operator of the file that fails."""

    def run_node(self, n: Node) -> Any:
        """Return the value of a node.

        Raises:
            TransformError: the node fails.
        """
        try:
            return super().run_node(n)
        except Exception as error:
            name, kind = next(iter(n.meta.get("nn_module_stack", {}).values()), (n.name, "the operator"))
            raise TransformError(
                f"model: {kind} (at {name}) fails on inputs with the shapes given in the file ({_short(error)}). If "
                "the file fails onnx.checker.check_model, export it again; if it passes, please report this."
            ) from error


def _short(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200] if lines else ''}"


def check_values(model: Any, module: GraphModule, names: list[str], tolerance: float = 1e-3) -> None:
    """Compare a module with the implementations of ONNX on one batch of the size given in the file.

    The reference implementation is tried first, and `onnxruntime`, if installed, where the two disagree.

    Args:
        model: the `onnx.ModelProto`.
        module: the module read from it.
        names: names of its inputs.
        tolerance: largest difference, relative to the largest output.

    Raises:
        TransformError: the two differ by more than the tolerance.
    """
    found = examples(module, 1)
    if found is None:
        _log.info("ONNX model not compared with the reference: the shape of its input is not known")
        return
    given = {name: x.numpy() for name, x in zip(names, found, strict=True)}
    with torch.no_grad():
        result = module(*found)
    differs = False
    for implementation in (_reference, _runtime):
        try:
            expected = np.asarray(implementation(model, given))
        except Exception as error:
            _log.info("ONNX model not compared with %s, which fails: %s", implementation.__name__, error)
            continue
        if not _fits(model.graph.output[0].type.tensor_type, expected.shape):
            _log.info("ONNX model not compared with %s, whose output has another shape", implementation.__name__)
            continue
        if tuple(result.shape) == expected.shape and _close(result, torch.from_numpy(expected.copy()), tolerance):
            return
        differs = True
    if differs:
        raise TransformError(
            "model: expected the results of ONNX's own implementations from the module read from the file, found "
            "others; please report this. verify=False skips the comparison."
        )


def _reference(model: Any, given: dict[str, np.ndarray]) -> Any:
    from onnx.reference import ReferenceEvaluator

    return cast(list[Any], ReferenceEvaluator(model).run(None, given))[0]


def _runtime(model: Any, given: dict[str, np.ndarray]) -> Any:
    """Return what `onnxruntime` computes, if installed; the reference implementation is wrong about some operators."""
    return import_module("onnxruntime").InferenceSession(model.SerializeToString()).run(None, given)[0]


def _fits(kind: Any, shape: tuple[int, ...]) -> bool:
    """Tell whether a shape agrees with ONNX's shape inference, as far as that is known."""
    if not kind.HasField("shape"):
        return True
    known = [dimension.dim_value for dimension in kind.shape.dim]
    return len(known) == len(shape) and all(size in (0, found) for size, found in zip(known, shape, strict=True))


def _close(a: Tensor, b: Tensor, tolerance: float) -> bool:
    a, b = a.double(), b.double()
    largest = b[b.isfinite()].abs().max().item() if b.isfinite().any() else 0.0
    return torch.allclose(a, b, rtol=0.0, atol=tolerance * largest, equal_nan=True)


_OPSET = 18  # from this opset on, operators have the supported inputs and attributes
_DOMAINS = ("", "ai.onnx")


def from_onnx(model: str | PathLike[str] | Any, *, output: str | None = None, verify: bool = True) -> GraphModule:
    """Read the network of an ONNX file as a module that can be transformed, run, trained and saved like any other.

    Supported are the operators of piecewise-linear networks and those that usually come before and after them; files of
    old opsets are upgraded. Weights of products, convolutions and normalisations, and biases, become parameters, in the
    precision of the file; other constants become buffers. A file for a fixed number of inputs becomes a module for any
    number: reshapes to a batch of that size become reshapes to the size of the batch. A graph of several inputs becomes
    a module of several arguments; `hold` fixes all but one of them.

    Args:
        model: path of the file, or an `onnx.ModelProto`; the first dimension of its first input is the batch.
        output: name of the value that the module returns, which may be any value of the graph; needed if the graph has
            several outputs. Parts that do not affect this value are not read.
        verify: whether to compare the module with ONNX's own reference implementation at a random input.

    Returns:
        The network as a `torch.fx.GraphModule`.

    Raises:
        FileError: the file does not exist, or cannot be read.
        WrongTypeError: `model` is neither a path nor an `onnx.ModelProto`.
        TransformError: the model cannot be read, `output` is not one of its values, or an output has to be chosen.
        MissingPackageError: `onnx` is not installed.
        UnsupportedOperation: the model has unsupported operators; the message names all of them.

    Example:
        >>> import onnx, torch, torch_shallow
        >>> text = '<ir_version: 8, opset_import: ["" : 18]> net (float[N, 2] x) => (float[N, 2] y) { y = Relu (x) }'
        >>> network = torch_shallow.from_onnx(onnx.parser.parse_model(text))
        >>> network(torch.tensor([[1.0, -1.0]])).tolist()
        [[1.0, 0.0]]
    """
    proto = _at_known_opset(_part(_load(model), output))
    inputs = _inputs(proto.graph)
    module = Reader(proto, inputs).module()
    check_any_batch(module)
    if verify:
        check_values(proto, module, [value.name for value in inputs])
    return module


def _load(source: Any) -> Any:
    """Load a model, or copy the given one, so that it may be changed."""
    onnx: Any = require("onnx", "onnx")
    model = onnx.ModelProto()
    if isinstance(source, onnx.ModelProto):
        model.CopyFrom(source)
        source = "the given ModelProto"
    elif not isinstance(source, str | PathLike):
        raise WrongTypeError(
            f"model: expected the path of an ONNX file or an onnx.ModelProto, found {type(source).__name__}."
        )
    elif not Path(source).is_file():
        raise FileError(f"model: expected an ONNX file, found no file at {source}.")
    else:
        try:
            model = onnx.load(source)
        except Exception as error:
            raise FileError(f"model: expected a complete ONNX file, found an error in {source}: {error}") from error
    versions: dict[str, set[int]] = {}
    for opset in model.opset_import:
        versions.setdefault("" if opset.domain in _DOMAINS else opset.domain, set()).add(opset.version)
    if not versions or not model.graph.output:
        raise TransformError(f"model: expected an ONNX file with operators and an output, found none in {source}.")
    for domain, found in versions.items():
        if len(found) > 1:
            raise TransformError(
                f"model: expected one opset of {domain or 'ai.onnx'}, found {sorted(found)} in {source}; keep only the "
                "one in model.opset_import for which its operators are written."
            )
    del model.opset_import[:]
    model.opset_import.extend(onnx.helper.make_opsetid(domain, found.pop()) for domain, found in versions.items())
    return model


def _part(model: Any, output: str | None) -> Any:
    """Return a model with the operators that its output needs, in order, and without functions."""
    from onnx import helper, inliner

    graph = model.graph
    values = {name for node in graph.node for name in node.output if name}
    if output is None and len(graph.output) > 1:
        raise TransformError(f"output: expected the name of one of the outputs, which are {_names(graph.output)}.")
    if output is not None and output not in values | {value.name for value in graph.output}:
        raise TransformError(
            f"output: expected a value of the graph, found {output!r}; its outputs are {_names(graph.output)}, and its "
            f"operators compute {', '.join(sorted(values)[:20])}{' and others' if len(values) > 20 else ''}."
        )
    name = output or graph.output[0].name
    shown = {value.name: value for value in (*graph.value_info, *graph.output)}
    kept = shown.get(name) or helper.make_empty_tensor_value_info(name)
    try:
        model = inliner.inline_local_functions(model) if model.functions else model
    except Exception as error:
        raise TransformError(f"model: expected functions that can be inlined, found an error: {error}") from error
    graph = model.graph
    for node in graph.node:
        node.domain = "" if node.domain in _DOMAINS else node.domain
    nodes = [_copy(node) for node in needed(graph, name)]
    _refuse_undefined(graph, nodes)
    kept = _copy(kept)
    del graph.node[:], graph.output[:]
    graph.node.extend(nodes)
    graph.output.append(kept)
    return model


def _refuse_undefined(graph: Any, nodes: list[Any]) -> None:
    if graph.sparse_initializer:
        raise TransformError("model: expected dense constants, found sparse ones; write them as dense constants.")
    defined = {value.name for value in graph.input} | {name for node in nodes for name in node.output} | {""}
    defined |= {tensor.name for tensor in graph.initializer}
    for node in nodes:
        missing = [name for name in node.input if name not in defined]
        if missing:
            raise TransformError(
                f"model: {node.op_type} (at {node.name or node.output[0]}) uses {missing[0]!r}, which is neither an "
                "input nor a constant nor the result of an operator; the file is incomplete, export it again."
            )


def _copy(proto: Any) -> Any:
    made = type(proto)()
    made.CopyFrom(proto)
    return made


def _at_known_opset(model: Any) -> Any:
    """Convert a model to opset 18 or above, with the shapes of its values as far as ONNX finds them."""
    from onnx import shape_inference, version_converter

    version = next((opset.version for opset in model.opset_import if not opset.domain), _OPSET)
    try:
        if version < _OPSET:
            model = version_converter.convert_version(model, _OPSET)
        return shape_inference.infer_shapes(model, data_prop=True)
    except Exception as error:
        raise TransformError(
            f"model: it cannot be converted from opset {version} to {_OPSET}: {error}. Export it again with a newer "
            f"exporter, with opset_version={_OPSET} or above."
        ) from error


def _inputs(graph: Any) -> list[Any]:
    """Return the inputs on which the output depends."""
    used = {name for node in graph.node for name in used_names(node)} | {value.name for value in graph.output}
    constants = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in constants and value.name in used]
    if not inputs:
        raise TransformError(
            f"model: expected an output that depends on an input, found that {_names(graph.output)} depends on none of "
            f"the inputs {_names(graph.input)}."
        )
    return inputs


def _names(values: Iterable[Any]) -> str:
    return ", ".join(value.name for value in values) or "none"
