"""Represent a model as a graph of affine nodes and ReLUs that runs with any rule for its ReLUs."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from math import prod
from operator import attrgetter
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Size, Tensor, nn
from torch.fx import Graph, Node
from torch.fx.node import map_arg

from torch_shallow.errors import TransformError
from torch_shallow.program.precision import InFloat64
from torch_shallow.program.rewriting.rewrite import STAGE


@dataclass(frozen=True)
class Layout:
    """Describe how the neurons of a stage are arranged in the tensor that enters its ReLU.

    Attributes:
        name: name of the stage.
        shape: shape of the tensor for one input.
        axis: dimension that holds the batch; for n inputs it is n times as long, one input after the other.
    """

    name: str
    shape: tuple[int, ...]
    axis: int

    @property
    def num_neurons(self) -> int:
        """Number of neurons."""
        return prod(self.shape)

    def rows(self, z: Tensor) -> Float[Tensor, "points neurons"]:
        """Return the tensor as one row for each input."""
        inner = self.shape[self.axis]
        if self.axis == 0 and inner == 1:
            return z.reshape(len(z), self.num_neurons)
        split = (*z.shape[: self.axis], z.shape[self.axis] // max(inner, 1), inner, *z.shape[self.axis + 1 :])
        return z.reshape(split).movedim(self.axis, 0).flatten(1)

    def tensor(self, rows: Float[Tensor, "points neurons"]) -> Tensor:
        """Return the tensor with the given rows."""
        points = len(rows)
        if self.axis == 0 and self.shape[0] == 1:
            return rows.reshape(points, *self.shape[1:])
        shape = (*self.shape[: self.axis], points * self.shape[self.axis], *self.shape[self.axis + 1 :])
        return rows.reshape(points, *self.shape).movedim(0, self.axis).reshape(shape)


@dataclass(frozen=True)
class TracedModel:
    """Hold a model as a graph of affine nodes and ReLUs.

    Attributes:
        root: a copy of the model in float64, with the submodules and attributes that the graph uses.
        graph: graph of affine nodes and ReLUs, made by `trace_copy`; its output is the trunk's.
        in_shape: shape of one input.
        head: what follows the last piecewise-linear node: a module of a batch of the trunk's outputs; None if there is
            nothing.
    """

    root: nn.Module
    graph: Graph
    in_shape: tuple[int, ...]
    head: nn.Module | None = None

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return next(chain(self.root.parameters(), self.root.buffers()), torch.empty(0)).device

    @cached_property
    def _seen(self) -> _Seen:
        """What runs with two and three inputs show."""
        seen: list[dict[Node, Size]] = []
        outputs, precision = [], InFloat64()
        for count in (2, 3):
            shapes: dict[Node, Size] = {}

            def keep(node: Node, z: Tensor, shapes: dict[Node, Size] = shapes) -> Tensor:
                shapes[node] = z.shape
                return z.relu()

            x = torch.zeros(count, *self.in_shape, dtype=torch.float64, device=self.device)
            outputs.append(self._run(x, keep, None, precision).shape)
            seen.append(shapes)
        two, three = outputs
        if not two or two[0] != 2 or three != (3, *two[1:]):
            raise TransformError(
                "model: expected the batch as the first dimension of its output, as in its input, found shape "
                f"{tuple(two)} for 2 inputs, and {tuple(three)} for 3; move the batch to the front."
            )
        if not Size(two[1:]).numel():
            raise TransformError(f"model: expected an output with entries, found shape {tuple(two)} for 2 inputs.")
        layouts = (_layout(node.meta[STAGE], shape, seen[1][node]) for node, shape in seen[0].items())
        return _Seen(tuple(layouts), tuple(two[1:]), precision.has_converted)

    @property
    def layouts(self) -> tuple[Layout, ...]:
        """The stages, in the order in which the graph runs them.

        Raises:
            TransformError: the model does not run, or its batch dimension cannot be identified.
        """
        return self._seen.layouts

    @cached_property
    def is_chain(self) -> bool:
        """Whether nothing that depends on the input is read behind the next ReLU, but through that one."""
        depends, place = {node for node in self.graph.nodes if node.op == "placeholder"}, {}
        for number, node in enumerate(self.graph.nodes):
            place[node] = number
            if depends.intersection(node.all_input_nodes):
                depends.add(node)
        relus = [place[node] for node in self.graph.nodes if STAGE in node.meta]
        ends = [place[node] if STAGE not in node.meta else place[node] + 1 for node in self.graph.nodes]
        following = [next((relu for relu in relus if relu >= end), len(place)) for end in ends]
        return all(place[user] <= following[place[node]] for node in depends for user in node.users)

    @property
    def out_shape(self) -> tuple[int, ...]:
        """Shape of one output of the trunk.

        Raises:
            TransformError: the model does not run, or its batch dimension cannot be identified.
        """
        return self._seen.out_shape

    def run(
        self,
        x: Float[Tensor, "points *in_shape"],
        at_relu: Callable[[Node, Tensor], Tensor],
        at_value: Callable[[Any], Any] | None = None,
    ) -> Tensor:
        """Compute the output of the trunk, in float64, with `at_relu` for its ReLUs.

        Args:
            x: a batch of inputs, float64.
            at_relu: function that returns the result of a ReLU, of the same shape, given its node and its input. ReLUs
                are called in the order of `layouts`.
            at_value: function that replaces the value of every node; nothing is replaced if None.

        Raises:
            TransformError: the model fails on such a batch, or its output is not a floating-point tensor.
        """
        return self._run(x, at_relu, at_value, InFloat64() if self._seen.converts else nullcontext())

    def _run(
        self,
        x: Float[Tensor, "points *in_shape"],
        at_relu: Callable[[Node, Tensor], Tensor],
        at_value: Callable[[Any], Any] | None,
        precision: AbstractContextManager[object],
    ) -> Tensor:
        try:
            with precision:
                y = _visit(self.root, self.graph, x, at_relu, at_value)
        except TransformError:
            raise
        except Exception as error:
            raise TransformError(
                f"model: it fails on a batch of {x.shape[0]} inputs of shape {tuple(x.shape[1:])}: {error}. Check the "
                "shape of example_input (its first dimension is the batch), and that the model accepts batches of any "
                "size."
            ) from error
        if not isinstance(y, Tensor) or not y.is_floating_point():
            found = y.dtype if isinstance(y, Tensor) else type(y).__name__
            raise TransformError(f"model: expected one floating-point tensor as its output, found {found}.")
        return y


class _Seen(NamedTuple):
    """Hold what runs of a model show.

    Attributes:
        layouts: the stages.
        out_shape: shape of one output.
        converts: whether its code names lower precisions, so that it must run inside `InFloat64`.
    """

    layouts: tuple[Layout, ...]
    out_shape: tuple[int, ...]
    converts: bool


def _visit(
    root: nn.Module,
    graph: Graph,
    x: Tensor,
    at_relu: Callable[[Node, Tensor], Tensor],
    at_value: Callable[[Any], Any] | None,
) -> Any:
    """Run a graph with `at_relu` in place of its ReLUs.

    It does what `torch.fx.Interpreter` does, in a fraction of the time: programs are read by a few runs of few rows.
    """
    last_uses: dict[Node, list[Node]] = {}
    used: set[Node] = set()
    for node in reversed(graph.nodes):
        last_uses[node] = [source for source in node.all_input_nodes if source not in used]
        used.update(last_uses[node])
    values: dict[Node, Any] = {}
    for node in graph.nodes:
        args, kwargs = map_arg(node.args, values.__getitem__), map_arg(node.kwargs, values.__getitem__)
        if STAGE in node.meta:
            value = at_relu(node, args[0])
        elif node.op == "call_function":
            value = node.target(*args, **kwargs)
        elif node.op == "call_method":
            value = getattr(args[0], node.target)(*args[1:], **kwargs)
        elif node.op == "call_module":
            value = root.get_submodule(node.target)(*args, **kwargs)
        elif node.op == "get_attr":
            value = attrgetter(node.target)(root)
        else:
            value = x if node.op == "placeholder" else args[0]
        values[node] = value if at_value is None else at_value(value)
        del args, kwargs, value
        for source in last_uses[node]:
            del values[source]
    return values[node]


def _layout(name: str, two: Size, three: Size) -> Layout:
    """Derive the layout of a stage from the shapes that enter its ReLU for two and for three inputs."""
    axes = [axis for axis, (a, b) in enumerate(zip(two, three, strict=False)) if a != b]
    if len(two) != len(three) or len(axes) != 1 or two[axes[0]] * 3 != three[axes[0]] * 2:
        raise TransformError(
            f"model: expected one batch dimension in the input of {name!r}, found shape {tuple(two)} for 2 inputs, and "
            f"{tuple(three)} for 3; keep the batch in a separate dimension."
        )
    axis = axes[0]
    return Layout(name, (*two[:axis], two[axis] // 2, *two[axis + 1 :]), axis)
