"""Optimise all parts of an entry point once, together, and keep machine code on disk as long as it is valid.

numba makes machine code of each function separately, and then again in every caller with an inlined copy: a function
five calls deep is optimised six times. Here, a function that only compiled functions call stays unoptimised until the
entry point is assembled. This relies on numba's internals, so pyproject.toml admits only the versions that were tried,
and `tests/compiled` fails where they have changed.

numba checks whether the file of a function has changed; but its callees are compiled into it, and most edits of a file
change nothing that is compiled. So the key of an entry point is its content: the bytecode of its function and of all
compiled functions below it, the constants they read, and the files that define how they are compiled.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import cache
from hashlib import sha256
from pathlib import Path
from types import CodeType
from typing import Any

import llvmlite.binding as llvm
import numpy as np
from numba.core.caching import CompileResultCacheImpl, FunctionCache
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler
from numba.core.dispatcher import Dispatcher
from numba.core.extending import _Intrinsic as Intrinsic

LEFT_OUT = (
    "WithLifting",
    "InlineClosureLikes",
    "MakeFunctionToJitFunction",
    "InlineInlinables",
    "InlineOverloads",
    "LiteralUnroll",
    "NopythonRewrites",
)


class InnerLibrary(JITCodeLibrary):  # type: ignore[misc]
    """Code of one inner function, for which no machine code is made."""

    _shared_module: Any
    _linking_libraries: list[Any]

    def finalize(self) -> None:
        """Assemble nothing yet; only entry points may be called."""
        self._finalized = True

    def get_pointer_to_function(self, name: str) -> int:
        """Return no address, since there is nothing to call."""
        return 0

    @property
    def codegen(self) -> _NoEnvironment:
        """Code generator that sets no environment, since the code is not among what the process has loaded."""
        return _NoEnvironment(self._codegen)

    def _get_module_for_linking(self) -> Any:
        if self._shared_module is None:
            for function in self._final_module.functions:
                if not function.is_declaration and function.linkage == llvm.Linkage.external:
                    function.linkage = "linkonce_odr"
            self._shared_module = self._final_module
        return self._shared_module


class EntryLibrary(JITCodeLibrary):  # type: ignore[misc]
    """Code of an entry point, with that of all inner functions below it."""

    vectorised = False
    _linking_libraries: list[Any]

    def _optimize_final_module(self) -> None:
        # Otherwise, all entry points would call the code of a function that was loaded first, vectorised or not.
        for function in self._final_module.functions:
            if not function.is_declaration and function.linkage == llvm.Linkage.linkonce_odr:
                function.linkage = "internal"
        # numba optimises twice, first for reference counts, of which there are none here.
        made = self._codegen._module_pass_manager(loop_vectorize=self.vectorised)
        if isinstance(made, tuple):
            passes, builder = made
            passes.run(self._final_module, builder)
        else:  # numba before 0.62
            made.run(self._final_module)

    def finalize(self) -> None:
        """Also link the libraries of inner functions' callees, then optimise, once."""
        waiting, found = list(self._linking_libraries), []
        while waiting:
            library = waiting.pop()
            if library not in found:
                found.append(library)
                if isinstance(library, InnerLibrary):
                    waiting += library._linking_libraries
        self._linking_libraries = found
        super().finalize()


class _NoEnvironment:
    """A code generator that sets no environment."""

    def __init__(self, codegen: Any) -> None:
        self._codegen = codegen

    def set_env(self, name: str, environment: Any) -> None:
        """Do nothing: environments hold exceptions and Python objects, and inner functions have neither."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._codegen, name)


class _Compiler(Compiler):  # type: ignore[misc]
    """Compiles plain code, without the passes that inline closures, array expressions and overloads."""

    def define_pipelines(self) -> list[Any]:
        """Return the passes that plain loops need."""
        (manager,) = super().define_pipelines()
        manager.passes = [step for step in manager.passes if step[0].__name__ not in LEFT_OUT]
        return [manager]


class InnerCompiler(_Compiler):
    """Compiles an inner function."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.state.library = InnerLibrary(self.state.targetctx.codegen(), "inner")


class EntryCompiler(_Compiler):
    """Compiles an entry point."""

    library: type[EntryLibrary] = EntryLibrary

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.state.library = self.library(self.state.targetctx.codegen(), "entry")
        self.state.library.enable_object_caching()


class VectorisedLibrary(EntryLibrary):
    """Code of an entry point with vectorised loops, which take longer to optimise."""

    vectorised = True


class VectorisingCompiler(EntryCompiler):
    """Compiles an entry point that spends its time in long loops over numbers."""

    library = VectorisedLibrary


HOW = ("bundle.py", "decorator.py", "machine_code.py", "team.py", "vectors.py", "view.py")


class _Place(CompileResultCacheImpl):  # type: ignore[misc]
    def get_filename_base(self, fullname: str, abiflags: str) -> str:
        """Return a name that does not depend on line numbers."""
        return f"{fullname}.py{sys.version_info[0]}{sys.version_info[1]}{abiflags}"


class EntryCache(FunctionCache):  # type: ignore[misc]
    """Machine code of one entry point, on disk.

    Args:
        entry: The entry point.
        miss: Called with all parts of the entry point when it has to be compiled.
    """

    _impl_class = _Place

    def __init__(self, entry: Dispatcher, miss: Callable[[list[Dispatcher]], None]) -> None:
        super().__init__(entry.py_func)
        self._entry, self._miss = entry, miss

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return what is on disk, or None."""
        parts = closure(self._entry)
        self._cache_file._source_stamp = key(parts)
        found = super().load_overload(sig, target_context)
        if found is None:
            self._miss(parts)
        return found

    def save_overload(self, sig: Any, data: Any) -> None:
        """Save machine code, unless Ctrl-C came while LLVM handed it over: it then works here but cannot be saved."""
        if data.library._compiled_object is not None:
            super().save_overload(sig, data)


def closure(entry: Dispatcher) -> list[Dispatcher]:
    """Return a compiled function with all its direct and indirect callees."""
    found = [entry]
    for part in found:
        for name in part.py_func.__code__.co_names:
            called = part.py_func.__globals__.get(name)
            if isinstance(called, Dispatcher) and called not in found:
                found.append(called)
    return found


def key(parts: list[Dispatcher]) -> str:
    """Return a digest of everything that determines the machine code."""
    digest = sha256(_how())
    for part in parts:
        how = sorted(part.targetoptions["fastmath"]), part._compiler.pipeline_class.__name__
        digest.update(repr(how).encode())
        for text in _texts(part.py_func.__code__, part.py_func.__globals__):
            digest.update(text.encode())
    return digest.hexdigest()


def _texts(code: CodeType, scope: dict[str, Any]) -> Iterator[str]:
    """Yield the parts of a function: instructions, names, and the constants that it reads."""
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
