"""Define formulas, to which every property is reduced: linear constraints combined by "all of" and "any of"."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from jaxtyping import Bool, Float


@dataclass(frozen=True, eq=False)
class Row:
    """State that `inputs @ x + outputs @ y + constant >= 0` for the flattened input x and output y; `> 0` if `strict`.

    Attributes:
        inputs: coefficients by index of the input's entry; missing ones are 0.
        outputs: coefficients by index of the output's entry; missing ones are 0.
        constant: constant term.
        strict: whether the left side must be positive, rather than at least 0.
    """

    inputs: Mapping[int, float] = field(default_factory=dict)
    outputs: Mapping[int, float] = field(default_factory=dict)
    constant: float = 0.0
    strict: bool = False


@dataclass(frozen=True, eq=False)
class AllOf:
    """State that all of the parts hold; without any part, it always holds."""

    parts: tuple[Formula, ...] = ()


@dataclass(frozen=True, eq=False)
class AnyOf:
    """State that at least one of the parts holds; without any part, it never holds."""

    parts: tuple[Formula, ...] = ()


Formula: TypeAlias = Row | AllOf | AnyOf


def negated(formula: Formula) -> Formula:
    """Return the formula that holds exactly where this one does not; closed rows become strict, and vice versa."""
    if isinstance(formula, Row):
        inputs, outputs = ({i: -c for i, c in side.items()} for side in (formula.inputs, formula.outputs))
        return Row(inputs, outputs, -formula.constant, not formula.strict)
    parts = tuple(map(negated, formula.parts))
    return AnyOf(parts) if isinstance(formula, AllOf) else AllOf(parts)


def value_of(
    row: Row, x: Float[np.ndarray, "points inputs"], y: Float[np.ndarray, "points outputs"]
) -> Float[np.ndarray, "points"]:
    """Return the left side of a row at each of some points."""
    value = np.full(len(x), row.constant)
    for side, entries in ((row.inputs, x), (row.outputs, y)):
        if side:
            value = value + entries[:, list(side)] @ np.fromiter(side.values(), dtype=np.float64)
    return value


def holds_at(
    formula: Formula, x: Float[np.ndarray, "points inputs"], y: Float[np.ndarray, "points outputs"]
) -> Bool[np.ndarray, "points"]:
    """Tell at which inputs, with their outputs, a formula holds; a row never holds at NaN."""
    if isinstance(formula, Row):
        value = value_of(formula, x, y)
        return value > 0.0 if formula.strict else value >= 0.0
    of_parts = [holds_at(part, x, y) for part in formula.parts]
    if isinstance(formula, AllOf):
        return np.logical_and.reduce(of_parts) if of_parts else np.ones(len(x), dtype=bool)
    return np.logical_or.reduce(of_parts) if of_parts else np.zeros(len(x), dtype=bool)


def rows_of(formula: Formula) -> list[Row]:
    """Return all rows of a formula, in order."""
    return [formula] if isinstance(formula, Row) else [row for part in formula.parts for row in rows_of(part)]
