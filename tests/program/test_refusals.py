"""What cannot be read is refused with a message that says what, where and what to do; the model is never changed."""

from __future__ import annotations

import builtins
import io
import operator
import random
from collections.abc import Callable
from contextlib import redirect_stdout
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from torch_shallow.errors import TransformError, UnsupportedOperation
from torch_shallow.program.graph.operations import RULES
from torch_shallow.program.model import read_model, trace


class Model(nn.Module):
    """A linear layer and a forward pass written in the test."""

    def __init__(self, forward: Callable[[Any, Tensor], Any]) -> None:
        super().__init__()
        self.a = nn.Linear(4, 6)
        self.last = nn.Linear(6, 6)
        self.p = nn.Parameter(torch.rand(6))
        self.register_buffer("buffer", torch.zeros(6))
        self._forward = forward

    def forward(self, x: Tensor) -> Any:
        return self._forward(self, self.a(x))


# What may not be done to a hidden value h of shape (batch, 6), the operation named, and a part of the reason.
UNSUPPORTED: list[tuple[Callable[[Any, Tensor], Any], str, str]] = [
    (lambda m, h: torch.sigmoid(h), "sigmoid", "does not end the model"),
    (lambda m, h: h.softmax(-1), "softmax", "does not end the model"),
    (lambda m, h: F.gelu(h), "gelu", "train again"),
    (lambda m, h: F.threshold(h, 1.0, 0.0), "threshold", "jumps from 0.0 to 1.0"),
    (lambda m, h: F.hardshrink(h), "hardshrink", "not continuous"),
    (lambda m, h: h.clamp(min=float("inf")), "clamp", "no finite value"),
    (lambda m, h: F.rrelu(h, training=True), "rrelu", "model.eval()"),
    (lambda m, h: h + h.max(), "max", "whole batch"),
    (lambda m, h: h + h.amax(0), "amax", "along the batch (dimension 0)"),
    (lambda m, h: h.median(), "median", "whole batch"),
    (lambda m, h: h.amax(2), "amax", "dim=2, for a tensor with 2 dimensions"),
    (lambda m, h: h.kthvalue(0).values, "kthvalue", "do not fit its input"),
    (lambda m, h: F.max_pool1d(h, 9), "max_pool1d", "do not fit its input"),
    (lambda m, h: h.topk(h.size(0)).values, "topk", "depends on the number of inputs"),
    (lambda m, h: h.max(1).indices + h, "max", "positions of entries"),
    (lambda m, h: h.sort()[1] + h, "sort", "positions of entries"),
    (lambda m, h: F.max_pool1d(h, 2, padding=1, dilation=7), "max_pool1d", "only padding"),
    (lambda m, h: F.instance_norm(h.view(-1, 2, 3)).view(-1, 6), "instance_norm", "model.eval()"),
    (lambda m, h: F.fractional_max_pool2d(h.view(-1, 1, 2, 3), 1, 1), "fractional_max_pool2d", ""),
    (lambda m, h: h.prod(1, keepdim=True) + h, "prod", "not on the list"),
    (lambda m, h: h.std(1, keepdim=True) + h, "std", "not on the list"),
    (lambda m, h: F.layer_norm(h, (6,)), "layer_norm", "BatchNorm in eval"),
    (lambda m, h: h**2, "pow", "not piecewise linear"),
    (lambda m, h: h * h, "mul", "multiplies two values"),
    (lambda m, h: h @ h.T, "matmul", "multiplies two values"),
    (lambda m, h: F.linear(h, h), "linear", "multiplies two values"),
    (lambda m, h: torch.addmm(h, h, h.T @ h), "addmm", "multiplies two values"),
    (lambda m, h: 1 / h, "truediv", "argument 2"),
    (lambda m, h: h.div(h), "div", "argument 2"),
    (lambda m, h: torch.div(h, 2, rounding_mode="floor"), "div", "rounds"),
    (lambda m, h: h // 2, "floordiv", "not on the list"),
    (lambda m, h: m.p[h.long()], "long", "not on the list"),
    (lambda m, h: m.p.index_select(0, h), "index_select", "argument 3"),
    (lambda m, h: h.to(torch.int64), "to", "rounds"),
    (lambda m, h: torch.where(h > 0, h, 0 * h - 1), "gt", "compares"),
    (lambda m, h: h * h[0].sum().item(), "item", "Python number"),
    (lambda m, h: h + torch.rand_like(h), "rand_like", "random"),
    (lambda m, h: h + torch.empty_like(h).normal_(), "normal", "random"),
    (lambda m, h: F.dropout(h, 0.5), "dropout", "model.eval()"),
    (lambda m, h: F.dropout(h, training=m.training), "dropout", "model.eval()"),
    (lambda m, h: F.batch_norm(h, None, None, training=True), "batch_norm", "model.eval()"),
    (lambda m, h: torch.add(h, 1, out=h), "add", "out="),
    (lambda m, h: (torch.add(h, 1, out=h), h)[1], "add", "out="),
    (lambda m, h: h.scatter(1, torch.tensor([[0]]), h, reduce="multiply"), "scatter", "multiplies values"),
    (lambda m, h: h + F.dropout(m.p, 0.5), "dropout", "model.eval()"),
    (lambda m, h: m.p.detach().add_(h), "add", "changes an attribute"),
]


@pytest.mark.parametrize(("forward", "operation", "reason"), UNSUPPORTED, ids=[row[1] for row in UNSUPPORTED])
def test_unsupported_operations(forward: Callable[[Any, Tensor], Any], operation: str, reason: str) -> None:
    for read in (read_model, trace):
        with pytest.raises(UnsupportedOperation) as caught:
            read(Model(lambda m, h: m.last(forward(m, h))))
        message = str(caught.value)
        assert f"(root): {operation} at {__file__}:" in message
        assert reason in message


def test_all_unsupported_operations_are_in_one_error() -> None:
    inner = nn.Sequential(nn.Linear(4, 4), nn.Sigmoid())
    model = nn.Sequential(
        nn.Linear(3, 4), inner, nn.LayerNorm(4), nn.Dropout(0.5), nn.BatchNorm1d(4), nn.LPPool1d(2, 2)
    )
    with pytest.raises(UnsupportedOperation) as caught:
        read_model(model)
    lines = str(caught.value).splitlines()
    assert len(lines) == 6
    expected = ["1.1: Sigmoid", "2: LayerNorm", "3: Dropout", "4: BatchNorm1d", "5: LPPool1d"]
    assert all(line.strip().startswith(start) for line, start in zip(lines[1:], expected, strict=True))
    assert sum("model.eval()" in line for line in lines) == 2


def test_batch_statistics_are_refused_in_eval_mode_too() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4, track_running_stats=False)).eval()
    with pytest.raises(UnsupportedOperation, match="no running statistics"):
        read_model(model)


