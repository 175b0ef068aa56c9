"""VNN-LIB: files against an evaluator that knows nothing but brackets, and queries of several networks."""

from __future__ import annotations

import copy
import gzip
import operator
import re
from collections.abc import Callable
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.networks import ACAS_XU_FOLDER
from tests.answers import stand_in
from tests.data import needs_acas_xu
from tests.zoo import chain
from torch_shallow import Box, TransformError, explain, read_vnnlib, transform, verify
from torch_shallow.errors import FileError
from torch_shallow.properties.formula import holds_at

stand_in()

INNERMOST = re.compile(r"\(\s*([^\s()]+)\s+([^()]*)\)")
OPERATORS: dict[str, Callable[..., Any]] = {
    "+": lambda *a: sum(a),
    "-": lambda a, *b: a - sum(b) if b else -a,
    "*": lambda *a: reduce(operator.mul, a),
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
    "==": operator.eq,
    "!=": operator.ne,
    "and": lambda *a: all(a),
    "or": lambda *a: any(a),
    "assert": bool,
}


def met(text: str, values: dict[str, float]) -> bool:
    """Whether all assertions of a text are met, by working out its innermost brackets again and again."""

    def worked_out(found: re.Match[str]) -> str:
        if found[1] not in OPERATORS:
            return " "
        words = [word if word not in values else repr(values[word]) for word in found[2].split()]
        given = [{"True": True, "False": False}.get(word) for word in words]
        known = [float(word) if value is None else value for word, value in zip(words, given, strict=True)]
        result = OPERATORS[found[1]](*known)
        return f" {bool(result)} " if found[1] == "assert" else f" {result!r} "

    text = re.sub(r";[^\n]*", "", text)
    while "(" in text:
        text = INNERMOST.sub(worked_out, text)
    return "False" not in text


