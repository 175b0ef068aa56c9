"""Join two networks in one program: stage by stage, with known pairs of neurons, or one after the other."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Float, Int

from torch_shallow.program.relu_program import ReLUProgram, Stage, WholeNetwork


def coupled(a: ReLUProgram, b: ReLUProgram) -> ReLUProgram:
    """Join two networks stage by stage in one program, whose outputs are those of `a`, followed by those of `b`.

    Each stage has the neurons of that stage of `a`, followed by those of `b`. If all stages of both networks have the
    same number of neurons, as before and after pruning, neurons in the same place form pairs.

    Args:
        a: a program.
        b: a program with the same inputs and outputs.
    """
    stages_of = [_stages_of(program) for program in (a, b)]
    places: list[Int[np.ndarray, "neurons"]] = [np.zeros(p.num_neurons, dtype=np.int64) for p in (a, b)]
    stages, count = [], 0
    for number in np.unique(np.concatenate(stages_of)).tolist():
        own = [np.flatnonzero(of == number) for of in stages_of]
        width = a.num_inputs + count
        blocks, biases, names = [], [], []
        for program, neurons, place in zip((a, b), own, places, strict=True):
            if len(neurons) == 0:
                continue
            stage = program.stages[int(np.searchsorted(program.offsets, neurons[0], side="right")) - 1]
            blocks.append(_spread(stage.weight, place, a.num_inputs, width))
            biases.append(stage.bias)
            names.append(stage.name)
            place[neurons] = np.arange(count, count + len(neurons))
            count += len(neurons)
        stages.append(Stage(" and ".join(dict.fromkeys(names)), np.concatenate(blocks), np.concatenate(biases)))
    width = a.num_inputs + count
    outputs = [_spread(p.out_weight, place, a.num_inputs, width) for p, place in zip((a, b), places, strict=True)]
    return ReLUProgram(
        a.in_shape,
        (2, *a.out_shape),
        tuple(stages),
        np.concatenate(outputs),
        np.concatenate([a.out_bias, b.out_bias]),
        pairs=_pairs(a, b, *places),
    )


def side_by_side(a: ReLUProgram, b: ReLUProgram) -> ReLUProgram:
    """Join two networks in one program, with the stages of `a` followed by those of `b`; outputs as for `coupled`.

    Unlike `coupled`, it keeps the patterns of the whole networks.
    """
    places: list[Int[np.ndarray, "neurons"]] = [np.arange(a.num_neurons), a.num_neurons + np.arange(b.num_neurons)]
    stages, count = [], 0
    for name, program, place in zip("ab", (a, b), places, strict=True):
        for stage in program.stages:
            width = a.num_inputs + count
            stages.append(Stage(f"{name}: {stage.name}", _spread(stage.weight, place, a.num_inputs, width), stage.bias))
            count += stage.num_neurons
    width = a.num_inputs + count
    outputs = [_spread(p.out_weight, place, a.num_inputs, width) for p, place in zip((a, b), places, strict=True)]
    return ReLUProgram(
        a.in_shape,
        (2, *a.out_shape),
        tuple(stages),
        np.concatenate(outputs),
        np.concatenate([a.out_bias, b.out_bias]),
        _whole(a, b) if a.whole or b.whole else None,
    )


def difference_of(both: ReLUProgram) -> ReLUProgram:
    """Return the outputs of the first network minus those of the second, given both as one program."""
    outputs = both.num_outputs // 2
    return replace(
        both,
        out_shape=both.out_shape[1:],
        out_weight=both.out_weight[:outputs] - both.out_weight[outputs:],
        out_bias=both.out_bias[:outputs] - both.out_bias[outputs:],
    )


def _whole(a: ReLUProgram, b: ReLUProgram) -> WholeNetwork:
    """Join all neurons of both networks, including those that keep their sign in the box and are in no program."""
    one, other = a.network, b.network
    neurons = np.concatenate([one.neurons, other.neurons + len(one.active)])
    return WholeNetwork((*one.sizes, *other.sizes), np.concatenate([one.active, other.active]), neurons)


def _stages_of(program: ReLUProgram) -> Int[np.ndarray, "neurons"]:
    """Return the stage of the whole network to which each neuron belongs."""
    network = program.network
    return np.searchsorted(np.cumsum([0, *network.sizes]), network.neurons, side="right") - 1


def _pairs(
    a: ReLUProgram, b: ReLUProgram, of_a: Int[np.ndarray, "some"], of_b: Int[np.ndarray, "others"]
) -> Int[np.ndarray, "pairs 2"] | None:
    """Return pairs of neurons in the same place, given the places of each program's neurons among all."""
    if a.network.sizes != b.network.sizes:
        return None
    _, first, second = np.intersect1d(a.network.neurons, b.network.neurons, return_indices=True)
    return np.column_stack([of_a[first], of_b[second]]) if len(first) else None


def _spread(
    weight: Float[np.ndarray, "rows sources"], place: Int[np.ndarray, "neurons"], inputs: int, width: int
) -> Float[np.ndarray, "rows width"]:
    """Convert a weight over one network's sources to a weight over the sources of both networks."""
    wide = np.zeros((len(weight), width))
    wide[:, :inputs] = weight[:, :inputs]
    wide[:, inputs + place[: weight.shape[1] - inputs]] = weight[:, inputs:]
    return wide
