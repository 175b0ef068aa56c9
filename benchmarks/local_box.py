"""All regions around a point of a large network: unstable neurons, regions, times, memory.

`python -m benchmarks.local_box [--networks NAME ...]` prints a table. The networks are random, in PyTorch's default
initialisation from seed 0; the box is the ball of radius epsilon, in the largest norm, around a random point.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from benchmarks.measure import run_isolated

START = "import sys; from benchmarks.local_box import measure; measure(*sys.argv[1:])"


@dataclass(frozen=True)
class Setting:
    """A network, and the radius of a box around a random point.

    Attributes:
        make: Makes the network.
        in_shape: Shape of one input.
        epsilon: Half the width of the box.
    """

    make: Callable[[], nn.Module]
    in_shape: tuple[int, ...]
    epsilon: float


def mlp() -> nn.Module:
    """Return a network 784-512-256-10."""
    return nn.Sequential(nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 256), nn.ReLU(), nn.Linear(256, 10))


def cnn(channels: int, width: int, side: int) -> nn.Module:
    """Return convolution, ReLU, convolution, ReLU, average pooling, and a linear layer."""
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(width, width, 3, padding=1),
        nn.ReLU(),
        nn.AvgPool2d(4),
        nn.Flatten(),
        nn.Linear(width * (side // 4) ** 2, 10),
    )


SETTINGS = {
    "784-512-256-10, 0.0005": Setting(mlp, (784,), 0.0005),
    "784-512-256-10, 0.001": Setting(mlp, (784,), 0.001),
    "CNN 1x28x28, 0.0003": Setting(lambda: cnn(1, 8, 28), (1, 28, 28), 0.0003),
    "CNN 3x32x32, 0.00006": Setting(lambda: cnn(3, 16, 32), (3, 32, 32), 0.00006),
}


def measure(name: str, result: str) -> None:
    """Read, enumerate and assemble one network, after a small one for warming up, and write the measurements.

    Args:
        name: Name of the setting.
        result: File to which they are written.
    """
    from torch_shallow.domain import Box
    from torch_shallow.modules.shallow_relu import ShallowReLU
    from torch_shallow.program.affine_forms import preactivation_bounds
    from torch_shallow.program.model import Model, read_model
    from torch_shallow.search.enumerate import enumerate_regions

    cube = Box(-1.0, 1.0)
    small = nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 1))
    ShallowReLU(enumerate_regions(read_model(small), cube))

    setting = SETTINGS[name]
    torch.manual_seed(0)
    model = setting.make().eval()
    centre = np.random.default_rng(0).random(setting.in_shape)
    box = Box(centre - setting.epsilon, centre + setting.epsilon)
    before, seconds, start = _peak_memory(), {}, time.perf_counter()

    def lap(what: str) -> None:
        nonlocal start
        seconds[what], start = time.perf_counter() - start, time.perf_counter()

    preactivation_bounds(Model.of(model, in_shape=setting.in_shape).traced, *box.bounds(setting.in_shape))
    lap("bounds")
    program = read_model(model, in_shape=setting.in_shape, domain=box)
    lap("bounds, reading and verification")
    partition = enumerate_regions(program, box)
    lap("regions")
    ShallowReLU(partition)
    lap("maps")
    found = {
        "neurons": sum(program.network.sizes),
        "unstable": program.num_neurons,
        "regions": partition.num_regions,
        "seconds": seconds,
        "peak": _peak_memory() - before,
    }
    Path(result).write_text(json.dumps(found), encoding="utf-8")


def _peak_memory() -> int:
    """Return the peak memory in bytes."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=list(SETTINGS), choices=list(SETTINGS))
    parser.add_argument("--limit", type=float, default=600.0, help="seconds for each network")
    options = parser.parse_args()
    print("| network, epsilon | ReLUs | can change sign | regions | bounds | reading | regions | maps | peak memory |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name in options.networks:
        found = run_isolated(["-c", START, name], limit=options.limit)
        if "problem" in found:
            print(f"| {name} | {found['problem']} |")
            continue
        times = " | ".join(f"{seconds:.2f} s" for seconds in found["seconds"].values())
        print(
            f"| {name} | {found['neurons']:,} | {found['unstable']} | {found['regions']:,} | {times} | "
            f"{found['peak'] / 2**20:.0f} MiB |",
            flush=True,
        )


if __name__ == "__main__":
    main()
