"""Regions that are counted, or handed out one by one, are those of `transform`."""

from __future__ import annotations

import itertools
import signal
import threading
import warnings
from math import comb
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from torch_shallow import (
    Box,
    IncompleteWarning,
    Polytope,
    Region,
    TransformError,
    WholeSpace,
    count,
    iter_regions,
    transform,
)
from torch_shallow.domain import Domain
from torch_shallow.search.counted_tree import CountedTree
from torch_shallow.search.enumerate import pose
from torch_shallow.search.runs.budget import Budget
from torch_shallow.search.runs.schedule import Schedule
from torch_shallow.search.runs.workers import Counting, ThisThread

SHORT = {"task_seconds": 1e-9}  # each task ends as soon as it has found anything


def network(*widths: int) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = [part for a, b in itertools.pairwise(widths) for part in (nn.Linear(a, b), nn.ReLU())]
        return nn.Sequential(*layers[:-1]).double()


CASES: dict[str, tuple[nn.Sequential, Domain, dict[str, Any]]] = {
    "rays": (network(3, 5, 5, 1), WholeSpace(), {}),
    "a box": (network(3, 5, 5, 2), Box(-1.0, 1.0), {}),
    "half-spaces": (network(3, 5, 5, 1), Box(-1.0, 1.0), {"method": "lp"}),
    "a polytope": (network(2, 6, 6, 6, 1), Polytope([[1.0, 1.0], [-1.0, 0.5]], [1.0, 2.0]), {}),
    "one region": (nn.Sequential(nn.Linear(2, 1)), WholeSpace(), {}),
}


def patterns(regions: Any) -> list[tuple[bool, ...]]:
    return sorted(tuple(region.pattern.tolist()) for region in regions)


@pytest.mark.parametrize(("model", "domain", "options"), CASES.values(), ids=CASES)
@pytest.mark.parametrize("how", [{}, SHORT, SHORT | {"workers": 3}], ids=["at once", "bit by bit", "three threads"])
def test_all_regions_and_each_once(
    model: nn.Sequential, domain: Domain, options: dict[str, Any], how: dict[str, Any]
) -> None:
    shallow = transform(model, domain=domain, **options)
    found = count(model, domain=domain, **options, **how)
    assert (found.regions, found.complete, found.explored, found.reason) == (shallow.num_regions, True, 1.0, "")
    assert found.method == shallow.function.tree.method
    assert patterns(iter_regions(model, domain=domain, **options, **how)) == patterns(shallow.regions)


def test_an_arrangement_has_as_many_cells_as_mathematics_says() -> None:
    assert count(network(3, 12, 1)).regions == sum(comb(12, k) for k in range(4))


def test_a_region_that_is_handed_out_is_one_of_the_network() -> None:
    model, domain, _ = CASES["a box"]
    shallow = transform(model, domain=domain)
    for region in itertools.islice(iter_regions(model, domain=domain, **SHORT), 0, None, 9):
        x = region.interior_point
        same = shallow.regions[int(shallow.locate(x[None]))]
        assert region.pattern.equal(same.pattern)
        torch.testing.assert_close(region.weight, same.weight, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(region.weight @ x + region.bias, model(x), rtol=1e-10, atol=1e-10)
        for rows, points in ((region.half_spaces, same.vertices()), (same.half_spaces, region.vertices())):
            assert (points @ rows.A.T - rows.b).max() <= 1e-9


def test_who_stops_early_leaves_no_thread_behind() -> None:
    before = threading.active_count()
    regions = iter_regions(network(5, 16, 16, 1), workers=3)
    assert all(isinstance(region, Region) for region in itertools.islice(regions, 5))
    regions.close()
    assert threading.active_count() == before


@pytest.mark.usefixtures("ctrl_c")
def test_a_count_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    model, domain, _ = CASES["rays"]
    path, whole, stops = tmp_path / "count.checkpoint", transform(model, domain=domain).num_regions, []
    while True:
        with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
            warnings.simplefilter("ignore", IncompleteWarning)
            ctrl_c_at_one_of_the_next_tallies(patch, 25)
            found = count(model, domain=domain, checkpoint=path, **SHORT)
        if found.complete:
            break
        assert found.reason == "Ctrl-C"
        assert found.explored < 1.0
        stops.append(found.regions)
    assert len(stops) > 3
    assert stops == sorted(stops)
    assert stops[-1] < found.regions == whole
    assert count(model, domain=domain, checkpoint=path).regions == whole  # all of it is in the file


def ctrl_c_at_one_of_the_next_tallies(patch: pytest.MonkeyPatch, number: int) -> None:
    """Press Ctrl-C when so many tasks, that had not been done before, have come back."""
    results, numbers = Schedule._take_in, itertools.count(1)

    def take_in(schedule: Any, future: Any) -> Any:
        if next(numbers) == number:
            signal.raise_signal(signal.SIGINT)
        return results(schedule, future)

    patch.setattr(Schedule, "_take_in", take_in)


def test_nothing_is_kept_of_cells_that_are_done() -> None:
    problem = pose(transform(network(3, 5, 5, 1)).function.tree.program, WholeSpace())
    cells = CountedTree()
    schedule = Schedule(
        Counting(problem), cells, ThisThread(lambda: False), Budget(), task_seconds=1e-9, interrupted=lambda: False
    )
    for _ in schedule.results():
        assert set(cells._paths) == set(cells.open)
    assert not cells.open


def test_a_count_says_what_it_is_not_of(tmp_path: Path) -> None:
    model, domain, _ = CASES["rays"]
    with pytest.warns(IncompleteWarning, match="count: stopped by time_limit=1e-09: at least 1 region,"):
        assert count(model, domain=domain, time_limit=1e-9, checkpoint=tmp_path / "a", **SHORT).regions == 1
    with pytest.raises(TransformError, match="another program"):
        count(network(3, 5, 6, 1), domain=domain, checkpoint=tmp_path / "a")
    transform(model, domain=domain, checkpoint=tmp_path / "b")
    with pytest.raises(TransformError, match="checkpoint of the same regions"):
        count(model, domain=domain, checkpoint=tmp_path / "b")
    with pytest.raises(TransformError, match="checkpoint of the same regions"):
        transform(model, domain=domain, checkpoint=tmp_path / "a")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"domain": 3}, "domain: expected"),
        ({"method": "fast"}, "method: expected"),
        ({"workers": 0}, "workers: expected"),
        ({"task_seconds": 0.0}, "task_seconds: expected"),
    ],
)
@pytest.mark.parametrize("function", [count, iter_regions])
def test_arguments_that_do_not_fit(function: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(TransformError, match=message):
        function(network(2, 3, 1), **options)
