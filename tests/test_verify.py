"""Laws of verdicts: against linear programs in all regions, and where rounding and strictness decide."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from torch import nn

from tests.answers import stand_in
from tests.zoo import chain
from torch_shallow import (
    AtLeast,
    AtMost,
    Between,
    Box,
    Linear,
    Polytope,
    TransformError,
    Wins,
    explain,
    transform,
    verify,
)
from torch_shallow.errors import WrongTypeError
from torch_shallow.program.composition import with_formulas
from torch_shallow.program.model import read_model
from torch_shallow.properties import Property
from torch_shallow.properties.cases import MOST_CASES, alternatives, cases_of
from torch_shallow.properties.formula import AllOf, AnyOf, Row, holds_at, negated, rows_of, value_of
from torch_shallow.search.question import Answer

stand_in()

SQUARE = Box(-1.0, 1.0)


def drawn(rng: np.random.Generator, depth: int, sizes: np.ndarray) -> Property:
    """A random property of two inputs and three outputs, which often holds and often fails."""
    if depth == 0:
        kind = rng.integers(5)
        i, level = int(rng.integers(3)), float(rng.normal() * sizes[0])
        if kind == 0:
            return AtLeast(level, i)
        if kind == 1:
            return AtMost(level, -1)
        if kind == 2:
            return Wins(i, margin=-abs(level))
        if kind == 3:
            return AtMost(float(rng.normal()), input=int(rng.integers(2)))
        return Linear(outputs=rng.normal(size=3), inputs={1: float(rng.normal())}, at_most=2.0 * abs(level))
    one, other = (drawn(rng, depth - 1, sizes) for _ in range(2))
    joined = (one & other, one | other, ~one | other)[rng.integers(3)]
    return ~joined if rng.random() < 0.2 else joined


def greatest_violation(model: nn.Module, formula: Any) -> float:
    """The greatest value, over the square, of the formula's nested minima and maxima, by programs in all regions."""
    regions = transform(model, domain=SQUARE).regions
    best = -np.inf
    rows_of_ways = [rows_of(way) for way in alternatives(formula, 10**6)]
    for region in regions:
        polytope = region.as_polytope()
        weight, bias = region.weight.numpy(), region.bias.numpy()
        for rows in rows_of_ways:
            a, b = [], []
            for row in rows:
                outputs = np.zeros(3)
                outputs[list(row.outputs)] = list(row.outputs.values())
                inputs = np.zeros(2)
                inputs[list(row.inputs)] = list(row.inputs.values())
                a.append([*-(outputs @ weight + inputs), 1.0])
                b.append(outputs @ bias + row.constant)
            a = np.concatenate([np.array(a), np.column_stack([polytope.A, np.zeros(len(polytope.b))])])
            found = linprog([0.0, 0.0, -1.0], a, [*b, *polytope.b], bounds=(None, None))
            if found.status == 0:
                best = max(best, -found.fun)
    return best


@pytest.mark.parametrize("seed", range(12))
def test_a_verdict_is_that_of_all_regions(seed: int) -> None:
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    model = chain(2, 5, 4, 3).double()
    x = torch.rand(2000, 2, dtype=torch.float64) * 2.0 - 1.0
    y = model(x).detach().numpy()
    stated = drawn(rng, 2, y.std(axis=0))
    formula = negated(stated.formula(2, 3))
    truth = greatest_violation(model, formula)
    verdict = verify(model, SQUARE, stated)
    assert abs(truth) > 1e-6  # nothing that rounding decides was drawn
    assert verdict.holds is (truth < 0.0)
    fails = holds_at(formula, x.numpy(), y)
    if verdict.holds:
        assert not fails.any()
        assert verdict.counterexample is None
        assert verdict.lower_bound + 1e-9 >= 0.0
        assert verdict.lower_bound <= verdict.upper_bound
    else:
        point, output = verdict.counterexample.numpy()[None], model(verdict.counterexample[None]).detach().numpy()
        assert holds_at(formula, point, output).all()
        assert torch.equal(verdict.output, model(verdict.counterexample[None])[0])
        assert verdict.margin < 0.0 or verdict.only_rounding
    assert verdict.proven


