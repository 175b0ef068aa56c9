"""No true error is above what is proven, the checker agrees with the package, and what matters cannot be tampered with."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import torch_shallow
from tests.cases import examples
from tests.search.programs import draw_domain, draw_program, mlp
from torch_shallow import check
from torch_shallow.certify.prover import Proof, prove
from torch_shallow.domain import Box, Domain, Polytope
from torch_shallow.errors import TransformError
from torch_shallow.functions import TreeFunction
from torch_shallow.modules.shallow_relu import ShallowReLU
from torch_shallow.program.relu_program import ReLUProgram
from torch_shallow.search.enumerate import enumerate_regions

Point = list[Fraction]
FILE = check.__file__


def dot(row: Any, point: Point) -> Fraction:
    return sum((Fraction(float(w)) * v for w, v in zip(row, point, strict=True)), Fraction(0))


def value_of_program(program: ReLUProgram, x: Point) -> Point:
    known = list(x)
    for stage in program.stages:
        z = [dot(w, known) + Fraction(float(b)) for w, b in zip(stage.weight, stage.bias, strict=True)]
        known += [max(v, Fraction(0)) for v in z]
    rows = zip(program.out_weight, program.out_bias, strict=True)
    return [dot(w, known) + Fraction(float(b)) for w, b in rows]


def value_of_function(function: TreeFunction, x: Point) -> tuple[int, Point]:
    layer, selection = function.half_spaces, function.selection
    u = x if layer.projection is None else [dot(row, x) for row in layer.projection]
    node = 0 if len(function.indicator.tree) else ~0
    while node >= 0:
        node = int(function.indicator.tree[node, int(dot(layer.rows[node], [*u, Fraction(1)]) > 0)])
    weight, bias = selection.maps(torch.tensor([~node]))
    y = [dot([*w, b], [*u, Fraction(1)]) for w, b in zip(weight[0], bias[0], strict=True)]
    if selection.skip is not None:
        y = [v + dot(row, x) for v, row in zip(y, selection.skip, strict=True)]
    return ~node, y


def points_of(function: TreeFunction, domain: Domain, count: int = 12) -> list[Point]:
    """Interior points of regions, and points on a cut or a float beside it, between two of them."""
    rng = np.random.default_rng(0)
    x = function.tree.interior_points()
    x = x[rng.integers(len(x), size=count)]
    points = list(x)
    a, b = domain.inequalities(function.in_shape)
    for start, stop in zip(x, x[::-1], strict=True):
        layer = function.half_spaces
        if len(layer.rows):
            ends = torch.tensor(np.stack([start, stop]))
            z = layer(layer.coordinates(ends))[:, rng.integers(len(layer.rows))].numpy()
            share = z[0] / (z[0] - z[1]) if z[0] * z[1] < 0 else rng.uniform()
            points.append(start + share * (stop - start))
    return [[Fraction(float(v)) for v in point] for point in points if (a @ point <= b).all()]


def exact_bounds(proof: Proof) -> dict[int, Fraction]:
    return dict(check.bounds_of_leaves(proof.header, proof.nodes()))


def require_law(function: TreeFunction, program: ReLUProgram, domain: Domain) -> Proof:
    """Everything that is to hold of a proof of a function that may be right or wrong."""
    proof = prove(function)
    bounds = exact_bounds(proof)
    assert sorted(bounds) == list(range(function.num_regions))
    assert all(Fraction(float(proof.errors[region])) >= error for region, error in bounds.items())
    for x in points_of(function, domain):
        region, found = value_of_function(function, x)
        allowed = bounds[region] * (1 + sum(map(abs, x)) if proof.relative_to_size else 1)
        expected = value_of_program(program, x)
        assert all(abs(a - b) <= allowed for a, b in zip(found, expected, strict=True))
    return proof


def shallow_of(program: ReLUProgram, domain: Domain) -> ShallowReLU:
    return ShallowReLU(enumerate_regions(program, domain))


def network(*layers: tuple[list[list[float]], list[float]]) -> nn.Sequential:
    parts: list[nn.Module] = []
    for weight, bias in layers:
        linear = nn.Linear(len(weight[0]), len(bias), dtype=torch.float64)
        linear.weight.data, linear.bias.data = torch.tensor(weight).double(), torch.tensor(bias).double()
        parts += [linear, nn.ReLU()]
    return nn.Sequential(*parts[:-1])


@examples(40)
@given(st.data())
def test_no_error_is_above_what_is_proven(data: st.DataObject) -> None:
    program = draw_program(data)
    domain = draw_domain(data, program.num_inputs)
    try:
        shallow = shallow_of(program, domain)
    except TransformError:  # a polytope without interior
        return
    proof = require_law(shallow.function, program, domain)
    assert proof.error < 1e-9


@examples(40)
@given(st.data())
def test_a_network_that_was_changed_has_a_larger_error(data: st.DataObject) -> None:
    program, domain = mlp(2, 6, 5, 2), data.draw(st.sampled_from([Box(-1.0, 1.0), torch_shallow.WholeSpace()]))
    shallow = shallow_of(program, domain)
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    arrays = [shallow.half_spaces.rows, shallow.selection.weights, shallow.selection.biases]
    array = arrays[data.draw(st.integers(0, 2))].view(-1)
    array[rng.integers(len(array))] += rng.normal() * 10.0 ** rng.integers(-9, 2)
    require_law(shallow.function, program, domain)


DOMAINS = [
    Box(-1.0, 1.0),
    Box([-1.0, 0.5, -1.0], [1.0, 0.5, 2.0]),
    Box([-1.0, 0.0, -np.inf], [1.0, np.inf, np.inf]),
    torch_shallow.WholeSpace(),
    Polytope([[1.0, 1.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0], [0.0, 0.0, -1.0]], [1.0, 0.0, 0.0, 0.0]),
    Polytope([[1.0, 1.0, 1.0], [-1.0, 0.0, 0.0]], [1.0, 0.0]),
]


@pytest.mark.parametrize("domain", DOMAINS, ids=repr)
def test_all_domains(domain: Domain, tmp_path: Path) -> None:
    program = mlp(3, 6, 5, 2)
    proof = require_law(shallow_of(program, domain).function, program, domain)
    a, b = domain.inequalities((3,))
    bounded = len(a) > 3
    assert proof.relative_to_size is not bounded
    assert proof.error < 1e-11
    assert max(exact_bounds(proof).values()) < 1e-14
    for name in ("proof.json", "proof.json.gz"):
        proof.save(tmp_path / name)
        proven, words = check.check(str(tmp_path / name))
        assert proven
        assert ("(1 + |x|_1)" in words) is not bounded
    assert not check.check(str(tmp_path / name), 0.0)[0]


@pytest.mark.parametrize("domain", [Box(-1.0, 1.0), torch_shallow.WholeSpace()])
def test_a_network_that_reads_few_directions(domain: Domain) -> None:
    program = mlp(20, 3, 4, 2)
    proof = require_law(shallow_of(program, domain).function, program, domain)
    assert proof.data.projection is not None
    assert proof.error < 1e-10


def test_a_sliver_that_was_left_out() -> None:
    e, height = 3e-11, 100.0
    program = ReLUProgram(
        (1,),
        (1,),
        (torch_shallow_stage([[1.0], [1.0], [1.0]], [0.0, -e, -2 * e]),),
        np.array([[0.0, -height / e, 2 * height / e, -height / e]]),
        np.array([height]),
    )
    whole = shallow_of(program, Box(-1.0, 1.0))
    tree, maps = whole.partition, whole.selection
    assert isinstance(tree, torch_shallow.search.partition.Partition)
    proof = prove(whole.function)
    if whole.num_regions < 4:  # as the tolerance was
        assert proof.error >= 99.0
    assert len(maps) == whole.num_regions
