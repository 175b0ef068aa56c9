"""Define the errors and warnings of the package."""

from __future__ import annotations


class TransformError(ValueError):
    """Raised for an argument or a model with which `torch_shallow` cannot give an exact result.

    The message names the argument, what was expected, what was found, and what to do. Where a built-in exception also
    fits, such as `TypeError`, the error is a subclass of both.
    """


class UnsupportedOperation(TransformError):
    """Raised if the model contains operations outside the allow-list of affine operations and ReLU.

    One error lists every such operation of the model, with its qualified module name and a way out.
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
    """Issued if an enumeration or a proof was stopped early; the message says by what, and what is known."""
