"""The shallow network is the deep one, as a function and as an `nn.Module`."""

from __future__ import annotations

import copy

import jaxtyping
import numpy as np
import pytest
import torch
from torch import nn

import torch_shallow
from tests.modules.laws import assert_equal, corner_points, deep, random_points, sizes_of_terms
from tests.zoo import ARCHITECTURES, ARRANGEMENTS, DEEP, DEGENERATE, Specimen, chain, transformed, trap
from torch_shallow import Box, Polytope, ShallowReLU, transform
from torch_shallow.errors import TransformError

pytestmark = pytest.mark.quick

MODELS = (*DEGENERATE, *ARCHITECTURES, *(s for s in (*ARRANGEMENTS, *DEEP) if s.regions <= 16))
SMALL = tuple(s for s in (*DEGENERATE, *ARCHITECTURES) if s.name != "3-16-16-1")
FORMS = tuple(s for s in ARCHITECTURES if s.name in ("2-5-4-1", "3-8-8-3", "image", "30-5-4-2", "densely connected"))


@pytest.mark.usefixtures("several_threads")
@pytest.mark.parametrize("specimen", MODELS, ids=str)
def test_equal_to_the_deep_model_at_random_points(specimen: Specimen) -> None:
    shallow = transformed(specimen)
    x = random_points(shallow, 10_000 if specimen in (*ARRANGEMENTS, *DEEP) else 20_000)
    assert_equal(shallow(x), deep(specimen, x), 1e-9)


@pytest.mark.parametrize("specimen", MODELS, ids=str)
def test_equal_to_the_deep_model_at_vertices_on_facets_and_inside(specimen: Specimen) -> None:
    shallow = transformed(specimen)
    inside = torch.from_numpy(shallow.partition.interior_points()).reshape(-1, *shallow.in_shape)
    x = torch.cat([corner_points(shallow), inside])
    assert_equal(shallow(x), deep(specimen, x), 1e-9)
    assert torch.equal(shallow.locate(inside), torch.arange(shallow.num_regions))


@pytest.mark.parametrize("specimen", [*DEGENERATE, *ARCHITECTURES], ids=str)
def test_a_float32_model_is_met_to_float32_rounding(specimen: Specimen) -> None:
    shallow = transformed(specimen, torch.float32)
    x = random_points(shallow, 10_000).float()
    x = x[shallow.locate(x) >= 0]
    y = shallow(x)
    assert y.dtype == torch.float32
    # The one rounding is that of the result: the weights of the model are raised to float64 exactly.
    exact = deep(specimen, x.double(), torch.float32)
    assert_equal(y, exact, 2.0**-24 + 1e-9)
    own = deep(specimen, x, torch.float32)
    assert ((y - own).double().flatten(1).abs() <= 20.0 * 2.0**-24 * sizes_of_terms(shallow, x)).all()


@pytest.mark.parametrize("dense", [True, False])
def test_the_point_at_which_no_pattern_of_a_region_holds(dense: bool) -> None:
    shallow = ShallowReLU(transform(trap()).partition, dense=dense)
    x = torch.tensor([[0.0], [-0.0], [1.0], [-1.0]])
    assert torch.equal(shallow(x), torch.tensor([[7.0], [7.0], [9.0], [10.0]]))


@pytest.mark.parametrize("specimen", SMALL, ids=str)
def test_dense_masks_and_descent_are_one_function(specimen: Specimen) -> None:
    partition = transformed(specimen).partition
    dense, descent = ShallowReLU(partition, dense=True), ShallowReLU(partition, dense=False)
    x = torch.cat([random_points(dense, 2000), corner_points(dense, most=10)])
    assert dense.dense
    assert not descent.dense
    # On a hyperplane rounding decides the region: then both regions are right.
    assert_equal(dense(x), descent(x), 1e-9)
    assert torch.equal(dense.locate(x[:2000]), descent.locate(x[:2000]))


