"""Units do not matter: with inputs in other units, everything is the same, or follows by the units; bit for bit.

The units are powers of two, so that rounding is the same. Likewise for the scale of neurons, and for the order of both.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.cases import thinned
from torch_shallow import AtMost, Box, Polytope, ShallowReLU, ask, explain, transform, verify
from torch_shallow.certify import certify
from torch_shallow.domain import Domain, WholeSpace
from torch_shallow.explain.counterfactuals import AtLeast
from torch_shallow.geometry.units import lengths_around, typical_lengths

SEEDS = thinned(range(500), *map(str, range(0, 500, 50)))
FEW = thinned(range(500), *map(str, range(7, 500, 100)))
ASKED = thinned(range(500), "208", *map(str, range(7, 500, 100)))


class Scaled(nn.Module):
    """A network of inputs in other units."""

    def __init__(self, net: nn.Module, units: np.ndarray) -> None:
        super().__init__()
        self.net = net
        self.register_buffer("units", torch.from_numpy(units))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x * self.units)


@dataclass
class Case:
    """A random network on a random domain, and units for its inputs."""

    net: nn.Sequential
    domain: Callable[[np.ndarray], Domain]
    units: np.ndarray
    rng: np.random.Generator

    def shallow(self, units: np.ndarray | None = None) -> ShallowReLU:
        units = np.ones(len(self.units)) if units is None else units
        model = Scaled(self.net, units)
        return transform(model, torch.zeros(1, len(units)).double(), domain=self.domain(units))

    def both(self) -> tuple[ShallowReLU, ShallowReLU]:
        return self.shallow(), self.shallow(self.units)


def case_of(seed: int, kinds: tuple[str, ...] = ("R^n", "box", "half-bounded", "polytope", "cone")) -> Case:
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    d = n = int(rng.integers(1, 5))
    layers: list[nn.Module] = []
    if rng.random() < 0.3 and d > 1:  # there are directions along which nothing changes
        layers.append(nn.Linear(d, n := d - 1))
    bias = bool(rng.random() < 0.7)
    for _ in range(rng.integers(1, 3)):
        layers += [nn.Linear(n, n := int(rng.integers(2, 6)), bias=bias), nn.ReLU()]
    layers.append(nn.Linear(n, int(rng.integers(1, 3))))
    return Case(nn.Sequential(*layers).double(), domain_of(rng, d, str(rng.choice(kinds))), units_of(rng, d), rng)


def units_of(rng: np.random.Generator, d: int) -> np.ndarray:
    return 2.0 ** rng.integers(-40, 41, d)


def domain_of(rng: np.random.Generator, d: int, kind: str) -> Callable[[np.ndarray], Domain]:
    """The same domain in any units."""
    lower, upper = -0.1 - rng.exponential(size=d), 0.1 + rng.exponential(size=d)
    if kind == "half-bounded":
        lower, upper = np.where(rng.random(d) < 0.4, -np.inf, lower), np.where(rng.random(d) < 0.4, np.inf, upper)
    a, b = rng.standard_normal((d + 2, d)), 0.1 + rng.exponential(size=d + 2)
    if kind == "cone":
        a, b = a[: max(1, d - 1)], np.zeros(max(1, d - 1))
    if kind in ("polytope", "cone"):
        return lambda units: Polytope(a * units, b)
    return (lambda _: WholeSpace()) if kind == "R^n" else lambda units: Box(lower / units, upper / units)


def everywhere(shallow: ShallowReLU, rng: np.random.Generator) -> Tensor:
    inside = shallow.partition.interior_points()
    steps = [10.0**k * rng.standard_normal(inside.shape) for k in (-3, 0, 3)]
    return torch.from_numpy(np.concatenate([inside, *(inside + step for step in steps)]))


@pytest.mark.parametrize("seed", SEEDS)
def test_regions_and_values_have_the_same_bits(seed: int) -> None:
    case = case_of(seed)
    one, other = case.both()
    units = torch.from_numpy(case.units)
    assert np.array_equal(one.partition.packed_patterns, other.partition.packed_patterns)
    assert np.array_equal(one.partition.children, other.partition.children)
    assert np.array_equal(one.partition.points, other.partition.points)
    x = everywhere(one, case.rng)
    assert torch.equal(one.locate(x), other.locate(x / units))
    np.testing.assert_array_equal(one(x).numpy(), other(x / units).numpy())
    with torch.no_grad():
        known = one.locate(x) >= 0
        torch.testing.assert_close(one(x)[known], case.net(x)[known], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("seed", FEW)
def test_certificates_pass_in_all_units(seed: int) -> None:
    case = case_of(seed)
    for units in (np.ones(len(case.units)), case.units):
        certify(case.shallow(units), Scaled(case.net, units), points=1000).require()


@pytest.mark.parametrize("seed", SEEDS)
def test_ranges_and_slopes_follow_the_units(seed: int) -> None:
    case = case_of(seed)
    one, other = case.both()
    units = torch.from_numpy(case.units)
    ranges = [explain.output_range(shallow) for shallow in (one, other)]
    assert torch.equal(ranges[0].lower, ranges[1].lower)
    assert torch.equal(ranges[0].upper, ranges[1].upper)
    np.testing.assert_array_equal(ranges[0].argmin, ranges[1].argmin * units)
    slopes = [explain.monotonicity(shallow) for shallow in (one, other)]
    assert torch.equal(slopes[0].least * units, slopes[1].least)
    assert torch.equal(slopes[0].falls, slopes[1].falls)
    assert torch.equal(slopes[0].rises, slopes[1].rises)
    unused = [explain.unused_features(shallow).unused for shallow in (one, other)]
    assert torch.equal(*unused)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_shapes_of_regions_follow_the_units(seed: int) -> None:
    case = case_of(seed)
    one, other = case.both()
    units = torch.from_numpy(case.units)
    for region in range(0, one.num_regions, 1 + one.num_regions // 4):
        a, b = one.regions[region], other.regions[region]
        assert a.facets().names == b.facets().names
        assert torch.equal(a.vertices(), b.vertices() * units)
        for method in ("rays", "lines"):
            found, expected = getattr(b, method)() * units, getattr(a, method)()
            torch.testing.assert_close(found / found.norm(dim=1, keepdim=True), expected, rtol=0.0, atol=1e-9)
        assert b.contains(a.vertices() / units).all()


@pytest.mark.parametrize("seed", FEW)
def test_volumes_and_moments_follow_the_units(seed: int) -> None:
    case = case_of(seed, ("box", "polytope"))
    one, other = case.both()
    size = np.prod(case.units)
    if math.isinf(explain.volumes(one).total):
        assert math.isinf(explain.volumes(other).total)
        return
    torch.testing.assert_close(explain.volumes(one).values, explain.volumes(other).values * size, rtol=1e-9, atol=0.0)
    torch.testing.assert_close(explain.moments(one).mean, explain.moments(other).mean, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("seed", FEW)
def test_counterfactuals_follow_the_units(seed: int) -> None:
    case = case_of(seed, ("box", "R^n"))
    one, other = case.both()
    units, found = torch.from_numpy(case.units), explain.output_range(one)
    low, high = float(found.lower.flatten()[0]), float(found.upper.flatten()[0])
    x = torch.from_numpy(one.partition.interior_points()[0])
    here = float(one(x).flatten()[0])
    goal = here + 0.5 * (min(high, here + 1.0) - here)
    if not high - low > 1e-6:
        pytest.skip("constant")
    distances = [
        explain.counterfactual(shallow, x / factor, AtLeast(goal), scale=factor.numpy()).distance
        for shallow, factor in ((one, torch.ones_like(units)), (other, units))
    ]
    assert distances[0] == pytest.approx(distances[1], rel=1e-6)


class Output:
    """The greatest value of the first output."""

    def goals(self, inputs: int, outputs: int) -> np.ndarray:
        return np.append(np.zeros(inputs), np.eye(outputs + 1)[0])[None]

    def constraints(self, inputs: int, outputs: int) -> np.ndarray:
        return np.zeros((0, inputs + outputs + 1))


@pytest.mark.parametrize("seed", ASKED)
def test_what_is_searched_is_the_same_in_all_units(seed: int) -> None:
    case = case_of(seed)
    example = torch.zeros(1, len(case.units)).double()
    top = float(explain.output_range(case.shallow()).upper.flatten()[0])
    for units in (np.ones(len(case.units)), case.units):
        model, domain = Scaled(case.net, units), case.domain(units)
        found = ask(model, Output(), domain, example_input=example)
        assert found.upper_bound == pytest.approx(top, rel=1e-7, abs=1e-9)
        if math.isfinite(top):
            assert found.lower_bound == pytest.approx(top, rel=1e-7, abs=1e-9)
            assert verify(model, domain, AtMost(top + 1e-6 + 1e-6 * abs(top)), example_input=example).holds
        below = AtMost(top - 1e-6 - 1e-6 * abs(top) if math.isfinite(top) else 100.0)
        assert verify(model, domain, below, example_input=example).holds is False


@pytest.mark.parametrize("seed", [*SEEDS, 1205])
def test_the_scale_of_neurons_does_not_matter(seed: int) -> None:
    case = case_of(seed)
    one, scaled = case.shallow(), copy.deepcopy(case.net)
    linear = [layer for layer in scaled if isinstance(layer, nn.Linear)]
    with torch.no_grad():
        for before, after in pairwise(linear):
            if before is linear[0] and not isinstance(scaled[1], nn.ReLU):
                continue  # no ReLU between them
            factors = torch.from_numpy(units_of(case.rng, before.out_features))
            before.weight *= factors[:, None]
            if before.bias is not None:
                before.bias *= factors
            after.weight /= factors
    case.net = scaled
    other = case.shallow()
    assert set(map(bytes, one.partition.packed_patterns)) == set(map(bytes, other.partition.packed_patterns))
    x = everywhere(one, case.rng)
    torch.testing.assert_close(one(x), other(x), rtol=1e-9, atol=1e-9, equal_nan=True)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_order_of_inputs_does_not_matter(seed: int) -> None:
    case = case_of(seed)
    other = copy.deepcopy(case)
    order = case.rng.permutation(len(case.units))
    domain = case.domain(case.units)
    first = other.net[0]
    assert isinstance(first, nn.Linear)
    with torch.no_grad():
        first.weight.copy_(first.weight[:, torch.from_numpy(order)])
    if isinstance(domain, Box):
        moved: Domain = Box(domain.lower[order], domain.upper[order])
    else:
        moved = domain if isinstance(domain, WholeSpace) else Polytope(domain.A[:, order], domain.b)
    other.units, other.domain = case.units[order], lambda _: moved
    one, two = case.shallow(case.units), other.shallow(other.units)
    assert set(map(bytes, one.partition.packed_patterns)) == set(map(bytes, two.partition.packed_patterns))
    x = torch.from_numpy(one.partition.interior_points())
    torch.testing.assert_close(one(x), two(x[:, torch.from_numpy(order)]), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_order_of_neurons_does_not_matter(seed: int) -> None:
    case = case_of(seed)
    one, moved = case.shallow(), copy.deepcopy(case.net)
    linear = [layer for layer in moved if isinstance(layer, nn.Linear)]
    orders = []
    with torch.no_grad():
        for before, after in pairwise(linear):
            if before is linear[0] and not isinstance(moved[1], nn.ReLU):
                continue
            order = torch.from_numpy(case.rng.permutation(before.out_features))
            before.weight.copy_(before.weight[order])
            if before.bias is not None:
                before.bias.copy_(before.bias[order])
            after.weight.copy_(after.weight[:, order])
            orders.append(order.numpy() + sum(map(len, orders)))
    case.net = moved
    two = case.shallow()
    patterns = {tuple(pattern) for pattern in one.partition.patterns()[:, np.concatenate(orders)].tolist()}
    assert patterns == {tuple(pattern) for pattern in two.partition.patterns().tolist()}
    x = everywhere(one, case.rng)
    torch.testing.assert_close(one(x), two(x), rtol=1e-9, atol=1e-9, equal_nan=True)


def test_lengths_are_medians_of_intercepts_in_powers_of_two() -> None:
    normals = np.array([[1.0, 0.0, 4.0, 0.0], [0.5, 0.0, 1.0, 0.0], [0.0, 2.0, 8.0, 0.0], [0.0, 2.0, 0.0, 0.0]])
    offsets = np.array([2.0, 2.0, 0.0, 0.0])
    # The second input is known by the third row, in which its term is as large as that of the third input.
    assert typical_lengths(normals, offsets).tolist() == [2.0, 2.0, 0.5, 1.0]
    factors = 2.0 ** np.array([30, -20, 7, 3])
    assert typical_lengths(normals / factors, offsets).tolist() == [2.0 * 2**30, 2.0 * 2**-20, 0.5 * 2**7, 1.0]
    rows = 2.0 ** np.array([-30, 20, 5, 9])
    assert typical_lengths(normals * rows[:, None], offsets * rows).tolist() == [2.0, 2.0, 0.5, 1.0]


def test_where_no_offset_is_known_lengths_are_those_of_the_first_rows_that_read_an_input() -> None:
    normals = np.array([[4.0, 0.0, 0.0], [2.0**30, 2.0**40, 0.0], [0.0, 0.0, 2.0**20]])
    nothing = np.zeros(3)
    assert typical_lengths(normals, nothing, first=1).tolist() == [0.125, 2.0**-13, 2.0**-21]
    rows = 2.0 ** np.array([0, 17, -9])
    assert typical_lengths(normals * rows[:, None], nothing, first=1).tolist()[:2] == [0.125, 2.0**-13]
    columns = 2.0 ** np.array([30, -20, 7])
    assert typical_lengths(normals / columns, nothing, first=1).tolist() == [2.0**27, 2.0**-33, 2.0**-14]


@pytest.mark.parametrize("scale", [2.0**-40, 2.0**40])
def test_the_border_of_a_cone_does_not_move_with_the_scale_of_neurons_without_biases(scale: float) -> None:
    net = nn.Sequential(nn.Linear(2, 3, bias=False), nn.ReLU(), nn.Linear(3, 1, bias=False)).double()
    with torch.no_grad():
        net[0].weight *= scale
    cone = transform(net, domain=Polytope([[1.0, 0.0], [0.0, 1.0]], [0.0, 0.0]))
    inside = torch.tensor([[-1.0, -1.0], [-1e-9, -1.0], [0.0, -1.0], [0.0, 0.0]]).double()
    assert cone(inside).isfinite().all()
    assert cone(inside[1:] + 1e-6).isnan().all()


def test_lengths_around_a_point_are_those_to_the_first_half_space() -> None:
    normals, slack = np.array([[1.0, 1e-17, 0.0], [-4.0, 2.0, 0.0], [8.0, 8.0, 0.0]]), np.array([1.0, 8.0, 0.0])
    assert lengths_around(normals, slack).tolist() == [1.0, 4.0, 1.0]
