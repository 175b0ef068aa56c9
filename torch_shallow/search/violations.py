"""Search for a point that meets a formula, as questions that a search can answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from torch_shallow.domain import Box, Domain
from torch_shallow.program.composition import with_formulas
from torch_shallow.program.relu_program import ReLUProgram
from torch_shallow.properties.boxes import narrow
from torch_shallow.properties.cases import alternatives, cases_of
from torch_shallow.properties.formula import AllOf, Formula, Row
from torch_shallow.search.question import Posed

APART = 64  # up to this many alternatives are searched one by one: each is easier to bound than their maximum
NEAR = 1e-8  # values this far below 0, relative to the terms that they are sums of, are still pursued


@dataclass(frozen=True, eq=False)
class Violation:
    """One of the ways in which a formula may be met.

    Attributes:
        posed: The formula is met where the value of this question is positive or, unless `strict`, zero.
        strict: Whether the value must be positive.
    """

    posed: Posed
    strict: bool

    def meets(self, value: float) -> bool:
        """Return whether a value of the question meets the formula."""
        return value > 0.0 if self.strict else value >= 0.0


def violations_of(program: ReLUProgram, domain: Domain, formula: Formula) -> list[Violation]:
    """Return the ways in which an input of a domain and its output may meet a formula.

    Strict rows become goals, whose least value must be positive, and the others constraints. Without strict rows, those
    on outputs become goals, whose least value must be at least 0. Conditions on a single entry of the input shrink a
    box. A few alternatives become separate ways; many stay together as further neurons (`with_formulas`), and whether a
    boundary point meets a strict row is then up to the caller, who checks the point.

    Args:
        program: The network, valid in the whole domain.
        domain: The domain to search.
        formula: The formula to meet.
    """
    found = []
    for case in cases_of(formula):
        smaller, of_inputs = _within(domain, case.inputs, program.in_shape)
        if smaller is None:
            continue
        for rest in alternatives(case.rest, APART):
            parts = rest.parts if isinstance(rest, AllOf) else (rest,)
            found.append(_violation(program, smaller, [*of_inputs, *parts]))
    return found


def _violation(program: ReLUProgram, domain: Domain, parts: Sequence[Formula]) -> Violation:
    strict = [part for part in parts if isinstance(part, Row) and part.strict]
    nested = [part for part in parts if not isinstance(part, Row)]
    closed = [part for part in parts if isinstance(part, Row) and not part.strict]
    if strict and not nested:
        goals, limits = list[Formula](strict), closed
    else:
        limits = [row for row in closed if row.inputs and not row.outputs]
        goals = [*strict, *nested, *(row for row in closed if row not in limits)] or [Row()]
    posed = Posed(with_formulas(program, [*goals, *limits]), domain, len(goals))
    # A search leaves out values that rounding alone puts above its floor; here, they must be examined.
    floor = -NEAR * float(terms_of(posed, middle_of(posed)).max())
    if strict and not nested:
        return Violation(replace(posed, floor=floor, enough=0.0), strict=True)
    return Violation(replace(posed, floor=floor, enough=-np.finfo(np.float64).tiny), strict=False)


def _within(domain: Domain, rows: Sequence[Row], in_shape: tuple[int, ...]) -> tuple[Domain | None, list[Row]]:
    """Return the part of a domain where rows on the input hold (None if empty), and the rows not expressed by it."""
    if not isinstance(domain, Box) or not rows:
        return domain, [*rows]
    lower, upper, left = narrow(*domain.bounds(in_shape), rows)
    return (None if (lower > upper).any() else Box(lower, upper)), left


def middle_of(posed: Posed) -> Float[np.ndarray, "1 inputs"]:
    """Return a starting point: the middle of a box, or 0 elsewhere."""
    if not isinstance(posed.domain, Box):
        return np.zeros((1, posed.program.num_inputs))
    lower, upper = finite_part(*posed.domain.bounds(posed.program.in_shape))
    return np.clip(lower + (upper - lower) / 2, lower, upper)[None]


def finite_part(
    lower: Float[np.ndarray, "inputs"], upper: Float[np.ndarray, "inputs"]
) -> tuple[Float[np.ndarray, "inputs"], Float[np.ndarray, "inputs"]]:
    """Return a bounded part of a box: a missing end is placed 1 from the other end, or from 0."""
    low, high = np.isfinite(lower), np.isfinite(upper)
    return (
        np.where(low, lower, np.where(high, upper, 0.0) - 1.0),
        np.where(high, upper, np.where(low, lower, 0.0) + 1.0),
    )


def terms_of(posed: Posed, x: Float[np.ndarray, "points inputs"]) -> Float[np.ndarray, "points goals"]:
    """Return the size of the terms that each goal is the sum of, the scale of its rounding errors."""
    program, m = posed.program, posed.num_goals
    sources = np.abs(np.concatenate([x, np.maximum(program.preactivations(x), 0.0)], axis=1))
    size: np.ndarray = sources @ np.abs(program.out_weight[:m]).T + np.abs(program.out_bias[:m])
    return size
