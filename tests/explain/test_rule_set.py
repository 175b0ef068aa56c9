"""The rules of a whole network: they say of every point what the network computes there, in units of the user."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import torch_shallow
from torch_shallow import Box, Polytope, TransformError, explain
from torch_shallow.explain import RuleSet

UNITS = explain.Features.of(["bmi", "age"], mean=[27.0, 50.0], scale=[4.0, -12.0])
TRIANGLE = Polytope([[1.0, 1.0], [-1.0, 0.0], [0.0, -1.0]], [1.0, 1.0, 1.0])
DOMAINS = [None, Box(-1.0, 1.0), Box([-1.0, 0.5], [1.0, 0.5]), TRIANGLE]


def network(outputs: int = 2) -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, outputs)).double()


@pytest.mark.parametrize("domain", DOMAINS, ids=str)
def test_rules_say_what_the_network_computes(domain: torch_shallow.WholeSpace | None) -> None:
    shallow = torch_shallow.transform(network(), domain=domain)
    rules = explain.rules(shallow, features=UNITS)
    assert isinstance(rules, RuleSet)
    assert len(rules) == shallow.num_regions
    for region, rule in enumerate(rules):
        x = shallow.regions[region].interior_point[None]
        assert rule.contains(x).all()
        values = UNITS.unscale(x.numpy())[0]
        found = rules.weights[region] @ values + rules.constants[region]
        assert np.allclose(found, shallow(x)[0].detach().numpy(), atol=1e-12)
        for name, formula in zip(rules.output_names, rules.formulas(region), strict=True):
            assert formula.startswith(f"{name} = ")
            told = eval(
                formula.partition(" = ")[2].replace(" bmi", "*bmi").replace(" age", "*age"),
                {},
                {"bmi": values[0], "age": values[1]},
            )
            assert told == pytest.approx(found[rules.output_names.index(name)], abs=0.05)


def test_what_holds_everywhere_is_said_once() -> None:
    shallow = torch_shallow.transform(network(1), domain=Box(-1.0, 1.0))
    rules = explain.rules(shallow, features=UNITS, output_names=["risk"])
    assert rules.domain == ("bmi between 23 and 31", "age between 38 and 62")
    text = str(rules)
    assert text.count("between 38 and 62") == 1
    assert text.count("risk = ") == shallow.num_regions
    conditions = [words for region in range(len(rules)) for words in rules.conditions(region)]
    assert not any("38" in words or "62" in words for words in conditions)


def test_a_network_of_one_region_has_a_rule_without_conditions() -> None:
    linear = nn.Linear(2, 1).double()
    with torch.no_grad():
        linear.weight.zero_()
        linear.bias.zero_()
    rules = explain.rules(torch_shallow.transform(linear))
    assert str(rules) == "1 rule (numbers rounded to 4 digits)\n1. always\n       output = 0"


def test_rows_are_counted() -> None:
    pytest.importorskip("pandas")
    shallow = torch_shallow.transform(network(), domain=Box(-1.0, 1.0))
    x = torch.rand(200, 2, generator=torch.Generator().manual_seed(0)) * 3 - 1.5  # some are outside of the box
    rules = explain.rules(shallow, x=x)
    located = shallow.locate(x)
    assert rules.rows is not None
    assert rules.rows.tolist() == [int((located == region).sum()) for region in range(shallow.num_regions)]
    assert rules.num_rows == 200
    frame = rules.to_frame()
    assert list(frame) == ["rule", "conditions", "output[0]", "output[1]", "rows", "share"]
    assert frame["share"].sum() == pytest.approx(int((located >= 0).sum()) / 200)
    assert len(frame) == shallow.num_regions


@pytest.mark.parametrize("outputs", [1, 2])
def test_rules_of_a_simplified_network_say_what_is_proven(outputs: int) -> None:
    pytest.importorskip("pandas")
    simple = torch_shallow.simplify(network(outputs), Box(-1.0, 1.0), max_regions=3)
    rules = explain.rules(simple, features=UNITS)
    assert rules.errors is not None
    assert rules.errors.max() == pytest.approx(simple.error)
    assert str(rules).count("off by at most") == outputs * len(rules)
    errors = ["error"] if outputs == 1 else ["error of output[0]", "error of output[1]"]
    assert rules.to_frame()[errors].to_numpy().tolist() == rules.errors.tolist()


def test_rules_say_where_the_class_is_the_same() -> None:
    model, box = network(3), Box(-1.0, 1.0)
    asked = explain.rules(torch_shallow.simplify(model, box, same_class=True, margin=0.05))
    assert asked.same_class is not None
    assert asked.same_class.all()
    assert asked.margin == 0.05
    assert str(asked).count("same class, proven wherever it leads by more than 0.05") == len(asked)
    simple = torch_shallow.simplify(model, box, max_regions=2)
    unasked = explain.rules(simple)
    assert unasked.same_class is None
    assert "class" not in str(unasked)
    found = simple.region_same_class  # searched for when it is read
    known = explain.rules(simple)
    assert known.same_class is not None
    assert known.same_class.tolist() == found.tolist()
    assert str(known).count("class not proven wherever it leads") == int((~found).sum()) > 0


def test_the_table_of_a_notebook_is_escaped() -> None:
    shallow = torch_shallow.transform(network(), domain=Box(-1.0, 1.0))
    table = explain.rules(shallow, features=["a<b", "c&d"])._repr_html_()
    assert "a<b" not in table
    assert "a&lt;b" in table
    assert "c&amp;d" in table
    assert table.count("<tr>") == shallow.num_regions + 1


def test_what_cannot_be_told_is_refused() -> None:
    shallow = torch_shallow.transform(network())
    with pytest.raises(TransformError, match="output_names: expected 2 names, found 1"):
        explain.rules(shallow, output_names=["y"])
    with pytest.raises(TransformError, match="x: expected None with a region"):
        explain.rules(shallow.regions[0], x=torch.zeros(1, 2))
    torch.manual_seed(0)
    many = torch_shallow.transform(nn.Sequential(nn.Linear(3, 20), nn.ReLU(), nn.Linear(20, 1)))
    with pytest.raises(TransformError, match=r"at most 1,000 regions, whose rules can be read, found one of 1,\d\d\d"):
        explain.rules(many)
