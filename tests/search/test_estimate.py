"""What is said of the number of regions without finding them all: a bound that holds, an estimate without bias."""

from __future__ import annotations

import itertools
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.cases import examples
from tests.clock import Clock
from tests.search.programs import arrangement, draw_domain, draw_program, mlp
from tests.search.walks import problem_of
from tests.zoo import ALL, Specimen
from torch_shallow.domain import Box, WholeSpace
from torch_shallow.program.model import read_model
from torch_shallow.search.enumerate import enumerate_regions, pose
from torch_shallow.search.estimation import LEAST_PROBES, Prober, estimate_open, thin, upper_bound
from torch_shallow.search.growing_tree import ROOT, Growth
from torch_shallow.search.problem import Problem
from torch_shallow.search.runs.watch import Forecast
from torch_shallow.search.runs.workers import Enumeration, Task, explore, explore_until, packed
from torch_shallow.search.task_output import Quota

WHOLE = [Growth().path(ROOT)]
ENGINES = {
    "rays": {"max_rays": None},
    "simplex": {"by_rays": False},
    "rays, soon simplex": {"max_rays": 4},
    "HiGHS": {"by_rays": False, "solver": "HIGHS"},
    "rays, soon HiGHS": {"max_rays": 4, "solver": "HIGHS"},
}


@pytest.mark.parametrize("specimen", ALL, ids=str)
def test_no_model_of_the_zoo_has_more_regions_than_the_bound(specimen: Specimen) -> None:
    problem = pose(read_model(specimen.model(), specimen.example()), specimen.domain)
    regions = specimen.regions or Prober(problem).probe(WHOLE, 10**9)[0]
    assert upper_bound(problem) >= regions


@given(st.data())
@examples(60)
def test_no_program_has_more_regions_than_the_bound(data: st.DataObject) -> None:
    program = draw_program(data)
    domain = draw_domain(data, program.num_inputs)
    assert upper_bound(pose(program, domain)) >= enumerate_regions(program, domain).num_regions


@pytest.mark.parametrize(("neurons", "inputs"), [(1, 1), (5, 2), (7, 3), (4, 6), (40, 20)])
def test_the_bound_of_one_layer_is_that_of_hyperplanes_in_general_position(neurons: int, inputs: int) -> None:
    rng = np.random.default_rng(0)
    program = arrangement(rng.standard_normal((neurons, inputs)), rng.standard_normal(neurons))
    expected = sum(comb(neurons, j) for j in range(inputs + 1))
    assert upper_bound(pose(program, WholeSpace())) == expected


@given(st.integers(1, 5), st.lists(st.integers(1, 6), min_size=1, max_size=3))
@examples(40)
def test_the_bound_of_a_chain_is_that_of_the_theorem(inputs: int, widths: list[int]) -> None:
    def dimensions(j: tuple[int, ...]) -> list[int]:
        return list(itertools.accumulate((n - k for n, k in zip(widths, j, strict=True)), min, initial=inputs))

    expected = sum(
        int(np.prod([comb(n, k) for n, k in zip(widths, j, strict=True)]))
        for j in itertools.product(*(range(n + 1) for n in widths))
        if all(k <= dimension for k, dimension in zip(j, dimensions(j), strict=False))
    )
    assert upper_bound(pose(mlp(inputs, *widths, 1), WholeSpace())) == expected


@given(st.integers(1, 4), st.lists(st.integers(1, 6), min_size=2, max_size=3), st.data())
@examples(20)
def test_the_bound_grows_with_each_width(inputs: int, widths: list[int], data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(widths) - 1))
    wider = [width + (k == at) for k, width in enumerate(widths)]
    bounds = [upper_bound(pose(mlp(inputs, *sizes, 1), WholeSpace())) for sizes in (widths, wider)]
    assert bounds[0] < bounds[1]


def test_neurons_that_keep_their_sign_in_a_box_do_not_count() -> None:
    weight, bias = np.eye(3), np.array([0.0, 5.0, -5.0])
    assert upper_bound(pose(arrangement(weight, bias), Box(-1.0, 1.0))) == 2
    assert upper_bound(pose(arrangement(weight, bias), WholeSpace())) == 8


