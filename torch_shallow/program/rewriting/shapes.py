"""Provide the shapes of arguments to the rewriting of operations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Size, Tensor, nn
from torch.fx import Graph, Interpreter, Node, Proxy

from torch_shallow.program.graph.symbolic import shape_of_first_linear
from torch_shallow.program.precision import InFloat64

Shape = tuple[int, ...]


class NotRewritable(Exception):
    """Raised if an operation, with these arguments, is not piecewise linear or does not treat each input separately."""


class Shapes:
    """Provide the shapes of the tensors that the arguments of an operation stand for.

    Args:
        look_up: function that returns the shape of a proxy's tensor for two inputs, and for three.
        value: function that returns the tensor of a proxy that does not depend on the input, for two inputs.
    """

    def __init__(self, look_up: Callable[[Proxy], tuple[Shape, Shape]], value: Callable[[Proxy], Tensor]) -> None:
        self._look_up, self.value = look_up, value

    def num_dims(self, x: Proxy) -> int:
        """Return the number of dimensions."""
        return len(self._look_up(x)[0])

    def axis(self, x: Proxy, dim: int) -> tuple[int, int]:
        """Return a dimension as a non-negative number, and its size.

        Raises:
            NotRewritable: there is no such dimension, or its size grows with the number of inputs.
        """
        two, three = self._look_up(x)
        if not -len(two) <= dim < len(two):
            raise NotRewritable(f"has dim={dim}, for a tensor with {len(two)} dimensions")
        dim %= len(two)
        if two[dim] != three[dim]:
            raise NotRewritable(f"acts along the batch (dimension {dim}), so that the inputs depend on each other")
        return dim, two[dim]


class KnownShapes:
    """Provide the shapes of the tensors in a graph, found by running it when the first one is requested.

    Args:
        root: the module from which `graph` was traced.
        graph: the graph.
        in_shape: shape of one input, if known.
    """

    def __init__(self, root: nn.Module, graph: Graph, in_shape: tuple[int, ...] | None) -> None:
        self._root, self._graph, self._in_shape = root, graph, in_shape
        self._found: dict[Node, tuple[Any, Any]] = {}

    def __call__(self, node: Node) -> tuple[Shape, Shape]:
        """Return the shape for two inputs, and for three.

        Raises:
            NotRewritable: the graph fails before it reaches the node.
            TransformError: the shape of the input is not known.
        """
        two, three = self._look_up(node)
        return tuple(two.shape), tuple(three.shape)

    @property
    def in_shape(self) -> tuple[int, ...]:
        """Shape of one input.

        Raises:
            TransformError: the shape of the input is not known.
        """
        return self._in_shape or shape_of_first_linear(self._root, self._graph)

    def number(self, node: Node) -> Any:
        """Return a size, or several, that the model's code reads; None if the value is a tensor.

        Raises:
            NotRewritable: it depends on the number of inputs, or the graph fails before it reaches the node.
            TransformError: the shape of the input is not known.
        """
        two, three = self._look_up(node)
        if isinstance(two, Tensor):
            return None
        if two != three:
            raise NotRewritable(
                f"depends on the number of inputs: it is called with {node} = {two} for 2, {three} for 3"
            )
        return two

    def replace(self, node: Node, by: Node) -> None:
        """Record that another node has replaced a node."""
        if node in self._found:
            self._found[by] = self._found[node]

    def _look_up(self, node: Node) -> tuple[Any, Any]:
        if node not in self._found:
            in_shape = self.in_shape
            two, three = (self._run(torch.zeros(count, *in_shape)) for count in (2, 3))
            self._found = {found: (two[found], three[found]) for found in two.keys() & three.keys()} | self._found
        if node not in self._found:
            raise NotRewritable("works on a tensor whose shape could not be determined; pass example_input")
        return self._found[node]

    def _run(self, x: Tensor) -> dict[Node, Any]:
        """Return what is known of each value: a tensor without its entries, a number, or a shape."""
        interpreter, found = Interpreter(self._root, graph=self._graph), dict[Node, Any]()
        try:
            with InFloat64(), torch.no_grad():
                for node in self._graph.nodes:
                    value = x if node.op == "placeholder" else interpreter.run_node(node)
                    interpreter.env[node] = value
                    if isinstance(value, Tensor | int | float | Size):
                        found[node] = value.to("meta") if isinstance(value, Tensor) else value
        except Exception:  # its cause is reported where the graph runs
            return found
        return found
