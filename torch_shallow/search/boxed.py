"""Any bounded domain as a box and further constraints."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Float

from torch_shallow.domain import Box, Domain
from torch_shallow.errors import TransformError
from torch_shallow.geometry.highs import linear_program, solve
from torch_shallow.search.question import Posed


def boxed(posed: Posed) -> Posed:
    """The same question in a box: the rows of a polytope become constraints.

    Raises:
        TransformError: the domain is not bounded, or HiGHS does not find its bounds.
    """
    program, domain = posed.program, posed.domain
    if isinstance(domain, Box):
        lower, upper = domain.bounds(program.in_shape)
        if not (np.isfinite(lower).all() and np.isfinite(upper).all()):
            raise TransformError(_unbounded(domain))
        return posed
    a, b = domain.inequalities(program.in_shape)
    lower, upper = _bounding_box(domain, a, b)
    rows = np.concatenate([-a, np.zeros((len(b), program.num_neurons))], axis=1)
    outputs = program.num_outputs + len(b)
    program = replace(
        program,
        out_shape=(outputs,),
        out_weight=np.concatenate([program.out_weight, rows]),
        out_bias=np.concatenate([program.out_bias, b]),
    )
    return replace(posed, program=program, domain=Box(lower.reshape(program.in_shape), upper.reshape(program.in_shape)))


def _bounding_box(
    domain: Domain, a: Float[np.ndarray, "rows inputs"], b: Float[np.ndarray, "rows"]
) -> tuple[Float[np.ndarray, "inputs"], Float[np.ndarray, "inputs"]]:
    """A box around `a x <= b`, proven by weak duality.

    With y >= 0 and a residual r = e - y a, e x = y a x + r x <= y b + |r| |x|, where the norms are those of sum and
    maximum. If no |r| exceeds 1/2, the largest of all |x_i| is then at most twice the largest y b.

    Raises:
        TransformError: it is not bounded, or has no point.
    """
    inputs = a.shape[1]
    sides = (np.full(inputs, -np.inf), np.full(inputs, np.inf))
    highs = linear_program(a, (-np.inf, b), sides, {}, maximise=True)
    directions = np.concatenate([-np.eye(inputs), np.eye(inputs)])
    most, residuals = np.zeros(2 * inputs), np.zeros(2 * inputs)
    for i, direction in enumerate(directions):
        if solve(highs, direction):
            raise TransformError(_unbounded(domain))
        dual = np.abs(np.array(highs.getSolution().row_dual))
        slack = 2.0**-52 * (len(b) + 2)
        most[i] = dual @ b + slack * (dual @ np.abs(b))
        residuals[i] = np.abs(direction - dual @ a).sum() + slack * (dual @ np.abs(a)).sum()
    if len(b) == 0 or residuals.max() > 0.5:
        raise TransformError(_unbounded(domain))
    most += residuals * 2.0 * np.abs(most).max()
    if not (-most[:inputs] <= most[inputs:]).all():
        raise TransformError(f"domain: expected a polytope with a point, found that {domain!r} has none.")
    return -most[:inputs], most[inputs:]


def _unbounded(domain: Domain) -> str:
    return f"domain: expected a bounded Box or Polytope, found {domain!r}; give finite bounds for all inputs."
