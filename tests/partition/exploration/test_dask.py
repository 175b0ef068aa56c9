"""A cluster of Dask, one of whose worker processes dies in mid-run."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.partition.programs import mlp
from tests.partition.walks import assert_same
from torch_shallow.domain import WholeSpace
from torch_shallow.partition.enumerate import enumerate_regions

distributed = pytest.importorskip("distributed", reason="needs dask.distributed (in the extra test)")
pytestmark = pytest.mark.filterwarnings("default")  # what a cluster says of ports and of workers that end


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


def test_the_same_regions(client: Any) -> None:
    program = mlp(5, 14, 14, 1)
    expected = enumerate_regions(program, WholeSpace())
    found = enumerate_regions(program, WholeSpace(), workers=client.get_executor(), task_seconds=0.02)
    assert_same(found, expected)


def test_a_worker_that_is_killed(client: Any) -> None:
    program = mlp(5, 20, 20, 1)
    expected = enumerate_regions(program, WholeSpace(), workers=2)
    before = client.run(os.getpid)
    timer = threading.Timer(0.3, os.kill, (next(iter(before.values())), signal.SIGKILL))
    timer.start()
    found = enumerate_regions(program, WholeSpace(), workers=client.get_executor(), task_seconds=0.05)
    timer.join()
    assert_same(found, expected)
    client.wait_for_workers(2, timeout=60)
    assert set(client.run(os.getpid).values()) != set(before.values())