def test_a_nested_formula_is_a_program_without_being_multiplied_out() -> None:
    rng = np.random.default_rng(0)
    program = read_model(chain(3, 4, 2).double())
    x = rng.normal(size=(50, 3))
    y = program(x)

    def draw(depth: int) -> Any:
        if depth == 0:
            i, j = rng.integers(3), rng.integers(2)
            return Row({int(i): float(rng.normal())}, {int(j): float(rng.normal())}, float(rng.normal()))
        return (AllOf, AnyOf)[depth % 2](tuple(draw(depth - 1) for _ in range(rng.integers(1, 5))))

    def value(formula: Any) -> np.ndarray:
        if isinstance(formula, Row):
            return value_of(formula, x, y)
        parts = np.array([value(part) for part in formula.parts])
        return parts.min(axis=0) if isinstance(formula, AllOf) else parts.max(axis=0)

    for depths in ((0, 0), (0, 1, 3), (4, 2), (1,)):
        formulas = [draw(depth) for depth in depths]
        found = with_formulas(program, formulas)
        assert np.allclose(found(x), np.stack([value(formula) for formula in formulas], axis=1), atol=1e-12)
        joined = sum(len(rows_of(formula)) - 1 for formula in formulas)
        assert found.num_neurons == program.num_neurons + joined


def test_many_alternatives_of_many_conditions_stay_nested() -> None:
    model = chain(2, 5, 3).double()
    every = AtLeast(-100.0)
    for k in range(8):
        every = every & (AtMost(-50.0 - k) & AtLeast(-60.0, 1) | AtMost(40.0 + k, 2))
    assert verify(model, SQUARE, every).holds
    assert verify(model, SQUARE, every & AtMost(-50.0)).holds is False
    assert verify(model, SQUARE, ~every).holds is False
    for k in range(10):
        every = every & (AtMost(k / 10, input=0) | AtMost(50.0))
    assert verify(model, SQUARE, every).holds
    assert verify(model, SQUARE, ~every).holds is False


def test_cases_take_apart_what_is_asked_of_the_input_and_nothing_else() -> None:
    rng = np.random.default_rng(1)
    boxes = [Between(float(a), float(a) + 1.0, input=0) & AtMost(float(b), input=1) for a, b in rng.normal(size=(3, 2))]
    outputs = (AtLeast(0.0) | AtMost(1.0, 1)) & (AtLeast(0.3) | AtLeast(0.1, 1))
    formula = ((boxes[0] & outputs | boxes[1]) & (outputs | boxes[2])).formula(2, 2)
    x, y = rng.normal(size=(500, 2)), rng.normal(size=(500, 2))
    cases = cases_of(formula)
    apart = [holds_at(AllOf((*case.inputs, case.rest)), x, y) for case in cases]
    assert np.array_equal(np.logical_or.reduce(apart), holds_at(formula, x, y))
    many = AllOf(tuple(AnyOf((row, formula)) for row in rows_of(formula)))
    assert 1 < len(cases_of(many)) <= MOST_CASES
    apart = [holds_at(AllOf((*case.inputs, case.rest)), x, y) for case in cases_of(many)]
    assert np.array_equal(np.logical_or.reduce(apart), holds_at(many, x, y))
    assert all(row.outputs for case in cases for row in rows_of(case.rest))
    assert not any(row.outputs for case in cases for row in case.inputs)


