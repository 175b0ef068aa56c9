"""What a property is, and how properties are joined."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch_shallow.properties.formula import AllOf, AnyOf, Formula, negated


class Property(ABC):
    """A statement about an input and its output, made of linear constraints by `&` (and), `|` (or) and `~` (not)."""

    @abstractmethod
    def formula(self, inputs: int, outputs: int, name: str = "property") -> Formula:
        """The statement as rows.

        Args:
            inputs: number of entries of one input.
            outputs: of one output.
            name: of the argument, for errors.

        Raises:
            WrongTypeError: it speaks of what is no number.
            TransformError: it speaks of entries that there are not, or of values that are not finite.
        """

    def __and__(self, other: Property) -> Property:
        return Conjunction((*_parts(self, Conjunction), *_parts(other, Conjunction))) if _is(other) else NotImplemented

    def __or__(self, other: Property) -> Property:
        return Disjunction((*_parts(self, Disjunction), *_parts(other, Disjunction))) if _is(other) else NotImplemented

    def __invert__(self) -> Property:
        return self.negated if isinstance(self, Negation) else Negation(self)


@dataclass(frozen=True)
class Conjunction(Property):
    """`a & b & ...`."""

    parts: tuple[Property, ...]

    def formula(self, inputs: int, outputs: int, name: str = "property") -> Formula:
        """See `Property`."""
        return AllOf(tuple(part.formula(inputs, outputs, name) for part in self.parts))

    def __repr__(self) -> str:
        return f"({' & '.join(map(repr, self.parts))})"


@dataclass(frozen=True)
class Disjunction(Property):
    """`a | b | ...`."""

    parts: tuple[Property, ...]

    def formula(self, inputs: int, outputs: int, name: str = "property") -> Formula:
        """See `Property`."""
        return AnyOf(tuple(part.formula(inputs, outputs, name) for part in self.parts))

    def __repr__(self) -> str:
        return f"({' | '.join(map(repr, self.parts))})"


@dataclass(frozen=True)
class Negation(Property):
    """`~a`: of what is closed it is open, and the other way round."""

    negated: Property

    def formula(self, inputs: int, outputs: int, name: str = "property") -> Formula:
        """See `Property`."""
        return negated(self.negated.formula(inputs, outputs, name))

    def __repr__(self) -> str:
        return f"~{self.negated!r}"


def _is(other: object) -> bool:
    return isinstance(other, Property)


def _parts(one: Property, kind: type[Conjunction] | type[Disjunction]) -> tuple[Property, ...]:
    """Those of a property that is joined in the same way, so that long chains do not nest."""
    return one.parts if isinstance(one, kind) else (one,)
