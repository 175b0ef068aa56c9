"""Of a network with a head, each function speaks of the output behind it, refuses, or says that it does not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from tests.zoo import chain
from torch_shallow import Box, ShallowReLU, explain, transform
from torch_shallow.errors import TransformError
from torch_shallow.explain import AtLeast

BOX = Box(-1.0, 1.0)


class ArgMax(nn.Module):
    def forward(self, y: Tensor) -> Tensor:
        return y.argmax(1)


HEADS: dict[str, tuple[int, nn.Module]] = {
    "sigmoid": (1, nn.Sigmoid()),
    "softmax": (3, nn.Softmax(1)),
    "log_softmax": (3, nn.LogSoftmax(1)),
    "argmax": (3, ArgMax()),
}
X, BACKGROUND = torch.full((2, 3), 0.25).double(), torch.full((4, 3), -0.5).double()

REFUSES = r"found one with a head .*; (pass|compare)"
REFUSED: dict[str, Callable[[nn.Module], object]] = {
    "counterfactual": lambda f: explain.counterfactual(f, X[0], 0),
    "counterfactual to a value": lambda f: explain.counterfactual(f, X[0], AtLeast(0.5)),
    "difference": lambda f: explain.difference(f, f, BOX),
    "integrated_gradients": lambda f: explain.integrated_gradients(f, X),
    "local_linear_shap": lambda f: explain.local_linear_shap(f, X, BACKGROUND),
    "nearest_counterfactuals": lambda f: explain.nearest_counterfactuals(f, X, 0),
    "one_feature_changes": lambda f: explain.one_feature_changes(f, X[0], AtLeast(0.5)),
    "robustness_radius": lambda f: explain.robustness_radius(f, X),
    "segment": lambda f: explain.segment(f, X[0], -X[0]),
    "shap_values": lambda f: explain.shap_values(f, X, BACKGROUND),
}
SAID: dict[str, Callable[..., object]] = {
    "lipschitz_constant": explain.lipschitz_constant,
    "moments": explain.moments,
    "monotonicity": explain.monotonicity,
    "output_range": explain.output_range,
    "unused_features": explain.unused_features,
}
OF_SHALLOW: dict[str, Callable[[ShallowReLU], str]] = {
    "explain": lambda f: str(explain.explain(f, X[0])),
}
OF_OUTPUTS = {"region_table", "output_range"}
OF_EXPLANATIONS = {"channels_last"}
OF_INPUTS = {"adjacency", "neuron_activity", "rules", "volumes"}


def model_with(head: str) -> nn.Sequential:
    outputs, module = HEADS[head]
    torch.manual_seed(1)
    return nn.Sequential(chain(3, 6, 5, outputs), module).double()


def test_every_function_is_in_one_of_the_tables() -> None:
    functions = {name for name in explain.__all__ if name.islower()}
    tables = {*(name.split()[0] for name in REFUSED), *SAID, *OF_SHALLOW, *OF_OUTPUTS, *OF_EXPLANATIONS, *OF_INPUTS}
    assert tables == functions


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("name", REFUSED)
def test_it_refuses_and_says_what_to_pass(name: str, head: str) -> None:
    model = model_with(head)
    for f in (model, transform(model, domain=BOX)):
        with pytest.raises(TransformError, match=REFUSES):
            REFUSED[name](f)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("name", SAID)
def test_it_says_that_it_speaks_of_the_values_before_the_head(name: str, head: str) -> None:
    model, function = model_with(head), SAID[name]
    for found in (function(model, domain=BOX), function(transform(model, domain=BOX))):
        of_outputs = name == "output_range" and head == "sigmoid"
        assert ("before the head" in str(found)) is not of_outputs
        assert found.before_head is not of_outputs
    assert "head" not in str(function(model[0], domain=BOX))


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("name", OF_SHALLOW)
def test_it_says_so_of_shallow_networks(name: str, head: str) -> None:
    model = model_with(head)
    assert "values before the network's head" in OF_SHALLOW[name](transform(model, domain=BOX))
    assert "head" not in OF_SHALLOW[name](transform(model[0], domain=BOX))


@pytest.mark.parametrize("head", HEADS)
def test_it_speaks_of_the_outputs_behind_the_head(head: str) -> None:
    model, x = model_with(head), torch.rand(500, 3).double() * 2.0 - 1.0
    shallow, y = transform(model, domain=BOX), model(x).detach()
    table = explain.region_table(shallow, x)
    if y.is_floating_point():
        first = "mean output" if y.shape[1] == 1 else "mean output[0]"
        assert (table[first] * table["share"]).sum() == pytest.approx(float(y[:, 0].mean()))
    if head == "sigmoid":
        found = explain.output_range(model, BOX)
        assert float(found.lower) - 1e-9 <= float(y.min()) <= float(y.max()) <= float(found.upper) + 1e-9


@pytest.mark.parametrize("head", HEADS)
def test_regions_and_neurons_are_those_of_the_model_without_its_head(head: str) -> None:
    model = model_with(head)
    whole, trunk = (transform(part, domain=BOX) for part in (model, model[0]))
    assert torch.equal(explain.volumes(whole).values, explain.volumes(trunk).values)
    assert list(explain.adjacency(whole).edges) == list(explain.adjacency(trunk).edges)
    assert torch.equal(explain.neuron_activity(whole).active, explain.neuron_activity(trunk).active)
    assert str(explain.rules(whole.regions[0])) == str(explain.rules(trunk.regions[0]))
