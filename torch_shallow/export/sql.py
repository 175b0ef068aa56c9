"""Write a network as one SELECT with nested CASE, for SQLite, DuckDB and PostgreSQL."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from itertools import count

import numpy as np
from jaxtyping import Float, Int

from torch_shallow.errors import TransformError, argument_error
from torch_shallow.explain.features import Features
from torch_shallow.export.head_steps import Step
from torch_shallow.export.tables import Tables, slack_of
from torch_shallow.export.writing import write
from torch_shallow.modules.shallow_relu import ShallowReLU

MOST_NESTED = 15  # levels of CASE within CASE; the stack of SQLite's parser allows 18
MOST_TERMS = 900  # terms of a sum, as expressions in SQLite are at most 1000 deep


def to_sql(
    shallow: ShallowReLU,
    table: str | Sequence[str],
    path: str | os.PathLike[str] | None = None,
    *,
    features: Features | Sequence[str] | None = None,
    outputs: Sequence[str] | None = None,
    keep: Sequence[str] = (),
) -> str:
    """Write a network as one SELECT over the rows of a table, for SQLite (from 3.35), DuckDB and PostgreSQL (from 12).

    Each output is a CASE over the cuts with linear expressions in its leaves, so the text grows with regions, outputs
    and inputs: about 300 bytes for a region with four inputs. CASE is nested no deeper than the logarithm of the number
    of regions, whatever the depth of the tree. SQLite prepares such a query in 0.2 s for 600 regions, but takes a
    minute for 11,000; merge or simplify networks with thousands of regions first. A head becomes queries around the
    first one; `exp`, `ln` and `tanh` are functions of the database. Outputs are those of the network up to rounding,
    and NULL where an input is NULL, not finite or outside the domain. At a point that is on a cut up to rounding, the
    region on the other side may be chosen, where a continuous network has the same value up to rounding.

    Args:
        shallow: a complete network; merged and simplified networks are allowed.
        table: name of the table; several names are schema and table.
        path: path of a file to write; nothing is written if None.
        features: columns of the inputs; `x0`, `x1`, ... if None. With a mean and a scale, the columns hold unscaled
            values.
        outputs: names of the results; `y0`, `y1`, ... if None.
        keep: further columns of the table to select, such as its key.

    Returns:
        The text of the query, without a semicolon.

    Raises:
        WrongTypeError: an argument has the wrong type.
        TransformError: an argument is invalid, the network is not complete, its head cannot be written, or it is too
            large for the parser of SQLite.

    Example:
        >>> import sqlite3, torch, torch_shallow
        >>> from torch import nn
        >>> from torch_shallow.export import to_sql
        >>> shallow = torch_shallow.transform(nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)))
        >>> query = to_sql(shallow, "patients", features=["age", "bmi"], outputs=["risk"], keep=["id"])
        >>> base = sqlite3.connect(":memory:")
        >>> _ = base.execute("CREATE TABLE patients (id INTEGER, age REAL, bmi REAL)")
        >>> _ = base.execute("INSERT INTO patients VALUES (7, 0.5, 2.0)")
        >>> ((key, risk),) = base.execute(query).fetchall()
        >>> key, torch.allclose(torch.tensor(risk), shallow(torch.tensor([0.5, 2.0])))
        (7, True)
    """
    tables = Tables.of(shallow, features)
    names = [table] if isinstance(table, str) else table
    source = ".".join(_quoted("table", name) for name in _texts("table", names))
    columns = [_quoted("features", name) for name in tables.features.names]
    if len(set(columns)) < len(columns):
        raise TransformError("features: expected columns with different names, found a name twice; rename one of them.")
    results = [f"y{i}" for i in range(tables.num_outputs)] if outputs is None else list(_texts("outputs", outputs))
    if len(results) != tables.num_outputs:
        raise TransformError(
            f"outputs: expected one name for each of {tables.num_outputs} outputs, found {len(results)}."
        )
    kept = [_quoted("keep", name) for name in _texts("keep", keep)] if keep else []
    return _finish(_query(tables, source, columns, [_quoted("outputs", name) for name in results], kept), path)


def _finish(text: str, path: str | os.PathLike[str] | None) -> str:
    if path is not None:
        write(path, text + ";\n", "network.sql")
    return text


def _texts(argument: str, names: Sequence[str]) -> Sequence[str]:
    if isinstance(names, str) or not isinstance(names, Sequence) or not names:
        raise argument_error(names, list, tuple)(f"{argument}: expected a list of names, found {names!r}.")
    return names


def _quoted(argument: str, name: object) -> str:
    if not isinstance(name, str) or not name or "\0" in name:
        raise argument_error(name, str)(f"{argument}: expected a name that a column can have, found {name!r}.")
    return '"' + name.replace('"', '""') + '"'


def _query(tables: Tables, source: str, columns: list[str], results: list[str], kept: list[str]) -> str:
    taken = {*kept, *columns}
    fresh = (name for name in (f'"_{i}"' for i in count()) if name not in taken)
    stages = list[str]()

    def stage(values: Sequence[str], carried: list[str]) -> list[str]:
        """Make values the columns of a separate query, which the rest of the text reads."""
        nonlocal source
        names = [next(fresh) for _ in values]
        text = _select(values, names, carried, source)
        source = next(fresh)
        stages.append(f"{source} AS MATERIALIZED (\n{text}\n)")
        return names

    coordinates = columns
    if tables.projection is not None:
        coordinates = stage([_sum(row, columns) for row in tables.projection], list(dict.fromkeys([*kept, *columns])))
    inside, size = _inside(tables, columns), _sizes(tables.cuts)
    values = [
        f"CASE WHEN {inside} THEN {_Tree(tables, size, coordinates, columns, output).text} END"
        for output in range(tables.trunk_size)
    ]
    for step in tables.head:
        for made in _made(step):
            values = made(stage(values, kept))
    body = _select(values, results, kept, source)
    return f"WITH {', '.join(stages)}\n{body}" if stages else body


def _select(values: Sequence[str], names: Sequence[str], kept: Sequence[str], source: str) -> str:
    parts = [*kept, *(f"{value} AS {name}" for value, name in zip(values, names, strict=True))]
    return "SELECT " + ",\n".join(parts) + f"\nFROM {source}"


def _number(value: float) -> str:
    """Write a literal in the fewest digits that identify the number; the exponent keeps it from being a decimal."""
    text = repr(float(value))
    return text if "e" in text else f"{text}e0"


def _sum(row: Float[np.ndarray, "homogeneous"], names: Sequence[str]) -> str:
    """Write a linear expression."""
    terms = [(weight, f"*{name}") for weight, name in zip(row[:-1].tolist(), names, strict=True) if weight]
    if row[-1] or not terms:
        terms.append((float(row[-1]), ""))
    if len(terms) > MOST_TERMS:
        raise TransformError(
            f"shallow: expected sums of at most {MOST_TERMS} terms, since expressions in SQLite are at most 1000 deep, "
            f"found one of {len(terms)}; use to_python or to_c, or a network with fewer inputs."
        )
    (first, name), *others = terms
    text = [f"{_number(first)}{name}"]
    return "".join([*text, *(f" {'-' if w < 0 else '+'} {_number(abs(w))}{name}" for w, name in others)])


def _inside(tables: Tables, columns: Sequence[str]) -> str:
    bounds = zip(columns, *tables.limits(np.float64).tolist(), strict=True)
    parts = [f"{column} BETWEEN {_number(low)} AND {_number(high)}" for column, low, high in bounds]
    for face in tables.polytope:
        terms = [f"abs({_number(w)}*{column})" for w, column in zip(face[:-1], columns, strict=True) if w]
        size = " + ".join([*terms, _number(abs(face[-1]))])
        parts.append(f"{_sum(face, columns)} <= {_number(slack_of(np.float64))}*({size})")
    if len(parts) > MOST_TERMS:
        raise TransformError(
            f"shallow: expected at most {MOST_TERMS} inputs and inequalities, since expressions in SQLite are at most "
            f"1000 deep, found {len(parts)}; use to_python or to_c."
        )
    return " AND ".join(parts)


def _sizes(cuts: Int[np.ndarray, "cuts 3"]) -> list[int]:
    """Return the number of leaves below each cut."""
    sizes = [0] * len(cuts)
    for cut in reversed(range(len(cuts))):  # cuts come after their parents
        sizes[cut] = sum(sizes[below] if below >= 0 else 1 for below in cuts[cut, 1:].tolist())
    return sizes


class _Tree:
    """Write one output: a CASE follows the larger of two parts, so that only the smaller ones are nested."""

    def __init__(
        self, tables: Tables, sizes: list[int], coordinates: Sequence[str], columns: Sequence[str], output: int
    ) -> None:
        self.cuts, self.sizes, self.rows = tables.cuts.tolist(), sizes, tables.rows
        self.coordinates, self.conditions = coordinates, dict[tuple[int, bool], str]()
        skip = "" if tables.skip is None else f" + {_sum(np.append(tables.skip[output], 0.0), columns)}"
        self.leaves = [_sum(row, coordinates) + skip.replace("+ -", "- ") for row in tables.models[:, output]]
        self.text = self._case(0 if self.cuts else -1, 0)

    def _case(self, node: int, nested: int) -> str:
        if node < 0:
            return self.leaves[~node]
        if nested > MOST_NESTED:
            raise TransformError(
                f"shallow: expected a network whose CASE is nested at most {MOST_NESTED} times, as many as the stack "
                f"of SQLite's parser allows, found one of {self.sizes[0]} regions; merge or simplify the network, or "
                "use to_c."
            )
        parts = []
        while node >= 0:
            row, inactive, active = self.cuts[node]
            sizes = [self.sizes[below] if below >= 0 else 1 for below in (inactive, active)]
            along = sizes[1] > sizes[0]
            light, node = (inactive, active) if along else (active, inactive)
            parts.append(f"WHEN {self._condition(row, not along)} THEN {self._case(light, nested + 1)}")
        return f"CASE {' '.join(parts)} ELSE {self.leaves[~node]} END"

    def _condition(self, row: int, positive: bool) -> str:
        """Write where a half-space is positive, or where it is not; for one feature, as a threshold."""
        if (row, positive) not in self.conditions:
            numbers, sign = self.rows[row], ">" if positive else "<="
            (read,) = np.nonzero(numbers[:-1])
            text = f"{_sum(numbers, self.coordinates)} {sign} 0e0"
            with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
                threshold = 0.0 - numbers[-1] / numbers[read[0]] if len(read) == 1 else np.nan
            if np.isfinite(threshold):
                mirrored = sign if numbers[read[0]] > 0 else {">": "<", "<=": ">="}[sign]
                text = f"{self.coordinates[read[0]]} {mirrored} {_number(threshold)}"
            self.conditions[row, positive] = text
        return self.conditions[row, positive]


def _power(value: str) -> str:
    """Write the exponential of a value that is not positive; PostgreSQL refuses values that underflow."""
    return f"CASE WHEN {value} > -700e0 THEN exp({value}) WHEN {value} <= -700e0 THEN 0e0 END"


def _largest(values: list[str], results: Sequence[str]) -> str:
    """Write the result for the first of the largest values."""
    whens = (
        f"WHEN {' AND '.join(f'{value} >= {other}' for other in values)} THEN {result}"
        for value, result in zip(values, results, strict=True)
    )
    return f"CASE {' '.join(whens)} END"


Made = Callable[[list[str]], list[str]]


def _made(step: Step) -> list[Made]:
    """Return what a step does with the names of columns, query by query."""

    def sigmoid(value: str) -> str:
        return (
            f"CASE WHEN {value} >= 0e0 THEN 1e0/(1e0 + {_power(f'(-{value})')}) "
            f"WHEN {value} < 0e0 THEN 1e0 - 1e0/(1e0 + {_power(value)}) END"
        )

    def below_largest(v: list[str]) -> list[str]:
        return [f"{value} - {v[-1]}" for value in v[:-1]]

    def with_largest(v: list[str]) -> list[str]:
        return [*v, _largest(v, v)]

    match step.name:
        case "affine" if step.scale is not None and step.shift is not None:
            terms = list(zip(map(_number, step.scale), map(_number, step.shift), strict=True))
            return [lambda v: [f"{a}*{value} + {b}" for (a, b), value in zip(terms, v, strict=True)]]
        case "choose" if step.chosen is not None:
            chosen = step.chosen.tolist()
            return [lambda v: [v[k] for k in chosen]]
        case "sigmoid":
            return [lambda v: [sigmoid(value) for value in v]]
        case "tanh" | "exp":
            return [lambda v: [f"{step.name}({value})" for value in v]]
        case "softmax":
            return [
                with_largest,
                below_largest,
                lambda v: [_power(value) for value in v],
                lambda v: [f"{value}/({' + '.join(v)})" for value in v],
            ]
        case "log_softmax":
            return [
                with_largest,
                below_largest,
                lambda v: [*v, f"ln({' + '.join(map(_power, v))})"],
                below_largest,
            ]
        case _:
            return [lambda v: [_largest(v, [str(k) for k in range(len(v))])]]
