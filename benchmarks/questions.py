"""Greatest outputs of trained networks in the box of their data, by the search and by HiGHS in one run.

`python -m benchmarks.questions [NETWORKS ...] [--limit SECONDS] [--workers N]` prints a table: what is proven of the
greatest value of the first output, and the time it takes, for both. HiGHS gets the proven bounds of the neurons.
With one worker, seconds are those of the processor, which other load on the machine does not disturb; with more, they
are wall-clock seconds. Other tables: `--gaps SECONDS ...` (the width of the proven interval after these times),
`--scaling` (several workers against one, to the end), `--known` (minimum and maximum by `output_range` where all
regions are known, against HiGHS).
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib import import_module
from itertools import pairwise
from typing import Any

import torch
from torch import nn

import torch_shallow
from torch_shallow.explain import output_range
from torch_shallow.program.model import read_model
from torch_shallow.search.ask import answer
from torch_shallow.search.milp import answer_by_milp
from torch_shallow.search.question import Answer, Posed

NETWORKS = (
    *("10-8-8-1", "10-16-16-1", "13-16-16-1", "6-32-32-1", "4-32-32-32-1"),
    *("10-32-32-1", "10-64-64-1", "30-64-64-2"),
)
KNOWN = ("10-6-6-1", "10-8-8-1")
MOST_REGIONS = 1_000_000
HARD = ("10-32-32-1",)
LONG = ("10-28-28-1",)
SHORT = 1.0  # runs shorter than this, in seconds, are repeated three times
SAME = 1e-7  # relative to 1 + |value|: greatest difference of two proven values


def trained(widths: tuple[int, ...], steps: int = 2000) -> tuple[nn.Sequential, torch_shallow.Box]:
    """Train a network on standardised data with as many features; return it and the box of the data.

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


def named(name: str) -> tuple[nn.Sequential, torch_shallow.Box]:
    """Return the trained network of a name such as 10-8-8-1."""
    return trained(tuple(int(width) for width in name.split("-")))


def greatest(model: nn.Module, box: torch_shallow.Box, sign: float = 1.0) -> Posed:
    """Return the question for the greatest value of the first output, times `sign`."""
    program = read_model(model, domain=box)
    weight, bias = sign * program.out_weight[:1], sign * program.out_bias[:1]
    return Posed(replace(program, out_shape=(1,), out_weight=weight, out_bias=bias), box)


def prepare(posed: Posed, workers: int) -> None:
    """Do what is done once in a process: compile what a question needs, and set the number of HiGHS's threads.

    HiGHS keeps the number of threads of the first program that it solves in a process.
    """
    answer(posed, workers=workers, time_limit=0.5)
    highs = import_module("highspy").Highs()
    highs.setOptionValue("output_flag", False)
    highs.setOptionValue("threads", workers)
    highs.run()


def timed(work: Callable[[], Any], clock: Callable[[], float] = time.process_time) -> tuple[Any, float]:
    """Return the result and the time; the least of three times, if it is short."""
    seconds: list[float] = []
    while len(seconds) < (3 if not seconds or seconds[0] < SHORT else 1):
        start = clock()
        found = work()
        seconds.append(clock() - start)
    return found, min(seconds)


def compared(ours: Answer, theirs: Answer) -> str:
    """Return what is wrong with two answers to one question; an empty text if they agree."""
    rounding = SAME * (1.0 + abs(ours.value))
    if ours.value > theirs.bound + rounding or theirs.value > ours.bound + rounding:
        return " (they contradict each other)"
    return ""


def against_highs(name: str, limit: float, workers: int) -> tuple[str, float]:
    """Return a line of the first table, and HiGHS's time over ours (a lower bound); NaN if ours was stopped."""
    posed = greatest(*named(name))
    prepare(posed, workers)
    clock = time.process_time if workers == 1 else time.perf_counter
    ours, seconds = timed(lambda: answer(posed, workers=workers, time_limit=limit), clock)
    theirs, their_seconds = timed(lambda: answer_by_milp(posed, time_limit=limit), clock)
    ratio = math.nan if ours.reason else their_seconds / seconds
    shown = "" if math.isnan(ratio) else f"{'> ' if theirs.reason else ''}{ratio:.1f}"
    cells = [
        name,
        *_row(ours, seconds),
        f"{ours.cells:,}",
        *_row(theirs, their_seconds),
        shown + compared(ours, theirs),
    ]
    return f"| {' | '.join(cells)} |", ratio


def _row(found: Answer, seconds: float) -> tuple[str, str, str]:
    return f"{found.value:.6f}", f"{found.bound:.6f}", f"{seconds:.3g}{' (stopped)' if found.reason else ''}"


