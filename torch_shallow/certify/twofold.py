"""Sums of products with twice the digits of float64, and bounds of their errors.

A number is a pair (high, low) of float64 numbers whose sum it is, |low| <= u |high|, u = 2^-53. Sums and products of
two float64 numbers are such pairs exactly, without fused multiplication (Dekker, "A floating-point technique for
extending the available precision", 1971; Knuth, "The Art of Computer Programming", volume 2, section 4.2.2). A step
that adds a product to a sum is off by at most 10 u^2 times the sizes of the two, as each of its few roundings is of
numbers of at most 5 u times that. So n steps are off by at most n times 10 u^2 times the sum of the sizes of all terms;
`fine(n)` exceeds that. Numbers too large to be split give NaN; losses below 1e-290 are for the caller to add.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float

from torch_shallow.compiled.decorator import compiled

SPLITTER = 2.0**27 + 1.0
Number = Any  # float, or an array of them


def fine(terms: int) -> float:
    """Return a bound of the error of a sum of `terms` products, relative to the sum of their sizes."""
    return 64.0 * (terms + 8) * 2.0**-106


def add(high: Number, low: Number, factor: Number, other: Number, other_low: Number) -> tuple[Number, Number]:
    """Return a pair plus a factor times another pair; for arrays, entry by entry."""
    product = factor * other
    scaled = SPLITTER * factor
    head = scaled - (scaled - factor)
    tail = factor - head
    scaled = SPLITTER * other
    other_head = scaled - (scaled - other)
    other_tail = other - other_head
    lost = tail * other_tail - (((product - head * other_head) - tail * other_head) - head * other_tail)
    total = high + product
    part = total - high
    missed = (high - (total - part)) + (product - part)
    small = ((low + lost) + factor * other_low) + missed
    result = total + small
    part = result - total
    return result, (total - (result - part)) + (small - part)


add_product = compiled()(add)


def products(
    a: Float[np.ndarray, "*some inner"], b: Float[np.ndarray, "inner columns"]
) -> tuple[Float[np.ndarray, "*some columns"], Float[np.ndarray, "*some columns"]]:
    """Return the matrix product of arrays, as pairs."""
    high = np.zeros((*a.shape[:-1], b.shape[1]))
    low = np.zeros_like(high)
    with np.errstate(all="ignore"):
        for k in range(len(b)):
            high, low = add(high, low, a[..., k, None], b[k], 0.0)
    return high, low
