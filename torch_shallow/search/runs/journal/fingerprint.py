"""What the regions of a run follow from, bit for bit, so that no run goes on from the regions of another."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib.metadata import version

import numpy as np

from torch_shallow.domain import Domain
from torch_shallow.geometry.chart import Chart
from torch_shallow.program.model import hash_tensors
from torch_shallow.program.relu_program import ReLUProgram

Setting = int | float | str | None
# What decides in which order cells are walked, and how numbers are rounded.
_PACKAGES = ("numpy", "scipy", "numba", "llvmlite", "highspy", "cvxpy")


@dataclass(frozen=True)
class Fingerprint:
    """What is to be found, and by what.

    Attributes:
        program: digest of the network.
        domain: digest of the limits of the domain.
        chart: digest of the coordinates, which are computed of both.
        settings: of the enumeration.
        versions: of the packages that do it.
        processor: that it is compiled for.
    """

    program: str
    domain: str
    chart: str
    settings: dict[str, Setting]
    versions: dict[str, str]
    processor: str

    @classmethod
    def of(cls, program: ReLUProgram, chart: Chart, domain: Domain, settings: Mapping[str, Setting]) -> Fingerprint:
        """The fingerprint of a run here and now."""
        arrays = {f"{number}": stage.weight for number, stage in enumerate(program.stages)}
        arrays |= {f"{number} bias": stage.bias for number, stage in enumerate(program.stages)}
        arrays |= {"out": program.out_weight, "out bias": program.out_bias}
        if program.whole is not None:
            arrays |= {"active": program.whole.active, "neurons": program.whole.neurons}
        shapes = {"in": program.in_shape, "out": program.out_shape, "whole": program.whole and program.whole.sizes}
        of_chart = {name: getattr(chart, name) for name in ("origin", "directions", "inequalities", "inner")}
        return cls(
            program=_digest(arrays, shapes),
            domain=_digest({str(number): limit for number, limit in enumerate(domain.limits(program.in_shape))}),
            chart=_digest(of_chart, chart.is_box),
            settings=dict(settings),
            versions=dict(_versions()),
            processor=_processor(),
        )

    def differences(self, found: Fingerprint) -> list[str]:
        """What is different in one that was found in a file, in words."""
        told = [f"another {name}" for name in ("program", "domain") if getattr(self, name) != getattr(found, name)]
        if not told and self.chart != found.chart:
            told = ["other coordinates, which this machine computes otherwise for the same network and domain"]
        return told + _changed(found.settings, self.settings) + _changed(found.versions, self.versions)


def _changed(found: Mapping[str, Setting], here: Mapping[str, Setting]) -> list[str]:
    """Values that are different, as they were and as they are."""
    names = [name for name in sorted({*found, *here}) if _text(found, name) != _text(here, name)]
    return [f"{name} {_text(found, name)} (here {_text(here, name)})" for name in names]


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
    """The processor that numba compiles for: its kind, and a few digits of what it can do."""
    from llvmlite import binding

    features = sha256(binding.get_host_cpu_features().flatten().encode()).hexdigest()
    return f"{binding.get_host_cpu_name()} ({features[:8]})"
