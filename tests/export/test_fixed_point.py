"""C in integers: every point of the grid in its own region, and outputs within the proven error."""

from __future__ import annotations

import copy
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tests.cases import examples
from tests.export.runners import run_c
from tests.export.test_languages import staircase
from tests.zoo import chain
from torch_shallow import Box, ShallowReLU, export, transform
from torch_shallow.export.fixed_point import in_digits


def fractions(array: torch.Tensor) -> list[list[Fraction]]:
    return [[Fraction(value) for value in row] for row in array.detach().tolist()]


def dot(row: list[Fraction], point: list[Fraction]) -> Fraction:
    return sum((a * b for a, b in zip(row, point, strict=True)), Fraction(0))


def exact_outputs(shallow: ShallowReLU, x: list[list[Fraction]]) -> list[list[Fraction]]:
    """The trunk in rational arithmetic, from the network's own layers."""
    layer, selection = shallow.half_spaces, shallow.function.selection
    rows = fractions(layer.rows[shallow.function.half_space_of()])
    children = shallow.partition.children.tolist()
    weights, biases = selection.maps(torch.arange(shallow.num_regions))
    weights, biases = [fractions(weight) for weight in weights], fractions(biases)
    projection = None if layer.projection is None else fractions(layer.projection)
    skip = None if selection.skip is None else fractions(selection.skip)
    found = []
    for point in x:
        u = point if projection is None else [dot(row, point) for row in projection]
        node = 0 if children else -1
        while node >= 0:
            node = children[node][dot(rows[node], [*u, 1]) > 0]
        y = [dot(row, u) + bias for row, bias in zip(weights[~node], biases[~node], strict=True)]
        found.append(y if skip is None else [v + dot(row, point) for v, row in zip(y, skip, strict=True)])
    return found


