"""Rules of all regions of a network: conditions, formulas, numbers of rows and error bounds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Size, Tensor, nn

from torch_shallow.display import Displayed, TextTable
from torch_shallow.domain import Box
from torch_shallow.errors import TransformError, WrongTypeError, argument_error
from torch_shallow.explain.features import Features, read_features
from torch_shallow.explain.locally.inner_rules import inner_rules
from torch_shallow.explain.locally.rules import Rules, inequality, interval, number, rules_of_region
from torch_shallow.functions import TreeFunction, require_all_regions
from torch_shallow.functions.points import check_rows
from torch_shallow.functions.region import Region
from torch_shallow.modes import outside_modes
from torch_shallow.modules.shallow_relu import ShallowReLU
from torch_shallow.modules.simplified_relu import SimplifiedReLU
from torch_shallow.optional import require

if TYPE_CHECKING:
    import pandas as pd

MOST_RULES = 1000


@dataclass(frozen=True, eq=False, repr=False)
class RuleSet(Displayed):
    """The rules of a network, one for each region: conditions, and an affine formula for each output of the trunk.

    Numbers in texts are rounded; those in `rules`, `weights` and `constants` are not. All are in the user's units.
    Iterating yields the `Rules` of each region.

    Attributes:
        rules: the conditions of each region.
        features: names and units of the inputs.
        output_names: names of the entries of the flattened output.
        weights: change of each output per unit of each feature, of shape `(regions, outputs, inputs)`.
        constants: constant term of each output, of shape `(regions, outputs)`.
        rows: number of rows of data in each region; None without data.
        num_rows: number of rows of data, including those in no region.
        errors: largest deviation of each output from the network that this one approximates, in each region; None if
            nothing is proven.
        same_class: for each region, whether the class is proven to be that of this network wherever its lead is larger
            than `margin`; None if this has not been examined.
        margin: a lead of the network up to which the class may differ; 0 without `same_class`.
        digits: significant digits of the numbers in texts.
    """

    rules: tuple[Rules, ...]
    features: Features
    output_names: tuple[str, ...]
    weights: Float[np.ndarray, "regions outputs inputs"]
    constants: Float[np.ndarray, "regions outputs"]
    rows: Int[np.ndarray, "regions"] | None
    num_rows: int
    errors: Float[np.ndarray, "regions outputs"] | None
    same_class: Bool[np.ndarray, "regions"] | None
    margin: float
    digits: int

    def __len__(self) -> int:
        return len(self.rules)

    def __iter__(self) -> Iterator[Rules]:
        return iter(self.rules)

    def __getitem__(self, region: int) -> Rules:
        return self.rules[region]

    @property
    def domain(self) -> tuple[str, ...]:
        """Conditions that hold in the whole domain: intervals of features, if it is a box."""
        lower, upper = self._bounds
        bounded = np.flatnonzero(np.isfinite(lower) | np.isfinite(upper))
        return tuple(interval(self.features.names[i], lower[i], upper[i], self.digits) for i in bounded)

    @property
    def _bounds(self) -> tuple[Float[np.ndarray, "inputs"], Float[np.ndarray, "inputs"]]:
        """Bounds of the domain in the user's units."""
        function = self.rules[0].region.function
        count = len(self.features)
        if not isinstance(function.domain, Box):
            return np.full(count, -np.inf), np.full(count, np.inf)
        ends = [self.features.unscale(bound) for bound in function.domain.bounds(function.in_shape)]
        return np.minimum(*ends), np.maximum(*ends)

    def conditions(self, region: int) -> tuple[str, ...]:
        """Conditions of a region as texts, without those that hold in the whole domain.

        Args:
            region: number of the region.

        Returns:
            One text for each condition, such as "age at least 40".
        """
        rule, names = self.rules[region], self.features.names
        lower, upper = self._bounds
        width = np.where(np.isfinite(upper - lower), upper - lower, 0.0)
        low = np.where(rule.lower > lower + 1e-12 * width, rule.lower, -np.inf)
        high = np.where(rule.upper < upper - 1e-12 * width, rule.upper, np.inf)
        low, high = (np.where(rule.fixed, -sign * np.inf, bound) for sign, bound in ((1, low), (-1, high)))
        some = np.flatnonzero(np.isfinite(low) | np.isfinite(high))
        words = [interval(names[i], float(low[i]), float(high[i]), self.digits) for i in some]
        for row in np.flatnonzero(rule.oblique):
            moving = np.where(rule.fixed, 0.0, rule.A[row])
            bound = float(rule.b[row] - rule.A[row, rule.fixed] @ rule.lower[rule.fixed])
            words.append(inequality(moving, bound, names, self.digits, None, self.features.scale))
        return tuple(words)

    def formulas(self, region: int) -> tuple[str, ...]:
        """Formulas of the outputs in a region, as texts.

        Args:
            region: number of the region.

        Returns:
            One text for each output, such as "output = 2 age + 1".
        """
        return tuple(
            f"{name} = {self._sum(weight, float(constant))}"
            for name, weight, constant in zip(
                self.output_names, self.weights[region], self.constants[region], strict=True
            )
        )

    def _sum(self, weight: Float[np.ndarray, "inputs"], constant: float) -> str:
        """An affine function as text, with the constant last."""
        sizes = np.abs(weight) * np.abs(self.features.scale)
        words: list[str] = []
        for i in np.flatnonzero(sizes > 1e-12 * max(sizes.max(initial=0.0), abs(constant))).tolist():
            coefficient = number(abs(float(weight[i])), self.digits)
            words += ["-" if weight[i] < 0.0 else "+", f"{coefficient} {self.features.names[i]}"]
        if constant != 0.0 or not words:
            words += ["-" if constant < 0.0 else "+", number(abs(constant), self.digits)]
        return " ".join(words[1:] if words[0] == "+" else [f"-{words[1]}", *words[2:]])

    def _lines(self, region: int) -> Iterator[str]:
        """Lines of text for the rule of a region."""
        conditions = self.conditions(region)
        lines = [f"IF  {conditions[0]}", *(f"AND {words}" for words in conditions[1:])] if conditions else ["always"]
        if self.rows is not None:
            lines[-1] += f"   ({int(self.rows[region]):,} of {self.num_rows:,} rows)"
        yield from lines
        for output, formula in enumerate(self.formulas(region)):
            error = (
                "" if self.errors is None else f"   (off by at most {number(self.errors[region, output], 3)}, proven)"
            )
            yield f"    {formula}{error}"
        if self.same_class is not None:
            where = f" wherever it leads by more than {number(self.margin, 2)}"
            yield f"    same class, proven{where}" if self.same_class[region] else f"    class not proven{where}"

    def __str__(self) -> str:
        lines = [f"{len(self):,} rule{'s'[: len(self) != 1]} (numbers rounded to {self.digits} digits)"]
        lines += [f"for {self.domain[0]}", *(f"    {words}" for words in self.domain[1:])] if self.domain else []
        for region in range(len(self)):
            first, *others = self._lines(region)
            lines += [f"{region + 1}. {first}", *(f"   {words}" for words in others)]
        return "\n".join(lines)

    def to_frame(self) -> pd.DataFrame:
        """Tabulate the rules, with one row for each region.

        Returns:
            A DataFrame with the columns `rule` and `conditions`, one column with the formula of each output, and the
            columns `rows`, `share` and `error` where they are known.

        Raises:
            ImportError: pandas is not installed.
        """
        return require("pandas", "explain").DataFrame(self._columns())

    def _columns(self) -> dict[str, list[Any]]:
        count = range(len(self))
        columns: dict[str, list[Any]] = {"rule": [k + 1 for k in count]}
        columns["conditions"] = [" and ".join(self.conditions(k)) or "always" for k in count]
        for output, name in enumerate(self.output_names):
            columns[name] = [self._sum(self.weights[k, output], float(self.constants[k, output])) for k in count]
        if self.rows is not None:
            columns["rows"] = self.rows.tolist()
            columns["share"] = (self.rows / max(1, self.num_rows)).tolist()
        if self.errors is not None:
            several = len(self.output_names) > 1
            for name, errors in zip(self.output_names, self.errors.T, strict=True):
                columns[f"error of {name}" if several else "error"] = errors.tolist()
        if self.same_class is not None:
            columns["same class"] = self.same_class.tolist()
        return columns

    def _line(self) -> str:
        return f"{len(self):,} rule{'s'[: len(self) != 1]} of {len(self.features)} features"

    def _parts(self) -> Iterable[str | TextTable]:
        columns = self._columns()
        columns["conditions"] = ["\n".join(self.conditions(k)) or "always" for k in range(len(self))]
        for name in columns:
            if name == "share" or name.startswith("error"):
                columns[name] = [number(float(value), 3) for value in columns[name]]
        if self.domain:
            yield f"for {'; '.join(self.domain)}"
        yield TextTable(tuple(columns), [[str(cell) for cell in row] for row in zip(*columns.values(), strict=True)])


