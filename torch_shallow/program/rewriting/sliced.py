"""Represent functions that choose: in each entry of a tensor, affine between cuts of one value, perhaps with jumps.

`where(h > 0, a, b)`, `h * (h > 0)` and `sign(h) * relu(|h| - t)` are such functions of h, and so is every intermediate
value. Computed here, entry by entry and on each side of every cut, they show whether they are continuous.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.fx import Node

from torch_shallow.program.rewriting.shapes import NotRewritable

TOLERANCE = 1e-12  # tolerance for coefficients, relative to the largest: more than the rounding of a few operations
_CANNOT_TELL = (
    "could not be shown to be continuous, as its sides differ by more than a multiple of the value that decides the "
    "choice; write the choice with relu, maximum or minimum"
)
_TWO_VALUES = (
    "chooses by two values at once, so it could not be shown to be continuous; write the choice with relu, maximum or "
    "minimum"
)

Terms = dict[Node, Tensor]
"""Coefficients of the values of nodes."""


@dataclass(frozen=True)
class Kink:
    """Hold a term `slope * relu(u - cut)` of a continuous function; an entry with slope 0 has no kink."""

    slope: Float[Tensor, "*shape"]
    cut: Float[Tensor, "*shape"]


@dataclass(frozen=True)
class Sliced:
    """Hold, for each entry, a function that is affine in the values of some nodes between cuts of a direction u.

    The first dimension of coefficients counts slots: the part below the first cut, that cut itself, the part between it
    and the second, and so on. The other dimensions broadcast, as the values of the nodes do. Where cuts coincide, the
    slots between them contain no points.

    Attributes:
        terms: coefficients in each slot, of shape `(2 * cuts + 1, *shape)`.
        constant: constant in each slot, of the same shape.
        cuts: values of u in ascending order, of shape `(cuts, *shape)`.
        direction: u, a linear function of the same nodes, of shape `(1, *shape)`, whose first nonzero coefficient is 1.
            Empty if there are no cuts.
        boolean: whether the values are those of a boolean tensor, 0 and 1.
    """

    terms: Terms
    constant: Tensor
    cuts: Tensor
    direction: Terms
    boolean: bool = False

    @classmethod
    def of_node(cls, node: Node, num_dims: int) -> Sliced:
        """Return the value of a node."""
        ones = torch.ones((1,) * (num_dims + 1), dtype=torch.float64)
        return cls({node: ones}, 0.0 * ones, ones[:0], {})

    @classmethod
    def of_constant(cls, value: Tensor | float | int) -> Sliced:
        """Return a value that does not depend on any node.

        Raises:
            NotRewritable: the value is not finite.
        """
        tensor = torch.tensor(value, dtype=torch.float64) if isinstance(value, float) else torch.as_tensor(value)
        constant = tensor.detach().double().cpu()[None]
        if not constant.isfinite().all():
            raise NotRewritable("chooses between values that are not all finite; use finite ones")
        return cls({}, constant, constant[:0], {}, tensor.dtype == torch.bool)

    @property
    def num_dims(self) -> int:
        """Number of dimensions of the values."""
        return self.constant.ndim - 1

    # Arithmetic.

    def __add__(self, other: Any) -> Sliced:
        a, b = _aligned(self, other)
        if a.boolean and b.boolean:
            return a | b
        terms = {node: a._term(node) + b._term(node) for node in {**a.terms, **b.terms}}
        return replace(a, terms=terms, constant=a.constant + b.constant, boolean=False)

    __radd__ = __add__

    def __neg__(self) -> Sliced:
        terms = {node: -term for node, term in self.terms.items()}
        return replace(self, terms=terms, constant=-self.constant, boolean=False)

    def __sub__(self, other: Any) -> Sliced:
        return self + -_as_sliced(other)

    def __rsub__(self, other: Any) -> Sliced:
        return _as_sliced(other) - self

    def __mul__(self, other: Any) -> Sliced:
        """Multiply.

        Raises:
            NotRewritable: both factors depend on values of nodes in the same slot.
        """
        a, b = _aligned(self, other)
        if (a._varies & b._varies).any():
            raise NotRewritable("multiplies two values that both depend on the input, which is not piecewise linear")
        nodes = {**a.terms, **b.terms}
        terms = {node: a._term(node) * b.constant + b._term(node) * a.constant for node in nodes}
        return replace(a, terms=terms, constant=a.constant * b.constant, boolean=a.boolean and b.boolean)

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> Sliced:
        divisor = _as_sliced(other)
        if divisor.terms or len(divisor.cuts):
            raise NotRewritable("divides by a value that depends on the input, which is not piecewise linear")
        if (divisor.constant == 0.0).any():
            raise NotRewritable("divides by 0")
        return self * replace(divisor, constant=1.0 / divisor.constant, boolean=False)

    # Logic.

    def __invert__(self) -> Sliced:
        return replace(1.0 - self._truth(), boolean=True)

    def __and__(self, other: Any) -> Sliced:
        return replace(self._truth() * _as_sliced(other)._truth(), boolean=True)

    def __or__(self, other: Any) -> Sliced:
        return ~(~self & ~_as_sliced(other))

    def _truth(self) -> Sliced:
        if not self.boolean:
            raise NotRewritable("uses a value that depends on the input as a boolean; compare it first")
        return replace(self, boolean=False)

    # Choices.

    def sign(self) -> Sliced:
        """Return -1, 0 or 1.

        Raises:
            NotRewritable: the value has cuts of one direction, but changes with others too.
        """
        direction = self.direction or _direction_of(self.terms)
        if not direction:
            return replace(self, constant=self.constant.sign(), boolean=False)
        slope = self._slope(direction)
        cuts = _sorted(self.cuts, _roots(slope, self.constant, self.cuts))
        f = replace(self, direction=direction)._refined(cuts)
        # The value at a point of each slot; at a root it is 0 up to rounding.
        terms = f._slope(direction) * _samples(cuts)
        value = terms + f.constant
        value = torch.where(value.abs() <= TOLERANCE * (terms.abs() + f.constant.abs()), 0.0, value)
        return replace(f, terms={}, constant=value.sign(), boolean=False)

    def is_sign(self, wanted: Callable[[Tensor], Tensor]) -> Sliced:
        """Tell, as a boolean, where the sign is a wanted one."""
        sign = self.sign()
        return replace(sign, constant=wanted(sign.constant).double(), boolean=True)

    def choose(self, a: Any, b: Any) -> Sliced:
        """Return `a` where this boolean is true, and `b` where it is not."""
        a, b = _aligned(a, b)
        mask, a = _aligned(self._truth(), a)
        mask, b = _aligned(mask, b)
        mask, a = _aligned(mask, a)
        true, nodes = mask.constant != 0.0, {**a.terms, **b.terms}
        terms = {node: torch.where(true, a._term(node), b._term(node)) for node in nodes}
        constant = torch.where(true, a.constant, b.constant)
        return replace(mask, terms=terms, constant=constant, boolean=a.boolean and b.boolean)

    def relu(self) -> Sliced:
        """Return the positive part."""
        return self.is_sign(lambda sign: sign > 0).choose(self, 0.0)

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Implement `torch.relu`, the only function that `piecewise` uses for elementwise operations."""
        if func is torch.relu and not kwargs:
            return args[0].relu()
        return NotImplemented

    # Continuity.

    def kinks(self) -> list[Kink]:
        """Return the kinks of a continuous function: it is the part below the first cut, plus these.

        Raises:
            NotRewritable: the function jumps, or could not be shown to be continuous.
        """
        found, left = list[Kink](), self._slot(0)
        for i, cut in enumerate(self.cuts):
            self._step(left, self._slot(2 * i + 1), cut)
            right = self._slot(2 * i + 2)
            slope = self._step(left, right, cut)
            last = i + 1 == len(self.cuts)
            empty = torch.zeros_like(cut, dtype=torch.bool) if last else cut == self.cuts[i + 1]
            found.append(Kink(torch.where(empty, 0.0, slope), cut))
            left = {node: torch.where(empty, left[node], right[node]) for node in left}
        return _compact(found)

    def _slot(self, i: int) -> dict[Node | None, Tensor]:
        """Return the coefficients in a slot, and the constant under None."""
        nodes = dict.fromkeys([*self.direction, *self.terms])
        return {**{node: self._term(node)[i] for node in nodes}, None: self.constant[i]}

    def _step(self, left: dict[Node | None, Tensor], right: dict[Node | None, Tensor], cut: Tensor) -> Tensor:
        """Return the change of slope between two sides that meet at a cut."""
        size = torch.stack([*torch.broadcast_tensors(*(t.abs() for s in (left, right) for t in s.values()))]).amax(0)
        change = replace(
            self,
            terms={node: (right[node] - left[node])[None] for node in left if node is not None},
            constant=(right[None] - left[None])[None],
        )
        slope = change._slope(self.direction, size)[0]
        jump = change.constant[0] + slope * cut
        allowed = TOLERANCE * (size * (1.0 + cut.abs()))
        if not (jump.abs() <= allowed).all():
            raise NotRewritable(
                f"jumps by {float(jump.abs().max()):.3g}, which is not continuous; let its sides agree where it "
                "switches between them"
            )
        return torch.where(slope.abs() <= TOLERANCE * size, 0.0, slope)

    # Slots.

    def _term(self, node: Node) -> Tensor:
        return self.terms.get(node, torch.zeros_like(self.constant))

    @property
    def _varies(self) -> Tensor:
        """Whether the value depends on that of a node, slot by slot."""
        found = torch.zeros_like(self.constant, dtype=torch.bool)
        for term in self.terms.values():
            found = found | (term != 0.0)
        return found

    def _slope(self, direction: Terms, size: Tensor | None = None) -> Tensor:
        """Return, for each slot, how fast the value grows with u, if it changes only with u."""
        slope, open_ = torch.zeros_like(self.constant), torch.ones((), dtype=torch.bool)
        for node, part in direction.items():
            lead = open_ & (part != 0.0)
            slope = slope + torch.where(lead, self._term(node), 0.0)
            open_ = open_ & ~lead
        size = slope.abs() if size is None else size
        for node in {**direction, **self.terms}:
            rest = self._term(node) - slope * direction.get(node, torch.zeros_like(self.constant))
            if not (rest.abs() <= TOLERANCE * size).all():
                raise NotRewritable(_CANNOT_TELL)
        return slope

    def _refined(self, cuts: Tensor) -> Sliced:
        """Return the same function with more cuts."""
        samples, own = _samples(cuts), self.cuts[:, None]
        slots = 2 * (own < samples).sum(0) + (own == samples).any(0)

        def pick(values: Tensor) -> Tensor:
            shape = torch.broadcast_shapes(values.shape[1:], slots.shape[1:])
            return values.expand(-1, *shape).take_along_dim(slots.expand(-1, *shape), 0)

        terms = {node: pick(term) for node, term in self.terms.items()}
        return replace(self, terms=terms, constant=pick(self.constant), cuts=cuts)

    def _lifted(self, num_dims: int) -> Sliced:
        """Return the same function with `num_dims` dimensions, adding leading ones."""

        def lift(values: Tensor) -> Tensor:
            return values.reshape(len(values), *(1,) * (num_dims + 1 - values.ndim), *values.shape[1:])

        terms, direction = ({n: lift(v) for n, v in part.items()} for part in (self.terms, self.direction))
        return replace(self, terms=terms, direction=direction, constant=lift(self.constant), cuts=lift(self.cuts))


