"""Sufficient conditions for a part of a region, each on a few features.

In coordinates from a point p of the region, whose rows are `a d <= s` with s > 0, each row of more than `max_terms`
features is replaced by a row of the features T that vary most, in which the others are as unfavourable as their
intervals `-down <= d <= up` allow:

    sum over T of a_i d_i  <=  t  =  s - sum over the others of max(a_i up_i, -a_i down_i)

Whatever the intervals are, as long as no t is negative, the new rows and the intervals imply the old row. (With one
term, T is empty and only t >= 0 is required: the result is a box.) The intervals maximise the product of all ups and
downs and of all t, so that p is well inside; this is a concave program.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from torch_shallow.errors import TransformError
from torch_shallow.explain.features import Features
from torch_shallow.explain.locally.rules import Rules, rules_of_half_spaces, rules_of_region
from torch_shallow.explain.locally.seen_facets import point_inside
from torch_shallow.functions import Region
from torch_shallow.functions.points import check_floating
from torch_shallow.functions.shape import RegionHalfSpaces
from torch_shallow.geometry.inequalities import irredundant


def inner_rules(region: Region, features: Features, digits: int, max_terms: int, x: Tensor | None) -> Rules:
    """Find conditions on at most `max_terms` features each that imply those of a region.

    The conditions of the region themselves are returned if they are short enough.

    Args:
        region: the region.
        features: names and units of the inputs.
        digits: significant digits of the numbers in texts.
        max_terms: largest number of features in a condition.
        x: an input that meets the conditions; the interior point of the region if None.

    Raises:
        TransformError: `x` has another shape or is not in the interior of the region, a visited region has no interior,
            or a program cannot be solved.
    """
    whole = rules_of_region(region, features, digits)
    if (np.count_nonzero(np.where(whole.fixed, 0.0, whole.A), axis=1) <= max_terms).all():
        return whole
    a, b = whole.half_spaces.numpy()
    point = point_inside(region, a, b)
    if x is not None:
        point = np.where(whole.fixed, point, _input(x, region.function.in_shape))
    free, rows = ~whole.fixed, a[:, ~whole.fixed].any(axis=1)
    slack = (b - a @ point)[rows]
    if not (slack > 0.0).all():
        raise TransformError(
            "x: expected an input in the interior of the region, found one that violates or just meets "
            f"{int((slack <= 0.0).sum())} of its conditions; leave it out to use the interior point."
        )
    several, rest, reach = inner_rows(a[rows][:, free], slack, max_terms)
    of_several = np.flatnonzero(rows)[np.count_nonzero(a[rows][:, free], axis=1) > 1]
    sides = np.isfinite(reach)
    unit = np.eye(int(free.sum()))
    inner = np.concatenate([several, -unit[sides[0]], unit[sides[1]]])
    room = np.concatenate([rest, reach[0][sides[0]], reach[1][sides[1]]])
    from_row = np.concatenate([of_several, np.full(int(sides.sum()), -1)])
    needed = np.flatnonzero(inner.any(axis=1))
    needed = needed[irredundant(inner[needed], room[needed], np.zeros(inner.shape[1]))]
    inner, room, from_row = inner[needed], room[needed], from_row[needed]
    told = np.zeros((len(inner), len(free)))
    told[:, free] = inner
    neurons, names = whole.half_spaces.neurons.cpu().numpy(), whole.half_spaces.names
    half_spaces = RegionHalfSpaces(
        torch.from_numpy(np.concatenate([told, a[~rows]])),
        torch.from_numpy(np.concatenate([room + told @ point, b[~rows]])),
        torch.from_numpy(np.concatenate([np.where(from_row < 0, -1, neurons[from_row]), neurons[~rows]])),
        (*("interval" if row < 0 else names[row] for row in from_row), *(names[row] for row in np.flatnonzero(~rows))),
    )
    return rules_of_half_spaces(region, half_spaces, features, digits, max_terms)


def _input(x: Tensor, in_shape: tuple[int, ...]) -> Float[np.ndarray, "inputs"]:
    check_floating("x", x)
    if tuple(x.shape) != in_shape:
        raise TransformError(f"x: expected one input of shape {in_shape}, found {tuple(x.shape)}; pass one row, x[0].")
    point: np.ndarray = x.detach().to("cpu", torch.float64).flatten().numpy()
    return point


def inner_rows(
    a: Float[np.ndarray, "rows inputs"], s: Float[np.ndarray, "rows"], max_terms: int
) -> tuple[Float[np.ndarray, "rows inputs"], Float[np.ndarray, "rows"], Float[np.ndarray, "2 inputs"]]:
    """Find rows of few entries, and intervals of single entries, that imply all rows of `a d <= s`.

    Args:
        a: rows, none of them zero.
        s: right-hand sides, all positive.
        max_terms: largest number of entries in a row.

    Returns:
        The replacement of each row of more than one entry (zero where the intervals alone imply it), their right-hand
        sides, and how far down and up each entry may go, infinite where nothing limits it.

    Raises:
        TransformError: the concave program cannot be solved.
    """
    entries = np.count_nonzero(a, axis=1)
    single = entries == 1
    kept = np.where((entries <= max_terms)[:, None], a != 0.0, False) & ~single[:, None]
    reach = _intervals(a, s, kept)
    if max_terms > 1:
        width = np.where(np.isfinite(reach), reach, 0.0).sum(axis=0)
        order = np.argsort(-np.abs(a) * width, axis=1, kind="stable")[:, :max_terms]
        largest = np.zeros_like(kept)
        np.put_along_axis(largest, order, True, axis=1)
        kept = np.where(single[:, None], False, largest & (a != 0.0))
        reach = _intervals(a, s, kept)
    rest = s - _worst(a, reach, kept)
    several = ~single
    return np.where(kept, a, 0.0)[several], rest[several], reach


def _worst(
    a: Float[np.ndarray, "rows inputs"], reach: Float[np.ndarray, "2 inputs"], kept: Bool[np.ndarray, "rows inputs"]
) -> Float[np.ndarray, "rows"]:
    """Largest sum within the intervals of those entries of each row that are not kept."""
    with np.errstate(invalid="ignore"):
        terms = np.where(a > 0.0, a * reach[1], -a * reach[0])
    return np.where(kept | (a == 0.0), 0.0, terms).sum(axis=1)


def _intervals(
    a: Float[np.ndarray, "rows inputs"], s: Float[np.ndarray, "rows"], kept: Bool[np.ndarray, "rows inputs"]
) -> Float[np.ndarray, "2 inputs"]:
    """Find how far down and up each entry may go so that every row holds whatever the entries are that it drops.

    Raises:
        TransformError: the concave program cannot be solved.
    """
    import cvxpy

    cp: Any = cvxpy  # its names have no annotations
    count = a.shape[1]
    free = np.where(kept, 0.0, a) / s[:, None]
    sides = np.concatenate([np.maximum(-free, 0.0), np.maximum(free, 0.0)], axis=1)  # used up by a step down or up
    most = sides.max(axis=0, initial=0.0)
    limited = most > 0.0
    alone = 1.0 / np.where(limited, most, 1.0)  # how far each side may go if no other moves
    steps = cp.Variable(2 * count, nonneg=True)  # as shares of `alone`
    used = (sides * alone) @ steps
    short = np.flatnonzero(kept.any(axis=1) & free.any(axis=1))
    goal = cp.sum(cp.log(steps[np.flatnonzero(limited)])) + (cp.sum(cp.log(1.0 - used[short])) if len(short) else 0.0)
    problem = cp.Problem(cp.Maximize(goal), [used <= 1.0, steps <= 1.0])
    try:
        problem.solve(solver=cp.CLARABEL)
    except cp.SolverError as error:
        raise TransformError(
            "max_terms: expected a program of the intervals that can be solved, found that the solver fails; leave it "
            "out."
        ) from error
    if steps.value is None:
        raise TransformError(
            f"max_terms: expected a program of the intervals that can be solved, found one that ends as "
            f"{problem.status}; leave it out."
        )
    found = np.clip(steps.value, 0.0, 1.0) * alone
    # The result does not rely on the solver: excess is scaled back.
    found *= (1.0 - 1e-12) / max(1.0, float((sides @ found).max(initial=0.0)))
    return np.where(limited, found, np.inf).reshape(2, count)
