"""Signs that neurons can have in a bounded domain, from proven bounds, sample points, and a search for the rest."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float

from torch_shallow.bounds.relaxation import RelaxedBounds, relaxed_bounds
from torch_shallow.domain import Domain
from torch_shallow.explain.asking import Asking
from torch_shallow.program.relu_program import ReLUProgram
from torch_shallow.search.question import Posed

POINTS = 512  # sample points, always the same
ROUNDING = 1e-10  # share of the terms that a value is summed from below which it counts as zero


@dataclass(frozen=True, eq=False)
class Signs:
    """Known signs of each neuron of a program; nothing is known where all are false.

    Attributes:
        positive: whether the pre-activation is positive somewhere.
        negative: whether the pre-activation is negative somewhere.
        never_positive: whether it is proven to be nowhere positive, up to rounding.
        never_negative: whether it is proven to be nowhere negative, up to rounding.
    """

    positive: Bool[np.ndarray, "neurons"]
    negative: Bool[np.ndarray, "neurons"]
    never_positive: Bool[np.ndarray, "neurons"]
    never_negative: Bool[np.ndarray, "neurons"]

    @property
    def dead(self) -> Bool[np.ndarray, "neurons"]:
        """Neurons that are active nowhere."""
        return self.never_positive

    @property
    def always_on(self) -> Bool[np.ndarray, "neurons"]:
        """Neurons that are active everywhere."""
        return self.never_negative & self.positive

    @property
    def undecided(self) -> Bool[np.ndarray, "neurons"]:
        """Neurons that are not known to be dead, always on, or of both signs."""
        return ~(self.dead | self.always_on | self.positive & self.negative)


def signs_of(program: ReLUProgram, domain: Domain, asking: Asking) -> Signs:
    """Find the signs that each neuron can have.

    Args:
        program: the network, valid on the whole domain.
        domain: the domain; bounded.
        asking: the run of questions; if it is stopped, the remaining signs are unknown.
    """
    bounds = relaxed_bounds(program, domain)
    zero = ROUNDING * _terms(program, bounds)
    z = program.preactivations(_points(domain, program, bounds))
    signs = Signs(np.any(z > zero, axis=0), np.any(z < -zero, axis=0), bounds.upper <= zero, bounds.lower >= -zero)
    for neuron in range(program.num_neurons):
        for sign, seen, never in (
            (1, signs.positive, signs.never_positive),
            (-1, signs.negative, signs.never_negative),
        ):
            if seen[neuron] or never[neuron] or signs.dead[neuron]:
                continue
            posed = Posed(neuron_of(program, neuron, sign), domain, floor=zero[neuron], enough=zero[neuron])
            found = asking.ask(posed)
            if found is None:
                return signs
            if found.x is not None:  # this point may settle other neurons too
                z = program.preactivations(found.x[None])[0]
                signs.positive[:] |= z > zero
                signs.negative[:] |= z < -zero
            if found.x is None and not found.reason:
                never[neuron] = True
    return signs


def negative_at(program: ReLUProgram, x: Float[np.ndarray, "points inputs"]) -> Bool[np.ndarray, "points neurons"]:
    """Which pre-activations are negative by more than the rounding of the terms that they are summed from."""
    z = program.preactivations(x)
    sources, terms = np.abs(np.concatenate([x, np.maximum(z, 0.0)], axis=1)), [np.zeros((len(x), 0))]
    for stage in program.stages:
        terms.append(sources[:, : stage.weight.shape[1]] @ np.abs(stage.weight).T + np.abs(stage.bias))
    negative: Bool[np.ndarray, "points neurons"] = z < -ROUNDING * np.concatenate(terms, axis=1)
    return negative


def neuron_of(program: ReLUProgram, neuron: int, sign: int) -> ReLUProgram:
    """The program whose output is the pre-activation of a neuron, or its negative."""
    stage = int(np.searchsorted(program.offsets, neuron, side="right")) - 1
    own, row = program.stages[stage], neuron - program.offsets[stage]
    return replace(
        program,
        out_shape=(1,),
        stages=program.stages[:stage],
        out_weight=sign * own.weight[row : row + 1],
        out_bias=sign * own.bias[row : row + 1],
        whole=None,
    )


def _terms(program: ReLUProgram, bounds: RelaxedBounds) -> Float[np.ndarray, "neurons"]:
    """Upper bound on the size of the terms that each neuron is summed from."""
    hidden = np.maximum(bounds.upper, 0.0)
    size = np.concatenate([np.maximum(np.abs(bounds.in_lower), np.abs(bounds.in_upper)), hidden])
    return np.concatenate(
        [
            np.zeros(0),
            *(np.abs(stage.weight) @ size[: stage.weight.shape[1]] + np.abs(stage.bias) for stage in program.stages),
        ]
    )


def _points(domain: Domain, program: ReLUProgram, bounds: RelaxedBounds) -> Float[np.ndarray, "points inputs"]:
    """Points of the domain: the middle of its bounding box, corners and random points, as far as they are inside."""
    rng, d = np.random.default_rng(0), program.num_inputs
    shares = np.concatenate([np.full((1, d), 0.5), rng.random((POINTS, d)), rng.integers(0, 2, (POINTS, d))])
    x = bounds.in_lower + shares * (bounds.in_upper - bounds.in_lower)
    x = np.clip(x, bounds.in_lower, bounds.in_upper)
    return x[domain.contains(torch.from_numpy(x), 0.0).numpy()]
