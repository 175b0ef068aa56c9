"""`torch.compile` takes the whole network as one graph, forward and backward, for any batch size."""

from __future__ import annotations

import jaxtyping
import pytest
import torch

from tests.cases import thinned
from tests.modules.torch_networks import NAMES, assert_same, network, points, points_and_outsiders
from torch_shallow import ShallowReLU

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch, about itself


@pytest.fixture(autouse=True)
def _as_users_run_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # the checks of shapes are not compiled
    torch.compiler.reset()


def gradient_of(call: ShallowReLU, x: torch.Tensor) -> torch.Tensor:
    x = x.clone().requires_grad_()
    call(x).sum().backward()
    assert x.grad is not None
    return x.grad


@pytest.mark.parametrize("dtype", [torch.float64, pytest.param(torch.float32, marks=pytest.mark.slow)], ids=str)
@pytest.mark.parametrize("name", thinned(NAMES, "dense in a box", "descent in a polytope", "skip", "head"))
def test_one_graph(name: str, dtype: torch.dtype) -> None:
    shallow = network(name)
    compiled = torch.compile(shallow, fullgraph=True, backend="aot_eager")
    x = points_and_outsiders(name, dtype=dtype)
    assert_same(compiled(x), shallow(x))


def test_one_input_and_other_precisions() -> None:
    shallow = network("descent in a box")
    compiled = torch.compile(shallow, fullgraph=True, backend="aot_eager")
    x = points_and_outsiders("descent in a box")
    for given in (x[0], x[-1], x[None], x[:0], x.bfloat16(), x.half()):
        assert_same(compiled(given), shallow(given))


@pytest.mark.parametrize("name", thinned(NAMES, "descent in a box", "skip"))
def test_any_batch_size_without_compiling_again(name: str) -> None:
    shallow = network(name)
    compiled = torch.compile(shallow, fullgraph=True, dynamic=True, backend="aot_eager")
    x = points_and_outsiders(name)
    compiled(x)
    with torch.compiler.set_stance("fail_on_recompile"):
        for count in (2, 7, 33):
            assert_same(compiled(x[:count]), shallow(x[:count]))


@pytest.mark.parametrize("name", thinned(NAMES, "descent", "projected"))
def test_backward(name: str) -> None:
    shallow = network(name)
    compiled = torch.compile(shallow, fullgraph=True, backend="aot_eager")
    x = points(name)
    assert_same(gradient_of(compiled, x), gradient_of(shallow, x))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["descent in a box", "head"])
def test_by_the_inductor(name: str) -> None:
    shallow = network(name)
    compiled = torch.compile(shallow, fullgraph=True)
    x = points_and_outsiders(name)
    assert_same(compiled(x), shallow(x))


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_backward_by_the_inductor(name: str) -> None:
    shallow = network(name)
    compiled = torch.compile(shallow, fullgraph=True, dynamic=True)
    for count in (20, 7):
        x = points(name, count)
        assert_same(gradient_of(compiled, x), gradient_of(shallow, x))


def test_a_network_inside_of_a_compiled_model() -> None:
    shallow = network("descent")
    model = torch.nn.Sequential(torch.nn.Linear(4, 2).double(), shallow, torch.nn.Linear(3, 1).double())
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    x = torch.randn(10, 4, dtype=torch.float64)
    assert_same(compiled(x), model(x))
    assert_same(gradient_of(compiled, x), gradient_of(model, x))
