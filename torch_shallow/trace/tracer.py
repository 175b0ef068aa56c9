"""nn.Module to torch.fx graph of affine nodes and relu."""

from __future__ import annotations

from collections import Counter
from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch.fx import Graph, GraphModule, Node

from torch_shallow.errors import TransformError, UnsupportedOperation
from torch_shallow.trace.accounting import Refusal, account
from torch_shallow.trace.input_shape import given_shape
from torch_shallow.trace.model_copy import check_model, copy_model, warn_of_hooks
from torch_shallow.trace.symbolic import PLACE, symbolic_trace

STAGE = "torch_shallow_stage"
"""Key in `node.meta` of a ReLU: the name of its stage."""


def trace(model: nn.Module, example_input: Tensor | None = None) -> GraphModule:
    """The model as a graph of affine operations and ReLUs.

    Every form of ReLU becomes a call of `torch.relu`, or of `torch.relu_` where the model works in place. The graph
    computes the same function in the same dtype. The model itself is not changed.

    Args:
        model: a model of one tensor argument (others must have defaults, which are used) and one tensor result.
        example_input: if given, a batch of inputs (or one input of one dimension) on which the graph is compared with
            the model; needed if the model's control flow looks at the shape of its input.

    Raises:
        TransformError: the model cannot be traced.
        UnsupportedOperation: it contains operations that are neither affine nor ReLU.

    Example:
        >>> graph_module = trace(nn.Sequential(nn.Linear(2, 3), nn.ReLU()))
        >>> [node.op for node in graph_module.graph.nodes]
        ['placeholder', 'call_module', 'call_function', 'output']
    """
    in_shape = given_shape(example_input, None)
    warn_of_hooks(check_model(model), stacklevel=2)
    copy = copy_model(model, nullcontext())
    graph_module = GraphModule(copy, trace_graph(copy, in_shape), type(model).__name__)
    if example_input is not None:
        _compare(graph_module, copy, example_input)
    return graph_module


def trace_graph(root: nn.Module, in_shape: tuple[int, ...] | None) -> Graph:
    """The graph of a module that is ours to change, with the ReLUs in one form, each named in its `meta[STAGE]`.

    Args:
        root: a copy of the user's model; constants that its code makes are attached to it.
        in_shape: shape of one input, if known: control flow may then depend on the input's shape.

    Raises:
        TransformError: the module cannot be traced.
        UnsupportedOperation: it contains operations that are neither affine nor ReLU.
    """
    graph = symbolic_trace(root, in_shape)
    accounts = account(root, graph)
    if accounts.refusals:
        raise UnsupportedOperation(_list_refusals(accounts.refusals))
    calls: Counter[str] = Counter()
    for node, in_place in accounts.relus:
        name = _stage_name(node)
        calls[name] += 1
        node.meta[STAGE] = name if calls[name] == 1 else f"{name} (call {calls[name]})"
        node.op, node.target = "call_function", torch.relu_ if in_place else torch.relu
        node.args, node.kwargs = (*node.args, *node.kwargs.values())[:1], {}
    graph.lint()
    return graph


def _list_refusals(refusals: list[Refusal]) -> str:
    lines = [
        f"  {_module_path(refusal.node) or '(root)'}: {refusal.operation}{refusal.node.meta[PLACE]} {refusal.reason}."
        for refusal in refusals
    ]
    count = "an operation that is" if len(lines) == 1 else f"{len(lines)} operations that are"
    return "\n".join([f"model: found {count} neither affine nor ReLU:", *lines])


def _module_path(node: Node) -> str:
    """Qualified name of the module whose forward() makes the node."""
    stack: dict[str, tuple[str, type]] = node.meta.get("nn_module_stack", {})
    return next(reversed(stack.values()))[0] if stack else ""


def _stage_name(node: Node) -> str:
    if node.op == "call_module":
        return str(node.target)
    return ".".join(part for part in (_module_path(node), "relu") if part)


def _compare(graph_module: GraphModule, copy: nn.Module, example_input: Tensor) -> None:
    try:
        with torch.no_grad():
            expected = copy(example_input.clone())
            found = graph_module(example_input.clone())
    except Exception as error:
        raise TransformError(
            f"example_input: the model fails on it (shape {tuple(example_input.shape)}, {example_input.dtype}): {error}"
        ) from error
    if not torch.equal(torch.nan_to_num(found), torch.nan_to_num(expected)):
        raise TransformError(
            "model: its traced graph does not give the same values on example_input; its forward() does something that "
            "torch.fx does not see (random numbers, global state, a choice made by Python)."
        )
