"""What results and networks show of themselves: one line by `repr`, tables without colours in a notebook."""

from __future__ import annotations

import re
from functools import cache
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import torch_shallow
from tests.zoo import chain
from torch_shallow import AtLeast, Box, explain
from torch_shallow.display import Displayed, TextTable, as_html

BOX, NAMES = Box(-1.0, 1.0), ["in<come", "debt & age"]
X = torch.tensor([0.3, -0.2], dtype=torch.float64)


class Highest:
    """The first output."""

    def goals(self, inputs: int, outputs: int) -> np.ndarray:
        return np.eye(inputs + outputs + 1)[inputs : inputs + 1]

    def constraints(self, inputs: int, outputs: int) -> np.ndarray:
        return np.zeros((0, inputs + outputs + 1))


@cache
def model() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return chain(2, 6, 3).double()


@cache
def shallow() -> torch_shallow.ShallowReLU:
    return torch_shallow.transform(model(), domain=BOX)


@cache
def other() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return chain(2, 6, 3).double()


def another_class() -> int:
    return int(model()(X).argmin())


RESULTS = {
    "explanation": lambda: explain.explain(shallow(), X, features=NAMES),
    "certificate": lambda: shallow().certify(model()),
    "failed certificate": lambda: shallow().certify(other()),
    "range": lambda: explain.output_range(model(), BOX),
    "range, stopped": lambda: explain.output_range(model(), BOX, time_limit=1e-9),
    "counterfactual": lambda: explain.counterfactual(shallow(), X, another_class(), features=NAMES),
    "no counterfactual": lambda: explain.counterfactual(shallow(), X, AtLeast(1e6), features=NAMES),
    "counterfactuals": lambda: explain.nearest_counterfactuals(shallow(), X[None], another_class(), features=NAMES),
    "changes": lambda: explain.one_feature_changes(shallow(), X, another_class(), features=NAMES),
    "rules": lambda: explain.rules(shallow().regions[0], features=NAMES),
    "sufficient rules": lambda: explain.rules(shallow().regions[0], features=NAMES, max_terms=1),
    "all rules": lambda: explain.rules(shallow(), features=NAMES, x=X[None]),
    "verdict": lambda: torch_shallow.verify(model(), BOX, AtLeast(-1e3)),
    "counterexample": lambda: torch_shallow.verify(model(), BOX, AtLeast(1e3)),
    "count": lambda: torch_shallow.count(model(), domain=BOX),
    "estimate": lambda: torch_shallow.estimate(model(), domain=BOX),
    "maximum": lambda: torch_shallow.ask(model(), Highest(), BOX),
    "monotonicity": lambda: explain.monotonicity(shallow(), features=NAMES),
    "activity": lambda: explain.neuron_activity(shallow()),
    "features": lambda: explain.unused_features(shallow(), features=NAMES),
    "steepness": lambda: explain.lipschitz_constant(shallow()),
    "volumes": lambda: explain.volumes(shallow()),
    "moments": lambda: explain.moments(shallow()),
    "difference": lambda: explain.difference(model(), other(), BOX),
    "classes": lambda: explain.difference(model(), other(), BOX, same_class=True),
    "radius": lambda: explain.robustness_radius(shallow(), X),
}
NETWORKS = {
    "all regions": shallow,
    "on demand": lambda: torch_shallow.transform(model(), domain=BOX, store_maps=False),
    "visited": lambda: torch_shallow.transform(nn.Sequential(*model(), nn.Softmax(-1)), data=X[None]),
    "simplified": lambda: torch_shallow.simplify(model(), BOX, max_regions=3),
    "soft": lambda: shallow().soften(10.0),
}
OTHERS = {
    "region": lambda: shallow().regions[0],
    "visited region": lambda: torch_shallow.transform(model(), data=X[None]).regions[0],
    "many inputs": lambda: torch_shallow.transform(chain(30, 2, 20)).regions[0],
}


