"""Runs that stop and go on, as a user sees them."""

from __future__ import annotations

import copy
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import torch_shallow
from torch_shallow import Box, ShallowReLU, TransformError
from torch_shallow.errors import IncompleteWarning

POINTS = 3.0 * torch.randn(500, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def make_model(*head: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 10), nn.ReLU(), nn.Linear(10, 8), nn.LeakyReLU(), nn.Linear(8, 2), *head).double()


def stopped(model: nn.Module, max_regions: int = 60, **options: object) -> ShallowReLU:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", IncompleteWarning)
        part = torch_shallow.transform(model, max_regions=max_regions, **options)
    assert not part.complete
    assert part.num_regions == max_regions
    return part


def assert_equal(found: ShallowReLU, expected: ShallowReLU) -> None:
    state, wanted = found.state_dict(), expected.state_dict()
    assert list(state) == list(wanted)
    for name, tensor in wanted.items():
        assert torch.equal(state[name], tensor), name
    assert found.complete
    assert found.source_hash == expected.source_hash


CALLS = """
import warnings, torch, torch_shallow
from torch import nn

model = nn.Sequential(nn.Linear(3, 10), nn.ReLU(), nn.Linear(10, 8), nn.ReLU(), nn.Linear(8, 2))
with warnings.catch_warnings(record=True) as caught:
    part = torch_shallow.transform(model, max_regions=60)
    part.resume(model, max_regions=70)
    with torch.inference_mode():
        torch_shallow.transform(model, max_regions=60)
for each in caught:
    print(each.filename, each.lineno, each.category.__name__)
"""


def test_the_warning_points_to_the_call() -> None:
    done = subprocess.run([sys.executable, "-c", CALLS], capture_output=True, text=True, timeout=100)
    assert done.stdout.splitlines() == [f"<string> {line} IncompleteWarning" for line in (7, 8, 10)], done.stderr


@pytest.mark.parametrize("store_maps", [True, False])
@pytest.mark.parametrize("domain", [None, Box(-1.0, 1.0)], ids=str)
@pytest.mark.parametrize("head", [(), (nn.Softmax(-1),)], ids=["trunk", "head"])
def test_numbers_where_known_and_elsewhere_none(
    head: tuple[nn.Module, ...], domain: Box | None, store_maps: bool
) -> None:
    model = make_model(*head)
    part = stopped(model, domain=domain, store_maps=store_maps)
    x = POINTS if domain is None else POINTS.clamp(-1.0, 1.0)
    y, known = part(x), part.locate(x) >= 0
    assert 0 < int(known.sum()) < len(x)
    assert torch.allclose(y[known], model(x)[known], rtol=1e-10, atol=1e-12)
    assert y[~known].isnan().all()
    assert part.coverage(x) == pytest.approx(float(known.double().mean()))
    whole = part.resume(model)
    assert_equal(whole, torch_shallow.transform(model, domain=domain, store_maps=store_maps))
    assert whole.stores_maps is store_maps


def test_goes_on_after_saving_and_copying(tmp_path: Path) -> None:
    model = make_model(nn.Softmax(-1))
    part = stopped(model, method="lp", domain=Box(-1.0, 1.0))
    part.save(tmp_path / "part.safetensors")
    expected = torch_shallow.transform(model, method="lp", domain=Box(-1.0, 1.0))
    for again in (ShallowReLU.load(tmp_path / "part.safetensors"), copy.deepcopy(part), part.to(torch.float32)):
        assert again.partition.search == part.partition.search
        assert_equal(again.resume(model), expected)


def test_goes_on_in_a_large_network() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(30, 50), nn.ReLU(), nn.Linear(50, 40), nn.ReLU(), nn.Linear(40, 2)).double()
    domain = Box(-0.015, 0.015)
    expected = torch_shallow.transform(model, domain=domain)
    part = stopped(model, expected.num_regions // 2, domain=domain)
    assert_equal(part.resume(model, workers=2), expected)


def test_a_checkpoint_as_a_user_has_it(tmp_path: Path) -> None:
    model, path = make_model(), tmp_path / "run.checkpoint"
    expected = torch_shallow.transform(model)
    stopped(model, checkpoint=path)
    assert_equal(torch_shallow.transform(model, checkpoint=path), expected)
    with pytest.raises(TransformError, match="another program"):
        torch_shallow.transform(make_model(nn.Linear(2, 2).double()), checkpoint=path)


def test_what_resume_refuses() -> None:
    model = make_model()
    part, whole = stopped(model), torch_shallow.transform(model)
    assert whole.resume(model) is whole
    other = copy.deepcopy(model)
    with torch.no_grad():
        other[0].bias[0] += 1.0
    with pytest.raises(TransformError, match="model: expected the model that this network was made from"):
        part.resume(other)
    with pytest.raises(TransformError, match="resume: expected the network that transform"):
        stopped(model).unfreeze().resume(model)


@pytest.mark.parametrize(
    "argument",
    [
        {"max_regions": 5},
        {"time_limit": 1.0},
        {"workers": 2},
        {"checkpoint": "somewhere"},
        {"store_maps": False},
        {"method": "lp"},
    ],
    ids=lambda argument: next(iter(argument)),
)
def test_what_data_does_not_use(argument: dict[str, object]) -> None:
    with pytest.raises(TransformError, match=f"^data: .* found {next(iter(argument))};"):
        torch_shallow.transform(make_model(), data=POINTS, **argument)


def test_in_inference_mode() -> None:
    model = make_model()
    with torch.inference_mode(), pytest.warns(IncompleteWarning):
        part = torch_shallow.transform(model, max_regions=60)
    x: Tensor = POINTS.clone().requires_grad_()
    known = part.locate(x) >= 0
    part(x)[known].sum().backward()
    assert_equal(part.resume(model), torch_shallow.transform(model))


def test_resumed_in_inference_mode() -> None:
    model = make_model()
    part = stopped(model)
    with torch.inference_mode():
        whole = part.resume(model)
    whole(POINTS.clone().requires_grad_()).sum().backward()


def test_an_older_checkpoint_does_not_replace_what_is_known(tmp_path: Path) -> None:
    model = make_model()
    stopped(model, 10, checkpoint=tmp_path / "old")
    with pytest.raises(TransformError, match="expected a new file, or one with at least the 60 known regions"):
        stopped(model).resume(model, checkpoint=tmp_path / "old")


def test_whole_numbers_are_not_traced_where_they_may_be_unknown() -> None:
    class Classifier(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.logits = make_model()

        def forward(self, x: Tensor) -> Tensor:
            return self.logits(x).argmax(-1)

    whole, part = torch_shallow.transform(Classifier()), stopped(Classifier())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the tracer
        traced = torch.jit.trace(whole, (POINTS,), check_trace=False)
        with pytest.raises(TransformError, match="shallow: expected a network that is known at every point"):
            torch.jit.trace(part, (POINTS[part.locate(POINTS) >= 0],), check_trace=False)
    assert torch.equal(traced(POINTS), whole(POINTS))
    exported = torch.export.export(whole, (POINTS,), dynamic_shapes=({0: torch.export.Dim("rows")},))
    assert torch.equal(exported.module()(POINTS[:7]), whole(POINTS[:7]))
