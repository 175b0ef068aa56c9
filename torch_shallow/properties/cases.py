"""A formula taken apart into cases: what each asks of the input alone, and what of the output."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product

from torch_shallow.properties.formula import AllOf, AnyOf, Formula, Row, rows_of

MOST_CASES = 256  # of alternatives of the input that hold together with others


@dataclass(frozen=True, eq=False)
class Case:
    """All rows hold, and the rest.

    Attributes:
        inputs: rows about the input alone.
        rest: a formula in which no row is about the input alone, unless there are more than `MOST_CASES`.
    """

    inputs: tuple[Row, ...]
    rest: Formula


def cases_of(formula: Formula) -> list[Case]:
    """Cases of which at least one holds exactly where the formula does.

    Only alternatives of the input are taken apart: several boxes, say, each perhaps with its own condition. Those that
    are about outputs stay together.
    """
    if isinstance(formula, Row):
        return [Case((formula,), AllOf()) if _is_of_input(formula) else Case((), formula)]
    if not any(map(_is_of_input, rows_of(formula))):
        return [Case((), formula)]
    parts = sorted(((cases_of(part), part) for part in formula.parts), key=lambda pair: len(pair[0]))
    if isinstance(formula, AnyOf):
        return [case for cases, _ in parts for case in cases]
    apart, number = list[list[Case]](), 1
    for cases, part in parts:
        number *= len(cases)
        apart.append(cases if number <= MOST_CASES else [Case((), part)])
    return [_both(chosen) for chosen in product(*apart)]


def _both(chosen: Iterable[Case]) -> Case:
    """What several cases ask together."""
    chosen = tuple(chosen)
    rests = [case.rest for case in chosen if not (isinstance(case.rest, AllOf) and not case.rest.parts)]
    return Case(tuple(row for case in chosen for row in case.inputs), rests[0] if len(rests) == 1 else AllOf((*rests,)))


def _is_of_input(row: Row) -> bool:
    return not row.outputs and bool(row.inputs)


def alternatives(formula: Formula, most: int) -> list[Formula]:
    """Formulas of which at least one holds exactly where this one does: conjunctions of rows, as far as they are few.

    Args:
        formula: the formula.
        most: a conjunction that is the same as more conjunctions of rows than this stays as it is, nested.
    """
    if isinstance(formula, Row):
        return [AllOf((formula,))]
    if isinstance(formula, AnyOf):
        return [alternative for part in formula.parts for alternative in alternatives(part, most)]
    if _number(formula) > most:
        return [formula]
    chosen = product(*(alternatives(part, most) for part in formula.parts))
    return [AllOf(tuple(row for one in some for row in rows_of(one))) for some in chosen]


def _number(formula: Formula) -> int:
    """Of how many conjunctions of rows a formula is the disjunction."""
    if isinstance(formula, Row):
        return 1
    return (math.prod if isinstance(formula, AllOf) else sum)(map(_number, formula.parts))
