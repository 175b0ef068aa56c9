"""A graph in a file as a module again: node by node, and only of operations that are allowed."""

from __future__ import annotations

import builtins
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.fx import Graph, GraphModule, Interpreter, Node

from torch_shallow.modules.files.damage import Damaged
from torch_shallow.modules.files.graph.arguments import of_json
from torch_shallow.modules.files.graph.operations import argument_names, operation
from torch_shallow.modules.files.graph.written import WrittenGraph

_ENDS_A_TEXT = frozenset('"\\')  # torch.fx makes code of a graph, in which such a name would go on as code
_NEWER = "install the version of torch that the network was saved with, or transform the model and save it again"


def function_of(written: WrittenGraph) -> Graph:
    """The operations of a graph as one of torch.fx, of one input.

    Raises:
        Damaged: it is no such graph, or has operations that are not allowed.
    """
    graph = Graph()
    x = graph.placeholder("x")
    device: list[Node] = []

    def device_of_input() -> Node:
        if not device:
            with graph.inserting_after(x):
                device.append(graph.call_function(builtins.getattr, (x, "device")))
        return device[0]

    nodes: list[Node] = []
    for told in written.nodes:
        match told:
            case ["input"]:
                nodes.append(x)
            case ["tensor", str(name)]:
                written.stored_name(name)
                if _ENDS_A_TEXT & set(name) or not name.isprintable():
                    raise Damaged("a graph whose tensors have names that code can have", f"{name!r}")
                nodes.append(graph.get_attr(name))
            case [str(name), list(args), dict(kwargs)]:
                target = operation(name)
                if target is None:
                    raise Damaged("a graph of core operations of ATen", f"{name!r}, which is not allowed", _NEWER)
                unknown = sorted(kwargs.keys() - argument_names(target))
                if unknown:
                    raise Damaged(f"arguments of {name}", f"one with the name {unknown[0]!r}")
                given = [of_json(value, nodes, device_of_input) for value in args]
                named = {key: of_json(value, nodes, device_of_input) for key, value in kwargs.items()}
                nodes.append(graph.call_function(target, tuple(given), named))
            case _:
                raise Damaged("a graph whose nodes are inputs, tensors and operations", f"{str(told)[:80]!r}")
    if not 0 <= written.output < len(nodes):
        raise Damaged("a graph whose output is one of its nodes", f"node {written.output} of {len(nodes)}")
    graph.output(nodes[written.output])
    return graph


class FromGraph(nn.Module):
    """Runs a graph on attributes of its own, and keeps those that the graph does not use.

    Args:
        graph: the graph.
    """

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self._graph_of_file = graph

    def forward(self, x: Tensor) -> Any:
        """The result of the graph."""
        return Interpreter(self, graph=self._graph_of_file).run(x)


def module_of(graph: Graph, written: WrittenGraph, tensors: Mapping[str, Tensor]) -> GraphModule:
    """The module that a graph was made from.

    Args:
        graph: of `function_of`.
        written: says which tensors there are.
        tensors: those that are stored.

    Raises:
        Damaged: the tensors do not fit.
    """
    module = GraphModule(nn.Module(), Graph(), "Graph")
    attach(module, written, tensors)
    module.graph = graph
    return module


def attach(module: nn.Module, written: WrittenGraph, tensors: Mapping[str, Tensor]) -> None:
    """Give a module all tensors of a graph, under their names, inside of new modules where these have dots.

    Args:
        module: without such tensors.
        written: says which tensors there are.
        tensors: those that are stored.

    Raises:
        Damaged: the tensors do not fit.
    """
    made: dict[str, nn.Parameter] = {}  # one that has several names is still one
    for name in written.tensors:
        *path, leaf = name.split(".")
        place = module
        try:
            for part in path:
                if part not in place._modules:
                    place.add_module(part, nn.Module())
                place = place.get_submodule(part)
            stored = written.stored_name(name)
            if name in written.parameters:
                requires_grad = written.parameters[name] is True
                made.setdefault(stored, nn.Parameter(tensors[stored], requires_grad=requires_grad))
                place.register_parameter(leaf, made[stored])
            else:
                place.register_buffer(leaf, tensors[stored], persistent=name in written.persistent)
        except (KeyError, AttributeError, TypeError, RuntimeError) as error:
            raise Damaged("a graph whose tensors have names of their own", f"{name!r} ({error})") from error
