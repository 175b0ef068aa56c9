"""Names and units of the inputs, so that explanations use the terms of the data, not those of the scaled inputs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from numbers import Integral
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from torch_shallow.errors import TransformError, WrongTypeError
from torch_shallow.explain.columns import Column

ROUNDING = 8 * np.finfo(np.float64).eps  # rounding error of a value, relative to mean and scale


@dataclass(frozen=True, eq=False)
class Features:
    """Names and units of the entries of a flattened input; the network reads `(value - mean) / scale`.

    Attributes:
        names: one name for each entry.
        mean: the values that the network reads as 0, one for each entry.
        scale: the change of each value that the network reads as 1; not 0.
        columns: the columns of the table from which inputs are made; empty if the inputs are simply its values in
            order.

    Example:
        >>> import numpy as np
        >>> from torch_shallow.explain import Features
        >>> features = Features.of(["age", "income"], mean=[40.0, 3000.0], scale=[12.0, 900.0])
        >>> features.unscale(np.array([1.0, -1.0])).tolist()
        [52.0, 2100.0]
    """

    names: tuple[str, ...]
    mean: Float[np.ndarray, "inputs"]
    scale: Float[np.ndarray, "inputs"]
    columns: tuple[Column, ...] = ()

    @staticmethod
    def of_columns(columns: Sequence[Column]) -> Features:
        """The inputs that the columns of a table become, in their own units.

        Args:
            columns: the columns, in the order of the inputs.

        Returns:
            `Features` with mean 0 and scale 1, one for each input.
        """
        return replace(Features.of([name for column in columns for name in column.inputs]), columns=tuple(columns))

    @staticmethod
    def of(
        names: Sequence[str] | None = None, *, scaler: Any = None, mean: object = 0.0, scale: object = 1.0
    ) -> Features:
        """Name the features and state how they were scaled before the network.

        Args:
            names: one name for each entry of the flattened input; the scaler's own names, or `x0`, `x1`, ..., if None.
            scaler: a fitted scikit-learn scaler that scales each feature separately: `StandardScaler`, `RobustScaler`,
                `MinMaxScaler` or `MaxAbsScaler`.
            mean: without a scaler, the value that becomes 0: one number for all features, or one for each.
            scale: without a scaler, the divisor, such as the standard deviation: one number for all features, or one
                for each.

        Returns:
            The `Features`.

        Raises:
            TransformError: the scaler is of another kind or not fitted, lengths differ, or a scale is 0.

        Example:
            >>> from torch_shallow.explain import Features
            >>> Features.of(["age", "income"], mean=[40.0, 3000.0], scale=[12.0, 900.0]).index("income")
            1
        """
        if scaler is not None:
            if getattr(scaler, "clip", False):
                raise TransformError(_no_scaler(scaler))
            mean, scale = scaling(scaler)
            names = list(getattr(scaler, "feature_names_in_", [])) or None if names is None else names
        try:
            means, scales = np.array(mean, dtype=np.float64), np.array(scale, dtype=np.float64)
            count = len(names) if names is not None else max(means.size, scales.size)
            means, scales = (np.broadcast_to(array.reshape(-1), (count,)).copy() for array in (means, scales))
        except (TypeError, ValueError) as error:
            raise (WrongTypeError if isinstance(error, TypeError) else TransformError)(
                f"features: expected a mean and a scale for each name, or one number for all, found others: {error}; "
                "pass such numbers."
            ) from error
        if not (np.isfinite(means).all() and np.isfinite(scales).all() and scales.all()):
            raise TransformError(
                "features: expected finite means, and scales that are finite and not 0, found others; correct them, or "
                "drop features that do not vary."
            )
        labels = tuple(map(str, names)) if names is not None else _numbered(count)
        return Features(labels, means, scales)

    def __len__(self) -> int:
        return len(self.names)

    @property
    def one_hot(self) -> tuple[tuple[int, ...], ...]:
        """Groups of inputs that encode the categories of one column."""
        groups, first = [], 0
        for column in self.columns:
            after = first + len(column.inputs)
            groups += [tuple(range(first, after))] if column.categories is not None else []
            first = after
        return tuple(groups)

    def encode(self, table: Any) -> Float[Tensor, "rows inputs"]:
        """Encode rows of a table as inputs of the network, in float64.

        Args:
            table: a pandas or polars data frame, whose columns are found by name, or an array of rows, whose columns
                are found by position.

        Returns:
            A tensor of shape `(rows, inputs)`.

        Raises:
            WrongTypeError: a numeric column holds something other than numbers.
            TransformError: a column is missing, or has a value that is missing, infinite or an unknown category.

        Example:
            >>> from torch_shallow.explain import Features
            >>> features = Features.of(["age", "income"], mean=[40.0, 3000.0], scale=[12.0, 900.0])
            >>> features.encode([[52.0, 2100.0]]).tolist()
            [[1.0, -1.0]]
        """
        columns = self.columns or tuple(Column(name, i) for i, name in enumerate(self.names))
        values = np.concatenate([column.encode(table) for column in columns], axis=1)
        return torch.from_numpy(self.rescale(values))

    def unscale(self, x: Float[np.ndarray, "*points inputs"]) -> Float[np.ndarray, "*points inputs"]:
        """Convert inputs of the network to values, `settled`.

        Args:
            x: inputs as the network reads them, of shape `(*points, inputs)`.

        Returns:
            The values in the units of the features, of the same shape.
        """
        return self.settled(x * self.scale + self.mean)

    def settled(self, values: Float[np.ndarray, "*points inputs"]) -> Float[np.ndarray, "*points inputs"]:
        """Replace values by 0 where they differ from 0 only by rounding."""
        return np.where(np.abs(values) <= ROUNDING * (np.abs(self.scale) + np.abs(self.mean)), 0.0, values)

    def rescale(self, values: Float[np.ndarray, "*points inputs"]) -> Float[np.ndarray, "*points inputs"]:
        """Convert values to inputs of the network.

        Args:
            values: values in the units of the features, of shape `(*points, inputs)`.

        Returns:
            The inputs as the network reads them, of the same shape.
        """
        return (values - self.mean) / self.scale

    def affine(
        self, weight: Float[np.ndarray, "rows inputs"], bias: Float[np.ndarray, "rows"]
    ) -> tuple[Float[np.ndarray, "rows inputs"], Float[np.ndarray, "rows"]]:
        """Weight and bias of `weight x + bias` as a function of the values: the weight is per unit of each feature."""
        by_unit = weight / self.scale
        return by_unit, bias - by_unit @ self.mean

    def index(self, feature: str | int, name: str = "feature") -> int:
        """Find the entry of the flattened input that a name or a number denotes.

        Args:
            feature: a name, or a number from 0; negative numbers count from the end.
            name: name of the argument, for error messages.

        Returns:
            The number of the entry, from 0.

        Raises:
            WrongTypeError: `feature` is neither a name nor a number.
            TransformError: there is no such feature, or several have this name.
        """
        if isinstance(feature, str):
            if self.names.count(feature) != 1:
                count = self.names.count(feature)
                found = f"{feature!r}, the name of {count} features; give a number" if count else f"{feature!r}"
                raise TransformError(f"{name}: expected one of the features {_short(self.names)}, found {found}.")
            return self.names.index(feature)
        if not isinstance(feature, Integral):
            raise WrongTypeError(f"{name}: expected the name or number of a feature, found {feature!r}; pass one.")
        if not -len(self) <= feature < len(self):
            raise TransformError(f"{name}: expected a number from {-len(self)} to {len(self) - 1}, found {feature}.")
        return feature % len(self)


def read_features(features: Features | Sequence[str] | None, count: int) -> Features:
    """Read the features of a network.

    Args:
        features: `Features`, names alone, or None for the names `x0`, `x1`, ...
        count: number of entries of the flattened input.

    Raises:
        WrongTypeError: `features` is of another type.
        TransformError: their number is not `count`, or they cannot be read.
    """
    if features is None:
        features = _numbered(count)
    if not isinstance(features, Features | Iterable):
        raise WrongTypeError(
            f"features: expected names or Features, found {type(features).__name__}; for a scaler, pass "
            "Features.of(scaler=scaler)."
        )
    found = features if isinstance(features, Features) else Features.of(list(features))
    if len(found) != count:
        raise TransformError(
            f"features: expected one for each of the {count} entries of the flattened input, found "
            f"{len(found)}; name each entry once."
        )
    return found


def _numbered(count: int) -> tuple[str, ...]:
    return tuple(f"x{i}" for i in range(count))


def scaling(scaler: Any) -> tuple[Any, Any]:
    """Mean and scale of a scikit-learn scaler, before any clipping, read from its fitted attributes.

    Args:
        scaler: a fitted scaler that scales each feature separately.

    Raises:
        TransformError: the scaler is of another kind, or not fitted.
    """
    kind = type(scaler).__name__
    if kind == "StandardScaler" and hasattr(scaler, "n_features_in_"):
        zeros = np.zeros(scaler.n_features_in_)
        # mean_ is set even where the scaler does not subtract it.
        return scaler.mean_ if scaler.with_mean else zeros, zeros + 1.0 if scaler.scale_ is None else scaler.scale_
    if kind == "RobustScaler" and hasattr(scaler, "n_features_in_"):
        zeros = np.zeros(scaler.n_features_in_)
        return (
            zeros if scaler.center_ is None else scaler.center_,
            zeros + 1.0 if scaler.scale_ is None else scaler.scale_,
        )
    if kind == "MaxAbsScaler" and hasattr(scaler, "scale_"):
        return np.zeros(len(scaler.scale_)), scaler.scale_
    if kind == "MinMaxScaler" and hasattr(scaler, "scale_"):
        return -scaler.min_ / scaler.scale_, 1.0 / scaler.scale_
    raise TransformError(_no_scaler(scaler))


def _no_scaler(scaler: Any) -> str:
    return (
        "scaler: expected a fitted StandardScaler, RobustScaler, MaxAbsScaler or MinMaxScaler (without clip) of "
        f"scikit-learn, found {scaler!r}; fit it, or pass mean and scale."
    )


def _short(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 20 else f"{', '.join(names[:20])}, ... ({len(names)} of them)"
