"""A file proves nothing that is not true, what the search answers is proven, and the checker is on its own."""

from __future__ import annotations

import copy
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
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
from tests.data import ACAS_XU_FOLDER, needs_acas_xu
from tests.search.programs import draw_domain, draw_program, mlp
from torch_shallow import check, check_bounds
from torch_shallow.bounds.bounding_box import bounding_box, is_bounded
from torch_shallow.certify.bound_prover import BoundProver, bits_of
from torch_shallow.certify.certificate import Claim, write_certificate
from torch_shallow.domain import Box, Domain, Polytope
from torch_shallow.errors import FileError, IncompleteWarning, TransformError
from torch_shallow.explain import difference, output_range
from torch_shallow.program.coupled import coupled, difference_of
from torch_shallow.program.relu_program import ReLUProgram
from torch_shallow.search.ask import answer
from torch_shallow.search.question import Posed

Point = list[Fraction]
Lines = list[Any]
FILES = [check_bounds.__file__, check.__file__]
SIMPLEX = Polytope([[1.0, 1.0], [-1.0, 0.0], [0.0, -1.0]], [1.0, 0.0, 0.0])


def dot(row: Any, point: Point) -> Fraction:
    return sum((Fraction(float(w)) * v for w, v in zip(row, point, strict=True)), Fraction(0))


def outputs_at(program: ReLUProgram, x: Point) -> Point:
    """In exact arithmetic."""
    known = list(x)
    for stage in program.stages:
        z = [dot(w, known) + Fraction(float(b)) for w, b in zip(stage.weight, stage.bias, strict=True)]
        known += [max(v, Fraction(0)) for v in z]
    rows = zip(program.out_weight, program.out_bias, strict=True)
    return [dot(w, known) + Fraction(float(b)) for w, b in rows]


def values(posed: Posed, found: np.ndarray | None = None, count: int = 40) -> Iterator[Fraction]:
    """Values of a question at some points of its domain: corners, others, and one that is given."""
    a, b = posed.domain.inequalities(posed.program.in_shape)
    lower, upper = bounding_box(posed.domain, posed.program.in_shape)
    rng = np.random.default_rng(0)
    shares = np.concatenate(
        [rng.integers(0, 3, (count, len(lower))) / 2, rng.integers(0, 65, (count, len(lower))) / 64]
    )
    points = [*(lower + shares * (upper - lower)), *([] if found is None else [found])]
    for x in points:
        exact = [Fraction(float(v)) for v in x]
        if all(dot(row, exact) <= Fraction(float(end)) for row, end in zip(a, b, strict=True)):
            y = outputs_at(posed.program, exact)
            if all(v >= 0 for v in y[posed.num_goals :]):
                yield min(y[: posed.num_goals])


def lines_of(posed: Posed, target: float) -> Lines:
    """The lines of a file."""
    proof = BoundProver(posed, target, np.inf, bits_of(posed)).prove()
    statement = {"network": proof.network, "bound": proof.bound, **proof.statement}
    return [{"format": check_bounds.FORMAT, "statements": 1}, statement, *proof.nodes]


def proven(lines: Lines) -> Fraction | None:
    """What the checker says that lines prove, whatever they claim."""
    ((_, bound),) = check_bounds.statements(iter(json.loads(json.dumps(lines))))
    return bound


def draw_question(data: st.DataObject) -> Posed:
    """Goals and constraints in any bounded domain."""
    program = draw_program(data)
    domain: Domain = draw_domain(data, program.num_inputs)
    if not is_bounded(domain, program.in_shape):
        domain = Box(-1.0, 2.0)
    goals, constraints = data.draw(st.integers(1, 3)), data.draw(st.integers(0, 2))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    weight = rng.integers(-2, 3, (goals + constraints, program.out_weight.shape[1])).astype(np.float64)
    bias = rng.integers(-2, 3, len(weight)).astype(np.float64)
    program = replace(program, out_shape=(len(weight),), out_weight=weight, out_bias=bias)
    return Posed(program, domain, goals)


@examples(100)
@given(st.data())
def test_what_a_search_answers_is_proven(data: st.DataObject) -> None:
    posed = draw_question(data)
    found = answer(posed, method="relaxation")
    size = 1.0 + float(np.abs(posed.program.out_weight).sum())
    target = (found.bound if np.isfinite(found.bound) else -1e6) + 1e-8 * size
    try:
        bound = proven(lines_of(posed, target))
    except TransformError:  # there is no point but by rounding
        assert found.x is None
        return
    assert bound is None or bound <= target + 1e-8 * size
    assert all(value <= bound for value in values(posed, found.x)) if bound is not None else not list(values(posed))


def draw_number(rng: np.random.Generator) -> float:
    return float(rng.choice([0.0, 0.25, 1.0, 3.0, rng.random(), 10.0 ** rng.integers(-6, 4)]))


