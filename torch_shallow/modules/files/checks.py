"""Is what a file has in its tensors a tree, finite, and a choice of something?"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Int
from torch import Tensor

from torch_shallow.modules.files.damage import Damaged


def check_tree(children: Int[np.ndarray, "cuts 2"], num_regions: int) -> None:
    """Make sure that each cut and each region has one place in a tree, cuts after their parents.

    All other places are open cells, as many as there are more leaves than regions, and no cut has only these below it.

    Args:
        children: see `Tree`.
        num_regions: number of regions.

    Raises:
        Damaged: it is no such tree.
    """
    cuts = len(children)
    if not 1 <= num_regions <= cuts + 1:
        raise Damaged(f"a tree of 1 to {cuts + 1} regions for {cuts} cuts", f"{num_regions} regions")
    is_open = children == ~num_regions
    outside = np.argwhere((children >= cuts) | (children < ~num_regions))
    if len(outside):
        cut = int(outside[0, 0])
        raise Damaged(f"a tree of {cuts} cuts and {num_regions} regions", f"a child of cut {cut} that is none of them")
    early = np.argwhere((children >= 0) & (children <= np.arange(cuts)[:, None]))
    if len(early):
        cut = int(early[0, 0])
        raise Damaged("a tree, each cut after its parent", f"cut {cut} above an earlier one or itself: a cycle")
    met, counts = np.unique(children[~is_open], return_counts=True)
    if (counts > 1).any():
        node = int(met[np.argmax(counts > 1)])
        what = f"cut {node}" if node >= 0 else f"region {~node}"
        raise Damaged("a tree, each cut and region at one place", f"{what} at {int(counts.max())} places")
    if is_open.sum() != cuts + 1 - num_regions:
        found = f"{int(is_open.sum())}, so that a cut or a region has no place"
        raise Damaged(f"a tree with {cuts + 1 - num_regions} open cells", found)
    if is_open.any():
        # Imported here because numba takes a while.
        from torch_shallow.search.compose_maps import first_regions

        first = np.empty(cuts, dtype=np.int64)
        first_regions(children, first)
        if first.max() == num_regions:
            raise Damaged("a region below each cut", f"only open cells below cut {int(first.argmax())}")


def check_finite(tensors: Mapping[str, Tensor], prefixes: tuple[str, ...]) -> None:
    """Make sure that some tensors have neither NaN nor infinity.

    Args:
        tensors: of the file.
        prefixes: of the names of those.

    Raises:
        Damaged: one has.
    """
    for name, tensor in tensors.items():
        if name.startswith(prefixes) and tensor.is_floating_point() and not tensor.isfinite().all():
            raise Damaged(f"finite numbers in {name!r}", f"{int((~tensor.isfinite()).sum())} that are NaN or infinite")


def check_choice(what: str, chosen: Int[np.ndarray, "some"], count: int) -> None:
    """Make sure that numbers are those of some of so many things.

    Args:
        what: the numbers, in words.
        chosen: the numbers.
        count: of how many.

    Raises:
        Damaged: one is of none.
    """
    wrong = chosen[(chosen < 0) | (chosen >= count)]
    if len(wrong):
        raise Damaged(f"{what} to be one of {count}", f"number {int(wrong[0])}")
