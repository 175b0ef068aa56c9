"""What is proven holds, the checker agrees with the package, and nothing that matters can be tampered with."""

from __future__ import annotations

import copy
import dataclasses
import json
import re
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import jaxtyping
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
from torch_shallow.certify.error_proof import Proof
from torch_shallow.certify.prover import prove
from torch_shallow.domain import Box, Domain, Polytope
from torch_shallow.errors import TransformError
from torch_shallow.functions import TreeFunction
from torch_shallow.modules.shallow_relu import ShallowReLU
from torch_shallow.program.relu_program import ReLUProgram, Stage
from torch_shallow.search.enumerate import enumerate_regions

Point = list[Fraction]
FILE = check.__file__


def peak() -> nn.Sequential:
    """A peak of height 128 between 0 and 2^-34."""
    layers = nn.Sequential(nn.Linear(1, 3), nn.ReLU(), nn.Linear(3, 1)).double()
    with torch.no_grad():
        layers[0].weight.copy_(torch.ones(3, 1))
        layers[0].bias.copy_(torch.tensor([0.0, -(2.0**-35), -(2.0**-34)]))
        layers[2].weight.copy_(torch.tensor([[1.0, -2.0, 1.0]]) * 2.0**42)
        layers[2].bias.zero_()
    return layers


def test_max_error_follows_the_weights() -> None:
    model = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 2))
    shallow = torch_shallow.transform(model, domain=Box(-1.0, 1.0))
    before = shallow.max_error
    assert 0.0 < before < 1e-14
    assert before == prove(shallow.function).error == shallow.certify(model).max_error
    with torch.no_grad():
        shallow.selection.biases[0] += 0.25
    assert 0.25 <= shallow.max_error <= 0.25 + 1e-12
    shallow.load_state_dict(torch_shallow.transform(model, domain=Box(-1.0, 1.0)).state_dict())
    assert shallow.max_error == before
    assert copy.deepcopy(shallow).max_error == before


def test_max_error_is_kept_to() -> None:
    for allowed in (1e-3, 1e-9):
        shallow = torch_shallow.transform(peak(), domain=Box(-1.0, 1.0), max_error=allowed)
        assert shallow.max_error <= allowed
        assert shallow(torch.tensor([[2.0**-35]]).double()).item() == pytest.approx(128.0, abs=allowed)
    with pytest.raises(TransformError, match=r"max_error: expected at least .*can be proven, found 1e-30"):
        torch_shallow.transform(peak(), domain=Box(-1.0, 1.0), max_error=1e-30)


def test_a_small_peak_is_left_out_where_the_error_allows_it() -> None:
    model = peak()
    with torch.no_grad():
        model[2].weight *= 1e-9  # of height 1e-7, beside an output of 1
        model[2].bias += 1.0
    counts = [
        torch_shallow.transform(model, domain=Box(-1.0, 1.0), max_error=allowed).num_regions
        for allowed in (None, 1e-3, 1e-9)
    ]
    assert counts == [4, 2, 4]


