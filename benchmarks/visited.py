"""Transformation by data: time and peak memory for networks too large to enumerate.

`python -m benchmarks.visited [NETWORK ...]` prints a table. The networks are trained on scikit-learn's handwritten
digits, enlarged, shifted and varied in brightness: 10,000 different images of 28 x 28 pixels with black borders.
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
from torch.nn import functional

from benchmarks.measure import run_isolated
from tests.piecewise_models import digits_cnn

ROWS = 10_000
START = "import sys; from benchmarks.visited import visit; visit(*sys.argv[1:])"


def mlp() -> nn.Module:
    """Return a network 784-512-256-10."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 256), nn.ReLU(), nn.Linear(256, 10)
    )


def cnn() -> nn.Module:
    """Return two convolutions of 16 channels: 25,088 ReLUs."""
    convolutions = (nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), nn.ReLU())
    return nn.Sequential(*convolutions, nn.AvgPool2d(2), nn.Flatten(), nn.Linear(16 * 14 * 14, 10))


NETWORKS: dict[str, Callable[[], nn.Module]] = {"784-512-256-10": mlp, "digits CNN": lambda: digits_cnn(28), "CNN": cnn}


def digits(rows: int) -> tuple[Tensor, Tensor]:
    """Return `rows` images of digits, and their labels."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    chosen = torch.arange(rows) % len(images)
    small = torch.tensor(images, dtype=torch.float32).reshape(-1, 1, 8, 8)[chosen] / 16.0
    large = functional.pad(functional.interpolate(small, size=20, mode="bilinear"), (4, 4, 4, 4))
    moved = [image.roll(tuple(torch.randint(-3, 4, (2,)).tolist()), (1, 2)) for image in large]
    return torch.stack(moved) * (0.5 + 0.5 * torch.rand(rows, 1, 1, 1)), torch.tensor(labels)[chosen]


def train(model: nn.Module, x: Tensor, y: Tensor, epochs: int = 3) -> float:
    """Train a classifier in place; return its accuracy."""
    optimiser = torch.optim.Adam(model.parameters(), 2e-3)
    for _ in range(epochs):
        for rows in torch.randperm(len(x)).split(100):
            optimiser.zero_grad()
            functional.cross_entropy(model(x[rows]), y[rows]).backward()
            optimiser.step()
    model.eval()
    with torch.no_grad():
        return float((torch.cat([model(rows) for rows in x.split(100)]).argmax(1) == y).double().mean())


def visit(name: str, result: str) -> None:
    """Transform a network by data and write regions, seconds, peak memory beyond the start, and the largest error.

    Args:
        name: Name of the network.
        result: File to which the result is written.
    """
    import torch_shallow

    torch.manual_seed(0)
    data, labels = digits(ROWS)
    model = NETWORKS[name]()
    accuracy = train(model, data, labels)
    torch_shallow.transform(model, data=data[:2])  # warm up
    before, start = psutil.Process().memory_info().rss, time.perf_counter()
    shallow = torch_shallow.transform(model, data=data)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) - before
    start = time.perf_counter()
    found = shallow(data.double())
    forward = time.perf_counter() - start
    with torch.no_grad():
        expected = torch.cat([model.double()(rows.double()) for rows in data.split(100)])
    outcome = {
        "neurons": shallow.regions[0].pattern.numel(),
        "regions": shallow.num_regions,
        "accuracy": accuracy,
        "seconds": seconds,
        "forward": forward,
        "peak": peak,
        "error": float(((found - expected).abs() / (1.0 + expected.abs())).max()),
    }
    Path(result).write_text(json.dumps(outcome), encoding="utf-8")


def main(names: list[str]) -> None:
    """Print the table.

    Args:
        names: Names of networks.
    """
    print("| network | ReLUs | accuracy | rows | regions | transform | forward | peak memory | largest error |")
    print("|---|--:|--:|--:|--:|--:|--:|--:|--:|")
    for name in names:
        found = run_isolated(["-c", START, name], limit=1800.0)
        if "problem" in found:
            print(f"| {name} | {found['problem']} |")
            continue
        print(
            f"| {name} | {found['neurons']:,} | {found['accuracy']:.3f} | {ROWS:,} | {found['regions']:,} | "
            f"{found['seconds']:.1f} s | {found['forward']:.1f} s | {found['peak'] / 2**20:,.0f} MiB | "
            f"{found['error']:.1e} |"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("networks", nargs="*", default=list(NETWORKS))
    main(parser.parse_args().networks)
