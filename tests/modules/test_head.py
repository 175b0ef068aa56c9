"""What follows the trunk is kept, and what is not known stays unknown behind it."""

from __future__ import annotations

import copy

import jaxtyping
import pytest
import torch
from torch import Tensor, nn

from tests.modules.laws import assert_equal
from tests.zoo import chain
from torch_shallow import Box, ShallowReLU, TransformError, transform
from torch_shallow.certify import certify
from torch_shallow.domain import Domain, WholeSpace
from torch_shallow.modules.visited_relu import visited_network
from torch_shallow.program.model import Model, read_model
from torch_shallow.search.enumerate import enumerate_regions


class Hides(nn.Module):
    """A head that would make something of a NaN, and that leaves float64."""

    def forward(self, y: Tensor) -> Tensor:
        return torch.softmax(y.nan_to_num(), -1, dtype=torch.float32)[:, :, None]


class Scaled(nn.Module):
    """A head with numbers of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", torch.tensor([1.0, 2.0, 3.0]))

    def forward(self, y: Tensor) -> Tensor:
        return torch.tanh(y) * self.scale


class Largest(nn.Module):
    def forward(self, y: Tensor) -> Tensor:
        return y.argmax(-1)


HEADS = [nn.Softmax(-1), nn.Sequential(nn.LogSoftmax(-1)), Scaled(), Hides()]


def networks(head: nn.Module, domain: Domain | None = None) -> tuple[nn.Module, list[ShallowReLU]]:
    torch.manual_seed(0)
    trunk, head = chain(2, 6, 4, 3).double(), copy.deepcopy(head).double()
    domain = domain or WholeSpace()
    complete = ShallowReLU(enumerate_regions(read_model(trunk), domain), head=head)
    read = Model.of(nn.Sequential(trunk, head))
    return nn.Sequential(trunk, head), [complete, visited_network(read, torch.rand(200, 2), domain)]


@pytest.mark.parametrize("head", HEADS, ids=lambda head: type(head).__name__)
def test_head_of_trunk(head: nn.Module) -> None:
    model, both = networks(head, Box(0.0, 1.0))
    x = torch.rand(50, 2, dtype=torch.float64)
    for shallow in both:
        x = x[shallow.locate(x) >= 0]
        expected = model(x).detach()
        assert shallow.head is not None
        assert shallow.trunk_shape == (3,)
        assert shallow.out_shape == expected.shape[1:]
        assert_equal(shallow(x), expected, 1e-6 if isinstance(head, Hides) else 1e-12)
        assert_equal(shallow.trunk(x), model[0](x).detach(), 1e-12)
        assert shallow(x.float()).dtype == torch.float32
        assert_equal(shallow(x.float()), expected, 1e-5)
        assert shallow(x.reshape(5, -1, 2)[:, :3]).shape == (5, 3, *shallow.out_shape)
        assert shallow.local_map(x)[0].shape == (len(x), 3, 2)
        assert shallow.regions[0].weight.shape == (3, 2)
        outside = torch.tensor([[2.0, 2.0], [0.5, torch.nan]])
        assert shallow(outside).isnan().all()
        assert shallow.trunk(outside).isnan().all()


@pytest.mark.parametrize("number", [0, 1])
def test_whole_numbers_have_no_nan(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    model, both = networks(Largest(), Box(0.0, 1.0))
    shallow, x = both[number], torch.rand(200, 2)
    x = x[shallow.locate(x) >= 0]
    assert shallow.out_shape == ()
    assert torch.equal(shallow(x), model(x.double()))
    assert shallow(x).dtype == torch.int64
    x[:3] = -1.0
    with pytest.raises(
        TransformError, match=rf"x: expected inputs in known regions, .* found 3 of {len(x)} outside them"
    ):
        shallow(x)


def test_gradients_pass_through_the_head() -> None:
    model, both = networks(nn.Softmax(-1))
    for shallow in both:
        x = torch.rand(10, 2, dtype=torch.float64)
        x = x[shallow.locate(x) >= 0].requires_grad_()
        (found,) = torch.autograd.grad(shallow(x)[:, 0].sum(), x)
        (expected,) = torch.autograd.grad(model(x)[:, 0].sum(), x)
        assert_equal(found, expected, 1e-12)


def test_the_head_stays_float64() -> None:
    _, both = networks(HEADS[2])
    x = torch.rand(10, 2, dtype=torch.float64)
    for shallow in both:
        expected = shallow(x)
        shallow.half()
        assert all(tensor.dtype == torch.float64 for tensor in shallow.head.buffers())
        assert torch.equal(shallow(x).nan_to_num(), expected.nan_to_num())


def test_the_traced_graph_has_the_head(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # a proxy is no tensor
    _, (shallow, _) = networks(nn.Softmax(-1), Box(0.0, 1.0))
    traced = torch.fx.symbolic_trace(shallow)
    x = 2 * torch.rand(100, 2)
    assert torch.equal(traced(x).nan_to_num(), shallow(x).nan_to_num())
    assert "head" in {str(node.target) for node in traced.graph.nodes if node.op == "call_module"}


@pytest.mark.parametrize("head", [*HEADS[:3], Largest()], ids=lambda head: type(head).__name__)
def test_certificates(head: nn.Module) -> None:
    model, both = networks(head, Box(0.0, 1.0))
    for shallow in both:
        names = [check.name for check in certify(shallow, model, sample=5, cells=20, points=200).require().checks]
        assert any("behind the head" in name for name in names)
        for parameter in model[0].parameters():
            parameter.data += 0.125
        assert not certify(shallow, model, sample=5, cells=20, points=200).passed
        for parameter in model[0].parameters():
            parameter.data -= 0.125


def test_a_head_must_keep_the_batch() -> None:
    class Sums(nn.Module):
        def forward(self, y: Tensor) -> Tensor:
            return y.exp().sum()

    partition = enumerate_regions(read_model(chain(2, 3, 3)), WholeSpace())
    with pytest.raises(TransformError, match="with the batch as its first dimension"):
        ShallowReLU(partition, head=Sums())


def test_complex_outputs_are_refused() -> None:
    class Complex(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = chain(2, 3, 2)

        def forward(self, x: Tensor) -> Tensor:
            return 1j * self.body(x)

    for arguments in ({}, {"data": torch.rand(5, 2)}):
        with pytest.raises(TransformError, match=r"floating-point tensor as its output, found torch\.complex"):
            transform(Complex(), **arguments)
