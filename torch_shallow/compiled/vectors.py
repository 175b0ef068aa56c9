"""Sums of eight rows at once, for which the compiler uses the processor's vector instructions.

Eight rows are stored as a block, an array of shape `(columns + 1, 8)`: a column holds one entry of each row, and the
last one their constants. Signs are those of sums added up in the order of the entries, from the constant on, so they
are the same as in a loop over one row. Sums that are written are added up in four parts, which takes less time.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from torch_shallow.compiled.view import take_apart

LANES = 8


@intrinsic
def positive_sums(typing_context: Any, blocks: Any, block: Any, points: Any, point: Any) -> Any:
    """Return eight bits: whether each row of a block has a positive sum at a point; 0 if the sum is NaN."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        sums = _sums(context, builder, (blocks, points), arguments, 1)
        positive = builder.fcmp_ordered(">", sums, ir.Constant(sums.type, [0.0] * LANES))
        return builder.zext(builder.bitcast(positive, ir.IntType(LANES)), ir.IntType(64))

    return types.int64(blocks, types.int64, points, types.int64), emit


@intrinsic
def write_sums(typing_context: Any, blocks: Any, block: Any, points: Any, point: Any, sums: Any, row: Any) -> Any:
    """Write the sums of a block at a point into a row of `sums`, whose width is a multiple of eight."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        found = _sums(context, builder, (blocks, points), arguments, 4)
        data, shape = take_apart(context, builder, sums, arguments[4])
        place = builder.add(builder.mul(arguments[5], shape[1]), builder.mul(arguments[1], shape[1].type(LANES)))
        builder.store(found, builder.bitcast(builder.gep(data, [place]), found.type.as_pointer()), align=8)
        return context.get_dummy_value()

    return types.void(blocks, types.int64, points, types.int64, sums, types.int64), emit


def _sums(context: Any, builder: Any, kinds: tuple[Any, Any], arguments: Any, parts: int) -> Any:
    """Emit the sums of the rows of a block at a point, as one vector, from some number of partial sums."""
    blocks, block, points, point = arguments[:4]
    data, (_, height, _) = take_apart(context, builder, kinds[0], blocks)
    coordinates, (_, width) = take_apart(context, builder, kinds[1], points)
    real, word = ir.DoubleType(), height.type
    vector = ir.VectorType(real, LANES)
    start = builder.gep(data, [builder.mul(builder.mul(block, height), word(LANES))])
    first = builder.bitcast(start, vector.as_pointer())
    last = builder.sub(height, word(1))
    x = builder.gep(coordinates, [builder.mul(point, width)])
    sums = [cgutils.alloca_once(builder, vector) for _ in range(parts)]
    for part in sums:
        builder.store(ir.Constant(vector, [0.0] * LANES), part)
    builder.store(builder.load(builder.gep(first, [last]), align=8), sums[0])

    def add(column: Any, part: Any) -> None:
        value = builder.load(builder.gep(x, [column]))
        value = value if value.type == real else builder.fpext(value, real)
        unset = ir.Constant(vector, ir.Undefined)
        one = builder.insert_element(unset, value, ir.IntType(32)(0))
        equal = builder.shuffle_vector(one, unset, ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES))
        entries = builder.load(builder.gep(first, [column]), align=8)
        term = builder.fmul(entries, equal, flags=("contract", "nsz"))
        builder.store(builder.fadd(builder.load(part), term, flags=("contract", "nsz")), part)

    rounds = builder.udiv(last, word(parts))
    with cgutils.for_range(builder, rounds) as loop:
        at = builder.mul(loop.index, word(parts))
        for k, part in enumerate(sums):
            add(builder.add(at, word(k)), part)
    done = builder.mul(rounds, word(parts))
    with cgutils.for_range(builder, builder.sub(last, done)) as loop:
        add(builder.add(done, loop.index), sums[0])
    total = builder.load(sums[0])
    for part in sums[1:]:
        total = builder.fadd(total, builder.load(part))
    return total
