"""The soft network: a mean of all local models, smooth in every weight, that tends to the shallow network."""

from __future__ import annotations

import copy
import math

import jaxtyping
import pytest
import torch
from torch import Tensor, nn

from tests.cases import thinned
from tests.modules.laws import assert_equal, random_points
from tests.modules.tuned import TUNED, shaken, shallow_of
from tests.zoo import Specimen, chain
from torch_shallow import Box, transform
from torch_shallow.errors import TransformError
from torch_shallow.modules.soft_relu import SoftReLU

SMALL = tuple(s for s in TUNED if s.name in ("2-5-4-1", "shortcut", "image", "30-5-4-2"))


def soft_of(specimen: Specimen | str, sharpness: float = 3.0, shake: float = 0.0) -> SoftReLU:
    soft = shallow_of(specimen).soften(sharpness)
    shaken(soft, shake)
    return soft


def path_distances(soft: SoftReLU, x: Tensor, region: int) -> Tensor:
    """Signed distances of points from the cuts on a region's path, positive on the region's side."""
    u = x.flatten(1) if soft.projection is None else x.flatten(1) @ soft.projection.T
    columns = [u[:, :1] * 0 + math.inf]
    for cut, active in soft.partition.path(region):
        row = soft.half_space_of[cut]
        n = soft.normals[row]
        z = (u @ n + soft.offsets[row]) / (n if soft.projection is None else n @ soft.projection).norm()
        columns.append((z if active else -z)[:, None])
    return torch.cat(columns, 1)


@pytest.mark.parametrize("specimen", TUNED, ids=str)
def test_it_is_the_mean_of_local_models_by_products_of_sigmoids(specimen: Specimen) -> None:
    soft = soft_of(specimen, 3.0, 0.1)
    x = random_points(shallow_of(specimen), 50)
    x = x[x.flatten(1).norm(dim=1) < 100.0]
    u = x.flatten(1) if soft.projection is None else x.flatten(1) @ soft.projection.T
    expected, shares = 0.0, []
    for region in range(len(soft.biases)):
        shares.append(torch.sigmoid(soft.sharpness * path_distances(soft, x, region)).prod(1))
        expected = expected + shares[-1][:, None] * (u @ soft.weights[region].T + soft.biases[region])
    expected = expected if soft.skip is None else expected + x.flatten(1) @ soft.skip.T
    assert_equal(soft.membership(x), torch.stack(shares, 1), 1e-12)
    assert_equal(soft.membership(x).sum(1), torch.ones(len(x)), 1e-12)
    assert_equal(soft.trunk(x).flatten(1), expected, 1e-9)
    if soft.head is None:
        assert torch.equal(soft(x), soft.trunk(x))
    else:
        assert_equal(soft(x), soft.head(soft.trunk(x)), 1e-12)


@pytest.mark.parametrize("specimen", thinned(TUNED, "image", "densely connected", "PReLU", "shortcut"), ids=str)
@pytest.mark.parametrize("sharpness", [1.0, 30.0, 1e3, 1e6])
def test_the_stated_bound_holds(specimen: Specimen, sharpness: float) -> None:
    shallow = shallow_of(specimen)
    soft = shallow.soften(sharpness)
    x = random_points(shallow, 300)
    x = torch.cat(
        [
            x[x.flatten(1).norm(dim=1) < 100.0],
            torch.from_numpy(shallow.partition.interior_points()).reshape(-1, *x.shape[1:]),
        ]
    )
    weights, biases = shallow.affine_maps(torch.arange(shallow.num_regions))
    values = torch.einsum("koi,pi->pko", weights, x.flatten(1)) + biases
    hard, found, share = shallow.trunk(x).flatten(1), soft.trunk(x).flatten(1), soft.membership(x)
    for i, region in enumerate(shallow.locate(x).tolist()):
        distances = path_distances(soft, x[i : i + 1], region)[0, 1:]
        if not len(distances):
            continue
        astray = len(distances) * math.exp(-sharpness * max(0.0, float(distances.min().detach())))
        assert 1.0 - float(share[i, region].detach()) <= astray + 1e-12
        largest = float((values[i] - values[i, region]).abs().max())
        rounding = 1e-12 * (1.0 + float(values[i].abs().max()))
        assert float((found[i] - hard[i]).abs().max().detach()) <= astray * largest + rounding


