"""Growth of `transform`: time per region and peak memory from ten thousand to ten million regions.

`python -m benchmarks.memory [NETWORK ...]` prints a table.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import psutil
import torch

from benchmarks.measure import run_isolated, warm_up
from benchmarks.networks import load
from benchmarks.peers import torch_shallow_regions

NETWORKS = ("5-10-10-1", "5-14-14-1", "5-20-20-1", "5-33-33-1")
START = "import sys; from benchmarks.memory import grow; grow(*sys.argv[1:])"


def grow(name: str, result: str) -> None:
    """Transform a case and write regions, seconds, peak memory beyond the start, and the size of what is returned.

    Memory is that of the first run after the warm-up, since later ones could reuse what it has freed.

    Args:
        name: Name of the case.
        result: File to which the measurements are written.
    """
    import torch_shallow

    case = load(name)
    torch_shallow_regions(warm_up(case), 1)
    domain = None if case.box is None else torch_shallow.Box(*case.box.T)
    before, seconds = psutil.Process().memory_info().rss, []
    start = time.perf_counter()
    shallow = torch_shallow.transform(case.model, domain=domain)
    seconds.append(time.perf_counter() - start)
    peak = _peak_memory() - before
    while len(seconds) < 5 and sum(seconds) < 5.0:
        start = time.perf_counter()
        torch_shallow.transform(case.model, domain=domain)
        seconds.append(time.perf_counter() - start)
    found = {
        "regions": int(shallow.num_regions),
        "seconds": statistics.median(seconds),
        "peak": peak,
        "returned": returned_bytes(shallow),
    }
    Path(result).write_text(json.dumps(found), encoding="utf-8")


def _peak_memory() -> int:
    """Return the most resident memory that this process ever had, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def returned_bytes(value: object) -> int:
    """Return the bytes of all arrays and tensors reachable from an object, each piece of memory counted once."""
    total, end = 0, 0
    for start, size in sorted(_arrays(value, set())):
        total += max(0, start + size - max(start, end))
        end = max(end, start + size)
    return total


def _arrays(value: object, seen: set[int]) -> Iterator[tuple[int, int]]:
    """Yield the memory behind the arrays below `value`.

    Yields:
        Address and size for each array; pieces may overlap where several arrays share memory.
    """
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, torch.Tensor):
        storage = value.untyped_storage()
        yield storage.data_ptr(), storage.nbytes()
    elif isinstance(value, np.ndarray):
        while isinstance(value.base, np.ndarray):
            value = value.base
        yield value.ctypes.data, value.nbytes
    elif isinstance(value, dict):
        for part in value.values():
            yield from _arrays(part, seen)
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from _arrays(part, seen)
    elif hasattr(value, "__dict__") and not isinstance(value, (type, ModuleType)):
        yield from _arrays(vars(value), seen)


def main() -> None:
    """Print a row for each network, its ratios to the first one's last."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__)
    parser.add_argument("networks", nargs="*", default=NETWORKS, metavar="NETWORK")
    parser.add_argument("--limit", type=float, default=300.0, help="seconds for one network")
    arguments = parser.parse_args()
    print("| network | regions | seconds | us per region | relative | returned, MB | peak, MB | peak / returned |")
    print("|---|--:|--:|--:|--:|--:|--:|--:|")
    first = None
    for name in arguments.networks:
        found = run_isolated(["-c", START, name], limit=arguments.limit)
        if "problem" in found:
            print(f"| {name} | {found['problem']} |", flush=True)
            continue
        each = 1e6 * found["seconds"] / found["regions"]
        first = first or each
        megabytes = [found[key] / 1e6 for key in ("returned", "peak")]
        cells = [name, f"{found['regions']:,}", f"{found['seconds']:.3g}", f"{each:.3g}", f"{each / first:.2f}"]
        cells += [f"{size:.1f}" for size in megabytes] + [f"{megabytes[1] / megabytes[0]:.2f}"]
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
