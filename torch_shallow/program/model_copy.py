"""Check whether a model can be read at all, and make a copy of it that may be taken apart."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.fx import GraphModule
from torch.nn.parameter import is_lazy

from torch_shallow.errors import TransformError, WrongTypeError
from torch_shallow.program.exported import module_of

_HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")


def check_model(model: object) -> nn.Module:
    """Return the model, or the module that it wraps, if it is an `nn.Module` with finite real weights.

    Args:
        model: the user's model: a module, possibly compiled or parallel, or a program of `torch.export`.

    Raises:
        WrongTypeError: the model has another type.
        TransformError: the model cannot be read, is a program for one batch size, or has weights that are lazy, on the
            meta device, complex, integer, infinite or NaN; all such weights are listed.
    """
    if isinstance(model, ExportedProgram):
        model = module_of(model)
    if not isinstance(model, nn.Module):
        raise WrongTypeError(
            f"model: expected an nn.Module, found {type(model).__name__}; {what_to_pass(model)} (a "
            "torch.export.ExportedProgram is accepted, too)."
        )
    model = unwrapped(model)
    for name, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            raise TransformError(
                f"model: {name or 'it'} is a TorchScript module, which torch.fx cannot trace; pass the nn.Module that "
                "was scripted."
            )
        if any(kind.__name__ == "FakeQuantizeBase" for kind in type(module).__mro__):
            raise TransformError(
                f"model: {name or 'it'} is a {type(module).__name__}, which rounds as quantised numbers do; pass the "
                "model as it was before prepare_qat (of torch.ao.quantization)."
            )
        if module.training and (norm := _power_iteration(module)):
            raise TransformError(
                f"model: the {norm} of {name or 'it'} is in train mode, where each forward pass changes the weights; "
                "call model.eval() first."
            )
    wrong = [f"{name} {what}" for name, tensor in model.named_parameters() if (what := _not_a_weight(tensor, True))]
    bounds = _possible_bounds(model)
    wrong += [
        f"{name} {what}"
        for name, tensor in model.named_buffers()
        if (what := _not_a_weight(tensor, False, may_be_infinite=id(tensor) in bounds))
    ]
    if wrong:
        raise TransformError(f"model: expected finite real weights, found that {'; '.join(wrong)}.")
    return model


def what_to_pass(model: object) -> str:
    """Suggest what to pass in place of something that is not a module."""
    if isinstance(getattr(model, "module_", None), nn.Module):  # a net of skorch
        return "pass net.module_, the fitted nn.Module"
    if type(model).__module__.startswith("sklearn."):
        return "pass its network: network, features = torch_shallow.from_sklearn(estimator)"
    return "put the function into the forward() of an nn.Module"


def unwrapped(module: nn.Module) -> nn.Module:
    """Return the module wrapped by `torch.compile`, `DataParallel` or the like; other modules themselves."""
    while (inner := _wrapped(module)) is not None:
        module = inner
    return module


def _wrapped(module: nn.Module) -> nn.Module | None:
    if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
        return module._modules["module"]
    return dict(module.named_children()).get("_orig_mod")


def _power_iteration(module: nn.Module) -> str:
    """Return the name of the spectral normalisation that the module is or has as a hook; empty if there is none."""
    names = (type(part).__name__ for part in (module, *module._forward_pre_hooks.values()))
    return next((name.lstrip("_") for name in names if name in {"SpectralNorm", "_SpectralNorm"}), "")


def _possible_bounds(model: nn.Module) -> set[int]:
    """Return the buffers of the user's own code, which may hold infinite bounds; other uses are refused later."""
    own = (m for m in model.modules() if isinstance(m, GraphModule) or not type(m).__module__.startswith("torch."))
    return {id(buffer) for module in own for buffer in module._buffers.values()}


def _not_a_weight(tensor: Tensor, parameter: bool, may_be_infinite: bool = False) -> str:
    if is_lazy(tensor):
        return "is not initialised (lazy module): first call the model once on an example input"
    if tensor.is_meta:
        return "is on the meta device and has no values: load the weights first"
    if tensor.is_complex():
        return f"is complex ({tensor.dtype}): only real models are piecewise linear"
    if not tensor.is_floating_point():
        return f"is an integer parameter ({tensor.dtype}): convert the model with model.float()" if parameter else ""
    if is_finite(tensor):
        return ""
    kinds = [kind for kind, any_ in (("NaN", tensor.isnan().any()), ("inf", tensor.isinf().any())) if any_]
    return "" if may_be_infinite and kinds == ["inf"] else f"contains {' and '.join(kinds)}"


