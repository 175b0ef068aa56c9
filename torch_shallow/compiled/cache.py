"""Machine code on disk, for as long as it is what the code says.

numba looks whether the file of a function has changed; but what the function calls is compiled into it, and most edits
of a file change nothing that is compiled. So the key of an entry point is what it is made of: the bytecode of its
function and of all compiled functions below it, the constants they read, and the files that say how they are compiled.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import cache
from hashlib import sha256
from pathlib import Path
from types import CodeType
from typing import Any

import numpy as np
from numba.core.caching import CompileResultCacheImpl, FunctionCache
from numba.core.dispatcher import Dispatcher
from numba.core.extending import _Intrinsic as Intrinsic

HOW = ("bundle.py", "decorator.py", "linking.py", "view.py")


class _Place(CompileResultCacheImpl):  # type: ignore[misc]
    def get_filename_base(self, fullname: str, abiflags: str) -> str:
        """A name that stays where lines move."""
        return f"{fullname}.py{sys.version_info[0]}{sys.version_info[1]}{abiflags}"


class EntryCache(FunctionCache):  # type: ignore[misc]
    """The machine code of one entry point.

    Args:
        entry: the entry point.
        miss: called with all that it is made of when it has to be compiled.
    """

    _impl_class = _Place

    def __init__(self, entry: Dispatcher, miss: Callable[[list[Dispatcher]], None]) -> None:
        super().__init__(entry.py_func)
        self._entry, self._miss = entry, miss

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """What is on disk, or None."""
        parts = closure(self._entry)
        self._cache_file._source_stamp = key(parts)
        found = super().load_overload(sig, target_context)
        if found is None:
            self._miss(parts)
        return found

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep machine code, unless Ctrl-C came while LLVM handed it over: then it works here, but there is no copy."""
        if data.library._compiled_object is not None:
            super().save_overload(sig, data)


def closure(entry: Dispatcher) -> list[Dispatcher]:
    """A compiled function and all that it calls, and that these call."""
    found = [entry]
    for part in found:
        for name in part.py_func.__code__.co_names:
            called = part.py_func.__globals__.get(name)
            if isinstance(called, Dispatcher) and called not in found:
                found.append(called)
    return found


def key(parts: list[Dispatcher]) -> str:
    """A digest of all that machine code follows from."""
    digest = sha256(_how())
    for part in parts:
        how = sorted(part.targetoptions["fastmath"]), part._compiler.pipeline_class.__name__
        digest.update(repr(how).encode())
        for text in _texts(part.py_func.__code__, part.py_func.__globals__):
            digest.update(text.encode())
    return digest.hexdigest()


def _texts(code: CodeType, scope: dict[str, Any]) -> Iterator[str]:
    """What a function is made of: instructions, names, and the constants that it reads."""
    yield f"{code.co_name} {code.co_code.hex()} {code.co_names} {code.co_varnames} {code.co_argcount}"
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _texts(constant, scope)
        else:
            yield repr(constant)
    for name in code.co_names:
        value = scope.get(name)
        if isinstance(value, (int, float, str, np.generic)):
            yield f"{name} {value!r}"
        elif isinstance(value, Intrinsic):
            yield from _texts(value._defn.__code__, value._defn.__globals__)


@cache
def _how() -> bytes:
    return b"".join((Path(__file__).parent / name).read_bytes() for name in HOW)
