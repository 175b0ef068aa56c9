"""Explanation of one input: its region, its local linear model, and its facets; as data, text and tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Size, Tensor

from torch_shallow.display import Displayed, TextTable
from torch_shallow.domain import Box
from torch_shallow.errors import TransformError, WrongTypeError
from torch_shallow.explain.features import Features, read_features
from torch_shallow.explain.function import check_output, known_function
from torch_shallow.explain.locally.decision import Decision, decide
from torch_shallow.explain.locally.rules import inequality, interval, number
from torch_shallow.explain.locally.seen_facets import Facet, facets_of, fixed_of, room, seen_from, slack_of
from torch_shallow.functions import PiecewiseAffine, Region, TreeFunction, VisitedRegion
from torch_shallow.functions.points import check_floating
from torch_shallow.modes import outside_modes
from torch_shallow.modules.region_network import RegionNetwork
from torch_shallow.optional import require

if TYPE_CHECKING:
    import pandas as pd

DIGITS = 4  # significant digits of the numbers in texts
NO_FACET = "No facet: no change of the input leaves the region."


@dataclass(frozen=True, eq=False, repr=False)
class Explanation(Displayed):
    """What the network's trunk computes at one input and in the region around it, exactly.

    Inputs and outputs are flattened, in float64. Features are measured in the user's units, as given by `features`;
    distances are measured in inputs of the network, where features can be compared.

    Attributes:
        region: the activation region of the input (or a region of a merged network); `region.index` is its number.
        features: names and units of the inputs.
        x: the input as the network reads it.
        value: the input in the user's units.
        fixed: which inputs have only one value in the domain.
        output: output of the trunk, `weight @ value + bias`.
        weight: weight of the local linear model, per unit of each feature.
        bias: bias of the local linear model, as a function of the values.
        lower: lowest value that each feature can take alone in the region, in the user's units; -inf if unbounded.
        upper: highest value that each feature can take alone in the region; inf if unbounded.
        facets: the half-spaces that bound the region, each with its distance, nearest first.
        decision: the class, if the trunk has a flat output of two or more entries; else None.
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
        """Contribution of each feature, weight times value; with the bias, contributions sum to the output."""
        return self.weight * self.value

    @property
    def nearest(self) -> Facet | None:
        """The facet on the shortest way out of the region; None if there is no way out."""
        return self.facets[0] if self.facets else None

    def step(self, facet: Facet) -> Float[np.ndarray, "inputs"]:
        """Compute the change of each feature along the shortest line from the input to a facet's hyperplane.

        Args:
            facet: one of `facets`.

        Returns:
            The changes in the user's units, of shape `(inputs,)`.
        """
        normal = np.where(self.fixed, 0.0, facet.normal)
        return facet.distance / np.linalg.norm(normal) * normal * self.features.scale

    def to_frame(self, output: int | None = None) -> pd.DataFrame:
        """Tabulate the features: value, weight per unit, contribution, and the interval in which each can vary alone.

        Args:
            output: number of the output; if None, all outputs, each with its number in the names of its columns if
                there are several.

        Returns:
            A DataFrame with one row for each feature.

        Raises:
            TransformError: there is no such output.
            ImportError: pandas is not installed.
        """
        pandas = require("pandas", "explain")
        count = len(self.output)
        columns, contribution = {"value": self.value}, self.contribution
        for k in range(count) if output is None else [check_output(output, count)]:
            suffix = f"[{k}]" if output is None and count > 1 else ""
            columns[f"weight{suffix}"], columns[f"contribution{suffix}"] = self.weight[k], contribution[k]
        columns["lower"], columns["upper"] = self.lower, self.upper
        return pandas.DataFrame(columns, index=pandas.Index(self.features.names, name="feature"))

    def facets_frame(self) -> pd.DataFrame:
        """Tabulate the facets, nearest first.

        Returns:
            A DataFrame with one row for each facet and the columns `name`, `neuron`, `distance`, `direct`, `feature`
            and `change`, as the attributes of `Facet`.

        Raises:
            ImportError: pandas is not installed.
        """
        facets, names = self.facets, self.features.names
        return require("pandas", "explain").DataFrame(
            {
                "name": [facet.name for facet in facets],
                "neuron": np.array([facet.neuron for facet in facets], dtype=np.int64),
                "distance": np.array([facet.distance for facet in facets], dtype=np.float64),
                "direct": np.array([facet.direct for facet in facets], dtype=bool),
                "feature": [None if facet.feature is None else names[facet.feature] for facet in facets],
                "change": np.array([facet.change for facet in facets], dtype=np.float64),
            }
        )

    def __str__(self) -> str:
        """The explanation as text; omitted rows are counted."""
        lines = [f"Input in {self.region!r}", *_before_head(self), *_decision(self), "", *_aligned(_model(self)), ""]
        facets = _facets(self)
        lines += [*(_aligned(facets) if facets else []), *_touched(self)] if self.facets else [NO_FACET]
        return "\n".join([*lines, *(line for remark in _jumps(self) for line in ("", remark))])

    def _line(self) -> str:
        return f"{len(self.features)} features in {self.region!r}"

    def _parts(self) -> Iterable[str | TextTable]:
        yield f"Input in {self.region!r}"
        yield from [*_before_head(self), *_decision(self)]
        for head, *rows in filter(None, [_model(self), _facets(self)]):
            yield TextTable(head, rows)
        yield from _touched(self)
        yield from [NO_FACET] * (not self.facets) + _jumps(self)