def gaps(name: str, limits: list[float], workers: int) -> Iterator[str]:
    """Yield lines with the width of both proven intervals after some seconds.

    Yields:
        A line for each time.
    """
    posed = greatest(*named(name))
    prepare(posed, workers)
    for limit in limits:
        ours = answer(posed, workers=workers, time_limit=limit)
        theirs = answer_by_milp(posed, time_limit=limit)
        ratio = f"{ours.gap / theirs.gap:.2f}" if theirs.gap else ""
        cells = [name, f"{limit:.0f}"]
        for found in (ours, theirs):
            cells += [f"{found.value:.4f}", f"{found.bound:.4f}", f"{found.gap:.3f}", f"{found.cells:,}"]
        yield f"| {' | '.join([*cells, ratio + compared(ours, theirs)])} |"


def scaling(name: str, workers: int, repeats: int = 3) -> str:
    """Return a line: complete searches by one worker and by several, alternating; least wall-clock seconds of each."""
    posed = greatest(*named(name))
    prepare(posed, workers)
    seconds: dict[int, list[float]] = {1: [], workers: []}
    found: list[Answer] = []
    for _ in range(repeats):
        for count, times in seconds.items():
            found.append(answer(posed, workers=count))
            times.append(found[-1].seconds)
    same = all(other.value == found[0].value and other.cells == found[0].cells for other in found)
    one, more = (min(times) for times in seconds.values())
    cells = [name, f"{found[0].cells:,}", f"{one:.2f}", f"{more:.2f}", f"{one / more:.2f}", "yes" if same else "no"]
    return f"| {' | '.join(cells)} |"


def known(name: str, limit: float) -> str:
    """Return a line: minimum and maximum where all regions are known, unless there are too many, against HiGHS."""
    model, box = named(name)
    ends = [greatest(model, box, sign) for sign in (1.0, -1.0)]
    (upper, lower), milp = timed(lambda: [answer_by_milp(end, time_limit=limit) for end in ends])
    cells = [name, f"{-lower.value:.6g} to {upper.value:.6g}", f"{max(upper.gap, lower.gap):.1e}", f"{milp:.2f}"]
    expected = torch_shallow.estimate(model, domain=box).regions
    if not expected < MOST_REGIONS:
        return f"| {' | '.join([*cells, f'about {expected:.0e}'])} | | | | |"
    output_range(torch_shallow.transform(model, domain=box))  # compile
    shallow, seconds = timed(lambda: torch_shallow.transform(model, domain=box))
    found, of_range = timed(lambda: output_range(shallow))
    apart = max(abs(found.upper.flatten()[0].item() - upper.value), abs(found.lower.flatten()[0].item() + lower.value))
    cells += [f"{shallow.num_regions:,}", f"{seconds:.2f}", f"{of_range:.3f}", f"{milp / of_range:.0f}", f"{apart:.0e}"]
    return f"| {' | '.join(cells)} |"


def _print_table(titles: str, lines: Iterator[str]) -> None:
    names = [title.strip() for title in titles.split(",")]
    print(f"| {' | '.join(names)} |\n|---|{'--:|' * (len(names) - 1)}")
    for line in lines:
        print(line, flush=True)


def _print_against_highs(names: tuple[str, ...], limit: float, workers: int) -> None:
    ratios: list[float] = []

    def lines() -> Iterator[str]:
        for name in names:
            line, ratio = against_highs(name, limit, workers)
            ratios.append(ratio)
            yield line

    titles = "network, ours: value, proven, seconds, cells, HiGHS: value, proven, seconds, HiGHS / ours"
    _print_table(titles, lines())
    answered = [ratio for ratio in ratios if not math.isnan(ratio)]
    if answered:
        mean = statistics.geometric_mean(answered)
        print(f"\n{len(answered)} answered: HiGHS / ours {mean:.1f} in the geometric mean, least {min(answered):.1f}")


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", help="widths, such as 10-8-8-1")
    parser.add_argument("--limit", type=float, default=60.0, help="seconds for each answer")
    parser.add_argument("--workers", type=int, default=1, help="threads of the search, and of HiGHS")
    parser.add_argument("--gaps", type=float, nargs="+", metavar="SECONDS", help="intervals after these times")
    parser.add_argument("--scaling", action="store_true", help="these workers, at least two, against one")
    parser.add_argument("--known", action="store_true", help="where all regions are known")
    given = parser.parse_args()
    names = tuple(given.networks)
    if given.gaps:
        titles = "network, seconds, ours: value, proven, gap, cells, HiGHS: value, proven, gap, nodes, gap / HiGHS's"
        lines = (line for name in names or HARD for line in gaps(name, given.gaps, given.workers))
        _print_table(titles, lines)
    elif given.scaling:
        workers = max(2, given.workers)
        titles = f"network, cells, 1 worker: s, {workers} workers: s, ratio, the same answer"
        _print_table(titles, (scaling(name, workers) for name in names or LONG))
    elif given.known:
        titles = "network, range by MILP, its gap, MILP: s, regions, transform: s, output_range: s, ratio, apart"
        _print_table(titles, (known(name, given.limit) for name in names or KNOWN))
    else:
        _print_against_highs(names or NETWORKS, given.limit, given.workers)


if __name__ == "__main__":
    main()
