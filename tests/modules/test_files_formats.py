"""Files of old formats keep loading.

`tests/modules/files` keeps a few files of each format, as the version that introduced it wrote them. They were made by
`make(folder)` below and are never made again.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from torch_shallow import Box, Polytope, ShallowReLU, transform
from torch_shallow.errors import IncompleteWarning
from torch_shallow.modules.visited_relu import VisitedReLU

FILES = Path(__file__).parent / "files"
POINTS = torch.tensor([[0.0, 0.0], [0.5, -0.25], [-1.0, 1.0], [0.75, 0.5], [3.0, 0.0]], dtype=torch.float64)


def model(*more: nn.Module) -> nn.Sequential:
    """2 inputs, 3 and 2 neurons, 2 outputs, weights that need no random numbers."""
    layers = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 2), *more).double()
    with torch.no_grad():
        for number, parameter in enumerate(layers.parameters()):
            values = torch.arange(parameter.numel(), dtype=torch.float64)
            parameter.copy_((((values * 7 + number * 3) % 11 - 5) / 4).reshape(parameter.shape))
    return layers


def make(folder: Path) -> None:
    """One file of each kind of network."""
    transform(model()).save(folder / "plain.safetensors")
    transform(model(), domain=Polytope([[1.0, 1.0], [-1.0, 0.0]], [1.5, 2.0])).save(folder / "polytope.safetensors")
    transform(model(nn.Softmax(-1)), domain=Box(-1.0, [1.0, 2.0])).save(folder / "head.safetensors")
    transform(model(nn.Softmax(-1)), data=POINTS).save(folder / "data.safetensors")
    transform(model(), store_maps=False).save(folder / "on_demand.safetensors")  # since format 2, as the next
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", IncompleteWarning)
        transform(model(), max_regions=6, method="lp").save(folder / "incomplete.safetensors")


TRUNK = [[-0.5625, -1.328125], [-1.296875, -1.51171875], [-0.25, -1.25], [-0.25, -1.25], [-1.6875, -2.6875]]
SOFTMAX = [
    [0.682573734412324, 0.3174262655876758],
    [0.5535052882890054, 0.4464947117109947],
    *[[0.7310585786300049, 0.26894142136999516]] * 3,
]
NAN = [float("nan")] * 2
EXPECTED = {
    "plain": TRUNK,
    "polytope": [*TRUNK[:4], NAN],
    "head": [*SOFTMAX[:4], NAN],
    "data": SOFTMAX,
    "on_demand": TRUNK,
    "incomplete": [*TRUNK[:2], NAN, *TRUNK[3:]],
}
REGIONS = {"plain": 13, "polytope": 11, "head": 9, "data": 4, "on_demand": 13, "incomplete": 6}
SAVED = [
    (number, name)
    for number in (1, 2, 3, 4)
    for name in EXPECTED
    if (FILES / f"format_{number}" / f"{name}.safetensors").exists()
]


def test_the_files_are_there() -> None:
    assert len(SAVED) == 4 + 6 + 5 + 5


@pytest.mark.parametrize(("number", "name"), SAVED)
def test_old_formats_keep_loading(number: int, name: str) -> None:
    shallow = ShallowReLU.load(FILES / f"format_{number}" / f"{name}.safetensors")
    expected = torch.tensor(EXPECTED[name], dtype=torch.float64)
    assert torch.allclose(shallow(POINTS), expected, rtol=1e-12, atol=1e-12, equal_nan=True)
    assert shallow.num_regions == REGIONS[name]
    assert isinstance(shallow, VisitedReLU) is (name == "data")
    assert shallow.complete is (name not in ("data", "incomplete"))
    assert shallow.stores_maps is (name != "on_demand")
    behind: list[nn.Module] = [nn.Softmax(-1)] if name in ("head", "data") else []
    assert shallow.made_from(model(*behind))
    assert shallow.certify(model(*behind)).passed
    assert name == "data" or shallow.regions[0].half_spaces.names[0] == "stage 1 neuron 0 inactive"


def test_an_incomplete_network_goes_on_after_loading() -> None:
    part = ShallowReLU.load(FILES / "format_2" / "incomplete.safetensors")
    whole, expected = part.resume(model()).state_dict(), transform(model(), method="lp").state_dict()
    assert all(torch.equal(whole[name], tensor) for name, tensor in expected.items())


def test_a_network_of_data_grows_after_loading() -> None:
    shallow = ShallowReLU.load(FILES / "format_1" / "data.safetensors")
    more: Tensor = -POINTS
    assert shallow.grow(more) == 1
    assert torch.allclose(shallow(more), model(nn.Softmax(-1))(more).detach(), atol=1e-12)
