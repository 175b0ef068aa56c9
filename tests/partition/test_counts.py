"""The number of activation regions, where mathematics or independent tools know it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from torch import nn

from tests import arrangements
from tests.zoo import ARCHITECTURES, ARRANGEMENTS, DEEP, DEGENERATE, Specimen, random_mlp, tent
from torch_shallow.domain import Box, Domain, WholeSpace
from torch_shallow.partition.enumerate import METHODS, enumerate_regions
from torch_shallow.partition.partition import Partition
from torch_shallow.trace.reader import read_model

DATA = Path(__file__).parents[3] / "shared" / "data"
KNOWN = [s for s in (*ARRANGEMENTS, *DEEP, *DEGENERATE, *ARCHITECTURES) if s.regions is not None]


def partition_of(model: nn.Module, domain: Domain, method: str) -> Partition:
    partition = enumerate_regions(read_model(model), domain, method=method)
    assert partition.num_cuts == partition.num_regions - 1
    assert sum(partition.method.values()) == partition.num_regions
    return partition


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("specimen", KNOWN, ids=str)
def test_counts_that_mathematics_knows(specimen: Specimen, method: str) -> None:
    assert partition_of(specimen.model(), specimen.domain, method).num_regions == specimen.regions


def truth(section: str) -> dict[str, int]:
    """The counts of a section; none, with the reason in the name of the skipped test, if the file is not there."""
    path = DATA / "truth" / "counts.json"
    if not path.exists():
        return {}
    return {name: count for name, count in json.loads(path.read_text())[section].items() if name != "_"}


def cases(section: str, slow: set[tuple[str, str]]) -> list[object]:
    """Each count of a section with each method."""
    if not truth(section):
        return [pytest.param("", 0, "", marks=pytest.mark.skip(reason=f"{DATA} is not there"), id="no data")]
    return [
        pytest.param(name, count, method, marks=[pytest.mark.slow] if (name, method) in slow else [])
        for name, count in truth(section).items()
        for method in METHODS
    ]


# A box of ten dimensions has 1024 vertices: here rays are not the way.
SLOW_RANDOM = {(name, "double-description") for name in ("10-10-10-1 on [-1,1]^10", "12-12-1 on [-1,1]^12")}


@pytest.mark.parametrize(("name", "count", "method"), cases("random mlp", SLOW_RANDOM))
def test_counts_of_random_networks(name: str, count: int, method: str) -> None:
    widths, where = name.split(" on ")
    domain = Box(-1.0, 1.0) if where.startswith("[-1,1]") else WholeSpace()
    model = random_mlp([int(width) for width in widths.split("-")]).model()
    assert partition_of(model, domain, method).num_regions == count


SLOW_ACAS_XU = {("3_3 property 9", method) for method in METHODS}


@pytest.mark.parametrize(("name", "count", "method"), cases("acasxu", SLOW_ACAS_XU))
def test_counts_of_acas_xu(name: str, count: int, method: str) -> None:
    pytest.importorskip("onnx")
    from benchmarks.networks import load

    case = load(f"ACAS Xu {name}", DATA / "acasxu")
    assert case.box is not None
    assert partition_of(case.model, Box(case.box[:, 0], case.box[:, 1]), method).num_regions == count


def test_the_formulas_give_the_counts_of_the_file() -> None:
    known = truth("arrangements")
    if not known:
        pytest.skip(f"{DATA} is not there")
    families = {"braid": arrangements.braid, "type B": arrangements.type_b, "Shi": arrangements.shi}
    checked = 0
    for name, counts in known.items():
        if isinstance(counts, dict):
            family = families[next(key for key in families if name.startswith(key))]
            for size, count in counts.items():
                assert family(int(size)).regions == count
                checked += 1
    assert checked == 11


@pytest.mark.parametrize("method", METHODS)
def test_the_largest_arrangement_of_the_file(method: str) -> None:
    specimen = arrangements.shi(6)
    assert partition_of(specimen.module(), WholeSpace(), method).num_regions == specimen.regions == 16807


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("family", [arrangements.type_d, arrangements.catalan, arrangements.semiorder])
def test_larger_arrangements(family: object, method: str) -> None:
    specimen = family(6)
    assert partition_of(specimen.module(), WholeSpace(), method).num_regions == specimen.regions


def test_the_resonance_arrangement_in_five_dimensions() -> None:
    specimen = arrangements.resonance(5)
    assert partition_of(specimen.module(), WholeSpace(), "auto").num_regions == specimen.regions


def test_tents_have_the_linear_pieces_of_the_file() -> None:
    known = truth("deep")
    if not known:
        pytest.skip(f"{DATA} is not there")
    pieces = next(counts for name, counts in known.items() if isinstance(counts, list) and re.search("on R", name))
    for depth, count in enumerate(pieces, start=1):
        assert partition_of(tent(depth), WholeSpace(), "auto").num_regions == count
