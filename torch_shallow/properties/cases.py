"""Split a formula into cases, separating what each requires of the input alone from the rest."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product

from torch_shallow.properties.formula import AllOf, AnyOf, Formula, Row, rows_of

MOST_CASES = 256  # limit on the combinations of alternatives of the input


@dataclass(frozen=True, eq=False)
class Case:
    """State that all rows hold, and the rest.

    Attributes:
        inputs: rows about the input alone.
        rest: a formula without rows about the input alone, unless there are more than `MOST_CASES` combinations.
    """

    inputs: tuple[Row, ...]
    rest: Formula


def cases_of(formula: Formula) -> list[Case]:
    """Return cases of which at least one holds exactly where the formula does.

    Only alternatives of the input are separated, such as several boxes, each perhaps with its own condition.
    Alternatives of outputs stay together.
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
    """Combine several cases into one that requires all of them."""
    chosen = tuple(chosen)
    rests = [case.rest for case in chosen if not (isinstance(case.rest, AllOf) and not case.rest.parts)]
    return Case(tuple(row for case in chosen for row in case.inputs), rests[0] if len(rests) == 1 else AllOf((*rests,)))


def _is_of_input(row: Row) -> bool:
    return not row.outputs and bool(row.inputs)


def alternatives(formula: Formula, most: int) -> list[Formula]:
    """Return formulas of which at least one holds exactly where this one does: conjunctions of rows where they are few.

    Args:
        formula: the formula.
        most: a conjunction equivalent to more than this many conjunctions of rows stays nested.
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
    """Count the conjunctions of rows whose disjunction a formula is."""
    if isinstance(formula, Row):
        return 1
    return (math.prod if isinstance(formula, AllOf) else sum)(map(_number, formula.parts))
