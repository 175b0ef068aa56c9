"""Record of measurements as data: what was measured, on which machine, with which versions.

`python -m benchmarks.record FILE.json` measures enumeration and forward passes, as `benchmarks.enumerate` and
`benchmarks.forward` do, and writes all rows with the machine. `--tables FILE.json` updates the tables of
`benchmarks/README.md` from a record. `--compare OLD.json NEW.json` compares the ratios to the same peers in two
records and fails if one has fallen by more than a tenth. A ratio is the peer's time over ours, in the same run; the
deep model is the peer of a forward pass.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks import enumerate as enumeration
from benchmarks import forward

Row = dict[str, Any]
Record = dict[str, Any]

PAGE = Path(__file__).parent / "README.md"
PACKAGES = ("torch-shallow", "torch", "numpy", "scipy", "numba", "affinitree", "relucent")
FALLEN = 0.9  # a ratio below this share of the earlier one is slower
TABLES = {"enumerate": enumeration.table, "forward": forward.table}


def machine() -> dict[str, Any]:
    """Return what the measurements depend on, apart from other load on the machine."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=PAGE.parent, capture_output=True, text=True, check=False
    )
    return {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        "commit": commit.stdout.strip(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "system": platform.system(),
        "python": platform.python_version(),
        "versions": found,
    }


def _processor() -> str:
    """Return the name of the processor's model, if the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def collect(networks: Sequence[str] | None, *, quick: bool, repeats: int, limit: float) -> Iterator[tuple[str, Row]]:
    """Measure all rows, one after another.

    Args:
        networks: Names of the networks; by default all that `quick` leaves.
        quick: Whether to measure only small networks.
        repeats: Number of runs, if short, of which the median is taken.
        limit: Seconds for one tool and network.

    Yields:
        The name of a table, and a row of it.
    """
    peers = ["affinitree"] if quick else list(enumeration.PEERS)
    for row in enumeration.rows(peers, list(networks) if networks else None, quick=quick, repeats=repeats, limit=limit):
        yield "enumerate", row.as_dict()
    for case in networks or (forward.NETWORKS[1:3] if quick else forward.NETWORKS):
        for found in forward.rows([case], "2", limit):
            yield "forward", found


def identity(table: str, row: Row) -> tuple[Any, ...]:
    """Return what identifies a row in another record."""
    return (table, *(row.get(name) for name in ("network", "peer", "threads", "dtype")))


def compare(old: Record, new: Record) -> tuple[list[str], bool]:
    """Return lines that compare the ratios shared by two records, and whether one of them has fallen."""
    before = {identity(table, row): row["ratios"] for table, rows in old["tables"].items() for row in rows}
    lines, fallen, shares = [], False, []
    for table, rows in new["tables"].items():
        for row in rows:
            for name, ratio in row["ratios"].items():
                earlier = before.get(identity(table, row), {}).get(name)
                if not earlier or not ratio:
                    continue
                shares.append(ratio / earlier)
                slower = shares[-1] < FALLEN
                fallen = fallen or slower
                told = " ".join(str(part) for part in identity(table, row) if part is not None)
                lines.append(f"{'SLOWER' if slower else '      '} {told}: {name} {earlier:.3g} -> {ratio:.3g}")
    if shares:
        mean = math.exp(sum(map(math.log, shares)) / len(shares))
        lines.append(f"{len(shares)} ratios, in geometric mean {mean:.3g} of those before, least {min(shares):.3g}")
    else:
        lines.append("the records have no ratio in common")
    return lines, fallen


def written(page: str, record: Record) -> str:
    """Return the page with the tables of a record inserted between their marks.

    Raises:
        ValueError: The page has no marks for a table.
    """
    told = record["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in told["versions"].items())
    head = (
        f"{told['date']}, commit {told['commit']}, {told['processor']}, {told['cores']} cores (load {told['load']} at "
        f"the beginning), {told['system']}, Python {told['python']}, {versions}."
    )
    for name, table in TABLES.items():
        start, end = f"<!-- {name} of a record -->\n", f"<!-- end of {name} -->\n"
        if page.count(start) != 1 or page.count(end) != 1:
            raise ValueError(f"README.md: expected one {start.strip()} and one {end.strip()}")
        before, _, rest = page.partition(start)
        page = f"{before}{start}{head}\n\n{table(record['tables'].get(name, []))}\n{end}{rest.partition(end)[2]}"
    return page


def main() -> None:
    """Measure, compare or write tables."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.record", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", nargs="?", type=Path, help="where to write the record")
    parser.add_argument("--tables", type=Path, metavar="FILE", help="update the tables of the README")
    parser.add_argument("--compare", type=Path, nargs=2, metavar=("OLD", "NEW"), help="compare ratios")
    parser.add_argument("--networks", nargs="+", metavar="NAME", help="networks by name; default: all")
    parser.add_argument("--quick", action="store_true", help="small networks alone: some minutes")
    parser.add_argument("--repeats", type=int, default=7, help="repeats of short runs, of which the median is taken")
    parser.add_argument("--limit", type=float, default=300.0, help="seconds for one tool on one network")
    arguments = parser.parse_args()
    if arguments.compare:
        lines, fallen = compare(*(json.loads(path.read_text(encoding="utf-8")) for path in arguments.compare))
        print("\n".join(lines))
        sys.exit(int(fallen))
    if arguments.tables:
        kept = json.loads(arguments.tables.read_text(encoding="utf-8"))
        PAGE.write_text(written(PAGE.read_text(encoding="utf-8"), kept), encoding="utf-8")
        return
    if arguments.file is None:
        parser.error("expected the file of the record, or --tables, or --compare")
    record: Record = {"machine": machine(), "tables": {name: [] for name in TABLES}}
    options = {"quick": arguments.quick, "repeats": arguments.repeats, "limit": arguments.limit}
    for table, row in collect(arguments.networks, **options):
        record["tables"][table].append(row)
        print(" ".join(str(part) for part in identity(table, row) if part is not None), row["ratios"], flush=True)
        arguments.file.write_text(json.dumps(record, indent=1), encoding="utf-8")  # what there is, if it is stopped


if __name__ == "__main__":
    main()
