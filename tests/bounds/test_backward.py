"""Backward bounds hold whatever the multipliers are, become tighter with decisions, and are as good as HiGHS says."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.explain.milp import largest_by_milp
from tests.search.programs import draw_program, mlp
from torch_shallow.bounds.backward import CellBounds, Lines, Rows, backward, proven
from torch_shallow.bounds.goals import Goals
from torch_shallow.bounds.intervals import interval_bounds
from torch_shallow.bounds.multipliers import Descent, Multipliers, descend, flat_or_steep
from torch_shallow.bounds.preactivations import BoxBounds, tightened
from torch_shallow.bounds.staged import StagedNetwork
from torch_shallow.bounds.triangles import solve_triangles
from torch_shallow.program.relu_program import ReLUProgram

STEPS = Descent(20)


def in_cube(program: ReLUProgram) -> StagedNetwork:
    ones = np.ones(program.num_inputs)
    return StagedNetwork.of(program, -ones, ones)


def bound(network: StagedNetwork, box: BoxBounds, cells: CellBounds, chosen: Multipliers) -> torch.Tensor:
    rows = goals_of(network, box).rows(chosen.weights)
    return proven(network, backward(network, Lines.of(cells), rows, chosen.slopes, chosen.splits, box.sizes))[:, 0]


def goals_of(network: StagedNetwork, box: BoxBounds) -> Goals:
    return Goals(network, 1, box.sizes[-1])


def first_choice(network: StagedNetwork, box: BoxBounds, cells: CellBounds) -> Multipliers:
    slopes = flat_or_steep(Lines.of(cells))
    return Multipliers(slopes, torch.zeros_like(slopes), goals_of(network, box).first_weights(len(cells.side)))


def improved(network: StagedNetwork, box: BoxBounds, cells: CellBounds) -> Multipliers:
    start = first_choice(network, box, cells)
    return descend(network, Lines.of(cells), goals_of(network, box), start, STEPS)


def decided_at(cell: CellBounds, entering: torch.Tensor, neurons: torch.Tensor) -> CellBounds:
    """A cell for each point, in which some neurons have the sign that they have there."""
    side = torch.where(neurons, torch.where(entering > 0.0, 1.0, -1.0), 0.0).double()
    lower = torch.where(side > 0.0, cell.lower.clamp(min=0.0), cell.lower)
    upper = torch.where(side < 0.0, cell.upper.clamp(max=0.0), cell.upper)
    return CellBounds(lower, upper, side)


@given(st.data(), st.integers(0, 2**32 - 1))
def test_no_point_of_a_cell_exceeds_its_bound_whatever_the_multipliers(data: st.DataObject, seed: int) -> None:
    network = in_cube(draw_program(data))
    generator = torch.Generator().manual_seed(seed)
    box = BoxBounds.of(network, Descent(3))
    x = 2.0 * torch.rand(50, len(network.lower), generator=generator, dtype=torch.float64) - 1.0
    entering, outputs = network(x)
    shape = (50, network.num_neurons)
    cells = decided_at(box.cell, entering, torch.rand(shape, generator=generator) < 0.5)
    cells = tightened(network, cells, box.sizes, box.stages)
    assert (cells.lower <= entering).all()
    assert (entering <= cells.upper).all()
    slopes, splits = (torch.rand(*shape, generator=generator, dtype=torch.float64)[:, None] for _ in range(2))
    chosen = Multipliers(slopes, 3.0 * splits, goals_of(network, box).first_weights(50))
    assert (bound(network, box, cells, chosen) >= outputs[:, 0]).all()


@given(st.data())
def test_all_values_lie_between_the_interval_bounds(data: st.DataObject) -> None:
    network = in_cube(draw_program(data))
    lower, upper, least, most = interval_bounds(network)
    corners = torch.tensor(list(np.ndindex(*[3] * len(network.lower))), dtype=torch.float64) - 1.0
    entering, outputs = network(corners)
    assert ((lower <= entering) & (entering <= upper)).all()
    assert ((least <= outputs) & (outputs <= most)).all()


def test_backward_bounds_contain_the_exact_range_of_each_neuron_and_are_tighter_than_intervals() -> None:
    program = mlp(3, 6, 6, 1)
    network = in_cube(program)
    lower, upper, _, _ = interval_bounds(network)
    cell = BoxBounds.of(network, STEPS).cell
    assert (cell.upper - cell.lower)[0, 6:].sum() < 0.9 * (upper - lower)[6:].sum()
    first = ReLUProgram((3,), (6,), program.stages[:1], program.stages[1].weight, program.stages[1].bias)
    for neuron, direction in enumerate(np.eye(6)):
        most = largest_by_milp(first, -np.ones(3), np.ones(3), direction)
        least = -largest_by_milp(first, -np.ones(3), np.ones(3), -direction)
        assert cell.lower[0, 6 + neuron] <= least + 1e-7
        assert cell.upper[0, 6 + neuron] >= most - 1e-7


def test_improved_multipliers_come_near_the_linear_program_and_those_of_its_dual_reach_it() -> None:
    network = in_cube(mlp(4, 8, 8, 1))
    box = BoxBounds.of(network, STEPS)
    for neurons in ([], [0, 9], [1, 3, 10, 12]):
        chosen = torch.zeros(network.num_neurons, dtype=torch.bool)
        chosen[neurons] = True
        cells = decided_at(box.cell, network(0.3 * torch.ones(1, 4, dtype=torch.float64))[0], chosen)
        first = bound(network, box, cells, first_choice(network, box, cells))
        by_steps = bound(network, box, cells, improved(network, box, cells))
        solution = solve_triangles(network, cells, goals_of(network, box))
        assert solution is not None
        best = bound(network, box, cells, solution.multipliers)
        assert best <= by_steps + 1e-8
        assert by_steps <= first
        assert by_steps - best <= 0.1 * abs(float(best)) + 0.02


def test_where_all_neurons_are_decided_the_linear_program_is_exact() -> None:
    network = in_cube(mlp(3, 5, 4, 1))
    box = BoxBounds.of(network, STEPS)
    x = torch.tensor([[0.1, -0.4, 0.7]], dtype=torch.float64)
    cell = decided_at(box.cell, network(x)[0], torch.ones(9, dtype=torch.bool))
    solution = solve_triangles(network, cell, goals_of(network, box))
    assert solution is not None
    assert solution.missed <= 1e-9
    value = float(network(solution.x)[1][0])
    assert value >= float(network(x)[1][0])
    assert value - 1e-9 <= float(bound(network, box, cell, solution.multipliers)[0]) <= value + 1e-7


def test_decisions_make_bounds_tighter() -> None:
    network = in_cube(mlp(4, 8, 8, 1))
    box = BoxBounds.of(network, STEPS)
    chosen = improved(network, box, box.cell)
    whole = bound(network, box, box.cell, chosen)
    for neuron in range(8):
        for side in (1.0, -1.0):
            cell = tightened(network, box.cell.decided(torch.tensor([neuron]), side), box.sizes, box.stages)
            assert (cell.lower >= box.cell.lower).all()
            assert (cell.upper <= box.cell.upper).all()
            better = descend(network, Lines.of(cell), goals_of(network, box), chosen, STEPS)
            assert bound(network, box, cell, better) <= whole + 1e-12


def test_bounds_follow_powers_of_two() -> None:
    program = mlp(4, 8, 8, 1)
    larger = ReLUProgram(
        program.in_shape, program.out_shape, program.stages, 1024.0 * program.out_weight, 1024.0 * program.out_bias
    )
    bounds = []
    for one in (program, larger):
        network = in_cube(one)
        box = BoxBounds.of(network, STEPS)
        rows = goals_of(network, box).rows(goals_of(network, box).first_weights(1))
        chosen = improved(network, box, box.cell)
        bounds.append(float(backward(network, Lines.of(box.cell), rows, chosen.slopes, chosen.splits).bound[0, 0]))
    assert bounds[1] == 1024.0 * bounds[0]


def test_many_cells_have_the_bounds_that_each_has_alone() -> None:
    network = in_cube(mlp(4, 8, 8, 1))
    box = BoxBounds.of(network, STEPS)
    x = torch.linspace(-1.0, 1.0, 28, dtype=torch.float64).reshape(7, 4)
    cells = decided_at(box.cell, network(x)[0], torch.arange(16) % 3 == 0)
    together = bound(network, box, cells, improved(network, box, cells))
    alone = [bound(network, box, cells[i : i + 1], improved(network, box, cells[i : i + 1])) for i in range(7)]
    torch.testing.assert_close(together, torch.cat(alone), rtol=0.0, atol=1e-3)


def test_rows_may_read_inputs_alone() -> None:
    network = in_cube(mlp(2, 3, 1))
    cell = BoxBounds.of(network, STEPS).cell
    weight, zero = torch.tensor([[[1.0, -2.0]]], dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64)
    nothing = torch.zeros(1, 1, 3, dtype=torch.float64)
    found = backward(network, Lines.of(cell), Rows([weight, None], zero, zero), nothing, nothing)
    assert float(found.bound[0, 0]) == 3.0
    assert found.at[0, 0].tolist() == [1.0, -1.0]
