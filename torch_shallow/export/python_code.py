"""Write a module of Python that imports nothing: tables, and a loop that descends the tree."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from torch_shallow.errors import TransformError
from torch_shallow.explain.features import Features
from torch_shallow.export.tables import Tables, slack_of
from torch_shallow.export.writing import wrapped, write
from torch_shallow.modules.shallow_relu import ShallowReLU
from torch_shallow.version import VERSION


def to_python(
    shallow: ShallowReLU,
    path: str | os.PathLike[str] | None = None,
    *,
    features: Features | Sequence[str] | None = None,
) -> str:
    """Write a network as a Python module, for any version of Python 3, that imports nothing.

    The module defines a function `network(x)` from a list of floats to a list of floats, or to the index of a class if
    the head is an argmax. It returns NaN outside the domain, or raises `ValueError` if it would return a class. Outputs
    are those of the network up to rounding. At a point that is on a cut up to rounding, the region on the other side
    may be chosen, where a continuous network has the same value up to rounding.

    Args:
        shallow: a complete network; merged and simplified networks are allowed.
        path: path of a file to write; nothing is written if None.
        features: names of the inputs for the docstring; with a mean and a scale, the function takes unscaled values.

    Returns:
        The text of the module.

    Raises:
        WrongTypeError: `shallow` is not a `ShallowReLU`.
        TransformError: another argument is invalid, the network is not complete, or its head cannot be written.

    Example:
        >>> import torch, torch_shallow
        >>> from torch import nn
        >>> shallow = torch_shallow.transform(nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)))
        >>> exec(torch_shallow.export.to_python(shallow), names := {})
        >>> torch.allclose(torch.tensor(names["network"]([0.5, 2.0])), shallow(torch.tensor([0.5, 2.0])))
        True
    """
    tables = Tables.of(shallow, features)
    inputs, coordinates = tables.num_inputs, tables.rows.shape[1] - 1
    arrays = {"LIMITS": tables.limits(np.float64)}
    if len(tables.polytope):
        arrays["FACES"] = tables.polytope
    if tables.projection is not None:
        arrays["PROJECTION"] = tables.projection
    arrays |= {"HALF_SPACES": tables.rows, "CUTS": tables.cuts}
    arrays["MODELS"] = tables.models.reshape(len(tables.models), -1)
    if tables.skip is not None:
        arrays["SKIP"] = np.pad(tables.skip, ((0, 0), (0, 1)))
    names = ", ".join(tables.features.names).encode("unicode_escape").decode("ascii").replace('"', "'")
    gives = "the number of a class" if tables.gives_class else f"a list of {tables.num_outputs} floats"
    bad = "Raises ValueError" if tables.gives_class else "NaN"
    outside = (
        'raise ValueError("x: expected a point of the domain, found one outside, or one that is not finite")'
        if tables.gives_class
        else f'return [float("nan")] * {tables.num_outputs}'
    )
    lines = [
        f'"""Written by torch_shallow {VERSION}: {tables.description}."""',
        "",
        *(f"{title} = (\n{_rows(array)})" for title, array in arrays.items()),
        "",
        "",
        "def affine(row, x, first=0):",
        "    total = row[first + len(x)]",
        "    for i in range(len(x)):",
        "        total += row[first + i] * x[i]",
        "    return total",
        "",
        "",
        "def network(x):",
        f'    r"""From a list of {inputs} floats to {gives}. {bad} outside of the domain.',
        "",
        f"    The inputs, row by row: {names}.",
        '    """',
        f"    if len(x) != {inputs}:",
        f'        raise ValueError("x: expected {inputs} numbers, found %d" % len(x))',
        f"    inside = all(LIMITS[0][i] <= x[i] <= LIMITS[1][i] for i in range({inputs}))",
    ]
    if len(tables.polytope):
        lines += [
            "    for face in FACES:",
            f"        size = abs(face[{inputs}]) + sum(abs(face[i] * x[i]) for i in range({inputs}))",
            f"        inside = inside and affine(face, x) <= {slack_of(np.float64)!r} * size",
        ]
    lines += [
        "    if not inside:",
        f"        {outside}",
        "    u = x" if tables.projection is None else "    u = [affine(row, x) for row in PROJECTION]",
        f"    node = {0 if len(tables.cuts) else -1}",
        "    while node >= 0:",
        "        cut = CUTS[node]",
        "        node = cut[2] if affine(HALF_SPACES[cut[0]], u) > 0.0 else cut[1]",
        f"    y = [affine(MODELS[~node], u, i * {coordinates + 1}) for i in range({tables.trunk_size})]",
    ]
    if tables.skip is not None:
        lines.append("    y = [value + affine(row, x) for value, row in zip(y, SKIP)]")
    text = "\n".join([*lines, *(f"    {line}" for line in _head(tables)), "    return y", ""])
    if path is not None:
        write(path, text, "network.py")
    return text


def _rows(array: np.ndarray) -> str:
    """Write the rows of a matrix as tuples, in the fewest digits that identify the numbers."""
    rows = ("    (\n" + wrapped(map(repr, row), " " * 8) + ",\n    ),\n" for row in array.tolist())
    return "".join(rows)


def _head(tables: Tables) -> list[str]:
    lines = list[str]()
    for step in tables.head:
        match step.name:
            case "affine" if step.scale is not None and step.shift is not None:
                terms = zip(step.scale.tolist(), step.shift.tolist(), strict=True)
                lines.append(f"y = [{', '.join(f'{a!r} * y[{i}] + {b!r}' for i, (a, b) in enumerate(terms))}]")
            case "choose" if step.chosen is not None:
                lines.append(f"y = [{', '.join(f'y[{k}]' for k in step.chosen.tolist())}]")
            case "sigmoid":
                lines += [f"powers = [{E} ** -abs(value) for value in y]"]
                lines.append("y = [(1.0 if v >= 0.0 else p) / (1.0 + p) for v, p in zip(y, powers)]")
            case "tanh":
                lines += [f"powers = [{E} ** (-2.0 * abs(value)) for value in y]"]
                lines.append("y = [(1.0 - p) / (1.0 + p) * (1.0 if v >= 0.0 else -1.0) for v, p in zip(y, powers)]")
            case "exp":
                lines.append(f'y = [{E} ** value if value < 709.7 else float("inf") for value in y]')
            case "softmax":
                lines += ["most = max(y)", f"powers = [{E} ** (value - most) for value in y]"]
                lines.append("y = [power / sum(powers) for power in powers]")
            case "argmax":
                lines.append("y = y.index(max(y))")
            case _:
                raise TransformError(
                    f"shallow: expected a head that plain Python can compute, found {step.name}, which needs a "
                    "logarithm; export the trunk: a copy of the network with head = None."
                )
    return lines


E = "2.718281828459045"
