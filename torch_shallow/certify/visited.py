"""Checks that a network of visited regions is the model where it has a value, and NaN elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from torch_shallow.certify.beyond_regions import check_hooks
from torch_shallow.certify.deep_model import DeepModel
from torch_shallow.certify.report import Certificate, Check, Failure, Tally
from torch_shallow.domain import Box
from torch_shallow.functions import VisitedFunction, behind_head
from torch_shallow.program.hooks import hooked_parts

Points = Float[np.ndarray, "points inputs"]
Owners = Int[np.ndarray, "points"]
Answers = Float[np.ndarray, "points"]
Question = Callable[[Points, Owners], Answers]


@dataclass(frozen=True)
class Questions:
    """Questions to be asked at points; the docstring of each is the claim of a check.

    Attributes:
        function: Trunk of the network.
        model: The model.
    """

    function: VisitedFunction
    model: DeepModel

    def pattern(self, x: Points, regions: Owners) -> Answers:
        """The model's ReLUs are active where the region's pattern says so."""
        expected = self.function.patterns(torch.from_numpy(regions)).cpu().numpy()
        differs = (self.model.preactivations(x) > 0.0) != expected
        return (differs & ~self._undecided(x)).any(axis=1).astype(np.float64)

    def region(self, x: Points, regions: Owners) -> Answers:
        """The point is located in its region, or in another one if it is on the boundary."""
        at = self.function.locate(self._tensor(x)).cpu().numpy()
        boundary = (at >= 0) & self._undecided(x).any(axis=1)
        return ((at != regions) & ~boundary).astype(np.float64)

    def weight(self, x: Points, regions: Owners) -> Answers:
        """The model's Jacobian, by automatic differentiation, is the region's weight, unless on the boundary."""
        found = self.function.affine_maps(torch.from_numpy(regions))[0].cpu().numpy()
        expected = self.model.jacobians(x)
        size = np.abs(expected).max(axis=(1, 2), initial=0.0)
        wrong = np.abs(found - expected).max(axis=(1, 2), initial=0.0) / np.where(size > 0.0, size, 1.0)
        return np.where(self._undecided(x).any(axis=1), 0.0, wrong)

    def value(self, x: Points, regions: Owners) -> Answers:
        """The network's output is the model's; the worst difference is relative to 1 + |y|."""
        with torch.no_grad():
            return _difference(self.function(self._tensor(x)), self.model.outputs(x))

    def final_value(self, x: Points, regions: Owners) -> Answers:
        """The network's output behind the head is the model's; the worst difference is relative to 1 + |y|."""
        with torch.no_grad():
            return _difference(behind_head(self.function, self._tensor(x)), self.model.final_outputs(x))

    def elsewhere(self, x: Points, regions: Owners) -> Answers:
        """The network's output is the model's if the model's pattern is known, and NaN if not, unless on a boundary."""
        packed = np.packbits(self.model.preactivations(x) > 0.0, axis=1)
        inside = self.function.domain.contains(torch.from_numpy(x)).numpy()
        known = (self.function.known_patterns.find(packed) >= 0) & inside
        with torch.no_grad():
            y = self.function(self._tensor(x))
        silent = y.isnan().flatten(1).all(1).cpu().numpy()
        wrong = np.where(silent, 0.0, _difference(y, self.model.outputs(x)))
        doubtful = self._undecided(x).any(axis=1)
        return np.where((known == ~silent) | doubtful, wrong, np.inf)

    def directions(self, steps: Points) -> Points:
        """Scale steps to unit length, each input in units of its visiting values' size; fixed inputs do not move."""
        if isinstance(self.function.domain, Box):
            lower, upper = self.function.domain.bounds(self.function.in_shape)
            steps = np.where(lower == upper, 0.0, steps)
        length = np.linalg.norm(steps, axis=1, keepdims=True)
        return self.units * steps / np.where(length > 0.0, length, 1.0)

    @cached_property
    def units(self) -> Float[np.ndarray, "inputs"]:
        """Largest size of each input among the visiting inputs, as a power of two; 1 if that is 0."""
        largest = np.abs(self.function.points.cpu().numpy()).max(axis=0)
        return np.where(largest > 0.0, np.ldexp(1.0, np.frexp(largest)[1] - 1), 1.0)

    def reach(self, x: Points, regions: Owners, direction: Points, scale: float = 2.0**100) -> Answers:
        """Return how far one can go from points of regions until a neuron changes sign or the domain ends.

        Under a region's pattern every neuron is affine, so two runs give its value and slope along a direction.

        Args:
            x: Points.
            regions: Their regions.
            direction: Directions, as returned by `directions`.
            scale: A power of two large enough that biases are lost next to slopes.
        """
        neurons, distances = self.function.deep, np.full(len(x), np.inf)
        a, b = self.function.domain.inequalities(self.function.in_shape)
        for block in neurons.blocks(len(x)):
            active = self.function.patterns(torch.from_numpy(regions[block]))
            runs = (self._rows(rows) for rows in (x[block], scale * direction[block], 0.0 * x[block]))
            with torch.no_grad():
                value, far, bias = (neurons.frozen(rows, active)[0].cpu().numpy() for rows in runs)
            sign = np.where(active.cpu().numpy(), 1.0, -1.0)
            room, speed = sign * value, -sign * (far - bias) / scale
            room = np.concatenate([room, b - x[block] @ a.T], axis=1)
            speed = np.concatenate([speed, direction[block] @ a.T], axis=1)
            hits = np.where(speed > 0.0, np.maximum(room, 0.0) / np.where(speed > 0.0, speed, 1.0), np.inf)
            distances[block] = hits.min(axis=1, initial=np.inf)
        return distances

    def _undecided(self, x: Points) -> Bool[np.ndarray, "points neurons"]:
        return self.function.deep.rounded(self._rows(x)).undecided.cpu().numpy()

    def _rows(self, x: Points) -> Float[Tensor, "points inputs"]:
        return torch.from_numpy(x).to(self.function.device)

    def _tensor(self, x: Points) -> Tensor:
        return self._rows(x).reshape(len(x), *self.function.in_shape)


