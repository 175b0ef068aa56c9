"""What the rewriting of an operation may know of the shapes of its arguments."""

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
    """With these arguments the operation is not piecewise linear, or not a function of each input by itself."""


class Shapes:
    """Shapes of the tensors that the arguments of an operation stand for.

    Args:
        look_up: gives the shape of a proxy's tensor for two inputs, and for three.
        value: gives the tensor that a proxy stands for, which does not depend on the input, for two inputs.
    """

    def __init__(self, look_up: Callable[[Proxy], tuple[Shape, Shape]], value: Callable[[Proxy], Tensor]) -> None:
        self._look_up, self.value = look_up, value

    def num_dims(self, x: Proxy) -> int:
        """Number of dimensions."""
        return len(self._look_up(x)[0])

    def axis(self, x: Proxy, dim: int) -> tuple[int, int]:
        """A dimension as a number that is not negative, and its size.

        Raises:
            NotRewritable: there is no such dimension, or its size grows with the number of inputs.
        """
        two, three = self._look_up(x)
        if not -len(two) <= dim < len(two):
            raise NotRewritable(f"has dim={dim}, for a tensor of {len(two)} dimensions")
        dim %= len(two)
        if two[dim] != three[dim]:
            raise NotRewritable(f"goes along the batch (dimension {dim}), so that the inputs depend on each other")
        return dim, two[dim]


class KnownShapes:
    """Shapes of the tensors in a graph, found by running it when the first is asked for.

    Args:
        root: the module that `graph` was traced from.
        graph: its graph.
        in_shape: shape of one input, if known.
    """

    def __init__(self, root: nn.Module, graph: Graph, in_shape: tuple[int, ...] | None) -> None:
        self._root, self._graph, self._in_shape = root, graph, in_shape
        self._found: dict[Node, tuple[Any, Any]] = {}

    def __call__(self, node: Node) -> tuple[Shape, Shape]:
        """The shape for two inputs, and for three.

        Raises:
            NotRewritable: the graph fails before it comes to the node.
            TransformError: the shape of the input is not known.
        """
        two, three = self._look_up(node)
        return tuple(two.shape), tuple(three.shape)

    @property
    def in_shape(self) -> tuple[int, ...]:
        """Shape of one input. Raises as a call."""
        return self._in_shape or shape_of_first_linear(self._root, self._graph)

    def number(self, node: Node) -> Any:
        """A size, or several, that the model's code asks for; None if the value is a tensor.

        Raises:
            NotRewritable: it depends on the number of inputs, or the graph fails before it comes to the node.
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
        """Say that another node has taken the place of a node."""
        if node in self._found:
            self._found[by] = self._found[node]

    def _look_up(self, node: Node) -> tuple[Any, Any]:
        if node not in self._found:
            in_shape = self.in_shape
            two, three = (self._run(torch.zeros(count, *in_shape)) for count in (2, 3))
            self._found = {found: (two[found], three[found]) for found in two.keys() & three.keys()} | self._found
        if node not in self._found:
            raise NotRewritable("works on a tensor whose shape could not be found; pass example_input")
        return self._found[node]

    def _run(self, x: Tensor) -> dict[Node, Any]:
        """What is known of each value: a tensor without its entries, a number, or a shape."""
        interpreter, found = Interpreter(self._root, graph=self._graph), dict[Node, Any]()
        try:
            with InFloat64(), torch.no_grad():
                for node in self._graph.nodes:
                    value = x if node.op == "placeholder" else interpreter.run_node(node)
                    interpreter.env[node] = value
                    if isinstance(value, Tensor | int | float | Size):
                        found[node] = value.to("meta") if isinstance(value, Tensor) else value
        except Exception:  # its cause is said where the graph is run
            return found
        return found