def _before_head(explanation: Explanation) -> list[str]:
    has_head = explanation.region.function.head is not None
    return ["Outputs are the values before the network's head."] * has_head


def _jumps(explanation: Explanation) -> list[str]:
    may_jump = explanation.region.function.may_be_discontinuous
    return ["The local models may have been trained: the output may jump at the facets."] * may_jump


def _decision(explanation: Explanation) -> list[str]:
    decision = explanation.decision
    if decision is None:
        return []
    where = ", in the whole region"
    if not decision.constant:
        where = f" here, but output {decision.rival} exceeds it elsewhere in the region, as at decision.rival_at"
    line = f"Output {decision.label} of {len(explanation.output)} is the largest{where}; "
    behind = f"{number(decision.margin, DIGITS)} less" if decision.margin else "as large"
    return [line + f"the next, {decision.runner_up}, is {behind}"]


def _model(explanation: Explanation, most: int = 10) -> list[list[str]]:
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
                *(number(float(v), DIGITS) for v in (explanation.value[i], explanation.weight[k, i])),
                number(float(explanation.contribution[k, i]), DIGITS),
                "fixed" if explanation.fixed[i] else interval("", lower, upper, DIGITS).strip(),
            ]
        )
    others = np.delete(explanation.contribution[k], shown).sum()
    if len(shown) < len(size):
        table.append([f"{len(size) - len(shown)} others", "", "", number(float(others), DIGITS), "see to_frame()"])
    table.append(["bias", "", "", number(float(explanation.bias[k]), DIGITS), ""])
    table.append([title, "", "", number(float(explanation.output[k]), DIGITS), ""])
    return table


def _facets(explanation: Explanation, most: int = 5) -> list[list[str]]:
    facets = [facet for facet in explanation.facets if facet.distance > 0.0]
    if not facets:
        return []
    few = facets[:most]
    head = f"facet ({len(few)} nearest of {len(facets)})" if len(few) < len(facets) else f"facet (all {len(facets)})"
    scaled = bool((explanation.features.scale != 1.0).any())
    table = [[head, "distance" + " (scaled)" * scaled, "reached by one feature alone"]]
    for facet in few:
        distance = number(facet.distance, DIGITS)
        alone = "none"
        if facet.feature is not None:
            sign = "" if facet.change < 0.0 else "+"
            alone = f"{explanation.features.names[facet.feature]} {sign}{number(facet.change, DIGITS)}"
        table.append([_name(explanation, facet), distance if facet.direct else f"> {distance}", alone])
    return table


def _touched(explanation: Explanation, most: int = 5) -> list[str]:
    """The facets that the input lies on, which are at no distance: those of the domain, and those of neurons."""
    on_it = [facet for facet in explanation.facets if facet.distance == 0.0]
    ends, ties = ([facet for facet in on_it if (facet.neuron < 0) == is_end] for is_end in (True, False))
    lines = []
    for facets, words in (
        (ties, "The input lies on {} of a neuron, where its region ends"),
        (ends, "It lies on {} of the domain"),
    ):
        if facets:
            names = [_name(explanation, facet).removeprefix("domain: ") for facet in facets[:most]]
            names += [f"{len(facets) - most} more"] * (len(facets) > most)
            count = f"{len(facets)} facet{'s'[: len(facets) != 1]}"
            lines.append(f"{words.format(count)}: {', '.join(names)}")
    return lines


def _name(explanation: Explanation, facet: Facet) -> str:
    if facet.name != "domain":
        return facet.name
    a, b = explanation.features.affine(facet.normal[None], np.array([-facet.offset]))
    names, of = explanation.features.names, np.flatnonzero(a[0])
    if len(of) > 1:
        return f"domain: {inequality(a[0], -float(b[0]), names, DIGITS, 3, explanation.features.scale)}"
    ends = explanation.features.settled(np.where(a[0] == 0.0, 0.0, -b[0] / np.where(a[0] == 0.0, 1.0, a[0])))
    end, is_upper = float(ends[of[0]]), a[0, of[0]] > 0.0
    return f"domain: {interval(names[of[0]], -np.inf if is_upper else end, end if is_upper else np.inf, DIGITS)}"