@pytest.mark.parametrize("specimen", TUNED, ids=str)
def test_in_the_limit_it_is_the_shallow_network(specimen: Specimen) -> None:
    shallow = shallow_of(specimen)
    inside = torch.from_numpy(shallow.partition.interior_points()).reshape(-1, *shallow.in_shape)
    assert_equal(shallow.soften(1e14)(inside), shallow(inside), 1e-9)


@pytest.mark.parametrize("specimen", SMALL, ids=str)
def test_the_gradient_of_everything_passes_the_check_of_torch(specimen: Specimen) -> None:
    soft = soft_of(specimen, 2.0, 0.05)
    names, values = zip(*soft.named_parameters(), strict=True)
    assert {"normals", "offsets", "weights", "biases"} <= set(names)
    assert ("skip" in names) == (specimen.name in ("shortcut",)) or specimen.name in ("30-5-4-2", "image")
    x = 0.3 * torch.rand(2, *soft.in_shape, dtype=torch.float64)

    def function(x: Tensor, *parameters: Tensor) -> Tensor:
        return torch.func.functional_call(soft, dict(zip(names, parameters, strict=True)), (x,))

    inputs = (x.requires_grad_(), *(v.detach().clone().requires_grad_() for v in values))
    assert torch.autograd.gradcheck(function, inputs, fast_mode=True, atol=1e-6)


@pytest.mark.parametrize("sharpness", [1e-6, 1.0, 1e3, 1e9, 1e300])
@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e6, 1e30, 1e100])
def test_nothing_overflows(sharpness: float, scale: float) -> None:
    soft = soft_of("3-8-8-3", sharpness)
    x = scale * torch.randn(80, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x.requires_grad_()
    y, share = soft(x), soft.membership(x)
    y.sum().backward()
    assert y.isfinite().all()
    assert share.isfinite().all()
    assert_equal(share.detach().sum(1), torch.ones(80), 1e-9)
    assert x.grad is not None
    assert x.grad.isfinite().all()
    for parameter in soft.parameters():
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()


def test_gradients_are_finite_on_a_cut_and_for_a_cut_without_direction() -> None:
    soft = soft_of("2-5-4-1", 1e12)
    with torch.no_grad():
        row, other = soft.half_space_of[3], soft.half_space_of[0]
        assert row != other
        soft.normals[row], soft.offsets[row] = 0.0, -1.0
        normal, offset = soft.normals[other], soft.offsets[other]
        x = (-offset * normal / normal.square().sum())[None]
    soft(x).sum().backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in soft.parameters())
    # It lets everything pass to the side of its sign, the deep side of nothing.
    active = int(soft.partition.children[3, 1])
    while active >= 0:
        active = int(soft.partition.children[active, 0])
    share = soft.membership(torch.randn(50, 2, dtype=torch.float64))
    assert float(share[:, ~active].max().detach()) == 0.0


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("batch", [(), (5,), (2, 3), (0,)], ids=str)
@pytest.mark.parametrize("specimen", SMALL, ids=str)
def test_batches_and_dtypes(specimen: Specimen, batch: tuple[int, ...], dtype: torch.dtype) -> None:
    soft = soft_of(specimen)
    x = torch.rand(*batch, *soft.in_shape).to(dtype)
    y = soft(x)
    assert y.shape == (*batch, *soft.out_shape)
    assert y.dtype == dtype
    assert torch.equal(y, soft(x.double()).to(dtype))
    assert soft.membership(x).shape == (*batch, len(soft.biases))
    assert soft.contains(x).shape == batch


def test_outside_of_the_domain_it_is_nan_and_gradients_from_inside_are_not() -> None:
    soft = transform(chain(2, 6, 1).double(), domain=Box(-1.0, 1.0)).soften(5.0)
    x = torch.tensor([[0.0, 0.5], [1.5, 0.0], [torch.nan, 0.0], [torch.inf, 0.0]], dtype=torch.float64)
    y = soft(x)
    assert y.isnan().flatten().tolist() == [False, True, True, True]
    assert soft.contains(x).tolist() == [True, False, False, False]
    assert soft.membership(x).isnan().all(1).tolist() == [False, True, True, True]
    soft(x[:2]).nansum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in soft.parameters())
    assert soft(x).sum().isnan()


def test_copies_state_dicts_and_precision() -> None:
    soft = soft_of("shortcut", 7.0, 0.1)
    x = torch.randn(20, 4, dtype=torch.float64)
    y = soft(x)
    copied, other = copy.deepcopy(soft), soft_of("shortcut", 1.0)
    assert torch.equal(copied(x), y)
    assert not torch.equal(other(x), y)
    other.load_state_dict(soft.state_dict())
    assert torch.equal(other(x), y)
    assert other.sharpness == 7.0
    y.sum().backward()
    assert soft.half() is soft
    assert all(p.dtype == torch.float64 and p.grad.dtype == torch.float64 for p in soft.parameters())
    assert torch.equal(soft(x), y)
    assert "sharpness 7" in repr(soft)