def _as_sliced(value: Any) -> Sliced:
    return value if isinstance(value, Sliced) else Sliced.of_constant(value)


def _aligned(a: Any, b: Any) -> tuple[Sliced, Sliced]:
    """Return two functions with the same cuts."""
    a, b = _as_sliced(a), _as_sliced(b)
    dims = max(a.num_dims, b.num_dims)
    a, b = a._lifted(dims), b._lifted(dims)
    if not len(a.cuts) and not len(b.cuts):
        return a, b
    direction = a.direction or b.direction
    if a.direction and b.direction and not _same(a.direction, b.direction):
        raise NotRewritable(_TWO_VALUES)
    cuts = a.cuts if a.cuts.equal(b.cuts) else _sorted(a.cuts, b.cuts)
    a, b = (replace(f, direction=direction)._refined(cuts) for f in (a, b))
    return a, b


def _same(a: Terms, b: Terms) -> bool:
    zero = torch.zeros((), dtype=torch.float64)
    return all(bool(((a.get(n, zero) - b.get(n, zero)).abs() <= TOLERANCE).all()) for n in {**a, **b})


def _direction_of(terms: Terms) -> Terms:
    """Return the linear function of which terms without cuts are multiples, entry by entry."""
    nodes = list(terms)
    if not nodes:
        return {}
    stacked = torch.stack(torch.broadcast_tensors(*terms.values()))
    nonzero = stacked != 0.0
    lead = stacked.take_along_dim(nonzero.int().argmax(0, keepdim=True), 0)
    direction = torch.where(lead == 0.0, 0.0, stacked / torch.where(lead == 0.0, 1.0, lead))
    direction[0] = torch.where(lead[0] == 0.0, 1.0, direction[0])  # arbitrary where the function is constant
    return dict(zip(nodes, direction, strict=True))


