"""The literal network of `nn.Linear` and `nn.ReLU` is the shallow one, outside of a margin that cannot be smaller."""

from __future__ import annotations

import math
from functools import cache

import jaxtyping
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.modules.laws import assert_equal, corner_points
from tests.zoo import ARCHITECTURES, ARRANGEMENTS, DEEP, DEGENERATE, WITH_HEAD, Specimen, chain, random_mlp, trap
from torch_shallow import Box, Polytope, ShallowReLU, TransformError, transform
from torch_shallow.domain import Domain, WholeSpace

SHAPES = (nn.Flatten, nn.Unflatten)
BIG = ("3-16-16-1", "3-8-8-3", "4-7-6-5 on Box", "30-5-4-2", "branches", "hand-written")
MODELS = tuple(s for s in (*DEGENERATE, *ARCHITECTURES) if not s.name.startswith(BIG))
MODELS += (random_mlp((20, 3, 3, 2)),)
MODELS += tuple(s for s in (*ARRANGEMENTS, *DEEP) if s.regions <= 16)


@cache
def shallow_of(specimen: Specimen) -> ShallowReLU:
    box = isinstance(specimen.domain, Box) and np.isfinite(specimen.domain.bounds(specimen.in_shape)).all()
    return transform(specimen.model(), specimen.example(), domain=specimen.domain if box else Box(-3.0, 3.0))


def points(shallow: ShallowReLU, count: int) -> Tensor:
    """In a bounded box, away from its corners."""
    assert isinstance(shallow.domain, Box)
    lower, upper = (torch.from_numpy(bound.copy()) for bound in shallow.domain.bounds(shallow.in_shape))
    x = torch.from_numpy(np.random.default_rng(0).random((count, len(lower))))
    return (lower + (upper - lower) * x).reshape(-1, *shallow.in_shape)


def active_cuts(shallow: ShallowReLU, x: Tensor) -> list[Tensor]:
    """For each point the positive pre-activations of the cuts on its way, told cut by cut."""
    half, rows = shallow.half_spaces, x.double().reshape(len(x), -1)
    rows = rows if half.projection is None else rows @ half.projection.T
    z = (rows @ half.normals.T + half.offsets)[:, shallow.function.half_space_of()]
    paths = [shallow.partition.path(int(region)) for region in shallow.locate(x)]
    return [row[[cut for cut, active in path if active]] for row, path in zip(z, paths, strict=True)]


def outside(shallow: ShallowReLU, x: Tensor, margin: float) -> Tensor:
    return x[torch.tensor([bool((z >= margin).all()) for z in active_cuts(shallow, x)], dtype=torch.bool)]


@pytest.mark.parametrize("specimen", [*MODELS, *WITH_HEAD], ids=str)
def test_equal_outside_of_the_margin(specimen: Specimen) -> None:
    shallow = shallow_of(specimen)
    for infinity in (2.0**10, 2.0**26, 1e11):
        literal = shallow.to_sequential(infinity)
        assert (literal.infinity, literal.margin) == (infinity, 1.0 / infinity)
        x = outside(shallow, points(shallow, 200), literal.margin)
        assert len(x) >= 100
        assert_equal(literal(x), shallow(x), 1e-11)


@pytest.mark.parametrize("specimen", [*MODELS, *WITH_HEAD], ids=str)
def test_nothing_but_linear_and_relu(specimen: Specimen) -> None:
    shallow = shallow_of(specimen)
    before = torch.get_rng_state()
    literal = shallow.to_sequential()
    assert torch.equal(torch.get_rng_state(), before)
    children = list(literal) if shallow.head is None else list(literal)[:-1]
    assert [type(child) for child in children if not isinstance(child, SHAPES)] == [nn.Linear, nn.ReLU] * 3 + [
        nn.Linear
    ]
    assert any(isinstance(child, SHAPES) for child in children) == (
        len(shallow.in_shape) + len(shallow.trunk_shape) > 2
    )
    assert all(p.dtype == torch.float64 and p.requires_grad and p.isfinite().all() for p in literal.parameters())
    assert shallow.head is None or literal[-1] is not shallow.head
    needed = 8 * sum(parameter.numel() for parameter in literal.parameters())
    shallow.to_sequential(max_bytes=needed)
    with pytest.raises(
        TransformError, match=f"would take {needed:,} bytes, more than max_bytes = {needed - 1:,}; raise"
    ):
        shallow.to_sequential(max_bytes=needed - 1)


