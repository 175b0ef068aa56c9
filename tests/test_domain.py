"""Laws of domains: a box around a point, and the intersection of two domains."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tests.cases import examples
from tests.zoo import chain
from torch_shallow import Box, Polytope, TransformError, WholeSpace, transform
from torch_shallow.domain import Domain

INF = np.inf


@pytest.mark.parametrize("shape", [(), (3,), (1, 2, 2)])
def test_a_box_around_a_point(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    x = torch.randn(shape)
    for radius in (0.25, 0.25 + torch.rand(shape), np.full(shape, INF), 0.0):
        box = Box.around(x, radius)
        distance = np.asarray(radius, dtype=np.float64)
        assert np.array_equal(box.lower, x.double().numpy() - distance)
        assert np.array_equal(box.upper, x.double().numpy() + distance)
        assert box.lower.shape == shape


def test_a_network_around_an_image() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 1)).double()
    x = torch.randn(1, 2, 2).double()
    shallow = transform(model, x[None], domain=Box.around(x, 0.5))
    near = x + 0.5 * (2.0 * torch.rand(50, 1, 2, 2).double() - 1.0)
    assert torch.allclose(shallow(near), model(near))
    assert shallow(x[None] + 0.51).isnan().all()


AROUND: dict[str, tuple[Any, Any, str]] = {
    "negative": ([0.0, 1.0], [1.0, -2.0], r"radius of at least 0, found -2\.0"),
    "another shape": ([0.0, 1.0], [1.0, 1.0, 1.0], r"shape \(2,\) of x, found shape \(3,\)"),
    "a radius for each entry of a number": (0.0, [1.0, 1.0], r"shape \(\) of x, found shape \(2,\)"),
    "infinite": ([0.0, INF], 1.0, "finite entries of x, found infinity"),
    "NaN": ([0.0, np.nan], 1.0, r"Box\.around: x: expected numbers, found NaN"),
    "a radius of NaN": ([0.0, 1.0], np.nan, r"Box\.around: radius: expected numbers, found NaN"),
    "no number": (None, "wide", r"Box\.around: "),
}


@pytest.mark.parametrize(("x", "radius", "message"), AROUND.values(), ids=AROUND)
def test_what_is_no_box_around_a_point(x: Any, radius: Any, message: str) -> None:
    with pytest.raises(TransformError, match=message):
        Box.around(x, radius)


def draw_domain(data: st.DataObject) -> Domain:
    """A domain of two inputs, that has the origin in it."""
    bound = st.sampled_from([0.5, 1.0, 2.0, INF])
    kind = data.draw(st.sampled_from(["space", "numbers", "box", "polytope"]))
    if kind == "space":
        return WholeSpace()
    if kind == "numbers":
        return Box(-data.draw(bound), data.draw(bound))
    if kind == "box":
        return Box([-data.draw(bound), -data.draw(bound)], [[data.draw(bound), data.draw(bound)]])
    rows = data.draw(st.lists(st.tuples(*[st.sampled_from([-2.0, -1.0, 0.0, 1.0])] * 2), max_size=3))
    return Polytope(np.array(rows).reshape(-1, 2), np.ones(len(rows)))


@examples(60)
@given(st.data())
def test_a_point_is_in_the_intersection_if_it_is_in_both(data: st.DataObject) -> None:
    one, other = draw_domain(data), draw_domain(data)
    both = one & other
    grid = torch.tensor(list(itertools.product(np.arange(-2.5, 2.51, 0.25), repeat=2)))  # on boundaries too
    expected = one.contains(grid) & other.contains(grid)
    assert torch.equal(both.contains(grid), expected)
    assert torch.equal((other & one).contains(grid), expected)
    kinds = {type(one), type(other)}
    assert type(both) is (Polytope if Polytope in kinds else Box if Box in kinds else WholeSpace)


def test_a_network_in_an_intersection() -> None:
    torch.manual_seed(0)
    model = chain(2, 8, 1).double()
    both = Box(-1.0, [1.0, INF]) & Polytope([[1.0, 1.0]], [0.5])
    assert isinstance(both, Polytope)
    assert (len(both.b), both.b.max()) == (4, 1.0)
    shallow = transform(model, domain=both)
    x = 3.0 * torch.randn(1000, 2).double()
    within = both.contains(x)
    assert 0 < int(within.sum()) < len(x)
    assert torch.equal(shallow(x).isnan()[:, 0], ~within)
    assert torch.allclose(shallow(x[within]), model(x[within]))


APART: dict[str, tuple[Domain, object, str]] = {
    "numbers": (Box(0.0, 1.0), Box(2.0, 3.0), r"Box & Box: .* ends at 1\.0 and the other begins at 2\.0\.$"),
    "one entry": (
        Box([0.0, 0.0], 1.0),
        Box([0.0, -2.0], [1.0, -1.0]),
        r"ends at -1\.0 .* begins at 0\.0 at index \(1,\)",
    ),
    "other boxes": (Box([0.0] * 2, 1.0), Box([0.0] * 3, 1.0), r"Box & Box: .* found \(2,\) and \(3,\)"),
    "box and polytope": (Box(0.0, [[1.0] * 2] * 2), Polytope([[1.0] * 3], [1.0]), r"found \(2, 2\) and \(3,\)"),
    "polytopes": (Polytope([[1.0]], [1.0]), Polytope([[1.0] * 3], [1.0]), r"Polytope & Polytope: .* \(1,\) and \(3,\)"),
}


@pytest.mark.parametrize(("one", "other", "message"), APART.values(), ids=APART)
def test_domains_without_an_intersection(one: Domain, other: Domain, message: str) -> None:
    with pytest.raises(TransformError, match=message):
        one & other


def test_the_other_is_no_domain() -> None:
    with pytest.raises(TypeError, match="unsupported operand"):
        Box(0.0, 1.0) & 1.0


def test_no_interior_is_told_by_transform() -> None:
    model = chain(2, 4, 1)
    for domain in (
        Box([0.0, 1.0], 1.0) & Polytope([[1.0, 0.0]], [0.5]),
        Box(0.0, 1.0) & Polytope([[1.0, 1.0]], [-1.0]),
    ):
        with pytest.raises(TransformError, match="domain: the polytope"):
            transform(model, domain=domain)
