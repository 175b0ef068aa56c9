"""Queries of the verification competition (VNN-COMP): verdicts and times, compared with nnenum.

`python -m benchmarks.vnncomp DATA [--benchmarks NAME ...] [--workers N] [--limit SECONDS] [--all]` answers every
instance of DATA/vnncomp/verdicts.csv in one process, compares the verdicts, and prints a line for each benchmark (with
`--all`, also one for each instance). With `--nnenum CHECKOUT`, a sample of ACAS Xu (`--sample 1_1:1 2_3:1 ...`: network
and property) is answered by both, instance by instance, with as many processes of nnenum as threads of ours.

Our time is that of `read_vnnlib` and `verify`, including reading the model's program; nnenum's is what it measures
itself. Neither includes starting Python or loading the ONNX file.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from torch import nn

from torch_shallow import from_onnx, read_vnnlib, verify

SAMPLE = ("1_1:1", "2_3:1", "1_2:2", "1_1:3", "1_1:4", "1_1:5", "4_5:10", "3_3:9")
WORDS = {True: "unsat", False: "sat", None: "undecided"}
GRACE = 30.0  # seconds, for nnenum to start and stop


@dataclass(frozen=True)
class Instance:
    """A query answered by others.

    Attributes:
        benchmark: Name of its benchmark.
        network: An ONNX file.
        query: A VNN-LIB file.
        verdict: `"sat"` or `"unsat"`.
    """

    benchmark: str
    network: Path
    query: Path
    verdict: str

    @property
    def name(self) -> str:
        """Short name of network and query."""
        network = self.network.stem.removeprefix("ACASXU_run2a_").removesuffix("_batch_2000")
        return f"{network}:{self.query.stem.removeprefix('prop_')}"


@dataclass(frozen=True)
class Result:
    """Verdict of a tool, with its seconds and cells."""

    verdict: str
    seconds: float
    cells: int = 0


def instances(data: Path) -> Iterator[Instance]:
    """Yield all instances that have a verdict.

    Yields:
        In the order of the file.
    """
    with (data / "vnncomp" / "verdicts.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            folder = data / "acasxu" if row["benchmark"] == "acasxu" else data / "vnncomp" / row["benchmark"]
            network, query = (next(folder.rglob(row[part])) for part in ("network", "property"))
            yield Instance(row["benchmark"], network, query, row["verdict"])


@cache
def loaded(network: Path) -> nn.Module:
    """Return a network, read only once."""
    return from_onnx(network)


def ours(instance: Instance, workers: int, limit: float) -> Result:
    """Return the verdict of this package."""
    model, start = loaded(instance.network), time.perf_counter()
    query = read_vnnlib(instance.query)
    verdict = verify(model, query.domain, query.property, workers=workers, time_limit=limit)
    return Result(WORDS[verdict.holds], time.perf_counter() - start, verdict.cells)


def by_nnenum(instance: Instance, checkout: Path, workers: int, limit: float) -> Result:
    """Return the verdict of nnenum, by its own timing, from a process of the Python that `NNENUM_PYTHON` names.

    Raises:
        RuntimeError: nnenum failed.
    """
    script = Path(__file__).with_name("nnenum_verify.py")
    python = os.environ.get("NNENUM_PYTHON", sys.executable)
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        given = (script, checkout, instance.network, instance.query, result, workers, limit)
        environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        done = subprocess.run(
            [python, *map(str, given)],
            capture_output=True,
            text=True,
            check=False,
            env=environment,
            timeout=limit + GRACE,
        )
        if done.returncode != 0:
            raise RuntimeError(f"nnenum: {(done.stderr.strip() or 'no message').splitlines()[-1]}")
        found = json.loads(result.read_text())
    return Result(found["verdict"], found["seconds"])


def judged(instance: Instance, result: Result) -> str:
    """Return what is wrong with a result; an empty text if it is right."""
    return "" if result.verdict == instance.verdict else f" {result.verdict}, should be {instance.verdict}"


def summary(benchmark: str, given: list[Instance], workers: int, limit: float, *, every: bool) -> str:
    """Return a line for all instances of a benchmark; with `every`, print one for each instance first."""
    ours(given[0], workers, limit)  # compile
    results: list[tuple[Result, Instance]] = []
    for instance in given:
        result = ours(instance, workers, limit)
        results.append((result, instance))
        if every:
            print(f"  {instance.name}: {result.verdict}, {result.seconds:.2f} s, {result.cells:,} cells", flush=True)
    right = sum(not judged(instance, result) for result, instance in results)
    undecided = sum(result.verdict == WORDS[None] for result, _ in results)
    slowest, which = max(results, key=lambda pair: pair[0].seconds)
    total = sum(result.seconds for result, _ in results)
    wrong = [f"{instance.name}:{judged(instance, result)}" for result, instance in results if judged(instance, result)]
    cells = [benchmark, str(len(given)), str(right), str(undecided), f"{total:.1f}"]
    cells += [f"{slowest.seconds:.2f} ({which.name})", "; ".join(wrong) or "none"]
    return f"| {' | '.join(cells)} |"


def beside_nnenum(sample: list[Instance], checkout: Path, workers: int, limit: float) -> None:
    """Print a line for each instance of a sample, and the ratio of the totals."""
    ours(sample[0], workers, limit)  # compile
    print("| instance | verdict | ours, s | nnenum, s | ratio |\n|---|---|--:|--:|--:|")
    totals = [0.0, 0.0]
    for instance in sample:
        mine, theirs = ours(instance, workers, limit), by_nnenum(instance, checkout, workers, limit)
        totals = [totals[0] + mine.seconds, totals[1] + theirs.seconds]
        shown = [f"{result.seconds:.2f}{judged(instance, result)}" for result in (mine, theirs)]
        ratio = f"{theirs.seconds / mine.seconds:.1f}"
        print(f"| {' | '.join([instance.name, instance.verdict, *shown, ratio])} |", flush=True)
    print(f"| together | | {totals[0]:.1f} | {totals[1]:.1f} | {totals[1] / totals[0]:.1f} |")


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="a folder with acasxu and vnncomp")
    parser.add_argument("--benchmarks", nargs="+", metavar="NAME", help="which of verdicts.csv; all if not given")
    parser.add_argument("--workers", type=int, default=2, help="threads, and processes of nnenum")
    parser.add_argument("--limit", type=float, default=120.0, help="seconds for each instance")
    parser.add_argument("--all", action="store_true", help="a line for each instance, too")
    parser.add_argument("--nnenum", type=Path, metavar="CHECKOUT", help="compare with nnenum on a sample of ACAS Xu")
    parser.add_argument("--sample", nargs="+", default=SAMPLE, metavar="NETWORK:PROPERTY", help="that sample")
    given = parser.parse_args()
    found = list(instances(given.data))
    if given.nnenum:
        by_name = {instance.name: instance for instance in found if instance.benchmark == "acasxu"}
        beside_nnenum([by_name[name] for name in given.sample], given.nnenum, given.workers, given.limit)
        return
    titles = ("benchmark", "instances", "right", "undecided", "together, s", "slowest, s", "not right")
    print(f"| {' | '.join(titles)} |\n|---|{'--:|' * (len(titles) - 2)}---|")
    for benchmark in given.benchmarks or dict.fromkeys(instance.benchmark for instance in found):
        chosen = [instance for instance in found if instance.benchmark == benchmark]
        print(summary(benchmark, chosen, given.workers, given.limit, every=given.all), flush=True)


if __name__ == "__main__":
    main()
