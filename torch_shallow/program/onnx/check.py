"""A module that was read from an ONNX file, compared with the file."""

from __future__ import annotations

import logging
from importlib import import_module
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.fx import GraphModule, Interpreter, Node

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
        TransformError: it cannot run on one, or not on them together, or gives other values.
    """
    first = examples(module, 1)
    if first is None:
        return
    with torch.no_grad():
        runner = _Named(module)
        runner.extra_traceback = False
        runner.run(*first)
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
            together, apart, reason = None, None, _short(error)
    if together is None or together.shape != apart.shape or together.ndim == 0 or not _close(together, apart, 1e-3):
        raise TransformError(
            f"model: it was exported for a batch of {half} and cannot run on another ({reason}). Export it with a "
            f"dynamic batch dimension: {_HOW_TO_EXPORT}."
        )


class _Named(Interpreter):
    """Runs a module, and says which operator of the file fails."""

    def run_node(self, n: Node) -> Any:
        """The value of a node.

        Raises:
            TransformError: it has none.
        """
        try:
            return super().run_node(n)
        except Exception as error:
            name, kind = next(iter(n.meta.get("nn_module_stack", {}).values()), (n.name, "the operator"))
            raise TransformError(
                f"model: {kind} (at {name}) fails on inputs of the shapes that the file says ({_short(error)}). "
                "Does it pass onnx.checker.check_model? If not, export it again; if so, please report this."
            ) from error


def _short(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200] if lines else ''}"


def check_values(model: Any, module: GraphModule, names: list[str], tolerance: float = 1e-3) -> None:
    """Compare a module with the implementations of ONNX at one batch of the size that the file says.

    The reference implementation is asked first, and `onnxruntime`, if it is installed, where they disagree.

    Args:
        model: the `onnx.ModelProto`.
        module: what was read of it.
        names: of its inputs.
        tolerance: relative to the largest output.

    Raises:
        TransformError: they differ by more than the tolerance.
    """
    found = examples(module, 1)
    if found is None:
        _log.info("ONNX model not compared with the reference: the shape of its input is not known")
        return
    given = {name: x.numpy() for name, x in zip(names, found, strict=True)}
    with torch.no_grad():
        result = module(*found)
    differs = False
    for implementation in (_reference, _runtime):
        try:
            expected = np.asarray(implementation(model, given))
        except Exception as error:
            _log.info("ONNX model not compared with %s, which fails: %s", implementation.__name__, error)
            continue
        if not _fits(model.graph.output[0].type.tensor_type, expected.shape):
            _log.info("ONNX model not compared with %s, whose output has another shape", implementation.__name__)
            continue
        if tuple(result.shape) == expected.shape and _close(result, torch.from_numpy(expected.copy()), tolerance):
            return
        differs = True
    if differs:
        raise TransformError(
            "model: the module read from the file differs from ONNX's own implementations; please report this. "
            "verify=False leaves the comparison out."
        )


def _reference(model: Any, given: dict[str, np.ndarray]) -> Any:
    from onnx.reference import ReferenceEvaluator

    return cast(list[Any], ReferenceEvaluator(model).run(None, given))[0]


def _runtime(model: Any, given: dict[str, np.ndarray]) -> Any:
    """What `onnxruntime` gives, if it is installed; the reference implementation is wrong about some operators."""
    return import_module("onnxruntime").InferenceSession(model.SerializeToString()).run(None, given)[0]


def _fits(kind: Any, shape: tuple[int, ...]) -> bool:
    """Whether a shape is the one that ONNX's own inference of shapes has found, as far as it has."""
    if not kind.HasField("shape"):
        return True
    known = [dimension.dim_value for dimension in kind.shape.dim]
    return len(known) == len(shape) and all(size in (0, found) for size, found in zip(known, shape, strict=True))


def _close(a: Tensor, b: Tensor, tolerance: float) -> bool:
    a, b = a.double(), b.double()
    largest = b[b.isfinite()].abs().max().item() if b.isfinite().any() else 0.0
    return torch.allclose(a, b, rtol=0.0, atol=tolerance * largest, equal_nan=True)
