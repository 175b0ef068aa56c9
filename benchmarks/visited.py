"""`transform` by data: time and peak memory for networks that are too large to enumerate.

`python -m benchmarks.visited [NETWORK ...]` prints a table.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import torch
from torch import Tensor, nn

from benchmarks.measure import run_isolated

ROWS = 10_000
START = "import sys; from benchmarks.visited import visit; visit(*sys.argv[1:])"


def mlp() -> tuple[nn.Module, Tensor]:
    """784-512-256-10 and rows of 784 numbers."""
    model = nn.Sequential(nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 256), nn.ReLU(), nn.Linear(256, 10))
    return model, torch.rand(ROWS, 784)


def cnn() -> tuple[nn.Module, Tensor]:
    """Two convolutions of 16 channels on images of 28 x 28 with black borders: 25,088 ReLUs."""
    convolutions = (nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), nn.ReLU())
    model = nn.Sequential(*convolutions, nn.AvgPool2d(2), nn.Flatten(), nn.Linear(16 * 14 * 14, 10))
    return model, nn.functional.pad(torch.rand(ROWS, 1, 20, 20), (4, 4, 4, 4))


NETWORKS: dict[str, Callable[[], tuple[nn.Module, Tensor]]] = {"784-512-256-10": mlp, "CNN": cnn}


def visit(name: str, result: str) -> None:
    """Transform a network by data and write regions, seconds, peak memory beyond the start, and the largest error.

    Args:
        name: name of the network.
        result: where to write.
    """
    from torch_shallow.domain import WholeSpace
    from torch_shallow.shallow.visited.build import visited_network
    from torch_shallow.trace.reader import trace_model

    torch.manual_seed(0)
    model, data = NETWORKS[name]()
    traced = trace_model(model, data[:1])
    visited_network(trace_model(model, data[:1]), data[:2], WholeSpace())  # warm up
    before, start = psutil.Process().memory_info().rss, time.perf_counter()
    shallow = visited_network(traced, data, WholeSpace())
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) - before
    start = time.perf_counter()
    found = shallow(data.double())
    forward = time.perf_counter() - start
    with torch.no_grad():
        expected = torch.cat([model.double()(rows.double()) for rows in data.split(100)])
    outcome = {
        "neurons": shallow.neurons.num_neurons,
        "regions": shallow.num_regions,
        "seconds": seconds,
        "forward": forward,
        "peak": peak,
        "error": float(((found - expected).abs() / (1.0 + expected.abs())).max()),
    }
    Path(result).write_text(json.dumps(outcome), encoding="utf-8")


def main(names: list[str]) -> None:
    """Print the table.

    Args:
        names: names of networks.
    """
    print("| network | ReLUs | rows | regions | transform | forward | peak memory | largest relative error |")
    print("|---|---|---|---|---|---|---|---|")
    for name in names:
        found = run_isolated(["-c", START, name], limit=1800.0)
        if "problem" in found:
            print(f"| {name} | {found['problem']} |")
            continue
        print(
            f"| {name} | {found['neurons']:,} | {ROWS:,} | {found['regions']:,} | {found['seconds']:.1f} s | "
            f"{found['forward']:.1f} s | {found['peak'] / 2**20:,.0f} MiB | {found['error']:.1e} |"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("networks", nargs="*", default=list(NETWORKS))
    main(parser.parse_args().networks)
