"""Models of every form are read right."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, fx, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, prune

from tests.cases import examples
from torch_shallow.errors import TransformError
from torch_shallow.program.model import read_model, trace
from torch_shallow.program.relu_program import ReLUProgram

pytestmark = pytest.mark.quick

Reads = Callable[..., ReLUProgram]


class Model(nn.Module):
    """Two linear layers and a forward pass written in the test."""

    def __init__(self, forward: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.a, self.b, self.sq = nn.Linear(4, 6), nn.Linear(6, 3), nn.Linear(6, 6)
        self.act = nn.ReLU()
        self.scale = nn.Parameter(torch.rand(6) + 0.5)
        self.register_buffer("shift", torch.randn(6))
        self.register_buffer("order", torch.tensor([3, 0, 5, 1, 2, 4]))
        self.register_buffer("mask", torch.tensor([True, False, True, True, False, True]))
        self.matrix = torch.randn(6, 6)
        self.several = [torch.randn(6), torch.randn(6, 6)]
        self._forward = forward

    def forward(self, x: Tensor) -> Tensor:
        return self._forward(self, x)

    def double(self) -> Model:
        self.matrix = self.matrix.double()
        self.several = [tensor.double() for tensor in self.several]
        return super().double()


RELUS: dict[str, Callable[[Model, Tensor], Tensor]] = {
    "module": lambda m, z: m.act(z),
    "functional": lambda m, z: F.relu(z),
    "functional in place": lambda m, z: F.relu(z, inplace=True),
    "functional in place by position": lambda m, z: F.relu(z, True),
    "functional by keyword": lambda m, z: F.relu(input=z),
    "functional underscore": lambda m, z: F.relu_(z),
    "torch": lambda m, z: torch.relu(z),
    "torch in place": lambda m, z: torch.relu_(z),
    "method": lambda m, z: z.relu(),
    "method in place": lambda m, z: z.relu_(),
}


@pytest.mark.parametrize("relu", RELUS.values(), ids=RELUS.keys())
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_every_form_of_relu(reads: Reads, relu: Callable[[Model, Tensor], Tensor], dtype: torch.dtype) -> None:
    model = Model(lambda m, x: m.b(relu(m, m.a(x)))).to(dtype)
    program = reads(model)
    assert [stage.num_neurons for stage in program.stages] == [6]
    np.testing.assert_array_equal(program.stages[0].weight, model.a.weight.detach().double().numpy())
    np.testing.assert_array_equal(program.stages[0].bias, model.a.bias.detach().double().numpy())
    np.testing.assert_array_equal(program.out_weight[:, 4:], model.b.weight.detach().double().numpy())
    targets = [node.target for node in trace(model).graph.nodes if node.op == "call_function"]
    assert targets in ([torch.relu], [torch.relu_])


def relu_of(m: Any, x: Tensor) -> Tensor:
    """A hidden value of six entries to do things with."""
    return F.relu(m.a(x))


def in_place_relu_seen_through_alias(m: Any, x: Tensor) -> Tensor:
    y = m.a(x)
    r = F.relu_(y)
    return y + r


def in_place_relu_of_a_view(m: Any, x: Tensor) -> Tensor:
    y = m.a(x)
    y[:, 1:4].relu_()
    F.relu_(y.view(-1, 2, 3)[:, :, 0])
    return m.b(y)


def in_place_addition(m: Any, x: Tensor) -> Tensor:
    z = m.a(x)
    res = z * 1
    z = res
    z += m.shift
    z -= 2 * res.relu()
    z *= 0.5
    z /= m.scale
    return res + z


def copy_before_in_place(m: Any, x: Tensor) -> Tensor:
    z = m.a(x)
    before = z.clone()
    z.relu_().mul_(2).add_(1)
    return before - z


def accumulates_into_zeros(m: Any, x: Tensor) -> Tensor:
    total = torch.zeros_like(x)
    alias = total.view(-1, 4)
    total += x
    total += 2 * x.relu()
    return alias - 3 * total


def writes_items(m: Any, x: Tensor) -> Tensor:
    z = m.a(x)
    out = torch.zeros_like(z)
    view = out[:, 1:]
    out[:, :2] = z[:, 4:].relu()
    out[:, m.mask] += 1.5
    z[:, 0] = 0.5
    view.copy_(z[:, 1:] + view)
    z[:, 3:].zero_()
    return out + z


def fresh_copies_of_parameters(m: Any, x: Tensor) -> Tensor:
    out = m.scale.clone()[None].repeat(x.shape[0], 1)
    seen = out.to(x.dtype)
    out += m.a(x)
    return seen + out.relu()


def detached_alias(m: Any, x: Tensor) -> Tensor:
    z = m.a(x)
    alias = z.detach()
    z.relu_()
    return alias + m.b(z).sum(1, keepdim=True)


def flattens_batch(m: Any, x: Tensor) -> Tensor:
    rows = F.relu(m.a(x)).reshape(-1, 2)
    return F.relu(rows - 0.3).reshape(x.shape[0], 6)


def batch_elsewhere(m: Any, x: Tensor) -> Tensor:
    return F.relu(m.a(x).t() - 0.1).t()


def dense(m: Any, x: Tensor) -> Tensor:
    h1 = F.relu(m.a(x))
    h2 = F.relu(m.sq(h1) + x.repeat(1, 2)[:, :6])
    return torch.cat([x, h1, h2, h1 - h2], dim=1)


FORWARDS: list[Callable[[Any, Tensor], Tensor]] = [
    in_place_relu_seen_through_alias,
    in_place_relu_of_a_view,
    in_place_addition,
    copy_before_in_place,
    accumulates_into_zeros,
    writes_items,
    fresh_copies_of_parameters,
    detached_alias,
    flattens_batch,
    batch_elsewhere,
    dense,
]


@pytest.mark.parametrize("forward", FORWARDS, ids=lambda forward: forward.__name__)
def test_forward_passes_with_aliases_and_connections(reads: Reads, forward: Callable[[Any, Tensor], Tensor]) -> None:
    reads(Model(forward), torch.zeros(2, 4))


def test_constants_of_lower_precision_made_in_forward_are_raised() -> None:
    model = Model(lambda m, x: m.a(x).relu() @ torch.full((6, 2), 0.1) + torch.linspace(0, 1, 2))
    program = read_model(model)
    np.testing.assert_array_equal(program.out_weight[:, 4:], np.float64(np.float32(0.1)))


MODULES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "Linear alone": (lambda: nn.Linear(3, 2), (3,)),
    "ReLU alone": (lambda: nn.ReLU(), (3,)),
    "empty Sequential": (lambda: nn.Sequential(), (2, 2)),
    "no ReLU": (lambda: nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2, bias=False)), (3,)),
    "BatchNorm1d": (lambda: nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 1)), (3,)),
    "images": (
        lambda: nn.Sequential(
            nn.ZeroPad2d(1),
            nn.Conv2d(1, 2, 3, stride=2, padding=1, padding_mode="circular"),
            nn.BatchNorm2d(2),
            nn.ReLU(inplace=True),
            nn.AvgPool2d(2),
            nn.Dropout2d(),
            nn.Flatten(),
            nn.LazyLinear(3),
        ),
        (1, 6, 6),
    ),
    "sequences": (lambda: nn.Sequential(nn.Conv1d(2, 3, 2), nn.BatchNorm1d(3), nn.ReLU(), nn.AvgPool1d(2)), (2, 5)),
    "volumes": (lambda: nn.Sequential(nn.Conv3d(1, 2, 2), nn.BatchNorm3d(2), nn.ReLU(), nn.AvgPool3d(2)), (1, 3, 3, 3)),
    "upward": (lambda: nn.Sequential(nn.ConvTranspose2d(1, 2, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(2)), (1, 2, 3)),
    "Unflatten": (lambda: nn.Sequential(nn.Linear(3, 4), nn.Unflatten(1, (2, 2)), nn.ReLU(), nn.Flatten(2)), (3,)),
    "token-wise": (lambda: nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)), (2, 3)),
    "Dropouts": (
        lambda: nn.Sequential(nn.Dropout(), nn.Identity(), nn.AlphaDropout(), nn.Linear(3, 2), nn.ReLU()),
        (3,),
    ),
    "width 1": (lambda: nn.Sequential(nn.Linear(1, 1), nn.ReLU(), nn.Linear(1, 1)), (1,)),
    "no neurons": (lambda: nn.Sequential(nn.Linear(2, 0), nn.ReLU(), nn.Linear(0, 2)), (2,)),
    "weight norm": (lambda: nn.Sequential(parametrizations.weight_norm(nn.Linear(3, 4)), nn.ReLU()), (3,)),
    "spectral norm": (lambda: nn.Sequential(parametrizations.spectral_norm(nn.Linear(3, 4)), nn.ReLU()), (3,)),
    "pruned": (lambda: nn.Sequential(prune.l1_unstructured(nn.Linear(3, 4), "weight", 0.5), nn.ReLU()), (3,)),
}


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
@pytest.mark.parametrize(("make", "in_shape"), MODULES.values(), ids=MODULES.keys())
def test_modules(reads: Reads, make: Callable[[], nn.Module], in_shape: tuple[int, ...]) -> None:
    model, example = make(), torch.randn(6, *in_shape)
    with torch.no_grad():
        model(example)  # initialises the lazy layer, moves the running statistics
    program = reads(model.eval(), example)
    assert program.in_shape == in_shape


def test_weight_norm_by_hook_is_read_at_its_present_weights(reads: Reads) -> None:
    with pytest.warns(FutureWarning):
        model = nn.Sequential(nn.utils.weight_norm(nn.Linear(3, 4)), nn.ReLU())
    with torch.no_grad():
        model[0].weight_g.mul_(2.0)  # `model[0].weight` is out of date until the next forward
    program = read_model(model)
    x = torch.randn(20, 3)
    np.testing.assert_allclose(program(x.double().numpy()), model(x).detach().numpy(), atol=1e-6)


def test_shared_modules_make_a_stage_for_each_call(reads: Reads) -> None:
    linear, act = nn.Linear(3, 3), nn.ReLU()
    program = reads(nn.Sequential(linear, act, linear, act, linear, nn.Sequential(act)))
    assert [stage.num_neurons for stage in program.stages] == [3, 3, 3]
    assert [stage.name for stage in program.stages] == ["1", "1 (call 2)", "1 (call 3)"]


class Block(nn.Module):
    """A residual block with two functional ReLUs."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.second(F.relu(self.first(x))))


