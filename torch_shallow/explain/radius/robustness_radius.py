"""The largest ball around an input in which the class of a network stays the same."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.export import ExportedProgram

from torch_shallow.display import Displayed
from torch_shallow.domain import Box, Domain
from torch_shallow.errors import TransformError, WrongTypeError, argument_error
from torch_shallow.explain.asking import Asking, SearchOptions
from torch_shallow.explain.function import input_rows
from torch_shallow.explain.nearby.target_rows import class_change
from torch_shallow.explain.nearby.vantage import Vantage
from torch_shallow.explain.searched import Searched, Vector, read_searched
from torch_shallow.modes import outside_modes

BEYOND = 1e-3  # how far beyond the nearest change its class is searched for at most, relative to its distance


@dataclass(frozen=True, eq=False, repr=False)
class RobustnessRadius(Displayed):
    """Distance from each input to the nearest change of class, with a proven lower bound.

    A change is an input of the domain at which another output is at least that of the input's own class. In the open
    ball of the radius, the class stays the same. `x` is an input at which the class changes, in the dtype of the input;
    it may lie slightly beyond the radius because of rounding.

    Attributes:
        radius: distance of the nearest change that was found, in float64; inf if there is none, or none was found.
        lower_bound: proven lower bound on the distance of any change.
        x: the nearest change, in the dtype of the input; NaN where none was found.
        other: the class at `x`; -1 where no change was found.
        label: the class of the input.
        norm: norm in which distances are measured: 1, 2 or inf.
        tolerance: relative difference of radius and bound that `proven` allows.
        cells: number of cells opened for all inputs.
        seconds: time taken, in seconds.
        reasons: reason why the search for each input ended before the radius was proven; empty if it is proven.
    """

    radius: Float[Tensor, "*batch"]
    lower_bound: Float[Tensor, "*batch"]
    x: Float[Tensor, "*batch_and_in_shape"]
    other: Int64[Tensor, "*batch"]
    label: Int64[Tensor, "*batch"]
    norm: float
    tolerance: float
    cells: int
    seconds: float
    reasons: tuple[str, ...]

    @property
    def upper_bound(self) -> Float[Tensor, "*batch"]:
        """Distance at which a change of class is known, `radius`."""
        return self.radius

    @property
    def gap(self) -> Float[Tensor, "*batch"]:
        """Width of the proven interval; 0 where it is proven that there is no change."""
        return torch.where(self.lower_bound == self.radius, 0.0, self.radius - self.lower_bound)

    @property
    def proven(self) -> Bool[Tensor, "*batch"]:
        """Whether the radius is exact, up to the tolerance."""
        known = torch.where(self.radius.isfinite(), self.tolerance * self.radius, 0.0)
        return self.gap <= known

    def __str__(self) -> str:
        effort = f"{self.cells:,} cells, {self.seconds:.2g} s"
        lines = [f"L{self.norm:g} distance of the nearest change of class ({effort})"]
        columns = (self.label, self.other, self.radius, self.lower_bound, self.proven)
        rows = zip(*(column.reshape(-1).tolist() for column in columns), self.reasons, strict=True)
        for i, (label, other, radius, lower, proven, reason) in enumerate(rows):
            there = f"to class {other} at {radius:.6g}" if math.isfinite(radius) else "to no other class"
            note = "" if proven else f", not nearer than {lower:.6g} ({reason or 'rounding'})"
            lines.append(f"  input {i}: class {label}, {there}{note}")
        return "\n".join(lines)

    def _line(self) -> str:
        count = self.radius.numel()
        nearest = f"{float(self.radius.min()):.6g}" if count else "none"
        return f"L{self.norm:g}, {count} input{'s'[: count != 1]}, the smallest is {nearest}"


@outside_modes
def robustness_radius(
    model: nn.Module | ExportedProgram | Callable[..., Tensor],
    x: Float[Tensor, "*batch_and_in_shape"],
    norm: int | float = math.inf,
    *,
    domain: Domain | None = None,
    example_input: Tensor | None = None,
    workers: int | Executor = 1,
    time_limit: float | None = None,
    progress: bool = False,
    tolerance: float = 1e-6,
) -> RobustnessRadius:
    """Find the largest ball around each input in which the class, the largest output, stays the same.

    A few steps of descent look for a change first. The ball of its distance is then searched for a nearer one, for all
    classes together: cells are opened in the order of the proven distance of a change in them, and neurons are bounded
    in the ball, not in a box around it. If the large ball is too loose for useful bounds, smaller balls come first, so
    that there is a proven bound early. If no change is known, the balls grow until they cover the domain, or, if the
    domain is unbounded, up to a million times the length of the input; the result states what that proves.

    Args:
        model: a piecewise-linear `nn.Module` or exported program of any size; a `ShallowReLU`; its trunk method if it
            has a head such as a softmax, which does not change the class; or its function.
        x: a batch of inputs of the domain, or a single one.
        norm: norm in which distances are measured: 1, 2 or `math.inf`.
        domain: domain in which changes count, a `Box` or a `Polytope`, bounded or not; if None, all of R^n, or the
            domain of a shallow network.
        example_input: a batch of inputs, needed where neither the model nor `x` tells the shape of one.
        workers: number of threads, or any `concurrent.futures.Executor`.
        time_limit: time in seconds for all inputs together, after which the search is stopped; no limit if None.
        progress: show a bar for each search.
        tolerance: relative difference between radius and bound for which the radius counts as proven.

    Returns:
        A `RobustnessRadius` with one entry for each input.

    Raises:
        WrongTypeError: an argument is of another type.
        TransformError: the model cannot be read, or has a head or a single output; an argument has a wrong value; or an
            input lies outside the domain.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from torch_shallow.explain import robustness_radius
        >>> model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2))
        >>> with torch.no_grad():
        ...     _ = model[0].weight.copy_(torch.eye(2)), model[0].bias.zero_()
        ...     _ = model[2].weight.copy_(torch.eye(2)), model[2].bias.zero_()
        >>> found = robustness_radius(model, torch.tensor([[3.0, 1.0], [1.0, 2.0]]))  # relu(x0) against relu(x1)
        >>> [round(radius, 9) for radius in found.radius.tolist()], found.proven.tolist()
        ([1.0, 0.5], [True, True])
    """
    if not isinstance(x, Tensor):
        raise WrongTypeError(f"x: expected a tensor, found {type(x).__name__}; pass a batch of inputs, or one.")
    if isinstance(norm, bool) or not isinstance(norm, int | float) or norm not in (1, 2, math.inf):
        raise argument_error(norm, int, float)(f"norm: expected 1, 2 or math.inf, found {norm!r}; pass one of these.")
    if not (isinstance(tolerance, int | float) and 0.0 < tolerance < 1.0):
        raise argument_error(tolerance, int, float)(
            f"tolerance: expected a number between 0 and 1, found {tolerance!r}; leave it out for 1e-6."
        )
    begun = time.monotonic()
    searched = _read(model, domain, x, example_input)
    function = searched.function
    if function.num_outputs < 2:
        raise TransformError(
            f"model: expected an output for each of several classes, found {function.num_outputs} output; use "
            "explain.counterfactual for the nearest input with a given value, or verify for a bound of it in a box."
        )
    rows: np.ndarray = input_rows(function, "x", x).cpu().numpy()
    _check_inside(searched, x, rows)
    # Imported here because numba takes a while to import.
    from torch_shallow.explain.nearby.growing_balls import GrowingBalls

    asking = Asking(SearchOptions(workers=workers, time_limit=time_limit, progress=progress), begun)
    outputs = searched.outputs(rows)
    count = len(rows)
    radius, lower, others, reasons = np.full(count, np.inf), np.zeros(count), np.full(count, -1), [""] * count
    changed = torch.full((count, function.num_inputs), torch.nan, dtype=x.dtype)
    labels = outputs.argmax(axis=1) if count else np.zeros(0, dtype=np.int64)
    for i, label in enumerate(labels.tolist()):
        tied = np.flatnonzero(outputs[i] == outputs[i, label])
        if len(tied) > 1:
            radius[i], others[i] = 0.0, tied[tied != label][0]
            changed[i] = x.detach().reshape(count, -1)[i].cpu()
            continue
        vantage = Vantage.of_domain(searched, rows[i])
        rivals = [other for other in range(function.num_outputs) if other != label]
        targets = [class_change(label, other, function.num_outputs) for other in rivals]
        row = GrowingBalls(vantage, targets, float(norm), asking.part(count - i))
        row.run()
        asking.add(row.asking)
        lower[i], reasons[i] = row.lower, row.reason if row.asking.reason != row.reason else asking.reason
        if row.best is not None:
            radius[i], others[i] = row.best.distance, rivals[row.best.target]
            changed[i] = _shown(vantage, label, row.best.u, x.dtype)
    batch = x.shape[: x.dim() - len(function.in_shape)]

    def shaped(values: np.ndarray) -> Tensor:
        return torch.from_numpy(values).to(function.device).reshape(batch)

    return RobustnessRadius(
        shaped(radius),
        shaped(lower),
        changed.reshape(x.shape).to(x.device),
        shaped(others),
        shaped(labels),
        float(norm),
        tolerance,
        asking.cells,
        asking.seconds,
        tuple(reasons),
    )


def _read(model: object, domain: Domain | None, x: Tensor, example_input: Tensor | None) -> Searched:
    """Read the network; it tells the shape of one input itself if several dimensions of x may be the batch."""
    if example_input is not None:
        return read_searched(model, domain, example_input, "example_input")
    if x.dim() > 2:
        with suppress(TransformError):
            searched = read_searched(model, domain, None, "x")
            shape = searched.function.in_shape
            if x.shape[x.dim() - len(shape) :] == shape:
                return searched
    return read_searched(model, domain, x, "x")


def _check_inside(searched: Searched, x: Tensor, rows: Float[np.ndarray, "points inputs"]) -> None:
    inside = searched.domain.contains(torch.from_numpy(rows), max(1e-9, torch.finfo(x.dtype).eps))
    if not inside.all():
        raise TransformError(
            f"x: expected inputs of the domain {searched.domain!r}, found {int((~inside).sum())} of {len(rows)} "
            f"outside, first row {int((~inside).nonzero()[0])}; leave them out, or enlarge the domain."
        )


def _shown(vantage: Vantage, label: int, u: Vector, dtype: torch.dtype) -> Tensor:
    """Round a change of class to a dtype: the point itself, or the first beyond it that is of another class."""
    searched = vantage.searched
    limits = searched.domain.bounds(searched.function.in_shape) if isinstance(searched.domain, Box) else None

    def rounded(share: float) -> Tensor:
        point = torch.from_numpy(vantage.lifted(vantage.clipped((1.0 + share) * u))).to(dtype)
        if limits is not None:  # entries that rounding puts outside go back by one unit in the last place
            for limit, side in zip(limits, (1.0, -1.0), strict=True):
                inwards = torch.nextafter(point, torch.full_like(point, side * torch.inf))
                point = torch.where(side * point.double() < side * torch.from_numpy(limit), inwards, point)
        return point

    shares = [0.0, *(share for k in range(60) if (share := 2.0**-53 * 2.0**k) <= BEYOND)]
    points = torch.stack([rounded(share) for share in shares])
    changed = searched.outputs(points.double().numpy()).argmax(axis=1) != label
    changed &= searched.domain.contains(points).numpy()
    return points[int(changed.argmax())] if changed.any() else points[0]
