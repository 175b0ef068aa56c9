"""One forward pass, side by side: the deep model, its shallow network, and affinitree's decision tree.

`python -m benchmarks.forward [NETWORK ...]` prints a table of microseconds per point.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from benchmarks.measure import run_isolated
from benchmarks.networks import Case, load
from benchmarks.peers import affinitree_tree

NETWORKS = ("3-16-16-1", "6-8-8-1", "10-8-8-1", "20-10-10-1")
BATCH = 10_000
START = "import sys; from benchmarks.forward import time_forward; time_forward(*sys.argv[1:])"


def deep(case: Case) -> Callable[[Tensor], Tensor]:
    """The model itself."""
    return case.model


def shallow(case: Case) -> Callable[[Tensor], Tensor]:
    """The shallow network, by `forward` of the module."""
    import torch_shallow

    return torch_shallow.transform(case.model)


def affinitree(case: Case) -> Callable[[Tensor], Tensor]:
    """The `evaluate` of affinitree, which takes one point at a time."""
    tree = affinitree_tree(case)

    def evaluate(x: Float[Tensor, "points inputs"]) -> Float[Tensor, "points outputs"]:
        return torch.from_numpy(np.stack([tree.evaluate(point) for point in x.numpy()]))

    return evaluate


TOOLS: dict[str, Callable[[Case], Callable[[Tensor], Tensor]]] = {
    "deep model": deep,
    "torch_shallow": shallow,
    "affinitree": affinitree,
}


@torch.no_grad()
def time_forward(tool: str, name: str, result: str) -> None:
    """Time a tool on points of several scales: one by one, and all in one batch.

    Args:
        tool: name of the tool.
        name: name of the case.
        result: where to write seconds per point and the largest `|difference| / (1 + |y|)` from the model.
    """
    case = load(name)
    evaluate = TOOLS[tool](case)
    generator = torch.Generator().manual_seed(1)
    scales = 10.0 ** torch.linspace(-2, 2, BATCH, dtype=torch.float64)[:, None]
    points = scales * torch.randn(BATCH, case.num_inputs, dtype=torch.float64, generator=generator)
    expected = case.model(points)
    difference = ((evaluate(points) - expected).abs() / (1.0 + expected.abs())).max()
    singles = [_seconds(evaluate, point[None]) for point in points[:: BATCH // 500]]
    batches = [_seconds(evaluate, points) / BATCH for _ in range(7)]
    found = {
        "single": statistics.median(singles),
        "batch": statistics.median(batches),
        "difference": float(difference),
    }
    Path(result).write_text(json.dumps(found), encoding="utf-8")


def _seconds(evaluate: Callable[[Tensor], Tensor], points: Tensor) -> float:
    start = time.perf_counter()
    evaluate(points)
    return time.perf_counter() - start


def main() -> None:
    """Print a row for each network and tool."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.forward", description=__doc__)
    parser.add_argument("networks", nargs="*", default=NETWORKS, metavar="NETWORK")
    parser.add_argument("--limit", type=float, default=300.0, help="seconds for one tool on one network")
    arguments = parser.parse_args()
    print(f"| network | tool | one point, us | in a batch of {BATCH:,}, us per point | largest relative difference |")
    print("|---|---|--:|--:|--:|")
    for name in arguments.networks:
        for tool in TOOLS:
            found = run_isolated(["-c", START, tool, name], limit=arguments.limit)
            cells = [found.get("problem", ""), "", ""]
            if "problem" not in found:
                single, batch, difference = (found[key] for key in ("single", "batch", "difference"))
                cells = [f"{1e6 * single:.3g}", f"{1e6 * batch:.3g}", f"{difference:.1e}"]
            print(f"| {' | '.join([name, tool, *cells])} |", flush=True)


if __name__ == "__main__":
    main()
