"""Polygons of two-dimensional pictures: by cutting the window down the tree, and region by region.

`python -m benchmarks.pictures [WIDTHS ...]`, such as `2-64-64-1`, prints a table. Both methods work on one shallow
network, in the same process, warm; times are medians of five runs. `region.vertices()` is measured on up to 300 regions
drawn at random, and scaled to all of them.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import torch
from torch import nn

import torch_shallow
from torch_shallow.plot.regions import polygons, regions

WIDTHS = ("2-16-16-1", "2-64-64-1", "2-64-64-64-10", "2-256-256-1")
SAMPLE, REPEATS = 300, 5


def chain(*sizes: int) -> nn.Sequential:
    """Return linear layers of these sizes with ReLUs between them."""
    layers = [part for a, b in pairwise(sizes) for part in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(*layers[:-1])


def median(work: Callable[[], object]) -> float:
    """Return the median seconds of some work, after a warm-up."""
    work()
    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def measure(widths: str) -> str:
    """Return a row of the table."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    torch.manual_seed(0)
    model = chain(*map(int, widths.split("-"))).double()
    start = time.perf_counter()
    shallow = torch_shallow.transform(model, domain=torch_shallow.Box(-3.0, 3.0))
    transforming = time.perf_counter() - start
    found = polygons(shallow)
    cutting = median(lambda: polygons(shallow, by_largest=False))
    boundary = median(lambda: polygons(shallow))
    chosen = np.random.default_rng(0).permutation(shallow.num_regions)[:SAMPLE].tolist()
    one_by_one = median(lambda: [shallow.regions[k].vertices() for k in chosen]) * shallow.num_regions / len(chosen)

    def draw() -> None:
        figure = Figure()
        regions(shallow, boundary=True, ax=figure.subplots())
        FigureCanvasAgg(figure).draw()

    drawing = median(draw)
    error, ratio = abs(found.areas.sum() / 36.0 - 1.0), one_by_one / cutting
    return (
        f"| {widths} | {shallow.num_regions:,} | {transforming * 1e3:,.0f} ms | {cutting * 1e3:,.1f} ms | "
        f"{boundary * 1e3:,.1f} ms | {one_by_one:,.1f} s | {ratio:,.0f} | {drawing:.1f} s | {error:.0e} |"
    )


def main(networks: list[str]) -> None:
    """Print the table.

    Args:
        networks: Widths of the layers, such as `2-64-64-1`.
    """
    torch_shallow.transform(chain(2, 4, 1))
    columns = ("network on [-3, 3]²", "regions", "transform", "polygons", "and boundary", "vertices of each region")
    print(f"| {' | '.join(columns)} | ratio | whole picture | area off by |")
    print("|---|--:|--:|--:|--:|--:|--:|--:|--:|")
    for widths in networks:
        print(measure(widths), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("networks", nargs="*", default=list(WIDTHS))
    main(parser.parse_args().networks)
