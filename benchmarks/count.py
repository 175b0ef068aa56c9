"""Count of the regions of a large network, made twice in different orders, with little memory.

`python -m benchmarks.count [NETWORK ...] [--workers N]` prints a line for each network: its regions, the wall-clock and
processor seconds, and the peak memory beyond that of Python with the package. The second count is of the same network
with its inputs and the neurons of each layer in another order, so that cells are cut in another order, and with tasks
of another length. Both must give the same number.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import psutil
import torch
from torch import nn

import torch_shallow
from benchmarks.forward import clear_peak, peak
from benchmarks.measure import run_isolated
from benchmarks.networks import load

NETWORKS = ("5-20-20-1", "5-33-33-1")
START = "import sys; from benchmarks.count import measure_count; measure_count(*sys.argv[1:])"


def reordered(model: nn.Sequential) -> nn.Sequential:
    """Return a network with the same regions in other coordinates: inputs and neurons of each layer are reordered."""
    generator, parts = torch.Generator().manual_seed(1), []
    linears = [part for part in model if isinstance(part, nn.Linear)]
    columns = torch.randperm(linears[0].in_features, generator=generator)
    for layer in linears:
        rows = torch.randperm(layer.out_features, generator=generator)
        other = nn.Linear(layer.in_features, layer.out_features, dtype=layer.weight.dtype)
        other.weight.data, other.bias.data = layer.weight.data[rows][:, columns], layer.bias.data[rows]
        parts += [other, nn.ReLU()]
        columns = rows
    return nn.Sequential(*parts[:-1])


def measure_count(name: str, workers: str, other: str, result: str) -> None:
    """Count the regions of a network.

    Args:
        name: Name of the network.
        workers: Number of threads.
        other: `"1"` for the other order, `"0"` for the network as it is.
        result: File to which the result is written.
    """
    case = load(name)
    model = reordered(case.model) if other == "1" else case.model
    torch_shallow.count(load("3-4-4-1").model)  # compiles
    domain = None if case.box is None else torch_shallow.Box(*case.box.T)
    before = psutil.Process().memory_info().rss
    clear_peak()
    start, processor = time.perf_counter(), time.process_time()
    found = torch_shallow.count(model, domain=domain, workers=int(workers), task_seconds=2.0 if other == "1" else 0.5)
    seconds = {"seconds": time.perf_counter() - start, "processor": time.process_time() - processor}
    kept = {"regions": found.regions, "bytes": peak() - before, **seconds}
    Path(result).write_text(json.dumps(kept), encoding="utf-8")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.count", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("networks", nargs="*", default=NETWORKS, metavar="NETWORK")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--limit", type=float, default=7200.0, help="seconds for one count")
    arguments = parser.parse_args()
    print("| network | order | regions | s | s of the processor | ns a region | peak memory, MB |")
    print("|---|---|--:|--:|--:|--:|--:|")
    for name in arguments.networks:
        counts = set()
        for other in ("0", "1"):
            run = ["-c", START, name, str(arguments.workers), other]
            found = run_isolated(run, processes=arguments.workers, limit=arguments.limit)
            if "problem" in found:
                print(f"| {name} | {'other' if other == '1' else 'as it is'} | {found['problem']} |", flush=True)
                continue
            counts.add(found["regions"])
            cells = [name, "other" if other == "1" else "as it is", f"{found['regions']:,}", f"{found['seconds']:.0f}"]
            cells += [f"{found['processor']:.0f}", f"{1e9 * found['processor'] / found['regions']:.0f}"]
            print(f"| {' | '.join(cells)} | {found['bytes'] / 1e6:.0f} |", flush=True)
        if len(counts) > 1:
            raise SystemExit(f"{name}: {' and '.join(map(str, counts))} regions")


if __name__ == "__main__":
    main()
