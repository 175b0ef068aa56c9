"""Decorator for compiled functions."""

from __future__ import annotations

import gc
import inspect
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import update_wrapper
from typing import Any

from numba import types
from numba.core import event
from numba.core.compiler_lock import global_compiler_lock
from numba.core.dispatcher import Dispatcher
from numba.core.registry import CPUDispatcher

from torch_shallow.compiled.machine_code import EntryCache, EntryCompiler, InnerCompiler, VectorisingCompiler
from torch_shallow.compiled.view import as_view

logger = logging.getLogger("torch_shallow")
SECONDS = 90  # on one core, for everything, as measured by `python -m torch_shallow compile --processes 1`


class Announcement(event.Listener):  # type: ignore[misc]
    """Announces the first compilation in a process, and shows the progress.

    A bar is shown in a terminal or a notebook; elsewhere there is only the line in the log.
    """

    def __init__(self) -> None:
        self._said = False
        self._bar: Any = None

    def begin(self, name: str, functions: int) -> None:
        """Announce that an entry point of this many functions will be compiled."""
        if not self._said:
            logger.warning(
                "torch_shallow compiles its inner loops once on this machine: about %d seconds for all of them, each "
                "when it is first needed; `python -m torch_shallow compile` compiles all of them now.",
                SECONDS,
            )
            self._said = True
        from tqdm import tqdm

        hidden = not (sys.stderr.isatty() or "ipykernel" in sys.modules)
        self._bar = tqdm(total=functions, desc=f"compiling {name}", unit=" functions", leave=False, disable=hidden)
        event.register("numba:compile", self)

    def end(self) -> None:
        """Close the bar after compilation, successful or not; do nothing if none was begun."""
        if self._bar is not None:
            event.unregister("numba:compile", self)
            self._bar.close()
            self._bar = None

    def on_start(self, event: event.Event) -> None:
        """Record that a function is being compiled."""

    def on_end(self, event: event.Event) -> None:
        """Record that a function has been compiled."""
        self._bar.update()


def compiled(*fastmath: str, vectorise: bool = False) -> Callable[[Callable[..., Any]], Any]:
    """Compile a function that allocates nothing, when it is first called.

    Reference counting took half of the time of the walk, so it is off: a compiled function must not make arrays, and
    works in those it is given. It releases the GIL, and a division by zero gives infinity.

    Args:
        fastmath: LLVM's fast-math flags; `"contract"` and `"nsz"` leave NaN and infinities as they are.
        vectorise: Whether to look for loops that vector instructions can execute, in the function and all its callees;
            only for functions called from Python. This takes longer, and pays for loops over many numbers.

    Raises:
        TypeError: The function reads variables of an enclosing function.
    """
    options = {
        "nopython": True,
        "nogil": True,
        "error_model": "numpy",
        "fastmath": set(fastmath),
        "no_cfunc_wrapper": True,
        "_nrt": False,
    }

    def compile_later(function: Callable[..., Any]) -> EntryPoint:
        if function.__code__.co_freevars:
            names = ", ".join(function.__code__.co_freevars)
            raise TypeError(
                f"{function.__name__}: expected a function that reads nothing but its module, found {names} of an "
                "enclosing function; pass it as an argument."
            )
        inner = _Inner(function, {}, {**options, "no_cpython_wrapper": True}, InnerCompiler)
        return EntryPoint(inner, options, VectorisingCompiler if vectorise else EntryCompiler)

    return compile_later


class EntryPoint(CPUDispatcher):  # type: ignore[misc]
    """A compiled function as called from Python; its machine code, with all its callees, is kept on disk."""

    def __init__(self, inner: _Inner, options: dict[str, Any], compiler: type[EntryCompiler]) -> None:
        super().__init__(_entry(inner), {}, options, compiler)
        self.inner, self.py_func, self.__wrapped__ = inner, inner.py_func, inner.py_func
        self._cache = EntryCache(self, _begin)

    def compile(self, sig: Any) -> Any:
        """Load machine code for the given argument types from disk, or make it."""
        with global_compiler_lock, _no_collection():  # the lock keeps another thread from starting before this one ends
            try:
                return super().compile(sig)
            finally:
                _announcement.end()

    def get_call_template(self, args: Any, kws: Any) -> Any:
        """Return the type of a call from compiled code, which calls the function itself."""
        return self.inner.get_call_template(args, kws)

    def get_overload(self, sig: Any) -> Any:
        """Return what a call from compiled code calls."""
        return self.inner.get_overload(sig)

    def __reduce__(self) -> str:
        return str(self.__qualname__)


class _Inner(CPUDispatcher):  # type: ignore[misc]
    """A compiled function as called from compiled code."""

    def get_call_template(self, args: Any, kws: Any) -> Any:
        """Return the type of a call, treating constants as variables, so that no version is compiled for each."""
        return super().get_call_template([types.unliteral(kind) for kind in args], kws)


def _entry(inner: _Inner) -> Callable[..., Any]:
    """Return a function that passes its arguments on, arrays as views."""
    function = inner.py_func
    names = list(inspect.signature(function).parameters)
    arguments = ", ".join(f"as_view({name})" for name in names)
    source = f"def {function.__name__}({', '.join(names)}):\n    return inner({arguments})\n"
    scope: dict[str, Any] = {"as_view": as_view, "inner": inner, "__name__": function.__module__}
    exec(compile(source, function.__code__.co_filename, "exec"), scope)  # numba reads the signature of a function
    return update_wrapper(scope[function.__name__], function)


@contextmanager
def _no_collection() -> Iterator[None]:
    """Suspend garbage collection, which takes a tenth of the compile time and finds next to nothing."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


_announcement = Announcement()


def _begin(parts: list[Dispatcher]) -> None:
    _announcement.begin(parts[0].py_func.__name__, len(parts))
