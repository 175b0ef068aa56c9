"""An explanation as text and as tables."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from torch_shallow.errors import TransformError
from torch_shallow.optional import require

if TYPE_CHECKING:
    import pandas as pd

    from torch_shallow.explain.locally.explanation import Explanation
    from torch_shallow.explain.locally.seen_facets import Facet

MOST_DIGITS = 17  # which tell any two numbers apart
ROUNDING = 1e-12  # a coefficient that counts for less than this share of the one that counts most is shown as 0


def number(value: float, digits: int) -> str:
    """A number with so many significant digits, or all those before the point if these are more.

    Example:
        >>> number(0.50001, 4), number(12345.6, 4), number(1.23456e-7, 3)
        ('0.5', '12346', '1.23e-07')
    """
    if value == 0.0 or not math.isfinite(value):
        return "0" if value == 0.0 else str(value)
    power = math.floor(math.log10(abs(value)))
    if not -5 < power < 9:
        return f"{value:.{digits - 1}e}"
    text = f"{value:.{max(0, digits - 1 - power)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def interval(name: str, lower: float, upper: float, digits: int) -> str:
    """What is said of a feature between two bounds, which may be infinite.

    As many more digits are shown as it takes to tell the bounds apart.

    Example:
        >>> interval("age", 40.0001, 40.0002, 4), interval("age", -math.inf, 30.0, 4), interval("age", 7.0, 7.0, 4)
        ('age between 40.0001 and 40.0002', 'age at most 30', 'age = 7')
    """
    if lower == upper:
        return f"{name} = {number(lower, digits)}"
    if math.isinf(lower) and math.isinf(upper):
        return f"{name} any number"
    if math.isinf(lower):
        return f"{name} at most {number(upper, digits)}"
    if math.isinf(upper):
        return f"{name} at least {number(lower, digits)}"
    while number(lower, digits) == number(upper, digits) and digits < MOST_DIGITS:
        digits += 1
    return f"{name} between {number(lower, digits)} and {number(upper, digits)}"


def inequality(
    a: Float[np.ndarray, "inputs"],
    b: float,
    names: Sequence[str],
    digits: int,
    most_terms: int | None = None,
    scale: Float[np.ndarray, "inputs"] | None = None,
) -> str:
    """`a @ x <= b` in words, the first coefficient positive.

    Args:
        a: coefficients, not all of them zero; those that are 0 up to rounding are left out.
        b: right-hand side.
        names: of the features.
        digits: significant digits of each number.
        most_terms: where there are more terms, only those that count most and how many are left out; all terms if None.
        scale: how much of a feature is about as much as that of another: a coefficient counts by its product with this.
            All count alike if None.

    Example:
        >>> inequality(np.array([-2.0, 0.0, 1.0]), 3.0, ["age", "size", "income"], 4)
        '2 age - income >= -3'
    """
    size = np.abs(a) if scale is None else np.abs(a * scale)
    at = np.flatnonzero(size > ROUNDING * size.max())
    left_out = 0 if most_terms is None else max(0, len(at) - most_terms)
    at = np.sort(at[np.argsort(-size[at], kind="stable")[: len(at) - left_out]])
    sign = 1.0 if a[at[0]] > 0.0 else -1.0
    words: list[str] = []
    for i in map(int, at):
        coefficient = number(abs(float(a[i])), digits)
        words += ["-" if sign * a[i] < 0.0 else "+", names[i] if coefficient == "1" else f"{coefficient} {names[i]}"]
    terms = " ".join(words[1:]) + f" + ... ({left_out} more terms)" * (left_out > 0)
    return f"{terms} {'<=' if sign > 0.0 else '>='} {number(sign * b, digits)}"


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
    if explanation.region.shallow.head is not None:
        lines.insert(1, "Outputs are the values before the network's head.")
    lines += _model(explanation, digits, most_features)
    lines += ["", *_facets(explanation, digits, most_facets)]
    if explanation.region.shallow.may_be_discontinuous:
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
