"""Read the steps before the prediction: scalers, imputers, encoders, projections, and their combinations."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from torch_shallow.errors import TransformError
from torch_shallow.estimators.column_table import ColumnTable, Reading, beside
from torch_shallow.explain.features import scaling

NOT_READ = "is not supported"
Step = Callable[[Any, ColumnTable, Reading], ColumnTable]


def transformed(step: Any, table: ColumnTable, reading: Reading) -> ColumnTable:
    """Apply a fitted step to columns.

    Args:
        step: a fitted step for which `why_not` returns None.
        table: the input of the step.
        reading: what is known about the pipeline so far.

    Raises:
        TransformError: a column is used in two ways that one input of a network cannot serve.
    """
    return TRANSFORMERS[_kind(step)](step, table, reading)


def steps_within(step: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Yield a step, or the steps that it consists of, each with its path."""
    kind = _kind(step)
    if kind == "Pipeline":
        inner = step.steps
    elif kind == "FeatureUnion":
        inner = step.transformer_list
    elif kind == "ColumnTransformer" and hasattr(step, "transformers_"):
        inner = [(name, each) for name, each, _ in _with_columns(step)]
    else:
        yield path, step
        return
    for name, each in inner:
        yield from steps_within(each, f"{path}__{name}" if path else name)


def why_not(step: Any) -> str | None:
    """Explain why a step before the prediction cannot be read, and what to do; None if it can be read."""
    kind = _kind(step)
    if kind not in TRANSFORMERS:
        return NOT_READ
    if kind == "FunctionTransformer" and step.func is not None:
        return "applies a custom function, which is not supported; apply it to the table first, and fit the rest"
    if kind == "SimpleImputer" and not _is_nothing(step.missing_values):
        return f"treats the number {step.missing_values!r} as a missing value, and jumps there; use NaN instead"
    return None


def _is_nothing(value: Any) -> bool:
    return value is None or type(value).__name__ == "NAType" or bool(value != value)


def _kind(step: Any) -> str:
    """Return the kind of a step by its class name; only scikit-learn's own classes have a known kind."""
    if step is None or isinstance(step, str):
        return str(step)  # "passthrough", "drop"
    ours = type(step).__module__.startswith("sklearn.")
    if ours and type(step).__module__.startswith("sklearn.feature_selection") and hasattr(step, "get_support"):
        return "selectors of features"
    return type(step).__name__ if ours else f"{type(step).__module__}.{type(step).__name__}"


def _scale(step: Any, table: ColumnTable, reading: Reading) -> ColumnTable:
    mean, scale = scaling(step)
    scaled = reading.numbers(table).scaled(1.0 / scale, -mean / scale)
    if not getattr(step, "clip", False):
        return scaled
    return reading.clip(scaled, *map(float, getattr(step, "feature_range", (-1.0, 1.0))))


def _project(step: Any, table: ColumnTable, reading: Reading) -> ColumnTable:
    weight = np.asarray(step.components_, dtype=np.float64)
    if step.whiten:
        size = np.sqrt(step.explained_variance_)
        # Like scikit-learn, divide by no less than this.
        weight = weight / np.maximum(size, np.finfo(size.dtype).eps)[:, None]
    return reading.numbers(table).affine(weight, -weight @ step.mean_)


def _impute(step: Any, table: ColumnTable, reading: Reading) -> ColumnTable:
    statistics = step.statistics_
    kept = [i for i, value in enumerate(statistics) if step.keep_empty_features or value == value]
    filled = [
        # The indicators of an imputer, and an earlier imputer, need the missing values.
        raw if raw is None or raw.fill is not None or step.add_indicator else raw._replace(fill=value)
        for raw, value in zip(table.raw, statistics, strict=True)
    ]
    complete = replace(table, raw=tuple(filled)).take(kept)
    if not step.add_indicator:
        return complete
    indicators = ColumnTable((), np.zeros((n := len(step.indicator_.features_), 0)), np.zeros(n), (None,) * n)
    return beside([complete, indicators])


def _one_hot(step: Any, table: ColumnTable, reading: Reading) -> ColumnTable:
    rare = getattr(step, "infrequent_categories_", None) or [None] * len(table)
    parts = []
    for i, categories in enumerate(map(tuple, step.categories_)):
        one_hot = _categories(step, table, i, reading)
        known = set(map(repr, () if rare[i] is None else rare[i]))  # compared by repr, as NaN does not equal itself
        few = [k for k, category in enumerate(categories) if repr(category) in known]
        columns = np.eye(len(categories))
        kept = [k for k in range(len(categories)) if k not in few]
        dropped = None if step.drop_idx_ is None else step.drop_idx_[i]
        rows = [columns[k] for k in kept if k != dropped]
        if few and dropped not in few:
            rows.append(columns[few].sum(axis=0))
        parts.append(one_hot.affine(np.array(rows).reshape(-1, len(categories))))
    return beside(parts)


def _categories(step: Any, table: ColumnTable, i: int, reading: Reading) -> ColumnTable:
    raw = table.raw[i]
    if raw is None:
        raise TransformError(
            f"estimator: expected that {type(step).__name__} encodes columns of the table, found that it encodes "
            "results of an earlier step; encode the columns themselves."
        )
    return reading.one_hot(raw, tuple(step.categories_[i]))


def _as_it_is(step: Any, table: ColumnTable, reading: Reading) -> ColumnTable:
    return table


def _select(step: Any, table: ColumnTable, reading: Reading) -> ColumnTable:
    return reading.numbers(table).take(np.flatnonzero(step.get_support()))


def _pipeline(step: Any, table: ColumnTable, reading: Reading) -> ColumnTable:
    for _, each in step.steps:
        table = transformed(each, table, reading)
    return table


def _union(step: Any, table: ColumnTable, reading: Reading) -> ColumnTable:
    parts = [(name, transformed(each, table, reading)) for name, each in step.transformer_list]
    return _joined(parts, step.transformer_weights, reading)


def _by_columns(step: Any, table: ColumnTable, reading: Reading) -> ColumnTable:
    parts = [(name, transformed(each, table.take(columns), reading)) for name, each, columns in _with_columns(step)]
    return _joined(parts, step.transformer_weights, reading)


def _with_columns(step: Any) -> list[tuple[str, Any, Sequence[int]]]:
    """Return the steps of a `ColumnTransformer` that receive columns, with these; other steps are not fitted."""
    columns = step._transformer_to_input_indices
    return [(name, each, columns[name]) for name, each, _ in step.transformers_ if len(columns[name])]


def _joined(
    parts: Iterable[tuple[str, ColumnTable]], weights: Mapping[str, float] | None, reading: Reading
) -> ColumnTable:
    """Place tables side by side, multiplied by their weights if they have any."""
    weights = weights or {}
    return beside(
        [
            reading.numbers(part).scaled(np.full(len(part), weights[name]), 0.0) if name in weights else part
            for name, part in parts
        ]
    )


TRANSFORMERS: dict[str, Step] = {
    "ColumnTransformer": _by_columns,
    "FeatureUnion": _union,
    "FunctionTransformer": _as_it_is,  # without a function, as ColumnTransformer writes "passthrough"
    "IncrementalPCA": _project,
    "MaxAbsScaler": _scale,
    "MinMaxScaler": _scale,
    "None": _as_it_is,
    "OneHotEncoder": _one_hot,
    "PCA": _project,
    "Pipeline": _pipeline,
    "RobustScaler": _scale,
    "SimpleImputer": _impute,
    "StandardScaler": _scale,
    "drop": lambda step, table, reading: table.take([]),
    "passthrough": _as_it_is,
    "selectors of features": _select,
}
