"""One input, explained: its region, its local linear model, and what would change first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Size, Tensor

from torch_shallow.domain import Box
from torch_shallow.errors import TransformError
from torch_shallow.explain.features import Features, read_features
from torch_shallow.explain.locally.decision import Decision, decide
from torch_shallow.explain.locally.seen_facets import Facet, facets_of, fixed_of, room, seen_from, slack_of
from torch_shallow.explain.locally.wording import facets_frame, features_frame, text
from torch_shallow.functions import Region
from torch_shallow.functions.points import check_floating
from torch_shallow.modes import outside_modes
from torch_shallow.modules.shallow_relu import ShallowReLU

if TYPE_CHECKING:
    import pandas as pd


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


@outside_modes
def explain(shallow: ShallowReLU, x: Tensor, *, features: Features | Sequence[str] | None = None) -> Explanation:
    """What a network computes at one input and around it: its region, its local linear model, and what ends it.

    Nothing is sampled. Of a network with a head it is of the trunk. An input on the boundary of its region, as by
    rounding of its dtype, is at distance 0 from a facet.

    The facets are found by a linear program for each half-space that is not plainly needed, and whether the class is
    constant in the region by one for each other class.

    Args:
        shallow: any network that `transform` makes, merged or trained ones and those of visited regions included.
        x: one input as the network reads it, floating point, of shape `in_shape`.
        features: names of the entries of the flattened input, or `Features` that also tell their units.

    Raises:
        TransformError: `x` is not one input, or in no known region; there are more or fewer features than inputs; a
            visited region has no interior; or a linear program fails.

    Example:
        >>> import torch, torch_shallow
        >>> model = torch.nn.Sequential(torch.nn.Linear(1, 1), torch.nn.ReLU())
        >>> with torch.no_grad():
        ...     _ = model[0].weight.fill_(2.0), model[0].bias.fill_(-1.0)
        >>> shallow = torch_shallow.transform(model, domain=torch_shallow.Box(0.0, 3.0))
        >>> found = explain(shallow, torch.tensor([2.0]), features=["age"])
        >>> found.output.tolist(), found.lower.tolist(), found.nearest.name
        ([3.0], [0.5], 'domain')
    """
    if not isinstance(shallow, ShallowReLU):
        raise TransformError(
            f"shallow: expected a ShallowReLU, found {type(shallow).__name__}; make one with transform(model), or of a "
            "large model with transform(model, data=x[None])."
        )
    named = read_features(features, Size(shallow.in_shape).numel())
    point, number = _locate(shallow, x)
    region = shallow.regions[number]
    weight, bias = (part[0].detach().cpu().numpy() for part in shallow.affine_maps(torch.tensor([number])))
    output = weight @ point + bias
    fixed, half_spaces = fixed_of(region), region.half_spaces
    down, up = room(half_spaces.numpy()[0], slack_of(*half_spaces.numpy(), point), fixed)
    value, ends = named.unscale(point), (-down * named.scale, up * named.scale)
    needed = facets_of(region)
    a, b = needed.numpy()
    decision = None
    if len(shallow.trunk_shape) == 1 and len(output) > 1:
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


def _locate(shallow: ShallowReLU, x: Tensor) -> tuple[Float[np.ndarray, "inputs"], int]:
    """An input as a row of float64, no further out than a box reaches, and its region.

    Raises:
        TransformError: it is not one input in a known region.
    """
    check_floating("x", x)
    if x.shape != shallow.in_shape:
        is_batch = x.shape[1:] == shallow.in_shape and x.dim() > 0
        remedy = "explain its rows one by one: [explain(shallow, row) for row in x]" if is_batch else "reshape it"
        found = f"a batch of shape {tuple(x.shape)}" if is_batch else f"shape {tuple(x.shape)}"
        raise TransformError(f"x: expected one input of shape {shallow.in_shape}, found {found}; {remedy}.")
    x = x.detach().to(shallow.device)
    number = int(shallow.locate(x))
    if number < 0:
        missing = f" ({shallow.missing})" if shallow.missing else ""
        raise TransformError(
            f"x: expected a finite input in the domain {shallow.domain!r} and in a known region{missing}, found one "
            "whose locate() is -1."
        )
    point = x.reshape(-1).double().cpu().numpy()
    if isinstance(shallow.domain, Box):
        point = np.clip(point, *shallow.domain.bounds(shallow.in_shape))
    return point, number
