"""An ONNX graph read operator by operator."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import torch
from torch.fx import GraphModule, Proxy

from torch_shallow.errors import TransformError
from torch_shallow.trace.onnx.operators import OPERATORS
from torch_shallow.trace.onnx.sizes import SIZE_OPERATORS
from torch_shallow.trace.onnx.value import FLOATS, Dimensions, NotRead, Value, Writer, identifier


class Reader:
    """Reads the graph of a model.

    Args:
        model: an `onnx.ModelProto` with the shapes of its values.
        placeholder: an `onnx.ValueInfoProto`: the input.

    Raises:
        TransformError: the input is not floating point.
    """

    def __init__(self, model: Any, placeholder: Any) -> None:
        self.proto = model
        self.writer = Writer({v.name: _dimensions(v) for v in (*model.graph.value_info, placeholder)})
        self.values: dict[str, Value] = {}
        self._input(placeholder)

    def module(self) -> GraphModule:
        """The module.

        Raises:
            TransformError: an operator has arguments that are not read.
        """
        from onnx import numpy_helper

        graph = self.proto.graph
        for tensor in graph.initializer:
            self.values[tensor.name] = Value(self.writer, tensor.name, numpy_helper.to_array(tensor), is_weight=True)
        for node in graph.node:
            self.writer.place = (node.name or node.output[0], node.op_type)
            try:
                self._read(node)
            except NotRead as reason:
                raise TransformError(f"path: {node.op_type} (at {self.writer.place[0]}) {reason}.") from reason
        self.writer.graph.output(self.values[graph.output[0].name].tensor.node)
        return GraphModule(self.writer.root, self.writer.graph, identifier(graph.name) or "OnnxModel")

    def _input(self, placeholder: Any) -> None:
        kind = placeholder.type.tensor_type.elem_type
        if kind not in FLOATS:
            raise TransformError(
                f"path: expected an input of type float32, float16 or float64, found that {placeholder.name} has type "
                f"number {kind}; convert the model."
            )
        self.writer.place = (placeholder.name, "input")
        proxy = self.writer.create_proxy("placeholder", identifier(placeholder.name) or "x", (), {})
        dimensions = self.writer.known[placeholder.name]
        self.writer.batch = (dimensions or (None,))[0]
        in_shape = [size for size in dimensions[1:] if size] if dimensions else []
        if dimensions and 0 < len(in_shape) == len(dimensions) - 1:
            proxy.node.meta["val"] = torch.empty(self.writer.batch or 1, *in_shape, dtype=FLOATS[kind], device="meta")
        self.values[placeholder.name] = Value(self.writer, placeholder.name, proxy)

    def _read(self, node: Any) -> None:
        inputs = [self._value(name) if name else None for name in node.input]
        attributes = {attribute.name: _attribute(attribute) for attribute in node.attribute}
        contents = [value.content for value in inputs if value is not None]
        arrays = [content for content in contents if isinstance(content, np.ndarray)]
        known = len(arrays) == len(contents)
        if known and not any(array.dtype == object for array in arrays):
            results = _fold(self.proto, node, arrays)
        else:
            table = SIZE_OPERATORS if known and node.op_type in SIZE_OPERATORS else OPERATORS
            if node.op_type not in table:
                raise NotRead("is read of constants only")
            results = _call(table[node.op_type], inputs, attributes)
            results = tuple(results) if isinstance(results, list | tuple) else (results,)
            if isinstance(results[0], Proxy) and node.op_type == "Split":
                results = tuple(results[0][i] for i in range(len(node.output)))
        for name, result in zip(node.output, results, strict=False):
            self.values[name] = Value(self.writer, name, result)

    def _value(self, name: str) -> Value:
        if name not in self.values:
            raise NotRead(f"uses {name!r}, which is not among the outputs of operators that are read")
        return self.values[name]


def _call(operator: Any, inputs: list[Value | None], attributes: dict[str, Any]) -> Any:
    parameters = inspect.signature(operator).parameters.values()
    allowed = {parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY}
    if unknown := sorted(attributes.keys() - allowed):
        raise NotRead(f"has attributes that are not read: {', '.join(unknown)}")
    positional = [parameter for parameter in parameters if parameter.kind is parameter.POSITIONAL_OR_KEYWORD]
    variadic = any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters)
    if len(inputs) > len(positional) and not variadic:
        raise NotRead(f"has {len(inputs)} inputs, of which {len(positional)} are read")
    return operator(*inputs, **attributes)


def _fold(model: Any, node: Any, inputs: list[np.ndarray]) -> tuple[np.ndarray, ...]:
    """The outputs of an operator of constants, by ONNX's own reference implementation."""
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
    return tuple(ReferenceEvaluator(part).run(None, dict(zip(names, inputs, strict=True))))


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
