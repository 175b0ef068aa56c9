"""Named arrays that compiled code receives as a single pointer.

numba takes a NamedTuple of arrays apart: each array is seven values or more, and every call of every function passes
all of them on, which takes longer to compile than the functions themselves. A `Bundle` is the address of a table, from
which compiled code reads what it needs.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from functools import cache
from inspect import get_annotations
from typing import Any, ClassVar, TypeVar

import numpy as np
from numba import types
from numba.core import cgutils
from numba.core.imputils import lower_getattr_generic
from numba.core.typing.templates import AttributeTemplate, infer_getattr
from numba.extending import NativeValue, models, register_model, unbox
from typing_extensions import dataclass_transform

from torch_shallow.compiled.view import View, make_view

WORD = 8  # bytes of an entry of a table
Same = TypeVar("Same", bound="Bundle")


@dataclass_transform(frozen_default=True)
class Bundle:
    """Base class for lists of fields: C-contiguous arrays, other bundles, and real numbers.

    A subclass names its fields by annotations; those of its base come first. Like a NamedTuple, a bundle cannot be
    changed, but its arrays can; `replaced` makes another one. Compiled code reads fields by name, and writes into the
    arrays.

    Raises:
        TypeError: The values are not those of the fields, or one has an unsupported type.

    Example:
        >>> import numpy as np
        >>> class Points(Bundle):
        ...     x: np.ndarray
        ...     y: np.ndarray
        >>> Points(np.zeros(3), y=np.ones(2)).y
        array([1., 1.])
    """

    _fields: ClassVar[tuple[str, ...]] = ()
    _numba_type_: BundleType
    _address: int

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls._fields += tuple(get_annotations(cls))

    def __init__(self, *values: Any, **named: Any) -> None:
        fields = dict(zip(self._fields, values, strict=False)) | named
        if len(values) + len(named) != len(self._fields) or set(fields) != set(self._fields):
            raise TypeError(
                f"{type(self).__name__}: expected the fields {', '.join(self._fields)}, found {len(values)} values"
                f"{''.join(f', {name}' for name in named)}."
            )
        table, kinds = list[int](), []
        for name in self._fields:
            kind, entries = _describe(type(self), name, fields[name])
            kinds.append(kind)
            table += entries
        words = np.array(table, dtype=np.int64)
        numba_type = _bundle(self._fields, tuple(kinds))
        self.__dict__.update(fields, _words=words, _address=_address(words), _numba_type_=numba_type)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(
            f"{type(self).__name__}.{name} cannot be set; `replaced({name}=...)` makes another bundle."
        )

    def __iter__(self) -> Iterator[Any]:
        return (self.__dict__[name] for name in self._fields)

    def __reduce__(self: Same) -> tuple[type[Same], tuple[Any, ...]]:
        return type(self), tuple(self)

    def replaced(self: Same, **fields: Any) -> Same:
        """Return the bundle with other values for some fields."""
        return type(self)(**{name: self.__dict__[name] for name in self._fields} | fields)


class BundleType(types.Type):  # type: ignore[misc]
    """Type of a bundle in compiled code: name, type and table position of each field."""

    def __init__(self, fields: tuple[tuple[str, types.Type, int], ...]) -> None:
        self.fields = {name: (kind, place) for name, kind, place in fields}
        super().__init__(name=f"Bundle({', '.join(f'{name}: {kind}' for name, kind, _ in fields)})")


def _describe(owner: type[Bundle], name: str, value: Any) -> tuple[Any, tuple[int, ...]]:
    """Return the type of a field, for an array its dtype and number of dimensions, and its entries in the table."""
    if isinstance(value, np.ndarray) and value.flags.carray and value.dtype.isnative:
        return (value.dtype, value.ndim), (_address(value), *value.shape)
    if isinstance(value, Bundle):
        return value._numba_type_, (value._address,)
    if isinstance(value, float):
        return types.float64, (int(np.float64(value).view(np.int64)),)
    raise TypeError(
        f"{owner.__name__}.{name}: expected a bundle, a float, or a writable array that is C-contiguous, aligned and "
        f"of native byte order, found {value!r}; numpy.array(value, order='C') makes one."
    )


_at_buffer: Any = (ctypes.c_char * 0).from_buffer


def _address(array: np.ndarray) -> int:
    return ctypes.addressof(_at_buffer(array))  # in half of the time of `array.ctypes.data`


@cache
def _bundle(names: tuple[str, ...], kinds: tuple[Any, ...]) -> BundleType:
    """Return the type of a bundle, given the types of its fields."""
    fields, place = [], 0
    for name, kind in zip(names, kinds, strict=True):
        is_array = isinstance(kind, tuple)
        fields.append((name, _view(*kind) if is_array else kind, place))
        place += 1 + kind[1] if is_array else 1
    return BundleType(tuple(fields))


def _view(dtype: np.dtype, ndim: int) -> View:
    return View(types.boolean if dtype.kind == "b" else getattr(types, dtype.name), ndim)


@register_model(BundleType)
class _BundleModel(models.OpaqueModel):  # type: ignore[misc]
    """A pointer to the table."""


@unbox(BundleType)
def _unbox(typ: BundleType, value: Any, c: Any) -> NativeValue:
    """Read the address from the Python object, which outlives the call."""
    address = c.pyapi.object_getattr_string(value, "_address")
    pointer = c.pyapi.long_as_voidptr(address)
    c.pyapi.decref(address)
    return NativeValue(pointer, is_error=cgutils.is_not_null(c.builder, c.pyapi.err_occurred()))


@infer_getattr
class _FieldTypes(AttributeTemplate):  # type: ignore[misc]
    """Resolves the type of a field by its name."""

    key = BundleType

    def generic_resolve(self, typ: BundleType, name: str) -> types.Type | None:
        return typ.fields[name][0] if name in typ.fields else None


@lower_getattr_generic(BundleType)
def _read_field(context: Any, builder: Any, typ: BundleType, pointer: Any, name: str) -> Any:
    """Read a field from the table, whose entries never change."""
    kind, place = typ.fields[name]

    def entry(index: int, like: Any) -> Any:
        at = builder.bitcast(builder.gep(pointer, [context.get_constant(types.intp, WORD * index)]), like.as_pointer())
        loaded = builder.load(at)
        loaded.set_metadata("invariant.load", builder.module.add_metadata([]))
        return loaded

    if isinstance(kind, BundleType):
        return entry(place, pointer.type)
    if not isinstance(kind, View):
        return entry(place, context.get_value_type(kind))
    length = context.get_value_type(types.intp)
    shape = [entry(place + 1 + axis, length) for axis in range(kind.ndim)]
    return make_view(context, builder, kind, entry(place, pointer.type), shape)