def test_residual_blocks_and_stage_names(reads: Reads) -> None:
    model = nn.Sequential()
    model.add_module("stem", nn.Linear(4, 5))
    model.add_module("blocks", nn.Sequential(Block(5), Block(5)))
    program = reads(model)
    names = ["blocks.0.relu", "blocks.0.relu (call 2)", "blocks.1.relu", "blocks.1.relu (call 2)"]
    assert [stage.name for stage in program.stages] == names
    assert [name in str(program) for name in names] == [True] * 4
    assert [stage.name for stage in reads(Model(lambda m, x: F.relu(m.a(x)))).stages] == ["relu"]


def test_control_flow_on_the_shape_is_followed_when_the_shape_is_given(reads: Reads) -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        assert x.shape[-1] == 4
        if x.ndim > 2:
            x = x.flatten(1)[:, :4]
        return F.relu(m.a(x))

    def sizes(m: Any, x: Tensor) -> Tensor:
        n = x.shape[1]
        n -= 1
        for i in range(n):
            x = F.relu(x + torch.arange(n + 1) * i)
        a, b = x[:, :2].split(1, dim=1)
        return a - sum(b) if len(x.chunk(2, 1)) != 2 else torch.stack([i * c for i, c in enumerate(x.T)], 1) + a + b

    assert reads(Model(sizes), in_shape=(4,)).num_neurons == 12
    assert reads(Model(forward), torch.zeros(1, 2, 4)).in_shape == (2, 4)
    assert reads(Model(forward), in_shape=(4,)).in_shape == (4,)
    graph = trace(Model(forward), torch.zeros(1, 2, 4)).graph
    assert any(node.target == "flatten" for node in graph.nodes)