def draw_nodes(rng: np.random.Generator, posed: Posed, depth: int) -> Iterator[Any]:
    """Nodes that any program might write."""
    n, pairs = posed.program.num_neurons, posed.program.pairs
    conditions = posed.program.num_outputs - posed.num_goals
    conditions += 0 if isinstance(posed.domain, Box) else len(posed.domain.inequalities(posed.program.in_shape)[1])
    units = n + (0 if pairs is None else len(pairs))
    usable = [*range(2 * units), *(~k for k in range(conditions))]

    def multipliers() -> list[float]:
        chosen = [int(j) for j in rng.permutation(usable)[: rng.integers(0, 4)]]
        return [v for j in chosen for v in (j, draw_number(rng))]

    steps = [
        [[int(k) if rng.random() < 0.5 else ~int(k), *multipliers()] for k in rng.integers(0, units, 3)]
        for _ in range(2)
    ]
    if depth:
        yield ["cut", steps, int(rng.integers(n))]
        for _ in range(2):
            yield from draw_nodes(rng, posed, depth - 1)
    else:
        yield ["leaf", steps, [draw_number(rng) + 0.5 for _ in range(posed.num_goals)], multipliers()]


def require_sound(posed: Posed, seed: int) -> None:
    """Whatever multipliers, slopes and cuts a file has, no more is proven than is true."""
    lines, rng = lines_of(posed, np.inf), np.random.default_rng(seed)
    bound = proven([*lines[:2], *draw_nodes(rng, posed, int(rng.integers(0, 3)))])
    assert bound is not None
    assert all(value <= bound for value in values(posed))


@examples(150)
@given(st.data())
def test_any_multipliers_prove_what_is_true(data: st.DataObject) -> None:
    require_sound(draw_question(data), data.draw(st.integers(0, 2**32 - 1)))


def two_networks(seed: int, change: float) -> ReLUProgram:
    """A network less its copy with other weights."""
    program, rng = mlp(2, 6, 5, 1), np.random.default_rng(seed)
    stages = [replace(s, weight=s.weight + change * rng.normal(size=s.weight.shape)) for s in program.stages]
    return difference_of(coupled(program, replace(program, stages=tuple(stages))))


@pytest.mark.parametrize("change", [0.0, 1e-6, 0.1, 2.0])
def test_any_multipliers_prove_what_is_true_of_pairs(change: float) -> None:
    for seed in range(20):
        program = two_networks(seed, change)
        assert program.pairs is not None
        require_sound(Posed(program, [Box(-1.0, 1.0), SIMPLEX][seed % 2]), seed)


@pytest.mark.parametrize("change", [0.0, 1e-6, 0.1])
def test_pairs_are_proven_to_be_near(change: float) -> None:
    posed = Posed(two_networks(1, change), Box(-1.0, 1.0))
    found = answer(posed)
    bound = proven(lines_of(posed, found.bound + 1e-9))
    assert bound is not None
    assert found.value - 1e-12 <= bound <= found.bound + 1.1e-9
    # Near networks are compared without looking at their regions.
    assert change > 1e-6 or len(lines_of(posed, 100.0 * change + 1e-9)) == 3


@pytest.fixture(scope="module")
def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 2))


def bounds_in(path: Path) -> list[float]:
    """The bounds of a file that the checker passes."""
    assert check_bounds.main([str(path)]) == 0
    return [claimed for claimed, _ in check_bounds.statements(check.read(str(path)))]


@pytest.mark.parametrize("domain", [Box(-1.0, 1.0), Box([0.0, -3.0], [0.0, 2.0]), SIMPLEX], ids=repr)
def test_the_range_of_outputs(model: nn.Module, domain: Domain, tmp_path: Path) -> None:
    path = tmp_path / "proof.json.gz"
    found = output_range(model, domain, certificate=path)
    whole = output_range(model, domain, method="relaxation", of=torch.eye(2))
    ends = torch.stack([-whole.lower, whole.upper], dim=1).reshape(-1)
    bounds = torch.tensor(bounds_in(path), dtype=torch.float64)
    assert ((bounds >= ends - 1e-12) & (bounds <= ends + 1e-7)).all()
    assert (found.upper <= whole.upper + 1e-7).all()


def test_a_property_that_holds(model: nn.Module, tmp_path: Path) -> None:
    path, box = tmp_path / "proof.json", Box(-1.0, 1.0)
    upper = float(output_range(model, box).upper[0])
    for stated in (torch_shallow.AtMost(upper + 1e-6, 0), ~torch_shallow.AtLeast(upper + 1e-6, 0)):
        assert torch_shallow.verify(model, box, stated, certificate=path).holds
        assert -1.1e-6 < bounds_in(path)[0] < -0.9e-6
    assert torch_shallow.verify(model, box, torch_shallow.AtMost(upper - 1e-3, 0), certificate=path).holds is False
    assert not path.exists()


