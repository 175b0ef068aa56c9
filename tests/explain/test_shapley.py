"""Laws of exact SHAP values."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

import torch_shallow
from tests.cases import examples
from tests.zoo import Specimen, chain
from torch_shallow import Box, Polytope, TransformError
from torch_shallow.explain.features import Features
from torch_shallow.explain.function import read_function
from torch_shallow.explain.shapley import local_linear_shap, shap_values
from torch_shallow.explain.shapley import solve as source_module
from torch_shallow.explain.shapley.reduction import write_weights
from torch_shallow.explain.shapley.solve import play_by_values, solve

with warnings.catch_warnings():  # matplotlib warns of what shap does when it is imported
    warnings.simplefilter("ignore")
    import shap

from tests.explain.games import NETWORKS, SMALL, brute_force, flat, trained


@pytest.mark.parametrize("name", NETWORKS)
def test_equals_the_definition_on_trained_networks(name):
    model, data = trained(name)
    x, background = data[:2], data[2:5]
    found = shap_values(model, x, background)
    expected = brute_force(model, x, background)
    assert np.abs(expected).max() > 0.05
    assert np.abs(flat(found, data.shape[1]) - expected).max() < 1e-9
    with torch.no_grad():
        difference = (model(x) - model(background).mean(0)).numpy()
    sums = flat(found, data.shape[1]).sum(1) + found.base_values.reshape(2, -1)
    assert np.abs(sums - model(x).detach().numpy()).max() < 1e-9
    assert np.abs(expected.sum(1) - difference).max() < 1e-9


@pytest.mark.parametrize("specimen", SMALL, ids=str)
def test_equals_the_definition_on_all_kinds_of_networks(specimen: Specimen):
    model = specimen.model()
    torch.manual_seed(1)
    x = torch.randn(2, *specimen.in_shape, dtype=torch.float64)
    background = torch.randn(2, *specimen.in_shape, dtype=torch.float64)
    background.view(2, -1)[0, 0] = x.view(2, -1)[0, 0]
    found = shap_values(model, x, background)
    outputs = model(x).shape[1:]
    assert found.values.shape == (2, *specimen.in_shape, *(() if outputs.numel() == 1 else outputs))
    expected = brute_force(model, x, background)
    size = 1.0 + np.abs(expected).max()
    assert np.abs(flat(found, expected.shape[1]) - expected).max() < 1e-9 * size


@pytest.mark.parametrize("outputs", [None, pytest.param(1, marks=pytest.mark.slow), 3])
def test_equals_exact_explainer_in_values_and_shapes(outputs):
    torch.manual_seed(0)
    model = chain(5, 9, 7, outputs or 1).double()
    if outputs is None:
        model = nn.Sequential(model, nn.Flatten(0))
    x, background = torch.randn(2, 5, dtype=torch.float64), torch.randn(12, 5, dtype=torch.float64)

    def run(points: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return model(torch.from_numpy(points)).numpy()

    def masker(mask: np.ndarray, point: np.ndarray) -> np.ndarray:
        return np.where(mask, point, background.numpy())  # maskers.Independent compiles for four seconds

    expected = shap.ExactExplainer(run, masker)(x.numpy())
    found = shap_values(model, x, background)
    assert found.values.shape == expected.values.shape
    assert np.abs(found.values - expected.values).max() < 1e-9
    # Of one output of shape (1,), the base values of shap have shape (rows, 1), which its waterfall cannot draw.
    assert found.base_values.shape == (expected.base_values[:, 0] if outputs == 1 else expected.base_values).shape
    assert np.abs(found.base_values - expected.base_values.reshape(found.base_values.shape)).max() < 1e-9
    assert np.array_equal(found.data, expected.data)


@pytest.mark.usefixtures("several_threads")
@examples(15)
@given(st.data())
def test_reduction_splitting_and_threads_change_nothing(data):
    seed = data.draw(st.integers(0, 10**6))
    sizes = data.draw(st.lists(st.integers(1, 9), min_size=2, max_size=5))
    generator = torch.Generator().manual_seed(seed)
    model = chain(*sizes).double()
    sparsity = data.draw(st.sampled_from([0.0, 0.5, 0.8]))
    with torch.no_grad():
        for parameter in model.parameters():
            random = torch.randn(parameter.shape, dtype=torch.float64, generator=generator)
            keep = torch.rand(parameter.shape, generator=generator) >= sparsity
            parameter.copy_(random * keep)
    x, background = (torch.randn(2, sizes[0], dtype=torch.float64, generator=generator) for _ in range(2))
    background[0, : data.draw(st.integers(0, sizes[0]))] = x[0, 0]
    scale = data.draw(st.sampled_from([0.05, 1.0]))
    background = x[:1] + scale * (background - x[:1])
    function = read_function(model)
    expected = brute_force(model, x, background)
    for largest, reduce in [(40, False), (40, True), (data.draw(st.integers(0, 5)), True), (0, True)]:
        found = solve(function, x, background, 20, largest=largest, reduce=reduce)
        assert np.abs(found - expected).max() <= 1e-9 * (1.0 + np.abs(expected).max())


class Skips(nn.Module):
    """Two outputs that read different features, stages that read all before them, and one that reads the input."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = nn.Linear(12, 9), nn.Linear(21, 8), nn.Linear(12, 4)
        self.left, self.right = nn.Linear(29, 1), chain(8, 7, 1)

    def forward(self, x: Tensor) -> Tensor:
        own, other = x[:, :12], x[:, 12:]
        h = torch.cat([own, self.first(own).relu()], 1)
        h = torch.cat([h, self.second(h).relu()], 1)
        left = self.left(h) + self.third(own).abs().sum(1, keepdim=True)
        return torch.cat([left, self.right(other), x[:, :2]], 1)


