"""The affine segments of a graph, read off by linearity with the model's own code."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Size, Tensor, nn
from torch.fx import Graph, Interpreter, Node

from torch_shallow.errors import TransformError
from torch_shallow.trace.precision import InFloat64
from torch_shallow.trace.program import ReLUProgram, Stage
from torch_shallow.trace.tracer import STAGE


def read_program(root: nn.Module, graph: Graph, in_shape: tuple[int, ...], scale: float = 2.0**200) -> ReLUProgram:
    """The program that a graph computes.

    A first run, on two inputs, counts the ReLUs. The second reads the weights, on a batch of one row that is 0 and one
    row for each source (entry of the input or neuron), which is `scale` in that source and else 0. What enters a ReLU
    has its bias in the first row, and its weights times `scale`, on top of the bias, in the others. What leaves the
    ReLU is again 0 but for `scale` in the rows of its own neurons. The scale is so large that a bias is lost in the
    rounding next to a weight, so weights come out exactly as the layers store them.

    Args:
        root: module with the graph's submodules and attributes, in float64.
        graph: affine nodes and ReLUs, as `trace_graph` makes it.
        in_shape: shape of one input.
        scale: a power of two; a weight below its reciprocal (times the bias, if that is above 1) reads as 0.

    Raises:
        TransformError: the graph cannot run on such inputs, or its output has no batch dimension or is not finite.
    """
    device = next(chain(root.parameters(), root.buffers()), torch.empty(0)).device
    with InFloat64(), torch.no_grad():
        counted: dict[Node, Size] = {}

        def count(node: Node, z: Tensor) -> Tensor:
            counted[node] = z.shape
            return z.relu()

        output = _run(root, graph, count, torch.zeros(2, *in_shape, dtype=torch.float64, device=device))
        num_neurons = sum(shape.numel() // 2 for shape in counted.values())
        reader = _Reader(Size(in_shape).numel(), num_neurons, counted, scale, device)
        x = reader.basis(Size((reader.num_rows, *in_shape)))
        y = _run(root, graph, reader.at_relu, x)
        if y.shape[:1] != (reader.num_rows,) or output.shape != (2, *y.shape[1:]):
            raise TransformError(
                f"model: the first dimension of its output must be the batch, as in its input; found output of shape "
                f"{tuple(output.shape)} for 2 inputs, and {tuple(y.shape)} for {reader.num_rows}."
            )
        weight, bias = reader.affine(y.reshape(reader.num_rows, -1), "output")
    return ReLUProgram(in_shape, tuple(y.shape[1:]), tuple(reader.stages), weight, bias)


class _Visitor(Interpreter):
    """Runs a graph, except for its ReLUs: `at_relu` makes their result from their input."""

    def __init__(self, root: nn.Module, graph: Graph, at_relu: Callable[[Node, Tensor], Tensor]) -> None:
        super().__init__(root, graph=graph)
        self.extra_traceback = False
        self.at_relu = at_relu

    def run_node(self, n: Node) -> Any:
        """The value of a node."""
        if STAGE in n.meta:
            (z,), _ = self.fetch_args_kwargs_from_env(n)
            h = self.at_relu(n, z)
            return z.copy_(h) if n.target is torch.relu_ else h
        return super().run_node(n)


def _run(root: nn.Module, graph: Graph, at_relu: Callable[[Node, Tensor], Tensor], x: Tensor) -> Tensor:
    try:
        y = _Visitor(root, graph, at_relu).run(x)
    except TransformError:
        raise
    except Exception as error:
        raise TransformError(
            f"model: it fails on a batch of {x.shape[0]} inputs of shape {tuple(x.shape[1:])}: {error}. Check the "
            "shape of example_input (its first dimension is the batch), and that the model takes batches of any size."
        ) from error
    if not isinstance(y, Tensor) or not y.is_floating_point():
        found = y.dtype if isinstance(y, Tensor) else type(y).__name__
        raise TransformError(f"model: expected one floating-point tensor as its output, found {found}.")
    return y


class _Reader:
    """Reads the stages, one after the other."""

    def __init__(
        self, num_inputs: int, num_neurons: int, counted: dict[Node, Size], scale: float, device: torch.device
    ) -> None:
        # At least one row more than in the counting run, so that the batch is the dimension that differs.
        self.num_rows = max(1 + num_inputs + num_neurons, 3)
        self.num_known = 0  # sources that have got their rows
        self.counted = counted
        self.scale = scale
        self.device = device
        self.stages: list[Stage] = []

    def at_relu(self, node: Node, z: Tensor) -> Tensor:
        """Keep the stage of a ReLU's input; make its neurons sources."""
        name = node.meta[STAGE]
        axis = _batch_axis(self.counted[node], z.shape, self.num_rows, name)
        inner = z.shape[axis] // self.num_rows
        split = (*z.shape[:axis], self.num_rows, inner, *z.shape[axis + 1 :])
        rows = z.reshape(split).movedim(axis, 0).flatten(1)
        self.stages.append(Stage(name, *self.affine(rows, name)))
        return self.basis(z.shape, axis)

    def basis(self, shape: Size, axis: int = 0) -> Tensor:
        """A tensor whose entries, for each input of the batch, are new sources."""
        per_row = shape.numel() // self.num_rows
        rows = torch.zeros(self.num_rows, per_row, dtype=torch.float64, device=self.device)
        rows[1 + self.num_known :][:per_row].fill_diagonal_(self.scale)
        self.num_known += per_row
        inner = (*shape[:axis], shape[axis] // self.num_rows, *shape[axis + 1 :])
        return rows.reshape(self.num_rows, *inner).movedim(0, axis).reshape(shape)

    def affine(
        self, rows: Float[Tensor, "rows values"], name: str
    ) -> tuple[Float[np.ndarray, "values sources"], Float[np.ndarray, "values"]]:
        """Weight and bias of an affine function of the sources so far, from its values on the rows of the batch.

        Args:
            rows: the values.
            name: what to call the function in an error.

        Raises:
            TransformError: a weight or bias is not finite.
        """
        array = rows.cpu().numpy()
        if not np.isfinite(array).all():
            raise TransformError(
                f"model: the affine function before {name!r} has weights or biases that are not finite; look for an "
                "overflow or a division by zero among the constants of its layers."
            )
        bias = array[0].copy()
        weight = np.ascontiguousarray((array[1 : 1 + self.num_known] - bias).T)
        # Rows of a matrix product may be summed in different orders: a bias may leave a trace of its rounding.
        weight[np.abs(weight) <= np.maximum(np.abs(bias), 1.0)[:, None]] = 0.0
        return weight / self.scale, bias


def _batch_axis(small: Size, large: Size, num_rows: int, name: str) -> int:
    """The dimension that holds the batch: the one that grows with the number of inputs.

    Args:
        small: shape for 2 inputs.
        large: shape for `num_rows` inputs.
        num_rows: more than 2.
        name: whose shape it is.

    Raises:
        TransformError: there is no such dimension, or there are several.
    """
    axes = [axis for axis, (a, b) in enumerate(zip(small, large, strict=False)) if a != b]
    if len(small) != len(large) or len(axes) != 1 or small[axes[0]] * num_rows != 2 * large[axes[0]]:
        raise TransformError(
            f"model: cannot tell the batch dimension of what enters {name!r}: shape {tuple(small)} for 2 inputs, "
            f"{tuple(large)} for {num_rows}; keep the batch in a dimension of its own."
        )
    return axes[0]
