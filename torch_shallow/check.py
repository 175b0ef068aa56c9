"""Checks a proof, in a file, that two functions differ by at most E everywhere: `python check.py FILE`.

The file imports nothing but the standard library, and knows nothing of how a proof was found. All numbers in a proof
are dyadic rationals, and are computed with as integers times powers of two: nothing is rounded, except bounds, outwards.

**The statement.** f is a ReLU network, z_i = W_i [x; h] + b_i and h_i = max(z_i, 0), where neuron i reads inputs and
earlier neurons, and f(x) = W [x; h] + b. g is a tree. At an inner node, a cut, an affine function H of x is evaluated,
and x goes to the first subtree where H(x) <= 0, to the second where H(x) > 0. A leaf has an affine function of x, which
is g there, or is open: nothing is claimed of it. H, and the leaves, may be given over u = P x; a leaf may have a part S x
that all leaves share. The domain is a box, entries of which may be unbounded, and half-spaces n x + c >= 0.
Claimed is |f - g| <= E (1 + |x|_1) in each output at each x of the domain; without the factor if the domain is bounded.

**The proof.** The cell of a node is where s_j H_j(x) >= 0 for all cuts above it, s_j = -1 in the first subtree of a cut,
+1 in the second. At each node some neurons are settled, with a sign s for all of the cell: s = +1, active, is followed as
h = z, s = -1, inactive, as h = 0. If all that a neuron reads is settled, its row is the affine function z' that its
pre-activation would be if all of these had their signs. Multipliers y_j >= 0 of the half-spaces of the cell and the domain
give r = s z' - sum y_j s_j H_j, affine, and s z' >= r >= L - A |x|_1 on the cell: L is the least value of r in the bounded
entries of the box, and A the largest of its other coefficients (those that may be negative times entry).

Let d_i = |h_i - h'_i|, where h'_i = z'_i or 0 as settled. Then |z_i - z'_i| <= e_i := sum_k |W_ik| d_k, and

- settled as active: if z_i >= 0, then d_i = |z_i - z'_i| <= e_i. If z_i < 0, then h_i = 0 and d_i = |z'_i|, where z'_i <=
  z_i + e_i < e_i and -z'_i <= -L. So d_i <= max(e_i, -L);
- settled as inactive: d_i = max(z_i, 0) <= max(z'_i + e_i, 0) <= max(e_i - L, 0).

At a leaf the output is off from the composed row by at most sum_i |W_i| d_i, and the row from the leaf's function by the
largest value of their difference in the box. Each bound is a pair (b, a), which stands for b + a |x|_1; a sum of pairs, or
the larger of each part of two, is one of sums and maxima, and b + a |x|_1 <= max(b, a) (1 + |x|_1).

**The file**, JSON, or that compressed by gzip: one line for f and the domain, then one for each node, a node before its
subtrees, the first before the second. `"cut"` and `"leaf"` lines end with what is settled there: neuron k as k if active,
as -1 - k if inactive; or [that, j, y_j, ...] with multipliers, where j >= 0 is a cut above, counted from the root, and
-1 - j half-space j of the domain. See `Network`, `Domain` and `Tree` for the fields.
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import sys
from collections.abc import Iterable, Iterator
from fractions import Fraction
from operator import mul
from typing import Any, NamedTuple

FORMAT = "torch_shallow proof 1"
FINER = 128  # bits that bounds have behind those of the rows that they are of, as they are rounded
Row = tuple[list[int], int]  # coefficients of an affine function, the constant last, as integers times 2 ** -scale
Pair = tuple[int, int]


class NotAProof(ValueError):
    """What was read is no proof."""


class NotProven(ValueError):
    """It is one, with a step that does not hold."""


class Leaf(NamedTuple):
    """What is proven of a leaf.

    Attributes:
        number: the leaf's own number, -1 if it is open.
        error: E on its cell; None if it is open.
    """

    number: int
    error: Fraction | None


def bounds_of_leaves(header: dict[str, Any], nodes: Iterable[Any]) -> Iterator[Leaf]:
    """Check a proof, and bound |f - g| on each leaf.

    Args:
        header: the first line.
        nodes: the others.

    Yields:
        The leaves in order.

    Raises:
        NotAProof: the lines are none.
        NotProven: a step does not hold.
    """
    try:
        tree = Tree(header)
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise NotAProof(f"first line: {_reason(error)}") from error
    line = 1
    for line, node in enumerate(nodes, start=2):
        try:
            leaf = tree.enter(node)
        except (KeyError, TypeError, IndexError, AttributeError) as error:
            raise NotAProof(f"line {line}: {_reason(error)}") from error
        except ValueError as error:
            raise type(error)(f"line {line}: {error}") from error
        if leaf is not None:
            yield leaf
    if not tree.complete:
        raise NotAProof(f"line {line}: it is the last one, but subtrees are missing")


class Network:
    """f: `inputs`, and `stages` and `output`, each with `weight` (columns: inputs, then all earlier neurons) and `bias`.

    A row is packed into one integer, its coefficients as digits, so that rows are added up by the integers of Python.
    """

    def __init__(self, data: dict[str, Any]) -> None:
        self.inputs = _count(data["inputs"])
        self.scales: list[int] = []  # of each neuron's row
        self.first: list[int] = []  # the first neuron that each neuron reads, or that an output reads
        self.weights: list[list[int]] = []  # of these and those behind it, in units of the neuron's row
        self.sizes: list[list[int]] = []
        self.reads: list[int] = []  # a bit for each neuron that is read
        own: list[list[int]] = []  # what each reads of the inputs, and the bias
        largest: list[int] = []  # no coefficient of a row is larger
        for stage in [*_list(data["stages"]), data["output"]]:
            self.neurons = len(self.scales)  # at the end, outputs are behind the neurons
            weight, bias = _list(stage["weight"]), _list(stage["bias"])
            _expect(len(weight) == len(bias), "as many rows of weights as biases", f"{len(weight)} and {len(bias)}")
            ints, scale = _exact([v for row in weight for v in _list(row, self.inputs + self.neurons)] + bias)
            width, rows = self.inputs + self.neurons, len(bias)
            table = [ints[i * width : (i + 1) * width] for i in range(rows)]
            columns = [j for j in range(self.neurons) if any(row[self.inputs + j] for row in table)]
            low, high = (columns[0], columns[-1] + 1) if columns else (0, 0)
            top = max((self.scales[j] for j in columns), default=0)
            for row, constant in zip(table, ints[rows * width :], strict=True):
                shifted = [row[self.inputs + j] << max(0, top - self.scales[j]) for j in range(low, high)]
                own.append([v << top for v in [*row[: self.inputs], constant]])
                largest.append(max(map(abs, own[-1])) + sum(map(mul, map(abs, shifted), largest[low:high])))
                self.first.append(low)
                self.weights.append(shifted)
                self.sizes.append([abs(v) for v in shifted])
                self.reads.append(sum(1 << j for j, v in enumerate(shifted, start=low) if v))
            self.scales += [scale + top] * rows
        self._bits = max(largest, default=0).bit_length() + 2
        self._half = sum(1 << (k * self._bits + self._bits - 1) for k in range(self.inputs + 1))
        self.own = [sum(v << (k * self._bits) for k, v in enumerate(row)) for row in own]

    def unpack(self, packed: int) -> list[int]:
        """The coefficients of a packed row."""
        packed, mask, half = packed + self._half, (1 << self._bits) - 1, 1 << (self._bits - 1)
        return [(packed >> (k * self._bits) & mask) - half for k in range(self.inputs + 1)]


class Domain:
    """`lower` and `upper`: numbers or null; `rows`: coefficients and constant of half-spaces; `walls`: null or proofs.

    The proofs are multipliers [j, y_j, ...] of the half-spaces, one for each entry from above, then one for each from
    below, that add up to t with t(x) + c >= 0, where t + s x_k = delta x with tiny coefficients, s = 1 from above and -1
    from below. So s x_k <= c + |delta|_1 R, R the largest entry in the domain. Let C and D be the largest c and |delta|_1:
    if D < 1, there are no directions without end, as along one of them the largest entry could not grow, and R <= C + D R.
    """

    def __init__(self, data: dict[str, Any], inputs: int) -> None:
        self.rows: list[Row] = [_exact(_list(row, inputs + 1)) for row in _list(data["rows"])]
        self.lower: list[Any] = [None if v is None else Fraction(*_ratio(v)) for v in _list(data["lower"], inputs)]
        self.upper: list[Any] = [None if v is None else Fraction(*_ratio(v)) for v in _list(data["upper"], inputs)]
        if data["walls"] is not None:
            self._bound(_list(data["walls"], 2 * inputs), inputs)
        self.bounded = None not in [*self.lower, *self.upper]
        known = [v for v in [*self.lower, *self.upper] if v is not None]
        self.scale = max((v.denominator.bit_length() - 1 for v in known), default=0)
        ends = [[None if v is None else int(v * (1 << self.scale)) for v in e] for e in (self.lower, self.upper)]
        self._ends = list(zip(*ends, strict=True))

    def _bound(self, walls: list[Any], inputs: int) -> None:
        constants, deltas = [], []
        for number, wall in enumerate(walls):
            total = [Fraction(0)] * (inputs + 1)
            for j, (y, y_scale) in _multipliers(wall):
                ints, scale = self.rows[_below(j, len(self.rows))]
                total = [t + Fraction(y * v, 1 << (y_scale + scale)) for t, v in zip(total, ints, strict=True)]
            total[number % inputs] += 1 if number < inputs else -1
            constants.append(total.pop())
            deltas.append(sum(map(abs, total)))
        share = max(deltas, default=Fraction(0))
        if share >= 1:
            raise NotProven("first line: the walls do not prove that the domain is bounded")
        reach = max(max(constants, default=Fraction(0)), Fraction(0)) / (1 - share)
        ends = [c + delta * reach for c, delta in zip(constants, deltas, strict=True)]
        dyadic = [Fraction(math.ceil(end * (1 << 200)), 1 << 200) for end in ends]
        self.upper, self.lower = dyadic[:inputs], [-end for end in dyadic[inputs:]]

    def least(self, row: list[int]) -> Pair:
        """`(b, a)`: an affine function is at least b - a |x|_1 in the box; b is in units of 2 ** -scale of its own."""
        least, slope = row[-1] << self.scale, 0
        for value, (low, high) in zip(row, self._ends, strict=False):
            end = low if value >= 0 else high
            if end is not None:
                least += value * end
            else:
                slope = max(slope, abs(value))
        return least, slope


class Tree:
    """g, node by node: `["cut", number, row, settled]`, `["leaf", number, weight, bias, settled]` or `["open"]`.

    The first line has `format`, `network`, `domain`, and `projection` and `skip`, P and S of the statement or null.
    """

    def __init__(self, header: dict[str, Any]) -> None:
        _expect(header["format"] == FORMAT, f"the format {FORMAT!r}", repr(header["format"]))
        self.network = Network(header["network"])
        self.domain = Domain(header["domain"], self.network.inputs)
        self.complete = False
        count, inputs = self.network.neurons, self.network.inputs
        projection, skip = header["projection"], header["skip"]
        self._projection = None if projection is None else _matrix(projection, inputs)
        self._skip = None if skip is None else _matrix(skip, inputs)
        self._outputs = range(count, len(self.network.own))
        if self._skip is not None:
            _list(skip, len(self._outputs))
        self._width = inputs if projection is None else len(projection)
        self._path: list[tuple[Row, list[int]]] = []  # cuts above, with what is settled at each
        self._sides: list[int] = []
        self._known = 0  # a bit for each settled neuron
        self._rows = [0] * count  # packed, of those that are settled as active
        self._errors: list[Pair] = [(0, 0)] * count  # d, rounded up, FINER than the neuron's row
        self._off = 0  # a bit for each neuron that has any
        self._numbers: set[int] = set()

    def enter(self, node: Any) -> Leaf | None:
        """Take the next node; the bound, if it is a leaf."""
        _expect(not self.complete, "no line behind the last node", "one")
        kind = _list(node)[0]
        if kind == "cut":
            _list(node, 4)
            row = self._over_inputs(_exact(_list(node[2], self._width + 1)))
            self._path.append((row, self._settle(node[3])))
            self._sides.append(-1)
            return None
        if kind == "open":
            _list(node, 1)
            leaf, settled = Leaf(-1, None), []
        else:
            _list(node, 5)
            _expect(kind == "leaf", "a cut, a leaf or an open cell", repr(kind))
            _expect(node[1] not in self._numbers, "each leaf once", f"leaf {node[1]} again")
            self._numbers.add(_count(node[1]))
            settled = self._settle(node[4])
            leaf = Leaf(node[1], self._error(node[1], _list(node[2], len(self._outputs)), node[3]))
        self._forget(settled)
        while self._path and self._sides[-1] == 1:
            self._forget(self._path.pop()[1])
            self._sides.pop()
        if self._path:
            self._sides[-1] = 1
        else:
            self.complete = True
        return leaf

    def _settle(self, entries: Any) -> list[int]:
        """Settle neurons; returns which."""
        network, settled = self.network, []
        for entry in _list(entries):
            code, multipliers = (entry, []) if type(entry) is int else (entry[0], _multipliers(entry[1:]))
            active = code >= 0
            neuron = _below(code if active else ~code, network.neurons)
            _expect(not self._known >> neuron & 1, "each neuron once on a path", f"neuron {neuron} again")
            scale = network.scales[neuron]
            packed = self._compose(neuron, f"neuron {neuron}")
            row = network.unpack(packed if active else -packed)
            least, slope = self._least(row, scale, multipliers)
            error, growth = self._error_of(neuron)
            if active:
                self._rows[neuron] = packed
                found = max(error, -least, 0), max(growth, slope)
            else:
                found = max(error - least, 0), growth + slope
            self._errors[neuron] = found
            self._known |= 1 << neuron
            if found != (0, 0):
                self._off |= 1 << neuron
            settled.append(neuron)
        return settled

    def _forget(self, settled: list[int]) -> None:
        for neuron in settled:
            self._known &= ~(1 << neuron)
            self._off &= ~(1 << neuron)
            self._rows[neuron], self._errors[neuron] = 0, (0, 0)

    def _compose(self, neuron: int, name: str) -> int:
        """The row of a neuron or output under the signs that are settled, packed."""
        network = self.network
        missing = network.reads[neuron] & ~self._known
        if missing:
            raise NotProven(f"{name} reads neuron {missing.bit_length() - 1}, which is not settled there")
        first, weights = network.first[neuron], network.weights[neuron]
        return sum(map(mul, weights, self._rows[first : first + len(weights)]), network.own[neuron])

    def _error_of(self, neuron: int) -> Pair:
        """What is wrong with that row at most: e in the statement."""
        network = self.network
        if not network.reads[neuron] & self._off:
            return 0, 0
        first, sizes = network.first[neuron], network.sizes[neuron]
        some = [pair for pair in zip(sizes, self._errors[first : first + len(sizes)], strict=True) if pair[0]]
        return sum(size * d[0] for size, d in some), sum(size * d[1] for size, d in some)

    def _least(self, row: list[int], scale: int, multipliers: list[tuple[int, Pair]]) -> Pair:
        """`(b, a)`, rounded outwards: on the cell an affine function is at least b - a |x|_1, all in its own units."""
        terms, finest = [], scale
        for j, (y, y_scale) in multipliers:
            if y < 0:
                raise NotProven(f"multiplier {j} is negative")
            ints, own = self._path[_below(j, len(self._path))][0] if j >= 0 else self.domain.rows[~j]
            terms.append((-y * self._sides[j] if j >= 0 else -y, ints, own + y_scale))
            finest = max(finest, own + y_scale)
        if terms:
            row = [value << (finest - scale) for value in row]
            for factor, ints, own in terms:
                factor <<= finest - own
                row = [value + factor * v for value, v in zip(row, ints, strict=True)]
        least, slope = self.domain.least(row)
        more = finest - scale
        return least << FINER >> (more + self.domain.scale), -(-slope << FINER >> more)

    def _error(self, number: int, weight: list[Any], bias: Any) -> Fraction:
        """E at a leaf."""
        network, worst = self.network, Fraction(0)
        for output, (coefficients, constant) in enumerate(zip(weight, _list(bias, len(weight)), strict=True)):
            neuron = self._outputs[output]
            row, own = network.unpack(self._compose(neuron, f"output {output}")), network.scales[neuron]
            ints, scale = self._over_inputs(_exact([*_list(coefficients, self._width), constant]))
            if self._skip is not None:
                (more, more_scale), common = self._skip[output], max(scale, self._skip[output][1])
                more = [*more, 0]
                ints = [(v << common - scale) + (w << common - more_scale) for v, w in zip(ints, more, strict=True)]
                scale = common
            common = max(scale, own)
            difference = [(v << common - scale) - (w << common - own) for v, w in zip(ints, row, strict=True)]
            error, growth = self._error_of(neuron)
            for side in (difference, [-v for v in difference]):
                least, slope = self.domain.least(side)
                constant_part = Fraction(-least, 1 << common + self.domain.scale) + Fraction(error, 1 << own + FINER)
                worst = max(worst, constant_part, Fraction(slope, 1 << common) + Fraction(growth, 1 << own + FINER))
        return worst

    def _over_inputs(self, row: Row) -> Row:
        """A row over u as one over x."""
        if self._projection is None:
            return row
        ints, scale = row
        common = max((own for _, own in self._projection), default=0)
        total = [0] * self.network.inputs
        for value, (coefficients, own) in zip(ints, self._projection, strict=False):
            total = [t + (value * c << common - own) for t, c in zip(total, coefficients, strict=True)]
        return [*total, ints[-1] << common], scale + common


def _ratio(value: Any) -> tuple[int, int]:
    if type(value) is int:
        return value, 1
    if type(value) is not float or not math.isfinite(value):
        raise NotAProof(f"expected a finite number, found {str(value)[:50]!r}")
    return value.as_integer_ratio()


def _exact(values: list[Any]) -> Row:
    ratios = [_ratio(value) for value in values]
    scale = max((denominator.bit_length() - 1 for _, denominator in ratios), default=0)
    return [n << (scale - d.bit_length() + 1) for n, d in ratios], scale


def _matrix(rows: Any, columns: int) -> list[Row]:
    return [_exact(_list(row, columns)) for row in _list(rows)]


def _multipliers(entries: list[Any]) -> list[tuple[int, Pair]]:
    _expect(len(entries) % 2 == 0, "multipliers with their half-spaces", f"{len(entries)} entries")
    found = []
    for j, value in zip(entries[::2], entries[1::2], strict=True):
        _expect(type(j) is int, "the number of a half-space", repr(j)[:50])
        ints, scale = _exact([value])
        found.append((j, (ints[0], scale)))
    return found


def _list(value: Any, length: int | None = None) -> list[Any]:
    _expect(type(value) is list, "a list", type(value).__name__)
    _expect(length is None or len(value) == length, f"a list of {length}", f"one of {len(value)}")
    return value  # type: ignore[no-any-return]


def _count(value: Any) -> int:
    _expect(type(value) is int and value >= 0, "a number from 0", repr(value)[:50])
    return int(value)


def _below(value: Any, end: int) -> int:
    _expect(type(value) is int and 0 <= value < end, f"a number below {end}", repr(value)[:50])
    return int(value)


def _expect(holds: bool, expected: str, found: str) -> None:
    if not holds:
        raise NotAProof(f"expected {expected}, found {found}")


def _reason(error: Exception) -> str:
    return f"{'no entry' if isinstance(error, KeyError) else 'not as expected:'} {error}"


def rounded_up(value: Fraction) -> float:
    """The least float that is not below a number."""
    try:
        nearest = value.numerator / value.denominator
    except OverflowError:
        return math.inf
    return nearest if Fraction(nearest) >= value else math.nextafter(nearest, math.inf)


def read(path: str) -> Iterator[Any]:
    """The lines of a file, each as JSON."""

    def refuse(text: str) -> None:
        raise NotAProof(f"expected finite numbers, found {text}")

    with open(path, "rb") as plain:
        compressed = plain.read(2) == b"\x1f\x8b"
    with gzip.open(path, "rb") if compressed else open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                yield json.loads(line, parse_constant=refuse)
            except (ValueError, RecursionError) as error:
                raise NotAProof(f"line {number}: {error}") from error


def check(path: str, error: float | None = None) -> tuple[bool, str]:
    """Whether a file proves what it claims, or that E is at most a number, and that in words.

    Raises:
        NotAProof: it is no proof.
        OSError: it cannot be read.
    """
    lines = read(path)
    header = next(lines, None)
    _expect(isinstance(header, dict) and header.get("format") == FORMAT, f"a file of the format {FORMAT!r}", "another")
    claimed = Fraction(*_ratio(header.get("error") if error is None else error))
    worst, leaves, cells = Leaf(-1, Fraction(0)), 0, 0
    try:
        for leaf in bounds_of_leaves(header, lines):
            leaves, cells = leaves + (leaf.error is not None), cells + (leaf.error is None)
            if leaf.error is not None and (worst.number < 0 or leaf.error > worst.error):  # type: ignore[operator]
                worst = leaf
        size = "" if Domain(header["domain"], header["network"]["inputs"]).bounded else " (1 + |x|_1)"
    except NotProven as failure:
        return False, f"not proven: {failure}"
    found = rounded_up(worst.error or Fraction(0))
    where = "the domain" if not cells else f"the domain outside of {cells} open cells"
    words = f"for all x of {where} |f(x) - g(x)| <= {found!r}{size}; {leaves} leaves, the largest bound at {worst.number}"
    if worst.error is not None and worst.error > claimed:
        return False, f"not proven: {float(claimed)!r} is claimed; {words}"
    return True, f"proven: {words}"


def main(arguments: list[str] | None = None) -> int:
    """Check a file; 0 if it proves what it claims, 1 if not, 2 if it is no proof."""
    parser = argparse.ArgumentParser(description="Check a proof that |f - g| <= E for all x of a domain.")
    parser.add_argument("file")
    parser.add_argument("--error", type=float, help="the E that is to be proven; by default what the file claims")
    options = parser.parse_args(arguments)
    try:
        proven, words = check(options.file, options.error)
    except (NotAProof, OSError, EOFError) as error:
        sys.stderr.write(f"{options.file}: {error}\n")
        return 2
    sys.stdout.write(f"{options.file}: {words}\n")
    return 0 if proven else 1


if __name__ == "__main__":
    sys.exit(main())
