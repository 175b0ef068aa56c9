"""Networks that are hard for floating point, judged in exact rational arithmetic.

`python -m benchmarks.exactness` prints a table with a line for each family of `tests/hard_networks.py`: how many
networks have a number of regions that differs from exact arithmetic, are off by more than rounding, or exceed the
error that they state, and how many certificates wrongly pass or fail.
"""

from __future__ import annotations

import argparse
import warnings

from benchmarks.judgement import KINDS, Judgement, judge
from tests.hard_networks import EXAMPLES, FAMILIES, OVERFLOWING, hard_network


def row(family: str, found: list[Judgement]) -> str:
    """Return the line of a family."""
    counts = [len(found), *(sum(kind in one.kinds for one in found) for kind in KINDS)]
    worst = max((float(one.error.relative) for one in found if one.error is not None), default=0.0)
    seconds = [1e3 * sum(one.seconds[k] for one in found) / len(found) for k in (0, 1)]
    cells = [family, *map(str, counts), f"{worst:.1g}", *(f"{value:.0f} ms" for value in seconds)]
    return f"| {' | '.join(cells)} |"


def described(one: Judgement) -> str:
    """Return what is wrong with one network, in a few lines."""
    found = f"{one.found} regions (right: {one.regions})"
    if one.error is not None:
        found += f", error {float(one.error.value):.2g}, relative {float(one.error.relative):.2g}"
        found += f", local {float(one.error.local):.2g}, in float64 {one.in_float:.2g}, of range {one.range_error:.2g}"
        if one.error.point is not None:
            found += f", at {[float(x) for x in one.error.point]}"
    if one.stated is not None:
        found += f", stated {one.stated:.2g}"
    kinds = ", ".join(KINDS[kind] for kind in one.kinds)
    return f"{one.network}: {kinds}; {found}\n    {one.network!r}\n    {one.problem[:300]}"


def main() -> None:
    """Print the table and, with --list, what is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", type=int, default=300, help="how many random networks, of all families together")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--families", nargs="*", default=list(FAMILIES), choices=list(FAMILIES))
    parser.add_argument("--list", action="store_true", help="each network with which something is wrong")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    heads = ["family", "networks", *KINDS.values(), "largest error", "transform", "certify"]
    print(f"| {' | '.join(heads)} |\n|---|{'--:|' * (len(heads) - 1)}")
    judged = [judge(network) for network in (*EXAMPLES, OVERFLOWING)]
    print(row("examples", judged), flush=True)
    seeds = range(options.first, options.first + -(-options.networks // len(options.families)))
    for family in options.families:
        found = [judge(hard_network(family, seed)) for seed in seeds]
        print(row(family, found), flush=True)
        judged += found
    if options.list:
        for one in judged:
            if one.kinds:
                print(described(one))


if __name__ == "__main__":
    main()
