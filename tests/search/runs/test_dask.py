"""A cluster of Dask, one of whose worker processes dies in mid-run."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from tests.search.programs import mlp
from tests.search.walks import Counting, assert_same
from torch_shallow.domain import WholeSpace
from torch_shallow.search.enumerate import enumerate_regions
from torch_shallow.search.runs import schedule

distributed = pytest.importorskip("distributed", reason="needs dask.distributed (in the extra test)")
pytestmark = pytest.mark.filterwarnings("default")  # what a cluster says of ports and of workers that end


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@pytest.mark.slow
def test_the_same_regions_though_a_worker_is_killed(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule, "FIRST_SECONDS", 0.0)  # however fast the machine is, most is left for the cluster
    program = mlp(3, 8, 8, 1)
    expected = enumerate_regions(program, WholeSpace())
    for place in (0, 6):  # no worker dies, and one does
        victim = next(iter(client.run(os.getpid).values()))
        workers = Counting(client.get_executor(), place, lambda victim=victim: os.kill(victim, signal.SIGKILL))
        assert_same(enumerate_regions(program, WholeSpace(), workers=workers, task_seconds=1e-9), expected)
        assert workers.count > 6