def _difference(y: Tensor, expected: Float[np.ndarray, "points outputs"]) -> Answers:
    found = y.double().flatten(1).cpu().numpy() if y.dim() > 1 else y.double().cpu().numpy()[:, None]
    with np.errstate(invalid="ignore"):  # infinities, as from log_softmax
        difference = np.where(found == expected, 0.0, np.abs(found - expected))
    size = 1.0 + np.abs(np.where(np.isfinite(expected), expected, 0.0)).max(axis=1, initial=0.0)
    return difference.max(axis=1, initial=0.0) / size


def certify_visited(
    function: VisitedFunction, model: nn.Module, *, sample: int | None, points: int, tolerance: float, seed: int
) -> Certificate:
    """Check a network of visited regions against the model that it was made from.

    Args:
        function: Trunk of the network.
        model: The model; it is not changed.
        sample: Number of regions for the most expensive checks (Jacobians, steps to the boundary); all if None.
        points: Number of random points.
        tolerance: Relative difference that counts as rounding.
        seed: Seed for the random choices.

    Raises:
        TransformError: The model cannot be read, or its input or output has another shape.
    """
    questions = Questions(function, DeepModel(model, function.deep.traced))
    found, expected = questions.model.num_neurons, function.deep.num_neurons
    if found != expected:
        failure = Failure(f"the model has {found} ReLUs, the network was made from {expected}")
        checks = [Check("neurons", "the model has the network's ReLUs", "models", 1, 1, None, "", (failure,), 1)]
    else:
        checks = list(_checks(questions, sample, points, tolerance, np.random.default_rng(seed)))
        if hooked_parts(model):
            own = DeepModel(model, function.deep.traced, float64=False)
            checks.append(check_hooks(model, own, function.points.cpu().numpy()))
    return Certificate(function.describe(), tuple(checks))


def _checks(
    ask: Questions, sample: int | None, points: int, tolerance: float, rng: np.random.Generator
) -> Iterator[Check]:
    function = ask.function
    regions = np.arange(function.num_regions)
    some = regions if sample is None else np.sort(rng.choice(regions, min(sample, len(regions)), replace=False))
    visited, total = function.points.cpu().numpy(), len(regions)
    check = partial(_check, ask, tolerance, total)

    yield _check_different(function)
    yield check("deep pattern", ask.pattern, visited, regions)
    yield check("located", ask.region, visited, regions)
    yield check("deep Jacobian", ask.weight, visited[some], some)
    yield check("equal, visiting inputs", ask.value, visited, regions)
    if function.head is not None:
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
    """Ask a question at points, a block at a time; each point belongs to a region, or to none (-1)."""
    tally = Tally()
    for block in ask.function.deep.blocks(len(x)):
        wrong = np.nan_to_num(question(x[block], regions[block]), nan=np.inf)
        tally.measure(wrong)
        message, places = "false by a relative {:.3g}", {"region": regions[block], "point": x[block]}
        tally.add_where(wrong > tolerance, message, wrong, **places)
    claim, of_regions = (question.__doc__ or "").strip().rstrip("."), bool((regions >= 0).all())
    unit, of_how_many = ("regions", total) if of_regions else ("points", None)
    return tally.check(name, claim, unit, len(x), of_how_many, tolerance)


def _check_different(function: VisitedFunction) -> Check:
    count = function.num_regions
    repeated = count - len(set(map(bytes, function.known_patterns.packed.cpu().numpy())))
    failures = (Failure(f"{repeated} patterns occur more than once"),) if repeated else ()
    return Check("different", "no two regions have one pattern", "regions", count, count, None, "", failures, repeated)
