"""Numbers and conditions in words."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

MOST_DIGITS = 17  # which tell any two numbers apart
ROUNDING = 1e-12  # a coefficient that counts for less than this share of the one that counts most is shown as 0


def number(value: float, digits: int) -> str:
    """A number with so many significant digits, or all those before the point if these are more.

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
    """What is said of a feature between two bounds, which may be infinite.

    As many more digits are shown as it takes to tell the bounds apart.

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


def inequality(
    a: Float[np.ndarray, "inputs"],
    b: float,
    names: Sequence[str],
    digits: int,
    most_terms: int | None = None,
    scale: Float[np.ndarray, "inputs"] | None = None,
) -> str:
    """`a @ x <= b` in words, the first coefficient positive.

    Args:
        a: coefficients, not all of them zero; those that are 0 up to rounding are left out.
        b: right-hand side.
        names: of the features.
        digits: significant digits of each number.
        most_terms: where there are more terms, only those that count most and how many are left out; all terms if None.
        scale: how much of a feature is about as much as that of another: a coefficient counts by its product with this.
            All count alike if None.

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
