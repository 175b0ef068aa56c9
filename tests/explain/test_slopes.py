"""Lipschitz constants, monotonicity, unused features, neurons."""

import math

import jaxtyping
import numpy as np
import pytest
import torch
from torch import nn

import torch_shallow
from tests import zoo
from torch_shallow import Box, Polytope, TransformError
from torch_shallow.explain import Features
from torch_shallow.explain.globally import lipschitz_constant, monotonicity, neuron_activity, unused_features, volumes

BOX = Box(-1.0, 1.0)
NORMS = (1, 2, math.inf)


def network(seed, *sizes):
    torch.manual_seed(seed)
    return zoo.chain(*sizes).double()


def jacobians(model, shallow):
    """By autograd, at an interior point of every region."""
    points = [region.interior_point for region in shallow.regions]
    return torch.stack([torch.autograd.functional.jacobian(lambda x: model(x[None])[0], x) for x in points])


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("domain", [None, BOX, Polytope([[1.0, 1.0, 0.0]], [0.5])], ids=str)
def test_equals_brute_force_and_no_slope_beats_it(norm, domain):
    model = network(0, 3, 6, 5, 2)
    shallow = torch_shallow.transform(model, domain=domain)
    found = lipschitz_constant(shallow, norm)
    slopes = jacobians(model, shallow)
    assert found.value == pytest.approx(torch.linalg.matrix_norm(slopes, ord=norm).max().item(), rel=1e-9)
    x, y = torch.rand(2, 5000, 3, dtype=torch.float64) * 2 - 1
    if domain is not None:
        keep = domain.contains(x) & domain.contains(y)
        x, y = x[keep], y[keep]
    with torch.no_grad():
        change = torch.linalg.vector_norm(model(x) - model(y), ord=norm, dim=1)
        assert (change <= found.value * torch.linalg.vector_norm(x - y, ord=norm, dim=1) * (1 + 1e-9)).all()
        assert torch.linalg.vector_norm(found.direction, ord=norm).item() == pytest.approx(1.0)
        moved = model((found.point + 1e-7 * found.direction)[None]) - model(found.point[None])
    assert torch.linalg.vector_norm(moved, ord=norm).item() / 1e-7 == pytest.approx(found.value, rel=1e-5)
    row = lipschitz_constant(shallow, norm, output=1)
    dual = {1: math.inf, 2: 2, math.inf: 1}[norm]
    assert row.value == pytest.approx(torch.linalg.vector_norm(slopes[:, 1], ord=dual, dim=1).max().item(), rel=1e-9)
    assert lipschitz_constant(shallow, norm, output=(1,)).value == row.value


def test_fixed_inputs_do_not_count():
    model = network(1, 3, 6, 2)
    box = Box([-1.0, 0.5, -1.0], [1.0, 0.5, 1.0])
    shallow = torch_shallow.transform(model, domain=box)
    for norm in NORMS:
        found = lipschitz_constant(shallow, norm)
        slopes = jacobians(model, shallow)[..., [0, 2]]
        assert found.value == pytest.approx(torch.linalg.matrix_norm(slopes, ord=norm).max().item(), rel=1e-9)
        assert found.direction[1] == 0.0
    assert lipschitz_constant(model, 2, Box(0.3, 0.3)).value == 0.0


@pytest.mark.parametrize("specimen", [*zoo.DEGENERATE, *zoo.ARCHITECTURES], ids=str)
def test_all_kinds_of_networks(specimen):
    if specimen.regions is not None and specimen.regions > 1000:
        pytest.skip("large")
    model = specimen.model()
    shallow = torch_shallow.transform(model, specimen.example(), domain=specimen.domain)
    found = lipschitz_constant(shallow)
    weights, _ = shallow.affine_maps(torch.arange(shallow.num_regions))
    names = monotonicity(shallow)
    fixed = names.fixed.reshape(-1)
    assert found.value == pytest.approx(torch.linalg.matrix_norm(weights[..., ~fixed], ord=2).max().item(), abs=1e-12)
    assert torch.equal(names.least.reshape(weights.shape[1:]), weights.amin(0))
    assert torch.equal(names.greatest.reshape(weights.shape[1:]), weights.amax(0))
    assert str(names)
    unused = unused_features(shallow)
    zero = (weights.abs() <= 1e-9 * weights.norm(dim=-1).amax(0)[:, None]).all(1)
    assert torch.equal(unused.unused, zero)
    assert neuron_activity(shallow).num_regions == shallow.num_regions


