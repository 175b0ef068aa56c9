"""Read an ONNX graph operator by operator."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.fx import GraphModule

from torch_shallow.errors import TransformError, UnsupportedOperation
from torch_shallow.program.onnx.entrywise import ENTRYWISE
from torch_shallow.program.onnx.images import IMAGES, WINDOWS
from torch_shallow.program.onnx.layers import LAYERS, LEARNING
from torch_shallow.program.onnx.rearrangements import INDEXING, REARRANGEMENTS
from torch_shallow.program.onnx.reductions import REDUCTIONS, SEQUENCES
from torch_shallow.program.onnx.sizes import OF_SIZES, SIZE_OPERATORS
from torch_shallow.program.onnx.value import (
    BATCHES,
    FLOATS,
    TYPES,
    Dimensions,
    ModuleWriter,
    NotRead,
    Value,
    identifier,
    settled,
)


def needed(graph: Any, output: str) -> list[Any]:
    """Return the operators on which a value depends, each after those whose values it uses.

    Args:
        graph: an `onnx.GraphProto`.
        output: name of the value.

    Raises:
        TransformError: an operator depends on its own value.
    """
    makers = {name: i for i, node in enumerate(graph.node) for name in node.output if name}
    found: dict[int, None] = {}
    open_: set[int] = set()
    stack = [makers[output]] if output in makers else []
    while stack:
        place = stack[-1]
        if place in found:
            stack.pop()
            continue
        missing = {makers[name] for name in used_names(graph.node[place]) if name in makers} - found.keys()
        if not missing:
            found[place] = None
        elif place in open_:
            node = graph.node[place]
            raise TransformError(f"model: {node.op_type} (at {node.name or node.output[0]}) depends on its own output.")
        open_.add(place)
        # The last one of the stack is read first, so that a file in order remains unchanged.
        stack.extend(sorted(missing, reverse=True))
    return [graph.node[place] for place in found]


def used_names(node: Any) -> Iterator[str]:
    """Yield the names of the values that an operator uses, including those inside its own graphs."""
    yield from node.input
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            for inner in graph.node:
                yield from used_names(inner)
            for value in graph.output:
                yield value.name


OPERATORS: dict[str, Callable[..., Any]] = {
    **ENTRYWISE,
    **IMAGES,
    **INDEXING,
    **LAYERS,
    **LEARNING,
    **OF_SIZES,
    **REARRANGEMENTS,
    **REDUCTIONS,
    **SEQUENCES,
    **WINDOWS,
}
"""Operators on values that depend on the input, by name, with the domain unless it is ONNX's own."""