def is_finite(tensor: Tensor) -> bool:
    """Tell whether all entries are finite.

    A sum is finite unless an entry is not (or it overflows), so the usual case takes one pass without temporaries.
    """
    return bool(tensor.sum().isfinite()) or bool(tensor.isfinite().all())


def is_torch_made(hook: object) -> bool:
    """Tell whether a hook is one of `torch.nn.utils`, which computes a weight before each forward pass."""
    return type(hook).__module__.startswith("torch.nn.utils")


def copy_model(model: nn.Module, precision: AbstractContextManager[object]) -> nn.Module:
    """Deep-copy a model without gradients and hooks; the model itself is not touched, and none of its hooks runs.

    Hooks of `torch.nn.utils` (weight and spectral norm, pruning), which compute a weight before each forward pass, are
    applied once to the copy.

    Args:
        model: a model that passed `check_model`.
        precision: context in which tensors are copied: `InFloat64()`, or `nullcontext()` to keep their precision.

    Raises:
        TransformError: the model cannot be deep-copied.
    """
    return copy_with_parts(model, precision)[0]


def copy_with_parts(
    model: nn.Module, precision: AbstractContextManager[object]
) -> tuple[nn.Module, dict[nn.Module, nn.Module]]:
    """Return a copy as `copy_model` does, and a map from the modules of the model to those of the copy."""
    memo: dict[int, Any] = _deep_networks(model)
    ours: list[tuple[nn.Module, Callable[[nn.Module, tuple[()]], object]]] = []
    for module in model.modules():
        ours += [(module, hook) for hook in module._forward_pre_hooks.values() if is_torch_made(hook)]
        # Hooks may hold anything (a writer, recorded activations), so they are not copied.
        for kind in _HOOKS:
            memo[id(getattr(module, kind))] = OrderedDict()
        # Most dictionaries of a module are empty, and deepcopy takes a while for each.
        for value in vars(module).values():
            if type(value) in (dict, OrderedDict, set) and not value:
                memo[id(value)] = type(value)()
    try:
        with precision, torch.no_grad():
            _keep_derived_tensors(model, memo)
            _share_trainers(model, memo)
            for module in reversed(list(model.modules())):
                if _wrapped(module) is not None:
                    memo[id(module)] = copy.deepcopy(unwrapped(module), memo)
            duplicate = copy.deepcopy(model, memo)
            for module, hook in ours:
                hook(memo[id(module)], ())
    except Exception as error:
        raise TransformError(
            f"model: expected a model that can be deep-copied, found an error ({type(error).__name__}: {error}); make "
            "copy.deepcopy(model) work."
        ) from error
    duplicate.requires_grad_(False)
    # A lone torch.nn module would be traced into, through code that fx cannot trace.
    alone = type(model).__module__.startswith("torch.nn") and not isinstance(model, nn.Sequential)
    parts = {module: memo[id(module)] for module in model.modules() if id(module) in memo}
    return (nn.Sequential(duplicate) if alone else duplicate), parts


def _deep_networks(model: nn.Module) -> dict[int, Any]:
    """Map shallow networks among the parts of a model to deep networks of the same function, for the copy."""
    found: dict[int, Any] = {}
    for name, module in model.named_modules():
        if hasattr(module, "deep_network"):
            found[id(module)] = module.deep_network(name or "model")
    return found


def _share_trainers(model: nn.Module, memo: dict[int, Any]) -> None:
    """Share the trainers of Lightning modules, which hold data, loggers and the module, instead of copying them."""
    for module in model.modules():
        trainer = vars(module).get("_trainer")
        if trainer is not None:
            memo[id(trainer)] = trainer


def _keep_derived_tensors(model: nn.Module, memo: dict[int, Any]) -> None:
    for module in model.modules():
        for value in vars(module).values():
            if isinstance(value, Tensor) and value.grad_fn is not None:
                memo[id(value)] = value.detach().clone()
