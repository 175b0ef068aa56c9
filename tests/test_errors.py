"""Every error is a `TransformError`, and where that is what it is, one of Python's own kinds too."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import cvxpy
import numpy as np
import pytest
import torch
from torch import nn

import torch_shallow
from tests.zoo import chain
from torch_shallow import Box, TransformError, errors, explain, transform
from torch_shallow.program import extraction as extent
from torch_shallow.search.runs import memory

KINDS = {
    errors.WrongTypeError: TypeError,
    errors.FileError: OSError,
    errors.OutOfMemoryError: MemoryError,
    errors.MissingPackageError: ImportError,
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_is_caught_as_pythons_own(kind: type[TransformError]) -> None:
    error = kind("path: a.onnx: expected a file, found none.")
    assert isinstance(error, TransformError)
    assert isinstance(error, ValueError)
    assert isinstance(error, KINDS[kind])
    assert str(error) == "path: a.onnx: expected a file, found none."
    assert type(kind.__new__(kind, *error.args)) is kind  # as tblib does, which Dask uses
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.args) == (kind, str(error), error.args)


MODEL = chain(2, 4, 2)
WRONG_TYPES: dict[str, Callable[[], object]] = {
    "model": lambda: transform(torch.relu),
    "example_input": lambda: transform(nn.Flatten(), np.zeros((1, 2))),
    "data": lambda: transform(MODEL, data=np.zeros((1, 2))),
    "domain": lambda: transform(MODEL, domain=(-1.0, 1.0)),
    "max_regions": lambda: transform(MODEL, max_regions=2.5),
    "time_limit": lambda: transform(MODEL, time_limit="1 s"),
    "task_seconds": lambda: transform(MODEL, task_seconds=True),
    "workers": lambda: transform(MODEL, workers="2"),
    "checkpoint": lambda: transform(MODEL, checkpoint=3),
    "domain of estimate": lambda: torch_shallow.estimate(MODEL, domain=1.0),
    "seed": lambda: torch_shallow.estimate(MODEL, seed=0.5),
    "domain of constraints": lambda: torch_shallow.constraints(MODEL, cvxpy.Variable(2), cvxpy.Variable(2), None),
    "a variable": lambda: torch_shallow.constraints(MODEL, cvxpy.Variable(2), np.zeros(2), Box(0.0, 1.0)),
    "a model of onnx": lambda: torch_shallow.from_onnx(MODEL),
    "bytes as a path": lambda: torch_shallow.ShallowReLU.load(b"network.safetensors"),
    "a bound": lambda: Box(0.0, object()),
    "norm": lambda: explain.lipschitz_constant(MODEL, norm="1"),
    "features": lambda: explain.unused_features(MODEL, features=3),
    "target": lambda: explain.integrated_gradients(MODEL, torch.zeros(1, 2), target=1.0),
    "x": lambda: explain.counterfactual(MODEL, [0.0, 0.0], 1),
    "shallow": lambda: explain.explain(MODEL, torch.zeros(2)),
    "domain of a fact": lambda: explain.volumes(transform(MODEL), (0.0, 1.0)),
    "a region": lambda: explain.rules(0),
    "a feature": lambda: explain.monotonicity(MODEL).verdict(0.5),
    "points of a region": lambda: transform(MODEL).regions[0].contains(np.zeros(2)),
}
WRONG_VALUES: dict[str, Callable[[], object]] = {
    "max_regions": lambda: transform(MODEL, max_regions=0),
    "time_limit": lambda: transform(MODEL, time_limit=-1.0),
    "workers": lambda: transform(MODEL, workers=0),
    "path": lambda: torch_shallow.ShallowReLU.load(""),
    "bounds": lambda: Box(1.0, 0.0),
    "target": lambda: explain.integrated_gradients(MODEL, torch.zeros(1, 2), target=7),
}


@pytest.mark.parametrize("call", WRONG_TYPES.values(), ids=WRONG_TYPES)
def test_a_wrong_type(call: Callable[[], object], pytestconfig: pytest.Config) -> None:
    if pytestconfig.getoption("--typecheck"):
        pytest.skip("what checks all calls refuses these first")
    with pytest.raises(errors.WrongTypeError):
        call()


@pytest.mark.parametrize("call", WRONG_VALUES.values(), ids=WRONG_VALUES)
def test_a_wrong_value_is_none_of_these_kinds(call: Callable[[], object]) -> None:
    with pytest.raises(TransformError) as caught:
        call()
    assert not isinstance(caught.value, tuple(KINDS.values()))


def test_files(tmp_path: Path) -> None:
    shallow, text = transform(MODEL), tmp_path / "text"
    text.write_text("a text")
    calls: list[Callable[[], object]] = [
        lambda: torch_shallow.ShallowReLU.load(tmp_path / "none.safetensors"),
        lambda: torch_shallow.ShallowReLU.load(text),
        lambda: shallow.save(tmp_path),
        lambda: shallow.save(tmp_path / "no folder" / "network.safetensors"),
        lambda: transform(MODEL, checkpoint=text),
        lambda: transform(MODEL, checkpoint=tmp_path),
        lambda: transform(MODEL, checkpoint=tmp_path / "no folder" / "run.checkpoint"),
        lambda: torch_shallow.from_onnx(tmp_path / "none.onnx"),
        lambda: torch_shallow.from_onnx(text),
    ]
    for call in calls:
        with pytest.raises(OSError, match=r"^(path|checkpoint|model): .*expected") as caught:
            call()
        assert isinstance(caught.value, errors.FileError)
        assert str(caught.value).count("expected") <= 1  # told once, where it was found


def test_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MemoryError, match="max_bytes"):
        transform(MODEL, domain=Box(-1.0, 1.0)).to_sequential(max_bytes=1)
    partition = transform(MODEL).partition
    monkeypatch.setattr(memory, "available_memory", lambda: 0)
    with pytest.raises(MemoryError, match="regions that fit into memory"):
        memory.check_memory(partition.program, partition.chart, 1, True, 0.5)
    monkeypatch.setattr(extent, "SMALL", 0)
    monkeypatch.setattr(extent, "MAX_BYTES", 8)
    for domain, message in (
        (None, "GiB as one program"),
        (Box(-1.0, 1.0), "expected a box in which at most 0 ReLUs"),
    ):
        with pytest.raises(MemoryError, match=message):
            transform(MODEL, domain=domain)
