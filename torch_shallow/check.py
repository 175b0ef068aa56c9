"""Check a proof, in a file, that two functions differ by at most E everywhere: `python check.py FILE`.

It imports only the standard library, and does not depend on how a proof was found. All numbers in a proof are dyadic
rationals, represented as integers times powers of two; only bounds are rounded, outwards.

**The statement.** f is a ReLU network, z_i = W_i [x; h] + b_i and h_i = max(z_i, 0), where neuron i reads inputs and
earlier neurons, and f(x) = W [x; h] + b. g is a tree. At an inner node, a cut, an affine function H is evaluated, and x
goes to the first subtree where H(x) <= 0, to the second where H(x) > 0. At a leaf g is affine; or the leaf is open, and
nothing is claimed about it. H and the leaves may be given over u = P x; leaves may share a part S x. The domain is a
box, entries of which may be unbounded, and half-spaces n x + c >= 0. The claim is |f - g| <= E (1 + |x|_1) in each
output, at each x of the domain; without the factor if the domain is bounded.

**The proof.** The cell of a node is where s_j H_j(x) >= 0 for all cuts above, with s_j = -1 in a cut's first subtree
and +1 in its second. At a node, neurons are settled with a sign s for its whole cell: active, s = +1, treated as h = z,
or inactive, s = -1, treated as h = 0. If everything that a neuron reads is settled, its row z' is the affine function
that equals z if all these have their signs. Multipliers y_j >= 0 of half-spaces of cell and domain leave r = s z' - sum
y_j s_j H_j, and on the cell s z' >= r >= L - A |x|_1: L is the least value of r's part in the bounded entries of the
box, and A the largest coefficient of the others (also of an entry with one bound, if its least value is not there).

Let h'_i be z'_i or 0, as settled, and d_i >= |h_i - h'_i|. Then |z_i - z'_i| <= e_i := sum_k |W_ik| d_k, and
- active: if z_i >= 0, then |h_i - h'_i| = |z_i - z'_i| <= e_i. If not, h_i = 0 and |h_i - h'_i| = |z'_i|, where z'_i <
  z'_i - z_i <= e_i and -z'_i <= -L. So d_i = max(e_i, -L) suffices.
- inactive: |h_i - h'_i| = max(z_i, 0) <= max(z'_i + e_i, 0) <= max(e_i - L, 0) = d_i.
At a leaf, f differs from the row of the output by at most sum_i |W_i| d_i, and that row from g by the largest value of
the difference in the box. A bound is a pair (b, a), for b + a |x|_1. Sums of pairs, and the larger of each part, bound
sums and maxima (for e_i - L, slopes add up), and b + a |x|_1 <= max(b, a) (1 + |x|_1).

**The file** is JSON, possibly compressed by gzip: a line for f and the domain, then one for each node, a node before
its subtrees, the first before the second. Cuts and leaves end with the neurons settled there: neuron k as k if active,
-1 - k if inactive, or [that, j, y_j, ...], where j >= 0 is a cut above, counted from the root, and -1 - j half-space j
of the domain. See `ReadNetwork`, `ReadDomain` and `ReadTree` for the fields.
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import sys
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from operator import mul
from typing import Any

FORMAT = "torch_shallow proof 1"
FINER = 128  # extra fraction bits of rounded bounds, compared with their rows
Row = tuple[list[int], int]  # coefficients of an affine function, the constant last, as integers times 2 ** -scale
Pair = tuple[int, int]
Leaf = tuple[int, Fraction | None]  # its number, and E on its cell; -1 and None if it is open


class NotAProof(ValueError):
    """Raised if the file is not a proof."""


class NotProven(ValueError):
    """Raised if a step of a proof does not hold."""


def bounds_of_leaves(header: dict[str, Any], nodes: Iterable[Any]) -> Iterator[Leaf]:
    """Check a proof, and yield each leaf with a bound of |f - g|; raise NotAProof, or NotProven if a step fails."""
    tree = _at(1, ReadTree, header)
    for line, node in enumerate(nodes, start=2):
        leaf = _at(line, tree.enter, node)
        if leaf is not None:
            yield leaf
    _expect(tree.complete, "two subtrees of each cut", "the end of the file")


def _at(line: int, step: Callable[[Any], Any], content: Any) -> Any:
    try:
        return step(content)
    except (NotAProof, NotProven) as error:
        raise type(error)(f"line {line}: {error}") from error
    except (KeyError, TypeError, IndexError, AttributeError, ValueError) as error:
        raise NotAProof(f"line {line}: not as expected: {type(error).__name__}: {error}") from error


class ReadNetwork:
    """f: `inputs`; `stages` and `output`, each with `weight` (columns: inputs, then all earlier neurons) and `bias`.

    A row is packed into one integer, with its coefficients as digits, so that adding integers of Python adds rows.
    """

    def __init__(self, data: dict[str, Any]) -> None:
        self.inputs = _below(data["inputs"])
        self.scales: list[int] = []  # scale of each neuron's row
        self.first: list[int] = []  # the first neuron that each neuron or output reads
        self.weights: list[list[int]] = []  # weights of this neuron and those after it, in units of the neuron's row
        self.reads: list[int] = []  # one bit for each neuron that is read
        own: list[list[int]] = []  # weights of the inputs, and the bias
        largest: list[int] = []  # bounds on the coefficients of each row
        for stage in [*_list(data["stages"]), data["output"]]:
            self.neurons = len(self.scales)  # finally, outputs come after the neurons
            bias = _list(stage["bias"])
            weight = _list(stage["weight"], len(bias))
            ints, scale = _exact([v for row in weight for v in _list(row, self.inputs + self.neurons)] + bias)
            width, rows = self.inputs + self.neurons, len(bias)
            table = [ints[i * width : (i + 1) * width] for i in range(rows)]  # followed by the biases
            columns = [j for j in range(self.neurons) if any(row[self.inputs + j] for row in table)]
            low, high = (columns[0], columns[-1] + 1) if columns else (0, 0)
            top = max((self.scales[j] for j in columns), default=0)
            for row, constant in zip(table, ints[rows * width :], strict=True):
                shifted = [row[self.inputs + j] << max(0, top - self.scales[j]) for j in range(low, high)]
                own.append([v << top for v in [*row[: self.inputs], constant]])
                largest.append(max(map(abs, own[-1])) + sum(map(mul, map(abs, shifted), largest[low:high])))
                self.first.append(low)
                self.weights.append(shifted)
                self.reads.append(sum(1 << j for j, v in enumerate(shifted, start=low) if v))
            self.scales += [scale + top] * rows
        self._bits = max(largest, default=0).bit_length() + 2
        self._half = sum(1 << (k * self._bits + self._bits - 1) for k in range(self.inputs + 1))
        self.own = [sum(v << (k * self._bits) for k, v in enumerate(row)) for row in own]

    def unpack(self, packed: int) -> list[int]:
        """Return the coefficients of a packed row."""
        packed, half = packed + self._half, 1 << (self._bits - 1)
        return [(packed >> (k * self._bits) & 2 * half - 1) - half for k in range(self.inputs + 1)]


class ReadDomain:
    """`lower` and `upper`: numbers or null; `rows`: coefficients and constant of half-spaces; `walls`: null or proofs.

    The proofs that entries x_k are bounded, first from above, s = 1, then from below, s = -1, are multipliers [j, y_j,
    ...] of half-spaces, which add up to t x + c >= 0, where t x + s x_k = delta x is tiny. So s x_k <= c + |delta|_1 R,
    R the largest size of an entry in the domain. Let C and D be the largest c and |delta|_1. If D < 1, R is finite, as
    along no direction can the largest entry grow without end, and R <= C + D R.
    """

    def __init__(self, data: dict[str, Any], inputs: int) -> None:
        self.rows: list[Row] = [_exact(_list(row, inputs + 1)) for row in _list(data["rows"])]
        self.lower: list[Any] = [None if v is None else Fraction(*_ratio(v)) for v in _list(data["lower"], inputs)]
        self.upper: list[Any] = [None if v is None else Fraction(*_ratio(v)) for v in _list(data["upper"], inputs)]
        if data["walls"] is not None:
            self._bound(_list(data["walls"], 2 * inputs), inputs)
        self.bounded = None not in [*self.lower, *self.upper]
        self.scale = max([1, *(v.denominator for v in [*self.lower, *self.upper] if v is not None)]).bit_length() - 1
        ends = [[None if v is None else int(v * (1 << self.scale)) for v in e] for e in (self.lower, self.upper)]
        self._ends = list(zip(*ends, strict=True))

    def _bound(self, walls: list[Any], inputs: int) -> None:
        constants, deltas = [Fraction(0)], [Fraction(0)]
        for number, wall in enumerate(walls):
            unit = [int(k == number % inputs) for k in range(inputs)] + [0]
            terms = [(y, self.rows[_below(j, len(self.rows))]) for j, y in _multipliers(wall)]
            ints, scale = _sum([(((1 if number < inputs else -1), 0), (unit, 0)), *terms])
            constants.append(Fraction(ints.pop(), 1 << scale))
            deltas.append(Fraction(sum(map(abs, ints)), 1 << scale))
        if max(deltas) >= 1:
            raise NotProven("the walls do not prove that the domain is bounded")
        reach = max(constants) / (1 - max(deltas))
        ends = [c + delta * reach for c, delta in zip(constants[1:], deltas[1:], strict=True)]
        dyadic = [Fraction(math.ceil(end * (1 << 200)), 1 << 200) for end in ends]
        self.upper, self.lower = dyadic[:inputs], [-end for end in dyadic[inputs:]]

    def least(self, row: list[int]) -> Pair:
        """Return `(b, a)`: an affine function is at least b - a |x|_1 in the box; b has its own unit 2 ** -scale."""
        least, slope = row[-1] << self.scale, 0
        for value, (low, high) in zip(row, self._ends, strict=False):
            end = low if value >= 0 else high
            least, slope = (least, max(slope, abs(value))) if end is None else (least + value * end, slope)
        return least, slope


class ReadTree:
    """g, node by node: `["cut", number, row, settled]`, `["leaf", number, weight, bias, settled]` or `["open"]`.

    The first line has `format`, `network`, `domain`, and `projection` and `skip`, P and S of the statement or null.
    """

    def __init__(self, header: dict[str, Any]) -> None:
        _expect(header["format"] == FORMAT, f"the format {FORMAT!r}", repr(header["format"]))
        self.network = ReadNetwork(header["network"])
        self.domain = ReadDomain(header["domain"], self.network.inputs)
        count, inputs = self.network.neurons, self.network.inputs
        self._outputs, projection, skip = range(count, len(self.network.own)), header["projection"], header["skip"]
        skip = [[0] * inputs for _ in self._outputs] if skip is None else _list(skip)
        self._skip = [_exact([*_list(row, inputs), 0]) for row in skip]
        rows = None if projection is None else [_exact([*_list(row, inputs), 0]) for row in _list(projection)]
        self._projection, self._width = rows, inputs if rows is None else len(rows)
        self._path: list[tuple[Row, list[int]]] = []  # cuts above, with the neurons settled at each
        self._sides: list[int] = []
        self._known = self._off = 0  # one bit for each settled neuron, and for each with d > 0
        self._rows = [0] * count  # packed rows of the neurons settled as active
        self._errors: list[Pair] = [(0, 0)] * count  # d, rounded up, with FINER more bits than the neuron's row
        self._numbers: set[int] = set()
        self.complete = False

    def enter(self, node: Any) -> Leaf | None:
        """Process the next node, and return the bound if it is a leaf."""
        leaf: Leaf = (-1, None)
        settled: list[int] = []
        _expect(not self.complete, "no line after the last node", "one")
        kind, *content = _list(node)
        if kind == "cut":
            _, row, entries = content
            half_space = self._over_inputs(_exact(_list(row, self._width + 1)))
            self._path.append((half_space, self._settle(entries)))
            self._sides.append(-1)
            return None
        if kind != "open":
            _expect(kind == "leaf", "a cut, a leaf or an open cell", repr(kind))
            number, weight, bias, entries = content
            _expect(_below(number) not in self._numbers, "each leaf once", f"leaf {number} again")
            self._numbers.add(number)
            settled = self._settle(entries)
            leaf = number, self._error(_list(weight, len(self._outputs)), _list(bias))
        self._forget(settled)
        while self._path and self._sides[-1] == 1:
            self._forget(self._path.pop()[1])
            self._sides.pop()
        self._sides[-1:] = [1] * bool(self._path)
        self.complete = not self._path
        return leaf

    def _settle(self, entries: Any) -> list[int]:
        network, settled = self.network, []
        for entry in _list(entries):
            code, multipliers = (entry, []) if type(entry) is int else (entry[0], _multipliers(entry[1:]))
            active = code >= 0
            neuron = _below(code if active else ~code, network.neurons)
            _expect(not self._known >> neuron & 1, "each neuron once on a path", f"neuron {neuron} again")
            packed = self._compose(neuron)
            row = network.unpack(packed if active else -packed)
            least, slope = self._least(row, network.scales[neuron], multipliers)
            error, growth = self._error_of(neuron)
            found = (max(error, -least, 0), max(growth, slope)) if active else (max(error - least, 0), growth + slope)
            self._rows[neuron], self._errors[neuron] = packed if active else 0, found
            self._known, self._off = self._known | 1 << neuron, self._off | (found != (0, 0)) << neuron
            settled.append(neuron)
        return settled

    def _forget(self, settled: list[int]) -> None:
        for neuron in settled:
            self._known, self._off = self._known & ~(1 << neuron), self._off & ~(1 << neuron)
            self._rows[neuron], self._errors[neuron] = 0, (0, 0)

    def _compose(self, neuron: int) -> int:
        """Return the packed row of a neuron or output under the settled signs."""
        network = self.network
        missing = network.reads[neuron] & ~self._known
        if missing:
            name = f"neuron {neuron}" if neuron < network.neurons else f"output {neuron - network.neurons}"
            raise NotProven(f"{name} reads neuron {missing.bit_length() - 1}, which is not settled there")
        return sum(map(mul, network.weights[neuron], self._rows[network.first[neuron] :]), network.own[neuron])

    def _error_of(self, neuron: int) -> Pair:
        """Return e of the proof."""
        network = self.network
        if not network.reads[neuron] & self._off:
            return 0, 0
        errors = self._errors[network.first[neuron] :]  # possibly more than are read
        some = [(abs(weight), d) for weight, d in zip(network.weights[neuron], errors, strict=False) if weight]
        return sum(size * d[0] for size, d in some), sum(size * d[1] for size, d in some)

    def _least(self, row: list[int], scale: int, multipliers: list[tuple[int, Pair]]) -> Pair:
        """Return `(b, a)`, rounded outwards: on the cell a row is at least b - a |x|_1, with b FINER than its scale."""
        more = self.domain.scale
        if multipliers:
            terms: list[tuple[Pair, Row]] = [((1, 0), (row, scale))]
            for j, (y, y_scale) in multipliers:
                ints = self._path[_below(j, len(self._path))][0] if j >= 0 else self.domain.rows[~j]
                terms.append(((-y * self._sides[j] if j >= 0 else -y, y_scale), ints))
            row, finest = _sum(terms)
            more += finest - scale
        least, slope = self.domain.least(row)
        return least << FINER >> more, -(-slope << FINER + self.domain.scale >> more)

    def _error(self, weights: list[Any], biases: list[Any]) -> Fraction:
        """Return E at a leaf."""
        network, worst = self.network, Fraction(0)
        for output, skip, weight, bias in zip(self._outputs, self._skip, weights, biases, strict=True):
            own = network.scales[output]
            composed = network.unpack(self._compose(output)), own
            local = self._over_inputs(_exact([*_list(weight, self._width), bias]))
            row, scale = _sum([((1, 0), local), ((1, 0), skip), ((-1, 0), composed)])
            error, growth = (Fraction(part, 1 << own + FINER) for part in self._error_of(output))
            for side in (row, [-v for v in row]):
                least, slope = self.domain.least(side)
                worst = max(worst, error - Fraction(least, 1 << scale + self.domain.scale))
                worst = max(worst, growth + Fraction(slope, 1 << scale))
        return worst

    def _over_inputs(self, row: Row) -> Row:
        if self._projection is None:
            return row
        ints, scale = row
        one = [0] * self.network.inputs + [1]
        return _sum([((v, scale), p) for v, p in zip(ints, [*self._projection, (one, 0)], strict=True)])


def _sum(terms: list[tuple[Pair, Row]]) -> Row:
    """Add rows multiplied by numbers."""
    scale = max(y_scale + own for (_, y_scale), (_, own) in terms)
    total = [0] * len(terms[0][1][0])
    for (y, y_scale), (ints, own) in terms:
        factor = y << (scale - y_scale - own)
        total = [t + factor * v for t, v in zip(total, ints, strict=True)]
    return total, scale


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


def _multipliers(entries: list[Any]) -> list[tuple[int, Pair]]:
    found = []
    for j, value in zip(entries[::2], entries[1::2], strict=True):
        _expect(type(j) is int, "the number of a half-space", repr(j)[:50])
        (y,), scale = _exact([value])
        if y < 0:
            raise NotProven(f"the multiplier of half-space {j} is negative")
        found.append((j, (y, scale)))
    return found


def _list(value: Any, length: int | None = None) -> list[Any]:
    _expect(type(value) is list, "a list", type(value).__name__)
    _expect(length is None or len(value) == length, f"a list of {length}", f"one of {len(value)}")
    return value


def _below(value: Any, end: float = math.inf) -> int:
    _expect(type(value) is int and 0 <= value < end, f"a number from 0 below {end}", repr(value)[:50])
    return int(value)


def _expect(holds: bool, expected: str, found: str) -> None:
    if not holds:
        raise NotAProof(f"expected {expected}, found {found}")


def rounded_up(value: Fraction) -> float:
    """Return the smallest float that is not below a number."""
    try:
        nearest = value.numerator / value.denominator
    except OverflowError:
        return math.inf
    return nearest if Fraction(nearest) >= value else math.nextafter(nearest, math.inf)


def read(path: str) -> Iterator[Any]:
    """Yield the lines of a file, each parsed as JSON."""
    with open(path, "rb") as plain, gzip.open(plain) if plain.peek(2)[:2] == b"\x1f\x8b" else plain as file:
        for number, line in enumerate(file, start=1):
            try:
                yield json.loads(line)
            except (ValueError, RecursionError) as error:
                raise NotAProof(f"line {number}: no JSON: {error}") from error


def check(path: str, claimed: float | None = None) -> tuple[bool, str]:
    """Tell whether a file proves an E, by default its own, and describe what it proves; raise NotAProof or OSError."""
    lines = read(path)
    header: Any = next(lines, None)
    worst, number, leaves, cells = Fraction(-1), -1, 0, 0
    try:
        for leaf, error in bounds_of_leaves(header, lines):
            leaves, cells = leaves + (error is not None), cells + (error is None)
            if error is not None and error > worst:
                number, worst = leaf, error
        size = "" if ReadDomain(header["domain"], header["network"]["inputs"]).bounded else " (1 + |x|_1)"
    except NotProven as failure:
        return False, f"not proven: {failure}"
    where = f"the domain outside of {cells} open cells" if cells else "the domain"
    found = f"{rounded_up(max(worst, Fraction(0)))!r}{size}, which is the bound at leaf {number} of {leaves}"
    claimed = header.get("error") if claimed is None else claimed
    proven = claimed is None or worst <= Fraction(*_ratio(claimed))
    verdict = "proven" if proven else f"not proven, as {claimed} is claimed"
    return proven, f"{verdict}: for all x of {where} |f(x) - g(x)| <= {found}"


def main(arguments: list[str] | None = None) -> int:
    """Check a file, and return 0 if it proves its claim, 1 if not, and 2 if it is not a proof."""
    parser = argparse.ArgumentParser(description="Check a proof that |f - g| <= E for all x of a domain.")
    parser.add_argument("file")
    parser.add_argument("--error", type=float, help="the E to be proven; by default the one that the file claims")
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
