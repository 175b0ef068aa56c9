"""What cannot be exported is refused by name, with what to do; and files are what is returned."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jaxtyping
import pytest
import torch
from torch import Tensor, nn

from tests.export.test_languages import Ends, staircase, with_head
from tests.zoo import chain
from torch_shallow import Box, ShallowReLU, TransformError, export, transform
from torch_shallow.errors import FileError, WrongTypeError
from torch_shallow.explain import Features
from torch_shallow.export import sql

TARGETS: dict[str, Callable[..., Any]] = {
    "c": export.to_c,
    "python": export.to_python,
    "sql": lambda shallow, **options: export.to_sql(shallow, "t", **options),
    "onnx": export.to_onnx,
}


def ending_with(head: Callable[[Tensor], Tensor]) -> ShallowReLU:
    return transform(Ends(head), torch.zeros(1, 2), domain=Box(-1.0, 1.0))


@pytest.fixture(autouse=True)
def _wrong_types_on_purpose(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@pytest.fixture(scope="module")
def plain() -> ShallowReLU:
    torch.manual_seed(0)
    return transform(chain(2, 6, 2), domain=Box(-1.0, 1.0))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.filterwarnings("ignore::torch_shallow.IncompleteWarning")
def test_networks_that_are_none(target: str, plain: ShallowReLU) -> None:
    with pytest.raises(WrongTypeError, match=r"shallow: expected a ShallowReLU, found Sequential; make one with"):
        TARGETS[target](chain(2, 3, 1))
    with pytest.raises(TransformError, match=r"shallow: code can only be written for .* go on with shallow.resume"):
        TARGETS[target](transform(chain(2, 6, 2), max_regions=3))
    with pytest.raises(TransformError, match=r"features: expected one for each of the 2 entries"):
        TARGETS[target](plain, features=["a", "b", "c"])
    for head, told in (
        (torch.nn.functional.gelu, "gelu"),
        (lambda y: torch.sigmoid(y) * torch.tanh(y), "several values"),
        (lambda y: torch.softmax(y.reshape(-1, 3, 1), 2), "over dimension"),
    ):
        with pytest.raises(TransformError, match=f"shallow: expected a head of .*{told}.*head = None"):
            TARGETS[target](ending_with(head))


ARGUMENTS: list[tuple[Callable[[ShallowReLU], Any], str]] = [
    (lambda s: export.to_c(s, name="double"), "name: expected a valid name of a C function"),
    (lambda s: export.to_c(s, name="a b"), "name: expected"),
    (lambda s: export.to_c(s, name="cuts"), "name: expected"),
    (lambda s: export.to_c(s, dtype="float64"), 'dtype: expected "double", "float" or "fixed"'),
    (lambda s: export.to_c(s, "network.cpp"), r"path: expected a file name that ends in \.c"),
    (lambda s: export.to_c(s, fraction_bits=(8, 8)), "fraction_bits: expected None unless"),
    (lambda s: export.to_c(s, dtype="fixed", fraction_bits=(31, 8)), "fraction_bits: expected 0 to 30 for inputs"),
    (lambda s: export.to_c(s, dtype="fixed", fraction_bits=(8, 40)), "fraction_bits: expected 0 to .* for outputs"),
    (lambda s: export.to_c(s, dtype="fixed", fraction_bits=8), "fraction_bits: expected a tuple of two numbers"),
    (
        lambda s: export.to_c(s, dtype="fixed", features=Features.of(scale=[2.0, 1.0])),
        "features: expected names without",
    ),
    (lambda _: export.to_c(transform(chain(2, 3, 1)), dtype="fixed"), "bounded Box for fixed point"),
    (lambda _: export.to_c(with_head("softmax"), dtype="fixed"), "without a head for fixed point"),
    (lambda _: export.to_c(transform(chain(1, 2, 1), domain=Box(0.0, 1e10)), dtype="fixed"), "inputs below 2"),
    (lambda _: export.to_c(transform(nn.Linear(1, 1), domain=Box(0.1, 0.1 + 1e-12)), dtype="fixed"), "a multiple of 2"),
    (lambda _: export.to_python(with_head("log_softmax")), "which needs a logarithm"),
    (lambda s: export.to_onnx(s, dtype="double"), 'dtype: expected "float64" or "float32"'),
    (lambda s: export.to_onnx(s, dtype="float32", features=Features.of(scale=[1e-40, 1.0])), "that float32 can hold"),
    (lambda s: export.to_c(s, dtype="float", features=Features.of(scale=[1e-40, 1.0])), "that float can hold"),
    (lambda s: export.to_sql(s, ""), "table: expected a name"),
    (lambda s: export.to_sql(s, []), "table: expected a list of names"),
    (lambda s: export.to_sql(s, "t", features=["a", "a"]), "columns with different names"),
    (lambda s: export.to_sql(s, "t", outputs=["y"]), "outputs: expected one name for each of 2 outputs, found 1"),
    (lambda s: export.to_sql(s, "t", keep="id"), "keep: expected a list of names"),
    (lambda _: export.to_sql(transform(nn.Linear(1000, 1)), "t"), "at most 900 .*use to_python or to_c"),
]


@pytest.mark.parametrize("number", range(len(ARGUMENTS)))
def test_arguments(number: int, plain: ShallowReLU) -> None:
    call, told = ARGUMENTS[number]
    with pytest.raises(TransformError, match=told):
        call(plain)


def test_a_tree_that_is_too_large_for_the_parser(plain: ShallowReLU, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sql, "MOST_NESTED", 0)
    export.to_sql(staircase(50), "t")  # a chain is not nested
    with pytest.raises(TransformError, match=r"CASE is nested at most 0 times.*merge or simplify"):
        export.to_sql(plain, "t")


def test_the_parser_of_sqlite_takes_what_is_allowed() -> None:
    text = "1e0"
    for _ in range(sql.MOST_NESTED + 1):
        text = f"CASE WHEN -1.0e0*a + 2.0e0*a + 1.0e0 > 0e0 THEN {text} ELSE -1.0e0*a + 2.0e0*a + 1.0e0 END"
    base = sqlite3.connect(":memory:")
    base.execute("CREATE TABLE t (a REAL)")
    base.execute(f"SELECT CASE WHEN a BETWEEN -1.0e0 AND 1.0e0 THEN {text} END FROM t").fetchall()


def test_files(plain: ShallowReLU, tmp_path: Path) -> None:
    code = export.to_c(plain, tmp_path / "mine.c", name="control")
    assert (tmp_path / "mine.c").read_text() == code.source
    assert (tmp_path / "mine.h").read_text() == code.header
    assert '#include "mine.h"' in code.source
    assert export.to_python(plain, tmp_path / "mine.py") == (tmp_path / "mine.py").read_text()
    assert export.to_sql(plain, ["main", "t"], tmp_path / "mine.sql") + ";\n" == (tmp_path / "mine.sql").read_text()
    model = export.to_onnx(plain, tmp_path / "mine.onnx")
    assert model.SerializeToString() == (tmp_path / "mine.onnx").read_bytes()
    assert "import" not in (tmp_path / "mine.py").read_text()
    with pytest.raises(FileError, match=r"path: .*expected a file in a writable folder"):
        export.to_python(plain, tmp_path / "none" / "mine.py")


def test_names_of_features_cannot_end_a_comment_or_a_text(plain: ShallowReLU, tmp_path: Path) -> None:
    names = ['*/ int x; /* "', 'a"""\\\nb\u00e9']
    header = export.to_c(plain, features=names).header
    assert header.count("*/") == header.count("/*") == 1
    assert header.isascii()
    exec(compile(export.to_python(plain, features=names), "network.py", "exec"), {})
