"""Integrated gradients: completeness, and Captum's conventions and limit."""

from __future__ import annotations

from typing import Any

import jaxtyping
import pytest
import torch
from torch import Tensor, nn

from tests import zoo
from tests.explain.test_segment import Detached, InPlace
from tests.piecewise_models import digits_cnn
from tests.zoo import Specimen, chain
from torch_shallow import Box, TransformError, transform
from torch_shallow.explain.integrated_gradients import integrated_gradients
from torch_shallow.explain.segments import deep_segments as deep
from torch_shallow.explain.segments.segment import segment

captum = pytest.importorskip("captum.attr")

KINDS = (
    "residual", "densely connected", "LeakyReLU", "recurrent cell", "pooled image", "no ReLU", "zero weights",
    "dead neurons", "one input", "tent 5", "integer grid", "braid 4",
)  # fmt: skip
SPECIMENS = [specimen for specimen in zoo.ALL if specimen.name in KINDS]


def by_captum(model: nn.Module, steps: int, *arguments: Any, **options: Any) -> Any:
    """What Captum finds with so many steps."""
    return captum.IntegratedGradients(model).attribute(*arguments, n_steps=steps, **options)


@pytest.mark.parametrize(
    ("specimen", "dtype"),
    [
        *((specimen, torch.float64) for specimen in SPECIMENS),
        *((specimen, torch.float32) for specimen in SPECIMENS if specimen.name in ("residual", "integer grid")),
    ],
    ids=str,
)
def test_complete_and_what_each_piece_says(specimen: Specimen, dtype: torch.dtype) -> None:
    model = specimen.model(dtype)
    torch.manual_seed(1)
    x, baselines = 2.0 * torch.randn(2, 2, *specimen.in_shape, dtype=dtype)
    with torch.no_grad():
        target = None if model(x)[0].numel() == 1 else 1
    found, delta = integrated_gradients(model, x, baselines, target, return_convergence_delta=True)
    assert found.dtype == delta.dtype == dtype
    assert found.shape == x.shape
    assert delta.shape == (2,)
    size = 1.0 + found.abs().flatten(1).sum(1)
    assert (delta.abs() <= 1e-9 * size).all()
    for row in range(2):  # one piece after the other
        cut = segment(model, baselines[row], x[row])
        gradients = cut.gradients.reshape(len(cut), -1, *specimen.in_shape)[:, target or 0]
        lengths = cut.t.diff().reshape(-1, *[1] * (gradients.dim() - 1))
        expected = (cut.end - cut.start) * (lengths * gradients).sum(0)
        assert torch.allclose(found[row].double(), expected, rtol=0.0, atol=(1e-11 if dtype is torch.float64 else 1e-5))


@pytest.mark.parametrize("name", ["residual", "GroupSort", "nested"])
def test_captum_converges_to_it(name: str) -> None:
    specimen = next(specimen for specimen in zoo.ALL if specimen.name == name)
    model, generator = specimen.model(), torch.Generator().manual_seed(3)
    x, baselines = torch.randn(2, 2, *specimen.in_shape, dtype=torch.float64, generator=generator)
    target = int(model(x)[0].numel() > 1)
    found = integrated_gradients(model, x, baselines, target)
    errors = [
        (by_captum(model, n, x, baselines, target, method="riemann_middle") - found).abs().max() for n in (10, 2000)
    ]
    assert errors[1] <= 2e-3 * found.abs().max()
    assert errors[1] <= 0.1 * errors[0] + 1e-12


