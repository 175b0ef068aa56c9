"""Networks of visited regions for the tests."""

from __future__ import annotations

from torch import Tensor, nn

from tests.modules.laws import random_points
from tests.zoo import ARCHITECTURES, DEGENERATE, Specimen, transformed
from torch_shallow.domain import Domain, WholeSpace
from torch_shallow.modules.visited_relu import VisitedReLU, visited_network
from torch_shallow.program.model import Model

NAMES = ("no ReLU in a box", "trap", "zero at a corner", "zero rows", "coincident across stages")


NAMES += ("3-6-5-2 on Polytope", "densely connected", "image")


SMALL = tuple(s for s in (*DEGENERATE, *ARCHITECTURES) if s.name.startswith(NAMES))


SOME = tuple(s for s in ARCHITECTURES if s.name in ("2-5-4-1", "image", "densely connected"))


def visited_of(model: nn.Module, x: Tensor, domain: Domain | None = None, example: Tensor | None = None) -> VisitedReLU:
    return visited_network(Model.of(model, x[:1] if example is None else example), x, domain or WholeSpace())


def points_of(specimen: Specimen, count: int = 300, seed: int = 0) -> Tensor:
    return random_points(transformed(specimen), count, seed)
