"""Write the C code of a network in double or float."""

from __future__ import annotations

import numpy as np

from torch_shallow.errors import TransformError
from torch_shallow.export.c_text import index_type, table, texts
from torch_shallow.export.tables import Tables, slack_of

FLOATS: dict[str, type[np.floating]] = {"double": np.float64, "float": np.float32}


def floating_source(tables: Tables, name: str, kind: str, include: str) -> str:
    """Return the source file of a function.

    Args:
        tables: tables of the network.
        name: name of the function.
        kind: "double" or "float".
        include: name of the header, without its extension.

    Raises:
        TransformError: a number is too large for `kind`.
    """
    dtype, suffix = FLOATS[kind], "f" if kind == "float" else ""
    coordinates, inputs = tables.rows.shape[1] - 1, tables.num_inputs

    def numbers_of(title: str, array: np.ndarray) -> str:
        with np.errstate(over="ignore"):
            numbers = array.astype(dtype)
        if not np.isfinite(numbers).all():
            raise TransformError(f'dtype: expected numbers that {kind} can hold, found larger ones; use "double".')
        return table(kind, title, texts(numbers, suffix))

    parts = [f'#include "{include}.h"\n']
    math = {"sigmoid", "tanh", "exp", "softmax", "log_softmax"} & {step.name for step in tables.head}
    parts.append("#include <math.h>\n" * bool(math) + "#include <stdint.h>\n" * bool(len(tables.cuts)))
    parts.append("/* The smallest and the largest value of each input, with room for rounding. */")
    parts.append(numbers_of("limits", tables.limits(dtype)))
    if len(tables.polytope):
        parts.append("/* Rows a, -b of the domain's inequalities a x <= b. */")
        parts.append(numbers_of("faces", tables.polytope))
    if tables.projection is not None:
        parts.append("/* u = projection [x, 1]: what the network reads of its input. */")
        parts.append(numbers_of("projection", tables.projection))
    if len(tables.cuts):
        parts.append("/* Distinct half-spaces: a weight for each coordinate, and a constant. */")
        parts.append(numbers_of("half_spaces", tables.rows))
        index = index_type(max(len(tables.cuts), len(tables.models), len(tables.rows)))
        parts.append("/* Half-space; next node where it is not positive, and where it is: a cut, or -1 - model. */")
        parts.append(table(index, "cuts", [[str(value) for value in row] for row in tables.cuts]))
    parts.append("/* Distinct local models: for each output a weight for each coordinate, and a constant. */")
    parts.append(numbers_of("models", tables.models.reshape(len(tables.models), -1)))
    if tables.skip is not None:
        parts.append("/* What every local model has in common, over the inputs. */")
        parts.append(numbers_of("skip", np.pad(tables.skip, ((0, 0), (0, 1)))))
    parts.append(
        f"static {kind} affine(const {kind} *row, const {kind} *x, int count)\n{{\n"
        f"    {kind} sum = row[count];\n    int i;\n"
        "    for (i = 0; i < count; i++)\n        sum += row[i] * x[i];\n    return sum;\n}\n"
    )
    values = "value" if tables.head else "y"
    outside = "y[i] = -1;" if tables.gives_class else "y[i] = zero / zero;"
    body = ["int i, inside = 1;", "long node = 0;" if len(tables.cuts) else "long node = -1;"]
    if not tables.gives_class:
        body.append(f"const {kind} zero = 0;")
    if tables.head:
        sizes = (len(step.chosen) for step in tables.head if step.chosen is not None)
        body.append(f"{kind} value[{max((tables.trunk_size, *sizes))}];")
    if tables.projection is None:
        body.append(f"const {kind} *u = x;")
    else:
        body.append(f"{kind} u[{coordinates}];")
    body += [
        "",
        f"for (i = 0; i < {inputs}; i++)",
        "    inside = inside && x[i] >= limits[0][i] && x[i] <= limits[1][i];",
    ]
    if len(tables.polytope):
        body += [
            f"for (i = 0; i < {len(tables.polytope)}; i++) {{",
            f"    {kind} sum = faces[i][{inputs}], size = sum < 0 ? -sum : sum;",
            "    int j;",
            f"    for (j = 0; j < {inputs}; j++) {{",
            f"        const {kind} term = faces[i][j] * x[j];",
            "        sum += term;",
            "        size += term < 0 ? -term : term;",
            "    }",
            f"    inside = inside && sum <= {dtype(slack_of(dtype))!s}{suffix} * size;",
            "}",
        ]
    body += [
        "if (!inside) {",
        f"    for (i = 0; i < {tables.num_outputs}; i++)",
        f"        {outside}",
        "    return 1;",
        "}",
    ]
    if tables.projection is not None:
        body += [f"for (i = 0; i < {coordinates}; i++)", f"    u[i] = affine(projection[i], x, {inputs});"]
    if len(tables.cuts):
        body += [
            "while (node >= 0)",
            f"    node = cuts[node][1 + (affine(half_spaces[cuts[node][0]], u, {coordinates}) > 0)];",
        ]
    skip = "" if tables.skip is None else f" + affine(skip[i], x, {inputs})"
    body += [
        f"for (i = 0; i < {tables.trunk_size}; i++)",
        f"    {values}[i] = affine(models[-1 - node] + i * {coordinates + 1}, u, {coordinates}){skip};",
        *_head(tables, kind, suffix),
        "return 0;",
    ]
    result = "int" if tables.gives_class else kind
    function = f"int {name}(const {kind} *x, {result} *y)\n{{\n" + "\n".join(f"    {line}".rstrip() for line in body)
    return "\n".join([*(part for part in parts if part), function + "\n}\n"])


