"""An explanation of one input, as data, as text and as tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float

from torch_shallow.errors import TransformError
from torch_shallow.explain.features import Features
from torch_shallow.explain.locally.decision import Decision
from torch_shallow.explain.locally.seen_facets import Facet
from torch_shallow.functions import Region

if TYPE_CHECKING:
    import pandas as pd


from torch_shallow.explain.locally.conditions import inequality, interval, number
from torch_shallow.optional import require


@dataclass(frozen=True, eq=False)
class Explanation:
    """What a network computes at one input and around it, exactly, of the trunk as `Region.weight` is.

    Inputs and outputs are flattened, in float64. What a feature is measured in is the user's unit, as `features` says;
    distances are in inputs of the network, which is where features can be compared.

    Attributes:
        region: the activation region of the input (or a region of a merged network): `region.index` is its number.
        features: names and units of the inputs.
        x: the input as the network reads it.
        value: the input in units of the user.
        fixed: which inputs have only one value in the domain.
        output: of the trunk: `weight @ value + bias`.
        weight: of the local linear model, by unit of the user.
        bias: of the local linear model, as a function of the values.
        lower: how far down each feature can go, alone, in the region: in units of the user; -inf if without end.
        upper: how far up likewise.
        facets: the half-spaces that make the region, each with its distance; the nearest first.
        decision: the class, if the trunk has one row of two or more outputs; else None.
    """

    region: Region
    features: Features
    x: Float[np.ndarray, "inputs"]
    value: Float[np.ndarray, "inputs"]
    fixed: Bool[np.ndarray, "inputs"]
    output: Float[np.ndarray, "outputs"]
    weight: Float[np.ndarray, "outputs inputs"]
    bias: Float[np.ndarray, "outputs"]
    lower: Float[np.ndarray, "inputs"]
    upper: Float[np.ndarray, "inputs"]
    facets: tuple[Facet, ...]
    decision: Decision | None

    @property
    def contribution(self) -> Float[np.ndarray, "outputs inputs"]:
        """Weight times value of each feature: with the bias, they add up to the output."""
        return self.weight * self.value

    @property
    def nearest(self) -> Facet | None:
        """What changes first on the shortest way out of the region; None if there is no way out."""
        return self.facets[0] if self.facets else None

    def step(self, facet: Facet) -> Float[np.ndarray, "inputs"]:
        """The change of each feature, in units of the user, on the straight way from the input to a facet's hyperplane.

        Args:
            facet: one of `facets`.
        """
        normal = np.where(self.fixed, 0.0, facet.normal)
        return facet.distance / np.linalg.norm(normal) * normal * self.features.scale

    def to_frame(self, output: int | None = None) -> pd.DataFrame:
        """A row for each feature: value, weight by unit, contribution, and the interval in which it can vary alone.

        Args:
            output: of which output; if None of all, and if there are several, with its number in each column's name.

        Raises:
            TransformError: there is no such output.
            ImportError: pandas is not installed.
        """
        return features_frame(self, output)

    def facets_frame(self) -> pd.DataFrame:
        """A row for each facet, the nearest first: see `Facet`.

        Raises:
            ImportError: pandas is not installed.
        """
        return facets_frame(self)

    def __str__(self) -> str:
        return text(self)


def features_frame(explanation: Explanation, output: int | None) -> pd.DataFrame:
    """See `Explanation.to_frame`.

    Raises:
        TransformError: there is no such output.
    """
    pandas = require("pandas", "explain")
    count = len(explanation.output)
    if output is not None and not -count <= output < count:
        raise TransformError(f"output: expected a number from {-count} to {count - 1}, found {output}.")
    columns = {"value": explanation.value}
    contribution = explanation.contribution
    for k in range(count) if output is None else [output % count]:
        suffix = f"[{k}]" if output is None and count > 1 else ""
        columns[f"weight{suffix}"], columns[f"contribution{suffix}"] = explanation.weight[k], contribution[k]
    columns["lower"], columns["upper"] = explanation.lower, explanation.upper
    return pandas.DataFrame(columns, index=pandas.Index(explanation.features.names, name="feature"))


def facets_frame(explanation: Explanation) -> pd.DataFrame:
    """See `Explanation.facets_frame`."""
    pandas = require("pandas", "explain")
    facets, names = explanation.facets, explanation.features.names
    return pandas.DataFrame(
        {
            "name": [facet.name for facet in facets],
            "neuron": np.array([facet.neuron for facet in facets], dtype=np.int64),
            "distance": np.array([facet.distance for facet in facets], dtype=np.float64),
            "direct": np.array([facet.direct for facet in facets], dtype=bool),
            "feature": [None if facet.feature is None else names[facet.feature] for facet in facets],
            "change": np.array([facet.change for facet in facets], dtype=np.float64),
        }
    )


def text(explanation: Explanation, *, digits: int = 4, most_features: int = 10, most_facets: int = 5) -> str:
    """An explanation in words; what is left out is counted.

    Args:
        explanation: what is put into words.
        digits: significant digits of the numbers.
        most_features: of so many features, those that contribute most.
        most_facets: so many facets, the nearest.
    """
    lines = [f"Input in {explanation.region!r}", *_decision(explanation, digits), ""]
    if explanation.region.function.head is not None:
        lines.insert(1, "Outputs are the values before the network's head.")
    lines += _model(explanation, digits, most_features)
    lines += ["", *_facets(explanation, digits, most_facets)]
    if explanation.region.function.may_be_discontinuous:
        lines += ["", "The local models may have been trained: the output may jump at the facets."]
    return "\n".join(lines)


def _decision(explanation: Explanation, digits: int) -> list[str]:
    decision = explanation.decision
    if decision is None:
        return []
    where = ", in the whole region"
    if not decision.constant:
        where = f" here, but output {decision.rival} exceeds it elsewhere in the region, as at decision.rival_at"
    line = f"Output {decision.label} of {len(explanation.output)} is the largest{where}; "
    behind = f"{number(decision.margin, digits)} less" if decision.margin else "as large"
    return [line + f"the next, {decision.runner_up}, is {behind}"]


def _model(explanation: Explanation, digits: int, most: int) -> list[str]:
    k = 0 if explanation.decision is None else explanation.decision.label
    size = np.abs(explanation.contribution[k])
    shown = np.sort(np.argsort(-size, kind="stable")[:most])
    title = f"output {k}" if len(explanation.output) > 1 else "output"
    head = "feature" if len(shown) == len(size) else f"feature ({len(shown)} of {len(size)})"
    table = [[head, "value", "weight", "contribution", "alone, in the region"]]
    for i in shown:
        lower, upper = float(explanation.lower[i]), float(explanation.upper[i])
        table.append(
            [
                explanation.features.names[i],
                *(number(float(v), digits) for v in (explanation.value[i], explanation.weight[k, i])),
                number(float(explanation.contribution[k, i]), digits),
                "fixed" if explanation.fixed[i] else interval("", lower, upper, digits).strip(),
            ]
        )
    others = np.delete(explanation.contribution[k], shown).sum()
    if len(shown) < len(size):
        table.append([f"{len(size) - len(shown)} others", "", "", number(float(others), digits), "see to_frame()"])
    table.append(["bias", "", "", number(float(explanation.bias[k]), digits), ""])
    table.append([title, "", "", number(float(explanation.output[k]), digits), ""])
    return _aligned(table)


def _facets(explanation: Explanation, digits: int, most: int) -> list[str]:
    facets = explanation.facets
    if not facets:
        return ["No facet: no change of the input leaves the region."]
    few = facets[:most]
    head = f"facet ({len(few)} nearest of {len(facets)})" if len(few) < len(facets) else f"facet (all {len(facets)})"
    scaled = bool((explanation.features.scale != 1.0).any())
    table = [[head, "distance" + " (scaled)" * scaled, "reached by one feature alone"]]
    for facet in few:
        distance = number(facet.distance, digits)
        alone = "none"
        if facet.feature is not None:
            sign = "" if facet.change < 0.0 else "+"
            alone = f"{explanation.features.names[facet.feature]} {sign}{number(facet.change, digits)}"
        table.append([_name(explanation, facet, digits), distance if facet.direct else f"> {distance}", alone])
    return _aligned(table)


def _name(explanation: Explanation, facet: Facet, digits: int) -> str:
    if facet.name != "domain":
        return facet.name
    a, b = explanation.features.affine(facet.normal[None], np.array([-facet.offset]))
    names, of = explanation.features.names, np.flatnonzero(a[0])
    if len(of) > 1:
        return f"domain: {inequality(a[0], -float(b[0]), names, digits, 3, explanation.features.scale)}"
    ends = explanation.features.settled(np.where(a[0] == 0.0, 0.0, -b[0] / np.where(a[0] == 0.0, 1.0, a[0])))
    end, is_upper = float(ends[of[0]]), a[0, of[0]] > 0.0
    return f"domain: {interval(names[of[0]], -np.inf if is_upper else end, end if is_upper else np.inf, digits)}"


def _aligned(table: list[list[str]]) -> list[str]:
    """Rows of a table: the first and the last column to the left, numbers to the right."""
    widths = [max(len(row[k]) for row in table) for k in range(len(table[0]))]
    last = len(widths) - 1
    return [
        "  ".join(
            cell.ljust(width) if k in (0, last) else cell.rjust(width)
            for k, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    ]