@pytest.mark.parametrize("dense", [True, False])
@pytest.mark.parametrize("batch", [(), (1,), (5,), (2, 3), (2, 1, 4), (0,), (3, 0, 2)], ids=str)
@pytest.mark.parametrize("specimen", FORMS, ids=str)
def test_any_batch_dimensions(specimen: Specimen, batch: tuple[int, ...], dense: bool) -> None:
    shallow = ShallowReLU(transformed(specimen).partition, dense=dense)
    x = torch.rand(*batch, *shallow.in_shape, dtype=torch.float64)
    y, region, (weight, bias) = shallow(x), shallow.locate(x), shallow.local_map(x)
    assert y.shape == bias.shape == (*batch, *shallow.out_shape)
    assert region.shape == batch
    assert region.dtype == torch.int64
    assert weight.shape == (*batch, *shallow.out_shape, *shallow.in_shape)
    flat = shallow(x.reshape(-1, *shallow.in_shape))
    assert torch.equal(y.reshape(flat.shape), flat)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("specimen", FORMS, ids=str)
def test_the_dtype_of_the_input_is_that_of_the_output(specimen: Specimen, dtype: torch.dtype) -> None:
    shallow = transformed(specimen)
    x = torch.rand(50, *shallow.in_shape).to(dtype)
    y, (weight, bias) = shallow(x), shallow.local_map(x)
    assert y.dtype == weight.dtype == bias.dtype == dtype
    assert torch.equal(y, shallow(x.double()).to(dtype))


@pytest.mark.parametrize("specimen", SMALL, ids=str)
def test_the_gradient_is_the_local_linear_map(specimen: Specimen) -> None:
    shallow, model = transformed(specimen), specimen.model()
    x = torch.from_numpy(shallow.partition.interior_points()[:200]).reshape(-1, *shallow.in_shape).requires_grad_()
    y = shallow(x).flatten(1)
    weight, bias = shallow.local_map(x.detach())
    weight = weight.reshape(len(x), y.shape[1], -1)
    flat = x.detach().flatten(1)
    assert_equal((weight @ flat[..., None])[..., 0] + bias.flatten(1), y.detach(), 1e-9)
    for output in range(y.shape[1]):
        (found,) = torch.autograd.grad(y[:, output].sum(), x, retain_graph=True)
        (expected,) = torch.autograd.grad(model(x).flatten(1)[:, output].sum(), x, allow_unused=True)
        assert_equal(found.flatten(1), weight[:, output], 1e-12)
        assert_equal(found, torch.zeros_like(found) if expected is None else expected, 1e-9)


def test_the_gradient_passes_the_check_of_torch() -> None:
    shallow = transformed(ARCHITECTURES[1])
    x = torch.from_numpy(shallow.partition.interior_points()[:5]).requires_grad_()
    assert torch.autograd.gradcheck(shallow, (x,), eps=1e-9, atol=1e-5)
    assert not any(parameter.requires_grad for parameter in shallow.parameters())


@pytest.mark.parametrize("specimen", SMALL, ids=str)
def test_regions_are_located_with_their_patterns(specimen: Specimen) -> None:
    shallow = transformed(specimen)
    x = random_points(shallow, 3000)
    flat = x.reshape(len(x), -1).numpy()
    z = shallow.partition.program.preactivations(flat)
    clear = (np.abs(z) > 1e-7 * (1.0 + np.abs(flat).max(axis=1))[:, None]).all(axis=1)
    patterns = shallow.partition.patterns(shallow.locate(x).numpy())
    assert np.array_equal(patterns[clear], z[clear] > 0.0)


