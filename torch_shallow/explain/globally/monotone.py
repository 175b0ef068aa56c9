"""In which inputs every output of a network is monotone."""

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

SEARCH_TOLERANCE = 1e-10  # a search takes a slope up to this share of its terms for rounding


@dataclass(frozen=True, eq=False)
class Counterexample:
    """Where a claim fails.

    Attributes:
        region: a region in which the output goes the other way; -1 where regions were not numbered.
        point: an interior point of it.
        slope: change of the output by unit of the feature.
    """

    region: int
    point: Float[Tensor, "*in_shape"]
    slope: float


@dataclass(frozen=True, eq=False, repr=False)
class Monotonicity(Displayed):
    """How each output of the trunk goes with each input, everywhere in the domain.

    Tensors are of shape `(*out_shape, *in_shape)`.

    Attributes:
        function: the network with its regions; None of a deep model that was searched.
        features: names and units of the inputs.
        least: the least slope of all local models, by unit of the feature. Of a search, the least one that was found.
        greatest: the greatest likewise.
        least_region: a region that has it; -1 of a search.
        greatest_region: likewise.
        falls: whether some slope is negative by more than rounding.
        rises: likewise positive.
        rounding: slopes up to this size are none.
        fixed: of each input, whether it has only one value in the domain.
        lower_bound: no slope is below this: proven. A search that only asks for signs leaves it as it then is, which is
            -inf where `falls` was seen at once.
        upper_bound: no slope is above this likewise.
        least_point: of a search, an interior point of a region that has `least`, flattened.
        greatest_point: likewise of `greatest`.
        before_head: whether the outputs are those before the network's head.
        cells: how many cells a search opened; 0 where all regions were looked at.
        seconds: how long the search took.
        reason: why the search was stopped; empty if it was not.
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
        """Where the output is proven never to fall as the input rises; also where it is constant."""
        return self.fixed | (~self.falls & (self.lower_bound >= -self.rounding))

    @property
    def decreasing(self) -> Bool[Tensor, "*out_and_in_shape"]:
        """Where the output is proven never to rise as the input rises; also where it is constant."""
        return self.fixed | (~self.rises & (self.upper_bound <= self.rounding))

    @property
    def constant(self) -> Bool[Tensor, "*out_and_in_shape"]:
        """Where the output is proven not to depend on the input."""
        return self.increasing & self.decreasing

    @property
    def undecided(self) -> Bool[Tensor, "*out_and_in_shape"]:
        """Where it is not known whether some slope is negative, or whether one is positive."""
        return ~((self.increasing | self.falls) & (self.decreasing | self.rises))

    @property
    def gap(self) -> Float[Tensor, "*out_and_in_shape"]:
        """The width of the proven intervals of both ends together."""
        return (self.least - self.lower_bound) + (self.upper_bound - self.greatest)

    @property
    def proven(self) -> bool:
        """Whether all verdicts are known."""
        return not bool(self.undecided.any())

    def verdict(self, feature: str | int, output: int = 0) -> str:
        """How an output goes with an input.

        It is `"increasing"`, `"decreasing"`, `"constant"`, `"neither"`, or `"fixed"` where the input has one value;
        where a search was stopped, also `"undecided"`.

        Args:
            feature: name or number of the input.
            output: number in the flattened output.
        """
        row, column = self._entry(feature, output)
        if self.fixed.reshape(-1)[column]:
            return "fixed"
        up, down, falls, rises = self._at(row, column, self.increasing, self.decreasing, self.falls, self.rises)
        if falls and rises:
            return "neither"
        return {(0, 0): "undecided", (0, 1): "decreasing", (1, 0): "increasing", (1, 1): "constant"}[up, down]

    def breaks(self, claim: str, feature: str | int, output: int = 0) -> Counterexample | None:
        """The region that breaks a claim most, of those that were found, or None if none was found.

        Args:
            claim: `"increasing"`, `"decreasing"` or `"constant"`.
            feature: name or number of the input.
            output: number in the flattened output.

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
            assert points is not None  # as a search gives them
            point = points.reshape(self._outputs, self._inputs, -1)[row, column].reshape(self.fixed.shape)
        return Counterexample(region, point, low if least else high)

    def breaking_regions(self, claim: str, feature: str | int, output: int = 0) -> Int64[Tensor, "some"]:
        """All regions that break a claim; none if it holds. Arguments and errors as for `breaks`.

        Raises:
            TransformError: the model was searched without finding its regions.
        """
        if self.function is None:
            raise TransformError(
                "breaking_regions: expected a network whose regions are known, found a deep model that was searched "
                "without finding them; pass monotonicity the shallow network, transform(model, domain=domain)."
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
        """A row of a pandas table for each output and input.

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
        """A line for each output and input."""
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
        """The entry of an output and an input in some tensors, as a number of Python."""
        return [tensor.reshape(self._outputs, -1)[output, column].item() for tensor in tensors]

    def _broken(self, claim: str, feature: str | int, output: int) -> tuple[int, int, bool, bool]:
        """The entry that a claim is about, and whether falling and rising break it."""
        row, column = self._entry(feature, output)
        if claim not in ("increasing", "decreasing", "constant"):
            raise TransformError(f"claim: expected 'increasing', 'decreasing' or 'constant', found {claim!r}.")
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
    """Whether each output of the trunk is increasing, decreasing, constant or neither in each input: exactly.

    On a convex domain a continuous piecewise-linear function is increasing in an input if and only if no local model
    has a negative weight for it.

    A deep model in a bounded domain is searched without finding all regions. The search decides the signs: it ends with
    a negative slope, or the proof that there is none, and leaves the intervals of the least and greatest slopes as wide
    as they then are. In an unbounded domain, the model is transformed. Stopped by a time limit or by Ctrl-C, some
    verdicts may be `"undecided"`.

    Args:
        shallow: a model; or a network that knows all regions of its domain.
        domain: of a model, where to look.
        features: names and units of the inputs.
        tolerance: a weight up to this size, relative to the terms that it is added up from, is rounding; of a search,
            1e-10 at least, or what the bounds of a large network leave.
        exact_slopes: whether the search goes on until the least and greatest slopes are known.
        example_input: a batch of inputs; needed only where a model does not tell the shape of one.
        workers: of the search: a number of threads, or any `concurrent.futures.Executor`.
        time_limit: stop the search after about so many seconds, for all outputs and inputs together.
        progress: show the interval that is proven of each slope that is asked for.

    Raises:
        TransformError: not all regions of a shallow network are known, its weights may have been trained, so that it
            may jump, the features do not fit, the tolerance is out of range, or an argument of the search is given
            with a network whose regions are known.

    Example:
        >>> import torch
        >>> model = torch.nn.Sequential(torch.nn.Linear(2, 4), torch.nn.ReLU(), torch.nn.Linear(4, 1))
        >>> with torch.no_grad():
        ...     for parameter in model.parameters():
        ...         _ = parameter.abs_()
        >>> monotonicity(model, features=["age", "income"]).verdict("age")
        'increasing'
    """
    if not 0.0 <= tolerance < 1e-3:
        raise TransformError(f"tolerance: expected a number from 0 to below 0.001, found {tolerance}.")
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
    """The verdicts on a deep model by the search."""
    program, asking = subject.program, Asking(options)
    rounding = rounding_of_slopes(program, tolerance)
    wanted = np.ones((2, *rounding.shape), dtype=bool)
    ends = SlopeSearch(program, subject.domain, asking).ends(rounding, wanted, exact_slopes)
    # By unit of the feature, where a negative scale turns the input around.
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
