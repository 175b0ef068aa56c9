"""Segments: interpolation, gradients, and every crossing that a slow search finds."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import jaxtyping
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from tests import zoo
from tests.cases import examples
from tests.zoo import Specimen, chain, linear
from torch_shallow import Box, Polytope, TransformError, transform
from torch_shallow.explain import function
from torch_shallow.explain.segments import deep_segments as deep
from torch_shallow.explain.segments import sweep
from torch_shallow.explain.segments.segment import Segment, pieces, segment

pytestmark = pytest.mark.quick

KINDS = (
    "residual", "shared", "hand-written", "branches", "image", "LeakyReLU", "ReLU6",
    "Maxout", "U-Net", "recurrent module", "graph convolution", "median filter", "clamped residual",
    "overlapping pools", "pooled image", "no ReLU", "zero weights", "constant stage", "dead neurons",
    "duplicated", "opposite", "zero biases", "one input", "tent 3", "functional", "coincident across stages",
)  # fmt: skip
FAST = (
    "residual", "hand-written", "LeakyReLU", "Maxout", "U-Net", "graph convolution", "median filter", "no ReLU",
    "zero weights", "dead neurons", "duplicated", "zero biases", "one input", "coincident across stages",
)  # fmt: skip
SPECIMENS = [
    specimen if specimen.name in FAST else pytest.param(specimen, marks=pytest.mark.slow)
    for specimen in zoo.ALL
    if specimen.name in KINDS
]


class InPlace(nn.Module):
    """Values that share memory: no row can be added to one without the other."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        left = h[:, :2]
        g = torch.relu(h)
        left += 0.3
        return self.second(g + torch.relu(h))


class Detached(nn.Module):
    """Values of which autograd does not know where they come from."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 5), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(torch.relu(self.first(x)).detach())


class Reshaped(nn.Module):
    """The size of the batch in the code."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = nn.Conv1d(1, 2, 2), nn.Linear(6, 3), nn.Linear(7, 2)

    def forward(self, x: Tensor) -> Tensor:
        rows = x.size(0)
        h = torch.relu(self.first(x)).view(rows, -1)
        both = torch.cat([torch.relu(self.second(h)), x.view(rows, -1)], dim=1)
        return self.third(both)