def _head(tables: Tables, kind: str, suffix: str) -> list[str]:
    """Return statements that compute the outputs from the values."""
    lines, count = list[str](), tables.trunk_size
    dtype = FLOATS[kind]
    for step in tables.head:
        each = f"for (i = 0; i < {count}; i++)"
        match step.name:
            case "affine" if step.scale is not None and step.shift is not None:
                for i, (scale, shift) in enumerate(zip(step.scale, step.shift, strict=True)):
                    lines.append(f"value[{i}] = {dtype(scale)!s}{suffix} * value[{i}] + {dtype(shift)!s}{suffix};")
            case "choose" if step.chosen is not None:
                count = len(step.chosen)
                lines += ["{", f"    {kind} chosen[{count}];"]
                lines += [f"    chosen[{i}] = value[{k}];" for i, k in enumerate(step.chosen)]
                lines += [f"    for (i = 0; i < {count}; i++)", "        value[i] = chosen[i];", "}"]
            case "sigmoid":
                lines += [
                    f"{each} {{",
                    f"    const {kind} power = exp{suffix}(value[i] < 0 ? value[i] : -value[i]);",
                    "    value[i] = (value[i] < 0 ? power : 1) / (1 + power);",
                    "}",
                ]
            case "tanh" | "exp":
                lines += [each, f"    value[i] = {step.name}{suffix}(value[i]);"]
            case "softmax" | "log_softmax":
                log = step.name == "log_softmax"
                power = f"exp{suffix}(value[i] - most)"
                lines += [
                    "{",
                    f"    {kind} most = value[0], sum = 0;",
                    f"    {each}",
                    "        most = value[i] > most ? value[i] : most;",
                    f"    {each}" + (f"\n            sum += {power};" if log else " {"),
                    *([] if log else [f"        value[i] = {power};", "        sum += value[i];", "    }"]),
                    f"    {each}",
                    f"        value[i] {f'-= most + log{suffix}(sum)' if log else '/= sum'};",
                    "}",
                ]
            case "argmax":
                lines += ["y[0] = 0;", each, "    y[0] = value[i] > value[y[0]] ? i : y[0];"]
    if lines and not tables.gives_class:
        lines += [f"for (i = 0; i < {count}; i++)", "    y[i] = value[i];"]
    return lines
