"""Grow a tree of cuts where its affine maps are worst, until they are near enough or numerous enough."""

from __future__ import annotations

import heapq
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Float

from torch_shallow.approximation.cuts import CandidateCuts
from torch_shallow.approximation.fit import Fit, Fitter
from torch_shallow.approximation.sampled_cell import SampledCell
from torch_shallow.explain.asking import Asking

ATTEMPTS = 12  # attempts to fit and prove the map of a cell
FIRST_TURN = 0.04  # share of the time limit; each turn is as long as all before it, so that much is proven early
GROWING = 0.5  # largest share of the remaining time; the rest is for proofs
PROVABLE = 0.5  # share of the remaining time that the proofs of new leaves may be expected to take
FIRST_FIT = 0.3  # share of the time limit beyond which the map of the whole domain is proven before it is cut
SPARE = 0.1  # a remaining share of the time limit below this is too little for another turn
PROOFS = 2  # proofs of leaves take one of this many parts of the remaining time; the rest is for nodes above
ONE_PROOF = 10  # a proof may take one of this many parts of the remaining time while the tree grows
AGAIN = 3  # the same for the worst leaf, if nothing above it remains to be proven


@dataclass(eq=False)
class Node:
    """Hold a node of the tree, which is a leaf until it has a cut.

    Attributes:
        fit: its latest map.
        best: the proven map with the smallest bound.
        cut: the half-space of its active child.
        below: the inactive and the active child.
        attempts: the number of attempts to prove it.
        is_looked_at: whether there was an attempt to prove it in place of the nodes below it.
        is_nearest: whether it has the map nearest to the network, rather than any map that is near enough.
    """

    fit: Fit
    best: Fit | None = None
    cut: Float[np.ndarray, "homogeneous"] | None = None
    below: tuple[Node, Node] | None = None
    attempts: int = 0
    is_nearest: bool = False
    is_looked_at: bool = False

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
    """Grow a tree.

    Attributes:
        fitter: the object that fits maps to cells.
        cuts: the candidate cuts of cells.
        goal: the largest error allowed; 0 for an error as small as possible.
        max_regions: largest number of leaves; None for as many as the goal needs.
        asking: the object that proves, and knows the remaining time.
        rng: random generator for points.
        show: function called now and then with the number of leaves and the largest error found.
        reasons: why it stopped with an error above the goal, or with bounds that are not near the errors found.
    """

    fitter: Fitter
    cuts: CandidateCuts
    goal: float
    max_regions: int | None
    asking: Asking
    rng: np.random.Generator
    show: Callable[[int, float], None]
    reasons: list[str] = field(default_factory=list)
    _numbers: itertools.count[int] = field(default_factory=itertools.count)
    _each: float = 0.0  # seconds for the proof of one leaf; 0 as long as no time is measured

    def grow(self, cell: SampledCell) -> Node:
        """Return the tree, every leaf of which has a proven bound.

        With a time limit, growing and proving alternate.
        """
        root = Node(self.fitter.fit(cell, self.goal, self._soon))
        while True:
            reason = self._cut_worst(root)
            if not self._prove_all(root.leaves, self.asking.part(PROOFS)):
                self._fall_back(root)
                self.reasons = [*dict.fromkeys([*([reason] if reason else []), self._out_of_time])]
                break
            self.reasons = [reason] if reason else []
            limit = self.asking.options.time_limit
            if reason != self._out_of_time or self.asking.is_over or self.asking.seconds > (1.0 - SPARE) * (limit or 0):
                break
        self._prune(root)
        if self._bound(root) <= self.goal:
            self.reasons = []
        return root

    def _cut_worst(self, root: Node) -> str:
        """Cut the worst leaves, and prove those that are near enough; return the reason to stop if some are not."""
        leaves = root.leaves
        open_ones, count = [self._entry(leaf) for leaf in leaves if self._bound(leaf) > self.goal], len(leaves)
        heapq.heapify(open_ones)
        limit, now, uncut = self.asking.options.time_limit, self.asking.seconds, ""
        until, most = np.inf, np.inf
        if limit is not None:
            until = now + min(max(FIRST_TURN * limit, now), GROWING * (limit - now))
            if root.below is None and now > FIRST_FIT * limit:
                return self._out_of_time  # what took so long to fit is proven first
            most = count + PROVABLE * (limit - now) / (2.0 * self._each) if self._each else np.inf
        while open_ones:
            self.show(count, self._error(open_ones[0][-1]))
            if self.asking.is_over or self.asking.seconds > until or count > most:
                return self._out_of_time
            leaf = heapq.heappop(open_ones)[-1]
            if self._error(leaf) <= self.goal and leaf.attempts < ATTEMPTS:
                if not self._is_proven(leaf):
                    heapq.heappush(open_ones, self._entry(leaf))
            elif count == self.max_regions:
                return f"max_regions={count}"
            elif self._cut(leaf):
                count += 1
                for node in leaf.below or ():
                    heapq.heappush(open_ones, self._entry(node))
            else:
                uncut = "no cut with points on both sides is left"
        return uncut

    def _entry(self, leaf: Node) -> tuple[float, int, Node]:
        return -self._error(leaf), next(self._numbers), leaf

    def _error(self, leaf: Node) -> float:
        return self.fitter.found(leaf.fit)

    @property
    def _soon(self) -> float:
        """Time on the monotonic clock at which a fit ends: half of the remaining time is for its proof."""
        now = time.monotonic()
        return now + GROWING * max(0.0, self.asking.until - now)

    @property
    def _out_of_time(self) -> str:
        return self.asking.reason or f"time_limit={self.asking.options.time_limit}"

    def _is_proven(self, leaf: Node) -> bool:
        """Prove a leaf that seems near enough, and tell whether nothing remains to be done for now."""
        part = self.asking.part(ONE_PROOF)
        leaf.attempts += 1
        self._keep(leaf, self.fitter.proven(leaf.fit, self.goal, part))
        self._take_note(part)
        if self._error(leaf) <= self.goal:
            return True  # proven, or stopped and then proven at the end
        leaf.fit = self.fitter.fit(leaf.fit.cell, self.goal, self._soon)
        return False

    def _take_note(self, part: Asking) -> None:
        self.asking.cells += part.cells
        if part.is_over and part.reason and not part.no_time_left():  # interrupted
            self.asking.add(part)

    def _prove_all(self, leaves: list[Node], asking: Asking) -> bool:
        """Bring the bounds of all leaves near the largest error of all, beginning with the largest errors.

        Where that error is above the goal, a leaf gets its nearest map.

        Args:
            leaves: the leaves.
            asking: the object that proves, and knows the remaining time; leaves for which it does not suffice have no
                bound.

        Returns:
            Whether the time sufficed.
        """
        fitter, errors = self.fitter, np.array([self._error(leaf) for leaf in leaves])
        bounds, stops = np.array(list(map(self._bound, leaves))), np.zeros(len(leaves))
        done, unproven, begun = np.zeros(len(leaves), dtype=bool), int(np.isinf(bounds).sum()), asking.seconds
        while True:
            near = fitter.near(errors)
            rest = np.flatnonzero((bounds > near) & ~done)
            if not len(rest):
                self._each = (asking.seconds - begun) / max(unproven, 1)
                return True
            if asking.is_over or asking.no_time_left():
                return False
            number = int(rest[np.lexsort((-errors[rest], stops[rest]))[0]])
            leaf, part = leaves[number], asking.part(len(rest))
            if errors[number] > self.goal and not leaf.is_nearest:
                leaf.fit, leaf.is_nearest = fitter.fit(leaf.fit.cell, np.inf, self._soon), True
            else:
                leaf.attempts += 1
                is_last = leaf.attempts > 2 * ATTEMPTS
                fit = fitter.proven(leaf.fit, np.inf if is_last else float(near[number]), part)
                asking.add(part)
                done[number] = is_last
                stops[number] += part.is_over  # to be tried again together with others that took too long
                leaf.is_nearest = fitter.found(fit) <= near[number]  # otherwise it was not fitted to the new points
                self._keep(leaf, fit)
            errors[number], bounds[number] = self._error(leaf), self._bound(leaf)

    def _fall_back(self, root: Node) -> None:
        """If there is no time to prove leaves, prove nodes above them, from the root down to the worst leaf."""
        while root.best is None or not (self.asking.is_over or self.asking.no_time_left()):
            node = root
            while node.is_looked_at and node.below is not None:
                node = max(node.below, key=self._bound)
            is_again, node.is_looked_at = node.is_looked_at, True
            if not is_again and node.best is not None:
                continue
            part = self.asking.part(AGAIN if is_again else ONE_PROOF)
            if not is_again and not part.no_time_left():
                node.fit = self.fitter.fit(node.fit.cell, np.inf, self._soon)
            self._keep(node, self.fitter.proven(node.fit, np.inf, part))
            self.asking.add(part)
            if is_again and not part.is_over:
                break

    def _keep(self, node: Node, fit: Fit) -> None:
        """Store a map, and what is proven about it."""
        node.fit, best, proven_of = fit, node.best, self.fitter.proven_of
        if fit.is_proven and (best is None or proven_of(fit) < proven_of(best)):
            node.best = fit
        elif best is not None and best.maps is fit.maps:  # a larger error of it may have been found
            node.best = replace(fit, bound=best.bound, lead_bound=best.lead_bound)

    def _bound(self, node: Node) -> float:
        """Return the proven error of a node or of all nodes below it."""
        own = np.inf if node.best is None else self.fitter.proven_of(node.best)
        return own if node.below is None else min(own, max(map(self._bound, node.below)))

    def _prune(self, root: Node) -> None:
        """Replace the subtree below a node by the node itself if that is proven to be no worse."""
        stack = [root]
        while stack:
            node = stack.pop()
            if node.below is None:
                continue
            if node.best is not None and self.fitter.proven_of(node.best) <= max(map(self._bound, node.below)):
                node.cut = node.below = None
            else:
                stack += node.below
        for leaf in root.leaves:
            assert leaf.best is not None  # otherwise a node above would have replaced it
            leaf.fit = leaf.best

    def _cut(self, leaf: Node) -> bool:
        cell = leaf.fit.cell.filled(self.rng)
        at = leaf.fit.at if leaf.fit.lead_at is None else np.concatenate([leaf.fit.at, leaf.fit.lead_at[None]])
        seen = cell.for_cuts(self.rng)
        cut = self.cuts.best(seen, self.fitter.program(seen.x), at, self.goal, self._soon)
        if cut is None:
            return False
        parts = [cell.side(cut, active, self.rng) for active in (False, True)]
        leaf.cut = cut
        fits = [self.fitter.fit(part, self.goal, self._soon) for part in parts]
        leaf.below = Node(fits[0]), Node(fits[1])
        return True