def grid(shallow: ShallowReLU, bits: int, count: int = 200) -> np.ndarray:
    """Points of the grid in the box: at random, its ends, and the nearest ones on both sides of half-spaces."""
    rng = np.random.default_rng(0)
    lower, upper = shallow.domain.bounds(shallow.in_shape)
    least, most = np.ceil(lower * 2.0**bits), np.floor(upper * 2.0**bits)
    points = np.rint(rng.uniform(least, most, (count, len(lower))))
    rows, basis = shallow.half_spaces.rows.detach().numpy(), shallow.half_spaces.projection
    found = [points, least[None], most[None]]
    if len(rows):
        which, near = rng.integers(0, len(rows), count), points.copy()
        normal = rows[which, :-1] if basis is None else rows[which, :-1] @ basis.numpy()
        z = (normal * near).sum(axis=1) + rows[which, -1] * 2.0**bits
        at, axis = np.arange(count), np.abs(normal).argmax(axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            near[at, axis] = np.floor(np.nan_to_num(near[at, axis] - z / normal[at, axis]))
        beyond = near.copy()
        beyond[at, axis] += 1.0
        found += [near, beyond]
    return np.clip(np.concatenate(found), least, most).astype(np.int64)


def assert_within_the_error(shallow: ShallowReLU, folder: Path, **options: object) -> float:
    """The largest error over the proven one."""
    code = export.to_c(shallow, dtype="fixed", **options)
    assert code.fraction_bits is not None
    one, unit = 1 << code.fraction_bits[0], 1 << code.fraction_bits[1]
    points = grid(shallow, code.fraction_bits[0])
    y, status = run_c(code, folder, points, ("int32_t", "int32_t"), shallow.function.num_outputs)
    assert not status.any()
    exact = exact_outputs(shallow, [[Fraction(value, one) for value in row] for row in points.tolist()])
    worst = max(
        abs(Fraction(found, unit) - value)
        for row, values in zip(y.tolist(), exact, strict=True)
        for found, value in zip(row, values, strict=True)
    )
    assert worst <= Fraction(code.error)
    assert f"<= {code.error!r}" in code.header
    return float(worst) / code.error


def skipping() -> nn.Module:
    class Skips(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.skip = chain(7, 3, 6, 2), nn.Linear(7, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.body(x) + self.skip(x)

    return Skips()


MODELS = {
    "small": (lambda: chain(2, 8, 8, 2), Box(-2.0, [2.0, 3.0])),
    "a controller": (lambda: chain(4, 32, 32, 1), Box(-0.1, 0.1)),
    "thirty inputs through three": (lambda: chain(30, 3, 6, 2), Box(-1.0, 1.0)),
    "skip": (skipping, Box(-1.0, 1.0)),
    "affine": (lambda: nn.Linear(3, 2), Box(-1e-3, 1e3)),
    "steep": (lambda: nn.Sequential(chain(2, 6, 6), nn.Linear(6, 1), nn.Linear(1, 1).requires_grad_(False)), Box(0, 9)),
}


@pytest.mark.parametrize("name", MODELS)
def test_outputs_are_within_the_proven_error_which_is_nearly_reached(name: str, tmp_path: Path) -> None:
    make, domain = MODELS[name]
    torch.manual_seed(0)
    shallow = transform(make().double(), domain=domain)
    assert assert_within_the_error(shallow, tmp_path) > 0.1


def test_every_point_has_its_own_region_even_where_the_network_jumps(tmp_path: Path) -> None:
    torch.manual_seed(0)
    shallow = copy.deepcopy(transform(chain(2, 8, 8, 1).double(), domain=Box(-2.0, 2.0)))
    with torch.no_grad():
        shallow.selection.biases += 10.0 * torch.randn_like(shallow.selection.biases)
    assert_within_the_error(shallow, tmp_path)


ROWS = [
    [1.0, -1.0, 0.0],  # exactly 0 on the diagonal
    [1.0, -1.0, 2.0**-200],
    [1.0, -1.0, -(2.0**-200)],
    [1.0, -1.0 + 2.0**-50, 0.0],
    [1.0, -1.0 - 2.0**-52, 2.0**-60],
    [2.0**-30, 1.0, 2.0**-31],
    [1e-290, -1e290, 1e-290],
    [5e-324, -1e-323, 0.0],
    [1.0, 3.0**-20, -(3.0**-21)],
    [0.0, 0.0, 1e-300],
    [0.0, 0.0, 0.0],
]


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_signs_are_exact_however_different_the_sizes_of_numbers(row: list[float], tmp_path: Path) -> None:
    shallow = copy.deepcopy(transform(chain(2, 1, 1).double(), domain=Box(-2.0, 2.0)))
    assert shallow.num_regions == 2
    shallow.half_spaces.projection = None
    shallow.half_spaces.rows = torch.tensor([row], dtype=torch.float64)
    shallow.selection.weights = torch.zeros(2, 1, 2, dtype=torch.float64)
    shallow.selection.biases = torch.tensor([[-10.0], [10.0]], dtype=torch.float64)
    shallow.selection.skip = None
    assert_within_the_error(shallow, tmp_path)


def test_thresholds_on_the_grid_are_where_they_are(tmp_path: Path) -> None:
    assert_within_the_error(staircase(60), tmp_path, fraction_bits=(8, 20))


@examples(100)
@given(
    st.lists(st.floats(allow_nan=False, allow_infinity=False, allow_subnormal=True), min_size=1, max_size=4),
    st.integers(3, 31),
)
def test_digits_are_the_numbers(values: list[float], bits: int) -> None:
    found = in_digits(tuple(map(Fraction, values)), bits)
    assert all(abs(digit) <= 1 << (bits - 1) for row in found for digit in row)
    totals = [
        sum(Fraction(row[k]) / (1 << (bits * place)) for place, row in enumerate(found)) for k in range(len(values))
    ]
    ratios = {total / Fraction(value) for total, value in zip(totals, values, strict=True) if value}
    assert len(ratios) <= 1
    assert all(ratio > 0 for ratio in ratios)
    assert all(total == 0 for total, value in zip(totals, values, strict=True) if not value)


def test_points_out_of_the_box_and_rounded_out_of_it(tmp_path: Path) -> None:
    torch.manual_seed(0)
    shallow = transform(chain(2, 8, 1).double(), domain=Box(-0.3, 0.7))
    code = export.to_c(shallow, dtype="fixed", fraction_bits=(10, 20))
    least, most = int(np.ceil(-0.3 * 1024)), int(np.floor(0.7 * 1024))
    points = np.array(
        [[least, most], [least - 1, most + 1], [least - 2, most], [least, most + 2], [-(2**31), 2**31 - 1]]
    )
    y, status = run_c(code, tmp_path, points, ("int32_t", "int32_t"), 1)
    assert status.tolist() == [0, 0, 1, 1, 1]
    assert y[0] == y[1]
    assert y[2] == 7  # as it was
    x = torch.rand(500, 2, dtype=torch.float64) - 0.3
    y, status = run_c(code, tmp_path, np.rint(x.numpy() * 1024), ("int32_t", "int32_t"), 1)
    assert not status.any()
    assert (np.abs(y / 2.0**20 - shallow(x).numpy()) <= code.error + code.input_error).all()
