"""Encoding of a network as mixed-integer linear constraints of cvxpy, with a binary variable per unstable neuron."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from torch_shallow.bounds.relaxation import RelaxedBounds
from torch_shallow.domain import Box, Domain
from torch_shallow.geometry.units import exponents_of, row_exponents
from torch_shallow.program.relu_program import ReLUProgram, Stage

if TYPE_CHECKING:
    from cvxpy import Constraint, Expression, Variable


def without_stable(program: ReLUProgram, bounds: RelaxedBounds) -> tuple[ReLUProgram, RelaxedBounds]:
    """Restrict the program to the neurons that can change sign; the others are affine in these and are substituted.

    The result computes the same values where the bounds hold, up to rounding. It no longer refers to its network.
    """
    d = program.num_inputs
    kept, stages = np.eye(d), []
    constants = np.zeros(d)  # a source is `kept @ [x; unstable neurons] + constants`
    unstable, active = bounds.unstable, bounds.active
    for stage, start, stop in zip(program.stages, program.offsets, program.offsets[1:], strict=False):
        weight, bias = stage.weight @ kept, stage.weight @ constants + stage.bias
        own, passed = np.flatnonzero(unstable[start:stop]), active[start:stop]
        if len(own):
            stages.append(Stage(stage.name, weight[own], bias[own]))
        hidden = np.concatenate([passed[:, None] * weight, np.eye(stop - start)[:, own]], axis=1)
        kept = np.concatenate([np.pad(kept, ((0, 0), (0, len(own)))), hidden])
        constants = np.concatenate([constants, passed * bias])
    out_bias = program.out_weight @ constants + program.out_bias
    weight = program.out_weight @ kept
    smaller = replace(program, stages=tuple(stages), out_weight=weight, out_bias=out_bias, whole=None)
    return smaller, replace(bounds, lower=bounds.lower[unstable], upper=bounds.upper[unstable])


def encode(
    program: ReLUProgram, domain: Domain, bounds: RelaxedBounds, x: Variable | Expression
) -> tuple[Expression, list[Constraint]]:
    """Return the outputs at an input, with the constraints that define them.

    For each neuron that can change sign, with a binary variable a and bounds l < 0 < u, h = relu(z) is h >= 0, h >= z,
    h <= u a and h <= z - l (1 - a) (the "big-M" formulation). Each neuron and each inequality of the domain is measured
    in a power of two near its own size, since solvers' tolerances are absolute.

    Args:
        program: The network.
        domain: Where the bounds hold; `x` is constrained to it.
        bounds: Proven bounds of the program in the domain.
        x: One flattened input, affine.

    Returns:
        The outputs, affine in `x` and new variables, and the constraints.
    """
    cvxpy: Any = import_module("cvxpy")  # cvxpy is only partly typed
    program, bounds = without_stable(program, bounds)
    d, constraints = program.num_inputs, _inside(domain, bounds, x)
    output = program.out_weight[:, :d] @ x + program.out_bias
    if program.num_neurons:
        units = np.ldexp(1.0, exponents_of(np.maximum(-bounds.lower, bounds.upper)))
        least, most = bounds.lower / units, bounds.upper / units
        hidden = cvxpy.Variable(len(units), bounds=[np.zeros(len(units)), most])
        on = cvxpy.Variable(len(units), boolean=True)
        reads, others = program.reads / units[:, None], _hidden_weight(program) * units / units[:, None]
        entering = reads @ x + others @ hidden + program.biases / units
        constraints += [
            hidden >= entering,
            hidden <= cvxpy.multiply(most, on),
            hidden <= entering - cvxpy.multiply(least, 1.0 - on),
        ]
        output = output + (program.out_weight[:, d:] * units) @ hidden
    return output, constraints


def input_units(bounds: RelaxedBounds) -> Float[np.ndarray, "inputs"]:
    """Return a unit for each input: a power of two in which the larger of its bounds is between 1/2 and 1."""
    return np.ldexp(1.0, exponents_of(np.maximum(np.abs(bounds.in_lower), np.abs(bounds.in_upper))))


def _inside(domain: Domain, bounds: RelaxedBounds, x: Expression) -> list[Any]:
    cvxpy: Any = import_module("cvxpy")
    units = input_units(bounds)
    scaled = cvxpy.multiply(1.0 / units, x)
    if isinstance(domain, Box):
        return [scaled >= bounds.in_lower / units, scaled <= bounds.in_upper / units]
    normals, offsets = domain.inequalities((len(units),))
    sizes = np.ldexp(1.0, row_exponents(normals * units))
    return [(normals * units / sizes[:, None]) @ scaled <= offsets / sizes]


def _hidden_weight(program: ReLUProgram) -> Float[np.ndarray, "neurons neurons"]:
    """Return the weights with which each neuron reads the others."""
    d, weight = program.num_inputs, np.zeros((program.num_neurons, program.num_neurons))
    for stage, start, stop in zip(program.stages, program.offsets, program.offsets[1:], strict=False):
        weight[start:stop, :start] = stage.weight[:, d:]
    return weight