def ends(specimen: Specimen, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Two inputs."""
    generator = torch.Generator().manual_seed(seed)
    start, end = 3.0 * torch.randn(2, *specimen.in_shape, dtype=torch.float64, generator=generator)
    return start, end


def brute_force(model: nn.Module, start: Tensor, end: Tensor, samples: int = 1000) -> int:
    """Number of activation patterns at equally spaced points of a segment: never more than there are."""
    t = torch.linspace(0.0, 1.0, samples, dtype=torch.float64).reshape(-1, *[1] * start.dim())
    read = function.read_function(model, start[None])
    assert isinstance(read, sweep.DeepFunction)
    signs = read.signs(function.input_rows(read, "x", torch.lerp(start, end, t)))
    return len({tuple(row) for row in signs.tolist()})


def check(found: Segment, model: nn.Module, start: Tensor, end: Tensor) -> None:
    """Between breakpoints the model is what the segment says: value, gradient, map."""
    t = torch.rand(50, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    x = found.points_at(t)
    with torch.no_grad():
        y = model(x).double().reshape(len(t), -1)
    values = found.values.reshape(len(found.t), -1).numpy()
    expected = np.stack([np.interp(t.numpy(), found.t.numpy(), column) for column in values.T], 1)
    size = 1.0 + np.abs(values).max()
    assert np.abs(y.numpy() - expected).max() <= 1e-10 * size
    weight, bias = found.maps()
    inputs, outputs = start.numel(), found.function.num_outputs
    weight, bias = weight.reshape(len(found), outputs, inputs), bias.reshape(len(found), outputs)
    piece = torch.searchsorted(found.t[1:-1].contiguous(), t)
    affine = torch.einsum("toi,ti->to", weight[piece], x.reshape(len(t), -1)) + bias[piece]
    assert (affine - y).abs().max() <= 1e-10 * size
    middle = found.midpoints.requires_grad_()
    y = model(middle).reshape(len(found), -1)
    for output in range(outputs if y.requires_grad else 0):
        (gradient,) = torch.autograd.grad(y[:, output].sum(), middle, retain_graph=True, allow_unused=True)
        if gradient is not None:
            assert (gradient.reshape(len(found), -1) - weight[:, output]).abs().max() <= 1e-10 * size
    assert found.t[0] == 0.0
    assert found.t[-1] == 1.0
    assert (found.t.diff() > 0.0).all()
    assert torch.equal(found.points[0], start)
    assert torch.equal(found.points[-1], end)


@pytest.mark.parametrize("specimen", SPECIMENS, ids=str)
def test_pieces_are_those_of_the_model(specimen: Specimen) -> None:
    model, (start, end) = specimen.model(), ends(specimen)
    found = segment(model, start, end)
    check(found, model, start, end)
    assert found.patterns is not None
    distinct = {tuple(pattern) for pattern in found.patterns.tolist()}
    assert len(distinct) == len(found) >= brute_force(model, start, end)


@pytest.mark.parametrize("make", [InPlace, Detached, Reshaped])
def test_code_that_does_not_let_rows_grow(make: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    model = make().double()
    start, end = 3.0 * torch.randn(2, *((1, 4) if make is Reshaped else (3,)), dtype=torch.float64)
    read = function.read_function(model, start[None])
    assert isinstance(read, sweep.DeepFunction)
    assert (sweep.Sweep.of(read) is None) == (make is InPlace)
    found = segment(model, start, end)
    assert found.patterns is not None
    assert len(found.patterns.unique(dim=0)) >= brute_force(model, start, end)
    if make is not Detached:
        check(found, model, start, end)
    else:
        assert torch.allclose(found.ends.diff(dim=1)[:, 0], found.gradients @ (end - start) * found.t.diff()[:, None])


@given(st.integers(0, 10_000), st.sampled_from([(2, 5, 4, 2), (3, 6, 6, 1), (1, 7, 5, 2)]))
@examples(5)
def test_every_neuron_crosses_where_bisection_says(seed: int, sizes: tuple[int, ...]) -> None:
    torch.manual_seed(seed)
    model = chain(*sizes).double()
    start, end = 4.0 * torch.randn(2, sizes[0], dtype=torch.float64)

    def neurons(t: float) -> np.ndarray:
        h, seen = torch.lerp(start, end, t), []
        for layer in model:
            h = layer(h)
            seen += [h] if isinstance(layer, nn.Linear) else []
        return torch.cat(seen[:-1]).detach().numpy() > 0.0

    t = np.linspace(0.0, 1.0, 401)
    signs = [neurons(x) for x in t]
    roots: list[float] = []
    for lower, upper, before, after in zip(t, t[1:], signs, signs[1:], strict=False):
        for neuron in np.flatnonzero(before != after):
            a, b = lower, upper
            while b - a > 1e-13:
                middle = 0.5 * (a + b)
                a, b = (middle, b) if neurons(middle)[neuron] == before[neuron] else (a, middle)
            roots.append(a)
    found = segment(model, start, end).t[1:-1].numpy()
    assert all(np.abs(found - root).min() < 1e-10 for root in roots)
    assert len(found) >= len(roots)
    for root in found:  # and nothing else: each breakpoint has a neuron that is zero there
        before, after = neurons(root - 1e-9), neurons(root + 1e-9)
        assert (before != after).any()


@pytest.mark.parametrize(
    ("sizes", "domain"),
    [
        ((2, 6, 5, 2), None),
        ((3, 5, 4, 3), Box(-9.0, 9.0)),
        ((2, 6, 4, 1), Polytope([[1.0, 1.0], [-1.0, 0.0], [0.0, -1.0]], [9.0, 9.0, 9.0])),
        ((30, 4, 3, 2), None),  # a chart of fewer coordinates
        ((2, 2), None),  # one region
    ],
)
@pytest.mark.parametrize("store_maps", [True, False])
def test_tree_and_deep_network_agree(sizes: tuple[int, ...], domain: Box | None, store_maps: bool) -> None:
    torch.manual_seed(2)
    model = chain(*sizes).double()
    shallow = transform(model, domain=domain, store_maps=store_maps)
    for seed in range(2):
        start, end = ends(Specimen("", nn.Identity, (sizes[0],)), seed)
        deep, tree = segment(model, start, end), segment(shallow, start, end)
        check(tree, model, start, end)
        assert torch.allclose(deep.t, tree.t, rtol=0.0, atol=1e-12)
        assert torch.allclose(deep.gradients, tree.gradients, rtol=0.0, atol=1e-12)
        assert torch.equal(shallow.locate(tree.midpoints), tree.regions)
        assert tree.patterns is None
        merged = segment(shallow.merge(), start, end) if store_maps else tree
        assert len(merged) <= len(tree)
        check(merged, model, start, end)


def test_many_segments_at_once() -> None:
    torch.manual_seed(0)
    model = chain(3, 6, 5, 2).double()
    start, end = torch.randn(2, 8, 3, dtype=torch.float64)
    for f in (model, transform(model)):
        read = function.read_function(f, start)
        grid, regions = pieces(read, start, end)
        assert (regions is None) == (f is model)
        assert torch.equal(grid.segment, grid.segment.sort().values)
        for number in range(8):
            assert torch.allclose(grid.t[grid.segment == number], segment(f, start[number], end[number]).t, atol=1e-12)


def test_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = chain(4, 30, 20, 2).double()
    start, end = 5.0 * torch.randn(2, 4, dtype=torch.float64)
    expected = segment(model, start, end)
    monkeypatch.setattr(deep, "VALUES_AT_ONCE", 1)
    monkeypatch.setattr(deep, "FEWEST", 3)
    found = segment(model, start, end)
    assert torch.allclose(found.t, expected.t, atol=1e-12)
    assert torch.equal(found.patterns, expected.patterns)


def test_degenerate_segments() -> None:
    absolute = nn.Sequential(linear([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]], [0.0] * 3), nn.ReLU(), nn.Linear(3, 2))
    absolute = absolute.double()
    for f in (absolute, transform(absolute)):
        along = segment(f, torch.tensor([0.0, -1.0]), torch.tensor([0.0, 1.0]))  # along x0 = 0
        assert along.t.tolist() == [0.0, 0.5, 1.0]
        vertex = segment(f, torch.tensor([-1.0, -2.0]), torch.tensor([1.0, 2.0]))  # through the vertex at 0
        assert vertex.t.tolist() == [0.0, 0.5, 1.0]
        check(vertex, absolute, vertex.start, vertex.end)
        point = segment(f, torch.tensor([0.5, 0.25]), torch.tensor([0.5, 0.25]))
        assert point.t.tolist() == [0.0, 1.0]
        assert torch.allclose(point.values[0], absolute(point.start))
        touching = segment(f, torch.tensor([0.0, 1.0]), torch.tensor([1.0, 1.0]))  # starts on a boundary
        assert len(touching) == 1
        check(touching, absolute, touching.start, touching.end)


@pytest.mark.parametrize("scale", [1e-9, 1e9])
def test_scales(scale: float) -> None:
    torch.manual_seed(0)
    model = chain(2, 6, 5, 1).double()
    start, end = 3.0 * torch.randn(2, 2, dtype=torch.float64)
    expected = segment(model, start, end)
    with torch.no_grad():
        model[0].weight *= scale
        model[0].bias *= scale
        model[2].weight /= scale
    assert torch.allclose(segment(model, start, end).t, expected.t, atol=1e-10)


def test_trained_and_visited_networks() -> None:
    torch.manual_seed(0)
    model = chain(2, 5, 1).double()
    start, end = torch.tensor([-3.0, -2.0]), torch.tensor([3.0, 2.5])
    shallow = transform(model)
    with torch.no_grad():
        shallow.unfreeze().selection.biases += torch.randn(shallow.num_regions, 1)
    found = segment(shallow, start, end)
    assert (found.ends[:-1, 1] - found.ends[1:, 0]).abs().max() > 0.1  # it jumps
    assert torch.allclose(found.ends.mean(1), shallow(found.midpoints).detach())
    visited = transform(model, data=torch.randn(10, 2))
    assert torch.equal(segment(visited, start, end).t, segment(model, start, end).t)
    with_head = transform(nn.Sequential(model, nn.Sigmoid()))
    assert torch.allclose(segment(with_head.trunk, start, end).t, segment(model, start, end).t)


def test_refusals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    model = chain(2, 6, 5, 1)
    boxed, zeros, ones = transform(model, domain=Box(-1.0, 1.0)), torch.zeros(2), torch.ones(2)
    segment(boxed, zeros, ones)
    with pytest.raises(TransformError, match="found the end of 1 of 1 outside"):
        segment(boxed, zeros, 2.0 * ones)
    with pytest.warns(UserWarning, match="incomplete|stopped|budget"):
        incomplete = transform(model, max_regions=3)
    with pytest.raises(TransformError, match="unexplored cells"):
        segment(incomplete, -9.0 * ones, 9.0 * ones)
    with pytest.raises(TransformError, match="end: expected one input"):
        segment(model, zeros, torch.ones(1, 2))
    with pytest.raises(TransformError, match="start: expected a floating-point tensor"):
        segment(model, torch.zeros(2, dtype=torch.int64), ones)
    with pytest.raises(TransformError, match="shortest"):
        segment(model, zeros, ones, shortest=1.0)
    with pytest.raises(TransformError, match="finite"):
        segment(model, zeros, ones * torch.inf)


def test_float32_and_repr() -> None:
    model = chain(2, 4, 3, 2)
    found = segment(model, torch.zeros(2), torch.ones(2))
    check(found, chain_in_float64(model), found.start, found.end)
    assert repr(found).startswith(f"Segment({len(found)} piece")
    assert all(len(found.maps(slice(k, k + 1))[1]) == 1 for k in range(len(found)))
    pairs = itertools.pairwise(found.patterns.tolist())
    assert all(a != b for a, b in pairs)


def chain_in_float64(model: nn.Module) -> nn.Module:
    """The same weights."""
    copy = chain(2, 4, 3, 2)
    copy.load_state_dict(model.state_dict())
    return copy.double()
