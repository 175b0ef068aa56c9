"""The nearest point of an activation region in which a class wins, by a quadratic program."""

from __future__ import annotations

import numpy as np

from torch_shallow.explain.radius.surroundings import Surroundings, Vector
from torch_shallow.program.relu_program import ReLUProgram


def nearest_of_region(program: ReLUProgram, within: Surroundings, u: Vector) -> Vector | None:
    """The point nearest to 0 in the L2 norm of the region of a point, where the output is not negative.

    Args:
        program: with one output, of inputs u.
        within: where to look.
        u: a point of the region.

    Returns:
        None if the program is not settled.
    """
    from torch_shallow.geometry.nearest_point import NEAREST, project, quadratic  # numba takes a while

    pattern = program.pattern(u[None])[0]
    weights, biases, out_weight, out_bias = program.affine_maps(pattern)
    signs = np.where(pattern, -1.0, 1.0)
    rows = np.concatenate([signs[:, None] * weights, -out_weight, within.normals])
    limits = np.concatenate([-signs * biases, out_bias, within.offsets])
    sizes = np.linalg.norm(rows, axis=1)
    kept = sizes > 0.0
    rows, limits = rows[kept] / sizes[kept, None], limits[kept] / sizes[kept]
    work = quadratic(len(u), max(1, len(rows)))
    work.rows[: len(rows)], work.rhs[: len(rows)] = rows, limits
    if project(work, len(rows), within.lower, within.upper, np.inf) != NEAREST:
        return None
    return np.clip(work.point, within.lower, within.upper)