@pytest.mark.parametrize("share", [0.5, 0.75, 0.999, 1.0])
@pytest.mark.parametrize(
    "specimen", [s for s in MODELS if s.name in ("2-5-4-1", "nested", "densely connected")], ids=str
)
def test_no_smaller_margin_will_do(specimen: Specimen, share: float) -> None:
    # From inside of each region straight towards each of its active cuts, to such a share of the margin.
    shallow = shallow_of(specimen)
    literal = shallow.to_sequential(2.0**10)
    lost = -literal[4].weight[:, shallow.num_half_spaces : 2 * shallow.num_half_spaces].amin(1)  # of each mask of a_j
    lost = lost.reshape(2, shallow.num_regions, -1)[0].detach()
    rows, found = shallow.half_spaces.rows[shallow.function.half_space_of()], 0
    normals, offsets = rows[:, :-1], rows[:, -1]
    for region, inner in enumerate(torch.from_numpy(shallow.partition.interior_points()[:20])):
        for cut, _ in (step for step in shallow.partition.path(region) if step[1]):
            z = normals[cut] @ inner + offsets[cut]
            x = (inner - (z - share * literal.margin) / normals[cut].square().sum() * normals[cut])[None]
            way = active_cuts(shallow, x)[0].sort().values
            nearer = way[0] < 0.99 * share * literal.margin or (len(way) > 1 and way[1] < literal.margin)
            if nearer or int(shallow.locate(x)) != region:
                continue
            y, found = shallow(x), found + 1
            left = (y.abs() - (1.0 - share) * lost[region]).clamp(min=0.0)
            assert_equal(literal(x).detach(), y.sign() * left, 1e-9)
            assert share == 1.0 or not torch.allclose(literal(x), y)
    assert found > 5


def test_by_how_much_it_is_wrong_inside_the_margin() -> None:
    # 2 relu(x) + 3 relu(-x) + 7 on [-1, 1]: 3x + 7 and 2x + 7 or so, taken to be at most 18 and 20.
    literal = transform(trap().double()).to_sequential(4.0, Box(-1.0, 1.0))
    x = torch.tensor([[-1.0], [0.0], [0.125], [0.1875], [0.25], [1.0]], dtype=torch.float64)
    assert literal.margin == 0.25
    assert literal(x).flatten().tolist() == [10.0, 7.0, 0.0, 7.375 - 0.25 * 18.0, 7.5, 9.0]


@pytest.mark.parametrize("specimen", [s for s in MODELS if s.name != "20-3-3-2"], ids=str)  # 2^20 vertices
def test_what_rounding_costs_on_hyperplanes(specimen: Specimen) -> None:
    shallow = shallow_of(specimen)
    literal, half = shallow.to_sequential(), shallow.half_spaces
    linear = [layer for layer in literal if isinstance(layer, nn.Linear)]
    x = corner_points(shallow, most=5)
    x = x[shallow.locate(x) >= 0]
    normals = half.normals if half.projection is None else half.normals @ half.projection
    sizes = (1.0 + x.reshape(len(x), -1).abs()) @ normals.abs().T + half.offsets.abs()
    depth = max(len(shallow.partition.path(region)) for region in range(shallow.num_regions))
    rounding = 2.0**-52 * normals.shape[1] * depth * sizes.max() if depth else 0.0
    assert_equal(literal(x), shallow(x), 1e-11 - float(linear[2].weight.detach().min()) * float(rounding))


def test_in_float32() -> None:
    shallow = shallow_of(ARCHITECTURES[0])
    x = points(shallow, 2000).float()
    x = outside(shallow, x, 1e-3)
    assert len(x) > 1000
    for infinity in (2.0**12, 2.0**26):
        literal = shallow.to_sequential(infinity).float()
        assert literal(x).dtype == torch.float32
        assert_equal(literal(x), shallow(x), 1e-5)


@pytest.mark.parametrize("batch", [(), (1,), (0,), (2, 3)], ids=str)
@pytest.mark.parametrize("name", ["2-5-4-1", "image"])
def test_any_batch_dimensions(name: str, batch: tuple[int, ...]) -> None:
    shallow = shallow_of(next(s for s in MODELS if s.name == name))
    x = torch.rand(*batch, *shallow.in_shape, dtype=torch.float64)
    assert_equal(shallow.to_sequential()(x), shallow(x), 1e-9)


