"""Activation regions, values and errors in exact rational arithmetic: slow, obvious, and independent of the package.

A float64 number is an integer divided by a power of two, so everything about a network with such weights can be
computed with integers alone. A cell is a cone in homogeneous coordinates (x, t) with t >= 0, known by its generators:
a ray with t > 0 is the vertex x / t; one with t = 0 is a direction in which the cell is unbounded. A neuron cuts a cell
if it is positive at one generator and negative at another, however little: there are no tolerances.

It is meant for networks with few inputs and some hundred regions.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import reduce
from operator import and_, mul

Vector = tuple[int, ...]
Layer = tuple[Sequence[Sequence[float]], Sequence[float]]  # weight and bias
HalfSpace = tuple[Sequence[float], float]  # (a, b): a x <= b

T_ROW = 1  # the bit of t >= 0, the first row of every cone


def dot(a: Vector, b: Vector) -> int:
    return sum(map(mul, a, b))


def primitive(vector: Sequence[int]) -> Vector:
    """Return the shortest integer vector of the same direction."""
    divisor = math.gcd(*vector)
    return tuple(value // divisor for value in vector) if divisor > 1 else tuple(vector)


def dyadic(rows: Sequence[Sequence[float]]) -> tuple[list[Vector], int]:
    """Return integer rows and an exponent e >= 0 such that the given rows are these divided by 2^e."""
    ratios = [[float(value).as_integer_ratio() for value in row] for row in rows]
    exponent = max((below.bit_length() - 1 for row in ratios for _, below in row), default=0)
    return [tuple((above << exponent) // below for above, below in row) for row in ratios], exponent


@dataclass(frozen=True)
class Cone:
    """Sums of non-negative multiples of rays and any multiples of lines.

    Attributes:
        rays: Extreme rays, each with the set of rows that are 0 on it, as bits.
        lines: Independent lines, on which all rows are 0.
        num_rows: Number of rows (half-spaces `row . g >= 0`).
    """

    rays: tuple[tuple[Vector, int], ...]
    lines: tuple[Vector, ...]
    num_rows: int

    @classmethod
    def whole_space(cls, dimension: int) -> Cone:
        """Return all (x, t) with t >= 0."""
        axes = [tuple(int(i == j) for j in range(dimension + 1)) for i in range(dimension + 1)]
        return cls(((axes[-1], 0),), tuple(axes[:-1]), 1)

    def signs(self, row: Vector) -> tuple[bool, bool]:
        """Return whether a row is negative, and whether it is positive, somewhere in the cone."""
        values = [dot(row, ray) for ray, _ in self.rays]
        both = any(dot(row, line) for line in self.lines)
        return both or any(value < 0 for value in values), both or any(value > 0 for value in values)

    def cut(self, row: Vector) -> Cone:
        """Return the part where the row is non-negative: one step of the double description method."""
        bit = 1 << self.num_rows
        crossing = next((line for line in self.lines if dot(row, line)), None)
        if crossing is not None:
            return self._cut_across(row, crossing, bit)
        values = [dot(row, ray) for ray, _ in self.rays]
        rays = [(ray, on | bit * (v == 0)) for (ray, on), v in zip(self.rays, values, strict=True) if v >= 0]
        for (one, on_one), above in zip(self.rays, values, strict=True):
            for (other, on_other), below in zip(self.rays, values, strict=True):
                if above > 0 > below and self._adjacent(one, other, on_one & on_other):
                    between = primitive([above * b - below * a for a, b in zip(one, other, strict=True)])
                    rays.append((between, (on_one & on_other) | bit))
        return Cone(tuple(rays), self.lines, self.num_rows + 1)

    def _adjacent(self, one: Vector, other: Vector, common: int) -> bool:
        """Return whether the smallest face that contains two rays contains no other ray."""
        return not any(on & common == common for ray, on in self.rays if ray not in (one, other))

    def _cut_across(self, row: Vector, crossing: Vector, bit: int) -> Cone:
        """Return the part where the row is non-negative, if it varies along a line; this line becomes a ray."""
        length = dot(row, crossing)
        if length < 0:
            crossing, length = tuple(-value for value in crossing), -length

        def flat(vector: Vector) -> Vector:
            height = dot(row, vector)
            return primitive([length * a - height * b for a, b in zip(vector, crossing, strict=True)])

        rays = ((crossing, bit - 1), *((flat(ray), on | bit) for ray, on in self.rays))
        lines = tuple(flat(line) for line in self.lines if any(flat(line)))
        return Cone(rays, lines, self.num_rows + 1)

    def lies_on(self) -> int:
        """Return the rows that are 0 on the whole cone, as bits; all bits if only the origin is left."""
        return reduce(and_, (on for _, on in self.rays), -1)


@dataclass(frozen=True)
class ExactCell:
    """An activation region.

    Attributes:
        pattern: Which neurons are active, through all layers.
        cone: The closed region.
        outputs: A row for each output: 2^exponent times the model's output is `row . (x, 1)`.
        exponent: Exponent of the power of two by which the outputs are scaled.
    """

    pattern: tuple[bool, ...]
    cone: Cone
    outputs: tuple[Vector, ...]
    exponent: int


def negative(row: Vector) -> Vector:
    return tuple(-value for value in row)


def domain_cone(half_spaces: Sequence[HalfSpace], dimension: int) -> Cone:
    """Return the domain as a cone.

    Raises:
        ValueError: The domain has no interior.
    """
    cone = Cone.whole_space(dimension)
    for a, b in half_spaces:
        (row,), _ = dyadic([[*(-float(value) for value in a), float(b)]])
        if any(row):
            cone = cone.cut(row)
    if cone.lies_on():
        raise ValueError("half_spaces: expected a domain with an interior, found none.")
    return cone


def exact_cells(layers: Sequence[Layer], half_spaces: Sequence[HalfSpace] = ()) -> list[ExactCell]:
    """Return all activation regions with an interior, for Linear-ReLU-...-Linear where `a x <= b` for all half-spaces.

    A neuron that is 0 on a whole region is inactive there.
    """
    dimension = len(layers[0][0][0])
    identity = tuple(tuple(int(i == j) for j in range(dimension + 1)) for i in range(dimension))
    cells = [ExactCell((), domain_cone(half_spaces, dimension), identity, 0)]
    for weight, bias in layers[:-1]:
        cells = [part for cell in cells for part in _hidden(cell, weight, bias)]
    return [ExactCell(cell.pattern, cell.cone, *_affine(cell, *layers[-1])) for cell in cells]


def _affine(
    cell: ExactCell, weight: Sequence[Sequence[float]], bias: Sequence[float]
) -> tuple[tuple[Vector, ...], int]:
    """Return the rows of a layer composed with those of a cell, and their exponent."""
    rows, exponent = dyadic([[*w, b] for w, b in zip(weight, bias, strict=True)])
    columns = list(zip(*cell.outputs, strict=True))
    found = []
    for *w, b in rows:
        row = [sum(map(mul, w, column)) for column in columns]
        row[-1] += b << cell.exponent
        found.append(tuple(row))
    return tuple(found), exponent + cell.exponent


def _hidden(cell: ExactCell, weight: Sequence[Sequence[float]], bias: Sequence[float]) -> Iterator[ExactCell]:
    """Yield the cells into which a layer of neurons cuts a cell."""
    rows, exponent = _affine(cell, weight, bias)
    parts: list[tuple[tuple[bool, ...], Cone]] = [((), cell.cone)]
    for row in rows:
        parts = [(*part,) for pattern, cone in parts for part in _sides(pattern, cone, row)]
    none = (0,) * len(rows[0])
    for pattern, cone in parts:
        outputs = tuple(row if active else none for row, active in zip(rows, pattern, strict=True))
        yield ExactCell(cell.pattern + pattern, cone, outputs, exponent)


def _sides(pattern: tuple[bool, ...], cone: Cone, row: Vector) -> list[tuple[tuple[bool, ...], Cone]]:
    below, above = cone.signs(row)
    if below and above:
        return [((*pattern, False), cone.cut(negative(row))), ((*pattern, True), cone.cut(row))]
    return [((*pattern, above), cone)]


def exact_value(layers: Sequence[Layer], x: Sequence[Fraction | float]) -> list[Fraction]:
    """Return the model's outputs at a point."""
    values = [Fraction(value) for value in x]
    for number, (weight, bias) in enumerate(layers):
        if number:
            values = [max(value, Fraction(0)) for value in values]
        values = [
            sum((Fraction(float(a)) * v for a, v in zip(row, values, strict=True)), Fraction(float(b)))
            for row, b in zip(weight, bias, strict=True)
        ]
    return values


