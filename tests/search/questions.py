"""Questions about small networks, and their answers by examining every region."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.optimize import linprog

from torch_shallow.domain import Box, Domain, Polytope
from torch_shallow.program.relu_program import ReLUProgram, Stage
from torch_shallow.search.enumerate import enumerate_regions
from torch_shallow.search.question import Posed


def asked(program: ReLUProgram, domain: Domain, outputs: list[int], num_goals: int) -> Posed:
    """Return the question of some outputs of a program: goals first, then constraints."""
    weight, bias = program.out_weight[outputs], program.out_bias[outputs]
    return Posed(replace(program, out_weight=weight, out_bias=bias, out_shape=(len(outputs),)), domain, num_goals)


def random_question(seed: int) -> Posed:
    """Return a small question of any kind: freely connected stages, whole numbers, equal neurons, fixed inputs."""
    rng = np.random.default_rng(seed)
    inputs, sizes = int(rng.integers(1, 5)), rng.integers(1, 6, size=int(rng.integers(0, 4)))
    stages, sources = list[Stage](), inputs
    for s, size in enumerate(sizes):
        weight, bias = rng.normal(size=(size, sources)), rng.normal(size=size) * rng.choice([0, 1])
        if rng.random() < 0.6 and s > 0:
            weight[:, : sources - sizes[s - 1]] = 0.0
        if rng.random() < 0.3:
            weight[rng.random(weight.shape) < 0.4] = 0.0
        if rng.random() < 0.2:
            weight = np.round(weight)
        if rng.random() < 0.15 and size > 1:
            weight[1], bias[1] = weight[0], bias[0]
        stages.append(Stage(f"{s}", weight, bias))
        sources += int(size)
    outputs = int(rng.integers(1, 4))
    num_goals = int(rng.integers(1, outputs + 1))
    out = rng.normal(size=(outputs, sources)), rng.normal(size=outputs)
    program = ReLUProgram((inputs,), (outputs,), tuple(stages), *out)
    if rng.random() < 0.7:
        lower, upper = -rng.random(inputs) * 2, rng.random(inputs) * 2
        if inputs > 1 and rng.random() < 0.3:
            upper[0] = lower[0] = rng.normal()
        return Posed(program, Box(lower, upper), num_goals, slack=1e-9)
    normals = np.vstack([np.eye(inputs), -np.eye(inputs), rng.normal(size=(2, inputs))])
    sides = np.concatenate([np.ones(2 * inputs), rng.random(2) + 0.1])
    return Posed(program, Polytope(normals, sides), num_goals, slack=1e-9)


def greatest_of_regions(posed: Posed) -> float:
    """Return the answer by a linear program in each region; -inf if there is no point."""
    program, best = posed.program, -np.inf
    partition = enumerate_regions(program, posed.domain)
    rows, sides = posed.domain.inequalities(program.in_shape)
    fixed = getattr(posed.domain, "bounds", lambda _: (None, None))(program.in_shape)
    for pattern in partition.patterns():
        weights, biases, out_weight, out_bias = program.affine_maps(pattern)
        signs, goals = np.where(pattern, 1.0, -1.0), posed.num_goals
        normals = np.concatenate([-signs[:, None] * weights, rows, -out_weight[goals:], -out_weight[:goals]])
        limits = np.concatenate([signs * biases, sides, out_bias[goals:], out_bias[:goals]])
        least = np.append(np.zeros(len(limits) - goals), np.ones(goals))
        bounds = [(None, None)] * (program.num_inputs + 1)
        if fixed[0] is not None:
            bounds[:-1] = list(zip(*fixed, strict=True))
        found = linprog(np.append(np.zeros(program.num_inputs), -1.0), np.column_stack([normals, least]), limits,
                        bounds=bounds, method="highs-ds")  # fmt: skip
        if found.status == 0:
            best = max(best, -found.fun)
    return float(best)
