"""Reference that knows no regions: a network in a box as a big-M mixed-integer program of cvxpy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cvxpy
import numpy as np
import torch
from torch import Tensor, nn

from torch_shallow.program.model import read_model
from torch_shallow.program.relu_program import ReLUProgram

cp: Any = cvxpy  # mypy finds no functions in it


def encoded(program: ReLUProgram, x: cvxpy.Variable, lower: np.ndarray, upper: np.ndarray) -> tuple[Any, list[Any]]:
    """Return the output at `x` in the box, and the constraints that define it, with a binary variable for each ReLU."""
    constraints, sources, low, high = [x >= lower, x <= upper], [x], lower, upper

    def interval(weight: np.ndarray, bias: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        up, down = np.maximum(weight, 0.0), np.minimum(weight, 0.0)
        return up @ low + down @ high + bias - 1e-6, up @ high + down @ low + bias + 1e-6

    def value(weight: np.ndarray, bias: np.ndarray) -> Any:
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
    return value(program.out_weight, program.out_bias), constraints


def largest_by_milp(program: ReLUProgram, lower: np.ndarray, upper: np.ndarray, direction: np.ndarray) -> float:
    """Return the largest `direction @ y` over the box."""
    x = cp.Variable(len(lower))
    y, constraints = encoded(program, x, lower, upper)
    problem = cp.Problem(cp.Maximize(direction @ y), constraints)
    problem.solve(solver=cp.HIGHS, mip_rel_gap=0.0, mip_abs_gap=1e-9, mip_feasibility_tolerance=1e-9)
    assert problem.status == "optimal"
    # Binaries may be off by the feasibility tolerance, so the value is computed by the network at the point.
    point = np.clip(np.asarray(x.value), lower, upper)
    return float((program(point[None]) @ direction)[0])


def milp_distance(
    model: nn.Module,
    x: Tensor,
    rows: np.ndarray,
    offsets: np.ndarray,
    norm: float,
    reach: float,
    constraints: Callable[[Any], list[Any]] | None = None,
) -> float:
    """Return the distance from `x` to the nearest input within `reach` with `rows @ output + offsets <= 0`, or inf.

    `constraints` makes further constraints on the input variable.
    """
    center, point = x.numpy(), cp.Variable(len(x))
    y, limits = encoded(read_model(model), point, center - reach, center + reach)
    limits += [rows @ y + offsets <= 0, *(constraints(point) if constraints else [])]
    cost = cp.norm(point - center, "inf" if norm == np.inf else norm)
    problem = cp.Problem(cp.Minimize(cost), limits)
    tight = {"mip_feasibility_tolerance": 1e-9, "primal_feasibility_tolerance": 1e-9}
    problem.solve(solver=cp.HIGHS, mip_rel_gap=1e-9, **tight)
    return float(problem.value) if problem.status in ("optimal", "optimal_inaccurate") else np.inf


def class_rows(chosen: int, outputs: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of a class."""
    return np.delete(np.eye(outputs) - np.eye(outputs)[chosen], chosen, axis=0), np.zeros(outputs - 1)


def other_class(model: nn.Module, x: Tensor) -> int:
    """Return a class other than that of `x`."""
    with torch.no_grad():
        output = model(x)
    return (int(output.argmax()) + 1) % len(output)
