"""The search for the greatest value: against all regions, whoever does the work, and whenever it stops."""

from __future__ import annotations

import itertools
import signal
import threading
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests import zoo
from tests.search.questions import asked, greatest_of_regions, random_question
from torch_shallow import Box, Polytope, TransformError, WholeSpace
from torch_shallow.bounds.preactivations import BoxBounds
from torch_shallow.program.model import read_model
from torch_shallow.program.relu_program import ReLUProgram, Stage
from torch_shallow.search.ask import METHODS, Known, answer
from torch_shallow.search.engines.relaxation_engine import BoundedNeurons
from torch_shallow.search.question import Answer, CellTask, Posed
from torch_shallow.search.runs import best_first

DOMAINS = {
    "box": Box(-1.0, 1.0),
    "fixed entry": Box([-1.0, 0.3], [2.0, 0.3]),
    "polytope": Polytope([[1.0, 1.0], [-1.0, 0.2], [0.3, -1.0]], [1.0, 1.0, 0.5]),
}
CASES = [(2, 5, 4, 3), (2, 6, 3), (2, 4, 4, 4, 3)]


def network(*sizes: int, seed: int = 0) -> ReLUProgram:
    torch.manual_seed(seed)
    return read_model(zoo.chain(*sizes).double())


def right(found: Answer, expected: float, posed: Posed) -> None:
    assert found.reason == ""
    assert found.bound >= expected - 1e-7
    if expected == -np.inf:
        assert (found.x, found.value, found.gap) == (None, -np.inf, 0.0)
        return
    assert found.value == pytest.approx(expected, rel=1e-7, abs=1e-7)
    assert found.gap < 1e-7 * (1.0 + abs(expected))
    assert posed.value(found.x[None])[0] == found.value
    assert posed.domain.contains(torch.from_numpy(found.x)[None]).all()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("sizes", CASES, ids=str)
@pytest.mark.parametrize("domain", DOMAINS.values(), ids=DOMAINS)
def test_equals_the_best_of_all_regions(sizes, domain, method) -> None:
    program = network(*sizes, seed=len(sizes))
    for num_goals, outputs in ((1, [0]), (3, [0, 1, 2]), (1, [0, 1]), (2, [2, 0, 1])):
        posed = replace(asked(program, domain, outputs, num_goals), slack=1e-9)
        right(answer(posed, method=method), greatest_of_regions(posed), posed)


@pytest.mark.parametrize("seed", [*range(12), 275])  # 275: a cell that is a point
def test_random_questions(seed: int) -> None:
    posed = random_question(seed)
    expected = greatest_of_regions(posed)
    for method in ("rays", "relaxation", "backward"):
        right(answer(posed, method=method), expected, posed)


@pytest.mark.parametrize("method", METHODS)
def test_stages_that_read_the_input_and_each_other(method) -> None:
    rng = np.random.default_rng(0)
    stages = tuple(Stage(f"{s}", rng.normal(size=(4, 3 + 4 * s)), rng.normal(size=4)) for s in range(3))
    program = ReLUProgram((3,), (2,), stages, rng.normal(size=(2, 15)), rng.normal(size=2))
    posed = asked(program, Box(-1.0, 1.0), [0, 1], 2)
    right(answer(posed, method=method), greatest_of_regions(posed), posed)


@pytest.mark.parametrize("method", METHODS)
def test_what_cannot_be_met_has_no_point(method) -> None:
    program = network(2, 5, 4, 2)
    highest = answer(asked(program, DOMAINS["box"], [1], 1), method=method).value
    posed = asked(program, DOMAINS["box"], [0, 1], 1)
    for above in (1e-4, 100.0):
        never = replace(posed, program=replace(program, out_bias=program.out_bias - [0.0, highest + above]))
        right(answer(never, method=method), -np.inf, never)


@pytest.mark.parametrize("method", METHODS)
def test_floor_and_enough(method) -> None:
    posed = asked(network(3, 8, 8, 1), Box(-1.0, 1.0), [0], 1)
    best = answer(posed, method=method).value
    nothing = answer(replace(posed, floor=best + 1e-3), method=method)
    assert nothing.x is None
    assert best <= nothing.bound <= best + 1e-3 + 1e-9
    some = answer(replace(posed, enough=best - 0.5), method=method)
    assert best - 0.5 < some.value <= best <= some.bound + 1e-9


