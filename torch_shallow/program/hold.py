"""Turn a model of several arguments into a model of one."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from torch_shallow.errors import TransformError
from torch_shallow.program.model_copy import check_model


def hold(model: nn.Module | ExportedProgram, /, **constants: Any) -> Held:
    """Fix all arguments of a model but one at constant values, and return a module of that one input.

    The input is the first argument of `model.forward()` that is not fixed. Tensors become buffers, which move with the
    module. A tensor of at least two dimensions whose first size is 1 is one row of a batch and is repeated for each
    input. Other tensors and values are passed unchanged. The model is shared, not copied.

    Args:
        model: a module, or a program of `torch.export`.
        **constants: values of arguments, by their names in `forward()`.

    Returns:
        A module whose `forward()` takes the remaining argument.

    Raises:
        WrongTypeError: `model` is neither a module nor an exported program.
        TransformError: `forward()` has no argument with a given name, or not exactly one argument without a default
            remains.

    Example:
        >>> import torch, torch_shallow
        >>> bilinear = torch.nn.Bilinear(2, 3, 4)
        >>> model = torch_shallow.hold(bilinear, input2=torch.ones(1, 3))
        >>> x = torch.randn(5, 2)
        >>> torch.equal(model(x), bilinear(x, torch.ones(5, 3)))
        True
    """
    return Held(check_model(model), constants)


class Held(nn.Module):
    """A module all of whose arguments but one are constant, as `hold` returns it.

    Args:
        model: the module.
        constants: values of arguments by name.

    Attributes:
        model: the module.
        input_name: name of the argument that is the input.
    """

    def __init__(self, model: nn.Module, constants: dict[str, Any]) -> None:
        super().__init__()
        self.model = model
        self.input_name = _input_name(model, constants)
        self._signature = inspect.signature(model.forward)
        self._values = {name: value for name, value in constants.items() if not isinstance(value, Tensor)}
        self._tensors = {name: f"held_{name}" for name, value in constants.items() if isinstance(value, Tensor)}
        for name, buffer in self._tensors.items():
            self.register_buffer(buffer, constants[name].detach())

    def forward(self, x: Any) -> Any:
        """Call the module with the input and the constants."""
        tensors = {name: _for_batch(getattr(self, buffer), x) for name, buffer in self._tensors.items()}
        # Pass by position where possible, as the model's own users do, so that torch.fx and torch.export see the same.
        bound = self._signature.bind(**{self.input_name: x}, **self._values, **tensors)
        return self.model(*bound.args, **bound.kwargs)

    def extra_repr(self) -> str:
        """Describe the input and the constants."""
        return f"input={self.input_name}, held={', '.join((*self._values, *self._tensors)) or 'nothing'}"


def _for_batch(constant: Tensor, x: Any) -> Any:
    if constant.ndim > 1 and constant.shape[0] == 1:
        # Repeat row 0 for each input, in a way that torch.fx can trace.
        return constant.index_select(0, x.new_zeros(x.shape[0], dtype=torch.int64))
    return constant


def _input_name(model: nn.Module, constants: dict[str, Any]) -> str:
    """Return the first argument that is not fixed."""
    parameters = list(inspect.signature(model.forward).parameters.values())
    named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    names = [p.name for p in named]
    unknown = [name for name in constants if name not in names]
    if unknown and not any(p.kind is p.VAR_KEYWORD for p in parameters):
        raise TransformError(
            f"constants: expected arguments of forward(), which are {', '.join(names)}, found {', '.join(unknown)}; "
            "correct the names."
        )
    left = [p for p in named if p.name not in constants]
    needed = [p.name for p in left[1:] if p.default is p.empty]
    if not left:
        raise TransformError(
            f"constants: expected one argument of forward() to be left, found that all are held: {', '.join(names)}; "
            "leave one out."
        )
    if needed:
        found = ", ".join([left[0].name, *needed])
        raise TransformError(
            f"constants: expected one argument of forward() to be left, found {found}; hold all but one."
        )
    return left[0].name
