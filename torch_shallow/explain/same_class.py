"""Whether two networks give the same class everywhere."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from torch import Tensor

from torch_shallow.display import Displayed
from torch_shallow.domain import Domain
from torch_shallow.errors import TransformError
from torch_shallow.explain.asking import Asking
from torch_shallow.explain.subject import Subject
from torch_shallow.explain.two_networks import TwoNetworks
from torch_shallow.program.relu_program import ReLUProgram
from torch_shallow.search.question import Posed
from torch_shallow.search.violations import middle_of, terms_of

ROUNDING = 1e-9  # a lead that is smaller than this, relative to the terms of the outputs, is rounding


@dataclass(frozen=True, eq=False, repr=False)
class SameClass(Displayed):
    """Whether the largest output of two networks is the same one for every input of a domain.

    How far they are from another class is, over all inputs and classes j, the least value of b_i - b_j, where i is the
    class of the first network: negative where they differ. It lies between `lower_bound` and `upper_bound`. The search
    ends as soon as its sign is known.

    Attributes:
        holds: True or False; None if the search was stopped before it was known.
        counterexample: an input of the domain with two classes, of shape `in_shape`, in the dtype of the first network;
            None if there is none.
        outputs: what the two networks themselves give for it, of shape `(2, *out_shape)`, float64.
        classes: the class that the first network gives for it, and the one that the second prefers to that.
        lower_bound: there is no input where b_i - b_j is less: proven.
        upper_bound: its value at the worst input that was found; inf if none came near.
        only_rounding: whether the networks themselves, in their own dtypes, give the same class for `counterexample`.
        cells: how many cells were opened.
        seconds: how long it took.
        reason: why the search stopped before it was known; empty if it is.
    """

    holds: bool | None
    counterexample: Float[Tensor, "*in_shape"] | None
    outputs: Float[Tensor, "2 *out_shape"] | None
    classes: tuple[int, int] | None
    lower_bound: float
    upper_bound: float
    only_rounding: bool
    cells: int
    seconds: float
    reason: str = ""

    @property
    def gap(self) -> float:
        """The width of the proven interval."""
        return 0.0 if self.upper_bound <= self.lower_bound else self.upper_bound - self.lower_bound

    @property
    def proven(self) -> bool:
        """Whether it is known, and does not hang on rounding."""
        return self.holds is not None and not self.only_rounding

    def __str__(self) -> str:
        effort = f"({self.cells:,} cells, {self.seconds:.2g} s)"
        if self.holds is None:
            return f"Not known ({self.reason}): lead from {self.lower_bound:.6g} to {self.upper_bound:.6g} {effort}"
        if self.classes is None:
            return f"The same class everywhere {effort}"
        rounding = ", by rounding alone" if self.only_rounding else ""
        return f"Class {self.classes[0]}, and then {self.classes[1]}{rounding} {effort}"


@dataclass(frozen=True, eq=False)
class _Worst:
    """The worst input found so far, and the two classes there."""

    x: Float[np.ndarray, "inputs"]
    value: float
    classes: tuple[int, int]


def same_class_everywhere(networks: TwoNetworks, margin: float, asking: Asking) -> SameClass:
    """Look for an input of which the two networks give two classes, one pair of classes after another.

    The first network's class is i where its output i is ahead of all others by the margin; with a margin of 0, at a
    tie, each of the leading ones. The second differs where another output is greater than its output i by more than
    rounding.

    Args:
        networks: both.
        margin: how far ahead the first network's largest output has to be.
        asking: who answers.

    Raises:
        TransformError: they have a single output.
    """
    subject = networks.subject
    count = subject.program.num_outputs // 2
    if count < 2:
        raise TransformError(
            "same_class: expected networks with two outputs or more, one for each class, found one output; compare "
            "the outputs, or give the network that has both classes."
        )
    pairs = [(i, j) for i in range(count) for j in range(count) if i != j]
    worst: _Worst | None = None
    rounding = _rounding(subject.program, subject.domain)
    bound = -np.inf
    for number, classes in enumerate(pairs):
        posed = _question(subject.program, subject.domain, margin, rounding, classes)
        found = asking.ask(posed, number=number)
        if found is None:
            bound = np.inf
            break
        bound = max(bound, found.bound)
        if found.x is not None and (worst is None or found.value > worst.value):
            worst = _Worst(found.x, found.value, classes)
        if worst is not None and worst.value > posed.enough:
            return _differs(subject, worst, bound if number == len(pairs) - 1 else np.inf, asking)
    least, most = 0.0 - bound, np.inf if worst is None else 0.0 - worst.value
    holds = None if asking.reason and not bound <= rounding else True
    reason = asking.reason if holds is None else ""
    return SameClass(holds, None, None, None, least, most, False, asking.cells, asking.seconds, reason)


def _question(program: ReLUProgram, domain: Domain, margin: float, rounding: float, classes: tuple[int, int]) -> Posed:
    """How far the second network prefers class j to i, where the first one gives i, surely enough."""
    i, j = classes
    count = program.num_outputs // 2
    rows = np.zeros((count, 2 * count))
    rows[0, count + j], rows[0, count + i] = 1.0, -1.0
    others = [k for k in range(count) if k != i]
    rows[1:, i] = 1.0
    rows[np.arange(1, count), others] = -1.0
    bias = rows @ program.out_bias
    bias[1:] -= margin
    asked = replace(program, out_shape=(count,), out_weight=rows @ program.out_weight, out_bias=bias)
    return Posed(asked, domain, floor=rounding, enough=rounding)


def _rounding(program: ReLUProgram, domain: Domain) -> float:
    """What counts as no difference: measured by the terms of the outputs in the middle of the domain."""
    outputs = Posed(program, domain, program.num_outputs)
    return max(ROUNDING * float(terms_of(outputs, middle_of(outputs)).max()), float(np.finfo(np.float64).tiny))


def _differs(subject: Subject, worst: _Worst, bound: float, asking: Asking) -> SameClass:
    """What the networks themselves say of an input with two classes."""
    shown = subject.rounded(worst.x, subject.domain)
    outputs = subject.run(shown)
    first, second = outputs.reshape(2, -1).cpu()
    i, j = worst.classes
    only_rounding = bool(first.argmax() != i) or bool(second[j] <= second[i])
    return SameClass(
        False,
        shown.to(subject.device),
        outputs,
        worst.classes,
        0.0 - bound,
        0.0 - worst.value,
        only_rounding,
        asking.cells,
        asking.seconds,
    )
