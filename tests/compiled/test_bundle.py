"""Bundles: what compiled code reads is what Python sees."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from torch_shallow.compiled.bundle import Bundle
from torch_shallow.compiled.decorator import compiled


class Inside(Bundle):
    weights: np.ndarray
    scale: float


class Outside(Bundle):
    numbers: np.ndarray
    inside: Inside
    flags: np.ndarray


@compiled()
def weighted(outside, row):
    """A sum over all kinds of fields, and a mark where it was taken."""
    inside = outside.inside
    total = 0.0
    for k in range(inside.weights.shape[1]):
        if outside.flags[k]:
            total += inside.weights[row, k] * outside.numbers[k]
    outside.numbers[row] = -1
    return inside.scale * total


def example() -> Outside:
    rng = np.random.default_rng(0)
    inside = Inside(rng.standard_normal((2, 3)), scale=0.5)
    return Outside(np.array([1, 2, 3]), inside, np.array([True, False, True]))


def by_numpy(outside: Outside, row: int) -> float:
    kept = outside.inside.weights[row] * outside.numbers * outside.flags
    return outside.inside.scale * float(kept.sum())


def test_compiled_code_reads_and_writes_all_fields():
    for row in (0, 1):
        outside = example()
        expected = by_numpy(outside, row)
        assert weighted(outside, row) == pytest.approx(expected)
        assert outside.numbers[row] == -1


def test_other_values_make_another_bundle():
    outside = example()
    other = outside.replaced(numbers=np.array([4, 5, 6]), inside=outside.inside.replaced(scale=2.0))
    assert weighted(other, 0) == pytest.approx(by_numpy(other.replaced(numbers=np.array([4, 5, 6])), 0))
    assert list(outside.numbers) == [1, 2, 3]
    assert [type(field).__name__ for field in other] == ["ndarray", "Inside", "ndarray"]


def test_a_copy_by_pickle_is_a_bundle_of_its_own():
    outside = example()
    other = pickle.loads(pickle.dumps(outside))
    assert weighted(other, 0) == weighted(outside, 0)
    other.numbers[:] = 0
    assert outside.numbers.any()


class More(Outside):
    offsets: np.ndarray


def test_the_fields_of_a_base_come_first():
    outside = example()
    more = More(*outside, np.zeros(0))
    assert weighted(more, 0) == pytest.approx(by_numpy(example(), 0))
    assert more.numbers is outside.numbers
    assert more.replaced(offsets=np.ones(2)).offsets.tolist() == [1.0, 1.0]


def test_fields_cannot_be_set():
    with pytest.raises(AttributeError, match=r"Outside.numbers cannot be set; `replaced\(numbers=...\)`"):
        example().numbers = np.zeros(3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Inside(np.zeros((1, 1))), "expected the fields weights, scale, found 1 values"),
        (lambda: Inside(np.zeros((1, 1)), size=1.0), "found 1 values, size"),
        (lambda: Inside(np.zeros((1, 1)), 1.0, weights=np.zeros((1, 1))), "found 2 values, weights"),
        (lambda: Inside(np.zeros((3, 2)).T, 1.0), r"Inside.weights: expected .* C-contiguous"),
        (lambda: Inside(np.zeros((3, 2), dtype=">f8"), 1.0), r"Inside.weights: expected .* native byte order"),
        (lambda: Inside([1.0], 1.0), r"Inside.weights: expected .* found \[1.0\]"),
    ],
)
def test_what_is_no_bundle_is_refused(make, message):
    with pytest.raises(TypeError, match=message):
        make()