def test_a_property_that_holds_by_rounding_is_not_proven(tmp_path: Path) -> None:
    path, model = tmp_path / "proof.json", nn.Sequential(nn.Linear(1, 1), nn.ReLU(), nn.Linear(1, 1)).double()
    path.write_text("of another run")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.full_like(parameter, 0.1))
    highest = model(torch.ones(1, 1, dtype=torch.float64)).item()
    with pytest.warns(IncompleteWarning, match="no certificate was written: certificate: "):
        verdict = torch_shallow.verify(model, Box(-1.0, 1.0), torch_shallow.AtMost(highest), certificate=path)
    assert verdict.holds
    assert not path.exists()


def test_the_difference_of_two_networks(model: nn.Module, tmp_path: Path) -> None:
    path, other, box = tmp_path / "proof.json", copy.deepcopy(model), Box(-1.0, 1.0)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.copy_(parameter.half().to(parameter))
    found = difference(model, other, box, certificate=path)
    assert found.largest.amax() <= max(bounds_in(path)) <= found.upper_bound.amax() + 1e-7
    assert difference(model, other, box, at_most=0.1, certificate=path).exact.all()
    assert max(bounds_in(path)) <= 0.1


def test_no_time_for_a_proof(tmp_path: Path) -> None:
    path, posed = tmp_path / "proof.json", Posed(mlp(2, 6, 5, 1), Box(-1.0, 1.0))
    with pytest.raises(TransformError, match="not proven in time"):
        write_certificate(path, [Claim(posed, 0.0)], 0.0)
    with pytest.raises(TransformError, match="out of reach"):
        write_certificate(path, [Claim(posed, -10.0)])
    assert not list(tmp_path.iterdir())


def test_what_is_refused(model: nn.Module, tmp_path: Path) -> None:
    box, endless, path = Box(-1.0, 1.0), Box(0.0, np.inf), tmp_path / "proof.json"
    for ask in (
        lambda: torch_shallow.verify(model, endless, torch_shallow.AtMost(1.0, 0), certificate=path),
        lambda: torch_shallow.verify(model, box, torch_shallow.Monotone([0]), certificate=path),
        lambda: output_range(model, endless, certificate=path),
        lambda: output_range(torch_shallow.transform(model, domain=box), certificate=path),
        lambda: difference(model, model, endless, certificate=path),
        lambda: difference(model, model, box, same_class=True, certificate=path),
        lambda: output_range(model, box, certificate=3),  # type: ignore[arg-type]
    ):
        with pytest.raises(TransformError, match="certificate"):
            ask()
    with pytest.raises(FileError, match="certificate"):
        output_range(model, box, certificate=tmp_path / "nowhere" / "proof.json")


