"""Division of a compiled loop over rows among a team of threads.

An OpenMP runtime keeps a team of threads for each thread that has asked for one. `GOMP_parallel` is the function by
which compiled C code lets all of a team run a function: it returns when all have finished. Nothing of Python runs in
the other threads, so there is no lock to wait for and no error to pass on.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

WORD, INT, BYTES = ir.IntType(64), ir.IntType(32), ir.IntType(8).as_pointer()


@intrinsic
def share(
    typing_context: Any, team: Any, threads: Any, size: Any, start: Any, stop: Any, function: Any, arguments: Any
) -> Any:
    """Call `function(thread, first, last, *arguments)` for parts of a range of rows.

    Whichever thread is free takes the next rows. `thread` numbers the threads from 0 on, so that each can have room of
    its own among the arguments.

    Args:
        typing_context: what numba passes to each intrinsic.
        team: address of `GOMP_parallel`; 0 if the caller's thread shall work alone.
        threads: most threads of the team.
        size: number of rows to be taken at once.
        start: first row.
        stop: end of the rows.
        function: compiled function without result.
        arguments: tuple of the further arguments, which all threads share.
    """
    kinds = (types.int64, types.int64, types.int64, *map(types.unliteral, arguments))
    call = function.get_call_type(typing_context, kinds, {})

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        start_team, count, rows_at_once, first, last, _, packed = values
        called = function.dispatcher.inner.overloads[call.args]
        context.active_code_library.add_linking_library(called.library)
        shared_type = ir.LiteralStructType([WORD, WORD, WORD, WORD, packed.type])
        shared = cgutils.alloca_once(builder, shared_type)
        for i, value in enumerate((first, WORD(0), rows_at_once, last, packed)):
            builder.store(value, builder.gep(shared, [INT(0), INT(i)]))
        body = _body(context, builder.module, f"{builder.function.name}.rows", called.fndesc, shared_type)
        data = builder.bitcast(shared, BYTES)
        with builder.if_else(builder.icmp_unsigned("==", start_team, WORD(0))) as (alone, together):
            with alone:
                builder.call(body, [data])
            with together:
                kind = ir.FunctionType(ir.VoidType(), [body.type, BYTES, INT, INT])
                builder.call(
                    builder.inttoptr(start_team, kind.as_pointer()), [body, data, builder.trunc(count, INT), INT(0)]
                )
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64, types.int64, types.int64, function, arguments), emit


def _body(context: Any, module: Any, name: str, called: Any, shared_type: Any) -> Any:
    """Emit what each thread of a team runs: take rows until none are left."""
    body = ir.Function(module, ir.FunctionType(ir.VoidType(), [BYTES]), module.get_unique_name(name))
    body.linkage = "internal"
    builder = ir.IRBuilder(body.append_basic_block("entry"))
    shared = builder.bitcast(body.args[0], shared_type.as_pointer())
    next_row, next_thread, size, stop, packed = (builder.gep(shared, [INT(0), INT(i)]) for i in range(5))
    thread = builder.atomic_rmw("add", next_thread, WORD(1), "monotonic")
    size, stop = builder.load(size), builder.load(stop)
    arguments = cgutils.unpack_tuple(builder, builder.load(packed))
    take, work, end = (body.append_basic_block(step) for step in ("take", "work", "end"))
    builder.branch(take)
    builder.position_at_end(take)
    first = builder.atomic_rmw("add", next_row, size, "monotonic")
    builder.cbranch(builder.icmp_signed("<", first, stop), work, end)
    builder.position_at_end(work)
    last = builder.add(first, size)
    last = builder.select(builder.icmp_signed("<", last, stop), last, stop)
    function = context.declare_function(module, called)
    context.call_conv.call_function(
        builder, function, called.restype, called.argtypes, [thread, first, last, *arguments]
    )
    builder.branch(take)
    builder.position_at_end(end)
    builder.ret_void()
    return body
