"""Certificates of visited regions pass, and fail where something was changed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from tests.modules.visiting import SMALL, points_of, visited_of
from tests.zoo import Specimen, chain
from torch_shallow import TransformError
from torch_shallow.certify import certify
from torch_shallow.modules.visited_relu import VisitedReLU


@pytest.mark.parametrize("specimen", SMALL, ids=str)
def test_certificates_pass(specimen: Specimen) -> None:
    shallow = visited_of(specimen.model(), points_of(specimen, 50), specimen.domain)
    certificate = certify(shallow, specimen.model(), sample=20, points=300).require()
    assert certificate["deep Jacobian"].examined == min(20, shallow.num_regions)
    assert certificate["equal, visiting inputs"].examined == shallow.num_regions


def change_a_weight(shallow: VisitedReLU) -> None:
    shallow.local_models.weights[3, 0, 0] += 1e-3


def change_a_pattern(shallow: VisitedReLU) -> None:
    shallow.known_patterns.packed[3, 0] ^= 128
    shallow.known_patterns._forget()


def repeat_a_pattern(shallow: VisitedReLU) -> None:
    shallow.known_patterns.packed[3] = shallow.known_patterns.packed[2]
    shallow.known_patterns._forget()


def change_the_neurons(shallow: VisitedReLU) -> None:
    with torch.no_grad():
        shallow.neurons.root[0].bias += 0.5


@pytest.mark.parametrize(
    ("tamper", "checks"),
    [
        (change_a_weight, {"deep Jacobian", "equal, visiting inputs", "equal, inside", "equal, facets"}),
        (change_a_pattern, {"deep pattern", "located"}),
        (repeat_a_pattern, {"different", "deep pattern", "located"}),
        (change_the_neurons, {"located", "known or NaN"}),
    ],
)
def test_tampering_is_found(tamper: Callable[[VisitedReLU], None], checks: set[str]) -> None:
    torch.manual_seed(0)
    model = chain(2, 6, 5, 2).double()
    shallow = visited_of(model, torch.randn(50, 2, dtype=torch.float64))
    assert certify(shallow, model, points=500).passed
    tamper(shallow)
    certificate = certify(shallow, model, points=500)
    assert checks <= {check.name for check in certificate.checks if not check.passed}


def test_another_model_is_found() -> None:
    x = torch.randn(50, 2)
    shallow = visited_of(chain(2, 6, 1), x)
    assert not shallow.certify(chain(2, 6, 1)).passed
    assert not shallow.certify(chain(2, 7, 1)).passed
    with pytest.raises(TransformError, match="certify with the model that was transformed"):
        shallow.certify(chain(2, 6, 2))
