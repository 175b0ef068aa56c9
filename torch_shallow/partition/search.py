"""How cells are searched: everything, beside program and domain, that the regions found depend on."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Search:
    """Which engine is at work, and what it counts as a cut.

    Attributes:
        by_rays: whether cells are rays at first; else half-spaces.
        solver: what solves linear programs: a name in `cvxpy.installed_solvers()`; if None, compiled code, and HiGHS
            for a program that it cannot settle.
        tolerance: a pre-activation cuts a cell if, relative to the size of its row, it is beyond this on both sides.
        max_rays: a cell with more rays changes to half-spaces; None: none does.
    """

    by_rays: bool = True
    solver: str | None = None
    tolerance: float = 1e-10
    max_rays: int | None = 1024