class Reader(HTMLParser):
    """The text of a page, and the number of cells of each row; tags have to be closed in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text, self.rows, self.styles = "", list[int](), list[str]()
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.styles += [value or "" for name, value in attrs if name == "style"]
        if tag == "br":
            self.text += "\n"
            return
        self.open.append(tag)
        if tag == "tr":
            self.rows.append(0)
        elif tag in ("td", "th"):
            self.rows[-1] += 1
        self.text += "\n"

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize("name", [*RESULTS, *NETWORKS, *OTHERS])
def test_a_notebook_shows_it_in_the_colours_of_the_notebook(name: str) -> None:
    shown: Any = {**RESULTS, **NETWORKS, **OTHERS}[name]()
    page = Reader(shown._repr_html_())
    assert page.text
    assert not any(word in style for style in page.styles for word in ("color", "background", "font-family"))


@pytest.mark.parametrize("name", RESULTS)
def test_a_result_is_a_line_and_its_text_is_whole(name: str) -> None:
    result = RESULTS[name]()
    line, text = repr(result), str(result)
    assert isinstance(result, Displayed)
    assert re.fullmatch(rf"{type(result).__name__}\(.+\)", line)  # and `.` is no end of a line
    assert len(line) < 160
    assert "object at 0x" not in line + text
    assert "tensor(" not in line + text


@pytest.mark.parametrize("name", ["explanation", "counterfactual", "rules", "all rules", "features", "monotonicity"])
def test_names_of_features_are_escaped(name: str) -> None:
    result: Any = RESULTS[name]()
    assert "in<come" not in result._repr_html_()
    page = Reader(result._repr_html_())
    assert ("in<come" in page.text) == ("in<come" in str(result))


def words(text: str) -> set[str]:
    """The numbers and words in a text, whatever is between them."""
    return set(re.findall(r"[\w.+-]+", text))


@pytest.mark.parametrize("name", ["explanation", "certificate", "failed certificate", "range", "range, stopped"])
def test_a_notebook_leaves_nothing_out_of_the_text(name: str) -> None:
    result: Any = RESULTS[name]()
    in_text_only = words(str(result)) - words(Reader(result._repr_html_()).text)
    assert in_text_only <= {"to", "proven", "within"} | words("0: 1: 2:")


def test_a_certificate_has_a_row_for_each_check() -> None:
    certificate = shallow().certify(model())
    page = Reader(certificate._repr_html_())
    assert page.rows == [5] * (1 + len(certificate.checks))
    assert repr(certificate).startswith(f"Certificate(passed: {len(certificate.checks)} checks, proven error ")
    failed = shallow().certify(other())
    wrong = sum(not check.passed for check in failed.checks)
    assert repr(failed) == f"Certificate(FAILED: {wrong} of {len(failed.checks)} checks)"


def test_a_network_shows_its_layers_in_a_line_each() -> None:
    deep = nn.Sequential(*(part for _ in range(20) for part in (nn.Linear(4, 4), nn.ReLU())), nn.Softmax(-1)).double()
    box, data = Box(-1e-3, 1e-3), torch.zeros(3, 4, dtype=torch.float64)
    for network in (
        torch_shallow.transform(deep, data=data),
        torch_shallow.transform(deep, domain=box, store_maps=False),
    ):
        assert "Linear" not in repr(network)
        assert "AffineStage" not in repr(network)
        assert len(repr(network).splitlines()) < 12
        assert len(repr(network.function).splitlines()) == 1
        page = Reader(network._repr_html_())
        assert page.rows == [2] * 5  # and the head is one of them
        assert "Softmax(dim=-1)" in page.text


def test_what_is_no_longer_proven_is_not_shown() -> None:
    simple = torch_shallow.simplify(model(), BOX, max_regions=3)
    assert "proven to be off by at most" in simple._repr_html_()
    with torch.no_grad():
        simple.selection.biases += 1.0
    assert "proven to be off by at most" not in simple._repr_html_()
    assert "found that they have changed" in simple._repr_html_()


def test_long_lines_are_cut_and_numbers_stand_to_the_right() -> None:
    class Long(Displayed):
        def __str__(self) -> str:
            return "x" * 1000 + "\nmore"

    assert len(repr(Long())) < 140
    page = as_html([TextTable(["name", "value"], [["a", "1,234.5"], ["b", "-1e-3"]])])
    assert re.findall(r"<td style='text-align: (\w+)", page) == ["left", "right"] * 2


def test_one_of_something_is_singular() -> None:
    half = torch_shallow.transform(nn.Sequential(nn.Linear(1, 1), nn.ReLU(), nn.Linear(1, 1)))
    assert repr(half) == (
        "ShallowReLU(\n"
        "  (1,) -> (1,), 2 activation regions, 1 cut by 1 half-space, domain R^n\n"
        "  (half_spaces): HalfSpaces(1 half-space in 1 coordinate)\n"
        "  (indicator): Indicator(2 regions, 1 cut, tree descent)\n"
        "  (selection): Selection(2 local models, 1 coordinate to 1 output)\n"
        ")"
    )
    whole = torch_shallow.transform(nn.Linear(2, 2))
    assert whole.function.describe() == "(2,) -> (2,), 1 activation region, 0 cuts by 0 half-spaces, domain R^n"
