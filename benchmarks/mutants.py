"""Faults, put into the package one at a time, and whether a certificate notices each.

`python -m benchmarks.mutants` changes one line of a copy of the package, transforms the models of `tests/zoo.py` with
it and certifies them, all in a separate process, and prints what noticed the fault: a check of a certificate, an
error, or nothing. If nothing did, the regions are counted: if every model has as many as without the fault, the fault
may have had no effect. Slivers of `tests/hard_networks.py` are examined too, provided their certificates pass.

The faulty copy also makes the certificate, so faults in code that both sides use count as well.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

from benchmarks.faults import MUTANTS, Mutant

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "torch_shallow"


def outcomes(method: str, names: list[str], until_caught: bool) -> list[dict[str, Any]]:
    """Transform and certify the zoo and the hard networks; return the result for each model."""
    import torch_shallow

    warnings.simplefilter("ignore")
    found: list[dict[str, Any]] = []
    specimens = (*importlib.import_module("tests.hard_networks").EXAMPLES, *importlib.import_module("tests.zoo").ALL)
    for specimen in specimens:
        if names and specimen.name not in names:
            continue
        line: dict[str, Any] = {"name": specimen.name, "regions": None, "caught": None}
        try:
            model = specimen.model()
            shallow = torch_shallow.transform(model, specimen.example(), domain=specimen.domain, method=method)
            line["regions"] = shallow.num_regions
            certificate = shallow.certify(model)
            line["caught"] = next((check.name for check in certificate.checks if not check.passed), None)
        except Exception as error:
            line["caught"] = f"{type(error).__name__}: {str(error).splitlines()[0][:80] if str(error) else ''}"
        found.append(line)
        if until_caught and line["caught"] is not None:
            break
    return found


def run(folder: Path, method: str, names: list[str], *, until_caught: bool, limit: float) -> list[dict[str, Any]] | str:
    """Return the outcomes with the package of a folder, in a separate process, or the reason why there are none."""
    result = folder / "outcomes.json"
    result.unlink(missing_ok=True)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(Path(__file__)), "--into", str(result), "--method", method, "--models", *names]
    try:
        done = subprocess.run(
            [*command, *["--until-caught"] * until_caught],
            cwd=folder,
            env=environment,
            timeout=limit,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"not done in {limit:.0f} s"
    if result.exists():
        return list(json.loads(result.read_text(encoding="utf-8")))
    if done.returncode < 0:
        return f"ended by signal {-done.returncode}"
    lines = done.stderr.decode(errors="replace").strip().splitlines()
    return lines[-1][:100] if lines else f"ended with status {done.returncode}"


def copy_package(folder: Path, source: Path) -> None:
    """Copy the package into a folder, with its compiled functions."""
    shutil.copytree(source / PACKAGE, folder / PACKAGE)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=[], help="names of faults")
    parser.add_argument("--models", nargs="*", default=[], help="names of models; all if none")
    parser.add_argument("--limit", type=float, default=600.0, help="seconds for each fault")
    parser.add_argument("--into", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--method", default="auto", help=argparse.SUPPRESS)
    parser.add_argument("--until-caught", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.into is not None:
        found = outcomes(options.method, options.models, options.until_caught)
        options.into.write_text(json.dumps(found), encoding="utf-8")
        return
    with tempfile.TemporaryDirectory() as name:
        base = Path(name) / "base"
        copy_package(base, ROOT)
        right = {}
        for method in ("auto", "lp"):
            lines = run(base, method, options.models, until_caught=False, limit=3 * options.limit)
            if isinstance(lines, str):
                raise SystemExit(f"without any fault, by {method}: {lines}")
            right[method] = {line["name"]: line["regions"] for line in lines if not line["caught"]}
            left_out = ", ".join(line["name"] for line in lines if line["caught"])
            print(f"By {method}, {len(right[method])} models pass without any fault; left out: {left_out or 'none'}.\n")
        print("| fault | file | noticed by | in |\n|---|---|---|---|")
        missed = 0
        for mutant in MUTANTS:
            if options.only and mutant.name not in options.only:
                continue
            folder = Path(name) / "mutant"
            shutil.rmtree(folder, ignore_errors=True)
            copy_package(folder, base)
            mutant.apply(folder)
            lines = run(folder, mutant.method, list(right[mutant.method]), until_caught=True, limit=options.limit)
            print(described(mutant, lines, right[mutant.method]), flush=True)
            missed += not isinstance(lines, str) and not lines[-1]["caught"]
        print(f"\n{missed} faults were not noticed.")


def described(mutant: Mutant, lines: list[dict[str, Any]] | str, right: dict[str, int]) -> str:
    """Return a line of the table."""
    if isinstance(lines, str):
        return f"| {mutant.name} | {mutant.file} | {lines} | |"
    last = lines[-1]
    if last["caught"]:
        return f"| {mutant.name} | {mutant.file} | {last['caught']} | {last['name']} |"
    other = [line["name"] for line in lines if line["regions"] != right[line["name"]]]
    effect = f"other regions in {', '.join(other[:3])}" if other else "the same regions everywhere"
    return f"| {mutant.name} | {mutant.file} | **nothing**: {effect} | all {len(lines)} models |"


if __name__ == "__main__":
    main()
