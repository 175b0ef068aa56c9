"""The public entry: what it takes, what it refuses and how it says so, and what importing it costs."""

from __future__ import annotations

import copy
import subprocess
import sys
from typing import Any

import jaxtyping
import numpy as np
import pytest
import torch
from torch import nn

import torch_shallow
from tests.zoo import ARCHITECTURES, chain
from torch_shallow import Box, Polytope, ShallowReLU, TransformError, UnsupportedOperation, estimate, explain, transform
from torch_shallow.explain.counterfactuals import AtLeast


@pytest.fixture(autouse=True)
def _as_users_run_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Types are not checked on calls: what is refused is refused by the package itself."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@pytest.fixture
def model() -> nn.Sequential:
    torch.manual_seed(0)
    return chain(2, 4, 3, 2)


def test_the_public_names() -> None:
    assert torch_shallow.__all__ == [
        "AtLeast",
        "AtMost",
        "Between",
        "Box",
        "Certificate",
        "Estimate",
        "IncompleteWarning",
        "Linear",
        "Maximum",
        "Monotone",
        "Polytope",
        "Question",
        "Region",
        "RegionCount",
        "ShallowReLU",
        "SimplifiedReLU",
        "TransformError",
        "UnsupportedOperation",
        "Verdict",
        "VisitedReLU",
        "VnnlibQuery",
        "WholeSpace",
        "Wins",
        "ask",
        "constraints",
        "count",
        "estimate",
        "explain",
        "export",
        "from_onnx",
        "from_sklearn",
        "hold",
        "iter_regions",
        "plot",
        "read_vnnlib",
        "simplify",
        "trace",
        "transform",
        "verify",
    ]
    assert all(hasattr(torch_shallow, name) for name in torch_shallow.__all__)
    assert issubclass(UnsupportedOperation, TransformError)
    assert issubclass(TransformError, ValueError)


def test_the_public_names_of_explanations_and_pictures() -> None:
    classes = "AtLeast AtMost Between Counterexample Counterfactual Difference Explanation Features LipschitzConstant"
    classes += (
        " LocalLinearShap Moments Monotonicity NearestCounterfactuals NeuronActivity OneFeatureChanges OutputRange"
    )
    classes += " RobustnessRadius RuleSet Rules SameClass Segment UnusedFeatures Volumes"
    functions = "adjacency channels_last counterfactual difference explain integrated_gradients lipschitz_constant"
    functions += " local_linear_shap"
    functions += (
        " moments monotonicity nearest_counterfactuals neuron_activity one_feature_changes output_range region_table"
    )
    functions += " robustness_radius rules segment shap_values unused_features volumes"
    assert torch_shallow.explain.__all__ == [*classes.split(), *functions.split()]
    pictures = "adjacency animate coefficients polygons regions segment slice surface tree"
    assert torch_shallow.plot.__all__ == pictures.split()
    assert torch_shallow.export.__all__ == ["CCode", "to_c", "to_onnx", "to_python", "to_sql"]
    for module in (torch_shallow.explain, torch_shallow.export, torch_shallow.plot):
        assert all(callable(getattr(module, name)) for name in module.__all__)


HEAVY = (
    "numba",
    "llvmlite",
    "cvxpy",
    "highspy",
    "matplotlib",
    "networkx",
    "onnx",
    "pandas",
    "plotly",
    "safetensors",
    "scipy.optimize",
    "shap",
    "sklearn",
    "torch._dynamo",
)


def modules_after(code: str) -> set[str]:
    """The heavy modules that a fresh interpreter has imported after some code, without those of torch itself."""
    script = f"import sys, torch; before = set(sys.modules)\n{code}\nprint(*(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.split()).intersection(HEAVY)


def test_importing_it_imports_nothing_heavy() -> None:
    assert modules_after("import torch_shallow") == set()


def test_a_transformation_imports_no_solver_and_nothing_for_pictures() -> None:
    code = "import torch_shallow; torch_shallow.transform(torch.nn.Linear(2, 1))(torch.zeros(3, 2))"
    assert modules_after(code).isdisjoint({"cvxpy", "matplotlib", "onnx"})


@pytest.mark.parametrize("method", ["auto", "double-description", "lp"])
@pytest.mark.parametrize("domain", [None, Box(-1.0, 1.0), Polytope([[1.0, 1.0]], [1.0])], ids=str)
def test_every_method_gives_the_same_network(model: nn.Module, domain: Any, method: str) -> None:
    shallow, x = transform(model, domain=domain, method=method), 0.4 * torch.randn(200, 2)
    assert isinstance(shallow, ShallowReLU)
    assert shallow.num_regions == transform(model, domain=domain).num_regions
    assert torch.allclose(shallow(x), model(x), atol=1e-5, equal_nan=True) or domain is not None
    inside = shallow.locate(x) >= 0
    assert torch.allclose(shallow(x)[inside], model(x)[inside], atol=1e-5)
    assert shallow.complete


def test_a_solver_of_cvxpy_by_name(model: nn.Module) -> None:
    expected = transform(model, domain=Box(-1.0, 1.0)).num_regions
    for solver in ("CLARABEL", "clarabel"):
        assert transform(model, domain=Box(-1.0, 1.0), method="lp", solver=solver).num_regions == expected


