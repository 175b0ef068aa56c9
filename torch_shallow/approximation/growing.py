"""A tree of cuts, grown where its affine maps are worst, until they are near enough or there are enough of them."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Float

from torch_shallow.approximation.cuts import CandidateCuts
from torch_shallow.approximation.fit import Fit, Fitter
from torch_shallow.approximation.sampled_cell import SampledCell
from torch_shallow.explain.asking import Asking

ATTEMPTS = 12  # to fit and prove the map of a cell
GROWING = 0.6  # of the time limit; what is left is for proofs
ONE_PROOF = 10  # a proof may take one part of so many of the time that is left, as long as the tree grows


@dataclass(eq=False)
class Node:
    """A node of the tree: a leaf until it has a cut.

    Attributes:
        fit: its map.
        cut: the half-space of its active child.
        below: the inactive and the active child.
        attempts: how often it was tried to prove it.
        is_nearest: whether it has the nearest map to the network, rather than any one that is near enough.
    """

    fit: Fit
    cut: Float[np.ndarray, "homogeneous"] | None = None
    below: tuple[Node, Node] | None = None
    attempts: int = 0
    is_nearest: bool = False

    @property
    def leaves(self) -> list[Node]:
        """The leaves below, from the inactive side to the active one."""
        stack, leaves = [self], list[Node]()
        while stack:
            node = stack.pop()
            if node.below is None:
                leaves.append(node)
            else:
                stack += reversed(node.below)
        return leaves


@dataclass(eq=False)
class Growing:
    """Grows a tree.

    Attributes:
        fitter: fits maps to cells.
        cuts: what cells may be cut by.
        goal: the error that is allowed; 0 if as little as possible.
        max_regions: how many leaves there may be; None: as many as the goal takes.
        asking: proves, and knows how much time there is.
        rng: chooses points.
        show: called now and then with the number of leaves and the largest error found.
        reason: why it stopped with an error above the goal, or with bounds that are not near the errors found.
    """

    fitter: Fitter
    cuts: CandidateCuts
    goal: float
    max_regions: int | None
    asking: Asking
    rng: np.random.Generator
    show: Callable[[int, float], None]
    reason: str = ""
    _numbers: itertools.count[int] = field(default_factory=itertools.count)

    def grow(self, cell: SampledCell) -> Node:
        """The tree, every leaf of which has a proven bound."""
        root = Node(self.fitter.fit(cell, self.goal))
        open_ones, count = [self._entry(root)], 1
        while open_ones:
            self.show(count, self._error(open_ones[0][-1]))
            if not self._time_to_grow():
                self.reason = self.asking.reason or f"time_limit={self.asking.options.time_limit}"
                break
            leaf = heapq.heappop(open_ones)[-1]
            if self._error(leaf) <= self.goal and leaf.attempts < ATTEMPTS:
                if not self._is_proven(leaf):
                    heapq.heappush(open_ones, self._entry(leaf))
                continue
            if count == self.max_regions:
                heapq.heappush(open_ones, self._entry(leaf))
                self.reason = f"max_regions={count}"
                break
            if leaf.fit.is_proven:  # as it is proven to be, but not well enough
                continue
            if self._cut(leaf):
                count += 1
                for node in leaf.below or ():
                    heapq.heappush(open_ones, self._entry(node))
            else:
                self.reason = "no cut is left that has points on both sides"
        self._prove_all(root.leaves)
        return root

    def _entry(self, leaf: Node) -> tuple[float, int, Node]:
        return -self._error(leaf), next(self._numbers), leaf

    def _error(self, leaf: Node) -> float:
        return self.fitter.worst(leaf.fit.found)

    def _time_to_grow(self) -> bool:
        limit = self.asking.options.time_limit
        return not self.asking.is_over and (limit is None or self.asking.seconds < GROWING * limit)

    def _is_proven(self, leaf: Node) -> bool:
        """Prove a leaf that seems to be near enough; whether nothing is left to be done here and now."""
        part = self.asking.part(ONE_PROOF)
        leaf.attempts += 1
        leaf.fit = self.fitter.proven(leaf.fit, self.goal, part)
        self._take_note(part)
        if self._error(leaf) <= self.goal:
            return True  # or stopped, and then proven in the end
        leaf.fit = self.fitter.fit(leaf.fit.cell, self.goal)
        return False

    def _take_note(self, part: Asking) -> None:
        self.asking.cells += part.cells
        if part.is_over and part.reason and not part.no_time_left():  # interrupted
            self.asking.add(part)

    def _prove_all(self, leaves: list[Node]) -> None:
        """Bring the bounds of all leaves near the largest error of all, those with the largest errors first.

        Where that is above the goal, a leaf gets its nearest map.
        """
        worst, errors = self.fitter.worst, np.array([self._error(leaf) for leaf in leaves])
        bounds = np.array([worst(leaf.fit.bound) for leaf in leaves])
        done = np.zeros(len(leaves), dtype=bool)
        while True:
            near = (1.0 + self.fitter.precision) * float(errors.max())
            rest = np.flatnonzero((bounds > near) & ~done)
            if not len(rest):
                break
            number = int(rest[errors[rest].argmax()])
            leaf, part = leaves[number], self.asking.part(len(rest))
            if errors[number] > self.goal and not leaf.is_nearest and not part.no_time_left():
                leaf.fit, leaf.is_nearest = self.fitter.fit(leaf.fit.cell, np.inf), True
            else:
                leaf.attempts += 1
                fit = self.fitter.proven(leaf.fit, near, part)
                self.asking.add(part)
                done[number] = part.is_over or leaf.attempts > 2 * ATTEMPTS
                bound = np.maximum(np.minimum(fit.bound, leaf.fit.bound), fit.found)
                leaf.is_nearest = worst(fit.found) <= near  # or there are points now that it was not fitted to
                leaf.fit = replace(fit, bound=bound)
            errors[number], bounds[number] = self._error(leaf), worst(leaf.fit.bound)
        for leaf in leaves:
            if not leaf.fit.is_proven:
                leaf.fit = self.fitter.proven(leaf.fit, np.inf, self.asking)
        self.reason = self.reason or self.asking.reason

    def _cut(self, leaf: Node) -> bool:
        cell = leaf.fit.cell.filled(self.rng)
        cut = self.cuts.best(cell, self.fitter.program(cell.x), leaf.fit.at, self.goal)
        if cut is None:
            return False
        parts = [cell.side(cut, active, self.rng) for active in (False, True)]
        leaf.cut = cut
        leaf.below = Node(self.fitter.fit(parts[0], self.goal)), Node(self.fitter.fit(parts[1], self.goal))
        return True