@pytest.mark.parametrize("exponent", [-40, -7, 13, 40])
def test_units_do_not_matter(exponent: int) -> None:
    """Inputs, neurons and outputs in other units by powers of two."""
    program = network(3, 6, 6, 1, seed=3)
    factor = 2.0**exponent
    stages = tuple(
        replace(stage, weight=stage.weight * np.append(np.full(3, 1 / factor), np.ones(stage.weight.shape[1] - 3)))
        for stage in program.stages
    )
    out = np.append(program.out_weight[:, :3] / factor, program.out_weight[:, 3:], axis=1)
    other = replace(program, stages=stages, out_weight=out * factor, out_bias=program.out_bias * factor)
    one = answer(Posed(program, Box(-1.0, 1.0)), method="relaxation")
    scaled = answer(Posed(other, Box(-factor, factor)), method="relaxation")
    np.testing.assert_array_equal(scaled.x, one.x * factor)
    assert (scaled.value, scaled.bound, scaled.cells) == (one.value * factor, one.bound * factor, one.cells)


@pytest.mark.parametrize("method", ["rays", "relaxation", "backward"])
@pytest.mark.parametrize("seed", [4, 9, 12, 13, 20])
def test_each_input_may_have_its_own_unit_and_place(seed: int, method: str) -> None:
    posed, rng = random_question(seed), np.random.default_rng(seed)
    assert isinstance(posed.domain, Box)
    program, count = posed.program, posed.program.num_inputs
    units, order = np.ldexp(1.0, rng.integers(-30, 30, size=count)), rng.permutation(count)

    def changed(weight: np.ndarray) -> np.ndarray:
        return np.concatenate([(weight[:, :count] / units)[:, order], weight[:, count:]], axis=1)

    stages = tuple(replace(stage, weight=changed(stage.weight)) for stage in program.stages)
    lower, upper = ((bound * units)[order] for bound in posed.domain.bounds(program.in_shape))
    other = replace(program, stages=stages, out_weight=changed(program.out_weight))
    one = answer(posed, method=method)
    found = answer(replace(posed, program=other, domain=Box(lower, upper)), method=method)
    assert (found.x is None) == (one.x is None)
    assert found.value == pytest.approx(one.value, rel=1e-9)
    assert found.bound == pytest.approx(one.bound, rel=1e-7)


def steep(seed: int) -> Posed:
    rng = np.random.default_rng(seed)
    stages = tuple(Stage(f"{s}", np.pad(rng.normal(size=(20, n)), ((0, 0), (s * 8, 0))), rng.normal(size=20))
                   for s, n in enumerate((8, 20)))  # fmt: skip
    out = np.append(np.zeros((1, 28)), rng.normal(size=(1, 20)), axis=1)
    return Posed(ReLUProgram((8,), (1,), stages, out, np.zeros(1)), Box(-1.0, 1.0))


@pytest.fixture(scope="module")
def long_one() -> Posed:
    return steep(1)


def same(one: Answer, other: Answer) -> bool:
    return np.array_equal(one.x, other.x) and (one.value, one.bound, one.cells) == (
        other.value,
        other.bound,
        other.cells,
    )


def test_workers_do_not_matter(long_one: Posed, monkeypatch) -> None:
    monkeypatch.setattr(best_first, "PATIENT", 50)
    alone = answer(long_one, method="relaxation")
    assert alone.cells > 200
    assert same(answer(long_one, method="relaxation", workers=3), alone)
    with ProcessPoolExecutor(2) as executor:
        assert same(answer(long_one, method="relaxation", workers=executor), alone)


@pytest.mark.parametrize("budget", [1, 3, 40])
def test_cells_given_back_cover_what_is_left(long_one: Posed, budget: int) -> None:
    """One task after another, by hand; and at any time the best bound that is open is above the answer."""
    from torch_shallow.search.engines.relaxation_engine import RelaxationEngine

    expected, engine = answer(long_one, method="relaxation").value, RelaxationEngine(long_one)
    cells, best, highest = [engine.root()], -np.inf, -np.inf
    while cells:
        assert max(best, highest, *(cell.bound for cell in cells)) >= expected - 1e-9
        cell = cells.pop()
        found = engine.explore(CellTask((cell,), best, budget))
        assert all(below.bound <= cell.bound for below in found.open)
        cells += found.open
        best, highest = max(best, found.value), max(highest, found.left_out)
    assert best == pytest.approx(expected, rel=1e-9)


def test_a_time_limit_gives_an_interval_and_a_checkpoint_goes_on(long_one: Posed, tmp_path: Path, monkeypatch) -> None:
    expected = answer(long_one, method="relaxation")
    file, known = tmp_path / "run", []

    class Budget:
        """Used up after a few tasks, whatever the clock says."""

        def __init__(self) -> None:
            self.looks = itertools.count()

        def exceeded(self, _: int) -> str:
            return "time_limit" if next(self.looks) > 22 else ""

        def seconds_left(self, _: int) -> float:
            return np.inf

    monkeypatch.setattr("torch_shallow.search.ask.Budget", lambda *_: Budget())
    while not known or known[-1].reason:
        known.append(answer(long_one, method="relaxation", checkpoint=file))
        assert known[-1].value <= expected.value <= known[-1].bound + 1e-9
        assert len(known) < 200
    assert len(known) > 2
    assert all(a.bound >= b.bound - 1e-9 and a.value <= b.value for a, b in itertools.pairwise(known))
    assert known[-1].value == pytest.approx(expected.value, rel=1e-9)
    with pytest.raises(TransformError, match="another program"):
        answer(steep(2), method="relaxation", checkpoint=file)


