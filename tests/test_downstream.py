"""A program that uses the package, as its users write it: what it says of types is checked by mypy and pyright.

`make lint` checks this file against the source, and `python -m benchmarks.matrix` against the installed wheel. When it
runs, the values are of the types that are asserted.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from typing_extensions import assert_type

import torch_shallow
from torch_shallow import (
    AtLeast,
    AtMost,
    Box,
    Certificate,
    Estimate,
    IncompleteWarning,
    Region,
    RegionCount,
    ShallowReLU,
    SimplifiedReLU,
    TransformError,
    Verdict,
    VisitedReLU,
    explain,
    export,
    plot,
)
from torch_shallow.explain import (
    Counterfactual,
    Difference,
    Explanation,
    Features,
    LipschitzConstant,
    Monotonicity,
    OutputRange,
    RobustnessRadius,
    Rules,
    RuleSet,
    SameClass,
    Segment,
)
from torch_shallow.export import CCode

BOX = Box([-1.0, -1.0], [1.0, 1.0])


def network(outputs: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, outputs))


def test_transform_and_what_it_gives(tmp_path: Path) -> None:
    model, x = network(), torch.rand(5, 2)
    shallow = torch_shallow.transform(model, domain=BOX)
    assert_type(shallow, ShallowReLU)
    assert isinstance(shallow, ShallowReLU)
    visited = torch_shallow.transform(model, data=x)
    assert_type(visited, VisitedReLU)
    assert isinstance(visited, VisitedReLU)

    assert_type(shallow.num_regions, int)
    assert_type(shallow.complete, bool)
    assert_type(shallow.locate(x), Tensor)
    assert_type(shallow.max_error, float)
    certificate = shallow.certify(model)
    assert_type(certificate, Certificate)
    assert_type(certificate.max_error, float | None)
    assert certificate.passed

    region = shallow.regions[0]
    assert_type(region, Region)
    assert_type(region.weight, Tensor)
    assert_type(region.vertices(), Tensor)
    for other in shallow.regions:
        assert_type(other, Region)

    path = tmp_path / "network.safetensors"
    shallow.save(path)
    loaded = ShallowReLU.load(path)
    assert_type(loaded, ShallowReLU)
    assert torch.equal(loaded(x), shallow(x))


def test_counts_and_estimates() -> None:
    assert_type(torch_shallow.count(network()), RegionCount)
    assert_type(torch_shallow.estimate(network()), Estimate)
    regions = torch_shallow.iter_regions(network())
    assert_type(regions, Iterator[Region])
    assert isinstance(next(regions), Region)


def test_verify_and_properties() -> None:
    verdict = torch_shallow.verify(network(), BOX, AtLeast(-100.0) & ~AtMost(-50.0))
    assert_type(verdict, Verdict)
    assert_type(verdict.holds, bool | None)
    assert_type(verdict.counterexample, Tensor | None)
    assert_type(verdict.margin, float)
    assert verdict.holds
    assert verdict.counterexample is None


def test_explanations() -> None:
    model, x = network(), torch.rand(2)
    features = Features.of(["height", "weight"])
    shallow = torch_shallow.transform(model, domain=BOX)

    assert_type(explain.explain(shallow, x, features=features), Explanation)
    assert_type(explain.rules(shallow.regions[0], features=["a", "b"]), Rules)
    assert_type(explain.rules(shallow), RuleSet)
    assert_type(explain.lipschitz_constant(model, domain=BOX), LipschitzConstant)
    assert_type(explain.monotonicity(model, domain=BOX), Monotonicity)
    assert_type(explain.segment(model, x, -x), Segment)
    assert_type(explain.robustness_radius(network(2), x, domain=BOX), RobustnessRadius)
    assert_type(explain.difference(model, shallow, BOX), Difference)
    assert_type(explain.difference(network(2), network(2), BOX, same_class=True), SameClass)

    found = explain.output_range(model, domain=BOX)
    assert_type(found, OutputRange)
    assert_type(found.lower, Tensor)
    changed = explain.counterfactual(shallow, x, AtLeast(float(found.upper)), norm=1)
    assert_type(changed, Counterfactual)
    assert_type(changed.x, Tensor | None)
    assert_type(changed.distance, float)
    assert changed.x is not None

    attributions = explain.integrated_gradients(model, x[None])
    assert_type(attributions, Tensor)
    both = explain.integrated_gradients(model, x[None], return_convergence_delta=True)
    assert_type(both, tuple[Tensor, Tensor])
    assert attributions.shape == both[0].shape


def test_simplified_networks_and_exports(tmp_path: Path) -> None:
    simple = torch_shallow.simplify(network(), BOX, max_error=1.0)
    assert_type(simple, SimplifiedReLU)
    assert_type(simple.error, float)
    code = export.to_c(simple, tmp_path / "network.c")
    assert_type(code, CCode)
    assert_type(code.source, str)
    assert_type(export.to_python(simple), str)
    assert_type(export.to_sql(simple, "people"), str)
    assert (tmp_path / "network.c").read_text() == code.source


def test_pictures() -> None:
    pytest.importorskip("matplotlib")
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    shallow = torch_shallow.transform(network(), domain=BOX)
    ax = plot.regions(shallow, ax=Figure().add_subplot())
    assert_type(ax, Axes)
    assert isinstance(ax, Axes)
    assert_type(plot.slice(shallow, over=[0, 1], lower=-1.0, upper=1.0, ax=ax), Axes)


def test_errors_and_warnings() -> None:
    with pytest.raises(TransformError) as caught:
        torch_shallow.transform(network(), domain=Box([0.0], [1.0]))
    assert_type(caught.value, TransformError)
    assert issubclass(TransformError, Exception)
    assert issubclass(IncompleteWarning, Warning)
