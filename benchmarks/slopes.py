"""Steepest slopes of trained networks in the box of their data, by the search and by HiGHS in one run.

`python -m benchmarks.slopes [NETWORKS ...] [--norms 1 2 inf] [--limit SECONDS]` prints a table: what is proven of the
Lipschitz constant, and the time it takes. HiGHS solves it as a mixed-integer program with a binary variable for the
share of each neuron (as in LipMIP: Jordan & Dimakis 2020), given the same proven bounds of the neurons; for norm 1 this
is one program for each input and sign, each with its share of the time. There is no such program for norm 2. Seconds
are those of the processor, with one thread.
"""

from __future__ import annotations

import argparse
import math
import time
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from benchmarks.questions import named, prepare
from torch_shallow.bounds.scaled import ScaledProgram
from torch_shallow.program.model import read_model
from torch_shallow.search.question import Posed
from torch_shallow.search.steepness.slope_engine import Bounded
from torch_shallow.search.steepness.steepest import steepest
from torch_shallow.search.steepness.steepness import Steepness

NETWORKS = ("10-16-16-1", "10-20-20-1", "10-32-32-1", "10-64-64-1")


@dataclass(frozen=True)
class Interval:
    """What is proven of a constant, and the processor seconds."""

    value: float
    bound: float
    seconds: float

    def __str__(self) -> str:
        if self.bound <= self.value * (1.0 + 1e-6):
            return f"{self.value:.5g} | {self.seconds:.1f}"
        gap = f", gap {self.bound / self.value - 1.0:.0%}" if self.value > 0.0 else ""
        return f"{self.value:.5g} to {self.bound:.5g}{gap} | {self.seconds:.1f}"


def by_search(asked: Steepness, limit: float) -> Interval:
    """Measure our search, including everything done before it."""
    begun = time.process_time()
    found = steepest(asked, time_limit=limit)
    return Interval(found.value, found.bound, time.process_time() - begun)


def by_highs(asked: Steepness, bounded: Bounded, limit: float) -> Interval:
    """Measure a mixed-integer program, or as many as the norm requires."""
    begun, scaled = time.process_time(), bounded.scaled
    half = scaled.half[scaled.free]
    if asked.norm == 1:
        columns = [sign * column for column in np.eye(len(half)) for sign in (1.0, -1.0)]
        ways = [(column, column) for column in columns]
    else:
        ways = [(-np.ones(len(half)), np.ones(len(half)))]
    found = [greatest_slope(scaled, low / half, high / half, limit / len(ways)) for low, high in ways]
    return Interval(max(each[0] for each in found), max(each[1] for each in found), time.process_time() - begun)


def greatest_slope(
    scaled: ScaledProgram, low: Float[np.ndarray, "free"], high: Float[np.ndarray, "free"], limit: float
) -> tuple[float, float]:
    """Return the greatest slope of the first output in directions between two ends, and a bound of it.

    Variables are inputs v, the direction d, and for each neuron h = a z, the share a, and its change p = a y. With
    bounds of z and y, both products are exact for a in {0, 1} (the "big-M" formulation).
    """
    import highspy

    n, count, endless = len(low), len(scaled.neurons), highspy.kHighsInf
    highs = highspy.Highs()
    for option, value in {"output_flag": False, "time_limit": limit, "threads": 1}.items():
        highs.setOptionValue(option, value)
    least, most = np.concatenate([low, np.zeros(count)]), np.concatenate([high, np.zeros(count)])
    ends = np.zeros((count, 2))
    for k, weight in enumerate(scaled.weights):
        up, down = np.maximum(weight, 0.0), np.minimum(weight, 0.0)
        ends[k] = up @ least + down @ most, up @ most + down @ least
        least[n + k], most[n + k] = min(ends[k, 0], 0.0), max(ends[k, 1], 0.0)
    lower = np.concatenate([-np.ones(n), low, np.zeros(2 * count), least[n:]])
    upper = np.concatenate([np.ones(n), high, scaled.high, np.ones(count), most[n:]])
    for ends_of in zip(lower, upper, strict=True):
        highs.addVar(*ends_of)
    h, a, p = (2 * n + k * count for k in range(3))

    def at_most(columns: list[int], values: list[float], side: float) -> None:
        chosen = [k for k, value in enumerate(values) if value != 0.0]
        index, entries = np.array(columns, dtype=np.int32)[chosen], np.array(values)[chosen]
        highs.addRow(-endless, side, len(chosen), index, entries)

    for k, weight in enumerate(scaled.weights):
        reads_z = [*range(n), *range(h, h + count)]
        reads_y = [*range(n, 2 * n), *range(p, p + count)]
        z, bias, below, above = weight.tolist(), float(scaled.biases[k]), float(scaled.low[k]), float(scaled.high[k])
        minus = [-value for value in z]
        at_most([*reads_z, h + k], [*z, -1.0], -bias)
        at_most([h + k, a + k], [1.0, -above], 0.0)
        at_most([*reads_z, h + k, a + k], [*minus, 1.0, -below], bias - below)
        at_most([p + k, a + k], [1.0, -ends[k, 1]], 0.0)
        at_most([p + k, a + k], [-1.0, ends[k, 0]], 0.0)
        at_most([*reads_y, p + k, a + k], [*minus, 1.0, -ends[k, 0]], -ends[k, 0])
        at_most([*reads_y, p + k, a + k], [*z, -1.0, ends[k, 1]], ends[k, 1])
        highs.changeColIntegrality(a + k, highspy.HighsVarType.kInteger)
    for k, value in enumerate(scaled.outputs[0, :-1].tolist()):
        highs.changeColCost(n + k if k < n else p + k - n, value)
    highs.changeObjectiveSense(highspy.ObjSense.kMaximize)
    highs.run()
    info = highs.getInfo()
    value = info.objective_function_value
    return (value if abs(value) < endless else 0.0), info.mip_dual_bound


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", default=NETWORKS)
    parser.add_argument("--norms", nargs="+", type=float, default=[1.0, 2.0, math.inf])
    parser.add_argument("--limit", type=float, default=60.0, help="seconds for each")
    arguments = parser.parse_args()
    print("| network | norm | search | s | HiGHS | s |\n|---|--:|--:|--:|--:|--:|")
    for name in arguments.networks:
        model, box = named(name)
        program = read_model(model, domain=box)
        bounded = Bounded.of(program, box)
        prepare(Posed(program, box), 1)
        for norm in arguments.norms:
            asked = Steepness(program, box, norm)
            steepest(asked, bounded, points=(), time_limit=0.01)
            ours = by_search(asked, arguments.limit)
            theirs = "none |" if norm == 2.0 else by_highs(asked, bounded, arguments.limit)
            print(f"| {name} | {norm:g} | {ours} | {theirs} |", flush=True)


if __name__ == "__main__":
    main()
