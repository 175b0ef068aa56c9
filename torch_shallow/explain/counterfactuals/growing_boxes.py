"""Counterfactuals of a network that is too large to enumerate: boxes around the input that grow until it is proven."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.export import ExportedProgram

from torch_shallow._transform import transform_all
from torch_shallow.explain.counterfactuals.branch_and_bound import Nearest
from torch_shallow.explain.counterfactuals.constraints import Changes
from torch_shallow.explain.counterfactuals.nearest_search import FAR, NearestSearch
from torch_shallow.explain.function import Function
from torch_shallow.functions.deep_function import DeepFunction

GROWTH = 1.5


def search_boxes(
    model: nn.Module | ExportedProgram,
    function: Function,
    problem: Changes,
    tolerance: float,
    solver: str | None,
) -> tuple[NearestSearch, Nearest, float]:
    """The last search, what it has found, and the radius of its box.

    Whatever is outside a box of radius r in the maximum norm is at least r away, in every norm.

    Raises:
        TransformError: as `transform`.
    """
    # A box that ends before what may be reached begins has nothing in it.
    outside = float(np.maximum(problem.lower, -problem.upper).max(initial=0.0))
    example = None
    if isinstance(model, nn.Module):
        row = torch.from_numpy(problem.x).reshape(1, *function.in_shape)
        example = row.to(next((p for p in model.parameters() if p.is_floating_point()), row))
    radius = max(_first_radius(function, problem), GROWTH * outside)
    reach = float(np.abs(np.concatenate([problem.lower, problem.upper])).max(initial=0.0))
    farthest = FAR * max(1.0, float(np.abs(problem.x[problem.free] * problem.weights).max(initial=0.0)))
    while True:
        last = radius >= min(reach, farthest)
        within = problem if radius >= reach else problem.within(radius)
        box = within.box()
        box.lower, box.upper = (bound.reshape(function.in_shape) for bound in (box.lower, box.upper))
        search = NearestSearch(transform_all(model, example, domain=box).function, within, tolerance, solver)
        near = search.run()
        limit = np.inf if radius >= reach else radius
        if near.found is not None and near.found.distance <= limit:
            return search, near, min(radius, reach)
        if last:
            return search, Nearest(None, -1, min(near.bound, limit)), min(radius, reach)
        # A counterfactual in a corner of the box tells how far to look.
        radius = GROWTH * radius if near.found is None else near.found.distance * (1.0 + 1e-9)


def _first_radius(function: Function, problem: Changes) -> float:
    """Half of the way to the target by the local model at the input."""
    neurons = function.network
    fallback = 1e-2 * max(1.0, float(np.abs(problem.x[problem.free] * problem.weights).max(initial=0.0)))
    if not isinstance(neurons, DeepFunction) or not neurons.differentiates:
        return fallback
    x = torch.from_numpy(problem.x)[None].to(function.device)
    weight, bias = (array[0].cpu().numpy() for array in neurons.gradients(neurons.signs(x)))
    rows = problem.target.rows @ weight
    missing = rows @ problem.x + problem.target.rows @ bias + problem.target.offsets
    slopes = np.abs(rows[:, problem.free] / problem.weights).sum(axis=1)
    ways = missing[(missing > 0.0) & (slopes > 0.0)] / slopes[(missing > 0.0) & (slopes > 0.0)]
    return min(max(0.5 * float(ways.max()), 1e-6 * fallback), 10.0 * fallback) if len(ways) else fallback
