"""Program and domain to partition: which engine walks, and what it hands to the other."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from torch_shallow.domain import Domain
from torch_shallow.errors import TransformError
from torch_shallow.partition.chart import make_chart
from torch_shallow.partition.double_description import enumerate_by_rays
from torch_shallow.partition.linear_program import Cell, enumerate_by_lp
from torch_shallow.partition.partition import Growth, Partition
from torch_shallow.trace.program import ReLUProgram

METHODS = ("auto", "double-description", "lp")


def enumerate_regions(
    program: ReLUProgram,
    domain: Domain,
    *,
    method: str = "auto",
    solver: str | None = None,
    tolerance: float = 1e-9,
    max_rays: int = 4096,
) -> Partition:
    """Partition a domain into the activation regions of a program.

    Complete, and sound up to `tolerance`.

    Args:
        program: the network.
        domain: where to look.
        method: `"double-description"` (cells as rays), `"lp"` (cells as inequalities), or `"auto"`: rays, and linear
            programs for cells of more than `max_rays` rays.
        solver: for linear programs, a name in `cvxpy.installed_solvers()`; HiGHS, driven directly, if None.
        tolerance: a pre-activation cuts a cell if, relative to the size of its row, it is beyond this on both sides.
        max_rays: only for `"auto"`.

    Raises:
        TransformError: unknown method or solver, or a domain that does not fit.
    """
    if method not in METHODS:
        raise TransformError(f"method: expected one of {', '.join(map(repr, METHODS))}, found {method!r}.")
    chart, growth = make_chart(program, domain), Growth()

    def by_lp(cell: Cell | None) -> None:
        enumerate_by_lp(program, chart, growth, solver=solver, tolerance=tolerance, start=cell)

    limit = max_rays if method == "auto" else None
    if method == "lp" or (limit is not None and _corners(chart.inequalities) > limit):
        by_lp(None)
    else:
        enumerate_by_rays(program, chart, growth, tolerance=tolerance, max_rays=limit, hand_over=by_lp)
    return growth.finish(program, domain, chart)


def _corners(inequalities: Float[np.ndarray, "rows coordinates+1"]) -> int:
    """Corners of the domain if it is a box, which has one for each choice of a bound on every axis; else 0."""
    axes = np.count_nonzero(inequalities[:, :-1], axis=1)
    return 1 << (len(inequalities) // 2) if len(inequalities) and (axes == 1).all() else 0
