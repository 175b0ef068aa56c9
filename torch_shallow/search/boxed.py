"""Any bounded domain as a box and further constraints."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from torch_shallow.bounds.bounding_box import bounding_box
from torch_shallow.domain import Box
from torch_shallow.search.question import Posed


def boxed(posed: Posed) -> Posed:
    """The same question in a box: the rows of a polytope become constraints.

    Raises:
        TransformError: the domain is not bounded.
    """
    program, domain = posed.program, posed.domain
    if isinstance(domain, Box):
        bounding_box(domain, program.in_shape)  # or an error
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