def _aligned(table: list[list[str]]) -> list[str]:
    """Rows of a table as lines: first and last column left-aligned, numbers right-aligned."""
    widths = [max(len(row[k]) for row in table) for k in range(len(table[0]))]
    last = len(widths) - 1
    return [
        "  ".join(
            cell.ljust(width) if k in (0, last) else cell.rjust(width)
            for k, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    ]


@outside_modes
def explain(shallow: RegionNetwork, x: Tensor, *, features: Features | Sequence[str] | None = None) -> Explanation:
    """Explain what a network computes at one input and around it: its region, local linear model and facets.

    Nothing is sampled. For a network with a head, the trunk is explained. An input on the boundary of its region, for
    example by rounding of its dtype, has distance 0 from a facet.

    The facets are found by a linear program for each half-space that may be redundant; whether the class is constant in
    the region is decided by one linear program for each other class.

    Args:
        shallow: any network that `transform` makes, including merged and trained ones and those of visited regions.
        x: one input as the network reads it, floating point, of shape `in_shape`.
        features: names of the entries of the flattened input, or `Features` that also give their units.

    Returns:
        An `Explanation`, which prints as text and has `to_frame()` for tables.

    Raises:
        WrongTypeError: `shallow` is not such a network.
        TransformError: `x` is not one input, or in no known region; the number of features is wrong; a visited region
            has no interior; or a linear program fails.

    Example:
        >>> import torch, torch_shallow
        >>> from torch_shallow.explain import explain
        >>> model = torch.nn.Sequential(torch.nn.Linear(1, 1), torch.nn.ReLU())
        >>> with torch.no_grad():
        ...     _ = model[0].weight.fill_(2.0), model[0].bias.fill_(-1.0)
        >>> shallow = torch_shallow.transform(model, domain=torch_shallow.Box(0.0, 3.0))
        >>> found = explain(shallow, torch.tensor([2.0]), features=["age"])
        >>> found.output.tolist(), found.lower.tolist(), found.nearest.name
        ([3.0], [0.5], 'domain')
    """
    function = known_function(shallow)
    if function is None:
        raise WrongTypeError(
            f"shallow: expected a ShallowReLU, found {type(shallow).__name__}; make one by transform(model), or for a "
            "large model by transform(model, data=x[None])."
        )
    named = read_features(features, Size(function.in_shape).numel())
    point, number = _locate(function, x)
    region = Region(function, number) if isinstance(function, TreeFunction) else VisitedRegion(function, number)
    weight, bias = (part[0].detach().cpu().numpy() for part in function.affine_maps(torch.tensor([number])))
    output = weight @ point + bias
    fixed, half_spaces = fixed_of(region), region.half_spaces
    down, up = room(half_spaces.numpy()[0], slack_of(*half_spaces.numpy(), point), fixed)
    value, ends = named.unscale(point), (-down * named.scale, up * named.scale)
    needed = facets_of(region, half_spaces)
    a, b = needed.numpy()
    decision = None
    if len(function.out_shape) == 1 and len(output) > 1:
        free = np.where(fixed, 0.0, a)
        rows = free.any(axis=1)
        decision = decide(output, np.where(fixed, 0.0, weight), point, free[rows], slack_of(a, b, point)[rows])
    by_unit, constant = named.affine(weight, bias)
    return Explanation(
        region,
        named,
        point,
        value,
        fixed,
        output,
        by_unit,
        constant,
        named.settled(value + np.minimum(*ends)),
        named.settled(value + np.maximum(*ends)),
        seen_from(point, needed, fixed, named.scale),
        decision,
    )


def _locate(function: PiecewiseAffine, x: Tensor) -> tuple[Float[np.ndarray, "inputs"], int]:
    """Read an input as a row of float64, clipped to a box domain, and find its region.

    Raises:
        TransformError: it is not one input in a known region.
    """
    check_floating("x", x)
    if x.shape != function.in_shape:
        is_batch = x.shape[1:] == function.in_shape and x.dim() > 0
        remedy = "explain its rows one by one: [explain(shallow, row) for row in x]" if is_batch else "reshape it"
        found = f"a batch of shape {tuple(x.shape)}" if is_batch else f"shape {tuple(x.shape)}"
        raise TransformError(f"x: expected one input of shape {function.in_shape}, found {found}; {remedy}.")
    x = x.detach().to(function.device)
    number = int(function.locate(x))
    if number < 0:
        missing = f" ({function.missing})" if function.missing else ""
        raise TransformError(
            f"x: expected a finite input in the domain {function.domain!r} and in a known region{missing}, found one "
            "for which locate() is -1; pass another input, or transform the model in a larger domain."
        )
    point = x.reshape(-1).double().cpu().numpy()
    if isinstance(function.domain, Box):
        point = np.clip(point, *function.domain.bounds(function.in_shape))
    return point, number
