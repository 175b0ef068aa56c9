"""Check proofs, in a file, that a ReLU network keeps bounds on a whole domain: `python check_bounds.py FILE`.

It imports only the standard library and `check.py`, and does not depend on how a proof was found. All numbers are
dyadic rationals, represented as integers times powers of two; only bounds are rounded, outwards.

**The statement.** The network is z_i = W_i [x; h] + b_i and h_i = max(z_i, 0), where neuron i reads inputs and earlier
neurons; its outputs are g = W [x; h] + b. The first of them are goals, the others are conditions, and so are the
half-spaces n x + c of the domain. The claim is min g <= B over the goals, at each x of the box where no condition is
negative. A file has one or more statements, about one network or several.

**The tree.** A cut of neuron i splits a cell in two: where z_i <= 0, and where z_i >= 0. Everything proven at a node
holds on its cell: at all x of the box where no condition is negative and the neurons cut above have the signs chosen
there. Known at each node are bounds l_i <= z_i <= u_i, at first those of interval arithmetic. A step at a node proves
another such bound from those known so far, and a leaf proves the bound B.

**The rule.** An affine function of z is bounded from above: in a step z_i or -z_i, at a leaf the sum of the goals times
weights w >= 0. To it, conditions and terms z_i - l_i and u_i - z_i are added, each times a multiplier y >= 0; on the
cell, none of these is negative. Stage by stage, the last one first, z is replaced by W [x; h] + b, and each term a h_i
by t z_i + c, which is nowhere smaller on the cell:
- if u_i <= 0, then h_i = 0, and t = c = 0; if l_i >= 0, then h_i = z_i, t = a and c = 0;
- else, if a >= 0: for any t, a max(z, 0) - t z is convex in z, so c is its larger value at l_i and u_i;
- else, if a < 0: a h_i <= t z_i for any a <= t <= 0, as h_i >= 0 and h_i >= z_i.
As h_i >= 0, a may be rounded up. The result is an affine function of x, whose largest value in the box is known. At a
leaf it bounds sum w times min g. If all w are zero and it is negative, the cell contains no point. A cell may also be
declared empty if l_i > u_i for some neuron.

**Pairs** (i, j) of neurons of a stage have a unit d = h_j - h_i, for which bounds of e = z_j - z_i are known. Since
max(z, 0) grows with z, but no faster, -max(-e, 0) <= d <= max(e, 0). So a h_i + b h_j may be rewritten as (a + b) h_i +
b d or (a + b) h_j - a d, and a positive multiple of d or -d is bounded like that of the ReLU of e or -e.

**The file** is JSON, possibly compressed by gzip. The first line gives the format and the number of statements. Each
statement is a line, described by `ReadReLUs` and `ReadStatement`, and its nodes, a node before its subtrees, the first
(z <= 0) before the second: `["cut", steps, i]`, `["leaf", steps, w, multipliers]` or `["empty", steps]`. Steps come in
lists, each of which uses only the lists before it. A step is k for the upper bound of z_k, -1 - k for the lower one, or
`[that, j, y_j, ...]` with multipliers: j = 2 k is that of u_k - z_k, 2 k + 1 that of z_k - l_k, and -1 - j that of
condition j. Pair p is numbered as neuron N + p. Where the rule leaves a choice, this program makes it, so as to lose
little.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator
from fractions import Fraction
from operator import mul
from typing import Any, NamedTuple

if __package__:
    from torch_shallow import check
else:  # run as a separate file, beside the other
    import check  # type: ignore[import-not-found, no-redef]

FORMAT = "torch_shallow bounds 1"
FINER = 64  # extra fraction bits of coefficients and bounds, compared with the weights
CLEARLY = 1 << 20  # choices between two nearly equal values should not depend on a last bit
Undo = list[tuple[int, int, int]]  # a neuron or pair, and its previous bounds


class Columns(NamedTuple):
    """Hold rows over the inputs and some neurons, column by column, with numbers in units of 2 ** -scale."""

    start: int  # index of the first neuron
    inputs: list[list[int]]  # a column for each input
    sources: list[tuple[int, list[int]]]  # a column for each neuron that is read
    bias: list[int]
    pairs: list[tuple[int, int, int]]  # index of the pair, and the places of its neurons among the rows


class ReadReLUs:
    """`inputs`; `stages`: `weight` (columns: inputs, then all earlier neurons) and `bias`; `pairs` of neurons; `bits`.

    `bits` is any number for which all weights are integers in units of 2 ** -bits; it is called the scale here.
    """

    def __init__(self, data: dict[str, Any]) -> None:
        self.inputs, self.scale, self.neurons = check._below(data["inputs"]), check._below(data["bits"], 1 << 14), 0
        self.bits = self.scale + FINER
        self.stages: list[Columns] = []
        for content in check._list(data["stages"]):
            self.stages.append(self.rows(content["weight"], content["bias"]))
            self.neurons += len(self.stages[-1].bias)
        self.pairs: list[tuple[int, int]] = []
        for pair in check._list(data["pairs"]):
            first, second = (check._below(k, self.neurons) for k in check._list(pair, 2))
            stage = max((s for s in self.stages if s.start <= first), key=lambda s: s.start)
            places = first - stage.start, second - stage.start
            check._expect(0 <= places[1] < len(stage.bias), "pairs of neurons of the same stage", str(pair))
            stage.pairs.append((self.neurons + len(self.pairs), *places))
            self.pairs.append((first, second))
        self.paired = {k for pair in self.pairs for k in pair}

    def rows(self, weight: Any, bias: Any) -> Columns:
        """Return columns that may read all neurons so far."""
        constants, d = self.exact(check._list(bias)), self.inputs
        table = [self.exact(check._list(row, d + self.neurons)) for row in check._list(weight, len(constants))]
        columns = [list(column) for column in zip(*table, strict=True)] or [[] for _ in range(d + self.neurons)]
        sources = [(j, column) for j, column in enumerate(columns[d:]) if any(column)]
        return Columns(self.neurons, columns[:d], sources, constants, [])

    def exact(self, values: list[Any]) -> list[int]:
        """Convert numbers to units of 2 ** -scale."""
        return self.scaled(*check._exact(values))

    def scaled(self, ints: list[int], scale: int) -> list[int]:
        """Convert integers in units of 2 ** -scale to the network's units."""
        check._expect(scale <= self.scale, f"numbers of at most {self.scale} fraction bits", str(scale))
        return [v << self.scale - scale for v in ints]


