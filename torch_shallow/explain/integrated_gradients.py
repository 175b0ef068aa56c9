"""Integrated gradients in closed form, without integration steps and exact up to rounding."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias, TypeVar, overload

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.export import ExportedProgram

from torch_shallow.errors import TransformError, WrongTypeError
from torch_shallow.explain.function import Function, input_rows, outputs_at, read_function
from torch_shallow.explain.segments.deep_segments import deep_average_gradients
from torch_shallow.explain.segments.segment import pieces
from torch_shallow.explain.segments.tree_segments import tree_breakpoints
from torch_shallow.functions import TreeFunction
from torch_shallow.functions.layers import Selection
from torch_shallow.functions.points import check_rows, rounding_of
from torch_shallow.modes import outside_modes

Inputs: TypeAlias = Tensor | tuple[Tensor, ...]
Given = TypeVar("Given", Tensor, tuple[Tensor, ...])  # attributions come as inputs are given
Baselines: TypeAlias = Tensor | int | float | tuple[Tensor | int | float | None, ...] | None
Target: TypeAlias = int | tuple[int, ...] | Tensor | Sequence[int] | Sequence[tuple[int, ...]] | None


def one_tensor(inputs: Inputs) -> Tensor:
    """The batch of inputs, given alone or in a tuple.

    Raises:
        TransformError: there are several tensors.
    """
    if isinstance(inputs, tuple):
        if len(inputs) != 1:
            raise TransformError(
                f"inputs: expected one tensor, or a tuple of one, found {len(inputs)}; networks of several inputs are "
                "not supported: concatenate them into one, and split it in the model's forward()."
            )
        return inputs[0]
    return inputs


def read_baselines(baselines: Baselines, x: Tensor) -> Tensor:
    """Read the baselines as one row for each input.

    Raises:
        WrongTypeError: they are of another type.
        TransformError: they are of another shape, or a tuple of several.
    """
    if isinstance(baselines, tuple):
        if len(baselines) != 1:
            raise TransformError(
                f"baselines: expected one for the single tensor of inputs, found {len(baselines)}; pass one of them."
            )
        baselines = baselines[0]
    if baselines is None:
        return torch.zeros_like(x)
    if isinstance(baselines, int | float):
        return torch.full_like(x, baselines, dtype=torch.float64)
    if not isinstance(baselines, Tensor) or baselines.is_complex():
        found = type(baselines).__name__ if not isinstance(baselines, Tensor) else str(baselines.dtype)
        raise WrongTypeError(f"baselines: expected None, a number or a tensor, found {found}; pass one of these.")
    if baselines.shape not in (x.shape, (1, *x.shape[1:])):
        raise TransformError(
            f"baselines: expected the shape of the inputs, {tuple(x.shape)}, or of one input, "
            f"{(1, *x.shape[1:])}, found {tuple(baselines.shape)}; reshape them."
        )
    baselines = baselines if baselines.is_floating_point() else baselines.double()
    return baselines.detach().to(x.device).expand_as(x)


def read_inputs(inputs: Inputs, in_shape: tuple[int, ...]) -> Tensor:
    """Read the batch of inputs.

    Raises:
        TransformError: they are not one floating-point tensor of shape `(rows, *in_shape)`.
    """
    x = one_tensor(inputs)
    if not (isinstance(x, Tensor) and x.is_floating_point() and x.shape == (0, *in_shape)):
        check_rows("inputs", x, in_shape)
    return x


def read_target(target: Target, out_shape: tuple[int, ...], rows: int) -> Int64[Tensor, "rows"]:
    """Read the number of the entry of the flattened output that is explained, for each input.

    Args:
        target: None for outputs of one entry; else the index of an entry for all inputs, as a number, a tuple or a
            tensor with one element; or a list or a tensor with one index for each input.
        out_shape: shape of one output.
        rows: number of inputs.

    Raises:
        WrongTypeError: `target` is of another type.
        TransformError: it has the wrong shape, there is no such entry, or it denotes more than one.
    """
    numbers = torch.arange(torch.Size(out_shape).numel(), device="cpu").reshape(out_shape)
    if isinstance(target, np.ndarray | np.generic):
        target = torch.as_tensor(target)
    if isinstance(target, Tensor):
        if target.is_floating_point() or target.is_complex() or target.dtype == torch.bool:
            raise WrongTypeError(f"target: expected integers, found a tensor of {target.dtype}; pass target.long().")
        if target.numel() != 1 and target.dim() != 1:
            raise TransformError(
                f"target: expected a tensor of one number, or of one for each input, found shape "
                f"{tuple(target.shape)}; reshape it."
            )
        target = int(target) if target.numel() == 1 else target.tolist()
    if target is None or isinstance(target, int | tuple):
        return torch.full((rows,), _entry(numbers, () if target is None else target))
    if not isinstance(target, list):
        raise WrongTypeError(
            f"target: expected None, a number, a tuple, a list or a tensor of them, found {type(target).__name__}; "
            "pass one of these."
        )
    if len(target) != rows:
        raise TransformError(
            f"target: expected one index for each of the {rows} inputs, found {len(target)}; pass one number for all "
            "inputs, or one for each."
        )
    return torch.tensor([_entry(numbers, index) for index in target], dtype=torch.int64)


def _entry(numbers: Tensor, index: object) -> int:
    try:
        places = index if isinstance(index, tuple) else (index,)
        wrong = [place for place in places if isinstance(place, bool) or not hasattr(place, "__index__")]
        if wrong:
            raise TypeError(f"{wrong[0]!r} is of type {type(wrong[0]).__name__}")
        chosen = numbers[places]
    except (IndexError, TypeError) as error:
        raise (WrongTypeError if isinstance(error, TypeError) else TransformError)(
            f"target: expected the index of an entry of an output of shape {tuple(numbers.shape)}, found {index!r}: "
            f"{error}; pass one index for each dimension."
        ) from error
    if chosen.numel() != 1:
        given = f"target {index!r}" if index != () else "no target"
        raise TransformError(
            f"target: expected the index of one entry of an output of shape {tuple(numbers.shape)}, found {given}, "
            f"which denotes {chosen.numel()} entries; pass one index for each dimension."
        )
    return int(chosen)


TOLERANCE = 1e-9
TERMS = 1e-3  # the share of an output's terms that counts as its size where they cancel
ENTRIES_AT_ONCE = 1 << 22  # gathered weights in one block: 32 MB

Explained = nn.Module | ExportedProgram | Callable[..., Tensor]


@overload
def integrated_gradients(
    f: Explained,
    inputs: Given,
    baselines: Baselines = None,
    target: Target = None,
    *,
    return_convergence_delta: Literal[False] = False,
    tolerance: float = TOLERANCE,
) -> Given: ...


@overload
def integrated_gradients(
    f: Explained,
    inputs: Given,
    baselines: Baselines = None,
    target: Target = None,
    *,
    return_convergence_delta: Literal[True],
    tolerance: float = TOLERANCE,
) -> tuple[Given, Tensor]: ...


@outside_modes
def integrated_gradients(
    f: Explained,
    inputs: Inputs,
    baselines: Baselines = None,
    target: Target = None,
    *,
    return_convergence_delta: bool = False,
    tolerance: float = TOLERANCE,
) -> Inputs | tuple[Inputs, Tensor]:
    """Compute integrated gradients exactly (Sundararajan, Taly and Yan, ICML 2017, arXiv 1703.01365).

    On the straight line from a baseline to an input, the gradient of a piecewise-linear network is constant on each
    piece, so its integral is a sum: each line is cut where it crosses from one region to another, and no number of
    steps has to be chosen. The attributions of an input sum to the difference of the outputs at input and baseline.

    Arguments and results are those of `captum.attr.IntegratedGradients(f).attribute`, which converges to the same
    values as `n_steps` grows. The computation is in float64 whatever the dtype of the network; results have no gradient
    of their own. Where a line runs along a boundary, the gradient of an adjacent region is used: for a deep network the
    region in which ReLUs at 0 are inactive, as in autograd (a maximum, a clamp and an absolute value count as the ReLUs
    that compose them), for a shallow network any of them.

    Args:
        f: an `nn.Module` or an exported program of any size, a `ShallowReLU`, or `shallow.trunk` of one with a head.
        inputs: a batch of inputs of shape `(rows, *in_shape)`, floating point, or a tuple of one such tensor.
        baselines: starting points of the lines: 0 if None, a number, a tensor of the shape of the inputs or of one
            input, or a tuple of one of these.
        target: entry of the output that is explained: a number; a tuple, if the output has several dimensions; a list
            or a tensor with one index for each input; None if the output is a single number.
        return_convergence_delta: whether to return also by how much the attributions of each input miss completeness.
        tolerance: largest such error that is accepted, relative to outputs and attributions.

    Returns:
        The attributions, with the shape, dtype and device of the inputs, in a tuple if the inputs are in one. With
        `return_convergence_delta`, a pair of these and the sum of attributions minus the difference of outputs, of
        shape `(rows,)`.

    Raises:
        WrongTypeError: an argument is of another type.
        TransformError: an argument has the wrong shape or value, `f` is not known on the whole of a line, or the
            attributions miss completeness by more than the tolerance. A network that jumps between its regions, as a
            trained `ShallowReLU` may, necessarily misses it: its attributions are returned with
            `return_convergence_delta=True`, where the delta is minus the sum of the jumps.

    Example:
        >>> import torch
        >>> from torch_shallow.explain import integrated_gradients
        >>> model = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3)).double()
        >>> x = torch.randn(5, 2, dtype=torch.float64)
        >>> attributions, delta = integrated_gradients(model, x, target=1, return_convergence_delta=True)
        >>> attributions.shape, bool(delta.abs().max() < 1e-12)
        (torch.Size([5, 2]), True)
    """
    given = one_tensor(inputs)
    shown = given if isinstance(given, Tensor) and given.is_floating_point() else None
    function = read_function(f, shown, x_name="inputs")
    x = read_inputs(inputs, function.in_shape)
    end = input_rows(function, "inputs", x)
    start = input_rows(function, "baselines", read_baselines(baselines, x))
    entries = read_target(target, function.out_shape, len(x)).to(function.device)
    attributions = (end - start) * _average_gradients(function, start, end, entries, rounding_of(x))
    y = outputs_at(function, torch.cat([start, end])).gather(1, entries.repeat(2)[:, None])[:, 0]
    y_start, y_end = y.tensor_split(2)
    delta = attributions.sum(1) - (y_end - y_start)
    may_jump = isinstance(function, TreeFunction) and function.may_be_discontinuous
    size = y_start.abs() + y_end.abs() + attributions.abs().sum(1)
    wrong = (~(delta.abs() <= tolerance * size)).nonzero()[:, 0]
    if len(wrong) and not (may_jump and return_convergence_delta):
        on_the_way = [_size_on_the_way(function, start[[row]], end[[row]], entries[row]) for row in wrong.tolist()]
        _check_complete(function, delta, size.index_add(0, wrong, torch.stack(on_the_way)), may_jump, tolerance)
    result = attributions.reshape(x.shape).to(x.device, x.dtype)
    returned: Inputs = (result,) if isinstance(inputs, tuple) else result
    return (returned, delta.to(x.device, x.dtype)) if return_convergence_delta else returned


def _average_gradients(
    function: Function,
    start: Float[Tensor, "segments inputs"],
    end: Float[Tensor, "segments inputs"],
    entries: Int64[Tensor, "segments"],
    rounding: float,
) -> Float[Tensor, "segments inputs"]:
    """Gradients of one entry of the output for each segment, averaged along the segment."""
    if not isinstance(function, TreeFunction):
        outputs = torch.nn.functional.one_hot(entries, function.num_outputs).double()
        return deep_average_gradients(function, start, end, outputs)
    grid, regions = tree_breakpoints(function, start, end, rounding=rounding)
    begins = grid.starts_piece
    segments, lengths = grid.segment[begins], grid.lengths[begins]
    return _of_regions(function, regions, segments, lengths, entries)


@torch.no_grad()
def _of_regions(
    shallow: TreeFunction,
    regions: Int64[Tensor, "pieces"],
    segments: Int64[Tensor, "pieces"],
    lengths: Float[Tensor, "pieces"],
    entries: Int64[Tensor, "segments"],
) -> Float[Tensor, "segments inputs"]:
    """Sums of regions' weights times lengths, for each segment."""
    selection, half_spaces = shallow.selection, shallow.half_spaces
    total = lengths.new_zeros(len(entries), half_spaces.normals.shape[1])
    entry = entries[segments]
    outputs = torch.Size(shallow.out_shape).numel()
    size = max(1, ENTRIES_AT_ONCE // max(1, total.shape[1] * (1 if isinstance(selection, Selection) else outputs)))
    for block in torch.arange(len(regions), device=regions.device).split(size):
        if isinstance(selection, Selection):
            weight = selection.weights[regions[block], entry[block]]
        else:
            weight = selection.maps(regions[block])[0][torch.arange(len(block), device=block.device), entry[block]]
        total.index_add_(0, segments[block], weight * lengths[block, None])
    if half_spaces.projection is not None:
        total = total @ half_spaces.projection
    return total if selection.skip is None else total + selection.skip[entries]


def _size_on_the_way(
    function: Function, start: Float[Tensor, "1 inputs"], end: Float[Tensor, "1 inputs"], entry: Int64[Tensor, ""]
) -> Float[Tensor, ""]:
    """Total variation of an output entry along a segment, plus a share of the terms that it is summed from."""
    x = pieces(function, start, end)[0].points(start, end)
    y = outputs_at(function, x)[:, entry]
    if isinstance(function, TreeFunction):
        weight, bias = function.affine_maps(function.locate(x.reshape(-1, *function.in_shape)))
        terms = (weight[:, entry].abs() * x.abs()).sum(1) + bias[:, entry].abs()
    else:
        terms = torch.cat([function.rounded(x[block]).terms[:, entry] for block in function.blocks(len(x))])
    return (y.diff().abs().sum() + TERMS * terms.max()).detach()


def _check_complete(function: Function, delta: Tensor, size: Tensor, may_jump: bool, tolerance: float) -> None:
    """Make sure that attributions are complete.

    Raises:
        TransformError: some are not.
    """
    wrong = ~(delta.abs() <= tolerance * size)
    if not wrong.any():
        return
    row = int(wrong.nonzero()[0])
    if may_jump:
        reason = (
            "it jumps between regions, because its weights may have been trained; pass "
            "return_convergence_delta=True for attributions that miss these jumps"
        )
    elif isinstance(function, TreeFunction):
        reason = (
            "rounding inside the network is that large, or some of its regions are too thin for transform() to find; "
            "pass the deep network itself, or accept the attributions by a larger tolerance"
        )
    else:
        reason = "rounding inside the network is that large; accept the attributions by a larger tolerance"
    raise TransformError(
        f"f: expected attributions that sum to the difference of the outputs up to {tolerance:g} of their size, "
        f"found {int(wrong.sum())} of {len(wrong)} that do not, first in row {row}: {float(delta[row]):.3g} of "
        f"{float(size[row]):.6g}; {reason}."
    )
