"""Move from an approximate point to the best point of its activation region, by a linear program."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from torch_shallow.domain import Box
from torch_shallow.geometry.highs import linear_program, solve
from torch_shallow.geometry.units import exponents_of, row_exponents
from torch_shallow.search.question import Posed

NUDGES = (0.0, 1e-9, 1e-7)  # how far inside the constraints points are sought, relative to the constraints' terms


def points_of_region(posed: Posed, x: Float[np.ndarray, "inputs"]) -> list[Float[np.ndarray, "inputs"]]:
    """Return a point clipped to the box of the domain, and the best points of its region, some just inside constraints.

    Everything is affine in an activation region, so a linear program finds the best point there. A solver's point may
    violate domain and constraints by its tolerances; one of the returned points lies inside.
    """
    program, domain, goals = posed.program, posed.domain, posed.num_goals
    rows, sides = np.zeros((0, len(x))), np.zeros(0)
    low, high = np.full(len(x), -np.inf), np.full(len(x), np.inf)
    if isinstance(domain, Box):
        low, high = domain.bounds(program.in_shape)
    else:
        rows, sides = domain.inequalities(program.in_shape)
    points = [np.clip(x, low, high)]
    pattern = program.pattern(points[0][None])[0]
    weights, biases, out_weight, out_bias = program.affine_maps(pattern)
    signs = np.where(pattern, 1.0, -1.0)
    normals = np.concatenate([signs[:, None] * weights, -rows, out_weight[goals:], out_weight[:goals]])
    constants = np.concatenate([signs * biases, sides, out_bias[goals:], out_bias[:goals]])
    # Rows over [step; the least goal], relative to the point, each of size about 1.
    values = normals @ points[0] + constants
    units = np.ldexp(1.0, exponents_of(np.where(x != 0.0, x, 1.0)))
    normals = normals * units
    sizes = np.ldexp(1.0, row_exponents(normals))
    sizes[len(sizes) - goals :] = sizes[len(sizes) - goals :].max()
    least_goal = np.append(np.zeros(len(sizes) - goals), np.ones(goals))
    lifted = np.column_stack([normals / sizes[:, None], -least_goal])
    kept = np.append(np.zeros(len(sizes) - len(out_bias)), np.append(np.ones(len(out_bias) - goals), np.zeros(goals)))
    bounds = np.append((low - points[0]) / units, -np.inf), np.append((high - points[0]) / units, np.inf)
    options = {"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10}
    for nudge in NUDGES if len(out_bias) > goals else NUDGES[:1]:
        highs = linear_program(lifted, (nudge * kept - values / sizes, np.inf), bounds, options)
        if solve(highs, np.append(np.zeros(len(x)), -1.0)) == "":
            step = np.array(highs.getSolution().col_value)[:-1]
            points.append(np.clip(points[0] + units * step, low, high))
    return points
