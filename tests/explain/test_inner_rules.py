"""Laws of rules with few terms: they suffice for the region, say so, and are as good as a scan of boxes finds."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linprog

from tests.zoo import chain
from torch_shallow import Box, TransformError, transform
from torch_shallow.domain import WholeSpace
from torch_shallow.explain import Features, rules
from torch_shallow.explain.locally.rules import inwards, number

UNITS = Features.of(list("abcde"), mean=[40.0, 3000.0, 0.0, 5.0, -7.0], scale=[12.0, 900.0, -0.01, 1.0, 3.0])


def five_inputs() -> torch.nn.Module:
    torch.manual_seed(0)
    return chain(5, 8, 6, 1).double()


DOMAINS = {
    "everywhere": WholeSpace(),
    "box": Box(-1.0, 1.0),
    "half": Box([-1.0, 0.5, -np.inf, -1.0, -1.0], [1.0, 0.5, 2.0, np.inf, 1.0]),
}


@pytest.mark.parametrize("max_terms", [1, 2, 3])
@pytest.mark.parametrize("domain", DOMAINS)
def test_conditions_of_few_features_imply_those_of_the_region(domain: str, max_terms: int) -> None:
    x = torch.rand(40, 5, generator=torch.Generator().manual_seed(0)).double() * 2 - 1
    x[:, 1] = 0.5
    visited = transform(five_inputs(), data=x, domain=DOMAINS[domain])
    for region in visited.regions[::8]:
        found, whole = rules(region, features=UNITS, max_terms=max_terms), rules(region, features=UNITS)
        assert found.max_terms == max_terms
        a, b = found.half_spaces.numpy()
        fixed = found.fixed
        assert np.count_nonzero(a[:, ~fixed], axis=1).max() <= max_terms
        for row, bound in zip(*whole.half_spaces.numpy(), strict=True):
            worst = linprog(-row, A_ub=a, b_ub=b, bounds=(None, None), method="highs")
            assert worst.status == 0
            assert -worst.fun <= bound + 1e-7 * (np.abs(row).sum() + abs(bound))


def test_they_hold_at_the_input_and_around_it() -> None:
    shallow = transform(five_inputs(), domain=Box(-1.0, 1.0))
    x = torch.tensor([0.3, -0.2, 0.1, 0.4, -0.6], dtype=torch.float64)
    region = shallow.regions[int(shallow.locate(x))]
    for max_terms in (1, 3):
        found = rules(region, max_terms=max_terms, x=x)
        a, b = found.half_spaces.numpy()
        assert (a @ x.numpy() < b - 1e-6 * np.abs(a).sum(axis=1)).all()
        assert "(sufficient, not necessary:" in str(found)
    assert "sufficient" not in str(rules(region))


def test_the_box_of_a_triangle_is_the_best_one() -> None:
    """Around p in u + v <= 1, u >= 0, v >= 0: of all boxes, that with the greatest product of the four distances."""
    model = torch.nn.Sequential(torch.nn.Linear(2, 1), torch.nn.ReLU()).double()
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[-1.0, -1.0]]))
        model[0].bias.fill_(1.0)
    shallow = transform(model, domain=Box(0.0, 10.0))
    p = torch.tensor([0.2, 0.3], dtype=torch.float64)
    found = rules(shallow.regions[int(shallow.locate(p))], max_terms=1, x=p)
    assert found.lower == pytest.approx([0.0, 0.0], abs=1e-6)
    ups = np.linspace(0.0, 0.5, 100_001)  # up of u, the rest is that of v
    best = ups[np.argmax(ups * (0.5 - ups))]
    assert found.upper == pytest.approx([0.2 + best, 0.3 + 0.5 - best], abs=1e-4)


def test_more_terms_leave_more_room() -> None:
    shallow = transform(five_inputs(), domain=Box(-1.0, 1.0))
    region = shallow.regions[int(shallow.locate(torch.zeros(5).double()))]
    points = torch.from_numpy(region.interior_point.numpy() + 0.5 * np.random.default_rng(0).normal(size=(200_000, 5)))
    shares = [int(rules(region, max_terms=terms).contains(points).sum()) for terms in (1, 2, 3, 4, 5)]
    assert 0 < shares[0] < shares[2] < shares[4] == int(region.contains(points).sum())


def test_what_has_few_terms_already_stays_as_it_is() -> None:
    shallow = transform(five_inputs(), domain=Box(-1.0, 1.0))
    found = rules(shallow.regions[0], max_terms=5)
    assert found.max_terms is None
    assert found.conditions == rules(shallow.regions[0]).conditions


def test_words_of_a_box_are_inside_of_it() -> None:
    shallow = transform(five_inputs(), domain=Box(-1.0, 1.0))
    found = rules(shallow.regions[3], features=UNITS, max_terms=1, digits=3)
    said = [tuple(map(float, re.findall(r"-?\d[\d.]*(?:e[-+]\d+)?", words))) for words in found.conditions]
    assert [len(pair) for pair in said] == [2] * 5
    for (low, high), lower, upper in zip(said, found.lower, found.upper, strict=True):
        slack = 1e-8 * (upper - lower)
        assert lower - slack <= low < high <= upper + slack


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6), st.integers(1, 6))
def test_an_interval_is_rounded_inwards(lower: float, width: float, digits: int) -> None:
    upper = lower + width
    low, high = inwards(lower, upper, digits)
    assert lower - 2e-9 * width <= low < high <= upper + 2e-9 * width
    if (low, high) != (lower, upper):
        assert (float(number(low, digits)), float(number(high, digits))) == (low, high)


def test_refusals() -> None:
    shallow = transform(five_inputs(), domain=Box(-1.0, 1.0))
    region, x = shallow.regions[0], torch.zeros(5).double()
    outside = next(point for point in torch.randn(99, 5).double().clamp(-1, 1) if not region.contains(point))
    for arguments, message in [
        ({"max_terms": 0}, "max_terms: expected None or an integer of at least 1, found 0"),
        ({"max_terms": 1, "x": x[None]}, r"x: expected one input of shape \(5,\), found \(1, 5\)"),
        ({"max_terms": 1, "x": outside}, "x: expected an input in the interior of the region"),
        ({"x": x}, "x: expected None with a region"),
    ]:
        with pytest.raises(TransformError, match=message):
            rules(region, **arguments)
    with pytest.raises(TransformError, match="max_terms: expected None with a network"):
        rules(shallow, max_terms=1)
