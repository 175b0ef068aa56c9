"""Exact ranges, Lipschitz constants and differences, compared with mixed-integer programs and dense sampling.

`python -m benchmarks.facts [--acas-xu]` prints a table for ten random networks on boxes: the largest difference of
`output_range` and `difference` from a mixed-integer program (cvxpy, HiGHS, big-M), by how much the best of 200,000
random points or slopes falls short of the exact value, and times; then ACAS Xu 1_1 in the box of property 3.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

import torch_shallow
from benchmarks.networks import load, random_mlp
from tests.explain.milp import largest_by_milp
from torch_shallow.explain.difference import difference
from torch_shallow.explain.globally import lipschitz_constant, output_range
from torch_shallow.program.model import read_model

NETWORKS = (
    (1, 16, 16, 1), (2, 8, 8, 1), (2, 16, 16, 1), (2, 8, 8, 8, 1), (3, 8, 8, 1), (3, 12, 12, 1), (4, 8, 8, 1),
    (4, 10, 10, 1), (5, 8, 8, 1), (6, 8, 8, 1),
)  # fmt: skip
POINTS = 200_000


def timed(work: Callable[[], Any], repeats: int = 3) -> tuple[Any, float]:
    """Return the result, and the median time of some repeats after a warm-up."""
    found, seconds = work(), []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return found, statistics.median(seconds)


def perturbed(model: nn.Sequential, by: float = 0.02) -> nn.Sequential:
    """Return a copy with perturbed weights."""
    other = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(by * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype))
    return other


class Minus(nn.Module):
    """The difference of two modules."""

    def __init__(self, a: nn.Module, b: nn.Module) -> None:
        super().__init__()
        self.a, self.b = a, b

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the difference of the outputs for the same input."""
        return self.a(x) - self.b(x)


@torch.no_grad()
def row(sizes: tuple[int, ...]) -> str:
    """Return one line of the table."""
    d, model = sizes[0], random_mlp(sizes)
    box, other = torch_shallow.Box(-np.ones(d), np.ones(d)), perturbed(model)
    shallow, seconds = timed(lambda: torch_shallow.transform(model, domain=box))
    found, of_range = timed(lambda: output_range(shallow))
    constant, of_slopes = timed(lambda: lipschitz_constant(shallow))
    apart, of_difference = timed(lambda: difference(model, other, box))

    def by_milp(program: Any) -> list[float]:
        return [largest_by_milp(program, -np.ones(d), np.ones(d), np.array([sign])) for sign in (1.0, -1.0)]

    start = time.perf_counter()
    high, low = by_milp(read_model(model))
    milp = time.perf_counter() - start
    start = time.perf_counter()
    most = max(by_milp(read_model(Minus(model, other))))
    milp_difference = time.perf_counter() - start
    gap = max(abs(found.upper.item() - high), abs(found.lower.item() + low))
    x = 2.0 * torch.rand(POINTS, d, dtype=torch.float64) - 1.0
    y, moved = model(x), (x + 1e-6 * torch.nn.functional.normalize(torch.randn_like(x))).clamp(-1.0, 1.0)
    below = min((found.upper - y.max()).item(), (y.min() - found.lower).item())
    slopes = ((model(moved) - y).norm(dim=1) / (moved - x).norm(dim=1)).nan_to_num(0.0)
    apart_below = (apart.largest - (y - other(x)).abs().max()).item()
    return (
        f"| {'-'.join(map(str, sizes))} | {shallow.num_regions:,} | "
        f"{1e3 * (seconds + of_range):.1f} ms | "
        f"{1e3 * milp:,.0f} ms | {gap:.0e} | {below:.1e} | {1e3 * of_slopes:.1f} ms | "
        f"{slopes.max().item() / constant.value:.4f} | {1e3 * of_difference:.1f} ms | "
        f"{1e3 * milp_difference:,.0f} ms | "
        f"{abs(apart.largest.item() - most):.0e} | {apart_below:.1e} |"
    )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--acas-xu", action="store_true", help="only ACAS Xu")
    if not parser.parse_args().acas_xu:
        print("Transform and range, difference: against MILP (time; |exact - MILP|) and the best of random points.\n")
        print("| network | regions | range | MILP | apart | above samples | Lipschitz | sampled/exact | difference | "
              "MILP | apart | above samples |")  # fmt: skip
        print("|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|")
        for sizes in NETWORKS:
            print(row(sizes), flush=True)
    case = load("ACAS Xu 1_1 property 3")
    if case.box is None:
        return
    box = torch_shallow.Box(*case.box.T)
    shallow, seconds = timed(lambda: torch_shallow.transform(case.model, domain=box))
    _, of_range = timed(lambda: output_range(shallow))
    _, of_slopes = timed(lambda: lipschitz_constant(shallow))
    print(
        f"\n{case.name}: {shallow.num_regions:,} regions, transform {seconds:.2f} s, output_range {of_range:.2f} s, "
        f"lipschitz_constant {of_slopes:.2f} s"
    )


if __name__ == "__main__":
    main()
