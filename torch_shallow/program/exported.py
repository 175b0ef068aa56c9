"""Programs of `torch.export` as modules, and models that only `torch.export` can trace."""

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
    'torch.export.export(model, (x,), dynamic_shapes=({0: torch.export.Dim("batch")},)) with an x of two rows or more'
)


def module_of(program: ExportedProgram) -> GraphModule:
    """The function of a program as a module, without the guards on its inputs.

    Args:
        program: exported with a dynamic batch dimension, or with a graph that happens not to depend on it.

    Raises:
        TransformError: its graph holds for one batch size only.
    """
    module = plain_module(_without_vmap(program).module())
    example = shown_value(module)
    if isinstance(example, Tensor) and example.ndim > 0 and isinstance(example.shape[0], int):
        _check_any_batch(module, example)
    return module


def plain_module(module: GraphModule) -> GraphModule:
    """A module of a program, its arguments one by one in place of a tree of them, and without checks of inputs."""
    plain = _Plain(module).transform()
    graph = plain.graph
    for new, old in zip(graph.find_nodes(op="placeholder"), module.graph.find_nodes(op="placeholder"), strict=True):
        new.meta.update(old.meta)
    output, codegen = graph.find_nodes(op="output")[0], cast(Any, module.graph._codegen)
    if codegen.pytree_info.out_spec.is_leaf():
        output.args = (output.all_input_nodes[0],)
    graph.eliminate_dead_code()
    graph.set_codegen(CodeGen())
    plain.meta = {}  # says how the arguments were nested, which no longer holds
    return GraphModule(plain, graph)


def shown_value(module: nn.Module) -> Any:
    """What is known of the first input of a graph module that `torch.export` or `from_onnx` made, if anything."""
    found = module.graph.find_nodes(op="placeholder") if isinstance(module, GraphModule) else []
    return found[0].meta.get("val") if found else None


def shown_shape(module: nn.Module) -> tuple[int, ...] | None:
    """Shape of one input, without the batch, of a graph module that knows it; None for other modules."""
    value = shown_value(module)
    shape = tuple(value.shape[1:]) if isinstance(value, Tensor) else ()
    return shape if shape and all(isinstance(size, int) for size in shape) else None


def export_model(model: nn.Module, in_shape: tuple[int, ...], reason: TransformError) -> GraphModule:
    """A model that torch.fx cannot trace, as `torch.export` sees it.

    Args:
        model: a copy of the user's model, in its own precision.
        in_shape: shape of one input.
        reason: why torch.fx cannot trace it.

    Raises:
        TransformError: `torch.export` cannot trace it either.
    """
    tensor = next((t for t in (*model.parameters(), *model.buffers()) if t.is_floating_point()), torch.empty(0))
    x = torch.zeros(2, *in_shape, dtype=tensor.dtype, device=tensor.device)
    try:
        # torch.export prints the graph where it stops.
        with torch.no_grad(), redirect_stderr(StringIO()), torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = export(model, (x,), dynamic_shapes=({0: Dim("batch")},), strict=False)
    except Exception as error:
        why = f"{_short(error)}.{_smaller(model)}"
        if "Constraints violated (batch)" in why:
            why = (
                "what it computes depends on how many rows the batch has. If it goes through the batch row by row, let "
                "the layers take the whole batch at once, as nn.Linear does."
            )
        raise TransformError(f"{str(reason).rstrip('.')}. torch.export cannot either: {why}") from reason.__cause__
    _log.warning("torch.fx cannot trace the model, torch.export was taken instead. %s", _short(reason))
    return plain_module(_without_vmap(program).module())


def _without_vmap(program: ExportedProgram) -> ExportedProgram:
    """A program whose operations act on the whole batch, where those of `torch.vmap` act on a row."""
    targets = (node.target for node in program.graph.nodes)
    found = any((getattr(target, "__module__", None) or "").startswith("torch._functorch") for target in targets)
    if not found:
        return program
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own
        return program.run_decompositions({})


def _smaller(model: nn.Module) -> str:
    """What else to pass."""
    names = [name for name, module in model.named_children() if any(True for _ in module.parameters())]
    if not names:
        return ""
    return (
        " Pass a part that is a function of tensors alone: an nn.Module whose forward() calls some of "
        f"{', '.join(names[:8])}{', ...' * (len(names) > 8)}, without drawing random numbers or making choices."
    )


class _Plain(Transformer):
    """Copies a graph but for its checks; what was traced with gradients off is put in its place."""

    def run_node(self, n: Node) -> Any:
        """The copy of a node; None if it is a check, of which there is no result."""
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
    """Run a module that was exported for a batch like this example on another of one row more."""
    device = next((tensor.device for tensor in (*module.parameters(), *module.buffers())), torch.device("cpu"))
    rows = len(example) + 1
    x = torch.zeros(rows, *example.shape[1:], dtype=example.dtype, device=device)
    reason = "its result has another number of rows"
    try:
        with torch.no_grad():
            y = module.forward(x)
    except Exception as error:
        y, reason = None, _short(error)
    if y is None or (isinstance(y, Tensor) and (y.ndim == 0 or len(y) != rows)):
        raise TransformError(
            f"model: it was exported for a batch of {len(example)} and cannot run on another ({reason}). Export "
            f"it with a dynamic batch dimension: {_HOW_TO_EXPORT}."
        )


def _short(error: BaseException) -> str:
    """The first sentence or line of an error."""
    text = next(iter(str(error).strip().splitlines()), "")
    text = text.split(". ")[0]
    return f"{type(error).__name__}: {text[:200]}" if not isinstance(error, TransformError) else text
