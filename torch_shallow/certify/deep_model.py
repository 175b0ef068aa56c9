"""The model itself: its outputs, pre-activations, and Jacobian."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Size, Tensor, nn
from torch.fx import Interpreter, Node

from torch_shallow.errors import TransformError
from torch_shallow.program.model_copy import copy_model
from torch_shallow.program.precision import InFloat64
from torch_shallow.program.relu_program import ReLUProgram
from torch_shallow.program.traced import TracedModel
from torch_shallow.program.tracer import trace_copy

EPSILON = float(np.finfo(np.float64).eps)
ALLOWED = 256.0  # multiple of its expected size up to which a difference counts as rounding
SHAKE = 2.0**-30  # far above roundoff, far below what changes signs


class DeepModel:
    """A copy of the user's model, run by its own modules; points are rows of float64 arrays.

    If the model ends with a head that is not piecewise linear, outputs and Jacobians are those of the trunk before it,
    as traced.

    Args:
        model: The model, which must have passed `check_model`.
        program: The program expected of its trunk; only its shapes are used.
        float64: Whether to run in float64, rather than in the model's own precision.

    Attributes:
        traced: The model as a graph.

    Raises:
        TransformError: The model cannot be read, or its input or output has another shape.
    """

    def __init__(self, model: nn.Module, program: ReLUProgram | TracedModel, float64: bool = True) -> None:
        self._precision: type[AbstractContextManager[Any]] = InFloat64 if float64 else nullcontext
        self._copy = copy_model(model, self._precision())
        self._in_shape, self._out_shape = program.in_shape, program.out_shape
        root, graph, head = trace_copy(model, self._precision, self._in_shape)
        self.traced = TracedModel(root, graph, self._in_shape, head)
        tensors = (*model.parameters(), *model.buffers())
        own = next((tensor.dtype for tensor in tensors if tensor.is_floating_point()), torch.get_default_dtype())
        self._dtype = torch.float64 if float64 else own
        with self._precision(), torch.no_grad():
            for count in (2, 3):
                self._check(count)

    @property
    def num_neurons(self) -> int:
        """Number of ReLUs."""
        return sum(layout.num_neurons for layout in self.traced.layouts)

    def outputs(self, x: Float[np.ndarray, "points inputs"]) -> Float[np.ndarray, "points outputs"]:
        """Return the output at each row of `x`."""
        with self._precision(), torch.no_grad():
            return self._rows(self._trunk(self.tensor(x)))

    def final_outputs(self, x: Float[np.ndarray, "points inputs"]) -> Float[np.ndarray, "points outputs"]:
        """Return the output of the whole model, including its head, at each row of `x`."""
        with self._precision(), torch.no_grad():
            return self._rows(self._copy(self.tensor(x)))

    def preactivations(self, x: Float[np.ndarray, "points inputs"]) -> Float[np.ndarray, "points neurons"]:
        """Return the value that enters each ReLU, in float64, at each row of `x`."""
        return self._run(x)[0]

    def rounding(
        self, x: Float[np.ndarray, "points inputs"], doubtful: Bool[np.ndarray, "points"] | None = None, probes: int = 4
    ) -> tuple[Float[np.ndarray, "points neurons"], Float[np.ndarray, "points outputs"]]:
        """Estimate the rounding errors of all pre-activations and of the trunk's outputs, in units of roundoff.

        Every intermediate result is changed by a small random share, and the resulting changes are taken as those of
        rounding (Monte Carlo arithmetic: Parker, "Monte Carlo arithmetic", 1997). So terms that cancel later, in any
        layer, are accounted for.

        Args:
            x: Points.
            doubtful: Mask of the points to estimate, all by default; the result is 0 elsewhere.
            probes: Number of repetitions; the estimates are root mean squares.
        """
        rows = np.ones(len(x), dtype=bool) if doubtful is None else doubtful
        found = np.zeros((len(x), self.num_neurons)), np.zeros((len(x), Size(self._out_shape).numel()))
        if not rows.any():
            return found
        generator = torch.Generator().manual_seed(0)

        def shaken(value: Any) -> Any:
            if not isinstance(value, Tensor) or not value.is_floating_point():
                return value
            change = torch.rand(value.shape, generator=generator, dtype=torch.float64).to(value.device, value.dtype)
            return value * (1.0 + SHAKE * 12.0**0.5 * (change - 0.5))  # with variance 1

        *values, entered = self._run(x[rows])
        for _ in range(probes):
            *changed, _ = self._run(x[rows], shaken, entered)
            for total, one, other in zip(found, changed, values, strict=True):
                total[rows] += (one - other) ** 2 / (probes * SHAKE**2)
        return np.sqrt(found[0]), np.sqrt(found[1])

    def _run(
        self,
        x: Float[np.ndarray, "points inputs"],
        at_value: Callable[[Any], Any] | None = None,
        unshaken: list[Tensor] | None = None,
    ) -> tuple[Float[np.ndarray, "points neurons"], Float[np.ndarray, "points outputs"], list[Tensor]]:
        """Return the pre-activations and the trunk's outputs, computed by the traced graph in float64.

        Args:
            x: Points.
            at_value: Function that replaces every intermediate result.
            unshaken: Pre-activations without any replacement. With these, a ReLU passes on the changes due to
                replacement unless it is certainly inactive: a change larger than that of rounding would make it
                inactive.
        """
        layouts, values, entered = iter(self.traced.layouts), [np.zeros((len(x), 0))], list[Tensor]()

        def at_relu(_: object, z: Tensor) -> Tensor:
            values.append(self._rows(next(layouts).rows(z)).copy())
            entered.append(z.clone())
            if unshaken is None:
                return z.relu()
            before = unshaken[len(entered) - 1]
            change = z - before
            passes = before > -ALLOWED * EPSILON / SHAKE * change.abs()
            return before.relu() + change * passes

        with torch.no_grad():
            y = self.traced.run(self.tensor(x).double(), at_relu, at_value)
        return np.concatenate(values, axis=1), self._rows(y), entered

    def jacobians(self, x: Float[np.ndarray, "points inputs"]) -> Float[np.ndarray, "points outputs inputs"]:
        """Return the Jacobian at each row of `x`, by automatic differentiation of the traced graph.

        The graph is used because PyTorch differentiates some operations in float32 (hardsigmoid), and nothing behind a
        detach.
        """
        points = self.tensor(x).requires_grad_()
        with self._precision(), torch.enable_grad():
            # Clone, since the model may work in place.
            y = _Attached(self.traced.root, graph=self.traced.graph).run(points.clone()).reshape(len(x), -1)
            columns = []
            for output in range(y.shape[1]):
                gradient = None
                if y.requires_grad:
                    total = y[:, output].sum()
                    (gradient,) = torch.autograd.grad(total, points, retain_graph=True, allow_unused=True)
                columns.append(self._rows(torch.zeros_like(points) if gradient is None else gradient))
        return np.stack(columns, axis=1)

    def _trunk(self, x: Tensor) -> Any:
        if self.traced.head is None:
            return self._copy(x)
        return Interpreter(self.traced.root, graph=self.traced.graph).run(x)

    def tensor(self, x: Float[np.ndarray, "points inputs"]) -> Tensor:
        """Convert points to an input of the model, in its precision and on its device."""
        return torch.tensor(x.reshape(len(x), *self._in_shape), dtype=self._dtype, device=self.traced.device)

    @staticmethod
    def _rows(y: Tensor) -> np.ndarray:
        return y.detach().reshape(len(y), -1).to("cpu", torch.float64).numpy()

    def _check(self, count: int) -> None:
        """Run on `count` inputs, to check that the model does not fail and that its output has the expected shape."""
        try:
            y = self._trunk(self.tensor(np.zeros((count, Size(self._in_shape).numel()))))
        except Exception as error:
            raise TransformError(
                f"model: expected one that runs on {count} inputs of shape {self._in_shape}, found an error: {error}; "
                "certify with the model that was transformed."
            ) from error
        found = tuple(y.shape) if isinstance(y, Tensor) else type(y).__name__
        if found != (count, *self._out_shape):
            raise TransformError(
                f"model: expected an output of shape {(count, *self._out_shape)} for {count} inputs of shape "
                f"{self._in_shape}, found {found}; certify with the model that was transformed."
            )


class _Attached(Interpreter):
    """Runs a graph without detaching anything."""

    def run_node(self, n: Node) -> Any:
        """Return the value of a node."""
        if n.target in ("detach", torch.detach, torch.ops.aten.detach.default):
            return self.fetch_args_kwargs_from_env(n)[0][0]
        return super().run_node(n)