ROUNDING = Fraction(1, 10**5)  # so that 1e-9 of this share of all terms, 1e-14 of them, counts as rounding


@dataclass(frozen=True)
class TrueError:
    """Largest difference of a shallow network from its model; infinite where it is unbounded.

    Attributes:
        value: Supremum of |shallow(x) - model(x)| in a bounded domain, else of that over 1 + |x|_1.
        relative: Supremum of |shallow(x) - model(x)| over the largest output in the domain (in an unbounded one, over 1
            + |x|_1 times the largest output relative to that), plus `ROUNDING` times the sum of the terms at x
            (`sizes`). It does not change with the scales of layers.
        local: Supremum of |shallow(x) - model(x)| over the sum of the terms at x.
        point: Where `relative` is reached, or approached, in homogeneous coordinates (x, t); None where it is 0.
    """

    value: Fraction | float
    relative: Fraction | float
    local: Fraction | float
    point: tuple[Fraction, ...] | None


@dataclass(frozen=True)
class ExactTree:
    """Function of a tree of half-spaces, by its stored numbers: strict on the active side of every cut.

    Attributes:
        cuts: Inactive and active child of each cut, with `~k` for leaf k, and the number of its row.
        rows: The half-spaces over (x, 1), times a power of two.
        outputs: The rows of each leaf, as in `ExactCell`.
        exponent: Exponent of all outputs.
    """

    cuts: list[list[int]]
    rows: list[Vector]
    outputs: list[tuple[Vector, ...]]
    exponent: int

    def leaves(self, cone: Cone, strict: int = T_ROW) -> Iterator[tuple[int, Cone]]:
        """Yield each leaf that contains points of a cone, with the closure of its part, which may be lower-dimensional.

        The points are those at which the rows of `strict` are positive.
        """
        start = 0 if self.cuts else -1
        stack = [(start, cone, strict)]
        while stack:
            node, part, strict = stack.pop()
            if part.lies_on() & strict:  # no such point; a line is not a point itself, as t = 0 on it
                continue
            if node < 0:
                yield ~node, part
                continue
            inactive, active, number = self.cuts[node]
            row = self.rows[number]
            stack.append((inactive, part.cut(negative(row)), strict))
            stack.append((active, part.cut(row), strict | 1 << part.num_rows))


