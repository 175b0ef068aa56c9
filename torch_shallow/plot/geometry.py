"""The polygons of a picture, without the picture."""

from __future__ import annotations

from torch import Tensor

from torch_shallow.plot.plane import Plane
from torch_shallow.plot.polygons import TOLERANCE, Polygons
from torch_shallow.plot.regions import draw_on, two_inputs
from torch_shallow.plot.slice import read_plane, tells_shape
from torch_shallow.plot.subject import read_subject
from torch_shallow.plot.window import read_window


def polygons(
    f: object,
    points: Tensor | None = None,
    *,
    origin: Tensor | None = None,
    directions: Tensor | None = None,
    lower: object = None,
    upper: object = None,
    by_largest: bool = True,
    threshold: float = 0.0,
    tolerance: float = TOLERANCE,
) -> Polygons:
    """What `regions` draws of a network of two inputs, or `slice` of others, as numbers.

    Args:
        f: as for `regions`.
        points: as for `slice`; not needed for a network of two inputs, as the two that follow.
        origin: see there.
        directions: see there.
        lower: as for `regions` or `slice`.
        upper: likewise.
        by_largest: cut the polygons by which output is the largest, too.
        threshold: of a single output, where it is cut.
        tolerance: see `tree_polygons`.

    Returns:
        Convex polygons that fill the window, with regions, maps, edges and neighbours.

    Raises:
        TransformError: as `regions` and `slice`.

    Example:
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 3))
        >>> found = polygons(model, lower=-1.0, upper=1.0)
        >>> bool(abs(found.areas.sum() - 4.0) < 1e-9)
        True
    """
    asked = read_window(lower, upper)
    if points is None and origin is None and directions is None:
        subject, plane, marks = two_inputs(f), Plane.all_of_it(), None
    else:
        subject = read_subject(f, *tells_shape(points, directions))
        plane, marks = read_plane(subject, points, origin, directions)
    drawn, window = draw_on(subject, plane, asked, marks)
    above = threshold if subject.num_outputs == 1 else None
    return drawn.polygons(window, by_largest=by_largest, threshold=above, tolerance=tolerance)