@needs_acas_xu
@pytest.mark.parametrize(("network", "number"), [("3_3", 3), ("5_1", 4)])
def test_properties_of_acas_xu(network: str, number: int, tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    model = torch_shallow.from_onnx(ACAS_XU_FOLDER / f"ACASXU_run2a_{network}_batch_2000.onnx")
    query, path = torch_shallow.read_vnnlib(ACAS_XU_FOLDER / f"prop_{number}.vnnlib"), tmp_path / "proof.json.gz"
    assert torch_shallow.verify(model, query.domain, query.property, certificate=path).holds
    assert max(bounds_in(path)) < 0.0


@pytest.fixture(scope="module")
def question() -> Posed:
    program = mlp(2, 6, 5, 3)
    weight, bias = np.array([[1.0, -1.0, 0.0], [0.0, 1.0, -1.0], [1.0, 0.0, 1.0]]), np.array([0.0, 0.0, 0.5])
    of = replace(program, out_weight=weight @ program.out_weight, out_bias=weight @ program.out_bias + bias)
    return Posed(of, SIMPLEX, 2)


@pytest.fixture(scope="module")
def proof(question: Posed) -> Lines:
    return lines_of(question, answer(question, method="relaxation").bound + 1e-9)


def numbers_of(part: Any) -> Iterator[tuple[list[Any], int]]:
    """Where there are numbers in lists of lists."""
    for place, entry in enumerate(part):
        if isinstance(entry, list):
            yield from numbers_of(entry)
        elif isinstance(entry, int | float):
            yield part, place


def test_no_changed_number_of_a_tree_proves_too_much(question: Posed, proof: Lines) -> None:
    found = answer(question, method="relaxation")
    assert found.x is not None
    truth, caught, passed = max(values(question, found.x)), 0, 0
    for number in range(len(list(numbers_of(proof[2:])))):
        for change in (lambda v: -v, lambda v: v + 1, lambda v: ~v if isinstance(v, int) else v * 1.5):
            lines = copy.deepcopy(proof)
            where, place = list(numbers_of(lines[2:]))[number]
            where[place] = change(where[place])
            try:
                bound = proven(lines)
            except (check.NotAProof, check.NotProven):
                caught += 1
                continue
            passed += 1
            assert bound is not None
            assert bound >= truth
    assert caught > 10
    assert passed > 10


def a_lower_claim(lines: Lines) -> None:
    lines[1]["bound"] = float(np.nextafter(lines[1]["bound"], -1))


def no_claim(lines: Lines) -> None:
    lines[1]["bound"] = None


def a_weight(lines: Lines) -> None:
    lines[1]["outputs"]["bias"][:2] = [v + 1.0 for v in lines[1]["outputs"]["bias"][:2]]


def the_domain(lines: Lines) -> None:
    lines[1]["domain"]["rows"][0][-1] = 2.0


def goals(lines: Lines) -> None:
    next(line for line in lines[2:] if line[0] == "leaf" and any(line[2]))[2][:] = [0.0, 0.0]


def an_empty_cell(lines: Lines) -> None:
    lines[-1] = ["empty", []]


def a_negative_multiplier(lines: Lines) -> None:
    lines[-1][3] = [-1, -1e-9]


def a_missing_line(lines: Lines) -> None:
    lines.pop()


def one_line_more(lines: Lines) -> None:
    lines.append(lines[-1])


def a_missing_statement(lines: Lines) -> None:
    lines[0]["statements"] = 2


def a_multiplier_of_nothing(lines: Lines) -> None:
    lines[-1][3] = [1000, 0.5]


def a_cut_of_nothing(lines: Lines) -> None:
    lines[2:] = [["cut", [], 1000]]


def another_format(lines: Lines) -> None:
    lines[0]["format"] = check.FORMAT


def no_network(lines: Lines) -> None:
    lines[1]["network"] = None


def few_bits(lines: Lines) -> None:
    lines[1]["network"]["bits"] = 10


def no_number(lines: Lines) -> None:
    lines[-1][2][0] = float("nan")


def no_domain(lines: Lines) -> None:
    del lines[1]["domain"]


def pairs_of_two_stages(lines: Lines) -> None:
    lines[1]["network"]["pairs"] = [[0, 10]]


NOT_PROVEN = [a_lower_claim, no_claim, a_weight, the_domain, goals, an_empty_cell, a_negative_multiplier]
NO_PROOF = [
    a_missing_line,
    one_line_more,
    a_missing_statement,
    a_multiplier_of_nothing,
    a_cut_of_nothing,
    another_format,
]
NO_PROOF += [no_network, few_bits, no_number, no_domain, pairs_of_two_stages]


@pytest.mark.parametrize("change", [*NOT_PROVEN, *NO_PROOF])
def test_what_was_tampered_with_is_found_out(
    proof: Lines, change: Callable[[Lines], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines, path = copy.deepcopy(proof), tmp_path / "proof.json"
    path.write_text("\n".join(map(json.dumps, lines)))
    assert check_bounds.main([str(path)]) == 0
    capsys.readouterr()
    change(lines)
    path.write_text("\n".join(map(json.dumps, lines)))
    assert check_bounds.main([str(path)]) == (1 if change in NOT_PROVEN else 2)
    captured = capsys.readouterr()
    words = captured.out if change in NOT_PROVEN else captured.err
    assert len(words.splitlines()) == 1
    assert words.startswith(f"{path}: {'not proven' if change in NOT_PROVEN else ''}")


@pytest.mark.parametrize("content", [b"", b"{}", b"[1, 2]", b"not JSON", b"[" * 100_000, b"\x1f\x8bzzz", b"\xff\xfe"])
def test_what_is_no_proof_is_refused(content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "proof.json"
    path.write_bytes(content)
    assert check_bounds.main([str(path)]) == check_bounds.main([str(tmp_path / "none")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_the_checker_runs_alone(proof: Lines, tmp_path: Path) -> None:
    path = tmp_path / "proof.json"
    path.write_text("\n".join(map(json.dumps, proof)))
    for file in FILES:
        (tmp_path / Path(file).name).write_text(Path(file).read_text())
    command = [sys.executable, "-E", "-s", "-S", str(tmp_path / "check_bounds.py"), str(path)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith(
        f"{path}: proven: for all x of the domain where no condition is negative, min g(x) <= "
    )
    names = set(re.findall(r"^ *(?:import|from) (\w+)", Path(FILES[0]).read_text(), re.MULTILINE))
    assert names - sys.stdlib_module_names == {"torch_shallow", "check"}
    assert len(Path(FILES[0]).read_text().splitlines()) <= 400
