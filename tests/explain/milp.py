"""The reference: the largest value of an output of a program over a box, by a mixed-integer program with big-M."""

from __future__ import annotations

import cvxpy as cp
import numpy as np

from torch_shallow.trace.program import ReLUProgram


def largest_by_milp(program: ReLUProgram, lower: np.ndarray, upper: np.ndarray, direction: np.ndarray) -> float:
    """The largest `direction @ y` over the box, by cvxpy and HiGHS."""
    x = cp.Variable(len(lower))
    constraints, sources, low, high = [x >= lower, x <= upper], [x], lower, upper

    def interval(weight, bias):
        up, down = np.maximum(weight, 0.0), np.minimum(weight, 0.0)
        return up @ low + down @ high + bias - 1e-6, up @ high + down @ low + bias + 1e-6

    def value(weight, bias):
        return weight @ cp.hstack(sources) + bias

    for stage in program.stages:
        least, most = interval(stage.weight, stage.bias)
        least, most = np.minimum(least, -1e-6), np.maximum(most, 1e-6)
        z, h = value(stage.weight, stage.bias), cp.Variable(stage.num_neurons)
        on = cp.Variable(stage.num_neurons, boolean=True)
        constraints += [h >= 0, h >= z, h <= cp.multiply(most, on), h <= z - cp.multiply(least, 1 - on)]
        sources.append(h)
        low = np.concatenate([low, np.maximum(least, 0.0)])
        high = np.concatenate([high, most])
    problem = cp.Problem(cp.Maximize(direction @ value(program.out_weight, program.out_bias)), constraints)
    problem.solve(solver=cp.HIGHS, mip_rel_gap=0.0, mip_abs_gap=1e-9, mip_feasibility_tolerance=1e-9)
    assert problem.status == "optimal"
    # The binaries may be off by the feasibility tolerance: the value at the point is that of the network.
    point = np.clip(np.asarray(x.value), lower, upper)
    return float((program(point[None]) @ direction)[0])
