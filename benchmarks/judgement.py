"""Verdict on one network that is hard for floating point, in exact rational arithmetic."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import torch

import torch_shallow
from tests.exact_reference import (
    ROUNDING,
    ExactCell,
    TrueError,
    dot,
    exact_cells,
    exact_value,
    is_bounded,
    output_scales,
    sizes,
    true_error,
)
from tests.hard_networks import HardNetwork
from torch_shallow.explain.globally import output_range

ALLOWED = 1e-9  # relative errors up to this count as none

# Possible faults of a network: the property of `Judgement` that detects each, and its description.
KINDS = {
    "refused": "refused",
    "miscounted": "miscounted",
    "off": "off",
    "off_locally": "off locally",
    "off_in_float": "off in float64",
    "wrong_range": "wrong range",
    "above_stated": "above stated",
    "wrongly_passed": "passed though wrong",
    "wrongly_failed": "failed though right",
    "uncertified": "no certificate",
}


@dataclass(frozen=True)
class Judgement:
    """Verdict on one network.

    Attributes:
        network: The network.
        regions: The right number of regions.
        found: The number that `transform` found; None if it refused.
        error: The exact error; None if `transform` refused.
        in_float: Largest error of the shallow network's float64 output at vertices of regions, relative to the sum of
            the terms there; infinite for NaN.
        range_error: Error of `output_range`, relative to the largest output plus a hundred thousandth of the terms;
            infinite if it refuses, and 0 in an unbounded domain.
        stated: The error that the shallow network states.
        passed: Whether its certificate passed; None if there is none.
        problem: The message of an error, or the first failure of the certificate.
        seconds: Seconds of `transform` and of `certify`.
    """

    network: HardNetwork
    regions: int
    found: int | None = None
    error: TrueError | None = None
    in_float: float = 0.0
    range_error: float = 0.0
    stated: float = math.inf
    passed: bool | None = None
    problem: str = ""
    seconds: tuple[float, float] = (0.0, 0.0)

    @property
    def kinds(self) -> list[str]:
        """Kinds of `KINDS` that apply, by the names of their properties."""
        return [name for name in KINDS if getattr(self, name)]

    @property
    def refused(self) -> bool:
        """Whether there is no shallow network."""
        return self.found is None

    @property
    def miscounted(self) -> bool:
        """Whether regions are missing or superfluous."""
        return not self.refused and self.found != self.regions

    @property
    def off(self) -> bool:
        """Whether the network differs somewhere from the model."""
        return self.error is not None and self.error.relative > ALLOWED

    @property
    def off_locally(self) -> bool:
        """Whether it is off by little relative to the largest output, but by much relative to the point's terms."""
        return not self.off and self.error is not None and self.error.local > ALLOWED

    @property
    def off_in_float(self) -> bool:
        """Whether it is right by its stored numbers, but not when it is called."""
        return not self.off and self.in_float > ALLOWED

    @property
    def wrong_range(self) -> bool:
        """Whether the network is right, but the range of its outputs is not."""
        return not self.off and self.range_error > ALLOWED

    @property
    def above_stated(self) -> bool:
        """Whether the network is further from the model than it says."""
        return self.error is not None and self.error.value > self.stated

    @property
    def uncertified(self) -> bool:
        """Whether there is a shallow network without a certificate."""
        return not self.refused and self.passed is None

    @property
    def wrong(self) -> bool:
        """Whether the network is off by more than rounding, or by more than it states."""
        return self.off or self.above_stated

    @property
    def wrongly_passed(self) -> bool:
        """Whether the certificate of a wrong network passed."""
        return self.passed is True and self.wrong

    @property
    def wrongly_failed(self) -> bool:
        """Whether the certificate of a right network failed."""
        return self.passed is False and not self.wrong


def judge(network: HardNetwork) -> Judgement:
    """Transform and certify a network, and compare it with exact arithmetic."""
    cells = exact_cells(network.layers, network.half_spaces())
    model = network.model()
    start = time.process_time()
    try:
        shallow = torch_shallow.transform(model, domain=network.domain)
    except torch_shallow.TransformError as refusal:
        return Judgement(network, len(cells), problem=str(refusal))
    of_transform = time.process_time() - start
    stated = shallow.max_error
    error = true_error(shallow, network.layers, cells)
    in_float, range_error = _in_float(shallow, network, cells), _range_error(shallow, network, cells)
    start = time.process_time()
    try:
        certificate = shallow.certify(model)
        failed = [f"{check.name}: {check.failures[0]}" for check in certificate.checks if check.failures]
        passed, problem = certificate.passed, "; ".join(failed)
    except torch_shallow.TransformError as unsettled:
        passed, problem = None, str(unsettled)
    seconds = of_transform, time.process_time() - start
    return Judgement(
        network, len(cells), shallow.num_regions, error, in_float, range_error, stated, passed, problem, seconds
    )


@torch.no_grad()
def _in_float(
    shallow: torch_shallow.ShallowReLU, network: HardNetwork, cells: Sequence[ExactCell], most: int = 40
) -> float:
    """Return the largest error of the network's output at vertices of regions that are float64 numbers."""
    vertices = {tuple(Fraction(v, ray[-1]) for v in ray[:-1]) for cell in cells for ray, _ in cell.cone.rays if ray[-1]}
    exact = [x for x in sorted(vertices) if all(abs(v) < 1e300 and Fraction(float(v)) == v for v in x)][:most]
    if not exact:
        return 0.0
    found = shallow(torch.tensor([[float(v) for v in x] for x in exact], dtype=torch.float64)).tolist()
    positive = [([[abs(v) for v in row] for row in w], [abs(v) for v in b]) for w, b in network.layers]
    worst = 0.0
    for x, outputs in zip(exact, found, strict=True):
        terms = exact_value(positive, [abs(v) for v in x])
        for output, right, size in zip(outputs, exact_value(network.layers, x), terms, strict=True):
            apart = abs(Fraction(output) - right) if math.isfinite(output) else math.inf
            worst = max(worst, float(apart / size) if size else (math.inf if apart else 0.0))
    return worst


def _range_error(shallow: torch_shallow.ShallowReLU, network: HardNetwork, cells: Sequence[ExactCell]) -> float:
    """Return the error of `output_range` of a shallow network in a bounded domain."""
    if not is_bounded(cells):
        return 0.0
    try:
        found = output_range(shallow)
    except torch_shallow.TransformError:
        return math.inf
    terms, exponent = sizes(network.layers)
    worst = 0.0
    for i, scale in enumerate(output_scales(cells)):
        at = [(cell, ray) for cell in cells for ray, _ in cell.cone.rays]
        values = [Fraction(dot(cell.outputs[i], ray), ray[-1] << cell.exponent) for cell, ray in at]
        size = max(Fraction(dot(terms[i], tuple(map(abs, ray))), ray[-1] << exponent) for _, ray in at)
        for bound, right in ((found.lower, min(values)), (found.upper, max(values))):
            apart = abs(Fraction(bound.flatten()[i].item()) - right)
            worst = max(worst, float(apart / (scale + ROUNDING * size)) if apart else 0.0)
    return worst
