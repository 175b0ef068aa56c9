"""Read assertions of VNN-LIB as formulas: comparisons of affine terms, combined by `and` and `or`."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch_shallow.properties.formula import AllOf, AnyOf, Formula, Row, negated
from torch_shallow.vnnlib.declarations import Declarations, Entry
from torch_shallow.vnnlib.syntax import Expression, Statement

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


@dataclass(frozen=True)
class Affine:
    """Hold coefficients of entries, and a constant."""

    coefficients: dict[Entry, float]
    constant: float

    def __add__(self, other: Affine) -> Affine:
        total = dict(self.coefficients)
        for entry, coefficient in other.coefficients.items():
            total[entry] = total.get(entry, 0.0) + coefficient
        return Affine(total, self.constant + other.constant)

    def scaled(self, factor: float) -> Affine:
        """Multiply by a number."""
        return Affine({entry: factor * c for entry, c in self.coefficients.items()}, factor * self.constant)

    def __sub__(self, other: Affine) -> Affine:
        return self + other.scaled(-1.0)

    def row(self, strict: bool) -> Row:
        """State that this is at least 0, or greater if `strict`."""
        known = {entry: c for entry, c in self.coefficients.items() if c != 0.0}
        inputs, outputs = ({i: c for (of, i), c in known.items() if of is side} for side in (True, False))
        return Row(inputs, outputs, self.constant, strict)


def formula_of(expression: Expression, variables: Declarations, statement: Statement) -> Formula:
    """Read an assertion as a formula.

    Args:
        expression: the asserted expression.
        variables: the declared variables.
        statement: the statement that contains the expression, for error messages.

    Raises:
        FileError: the expression is not a formula, refers to something undeclared, or multiplies variables.
    """

    def read(part: Expression) -> Formula:
        return formula_of(part, variables, statement)

    match expression:
        case ["and", *parts] if parts:
            return _joined(AllOf, [read(part) for part in parts])
        case ["or", *parts] if parts:
            return _joined(AnyOf, [read(part) for part in parts])
        case ["not", part]:
            return negated(read(part))
        case ["=>", condition, part]:
            return _joined(AnyOf, [negated(read(condition)), read(part)])
        case ["<=" | "<" | ">=" | ">" | "==" | "=" | "!=" as comparison, left, right]:
            difference = _term(left, variables, statement) - _term(right, variables, statement)
            return _COMPARISONS[comparison](difference)
    raise statement.wrong("and, or, or a comparison of two terms", expression)


_COMPARISONS: dict[str, Callable[[Affine], Formula]] = {
    ">=": lambda term: term.row(strict=False),
    ">": lambda term: term.row(strict=True),
    "<=": lambda term: term.scaled(-1.0).row(strict=False),
    "<": lambda term: term.scaled(-1.0).row(strict=True),
    "==": lambda term: AllOf((term.row(strict=False), term.scaled(-1.0).row(strict=False))),
    "=": lambda term: AllOf((term.row(strict=False), term.scaled(-1.0).row(strict=False))),
    "!=": lambda term: AnyOf((term.row(strict=True), term.scaled(-1.0).row(strict=True))),
}


def _joined(kind: type[AllOf] | type[AnyOf], parts: Sequence[Formula]) -> Formula:
    return parts[0] if len(parts) == 1 else kind(tuple(parts))


def _term(expression: Expression, variables: Declarations, statement: Statement) -> Affine:
    if isinstance(expression, str):
        entry = variables.entry(expression)
        if entry is not None:
            return Affine({entry: 1.0}, 0.0)
        if not _NUMBER.fullmatch(expression):
            raise statement.wrong("a number, or an entry of a declared variable", expression)
        return Affine({}, float(expression))
    terms = [_term(part, variables, statement) for part in expression[1:]]
    match expression[:1], terms:
        case ["-"], [only]:
            return only.scaled(-1.0)
        case ["+"], [first, *others]:
            return sum(others, first)
        case ["-"], [first, *others]:
            return first - sum(others, Affine({}, 0.0))
        case ["*"], [first, *others]:
            for other in others:
                if first.coefficients and other.coefficients:
                    raise statement.wrong("a product with at most one factor that is not constant", expression)
                first = other.scaled(first.constant) if not first.coefficients else first.scaled(other.constant)
            return first
    raise statement.wrong("a sum, a difference or a product of terms", expression)