@pytest.mark.parametrize("spread", [0.05, 1.0])
def test_blocks_and_halves_equal_all_coalitions_by_values(spread):
    torch.manual_seed(0)
    model = Skips().double()
    function = read_function(model, torch.zeros(1, 20))
    x = torch.randn(1, 20, dtype=torch.float64)
    background = x + spread * torch.randn(1, 20, dtype=torch.float64)
    background[0, [3, 9, 13, 14, 15]] = x[0, [3, 9, 13, 14, 15]]
    expected = play_by_values(function, x[0], background[0])
    assert np.abs(expected).max(0).min() > 1e-3
    for largest, reduce in [(40, False), (40, True), (9, True), (7, True), (4, True)]:
        found = solve(function, x, background, 20, largest=largest, reduce=reduce)[0]
        assert np.abs(found - expected).max() < 1e-12


@examples(3)
@given(st.integers(0, 10**6), st.floats(-2.0, 2.0))
def test_axioms(seed, factor):
    torch.manual_seed(seed)
    first, second = chain(5, 7, 4, 1).double(), chain(5, 6, 1).double()
    with torch.no_grad():
        for layer in (first[0], second[0]):
            layer.weight[:, 3] = 0.0  # a dummy
            layer.weight[:, 1] = layer.weight[:, 0]  # the network is symmetric in the first two features
    x, background = torch.randn(3, 5, dtype=torch.float64), torch.randn(4, 5, dtype=torch.float64)
    x[:, 1], background[:, 1] = x[:, 0], background[:, 0]

    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = first, second

        def forward(self, z: Tensor) -> Tensor:
            return self.first(z) + factor * self.second(z)

    one, two, both = (shap_values(model, x, background).values for model in (first, second, Sum()))
    assert np.abs(one + factor * two - both).max() < 1e-9  # linearity
    assert not one[:, 3].any()
    assert np.abs(one[:, 0] - one[:, 1]).max() < 1e-9  # symmetry
    with torch.no_grad():
        difference = first(x)[:, 0] - first(background).mean()
    assert np.abs(one.sum(1) - difference.numpy()).max() < 1e-9  # efficiency
    alone = [shap_values(first, x, b[None]).values for b in background]
    assert np.abs(np.mean(alone, axis=0) - one).max() < 1e-9  # interventional is the mean of baselines


