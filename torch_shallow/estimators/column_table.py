"""Represent columns of a table after the steps of a pipeline, as affine functions of inputs and of clipped values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from torch_shallow.errors import TransformError

Source = tuple[str, int, int]
"""An argument of the affine functions: `("input", column, 0 or category)`, or `("clip", number, 0)`."""


class Raw(NamedTuple):
    """Refer to an unchanged column of the user's table.

    Attributes:
        column: index of the column.
        fill: value that an imputer puts in place of a missing one; None if there is no imputer.
    """

    column: int
    fill: object = None


@dataclass(frozen=True, eq=False)
class ColumnTable:
    """Hold columns, each either an unchanged column of the user's table or `weight @ sources + bias`.

    Attributes:
        sources: the arguments of the affine functions.
        weight: weights of each column; 0 for an unchanged one.
        bias: bias of each column.
        raw: for each column, the user's column if it is unchanged, or None.
    """

    sources: tuple[Source, ...]
    weight: Float[np.ndarray, "columns sources"]
    bias: Float[np.ndarray, "columns"]
    raw: tuple[Raw | None, ...]

    @staticmethod
    def of_raw(columns: Sequence[Raw]) -> ColumnTable:
        """Return unchanged columns of the user's table."""
        return ColumnTable((), np.zeros((len(columns), 0)), np.zeros(len(columns)), tuple(columns))

    @staticmethod
    def of_sources(sources: Sequence[Source]) -> ColumnTable:
        """Return the values of sources."""
        return ColumnTable(tuple(sources), np.eye(len(sources)), np.zeros(len(sources)), (None,) * len(sources))

    def __len__(self) -> int:
        return len(self.raw)

    @property
    def used(self) -> list[Source]:
        """The sources on which a column depends."""
        return [self.sources[i] for i in np.flatnonzero(np.abs(self.weight).sum(axis=0))]

    def take(self, columns: Sequence[int] | np.ndarray) -> ColumnTable:
        """Select columns, in this order."""
        chosen = [int(column) for column in columns]
        return replace(self, weight=self.weight[chosen], bias=self.bias[chosen], raw=tuple(self.raw[i] for i in chosen))

    def affine(
        self, weight: Float[np.ndarray, "results columns"], bias: Float[np.ndarray, "results"] | float = 0.0
    ) -> ColumnTable:
        """Apply affine functions to columns, none of which may be unchanged."""
        return ColumnTable(self.sources, weight @ self.weight, weight @ self.bias + bias, (None,) * len(weight))

    def scaled(self, factor: Float[np.ndarray, "columns"], offset: Float[np.ndarray, "columns"] | float) -> ColumnTable:
        """Multiply each column by a factor, and add an offset."""
        return ColumnTable(
            self.sources, factor[:, None] * self.weight, factor * self.bias + offset, (None,) * len(self)
        )


def beside(tables: Sequence[ColumnTable]) -> ColumnTable:
    """Place the columns of several tables side by side."""
    sources = tuple(dict.fromkeys(source for table in tables for source in table.sources))
    place = {source: i for i, source in enumerate(sources)}
    weight = np.zeros((sum(map(len, tables)), len(sources)))
    row = 0
    for table in tables:
        weight[row : row + len(table), [place[source] for source in table.sources]] = table.weight
        row += len(table)
    bias = np.concatenate([np.zeros(0), *(table.bias for table in tables)])
    return ColumnTable(sources, weight, bias, tuple(raw for table in tables for raw in table.raw))


@dataclass(frozen=True, eq=False)
class Clip:
    """Hold clipped columns, which are sources of later steps.

    Attributes:
        table: the columns before clipping.
        lower: lower bound of each column.
        upper: upper bound of each column.
        numbers: indices of the sources that they become.
        depth: 1, or one more than that of the deepest clip on which they depend.
    """

    table: ColumnTable
    lower: Float[np.ndarray, "columns"]
    upper: Float[np.ndarray, "columns"]
    numbers: range
    depth: int


@dataclass(eq=False)
class Reading:
    """Hold what is known about a pipeline while it is read.

    Attributes:
        names: names of the columns of the user's table.
        categories: the categories of each column used so far; None for a numeric column.
        fills: for each column used so far, the values that imputers put in place of missing ones.
        clips: the clipped columns.
    """

    names: Sequence[str]
    categories: dict[int, tuple[object, ...] | None] = field(default_factory=dict)
    fills: dict[int, list[object]] = field(default_factory=dict)
    clips: list[Clip] = field(default_factory=list)

    def numbers(self, table: ColumnTable) -> ColumnTable:
        """Return a table whose unchanged columns are read as numbers.

        Raises:
            TransformError: a column was read as categories before.
        """
        read = [raw for raw in table.raw if raw is not None]
        for raw in read:
            self._use(raw, None)
        inputs = list(dict.fromkeys(raw.column for raw in read))
        computed = replace(table, raw=(None,) * len(table))
        both = beside([computed, ColumnTable.of_sources([("input", column, 0) for column in inputs])])
        return both.take(
            [i if raw is None else len(table) + inputs.index(raw.column) for i, raw in enumerate(table.raw)]
        )

    def one_hot(self, raw: Raw, categories: tuple[object, ...]) -> ColumnTable:
        """Return an indicator column for each category of an unchanged column.

        Raises:
            TransformError: the column was read as numbers, or with other categories, before.
        """
        self._use(raw, categories)
        return ColumnTable.of_sources([("input", raw.column, k) for k in range(len(categories))])

    def clip(self, table: ColumnTable, lower: float, upper: float) -> ColumnTable:
        """Clip columns, none of which may be unchanged."""
        first = sum(len(clip.numbers) for clip in self.clips)
        numbers = range(first, first + len(table))
        depths = {number: clip.depth for clip in self.clips for number in clip.numbers}
        depth = 1 + max((depths[number] for kind, number, _ in table.used if kind == "clip"), default=0)
        bounds = np.full(len(table), lower, dtype=np.float64), np.full(len(table), upper, dtype=np.float64)
        self.clips.append(Clip(table, *bounds, numbers, depth))
        return ColumnTable.of_sources([("clip", number, 0) for number in numbers])

    def _use(self, raw: Raw, categories: tuple[object, ...] | None) -> None:
        before = self.categories.setdefault(raw.column, categories)
        self.fills.setdefault(raw.column, []).append(raw.fill)
        if repr(before) != repr(categories):
            name = self.names[raw.column]
            kinds = "as numbers and as categories" if None in (before, categories) else "with two lists of categories"
            raise TransformError(
                f"estimator: expected each column to be used in one way, found that {name!r} is used {kinds}; copy the "
                "column under another name for one of the two uses, and fit again."
            )