def test_trained_networks_are_refused():
    shallow = torch_shallow.transform(zoo.chain(2, 3, 1)).unfreeze()
    for what in (lipschitz_constant, monotonicity, unused_features):
        with pytest.raises(TransformError, match="may have been trained"):
            what(shallow)


@pytest.mark.parametrize("norm", [0, 3, True])
def test_other_norms_are_refused(norm):
    with pytest.raises(TransformError, match="norm: expected"):
        lipschitz_constant(zoo.chain(2, 3, 1), norm)


def test_other_outputs_are_refused():
    for output in (2, -1, (0, 0), (5,)):
        with pytest.raises(TransformError, match="output: expected"):
            lipschitz_constant(zoo.chain(2, 3, 2), output=output)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_monotone_network(dtype):
    torch.manual_seed(0)
    model = zoo.chain(3, 6, 5, 1).to(dtype)
    with torch.no_grad():
        for layer in model:
            if isinstance(layer, nn.Linear):
                layer.weight.abs_()
        model[0].weight[:, 1] *= -1.0
        model[0].weight[:, 2] = 0.0
    found = monotonicity(model, features=["up", "down", "flat"])
    assert [found.verdict(name) for name in ("up", "down", "flat")] == ["increasing", "decreasing", "constant"]
    assert found.breaks("increasing", "up") is None
    assert found.breaks("increasing", "down").slope < 0.0
    assert unused_features(model, features=["up", "down", "flat"]).never_used == ("flat",)
    turned = monotonicity(model, features=Features.of(["up", "down", "flat"], scale=[-1.0, 2.0, 1.0]))
    assert turned.verdict("up") == "decreasing"
    assert turned.least[0, 1].item() == pytest.approx(found.least[0, 1].item() / 2)


@pytest.mark.parametrize("seed", range(3))
def test_what_breaks_monotonicity_breaks_it(seed):
    model = network(seed, 2, 5, 4, 2)
    shallow = torch_shallow.transform(model, domain=BOX)
    found = monotonicity(shallow)
    for i in range(2):
        for k in range(2):
            for claim, sign in (("increasing", 1.0), ("decreasing", -1.0)):
                counter = found.breaks(claim, k, i)
                x = torch.rand(3000, 2, dtype=torch.float64) * 2 - 1
                y = x.clone()
                y[:, k] = y[:, k] + (1.0 - y[:, k]) * torch.rand(3000, dtype=torch.float64)
                with torch.no_grad():
                    change = sign * (model(y) - model(x))[:, i]
                if counter is None:
                    assert (change >= -1e-12).all()
                    continue
                step = torch.zeros(2, dtype=torch.float64)
                step[k] = 1e-8
                with torch.no_grad():
                    assert sign * (model((counter.point + step)[None]) - model(counter.point[None]))[0, i] < 0.0
                assert int(shallow.locate(counter.point)) == counter.region


def test_fixed_inputs_are_neither():
    found = monotonicity(network(0, 2, 4, 1), Box([-1.0, 0.5], [1.0, 0.5]))
    assert found.verdict(1) == "fixed"
    assert found.constant[0, 1]
    frame = found.to_frame()
    assert list(frame["verdict"])[1] == "fixed"
    with pytest.raises(TransformError, match="claim"):
        found.breaks("convex", 0)
    with pytest.raises(TransformError, match="output"):
        found.verdict(0, 1)


