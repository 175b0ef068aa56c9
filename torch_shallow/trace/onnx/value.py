"""Values of an ONNX graph, and the module that is written from them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.fx import Graph, Node, Proxy
from torch.fx.proxy import GraphAppendingTracer

Dimensions = tuple[int | None, ...] | None
"""Sizes of a value, None for one that is not known; None if nothing is known of it."""


FLOATS = {1: torch.float32, 10: torch.float16, 11: torch.float64}
"""Floating-point types by their numbers in ONNX."""


class NotRead(Exception):
    """Why an operator is not read, as the end of a sentence that begins with it."""


class Writer(GraphAppendingTracer):
    """Writes the graph of a module.

    Args:
        known: sizes of values by their names in the file.

    Attributes:
        root: keeps the constants and modules of the graph.
        known: as given.
        batch: the number of inputs that the file is made for; None if for any.
        place: name and type of the operator that is being read.
    """

    def __init__(self, known: dict[str, Dimensions]) -> None:
        super().__init__(Graph())
        self.root = nn.Module()
        self.known = known
        self.batch: int | None = None
        self.place = ("", "")

    def create_node(self, *args: Any, **kwargs: Any) -> Node:
        """A node that knows the operator it is a part of."""
        node = super().create_node(*args, **kwargs)
        node.meta["nn_module_stack"] = {self.place[0]: self.place}
        return node

    def constant(self, name: str, array: np.ndarray, is_weight: bool) -> Any:
        """A proxy of a tensor that the module keeps."""
        name, tensor = self.free(name), torch.from_numpy(np.array(array))
        if is_weight and tensor.is_floating_point():
            self.root.register_parameter(name, nn.Parameter(tensor))
        else:
            self.root.register_buffer(name, tensor)
        return self.create_proxy("get_attr", name, (), {})

    def call(self, module: nn.Module, x: Proxy) -> Proxy:
        """What a module makes of a value; it is called as the operator that is being read."""
        name = self.free(self.place[0])
        self.root.add_module(name, module)
        return self.create_proxy("call_module", name, (x,), {})

    def free(self, name: str) -> str:
        """An attribute of the root that is not taken, by the name of a value or an operator."""
        base = name = identifier(name) or "constant"
        count = 0
        while hasattr(self.root, name):
            count += 1
            name = f"{base}_{count}"
        return name


def identifier(name: str) -> str:
    """A name as Python has them; may be empty."""
    name = re.sub(r"\W+", "_", name).strip("_")
    return f"_{name}" if name[:1].isdigit() else name


@dataclass
class Value:
    """A value of an ONNX graph.

    Attributes:
        writer: what writes the graph.
        name: of the value in the file.
        content: a proxy if it depends on the input; else its constant value. An array of objects has integers and
            sizes of tensors, which are known when the module runs.
        is_weight: whether it is stored in the file as such.
    """

    writer: Writer
    name: str
    content: Proxy | np.ndarray
    is_weight: bool = False

    @property
    def tensor(self) -> Any:
        """A proxy of the value as a tensor; typed as the functions of PyTorch want it."""
        if isinstance(self.content, np.ndarray):
            if self.content.dtype == object:
                raise NotRead("computes with the number of inputs")
            self.content = self.writer.constant(self.name, self.content, self.is_weight)
        return self.content

    @property
    def array(self) -> np.ndarray:
        """The value as an array; refused if it depends on the input."""
        if isinstance(self.content, Proxy):
            raise NotRead(f"needs a constant as its input {self.name!r}")
        return self.content

    @property
    def sizes(self) -> list[Any]:
        """The value as a list of integers and sizes."""
        return [size if isinstance(size, Proxy) else int(size) for size in self.array.reshape(-1)]

    @property
    def dimensions(self) -> tuple[int | None, ...]:
        """Sizes of its dimensions."""
        if isinstance(self.content, np.ndarray):
            return self.content.shape
        found = self.writer.known.get(self.name)
        if found is None:
            raise NotRead(f"needs to know the number of dimensions of {self.name!r}, which the file does not say")
        return found

    @property
    def rank(self) -> int:
        """Number of dimensions."""
        return len(self.dimensions)

    def size(self, axis: int) -> int:
        """Size of one dimension."""
        found = self.dimensions[axis]
        if found is None:
            raise NotRead(f"needs to know the size of dimension {axis} of {self.name!r}, which the file does not say")
        return found


def constant_or(value: Value | None, default: Any) -> Any:
    """The array of an input that may be left out."""
    return default if value is None else value.array


def axes_or_all(axes: Value | None, rank: int) -> tuple[int, ...]:
    """Dimensions that an input names, counted from the first; all if it is left out."""
    return tuple(range(rank)) if axes is None else tuple(int(axis) % rank for axis in axes.array.reshape(-1))
