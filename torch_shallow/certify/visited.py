"""Why a network of visited regions is the model wherever it is anything, and is nothing elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int
from torch import nn

from torch_shallow.certify.deep import DeepModel
from torch_shallow.certify.hooks import check_hooks
from torch_shallow.certify.questions import Question, Questions
from torch_shallow.certify.report import Certificate, Check, Failure
from torch_shallow.certify.tally import Tally
from torch_shallow.trace.model_copy import hooked_parts

if TYPE_CHECKING:
    from torch_shallow.shallow.visited.module import VisitedReLU


def certify_visited(
    shallow: VisitedReLU, model: nn.Module, *, sample: int | None, points: int, tolerance: float, seed: int
) -> Certificate:
    """Check a network of visited regions against the model that it was made from.

    Args:
        shallow: the network.
        model: the model; it is not changed.
        sample: number of regions for the checks that cost most (Jacobians, steps to the boundary); all if None.
        points: number of random points.
        tolerance: relative size of a difference that counts as rounding.
        seed: of the random choices.

    Raises:
        TransformError: the model cannot be read, or its input or output has another shape.
    """
    questions = Questions(shallow, DeepModel(model, shallow.neurons.traced))
    found, expected = questions.model.num_neurons, shallow.neurons.num_neurons
    if found != expected:
        failure = Failure(f"the model has {found} ReLUs, the network was made from {expected}")
        checks = [Check("neurons", "the model has the network's ReLUs", "models", 1, 1, None, "", (failure,), 1)]
    else:
        checks = list(_checks(questions, sample, points, tolerance, np.random.default_rng(seed)))
        if hooked_parts(model):
            own = DeepModel(model, shallow.neurons.traced, float64=False)
            checks.append(check_hooks(model, own, shallow.points.cpu().numpy()))
    return Certificate(shallow.extra_repr(), tuple(checks))


def _checks(
    ask: Questions, sample: int | None, points: int, tolerance: float, rng: np.random.Generator
) -> Iterator[Check]:
    shallow = ask.shallow
    regions = np.arange(shallow.num_regions)
    some = regions if sample is None else np.sort(rng.choice(regions, min(sample, len(regions)), replace=False))
    visited, total = shallow.points.cpu().numpy(), len(regions)
    check = partial(_check, ask, tolerance, total)

    yield _check_different(shallow)
    yield check("deep pattern", ask.pattern, visited, regions)
    yield check("located", ask.region, visited, regions)
    yield check("deep Jacobian", ask.weight, visited[some], some)
    yield check("equal, visiting inputs", ask.value, visited, regions)
    if shallow.head is not None:
        yield check("equal behind the head", ask.final_value, visited, regions)

    direction = ask.directions(rng.standard_normal((len(some), visited.shape[1])))
    reach = ask.reach(visited[some], some, direction)
    inner = visited[some] + (rng.uniform(0.1, 0.9, len(some)) * np.minimum(reach, 1e6))[:, None] * direction
    yield check("located, inside", ask.region, inner, some)
    yield check("equal, inside", ask.value, inner, some)
    ends = np.isfinite(reach)
    facets = visited[some[ends]] + reach[ends, None] * direction[ends]
    yield check("equal, facets", ask.value, facets, some[ends])

    beyond = visited[some[ends]] + 1.001 * reach[ends, None] * direction[ends]
    steps = ask.directions(rng.standard_normal((points, visited.shape[1]))) * 10.0 ** rng.integers(-3, 3, (points, 1))
    scattered = np.concatenate([beyond, visited[rng.choice(regions, points)] + steps])
    yield check("known or NaN", ask.elsewhere, scattered, np.full(len(scattered), -1))


def _check(
    ask: Questions,
    tolerance: float,
    total: int,
    name: str,
    question: Question,
    x: Float[np.ndarray, "points inputs"],
    regions: Int[np.ndarray, "points"],
) -> Check:
    """Ask a question of points, a block at a time; each point belongs to a region, or to none (-1)."""
    tally, worst = Tally(), 0.0

    def describe(first: int, wrong: np.ndarray, at: int) -> Failure:
        region, point = int(regions[first + at]), tuple(x[first + at])
        return Failure(f"not so, by a relative {wrong[at]:.3g}", region=None if region < 0 else region, point=point)

    for block in ask.shallow.neurons.blocks(len(x)):
        wrong = np.nan_to_num(question(x[block], regions[block]), nan=np.inf)
        worst = max(worst, float(wrong.max(initial=0.0)))
        tally.add_all(wrong > tolerance, partial(describe, block.start, wrong))
    of_regions = bool((regions >= 0).all())
    return Check(
        name,
        (question.__doc__ or "").strip().rstrip("."),
        "regions" if of_regions else "points",
        len(x),
        total if of_regions else None,
        worst,
        f"{tolerance:.0e}",
        tuple(tally.kept),
        tally.count,
    )


def _check_different(shallow: VisitedReLU) -> Check:
    count = shallow.num_regions
    repeated = count - len(set(map(bytes, shallow.known_patterns.packed.cpu().numpy())))
    failures = (Failure(f"{repeated} patterns occur more than once"),) if repeated else ()
    return Check("different", "no two regions have one pattern", "regions", count, count, None, "", failures, repeated)
