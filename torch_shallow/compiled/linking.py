"""One round of optimisation for all that an entry point is made of.

numba makes machine code of every function by itself, and then of every caller with a copy of it inside: a function five
calls deep is optimised six times. Here a function that only compiled functions call stays as it is until the entry
point is put together. This rests on numba's internals, so pyproject.toml admits the versions that were tried, and
`tests/compiled` fails where they have changed.
"""

from __future__ import annotations

from typing import Any

import llvmlite.binding as llvm
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler

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
    """The code of one inner function, of which no machine code is made."""

    _shared_module: Any
    _linking_libraries: list[Any]

    def finalize(self) -> None:
        """Nothing is put together yet; only entry points may be called."""
        self._finalized = True

    def get_pointer_to_function(self, name: str) -> int:
        """No address: there is nothing to call."""
        return 0

    @property
    def codegen(self) -> _NoEnvironment:
        """What makes code; of this, no environment is set, since it is not among what the process has loaded."""
        return _NoEnvironment(self._codegen)

    def _get_module_for_linking(self) -> Any:
        if self._shared_module is None:
            for function in self._final_module.functions:
                if not function.is_declaration and function.linkage == llvm.Linkage.external:
                    function.linkage = "linkonce_odr"
            self._shared_module = self._final_module
        return self._shared_module


class EntryLibrary(JITCodeLibrary):  # type: ignore[misc]
    """The code of an entry point, with that of all inner functions below it."""

    vectorised = False
    _linking_libraries: list[Any]

    def _optimize_final_module(self) -> None:
        # numba optimises twice, first for the sake of reference counts, of which there are none here.
        made = self._codegen._module_pass_manager(loop_vectorize=self.vectorised)
        if isinstance(made, tuple):
            passes, builder = made
            passes.run(self._final_module, builder)
        else:  # of numba before 0.62
            made.run(self._final_module)

    def finalize(self) -> None:
        """Take in the libraries of inner functions' callees too, then optimise, once."""
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
        """The environment of a function is for exceptions and Python objects; inner functions have neither."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._codegen, name)


class _Compiler(Compiler):  # type: ignore[misc]
    """Compiles what is written plainly, without the passes for closures, array expressions and overloads to inline."""

    def define_pipelines(self) -> list[Any]:
        """The passes that plain loops need."""
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
    """The same with vector instructions for loops, which take longer to find."""

    vectorised = True


class VectorisingCompiler(EntryCompiler):
    """Compiles an entry point that spends its time in long loops over numbers."""

    library = VectorisedLibrary
