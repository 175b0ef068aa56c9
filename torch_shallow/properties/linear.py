"""The properties that others are made of: linear constraints on the entries of an output, or of the input."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from torch import Tensor

from torch_shallow.errors import TransformError, WrongTypeError
from torch_shallow.properties.formula import AllOf, Formula, Row
from torch_shallow.properties.joined import Property

Number: TypeAlias = int | float
Coefficients: TypeAlias = Mapping[int, Number] | Sequence[Number] | np.ndarray | Tensor | None


@dataclass(frozen=True)
class AtLeast(Property):
    """An output of at least `value`, or an entry of the input.

    Attributes:
        value: of the output.
        output: which entry of the flattened output.
        input: which entry of the flattened input, if it is about one and not about an output.

    Example:
        >>> AtLeast(0.0) & ~AtLeast(1.0) | AtLeast(0.5, input=3)
        ((AtLeast(0.0) & ~AtLeast(1.0)) | AtLeast(0.5, input=3))
    """

    value: Number
    output: int = 0
    input: int | None = None

    def formula(self, inputs: int, outputs: int, name: str = "property") -> Formula:
        """See `Property`."""
        return _between(self, self.value, math.inf, inputs, outputs, name)

    def __repr__(self) -> str:
        return _shown(self, self.value)


@dataclass(frozen=True)
class AtMost(Property):
    """An output of at most `value`, or an entry of the input.

    Attributes:
        value: of the output.
        output: which entry of the flattened output.
        input: which entry of the flattened input, if it is about one and not about an output.
    """

    value: Number
    output: int = 0
    input: int | None = None

    def formula(self, inputs: int, outputs: int, name: str = "property") -> Formula:
        """See `Property`."""
        return _between(self, -math.inf, self.value, inputs, outputs, name)

    def __repr__(self) -> str:
        return _shown(self, self.value)


@dataclass(frozen=True)
class Between(Property):
    """An output from `lower` to `upper`, or an entry of the input.

    Attributes:
        lower: least value of the output.
        upper: largest value of the output.
        output: which entry of the flattened output.
        input: which entry of the flattened input, if it is about one and not about an output.
    """

    lower: Number
    upper: Number
    output: int = 0
    input: int | None = None

    def formula(self, inputs: int, outputs: int, name: str = "property") -> Formula:
        """See `Property`."""
        return _between(self, self.lower, self.upper, inputs, outputs, name)

    def __repr__(self) -> str:
        return _shown(self, self.lower, self.upper)


@dataclass(frozen=True)
class Wins(Property):
    """A class whose output is at least that of every other one, and `margin` more.

    Attributes:
        output: the class: which entry of the flattened output.
        margin: how much more, at least; with 0, the class may share the first place.
    """

    output: int
    margin: Number = 0.0

    def formula(self, inputs: int, outputs: int, name: str = "property") -> Formula:
        """See `Property`."""
        chosen = entry_number(self.output, outputs, "output", name)
        if outputs < 2:
            raise TransformError(
                f"{name}: expected a network with two outputs or more for {self!r}, found {outputs}; use AtLeast or "
                "AtMost."
            )
        _check_numbers(self, (self.margin,), name)
        others = (i for i in range(outputs) if i != chosen)
        return AllOf(tuple(Row({}, {chosen: 1.0, i: -1.0}, -float(self.margin)) for i in others))


@dataclass(frozen=True, eq=False)
class Linear(Property):
    """A linear function of outputs and inputs that is at most, or at least, so much: `outputs @ y + inputs @ x`.

    Attributes:
        outputs: coefficients: one for each entry of the flattened output, or by number; None if there are none.
        inputs: likewise of the input.
        at_most: the largest value allowed; no limit if None.
        at_least: the least value allowed; no limit if None.

    Example:
        The first output is no further than 0.1 from the second one:

        >>> near = Linear(outputs=[1.0, -1.0], at_least=-0.1, at_most=0.1)

        It does not fall below the fourth entry of the input:

        >>> above = Linear(outputs={0: 1.0}, inputs={3: -1.0}, at_least=0.0)
    """

    outputs: Coefficients = None
    inputs: Coefficients = None
    at_most: Number | None = None
    at_least: Number | None = None

    def formula(self, inputs: int, outputs: int, name: str = "property") -> Formula:
        """See `Property`."""
        if self.at_most is None and self.at_least is None:
            raise TransformError(f"{name}: expected at_most or at_least in {self!r}, found neither; give one.")
        of_inputs = _coefficients(self.inputs, inputs, "inputs", name)
        of_outputs = _coefficients(self.outputs, outputs, "outputs", name)
        lower = -math.inf if self.at_least is None else self.at_least
        upper = math.inf if self.at_most is None else self.at_most
        return _limited(self, lower, upper, of_inputs, of_outputs, name)

    def __repr__(self) -> str:
        given = ((name, value) for name, value in vars(self).items() if value is not None)
        return f"Linear({', '.join(f'{name}={value!r}' for name, value in given)})"


def _between(
    stated: AtLeast | AtMost | Between, lower: Number, upper: Number, inputs: int, outputs: int, name: str
) -> Formula:
    if stated.input is not None:
        return _limited(stated, lower, upper, {entry_number(stated.input, inputs, "input", name): 1.0}, {}, name)
    return _limited(stated, lower, upper, {}, {entry_number(stated.output, outputs, "output", name): 1.0}, name)


def _limited(
    stated: Property, lower: Number, upper: Number, inputs: dict[int, float], outputs: dict[int, float], name: str
) -> Formula:
    """The rows of a linear function between two values, of which one may be infinite."""
    _check_numbers(stated, (lower, upper), name, finite=False)
    if not lower <= upper or lower == math.inf or upper == -math.inf or (math.isinf(lower) and math.isinf(upper)):
        raise TransformError(f"{name}: expected finite values, the lower one first, found {stated}.")
    rows = []
    if lower > -math.inf:
        rows.append(Row(inputs, outputs, -float(lower)))
    if upper < math.inf:
        below, under = ({i: -c for i, c in side.items()} for side in (inputs, outputs))
        rows.append(Row(below, under, float(upper)))
    return rows[0] if len(rows) == 1 else AllOf(tuple(rows))


def _coefficients(given: Coefficients, count: int, side: str, name: str) -> dict[int, float]:
    """By number, without zeros."""
    if given is None:
        return {}
    try:
        if isinstance(given, Mapping):
            found = {entry_number(i, count, side[:-1], name): float(c) for i, c in given.items()}
        else:
            array = given.detach().cpu().numpy() if isinstance(given, Tensor) else given
            found = dict(enumerate(np.asarray(array, dtype=np.float64).reshape(-1).tolist()))
    except TransformError:
        raise
    except (TypeError, ValueError) as error:
        raise WrongTypeError(
            f"{name}: expected numbers as the {side} of Linear, one for each entry, or a dict from entries to numbers, "
            f"found {given!r}."
        ) from error
    if not isinstance(given, Mapping) and len(found) != count:
        raise TransformError(
            f"{name}: expected {count} coefficients as the {side} of Linear, one for each entry, found {len(found)}; "
            "or give a dict from entries to coefficients."
        )
    if not all(map(math.isfinite, found.values())):
        raise TransformError(f"{name}: expected finite coefficients as the {side} of Linear, found {given!r}.")
    return {i: c for i, c in found.items() if c != 0.0}


def entry_number(number: object, count: int, side: str, name: str) -> int:
    """The number of an entry, from 0.

    Raises:
        WrongTypeError: it is no number.
        TransformError: there is no such entry.
    """
    if isinstance(number, bool) or not isinstance(number, int | np.integer):
        raise WrongTypeError(f"{name}: expected the number of an {side}, found {number!r}.")
    if count == 0:
        raise TransformError(f"{name}: expected constraints on outputs, found one on {side} {number}.")
    if not -count <= number < count:
        raise TransformError(f"{name}: expected an {side} from {-count} to {count - 1}, found {number}.")
    return int(number) % count


def _check_numbers(stated: Property, values: tuple[object, ...], name: str, finite: bool = True) -> None:
    if not all(isinstance(value, int | float | np.number) and not isinstance(value, bool) for value in values):
        raise WrongTypeError(f"{name}: expected plain numbers, found {stated}; take them out of tensors by .item().")
    if finite and not all(math.isfinite(float(value)) for value in values):  # type: ignore[arg-type]
        raise TransformError(f"{name}: expected finite numbers, found {stated}.")


def _shown(stated: AtLeast | AtMost | Between, *values: object) -> str:
    """In as few words as it was written in."""
    which = f"input={stated.input}" if stated.input is not None else f"output={stated.output}" if stated.output else ""
    return f"{type(stated).__name__}({', '.join(filter(None, (*map(repr, values), which)))})"
