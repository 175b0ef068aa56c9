"""Identity of a run: everything that determines its regions, bit for bit, so that no run continues another's."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from functools import cache
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

import numpy as np

from torch_shallow.domain import Domain
from torch_shallow.errors import FileError
from torch_shallow.geometry.chart import Chart
from torch_shallow.program.model import hash_tensors
from torch_shallow.program.relu_program import ReLUProgram

FORMAT = 1  # version of the file format
ANOTHER = "choose another path, or delete the file to start over"
Setting = int | float | str | None
_DIGESTS = ("program", "domain", "chart")
# Versions of the libraries that decide the order in which cells are walked and how numbers are rounded.
_PACKAGES = ("numpy", "scipy", "numba", "llvmlite", "highspy", "cvxpy")


def fingerprint_of(
    program: ReLUProgram, chart: Chart | None, domain: Domain, settings: Mapping[str, Setting]
) -> dict[str, Setting]:
    """Return digests, the settings of the enumeration, versions, and the processor: what is sought, and with what."""
    arrays = {f"{number}": stage.weight for number, stage in enumerate(program.stages)}
    arrays |= {f"{number} bias": stage.bias for number, stage in enumerate(program.stages)}
    arrays |= {"out": program.out_weight, "out bias": program.out_bias}
    if program.whole is not None:
        arrays |= {"active": program.whole.active, "neurons": program.whole.neurons}
    shapes = {"in": program.in_shape, "out": program.out_shape, "whole": program.whole and program.whole.sizes}
    names = ("origin", "directions", "inequalities", "inner") if chart else ()
    of_chart = {name: getattr(chart, name) for name in names}
    digests = {
        "program": _digest(arrays, shapes),
        "domain": _digest({str(number): limit for number, limit in enumerate(domain.limits(program.in_shape))}),
        "chart": _digest(of_chart, chart and chart.is_box),
    }
    return {"format": FORMAT, **digests, **settings, **dict(_versions()), "processor": _processor()}


def check_fingerprint(found: Mapping[str, Setting], here: Mapping[str, Setting], path: Path) -> None:
    """Check that a file is of the same regions and in this format; warn if another processor wrote it.

    Args:
        found: Fingerprint in the file.
        here: Fingerprint of this run.
        path: Path of the file.

    Raises:
        FileError: The file is of other regions, or in another format.
    """
    if found["format"] != FORMAT:
        remedy = f"use the version of torch_shallow that wrote it, {ANOTHER}"
        raise FileError(message(path, f"format {FORMAT}", f"format {found['format']}", remedy))
    changed = [name for name in {**here, **found} if _text(found, name) != _text(here, name)]
    told = [f"another {name}" for name in ("program", "domain") if name in changed]
    if not told and "chart" in changed:
        told = ["other coordinates, which this machine computes differently for the same network and domain"]
    values = [name for name in changed if name not in {*_DIGESTS, "processor"}]
    told += [f"{name} {_text(found, name)} (here {_text(here, name)})" for name in values]
    if told:
        raise FileError(message(path, "a checkpoint of the same regions", f"one with {', '.join(told)}", ANOTHER))
    if changed:
        warnings.warn(
            f"checkpoint: {path}: started on a processor {found['processor']}, continues on {here['processor']}: "
            "numbers may differ in their last digits from those of an uninterrupted run.",
            stacklevel=2,
        )


def message(path: Path, expected: str, found: str, remedy: str) -> str:
    """Return the text of an error about a checkpoint."""
    return f"checkpoint: {path}: expected {expected}, found {found}; {remedy}."


def _text(values: Mapping[str, Setting], name: str) -> str:
    return str(values[name]) if name in values else "not set"


def _digest(arrays: Mapping[str, np.ndarray], other: object = None) -> str:
    import torch

    tensors = {name: torch.from_numpy(np.array(array, order="C")) for name, array in arrays.items()}
    return sha256(json.dumps([hash_tensors(tensors), other], default=int).encode()).hexdigest()


@cache
def _versions() -> tuple[tuple[str, str], ...]:
    from torch_shallow.version import VERSION

    return ("torch_shallow", VERSION), *((name, version(name)) for name in _PACKAGES)


@cache
def _processor() -> str:
    """Return the processor that numba compiles for: its type, and a few digits that identify its features."""
    from llvmlite import binding

    features = sha256(binding.get_host_cpu_features().flatten().encode()).hexdigest()
    return f"{binding.get_host_cpu_name()} ({features[:8]})"