@given(st.integers(0, 6), st.integers(0, 6), st.integers(0, 6))
def test_weights(joined, absent, players):
    on, off = np.zeros(players + 1), np.zeros(players + 1)
    write_weights(joined, absent, players, on, off)
    n = joined + absent + players
    for t in range(players + 1):
        s = joined + t
        assert math.isclose(on[t], math.factorial(s - 1) * math.factorial(n - s) / math.factorial(n) if s else 0.0)
        expected = math.factorial(s) * math.factorial(n - s - 1) / math.factorial(n) if s < n else 0.0
        assert math.isclose(off[t], expected)


def forms(model: nn.Module, domain: torch_shallow.Box) -> dict[str, object]:
    """One function in all its forms."""
    shallow = torch_shallow.transform(model, domain=domain)
    tree = torch_shallow.transform(model, domain=domain)
    tree.unfreeze()  # plain enumeration, by values
    return {
        "program": torch.export.export(model, (torch.zeros(2, 4, dtype=torch.float64),)),
        "shallow": shallow,
        "merged": shallow.merge(),
        "without maps": torch_shallow.transform(model, domain=domain, store_maps=False),
        "trunk": shallow.trunk,
        "visited": torch_shallow.transform(model, domain=domain, data=torch.tensor([[0.1, 0.2, 0.3, 0.5]])),
        "may be trained": tree,
    }


def test_all_forms_of_a_network_have_the_same_values():
    torch.manual_seed(0)
    model = chain(4, 6, 5, 2).double()
    domain = Box([-3.0, -3.0, -3.0, 0.5], [3.0, 3.0, 3.0, 0.5])
    x, background = torch.rand(3, 4, dtype=torch.float64), torch.rand(4, 4, dtype=torch.float64)
    x[:, 3] = background[:, 3] = 0.5
    expected = brute_force(model, x, background)
    for name, f in forms(model, domain).items():
        assert np.abs(shap_values(f, x, background).values - expected).max() < 1e-9, name


def test_a_trained_tree_is_explained_as_it_is():
    torch.manual_seed(0)
    shallow = torch_shallow.transform(chain(3, 6, 2).double()).unfreeze()
    with torch.no_grad():
        for parameter in shallow.parameters():
            parameter += torch.randn_like(parameter)
    x, background = torch.randn(2, 3, dtype=torch.float64), torch.randn(3, 3, dtype=torch.float64)
    assert np.abs(shap_values(shallow, x, background).values - brute_force(shallow, x, background)).max() < 1e-9


def test_a_large_network_is_reduced_between_two_points(monkeypatch):
    torch.manual_seed(0)
    model = chain(14, 20, 6, 2).double()
    x = torch.randn(2, 14, dtype=torch.float64)
    background = x[:1] + 0.3 * torch.randn(2, 14, dtype=torch.float64)
    expected = shap_values(model, x, background).values
    monkeypatch.setattr(source_module, "SMALL", 900)
    assert source_module.program_of(read_function(model)) is None
    near, far = x[:1], x[1:]
    assert source_module.program_between(read_function(model), near[0].numpy(), background[0].numpy()) is not None
    assert np.abs(shap_values(model, near, background).values - expected[:1]).max() < 1e-9
    assert np.abs(shap_values(model, far, background).values - expected[1:]).max() < 1e-9  # by values


def test_many_features_where_few_reach_neurons_that_change_sign():
    torch.manual_seed(0)
    d, rows = 60, 12
    first = nn.Linear(d, rows)
    with torch.no_grad():
        for row in range(rows):  # each neuron reads five features
            first.weight[row] *= torch.isin(torch.arange(d), torch.arange(5 * row, 5 * row + 5))
    model = nn.Sequential(first, nn.ReLU(), nn.Linear(rows, 1)).double()
    x, background = torch.randn(1, d, dtype=torch.float64), torch.randn(2, d, dtype=torch.float64)
    found = shap_values(model, x, background).values
    for row in range(rows):
        part = slice(5 * row, 5 * row + 5)
        small = nn.Sequential(nn.Linear(5, 1), nn.ReLU(), nn.Linear(1, 1)).double()
        with torch.no_grad():
            small[0].weight.copy_(first.weight[row, part][None])
            small[0].bias.copy_(first.bias[row])
            small[2].weight.copy_(model[2].weight[:, row : row + 1])
        expected = brute_force(small, x[:, part], background[:, part])[..., 0]
        assert np.abs(found[:, part] - expected).max() < 1e-9


