"""Write the C code of a network in fixed point."""

from __future__ import annotations

from torch_shallow.export.c_text import index_type, table, texts
from torch_shallow.export.fixed_point import FixedPoint
from torch_shallow.export.tables import Tables


def fixed_source(tables: Tables, numbers: FixedPoint, name: str, include: str) -> str:
    """Return the source file of a function.

    Args:
        tables: tables of the network.
        numbers: the network in fixed point.
        name: name of the function.
        include: name of the header, without its extension.
    """
    inputs, outputs = tables.num_inputs, tables.trunk_size
    parts = [f'#include "{include}.h"\n', "/* The least and the greatest integer of each input in the domain. */"]
    parts.append(table("int32_t", "limits", [[str(v) for v in bound] for bound in (numbers.lower, numbers.upper)]))
    if len(tables.cuts):
        parts += [
            f"/* Half-spaces over inputs and 1, in digits of base 2^{numbers.digit_bits}, most significant first. */",
            table("int32_t", "digits", [[str(digit) for digit in row] for row in numbers.digits]),
            "/* First and last row of digits; what is next where it is not positive, and where it is: a cut, or",
            "   -1 - local model. */",
            table(
                index_type(max(len(numbers.digits), len(tables.cuts), len(tables.models))),
                "cuts",
                [
                    [str(value) for value in (numbers.first[row], numbers.first[row + 1] - 1, inactive, active)]
                    for row, inactive, active in tables.cuts
                ],
            ),
            "/* Whether the sum of all digits is positive: no digits behind can change a sign that is settled. */",
            (
                f"static int positive(long row, long last, const int32_t *u)\n{{\n"
                f"    const int64_t one = {1 << numbers.input_bits}, base = {1 << numbers.digit_bits};\n"
                f"    const int64_t settled = INT64_C({numbers.settled});\n"
                "    int64_t sum = 0;\n    int i;\n"
                "    for (; row <= last; row++) {\n"
                f"        sum = sum * base + digits[row][{inputs}] * one;\n"
                f"        for (i = 0; i < {inputs}; i++)\n            sum += (int64_t)digits[row][i] * u[i];\n"
                "        if (sum > settled || sum < -settled)\n            break;\n"
                "    }\n    return sum > 0;\n}\n"
            ),
        ]
    parts += [
        "/* Distinct local models, in integers. */",
        table("int32_t", "weights", texts(numbers.weights.reshape(len(numbers.weights), -1))),
        table("int64_t", "constants", [[f"INT64_C({value})" for value in row] for row in numbers.constants]),
    ]
    step = 1 << numbers.shift
    body = [
        "int i, j;",
        "long node = 0;" if len(tables.cuts) else "long node = -1;",
        f"int32_t u[{inputs}];",
        "",
        f"for (i = 0; i < {inputs}; i++) {{",
        "    const int32_t least = limits[0][i], most = limits[1][i];",
        "    if ((int64_t)x[i] + 1 < least || (int64_t)x[i] - 1 > most)",
        "        return 1;",
        "    u[i] = x[i] < least ? least : x[i] > most ? most : x[i];",
        "}",
    ]
    if len(tables.cuts):
        body += [
            "while (node >= 0) {",
            "    const int side = positive(cuts[node][0], cuts[node][1], u);",
            "    node = cuts[node][2 + side];",
            "}",
        ]
    body += [
        f"for (i = 0; i < {outputs}; i++) {{",
        f"    const int64_t step = INT64_C({step});",
        "    int64_t sum = constants[-1 - node][i] + step / 2, rest;",
        f"    for (j = 0; j < {inputs}; j++)",
        f"        sum += (int64_t)weights[-1 - node][i * {inputs} + j] * u[j];",
        "    rest = sum % step;",
        "    y[i] = (int32_t)((sum - (rest < 0 ? rest + step : rest)) / step); /* rounded to the nearest */",
        "}",
        "return 0;",
    ]
    function = f"int {name}(const int32_t *x, int32_t *y)\n{{\n" + "\n".join(f"    {line}".rstrip() for line in body)
    return "\n".join([*parts, function + "\n}\n"])
