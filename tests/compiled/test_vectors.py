"""Sums of eight rows at once are those of a loop over each row."""

from __future__ import annotations

import numpy as np
import pytest

from torch_shallow.compiled.decorator import compiled
from torch_shallow.compiled.vectors import LANES, positive_sums, write_sums


@compiled("contract", "nsz")
def both(blocks, points, sums, signs):
    for point in range(points.shape[0]):
        for block in range(blocks.shape[0]):
            write_sums(blocks, block, points, point, sums, point)
            signs[point, block] = positive_sums(blocks, block, points, point)


@compiled("contract", "nsz")
def three_at_once(blocks, points, signs):
    last = points.shape[0] - 1
    for point in range(points.shape[0]):
        a, _, c = positive_sums(blocks, (0, 1, 2), points, (point, last, last - point))
        signs[point, 0], signs[last - point, 2] = a, c
        _, b = positive_sums(blocks, (2, 1), points, (0, point))
        signs[point, 1] = b


@compiled("contract", "nsz")
def one_by_one(blocks, points, sums):
    last = blocks.shape[1] - 1
    for point in range(points.shape[0]):
        for block in range(blocks.shape[0]):
            for lane in range(blocks.shape[2]):
                total = blocks[block, last, lane]
                for c in range(last):
                    total += blocks[block, c, lane] * points[point, c]
                sums[point, block * blocks.shape[2] + lane] = total


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("columns", [0, 1, 3, 8, 21])
def test_sums_and_signs_are_those_of_a_loop(columns, dtype):
    rng = np.random.default_rng(columns)
    for scale in (1e-300, 1.0, 1e300):
        blocks = scale * rng.standard_normal((3, columns + 1, LANES))
        points = rng.standard_normal((20, columns)).astype(dtype)
        points[10:] = rng.choice([0.0, -0.0, 1.0, np.inf, -np.inf, np.nan], (10, columns))
        sums, expected = np.empty((2, 20, 3 * LANES))
        signs = np.empty((20, 3), dtype=np.int64)
        both(blocks, points, sums, signs)
        one_by_one(blocks, points, expected)
        size = np.abs(blocks[:, :-1]).sum(1).reshape(-1) * 10.0 + np.abs(blocks[:, -1]).reshape(-1)
        with np.errstate(invalid="ignore"):
            unlike = ~(np.abs(sums - expected) <= 1e-14 * size)
        np.testing.assert_array_equal(sums[unlike], expected[unlike])  # NaN and infinities
        bits = signs[:, :, None] >> np.arange(LANES) & 1
        np.testing.assert_array_equal(bits.reshape(20, -1) == 1, expected > 0.0)
        again = np.empty_like(signs)
        three_at_once(blocks, points, again)
        np.testing.assert_array_equal(again, signs)