def test_a_game_that_is_too_large_is_refused_with_its_size():
    torch.manual_seed(0)
    model = chain(30, 40, 1)
    x, background = 3.0 * torch.randn(1, 30), 3.0 * torch.randn(1, 30)
    with pytest.raises(TransformError, match=r"max_players: .* 30 features reach"):
        shap_values(model, x, background, max_players=13)
    shallow = torch_shallow.transform(chain(4, 3, 1)).unfreeze()
    with pytest.raises(TransformError, match=r"max_players: .* found 4"):
        shap_values(shallow, torch.randn(1, 4), torch.randn(1, 4), max_players=3)
    assert shap_values(chain(13, 40, 1), x[:, :13], background[:, :13], max_players=13).values.shape == (1, 13)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dtypes(dtype):
    torch.manual_seed(0)
    model = chain(6, 8, 2).to(dtype)
    x, background = torch.randn(2, 6, dtype=dtype), torch.randn(5, 6, dtype=dtype)
    found = shap_values(model, x, background)
    assert np.abs(found.values - brute_force(model.double(), x, background)).max() < 1e-9
    assert found.values.dtype == np.float64
    assert np.array_equal(found.data, x.double().numpy())


def test_scales_and_degenerate_inputs():
    torch.manual_seed(0)
    for scale in (1e-8, 1e8):
        model = chain(5, 6, 6, 1).double()
        x, background = (scale * torch.randn(2, 5, dtype=torch.float64) for _ in range(2))
        expected = brute_force(model, x, background)
        found = shap_values(model, x, background).values
        assert np.abs(found - expected[..., 0]).max() < 1e-9 * np.abs(expected).max() + 1e-15
    model = chain(5, 6, 1)
    assert shap_values(model, torch.zeros(0, 5), torch.zeros(1, 5)).values.shape == (0, 5)
    assert not shap_values(model, torch.ones(2, 5), torch.ones(3, 5)).values.any()
    one = shap_values(chain(1, 4, 1), torch.randn(3, 1), torch.randn(2, 1))
    assert one.values.shape == (3, 1)


def test_points_outside_of_the_domain_are_refused():
    torch.manual_seed(0)
    model = chain(2, 6, 1).double()
    triangle = Polytope([[-1.0, 0.0], [0.0, -1.0], [1.0, 1.0]], [0.0, 0.0, 1.0])
    shallow = torch_shallow.transform(model, domain=triangle)
    x, background = torch.tensor([[0.9, 0.05]]).double(), torch.tensor([[0.05, 0.9]]).double()
    with pytest.raises(TransformError, match="outside its domain"):
        shap_values(shallow, x, background)  # (0.9, 0.9) is a coalition
    inside = x / 2
    assert np.abs(shap_values(shallow, inside, 0.4 * background).values[0]).max() > 0.0
    with pytest.raises(TransformError, match="outside its domain"):
        shap_values(torch_shallow.transform(model, domain=Box(0.0, 0.8)), x, background)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        part = torch_shallow.transform(chain(3, 16, 16, 1), max_regions=20)
    with pytest.raises(TransformError, match="known regions"):
        shap_values(part, 10.0 * torch.randn(20, 3), torch.randn(2, 3))


@pytest.mark.parametrize(
    ("x", "background", "match"),
    [
        (torch.zeros(3), torch.zeros(1, 3), "x: expected a batch"),
        (torch.zeros(1, 3, dtype=torch.int64), torch.zeros(1, 3), "x: expected a floating-point tensor"),
        (torch.zeros(1, 3), torch.zeros(3), "background: expected a batch"),
        (torch.zeros(1, 3), torch.zeros(0, 3), "background: expected one or more rows"),
        (torch.zeros(1, 4), torch.zeros(1, 3), "shape"),
        (torch.zeros(1, 3), torch.full((1, 3), torch.nan), "finite"),
    ],
)
def test_arguments_are_checked(x, background, match):
    for explain in (shap_values, local_linear_shap):
        with pytest.raises(TransformError, match=match):
            explain(chain(3, 4, 1), x, background)


