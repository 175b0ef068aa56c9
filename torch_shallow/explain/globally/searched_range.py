"""The least and greatest value of outputs by the search, without looking at all regions."""

from __future__ import annotations

import os
import time
from concurrent.futures import Executor
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from torch_shallow.bounds.bounding_box import bounding_box
from torch_shallow.domain import Box, Domain
from torch_shallow.errors import TransformError
from torch_shallow.program.relu_program import ReLUProgram
from torch_shallow.search.question import Answer, Posed

NOTHING = 1e-3  # seconds: of a search that only opens its first cells
INTERRUPTED = "Ctrl-C"  # as in `search.runs.schedule`, which takes a while to import


@dataclass(frozen=True)
class SearchOptions:
    """Who searches, how, and how long: the arguments of `torch_shallow.search.ask.answer`."""

    method: str = "auto"
    solver: str | None = None
    workers: int | Executor = 1
    time_limit: float | None = None
    checkpoint: str | os.PathLike[str] | None = None
    progress: bool = False

    @property
    def is_default(self) -> bool:
        """Whether nothing was asked for."""
        return self == SearchOptions()


def is_bounded(domain: Domain | None, in_shape: tuple[int, ...]) -> bool:
    """Whether a domain is seen to be bounded, so that it can be searched."""
    if isinstance(domain, Box):
        return bool(np.isfinite(domain.bounds(in_shape)).all())
    if domain is None or len(domain.inequalities(in_shape)[1]) == 0:
        return False
    try:
        bounding_box(domain, in_shape)
    except TransformError:
        return False
    return True


def extremes(program: ReLUProgram, domain: Domain, options: SearchOptions) -> list[tuple[Answer, Answer]]:
    """Of each output, the least value, as the greatest one of its negative, and the greatest one.

    The time limit is for all of them together: each may take its share of what is left.
    """
    from torch_shallow.search.ask import answer

    begun, found = time.monotonic(), list[Answer]()
    count = 2 * program.num_outputs
    for number in range(count):
        output, sign = number // 2, 1.0 if number % 2 else -1.0
        weight, bias = sign * program.out_weight[output, None], sign * program.out_bias[output, None]
        posed = Posed(replace(program, out_shape=(1,), out_weight=weight, out_bias=bias), domain)
        left = options.time_limit
        if left is not None:
            left = max(NOTHING, (left - (time.monotonic() - begun)) / (count - number))
        if found and found[-1].reason == INTERRUPTED:  # what is proven at once, of the others too
            left = NOTHING
        file = options.checkpoint
        if file is not None and count > 1:
            file = f"{os.fspath(file)}.{number}"
        found.append(
            answer(
                posed,
                method=options.method,
                solver=options.solver,
                workers=options.workers,
                time_limit=left,
                checkpoint=file,
                progress=options.progress,
            )
        )
        if left == NOTHING and len(found) > 1 and found[-2].reason == INTERRUPTED:
            found[-1] = replace(found[-1], reason=INTERRUPTED)
    return list(zip(found[::2], found[1::2], strict=True))


def with_combinations(program: ReLUProgram, of: Float[np.ndarray, "rows outputs"]) -> ReLUProgram:
    """The program whose outputs are linear functions of those of another."""
    return replace(program, out_shape=(len(of),), out_weight=of @ program.out_weight, out_bias=of @ program.out_bias)
