"""The shape of one input of a model: given, shown by an example, or told by its first Linear."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.fx import Graph, Node

from torch_shallow.errors import TransformError, WrongTypeError
from torch_shallow.program.graph.identify import identify

_KEEP_ENTRIES = frozenset(
    {
        *("Identity", "Flatten", "ReLU", "Dropout", "Dropout1d", "AlphaDropout", "relu", "dropout"),
        *("flatten", "view", "reshape", "contiguous", "clone", "to", "float", "double"),
    }
)


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
        raise WrongTypeError(f"example_input: expected a floating-point tensor, found {kind}; convert it first.")
    shape = tuple(example_input.shape[1:] if example_input.ndim > 1 else example_input.shape)
    if min(shape, default=0) < 1:
        raise TransformError(
            f"example_input: expected a batch of inputs or one input of one dimension, found shape "
            f"{tuple(example_input.shape)}, which has no entries."
        )
    return shape


def shape_of_first_linear(root: nn.Module, graph: Graph) -> tuple[int, ...]:
    """Shape of one input, if the model begins with an `nn.Linear`, possibly after layers that keep all entries.

    Args:
        root: the module that `graph` was traced from.
        graph: its graph.

    Raises:
        TransformError: the model does not begin so.
    """
    same_entries: set[Node] = set()
    for node in graph.nodes:
        if node.op == "placeholder":
            same_entries.add(node)
        elif node.args and node.args[0] in same_entries and node.op.startswith("call_"):
            features = _in_features(root, node)
            if features is not None:
                return (features,)
            if identify(root, node).name in _KEEP_ENTRIES:
                same_entries.add(node)
    raise TransformError(
        "example_input: needed, because the model does not begin with an nn.Linear that tells the shape of its input; "
        "pass a batch of inputs, such as torch.zeros(1, ...)."
    )


def _in_features(root: nn.Module, node: Node) -> int | None:
    if node.op == "call_module":
        module = root.get_submodule(str(node.target))
        return module.in_features if isinstance(module, nn.Linear) else None
    weight = node.args[1] if node.target is torch.nn.functional.linear and len(node.args) > 1 else None
    if isinstance(weight, Node) and weight.op == "get_attr":
        value = root
        for name in str(weight.target).split("."):
            value = getattr(value, name)
        return value.shape[1] if isinstance(value, Tensor) else None
    return None
