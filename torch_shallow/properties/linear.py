"""Define the basic properties: linear constraints on the entries of an output or of the input."""

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
    """An output, or an entry of the input, of at least `value`.

    Attributes:
        value: smallest value allowed.
        output: index of an entry of the flattened output.
        input: index of an entry of the flattened input, to constrain that instead of an output; None for an output.

    Example:
        >>> from torch_shallow import AtLeast
        >>> AtLeast(0.0) & ~AtLeast(1.0) | AtLeast(0.5, input=3)
        ((AtLeast(0.0) & ~AtLeast(1.0)) | AtLeast(0.5, input=3))
    """

    value: Number
    output: int = 0
    input: int | None = None

    def formula(self, inputs: int, outputs: int, name: str = "property") -> Formula:
        """Return the statement as a formula, as `Property.formula` describes."""
        return _between(self, self.value, math.inf, inputs, outputs, name)

    def __repr__(self) -> str:
        return _shown(self, self.value)


@dataclass(frozen=True)
class AtMost(Property):
    """An output, or an entry of the input, of at most `value`.

    Attributes:
        value: largest value allowed.
        output: index of an entry of the flattened output.
        input: index of an entry of the flattened input, to constrain that instead of an output; None for an output.

    Example:
        If the first input is at most 0, then the second output is at most 1:

        >>> from torch_shallow import AtMost
        >>> ~AtMost(0.0, input=0) | AtMost(1.0, output=1)
        (~AtMost(0.0, input=0) | AtMost(1.0, output=1))
    """

    value: Number
    output: int = 0
    input: int | None = None

    def formula(self, inputs: int, outputs: int, name: str = "property") -> Formula:
        """Return the statement as a formula, as `Property.formula` describes."""
        return _between(self, -math.inf, self.value, inputs, outputs, name)

    def __repr__(self) -> str:
        return _shown(self, self.value)


@dataclass(frozen=True)
class Between(Property):
    """An output, or an entry of the input, from `lower` to `upper`.

    Attributes:
        lower: smallest value allowed.
        upper: largest value allowed.
        output: index of an entry of the flattened output.
        input: index of an entry of the flattened input, to constrain that instead of an output; None for an output.

    Example:
        >>> import torch, torch_shallow
        >>> model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU())
        >>> torch_shallow.verify(model, torch_shallow.Box(-1.0, 1.0), torch_shallow.Between(0.0, 10.0)).holds
        True
    """

    lower: Number
    upper: Number
    output: int = 0
    input: int | None = None

    def formula(self, inputs: int, outputs: int, name: str = "property") -> Formula:
        """Return the statement as a formula, as `Property.formula` describes."""
        return _between(self, self.lower, self.upper, inputs, outputs, name)

    def __repr__(self) -> str:
        return _shown(self, self.lower, self.upper)


@dataclass(frozen=True)
class Wins(Property):
    """A class whose output exceeds every other output by at least `margin`.

    Attributes:
        output: the class, as index of an entry of the flattened output.
        margin: smallest lead over every other output; with 0, the class may share the first place.

    Example:
        >>> import torch, torch_shallow
        >>> model = torch.nn.Linear(2, 3)
        >>> verdict = torch_shallow.verify(model, torch_shallow.Box.around([0.5, 0.5], 0.1), torch_shallow.Wins(0))
        >>> verdict.holds in (True, False)
        True
    """

    output: int
    margin: Number = 0.0

    def formula(self, inputs: int, outputs: int, name: str = "property") -> Formula:
        """Return the statement as a formula, as `Property.formula` describes."""
        chosen = entry_number(self.output, outputs, "output", name)
        if outputs < 2:
            raise TransformError(
                f"{name}: expected a network with at least 2 outputs for {self!r}, found {outputs}; use AtLeast or "
                "AtMost."
            )
        _check_numbers(self, (self.margin,), name)
        others = (i for i in range(outputs) if i != chosen)
        return AllOf(tuple(Row({}, {chosen: 1.0, i: -1.0}, -float(self.margin)) for i in others))


