"""Segments by events: the links that are read are the network's, and averages those of piece after piece."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from tests import zoo
from tests.cases import examples
from tests.explain.test_segment import InPlace, Reshaped, ends
from tests.piecewise_models import digits_cnn
from tests.zoo import Specimen, chain
from torch_shallow.explain.function import read_function
from torch_shallow.explain.integrated_gradients import integrated_gradients
from torch_shallow.explain.segments import kinetic as kinetic_module
from torch_shallow.explain.segments.deep_segments import deep_average_gradients, deep_breakpoints
from torch_shallow.explain.segments.kinetic import Kinetic
from torch_shallow.functions import links
from torch_shallow.functions.deep_function import DeepFunction
from torch_shallow.functions.links import Links

pytestmark = pytest.mark.quick


class Strided(nn.Module):
    """Convolutions in one and two dimensions, of all options."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 4, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2), groups=2)
        self.second = nn.Conv2d(4, 6, 2, padding=1, groups=2, bias=False)
        self.third, self.norm, self.last = nn.Conv1d(6, 3, 3, stride=2, padding=1), nn.BatchNorm1d(3), nn.Linear(12, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.second(torch.relu(self.first(x))))
        g = torch.relu(self.norm(self.third(h.flatten(2)[:, :, :8])))
        return self.last(torch.relu(2.0 * g - h[:, :3, 0, :1]).flatten(1))


def read(model: nn.Module, shape: tuple[int, ...]) -> DeepFunction:
    """A model as what is followed."""
    function = read_function(model.double().eval(), torch.zeros(1, *shape, dtype=torch.float64))
    assert isinstance(function, DeepFunction)
    return function


def entered(function: DeepFunction, left: Tensor) -> Tensor:
    """What enters the neurons at the input 0, if this leaves them."""
    found = [torch.zeros(1, 0, dtype=torch.float64)]

    def rule(stage: int, z: Tensor) -> Tensor:
        found.append(z.clone())
        return left[None, function.offsets[stage] : function.offsets[stage + 1]]

    with torch.no_grad():
        function.run(torch.zeros(1, function.num_inputs, dtype=torch.float64), rule)
    return torch.cat(found, 1)[0]


def by_links(known: Links, left: Tensor) -> Tensor:
    """What enters the neurons by their links, constants left out."""
    values = torch.zeros(known.weights.shape[0], dtype=torch.float64)
    values[torch.from_numpy(known.neurons)] = left
    result = torch.zeros_like(values)
    for unit in range(len(values)):
        result[unit] = float((known.weights[[unit]] @ values.numpy())[0])
        if not known.are_neurons[unit]:
            values[unit] = result[unit]
    return result[torch.from_numpy(known.neurons)]


