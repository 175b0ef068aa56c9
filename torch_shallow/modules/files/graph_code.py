"""Write a module as a graph of operations in a file, and read it back, node by node, with allowed operations only.

Each allowed operation is a pure function of tensors and numbers, so that no code in a file is ever executed.
"""

from __future__ import annotations

import builtins
import math
import operator
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stderr
from io import StringIO
from typing import Any

import torch
from torch import Tensor, nn
from torch._ops import OpOverload, OpOverloadPacket
from torch.export import Dim, ExportedProgram
from torch.fx import Graph, GraphModule, Interpreter, Node

from torch_shallow.modules.files.container import Damaged
from torch_shallow.modules.files.description import WrittenGraph
from torch_shallow.program.precision import InFloat64

CONSTANTS: dict[str, type] = {"dtype": torch.dtype, "memory_format": torch.memory_format, "layout": torch.layout}
"""Constants of torch that can be arguments, by their names in files."""
_PREFIX = "aten."
# Operations on sizes, and on results that are tuples.
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    **{f"operator.{f.__name__}": f for f in (operator.getitem, operator.add, operator.sub, operator.mul, operator.neg)},
    **{f"operator.{f.__name__}": f for f in (operator.floordiv, operator.mod)},
    **{f"torch.{f.__name__}": f for f in (torch.sym_max, torch.sym_min)},
}
# Operations that torch.export does not decompose into core operations.
_BESIDES_CORE = frozenset(
    {
        *("aten.linalg_vector_norm.default", "aten.cumprod.default", "aten.logcumsumexp.default", "aten.median.dim"),
        *("aten.kthvalue.default", "aten.erfinv.default", "aten.lgamma.default", "aten.digamma.default"),
    }
)
# These read uninitialised memory, or memory beyond that of their argument.
_UNSAFE = frozenset({"aten.empty.memory_format", "aten.empty_strided.default", "aten.as_strided.default"})
_ENDS_A_TEXT = frozenset('"\\')  # torch.fx turns a graph into code, in which such a name would continue as code
_NEWER = "install the version of torch that the network was saved with, or transform the model and save it again"


def function_of(written: WrittenGraph) -> Graph:
    """Build the torch.fx graph of a written graph, with one input.

    Raises:
        Damaged: the graph is invalid, or has operations that are not allowed.
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
                    raise Damaged(
                        "a graph whose tensors have printable names without quotes and backslashes", f"{name!r}"
                    )
                nodes.append(graph.get_attr(name))
            case [str(name), list(args), dict(kwargs)]:
                target = operation(name)
                if target is None:
                    raise Damaged("a graph of core operations of ATen", f"{name!r}, which is not allowed", _NEWER)
                schema = target._schema.arguments if isinstance(target, OpOverload) else ()
                unknown = sorted(kwargs.keys() - {argument.name for argument in schema})
                if unknown:
                    raise Damaged(f"arguments of {name}", f"an unknown one named {unknown[0]!r}")
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
    """Run a graph on the module's own attributes, and keep unused ones even when the module is copied."""

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self._graph_of_file = graph

    def forward(self, x: Tensor) -> Any:
        """Return the result of the graph."""
        return Interpreter(self, graph=self._graph_of_file).run(x)


def module_of(written: WrittenGraph, tensors: Mapping[str, Tensor]) -> GraphModule:
    """Build the module that a graph was made from, with the stored tensors.

    Raises:
        Damaged: the graph is invalid, has operations that are not allowed, or does not match the tensors.
    """
    module = GraphModule(nn.Module(), Graph(), "Graph")
    attach(module, written, tensors)
    module.graph = function_of(written)
    return module


def attach(module: nn.Module, written: WrittenGraph, tensors: Mapping[str, Tensor]) -> None:
    """Give a module all stored tensors of a graph under their names, inside new modules where names have dots.

    Raises:
        Damaged: the tensors do not match.
    """
    made: dict[str, nn.Parameter] = {}  # a parameter with several names stays a single one
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
            raise Damaged("a graph whose tensors have distinct names", f"{name!r} ({error})") from error


