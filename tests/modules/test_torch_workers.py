"""Worker processes of a DataLoader call a network of their own or of shared memory."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from tests.modules.torch_networks import assert_same, network, points_and_outsiders, shared
from torch_shallow import ShallowReLU


class Labelled(Dataset[Tensor]):
    """Rows with what the network says of them."""

    def __init__(self, shallow: ShallowReLU, x: Tensor) -> None:
        self.shallow, self.x = shallow, x

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, row: int) -> Tensor:
        return self.shallow(self.x[row])


class InBatches:
    """Rows to what the network says of them, all of a batch at once."""

    def __init__(self, shallow: ShallowReLU) -> None:
        self.shallow = shallow

    def __call__(self, rows: list[Tensor]) -> Tensor:
        return self.shallow(torch.stack(rows))


@pytest.mark.parametrize("start", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ["descent in a box", "head"])
def test_in_two_worker_processes(name: str, start: str) -> None:
    shallow, x = network(name).share_memory(), points_and_outsiders(name, 60)
    expected = shared(name)(x)  # in threads of this process, which a fork does not have
    common = {"batch_size": 30, "num_workers": 2, "multiprocessing_context": start}
    if start == "fork":
        assert_same(torch.cat(list(DataLoader(Labelled(shallow, x), **common))), expected)
    assert_same(torch.cat(list(DataLoader(x, collate_fn=InBatches(shallow), **common))), expected)


@pytest.mark.usefixtures("several_threads")
def test_a_large_batch_after_a_fork() -> None:
    # Large enough that the rows are shared between threads, before the fork and after it.
    shallow, x = network("descent in a box"), 3.0 * torch.rand(200_000, 2, dtype=torch.float64) - 1.0
    expected = shallow(x)
    both = Labelled(shallow, torch.stack([x, x.flip(0)]))
    loader = DataLoader(both, batch_size=None, num_workers=2, multiprocessing_context="fork")
    assert_same(torch.cat(list(loader)), torch.cat([expected, expected.flip(0)]))
