"""Least and greatest value of each input in a bounded domain."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from torch_shallow.domain import Box, Domain
from torch_shallow.errors import TransformError
from torch_shallow.geometry.highs import Minimiser, minimiser
from torch_shallow.geometry.units import row_exponents, typical_lengths


def bounding_box(
    domain: Domain, in_shape: tuple[int, ...]
) -> tuple[Float[np.ndarray, "inputs"], Float[np.ndarray, "inputs"]]:
    """Return bounds of each entry of the flattened input: those of a `Box`, or proven ones of a polytope.

    The bounds of a polytope `A x <= b` come from linear programs, in typical lengths of the inputs. Their multipliers
    y >= 0 leave a rest r = e - A'y of an axis e, so that e x <= y b + |r| |x|, with |x| the greatest entry and |r| the
    sum of all. For all axes together, |x| is at most the greatest y b over 1 minus the greatest |r|. This proves the
    bounds, and that they exist.

    Raises:
        TransformError: The domain is not bounded, or a polytope is empty.
    """
    size = int(np.prod(in_shape, dtype=np.int64))
    if isinstance(domain, Box):
        lower, upper = domain.bounds(in_shape)
        endless = np.flatnonzero(~np.isfinite(lower) | ~np.isfinite(upper))
        if len(endless):
            raise TransformError(_without_bound(domain, int(endless[0]), size))
        return lower, upper
    normals, offsets = domain.inequalities(in_shape)
    if len(offsets) == 0:
        raise TransformError(_without_bound(domain, 0, size))
    units = typical_lengths(normals, offsets)  # powers of two, so that nothing is rounded
    normals = normals * units
    rows = row_exponents(np.column_stack([normals, offsets]))
    normals, offsets = np.ldexp(normals, -rows[:, None]), np.ldexp(offsets, -rows)
    minimise = minimiser(np.column_stack([-normals, offsets]))
    found = np.stack(
        [_axis_bound(domain, normals, offsets, axis, sign, minimise) for axis in range(size) for sign in (-1, 1)]
    )
    values, rests = found[:, 0], found[:, 1]
    if rests.max() > 1e-3:
        raise TransformError(_without_bound(domain, int(rests.argmax()) // 2, size))
    reach = max(float(values.max()), 0.0) / (1.0 - float(rests.max()))
    ends = values + rests * reach
    return -ends[0::2] * units, ends[1::2] * units


def is_bounded(domain: Domain, in_shape: tuple[int, ...]) -> bool:
    """Return whether a domain is proven to be bounded."""
    try:
        bounding_box(domain, in_shape)
    except TransformError:
        return False
    return True


def _axis_bound(
    domain: Domain,
    normals: Float[np.ndarray, "rows inputs"],
    offsets: Float[np.ndarray, "rows"],
    axis: int,
    sign: int,
    minimise: Minimiser,
) -> tuple[float, float]:
    """Return the multipliers' bound `y b` of an axis in one direction, widened for rounding, and the rest's size."""
    target = np.zeros(normals.shape[1])
    target[axis] = sign
    point, multipliers = minimise(-target)
    if point is None:
        multipliers = _multipliers(domain, normals, offsets, axis, target)
    rounding = 2.0 * (len(offsets) + 4) * np.finfo(np.float64).eps
    value = multipliers @ offsets + rounding * (multipliers @ np.abs(offsets))
    rest = np.abs(target - multipliers @ normals) + rounding * (np.abs(target) + multipliers @ np.abs(normals))
    return float(value), float(rest.sum())


def _multipliers(
    domain: Domain,
    normals: Float[np.ndarray, "rows inputs"],
    offsets: Float[np.ndarray, "rows"],
    axis: int,
    target: Float[np.ndarray, "inputs"],
) -> Float[np.ndarray, "rows"]:
    """Compute the multipliers of an axis by SciPy, which explains failures, if HiGHS did not find them directly."""
    from scipy.optimize import linprog  # slow to import

    solution = linprog(-target, A_ub=normals, b_ub=offsets, bounds=(None, None), method="highs-ds")
    if solution.status == 2:
        raise TransformError("domain: the polytope is empty: no point satisfies A x <= b; relax b.")
    if solution.status != 0:
        raise TransformError(_without_bound(domain, axis, len(target)))
    return np.maximum(-solution.ineqlin.marginals, 0.0)


def _without_bound(domain: Domain, entry: int, size: int) -> str:
    return (
        f"domain: expected a bounded Box or Polytope, found {domain!r}, in which entry {entry} of the {size} entries "
        "of an input has no bound; give every entry a lower and an upper bound."
    )
