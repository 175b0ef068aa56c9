"""Enumeration by each tool: one function per tool runs a case by its fastest documented way and returns the regions.

The tools are imported only when used, so that each runs alone in its process.
"""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.networks import Case


class Unavailable(RuntimeError):
    """Error of a tool that cannot run here, or not on this case; the message says why."""


@dataclass(frozen=True)
class Outcome:
    """Result of one enumeration.

    Attributes:
        regions: Number of activation regions.
        processes: Number of threads or processes used, possibly fewer than asked for.
        seconds: Time measured by the tool's own process, if starting it is not part of the work; else None.
    """

    regions: int
    processes: int
    seconds: float | None = None


def torch_shallow_regions(case: Case, processes: int) -> Outcome:
    """Enumerate with this package: the whole `transform` call, including tracing and checks."""
    import torch_shallow

    domain = None if case.box is None else torch_shallow.Box(*case.box.T)
    options: dict[str, Any] = {}
    if processes > 1 and "workers" in inspect.signature(torch_shallow.transform).parameters:
        options["workers"] = processes
    shallow = torch_shallow.transform(case.model, domain=domain, **options)
    return Outcome(int(shallow.num_regions), options.get("workers", 1))


def affinitree_regions(case: Case, processes: int) -> Outcome:
    """Enumerate with affinitree's `from_layers`, which removes infeasible paths; it has one thread and no domain.

    Raises:
        Unavailable: The case has a box, or more than one process is asked for.
    """
    if case.box is not None or processes != 1:
        raise Unavailable("affinitree: compared on R^n with one thread")
    return Outcome(int(affinitree_tree(case).num_terminals()), 1)


def affinitree_tree(case: Case) -> Any:  # the type stubs of affinitree 0.23 lack `self` and defaults
    """Return affinitree's decision tree for a network on R^n."""
    affinitree = import_module("affinitree")
    return affinitree.builder.from_layers(affinitree.extract_pytorch_architecture(case.num_inputs, case.model))


def relucent_regions(case: Case, processes: int) -> Outcome:
    """Enumerate with relucent: breadth-first search over all cells, without its final certification.

    Raises:
        Unavailable: The case has a box, or the search ended before all cells were seen.
    """
    if case.box is not None:
        raise Unavailable("relucent: compared on R^n")
    import relucent

    cells = relucent.Complex(case.model)
    search = cells.bfs(nworkers=processes, verify=False, verbose=0)
    if not search.complete:
        raise Unavailable(f"relucent: incomplete after {len(cells)} cells")
    return Outcome(len(cells), processes)


def nnenum_regions(case: Case, processes: int) -> Outcome:
    """Enumerate with nnenum, exactly and without a specification, with default settings; leaf stars are counted.

    It needs a checkout, whose path is in the environment variable `NNENUM`, and a Python with its requirements, which
    `NNENUM_PYTHON` names (default: this one). Its own process reads the layers in float64 and measures the time.

    Raises:
        Unavailable: The case is not a box, there is no checkout, or nnenum failed.
    """
    checkout = os.environ.get("NNENUM", "")
    if case.box is None:
        raise Unavailable("nnenum: needs a bounded box")
    if not (Path(checkout) / "src" / "nnenum").is_dir():
        raise Unavailable(f"nnenum: no checkout at {checkout!r}; name one by --nnenum or NNENUM")
    arrays: dict[str, Any] = {"box": case.box}
    for number, (weight, bias) in enumerate(case.layers()):
        arrays |= {f"weight_{number}": weight, f"bias_{number}": bias}
    with tempfile.TemporaryDirectory() as folder:
        network, result = Path(folder) / "network.npz", Path(folder) / "result.json"
        np.savez(network, **arrays)
        script = Path(__file__).with_name("nnenum_process.py")
        python = os.environ.get("NNENUM_PYTHON", sys.executable)
        command = [python, *map(str, (script, checkout, network, result, processes))]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise Unavailable(f"nnenum: {(done.stderr.strip() or 'no message').splitlines()[-1]}")
        found = json.loads(result.read_text())
    return Outcome(found["regions"], processes, found["seconds"])


TOOLS: dict[str, Callable[[Case, int], Outcome]] = {
    "torch_shallow": torch_shallow_regions,
    "affinitree": affinitree_regions,
    "relucent": relucent_regions,
    "nnenum": nnenum_regions,
}
