"""Trace an nn.Module as a torch.fx graph of affine nodes and ReLUs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from itertools import groupby
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.fx import Graph, Node

from torch_shallow.errors import TransformError, UnsupportedOperation
from torch_shallow.program.exported import export_model
from torch_shallow.program.graph.accounting import Accounts, Refusal, account
from torch_shallow.program.graph.symbolic import PLACE, CannotTrace, symbolic_trace
from torch_shallow.program.head import split_head
from torch_shallow.program.model_copy import copy_model, is_finite
from torch_shallow.program.rewriting.choices import rewrite_choices
from torch_shallow.program.rewriting.rewrite import STAGE, Writer, attribute_of, module_path, rewrite
from torch_shallow.program.rewriting.shapes import KnownShapes, NotRewritable


class TakenApart(NamedTuple):
    """Hold a model taken apart.

    Attributes:
        root: a copy of the model, whose submodules and attributes the graph and the head use.
        graph: graph of affine nodes and ReLUs, each ReLU named in its `meta[STAGE]`.
        head: the end of the model that is not piecewise linear, as a module of the graph's output; None if there is
            none.
    """

    root: nn.Module
    graph: Graph
    head: nn.Module | None


def trace_copy(
    model: nn.Module, precision: Callable[[], AbstractContextManager[object]], in_shape: tuple[int, ...] | None
) -> TakenApart:
    """Take a copy of a model apart, by torch.fx or, where that cannot trace the code, by `torch.export`.

    Args:
        model: a model that passed `check_model`.
        precision: constructor of a context for the copy, as for `copy_model`.
        in_shape: shape of one input, if known; `torch.export` needs it.

    Raises:
        CannotTrace: torch.fx cannot trace the code, and `torch.export` would need the shape of the input.
        TransformError: the model cannot be traced in either way.
        UnsupportedOperation: the model contains operations, other than at its end, that are not piecewise linear.
    """
    copy = copy_model(model, precision())
    try:
        return take_apart(copy, in_shape, precision)
    except CannotTrace as error:
        _refuse_policy(model, error)
        if in_shape is None:
            raise CannotTrace(
                "example_input: needed, because torch.export, which can trace more code, needs the shape of the input; "
                f"pass a batch of inputs, such as torch.zeros(1, ...). {error}"
            ) from error.__cause__
        exported = export_model(copy_model(model, nullcontext()), in_shape, error)
    copy = copy_model(exported, precision())
    return take_apart(copy, in_shape, precision)


def _refuse_policy(model: nn.Module, error: CannotTrace) -> None:
    """Explain what to pass in place of an actor-critic policy, as of stable-baselines3, which draws actions."""
    for name, module in model.named_modules():
        parts = dict(module.named_modules())
        if {"mlp_extractor.policy_net", "action_net"} <= set(parts):
            policy, features = _written(name), "features_extractor" in parts
            names = ["features_extractor"] * features + ["mlp_extractor.policy_net", "action_net"]
            raise TransformError(
                f"model: {policy} is a policy ({type(module).__name__}) whose forward() draws actions from a "
                "distribution; pass the layers that give the logits or means of that distribution: "
                f"nn.Sequential({', '.join(f'{policy}.{part}' for part in names)})."
            ) from error


def take_apart(
    root: nn.Module,
    in_shape: tuple[int, ...] | None,
    precision: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> TakenApart:
    """Return the graph and the head of a module that may be changed.

    Args:
        root: a copy of the user's model; constants created by its code are attached to it.
        in_shape: shape of one input, if known; control flow may then depend on the input's shape.
        precision: constructor of a context for the constants computed by its code.

    Raises:
        TransformError: the module cannot be traced.
        UnsupportedOperation: it contains operations, other than at its end, that are not piecewise linear.
    """
    with precision():
        graph = symbolic_trace(root, in_shape)
    head = None
    accounts, known = account(root, graph), KnownShapes(root, graph, in_shape)
    _keep_batch(graph, known)
    writer, behind = Writer(root, graph, accounts, known), accounts.behind_heads()
    rewrite_choices(writer, behind)
    rewrite(writer, behind)
    if accounts.refusals:
        possible, head = split_head(writer)
        if not possible:
            rewrite(writer, set())  # to find the parts to suggest
            raise UnsupportedOperation(_list_refusals(accounts.refusals) + _offer_parts(root, graph, accounts))
    _refuse_infinities(root, graph)
    calls: Counter[str] = Counter()
    for node in list(graph.nodes):
        if node.op == "get_attr" and not node.users:  # a weight that is no longer used
            graph.erase_node(node)
        if STAGE in node.meta:
            name = node.meta[STAGE]
            calls[name] += 1
            node.meta[STAGE] = name if calls[name] == 1 else f"{name} (call {calls[name]})"
    graph.lint()
    return TakenApart(root, graph, head)


def _keep_batch(graph: Graph, known: KnownShapes) -> None:
    """Name the dimensions of each `squeeze()`, so that a batch of one input keeps its batch dimension."""
    for node in graph.nodes:
        if node.target in ("squeeze", torch.squeeze) and len(node.args) == 1 and not node.kwargs:
            try:
                two, three = known(node.args[0])
            except (NotRewritable, TransformError):  # reported when the graph runs, or the shape is needed
                continue
            node.args = (*node.args, tuple(i for i, (a, b) in enumerate(zip(two, three, strict=True)) if a == b == 1))


def _refuse_infinities(root: nn.Module, graph: Graph) -> None:
    """Check that constants with infinite entries remain only as bounds."""
    for node in graph.nodes:
        value = attribute_of(root, node) if node.op == "get_attr" and node.users else None
        if isinstance(value, Tensor) and value.is_floating_point() and not is_finite(value.to_dense()):
            raise TransformError(
                f"model: expected finite numbers, found that {node.target} contains inf and is not only a bound, as in "
                "clamp(); use large numbers instead (such as a mask of -1e4)."
            )


def _list_refusals(refusals: list[Refusal]) -> str:
    lines = [
        f"  {module_path(refusal.node) or '(root)'}: {refusal.operation}{refusal.node.meta[PLACE]} {refusal.reason}."
        for refusal in refusals
    ]
    count = "an operation that is" if len(lines) == 1 else f"{len(lines)} operations that are"
    return "\n".join([f"model: found {count} not piecewise linear:", *lines])


def _offer_parts(root: nn.Module, graph: Graph, accounts: Accounts) -> str:
    """Suggest, as code, the largest submodules and slices of an `nn.Sequential` with ReLUs but no refused operation."""
    refused, wrong, used = {refusal.node for refusal in accounts.refusals}, set[str](), set[str]()
    for node in graph.nodes:
        if node in refused:
            wrong.update(_modules(node))
        elif STAGE in node.meta:
            used.update(_modules(node))
    parts = ", ".join(_search(root, "", wrong, used))
    return f"\nThese parts of the model could be transformed on their own: {parts}." if parts else ""


def _search(module: nn.Module, name: str, wrong: set[str], used: set[str]) -> Iterator[str]:
    if name in used - wrong and next(module.children(), None) is not None:
        yield _written(name)
        return
    children = [(f"{name}.{child}".lstrip("."), part) for child, part in module.named_children()]
    if not isinstance(module, nn.Sequential):
        for child, part in children:
            yield from _search(part, child, wrong, used)
        return
    for clean, run in groupby(enumerate(children), key=lambda item: item[1][0] not in wrong):
        numbered = list(run)
        if not clean:
            for _, (child, part) in numbered:
                yield from _search(part, child, wrong, used)
        elif len(numbered) == 1:
            yield from _search(numbered[0][1][1], numbered[0][1][0], wrong, used)
        elif any(child in used for _, (child, _) in numbered):
            yield f"{_written(name)}[{numbered[0][0]}:{numbered[-1][0] + 1}]"


def _modules(node: Node) -> set[str]:
    """Return the qualified names of all modules in whose forward() a node is created."""
    stack: dict[str, tuple[str, type]] = node.meta.get("nn_module_stack", {})
    return {path for path, _ in stack.values()} | ({str(node.target)} if node.op == "call_module" else set())


def _written(name: str) -> str:
    """Write a submodule as code, with an index for each number."""
    return "model" + "".join(f"[{part}]" if part.isdigit() else f".{part}" for part in filter(None, name.split(".")))