def test_arguments_with_defaults_keep_them(reads: Reads) -> None:
    class Masked(nn.Module):
        def forward(
            self, x: Tensor, mask: Tensor | None = None, *rest: Tensor, factor: float = 2.0, **options: bool
        ) -> Tensor:
            if mask is not None or rest or options:
                return x
            return F.relu(factor * x)

    assert reads(Masked(), in_shape=(3,)).num_neurons == 3


def test_a_graph_module_is_a_model(reads: Reads) -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    for graph_module in (fx.symbolic_trace(model), trace(model)):
        program = reads(graph_module)
        np.testing.assert_array_equal(program.stages[0].weight, read_model(model).stages[0].weight)


def test_forward_replaced_on_the_instance_is_the_one_read() -> None:
    model = nn.Sequential(nn.Linear(3, 4))
    model.forward = lambda x: F.relu(x) + 1  # type: ignore[method-assign]
    assert read_model(model, in_shape=(3,)).num_neurons == 3


def test_derived_tensor_attributes_are_copied(reads: Reads) -> None:
    model = Model(lambda m, x: F.relu(m.a(x)) @ m.derived)
    model.derived = 2 * model.sq.weight  # has a gradient history: copy.deepcopy alone would refuse
    program = read_model(model)
    np.testing.assert_array_equal(program.out_weight[:, 4:], model.derived.detach().T.double().numpy())


