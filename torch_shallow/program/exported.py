"""Convert programs of `torch.export` to modules, and models that only `torch.export` can trace."""

from __future__ import annotations

import logging
import warnings
from contextlib import redirect_stderr
from io import StringIO
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram, export
from torch.fx import GraphModule, Interpreter, Node, Transformer
from torch.fx.graph import CodeGen

from torch_shallow.errors import TransformError

_log = logging.getLogger(__name__)
_HOW_TO_EXPORT = (
    'torch.export.export(model, (x,), dynamic_shapes=({0: torch.export.Dim("batch")},)) with an x of at least 2 rows'
)


def module_of(program: ExportedProgram) -> GraphModule:
    """Return the function of a program as a module, without the guards on its inputs.

    Args:
        program: a program exported with a dynamic batch dimension, or with a graph that happens not to depend on it.

    Raises:
        TransformError: its graph is valid for one batch size only.
    """
    module = plain_module(_without_vmap(program).module())
    example = shown_value(module)
    if isinstance(example, Tensor) and example.ndim > 0 and isinstance(example.shape[0], int):
        _check_any_batch(module, example)
    return module


def plain_module(module: GraphModule) -> GraphModule:
    """Convert a module of a program to one with plain arguments instead of a tree, and without checks of inputs."""
    plain = _Plain(module).transform()
    graph = plain.graph
    for new, old in zip(graph.find_nodes(op="placeholder"), module.graph.find_nodes(op="placeholder"), strict=True):
        new.meta.update(old.meta)
    output, codegen = graph.find_nodes(op="output")[0], cast(Any, module.graph._codegen)
    if codegen.pytree_info.out_spec.is_leaf():
        output.args = (output.all_input_nodes[0],)
    graph.eliminate_dead_code()
    graph.set_codegen(CodeGen())
    plain.meta = {}  # it described how the arguments were nested
    return GraphModule(plain, graph)


def shown_value(module: nn.Module) -> Any:
    """Return what is known about the first input of a graph module made by `torch.export` or `from_onnx`."""
    found = module.graph.find_nodes(op="placeholder") if isinstance(module, GraphModule) else []
    return found[0].meta.get("val") if found else None


def shown_shape(module: nn.Module) -> tuple[int, ...] | None:
    """Return the shape of one input, without the batch, of a graph module that knows it; None for other modules."""
    value = shown_value(module)
    shape = tuple(value.shape[1:]) if isinstance(value, Tensor) else ()
    return shape if shape and all(isinstance(size, int) for size in shape) else None


def export_model(model: nn.Module, in_shape: tuple[int, ...], reason: TransformError) -> GraphModule:
    """Export a model that torch.fx cannot trace with `torch.export`.

    Args:
        model: a copy of the user's model, in its own precision.
        in_shape: shape of one input.
        reason: the reason why torch.fx cannot trace it.

    Raises:
        TransformError: `torch.export` cannot trace it either.
    """
    tensor = next((t for t in (*model.parameters(), *model.buffers()) if t.is_floating_point()), torch.empty(0))
    x = torch.zeros(2, *in_shape, dtype=tensor.dtype, device=tensor.device)
    try:
        # torch.export prints the graph when it fails.
        with torch.no_grad(), redirect_stderr(StringIO()), torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = export(model, (x,), dynamic_shapes=({0: Dim("batch")},), strict=False)
    except Exception as error:
        why = f"{_short(error)}.{_smaller(model)}"
        if "Constraints violated (batch)" in why:
            why = (
                "its computation depends on the number of rows of the batch. If it loops over the rows, let the layers "
                "take the whole batch at once, as nn.Linear does."
            )
        raise TransformError(f"{str(reason).rstrip('.')}. torch.export cannot either: {why}") from reason.__cause__
    _log.warning("torch.fx cannot trace the model; torch.export was used instead. %s", _short(reason))
    return plain_module(_without_vmap(program).module())


def _without_vmap(program: ExportedProgram) -> ExportedProgram:
    """Return a program whose operations act on the whole batch; those of `torch.vmap` act on a row."""
    targets = (node.target for node in program.graph.nodes)
    found = any((getattr(target, "__module__", None) or "").startswith("torch._functorch") for target in targets)
    if not found:
        return program
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # warnings of torch itself
        return program.run_decompositions({})


def _smaller(model: nn.Module) -> str:
    """Suggest what to pass instead."""
    names = [name for name, module in model.named_children() if any(True for _ in module.parameters())]
    if not names:
        return ""
    return (
        " Pass a part that depends only on tensors: an nn.Module whose forward() calls some of "
        f"{', '.join(names[:8])}{', ...' * (len(names) > 8)}, without drawing random numbers or making choices."
    )


class _Plain(Transformer):
    """Copy a graph without its checks, and inline what was traced with gradients off."""

    def run_node(self, n: Node) -> Any:
        """Return the copy of a node; None for a check, which has no result."""
        if n.op == "call_module" and n.target == "_guards_fn":
            return None
        name = getattr(n.target, "__name__", "")
        if n.op == "call_function" and (name.startswith(("_assert_", "sym_constrain_range")) or name in _CHECKS):
            return None
        if n.op == "call_function" and name == "wrap_with_set_grad_enabled":
            region = self.fetch_attr(str(n.all_input_nodes[0].target))
            arguments, _ = self.fetch_args_kwargs_from_env(n)
            return Interpreter(region).run(*arguments[2:])
        return super().run_node(n)


_CHECKS = frozenset({"_assert", "sym_check"})


def _check_any_batch(module: GraphModule, example: Tensor) -> None:
    """Run a module exported for a batch like this example on a batch with one more row."""
    device = next((tensor.device for tensor in (*module.parameters(), *module.buffers())), torch.device("cpu"))
    rows = len(example) + 1
    x = torch.zeros(rows, *example.shape[1:], dtype=example.dtype, device=device)
    reason = "its result has a wrong number of rows"
    try:
        with torch.no_grad():
            y = module.forward(x)
    except Exception as error:
        y, reason = None, _short(error)
    if y is None or (isinstance(y, Tensor) and (y.ndim == 0 or len(y) != rows)):
        raise TransformError(
            f"model: expected a program for any batch size, found one that was exported for a batch of {len(example)} "
            f"and cannot run on another ({reason}). Export it with a dynamic batch dimension: {_HOW_TO_EXPORT}."
        )


def _short(error: BaseException) -> str:
    """Return the first sentence or line of an error."""
    text = next(iter(str(error).strip().splitlines()), "")
    text = text.split(". ")[0]
    return f"{type(error).__name__}: {text[:200]}" if not isinstance(error, TransformError) else text
