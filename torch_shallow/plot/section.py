"""Plane of inputs on which a network is drawn: through points, along directions, or over two features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from torch_shallow.domain import Box
from torch_shallow.errors import TransformError, WrongTypeError, argument_error
from torch_shallow.explain.features import ROUNDING, Features, read_features
from torch_shallow.explain.locally.rules import interval, number
from torch_shallow.functions.shape import fixed_inputs
from torch_shallow.plot.drawn import Shown, read_subject
from torch_shallow.plot.polygons import Plane


class Placed(NamedTuple):
    """A plane, and what is known of it.

    Attributes:
        plane: the plane.
        marks: coordinates of the points that are marked on it; None if there are none.
        features: names and units of its two axes; None if these are not features.
    """

    plane: Plane
    marks: Float[np.ndarray, "marks 2"] | None
    features: Features | None


@dataclass(frozen=True, eq=False)
class Section:
    """A plane as requested by the user; without any arguments, that of a network of two inputs.

    Attributes:
        points: three inputs through which it goes.
        origin: an input through which it goes.
        directions: two directions along which it goes from the origin.
        over: two features along which it goes; the others do not vary.
        at: values of the other features: an input, or values by feature in the user's units.
        features: names and units of all entries of the flattened input.
    """

    points: Tensor | None = None
    origin: Tensor | None = None
    directions: Tensor | None = None
    over: Sequence[str | int] | None = None
    at: Tensor | Mapping[Any, float] | None = None
    features: Features | Sequence[str] | None = None

    @property
    def is_free(self) -> bool:
        """Whether the plane may have any direction, so that its axes are not features."""
        return not (self.points is None and self.origin is None and self.directions is None)

    def check_given(self) -> None:
        """Make sure that a plane is given explicitly.

        Raises:
            TransformError: no plane is given, or several are.
        """
        if self.over is None and self.at is None:
            self._check_free()

    def subject(self, f: object, data: Tensor | None = None) -> Shown:
        """Read the network to be drawn on this plane; the data may tell the shape of its input.

        Raises:
            TransformError: the arguments do not determine one plane, or the network does not have two inputs and no
                plane is given.
        """
        if self.is_free:
            self._check_free()
            return read_subject(
                f, *((self.directions, "directions") if self.points is None else (self.points, "points"))
            )
        if isinstance(self.at, Tensor) and data is None:
            return self._check_inputs(read_subject(f, self.at[None], "at"))
        return self._check_inputs(read_subject(f, data))

    def place(self, subject: Shown) -> Placed:
        """Find the plane in the inputs of a network.

        Raises:
            TransformError: an argument has a wrong value.
        """
        if self.points is not None:
            rows = subject.in_fixed("points", self.points)
            if len(rows) != 3:
                raise TransformError(f"points: expected 3 inputs, found {len(rows)}; pass three.")
            plane = Plane.through(rows)
            return Placed(plane, plane.project(rows), None)
        if self.origin is not None and self.directions is not None:
            origin = _one_input(subject, "origin", self.origin)
            along = subject.rows("directions", self.directions)
            if len(along) != 2:
                raise TransformError(f"directions: expected 2 directions, found {len(along)}; pass two.")
            return Placed(Plane.along(origin, along), None, None)
        return self._over_features(subject)

    def _over_features(self, subject: Shown) -> Placed:
        count = subject.network.num_inputs
        features = read_features(self.features, count)
        pair = two_features(features, self.over)
        if fixed_inputs(subject.domain, subject.network.in_shape)[pair].any():
            raise TransformError(
                f"f: expected a domain in which both inputs vary, found {subject.domain!r}, which is a line or a point "
                "in this plane; draw a line with plot.segment."
            )
        values = _fixed_at(subject, features, pair, self.at)
        mark = values[pair]
        values[pair] = 0.0
        axes = Features.of([features.names[i] for i in pair], mean=features.mean[pair], scale=features.scale[pair])
        marks = mark[None] if np.isfinite(mark).all() else None
        return Placed(Plane(values, np.eye(count)[pair]), marks, axes)

    def _check_free(self) -> None:
        if self.over is not None or self.at is not None:
            raise TransformError(
                "over, at: expected None with points, or with an origin and directions, which determine a plane, found "
                "one; leave out one or the other."
            )
        if (self.points is None) == (self.origin is None or self.directions is None):
            raise TransformError(
                "points: expected either three points, or an origin and two directions, or two features to draw over, "
                f"found points {_given(self.points)}, origin {_given(self.origin)}, directions "
                f"{_given(self.directions)}; pass one of these."
            )
        if self.features is not None:
            raise TransformError(
                "features: expected None for a plane through points, whose axes are not features, found some; leave "
                "them out."
            )

    def _check_inputs(self, subject: Shown) -> Shown:
        """Return the subject, after making sure that exactly two of its inputs vary."""
        network = subject.network
        if self.over is None and network.num_inputs != 2:
            other = "draw one input with plot.segment"
            if network.num_inputs > 2:
                other = "draw over=two of its features, at=values of the others; or any plane by plot.slice"
            raise TransformError(f"f: expected a network of two inputs, found in_shape {network.in_shape}; {other}.")
        return subject


def two_features(features: Features, over: Sequence[str | int] | None) -> list[int]:
    """Read the two entries of the input that vary.

    Raises:
        WrongTypeError: they are not a sequence of names or numbers.
        TransformError: they are not two different features.
    """
    if over is None:
        return [0, 1]
    if isinstance(over, str) or not isinstance(over, Sequence):
        raise WrongTypeError(f'over: expected two features, such as ("bmi", "age"), found {over!r}; pass two.')
    pair = [features.index(feature, "over") for feature in over]
    if len(pair) != 2 or pair[0] == pair[1]:
        raise TransformError(
            f'over: expected two different features, such as ("bmi", "age"), found {over!r}; pass two of them.'
        )
    return pair


def _fixed_at(
    subject: Shown, features: Features, pair: Sequence[int], at: Tensor | Mapping[Any, float] | None
) -> Float[np.ndarray, "inputs"]:
    """Value of each input, as the network reads it; NaN for those of the pair that are not given.

    Raises:
        WrongTypeError: `at` is neither an input nor values by feature.
        TransformError: a value is missing, is not a finite number, or lies outside the domain.
    """
    values = np.full(len(features), np.nan)
    lower, upper = np.full((2, len(features)), np.array([[-np.inf], [np.inf]]))
    if isinstance(subject.domain, Box):
        lower, upper = subject.domain.bounds(subject.network.in_shape)
    fixed = lower == upper
    values[fixed] = lower[fixed]
    rounding = ROUNDING * (1.0 + np.abs(features.mean / features.scale))
    if isinstance(at, Tensor):
        values = _one_input(subject, "at", at)
        rounding = rounding + (torch.finfo(at.dtype).eps if at.is_floating_point() else 0.0)
    elif isinstance(at, Mapping):
        for feature, value in at.items():
            i = features.index(feature, "at")
            values[i] = (_finite(features.names[i], value) - features.mean[i]) / features.scale[i]
    elif at is not None:
        raise WrongTypeError(
            'at: expected one input as a tensor, or values by feature, such as {"bmi": 27.0}, found '
            f"{type(at).__name__}; pass one of these."
        )
    others = np.ones(len(features), dtype=bool)
    others[list(pair)] = False
    missing = [features.names[i] for i in np.flatnonzero(others & np.isnan(values))]
    if missing:
        raise TransformError(
            f"at: expected a value for each feature that is neither drawn nor fixed by the domain, found none for "
            f"{', '.join(missing[:10])}{f' and {len(missing) - 10} more' * (len(missing) > 10)}; pass an input, or "
            'values by feature, such as {"bmi": 27.0}.'
        )
    near = np.clip(values, lower, upper)
    for i in map(int, np.flatnonzero(others & ~(np.abs(near - values) <= rounding * (1.0 + np.abs(values))))):
        low, high = sorted(float(features.unscale(end)[i]) for end in (lower, upper))
        raise TransformError(
            f"at: expected values in the domain of f, in which {interval(features.names[i], low, high, 6)}, found "
            f"{number(float(features.unscale(values)[i]), 6)}; choose another value, or transform in a larger domain."
        )
    return np.where(others, near, values)


def _finite(name: str, value: object) -> float:
    try:
        found = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        raise WrongTypeError(f"at: expected a number for {name}, found {value!r}; pass a number.") from error
    if not np.isfinite(found):
        raise TransformError(f"at: expected a finite number for {name}, found {value!r}; pass another one.")
    return found


def _one_input(subject: Shown, name: str, x: Tensor) -> Float[np.ndarray, "inputs"]:
    in_shape = subject.network.in_shape
    if not isinstance(x, Tensor) or tuple(x.shape) != in_shape:
        raise argument_error(x, Tensor)(
            f"{name}: expected a tensor of shape {in_shape}, found one {_given(x)}; pass one input."
        )
    found: np.ndarray = subject.in_fixed(name, x[None])[0]
    return found


def _given(argument: object) -> str:
    if not isinstance(argument, Tensor):
        return "None" if argument is None else f"of type {type(argument).__name__}"
    return f"of shape {tuple(argument.shape)}"
