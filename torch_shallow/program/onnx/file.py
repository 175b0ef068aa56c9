"""ONNX files as modules."""

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

from torch_shallow.errors import FileError, MissingPackageError, TransformError, WrongTypeError
from torch_shallow.program.onnx.graph_reader import Reader, needed, used_names

_log = logging.getLogger(__name__)
_HOW_TO_EXPORT = "torch.onnx.export(model, (x,), path, dynamic_shapes=({0: 'batch'},))"


def examples(module: GraphModule, rows: int) -> list[Tensor] | None:
    """Values for the inputs of a module, the same each time; None if the shapes of the inputs are not known.

    Args:
        module: what is known of an input is in `meta["val"]` of its placeholder.
        rows: how many times the batch that the file is made for, one above another.
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
    """Run a module of one input on two batches of the size that the file is made for, apart and together.

    Raises:
        TransformError: it cannot run on one, or not on them together, or gives other values.
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
            f"model: it was exported for a batch of {half} and cannot run on another ({reason}). Export it with a "
            f"dynamic batch dimension: {_HOW_TO_EXPORT}."
        )


class _Named(Interpreter):
    """Runs a module, and says which operator of the file fails."""

    def run_node(self, n: Node) -> Any:
        """The value of a node.

        Raises:
            TransformError: it has none.
        """
        try:
            return super().run_node(n)
        except Exception as error:
            name, kind = next(iter(n.meta.get("nn_module_stack", {}).values()), (n.name, "the operator"))
            raise TransformError(
                f"model: {kind} (at {name}) fails on inputs of the shapes that the file says ({_short(error)}). "
                "Does it pass onnx.checker.check_model? If not, export it again; if so, please report this."
            ) from error


def _short(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200] if lines else ''}"


def check_values(model: Any, module: GraphModule, names: list[str], tolerance: float = 1e-3) -> None:
    """Compare a module with the implementations of ONNX at one batch of the size that the file says.

    The reference implementation is asked first, and `onnxruntime`, if it is installed, where they disagree.

    Args:
        model: the `onnx.ModelProto`.
        module: what was read of it.
        names: of its inputs.
        tolerance: relative to the largest output.

    Raises:
        TransformError: they differ by more than the tolerance.
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
            "model: the module read from the file differs from ONNX's own implementations; please report this. "
            "verify=False leaves the comparison out."
        )


def _reference(model: Any, given: dict[str, np.ndarray]) -> Any:
    from onnx.reference import ReferenceEvaluator

    return cast(list[Any], ReferenceEvaluator(model).run(None, given))[0]


def _runtime(model: Any, given: dict[str, np.ndarray]) -> Any:
    """What `onnxruntime` gives, if it is installed; the reference implementation is wrong about some operators."""
    return import_module("onnxruntime").InferenceSession(model.SerializeToString()).run(None, given)[0]


def _fits(kind: Any, shape: tuple[int, ...]) -> bool:
    """Whether a shape is the one that ONNX's own inference of shapes has found, as far as it has."""
    if not kind.HasField("shape"):
        return True
    known = [dimension.dim_value for dimension in kind.shape.dim]
    return len(known) == len(shape) and all(size in (0, found) for size, found in zip(known, shape, strict=True))


def _close(a: Tensor, b: Tensor, tolerance: float) -> bool:
    a, b = a.double(), b.double()
    largest = b[b.isfinite()].abs().max().item() if b.isfinite().any() else 0.0
    return torch.allclose(a, b, rtol=0.0, atol=tolerance * largest, equal_nan=True)


_OPSET = 18  # from here on the operators have the inputs and attributes that are read
_DOMAINS = ("", "ai.onnx")


def from_onnx(model: str | PathLike[str] | Any, *, output: str | None = None, verify: bool = True) -> GraphModule:
    """The network of an ONNX file, as a module that can be transformed, run, trained and saved as any other.

    Operators are those of piecewise-linear networks and of what usually comes before and after them; files of old
    opsets are upgraded. Weights of products, convolutions and normalisations, and biases, are parameters, in the
    precision of the file; other constants are buffers. A file for a fixed number of inputs becomes a module of any
    number: reshapes to a batch of that size are read as reshapes to the size of the batch. A graph of several inputs
    becomes a module of several arguments, all but one of which `hold` makes constant.

    Args:
        model: the path of the file, or an `onnx.ModelProto`; the first dimension of its first input is the batch.
        output: name of the value that the module gives. May be any value of the graph; needed if the graph has several
            outputs. What this value does not depend on is not read.
        verify: compare the module with ONNX's own reference implementation at a random input.

    Raises:
        FileError: there is no such file, or it cannot be read.
        TransformError: the model cannot be read, `output` is not a value of it or one has to be chosen.
        MissingPackageError: `onnx` is not installed.
        UnsupportedOperation: it has operators that are not known; all are named.

    Example:
        >>> model = from_onnx("network.onnx")  # doctest: +SKIP
        >>> shallow = torch_shallow.transform(model)  # doctest: +SKIP
    """
    proto = _at_known_opset(_part(_load(model), output))
    inputs = _inputs(proto.graph)
    module = Reader(proto, inputs).module()
    check_any_batch(module)
    if verify:
        check_values(proto, module, [value.name for value in inputs])
    return module


