"""The command line: what it prints, how it ends, and that a counterexample is one for ONNX's own implementation."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx")

from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from tests.answers import stand_in
from torch_shallow import ShallowReLU
from torch_shallow.commands.parser import DONE, FAILED, STOPPED, main
from torch_shallow.search.question import Answer

stand_in()

ROOT = Path(__file__).parents[1]


def network(path: Path, seed: int = 0, inputs: int = 2, outputs: int = 3) -> Path:
    """A file with a small network of float32."""
    rng = np.random.default_rng(seed)
    sizes = (inputs, 6, 5, outputs)
    nodes, constants, name = [], [], "x"
    for k, (before, after) in enumerate(itertools.pairwise(sizes)):
        weight = rng.normal(size=(after, before)).astype(np.float32)
        constants += [numpy_helper.from_array(weight, f"w{k}")]
        constants += [numpy_helper.from_array(rng.normal(size=after).astype(np.float32), f"b{k}")]
        nodes.append(helper.make_node("Gemm", [name, f"w{k}", f"b{k}"], [f"z{k}"], transB=1))
        name = f"z{k}"
        if k < 2:
            nodes.append(helper.make_node("Relu", [name], [f"h{k}"]))
            name = f"h{k}"
    values = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, inputs])]
    results = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, outputs])]
    graph = helper.make_graph(nodes, "network", values, results, constants)
    path.write_bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]).SerializeToString())
    return path


def query(path: Path, asserted: str) -> Path:
    """A file about two inputs, in a box whose bounds are no float32 numbers, and three outputs."""
    names = [*(f"X_{i}" for i in range(2)), *(f"Y_{i}" for i in range(3))]
    lines = [f"(declare-const {name} Real)" for name in names]
    lines += [f"(assert (<= X_{i} 0.7))(assert (>= X_{i} -0.3))" for i in range(2)]
    path.write_text("\n".join([*lines, f"(assert {asserted})"]))
    return path


def run(path: Path, x: np.ndarray) -> np.ndarray:
    return np.asarray(ReferenceEvaluator(str(path)).run(None, {"x": x.astype(np.float32)[None]})[0])[0]


def test_sat_with_a_counterexample_that_is_one_in_float32(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in range(5):
        onnx = network(tmp_path / f"{seed}.onnx", seed)
        middle = run(onnx, np.full(2, 0.2))
        asserted = f"(or (and (>= Y_0 {middle[0]:.9f}) (<= Y_1 {middle[1]:.9f})) (>= Y_2 1e6))"
        assert main(["verify", str(onnx), str(query(tmp_path / "q.vnnlib", asserted))]) == DONE
        said = capsys.readouterr().out
        first, _, rest = said.partition("\n")
        assert first == "sat"
        assert re.fullmatch(r"\(\(X_0 \S+\)\n\(X_1 \S+\)\n\(Y_0 \S+\)\n\(Y_1 \S+\)\n\(Y_2 \S+\)\)\n", rest)
        values = np.array(re.findall(r"_\d (\S+?)\)", rest), dtype=np.float64)
        assert np.array_equal(values, values.astype(np.float32))
        x, y = values[:2], values[2:]
        assert ((x >= -0.3) & (x <= 0.7)).all()
        found = run(onnx, x)
        assert np.allclose(found, y, rtol=1e-6, atol=1e-6)
        assert found[0] >= middle[0] - 1e-6
        assert found[1] <= middle[1] + 1e-6


def test_unsat(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["verify", str(network(tmp_path / "n.onnx")), str(query(tmp_path / "q.vnnlib", "(>= Y_0 1000.0)"))]
    assert main([*arguments, "--timeout", "100"]) == DONE
    assert capsys.readouterr() == ("unsat\n", "")


@pytest.mark.parametrize(("reason", "word"), [("time_limit=1", "timeout"), ("Ctrl-C", "unknown")])
def test_what_is_not_known(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, reason: str, word: str
) -> None:
    import torch_shallow.search.ask as asked

    monkeypatch.setattr(asked, "answer", lambda *_, **__: Answer(None, -np.inf, 1.0, 1, 1.0, reason))
    arguments = [str(network(tmp_path / "n.onnx")), str(query(tmp_path / "q.vnnlib", "(>= Y_0 1000.0)"))]
    assert main(["verify", *arguments, "--timeout", "1"]) == STOPPED
    said = capsys.readouterr()
    assert said.out == f"{word}\n"
    assert re.match(rf"Not known \({reason.split('=')[0]}(=[\d.e-]+)?\)", said.err)  # of what the command had left


def test_two_networks_of_version_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = """(vnnlib-version <2.0>)
    (declare-network f (declare-input A float32 [1,2]) (declare-output B float32 [1,3]))
    (declare-network g (declare-input C float32 [1,2]) (declare-output D float32 [1,3]))
    (assert (and (== A[0,0] C[0,0]) (== A[0,1] C[0,1])))
    (assert (and (>= A[0,0] 0.0) (<= A[0,0] 1.0) (>= A[0,1] 0.0) (<= A[0,1] 1.0)))"""
    path = tmp_path / "q.vnnlib"
    files = [network(tmp_path / f"{seed}.onnx", seed) for seed in (1, 2)]
    given = ["verify", str(path), "--network", f"f={files[0]}", "--network", f"g={files[1]}"]
    path.write_text(f"{text}(assert (> (- B[0,0] D[0,0]) 1e6))")
    assert main(given) == DONE
    assert capsys.readouterr().out == "unsat\n"
    path.write_text(f"{text}(assert (> (- B[0,0] D[0,0]) -1e6))")
    assert main(given) == DONE
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if "[" in line] == [
        f"{name} float32 [1,{n}]" for name, n in zip("ABCD", (2, 3, 2, 3), strict=True)
    ]
    values = [float(line) for line in lines[1:] if "[" not in line]
    assert values[:2] == values[5:7]
    assert np.allclose(run(files[1], np.array(values[5:7])), values[7:], atol=1e-6)


def test_errors_are_said_without_a_traceback(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    onnx, asked = str(network(tmp_path / "n.onnx")), str(query(tmp_path / "q.vnnlib", "(>= Y_7 0.0)"))
    for arguments, message in (
        ([onnx, asked], "line 8: expected a number"),
        ([str(tmp_path / "none.onnx"), str(query(tmp_path / "r.vnnlib", "(>= Y_0 0.0)"))], "found no file at"),
        ([asked], "expected NETWORK.onnx QUERY.vnnlib"),
    ):
        status = main(["verify", *arguments])
        said = capsys.readouterr()
        assert status == FAILED
        assert said.out == "error\n"
        assert message in said.err
        assert "Traceback" not in said.err
    assert main(["range", str(tmp_path / "none.onnx")]) == FAILED
    assert capsys.readouterr().out == ""


def test_range_estimate_and_transform(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    onnx, box = str(network(tmp_path / "n.onnx")), ["--lower", "-1,-2", "--upper", "1"]
    assert main(["range", onnx, *box]) == DONE
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["output 0", "output 1", "output 2"]
    assert main(["estimate", onnx, *box]) == DONE
    assert "regions" in capsys.readouterr().out
    file = tmp_path / "shallow.safetensors"
    assert main(["transform", onnx, *box, "-o", str(file)]) == DONE
    shallow = ShallowReLU.load(file)
    assert capsys.readouterr().out == f"{shallow.num_regions} regions, written to {file}\n"
    assert repr(shallow.domain) == "Box(lower=[-1.0, -2.0], upper=1.0)"


@pytest.mark.parametrize(
    "arguments",
    [
        ["verify"],
        ["verify", "a", "b", "--timeout", "-1"],
        ["verify", "a", "b", "--workers", "0"],
        ["range", "a", "--lower", "x"],
        ["transform", "a"],
        [],
    ],
    ids=str,
)
def test_wrong_arguments(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(arguments)
    assert left.value.code == 2


def test_nothing_heavy_is_imported_before_it_is_needed() -> None:
    code = (
        "import sys; from torch_shallow.commands.parser import main\ntry: main(['verify', '--help'])\n"
        "except SystemExit: pass\nprint(sorted({'numba', 'cvxpy', 'onnx', 'scipy.optimize'} & {*sys.modules}))"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    ran = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert ran.stdout.splitlines()[-1] == "[]"
    assert "exit status: 0: done" in ran.stdout