@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.parametrize("after", [1, 5])
def test_ctrl_c_gives_an_interval(long_one: Posed, after: int, monkeypatch) -> None:
    expected, added = answer(long_one, method="relaxation").value, itertools.count(1)
    add = best_first.Standing.add

    def pressed(self, outcome) -> None:
        add(self, outcome)
        if next(added) == after:
            signal.raise_signal(signal.SIGINT)

    assert threading.current_thread() is threading.main_thread()
    monkeypatch.setattr(best_first.Standing, "add", pressed)
    found = answer(long_one, method="relaxation")
    assert found.reason == "Ctrl-C"
    assert found.value <= expected <= found.bound
    assert found.gap > 0.0


def test_arguments_that_are_not_right(long_one: Posed) -> None:
    with pytest.raises(TransformError, match=r"method: expected one of 'auto'.*found 'guess'"):
        answer(long_one, method="guess")
    with pytest.raises(TransformError, match="entry 0 of the 8 entries of an input has no bound"):
        answer(replace(long_one, domain=Box(-np.inf, 1.0)), method="rays")
    with pytest.raises(TransformError, match="time_limit"):
        answer(long_one, time_limit=-1.0)


@pytest.mark.parametrize("seed", range(6))
def test_in_domains_without_an_end_all_regions_are_looked_at(seed: int) -> None:
    """Far out, the value is that of the greatest box; there it has an end as long as constraints or goals bound it."""
    program = network(2, 5, 4, 3, seed=seed)
    posed = asked(program, WholeSpace(), [0, 1, 2], 3)
    found = answer(posed)
    box = answer(replace(posed, domain=Box(-1e4, 1e4)))
    assert found.bound >= box.value - 1e-7
    if found.bound < np.inf:
        assert found.value == pytest.approx(found.bound, abs=1e-6)
        assert found.value == pytest.approx(box.value, abs=1e-6) or np.abs(found.x).max() > 1e4
    else:
        assert answer(replace(posed, domain=Box(-1e6, 1e6))).value > box.value
    some = answer(replace(posed, enough=box.value - 1e-3))
    assert some.value > box.value - 1e-3


def test_neurons_are_bounded_once_for_all_questions_about_them(monkeypatch: pytest.MonkeyPatch) -> None:
    program = network(5, 10, 10, 3)
    domain, made, bounded = Box(-1.0, 1.0), [], BoundedNeurons.of
    monkeypatch.setattr(BoundedNeurons, "of", lambda *given: made.append(given) or bounded(*given))
    known = Known()
    for output in (0, 1, 2, 1):
        weight, bias = program.out_weight[output, None], program.out_bias[output, None]
        posed = Posed(replace(program, out_shape=(1,), out_weight=weight, out_bias=bias), domain)
        alone, again = (answer(posed, method="relaxation", known=given) for given in (None, known))
        assert (alone.value, alone.bound, alone.cells) == (again.value, again.bound, again.cells)
        assert np.array_equal(alone.x, again.x)
    assert len(made) == 4 + 1
    other = Posed(posed.program, Box(-1.0, 0.5))
    assert answer(other, method="relaxation", known=known).value == answer(other, method="relaxation").value


def test_backward_bounds_of_neurons_are_shared_by_all_questions_about_them(monkeypatch: pytest.MonkeyPatch) -> None:
    program = network(3, 6, 6, 3)
    domain, made, bounded = Box(-1.0, 1.0), [], BoxBounds.of
    monkeypatch.setattr(BoxBounds, "of", lambda *given, **more: made.append(given) or bounded(*given, **more))
    known = Known()
    for output in (0, 1):
        weight, bias = program.out_weight[output, None], program.out_bias[output, None]
        posed = Posed(replace(program, out_shape=(1,), out_weight=weight, out_bias=bias), domain)
        alone, again = (answer(posed, method="backward", known=given) for given in (None, known))
        assert (alone.value, alone.bound, alone.cells) == (again.value, again.bound, again.cells)
        assert np.array_equal(alone.x, again.x)
    assert len(made) == 2 + 1
    other = Posed(posed.program, Box(-1.0, 0.5))
    assert answer(other, method="backward", known=known).value == answer(other, method="backward").value
    assert len(made) == 2 + 1 + 2