def test_where_a_feature_is_not_used():
    model = nn.Sequential(zoo.linear([[1.0, 0.0], [0.0, 1.0]], [0.0, -0.5]), nn.ReLU(), zoo.linear([[1.0, 1.0]], [0.0]))
    shallow = torch_shallow.transform(model, domain=BOX)
    found = unused_features(shallow, volumes=volumes(shallow))
    assert found.never_used == ()
    assert found.share.tolist() == [0.5, 0.5]
    assert found.volume_share.tolist() == pytest.approx([0.5, 0.75])
    points = torch.stack([shallow.regions[int(i)].interior_point for i in found.regions("x1")])
    assert (points[:, 1] < 0.5).all()
    assert "x1: not used in 50.0% of regions" in str(found)
    assert list(found.to_frame()["unused_share_of_volume"]) == pytest.approx([0.5, 0.75])
    with pytest.raises(TransformError, match="volumes"):
        unused_features(shallow, volumes=volumes(zoo.chain(2, 9, 1), BOX))


def test_dead_and_always_on_neurons():
    model = nn.Sequential(
        zoo.linear([[1.0, 0.0], [1.0, 0.0], [0.0, 0.0], [1.0, 1.0]], [-5.0, 5.0, 0.0, 0.0]), nn.ReLU(), nn.Linear(4, 1)
    )
    shallow = torch_shallow.transform(model, domain=BOX)
    found = neuron_activity(shallow)
    assert found.dead.tolist() == [True, False, True, False]
    assert found.always_on.tolist() == [False, True, False, False]
    assert found.share.tolist() == [0.0, 1.0, 0.0, 0.5]
    assert "dead: stage 1 neuron 0, stage 1 neuron 2" in str(found)
    assert list(found.to_frame()["dead"]) == found.dead.tolist()
    twice = nn.Sequential(zoo.linear([[1.0], [1.0]], [0.0, -1.0]), nn.ReLU(), zoo.linear([[1.0, 0.0]], [0.0]))
    with pytest.raises(TransformError, match="activation regions"):
        neuron_activity(torch_shallow.transform(twice).merge())
    patterns = np.stack([region.pattern.numpy() for region in shallow.regions])
    assert found.active.tolist() == patterns.sum(0).tolist()


def test_neurons_of_a_large_network_in_a_box():
    torch.manual_seed(0)
    model, x = zoo.chain(300, 400, 200, 2), torch.rand(300)
    shallow = torch_shallow.transform(model, domain=Box(x - 1e-3, x + 1e-3))
    found = neuron_activity(shallow)
    patterns = torch.stack([region.pattern for region in shallow.regions])
    assert torch.equal(found.active, patterns.sum(0))


@pytest.mark.parametrize("seed", range(4))
def test_a_search_tells_the_neurons_that_all_regions_tell(seed):
    torch.manual_seed(seed)
    model = zoo.chain(2, 6, 6, 5, 1).double()
    for domain in (BOX, Polytope([[1.0, 1.0], [-1.0, 0.2], [0.3, -1.0]], [1.0, 1.0, 0.5])):
        found, counted = neuron_activity(model, domain), neuron_activity(torch_shallow.transform(model, domain=domain))
        assert found.proven
        assert not found.undecided.any()
        assert torch.equal(found.dead, counted.dead)
        assert torch.equal(found.always_on, counted.always_on)
        assert found.names == counted.names
        assert (found.active, found.num_regions) == (None, None)
        assert "by a search" in str(found)
        assert list(found.to_frame()["dead"]) == counted.dead.tolist()
        with pytest.raises(TransformError, match="shallow network"):
            _ = found.share


