"""The machine instruction that asks for memory before it is read; numba does not offer it by itself."""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from torch_shallow.compiled.view import take_apart


@intrinsic
def prefetch(typing_context, view, row):
    """Ask for the start of a row of an array, which may lie outside of it."""

    def emit(context, builder, signature, arguments):
        start, shape = take_apart(context, builder, view, arguments[0])
        offset = arguments[1]
        for extent in shape[1:]:
            offset = builder.mul(offset, extent)
        byte, word = ir.IntType(8).as_pointer(), ir.IntType(32)
        address = builder.bitcast(builder.gep(start, [offset]), byte)
        function = builder.module.declare_intrinsic(
            "llvm.prefetch", [byte], ir.FunctionType(ir.VoidType(), [byte, word, word, word])
        )
        read, keep, data = word(0), word(3), word(1)
        builder.call(function, [address, read, keep, data])
        return context.get_dummy_value()

    return types.void(view, types.int64), emit
