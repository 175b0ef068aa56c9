"""The robustness radius: against the nearest counterfactual, samples of the ball, and a mixed-integer program."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests import zoo
from tests.explain.milp import class_rows, milp_distance
from torch_shallow import Box, Polytope, TransformError, transform
from torch_shallow.explain import RobustnessRadius, counterfactual, robustness_radius

NORMS = (1, 2, math.inf)


def network(*sizes: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> nn.Sequential:
    """A network whose classes are near each other: biases of the output are taken from values that there are."""
    torch.manual_seed(seed)
    model = zoo.chain(*sizes).double()
    with torch.no_grad():
        model[-1].bias -= model(torch.randn(200, sizes[0]).double()).mean(0)
    return model.to(dtype)


def rows(count: int, dimension: int, seed: int = 0) -> Tensor:
    return torch.randn(count, dimension, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def nearest_of_all(model: nn.Module, x: Tensor, norm: float, classes: int) -> float:
    """The distance of the nearest counterfactual of another class."""
    label = int(model(x[None]).argmax())
    return min(counterfactual(model, x, c, norm).distance for c in range(classes) if c != label)


def is_sound(model: nn.Module, found: RobustnessRadius, x: Tensor) -> None:
    """Inside of the ball the class stays the same; at the change, it is another one."""
    rng = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for i, row in enumerate(x):
            radius = float(found.lower_bound[i])
            if math.isfinite(radius):
                steps = torch.randn(2000, len(row), dtype=torch.float64, generator=rng)
                steps = torch.cat([steps, steps.sign(), torch.eye(len(row)).double(), -torch.eye(len(row)).double()])
                steps *= (1.0 - 1e-9) * radius / torch.linalg.vector_norm(steps, found.norm, dim=1, keepdim=True)
                assert (model((row + steps).to(x.dtype)).argmax(1) == found.label[i]).all()
            if found.radius[i].isfinite():
                assert int(model(found.x[i : i + 1]).argmax()) == int(found.other[i])
                apart = float(torch.linalg.vector_norm((found.x[i] - row).double(), found.norm))
                assert apart == pytest.approx(float(found.radius[i]), rel=1e-5)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("sizes", [(2, 6, 5, 3), (3, 5, 4, 2)], ids=str)
def test_equals_the_nearest_counterfactual(sizes: tuple[int, ...], norm: float) -> None:
    model, x = network(*sizes, seed=sum(sizes)), rows(3, sizes[0])
    found = robustness_radius(model, x, norm)
    assert found.proven.all()
    assert found.reasons == ("",) * 3
    assert (found.gap <= 1e-8 * found.radius).all()
    expected = [nearest_of_all(model, row, norm, sizes[-1]) for row in x]
    np.testing.assert_allclose(found.radius.numpy(), expected, rtol=1e-7)
    is_sound(model, found, x)


@pytest.mark.parametrize("norm", NORMS)
def test_domains_cut_the_ball(norm: float) -> None:
    """The shallow network of the domain knows nothing else: its counterfactuals are the reference."""
    model, x = network(2, 6, 6, 3, seed=3), 0.3 * rows(2, 2, seed=1)
    for domain in (Box(-0.8, 0.8), Polytope([[1.0, 1.0], [-1.0, 0.2], [0.3, -1.0]], [1.0, 1.0, 1.0])):
        shallow = transform(model, domain=domain)
        expected = [nearest_of_all(shallow, row, norm, 3) for row in x]
        for network_of_any_kind in (model, shallow):
            found = robustness_radius(network_of_any_kind, x, norm, domain=domain)
            np.testing.assert_allclose(found.radius.numpy(), expected, rtol=1e-7)
            assert found.proven.all()
            changed = found.x[found.radius.isfinite()]
            assert domain.contains(changed).all()
            assert (found.x.isnan().all(1) == (found.other == -1)).all()


@pytest.mark.parametrize("norm", [1, math.inf])
def test_equals_a_mixed_integer_program(norm: float) -> None:
    model, x = network(4, 8, 8, 2, seed=5), rows(1, 4)
    found = robustness_radius(model, x, norm)
    reach = 1.1 * float(found.radius[0])
    expected = milp_distance(model, x[0], *class_rows(1 - int(found.label[0]), 2), norm, reach)
    assert float(found.radius[0]) == pytest.approx(expected, rel=1e-6)


def test_a_network_of_residuals_and_maxima() -> None:
    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(2, 4), nn.Linear(2, 2)

        def forward(self, x: Tensor) -> Tensor:
            pooled = torch.nn.functional.max_pool1d(self.first(x).unsqueeze(1), 2).squeeze(1)
            return self.last(torch.relu(pooled) + x)

    torch.manual_seed(2)
    model, x = Residual().double(), rows(2, 2)
    for norm in NORMS:
        found = robustness_radius(model, x, norm)
        np.testing.assert_allclose(found.radius, [nearest_of_all(model, row, norm, 2) for row in x], rtol=1e-7)


def test_a_known_ball_in_batches_and_both_precisions() -> None:
    """The class is the greatest entry: the distance is half of the difference in L-infinity, and so on."""
    model = nn.Sequential(zoo.linear(torch.eye(2).tolist(), [0.0, 0.0]), nn.ReLU(), nn.Identity())
    for dtype in (torch.float32, torch.float64):
        x = torch.tensor([[[3.0, 1.0], [1.0, 4.0]], [[2.0, 2.0], [-1.0, 2.0]]], dtype=dtype)
        for norm, factor in ((1, 1.0), (2, 0.5**0.5), (math.inf, 0.5)):
            found = robustness_radius(model.to(dtype), x, norm)
            assert found.radius.shape == (2, 2)
            assert found.x.shape == x.shape
            assert found.x.dtype == dtype
            # An entry below 0 is 0: there, it is enough if the other one moves.
            last = 1.5 if norm == math.inf else 2.0
            expected = torch.tensor([[2.0 * factor, 3.0 * factor], [0.0, last]], dtype=torch.float64)
            assert torch.allclose(found.radius, expected, rtol=1e-9)
            assert found.label.tolist() == [[0, 1], [0, 1]]
            assert found.other.tolist() == [[1, 0], [1, 0]]


def test_no_change_in_a_bounded_domain_is_proven_and_elsewhere_said() -> None:
    never = nn.Sequential(
        zoo.linear([[1.0], [0.0]], [0.0, 0.0]), nn.ReLU(), zoo.linear([[1.0, 0.0], [0.0, 0.0]], [1.0, 0.0])
    )
    x = torch.tensor([[0.5]])
    found = robustness_radius(never, x, domain=Box(-1.0, 1.0))
    assert found.radius.item() == found.lower_bound.item() == math.inf
    assert found.proven.all()
    assert found.gap.item() == 0.0
    assert found.x.isnan().all()
    assert found.other.item() == -1
    assert "to no other class" in str(found)
    endless = robustness_radius(never, x)
    assert not endless.proven.any()
    assert 1e5 < endless.lower_bound.item() < math.inf
    assert "the domain is unbounded" in endless.reasons[0]
    assert "the domain is unbounded" in str(endless)


def test_images_of_a_convolution() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 3)
    )
    x = torch.rand(1, 1, 6, 6)
    found = robustness_radius(model, x, domain=Box(0.0, 1.0))
    assert found.proven.all()
    assert found.x.shape == x.shape
    assert ((found.x >= 0.0) & (found.x <= 1.0) | found.x.isnan()).all()


def test_a_stopped_search_gives_an_interval() -> None:
    model, x = network(4, 10, 10, 3, seed=1), rows(3, 4)
    exact, stopped = robustness_radius(model, x), robustness_radius(model, x, time_limit=1e-9)
    assert stopped.cells == 0
    assert not stopped.proven.all()
    assert (stopped.lower_bound <= exact.radius).all()
    assert (stopped.lower_bound > 0.0).all()
    assert (exact.lower_bound <= stopped.radius * (1 + 1e-9)).all()
    assert all("time_limit=1e-09" in reason or ok for reason, ok in zip(stopped.reasons, stopped.proven, strict=True))
    assert "time_limit" in str(stopped)


def test_workers_do_not_matter() -> None:
    model, x = network(3, 8, 8, 3, seed=2), rows(1, 3)
    one, two = robustness_radius(model, x), robustness_radius(model, x, workers=2)
    assert torch.equal(one.x, two.x)
    assert torch.equal(one.lower_bound, two.lower_bound)
    assert one.cells == two.cells


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"norm": 3}, r"^norm: expected 1, 2 or math.inf"),
        ({"norm": "2"}, r"^norm: expected 1, 2 or math.inf"),
        ({"tolerance": 0.0}, r"^tolerance: expected"),
        ({"time_limit": -1.0}, r"^time_limit: expected"),
        ({"domain": Box(10.0, 11.0)}, r"^x: expected inputs of the domain"),
        ({"domain": "everywhere"}, r"^domain: expected"),
    ],
)
def test_refusals(arguments: dict[str, object], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import jaxtyping

    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(TransformError, match=message):
        robustness_radius(network(2, 4, 2), rows(1, 2), **arguments)


def test_what_has_no_classes_or_is_no_network() -> None:
    with pytest.raises(TransformError, match="counterfactual"):
        robustness_radius(network(2, 4, 1), rows(1, 2))
    with pytest.raises(TransformError, match="trunk"):
        robustness_radius(nn.Sequential(*network(2, 4, 2), nn.Softmax(1)), rows(1, 2))
    with pytest.raises(TypeError, match="model"):
        robustness_radius(torch.relu, rows(1, 2))
    shallow = transform(nn.Sequential(*network(2, 4, 2), nn.Softmax(1)))
    assert robustness_radius(shallow.trunk, rows(1, 2)).proven.all()
