"""Ranges of networks trained on scikit-learn's data, in the box of the data: by all regions, and by HiGHS.

`python -m benchmarks.ranges [WIDTHS ...] [--limit SECONDS]` prints a table: the range by a mixed-integer program with
proven bounds of the neurons, and processor seconds for both ends; the number of regions, processor seconds of
`transform` and `output_range`, and how far apart the ranges are. Networks of too many regions are for HiGHS alone.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import torch
from torch import nn

import torch_shallow
from torch_shallow.explain import output_range
from torch_shallow.program.model import read_model
from torch_shallow.search.milp import answer_by_milp
from torch_shallow.search.question import Answer, Posed

WIDTHS = ("10-6-6-1", "10-8-8-1", "10-16-16-1", "13-16-16-1")
MOST_REGIONS = 1_000_000


def trained(widths: tuple[int, ...], steps: int = 2000) -> tuple[nn.Sequential, torch_shallow.Box]:
    """A network that has learned standardised data of as many features, and the box of these.

    Up to 10 features are the first of the diabetes data, 13 are the wine data, 30 the breast cancer data.
    """
    from sklearn import datasets

    loaded: dict[int, Any] = {13: datasets.load_wine, 30: datasets.load_breast_cancer}
    x, y = loaded.get(widths[0], datasets.load_diabetes)(return_X_y=True)
    x = torch.from_numpy((x - x.mean(axis=0)) / x.std(axis=0))[:, : widths[0]].float()
    target = torch.from_numpy((y - y.mean()) / y.std()).float()[:, None].expand(-1, widths[-1])
    torch.manual_seed(0)
    layers = [part for a, b in pairwise(widths) for part in (nn.Linear(a, b), nn.ReLU())]
    model = nn.Sequential(*layers[:-1])
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(steps):
        optimiser.zero_grad()
        (model(x) - target).square().mean().backward()
        optimiser.step()
    return model.double().eval(), torch_shallow.Box(x.amin(0), x.amax(0))


def timed(work: Callable[[], Any], repeats: int = 1) -> tuple[Any, float]:
    """The result, and the least processor time of some repeats."""
    seconds = []
    for _ in range(repeats):
        start = time.process_time()
        found = work()
        seconds.append(time.process_time() - start)
    return found, min(seconds)


def ends_by_milp(model: nn.Module, box: torch_shallow.Box, limit: float) -> tuple[Answer, Answer]:
    """The greatest value of the first output, and of minus it."""
    program = read_model(model, domain=box)
    weight, bias = program.out_weight[:1], program.out_bias[:1]
    ends = [replace(program, out_shape=(1,), out_weight=s * weight, out_bias=s * bias) for s in (1.0, -1.0)]
    upper, lower = (answer_by_milp(Posed(end, box), time_limit=limit) for end in ends)
    return upper, lower


def row(name: str, limit: float) -> str:
    """One line of the table."""
    model, box = trained(tuple(int(width) for width in name.split("-")))
    (upper, lower), milp = timed(lambda: ends_by_milp(model, box, limit))
    cells = [name, f"{-lower.value:.6g} to {upper.value:.6g}", f"{max(upper.gap, lower.gap):.1e}", f"{milp:.2f}"]
    expected = torch_shallow.estimate(model, domain=box).regions
    if not expected < MOST_REGIONS:
        return f"| {' | '.join([*cells, f'about {expected:.0e}'])} | | | | |"
    shallow, seconds = timed(lambda: torch_shallow.transform(model, domain=box))
    output_range(shallow)  # compile
    found, of_range = timed(lambda: output_range(shallow), 5)
    apart = max(abs(found.upper.flatten()[0].item() - upper.value), abs(found.lower.flatten()[0].item() + lower.value))
    cells += [f"{shallow.num_regions:,}", f"{seconds:.2f}", f"{of_range:.3f}", f"{milp / of_range:.0f}", f"{apart:.0e}"]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("widths", nargs="*", default=WIDTHS, help="such as 10-8-8-1")
    parser.add_argument("--limit", type=float, default=60.0, help="seconds of HiGHS for each end")
    given = parser.parse_args()
    titles = (
        *("network", "range by MILP", "its gap", "MILP, s", "regions"),
        *("transform, s", "output_range, s", "ratio", "apart"),
    )
    print(f"| {' | '.join(titles)} |\n|---|{'--:|' * (len(titles) - 1)}")
    for name in given.widths:
        print(row(name, given.limit), flush=True)


if __name__ == "__main__":
    main()
