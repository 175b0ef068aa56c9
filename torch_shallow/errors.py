"""What cannot be read, what cannot be transformed, and what is not finished."""

from __future__ import annotations


class TransformError(ValueError):
    """An argument or a model with which `torch_shallow` cannot give an exact result.

    The message names the argument, what was expected, what was found, and what to do. Where the error is also one of
    Python's other kinds, it is a subclass that can be caught as that kind.
    """


class UnsupportedOperation(TransformError):
    """The model contains operations outside the allow-list of affine operations and ReLU.

    One error lists every such operation of the model, with its qualified module name and a way out.
    """


class WrongTypeError(TransformError, TypeError):
    """An argument has another type than expected, or a tensor another dtype."""


class FileError(TransformError, OSError):
    """A file cannot be read or written, or is not what it should be."""

    def __new__(cls, *args: object) -> FileError:
        """As of an `OSError`; that of `ValueError`, which is found first, is for another memory layout."""
        return OSError.__new__(cls, *args)


class OutOfMemoryError(TransformError, MemoryError):
    """The result would take more memory than there is, or than is allowed."""


class MissingPackageError(TransformError, ImportError):
    """A package that only some functions need is not installed."""


def argument_error(value: object, *types: type) -> type[TransformError]:
    """The error for an argument that is refused: `WrongTypeError`, unless it has one of some types and is no bool."""
    return TransformError if isinstance(value, types) and not isinstance(value, bool) else WrongTypeError


class IncompleteWarning(UserWarning):
    """An enumeration or a proof was stopped before its end; the message says by what, and what is known."""
