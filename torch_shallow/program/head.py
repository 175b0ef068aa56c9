"""Split off the end of a model that is not piecewise linear; the rest is the trunk."""

from __future__ import annotations

from math import prod
from typing import cast

import torch
from torch import nn
from torch.fx import Graph, GraphModule, Node

from torch_shallow.program.graph.accounting import Accounts, Refusal
from torch_shallow.program.graph.identify import first_argument, identify
from torch_shallow.program.graph.operations import is_decision
from torch_shallow.program.rewriting.rewrite import Writer
from torch_shallow.program.rewriting.shapes import NotRewritable, Shape


def split_head(writer: Writer) -> tuple[bool, GraphModule | None]:
    """Split off what depends on operations that are not piecewise linear, if nothing piecewise linear follows them.

    The graph becomes that of the trunk. Its output is the value from which the head starts; several such values are
    flattened for each input and joined.

    Args:
        writer: the writer that has rewritten the graph.

    Returns:
        Whether this is possible and, if so, the head, a module of the trunk's output that shares its parts with the
        root of the graph; None if the output does not depend on such operations at all.
    """
    root, graph, accounts = writer.root, writer.graph, writer.accounts
    refused = {refusal.node for refusal in accounts.refusals}
    heads = {refusal.node for refusal in accounts.refusals if refusal.may_end}
    output = next(node for node in reversed(graph.nodes))
    late = set(refused)
    for node in graph.nodes:
        if not late.isdisjoint(node.all_input_nodes):
            late.add(node)
    start, constants = _reads(graph, late, accounts)
    possible = (
        all(refusal.may_end or _follows(refusal, accounts, late) for refusal in accounts.refusals)
        and not _chooses(accounts, late)
        and not any(_must_not_follow(root, node, accounts, late, node in heads) for node in late - {output})
        and not all(node.op == "placeholder" for node in start)
        and not _overwritten_after(root, graph, late, accounts)
    )
    if not possible:
        return False, None
    head = None
    if output in late:
        try:
            parts = [writer.known(node)[0][1:] for node in start] if len(start) > 1 else []
        except NotRewritable:
            return False, None
        head = GraphModule(root, _head_graph(graph, late | constants, start, parts), "Head")
        with graph.inserting_before(output):
            output.args = (_joined(graph, start, parts),)
    for node in reversed(graph.nodes):
        if node in late and node is not output:
            graph.erase_node(node)
    return True, head


def _follows(refusal: Refusal, accounts: Accounts, late: set[Node]) -> bool:
    """Tell whether a node reads no value of the trunk, only results of the head's operations."""
    read = [used for used in refusal.node.all_input_nodes if used in accounts.dependent]
    return refusal.may_follow and bool(read) and all(used in late for used in read)


def _chooses(accounts: Accounts, late: set[Node]) -> bool:
    """Tell whether a discontinuous operation may choose between values of the trunk, and so is no part of a head."""
    if not any(is_decision(refusal.operation) for refusal in accounts.refusals):
        return False
    heads = {refusal.node for refusal in accounts.refusals if refusal.may_end and not refusal.is_product}
    return any(used in accounts.dependent - late for node in late - heads for used in node.all_input_nodes)


_SCALES = frozenset(["mul", "multiply", "add", "sub", "subtract", "rsub", "div", "divide", "true_divide", "truediv"])


def _must_not_follow(root: nn.Module, node: Node, accounts: Accounts, late: set[Node], refused: bool) -> bool:
    """Tell whether a node of the head combines its values with weights, or changes a value that the trunk reads."""
    if node.op == "get_attr":
        return False
    operation = identify(root, node)
    if operation.in_place:
        # Values of the trunk that share memory no longer do so in the head.
        first = first_argument(node)
        if any(user not in late or not (used in late or used is first) for user, used in accounts.later_uses(node)):
            return True
    if refused or operation.name in _SCALES:
        return False
    if node.op == "call_module":
        return any(True for _ in root.get_submodule(str(node.target)).parameters())
    parameters = dict(root.named_parameters())
    return any(used.op == "get_attr" and used.target in parameters for used in node.all_input_nodes)


def _overwritten_after(root: nn.Module, graph: Graph, late: set[Node], accounts: Accounts) -> bool:
    """Tell whether the trunk changes a value in place that the head, which now runs after it, has read before."""
    changed = set[Node]()
    for node in reversed(graph.nodes):
        if node in late:
            if any(accounts.owner.get(used, used) in changed for used in node.all_input_nodes):
                return True
        elif node.op.startswith("call_") and identify(root, node).in_place:
            first = cast(Node, first_argument(node))
            changed.add(accounts.owner.get(first, first))
    return False


def _reads(graph: Graph, late: set[Node], accounts: Accounts) -> tuple[list[Node], set[Node]]:
    """Return the values of the trunk that the head reads, in order, and the constants that it uses."""
    start, constants = set[Node](), set[Node]()
    found = list(late)
    while found:
        for node in found.pop().all_input_nodes:
            if node in accounts.dependent - late:
                start.add(node)
            elif node not in late | constants:
                constants.add(node)
                found.append(node)
    return [node for node in graph.nodes if node in start], constants


def _head_graph(graph: Graph, kept: set[Node], start: list[Node], shapes: list[Shape]) -> Graph:
    head = Graph()
    env: dict[Node, Node] = {}
    logits = head.placeholder("logits")
    if len(start) == 1:
        env[start[0]] = logits
    else:
        first = 0
        for node, shape in zip(start, shapes, strict=True):
            part = head.call_function(torch.narrow, (logits, 1, first, prod(shape)))
            env[node] = head.call_method("reshape", (part, (-1, *shape)))
            first += prod(shape)
    for node in graph.nodes:
        if node in kept:
            env[node] = head.node_copy(node, lambda used: env[used])
            env[node].type = None  # a string annotation in the code would keep the graph from being pickled
    return head


def _joined(graph: Graph, start: list[Node], shapes: list[Shape]) -> Node:
    if len(start) == 1:
        return start[0]
    parts = [graph.call_method("reshape", (node, (-1, prod(shape)))) for node, shape in zip(start, shapes, strict=True)]
    return graph.call_function(torch.cat, (parts, 1))
