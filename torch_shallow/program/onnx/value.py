"""Represent values of an ONNX graph, and write a module from them."""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.fx import Graph, Node, Proxy
from torch.fx.node import map_arg
from torch.fx.proxy import GraphAppendingTracer

BATCHES = (2, 3)
"""Two numbers of inputs; a size that is the same for both does not depend on the number of inputs."""


class Rehearsal:
    """Run every node of a graph when it is written, on tensors without values, for two numbers of inputs.

    Args:
        root: the module that holds the constants and modules of the graph.
    """

    def __init__(self, root: nn.Module) -> None:
        self.root = root
        self.results: dict[Node, tuple[Any, ...]] = {}

    def begin(self, node: Node, shapes: list[tuple[int, ...]], dtype: torch.dtype) -> None:
        """Set the value of a placeholder, given its shapes for the two numbers of inputs."""
        self.results[node] = tuple(torch.empty(shape, dtype=dtype, device="meta") for shape in shapes)

    def run(self, node: Node) -> None:
        """Run a node; its result remains unknown if it cannot run without values."""
        if node.op in ("placeholder", "output") or any(used not in self.results for used in node.all_input_nodes):
            return
        try:
            self.results[node] = tuple(self._result(node, i) for i in range(len(BATCHES)))
        except (RuntimeError, TypeError, ValueError, IndexError, AttributeError, ZeroDivisionError):
            return

    def _result(self, node: Node, which: int) -> Any:
        args: Any
        kwargs: Any
        args, kwargs = map_arg((node.args, node.kwargs), lambda used: self.results[used][which])
        if node.op == "get_attr":
            return getattr(self.root, str(node.target)).detach().to("meta")
        if node.op == "call_module":
            return copy.deepcopy(self.root.get_submodule(str(node.target))).to("meta")(*args, **kwargs)
        if callable(node.target):
            with torch.device("meta"):
                return node.target(*args, **kwargs)
        return getattr(args[0], node.target)(*args[1:], **kwargs)

    def dimensions(self, node: Node) -> tuple[int | None, ...] | None:
        """Return the sizes of a tensor, None for those that depend on the number of inputs; None if unknown."""
        found = self.results.get(node, ())
        if not found or not all(isinstance(value, Tensor) for value in found) or found[0].ndim != found[1].ndim:
            return None
        return tuple(a if a == b else None for a, b in zip(found[0].shape, found[1].shape, strict=True))

    def kind(self, node: Node) -> torch.dtype | type | None:
        """Return the type of the entries of a tensor, or of a number; None if nothing is known."""
        found = self.results.get(node, (None,))[0]
        return found.dtype if isinstance(found, Tensor) else type(found) if isinstance(found, int | float) else None


Dimensions = tuple[int | None, ...] | None
"""Sizes of a value, None for an unknown size; None if nothing is known."""

FLOATS = {1: torch.float32, 10: torch.float16, 11: torch.float64, 16: torch.bfloat16}
"""Floating-point types by their numbers in ONNX."""

INTEGERS = {2: torch.uint8, 3: torch.int8, 5: torch.int16, 6: torch.int32, 7: torch.int64}
"""Integer types by their numbers in ONNX."""

BOOL = 9
"""The number of the boolean type in ONNX."""

TYPES = {**FLOATS, **INTEGERS, BOOL: torch.bool}


class NotRead(Exception):
    """Raised if an operator is not supported; the reason completes a sentence that begins with the operator."""


class ModuleWriter(GraphAppendingTracer):
    """Write the graph of a module.

    Args:
        known: sizes of values by their names in the file.

    Attributes:
        root: the module that holds the constants and modules of the graph.
        known: sizes of values by their names in the file.
        batch: the number of inputs for which the file is made; None if it is for any number.
        place: name and type of the operator that is being read.
        rehearsal: the shapes of what has been written.
    """

    def __init__(self, known: dict[str, Dimensions]) -> None:
        super().__init__(Graph())
        self.root = nn.Module()
        self.known = known
        self.batch: int | None = None
        self.place = ("", "")
        self.rehearsal = Rehearsal(self.root)

    def create_node(self, *args: Any, **kwargs: Any) -> Node:
        """Create a node that knows the operator to which it belongs, and its shape if possible."""
        node = super().create_node(*args, **kwargs)
        node.meta["nn_module_stack"] = {self.place[0]: self.place}
        self.rehearsal.run(node)
        return node

    def constant(self, name: str, array: np.ndarray) -> Any:
        """Return a proxy of a tensor that the module keeps as a buffer."""
        if array.dtype.kind not in "biufc":
            raise NotRead(f"uses text ({name!r}), for which PyTorch has no tensors; choose another value as output=")
        name = self.free(name)
        self.root.register_buffer(name, torch.from_numpy(np.array(array)))
        return self.create_proxy("get_attr", name, (), {})

    def learn(self, constant: Proxy) -> None:
        """Turn a constant into a parameter of the module."""
        name = str(constant.node.target)
        tensor = self.root._buffers.get(name)
        if tensor is not None and tensor.is_floating_point():
            delattr(self.root, name)
            self.root.register_parameter(name, nn.Parameter(tensor))

    def call(self, module: nn.Module, *args: Any) -> Proxy:
        """Call a module on some values, under the name of the operator that is being read."""
        name = self.free(self.place[0])
        self.root.add_module(name, module)
        return self.create_proxy("call_module", name, args, {})

    def apply(self, function: Any, *args: Any) -> Proxy:
        """Record a call of a function that Python would execute at once, such as `int`."""
        return self.create_proxy("call_function", function, args, {})

    def free(self, name: str) -> str:
        """Return an unused attribute name of the root, derived from the name of a value or an operator."""
        base = name = identifier(name) or "constant"
        count = 0
        while hasattr(self.root, name):
            count += 1
            name = f"{base}_{count}"
        return name


