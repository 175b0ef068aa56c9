"""Which part of a plane is drawn."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from torch import Tensor

from torch_shallow.domain import Box
from torch_shallow.errors import TransformError, WrongTypeError
from torch_shallow.functions import TreeFunction
from torch_shallow.plot.drawn import Shown
from torch_shallow.plot.plane import Plane
from torch_shallow.plot.polygons import Window, tree_polygons

MARGIN = 0.25  # on each side, relative to what is shown
FAR = 1e3  # how far away corners are looked for, in units of the distance between regions
SHOWN = 0.05  # share of the corners that may be beyond each side


def read_window(lower: object, upper: object) -> Window | None:
    """The window that is asked for; None if none is.

    Args:
        lower: lowest coordinates, a number for both or one for each; or None.
        upper: highest ones.

    Raises:
        TransformError: only one of them is given, or they are no finite numbers with lower < upper.
    """
    if lower is None and upper is None:
        return None
    try:
        given = (bound.detach().cpu() if isinstance(bound, Tensor) else bound for bound in (lower, upper))
        low, high = (np.broadcast_to(np.asarray(bound, dtype=np.float64), (2,)).copy() for bound in given)
    except (TypeError, ValueError) as error:
        raise (WrongTypeError if isinstance(error, TypeError) else TransformError)(
            f"lower, upper: expected a number for both coordinates, or two of them, found {lower!r} and {upper!r}."
        ) from error
    if not (np.isfinite([low, high]).all() and (low < high).all()):
        raise TransformError(
            f"lower, upper: expected finite numbers with lower < upper, found {lower!r} and {upper!r}."
        )
    return Window(low, high)


def choose_window(
    subject: Shown,
    plane: Plane,
    marks: Float[np.ndarray, "marks 2"] | None = None,
    data: Float[np.ndarray, "rows 2"] | None = None,
) -> Window:
    """The window around the marked points; or the domain; or around the data; or around the corners of the regions.

    Args:
        subject: what is drawn.
        plane: the plane.
        marks: points of the plane.
        data: points of the plane.

    Raises:
        TransformError: there is nothing to tell the window.
    """
    if marks is not None:
        return around(marks, square=True)
    bounded = _extent(subject, plane)
    if bounded is not None:
        return bounded
    if data is not None and len(data) and np.ptp(data, axis=0).all():
        return around(data)
    if isinstance(subject.network, TreeFunction) and subject.num_inputs == 2:
        corners = _corners(subject.network, plane)
        if len(corners) > 1 and np.ptp(corners, axis=0).max() > 0.0:
            return around(np.quantile(corners, [SHOWN, 1.0 - SHOWN], axis=0), square=True)
    raise TransformError(
        "lower, upper: nothing tells which part of the plane to draw, for the domain is unbounded and there are no two "
        "corners of regions to go by; pass lower and upper."
    )


def around(points: Float[np.ndarray, "points 2"], square: bool = False) -> Window:
    """The window around some points with a margin, as high as wide if it has to be square."""
    low, high = points.min(axis=0), points.max(axis=0)
    size = high - low
    if square:
        size = np.full(2, size.max())
    half = (0.5 + MARGIN) * size
    return Window((low + high) / 2 - half, (low + high) / 2 + half)


def _extent(subject: Shown, plane: Plane) -> Window | None:
    """The smallest window around the domain in the plane; None if it is not bounded."""
    from scipy.optimize import linprog

    if isinstance(subject.domain, Box) and subject.num_inputs == 2:
        lower, upper = subject.domain.bounds(subject.in_shape)
        return Window(lower, upper) if np.isfinite([lower, upper]).all() and (lower < upper).all() else None
    a, b = subject.domain.inequalities(subject.in_shape)
    if len(b) == 0:
        return None
    rows = plane.pull_back(a, -b)
    size = np.linalg.norm(rows[:, :2], axis=1)
    rows = rows[size > 1e-12 * np.abs(a).sum(axis=1)]
    found = []
    for cost in (*np.eye(2), *-np.eye(2)):
        solution = linprog(cost, A_ub=rows[:, :2], b_ub=-rows[:, 2], bounds=(None, None), method="highs")
        if solution.status == 2:
            raise TransformError(f"plane: it does not meet the domain {subject.domain!r}; choose another plane.")
        if solution.status != 0:
            return None
        found.append(float(solution.fun))
    lower, upper = np.array(found[:2]), -np.array(found[2:])
    return Window(lower, upper) if (lower < upper).all() else None


def _corners(shallow: TreeFunction, plane: Plane) -> Float[np.ndarray, "corners 2"]:
    """Where regions meet in a corner, near to the interior points of the regions."""
    points = shallow.tree.interior_points()
    centre = np.median(points, axis=0)
    reach = FAR * float(np.median(np.abs(points - centre).max(axis=1)))
    if not reach > 0.0:
        return np.zeros((0, 2))
    found = tree_polygons(shallow, plane, Window(centre - reach, centre + reach))
    inner = np.ones(len(found.vertices), dtype=bool)
    inner[found.edges[(found.sides < 0).any(axis=1)]] = False
    return found.vertices[np.intersect1d(np.flatnonzero(inner), found.corners)]
