"""Networks of the benchmarks, each with its domain and the known number of its regions."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import nn

import torch_shallow
from benchmarks.wide import DATA, FILES
from torch_shallow.program.model import read_model

ACAS_XU_FOLDER = Path(__file__).resolve().parents[2] / "shared" / "data" / "acasxu"

WHOLE_SPACE = {
    "3-16-16-1": 5028,
    "4-10-10-1": 7040,
    "6-8-8-1": 12327,
    "10-8-8-1": 12170,
    "20-10-10-1": 140280,
    "5-16-16-1": 249444,
}
BOXES = {"10-10-10-1 on [-1,1]^10": 24954}
ACAS_XU = {"ACAS Xu 1_1 property 3": 71930}
VNN_COMP = {"gcas in 0.3 of its box": 13899, "dubinsrejoin in 0.2 of its box": 30082}


@dataclass(frozen=True)
class Case:
    """A network, its domain, and its number of activation regions there.

    Attributes:
        name: Name in the tables; `load` returns the case for it.
        model: Alternating `nn.Linear` and `nn.ReLU`, last layer linear, float64, in eval mode.
        box: Lower and upper bound of each input; None for all of R^n.
        regions: Number of regions on which independent tools agree; None if unknown.
    """

    name: str
    model: nn.Sequential
    box: Float[np.ndarray, "inputs 2"] | None
    regions: int | None

    @property
    def num_inputs(self) -> int:
        """Dimension of the input."""
        return next(self.layers())[0].shape[1]

    @property
    def domain(self) -> str:
        """The domain in a few letters."""
        return f"{'' if self.box is None else 'box in '}R^{self.num_inputs}"

    def layers(self) -> Iterator[tuple[Float[np.ndarray, "outputs inputs"], Float[np.ndarray, "outputs"]]]:
        """Yield the linear layers.

        Yields:
            Weight and bias of each.
        """
        for layer in self.model:
            if isinstance(layer, nn.Linear):
                yield layer.weight.detach().numpy(), layer.bias.detach().numpy()


def load(name: str, acas_xu: Path = ACAS_XU_FOLDER) -> Case:
    """Return the case of a name: `"3-16-16-1"`, `"10-10-10-1 on [-1,1]^10"` or `"ACAS Xu 1_1 property 3"`.

    Args:
        name: Widths of a random network, on R^n or on a cube about 0, perhaps followed by `", seed 1"`; a network and a
            property of ACAS Xu; or another network of VNN-COMP, as in `"gcas in 0.3 of its box"`, a box of this share
            of the sides about the middle.
        acas_xu: Folder of the ACAS Xu networks (ONNX) and properties (VNN-LIB).

    Raises:
        ValueError: The name has none of these forms.
    """
    if found := re.fullmatch(r"ACAS Xu (\d_\d) property (\d+)", name):
        network, number = found.groups()
        model = read_onnx(acas_xu / f"ACASXU_run2a_{network}_batch_2000.onnx")
        return Case(name, model, read_box(acas_xu / f"prop_{number}.vnnlib"), ACAS_XU.get(name))
    if found := re.fullmatch(rf"({'|'.join(FILES)}) in ([\d.]+) of its box", name):
        network, query = (DATA / "vnncomp" / file for file in FILES[found[1]])
        domain = torch_shallow.read_vnnlib(str(query)).domain
        assert isinstance(domain, torch_shallow.Box)
        sides = np.stack([np.ravel(domain.lower), np.ravel(domain.upper)], axis=1)
        middle = sides.mean(axis=1, keepdims=True)
        return Case(name, read_onnx(network), middle + float(found[2]) * (sides - middle), VNN_COMP.get(name))
    if found := re.fullmatch(r"([\d-]+)(?: on \[-([\d.]+),\2\]\^\d+)?(?:, seed (\d+))?", name):
        widths = tuple(int(width) for width in found[1].split("-"))
        box = None if found[2] is None else np.tile([-float(found[2]), float(found[2])], (widths[0], 1))
        return Case(name, random_mlp(widths, int(found[3] or 0)), box, (WHOLE_SPACE | BOXES).get(name))
    raise ValueError(
        "name: expected widths such as '3-16-16-1', widths and a cube such as '3-16-16-1 on [-1,1]^3', 'ACAS Xu 1_1 "
        f"property 3', or 'gcas in 0.3 of its box', found {name!r}."
    )


def random_mlp(widths: tuple[int, ...], seed: int = 0) -> nn.Sequential:
    """Return a float64 network of these widths, with PyTorch's default initialisation drawn from a seed in float32."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        linears = [nn.Linear(inputs, outputs) for inputs, outputs in pairwise(widths)]
    return _chain(linears)


def read_onnx(path: Path) -> nn.Sequential:
    """Read an ONNX file that is a chain of dense layers and ReLUs on a flat input, in float64.

    Args:
        path: Path of the file.

    Raises:
        ValueError: Some layer reads more than the layer before it.
    """
    program = read_model(torch_shallow.from_onnx(path))
    linears = []
    inputs = program.num_inputs
    for weight, bias in (*((s.weight, s.bias) for s in program.stages), (program.out_weight, program.out_bias)):
        if weight[:, :-inputs].any():
            raise ValueError(f"path: expected a chain of layers, found one that reads several others in {path.name}.")
        linears.append(_linear(weight[:, -inputs:], bias))
        inputs = len(bias)
    return _chain(linears)


def read_box(path: Path) -> Float[np.ndarray, "inputs 2"]:
    """Read the bounds of each input from a VNN-LIB property: its assertions about `X_i` and a number.

    Raises:
        ValueError: Some input has no such bound; the property may be a union of boxes.
    """
    pattern = r"\(assert \((<=|>=) X_(\d+) (-?[\d.]+(?:[eE][-+]?\d+)?)\)\)"
    bounds = re.findall(pattern, path.read_text(encoding="utf-8"))
    box = np.tile([-np.inf, np.inf], (1 + max((int(index) for _, index, _ in bounds), default=0), 1))
    for relation, index, value in bounds:
        box[int(index), 1 if relation == "<=" else 0] = float(value)
    if not np.isfinite(box).all():
        raise ValueError(f"path: expected one assertion for each bound of each input, found none in {path.name}.")
    return box


def _linear(weight: Float[np.ndarray, "outputs inputs"], bias: Float[np.ndarray, "outputs"]) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(weight.copy()))
        layer.bias.copy_(torch.from_numpy(bias.copy()))
    return layer


def _chain(linears: list[nn.Linear]) -> nn.Sequential:
    layers: list[nn.Module] = [part for linear in linears for part in (linear, nn.ReLU())]
    return nn.Sequential(*layers[:-1]).double().eval()
