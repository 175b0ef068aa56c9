"""What the games of a function are played on: one program for all, a program for each box, or values alone."""

from __future__ import annotations

from math import isqrt

import numpy as np
from jaxtyping import Float
from torch import Tensor

from torch_shallow.domain import TOLERANCE
from torch_shallow.explain.function import Function
from torch_shallow.partition.partition import Partition
from torch_shallow.shallow.module import ShallowReLU
from torch_shallow.trace.linear.bounds import preactivation_bounds
from torch_shallow.trace.linear.linearity import read_program
from torch_shallow.trace.program import ReLUProgram

SMALL = 1 << 20  # a program of at most so many weights is kept as one matrix, of which there are several copies


def program_of(function: Function) -> ReLUProgram | None:
    """The program of a whole function, good wherever the function is known; None if there is none, or a large one."""
    network = function.network
    if not isinstance(network, ShallowReLU):
        sizes = (function.num_inputs, network.num_neurons, function.num_outputs)
        return read_program(network.traced) if _is_small(*sizes) else None
    partition = network.partition
    if network.may_be_discontinuous or not network.complete or not isinstance(partition, Partition):
        return None
    program = partition.program
    sizes = (program.num_inputs, program.num_neurons, program.num_outputs)
    return program if _is_small(*sizes) else None


def check_coalitions(function: Function, x: Float[Tensor, "inputs"], background: Float[Tensor, "rows inputs"]) -> None:
    """Make sure that all coalitions lie in the domain of a function, given that its points do.

    The largest value of an inequality on the box between two points is at a corner, which is a coalition.

    Raises:
        TransformError: somewhere they do not.
    """
    if isinstance(function.network, ShallowReLU):
        limits = function.network.domain.limits(function.in_shape)
        if limits and limits[0].ndim == 2:
            a, b = (background.new_tensor(array) for array in limits)
            for row in range(len(background)):
                highest = (a * x).maximum(a * background[row]).sum(1)
                size = (a.abs() * x.abs().maximum(background[row].abs())).sum(1) + b.abs()
                function.check_known((highest <= b + TOLERANCE * size).all()[None])


def program_between(
    function: Function, x: Float[np.ndarray, "inputs"], reference: Float[np.ndarray, "inputs"]
) -> ReLUProgram | None:
    """The program of a large deep network on the box between two points; None if it is too large there, too.

    Without neurons it is not larger than the values are.
    """
    traced = None if isinstance(function.network, ShallowReLU) else function.network.traced
    if traced is None:
        return None
    inputs, outputs = len(x), function.num_outputs
    # The largest m with (m + outputs) (inputs + m) <= SMALL.
    most = max(0, (isqrt((inputs - outputs) ** 2 + 4 * SMALL) - inputs - outputs) // 2)
    bounds = preactivation_bounds(traced, np.minimum(x, reference), np.maximum(x, reference), max_unstable=most)
    if len(bounds) < len(traced.layouts) or sum(int(stage.unstable.sum()) for stage in bounds) > most:
        return None
    return read_program(traced, bounds)


def _is_small(inputs: int, neurons: int, outputs: int) -> bool:
    return (neurons + outputs) * (inputs + neurons) <= SMALL
