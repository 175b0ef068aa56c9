"""Proven bound of the difference between network and model on every region."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Float

from torch_shallow.certify.equality import Places
from torch_shallow.certify.examined import Examined
from torch_shallow.certify.report import Check, Failure, Tally
from torch_shallow.program.relu_program import ReLUProgram

OF_TERMS = 2.0**-48  # an error of this share of the outputs' terms is that of stored numbers
UNDERFLOW = 1e-280  # exceeds the effect of underflow on a bound, where all terms are 0


def check_error(subject: Examined, program: ReLUProgram, places: list[Places]) -> tuple[Check, Examined]:
    """Bound |network - program| on all regions, and compare it with the sizes of the outputs and of their terms.

    The network is returned with what is proven of it, in regions where that is small enough.

    Args:
        subject: The network.
        program: The program as which the model is read now.
        places: Points that tell how large the outputs are.
    """
    # Imported only when used: compiled code, and the checker, which is a command of its own.
    from torch_shallow.certify.proof_data import proof_data
    from torch_shallow.certify.prover import prove_data
    from torch_shallow.search.problem import ROUNDING

    tally, count = Tally(), subject.num_regions
    claim = "the network is the program of the model at every point of its regions, up to this; proven"
    if program.network.sizes != subject.program.network.sizes:
        message = "the model has {} ReLUs in its stages, the network was made from {}"
        tally.add(Failure(message.format(program.network.sizes, subject.program.network.sizes)))
        return tally.check("proven error", claim, "regions", 0, count), subject
    data = proof_data(subject.function, replace(subject.partition, program=program))
    proof = prove_data(data, keep=False)
    reach = (
        np.maximum(np.abs(data.domain.lower), np.abs(data.domain.upper))
        if data.bounded
        else np.ones(len(data.domain.lower))
    )
    terms = _size_of_terms(program, reach)
    outputs = _size_of_outputs(subject, places, data.bounded)
    limit = max(subject.tolerance * outputs, OF_TERMS * terms) + UNDERFLOW
    tally.measure(proof.errors)
    message = f"the output may be off by {{:.3g}}{proof.unit}, as far as multipliers prove"
    tally.add_where(~(proof.errors <= limit), message, proof.errors, region=range(count))
    note = "relative to 1 + |x|_1" * proof.relative_to_size
    if program.whole is not None:
        note = "of the neurons that can change sign in the box"
    allowed = np.where(proof.errors <= limit, proof.errors, 0.0)
    proven = replace(subject, errors=allowed, errors_grow=proof.relative_to_size, rounding=ROUNDING * terms + UNDERFLOW)
    return tally.check("proven error", claim, "regions", count, count, limit, note), proven


def _size_of_outputs(subject: Examined, places: list[Places], bounded: bool) -> float:
    """Return the largest output at some points, relative to 1 + |x|_1 in an unbounded domain."""
    largest = 0.0
    for some in places:
        for block in subject.blocks(np.arange(len(some.points)), subject.program.num_inputs):
            x = some.points[block]
            sizes = np.abs(subject.evaluate(x)).max(axis=1, initial=0.0)
            sizes = sizes if bounded else sizes / (1.0 + np.abs(x).sum(axis=1))
            largest = max(largest, float(np.nan_to_num(sizes, nan=0.0).max(initial=0.0)))
    return largest


def _size_of_terms(program: ReLUProgram, reach: Float[np.ndarray, "inputs"]) -> float:
    """Return the largest sum of the sizes of all terms of an output, at inputs of the given sizes."""
    with np.errstate(over="ignore"):
        for stage in program.stages:
            reach = np.concatenate([reach, np.abs(stage.weight) @ reach + np.abs(stage.bias)])
        return float((np.abs(program.out_weight) @ reach + np.abs(program.out_bias)).max(initial=0.0))
