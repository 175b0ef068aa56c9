"""Comparison of the network's output with the model's, and the points at which they are compared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int

from torch_shallow.certify.deep_model import ALLOWED, EPSILON, DeepModel
from torch_shallow.certify.examined import Examined
from torch_shallow.certify.report import Check, Tally
from torch_shallow.domain import Box, Polytope, WholeSpace
from torch_shallow.functions import behind_head
from torch_shallow.geometry.highs import minimiser
from torch_shallow.geometry.polyhedron import Polyhedron, polyhedron


@dataclass
class Places:
    """Points of one kind.

    Attributes:
        name: Name of the kind.
        points: The points, as flattened inputs.
        regions: Region from which each point was made; -1 for none.
        unit: What is counted, in the plural.
        examined: Number of units examined.
        total: Number of all units; None if there are infinitely many.
        note: Further remarks.
    """

    name: str
    points: Float[np.ndarray, "points inputs"]
    regions: Int[np.ndarray, "points"]
    unit: str
    examined: int
    total: int | None
    note: str = ""


def interior_points(subject: Examined, regions: Int[np.ndarray, "regions"]) -> Places:
    """Return the interior points of regions."""
    x = subject.function.tree.interior_points(regions)
    return Places("interior points", x, regions, "regions", len(regions), subject.num_regions)


def vertices_and_facets(
    subject: Examined, regions: Int[np.ndarray, "regions"], rng: np.random.Generator, max_rays: int
) -> tuple[Places, Places]:
    """Return the vertices of some regions, and a random point on each of their facets.

    For a region with more than `max_rays` rays, only some are returned: solutions of linear programs.
    """
    corners, faces, in_part = [], [], 0
    most = max(2, min(64, (1 << 25) // max(1, len(regions) * subject.program.num_inputs)))
    chart = subject.chart  # a limit exceeded by the domain is exceeded by all regions
    too_many = chart.num_corners > max_rays or polyhedron(chart.inequalities, max_rays) is None
    for region in regions.tolist():
        half_spaces = subject.half_spaces(region)
        shape = None if too_many else polyhedron(half_spaces, max_rays)
        if shape is None:
            shape, in_part = _part(half_spaces, rng, most), in_part + 1
        corners.append((region, shape.vertices))
        faces.append((region, _on_facets(shape, rng)))
    note = f"only some in {in_part:,} regions of more than {max_rays:,} vertices and rays" * (in_part > 0)
    gathered = []
    for name, parts in (("vertices", corners), ("facets", faces)):
        v = np.concatenate([np.zeros((0, subject.chart.num_coordinates)), *(part for _, part in parts)])
        owners = np.repeat(np.array([region for region, _ in parts], dtype=np.int64), [len(part) for _, part in parts])
        x = subject.chart.lift(v)
        gathered.append(Places(name, x, owners, "regions", len(regions), subject.num_regions, note))
    return gathered[0], gathered[1]


def _part(half_spaces: Float[np.ndarray, "rows homogeneous"], rng: np.random.Generator, most: int) -> Polyhedron:
    """Return up to `most` vertices of a polyhedron, with as many of the half-spaces they lie on in place of facets."""
    minimise, dimension = minimiser(half_spaces), half_spaces.shape[1] - 1
    solutions = [minimise(cost)[0] for cost in rng.standard_normal((min(2 * dimension + 2, most), dimension))]
    vertices = np.array([v for v in solutions if v is not None]).reshape(-1, dimension)
    on = np.abs(half_spaces[:, :-1] @ vertices.T + half_spaces[:, -1:]) <= 1e-9
    none = np.zeros((0, dimension))
    facets = on.any(axis=1)
    facets[rng.permutation(np.flatnonzero(facets))[most:]] = False
    return Polyhedron(vertices, none, none, on, np.zeros((len(on), 0), dtype=bool), facets)


def _on_facets(shape: Polyhedron, rng: np.random.Generator) -> Float[np.ndarray, "facets coordinates"]:
    """Return a random point on each facet: between its vertices, and partly along its rays and lines."""
    facets = np.flatnonzero(shape.facets)
    mix = rng.exponential(size=(len(facets), len(shape.vertices))) * shape.vertex_on[facets]
    along = rng.exponential(size=(len(facets), len(shape.rays))) * shape.ray_on[facets]
    across = rng.standard_normal((len(facets), len(shape.lines)))
    return (mix / mix.sum(axis=1, keepdims=True)) @ shape.vertices + along @ shape.rays + across @ shape.lines


def random_points(subject: Examined, count: int, rng: np.random.Generator) -> Places:
    """Return random points of the domain: steps from random interior points or from 0.

    Their lengths vary from 1e-3 to 1e6 times the length in which the domain or the network measures each input.
    """
    domain, d = subject.function.domain, subject.program.num_inputs
    starts = rng.integers(subject.num_regions, size=count)
    x = subject.function.tree.interior_points(starts)
    if isinstance(domain, WholeSpace):
        x[::2] = 0.0
    lengths = subject.chart.lengths_in(domain, subject.program.in_shape)
    step = rng.standard_normal((count, d)) * np.where(lengths > 0.0, lengths, subject.program.units)
    if isinstance(domain, Box):
        lower, upper = domain.bounds(subject.program.in_shape)
        step[:, lower == upper] = 0.0
    longest = 10.0 ** rng.integers(-3, 7, size=count)
    if isinstance(domain, Box):
        longest = np.minimum(longest, _room(upper - x, step, x - lower) * rng.uniform(size=count))
    elif isinstance(domain, Polytope):
        a, b = domain.inequalities(subject.program.in_shape)
        longest = np.minimum(longest, _room(b - x @ a.T, step @ a.T, np.inf) * rng.uniform(size=count))
    x += longest[:, None] * step
    return Places("random points", x, np.full(count, -1), "points", count, None)


def _room(
    above: Float[np.ndarray, "points rows"], speed: Float[np.ndarray, "points rows"], below: np.ndarray | float
) -> Float[np.ndarray, "points"]:
    """Return how long each point can move until a value with these distances from its bounds reaches one."""
    distance = np.maximum(np.where(speed > 0.0, above, below), 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(speed != 0.0, distance / np.abs(speed), np.inf).min(axis=1, initial=np.inf)


EPSILON_32 = float(np.finfo(np.float32).eps)


def check_equality(subject: Examined, model: DeepModel, places: Places) -> Check:
    """Compare the network's output with the model's in float64, up to the rounding of model and composed maps."""
    terms = subject.program.slope_terms

    def compare(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        found, expected = subject.evaluate(x), model.outputs(x)
        allowed = subject.tolerance * (1.0 + np.abs(expected)) + subject.known_error(x)
        _, rounding = model.rounding(x, ~(np.abs(found - expected) <= allowed).all(axis=1))
        return found, expected, allowed + ALLOWED * EPSILON * (rounding + np.abs(x) @ terms.T)

    return _check(subject, places, compare, f"equal, {places.name}", subject.tolerance)


def check_float32(subject: Examined, model: DeepModel, deep: DeepModel, places: Places) -> Check:
    """Compare the network's output with the model's in float32, up to the rounding that float32 makes on the way.

    Args:
        subject: The network.
        model: The model, in its own precision.
        deep: The model in float64, which tells the size of rounding errors.
        places: Points at which to compare.
    """

    def compare(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        _, rounding = deep.rounding(x)
        return subject.evaluate(x), model.outputs(x), ALLOWED * EPSILON_32 * rounding

    rounded = replace(places, points=places.points.astype(np.float32))
    return _check(subject, rounded, compare, f"equal in float32, {places.name}", "rounding")


Comparison = tuple[
    Float[np.ndarray, "points outputs"], Float[np.ndarray, "points outputs"], Float[np.ndarray, "points outputs"]
]


def _check(
    subject: Examined,
    places: Places,
    compare: Callable[[Float[np.ndarray, "points inputs"]], Comparison],
    name: str,
    limit: float | str,
) -> Check:
    """Compare at the points located in a region: all, unless the network is incomplete."""
    tally, count, compared = Tally(), len(places.points), 0
    for block in subject.blocks(np.arange(count), 4 * (subject.program.num_inputs + subject.program.num_neurons)):
        x = places.points[block]
        # In a single tensor, as rounding places points on a boundary, and may depend on the rest of the batch.
        located = np.full(len(x), subject.function.complete) | (subject.locate(x) >= 0)
        found, expected, allowed = (values[located] for values in compare(x))
        difference = np.abs(found - expected)
        relative = np.nan_to_num(difference / (1.0 + np.abs(expected)), nan=np.inf)
        tally.measure(relative)
        wrong = ~(difference <= allowed)
        output = np.where(wrong, relative, 0.0).argmax(axis=1)
        every = np.arange(len(found))
        x, owners, compared = x[located], places.regions[block][located], compared + len(found)
        values = output, found[every, output], expected[every, output]
        message = "output {} is {:.12g}, the model's is {:.12g}"
        tally.add_where(wrong.any(axis=1), message, *values, region=owners, point=x)
    notes = [f"{compared:,} points"] * (compared != places.examined and places.total is not None)
    notes += [places.note] * bool(places.note)
    notes += [f"{count - compared:,} other points lie in unexplored cells"] * (compared < count)
    claim = "the network's output is the model's; the worst difference is relative to 1 + |y|"
    examined = compared if places.total is None else places.examined
    return tally.check(name, claim, places.unit, examined, places.total, limit, ", ".join(notes))


def check_head(subject: Examined, model: DeepModel, places: Places, limit: float = 1e-6) -> Check:
    """Compare the network's output behind the head with the model's.

    Args:
        subject: The network.
        model: The model.
        places: Points at which to compare.
        limit: Greatest error, relative to 1 + |y|, that a head may make of the rounding of its input.
    """
    tally = Tally()
    for block in subject.blocks(np.arange(len(places.points)), 4 * (subject.program.num_inputs + model.num_neurons)):
        x, regions = places.points[block], places.regions[block]
        expected = model.final_outputs(x)
        with torch.no_grad():
            found = behind_head(subject.function, subject.tensor(x)).double().reshape(expected.shape).cpu().numpy()
        with np.errstate(invalid="ignore"):  # infinities, as from log_softmax
            wrong = np.where(found == expected, 0.0, np.abs(found - expected) / (1.0 + np.abs(expected)))
        wrong = np.nan_to_num(wrong, nan=np.inf).max(axis=1, initial=0.0)
        tally.measure(wrong)
        message = "the output differs from the model's by a relative {:.3g}"
        tally.add_where(wrong > limit, message, wrong, region=regions, point=x)
    name = f"equal behind the head, {places.name}"
    claim = "the network's output, head included, is the model's; the worst difference is relative to 1 + |y|"
    return tally.check(name, claim, places.unit, places.examined, places.total, limit)
