"""Write a network as ONNX with operators that every runtime supports: the tree level by level."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from torch_shallow.errors import TransformError, argument_error
from torch_shallow.explain.features import Features
from torch_shallow.export.tables import Tables, slack_of
from torch_shallow.export.writing import write
from torch_shallow.modules.shallow_relu import ShallowReLU
from torch_shallow.optional import require
from torch_shallow.version import VERSION

OPSET, IR_VERSION = 17, 8  # both of the same release of ONNX
_DTYPES: dict[str, type[np.floating]] = {"float64": np.float64, "float32": np.float32}


def to_onnx(
    shallow: ShallowReLU,
    path: str | os.PathLike[str] | None = None,
    *,
    dtype: str = "float64",
    features: Features | Sequence[str] | None = None,
) -> Any:
    """Write a network as an ONNX model of standard operators (opset 17), for batches of any size.

    The model descends the tree one level at a time, stores each distinct half-space and local model once, and computes
    in the dtype of its input. (`torch.onnx.export(shallow, ...)` computes in float64 whatever the input, and writes any
    head.) Outputs are those of the network up to rounding in that dtype; for float32, cuts are rounded too. Outside the
    domain the model returns NaN, or class -1 if the head is an argmax.

    Args:
        shallow: a complete network; merged and simplified networks are allowed.
        path: path of a file to write; nothing is written if None.
        dtype: "float64" or "float32", for inputs, outputs and all arithmetic.
        features: names of the inputs; with a mean and a scale, the model takes unscaled values.

    Returns:
        The `onnx.ModelProto`; its input is `x` of shape `(batch, *in_shape)`, and its output is `y`.

    Raises:
        WrongTypeError: an argument has the wrong type.
        TransformError: an argument is invalid, the network is not complete, its head cannot be written, or a number is
            too large for the dtype.
        MissingPackageError: `onnx` is not installed.

    Example:
        >>> import torch, torch_shallow
        >>> from torch import nn
        >>> shallow = torch_shallow.transform(nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)))
        >>> model = torch_shallow.export.to_onnx(shallow, dtype="float32")
        >>> [value.name for value in (*model.graph.input, *model.graph.output)]
        ['x', 'y']
    """
    if dtype not in _DTYPES:
        raise argument_error(dtype, str)(f'dtype: expected "float64" or "float32", found {dtype!r}.')
    tables = Tables.of(shallow, features)
    onnx = require("onnx", "onnx")
    model = _Writer(tables, _DTYPES[dtype], onnx).model()
    if path is not None:
        write(path, model.SerializeToString(), "network.onnx")
    return model


class _Writer:
    """Collect the nodes and constants of a graph."""

    def __init__(self, tables: Tables, dtype: type[np.floating], onnx: Any) -> None:
        self.tables, self.dtype, self.onnx = tables, dtype, onnx
        self.nodes, self.constants = list[Any](), list[Any]()

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Add a node, and return the name of its output."""
        name = f"v{len(self.nodes)}"
        self.nodes.append(self.onnx.helper.make_node(operator, list(inputs), [name], **attributes))
        return name

    def constant(self, array: Any) -> str:
        """Add a constant: integers as int64, others in the dtype of the model."""
        array = np.asarray(array)
        with np.errstate(over="ignore"):
            stored = array.astype(self.dtype if array.dtype.kind == "f" else np.int64)
        if stored.dtype.kind == "f" and not np.array_equal(np.isfinite(stored), np.isfinite(array)):
            raise TransformError('dtype: expected numbers that float32 can hold, found larger ones; use "float64".')
        name = f"c{len(self.constants)}"
        self.constants.append(self.onnx.numpy_helper.from_array(np.ascontiguousarray(stored), name))
        return name

    def affine(self, rows: np.ndarray, x: str) -> str:
        """Compute `rows @ [x, 1]` for each row of `x`."""
        product = self.add("MatMul", x, self.constant(rows[:, :-1].T))
        return self.add("Add", product, self.constant(rows[:, -1]))

    def model(self) -> Any:
        """Build the whole model."""
        tables, helper = self.tables, self.onnx.helper
        points = self.add("Reshape", "x", self.constant([-1, tables.num_inputs]))
        u = points if tables.projection is None else self.affine(tables.projection, points)
        inside, leaf = self.inside(points), self.descend(u)
        weights, biases = tables.models[..., :-1], tables.models[..., -1]
        local = self.add("Gather", self.constant(weights), leaf)
        y = self.add("MatMul", local, self.add("Unsqueeze", u, self.constant([2])))
        y = self.add("Add", self.add("Squeeze", y, self.constant([2])), self.add("Gather", self.constant(biases), leaf))
        if tables.skip is not None:
            y = self.add("Add", y, self.add("MatMul", points, self.constant(tables.skip.T)))
        if not tables.gives_class:
            y = self.add("Where", inside, y, self.constant(np.nan))
        for step in tables.head:
            y = self.step(step.name, step.scale, step.shift, step.chosen, y)
        if tables.gives_class:
            y = self.add("Where", inside, y, self.constant(-1))
        shape = self.constant([-1, *tables.out_shape])
        self.nodes.append(helper.make_node("Reshape", [y, shape], ["y"]))
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(self.dtype))
        result = self.onnx.TensorProto.INT64 if tables.gives_class else kind
        graph = helper.make_graph(
            self.nodes,
            "shallow",
            [helper.make_tensor_value_info("x", kind, ["batch", *tables.in_shape])],
            [helper.make_tensor_value_info("y", result, ["batch", *tables.out_shape])],
            self.constants,
        )
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            producer_name="torch_shallow",
            producer_version=VERSION,
            doc_string=tables.description,
        )
        model.ir_version = IR_VERSION
        self.onnx.checker.check_model(model, full_check=True)
        return model

    def inside(self, points: str) -> str:
        """Compute which points are in the domain, as a column."""
        tables, (lower, upper) = self.tables, self.tables.limits(self.dtype)
        within = self.add(
            "And",
            self.add("GreaterOrEqual", points, self.constant(lower)),
            self.add("LessOrEqual", points, self.constant(upper)),
        )
        if len(tables.polytope):
            bounds = np.abs(tables.polytope)
            size = self.affine(bounds, self.add("Abs", points))
            allowed = self.add("Mul", size, self.constant(slack_of(self.dtype)))
            faces = self.add("LessOrEqual", self.affine(tables.polytope, points), allowed)
            within = self.add("Concat", within, faces, axis=1)
        outside = self.add("Cast", self.add("Not", within), to=self.onnx.TensorProto.INT64)
        count = self.add("ReduceSum", outside, self.constant([1]), keepdims=1)
        return self.add("Equal", count, self.constant(0))

    def descend(self, u: str) -> str:
        """Find the local model of each point; a leaf is a node that follows itself on either side."""
        tables, cuts = self.tables, len(self.tables.cuts)
        leaves, rows = np.arange(cuts, cuts + len(tables.models)), tables.cuts[:, 0]
        below = tables.cuts[:, 1:]
        after = np.concatenate([np.where(below >= 0, below, cuts + ~below), np.stack([leaves, leaves], 1)]).reshape(-1)
        row_of = np.concatenate([rows, np.zeros(len(leaves), dtype=np.int64)])
        size = self.add("Slice", self.add("Shape", u), self.constant([0]), self.constant([1]))
        root = self.onnx.numpy_helper.from_array(np.zeros(1, dtype=np.int64))
        node = self.add("ConstantOfShape", size, value=root)
        if not cuts:
            return node
        names = [self.constant(array) for array in (row_of, tables.rows[:, :-1], tables.rows[:, -1], after)]
        two, axis, zero = self.constant(2), self.constant([1]), self.constant(0.0)
        for _ in range(tables.depth):
            row = self.add("Gather", names[0], node)
            terms = self.add("Mul", self.add("Gather", names[1], row), u)
            total = self.add("ReduceSum", terms, axis, keepdims=0)
            z = self.add("Add", total, self.add("Gather", names[2], row))
            side = self.add("Cast", self.add("Greater", z, zero), to=self.onnx.TensorProto.INT64)
            node = self.add("Gather", names[3], self.add("Add", self.add("Mul", node, two), side))
        return self.add("Sub", node, self.constant(cuts))

    def step(self, name: str, scale: Any, shift: Any, chosen: Any, y: str) -> str:
        """Add a step of the head."""
        match name:
            case "affine":
                return self.add("Add", self.add("Mul", y, self.constant(scale)), self.constant(shift))
            case "choose":
                return self.add("Gather", y, self.constant(chosen), axis=1)
            case "argmax":
                return self.add("ArgMax", y, axis=1, keepdims=1)
            case "softmax" | "log_softmax":
                return self.add({"softmax": "Softmax", "log_softmax": "LogSoftmax"}[name], y, axis=1)
        return self.add(name.capitalize(), y)
