"""Define the errors and warnings of the package."""

from __future__ import annotations


class TransformError(ValueError):
    """Raised for an argument or a model with which `torch_shallow` cannot give an exact result.

    The message names the argument, what was expected, what was found, and what to do. Where a built-in exception also
    fits, such as `TypeError`, the error is a subclass of both.

    Example:
        >>> import torch_shallow
        >>> try:
        ...     _ = torch_shallow.Box(1.0, 0.0)
        ... except torch_shallow.TransformError as error:
        ...     print(str(error).partition(",")[0])
        Box: expected lower <= upper everywhere
    """


class UnsupportedOperation(TransformError):
    """Raised if the model contains operations outside the allow-list of affine operations and ReLU.

    One error lists every such operation of the model, with its qualified module name and a way out.

    Example:
        >>> import torch, torch_shallow
        >>> model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Tanh(), torch.nn.Linear(2, 1))
        >>> try:
        ...     _ = torch_shallow.trace(model)
        ... except torch_shallow.UnsupportedOperation as error:
        ...     print(str(error).splitlines()[0])
        model: found an operation that is not piecewise linear:
    """


class WrongTypeError(TransformError, TypeError):
    """Raised if an argument has the wrong type, or a tensor the wrong dtype."""


class FileError(TransformError, OSError):
    """Raised if a file cannot be read or written, or has unexpected contents."""

    def __new__(cls, *args: object) -> FileError:
        """Create it as an `OSError`: `ValueError.__new__`, found first, expects another memory layout."""
        return OSError.__new__(cls, *args)


class OutOfMemoryError(TransformError, MemoryError):
    """Raised if the result would need more memory than is available or allowed."""


class MissingPackageError(TransformError, ImportError):
    """Raised if a package that only some functions need is not installed."""


def argument_error(value: object, *types: type) -> type[TransformError]:
    """Choose the error for a refused argument: `TransformError` if it has one of the types, else `WrongTypeError`."""
    return TransformError if isinstance(value, types) and not isinstance(value, bool) else WrongTypeError


class IncompleteWarning(UserWarning):
    """Issued if an enumeration or a proof was stopped early; the message says by what, and what is known.

    Example:
        >>> import torch, torch_shallow, warnings
        >>> model = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.ReLU())
        >>> with warnings.catch_warnings(record=True) as caught:
        ...     warnings.simplefilter("always")
        ...     _ = torch_shallow.transform(model, max_regions=3)
        >>> [warning.category.__name__ for warning in caught]
        ['IncompleteWarning']
    """
