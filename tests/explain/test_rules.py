"""Laws of the rules of a region: they hold in the region and nowhere else, and none of them follows from the others."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linprog

from tests.zoo import ARCHITECTURES, DEGENERATE, Specimen, chain, linear, transformed
from torch_shallow import Box, TransformError, transform
from torch_shallow.domain import WholeSpace
from torch_shallow.explain import rules
from torch_shallow.explain.features import Features
from torch_shallow.explain.locally.rules import inequality, interval, number

SMALL = [s for s in (*DEGENERATE, *ARCHITECTURES[:5]) if s.regions is None or s.regions < 200]


def units_of(count: int) -> Features:
    rng = np.random.default_rng(0)
    scale = rng.choice([-1.0, 1.0], count) * 10.0 ** rng.uniform(-2, 3, count)
    return Features.of([f"f{i}" for i in range(count)], mean=rng.normal(0.0, 100.0, count), scale=scale)


@pytest.mark.parametrize("specimen", SMALL, ids=str)
def test_the_rules_hold_in_the_region_and_nowhere_else(specimen: Specimen) -> None:
    shallow = transformed(specimen)
    count = torch.Size(shallow.in_shape).numel()
    units = units_of(count)
    points = torch.randn(100, count, dtype=torch.float64)
    points = torch.cat([points, torch.from_numpy(shallow.partition.interior_points()[:30])])
    if isinstance(shallow.domain, Box):
        points = points.clamp(*map(torch.from_numpy, shallow.domain.bounds(shallow.in_shape)))
    points = points.reshape(-1, *shallow.in_shape)
    for region in shallow.regions[:: max(1, shallow.num_regions // 4)]:
        found = rules(region, features=units)
        inside = region.contains(points).numpy()
        assert (found.contains(points) == inside).all()
        assert found.contains(region.interior_point)
        values = units.unscale(points.flatten(1).numpy())
        allowed = 1e-9 * (np.abs(values) @ np.abs(found.A).T + np.abs(found.b) + np.abs(found.A) @ np.abs(units.mean))
        assert ((values @ found.A.T <= found.b + allowed).all(1) == inside).all()


@pytest.mark.parametrize("specimen", SMALL, ids=str)
def test_no_condition_follows_from_the_others(specimen: Specimen) -> None:
    shallow = transformed(specimen)
    for region in shallow.regions[:: max(1, shallow.num_regions // 2)]:
        found = rules(region)
        a, b = found.half_spaces.numpy()
        for row in range(len(b)):
            others = np.arange(len(b)) != row
            rows, limits = np.vstack([a[others], a[row]]), np.append(b[others], b[row] + 1.0)
            largest = linprog(-a[row], A_ub=rows, b_ub=limits, bounds=(None, None), method="highs")
            assert -largest.fun > b[row] + 1e-9
        sides = np.isfinite(found.lower).sum() + np.isfinite(found.upper).sum()
        assert sides + found.oblique.sum() == len(b)
        assert (
            len(found.conditions) == found.oblique.sum() + (np.isfinite(found.lower) | np.isfinite(found.upper)).sum()
        )


NUMBER = r"-?\d[\d.]*(?:e[-+]\d+)?"


def read(words: str, values: dict[str, float]) -> bool:
    """Whether a condition holds, as someone reads it who knows nothing but the words."""
    for pattern, holds in {
        rf"(\w+) between ({NUMBER}) and ({NUMBER})": lambda n, low, high: float(low) <= values[n] <= float(high),
        rf"(\w+) at least ({NUMBER})": lambda n, low: values[n] >= float(low),
        rf"(\w+) at most ({NUMBER})": lambda n, high: values[n] <= float(high),
        rf"(\w+) = ({NUMBER})": lambda n, value: values[n] == float(value),
    }.items():
        found = re.fullmatch(pattern, words)
        if found:
            return holds(*found.groups())
    left, sign, right = re.fullmatch(rf"(.*) (<=|>=) ({NUMBER})", words).groups()
    total = 0.0
    for term in re.sub(r" ([-+]) ", r" | \1", left).split(" | "):
        plus, factor, name = re.fullmatch(rf"([-+]?)(?:({NUMBER}) )?(\w+)", term).groups()
        total += (-1.0 if plus == "-" else 1.0) * float(factor or 1.0) * values[name]
    return total <= float(right) if sign == "<=" else total >= float(right)


def test_the_words_say_the_same_up_to_their_digits() -> None:
    torch.manual_seed(0)
    units = Features.of(["age", "income", "debt"], mean=[40.0, 3000.0, 0.0], scale=[12.0, 900.0, -0.01])
    for domain in (WholeSpace(), Box(-1.0, 1.0), Box([-1.0, 0.5, -np.inf], [1.0, 0.5, 2.0])):
        shallow = transform(chain(3, 5, 4, 1), domain=domain)
        points = torch.randn(60, 3, dtype=torch.float64).clamp(-1.0, 1.0)
        points[:, 1] = 0.5
        points = torch.cat([points, torch.from_numpy(shallow.partition.interior_points())])
        hits = 0
        for region in shallow.regions[:: max(1, shallow.num_regions // 6)]:
            found = rules(region, features=units, digits=12)
            for point, inside in zip(points, region.contains(points), strict=True):
                values = dict(zip(units.names, units.unscale(point.numpy()), strict=True))
                hits += int(inside)
                assert all(read(words, values) for words in found.conditions) == bool(inside)
        assert hits > 5


def test_of_the_whole_space() -> None:
    shallow = transform(linear([[1.0, 2.0]], [0.0]))
    found = rules(shallow.regions[0])
    assert (str(found), found.conditions, len(found.b)) == ("always", (), 0)
    assert found.contains(torch.tensor([[1e30, 0.0]])).all()
    assert not found.contains(torch.tensor([[torch.nan, 0.0]])).any()


def test_merged_visited_and_trained_networks() -> None:
    torch.manual_seed(0)
    model = chain(2, 4, 1)
    x = torch.randn(50, 2, dtype=torch.float64)
    whole = transform(model, domain=Box(-4.0, 4.0))
    for shallow in (whole.merge(), transform(model, data=x, domain=Box(-4.0, 4.0)), whole.soften(9.0).harden()):
        for number_of in shallow.locate(x).unique().tolist():
            region = shallow.regions[number_of]
            assert torch.equal(rules(region).contains(x), region.contains(x))
            assert "IF" in str(rules(region))


def test_text_counts_what_it_leaves_out() -> None:
    torch.manual_seed(0)
    found = rules(transform(chain(60, 3, 1), domain=Box(-1.0, 1.0)).regions[0])
    assert len(found.conditions) == 60 + found.oblique.sum()
    assert "AND ... (" in str(found)
    full = found.text(most_conditions=None)
    assert "more conditions" not in full
    assert "... (50 more terms)" in full
    assert "more terms" not in found.text(most_conditions=None, most_terms=None)


@given(st.floats(-1e300, 1e300), st.integers(1, 17))
def test_a_number_has_its_digits(value: float, digits: int) -> None:
    assert float(number(value, digits)) == pytest.approx(value, rel=0.51 * 10.0 ** (1 - digits), abs=1e-320)
    assert float(number(value, 17)) == value


@given(st.floats(-1e6, 1e6), st.floats(1e-9, 1.0))
def test_an_interval_has_two_ends(lower: float, width: float) -> None:
    upper = lower + width
    shown = re.fullmatch(rf"a between ({NUMBER}) and ({NUMBER})", interval("a", lower, upper, 2))
    assert shown is None if lower == upper else float(shown[1]) < float(shown[2])


def test_words() -> None:
    assert interval("a", -np.inf, np.inf, 3) == "a any number"
    assert inequality(np.array([-1.0, 2.0, 1e-15]), 4.0, ["a", "b", "c"], 3) == "a - 2 b >= -4"
    assert inequality(np.array([1.0, 2.0, 5.0]), 4.0, ["a", "b", "c"], 3, 2) == "2 b + 5 c + ... (1 more terms) <= 4"
    far = Features.of(["a", "b"], scale=[1e-9, 1e9])
    weight, _ = far.affine(np.array([[1.0, -2.0]]), np.zeros(1))
    assert inequality(weight[0], 1.0, far.names, 3, None, far.scale) == "1.00e+09 a - 2.00e-09 b <= 1"
    assert inequality(weight[0], 1.0, far.names, 3, 1, far.scale) == "2.00e-09 b + ... (1 more terms) >= -1"


@pytest.mark.parametrize("digits", [0, 18, 2.5])
def test_refusals(digits: object) -> None:
    region = transform(chain(2, 3, 1)).regions[0]
    with pytest.raises((TransformError, TypeError), match="digits"):
        rules(region, digits=digits)
    with pytest.raises(TransformError, match=r"x: expected shape \(\*batch, 2\), found \(5, 3\)"):
        rules(region).contains(torch.zeros(5, 3))
