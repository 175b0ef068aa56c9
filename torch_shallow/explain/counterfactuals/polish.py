"""Rounding of a counterfactual to the dtype of the input, such that it still reaches the target."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from torch_shallow.explain.counterfactuals.branch_and_bound import Nearest
from torch_shallow.explain.counterfactuals.constraints import Changes

if TYPE_CHECKING:
    from torch_shallow.explain.counterfactuals.deep_search import DeepSearch
    from torch_shallow.explain.counterfactuals.nearest_search import NearestSearch

MOST = 1e-4  # how far the target is moved at most, relative to the terms that it is summed from


class Polished(NamedTuple):
    """An input in its final dtype.

    Attributes:
        x: the flattened input, in the dtype of the user's input.
        distance: distance of this rounded input.
        excess: by how much its output misses the target.
    """

    x: Float[Tensor, "inputs"]
    distance: float
    excess: float


def polished(
    search: NearestSearch | DeepSearch, near: Nearest, evaluate: Callable[[Tensor], np.ndarray], dtype: torch.dtype
) -> Polished | None:
    """Find the nearest input in a dtype that reaches the target; None if the search found nothing.

    The nearest point is on the boundary of the target, where rounding may put it on the wrong side. The target is moved
    inwards, further and further, until it is reached.
    """
    problem, found = search.problem, near.found
    if found is None:
        return None
    unit = torch.finfo(dtype).eps
    sizes = np.abs(problem.x[problem.free] * problem.weights)
    first = attempt(problem, found.point, evaluate, dtype)
    shares = [4.0**k * 2.0**-53 for k in range(60) if 4.0**k * 2.0**-53 <= max(MOST, 16.0 * unit)]
    for share in (0.0, *shares):
        for cells in (False, True):
            point = found.point if share == 0.0 else search.inner(near, share, sizes, cells)
            if point is None:
                continue
            candidate = attempt(problem, point, evaluate, dtype)
            rounded = (candidate.x.double().numpy() - problem.x)[problem.free] * problem.weights
            if candidate.excess <= 0.0 and problem.allows(rounded, 4.0 * unit):
                return candidate
            if share == 0.0:
                break
    return first


def attempt(
    problem: Changes,
    point: Float[np.ndarray, "dimension"],
    evaluate: Callable[[Tensor], np.ndarray],
    dtype: torch.dtype,
) -> Polished:
    """Round a point to an input in a dtype, and evaluate it."""
    x = torch.from_numpy(problem.lift(np.clip(point, problem.lower, problem.upper))).to(dtype)
    # Entries that rounding puts beyond an end of their range go back by one unit in the last place.
    if dtype == torch.float32:
        free = torch.from_numpy(problem.free)
        low, high = (torch.from_numpy(end) for end in problem.ends)
        moved, entries = torch.from_numpy(point != 0.0) & (low < high), x[free]
        entries = torch.where(moved & (entries.double() > high), entries.nextafter(torch.tensor(-torch.inf)), entries)
        entries = torch.where(moved & (entries.double() < low), entries.nextafter(torch.tensor(torch.inf)), entries)
        x[free] = entries
    rounded = x.double()
    output = evaluate(rounded)
    excess = np.inf if np.isnan(output).any() else problem.target.excess(output)
    return Polished(x, problem.distance(rounded.numpy()), excess)
