"""Nearest counterfactuals compared with a mixed-integer program of the same network: distances and the ratio of times.

`python -m benchmarks.counterfactual [QUERIES]` prints tables. The program is written with cvxpy and solved by HiGHS.
It is told the distance, and the bounds of its neurons are those of a box slightly larger than it. Times are of queries
only; the transformation, which is done once for all of them, is not included.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

import torch_shallow
from benchmarks import networks
from tests.explain.milp import class_rows, milp_distance
from torch_shallow.explain.counterfactuals import AtLeast, Counterfactual, counterfactual
from torch_shallow.explain.counterfactuals.targets import Target

WIDTHS = (4, 8, 8, 3)
WINE = (13, 8, 8, 3)


def trained(widths: tuple[int, ...], rows: int = 600) -> tuple[nn.Sequential, Tensor]:
    """Train a classifier of Gaussian clusters; return it and inputs."""
    torch.manual_seed(0)
    centers = 1.5 * torch.randn(widths[-1], widths[0], dtype=torch.float64)
    labels = torch.arange(rows) % widths[-1]
    x = centers[labels] + torch.randn(rows, widths[0], dtype=torch.float64)
    layers = [part for a, b in pairwise(widths) for part in (nn.Linear(a, b), nn.ReLU())]
    model = nn.Sequential(*layers[:-1]).double()
    optimiser = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(300):
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(x), labels).backward()
        optimiser.step()
    return model.eval(), x


def timed(shallow: torch_shallow.ShallowReLU, x: Tensor, target: Target, norm: float) -> tuple[Counterfactual, float]:
    """Return a counterfactual, and the seconds it took."""
    start = time.perf_counter()
    found = counterfactual(shallow, x, target, norm)
    return found, time.perf_counter() - start


def against_milp(queries: int) -> None:
    """Print distances and times of both methods."""
    model, data = trained(WIDTHS)
    shallow = torch_shallow.transform(model)
    print(f"{queries} queries of a trained {'-'.join(map(str, WIDTHS))}, {shallow.num_regions:,} regions\n")
    print("| norm | largest difference of distances, relative | this, median | MILP, median | ratio | all proven |")
    print("|---|--:|--:|--:|--:|--:|")
    for norm in (1.0, np.inf):
        timed(shallow, data[0], (int(shallow(data[0]).argmax()) + 1) % 3, norm)  # warm up
        differences, ours, theirs, proven = [], [], [], True
        for x in data[:queries]:
            target = (int(shallow(x).argmax()) + 1) % WIDTHS[-1]
            found, seconds = timed(shallow, x, target, norm)
            ours.append(seconds)
            start = time.perf_counter()
            expected = milp_distance(model, x, *class_rows(target, WIDTHS[-1]), norm, 1.1 * found.distance)
            theirs.append(time.perf_counter() - start)
            differences.append(abs(found.distance - expected) / expected)
            proven &= found.proven
        here, there = statistics.median(ours), statistics.median(theirs)
        print(f"| L{norm:g} | {max(differences):.1e} | {here:.4f} s | {there:.3f} s | {there / here:.0f} | {proven} |")


def alone(name: str, shallow: torch_shallow.ShallowReLU, points: Tensor, targets: Sequence[Target]) -> None:
    """Print the times of some queries."""
    for norm in (1.0, 2.0, np.inf):
        timed(shallow, points[0], targets[0], norm)
        found = [timed(shallow, x, target, norm) for x, target in zip(points, targets, strict=True)]
        seconds = [pair[1] for pair in found]
        proven = all(pair[0].proven for pair in found)
        print(
            f"| {name} | {shallow.num_regions:,} | L{norm:g} | {statistics.median(seconds):.3f} s | "
            f"{max(seconds):.3f} s | {proven} |"
        )


def main(queries: int) -> None:
    """Print the tables.

    Args:
        queries: Number of queries.
    """
    against_milp(queries)
    print("\n| network | regions | norm | median | longest | all proven |\n|---|--:|---|--:|--:|--:|")
    model, data = trained(WINE)
    shallow = torch_shallow.transform(model)
    alone("-".join(map(str, WINE)), shallow, data[:20], [(int(y.argmax()) + 1) % 3 for y in shallow(data[:20])])
    case = networks.load("ACAS Xu 1_1 property 3")
    if case.box is not None:
        lower, upper = torch.from_numpy(case.box).T
        shallow = torch_shallow.transform(case.model, domain=torch_shallow.Box(lower, upper))
        points = lower + (upper - lower) * torch.rand(5, len(lower), dtype=torch.float64)
        outputs = shallow(points)
        classes: list[Target] = [int(y.argsort()[-2]) for y in outputs]
        alone("ACAS Xu 1_1 property 3, second class", shallow, points, classes)
        values: list[Target] = [AtLeast(float(y[0]) + 0.3 * float(outputs[:, 0].std())) for y in outputs]
        alone("ACAS Xu 1_1 property 3, output 0 higher", shallow, points, values)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("queries", nargs="?", type=int, default=100)
    main(parser.parse_args().queries)
