"""The rows of data that regions are made from: checked, and given out in blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from torch_shallow.domain import inside
from torch_shallow.errors import TransformError
from torch_shallow.functions.points import check_rows


def check_data(
    name: str,
    data: Tensor,
    in_shape: tuple[int, ...],
    limits: tuple[Tensor, ...],
    blocks: Callable[[int], Iterable[slice]],
) -> None:
    """Make sure that data are inputs in the domain.

    Args:
        name: of the argument.
        data: the argument.
        in_shape: shape of one input.
        limits: of the domain.
        blocks: of so many rows.

    Raises:
        TransformError: they are not a batch of inputs, or some are not finite or outside the domain: how many and which
            first.
    """
    check_rows(name, data, in_shape)
    rows = data.detach().flatten(1)
    finite = torch.cat([rows[block].double().isfinite().all(1) for block in blocks(len(rows))])
    _refuse(name, "are not finite (NaN or inf)", "leave them out or repair them", ~finite)
    limits = tuple(limit.to(data.device) for limit in limits)
    within = torch.cat([_within(rows[block], limits) for block in blocks(len(rows))])
    _refuse(name, "lie outside the domain", "leave them out, or give a larger domain", ~within)


def rows_of(
    data: Tensor, block: slice | Tensor, device: torch.device, limits: tuple[Tensor, ...]
) -> Float[Tensor, "rows inputs"]:
    """Some rows in float64, no further out than a box reaches."""
    return clamp_into_box(data[block].detach().flatten(1).to(device, torch.float64), limits)


def clamp_into_box(x: Float[Tensor, "rows inputs"], limits: tuple[Tensor, ...]) -> Float[Tensor, "rows inputs"]:
    """The nearest rows in a box, for a row of low precision on its boundary may be outside by rounding."""
    return x.clamp(*limits) if limits and limits[0].dim() == 1 else x


def _within(rows: Float[Tensor, "rows inputs"], limits: tuple[Tensor, ...]) -> Bool[Tensor, "rows"]:
    """Which rows are in the domain, as given and as they are used."""
    return inside(rows, limits) & inside(clamp_into_box(rows.double(), limits), limits)


def with_progress(blocks: Iterable[slice], title: str, rows: int, progress: bool) -> Iterator[slice]:
    """The same blocks, with a bar that shows how many rows are done."""
    if progress:
        from tqdm.auto import tqdm

        bar = tqdm(total=rows, desc=title, unit=" rows")
    with bar if progress else nullcontext():
        for block in blocks:
            yield block
            if progress:
                bar.update(block.stop - block.start)


def _refuse(name: str, what: str, remedy: str, wrong: Bool[Tensor, "rows"]) -> None:
    if wrong.any():
        first = int(wrong.nonzero()[0])
        raise TransformError(
            f"{name}: {int(wrong.sum())} of {len(wrong)} rows {what}, the first of them row {first}; {remedy}."
        )
