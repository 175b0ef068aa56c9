"""The hash of a model's weights is that of these weights and of no others."""

from __future__ import annotations

import copy
from pathlib import Path

import jaxtyping
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tests.zoo import chain
from torch_shallow import ShallowReLU, TransformError, transform
from torch_shallow.program.model import hash_tensors, weights_hash

pytestmark = pytest.mark.quick


def model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(chain(2, 4, 3), nn.BatchNorm1d(3)).eval()


@given(st.data())
def test_one_bit_of_one_weight_changes_it(data: st.DataObject) -> None:
    changed = model()
    name = data.draw(st.sampled_from([name for name, value in changed.state_dict().items() if value.dim()]))
    weights = changed.state_dict()[name].view(-1).view(torch.uint8)
    weights[data.draw(st.integers(0, len(weights) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    assert weights_hash(changed) != weights_hash(model())


def test_names_dtypes_and_shapes_count_and_nothing_else() -> None:
    expected = weights_hash(model())
    assert len(bytes.fromhex(expected)) == 32
    compiled = torch.compile(model(), backend="eager")
    for same in (model(), copy.deepcopy(model()), model().requires_grad_(False), model().train(), compiled):
        assert weights_hash(same) == expected
    renamed = nn.Sequential(*model()[0], model()[1])
    for other in (model().double(), model().half(), renamed, model()[0], nn.Sequential(*model(), nn.PReLU())):
        assert weights_hash(other) != expected
    assert weights_hash(nn.Sequential(*model(), nn.ReLU())) == expected  # no weights
    assert weights_hash(nn.DataParallel(model())) == expected


def test_tensors_of_every_kind() -> None:
    base = torch.arange(6.0)
    assert hash_tensors({"a": base.reshape(2, 3).T}) == hash_tensors({"a": base.reshape(2, 3).T.contiguous()})
    assert hash_tensors({"a": base, "b": base}) != hash_tensors({"a": base})
    assert hash_tensors({"a": base[:3], "b": base[3:]}) != hash_tensors({"a": base[:4], "b": base[4:]})
    assert hash_tensors({"a": base, "b": base[:1]}) == hash_tensors({"b": base[:1].clone(), "a": base})
    kinds = [base[0], base[:0], base.bool(), base.bfloat16(), base.to(torch.complex64).conj(), base.to_sparse(), "text"]
    assert len({hash_tensors({"a": kind}) for kind in kinds}) == len(kinds)


def test_weights_of_several_names() -> None:
    tied = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2))
    tied[2].weight = tied[0].weight
    apart = copy.deepcopy(tied)
    apart[2].weight = nn.Parameter(tied[0].weight.detach().clone())
    assert weights_hash(tied) == weights_hash(apart)
    with torch.no_grad():
        apart[2].weight[0, 0] += 1.0
    assert weights_hash(tied) != weights_hash(apart)


class Constant(nn.Module):
    def __init__(self, value: float) -> None:
        super().__init__()
        self.layer, self.constant = nn.Linear(2, 2), torch.full((2,), value)
        nn.init.ones_(self.layer.weight)
        nn.init.ones_(self.layer.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x).relu() + self.constant


def test_exported_programs() -> None:
    batch = ({0: torch.export.Dim("batch")},)
    one, same, other = (
        torch.export.export(Constant(value), (torch.ones(2, 2),), dynamic_shapes=batch) for value in (1.0, 1.0, 2.0)
    )
    assert weights_hash(one) == weights_hash(same)
    assert weights_hash(one) != weights_hash(other)
    assert transform(one).made_from(same)
    assert not transform(one).made_from(other)


@pytest.mark.parametrize("data", [None, torch.randn(9, 2)], ids=["complete", "visited"])
def test_a_network_knows_what_it_was_made_from(data: torch.Tensor | None, tmp_path: Path) -> None:
    made_of, changed = model(), model()
    shallow = transform(made_of, data=data)
    shallow.save(tmp_path / "network")
    for network in (shallow, copy.deepcopy(shallow), ShallowReLU.load(tmp_path / "network")):
        assert network.source_hash == weights_hash(made_of)
        assert network.made_from(made_of)
        assert network.made_from(changed)
    with torch.no_grad():
        changed[0][0].bias[1] += 1e-6
    assert not shallow.made_from(changed)
    assert not ShallowReLU(transform(model()).partition).made_from(made_of)


def test_what_is_no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(TransformError, match=r"^model: expected an nn.Module .*found dict"):
        transform(model()).made_from({})  # type: ignore[arg-type]
