"""What `estimate` says of a model, and how it refuses."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import torch_shallow
from tests.clock import Clock
from tests.zoo import Specimen, chain, random_mlp
from torch_shallow import Box, Estimate, TransformError, estimate, transform

SMALL = [random_mlp((3, 8, 8, 3)), random_mlp((30, 5, 4, 2)), random_mlp((2, 5, 4, 1), Box(-1.0, 1.0))]


@pytest.mark.parametrize("specimen", SMALL, ids=str)
def test_a_small_model_is_counted(specimen: Specimen) -> None:
    model = specimen.model()
    expected, regions = estimate(model, domain=specimen.domain), transform(model, domain=specimen.domain).num_regions
    assert expected.exact
    assert (expected.regions, expected.standard_error, expected.probes) == (regions, 0.0, 0)
    assert expected.upper_bound >= regions
    assert f"{regions:,} regions (all found)" in str(expected)


@pytest.mark.parametrize("method", ["auto", "lp"])
def test_a_large_model_is_estimated(method: str, clock: Clock) -> None:
    torch.manual_seed(0)
    found = estimate(chain(6, 30, 30, 30, 1), method=method, time_limit=30_000.0 * clock.tick)
    assert not found.exact
    assert found.probes >= 4
    assert 1e6 < found.regions < found.upper_bound
    assert 0.0 < found.standard_error < found.regions
    assert found.seconds > 1.0
    assert found.bytes > 1e6 * 6 * 8
    assert f"{found.probes} probes" in str(found)


def test_no_neuron_is_one_region() -> None:
    found = estimate(nn.Linear(3, 2))
    assert (found.regions, found.exact, found.upper_bound) == (1.0, True, 1)


def test_in_inference_mode() -> None:
    with torch.inference_mode():
        assert estimate(chain(2, 3, 1)).exact


def test_in_words() -> None:
    some = Estimate(12 * 10**30, 338_412.7, 9_123.4, False, 18, 2.04, 3 * 10**8)
    assert str(some) == (
        "about 338,000 regions (standard error 9,100, 18 probes), at most 1.2e+31; "
        "on one thread about 2.04 s and 300 MB"
    )
    large = Estimate(10**400, 4.56e11, 2.8e11, False, 12, 1.1e7, 145 * 10**12)
    assert str(large) == (
        "about 456,000,000,000 regions (standard error 280,000,000,000, 12 probes), at most 1.0e+400; "
        "on one thread about 127 days and 145 TB"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"time_limit": 0.0}, "time_limit: expected a positive number of seconds, found 0.0"),
        ({"seed": -1}, "seed: expected a non-negative integer, found -1"),
        ({"method": "guess"}, "method: expected one of"),
        ({"solver": "none"}, "solver: "),
    ],
)
def test_wrong_arguments(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(TransformError, match=message):
        torch_shallow.estimate(chain(2, 3, 1), **arguments)
