"""A graph in a file as a module again: node by node, and only of operations that are allowed.

Each of these is a pure function of tensors and numbers, so that nothing in a file is ever executed.
"""

from __future__ import annotations

import builtins
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch._ops import OpOverload, OpOverloadPacket
from torch.fx import Graph, GraphModule, Interpreter, Node

from torch_shallow.modules.files.container import Damaged
from torch_shallow.modules.files.description import WrittenGraph

CONSTANTS: dict[str, type] = {"dtype": torch.dtype, "memory_format": torch.memory_format, "layout": torch.layout}
"""Constants of torch that are arguments, by what a file calls them."""
_PREFIX = "aten."
# Of sizes, and of results that are tuples.
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    **{f"operator.{f.__name__}": f for f in (operator.getitem, operator.add, operator.sub, operator.mul, operator.neg)},
    **{f"operator.{f.__name__}": f for f in (operator.floordiv, operator.mod)},
    **{f"torch.{f.__name__}": f for f in (torch.sym_max, torch.sym_min)},
}
# What torch.export does not decompose into core operations.
_BESIDES_CORE = frozenset(
    {
        *("aten.linalg_vector_norm.default", "aten.cumprod.default", "aten.logcumsumexp.default", "aten.median.dim"),
        *("aten.kthvalue.default", "aten.erfinv.default", "aten.lgamma.default", "aten.digamma.default"),
    }
)
# These read memory that nothing was written to, or that is not that of their argument alone.
_UNSAFE = frozenset({"aten.empty.memory_format", "aten.empty_strided.default", "aten.as_strided.default"})
_ENDS_A_TEXT = frozenset('"\\')  # torch.fx makes code of a graph, in which such a name would go on as code
_NEWER = "install the version of torch that the network was saved with, or transform the model and save it again"


def function_of(written: WrittenGraph) -> Graph:
    """The operations of a graph as one of torch.fx, of one input.

    Raises:
        Damaged: it is no such graph, or has operations that are not allowed.
    """
    graph = Graph()
    x = graph.placeholder("x")
    device = graph.call_function(builtins.getattr, (x, "device"))
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
                schema = target._schema.arguments if isinstance(target, OpOverload) else ()
                unknown = sorted(kwargs.keys() - {argument.name for argument in schema})
                if unknown:
                    raise Damaged(f"arguments of {name}", f"one with the name {unknown[0]!r}")
                given = [_argument(value, nodes, device) for value in args]
                named = {key: _argument(value, nodes, device) for key, value in kwargs.items()}
                nodes.append(graph.call_function(target, tuple(given), named))
            case _:
                raise Damaged("a graph whose nodes are inputs, tensors and operations", f"{str(told)[:80]!r}")
    if written.output >= len(nodes):
        raise Damaged("a graph whose output is one of its nodes", f"node {written.output} of {len(nodes)}")
    graph.output(nodes[written.output])
    if not device.users:
        graph.erase_node(device)
    return graph


class FromGraph(nn.Module):
    """Runs a graph on attributes of its own, and keeps those that the graph does not use, even where it is copied."""

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self._graph_of_file = graph

    def forward(self, x: Tensor) -> Any:
        """The result of the graph."""
        return Interpreter(self, graph=self._graph_of_file).run(x)


def module_of(written: WrittenGraph, tensors: Mapping[str, Tensor]) -> GraphModule:
    """The module that a graph was made from, with the tensors that are stored.

    Raises:
        Damaged: it is no such graph, has operations that are not allowed, or the tensors do not fit.
    """
    module = GraphModule(nn.Module(), Graph(), "Graph")
    attach(module, written, tensors)
    module.graph = function_of(written)
    return module


def attach(module: nn.Module, written: WrittenGraph, tensors: Mapping[str, Tensor]) -> None:
    """Give a module all stored tensors of a graph, under their names, inside of new modules where these have dots.

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
                made.setdefault(stored, nn.Parameter(tensors[stored], requires_grad=written.parameters[name]))
                place.register_parameter(leaf, made[stored])
            else:
                place.register_buffer(leaf, tensors[stored], persistent=name in written.persistent)
        except (KeyError, AttributeError, TypeError, RuntimeError) as error:
            raise Damaged("a graph whose tensors have names of their own", f"{name!r} ({error})") from error


def _argument(value: Any, nodes: Sequence[Node], device: Node) -> Any:
    """The argument that `graph_export` wrote, of a node that comes after others."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list):
        return [_argument(item, nodes, device) for item in value]
    if isinstance(value, dict) and len(value) == 1:
        ((kind, told),) = value.items()
        if kind == "node" and type(told) is int and 0 <= told < len(nodes):
            return nodes[told]
        if kind == "float" and told in ("inf", "-inf", "nan"):
            return float(told)
        if kind == "device":
            return device
        found = getattr(torch, str(told), None) if kind in CONSTANTS and str(told).isidentifier() else None
        if found is not None and isinstance(found, CONSTANTS[kind]):
            return found
    raise Damaged("a graph whose arguments are numbers and the nodes before", f"{str(value)[:80]!r}")


def name_of(target: object) -> str | None:
    """How a file calls the operation of a node; None if files may not have it."""
    if isinstance(target, OpOverload):
        name = str(target)
        return name if operation(name) is target else None
    return next((name for name, function in _FUNCTIONS.items() if function is target), None)


def operation(name: str) -> Callable[..., Any] | None:
    """The operation of a name; None if there is none that files may have.

    Of ATen, these are the core operations that are functions: that change no argument and draw no random numbers.
    """
    if name in _FUNCTIONS:
        return _FUNCTIONS[name]
    packet_name, _, overload_name = name.removeprefix(_PREFIX).partition(".")
    if not name.startswith(_PREFIX) or not packet_name.isidentifier() or not overload_name.isidentifier():
        return None
    packet = getattr(torch.ops.aten, packet_name, None)
    overload = getattr(packet, overload_name, None) if isinstance(packet, OpOverloadPacket) else None
    if not isinstance(overload, OpOverload) or name in _UNSAFE or overload._schema.is_mutable:
        return None
    if torch.Tag.nondeterministic_seeded in overload.tags:
        return None
    return overload if torch.Tag.core in overload.tags or name in _BESIDES_CORE else None
