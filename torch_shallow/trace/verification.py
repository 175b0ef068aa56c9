"""A program held against the forward pass of the model that it was read from."""

from __future__ import annotations

import logging

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from torch_shallow.errors import TransformError
from torch_shallow.trace.precision import InFloat64
from torch_shallow.trace.program import ReLUProgram

_log = logging.getLogger(__name__)
_SCALES = (1e-2, 1.0, 1e2)


def verify(program: ReLUProgram, model: nn.Module, tolerance: float = 1e-9) -> None:
    """Compare program and model at random points, in a batch and one at a time.

    Args:
        program: the program.
        model: a copy of the model, in float64 and without hooks.
        tolerance: largest difference allowed, relative to the size of the output over the points of one scale, plus
            a thousandth of it relative to the size of the terms that the output is a sum of. Rows may differ by a
            hundred times as much between a batch and alone, for rounding.

    Raises:
        TransformError: they differ, or the model's rows depend on each other; says by how much and where.
    """
    rng = np.random.default_rng(0)
    x = np.concatenate([scale * rng.standard_normal((4, program.num_inputs)) for scale in _SCALES])
    expected = _forward(program, model, x)
    found = program(x)
    size = np.abs(expected).reshape(len(_SCALES), -1, program.num_outputs).max(axis=1).repeat(4, axis=0)
    allowed = tolerance * size + 1e-3 * tolerance * _terms(program, x)

    picked = list(range(0, len(x), 4))
    alone = np.concatenate([_forward(program, model, x[i : i + 1]) for i in picked])
    _compare(
        x[picked],
        alone,
        expected[picked],
        100 * tolerance * size[picked],
        "its output for one input alone differs from its output for the same input in a batch; a model must treat "
        "each row of a batch by itself and draw no random numbers (is it in train mode? call model.eval())",
    )
    _compare(
        x,
        found,
        expected,
        allowed,
        "the program read from it differs from its forward pass, which does something that torch.fx does not see "
        "(random numbers, global state, a choice made by Python)",
    )


def verify_in_own_precision(program: ReLUProgram, model: nn.Module, example_input: Tensor | None = None) -> None:
    """Compare program and model at random points, the model in the precision that it has.

    This is a coarse check, of everything that may differ between precisions: a cast that makes a copy in one of them
    only, a choice that the code makes by dtype.

    Args:
        program: the program, verified in float64.
        model: a copy of the model without hooks.
        example_input: tells the dtype of inputs; else the first parameter does.

    Raises:
        TransformError: they differ by more than rounding explains.
    """
    default = torch.empty(0) if example_input is None else example_input
    dtype = next((p.dtype for p in model.parameters() if example_input is None), default.dtype)
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((4, *program.in_shape))).to(dtype)
    points = x.double().numpy().reshape(len(x), -1)
    try:
        device = next((p.device for p in model.parameters()), x.device)
        with torch.no_grad():
            y = model(x.to(device, copy=True)).double().cpu().numpy().reshape(len(x), -1)
    except Exception as error:
        _log.info("model not checked in %s, in which it cannot run here: %s", dtype, error)
        return
    found = program(points)
    y = np.where(np.isfinite(y), y, found)  # float16 overflows
    rounding = max(torch.finfo(dtype).eps, torch.finfo(torch.float32).eps)
    _compare(
        points,
        found,
        y,
        10.0 * rounding**0.5 * _terms(program, points),
        f"the program read from it differs from its forward pass in {dtype}; its code does something else in float64",
    )


def _terms(program: ReLUProgram, x: Float[np.ndarray, "points inputs"]) -> Float[np.ndarray, "points outputs"]:
    """Size of the terms that each output is a sum of."""
    sources = np.concatenate([x, np.maximum(program.preactivations(x), 0.0)], axis=1)
    terms: np.ndarray = np.abs(sources) @ np.abs(program.out_weight).T + np.abs(program.out_bias)
    return terms


def _forward(
    program: ReLUProgram, model: nn.Module, x: Float[np.ndarray, "points inputs"]
) -> Float[np.ndarray, "points outputs"]:
    device = next((tensor.device for tensor in model.parameters()), torch.device("cpu"))
    batch = torch.from_numpy(x.copy()).reshape(-1, *program.in_shape).to(device)
    try:
        with InFloat64(), torch.no_grad():
            y = model(batch)
    except Exception as error:
        raise TransformError(
            f"model: it fails on a batch of {len(x)} inputs of shape {program.in_shape}: {error}. It must take "
            "batches of any size."
        ) from error
    if not isinstance(y, Tensor) or y.numel() != len(x) * program.num_outputs:
        found = f"shape {tuple(y.shape)}" if isinstance(y, Tensor) else type(y).__name__
        raise TransformError(
            f"model: expected an output of shape {(len(x), *program.out_shape)} for {len(x)} inputs, found {found}."
        )
    return y.reshape(len(x), program.num_outputs).cpu().numpy()


def _compare(x: np.ndarray, found: np.ndarray, expected: np.ndarray, allowed: np.ndarray, what: str) -> None:
    difference = np.abs(found - expected)
    wrong = ~(difference <= allowed)
    if not wrong.any():
        return
    row, output = np.unravel_index(np.argmax(np.where(wrong, difference, -1.0)), wrong.shape)
    at = np.array2string(x[row], precision=6, threshold=8, edgeitems=3)
    raise TransformError(
        f"model: {what}. Largest difference: output {output} is {found[row, output]:.9g} instead of "
        f"{expected[row, output]:.9g} at the flattened input {at}."
    )