class Grid(nn.Module):
    """A linear function with outputs in two dimensions."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x).reshape(-1, 4, 2)


X = torch.tensor([[1.0, -2.0, 0.5], [0.25, 4.0, -1.0]], dtype=torch.float64)


BASELINES = (None, 0.5, 2, X[:1], X.flip(0), (X[:1],), (1.5,))
TARGETS = (2, -1, [1, 3], torch.tensor(2), torch.tensor([1, 3]), torch.tensor([3]), (2,))


@pytest.mark.parametrize("inputs", [X, (X,)])
@pytest.mark.parametrize(("baselines", "target"), [*((b, 2) for b in BASELINES), *((X[:1], t) for t in TARGETS)])
def test_conventions_of_captum(inputs: Any, baselines: Any, target: Any) -> None:
    torch.manual_seed(0)
    model = nn.Linear(3, 4).double()
    found = integrated_gradients(model, inputs, baselines, target, return_convergence_delta=True)
    expected = by_captum(model, 3, inputs, baselines, target, return_convergence_delta=True)
    assert type(found[0]) is type(expected[0])
    ours, theirs = (pair[0][0] if isinstance(inputs, tuple) else pair[0] for pair in (found, expected))
    assert ours.dtype == theirs.dtype
    # Captum rounds the sizes of its steps to float32.
    assert torch.allclose(ours, theirs, rtol=1e-6, atol=1e-6)
    assert found[1].shape == expected[1].shape
    assert found[1].dtype == expected[1].dtype


@pytest.mark.parametrize("target", [(1, 0), [(1, 0), (3, 1)], (-1, -1)])
def test_targets_of_several_dimensions(target: Any) -> None:
    torch.manual_seed(0)
    model = Grid().double()
    expected = by_captum(model, 3, X, None, target)
    assert torch.allclose(integrated_gradients(model, X, None, target), expected, rtol=1e-6, atol=1e-6)


def test_equal_to_weights_times_inputs() -> None:
    model = nn.Linear(3, 1).double()
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[2.0, -0.5, 4.0]]))
    assert torch.equal(integrated_gradients(model, X), X * torch.tensor([2.0, -0.5, 4.0]))
    assert torch.equal(integrated_gradients(transform(model), X), X * torch.tensor([2.0, -0.5, 4.0]))


def test_sign_of_the_delta_of_a_network_that_jumps() -> None:
    torch.manual_seed(0)
    shallow = transform(chain(2, 5, 2).double())
    x = 3.0 * torch.randn(6, 2, dtype=torch.float64)
    baselines = 3.0 * torch.randn(6, 2, dtype=torch.float64)
    with torch.no_grad():
        shallow.unfreeze().selection.biases += torch.randn(shallow.num_regions, 2)
    with pytest.raises(TransformError, match="jumps between regions"):
        integrated_gradients(shallow, x, baselines, 1)
    found, delta = integrated_gradients(shallow, x, baselines, 1, return_convergence_delta=True)
    expected = found.sum(1) - (shallow(x) - shallow(baselines))[:, 1]
    assert torch.allclose(delta, expected.detach())
    assert delta.abs().max() > 0.1
    for row in range(6):
        ends = segment(shallow, baselines[row], x[row]).ends[..., 1]
        assert torch.allclose(-(ends[1:, 0] - ends[:-1, 1]).sum(), delta[row])


@pytest.mark.parametrize("store_maps", [True, False])
@pytest.mark.parametrize(("sizes", "domain"), [((2, 6, 5, 3), Box(-20.0, 20.0)), ((30, 4, 3, 2), None), ((2, 2), None)])
def test_shallow_and_deep_agree(sizes: tuple[int, ...], domain: Box | None, store_maps: bool) -> None:
    torch.manual_seed(0)
    model = chain(*sizes)
    shallow = transform(model, domain=domain, store_maps=store_maps)
    x, baselines = 3.0 * torch.randn(2, 7, sizes[0])
    target = torch.randint(sizes[-1], (7,))
    expected = integrated_gradients(model, x.double(), baselines.double(), target)
    for f in (shallow, shallow.merge() if store_maps else shallow, transform(model, data=x)):
        found = integrated_gradients(f, x.double(), baselines.double(), target)
        assert torch.allclose(found, expected, rtol=0.0, atol=1e-12 * max(1.0, float(expected.abs().max())))
    assert torch.allclose(integrated_gradients(shallow, x, baselines, target), expected.float(), atol=1e-5)


@pytest.mark.parametrize("image", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_blocks_and_stages_by_themselves(monkeypatch: pytest.MonkeyPatch, image: bool) -> None:
    torch.manual_seed(0)
    model = (digits_cnn(8) if image else chain(4, 12, 9, 3)).double().eval()
    x = torch.rand(2, *((1, 8, 8) if image else (4,)), dtype=torch.float64)
    start = x - 0.1 if image else -0.5
    expected = integrated_gradients(model, x, start, [1, 2])
    monkeypatch.setattr(deep, "VALUES_AT_ONCE", 100_000 if image else 1)
    monkeypatch.setattr(deep, "FEWEST", 4)
    assert torch.allclose(integrated_gradients(model, x, start, [1, 2]), expected, rtol=0.0, atol=1e-13)
    monkeypatch.setattr(deep.Sweep, "of", staticmethod(lambda _: None))
    assert torch.allclose(integrated_gradients(model, x, start, [1, 2]), expected, rtol=0.0, atol=1e-13)


@pytest.mark.parametrize("kind", [InPlace, Detached])
def test_code_that_hides_values(kind: type[nn.Module]) -> None:
    torch.manual_seed(0)
    model = kind().double()
    x = 3.0 * torch.randn(5, 3, dtype=torch.float64)
    found, delta = integrated_gradients(model, x, None, 0, return_convergence_delta=True)
    assert delta.abs().max() < 1e-12
    with torch.no_grad():
        assert torch.allclose(found.sum(1), (model(x) - model(0.0 * x))[:, 0])


def test_what_is_given_stays_as_it_is() -> None:
    torch.manual_seed(0)
    model = chain(3, 5, 2)
    x = torch.randn(4, 3, requires_grad=True)
    before = [p.clone() for p in model.parameters()]
    found = integrated_gradients(model, x, target=0)
    assert not found.requires_grad
    assert x.grad is None
    assert all(p.grad is None and torch.equal(p, old) for p, old in zip(model.parameters(), before, strict=True))
    with torch.inference_mode():
        assert torch.equal(integrated_gradients(model, x.detach().clone(), target=0), found)
    assert integrated_gradients(model, x[:0], target=0).shape == (0, 3)
    assert torch.equal(integrated_gradients(model, x, x, 0), torch.zeros(4, 3))
    halves = integrated_gradients(model, x.detach().half(), target=0)
    assert halves.dtype == torch.float16
    assert torch.allclose(halves.float(), found, atol=5e-3)


def test_refusals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    model = chain(3, 5, 2).double()
    with pytest.raises(TransformError, match="found 2; networks of several inputs"):
        integrated_gradients(model, (X, X), target=0)
    with pytest.raises(TransformError, match="found no target"):
        integrated_gradients(model, X)
    for target in (2, (0, 0), [0, 2], [0], "0", [[0], [1]], torch.tensor([0.0]), torch.tensor([[0], [1]]), 1.0):
        with pytest.raises(TransformError, match=r"^target: "):
            integrated_gradients(model, X, target=target)
    for target in (True, [True, True], (True,), (slice(None),)):
        with pytest.raises(TransformError, match=r"^target: "):
            integrated_gradients(chain(3, 5, 1).double(), X, target=target)
    for baselines in (torch.zeros(3), torch.zeros(2, 2), "0", (0.0, 0.0), torch.nan):
        with pytest.raises(TransformError, match=r"^baselines: "):
            integrated_gradients(model, X, baselines, 0)
    with pytest.raises(TransformError, match=r"^inputs: "):
        integrated_gradients(model, X[0], target=0)
    with pytest.raises(TransformError, match=r"^inputs: expected a floating-point tensor"):
        integrated_gradients(model, X.long(), target=0)
    with pytest.raises(TransformError, match=r"behind its trunk; pass f.trunk"):
        integrated_gradients(transform(nn.Sequential(model, nn.Softmax(1))), X, target=0)
    with pytest.raises(TransformError, match="domain contains both ends"):
        integrated_gradients(transform(model, domain=Box(-1.0, 1.0)), X, target=0)


class Swamped(nn.Module):
    """The sum of its inputs, which rounding takes away: next to 2^60, neighbours in float64 are 256 apart."""

    def forward(self, x: Tensor) -> Tensor:
        return (x.sum(-1, keepdim=True) + 2.0**60) - 2.0**60


def test_attributions_that_are_not_complete_are_refused() -> None:
    assert not Swamped()(X).any()
    with pytest.raises(TransformError, match=r"sum to the difference .* rounding inside the network is that large"):
        integrated_gradients(Swamped(), X)
    found, delta = integrated_gradients(Swamped(), X, return_convergence_delta=True, tolerance=1e6)
    assert torch.equal(found, X)
    assert torch.equal(delta, X.sum(1))
