"""Backward bounds of pairs of neurons hold at all points, whatever the multipliers are, and are tighter than others."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.bounds.test_difference_lines import two_programs
from torch_shallow.bounds.backward import CellBounds, Lines, backward, proven, relaxed_point
from torch_shallow.bounds.coupling import DifferenceLines, with_distances
from torch_shallow.bounds.goals import Goals
from torch_shallow.bounds.multipliers import Descent, Multipliers, descend, flat_or_steep
from torch_shallow.bounds.preactivations import BoxBounds, tightened
from torch_shallow.bounds.staged import StagedNetwork
from torch_shallow.program.coupled import coupled, difference_of


def network_of(seed):
    """A difference of two networks with units for its pairs in a cube, these, and what is known there."""
    program, coupling = with_distances(difference_of(coupled(*two_programs(seed))).balanced)
    network = StagedNetwork.of(program, -np.ones(3), np.ones(3))
    return network, coupling, BoxBounds.of(network, Descent(3), coupling=coupling)


def cells_at(cell, entering, neurons):
    """A cell for each point, in which some neurons have the sign that they have there."""
    side = torch.where(neurons, torch.where(entering > 0.0, 1.0, -1.0), 0.0).double()
    side[:, cell.coupling.distance] = 0.0
    lower = torch.where(side > 0.0, cell.lower.clamp(min=0.0), cell.lower)
    upper = torch.where(side < 0.0, cell.upper.clamp(max=0.0), cell.upper)
    return CellBounds(lower, upper, side, cell.coupling)


def test_a_unit_more_for_each_pair():
    program = difference_of(coupled(*two_programs(0)))
    wider, coupling = with_distances(program)
    x = np.random.default_rng(0).uniform(-1.0, 1.0, (100, 3))
    np.testing.assert_allclose(wider(x), program(x), rtol=1e-12, atol=1e-12)
    z = torch.from_numpy(wider.preactivations(x))
    torch.testing.assert_close(z[:, coupling.distance], z[:, coupling.second] - z[:, coupling.first])
    assert wider.num_neurons == program.num_neurons + len(program.pairs)
    alone = two_programs(0)[0]
    assert with_distances(alone) == (alone, None)


@pytest.mark.parametrize("seed", range(10))
def test_no_point_of_a_cell_exceeds_its_bound_whatever_the_multipliers(seed):
    network, _, box = network_of(seed)
    generator = torch.Generator().manual_seed(seed)
    x = 2.0 * torch.rand(200, 3, generator=generator, dtype=torch.float64) - 1.0
    entering, outputs = network(x)
    share = torch.rand(200, 1, generator=generator)
    cells = cells_at(box.cell, entering, torch.rand(entering.shape, generator=generator) < share)
    cells = tightened(network, cells, box.sizes, box.stages)
    assert (cells.lower <= entering + 1e-12).all()
    assert (entering <= cells.upper + 1e-12).all()
    slopes = torch.rand((200, 1, entering.shape[1]), generator=generator, dtype=torch.float64)
    splits = 0.1 * torch.rand(slopes.shape, generator=generator, dtype=torch.float64)
    lines, goals = Lines.of(cells), Goals(network, 1, box.sizes[-1])
    rows = goals.rows(torch.zeros(200, 1, 2, dtype=torch.float64))
    found = backward(network, lines, rows, slopes, splits, box.sizes)
    assert (outputs[:, 0] <= proven(network, found)[:, 0]).all()
    # Without splits, the bound is reached at the point of the relaxation.
    found = backward(network, lines, rows, slopes, torch.zeros_like(splits), box.sizes)
    at = network.outputs(relaxed_point(network, lines, found, slopes).sources)
    torch.testing.assert_close((at * goals.factors(torch.zeros(1, 1, 2, dtype=torch.float64))).sum(-1), found.bound)


@pytest.mark.parametrize("seed", range(10))
def test_lines_are_above_and_below_and_as_far_as_they_say(seed):
    network, coupling, box = network_of(seed)
    x = 2.0 * torch.rand(2000, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) - 1.0
    z = network(x)[0]
    lines = DifferenceLines.of(coupling, box.cell.lower, box.cell.upper)
    d = z[:, coupling.distance]
    e = z[:, coupling.second].clamp(min=0.0) - z[:, coupling.first].clamp(min=0.0)
    above, below = lines.above * d + lines.offset - e, e - lines.below * d - lines.other_offset
    for off, most in ((above, lines.gap_above), (below, lines.gap_below)):
        assert off.min() >= -1e-12
        assert (off <= most + 1e-12).all()


@pytest.mark.parametrize("seed", range(5))
def test_together_they_are_bounded_better(seed):
    bounds = []
    program = difference_of(coupled(*two_programs(seed, change=1e-3)))
    for each, coupling in (with_distances(program.balanced), (program.balanced, None)):
        network = StagedNetwork.of(each, -np.ones(3), np.ones(3))
        box = BoxBounds.of(network, Descent(20), coupling=coupling)
        goals, lines = Goals(network, 1, box.sizes[-1]), Lines.of(box.cell)
        slopes = flat_or_steep(lines)
        start = Multipliers(slopes, torch.zeros_like(slopes), goals.first_weights(1))
        best = descend(network, lines, goals, start, Descent(40))
        bounds.append(float(backward(network, lines, goals.rows(best.weights), best.slopes, best.splits).bound.max()))
    together, apart = bounds
    assert together < 0.2 * apart
