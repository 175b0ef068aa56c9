"""All regions of a network, as a sequence of views."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import TYPE_CHECKING, SupportsIndex, overload

from torch_shallow.region.region import Region

if TYPE_CHECKING:
    from torch_shallow.shallow.module import ShallowReLU


class Regions(Sequence[Region]):
    """The regions of a network, in its own order; a slice is again such a view.

    Args:
        shallow: the network.
        numbers: which regions; all if None.
    """

    def __init__(self, shallow: ShallowReLU, numbers: range | None = None) -> None:
        self._shallow = shallow
        self._numbers = range(shallow.num_regions) if numbers is None else numbers

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, index: SupportsIndex) -> Region: ...

    @overload
    def __getitem__(self, index: slice) -> Regions: ...

    def __getitem__(self, index: SupportsIndex | slice) -> Region | Regions:
        """The region at an index (negative: from the end), or those of a slice."""
        if isinstance(index, slice):
            return Regions(self._shallow, self._numbers[index])
        number, count = operator.index(index), len(self)
        if not -count <= number < count:
            raise IndexError(f"index: expected {-count} to {count - 1}, for {count} regions, found {number}.")
        return self._shallow.region_type(self._shallow, self._numbers[number])

    def __repr__(self) -> str:
        return f"Regions({len(self)} of {self._shallow.num_regions} activation regions)"
