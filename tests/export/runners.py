"""Runners of code in other languages: each computes outputs, NaN outside the domain, for rows of inputs."""

from __future__ import annotations

import ctypes
import shutil
import sqlite3
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from torch_shallow import ShallowReLU, export

TYPES: dict[str, Any] = {"double": np.float64, "float": np.float32, "int32_t": np.int32, "int": np.int32}
COMPILER = shutil.which("gcc") or shutil.which("cc") or shutil.which("clang")
WARNINGS = ("-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic")


def run_c(code: export.CCode, folder: Path, x: np.ndarray, kinds: tuple[str, str], count: int) -> tuple[Any, Any]:
    """Return outputs and statuses of a C function `network`, compiled alone and called on rows of its own types."""
    if COMPILER is None:
        pytest.skip("there is no compiler of C on this machine")
    given, result = kinds
    (folder / "network.h").write_text(code.header)
    (folder / "network.c").write_text(code.source)
    (folder / "all.c").write_text(
        f'#include "network.h"\nvoid all(const {given} *x, {result} *y, int *status, long count)\n{{\n    long i;\n'
        "    for (i = 0; i < count; i++)\n"
        "        status[i] = network(x + i * NETWORK_INPUTS, y + i * NETWORK_OUTPUTS);\n}\n"
    )
    library = folder / f"network_{given}.so"
    files = ["network.c", "all.c"]
    flags = [*WARNINGS, "-O1", "-shared", "-fPIC", "-o", str(library)]
    subprocess.run([COMPILER, *flags, *files, "-lm"], cwd=folder, check=True, timeout=300)
    rows = np.ascontiguousarray(x, dtype=TYPES[given])
    y, status = np.full((len(x), count), 7, dtype=TYPES[result]), np.full(len(x), -1, dtype=np.int32)
    pointers = [ctypes.c_void_p(array.ctypes.data) for array in (rows, y, status)]
    ctypes.CDLL(str(library)).all(*pointers, ctypes.c_long(len(rows)))
    return y, status


def run_python(text: str, x: np.ndarray) -> np.ndarray:
    """Return outputs of a Python module that has no builtins with which to import."""
    names: dict[str, Any] = {}
    exec(compile(text, "network.py", "exec"), names)
    return np.array([names["network"](row) for row in x.tolist()])


def sqlite_with(x: np.ndarray, columns: list[str]) -> sqlite3.Connection:
    """Return a database in memory with a table `points` of rows with a key; NaN becomes NULL."""
    base = sqlite3.connect(":memory:")
    titles = ", ".join('"' + column.replace('"', '""') + '" REAL' for column in columns)
    base.execute(f"CREATE TABLE points (id INTEGER, {titles})")
    marks = ", ".join("?" * (x.shape[1] + 1))
    base.executemany(f"INSERT INTO points VALUES ({marks})", [(i, *row) for i, row in enumerate(x.tolist())])
    return base


def run_sqlite(query: str, x: np.ndarray, columns: list[str]) -> np.ndarray:
    """Return outputs of a query that keeps `id`."""
    found = sqlite_with(x, columns).execute(query + " ORDER BY id").fetchall()
    return np.array([row[1:] for row in found], dtype=np.float64)


def run_duckdb(query: str, x: np.ndarray, columns: list[str]) -> np.ndarray:
    """Return outputs of a query in DuckDB, which supports NaN in tables."""
    duckdb = pytest.importorskip("duckdb")
    base = duckdb.connect()
    arrays = {"id": np.arange(len(x)), **{column: x[:, i].copy() for i, column in enumerate(columns)}}
    base.register("arrays", arrays)
    base.execute("CREATE TABLE points AS SELECT * FROM arrays")
    found = base.execute(query + " ORDER BY id").fetchall()
    return np.array([[np.nan if value is None else value for value in row[1:]] for row in found], dtype=np.float64)


def run_onnx(model: Any, x: np.ndarray) -> np.ndarray:
    """Return outputs of an ONNX model with only standard operators."""
    onnxruntime = pytest.importorskip("onnxruntime")
    assert {node.domain for node in model.graph.node} == {""}
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


def expected_of(shallow: ShallowReLU, x: Any) -> np.ndarray:
    """Return outputs of the network itself, as rows."""
    return shallow(x).detach().double().reshape(len(x), -1).numpy()
