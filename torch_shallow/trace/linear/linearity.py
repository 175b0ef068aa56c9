"""The affine segments of a graph, read off by linearity with the model's own code."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Size, Tensor

from torch_shallow.trace.linear.affine_forms import CHUNK_BYTES, INPUT, Sources, push
from torch_shallow.trace.linear.bounds import StageBounds
from torch_shallow.trace.program import ReLUProgram, Stage, WholeNetwork
from torch_shallow.trace.traced import TracedModel


def read_program(
    traced: TracedModel,
    bounds: Sequence[StageBounds] | None = None,
    *,
    scale: float = 2.0**200,
    chunk_bytes: int = CHUNK_BYTES,
) -> ReLUProgram:
    """The program that a traced model computes, everywhere or in a box.

    The sources are the entries of the input and the neurons of the program: all of the model, or, if there are bounds,
    those that may change sign. Other neurons are affine in these: inactive ones 0, active ones what enters them.

    Args:
        traced: the model.
        bounds: of all stages in a box: a program for this box is read, without the stages that have no neurons left.
        scale: see `push`.
        chunk_bytes: see `push`.

    Raises:
        TransformError: the graph cannot run on such inputs, or has weights that are not finite.
    """
    d, sizes = Size(traced.in_shape).numel(), [layout.num_neurons for layout in traced.layouts]
    if bounds is None:
        own, active = [np.arange(n) for n in sizes], [np.zeros(n, dtype=bool) for n in sizes]
    else:
        own, active = [np.flatnonzero(stage.unstable) for stage in bounds], [stage.active for stage in bounds]
    sources = Sources.of(INPUT, np.arange(d))
    for stage, entries in enumerate(own):
        sources += Sources.of(stage, entries)
    slopes = [torch.tensor(mask, dtype=torch.float64, device=traced.device) for mask in active]
    reader = _Reader(d, [*own, np.arange(Size(traced.out_shape).numel())], traced.device)
    push(traced, slopes, sources, np.zeros(d), reader.receive, scale=scale, chunk_bytes=chunk_bytes)

    names = [layout.name for layout in traced.layouts]
    stages = [Stage(name, w, b) for name, w, b in zip(names, reader.weights, reader.biases, strict=False)]
    whole = None
    if bounds is not None:
        stages = [stage for stage in stages if stage.num_neurons]
        starts = np.cumsum([0, *sizes])
        neurons = np.concatenate([np.zeros(0, dtype=np.int64), *map(np.add, own, starts)])
        whole = WholeNetwork(tuple(sizes), np.concatenate([np.zeros(0, dtype=bool), *active]), neurons)
    return ReLUProgram(traced.in_shape, traced.out_shape, tuple(stages), reader.weights[-1], reader.biases[-1], whole)


class _Reader:
    """Weight and bias of some values of each stage, and of the output last, filled in chunk by chunk."""

    def __init__(self, num_inputs: int, kept: Sequence[np.ndarray], device: torch.device) -> None:
        known = num_inputs + np.cumsum([0, *map(len, kept)])
        self.kept = [torch.tensor(entries, device=device) for entries in kept]
        self.weights = [np.zeros((len(entries), n)) for entries, n in zip(kept, known, strict=False)]
        self.biases = [np.zeros(len(entries)) for entries in kept]

    def receive(
        self,
        stage: int,
        chunk: slice,
        constant: Float[Tensor, "values"],
        coefficients: Float[Tensor, "some values"],
    ) -> None:
        """Keep what a chunk of the sources tells."""
        weight, kept = self.weights[stage], self.kept[stage]
        stop = min(chunk.stop, weight.shape[1])
        if chunk.start < stop:
            weight[:, chunk.start : stop] = coefficients[: stop - chunk.start, kept].T.cpu().numpy()
        self.biases[stage] = constant[kept].cpu().numpy()
