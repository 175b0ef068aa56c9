"""Least and greatest value of every output over the whole domain, and where they are attained."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.fx import GraphModule

from torch_shallow.bounds.bounding_box import is_bounded
from torch_shallow.domain import Domain
from torch_shallow.errors import TransformError, WrongTypeError
from torch_shallow.explain.asking import Asking, SearchOptions
from torch_shallow.explain.function import known_function, known_network
from torch_shallow.explain.globally.extrema import Extrema, find_extrema
from torch_shallow.explain.globally.in_chart import InChart, check_limits
from torch_shallow.explain.globally.output_values import OutputRange
from torch_shallow.explain.globally.searched_range import extremes, with_combinations
from torch_shallow.explain.subject import Subject, subject_of
from torch_shallow.functions import TreeFunction
from torch_shallow.modes import outside_modes
from torch_shallow.modules.soft_relu import SoftReLU
from torch_shallow.program.graph.identify import identify
from torch_shallow.program.model_copy import what_to_pass

ATTAINED = 1e-6  # accepted deviation of the network from the values found, relative to the size of the terms
CANCELLED = 1e-6  # share of the largest local models that counts as terms everywhere
NEAR = 1e-2  # chart coordinates: a point nearer to 0 is known no better than one this far away


@outside_modes
def output_range(
    shallow: nn.Module | ExportedProgram | Callable[..., Tensor],
    domain: Domain | None = None,
    *,
    of: Sequence[Sequence[float]] | np.ndarray | Tensor | None = None,
    example_input: Tensor | None = None,
    method: str = "auto",
    solver: str | None = None,
    workers: int | Executor = 1,
    time_limit: float | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    progress: bool = False,
    certificate: str | os.PathLike[str] | None = None,
    max_rays: int = 1024,
    tolerance: float = 1e-10,
) -> OutputRange:
    """Find the minimum and maximum of every output over the domain, and where they are attained.

    The result is exact, however many regions the network has. A deep model in a bounded domain is searched cell by
    cell, most promising first, as long as a cell may still hold a better value. After a time limit or Ctrl-C, the
    result holds values that the outputs take, and proven bounds. For a network that knows its regions, all regions are
    examined; a model in an unbounded domain is transformed first, and if that is stopped before all regions are found,
    the bounds are infinite.

    For a network with a head that increases with each value separately, such as a sigmoid, the range is that of the
    outputs behind it. For another head, such as a softmax, it is the range of the values before the head, and
    `before_head` is True. The same holds for `shallow.trunk` and `shallow.function`, which are the network without any
    head.

    Where all regions are known, a local model is least at a vertex of its region, or falls without bound along a ray.
    The vertices and rays of all regions are computed anew from the half-spaces, and the local models are evaluated
    there. In a box of many inputs, linear programs over the regions are solved instead; multipliers prove for each
    region that it has no better value than the one found, up to rounding. Finally, the network itself is evaluated at
    the points, and must return the values.

    Args:
        shallow: a model; or a network that knows all regions of its domain, its trunk or its function.
        domain: for a model, the domain to examine; all of R^n if None.
        of: linear functions of the flattened outputs, one in each row, whose ranges are computed instead of those of
            the outputs; for two classes, `[[1, -1]]` is the lead of the first.
        example_input: a batch of inputs, needed only where the model does not tell the shape of one.
        method: search engine: `"rays"` (few inputs), `"relaxation"` (networks of moderate size), `"backward"` (wide
            networks, many inputs), `"milp"` (one mixed-integer program), or `"auto"`, which chooses one of the first
            three.
        solver: solver of the mixed-integer program, a name in `cvxpy.installed_solvers()`; HiGHS if None.
        workers: number of threads, or any `concurrent.futures.Executor`.
        time_limit: time in seconds for all outputs together, after which the search is stopped; no limit if None.
        checkpoint: file in which the search is saved and from which it resumes; if there are several searches, each has
            a file of its own whose name ends with a number.
        progress: show the interval that is proven so far, or in an unbounded domain the number of regions.
        certificate: file to be written that proves the bounds (of the values before a head, if there is one), with
            trees of cells and multipliers that `python -m torch_shallow.check_bounds` checks in integers. It proves
            1e-9 less, relative to the terms that outputs are summed from. The proof may take as long again as
            `time_limit`; if it is not found, nothing is written and an `IncompleteWarning` is issued.
        max_rays: where all regions are known, number of vertices and rays of a cell above which linear programs are
            solved instead: in a bounded domain by compiled code, else by HiGHS. Regions that cannot have a better value
            are skipped.
        tolerance: where all regions are known, tolerance in chart coordinates, in which lengths are about one. A vertex
            further away than its reciprocal counts as a ray. An output grows along a ray if its slope exceeds ten times
            the tolerance, relative to the steepest local model. Regions no wider than ten times the tolerance, such as
            those between nearly coincident walls of two networks, are examined at a single point; their boundaries
            belong to their neighbours.

    Returns:
        An `OutputRange`.

    Raises:
        WrongTypeError: an argument is of another type.
        TransformError: a shallow network does not know all regions; an argument of the search is given with a network
            that knows them; or the network does not take the values that were found, because of rounding.

    Example:
        >>> import torch, torch_shallow
        >>> from torch_shallow.explain import output_range
        >>> model = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
        >>> found = output_range(model, torch_shallow.Box(-1.0, 1.0))
        >>> torch.allclose(model(found.argmax.float())[:, 0], found.upper.float(), atol=1e-6)
        True
    """
    check_limits(max_rays, tolerance)
    options = SearchOptions(method, solver, workers, time_limit, checkpoint, progress, certificate)
    known = known_function(shallow)
    if known is None and not isinstance(shallow, nn.Module | ExportedProgram):
        raise WrongTypeError(
            f"shallow: expected a ShallowReLU, or an nn.Module, found {type(shallow).__name__}; "
            f"{what_to_pass(shallow)}."
        )
    is_deep = known is None and not isinstance(shallow, SoftReLU)
    if of is not None or (is_deep and (domain is not None or example_input is not None)):
        subject = subject_of(shallow, domain, example_input, drop_head=True)
        if of is not None or is_bounded(subject.domain, subject.program.in_shape):
            return _searched(subject, None if of is None else combinations(of, subject.program.num_outputs), options)
    if is_deep:
        assert isinstance(shallow, nn.Module | ExportedProgram)
        begun = time.monotonic()
        whole, reason = options.regions_of(shallow, domain, example_input)
        network = whole.function
        found = _of_part(network, reason) if reason else range_of(InChart(network), max_rays, tolerance)
        found = replace(found, seconds=time.monotonic() - begun)
    else:
        options.refuse("a network whose regions are known, all of which are examined")
        network = known_network(shallow, domain)
        found = range_of(InChart(network), max_rays, tolerance)
    return _behind(found, network.head, isinstance(shallow, nn.Module | ExportedProgram))


def _of_part(network: TreeFunction, reason: str) -> OutputRange:
    """Range from some regions of an unbounded domain: the values found, and infinite bounds."""
    points = torch.from_numpy(network.tree.chart.lift(network.tree.points)).to(network.device)
    values = network(points.reshape(-1, *network.in_shape)).double().reshape(len(points), -1)
    (lower, least), (upper, most) = values.min(dim=0), values.max(dim=0)
    place, endless = (*network.out_shape, *network.in_shape), torch.full(network.out_shape, torch.inf).to(lower)
    return OutputRange(
        lower.reshape(network.out_shape),
        upper.reshape(network.out_shape),
        points[least].reshape(place),
        points[most].reshape(place),
        least.reshape(network.out_shape),
        most.reshape(network.out_shape),
        torch.full(place, torch.nan).to(lower),
        torch.full(place, torch.nan).to(lower),
        residual=0.0,
        attained=True,
        programs=0,
        lower_bound=-endless,
        upper_bound=endless,
        cells=network.num_regions,
        reason=reason,
    )


def combinations(of: object, outputs: int) -> Float[np.ndarray, "rows outputs"]:
    """Read linear functions of outputs.

    Raises:
        TransformError: their number of coefficients is not that of the outputs, or some are not finite.
    """
    given = of.detach().cpu().double().numpy() if isinstance(of, Tensor) else np.asarray(of, dtype=np.float64)
    if given.ndim != 2 or given.shape[1] != outputs or not len(given) or not np.isfinite(given).all():
        raise TransformError(
            f"of: expected finite coefficients of shape (rows, {outputs}), one for each entry of the output, found "
            f"{given.shape}{'' if np.isfinite(given).all() else ' with NaN or inf'}; pass a row for each function."
        )
    return given


def _searched(subject: Subject, of: Float[np.ndarray, "rows outputs"] | None, options: SearchOptions) -> OutputRange:
    """Range by a search."""
    asking = Asking(options, options.begun)
    program = subject.program if of is None else with_combinations(subject.program, of)
    pairs = extremes(program, subject.domain, asking)
    shape, place = program.out_shape, (*program.out_shape, *program.in_shape)

    def tensor(values: object, shape: tuple[int, ...]) -> Tensor:
        return torch.from_numpy(np.array(values)).reshape(shape).to(subject.device)

    nowhere = np.full((len(pairs), program.num_inputs), np.nan)
    found = OutputRange(
        tensor([-low.value for low, _ in pairs], shape),
        tensor([high.value for _, high in pairs], shape),
        tensor([low.x for low, _ in pairs], place),
        tensor([high.x for _, high in pairs], place),
        tensor([-1] * len(pairs), shape),
        tensor([-1] * len(pairs), shape),
        tensor(nowhere, place),
        tensor(nowhere, place),
        residual=0.0,
        attained=True,
        programs=0,
        lower_bound=tensor([-low.bound for low, _ in pairs], shape),
        upper_bound=tensor([high.bound for _, high in pairs], shape),
        cells=asking.cells,
        seconds=asking.seconds,
        reason=asking.reason,
    )
    if of is not None:
        return replace(found, before_head=subject.head is not None)
    return _behind(found, subject.head, True)


def _behind(found: OutputRange, head: nn.Module | None, is_whole: bool) -> OutputRange:
    """The range behind a head that increases with each value separately; else the range marked as before the head."""
    if head is None:
        return found
    if not is_whole or not is_increasing(head):
        return replace(found, before_head=True)
    names = ("lower", "upper", "lower_bound", "upper_bound")
    with torch.no_grad():
        return replace(found, **{name: head(getattr(found, name)[None]).double()[0] for name in names})


_INCREASING = frozenset({"sigmoid", "tanh", "exp", "expm1", "logsigmoid", "softsign", "atan", "erf"})


def is_increasing(head: nn.Module) -> bool:
    """Whether a head is a single operation that increases with each value separately."""
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
    """Range of the outputs of a network whose regions are known, as documented for `output_range`.

    Rounding is relative to `sizes`, the slope and the bias of each output; if None, the largest of the local models.
    The share `cancelled` of these sizes counts as terms everywhere.

    Raises:
        TransformError: a limit is out of range, or the network does not take the values that were found.
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
            f"tolerance: expected a network that takes the values found, found a relative deviation of {residual:.1e}, "
            "because its weights have very different sizes; try another tolerance, or a smaller domain."
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
    """The steepest slope of all local models in chart coordinates, and the largest bias, for each output."""
    sizes = np.zeros((2, subject.function.num_outputs))
    for block in subject.blocks():
        weight, bias = subject.maps(block)
        slopes = np.linalg.norm(weight @ subject.chart.directions.T, axis=-1).max(axis=0)
        sizes = np.maximum(sizes, np.stack([slopes, np.abs(bias).max(axis=0)]))
    return sizes


def _idle_part(
    subject: InChart, output: int, sign: float
) -> tuple[Float[np.ndarray, "idle"], float, Float[np.ndarray, "inputs"] | None]:
    """Find where the inputs that no neuron reads make an output greatest (or least, for sign -1).

    Returns:
        The values of these inputs, what they add to the output, and a direction in which it grows without bound, if
        there is one.
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
    """Deviation of the network from the values at the points, relative to the size of the terms; inf for NaN."""
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
        # Terms that cancel in the local model leave rounding errors of larger terms.
        size += sizes[0, rows] * (np.linalg.norm(found.at[rows, side, :-1], axis=1) + NEAR) + sizes[1, rows]
        differences = np.abs(y[own, rows] - values[rows, side])
        relative = np.where(differences == 0.0, 0.0, differences / np.where(size > 0.0, size, 1e-300))
        worst = max(worst, float(np.nan_to_num(relative, nan=np.inf).max()))
    return worst