def _roots(slope: Tensor, constant: Tensor, cuts: Tensor) -> Tensor:
    """Return the zeros of the function between two cuts; where there is none, one of the cuts, or 0 without cuts."""
    slope, constant = slope[::2], constant[::2]
    shape = torch.broadcast_shapes(slope.shape[1:], constant.shape[1:], cuts.shape[1:])
    roots = torch.where(slope == 0.0, 0.0, -constant / torch.where(slope == 0.0, 1.0, slope)).expand(-1, *shape)
    if not len(cuts):
        return roots
    inner = cuts.expand(-1, *shape)
    infinite = torch.full_like(inner[:1], torch.inf)
    roots = roots.maximum(torch.cat([-infinite, inner])).minimum(torch.cat([inner, infinite]))
    # A cut that is found twice with different rounding is one cut.
    near = (roots[:, None] - inner[None]).abs() <= TOLERANCE * inner.abs()
    return torch.where(near, inner[None], roots[:, None]).take_along_dim(near.int().argmax(1, keepdim=True), 1)[:, 0]


def _sorted(a: Tensor, b: Tensor) -> Tensor:
    """Return the cuts of both, merging those that differ only by rounding."""
    shape = torch.broadcast_shapes(a.shape[1:], b.shape[1:])
    cuts = list(torch.cat([a.expand(-1, *shape), b.expand(-1, *shape)]).sort(0).values)
    kept = cuts[:1]
    for cut in cuts[1:]:
        cut = torch.where(cut - kept[-1] <= TOLERANCE * cut.abs(), kept[-1], cut)
        if not cut.equal(kept[-1]):
            kept.append(cut)
    return torch.stack(kept) if kept else a.expand(-1, *shape)