def _rule_set(
    function: TreeFunction,
    features: Features,
    digits: int,
    x: Tensor | None,
    output_names: tuple[str, ...] | None,
    simplified: SimplifiedReLU | None,
) -> RuleSet:
    """Rules of all regions of a function.

    Args:
        function: the trunk.
        features: names and units of the inputs.
        digits: significant digits of the numbers in texts.
        x: rows of data to be counted.
        output_names: names of the outputs; numbered if None.
        simplified: the network, if something is proven of it.

    Raises:
        TransformError: there are too many regions or not all of them are known, or an argument has the wrong shape.
    """
    require_all_regions(function, "rules", "the rules of some regions say nothing of the others")
    count, outputs = function.num_regions, int(np.prod(function.out_shape, dtype=np.int64))
    if count > MOST_RULES:
        raise TransformError(
            f"region: expected a network of at most {MOST_RULES:,} regions, whose rules can be read, found one of "
            f"{count:,}; pass one of its regions, or a network of few regions, such as simplify() makes."
        )
    names = output_names or (("output",) if outputs == 1 else tuple(f"output[{k}]" for k in range(outputs)))
    if len(names) != outputs:
        raise TransformError(f"output_names: expected {outputs} names, found {len(names)}; name each output.")
    rows = None
    if x is not None:
        check_rows("x", x, function.in_shape)
        located = function.locate(x.detach().to(function.device)).cpu().numpy()
        rows = np.bincount(located[located >= 0], minlength=count)
    weight, bias = (array.detach().cpu().numpy() for array in function.affine_maps(torch.arange(count)))
    by_unit = weight.reshape(count, outputs, -1) / features.scale
    constants = bias.reshape(count, outputs) - by_unit @ features.mean
    every = tuple(rules_of_region(Region(function, k), features, digits) for k in range(count))
    errors, classes = None, None
    if simplified is not None:
        errors, classes = simplified.region_errors.cpu().numpy(), simplified.known_classes
    same_class = None if classes is None else classes.same.cpu().numpy()
    margin, num_rows = 0.0 if classes is None else classes.margin, 0 if x is None else len(x)
    return RuleSet(every, features, names, by_unit, constants, rows, num_rows, errors, same_class, margin, digits)


