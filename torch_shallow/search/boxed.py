"""Conversion of any bounded domain to a box with further constraints."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Float

from torch_shallow.bounds.bounding_box import bounding_box
from torch_shallow.domain import Box
from torch_shallow.geometry.units import exponents_of
from torch_shallow.search.question import Posed


def boxed(posed: Posed) -> Posed:
    """Pose the same question in a box: the rows of a polytope become constraints.

    Raises:
        TransformError: The domain is not bounded.
    """
    program, domain = posed.program, posed.domain
    if isinstance(domain, Box):
        bounding_box(domain, program.in_shape)  # or raises an error
        return posed
    a, b = domain.inequalities(program.in_shape)
    lower, upper = bounding_box(domain, program.in_shape)
    rows = np.concatenate([-a, np.zeros((len(b), program.num_neurons))], axis=1)
    outputs = program.num_outputs + len(b)
    program = replace(
        program,
        out_shape=(outputs,),
        out_weight=np.concatenate([program.out_weight, rows]),
        out_bias=np.concatenate([program.out_bias, b]),
    )
    return replace(posed, program=program, domain=Box(lower.reshape(program.in_shape), upper.reshape(program.in_shape)))


def in_own_lengths(posed: Posed) -> tuple[Posed, Float[np.ndarray, "inputs"]]:
    """Pose the same question in a box where each input is measured in a power of two of about the width of its side.

    Returns:
        The question, and the lengths: multiply its inputs by them to get those of the given question.
    """
    program = posed.program
    lower, upper = posed.domain.bounds(program.in_shape)  # type: ignore[attr-defined]
    widths = np.where(upper > lower, upper - lower, np.abs(lower))
    lengths = np.ldexp(1.0, exponents_of(widths))

    def measured(weight: Float[np.ndarray, "rows sources"]) -> Float[np.ndarray, "rows sources"]:
        return np.concatenate([weight[:, : len(lengths)] * lengths, weight[:, len(lengths) :]], axis=1)

    stages = tuple(replace(stage, weight=measured(stage.weight)) for stage in program.stages)
    program = replace(program, stages=stages, out_weight=measured(program.out_weight))
    box = Box((lower / lengths).reshape(program.in_shape), (upper / lengths).reshape(program.in_shape))
    return replace(posed, program=program, domain=box), lengths