class Reader:
    """Read the graph of a model.

    Args:
        model: an `onnx.ModelProto` with the shapes of its values and its operators in order.
        inputs: the `onnx.ValueInfoProto` of each input.

    Raises:
        TransformError: the first input is not floating point, or the type of another one is unknown to PyTorch.
    """

    def __init__(self, model: Any, inputs: Sequence[Any]) -> None:
        self.proto = model
        self.writer = ModuleWriter({v.name: _dimensions(v) for v in (*model.graph.value_info, *inputs)})
        self.values: dict[str, Value] = {}
        self.unread: set[str] = set()
        self.unknown: dict[str, str] = {}
        self.writer.batch = (self.writer.known[inputs[0].name] or (None,))[0]
        for i, placeholder in enumerate(inputs):
            self._input(placeholder, FLOATS if i == 0 else TYPES)

    def module(self) -> GraphModule:
        """Return the module.

        Raises:
            TransformError: an operator has unsupported arguments.
            UnsupportedOperation: operators are unknown; all are named.
        """
        graph = self.proto.graph
        self._constants(graph)
        self._read_all(graph.node)
        if self.unknown:
            maps = [node.input[0] for node in graph.node if node.op_type == "ZipMap"]
            raise UnsupportedOperation(_list_unknown(self.unknown, maps))
        name = graph.output[0].name
        if name not in self.values:
            raise TransformError(
                f"model: expected an operator that computes the output {name!r}, found none; the file is incomplete, "
                "export it again."
            )
        self.writer.place = (name, "output")
        result = self._value(name)
        if isinstance(result.content, list):
            raise TransformError(
                f"model: expected one tensor as output, found a sequence of tensors in {name!r}; select a tensor with "
                "output=."
            )
        try:
            self.writer.graph.output(result.tensor.node)
        except NotRead as reason:
            raise TransformError(f"model: its output {name!r} {reason}.") from reason
        module = GraphModule(self.writer.root, self.writer.graph)
        module.graph.eliminate_dead_code()
        return GraphModule(module, module.graph, identifier(graph.name) or "OnnxModel")

    def _input(self, placeholder: Any, types: dict[int, torch.dtype]) -> None:
        name, kind = placeholder.name, placeholder.type.tensor_type.elem_type
        if kind not in types:
            from onnx import TensorProto

            raise TransformError(
                "model: expected a first input of type float32, float16 or float64 and numeric ones after it, found "
                f"that {name} has type {TensorProto.DataType.Name(kind)}; export the model with an input of type "
                "float32."
            )
        self.writer.place = (name, "input")
        proxy = self.writer.create_proxy("placeholder", identifier(name) or "x", (), {})
        dimensions = self.writer.known[name]
        self.values[name] = Value(self.writer, name, proxy)
        if dimensions is None or None in dimensions[1:] or 0 in dimensions[1:]:
            return
        moves = bool(dimensions) and dimensions[0] in (None, 0, self.writer.batch)
        shapes = [
            (count, *dimensions[1:]) if moves else dimensions for count in (*BATCHES, self.writer.batch or BATCHES[0])
        ]
        self.writer.rehearsal.begin(proxy.node, shapes[:-1], types[kind])  # type: ignore[arg-type]
        if len(dimensions) > 1 or not moves:
            proxy.node.meta["val"] = torch.empty(shapes[-1], dtype=types[kind], device="meta")  # type: ignore[arg-type]

    def _constants(self, graph: Any) -> None:
        from onnx import numpy_helper

        for tensor in graph.initializer:
            try:
                array = numpy_helper.to_array(tensor)
            except Exception as error:
                raise TransformError(
                    f"model: the constant {tensor.name} cannot be read ({error}); if it is in a separate file, pass "
                    "the path of the model, and place that file beside it."
                ) from error
            self.values[tensor.name] = Value(self.writer, tensor.name, _plain(array))

    def _read_all(self, nodes: Iterable[Any]) -> None:
        for node in nodes:
            if not self.unread.isdisjoint(node.input):
                self.unread.update(node.output)
                continue
            self.writer.place = (node.name or next(filter(None, node.output), node.op_type), node.op_type)
            try:
                results = self._results(node)
            except NotRead as reason:
                raise TransformError(f"model: {node.op_type} (at {self.writer.place[0]}) {reason}.") from reason
            for name, result in zip(node.output, results, strict=False):
                self.values[name] = Value(self.writer, name, result)

    def _results(self, node: Any) -> Sequence[Any]:
        if node.op_type == "If" and not node.domain:
            return self._branch(node)
        if node.op_type == "SequenceMap" and not node.domain:
            return self._map(node)
        inputs = [self._value(name) if name else None for name in node.input]
        contents = [value.content for value in inputs if value is not None]
        arrays = [settled(content) for content in contents if isinstance(content, np.ndarray)]
        known = len(arrays) == len(contents)
        key = f"{node.domain}.{node.op_type}".lstrip(".")
        if known and not any(array.dtype == object for array in arrays):
            try:
                return _fold(self.proto, node, arrays)
            except NotRead:
                if key not in OPERATORS:
                    raise
        table = SIZE_OPERATORS if known and key in SIZE_OPERATORS else OPERATORS
        if key not in table:
            self.unknown.setdefault(key, self.writer.place[0])
            self.unread.update(node.output)
            return ()
        attributes = {attribute.name: _attribute(attribute) for attribute in node.attribute}
        results = _call(table[key], inputs, attributes)
        if key == "Split":
            return [results[i] for i in range(len(node.output))]
        return results if isinstance(results, tuple) else (results,)

    def _branch(self, node: Any) -> Sequence[Any]:
        """Return the values of the branch of an If that is taken for every input."""
        condition = self._value(node.input[0])
        if not isinstance(condition.content, np.ndarray) or settled(condition.content).dtype == object:
            raise NotRead("branches on a value that depends on the input of the network; use Where or Max")
        graphs = {attribute.name: attribute.g for attribute in node.attribute}
        return self._body(graphs["then_branch" if condition.number else "else_branch"], [])

    def _map(self, node: Any) -> Sequence[Any]:
        """Return the result of a SequenceMap for each value of a sequence."""
        inputs = [self._value(name) for name in node.input]
        body = next(attribute.g for attribute in node.attribute if attribute.name == "body")
        rows: list[Sequence[Any]] = []
        for k, part in enumerate(inputs[0].parts):
            others = [value.parts[k] if isinstance(value.content, list) else value for value in inputs[1:]]
            rows.append(self._body(body, [part, *others]))
        return [
            [Value(self.writer, f"{name}_{k}", row[i]) for k, row in enumerate(rows)]
            for i, name in enumerate(node.output)
        ]

    def _body(self, graph: Any, inputs: Sequence[Value]) -> Sequence[Any]:
        """Return the outputs of a graph inside an operator, which sees the values outside."""
        outside, place = self.values, self.writer.place
        given = {value.name: each.content for value, each in zip(graph.input, inputs, strict=True)}
        self.values = {**outside, **{name: Value(self.writer, name, content) for name, content in given.items()}}
        self._constants(graph)
        self._read_all(graph.node)
        results = [self._value(value.name).content for value in graph.output if value.name not in self.unread]
        self.values, self.writer.place = outside, place
        return results

    def _value(self, name: str) -> Value:
        if name not in self.values:
            raise NotRead(f"uses {name!r}, which is neither an input nor a constant nor the result of an operator")
        return self.values[name]