@given(st.lists(st.floats(0.01, 100.0), min_size=1, max_size=12), st.integers(1, 12))
@examples(25)
def test_thinning_changes_no_weight_on_average(weights: list[float], most: int) -> None:
    before = np.array(weights)
    ends = [thin(before, most, start) for start in (np.arange(500) + 0.5) / 500]
    assert all(len(kept) <= most + 1 for kept, _ in ends)
    mean = np.zeros(len(before))
    for kept, after in ends:
        assert (after >= before[kept] * (1.0 - 1e-12)).all()
        mean[kept] += after / len(ends)
    assert np.allclose(mean, before, rtol=0.0, atol=5e-3 * before.sum())


def test_thinning_keeps_the_total_where_none_is_large() -> None:
    kept, after = thin(np.arange(10.0, 20.0), 4, 0.3)
    assert len(kept) == 4
    assert np.isclose(after.sum(), np.arange(10.0, 20.0).sum())


def known(**search: object) -> tuple[Problem, int]:
    program = mlp(2, 5, 4, 1)
    return problem_of(program, WholeSpace(), **search), enumerate_regions(program, WholeSpace()).num_regions


@pytest.mark.parametrize("engine", ENGINES)
def test_a_wide_probe_finds_all(engine: str) -> None:
    problem, regions = known(**ENGINES[engine])
    for cuts in (2, 10**6):
        assert Prober(problem, cuts=cuts).probe(WHOLE, 10**6) == (regions, True)


@pytest.mark.parametrize(("engine", "width", "cuts"), [("rays", 1, 1), ("rays, soon simplex", 2, 4), ("simplex", 3, 1)])
def test_narrow_probes_are_right_on_average(engine: str, width: int, cuts: int) -> None:
    problem, regions = known(**ENGINES[engine])
    prober = Prober(problem, cuts=cuts)
    totals, exact = zip(*(prober.probe(WHOLE, width) for _ in range(300)), strict=True)
    assert not any(exact)
    assert abs(np.mean(totals) - regions) < 4.0 * np.std(totals) / np.sqrt(len(totals))


@pytest.mark.parametrize("regions", [1, 50, 2500])
def test_what_is_known_and_what_is_open_are_all_there_is(regions: int, clock: Clock) -> None:
    problem, growth = pose(mlp(3, 16, 16, 1), WholeSpace()), Growth()
    growth.add(explore_until(lambda: False, problem, Task((ROOT,), tuple(WHOLE), Quota(regions=regions))).piece)
    cells = [growth.path(code) for code in growth.open]
    assert growth.num_regions + Prober(problem).probe(cells, 10**6)[0] == 5028
    clock.tick = 2e-4
    sample = estimate_open(problem, growth.num_regions, list(map(growth.path, growth.open)), 0.1)
    assert min(sample.totals) > growth.num_regions
    assert sample.exact or len(sample.totals) >= LEAST_PROBES
    assert abs(sample.regions - 5028) <= 8.0 * sample.standard_error + 0.05 * 5028 * (not sample.exact)


def test_nothing_open_is_exact() -> None:
    problem, growth = pose(mlp(2, 5, 4, 1), WholeSpace()), Growth()
    growth.add(explore_until(lambda: False, problem, Task((ROOT,), tuple(WHOLE), Quota())).piece)
    sample = estimate_open(problem, growth.num_regions, list(map(growth.path, growth.open)), 1.0)
    assert (sample.totals, sample.exact, sample.standard_error) == ((growth.num_regions,), True, 0.0)


def test_the_forecast_of_a_long_run_counts_from_the_first_piece(caplog: pytest.LogCaptureFixture, clock: Clock) -> None:
    clock.tick = 2e-4
    problem, growth = problem_of(mlp(4, 8, 8, 1), WholeSpace()), Growth()
    forecast = Forecast(problem, growth, patience=0.0, seconds=0.1)
    while growth.num_regions < 200:
        starts = tuple(sorted(growth.open))[:1] if growth.open else (ROOT,)
        task = Task(starts, tuple(map(growth.path, starts)), Quota(regions=100))
        piece = explore(packed(Enumeration(problem)), task).piece
        growth.add(piece)
        forecast(growth, piece)
        told = [record.getMessage() for record in caplog.records if "regions so far" in record.getMessage()]
        assert len(told) == (growth.num_regions >= 200)
