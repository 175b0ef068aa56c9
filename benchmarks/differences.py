"""Differences of networks from their pruned and rounded copies, bounded together or separately.

`python -m benchmarks.differences [acasxu|data] [--networks 1_1 ...] [--limit SECONDS]` prints a table. `acasxu`:
whether the outputs of ACAS Xu networks and of their copies differ by at most 0.05 everywhere in the box of property 1
with the last input at its lower end. `data`: the largest difference of a network of breast cancer data from its copies,
in the box of the data. Copies lack the smallest weights (a percentage of all), or have weights of 8 bits, symmetric in
each tensor. The limit is in wall-clock seconds; the seconds shown are those of the processor. Both columns are of the
same search of the same program; without coupling, it does not know which neurons correspond.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from benchmarks.networks import ACAS_XU_FOLDER
from torch_shallow import Box, from_onnx
from torch_shallow.explain.asking import Asking, SearchOptions
from torch_shallow.explain.globally.output_values import OutputRange
from torch_shallow.explain.searched_difference import searched_range
from torch_shallow.explain.subject import Subject
from torch_shallow.explain.two_networks import read_two

NAMES = tuple(f"{i}_{j}" for i in range(1, 6) for j in (1, 3, 5, 7))
APART = 0.05
LOWER, UPPER = (0.6, -0.5, -0.5, 0.45, -0.5), (0.679857769, 0.5, 0.5, 0.5, -0.5)


def pruned(model: nn.Module, percent: int) -> nn.Module:
    """Return a copy without the smallest weights; biases are kept."""
    other = copy.deepcopy(model)
    weights = [p.data for p in other.parameters() if p.dim() > 1]
    sizes = torch.cat([weight.abs().flatten() for weight in weights])
    limit = sizes.kthvalue(len(sizes) * percent // 100).values
    for weight in weights:
        weight[weight.abs() <= limit] = 0.0
    return other


def rounded(model: nn.Module) -> nn.Module:
    """Return a copy whose weights are integer multiples, up to 127, of one number per tensor."""
    other = copy.deepcopy(model)
    for weight in (p.data for p in other.parameters() if p.dim() > 1):
        step = weight.abs().max() / 127
        weight.copy_((weight / step).round() * step)
    return other


def of_breast_cancer() -> tuple[nn.Module, Box]:
    """Return a classifier 30-32-16-2 with BatchNorm, trained on standardised data, and the box of the data."""
    from sklearn.datasets import load_breast_cancer

    x, y = load_breast_cancer(return_X_y=True)
    rows, target = torch.from_numpy((x - x.mean(0)) / x.std(0)).float(), torch.from_numpy(y)
    torch.manual_seed(0)
    hidden = [part for a, b in ((30, 32), (32, 16)) for part in (nn.Linear(a, b), nn.BatchNorm1d(b), nn.ReLU())]
    model = nn.Sequential(*hidden, nn.Linear(16, 2))
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(200):
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(rows), target).backward()
        optimiser.step()
    return model.double().eval(), Box(rows.amin(0), rows.amax(0))


def apart(subject: Subject) -> Subject:
    """Return the same question, with nothing bounded together."""
    return replace(subject, program=replace(subject.program, pairs=None))


def differences(model: nn.Module, other: nn.Module, box: Box, at_most: float | None, limit: float) -> Iterator[str]:
    """Yield the results with and without coupling.

    Yields:
        Two cells of a table.
    """
    subject = read_two(model, other, box, None).difference
    for each in (subject, apart(subject)):
        begun = time.process_time()
        found, exact = searched_range(each, at_most, 1e-10, Asking(SearchOptions(time_limit=limit)))
        yield f"{_verdict(found, bool(exact.all()), at_most)} | {found.cells:,} | {time.process_time() - begun:.1f}"


def _verdict(found: OutputRange, exact: bool, at_most: float | None) -> str:
    value = float(torch.maximum(found.upper, -found.lower).max())
    bound = float(torch.maximum(found.upper_bound, -found.lower_bound).max())
    if at_most is None:
        return f"{value:.4g}" if exact else f"{value:.4g} to {bound:.4g}"
    if value > at_most:
        return f"differs by {value:.3g}"
    return "at most" if exact else f"{value:.3g} to {bound:.3g}"


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("which", nargs="?", choices=("acasxu", "data"), default="acasxu")
    parser.add_argument("--networks", nargs="*", default=NAMES)
    parser.add_argument("--limit", type=float, default=100.0)
    arguments = parser.parse_args()
    print("| network | copy | together | cells | s | apart | cells | s |\n|---|---|---|--:|--:|---|--:|--:|")
    if arguments.which == "data":
        model, box = of_breast_cancer()
        for name, other in (("without 50 %", pruned(model, 50)), ("8 bits", rounded(model))):
            cells = differences(model, other, box, None, arguments.limit)
            print(f"| 30-32-16-2 | {name} | {' | '.join(cells)} |", flush=True)
        return
    for number in arguments.networks:
        model = from_onnx(ACAS_XU_FOLDER / f"ACASXU_run2a_{number}_batch_2000.onnx")
        box = Box(np.array(LOWER), np.array(UPPER))
        copies = {f"without {share} %": pruned(model, share) for share in (5, 10, 30)} | {"8 bits": rounded(model)}
        for name, other in copies.items():
            cells = differences(model, other, box, APART, arguments.limit)
            print(f"| {number} | {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
