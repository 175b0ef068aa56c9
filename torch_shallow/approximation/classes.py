"""Compare the classes of a network and of affine maps, and how far the network's class leads where they differ."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, Int

from torch_shallow.domain import Domain
from torch_shallow.explain.asking import Asking, SearchOptions
from torch_shallow.modules.simplified_relu import ProvenClasses
from torch_shallow.program.relu_program import ReLUProgram
from torch_shallow.search.question import Posed
from torch_shallow.search.violations import middle_of, terms_of

if TYPE_CHECKING:
    from torch_shallow.approximation.fit import Fit

ROUNDING = 1e-8  # a lead smaller than this, relative to the terms of the outputs, counts as rounding
PAIRS, HALVINGS = 150, 50  # number of pairs of points of two classes, and of halvings of the segments between them


@dataclass(frozen=True, eq=False)
class Classes:
    """Define the classes of a network: which of its outputs is the largest, or whether a single one is positive.

    The lead of a class is how far its score exceeds all others; scores are the outputs, or 0 and the single output.

    Attributes:
        program: the network.
        domain: the domain in which it is examined.
    """

    program: ReLUProgram
    domain: Domain

    @cached_property
    def scores(self) -> Float[np.ndarray, "classes outputs"]:
        """The scores as linear functions of the outputs."""
        count = self.program.num_outputs
        return np.array([[0.0], [1.0]]) if count == 1 else np.eye(count)

    @cached_property
    def none(self) -> float:
        """The largest lead that counts as none, relative to the terms of the outputs in the middle of the domain."""
        outputs = Posed(self.program, self.domain, self.program.num_outputs)
        terms = float(terms_of(outputs, middle_of(outputs)).max(initial=0.0))
        return max(ROUNDING * terms, float(np.finfo(np.float64).tiny))

    def leads(
        self, y: Float[np.ndarray, "points outputs"]
    ) -> tuple[Int[np.ndarray, "points"], Float[np.ndarray, "points"]]:
        """Return the class at each point, and its lead."""
        scores = y @ self.scores.T
        two = np.partition(scores, -2, axis=1)
        return scores.argmax(axis=1), two[:, -1] - two[:, -2]

    def apart(
        self,
        x: Float[np.ndarray, "points inputs"],
        y: Float[np.ndarray, "points outputs"],
        maps: Float[np.ndarray, "outputs homogeneous"],
    ) -> Float[np.ndarray, "points"]:
        """Return the lead of the network's class at each point where affine maps give another or a tie; else 0."""
        (classes, leads), each = self.leads(y), np.arange(len(x))
        scores = (x @ maps[:, :-1].T + maps[:, -1]) @ self.scores.T
        own = scores[each, classes].copy()
        scores[each, classes] = -np.inf
        return np.where(scores.max(axis=1) >= own, leads, 0.0)

    def questions(
        self, domain: Domain, maps: Float[np.ndarray, "outputs homogeneous"], floor: float, enough: float
    ) -> Iterator[Posed]:
        """Ask for the greatest lead of each class where affine maps do not put another one behind it.

        Args:
            domain: the domain to search.
            maps: coefficients and constant of each output.
            floor: leads up to this are ignored.
            enough: a greater lead ends the search.

        Yields:
            A question for each pair of classes.
        """
        program, (count, outputs) = self.program, self.scores.shape
        of_maps = np.zeros((outputs, program.out_weight.shape[1]))
        of_maps[:, : program.num_inputs] = maps[:, :-1]
        for i in range(count):
            lead = self.scores[i] - np.delete(self.scores, i, axis=0)
            for j in (j for j in range(count) if j != i):
                other = self.scores[None, j] - self.scores[i]
                asked = replace(
                    program,
                    out_shape=(count,),
                    out_weight=np.concatenate([lead @ program.out_weight, other @ of_maps]),
                    out_bias=np.concatenate([lead @ program.out_bias, other @ maps[:, -1]]),
                )
                yield Posed(asked, domain, count - 1, floor=floor, enough=enough)

    def boundary(
        self, x: Float[np.ndarray, "points inputs"], y: Float[np.ndarray, "points outputs"], margin: float
    ) -> Float[np.ndarray, "some inputs"]:
        """Return points between given points of two classes where the lead of either class falls to the margin."""
        classes, leads = self.leads(y)
        sure = np.flatnonzero(leads > margin)
        if len(sure) < 2:
            return x[:0]
        ends = sure[np.random.default_rng(0).integers(len(sure), size=(8 * PAIRS, 2))]
        ends = ends[classes[ends[:, 0]] != classes[ends[:, 1]]][:PAIRS]
        ends = np.concatenate([ends, ends[:, ::-1]])
        near, far, own = x[ends[:, 0]], x[ends[:, 1]], classes[ends[:, 0]]
        for _ in range(HALVINGS):
            middle = near + (far - near) / 2
            found, leads = self.leads(self.program(middle))
            stays = ((found == own) & (leads > margin))[:, None]
            near, far = np.where(stays, middle, near), np.where(stays, far, middle)
        return near


def prove_classes(classes: Classes, fits: Sequence[Fit], time_limit: float | None) -> ProvenClasses:
    """Prove in which regions the class is the same everywhere.

    Args:
        classes: the classes.
        fits: the maps of all regions.
        time_limit: time limit for everything in seconds, after which nothing more is proven. No limit if None.
    """
    asking, limit = Asking(SearchOptions(time_limit=time_limit)), classes.none
    bounds, found, inputs = [], [], []
    for number, fit in enumerate(fits):
        part, cell = asking.part(len(fits) - number), fit.cell
        leads = classes.apart(cell.x, classes.program(cell.x), fit.maps)
        lead, at, bound = float(leads.max()), cell.x[leads.argmax()], 0.0
        for posed in classes.questions(cell.domain, fit.maps, limit / 2, limit) if lead <= limit else ():
            answer = part.ask(posed, number=-1) or part.glance(posed)
            if answer.x is not None and answer.value > lead:
                lead, at = answer.value, answer.x
            bound = max(bound, answer.bound)
            if lead > limit:
                break
        asking.add(part)
        bounds.append(bound if lead <= limit else np.inf)
        found.append(lead)
        inputs.append(at)
    return ProvenClasses(
        limit, *(torch.from_numpy(np.array(each, dtype=np.float64)) for each in (bounds, found, inputs))
    )
