"""Views compute what NumPy's arrays compute."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numba.core.errors import TypingError

from tests.compiled.counted import compilations, forget_what_is_on_disk
from torch_shallow.compiled.decorator import compiled
from torch_shallow.compiled.machine_code import InnerLibrary

DTYPES = [np.float64, np.int32, np.bool_]


@compiled()
def entry_of(array, i, j, k):
    return array[i, j, k]


@compiled()
def by_rows(array, i, j, k):
    row = array[i]
    last = row[j]
    return last[k] if array[i, j][k] == row[j, k] else last[k + 1]


@compiled()
def write(array, i, j, k, value):
    array[i, j, k] = value
    array[i][j, k] += value


@compiled()
def unsigned(array, i, j, k):
    return array[np.uint64(i), np.int32(j), np.uint8(k)]


@compiled()
def cut_out(array, start, stop, out):
    part = array[start:stop]
    for i in range(part.shape[0]):
        out[i] = part[i]
    return part.shape[0], array[:stop].shape[0], array[start:].shape[0], array[:].shape[0]


@compiled()
def fill(array, start, stop, value):
    array[start:stop] = value


@compiled()
def as_matrix(array, rows, columns, i, j):
    matrix = array.reshape(rows, columns)
    return matrix.shape[0] * matrix.shape[1], matrix[i, j]


@compiled()
def from_the_end(array):
    return array[-1]


SUMS = """
@compiled()
def total(array):
    found = 0.0
    for i in range(array.shape[0]):
        found += array[i]
    return found


@compiled()
def twice_total(array):
    return total(array) + total(array[:])
"""


@st.composite
def places(draw):
    """An array of three dimensions, and a place in it."""
    shape = tuple(draw(st.integers(1, 4)) for _ in range(3))
    values = np.random.default_rng(draw(st.integers(0, 99))).integers(0, 2, shape)
    return values.astype(draw(st.sampled_from(DTYPES))), tuple(draw(st.integers(0, n - 1)) for n in shape)


@given(places())
def test_entries(given):
    array, place = given
    assert entry_of(array, *place) == by_rows(array, *place) == unsigned(array, *place) == array[place]


@given(places())
def test_writing(given):
    array, place = given
    if array.dtype == bool:
        return
    expected = array.copy()
    expected[place] = 3
    expected[place] += 3
    write(array, *place, 3)
    assert (array == expected).all()


@given(st.integers(0, 9), st.integers(0, 12), st.integers(0, 12))
def test_slices(length, start, stop):
    start = min(start, length)
    stop = max(start, stop)
    array, out = np.arange(float(length)), np.zeros(12)
    lengths = cut_out(array, start, stop, out)
    expected = array[start:stop]
    assert lengths == (len(expected), len(array[:stop]), len(array[start:]), length)
    assert (out[: len(expected)] == expected).all()
    filled = array.copy()
    filled[start:stop] = 7.0
    fill(array, start, stop, 7)
    assert (array == filled).all()


@given(st.integers(1, 5), st.integers(1, 5), st.data())
def test_reshaping(rows, columns, data):
    array = np.arange(rows * columns)
    i, j = data.draw(st.integers(0, rows - 1)), data.draw(st.integers(0, columns - 1))
    assert as_matrix(array, rows, columns, i, j) == (array.size, array.reshape(rows, columns)[i, j])


def test_an_index_from_the_end_is_refused():
    with pytest.raises(TypingError, match="expected an index of a view from 0 on, found -1"):
        from_the_end(np.zeros(3))


def test_arrays_that_are_no_views_work_as_well():
    array = np.arange(24.0).reshape(2, 3, 4)
    assert entry_of(array[:, ::2, ::3], 1, 1, 1) == array[1, 2, 3]
    frozen = array.copy()
    frozen.flags.writeable = False
    assert entry_of(frozen, 1, 1, 1) == array[1, 1, 1]
    with pytest.raises(TypingError, match=r"setitem|mutate"):
        write(frozen, 0, 0, 0, 1.0)


def test_a_function_below_has_no_machine_code_of_its_own(monkeypatch, tmp_path):
    """This fails where numba's internals are no longer what `compiled.machine_code` rests on."""
    forget_what_is_on_disk(monkeypatch, tmp_path)

    scope = {"compiled": compiled, "__name__": __name__}
    exec(compile(SUMS, __file__, "exec"), scope)
    total, twice_total = scope["total"], scope["twice_total"]
    assert twice_total(np.ones(5)) == 10.0
    (below,) = total.inner.overloads.values()
    assert isinstance(below.library, InnerLibrary)
    assert not below.library.codegen._engine.is_symbol_defined(below.fndesc.llvm_func_name)
    assert not total.overloads  # Python has not called it
    with compilations() as count:
        assert total(np.ones(3)) == 3.0
    assert count.functions == 1  # what Python calls; not the function, once more
    assert total.py_func(np.ones(3)) == 3.0


def test_an_entry_point_calls_only_code_of_its_own(monkeypatch, tmp_path):
    """Otherwise it would call what another one has loaded before, perhaps compiled in another way."""
    forget_what_is_on_disk(monkeypatch, tmp_path)
    steps = "".join(f"    a[{i % 7}] = a[{i % 5}] * 1.5 + a[{i % 3}] / (1.0 + a[{i % 7}])\n" for i in range(100))
    source = f"""
@compiled()
def too_long_to_inline(a):
{steps}    return a[0]

@compiled()
def entry(a):
    return too_long_to_inline(a) + too_long_to_inline(a)
"""
    scope = {"compiled": compiled, "__name__": __name__}
    exec(compile(source, __file__, "exec"), scope)
    scope["entry"](np.ones(7))
    (made,) = scope["entry"].overloads.values()
    code = made.library.get_llvm_str()
    assert "define internal" in code
    assert "define linkonce_odr" not in code


def test_a_function_that_needs_what_is_around_it_is_refused():
    def make(number):
        @compiled()
        def plus(x):
            return x + number

        return plus

    with pytest.raises(TypeError, match="plus: expected a function that reads nothing but its module, found number"):
        make(3)
