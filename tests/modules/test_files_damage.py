"""A file that is not what `save` wrote is refused, in words of its own."""

from __future__ import annotations

import copy
import json
import math
import os
import pickle
import struct
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import jaxtyping
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save as to_safetensors
from torch import Tensor, nn

from tests.zoo import chain
from torch_shallow import Box, ShallowReLU, TransformError, transform
from torch_shallow.modules.files import container

Description = dict[str, Any]
Tensors = dict[str, Tensor]
Change = Callable[[Description, Tensors], object]
CLASSIFIER, VISITED = "classifier", "visited"


@cache
def saved(kind: str) -> bytes:
    """A file of a small network, as it should be."""
    torch.manual_seed(0)
    model = nn.Sequential(chain(2, 3, 2), *[nn.Softmax(-1)] * (kind in (CLASSIFIER, VISITED))).double()
    with TemporaryDirectory() as folder:
        path = Path(folder, "network")
        domain = None if kind == "unbounded" else Box(0.0, 1.0)
        transform(model, data=torch.rand(9, 2) if kind == VISITED else None, domain=domain).save(path)
        return path.read_bytes()


def parts(data: bytes) -> tuple[dict[str, Any], bytes]:
    """Header and tensors of a file."""
    (length,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def joined(header: object, data: bytes) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data


def with_header(change: Callable[[dict[str, Any]], object], kind: str = "plain") -> bytes:
    """A file with another header, its digests left as they were."""
    header, data = parts(saved(kind))
    change(header)
    return joined(header, data)


def with_metadata(change: Callable[[dict[str, str]], object]) -> bytes:
    return with_header(lambda header: change(header["__metadata__"]))


def signed(text: str) -> bytes:
    """A file with another description, of the right digest."""
    digest = container._digest(str(container.FORMAT), text)
    return with_metadata(lambda m: m.update({"torch_shallow.network": text, "torch_shallow.sha256": digest}))


def rewritten(change: Change, kind: str = "plain") -> bytes:
    """A file with another network, all digests right."""
    _, description, tensors = copy.deepcopy(container.read(saved(kind)))
    change(description, tensors)
    with TemporaryDirectory() as folder:
        container.write(Path(folder, "network"), description, tensors)
        return Path(folder, "network").read_bytes()


def field(name: str, value: object, kind: str = "plain") -> bytes:
    return rewritten(lambda description, _: description.update({name: value}), kind)


def tensor(name: str, change: Callable[[Tensor], object]) -> bytes:
    """A file in which a tensor was changed in place, or replaced by what `change` gives."""

    def apply(_: Description, tensors: Tensors) -> None:
        changed = change(tensors[name])
        tensors[name] = changed if isinstance(changed, Tensor) else tensors[name]

    return rewritten(apply)


def child(cut: int, side: int, value: int) -> bytes:
    def change(children: Tensor) -> None:
        children[cut, side] = value

    return tensor("tree.children", change)


def regions_of(kind: str) -> int:
    return int(container.read(saved(kind))[1]["num_regions"])


def as_if_unexplored(cells: int) -> Change:
    """The last regions are called open cells, and are in no array but the tree."""

    def change(description: Description, tensors: Tensors) -> None:
        count = description["num_regions"] - cells
        description.update(num_regions=count, open_cells=cells, complete=False)
        for name in ("tree.points", "tree.packed_patterns", "selection.weights", "selection.biases"):
            tensors[name] = tensors[name][:count].clone()

    return change


def an_open_cell_in_place_of_a_cut(description: Description, tensors: Tensors) -> None:
    as_if_unexplored(1)(description, tensors)
    children, count = tensors["tree.children"], description["num_regions"]
    children[children == 1] = ~count


def only_open_cells_below_the_last_cut(description: Description, tensors: Tensors) -> None:
    """The other regions and open cells change places, so that all else is as it should be."""
    children = tensors["tree.children"]
    last = [int(child) for child in children[-1]]
    assert max(last) < 0
    count = description["num_regions"]
    for child, other in zip(last, (~(count - 1), ~(count - 2)), strict=True):
        children.copy_(torch.where(children == child, other, torch.where(children == other, child, children)))
    as_if_unexplored(2)(description, tensors)
    children.clamp_(min=~(count - 2))


def a_cut_below_itself(_: Description, tensors: Tensors) -> None:
    """Two children change places, so that each has one place still."""
    children = tensors["tree.children"]
    children[children == 1] = children[1, 0]
    children[1, 0] = 1


def node(part: str, number: int, value: object, kind: str) -> bytes:
    return rewritten(lambda description, _: description[part]["nodes"].__setitem__(number, value), kind)


def with_tensor(name: str) -> bytes:
    """A file whose head adds a tensor of this name."""

    def change(description: Description, tensors: Tensors) -> None:
        head = description["head"]
        head["nodes"] += [["tensor", name], ["aten.add.Tensor", [{"node": 1}, {"node": 2}], {}]]
        head.update(output=3, tensors={name: ["float64", [2]]}, persistent=[name])
        tensors[f"head.{name}"] = torch.zeros(2, dtype=torch.float64)

    return rewritten(change, CLASSIFIER)


def torch_saved(legacy: bool) -> bytes:
    with TemporaryDirectory() as folder:
        torch.save({"a": torch.ones(2)}, Path(folder, "a"), _use_new_zipfile_serialization=not legacy)
        return Path(folder, "a").read_bytes()


def flipped(data: bytes, place: int, mask: int) -> bytes:
    return data[:place] + bytes([data[place] ^ mask]) + data[place + 1 :]


def replaced(value: float) -> Callable[[Tensor], None]:
    """The first number becomes another one."""

    def change(tensor: Tensor) -> None:
        tensor.view(-1)[0] = value

    return change


DAMAGES: dict[str, Callable[[], bytes]] = {
    # The file.
    "empty": lambda: b"",
    "shorter than 8 bytes": lambda: saved("plain")[:5],
    "cut in the header": lambda: saved("plain")[:100],
    "cut in the tensors": lambda: saved("plain")[:-9],
    "trailing bytes": lambda: saved("plain") + b"x",
    "zip of torch.save": lambda: torch_saved(legacy=False),
    "pickle of torch.save": lambda: torch_saved(legacy=True),
    "image": lambda: b"\x89PNG\r\n\x1a\n" + bytes(100),
    "text": lambda: b"import os; os.abort()",
    # The header.
    "header not UTF-8": lambda: flipped(saved("plain"), 12, 0x80),
    "header not JSON": lambda: joined(b'{"__metadata__"}', b""),
    "header with blanks": lambda: joined(json.dumps(parts(saved("plain"))[0]).encode(), parts(saved("plain"))[1]),
    "table that does not fit": lambda: with_header(lambda h: h["tree.points"].update(shape=[1])),
    "table without places": lambda: with_header(lambda h: h["tree.points"].pop("data_offsets")),
    "no metadata": lambda: to_safetensors({"a": torch.ones(2)}),
    "no format": lambda: with_metadata(lambda m: m.pop("torch_shallow.format")),
    "format not a number": lambda: with_metadata(lambda m: m.update({"torch_shallow.format": "one"})),
    "newer format": lambda: with_metadata(lambda m: m.update({"torch_shallow.format": str(container.FORMAT + 1)})),
    "format zero": lambda: with_metadata(lambda m: m.update({"torch_shallow.format": "0"})),
    "no digest": lambda: with_metadata(lambda m: m.pop("torch_shallow.sha256")),
    "altered description": lambda: with_metadata(
        lambda m: m.update({"torch_shallow.network": m["torch_shallow.network"].replace("true", "false")})
    ),
    # The description.
    "description not JSON": lambda: signed('{"version": '),
    "description without names": lambda: signed("[]"),
    "field missing": lambda: rewritten(lambda description, _: description.pop("chart")),
    "field unknown": lambda: field("more", 1),
    "field of another type": lambda: field("num_regions", "7"),
    "unknown kind": lambda: field("kind", "deep"),
    "unknown domain": lambda: field("domain", "ball"),
    "not complete": lambda: field("complete", False),
    "stages without names": lambda: field("stages", []),
    # The tensors.
    "altered tensor": lambda: flipped(saved("plain"), len(saved("plain")) - 3, 1),
    "tensor missing": lambda: rewritten(lambda _, tensors: tensors.pop("chart.inner")),
    "tensor too many": lambda: rewritten(lambda _, tensors: tensors.update(more=torch.ones(1))),
    "another dtype": lambda: tensor("tree.points", Tensor.float),
    "another shape": lambda: tensor("tree.points", lambda points: points[:-1].clone()),
    "child out of range": lambda: child(0, 0, 99),
    "root below a cut": lambda: child(1, 0, 0),
    "cycle": lambda: rewritten(a_cut_below_itself),
    "region met twice": lambda: child(-1, 0, -1),
    "open cell in a complete tree": lambda: child(-1, 0, ~regions_of("plain")),
    "complete with open cells": lambda: field("open_cells", 1),
    "no region": lambda: rewritten(as_if_unexplored(regions_of("plain"))),
    "cut above no region": lambda: rewritten(only_open_cells_below_the_last_cut),
    "cut that no other leads to": lambda: rewritten(an_open_cell_in_place_of_a_cut),
    "half-space of NaN": lambda: tensor("half_spaces.offsets", replaced(math.nan)),
    "half-space out of range": lambda: tensor("tree.half_spaces", replaced(99)),
    "half-space before the first": lambda: tensor("tree.half_spaces", replaced(-1)),
    "infinite interior point": lambda: tensor("tree.points", replaced(math.inf)),
    "neuron out of range": lambda: tensor("tree.cut_neurons", replaced(99)),
    "empty box": lambda: tensor("domain.lower", replaced(5.0)),
    "bounds of another domain": lambda: rewritten(lambda description, _: description.update(domain="polytope")),
    # Graphs.
    "operation with effects": lambda: node("head", 1, ["aten.resize_.default", [{"node": 0}, [1]], {}], CLASSIFIER),
    "function of Python": lambda: node("head", 1, ["os.system", ["true"], {}], CLASSIFIER),
    "later node": lambda: node("head", 1, ["aten.exp.default", [{"node": 1}], {}], CLASSIFIER),
    "node without arguments": lambda: node("head", 1, ["aten.exp.default"], CLASSIFIER),
    "argument of no name": lambda: node("head", 1, ["aten.exp.default", [{"node": 0}], {"other": 1}], CLASSIFIER),
    "tensor with a quote in its name": lambda: with_tensor('a"b'),
    "tensor of no name": lambda: node("head", 1, ["tensor", "none"], CLASSIFIER),
    "graph without output": lambda: rewritten(lambda description, _: description["head"].update(output=9), CLASSIFIER),
    "graph without nodes": lambda: rewritten(lambda description, _: description["head"].pop("nodes"), CLASSIFIER),
    "graph of no lists": lambda: rewritten(lambda description, _: description["head"].update(nodes=3), CLASSIFIER),
    "graph that fails": lambda: node("head", 1, ["aten.exp.default", [], {}], CLASSIFIER),
    "another output": lambda: node("head", 1, ["aten.unsqueeze.default", [{"node": 0}, 1], {}], CLASSIFIER),
    "no deep network": lambda: field("trunk", None, VISITED),
    "another deep network": lambda: rewritten(lambda _, tensors: tensors["neurons.root.0.0.bias"].sub_(3.0), VISITED),
    "deep network of others": lambda: field("neurons", [2, 1], VISITED),
    "deep network of more stages": lambda: rewritten(
        lambda description, _: description.update(neurons=[2, 1], stages=["a", "b"]), VISITED
    ),
    "deep network of curves": lambda: rewritten(
        lambda description, _: (
            description["trunk"]["nodes"].append(["aten.exp.default", [{"node": description["trunk"]["output"]}], {}])
            or description["trunk"].update(output=len(description["trunk"]["nodes"]) - 1)
        ),
        VISITED,
    ),
}


def refusal(path: object) -> str:
    """What is said of a path, without it."""
    with pytest.raises(TransformError) as caught:
        ShallowReLU.load(path)  # type: ignore[arg-type]
    message = str(caught.value)
    assert message.startswith("path: ")
    assert "expected" in message
    assert "found" in message
    assert message.count(";") >= 1  # and what to do
    last = caught.tb
    while last.tb_next is not None:
        last = last.tb_next
    assert "torch_shallow" in last.tb_frame.f_code.co_filename
    assert "site-packages" not in last.tb_frame.f_code.co_filename
    return message.replace(str(path), "")


def damaged(folder: Path, name: str) -> str:
    path = folder / "network"
    path.write_bytes(DAMAGES[name]())
    message = refusal(path)
    assert str(path) not in message
    return message


@pytest.mark.parametrize("name", DAMAGES)
def test_damaged_files_are_refused(name: str, tmp_path: Path) -> None:
    assert damaged(tmp_path, name)


def test_each_damage_has_a_message_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    messages = {name: damaged(tmp_path, name) for name in DAMAGES}
    messages["no file"] = refusal(tmp_path / "none")
    messages["folder"] = refusal(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    messages["pipe"] = refusal(tmp_path / "pipe")
    messages["no path"] = refusal(3)
    assert len(set(messages.values())) == len(messages) > 50


@pytest.mark.parametrize("wrong", [3, None, "", b"network", "a\0b"], ids=str)
def test_what_is_no_path(monkeypatch: pytest.MonkeyPatch, wrong: object) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    assert "expected a path as text" in refusal(wrong)


def test_a_file_that_may_not_be_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def forbidden(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    path = tmp_path / "network"
    path.write_bytes(saved("plain"))
    monkeypatch.setattr(Path, "read_bytes", forbidden)
    assert "cannot be read (Permission denied)" in refusal(path)


@given(st.data())
def test_no_byte_can_change_unnoticed(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(["plain", CLASSIFIER, VISITED]))
    place, mask = data.draw(st.integers(0, len(saved(kind)) - 1)), data.draw(st.integers(1, 255))
    with TemporaryDirectory() as folder:
        path = Path(folder, "network")
        path.write_bytes(flipped(saved(kind), place, mask))
        refusal(path)


FORMS: dict[str, Callable[[dict[str, Any]], object]] = {
    "key too many": lambda header: header["tree.points"].update(more=1),
    "keys in another order": lambda header: header.update({"tree.points": dict(sorted(header["tree.points"].items()))}),
    "tensors in another order": lambda header: header.update({"tree.points": header.pop("tree.points")}),
    "empty tensor at another place": lambda header: header["chart.inequalities"].update(data_offsets=[0, 0]),
}


@pytest.mark.parametrize("name", FORMS)
def test_a_header_has_one_form(name: str, tmp_path: Path) -> None:
    """Even where another form says the same, or more that nobody would read."""
    path = tmp_path / "network"
    path.write_bytes(with_header(FORMS[name], "unbounded"))
    assert "found another form, so the file was altered" in refusal(path)


@pytest.mark.parametrize("blanks", [1, 7, 8, 16])
def test_blanks_behind_a_header_fill_eight_bytes(blanks: int, tmp_path: Path) -> None:
    (length,) = struct.unpack("<Q", saved("plain")[:8])
    text, path = saved("plain")[8 : 8 + length] + b" " * blanks, tmp_path / "network"
    path.write_bytes(struct.pack("<Q", len(text)) + text + saved("plain")[8 + length :])
    assert "found another form, so the file was altered" in refusal(path)


@given(st.data())
def test_no_part_of_a_file_is_one(data: st.DataObject) -> None:
    length = data.draw(st.integers(0, len(saved(VISITED)) - 1))
    with TemporaryDirectory() as folder:
        path = Path(folder, "network")
        path.write_bytes(saved(VISITED)[:length])
        refusal(path)


def test_nothing_in_a_file_is_executed(tmp_path: Path) -> None:
    class Harm:
        def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
            return os.mkdir, (str(tmp_path / "harm"),)

    path = tmp_path / "network"
    path.write_bytes(pickle.dumps(Harm(), protocol=2))
    assert "a pickle, which could execute any code and is not read" in refusal(path)
    for name in ("os.mkdir", "aten.mkdir.default", "operator.methodcaller", "builtins.eval", "aten.__class__.default"):
        path.write_bytes(node("head", 1, [name, [str(tmp_path / "harm")], {}], CLASSIFIER))
        assert f"{name!r}, which is not allowed" in refusal(path)
    # torch.fx makes code of graphs, with these names in it.
    harm = f"from os import mkdir\nmkdir({str(tmp_path / 'harm')!r})\ndef g(*self):\n    return"
    path.write_bytes(with_tensor(f'a", 0)\n{harm} getattr(0, "b'))
    assert "printable names without quotes" in refusal(path)
    path.write_bytes(node("head", 1, ["aten.exp.default", [{"node": 0}], {f"x=0)\n{harm} dict(a": 1}], CLASSIFIER))
    assert "expected arguments of aten.exp.default" in refusal(path)
    assert not (tmp_path / "harm").exists()
