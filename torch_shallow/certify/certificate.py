"""Proofs of answers, in a file that `torch_shallow.check_bounds` checks."""

from __future__ import annotations

import gzip
import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from torch_shallow import check_bounds
from torch_shallow.certify.bound_prover import BoundProof, BoundProver, bits_of
from torch_shallow.errors import TransformError
from torch_shallow.paths import beside
from torch_shallow.search.question import Posed


@dataclass(frozen=True, eq=False)
class Claim:
    """Claim to prove: the answer of a question is at most a bound.

    Attributes:
        posed: The question.
        target: The bound to aim at.
        limit: The bound to keep; what is proven may exceed `target` by rounding.
        strict: Whether the proven bound must be less than `limit`.
        about: Meaning of the claim in words, for readers of the file.
    """

    posed: Posed
    target: float
    limit: float = np.inf
    strict: bool = False
    about: str = ""

    def is_kept(self, bound: float | None) -> bool:
        """Return whether a proven bound suffices; None stands for the proof that there is no point."""
        return bound is None or bound < self.limit or (bound == self.limit and not self.strict)


def write_certificate(path: Path, claims: Sequence[Claim], time_limit: float | None = None) -> None:
    """Prove claims, and write the proofs to a file; no file is written unless all are proven.

    A proof is found after the search and independently of it, and passes the checker before it is written.

    Args:
        path: Path of the file; a name ending in `.gz` makes it compressed.
        claims: The claims to prove.
        time_limit: Seconds after which to give up; no limit by default.

    Raises:
        TransformError: A claim is not proven in time, or not at all, or its domain is not bounded.
    """
    deadline = np.inf if time_limit is None else time.monotonic() + time_limit
    bits = max((bits_of(claim.posed) for claim in claims), default=0)
    with beside(path) as fresh:
        compressed = path.suffix == ".gz"
        with gzip.open(fresh, "wt", 6) if compressed else fresh.open("w", encoding="utf-8") as file:
            known: dict[str, Any] = {}

            def write(line: object) -> None:
                file.write(json.dumps(line, separators=(",", ":")) + "\n")

            write({"format": check_bounds.FORMAT, "statements": len(claims)})
            for claim in claims:
                proof = _proven(claim, deadline, bits)
                network = None if proof.network == known else proof.network
                known = proof.network
                write({"about": claim.about, "bound": proof.bound, **proof.statement, "network": network})
                for node in proof.nodes:
                    write(node)
        os.replace(fresh, path)


def _proven(claim: Claim, deadline: float, bits: int) -> BoundProof:
    proof = BoundProver(claim.posed, claim.target, deadline, bits).prove()
    if not claim.is_kept(proof.bound):
        raise TransformError(
            f"certificate: expected a bound {'below' if claim.strict else 'of at most'} {claim.limit!r}, found a proof "
            f"of {proof.bound!r}: the claim holds only up to rounding; ask for a bound with more margin, or leave out "
            "certificate=."
        )
    return proof