def exact_tree(shallow: object) -> ExactTree | None:
    """Return the tree stored by a shallow network; None if it contains a number that is not finite."""
    function = shallow.function  # type: ignore[attr-defined]
    cuts = function.half_spaces.rows.detach().cpu().tolist()
    weights, biases = (t.detach().cpu().tolist() for t in (function.selection.weights, function.selection.biases))
    skip, projection = function.selection.skip, function.half_spaces.projection
    dimension = function.num_inputs
    identity = [[float(i == j) for j in range(dimension)] for i in range(dimension)]
    read = identity if projection is None else projection.detach().cpu().tolist()
    added = None if skip is None else skip.detach().cpu().tolist()
    maps = [[[*w, b] for w, b in zip(weight, bias, strict=True)] for weight, bias in zip(weights, biases, strict=True)]
    numbers = [*cuts, *(row for rows in maps for row in rows), *(added or []), *read]
    if not all(math.isfinite(value) for row in numbers for value in row):
        return None
    read_rows, read_exponent = dyadic(read)
    columns = list(zip(*read_rows, strict=True)) or [()] * dimension  # a constant network reads nothing

    def over_inputs(rows: list[Vector]) -> list[Vector]:
        """Convert rows over what the network reads to rows over (x, 1), times 2^read_exponent."""
        return [(*(sum(map(mul, row, column)) for column in columns), row[-1] << read_exponent) for row in rows]

    flat, exponent = dyadic([row for rows in maps for row in rows])
    flat, exponent = over_inputs(flat), exponent + read_exponent
    if added is not None:
        more, other = dyadic(added)
        common, count = max(exponent, other), len(added)
        shifted = [tuple(value << (common - exponent) for value in row) for row in flat]
        beside = [(*(value << (common - other) for value in row), 0) for row in more]
        flat = [tuple(map(sum, zip(row, beside[k % count], strict=True))) for k, row in enumerate(shifted)]
        exponent = common
    outputs = len(biases[0])
    leaves = [tuple(flat[k : k + outputs]) for k in range(0, len(flat), outputs)]
    return ExactTree(function.indicator.tree.tolist(), over_inputs(dyadic(cuts)[0]), leaves, exponent)


