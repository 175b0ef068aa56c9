"""Read the program of a model: of all its neurons, or of those that can change sign in a box."""

from __future__ import annotations

from collections.abc import Sequence
from math import isqrt

import numpy as np
import torch
from jaxtyping import Float, Int
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
    """Read the program that a traced model computes, everywhere or in a box.

    The sources are the entries of the input and the neurons of the program: all neurons of the model or, with bounds,
    those that may change sign. Other neurons are affine in these: inactive ones are 0, and active ones equal what
    enters them.

    Args:
        traced: the model.
        bounds: bounds of all stages in a box, to read a program for this box, without stages that have no neurons left.
        scale: scale of the sources, as for `push`.
        chunk_bytes: largest size of the widest tensor of a run, in bytes.

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
    """Collect weight and bias of selected values of each stage, and finally of the output, chunk by chunk."""

    def __init__(self, num_inputs: int, kept: Sequence[np.ndarray], device: torch.device) -> None:
        known = num_inputs + np.cumsum([0, *map(len, kept)])
        self.kept = [torch.tensor(entries, device=device) for entries in kept]
        self.weights = [np.zeros((len(entries), n)) for entries, n in zip(kept, known, strict=False)]
        self.biases = [np.zeros(len(entries)) for entries in kept]

    def receive(
        self,
        stage: int,
        sources: Int[np.ndarray, "some"],
        constant: Float[Tensor, "values"],
        coefficients: Float[Tensor, "some values"],
    ) -> None:
        """Store the coefficients of some sources, whose numbers ascend."""
        weight, kept = self.weights[stage], self.kept[stage]
        earlier = int(np.searchsorted(sources, weight.shape[1]))
        weight[:, sources[:earlier]] = coefficients[:earlier, kept].T.cpu().numpy()
        self.biases[stage] = constant[kept].cpu().numpy()


SMALL = 1 << 18  # programs with at most this many weights are read whole, as omitting neurons would not pay
MAX_BYTES = 1 << 32  # limit for the weights of a program


def read_within(traced: TracedModel, domain: Domain | None) -> ReLUProgram:
    """Read the program of a traced model, valid at all points of a domain.

    For large networks in a bounded box, neurons that keep their sign there are left out.

    Args:
        traced: the model.
        domain: the domain in which the program must be valid; everywhere if None.

    Raises:
        OutOfMemoryError: the program is too large.
        TransformError: the model cannot be read.
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
            f"model: expected weights of at most {MAX_BYTES / 2**30:.0f} GiB as one program, found "
            f"{8 * weights / 2**30:,.1f} GiB for {neurons:,} ReLUs and {inputs:,} inputs. Pass data=X for the regions "
            "that the rows of X visit, or a bounded domain=Box(x - epsilon, x + epsilon) for all regions near x."
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
            f"domain: expected a box in which at most {max(most, 0):,} ReLUs of the model may change sign, found at "
            f"least {unstable:,} (in the first {len(bounds)} of {len(traced.layouts)} stages); make the box smaller, "
            "or pass data=X for the regions that the rows of X visit."
        )
    return read_program(traced, bounds)