BAD_ARGUMENTS = {
    "method": ({"method": "simplex"}, r"method: expected one of 'auto', 'double-description', 'lp', found 'simplex'"),
    "method of another type": ({"method": None}, r"method: expected one of .*, found None"),
    "solver": ({"method": "lp", "solver": "SIMPLEX"}, r"solver: expected None .*CLARABEL.*; found 'SIMPLEX'"),
    "solver of another type": ({"method": "lp", "solver": 3}, r"solver: expected None .*found 3"),
    "solver that auto might not need": ({"solver": "SIMPLEX"}, r"solver: expected None .*; found 'SIMPLEX'"),
    "domain of another type": (
        {"domain": (0.0, 1.0)},
        r"domain: expected a Box, a Polytope or None, found \(0\.0, 1\.0\)",
    ),
    "class in place of a domain": ({"domain": Box}, r"domain: expected a Box, a Polytope or None"),
    "box of another size": (
        {"domain": Box([0.0] * 3, 1.0)},
        r"Box: lower has shape \(3,\).*input has shape \(2,\).*give",
    ),
    "columns": (
        {"domain": Polytope([[1.0] * 3], [1.0])},
        r"Polytope: A has 3 columns.*\(2,\).*give one column for each",
    ),
    "empty polytope": (
        {"domain": Polytope([[1.0, 0.0], [-1.0, 0.0]], [0.0, -1.0])},
        r"domain: the polytope is empty.*relax b",
    ),
    "flat polytope": (
        {"domain": Polytope([[1.0, 0.0], [-1.0, 0.0]], [1.0, -1.0])},
        r"domain: the polytope has no interior.*Box",
    ),
    "a point": (
        {"domain": Polytope([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]], [0.0] * 4)},
        r"domain: the polytope has no interior.*Box",
    ),
    "example of integers": (
        {"example_input": torch.zeros(1, 2, dtype=torch.int64)},
        r"example_input: expected a floating-point",
    ),
    "example of another shape": ({"example_input": torch.zeros(1, 3)}, r"example_input|model"),
}


@pytest.mark.parametrize(("arguments", "message"), BAD_ARGUMENTS.values(), ids=BAD_ARGUMENTS.keys())
def test_bad_arguments(model: nn.Module, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(TransformError, match=message):
        transform(model, **arguments)


BAD_DOMAINS = {
    "lower above upper": (
        lambda: Box([0.0, 2.0], [1.0, 1.0]),
        r"Box: expected lower <= upper.*2\.0 > upper 1\.0 at index \(1,\).*swap or correct",
    ),
    "lower above upper, numbers": (
        lambda: Box(1.0, 0.0),
        r"Box: expected lower <= upper everywhere, found lower 1\.0 > upper 0\.0",
    ),
    "NaN": (lambda: Box(0.0, float("nan")), r"Box: upper: expected numbers, found NaN"),
    "NaN in a tensor": (lambda: Box(torch.tensor([0.0, torch.nan]), 1.0), r"Box: lower: expected numbers, found NaN"),
    "shapes": (
        lambda: Box([0.0, 0.0], [1.0, 1.0, 1.0]),
        r"Box: lower has shape \(2,\) and upper has shape \(3,\); give both the same",
    ),
    "no point": (lambda: Box(float("inf"), float("inf")), r"Box: expected lower bounds below \+inf"),
    "no number": (lambda: Box("low", 1.0), r"Box: lower: expected a real number or an array of them, found 'low'"),
    "nothing": (lambda: Box(None, 1.0), r"Box: lower"),
    "complex": (lambda: Box(1j, 1.0), r"Box: lower: expected a real number"),
    "polytope of vectors": (
        lambda: Polytope([1.0, 1.0], [1.0]),
        r"Polytope: expected A of shape \(rows, inputs\).*found \(2,\) and \(1,\)",
    ),
    "polytope of another b": (
        lambda: Polytope([[1.0, 1.0]], [1.0, 2.0]),
        r"Polytope: expected .* b of shape \(rows,\), found \(1, 2\) and \(2,\)",
    ),
    "infinite polytope": (
        lambda: Polytope([[1.0, 1.0]], [torch.inf]),
        r"Polytope: expected finite A and b, found infinity; leave out",
    ),
    "NaN in a polytope": (lambda: Polytope([[torch.nan, 1.0]], [1.0]), r"Polytope: A: expected numbers, found NaN"),
}


@pytest.mark.parametrize(("make", "message"), BAD_DOMAINS.values(), ids=BAD_DOMAINS.keys())
def test_bad_domains(make: Any, message: str) -> None:
    with pytest.raises(TransformError, match=message):
        make()


BAD_MODELS = {
    "no module": (lambda: torch.relu, r"model: expected an nn.Module, found builtin_function_or_method"),
    "NaN weights": (lambda: spoilt(torch.nan), r"model: expected finite real weights.*0\.weight"),
    "infinite weights": (lambda: spoilt(torch.inf), r"model: expected finite real weights.*0\.weight"),
    "complex": (lambda: nn.Linear(2, 2, dtype=torch.complex64), r"model: expected finite real weights"),
    "dropout in train mode": (lambda: nn.Sequential(nn.Linear(2, 2), nn.Dropout()).train(), r"model\.eval\(\)"),
    "batch norm in train mode": (lambda: nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)).train(), r"model\.eval\(\)"),
    "sigmoid": (lambda: nn.Sequential(nn.Linear(2, 2), nn.Sigmoid(), nn.Linear(2, 1)), r"1.*[Ss]igmoid"),
    "no input shape": (nn.ReLU, r"example_input: needed"),
}


