"""Build programs whose outputs are linear functions, minima and maxima of the inputs and outputs of another program."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Float

from torch_shallow.program.relu_program import ReLUProgram, Stage
from torch_shallow.properties.formula import AllOf, Formula, Row


def with_rows(program: ReLUProgram, rows: Sequence[Row]) -> ReLUProgram:
    """Return the program whose outputs are the left sides of rows."""
    weight = np.zeros((len(rows), program.out_weight.shape[1]))
    bias = np.array([row.constant for row in rows], dtype=np.float64)
    for i, row in enumerate(rows):
        chosen, coefficients = list(row.outputs), np.fromiter(row.outputs.values(), dtype=np.float64)
        weight[i] = coefficients @ program.out_weight[chosen]
        bias[i] += coefficients @ program.out_bias[chosen]
        weight[i, list(row.inputs)] += np.fromiter(row.inputs.values(), dtype=np.float64)
    return replace(program, out_shape=(len(rows),), out_weight=weight, out_bias=bias)


def with_formulas(program: ReLUProgram, formulas: Sequence[Formula]) -> ReLUProgram:
    """Return the program whose outputs are the values of formulas: the minimum for "all of", the maximum for "any of".

    Nothing is multiplied out: min(a, b) = a - relu(a - b) and max(a, b) = a + relu(b - a) are applied pairwise, as in a
    tournament, so a formula of n rows takes n - 1 further neurons.

    Args:
        program: the program.
        formulas: formulas with at least one row in each of their parts.
    """
    if all(isinstance(formula, Row) for formula in formulas):
        return with_rows(program, [formula for formula in formulas if isinstance(formula, Row)])
    matches = _Matches(program)
    roots = [matches.enter(formula) for formula in formulas]
    stages = list(program.stages)
    while any(node.waiting or len(node.ready) > 1 for node in matches.nodes):
        stages.append(matches.play())
    forms = np.stack([matches.padded(node.ready[0]) for node in roots])
    # In a box, the omitted neurons are those of the network alone, so the new program stands for itself.
    return replace(
        program,
        out_shape=(len(roots),),
        stages=tuple(stages),
        out_weight=forms[:, 1:].copy(),
        out_bias=forms[:, 0].copy(),
        whole=None,
    )


@dataclass(eq=False)
class _Node:
    """Hold a part of a formula: the known values of its parts, as affine functions, and the number of unknown ones."""

    sign: float
    above: _Node | None
    ready: list[Float[np.ndarray, "one_and_sources"]] = field(default_factory=list)
    waiting: int = 0


class _Matches:
    """Hold the parts of formulas that remain to be compared; a form is a bias, followed by weights of sources."""

    def __init__(self, program: ReLUProgram) -> None:
        self.program, self.nodes = program, list[_Node]()
        self.num_sources = program.out_weight.shape[1]

    def enter(self, formula: Formula, above: _Node | None = None) -> _Node:
        """Create the node of a formula, with all nodes below it."""
        node = _Node(-1.0 if isinstance(formula, AllOf) else 1.0, above)
        if isinstance(formula, Row):
            read = with_rows(self.program, [formula])
            node.ready.append(np.concatenate([read.out_bias, read.out_weight[0]]))
        else:
            for part in formula.parts:
                self.enter(part, node)
        if above is not None:
            above.waiting += 1
        self.nodes.append(node)  # after those below it, so that known values move all the way up at once
        self._hand_up(node)
        return node

    def play(self) -> Stage:
        """Return a stage that compares all pairs that are ready."""
        pairs = []
        for node in self.nodes:
            while len(node.ready) > 1:
                pairs.append((node, node.ready.pop(), node.ready.pop()))
        forms = np.stack([self.padded(node.sign * (b - a)) for node, a, b in self._padded(pairs)])
        for k, (node, a, _) in enumerate(self._padded(pairs)):
            unit = np.zeros(1 + self.num_sources + len(pairs))
            unit[: len(a)], unit[1 + self.num_sources + k] = a, node.sign
            node.ready.append(unit)
        self.num_sources += len(pairs)
        for node in self.nodes:
            self._hand_up(node)
        return Stage("property", forms[:, 1:].copy(), forms[:, 0].copy())

    def padded(self, form: Float[np.ndarray, "some"]) -> Float[np.ndarray, "one_and_sources"]:
        """Extend a form to all present sources."""
        return np.concatenate([form, np.zeros(1 + self.num_sources - len(form))])

    def _padded(self, pairs: list[tuple[_Node, np.ndarray, np.ndarray]]) -> list[tuple[_Node, np.ndarray, np.ndarray]]:
        return [(node, self.padded(a), self.padded(b)) for node, a, b in pairs]

    def _hand_up(self, node: _Node) -> None:
        """Pass the value of a finished part to the whole."""
        if node.above is not None and not node.waiting and len(node.ready) == 1:
            node.above.ready.append(node.ready.pop())
            node.above.waiting -= 1
            node.above = None
