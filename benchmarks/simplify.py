"""Errors of simplified networks, found by samples and ascents, compared with their proven errors.

`python -m benchmarks.simplify [--networks 30] [--samples 1000000] [--ascents 1000]` prints a table: for each network,
what was asked for, the number of regions, the proven error, and the largest errors found by simplify itself, by
samples, and by ascents from the worst of them and from random points. The last columns are the proven error over the
largest one found, which is never below 1, and over `error_found`, which is at most 1.1 unless the time was up, and the
processor seconds of simplify.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

import torch_shallow
from benchmarks.networks import random_mlp
from torch_shallow import Box, SimplifiedReLU

SIZES = ((1, 16, 16, 1), (2, 16, 1), (2, 12, 12, 2), (3, 12, 12, 1), (4, 12, 2), (5, 10, 10, 1))
ASKED: tuple[dict[str, Any], ...] = (
    {"share": 0.1, "cuts": "features"},
    {"share": 0.2, "cuts": "neurons"},
    {"max_regions": 8, "cuts": "both"},
    {"max_regions": 5, "cuts": "features", "max_terms": 2},
    {"share": 0.1, "cuts": "both", "known": True},
)
BLOCK = 100_000
STEPS = 0.2 * 0.88 ** np.arange(60)


@dataclass(frozen=True)
class Case:
    """A network, and a request to simplify it.

    Attributes:
        name: Both in words.
        model: The network.
        given: The network, or an equal shallow network.
        options: Options of simplify.
    """

    name: str
    model: nn.Module
    given: nn.Module
    options: dict[str, Any]


def cases(count: int) -> Iterator[Case]:
    """Yield `count` networks, each with one of several requests.

    Yields:
        A case for each.
    """
    for number in range(count):
        sizes, asked = SIZES[number % len(SIZES)], dict(ASKED[(number // len(SIZES) + number) % len(ASKED)])
        model = random_mlp(sizes, number).requires_grad_(False)
        name = f"{'-'.join(map(str, sizes))} {', '.join(f'{key}={value}' for key, value in asked.items())}"
        if "share" in asked:
            y = model(points(sizes[0], BLOCK, number))
            asked["max_error"] = asked.pop("share") * float((y.amax(0) - y.amin(0)).max())
        known = asked.pop("known", False)
        given = torch_shallow.transform(model, domain=Box(-1.0, 1.0)) if known else model
        yield Case(name, model, given, asked)


def points(inputs: int, count: int, seed: int) -> Float[Tensor, "count inputs"]:
    """Draw points of the box from -1 to 1."""
    generator = torch.Generator().manual_seed(seed)
    return 2.0 * torch.rand(count, inputs, dtype=torch.float64, generator=generator) - 1.0


def errors_of(model: nn.Module, simple: SimplifiedReLU, x: Float[Tensor, "points inputs"]) -> Tensor:
    """Return the error of each output at some points."""
    return (model(x) - simple(x)).abs()


def sampled(model: nn.Module, simple: SimplifiedReLU, count: int) -> tuple[Tensor, Tensor]:
    """Return the largest errors of `count` samples, for each output, and the worst points."""
    worst, where = [], []
    inputs = simple.in_shape[0]
    for seed, start in enumerate(range(0, count, BLOCK)):
        x = points(inputs, min(BLOCK, count - start), 1000 + seed)
        with torch.no_grad():
            errors = errors_of(model, simple, x)
        worst.append(errors.amax(0))
        where.append(x[errors.amax(1).topk(min(50, len(x))).indices])
    return torch.stack(worst).amax(0), torch.cat(where)


def climbed(model: nn.Module, simple: SimplifiedReLU, starts: Float[Tensor, "starts inputs"]) -> Tensor:
    """Return the largest errors on projected ascents for each output."""
    worst = []
    for output in range(simple.out_shape[0]):
        x, best = starts.clone(), torch.zeros(len(starts), dtype=torch.float64)
        for step in STEPS:
            x.requires_grad_(True)
            error = errors_of(model, simple, x)[:, output]
            (slope,) = torch.autograd.grad(error.sum(), x)
            best = torch.maximum(best, error.detach())
            x = (x.detach() + step * slope.sign()).clamp(-1.0, 1.0)
        worst.append(best.max())
    return torch.stack(worst)


def line(case: Case, samples: int, ascents: int) -> tuple[str, bool, float]:
    """Return a line of the table, whether the proven error was exceeded, and the proven error over the one found."""
    begun = time.process_time()
    simple = torch_shallow.simplify(case.given, Box(-1.0, 1.0), **case.options)
    seconds = time.process_time() - begun
    by_samples, where = sampled(case.model, simple, samples)
    starts = torch.cat([where, points(simple.in_shape[0], ascents, 5)])[:ascents]
    starts[::2] = points(simple.in_shape[0], ascents, 6)[: len(starts[::2])]
    by_ascents = climbed(case.model, simple, starts)
    is_beaten = bool((torch.maximum(by_samples, by_ascents) > simple.output_errors * (1.0 + 1e-12)).any())
    largest = max(float(by_samples.max()), float(by_ascents.max()), simple.error_found)
    errors = (simple.error, simple.error_found, float(by_samples.max()), float(by_ascents.max()))
    cells = [case.name, f"{simple.num_regions:,}", *(f"{error:.5f}" for error in errors)]
    ratio = simple.error / simple.error_found
    cells += [f"{simple.error / largest:.4f}", f"{ratio:.4f}", f"{seconds:.1f}", "BEATEN" if is_beaten else "no"]
    return f"| {' | '.join(cells)} |", is_beaten, ratio


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", type=int, default=30)
    parser.add_argument("--samples", type=int, default=1_000_000)
    parser.add_argument("--ascents", type=int, default=1000)
    given = parser.parse_args()
    titles = "network, regions, proven, found, by samples, by ascents, proven / largest, proven / found, s, beaten"
    print(f"| {' | '.join(titles.split(', '))} |\n|---|{'--:|' * (len(titles.split(', ')) - 1)}")
    beaten, ratios = 0, []
    for case in cases(given.networks):
        text, is_beaten, ratio = line(case, given.samples, given.ascents)
        beaten += is_beaten
        ratios.append(ratio)
        print(text, flush=True)
    print(f"\nbeaten: {beaten} of {len(ratios)}; proven / found: at most {max(ratios):.4f}")


if __name__ == "__main__":
    main()
