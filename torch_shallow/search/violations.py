"""A formula to be met somewhere in a domain, as questions that a search can answer."""

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

APART = 64  # so many alternatives are looked at one by one: each is easier to bound than the greatest of them
NEAR = 1e-8  # a search goes on for values this far below 0, relative to the terms that they are added up from


@dataclass(frozen=True, eq=False)
class Violation:
    """One of the ways in which a formula may be met.

    Attributes:
        posed: it is met where the value of this question is positive, or from 0 on if it is not strict.
        strict: see `posed`.
    """

    posed: Posed
    strict: bool

    def meets(self, value: float) -> bool:
        """Whether a value of the question meets the formula."""
        return value > 0.0 if self.strict else value >= 0.0


def violations_of(program: ReLUProgram, domain: Domain, formula: Formula) -> list[Violation]:
    """The ways in which a formula may be met by an input of a domain and its output.

    Strict rows are goals, whose least value has to be positive, and the others constraints; without strict rows, those
    about outputs are goals, whose least value has to be at least 0. What is asked of a single entry of the input makes
    a box smaller. Alternatives are ways of their own, as long as there are few; else they stay together as further
    neurons (`with_formulas`), and what strictness does on the boundary is left to whoever looks at the point.

    Args:
        program: the network, good for all of the domain.
        domain: where to look.
        formula: what is to be met.
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
    # A search leaves out what is above its floor by rounding alone; here, that is to be looked at.
    floor = -NEAR * float(terms_of(posed, middle_of(posed)).max())
    if strict and not nested:
        return Violation(replace(posed, floor=floor, enough=0.0), strict=True)
    return Violation(replace(posed, floor=floor, enough=-np.finfo(np.float64).tiny), strict=False)


def _within(domain: Domain, rows: Sequence[Row], in_shape: tuple[int, ...]) -> tuple[Domain | None, list[Row]]:
    """The part of a domain where rows about the input hold, or None if there is none; and the rows it does not tell."""
    if not isinstance(domain, Box) or not rows:
        return domain, [*rows]
    lower, upper, left = narrow(*domain.bounds(in_shape), rows)
    return (None if (lower > upper).any() else Box(lower, upper)), left


def middle_of(posed: Posed) -> Float[np.ndarray, "1 inputs"]:
    """A point to begin with: the middle of a box, and 0 elsewhere."""
    if not isinstance(posed.domain, Box):
        return np.zeros((1, posed.program.num_inputs))
    lower, upper = finite_part(*posed.domain.bounds(posed.program.in_shape))
    return np.clip(lower + (upper - lower) / 2, lower, upper)[None]


def finite_part(
    lower: Float[np.ndarray, "inputs"], upper: Float[np.ndarray, "inputs"]
) -> tuple[Float[np.ndarray, "inputs"], Float[np.ndarray, "inputs"]]:
    """A part of a box that has ends: where there is none, 1 from the other one, or from 0."""
    low, high = np.isfinite(lower), np.isfinite(upper)
    return (
        np.where(low, lower, np.where(high, upper, 0.0) - 1.0),
        np.where(high, upper, np.where(low, lower, 0.0) + 1.0),
    )


def terms_of(posed: Posed, x: Float[np.ndarray, "points inputs"]) -> Float[np.ndarray, "points goals"]:
    """The size of the terms that each goal is added up from, to which rounding is relative."""
    program, m = posed.program, posed.num_goals
    sources = np.abs(np.concatenate([x, np.maximum(program.preactivations(x), 0.0)], axis=1))
    size: np.ndarray = sources @ np.abs(program.out_weight[:m]).T + np.abs(program.out_bias[:m])
    return size