def _samples(cuts: Tensor) -> Tensor:
    """Return a value of u in each slot."""
    if not len(cuts):
        return cuts.new_zeros(1, *cuts.shape[1:])
    first, last = cuts[:1], cuts[-1:]
    between = [first - 1.0 - first.abs(), (cuts[1:] + cuts[:-1]) / 2.0, last + 1.0 + last.abs()]
    samples = cuts.new_empty(2 * len(cuts) + 1, *cuts.shape[1:])
    samples[::2], samples[1::2] = torch.cat(between), cuts
    return samples


def _compact(kinks: Sequence[Kink]) -> list[Kink]:
    """Return the same kinks, with as few for each entry as possible."""
    if not kinks:
        return []
    slopes = torch.stack(torch.broadcast_tensors(*(kink.slope for kink in kinks)))
    cuts = torch.stack(torch.broadcast_tensors(*(kink.cut for kink in kinks)))
    slopes, cuts = torch.broadcast_tensors(slopes, cuts)
    order = (slopes == 0.0).int().argsort(dim=0, stable=True)
    slopes, cuts = slopes.take_along_dim(order, 0), cuts.take_along_dim(order, 0)
    count = int((slopes != 0.0).sum(0).max())
    return [Kink(slope, cut) for slope, cut in zip(slopes[:count], cuts[:count], strict=True)]
