"""Measurements in separate processes: one thread for each linear algebra library, a time limit, a warm-up.

`python -m benchmarks.measure TOOL CASE PROCESSES REPEATS RESULT` is one such process; `measure` starts it.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.networks import Case, load
from benchmarks.peers import TOOLS, Unavailable

LIBRARIES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS")


@dataclass(frozen=True)
class Measurement:
    """Time and result of a tool on a case.

    Attributes:
        regions: number of regions found; None if it found none within the limit.
        seconds: median of the repeats.
        processes: threads or processes at work.
        problem: why there is no result, in a few words; empty if there is one.
    """

    regions: int | None
    seconds: float
    processes: int
    problem: str = ""


def measure(tool: str, case: str, processes: int, *, repeats: int, limit: float) -> Measurement:
    """Measure a tool of `benchmarks.peers.TOOLS` on a case in a new process, which is ended at the time limit.

    Args:
        tool: name of the tool.
        case: name of the case.
        processes: threads or processes to use.
        repeats: how many times a short run is repeated.
        limit: seconds for everything: imports, warm-up and repeats.
    """
    arguments = ["-m", "benchmarks.measure", tool, case, str(processes), str(repeats)]
    found = run_isolated(arguments, processes=processes, limit=limit)
    if "problem" in found:
        return Measurement(None, float("nan"), processes, found["problem"])
    return Measurement(found["regions"], statistics.median(found["seconds"]), found["processes"])


def run_isolated(arguments: list[str], *, processes: int = 1, limit: float) -> dict[str, Any]:
    """Run Python with these arguments and the path of a file to which it writes its result as JSON.

    Args:
        arguments: of the Python interpreter; the path is appended.
        processes: what numba may use; the linear algebra libraries get one thread each.
        limit: seconds until the process and its children are ended.

    Returns:
        The result, or `{"problem": why there is none}`.
    """
    environment = os.environ | dict.fromkeys(LIBRARIES, "1") | {"NUMBA_NUM_THREADS": str(processes)}
    with tempfile.TemporaryDirectory() as folder:
        result, errors = Path(folder) / "result.json", Path(folder) / "errors.txt"
        with errors.open("w") as stream:
            process = subprocess.Popen(
                [sys.executable, *arguments, str(result)],
                cwd=Path(__file__).parents[1],
                env=environment,
                stdout=subprocess.DEVNULL,
                stderr=stream,
                start_new_session=True,
            )
            try:
                process.wait(timeout=limit)
            except subprocess.TimeoutExpired:
                return {"problem": f"not done in {limit:.0f} s"}
            finally:
                _end_group(process)
        if result.exists():
            return dict(json.loads(result.read_text()))
        lines = errors.read_text().strip().splitlines()
        return {"problem": lines[-1] if lines else f"ended with status {process.returncode}"}


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """End what is left of the session that `run_isolated` started: the process and the workers it has."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def main(tool: str, case: str, processes: str, repeats: str, result: str) -> None:
    """Warm up on a small case of the same kind, then time the case: once, or several times if it is short.

    Args:
        tool: name of the tool.
        case: name of the case.
        processes: threads or processes to use.
        repeats: most repeats of a run; no further one starts after ten seconds of runs.
        result: where to write.
    """
    given = load(case)
    try:
        TOOLS[tool](warm_up(given), int(processes))
        found = _repeat(tool, given, int(processes), int(repeats))
    except (Unavailable, ImportError) as error:
        found = {"problem": str(error)}
    Path(result).write_text(json.dumps(found), encoding="utf-8")


def warm_up(case: Case) -> Case:
    """A small case of the same kind, for what a tool does once in a process: imports, compiling, licences."""
    return load("2-6-6-1" if case.box is None else "2-6-6-1 on [-1,1]^2")


def _repeat(tool: str, case: Case, processes: int, repeats: int) -> dict[str, Any]:
    seconds: list[float] = []
    while not seconds or (len(seconds) < repeats and sum(seconds) < 10.0):
        start = time.perf_counter()
        outcome = TOOLS[tool](case, processes)
        seconds.append(outcome.seconds or time.perf_counter() - start)
    return {"regions": outcome.regions, "processes": outcome.processes, "seconds": seconds}


if __name__ == "__main__":
    main(*sys.argv[1:])