@pytest.mark.parametrize("dense", [True, False])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("domain", "within", "outside"),
    [
        (Box(-1.0, 1.0), [-0.5, 0.5], [[1.1, 0.0], [0.0, -1.1], [9.0, 9.0], [torch.inf, 0.0]]),
        (Box([-torch.inf, 0.5], [0.0, 0.5]), [-0.5, 0.5], [[0.1, 0.5], [-1.0, 0.6], [-1.0, 0.4], [torch.inf, 0.5]]),
        (
            Polytope([[1.0, 1.0], [-1.0, 2.0]], [1.0, 1.0]),
            [-0.5, -0.5],
            [[0.6, 0.6], [-1.0, 0.2], [9.0, 9.0], [0.0, torch.inf]],
        ),
    ],
    ids=str,
)
def test_nan_outside_the_domain(
    domain: Box | Polytope, within: object, outside: object, dtype: torch.dtype, dense: bool
) -> None:
    model = chain(2, 4, 3).double()
    shallow = ShallowReLU(transform(model, domain=domain).partition, dense=dense)
    x = torch.tensor([*outside, [torch.nan, 0.5], [-0.5, torch.nan]], dtype=dtype)
    weight, bias = shallow.local_map(x)
    assert shallow(x).isnan().all()
    assert weight.isnan().all()
    assert bias.isnan().all()
    assert (shallow.locate(x) == -1).all()
    inside = torch.tensor([within], dtype=dtype)
    assert not shallow(inside).isnan().any()
    assert (shallow.locate(inside) >= 0).all()


@pytest.mark.parametrize("dense", [True, False])
@pytest.mark.parametrize("specimen", SMALL, ids=str)
def test_nan_for_nan(specimen: Specimen, dense: bool) -> None:
    shallow = ShallowReLU(transformed(specimen).partition, dense=dense)
    x = torch.full((2, *shallow.in_shape), torch.nan, dtype=torch.float64)
    assert shallow(x).isnan().all()
    assert (shallow.locate(x) == -1).all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("low", "high"), [(0.1, 0.7), (-1e6, 1e6), (1000.1, 1000.3), (-0.3, -1e-3)])
def test_the_boundary_of_a_box_is_inside_in_any_precision(low: float, high: float, dtype: torch.dtype) -> None:
    if dtype == torch.bfloat16 and low == 1000.1:
        pytest.skip("both bounds are the same number")
    model = chain(3, 4, 2)
    shallow = transform(model, domain=Box(low, high))
    corners = torch.cartesian_prod(*[torch.tensor([low, high], dtype=dtype)] * 3)
    assert not shallow(corners).isnan().any()
    fixed = transform(model, domain=Box([low, 0.0, 0.1], [high, 1.0, 0.1]))
    assert not fixed(torch.tensor([[low, 0.5, 0.1], [high, 1.0, 0.1]], dtype=dtype)).isnan().any()


@pytest.mark.parametrize("dense", [True, False])
@pytest.mark.parametrize("specimen", FORMS, ids=str)
def test_the_traced_graph_reads_as_three_layers(
    monkeypatch: pytest.MonkeyPatch, specimen: Specimen, dense: bool
) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # a proxy is no tensor
    shallow = ShallowReLU(transformed(specimen).partition, dense=dense)
    traced = torch.fx.symbolic_trace(shallow)
    x = random_points(shallow, 200)
    same = {"rtol": 1e-12, "atol": 1e-12} if shallow.half_spaces.projection is not None else {"rtol": 0.0, "atol": 0.0}
    torch.testing.assert_close(traced(x), shallow(x), **same)  # a projection may be added up in another order
    torch.testing.assert_close(traced(x[0]), shallow(x[0]), **same)
    layers: list[str] = []
    for node in traced.graph.nodes:
        layer = str(node.target).partition(".")[0]  # or of a weight, such as half_spaces.rows
        used = node.op == "call_module" or (node.op == "get_attr" and "." in str(node.target))
        layers += [layer] if used and layer not in layers else []
    assert layers == ["half_spaces", "indicator", "selection"]


def test_it_says_what_it_is() -> None:
    shallow = transformed(ARCHITECTURES[0])
    text = repr(shallow)
    for part in ("(2,) -> (1,)", f"{shallow.num_regions} activation regions", f"{shallow.num_regions - 1} cuts by"):
        assert part in text
    assert "domain R^n" in text
    assert "Box(lower=-1.0, upper=1.0)" in repr(transform(chain(2, 3, 1), domain=Box(-1.0, 1.0)))
    for number, layer in enumerate(("half_spaces", "indicator", "selection")):
        assert f"({layer})" in text
        assert [name for name, _ in shallow.named_children()][number] == layer


