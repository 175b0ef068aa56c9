"""The affine segments of a graph, read off by linearity with the model's own code."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Size, Tensor
from torch.fx import Node

from torch_shallow.errors import TransformError
from torch_shallow.trace.program import ReLUProgram, Stage
from torch_shallow.trace.traced import TracedModel


def read_program(traced: TracedModel, scale: float = 2.0**200) -> ReLUProgram:
    """The program that a traced model computes.

    One run reads the weights, on a batch of one row that is 0 and one row for each source (entry of the input or
    neuron), which is `scale` in that source and else 0. What enters a ReLU has its bias in the first row, and its
    weights times `scale`, on top of the bias, in the others. What leaves the ReLU is again 0 but for `scale` in the
    rows of its own neurons. The scale is so large that a bias is lost in the rounding next to a weight, so weights come
    out exactly as the layers store them.

    Args:
        traced: the model.
        scale: a power of two; a weight below its reciprocal (times the bias, if that is above 1) reads as 0.

    Raises:
        TransformError: the graph cannot run on such inputs, or has weights that are not finite.
    """
    with torch.no_grad():
        reader = _Reader(traced, scale)
        y = traced.run(reader.basis(Size(traced.in_shape).numel()).reshape(-1, *traced.in_shape), reader.at_relu)
        weight, bias = reader.affine(y.reshape(reader.num_rows, -1), "output")
    return ReLUProgram(traced.in_shape, traced.out_shape, tuple(reader.stages), weight, bias)


class _Reader:
    """Reads the stages, one after the other."""

    def __init__(self, traced: TracedModel, scale: float) -> None:
        self.layouts = traced.layouts
        num_neurons = sum(layout.num_neurons for layout in self.layouts)
        self.num_rows = 1 + Size(traced.in_shape).numel() + num_neurons
        self.num_known = 0  # sources that have got their rows
        self.scale = scale
        self.device = traced.device
        self.stages: list[Stage] = []

    def at_relu(self, node: Node, z: Tensor) -> Tensor:
        """Keep the stage of a ReLU's input; make its neurons sources."""
        layout = self.layouts[len(self.stages)]
        self.stages.append(Stage(layout.name, *self.affine(layout.rows(z), layout.name)))
        return layout.tensor(self.basis(layout.num_neurons))

    def basis(self, values: int) -> Float[Tensor, "rows values"]:
        """A row for each row of the batch; the values are new sources."""
        rows = torch.zeros(self.num_rows, values, dtype=torch.float64, device=self.device)
        rows[1 + self.num_known :][:values].fill_diagonal_(self.scale)
        self.num_known += values
        return rows

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
