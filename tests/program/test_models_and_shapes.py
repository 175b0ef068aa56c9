"""What may be passed as a model, an example or a shape; and the model is never changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from torch_shallow.errors import TransformError
from torch_shallow.program.model import given_shape, read_model, trace
from torch_shallow.program.model_copy import check_model


class TwoInputs(nn.Module):
    def forward(self, x: Tensor, y: Tensor, *, z: Tensor) -> Tensor:
        return x + y + z


class NoInput(nn.Module):
    def forward(self) -> Tensor:
        return torch.zeros(1)


def _spoil(value: float) -> nn.Module:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU()).eval()
    with torch.no_grad():
        model[0].weight[1, 2] = value
        model[1].running_mean[0] = value
    return model


class Quantised(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3, 3, dtype=torch.int32), requires_grad=False)


BAD_MODELS: list[tuple[Callable[[], Any], str]] = [
    (lambda: nn.Sequential(nn.LazyLinear(3)), "0.weight is not initialised.*0.bias is not"),
    (lambda: nn.Linear(3, 3, device="meta"), "meta device"),
    (lambda: nn.Linear(3, 3, dtype=torch.complex64), "complex"),
    (Quantised, "integer parameter"),
    (lambda: _spoil(float("nan")), "0.weight contains NaN; 1.running_mean contains NaN"),
    (lambda: _spoil(float("inf")), "0.weight contains inf"),
    (lambda: nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Linear(3, 3))), "SpectralNorm of 0.*train mode"),
    (lambda: nn.utils.spectral_norm(nn.Linear(3, 3)), "SpectralNorm of it is in train mode"),
    (TwoInputs, "also needs y, z"),
    (NoInput, "one without arguments"),
]


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
@pytest.mark.parametrize(("make", "message"), BAD_MODELS, ids=[row[1] for row in BAD_MODELS])
def test_bad_models(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(TransformError, match=message):
        read_model(make(), in_shape=(3,))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_script_modules_are_refused() -> None:
    scripted = torch.jit.script(nn.Linear(3, 3))
    for model in (scripted, nn.Sequential(scripted)):
        with pytest.raises(TransformError, match="TorchScript"):
            read_model(model)


BAD_SHAPES: list[tuple[dict[str, Any], str]] = [
    ({"example_input": torch.zeros(2, 5)}, "fails on a batch of 2 inputs of shape \\(5,\\)"),
    ({"example_input": torch.zeros(2, 4, dtype=torch.int64)}, "found torch.int64"),
    ({"example_input": torch.tensor(1.0)}, "no entries"),
    ({"example_input": torch.zeros(2, 0)}, "no entries"),
    ({"in_shape": ()}, "size, all positive"),
    ({"in_shape": (4, 0)}, "size, all positive"),
    ({"in_shape": (5,), "example_input": torch.zeros(1, 4)}, "the shape of one input of example_input"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD_SHAPES, ids=[row[1] for row in BAD_SHAPES])
def test_bad_shapes(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(TransformError, match=message):
        read_model(nn.Sequential(nn.Linear(4, 2), nn.ReLU()), **arguments)


def test_bad_types() -> None:
    with pytest.raises(TransformError, match=r"expected an nn\.Module, found builtin_function_or_method"):
        check_model(torch.relu)
    with pytest.raises(TransformError, match="expected a floating-point tensor, found list"):
        given_shape([0.0, 1.0], None)


def test_the_input_shape_is_told_by_the_example_or_the_first_linear() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Dropout(), nn.ReLU(), nn.Linear(6, 2)).eval()
    assert read_model(model).in_shape == (6,)
    assert read_model(model, torch.zeros(5, 2, 3)).in_shape == (2, 3)
    assert read_model(model, in_shape=[3, 2]).in_shape == (3, 2)
    assert read_model(nn.Linear(6, 2), torch.zeros(6)).in_shape == (6,)
    with pytest.raises(TransformError, match=r"does not begin with an nn\.Linear"):
        read_model(nn.Sequential(nn.Conv2d(1, 1, 1), nn.Flatten(), nn.Linear(4, 2)))


class Stateful(nn.Module):
    """Keeps records while it runs: nothing that its function depends on."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(inplace=True), nn.Linear(4, 2))
        self.calls = 0
        self.last: Any = None

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.last = self.inner(x)
        return self.last


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_the_model_is_never_changed(dtype: torch.dtype) -> None:
    model = Stateful().to(dtype)
    model(torch.randn(8, 3, dtype=dtype)).sum().backward()
    model.eval()
    model.inner[0].bias.requires_grad_(False)
    fired: list[object] = []
    handles = [model.inner[0].register_forward_hook(lambda *_: fired.append("forward"))]
    handles.append(model.register_forward_pre_hook(lambda *_: fired.append("pre")))
    handles.append(model.inner.register_full_backward_hook(lambda *_: fired.append("backward")))
    attributes = {name: dict(vars(module)) for name, module in model.named_modules()}
    tensors = {name: (value, value.clone()) for name, value in model.state_dict(keep_vars=True).items()}
    grads = {name: (p.grad, p.requires_grad) for name, p in model.named_parameters()}
    random_state = torch.get_rng_state()

    read_model(model, in_shape=(3,))
    trace(model, torch.randn(2, 3, dtype=dtype, generator=torch.Generator().manual_seed(0)))

    assert fired == ["pre", "forward"] * 2
    assert {name: dict(vars(module)) for name, module in model.named_modules()} == attributes
    for name, value in model.state_dict(keep_vars=True).items():
        assert value is tensors[name][0]
        assert value.dtype == tensors[name][1].dtype
        assert torch.equal(value, tensors[name][1])
    for name, parameter in model.named_parameters():
        assert parameter.grad is grads[name][0]
        assert parameter.requires_grad == grads[name][1]
    assert torch.equal(random_state, torch.get_rng_state())


class Recorder:
    """A hook that cannot be copied, and need not be."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Recorder:
        raise RuntimeError("not to be copied")

    def hook(self, *_: object) -> None:
        self.called = True


def test_hooks_are_not_even_copied() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU())
    recorder = Recorder()
    model[0].register_forward_hook(recorder.hook)
    assert read_model(model).num_neurons == 4
    assert recorder.called


def test_a_model_that_cannot_be_copied_is_explained() -> None:
    model = nn.Sequential(nn.Linear(3, 4))
    model.extra = Recorder()
    with pytest.raises(TransformError, match=r"copy\.deepcopy\(model\) work"):
        read_model(model)
