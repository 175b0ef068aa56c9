"""Every piecewise-linear operation, rewritten: the same function, with no neuron more than it needs."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor, nn

from torch_shallow.program.graph.operations import PIECEWISE_MODULES, PIECEWISE_RULES
from torch_shallow.program.model import read_model, trace
from torch_shallow.program.rewriting.maxima import adaptive_windows, max_of_groups, pooling_windows, sort
from torch_shallow.program.rewriting.piecewise import WRITTEN


class Model(nn.Module):
    """Two layers with an operation between them, which sees six values."""

    def __init__(self, operation: Callable[[Any, Tensor], Tensor], size: int = 6) -> None:
        super().__init__()
        self.first, self.slopes, self.operation = nn.Linear(4, size), nn.Parameter(torch.randn(size)), operation

    def forward(self, x: Tensor) -> Tensor:
        return self.operation(self, self.first(x))


def image(h: Tensor) -> Tensor:
    return h.view(-1, 1, 2, 3)


# An operation of six values, and how many neurons it takes.
OPERATIONS: dict[str, tuple[Callable[[Any, Tensor], Tensor], int]] = {
    "relu": (lambda m, h: F.relu(h) + torch.relu(h) - h.relu(), 18),
    "relu_": (lambda m, h: F.relu(h, inplace=True) + h, 6),
    "relu6": (lambda m, h: F.relu6(h), 12),
    "relu6_": (lambda m, h: F.relu6(h, inplace=True) + h, 12),
    "hardtanh": (lambda m, h: F.hardtanh(h, -0.5, max_val=0.25), 12),
    "hardsigmoid": (lambda m, h: F.hardsigmoid(9 * h), 12),
    "leaky_relu": (lambda m, h: F.leaky_relu(h, 0.3), 6),
    "leaky_relu of negative slope": (lambda m, h: F.leaky_relu(h, negative_slope=-1.3), 6),
    "leaky_relu_": (lambda m, h: F.leaky_relu_(h, 0.3) + h, 6),
    "in place of a view": (lambda m, h: F.leaky_relu_(h[:, :2]).sum(1, keepdim=True) + h, 2),
    "prelu": (lambda m, h: F.prelu(h, m.slopes), 6),
    "prelu of one slope": (lambda m, h: F.prelu(h.view(-1, 2, 3), m.slopes[:1]), 6),
    "prelu of channels": (lambda m, h: F.prelu(image(h).transpose(1, 2), m.slopes[:2]), 6),
    "rrelu": (lambda m, h: F.rrelu(h, 0.1, 0.5) + torch.rrelu(h), 12),
    "threshold": (lambda m, h: F.threshold(h, 0.1, 0.1), 6),
    "softshrink": (lambda m, h: F.softshrink(h, 0.1), 12),
    "abs": (lambda m, h: h.abs() + torch.abs(h) + abs(h) + torch.absolute(h), 24),
    "abs_": (lambda m, h: h.abs_() - h, 6),
    "clamp": (lambda m, h: h.clamp(-0.2, 0.1), 12),
    "clamp below": (lambda m, h: torch.clamp(h, min=0.1), 6),
    "clip above": (lambda m, h: torch.clip(h, max=0.1), 6),
    "clamp_": (lambda m, h: h.clamp_(max=0.1) + h, 6),
    "clamp_min clamp_max": (lambda m, h: torch.clamp_min(h, -0.1) + h.clamp_max(0.2), 12),
    "clamp the wrong way": (lambda m, h: h.clamp(0.5, -0.5), 12),
    "clamp by tensors": (lambda m, h: h.clamp(m.slopes, m.slopes + 0.5), 12),
    "clamp by values of the input": (lambda m, h: h.clamp(h.sum(1, keepdim=True), h[:, :1]), 12),
    "clamp far away": (lambda m, h: h.clamp(-1e30, 1e30) + h.clamp(min=-3e38), 18),
    "clamp to nothing, in place": (lambda m, h: h.clamp(min=-float("inf")).clamp_(max=1e4) + h, 6),
    "flatten by name, in place": (lambda m, h: (torch.flatten(start_dim=1, input=h).clamp_(max=1e4), h)[1], 6),
    "clamp to infinity": (lambda m, h: h.clamp(-float("inf"), 0.1), 6),
    "clamp by integers": (lambda m, h: (9 * h).clamp(-1, 2), 12),
    "maximum": (lambda m, h: torch.maximum(h[:, :3], h[:, 3:]), 3),
    "minimum": (lambda m, h: h.minimum(m.slopes), 6),
    "maximum of a constant": (lambda m, h: torch.maximum(m.slopes, h), 6),
    "fmax fmin": (lambda m, h: torch.fmax(h[:, :3], h[:, 3:]) + torch.fmin(h[:, :3], h[:, 3:]), 6),
    "max of two": (lambda m, h: torch.max(h[:, :3], h[:, 3:]) + h[:, :3].min(other=h[:, 3:]), 6),
    "max broadcast": (lambda m, h: torch.maximum(h[:, :1], h), 6),
    "max": (lambda m, h: h.max(1).values, 5),
    "max along an axis": (lambda m, h: h.max(axis=1, keepdims=True)[0] + h.amax(axis=1, keepdim=True), 10),
    "max kept": (lambda m, h: torch.max(h, dim=-1, keepdim=True)[0], 5),
    "min unpacked": (lambda m, h: unpacked(*h.view(-1, 2, 3).min(2)), 4),
    "amax amin": (lambda m, h: h.amax(-1) - torch.amin(h, dim=1), 10),
    "amax of two dims": (lambda m, h: h.view(-1, 2, 3).amax((1, 2)), 5),
    "amax of two dims kept": (lambda m, h: h.view(-1, 2, 3).amax([2, -2], keepdim=True), 5),
    "max of one entry": (lambda m, h: h[..., None].amax(2), 0),
    "sort": (lambda m, h: h.sort().values, 12),
    "sort downwards": (lambda m, h: torch.sort(h.view(-1, 2, 3), dim=2, descending=True)[0], 6),
    "msort": (lambda m, h: torch.msort(h.T).T, 12),
    "topk": (lambda m, h: h.topk(2).values, 11),
    "topk of half": (lambda m, h: h.topk(h.size(1) // 3).values, 11),
    "topk smallest": (lambda m, h: torch.topk(h, 1, dim=1, largest=False)[0], 5),
    "scatter_reduce": (
        lambda m, h: h.scatter_reduce(1, torch.tensor([[0, 1, 1, 0, 3, 1]]).repeat(len(h), 1), h, "amax"),
        6,
    ),
    "kthvalue": (lambda m, h: h.view(-1, 2, 3).kthvalue(2).values, 6),
    "median of three": (lambda m, h: h.view(-1, 2, 3).median(2, keepdim=True).values, 6),
    "median of six": (lambda m, h: torch.median(h, dim=1).values, 10),
    "max_pool1d": (lambda m, h: F.max_pool1d(h, 2), 3),
    "max_pool1d over all": (lambda m, h: F.max_pool1d(image(h)[:, 0], kernel_size=h.view(-1, 2, 3).size()[2:]), 4),
    "max_pool1d of one entry, in place": (lambda m, h: F.max_pool1d(h, 1).clamp_(max=1e4) + h, 6),
    "max_pool1d overlapping": (lambda m, h: F.max_pool1d(h[:, None], 3, stride=1, padding=1), 9),
    "max_pool2d": (lambda m, h: F.max_pool2d(image(h), 2, 1), 5),
    "max_pool2d with indices": (lambda m, h: F.max_pool2d(image(h), 2, 1, return_indices=True)[0], 5),
    "torch.max_pool1d_with_indices": (lambda m, h: torch.max_pool1d_with_indices(h[:, None], 2)[0], 3),
    "torch.max_pool2d": (lambda m, h: torch.max_pool2d(image(h), [2, 2], ceil_mode=True), 4),
    "max_pool3d": (lambda m, h: F.max_pool3d(h.view(-1, 1, 1, 2, 3), (1, 2, 3)), 5),
    "adaptive_max_pool1d": (lambda m, h: F.adaptive_max_pool1d(h[:, None], 4), 4),
    "adaptive_max_pool2d": (lambda m, h: F.adaptive_max_pool2d(image(h), (1, None)), 3),
    "adaptive_max_pool3d": (lambda m, h: F.adaptive_max_pool3d(h.view(-1, 1, 1, 2, 3), 1), 5),
}


def unpacked(values: Tensor, _: Tensor) -> Tensor:
    return values


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("operation", "neurons"), OPERATIONS.values(), ids=OPERATIONS.keys())
def test_operations(operation: Callable[[Any, Tensor], Tensor], neurons: int, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model, x = Model(operation).to(dtype), torch.randn(200, 4, dtype=dtype)
    x[:10] *= 1e5  # behind the farthest bounds
    with torch.no_grad():
        expected = model(x.clone())
    program = read_model(model)
    tolerance = 1e-12 if dtype == torch.float64 else 1e-5
    found = program(x.double().numpy()).reshape(expected.shape)
    size = 1.0 + x.double().abs().amax(1).reshape(-1, *(1,) * (expected.ndim - 1))  # of the terms that may cancel
    torch.testing.assert_close(torch.from_numpy(found) / size, expected / size, rtol=tolerance, atol=tolerance)
    assert program.num_neurons == neurons


@pytest.mark.parametrize("operation", [row[0] for row in OPERATIONS.values()], ids=OPERATIONS.keys())
def test_the_traced_graph_has_no_other_nonlinearity_than_relu(operation: Callable[[Any, Tensor], Tensor]) -> None:
    torch.manual_seed(0)
    model, x = Model(operation), torch.randn(50, 4)
    graph_module = trace(model, x)
    with torch.no_grad():
        torch.testing.assert_close(graph_module(x), model(x.clone()))
    names = {getattr(node.target, "__name__", str(node.target)) for node in graph_module.graph.nodes}
    assert names.isdisjoint({*PIECEWISE_RULES} - {"relu"})


def test_every_operation_is_tried_here() -> None:
    tried = " ".join(OPERATIONS).split()
    modules = {operation for operation, _ in PIECEWISE_MODULES.values()}
    synonyms = {"absolute": "abs", "clip": "clamp", "_prelu_kernel": "prelu", "min": "max", "amin": "amax"}
    names = {synonyms.get(name, name).removesuffix("_with_indices") for name in PIECEWISE_RULES}
    assert names - {*tried, "rnn", "rnn_cell", "rnn_relu_cell"} == set()
    assert modules <= set(PIECEWISE_RULES) == set(WRITTEN)


@given(st.data())
def test_pooling_windows_are_those_of_torch(data: st.DataObject) -> None:
    size, kernel = data.draw(st.integers(1, 12)), data.draw(st.integers(1, 5))
    stride, dilation = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 3))
    padding, ceil_mode = data.draw(st.integers(0, kernel // 2)), data.draw(st.booleans())
    x = torch.randn(3, 2, size, dtype=torch.float64)
    assume(size + 2 * padding > dilation * (kernel - 1))
    expected = F.max_pool1d(x, kernel, stride, padding, dilation, ceil_mode)
    windows = pooling_windows(size, kernel, stride, padding, dilation, ceil_mode)
    assert len(windows) == expected.shape[-1]
    assert [not window for window in windows] == expected[0, 0].isneginf().tolist()
    if all(windows):
        torch.testing.assert_close(max_of_groups(x, 2, size, windows), expected)


@pytest.mark.parametrize(("size", "count"), [*product(range(1, 9), range(1, 12))])
def test_adaptive_windows_are_those_of_torch(size: int, count: int) -> None:
    x = torch.randn(3, 2, size, dtype=torch.float64)
    found = max_of_groups(x, 2, size, adaptive_windows(size, count))
    torch.testing.assert_close(found, F.adaptive_max_pool1d(x, count))


@pytest.mark.parametrize("size", range(1, 11))
def test_sorting_networks_sort_all_zeros_and_ones(size: int) -> None:
    """By the 0-1 principle (Knuth, The Art of Computer Programming 3, section 5.3.4) they then sort everything."""
    x = torch.tensor(list(product([0.0, 1.0], repeat=size)))
    assert torch.equal(sort(x, 1, size, range(size)), x.sort(1).values)
    for place in range(size):
        assert torch.equal(sort(x, 1, size, [place])[:, 0], x.sort(1).values[:, place])


def test_stages_are_named_after_the_module_or_function() -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.Hardtanh(), nn.Unflatten(1, (2, 3)), nn.MaxPool1d(3), nn.Flatten())
    names = [stage.name for stage in read_model(model).stages]
    assert names == ["1 (part 1)", "1 (part 2)", "3 (part 1)", "3 (part 2)"]
    assert [stage.name for stage in read_model(Model(lambda m, h: F.leaky_relu(h))).stages] == ["leaky_relu"]
