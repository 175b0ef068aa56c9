"""The least and greatest value of every output over the whole domain, and where they are."""

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

ATTAINED = 1e-6  # how far the network may be from the claim, relative to the size of the terms
CANCELLED = 1e-6  # such a share of the largest local models counts as terms everywhere
NEAR = 1e-2  # in chart coordinates: a point nearer to 0 is not known any better than one that far away


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
    """The minimum and maximum of every output over the domain, and where they are.

    They are exact, however many regions the network has: a deep model in a bounded domain is searched, cell by cell,
    the most promising first, for as long as a cell can still hold a better value (see `torch_shallow.search.ask`).
    Stopped by a time limit or by Ctrl-C, the search gives values that the outputs have, and bounds that they are
    proven to keep. Of a network that knows its regions, and of a model in an unbounded domain, which is transformed,
    these are looked at in its place; stopped before all of them are found, the bounds are infinite.

    Of a network with a head that grows with each value by itself, such as a sigmoid, these are the outputs behind it;
    of one with another head, such as a softmax, the values before it, and `before_head` is True. So it is for
    `shallow.trunk` and `shallow.function`, which are the network without its head, whatever that is.

    Where all regions are known: a local model is least at a vertex of its region, or falls without bound along a ray.
    The vertices and rays of all regions are computed anew from the half-spaces, and the local models evaluated there.
    In a box of many inputs, linear programs over the regions take their place; multipliers prove of each region that it
    has no better value than the one that was found, up to rounding. The points are given to the network itself, which
    must return the values.

    Args:
        shallow: a model; or a network that knows all regions of its domain, its trunk or its function.
        domain: of a model, where to look.
        of: linear functions of the (flattened) outputs, one in each row, whose ranges are asked for in place of those
            of the outputs: of classes, `[[1, -1]]` is by how much the first is ahead.
        example_input: a batch of inputs; needed only where the model does not tell the shape of one.
        method: of the search: see `torch_shallow.search.ask`.
        solver: of mixed-integer programs, with `method="milp"`.
        workers: a number of threads, or any `concurrent.futures.Executor`.
        time_limit: stop after about so many seconds, for all outputs together; no limit if None.
        checkpoint: a file in which the search is kept, and from which it goes on; of several searches, each has its
            own, whose name ends with a number.
        progress: show the interval that is proven so far, or in an unbounded domain the regions.
        certificate: a file, new or written anew, that proves the bounds, of a network with a head those before it,
            with trees of cells and multipliers that `python -m torch_shallow.check_bounds` checks in integers. It
            proves 1e-9 less, relative to the terms that outputs are added up from. The proof may take as long again as
            `time_limit`; where it is not found, nothing is written, with an `IncompleteWarning`.
        max_rays: where all regions are known, in a cell of more vertices and rays, linear programs are solved: in a
            bounded domain by compiled code, else by HiGHS. Those of regions that cannot have a better value are left
            out.
        tolerance: where all regions are known, in the coordinates of the chart, in which lengths are about one: a
            vertex further away than its reciprocal is taken for a ray, and an output grows along a ray if its slope is
            ten times more than this, relative to the steepest local model. Regions no wider than ten times this, as
            where the walls of two nearly equal networks coincide, are looked at in one point; on their boundary their
            neighbours are.

    Raises:
        WrongTypeError: an argument is of another type.
        TransformError: a shallow network does not know all regions; an argument of the search is given with one that
            does; or the network does not have the values that were found, which would be an error of this package.

    Example:
        >>> import torch, torch_shallow
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
        options.refuse("a network whose regions are known, which are all looked at")
        network = known_network(shallow, domain)
        found = range_of(InChart(network), max_rays, tolerance)
    return _behind(found, network.head, isinstance(shallow, nn.Module | ExportedProgram))


def _of_part(network: TreeFunction, reason: str) -> OutputRange:
    """What some regions of a domain without end say of the whole: the values that there are, and no bounds."""
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
    """Linear functions of outputs.

    Raises:
        TransformError: they are not of these outputs, or not finite.
    """
    given = of.detach().cpu().double().numpy() if isinstance(of, Tensor) else np.asarray(of, dtype=np.float64)
    if given.ndim != 2 or given.shape[1] != outputs or not len(given) or not np.isfinite(given).all():
        raise TransformError(
            f"of: expected finite coefficients of shape (rows, {outputs}), one for each entry of the output, found "
            f"{given.shape}{'' if np.isfinite(given).all() else ' with NaN or inf'}; give a row for each function."
        )
    return given


def _searched(subject: Subject, of: Float[np.ndarray, "rows outputs"] | None, options: SearchOptions) -> OutputRange:
    """The range by the search."""
    asking = Asking(options)
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
    """The range behind a head that grows with each value by itself; else it is said that there is one."""
    if head is None:
        return found
    if not is_whole or not is_increasing(head):
        return replace(found, before_head=True)
    names = ("lower", "upper", "lower_bound", "upper_bound")
    with torch.no_grad():
        return replace(found, **{name: head(getattr(found, name)[None]).double()[0] for name in names})


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
