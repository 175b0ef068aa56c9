"""Two networks compared."""

import copy

import jaxtyping
import numpy as np
import pytest
import torch
from torch import nn

import torch_shallow
from tests import zoo
from tests.explain.milp import largest_by_milp
from torch_shallow import Box, Polytope, TransformError
from torch_shallow.explain.difference import difference
from torch_shallow.program.model import read_model

BOX = Box(-1.0, 1.0)


class Minus(nn.Module):
    def __init__(self, a, b):
        super().__init__()
        self.a, self.b = a, b

    def forward(self, x):
        return self.a(x) - self.b(x)


def pair(seed, *sizes, by=0.05):
    torch.manual_seed(seed)
    a = zoo.chain(*sizes).double()
    b = copy.deepcopy(a)
    with torch.no_grad():
        for parameter in b.parameters():
            parameter += by * torch.randn_like(parameter)
    return a, b


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.slow)])
def test_equals_a_mixed_integer_program_and_no_sample_beats_it(seed):
    a, b = pair(seed, 2, 5, 4, 2)
    found = difference(a, b, BOX, regions=True)
    program = read_model(Minus(a, b))
    for i in range(2):
        both = [largest_by_milp(program, -np.ones(2), np.ones(2), sign * np.eye(2)[i]) for sign in (1.0, -1.0)]
        assert found.largest[i].item() == pytest.approx(max(both), rel=1e-6, abs=1e-8)
    x = torch.rand(20_000, 2, dtype=torch.float64) * 2 - 1
    with torch.no_grad():
        assert ((a(x) - b(x)).abs().amax(0) <= found.largest + 1e-12).all()
        at = (a(found.where) - b(found.where)).diagonal().abs()
    torch.testing.assert_close(at, found.largest)
    torch.testing.assert_close(found.network(x), (a(x) - b(x)).detach())
    assert found.network.certify(Minus(a, b)).passed
    assert found.network.num_regions == torch_shallow.transform(Minus(a, b), domain=BOX).num_regions
    assert found.equal(float(found.largest.max()) + 1e-9)
    assert not found.equal(float(found.largest.max()) * 0.99)


@pytest.mark.parametrize("domain", [BOX, None, Polytope([[1.0, 1.0]], [1.0])], ids=str)
def test_a_network_and_itself(domain):
    a, _ = pair(0, 2, 5, 4, 1)
    found = difference(a, copy.deepcopy(a), domain)
    assert found.equal()
    assert found.largest.max() <= 1e-12 if domain is BOX else found.largest.isfinite().all()


def test_refactoring_is_equal_and_pruning_is_not():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 1)).double().eval()
    model[1].running_mean.normal_()
    model[1].running_var.uniform_(0.5, 2.0)
    folded = nn.Sequential(torch.nn.utils.fusion.fuse_linear_bn_eval(model[0], model[1]), nn.ReLU(), model[3])
    assert difference(model, folded).equal()
    pruned = copy.deepcopy(folded)
    with torch.no_grad():
        pruned[0].weight[0] = 0.0
        pruned[0].bias[0] = 0.0
    assert difference(model, pruned).largest.item() == torch.inf
    assert 0.0 < difference(model, pruned, BOX).largest.item() < torch.inf


def test_unbounded_differences_have_a_direction():
    found = difference(zoo.trap(), nn.Linear(1, 1))
    assert found.largest.tolist() == [torch.inf]
    assert found.where.isnan().all()
    assert found.range.upper_ray.isfinite().all()


def test_models_of_other_dtypes_programs_and_shallow_networks():
    a, b = pair(0, 2, 5, 3, 2)
    exact = difference(a, b, BOX).largest
    shallow = torch_shallow.transform(a, domain=Box(-2.0, 2.0))
    torch.testing.assert_close(difference(shallow, b, BOX).largest, exact)
    torch.testing.assert_close(difference(b, shallow.merge(), BOX).largest, exact)
    exported = torch.export.export(
        b, (torch.zeros(3, 2, dtype=torch.float64),), dynamic_shapes=({0: torch.export.Dim("rows")},)
    )
    torch.testing.assert_close(difference(a, exported, BOX).largest, exact)
    single = copy.deepcopy(b).float()
    torch.testing.assert_close(difference(a, single, BOX).largest, difference(a, single.double(), BOX).largest)
    assert difference(shallow, b).network.domain is shallow.domain


