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
    """Return eight bits: whether each row of a block has a positive sum at a point; 0 if the sum is NaN.

    Given tuples of blocks and of points, it returns a tuple. The additions of one point wait for each other, so several
    points take little more time than one.
    """
    several = isinstance(block, types.BaseTuple)
    result = types.UniTuple(types.int64, len(block)) if several else types.int64

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        unpacked = [cgutils.unpack_tuple(builder, arguments[i]) if several else [arguments[i]] for i in (1, 3)]
        found = []
        for sums in _sums(context, builder, (blocks, points), (arguments[0], arguments[2]), unpacked, 1):
            positive = builder.fcmp_ordered(">", sums, ir.Constant(sums.type, [0.0] * LANES))
            found.append(builder.zext(builder.bitcast(positive, ir.IntType(LANES)), ir.IntType(64)))
        return context.make_tuple(builder, result, found) if several else found[0]

    return result(blocks, block if several else types.int64, points, point if several else types.int64), emit


@intrinsic
def write_sums(typing_context: Any, blocks: Any, block: Any, points: Any, point: Any, sums: Any, row: Any) -> Any:
    """Write the sums of a block at a point into a row of `sums`, whose width is a multiple of eight."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        places = [[arguments[1]], [arguments[3]]]
        (found,) = _sums(context, builder, (blocks, points), (arguments[0], arguments[2]), places, 4)
        data, shape = take_apart(context, builder, sums, arguments[4])
        place = builder.add(builder.mul(arguments[5], shape[1]), builder.mul(arguments[1], shape[1].type(LANES)))
        builder.store(found, builder.bitcast(builder.gep(data, [place]), found.type.as_pointer()), align=8)
        return context.get_dummy_value()

    return types.void(blocks, types.int64, points, types.int64, sums, types.int64), emit


def _sums(
    context: Any, builder: Any, kinds: tuple[Any, Any], arrays: tuple[Any, Any], places: list[list[Any]], parts: int
) -> list[Any]:
    """Emit the sums of the rows of blocks at one point each, as one vector each, from some number of partial sums.

    Args:
        context: numba's.
        builder: LLVM's.
        kinds: types of the arrays.
        arrays: blocks and points.
        places: indices of the blocks, and of the points.
        parts: number of partial sums.
    """
    data, (_, height, _) = take_apart(context, builder, kinds[0], arrays[0])
    coordinates, (_, width) = take_apart(context, builder, kinds[1], arrays[1])
    real, word = ir.DoubleType(), height.type
    vector = ir.VectorType(real, LANES)
    size, last = builder.mul(height, word(LANES)), builder.sub(height, word(1))
    rows = [builder.bitcast(builder.gep(data, [builder.mul(at, size)]), vector.as_pointer()) for at in places[0]]
    xs = [builder.gep(coordinates, [builder.mul(at, width)]) for at in places[1]]
    sums = [[cgutils.alloca_once(builder, vector) for _ in range(parts)] for _ in rows]
    for first, of_point in zip(rows, sums, strict=True):
        for part in of_point:
            builder.store(ir.Constant(vector, [0.0] * LANES), part)
        builder.store(builder.load(builder.gep(first, [last]), align=8), of_point[0])

    def add(column: Any, k: int) -> None:
        for first, x, of_point in zip(rows, xs, sums, strict=True):
            value = builder.load(builder.gep(x, [column]))
            value = value if value.type == real else builder.fpext(value, real)
            unset = ir.Constant(vector, ir.Undefined)
            one = builder.insert_element(unset, value, ir.IntType(32)(0))
            equal = builder.shuffle_vector(one, unset, ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES))
            entries = builder.load(builder.gep(first, [column]), align=8)
            term = builder.fmul(entries, equal, flags=("contract", "nsz"))
            builder.store(builder.fadd(builder.load(of_point[k]), term, flags=("contract", "nsz")), of_point[k])

    rounds = builder.udiv(last, word(parts))
    with cgutils.for_range(builder, rounds) as loop:
        at = builder.mul(loop.index, word(parts))
        for k in range(parts):
            add(builder.add(at, word(k)), k)
    done = builder.mul(rounds, word(parts))
    with cgutils.for_range(builder, builder.sub(last, done)) as loop:
        add(builder.add(done, loop.index), 0)
    totals = []
    for of_point in sums:
        total = builder.load(of_point[0])
        for part in of_point[1:]:
            total = builder.fadd(total, builder.load(part))
        totals.append(total)
    return totals
