"""Join several networks in one, whose input holds those of all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn


class Joint(nn.Module):
    """Place networks side by side: the outputs of all, in order, as a function of one vector.

    Args:
        networks: the networks; one may occur several times.
        places: for each argument of each network, the indices of its entries in the vector; some may be shared.
        shapes: for each argument of each network, its shape without the batch.
    """

    def __init__(
        self,
        networks: Sequence[nn.Module],
        places: Sequence[Sequence[Sequence[int]]],
        shapes: Sequence[Sequence[tuple[int, ...]]],
    ) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)
        self.shapes = [list(of_network) for of_network in shapes]
        for k, of_network in enumerate(places):
            for i, entries in enumerate(of_network):
                self.register_buffer(f"places_{k}_{i}", torch.as_tensor(entries, dtype=torch.int64), persistent=False)

    def example(self) -> Tensor:
        """Return a batch of one vector, in the dtype of the networks."""
        size = 1 + max(int(buffer.max()) for name, buffer in self.named_buffers() if name.startswith("places_"))
        like = next(self.parameters(), torch.zeros(()))
        return torch.zeros(1, size, dtype=like.dtype)

    def forward(self, x: Any) -> Any:
        """Compute the outputs for a batch of vectors, flattened."""
        found = []
        for k, network in enumerate(self.networks):
            arguments = [
                x.index_select(1, getattr(self, f"places_{k}_{i}")).reshape(-1, *shape)
                for i, shape in enumerate(self.shapes[k])
            ]
            found.append(network(*arguments).reshape(x.shape[0], -1))
        return torch.cat(found, 1)
