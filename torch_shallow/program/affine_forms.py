"""Affine functions of many sources, pushed through a model's own code, a chunk of sources at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.fx import Node

from torch_shallow.errors import TransformError
from torch_shallow.program.traced import TracedModel

INPUT = -1  # the stage of sources that are entries of the input
CHUNK_BYTES = 1 << 25  # of the widest tensor of a run; convolutions take several times as much on the way


@dataclass(frozen=True)
class Sources:
    """The variables of affine functions.

    Attributes:
        stages: the stage behind whose ReLU each is added; `INPUT` for entries of the input. In ascending order.
        entries: the neuron of that stage, or the entry of the flattened input.
    """

    stages: Int[np.ndarray, "sources"]
    entries: Int[np.ndarray, "sources"]

    def __len__(self) -> int:
        return len(self.stages)

    def __add__(self, other: Sources) -> Sources:
        return Sources(np.concatenate([self.stages, other.stages]), np.concatenate([self.entries, other.entries]))

    @staticmethod
    def of(stage: int, entries: Int[np.ndarray, "some"]) -> Sources:
        """Some entries of one stage or of the input."""
        return Sources(np.full(len(entries), stage), entries)


Receiver = Callable[[int, slice, Float[Tensor, "values"], Float[Tensor, "some values"]], None]


class _Arrived(BaseException):
    """Ends a run behind the last value that is asked for."""


def push(
    traced: TracedModel,
    slopes: Sequence[Float[Tensor, "_"]],
    sources: Sources,
    base: Float[np.ndarray, "inputs"],
    receive: Receiver,
    *,
    scale: float = 2.0**200,
    chunk_bytes: int = CHUNK_BYTES,
) -> None:
    """Replace the ReLUs of a model by `slope * z`, plus a source where there is one, and see what its values become.

    All of them are then affine in the sources. A run on a batch has a row for each source of a chunk, which is `scale`
    in that source, and one that is 0 in all sources: their difference, over `scale`, is the coefficient. The scale is
    so large that constants are lost in the rounding next to coefficients, so these come out exactly as the layers store
    them.

    Args:
        traced: the model.
        slopes: of the neurons of the first stages. Where these end, so does the run.
        sources: the variables.
        base: the input at which all sources are 0.
        receive: called for each chunk of the sources with the number of a stage, in order, the chunk, and constant and
            coefficients of what enters the stage's ReLU; behind all stages likewise with the output.
        scale: a power of two; a coefficient below its reciprocal (times the constant, if above 1) reads as 0.
        chunk_bytes: how large the widest tensor of a run may be.

    Raises:
        TransformError: the graph cannot run on such inputs, or has weights that are not finite.
    """
    widths = [layout.num_neurons for layout in traced.layouts]
    widest = max(len(base), torch.Size(traced.out_shape).numel(), *widths, 1)
    size = max(16, chunk_bytes // (8 * widest))
    with torch.no_grad():
        for start in range(0, max(len(sources), 1), size):
            chunk = slice(start, min(start + size, len(sources)))
            run = _Run(traced, slopes, Sources(sources.stages[chunk], sources.entries[chunk]), chunk, receive, scale)
            try:
                run.run(base)
            except _Arrived:
                continue


class _Run:
    """One run: a row without sources, and a row for each source of a chunk."""

    def __init__(
        self,
        traced: TracedModel,
        slopes: Sequence[Tensor],
        sources: Sources,
        chunk: slice,
        receive: Receiver,
        scale: float,
    ) -> None:
        self.traced, self.slopes, self.sources, self.chunk = traced, slopes, sources, chunk
        self.receive, self.scale, self.stage = receive, scale, 0

    def run(self, base: Float[np.ndarray, "inputs"]) -> None:
        """Run to the end."""
        count = 1 + len(self.sources)
        rows = self._with_sources(torch.tensor(base, device=self.traced.device).repeat(count, 1), INPUT)
        y = self.traced.run(rows.reshape(count, *self.traced.in_shape), self.at_relu)
        self.receive_values("output", y.reshape(count, -1))

    def at_relu(self, node: Node, z: Tensor) -> Tensor:
        """What leaves a ReLU in place of its result."""
        stage, layout = self.stage, self.traced.layouts[self.stage]
        rows = layout.rows(z)
        self.receive_values(layout.name, rows)
        if stage == len(self.slopes):
            raise _Arrived
        return layout.tensor(self._with_sources(rows * self.slopes[stage], stage))

    def receive_values(self, name: str, rows: Float[Tensor, "rows values"]) -> None:
        """Hand over constant and coefficients of the values of a stage, or of the output."""
        if not rows.isfinite().all():
            raise TransformError(
                f"model: the affine function before {name!r} has weights or biases that are not finite; look for an "
                "overflow or a division by zero among the constants of its layers."
            )
        constant = rows[0]
        coefficients = rows[1:] - constant
        # Rows of a matrix product may be summed in different orders: a constant may leave a trace of its rounding.
        coefficients[coefficients.abs() <= constant.abs().clamp(min=1.0)] = 0.0
        self.receive(self.stage, self.chunk, constant, coefficients / self.scale)
        self.stage += 1

    def _with_sources(self, rows: Float[Tensor, "rows values"], stage: int) -> Float[Tensor, "rows values"]:
        own = np.flatnonzero(self.sources.stages == stage)
        rows[1 + own, self.sources.entries[own]] += self.scale
        return rows
