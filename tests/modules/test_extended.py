"""The literal matrices of the theorem compute the same as the module, boundaries included."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.modules.laws import assert_equal, corner_points, deep, random_points
from tests.zoo import ARCHITECTURES, ARRANGEMENTS, DEEP, DEGENERATE, Specimen, chain, transformed, trap
from torch_shallow import ShallowReLU, transform
from torch_shallow.modules.literal import ExtendedLayer, evaluate_extended

BIG = ("3-16-16-1", "3-8-8-3")
MODELS = tuple(s for s in (*DEGENERATE, *ARCHITECTURES) if s.name not in BIG)
MODELS += tuple(s for s in (*ARRANGEMENTS, *DEEP) if s.regions <= 24)


def literal(layers: list[ExtendedLayer], x: np.ndarray) -> np.ndarray:
    """The same network in the slowest way: entry by entry, with 0 * inf = 0 and nothing else."""
    h = x
    for number, (weight, bias) in enumerate(layers):
        h = np.maximum(h, 0.0) if number else h
        rows = []
        for row, constant in zip(weight.numpy(), bias.numpy(), strict=True):
            terms = [
                0.0 if value == 0.0 or factor == 0.0 else factor * value for factor, value in zip(row, h, strict=True)
            ]
            assert not (np.inf in terms and -np.inf in terms)
            rows.append(sum(terms) + constant)
        h = np.array(rows)
    return h


@pytest.mark.parametrize("specimen", MODELS, ids=str)
def test_equal_to_the_module_and_to_the_model(specimen: Specimen) -> None:
    shallow = transformed(specimen)
    layers = shallow.extended_weights()
    x = torch.cat([random_points(shallow, 200), corner_points(shallow, most=10)])
    x = x[shallow.locate(x) >= 0]
    y = evaluate_extended(layers, x.flatten(1) if x.dim() > 1 else x).reshape(-1, *shallow.out_shape)
    assert_equal(y, shallow(x), 1e-9)
    assert_equal(y, deep(specimen, x), 1e-9)


@pytest.mark.parametrize("specimen", MODELS, ids=str)
def test_three_hidden_layers_whose_infinities_are_negative(specimen: Specimen) -> None:
    shallow = transformed(specimen)
    layers = shallow.extended_weights()
    count, regions = shallow.num_half_spaces, shallow.num_regions
    inputs, outputs = shallow.partition.program.num_inputs, shallow.partition.program.num_outputs
    sizes = [(count + 2 * inputs, inputs), (2 * count + 2 * inputs, count + 2 * inputs)]
    sizes += [(2 * regions * outputs, 2 * count + 2 * inputs), (outputs, 2 * regions * outputs)]
    assert [tuple(weight.shape) for weight, _ in layers] == sizes
    for weight, bias in layers:
        assert weight.dtype == bias.dtype == torch.float64
        assert not weight.isnan().any()
        assert not torch.isposinf(weight).any()
        assert bias.isfinite().all()
    assert [int(torch.isneginf(weight).sum()) > 0 for weight, _ in layers] == [False, count > 0, count > 0, False]


@pytest.mark.parametrize("points", [[[0.0], [-0.0], [1e-300], [-1e-300], [5.0]]])
def test_the_trap_by_literal_arithmetic(points: list[list[float]]) -> None:
    layers = transform(trap()).extended_weights()
    expected = [2 * max(x, 0.0) + 3 * max(-x, 0.0) + 7 for (x,) in points]
    assert [float(literal(layers, np.array(point))[0]) for point in points] == expected
    assert evaluate_extended(layers, torch.tensor(points)).flatten().tolist() == expected


@pytest.mark.parametrize("seed", range(3))
def test_the_evaluator_is_literal_arithmetic(seed: int) -> None:
    torch.manual_seed(seed)
    shallow = transform(chain(2, 4, 3, 2).double())
    layers = shallow.extended_weights()
    x = torch.cat([random_points(shallow, 20, seed), corner_points(shallow, most=3)[:10]])
    expected = torch.from_numpy(np.array([literal(layers, point) for point in x.numpy()]))
    assert_equal(evaluate_extended(layers, x), expected, 1e-12)


@pytest.mark.parametrize("specimen", [s for s in MODELS if s.domain.__class__.__name__ == "WholeSpace"], ids=str)
def test_just_one_region_survives_exactly_on_the_hyperplanes(specimen: Specimen) -> None:
    # Points with small integer coordinates lie on many hyperplanes of the integer models without rounding.
    shallow = transformed(specimen)
    first, second, third, _ = shallow.extended_weights()
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.integers(-2, 3, (100, shallow.partition.program.num_inputs)).astype(np.float64))
    layers = [first, second, ExtendedLayer(third.weight, torch.ones_like(third.bias))]
    finite = evaluate_extended(layers, x) > -torch.inf
    alive = finite.reshape(len(x), 2, shallow.num_regions, -1)
    assert (alive == alive[:, :1, :, :1]).all()
    alive = alive[:, 0, :, 0]
    assert (alive.sum(1) == 1).all()
    if shallow.half_spaces.projection is None:  # else rounding is not the same on a hyperplane
        dense = ShallowReLU(shallow.partition, dense=True)
        assert torch.equal(alive.int().argmax(1), dense.locate(x.reshape(-1, *shallow.in_shape)))