def test_large_networks_in_a_small_box():
    a, b = pair(0, 300, 400, 200, 2, by=1e-4)
    x = torch.rand(300, dtype=torch.float64)
    box = Box(x - 3e-4, x + 3e-4)
    found = difference(a, b, box, regions=True)
    with torch.no_grad():
        at = (a(found.where) - b(found.where)).diagonal().abs()
        points = x + 3e-4 * (torch.rand(1000, 300, dtype=torch.float64) * 2 - 1)
        assert ((a(points) - b(points)).abs().amax(0) <= found.largest + 1e-12).all()
    torch.testing.assert_close(at, found.largest)
    assert len(found.network.regions[0].pattern) == 1200


def test_what_it_refuses():
    a, b = pair(0, 2, 4, 1)
    shallow = torch_shallow.transform(a, domain=BOX)
    with pytest.raises(TransformError, match="out_shape"):
        difference(a, zoo.chain(2, 4, 2))
    with pytest.raises(TransformError, match="in_shape"):
        difference(a, zoo.chain(3, 4, 1))
    with pytest.raises(TransformError, match="with a head"):
        difference(a, nn.Sequential(*zoo.chain(2, 4, 1), nn.Sigmoid()))
    with pytest.raises(TransformError, match="with a head"):
        difference(torch_shallow.transform(nn.Sequential(*zoo.chain(2, 4, 1), nn.Sigmoid())), a)
    with pytest.raises(TransformError, match="not known to lie in it"):
        difference(shallow, b, Box(-2.0, 1.0))
    with pytest.raises(TransformError, match="trained"):
        difference(torch_shallow.transform(a, domain=BOX).unfreeze(), b)
    with pytest.raises(TransformError, match="needs all regions"):
        difference(torch_shallow.transform(a, data=torch.rand(4, 2, dtype=torch.float64)), b)


@pytest.mark.parametrize("seed", range(4))
def test_batch_norms_folded_in_float32(seed):
    torch.manual_seed(seed)
    layers = []
    for inputs, outputs in ((3, 6), (6, 6)):
        norm = nn.BatchNorm1d(outputs)
        norm.running_mean = torch.randn(outputs)
        norm.running_var = 0.1 + torch.rand(outputs)
        layers += [nn.Linear(inputs, outputs), norm, nn.ReLU()]
    model = nn.Sequential(*layers, nn.Linear(6, 1)).eval()
    fused = [nn.utils.fuse_linear_bn_eval(model[i], model[i + 1]) for i in (0, 3)]
    folded = nn.Sequential(fused[0], nn.ReLU(), fused[1], nn.ReLU(), model[6]).eval()
    found = difference(model, folded, Box(-2.0, 2.0))
    x = 4 * torch.rand(20_000, 3, dtype=torch.float64) - 2
    sampled = (copy.deepcopy(model).double()(x) - copy.deepcopy(folded).double()(x)).abs().max()
    assert sampled <= found.largest.max() < 1e-4
    assert not found.equal()
    assert found.equal(1e-4)


@pytest.mark.parametrize("change", [1e-9, 1e-10, 1e-11, 1e-12, 1e-15])
def test_networks_that_are_nearly_equal(change):
    """What is left is as exact as the networks' own size lets it be, and no error."""
    for seed in range(3):
        torch.manual_seed(seed)
        a = zoo.chain(2, 6, 5, 2).double()
        b = copy.deepcopy(a)
        with torch.no_grad():
            for parameter in b.parameters():
                parameter.add_(change * torch.randn_like(parameter))
        found = difference(a, b, Box(-1.0, 1.0))
        x = 2.0 * torch.rand(5000, 2, dtype=torch.float64) - 1.0
        assert ((a(x) - b(x)).abs().amax(0) <= found.largest + 1e-10).all()
        assert (found.largest <= 100 * change + 1e-10).all()


def test_a_domain_with_the_same_inequalities_and_no_domain(monkeypatch):
    model = zoo.chain(2, 3, 1)
    rows = np.concatenate([np.eye(2), -np.eye(2)])
    shallow = torch_shallow.transform(model, domain=Polytope(rows, np.ones(4)))
    assert difference(shallow, model, Polytope(rows, np.ones(4))).equal()
    with pytest.raises(TransformError, match="not known to lie in it"):
        difference(shallow, model, Polytope(rows, 2.0 * np.ones(4)))
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(TransformError, match=r"^domain: expected a Box"):
        difference(model, model, "box")
