"""Questions of small networks, and their answers by looking at every region."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.optimize import linprog

from torch_shallow.domain import Domain
from torch_shallow.program.relu_program import ReLUProgram
from torch_shallow.search.enumerate import enumerate_regions
from torch_shallow.search.question import Posed


def asked(program: ReLUProgram, domain: Domain, outputs: list[int], num_goals: int) -> Posed:
    """The question of some outputs of a program: goals first, then constraints."""
    weight, bias = program.out_weight[outputs], program.out_bias[outputs]
    return Posed(replace(program, out_weight=weight, out_bias=bias, out_shape=(len(outputs),)), domain, num_goals)


def greatest_of_regions(posed: Posed) -> float:
    """The answer: of each region, by a linear program; -inf where there is no point."""
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
