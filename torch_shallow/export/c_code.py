"""Write a network in C99: static tables, and a loop that descends the tree."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch_shallow.errors import TransformError, argument_error
from torch_shallow.explain.features import Features
from torch_shallow.export.c_fixed import fixed_source
from torch_shallow.export.c_floating import FLOATS, floating_source
from torch_shallow.export.c_text import header_text
from torch_shallow.export.fixed_point import FixedPoint, fixed_point
from torch_shallow.export.tables import Tables
from torch_shallow.export.writing import write
from torch_shallow.modules.shallow_relu import ShallowReLU
from torch_shallow.paths import check_path
from torch_shallow.program.graph.operations import names_of

_TAKEN = names_of(
    """
    auto break case char const continue default do double else enum extern float for goto if inline int long register
    restrict return short signed sizeof static struct switch typedef union unsigned void volatile while main exp expf
    tanh tanhf log logf limits faces projection half_spaces cuts models skip affine digits positive weights constants
    """
)


@dataclass(frozen=True)
class CCode:
    """Hold a network in C.

    Attributes:
        source: text of the file that defines the function.
        header: text of the header that callers include.
        fraction_bits: in fixed point, the fraction bits of inputs and outputs: an input X stands for X /
            2^fraction_bits[0]; otherwise None.
        error: in fixed point, a proven bound on the error of any output at the point that the inputs stand for;
            otherwise None.
        input_error: in fixed point, a bound on the further error, where the network is continuous, of replacing a point
            of the domain by a neighbour on the grid of inputs; otherwise None.

    Example:
        >>> import torch, torch_shallow
        >>> shallow = torch_shallow.transform(torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU()))
        >>> print(torch_shallow.export.to_c(shallow).source.splitlines()[0])
        #include "network.h"
    """

    source: str
    header: str
    fraction_bits: tuple[int, int] | None = None
    error: float | None = None
    input_error: float | None = None


def to_c(
    shallow: ShallowReLU,
    path: str | os.PathLike[str] | None = None,
    *,
    name: str = "network",
    dtype: str = "double",
    features: Features | Sequence[str] | None = None,
    fraction_bits: tuple[int, int] | None = None,
) -> CCode:
    """Write a network as a C99 function: a file and its header, without dependencies except `math.h` for some heads.

    The code compiles with `-std=c99 -Wall -Werror -pedantic`, allocates nothing and has no state. It contains each
    distinct half-space and local model once, descends the tree with the network's own rule (active where `z > 0`), and
    gives NaN and a status of 1 outside the domain.

    In "double", outputs are those of the network up to rounding. At a point that is on a cut up to rounding, the region
    on the other side may be chosen, where a continuous network has the same value up to rounding. In "float", all
    numbers are rounded to float32, including cuts. In "fixed", inputs and outputs are int32 and sums are int64: every
    point is assigned to its own region exactly, continuous or not, and `error` is a proven bound.

    Args:
        shallow: a complete network; merged and simplified networks are allowed.
        path: path of the C file to write, such as `"controller.c"`, with the header beside it; nothing is written if
            None.
        name: name of the function.
        dtype: "double", "float" or "fixed".
        features: names of the inputs for the header; with a mean and a scale, the function takes unscaled values.
        fraction_bits: fraction bits of inputs and outputs in fixed point; as many as fit into 32 bits if None.

    Returns:
        The text of both files, and the proven errors of fixed point.

    Raises:
        WrongTypeError: an argument has the wrong type.
        TransformError: an argument is invalid, the network is not complete, its head cannot be written, or fixed point
            is requested with a head, scaled features, or a domain that is not a bounded box.

    Example:
        >>> import torch, torch_shallow
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
        >>> shallow = torch_shallow.transform(model, domain=torch_shallow.Box(-1.0, 1.0))
        >>> code = torch_shallow.export.to_c(shallow, name="controller", dtype="fixed")
        >>> "int controller(const int32_t *x, int32_t *y);" in code.header, code.error < 1e-8
        (True, True)
    """
    if not isinstance(name, str) or not name.isidentifier() or not name.isascii() or name in _TAKEN:
        raise argument_error(name, str)(f"name: expected a valid name of a C function, found {name!r}.")
    if dtype not in (*FLOATS, "fixed"):
        raise argument_error(dtype, str)(f'dtype: expected "double", "float" or "fixed", found {dtype!r}.')
    if fraction_bits is not None and dtype != "fixed":
        raise TransformError(f'fraction_bits: expected None unless dtype="fixed", found dtype="{dtype}"; leave it out.')
    if fraction_bits is not None and (not isinstance(fraction_bits, tuple) or len(fraction_bits) != 2):
        raise argument_error(fraction_bits, tuple)(
            f"fraction_bits: expected a tuple of two numbers, for inputs and for outputs, found {fraction_bits!r}."
        )
    target = None if path is None else check_path(path, example="network.c")
    if target is not None and target.suffix != ".c":
        raise TransformError(f"path: expected a file name that ends in .c, found {str(path)!r}.")
    tables = Tables.of(shallow, features, as_stored=dtype == "fixed")
    include = name if target is None else target.stem
    if dtype == "fixed":
        numbers = fixed_point(shallow, tables, fraction_bits)
        code = CCode(
            fixed_source(tables, numbers, name, include),
            header_text(tables, name, "int32_t", "int32_t", _about_fixed(numbers)),
            (numbers.input_bits, numbers.output_bits),
            numbers.error,
            numbers.input_error,
        )
    else:
        result = "int" if tables.gives_class else dtype
        code = CCode(
            floating_source(tables, name, dtype, include), header_text(tables, name, dtype, result, _about(tables))
        )
    if target is not None:
        write(target, code.source, "network.c")
        write(Path(target).with_suffix(".h"), code.header, "network.c")
    return code


def _about(tables: Tables) -> list[str]:
    bad = "y[0] is -1, the number of no class" if tables.gives_class else "y is NaN"
    return [f"Returns 0; or 1, and {bad}, where x is outside of the domain or not finite."]


def _about_fixed(numbers: FixedPoint) -> list[str]:
    f, g = numbers.input_bits, numbers.output_bits
    return [
        "Returns 0; or 1, and leaves y alone, where x is outside of the domain.",
        "",
        f"Fixed point: x[i] stands for x[i] / 2^{f}, and y[i] for y[i] / 2^{g}. Every such point is given the local",
        "model of its own region, exactly. Proven in rational arithmetic, for each output of each of these points:",
        f"    |y[i] / 2^{g} - network| <= {numbers.error!r}",
        "Where the network is continuous, any rounding of a point of the domain to the grid of inputs adds at most",
        f"{numbers.input_error!r}. An integer one step out of the domain counts as the last one inside.",
    ]