@pytest.mark.parametrize("allowed", [0.0, -1.0, float("inf"), float("nan"), True, "1e-9"])
def test_a_max_error_that_is_none_is_refused(allowed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(TransformError, match="max_error: expected a positive number, found"):
        torch_shallow.transform(peak(), max_error=allowed)


def test_nothing_is_said_of_neurons_that_were_left_out() -> None:
    wide = nn.Sequential(nn.Linear(400, 600), nn.ReLU(), nn.Linear(600, 2))
    shallow = torch_shallow.transform(wide, domain=Box(-1e-4, 1e-4))
    with pytest.raises(TransformError, match=r"max_error: .* only from those that can change sign in its box"):
        _ = shallow.max_error
    check = shallow.certify(wide).require()["proven error"]
    assert check.note == "of the neurons that can change sign in the box"


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
        row = layer.rows[function.half_space_of([node])[0]]
        node = int(function.indicator.tree[node, int(dot(row, [*u, Fraction(1)]) > 0)])
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
    assert proof.error < 1e-12


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
    bounded = len(domain.inequalities((3,))[0]) > 3
    assert proof.relative_to_size is not bounded
    assert proof.error < 1e-14
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
    assert proof.error < 1e-14


def test_slivers_that_were_left_out() -> None:
    e, height = 3e-11, 100.0
    out = np.array([[0.0, -height / e, 2 * height / e, -height / e]])
    stage = Stage("", np.ones((3, 1)), np.array([0.0, -e, -2 * e]))
    program = ReLUProgram((1,), (1,), (stage,), out, np.array([height]))
    whole = enumerate_regions(program, Box(-1.0, 1.0))
    thick = dataclasses.replace(
        whole,
        cut_neurons=np.array([0]),
        children=np.array([[~0, ~1]]),
        packed_patterns=np.packbits([[False] * 3, [True] * 3], axis=1),
        points=np.array([[-0.5], [0.5]]),
    )
    proof = require_law(ShallowReLU(thick).function, program, Box(-1.0, 1.0))
    assert proof.error >= 99.0
    assert proof.worst_region == 1
    assert list(proof.exact_errors(np.array([1, 0]))) == [check.rounded_up(exact_bounds(proof)[k]) for k in (1, 0)]


def test_a_part_of_a_proof_is_a_proof_of_some_leaves() -> None:
    program = mlp(2, 6, 5, 2)
    shallow = shallow_of(program, Box(-1.0, 1.0))
    proof = prove(shallow.function)
    some = np.array([7, 3, 8])
    leaves = list(check.bounds_of_leaves(proof.header, proof.nodes(some)))
    assert sorted(leaf for leaf, error in leaves if error is not None) == [3, 7, 8]
    assert (proof.exact_errors(some) <= proof.errors[some]).all()
    assert (prove(shallow.function, keep=False).errors == proof.errors).all()
    with pytest.raises(ValueError, match="keep=True"):
        prove(shallow.function, keep=False).nodes()


def test_nothing_is_claimed_of_open_cells(tmp_path: Path) -> None:
    model = network(([[1.0, 0.5], [0.25, 1.0], [-1.0, 1.0]], [0.0, 0.5, 0.25]), ([[1.0, 1.0, 1.0]], [0.0]))
    with pytest.warns(UserWarning, match="regions"):
        part = torch_shallow.transform(model, domain=Box(-1.0, 1.0), max_regions=3)
    proof = prove(part.function)
    proof.save(tmp_path / "proof.json")
    proven, words = check.check(str(tmp_path / "proof.json"))
    assert proven
    assert "outside of" in words


Lines = list[Any]


def a_cut(lines: Lines) -> None:
    lines[2][2][-1] += 1e-3


def a_local_model(lines: Lines) -> None:
    next(line for line in lines[1:] if line[0] == "leaf")[3][0] += 1e-6


def order_of_leaves(lines: Lines) -> None:
    one, other = [line for line in lines[1:] if line[0] == "leaf"][:2]
    one[2:4], other[2:4] = other[2:4], one[2:4]


def a_sign(lines: Lines) -> None:
    entries = next(line[-1] for line in lines[1:] if line[-1])
    entries[0] = ~entries[0] if isinstance(entries[0], int) else [~entries[0][0], *entries[0][1:]]


def a_weight(lines: Lines) -> None:
    lines[0]["network"]["stages"][1]["weight"][0][3] += 1e-6


def a_multiplier(lines: Lines) -> None:
    entries = next(entry for line in lines[1:] for entry in line[-1] if isinstance(entry, list))
    entries[2] *= 1.01


def a_negative_multiplier(lines: Lines) -> None:
    entries = next(entry for line in lines[1:] for entry in line[-1] if isinstance(entry, list))
    entries[2] *= -1


def a_missing_neuron(lines: Lines) -> None:
    next(line for line in lines[1:] if line[-1])[-1].pop(0)


def the_domain(lines: Lines) -> None:
    lines[0]["domain"]["upper"][0] = 2.0


def a_missing_line(lines: Lines) -> None:
    lines.pop()


def one_line_more(lines: Lines) -> None:
    lines.append(["open"])


def a_leaf_twice(lines: Lines) -> None:
    one, other = [line for line in lines[1:] if line[0] == "leaf"][:2]
    one[1] = other[1]


def no_number(lines: Lines) -> None:
    lines[2][2][0] = float("nan")


def a_neuron_twice(lines: Lines) -> None:
    entries = next(line[-1] for line in lines[1:] if line[-1])
    entries.append(entries[0])


def another_format(lines: Lines) -> None:
    lines[0]["format"] = "something else"


def no_network(lines: Lines) -> None:
    del lines[0]["network"]["output"]


def a_short_row(lines: Lines) -> None:
    lines[1][2].pop()


def a_half_space_that_is_not_above(lines: Lines) -> None:
    entries = next(entry for line in lines[1:] for entry in line[-1] if isinstance(entry, list))
    entries[1] = 10**9


NOT_PROVEN = [a_cut, a_local_model, order_of_leaves, a_sign, a_weight, a_multiplier]
NOT_PROVEN += [a_negative_multiplier, a_missing_neuron, the_domain]
NO_PROOF = [a_missing_line, one_line_more, a_leaf_twice, no_number, a_neuron_twice, another_format, no_network]
NO_PROOF += [a_short_row, a_half_space_that_is_not_above]


@pytest.fixture(scope="module")
def proof() -> Proof:
    return prove(shallow_of(mlp(2, 6, 5, 2), Box(-1.0, 1.0)).function)


@pytest.mark.parametrize("change", [*NOT_PROVEN, *NO_PROOF])
def test_what_was_tampered_with_is_found_out(
    proof: Proof, change: Callable[[Lines], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = copy.deepcopy([proof.header, *proof.nodes()])
    change(lines)
    path = tmp_path / "proof.json"
    path.write_text("\n".join(map(json.dumps, lines)))
    assert check.main([str(path)]) == (1 if change in NOT_PROVEN else 2)
    captured = capsys.readouterr()
    words = captured.out if change in NOT_PROVEN else captured.err
    assert len(words.splitlines()) == 1
    assert words.startswith(f"{path}: {'not proven' if change in NOT_PROVEN else ''}")


@pytest.mark.parametrize("content", [b"", b"{}", b"[1, 2]", b"not JSON", b"[" * 100_000, b"\x1f\x8bzzz", b"\xff\xfe"])
def test_what_is_no_proof_is_refused(content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "proof.json"
    path.write_bytes(content)
    assert check.main([str(path)]) == check.main([str(tmp_path / "none")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_the_checker_runs_alone(proof: Proof, tmp_path: Path) -> None:
    path = tmp_path / "proof.json"
    proof.save(path)
    run = subprocess.run([sys.executable, "-I", FILE, path], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith(f"{path}: proven: for all x of the domain |f(x) - g(x)| <= ")
    names = set(re.findall(r"^(?:import|from) (\w+)", Path(FILE).read_text(), re.MULTILINE))
    assert names <= sys.stdlib_module_names
    assert len(Path(FILE).read_text().splitlines()) <= 400


def test_rounding_up() -> None:
    assert check.rounded_up(Fraction(1, 3)) > Fraction(1, 3) > np.nextafter(check.rounded_up(Fraction(1, 3)), 0)
    assert check.rounded_up(Fraction(1, 4)) == 0.25
    assert check.rounded_up(Fraction(1, 1 << 2000)) == np.nextafter(0, 1)
    assert check.rounded_up(Fraction(1 << 2000)) == np.inf


@pytest.mark.parametrize("name", ["check", "check_bounds"])
def test_checkers_are_commands_without_a_warning(name: str) -> None:
    command = [sys.executable, "-W", "error::RuntimeWarning", "-m", f"torch_shallow.{name}", "--help"]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_what_is_said_of_a_network_follows_its_numbers(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 2))
    shallow = torch_shallow.transform(model)
    copied = copy.deepcopy(shallow).to(torch.device("cpu"))
    for network in (shallow, copied):
        assert network.made_from(model)
        assert not network.may_be_discontinuous
    before = shallow.half_spaces.rows.clone()
    for change in (lambda: shallow.half_spaces.rows.add_(1e-3), lambda: shallow.selection.weights.mul_(1.5)):
        with torch.no_grad():
            change()
        assert not shallow.made_from(model)
        assert shallow.may_be_discontinuous
        shallow.save(tmp_path / "changed.safetensors")
        loaded = torch_shallow.ShallowReLU.load(tmp_path / "changed.safetensors")
        assert not loaded.made_from(model)
        assert loaded.may_be_discontinuous
        with torch.no_grad():
            shallow.half_spaces.rows.copy_(before)
    assert copied.made_from(model)
