"""The least and greatest value of every output over the whole domain, and where they are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.fx import GraphModule

from torch_shallow.domain import Domain
from torch_shallow.errors import TransformError
from torch_shallow.explain.function import known_network
from torch_shallow.explain.globally.extrema import Extrema, find_extrema
from torch_shallow.explain.globally.in_chart import InChart, check_limits
from torch_shallow.modes import outside_modes
from torch_shallow.program.graph.identify import identify

ATTAINED = 1e-6  # how far the network may be from the claim, relative to the size of the terms
CANCELLED = 1e-6  # such a share of the largest local models counts as terms everywhere
NEAR = 1e-2  # in chart coordinates: a point nearer to 0 is not known any better than one that far away


@dataclass(frozen=True, eq=False)
class OutputRange:
    """The exact range of every output, or of the values before a head. All tensors are float64.

    Attributes:
        lower: the least value of each output, of shape `(*out_shape)`; -inf where it falls without bound.
        upper: the greatest value; inf where it rises without bound.
        argmin: a point of the domain with the least value, of shape `(*out_shape, *in_shape)`; NaN where there is none.
        argmax: likewise with the greatest value.
        lower_region: a region whose closure the point lies in, or that is unbounded where there is no point.
        upper_region: likewise.
        lower_ray: a unit direction along which the output falls without bound in that region; NaN where it does not.
        upper_ray: likewise along which it rises.
        residual: the largest difference between these values and what the network computes at these points, relative to
            the size of the terms that are added up there: rounding. More where `attained` is False.
        attained: whether the network has the values at the points. False only for a network whose weights may have been
            trained: where it jumps, a bound may be approached and not reached.
        programs: how many linear programs were solved: for regions of too many vertices, and of a box of many inputs
            for all regions that may have a better value than is known.
        before_head: whether these are the values before the network's head (logits), and not its outputs.
    """

    lower: Float[Tensor, "*out_shape"]
    upper: Float[Tensor, "*out_shape"]
    argmin: Float[Tensor, "*out_and_in_shape"]
    argmax: Float[Tensor, "*out_and_in_shape"]
    lower_region: Int64[Tensor, "*out_shape"]
    upper_region: Int64[Tensor, "*out_shape"]
    lower_ray: Float[Tensor, "*out_and_in_shape"]
    upper_ray: Float[Tensor, "*out_and_in_shape"]
    residual: float
    attained: bool
    programs: int
    before_head: bool = False

    def __str__(self) -> str:
        """One line for each output, or for each value before the head."""
        pairs = zip(self.lower.reshape(-1).tolist(), self.upper.reshape(-1).tolist(), strict=True)
        name = "value before the head" if self.before_head else "output"
        return "\n".join(f"{name} {i}: {low:.6g} to {high:.6g}" for i, (low, high) in enumerate(pairs))


@outside_modes
def output_range(
    shallow: nn.Module | ExportedProgram | Callable[..., Tensor],
    domain: Domain | None = None,
    *,
    max_rays: int = 1024,
    tolerance: float = 1e-10,
) -> OutputRange:
    """The exact minimum and maximum of every output over the domain, and where they are.

    Of a network with a head that grows with each value by itself, such as a sigmoid, these are the outputs behind it;
    of one with another head, such as a softmax, the values before it, and `before_head` is True. So it is for
    `shallow.trunk` and `shallow.function`, which are the network without its head, whatever that is.

    A local model is least at a vertex of its region, or falls without bound along a ray: the vertices and rays of all
    regions are computed anew from the half-spaces, and the local models evaluated there. In a box of many inputs,
    linear programs over the regions take their place; multipliers prove of each region that it has no better value than
    the one that was found, up to rounding. The points are given to the network itself, which must return the values.

    Args:
        shallow: a network that knows all regions of its domain, its trunk or its function; or a model, which is
            transformed.
        domain: of a model, where to look.
        max_rays: in a cell of more vertices and rays, linear programs are solved: in a bounded domain by compiled code,
            else by HiGHS. Those of regions that cannot have a better value are left out.
        tolerance: in the coordinates of the chart, in which lengths are about one: a vertex further away than its
            reciprocal is taken for a ray, and an output grows along a ray if its slope is ten times more than this,
            relative to the steepest local model. Regions no wider than ten times this, as where the walls of two nearly
            equal networks coincide, are looked at in one point; on their boundary their neighbours are.

    Raises:
        TransformError: not all regions are known, or the network does not have the values that were found, which would
            be an error of this package.

    Example:
        >>> import torch, torch_shallow
        >>> model = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
        >>> found = output_range(model, torch_shallow.Box(-1.0, 1.0))
        >>> torch.allclose(model(found.argmax.float())[:, 0], found.upper.float(), atol=1e-6)
        True
    """
    network = known_network(shallow, domain)
    found = range_of(InChart(network), max_rays, tolerance)
    if network.head is None:
        return found
    if not isinstance(shallow, nn.Module | ExportedProgram) or not is_increasing(network.head):
        return replace(found, before_head=True)
    with torch.no_grad():
        lower, upper = (network.head(values[None]).double()[0] for values in (found.lower, found.upper))
    return replace(found, lower=lower, upper=upper)


_INCREASING = frozenset({"sigmoid", "tanh", "exp", "expm1", "logsigmoid", "softsign", "atan", "erf"})


def is_increasing(head: nn.Module) -> bool:
    """Whether a head is one operation that grows with each value by itself."""
    if not isinstance(head, GraphModule):
        return False
    calls = [node for node in head.graph.nodes if node.op.startswith("call_")]
    casts = [node for node in calls if node.target == "double"]
    left = [identify(head, node).name.lower() for node in calls if node not in casts]
    return len(left) == 1 and left[0] in _INCREASING and not any(node.op == "get_attr" for node in head.graph.nodes)


def range_of(
    subject: InChart,
    max_rays: int,
    tolerance: float,
    sizes: Float[np.ndarray, "2 outputs"] | None = None,
    cancelled: float = CANCELLED,
) -> OutputRange:
    """See `output_range`.

    Rounding is relative to `sizes`, slope and bias of each output: the largest of the local models if None. Such a
    share of them as `cancelled` counts as terms everywhere.

    Raises:
        TransformError: see there.
    """
    check_limits(max_rays, tolerance)
    outputs = subject.function.num_outputs
    sizes = largest_maps(subject) if sizes is None else sizes
    found, programs = find_extrema(subject, 10 * tolerance * sizes[0], max_rays, tolerance)
    values = found.best.copy()
    points, rays = (np.full((outputs, 2, subject.function.num_inputs), np.nan) for _ in range(2))
    for i in range(outputs):
        for side, sign in enumerate((-1.0, 1.0)):
            at = found.at[i, side]
            moved, by, ray = _idle_part(subject, i, sign)
            if at[-1] == 0.0:
                direction = at[:-1] @ subject.chart.directions
                ray = direction / np.linalg.norm(direction)
            if ray is not None:
                values[i, side], rays[i, side] = sign * np.inf, ray
                continue
            values[i, side] += by
            x = subject.chart.lift(at[None, :-1])[0]
            x[subject.idle] = moved
            points[i, side] = np.clip(x, *subject.bounds)
    residual = _residual(subject, values, points, found, cancelled * sizes)
    attained = residual <= ATTAINED
    if not attained and not subject.function.may_be_discontinuous:
        raise TransformError(
            f"tolerance: the network does not have the values that were found, by a relative {residual:.1e}; its "
            "weights have very different sizes: try another tolerance, or a smaller domain."
        )
    shape, place = subject.function.out_shape, (*subject.function.out_shape, *subject.function.in_shape)
    return OutputRange(
        subject.tensor(values[:, 0], shape),
        subject.tensor(values[:, 1], shape),
        subject.tensor(points[:, 0], place),
        subject.tensor(points[:, 1], place),
        subject.tensor(found.where[:, 0], shape),
        subject.tensor(found.where[:, 1], shape),
        subject.tensor(rays[:, 0], place),
        subject.tensor(rays[:, 1], place),
        residual,
        attained,
        programs,
    )


def largest_maps(subject: InChart) -> Float[np.ndarray, "2 outputs"]:
    """Of each output, the steepest slope of all local models in chart coordinates, and the largest bias."""
    sizes = np.zeros((2, subject.function.num_outputs))
    for block in subject.blocks():
        weight, bias = subject.maps(block)
        slopes = np.linalg.norm(weight @ subject.chart.directions.T, axis=-1).max(axis=0)
        sizes = np.maximum(sizes, np.stack([slopes, np.abs(bias).max(axis=0)]))
    return sizes


def _idle_part(
    subject: InChart, output: int, sign: float
) -> tuple[Float[np.ndarray, "idle"], float, Float[np.ndarray, "inputs"] | None]:
    """Where the inputs that no neuron reads make an output greatest (or least, for sign -1).

    Returns:
        Their values, how much that adds to the output, and a direction in which it grows without bound, if there is
        one.
    """
    slopes, origin = sign * subject.skip[output], subject.chart.origin
    for line in subject.lines:
        if abs(slopes @ line) > CANCELLED * (np.abs(slopes) @ np.abs(line)):
            return origin[subject.idle], 0.0, np.sign(slopes @ line) * line
    moved, added = origin[subject.idle].copy(), 0.0
    for k, i in enumerate(subject.idle.tolist()):
        end = subject.bounds[1][i] if slopes[i] > 0.0 else subject.bounds[0][i]
        if np.isfinite(end):
            moved[k] = end
        elif slopes[i] != 0.0:
            ray = np.zeros(subject.function.num_inputs)
            ray[i] = np.sign(slopes[i])
            return moved, 0.0, ray
        added += sign * slopes[i] * (moved[k] - origin[i])
    return moved, added, None


@torch.no_grad()
def _residual(
    subject: InChart,
    values: Float[np.ndarray, "outputs 2"],
    points: Float[np.ndarray, "outputs 2 inputs"],
    found: Extrema,
    sizes: Float[np.ndarray, "2 outputs"],
) -> float:
    """How far the network is from the values at the points, relative to the size of the terms; NaN counts as far."""
    worst, shallow = 0.0, subject.function
    for side in range(2):
        rows = np.flatnonzero(np.isfinite(points[:, side]).all(axis=1))
        if len(rows) == 0:
            continue
        x = points[rows, side]
        y = shallow(subject.tensor(x, (len(x), *shallow.in_shape))).reshape(len(x), -1).cpu().numpy()
        weight, bias = subject.maps(found.where[rows, side])
        own = np.arange(len(rows))
        size = (np.abs(weight[own, rows]) * np.abs(x)).sum(axis=1) + np.abs(bias[own, rows])
        # What cancels in the local model leaves rounding of larger terms.
        size += sizes[0, rows] * (np.linalg.norm(found.at[rows, side, :-1], axis=1) + NEAR) + sizes[1, rows]
        differences = np.abs(y[own, rows] - values[rows, side])
        relative = np.where(differences == 0.0, 0.0, differences / np.where(size > 0.0, size, 1e-300))
        worst = max(worst, float(np.nan_to_num(relative, nan=np.inf).max()))
    return worst
