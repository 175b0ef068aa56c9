"""Additive parts of a game: players that reach a common neuron belong together, also through deeper neurons."""

from __future__ import annotations

import numpy as np

from torch_shallow.compiled.functions import compiled
from torch_shallow.explain.shapley.packed import Parts, Reduced


@compiled()
def find_parts(reduced: Reduced, parts: Parts) -> None:
    """Write the forest that joins players and neurons on which an output depends: those of a part have one root."""
    k, m = reduced.counts[0], reduced.counts[1]
    n = reduced.status.shape[0]
    for i in range(k + m):
        parts.parents[i] = i
    for j in range(m - 1, -1, -1):
        parts.relevant[j] = 0
        for row in range(n, reduced.hidden.shape[0]):
            if reduced.hidden[row, j] != 0.0:
                parts.relevant[j] = 1
        for later in range(j + 1, m):
            if parts.relevant[later] == 1 and reduced.hidden[reduced.left[later], j] != 0.0:
                parts.relevant[j] = 1
    for j in range(m):
        if parts.relevant[j] == 0:
            continue
        row = reduced.left[j]
        for p in range(k):
            if reduced.joins[row, p] != 0.0:
                _join(parts.parents, k + j, p)
        for earlier in range(j):
            if reduced.hidden[row, earlier] != 0.0:
                _join(parts.parents, k + j, k + earlier)


@compiled()
def collect_part(reduced: Reduced, parts: Parts, root: int) -> tuple[int, int]:
    """Write the players and the relevant neurons of the part of a root; returns their numbers."""
    players = neurons = 0
    k = reduced.counts[0]
    for p in range(k):
        if find(parts.parents, p) == root:
            parts.players[players] = p
            players += 1
    for j in range(reduced.counts[1]):
        if parts.relevant[j] == 1 and find(parts.parents, k + j) == root:
            parts.neurons[neurons] = j
            neurons += 1
    return players, neurons


@compiled()
def find(parents: np.ndarray, i: int) -> int:
    """The root of the tree that something is in."""
    while parents[i] != i:
        parents[i] = parents[parents[i]]
        i = parents[i]
    return i


@compiled()
def _join(parents: np.ndarray, a: int, b: int) -> None:
    a, b = find(parents, a), find(parents, b)
    parents[max(a, b)] = min(a, b)
