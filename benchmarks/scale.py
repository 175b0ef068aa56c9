"""Scaling of `transform` with workers: threads, processes, and the processes of a Dask cluster.

`python -m benchmarks.scale [NETWORK ...]` prints times and ratios to one worker of the same kind; `--weak` the time of
twice the work for twice the workers; `--tasks` the data sent and returned, and the work done after the walk. Every
partition is compared with that of one thread, bit for bit.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import pickle
import statistics
import time
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

import torch_shallow
from benchmarks.measure import run_isolated
from benchmarks.networks import Case, load

NETWORKS = ("ACAS Xu 1_1 property 3", "ACAS Xu 3_3 property 9", "5-20-20-1", "20-10-10-1")
WEAK = (("5-20-20-1", "5-23-23-1"),)
KINDS = ("threads", "processes", "dask")
START = "import sys; from benchmarks.scale import time_transform; time_transform(*sys.argv[1:])"
START_TASKS = "import sys; from benchmarks.scale import weigh_tasks; weigh_tasks(*sys.argv[1:])"


@contextmanager
def some_workers(kind: str, count: int) -> Iterator[int | Executor]:
    """Provide workers of a kind, as `transform` takes them.

    Yields:
        A number of threads, or an executor with `count` processes of one thread each.

    Raises:
        ValueError: There is no such kind.
    """
    if kind == "threads":
        yield count
    elif kind == "processes":
        with ProcessPoolExecutor(count, mp_context=get_context("spawn")) as pool:
            yield pool
    elif kind == "dask":
        from distributed import Client, LocalCluster

        with (
            LocalCluster(n_workers=count, threads_per_worker=1, processes=True, dashboard_address=None) as cluster,
            Client(cluster, direct_to_workers=True) as client,
        ):
            yield client.get_executor()
    else:
        raise ValueError(f"kind: expected one of {', '.join(KINDS)}, found {kind!r}.")


def transform(case: Case, workers: int | Executor) -> torch_shallow.ShallowReLU:
    """Transform a case."""
    domain = None if case.box is None else torch_shallow.Box(*case.box.T)
    return torch_shallow.transform(case.model, domain=domain, workers=workers)


def digest(shallow: torch_shallow.ShallowReLU) -> str:
    """Return a digest of everything that describes the regions."""
    partition: Any = shallow.partition
    arrays = (partition.children, partition.cut_neurons, partition.packed_patterns, partition.points)
    selection: Any = shallow.selection
    parts = [*arrays, shallow.half_spaces.rows.numpy(), selection.weights.numpy()]
    return hashlib.sha256(b"".join(np.ascontiguousarray(part).tobytes() for part in parts)).hexdigest()


def time_transform(name: str, kind: str, count: str, repeats: str, result: str) -> None:
    """Warm up, time some transforms, and write regions, seconds and digest.

    Args:
        name: Name of the case.
        kind: Kind of workers.
        count: Number of workers.
        repeats: Number of timed runs.
        result: File to which the result is written.
    """
    case, seconds = load(name), []
    torch.set_num_threads(int(count))  # for the work after all regions are known
    with some_workers(kind, int(count)) as workers:
        transform(load("5-8-8-1"), workers)
        shallow = transform(case, workers)
        for _ in range(int(repeats)):
            start = time.perf_counter()
            shallow = transform(case, workers)
            seconds.append(time.perf_counter() - start)
    found = {"regions": shallow.num_regions, "seconds": statistics.median(seconds), "digest": digest(shallow)}
    Path(result).write_text(json.dumps(found), encoding="utf-8")


def weigh_tasks(name: str, result: str) -> None:
    """Write the sizes of the tasks of a run by two processes, and the time of everything except the tasks.

    Args:
        name: Name of the case.
        result: File to which the result is written.
    """
    from torch_shallow.program.model import read_model
    from torch_shallow.search.affine_maps import affine_maps
    from torch_shallow.search.balance import balanced
    from torch_shallow.search.enumerate import pose
    from torch_shallow.search.growing_tree import Growth, Piece
    from torch_shallow.search.runs.budget import TASK_SECONDS, Budget
    from torch_shallow.search.runs.schedule import Schedule
    from torch_shallow.search.runs.workers import Enumeration, Task, make_workers, packed

    case = load(name)
    transform(load("5-8-8-1"), 1)
    domain = torch_shallow.domain.WholeSpace() if case.box is None else torch_shallow.Box(*case.box.T)
    problem = pose(read_model(case.model, domain=domain), domain)
    sent: list[int] = []
    returned: list[int] = []
    merging = [0.0]

    class Weighed(Growth):
        def add(self, piece: Piece) -> dict[int, int]:
            returned.append(len(pickle.dumps(piece, protocol=5)))
            start = time.perf_counter()
            left = super().add(piece)
            merging[0] += time.perf_counter() - start
            return left

    with some_workers("processes", 2) as pool:
        transform(case, pool)  # workers have compiled and imported everything
        workers: Any = make_workers(pool, lambda: False)
        submit = workers.submit

        def weighed(given: Any, task: Task) -> Any:
            sent.append(len(pickle.dumps(task, protocol=5)))
            return submit(given, task)

        workers.submit = weighed
        growth = Weighed()
        start = time.perf_counter()
        Schedule(
            Enumeration(problem), growth, workers, Budget(), task_seconds=TASK_SECONDS, interrupted=lambda: False
        ).run()
        walk = time.perf_counter() - start
    regions = growth.num_regions
    seconds = []
    start = time.perf_counter()
    partition = growth.finish(problem, domain)
    seconds.append(time.perf_counter() - start)
    for threads in (1, 2):
        start = time.perf_counter()
        affine_maps(balanced(partition, threads), threads)
        seconds.append(time.perf_counter() - start)
    found = {
        "regions": regions,
        "tasks": len(sent),
        "sent": len(packed(Enumeration(problem))),
        "task": statistics.median(sent),
        "per region": sum(returned) / regions,
        "walk": walk,
        "merge": merging[0],
        "join": seconds[0],
        "after, 1 thread": seconds[1],
        "after, 2 threads": seconds[2],
    }
    Path(result).write_text(json.dumps(found), encoding="utf-8")


def show_strong(names: list[str], counts: list[int], repeats: int, limit: float) -> None:
    """Print a table of the same work for increasing numbers of workers."""
    print("| network | regions | workers | seconds | ratio to one of the kind | same bits as one thread |")
    print("|---|--:|---|--:|--:|---|")
    for name in names:
        reference = None
        for kind in KINDS:
            alone = None
            for count in counts:
                arguments = ["-c", START, name, kind, str(count), str(repeats)]
                found = run_isolated(arguments, processes=count if kind == "threads" else 1, limit=limit)
                if "problem" in found:
                    print(f"| {name} | {found['problem']} |", flush=True)
                    continue
                reference, alone = reference or found["digest"], alone or found["seconds"]
                cells = [name, f"{found['regions']:,}", f"{count} {kind}", f"{found['seconds']:.3g}"]
                cells += [f"{alone / found['seconds']:.2f}", "yes" if found["digest"] == reference else "NO"]
                print(f"| {' | '.join(cells)} |", flush=True)


def show_weak(repeats: int, limit: float) -> None:
    """Print a table of twice the work for twice the workers, where work is the time of one worker of the kind."""
    print("| workers | network | regions | one worker, s | these workers, s | efficiency |")
    print("|---|---|--:|--:|--:|--:|")
    for kind in KINDS:
        for pair in WEAK:
            for count, name in enumerate(pair, start=1):
                found = [
                    run_isolated(["-c", START, name, kind, str(some), str(repeats)], processes=some, limit=limit)
                    for some in sorted({1, count})
                ]
                problems = [each["problem"] for each in found if "problem" in each]
                if problems:
                    print(f"| {count} {kind} | {name} | {problems[0]} |", flush=True)
                    continue
                one, these = found[0]["seconds"], found[-1]["seconds"]
                cells = [f"{count} {kind}", name, f"{found[0]['regions']:,}", f"{one:.3g}", f"{these:.3g}"]
                print(f"| {' | '.join([*cells, f'{one / (count * these):.2f}'])} |", flush=True)


def show_tasks(names: list[str], limit: float) -> None:
    """Print a table of what is sent and returned, and of what workers do not do."""
    print(
        "| network | regions | tasks | the problem, kB | a task, bytes | returned per region, bytes | "
        "walk by 2 processes, s | putting together, s | joining, s | tree and maps, 1 thread, s | 2 threads, s |"
    )
    print("|---|" + "--:|" * 10)
    for name in names:
        found = run_isolated(["-c", START_TASKS, name], limit=limit)
        if "problem" in found:
            print(f"| {name} | {found['problem']} |", flush=True)
            continue
        cells = [name, f"{found['regions']:,}", f"{found['tasks']}", f"{found['sent'] / 1e3:.0f}"]
        cells += [f"{found['task']:.0f}", f"{found['per region']:.0f}"]
        names_of_times = ("walk", "merge", "join", "after, 1 thread", "after, 2 threads")
        cells += [f"{found[each]:.3f}" for each in names_of_times]
        print(f"| {' | '.join(cells)} |", flush=True)


def main() -> None:
    """Print the requested tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument("networks", nargs="*", default=NETWORKS, metavar="NETWORK")
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--weak", action="store_true")
    parser.add_argument("--tasks", action="store_true")
    parser.add_argument("--limit", type=float, default=300.0, help="seconds for one line")
    arguments = parser.parse_args()
    if arguments.weak:
        show_weak(arguments.repeats, arguments.limit)
    elif arguments.tasks:
        show_tasks(list(arguments.networks), arguments.limit)
    else:
        show_strong(list(arguments.networks), arguments.workers, arguments.repeats, arguments.limit)


if __name__ == "__main__":
    main()
