"""A module that was read from an ONNX file, compared with the file."""

from __future__ import annotations

import logging
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.fx import GraphModule

from torch_shallow.errors import TransformError

_log = logging.getLogger(__name__)
_HOW_TO_EXPORT = "torch.onnx.export(model, (x,), path, dynamic_shapes=({0: 'batch'},))"


def examples(module: GraphModule, rows: int) -> list[Tensor] | None:
    """Values for the inputs of a module, the same each time; None if the shapes of the inputs are not known.

    Args:
        module: what is known of an input is in `meta["val"]` of its placeholder.
        rows: how many times the batch that the file is made for, one above another.
    """
    generator = torch.Generator().manual_seed(0)
    found = []
    for node in module.graph.find_nodes(op="placeholder"):
        shown = node.meta.get("val")
        if shown is None:
            return None
        size = (rows * shown.shape[0], *shown.shape[1:]) if shown.ndim > 1 else tuple(shown.shape)
        x = torch.randn(size, generator=generator) if shown.is_floating_point() else torch.zeros(size)
        found.append(x.to(shown.dtype))
    return found


def check_any_batch(module: GraphModule) -> None:
    """Run a module of one input on two batches of the size that the file is made for, apart and together.

    Raises:
        TransformError: it cannot run on them together, or gives other values.
    """
    found = examples(module, 2)
    if found is None or len(found) > 1 or found[0].ndim < 2:
        return
    together: Any
    apart: Any
    half, reason = len(found[0]) // 2, "it gives other values, or another number of rows"
    with torch.no_grad():
        try:
            together, apart = module(*found), torch.cat([module(found[0][:half]), module(found[0][half:])])
        except Exception as error:
            lines = str(error).strip().splitlines()
            together, apart, reason = None, None, f"{type(error).__name__}: {lines[0][:200] if lines else ''}"
    if together is None or together.shape != apart.shape or together.ndim == 0 or not _close(together, apart, 1e-3):
        raise TransformError(
            f"model: it was exported for a batch of {half} and cannot run on another ({reason}). Export it with a "
            f"dynamic batch dimension: {_HOW_TO_EXPORT}."
        )


def check_values(model: Any, module: GraphModule, names: list[str], tolerance: float = 1e-3) -> None:
    """Compare a module with the reference implementation at one batch of the size that the file says.

    Args:
        model: the `onnx.ModelProto`.
        module: what was read of it.
        names: of its inputs.
        tolerance: relative to the largest output.

    Raises:
        TransformError: they differ by more than the tolerance.
    """
    from onnx.reference import ReferenceEvaluator

    found = examples(module, 1)
    if found is None:
        _log.info("ONNX model not compared with the reference: the shape of its input is not known")
        return
    given = {name: x.numpy() for name, x in zip(names, found, strict=True)}
    try:
        expected = np.asarray(cast(list[Any], ReferenceEvaluator(model).run(None, given))[0])
    except Exception as error:
        _log.info("ONNX model not compared with the reference, which fails: %s", error)
        return
    shown = model.graph.output[0].type.tensor_type
    if shown.HasField("shape") and len(shown.shape.dim) != expected.ndim:
        _log.info("ONNX model not compared with the reference, which gives another shape than the file says")
        return
    with torch.no_grad():
        result = module(*found)
    if tuple(result.shape) != expected.shape or not _close(result, torch.from_numpy(np.array(expected)), tolerance):
        raise TransformError(
            "model: the module read from the file differs from ONNX's reference implementation; please report this. "
            "verify=False leaves the comparison out."
        )


def _close(a: Tensor, b: Tensor, tolerance: float) -> bool:
    a, b = a.double(), b.double()
    largest = b[b.isfinite()].abs().max().item() if b.isfinite().any() else 0.0
    return torch.allclose(a, b, rtol=0.0, atol=tolerance * largest, equal_nan=True)