def _load(source: Any) -> Any:
    """A model of our own to change."""
    try:
        import onnx
    except ImportError as error:
        needed_for = "model: onnx is needed to read ONNX files: pip install 'torch_shallow[onnx]'."
        raise MissingPackageError(needed_for) from error
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
            raise FileError(f"model: {source} is not an ONNX file, or not all of one: {error}") from error
    versions: dict[str, set[int]] = {}
    for opset in model.opset_import:
        versions.setdefault("" if opset.domain in _DOMAINS else opset.domain, set()).add(opset.version)
    if not versions or not model.graph.output:
        raise TransformError(f"model: {source} is not an ONNX file: it has no operators or no output.")
    for domain, found in versions.items():
        if len(found) > 1:
            raise TransformError(
                f"model: expected one opset of {domain or 'ai.onnx'}, found {sorted(found)} in {source}; leave the one "
                "in model.opset_import that its operators are written for."
            )
    del model.opset_import[:]
    model.opset_import.extend(onnx.helper.make_opsetid(domain, found.pop()) for domain, found in versions.items())
    return model


def _part(model: Any, output: str | None) -> Any:
    """A model with the operators that its output needs, in order, and without functions of its own."""
    from onnx import helper, inliner

    graph = model.graph
    values = {name for node in graph.node for name in node.output if name}
    if output is None and len(graph.output) > 1:
        raise TransformError(f"output: expected the name of one of the outputs, which are {_names(graph.output)}.")
    if output is not None and output not in values | {value.name for value in graph.output}:
        raise TransformError(
            f"output: expected a value of the graph, found {output!r}; its outputs are {_names(graph.output)}, and "
            f"its operators make {', '.join(sorted(values)[:20])}{' and others' if len(values) > 20 else ''}."
        )
    name = output or graph.output[0].name
    shown = {value.name: value for value in (*graph.value_info, *graph.output)}
    kept = shown.get(name) or helper.make_empty_tensor_value_info(name)
    try:
        model = inliner.inline_local_functions(model) if model.functions else model
    except Exception as error:
        raise TransformError(f"model: its functions cannot be put in place of their calls: {error}") from error
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
        raise TransformError("model: it has sparse constants, which are not read; write them as dense ones.")
    defined = {value.name for value in graph.input} | {name for node in nodes for name in node.output} | {""}
    defined |= {tensor.name for tensor in graph.initializer}
    for node in nodes:
        missing = [name for name in node.input if name not in defined]
        if missing:
            raise TransformError(
                f"model: {node.op_type} (at {node.name or node.output[0]}) uses {missing[0]!r}, which is neither an "
                "input nor a constant nor made by an operator; the file is not whole, export it again."
            )


def _copy(proto: Any) -> Any:
    made = type(proto)()
    made.CopyFrom(proto)
    return made


def _at_known_opset(model: Any) -> Any:
    """A model at opset 18 or above, with the shapes of its values as far as ONNX finds them."""
    from onnx import shape_inference, version_converter

    version = next((opset.version for opset in model.opset_import if not opset.domain), _OPSET)
    try:
        if version < _OPSET:
            model = version_converter.convert_version(model, _OPSET)
        return shape_inference.infer_shapes(model, data_prop=True)
    except Exception as error:
        raise TransformError(
            f"model: it cannot be brought from opset {version} to {_OPSET}: {error}. Write it again with a newer "
            f"exporter, opset_version={_OPSET} or above."
        ) from error


def _inputs(graph: Any) -> list[Any]:
    """The inputs that the output depends on."""
    used = {name for node in graph.node for name in used_names(node)} | {value.name for value in graph.output}
    constants = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in constants and value.name in used]
    if not inputs:
        raise TransformError(
            f"model: expected an output that depends on an input, found the inputs {_names(graph.input)} and that "
            f"{_names(graph.output)} depends on none of them."
        )
    return inputs


def _names(values: Iterable[Any]) -> str:
    return ", ".join(value.name for value in values) or "none"
