"""Forward and backward passes of the deep model, its shallow network, and affinitree's decision tree.

`python -m benchmarks.forward [NETWORK ...]` prints a table of times per point and of ratios; `--growth` shows how the
time grows with the number of regions, `--memory` the memory of a forward pass beyond its input and output, `--dense`
whether evaluating all half-spaces would be faster.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

import torch_shallow
from benchmarks.measure import run_isolated
from benchmarks.networks import Case, load
from benchmarks.peers import affinitree_tree

TUTORIAL = "tutorial (wines, 13-8-8-3)"
NETWORKS = ("ACAS Xu 1_1 property 3", TUTORIAL, "3-16-16-1", "6-8-8-1", "10-8-8-1", "20-10-10-1", "5-16-16-1")
GROWTH = ("5-6-6-1", "5-8-8-1", "5-10-10-1", "5-14-14-1", "5-16-16-1", "5-20-20-1")
SMALL = ("2-1-1", "2-2-1", "3-3-1", "3-4-1", "5-5-1", "5-6-1")
MOST_FOR_AFFINITREE = 20_000  # regions; its trees of larger networks take minutes to build
POINTS = 100_000
BY_AFFINITREE = 5_000
REPEATS = 15
START = "import sys; from benchmarks.forward import measure_forward; measure_forward(*sys.argv[1:])"
START_MEMORY = "import sys; from benchmarks.forward import measure_memory; measure_memory(*sys.argv[1:])"


def load_case(name: str) -> tuple[nn.Module, torch_shallow.Box | None, Case | None]:
    """Return the model of a name, in float64, its domain, and its case if it has one."""
    if name == TUTORIAL:
        from tutorials.classifier import train, wines

        data = wines()
        return train(data.x[data.train], data.cultivar[data.train]).double(), None, None
    case = load(name)
    box = None if case.box is None else torch_shallow.Box(case.box[:, 0], case.box[:, 1])
    return case.model, box, case


def draw_points(shallow: torch_shallow.ShallowReLU, count: int) -> Float[Tensor, "points inputs"]:
    """Draw points uniformly from a box, or from a standard normal distribution."""
    generator = torch.Generator().manual_seed(1)
    if isinstance(shallow.domain, torch_shallow.Box):
        lower, upper = map(torch.from_numpy, shallow.domain.bounds(shallow.in_shape))
        return lower + (upper - lower) * torch.rand(count, len(lower), dtype=torch.float64, generator=generator)
    return torch.randn(count, *shallow.in_shape, dtype=torch.float64, generator=generator)


def measure_forward(name: str, dtype: str, threads: str, result: str) -> None:
    """Time deep and shallow network in turn, and affinitree if it can make the tree.

    Args:
        name: Name of the network.
        dtype: Dtype of the points and the deep model: `"float32"` or `"float64"`.
        threads: Number of torch's threads.
        result: File to which seconds per point are written.
    """
    torch.set_num_threads(int(threads))
    exact, domain, case = load_case(name)
    shallow = torch_shallow.transform(exact, domain=domain)
    x = draw_points(shallow, POINTS)
    deep, x = copy.deepcopy(exact).to(getattr(torch, dtype)), x.to(getattr(torch, dtype))

    def forward(network: nn.Module) -> None:
        with torch.no_grad():
            network(x)

    def backward(network: nn.Module) -> None:
        network(x.clone().requires_grad_()).sum().backward()

    def single(network: nn.Module) -> None:
        with torch.no_grad():
            for point in x[:200, None]:
                network(point)

    expected = exact(x.double())
    difference = ((shallow(x) - expected).abs() / (1.0 + expected.abs())).max()
    found: dict[str, Any] = {
        "regions": shallow.num_regions,
        "difference": float(difference),
        "forward": [seconds / POINTS for seconds in _in_turn(forward, deep, shallow)],
        "backward": [seconds / POINTS for seconds in _in_turn(backward, deep, shallow)],
        "single": [seconds / 200 for seconds in _in_turn(single, deep, shallow)],
    }
    if case is not None and case.box is None and shallow.num_regions <= MOST_FOR_AFFINITREE and dtype == "float64":
        tree, points = affinitree_tree(case), x[:BY_AFFINITREE].numpy()
        found["affinitree"] = _seconds(lambda: np.stack([tree.evaluate(point) for point in points])) / BY_AFFINITREE
    Path(result).write_text(json.dumps(found), encoding="utf-8")


def measure_memory(name: str, count: str, result: str) -> None:
    """Measure the peak memory of a forward pass in float64 beyond the memory used before, for `count` points."""
    import psutil

    torch.set_num_threads(2)
    model, domain, _ = load_case(name)
    shallow = torch_shallow.transform(model, domain=domain)
    x = draw_points(shallow, int(count))
    with torch.no_grad():
        shallow(x[:10])
        clear_peak()
        before = psutil.Process().memory_info().rss
        y = shallow(x)
    found = {"regions": shallow.num_regions, "bytes": peak() - before, "output": y.nbytes}
    Path(result).write_text(json.dumps(found), encoding="utf-8")


def clear_peak() -> None:
    """Make Linux measure the peak of resident memory afresh."""
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")


def peak() -> int:
    """Return the peak of resident memory since then, in bytes."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))


