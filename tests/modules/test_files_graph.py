"""Graphs in files: only allowed operations, and the same function."""

from __future__ import annotations

import json
import operator
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from torch_shallow.modules.files.container import Damaged
from torch_shallow.modules.files.description import WrittenGraph, read_record
from torch_shallow.modules.files.graph_code import NotWritable, encode, function_of, module_of, name_of, operation


class Code(nn.Module):
    def __init__(self, way: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.way = way

    def forward(self, y: Tensor) -> Tensor:
        return self.way(y)


HEADS: dict[str, Callable[[Tensor], Tensor]] = {
    "infinities": lambda y: torch.where(y > 0.0, y.exp(), -torch.inf).nan_to_num(neginf=7.0),
    "sizes": lambda y: y.exp().reshape(2 * y.shape[0], -1).reshape(y.shape[0], -1) / y.shape[0],
    "a device": lambda y: y.sin() + torch.arange(6, device=y.device) + torch.zeros(6, device=y.device),
    "a literal": lambda y: y.cos() * torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]),
    "several results": lambda y: y.sigmoid().topk(2)[0] + y.var(-1, keepdim=True),
    "lower precision": lambda y: torch.softmax(y, -1, dtype=torch.float32),
    "whole numbers": lambda y: y.argsort(-1),
    "truth values": lambda y: y.exp().max(-1).values > 1.0,
    "attention": lambda y: functional.scaled_dot_product_attention(y[:, None], y[:, None], y[:, None]),
    "a norm": lambda y: functional.normalize(y, dim=-1),
    "nothing": lambda y: y,
}


@pytest.mark.parametrize("name", HEADS)
def test_a_graph_is_its_module(name: str) -> None:
    module = Code(HEADS[name])
    written, tensors = encode(module, (6,), "head")
    text = json.dumps(vars(written), allow_nan=False)
    read = read_record(WrittenGraph, json.loads(text))
    again = module_of(read, tensors)
    for rows in (1, 2, 7):
        y = torch.randn(rows, 6, dtype=torch.float64)
        found, expected = again(y), module(y)
        assert found.shape == expected.shape
        assert torch.allclose(found.double(), expected.double(), rtol=1e-6, atol=1e-6)


def test_tied_unused_and_frozen_tensors_stay_so() -> None:
    first, second = nn.Linear(3, 3), nn.Linear(3, 3).requires_grad_(False)
    second.bias = first.bias
    module = nn.Sequential(first, nn.Tanh(), second, nn.BatchNorm1d(3)).double().eval()
    module.register_buffer("passing", torch.ones(1), persistent=False)
    written, tensors = encode(module, (3,), "head")
    again = module_of(written, tensors)
    assert again.state_dict().keys() == module.state_dict().keys()
    assert again.get_parameter("0.bias") is again.get_parameter("2.bias")
    assert "2.bias" not in tensors
    for name, parameter in module.named_parameters():
        assert again.get_parameter(name).requires_grad == parameter.requires_grad
        assert torch.equal(again.get_parameter(name), parameter)
    assert torch.equal(again.passing, module.passing)


def test_a_choice_by_the_size_of_the_batch_cannot_be_written() -> None:
    for way in (lambda y: y.exp() if y.shape[0] > 3 else y.sin(), lambda y: y.exp() if y.shape[0] > 1 else y.sin()):
        with pytest.raises(NotWritable):
            encode(Code(way), (2,), "head")


def test_operations_are_functions_of_their_arguments() -> None:
    allowed = {"aten.exp.default", "aten.addmm.default", "aten.sym_size.int", "operator.mul", "operator.getitem"}
    for name in allowed:
        function = operation(name)
        assert function is not None
        assert name_of(function) == name
    refused = [
        *("aten.resize_.default", "aten.exp_.default", "aten.exp.out", "aten.rand.default", "aten.bernoulli.default"),
        *("aten.empty.memory_format", "aten.as_strided.default", "aten.linalg_inv_ex.default", "aten.exp", "aten..exp"),
        *("aten.__class__.default", "aten.__dict__.update", "aten.exp.default.__class__", "aten.name.upper", "aten"),
        *(
            "torch.load",
            "os.system",
            "operator.call",
            "operator.attrgetter",
            "builtins.getattr",
            "prims.exp.default",
            "",
        ),
    ]
    assert [name for name in refused if operation(name) is not None] == []
    assert [name_of(target) for target in (operator.attrgetter, getattr, torch.ops.aten.exp_.default, "exp")] == [
        None
    ] * 4


def test_every_allowed_operation_is_pure() -> None:
    names = {
        f"aten.{schema.name.removeprefix('aten::')}.{schema.overload_name or 'default'}": schema
        for schema in torch._C._jit_get_all_schemas()
        if schema.name.startswith("aten::")
    }
    allowed = {name: schema for name, schema in names.items() if operation(name) is not None}
    assert len(allowed) > 150
    for name, schema in allowed.items():
        assert not schema.is_mutable, name
        assert not any(argument.type.kind() == "GeneratorType" for argument in schema.arguments), name


@pytest.mark.parametrize(
    "argument",
    [
        {"node": 2},
        {"node": -1},
        {"node": True},
        {"dtype": "load"},
        {"dtype": "os"},
        {"float": "1"},
        {"a": 1, "b": 2},
        {},
    ],
    ids=str,
)
def test_arguments_that_are_none(argument: object) -> None:
    written = WrittenGraph([["input"], ["aten.exp.default", [argument], {}]], 1, {}, {}, [])
    with pytest.raises(Damaged):
        function_of(written)