@pytest.mark.parametrize("specimen", [*zoo.ALL, Specimen("strided", Strided, (2, 5, 5))], ids=str)
def test_links_are_what_enters(specimen: Specimen) -> None:
    function = read(specimen.model(), specimen.in_shape)
    known = function.links
    if known is None:
        pytest.skip("an operation whose matrix is not known")
    left = torch.randn(function.num_neurons, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = entered(function, left) - entered(function, 0.0 * left)
    assert torch.allclose(by_links(known, left), expected, rtol=0.0, atol=1e-10 * (1.0 + float(expected.abs().sum())))


def by_pieces(function: DeepFunction, start: Tensor, end: Tensor, outputs: Tensor) -> Tensor:
    """Average gradients, from the pattern in the middle of each piece."""
    grid = deep_breakpoints(function, start, end)
    weight, _ = function.gradients(function.signs(grid.midpoints(start, end)))
    segment, lengths = grid.segment[grid.starts_piece], grid.lengths[grid.starts_piece]
    gradients = torch.einsum("po,poi->pi", outputs[segment] * lengths[:, None], weight)
    return torch.zeros_like(start).index_add_(0, segment, gradients)


@pytest.mark.parametrize("specimen", [*zoo.ALL, Specimen("strided", Strided, (2, 5, 5))], ids=str)
def test_averages_are_those_of_all_pieces(specimen: Specimen) -> None:
    function = read(specimen.model(), specimen.in_shape)
    kinetic = Kinetic.of(function)
    if kinetic is None:
        pytest.skip("its links or its gradients are not known")
    start, end = (torch.stack(x).flatten(1) for x in zip(ends(specimen, 0), ends(specimen, 1), strict=True))
    outputs = torch.randn(2, function.num_outputs, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    found, expected = kinetic.gradients(start, end, outputs), by_pieces(function, start, end, outputs)
    assert not found.isnan().any()
    error = ((found - expected) * (end - start)).abs().max()
    assert error <= 1e-11 * (1.0 + float((expected * (end - start)).abs().max()))


@given(st.integers(0, 10_000), st.sampled_from([(2, 8, 6, 5, 2), (3, 12, 12, 1), (1, 5, 5, 5, 5, 2)]), st.booleans())
@examples(15)
def test_ties_and_boundaries(seed: int, sizes: tuple[int, ...], bias: bool) -> None:
    """Small whole weights: neurons that are 0 on the whole way, or change sign together."""
    generator = torch.Generator().manual_seed(seed)
    model = chain(*sizes, bias=bias)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randint(-1, 2, parameter.shape, generator=generator))
    function = read(model, sizes[:1])
    start, end = torch.randint(-2, 3, (2, 4, sizes[0]), generator=generator).double()
    outputs = torch.eye(sizes[-1], dtype=torch.float64)[torch.zeros(4, dtype=torch.int64)]
    kinetic = Kinetic.of(function)
    assert kinetic is not None
    found = kinetic.gradients(start, end, outputs)
    y = [function.run(x, lambda _, z: z.relu()) for x in (start, end)]
    assert torch.allclose((found * (end - start)).sum(1), (y[1] - y[0])[:, 0], rtol=0.0, atol=1e-10)
    assert torch.allclose(found, by_pieces(function, start, end, outputs), rtol=0.0, atol=1e-10)


def test_code_without_links() -> None:
    assert read(InPlace(), (3,)).links is None
    assert read(Reshaped(), (1, 4)).links is not None


def test_too_many_links(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "MOST_LINKS", 99)
    assert read(chain(3, 10, 10, 1), (3,)).links is None
    assert read(digits_cnn(8), (1, 8, 8)).links is None
    assert read(chain(3, 9, 9, 1), (3,)).links is not None


def test_deep_and_dense_networks_go_the_long_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kinetic_module, "MOST_DENSE", 20)
    assert Kinetic.of(read(chain(3, 6, 6, 6, 1), (3,))) is None
    assert Kinetic.of(read(chain(3, 6, 6, 1), (3,))) is not None
    assert Kinetic.of(read(digits_cnn(8), (1, 8, 8))) is not None


def test_what_does_not_end_where_the_network_does_goes_the_long_way() -> None:
    torch.manual_seed(0)
    function = read(chain(3, 8, 8, 1), (3,))
    start, end = 3.0 * torch.randn(2, 5, 3, dtype=torch.float64)
    outputs = torch.ones(5, 1, dtype=torch.float64)
    expected = deep_average_gradients(function, start, end, outputs)
    assert function.links is not None
    function.links = replace(function.links, weights=1.001 * function.links.weights)
    kinetic = Kinetic.of(function)
    assert kinetic is not None
    assert kinetic.gradients(start, end, outputs).isnan().any()
    assert torch.allclose(deep_average_gradients(function, start, end, outputs), expected, rtol=0.0, atol=1e-13)


def test_a_network_that_was_read_before() -> None:
    torch.manual_seed(0)
    model = chain(4, 9, 9, 3)
    x = torch.randn(6, 4)
    function = read_function(model, x)
    assert torch.equal(integrated_gradients(function, x, target=1), integrated_gradients(model, x, target=1))
