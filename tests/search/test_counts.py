"""The number of activation regions, where mathematics or independent tools know it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from torch import nn

from benchmarks.networks import load
from tests import arrangements
from tests.arrangements import Arrangement
from tests.data import needs_acas_xu
from tests.known_counts import ACAS_XU, BRAID, RANDOM_NETWORKS, SHI, TENTS, TYPE_B
from tests.zoo import ARCHITECTURES, ARRANGEMENTS, DEEP, DEGENERATE, Specimen, random_mlp, tent
from torch_shallow.domain import Box, Domain, WholeSpace
from torch_shallow.program.model import read_model
from torch_shallow.search.enumerate import METHODS, enumerate_regions
from torch_shallow.search.partition import Partition

pytestmark = pytest.mark.quick

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


@pytest.mark.parametrize(
    ("name", "method"),
    [
        pytest.param(name, method, marks=[pytest.mark.slow] if count > most or len(widths) < 4 else [])
        for name, (widths, _, count) in RANDOM_NETWORKS.items()
        for method, most in zip(METHODS, (16_000, 5_000, 5_000), strict=True)
    ],
)
def test_counts_of_random_networks(name: str, method: str) -> None:
    widths, domain, count = RANDOM_NETWORKS[name]
    assert partition_of(random_mlp(widths).model(), domain, method).num_regions == count


@needs_acas_xu
@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ACAS_XU)
def test_counts_of_acas_xu(name: str, method: str) -> None:
    pytest.importorskip("onnx")
    case = load(f"ACAS Xu {name}")
    assert case.box is not None
    domain = Box(case.box[:, 0], case.box[:, 1])
    assert partition_of(case.model, domain, method).num_regions == ACAS_XU[name]


@pytest.mark.parametrize(
    ("family", "counts"),
    [(arrangements.braid, BRAID), (arrangements.type_b, TYPE_B), (arrangements.shi, SHI)],
    ids=["braid", "type B", "Shi"],
)
def test_the_formulas_give_the_counts_of_the_books(
    family: Callable[[int], Arrangement], counts: dict[int, int]
) -> None:
    assert {size: family(size).regions for size in counts} == counts


@pytest.mark.parametrize("method", METHODS)
def test_the_largest_arrangement_of_the_books(method: str) -> None:
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


@pytest.mark.parametrize(("depth", "count"), list(enumerate(TENTS, start=1)))
def test_tents_have_the_linear_pieces_that_a_hand_counts(depth: int, count: int) -> None:
    assert partition_of(tent(depth), WholeSpace(), "auto").num_regions == count
