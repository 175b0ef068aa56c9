"""Network in a norm ball about 0, intersected with a box: bounds there, and the distance of a half-space from 0.

For a in R^n and any price p >= 0, weak duality gives a u <= fixed + p |u| for all u of the box: `fixed` is the greatest
value in the box of (a - p n) u, for any n with n u <= |u| for all u. One such inequality serves twice: in the ball
of radius r, a function a u + b is at most b + fixed + p r, and where a u + b >= 0, the distance |u| is at least
(-b - fixed) / p.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from torch_shallow.bounds.staged import StagedNetwork

ROUNDS = 4  # of finding a price, and of finding a distance

Vectors = Float[Tensor, "*batch inputs"]
Numbers = Float[Tensor, "*batch"]


class Support(NamedTuple):
    """The inequality `a u <= fixed + price |u|`, and a point of the ball where it is tight.

    Attributes:
        fixed: Constant of the inequality.
        price: Factor of |u|.
        at: Point where the inequality is tight.
    """

    fixed: Numbers
    price: Numbers
    at: Vectors


@dataclass(frozen=True, eq=False)
class BallNetwork(StagedNetwork):
    """The layers of a program, examined where |u| <= reach in the box.

    Attributes:
        norm: 1, 2 or infinity.
        reach: Radius of the ball; the box extends no further.
    """

    norm: float
    reach: float

    @classmethod
    def around(cls, network: StagedNetwork, norm: float, reach: float) -> BallNetwork:
        """Put a network in its box into a ball."""
        return cls(network.layers, network.lower, network.upper, norm, reach).within(reach)

    def within(self, reach: float) -> BallNetwork:
        """Return the network in a smaller ball."""
        return replace(
            self, lower=self.lower.clamp(min=-reach), upper=self.upper.clamp(max=reach), reach=min(reach, self.reach)
        )

    @property
    def is_cut(self) -> bool:
        """Whether the box does not contain the whole ball."""
        return bool((self.lower > -self.reach).any() | (self.upper < self.reach).any())

    def greatest(self, a: Vectors) -> tuple[Numbers, Vectors]:
        """Return the proven greatest values of linear functions in ball and box, and where these are attained."""
        found = self.support(a, a.new_full((), self.reach).expand(a.shape[:-1]))
        return found.fixed + found.price * self.reach, found.at

    def extremes(self, rows: Float[Tensor, "rows inputs"]) -> tuple[Float[Tensor, "rows"], Float[Tensor, "rows"]]:
        """Return the least and the greatest value of linear functions, ignoring rounding."""
        return -self.greatest(-rows)[0], self.greatest(rows)[0]

    def distance(self, a: Vectors, constant: Numbers) -> Numbers:
        """Return a lower bound of the distance to 0 of all u in the box with `a u + constant >= 0`; inf without such u.

        Without the box, it is `-constant` over the dual norm of a. The inequality that is tight at some distance gives
        a better bound, by Newton's method.
        """
        dual = {1.0: torch.inf, 2.0: 2.0}.get(self.norm, 1.0)
        found = (-constant).clamp(min=0.0) / torch.linalg.vector_norm(a, dual, dim=-1)
        found = torch.where(constant < 0.0, found, 0.0)
        for _ in range(ROUNDS if self.is_cut else 0):
            fixed, price, _ = self.support(a, found.clamp(min=1e-9 * self.reach, max=self.reach))
            missing = -constant - fixed
            found = torch.maximum(found, torch.where(missing > 0.0, missing / price, 0.0))
        return found * (1.0 - self.rounding)

    def support(self, a: Vectors, reach: Numbers) -> Support:
        """Return an inequality that is nearly tight for a radius; a few more steps would find its exact price."""
        if self.norm == 2.0:
            return self._euclidean(a, reach)
        return self._sum(a, reach) if self.norm == 1.0 else self._greatest_entry(a, reach[..., None])

    def _greatest_entry(self, a: Vectors, reach: Tensor) -> Support:
        high, low = torch.minimum(self.upper, reach), torch.maximum(self.lower, -reach)
        at = torch.where(a > 0.0, high, torch.where(a < 0.0, low, torch.minimum(torch.maximum(a * 0.0, low), high)))
        by_ball = torch.where(a > 0.0, self.upper >= reach, self.lower <= -reach)
        price = torch.where(by_ball, a.abs(), 0.0).sum(dim=-1)
        return Support(torch.where(by_ball, 0.0, a * at).sum(dim=-1), price, at)

    def _euclidean(self, a: Vectors, reach: Numbers) -> Support:
        tiny = torch.finfo(a.dtype).tiny
        price = (torch.linalg.vector_norm(a, dim=-1) / reach).clamp(min=tiny)
        # An entry that the box stops leaves more of the radius to the others: the price falls towards the right one.
        for _ in range(ROUNDS if self.is_cut else 0):
            away = a / price[..., None]
            at = torch.minimum(torch.maximum(away, self.lower), self.upper)
            free = away == at
            left = reach**2 - torch.where(free, 0.0, at**2).sum(dim=-1)
            square = torch.where(free, a**2, 0.0).sum(dim=-1)
            lower_price = torch.where(square > 0.0, (square / left.clamp(min=tiny)).sqrt(), 1e-9 * price)
            price = torch.minimum(price, lower_price).clamp(min=tiny)
        at = torch.minimum(torch.maximum(a / price[..., None], self.lower), self.upper)
        rest = a - price[..., None] * at  # 0 up to rounding where the box does not stop an entry
        fixed = torch.where(rest > 0.0, rest * self.upper, rest * self.lower).sum(dim=-1)
        return Support(fixed, price * torch.linalg.vector_norm(at, dim=-1), at)

    def _sum(self, a: Vectors, reach: Numbers) -> Support:
        size = a.abs()
        if not self.is_cut:
            price, entry = size.max(dim=-1)
            at = torch.zeros_like(a).scatter(
                -1, entry[..., None], (torch.sign(a.gather(-1, entry[..., None])) * reach[..., None])
            )
            return Support(torch.zeros_like(price), price, at)
        # From the point of the box nearest to 0, the entries of the steepest slopes move to their ends first.
        nearest = torch.zeros_like(self.lower).clamp(self.lower, self.upper)
        start = nearest.abs().sum()
        room = torch.where(a > 0.0, self.upper - nearest, nearest - self.lower)
        steep, order = size.sort(dim=-1, descending=True)
        used = room.gather(-1, order).cumsum(dim=-1)
        is_full = used >= (reach - start)[..., None]
        last = is_full.int().argmax(dim=-1, keepdim=True)
        price = torch.where(is_full.any(dim=-1), steep.gather(-1, last)[..., 0], 0.0)
        above = size > price[..., None]
        moved = torch.where(above, room, 0.0)
        left = (reach - start - moved.sum(dim=-1)).clamp(min=0.0)
        at_last = order.gather(-1, last)
        left = torch.minimum(left[..., None], room.gather(-1, at_last))
        moved = moved.scatter_add(-1, at_last, torch.where(above.gather(-1, at_last), 0.0, left))
        fixed = a @ nearest + ((size - price[..., None]).clamp(min=0.0) * room).sum(dim=-1) - price * start
        return Support(fixed, price, nearest + torch.sign(a) * moved)
