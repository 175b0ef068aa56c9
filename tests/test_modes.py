"""What is exact stays so in torch's modes: inference mode, autocast, and another default device or dtype."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import cvxpy
import pytest
import torch
from torch import Tensor, nn

from torch_shallow import (
    AtMost,
    Box,
    ShallowReLU,
    constraints,
    count,
    estimate,
    explain,
    iter_regions,
    simplify,
    transform,
    verify,
)

BOX = Box(-2.0, 2.0)


@pytest.fixture(scope="module")
def model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 2))


@pytest.fixture(scope="module")
def shallow(model: nn.Sequential) -> ShallowReLU:
    return transform(model, domain=BOX)


@contextmanager
def half_precision() -> Any:
    torch.set_default_dtype(torch.bfloat16)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


ENGINES = ("rays", "relaxation", "backward", "milp")
X = torch.rand(8, 3, generator=torch.Generator().manual_seed(0))
MODES: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "inference": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu"),
    "meta": lambda: torch.device("meta"),
    "bfloat16": half_precision,
}


def greatest(model: nn.Module) -> float:
    """The greatest first output, by a mixed-integer program."""
    x, y = cvxpy.Variable(3), cvxpy.Variable(2)
    return float(cvxpy.Problem(cvxpy.Maximize(y[0]), constraints(model, x, y, BOX)).solve(solver="HIGHS"))


CALLS: dict[str, Callable[[nn.Module, ShallowReLU], Any]] = {
    "transform": lambda m, s: transform(m, domain=BOX).num_regions,
    "by data": lambda m, s: transform(m, data=X).num_regions,
    "constraints": lambda m, s: greatest(m),
    "count": lambda m, s: count(m, domain=BOX).regions,
    "iter_regions": lambda m, s: sum(int(region.pattern.sum()) for region in iter_regions(m, domain=BOX)),
    "estimate": lambda m, s: estimate(m, domain=BOX).regions,
    "simplify": lambda m, s: simplify(m, BOX, max_regions=2).error,
    "certify": lambda m, s: s.certify(m, sample=5).passed,
    "counterfactual": lambda m, s: explain.counterfactual(m, X[0], 1).distance,
    "integrated gradients": lambda m, s: explain.integrated_gradients(m, X, target=1),
    "explain": lambda m, s: str(explain.explain(s, X[0])),
    "range": lambda m, s: explain.output_range(m, BOX).lower,
    "ranges by every engine": lambda m, s: sum(float(explain.output_range(m, BOX, method=e).upper[0]) for e in ENGINES),
    "verify": lambda m, s: verify(m, BOX, AtMost(0.1)).holds,
    "slope": lambda m, s: explain.lipschitz_constant(m, domain=BOX).value,
    "monotonicity": lambda m, s: explain.monotonicity(m, BOX).least,
    "volumes": lambda m, s: explain.volumes(s).values,
    "moments": lambda m, s: explain.moments(s).mean,
    "SHAP": lambda m, s: str(explain.shap_values(m, X[:2], X[2:]).values),
    "difference": lambda m, s: explain.difference(m, s).largest,
    "segment": lambda m, s: str(explain.segment(m, X[0], X[1])),
    "merge": lambda m, s: s.merge().num_regions,
    "gap": lambda m, s: s.continuity_gap().value,
    "facets": lambda m, s: s.regions[0].facets().A,
    "soften": lambda m, s: s.soften(3.0)(X),
    "forward": lambda m, s: s(X),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
def test_results_are_those_of_no_mode(
    call: Callable[[nn.Module, ShallowReLU], Any],
    mode: Callable[[], AbstractContextManager[Any]],
    model: nn.Sequential,
    shallow: ShallowReLU,
) -> None:
    expected = call(model, shallow)
    with mode():
        found = call(model, shallow)
    if isinstance(expected, Tensor):
        torch.testing.assert_close(found.detach(), expected.detach(), rtol=1e-6, atol=1e-6)
    else:
        assert found == pytest.approx(expected, rel=1e-6) if isinstance(expected, float) else found == expected
