"""Domain of a proof: a box, with further half-spaces."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from torch_shallow import check
from torch_shallow.domain import Box, Domain

Vector = Float[np.ndarray, "inputs"]


@dataclass(frozen=True)
class ProofDomain:
    """A domain, and the coordinates in which multipliers are sought.

    In a bounded domain these are the inputs, with |v| <= 1 as the box. Otherwise they are homogeneous: a cell is a cone
    of (x, t) with t >= 0, cut off at |v| <= 1, and a non-negative function on the cone is a sum of its half-spaces
    alone.

    Attributes:
        lower: Lower bounds of the inputs, possibly infinite; for a bounded polytope, proven bounds.
        upper: Upper bounds of the inputs, likewise.
        rows: Half-spaces `rows @ (x, 1) >= 0`; none for a box.
        walls: Multipliers that prove the bounds of a polytope, as in `check.ReadDomain`.
        given: Whether the bounds are those of the domain itself.
        stretch: Matrix that takes a row over (x, 1) to one over the coordinates and 1.
        faces: Bounds of an unbounded box, as rows.
        least: Least value of each coordinate; the greatest is 1.
    """

    lower: Vector
    upper: Vector
    rows: Float[np.ndarray, "rows homogeneous"]
    walls: list[list[float]] | None
    given: bool
    stretch: Float[np.ndarray, "homogeneous_coordinates homogeneous"]
    faces: Float[np.ndarray, "faces homogeneous"]
    least: Float[np.ndarray, "coordinates"]

    @property
    def bounded(self) -> bool:
        """Whether all inputs have bounds."""
        return bool(np.isfinite(self.lower).all() and np.isfinite(self.upper).all())

    def line(self) -> dict[str, Any]:
        """Return the domain as it is written to the file."""
        bounds = [[v if np.isfinite(v) and self.given else None for v in e.tolist()] for e in (self.lower, self.upper)]
        return {"lower": bounds[0], "upper": bounds[1], "rows": self.rows.tolist(), "walls": self.walls}


def proof_domain(domain: Domain, in_shape: tuple[int, ...], units: Vector) -> ProofDomain:
    """Read a domain; `units` are typical lengths of the inputs."""
    d = len(units)
    walls = None
    if isinstance(domain, Box):
        lower, upper = domain.bounds(in_shape)
        rows = np.zeros((0, d + 1))
    else:
        a, b = domain.inequalities(in_shape)
        rows = np.ascontiguousarray(np.column_stack([-a, b]))
        lower, upper, walls = _bounds(rows)
    stretch, faces, least = _coordinates(lower, upper, units)
    lower, upper = np.ascontiguousarray(lower), np.ascontiguousarray(upper)
    return ProofDomain(lower, upper, rows, walls, walls is None, stretch, faces, least)


def _coordinates(lower: Vector, upper: Vector, units: Vector) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    d, low, high = len(units), np.isfinite(lower), np.isfinite(upper)
    eye = np.eye(d + 1)
    if (low & high).all():
        stretch = np.diag([*((upper - lower) / 2), 1.0])
        stretch[d, :d] = lower + (upper - lower) / 2
        return stretch, np.zeros((0, d + 1)), np.full(d, -1.0)
    faces = np.concatenate([eye[:d][low], -eye[:d][high]])
    faces[:, d] = np.concatenate([-lower[low], upper[high]])
    stretch = np.concatenate([np.diag([*units, 1.0]), np.zeros((1, d + 1))])
    return stretch, faces, np.append(np.full(d, -1.0), 0.0)


def _bounds(rows: Float[np.ndarray, "rows homogeneous"]) -> tuple[Vector, Vector, list[list[float]] | None]:
    """Return proven bounds of a polytope, and their multipliers; infinite ones if some direction is unbounded."""
    from scipy.optimize import linprog

    d = rows.shape[1] - 1
    unbounded = np.full(d, -np.inf), np.full(d, np.inf), None
    walls: list[list[float]] = []
    for direction in np.concatenate([-np.eye(d), np.eye(d)]):
        if not len(rows):
            return unbounded
        solution = linprog(direction, A_ub=-rows[:, :-1], b_ub=rows[:, -1], bounds=(None, None), method="highs")
        if solution.status != 0:
            return unbounded
        multipliers = np.maximum(-solution.ineqlin.marginals, 0.0)
        walls.append([v for j in np.flatnonzero(multipliers) for v in (int(j), float(multipliers[j]))])
    line = {"lower": [None] * d, "upper": [None] * d, "rows": rows.tolist(), "walls": walls}
    try:
        proven = check.ReadDomain(line, d)
    except check.NotProven:
        return unbounded
    upper = np.array([check.rounded_up(v) for v in proven.upper])
    lower = -np.array([check.rounded_up(-v) for v in proven.lower])
    return lower, upper, walls
