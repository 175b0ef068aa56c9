"""Table of the regions that contain data, with the network's outputs and errors in each."""

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
    """A column of means: its name, and the number that each row of data contributes."""

    name: str
    values: Float[np.ndarray, "rows"]


@outside_modes
def region_table(
    shallow: RegionNetwork, x: Tensor, y: Tensor | None = None, *, outputs: Tensor | None = None
) -> pd.DataFrame:
    """Tabulate the regions that rows of data fall into: number of rows, mean outputs and errors, most rows first.

    Regions are activation regions of the trunk, or the merged regions after `merge`. Rows outside the domain or the
    known regions are counted as region -1. The network has no outputs there, so their means are NaN unless `outputs` is
    given.

    Args:
        shallow: any network that `transform` makes.
        x: inputs as the network reads them, of shape `(rows, *in_shape)`.
        y: the correct value for each row. Integers are classes, of shape `(rows,)`, which are compared with the class
            of the largest output, or with outputs that are integers themselves. Floating-point numbers have the shape
            of the outputs, or `(rows,)` for a single output, and are compared by squared error.
        outputs: outputs for each row to be used instead of those that the network computes, head included, such as the
            outputs of the deep network, which is known everywhere, or classes as integers.

    Returns:
        A DataFrame with a row for each region that has data, and the columns `region`, `rows` and `share` (of all
        rows); the mean of each output, as `mean output`, or `mean output[k]` if there are several (no such column if
        the outputs are integers); and with `y` the `accuracy` or the `mean squared error`.

    Raises:
        WrongTypeError: `shallow` is not a `ShallowReLU`, or another argument is not a tensor.
        TransformError: an argument has the wrong shape, `y` contains NaN or inf, or `y` contains classes although there
            is only one output, which does not determine a class.
        ImportError: pandas is not installed.

    Example:
        >>> import torch, torch_shallow
        >>> from torch_shallow.explain import region_table
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
    """Outputs of the network, as float64 or integers; zeros at rows where it is unknown."""
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
            f"{name}: expected a tensor of real numbers with {rows} rows, as in x, found {found}; pass one row for "
            "each input."
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
    """Comparison of each row with its correct value, to be averaged.

    Raises:
        TransformError: the two cannot be compared.
    """
    rows, count = outputs.shape
    whole = not np.issubdtype(outputs.dtype, np.floating)
    _check_real("y", y, rows)
    if not whole and np.isnan(outputs).any():
        raise TransformError(
            f"outputs: expected numbers to compare with y, found NaN in {int(np.isnan(outputs).any(axis=1).sum())} "
            "rows; leave these rows out."
        )
    right = y.detach().cpu().reshape(rows, int(np.prod(y.shape[1:])))
    if not y.is_floating_point():
        if right.shape[1] != 1 or (whole and count != 1):
            raise TransformError(
                f"y: expected one class for each row, found shape {tuple(y.shape)}; reshape it, and give outputs the "
                "same shape if they are classes."
            )
        if not whole and count == 1:
            raise TransformError(
                "y: expected floating-point numbers, because one output does not determine a class, found integers; "
                "pass predicted classes as outputs, such as outputs=(shallow(x) > 0).long().flatten()."
            )
        classes = outputs[:, 0] if whole else outputs.argmax(axis=1)
        return _Column("accuracy", np.where(known, classes == right[:, 0].numpy(), np.nan))
    if whole or right.shape[1] != count:
        expected = "integers, as the outputs are" if whole else f"{count} numbers a row, as the outputs have"
        raise TransformError(f"y: expected {expected}, found {y.dtype} of shape {tuple(y.shape)}; convert it.")
    if not right.isfinite().all():
        raise TransformError("y: expected finite numbers, found NaN or inf; leave these rows out.")
    errors = ((outputs - right.double().numpy()) ** 2).mean(axis=1)
    return _Column("mean squared error", np.where(known, errors, np.nan))
