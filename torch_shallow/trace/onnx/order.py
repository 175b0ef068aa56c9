"""Which operators of a graph an output needs, and in which order they can be carried out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch_shallow.errors import TransformError


def needed(graph: Any, output: str) -> list[Any]:
    """The operators that a value depends on, each after those whose values it uses.

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
        # The last one of the stack is read first: a file that is in order stays as it is.
        stack.extend(sorted(missing, reverse=True))
    return [graph.node[place] for place in found]


def used_names(node: Any) -> Iterator[str]:
    """Names of the values that an operator uses, also within graphs of its own."""
    yield from node.input
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            for inner in graph.node:
                yield from used_names(inner)
            for value in graph.output:
                yield value.name
