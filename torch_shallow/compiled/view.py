"""Arrays as compiled code sees them: an address and a shape.

numba's own arrays carry at least seven values, count from the end for negative indices, and take some forty
instructions per access, of which the optimiser leaves one. Generating these and removing them again took most of the
compile time. A view is C-contiguous, takes indices from 0 on, and slices without steps.
"""

from __future__ import annotations

import operator
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.errors import TypingError
from numba.core.imputils import lower_builtin, lower_getattr
from numba.core.typing.templates import (
    AbstractTemplate,
    AttributeTemplate,
    bound_function,
    infer,
    infer_getattr,
    infer_global,
    signature,
)
from numba.extending import intrinsic, models, register_model

WORD = ir.IntType(64)


class View(types.Type):  # type: ignore[misc]
    """Type of a C-contiguous array with `ndim` dimensions."""

    def __init__(self, dtype: types.Type, ndim: int) -> None:
        self.dtype, self.ndim = dtype, ndim
        super().__init__(name=f"View({dtype}, {ndim})")

    @property
    def shape_type(self) -> types.Type:
        """Type of the shape."""
        return types.UniTuple(types.intp, self.ndim)


@register_model(View)
class _ViewModel(models.StructModel):  # type: ignore[misc]
    def __init__(self, manager: Any, view: View) -> None:
        super().__init__(manager, view, [("data", types.CPointer(view.dtype)), ("shape", view.shape_type)])


def make_view(context: Any, builder: Any, view: View, data: Any, shape: list[Any]) -> Any:
    """Build a view from its address and its extents."""
    made = cgutils.create_struct_proxy(view)(context, builder)
    made.data = builder.bitcast(data, context.get_data_type(view.dtype).as_pointer())
    made.shape = cgutils.pack_array(builder, shape, WORD)
    return made._getvalue()


def take_apart(context: Any, builder: Any, view: View, value: Any) -> tuple[Any, list[Any]]:
    """Return address and extents of a view."""
    made = cgutils.create_struct_proxy(view)(context, builder, value)
    return made.data, cgutils.unpack_tuple(builder, made.shape, view.ndim)


@intrinsic
def as_view(typing_context: Any, array: Any) -> Any:
    """Convert a C-contiguous, writable array to a view; return anything else unchanged."""
    if not (isinstance(array, types.Array) and array.layout == "C" and array.mutable and array.aligned and array.ndim):
        return array(array), lambda context, builder, signature, arguments: arguments[0]

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        made = context.make_array(array)(context, builder, arguments[0])
        shape = cgutils.unpack_tuple(builder, made.shape, array.ndim)
        return make_view(context, builder, signature.return_type, made.data, shape)

    return View(array.dtype, array.ndim)(array), emit


def _indices(index: types.Type) -> int | None:
    """Return how many integers an index consists of; None if it is anything else."""
    kinds = index.types if isinstance(index, types.BaseTuple) else (index,)
    return len(kinds) if all(isinstance(kind, types.Integer) for kind in kinds) else None


def _is_slice(view: View, index: types.Type) -> bool:
    return view.ndim == 1 and isinstance(index, types.SliceType) and not index.has_step


@infer
class _NotFromTheEnd(AbstractTemplate):  # type: ignore[misc]
    key = "static_getitem"

    def generic(self, args: Any, kws: Any) -> None:
        """Refuse an index known to be negative; leave others to the templates below."""
        view, index = args
        if isinstance(view, View) and isinstance(index, int) and index < 0:
            raise TypingError(f"expected an index of a view from 0 on, found {index}.")


@infer_global(operator.getitem)
class _GetItem(AbstractTemplate):  # type: ignore[misc]
    def generic(self, args: Any, kws: Any) -> Any:
        """Resolve an entry, a view of what is below some indices, or a slice."""
        view, index = args
        if not isinstance(view, View):
            return None
        if _is_slice(view, index):
            return signature(view, view, index)
        count = _indices(index)
        if count is None or count > view.ndim:
            return None
        return signature(view.dtype if count == view.ndim else View(view.dtype, view.ndim - count), view, index)