def test_train_mode_is_fine_where_it_changes_nothing() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Dropout(0.0))
    assert read_model(model).num_neurons == 4
    assert model.training


class Shaped(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.dim() == 2 else x.flatten(1)


def test_data_dependent_control_flow_is_explained() -> None:
    def chooses(m: Any, h: Tensor) -> Tensor:
        if h.sum() > 0:
            return h
        return -h

    with pytest.raises(TransformError, match=r"control flow depends on the input at .*test_refusals.py:\d+") as caught:
        read_model(Model(chooses), torch.zeros(1, 4))
    assert isinstance(caught.value.__cause__, torch.fx.proxy.TraceError)
    with pytest.raises(TransformError, match="pass example_input"):
        trace(Shaped())
    for batch_size in (
        lambda m, h: h if h.shape[0] > 2 else -h,
        lambda m, h: sum(row for row in h),
    ):
        with pytest.raises(TransformError, match=r"control flow depends on the input at .*test_refusals.py:\d+"):
            trace(Model(batch_size))


def test_code_that_fx_cannot_trace_is_located() -> None:
    with pytest.raises(TransformError, match=r"cannot trace it at .*test_refusals.py:\d+: TypeError"):
        read_model(Model(lambda m, h: h + torch.from_numpy(h)))
    with pytest.raises(TransformError, match=r"cannot trace it at .*x.new_zeros"):
        read_model(Model(lambda m, h: h + torch.zeros(h.shape[0], 1)))
    with pytest.raises(TransformError, match="NotImplementedError"):
        read_model(type("NoForward", (nn.Module,), {})(), in_shape=(3,))


def mixes_rows(m: Any, h: Tensor) -> Tensor:
    return F.relu(h - h.mean(0))


def depends_on_batch_size(m: Any, h: Tensor) -> Tensor:
    return F.relu(h) / h.shape[0]


def flips_batch(m: Any, h: Tensor) -> Tensor:
    return h.flip(0)


@pytest.mark.parametrize("forward", [mixes_rows, depends_on_batch_size, flips_batch])
def test_rows_that_depend_on_each_other_are_refused(forward: Callable[[Any, Tensor], Tensor]) -> None:
    with pytest.raises(TransformError, match=r"for one input alone differs.*Largest difference"):
        read_model(Model(forward))


def test_randomness_that_fx_cannot_see_is_refused() -> None:
    with pytest.raises(UnsupportedOperation, match="draws random numbers"):
        read_model(Model(lambda m, h: h + torch.randn(6)))
    with pytest.raises(TransformError, match="Largest difference"):
        read_model(Model(lambda m, h: h + random.random()))


@pytest.mark.parametrize("fill", [-1e16, -1e30, torch.finfo(torch.float32).min])
def test_constants_that_leave_no_digits_are_refused(fill: float) -> None:
    for masked in (
        lambda m, h: h.masked_fill(m.buffer.bool() | (torch.arange(6) < 3), fill).amax(1),
        lambda m, h: F.max_pool1d(F.pad(h, (1, 1), value=fill), 3, 1),
    ):
        with pytest.raises(TransformError, match=r"cancel in it.*use smaller ones"):
            read_model(Model(masked))


def test_code_that_does_something_else_in_float64_is_refused() -> None:
    def copies_in_float32(m: Any, h: Tensor) -> Tensor:
        cast = h.double()
        cast += 1.0
        return h

    with pytest.raises(TransformError, match=r"forward pass in torch\.float32"):
        read_model(Model(copies_in_float32))
    with pytest.raises(TransformError, match=r"forward pass in torch\.float32"):
        read_model(Model(copies_in_float32), torch.zeros(1, 4))
    assert read_model(Model(copies_in_float32).double()).out_bias.shape == (6,)


OUTPUTS: list[tuple[Callable[[Any, Tensor], Any], str]] = [
    (lambda m, h: (h, h), "one tensor as its output, found tuple"),
    (lambda m, h: {"logits": h}, "one tensor as its output, found (dict|immutable)"),
    (lambda m, h: None, "one tensor as its output, found NoneType"),
    (lambda m, h: h.chunk(2), "found (list|tuple)"),
    (lambda m, h: h.T, "expected the batch as the first dimension"),
    (lambda m, h: h[:, :0], "an output with entries"),
    (lambda m, h: h.sum(), "expected the batch as the first dimension"),
    (lambda m, h: m.p, "expected the batch as the first dimension"),
    (lambda m, h: h.flatten(), "expected the batch as the first dimension"),
    (lambda m, h: torch.zeros_like(h, dtype=torch.int64), "floating-point"),
    (lambda m, h: F.relu(h.sum(0)).expand_as(h), "one batch dimension in the input of 'relu'"),
    (lambda m, h: h / (m.p - m.p), "expected finite weights"),
]


@pytest.mark.parametrize(("forward", "message"), OUTPUTS, ids=[row[1] for row in OUTPUTS])
def test_outputs_that_are_not_one_batch(forward: Callable[[Any, Tensor], Any], message: str) -> None:
    with pytest.raises(TransformError, match=message):
        read_model(Model(forward))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_traced_graph_computes_the_same_in_the_same_dtype(dtype: torch.dtype) -> None:
    def forward(m: Any, h: Tensor) -> Tensor:
        res = h * 1
        h = res
        h += m.p
        return torch.cat([F.relu_(h) - res, m.p.relu() * h.relu()], 1)

    model = Model(forward).to(dtype)
    x = torch.randn(9, 4, dtype=dtype)
    graph_module = trace(model, x)
    assert torch.allclose(graph_module(x), model(x))
    assert graph_module(x).dtype == dtype
    assert [node.target for node in graph_module.graph.nodes].count(torch.relu) == 2
    assert not any(getattr(node.target, "__name__", "").startswith("relu_") for node in graph_module.graph.nodes)
    with redirect_stdout(io.StringIO()) as printed:
        graph_module.graph.print_tabular()
    assert "relu" in printed.getvalue()


def test_example_input_on_which_the_model_fails() -> None:
    with pytest.raises(TransformError, match=r"fails on shape \(2, 5\), torch.float32"):
        trace(nn.Linear(4, 2), torch.zeros(2, 5))


def test_every_rule_names_an_operation_of_torch_or_python() -> None:
    for name in RULES:
        word = name.lstrip(".")
        spellings = (word, f"{word}_", f"__{word}__")
        assert any(
            hasattr(space, s) for space in (torch, Tensor, F, operator, builtins, torch.ops.aten) for s in spellings
        ), name


class Batch(nn.Module):
    """A model of something else than a tensor, as `forward` makes one tensor of it."""

    def __init__(self, read: Callable[[Any], Tensor]) -> None:
        super().__init__()
        self.read, self.net = read, nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))

    def forward(self, batch: Any) -> Tensor:
        return self.net(self.read(batch))


