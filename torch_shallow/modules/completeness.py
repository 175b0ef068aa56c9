"""What needs all regions of the domain says so of a network that does not know them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch_shallow.errors import TransformError

if TYPE_CHECKING:
    from torch_shallow.modules.shallow_relu import ShallowReLU


def require_all_regions(shallow: ShallowReLU, name: str, reason: str) -> None:
    """Make sure that a network knows all regions of its domain.

    Args:
        shallow: the network.
        name: of what needs them.
        reason: why it does.

    Raises:
        TransformError: not all regions are known.
    """
    if not shallow.complete:
        raise TransformError(f"{name}: {reason}, but {shallow.missing}.")