@overload
def rules(
    region: Region,
    *,
    features: Features | Sequence[str] | None = None,
    digits: int = 4,
    max_terms: int | None = None,
    x: Tensor | None = None,
) -> Rules: ...


@overload
def rules(
    region: nn.Module,
    *,
    features: Features | Sequence[str] | None = None,
    digits: int = 4,
    x: Tensor | None = None,
    output_names: Sequence[str] | None = None,
) -> RuleSet: ...


@outside_modes
def rules(
    region: Region | nn.Module,
    *,
    features: Features | Sequence[str] | None = None,
    digits: int = 4,
    max_terms: int | None = None,
    x: Tensor | None = None,
    output_names: Sequence[str] | None = None,
) -> Rules | RuleSet:
    """State when an input is in a region, as conditions without redundant ones; or list all rules of a network.

    Conditions on a single feature become an interval, which may include bounds of the domain; all others are linear
    inequalities. The rules of a network leave out what holds in its whole domain, and give the formulas of its trunk.

    A region of a network of ten inputs may have forty conditions, each on all inputs. With `max_terms`, each condition
    is on at most that many features, and together they *suffice*: an input that meets them is proven to be in the
    region, because each shortened condition assumes the worst values of the other features within their intervals.
    Among all such intervals, those with the most room around `x` are chosen: they maximise the product of the distances
    from `x` to their ends and to the inequalities. The conditions describe a part of the region, often a small one;
    `max_terms=1` gives a box.

    Args:
        region: any region of any network, or a `ShallowReLU` of at most 1,000 regions.
        features: names of the entries of the flattened input, or `Features` that also give their units.
        digits: significant digits of the numbers in texts; more where the ends of an interval would look equal.
        max_terms: for a region, the largest number of features in a condition; no limit if None.
        x: for a network, rows of data of shape `(rows, *in_shape)`, which are counted for each rule. For a region with
            `max_terms`, an input of shape `in_shape` around which the conditions are chosen; the region's interior
            point if None.
        output_names: for a network, names of the entries of its flattened output; numbered if None.

    Returns:
        `Rules` for a region, whose text is "always" if the region is all of R^n; a `RuleSet` for a network.

    Raises:
        WrongTypeError: `region` is neither a region nor a `ShallowReLU`.
        TransformError: the number of features or output names is wrong; `digits` is not from 1 to 17; `max_terms` is
            below 1 or given with a network; `x` or `output_names` do not belong to the kind of `region`; `x` is not in
            the region's interior; there are too many regions; a visited region has no interior; or a program fails.

    Example:
        >>> import torch, torch_shallow
        >>> from torch_shallow.explain import rules
        >>> model = torch.nn.Sequential(torch.nn.Linear(2, 1), torch.nn.ReLU())
        >>> with torch.no_grad():
        ...     _ = model[0].weight.copy_(torch.tensor([[2.0, -1.0]])), model[0].bias.fill_(-1.0)
        >>> shallow = torch_shallow.transform(model, domain=torch_shallow.Box(0.0, 3.0))
        >>> region = shallow.regions[int(shallow.locate(torch.tensor([2.0, 1.0])))]
        >>> print(rules(region, features=["income", "debt"]))
        IF  income at most 3
        AND debt between 0 and 3
        AND 2 income - debt >= 1
        (numbers rounded to 4 digits; those of A and b are not)
    """
    if not isinstance(region, ShallowReLU | Region):
        raise WrongTypeError(
            f"region: expected one of shallow.regions, or a ShallowReLU, found {type(region).__name__}; pass one."
        )
    if not isinstance(digits, int) or not 1 <= digits <= 17:
        raise argument_error(digits, int)(f"digits: expected an integer from 1 to 17, found {digits!r}; pass one.")
    named = read_features(features, Size(region.function.in_shape).numel())
    if max_terms is not None and (not isinstance(max_terms, int) or max_terms < 1):
        raise argument_error(max_terms, int)(
            f"max_terms: expected None or an integer of at least 1, found {max_terms!r}; pass one of these."
        )
    if isinstance(region, ShallowReLU):
        if max_terms is not None:
            raise TransformError(
                "max_terms: expected None with a network, whose rules cover every input, which shortened rules do not, "
                f"found {max_terms}; pass one of its regions, or a network that simplify() makes."
            )
        names = None if output_names is None else tuple(output_names)
        simplified = region if isinstance(region, SimplifiedReLU) else None
        return _rule_set(region.function, named, digits, x, names, simplified)
    for name, given in (("x", x if max_terms is None else None), ("output_names", output_names)):
        if given is not None:
            raise TransformError(f"{name}: expected None with a region, found one; pass the network for all its rules.")
    if max_terms is not None:
        return inner_rules(region, named, digits, max_terms, x)
    return rules_of_region(region, named, digits)