@pytest.mark.parametrize("size", [1e-30, 1e-6, 1.0, 1e12])
def test_weights_are_read_exactly_next_to_biases_of_any_size(size: float) -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).double()
    with torch.no_grad():
        model[0].weight.mul_(size).view(-1)[5] = 0.0
        model[2].bias.mul_(1e9)
    program = read_model(model)
    np.testing.assert_array_equal(program.stages[0].weight, model[0].weight.detach().numpy())
    np.testing.assert_array_equal(program.stages[0].bias, model[0].bias.detach().numpy())
    np.testing.assert_array_equal(program.out_weight[:, 3:], model[2].weight.detach().numpy())
    assert not program.out_weight[:, :3].any()


@pytest.mark.parametrize("seed", [42, 146, 152, 201, 465])  # these were refused: one in a hundred is
def test_what_cancels_in_hidden_layers_is_rounding(seed: int) -> None:
    drawn = torch.Generator().manual_seed(seed)

    def draw(low: int, high: int, *shape: int) -> Tensor:
        return torch.randint(low, high, shape or (1,), generator=drawn)

    depth, width, inputs = int(draw(2, 8)), int(draw(2, 9)), int(draw(1, 5))
    layers: list[nn.Module] = []
    for a, b in itertools.pairwise([inputs, *[width] * depth, 1]):
        layer = nn.Linear(a, b).double()
        with torch.no_grad():
            layer.weight.copy_(draw(-2, 3, b, a).double() * 0.1)
            layer.bias.copy_(draw(-1, 2, b).double() * 0.1 * int(draw(0, 2)))
        layers += [layer, nn.ReLU()]
    read_model(nn.Sequential(*layers[:-1]))


def test_what_overflows_is_said() -> None:
    model = nn.Sequential(nn.Linear(1, 1), nn.ReLU(), nn.Linear(1, 1), nn.ReLU(), nn.Linear(1, 1)).double()
    with torch.no_grad():
        for layer in model[::2]:
            layer.weight.fill_(1e200)
    with pytest.raises(TransformError, match="found values that float64 cannot hold at the flattened input"):
        read_model(model)


@examples(60)
@given(st.data())
def test_random_graphs(data: st.DataObject) -> None:
    """Any directed graph of Linear, relu (in place or not), addition, slices and concatenation is read right."""
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    modules: dict[str, nn.Module] = {}
    widths = [data.draw(st.integers(1, 4))]
    steps: list[tuple[str, int, int]] = []
    for number in range(data.draw(st.integers(1, 9))):
        kind = data.draw(st.sampled_from(["linear", "relu", "relu_", "add", "cat", "slice", "scale"]))
        i, j = (data.draw(st.integers(0, len(widths) - 1)) for _ in range(2))
        steps.append((kind, i, j))
        if kind == "linear":
            modules[str(number)] = linear = nn.Linear(widths[i], int(rng.integers(1, 5))).double()
            nn.init.normal_(linear.weight, generator=torch.Generator().manual_seed(int(rng.integers(2**31))))
            widths.append(linear.out_features)
        else:
            widths.append(
                {"add": min(widths[i], widths[j]), "cat": widths[i] + widths[j], "slice": 1}.get(kind, widths[i])
            )

    class Random(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linears = nn.ModuleDict(modules)

        def forward(self, x: Tensor) -> Tensor:
            values = [x + 0]
            for number, (kind, i, j) in enumerate(steps):
                a, b = values[i], values[j]
                w = min(widths[i], widths[j])
                if kind == "linear":
                    values.append(self.linears[str(number)](a))
                elif kind == "relu":
                    values.append(F.relu(a))
                elif kind == "relu_":
                    values.append(a.relu_())  # later uses of a see it too
                elif kind == "add":
                    values.append(a[:, :w] + b[:, :w])
                elif kind == "cat":
                    values.append(torch.cat([a, b], 1))
                elif kind == "slice":
                    values.append(a[:, -1:])
                else:
                    values.append(0.5 * a - 1)
            return torch.cat(values, 1)

    model = Random()
    program = read_model(model, in_shape=(widths[0],))
    for scale in (1e-2, 1.0, 1e4):
        x = scale * rng.standard_normal((20, widths[0]))
        expected = model(torch.from_numpy(x.copy())).detach().numpy()
        assert np.all(np.abs(program(x) - expected) <= 1e-9 * (1 + np.abs(expected)))
