"""Time per region of wide networks, by each engine: `python -m benchmarks.wide [--against CHECKOUT]`.

It is the processor time of the walk alone, on one thread, over the first regions found: the same ones for each engine
setting in both checkouts, as long as cuts are made in the same order. With `--against`, the same is measured with the
package of another checkout, in turn, and the table has the ratio of the medians. With `--whole`, it is the processor
time of `transform(..., max_regions=)`, which any checkout has, from the module to the shallow network.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data"
FILES = {  # network and property for each benchmark of the competition
    "robot": ("reach_prob_density/robot.onnx", "reach_prob_density/robot_0.vnnlib"),
    "gcas": ("reach_prob_density/gcas.onnx", "reach_prob_density/gcas_0.vnnlib"),
    "dubinsrejoin": ("rl_benchmarks/dubinsrejoin.onnx", "rl_benchmarks/dubinsrejoin_case_safe_0.vnnlib"),
    "tllverifybench N=16": (
        "tllverifybench/tllBench_n=2_N=M=16_m=1_instance_1_0.onnx",
        "tllverifybench/property_N=16_0.vnnlib",
    ),
    "tllverifybench N=24": (
        "tllverifybench/tllBench_n=2_N=M=24_m=1_instance_2_0.onnx",
        "tllverifybench/property_N=24_0.vnnlib",
    ),
}
CASES = {  # number of regions to find
    "6-32-32-1 on [-1,1]^6": 100_000,
    "8-32-32-1 on [-1,1]^8": 50_000,
    "10-64-64-1 on [-1,1]^10": 15_000,
    "robot": 300_000,
    "gcas": 30_000,
    "dubinsrejoin": 15_000,
    "tllverifybench N=16": 300_000,
    "tllverifybench N=24": 300_000,
    "3-16-16-1": 10_000,
    "4-10-10-1": 10_000,
    "6-8-8-1": 20_000,
    "10-8-8-1": 20_000,
    "20-10-10-1": 150_000,
    "5-16-16-1": 300_000,
    "6-16-16-1": 300_000,
    "8-32-32-1": 30_000,
    "9-16-16-1": 20_000,
    "12-16-16-1": 10_000,
}
METHODS = ("auto", "double-description", "lp")
SLOW = {("gcas", "double-description")}  # milliseconds per region


def measured(data: Path, name: str, method: str, regions: int) -> dict[str, Any]:
    """Return the number of regions, and the processor seconds per region, of the imported package."""
    import torch_shallow
    from benchmarks.networks import load
    from torch_shallow.program.model import read_model
    from torch_shallow.search.engines import engines
    from torch_shallow.search.enumerate import pose
    from torch_shallow.search.task_output import Harvest, Quota

    domain: torch_shallow.Box | torch_shallow.WholeSpace
    if name in FILES:
        network, query = (str(data / "vnncomp" / file) for file in FILES[name])
        domain = torch_shallow.read_vnnlib(query).domain
        program = read_model(torch_shallow.from_onnx(network), domain=domain)
    else:
        case = load(name)
        domain = torch_shallow.WholeSpace() if case.box is None else torch_shallow.Box(*case.box.T)
        program = read_model(case.model, domain=domain)
    problem = pose(program, domain, method)
    for limit in (20, regions):  # the first time, something may have to be compiled
        harvest = Harvest(Quota(regions=limit))
        run = engines(problem, harvest)
        begun = time.process_time()
        run()
        seconds = time.process_time() - begun
    return {"regions": harvest.num_regions, "seconds": seconds / harvest.num_regions}


def posed(data: Path, name: str) -> dict[str, Any]:
    """Describe a network and its box in plain numbers, for a package of any age."""
    import torch_shallow

    if name in FILES:
        network, query = (str((data / "vnncomp" / file).resolve()) for file in FILES[name])
        box = torch_shallow.read_vnnlib(query).domain
        assert isinstance(box, torch_shallow.Box)
        return {"file": network, "lower": np.ravel(box.lower).tolist(), "upper": np.ravel(box.upper).tolist()}
    widths = [int(width) for width in name.split()[0].split("-")]
    limit = 1.0 if "on" in name else np.inf
    return {"widths": widths, "lower": [-limit] * widths[0], "upper": [limit] * widths[0]}


def transformed(network: dict[str, Any], method: str, regions: int) -> dict[str, Any]:
    """Measure all of `transform`, of the package that is imported."""
    import torch_shallow

    if "file" in network:
        model: Any = torch_shallow.from_onnx(network["file"])
    else:
        torch.manual_seed(0)
        layers = [nn.Linear(*pair) for pair in itertools.pairwise(network["widths"])]
        model = nn.Sequential(*itertools.chain(*((layer, nn.ReLU()) for layer in layers)))[:-1].double()
    lower, upper = np.array(network["lower"]), np.array(network["upper"])
    box = torch_shallow.Box(lower, upper) if np.isfinite(lower).all() else None  # None for all of R^n
    warnings.simplefilter("ignore")
    for limit in (20, regions):  # the first time, something may have to be compiled
        begun = time.process_time()
        shallow = torch_shallow.transform(model, domain=box, method=method, max_regions=limit)
        seconds = time.process_time() - begun
    return {"regions": shallow.num_regions, "seconds": seconds / shallow.num_regions}


def in_process(checkout: Path, data: Path, name: str, method: str, regions: int, *, whole: bool) -> dict[str, Any]:
    """Measure the same in a separate process, with the package of a checkout."""
    environment = os.environ | {"PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(Path(__file__).resolve()), "--data", str(data.resolve()), *["--whole"] * whole]
    command += ["--one", json.dumps(posed(data, name)) if whole else name, method, str(regions)]
    done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.wide", description=__doc__)
    parser.add_argument("--against", type=Path, metavar="CHECKOUT", help="root of another checkout of this repository")
    parser.add_argument("--networks", nargs="+", default=list(CASES), metavar="NAME")
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    parser.add_argument("--whole", action="store_true", help="time all of transform()")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--data", type=Path, default=DATA, metavar="FOLDER", help="with vnncomp")
    parser.add_argument("--one", nargs=3, metavar=("NAME", "METHOD", "REGIONS"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.one:
        name, method, regions = given.one
        whole = transformed(json.loads(name), method, int(regions)) if given.whole else None
        print(json.dumps(whole or measured(given.data, name, method, int(regions))))
        return
    checkouts = [ROOT] if given.against is None else [ROOT, given.against.resolve()]
    print("| network | engine | regions | us a region |" + (" before | before / now |" if given.against else ""))
    print("|---|---|--:|--:|" + ("--:|--:|" if given.against else ""))
    for name in given.networks:
        for method in given.methods:
            if (name, method) in SLOW:
                continue
            runs = [
                [
                    in_process(checkout, given.data, name, method, CASES[name], whole=given.whole)
                    for checkout in checkouts
                ]
                for _ in range(given.repeats)
            ]
            if len({run["regions"] for pair in runs for run in pair}) != 1:
                raise RuntimeError(f"{name}: expected equal numbers of regions, found {runs}.")
            micros = [1e6 * statistics.median(pair[k]["seconds"] for pair in runs) for k in range(len(checkouts))]
            cells = [name, method, f"{runs[0][0]['regions']:,}", *(f"{each:.3g}" for each in micros)]
            if given.against:
                ratios = [pair[1]["seconds"] / pair[0]["seconds"] for pair in runs]
                cells.append(f"{np.median(ratios):.2g} ({min(ratios):.2g} to {max(ratios):.2g})")
            print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
