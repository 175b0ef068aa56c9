"""Checks, in order, that a network is the model and that its regions are all regions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import nn
from torch.export import ExportedProgram

from torch_shallow.certify.beyond_regions import POINTS, check_hooks, check_stable_neurons, check_unexplored
from torch_shallow.certify.deep_model import DeepModel
from torch_shallow.certify.equality import (
    check_equality,
    check_float32,
    check_head,
    interior_points,
    random_points,
    vertices_and_facets,
)
from torch_shallow.certify.examined import Examined, check_tree
from torch_shallow.certify.proven_error import check_error
from torch_shallow.certify.report import Certificate, Check
from torch_shallow.certify.visited import certify_visited
from torch_shallow.errors import TransformError, WrongTypeError
from torch_shallow.functions import TreeFunction, VisitedFunction
from torch_shallow.modes import outside_modes
from torch_shallow.program.extraction import read_within
from torch_shallow.program.hooks import hooked_parts
from torch_shallow.program.model_copy import check_model
from torch_shallow.search.partition import activation_partition


@outside_modes
@torch.no_grad()  # local models may be parameters
def certify(
    shallow: TreeFunction | VisitedFunction | nn.Module,
    model: nn.Module | ExportedProgram,
    *,
    sample: int | None = None,
    cells: int | None = None,
    points: int = 10_000,
    tolerance: float = 1e-9,
    max_rays: int = 1024,
    seed: int = 0,
) -> Certificate:
    """Check a shallow network against the model that it was made from.

    The model is read again, and the check `proven error` bounds |network - model| at every point of the known regions:
    multipliers prove the sign of each neuron on each cell, or how far it is from having it, and the local models are
    compared in twice the precision, rounded outward. The check `tree` shows that the cuts split the domain into one
    cell for each region, so that the results for all cells hold everywhere. The other checks run the model itself, at
    interior points of all regions and at random points. For a large network in a box, the proof covers only the neurons
    that can change sign there; that the others cannot follows from bounds found when the model is read, and the check
    `stable neurons` confirms it at points of the box.

    With `sample`, nothing is proven: on that many regions, linear programs look for neurons with the wrong sign, and
    outputs are compared at vertices and on facets; cells are recomputed by another method.

    For an incomplete network, the only claim about unexplored cells is that the output is NaN there; the check
    `known or NaN` tests it at random points.

    Args:
        shallow: The network, or its `function`.
        model: The model; it is not changed.
        sample: Number of regions for linear programs (at most 20,000 in all), vertices and facets. By default (None),
            the error is proven on all regions instead. For a network of visited regions: number of regions for the most
            expensive checks; all if None.
        cells: With `sample`, number of regions whose cells are recomputed; all if None.
        points: Number of random points.
        tolerance: Relative difference that counts as rounding.
        max_rays: With `sample`, cells with more rays are examined by linear programs, and only some of their vertices
            are visited.
        seed: Seed for the random choices.

    Returns:
        The certificate. Failed checks are recorded in it and do not raise; `Certificate.require` raises if there are
        any.

    Raises:
        WrongTypeError: `shallow` is not a network of regions.
        TransformError: The model cannot be read, its input or output has another shape, or `cells` is given without
            `sample`.

    Example:
        >>> import torch, torch_shallow
        >>> from torch import nn
        >>> from torch_shallow.certify import certify
        >>> model = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 1))
        >>> shallow = torch_shallow.transform(model)
        >>> certify(shallow, model).passed
        True
    """
    if sample is None and cells is not None:
        raise TransformError(
            f"cells: expected only together with sample, found {cells!r} without it; leave it out, since without "
            "sample the error is proven on all cells."
        )
    model = check_model(model)
    function = shallow.function if isinstance(shallow, nn.Module) and hasattr(shallow, "function") else shallow
    if not isinstance(function, TreeFunction | VisitedFunction):
        raise WrongTypeError(
            f"shallow: expected a shallow network, found {type(shallow).__name__}; use transform(model)."
        )
    if isinstance(function, VisitedFunction):
        return certify_visited(function, model, sample=sample, points=points, tolerance=tolerance, seed=seed)
    deep = DeepModel(model, activation_partition(function.tree).program)
    tree, paths = check_tree(function)
    checks = [tree]
    if paths is not None:
        subject = Examined(function, paths, tolerance)
        single = DeepModel(model, subject.program, float64=False) if _is_float32(model) else None
        if hooked_parts(model):
            own = single or DeepModel(model, subject.program, float64=False)
            some = subject.sample(POINTS, np.random.default_rng(seed))
            checks.append(check_hooks(model, own, subject.partition.interior_points(some)))
        rng = np.random.default_rng(seed)
        checks += _checks(subject, deep, single, rng, sample, cells, points, max_rays)
    if not function.complete:
        checks = [replace(check, unit="known regions") if check.unit == "regions" else check for check in checks]
    return Certificate(function.describe(), tuple(checks))


def _checks(
    subject: Examined,
    deep: DeepModel,
    single: DeepModel | None,
    rng: np.random.Generator,
    sample: int | None,
    cells: int | None,
    points: int,
    max_rays: int,
) -> Iterator[Check]:
    # Compiled code is imported when it is used.
    from torch_shallow.certify.cells import check_cells, check_programs
    from torch_shallow.certify.interior import check_interior_points, check_jacobians, check_patterns

    inside = interior_points(subject, np.arange(subject.num_regions))
    scattered = random_points(subject, points, rng)
    if sample is None:
        program = subject.program if subject.program.whole else read_within(deep.traced, subject.function.domain)
        proven_error, subject = check_error(subject, program, [inside, scattered])
        yield proven_error
    yield check_interior_points(subject)
    yield check_patterns(subject, deep)
    yield check_jacobians(subject, deep)
    if sample is not None:
        yield check_cells(subject, subject.sample(cells, rng), max_rays)
        regions = subject.sample(sample, rng)
        most = max(1, 20_000 // max(1, subject.program.num_neurons))
        yield check_programs(subject, regions[:: -(-len(regions) // most)])
        for places in vertices_and_facets(subject, regions, rng, max_rays):
            yield check_equality(subject, deep, places)
    yield check_equality(subject, deep, inside)
    if subject.function.head is not None:
        yield check_head(subject, deep, inside)
    yield check_equality(subject, deep, scattered)
    if not subject.function.complete and deep.num_neurons == len(subject.program.network.active):
        yield check_unexplored(subject, deep, scattered)
    if subject.program.whole is not None and deep.num_neurons == len(subject.program.network.active):
        yield check_stable_neurons(subject, deep, scattered, rng)
    if single is not None:
        yield check_float32(subject, single, deep, scattered)


def _is_float32(model: nn.Module) -> bool:
    return next((tensor.dtype for tensor in model.parameters()), torch.float64) == torch.float32
