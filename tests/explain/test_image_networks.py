"""What is said of an image whose pixels are at the ends of their range, and that lies where comparisons are equal."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import torch_shallow
from torch_shallow.domain import Box
from torch_shallow.errors import TransformError
from torch_shallow.explain import explain
from torch_shallow.explain.locally import seen_facets
from torch_shallow.geometry.inequalities import irredundant

pytestmark = pytest.mark.quick


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(12, 6), nn.ReLU(), nn.Linear(6, 3)
    ).double()


def image() -> Tensor:
    """Black at the left, white at two pixels, grey elsewhere."""
    pixels = torch.rand(1, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    pixels[:, :, :1] = 0.0
    pixels[:, 2:4, 5] = 1.0
    return pixels


def explained(x: Tensor, domain: Box) -> object:
    return explain(torch_shallow.transform(network(), data=x[None], domain=domain), x)


def test_facets_that_the_input_lies_on_are_counted_and_no_feature_reaches_them() -> None:
    found = explained(image(), Box(0.0, 1.0))
    on_it = [facet for facet in found.facets if facet.distance == 0.0]
    assert len(on_it) == 8  # six black pixels, two white ones
    assert all(facet.name == "domain" and facet.feature is None and np.isnan(facet.change) for facet in on_it)
    assert all(abs(facet.normal @ found.x - facet.offset) > 1e-9 for facet in found.facets[8:])
    text = str(found)
    assert "It lies on 8 facets of the domain: x0 at least 0" in text
    assert "+0\n" not in text
    assert f"nearest of {len(found.facets) - 8})" in text


def test_pixels_that_cannot_move_are_left_out() -> None:
    x = image()
    lower, upper = torch.zeros_like(x), torch.ones_like(x)
    upper[:, :, :1] = 0.0  # these are black in all images
    found = explained(x, Box(lower, upper))
    assert found.fixed.sum() == 6
    assert sum(facet.distance == 0.0 for facet in found.facets) == 2
    assert not any(facet.normal[::6].any() and facet.name == "domain" for facet in found.facets)


def test_half_spaces_that_hold_the_whole_box_are_no_facets() -> None:
    x = image()
    for radius in (0.01, 0.2):
        shallow = torch_shallow.transform(network(), data=x[None], domain=Box.around(x, radius) & Box(0.0, 1.0))
        region = shallow.regions[0]
        a, b = region.half_spaces.numpy()
        needed = irredundant(a, b, seen_facets.point_inside(region, a, b))
        assert (seen_facets.facets_of(region, region.half_spaces).A.numpy() == a[needed]).all()
        assert seen_facets._never_met(region, a, b).any()
        assert not (seen_facets._never_met(region, a, b) & needed).any()


def test_many_programs_are_announced(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    explained(image(), Box(0.0, 1.0))
    assert not caplog.records
    monkeypatch.setattr(seen_facets, "PATIENT", 0.0)
    with caplog.at_level(logging.WARNING):
        explained(image(), Box(0.0, 1.0))
    (record,) = caplog.records
    assert "36 inputs may be facets" in record.getMessage()


def test_where_comparisons_are_equal_the_error_says_where_to_look() -> None:
    torch.manual_seed(0)
    pooled = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten())
    model = nn.Sequential(pooled, nn.Linear(36, 3)).double().eval()
    x = torch.zeros(1, 6, 6, dtype=torch.float64)  # all that is compared is equal
    x[0, 0, 0] = 1.0
    shallow = torch_shallow.transform(model, data=x[None], domain=Box(0.0, 1.0))
    with pytest.raises(TransformError, match=r"half-spaces end there.*use the region of an input beside it"):
        explain(shallow, x)
    beside = x + 1e-3 * (0.5 - x) * torch.rand_like(x)
    shallow.grow(beside[None])
    assert str(explain(shallow, beside)).startswith("Input in VisitedRegion")