@pytest.mark.parametrize(
    "change", [lambda m: m.to(torch.float32), lambda m: m.float(), lambda m: m.half(), lambda m: m.bfloat16()]
)
def test_it_stays_float64_inside(change: object) -> None:
    shallow = copy.deepcopy(transformed(ARCHITECTURES[3]))
    x = random_points(shallow, 500)
    expected, dtypes = shallow(x), {name: buffer.dtype for name, buffer in shallow.named_buffers()}
    assert change(shallow) is shallow
    assert {name: buffer.dtype for name, buffer in shallow.named_buffers()} == dtypes
    assert torch.equal(shallow(x), expected)


def test_it_moves_to_another_device() -> None:
    shallow = copy.deepcopy(transformed(ARCHITECTURES[3])).to("meta")
    assert all(buffer.device.type == "meta" for buffer in shallow.buffers())
    assert shallow.half_spaces.normals.dtype == torch.float64


@pytest.mark.parametrize("dense", [True, False])
@pytest.mark.parametrize("specimen", FORMS, ids=str)
def test_copies_and_state_dicts(specimen: Specimen, dense: bool) -> None:
    shallow = ShallowReLU(transformed(specimen).partition, dense=dense)
    x = random_points(shallow, 500)
    copied = copy.deepcopy(shallow)
    assert torch.equal(copied(x), shallow(x))
    empty = ShallowReLU(shallow.partition, dense=dense)
    for name, buffer in empty.named_buffers():
        if name in empty.state_dict() and name != "indicator.tree":  # a tree of zeros has no end
            buffer.zero_()
    assert not torch.equal(empty(x), shallow(x))
    assert torch.equal(copied(x), shallow(x)), "a copy shares memory"
    empty.load_state_dict(shallow.state_dict())
    assert torch.equal(empty(x), shallow(x))


@pytest.mark.parametrize("specimen", MODELS, ids=str)
def test_its_buffers_are_finite(specimen: Specimen) -> None:
    buffers = transformed(specimen).named_buffers()  # limits are only compared
    infinite = [name for name, b in buffers if not name.endswith("_limit") and not b.isfinite().all()]
    assert infinite == []


def test_a_composed_model_that_contains_it() -> None:
    shallow = transformed(ARCHITECTURES[1])
    head = nn.Linear(3, 2).double()
    x = random_points(shallow, 100)
    assert torch.equal(nn.Sequential(shallow, head)(x), head(shallow(x)))


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(5, 4), r"x: expected shape \(\*batch, 2\), found \(5, 4\); reshape"),
        (torch.zeros(()), r"x: expected shape \(\*batch, 2\), found \(\); reshape"),
        (torch.zeros(5, 2, dtype=torch.int64), r"x: expected a floating-point tensor, found torch.int64; convert"),
        (
            torch.zeros(5, 2, dtype=torch.complex64),
            r"x: expected a floating-point tensor, found torch.complex64; convert",
        ),
        (torch.zeros(5, 2, dtype=torch.bool), r"x: expected a floating-point tensor, found torch.bool; convert"),
    ],
    ids=["shape", "scalar", "integer", "complex", "bool"],
)
def test_bad_inputs(monkeypatch: pytest.MonkeyPatch, x: torch.Tensor, message: str) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as users run it
    shallow = transformed(ARCHITECTURES[0])
    for call in (shallow, shallow.locate, shallow.local_map):
        with pytest.raises(TransformError, match=message):
            call(x)


def test_the_shape_of_an_image_is_not_that_of_its_pixels() -> None:
    shallow = transformed(next(s for s in ARCHITECTURES if s.name == "image"))
    with pytest.raises(TransformError, match=r"x: expected shape \(\*batch, 1, 2, 3\), found \(5, 6\)"):
        shallow(torch.zeros(5, 6))


def test_a_wide_input_stays_small() -> None:
    torch.manual_seed(0)
    model = chain(784, 10, 8, 10).double()
    shallow = torch_shallow.transform(model)
    x = torch.randn(200, 784, dtype=torch.float64)
    assert shallow.half_spaces.normals.shape == (shallow.num_half_spaces, 10)
    assert_equal(shallow(x), model(x).detach(), 1e-9)