def true_error(shallow: object, layers: Sequence[Layer], cells: Sequence[ExactCell]) -> TrueError:
    """Return the exact largest error, by the common refinement of exact cells, leaves of the tree and orthants.

    On each part the difference is affine, so its largest absolute value, and that of its ratio to a positive affine
    function, is at a vertex or along a ray. Parts without an interior count as well, such as the points of a boundary
    that the tree sends to one side.
    """
    tree = exact_tree(shallow)
    if tree is None:
        return TrueError(math.inf, math.inf, math.inf, None)
    bounded = is_bounded(cells)
    scales, terms = output_scales(cells), sizes(layers)
    value: Fraction | float = Fraction(0)
    relative: Fraction | float = Fraction(0)
    local: Fraction | float = Fraction(0)
    where: Vector | None = None
    for cell in cells:
        unit = 1 << (cell.exponent + tree.exponent)
        for cone in _orthants(cell.cone):
            for leaf, part in tree.leaves(cone):
                for ray, _ in part.rays:
                    length = ray[-1] if bounded else sum(map(abs, ray))
                    for i, (found, right) in enumerate(zip(tree.outputs[leaf], cell.outputs, strict=True)):
                        apart = abs((dot(found, ray) << cell.exponent) - (dot(right, ray) << tree.exponent))
                        if apart == 0:
                            continue
                        error = Fraction(apart, unit)
                        value = max(value, error / length if length else math.inf)
                        size = Fraction(dot(terms[0][i], tuple(map(abs, ray))), 1 << terms[1])
                        local = max(local, error / size if size else math.inf)
                        scale = scales[i] * length + ROUNDING * size
                        ratio = error / scale if scale else math.inf
                        if ratio > relative:
                            relative, where = ratio, ray
    if where is None:
        return TrueError(value, relative, local, None)
    return TrueError(value, relative, local, tuple(Fraction(x, where[-1] or max(map(abs, where))) for x in where))


def is_bounded(cells: Sequence[ExactCell]) -> bool:
    """Return whether every cell is bounded."""
    return all(not cell.cone.lines and all(ray[-1] > 0 for ray, _ in cell.cone.rays) for cell in cells)


def output_scales(cells: Sequence[ExactCell]) -> list[Fraction]:
    """Return the supremum of each output's absolute value, over 1 + |x|_1 if the domain is unbounded."""
    bounded, largest = is_bounded(cells), [Fraction(0)] * len(cells[0].outputs)
    for cell in cells:
        for cone in [cell.cone] if bounded else _orthants(cell.cone):
            for ray, _ in cone.rays:
                length = (ray[-1] if bounded else sum(map(abs, ray))) << cell.exponent
                largest = [
                    max(a, Fraction(abs(dot(row, ray)), length)) for a, row in zip(largest, cell.outputs, strict=True)
                ]
    return largest


def _orthants(cone: Cone) -> list[Cone]:
    """Return the parts of a cell between the coordinate hyperplanes that have an interior."""
    parts = [cone]
    dimension = len((*cone.lines, *(ray for ray, _ in cone.rays))[0]) - 1
    for i in range(dimension):
        axis = tuple(int(i == j) for j in range(dimension + 1))
        parts = [side for part in parts for _, side in _sides((), part, axis)]
    return parts


def sizes(layers: Sequence[Layer]) -> tuple[tuple[Vector, ...], int]:
    """Return the sizes of the terms that each output is the sum of: rows over (|x|, 1), and their exponent.

    They are the outputs of the network of absolute values, |W_k| (... |W_1| |x| + |b_1| ...) + |b_k|.
    """
    dimension = len(layers[0][0][0])
    identity = tuple(tuple(int(i == j) for j in range(dimension + 1)) for i in range(dimension))
    cell = ExactCell((), Cone.whole_space(dimension), identity, 0)
    for weight, bias in layers:
        positive = [[abs(float(value)) for value in row] for row in weight]
        cell = ExactCell((), cell.cone, *_affine(cell, positive, [abs(float(value)) for value in bias]))
    return cell.outputs, cell.exponent