def _argument(value: Any, nodes: Sequence[Node], device: Node) -> Any:
    """Read an argument that `encode` wrote, which may refer to the nodes before."""
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
    raise Damaged("a graph whose arguments are numbers and earlier nodes", f"{str(value)[:80]!r}")


def name_of(target: object) -> str | None:
    """Return the name in files of a node's operation; None if files may not contain it."""
    if isinstance(target, OpOverload):
        name = str(target)
        return name if operation(name) is target else None
    return next((name for name, function in _FUNCTIONS.items() if function is target), None)


def operation(name: str) -> Callable[..., Any] | None:
    """Return the operation with a name; None if there is none that files may contain.

    Of ATen, these are the core operations that change no argument and draw no random numbers.
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


_TOLERANCE = 1e-9


class NotWritable(Exception):
    """Raised if a module cannot be written as a graph; the message says why."""


def encode(
    module: nn.Module, in_shape: tuple[int, ...], part: str, whole: nn.Module | None = None
) -> tuple[WrittenGraph, dict[str, Tensor]]:
    """Write a module of a batch of inputs, in float64, as a graph, and return its tensors by name.

    Args:
        module: a module in eval mode from one tensor to one tensor; it may work in float64 only.
        in_shape: shape of one input, without the batch.
        part: the part of a network that this is; tensors created by its code are named after it.
        whole: the module whose tensors are kept, if `module` has only some of them.

    Raises:
        NotWritable: `torch.export` cannot trace the module, it has operations that no file may contain, or the written
            graph computes another function.
    """
    program = _export(module, in_shape)
    tensors, parameters, persistent = _state(whole or module)
    inputs = _stored_inputs(program, tensors, part)
    output = _output(program)
    numbers: dict[Node, int] = {}
    needed = _needed(output)
    nodes, wrong = list[list[Any]](), list[str]()
    for node in (node for node in program.graph.nodes if node in needed):
        if node.op == "placeholder":
            nodes.append(["tensor", inputs[node.name]] if node.name in inputs else ["input"])
        elif (name := name_of(node.target)) is None:
            wrong.append(str(node.target))
        else:
            try:
                args = [_as_json(value, numbers.__getitem__) for value in node.args]
                kwargs = {key: _as_json(value, numbers.__getitem__) for key, value in node.kwargs.items()}
            except TypeError as error:
                raise NotWritable(f"{name} has {error}") from error
            nodes.append([name, args, kwargs])
        numbers[node] = len(numbers)
    if wrong:
        raise NotWritable(f"it has operations that no file may contain: {', '.join(sorted(set(wrong)))}")
    slots: dict[str, Any] = {}
    stored = dict[str, Tensor]()
    for name, tensor in tensors.items():
        twin = next((other for other, kept in stored.items() if kept is tensor), None)
        slots[name] = twin or [str(tensor.dtype).removeprefix("torch."), list(tensor.shape)]
        if twin is None:
            stored[name] = tensor
    written = WrittenGraph(nodes, numbers[output], slots, parameters, persistent)
    _compare(module, written, stored, in_shape)
    return written, stored


def _as_json(value: Any, number: Callable[[Node], int]) -> Any:
    """Write an argument as JSON: numbers, texts, None and lists unchanged, anything else as an object with one entry.

    A node becomes its number, and a device becomes that of the input, since a graph runs on one device.

    Raises:
        TypeError: the argument cannot be written.
    """
    if value is None or isinstance(value, bool | str) or type(value) is int:
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else {"float": str(float(value))}
    if isinstance(value, Node):
        return {"node": number(value)}
    if isinstance(value, torch.device):
        return {"device": "of the input"}
    if isinstance(value, list | tuple):
        return [_as_json(item, number) for item in value]
    for kind, cls in CONSTANTS.items():
        if isinstance(value, cls):
            return {kind: str(value).removeprefix("torch.")}
    raise TypeError(f"an argument of type {type(value).__name__}")


def _export(module: nn.Module, in_shape: tuple[int, ...]) -> ExportedProgram:
    from torch.export import default_decompositions, export

    device = next((tensor.device for tensor in (*module.parameters(), *module.buffers())), torch.device("cpu"))
    x = torch.zeros(2, *in_shape, dtype=torch.float64, device=device)
    try:
        # torch.export prints the graph when it fails.
        with torch.no_grad(), InFloat64(), redirect_stderr(StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = export(module, (x,), dynamic_shapes=({0: Dim("batch")},), strict=False)
            return program.run_decompositions({**default_decompositions(), torch.ops.aten.copy.default: _copy})
    except Exception as error:
        line = next(iter(str(error).strip().splitlines()), "")
        raise NotWritable(f"torch.export cannot trace it ({type(error).__name__}: {line[:200]})") from error


def _copy(x: Tensor, source: Tensor, _: bool = False) -> Tensor:
    """Do what `aten.copy` does, which has no derivative."""
    return source.to(x.dtype).expand_as(x).clone()


def _state(module: nn.Module) -> tuple[dict[str, Tensor], dict[str, bool], list[str]]:
    """Return all tensors of a module, which of them are parameters, and which belong to its state."""
    parameters = dict(module.named_parameters(remove_duplicate=False))
    buffers = dict(module.named_buffers(remove_duplicate=False))
    requires = {name: parameter.requires_grad for name, parameter in parameters.items()}
    persistent = [name for name, value in module.state_dict().items() if isinstance(value, Tensor)]
    return {**parameters, **buffers}, requires, persistent


def _stored_inputs(program: ExportedProgram, tensors: dict[str, Tensor], part: str) -> dict[str, str]:
    """Return the tensor of each placeholder of a program, and add tensors that its code creates."""
    signature = program.graph_signature
    found = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    for placeholder, name in signature.inputs_to_lifted_tensor_constants.items():
        found[placeholder] = f"_constant_{len(tensors)}_of_{part}"
        tensors[found[placeholder]] = program.constants[name]
    return found


def _output(program: ExportedProgram) -> Node:
    names = program.graph_signature.user_outputs
    found = [node for node in program.graph.nodes if len(names) == 1 and node.name == names[0]]
    if not found:
        raise NotWritable("its result is not one tensor")
    return found[0]


def _needed(output: Node) -> set[Node]:
    """Return the nodes that a node depends on; all others only check their input."""
    needed, found = {output}, [output]
    while found:
        for node in found.pop().all_input_nodes:
            if node not in needed:
                needed.add(node)
                found.append(node)
    return needed


@torch.no_grad()
def _compare(module: nn.Module, written: WrittenGraph, tensors: dict[str, Tensor], in_shape: tuple[int, ...]) -> None:
    """Run the written graph on batches of other sizes than the exported one, and compare the results."""
    device = next((tensor.device for tensor in tensors.values()), torch.device("cpu"))
    try:
        again = module_of(written, tensors)
    except Damaged as error:
        raise NotWritable(f"no file can contain it: {error}") from error
    generator = torch.Generator().manual_seed(0)
    for rows in (1, 5):
        x = torch.randn(rows, *in_shape, dtype=torch.float64, generator=generator).to(device)
        try:
            with InFloat64():
                found, expected = again(x.clone()), module(x.clone())
        except Exception as error:
            raise NotWritable(f"its graph fails on a batch of {rows} ({error})") from error
        same = found.dtype == expected.dtype and found.shape == expected.shape
        if not same or not torch.allclose(found, expected, rtol=_TOLERANCE, atol=_TOLERANCE, equal_nan=True):
            raise NotWritable(f"its graph gives another result on a batch of {rows}")
