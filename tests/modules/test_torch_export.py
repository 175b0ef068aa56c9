"""`torch.export` takes the network with a dynamic batch, and the program can be saved and loaded."""

from __future__ import annotations

from io import BytesIO

import jaxtyping
import pytest
import torch

from tests.cases import thinned
from tests.modules.torch_networks import NAMES, assert_same, network, points, points_and_outsiders


@pytest.fixture(autouse=True)
def _as_users_run_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("name", thinned(NAMES, "dense", "descent in a box", "head"))
def test_a_dynamic_batch(name: str, dtype: torch.dtype) -> None:
    shallow, x = network(name), points_and_outsiders(name, dtype=dtype)
    strict = dtype == torch.float32  # both ways of tracing
    program = torch.export.export(shallow, (x,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},), strict=strict)
    for count in (1, 2, 7, 40):
        assert_same(program.module()(x[:count]), shallow(x[:count]))


@pytest.mark.parametrize("name", thinned(["dense", "descent in a box", "skip", "head"], "skip"))
def test_saved_and_loaded(name: str) -> None:
    shallow, x, file = network(name), points_and_outsiders(name), BytesIO()
    program = torch.export.export(shallow, (x,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
    torch.export.save(program, file)
    file.seek(0)
    loaded = torch.export.load(file).module()
    assert_same(loaded(x[5:]), shallow(x[5:]))


@pytest.mark.parametrize("name", thinned(["descent", "projected"], "projected"))
def test_gradients_of_an_exported_program(name: str) -> None:
    shallow, x = network(name), points(name)
    module = torch.export.export(shallow, (x,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},)).module()
    x.requires_grad_()
    (found,) = torch.autograd.grad(module(x).sum(), x)
    (expected,) = torch.autograd.grad(shallow(x).sum(), x)
    assert_same(found, expected)


def test_two_batch_dimensions() -> None:
    shallow, x = network("descent in a box"), points("descent in a box", 24).reshape(4, 6, 2)
    dynamic = ({0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC},)
    module = torch.export.export(shallow, (x,), dynamic_shapes=dynamic).module()
    assert_same(module(x[:3, 1:]), shallow(x[:3, 1:]))
