"""Proven bound of the difference between network and model on every region."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from torch_shallow.certify.equality import Places
from torch_shallow.certify.examined import Examined
from torch_shallow.certify.report import Check, Failure, Tally
from torch_shallow.program.relu_program import ReLUProgram


def check_error(subject: Examined, program: ReLUProgram, places: list[Places]) -> tuple[Check, Examined]:
    """Bound |network - program| on all regions, and compare it with the sizes of the outputs and of their terms.

    The network is returned with what is proven of it, in regions where that is small enough.

    Args:
        subject: The network.
        program: The program as which the model is read now.
        places: Points that tell how large the outputs are.
    """
    # Imported only when used: compiled code, and the checker, which is a command of its own.
    from torch_shallow.certify.proof_data import UNDERFLOW, proof_data
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
    outputs = _size_of_outputs(subject, places, data.bounded)
    limit = max(subject.tolerance * outputs, data.rounding_error)
    tally.measure(proof.errors)
    message = f"the output may be off by {{:.3g}}{proof.unit}, as far as multipliers prove"
    tally.add_where(~(proof.errors <= limit), message, proof.errors, region=range(count))
    note = "relative to 1 + |x|_1" * proof.relative_to_size
    if program.whole is not None:
        note = "of the neurons that can change sign in the box"
    allowed = np.where(proof.errors <= limit, proof.errors, 0.0)
    rounding = ROUNDING * data.size_of_terms + UNDERFLOW
    proven = replace(subject, errors=allowed, errors_grow=proof.relative_to_size, rounding=rounding)
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