@dataclass(frozen=True, eq=False)
class Linear(Property):
    """A linear function `outputs @ y + inputs @ x` of outputs and inputs within given limits.

    Attributes:
        outputs: coefficients, one for each entry of the flattened output, or a dict from indices to coefficients; None
            for none.
        inputs: coefficients of the flattened input, in the same form.
        at_most: largest value allowed; no limit if None.
        at_least: smallest value allowed; no limit if None.

    Example:
        The first output differs from the second by at most 0.1:

        >>> from torch_shallow import Linear
        >>> near = Linear(outputs=[1.0, -1.0], at_least=-0.1, at_most=0.1)

        The first output does not fall below the fourth entry of the input:

        >>> above = Linear(outputs={0: 1.0}, inputs={3: -1.0}, at_least=0.0)
    """

    outputs: Coefficients = None
    inputs: Coefficients = None
    at_most: Number | None = None
    at_least: Number | None = None

    def formula(self, inputs: int, outputs: int, name: str = "property") -> Formula:
        """Return the statement as a formula, as `Property.formula` describes."""
        if self.at_most is None and self.at_least is None:
            raise TransformError(f"{name}: expected at_most or at_least in {self!r}, found neither; give at least one.")
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
    """Return the rows that keep a linear function between two values, one of which may be infinite."""
    _check_numbers(stated, (lower, upper), name, finite=False)
    if not lower <= upper or lower == math.inf or upper == -math.inf or (math.isinf(lower) and math.isinf(upper)):
        raise TransformError(f"{name}: expected finite values, the lower one first, found {stated}; correct them.")
    rows = []
    if lower > -math.inf:
        rows.append(Row(inputs, outputs, -float(lower)))
    if upper < math.inf:
        below, under = ({i: -c for i, c in side.items()} for side in (inputs, outputs))
        rows.append(Row(below, under, float(upper)))
    return rows[0] if len(rows) == 1 else AllOf(tuple(rows))


def _coefficients(given: Coefficients, count: int, side: str, name: str) -> dict[int, float]:
    """Return nonzero coefficients by index."""
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
            f"{name}: expected numbers as the {side} of Linear, one for each entry, or a dict from indices to numbers, "
            f"found {given!r}."
        ) from error
    if not isinstance(given, Mapping) and len(found) != count:
        raise TransformError(
            f"{name}: expected {count} coefficients as the {side} of Linear, one for each entry, found {len(found)}; "
            "give that many, or a dict from indices to coefficients."
        )
    if not all(map(math.isfinite, found.values())):
        raise TransformError(f"{name}: expected finite coefficients as the {side} of Linear, found {given!r}.")
    return {i: c for i, c in found.items() if c != 0.0}


def entry_number(number: object, count: int, side: str, name: str) -> int:
    """Check the index of an entry, and return it counted from 0.

    Raises:
        WrongTypeError: it is not an integer.
        TransformError: it is out of range.
    """
    if isinstance(number, bool) or not isinstance(number, int | np.integer):
        raise WrongTypeError(f"{name}: expected the index of an {side}, found {number!r}.")
    if count == 0:
        raise TransformError(
            f"{name}: expected only constraints on outputs, found one on {side} {number}; leave it out."
        )
    if not -count <= number < count:
        raise TransformError(f"{name}: expected an {side} from {-count} to {count - 1}, found {number}.")
    return int(number) % count


def _check_numbers(stated: Property, values: tuple[object, ...], name: str, finite: bool = True) -> None:
    if not all(isinstance(value, int | float | np.number) and not isinstance(value, bool) for value in values):
        raise WrongTypeError(
            f"{name}: expected plain numbers, found {stated}; use .item() to take them out of tensors."
        )
    if finite and not all(math.isfinite(float(value)) for value in values):  # type: ignore[arg-type]
        raise TransformError(f"{name}: expected finite numbers, found {stated}.")


def _shown(stated: AtLeast | AtMost | Between, *values: object) -> str:
    """Write a property as briefly as it can be entered."""
    which = f"input={stated.input}" if stated.input is not None else f"output={stated.output}" if stated.output else ""
    return f"{type(stated).__name__}({', '.join(filter(None, (*map(repr, values), which)))})"
