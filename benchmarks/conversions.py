"""Conversions of a model for affinitree and relucent: each of their ways from an `nn.Module` to a function."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any, TypeAlias

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.export import ExportedProgram

from benchmarks.subjects import Argmax

Function: TypeAlias = Callable[[Float[Tensor, "rows ..."]], Float[np.ndarray, "rows outputs"]]


@dataclass(frozen=True)
class Way:
    """One way from a model to a function.

    Attributes:
        convert: Performs the conversion.
        remark: Difference from the first way; an empty text for the first way.
        tolerance: Largest difference, relative to 1 + |y|, that is attributed to rounding.
    """

    convert: Callable[[], Function]
    remark: str = ""
    tolerance: float = 1e-9


def forms(given: object) -> Iterator[tuple[str, Any]]:
    """Yield what is given, and forms derived from it mechanically, without rewriting the function.

    Args:
        given: A model, an exported program or the path of a file.

    Yields:
        Remark and form: what is given; the module of an exported program; an `nn.Sequential` without others in it.
    """
    yield "", given
    if isinstance(given, ExportedProgram):
        yield ", its module()", given.module()
    if isinstance(given, nn.Sequential) and any(isinstance(part, nn.Sequential) for part in given):
        yield ", flattened", nn.Sequential(*layers(given))


def layers(model: nn.Sequential) -> list[nn.Module]:
    """Return the layers of an `nn.Sequential`, and of those nested in it."""
    parts = [layers(part) if isinstance(part, nn.Sequential) else [part] for part in model]
    return list(itertools.chain.from_iterable(parts))


def by_rows(evaluate: Callable[[Float[np.ndarray, "inputs"]], Any]) -> Function:
    """Turn a function of single flat inputs into one of batches."""
    return lambda x: np.stack([np.asarray(evaluate(row)).reshape(-1) for row in x.flatten(1).double().numpy()])


def affinitree_ways(given: object, size: int, box: Float[np.ndarray, "inputs 2"] | None) -> Iterator[Way]:
    """Yield affinitree's converter of modules, then its trees for layers and neurons, composed as its README shows.

    Its other converter, by a file, takes `nn.Linear` and `nn.ReLU` only.

    Args:
        given: What affinitree is to convert.
        size: Number of inputs.
        box: Precondition; None for all of R^n.

    Yields:
        The ways.
    """
    library = import_module("affinitree")

    def start() -> Any:
        if box is None:
            return library.AffTree.identity(size)
        polytope = library.Polytope.hyperrectangle(size, [tuple(side) for side in box.tolist()])
        return library.AffTree.from_poly(polytope, library.AffFunc.identity(size), None)

    def convert(form: Any) -> Function:
        architecture = library.extract_pytorch_architecture(size, form)
        return by_rows(library.builder.from_layers(architecture, None if box is None else start()).evaluate)

    for remark, form in forms(given):
        yield Way(partial(convert, form), remark)
    if isinstance(given, nn.Sequential):
        yield Way(lambda: by_rows(_composed(layers(given), start()).evaluate), ", by its schemas")


def _composed(parts: list[nn.Module], tree: Any) -> Any:
    """Compose the tree of these layers with the tree of what comes before.

    Args:
        parts: The layers.
        tree: Tree of what comes before them; it is changed.

    Raises:
        ValueError: affinitree has no tree for some layer.
    """
    library = import_module("affinitree")
    size = 0
    for part in parts:
        if isinstance(part, nn.Linear):
            size = part.out_features
            bias = np.zeros(size) if part.bias is None else part.bias.detach().numpy()
            tree.apply_func(library.AffFunc.from_mats(part.weight.detach().numpy(), bias))
        elif not isinstance(part, (nn.Dropout, nn.Identity)):
            for neuron in _schemas(part, size, library.schema):
                tree.compose(neuron)
    return tree


def _schemas(part: nn.Module, size: int, schema: Any) -> list[Any]:
    if isinstance(part, nn.ReLU):
        return [schema.partial_ReLU(size, row) for row in range(size)]
    if isinstance(part, nn.LeakyReLU):
        return [schema.partial_leaky_ReLU(size, row, part.negative_slope) for row in range(size)]
    if isinstance(part, nn.PReLU):
        slopes = part.weight.detach().expand(size).tolist()
        return [schema.partial_leaky_ReLU(size, row, slope) for row, slope in enumerate(slopes)]
    if isinstance(part, nn.Hardtanh):  # nn.ReLU6 is a subclass
        return [schema.partial_hard_tanh(size, row, part.min_val, part.max_val) for row in range(size)]
    if isinstance(part, nn.Hardsigmoid):
        return [schema.partial_hard_sigmoid(size, row) for row in range(size)]
    if isinstance(part, Argmax):
        return [schema.argmax(size)]
    raise ValueError(f"affinitree has no schema for {type(part).__name__}.")


def affinitree_omissions(model: nn.Module) -> str:
    """Return what its converter leaves out of a model: layers, whose names the warning lacks, and `forward`."""
    read = (nn.Linear, nn.ReLU, nn.LeakyReLU, nn.Hardsigmoid, nn.Hardtanh, nn.Dropout, nn.Identity, nn.Flatten)
    leaves = [part for part in model.modules() if not list(part.children()) and not isinstance(part, read)]
    kinds = dict.fromkeys(type(leaf).__name__ for leaf in leaves if leaf is not model)
    names = ", ".join(kind for kind in kinds if not kind.startswith("_"))  # parametrisations are read
    return f"leaves out {names}" if names else "" if isinstance(model, nn.Sequential) else "does not read `forward`"


def relucent_ways(given: object, in_shape: tuple[int, ...]) -> Iterator[Way]:
    """Yield relucent's converter, then the affine map of the cell around each point; in float64, then in float32.

    Args:
        given: What relucent is to convert.
        in_shape: Shape of one input.

    Yields:
        The ways.
    """
    library, converter = import_module("relucent"), import_module("relucent.model")

    def convert(form: Any, dtype: torch.dtype) -> Function:
        form = form.to(dtype) if isinstance(form, nn.Module) else form
        cells = library.Complex(converter.convert(form, input_shape=in_shape))

        def evaluate(row: Float[np.ndarray, "inputs"]) -> Float[np.ndarray, "1 outputs"]:
            cell = cells.point2poly(row[None])
            return row[None] @ np.asarray(cell.W) + np.asarray(cell.b)

        return by_rows(evaluate)

    for remark, form in forms(given):
        yield Way(partial(convert, form, torch.float64), remark)
    for remark, form in forms(given):
        yield Way(partial(convert, form, torch.float32), f"{remark}, in float32", 1e-4)
