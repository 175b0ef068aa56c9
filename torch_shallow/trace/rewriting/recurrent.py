"""Recurrent networks with ReLUs, unrolled over their time steps, on tensors or on `torch.fx` proxies."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn.functional import linear

from torch_shallow.trace.rewriting.maxima import Tensorlike
from torch_shallow.trace.rewriting.shapes import NotRewritable, Shapes

Weights = Sequence[Tensorlike]
"""Input and hidden weight, and both biases if there are any."""


def rnn_cell(
    shapes: Shapes, x: Tensorlike, h: Tensorlike | None = None, nonlinearity: str = "tanh", weights: Weights = ()
) -> Tensorlike:
    """One step of `nn.RNNCell`: relu(W_ih x + b_ih + W_hh h + b_hh), h = 0 where it is not given."""
    _check_nonlinearity(nonlinearity)
    if shapes.num_dims(x) != 2:
        raise NotRewritable("has an input without a batch dimension")
    return torch.relu(_step(weights, linear(x, weights[0], *weights[2:3]), h))


def rnn_relu_cell(
    shapes: Shapes,
    x: Tensorlike,
    h: Tensorlike,
    w_ih: Tensorlike,
    w_hh: Tensorlike,
    b_ih: Tensorlike = None,
    b_hh: Tensorlike = None,
) -> Tensorlike:
    """The same, as `torch.export` writes it."""
    return rnn_cell(shapes, x, h, "relu", [w for w in (w_ih, w_hh, b_ih, b_hh) if w is not None])


def rnn(
    shapes: Shapes,
    x: Tensorlike,
    h: Tensorlike | None = None,
    nonlinearity: str = "tanh",
    weights: Sequence[Weights] = (),
    bidirectional: bool = False,
    batch_first: bool = False,
) -> tuple[Tensorlike, Tensorlike]:
    """All steps and layers of `nn.RNN` in eval mode: the output, and the last hidden states."""
    _check_nonlinearity(nonlinearity)
    if shapes.num_dims(x) != 3:
        raise NotRewritable("has an input without a batch dimension")
    time, steps = shapes.axis(x, 1 if batch_first else 0)
    directions = 2 if bidirectional else 1
    last: list[Tensorlike] = []
    for first in range(0, len(weights), directions):
        outputs = []
        for number in range(first, first + directions):
            state = None if h is None else h[number]
            incoming = linear(x, weights[number][0], *weights[number][2:3])
            states: list[Tensorlike] = [None] * steps
            for step in range(steps)[:: -1 if number > first else 1]:
                states[step] = state = torch.relu(_step(weights[number], incoming.select(time, step), state))
            outputs.append(torch.stack(states, time))
            last.append(state)
        x = torch.cat(outputs, -1)
    return x, torch.stack(last, 0)


def _step(weights: Weights, incoming: Tensorlike, h: Tensorlike | None) -> Tensorlike:
    if h is not None:
        return incoming + linear(h, weights[1], *weights[3:4])
    return incoming + weights[3] if len(weights) > 3 else incoming


def _check_nonlinearity(nonlinearity: str) -> None:
    if nonlinearity != "relu":
        raise NotRewritable(f"has nonlinearity={nonlinearity!r}, which is not piecewise linear; train it with 'relu'")
