"""The steepest region by the search, against all regions."""

from dataclasses import replace

import numpy as np
import pytest

from tests.search.questions import random_question
from torch_shallow.search.enumerate import enumerate_regions
from torch_shallow.search.steepness import slope_engine
from torch_shallow.search.steepness.slope_engine import Bounded, SlopeEngine
from torch_shallow.search.steepness.steeper_neighbours import neighbouring_slopes, slopes_of
from torch_shallow.search.steepness.steepest import interior_points, local_models, steepest
from torch_shallow.search.steepness.steepness import Steepness


@pytest.mark.parametrize("seed", range(24))
def test_the_search_finds_what_all_regions_have(seed: int) -> None:
    """Of networks of any kind, in boxes with fixed inputs and polytopes, with equal neurons and neurons that are 0."""
    posed = random_question(seed)
    program, domain = posed.program, posed.domain
    bounded = Bounded.of(program, domain)
    slopes = np.stack([program.affine_maps(pattern)[2] for pattern in enumerate_regions(program, domain).patterns()])
    asked = [Steepness(program, domain, norm) for norm in (1.0, 2.0, np.inf)]
    first = np.eye(program.num_inputs)[int(asked[0].moving.argmax())]
    asked += [
        Steepness(program, domain, direction=sign * first, is_signed=signed) for sign, signed in ((-1, 1), (1, 0))
    ]
    for question in asked:
        expected = max(question.of(each[:, question.moving]) for each in slopes)
        found = steepest(question, bounded, points=None if seed % 2 else ())
        assert found.reason == ""
        assert found.value == pytest.approx(expected, rel=1e-7, abs=1e-7)
        assert found.bound == pytest.approx(expected, rel=1e-7, abs=1e-7)
        assert found.x is not None
        assert question.at(found.x) == found.value


def test_cones_of_two_outputs_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slope_engine, "FEWEST_NEURONS", 0)
    asked = [random_question(seed) for seed in range(24)]
    for posed in [each for each in asked if each.program.num_outputs == 2]:
        question = Steepness(posed.program, posed.domain)
        patterns = enumerate_regions(posed.program, posed.domain).patterns()
        expected = max(question.of(posed.program.affine_maps(p)[2][:, question.moving]) for p in patterns)
        found = steepest(question)
        assert found.value == pytest.approx(expected, rel=1e-7, abs=1e-7)
        assert found.bound == pytest.approx(expected, rel=1e-7, abs=1e-7)


def test_a_stopped_search_gives_an_interval() -> None:
    rng = np.random.default_rng(0)
    posed = random_question(4)
    stages = posed.program.stages
    weights = [replace(stage, weight=rng.normal(size=stage.weight.shape)) for stage in stages]
    program = replace(posed.program, stages=tuple(weights))
    bounded = Bounded.of(program, posed.domain)
    seen = local_models(program, interior_points(bounded))
    for norm in (1.0, 2.0, np.inf):
        whole = steepest(Steepness(program, posed.domain, norm), bounded)
        part = steepest(Steepness(program, posed.domain, norm), bounded, time_limit=1e-9)
        assert max(map(Steepness(program, posed.domain, norm).of, seen)) <= part.value
        assert part.value <= whole.value * (1.0 + 1e-12)
        assert whole.bound <= part.bound * (1.0 + 1e-9)


def test_what_is_enough_ends_the_search_and_what_is_not_reached_is_proven() -> None:
    posed = random_question(4)
    whole = steepest(Steepness(posed.program, posed.domain, 1.0))
    enough = 0.9 * whole.value
    found = steepest(Steepness(posed.program, posed.domain, 1.0, floor=enough, enough=enough))
    assert found.value > enough
    above = 1.01 * whole.value
    none = steepest(Steepness(posed.program, posed.domain, 1.0, floor=above, enough=above))
    assert none.x is None
    assert none.bound <= above


def test_threads_change_nothing() -> None:
    posed = random_question(28)
    one, two = (steepest(Steepness(posed.program, posed.domain), workers=workers) for workers in (1, 2))
    assert (one.value, one.bound, one.cells) == (two.value, two.bound, two.cells)


@pytest.mark.parametrize("seed", range(12))
def test_the_slopes_of_neighbours_are_those_of_their_patterns(seed: int) -> None:
    posed = random_question(seed)
    engine = SlopeEngine(Steepness(posed.program, posed.domain))
    count = len(engine.scaled.neurons)
    pattern = np.random.default_rng(seed).random(count) < 0.5
    own, others = neighbouring_slopes(engine.program, pattern)
    expected = slopes_of(engine.program, np.concatenate([pattern[None], pattern ^ np.eye(count, dtype=bool)]))
    assert np.allclose(np.concatenate([own[None], others]), expected, rtol=1e-12, atol=1e-12)