NO_TENSORS = (
    (lambda batch: batch["x"], r"batch\['x'\]"),
    (lambda batch: torch.cat([batch[name] for name in ("a", "b")], 1), r"batch\['a'\]"),
    (lambda batch: batch.get("x"), r"batch\.get\('x'\)"),
    (lambda batch: torch.cat([value for _, value in batch.items()], 1), r"batch\.items\(\)"),
    (lambda batch: torch.cat(list(batch.values()), 1), r"batch\.values\(\)"),
    (lambda batch: batch.edge_index + 1, r"batch\.edge_index"),
)


@pytest.mark.parametrize(("read", "use"), NO_TENSORS, ids=[row[1] for row in NO_TENSORS])
@pytest.mark.parametrize("example", [None, torch.zeros(1, 3)], ids=["none", "example"])
def test_models_of_dicts_and_objects_are_refused_by_what_they_use(
    read: Callable[[Any], Tensor], use: str, example: Tensor | None
) -> None:
    message = (
        rf"^model: expected a forward\(\) of one tensor, found that it uses {use} at .*; pass an nn.Module whose .*$"
    )
    with pytest.raises(TransformError, match=message):
        read_model(Batch(read), example)


def test_an_example_that_is_no_tensor_is_told_what_the_model_must_take() -> None:
    for example in ({"x": torch.zeros(1, 3)}, [torch.zeros(1, 3)], (torch.zeros(1, 3),)):
        with pytest.raises(
            TransformError, match=r"found (dict|list|tuple); pass a model whose forward\(x\) takes one tensor"
        ):
            read_model(Batch(lambda batch: batch["x"]), example)


