"""A question answered by a mixed-integer program: against the regions, one by one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import torch_shallow
from tests import zoo
from tests.search.questions import asked, greatest_of_regions
from torch_shallow import Box, Polytope, TransformError
from torch_shallow.program.model import read_model
from torch_shallow.search.milp import answer_by_milp

DOMAINS = {
    "box": Box(-1.0, 1.0),
    "fixed entry": Box([-1.0, 0.3], [2.0, 0.3]),
    "polytope": Polytope([[1.0, 1.0], [-1.0, 0.2], [0.3, -1.0]], [1.0, 1.0, 0.5]),
}
CASES = [(2, 5, 4, 3), (2, 6, 3), (2, 4, 4, 4, 3)]


def right(found, expected: float, posed) -> None:
    assert found.reason == ""
    assert found.bound >= expected - 1e-7
    if expected == -np.inf:
        assert (found.x, found.value, found.gap) == (None, -np.inf, 0.0)
        return
    assert found.value == pytest.approx(expected, rel=1e-7, abs=1e-7)
    assert found.gap < 1e-6 * (1.0 + abs(expected))
    assert posed.value(found.x[None])[0] == found.value
    assert posed.domain.contains(torch.from_numpy(found.x)[None]).all()


@pytest.mark.parametrize("solver", [None, "SCIPY"])
@pytest.mark.parametrize("sizes", CASES, ids=str)
@pytest.mark.parametrize("domain", DOMAINS.values(), ids=DOMAINS)
def test_equals_the_best_of_all_regions(sizes, domain, solver) -> None:
    torch.manual_seed(len(sizes))
    program = read_model(zoo.chain(*sizes).double())
    for num_goals, outputs in ((1, [0]), (3, [0, 1, 2]), (1, [0, 1]), (2, [2, 0, 1])):
        posed = asked(program, domain, outputs, num_goals)
        right(answer_by_milp(posed, solver=solver), greatest_of_regions(posed), posed)


def test_what_cannot_be_met_has_no_point() -> None:
    torch.manual_seed(0)
    posed = asked(read_model(zoo.chain(2, 5, 4, 2).double()), DOMAINS["box"], [0, 1], 1)
    highest = answer_by_milp(asked(posed.program, posed.domain, [1], 1)).value
    for above in (1e-4, 100.0):  # for the solver, and for the relaxation
        bias = posed.program.out_bias - [0.0, highest + above]
        never = replace(posed, program=replace(posed.program, out_bias=bias))
        right(answer_by_milp(never), -np.inf, never)


def test_floor_and_enough() -> None:
    torch.manual_seed(0)
    posed = asked(read_model(zoo.chain(2, 6, 6, 1).double()), DOMAINS["box"], [0], 1)
    greatest = answer_by_milp(posed).value
    for floor in (greatest + 1e-3, 100.0):
        above = answer_by_milp(replace(posed, floor=floor))
        assert above.x is None
        assert above.bound <= floor
    assert answer_by_milp(replace(posed, floor=greatest - 0.1)).value == pytest.approx(greatest)
    enough = answer_by_milp(replace(posed, enough=greatest - 0.5))
    assert enough.value > greatest - 0.5
    assert enough.reason == ""
    assert enough.bound >= greatest - 1e-7


@pytest.mark.parametrize("solver", [None, "SCIPY"])
def test_stopped_it_knows_an_interval(solver) -> None:
    torch.manual_seed(0)
    model = zoo.chain(10, 40, 40, 1).double()
    posed = asked(read_model(model), Box(-3.0, 3.0), [0], 1)
    found = answer_by_milp(posed, solver=solver, time_limit=0.2)
    x = torch.rand(1000, 10, dtype=torch.float64) * 6.0 - 3.0
    assert found.reason
    assert found.bound > model(x).max()
    assert found.value <= found.bound


def test_a_network_without_neurons_and_stable_ones() -> None:
    program = read_model(zoo.linear([[2.0, -1.0]], [0.5]).double())
    posed = asked(program, DOMAINS["box"], [0], 1)
    assert answer_by_milp(posed).value == pytest.approx(3.5)
    stable = torch.nn.Sequential(zoo.linear([[1.0, 0.0], [0.0, 1.0]], [5.0, -5.0]), torch.nn.ReLU(), zoo.chain(2, 3, 1))
    posed = asked(read_model(stable.double()), DOMAINS["box"], [0], 1)
    right(answer_by_milp(posed), greatest_of_regions(posed), posed)


def test_what_it_refuses() -> None:
    posed = asked(read_model(zoo.chain(2, 3, 1)), DOMAINS["box"], [0], 1)
    with pytest.raises(TransformError, match=r"solver: .*CLARABEL"):
        answer_by_milp(posed, solver="CLARABEL")
    with pytest.raises(TransformError, match="bounded"):
        answer_by_milp(replace(posed, domain=torch_shallow.WholeSpace()))
    with pytest.raises(TransformError, match=r"entry 1 .* has no bound"):
        answer_by_milp(replace(posed, domain=Polytope([[1.0, 0.0], [-1.0, 0.0]], [1.0, 1.0])))


@pytest.mark.parametrize("scale", [2.0**-30, 2.0**30])
def test_units_do_not_matter(scale) -> None:
    torch.manual_seed(3)
    model = zoo.chain(3, 6, 6, 2).double()
    constrained = asked(read_model(model), Box(-1.0, 1.0), [0, 1], 1)
    expected = answer_by_milp(constrained).value
    with torch.no_grad():
        model[0].weight /= scale
    other = asked(read_model(model), Box(-scale, scale), [0, 1], 1)
    assert answer_by_milp(other).value == pytest.approx(expected, rel=1e-9)
    weight, bias = other.program.out_weight * scale, other.program.out_bias * scale
    found = answer_by_milp(replace(other, program=replace(other.program, out_weight=weight, out_bias=bias)))
    assert found.value == pytest.approx(expected * scale, rel=1e-9)
    assert found.gap <= 1e-7 * abs(found.value)