def test_a_neuron_that_is_zero_in_a_whole_region_is_neither_positive_nor_negative_there():
    """Behind relu(x) and relu(y): relu(x), relu(x) + relu(y), -relu(x), relu(x) - relu(y), and nothing but rounding."""
    behind = [[1.0, 0.0], [1.0, 1.0], [-1.0, 0.0], [1.0, -1.0], [0.0, 0.0]]
    model = nn.Sequential(
        *(zoo.linear(torch.eye(2).tolist(), [0.0, 0.0]), nn.ReLU(), zoo.linear(behind, [0.0] * 5), nn.ReLU()),
        zoo.linear([[1.0, 0.1, 0.3, 0.5, 0.7], [3.0, 0.3, 0.9, 1.5, 2.1]], [0.0, 0.0]),
        *(nn.ReLU(), zoo.linear([[3.0, -1.0]], [0.0]), nn.ReLU(), nn.Linear(1, 1)),
    ).double()
    with torch.no_grad():  # in float64, so that only rounding is left
        model[4].weight[1] = 3.0 * model[4].weight[0]
    half_bounded = Box(-1.0, [1.0, float("inf")])
    for domain in (BOX, half_bounded, None):
        shallow = torch_shallow.transform(model, domain=domain)
        for found in (neuron_activity(model, domain), neuron_activity(shallow)):
            assert found.dead.tolist() == [False, False, False, False, True, False, True, False, False, True]
            assert found.always_on.tolist() == [False, False, True, True, False, False, False, True, True, False]
    found = neuron_activity(shallow)
    assert found.share[3] == 1.0 - 1.0 / shallow.num_regions
    assert found.share[2] < found.share[3]


def test_a_search_for_neurons_asks_where_bounds_leave_a_sign_open():
    """|x| + |y| - 0.999 max(|x + y|, |x - y|) is never negative, which no bound of single neurons tells."""
    rows = [[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0], [1.0, 1.0], [-1.0, -1.0]]
    model = nn.Sequential(
        zoo.linear(rows, [0.0] * 6), nn.ReLU(), zoo.linear([[1.0, 1.0, 1.0, 1.0, -0.999, -0.999]], [0.0]), nn.ReLU()
    )
    found = neuron_activity(model.double(), BOX)
    assert found.cells > 0
    assert found.always_on.tolist() == [False] * 6 + [True]
    stopped = neuron_activity(model, BOX, time_limit=1e-9)
    assert stopped.undecided.tolist() == [False] * 6 + [True]
    assert not stopped.proven
    assert "not decided (time_limit" in str(stopped)


def test_neurons_of_a_model_with_a_head_and_in_unbounded_domains():
    torch.manual_seed(1)
    model = nn.Sequential(zoo.chain(2, 5, 4, 2), nn.Softmax(1))
    assert neuron_activity(model, BOX).proven
    assert neuron_activity(model, Box(-1.0, [1.0, float("inf")])).num_regions > 1
    assert neuron_activity(model).num_regions > 1


@pytest.mark.parametrize("output", [0.5, 1.0, True, "0", (0, 0), 3, -1])
def test_no_such_output(output, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(TransformError, match=r"^output: expected a number from 0 to 1"):
        lipschitz_constant(zoo.chain(2, 3, 2), output=output)


@pytest.mark.parametrize("tolerance", [float("nan"), 2.0, -1.0])
def test_no_such_tolerance(tolerance):
    for fact in (monotonicity, unused_features):
        with pytest.raises(TransformError, match=r"^tolerance: expected"):
            fact(zoo.chain(2, 3, 2), tolerance=tolerance)


def test_all_regions_that_break_a_claim():
    shallow = torch_shallow.transform(zoo.chain(2, 6, 4, 2).double(), domain=Box(-1.0, 1.0))
    found = monotonicity(shallow, features=Features.of(["a", "b"], scale=[2.0, -0.5]))
    weight = shallow.affine_maps(torch.arange(shallow.num_regions))[0] / torch.tensor([2.0, -0.5])
    for claim, broken in (
        ("increasing", weight < -1e-9),
        ("decreasing", weight > 1e-9),
        ("constant", weight.abs() > 1e-9),
    ):
        for i in range(2):
            for k in range(2):
                regions = found.breaking_regions(claim, k, i)
                assert regions.tolist() == broken[:, i, k].nonzero()[:, 0].tolist()
                worst = found.breaks(claim, k, i)
                assert worst.region in regions if worst else len(regions) == 0
