"""Convert inputs of any batch shape and dtype to rows of float64 and rows to outputs, and divide data into blocks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from torch_shallow.domain import inside
from torch_shallow.errors import TransformError, WrongTypeError


@torch.fx.wrap
def flatten_points(
    x: Float[Tensor, "*batch_and_in_shape"], in_shape: tuple[int, ...]
) -> Float[Tensor, "points inputs"]:
    """Return inputs as rows, in float64 unless they are float32."""
    check_floating("x", x)
    if x.shape[x.dim() - len(in_shape) :] != in_shape or x.dim() < len(in_shape):
        raise TransformError(
            f"x: expected shape (*batch, {', '.join(map(str, in_shape))}), found {tuple(x.shape)}; reshape the input."
        )
    rows = x.reshape(-1, math.prod(in_shape))
    return rows if x.dtype == torch.float32 else rows.to(torch.float64)


@torch.fx.wrap
def rounding_of(x: Tensor) -> float:
    """Return the unit of rounding of the input, which decides whether it is on the boundary of the domain."""
    return torch.finfo(x.dtype).eps


@torch.fx.wrap
def unflatten(
    y: Shaped[Tensor, "points *outputs"],
    x: Float[Tensor, "*batch_and_in_shape"],
    in_shape: tuple[int, ...],
    out_shape: tuple[int, ...],
) -> Shaped[Tensor, "*batch_and_out_shape"]:
    """Return outputs in the batch shape of the input, and in its dtype if they are floating point."""
    y = y.to(x.dtype) if y.is_floating_point() else y
    return y.reshape((*x.shape[: x.dim() - len(in_shape)], *out_shape))


@torch.fx.wrap
def mask_head(
    y: Shaped[Tensor, "points *outputs"], known: Bool[Tensor, "points"], everywhere: bool
) -> Shaped[Tensor, "points *outputs"]:
    """Set the head's results to NaN for points where the trunk is not known.

    Args:
        y: the results of the head.
        known: whether the trunk is known at each point.
        everywhere: whether it is known at every possible point.

    Raises:
        TransformError: there are unknown points, or there may be some when traced code runs, and the head's results are
            integers, which have no NaN.
    """
    if y.is_floating_point() or y.is_complex():
        return torch.where(known.reshape(-1, *[1] * (y.dim() - 1)), y, torch.nan)
    is_traced = torch.jit.is_tracing()  # type: ignore[attr-defined]
    if everywhere and (is_traced or torch.compiler.is_compiling()):
        return y
    if is_traced:
        raise TransformError(
            f"shallow: expected a network that is known at every point, as its output of dtype {y.dtype} has no NaN "
            "and traced code cannot raise an error, found one with unknown points; trace its trunk, or a complete "
            "network of all of R^n."
        )
    if not known.all():
        raise TransformError(
            f"x: expected inputs in known regions, since the output of dtype {y.dtype} has no NaN, found "
            f"{int((~known).sum())} of {len(known)} outside them or the domain; leave out the inputs whose locate() is "
            "-1."
        )
    return y


def check_floating(name: str, x: object) -> None:
    """Check that the argument `name` is a floating-point tensor.

    Raises:
        WrongTypeError: it is not.
    """
    if not isinstance(x, Tensor) or not x.is_floating_point():
        found = x.dtype if isinstance(x, Tensor) else type(x).__name__
        raise WrongTypeError(f"{name}: expected a floating-point tensor, found {found}; convert it with {_remedy(x)}.")


def _remedy(x: object) -> str:
    """Suggest how to convert an object of NumPy, pandas or scikit-learn to a floating-point tensor."""
    if isinstance(x, Tensor):
        return ".float() or .double()"
    if hasattr(x, "to_numpy"):
        return 'torch.from_numpy(x.to_numpy(dtype="float32"))'
    if hasattr(x, "__array__"):
        return 'torch.from_numpy(x.astype("float32"))'
    return "torch.tensor(x, dtype=torch.float32)"


def check_rows(name: str, x: Tensor, in_shape: tuple[int, ...]) -> None:
    """Check that the argument `name` is a batch of one or more inputs.

    Raises:
        TransformError: it is not.
    """
    check_floating(name, x)
    if x.layout != torch.strided or x.is_meta:
        found = "a tensor on the meta device" if x.is_meta else f"layout {x.layout}"
        raise TransformError(f"{name}: expected a dense tensor with values, found {found}; convert or load it first.")
    if x.shape[1:] != in_shape or x.dim() == 0 or len(x) == 0:
        shape = ", ".join(map(str, in_shape))
        raise TransformError(
            f"{name}: expected a tensor of shape (rows, {shape}) with one or more rows, found {tuple(x.shape)}; its "
            "first dimension is the batch."
        )


def check_data(
    name: str,
    data: Tensor,
    in_shape: tuple[int, ...],
    limits: tuple[Tensor, ...],
    blocks: Callable[[int], Iterable[slice]],
) -> None:
    """Check that data are inputs in the domain.

    Args:
        name: name of the argument.
        data: the argument.
        in_shape: shape of one input.
        limits: limits of the domain.
        blocks: function that divides a number of rows into blocks.

    Raises:
        TransformError: the data are not a batch of inputs, or some are not finite or outside the domain; the message
            says how many, and which is the first.
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
    """Return selected rows in float64, moved onto the boundary of a box if they are outside."""
    return clamp_into_box(data[block].detach().flatten(1).to(device, torch.float64), limits)


def clamp_into_box(x: Float[Tensor, "rows inputs"], limits: tuple[Tensor, ...]) -> Float[Tensor, "rows inputs"]:
    """Return the nearest rows in a box, since a row of low precision on its boundary may be outside by rounding."""
    return x.clamp(*limits) if limits and limits[0].dim() == 1 else x


def _within(rows: Float[Tensor, "rows inputs"], limits: tuple[Tensor, ...]) -> Bool[Tensor, "rows"]:
    """Tell which rows are in the domain, both as given and as they are used."""
    return inside(rows, limits) & inside(clamp_into_box(rows.double(), limits), limits)


def with_progress(blocks: Iterable[slice], title: str, rows: int, progress: bool) -> Iterator[slice]:
    """Yield the same blocks, with a bar that shows how many rows are done."""
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
            f"{name}: {int(wrong.sum())} of {len(wrong)} rows {what}, the first at row {first}; {remedy}."
        )
