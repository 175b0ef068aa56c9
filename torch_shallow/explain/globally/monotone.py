"""Monotonicity of every output of a network in every input."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.export import ExportedProgram

from torch_shallow.display import Displayed
from torch_shallow.domain import Domain
from torch_shallow.errors import TransformError
from torch_shallow.explain.asking import Asking, SearchOptions
from torch_shallow.explain.features import Features, read_features
from torch_shallow.explain.globally.in_chart import InChart
from torch_shallow.explain.globally.searched_slopes import (
    SlopeSearch,
    looked_at,
    rounding_of_slopes,
    searched_subject,
)
from torch_shallow.explain.subject import Subject
from torch_shallow.functions import Region, TreeFunction
from torch_shallow.modes import outside_modes
from torch_shallow.optional import require

SEARCH_TOLERANCE = 1e-10  # slopes up to this share of their terms count as rounding in a search


@dataclass(frozen=True, eq=False)
class Counterexample:
    """A region in which a claim about monotonicity fails.

    Attributes:
        region: number of a region in which the output goes the other way; -1 where regions were not numbered.
        point: an interior point of the region.
        slope: change of the output per unit of the feature.
    """

    region: int
    point: Float[Tensor, "*in_shape"]
    slope: float


@dataclass(frozen=True, eq=False, repr=False)
class Monotonicity(Displayed):
    """How each output of the trunk changes with each input, everywhere in the domain.

    Tensors have the shape `(*out_shape, *in_shape)` unless stated otherwise.

    Attributes:
        function: the network with its regions; None for a deep model that was searched.
        features: names and units of the inputs.
        least: least slope of all local models, per unit of the feature; for a search, the least slope that was found.
        greatest: greatest slope of all local models; for a search, the greatest slope that was found.
        least_region: number of a region with the least slope; -1 for a search.
        greatest_region: number of a region with the greatest slope; -1 for a search.
        falls: whether some slope is negative by more than rounding.
        rises: whether some slope is positive by more than rounding.
        rounding: size up to which slopes count as zero.
        fixed: whether each input has only one value in the domain, of shape `in_shape`.
        lower_bound: proven lower bound on all slopes. A search for signs alone leaves it as it is when the sign is
            known, which is -inf where `falls` was found at once.
        upper_bound: proven upper bound on all slopes, with the same exception.
        least_point: for a search, an interior point of a region with slope `least`, flattened.
        greatest_point: for a search, an interior point of a region with slope `greatest`, flattened.
        before_head: whether the outputs are the values that enter the network's head (logits).
        cells: number of cells that a search opened; 0 where all regions were examined.
        seconds: time that the search took, in seconds.
        reason: reason why the search was stopped; empty if it was not.
    """

    function: TreeFunction | None
    features: Features
    least: Float[Tensor, "*out_and_in_shape"]
    greatest: Float[Tensor, "*out_and_in_shape"]
    least_region: Int64[Tensor, "*out_and_in_shape"]
    greatest_region: Int64[Tensor, "*out_and_in_shape"]
    falls: Bool[Tensor, "*out_and_in_shape"]
    rises: Bool[Tensor, "*out_and_in_shape"]
    rounding: Float[Tensor, "*out_and_in_shape"]
    fixed: Bool[Tensor, "*in_shape"]
    lower_bound: Float[Tensor, "*out_and_in_shape"]
    upper_bound: Float[Tensor, "*out_and_in_shape"]
    least_point: Float[Tensor, "*out_in_and_inputs"] | None = None
    greatest_point: Float[Tensor, "*out_in_and_inputs"] | None = None
    before_head: bool = False
    cells: int = 0
    seconds: float = 0.0
    reason: str = ""

    @property
    def increasing(self) -> Bool[Tensor, "*out_and_in_shape"]:
        """Where the output is proven never to fall as the input rises, which includes constant outputs."""
        return self.fixed | (~self.falls & (self.lower_bound >= -self.rounding))

    @property
    def decreasing(self) -> Bool[Tensor, "*out_and_in_shape"]:
        """Where the output is proven never to rise as the input rises, which includes constant outputs."""
        return self.fixed | (~self.rises & (self.upper_bound <= self.rounding))

    @property
    def constant(self) -> Bool[Tensor, "*out_and_in_shape"]:
        """Where the output is proven not to depend on the input."""
        return self.increasing & self.decreasing

    @property
    def undecided(self) -> Bool[Tensor, "*out_and_in_shape"]:
        """Where it is unknown whether some slope is negative, or whether some slope is positive."""
        return ~((self.increasing | self.falls) & (self.decreasing | self.rises))

    @property
    def gap(self) -> Float[Tensor, "*out_and_in_shape"]:
        """Total width of the proven intervals of the least and the greatest slope."""
        return (self.least - self.lower_bound) + (self.upper_bound - self.greatest)

    @property
    def proven(self) -> bool:
        """Whether all verdicts are known."""
        return not bool(self.undecided.any())

    def verdict(self, feature: str | int, output: int = 0) -> str:
        """Tell how an output changes with an input.

        Args:
            feature: name or number of the input.
            output: number in the flattened output.

        Returns:
            `"increasing"`, `"decreasing"`, `"constant"`, `"neither"`, `"fixed"` if the input has only one value, or
            `"undecided"` if the search was stopped too early.

        Raises:
            TransformError: there is no such feature or output.
        """
        row, column = self._entry(feature, output)
        if self.fixed.reshape(-1)[column]:
            return "fixed"
        up, down, falls, rises = self._at(row, column, self.increasing, self.decreasing, self.falls, self.rises)
        if falls and rises:
            return "neither"
        return {(0, 0): "undecided", (0, 1): "decreasing", (1, 0): "increasing", (1, 1): "constant"}[up, down]

    def breaks(self, claim: str, feature: str | int, output: int = 0) -> Counterexample | None:
        """Find the region that breaks a claim most, among those that were found.

        Args:
            claim: `"increasing"`, `"decreasing"` or `"constant"`.
            feature: name or number of the input.
            output: number in the flattened output.

        Returns:
            A `Counterexample`, or None if none was found.

        Raises:
            TransformError: there is no such claim, feature or output.
        """
        row, column, down, up = self._broken(claim, feature, output)
        low, high = self._at(row, column, self.least, self.greatest)
        if not (down or up):
            return None
        least = down and not (up and high > -low)
        (region,) = self._at(row, column, self.least_region if least else self.greatest_region)
        points = self.least_point if least else self.greatest_point
        if self.function is not None:
            point = Region(self.function, region).interior_point
        else:
            assert points is not None  # a search always records them
            point = points.reshape(self._outputs, self._inputs, -1)[row, column].reshape(self.fixed.shape)
        return Counterexample(region, point, low if least else high)

    def breaking_regions(self, claim: str, feature: str | int, output: int = 0) -> Int64[Tensor, "some"]:
        """Find all regions that break a claim.

        Args:
            claim: `"increasing"`, `"decreasing"` or `"constant"`.
            feature: name or number of the input.
            output: number in the flattened output.

        Returns:
            The numbers of the regions, int64; empty if the claim holds.

        Raises:
            TransformError: there is no such claim, feature or output, or the model was searched without finding its
                regions.
        """
        if self.function is None:
            raise TransformError(
                "breaking_regions: expected a network whose regions are known, found a deep model that was searched "
                "without finding them; call monotonicity on the shallow network, transform(model, domain=domain)."
            )
        row, column, down, up = self._broken(claim, feature, output)
        (rounding,), found = self._at(row, column, self.rounding), [np.zeros(0, dtype=np.int64)]
        subject = InChart(self.function)
        for block in subject.blocks() if down or up else ():
            slope = subject.maps(block)[0][:, row, column] / self.features.scale[column]
            broken = (slope < -rounding) * down | (slope > rounding) * up
            found.append(block.start + np.flatnonzero(broken))
        regions = np.concatenate(found)
        return subject.tensor(regions, regions.shape)

    def to_frame(self) -> Any:
        """Tabulate the slopes and verdicts.

        Returns:
            A pandas DataFrame with one row for each output and input.

        Raises:
            ImportError: pandas is not installed.
        """
        names = ("least", "least_region", "greatest", "greatest_region")
        columns = {name: getattr(self, name).reshape(-1).tolist() for name in names}
        pairs = [(i, k) for i in range(self._outputs) for k in range(len(self.features))]
        return require("pandas", "explain").DataFrame(
            {
                "output": [i for i, _ in pairs],
                "feature": [self.features.names[k] for _, k in pairs],
                "verdict": [self.verdict(k, i) for i, k in pairs],
                **columns,
            }
        )

    def __str__(self) -> str:
        """One line for each output and input."""
        width = max([len(name) for name in self.features.names], default=0)
        lines = ["of the values before the head:"] * self.before_head
        for i in range(self._outputs):
            lines += [f"output {i}:"] * (self._outputs > 1)
            for k, name in enumerate(self.features.names):
                verdict = self.verdict(k, i)
                if verdict == "fixed":
                    lines.append(f"  {name:<{width}}  fixed")
                    continue
                falls, rises = self._at(i, k, self.falls, self.rises)
                low, high = self._at(i, k, self.least, self.greatest)
                low, high = (0.0 if not falls and low < 0.0 else low), (0.0 if not rises and high > 0.0 else high)
                where = ""
                if verdict == "neither" and self.function is not None:
                    regions = self._at(i, k, self.least_region, self.greatest_region)
                    where = f" (in regions {regions[0]} and {regions[1]})"
                lines.append(f"  {name:<{width}}  {verdict:<10}  slope {low:.4g} to {high:.4g}{where}")
        if not self.proven:
            lines.append(f"  undecided: the search was stopped ({self.reason or 'rounding'})")
        return "\n".join(lines)

    def _line(self) -> str:
        return f"{self._outputs} output{'s'[: self._outputs != 1]}, {len(self.features)} features"

    @property
    def _outputs(self) -> int:
        return self.least.numel() // max(self._inputs, 1)

    @property
    def _inputs(self) -> int:
        return math.prod(self.fixed.shape)

    def _at(self, output: int, column: int, *tensors: Tensor) -> list[Any]:
        """Entries of some tensors for an output and an input, as Python numbers."""
        return [tensor.reshape(self._outputs, -1)[output, column].item() for tensor in tensors]

    def _broken(self, claim: str, feature: str | int, output: int) -> tuple[int, int, bool, bool]:
        """The entry that a claim is about, and whether falling and rising outputs break it."""
        row, column = self._entry(feature, output)
        if claim not in ("increasing", "decreasing", "constant"):
            raise TransformError(
                f"claim: expected 'increasing', 'decreasing' or 'constant', found {claim!r}; pass one of these."
            )
        falls, rises = self._at(row, column, self.falls, self.rises)
        return row, column, falls and claim != "decreasing", rises and claim != "increasing"

    def _entry(self, feature: str | int, output: int) -> tuple[int, int]:
        if not 0 <= output < self._outputs:
            raise TransformError(f"output: expected a number from 0 to {self._outputs - 1}, found {output}.")
        return output, self.features.index(feature)


@outside_modes
def monotonicity(
    shallow: nn.Module | ExportedProgram | Callable[..., Tensor],
    domain: Domain | None = None,
    *,
    features: Features | Sequence[str] | None = None,
    tolerance: float = 1e-12,
    exact_slopes: bool = False,
    example_input: Tensor | None = None,
    workers: int | Executor = 1,
    time_limit: float | None = None,
    progress: bool = False,
) -> Monotonicity:
    """Decide whether each output of the trunk is increasing, decreasing, constant or neither in each input, exactly.

    On a convex domain, a continuous piecewise-linear function is increasing in an input if and only if no local model
    has a negative weight for it.

    A deep model in a bounded domain is searched without finding all regions. The search decides the signs: it ends with
    a negative slope, or with proof that there is none, and leaves the intervals of the least and greatest slopes as
    wide as they are then. In an unbounded domain, the model is transformed. After a time limit or Ctrl-C, some verdicts
    may be `"undecided"`.

    Args:
        shallow: a model, or a network that knows all regions of its domain.
        domain: for a model, the domain to examine; all of R^n if None.
        features: names of the inputs, or `Features` that also give their units.
        tolerance: size below which a weight counts as zero, relative to the terms that it is summed from; for a search
            at least 1e-10, or the rounding of the bounds of a large network.
        exact_slopes: whether the search goes on until the least and greatest slopes are known.
        example_input: a batch of inputs, needed only where a model does not tell the shape of one.
        workers: for a search, a number of threads, or any `concurrent.futures.Executor`.
        time_limit: time in seconds for all outputs and inputs together, after which the search is stopped.
        progress: show the proven interval of each slope in question.

    Returns:
        A `Monotonicity`, which gives verdicts by feature and output.

    Raises:
        WrongTypeError: an argument is of another type.
        TransformError: not all regions of a shallow network are known, it may jump because its weights may have been
            trained, the features do not fit, the tolerance is out of range, or an argument of the search is given with
            a network whose regions are known.

    Example:
        >>> import torch
        >>> from torch_shallow.explain import monotonicity
        >>> model = torch.nn.Sequential(torch.nn.Linear(2, 4), torch.nn.ReLU(), torch.nn.Linear(4, 1))
        >>> with torch.no_grad():
        ...     for parameter in model.parameters():
        ...         _ = parameter.abs_()
        >>> monotonicity(model, features=["age", "income"]).verdict("age")
        'increasing'
    """
    if not 0.0 <= tolerance < 1e-3:
        raise TransformError(f"tolerance: expected a number from 0 to below 0.001, found {tolerance}; leave it out.")
    options = SearchOptions(workers=workers, time_limit=time_limit, progress=progress)
    searched = searched_subject(shallow, domain, example_input)
    if searched is not None:
        named = read_features(features, searched.program.num_inputs)
        return _by_search(searched, named, max(tolerance, SEARCH_TOLERANCE), exact_slopes, options)
    begun = time.monotonic()
    network, reason = looked_at(shallow, domain, example_input, options, "monotonicity")
    subject = InChart(network)
    named = read_features(features, subject.function.num_inputs)
    shape = (subject.function.num_outputs, subject.function.num_inputs)
    ends, regions = np.full((2, *shape), np.inf), np.zeros((2, *shape), dtype=np.int64)
    for block in subject.blocks():
        weight = subject.maps(block)[0] / named.scale
        for side, signed in enumerate((weight, -weight)):
            at = signed.argmin(axis=0)
            value = np.take_along_axis(signed, at[None], axis=0)[0]
            better = value < ends[side]
            ends[side] = np.where(better, value, ends[side])
            regions[side] = np.where(better, at + block.start, regions[side])
    rounding = tolerance * subject.terms / np.abs(named.scale)
    place = (*network.out_shape, *network.in_shape)
    least, greatest = subject.tensor(ends[0], place), subject.tensor(-ends[1], place)
    return Monotonicity(
        network,
        named,
        least,
        greatest,
        subject.tensor(regions[0], place),
        subject.tensor(regions[1], place),
        subject.tensor((ends[0] < -rounding) & ~subject.fixed, place),
        subject.tensor((ends[1] < -rounding) & ~subject.fixed, place),
        subject.tensor(rounding, place),
        subject.tensor(subject.fixed, network.in_shape),
        torch.full_like(least, -torch.inf) if reason else least,
        torch.full_like(greatest, torch.inf) if reason else greatest,
        before_head=network.head is not None,
        seconds=time.monotonic() - begun,
        reason=reason,
    )


def _by_search(
    subject: Subject, features: Features, tolerance: float, exact_slopes: bool, options: SearchOptions
) -> Monotonicity:
    """Monotonicity of a deep model, by a search."""
    program, asking = subject.program, Asking(options, options.begun)
    rounding = rounding_of_slopes(program, tolerance)
    wanted = np.ones((2, *rounding.shape), dtype=bool)
    ends = SlopeSearch(program, subject.domain, asking).ends(rounding, wanted, exact_slopes)
    # Per unit of the feature; a negative scale swaps the two ends.
    sizes, turned = np.abs(features.scale), features.scale < 0.0

    def of_feature(values: Float[np.ndarray, "2 outputs inputs"]) -> Float[np.ndarray, "2 outputs inputs"]:
        return np.where(turned, values[::-1], values)

    found, bound = of_feature(ends.found / sizes), of_feature(ends.bound / sizes)
    points = np.where(turned[:, None], ends.points[::-1], ends.points)
    breaks = (found > rounding / sizes) & ~ends.fixed
    place = (*program.out_shape, *program.in_shape)

    def tensor(values: np.ndarray, shape: tuple[int, ...] = place) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).reshape(shape).to(subject.device)

    nowhere = tensor(np.full(rounding.shape, -1, dtype=np.int64))
    return Monotonicity(
        None,
        features,
        tensor(-found[0]),
        tensor(found[1]),
        nowhere,
        nowhere.clone(),
        tensor(breaks[0]),
        tensor(breaks[1]),
        tensor(rounding / sizes),
        tensor(ends.fixed, program.in_shape),
        tensor(-bound[0]),
        tensor(bound[1]),
        tensor(points[0], (*place, program.num_inputs)),
        tensor(points[1], (*place, program.num_inputs)),
        before_head=subject.head is not None,
        cells=asking.cells,
        seconds=asking.seconds,
        reason=asking.reason,
    )
