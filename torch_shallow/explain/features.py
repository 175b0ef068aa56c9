"""Names and units of the inputs: explanations in the words of the data, however it was scaled for the network."""

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

ROUNDING = 8 * np.finfo(np.float64).eps  # of a value, relative to mean and scale


@dataclass(frozen=True, eq=False)
class Features:
    """The entries of a flattened input: `scaled = (value - mean) / scale` is what the network reads of a value.

    Attributes:
        names: one for each entry.
        mean: the value that the network reads as 0.
        scale: how much of the value is 1 for the network; not 0.
        columns: of the table that inputs are made of, where they are not simply the values in this order.

    Example:
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
        """The inputs that columns of a table are, in their own units.

        Args:
            columns: of the table.
        """
        return replace(Features.of([name for column in columns for name in column.inputs]), columns=tuple(columns))

    @staticmethod
    def of(
        names: Sequence[str] | None = None, *, scaler: Any = None, mean: object = 0.0, scale: object = 1.0
    ) -> Features:
        """Features by name, with what they were scaled by before the network.

        Args:
            names: one for each entry of the flattened input; of the scaler if None.
            scaler: a fitted scaler of scikit-learn that scales feature by feature: `StandardScaler`, `RobustScaler`,
                `MinMaxScaler` or `MaxAbsScaler`.
            mean: in place of a scaler, the value that becomes 0: a number for all, or one for each feature.
            scale: likewise what is divided by, such as the standard deviation.

        Raises:
            TransformError: the scaler is of another kind or not fitted, lengths differ, or a scale is 0.
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
                f"features: expected a mean and a scale for each of the names, or a number for all: {error}."
            ) from error
        if not (np.isfinite(means).all() and np.isfinite(scales).all() and scales.all()):
            raise TransformError("features: expected finite means, and scales that are finite and not 0.")
        labels = tuple(map(str, names)) if names is not None else _numbered(count)
        return Features(labels, means, scales)

    def __len__(self) -> int:
        return len(self.names)

    @property
    def one_hot(self) -> tuple[tuple[int, ...], ...]:
        """The groups of inputs that are categories of one column."""
        groups, first = [], 0
        for column in self.columns:
            after = first + len(column.inputs)
            groups += [tuple(range(first, after))] if column.categories is not None else []
            first = after
        return tuple(groups)

    def encode(self, table: Any) -> Float[Tensor, "rows inputs"]:
        """Inputs of the network from rows of a table, in float64.

        Args:
            table: a data frame of pandas or polars, whose columns are found by name, or an array of rows, by position.

        Raises:
            TransformError: a column is not there, or has a value that is missing, or is no finite number or none of the
                categories.

        Example:
            >>> features = Features.of(["age", "income"], mean=[40.0, 3000.0], scale=[12.0, 900.0])
            >>> features.encode([[52.0, 2100.0]]).tolist()
            [[1.0, -1.0]]
        """
        columns = self.columns or tuple(Column(name, i) for i, name in enumerate(self.names))
        values = np.concatenate([column.encode(table) for column in columns], axis=1)
        return torch.from_numpy(self.rescale(values))

    def unscale(self, x: Float[np.ndarray, "*points inputs"]) -> Float[np.ndarray, "*points inputs"]:
        """Values from inputs of the network, `settled`."""
        return self.settled(x * self.scale + self.mean)

    def settled(self, values: Float[np.ndarray, "*points inputs"]) -> Float[np.ndarray, "*points inputs"]:
        """Values, without what rounding leaves of 0 where inputs are of ordinary size."""
        return np.where(np.abs(values) <= ROUNDING * (np.abs(self.scale) + np.abs(self.mean)), 0.0, values)

    def rescale(self, values: Float[np.ndarray, "*points inputs"]) -> Float[np.ndarray, "*points inputs"]:
        """Inputs of the network from values."""
        return (values - self.mean) / self.scale

    def affine(
        self, weight: Float[np.ndarray, "rows inputs"], bias: Float[np.ndarray, "rows"]
    ) -> tuple[Float[np.ndarray, "rows inputs"], Float[np.ndarray, "rows"]]:
        """`weight x + bias` as a function of the values: its weight by unit, and its bias."""
        by_unit = weight / self.scale
        return by_unit, bias - by_unit @ self.mean

    def index(self, feature: str | int, name: str = "feature") -> int:
        """The entry of the flattened input that is meant by a name or a number.

        Args:
            feature: a name, or a number from 0; negative ones count from the end.
            name: of the argument, for errors.

        Raises:
            WrongTypeError: it is neither a name nor a number.
            TransformError: there is no such feature, or several have this name.
        """
        if isinstance(feature, str):
            if self.names.count(feature) != 1:
                count = self.names.count(feature)
                found = f"{feature!r}, the name of {count} features; give a number" if count else f"{feature!r}"
                raise TransformError(f"{name}: expected one of the features {_short(self.names)}, found {found}.")
            return self.names.index(feature)
        if not isinstance(feature, Integral):
            raise WrongTypeError(f"{name}: expected the name or the number of a feature, found {feature!r}.")
        if not -len(self) <= feature < len(self):
            raise TransformError(f"{name}: expected a number from {-len(self)} to {len(self) - 1}, found {feature}.")
        return feature % len(self)


def read_features(features: Features | Sequence[str] | None, count: int) -> Features:
    """The features of a network of so many inputs.

    Args:
        features: as they are, by name alone, or None for names `x0`, `x1`, ...
        count: number of entries of the flattened input.

    Raises:
        WrongTypeError: they are of another type.
        TransformError: there are more or fewer, or these are no features.
    """
    if features is None:
        features = _numbered(count)
    if not isinstance(features, Features | Iterable):
        raise WrongTypeError(
            f"features: expected names or Features, found {type(features).__name__}; make Features of a scaler by "
            "Features.of(scaler=scaler)."
        )
    found = features if isinstance(features, Features) else Features.of(list(features))
    if len(found) != count:
        raise TransformError(
            f"features: expected one for each of the {count} entries of the flattened input, found {len(found)}."
        )
    return found


def _numbered(count: int) -> tuple[str, ...]:
    return tuple(f"x{i}" for i in range(count))


def scaling(scaler: Any) -> tuple[Any, Any]:
    """Mean and scale of a scaler of scikit-learn before it clips, by the attributes that it has once it is fitted.

    Args:
        scaler: a fitted scaler that scales feature by feature.

    Raises:
        TransformError: it is of another kind, or not fitted.
    """
    kind = type(scaler).__name__
    if kind == "StandardScaler" and hasattr(scaler, "n_features_in_"):
        zeros = np.zeros(scaler.n_features_in_)
        # It has the mean also where it does not subtract it.
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
