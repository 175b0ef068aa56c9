"""Bounds of the difference of two ReLUs, against points."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from tests import zoo
from torch_shallow.bounds.difference_lines import line_above
from torch_shallow.bounds.paired_rows import PairedRows
from torch_shallow.bounds.scaled import ScaledProgram
from torch_shallow.program.coupled import coupled, difference_of, side_by_side
from torch_shallow.program.model import read_model


@pytest.mark.parametrize("seed", range(20))
def test_a_line_is_above_and_as_far_as_it_says(seed):
    random = np.random.default_rng(seed)
    for _ in range(50):
        (low, high), (least, most) = np.sort(random.normal(size=(2, 2)) * [[1.0], [0.5]], axis=1)
        z, d = (random.uniform(a, b, 500) for a, b in ((low, high), (least, most)))
        other = z + d
        slope, offset, gap = line_above(least, most, low, high, other.min(), other.max())
        above = slope * d + offset - (np.maximum(other, 0.0) - np.maximum(z, 0.0))
        assert above.min() >= -1e-12
        assert above.max() <= gap + 1e-12


def two_programs(seed, inputs=3, change=0.1):
    torch.manual_seed(seed)
    a = zoo.chain(inputs, 6, 5, 2).double()
    b = copy.deepcopy(a)
    with torch.no_grad():
        for weight in b.parameters():
            weight += change * torch.randn_like(weight)
    return read_model(a), read_model(b)


@pytest.mark.parametrize("seed", range(10))
def test_rows_hold_everywhere(seed):
    program = coupled(*two_programs(seed))
    scaled = ScaledProgram.of(program, -np.ones(3), np.ones(3))
    pairs = PairedRows.of(program, scaled)
    assert len(pairs)
    v = np.random.default_rng(seed).uniform(-1.0, 1.0, (2000, 3))
    active = np.maximum(program.preactivations(v)[:, scaled.neurons], 0.0)
    sources = np.column_stack([v, np.ldexp(active, -scaled.exponents), np.ones(len(v))])
    assert (sources @ pairs.rows(scaled).T).min() >= -1e-12
    distances, _ = pairs.distances(scaled)
    assert (pairs.least - 1e-12 <= sources @ distances.T).all()
    assert (sources @ distances.T <= pairs.most + 1e-12).all()
    kept = scaled.folded(scaled.low, np.where(np.arange(len(scaled.high)) < 2, 0.0, scaled.high))
    again = pairs.within(program, scaled, kept)
    assert len(again) < len(pairs)
    assert (scaled.neurons[pairs.first[-1]], scaled.neurons[pairs.second[-1]]) == (
        kept.neurons[again.first[-1]],
        kept.neurons[again.second[-1]],
    )
    unit = np.ldexp(1.0, scaled.exponents[pairs.first[-1]]) / pairs.units[-1, 0]
    after = np.ldexp(1.0, kept.exponents[again.first[-1]]) / again.units[-1, 0]
    assert again.most[-1] * after <= pairs.most[-1] * unit + 1e-12


def test_both_networks_as_one_program():
    a, b = two_programs(0)
    x = np.random.default_rng(0).uniform(-1.0, 1.0, (100, 3))
    for both in (coupled(a, b), side_by_side(a, b)):
        np.testing.assert_allclose(both(x), np.concatenate([a(x), b(x)], axis=1), rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(difference_of(both)(x), a(x) - b(x), rtol=1e-12, atol=1e-12)
    together = coupled(a, b)
    z = together.preactivations(x)
    first, second = together.pairs.T
    np.testing.assert_allclose(z[:, first], a.preactivations(x), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(z[:, second], b.preactivations(x), rtol=1e-12, atol=1e-12)
    other = read_model(zoo.chain(3, 6, 4, 2).double())
    assert coupled(a, other).pairs is None
    np.testing.assert_allclose(coupled(a, other)(x), np.concatenate([a(x), other(x)], axis=1), rtol=1e-12, atol=1e-12)
    balanced = together.balanced
    np.testing.assert_allclose(balanced(x), together(x), rtol=1e-12, atol=1e-12)
    sizes = balanced.preactivations(x) / z
    np.testing.assert_allclose(sizes[:, first], sizes[:, second])
