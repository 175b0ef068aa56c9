"""How far an exploration is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch_shallow.partition.growth import Growth, Piece

FORMAT = "{percentage:5.1f} % explored |{bar}| {unit} [{elapsed}<{remaining}]"


@contextmanager
def shown(growth: Growth) -> Iterator[Callable[[Growth, Piece], None]]:
    """Show a bar of the explored share of the tree, with the number of regions and their rate.

    Each cut gives half of its cell's weight to either side. The time to go is what it would be if the rest took as long
    for its weight as what is done, which the first seconds tell poorly.

    Args:
        growth: what is known.

    Yields:
        What to call to move it.
    """
    from tqdm.auto import tqdm

    known = growth.num_regions
    with tqdm(total=1.0, initial=growth.explored, bar_format=FORMAT, unit=f"{known:,} regions") as bar:

        def move(growth: Growth, _: Piece) -> None:
            seconds = max(bar.format_dict["elapsed"], 1e-9)
            rate = (growth.num_regions - known) / seconds
            bar.unit = f"{growth.num_regions:,} regions, {rate:,.0f} a second"
            bar.update(growth.explored - bar.n)

        yield move