def _list_unknown(unknown: dict[str, str], maps: Sequence[str]) -> str:
    """List unsupported operators, and suggest what to do; `maps` are the values that ZipMap converts to dicts."""
    places = ", ".join(f"{operator} (at {place})" for operator, place in unknown.items())
    hint = f" ZipMap converts the values {', '.join(map(repr, maps))} to dicts: pass one of them as output=."
    return (
        f"model: found unsupported operators: {places}. If they end the network, pass the name of a value before them "
        "as output=; otherwise load the file with another converter and transform its nn.Module."
        + (hint if any(name.endswith("ZipMap") for name in unknown) else "")
    )


def _call(operator: Any, inputs: list[Value | None], attributes: dict[str, Any]) -> Any:
    parameters = inspect.signature(operator).parameters.values()
    allowed = {parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY}
    if unknown := sorted(attributes.keys() - allowed):
        raise NotRead(f"has unsupported attributes: {', '.join(unknown)}")
    positional = [parameter for parameter in parameters if parameter.kind is parameter.POSITIONAL_OR_KEYWORD]
    variadic = any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters)
    while inputs and inputs[-1] is None:
        inputs = inputs[:-1]
    if len(inputs) > len(positional) and not variadic:
        raise NotRead(f"has {len(inputs)} inputs, of which {len(positional)} are supported")
    given = {parameter.name for parameter, value in zip(positional, inputs, strict=False) if value is not None}
    needs = [p.name for p in positional if p.default is p.empty and p.name not in given]
    needs += sorted(p.name for p in parameters if p.name in allowed - attributes.keys() and p.default is p.empty)
    if needs:
        raise NotRead(f"lacks {', '.join(needs)}")
    return operator(*inputs, **attributes)


def _fold(model: Any, node: Any, inputs: list[np.ndarray]) -> tuple[Any, ...]:
    """Compute the outputs of an operator on constants with ONNX's own reference implementation."""
    from onnx import helper
    from onnx.reference import ReferenceEvaluator

    names = [name for name in node.input if name]
    graph = helper.make_graph(
        [node],
        "constant",
        [helper.make_value_info(name, helper.make_tensor_type_proto(0, None)) for name in dict.fromkeys(names)],
        [helper.make_value_info(name, helper.make_tensor_type_proto(0, None)) for name in node.output if name],
    )
    part = helper.make_model(graph, opset_imports=model.opset_import)
    try:
        found = ReferenceEvaluator(part).run(None, dict(zip(names, inputs, strict=True)))
    except Exception as error:
        raise NotRead(f"has constant inputs on which ONNX's reference implementation fails ({error})") from error
    made = iter(_plain(np.asarray(array)) for array in found)
    return tuple(next(made) if name else None for name in node.output)


def _plain(array: np.ndarray) -> np.ndarray:
    """Convert an array to a type that PyTorch has."""
    return array.astype(np.float32) if array.dtype.kind == "V" or array.dtype.name == "bfloat16" else array


def _attribute(attribute: Any) -> Any:
    from onnx import TensorProto, helper, numpy_helper

    value = helper.get_attribute_value(attribute)
    if isinstance(value, bytes):
        return value.decode()
    return numpy_helper.to_array(value) if isinstance(value, TensorProto) else value


def _dimensions(value: Any) -> Dimensions:
    if not value.type.tensor_type.HasField("shape"):
        return None
    return tuple(d.dim_value if d.HasField("dim_value") else None for d in value.type.tensor_type.shape.dim)