def _in_turn(run: Callable[[nn.Module], None], *networks: nn.Module) -> list[float]:
    """Return the median seconds of each, run in turn, so that other load on the machine affects all alike."""
    seconds: list[list[float]] = [[] for _ in networks]
    for _ in range(REPEATS + 1):
        for network, times in zip(networks, seconds, strict=True):
            times.append(_seconds(partial(run, network)))
    return [statistics.median(times[1:]) for times in seconds]


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


HEADER = (
    "| network | regions | dtype | deep, ns | shallow, ns | ratio | with backward: ratio | one point: deep, us | "
    "shallow, us | affinitree, ns | affinitree / shallow | difference |\n"
    "|---|--:|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|"
)


def rows(networks: Sequence[str], threads: str, limit: float) -> Iterator[dict[str, Any]]:
    """Measure each network in both dtypes.

    Yields:
        What `measure_forward` found, with the ratios of the deep network's time, and of affinitree's, over ours.
    """
    for name in networks:
        for dtype in ("float32", "float64"):
            found = run_isolated(["-c", START, name, dtype, threads], processes=2, limit=limit)
            ratios = {}
            if "problem" not in found:
                ratios = {kind: found[kind][0] / found[kind][1] for kind in ("forward", "backward", "single")}
                if "affinitree" in found:
                    ratios["affinitree"] = found["affinitree"] / found["forward"][1]
            yield {"network": name, "dtype": dtype, **found, "ratios": ratios}


def line(found: dict[str, Any]) -> str:
    """Return a row as a line of the table."""
    name, dtype = found["network"], found["dtype"]
    if "problem" in found:
        return f"| {name} | | {dtype} | {found['problem']} |"
    (deep, shallow), (back, back_shallow) = found["forward"], found["backward"]
    peer = found.get("affinitree")
    cells = [name, f"{found['regions']:,}", dtype, f"{1e9 * deep:.0f}", f"{1e9 * shallow:.0f}"]
    cells += [f"{shallow / deep:.2f}", f"{back_shallow / back:.2f}"]
    cells += [f"{1e6 * seconds:.0f}" for seconds in found["single"]]
    cells += [f"{1e9 * peer:.0f}", f"{peer / shallow:.1f}"] if peer else ["", ""]
    return f"| {' | '.join(cells)} | {found['difference']:.1e} |"


def table(found: list[dict[str, Any]]) -> str:
    """Return the rows of a record as a table."""
    return "\n".join([HEADER, *map(line, found), ""])


def show_growth(threads: str, limit: float) -> None:
    """Print the time per point over the number of regions."""
    print("| network | regions | shallow, ns per point | relative |")
    print("|---|--:|--:|--:|")
    first = None
    for name in GROWTH:
        found = run_isolated(["-c", START, name, "float64", threads], processes=2, limit=limit)
        seconds = found["forward"][1]
        first = seconds if first is None else first
        print(f"| {name} | {found['regions']:,} | {1e9 * seconds:.0f} | {seconds / first:.2f} |", flush=True)


def show_memory(limit: float) -> None:
    """Print the peak memory of a forward pass over the number of points."""
    print("| network | regions | points | peak beyond before, bytes per point | of it the output |")
    print("|---|--:|--:|--:|--:|")
    for name in ("3-16-16-1", "ACAS Xu 1_1 property 3"):
        for count in (10_000, 100_000, 1_000_000):
            found = run_isolated(["-c", START_MEMORY, name, str(count)], processes=2, limit=limit)
            each, output = found["bytes"] / count, found["output"] / count
            print(f"| {name} | {found['regions']:,} | {count:,} | {each:.0f} | {output:.0f} |", flush=True)


def show_dense(threads: str) -> None:
    """Print the microseconds of small networks by dense masks and by descent, over the number of points."""
    torch.set_num_threads(int(threads))
    counts = (1, 100, 10_000, 100_000)
    print(f"| network | regions | {' | '.join(f'{count:,} points' for count in counts)} |")
    print(f"|---|--:|{'--:|' * len(counts)}")
    for name in SMALL:
        descent = torch_shallow.transform(load_case(name)[0])
        dense = torch_shallow.ShallowReLU(descent.partition, dense=True)
        cells = []
        for count in counts:
            x = draw_points(descent, count)
            with torch.no_grad():
                seconds = _in_turn(partial(_call, x), dense, descent)
            cells.append(" : ".join(f"{1e6 * each:.0f}" for each in seconds))
        print(f"| {name} | {descent.num_regions} | {' | '.join(cells)} |", flush=True)


def _call(x: Tensor, network: nn.Module) -> None:
    network(x)


def main() -> None:
    """Print the requested tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.forward", description=__doc__)
    parser.add_argument("networks", nargs="*", default=NETWORKS, metavar="NETWORK")
    parser.add_argument("--threads", default="2", help="of torch, for deep and shallow alike")
    parser.add_argument("--growth", action="store_true", help="time over number of regions instead")
    parser.add_argument("--memory", action="store_true", help="memory over number of points instead")
    parser.add_argument("--dense", action="store_true", help="dense masks against descent, in small networks, instead")
    parser.add_argument("--limit", type=float, default=300.0, help="seconds for one network")
    arguments = parser.parse_args()
    if arguments.growth:
        show_growth(arguments.threads, arguments.limit)
    elif arguments.memory:
        show_memory(arguments.limit)
    elif arguments.dense:
        show_dense(arguments.threads)
    else:
        print(HEADER)
        for found in rows(arguments.networks, arguments.threads, arguments.limit):
            print(line(found), flush=True)


if __name__ == "__main__":
    main()