def test_max_players_and_tolerance_are_checked():
    x = torch.randn(1, 3)
    with pytest.raises(TransformError, match="max_players"):
        shap_values(chain(3, 4, 1), x, x + 1.0, max_players=0)
    with pytest.raises(TransformError, match="sum to the difference"):
        shap_values(chain(3, 4, 1), x, torch.randn(50, 3), tolerance=-1.0)


def test_names_and_units():
    raw = np.random.default_rng(0).normal(40.0, 12.0, size=(20, 3))
    scaler = StandardScaler().fit(raw)
    x = torch.from_numpy(scaler.transform(raw))
    found = shap_values(chain(3, 4, 2), x[:2], x[2:], features=Features.of(["a", "b", "c"], scaler=scaler))
    assert found.feature_names == ["a", "b", "c"]
    assert np.allclose(found.display_data, raw[:2])
    assert np.array_equal(found.data, x[:2].numpy())
    with pytest.raises(TransformError, match="features"):
        shap_values(chain(3, 4, 2), x[:2], x[2:], features=["a", "b"])


@pytest.mark.parametrize("outputs", [1, 3])
def test_plots_of_shap(outputs):
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    torch.manual_seed(0)
    found = shap_values(chain(4, 6, outputs), torch.randn(6, 4), torch.randn(5, 4), features=list("abcd"))
    one = found[..., 0] if outputs > 1 else found
    shap.plots.bar(one, show=False)
    shap.plots.waterfall(one[0], show=False)
    shap.plots.beeswarm(one, show=False)
    plt.close("all")
    image = nn.Sequential(nn.Conv2d(1, 2, 2), nn.ReLU(), nn.Flatten(), nn.Linear(8, outputs))
    values = shap_values(image, torch.randn(1, 1, 3, 3), torch.randn(1, 1, 3, 3)).values
    assert values.shape == (1, 1, 3, 3, *([outputs] if outputs > 1 else []))


def test_max_players_is_about_coalitions_only():
    torch.manual_seed(0)
    x, background = torch.randn(1, 3), torch.randn(4, 3)
    model = chain(3, 8, 1)
    found = shap_values(model, x, background, max_players=3).values
    assert np.array_equal(found, shap_values(model, x, background).values)
    with pytest.raises(TransformError, match=r"max_players: .* 3 features"):
        shap_values(model, x, background, max_players=1)


def test_a_large_linear_network_has_the_closed_form(monkeypatch):
    monkeypatch.setattr(source_module, "SMALL", 100)
    model = nn.Linear(30, 20).double()
    x, background = torch.randn(1, 30, dtype=torch.float64), torch.randn(1, 30, dtype=torch.float64)
    expected = ((x - background) * model.weight).T.detach().numpy()
    assert np.abs(shap_values(model, x, background).values[0] - expected).max() < 1e-12


def test_in_inference_mode():
    with torch.inference_mode():
        x = torch.randn(2, 3, dtype=torch.float64)
        model = chain(3, 4, 2).double()
        assert shap_values(model, x, x[1:]).values.any()
        assert local_linear_shap(model, x, x[:1]).equals_shap[0]


def test_float32_on_the_boundary_of_a_box():
    model = chain(2, 4, 1)
    shallow = torch_shallow.transform(model, domain=Box([-0.7, 0.3], [0.1, 0.3]))
    x, background = torch.tensor([[0.1, 0.3]]), torch.tensor([[-0.7, 0.3], [0.0, 0.3]])
    expected = shap_values(model, x, background).values
    assert np.allclose(shap_values(shallow, x, background).values, expected, atol=1e-7)


def test_a_batch_of_another_shape_is_named():
    x = torch.zeros(2, 3, dtype=torch.float64)
    with pytest.raises(TransformError, match=r"^x: expected a batch of inputs that f accepts, found shape \(2, 3\)"):
        shap_values(chain(2, 4, 1).double(), x, x)