def test_the_network_that_it_was_made_from_is_not_trained() -> None:
    shallow = shallow_of("shortcut")
    before = {name: buffer.clone() for name, buffer in shallow.named_buffers()}
    shaken(shallow.soften(3.0), 1.0)
    assert all(torch.equal(buffer, before[name]) for name, buffer in shallow.named_buffers())
    assert not shallow.may_be_discontinuous


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch, about itself
def test_functional_transforms() -> None:
    soft = soft_of("3-8-8-3", 3.0, 0.1)
    x = torch.randn(6, 3, dtype=torch.float64)
    assert_equal(torch.vmap(soft)(x), soft(x), 1e-12)
    jacobian = torch.vmap(torch.func.jacrev(soft))(x)
    assert jacobian.shape == (6, 3, 3)
    leaf = x.clone().requires_grad_()
    for output in range(3):
        (expected,) = torch.autograd.grad(soft(leaf)[:, output].sum(), leaf)
        assert_equal(jacobian[:, output].detach(), expected, 1e-9)
    _, moved = torch.func.jvp(soft, (x,), (torch.ones_like(x),))
    assert_equal(moved.detach(), jacobian.detach().sum(-1), 1e-9)
    for far in (1.0, 1e6):
        curvature = torch.func.hessian(soft)(far * x[0])
        assert curvature.isfinite().all()
        assert_equal(curvature, curvature.mT, 1e-9)


def test_it_compiles_without_graph_breaks_and_not_anew_for_every_sharpness(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    torch._dynamo.reset()
    graphs = 0

    def count(graph: torch.fx.GraphModule, _: object) -> object:
        nonlocal graphs
        graphs += 1
        return graph

    soft = soft_of("2-5-4-1", 3.0, 0.1)
    compiled, x = torch.compile(soft, backend=count, fullgraph=True), torch.randn(9, 2, dtype=torch.float64)
    for sharpness in (1.0, 2.0, 5.0):
        soft.sharpness = sharpness
        assert torch.equal(compiled(x), soft(x))
    assert graphs == 1
    compiled(x).sum().backward()
    assert soft.normals.grad is not None


def test_training_moves_half_spaces_to_where_the_data_want_them() -> None:
    """One kink at 0, wanted at 1/2: local models alone cannot move it."""
    model = chain(1, 1, 1).double()
    with torch.no_grad():
        for p, value in zip(model.parameters(), (1.0, 0.0, 1.0, 0.0), strict=True):
            p.fill_(value)
    x = torch.linspace(-1, 2, 200, dtype=torch.float64)[:, None]
    target = (x - 0.5).relu()
    soft = transform(model, domain=Box(-1.0, 2.0)).soften(5.0)
    optimizer = torch.optim.Adam(soft.parameters(), lr=0.05)
    for sharpness in torch.logspace(0.7, 2.3, 150).tolist():
        soft.sharpness = sharpness
        optimizer.zero_grad()
        (soft(x) - target).square().mean().backward()
        optimizer.step()
    hard = soft.harden()
    assert float((hard(x) - target).abs().max()) < 0.05
    kink = -hard.half_spaces.offsets / hard.half_spaces.normals[:, 0]
    assert float(kink) == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("sharpness", [0.0, -1.0, math.inf, math.nan])
def test_bad_sharpness(sharpness: float) -> None:
    shallow = shallow_of("2-5-4-1")
    with pytest.raises(TransformError, match="sharpness: expected a positive finite number"):
        shallow.soften(sharpness)
    soft = shallow.soften(1.0)
    with pytest.raises(TransformError, match="sharpness: expected a positive finite number"):
        soft.sharpness = sharpness
    assert soft.sharpness == 1.0


def test_as_a_part_of_a_model_that_is_read_it_says_what_to_put_in_its_place() -> None:
    soft = transform(nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 2))).soften(5.0)
    for model, name in ((soft, "model"), (nn.Sequential(nn.Linear(2, 2), soft), "1")):
        message = rf"^model: .*{name}, a SoftReLU.*put the result of its harden\(\) in its place"
        with pytest.raises(TransformError, match=message):
            transform(model)
