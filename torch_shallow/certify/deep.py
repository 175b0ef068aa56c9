"""The model itself: its outputs, the values that enter its ReLUs, and its Jacobian."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from itertools import chain
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.fx import Interpreter, Node

from torch_shallow.errors import TransformError
from torch_shallow.trace.model_copy import check_model, copy_model
from torch_shallow.trace.precision import InFloat64
from torch_shallow.trace.program import ReLUProgram
from torch_shallow.trace.tracer import STAGE, trace_graph


class DeepModel:
    """A copy of the user's model, run by its own modules; points are rows of float64 arrays.

    Args:
        model: the model.
        program: what the model is expected to be; only its shapes are used.
        float64: run in float64, or in the model's own precision.

    Raises:
        TransformError: the model cannot be read, or takes or gives other shapes.
    """

    def __init__(self, model: nn.Module, program: ReLUProgram, float64: bool = True) -> None:
        self._precision: type[AbstractContextManager[Any]] = InFloat64 if float64 else nullcontext
        self._copy = copy_model(check_model(model), self._precision())
        self._tensor = next(
            (t for t in chain(self._copy.parameters(), self._copy.buffers()) if t.is_floating_point()), torch.empty(0)
        )
        self._program = program
        self._recorder = _Recorder(self._copy, program.in_shape)
        with self._precision(), torch.no_grad():
            for count in (2, 3):
                self._check(self._recorder.run(self._input(np.zeros((count, program.num_inputs)))), count)
                self._recorder.keep_shapes()

    @property
    def num_neurons(self) -> int:
        """Number of ReLUs."""
        return self._recorder.num_neurons

    def outputs(self, x: Float[np.ndarray, "points inputs"]) -> Float[np.ndarray, "points outputs"]:
        """The output at each row of `x`."""
        with self._precision(), torch.no_grad():
            return self._rows(self._copy(self._input(x)))

    def preactivations(self, x: Float[np.ndarray, "points inputs"]) -> Float[np.ndarray, "points neurons"]:
        """The value that enters each ReLU, at each row of `x`."""
        with self._precision(), torch.no_grad():
            self._recorder.run(self._input(x))
            return np.concatenate([np.zeros((len(x), 0)), *map(self._rows, self._recorder.values(len(x)))], axis=1)

    def jacobians(self, x: Float[np.ndarray, "points inputs"]) -> Float[np.ndarray, "points outputs inputs"]:
        """The Jacobian at each row of `x`, by automatic differentiation."""
        points = self._input(x).requires_grad_()
        with self._precision(), torch.enable_grad():
            # A clone, since the model may work in place.
            y = self._copy(points.clone()).reshape(len(x), -1)
            columns = []
            for output in range(y.shape[1]):
                gradient = None
                if y.requires_grad:
                    total = y[:, output].sum()
                    (gradient,) = torch.autograd.grad(total, points, retain_graph=True, allow_unused=True)
                columns.append(self._rows(torch.zeros_like(points) if gradient is None else gradient))
        return np.stack(columns, axis=1)

    def _input(self, x: Float[np.ndarray, "points inputs"]) -> Tensor:
        dtype = self._tensor.dtype if self._precision is nullcontext else torch.float64
        return torch.tensor(x.reshape(len(x), *self._program.in_shape), dtype=dtype, device=self._tensor.device)

    @staticmethod
    def _rows(y: Tensor) -> np.ndarray:
        return y.detach().reshape(len(y), -1).to("cpu", torch.float64).numpy()

    def _check(self, y: object, count: int) -> None:
        found = tuple(y.shape) if isinstance(y, Tensor) else type(y).__name__
        if found != (count, *self._program.out_shape):
            raise TransformError(
                f"model: expected an output of shape {(count, *self._program.out_shape)} for {count} inputs of shape "
                f"{self._program.in_shape}, found {found}; certify with the model that was transformed."
            )


class _Recorder:
    """Runs the traced graph of a model and keeps what enters its ReLUs."""

    def __init__(self, root: nn.Module, in_shape: tuple[int, ...]) -> None:
        self._interpreter = _Listener(root, graph=trace_graph(root, in_shape))
        self._interpreter.extra_traceback = False
        self._in_shape = in_shape
        self._shapes: list[list[torch.Size]] = []

    def run(self, x: Tensor) -> object:
        self._interpreter.heard = []
        try:
            return self._interpreter.run(x)
        except Exception as error:
            raise TransformError(
                f"model: it fails on {len(x)} inputs of shape {self._in_shape}: {error}. Certify with the model that "
                "was transformed."
            ) from error

    def keep_shapes(self) -> None:
        self._shapes.append([z.shape for z in self._interpreter.heard])

    @property
    def num_neurons(self) -> int:
        small, large = self._shapes
        return sum(b.numel() - a.numel() for a, b in zip(small, large, strict=True))

    def values(self, count: int) -> list[Tensor]:
        """What entered each ReLU in the last run, with the batch in front."""
        rows = []
        for z, small, large in zip(self._interpreter.heard, *self._shapes, strict=True):
            axis = next((i for i, (a, b) in enumerate(zip(small, large, strict=True)) if a != b), 0)
            inner = z.shape[axis] // count
            rows.append(z.reshape(*z.shape[:axis], count, inner, *z.shape[axis + 1 :]).movedim(axis, 0))
        return rows


class _Listener(Interpreter):
    """Keeps a copy of what enters each ReLU."""

    heard: list[Tensor]

    def run_node(self, n: Node) -> Any:
        """The value of a node."""
        if STAGE in n.meta:
            self.heard.append(self.fetch_args_kwargs_from_env(n)[0][0].clone())
        return super().run_node(n)
