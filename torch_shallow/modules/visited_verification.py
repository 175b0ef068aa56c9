"""A network of visited regions held against the deep network's own forward pass, on data."""

from __future__ import annotations

import torch
from torch import Tensor

from torch_shallow.errors import TransformError
from torch_shallow.functions import VisitedFunction
from torch_shallow.functions.deep_function import DeepFunction
from torch_shallow.functions.points import rows_of, with_progress
from torch_shallow.modules.region_network import RegionNetwork
from torch_shallow.program.model import Model
from torch_shallow.program.precision import InFloat64
from torch_shallow.program.verification import MIXES_ROWS, UNSEEN, compare_in_own_precision, own_dtype

ALONE = 3  # so many rows are also run one at a time


@torch.no_grad()
def verify_rows(
    shallow: RegionNetwork, function: VisitedFunction, data: Tensor, progress: bool, tolerance: float = 1e-9
) -> None:
    """Compare the network with the model's own code, in float64, on all rows of some data.

    Args:
        shallow: the network.
        function: its trunk.
        data: the data that its regions were made from.
        progress: show a bar.
        tolerance: largest difference allowed, relative to the largest entry of the output over a block of rows, plus a
            thousandth of it relative to the terms that the trunk's output is a sum of. Rows may differ by a hundred
            times as much between a block and alone, for rounding.

    Raises:
        TransformError: they differ, or rows depend on each other.
    """
    deep = function.deep
    for block in with_progress(deep.blocks(len(data)), "comparing", len(data), progress):
        rows = rows_of(data, block, shallow.device, function.limits)
        x = rows.reshape(-1, *shallow.in_shape)
        own, found = _own(deep, shallow.out_shape, x), shallow.trunk(x)
        # What enters a head is compared by itself, for the head may hide differences.
        trunk = own if shallow.head is None else deep.run(rows, lambda _, z: z.relu()).reshape(found.shape)
        size, size_of_trunk = own.to(torch.complex128).abs().nan_to_num(0.0, 0.0).max(), trunk.abs().max()
        if block.start == 0:
            alone = torch.cat([_own(deep, shallow.out_shape, x[i : i + 1]) for i in range(min(ALONE, len(x)))])
            terms = deep.rounded(rows[:ALONE]).terms.max()
            allowed = 100 * tolerance * (size + size_of_trunk + 1e-3 * terms)
            _compare(alone, own[:ALONE], allowed, 0, MIXES_ROWS)
        allowed = tolerance * size_of_trunk
        if not ((found - trunk).abs() <= allowed).all():
            allowed = allowed + 1e-3 * tolerance * deep.rounded(rows).terms.reshape(trunk.shape)
        _compare(found, trunk, allowed, block.start, UNSEEN)
        if shallow.head is not None:
            _compare(shallow.head(trunk), own, tolerance * (size + size_of_trunk), block.start, UNSEEN)


def verify_in_own_precision(shallow: RegionNetwork, model: Model, data: Tensor) -> None:
    """Compare the network with the model as the user has it, in its own precision, on the first rows of some data.

    Args:
        shallow: the network.
        model: the model.
        data: the data that its regions were made from.

    Raises:
        TransformError: they differ by more than rounding explains.
    """
    copy = model.in_own_precision
    x = data[:ALONE].detach().to(own_dtype(copy))
    with torch.no_grad():
        x = x[shallow.locate(x.double()) >= 0]  # rounded, rows may lie elsewhere
        found = shallow(x.double())
    if found.numel() and not found.is_complex():
        compare_in_own_precision(found.double().reshape(len(x), -1).cpu().numpy(), copy, x)


def _own(deep: DeepFunction, out_shape: tuple[int, ...], x: Tensor) -> Tensor:
    """What the model's own code makes of a batch."""
    with InFloat64():
        y = deep.root(x.clone())  # the model may work in place
    if not isinstance(y, Tensor) or y.shape != (len(x), *out_shape):
        found = f"shape {tuple(y.shape)}" if isinstance(y, Tensor) else type(y).__name__
        raise TransformError(
            f"model: expected an output of shape {(len(x), *out_shape)} for {len(x)} inputs, found {found}."
        )
    return y


def _compare(found: Tensor, expected: Tensor, allowed: Tensor, first: int, what: str) -> None:
    same = found == expected  # whole numbers; or infinities, as of log_softmax
    if any(y.is_floating_point() or y.is_complex() for y in (found, expected)):
        same |= (found - expected).abs() <= allowed
    if not same.all():
        row, output = divmod(int((~same).flatten().nonzero()[0]), max(1, same[0].numel()))
        raise TransformError(
            f"model: {what}. In row {first + row} of the data, output {output} is {found[row].flatten()[output]:.9g} "
            f"instead of {expected[row].flatten()[output]:.9g}."
        )
