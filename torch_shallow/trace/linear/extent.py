"""Which program of a model is read: that of all its neurons, or of those that can change sign in a box."""

from __future__ import annotations

from math import isqrt

import numpy as np
from torch import Size

from torch_shallow.domain import Box, Domain
from torch_shallow.errors import TransformError
from torch_shallow.trace.linear.bounds import preactivation_bounds
from torch_shallow.trace.linear.linearity import read_program
from torch_shallow.trace.program import ReLUProgram
from torch_shallow.trace.traced import TracedModel

SMALL = 1 << 18  # a program of at most so many weights is read whole: to leave out neurons would not pay
MAX_BYTES = 1 << 32  # of the weights of a program


def read_within(traced: TracedModel, domain: Domain | None) -> ReLUProgram:
    """The program of a traced model, good for all points of a domain.

    In a bounded box a large network is read without the neurons that keep their sign there.

    Args:
        traced: the model.
        domain: where the program has to hold; everywhere if None.

    Raises:
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
        raise TransformError(
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
        raise TransformError(
            f"domain: at least {unstable:,} ReLUs of the model may change sign in the box (in the first {len(bounds)} "
            f"of {len(traced.layouts)} stages), but a program of more than {max(most, 0):,} is too large; make the box "
            "smaller, or pass data=X for the regions that the rows of X visit."
        )
    return read_program(traced, bounds)
