"""A program as one matrix, and the work space of the compiled code that plays its games."""

from __future__ import annotations

import numpy as np

from torch_shallow.compiled.bundle import Bundle
from torch_shallow.program.relu_program import ReLUProgram

BLOCK_PLAYERS, LANES = 7, 128  # players of a block, and their coalitions, which are evaluated together
HIDDEN = 8  # first column of the neurons in a form
DEPTH = 256  # largest number of times that a game is split into halves, one inside the other


class Packed(Bundle):
    """A program as one matrix: a row for each neuron, then one for each output."""

    weight: np.ndarray  # float64 (neurons + outputs, inputs + neurons)
    bias: np.ndarray  # float64 (neurons + outputs,)
    known: np.ndarray  # int64 (neurons + outputs,): number of neurons in the stages before


class Reduced(Bundle):
    """A program reduced to the box between two points: players, and remaining neurons, which may change sign.

    A value is `bias + joins @ [who has joined] + hidden @ relu(values of the remaining neurons)`.
    """

    counts: np.ndarray  # int64 (2,): number of players and of remaining neurons
    players: np.ndarray  # int64 (inputs,): the input of each player
    left: np.ndarray  # int64 (neurons,): the row of each remaining neuron
    bias: np.ndarray  # float64 (rows,): the value if nobody has joined and no remaining neuron is active
    values: np.ndarray  # float64 (rows,): the value if nobody has joined
    joins: np.ndarray  # float64 (rows, inputs): contribution of each player
    hidden: np.ndarray  # float64 (rows, neurons): contribution of each remaining neuron
    status: np.ndarray  # int8 (neurons,): inactive, active or left
    number: np.ndarray  # int64 (neurons,): position of a neuron among those that remain
    form_bias: np.ndarray  # float64 (neurons,): remaining neurons as affine forms in players and errors
    form_joins: np.ndarray  # float64 (neurons, inputs)
    form_errors: np.ndarray  # float64 (neurons, neurons)
    slopes: np.ndarray  # float64 (neurons,): slope of the lower bound of a ReLU
    errors: np.ndarray  # float64 (neurons,): by how much the ReLU may exceed that bound
    row_joins: np.ndarray  # float64 (inputs,): the form of one row
    row_errors: np.ndarray  # float64 (neurons,)


class GameParts(Bundle):
    """Additive parts of a game: players and neurons that have to be evaluated together."""

    parents: np.ndarray  # int64 (inputs + neurons,): parents in the forest of parts
    relevant: np.ndarray  # uint8 (neurons,): whether an output depends on a remaining neuron
    players: np.ndarray  # int64 (inputs,): players of one part
    neurons: np.ndarray  # int64 (neurons,): neurons of one part, among those that remain


class Table(Bundle):
    """Work space for the coalitions of one part; rows are its neurons, followed by the outputs."""

    bias: np.ndarray  # float64 (rows,): the value if nobody has joined and no neuron is active
    values: np.ndarray  # float64 (rows,): the same value with those who have joined outside the block
    joins: np.ndarray  # float64 (players, rows): contribution of each player
    hidden: np.ndarray  # float64 (rows, neurons): contribution of each neuron
    first: np.ndarray  # int64 (rows,): the first neuron that a row reads
    behind: np.ndarray  # int64 (rows,): the neuron after the last one that it reads
    forms: np.ndarray  # float64 (rows, columns): constant, players of the block, and from `HIDDEN` on mixed neurons
    joins_of_block: np.ndarray  # float64 (rows, HIDDEN): direct contributions of the block's players to a form
    rises: np.ndarray  # float64 (rows,): sum of their positive contributions
    falls: np.ndarray  # float64 (rows,): sum of their negative contributions
    alone: np.ndarray  # float64 (neurons, lanes): contribution of each coalition of the block's players
    active: np.ndarray  # int64 (neurons,): neurons that are active in the whole block
    active_before: np.ndarray  # int64 (rows,): number of active neurons before a row
    mixed_before: np.ndarray  # int64 (rows,): number of mixed neurons before a row
    mixed: np.ndarray  # int64 (neurons,): neurons that may change sign in the block
    widths: np.ndarray  # int64 (neurons,): columns of a neuron's form
    most: np.ndarray  # float64 (neurons,): upper bound of a mixed neuron's results
    lanes: np.ndarray  # float64 (neurons, lanes): results of mixed neurons, for each coalition of the block's players
    y: np.ndarray  # float64 (outputs, lanes)
    member: np.ndarray  # float64 (block players, lanes): 1 if a player is in a coalition of the block, else 0
    members: np.ndarray  # int64 (lanes,): number of members
    weights_off: np.ndarray  # float64 (lanes,): weight `off` of each coalition
    weights_both: np.ndarray  # float64 (lanes,): weight `on + off` of each coalition
    on: np.ndarray  # float64 (inputs + 1,): weights from `write_weights`
    off: np.ndarray  # float64 (inputs + 1,)
    inside: np.ndarray  # float64 (outputs, lanes): sums of values times `weights_both`
    sums: np.ndarray  # float64 (outputs, 2): sums of values times `on`, and times `off`
    outside: np.ndarray  # float64 (2, outputs): amount for each player that has joined, and for each that is absent
    shares: np.ndarray  # float64 (inputs,): how much players move neurons


