"""Units of the inputs: lengths that scale with an input when it is expressed in another unit."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int64

LEAST = -(1 << 40)  # replaces the exponent of 0, below all others


def typical_lengths(
    normals: Float[np.ndarray, "rows inputs"], offsets: Float[np.ndarray, "rows"], first: int | None = None
) -> Float[np.ndarray, "inputs"]:
    """Return a length for each input, a power of two: the median distance from 0, along its axis, to the hyperplanes.

    Hyperplanes through 0 determine lengths only relative to those of other inputs; if there are no others, the lengths
    are chosen to make terms about 1. An input that no hyperplane crosses has the length 1.

    Only exponents are compared. If the unit of an input changes by a power of two, so does its length, and no other
    length changes; multiplying a row by a power of two changes nothing where any offset is known.

    Args:
        normals: Normals of the hyperplanes `normals @ x + offsets = 0`.
        offsets: Offsets of the hyperplanes.
        first: Number of leading rows whose terms are made about 1 where nothing is known, if they read the input: those
            of a domain, so that its lengths do not depend on the scale of neurons; by default, all rows.
    """
    reads, exponents = normals != 0.0, exponents_of(normals)
    sizes, measured = exponents_of(offsets), offsets != 0.0  # sizes of terms, where measured
    lengths, known = np.zeros(normals.shape[1], dtype=np.int64), ~reads.any(axis=0)
    while not known.all():
        through = np.flatnonzero(~measured & (reads & known).any(axis=1))
        if len(through):
            terms = np.where(reads[through] & known, exponents[through] + lengths, LEAST)
            sizes[through], measured[through] = terms.max(axis=1), True
        new = np.flatnonzero(~known & reads[measured].any(axis=0))
        if len(new):
            lengths[new] = _medians(sizes[:, None] - exponents[:, new], reads[:, new] & measured[:, None])
        else:
            unknown = ~known & reads[:first].any(axis=0)
            rows = reads[:first] if unknown.any() else reads
            new = np.flatnonzero(unknown if unknown.any() else ~known)[:1]
            lengths[new] = -_medians(exponents[: len(rows), new], rows[:, new])
        known[new] = True
    return np.ldexp(1.0, lengths)


def lengths_around(
    normals: Float[np.ndarray, "rows inputs"], slack: Float[np.ndarray, "rows"]
) -> Float[np.ndarray, "inputs"]:
    """Return a length for each input, a power of two: the distance of a point, along its axis, to the first half-space.

    Rounding errors in place of an exact 0 do not matter. An input that no half-space bounds has the length 1.

    Args:
        normals: Normals of half-spaces `normals @ step <= slack` around the point.
        slack: Non-negative right-hand sides; a 0 gives no information.
    """
    around = slack > 0.0
    ways = np.where(
        normals[around] != 0.0, exponents_of(slack[around])[:, None] - exponents_of(normals[around]), -LEAST
    )
    nearest = ways.min(axis=0, initial=-LEAST)
    return np.ldexp(1.0, np.where(nearest == -LEAST, 0, nearest))


def exponents_of(values: Float[np.ndarray, "..."]) -> Int64[np.ndarray, "..."]:
    """Return the exponents of the least powers of two above the absolute values; 0 for 0."""
    return np.frexp(values)[1].astype(np.int64)


def row_exponents(rows: Float[np.ndarray, "rows columns"]) -> Int64[np.ndarray, "rows"]:
    """Return the exponents of the least powers of two above the entries of each row, its size; 0 for a zero row."""
    return exponents_of(np.abs(rows).max(axis=1, initial=0.0))


def _medians(
    exponents: Int64[np.ndarray, "rows columns"], known: Bool[np.ndarray, "rows columns"]
) -> Int64[np.ndarray, "columns"]:
    """Return the lower median of the known entries of each column, of which there is at least one."""
    ordered, middle = np.sort(np.where(known, exponents, -LEAST), axis=0), (known.sum(axis=0) - 1) // 2
    return ordered[middle, np.arange(len(middle))]
