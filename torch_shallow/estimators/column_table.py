"""What the steps of a pipeline make of the columns of a table: affine functions of inputs and of clipped values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from torch_shallow.errors import TransformError

Source = tuple[str, int, int]
"""`("input", column, 0)`, `("input", column, category)`, or `("clip", number, 0)`: what affine functions are of."""


class Raw(NamedTuple):
    """A column of the user's table, as it is.

    Attributes:
        column: its number.
        fill: what an imputer puts in place of a missing value; None if there is no such step.
    """

    column: int
    fill: object = None


@dataclass(frozen=True, eq=False)
class ColumnTable:
    """Columns, each a column of the user's table as it is, or `weight @ sources + bias`.

    Attributes:
        sources: what the columns are functions of.
        weight: of each column; 0 for one that is raw.
        bias: of each column.
        raw: of each column, what it is if nothing has been computed of it, or None.
    """

    sources: tuple[Source, ...]
    weight: Float[np.ndarray, "columns sources"]
    bias: Float[np.ndarray, "columns"]
    raw: tuple[Raw | None, ...]

    @staticmethod
    def of_raw(columns: Sequence[Raw]) -> ColumnTable:
        """Columns of the user's table."""
        return ColumnTable((), np.zeros((len(columns), 0)), np.zeros(len(columns)), tuple(columns))

    @staticmethod
    def of_sources(sources: Sequence[Source]) -> ColumnTable:
        """The values of sources."""
        return ColumnTable(tuple(sources), np.eye(len(sources)), np.zeros(len(sources)), (None,) * len(sources))

    def __len__(self) -> int:
        return len(self.raw)

    @property
    def used(self) -> list[Source]:
        """The sources that a column depends on."""
        return [self.sources[i] for i in np.flatnonzero(np.abs(self.weight).sum(axis=0))]

    def take(self, columns: Sequence[int] | np.ndarray) -> ColumnTable:
        """Some of the columns, in this order."""
        chosen = [int(column) for column in columns]
        return replace(self, weight=self.weight[chosen], bias=self.bias[chosen], raw=tuple(self.raw[i] for i in chosen))

    def affine(
        self, weight: Float[np.ndarray, "results columns"], bias: Float[np.ndarray, "results"] | float = 0.0
    ) -> ColumnTable:
        """Affine functions of columns, none of which is raw."""
        return ColumnTable(self.sources, weight @ self.weight, weight @ self.bias + bias, (None,) * len(weight))

    def scaled(self, factor: Float[np.ndarray, "columns"], offset: Float[np.ndarray, "columns"] | float) -> ColumnTable:
        """Each column times a factor, plus an offset."""
        return ColumnTable(
            self.sources, factor[:, None] * self.weight, factor * self.bias + offset, (None,) * len(self)
        )


def beside(tables: Sequence[ColumnTable]) -> ColumnTable:
    """The columns of several tables, side by side."""
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
    """Columns that are clipped: sources of what comes after.

    Attributes:
        table: the columns before.
        lower: bound of each.
        upper: bound of each.
        numbers: of the sources that they become.
        depth: 1, or one more than that of the deepest clip that they are functions of.
    """

    table: ColumnTable
    lower: Float[np.ndarray, "columns"]
    upper: Float[np.ndarray, "columns"]
    numbers: range
    depth: int


@dataclass(eq=False)
class Reading:
    """What is known of a pipeline while it is read.

    Attributes:
        names: of the columns of the user's table.
        categories: of each column that was used so far; None for a column of numbers.
        fills: of each column that was used so far, the values that imputers put in place of missing ones.
        clips: what was clipped.
    """

    names: Sequence[str]
    categories: dict[int, tuple[object, ...] | None] = field(default_factory=dict)
    fills: dict[int, list[object]] = field(default_factory=dict)
    clips: list[Clip] = field(default_factory=list)

    def numbers(self, table: ColumnTable) -> ColumnTable:
        """A table whose raw columns are read as numbers.

        Raises:
            TransformError: one of them was read as a category before.
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
        """For each category of a raw column, whether it is this one.

        Raises:
            TransformError: it was read as numbers before, or with other categories.
        """
        self._use(raw, categories)
        return ColumnTable.of_sources([("input", raw.column, k) for k in range(len(categories))])

    def clip(self, table: ColumnTable, lower: float, upper: float) -> ColumnTable:
        """The columns, none of which is raw, clipped."""
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
                f"estimator: expected each column to be read in one way, found that {name!r} is read {kinds}; give one "
                "of the two a copy of the column, under another name, and fit again."
            )
