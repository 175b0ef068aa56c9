"""Define what a property is, and how properties are combined."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch_shallow.properties.formula import AllOf, AnyOf, Formula, negated


class Property(ABC):
    """A statement about an input and its output, built from linear constraints by `&` (and), `|` (or) and `~` (not)."""

    @abstractmethod
    def formula(self, inputs: int, outputs: int, name: str = "property") -> Formula:
        """Return the statement as a formula.

        Args:
            inputs: number of entries of one input.
            outputs: number of entries of one output.
            name: name of the argument, for error messages.

        Raises:
            WrongTypeError: an index or a value is not a number.
            TransformError: an index is out of range, or a value is not finite.
        """

    def __and__(self, other: Property) -> Property:
        return Conjunction((*_parts(self, Conjunction), *_parts(other, Conjunction))) if _is(other) else NotImplemented

    def __or__(self, other: Property) -> Property:
        return Disjunction((*_parts(self, Disjunction), *_parts(other, Disjunction))) if _is(other) else NotImplemented

    def __invert__(self) -> Property:
        return self.negated if isinstance(self, Negation) else Negation(self)


@dataclass(frozen=True)
class Conjunction(Property):
    """The conjunction `a & b & ...`."""

    parts: tuple[Property, ...]

    def formula(self, inputs: int, outputs: int, name: str = "property") -> Formula:
        """Return the statement as a formula, as `Property.formula` describes."""
        return AllOf(tuple(part.formula(inputs, outputs, name) for part in self.parts))

    def __repr__(self) -> str:
        return f"({' & '.join(map(repr, self.parts))})"


@dataclass(frozen=True)
class Disjunction(Property):
    """The disjunction `a | b | ...`."""

    parts: tuple[Property, ...]

    def formula(self, inputs: int, outputs: int, name: str = "property") -> Formula:
        """Return the statement as a formula, as `Property.formula` describes."""
        return AnyOf(tuple(part.formula(inputs, outputs, name) for part in self.parts))

    def __repr__(self) -> str:
        return f"({' | '.join(map(repr, self.parts))})"


@dataclass(frozen=True)
class Negation(Property):
    """The negation `~a`: of a closed property it is open, and vice versa."""

    negated: Property

    def formula(self, inputs: int, outputs: int, name: str = "property") -> Formula:
        """Return the statement as a formula, as `Property.formula` describes."""
        return negated(self.negated.formula(inputs, outputs, name))

    def __repr__(self) -> str:
        return f"~{self.negated!r}"


def _is(other: object) -> bool:
    return isinstance(other, Property)


def _parts(one: Property, kind: type[Conjunction] | type[Disjunction]) -> tuple[Property, ...]:
    """Return the parts of a property of the same kind, so that long chains do not nest."""
    return one.parts if isinstance(one, kind) else (one,)
