"""One function for each tool: it enumerates a case once, by its fastest documented way, and returns the regions.

The tools are imported where they are used, so that each runs alone in its process.
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
    """A tool that cannot run here, or not on this case; the message says why."""


@dataclass(frozen=True)
class Outcome:
    """What one enumeration gave.

    Attributes:
        regions: number of activation regions.
        processes: threads or processes that were at work, which may be fewer than asked for.
        seconds: measured by the tool's own process, where starting it is not part of the work; else None.
    """

    regions: int
    processes: int
    seconds: float | None = None


def torch_shallow_regions(case: Case, processes: int) -> Outcome:
    """This package: the whole `transform` call, tracing and checks included."""
    import torch_shallow

    domain = None if case.box is None else torch_shallow.Box(*case.box.T)
    options: dict[str, Any] = {}
    if processes > 1 and "workers" in inspect.signature(torch_shallow.transform).parameters:
        options["workers"] = processes
    shallow = torch_shallow.transform(case.model, domain=domain, **options)
    return Outcome(int(shallow.num_regions), options.get("workers", 1))


def affinitree_regions(case: Case, processes: int) -> Outcome:
    """affinitree: `from_layers`, which removes infeasible paths as it composes. It has one thread and no domain.

    Raises:
        Unavailable: the case has a box, or more than one process is asked for.
    """
    if case.box is not None or processes != 1:
        raise Unavailable("affinitree: compared on R^n with one thread")
    return Outcome(int(affinitree_tree(case).num_terminals()), 1)


def affinitree_tree(case: Case) -> Any:  # the type stubs of affinitree 0.23 lack `self` and defaults
    """The decision tree of affinitree for a network on R^n."""
    affinitree = import_module("affinitree")
    return affinitree.builder.from_layers(affinitree.extract_pytorch_architecture(case.num_inputs, case.model))


def relucent_regions(case: Case, processes: int) -> Outcome:
    """relucent: breadth-first search over all cells, without its final certification, which would cost extra.

    Raises:
        Unavailable: the case has a box, or the search ended before all cells were seen.
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
    """nnenum: exact enumeration without a specification, its other settings at their defaults; leaf stars counted.

    It needs a checkout, whose path is in the environment variable `NNENUM`, and a Python with its requirements, which
    `NNENUM_PYTHON` names (default: this one). Its own process reads the layers in float64 and takes the time.

    Raises:
        Unavailable: the case is not a box, there is no checkout, or nnenum failed.
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
