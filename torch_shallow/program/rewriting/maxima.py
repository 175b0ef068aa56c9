"""Write maxima and sorting with ReLUs, and unroll recurrent networks, for tensors or `torch.fx` proxies."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.nn.functional import linear

from torch_shallow.program.rewriting.shapes import NotRewritable, Shapes

Tensorlike = Any
"""A tensor, or a proxy for one."""


def take(x: Tensorlike, dim: int, indices: Sequence[int]) -> Tensorlike:
    """Take entries along a dimension, as a slice if their indices are evenly spaced; no index is negative."""
    step = indices[1] - indices[0] if len(indices) > 1 else 1
    regular = step > 0 and list(indices) == list(range(indices[0], indices[-1] + 1, step))
    index = slice(indices[0], indices[-1] + 1, step) if regular else list(indices)
    return x[(slice(None),) * dim + (index,)]


def max_of_groups(x: Tensorlike, dim: int, size: int, groups: Sequence[Sequence[int]]) -> Tensorlike:
    """Compute the largest entry of each group along a dimension, by a tournament: a group of k takes k - 1 neurons.

    A comparison shared by several groups is made once.

    Args:
        x: a tensor of at least `dim + 1` dimensions.
        dim: the dimension, not negative.
        size: size of that dimension.
        groups: indices along the dimension, at least one in each group.

    Returns:
        One entry along `dim` for each group.
    """
    groups = [list(group) for group in groups]
    while max(map(len, groups)) > 1:
        rounds = [(list(zip(g[::2], g[1::2], strict=False)), g[len(g) - len(g) % 2 :]) for g in groups]
        pairs = list(dict.fromkeys(pair for matches, _ in rounds for pair in matches))
        byes = list(dict.fromkeys(entry for _, bye in rounds for entry in bye))
        left, right = (take(x, dim, side) for side in zip(*pairs, strict=True))
        winners = left + torch.relu(right - left)
        x = torch.cat([winners, take(x, dim, byes)], dim) if byes else winners
        place: dict[object, int] = {entry: i for i, entry in enumerate([*pairs, *byes])}
        groups = [[place[entry] for entry in (*matches, *bye)] for matches, bye in rounds]
        size = len(place)
    winners_of = [group[0] for group in groups]
    return x if winners_of == list(range(size)) else take(x, dim, winners_of)


def pooling_windows(size: int, kernel: int, stride: int, padding: int, dilation: int, ceil_mode: bool) -> list[range]:
    """Return the indices of each window of a max pooling along one dimension, without the padding."""
    reach = dilation * (kernel - 1) + 1
    count = (size + 2 * padding - reach + (stride - 1 if ceil_mode else 0)) // stride + 1
    if ceil_mode and (count - 1) * stride >= size + padding:
        count -= 1
    starts = [i * stride - padding for i in range(count)]
    first = [start + dilation * max(0, -(start // dilation)) for start in starts]
    return [range(a, min(start + reach, size), dilation) for start, a in zip(starts, first, strict=True)]


def adaptive_windows(size: int, count: int) -> list[range]:
    """Return the indices of each of `count` windows of an adaptive pooling along one dimension."""
    return [range(i * size // count, -((-(i + 1) * size) // count)) for i in range(count)]


def sort(x: Tensorlike, dim: int, size: int, wanted: Sequence[int]) -> Tensorlike:
    """Return entries of the ascending order along a dimension, by a sorting network with one neuron per comparator.

    The network is Batcher's odd-even merge sort (Knuth, The Art of Computer Programming 3, section 5.3.4), without the
    comparators that the wanted entries do not need.

    Args:
        x: a tensor of at least `dim + 1` dimensions.
        dim: the dimension, not negative.
        size: size of that dimension.
        wanted: the places of the ascending order to return.
    """
    needed, layers = set(wanted), []
    for layer in reversed(list(_merge_sort_layers(size))):
        kept = [pair for pair in layer if needed.intersection(pair)]
        needed.update(*kept)
        layers.append(kept)
    for layer in filter(None, reversed(layers)):
        low, high = (list(side) for side in zip(*layer, strict=True))
        rest = sorted(set(range(size)).difference(low, high))
        a, b = take(x, dim, low), take(x, dim, high)
        excess = torch.relu(a - b)
        parts = [a - excess, b + excess, *([take(x, dim, rest)] if rest else [])]
        place = {line: i for i, line in enumerate([*low, *high, *rest])}
        x = take(torch.cat(parts, dim), dim, [place[line] for line in range(size)])
    return take(x, dim, list(wanted))


def _merge_sort_layers(size: int) -> Iterator[list[tuple[int, int]]]:
    """Yield comparators (lower line, higher line) that may work at the same time, layer after layer."""
    p = 1
    while p < size:
        k = p
        while k >= 1:
            yield [
                (i + j, i + j + k)
                for j in range(k % p, size - k, 2 * k)
                for i in range(min(k, size - j - k))
                if (i + j) // (2 * p) == (i + j + k) // (2 * p)
            ]
            k //= 2
        p *= 2


Weights = Sequence[Tensorlike]
"""Input weight and hidden weight, and both biases if there are any."""


def rnn_cell(
    shapes: Shapes, x: Tensorlike, h: Tensorlike | None = None, nonlinearity: str = "tanh", weights: Weights = ()
) -> Tensorlike:
    """Compute one step of `nn.RNNCell`: relu(W_ih x + b_ih + W_hh h + b_hh), with h = 0 if it is not given."""
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
    """Compute the same step with the arguments that `torch.export` writes."""
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
    """Compute all steps and layers of `nn.RNN` in eval mode: the output, and the last hidden states."""
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
