"""Compare a program with the forward pass of the model from which it was read."""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from torch_shallow.domain import Box, Domain
from torch_shallow.errors import TransformError
from torch_shallow.program.precision import InFloat64
from torch_shallow.program.relu_program import ReLUProgram

_log = logging.getLogger(__name__)
MIXES_ROWS = (
    "its output for one input alone differs from its output for the same input in a batch; a model must treat each row "
    "of a batch separately and draw no random numbers (if it is in train mode, call model.eval())"
)
UNSEEN = (
    "what was read from it differs from its forward pass, which does something that torch.fx does not see (random "
    "numbers, global state, a choice made by Python)"
)
_SCALES = (1e-2, 1.0, 1e2)
NEARLY = 1e-12  # a neuron may be active if it is at most this far below 0, relative to its terms


def verify(
    program: ReLUProgram,
    model: nn.Module,
    domain: Domain | None = None,
    head: nn.Module | None = None,
    tolerance: float = 1e-9,
) -> bool:
    """Compare program and model at random points, in a batch and one at a time.

    Args:
        program: the program.
        model: a copy of the model, in float64 and without hooks.
        domain: the domain in which it is used; if that is a box, the points lie in it.
        head: what the model does after the program, in float64.
        tolerance: largest difference allowed, relative to the size of the output over the points of one scale, plus a
            thousandth of it relative to the size of the terms that are summed, in any layer. Between a batch and single
            rows, a hundred times as much is allowed for rounding.

    Returns:
        Whether the model computes in float64 by itself, so that it computes the same outside `InFloat64`.

    Raises:
        TransformError: the two differ, or the model's rows depend on each other; the message says by how much and
            where.
    """
    rng = np.random.default_rng(0)
    # Points of ordinary size, and points of ordinary size in the program's units.
    lengths = [scale * units for units in (np.ones(program.num_inputs), _units(program)) for scale in _SCALES]
    x = np.concatenate([_points(program, domain, rng, length) for length in lengths])
    precision = InFloat64()
    expected = _forward(model, program.in_shape, x, precision)
    if head is None:
        _check_finite(expected[len(x) // 2 :], x[len(x) // 2 :])
    found = _outputs(program, head, x)
    if found.shape != expected.shape:
        raise TransformError(
            f"model: expected {found.shape[1]} values in each of its outputs for {len(x)} inputs, found "
            f"{expected.shape[1]}; it must treat each row of a batch separately."
        )
    size = np.abs(expected).reshape(len(lengths), -1, expected.shape[1]).max(axis=1).repeat(4, axis=0)
    terms = _terms(program, x) if head is None else np.zeros(())
    rounding = 1e-3 * tolerance * terms
    allowed = tolerance * size + rounding
    ordinary = np.abs(expected[: len(expected) // 2])
    worst = 1e3 * tolerance * np.maximum(1.0 + ordinary.max(), size)

    picked = list(range(0, len(x), 4))
    needed = precision if precision.has_converted else nullcontext()
    alone = np.concatenate([_forward(model, program.in_shape, x[i : i + 1], needed) for i in picked])
    # The rounding of the program counts only if its values are the model's.
    between_rows = 100 * np.where(np.abs(found - expected) <= allowed, allowed, tolerance * size)
    _compare(x[picked], alone, expected[picked], between_rows[picked], MIXES_ROWS)
    _compare(x, found, expected, allowed, UNSEEN)
    _compare(
        x,
        found,
        expected,
        worst,
        f"constants as large as {terms.max():.1g} cancel in it, which leaves too few digits of float64 for the rest; "
        "use smaller ones (such as a mask of -1e4 in place of -1e30)",
    )
    return not precision.has_converted


def verify_in_own_precision(
    program: ReLUProgram,
    model: nn.Module,
    example_input: Tensor | None = None,
    domain: Domain | None = None,
    head: nn.Module | None = None,
) -> None:
    """Compare program and model at random points, with the model in its own precision.

    This is a coarse check of everything that may differ between precisions: a cast that makes a copy in only one of
    them, or a choice that the code makes by dtype.

    Args:
        program: the program, verified in float64.
        model: a copy of the model without hooks.
        example_input: an example whose dtype is used for inputs; if None, that of the first parameter.
        domain: the domain in which the program is used; if that is a box, the points lie in it.
        head: what the model does after the program, in float64; then only floating-point outputs are compared.

    Raises:
        TransformError: the two differ by more than rounding explains.
    """
    drawn = _points(program, domain, np.random.default_rng(0), np.ones(program.num_inputs))
    x = torch.from_numpy(drawn.reshape(-1, *program.in_shape)).to(own_dtype(model, example_input))
    points = x.double().numpy().reshape(len(x), -1)
    size = None if head is not None else _terms(program, points)
    compare_in_own_precision(_outputs(program, head, points), model, x, size)


def own_dtype(model: nn.Module, example_input: Tensor | None = None) -> torch.dtype:
    """Return the dtype of a model's inputs: that of the example or, without one, of its first parameter."""
    default = torch.empty(0) if example_input is None else example_input
    return next((p.dtype for p in model.parameters() if example_input is None), default.dtype)


def compare_in_own_precision(
    found: Float[np.ndarray, "points values"],
    model: nn.Module,
    x: Float[Tensor, "points *in_shape"],
    size: Float[np.ndarray, "points values"] | None = None,
) -> None:
    """Compare outputs computed in float64 with those of the model in its own precision.

    Args:
        found: the outputs, flattened.
        model: a copy of the model without hooks.
        x: the inputs, in the model's dtype. If the model cannot run on them here, only a line is logged.
        size: size of the terms of each output, for rounding; if None, one more than the output.

    Raises:
        TransformError: the two differ by more than rounding explains.
    """
    try:
        device = next((p.device for p in model.parameters()), x.device)
        with torch.no_grad():
            output = model(x.to(device, copy=True))
            y = output.double().cpu().numpy().reshape(len(x), -1)
    except Exception as error:
        _log.info("model not checked in %s, in which it cannot run here: %s", x.dtype, error)
        return
    if not output.is_floating_point():
        return
    y = np.where(np.isfinite(y), y, found)  # float16 overflows
    rounding = max(torch.finfo(x.dtype).eps, torch.finfo(torch.float32).eps)
    _compare(
        x.double().cpu().numpy().reshape(len(x), -1),
        found,
        y,
        10.0 * rounding**0.5 * (1.0 + np.abs(found) if size is None else size),
        f"what was read from it differs from its forward pass in {x.dtype}; its code does something different in "
        "float64",
    )


def _units(program: ReLUProgram) -> Float[np.ndarray, "inputs"]:
    """Return the program's units, except those so far from 1 that numbers might overflow; 1 in a box."""
    return np.ones(program.num_inputs) if program.whole is not None else np.clip(program.units, 2.0**-100, 2.0**100)


def _points(
    program: ReLUProgram, domain: Domain | None, rng: np.random.Generator, lengths: Float[np.ndarray, "inputs"]
) -> Float[np.ndarray, "points inputs"]:
    """Draw four random points of this size; in a box, points of the box.

    They fill the middle of the box for small lengths, and reach its corners for large ones.
    """
    x = lengths * rng.standard_normal((4, program.num_inputs))
    if not isinstance(domain, Box):
        return x
    try:
        lower, upper = domain.bounds(program.in_shape)
    except TransformError:  # reported better where the domain is used, for example with the file of a query
        return x
    with np.errstate(invalid="ignore", over="ignore"):
        inside = lower + (upper - lower) * (1.0 + np.clip(x, -1.0, 1.0)) / 2
    return np.where(np.isfinite(inside), inside, np.clip(x, lower, upper))


def _terms(program: ReLUProgram, x: Float[np.ndarray, "points inputs"]) -> Float[np.ndarray, "points outputs"]:
    """Return the size of the terms to which rounding errors of each output are relative.

    These are the terms that sum up to the output, and those of the neurons that it reads, as far as their errors are
    passed on, since terms may cancel in any layer. Errors of several terms are taken to be independent.
    """
    sources, lost = x, np.zeros_like(x)
    for weight, bias in [(stage.weight, stage.bias) for stage in program.stages]:
        terms = _with_losses(weight, bias, sources, lost)
        z = sources[:, : weight.shape[1]] @ weight.T + bias
        active = z > -NEARLY * terms
        sources = np.concatenate([sources, np.maximum(z, 0.0)], axis=1)
        lost = np.concatenate([lost, np.where(active, terms, 0.0)], axis=1)
    return _with_losses(program.out_weight, program.out_bias, sources, lost)


def _with_losses(
    weight: Float[np.ndarray, "rows sources"],
    bias: Float[np.ndarray, "rows"],
    sources: Float[np.ndarray, "points more"],
    lost: Float[np.ndarray, "points more"],
) -> Float[np.ndarray, "points rows"]:
    used = np.flatnonzero(weight.any(axis=0))
    if 2 * len(used) < weight.shape[1]:  # as in a deep network, whose stages read only the one before
        weight, sources, lost = weight[:, used], sources[:, used], lost[:, used]
    own = np.abs(sources[:, : weight.shape[1]]) @ np.abs(weight).T + np.abs(bias)
    lost, tiny = lost[:, : weight.shape[1]], np.finfo(np.float64).tiny
    units = lost.max(initial=tiny), np.abs(weight).max(initial=tiny)  # without these, squares would overflow
    passed_on = np.sqrt((lost / units[0]) ** 2 @ ((weight / units[1]) ** 2).T)
    terms: np.ndarray = own + units[0] * units[1] * passed_on
    return terms


def _outputs(
    program: ReLUProgram, head: nn.Module | None, x: Float[np.ndarray, "points inputs"]
) -> Float[np.ndarray, "points values"]:
    """Compute the program, followed by the head."""
    y = program(x)
    return y if head is None else _forward(head, program.out_shape, y, InFloat64())


def _forward(
    module: nn.Module,
    in_shape: tuple[int, ...],
    x: Float[np.ndarray, "points inputs"],
    precision: AbstractContextManager[object],
) -> Float[np.ndarray, "points values"]:
    device = next((tensor.device for tensor in module.parameters()), torch.device("cpu"))
    batch = torch.from_numpy(x.copy()).reshape(-1, *in_shape).to(device)
    try:
        with precision, torch.no_grad():
            y = module(batch)
    except Exception as error:
        raise TransformError(
            f"model: it fails on a batch of {len(x)} inputs of shape {in_shape}: {error}. It must accept batches of "
            "any size."
        ) from error
    if isinstance(y, Tensor) and len(x) == 1 and y.shape[:1] != (1,):
        y = y[None]  # a squeeze() has removed the dimension of a batch of one
    if not isinstance(y, Tensor) or y.shape[:1] != (len(x),):
        found = f"shape {tuple(y.shape)}" if isinstance(y, Tensor) else type(y).__name__
        raise TransformError(
            f"model: expected one tensor as its output, with a row for each of {len(x)} inputs, found {found}."
        )
    if y.is_complex():
        raise TransformError(f"model: expected real outputs, found {y.dtype}; return their parts as real tensors.")
    return y.double().reshape(len(x), -1).cpu().numpy()


def _check_finite(y: Float[np.ndarray, "points values"], x: Float[np.ndarray, "points inputs"]) -> None:
    wrong = np.flatnonzero(~np.isfinite(y).all(axis=1))
    if len(wrong):
        raise TransformError(
            "model: expected finite outputs, found values that float64 cannot hold at the flattened input "
            f"{_shown(x[wrong[0]])}; scale down the weights of its layers."
        )


def _shown(x: Float[np.ndarray, "inputs"]) -> str:
    return np.array2string(x, precision=6, threshold=8, edgeitems=3)


def _compare(x: np.ndarray, found: np.ndarray, expected: np.ndarray, allowed: np.ndarray, what: str) -> None:
    with np.errstate(invalid="ignore"):
        difference = np.where(found == expected, 0.0, np.abs(found - expected))
    wrong = ~(difference <= allowed)
    if not wrong.any():
        return
    row, output = np.unravel_index(np.argmax(np.where(wrong, difference, -1.0)), wrong.shape)
    raise TransformError(
        f"model: {what}. Largest difference: output {output} is {found[row, output]:.9g} instead of "
        f"{expected[row, output]:.9g} at the flattened input {_shown(x[row])}."
    )