def test_loops_over_the_rows_of_a_batch_are_refused() -> None:
    x = torch.zeros(1, 3)
    loops = (
        lambda batch: torch.stack([row * 2 for row in batch]),
        lambda batch: torch.stack([row * 2 for row in batch.unbind(0)]),
        lambda batch: torch.stack([batch[i] * 2 for i in range(len(batch))]),
    )
    for example in (None, x):
        with pytest.raises(
            TransformError, match=r"^model: its forward\(\) loops over the rows of the batch 'batch' at .* whole"
        ):
            read_model(Batch(loops[0]), example)
    for loop in loops[1:]:
        with pytest.raises(TransformError, match="example_input"):
            read_model(Batch(loop))
        with pytest.raises(
            TransformError, match=r"depends on the number of rows .* let the layers take the whole batch"
        ):
            read_model(Batch(loop), x)


class Policy(nn.Module):
    """An actor and a critic with the parts and the forward pass of those of stable-baselines3."""

    def __init__(self) -> None:
        super().__init__()
        self.features_extractor = nn.Flatten()
        self.mlp_extractor = nn.Module()
        self.mlp_extractor.policy_net = nn.Sequential(nn.Linear(3, 6), nn.ReLU())
        self.mlp_extractor.value_net = nn.Sequential(nn.Linear(3, 6), nn.ReLU())
        self.action_net, self.value_net = nn.Linear(6, 2), nn.Linear(6, 1)

    def logits(self, obs: Tensor) -> Tensor:
        return self.action_net(self.mlp_extractor.policy_net(self.features_extractor(obs)))

    def forward(self, obs: Tensor, deterministic: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        distribution = torch.distributions.Categorical(logits=self.logits(obs))
        actions = distribution.logits.argmax(1) if deterministic else distribution.sample()
        values = self.value_net(self.mlp_extractor.value_net(self.features_extractor(obs)))
        return actions, values, distribution.log_prob(actions)


class Acting(nn.Module):
    """A policy as the function that gives the action."""

    def __init__(self) -> None:
        super().__init__()
        self.policy = Policy()

    def forward(self, obs: Tensor) -> Tensor:
        return self.policy(obs, deterministic=True)[0]


@pytest.mark.parametrize("example", [None, torch.zeros(1, 3)], ids=["none", "example"])
@pytest.mark.parametrize("make", [Policy, Acting])
def test_policies_are_told_which_layers_to_pass(make: Callable[[], nn.Module], example: Tensor | None) -> None:
    model = make()
    with pytest.raises(TransformError, match=r"is a policy \(Policy\) whose forward\(\) draws actions") as caught:
        read_model(model, example)
    (line,) = str(caught.value).splitlines()
    layers = eval(line[line.index("nn.Sequential(") :].rstrip("."), {"nn": nn, "model": model})
    policy, x = getattr(model, "policy", model), torch.randn(9, 3)
    with torch.no_grad():
        expected = policy.logits(x).double()
    torch.testing.assert_close(torch.from_numpy(read_model(layers)(x.double().numpy())), expected, rtol=1e-5, atol=1e-5)


MODULES = (
    (nn.Sigmoid(), "put a Hardsigmoid in its place and train again"),
    (nn.Tanh(), "put a Hardtanh in its place and train again"),
    (nn.SiLU(), "put a ReLU in its place and train again"),
    (nn.TransformerEncoderLayer(4, 2), r"\(attention\).*transform the part of the model before it, or after it"),
    (nn.MultiheadAttention(4, 2), r"\(attention\).*transform the part of the model before it, or after it"),
    (nn.LSTM(4, 4), r"put nn.RNN\(\.\.\., nonlinearity='relu'\) in its place"),
)


@pytest.mark.parametrize(("module", "remedy"), MODULES, ids=[type(row[0]).__name__ for row in MODULES])
def test_what_may_stand_in_the_place_of_a_module(module: nn.Module, remedy: str) -> None:
    with pytest.raises(UnsupportedOperation, match=rf"1: {type(module).__name__} .*{remedy}"):
        read_model(nn.Sequential(nn.Linear(4, 4), module, nn.Linear(4, 4)).eval())
