"""Families of hyperplane arrangements of any size, with the numbers of regions known from combinatorics."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from math import comb, factorial, prod

import numpy as np
import torch
from torch import nn


@dataclass(frozen=True)
class Arrangement:
    """Hyperplanes `normals @ x + offsets = 0` of R^n, with the number of regions into which they cut it."""

    name: str
    normals: np.ndarray
    offsets: np.ndarray
    regions: int

    def module(self) -> nn.Sequential:
        """Return one hidden layer whose rows are the hyperplanes, summed with weights that let nothing cancel."""
        hyperplanes, inputs = self.normals.shape
        hidden, out = nn.Linear(inputs, hyperplanes).double(), nn.Linear(hyperplanes, 1).double()
        with torch.no_grad():
            hidden.weight.copy_(torch.from_numpy(self.normals))
            hidden.bias.copy_(torch.from_numpy(self.offsets))
            out.weight.copy_(torch.arange(1.0, hyperplanes + 1).sqrt()[None])
        return nn.Sequential(hidden, nn.ReLU(), out)


def make(name: str, rows: Sequence[np.ndarray], offsets: Sequence[float] | float, regions: int) -> Arrangement:
    normals = np.array(rows, dtype=np.float64)
    return Arrangement(name, normals, np.broadcast_to(np.float64(offsets), len(normals)).copy(), regions)


def differences(n: int) -> list[np.ndarray]:
    """Rows e_i - e_j for i < j."""
    return [np.eye(n)[i] - np.eye(n)[j] for i, j in itertools.combinations(range(n), 2)]


def sums(n: int) -> list[np.ndarray]:
    """Rows e_i + e_j for i < j."""
    return [np.eye(n)[i] + np.eye(n)[j] for i, j in itertools.combinations(range(n), 2)]


def generic(n: int, d: int) -> Arrangement:
    rng = np.random.default_rng(100 * n + d)
    count = sum(comb(n, k) for k in range(d + 1))
    return make(f"generic {n} in R^{d}", rng.standard_normal((n, d)), rng.standard_normal(n), count)


def central(n: int, d: int) -> Arrangement:
    rng = np.random.default_rng(100 * n + d)
    return make(f"central {n} in R^{d}", rng.standard_normal((n, d)), 0.0, 2 * sum(comb(n - 1, k) for k in range(d)))


def braid(n: int) -> Arrangement:
    return make(f"braid {n}", differences(n), 0.0, factorial(n))


def type_b(n: int) -> Arrangement:
    return make(f"type B {n}", [*np.eye(n), *differences(n), *sums(n)], 0.0, 2**n * factorial(n))


def type_d(n: int) -> Arrangement:
    return make(f"type D {n}", [*differences(n), *sums(n)], 0.0, 2 ** (n - 1) * factorial(n))


def deformed_braid(name: str, n: int, values: Sequence[int], regions: int) -> Arrangement:
    """Hyperplanes x_i - x_j = value, i < j, for each value."""
    rows = [row for row in differences(n) for _ in values]
    return make(f"{name} {n}", rows, [-float(value) for _ in differences(n) for value in values], regions)


def shi(n: int) -> Arrangement:
    return deformed_braid("Shi", n, [0, 1], (n + 1) ** (n - 1))


def catalan(n: int) -> Arrangement:
    return deformed_braid("Catalan", n, [-1, 0, 1], factorial(n) * (comb(2 * n, n) // (n + 1)))


def linial(n: int) -> Arrangement:
    return deformed_braid("Linial", n, [1], sum(comb(n, k) * (k + 1) ** (n - 1) for k in range(n + 1)) // 2**n)


def semiorder(n: int) -> Arrangement:
    def surjections(k: int) -> int:
        return sum((-1) ** (k - i) * comb(k, i) * i**n for i in range(k + 1))

    count = sum((-1) ** (n - k) * surjections(k) * comb(2 * k, k) // (k + 1) for k in range(1, n + 1))
    return deformed_braid("semiorder", n, [-1, 1], count)


def threshold(n: int) -> Arrangement:
    """Hyperplanes x_i + x_j = 0: labelled threshold graphs, with known counts up to five vertices."""
    return make(f"threshold {n}", sums(n), 0.0, {2: 2, 3: 8, 4: 46, 5: 332}[n])


def resonance(n: int) -> Arrangement:
    """Sums of all non-empty sets of coordinates, with known counts up to five coordinates."""
    rows = [np.array(row) for row in itertools.product([0, 1], repeat=n) if any(row)]
    return make(f"resonance {n}", rows, 0.0, {1: 2, 2: 6, 3: 32, 4: 370, 5: 11292}[n])


def cycle(n: int) -> Arrangement:
    """The graphical arrangement of a cycle, whose regions are its acyclic orientations."""
    eye = np.eye(n)
    return make(f"cycle {n}", [eye[i] - eye[(i + 1) % n] for i in range(n)], 0.0, 2**n - 2)


def tree(n: int) -> Arrangement:
    """The graphical arrangement of a star."""
    eye = np.eye(n)
    return make(f"star {n}", [eye[0] - eye[i] for i in range(1, n)], 0.0, 2 ** (n - 1))


def grid(*counts: int) -> Arrangement:
    """Parallel hyperplanes across each axis."""
    rows = [np.eye(len(counts))[axis] for axis, count in enumerate(counts) for _ in range(count)]
    offsets = [-float(k) for count in counts for k in range(count)]
    return make(f"grid {'x'.join(map(str, counts))}", rows, offsets, prod(n + 1 for n in counts))


def pencil(lines: int, d: int, at: float) -> Arrangement:
    """Hyperplanes through one flat of codimension two, away from the origin."""
    angles = np.pi * np.arange(lines) / lines
    rows = np.zeros((lines, d))
    rows[:, 0], rows[:, 1] = np.cos(angles), np.sin(angles)
    return make(f"pencil {lines} in R^{d}", rows, list(-rows[:, 0] * at - 2 * rows[:, 1] * at), 2 * lines)


def two_pencils(n: int, m: int) -> Arrangement:
    """Pencils of n lines through one point of the plane and m through another, none parallel and none shared."""
    rows = [np.array([k, 1.0]) for k in range(1, n + 1)] + [np.array([1.0, -k]) for k in range(1, m + 1)]
    offsets = [0.0] * n + [-100.0] * m  # the second point is (100, 0)
    return make(f"pencils {n} and {m}", rows, offsets, n * m + 2 * n + 2 * m - 1)


def repeated(base: Arrangement) -> Arrangement:
    """Repeat every hyperplane twice: scaled, and with its sides exchanged."""
    normals = np.concatenate([base.normals, 3.0 * base.normals, -0.7 * base.normals])
    offsets = np.concatenate([base.offsets, 3.0 * base.offsets, -0.7 * base.offsets])
    order = np.random.default_rng(0).permutation(len(offsets))
    return Arrangement(f"repeated {base.name}", normals[order], offsets[order], base.regions)


def cone(base: Arrangement) -> Arrangement:
    """Make every hyperplane central in one more dimension, and add the hyperplane at infinity."""
    normals = np.column_stack([base.normals, base.offsets])
    infinity = np.eye(normals.shape[1])[-1:]
    return Arrangement(
        f"cone of {base.name}", np.concatenate([normals, infinity]), np.zeros(len(normals) + 1), 2 * base.regions
    )


def product(first: Arrangement, second: Arrangement) -> Arrangement:
    """Combine two arrangements, each in its own coordinates."""
    (n, p), (m, q) = first.normals.shape, second.normals.shape
    normals = np.block([[first.normals, np.zeros((n, q))], [np.zeros((m, p)), second.normals]])
    offsets = np.concatenate([first.offsets, second.offsets])
    return Arrangement(f"{first.name} x {second.name}", normals, offsets, first.regions * second.regions)


ARRANGEMENTS = (
    *(generic(n, d) for n, d in [(4, 1), (9, 2), (10, 3), (8, 5), (7, 7), (5, 9)]),
    *(central(n, d) for n, d in [(3, 1), (9, 2), (10, 3), (8, 5), (7, 7), (5, 9)]),
    *(braid(n) for n in (2, 3, 4, 5, 6)),
    *(type_b(n) for n in (1, 2, 3, 4, 5)),
    *(type_d(n) for n in (2, 3, 4, 5)),
    *(shi(n) for n in (2, 3, 4, 5)),
    *(catalan(n) for n in (2, 3, 4, 5)),
    *(linial(n) for n in (2, 3, 4, 5, 6)),
    *(semiorder(n) for n in (2, 3, 4, 5)),
    *(threshold(n) for n in (2, 3, 4, 5)),
    *(resonance(n) for n in (1, 2, 3, 4)),
    *(cycle(n) for n in (3, 5, 8)),
    *(tree(n) for n in (2, 5, 9)),
    *(grid(*counts) for counts in [(7,), (3, 3, 3), (1, 2, 3, 4), (1,) * 8]),
    *(pencil(lines, d, at) for lines, d, at in [(3, 2, 0.0), (5, 2, 1.0), (7, 4, 10.0), (12, 2, 1000.0)]),
    two_pencils(4, 3),
    *(repeated(base) for base in (generic(6, 3), braid(4), grid(2, 2), shi(4))),
    *(cone(base) for base in (generic(7, 3), shi(4), linial(5), grid(2, 3), cone(pencil(4, 2, 1.0)))),
    product(shi(3), pencil(4, 2, 5.0)),
    product(type_b(2), product(grid(3), braid(3))),
)
