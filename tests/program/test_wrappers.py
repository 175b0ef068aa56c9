"""Modules as people wrap and modify them."""

from __future__ import annotations

import copy
import functools
import inspect
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import fusion, parametrizations, parametrize, prune

import torch_shallow
from torch_shallow import Box, TransformError, explain
from torch_shallow.program.model import read_model, trace
from torch_shallow.program.model_copy import check_model

from .conftest import Reads

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")


def mlp() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2))


def first_layer(change: Callable[[nn.Module], object]) -> Callable[[], nn.Module]:
    """An MLP whose first layer is changed, in eval mode."""

    def make() -> nn.Module:
        model = mlp()
        change(model[0])
        return model.eval()

    return make


class Doubled(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return 2.0 * weight


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 3)
        self.b.weight = self.a.weight
        self.transposed = nn.Parameter(torch.randn(3))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(F.relu(self.b(F.relu(self.a(x)))), self.a.weight.T, self.transposed)


class Partials(nn.Module):
    """`functools.partial` as an activation and as the forward pass itself."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 4)
        self.act = functools.partial(F.relu, inplace=False)
        self.forward = functools.partial(self._forward, shift=2.0)

    def _forward(self, x: Tensor, shift: float = 0.0) -> Tensor:
        return self.act(self.linear(x) + shift)


class Lists(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(3, 3) for _ in range(2)])
        self.heads = nn.ModuleDict({"a": nn.Linear(3, 1), "b": nn.Linear(3, 2)})
        self.scales = nn.ParameterList([nn.Parameter(torch.rand(3)) for _ in range(2)])

    def forward(self, x: Tensor) -> Tensor:
        for i, (layer, scale) in enumerate(zip(self.layers, self.scales, strict=True)):
            x = F.relu(layer(x) * scale) + (x if i % 2 else 0)
        return torch.cat([head(x) for head in self.heads.values()], dim=1)


class OwnSequential(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + x[:, :2]


class MixedDtypes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(3, 4), nn.Linear(4, 2, dtype=torch.float64)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.a(x.to(self.a.weight.dtype)).relu().to(torch.float64))


def frozen() -> nn.Module:
    model = mlp()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    return copy.deepcopy(model.eval())


def fused() -> nn.Module:
    conv, norm = nn.Conv2d(1, 2, 3).eval(), nn.BatchNorm2d(2).eval()
    nn.init.uniform_(norm.running_mean)
    flat = nn.Unflatten(1, (1, 3, 3))
    return nn.Sequential(nn.Linear(3, 9), flat, fusion.fuse_conv_bn_eval(conv, norm), nn.ReLU(), nn.Flatten())


def compiled_in_place() -> nn.Module:
    model = mlp()
    model.compile(backend="eager")
    return model


def compiled_inside() -> nn.Module:
    return nn.Sequential(torch.compile(mlp(), backend="eager"), nn.ReLU())


def saturated(module: nn.Linear, x: Tensor) -> Tensor:
    return F.linear(x, module.weight, module.bias).clamp(max=0.1)


def patched() -> nn.Module:
    """A layer whose forward pass is replaced on the instance."""
    model = mlp()
    model[0].forward = functools.partial(saturated, model[0])
    return model


MODELS: dict[str, Callable[[], nn.Module]] = {
    "parametrize": first_layer(lambda layer: parametrize.register_parametrization(layer, "weight", Doubled())),
    "weight_norm": first_layer(parametrizations.weight_norm),
    "spectral_norm": first_layer(parametrizations.spectral_norm),
    "orthogonal": first_layer(parametrizations.orthogonal),
    "old weight_norm": first_layer(nn.utils.weight_norm),
    "old spectral_norm": first_layer(nn.utils.spectral_norm),
    "pruning": first_layer(lambda layer: prune.random_unstructured(layer, "weight", amount=0.5)),
    "weight tying": Tied,
    "partials": Partials,
    "lists": Lists,
    "own sequential": OwnSequential,
    "mixed dtypes": MixedDtypes,
    "frozen": frozen,
    "fused": fused,
    "graph module": lambda: torch.fx.symbolic_trace(Lists()),
    "patched": patched,
    "compiled": lambda: torch.compile(mlp(), backend="eager"),
    "compiled in place": compiled_in_place,
    "compiled inside": compiled_inside,
    "data parallel": lambda: nn.DataParallel(mlp()),
    "data parallel inside": lambda: nn.Sequential(nn.DataParallel(mlp())),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_modified_module_is_read_as_what_it_computes(name: str) -> None:
    model = MODELS[name]()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    program = read_model(model, torch.zeros(1, 3))
    x = torch.randn(50, 3)
    with torch.no_grad():
        expected = model(x).double()
    found = torch.from_numpy(program(x.double().numpy()))
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-5)
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


@pytest.mark.parametrize("name", ["compiled", "data parallel"])
def test_what_wraps_a_whole_module_leaves_no_trace(name: str) -> None:
    model = MODELS[name]()
    assert type(check_model(model)) is nn.Sequential
    shallow, x = torch_shallow.transform(model), torch.randn(20, 3)
    assert torch.allclose(shallow(x), model(x), atol=1e-5)
    assert [stage.name for stage in shallow.partition.program.stages] == ["1"]


def doubles(module: nn.Module, args: Any, output: Tensor) -> Tensor:
    return 2 * output


def cuts_the_input_in_place(module: nn.Module, args: tuple[Tensor], kwargs: Any) -> None:
    args[0].clamp_(-5.0, 5.0)


def shifts_the_weight(module: nn.Module, args: Any) -> None:
    with torch.no_grad():
        module.weight += 1.0


def fails(module: nn.Module, args: Any, output: Tensor) -> None:
    raise KeyError("run")


CHANGING = (
    (doubles, "forward hook doubles of 0 changes the output; move its computation into forward()"),
    (lambda module, args: (args[0] + 1e-9,), "forward pre-hook .* of 0 changes the input"),
    (cuts_the_input_in_place, "forward pre-hook cuts_the_input_in_place of 0 changes the input"),
    (shifts_the_weight, "found another output with those of 0; move"),
    (fails, r"forward hook fails of 0 fails on a batch of inputs \(KeyError: 'run'\)"),
)


@pytest.mark.parametrize(("hook", "message"), CHANGING, ids=[row[1][:40] for row in CHANGING])
def test_hooks_that_change_a_value_are_refused(hook: Callable[..., Any], message: str) -> None:
    model = mlp()
    names = inspect.signature(hook).parameters
    register = model[0].register_forward_hook if "output" in names else model[0].register_forward_pre_hook
    handle = register(hook, with_kwargs="kwargs" in names)
    weight = model[0].weight.clone()
    for read in (read_model, trace, torch_shallow.transform, lambda m: explain.output_range(m, Box([0] * 3, [1] * 3))):
        with pytest.raises(TransformError, match=message):
            read(model)
    assert torch.equal(model[0].weight, weight)
    handle.remove()
    read_model(model)


def test_hooks_that_only_look_on_are_left_out(reads: Reads) -> None:
    model, seen = mlp(), []
    model.register_forward_pre_hook(lambda module, args: args)
    model.register_forward_pre_hook(lambda module, args, kwargs: (args, kwargs), with_kwargs=True)
    model[0].register_forward_hook(lambda module, args, output: output)
    model[0].register_forward_hook(lambda module, args, output: output.register_hook(seen.append) and None)
    model[0].register_forward_hook(lambda module, args, kwargs, output: seen.append(output), with_kwargs=True)
    read_model(model)
    assert [output.shape[-1] for output in seen] == [model[0].out_features]
    model[0]._forward_hooks.clear()
    reads(model)


class Pair(NamedTuple):
    logits: Tensor
    hidden: Tensor


class Returns(nn.Module):
    def __init__(self, what: Callable[[Tensor, Tensor], Any]) -> None:
        super().__init__()
        self.linear, self.what = nn.Linear(3, 2), what

    def forward(self, x: Tensor) -> Any:
        return self.what(self.linear(x).relu(), x)


class Only(nn.Module):
    def __init__(self, model: nn.Module, pick: Callable[[Any], Tensor]) -> None:
        super().__init__()
        self.model, self.pick = model, pick

    def forward(self, x: Tensor) -> Tensor:
        return self.pick(self.model(x))


PICKS: list[tuple[Callable[[Tensor, Tensor], Any], Callable[[Any], Tensor]]] = [
    (lambda y, x: {"logits": y, "hidden": x}, lambda out: out["logits"]),
    (Pair, lambda out: out.logits),
    (lambda y, x: (y, x), lambda out: out[0]),
]


@pytest.mark.parametrize(("what", "pick"), PICKS, ids=["dict", "NamedTuple", "tuple"])
def test_one_tensor_of_several_can_be_picked(reads: Reads, what: Any, pick: Any) -> None:
    with pytest.raises(TransformError, match=r"one tensor as its output.*whose forward\(\) returns only the tensor"):
        read_model(Returns(what))
    assert reads(Only(Returns(what), pick)).out_shape == (2,)


def test_lightning_modules(tmp_path: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        lightning = pytest.importorskip("lightning")

    class Classifier(lightning.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.save_hyperparameters()
            self.net = mlp()
            self.example_input_array = torch.zeros(1, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x)

        def training_step(self, batch: Any, index: int) -> Tensor:
            loss = F.mse_loss(self(batch[0]), batch[1])
            self.log("loss", loss)
            return loss

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    model = Classifier()
    x = torch.randn(20, 3)
    assert torch.allclose(torch_shallow.transform(model)(x), model(x), atol=1e-5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, torch.randn(20, 2)), batch_size=5)
        quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
        trainer = lightning.Trainer(max_epochs=1, accelerator="cpu", logger=False, default_root_dir=tmp_path, **quiet)
        trainer.fit(model, data)
    assert model.trainer is trainer
    with torch.no_grad():
        shallow = torch_shallow.transform(model)
        assert torch.allclose(shallow(x), model(x), atol=1e-5)
    assert shallow.certify(model).passed
    assert model.trainer is trainer


def test_a_shallow_network_is_a_part_of_a_model() -> None:
    torch.manual_seed(0)
    deep = nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 2), nn.ReLU(), nn.Linear(2, 2), nn.Softmax(1))
    shallow, first = torch_shallow.transform(deep), nn.Linear(4, 3)
    chained, x = nn.Sequential(first, shallow), torch.randn(50, 4)
    found = torch_shallow.transform(chained)
    assert found.num_regions == torch_shallow.transform(nn.Sequential(first, deep)).num_regions
    torch.testing.assert_close(found(x), chained(x))
    found.certify(chained).require()
    assert torch_shallow.transform(shallow).num_regions == shallow.num_regions


def test_a_shallow_network_of_less_than_everything_is_no_part_of_a_model() -> None:
    deep = mlp()
    for part in (torch_shallow.transform(deep, domain=torch_shallow.Box(-1.0, 1.0)), deep_by_data(deep)):
        with pytest.raises(
            TransformError, match=r"1: expected a complete, untrained shallow network of all of R\^n.*deep model"
        ):
            torch_shallow.transform(nn.Sequential(nn.Linear(3, 3), part))


def deep_by_data(deep: nn.Module) -> nn.Module:
    return torch_shallow.transform(deep, data=torch.rand(5, 3))