@infer_global(operator.setitem)
class _SetItem(AbstractTemplate):  # type: ignore[misc]
    def generic(self, args: Any, kws: Any) -> Any:
        """Resolve setting an entry, or all entries of a slice, to one value."""
        view, index, _ = args
        if isinstance(view, View) and (_is_slice(view, index) or _indices(index) == view.ndim):
            return signature(types.none, view, index, view.dtype)
        return None


def _below(
    context: Any, builder: Any, kinds: tuple[View, types.Type], values: tuple[Any, Any]
) -> tuple[Any, list[Any]]:
    """Return address and extents of what is below some indices."""
    view, index = kinds
    data, shape = take_apart(context, builder, view, values[0])
    if isinstance(index, types.BaseTuple):
        steps = list(zip(index.types, cgutils.unpack_tuple(builder, values[1]), strict=True))
    else:
        steps = [(index, values[1])]
    offset = None
    for axis, (kind, step) in enumerate(steps):
        step = context.cast(builder, step, kind, types.intp)
        offset = (
            step
            if offset is None
            else builder.add(builder.mul(offset, shape[axis], flags=["nsw"]), step, flags=["nsw"])
        )
    for extent in shape[len(steps) :]:
        offset = builder.mul(offset, extent, flags=["nsw"])
    return builder.gep(data, [offset], inbounds=True), shape[len(steps) :]


def _slice(context: Any, builder: Any, kinds: tuple[View, types.Type], values: tuple[Any, Any]) -> tuple[Any, Any]:
    """Return address and length of a slice, which ends with the view."""
    data, (extent,) = take_apart(context, builder, kinds[0], values[0])
    part = context.make_helper(builder, kinds[1], values[1])
    stop = builder.select(builder.icmp_signed("<", part.stop, extent), part.stop, extent)
    return builder.gep(data, [part.start], inbounds=True), builder.sub(stop, part.start, flags=["nsw"])


@lower_builtin(operator.getitem, View, types.Integer)
@lower_builtin(operator.getitem, View, types.BaseTuple)
def _get_item(context: Any, builder: Any, sig: Any, values: Any) -> Any:
    address, shape = _below(context, builder, sig.args, values)
    if isinstance(sig.return_type, View):
        return make_view(context, builder, sig.return_type, address, shape)
    return context.unpack_value(builder, sig.return_type, address)


@lower_builtin(operator.getitem, View, types.SliceType)
def _get_slice(context: Any, builder: Any, sig: Any, values: Any) -> Any:
    address, length = _slice(context, builder, sig.args, values)
    return make_view(context, builder, sig.return_type, address, [length])


@lower_builtin(operator.setitem, View, types.Integer, types.Any)
@lower_builtin(operator.setitem, View, types.BaseTuple, types.Any)
def _set_item(context: Any, builder: Any, sig: Any, values: Any) -> Any:
    address, _ = _below(context, builder, sig.args[:2], values[:2])
    context.pack_value(builder, sig.args[2], values[2], address)
    return context.get_dummy_value()


@lower_builtin(operator.setitem, View, types.SliceType, types.Any)
def _set_slice(context: Any, builder: Any, sig: Any, values: Any) -> Any:
    address, length = _slice(context, builder, sig.args[:2], values[:2])
    with cgutils.for_range(builder, length) as loop:
        context.pack_value(builder, sig.args[2], values[2], builder.gep(address, [loop.index], inbounds=True))
    return context.get_dummy_value()


@infer_getattr
class _Attributes(AttributeTemplate):  # type: ignore[misc]
    key = View

    def resolve_shape(self, view: View) -> types.Type:
        """Resolve the extents."""
        return view.shape_type

    @bound_function("View.reshape")
    def resolve_reshape(self, view: View, args: Any, kws: Any) -> Any:
        """Resolve a view of the same entries with other extents."""
        return signature(View(view.dtype, len(args)), *(types.intp for _ in args))


@lower_getattr(View, "shape")
def _shape(context: Any, builder: Any, view: View, value: Any) -> Any:
    return cgutils.create_struct_proxy(view)(context, builder, value).shape


@lower_builtin("View.reshape", View, types.VarArg(types.intp))
def _reshape(context: Any, builder: Any, sig: Any, values: Any) -> Any:
    data, _ = take_apart(context, builder, sig.args[0], values[0])
    return make_view(context, builder, sig.return_type, data, list(values[1:]))
