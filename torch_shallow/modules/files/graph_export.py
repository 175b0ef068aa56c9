"""A module as a graph of operations that can be written down."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from contextlib import redirect_stderr
from io import StringIO
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.fx import Node

from torch_shallow.modules.files.container import Damaged
from torch_shallow.modules.files.description import WrittenGraph
from torch_shallow.modules.files.graph_code import CONSTANTS, module_of, name_of
from torch_shallow.program.precision import InFloat64

_TOLERANCE = 1e-9


class NotWritable(Exception):
    """A module cannot be written as a graph, and why."""


def encode(
    module: nn.Module, in_shape: tuple[int, ...], part: str, whole: nn.Module | None = None
) -> tuple[WrittenGraph, dict[str, Tensor]]:
    """A module of a batch of inputs, in float64, as a graph, and its tensors by name.

    Args:
        module: in eval mode, of one tensor and with one tensor as its result; it may have float64 parts only.
        in_shape: shape of one input, without the batch.
        part: which part of a network it is: tensors that its code makes are named after it.
        whole: the module whose tensors are kept, if the other has only some of them.

    Raises:
        NotWritable: `torch.export` cannot follow it, it has operations that no file may have, or what was written is
            another function.
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
        raise NotWritable(f"it has operations that no file may have: {', '.join(sorted(set(wrong)))}")
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
    """An argument as JSON: numbers, texts, None and lists as they are, anything else as an object of one entry.

    A node becomes its number, and a device that of the input, since all of a graph runs on one.

    Raises:
        TypeError: it cannot be written.
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
        # torch.export prints the graph where it stops.
        with torch.no_grad(), InFloat64(), redirect_stderr(StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = export(module, (x,), dynamic_shapes=({0: Dim("batch")},), strict=False)
            return program.run_decompositions({**default_decompositions(), torch.ops.aten.copy.default: _copy})
    except Exception as error:
        line = next(iter(str(error).strip().splitlines()), "")
        raise NotWritable(f"torch.export cannot follow it ({type(error).__name__}: {line[:200]})") from error


def _copy(x: Tensor, source: Tensor, _: bool = False) -> Tensor:
    """What `aten.copy` does, which has no derivative."""
    return source.to(x.dtype).expand_as(x).clone()


def _state(module: nn.Module) -> tuple[dict[str, Tensor], dict[str, bool], list[str]]:
    """All tensors of a module, which of them are parameters, and which belong to its state."""
    parameters = dict(module.named_parameters(remove_duplicate=False))
    buffers = dict(module.named_buffers(remove_duplicate=False))
    requires = {name: parameter.requires_grad for name, parameter in parameters.items()}
    persistent = [name for name, value in module.state_dict().items() if isinstance(value, Tensor)]
    return {**parameters, **buffers}, requires, persistent


def _stored_inputs(program: ExportedProgram, tensors: dict[str, Tensor], part: str) -> dict[str, str]:
    """The tensor for which each placeholder of a program stands; tensors that its code makes are added."""
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
    """The nodes that a node depends on: others only check their input."""
    needed, found = {output}, [output]
    while found:
        for node in found.pop().all_input_nodes:
            if node not in needed:
                needed.add(node)
                found.append(node)
    return needed


@torch.no_grad()
def _compare(module: nn.Module, written: WrittenGraph, tensors: dict[str, Tensor], in_shape: tuple[int, ...]) -> None:
    """Run what was written on batches of other sizes than that which was exported."""
    device = next((tensor.device for tensor in tensors.values()), torch.device("cpu"))
    try:
        again = module_of(written, tensors)
    except Damaged as error:
        raise NotWritable(f"no file can have it: {error}") from error
    generator = torch.Generator().manual_seed(0)
    for rows in (1, 5):
        x = torch.randn(rows, *in_shape, dtype=torch.float64, generator=generator).to(device)
        try:
            with InFloat64():
                found, expected = again(x.clone()), module(x.clone())
        except Exception as error:
            raise NotWritable(f"as a graph it fails on a batch of {rows} ({error})") from error
        same = found.dtype == expected.dtype and found.shape == expected.shape
        if not same or not torch.allclose(found, expected, rtol=_TOLERANCE, atol=_TOLERANCE, equal_nan=True):
            raise NotWritable(f"as a graph it gives something else on a batch of {rows}")