def spoilt(value: float) -> nn.Module:
    model = chain(2, 3, 1)
    with torch.no_grad():
        model[0].weight[0, 0] = value
    return model


@pytest.mark.parametrize(("make", "message"), BAD_MODELS.values(), ids=BAD_MODELS.keys())
def test_bad_models(make: Any, message: str) -> None:
    with pytest.raises(TransformError, match=message):
        transform(make())


class Branches(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.relu() if x.sum() > 0 else x


def test_control_flow_that_depends_on_data_is_explained() -> None:
    with pytest.raises(TransformError, match=r"control flow|depends on") as caught:
        transform(Branches(), torch.zeros(1, 2))
    assert caught.value.__cause__ is not None


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("specimen", ARCHITECTURES, ids=str)
def test_the_model_is_not_changed(specimen: Any, training: bool) -> None:
    model = specimen.model(torch.float32)
    if specimen.name != "nested":  # its dropout is refused in train mode
        model.train(training)
    handle = model.register_forward_hook(lambda *_: None)
    model(torch.rand(3, *specimen.in_shape)).sum().backward()
    state = copy.deepcopy(model.state_dict())
    gradients = {name: None if p.grad is None else p.grad.clone() for name, p in model.named_parameters()}
    parameters, modes = list(model.parameters()), [m.training for m in model.modules()]
    transform(model, specimen.example(), domain=specimen.domain)
    assert all(now is before for now, before in zip(model.parameters(), parameters, strict=True))
    assert [m.training for m in model.modules()] == modes
    assert list(model._forward_hooks) == [handle.id]
    assert model.state_dict().keys() == state.keys()
    for name, tensor in model.state_dict().items():
        assert tensor.dtype == state[name].dtype
        assert torch.equal(tensor, state[name])
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad
        assert (parameter.grad is None) == (gradients[name] is None)
        assert parameter.grad is None or torch.equal(parameter.grad, gradients[name])


def test_bounds_may_be_numbers_lists_arrays_or_tensors(model: nn.Module) -> None:
    counts = {
        transform(model, domain=domain).num_regions
        for domain in (
            Box(-1, 1),
            Box([-1.0, -1.0], (1.0, 1.0)),
            Box(np.array([-1.0, -1.0]), 1.0),
            Box(torch.tensor(-1.0), torch.ones(2)),
            Polytope(torch.cat([torch.eye(2), -torch.eye(2)]), torch.ones(4)),
        )
    }
    assert len(counts) == 1


def test_a_box_may_have_the_shape_of_an_image() -> None:
    specimen = next(s for s in ARCHITECTURES if s.name == "image")
    shallow = transform(specimen.model(), specimen.example(), domain=Box(torch.zeros(1, 2, 3), torch.ones(1, 2, 3)))
    assert not shallow(torch.full((1, 2, 3), 0.5)).isnan().any()
    assert shallow(torch.full((1, 2, 3), -0.5)).isnan().all()


def test_a_box_of_one_point(model: nn.Module) -> None:
    shallow = transform(model.double(), domain=Box([0.3, -0.2], [0.3, -0.2]))
    x = torch.tensor([0.3, -0.2], dtype=torch.float64)
    assert shallow.num_regions == 1
    assert torch.allclose(shallow(x), model(x), atol=1e-12)


def test_progress_is_shown_if_asked_for(model: nn.Module, capsys: pytest.CaptureFixture[str]) -> None:
    for method in ("double-description", "lp"):
        transform(model, method=method)
        assert "regions" not in capsys.readouterr().err
        count = transform(model, method=method, progress=True).num_regions
        assert f"{count} regions" in capsys.readouterr().err


def test_more_inputs_in_a_box_than_a_float_has_exponents() -> None:
    torch.manual_seed(0)
    models = [nn.Sequential(nn.Linear(1030, 3), nn.ReLU(), nn.Linear(3, 2)) for _ in range(2)]
    x = torch.rand(1030)
    box = Box(x - 0.01, x + 0.01)
    shallow = transform(models[0], domain=box)
    assert shallow.partition.chart.num_corners == 2**1030
    assert estimate(models[0], domain=box).regions == shallow.num_regions
    found = explain.output_range(shallow)
    assert bool((found.lower <= shallow(x)).all() & (shallow(x) <= found.upper).all())
    assert explain.counterfactual(models[0], x, AtLeast(float(found.upper[0]) - 1e-3), upper=1.1).distance > 0.0
    assert bool((explain.difference(models[0], models[1], box).largest > 0.0).all())
