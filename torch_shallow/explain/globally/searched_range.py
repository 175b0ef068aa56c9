"""Search for the least and greatest value of each output, without finding all regions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Float

from torch_shallow.domain import Domain
from torch_shallow.explain.asking import Asking, claim_of
from torch_shallow.program.relu_program import ReLUProgram
from torch_shallow.search.question import Answer, Posed


def extremes(program: ReLUProgram, domain: Domain, asking: Asking) -> list[tuple[Answer, Answer]]:
    """For each output, the search for its least value, as the greatest value of its negative, and for its greatest one.

    Each of these questions may take its share of the time that is left.
    """
    found, claims, count = list[Answer](), [], 2 * program.num_outputs
    for number in range(count):
        output, sign = number // 2, 1.0 if number % 2 else -1.0
        weight, bias = sign * program.out_weight[output, None], sign * program.out_bias[output, None]
        posed = Posed(replace(program, out_shape=(1,), out_weight=weight, out_bias=bias), domain)
        share = 1.0 / (count - number)
        each = asking.ask(posed, share=share, number=None if count == 1 else number)
        found.append(asking.glance(posed) if each is None else each)
        about = f"{'' if number % 2 else 'minus '}output {output}"
        claims.append(claim_of(posed, found[-1], np.inf, about))
    asking.certify(claims)
    return list(zip(found[::2], found[1::2], strict=True))


def with_combinations(program: ReLUProgram, of: Float[np.ndarray, "rows outputs"]) -> ReLUProgram:
    """The program whose outputs are linear functions of those of another."""
    return replace(program, out_shape=(len(of),), out_weight=of @ program.out_weight, out_bias=of @ program.out_bias)
