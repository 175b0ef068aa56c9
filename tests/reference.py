"""Obvious, slow enumeration, independent of the package's engines: one scipy program for each partial pattern."""

from __future__ import annotations

import numpy as np
from scipy.optimize import linprog

from torch_shallow.domain import Box, Domain
from torch_shallow.program.relu_program import ReLUProgram


def brute_force_patterns(program: ReLUProgram, domain: Domain, least_radius: float = 1e-6) -> set[tuple[bool, ...]]:
    """Return the patterns of all activation regions: those whose open polyhedron in the domain is not empty.

    Both signs of each neuron are tried in turn; a sign is kept if some point of the domain is further than
    `least_radius` from the hyperplanes of all neurons so far, on the right side of each.
    """
    free = np.ones(program.num_inputs, dtype=bool)
    origin = np.zeros(program.num_inputs)
    if isinstance(domain, Box):
        lower, upper = domain.bounds(program.in_shape)
        free = lower < upper
        origin[~free] = lower[~free]
    a, b = domain.inequalities(program.in_shape)
    a, b = a[:, free], b - a @ origin
    found: set[tuple[bool, ...]] = set()

    def not_empty(half_spaces: list[np.ndarray]) -> bool:
        rows = [np.append(-row[:-1], np.linalg.norm(row[:-1])) for row in half_spaces]
        result = linprog(
            np.append(np.zeros(free.sum()), -1.0),
            A_ub=np.concatenate([np.reshape(rows, (len(rows), free.sum() + 1)), np.column_stack([a, 0.0 * b])]),
            b_ub=np.concatenate([[row[-1] for row in half_spaces], b]),
            bounds=[(None, None)] * int(free.sum()) + [(0.0, 1.0)],
            method="highs",
        )
        return result.status == 0 and result.x[-1] > least_radius

    def try_signs(pattern: tuple[bool, ...], half_spaces: list[np.ndarray]) -> None:
        if len(pattern) == program.num_neurons:
            found.add(pattern)
            return
        padded = np.zeros(program.num_neurons, dtype=bool)
        padded[: len(pattern)] = pattern
        weights, biases, _, _ = program.affine_maps(padded)
        weight, bias = weights[len(pattern)], biases[len(pattern)]
        row = np.append(weight[free], bias + weight @ origin)
        if np.abs(row[:-1]).max(initial=0.0) < 1e-9:  # constant
            try_signs((*pattern, bool(row[-1] > 1e-9)), half_spaces)
            return
        for active in (False, True):
            deeper = [*half_spaces, row if active else -row]
            if not_empty(deeper):
                try_signs((*pattern, active), deeper)

    try_signs((), [])
    return found


def rank(matrix: np.ndarray) -> int:
    """Return the rank of a matrix, also of one without entries (which NumPy before 2.3 does not support)."""
    return int(np.linalg.matrix_rank(matrix)) if matrix.size else 0