class Sum(nn.Module):
    """Of the positive parts: on the square, from 0 to 2, both exactly."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.relu().sum(-1, keepdim=True)


@pytest.mark.parametrize(
    ("stated", "holds"),
    [
        (AtMost(2.0), True),
        (~AtLeast(2.0), False),
        (AtMost(math.nextafter(2.0, 0.0)), False),
        (AtLeast(0.0), True),
        (~AtMost(0.0), False),
        (Between(0.0, 2.0), True),
        (~AtLeast(2.0) | AtLeast(0.75, input=0), True),
        (~AtLeast(2.0) | ~AtMost(1.0, input=0), False),
        (AtMost(1.0, input=1), True),
        (~AtLeast(1.0, input=1), False),
        (Linear(outputs=[1.0], inputs=[-1.0, -1.0], at_least=0.0), True),
        (Linear(outputs=[1.0], inputs=[-1.0, -1.0], at_most=2.0), True),
    ],
    ids=str,
)
def test_the_boundary_belongs_to_what_is_closed(stated: Property, holds: bool) -> None:
    verdict = verify(Sum(), SQUARE, stated, example_input=torch.zeros(1, 2, dtype=torch.float64))
    assert verdict.holds is holds
    if not holds:
        formula = negated(stated.formula(2, 1))
        x = verdict.counterexample[None]
        assert holds_at(formula, x.numpy(), Sum()(x).numpy()).all()


def test_the_counterexample_is_one_for_the_model_in_its_own_dtype_and_in_the_box() -> None:
    torch.manual_seed(1)
    lower = torch.tensor([0.1, 0.3, -0.7], dtype=torch.float64)
    box = Box(lower, lower + torch.tensor([0.2, 1e-7, 0.2], dtype=torch.float64))
    for dtype, seed in itertools.product((torch.float32, torch.bfloat16), range(4)):
        torch.manual_seed(seed)
        model = chain(3, 6, 2).to(dtype)
        top = float(explain.output_range(model, box).upper[0])
        verdict = verify(model, box, AtMost(top - 0.05 * abs(top)))
        x = verdict.counterexample
        assert verdict.holds is False
        assert x.dtype == dtype
        assert x.shape == (3,)
        if dtype == torch.float32:
            assert verdict.proven
        assert verdict.in_domain is bool(((x.double() >= lower) & (x.double() <= torch.from_numpy(box.upper))).all())
        assert verdict.only_rounding is not bool(model(x[None])[0, 0].double() > top - 0.05 * abs(top))


def test_what_only_rounding_separates_is_said() -> None:
    model = nn.Linear(1, 1)
    with torch.no_grad():
        model.weight.fill_(1.0)
        model.bias.fill_(2.0**-30)  # of what is 1 in float32, nothing is left of it
    verdict = verify(model, Box(0.5, 1.0), AtMost(1.0))
    assert verdict.holds is False
    assert verdict.only_rounding
    assert not verdict.proven
    assert "by rounding alone" in str(verdict)
    assert verify(model.double(), Box(0.5, 1.0), AtMost(1.0)).proven


def test_networks_of_all_kinds_have_the_same_verdict() -> None:
    torch.manual_seed(0)
    model = chain(2, 6, 3)
    shallow = transform(model, domain=SQUARE)
    behind = transform(nn.Sequential(*model, nn.Softmax(1)), domain=SQUARE)
    visited = transform(model, data=torch.rand(5, 2))
    exported = torch.export.export(model, (torch.zeros(2, 2),))
    top = float(explain.output_range(model, SQUARE).upper[1])
    for level, holds in ((top + 1e-4, True), (top - 1e-4, False)):
        for one in (model, shallow, shallow.function, behind.trunk, visited, exported):
            verdict = verify(one, SQUARE, AtMost(level, 1))
            assert verdict.holds is holds
    assert verify(shallow, None, AtMost(top + 1e-4, 1)).holds
    with pytest.raises(TransformError, match=r"pass model\.trunk"):
        verify(behind, SQUARE, AtMost(1.0))
    with pytest.raises(TransformError, match="with a head"):
        verify(nn.Sequential(*model, nn.Softmax(1)), SQUARE, AtMost(1.0))
    with pytest.raises(TransformError, match="expected a part of"):
        verify(shallow, Box(-2.0, 1.0), AtMost(1.0))


def test_polytopes_and_what_the_property_itself_says_of_inputs() -> None:
    torch.manual_seed(0)
    model = chain(2, 6, 1).double()
    triangle = Polytope([[-1.0, 0.0], [0.0, -1.0], [1.0, 1.0]], [0.0, 0.0, 1.0])
    inside = AtLeast(0.0, input=0) & AtLeast(0.0, input=1) & Linear(inputs=[1.0, 1.0], at_most=1.0)
    top = float(explain.output_range(model, triangle).upper[0])
    for level, holds in ((top + 1e-6, True), (top - 1e-6, False)):
        verdicts = (
            verify(model, triangle, AtMost(level)),
            verify(model, SQUARE, ~inside | AtMost(level)),
            verify(model, None, ~(inside & Between(-3.0, 3.0, input=0) & AtMost(3.0, input=1)) | AtMost(level)),
        )
        assert [verdict.holds for verdict in verdicts] == [holds] * 3


def test_nothing_is_said_of_a_part(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch_shallow.search.ask as asked

    def stopped(posed: Any, **_: Any) -> Answer:
        return Answer(None, -np.inf, 7.0, 3, 0.1, "time_limit=1")

    monkeypatch.setattr(asked, "answer", stopped)
    verdict = verify(chain(2, 5, 1), SQUARE, AtMost(1e3) & AtLeast(-1e3))
    assert verdict.holds is None
    assert not verdict.proven
    assert (verdict.lower_bound, verdict.reason, verdict.cells) == (-np.inf, "time_limit=1", 3)
    assert verdict.lower_bound <= verdict.upper_bound < np.inf
    assert str(verdict).startswith("Not known (time_limit=1): margin at most")


WRONG: dict[str, tuple[Any, str]] = {
    "an output": (AtMost(1.0, 3), "property: expected an output from -3 to 2, found 3"),
    "an input": (AtMost(1.0, input=2), "property: expected an input from -2 to 1, found 2"),
    "a class": (Wins(5), "expected an output from -3 to 2"),
    "order": (Between(1.0, 0.0), "the lower one first"),
    "nothing": (Linear([1.0, 0.0, 0.0]), "expected at_most or at_least"),
    "coefficients": (Linear([1.0], at_most=0.0), "expected 3 coefficients"),
    "infinite": (Linear({0: math.inf}, at_most=0.0), "finite coefficients"),
    "margin": (Wins(0, margin=math.inf), "expected finite numbers"),
}


@pytest.mark.parametrize(("stated", "message"), WRONG.values(), ids=WRONG)
def test_wrong_properties_are_named(stated: Any, message: str) -> None:
    with pytest.raises(TransformError, match=message):
        verify(chain(2, 4, 3), SQUARE, stated)


def test_wrong_types_are_named(pytestconfig: pytest.Config) -> None:
    if pytestconfig.getoption("--typecheck"):
        pytest.skip("what checks all calls refuses these first")
    model: Any = chain(2, 4, 3)
    calls: list[tuple[tuple[Any, ...], str]] = [
        ((model, SQUARE, 1), "property: expected AtLeast"),
        ((model, (0.0, 1.0), AtMost(1.0)), "domain: expected a Box"),
        ((torch.relu, SQUARE, AtMost(1.0)), "model: expected an nn.Module"),
        ((model, SQUARE, AtMost(torch.tensor(1.0))), "expected plain numbers"),
        ((model, SQUARE, AtMost(1.0, "first")), "expected the index of an output"),
        ((model, SQUARE, Linear("abc", at_most=1.0)), "expected numbers as the outputs"),
    ]
    for arguments, message in calls:
        with pytest.raises(WrongTypeError, match=message):
            verify(*arguments)
    with pytest.raises(TypeError):
        AtMost(1.0) & 3


def test_a_property_is_shown_as_it_is_written() -> None:
    shown = "((AtLeast(1.0) & ~AtMost(2.0, output=1)) | Between(0, 1, input=3))"
    assert repr(AtLeast(1.0) & ~AtMost(2.0, 1) | Between(0, 1, input=3)) == shown
    assert ~~AtLeast(1.0) == AtLeast(1.0)
    assert AtLeast(1.0) != AtMost(1.0)


def test_counterfactuals_take_properties() -> None:
    torch.manual_seed(0)
    shallow = transform(chain(2, 6, 3).double(), domain=SQUARE)
    x = torch.zeros(2, dtype=torch.float64)
    best = int((shallow(x).argmax() + 1) % 3)
    assert explain.counterfactual(shallow, x, Wins(best)).distance == explain.counterfactual(shallow, x, best).distance
    for target, message in (
        (AtLeast(0.0) | AtMost(1.0), "joined by &"),
        (~AtLeast(0.0), "joined by &"),
        (AtLeast(0.0, input=1), "expected only constraints on outputs"),
    ):
        with pytest.raises(TransformError, match=message):
            explain.counterfactual(shallow, x, target)


def test_domains_without_an_end() -> None:
    """A hat of height 1, which is 0 elsewhere, and what grows without end."""
    hat = nn.Sequential(nn.Linear(1, 3), nn.ReLU(), nn.Linear(3, 1)).double().requires_grad_(False)
    with torch.no_grad():
        hat[0].weight.fill_(1.0)
        hat[0].bias.copy_(torch.tensor([0.0, -1.0, -2.0]))
        hat[2].weight.copy_(torch.tensor([[1.0, -2.0, 1.0]]))
        hat[2].bias.zero_()
    half_line = Box(0.5, math.inf)
    for domain in (None, half_line):
        assert verify(hat, domain, Between(0.0, 1.0)).holds is True
        verdict = verify(hat, domain, AtMost(0.75))
        assert verdict.holds is False
        assert verdict.counterexample is not None
        assert 0.75 < float(hat(verdict.counterexample.reshape(1, 1))) <= 1.0
    away = verify(hat, None, AtMost(0.5) | AtLeast(-1.0, input=0) & AtMost(1.5, input=0))
    assert away.holds is True
    assert away.upper_bound == pytest.approx(0.0, abs=1e-9)
    with torch.no_grad():
        hat[2].weight[0, 2] = 1.5  # it rises at the end
    verdict = verify(hat, half_line, AtMost(1000.0))
    assert verdict.holds is False
    assert float(verdict.counterexample) > 2000.0
    assert verdict.lower_bound == -math.inf
    assert verify(hat, half_line, AtMost(1000.0), time_limit=1e3).holds is False