def points_of(box: Any, outputs: int, rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Inputs inside a box, on its sides, and a little outside; outputs of ordinary size, some of them equal."""
    share = rng.choice([0.0, 0.3, 0.6, 1.0], (count, len(box.lower)))
    x = np.where(share == 1.0, box.upper, box.lower + share * (box.upper - box.lower))
    x[0, 0] = np.nextafter(box.upper[0], np.inf)
    return x, np.round(rng.normal(size=(count, outputs)), rng.integers(0, 3))


FOLDERS = (ACAS_XU_FOLDER, *(ACAS_XU_FOLDER.parent / "vnncomp").glob("*/"))


@needs_acas_xu
@pytest.mark.parametrize("folder", FOLDERS, ids=[folder.name for folder in FOLDERS])
def test_files_say_what_their_brackets_say(folder: Path) -> None:
    rng = np.random.default_rng(0)
    files = sorted(folder.glob("*.vnnlib"))
    assert files or not folder.is_dir()
    for path in files if len(files) < 30 else files[::10]:
        query, text = read_vnnlib(path), path.read_text()
        bounds = re.findall(r"\(\s*(<=|>=)\s+X_(\d+)\s+(\S+?)\s*\)", text)
        for side, bound, outermost in (("<=", query.domain.upper, max), (">=", query.domain.lower, min)):
            found: dict[int, float] = {}
            for _, i, value in (one for one in bounds if one[0] == side):
                found[int(i)] = outermost(found.get(int(i), float(value)), float(value))
            assert [found[i] for i in range(len(bound))] == bound.tolist()
        (network,) = query.networks
        outputs = network.outputs[0].size
        for box, _ in query.cases:
            x, y = points_of(box, outputs, rng, 4)
            ours = holds_at(query.property.formula(len(box.lower), outputs), x, y)
            names = [f"X_{i}" for i in range(x.shape[1])] + [f"Y_{j}" for j in range(outputs)]
            theirs = [met(text, dict(zip(names, row, strict=True))) for row in np.column_stack([x, y]).tolist()]
            assert (~ours).tolist() == theirs


def written(tmp_path: Path, text: str, name: str = "query.vnnlib") -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


NESTED = """
(declare-const X_0 Real) (declare-const X_1 Real)
(declare-const Y_0 Real) (declare-const Y_1 Real)
(assert (or (and (<= X_0 0.5) (>= X_0 0.0) (or (>= X_1 1.0) (<= Y_0 0.25)))
            (and (<= X_0 2.0) (>= X_0 1.5) (> Y_1 (+ Y_0 1.0)))))
(assert (<= -3.0 X_1)) (assert (<= X_1 3.0)) ; a comment (with brackets
(assert (<= (+ (* 2.0 X_0) (* Y_0 -1.5) (- X_1) (- 3.0 Y_1 0.5)) (* 2 3 1e0)))
(assert (or (!= Y_0 0.5) (== Y_1 0.5)))
"""


def test_nested_assertions_mix_inputs_and_outputs(tmp_path: Path) -> None:
    query = read_vnnlib(written(tmp_path, NESTED))
    assert (query.domain.lower.tolist(), query.domain.upper.tolist()) == ([0.0, -3.0], [2.0, 3.0])
    rng = np.random.default_rng(0)
    x = rng.choice([-0.5, 0.0, 0.25, 0.5, 1.0, 1.5, 2.0], (300, 2))
    y = rng.choice([-1.0, 0.0, 0.25, 0.5, 1.0, 1.5, 2.0], (300, 2))
    names = ("X_0", "X_1", "Y_0", "Y_1")
    theirs = [met(NESTED, dict(zip(names, row, strict=True))) for row in np.column_stack([x, y]).tolist()]
    assert (~holds_at(query.property.formula(2, 2), x, y)).tolist() == theirs
    assert 0 < sum(theirs) < 300
    apart = np.zeros(300, dtype=bool)
    for box, stated in query.cases:
        inside = ((x >= box.lower) & (x <= box.upper)).all(axis=1)
        apart |= inside & ~holds_at(stated.formula(2, 2), x, y)
    assert apart.tolist() == theirs


def test_compressed_files_are_read(tmp_path: Path) -> None:
    path = tmp_path / "query.vnnlib.gz"
    path.write_bytes(gzip.compress(NESTED.encode()))
    assert np.array_equal(read_vnnlib(path).domain.upper, [2.0, 3.0])


SECOND = """
(vnnlib-version <2.0>)
(declare-network f
  (declare-input A float32 [1,2])
  (declare-output B float32 [1, 3])
)
(declare-network g
  (isomorphic-to f)
  (declare-input C float32 [1,2])
  (declare-output D float32 [1,3])
)
(declare-network h (equal-to f) (declare-input E float32 [1,2]) (declare-output F float32 [1,3]))
(assert (and (>= A[0,0] -1.0) (<= A[0,0] 1.0) (>= C[0,1] -1.0) (<= A[0,1] 1.0)))
(assert (== A[0,0] C[0,0]))
(assert (== C[0,1] A[0,1]))
(assert (== E[0,0] A[0,0]))
(assert (and (>= E[0,1] -2.0) (<= E[0,1] 2.0)))
"""


def test_two_networks_share_their_input(tmp_path: Path) -> None:
    torch.manual_seed(0)
    f = chain(2, 5, 3).double()
    g = copy.deepcopy(f)
    with torch.no_grad():
        g[0].weight += 0.1 * torch.randn(5, 2, dtype=torch.float64)
    square = read_vnnlib(written(tmp_path, SECOND)).domain

    class Apart(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.f, self.g = f, g

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.g(x[:, :2]) - self.f(x[:, :2])

    apart = transform(Apart(), torch.zeros(1, 2, dtype=torch.float64), domain=Box(-1.0, 1.0))
    top = float(explain.output_range(apart).upper[1])
    assert square.upper.tolist() == [1.0, 1.0, 2.0]
    for level, sat in ((top - 1e-5, True), (top + 1e-5, False)):
        query = read_vnnlib(written(tmp_path, f"{SECOND}(assert (>= (- D[0,1] B[0,1]) {level!r}))"))
        model = query.model(f, g)
        x = torch.randn(4, 3, dtype=torch.float64)
        expected = torch.cat([f(x[:, :2]), g(x[:, :2]), f(x[:, [0, 2]])], 1)
        assert torch.allclose(model(x), expected)
        verdict = verify(model, query.domain, query.property)
        assert verdict.holds is not sat
    assert [places.tolist() for places in query.places] == [[0, 1], [0, 1], [0, 2]]
    assert torch.equal(query.model(g=g, f=f)(x), model(x))
    with pytest.raises(TransformError, match="one for each of the networks f, g, found 1"):
        query.model(f)
    with pytest.raises(TransformError, match="3 inputs and 9 outputs, as the file declares"):
        verify(f, query.domain, query.property)


def test_a_scalar_output_and_a_network_of_several_inputs(tmp_path: Path) -> None:
    class Product(nn.Module):
        def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
            return torch.relu(a).sum(1) - torch.relu(b).sum(dim=(1, 2))

    text = """(vnnlib-version <2.1>)
    (declare-network one (declare-input A Real [1,2]) (declare-input B Real [1,1,2]) (declare-output Y Real []))
    (assert (and (<= A[0,0] 1.0) (>= A[0,0] -1.0) (== A[0,1] 0.5) (== A[0,0] B[0,0,1]) (<= B[0,0,0] 0.0)))
    (assert (>= B[0,0,0] -1.0)) (assert (> Y 0.5))"""
    query = read_vnnlib(written(tmp_path, text))
    model = query.model(Product())
    verdict = verify(model, query.domain, query.property, example_input=torch.zeros(1, 3, dtype=torch.float64))
    assert verdict.holds  # relu(a) + 0.5 - relu(a) - 0
    closed = read_vnnlib(written(tmp_path, text.replace("(> Y", "(>= Y")))
    again = verify(model, closed.domain, closed.property, example_input=torch.zeros(1, 3, dtype=torch.float64))
    assert again.holds is False


DECLARED = "(declare-const X_0 Real)\n(declare-const Y_0 Real)\n"
WRONG = {
    "brackets": (f"{DECLARED}(assert (<= X_0 1.0)", r"line 3: expected a closing bracket"),
    "words": ("\nhello", r"line 2: expected an opening bracket, found 'hello'"),
    "an unknown variable": (f"{DECLARED}(assert (<= X_1 1.0))", r"line 3: expected a number, or an entry.*found X_1"),
    "a product": (f"{DECLARED}(assert (<= (* X_0 Y_0) 1.0))", "a product with at most one factor"),
    "an operator": (f"{DECLARED}(assert (<= (/ X_0 2.0) 1.0))", r"a sum, a difference or a product.*found \(/ X_0 2"),
    "a comparison": (f"{DECLARED}(assert (~ X_0 1.0))", "and, or, or a comparison"),
    "a statement": (f"{DECLARED}(minimize X_0)", "a declaration or an assertion"),
    "a name": ("(declare-const Z_0 Real)", "a variable X_0, X_1"),
    "a gap": (f"{DECLARED}(declare-const X_2 Real)", "found no X_1"),
    "no outputs": ("(declare-const X_0 Real)", "found no Y_0"),
    "hidden": ('(declare-network f (declare-hidden H Real [1] "h"))', "found .declare-hidden H"),
    "no shape": ("(declare-network f (declare-input X Real))", "a name, a type and a shape"),
    "initialized": ("(declare-network f (declare-input X Real [2] initialized))", "a name, a type and a shape"),
    "two outputs": (
        "(declare-network f (declare-input X Real [2]) (declare-output Y Real [2]) (declare-output Z Real [2]))",
        "at least one input, and exactly one output",
    ),
    "twice": ("(declare-network f (declare-input X Real [2]) (declare-output X Real [2]))", "not yet used"),
    "equal to none": ("(declare-network f (equal-to g))", "one earlier network"),
    "indices": (
        "(declare-network f (declare-input X Real [2]) (declare-output Y Real [2])) (assert (<= X[2] 0.0))",
        r"found X\[2\]",
    ),
}


@pytest.mark.parametrize(("text", "message"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_named_with_its_line(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(FileError, match=message):
        read_vnnlib(written(tmp_path, text))


def test_files_that_are_none(tmp_path: Path) -> None:
    packed = tmp_path / "query.vnnlib.gz"
    packed.write_bytes(b"no gzip")
    for path in (tmp_path / "none.vnnlib", tmp_path, packed):
        with pytest.raises(FileError, match="expected a text file in VNN-LIB"):
            read_vnnlib(path)
