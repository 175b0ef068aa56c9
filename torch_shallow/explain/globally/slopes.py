"""What the slopes of all local models say: the Lipschitz constant, and in which inputs every output is monotone."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Integral
from operator import index
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.export import ExportedProgram

from torch_shallow.domain import Domain
from torch_shallow.errors import TransformError, argument_error
from torch_shallow.explain.features import Features, read_features
from torch_shallow.explain.function import known_network
from torch_shallow.explain.globally.in_chart import InChart, continuous
from torch_shallow.functions import Region, TreeFunction
from torch_shallow.modes import outside_modes
from torch_shallow.optional import require


@dataclass(frozen=True, eq=False)
class LipschitzConstant:
    """The least L with `|f(x) - f(y)| <= L |x - y|` for all x and y of the domain, and where it is reached.

    Attributes:
        value: the constant; 0 of a constant function.
        norm: 1, 2 or inf: of the inputs and of the outputs.
        region: a region in which it is reached.
        point: an interior point of this region.
        direction: a change of the input, of norm 1, in which it is reached: `f(point + t direction)` changes by
            `value * t` as long as it is in the region. Zero in inputs that have only one value.
        before_head: whether f is what enters the network's head (logits), and not its output.
    """

    value: float
    norm: float
    region: int
    point: Float[Tensor, "*in_shape"]
    direction: Float[Tensor, "*in_shape"]
    before_head: bool = False

    def __str__(self) -> str:
        of = " of the values before the head" * self.before_head
        return f"L{self.norm:g} Lipschitz constant{of} {self.value:.6g}, reached in region {self.region}"


@outside_modes
def lipschitz_constant(
    shallow: nn.Module | ExportedProgram | Callable[..., Tensor],
    norm: int | float = 2,
    domain: Domain | None = None,
    *,
    output: int | Sequence[int] | None = None,
) -> LipschitzConstant:
    """The exact Lipschitz constant of the trunk on the domain, in L1, L2 or L-infinity.

    A continuous piecewise-linear function on a convex domain changes nowhere faster than its steepest local model: the
    constant is the largest operator norm of all local models (largest column sum, singular value or row sum of the
    absolute weights), up to rounding. Inputs that a box fixes do not count, nor regions that are too thin for
    `transform` to find.

    Args:
        shallow: a network that knows all regions of its domain; or a model, which is transformed.
        norm: 1, 2 or inf, for inputs and outputs.
        domain: of a model, where to look.
        output: of one output alone, by its number in the flattened output or its index; of all if None.

    Raises:
        TransformError: the norm or the output is none of these, not all regions are known, or the weights may have been
            trained, so that there is no constant where the network jumps.

    Example:
        >>> import torch
        >>> model = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
        >>> found = lipschitz_constant(model)
        >>> x, y = torch.randn(100, 2), torch.randn(100, 2)
        >>> bool(((model(x) - model(y)).norm(dim=1) <= 1.0001 * found.value * (x - y).norm(dim=1) + 1e-5).all())
        True
    """
    if isinstance(norm, bool) or norm not in (1, 2, math.inf):
        raise argument_error(norm, int, float)(f"norm: expected 1, 2 or math.inf, found {norm!r}.")
    network = continuous(known_network(shallow, domain), "lipschitz_constant")
    subject = InChart(network)
    rows = slice(None) if output is None else [_number(output, network.out_shape)]
    largest, region = -1.0, 0
    for block in subject.blocks():
        weight = subject.maps(block)[0][:, rows][..., ~subject.fixed]
        norms = _norms(weight, norm, largest)
        if norms.max() > largest:
            largest, region = float(norms.max()), block.start + int(norms.argmax())
    weight = subject.maps(np.array([region]))[0][0, rows][:, ~subject.fixed]
    direction = np.zeros(subject.function.num_inputs)
    direction[~subject.fixed] = _steepest(weight, norm)
    return LipschitzConstant(
        largest,
        float(norm),
        region,
        subject.point(region),
        subject.tensor(direction, network.in_shape),
        before_head=network.head is not None,
    )


def _number(output: int | Sequence[int], shape: tuple[int, ...]) -> int:
    """The number in the flattened output.

    Raises:
        TransformError: there is no such output.
    """
    try:
        if isinstance(output, Sequence):
            return int(np.ravel_multi_index(tuple(output), shape)) if shape or output else 0
        if not isinstance(output, bool) and 0 <= index(output) < math.prod(shape):
            return index(output)
    except (ValueError, TypeError):
        pass
    raise argument_error(output, Integral, Sequence)(
        f"output: expected a number from 0 to {math.prod(shape) - 1} or an index into the shape {shape}, found "
        f"{output!r}."
    )


def _norms(
    weight: Float[np.ndarray, "regions outputs moving"], norm: int | float, known: float
) -> Float[np.ndarray, "regions"]:
    """The operator norm of each matrix; where it is proven to be no more than `known`, a lower bound instead."""
    if weight.shape[-1] == 0:
        return np.zeros(len(weight))
    if norm != 2:
        return np.abs(weight).sum(axis=1 if norm == 1 else 2).max(axis=1)
    squares = weight**2
    # The Frobenius norm is an upper bound, the longest row or column a lower one.
    upper = np.sqrt(squares.sum(axis=(1, 2)))
    lower = np.sqrt(np.maximum(squares.sum(axis=1).max(axis=1), squares.sum(axis=2).max(axis=1)))
    open_ones = np.flatnonzero(upper * (1.0 + 1e-12) >= max(known, lower.max()))
    if weight.shape[1] > 1:
        lower[open_ones] = torch.linalg.matrix_norm(torch.from_numpy(weight[open_ones]), ord=2).numpy()
    return lower


def _steepest(weight: Float[np.ndarray, "outputs moving"], norm: int | float) -> Float[np.ndarray, "moving"]:
    """A direction of norm 1 that a matrix makes longest."""
    direction = np.zeros(weight.shape[1])
    if weight.shape[1] == 0:
        return direction
    if norm == 1:
        direction[np.abs(weight).sum(axis=0).argmax()] = 1.0
        return direction
    if norm == 2:
        return np.linalg.svd(weight, full_matrices=False)[2][0]
    row = weight[np.abs(weight).sum(axis=1).argmax()]
    return np.where(row < 0.0, -1.0, 1.0)


@dataclass(frozen=True, eq=False)
class Counterexample:
    """Where a claim fails.

    Attributes:
        region: a region in which the output goes the other way.
        point: an interior point of it.
        slope: change of the output by unit of the feature.
    """

    region: int
    point: Float[Tensor, "*in_shape"]
    slope: float


@dataclass(frozen=True, eq=False)
class Monotonicity:
    """How each output of the trunk goes with each input, everywhere in the domain.

    Tensors are of shape `(*out_shape, *in_shape)`.

    Attributes:
        shallow: the network.
        features: names and units of the inputs.
        least: the least slope of all local models, by unit of the feature.
        greatest: the greatest.
        least_region: a region that has it.
        greatest_region: likewise.
        falls: whether some slope is negative by more than rounding.
        rises: likewise positive.
        rounding: slopes up to this size are none.
        fixed: of each input, whether it has only one value in the domain.
    """

    function: TreeFunction
    features: Features
    least: Float[Tensor, "*out_and_in_shape"]
    greatest: Float[Tensor, "*out_and_in_shape"]
    least_region: Int64[Tensor, "*out_and_in_shape"]
    greatest_region: Int64[Tensor, "*out_and_in_shape"]
    falls: Bool[Tensor, "*out_and_in_shape"]
    rises: Bool[Tensor, "*out_and_in_shape"]
    rounding: Float[Tensor, "*out_and_in_shape"]
    fixed: Bool[Tensor, "*in_shape"]

    @property
    def increasing(self) -> Bool[Tensor, "*out_and_in_shape"]:
        """Where the output never falls as the input rises; also where it is constant."""
        return ~self.falls

    @property
    def decreasing(self) -> Bool[Tensor, "*out_and_in_shape"]:
        """Where the output never rises as the input rises; also where it is constant."""
        return ~self.rises

    @property
    def constant(self) -> Bool[Tensor, "*out_and_in_shape"]:
        """Where the output does not depend on the input."""
        return ~self.falls & ~self.rises

    def verdict(self, feature: str | int, output: int = 0) -> str:
        """`"increasing"`, `"decreasing"`, `"constant"`, `"neither"`, or `"fixed"` where the input has one value.

        Args:
            feature: name or number of the input.
            output: number in the flattened output.
        """
        row, column = self._entry(feature, output)
        if self.fixed.reshape(-1)[column]:
            return "fixed"
        falls, rises = self._at(row, column, self.falls, self.rises)
        return {(0, 0): "constant", (0, 1): "increasing", (1, 0): "decreasing", (1, 1): "neither"}[falls, rises]

    def breaks(self, claim: str, feature: str | int, output: int = 0) -> Counterexample | None:
        """The region that breaks a claim most, or None if the claim holds.

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
        return Counterexample(region, Region(self.function, region).interior_point, low if least else high)

    def breaking_regions(self, claim: str, feature: str | int, output: int = 0) -> Int64[Tensor, "some"]:
        """All regions that break a claim; none if it holds. Arguments and errors as for `breaks`."""
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
        lines = ["of the values before the head:"] * (self.function.head is not None)
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
                if verdict == "neither":
                    regions = self._at(i, k, self.least_region, self.greatest_region)
                    where = f" (in regions {regions[0]} and {regions[1]})"
                lines.append(f"  {name:<{width}}  {verdict:<10}  slope {low:.4g} to {high:.4g}{where}")
        return "\n".join(lines)

    @property
    def _outputs(self) -> int:
        return math.prod(self.function.out_shape)

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
) -> Monotonicity:
    """Whether each output of the trunk is increasing, decreasing, constant or neither in each input: exactly.

    On a convex domain a continuous piecewise-linear function is increasing in an input if and only if no local model
    has a negative weight for it.

    Args:
        shallow: a network that knows all regions of its domain; or a model, which is transformed.
        domain: of a model, where to look.
        features: names and units of the inputs.
        tolerance: a weight up to this size, relative to the terms that it is added up from, is rounding.

    Raises:
        TransformError: not all regions are known, the weights may have been trained, so that the network may jump, the
            features do not fit, or the tolerance is out of range.

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
    network = continuous(known_network(shallow, domain), "monotonicity")
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
    return Monotonicity(
        network,
        named,
        subject.tensor(ends[0], place),
        subject.tensor(-ends[1], place),
        subject.tensor(regions[0], place),
        subject.tensor(regions[1], place),
        subject.tensor((ends[0] < -rounding) & ~subject.fixed, place),
        subject.tensor((ends[1] < -rounding) & ~subject.fixed, place),
        subject.tensor(rounding, place),
        subject.tensor(subject.fixed, network.in_shape),
    )
