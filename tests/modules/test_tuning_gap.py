"""The continuity gap is the largest jump over all common facets: zero for a deep network's, and exact for others."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linprog

from tests.cases import examples, thinned
from tests.modules.tuned import shaken, shallow_of
from tests.zoo import ALL, ARCHITECTURES, ARRANGEMENTS, DEEP, WITH_HEAD, Specimen, chain, tent
from torch_shallow import Box, Polytope, ShallowReLU, transform
from torch_shallow.domain import Domain
from torch_shallow.errors import TransformError
from torch_shallow.geometry.chart import Chart
from torch_shallow.geometry.tree import FreeTree
from torch_shallow.search.affine_maps import AffineMaps

MANY = {"type B 5", "type D 5", "Shi 5", "Catalan 5", "Linial 6", "semiorder 5", "3-16-16-1", "pooled image"}
SPECIMENS = tuple(s for s in (*ALL, *WITH_HEAD) if s.name not in MANY)
SELDOM = {"volume", "functional", "3-8-8-3", "overlapping pools", "recurrent cell", "graph convolution", "branches"}
SELDOM |= {specimen.name for specimen in (*ARRANGEMENTS[::2], *DEEP[::2])}  # many are much alike


@pytest.mark.parametrize("specimen", thinned(SPECIMENS, *({s.name for s in SPECIMENS} - SELDOM)), ids=str)
def test_a_network_that_was_not_trained_is_continuous(specimen: Specimen) -> None:
    shallow = shallow_of(specimen)
    gap = shallow.continuity_gap()
    assert gap.measured == gap.num_regions == shallow.num_regions
    assert (gap.point is None) == (gap.regions is None) == (gap.facets == 0)
    assert gap.facets >= shallow.num_regions - 1, "regions are connected through facets"
    if gap.point is not None:
        assert gap.value <= 1e-9 * (1.0 + float(shallow.trunk(gap.point).abs().max()))


@pytest.mark.parametrize(
    ("name", "facets"),
    [
        ("braid 4", math.factorial(4) * 3 // 2),
        ("braid 5", math.factorial(5) * 4 // 2),
        ("type B 3", 48 * 3 // 2),
        ("generic 9 in R^2", 81),
        ("grid 3x3x3", 3 * 3 * 4 * 4),
        ("central 9 in R^2", 18),
        ("tent 10 on [0, 1]", 1023),
    ],
)
def test_the_facets_of_known_arrangements(name: str, facets: int) -> None:
    specimen = next(s for s in ALL if s.name == name)
    assert shallow_of(specimen).continuity_gap().facets == facets


@pytest.mark.parametrize(
    "specimen",
    thinned((s for s in ARCHITECTURES if s.name != "3-16-16-1"), "residual", "image", "30-5-4-2", "2-5-4-1"),
    ids=str,
)
def test_a_changed_bias_is_the_gap(specimen: Specimen) -> None:
    shallow = shallow_of(specimen)
    for region in (0, shallow.num_regions // 2):
        shallow.selection.biases[region, -1] += 0.125
        gap = shallow.continuity_gap()
        assert abs(gap.value - 0.125) <= 1e-9
        assert gap.regions is not None
        assert region in gap.regions
        assert gap.point is not None
        assert gap.point.shape == shallow.in_shape
        # The point is in both regions, and there the maps differ by this much.
        weight, bias = shallow.affine_maps(torch.tensor(gap.regions))
        y = weight @ gap.point.flatten() + bias
        assert abs(float((y[0] - y[1]).abs().max()) - gap.value) <= 1e-9
        assert all(bool(shallow.regions[k].contains(gap.point, 1e-7)) for k in gap.regions)
        shallow.selection.biases[region, -1] -= 0.125


def test_the_gap_is_infinite_where_it_grows_along_a_ray() -> None:
    shallow = transform(chain(2, 5, 1).double()).unfreeze()
    unbounded = next(region.index for region in shallow.regions if len(region.rays()))
    with torch.no_grad():
        shallow.selection.weights[unbounded] += 0.1
    gap = shallow.continuity_gap()
    assert gap.value == math.inf
    assert gap.regions is not None
    assert unbounded in gap.regions
    assert gap.point is not None
    assert all(bool(shallow.regions[k].contains(gap.point, 1e-7)) for k in gap.regions)


def test_a_skip_is_common_to_all_and_makes_no_gap() -> None:
    shallow = shallow_of("shortcut")
    assert shallow.selection.skip is not None
    shallow.selection.skip.add_(1.0)
    assert shallow.continuity_gap().value <= 1e-9


def test_a_gap_of_numbers_that_are_none_is_infinite() -> None:
    shallow = transform(chain(2, 5, 1).double(), domain=Box(-1.0, 1.0)).unfreeze()
    with torch.no_grad():
        shallow.selection.weights[1] = torch.nan
    assert shallow.continuity_gap().value == math.inf


def test_a_sample_of_regions() -> None:
    shallow = transform(chain(2, 8, 6, 1).double(), domain=Box(-2.0, 2.0)).unfreeze()
    with torch.no_grad():
        shallow.selection.weights.add_(0.1 * torch.randn_like(shallow.selection.weights))
    whole = shallow.continuity_gap()
    sizes = []
    for sample in (1, 5, shallow.num_regions - 1):
        gap = shallow.continuity_gap(sample=sample, seed=1)
        assert (gap.measured, gap.num_regions) == (sample, shallow.num_regions)
        assert gap.value <= whole.value
        assert gap.value == shallow.continuity_gap(sample, 1).value
        sizes.append(gap.facets)
    assert sizes == sorted(sizes)
    # All facets of all regions but one are all facets, each counted once.
    assert sizes[-1] == whole.facets
    assert shallow.continuity_gap(10**6).facets == whole.facets
    assert shallow.continuity_gap(10**6).measured == shallow.num_regions
    every = {shallow.continuity_gap(sample=1, seed=seed).value for seed in range(20)}
    assert max(every) <= whole.value


def test_it_says_what_cannot_be_measured() -> None:
    shallow = transform(chain(2, 5, 1).double())
    with pytest.raises(TransformError, match="sample: expected a number of regions of at least 1"):
        shallow.continuity_gap(0)


def test_a_bar_can_be_shown(capsys: pytest.CaptureFixture[str]) -> None:
    shallow = transform(chain(2, 5, 1).double())
    assert shallow.continuity_gap(progress=True).value == shallow.continuity_gap().value
    assert "continuity gap" in capsys.readouterr().err


def square(
    children: list[list[int]], normals: list[list[float]], offsets: list[float], biases: list[float]
) -> ShallowReLU:
    """A tree of hand-made cuts of a square, whose local models are constants."""
    domain = Box([-1.0, -1.0], [1.0, 1.0])
    walls = np.array([[1.0, 0, 1], [-1, 0, 1], [0, 1, 1], [0, -1, 1]])
    chart = Chart(np.zeros(2), np.eye(2), walls / np.sqrt(2.0), np.zeros(2), is_box=True)
    rows = np.column_stack([normals, offsets])
    maps = AffineMaps(None, rows, np.zeros((len(biases), 1, 2)), np.array(biases)[:, None], None)
    tree = FreeTree(
        in_shape=(2,),
        out_shape=(1,),
        domain=domain,
        chart=chart,
        children=np.array(children),
        points=np.zeros((len(biases), 2)),
    )
    return ShallowReLU(tree, maps)


def test_one_facet_can_touch_several_regions() -> None:
    # Left half: one region. Right half: cut at y = 0 and, above that, at y = 1/2.
    shallow = square(
        [[~0, 1], [~1, 2], [~2, ~3]], [[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]], [0.0, 0.0, -0.5], [0.0, 1.0, 3.0, 7.0]
    )
    gap = shallow.continuity_gap()
    assert gap.facets == 5
    assert (gap.value, gap.regions) == (7.0, (0, 3))
    assert gap.point is not None
    assert float(gap.point[0]) == pytest.approx(0.0, abs=1e-12)
    assert 0.5 - 1e-9 <= float(gap.point[1]) <= 1.0 + 1e-9


def test_regions_that_touch_in_a_point_only_are_no_neighbours() -> None:
    # Four quadrants with the values 0, 1, 100, 101 crosswise: 0 and 101 meet in the origin only.
    shallow = square(
        [[1, 2], [~0, ~1], [~2, ~3]], [[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]], [0.0] * 3, [0.0, 1.0, 100.0, 101.0]
    )
    gap = shallow.continuity_gap()
    assert gap.facets == 4
    assert gap.value == 100.0
    assert gap.regions in ((0, 2), (1, 3))


def reference_gap(shallow: ShallowReLU) -> tuple[float, int]:
    """By linear programs over all pairs of regions, without vertices and without the tree."""
    half = [r.half_spaces.numpy() for r in shallow.regions]
    weights, biases = (t.detach().numpy() for t in shallow.affine_maps(torch.arange(shallow.num_regions)))
    worst, count = 0.0, 0
    for k, other in itertools.combinations(range(shallow.num_regions), 2):
        a, b = np.concatenate([half[k][0], half[other][0]]), np.concatenate([half[k][1], half[other][1]])
        norms = np.linalg.norm(a, axis=1)
        a, b = a / norms[:, None], b / norms
        opposite = np.argwhere(np.abs(a[:, None] + a[None]).sum(-1) + np.abs(b[:, None] + b[None]) < 1e-12)
        if not len(opposite):
            continue
        wall = a[opposite[0, 0]], b[opposite[0, 0]]
        size = np.linalg.norm(a - np.outer(a @ wall[0], wall[0]), axis=1)
        size[size < 1e-9] = 0.0
        ball = linprog(
            np.append(np.zeros(a.shape[1]), -1.0),
            A_ub=np.column_stack([a, size]),
            b_ub=b + 1e-12,
            A_eq=np.append(wall[0], 0.0)[None],
            b_eq=wall[1],
            bounds=[(None, None)] * a.shape[1] + [(None, 1.0)],
        )
        if ball.status != 0 or ball.x[-1] < 1e-7:
            continue
        count += 1
        for w, c in zip(weights[k] - weights[other], biases[k] - biases[other], strict=True):
            for sign in (1.0, -1.0):
                best = linprog(-sign * w, A_ub=a, b_ub=b + 1e-12, A_eq=wall[0][None], b_eq=wall[1], bounds=(None, None))
                worst = max(worst, math.inf if best.status == 3 else -best.fun + sign * c)
    return worst, count


@pytest.mark.parametrize(
    "domain", [Box(-1.0, 1.0), Polytope([[1.0, 1.0], [-1.0, 0.5], [0.0, -1.0]], [1.0, 1.0, 1.0])], ids=str
)
@given(st.integers(0, 10**6))
@examples(8)
def test_the_gap_of_any_tree_is_that_of_linear_programs(domain: Domain, seed: int) -> None:
    torch.manual_seed(seed)
    soft = transform(chain(2, 4, 3, 2).double(), domain=domain).soften(1.0)
    shaken(soft, 0.5, seed)
    shallow = soft.harden()
    gap, (value, count) = shallow.continuity_gap(), reference_gap(shallow)
    assert gap.facets == count
    assert gap.value == pytest.approx(value, rel=1e-7, abs=1e-9)


def test_in_one_dimension_the_gap_is_at_a_breakpoint() -> None:
    shallow = transform(tent(4).double(), domain=Box(0.0, 1.0)).unfreeze()
    with torch.no_grad():
        shallow.selection.weights.add_(torch.randn(shallow.selection.weights.shape, dtype=torch.float64))
    gap = shallow.continuity_gap()
    breaks = torch.arange(1, 16, dtype=torch.float64)[:, None] / 16
    jump = (shallow(breaks + 1e-9) - shallow(breaks - 1e-9)).abs().detach()
    assert gap.value == pytest.approx(float(jump.max()), abs=1e-6)
    assert gap.point is not None
    assert float(gap.point) == pytest.approx(float(breaks[jump.argmax()]), abs=1e-9)
