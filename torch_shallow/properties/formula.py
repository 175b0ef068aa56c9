"""Linear constraints on inputs and outputs, joined by "all of" and "any of": what every property is read as."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from jaxtyping import Bool, Float


@dataclass(frozen=True, eq=False)
class Row:
    """`inputs @ x + outputs @ y + constant >= 0`, for the flattened input x and output y; `> 0` if it is strict.

    Attributes:
        inputs: coefficients by the number of the entry; those that are left out are 0.
        outputs: likewise.
        constant: what is added.
        strict: whether 0 is not enough.
    """

    inputs: Mapping[int, float] = field(default_factory=dict)
    outputs: Mapping[int, float] = field(default_factory=dict)
    constant: float = 0.0
    strict: bool = False


@dataclass(frozen=True, eq=False)
class AllOf:
    """All of the parts hold; so it does without any part."""

    parts: tuple[Formula, ...] = ()


@dataclass(frozen=True, eq=False)
class AnyOf:
    """At least one of the parts holds; so it never does without any part."""

    parts: tuple[Formula, ...] = ()


Formula: TypeAlias = Row | AllOf | AnyOf


def negated(formula: Formula) -> Formula:
    """The formula that holds exactly where this one does not: what was closed is strict in it."""
    if isinstance(formula, Row):
        inputs, outputs = ({i: -c for i, c in side.items()} for side in (formula.inputs, formula.outputs))
        return Row(inputs, outputs, -formula.constant, not formula.strict)
    parts = tuple(map(negated, formula.parts))
    return AnyOf(parts) if isinstance(formula, AllOf) else AllOf(parts)


def value_of(
    row: Row, x: Float[np.ndarray, "points inputs"], y: Float[np.ndarray, "points outputs"]
) -> Float[np.ndarray, "points"]:
    """The left side of a row at each of some points."""
    value = np.full(len(x), row.constant)
    for side, entries in ((row.inputs, x), (row.outputs, y)):
        if side:
            value = value + entries[:, list(side)] @ np.fromiter(side.values(), dtype=np.float64)
    return value


def holds_at(
    formula: Formula, x: Float[np.ndarray, "points inputs"], y: Float[np.ndarray, "points outputs"]
) -> Bool[np.ndarray, "points"]:
    """Where a formula holds, of some inputs and their outputs; a row never does at NaN."""
    if isinstance(formula, Row):
        value = value_of(formula, x, y)
        return value > 0.0 if formula.strict else value >= 0.0
    of_parts = [holds_at(part, x, y) for part in formula.parts]
    if isinstance(formula, AllOf):
        return np.logical_and.reduce(of_parts) if of_parts else np.ones(len(x), dtype=bool)
    return np.logical_or.reduce(of_parts) if of_parts else np.zeros(len(x), dtype=bool)


def rows_of(formula: Formula) -> list[Row]:
    """All rows of a formula, in order."""
    return [formula] if isinstance(formula, Row) else [row for part in formula.parts for row in rows_of(part)]
