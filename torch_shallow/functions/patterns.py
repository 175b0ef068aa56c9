"""Define the second and third layers of a network of visited regions: their patterns and affine maps."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64, UInt8, UInt64
from torch import Tensor, nn

from torch_shallow.display import counted

FEW = 16  # at most this many candidates are compared as a whole


class Patterns(nn.Module):
    """Hold known activation patterns, all different, as bits.

    Args:
        num_neurons: length of a pattern.

    Attributes:
        packed: one row for each pattern, as `np.packbits` packs it.
    """

    packed: Tensor
    _numbers: dict[bytes, int] | None
    _transposed: np.ndarray | None

    def __init__(self, num_neurons: int) -> None:
        super().__init__()
        self.num_neurons = num_neurons
        self.register_buffer("packed", torch.zeros(0, -(-num_neurons // 8), dtype=torch.uint8))
        self._forget()

    def __len__(self) -> int:
        return len(self.packed)

    def unpacked(self, regions: Int64[np.ndarray, "some"]) -> Bool[np.ndarray, "some neurons"]:
        """Return the patterns with the given numbers."""
        rows = self.packed[torch.from_numpy(regions).to(self.packed.device)].cpu().numpy()
        return np.unpackbits(rows, axis=1, count=self.num_neurons).astype(bool)

    def new(self, blocks: Iterable[UInt8[np.ndarray, "rows bytes"]]) -> dict[bytes, int]:
        """Return the unknown patterns among the given rows, in order of appearance, each with its first row."""
        first: dict[bytes, int] = {}
        for row, key in enumerate(bytes(row) for block in blocks for row in block):
            if key not in self._table:
                first.setdefault(key, row)
        return first

    def add(self, patterns: Collection[bytes]) -> None:
        """Add new patterns."""
        rows = np.frombuffer(b"".join(patterns), dtype=np.uint8).reshape(len(patterns), self.packed.shape[1])
        self.packed = torch.cat([self.packed, torch.tensor(rows, device=self.packed.device)])
        self._forget()

    def find(self, packed: UInt8[np.ndarray, "rows bytes"]) -> Int64[np.ndarray, "rows"]:
        """Return the number of each pattern; -1 for unknown ones."""
        return np.array([self._table.get(key, -1) for key in map(bytes, packed)], dtype=np.int64)

    def find_agreeing(
        self, packed: UInt8[np.ndarray, "rows bytes"], undecided: UInt8[np.ndarray, "rows bytes"]
    ) -> Int64[np.ndarray, "rows"]:
        """Return the number of the first pattern that agrees with each row wherever the row is decided; -1 if none."""
        rows, decided = _words(packed), ~_words(undecided)
        return np.array([self._first(*pair) for pair in zip(rows, decided, strict=True)], dtype=np.int64)

    def _first(self, row: UInt64[np.ndarray, "words"], decided: UInt64[np.ndarray, "words"]) -> int:
        candidates = np.arange(len(self))
        for known, bits, mask in zip(self._columns, row, decided, strict=True):
            if len(candidates) <= FEW:
                break
            candidates = candidates[(known[candidates] ^ bits) & mask == 0]
        differs = (self._columns[:, candidates] ^ row[:, None]) & decided[:, None]
        candidates = candidates[~differs.any(axis=0)]
        return int(candidates[0]) if len(candidates) else -1

    @property
    def _table(self) -> dict[bytes, int]:
        """The number of each pattern."""
        if self._numbers is None:
            self._numbers = {key: number for number, key in enumerate(map(bytes, self.packed.cpu().numpy()))}
        return self._numbers

    @property
    def _columns(self) -> UInt64[np.ndarray, "words patterns"]:
        """The patterns in words, transposed."""
        if self._transposed is None:
            self._transposed = np.ascontiguousarray(_words(self.packed.cpu().numpy()).T)
        return self._transposed

    def _forget(self) -> None:
        """Discard what was derived from the patterns, since they have changed."""
        self._numbers = None
        self._transposed = None

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._forget()

    def extra_repr(self) -> str:
        """Describe the numbers of patterns and neurons."""
        return f"{counted(len(self), 'pattern')} of {counted(self.num_neurons, 'neuron')}"


def pack(bits: Bool[Tensor, "rows neurons"]) -> UInt8[np.ndarray, "rows bytes"]:
    """Pack eight neurons into a byte."""
    return np.packbits(bits.cpu().numpy(), axis=1)


def _words(packed: UInt8[np.ndarray, "rows bytes"]) -> UInt64[np.ndarray, "rows words"]:
    """Pack eight bytes into a word, filling the last one with zeros."""
    return np.pad(packed, ((0, 0), (0, -packed.shape[1] % 8))).view(np.uint64)


ENTRIES_AT_ONCE = 1 << 24  # number of gathered weights: 128 MB


class LocalModels(nn.Module):
    """Hold the affine maps of the regions, in order.

    Args:
        num_outputs: number of entries of one output of the trunk.
        num_inputs: number of entries of one input.
    """

    weights: Tensor
    biases: Tensor

    def __init__(self, num_outputs: int, num_inputs: int) -> None:
        super().__init__()
        self.register_buffer("weights", torch.zeros(0, num_outputs, num_inputs, dtype=torch.float64))
        self.register_buffer("biases", torch.zeros(0, num_outputs, dtype=torch.float64))

    def __len__(self) -> int:
        return len(self.biases)

    def forward(
        self, region: Int64[Tensor, "points"], x: Float[Tensor, "points inputs"]
    ) -> Float[Tensor, "points outputs"]:
        """Compute the output of each region's map, a few points at a time, since their weights are gathered."""
        size = max(1, ENTRIES_AT_ONCE // max(1, self.weights[:1].numel()))
        parts = [
            torch.einsum("poi,pi->po", self.weights[some], rows) + self.biases[some]
            for some, rows in zip(region.split(size), x.split(size), strict=True)
        ]
        return torch.cat(parts)

    def forget(self) -> None:
        """Discard all maps."""
        self.weights, self.biases = self.weights[:0].clone(), self.biases[:0].clone()

    def extra_repr(self) -> str:
        """Describe the number of maps and their size."""
        regions, outputs, inputs = self.weights.shape
        return f"{counted(regions, 'local model')}, {counted(inputs, 'input')} to {counted(outputs, 'output')}"
