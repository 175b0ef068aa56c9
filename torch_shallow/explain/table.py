"""Regions and data: what falls where, and how well the network does there."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from torch_shallow.errors import TransformError, WrongTypeError, argument_error
from torch_shallow.functions.points import check_rows
from torch_shallow.modes import outside_modes
from torch_shallow.modules.region_network import RegionNetwork
from torch_shallow.optional import require

if TYPE_CHECKING:
    import pandas as pd


class _Column(NamedTuple):
    """A column of means: its name, and the number of each row of data."""

    name: str
    values: Float[np.ndarray, "rows"]


@outside_modes
def region_table(
    shallow: RegionNetwork, x: Tensor, y: Tensor | None = None, *, outputs: Tensor | None = None
) -> pd.DataFrame:
    """The regions that rows of data fall into: how many, their outputs, and how right these are; most rows first.

    Regions are activation regions of the trunk (after `merge` those of the merged network). Rows outside the domain or
    the known regions are counted as region -1. The network has no outputs there, so means are NaN, unless `outputs`
    tells them.

    Args:
        shallow: any network that `transform` makes.
        x: inputs as the network reads them, of shape `(rows, *in_shape)`.
        y: what is right for each row. Whole numbers are classes, of shape `(rows,)`, and are compared with the class of
            the largest output, or with outputs that are whole numbers themselves. Floating-point numbers, of the
            outputs' shape (of one output, `(rows,)` too), are compared by their squared error.
        outputs: for each row, in place of what the network computes, its head included: such as those of the deep
            network, which are known everywhere, or classes as whole numbers.

    Returns:
        A row for each region that has rows, with columns `region`, `rows`, `share` (of all rows); the mean of each
        output: `mean output`, or `mean output[k]` if there are several (none where outputs are whole numbers); and with
        `y` the `accuracy` or the `mean squared error`.

    Raises:
        WrongTypeError: `shallow` is no `ShallowReLU`, or another argument no tensor.
        TransformError: an argument has another shape than it should, numbers of `y` are not finite, or classes are
            asked for where there is only one output, which does not tell them.
        ImportError: pandas is not installed.

    Example:
        >>> import torch, torch_shallow
        >>> model = torch.nn.Sequential(torch.nn.Linear(1, 1, bias=False), torch.nn.ReLU())
        >>> with torch.no_grad():
        ...     _ = model[0].weight.fill_(1.0)
        >>> shallow = torch_shallow.transform(model, domain=torch_shallow.Box(-1.0, 2.0))
        >>> print(region_table(shallow, torch.tensor([[1.0], [2.0], [-1.0], [1.5], [9.0], [-0.5]])).to_string())
           region  rows     share  mean output
        0       1     3  0.500000          1.5
        1       0     2  0.333333          0.0
        2      -1     1  0.166667          NaN
    """
    pandas = require("pandas", "explain")
    if not isinstance(shallow, RegionNetwork):
        raise WrongTypeError(f"shallow: expected a ShallowReLU, found {type(shallow).__name__}; use transform(model).")
    check_rows("x", x, shallow.in_shape)
    x = x.detach().to(shallow.device)
    region = shallow.locate(x)
    found = _outputs(shallow, x, region >= 0) if outputs is None else _given(outputs, len(x))
    known = (region >= 0).cpu().numpy() if outputs is None else np.ones(len(x), dtype=bool)
    columns = [*_means(found, known), *([] if y is None else [_error(found, known, y)])]
    numbers, of_row, counts = np.unique(region.cpu().numpy(), return_inverse=True, return_counts=True)
    order = np.lexsort((numbers, -counts))
    table = {"region": numbers, "rows": counts, "share": counts / len(x)}
    for name, values in columns:
        table[name] = np.bincount(of_row, weights=values, minlength=len(numbers)) / counts
    return pandas.DataFrame({name: column[order] for name, column in table.items()})


@torch.no_grad()
def _outputs(shallow: RegionNetwork, x: Tensor, known: Tensor) -> Shaped[np.ndarray, "rows outputs"]:
    """What the network computes, float64 or whole numbers; zeros where it computes nothing."""
    y = shallow(x[known])
    y = y.reshape(len(y), int(np.prod(y.shape[1:])))
    y = y.double() if y.is_floating_point() else y.long()
    every = y.new_zeros(len(x), y.shape[1])
    every[known] = y
    return every.cpu().numpy()


def _check_real(name: str, values: object, rows: int) -> None:
    if not isinstance(values, Tensor) or values.is_complex() or values.dim() == 0 or len(values) != rows:
        found = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
        raise argument_error(values, Tensor)(
            f"{name}: expected a tensor of real numbers with {rows} rows, as in x, found {found}."
        )


def _given(outputs: Tensor, rows: int) -> Shaped[np.ndarray, "rows outputs"]:
    _check_real("outputs", outputs, rows)
    whole = not outputs.is_floating_point()
    numbers = outputs.detach().cpu().to(torch.int64 if whole else torch.float64)
    return numbers.reshape(rows, int(np.prod(outputs.shape[1:]))).numpy()


def _means(outputs: Shaped[np.ndarray, "rows outputs"], known: np.ndarray) -> list[_Column]:
    if not np.issubdtype(outputs.dtype, np.floating):
        return []
    count = outputs.shape[1]
    names = ["mean output"] if count == 1 else [f"mean output[{k}]" for k in range(count)]
    return [_Column(name, np.where(known, outputs[:, k], np.nan)) for k, name in enumerate(names)]


def _error(outputs: Shaped[np.ndarray, "rows outputs"], known: np.ndarray, y: Tensor) -> _Column:
    """What is averaged of the comparison with what is right.

    Raises:
        TransformError: the two cannot be compared.
    """
    rows, count = outputs.shape
    whole = not np.issubdtype(outputs.dtype, np.floating)
    _check_real("y", y, rows)
    if not whole and np.isnan(outputs).any():
        raise TransformError(
            f"outputs: expected numbers to be compared with y, found NaN in {int(np.isnan(outputs).any(axis=1).sum())} "
            "rows; leave these rows out."
        )
    right = y.detach().cpu().reshape(rows, int(np.prod(y.shape[1:])))
    if not y.is_floating_point():
        if right.shape[1] != 1 or (whole and count != 1):
            raise TransformError(f"y: expected one class for each row, found shape {tuple(y.shape)}; see outputs too.")
        if not whole and count == 1:
            raise TransformError(
                "y: expected floating-point numbers, for one output does not tell classes, found whole numbers; pass "
                "the classes that are predicted as outputs, such as outputs=(shallow(x) > 0).long().flatten()."
            )
        classes = outputs[:, 0] if whole else outputs.argmax(axis=1)
        return _Column("accuracy", np.where(known, classes == right[:, 0].numpy(), np.nan))
    if whole or right.shape[1] != count:
        expected = "whole numbers, as the outputs are" if whole else f"{count} numbers a row, as the outputs have"
        raise TransformError(f"y: expected {expected}, found {y.dtype} of shape {tuple(y.shape)}.")
    if not right.isfinite().all():
        raise TransformError("y: expected finite numbers, found NaN or inf; leave these rows out.")
    errors = ((outputs - right.double().numpy()) ** 2).mean(axis=1)
    return _Column("mean squared error", np.where(known, errors, np.nan))
