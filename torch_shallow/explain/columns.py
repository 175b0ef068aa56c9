"""Columns of a table as inputs of a network: a number is one input, a category is one input for each value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from jaxtyping import Float

from torch_shallow.errors import TransformError, WrongTypeError

_MISSING = object()  # stands for NaN, which does not equal itself


@dataclass(frozen=True)
class Column:
    """A column of a table, which becomes one input of a network, or one for each of its categories.

    Attributes:
        name: name of the column.
        position: position of the column, from 0.
        categories: the values that the column may have, each of which becomes an input; None for a numeric column.
        fill: replacement for a missing value; None if values must not be missing.
    """

    name: str
    position: int
    categories: tuple[object, ...] | None = None
    fill: object = None

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the inputs that the column becomes."""
        if self.categories is None:
            return (self.name,)
        return tuple(f"{self.name}={category}" for category in self.categories)

    def encode(self, table: Any) -> Float[np.ndarray, "rows inputs"]:
        """Encode the column in each row of a table.

        Args:
            table: a data frame, in which the column is found by name, or rows, in which it is found by position.

        Raises:
            WrongTypeError: the values are not numbers.
            TransformError: the column is missing, or has a value that is missing, infinite or an unknown category.
        """
        values = self._values(table)
        return self._numbers(values)[:, None] if self.categories is None else self._one_hot(values, self.categories)

    def _values(self, table: Any) -> np.ndarray:
        if hasattr(table, "columns"):
            if self.name not in table.columns:
                raise TransformError(
                    f"table: expected a column {self.name!r}, found {', '.join(map(str, table.columns))}; rename one, "
                    "or pass the rows as an array with the columns in the order in which the estimator was fitted."
                )
            return np.asarray(table[self.name])
        array = table if isinstance(table, np.ndarray) else np.asarray(table, dtype=object)
        if array.ndim != 2 or array.shape[1] <= self.position:
            raise TransformError(
                f"table: expected rows of at least {self.position + 1} columns, found an array of shape {array.shape}; "
                "pass one row for each input."
            )
        return array[:, self.position]

    def _numbers(self, values: np.ndarray) -> Float[np.ndarray, "rows"]:
        if values.dtype == object:
            values = np.array([np.nan if _is_missing(value) else value for value in values])
        try:
            numbers = np.asarray(values, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise WrongTypeError(
                f"table: expected numbers in the column {self.name!r}, found others: {error}; convert them."
            ) from error
        if self.fill is not None:
            numbers = np.where(np.isnan(numbers), np.float64(cast(float, self.fill)), numbers)
        self._refuse("a missing value", np.isnan(numbers))
        self._refuse("an infinite number", np.isinf(numbers))
        return numbers

    def _one_hot(self, values: np.ndarray, categories: tuple[object, ...]) -> Float[np.ndarray, "rows categories"]:
        place = {_key(category): i for i, category in enumerate(categories)}
        filled = -1 if self.fill is None else place.get(_key(self.fill), -1)
        missing = np.array([_is_missing(value) for value in values], dtype=bool)
        found = np.array([place.get(_key(value), -1) for value in values], dtype=np.int64)
        found[missing & (found < 0)] = filled
        shown = ", ".join(map(repr, categories[:5])) + ", ..." * (len(categories) > 5)
        self._refuse("a missing value", missing & (found < 0))
        self._refuse(f"something other than its {len(categories)} categories {shown}", found < 0)
        return np.eye(len(categories))[found]

    def _refuse(self, what: str, where: np.ndarray) -> None:
        if where.any():
            raise TransformError(
                f"table: expected usable values in the column {self.name!r}, found {what} in {int(where.sum())} of "
                f"{len(where)} rows, first in row {int(np.flatnonzero(where)[0])}; leave these rows out, or replace "
                "the values."
            )


def _is_missing(value: Any) -> bool:
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(value, float) and bool(np.isnan(value))


def _key(value: Any) -> Any:
    return _MISSING if value is not None and _is_missing(value) else value