def test_outputs_without_a_dimension() -> None:
    shallow = transform(nn.Sequential(*chain(2, 3, 2), nn.Flatten(-1), Summed()).double(), domain=Box(-1.0, 1.0))
    x = torch.rand(20, 2, dtype=torch.float64)
    assert shallow.out_shape == ()
    assert_equal(shallow.to_sequential()(x), shallow(x), 1e-9)


class Summed(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.sum(-1)


def test_trained_weights_and_weights_of_its_own() -> None:
    shallow = transform(chain(2, 5, 3).double(), domain=Box(-1.0, 1.0))
    x = 2.0 * torch.rand(200, 2, dtype=torch.float64) - 1.0
    shallow.selection.weights.add_(torch.randn_like(shallow.selection.weights))
    shallow.selection.biases.mul_(-3.0)
    shallow.half_spaces.normals.mul_(0.5)
    shallow.half_spaces.offsets.mul_(0.75)
    literal = shallow.to_sequential()
    x = outside(shallow, x, literal.margin)
    expected = shallow(x)
    assert_equal(literal(x), expected, 1e-11)
    with torch.no_grad():
        for parameter in literal.parameters():
            parameter.zero_()
    assert torch.equal(shallow(x), expected)


@pytest.mark.parametrize(
    ("domain", "given"),
    [
        (None, Box([-1.0, 0.0], [1.0, 0.0])),
        (None, Polytope([[1.0, 1.0], [-1.0, 1.0], [0.0, -1.0]], [1.0, 1.0, 0.5])),
        (Polytope([[1.0, 1.0], [-1.0, 1.0], [0.0, -1.0]], [1.0, 1.0, 0.5]), None),
        (Box([-1.0, -torch.inf], torch.inf), Box(-1.0, 1.0)),
    ],
    ids=str,
)
def test_bounded_domains(domain: Domain | None, given: Domain | None) -> None:
    shallow = transform(chain(2, 6, 4, 2).double(), domain=domain)
    literal = shallow.to_sequential(domain=given)
    x = 3.0 * torch.rand(3000, 2, dtype=torch.float64) - 1.5
    x[::2, 1] = 0.0
    x = outside(shallow, x[(given or shallow.domain).contains(x)], literal.margin)
    assert len(x) > 300
    assert_equal(literal(x), shallow(x), 1e-11)


@pytest.mark.parametrize(
    ("domain", "message"),
    [
        (WholeSpace(), r"domain: expected a bounded domain, .* found R\^n; give domain=Box\(lower, upper\)"),
        (Box([-1.0, -torch.inf], 1.0), r"domain: expected a bounded domain, .* found Box"),
        (Polytope([[1.0, 0.0], [-1.0, 0.0]], [1.0, 1.0]), r"domain: expected a bounded domain, .* found Polytope"),
        (
            Polytope([[1.0, 0.0], [-1.0, 0.0]], [-1.0, -1.0]),
            "domain: expected a polytope whose extent HiGHS can compute",
        ),
        (Box([0.0] * 3, 1.0), "Box: lower has shape"),
        ([-1.0, 1.0], r"domain: expected a bounded Box or Polytope, found \[-1\.0, 1\.0\]"),
    ],
    ids=str,
)
def test_domains_without_bounds(monkeypatch: pytest.MonkeyPatch, domain: Domain, message: str) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as users run it
    with pytest.raises(TransformError, match=message):
        transform(chain(2, 3, 1)).to_sequential(domain=domain)


@pytest.mark.parametrize("infinity", [0.0, -1.0, math.inf, math.nan, "large", 1e308])
def test_numbers_that_are_no_infinity(monkeypatch: pytest.MonkeyPatch, infinity: float) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(TransformError, match="infinity: "):
        transform(trap(), domain=Box(-1.0, 1.0)).to_sequential(infinity)


def test_the_circle_closes() -> None:
    torch.manual_seed(1)
    shallow = transform(chain(2, 3, 1).double(), domain=Box(-1.0, 1.0))
    again = transform(shallow.to_sequential(2.0**6), domain=Box(-1.0, 1.0))
    x = 2.0 * torch.rand(2000, 2, dtype=torch.float64) - 1.0
    x = outside(shallow, x, 2.0**-6)
    assert again.num_regions > shallow.num_regions
    assert_equal(again(x), shallow(x), 1e-9)