def identifier(name: str) -> str:
    """Convert a name to a Python identifier, which may be empty."""
    name = re.sub(r"\W+", "_", name).strip("_")
    return f"_{name}" if name[:1].isdigit() else name


@dataclass
class Value:
    """Hold a value of an ONNX graph.

    Attributes:
        writer: the writer of the graph.
        name: name of the value in the file.
        content: a proxy if the value depends on the input, and otherwise its constant value. An array of objects
            contains numbers and sizes of tensors, which are known at run time. A sequence is a list of values.
    """

    writer: ModuleWriter
    name: str
    content: Proxy | np.ndarray | list[Value]
    _constant: Proxy | None = field(default=None, repr=False)

    @property
    def is_constant(self) -> bool:
        """Whether the value is an array."""
        return isinstance(self.content, np.ndarray)

    @property
    def tensor(self) -> Any:
        """A proxy of the value as a tensor, typed as the functions of PyTorch require."""
        if isinstance(self.content, list):
            raise NotRead(f"needs a tensor, but its input {self.name!r} is a sequence")
        if isinstance(self.content, Proxy):
            return self.content
        if self._constant is None:
            array = settled(self.content)
            if array.dtype == object:
                raise NotRead("computes with the number of inputs")
            self._constant = self.writer.constant(self.name, array)
        return self._constant

    @property
    def operand(self) -> Any:
        """The value as a tensor, or the number of inputs (or a number computed from it)."""
        if isinstance(self.content, np.ndarray) and self.content.size == 1:
            only = self.content.reshape(-1)[0]
            return only if isinstance(only, Proxy) else self.tensor
        return self.tensor

    @property
    def weight(self) -> Any:
        """A proxy of the value as a tensor, which becomes a parameter of the module if it is constant."""
        found = self.tensor
        if self.is_constant:
            self.writer.learn(found)
        return found

    @property
    def array(self) -> np.ndarray:
        """The value as an array; refused if it depends on the input."""
        if not isinstance(self.content, np.ndarray):
            raise NotRead(f"needs a constant as its input {self.name!r}, which depends on the input of the network")
        return self.content

    @property
    def parts(self) -> list[Value]:
        """The values of a sequence."""
        if not isinstance(self.content, list):
            raise NotRead(f"needs a sequence, but its input {self.name!r} is a tensor")
        return self.content

    @property
    def number(self) -> Any:
        """The only entry of a constant, as a Python number."""
        if self.array.size != 1:
            raise NotRead(f"needs one number as its input {self.name!r}, which has shape {self.array.shape}")
        return self.array.reshape(-1).tolist()[0]

    @property
    def sizes(self) -> list[Any]:
        """The value as a list of integers and sizes."""
        return [size if isinstance(size, Proxy) else int(size) for size in self.array.reshape(-1)]

    @property
    def dimensions(self) -> tuple[int | None, ...]:
        """Sizes of its dimensions; None for a size that is unknown or depends on the number of inputs."""
        if isinstance(self.content, np.ndarray):
            return self.content.shape
        found = self.writer.rehearsal.dimensions(self.tensor.node) or self.writer.known.get(self.name)
        if found is None:
            raise NotRead(f"needs the number of dimensions of {self.name!r}, which the file does not give")
        return found

    @property
    def kind(self) -> torch.dtype | type | None:
        """Type of its entries; None if it is not known."""
        if isinstance(self.content, np.ndarray):
            array = settled(self.content)
            return int if array.dtype == object else torch.from_numpy(np.zeros(0, array.dtype)).dtype
        return self.writer.rehearsal.kind(self.tensor.node)

    @property
    def is_integer(self) -> bool:
        """Whether its entries are known to be integers."""
        return self.kind is int or self.kind in INTEGERS.values()

    @property
    def rank(self) -> int:
        """Number of dimensions."""
        return len(self.dimensions)

    def axis(self, axis: int) -> int:
        """Return a dimension, counted from the first."""
        if not -self.rank <= axis < max(self.rank, 1):
            raise NotRead(f"uses dimension {axis} of {self.name!r}, which has {self.rank}")
        return axis % max(self.rank, 1)

    def size(self, axis: int) -> int:
        """Return the size of one dimension."""
        found = self.dimensions[self.axis(axis)]
        if found is None:
            raise NotRead(
                f"needs the size of dimension {axis} of {self.name!r}, which the file does not give, or which is the "
                "number of inputs"
            )
        return found

    def named(self, content: Any) -> Value:
        """Return another value with the same name."""
        return Value(self.writer, self.name, content)


def settled(array: np.ndarray) -> np.ndarray:
    """Convert an array of objects to an array of numbers, if all of its entries are numbers."""
    if array.dtype != object or any(isinstance(entry, Proxy) for entry in array.reshape(-1)):
        return array
    return np.array(array.reshape(-1).tolist() or np.zeros(0, np.int64)).reshape(array.shape)


def constant_or(value: Value | None, default: Any) -> Any:
    """Return the array of an optional input, or the default."""
    return default if value is None else value.array


def axes_or_all(axes: Value | None, rank: int) -> tuple[int, ...]:
    """Return the dimensions that an input names, counted from the first; all if it is omitted."""
    return tuple(range(rank)) if axes is None else tuple(int(axis) % rank for axis in axes.array.reshape(-1))
