"""The regions of visited networks are the polyhedra that they are in the complete network."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.modules.laws import assert_equal
from tests.modules.visiting import visited_of
from tests.zoo import chain
from torch_shallow import Box, Polytope, TransformError, transform
from torch_shallow.domain import Domain, WholeSpace

DOMAINS = [
    WholeSpace(),
    Box(-1.0, 1.0),
    Box([-1.0, 0.25, -torch.inf], [1.0, 0.25, 2.0]),
    Polytope([[1.0, 1.0, 1.0], [-1.0, 0.0, 0.0]], [1.5, 1.0]),
]


@pytest.mark.parametrize("domain", DOMAINS, ids=str)
def test_regions_are_those_of_the_whole(domain: Domain) -> None:
    torch.manual_seed(0)
    model = chain(3, 6, 5, 2).double()
    complete = transform(model, domain=domain)
    inside = torch.from_numpy(complete.partition.interior_points())
    shallow = visited_of(model, inside, domain)
    for region, expected in list(zip(shallow.regions, complete.regions, strict=True))[:: complete.num_regions // 3]:
        assert torch.equal(region.pattern, expected.pattern)
        assert torch.equal(region.interior_point, inside[region.index])
        assert_equal(region.weight, expected.weight, 1e-12)
        assert_equal(region.bias, expected.bias, 1e-12)
        for kind in ("vertices", "rays"):
            found, right = getattr(region, kind)(), getattr(expected, kind)()
            assert len(found) == len(right)
            assert torch.cdist(found, right).amin(0).amax() < 1e-7 if len(right) else True
        assert sorted(region.facets().names) == sorted(expected.facets().names)
        assert set(region.facets().names) <= set(region.half_spaces.names)
        assert region.chebyshev()[1] == pytest.approx(expected.chebyshev()[1], rel=1e-6)
        assert region.contains(region.interior_point)
        assert torch.equal(region.contains(inside), expected.contains(inside))


def test_facets_in_many_dimensions() -> None:
    torch.manual_seed(0)
    model = chain(40, 60, 5).double()
    shallow = visited_of(model, torch.randn(3, 40, dtype=torch.float64))
    region = shallow.regions[1]
    facets = region.facets()
    assert 0 < len(facets) <= 60
    assert region.contains(region.chebyshev()[0])
    outside = [name for name in region.half_spaces.names if name not in facets.names]
    point = region.interior_point
    for name in outside[:5]:
        row = region.half_spaces.names.index(name)
        normal, bound = region.half_spaces.A[row], region.half_spaces.b[row]
        step = (bound - normal @ point) / (normal @ normal) * normal
        assert (facets.A @ (point + 1.01 * step) > facets.b).any()
    with pytest.raises(TransformError, match="at most 50 vertices and rays"):
        region.vertices(max_rays=50)


@pytest.mark.parametrize("shift", [0.0, 1e3, 1e6])
def test_vertices_far_from_the_origin_are_exact(shift: float) -> None:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 1)).double()
    near = visited_of(model, x := torch.randn(20, 2, dtype=torch.float64))
    with torch.no_grad():
        model[0].bias -= shift * model[0].weight.sum(1)
    far = visited_of(model, x + shift)
    assert far.num_regions == near.num_regions
    for one, other in zip(near.regions, far.regions, strict=True):
        expected = one.vertices() + shift
        found = other.vertices()
        assert len(found) == len(expected)
        length = 1.0 + one.vertices().abs().max()
        assert torch.cdist(found, expected).amin(1).max() <= 1e-12 * shift * length + 1e-9 * length
