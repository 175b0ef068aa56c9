"""Read a fitted estimator of scikit-learn as a network, and compare the two."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from torch_shallow.errors import TransformError, UnsupportedOperation, WrongTypeError, argument_error
from torch_shallow.estimators import predictors, preprocessing
from torch_shallow.estimators.assembly import assemble
from torch_shallow.estimators.column_table import ColumnTable, Raw, Reading, Source
from torch_shallow.estimators.predictors import Predictor
from torch_shallow.explain.columns import Column
from torch_shallow.explain.features import Features
from torch_shallow.optional import require

_log = logging.getLogger(__name__)
_ROWS = 16
_UNFITTED = "is not fitted; call its fit first"
_WHAT_IS_READ = (
    "Supported steps are StandardScaler, MinMaxScaler, RobustScaler, MaxAbsScaler, PCA, SimpleImputer, OneHotEncoder "
    "and feature selectors, in Pipeline, ColumnTransformer and FeatureUnion; supported predictors are MLPRegressor, "
    "MLPClassifier, linear and logistic models, LinearSVC and LinearSVR. Apply any other step to the table first, and "
    "fit the rest on the result."
)


def from_sklearn(estimator: Any, feature_names: Sequence[str] | None = None) -> tuple[nn.Sequential, Features]:
    """Convert a fitted estimator or pipeline of scikit-learn to a network, and describe the network's input features.

    The network takes the columns of the pipeline's input table in their own units: scalers and all other affine steps
    become part of its linear layers. Its weights are float64. A numeric column is one input; a one-hot encoded column
    is one input for each category, 1 for the present category and 0 for the others. `features.encode(table)` turns rows
    of a table into a batch of inputs; for a numeric table, `torch.from_numpy(array)` does too.

    The network returns what `predict` returns, one column for each target. For a classifier it returns one column for
    each of `classes_`, the largest of which marks the predicted class: `predict_proba`, computed by a head that is the
    last part of the network, so that `network[:-1]` returns the scores before it; or `decision_function` if the
    classifier has no probabilities. With two classes, the score of the second one is `decision_function`, and that of
    the first is its negative.

    Supported are `Pipeline`, `ColumnTransformer`, `FeatureUnion` and `TransformedTargetRegressor`, nested in any way;
    `StandardScaler`, `MinMaxScaler`, `RobustScaler`, `MaxAbsScaler` (also with `clip`), `PCA`, `SimpleImputer`,
    `OneHotEncoder` and feature selectors; `MLPRegressor` and `MLPClassifier` with the activation `relu` or `identity`;
    linear and logistic models, `LinearSVC` and `LinearSVR`; and the best estimator of a parameter search.

    A network has no missing values: it equals the pipeline on complete rows, where a `SimpleImputer` changes nothing.
    If a `SimpleImputer` is the first step of a column, `features.encode` fills in missing values as it does.

    Args:
        estimator: a fitted estimator or pipeline.
        feature_names: names of the columns of the table; if None, those that the estimator was fitted with, or x0, x1,
            ...

    Returns:
        The network, and the names of its inputs, with the groups of inputs that are categories of one column.

    Raises:
        WrongTypeError: `estimator` is not an estimator of scikit-learn.
        UnsupportedOperation: it has unsupported steps; the message names all of them.
        TransformError: it is not fitted, a column is used both as numbers and as categories, the number of names is
            wrong, or the network's results differ from those of the estimator.

    Example:
        >>> import torch, torch_shallow
        >>> from sklearn.datasets import load_diabetes
        >>> from sklearn.linear_model import Ridge
        >>> from sklearn.pipeline import make_pipeline
        >>> from sklearn.preprocessing import StandardScaler
        >>> x, y = load_diabetes(return_X_y=True, scaled=False)
        >>> pipeline = make_pipeline(StandardScaler(), Ridge()).fit(x, y)
        >>> network, features = torch_shallow.from_sklearn(pipeline)
        >>> bool((network(torch.from_numpy(x))[:, 0] - torch.from_numpy(pipeline.predict(x))).abs().max() < 1e-9)
        True
    """
    _check(estimator)
    names = _names(estimator, feature_names)
    reading = Reading(names)
    table, predictor = _read(estimator, ColumnTable.of_raw([Raw(i) for i in range(len(names))]), reading)
    columns = tuple(_column(reading, i) for i in sorted(reading.categories))
    inputs: list[Source] = [
        ("input", column.position, k) for column in columns for k in range(len(column.categories or (None,)))
    ]
    network = assemble(inputs, reading.clips, table, predictor)
    features = Features.of_columns(columns)
    _compare(estimator, network, features, names, predictor.method, tolerance=1e-6)
    return network, features


def _check(estimator: Any) -> None:
    """Check that an estimator can be read."""
    if isinstance(estimator, nn.Module):
        raise WrongTypeError(
            "estimator: expected a fitted estimator of scikit-learn, found an nn.Module; pass it to transform as it is."
        )
    is_class = isinstance(estimator, type)
    if is_class or not (hasattr(estimator, "fit") and hasattr(estimator, "get_params")):
        raise WrongTypeError(
            "estimator: expected a fitted estimator or pipeline of scikit-learn, found "
            f"{f'the class {estimator.__name__}' if is_class else type(estimator).__name__}."
        )
    steps = [(path, step, why or _why_not_fitted(step)) for path, step, why in _steps(estimator, "")]
    found = [f"  {path or 'it'}: {type(step).__name__} {why}." for path, step, why in steps if why]
    reasons = {why for _, _, why in steps if why}
    if reasons:
        error = TransformError if reasons == {_UNFITTED} else UnsupportedOperation
        read = [_WHAT_IS_READ] if reasons & {preprocessing.NOT_READ, predictors.NOT_READ} else []
        raise error("\n".join(["estimator: expected a fitted estimator with supported steps, found:", *found, *read]))


def _steps(estimator: Any, path: str) -> Iterator[tuple[str, Any, str | None]]:
    """Yield the steps of an estimator, each with its path and the reason why it cannot be read."""
    *before, last = _parts(estimator)
    for name, step in before:
        for place, each in preprocessing.steps_within(step, f"{path}__{name}".lstrip("_")):
            yield place, each, preprocessing.why_not(each)
    if last[1] is estimator:
        kind = type(estimator).__name__
        can_be_fitted = kind == "TransformedTargetRegressor" or kind.endswith("SearchCV")
        yield path, estimator, _UNFITTED if can_be_fitted else predictors.why_not(estimator)
    else:
        yield from _steps(last[1], f"{path}__{last[0]}".lstrip("_"))


def _parts(estimator: Any) -> list[tuple[str, Any]]:
    """Return the steps of an estimator, the last of which predicts; the estimator itself if it has no steps."""
    kind = type(estimator).__name__ if type(estimator).__module__.startswith("sklearn.") else ""
    if kind == "Pipeline":
        return list(estimator.steps)
    inner = {"TransformedTargetRegressor": "regressor_"}.get(kind, "best_estimator_")
    return [(inner, getattr(estimator, inner))] if kind and hasattr(estimator, inner) else [("", estimator)]


def _why_not_fitted(step: Any) -> str | None:
    from sklearn.exceptions import NotFittedError
    from sklearn.utils.validation import check_is_fitted

    try:
        if step is not None and not isinstance(step, str):
            check_is_fitted(step)
    except NotFittedError:
        return _UNFITTED
    return None


def _names(estimator: Any, given: Sequence[str] | None) -> list[str]:
    """Return the names of the columns of the table that an estimator takes."""
    count = _known(estimator, "n_features_in_")
    known = _known(estimator, "feature_names_in_")
    if given is None:
        return [f"x{i}" for i in range(count)] if known is None or len(known) != count else list(map(str, known))
    if isinstance(given, str) or not isinstance(given, Sequence | np.ndarray) or len(given) != count:
        raise argument_error(given, list, tuple, np.ndarray)(
            f"feature_names: expected one name for each of the {count} columns, found {given!r}."
        )
    return list(map(str, given))


def _known(estimator: Any, name: str) -> Any:
    """Return an attribute of an estimator, or of the first of its steps that has it."""
    found = getattr(estimator, name, None)
    if found is None and (parts := _parts(estimator))[0][1] is not estimator:
        found = next((each for _, step in parts if (each := _known(step, name)) is not None), None)
    return found


def _read(estimator: Any, table: ColumnTable, reading: Reading) -> tuple[ColumnTable, Predictor]:
    """Return the columns that the predictor receives, and the predictor."""
    *before, (_, last) = _parts(estimator)
    for _, step in before:
        table = preprocessing.transformed(step, table, reading)
    if last is estimator:
        return reading.numbers(table), predictors.read_predictor(estimator)
    table, predictor = _read(last, table, reading)
    if hasattr(estimator, "transformer_"):
        predictor = predictor.scaled(*predictors.target_scale(estimator.transformer_, len(predictor.layers[-1][1])))
    return table, predictor


def _column(reading: Reading, i: int) -> Column:
    fills = reading.fills[i]
    fill = fills[0] if all(repr(each) == repr(fills[0]) for each in fills) else None
    return Column(reading.names[i], i, reading.categories[i], fill)


def _compare(
    estimator: Any, network: nn.Sequential, features: Features, names: Sequence[str], method: str, tolerance: float
) -> None:
    """Compare a network with the estimator from which it was read, at a few rows of ordinary size."""
    rows, known = _rows(network, features, len(names)), _known(estimator, "feature_names_in_")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = np.asarray(getattr(estimator, method)(rows if known is None else _frame(rows, known)))
    except Exception as error:
        _log.info("network not compared with the estimator, which fails: %s: %s", type(error).__name__, error)
        return
    with torch.no_grad():
        found = network(features.encode(rows)).numpy()
    if expected.ndim == 1:
        expected = expected[:, None] if method == "predict" else np.stack([-expected, expected], axis=1)
    rounding = tolerance if expected.dtype == np.float64 else np.finfo(np.float32).eps ** 0.5
    if found.shape != expected.shape or not (np.abs(found - expected) <= rounding * np.abs(expected).max()).all():
        raise TransformError(
            f"estimator: expected the network to give the results of {method}, found other results; please report "
            "this, with the versions of scikit-learn and of this package."
        )


def _rows(network: nn.Sequential, features: Features, count: int) -> np.ndarray:
    """Draw rows of a table, the same each time: near where the first layer changes signs, and with each category."""
    generator = np.random.default_rng(0)
    weight, bias = (parameter.detach().numpy() for parameter in network[0].parameters())
    steepest = np.abs(weight).max(axis=0)
    size = 1.0 / np.where(steepest > 0.0, steepest, 1.0)
    center = size * np.linalg.lstsq(weight * size, -bias, rcond=1e-6)[0]
    numbers = center + 2.0 * size * generator.standard_normal((_ROWS, len(features)))
    rows = np.zeros((_ROWS, count), dtype=object if features.one_hot else np.float64)
    place = 0
    for column in features.columns:
        if column.categories is None:
            rows[:, column.position] = numbers[:, place]
            place += 1
        else:
            chosen = generator.integers(len(column.categories), size=_ROWS)
            rows[:, column.position] = [column.categories[k] for k in chosen]
            place += len(column.categories)
    return rows


def _frame(rows: np.ndarray, names: Sequence[str]) -> Any:
    """Convert rows to the data frame whose columns an estimator was fitted with."""
    pandas = require("pandas", "explain")
    return pandas.DataFrame({name: rows[:, i].tolist() for i, name in enumerate(names)})
