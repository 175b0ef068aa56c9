"""Search for an input that meets a formula, one alternative of the formula after another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from torch_shallow.domain import Box
from torch_shallow.explain.asking import Asking
from torch_shallow.explain.subject import Subject
from torch_shallow.properties.formula import Formula, holds_at
from torch_shallow.search.question import Posed
from torch_shallow.search.violations import Violation, finite_part, middle_of, terms_of
from torch_shallow.verdicts.verdict import Verdict

if TYPE_CHECKING:
    from torch_shallow.certify.certificate import Claim

GLANCES = 64  # points of each way that are tried before the search
NEAR = 1e-7  # a completed search leaves at most this gap, relative to the terms
ROOM = 1e-12  # a certificate aims this far below 0, relative to the terms, to allow for rounding
CLEAR = 256  # units of rounding of the model's dtype, relative to the terms, by which a clear violation exceeds 0


@dataclass(frozen=True, eq=False)
class Catch:
    """Hold the worst point of a way, and how surely the formula is met there.

    Attributes:
        way: index of the way.
        x: the point as the search found it.
        value: value of the way's question at `x`.
        sure: 0 if the formula is not met; 1 if only according to the question's value; 2 if according to the float64
            values of the network; 3 if according to what the network itself gives in its own dtype, at a point of the
            domain.
        shown: the point in the network's dtype.
        output: the network's output there.
    """

    way: int
    x: Float[np.ndarray, "inputs"]
    value: float
    sure: int
    shown: Float[Tensor, "*in_shape"]
    output: Float[Tensor, "*out_shape"]


class Hunt:
    """Search for an input of a domain that meets a formula, and keep what was found.

    Args:
        subject: the network and the domain.
        formula: the formula to be met.
        ways: the ways in which it may be met.
        asking: the object that answers questions.
    """

    def __init__(self, subject: Subject, formula: Formula, ways: Sequence[Violation], asking: Asking) -> None:
        self.subject, self.formula, self.ways, self.asking = subject, formula, ways, asking
        self.bounds = np.full(len(ways), np.inf)
        self.best: Catch | None = None
        self.reason = ""

    def verdict(self) -> Verdict:
        """Try some points first, then search one way after another, the most promising one first."""
        for number in self._glance():
            if self._is_over():
                break
            self._search(number, self.ways[number].posed, None if len(self.ways) == 1 else number)
        if self.best is not None and 0 < self.best.sure < 3 and not self.reason:
            self._look_for_a_clearer_one(self.best)
        verdict = self._summary()
        self.asking.certify(self._claims() if verdict.holds else [])
        return verdict

    def _claims(self) -> list[Claim]:
        """Claim that the formula is met in none of the ways."""
        from torch_shallow.certify.certificate import Claim

        claims = []
        for number, way in enumerate(self.ways):
            target = -ROOM * float(terms_of(way.posed, middle_of(way.posed)).max())
            about = f"way {number + 1} of {len(self.ways)} in which the property would fail"
            claims.append(Claim(way.posed, target, 0.0, not way.strict, about))
        return claims

    def _glance(self) -> list[int]:
        """Return the ways in the order of their greatest value at a few points of each."""
        values = np.full(len(self.ways), -np.inf)
        for number, way in enumerate(self.ways):
            x = _points(way.posed)
            found = way.posed.value(x)
            best = int(found.argmax())
            values[number] = found[best]
            if np.isfinite(found[best]):
                self._take(number, x[best], float(found[best]))
        return np.argsort(-values, kind="stable").tolist()

    def _is_over(self) -> bool:
        return bool(self.reason) or (self.best is not None and self.best.sure > 1)

    def _search(self, number: int, posed: Posed, file: int | None) -> None:
        found = self.asking.ask(posed, number=file)
        self.reason = self.asking.reason
        if found is None:
            return
        self.bounds[number] = min(self.bounds[number], max(found.bound, found.value))
        if found.x is not None:
            self._take(number, found.x, found.value)

    def _look_for_a_clearer_one(self, best: Catch) -> None:
        """Continue beyond a point at which rounding decides, for one that meets the formula by more."""
        posed = self.ways[best.way].posed
        unit = max(torch.finfo(self.subject.dtype).eps, np.finfo(np.float64).eps)
        more = best.value + CLEAR * unit * float(terms_of(posed, best.x[None]).max())
        self._search(best.way, replace(posed, floor=best.value, enough=more), -1)
        if best.sure > 1:
            self.reason = ""  # the verdict is known already

    def _take(self, number: int, x: Float[np.ndarray, "inputs"], value: float) -> None:
        """Keep a point if it is the best so far: the surest, and among equally sure ones the worst."""
        shown = self.subject.rounded(x, self.ways[number].posed.domain)
        output = self.subject.run(shown)
        sure = self._sure(number, x, value, shown, output)
        if self.best is None or (sure, value) > (self.best.sure, self.best.value):
            self.best = Catch(number, x, value, sure, shown, output)

    def _sure(self, number: int, x: np.ndarray, value: float, shown: Tensor, output: Tensor) -> int:
        if not self.ways[number].meets(value):
            return 0
        if not holds_at(self.formula, x[None], self.subject.program(x[None]))[0]:
            return 1
        entries, values = (tensor.double().cpu().reshape(1, -1).numpy() for tensor in (shown, output))
        return 3 if holds_at(self.formula, entries, values)[0] and self.subject.contains(shown) else 2

    def _summary(self) -> Verdict:
        best = self.best
        margin, lower = (np.inf if best is None else 0.0 - best.value), 0.0 - float(self.bounds.max(initial=-np.inf))
        cells, seconds = self.asking.cells, self.asking.seconds
        if best is not None and best.sure > 1:
            in_domain = self.subject.contains(best.shown)
            entries, values = (t.double().cpu().reshape(1, -1).numpy() for t in (best.shown, best.output))
            rounding = not holds_at(self.formula, entries, values)[0]
            shown = (best.shown, best.output, margin, min(lower, margin), bool(rounding), in_domain)
            return Verdict(False, *shown, cells, seconds)
        if self.reason:
            return Verdict(None, None, None, margin, lower, False, True, cells, seconds, self.reason)
        near = [k for k, way in enumerate(self.ways) if way.meets(float(self.bounds[k]))]
        if all(self.bounds[k] <= self._near(k) for k in near):
            return Verdict(True, None, None, margin, lower, bool(near), True, cells, seconds)
        reason = "the search has ended with a bound on the other side of 0"
        return Verdict(None, None, None, margin, lower, False, True, cells, seconds, reason)

    def _near(self, number: int) -> float:
        """Return how far the bound of a way may be off after a completed search."""
        posed = self.ways[number].posed
        x = middle_of(posed) if self.best is None else np.stack([middle_of(posed)[0], self.best.x])
        return NEAR * float(terms_of(posed, x).max())


def _points(posed: Posed) -> Float[np.ndarray, "points inputs"]:
    """Return the middle of a box and some fixed points of it; for a polytope, only 0, if it lies inside."""
    middle = middle_of(posed)
    if not isinstance(posed.domain, Box):
        return middle if bool(posed.domain.contains(torch.from_numpy(middle))[0]) else middle[:0]
    lower, upper = finite_part(*posed.domain.bounds(posed.program.in_shape))
    drawn = np.random.default_rng(0).random((GLANCES, len(lower)))
    return np.concatenate([middle, np.clip(lower + drawn * (upper - lower), lower, upper)])