class GameStack(Bundle):
    """Stack of the parts of a game that are still to be played."""

    places: np.ndarray  # int8 (depth, inputs): state of each input: `PLAYER`, or another constant of `game`
    references: np.ndarray  # float64 (depth, outputs): values that are already counted
    base: np.ndarray  # float64 (inputs,)
    change: np.ndarray  # float64 (inputs,)


class Work(Bundle):
    """Everything that compiled code writes to, for one thread."""

    reduced: Reduced
    parts: GameParts
    table: Table
    stack: GameStack


def pack(program: ReLUProgram) -> Packed:
    """Lay out a program as one matrix."""
    d, n, o = program.num_inputs, program.num_neurons, program.num_outputs
    weight, known = np.zeros((n + o, d + n)), np.zeros(n + o, dtype=np.int64)
    for stage, start in zip(program.stages, program.offsets, strict=False):
        rows = slice(start, start + stage.num_neurons)
        weight[rows, : d + start], known[rows] = stage.weight, start
    weight[n:], known[n:] = program.out_weight, n
    return Packed(weight, np.concatenate([*(stage.bias for stage in program.stages), program.out_bias]), known)


def work_space(packed: Packed) -> Work:
    """Allocate the work space for the games of a program."""
    rows, columns = packed.weight.shape
    n = int(packed.known[-1])
    d, o, depth = columns - n, rows - n, min(columns - n, DEPTH) + 2
    players, forms = max(d, BLOCK_PLAYERS), HIDDEN + -(-n // 8) * 8
    reduced = Reduced(
        **_zeros("counts", 2, of=np.int64),
        **_zeros("players", d, of=np.int64),
        **_zeros("left number", n, of=np.int64),
        **_zeros("status", n, of=np.int8),
        **_zeros("bias values", rows),
        **_zeros("joins", rows, d),
        **_zeros("hidden", rows, n),
        **_zeros("form_bias slopes errors row_errors", n),
        **_zeros("form_joins", n, d),
        **_zeros("form_errors", n, n),
        **_zeros("row_joins", d),
    )
    parts = GameParts(
        **_zeros("parents", d + n, of=np.int64),
        **_zeros("relevant", n, of=np.uint8),
        **_zeros("players", d, of=np.int64),
        **_zeros("neurons", n, of=np.int64),
    )
    table = Table(
        **_zeros("bias values rises falls", rows),
        **_zeros("joins", players, rows),
        **_zeros("hidden", rows, n),
        **_zeros("first behind active_before mixed_before", rows, of=np.int64),
        **_zeros("forms", rows, forms),
        **_zeros("joins_of_block", rows, HIDDEN),
        **_zeros("alone lanes", n, LANES),
        **_zeros("active mixed widths", n, of=np.int64),
        **_zeros("most", n),
        **_zeros("y inside", o, LANES),
        **_zeros("member", BLOCK_PLAYERS, LANES),
        **_zeros("members", LANES, of=np.int64),
        **_zeros("weights_off weights_both", LANES),
        **_zeros("on off", d + 1),
        **_zeros("sums", o, 2),
        **_zeros("outside", 2, o),
        **_zeros("shares", d),
    )
    stack = GameStack(
        **_zeros("places", depth, d, of=np.int8), **_zeros("references", depth, o), **_zeros("base change", d)
    )
    return Work(reduced, parts, table, stack)


def _zeros(names: str, *shape: int, of: type = np.float64) -> dict[str, np.ndarray]:
    """Fields of the same shape and dtype."""
    return {name: np.zeros(shape, dtype=of) for name in names.split()}
