"""Networks of few regions: their proven error is held against samples, ascents and all vertices of the regions."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
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
from torch_shallow.approximation import minimax
from torch_shallow.approximation.fit import Fitter
from torch_shallow.approximation.known_cell import KnownCell
from torch_shallow.approximation.minimax import NearestMap
from torch_shallow.approximation.pruning import pruned
from torch_shallow.domain import Domain
from torch_shallow.explain import Features
from torch_shallow.explain.features import read_features
from torch_shallow.functions import Region
from torch_shallow.geometry.highs import solve

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


@pytest.mark.parametrize("number", range(30))
def test_the_proven_error_of_a_network_is_near_the_largest_one_and_never_beaten(number: int) -> None:
    sizes = ((1, 8, 1), (2, 8, 1), (2, 6, 6, 2), (3, 6, 1), (4, 6, 2))[number % 5]
    options = ({"max_regions": 3}, {"max_error": 0.2}, {"max_regions": 2, "cuts": "both"})[number % 3]
    model, domain = network(*sizes, seed=number), Box(-1.0, 1.0)
    simple = simplify(transform(model, domain=domain) if number % 4 == 0 else model, domain, **options)
    x = sampled(domain, sizes[0], 20_000)
    x = torch.cat([x, *(climbed(model, simple, domain, x, output) for output in range(sizes[-1]))])
    found = errors_of(model, simple, x)
    assert (found <= simple.region_errors[simple.locate(x)] * (1.0 + 1e-9)).all()
    assert 0.8 * float(found.max()) <= simple.error_found <= simple.error <= 1.1 * simple.error_found


def vertices_of(regions: Iterable[Region]) -> Tensor:
    return torch.cat([region.vertices() for region in regions]).double()


def nearest_by_vertices(model: nn.Module, x: Tensor) -> float:
    """The smallest largest error of an affine map, by one linear program over the vertices of all regions."""
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
    shallow = transform(model, domain=domain)
    least = nearest_by_vertices(model, vertices_of(shallow.regions))
    for given in (model, shallow):
        simple = simplify(given, domain, max_regions=1)
        assert least * (1.0 - 1e-9) <= simple.error <= 1.1 * least
    monkeypatch.setattr("torch_shallow._simplify.PRECISION", 1e-8)
    for given in (model, shallow):
        assert simplify(given, domain, max_regions=1).error == pytest.approx(least, rel=1e-6)


KNOWN = [
    ((2, 8, 8, 3), TRIANGLE, {"max_error": 0.02, "cuts": "neurons"}),
    ((2, 8, 8, 1), Box(-1.0, 1.0), {"max_error": 0.02}),
    ((3, 6, 6, 2), Box(-1.0, 1.0), {"max_regions": 5, "cuts": "both"}),
]


@pytest.mark.parametrize(("sizes", "domain", "options"), KNOWN)
def test_of_a_known_network_the_error_is_that_at_a_vertex(
    sizes: tuple[int, ...], domain: Domain, options: dict[str, Any]
) -> None:
    model = network(*sizes, seed=len(sizes))
    simple = simplify(transform(model, domain=domain), **options)
    assert not simple.reason
    assert simple.error <= min(options.get("max_error", np.inf), (1.0 + 1e-6) * simple.error_found)
    weights, biases = simple.affine_maps(torch.arange(simple.num_regions))
    for region in simple.regions:
        x = vertices_of(transform(model, domain=region.as_polytope()).regions)
        apart = (model(x) - x @ weights[region.index].T - biases[region.index]).abs().amax(0)
        assert torch.allclose(simple.region_errors[region.index], apart, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize(("sizes", "max_error"), [((2, 8, 8, 1), 0.01), ((3, 6, 6, 1), 0.008)])
def test_a_known_network_has_no_more_regions_than_its_own_tree_cut_back(
    sizes: tuple[int, ...], max_error: float
) -> None:
    model = network(*sizes, seed=2)
    shallow = transform(model, domain=Box(-1.0, 1.0))
    children, parts = shallow.partition.children, [region.vertices().double() for region in shallow.regions]

    def below(node: int) -> Tensor:
        return parts[~node] if node < 0 else torch.cat([below(int(child)) for child in children[node]])

    def leaves(node: int) -> int:
        if node < 0 or nearest_by_vertices(model, below(node)) <= max_error:
            return 1
        return sum(leaves(int(child)) for child in children[node])

    count = leaves(0)
    assert 1 < count < shallow.num_regions
    assert simplify(shallow, max_error=max_error, cuts="neurons").num_regions <= count
    whole = KnownCell.whole(shallow.function)
    assert whole is not None
    fitter = Fitter(shallow.partition.program, np.ones(1), read_features(None, sizes[0]), None, 1e-6)
    root = pruned(whole, fitter, max_error, count)
    assert root is not None
    assert len(root.leaves) == count
    assert pruned(whole, fitter, max_error, count - 1) is None


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
    nearest = NearestMap(x.min(axis=0), x.max(axis=0), np.arange(2), y)
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


@pytest.mark.parametrize("options", [{"max_error": 0.05}, {"same_class": True, "margin": 0.05}])
def test_it_is_the_same_for_any_number_of_workers(options: dict[str, Any]) -> None:
    model = classifier(3, 8, 2)
    with ThreadPoolExecutor(2) as executor:
        found = [simplify(model, Box(-1.0, 1.0), workers=workers, **options) for workers in (1, 2, executor)]
    for other in found[1:]:
        assert all(map(torch.equal, found[0].state_dict().values(), other.state_dict().values()))
        assert (found[0].error, found[0].class_error) == (other.error, other.class_error)


def test_the_network_is_what_its_tree_says() -> None:
    simple = simplify(network(2, 8, 2), Box(-1.0, [1.0, 0.5]), max_regions=7, cuts="both")
    rows, children = simple.half_spaces.rows[simple.function.half_space_of()].numpy(), simple.partition.children
    regions = torch.arange(simple.num_regions)
    weights, biases = simple.affine_maps(regions)
    assert 4 <= len(regions) <= 7

    def walked(point: Tensor) -> Tensor:
        node = 0
        while node >= 0:
            node = children[node][int(rows[node][:-1] @ point.numpy() + rows[node][-1] > 0.0)]
        return weights[~node] @ point + biases[~node]

    x = sampled(Box(-1.0, [1.0, 0.5]), 2, 500)
    assert torch.allclose(simple(x), torch.stack([walked(point) for point in x]), rtol=0.0, atol=1e-12)
    assert (simple.locate(torch.from_numpy(simple.partition.interior_points())) == regions).all()
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
    with pytest.raises(TransformError, match="with a proven error"):
        _ = simple.soften(10.0).harden().error


def classifier(*sizes: int, seed: int = 0) -> nn.Sequential:
    """A network whose outputs are of about the same size, so that each class has a part of the box."""
    model = network(*sizes, seed=seed)
    model[-1].bias -= model(sampled(Box(-1.0, 1.0), sizes[0])).mean(0)
    return model


def scores_of(y: Tensor) -> Tensor:
    return torch.cat([torch.zeros_like(y), y], -1) if y.shape[-1] == 1 else y


def leads_of(y: Tensor) -> tuple[Tensor, Tensor]:
    two = scores_of(y).topk(2, -1)
    return two.indices[..., 0], two.values[..., 0] - two.values[..., 1]


def greatest_leads(model: nn.Module, simple: SimplifiedReLU) -> list[float]:
    """For each region, how far the model leads at most where the map has another class, by linear programs.

    There is one for each region of the model, which is affine there, each class and each other class.
    """
    shallow = transform(model, domain=simple.domain)
    found = []
    for region in simple.regions:
        weight, bias = simple.affine_maps(torch.tensor([region.index]))
        other = np.column_stack([weight[0].numpy(), bias[0].numpy()])
        worst = 0.0
        for part in shallow.regions:
            weight, bias = shallow.affine_maps(torch.tensor([part.index]))
            own = np.column_stack([weight[0].numpy(), bias[0].numpy()])
            if len(own) == 1:
                own, other_scores = np.concatenate([0.0 * own, own]), np.concatenate([0.0 * other, other])
            else:
                other_scores = other
            a = np.concatenate([one.half_spaces.A.numpy() for one in (region, part)])
            b = np.concatenate([one.half_spaces.b.numpy() for one in (region, part)])
            for i in range(len(own)):
                leads = np.delete(own, i, axis=0) - own[i]
                for j in (j for j in range(len(own)) if j != i):
                    prefers = other_scores[i] - other_scores[j]
                    rows = np.concatenate([a, leads[:, :-1], prefers[None, :-1]])
                    lead = np.concatenate([np.zeros(len(a)), np.ones(len(leads)), [0.0]])
                    solution = linprog(
                        np.append(np.zeros(a.shape[1]), -1.0),
                        A_ub=np.column_stack([rows, lead]),
                        b_ub=np.concatenate([b, -leads[:, -1], [-prefers[-1]]]),
                        bounds=(None, None),
                    )
                    worst = max(worst, -solution.fun if solution.status == 0 else 0.0)
        found.append(worst)
    return found


CLASSIFIERS = [
    ((2, 8, 1), {"cuts": "neurons"}),
    ((2, 6, 3), {"cuts": "neurons"}),
    ((2, 6, 3), {"margin": 0.02}),
    ((2, 6, 3), {"margin": 0.02, "max_error": 0.1, "cuts": "both"}),
    ((3, 6, 2), {"max_regions": 4}),
]


@pytest.mark.parametrize(("sizes", "options"), CLASSIFIERS)
def test_the_class_is_the_same_where_it_is_proven_to_be(sizes: tuple[int, ...], options: dict[str, Any]) -> None:
    model = classifier(*sizes)
    simple = simplify(model, Box(-1.0, 1.0), same_class=True, **options)
    margin, rounding = options.get("margin", 0.0), 1e-7
    leads = np.array(greatest_leads(model, simple))
    assert (leads <= simple.classes.bounds.numpy() + rounding).all()
    assert (leads[simple.region_same_class.numpy()] <= margin + rounding).all()
    assert leads.max() <= simple.class_error + rounding
    assert simple.class_error <= max(1.1 * leads.max(), margin) + rounding
    if not simple.reason:
        assert simple.region_same_class.all()
        assert simple.error <= options.get("max_error", np.inf)
    x = sampled(Box(-1.0, 1.0), sizes[0])
    one, lead = leads_of(model(x))
    other, _ = leads_of(simple(x))
    assert (lead[one != other] <= simple.class_error).all()
    assert float(errors_of(model, simple, x).max()) <= simple.error
    at = simple.class_input
    if at is None:
        assert simple.class_error <= margin + rounding
    else:
        weight, bias = simple.affine_maps(torch.arange(simple.num_regions))
        one, lead = leads_of(model(at))
        scores = scores_of(weight @ at + bias)  # one of these is that of the region
        assert 0.0 < float(lead) <= simple.class_error
        assert (scores.amax(1) - scores[:, one] >= -rounding).any()


@pytest.mark.parametrize("sizes", [(2, 8, 1), (2, 6, 3)])
def test_regions_in_which_the_class_is_the_same_are_found_afterwards(sizes: tuple[int, ...]) -> None:
    model = classifier(*sizes)
    simple = simplify(model, Box(-1.0, 1.0), max_error=0.03)
    leads = np.array(greatest_leads(model, simple))
    assert np.array_equal(simple.region_same_class.numpy(), leads < 1e-7)
    assert leads.max() <= simple.class_error <= 0.06  # twice the largest error
    assert copy.deepcopy(simple).region_same_class.equal(simple.region_same_class)


def test_fewer_regions_have_the_same_class_than_the_same_values() -> None:
    model = classifier(2, 8, 8, 2)
    values = simplify(model, Box(-1.0, 1.0), max_error=0.01, cuts="neurons")
    classes = simplify(model, Box(-1.0, 1.0), same_class=True, margin=0.02, cuts="neurons")
    assert values.class_error <= 0.02
    assert classes.class_error <= 0.02
    assert classes.num_regions < values.num_regions


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "max_error, max_regions, same_class: expected at least one"),
        ({"same_class": 1}, "same_class: expected True or False"),
        ({"same_class": True, "margin": -1.0}, "margin: expected a finite number"),
        ({"max_regions": 2, "margin": 1.0}, "margin: expected 0 without same_class=True"),
        ({"same_class": True, "domain": Box([-1.0] * 3, 1.0)}, "margin: expected a positive number"),
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
        ({"max_regions": 2, "workers": 0}, "workers: expected"),
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
        simplify(
            network(3 if np.size(getattr(options.get("domain"), "lower", 0)) == 3 else 2, 4, 2),
            **{"domain": Box(-1.0, 1.0), **options},
        )


@pytest.mark.parametrize("failures", [1, 2])
def test_a_linear_program_that_fails_is_solved_anew(failures: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """HiGHS sometimes calls a program unbounded that has a solution, and solves it from nothing."""
    statuses = ["Unbounded"] * failures

    def failing(program: Any, cost: np.ndarray) -> str:
        return statuses.pop() if statuses else solve(program, cost)

    x = np.random.default_rng(0).uniform(-1.0, 1.0, (200, 2))
    y = np.abs(x).sum(axis=1)
    expected = NearestMap(-np.ones(2), np.ones(2), np.arange(2), y).fitted(x, y)
    monkeypatch.setattr(minimax, "solve", failing)
    affine, deviation = NearestMap(-np.ones(2), np.ones(2), np.arange(2), y).fitted(x, y)
    assert not statuses
    assert deviation == pytest.approx(expected[1], rel=1e-9)
    assert np.abs(y - x @ affine[:2] - affine[2]).max() == pytest.approx(deviation, rel=1e-6)
