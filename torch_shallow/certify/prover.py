"""Prove a bound on a shallow network's error at every point of the domain."""

from __future__ import annotations

from dataclasses import replace

import torch

from torch_shallow.certify.error_proof import Proof
from torch_shallow.certify.exact_multipliers import with_exact_multipliers
from torch_shallow.certify.proof_data import ProofData, proof_data
from torch_shallow.functions import TreeFunction
from torch_shallow.search.partition import activation_partition


@torch.no_grad()
def prove(function: TreeFunction, *, keep: bool = True) -> Proof:
    """Bound the difference of a function from its program, at every point of its domain.

    Args:
        function: A function of activation regions; unexplored cells are left out.
        keep: Whether to keep the multipliers, for `Proof.save`; this takes some memory.

    Raises:
        TransformError: The regions are merged, or do not belong to a deep network.
    """
    return prove_data(proof_data(function, activation_partition(function.tree)), keep=keep)


def prove_data(data: ProofData, *, keep: bool) -> Proof:
    """Prove the same for a function and a program given as arrays."""
    proof = _walked(data, keep)
    if not proof.error > data.rounding_error:
        return proof
    kept = proof if keep else _walked(data, True)
    better = with_exact_multipliers(kept, data.rounding_error, together=keep)
    return better if keep else replace(better, found=None)


def _walked(data: ProofData, keep: bool) -> Proof:
    # Imported here because importing numba takes a while.
    from torch_shallow.certify.error_walk import DONE, follow

    facts, way, found = data.facts(), data.way(), data.room()
    while follow(facts, way, found, keep) != DONE:
        found = data.more_room(found)
    return Proof(data, found.errors, not data.bounded, data.trimmed(found, way.counts) if keep else None)