class ReadStatement:
    """`domain` of `check.ReadDomain`; `outputs`: `weight` and `bias`; `goals`: how many; `bound`: B, or null."""

    def __init__(self, network: ReadReLUs) -> None:
        self.network, self.complete = network, False
        self._lower: list[int] = []
        self._upper: list[int] = []
        self._path: list[tuple[Undo, int, Undo]] = []  # for each cut: changes by steps, neuron, changes by the cut
        self._signs: list[int] = []

    def read(self, data: dict[str, Any]) -> None:
        """Read the statement, before its nodes are entered."""
        network = self.network
        domain = check.ReadDomain(data["domain"], network.inputs)
        check._expect(domain.bounded, "a bounded domain", "one without bounds")
        ends = [[end * (1 << network.bits) for end in side] for side in (domain.lower, domain.upper)]
        self.box = [(math.floor(low), math.ceil(high)) for low, high in zip(*ends, strict=True)]
        weight, bias = data["outputs"]["weight"], data["outputs"]["bias"]
        self.goals = check._below(data["goals"], len(check._list(bias)) + 1)
        check._expect(self.goals > 0, "a goal", "none")
        self.outputs = network.rows(weight, bias)
        self._add_half_spaces(domain.rows)
        self._begin()

    def _add_half_spaces(self, rows: list[check.Row]) -> None:
        for ints, scale in rows:
            *normal, constant = self.network.scaled(ints, scale)
            for column, value in zip(self.outputs.inputs, normal, strict=True):
                column.append(value)
            for _, column in self.outputs.sources:
                column.append(0)
            self.outputs.bias.append(constant)

    def _begin(self) -> None:
        """Compute bounds by interval arithmetic."""
        low, high, bits = self._lower, self._upper, self.network.bits
        for stage in self.network.stages:
            ends = [(max(low[j], 0), max(high[j], 0)) for j, _ in stage.sources]
            columns = [*stage.inputs, *(column for _, column in stage.sources)]
            least, most = ([b << bits for b in stage.bias] for _ in range(2))
            for column, (start, stop) in zip(columns, [*self.box, *ends], strict=True):
                least = [v + min(w * start, w * stop) for v, w in zip(least, column, strict=True)]
                most = [v + max(w * start, w * stop) for v, w in zip(most, column, strict=True)]
            low += [v >> self.network.scale for v in least]
            high += [-(-v >> self.network.scale) for v in most]
        for first, second in self.network.pairs:
            low.append(low[second] - high[first])
            high.append(high[second] - low[first])

    def enter(self, node: Any) -> Fraction | None:
        """Process the next node, and return the bound if it is a leaf with points."""
        check._expect(not self.complete, "no line after the last node", "one")
        kind, steps, *content = check._list(node)
        changed: Undo = []
        for group in check._list(steps):
            for found in [self._step(step) for step in check._list(group)]:
                self._learn(*found, changed)
        if kind == "cut":
            (neuron,) = content
            check._below(neuron, self.network.neurons)
            self._path.append((changed, neuron, self._decide(neuron, -1)))
            self._signs.append(-1)
            return None
        bound = None
        if kind == "leaf":
            bound = self._leaf(*content)
        else:
            self._empty(kind, content)
        self._forget(changed)
        while self._path and self._signs[-1] == 1:
            changed, _, decided = self._path.pop()
            self._signs.pop()
            self._forget(decided)
            self._forget(changed)
        self.complete = not self._path
        if self._path:
            changed, neuron, decided = self._path.pop()
            self._forget(decided)
            self._path.append((changed, neuron, self._decide(neuron, 1)))
            self._signs[-1] = 1
        return bound

    def _empty(self, kind: Any, content: list[Any]) -> None:
        check._expect(kind == "empty" and not content, "a cut, a leaf or an empty cell", repr(kind)[:50])
        if not any(low > high for low, high in zip(self._lower, self._upper, strict=True)):
            raise check.NotProven("no bounds contradict each other in a cell that is declared empty")

    def _decide(self, neuron: int, sign: int) -> Undo:
        low, high = self._lower[neuron], self._upper[neuron]
        self._lower[neuron], self._upper[neuron] = (max(low, 0), high) if sign > 0 else (low, min(high, 0))
        return [(neuron, low, high)]

    def _forget(self, changed: Undo) -> None:
        for k, low, high in reversed(changed):
            self._lower[k], self._upper[k] = low, high

    def _step(self, step: Any) -> tuple[int, int]:
        code, *entries = [step] if type(step) is int else check._list(step)
        start: dict[int, int] = {}
        self._add(start, code if code >= 0 else ~code, 1 << self.network.bits if code >= 0 else -1 << self.network.bits)
        return code, self._bound(start, [0] * len(self.outputs.bias), entries)

    def _add(self, into: dict[int, int], k: int, value: int) -> None:
        """Add a multiple of a neuron's pre-activation, or of a pair's difference."""
        n = self.network.neurons
        check._below(k, len(self._lower))
        first, second = self.network.pairs[k - n] if k >= n else (k, k)
        into[second] = into.get(second, 0) + value
        if k >= n:
            into[first] = into.get(first, 0) - value

    def _learn(self, code: int, bound: int, changed: Undo) -> None:
        k = code if code >= 0 else ~code
        changed.append((k, self._lower[k], self._upper[k]))
        if code >= 0:
            self._upper[k] = min(self._upper[k], bound)
        else:
            self._lower[k] = max(self._lower[k], -bound)

    def _leaf(self, weights: Any, multipliers: Any) -> Fraction | None:
        bits = self.network.bits
        pairs = check._multipliers([v for pair in enumerate(check._list(weights, self.goals)) for v in pair])
        shares = [(y << bits) >> scale for _, (y, scale) in pairs]
        start = shares + [0] * (len(self.outputs.bias) - self.goals)
        bound = self._bound({}, start, check._list(multipliers))
        if sum(shares):
            return Fraction(bound, sum(shares))
        if bound >= 0:
            raise check.NotProven(
                "a cell is declared to have no points, but the bound that should prove this is not negative"
            )
        return None

    def _bound(self, start: dict[int, int], outputs: list[int], multipliers: list[Any]) -> int:
        """Apply the rule: bound the sum of neurons and outputs times coefficients, all in units of 2 ** -bits."""
        bits, network, into, constant = self.network.bits, self.network, dict(start), 0
        for j, (y, scale) in check._multipliers(multipliers):
            value = (y << bits) >> scale
            if j >= 0:
                self._add(into, j // 2, value if j % 2 else -value)
                constant += value * (-self._lower[j // 2] if j % 2 else self._upper[j // 2])
            else:
                outputs[self.goals + check._below(~j, len(outputs) - self.goals)] += value
        scale, terms, inputs = (
            network.scale,
            [0] * network.neurons,
            [0] * network.inputs,
        )  # finer than bits
        for stage in [self.outputs, *reversed(network.stages)]:
            row = outputs
            if stage is not self.outputs:
                leaving = [-(-v >> scale) for v in terms[stage.start : stage.start + len(stage.bias)]]
                row, more = self._through(stage, leaving)
                constant += more
                for k in into:
                    if 0 <= k - stage.start < len(row):
                        row[k - stage.start] += into[k]
            places = [place for place, a in enumerate(row) if a]
            if not places:
                continue
            some = [row[place] for place in places]
            constant += sum(map(mul, row, stage.bias)) << FINER
            for i, column in enumerate(stage.inputs):
                inputs[i] += sum(map(mul, row, column))
            for j, column in stage.sources:
                if self._upper[j] > 0 or j in network.paired:  # otherwise h_j = 0, which matters only for a pair
                    terms[j] += sum(map(mul, some, map(column.__getitem__, places)))
        most = sum(max(a * low, a * high) for a, (low, high) in zip(inputs, self.box, strict=True))
        return -(-((constant << scale) + most) >> bits + scale)

    def _through(self, stage: Columns, row: list[int]) -> tuple[list[int], int]:
        """Convert coefficients of a stage's outputs to coefficients of its pre-activations, and a constant."""
        low, high, start, constant = self._lower, self._upper, stage.start, 0
        of_pairs = []
        for unit, i, j in stage.pairs:
            a, b = row[i], row[j]
            if a * b < 0:
                e = low[unit], high[unit]
                f, g = (low[start + i], high[start + i]), (low[start + j], high[start + j])
                ways = [
                    (CLEARLY * (_loss(a, *f) + _loss(b, *g)), a, b, 0),
                    ((CLEARLY + 1) * (_loss(a + b, *f) + _loss_of_pair(b, *e)), a + b, 0, b),
                    ((CLEARLY + 2) * (_loss(a + b, *g) + _loss_of_pair(-a, *e)), 0, a + b, -a),
                ]
                _, row[i], row[j], of_unit = min(ways, key=lambda way: way[0])
                of_pairs.append((i, j, of_unit, *e))
        for place, a in enumerate(row):
            if a:
                k = start + place
                row[place], more = _relaxed(a, low[k], high[k])
                constant += more
        for i, j, a, least, most in of_pairs:
            into, more = _relaxed(abs(a), *((least, most) if a > 0 else (-most, -least)))
            into = into if a > 0 else -into
            row[i], row[j], constant = row[i] - into, row[j] + into, constant + more
        return row, constant


def _relaxed(a: int, low: int, high: int) -> tuple[int, int]:
    """Return `(t, c)` with a max(z, 0) <= t z + c for low <= z <= high."""
    if high <= 0:
        return 0, 0
    if low >= 0:
        return a, 0
    if a >= 0:
        t = a * high // (high - low)
        return t, max(-t * low, (a - t) * high)
    return (a if CLEARLY * high > -(CLEARLY + 1) * low else 0), 0


def _loss(a: int, low: int, high: int) -> int:
    """Estimate the largest error of `_relaxed`, on which only a choice depends."""
    if low >= 0 or high <= 0:
        return 0
    return -(a * high // (high - low)) * low if a >= 0 else -a * min(-low, high)


def _loss_of_pair(a: int, low: int, high: int) -> int:
    return max(0, a * high, a * low)


def proven_bound(statement: ReadStatement, nodes: Iterator[tuple[int, Any]]) -> Fraction | None:
    """Check a statement's nodes, each with its line, and return the bound; None if no point meets its conditions."""
    worst: Fraction | None = None
    while not statement.complete:
        line, node = next(nodes, (0, None))
        check._expect(line > 0, "two subtrees of each cut", "the end of the file")
        found = check._at(line, statement.enter, node)
        if found is not None:
            worst = found if worst is None else max(worst, found)
    return worst


def statements(lines: Iterator[Any]) -> Iterator[tuple[Any, Fraction | None]]:
    """Yield what each statement claims, and the proven bound; raise NotAProof, or NotProven if a step fails."""
    numbered = enumerate(lines, start=1)
    nothing: dict[str, Any] = {}
    _, header = next(numbered, (1, nothing))
    check._expect(type(header) is dict and header.get("format") == FORMAT, f"the format {FORMAT!r}", "another one")
    networks: list[ReadReLUs] = []
    for _ in range(check._below(header.get("statements"))):
        line, data = next(numbered, (0, nothing))
        check._expect(type(data) is dict and line > 0, "a statement", "something else, or the end of the file")
        if data.get("network") is not None:
            networks = [check._at(line, ReadReLUs, data["network"])]
        check._expect(bool(networks), "a network in the first statement", "none")
        statement = ReadStatement(networks[0])
        check._at(line, statement.read, data)
        yield data.get("bound"), proven_bound(statement, numbered)
    check._expect(next(numbered, None) is None, "no line after the last node", "one")


def check_bounds(path: str) -> tuple[bool, str]:
    """Tell whether a file proves all that it claims, and describe what it proves; raise NotAProof or OSError."""
    try:
        found = list(statements(check.read(path)))
    except check.NotProven as failure:
        return False, f"not proven: {failure}"
    words: list[str] = []
    for claimed, bound in found:
        value = "has no points" if bound is None else f"min g(x) <= {check.rounded_up(bound)!r}"
        proven = bound is None or (claimed is not None and bound <= Fraction(*check._ratio(claimed)))
        if not proven:
            return False, f"not proven: {claimed} is claimed of statement {len(words) + 1}, and {value}"
        words.append(value)
    return (
        True,
        f"proven: for all x of the domain where no condition is negative, {'; '.join(words) or 'nothing is claimed'}",
    )


def main(arguments: list[str] | None = None) -> int:
    """Check a file, and return 0 if it proves its claims, 1 if not, and 2 if it is not a proof."""
    parser = argparse.ArgumentParser(description="Check proofs of bounds of a ReLU network for all x of a domain.")
    parser.add_argument("file")
    options = parser.parse_args(arguments)
    try:
        proven, words = check_bounds(options.file)
    except (check.NotAProof, OSError, EOFError) as error:
        sys.stderr.write(f"{options.file}: {error}\n")
        return 2
    sys.stdout.write(f"{options.file}: {words}\n")
    return 0 if proven else 1


if __name__ == "__main__":
    sys.exit(main())
