"""Convert a network to integers: every point stays in its own region, with a proven bound on the error of local models.

Inputs are integers X that stand for the points x = X / 2^f. The side of a half-space on which such a point lies is
decided exactly: the numbers of its row are integers of any length, written in digits of a base that is a power of two,
the most significant first. The remaining digits add less than the sum of all |X|, so the first digit decides almost
everywhere. Only local models and outputs are rounded; both errors are bounded here in rational arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor, inf, nextafter

import numpy as np
from jaxtyping import Int

from torch_shallow.domain import Box
from torch_shallow.errors import TransformError
from torch_shallow.export.tables import Tables
from torch_shallow.modules.shallow_relu import ShallowReLU

WORD = 31  # bits of an int32, without its sign
LONG_WORD = 62  # largest number of bits used of an int64
Row = tuple[Fraction, ...]


@dataclass(frozen=True)
class FixedPoint:
    """Hold the numbers of a network in fixed point.

    Attributes:
        input_bits: f: an input X stands for X / 2^f.
        output_bits: g: an output Y stands for Y / 2^g.
        lower: smallest integer of each input in the domain.
        upper: largest integer of each input in the domain.
        digit_bits: the base of the digits is 2 to the power of this.
        settled: a partial sum beyond this has the sign of the whole sum.
        digits: rows of digits of all half-spaces, over the inputs and 2^f, the most significant first.
        first: for each half-space, its first row of digits; finally the number of rows.
        weights: weights of the local models, over the inputs.
        constants: constants of the local models.
        shift: number of extra fraction bits of the local models' sums, compared with the outputs.
        error: a proven bound on |Y / 2^g - trunk(X / 2^f)|.
        input_error: a bound on the change of the trunk, where it is continuous, from any point of the domain to a
            neighbour on the grid of inputs.
    """

    input_bits: int
    output_bits: int
    lower: list[int]
    upper: list[int]
    digit_bits: int
    settled: int
    digits: list[list[int]]
    first: list[int]
    weights: Int[np.ndarray, "models outputs inputs"]
    constants: list[list[int]]
    shift: int
    error: float
    input_error: float


def fixed_point(shallow: ShallowReLU, tables: Tables, fraction_bits: tuple[int, int] | None) -> FixedPoint:
    """Convert a network to fixed point.

    Args:
        shallow: the network, in a bounded box, without a head.
        tables: tables of the network, whose tree and order of numbers are kept.
        fraction_bits: fraction bits of inputs and outputs; as many as fit into 32 bits if None.

    Raises:
        TransformError: the domain is not a bounded box, the network has a head, features are scaled, or the numbers do
            not fit into 32 bits.
    """
    _check(tables, shallow)
    low, high = ([Fraction(value) for value in bound.tolist()] for bound in (tables.lower, tables.upper))
    largest = max(max(map(abs, low)), max(map(abs, high)))
    input_bits = _bits("inputs", largest, fraction_bits and fraction_bits[0])
    one = 1 << input_bits
    lower, upper = [ceil(value * one) for value in low], [floor(value * one) for value in high]
    if any(a > b for a, b in zip(lower, upper, strict=True)):
        raise TransformError(
            f"fraction_bits: expected a multiple of 2^-{input_bits} between the bounds of each entry of the domain, "
            "found an entry without one; transform the model without its fixed entries."
        )
    reach = [max(abs(a), abs(b)) for a, b in zip(lower, upper, strict=True)]
    settled = sum(reach) + one
    digit_bits = min(WORD, LONG_WORD - (2 * settled).bit_length())
    rows, models = exact_rows(tables)
    digits, first = list[list[int]](), [0]
    for row in rows:
        digits += in_digits(row, digit_bits)
        first.append(len(digits))
    ends = [(Fraction(a, one), Fraction(b, one)) for a, b in zip(lower, upper, strict=True)]
    sizes = [max(abs(a), abs(b)) for a, b in ends]
    size = max(sum((abs(w) * at for w, at in zip(model, sizes, strict=False)), abs(model[-1])) for model in models)
    steepest = max(sum(map(abs, model[:-1]), Fraction(0)) for model in models)
    heaviest = max(max(map(abs, model[:-1]), default=Fraction(0)) for model in models)
    weight_bits = min(_room(heaviest, WORD), _room(size, LONG_WORD - 1 - input_bits), LONG_WORD - 1 - input_bits)
    weights = [[round(w * Fraction(2) ** weight_bits) for w in model[:-1]] for model in models]
    constants = [round(model[-1] * Fraction(2) ** (weight_bits + input_bits)) for model in models]
    error = max(
        _furthest(
            [w / Fraction(2) ** weight_bits - v for w, v in zip(weight, model[:-1], strict=True)],
            constant / Fraction(2) ** (weight_bits + input_bits) - model[-1],
            ends,
        )
        for weight, constant, model in zip(weights, constants, models, strict=True)
    )
    output_bits = _bits("outputs", size + error, fraction_bits and fraction_bits[1], weight_bits + input_bits)
    error += Fraction(1, 2 << output_bits)
    outputs = tables.trunk_size
    return FixedPoint(
        input_bits=input_bits,
        output_bits=output_bits,
        lower=lower,
        upper=upper,
        digit_bits=digit_bits,
        settled=settled,
        digits=digits,
        first=first,
        weights=np.array(weights, dtype=np.int64).reshape(-1, outputs, tables.num_inputs),
        constants=[constants[k : k + outputs] for k in range(0, len(constants), outputs)],
        shift=weight_bits + input_bits - output_bits,
        error=_above(error),
        input_error=_above(steepest / one),
    )


def _check(tables: Tables, shallow: ShallowReLU) -> None:
    domain = shallow.domain
    if not isinstance(domain, Box) or not np.isfinite([tables.lower, tables.upper]).all():
        raise TransformError(
            f"shallow: expected a network in a bounded Box for fixed point, found the domain {domain!r}; use "
            "transform(model, domain=Box(lower, upper))."
        )
    if tables.head:
        raise TransformError(
            "shallow: expected a network without a head for fixed point, found one that ends with "
            f"{tables.head[-1].name}; export the trunk: a copy of the network with head = None."
        )
    if tables.features.mean.any() or (tables.features.scale != 1.0).any():
        raise TransformError(
            "features: expected names without mean and scale for fixed point, found scaled features; pass "
            "features.names, and scale the inputs before they become integers."
        )


def _room(largest: Fraction, bits: int) -> int:
    """Return the largest number of fraction bits with which a number, rounded, is below 2^bits."""
    room = bits + 64
    while largest * Fraction(2) ** room + 1 >= 1 << bits:
        room -= 1
    return room


def _bits(what: str, largest: Fraction, asked: int | None, most: int = WORD - 1) -> int:
    """Return the number of fraction bits: the requested number, or as many as fit."""
    room = min(_room(largest, WORD), WORD - 1, most)
    bits = room if asked is None else asked
    if not isinstance(bits, int) or isinstance(bits, bool) or not 0 <= bits <= room:
        if room < 0:
            raise TransformError(
                f"fraction_bits: expected {what} below 2^{WORD}, found up to {float(largest):.3g}; scale them."
            )
        raise TransformError(
            f"fraction_bits: expected 0 to {room} for {what}, which reach up to {float(largest):.3g}, found {asked!r}."
        )
    return bits


def exact_rows(tables: Tables) -> tuple[list[Row], list[Row]]:
    """Return the exact half-spaces and outputs of the local models as rows over the inputs, each with its constant."""
    rows, models = (
        [_fractions(row) for row in array.reshape(-1, array.shape[-1])] for array in (tables.rows, tables.models)
    )
    if tables.projection is not None:
        basis = [_fractions(row[:-1]) for row in tables.projection]
        rows, models = ([_product(row, basis) for row in found] for found in (rows, models))
    if tables.skip is not None:
        skip = [_fractions(row) for row in tables.skip]
        models = [
            (*(a + b for a, b in zip(model, skip[k % len(skip)], strict=False)), model[-1])
            for k, model in enumerate(models)
        ]
    return rows, models


def _fractions(values: np.ndarray) -> Row:
    return tuple(Fraction(value) for value in values.tolist())


def _product(row: Row, basis: Sequence[Row]) -> Row:
    """Rewrite a row over the coordinates of a basis as a row over the inputs."""
    columns = zip(*basis, strict=True)
    return (*(sum((a * b for a, b in zip(row, column, strict=False)), Fraction(0)) for column in columns), row[-1])


def in_digits(row: Row, bits: int) -> list[list[int]]:
    """Return integers proportional to the entries of a row, in signed digits of base 2^bits, most significant first.

    The digits are at most 2^(bits - 1) in absolute value.
    """
    scale = max(entry.denominator for entry in row)  # all denominators are powers of two
    numbers = [int(entry * scale) for entry in row]
    size = max(abs(number) for number in numbers).bit_length()
    count = max(1, -(-(size + 1) // bits))
    numbers = [number << (count * bits - 1 - size) for number in numbers]
    half, found = 1 << (bits - 1), list[list[int]]()
    for place in range(count):
        last = numbers if place == count - 1 else [(number + half) % (2 * half) - half for number in numbers]
        found.append(last)
        numbers = [(number - digit) >> bits for number, digit in zip(numbers, last, strict=True)]
    while len(found) > 1 and not any(found[0]):  # leading zeros decide nothing
        found = found[1:]
    return found[::-1]


def _furthest(weight: Sequence[Fraction], constant: Fraction, ends: Sequence[tuple[Fraction, Fraction]]) -> Fraction:
    """Return the largest absolute value of an affine function in a box."""
    middle = constant + sum((w * (a + b) for w, (a, b) in zip(weight, ends, strict=True)), Fraction(0)) / 2
    return abs(middle) + sum((abs(w) * (b - a) for w, (a, b) in zip(weight, ends, strict=True)), Fraction(0)) / 2


def _above(value: Fraction) -> float:
    """Return the smallest float64 that is not less."""
    near = float(value)
    return near if Fraction(near) >= value else nextafter(near, inf)
