"""Networks of few regions: their proven error is held against samples, ascents and all vertices of the regions."""

from __future__ import annotations

import copy
from itertools import pairwise
from pathlib import Path
from typing import Any

import jaxtyping
import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from torch import Tensor, nn

from torch_shallow import Box, Polytope, ShallowReLU, SimplifiedReLU, TransformError, simplify, transform
from torch_shallow.approximation.minimax import NearestMap
from torch_shallow.domain import Domain
from torch_shallow.explain import Features

SAMPLES = 100_000


def network(*sizes: int, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    layers = [layer for sides in pairwise(sizes) for layer in (nn.Linear(*sides), nn.ReLU())]
    return nn.Sequential(*layers[:-1]).double().requires_grad_(False)


def sampled(domain: Domain, inputs: int, count: int = SAMPLES) -> Tensor:
    x = 2.0 * torch.rand(count, inputs, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) - 1.0
    return x[domain.contains(x)]


def errors_of(model: nn.Module, simple: SimplifiedReLU, x: Tensor) -> Tensor:
    return (model(x) - simple(x)).abs()


def climbed(model: nn.Module, simple: SimplifiedReLU, domain: Domain, x: Tensor, output: int) -> Tensor:
    """Points to which projected gradient ascent leads from those of the largest errors."""
    x = x[errors_of(model, simple, x)[:, output].argsort(descending=True)[:64]].clone()
    for step in 0.1 * 0.85 ** np.arange(40):
        x.requires_grad_(True)
        (slope,) = torch.autograd.grad(errors_of(model, simple, x)[:, output].sum(), x)
        moved = (x.detach() + step * slope.sign()).clamp(-1.0, 1.0)
        x = torch.where(domain.contains(moved, 0.0)[:, None], moved, x.detach())
    return x.detach()


TRIANGLE = Polytope([[1.0, 1.0], [-1.0, 0.0], [0.0, -1.0]], [0.75, 0.5, 0.5])
CASES = [
    ((1, 8, 8, 1), Box(-1.0, 1.0), {"max_error": 0.02}),
    ((2, 10, 2), Box(-1.0, 1.0), {"max_error": 0.03, "weight": [1.0, 2.0]}),
    ((2, 8, 8, 3), TRIANGLE, {"max_error": 0.02}),
    ((2, 8, 8, 3), TRIANGLE, {"max_regions": 5, "cuts": "both"}),
    ((3, 8, 8, 1), Box(-1.0, 1.0), {"max_regions": 6}),
    ((3, 8, 8, 1), Box(-1.0, 1.0), {"max_error": 0.02, "cuts": "neurons"}),
    ((4, 8, 2), Box(-1.0, 1.0), {"max_error": 0.2, "max_regions": 9, "cuts": "both"}),
]


@pytest.mark.parametrize(("sizes", "domain", "options"), CASES)
def test_no_point_is_beyond_the_proven_error(sizes: tuple[int, ...], domain: Domain, options: dict[str, Any]) -> None:
    model = network(*sizes, seed=len(sizes))
    simple = simplify(model, domain, **options)
    weight = torch.tensor(options.get("weight", 1.0), dtype=torch.float64)
    x = sampled(domain, sizes[0])
    x = torch.cat([x, *(climbed(model, simple, domain, x, output) for output in range(sizes[-1]))])
    found = errors_of(model, simple, x)
    room = 1.0 + 1e-9
    assert (found.amax(0) <= simple.output_errors * room).all()
    assert (found <= simple.region_errors[simple.locate(x)] * room).all()
    assert simple.error == pytest.approx(float((simple.output_errors / weight).max()))
    assert 0.8 * simple.error_found <= float((found / weight).max())
    if not simple.reason:
        assert simple.error <= options.get("max_error", np.inf)
        assert simple.error <= 1.1 * simple.error_found
    # At the worst input, or right beside it, the error is what it is said to be.
    at = simple.worst_input
    weights, biases = simple.affine_maps(torch.arange(simple.num_regions))
    apart = ((model(at) - weights @ at - biases).abs() / weight).amax(1)
    assert (apart - simple.error_found).abs().min() <= 1e-9
    assert domain.contains(at)


def nearest_by_vertices(model: nn.Module, domain: Domain) -> float:
    """The smallest largest error of an affine map, by one linear program over the vertices of all regions."""
    x = torch.cat([torch.as_tensor(region.vertices()) for region in transform(model, domain=domain).regions]).double()
    y = model(x)[:, 0].numpy()
    rows, ones = np.column_stack([x.numpy(), np.ones(len(x))]), np.ones((len(x), 1))
    solution = linprog(
        np.append(np.zeros(rows.shape[1]), 1.0),
        A_ub=np.block([[rows, -ones], [-rows, -ones]]),
        b_ub=np.concatenate([y, -y]),
        bounds=(None, None),
    )
    return float(solution.fun)


@pytest.mark.parametrize(("sizes", "domain"), [((1, 6, 1), Box(-1.0, 1.0)), ((3, 8, 8, 1), Box(-1.0, 1.0))])
def test_one_region_has_the_map_that_a_linear_program_over_all_vertices_finds(
    sizes: tuple[int, ...], domain: Domain, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = network(*sizes, seed=3)
    least = nearest_by_vertices(model, domain)
    simple = simplify(model, domain, max_regions=1)
    assert least * (1.0 - 1e-9) <= simple.error <= 1.1 * least
    monkeypatch.setattr("torch_shallow._simplify.PRECISION", 1e-8)
    assert simplify(model, domain, max_regions=1).error == pytest.approx(least, rel=1e-6)


def test_more_regions_are_nearer_and_never_more_than_allowed() -> None:
    model = network(2, 16, 1)
    errors = []
    for count in (1, 4, 12):
        simple = simplify(model, Box(-1.0, 1.0), max_regions=count)
        assert simple.num_regions == count
        assert simple.complete
        assert not simple.reason
        errors.append(simple.error)
    assert errors[0] > errors[1] > errors[2]
    stopped = simplify(model, Box(-1.0, 1.0), max_error=errors[2] / 2, max_regions=4)
    assert (stopped.num_regions, stopped.reason) == (4, "max_regions=4")
    assert stopped.error > errors[2] / 2


def test_an_affine_network_is_one_region() -> None:
    simple = simplify(nn.Linear(3, 2).double(), Box(-1.0, 1.0), max_regions=10)
    assert simple.num_regions == 1
    assert simple.error < 1e-8


def digits(number: float) -> int:
    """How many significant digits it has, up to the twelfth."""
    return len(f"{abs(number):.12e}".split("e")[0].replace(".", "").rstrip("0"))


def test_where_outputs_are_cut_off_values_differ_by_rounding_alone() -> None:
    x = 0.1 + 0.05 * np.random.default_rng(0).standard_normal((200, 2))
    y = -3.0 + 4e-16 * np.arange(200) % 1e-15
    nearest = NearestMap(x.min(axis=0), x.max(axis=0), np.arange(2), float(np.ptp(y)))
    row, deviation = nearest.fitted(x, y)
    assert deviation < 1e-14
    assert np.abs(x @ row[:-1] + row[-1] + 3.0).max() < 1e-14


def test_numbers_have_no_more_digits_than_the_error_needs() -> None:
    features = Features.of(["age", "income"], mean=[41.3, 3017.0], scale=[11.7, 903.0])
    simple = simplify(network(2, 8, 8, 1), Box(-2.0, 2.0), max_regions=6, features=features)
    rows = simple.half_spaces.rows.numpy()
    which = np.abs(rows[:, :-1]).argmax(axis=1)
    assert (np.count_nonzero(rows[:, :-1], axis=1) == 1).all()
    assert all(digits(t) <= 4 for t in -rows[:, -1] * features.scale[which] + features.mean[which])
    weights, biases = simple.affine_maps(torch.arange(simple.num_regions))
    by_unit, constants = features.affine(weights[:, 0].numpy(), biases[:, 0].numpy())
    assert max(map(digits, [*by_unit.reshape(-1), *constants])) <= 5


def test_maps_of_few_terms() -> None:
    model = network(4, 8, 1)
    simple = simplify(model, Box(-1.0, 1.0), max_regions=4, max_terms=2)
    weights, _ = simple.affine_maps(torch.arange(simple.num_regions))
    assert int((weights != 0.0).sum(-1).max()) == 2
    assert float(errors_of(model, simple, sampled(Box(-1.0, 1.0), 4)).max()) <= simple.error


def test_it_is_the_same_each_time() -> None:
    model = network(3, 8, 1)
    one, other = (simplify(model, Box(-1.0, 1.0), max_error=0.05, cuts="both") for _ in range(2))
    assert all(map(torch.equal, one.state_dict().values(), other.state_dict().values()))
    assert (one.error, one.error_found) == (other.error, other.error_found)


def test_the_network_is_what_its_tree_says() -> None:
    simple = simplify(network(2, 8, 2), Box(-1.0, [1.0, 0.5]), max_regions=7, cuts="both")
    rows, children = simple.half_spaces.rows[simple.function.half_space_of()].numpy(), simple.partition.children
    weights, biases = simple.affine_maps(torch.arange(7))

    def walked(point: Tensor) -> Tensor:
        node = 0
        while node >= 0:
            node = children[node][int(rows[node][:-1] @ point.numpy() + rows[node][-1] > 0.0)]
        return weights[~node] @ point + biases[~node]

    x = sampled(Box(-1.0, [1.0, 0.5]), 2, 500)
    assert torch.allclose(simple(x), torch.stack([walked(point) for point in x]), rtol=0.0, atol=1e-12)
    assert (simple.locate(torch.from_numpy(simple.partition.interior_points())) == torch.arange(7)).all()
    assert simple(torch.tensor([[0.0, 0.75]])).isnan().all()


@pytest.mark.parametrize("cuts", ["features", "both"])
def test_what_little_time_leaves_is_proven(cuts: str) -> None:
    model = network(6, 12, 12, 1)
    simple = simplify(model, Box(-1.0, 1.0), max_error=1e-3, cuts=cuts, time_limit=0.3)
    assert simple.reason == "time_limit=0.3"
    assert float(errors_of(model, simple, sampled(Box(-1.0, 1.0), 6)).max()) <= simple.error < np.inf


def test_a_head_stays_and_a_shallow_network_is_read() -> None:
    model = network(2, 8, 3)
    classifier = nn.Sequential(*model, nn.Softmax(-1))
    shallow = transform(classifier, domain=Box(-1.0, 1.0))
    x = sampled(Box(-1.0, 1.0), 2, 1000)
    for given in (classifier, shallow):
        simple = simplify(given, None if given is shallow else Box(-1.0, 1.0), max_error=0.05)
        assert torch.allclose(simple(x), simple.trunk(x).softmax(-1))
        assert float((simple.trunk(x) - model(x)).abs().max()) <= simple.error <= 0.05


def test_the_error_stays_with_copies_and_leaves_with_the_numbers(tmp_path: Path) -> None:
    simple = simplify(network(2, 8, 1), Box(-1.0, 1.0), max_error=0.05)
    for same in (copy.copy(simple), copy.deepcopy(simple), copy.deepcopy(simple).to(torch.float32)):
        assert (same.error, same.reason) == (simple.error, simple.reason)
    simple.save(tmp_path / "simple.pt")
    loaded = ShallowReLU.load(tmp_path / "simple.pt")
    x = sampled(Box(-1.0, 1.0), 2, 100)
    assert torch.equal(loaded(x), simple(x))
    with torch.no_grad():
        simple.unfreeze().selection.biases.add_(1.0)
    with pytest.raises(TransformError, match="have changed"):
        _ = simple.error
    with pytest.raises(TransformError, match="nothing is proven"):
        _ = simple.soften(10.0).harden().error


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "max_error, max_regions: expected one"),
        ({"max_error": 0.0}, "max_error: expected a positive"),
        ({"max_error": "small"}, "max_error: expected a positive"),
        ({"max_regions": 0}, "max_regions: expected"),
        ({"max_regions": 2.5}, "max_regions: expected"),
        ({"max_regions": 2, "max_terms": -1}, "max_terms: expected"),
        ({"max_regions": 2, "cuts": "trees"}, "cuts: expected one of 'features'"),
        ({"max_regions": 2, "weight": [1.0, 2.0, 3.0]}, "weight: expected"),
        ({"max_regions": 2, "weight": -1.0}, "weight: expected"),
        ({"max_regions": 2, "weight": "first"}, "weight: expected"),
        ({"max_regions": 2, "features": ["age"]}, "features: expected one for each of the 2"),
        ({"max_regions": 2, "time_limit": 0.0}, "time_limit: expected"),
        ({"max_regions": 2, "domain": Box(0.0, np.inf)}, "domain: expected a bounded Box"),
        ({"max_regions": 2, "domain": None}, "domain: expected a bounded Box"),
        ({"max_regions": 2, "domain": Box([0.0, 0.0], [1.0, 0.0]), "cuts": "both"}, "cuts: expected 'features'"),
    ],
)
def test_arguments_that_do_not_fit_are_named(
    options: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # some are of wrong types
    with pytest.raises(TransformError, match=message):
        simplify(network(2, 4, 2), **{"domain": Box(-1.0, 1.0), **options})
