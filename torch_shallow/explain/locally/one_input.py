"""One input, explained: its region, its local linear model, and what would change first."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Size, Tensor

from torch_shallow.domain import Box
from torch_shallow.errors import TransformError, WrongTypeError
from torch_shallow.explain.features import Features, read_features
from torch_shallow.explain.function import known_function
from torch_shallow.explain.locally.decision import decide
from torch_shallow.explain.locally.explanation import Explanation
from torch_shallow.explain.locally.seen_facets import facets_of, fixed_of, room, seen_from, slack_of
from torch_shallow.functions import PiecewiseAffine, Region, TreeFunction, VisitedRegion
from torch_shallow.functions.points import check_floating
from torch_shallow.modes import outside_modes
from torch_shallow.modules.region_network import RegionNetwork


@outside_modes
def explain(shallow: RegionNetwork, x: Tensor, *, features: Features | Sequence[str] | None = None) -> Explanation:
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
        WrongTypeError: `shallow` is no network of regions.
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
    function = known_function(shallow)
    if function is None:
        raise WrongTypeError(
            f"shallow: expected a ShallowReLU, found {type(shallow).__name__}; make one with transform(model), or of a "
            "large model with transform(model, data=x[None])."
        )
    named = read_features(features, Size(function.in_shape).numel())
    point, number = _locate(function, x)
    region = Region(function, number) if isinstance(function, TreeFunction) else VisitedRegion(function, number)
    weight, bias = (part[0].detach().cpu().numpy() for part in function.affine_maps(torch.tensor([number])))
    output = weight @ point + bias
    fixed, half_spaces = fixed_of(region), region.half_spaces
    down, up = room(half_spaces.numpy()[0], slack_of(*half_spaces.numpy(), point), fixed)
    value, ends = named.unscale(point), (-down * named.scale, up * named.scale)
    needed = facets_of(region)
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
    """An input as a row of float64, no further out than a box reaches, and its region.

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
            "whose locate() is -1."
        )
    point = x.reshape(-1).double().cpu().numpy()
    if isinstance(function.domain, Box):
        point = np.clip(point, *function.domain.bounds(function.in_shape))
    return point, number
