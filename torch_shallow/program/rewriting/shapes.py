"""What the rewriting of an operation may know of the shapes of its arguments."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.fx import Proxy

Shape = tuple[int, ...]


class NotRewritable(Exception):
    """With these arguments the operation is not piecewise linear, or not a function of each input by itself."""


class Shapes:
    """Shapes of the tensors that the arguments of an operation stand for.

    Args:
        look_up: gives the shape of a proxy's tensor for two inputs, and for three.
        value: gives the tensor that a proxy stands for, which does not depend on the input, for two inputs.
    """

    def __init__(self, look_up: Callable[[Proxy], tuple[Shape, Shape]], value: Callable[[Proxy], Tensor]) -> None:
        self._look_up, self.value = look_up, value

    def num_dims(self, x: Proxy) -> int:
        """Number of dimensions."""
        return len(self._look_up(x)[0])

    def axis(self, x: Proxy, dim: int) -> tuple[int, int]:
        """A dimension as a number that is not negative, and its size.

        Raises:
            NotRewritable: there is no such dimension, or its size grows with the number of inputs.
        """
        two, three = self._look_up(x)
        if not -len(two) <= dim < len(two):
            raise NotRewritable(f"has dim={dim}, for a tensor of {len(two)} dimensions")
        dim %= len(two)
        if two[dim] != three[dim]:
            raise NotRewritable(f"goes along the batch (dimension {dim}), so that the inputs depend on each other")
        return dim, two[dim]
