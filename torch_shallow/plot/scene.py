"""Network in a window of a plane, as requested: the choice of the plane and of the window."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from torch import Tensor

from torch_shallow.domain import Box
from torch_shallow.errors import TransformError, WrongTypeError
from torch_shallow.explain.features import Features
from torch_shallow.functions import TreeFunction
from torch_shallow.plot.drawn import Drawn, Shown
from torch_shallow.plot.polygons import Plane, Window, tree_polygons
from torch_shallow.plot.section import Section

MARGIN = 0.25  # margin on each side, relative to the extent shown
FAR = 1e3  # distance up to which corners are searched for, in units of the distance between regions
SHOWN = 0.05  # share of the corners that may lie beyond each side


@dataclass(frozen=True, eq=False)
class Scene:
    """A network in a window of a plane, and what is drawn with it.

    Attributes:
        subject: the network.
        drawn: the network on the plane.
        window: the part of the plane.
        marks: coordinates of the points that are marked; None if there are none.
        data: a batch of inputs as rows, or None.
        features: names and units of the two axes; None if these are not features.
    """

    subject: Shown
    drawn: Drawn
    window: Window
    marks: Float[np.ndarray, "marks 2"] | None
    data: Float[np.ndarray, "rows inputs"] | None
    features: Features | None


def read_scene(subject: Shown, window: Window | None, section: Section, data: Tensor | None = None) -> Scene:
    """Read a network on a plane and in a window, with what is drawn there.

    Raises:
        TransformError: an argument has a wrong value, or no window can be chosen.
    """
    plane, marks, features = section.place(subject)
    of_data = None if data is None else subject.rows("data", data)
    around_marks = marks if section.is_free else None
    return Scene(subject, *_draw_on(subject, plane, window, around_marks, of_data), marks, of_data, features)


def _draw_on(
    subject: Shown,
    plane: Plane,
    window: Window | None,
    marks: np.ndarray | None = None,
    data: np.ndarray | None = None,
) -> tuple[Drawn, Window]:
    """The network on a plane, and the window: the requested one, or one that is chosen.

    Raises:
        TransformError: no window can be chosen, or a deep network cannot be transformed there.
    """
    if window is not None:
        return subject.on(plane, window), window
    try:
        window = choose_window(subject, plane, marks, None if data is None else plane.project(data))
    except TransformError:
        if subject.network.num_inputs != 2:
            raise
        everywhere = subject.on(plane, None)
        known = replace(subject, network=everywhere.function, domain=everywhere.function.domain)
        return everywhere, choose_window(known, plane)
    return subject.on(plane, window), window


def read_window(lower: object, upper: object) -> Window | None:
    """Read the requested window; None if there is none.

    Raises:
        WrongTypeError: they are not numbers.
        TransformError: only one of them is given, or they are not finite numbers with lower < upper.
    """
    if lower is None and upper is None:
        return None
    try:
        given = (bound.detach().cpu() if isinstance(bound, Tensor) else bound for bound in (lower, upper))
        low, high = (np.broadcast_to(np.asarray(bound, dtype=np.float64), (2,)).copy() for bound in given)
    except (TypeError, ValueError) as error:
        raise (WrongTypeError if isinstance(error, TypeError) else TransformError)(
            f"lower, upper: expected a number for both coordinates, or two numbers, found {lower!r} and {upper!r}; "
            "pass both."
        ) from error
    if not (np.isfinite([low, high]).all() and (low < high).all()):
        raise TransformError(
            f"lower, upper: expected finite numbers with lower < upper, found {lower!r} and {upper!r}; correct them."
        )
    return Window(low, high)


def choose_window(
    subject: Shown,
    plane: Plane,
    marks: Float[np.ndarray, "marks 2"] | None = None,
    data: Float[np.ndarray, "rows 2"] | None = None,
) -> Window:
    """Choose the window: around the marked points, the domain, around the data, or around the corners of regions.

    Raises:
        TransformError: none of these is possible.
    """
    if marks is not None:
        return around(marks, square=True)
    bounded = _extent(subject, plane)
    if bounded is not None:
        return bounded
    if data is not None and len(data) and np.ptp(data, axis=0).all():
        return around(data)
    if isinstance(subject.network, TreeFunction) and subject.network.num_inputs == 2:
        corners = _corners(subject.network, plane)
        if len(corners) > 1 and np.ptp(corners, axis=0).max() > 0.0:
            return around(np.quantile(corners, [SHOWN, 1.0 - SHOWN], axis=0), square=True)
    raise TransformError(
        "lower, upper: expected a window, because the domain is unbounded and there are no two corners of regions that "
        "suggest one, found None; pass lower and upper."
    )


def around(points: Float[np.ndarray, "points 2"], square: bool = False) -> Window:
    """The window around some points with a margin, optionally square."""
    low, high = points.min(axis=0), points.max(axis=0)
    size = high - low
    if square:
        size = np.full(2, size.max())
    half = (0.5 + MARGIN) * size
    return Window((low + high) / 2 - half, (low + high) / 2 + half)


def _extent(subject: Shown, plane: Plane) -> Window | None:
    """The smallest window around the domain in the plane; None if it is not bounded."""
    from scipy.optimize import linprog

    if isinstance(subject.domain, Box) and subject.network.num_inputs == 2:
        lower, upper = subject.domain.bounds(subject.network.in_shape)
        return Window(lower, upper) if np.isfinite([lower, upper]).all() and (lower < upper).all() else None
    a, b = subject.domain.inequalities(subject.network.in_shape)
    if len(b) == 0:
        return None
    rows = plane.pull_back(a, -b)
    size = np.linalg.norm(rows[:, :2], axis=1)
    rows = rows[size > 1e-12 * np.abs(a).sum(axis=1)]
    found = []
    for cost in (*np.eye(2), *-np.eye(2)):
        solution = linprog(cost, A_ub=rows[:, :2], b_ub=-rows[:, 2], bounds=(None, None), method="highs")
        if solution.status == 2:
            raise TransformError(
                f"plane: expected one that meets the domain {subject.domain!r}, found one that does not; take another."
            )
        if solution.status != 0:
            return None
        found.append(float(solution.fun))
    lower, upper = np.array(found[:2]), -np.array(found[2:])
    return Window(lower, upper) if (lower < upper).all() else None


def _corners(shallow: TreeFunction, plane: Plane) -> Float[np.ndarray, "corners 2"]:
    """Corners where regions meet, near the interior points of the regions."""
    points = shallow.tree.interior_points()
    centre = np.median(points, axis=0)
    reach = FAR * float(np.median(np.abs(points - centre).max(axis=1)))
    if not reach > 0.0:
        return np.zeros((0, 2))
    found = tree_polygons(shallow, plane, Window(centre - reach, centre + reach))
    inner = np.ones(len(found.vertices), dtype=bool)
    inner[found.edges[(found.sides < 0).any(axis=1)]] = False
    return found.vertices[np.intersect1d(np.flatnonzero(inner), found.corners)]
