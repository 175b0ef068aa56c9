"""ONNX has the network with operators that every runtime knows."""

from __future__ import annotations

from io import BytesIO
from itertools import product
from typing import Any

import jaxtyping
import numpy as np
import pytest
import torch
from torch import nn

from tests.modules.torch_networks import NAMES, network, points_and_outsiders, shared
from torch_shallow import ShallowReLU

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # of the exporter

FAST = [("head", torch.float32)]  # with a tree in float64: the last test
SLOW = [one for one in product(NAMES, [torch.float64, torch.float32]) if one not in FAST]


def session(model: nn.Module, x: torch.Tensor) -> Any:
    import onnxruntime

    file = BytesIO()
    program = torch.onnx.export(
        model, (x,), dynamo=True, dynamic_shapes=({0: torch.export.Dim.DYNAMIC},), verbose=False
    )
    program.save(file)
    domains = {node.domain for node in program.model.graph}
    assert domains <= {"", "pkg.onnxscript.torch_lib"}, "operators that a runtime may not know"
    return onnxruntime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])


def run(found: Any, x: torch.Tensor) -> np.ndarray:
    (y,) = found.run(None, {found.get_inputs()[0].name: x.numpy()})
    return y


@pytest.fixture(autouse=True)
def _as_users_run_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@pytest.mark.parametrize(("name", "dtype"), [*FAST, *(pytest.param(*one, marks=pytest.mark.slow) for one in SLOW)])
def test_equal_in_onnxruntime(name: str, dtype: torch.dtype) -> None:
    x = points_and_outsiders(name, dtype=dtype)
    exported = session(network(name), x)
    for count in (1, 2, 7, 40):
        y = run(exported, x[:count])
        expected = shared(name)(x[:count]).numpy()
        assert y.dtype == expected.dtype
        np.testing.assert_allclose(y, expected, rtol=1e-12 if dtype == torch.float64 else 2e-7, atol=1e-12)


def test_the_literal_network() -> None:
    literal = network("dense in a box").to_sequential()
    x = points_and_outsiders("dense in a box")[:20]
    y = run(session(literal, x), x[:13])
    np.testing.assert_allclose(y, shared("dense in a box")(x[:13]).numpy(), rtol=1e-9, atol=1e-9)


def test_the_exported_network_is_one_network_with_both_descents() -> None:
    # The level-by-level descent that ONNX gets, against the dense masks.
    tree, dense = network("descent in a box"), ShallowReLU(shared("descent in a box").partition, dense=True)
    x = 4.0 * torch.rand(2000, 2, dtype=torch.float64) - 1.5
    np.testing.assert_allclose(run(session(tree, x[:5]), x), dense(x).numpy(), rtol=1e-12, atol=1e-12)
