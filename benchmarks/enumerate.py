"""Enumeration compared with peers: `python -m benchmarks.enumerate [--quick] [--nnenum CHECKOUT]` prints a table."""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.measure import Measurement, measure
from benchmarks.networks import ACAS_XU, ACAS_XU_FOLDER, BOXES, VNN_COMP, WHOLE_SPACE, load
from benchmarks.wide import DATA

SMALL = 20_000  # regions
PEERS = ("affinitree", "relucent", "nnenum")
HEADER = (
    "| network | domain | regions | threads | ours, s | peer | its threads | peer, s | peer's regions | ratio |\n"
    "|---|---|--:|--:|--:|---|--:|--:|--:|--:|"
)


@dataclass(frozen=True)
class Row:
    """One line of the table: a case, our measurement and a peer's."""

    case: str
    domain: str
    expected: int | None
    peer: str
    ours: Measurement
    theirs: Measurement

    @property
    def ratio(self) -> float:
        """Time of the peer over ours; NaN if one of the two has no result."""
        return self.theirs.seconds / self.ours.seconds

    def as_dict(self) -> dict[str, Any]:
        """Return the row as data; the ratio is None if one of the two has no result."""
        ratio = None if math.isnan(self.ratio) else self.ratio
        return {
            "network": self.case,
            "domain": self.domain,
            "peer": self.peer,
            "threads": self.ours.processes,
            "expected": self.expected,
            "ours": asdict(self.ours),
            "theirs": asdict(self.theirs),
            "ratios": {self.peer: ratio},
        }

    @classmethod
    def of(cls, row: dict[str, Any]) -> Row:
        """Return the row of such data."""
        sides = (Measurement(**row[side]) for side in ("ours", "theirs"))
        return cls(row["network"], row["domain"], row["expected"], row["peer"], *sides)

    def __str__(self) -> str:
        cells = [self.case, self.domain, _count(self.ours, self.expected), str(self.ours.processes)]
        cells += [_time(self.ours), self.peer, str(self.theirs.processes), _time(self.theirs)]
        cells += [_count(self.theirs, self.expected), "" if math.isnan(self.ratio) else f"{self.ratio:.3g}"]
        return f"| {' | '.join(cells)} |"


def _count(measurement: Measurement, expected: int | None) -> str:
    if measurement.regions is None:
        return ""
    wrong = expected is not None and measurement.regions != expected
    return f"{measurement.regions:,}" + (f" (expected {expected:,})" if wrong else "")


def _time(measurement: Measurement) -> str:
    return measurement.problem or f"{measurement.seconds:.3g}"


def plan(peers: list[str], networks: list[str] | None, *, quick: bool) -> Iterator[tuple[str, str, int]]:
    """Yield case, peer and number of threads of each row.

    Args:
        peers: Names of the peers.
        networks: Names of the cases, each compared with every peer that takes its domain; by default all of them,
            except relucent on the large ones, each of which would take it most of an hour.
        quick: Whether to use only the small networks of R^n with affinitree, and the smallest one with relucent.

    Yields:
        The rows in the order of the table.
    """
    acas_xu = ACAS_XU if ACAS_XU_FOLDER.is_dir() else {}
    vnn_comp = VNN_COMP if DATA.is_dir() else {}
    for case in networks or [*WHOLE_SPACE, *BOXES, *acas_xu, *vnn_comp]:
        unbounded = load(case).box is None
        large = networks is None and WHOLE_SPACE.get(case, SMALL) > SMALL
        if quick and networks is None and (large or not unbounded):
            continue
        if unbounded and "affinitree" in peers:
            yield case, "affinitree", 1
        if unbounded and "relucent" in peers and not large and (not quick or case == "3-16-16-1"):
            yield from ((case, "relucent", processes) for processes in (1, 2))
        if not unbounded and "nnenum" in peers:
            yield from ((case, "nnenum", processes) for processes in (1, 2))


def rows(peers: list[str], networks: list[str] | None, *, quick: bool, repeats: int, limit: float) -> Iterator[Row]:
    """Run the plan row by row.

    Args:
        peers: Names of the peers, as for `plan`.
        networks: Names of the cases, as for `plan`.
        quick: Whether to use only the small cases.
        repeats: Number of runs, if short, of which the median is taken.
        limit: Seconds for one tool on one network.

    Yields:
        The rows as they are known.
    """
    ours: dict[tuple[str, int], Measurement] = {}
    for name, peer, processes in plan(peers, networks, quick=quick):
        case, run = load(name), partial(measure, repeats=repeats, limit=limit)
        if (name, processes) not in ours:
            ours[name, processes] = run("torch_shallow", name, processes)
        yield Row(name, case.domain, case.regions, peer, ours[name, processes], run(peer, name, processes))


def table(found: list[dict[str, Any]]) -> str:
    """Return the rows of a record as a table, with the geometric mean of the ratios for each peer."""
    lines = [HEADER, *(str(Row.of(row)) for row in found), ""]
    ratios: dict[str, list[float]] = {}
    for row in map(Row.of, found):
        if not math.isnan(row.ratio):
            ratios.setdefault(f"{row.peer}, {row.ours.processes} at work", []).append(row.ratio)
    for peer, values in ratios.items():
        mean = math.exp(sum(map(math.log, values)) / len(values))
        lines.append(f"{peer}: {len(values)} networks, geometric mean {mean:.3g}, least {min(values):.3g}\n")
    return "\n".join(lines)


def main() -> None:
    """Print each row as soon as it is known, then the geometric mean of the ratios for each peer."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.enumerate", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small networks of R^n only: a few minutes")
    parser.add_argument("--peers", nargs="+", default=PEERS, metavar="PEER")
    parser.add_argument("--networks", nargs="+", metavar="NAME", help="cases by name; default: all")
    parser.add_argument("--nnenum", metavar="CHECKOUT", help="nnenum's repository; or set NNENUM")
    parser.add_argument("--nnenum-python", metavar="PATH", help="a Python with nnenum's requirements; or NNENUM_PYTHON")
    parser.add_argument("--repeats", type=int, default=7, help="repeats of short runs, of which the median is taken")
    parser.add_argument("--limit", type=float, default=300.0, help="seconds for one tool on one network")
    arguments = parser.parse_args()
    for variable, value in (("NNENUM", arguments.nnenum), ("NNENUM_PYTHON", arguments.nnenum_python)):
        if value is not None:
            os.environ[variable] = str(Path(value).absolute())

    found = []
    print(HEADER)
    options = {"quick": arguments.quick, "repeats": arguments.repeats, "limit": arguments.limit}
    for row in rows(list(arguments.peers), arguments.networks, **options):
        print(row, flush=True)
        found.append(row.as_dict())
    print()
    if not ACAS_XU_FOLDER.is_dir():
        print(f"ACAS Xu left out: its files are not at {ACAS_XU_FOLDER}")
    print(table(found).split("\n\n", 1)[1])


if __name__ == "__main__":
    main()
