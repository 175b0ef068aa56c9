"""Which program of a model is read: that of all its neurons, or of those that can change sign in a box."""

from __future__ import annotations

from collections.abc import Sequence
from math import isqrt

import numpy as np
import torch
from jaxtyping import Float
from torch import Size, Tensor

from torch_shallow.domain import Box, Domain
from torch_shallow.errors import OutOfMemoryError
from torch_shallow.program.affine_forms import CHUNK_BYTES, INPUT, Sources, StageBounds, preactivation_bounds, push
from torch_shallow.program.relu_program import ReLUProgram, Stage, WholeNetwork
from torch_shallow.program.traced import TracedModel


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
        self, stage: int, chunk: slice, constant: Float[Tensor, "values"], coefficients: Float[Tensor, "some values"]
    ) -> None:
        """Keep what a chunk of the sources tells."""
        weight, kept = self.weights[stage], self.kept[stage]
        stop = min(chunk.stop, weight.shape[1])
        if chunk.start < stop:
            weight[:, chunk.start : stop] = coefficients[: stop - chunk.start, kept].T.cpu().numpy()
        self.biases[stage] = constant[kept].cpu().numpy()


SMALL = 1 << 18  # a program of at most so many weights is read whole: to leave out neurons would not pay
MAX_BYTES = 1 << 32  # of the weights of a program


def read_within(traced: TracedModel, domain: Domain | None) -> ReLUProgram:
    """The program of a traced model, good for all points of a domain.

    In a bounded box a large network is read without the neurons that keep their sign there.

    Args:
        traced: the model.
        domain: where the program has to hold; everywhere if None.

    Raises:
        OutOfMemoryError: the program is too large.
        TransformError: the program is too large, or the model cannot be read.
    """
    inputs, outputs = Size(traced.in_shape).numel(), Size(traced.out_shape).numel()
    neurons = sum(layout.num_neurons for layout in traced.layouts)
    weights = (neurons + outputs) * (1 + inputs + neurons)
    if weights <= SMALL:
        return read_program(traced)
    if isinstance(domain, Box):
        lower, upper = domain.bounds(traced.in_shape)
        if np.isfinite(lower).all() and np.isfinite(upper).all():
            return _read_in_box(traced, lower, upper, outputs)
    if 8 * weights > MAX_BYTES:
        raise OutOfMemoryError(
            f"model: it has {neurons:,} ReLUs of {inputs:,} inputs, whose weights as one program take "
            f"{8 * weights / 2**30:,.1f} GiB (at most {MAX_BYTES / 2**30:.0f} GiB are allowed). Pass data=X for the "
            "regions that the rows of X visit, or a bounded domain=Box(x - epsilon, x + epsilon) for all near x."
        )
    return read_program(traced)


def _read_in_box(traced: TracedModel, lower: np.ndarray, upper: np.ndarray, outputs: int) -> ReLUProgram:
    # The largest u with (u + outputs) (1 + inputs + u) <= MAX_BYTES / 8.
    sides = (1 + len(lower), outputs)
    most = (isqrt((sides[0] - sides[1]) ** 2 + MAX_BYTES // 2) - sum(sides)) // 2
    bounds = preactivation_bounds(traced, lower, upper, max_unstable=most)
    unstable = sum(int(stage.unstable.sum()) for stage in bounds)
    if unstable > most:
        raise OutOfMemoryError(
            f"domain: at least {unstable:,} ReLUs of the model may change sign in the box (in the first {len(bounds)} "
            f"of {len(traced.layouts)} stages), but a program of more than {max(most, 0):,} is too large; make the box "
            "smaller, or pass data=X for the regions that the rows of X visit."
        )
    return read_program(traced, bounds)
