"""Regions of a network that meet a rectangle in a plane, as convex polygons."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from torch_shallow.domain import Domain
from torch_shallow.errors import TransformError
from torch_shallow.functions import TreeFunction
from torch_shallow.geometry.sharing import blocks

TOLERANCE = 1e-11  # relative to the window
ROUNDING = 64 * np.finfo(np.float64).eps  # rounding error of a sum, relative to its terms
VALUES_AT_ONCE = 1 << 22  # entries of local models in one block: 32 MB
UNKNOWN = -1
SQUARE = 3.0  # ratio of sides up to which windows are drawn with equal units


@dataclass(frozen=True, eq=False)
class Plane:
    """The plane `origin + s u + t v` of flattened inputs.

    Attributes:
        origin: the input at `(0, 0)`.
        directions: the directions u and v.
    """

    origin: Float[np.ndarray, "inputs"]
    directions: Float[np.ndarray, "2 inputs"]

    @staticmethod
    def all_of_it() -> Plane:
        """The space of two inputs itself."""
        return Plane(np.zeros(2), np.eye(2))

    @staticmethod
    def along(origin: Float[np.ndarray, "inputs"], directions: Float[np.ndarray, "2 inputs"]) -> Plane:
        """Make the plane through a point along two directions, with coordinates that preserve distances.

        `s` goes along the first direction, and `t` at a right angle to it, towards the second.

        Raises:
            TransformError: the directions do not span a plane.
        """
        size = np.linalg.norm(directions, axis=1, keepdims=True)
        unit = directions / np.where(size > 0.0, size, 1.0)
        rest = unit[1] - (unit[1] @ unit[0]) * unit[0]
        rest = rest - (rest @ unit[0]) * unit[0]  # twice is enough for any angle
        length = float(np.linalg.norm(rest))
        if not (size > 0.0).all() or length <= 1e-9:
            raise TransformError(
                "plane: expected two directions, or three points, that span a plane, found collinear ones; choose "
                "others, or draw the line with plot.segment."
            )
        return Plane(origin, np.stack([unit[0], rest / length]))

    @staticmethod
    def through(points: Float[np.ndarray, "3 inputs"]) -> Plane:
        """Make the plane through three points, with the first at `(0, 0)` and the second on the axis of s.

        Raises:
            TransformError: the points are collinear.
        """
        return Plane.along(points[0], points[1:] - points[0])

    def lift(self, coordinates: Float[np.ndarray, "points 2"]) -> Float[np.ndarray, "points inputs"]:
        """Inputs at some points of the plane."""
        return self.origin + coordinates @ self.directions

    def project(self, x: Float[np.ndarray, "points inputs"]) -> Float[np.ndarray, "points 2"]:
        """Nearest point of the plane to each input, in coordinates that preserve distances."""
        return (x - self.origin) @ self.directions.T

    def pull_back(
        self, weight: Float[np.ndarray, "*some inputs"], bias: Float[np.ndarray, "*some"]
    ) -> Float[np.ndarray, "*some 3"]:
        """Affine functions `weight x + bias` as coefficients `(a, b, c)` of a s + b t + c."""
        return np.concatenate([weight @ self.directions.T, (weight @ self.origin + bias)[..., None]], axis=-1)


class Window(NamedTuple):
    """A rectangle in a plane.

    Attributes:
        lower: lowest coordinates.
        upper: highest coordinates.
    """

    lower: Float[np.ndarray, "2"]
    upper: Float[np.ndarray, "2"]

    @property
    def centre(self) -> Float[np.ndarray, "2"]:
        """Point in the middle."""
        return self.lower + (self.upper - self.lower) / 2

    @property
    def half(self) -> Float[np.ndarray, "2"]:
        """Half of the width and the height."""
        return (self.upper - self.lower) / 2

    @property
    def is_nearly_square(self) -> bool:
        """Whether the sides are similar enough that equal units would not make the window a strip."""
        size = self.upper - self.lower
        return bool(size.max() <= SQUARE * size.min())

    def place(self, unit: Float[np.ndarray, "points 2"]) -> Float[np.ndarray, "points 2"]:
        """Coordinates in the plane of points of the square |x|, |y| <= 1."""
        inner = self.centre + unit * self.half
        return np.where(unit == -1.0, self.lower, np.where(unit == 1.0, self.upper, inner))

    def scale(self, rows: Float[np.ndarray, "*some 3"]) -> Float[np.ndarray, "*some 3"]:
        """Affine functions of the plane as functions of the square."""
        constant = rows[..., :2] @ self.centre + rows[..., 2]
        return np.concatenate([rows[..., :2] * self.half, constant[..., None]], axis=-1)


@dataclass(frozen=True, eq=False)
class Polygons:
    """Convex polygons that fill a window of a plane within the domain, without gaps or overlaps.

    Polygons that touch share their vertices: where the corner of one lies on the side of another, it is a corner of
    both.

    Attributes:
        plane: the plane.
        window: the rectangle in it.
        vertices: coordinates of the vertices in the plane.
        corners: numbers of the vertices of the polygons, anticlockwise, one polygon after the other.
        starts: offset of the first corner of each polygon, and the end of the last.
        regions: number of the region of each polygon; -1 where it is unexplored.
        outputs: number of the largest output on each polygon, if requested; -1 where it is unexplored.
        maps: each output on each polygon as coefficients `(a, b, c)` of a s + b t + c; NaN where it is unexplored.
        edges: the two vertices of each edge.
        sides: the polygons on the left and right of each edge; -1 for none.
    """

    plane: Plane
    window: Window
    vertices: Float[np.ndarray, "vertices 2"]
    corners: Int[np.ndarray, "corners"]
    starts: Int[np.ndarray, "polygons_and_end"]
    regions: Int[np.ndarray, "polygons"]
    outputs: Int[np.ndarray, "polygons"] | None
    maps: Float[np.ndarray, "polygons outputs 3"]
    edges: Int[np.ndarray, "edges 2"]
    sides: Int[np.ndarray, "edges 2"]

    def __len__(self) -> int:
        return len(self.regions)

    @property
    def known(self) -> Bool[np.ndarray, "polygons"]:
        """Which polygons lie in a known region."""
        return self.regions >= 0

    @property
    def num_regions(self) -> int:
        """Number of regions in the window."""
        return len(np.unique(self.regions[self.known]))

    def outline(self, polygon: int) -> Float[np.ndarray, "corners 2"]:
        """Corners of a polygon, anticlockwise."""
        return self.vertices[self.corners[self.starts[polygon] : self.starts[polygon + 1]]]

    def outlines(self) -> list[Float[np.ndarray, "_ 2"]]:
        """Corners of each polygon, anticlockwise."""
        return np.split(self.vertices[self.corners], self.starts[1:-1]) if len(self) else []

    @property
    def owner(self) -> Int[np.ndarray, "corners"]:
        """Number of the polygon of each corner."""
        return np.repeat(np.arange(len(self)), np.diff(self.starts))

    @property
    def centres(self) -> Float[np.ndarray, "polygons 2"]:
        """Mean of the corners of each polygon, a point inside."""
        total = np.add.reduceat(self.vertices[self.corners], self.starts[:-1])
        return total / np.diff(self.starts)[:, None]

    @property
    def areas(self) -> Float[np.ndarray, "polygons"]:
        """Area of each polygon."""
        owner = self.owner
        first = self.vertices[self.corners] - self.centres[owner]
        following = np.arange(len(owner)) + 1
        following[self.starts[1:] - 1] = self.starts[:-1]
        last = first[following]
        return np.add.reduceat(first[:, 0] * last[:, 1] - first[:, 1] * last[:, 0], self.starts[:-1]) / 2

    def values(self, output: int) -> Float[np.ndarray, "corners"]:
        """Values of an output at the corners of the polygons, each by the map of its polygon."""
        map_ = self.maps[self.owner, output]
        return (self.vertices[self.corners] * map_[:, :2]).sum(axis=1) + map_[:, 2]

    def triangles(self) -> tuple[Int[np.ndarray, "triangles 3"], Int[np.ndarray, "triangles"]]:
        """Triangles around the centre of each polygon, and the polygon of each.

        Numbers below `len(corners)` are corners; the others are centres.
        """
        owner = self.owner
        following = np.arange(len(owner)) + 1
        following[self.starts[1:] - 1] = self.starts[:-1]
        return np.column_stack([np.arange(len(owner)), following, len(owner) + owner]), owner

    def between(self, labels: Int[np.ndarray, "polygons"], known: bool = False) -> Float[np.ndarray, "edges 2 2"]:
        """Ends of each edge between polygons of different labels; only between known polygons if `known` is True."""
        left, right = self.sides.T
        inner = (left >= 0) & (right >= 0) & (labels[left] != labels[right])
        if known:
            inner &= self.known[left] & self.known[right]
        return self.vertices[self.edges[inner]]

    def neighbours(self) -> Int[np.ndarray, "pairs 2"]:
        """Pairs of polygons that share an edge."""
        return np.unique(np.sort(self.sides[(self.sides >= 0).all(axis=1)], axis=1), axis=0)


def tree_polygons(
    shallow: TreeFunction,
    plane: Plane,
    window: Window,
    *,
    by_largest: bool = False,
    threshold: float | None = None,
    domain: Domain | None = None,
    tolerance: float = TOLERANCE,
) -> Polygons:
    """Compute the polygons in which the regions of a tree of cuts meet a window of a plane.

    The whole window goes down the tree and is divided where a hyperplane crosses it. Complete and sound up to
    `tolerance`: thinner polygons are left out, and their place becomes a part of the polygon beside them.

    Args:
        shallow: a network with a tree of cuts, complete or not.
        plane: a plane in the space of its flattened inputs.
        window: a rectangle in the plane.
        by_largest: whether to cut the polygons also along lines on which the two largest outputs are equal.
        threshold: for a network of one output, the value it is compared with: class 1 is above, class 0 is not.
        domain: a further domain to which the polygons are restricted, besides that of the network.
        tolerance: distance from a line, relative to the window, up to which a vertex counts as on it; increased where
            rounding requires it.

    Raises:
        TransformError: the window does not meet the domain, or the threshold is not finite.
    """
    if threshold is not None and not np.isfinite(threshold):
        raise TransformError(f"threshold: expected a finite number, found {threshold}; pass one, or leave it out.")
    from torch_shallow.plot.subdivision import Subdivision  # compiled code is imported when it is used

    tree = shallow.tree
    weight, bias = tree.domain.inequalities(tree.in_shape)
    walls, wall_terms = _rows(plane, window, weight, -bias)
    if domain is not None:
        weight, bias = domain.inequalities(shallow.in_shape)
        more, terms = _rows(plane, window, weight, -bias)
        walls, wall_terms = np.concatenate([walls, more]), np.concatenate([wall_terms, terms])
    cuts, cut_terms = _cut_rows(shallow, plane, window)
    rows, terms = np.concatenate([walls, cuts]), np.concatenate([wall_terms, cut_terms])
    count, outside = len(walls), ~(tree.num_regions + 1)
    root = count if tree.num_cuts else ~0
    below = np.where(tree.children >= 0, tree.children + count, tree.children).reshape(-1, 2)
    # The active side of the domain's walls is outside, so that a plane that lies in a wall counts as inside.
    chain = np.column_stack([np.append(np.arange(1, count), root)[:count], np.full(count, outside)])
    parts = Subdivision()
    parts.descend(
        np.ascontiguousarray(rows),
        tolerance * np.abs(rows[:, :2]).sum(axis=1) + terms,
        np.ascontiguousarray(np.concatenate([chain, below]), dtype=np.int64),
        0 if count else root,
        outside,
    )
    if not len(parts.labels):
        raise TransformError(
            f"lower, upper: expected a window that meets the domain {tree.domain!r}, found {window.lower.tolist()} to "
            f"{window.upper.tolist()}, which does not (where inputs are fixed, the plane has to be inside); choose "
            "another window or plane."
        )
    found = parts.labels[:, 0].copy()
    maps = _maps(shallow, plane, np.where(found < tree.num_regions, found, UNKNOWN))
    if by_largest:
        rivals = maps
        if threshold is not None:
            rivals = np.concatenate([0.0 * maps, maps - np.array([0.0, 0.0, threshold])], axis=1)
        rounding = ROUNDING * (np.abs(rivals[..., :2]) @ np.abs(window.centre) + np.abs(rivals[..., 2]))
        parts.labels[:, 0] = np.arange(len(found))
        parts.contest(np.ascontiguousarray(window.scale(rivals)), rounding, tolerance)
        polygon = parts.labels[:, 0]
        found, maps = found[polygon], maps[polygon]
    unknown = found == tree.num_regions
    edges, sides = parts.edges()
    return Polygons(
        plane,
        window,
        window.place(parts.mesh.vertices[: parts.num_vertices]),
        parts.corners,
        parts.starts,
        np.where(unknown, UNKNOWN, found),
        np.where(unknown, UNKNOWN, parts.labels[:, 1]) if by_largest else None,
        maps,
        edges,
        sides,
    )


def _rows(
    plane: Plane, window: Window, weight: Float[np.ndarray, "rows inputs"], bias: Float[np.ndarray, "rows"]
) -> tuple[Float[np.ndarray, "rows 3"], Float[np.ndarray, "rows"]]:
    """Affine functions of inputs as functions of the square, and their rounding errors at its centre."""
    centre = plane.lift(window.centre[None])[0]
    rounding = ROUNDING * (np.abs(weight) @ np.abs(centre) + np.abs(bias))
    return window.scale(plane.pull_back(weight, bias)), rounding


def _cut_rows(
    shallow: TreeFunction, plane: Plane, window: Window
) -> tuple[Float[np.ndarray, "cuts 3"], Float[np.ndarray, "cuts"]]:
    """Cuts of a network's tree as functions of the square, and their rounding errors at its centre."""
    half = shallow.half_spaces
    weight, bias = half.normals.detach().cpu().numpy(), half.offsets.detach().cpu().numpy()
    if half.projection is not None:
        basis = half.projection.detach().cpu().numpy()
        plane = Plane(basis @ plane.origin, plane.directions @ basis.T)
    rows, rounding = _rows(plane, window, weight, bias)
    used = shallow.half_space_of().cpu().numpy()
    return rows[used], rounding[used]


def _maps(
    shallow: TreeFunction, plane: Plane, regions: Int[np.ndarray, "polygons"]
) -> Float[np.ndarray, "polygons outputs 3"]:
    """Affine maps of some regions on a plane; NaN for unknown regions."""
    maps = np.full((len(regions), shallow.num_outputs, 3), np.nan)
    known = np.flatnonzero(regions >= 0)
    for block in blocks(len(known), shallow.num_outputs * shallow.num_inputs, VALUES_AT_ONCE):
        maps[known[block]] = plane.pull_back(*shallow.map_arrays(regions[known[block]]))
    return maps
