"""Conditions of a region, and numbers, as texts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Size, Tensor

from torch_shallow.display import Displayed, TextTable
from torch_shallow.errors import TransformError
from torch_shallow.explain.features import Features
from torch_shallow.explain.locally.seen_facets import facets_of, fixed_of
from torch_shallow.functions import Region
from torch_shallow.functions.points import check_floating
from torch_shallow.functions.shape import RegionHalfSpaces

MOST_DIGITS = 17  # enough to distinguish any two numbers
ROUNDING = 1e-12  # coefficients below this share of the most important one are shown as 0


def number(value: float, digits: int) -> str:
    """A number with the given count of significant digits, or all digits before the point if there are more.

    Example:
        >>> number(0.50001, 4), number(12345.6, 4), number(1.23456e-7, 3)
        ('0.5', '12346', '1.23e-07')
    """
    if value == 0.0 or not math.isfinite(value):
        return "0" if value == 0.0 else str(value)
    power = math.floor(math.log10(abs(value)))
    if not -5 < power < 9:
        return f"{value:.{digits - 1}e}"
    text = f"{value:.{max(0, digits - 1 - power)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def interval(name: str, lower: float, upper: float, digits: int) -> str:
    """Text for a feature between two bounds, which may be infinite.

    More digits are shown if necessary to distinguish the bounds.

    Example:
        >>> interval("age", 40.0001, 40.0002, 4), interval("age", -math.inf, 30.0, 4), interval("age", 7.0, 7.0, 4)
        ('age between 40.0001 and 40.0002', 'age at most 30', 'age = 7')
    """
    if lower == upper:
        return f"{name} = {number(lower, digits)}"
    if math.isinf(lower) and math.isinf(upper):
        return f"{name} any number"
    if math.isinf(lower):
        return f"{name} at most {number(upper, digits)}"
    if math.isinf(upper):
        return f"{name} at least {number(lower, digits)}"
    while number(lower, digits) == number(upper, digits) and digits < MOST_DIGITS:
        digits += 1
    return f"{name} between {number(lower, digits)} and {number(upper, digits)}"


def inwards(lower: float, upper: float, digits: int) -> tuple[float, float]:
    """Round the ends of an interval inwards to what `interval` shows, so that it does not grow by more than rounding.

    The ends are returned unchanged if the interval is too narrow for that.

    Example:
        >>> inwards(0.12341, 7.65432, 3)
        (0.124, 7.65)
    """
    found = []
    for value, turn in ((lower, math.ceil), (upper, math.floor)):
        if math.isfinite(value) and abs(float(number(value, digits)) - value) > 1e-9 * (upper - lower):
            step = 10.0 ** min(0, math.floor(math.log10(abs(value))) - digits + 1)
            value = turn(value / step) * step
        found.append(float(number(value, digits)) if math.isfinite(value) else value)
    return (found[0], found[1]) if found[0] < found[1] else (lower, upper)


def inequality(
    a: Float[np.ndarray, "inputs"],
    b: float,
    names: Sequence[str],
    digits: int,
    most_terms: int | None = None,
    scale: Float[np.ndarray, "inputs"] | None = None,
) -> str:
    """The inequality `a @ x <= b` as text, with a positive first coefficient.

    Args:
        a: coefficients, not all of them zero; those that are 0 up to rounding are left out.
        b: right-hand side.
        names: names of the features.
        digits: significant digits of each number.
        most_terms: largest number of terms; the less important others are only counted. No limit if None.
        scale: comparable amounts of the features, whose products with the coefficients rank the terms; 1 if None.

    Example:
        >>> inequality(np.array([-2.0, 0.0, 1.0]), 3.0, ["age", "size", "income"], 4)
        '2 age - income >= -3'
    """
    size = np.abs(a) if scale is None else np.abs(a * scale)
    at = np.flatnonzero(size > ROUNDING * size.max())
    left_out = 0 if most_terms is None else max(0, len(at) - most_terms)
    at = np.sort(at[np.argsort(-size[at], kind="stable")[: len(at) - left_out]])
    sign = 1.0 if a[at[0]] > 0.0 else -1.0
    words: list[str] = []
    for i in map(int, at):
        coefficient = number(abs(float(a[i])), digits)
        words += ["-" if sign * a[i] < 0.0 else "+", names[i] if coefficient == "1" else f"{coefficient} {names[i]}"]
    terms = " ".join(words[1:]) + f" + ... ({left_out} more terms)" * (left_out > 0)
    return f"{terms} {'<=' if sign > 0.0 else '>='} {number(sign * b, digits)}"


@dataclass(frozen=True, eq=False, repr=False)
class Rules(Displayed):
    """Conditions for an input to be in a region: all must hold, and none follows from the others.

    With `max_terms`, the conditions are sufficient but not necessary: an input that meets them all is in the region,
    but they leave out a part of it.

    Numbers in texts are rounded; `A`, `b`, `lower` and `upper` are not. All are in the user's units. The region is
    closed: its boundary belongs to its neighbours too.

    Attributes:
        region: the region.
        features: names and units of the inputs.
        half_spaces: the conditions on inputs of the network; two for each fixed input.
        A: the same conditions on values in the user's units, as `A @ value <= b`.
        b: right-hand sides of `A @ value <= b`.
        fixed: which inputs have only one value in the domain.
        lower: lowest value of each feature by conditions on this feature alone; -inf if there is none.
        upper: highest value of each feature by conditions on this feature alone; inf if there is none.
        oblique: which rows of `A` are conditions on several features.
        digits: significant digits of the numbers in texts.
        max_terms: largest number of features in a condition, if that restricts the conditions to a part of the region;
            None if they describe the whole region.
    """

    region: Region
    features: Features
    half_spaces: RegionHalfSpaces
    A: Float[np.ndarray, "rows inputs"]
    b: Float[np.ndarray, "rows"]
    fixed: Bool[np.ndarray, "inputs"]
    lower: Float[np.ndarray, "inputs"]
    upper: Float[np.ndarray, "inputs"]
    oblique: Bool[np.ndarray, "rows"]
    digits: int
    max_terms: int | None = None

    @property
    def conditions(self) -> tuple[str, ...]:
        """All conditions as texts, unabridged: intervals of single features first, then inequalities."""
        return tuple(self._words(None))

    def contains(self, x: Tensor, tolerance: float = 1e-9) -> Bool[Tensor, "*batch"]:
        """Check whether inputs meet the conditions, by the numbers that are not rounded.

        Args:
            x: inputs as the network reads them, floating point, of shape `(*batch, *in_shape)`.
            tolerance: largest violation of a condition, relative to the terms that it is summed from.

        Returns:
            A boolean tensor of shape `batch`.

        Raises:
            TransformError: `x` has another shape, or is not floating point.
        """
        check_floating("x", x)
        in_shape = self.region.function.in_shape
        batch = x.shape[: max(0, x.dim() - len(in_shape))]
        if x.shape != (*batch, *in_shape):
            shape = ", ".join(map(str, in_shape))
            raise TransformError(f"x: expected shape (*batch, {shape}), found {tuple(x.shape)}; reshape it.")
        points = x.detach().double().cpu().numpy().reshape(*batch, Size(in_shape).numel())
        a, b = self.half_spaces.numpy()
        size = np.abs(points) @ np.abs(a).T + np.abs(b)
        inside = (points @ a.T <= b + tolerance * size).all(axis=-1) & np.isfinite(points).all(axis=-1)
        return torch.as_tensor(inside, device=x.device)

    def text(self, *, most_conditions: int | None = 40, most_terms: int | None = 10) -> str:
        """Format the conditions as lines; omitted ones are counted.

        Args:
            most_conditions: largest number of conditions; all if None.
            most_terms: largest number of terms of each, those of the largest coefficients on inputs of the network; all
                if None.

        Returns:
            The text, "always" if there are no conditions.
        """
        shown = self._shown(most_conditions, most_terms)
        if not shown:
            return "always"
        lines = [f"{'IF ' if k == 0 else 'AND'} {condition}" for k, condition in enumerate(shown)]
        return "\n".join([*lines, *(f"({remark})" for remark in self._remarks)])

    def __str__(self) -> str:
        return self.text()

    def _line(self) -> str:
        count = len(self._words(1))
        return f"{count} condition{'s'[: count != 1]} of {self.region!r}"

    def _parts(self) -> Iterable[str | TextTable]:
        shown = self._shown(40, 10)
        yield f"{self._line()}{'' if shown else ': always'}"
        if shown:
            yield TextTable(["", "condition"], [["AND" if k else "IF", condition] for k, condition in enumerate(shown)])
            yield from self._remarks

    def _shown(self, most_conditions: int | None, most_terms: int | None) -> list[str]:
        """Conditions as texts; omitted ones are counted."""
        words = self._words(most_terms)
        shown = words[:most_conditions]
        return shown if len(shown) == len(words) else [*shown, f"... ({len(words) - len(shown)} more conditions)"]

    @property
    def _remarks(self) -> list[str]:
        """Remarks on how to read the texts."""
        sufficient = "sufficient, not necessary: where these hold, an input is in the region, as others are"
        rounded = f"numbers rounded to {self.digits} digits; those of A and b are not"
        return [rounded] if self.max_terms is None else [sufficient, rounded]

    def _words(self, most_terms: int | None) -> list[str]:
        names = self.features.names
        bounded = np.flatnonzero(np.isfinite(self.lower) | np.isfinite(self.upper))
        ends = [(float(self.lower[i]), float(self.upper[i])) for i in bounded]
        if self.max_terms is not None:
            ends = [inwards(lower, upper, self.digits) for lower, upper in ends]
        words = [interval(names[i], *pair, digits=self.digits) for i, pair in zip(bounded, ends, strict=True)]
        for row in np.flatnonzero(self.oblique):
            moving = np.where(self.fixed, 0.0, self.A[row])
            bound = float(self.b[row] - self.A[row, self.fixed] @ self.lower[self.fixed])
            words.append(inequality(moving, bound, names, self.digits, most_terms, self.features.scale))
        return words


def rules_of_region(region: Region, features: Features, digits: int) -> Rules:
    """Conditions of a region.

    Raises:
        TransformError: a visited region has no interior, or a linear program fails.
    """
    return rules_of_half_spaces(region, facets_of(region, region.half_spaces), features, digits)


def rules_of_half_spaces(
    region: Region, half_spaces: RegionHalfSpaces, features: Features, digits: int, max_terms: int | None = None
) -> Rules:
    """Conditions of a region from its half-spaces, or of a part of it by conditions on `max_terms` features."""
    a, b = half_spaces.numpy()
    fixed = fixed_of(region)
    by_unit, constant = features.affine(a, -b)
    lower, upper = np.full((2, len(features)), np.array([[-np.inf], [np.inf]]))
    lower[fixed] = upper[fixed] = features.unscale(region.interior_point.flatten().cpu().numpy())[fixed]
    moving = np.where(fixed, 0.0, by_unit)
    counts = np.count_nonzero(moving, axis=1)
    for row in np.flatnonzero(counts == 1):
        (i,) = np.flatnonzero(moving[row])
        bound = -(constant[row] + by_unit[row, fixed] @ lower[fixed]) / moving[row, i]
        if moving[row, i] > 0.0:
            upper[i] = min(upper[i], bound)
        else:
            lower[i] = max(lower[i], bound)
    lower, upper = features.settled(lower), features.settled(upper)
    return Rules(region, features, half_spaces, by_unit, -constant, fixed, lower, upper, counts > 1, digits, max_terms)
